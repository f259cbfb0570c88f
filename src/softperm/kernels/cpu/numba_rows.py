"""Larger matrices on CPUs, one at a time, SIMD along the rows: layout and passes.

Rows are taken in groups, so that every vector of column factors and column sums is loaded once for
many of them, and 16 columns at a time, the last of them with a mask. The rows of one matrix may be
shared out over threads in chunks, each with a row of its own for the column sums. Column scalings
are padded with zeros to whole vectors.
"""

from __future__ import annotations

from numba import njit
from numba.extending import register_jitable

from softperm.kernels.cpu.numba_exp import exp
from softperm.kernels.cpu.numba_group import (
    HALF,
    QUARTER,
    add_multiples,
    add_products,
    add_rows,
    spread,
    totals,
    zeros,
)
from softperm.kernels.cpu.numba_lanes import OPTIONS, in_range
from softperm.kernels.cpu.numba_simd import (
    WIDTH,
    drop_first,
    keep_nan,
    largest,
    load,
    load_first,
    maximum,
    splat,
    store,
    store_first,
    total,
)

_LARGEST_GROUPS_UP_TO = 400  # of n: two of the largest groups still fit into the first cache


@register_jitable
def padded(n: int) -> int:
    """The number of column scalings, padding included."""
    return (n + WIDTH - 1) // WIDTH * WIDTH


@njit(**OPTIONS)
def _row_maximum(x, i):
    """The largest entry of row i."""
    n = x.shape[1]
    whole = n - n % WIDTH
    top = x[i, 0]
    if whole:
        most = load(x, i * n)
        for j in range(WIDTH, whole, WIDTH):
            most = maximum(most, load(x, i * n + j))
        top = largest(most)
    for j in range(whole, n):
        top = max(top, x[i, j])
    return top


@njit(**OPTIONS)
def exponentials(x, rate, lo, hi, K, top):
    """Rows lo to hi of K = exp((x - row maximum) rate), and of the maxima; NaN stays."""
    n, width = x.shape[0], K.shape[1]
    rest = n % WIDTH
    whole = n - rest
    r = splat(K.dtype.type(in_range(rate)))
    for i in range(lo, hi):
        top[i] = _row_maximum(x, i)
        m = splat(top[i])
        for j in range(0, whole, WIDTH):
            X = (load(x, i * n + j) - m) * r
            store(K, i * width + j, keep_nan(exp(X), X))
        if rest:
            X = (load_first(x, i * n + whole, rest) - m) * r
            store_first(K, i * width + whole, keep_nan(exp(X), X), rest)


@njit(**OPTIONS)
def scaled(K, a, b, t, lo, hi, out):
    """Rows lo to hi of a_i K_ij b_tj."""
    n, width = out.shape[0], K.shape[1]
    rest = n % WIDTH
    whole = n - rest
    first = t * b.shape[1]
    for i in range(lo, hi):
        v = splat(a[i])
        for j in range(0, whole, WIDTH):
            store(out, i * n + j, v * load(K, i * width + j) * load(b, first + j))
        if rest:
            s = v * load_first(K, i * width + whole, rest) * load(b, first + whole)
            store_first(out, i * n + whole, s, rest)


@njit(**OPTIONS)
def read_rows(x, is_log, lo, hi, S):
    """Rows lo to hi of S = x, or exp(x) where x is its logarithm."""
    n, width = x.shape[0], S.shape[1]
    rest = n % WIDTH
    whole = n - rest
    for i in range(lo, hi):
        for j in range(0, whole, WIDTH):
            v = load(x, i * n + j)
            store(S, i * width + j, exp(v) if is_log else v)
        if rest:
            v = load_first(x, i * n + whole, rest)
            store_first(S, i * width + whole, exp(v) if is_log else v, rest)


@njit(**OPTIONS)
def _sweep(K, lo, hi, none, y, ty, c0, c1, reciprocal, s, ts, acc, c):
    """`sweep` in groups of rows, of which there is at least one; the last may overlap.

    Every group is multiplied with y while the one before is added to acc: the former comes from the
    second cache, the latter from the first.
    """
    stride, width, size = K.shape[1], y.shape[1], len(none)
    rest = stride % WIDTH
    whole = stride - rest
    factors, before = none, lo
    for group in range(lo, hi, size):
        i = min(group, hi - size)
        r = none
        for j in range(0, whole, WIDTH):
            at = c * width + j
            more = add_rows(load(acc, at), factors, K, before * stride + j, stride, WIDTH)
            store(acc, at, more)
            r = add_products(r, K, i * stride + j, stride, WIDTH, load(y, ty * width + j))
        if rest:
            at = c * width + whole
            more = add_rows(load(acc, at), factors, K, before * stride + whole, stride, rest)
            store(acc, at, more)
            r = add_products(r, K, i * stride + whole, stride, rest, load(y, ty * width + whole))
        f = totals(r)
        if reciprocal:
            f = splat(K.dtype.type(1)) / f
        else:
            f = load_first(c0, i, size) - load_first(c1, i, size) * f
        store_first(s, ts * s.shape[1] + i, f, size)
        factors, before = spread(none, drop_first(f, group - i)), i
    for j in range(0, whole, WIDTH):
        at = c * width + j
        store(acc, at, add_rows(load(acc, at), factors, K, before * stride + j, stride, WIDTH))
    if rest:
        at = c * width + whole
        store(acc, at, add_rows(load(acc, at), factors, K, before * stride + whole, stride, rest))


@njit(**OPTIONS)
def sweep(K, lo, hi, y, ty, c0, c1, reciprocal, s, ts, acc, c):
    """One pass over rows lo to hi of K: s_i = f(K_i . y), and row c of acc = sum_i s_i K_i.

    f(r) is 1 / r on the way forwards and c0_i - c1_i r on the way back.
    """
    acc[c] = 0
    many, four, one = zeros(K, QUARTER), zeros(K, 4), zeros(K, 1)
    if hi - lo >= len(many) and K.shape[1] <= _LARGEST_GROUPS_UP_TO:
        _sweep(K, lo, hi, many, y, ty, c0, c1, reciprocal, s, ts, acc, c)
    elif hi - lo >= 4:
        _sweep(K, lo, hi, four, y, ty, c0, c1, reciprocal, s, ts, acc, c)
    elif hi > lo:
        _sweep(K, lo, hi, one, y, ty, c0, c1, reciprocal, s, ts, acc, c)


@njit(**OPTIONS)
def log_gradient(S, grad, log, lo, hi, dx, du, acc, c):
    """dx = d / d log S, its row sums in du and its column sums in row c of acc, rows lo to hi."""
    n, stride, width = dx.shape[0], S.shape[1], acc.shape[1]
    rest = n % WIDTH
    whole = n - rest
    acc[c] = 0
    for i in range(lo, hi):
        row = splat(S.dtype.type(0))
        for j in range(0, whole, WIDTH):
            g = load(grad, i * n + j)
            if not log:
                g = g * load(S, i * stride + j)
            store(dx, i * n + j, g)
            row = row + g
            store(acc, c * width + j, load(acc, c * width + j) + g)
        if rest:
            g = load_first(grad, i * n + whole, rest)
            if not log:
                g = g * load_first(S, i * stride + whole, rest)
            store_first(dx, i * n + whole, g, rest)
            row = row + g
            store(acc, c * width + whole, load(acc, c * width + whole) + g)
        du[i] = total(row)


@njit(**OPTIONS)
def _subtract(S, lo, hi, none, A, P, Q, B, r, dx):
    """`subtract_products` in whole groups of rows; the first row that is left."""
    n, stride, width, size = dx.shape[0], S.shape[1], B.shape[1], len(none)
    for i in range(lo, hi - size + 1, size):
        for j in range(0, n, WIDTH):
            products = none
            for t in range(A.shape[0]):
                products = add_multiples(products, A, t * n + i, load(P, t * width + j))
                products = add_multiples(products, Q, t * n + i, load(B, t * width + j))
            count = min(n - j, WIDTH)
            for k, product in enumerate(products):
                at = (i + k) * n + j
                g = load_first(dx, at, count)
                g = g - product * load_first(S, (i + k) * stride + j, count)
                store_first(dx, at, g * r, count)
    return hi - (hi - lo) % size


@njit(**OPTIONS)
def subtract_products(S, lo, hi, A, P, Q, B, rate, dx):
    """dx_ij = (dx_ij - S_ij sum_t (A_ti P_tj + Q_ti B_tj)) rate, for rows lo to hi."""
    r = splat(S.dtype.type(in_range(rate)))
    i = _subtract(S, lo, hi, zeros(S, HALF), A, P, Q, B, r, dx)
    i = _subtract(S, i, hi, zeros(S, 4), A, P, Q, B, r, dx)
    _subtract(S, i, hi, zeros(S, 1), A, P, Q, B, r, dx)
