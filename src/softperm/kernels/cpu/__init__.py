"""The operators on CPUs, compiled ahead: what a call needs, and which layout is quicker.

Small matrices go in lanes, several at a time; larger ones, small batches and those that may stop
early go along rows. Every matrix is done by scalings in its own dtype, failing that by scalings in
float64, and failing that in the log domain, all in one call. See `src/layout.hpp`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from softperm._checks import require_solvable
from softperm.kernels.cpu import library
from softperm.kernels.cpu.assignment import match_batch, match_list
from softperm.kernels.cpu.library import is_available
from softperm.kernels.cpu.structures import Work
from softperm.kernels.reference import Problem, Settings

__all__ = ["backward", "forward", "is_available", "match_batch", "match_list"]

# The largest side that is quicker in lanes than along rows, where there are many matrices.
_LANES_UP_TO = {torch.float32: 64, torch.float64: 48}
_MOST_KEPT = 1 << 20  # numbers, of scalings that are kept of iterations that may stop early

# What the forward pass leaves for the reverse one, O(l (m + n)) numbers per matrix: how each was
# done, and the scalings of every step.
Scalings = list[Tensor]
Result = tuple[Tensor, Tensor | None, Tensor | None, Scalings]


def _empty(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="cpu")


def _in_lanes(x: Tensor, batch: int, tol: float) -> bool:
    """Whether lanes are quicker; a block of matrices takes no longer there than one does."""
    largest = min(_LANES_UP_TO[x.dtype], 2 * batch + 8)
    return tol == 0 and max(x.shape[-2:]) <= largest


def _run(direction: str, given: Problem, how: Settings, kept: int, *arrays: Tensor | None) -> int:
    """Call a kernel; the arrays are `out` and all that follow it in `Work`, all contiguous."""
    x, tau, log_rows, log_columns = given
    m, n = x.shape[-2:]
    batch = x.numel() // (m * n)
    taus = tau if isinstance(tau, Tensor) else None
    sizes = (batch, m, n, how.n_iters, kept, how.log, 0 if taus is None else taus.numel())
    work = Work(
        *sizes,
        torch.get_num_threads(),
        _in_lanes(x, batch, how.tol),
        how.tol,
        0.0 if taus is not None else tau,
        *(None if a is None else a.data_ptr() for a in (x, taus, log_rows, log_columns, *arrays)),
    )
    left = library.function(direction, x.dtype)(ctypes.byref(work))
    if left < 0:
        raise MemoryError(f"no memory for the working arrays of {batch} matrices of {m} x {n}")
    return int(left)


def _contiguous(given: Problem) -> Problem:
    tensors = (t.contiguous() if isinstance(t, Tensor) else t for t in given)
    return Problem(*tensors)  # type: ignore[arg-type]


def _steps_to_keep(batch: int, m: int, n: int, how: Settings) -> int:
    """All, unless the iteration may stop long before."""
    if not how.tol:
        return how.n_iters
    return min(how.n_iters, max(_MOST_KEPT // max(batch * (m + n), 1), 1))


def _room(batch: int, m: int, n: int, kept: int, in_lanes: bool, dtype: torch.dtype) -> Tensor:
    """Room for scalings: batches in whole lanes, columns in whole vectors, of any width."""
    matrices = -(-batch // 16) * 16 if in_lanes else batch
    return _empty((matrices, kept * m + (kept + 1) * _padded(n)), dtype)


def _padded(n: int) -> int:
    return -(-n // 16) * 16


def forward(given: Problem, how: Settings, keep: bool = False, info: bool = True) -> Result:
    """S (or log S) of every matrix, the iterations done, the largest row error, and for `keep` the
    scalings of every step, unless there are too many.

    Without `info` the iterations and the error may be left out. Matrices that scalings cannot solve
    are looked at: a ValueError says why nothing can.
    """
    m, n = given.x.shape[-2:]
    batch = given.x.shape[:-2].numel()
    return _forward(given, how, _steps_to_keep(batch, m, n, how) if keep else 0, info)


def _forward(given: Problem, how: Settings, kept: int, info: bool) -> Result:
    """The same, with the scalings of so many steps."""
    x = given.x
    shape, (m, n) = x.shape[:-2], x.shape[-2:]
    if not x.numel():
        done = torch.full(shape, how.n_iters, device="cpu")
        return torch.empty_like(x), done, torch.zeros(shape, dtype=x.dtype, device="cpu"), []
    given = _contiguous(given)
    out, batch = torch.empty_like(given.x), x.numel() // (m * n)
    in_lanes = _in_lanes(x, batch, how.tol)
    iters = _empty(shape, torch.int64) if info or not in_lanes else None
    error = _empty(shape, x.dtype) if info else None
    room = partial(_room, batch, m, n, kept, in_lanes)
    kept_by = [_empty((batch,), torch.uint8), *([room(x.dtype)] if kept else [])]
    if _run("forward", given, how, kept, out, iters, error, *kept_by):
        if x.dtype == torch.float32 and kept:
            kept_by.append(room(torch.float64))
        if _run("finish", given, how, kept, out, iters, error, *kept_by):
            require_solvable(given.x, given.tau, given.log_rows, given.log_columns)
    complete = kept >= how.n_iters or (kept > 0 and iters is not None and int(iters.max()) <= kept)
    return out, iters, error, kept_by if complete else []


def backward(
    grad: Tensor,
    given: Problem,
    iters: Tensor | None,
    how: Settings,
    out: Tensor | None = None,
    scalings: Sequence[Tensor] = (),
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The exact gradient of the iterations done with respect to `x` and the logarithms of the sums
    (None where both are all 1).

    Where the result and the scalings were not kept they are computed again.
    """
    x, batch_shape = given.x, given.x.shape[:-2]
    m, n = x.shape[-2:]
    dx = torch.empty_like(x, memory_format=torch.contiguous_format)
    d_rows = d_columns = None
    if given.log_rows is not None or given.log_columns is not None:
        d_rows = torch.zeros(*batch_shape, m, dtype=torch.float64, device="cpu")
        d_columns = torch.zeros(*batch_shape, n, dtype=torch.float64, device="cpu")
    if not x.numel():
        return dx, d_rows, d_columns
    given, grad = _contiguous(given), grad.contiguous()
    if out is None or not scalings:
        done = how.n_iters if iters is None else int(iters.max())
        how = how._replace(n_iters=done)
        out, iters, _, scalings = _forward(given, how, done, info=True)
    tier, steps, *more = scalings
    kept = (steps.shape[1] - _padded(n)) // (m + _padded(n))
    more_steps = more[0] if more else None
    arrays = (out.contiguous(), iters, None, tier, steps, more_steps, grad, dx, d_rows, d_columns)
    _run("backward", given, how, kept, *arrays)
    return dx, d_rows, d_columns
