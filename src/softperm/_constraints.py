"""Sets of matrices, as constraints of `torch.distributions`."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import constraints

from softperm._checks import require_positive_float
from softperm.kernels.reference import working_dtype

__all__ = [
    "ColumnStochastic",
    "DoublyStochastic",
    "LogAlpha",
    "column_stochastic",
    "doubly_stochastic",
    "partial_permutation",
    "permutation",
]


def _is_square(value: Tensor) -> bool:
    return value.dim() >= 2 and value.shape[-1] == value.shape[-2]


def _none(value: Tensor) -> Tensor:
    """False for every matrix, whatever its shape."""
    return torch.zeros(value.shape[:-2], dtype=torch.bool, device=value.device)


def _at_least_single(value: Tensor) -> Tensor:
    """A sum in half precision has an error of its own."""
    return value.float() if torch.finfo(value.dtype).bits < 32 else value


class DoublyStochastic(constraints.Constraint):
    """Square matrices of entries at least 0 whose rows and columns sum to 1, within `atol`.

    The sums are taken in float32 at least. After few Sinkhorn iterations, or at low temperature,
    rows are far from 1: ask for what you need.

    Arguments:
        atol: The largest distance of a sum from 1.

    Example:
        >>> P = torch.tensor([[0.6, 0.5], [0.4, 0.5]])
        >>> DoublyStochastic(atol=0.2).check(P), doubly_stochastic.check(P)
        (tensor(True), tensor(False))
    """

    event_dim = 2

    def __init__(self, atol: float = 1e-3) -> None:
        self.atol = require_positive_float(atol, "atol")
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        """Whether each matrix is one, shape (*)."""
        if not _is_square(value):
            return _none(value)
        value = _at_least_single(value)
        rows = ((value.sum(-1) - 1).abs() <= self.atol).all(-1)
        columns = ((value.sum(-2) - 1).abs() <= self.atol).all(-1)
        return rows & columns & (value >= 0).flatten(-2).all(-1)


class ColumnStochastic(constraints.Constraint):
    """Matrices of entries at least 0 whose columns sum to 1, in the rounding of their dtype.

    They are square, unless `sums` gives others (*, n), which columns have, or have `at_most`.

    A sum of n numbers is off by n + 4 units of rounding at most, and by what `exponent` adds: e^x
    is known to a share |x| of the unit of rounding that x was computed with.
    """

    event_dim = 2

    def __init__(
        self,
        exponent: Tensor | None = None,
        sums: Tensor | None = None,
        at_most: bool = False,
    ) -> None:
        self.exponent = exponent
        self.sums = sums
        self.at_most = at_most
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        """Whether each matrix is one, shape (*)."""
        if value.dim() < 2 or (self.sums is None and not _is_square(value)):
            return _none(value)
        if self.sums is not None and value.shape[-1] != self.sums.shape[-1]:
            return _none(value)
        wanted = value.new_ones(()) if self.sums is None else self.sums
        atol: float | Tensor = (max(value.shape[-2:]) + 4) * torch.finfo(value.dtype).eps
        if self.exponent is not None:
            unit = torch.finfo(working_dtype(value)).eps
            atol = atol + 4 * unit * self.exponent.unsqueeze(-1)
        error = _at_least_single(value).sum(-2) - wanted
        error = error if self.at_most else error.abs()
        return (error <= atol * wanted.clamp_min(1)).all(-1) & (value >= 0).flatten(-2).all(-1)


class _Permutation(constraints.Constraint):
    """Square matrices with a single 1 in every row and column, and 0 elsewhere."""

    event_dim = 2
    is_discrete = True

    def check(self, value: Tensor) -> Tensor:
        """Whether each matrix is one, shape (*)."""
        if not _is_square(value):
            return _none(value)
        return partial_permutation.check(value) & (value.sum((-2, -1)) == value.shape[-1])


class _PartialPermutation(constraints.Constraint):
    """Matrices with at most one 1 in every row and column, and 0 elsewhere."""

    event_dim = 2
    is_discrete = True

    def check(self, value: Tensor) -> Tensor:
        """Whether each matrix is one, shape (*)."""
        binary = ((value == 0) | (value == 1)).flatten(-2).all(-1)
        return binary & (value.sum(-1) <= 1).all(-1) & (value.sum(-2) <= 1).all(-1)


class LogAlpha(constraints.Constraint):
    """Matrices of entries that are finite or -inf."""

    event_dim = 2

    def check(self, value: Tensor) -> Tensor:
        """Whether each matrix is one, shape (*)."""
        return (value < torch.inf).flatten(-2).all(-1)


doubly_stochastic = DoublyStochastic()
column_stochastic = ColumnStochastic()
permutation = _Permutation()
partial_permutation = _PartialPermutation()
