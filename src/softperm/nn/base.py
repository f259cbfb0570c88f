"""What all Sinkhorn networks share: from the rows of `log_alpha` to ordered items."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from softperm._checks import (
    as_sample_shape,
    require_noise_scale,
    require_positive_float,
    require_positive_int,
)
from softperm._typing import SampleShape
from softperm.ops import gumbel_sinkhorn, matching
from softperm.permutations import apply_permutation


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

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Source: Mena et al., ICLR 2018, section 4 and Fig. 1.

    Example:
        >>> class Ranker(SinkhornNet):
        ...     def log_alpha(self, items):
        ...         return -(items.unsqueeze(-1) - torch.arange(3.0)).square()
        >>> Ranker().eval()(torch.tensor([2.1, 0.2, 0.9]))
        (tensor([0.2000, 0.9000, 2.1000]), tensor([2, 0, 1]))
    """

    def __init__(self, tau: float = 1.0, n_iters: int = 20, noise_scale: float = 1.0) -> None:
        super().__init__()
        self.tau = require_positive_float(tau, "tau")
        self.n_iters = require_positive_int(n_iters, "n_iters")
        self.noise_scale = require_noise_scale(noise_scale)

    def log_alpha(self, items: Tensor) -> Tensor:
        r"""The scores of every item at every position, shape (\*, n, n)."""
        raise NotImplementedError(f"{type(self).__name__} must define log_alpha(items)")

    def forward(
        self,
        items: Tensor,
        sample_shape: SampleShape = (),
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        r"""Order the items.

        Arguments:
            items: Items, shape (\*, n, ...).
            sample_shape: Training mode only: Gumbel-Sinkhorn samples to draw for every list.
            generator: Training mode only: source of the noise.

        Returns:
            In training mode the softly ordered items, shape sample_shape + (\*, n, ...), and the
            soft matrices, sample_shape + (\*, n, n); in evaluation mode the ordered items,
            (\*, n, ...), and the indices of the permutation, int64, (\*, n).
        """
        log_alpha = self.log_alpha(items)
        if not self.training:
            perm = matching(log_alpha)
            return apply_permutation(perm, items), perm
        P = gumbel_sinkhorn(
            log_alpha,
            self.tau,
            self.n_iters,
            noise_scale=self.noise_scale,
            sample_shape=sample_shape,
            generator=generator,
        )
        samples = items.expand(as_sample_shape(sample_shape) + items.shape)
        return apply_permutation(P, samples), P

    def extra_repr(self) -> str:
        """The settings, as `print(net)` shows them."""
        return f"tau={self.tau}, n_iters={self.n_iters}, noise_scale={self.noise_scale}"
