"""What all Sinkhorn networks share: from the rows of `log_alpha` to ordered items."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from softperm._checks import (
    as_sample_shape,
    require_float_matrix,
    require_noise_scale,
    require_positive_float,
    require_positive_int,
    shape_of,
)
from softperm._typing import SampleShape
from softperm.distributions import GumbelSinkhorn
from softperm.ops import gumbel_sinkhorn, matching
from softperm.ops._options import Backend, Grad, check_grad, check_tol
from softperm.permutations import apply_permutation, permutation_matrix


class Ordering(NamedTuple):
    r"""The result of a `SinkhornNet`: ordered items, and the permutation that orders them.

    In training both are soft, in evaluation both are hard. Two names mean the same in
    both: `matrix` and `indices`.

    Arguments:
        items: The ordered items, shape (\*, n, ...).
        permutation: In training soft matrices, floating, shape (\*, n, n); in evaluation indices,
            int64, shape (\*, n).

    Example:
        >>> hard = Ordering(torch.tensor([0.1, 0.3]), torch.tensor([1, 0]))
        >>> hard.matrix
        tensor([[0., 1.],
                [1., 0.]])
        >>> Ordering(torch.tensor([0.1, 0.3]), hard.matrix).indices
        tensor([1, 0])
    """

    items: Tensor
    permutation: Tensor

    @property
    def matrix(self) -> Tensor:
        r"""The permutation as matrices, shape (\*, n, n): soft in training."""
        if self.permutation.is_floating_point():
            return self.permutation
        return permutation_matrix(self.permutation)

    @property
    def indices(self) -> Tensor:
        r"""The permutation as indices, shape (\*, n): in training the most likely one."""
        if not self.permutation.is_floating_point():
            return self.permutation
        soft = self.permutation.detach()
        return matching(soft.clamp_min(torch.finfo(soft.dtype).tiny).log())


class SinkhornNet(nn.Module):
    r"""Order items by a score for every item and position.

    .. math:: \log\alpha = g(x), \qquad
        P = S((\log\alpha + s\,\varepsilon) / \tau) \text{ in training}, \quad
        P = M(\log\alpha) \text{ in evaluation}, \qquad y = P^\top x

    A subclass gives the scores: ``log_alpha(items)``, shape (\*, n, n).

    Arguments:
        tau: Temperature, a positive float.
        n_iters: Number of Sinkhorn iterations.
        noise_scale: Scale s of the Gumbel noise in training.
        tol: As in `sinkhorn`.
        backend: As in `sinkhorn`.
        grad: As in `sinkhorn`.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Source: Mena et al., ICLR 2018, section 4 and Fig. 1.

    Example:
        >>> class Ranker(SinkhornNet):
        ...     def log_alpha(self, items):
        ...         return -(items.unsqueeze(-1) - torch.arange(3.0)).square()
        >>> Ranker().eval()(torch.tensor([2.1, 0.2, 0.9]))
        Ordering(items=tensor([0.2000, 0.9000, 2.1000]), permutation=tensor([2, 0, 1]))
    """

    def __init__(
        self,
        tau: float = 1.0,
        n_iters: int = 20,
        noise_scale: float = 1.0,
        *,
        tol: float | None = None,
        backend: Backend = "auto",
        grad: Grad = "unrolled",
    ) -> None:
        super().__init__()
        check_tol(tol)
        check_grad(grad)
        self.tol = tol
        self.backend = backend
        self.grad = grad
        self.tau = require_positive_float(tau, "tau")
        self.n_iters = require_positive_int(n_iters, "n_iters")
        self.noise_scale = require_noise_scale(noise_scale)

    def log_alpha(self, items: Tensor) -> Tensor:
        r"""Score every item at every position, shape (\*, n, n)."""
        raise NotImplementedError(f"{type(self).__name__} must define log_alpha(items)")

    def distribution(self, items: Tensor) -> GumbelSinkhorn:
        r"""Give the distribution over permutations of the items that training draws from."""
        return GumbelSinkhorn(
            self.log_alpha(items),
            self.tau,
            self.n_iters,
            self.noise_scale,
            tol=self.tol,
            backend=self.backend,
            grad=self.grad,
        )

    def soften(
        self,
        log_alpha: Tensor,
        sample_shape: SampleShape = (),
        generator: torch.Generator | None = None,
        *,
        noise: Tensor | None = None,
    ) -> Tensor:
        r"""Draw the soft matrices of training.

        .. math:: P = S((\log\alpha + s\,\varepsilon) / \tau)

        Arguments:
            log_alpha: Scores, floating, shape (\*, n, n).
            sample_shape: Samples to draw of every matrix.
            generator: Source of the noise.
            noise: Standard Gumbel noise in the place of that drawn, floating, shape sample_shape +
                (\*, n, n); `generator` is not used then. With it, processes that share a batch can
                draw the noise of all of it.

        Returns:
            Samples, shape sample_shape + (\*, n, n).

        Raises:
            TypeError: `noise` is not a floating tensor.
            ValueError: `noise` has another shape.

        Source: Mena et al., ICLR 2018, section 3.2 (Gumbel-Sinkhorn distribution).

        Example:
            >>> SinkhornNet(tau=2.0).soften(torch.zeros(2, 2), noise=torch.zeros(2, 2))
            tensor([[0.5000, 0.5000],
                    [0.5000, 0.5000]])
        """
        scale = self.noise_scale
        if noise is not None:
            shape = as_sample_shape(sample_shape) + log_alpha.shape
            require_float_matrix(noise, "noise")
            if noise.shape != shape:
                raise ValueError(f"noise must have shape {tuple(shape)}, got {shape_of(noise)}")
            log_alpha, sample_shape, scale = log_alpha + scale * noise, (), 0.0
        return gumbel_sinkhorn(
            log_alpha,
            self.tau,
            self.n_iters,
            noise_scale=scale,
            sample_shape=sample_shape,
            generator=generator,
            tol=self.tol,
            backend=self.backend,
            grad=self.grad,
        )

    def forward(
        self,
        items: Tensor,
        sample_shape: SampleShape = (),
        generator: torch.Generator | None = None,
        *,
        noise: Tensor | None = None,
    ) -> Ordering:
        r"""Order the items: softly and with noise in training, hard and without in evaluation.

        ``ordered, permutation = net(items)`` unpacks the result; see `Ordering`.

        Arguments:
            items: Items, shape (\*, n, ...).
            sample_shape: Training mode only: Gumbel-Sinkhorn samples to draw for every list.
            generator: Training mode only: source of the noise.
            noise: Training mode only: noise in the place of that drawn, as in `soften`.

        Returns:
            In training mode the softly ordered items, shape sample_shape + (\*, n, ...), and the
            soft matrices, sample_shape + (\*, n, n); in evaluation mode the ordered items,
            (\*, n, ...), and the indices of the permutation, int64, (\*, n).

        Raises:
            TypeError, ValueError: `noise` is not as in `soften`.
        """
        if not self.training:
            perm = matching(self.log_alpha(items))
            return Ordering(apply_permutation(perm, items), perm)
        P = self.soften(self.log_alpha(items), sample_shape, generator, noise=noise)
        samples = items.expand(as_sample_shape(sample_shape) + items.shape)
        return Ordering(apply_permutation(P, samples), P)

    def extra_repr(self) -> str:
        """The settings, as `print(net)` shows them."""
        return f"tau={self.tau}, n_iters={self.n_iters}, noise_scale={self.noise_scale}"
