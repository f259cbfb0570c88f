"""What the compiled kernels are handed, as `src/layout.hpp` and `src/api.cpp` declare it."""

from __future__ import annotations

import ctypes

_WORK_SIZES = ("batch", "m", "n", "n_iters", "kept", "log", "n_taus", "threads", "in_lanes")
_WORK_ARRAYS = (
    *("x", "taus", "log_rows", "log_columns", "out", "iters", "error"),
    *("tier", "steps", "more_steps", "grad", "dx", "d_rows", "d_columns"),
)


class Work(ctypes.Structure):
    """What there is to do, as the compiled kernels read it; everything that is not given is 0."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in _WORK_SIZES),
        *((name, ctypes.c_double) for name in ("tol", "tau")),
        *((name, ctypes.c_void_p) for name in _WORK_ARRAYS),
    )


_MATCHES_SIZES = ("count", "m", "n", "threads", "lists_above")
_MATCHES_ARRAYS = ("matrices", "batch", "unmatched", "n_rows", "n_cols", "perm")


class Matches(ctypes.Structure):
    """The matrices to match, as the compiled kernel reads them; what is not given is 0."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in _MATCHES_SIZES),
        *((name, ctypes.c_void_p) for name in _MATCHES_ARRAYS),
    )


# By their sizes a library of another version is noticed.
LAYOUT = ctypes.sizeof(Work) * 1000 + ctypes.sizeof(Matches)
