"""The extremes of many numbers, compiled by Numba: PyTorch takes longer to find the kernel for it
than a small batch takes.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from softperm.ops.kernels.numba_lanes import OPTIONS
from softperm.ops.kernels.numba_simd import (
    WIDTH,
    keep_if_at_most,
    largest,
    load,
    maximum,
    minimum,
    smallest,
    splat,
)


@njit(**OPTIONS)
def extremes(x, lo, hi):
    """The smallest and the largest of numbers lo to hi, which is inf where there is a NaN."""
    infinity = splat(x.dtype.type(np.inf))
    low, high, numbers = infinity, splat(x.dtype.type(-np.inf)), splat(x.dtype.type(1))
    whole = hi - (hi - lo) % WIDTH
    for at in range(lo, whole, WIDTH):
        v = load(x, at)
        low, high = minimum(v, low), maximum(v, high)
        numbers = keep_if_at_most(numbers, v, infinity)
    least, most = smallest(low), largest(high)
    for at in range(whole, hi):
        least, most = min(least, x[at]), max(most, x[at])
        if np.isnan(x[at]):
            most = x.dtype.type(np.inf)
    return least, most if smallest(numbers) > 0 else x.dtype.type(np.inf)
