"""What the compiled kernels are handed, as `src/layout.hpp` and `src/api.cpp` declare it."""

from __future__ import annotations

from ctypes import Structure, c_double, c_int64, c_void_p, sizeof
from typing import Any

from torch import Tensor


def _fields(kind: Any, names: str) -> list[tuple[str, Any]]:
    return [(name, kind) for name in names.split()]


class Work(Structure):
    """What there is to do, as the compiled kernels read it; everything that is not given is 0."""

    _fields_ = (
        *_fields(c_int64, "batch m n n_iters log threads in_lanes n_taus first_tier kept"),
        *_fields(c_double, "tol tau"),
        *_fields(c_void_p, "x taus log_rows log_columns out iters error tier steps more_steps"),
        *_fields(c_void_p, "grad dx d_rows d_columns"),
    )


class Matches(Structure):
    """The matrices to match, as the compiled kernel reads them; what is not given is 0."""

    _fields_ = (
        *_fields(c_int64, "count m n threads lists_above"),
        *_fields(c_void_p, "matrices batch unmatched n_rows n_cols perm"),
    )


# By their sizes a library of another version is noticed.
LAYOUT = sizeof(Work) * 1000 + sizeof(Matches)


def address(tensor: Tensor | None) -> int | None:
    """Where a contiguous tensor begins."""
    return None if tensor is None else tensor.data_ptr()
