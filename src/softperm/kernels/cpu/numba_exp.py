"""Exponential and logarithm of SIMD vectors.

`math.exp` in a Numba loop is one call an element; this polynomial is 20 times quicker.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from softperm.kernels.cpu.numba_simd import (
    Vector,
    floor,
    keep_if_above,
    maximum,
    minimum,
    power_of_two,
    rough_log2,
    splat,
    to_double,
    to_dtype_of,
)

# exp(x) = 2^k exp(r) with r = x - k log 2, |r| <= log(2) / 2, and a Taylor polynomial for exp(r).
_DEGREE = {types.float32: 6, types.float64: 13}
_LOG2_E = 1.4426950408889634
_LOG_2 = {  # in two parts, of which the first times k is exact
    types.float32: (0.693359375, -2.12194440e-4),
    types.float64: (6.93145751953125e-1, 1.42860682030941723212e-6),
}
_LOG_TERMS = {types.float32: 6, types.float64: 12}
_RANGE = {types.float32: (-87.0, 88.0), types.float64: (-708.0, 709.0)}


def exp(x: Any) -> Any:
    """exp(x) of a `Vector` within about 2 ulp; 0 below the normal range. In compiled code only."""
    raise NotImplementedError("exp is for compiled code")


def exp_as(array: Any, x: Any) -> Any:
    """exp(x) of a float64 `Vector` in the dtype of `array`, as exact for large |x| as for small.

    In compiled code only.
    """
    raise NotImplementedError("exp_as is for compiled code")


def log(x: Any) -> Any:
    """log(x) of a `Vector` in the normal range, in float64, within 2 ulp of 1 of the dtype of x.

    In compiled code only.
    """
    raise NotImplementedError("log is for compiled code")


def _coefficients(dtype: Any) -> tuple[Any, ...]:
    factorials = np.cumprod(np.arange(1, _DEGREE[dtype] + 1, dtype=np.float64))
    return tuple(np.dtype(str(dtype)).type(1 / f) for f in (*factorials[::-1], 1.0))


@overload(exp, jit_options={"fastmath": {"contract"}})
def _exp(x: Any) -> Any:
    if not isinstance(x, Vector):
        return None
    dtype = np.dtype(str(x.dtype)).type
    low, high = (dtype(c) for c in _RANGE[x.dtype])
    log2_e = dtype(_LOG2_E)
    log_2, log_2_rest = (dtype(c) for c in _LOG_2[x.dtype])
    half = dtype(0.5)
    first, *rest = _coefficients(x.dtype)
    others = tuple(rest)

    def implementation(x: Any) -> Any:
        y = minimum(maximum(x, splat(low)), splat(high))
        k = floor(y * splat(log2_e) + splat(half))
        r = (y - k * splat(log_2)) - k * splat(log_2_rest)
        p = splat(first)
        for c in others:
            p = p * r + splat(c)
        return keep_if_above(p * power_of_two(k), x, splat(low))

    return implementation


@overload(exp_as, jit_options={"fastmath": {"contract"}})
def _exp_as(array: Any, x: Any) -> Any:
    if not isinstance(x, Vector):
        return None
    if array.dtype == types.float64:

        def as_it_is(array: Any, x: Any) -> Any:
            return exp(x)

        return as_it_is
    low, high = _RANGE[types.float32]
    first, *rest = _coefficients(types.float32)
    others = tuple(rest)

    def implementation(array: Any, x: Any) -> Any:
        y = minimum(maximum(x, splat(low)), splat(high))
        k = floor(y * splat(_LOG2_E) + splat(0.5))
        r = to_dtype_of(array, y - k * splat(0.6931471805599453))
        p = splat(first)
        for c in others:
            p = p * r + splat(c)
        p = p * power_of_two(to_dtype_of(array, k))
        return keep_if_above(p, to_dtype_of(array, x), splat(np.float32(low)))

    return implementation


@overload(log, jit_options={"fastmath": {"contract"}})
def _log(x: Any) -> Any:
    if not isinstance(x, Vector):
        return None
    dtype = np.dtype(str(x.dtype)).type
    # log(x) = k log 2 + 2 artanh(f) with x = 2^k m, 0.7 < m < 1.42, f = (m - 1) / (m + 1).
    first, *rest = (dtype(2 / k) for k in range(2 * _LOG_TERMS[x.dtype] - 1, 0, -2))
    others = tuple(rest)
    one, shift = dtype(1.0), dtype(0.586)

    def implementation(x: Any) -> Any:
        k = floor(rough_log2(x) + splat(shift))
        m = x * power_of_two(splat(dtype(0)) - k)
        f = (m - splat(one)) / (m + splat(one))
        square = f * f
        p = splat(first)
        for c in others:
            p = p * square + splat(c)
        return to_double(p * f) + to_double(k) * splat(0.6931471805599453)

    return implementation
