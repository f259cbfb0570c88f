"""How an iteration ended."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from softperm._torch import can_read_values
from softperm._typing import Bool, Float, Int64


class SinkhornInfo(NamedTuple):
    r"""How a Sinkhorn iteration ended, one entry per matrix.

    Arguments:
        n_iters: Iterations done, int64, shape (\*).
        row_error: Largest distance of a row sum from the wanted one, shape (\*). The row of slack
            counts; so do, together as one, the n - m rows that complete a wide matrix to a square.
            Columns have the wanted sums.
        converged: Whether `row_error` is below `tol`, bool, shape (\*); without `tol`, all False.

    Example:
        >>> from softperm import sinkhorn
        >>> _, info = sinkhorn(torch.zeros(3, 3), tol=1e-3, return_info=True)
        >>> info.n_iters, info.converged
        (tensor(1), tensor(True))
    """

    n_iters: Int64[Tensor, "*batch"]
    row_error: Float[Tensor, "*batch"]
    converged: Bool[Tensor, "*batch"]


def require_converged(iters: Tensor, error: Tensor, tol: float | None, n_iters: int) -> None:
    """Refuse the gradient of a limit that the iteration has not reached."""
    if not can_read_values(error) or error.numel() == 0:
        return
    wanted = torch.finfo(error.dtype).eps ** 0.5 if tol is None else tol
    # A matrix that stopped early has converged, also where rounding makes its error reach tol.
    error = error.masked_fill(iters < n_iters, 0)
    worst = int(error.argmax())
    largest = float(error.flatten()[worst])
    if not largest < wanted:
        raise RuntimeError(
            f"grad='implicit' is the gradient of the limit, which is not reached: the largest row "
            f"error is {largest:.3g} after {int(iters.flatten()[worst])} iterations, wanted below "
            f"{wanted:.3g}. Raise n_iters or tau, or use grad='unrolled'"
        )
