"""Larger matrices on CPUs, one at a time, SIMD along the rows: layout and passes.

Rows are padded to whole vectors and their number to a multiple of four, unless both fit; they are
taken four at a time. Those of one matrix may be shared out over threads in chunks, each with a row
of its own for the column sums.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from softperm.ops.kernels.numba_exp import exp
from softperm.ops.kernels.numba_lanes import OPTIONS, in_range
from softperm.ops.kernels.numba_simd import WIDTH, load, splat, store, total


@njit(**OPTIONS)
def padded(n):
    """The number of rows and the width of a padded matrix."""
    return (n + 3) // 4 * 4, (n + WIDTH - 1) // WIDTH * WIDTH


@njit(**OPTIONS)
def workspace(matrix):
    """An uninitialised padded matrix: `matrix` itself where it needs no padding."""
    n = matrix.shape[0]
    rows, width = padded(n)
    return matrix if width == n else np.empty((rows, width), matrix.dtype)


@njit(**OPTIONS)
def exponentials(x, rate, lo, hi, K, top):
    """Rows lo to hi of K = exp((x - row maximum) rate); the padding is 0."""
    n = x.shape[0]
    width = K.shape[1]
    r = splat(K.dtype.type(in_range(rate)))
    for i in range(lo, hi):
        if i >= n:
            K[i] = 0
            continue
        m = x[i, 0]
        for j in range(1, n):
            m = max(m, x[i, j])
        top[i] = m
        for j in range(n):
            K[i, j] = x[i, j] - m
        K[i, n:] = -np.inf
        for at in range(i * width, (i + 1) * width, WIDTH):
            store(K, at, exp(load(K, at) * r))


@njit(**OPTIONS)
def copy(out, log, lo, hi, S):
    """Rows lo to hi of S from those of the result, S or log S; the padding is 0."""
    n = out.shape[0]
    width = S.shape[1]
    for i in range(lo, hi):
        if i >= n:
            S[i] = 0
            continue
        S[i, :n] = out[i]
        S[i, n:] = -np.inf if log else 0
        if log:
            for at in range(i * width, (i + 1) * width, WIDTH):
                store(S, at, exp(load(S, at)))


@njit(**OPTIONS)
def dot4(K, i, y, ty):
    """Rows i to i + 3 of K times row ty of y."""
    width = K.shape[1]
    r0 = r1 = r2 = r3 = splat(K.dtype.type(0))
    for j in range(0, width, WIDTH):
        b = load(y, ty * width + j)
        at = i * width + j
        r0 = r0 + load(K, at) * b
        r1 = r1 + load(K, at + width) * b
        r2 = r2 + load(K, at + 2 * width) * b
        r3 = r3 + load(K, at + 3 * width) * b
    return total(r0), total(r1), total(r2), total(r3)


@njit(**OPTIONS)
def _add4(K, i, s0, s1, s2, s3, acc, c):
    """Add s_k times row i + k of K to row c of acc."""
    width = K.shape[1]
    v0, v1, v2, v3 = splat(s0), splat(s1), splat(s2), splat(s3)
    for j in range(0, width, WIDTH):
        at = i * width + j
        t = load(acc, c * width + j)
        t = t + v0 * load(K, at)
        t = t + v1 * load(K, at + width)
        t = t + v2 * load(K, at + 2 * width)
        t = t + v3 * load(K, at + 3 * width)
        store(acc, c * width + j, t)


@njit(**OPTIONS)
def sweep(K, n, lo, hi, y, ty, c0, c1, reciprocal, s, ts, acc, c):
    """One pass over rows lo to hi of K: s_i = f(K_i . y), and row c of acc = sum_i s_i K_i.

    f(r) is 1 / r on the way forwards and c0_i - c1_i r on the way back; 0 for padding.
    """
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
def _product4(A, P, Q, B, i, j, width):
    """sum_t A_ti P_tj + Q_ti B_tj for rows i to i + 3 and the vector of columns from j on."""
    w0 = w1 = w2 = w3 = splat(A.dtype.type(0))
    for t in range(A.shape[0]):
        p, b = load(P, t * width + j), load(B, t * width + j)
        w0 = w0 + splat(A[t, i]) * p + splat(Q[t, i]) * b
        w1 = w1 + splat(A[t, i + 1]) * p + splat(Q[t, i + 1]) * b
        w2 = w2 + splat(A[t, i + 2]) * p + splat(Q[t, i + 2]) * b
        w3 = w3 + splat(A[t, i + 3]) * p + splat(Q[t, i + 3]) * b
    return w0, w1, w2, w3


@njit(**OPTIONS)
def subtract_products(S, n, lo, hi, A, P, Q, B, rate, dx):
    """dx_ij = (dx_ij - S_ij sum_t (A_ti P_tj + Q_ti B_tj)) rate, for rows lo to hi."""
    width = S.shape[1]
    r = splat(S.dtype.type(in_range(rate)))
    w = np.empty((4, WIDTH), S.dtype)
    for i in range(lo, min(hi, n), 4):
        for j in range(0, width, WIDTH):
            products = _product4(A, P, Q, B, i, j, width)
            if i + 4 <= n and j + WIDTH <= n:
                for k, product in enumerate(products):
                    at = (i + k) * n + j
                    g = load(dx, at) - product * load(S, (i + k) * width + j)
                    store(dx, at, g * r)
                continue
            for k, product in enumerate(products):
                store(w, k * WIDTH, product * load(S, (i + k) * width + j))
            for k in range(min(4, n - i)):
                for m in range(min(WIDTH, n - j)):
                    dx[i + k, j + m] = (dx[i + k, j + m] - w[k, m]) * S.dtype.type(in_range(rate))
