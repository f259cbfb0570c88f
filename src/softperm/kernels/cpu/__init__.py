"""The operators on CPUs, compiled ahead: what a call needs, and which layout is quicker.

Small matrices go in lanes, several at a time; larger ones, small batches and those that may stop
early go along rows. Every matrix is done by scalings in its own dtype, failing that by scalings in
float64, and failing that in the log domain: in one call, or in two where scalings in float64 are
kept for the gradient. See `src/layout.hpp`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from softperm._checks import require_solvable
from softperm.kernels.cpu import library
from softperm.kernels.cpu.assignment import match_batch, match_list
from softperm.kernels.cpu.library import is_available
from softperm.kernels.cpu.structures import Work, address
from softperm.kernels.reference import Problem, Settings

__all__ = ["backward", "forward", "is_available", "match_batch", "match_list"]

# The largest side that is quicker in lanes than along rows, where there are many matrices.
_LANES_UP_TO = {torch.float32: 64, torch.float64: 48}
_FIRST_TIER = 1  # how every matrix is tried first; benchmarks begin later
_NEEDS_ROOM = -2  # of the kernel: some matrices wait for room for scalings in float64
_MOST_KEPT = 1 << 20  # numbers, of scalings that are kept of iterations that may stop early

# What the forward pass leaves for the reverse one, O(l (m + n)) numbers per matrix: how each was
# done, and the scalings of every step.
Scalings = list[Tensor]
Result = tuple[Tensor, Tensor | None, Tensor | None, Scalings]


def _empty(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="cpu")


def _batch(x: Tensor) -> int:
    return x.shape[:-2].numel()


def _in_lanes(x: Tensor, batch: int, tol: float) -> bool:
    """Whether lanes are quicker; a block of matrices takes no longer there than one does."""
    largest = min(_LANES_UP_TO[x.dtype], 2 * batch + 8)
    return tol == 0 and max(x.shape[-2:]) <= largest


def _whole(count: int) -> int:
    """In whole vectors, of any width."""
    return -(-count // 16) * 16


def _room(x: Tensor, kept: int, tol: float, dtype: torch.dtype) -> Tensor:
    """Room for the scalings of so many steps."""
    m, n = x.shape[-2:]
    batch = _batch(x)
    matrices = _whole(batch) if _in_lanes(x, batch, tol) else batch
    return _empty((matrices, kept * m + (kept + 1) * _whole(n)), dtype)


def _run(given: Problem, how: Settings, first_tier: int, *arrays: Tensor | None) -> int:
    """Call the kernel; the arrays are `out` and all that follow it in `Work`, all contiguous.

    It goes backward where there is a gradient. Returns how many matrices only the log domain could
    do, or `_NEEDS_ROOM`.
    """
    x, tau, log_rows, log_columns = given
    m, n = x.shape[-2:]
    batch, steps = _batch(x), arrays[4] if len(arrays) > 4 else None
    taus = tau if isinstance(tau, Tensor) else None
    kept = 0 if steps is None else (steps.shape[1] - _whole(n)) // (m + _whole(n))
    work = Work(
        *(batch, m, n, how.n_iters, how.log, torch.get_num_threads()),
        *(_in_lanes(x, batch, how.tol), 0 if taus is None else taus.numel(), first_tier, kept),
        *(how.tol, 0.0 if taus is not None else tau),
        *map(address, (x, taus, log_rows, log_columns, *arrays)),
    )
    left = library.function("sinkhorn", x.dtype)(ctypes.byref(work))
    if left == -1:
        raise MemoryError(f"no memory for the working arrays of {batch} matrices of {m} x {n}")
    return int(left)


def _contiguous(given: Problem) -> Problem:
    tensors = (t.contiguous() if isinstance(t, Tensor) else t for t in given)
    return Problem(*tensors)  # type: ignore[arg-type]


def forward(given: Problem, how: Settings, keep: bool = False, info: bool = True) -> Result:
    """S (or log S) of every matrix, the iterations done, the largest row error, and for `keep` the
    scalings of every step, unless there are too many.

    Without `info` the iterations and the error may be left out. Matrices that scalings cannot solve
    are looked at: a ValueError says why nothing can.
    """
    kept = how.n_iters if keep else 0
    if kept and how.tol:  # it may stop long before
        most = _MOST_KEPT // max(_batch(given.x) * sum(given.x.shape[-2:]), 1)
        kept = min(kept, max(most, 2))
    return _forward(given, how, kept, info)


def _forward(given: Problem, how: Settings, kept: int, info: bool) -> Result:
    """The same, with the scalings of so many steps."""
    x, shape = given.x, given.x.shape[:-2]
    if not x.numel():
        done = torch.full(shape, how.n_iters, device="cpu")
        return torch.empty_like(x), done, torch.zeros(shape, dtype=x.dtype, device="cpu"), []
    given = _contiguous(given)
    out, tier = torch.empty_like(given.x), _empty((_batch(x),), torch.uint8)
    iters = _empty(shape, torch.int64) if info or how.tol else None
    error = _empty(shape, x.dtype) if info else None
    steps = [_room(x, kept, how.tol, x.dtype)] if kept else []
    left = _run(given, how, _FIRST_TIER, out, iters, error, tier, *steps)
    if left == _NEEDS_ROOM:
        steps.append(_room(x, kept, how.tol, torch.float64))
        left = _run(given, how, 0, out, iters, error, tier, *steps)
    if left:
        require_solvable(given.x, given.tau, given.log_rows, given.log_columns)
    complete = kept >= how.n_iters or (kept > 0 and iters is not None and int(iters.max()) < kept)
    return out, iters, error, [tier, *steps] if complete else []


def backward(
    grad: Tensor,
    given: Problem,
    iters: Tensor | None,
    how: Settings,
    out: Tensor | None = None,
    scalings: Sequence[Tensor] = (),
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The exact gradient of the iterations done with respect to `x` and the logarithms of the sums
    (None where those are not given, but all 1).

    Where the result and the scalings were not kept they are computed again.
    """
    x, batch_shape = given.x, given.x.shape[:-2]
    m, n = x.shape[-2:]
    dx = torch.empty_like(x, memory_format=torch.contiguous_format)
    d_rows = d_columns = None
    if given.log_rows is not None:
        d_rows = torch.zeros(*batch_shape, m, dtype=torch.float64, device="cpu")
    if given.log_columns is not None:
        d_columns = torch.zeros(*batch_shape, n, dtype=torch.float64, device="cpu")
    if not x.numel():
        return dx, d_rows, d_columns
    given, grad = _contiguous(given), grad.contiguous()
    if out is None or not scalings:
        done = how.n_iters if iters is None else int(iters.max())
        how = how._replace(n_iters=done)
        out, iters, _, scalings = _forward(given, how, done, info=True)
    tier, steps, *more = scalings
    kept_by = (tier, steps, more[0] if more else None)
    _run(given, how, 0, out.contiguous(), iters, None, *kept_by, grad, dx, d_rows, d_columns)
    return dx, d_rows, d_columns
