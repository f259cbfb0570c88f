"""The SIMD exponential, logarithm and transposition of the CPU kernels, against NumPy."""

# mypy: disable-error-code="call-arg"

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numba import njit

from softperm.ops.kernels.numba_exp import exp, exp_as, log
from softperm.ops.kernels.numba_simd import WIDTH, largest, load, smallest, store, total, transpose

DTYPES = [np.float32, np.float64]


@njit(error_model="numpy")
def apply_exp(x: Any, out: Any) -> None:
    for at in range(0, x.size, WIDTH):
        store(out, at, exp(load(x, at)))


@njit(error_model="numpy")
def apply_exp_as(x: Any, out: Any) -> None:
    for at in range(0, x.size, WIDTH):
        store(out, at, exp_as(out, load(x, at)))


@njit(error_model="numpy")
def apply_log(x: Any, out: Any) -> None:
    for at in range(0, x.size, WIDTH):
        store(out, at, log(load(x, at)))


@njit
def apply_transpose(x: Any, out: Any) -> None:
    transpose(x, 0, WIDTH, out, 0, WIDTH)


@njit
def reductions(x: Any) -> tuple[Any, Any, Any]:
    return total(load(x, 0)), largest(load(x, 0)), smallest(load(x, 0))


def lowest(dtype: Any) -> float:
    """The logarithm of the smallest normal number, nearly."""
    return -87.0 if dtype == np.float32 else -708.0


@pytest.mark.parametrize("dtype", DTYPES)
def test_exponential(dtype: Any) -> None:
    x = np.linspace(lowest(dtype) + 0.1, -lowest(dtype), 160_000).astype(dtype)
    out = np.empty_like(x)
    apply_exp(x, out)
    wanted = np.exp(x.astype(np.longdouble))
    assert np.abs(out / wanted - 1).max() < 3 * np.finfo(dtype).eps


@pytest.mark.parametrize("function", [apply_exp, apply_exp_as])
@pytest.mark.parametrize("dtype", DTYPES)
def test_exponential_of_what_is_too_low_is_zero(function: Any, dtype: Any) -> None:
    x = np.full(WIDTH, -np.inf, np.float64 if function is apply_exp_as else dtype)
    x[::2] = lowest(dtype) - 10
    out = np.ones(WIDTH, dtype)
    function(x, out)
    assert (out == 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_exponential_of_a_float64_loses_nothing_far_from_zero(dtype: Any) -> None:
    x = np.linspace(lowest(dtype) + 0.1, 0, 160_000)
    out = np.empty(x.size, dtype)
    apply_exp_as(x, out)
    wanted = np.exp(x.astype(np.longdouble))
    assert np.abs(out / wanted - 1).max() < 3 * np.finfo(dtype).eps


@pytest.mark.parametrize("dtype", DTYPES)
def test_logarithm(dtype: Any) -> None:
    x = np.exp(np.linspace(lowest(dtype) + 0.1, -lowest(dtype), 160_000)).astype(dtype)
    out = np.empty(x.size, np.float64)
    apply_log(x, out)
    wanted = np.log(x.astype(np.longdouble))
    # The exponent's part is exact to float64. The fraction's is below 0.36 in magnitude and rounded
    # some four times (m + 1, the quotient, the sum of the series, the product), by eps / 2 each.
    rounding = 4 * 0.36 * np.finfo(dtype).eps / 2
    assert np.abs(out - wanted).max() < rounding + 2e-16 * np.abs(wanted).max()


@pytest.mark.parametrize("dtype", DTYPES)
def test_transposition(dtype: Any) -> None:
    x = np.random.default_rng(0).random((WIDTH, WIDTH)).astype(dtype)
    out = np.empty_like(x)
    apply_transpose(x, out)
    assert (out == x.T).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_reductions(dtype: Any) -> None:
    x = np.random.default_rng(0).normal(size=WIDTH).astype(dtype)
    found = reductions(x)
    assert found[0] == pytest.approx(x.sum(dtype=np.float64), rel=1e-5)
    assert found[1:] == (x.max(), x.min())
