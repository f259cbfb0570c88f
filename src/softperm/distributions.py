"""Distributions over permutations, as `torch.distributions.Distribution` subclasses."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from softperm._checks import require_log_alpha, require_noise_scale, require_positive_int
from softperm._typing import SampleShape
from softperm.kernels.reference import working_dtype
from softperm.ops import gumbel_matching, gumbel_sinkhorn, matching, sinkhorn
from softperm.ops._sinkhorn import check_tau
from softperm.permutations import permutation_matrix

__all__ = ["GumbelMatching", "GumbelSinkhorn", "doubly_stochastic", "permutation"]


class _DoublyStochastic(constraints.Constraint):
    """Square matrices of entries at least 0 whose rows and columns sum to 1, within `atol`.

    Sinkhorn iterations end with exact columns and approximate rows, so rows get more room.
    """

    event_dim = 2

    def __init__(self, atol: float = 1e-3) -> None:
        self.atol = atol
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        if value.dim() < 2 or value.shape[-1] != value.shape[-2]:
            return torch.zeros(value.shape[:-2], dtype=torch.bool, device=value.device)
        rows = ((value.sum(-1) - 1).abs() <= self.atol).all(-1)
        columns = ((value.sum(-2) - 1).abs() <= self.atol).all(-1)
        return rows & columns & (value >= 0).flatten(-2).all(-1)


class _Permutation(constraints.Constraint):
    """Square matrices with a single 1 in every row and column, and 0 elsewhere."""

    event_dim = 2
    is_discrete = True

    def check(self, value: Tensor) -> Tensor:
        if value.dim() < 2 or value.shape[-1] != value.shape[-2]:
            return torch.zeros(value.shape[:-2], dtype=torch.bool, device=value.device)
        binary = ((value == 0) | (value == 1)).flatten(-2).all(-1)
        return binary & (value.sum(-1) == 1).all(-1) & (value.sum(-2) == 1).all(-1)


class _LogAlpha(constraints.Constraint):
    """Square matrices of entries that are finite or -inf."""

    event_dim = 2

    def check(self, value: Tensor) -> Tensor:
        return (value < torch.inf).flatten(-2).all(-1)


doubly_stochastic = _DoublyStochastic()
permutation = _Permutation()


class GumbelSinkhorn(Distribution):
    r"""Nearly doubly stochastic matrices: a differentiable relaxation of `GumbelMatching`.

    .. math:: S((X + s\,\varepsilon) / \tau), \quad \varepsilon_{ij} \text{ i.i.d. Gumbel}

    It has no closed-form density, mean or entropy: `log_prob`, `mean` and `entropy` raise
    `NotImplementedError`.

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

    arg_constraints = {"log_alpha": _LogAlpha(), "tau": constraints.positive}
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
        require_positive_int(n_iters, "n_iters")
        require_noise_scale(noise_scale)
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
        """Doubly stochastic matrices; rows only approximately after few iterations."""
        return doubly_stochastic

    @property
    def mode(self) -> Tensor:
        """The sample without noise, S(X / tau), shape batch_shape + (n, n)."""
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


class GumbelMatching(Distribution):
    r"""Permutation matrices: the matching of scores perturbed by Gumbel noise.

    .. math:: M(X + s\,\varepsilon), \quad \varepsilon_{ij} \text{ i.i.d. Gumbel}

    Its probabilities have no closed form: `log_prob`, `mean` and `entropy` raise
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
        >>> d.mode
        tensor([[1., 0.],
                [0., 1.]])
        >>> d.sample((4,)).shape
        torch.Size([4, 2, 2])
    """

    arg_constraints = {"log_alpha": _LogAlpha()}

    def __init__(
        self,
        log_alpha: Tensor,
        noise_scale: float = 1.0,
        *,
        validate_args: bool | None = None,
    ) -> None:
        require_log_alpha(log_alpha)
        require_noise_scale(noise_scale)
        self.log_alpha = log_alpha
        self.noise_scale = noise_scale
        super().__init__(log_alpha.shape[:-2], log_alpha.shape[-2:], validate_args=validate_args)

    @property
    def support(self) -> constraints.Constraint:
        """Permutation matrices."""
        return permutation

    @property
    def mode(self) -> Tensor:
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
