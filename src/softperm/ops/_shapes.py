"""Matrices of any shape as one problem: bring (m, n) matrices to wanted sums of rows and columns.

- Rectangles: the shorter side is completed to a square by |m - n| lines of score 0. They are all
  alike: one line whose wanted sum is |m - n| stands for them.
- Slack: one more row, of wanted sum n, and one more column, of wanted sum m, of a score of their
  own.
- Ragged batches: lines that do not count are -inf, and have the wanted sum 0. A matrix of r rows
  and c columns has |r - c| lines of score 0, or slack of the wanted sums c and r.
- Given sums: nothing is added.

All of it is differentiable, and cut off again afterwards.
"""

from __future__ import annotations

from math import log
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from softperm._checks import as_float, broadcast_batch, common_shape, first_index
from softperm._torch import can_read_values
from softperm.kernels.reference import Problem, matrix_dtype, working_dtype
from softperm.ops._sizes import (
    Side,
    check_size,
    counted_entries,
    require_broadcast,
    require_finite,
    require_number_or_tensor,
    side,
)

_ROUNDING = 2.0**-26  # relative, of totals that are meant to be the same


class Shape(NamedTuple):
    """What is given beyond the scores: see `softperm.sinkhorn`."""

    row_sums: float | Tensor | None = None
    col_sums: float | Tensor | None = None
    slack: float | Tensor | None = None
    n_rows: int | Tensor | None = None
    n_cols: int | Tensor | None = None

    @property
    def ragged(self) -> bool:
        """Whether not all lines of all matrices count."""
        return self.n_rows is not None or self.n_cols is not None

    @property
    def has_sums(self) -> bool:
        """Whether sums are given."""
        return self.row_sums is not None or self.col_sums is not None


def as_shape(
    row_sums: float | Tensor | None,
    col_sums: float | Tensor | None,
    slack: float | Tensor | None,
    n_rows: int | Tensor | None,
    n_cols: int | Tensor | None,
) -> Shape | None:
    """What is given; None where nothing is."""
    if row_sums is col_sums is slack is n_rows is n_cols is None:
        return None
    return Shape(row_sums, col_sums, slack, n_rows, n_cols)


class Cut(NamedTuple):
    """How to get the result for the scores from that of the problem."""

    m: int
    n: int
    counted: Tensor | None

    def __call__(self, out: Tensor, log: bool) -> Tensor:
        if out.shape[-2:] != (self.m, self.n):
            out = out[..., : self.m, : self.n]
        if self.counted is None:
            return out
        return torch.where(self.counted, out, -torch.inf if log else 0.0)


def _require_in_range(value: float | Tensor, name: str, x: Tensor) -> None:
    """Refuse a number that becomes infinite in the dtype in which the scores are computed."""
    highest = torch.finfo(matrix_dtype(x.dtype)).max
    if not isinstance(value, Tensor) and abs(value) > highest:
        raise ValueError(f"{name} must lie within {highest:g}, the range of float32, got {value}")


def check_shape(log_alpha: Tensor, shape: Shape) -> None:
    """Refuse what does not fit the matrices, or not together."""
    batch, m, n = log_alpha.shape[:-2], log_alpha.shape[-2], log_alpha.shape[-1]
    if shape.row_sums is not None:
        require_number_or_tensor(shape.row_sums, "row_sums")
        require_broadcast(shape.row_sums, "row_sums", (*batch, m), "rows")
    if shape.col_sums is not None:
        require_number_or_tensor(shape.col_sums, "col_sums")
        require_broadcast(shape.col_sums, "col_sums", (*batch, n), "columns")
    if shape.slack is not None:
        if shape.has_sums:
            name = "col_sums" if shape.row_sums is None else "row_sums"
            raise ValueError(f"slack has sums of its own: give slack or {name}, not both")
        require_number_or_tensor(shape.slack, "slack")
        require_broadcast(shape.slack, "slack", batch)
        require_finite(shape.slack, "slack")
        _require_in_range(shape.slack, "slack", log_alpha)
    if shape.n_rows is not None:
        check_size(shape.n_rows, "n_rows", m, batch)
    if shape.n_cols is not None:
        check_size(shape.n_cols, "n_cols", n, batch)


def broadcast_tau(tau: float | Tensor, x: Tensor) -> tuple[Tensor, float | Tensor]:
    """x with the batch dimensions of both, and a temperature: one for all, or one per matrix."""
    if not isinstance(tau, Tensor):
        return x, float(tau)
    dtype = working_dtype(x)
    batch = common_shape(x.shape[:-2], tau.shape)
    return x.expand(*batch, *x.shape[-2:]), tau.to(x.device, dtype).expand(batch)


def only_counted(x: Tensor, n_rows: int | Tensor | None, n_cols: int | Tensor | None) -> Tensor:
    """The scores, -inf in what does not count."""
    m, n = x.shape[-2:]
    counted = counted_entries(side(m, n_rows, x.device), side(n, n_cols, x.device))
    return x if counted is None else torch.where(counted, x, -torch.inf)


def common_batch(log_alpha: Tensor, tau: float | Tensor, shape: Shape) -> torch.Size:
    """The batch dimensions that the scores, the temperature and the rest broadcast to."""
    shapes = [log_alpha.shape[:-2]]
    shapes += [given.shape for given in (tau, *shape[2:]) if isinstance(given, Tensor)]
    shapes += [sums.shape[:-1] for sums in shape[:2] if isinstance(sums, Tensor)]
    return broadcast_batch("log_alpha, tau, row_sums, col_sums, slack, n_rows and n_cols", *shapes)


def line_sums(
    given: float | Tensor, lines: Side, name: str, batch: torch.Size, x: Tensor
) -> Tensor:
    """Wanted sums (*, length), 1 where a line does not count."""
    if isinstance(given, Tensor):
        sums = given.to(x.device, working_dtype(x))
    else:
        sums = torch.tensor(as_float(given, name), dtype=working_dtype(x), device=x.device)
    sums = lines.keep(sums.expand(*batch, lines.length), 1.0)
    if can_read_values(sums) and not bool(((sums > 0) & sums.isfinite()).all()):
        _refuse_sum(float(sums[~((sums > 0) & sums.isfinite())][0]), name)
    return sums


def _refuse_sum(wrong: float, name: str) -> None:
    raise ValueError(f"{name} must be positive and finite, got {wrong:g}")


def require_equal_totals(totals: tuple[Tensor, Tensor], shape: Shape) -> None:
    """Refuse sums of rows and columns of which there are none."""
    if not can_read_values(totals[0]):
        return
    given = [sums.dtype for sums in shape[:2] if isinstance(sums, Tensor)]
    rounding = max((torch.finfo(dtype).eps ** 0.5 for dtype in given), default=_ROUNDING)
    rows, columns = totals
    different = (rows - columns).abs() > rounding * torch.maximum(rows, columns)
    if bool(different.any()):
        r, c = float(rows[different][0]), float(columns[different][0])
        _refuse_totals(r, c, first_index(different))


def _refuse_totals(rows: float, columns: float, where: str = "") -> None:
    raise ValueError(
        f"row_sums and col_sums must have the same total, got {rows:.8g} and {columns:.8g}{where}"
    )


def _uniform(total: Tensor, lines: Side) -> Tensor:
    """The same sum for every line that counts, 1 for the others."""
    count = lines.size.clamp_min(1) if isinstance(lines.size, Tensor) else max(lines.size, 1)
    share = (total / count).unsqueeze(-1)
    return lines.keep(share.expand(*total.shape, lines.length), 1.0)


def _numbers(
    shape: Shape, m: int, n: int, batch: torch.Size, x: Tensor
) -> tuple[Tensor | None, Tensor | None] | None:
    """The same as `_marginals` for numbers and lines that all count; no tensor is looked at."""
    r, c = shape.row_sums, shape.col_sums
    if shape.ragged or isinstance(r, Tensor) or isinstance(c, Tensor):
        return None
    if not can_read_values(x) or not x.numel():  # sizes may be symbols, or 0
        return None
    for name, given in (("row_sums", r), ("col_sums", c)):
        if given is not None and not 0 < as_float(given, name) < torch.inf:
            _refuse_sum(as_float(given, name), name)
    if r is None:
        assert c is not None
        r = c * n / m
    if c is None:
        c = r * m / n
    if abs(r * m - c * n) > _ROUNDING * max(r * m, c * n):
        _refuse_totals(r * m, c * n)

    def alike(sums: float, lines: int) -> Tensor | None:
        if sums == 1:
            return None
        return torch.full((*batch, lines), log(sums), dtype=working_dtype(x), device=x.device)

    return alike(r, m), alike(c, n)


def _marginals(
    shape: Shape, rows: Side, columns: Side, batch: torch.Size, x: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    """The logarithms of the given sums, None where all are 1; those that are not given are all
    alike.
    """
    numbers = _numbers(shape, rows.length, columns.length, batch, x)
    if numbers is not None:
        return numbers
    r, c = shape.row_sums, shape.col_sums
    row_sums = None if r is None else line_sums(r, rows, "row_sums", batch, x)
    col_sums = None if c is None else line_sums(c, columns, "col_sums", batch, x)

    def total(sums: Tensor, lines: Side) -> Tensor:
        return lines.keep(sums, 0.0).sum(-1)

    if row_sums is None:
        assert col_sums is not None
        row_sums = _uniform(total(col_sums, columns), rows)
    if col_sums is None:
        col_sums = _uniform(total(row_sums, rows), columns)
    require_equal_totals((total(row_sums, rows), total(col_sums, columns)), shape)
    return rows.keep(row_sums.log(), -torch.inf), columns.keep(col_sums.log(), -torch.inf)


def _log(count: int | Tensor, x: Tensor) -> Tensor:
    """The logarithm of a number of lines."""
    if not isinstance(count, Tensor):
        count = torch.full((), count, device=x.device)
    return count.to(working_dtype(x)).log()


def _log_sums(lines: Side, last: Tensor | None, batch: torch.Size, x: Tensor) -> Tensor | None:
    """The logarithms of 1 for every line that counts, and of the sum of the line added last."""
    if last is None and lines.counted is None:
        return None
    zeros = torch.zeros(lines.length, dtype=working_dtype(x), device=x.device)
    sums = lines.keep(zeros, -torch.inf)
    if last is not None:
        common = common_shape(sums.shape[:-1], last.shape)
        last = last.unsqueeze(-1).expand(*common, 1)
        sums = torch.cat([sums.expand(*common, lines.length), last], -1)
    return sums.expand(*batch, sums.shape[-1])


def _add_line(x: Tensor, dim: int, score: float | Tensor) -> Tensor:
    """x with one more row (dimension -2) or column (-1) of that score."""
    if not isinstance(score, Tensor):
        return F.pad(x, (0, 0, 0, 1) if dim == -2 else (0, 1), value=float(score))
    shape = list(x.shape)
    shape[dim] = 1
    return torch.cat([x, score.to(x.device, x.dtype)[..., None, None].expand(shape)], dim)


class _Lines(NamedTuple):
    """Scores, and the logarithms of the wanted sums."""

    x: Tensor
    log_rows: Tensor | None
    log_columns: Tensor | None


def _with_slack(x: Tensor, rows: Side, columns: Side, slack: float | Tensor) -> _Lines:
    """One line of slack on either side, which may take all lines of the other."""
    batch = x.shape[:-2]
    log_rows = _log_sums(rows, _log(columns.size, x), batch, x)
    log_columns = _log_sums(columns, _log(rows.size, x), batch, x)
    return _Lines(_add_line(_add_line(x, -1, slack), -2, slack), log_rows, log_columns)


def _missing(rows: Side, columns: Side) -> tuple[int | Tensor | None, int | Tensor | None]:
    """How many rows, and how many columns, each matrix is short of a square; None: none is."""
    r, c = rows.size, columns.size
    if isinstance(r, Tensor) or isinstance(c, Tensor):
        more = torch.as_tensor(c - r)
        return more.clamp_min(0), (-more).clamp_min(0)
    return (c - r if c > r else None), (r - c if r > c else None)


def _completed(x: Tensor, tau: float | Tensor, rows: Side, columns: Side) -> _Lines:
    """One line for all that a matrix is short of a square.

    k columns of score 0 weigh k times as much as one, in the first step too: the one column has
    the score log k after division by tau. To a row its score makes no difference.
    """
    batch, last_row, last_column = x.shape[:-2], None, None
    more_rows, more_columns = _missing(rows, columns)
    if more_columns is not None:
        last_column = _log(more_columns, x)
        x = _add_line(x, -1, tau * last_column.clamp_min(0))
    if more_rows is not None:
        last_row = _log(more_rows, x)
        x = _add_line(x, -2, 0.0)
    log_rows = _log_sums(rows, last_row, batch, x)
    return _Lines(x, log_rows, _log_sums(columns, last_column, batch, x))


def pose(x: Tensor, tau: float | Tensor, shape: Shape) -> tuple[Problem, Cut]:
    """The problem for these matrices (its temperature still as given), and how to cut its result.

    What is given fits: see `check_shape`.
    """
    batch = common_batch(x, tau, shape)
    m, n = x.shape[-2:]
    rows, columns = side(m, shape.n_rows, x.device), side(n, shape.n_cols, x.device)
    if batch != x.shape[:-2]:
        x = x.expand(*batch, m, n)
    if shape.has_sums:
        lines = _Lines(x, *_marginals(shape, rows, columns, batch, x))
    elif shape.slack is not None:
        m, n = m + 1, n + 1
        lines = _with_slack(x, rows, columns, shape.slack)
    else:
        lines = _completed(x, tau, rows, columns)
    x, log_rows, log_columns = lines
    counted = None
    if shape.ragged:
        assert log_rows is not None
        assert log_columns is not None
        part = (log_rows > -torch.inf).unsqueeze(-1) & (log_columns > -torch.inf).unsqueeze(-2)
        x, counted = torch.where(part, x, -torch.inf), part[..., :m, :n]
    return Problem(x, tau, log_rows, log_columns), Cut(m, n, counted)  # type: ignore[arg-type]
