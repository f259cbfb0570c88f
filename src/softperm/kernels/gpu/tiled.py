"""Sinkhorn on GPUs for matrices of any size: passes over the matrix in global memory.

Every half step is one pass in the log domain over x itself: float64 sums X + u + v, of which only
the exponential is taken in the dtype of x. Nothing of the size of the matrix is stored but the
result.

A line's logarithm of a sum is kept in two parts, as the largest exponent and the sum relative to
it: where X is huge their own sum loses the second, and lines divided by it would not sum to 1.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from softperm.kernels import reference
from softperm.kernels.gpu.passes import (
    entries_kernel,
    gradient_kernel,
    normalise_kernel,
    reverse_half_kernel,
)
from softperm.kernels.reference import Problem, Settings

_ROW_BLOCKS = {"LINES": 4, "ALONG": 512}
_COLUMN_BLOCKS = {"LINES": 32, "ALONG": 64}
_TILES = {"LINES": 16, "ALONG": 128}
_LAUNCH = {"num_warps": 4, "enable_fp_fusion": True}


class _Half(NamedTuple):
    """What half a step leaves of its lines: the scalings and the sums in two parts."""

    scalings: Tensor
    tops: Tensor
    totals: Tensor

    def at(self, t: int) -> _Half:
        """That of step t."""
        return _Half(*(tensor[t] for tensor in self))


def _reserve(x: Tensor, columns: bool, *steps: int) -> _Half:
    shape = (*steps, *x.shape[:-2], x.shape[-1 if columns else -2])
    scalings, tops = (torch.empty(shape, dtype=torch.float64, device=x.device) for _ in range(2))
    return _Half(scalings, tops, x.new_empty(shape))


def _passes(given: Problem, kernel: Any, *arguments: Any, columns: bool, **flags: Any) -> None:
    """Launch a kernel along all rows, or along all columns."""
    x, (m, n) = given.x, given.x.shape[-2:]
    blocks = _COLUMN_BLOCKS if columns else _ROW_BLOCKS
    sizes = (n, m, 1, n) if columns else (m, n, n, 1)
    grid = (x.shape[:-2].numel() * triton.cdiv(sizes[0], blocks["LINES"]),)
    kernel[grid](x, given.tau, *arguments, *sizes, **flags, **blocks, **_LAUNCH)


def _tiles(kernel: Any, x: Tensor, *arguments: Any, **flags: Any) -> None:
    """Launch a kernel on all tiles."""
    m, n = x.shape[-2:]
    tiles = triton.cdiv(m, _TILES["LINES"]) * triton.cdiv(n, _TILES["ALONG"])
    kernel[(x.shape[:-2].numel() * tiles,)](x, *arguments, **flags, **_TILES, **_LAUNCH)


def _normalise(given: Problem, columns: bool, across: Tensor, out: _Half | None = None) -> _Half:
    """The half step of the rows from the scalings of the columns, or the other way round."""
    sums = given.log_columns if columns else given.log_rows
    out = _reserve(given.x, columns) if out is None else out
    wanted, flags = given.tau if sums is None else sums, {"GIVEN": sums is not None}
    _passes(given, normalise_kernel, across, wanted, *out, columns=columns, **flags)
    return out


def _start(x: Tensor) -> Tensor:
    shape = (*x.shape[:-2], x.shape[-1])
    return torch.zeros(shape, dtype=torch.float64, device=x.device)


def _iterate(given: Problem, how: Settings) -> tuple[_Half, _Half, Tensor]:
    """The last half steps of rows and columns of every matrix, and the steps done."""
    batch, device = given.x.shape[:-2], given.x.device
    rows, columns = partial(_normalise, given, False), partial(_normalise, given, True)
    u = rows(_start(given.x))
    v = columns(u.scalings)
    iters = torch.ones(batch, dtype=torch.int64, device=device)
    running = torch.ones(batch, dtype=torch.bool, device=device)
    for _ in range(1, how.n_iters):
        after = rows(v.scalings)
        if how.tol > 0:
            error = reference.row_error(u.scalings, after.scalings, given.log_rows)
            running = running & ~(error < how.tol)
            if not bool(running.any()):
                break
            u = _where(running, after, u)
            v = _where(running, columns(u.scalings), v)
        else:
            u = after
            v = columns(u.scalings)
        iters += running
    return u, v, iters


def _where(running: Tensor, half: _Half, stopped: _Half) -> _Half:
    keep = running.unsqueeze(-1)
    return _Half(*(torch.where(keep, *pair) for pair in zip(half, stopped, strict=True)))


def _entries(given: Problem, u: _Half, v: _Half, log: bool, grad: Tensor | None = None) -> Tensor:
    """S or log S from the last half steps, or S times grad."""
    x, tau, _, sums = given
    out = torch.empty_like(x)
    flags = {"GIVEN": sums is not None, "LOG": log, "TIMES": grad is not None}
    vectors = (u.scalings, v.tops, v.totals, tau if sums is None else sums)
    times = x if grad is None else grad
    _tiles(entries_kernel, x, tau, *vectors, times, out, *x.shape[-2:], **flags)
    return out


def _row_error(out: Tensor, given: Problem, log: bool) -> Tensor:
    """The largest |row sum - wanted| of S or log S."""
    if not log:
        return reference.final_row_error(out, given.log_rows)
    # Without the exponentials of all entries: the rows of log S, normalised, say what they sum to.
    plain = Problem(out, torch.ones_like(given.tau))
    sums = _normalise(plain, False, _start(out)).scalings.neg()
    wanted = torch.zeros_like(sums) if given.log_rows is None else given.log_rows
    error = (sums.exp() - wanted.exp()).abs()
    return error.masked_fill(wanted == -torch.inf, 0).amax(-1)


def forward(given: Problem, how: Settings) -> tuple[Tensor, Tensor, Tensor]:
    """S (or log S) of every matrix, the iterations done, and the largest row error."""
    u, v, iters = _iterate(given, how)
    out = _entries(given, u, v, how.log)
    return out, iters, _row_error(out, given, how.log).to(out.dtype)


def _again(given: Problem, steps: int) -> tuple[_Half, _Half, Tensor]:
    """All half steps of rows and columns, and the column scalings before every step."""
    us, vs = (_reserve(given.x, columns, steps) for columns in (False, True))
    before = _start(given.x).repeat(steps, *(1,) * (given.x.dim() - 1))
    for t in range(steps):
        u = _normalise(given, False, before[t], us.at(t))
        v = _normalise(given, True, u.scalings, vs.at(t))
        if t + 1 < steps:
            before[t + 1] = v.scalings
    return us, vs, before


def backward(
    grad: Tensor, given: Problem, iters: Tensor, steps: int, how: Settings
) -> tuple[Tensor, Tensor, Tensor]:
    """The exact gradient of the iterations done, `steps` at most."""
    us, vs, before = _again(given, steps)
    last = [_Half(*(_of_last_step(tensor, iters) for tensor in half)) for half in (us, vs)]
    dx = grad.clone() if how.log else _entries(given, *last, False, grad)
    du, dv = dx.sum(-1), dx.sum(-2)
    dus, dvs = torch.empty_like(us.totals), torch.empty_like(vs.totals)
    dvs[-1] = torch.where((iters == steps).unsqueeze(-1), dv, 0) / vs.totals[-1]
    by_row = partial(_passes, given, reverse_half_kernel, columns=False)
    by_column = partial(_passes, given, reverse_half_kernel, columns=True)
    for t in reversed(range(steps)):
        u, v = us.at(t), vs.at(t)
        by_row(u.scalings, v.tops, dvs[t], du, u.totals, iters, dus[t], t, t + 1)
        if t > 0:
            totals = vs.totals[t - 1]
            by_column(before[t], u.tops, dus[t], dv, totals, iters, dvs[t - 1], t, t)
    steps_of = (us.scalings, before, us.tops, vs.tops, dus, dvs)
    sizes = (*given.x.shape[-2:], us.totals[0].numel(), vs.totals[0].numel())
    _tiles(gradient_kernel, given.x, given.tau, *steps_of, iters, dx, *sizes)
    d_rows, d_columns = ((w * half.totals).double().sum(0) for w, half in ((dus, us), (dvs, vs)))
    return dx, d_rows, d_columns


def _of_last_step(tensor: Tensor, iters: Tensor) -> Tensor:
    """What a matrix has in the last step that it did, from all steps."""
    at = (iters - 1)[None, ..., None].expand(1, *tensor.shape[1:])
    return tensor.gather(0, at).squeeze(0)
