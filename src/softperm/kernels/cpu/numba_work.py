"""What a job has to do, as a C structure that Python fills and compiled code reads."""

from __future__ import annotations

import ctypes
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.extending import intrinsic

from softperm.kernels.cpu.numba_lanes import OPTIONS
from softperm.kernels.cpu.numba_simd import WIDTH

# next, done   parts begun and ended
# refused      matrices left to the log domain, or those that allow no permutation
# parts        into which the units, such as matrices, are cut
# n_taus       number of temperatures: one a matrix, or one for all
# kept         units whose scalings are kept: all or none
# x to perm    addresses of arrays
# temperature  where there is no array of them
_COUNTERS = ("next", "done", "refused")
_SIZES = ("parts", "units", "batch", "n", "n_taus", "n_iters", "kept", "log")
_ARRAYS = ("x", "tau", "out", "iters", "error", "safe", "A", "B", "grad", "dx", "perm")
NEXT, DONE, REFUSED = range(3)


class Work(ctypes.Structure):
    """What a job has to do; everything that is not given is 0."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in _COUNTERS + _SIZES + _ARRAYS),
        ("tol", ctypes.c_double),
        ("temperature", ctypes.c_double),
    )


_RECORD = numba.from_dtype(np.dtype(Work))


@intrinsic
def as_work(typingctx: Any, pointer: Any) -> Any:
    """The pointer as one to a `Work`."""
    kind = types.CPointer(_RECORD)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], context.get_value_type(kind))

    return kind(pointer), codegen


@intrinsic
def pointer_to(typingctx: Any, like: Any, address: Any) -> Any:
    """The address as a pointer like another, or as one to numbers of a dtype."""
    kind = like if isinstance(like, types.CPointer) else types.CPointer(like.dtype)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[1], context.get_value_type(kind))

    return kind(like, address), codegen


@intrinsic
def add(typingctx: Any, pointer: Any, counter: Any, amount: Any) -> Any:
    """Add to a counter, which all threads share; what it was before."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        counters = builder.bitcast(args[0], ir.IntType(64).as_pointer())
        at = builder.gep(counters, [args[1]])
        return builder.atomic_rmw("add", at, args[2], "seq_cst")

    return types.int64(pointer, types.int64, types.int64), codegen


@njit(**OPTIONS)
def begin(pointer, work):
    """The units lo to hi of the next part."""
    part = add(pointer, NEXT, 1)
    return work.units * part // work.parts, work.units * (part + 1) // work.parts


@njit(**OPTIONS)
def matrices(pointer, work, address):
    """The matrices at an address."""
    return carray(pointer_to(pointer, address), (work.batch, work.n, work.n))


@njit(**OPTIONS)
def per_matrix(pointer, work, address):
    """One number a matrix."""
    return carray(pointer_to(pointer, address), work.batch)


@njit(**OPTIONS)
def temperatures(work):
    """Temperatures."""
    return carray(pointer_to(np.float64, work.tau), work.n_taus)


@njit(**OPTIONS)
def row_errors(pointer, work, x):
    """Row errors; an array to be thrown away where nobody wants them."""
    if work.error:
        return per_matrix(pointer, work, work.error)
    return np.empty(work.batch, x.dtype)


@njit(**OPTIONS)
def lane_steps(pointer, work):
    """Scalings in lanes."""
    return carray(pointer_to(pointer, work.A), (work.kept, 2 * work.n_iters + 1, work.n, WIDTH))


@njit(**OPTIONS)
def row_steps(pointer, work, width):
    """Scalings of rows and, padded to a width, of columns."""
    A = carray(pointer_to(pointer, work.A), (work.kept, work.n_iters, work.n))
    return A, carray(pointer_to(pointer, work.B), (work.kept, work.n_iters + 1, width))


@njit(**OPTIONS)
def end(pointer, safe, lo, hi):
    """Count a part as done, and those of matrices lo to hi that are not safe."""
    refused = 0
    for b in range(lo, min(hi, safe.size)):
        refused += safe[b] == 0
    add(pointer, REFUSED, refused)
    add(pointer, DONE, 1)
