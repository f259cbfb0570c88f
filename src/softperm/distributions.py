"""Distributions over permutations, as `torch.distributions.Distribution` subclasses."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import constraints, register_kl

from softperm._checks import (
    require_float_matrix,
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
    partial_permutation,
    permutation,
)
from softperm._kl import kl_gumbel_sinkhorn
from softperm._perturbed import Perturbed
from softperm._teach import teaching
from softperm._typing import SampleShape
from softperm.kernels.reference import working_dtype
from softperm.ops import gumbel_matching, gumbel_sinkhorn, matching, sinkhorn
from softperm.ops._matching import check_matching, matching_batch
from softperm.ops._options import Backend, Grad, check_backend, check_grad, check_tau, check_tol
from softperm.ops._shapes import Shape, check_shape, common_batch, only_counted, pose
from softperm.permutations import permutation_matrix

__all__ = [
    "DoublyStochastic",
    "GumbelMatching",
    "GumbelSinkhorn",
    "column_stochastic",
    "doubly_stochastic",
    "partial_permutation",
    "permutation",
]

_LARGEST_NOISE = 37.0  # of Gumbel noise made of float64 numbers on (0, 1)


class GumbelSinkhorn(Perturbed):
    r"""Nearly doubly stochastic matrices: a differentiable relaxation of `GumbelMatching`.

    .. math:: S((X + s\,\varepsilon) / \tau), \quad \varepsilon_{ij} \text{ i.i.d. Gumbel}

    It has no closed-form density, mean, mode or entropy: `log_prob`, `mean`, `mode` and `entropy`
    raise `NotImplementedError`. `torch.distributions.kl_divergence` of two gives a bound: see
    `kl_gumbel_sinkhorn`.

    Arguments:
        log_alpha: Scores X, any floating dtype, shape (\*, m, n).
        tau: Temperature: a positive float, or a tensor that broadcasts against the batch
            dimensions.
        n_iters: Number of Sinkhorn iterations.
        noise_scale: Scale s of the noise.
        row_sums: As in `sinkhorn`.
        col_sums: As in `sinkhorn`.
        slack: As in `sinkhorn`; it gets no noise.
        n_rows: As in `sinkhorn`; the attribute `log_alpha` is -inf in what does not count.
        n_cols: As in `sinkhorn`.
        tol: As in `sinkhorn`.
        backend: As in `sinkhorn`.
        grad: As in `sinkhorn`.
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

    @teaching
    def __init__(
        self,
        log_alpha: Tensor,
        tau: float | Tensor = 1.0,
        n_iters: int = 20,
        noise_scale: float = 1.0,
        *,
        row_sums: float | Tensor | None = None,
        col_sums: float | Tensor | None = None,
        slack: float | Tensor | None = None,
        n_rows: int | Tensor | None = None,
        n_cols: int | Tensor | None = None,
        tol: float | None = None,
        backend: Backend = "auto",
        grad: Grad = "unrolled",
        validate_args: bool | None = None,
    ) -> None:
        require_float_matrix(log_alpha, "log_alpha")
        tau = check_tau(tau, log_alpha.shape[:-2])
        self._shape = Shape(row_sums, col_sums, slack, n_rows, n_cols)
        check_shape(log_alpha, self._shape)
        log_alpha = only_counted(log_alpha, n_rows, n_cols)
        require_log_alpha(log_alpha)
        self.n_iters = require_positive_int(n_iters, "n_iters")
        self.noise_scale = require_noise_scale(noise_scale)
        check_tol(tol)
        check_backend(backend, log_alpha.device)
        check_grad(grad)
        how = {"tol": tol, "backend": backend, "grad": grad}
        self._options: dict[str, Any] = self._shape._asdict() | how
        if not isinstance(tau, Tensor):
            tau = log_alpha.new_tensor(tau, dtype=working_dtype(log_alpha))
        batch_shape = common_batch(log_alpha, tau, self._shape)
        m, n = log_alpha.shape[-2:]
        self.log_alpha = log_alpha.expand(*batch_shape, m, n)
        self.tau = tau.expand(batch_shape)
        event_shape = torch.Size((m, n) if slack is None else (m + 1, n + 1))
        super().__init__(batch_shape, event_shape, validate_args=validate_args)

    @property
    def support(self) -> constraints.Constraint:
        """Matrices of entries at least 0 whose columns sum to 1, in the rounding of their dtype.

        With given sums or slack, columns have those sums. If there are more columns than rows, or
        not all lines count, they sum to 1 at most.

        All rows together sum to n, and each sums to 1 only in the limit of many iterations. For n
        of 3 and more no number of iterations keeps all rows of all samples within any distance of
        1, because the noise is unbounded. Check samples with `DoublyStochastic(atol)`, at the
        distance you need.
        """
        scores = self.log_alpha.detach()
        if scores.numel() == 0:
            return column_stochastic
        largest = scores.masked_fill(scores.isneginf(), 0).abs().amax((-2, -1))
        largest = largest.to(working_dtype(scores)) + _LARGEST_NOISE * self.noise_scale
        exponent, (m, n) = largest / self.tau.detach(), scores.shape[-2:]
        if m == n and not any(given is not None for given in self._shape):
            return ColumnStochastic(exponent)
        posed = pose(scores, self.tau.detach(), self._shape)[0]
        width = self.event_shape[-1]
        sums = scores.new_ones(width, dtype=working_dtype(scores))
        if posed.log_columns is not None:
            sums = posed.log_columns.detach().exp()[..., :width]
        exact = self._shape.has_sums or self._shape.slack is not None
        at_most = not exact and (m < n or self._shape.ragged)
        return ColumnStochastic(exponent, sums, at_most)

    @property
    def noiseless(self) -> Tensor:
        """The sample without noise, S(X / tau), shape batch_shape + event_shape; differentiable."""
        matrix: Tensor = sinkhorn(self.log_alpha, self.tau, self.n_iters, **self._options)
        return matrix

    def rsample(
        self,
        sample_shape: SampleShape = (),
        *,
        generator: torch.Generator | None = None,
        hard: bool = False,
    ) -> Tensor:
        """Draw differentiable samples, shape sample_shape + batch_shape + event_shape.

        `hard` as in `gumbel_sinkhorn`: permutation matrices with the gradient of the soft ones.
        """
        return gumbel_sinkhorn(
            self.log_alpha,
            self.tau,
            self.n_iters,
            noise_scale=self.noise_scale,
            sample_shape=sample_shape,
            generator=generator,
            hard=hard,
            **self._options,
        )

    def sample(
        self, sample_shape: SampleShape = (), *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw samples without a gradient, shape sample_shape + batch_shape + event_shape."""
        with torch.no_grad():
            return self.rsample(sample_shape, generator=generator)

    def expand(self, batch_shape: Any, _instance: Any = None) -> GumbelSinkhorn:
        """Expand the batch dimensions to `batch_shape`."""
        new = self._expanded(GumbelSinkhorn, batch_shape, _instance)
        new.tau = self.tau.expand(batch_shape)
        new.n_iters = self.n_iters
        new._shape = self._shape
        new._options = self._options
        return new


class GumbelMatching(Perturbed):
    r"""Permutation matrices: the matching of scores perturbed by Gumbel noise.

    .. math:: M(X + s\,\varepsilon), \quad \varepsilon_{ij} \text{ i.i.d. Gumbel}

    Its probabilities have no closed form: `log_prob`, `mean`, `mode` and `entropy` raise
    `NotImplementedError`.

    Arguments:
        log_alpha: Scores X, any floating dtype, shape (\*, m, n).
        noise_scale: Scale s of the noise.
        unmatched: As in `matching`; it gets no noise.
        n_rows: As in `matching`; the attribute `log_alpha` is -inf in what does not count.
        n_cols: As in `matching`.
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

    @teaching
    def __init__(
        self,
        log_alpha: Tensor,
        noise_scale: float = 1.0,
        *,
        unmatched: float | Tensor | None = None,
        n_rows: int | Tensor | None = None,
        n_cols: int | Tensor | None = None,
        validate_args: bool | None = None,
    ) -> None:
        require_float_matrix(log_alpha, "log_alpha")
        check_matching(log_alpha, unmatched, n_rows, n_cols)
        log_alpha = only_counted(log_alpha, n_rows, n_cols)
        require_log_alpha(log_alpha)
        self.noise_scale = require_noise_scale(noise_scale)
        self._given: dict[str, Any] = {"unmatched": unmatched, "n_rows": n_rows, "n_cols": n_cols}
        batch_shape = matching_batch(log_alpha, **self._given)
        self.log_alpha = log_alpha.expand(batch_shape + log_alpha.shape[-2:])
        super().__init__(batch_shape, log_alpha.shape[-2:], validate_args=validate_args)

    @property
    def support(self) -> constraints.Constraint:
        """Permutation matrices, partial ones where items or positions may be left over."""
        m, n = self.event_shape
        whole = m == n and all(given is None for given in self._given.values())
        return permutation if whole else partial_permutation

    def _matrix(self, perm: Tensor) -> Tensor:
        return permutation_matrix(perm, self.log_alpha.dtype, self.event_shape[-1])

    @property
    def noiseless(self) -> Tensor:
        """The sample without noise, M(X) as a matrix, shape batch_shape + (m, n)."""
        return self._matrix(matching(self.log_alpha, **self._given))

    def sample(
        self, sample_shape: SampleShape = (), *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw permutation matrices, dtype of `log_alpha`.

        Their shape is sample_shape + batch_shape + (m, n).
        """
        perm = gumbel_matching(
            self.log_alpha,
            noise_scale=self.noise_scale,
            sample_shape=sample_shape,
            generator=generator,
            **self._given,
        )
        return self._matrix(perm)

    def expand(self, batch_shape: Any, _instance: Any = None) -> GumbelMatching:
        """Expand the batch dimensions to `batch_shape`."""
        new = self._expanded(GumbelMatching, batch_shape, _instance)
        new._given = self._given
        return new


register_kl(GumbelSinkhorn, GumbelSinkhorn)(kl_gumbel_sinkhorn)
