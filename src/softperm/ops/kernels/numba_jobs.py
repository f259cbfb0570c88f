"""The kernels as C functions of one pointer, which threads can run without the interpreter.

The pointer is that of a `Work`: sizes, options and the addresses of the arrays. Every call of a job
does the next part of the work that nobody has begun.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any

import numba
import numpy as np
import torch
from llvmlite import ir
from numba import carray, cfunc, njit, types
from numba.extending import intrinsic

from softperm.ops.kernels import (
    numba_lanes_linear,
    numba_lanes_log,
    numba_matching,
    numba_rows_linear,
    numba_rows_log,
)
from softperm.ops.kernels.numba_cache import named
from softperm.ops.kernels.numba_extremes import extremes as range_of
from softperm.ops.kernels.numba_lanes import OPTIONS
from softperm.ops.kernels.numba_rows import padded
from softperm.ops.kernels.numba_simd import WIDTH
from softperm.ops.kernels.threads import Function, call_in_threads

_SERIAL_BELOW = 8_000  # entries in a batch below which waking a thread costs more than it saves
_LOG_EFFORT = 8  # of an entry in the log domain, which has an exponential in every step

# next, done   parts begun and ended
# unsafe       matrices left to the log domain; of `matching`, those that allow no permutation
# parts        into which the units, matrices or blocks of them, are cut
# taus         temperatures: one a matrix, or one for all
# kept         units whose scalings are kept: all or none
# x to perm    addresses of arrays
# temperature  where there is no array of them
_COUNTERS = ("next", "done", "unsafe")
_SIZES = ("parts", "units", "batch", "n", "taus", "n_iters", "kept", "log")
_ARRAYS = ("x", "tau", "out", "iters", "error", "safe", "A", "B", "grad", "dx", "perm")
_NEXT, _DONE, _UNSAFE = range(3)


class Work(ctypes.Structure):
    """What a job has to do; everything that is not given is 0."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in _COUNTERS + _SIZES + _ARRAYS),
        ("tol", ctypes.c_double),
        ("temperature", ctypes.c_double),
    )


_RECORD = numba.from_dtype(np.dtype(Work))


@intrinsic
def _cast(typingctx: Any, pointer: Any) -> Any:
    """The pointer as one to a `Work`."""
    kind = types.CPointer(_RECORD)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], context.get_value_type(kind))

    return kind(pointer), codegen


@intrinsic
def _to(typingctx: Any, like: Any, address: Any) -> Any:
    """The address as a pointer like another, or as one to numbers of a dtype."""
    kind = like if isinstance(like, types.CPointer) else types.CPointer(like.dtype)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[1], context.get_value_type(kind))

    return kind(like, address), codegen


@intrinsic
def _add(typingctx: Any, pointer: Any, counter: Any, amount: Any) -> Any:
    """Add to a counter, which all threads share; what it was before."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        counters = builder.bitcast(args[0], ir.IntType(64).as_pointer())
        at = builder.gep(counters, [args[1]])
        return builder.atomic_rmw("add", at, args[2], "seq_cst")

    return types.int64(pointer, types.int64, types.int64), codegen


@njit(**OPTIONS)
def _begin(pointer, work):
    """The next part, and its units lo to hi."""
    part = _add(pointer, _NEXT, 1)
    return part, work.units * part // work.parts, work.units * (part + 1) // work.parts


@njit(**OPTIONS)
def _matrices(pointer, work, address):
    """The matrices at an address."""
    return carray(_to(pointer, address), (work.batch, work.n, work.n))


@njit(**OPTIONS)
def _flat(pointer, work, address):
    """One number a matrix."""
    return carray(_to(pointer, address), work.batch)


@njit(**OPTIONS)
def _taus(work):
    """Temperatures."""
    return carray(_to(np.float64, work.tau), work.taus)


@njit(**OPTIONS)
def _errors(pointer, work, x):
    """Row errors; an array to be thrown away where nobody wants them."""
    if work.error:
        return _flat(pointer, work, work.error)
    return np.empty(work.batch, x.dtype)


@njit(**OPTIONS)
def _lane_steps(pointer, work):
    """Scalings in lanes."""
    return carray(_to(pointer, work.A), (work.kept, 2 * work.n_iters + 1, work.n, WIDTH))


@njit(**OPTIONS)
def _row_steps(pointer, work, rows, width):
    """Scalings of rows and of columns."""
    A = carray(_to(pointer, work.A), (work.kept, work.n_iters, rows))
    return A, carray(_to(pointer, work.B), (work.kept, work.n_iters + 1, width))


@njit(**OPTIONS)
def _end(pointer, safe, lo, hi):
    """Count a part as done, and those of matrices lo to hi that are not safe."""
    unsafe = 0
    for b in range(lo, min(hi, safe.size)):
        unsafe += safe[b] == 0
    _add(pointer, _UNSAFE, unsafe)
    _add(pointer, _DONE, 1)


def lanes_forward(pointer):
    """`numba_lanes_linear.forward`; the units are blocks."""
    work = carray(_cast(pointer), 1)[0]
    _, lo, hi = _begin(pointer, work)
    x, out = _matrices(pointer, work, work.x), _matrices(pointer, work, work.out)
    tau, error = _taus(work), _errors(pointer, work, x)
    safe, steps = _flat(np.uint8, work, work.safe), _lane_steps(pointer, work)
    options = (work.n_iters, work.log != 0, work.kept != 0)
    numba_lanes_linear.forward(x, tau, out, error, safe, steps, *options, lo, hi)
    if work.iters:
        _flat(np.int64, work, work.iters)[lo * WIDTH : hi * WIDTH] = work.n_iters
    _end(pointer, safe, lo * WIDTH, hi * WIDTH)


def lanes_log_forward(pointer):
    """`numba_lanes_log.forward`; the units are blocks."""
    work = carray(_cast(pointer), 1)[0]
    _, lo, hi = _begin(pointer, work)
    x, out = _matrices(pointer, work, work.x), _matrices(pointer, work, work.out)
    tau, error = _taus(work), _errors(pointer, work, x)
    safe, steps = _flat(np.uint8, work, work.safe), _lane_steps(np.float64, work)
    options = (work.n_iters, work.log != 0, work.kept != 0)
    numba_lanes_log.forward(x, tau, safe, out, error, steps, *options, lo, hi)
    _add(pointer, _DONE, 1)


def lanes_backward(pointer):
    """`numba_lanes_linear.backward`; the units are blocks."""
    work = carray(_cast(pointer), 1)[0]
    _, lo, hi = _begin(pointer, work)
    grad, out = _matrices(pointer, work, work.grad), _matrices(pointer, work, work.out)
    dx, tau = _matrices(pointer, work, work.dx), _taus(work)
    safe, steps = _flat(np.uint8, work, work.safe), _lane_steps(pointer, work)
    numba_lanes_linear.backward(grad, out, tau, safe, steps, dx, work.log != 0, lo, hi)
    _add(pointer, _DONE, 1)


def lanes_log_backward(pointer):
    """`numba_lanes_log.backward`; the units are blocks."""
    work = carray(_cast(pointer), 1)[0]
    _, lo, hi = _begin(pointer, work)
    grad, x = _matrices(pointer, work, work.grad), _matrices(pointer, work, work.x)
    dx, tau = _matrices(pointer, work, work.dx), _taus(work)
    safe, steps = _flat(np.uint8, work, work.safe), _lane_steps(np.float64, work)
    numba_lanes_log.backward(grad, x, tau, safe, steps, dx, work.log != 0, lo, hi)
    _add(pointer, _DONE, 1)


def rows_forward(pointer):
    """`numba_rows_linear.forward`; the units are matrices."""
    work = carray(_cast(pointer), 1)[0]
    _, lo, hi = _begin(pointer, work)
    x, out = _matrices(pointer, work, work.x), _matrices(pointer, work, work.out)
    tau, error = _taus(work), _flat(pointer, work, work.error)
    iters, safe = _flat(np.int64, work, work.iters), _flat(np.uint8, work, work.safe)
    A, B = _row_steps(pointer, work, *padded(work.n))
    options = (work.n_iters, work.tol, work.log != 0)
    numba_rows_linear.forward(x, tau, out, iters, error, safe, A, B, *options, lo, hi)
    _end(pointer, safe, lo, hi)


def rows_log_forward(pointer):
    """`numba_rows_log.forward`; the units are matrices."""
    work = carray(_cast(pointer), 1)[0]
    _, lo, hi = _begin(pointer, work)
    x, out = _matrices(pointer, work, work.x), _matrices(pointer, work, work.out)
    tau, error = _taus(work), _flat(pointer, work, work.error)
    iters, safe = _flat(np.int64, work, work.iters), _flat(np.uint8, work, work.safe)
    U, V = _row_steps(np.float64, work, work.n, work.n)
    options = (work.n_iters, work.tol, work.log != 0)
    numba_rows_log.forward(x, tau, safe, out, iters, error, U, V, *options, lo, hi)
    _add(pointer, _DONE, 1)


def rows_backward(pointer):
    """`numba_rows_linear.backward`; the units are matrices."""
    work = carray(_cast(pointer), 1)[0]
    _, lo, hi = _begin(pointer, work)
    grad, out = _matrices(pointer, work, work.grad), _matrices(pointer, work, work.out)
    dx, tau = _matrices(pointer, work, work.dx), _taus(work)
    iters, safe = _flat(np.int64, work, work.iters), _flat(np.uint8, work, work.safe)
    A, B = _row_steps(pointer, work, *padded(work.n))
    numba_rows_linear.backward(grad, out, tau, iters, safe, A, B, dx, work.log != 0, lo, hi)
    _add(pointer, _DONE, 1)


def rows_log_backward(pointer):
    """`numba_rows_log.backward`; the units are matrices."""
    work = carray(_cast(pointer), 1)[0]
    _, lo, hi = _begin(pointer, work)
    grad, x = _matrices(pointer, work, work.grad), _matrices(pointer, work, work.x)
    dx, tau = _matrices(pointer, work, work.dx), _taus(work)
    iters, safe = _flat(np.int64, work, work.iters), _flat(np.uint8, work, work.safe)
    U, V = _row_steps(np.float64, work, work.n, work.n)
    numba_rows_log.backward(grad, x, tau, iters, safe, U, V, dx, work.log != 0, lo, hi)
    _add(pointer, _DONE, 1)


def matching(pointer):
    """`numba_matching.matching`; the units are matrices."""
    work = carray(_cast(pointer), 1)[0]
    _, lo, hi = _begin(pointer, work)
    perm = carray(_to(np.int64, work.perm), (work.batch, work.n))
    infeasible = numba_matching.matching(_matrices(pointer, work, work.x), perm, lo, hi)
    _add(pointer, _UNSAFE, infeasible)
    _add(pointer, _DONE, 1)


def extremes(pointer):
    """`numba_extremes.extremes`, two numbers a part in `out`; the units are rows."""
    work = carray(_cast(pointer), 1)[0]
    part, lo, hi = _begin(pointer, work)
    x = carray(_to(pointer, work.x), work.batch * work.n * work.n)
    out = carray(_to(np.float64, work.out), 2 * work.parts)
    out[2 * part], out[2 * part + 1] = range_of(x, lo * work.n, hi * work.n)
    _add(pointer, _DONE, 1)


@cache
def _compiled(job: Callable[..., None], dtype: torch.dtype) -> Any:
    """A job as machine code for matrices of a dtype, from Numba's cache where it is there."""
    number = types.float32 if dtype == torch.float32 else types.float64
    code = cfunc(types.void(types.CPointer(number)), cache=True)(named(job))
    function = Function(code.address)
    function.code = code  # which owns the memory at that address
    return function


def run(
    job: Callable[..., None], dtype: torch.dtype, units: int, batch: int, n: int, **fields: float
) -> Work:
    """Do a job for a batch of matrices, in as many threads as pay.

    Arguments:
        job: One of the functions above.
        dtype: Of the matrices.
        units: What can be done independently: matrices, or blocks of them.
        batch: Number of matrices.
        n: Their size.
        fields: Further fields of `Work`; the arrays are contiguous.

    Returns:
        The work, done.

    Raises:
        MemoryError: there is no memory for the working arrays of a thread.
    """
    effort = batch * n * n * (_LOG_EFFORT if "log" in job.__name__ else 1)
    threads = 1 if effort < _SERIAL_BELOW else min(torch.get_num_threads(), units)
    work = Work(parts=threads, units=units, batch=batch, n=n, **fields)
    function, pointer = _compiled(job, dtype), ctypes.addressof(work)
    if work.taus == 0:
        work.taus, work.tau = 1, pointer + Work.temperature.offset
    call_in_threads(function, pointer, threads)
    while work.next < threads:
        function(pointer)
    if work.done < threads:  # Numba has printed why
        raise MemoryError(f"no memory for the working arrays of {job.__name__} at n = {n}")
    return work
