"""Small matrices on CPUs, 16 at a time, each in its own SIMD lane: layout and passes.

Rows of a small matrix are too short for SIMD; here every operation works on the same entry of 16
matrices, so no lane idles and no sum crosses lanes. An array in lanes has a last dimension of 16.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numba.extending import register_jitable

from softperm.kernels.cpu.numba_simd import (
    WIDTH,
    load,
    minimum,
    splat,
    store,
    to_dtype_of,
    transpose,
)

OPTIONS = {"error_model": "numpy", "fastmath": {"contract"}}


@njit(**OPTIONS)
def read(x, first, out):
    """Transpose up to 16 matrices into lanes; lanes left over repeat the last matrix."""
    size = x.shape[1] * x.shape[2]
    source, target = x.reshape(x.size), out.reshape(out.size)
    whole = 0
    if first + WIDTH <= x.shape[0]:
        whole = size - size % WIDTH
        for at in range(0, whole, WIDTH):
            transpose(x, first * size + at, size, out, at * WIDTH, WIDTH)
    for lane in range(WIDTH):
        start = min(first + lane, x.shape[0] - 1) * size
        for at in range(whole, size):
            target[at * WIDTH + lane] = source[start + at]


@njit(**OPTIONS)
def write(values, first, wanted, out):
    """Transpose the lanes in which `wanted` is not 0 back to their matrices."""
    size = out.shape[1] * out.shape[2]
    source, target = values.reshape(values.size), out.reshape(out.size)
    whole = 0
    if first + WIDTH <= out.shape[0] and wanted.all():
        whole = size - size % WIDTH
        for at in range(0, whole, WIDTH):
            transpose(values, at * WIDTH, WIDTH, out, first * size + at, size)
    for lane in range(min(WIDTH, out.shape[0] - first)):
        if wanted[lane]:
            start = (first + lane) * size
            for at in range(whole, size):
                target[start + at] = source[at * WIDTH + lane]


@register_jitable
def rate_of(tau):
    """1 / tau, finite."""
    return 1.0 / max(tau, 1e-300)


@njit(**OPTIONS)
def in_range(rate):
    """The rate where float32 is computed with: finite, for 0 times infinity would be NaN."""
    return min(rate, 1e38)


@njit(**OPTIONS)
def rates(tau, first):
    """1 / tau of 16 matrices in float64."""
    rate = np.empty(WIDTH, np.float64)
    for lane in range(WIDTH):
        rate[lane] = rate_of(tau[min(first + lane, tau.size - 1)])
    return rate


@njit(**OPTIONS)
def multiply(G, rate):
    """G times 1 / tau."""
    speed = to_dtype_of(G, minimum(load(rate, 0), splat(in_range(np.inf))))
    for at in range(0, G.size, WIDTH):
        store(G, at, load(G, at) * speed)


@njit(**OPTIONS)
def _dot(K, i, y, t):
    """Row i of K times row t of y."""
    n = K.shape[1]
    r = splat(K.dtype.type(0))
    for j in range(n):
        r = r + load(K, (i * n + j) * WIDTH) * load(y, (t * n + j) * WIDTH)
    return r


@njit(**OPTIONS)
def _dot4(K, i, y, t):
    """Rows i to i + 3 of K times row t of y: y is loaded once, and four sums run side by side."""
    n = K.shape[1]
    r0 = r1 = r2 = r3 = splat(K.dtype.type(0))
    for j in range(n):
        b = load(y, (t * n + j) * WIDTH)
        at = (i * n + j) * WIDTH
        r0 = r0 + load(K, at) * b
        r1 = r1 + load(K, at + n * WIDTH) * b
        r2 = r2 + load(K, at + 2 * n * WIDTH) * b
        r3 = r3 + load(K, at + 3 * n * WIDTH) * b
    return r0, r1, r2, r3


@njit(**OPTIONS)
def _add(K, i, s, acc, t):
    """Add s times row i of K to row t of acc."""
    n = K.shape[1]
    for j in range(n):
        at = (t * n + j) * WIDTH
        store(acc, at, load(acc, at) + s * load(K, (i * n + j) * WIDTH))


@njit(**OPTIONS)
def _add4(K, i, s, acc, t):
    """Add s[k] times row i + k of K to row t of acc, for four rows."""
    n = K.shape[1]
    for j in range(n):
        at = (i * n + j) * WIDTH
        total = load(acc, (t * n + j) * WIDTH)
        total = total + s[0] * load(K, at)
        total = total + s[1] * load(K, at + n * WIDTH)
        total = total + s[2] * load(K, at + 2 * n * WIDTH)
        total = total + s[3] * load(K, at + 3 * n * WIDTH)
        store(acc, (t * n + j) * WIDTH, total)


@njit(**OPTIONS)
def _scalar(r, i, c0, c1, reciprocal):
    """What a row contributes with: 1 / r on the way forwards, c0 - c1 r on the way back."""
    if reciprocal:
        return splat(c0.dtype.type(1)) / r
    return load(c0, i * WIDTH) - load(c1, i * WIDTH) * r


@njit(**OPTIONS)
def sweep(K, y, ty, c0, c1, reciprocal, s, ts, acc, tacc):
    """One pass over K: s_i = f(K_i . y) for every row, and acc = sum_i s_i K_i.

    f(r) is 1 / r on the way forwards and c0_i - c1_i r on the way back. Row ty of y, row ts of s
    and row tacc of acc take part.
    """
    n = K.shape[1]
    for j in range(n):
        store(acc, (tacc * n + j) * WIDTH, splat(K.dtype.type(0)))
    whole = n - n % 4
    for i in range(0, whole, 4):
        r0, r1, r2, r3 = _dot4(K, i, y, ty)
        s0 = _scalar(r0, i, c0, c1, reciprocal)
        s1 = _scalar(r1, i + 1, c0, c1, reciprocal)
        s2 = _scalar(r2, i + 2, c0, c1, reciprocal)
        s3 = _scalar(r3, i + 3, c0, c1, reciprocal)
        at = (ts * n + i) * WIDTH
        store(s, at, s0)
        store(s, at + WIDTH, s1)
        store(s, at + 2 * WIDTH, s2)
        store(s, at + 3 * WIDTH, s3)
        _add4(K, i, (s0, s1, s2, s3), acc, tacc)
    for i in range(whole, n):
        s0 = _scalar(_dot(K, i, y, ty), i, c0, c1, reciprocal)
        store(s, (ts * n + i) * WIDTH, s0)
        _add(K, i, s0, acc, tacc)


@njit(**OPTIONS)
def _subtract_product(K, A, P, Q, B, G, i, j):
    """G_ij -= K_ij sum_t (A_ti P_tj + Q_ti B_tj)."""
    n = K.shape[1]
    w = splat(K.dtype.type(0))
    for t in range(A.shape[0]):
        ti, tj = (t * n + i) * WIDTH, (t * n + j) * WIDTH
        w = w + load(A, ti) * load(P, tj) + load(Q, ti) * load(B, tj)
    at = (i * n + j) * WIDTH
    store(G, at, load(G, at) - load(K, at) * w)


@njit(**OPTIONS)
def _subtract_products2x4(K, A, P, Q, B, G, i, j):
    """The same for a tile of two rows and four columns, whose factors are loaded once."""
    n = K.shape[1]
    step = n * WIDTH
    v0 = v1 = v2 = v3 = w0 = w1 = w2 = w3 = splat(K.dtype.type(0))
    ti, tj = i * WIDTH, j * WIDTH
    for _ in range(A.shape[0]):
        a0, a1 = load(A, ti), load(A, ti + WIDTH)
        q0, q1 = load(Q, ti), load(Q, ti + WIDTH)
        p0, b0 = load(P, tj), load(B, tj)
        v0 = v0 + a0 * p0 + q0 * b0
        w0 = w0 + a1 * p0 + q1 * b0
        p1, b1 = load(P, tj + WIDTH), load(B, tj + WIDTH)
        v1 = v1 + a0 * p1 + q0 * b1
        w1 = w1 + a1 * p1 + q1 * b1
        p2, b2 = load(P, tj + 2 * WIDTH), load(B, tj + 2 * WIDTH)
        v2 = v2 + a0 * p2 + q0 * b2
        w2 = w2 + a1 * p2 + q1 * b2
        p3, b3 = load(P, tj + 3 * WIDTH), load(B, tj + 3 * WIDTH)
        v3 = v3 + a0 * p3 + q0 * b3
        w3 = w3 + a1 * p3 + q1 * b3
        ti += step
        tj += step
    at = (i * n + j) * WIDTH
    for k, row in enumerate(((v0, v1, v2, v3), (w0, w1, w2, w3))):
        for m, product in enumerate(row):
            to = at + k * step + m * WIDTH
            store(G, to, load(G, to) - load(K, to) * product)


@njit(**OPTIONS)
def subtract_products(K, A, P, Q, B, G):
    """G_ij -= K_ij sum_t (A_ti P_tj + Q_ti B_tj) for all i and j."""
    n = K.shape[1]
    rows, columns = n - n % 2, n - n % 4
    for i in range(0, rows, 2):
        for j in range(0, columns, 4):
            _subtract_products2x4(K, A, P, Q, B, G, i, j)
        for j in range(columns, n):
            _subtract_product(K, A, P, Q, B, G, i, j)
            _subtract_product(K, A, P, Q, B, G, i + 1, j)
    for j in range(n if rows < n else 0):
        _subtract_product(K, A, P, Q, B, G, rows, j)
