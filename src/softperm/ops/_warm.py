"""Compile ahead of the first call."""

from __future__ import annotations

import torch

from softperm._checks import require_positive_int
from softperm.kernels.dispatch import numba_cpu


def warm_up(n: int | None = None, dtype: torch.dtype | None = None) -> None:
    """Compile the CPU kernels now, so that later calls need not.

    The first call of `sinkhorn` or `matching` on a machine compiles what it needs, which takes from
    seconds to a minute for everything; the result is cached on disk beside the package (or in the
    user's cache where that cannot be written), and later processes load it in a moment.

    ``warm_up(n)`` covers the calls without `tol` on matrices of that size, forwards and backwards;
    ``warm_up()`` covers all.

    Arguments:
        n: Size of the matrices to be ready for; every size, with `tol` or without, when omitted.
        dtype: float32 or float64; both when omitted.

    Raises:
        TypeError: `n` is not an int.
        ValueError: `n` is below 1, or `dtype` is another one.

    Example:
        >>> warm_up(4, torch.float32)
    """
    if n is not None:
        require_positive_int(n, "n")
    if dtype not in (None, torch.float32, torch.float64):
        raise ValueError(f"dtype must be float32 or float64, got {dtype}")
    numba_cpu().warm_up(n, (torch.float32, torch.float64) if dtype is None else (dtype,))
