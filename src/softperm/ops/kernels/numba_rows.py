"""Larger matrices on CPUs, one at a time, SIMD along the rows: layout and passes.

Rows are taken four at a time, and 16 columns, the last of them with a mask. The rows of one matrix
may be shared out over threads in chunks, each with a row of its own for the column sums. Scalings
are padded with zeros to whole groups of rows and whole vectors of columns.
"""

from __future__ import annotations

from numba import njit
from numba.extending import register_jitable

from softperm.ops.kernels.numba_exp import exp
from softperm.ops.kernels.numba_lanes import OPTIONS, in_range
from softperm.ops.kernels.numba_simd import (
    WIDTH,
    largest,
    load,
    load_first,
    maximum,
    splat,
    store,
    store_first,
    total,
)


@register_jitable
def padded(n: int) -> tuple[int, int]:
    """The number of scalings of the rows and of the columns, padding included."""
    return (n + 3) // 4 * 4, (n + WIDTH - 1) // WIDTH * WIDTH


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
    """Rows lo to hi of K = exp((x - row maximum) rate), and of the maxima."""
    n = x.shape[0]
    rest = n % WIDTH
    r = splat(K.dtype.type(in_range(rate)))
    for i in range(lo, min(hi, n)):
        top[i] = _row_maximum(x, i)
        m = splat(top[i])
        for at in range(i * n, (i + 1) * n - rest, WIDTH):
            store(K, at, exp((load(x, at) - m) * r))
        if rest:
            at = (i + 1) * n - rest
            store_first(K, at, exp((load_first(x, at, rest) - m) * r), rest)


@njit(**OPTIONS)
def exp_all(x, lo, hi, out):
    """Rows lo to hi of exp(x)."""
    n = x.shape[0]
    end = min(hi, n) * n
    rest = max(0, end - lo * n) % WIDTH
    for at in range(lo * n, end - rest, WIDTH):
        store(out, at, exp(load(x, at)))
    if rest:
        store_first(out, end - rest, exp(load_first(x, end - rest, rest)), rest)


@njit(**OPTIONS)
def _starts(n, i):
    """Where rows i to i + 3 begin; those beyond the last are the last."""
    last = (n - 1) * n
    at = i * n
    return at, min(at + n, last), min(at + 2 * n, last), min(at + 3 * n, last)


@njit(**OPTIONS)
def dot4(K, i, y, ty):
    """Rows i to i + 3 of K times row ty of y."""
    n, width = K.shape[1], y.shape[1]
    rest = n % WIDTH
    at0, at1, at2, at3 = _starts(n, i)
    r0 = r1 = r2 = r3 = splat(K.dtype.type(0))
    for j in range(0, n - rest, WIDTH):
        b = load(y, ty * width + j)
        r0 = r0 + load(K, at0 + j) * b
        r1 = r1 + load(K, at1 + j) * b
        r2 = r2 + load(K, at2 + j) * b
        r3 = r3 + load(K, at3 + j) * b
    if rest:
        j = n - rest
        b = load(y, ty * width + j)
        r0 = r0 + load_first(K, at0 + j, rest) * b
        r1 = r1 + load_first(K, at1 + j, rest) * b
        r2 = r2 + load_first(K, at2 + j, rest) * b
        r3 = r3 + load_first(K, at3 + j, rest) * b
    return total(r0), total(r1), total(r2), total(r3)


@njit(**OPTIONS)
def _add4(K, i, s0, s1, s2, s3, acc, c):
    """Add s_k times row i + k of K to row c of acc."""
    n, width = K.shape[1], acc.shape[1]
    rest = n % WIDTH
    at0, at1, at2, at3 = _starts(n, i)
    v0, v1, v2, v3 = splat(s0), splat(s1), splat(s2), splat(s3)
    for j in range(0, n - rest, WIDTH):
        t = load(acc, c * width + j)
        t = t + v0 * load(K, at0 + j)
        t = t + v1 * load(K, at1 + j)
        t = t + v2 * load(K, at2 + j)
        t = t + v3 * load(K, at3 + j)
        store(acc, c * width + j, t)
    if rest:
        j = n - rest
        t = load(acc, c * width + j)
        t = t + v0 * load_first(K, at0 + j, rest)
        t = t + v1 * load_first(K, at1 + j, rest)
        t = t + v2 * load_first(K, at2 + j, rest)
        t = t + v3 * load_first(K, at3 + j, rest)
        store(acc, c * width + j, t)


@njit(**OPTIONS)
def sweep(K, lo, hi, y, ty, c0, c1, reciprocal, s, ts, acc, c):
    """One pass over rows lo to hi of K: s_i = f(K_i . y), and row c of acc = sum_i s_i K_i.

    f(r) is 1 / r on the way forwards and c0_i - c1_i r on the way back; 0 for padding.
    """
    n = K.shape[0]
    acc[c] = 0
    one = K.dtype.type(1)
    for i in range(lo, hi, 4):
        r = dot4(K, i, y, ty)
        for k in range(4):
            if i + k >= n:
                s[ts, i + k] = 0
            elif reciprocal:
                s[ts, i + k] = one / r[k]
            else:
                s[ts, i + k] = c0[i + k] - c1[i + k] * r[k]
        _add4(K, i, s[ts, i], s[ts, i + 1], s[ts, i + 2], s[ts, i + 3], acc, c)


@njit(**OPTIONS)
def log_gradient(S, grad, log, lo, hi, dx, du, acc, c):
    """dx = d / d log S, its row sums in du and its column sums in row c of acc, rows lo to hi."""
    n, width = S.shape[0], acc.shape[1]
    rest = n % WIDTH
    acc[c] = 0
    for i in range(lo, min(hi, n)):
        row = splat(S.dtype.type(0))
        for j in range(0, n - rest, WIDTH):
            at = i * n + j
            g = load(grad, at) if log else load(grad, at) * load(S, at)
            store(dx, at, g)
            row = row + g
            store(acc, c * width + j, load(acc, c * width + j) + g)
        if rest:
            j = n - rest
            at = i * n + j
            g = load_first(grad, at, rest)
            if not log:
                g = g * load_first(S, at, rest)
            store_first(dx, at, g, rest)
            row = row + g
            store(acc, c * width + j, load(acc, c * width + j) + g)
        du[i] = total(row)


@njit(**OPTIONS)
def _product4(A, P, Q, B, i, j):
    """sum_t A_ti P_tj + Q_ti B_tj for rows i to i + 3 and the vector of columns from j on."""
    width = B.shape[1]
    w0 = w1 = w2 = w3 = splat(A.dtype.type(0))
    for t in range(A.shape[0]):
        p, b = load(P, t * width + j), load(B, t * width + j)
        w0 = w0 + splat(A[t, i]) * p + splat(Q[t, i]) * b
        w1 = w1 + splat(A[t, i + 1]) * p + splat(Q[t, i + 1]) * b
        w2 = w2 + splat(A[t, i + 2]) * p + splat(Q[t, i + 2]) * b
        w3 = w3 + splat(A[t, i + 3]) * p + splat(Q[t, i + 3]) * b
    return w0, w1, w2, w3


@njit(**OPTIONS)
def subtract_products(S, lo, hi, A, P, Q, B, rate, dx):
    """dx_ij = (dx_ij - S_ij sum_t (A_ti P_tj + Q_ti B_tj)) rate, for rows lo to hi."""
    n = S.shape[0]
    rest = n % WIDTH
    r = splat(S.dtype.type(in_range(rate)))
    for i in range(lo, min(hi, n), 4):
        for j in range(0, n - rest, WIDTH):
            for k, product in enumerate(_product4(A, P, Q, B, i, j)):
                if i + k < n:
                    at = (i + k) * n + j
                    store(dx, at, (load(dx, at) - product * load(S, at)) * r)
        if rest:
            for k, product in enumerate(_product4(A, P, Q, B, i, n - rest)):
                if i + k < n:
                    at = (i + k + 1) * n - rest
                    g = load_first(dx, at, rest) - product * load_first(S, at, rest)
                    store_first(dx, at, g * r, rest)
