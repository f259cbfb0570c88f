"""Distributions over permutations, as `torch.distributions.Distribution` subclasses."""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from softperm._checks import (
    require_log_alpha,
    require_noise_scale,
    require_positive_int,
)
from softperm._constraints import (
    ColumnStochastic,
    DoublyStochastic,
    LogAlpha,
    column_stochastic,
    doubly_stochastic,
    permutation,
)
from softperm._typing import SampleShape
from softperm.kernels.reference import working_dtype
from softperm.ops import gumbel_matching, gumbel_sinkhorn, matching, sinkhorn
from softperm.ops._options import check_tau
from softperm.permutations import permutation_matrix

__all__ = [
    "DoublyStochastic",
    "GumbelMatching",
    "GumbelSinkhorn",
    "column_stochastic",
    "doubly_stochastic",
    "permutation",
]

_LARGEST_NOISE = 37.0  # of Gumbel noise made of float64 numbers on (0, 1)


class _Perturbed(Distribution):
    """A function of scores and Gumbel noise, of which nothing has a closed form."""

    def _refuse(self, what: str, instead: str) -> NoReturn:
        raise NotImplementedError(
            f"{type(self).__name__} has no closed form of its {what}: it is an integral over all "
            f"noise that leads to the same matrix. {instead}"
        )

    def log_prob(self, value: Tensor) -> Tensor:
        """Not known in closed form.

        Raises:
            NotImplementedError: always; it says what to use instead.
        """
        self._refuse(
            "probability",
            "Use that of the perturbed scores, torch.distributions.Gumbel(log_alpha, noise_scale)",
        )

    def entropy(self) -> Tensor:
        """Not known in closed form.

        Raises:
            NotImplementedError: always; it says what to use instead.
        """
        self._refuse(
            "entropy",
            "To keep samples diverse, use that of the matrix of GumbelSinkhorn without noise, "
            "torch.special.entr(d.noiseless).sum((-2, -1))",
        )

    @property
    def mean(self) -> Tensor:
        """Not known in closed form; averages of samples approach it.

        Raises:
            NotImplementedError: always.
        """
        self._refuse("mean", "Use the average of samples, d.sample((1000,)).mean(0)")

    @property
    def mode(self) -> Tensor:
        """Not known: nobody has shown that the matrix without noise is the most probable one.

        Raises:
            NotImplementedError: always; it says what to use instead.
        """
        self._refuse("mode", "Use d.noiseless, the sample without noise")


class GumbelSinkhorn(_Perturbed):
    r"""Nearly doubly stochastic matrices: a differentiable relaxation of `GumbelMatching`.

    .. math:: S((X + s\,\varepsilon) / \tau), \quad \varepsilon_{ij} \text{ i.i.d. Gumbel}

    It has no closed-form density, mean, mode or entropy: `log_prob`, `mean`, `mode` and `entropy`
    raise `NotImplementedError`.

    Arguments:
        log_alpha: Scores X, any floating dtype, shape (\*, n, n).
        tau: Temperature: a positive float, or a tensor that broadcasts against the batch
            dimensions.
        n_iters: Number of Sinkhorn iterations.
        noise_scale: Scale s of the noise.
        validate_args: As in `torch.distributions`.

    Raises:
        TypeError, ValueError: as `gumbel_sinkhorn`.

    Source: Mena et al., ICLR 2018, section 3.2.

    Example:
        >>> d = GumbelSinkhorn(torch.zeros(5, 3, 3), tau=0.5)
        >>> d.batch_shape, d.event_shape
        (torch.Size([5]), torch.Size([3, 3]))
        >>> d.rsample((2,)).shape
        torch.Size([2, 5, 3, 3])
    """

    arg_constraints = {"log_alpha": LogAlpha(), "tau": constraints.positive}
    has_rsample = True

    def __init__(
        self,
        log_alpha: Tensor,
        tau: float | Tensor = 1.0,
        n_iters: int = 20,
        noise_scale: float = 1.0,
        *,
        validate_args: bool | None = None,
    ) -> None:
        require_log_alpha(log_alpha)
        check_tau(tau, log_alpha.shape[:-2])
        n_iters = require_positive_int(n_iters, "n_iters")
        noise_scale = require_noise_scale(noise_scale)
        if not isinstance(tau, Tensor):
            tau = log_alpha.new_tensor(tau, dtype=working_dtype(log_alpha))
        batch_shape = torch.broadcast_shapes(log_alpha.shape[:-2], tau.shape)
        self.log_alpha = log_alpha.expand(batch_shape + log_alpha.shape[-2:])
        self.tau = tau.expand(batch_shape)
        self.n_iters = n_iters
        self.noise_scale = noise_scale
        super().__init__(batch_shape, log_alpha.shape[-2:], validate_args=validate_args)

    @property
    def support(self) -> constraints.Constraint:
        """Matrices of entries at least 0 whose columns sum to 1, in the rounding of their dtype.

        Rows sum to n in all, and each to 1 only in the limit of many iterations. For n of 3 and
        more no number of them keeps all rows of all samples within any distance of 1, because the
        noise is unbounded: check samples with `DoublyStochastic(atol)`, at the distance you need.
        """
        scores = self.log_alpha.detach()
        if scores.numel() == 0:
            return column_stochastic
        largest = scores.masked_fill(scores.isneginf(), 0).abs().amax((-2, -1))
        largest = largest.to(working_dtype(scores)) + _LARGEST_NOISE * self.noise_scale
        return ColumnStochastic(largest / self.tau.detach())

    @property
    def noiseless(self) -> Tensor:
        """The sample without noise, S(X / tau), shape batch_shape + (n, n); differentiable."""
        return sinkhorn(self.log_alpha, self.tau, self.n_iters)

    def rsample(
        self, sample_shape: SampleShape = (), *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Differentiable samples, shape sample_shape + batch_shape + (n, n)."""
        return gumbel_sinkhorn(
            self.log_alpha,
            self.tau,
            self.n_iters,
            noise_scale=self.noise_scale,
            sample_shape=sample_shape,
            generator=generator,
        )

    def sample(
        self, sample_shape: SampleShape = (), *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Samples without a gradient, shape sample_shape + batch_shape + (n, n)."""
        with torch.no_grad():
            return self.rsample(sample_shape, generator=generator)

    def expand(self, batch_shape: Any, _instance: Any = None) -> GumbelSinkhorn:
        """The same distribution with its batch dimensions expanded to `batch_shape`."""
        new: GumbelSinkhorn = self._get_checked_instance(GumbelSinkhorn, _instance)  # type: ignore[no-untyped-call]
        batch_shape = torch.Size(batch_shape)
        new.log_alpha = self.log_alpha.expand(batch_shape + self.event_shape)
        new.tau = self.tau.expand(batch_shape)
        new.n_iters = self.n_iters
        new.noise_scale = self.noise_scale
        super(GumbelSinkhorn, new).__init__(batch_shape, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new


class GumbelMatching(_Perturbed):
    r"""Permutation matrices: the matching of scores perturbed by Gumbel noise.

    .. math:: M(X + s\,\varepsilon), \quad \varepsilon_{ij} \text{ i.i.d. Gumbel}

    Its probabilities have no closed form: `log_prob`, `mean`, `mode` and `entropy` raise
    `NotImplementedError`.

    Arguments:
        log_alpha: Scores X, any floating dtype, shape (\*, n, n).
        noise_scale: Scale s of the noise.
        validate_args: As in `torch.distributions`.

    Raises:
        TypeError, ValueError: as `gumbel_matching`; where -inf entries forbid every permutation,
            when sampled.

    Source: Mena et al., ICLR 2018, section 3.1.

    Example:
        >>> d = GumbelMatching(torch.tensor([[9.0, 0.0], [0.0, 9.0]]))
        >>> d.noiseless
        tensor([[1., 0.],
                [0., 1.]])
        >>> d.sample((4,)).shape
        torch.Size([4, 2, 2])
    """

    arg_constraints = {"log_alpha": LogAlpha()}

    def __init__(
        self,
        log_alpha: Tensor,
        noise_scale: float = 1.0,
        *,
        validate_args: bool | None = None,
    ) -> None:
        require_log_alpha(log_alpha)
        noise_scale = require_noise_scale(noise_scale)
        self.log_alpha = log_alpha
        self.noise_scale = noise_scale
        super().__init__(log_alpha.shape[:-2], log_alpha.shape[-2:], validate_args=validate_args)

    @property
    def support(self) -> constraints.Constraint:
        """Permutation matrices."""
        return permutation

    @property
    def noiseless(self) -> Tensor:
        """The sample without noise, M(X) as a matrix, shape batch_shape + (n, n)."""
        return permutation_matrix(matching(self.log_alpha), self.log_alpha.dtype)

    def sample(
        self, sample_shape: SampleShape = (), *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Permutation matrices, dtype of `log_alpha`, shape sample_shape + batch_shape + (n, n)."""
        perm = gumbel_matching(
            self.log_alpha,
            noise_scale=self.noise_scale,
            sample_shape=sample_shape,
            generator=generator,
        )
        return permutation_matrix(perm, self.log_alpha.dtype)

    def expand(self, batch_shape: Any, _instance: Any = None) -> GumbelMatching:
        """The same distribution with its batch dimensions expanded to `batch_shape`."""
        new: GumbelMatching = self._get_checked_instance(GumbelMatching, _instance)  # type: ignore[no-untyped-call]
        batch_shape = torch.Size(batch_shape)
        new.log_alpha = self.log_alpha.expand(batch_shape + self.event_shape)
        new.noise_scale = self.noise_scale
        super(GumbelMatching, new).__init__(batch_shape, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new
