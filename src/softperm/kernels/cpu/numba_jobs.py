"""The kernels as C functions of one pointer, which threads can run without the interpreter.

The pointer is that of a `Work`: sizes, options and the addresses of the arrays. Every call of a job
does the next part of the work that nobody has begun.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from numba import carray, cfunc, types

from softperm.kernels.cpu import (
    numba_lanes_linear,
    numba_lanes_log,
    numba_matching,
    numba_rows_linear,
    numba_rows_log,
)
from softperm.kernels.cpu.numba_cache import named
from softperm.kernels.cpu.numba_rows import padded
from softperm.kernels.cpu.numba_simd import WIDTH
from softperm.kernels.cpu.numba_work import (
    DONE,
    REFUSED,
    Work,
    add,
    as_work,
    begin,
    end,
    lane_steps,
    matrices,
    per_matrix,
    pointer_to,
    row_errors,
    row_steps,
    temperatures,
)
from softperm.kernels.cpu.threads import Job, call_in_threads

_SERIAL_BELOW = 8_000  # entries in a batch below which waking a thread costs more than it saves
_LOG_EFFORT = 8  # of an entry in the log domain, which has an exponential in every step


def lanes_forward(pointer):
    """`numba_lanes_linear.forward`; the units are blocks."""
    work = carray(as_work(pointer), 1)[0]
    lo, hi = begin(pointer, work)
    x, out = matrices(pointer, work, work.x), matrices(pointer, work, work.out)
    tau, error = temperatures(work), row_errors(pointer, work, x)
    safe, steps = per_matrix(np.uint8, work, work.safe), lane_steps(pointer, work)
    options = (work.n_iters, work.log != 0, work.kept != 0)
    numba_lanes_linear.forward(x, tau, out, error, safe, steps, *options, lo, hi)
    if work.iters:
        per_matrix(np.int64, work, work.iters)[lo * WIDTH : hi * WIDTH] = work.n_iters
    end(pointer, safe, lo * WIDTH, hi * WIDTH)


def lanes_log_forward(pointer):
    """`numba_lanes_log.forward`; the units are blocks."""
    work = carray(as_work(pointer), 1)[0]
    lo, hi = begin(pointer, work)
    x, out = matrices(pointer, work, work.x), matrices(pointer, work, work.out)
    tau, error = temperatures(work), row_errors(pointer, work, x)
    safe, steps = per_matrix(np.uint8, work, work.safe), lane_steps(np.float64, work)
    options = (work.n_iters, work.log != 0, work.kept != 0)
    numba_lanes_log.forward(x, tau, safe, out, error, steps, *options, lo, hi)
    add(pointer, DONE, 1)


def lanes_backward(pointer):
    """`numba_lanes_linear.backward`; the units are blocks."""
    work = carray(as_work(pointer), 1)[0]
    lo, hi = begin(pointer, work)
    grad, out = matrices(pointer, work, work.grad), matrices(pointer, work, work.out)
    dx, tau = matrices(pointer, work, work.dx), temperatures(work)
    safe, steps = per_matrix(np.uint8, work, work.safe), lane_steps(pointer, work)
    numba_lanes_linear.backward(grad, out, tau, safe, steps, dx, work.log != 0, lo, hi)
    add(pointer, DONE, 1)


def lanes_log_backward(pointer):
    """`numba_lanes_log.backward`; the units are blocks."""
    work = carray(as_work(pointer), 1)[0]
    lo, hi = begin(pointer, work)
    grad, x = matrices(pointer, work, work.grad), matrices(pointer, work, work.x)
    dx, tau = matrices(pointer, work, work.dx), temperatures(work)
    safe, steps = per_matrix(np.uint8, work, work.safe), lane_steps(np.float64, work)
    numba_lanes_log.backward(grad, x, tau, safe, steps, dx, work.log != 0, lo, hi)
    add(pointer, DONE, 1)


def rows_forward(pointer):
    """`numba_rows_linear.forward`; the units are matrices."""
    work = carray(as_work(pointer), 1)[0]
    lo, hi = begin(pointer, work)
    x, out = matrices(pointer, work, work.x), matrices(pointer, work, work.out)
    tau, error = temperatures(work), per_matrix(pointer, work, work.error)
    iters, safe = per_matrix(np.int64, work, work.iters), per_matrix(np.uint8, work, work.safe)
    A, B = row_steps(pointer, work, padded(work.n))
    options = (work.n_iters, work.tol, work.log != 0)
    numba_rows_linear.forward(x, tau, out, iters, error, safe, A, B, *options, lo, hi)
    end(pointer, safe, lo, hi)


def rows_log_forward(pointer):
    """`numba_rows_log.forward`; the units are matrices."""
    work = carray(as_work(pointer), 1)[0]
    lo, hi = begin(pointer, work)
    x, out = matrices(pointer, work, work.x), matrices(pointer, work, work.out)
    tau, error = temperatures(work), per_matrix(pointer, work, work.error)
    iters, safe = per_matrix(np.int64, work, work.iters), per_matrix(np.uint8, work, work.safe)
    U, V = row_steps(np.float64, work, work.n)
    options = (work.n_iters, work.tol, work.log != 0)
    numba_rows_log.forward(x, tau, safe, out, iters, error, U, V, *options, lo, hi)
    add(pointer, DONE, 1)


def rows_backward(pointer):
    """`numba_rows_linear.backward`; the units are matrices."""
    work = carray(as_work(pointer), 1)[0]
    lo, hi = begin(pointer, work)
    grad, out = matrices(pointer, work, work.grad), matrices(pointer, work, work.out)
    dx, tau = matrices(pointer, work, work.dx), temperatures(work)
    iters, safe = per_matrix(np.int64, work, work.iters), per_matrix(np.uint8, work, work.safe)
    A, B = row_steps(pointer, work, padded(work.n))
    numba_rows_linear.backward(grad, out, tau, iters, safe, A, B, dx, work.log != 0, lo, hi)
    add(pointer, DONE, 1)


def rows_log_backward(pointer):
    """`numba_rows_log.backward`; the units are matrices."""
    work = carray(as_work(pointer), 1)[0]
    lo, hi = begin(pointer, work)
    grad, x = matrices(pointer, work, work.grad), matrices(pointer, work, work.x)
    dx, tau = matrices(pointer, work, work.dx), temperatures(work)
    iters, safe = per_matrix(np.int64, work, work.iters), per_matrix(np.uint8, work, work.safe)
    U, V = row_steps(np.float64, work, work.n)
    numba_rows_log.backward(grad, x, tau, iters, safe, U, V, dx, work.log != 0, lo, hi)
    add(pointer, DONE, 1)


def matching(pointer):
    """`numba_matching.matching`; the units are matrices."""
    work = carray(as_work(pointer), 1)[0]
    lo, hi = begin(pointer, work)
    perm = carray(pointer_to(np.int64, work.perm), (work.batch, work.n))
    infeasible = numba_matching.matching(matrices(pointer, work, work.x), perm, lo, hi)
    add(pointer, REFUSED, infeasible)
    add(pointer, DONE, 1)


_IN_LOG_DOMAIN = (lanes_log_forward, lanes_log_backward, rows_log_forward, rows_log_backward)


@cache
def _compiled(job: Callable[..., None], dtype: torch.dtype) -> Any:
    """A job as machine code for matrices of a dtype, from Numba's cache where it is there."""
    number = types.float32 if dtype == torch.float32 else types.float64
    code = cfunc(types.void(types.CPointer(number)), cache=True)(named(job))
    compiled = Job(code.address)
    compiled.code = code  # which owns the memory at that address
    return compiled


def run(job: Callable[..., None], dtype: torch.dtype, work: Work) -> Work:
    """Do a job for a batch of matrices, in as many threads as pay.

    Arguments:
        job: One of the functions above.
        dtype: Of the matrices.
        work: What to do: all but the parts and the counters. The arrays are contiguous.

    Returns:
        The work, done.

    Raises:
        MemoryError: there is no memory for the working arrays of a thread.
    """
    n: int = work.n
    effort = work.batch * n * n * (_LOG_EFFORT if job in _IN_LOG_DOMAIN else 1)
    threads = 1 if effort < _SERIAL_BELOW else min(torch.get_num_threads(), work.units)
    work.parts = threads
    compiled, pointer = _compiled(job, dtype), ctypes.addressof(work)
    if work.n_taus == 0:
        work.n_taus, work.tau = 1, pointer + Work.temperature.offset
    call_in_threads(compiled, pointer, threads)
    while work.next < threads:
        compiled(pointer)
    if work.done < threads:
        raise MemoryError(
            f"{job.__name__} at n = {n} failed, which happens where there is no memory for its "
            f"working arrays; the cause is printed above"
        )
    return work
