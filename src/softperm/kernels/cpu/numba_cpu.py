"""The operators on CPUs, compiled by Numba: which kernel does what.

`numba_lanes_*` for small matrices, `numba_rows_*` for larger ones and for early stopping. The
`_linear` ones go first; matrices whose scalings leave the safe range are left to the `_log` ones.
`numba_matching` assigns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any, NamedTuple

import numba
import torch
from torch import Tensor

from softperm._checks import require_solvable
from softperm.kernels.cpu import numba_jobs as jobs
from softperm.kernels.cpu import numba_rows_linear
from softperm.kernels.cpu.numba_rows import padded
from softperm.kernels.cpu.numba_simd import WIDTH
from softperm.kernels.cpu.numba_work import Work
from softperm.kernels.reference import per_matrix

# The largest n that is quicker in lanes than along rows, where there are many matrices.
_LANES_UP_TO = {torch.float32: 64, torch.float64: 48}
_LOG_LANES_UP_TO = 112  # the same in the log domain, where a block takes as long as 6 along rows
_SHARED_FROM = 512  # the smallest n for which sharing out the rows of one matrix pays
_ROWS_LOCK = Lock()

# What the forward pass leaves for the reverse one, O(l n) numbers a matrix: which matrices are
# safe; the scalings of every step, in the dtype of the matrices; and if any is unsafe, those of the
# unsafe ones in the log domain, in float64. In lanes they are one tensor, along rows one for rows
# and one for columns; matrices may go along rows first and in lanes then. Memory for matrices and
# steps that have none is never touched, and so never taken.
Scalings = list[Tensor]


def _batch(x: Tensor) -> int:
    """The number of matrices."""
    return x.numel() // x.shape[-1] ** 2


def _work(x: Tensor, batch: int, units: int) -> Work:
    """What every job needs to know of contiguous matrices, and of the units of work."""
    work = Work()
    work.x, work.n, work.batch, work.units = x.data_ptr(), x.shape[-1], batch, units
    return work


class _Problem(NamedTuple):
    """Matrices x, (*, n, n) and contiguous, not empty, and what to compute of them."""

    x: Tensor
    tau: float | Tensor
    n_iters: int
    tol: float
    log: bool
    batch: int
    n: int

    def in_lanes(self) -> bool:
        """Whether lanes are quicker; 16 matrices take no longer there than one does."""
        largest = min(_LANES_UP_TO[self.x.dtype], 2 * self.batch + 8)
        return self.tol == 0 and self.n <= largest

    def blocks(self) -> int:
        """The number of blocks of 16 matrices in lanes."""
        return -(-self.batch // WIDTH)

    def log_in_lanes(self, refused: int) -> bool:
        """Whether lanes are quicker for so many matrices in the log domain."""
        return self.tol == 0 and self.n <= _LOG_LANES_UP_TO and refused >= 6 * self.blocks()

    def taus(self) -> Tensor:
        """One temperature a matrix."""
        return per_matrix(self.tau, self.x).view(-1)

    def run(self, job: Callable[..., None], units: int, kept: int, **tensors: Tensor) -> Work:
        """Do a job; the tensors are contiguous, and called as in `Work`."""
        x, tau, n_iters, tol, log, batch, _ = self
        work = _work(x, batch, units)
        work.kept, work.n_iters, work.tol, work.log = kept, n_iters, tol, log
        if isinstance(tau, Tensor):
            work.tau, work.n_taus = tau.data_ptr(), tau.numel()
        else:
            work.temperature = tau
        for name, tensor in tensors.items():
            setattr(work, name, tensor.data_ptr())
        return jobs.run(job, x.dtype, work)


def _problem(x: Tensor, tau: float | Tensor, n_iters: int, tol: float, log: bool) -> _Problem:
    tau = tau.contiguous() if isinstance(tau, Tensor) else tau
    x = x.contiguous()
    return _Problem(x, tau, n_iters, tol, log, _batch(x), x.shape[-1])


def _rows_are_shared(batch: int, n: int) -> bool:
    """Whether there are fewer matrices than threads, and large ones."""
    return n >= _SHARED_FROM and batch < torch.get_num_threads()


def _share_rows(function: Callable[..., None], tensors: Sequence[Tensor], *options: Any) -> None:
    """Call ``function(*arrays, *options, threads)``, which shares out rows over Numba's threads.

    Their number is the caller's setting, which is put back; and not all of Numba's threading layers
    bear two calls at a time.
    """
    most: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
    threads = min(torch.get_num_threads(), most)
    with _ROWS_LOCK:
        before = numba.get_num_threads()
        numba.set_num_threads(threads)
        try:
            function(*(tensor.numpy() for tensor in tensors), *options, threads)
        finally:
            numba.set_num_threads(before)


def _empty(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="cpu")


def _steps(problem: _Problem, keep: bool, dtype: torch.dtype) -> Tensor:
    """Room for scalings in lanes."""
    blocks = problem.blocks() if keep else 0
    return _empty((blocks, 2 * problem.n_iters + 1, problem.n, WIDTH), dtype)


def _forward_log_lanes(problem: _Problem, keep: bool, given: dict[str, Tensor]) -> Tensor:
    """Do the unsafe matrices in the log domain, in lanes; the scalings."""
    steps = _steps(problem, keep, torch.float64)
    problem.run(jobs.lanes_log_forward, problem.blocks(), len(steps), A=steps, **given)
    return steps


def _forward_lanes(problem: _Problem, out: Tensor, keep: bool, info: dict[str, Tensor]) -> Scalings:
    safe, steps = _empty((problem.batch,), torch.bool), _steps(problem, keep, out.dtype)
    given = {"out": out, "safe": safe, **info}
    work = problem.run(jobs.lanes_forward, problem.blocks(), len(steps), A=steps, **given)
    if not work.refused:
        return [safe, steps]
    require_solvable(problem.x, problem.tau)
    return [safe, steps, _forward_log_lanes(problem, keep, given)]


def _backward_lanes(
    problem: _Problem, grad: Tensor, out: Tensor, scalings: Sequence[Tensor], dx: Tensor
) -> None:
    safe, steps, *log_steps = scalings
    blocks = problem.blocks()
    given = {"grad": grad, "dx": dx, "safe": safe}
    problem.run(jobs.lanes_backward, blocks, blocks, A=steps, out=out, **given)
    if log_steps:
        problem.run(jobs.lanes_log_backward, blocks, blocks, A=log_steps[0], **given)


def _forward_rows(problem: _Problem, out: Tensor, keep: bool, info: dict[str, Tensor]) -> Scalings:
    x, n, batch, n_iters = problem.x, problem.n, problem.batch, problem.n_iters
    kept = batch if keep else 0
    safe = _empty((batch,), torch.bool)
    A = _empty((kept, n_iters, n), x.dtype)
    B = _empty((kept, n_iters + 1, padded(n)), x.dtype)
    given = {"out": out, "safe": safe, **info}
    if _rows_are_shared(batch, n):
        flat = [info["iters"].view(-1), info["error"].view(-1), safe, A, B]
        arrays = [x.view(-1, n, n), problem.taus(), out.view(-1, n, n), *flat]
        options = (n_iters, problem.tol, problem.log)
        _share_rows(numba_rows_linear.forward_shared, arrays, *options)
        refused = batch - int(safe.sum())
    else:
        refused = problem.run(jobs.rows_forward, batch, kept, A=A, B=B, **given).refused
    if not refused:
        return [safe, A, B]
    require_solvable(x, problem.tau)
    if problem.log_in_lanes(refused):
        info["iters"].fill_(n_iters)
        return [safe, A, B, _forward_log_lanes(problem, keep, given)]
    U = _empty((kept, n_iters, n), torch.float64)
    V = _empty((kept, n_iters + 1, n), torch.float64)
    problem.run(jobs.rows_log_forward, batch, kept, A=U, B=V, **given)
    return [safe, A, B, U, V]


def _backward_rows(
    problem: _Problem,
    grad: Tensor,
    out: Tensor,
    iters: Tensor,
    scalings: Sequence[Tensor],
    dx: Tensor,
) -> None:
    safe, A, B, *log_scalings = scalings
    n, batch = problem.n, problem.batch
    given = {"grad": grad, "dx": dx, "safe": safe, "iters": iters}
    if _rows_are_shared(batch, n):
        matrices = (tensor.view(-1, n, n) for tensor in (grad, out))
        arrays = [*matrices, problem.taus(), iters.view(-1), safe, A, B, dx.view(-1, n, n)]
        _share_rows(numba_rows_linear.backward_shared, arrays, problem.log)
    else:
        problem.run(jobs.rows_backward, batch, batch, A=A, B=B, out=out, **given)
    if len(log_scalings) == 1:
        blocks = problem.blocks()
        problem.run(jobs.lanes_log_backward, blocks, blocks, A=log_scalings[0], **given)
    elif log_scalings:
        U, V = log_scalings
        problem.run(jobs.rows_log_backward, batch, batch, A=U, B=V, **given)


def forward(
    x: Tensor,
    tau: float | Tensor,
    n_iters: int,
    tol: float,
    log: bool,
    keep: bool = False,
    info: bool = True,
) -> tuple[Tensor, Tensor | None, Tensor | None, Scalings]:
    """S (or log S) of every matrix, the iterations done, the largest row error, and for `keep` the
    scalings of every step.

    Without `info` the iterations and the error may be left out. Matrices that scalings cannot solve
    are looked at: a ValueError says why nothing can.
    """
    shape = x.shape[:-2]
    if not x.numel():
        iters = torch.full(shape, n_iters, device="cpu")
        return torch.empty_like(x), iters, torch.zeros(shape, dtype=x.dtype, device="cpu"), []
    problem = _problem(x, tau, n_iters, tol, log)
    out = torch.empty_like(problem.x)
    in_lanes = problem.in_lanes()
    more: dict[str, Tensor] = {}
    if info or not in_lanes:
        more = {"iters": _empty(shape, torch.int64), "error": _empty(shape, x.dtype)}
    solve = _forward_lanes if in_lanes else _forward_rows
    scalings = solve(problem, out, keep, more)
    return out, more.get("iters"), more.get("error"), scalings if keep else []


def backward(
    grad: Tensor,
    x: Tensor,
    tau: float | Tensor,
    iters: Tensor | None,
    n_iters: int,
    tol: float,
    log: bool,
    out: Tensor | None = None,
    scalings: Sequence[Tensor] = (),
) -> Tensor:
    """The exact gradient of the iterations done with respect to `x`.

    Where the result and the scalings were not kept they are computed again.
    """
    if not x.numel():
        return torch.empty_like(x)
    problem, grad = _problem(x, tau, n_iters, tol, log), grad.contiguous()
    dx = torch.empty_like(problem.x)
    if out is None or not scalings:
        out, iters, _, scalings = forward(x, tau, n_iters, tol, log, keep=True)
    if problem.in_lanes():
        _backward_lanes(problem, grad, out, scalings, dx)
    else:
        assert iters is not None  # `forward` leaves them out in lanes alone
        _backward_rows(problem, grad, out, iters.contiguous(), scalings, dx)
    return dx


def matching(x: Tensor) -> tuple[Tensor, int]:
    """The maximising assignment of every matrix, (*, n) int64, -1 where there is none; and how many
    have none.
    """
    x = x.contiguous()
    perm = _empty(x.shape[:-1], torch.int64)
    if not x.numel():
        return perm, 0
    batch = _batch(x)
    work = _work(x, batch, batch)
    work.perm = perm.data_ptr()
    return perm, jobs.run(jobs.matching, x.dtype, work).refused


def warm_up(n: int | None, dtypes: tuple[torch.dtype, ...]) -> None:
    """Compile, or load from the cache, what matrices of size n need (None: of every size)."""
    batch = 2 * WIDTH  # enough of them for lanes at any n that has them
    everything = ((batch, 2, 0.0), (1, 2, 0.1), (1, _SHARED_FROM, 0.1))
    cases = everything if n is None else ((batch, n, 0.0), (1, n, 0.0))
    for dtype in dtypes:
        for batch, size, tol in cases:
            for spread in (0.0, 1e6):  # the second leaves the safe range
                x = torch.zeros(batch, size, size, dtype=dtype, device="cpu")
                x[..., 0] = spread
                tau = x.new_ones(batch, dtype=torch.float64)
                out, iters, _, scalings = forward(x, tau, 1, tol, False, keep=True)
                backward(x, x, tau, iters, 1, tol, False, out, scalings)
        matching(x[:1, :1, :1])
