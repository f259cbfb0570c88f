"""The SIMD building blocks of the CPU kernels, against NumPy."""

# mypy: disable-error-code="call-arg"

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numba import njit

from softperm.kernels.cpu.numba_exp import exp, exp_as, log
from softperm.kernels.cpu.numba_group import (
    QUARTER,
    add_multiples,
    add_products,
    add_rows,
    spread,
    totals,
    zeros,
)
from softperm.kernels.cpu.numba_simd import (
    WIDTH,
    aligned,
    drop_first,
    largest,
    load,
    smallest,
    store,
    store_first,
    total,
    transpose,
)

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


@njit
def apply_drop_first(x: Any, count: int, out: Any) -> None:
    store(out, 0, drop_first(load(x, 0), count))


@njit
def both_products(x: Any, y: Any, none: Any, rest: int, row_sums: Any, column_sums: Any) -> None:
    """x y, and the sum of the rows of x, each times its number of x y; the rest is masked."""
    n, size, whole = x.shape[1], len(none), x.shape[1] - rest
    r = none
    for j in range(0, whole, WIDTH):
        r = add_products(r, x, j, n, WIDTH, load(y, j))
    f: Any = totals(add_products(r, x, whole, n, rest, load(y, whole)))
    store_first(row_sums, 0, f, size)
    factors = spread(none, f)
    for j in range(0, whole, WIDTH):
        store(column_sums, j, add_rows(load(column_sums, j), factors, x, j, n, WIDTH))
    last = add_rows(load(column_sums, whole), factors, x, whole, n, rest)
    store(column_sums, whole, last)


@njit
def products_of_many(x: Any, y: Any, rest: int, row_sums: Any, column_sums: Any) -> int:
    both_products(x, y, zeros(x, QUARTER), rest, row_sums, column_sums)
    return len(zeros(x, QUARTER))


@njit
def products_of_one(x: Any, y: Any, rest: int, row_sums: Any, column_sums: Any) -> int:
    both_products(x, y, zeros(x, 1), rest, row_sums, column_sums)
    return 1


@njit
def multiples(a: Any, x: Any, out: Any) -> None:
    products: Any = add_multiples(zeros(x, 4), a, 3, load(x, 0))
    for k, product in enumerate(products):
        store(out, k * WIDTH, product)


@njit
def alignments(dtype: Any) -> tuple[int, Any]:
    x = aligned((3, 5), dtype)
    x[:] = 1
    return x.ctypes.data % 64, x


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


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [0, 1, 7, WIDTH])
def test_dropping_the_first(dtype: Any, count: int) -> None:
    x = np.random.default_rng(0).normal(size=WIDTH).astype(dtype)
    out = np.empty_like(x)
    apply_drop_first(x, count, out)
    assert (out[:count] == 0).all()
    assert (out[count:] == x[count:]).all()


@pytest.mark.parametrize("products", [products_of_one, products_of_many])
@pytest.mark.parametrize("dtype", DTYPES)
def test_products_of_a_group_of_rows(products: Any, dtype: Any) -> None:
    generator = np.random.default_rng(0)
    rest, n = 5, 2 * WIDTH + 5
    x = generator.normal(size=(WIDTH, n)).astype(dtype)
    y = np.zeros(3 * WIDTH, dtype)
    y[:n] = generator.normal(size=n)
    row_sums, column_sums = np.zeros(WIDTH, dtype), np.zeros(3 * WIDTH, dtype)
    size = products(x, y, rest, row_sums, column_sums)
    wanted = x[:size].astype(np.float64) @ y[:n]
    assert row_sums[:size] == pytest.approx(wanted, rel=1e-4)
    assert (row_sums[size:] == 0).all()
    assert column_sums[:n] == pytest.approx(wanted @ x[:size], rel=1e-4)
    assert (column_sums[n:] == 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_multiples_of_a_vector(dtype: Any) -> None:
    a, x = np.random.default_rng(0).normal(size=(2, WIDTH)).astype(dtype)
    out = np.empty((4, WIDTH), dtype)
    multiples(a, x, out)
    assert out == pytest.approx(np.outer(a[3:7], x))


@pytest.mark.parametrize("dtype", DTYPES)
def test_arrays_begin_where_cache_lines_do(dtype: Any) -> None:
    for _ in range(20):
        past, x = alignments(dtype)
        assert past == 0
        assert x.dtype == dtype
        assert x.shape == (3, 5)
