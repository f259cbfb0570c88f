"""Sinkhorn of matrices whose rows are spread over the processes of a group."""

from __future__ import annotations

from typing import NoReturn
from zlib import crc32

import torch
import torch.distributed as dist
from torch import Tensor

from softperm._checks import require_solvable
from softperm.kernels.reference import Settings, working_dtype
from softperm.kernels.spread import Group, Sinkhorn, Total
from softperm.ops._options import Grad
from softperm.ops._shapes import Shape, check_shape, line_sums, require_equal_totals
from softperm.ops._sizes import side


def check_options(
    group: object, tau: float | Tensor, shape: Shape, how: Settings, grad: Grad
) -> float:
    """The temperature; what rows that are spread cannot have is refused."""
    if not isinstance(group, dist.ProcessGroup):
        name = type(group).__name__
        raise TypeError(f"group must be a torch.distributed.ProcessGroup, got {name}")
    if isinstance(tau, Tensor):
        raise TypeError("tau must be a float where a group is given, got a tensor")
    if not shape.has_sums:
        raise ValueError("group needs row_sums or col_sums: give at least one of them")
    if shape.slack is not None or shape.ragged:
        raise ValueError("group goes with row_sums and col_sums, not with slack, n_rows or n_cols")
    if grad != "unrolled":
        raise ValueError(f"grad must be 'unrolled' where a group is given, got {grad!r}")
    if how.backend not in ("auto", "torch"):
        raise ValueError(f"backend must be auto or torch where a group is given, got {how.backend}")
    return tau


def _agree(error: Exception | None, same: object, x: Tensor, group: Group) -> None:
    """Raise on every process what went wrong on any, so that none waits for the others for ever."""
    code = crc32(repr(same).encode())
    mine = torch.tensor([error is not None, code, -code], dtype=torch.float64, device=x.device)
    wrong, highest, minus_lowest = group.largest(mine).tolist()
    if error is not None:
        raise error
    if wrong:
        raise ValueError("an argument is wrong on another process of the group: see its error")
    if highest != -minus_lowest:
        raise ValueError(
            "log_alpha's batch dimensions, columns and dtype, tau, n_iters, tol and col_sums must "
            f"be the same on all processes of the group, got {same} here, with whether row_sums is "
            f"left out, and a checksum of col_sums"
        )


def _wrong_values(x: Tensor, tau: float) -> Exception | None:
    try:
        if x.numel():
            columns = x.new_full((x.shape[-1],), -torch.inf)  # may be forbidden to the rows here
            require_solvable(x, tau, None, columns)
    except ValueError as error:
        return error
    return None


def _refuse_empty_column() -> NoReturn:
    raise ValueError(
        "log_alpha must leave at least one matrix with the wanted sums possible, got a column of "
        "-inf alone on all processes of the group"
    )


def _sums(x: Tensor, shape: Shape) -> tuple[Tensor | None, Tensor | None] | Exception:
    batch, (m, n) = x.shape[:-2], x.shape[-2:]
    try:
        check_shape(x, shape)
        r, c = shape.row_sums, shape.col_sums
        rows = None if r is None else line_sums(r, side(m, None, x.device), "row_sums", batch, x)
        columns = None if c is None else line_sums(c, side(n, None, x.device), "col_sums", batch, x)
    except (TypeError, ValueError) as error:
        return error
    return rows, columns


def _of_columns(sums: tuple[Tensor | None, Tensor | None] | Exception) -> int | None:
    """A checksum of the wanted column sums, which are the same for all processes."""
    if isinstance(sums, Exception) or sums[1] is None:
        return None
    return crc32(sums[1].detach().contiguous().cpu().numpy().tobytes())


def _marginals(
    rows: Tensor | None, columns: Tensor | None, x: Tensor, shape: Shape, group: Group
) -> tuple[Tensor, Tensor]:
    """The logarithms of the sums of local rows and of all columns."""
    n, count = x.shape[-1], x.new_tensor(x.shape[-2], dtype=working_dtype(x))
    if rows is None:
        assert columns is not None
        total = columns.sum(-1)
        rows = (total / group.total(count)).unsqueeze(-1).expand(*x.shape[:-1])
        return rows.log(), columns.log()
    total = Total.apply(rows.sum(-1), group)  # type: ignore[no-untyped-call]
    if columns is None:
        columns = (total / n).unsqueeze(-1).expand(*x.shape[:-2], n)
    else:
        require_equal_totals((total, columns.sum(-1)), shape)
    return rows.log(), columns.log()


def solve(
    x: Tensor, tau: float, how: Settings, shape: Shape, group: dist.ProcessGroup
) -> tuple[Tensor, Tensor, Tensor]:
    """The local rows of S (or log S), the iterations done and the largest row errors.

    Values are looked at on every device: what is wrong on one process must be known to all.
    """
    processes = Group(group)
    sums = _sums(x, shape)
    error = sums if isinstance(sums, Exception) else _wrong_values(x.detach(), tau)
    numbers = (tuple(x.shape[:-2]), x.shape[-1], str(x.dtype), tau, how.n_iters, how.tol)
    _agree(error, (*numbers, shape.row_sums is None, _of_columns(sums)), x, processes)
    assert not isinstance(sums, Exception)
    log_rows, log_columns = _marginals(*sums, x, shape, processes)
    allowed = (x.detach() > -torch.inf).any(-2).to(torch.float32)
    if x.shape[-1] and not bool(processes.largest(allowed).all()):
        _refuse_empty_column()
    found: tuple[Tensor, Tensor, Tensor] = Sinkhorn.apply(
        x, log_rows, log_columns, tau, how, processes
    )  # type: ignore[no-untyped-call]
    return found
