"""Sinkhorn for small matrices on CPUs: 16 at a time, each in its own SIMD lane.

Rows of a small matrix are too short for SIMD; here every operation works on the same entry of 16
matrices, so no lane idles and no sum crosses lanes.

With X = log_alpha / tau and K = exp(X - row maximum) the iterate is S_ij = a_i K_ij b_j. Only the
scalings change: one pass over K, which stays in the cache, does a row and a column step. The
reverse pass computes the scalings again, so nothing is stored between the two.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from softperm.ops.kernels.numba_exp import exp
from softperm.ops.kernels.numba_lanes_log import log_backward, log_forward
from softperm.ops.kernels.numba_simd import (
    WIDTH,
    absolute,
    keep_if_at_most,
    load,
    maximum,
    splat,
    store,
)

OPTIONS = {"error_model": "numpy", "cache": True, "fastmath": {"contract"}}


@njit(**OPTIONS)
def largest_scaling(K):
    """Entries of K below the normal range are 0; scalings up to this cannot lift them to notice."""
    return K.dtype.type(1e15 if K.itemsize == 4 else 1e140)


@njit(**OPTIONS)
def read(x, first, out):
    """Transpose up to 16 matrices into lanes; lanes left over repeat the last matrix."""
    n = x.shape[1]
    last = x.shape[0] - 1
    for i in range(n):
        for lane in range(WIDTH):
            b = min(first + lane, last)
            for j in range(n):
                out[i, j, lane] = x[b, i, j]


@njit(**OPTIONS)
def _exponentials(x, rate, first, K, top):
    """K = exp((x - row maximum) rate), in lanes."""
    n = x.shape[1]
    read(x, first, K)
    for i in range(n):
        row = i * n * WIDTH
        m = load(K, row)
        for j in range(1, n):
            m = maximum(m, load(K, row + j * WIDTH))
        store(top, i * WIDTH, m)
        for j in range(n):
            at = row + j * WIDTH
            store(K, at, exp((load(K, at) - m) * load(rate, 0)))


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
def _sweep(K, y, ty, c0, c1, reciprocal, s, ts, acc, tacc):
    """One pass over K: s_i = f(K_i . y) for every row, and acc = sum_i s_i K_i.

    Row ty of y, row ts of s and row tacc of acc take part.
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
def _iterate(K, A, B):
    """The scalings of every step, A (l, n) and B (l + 1, n) in lanes; 1 in lanes that stay safe."""
    n = K.shape[1]
    one = splat(K.dtype.type(1))
    limit = splat(largest_scaling(K))
    safe = one
    B[0] = K.dtype.type(1)
    for t in range(A.shape[0]):
        _sweep(K, B, t, A[0], A[0], True, A, t, B, t + 1)
        for j in range(n):
            at = (t * n + j) * WIDTH
            b = one / load(B, at + n * WIDTH)
            safe = keep_if_at_most(safe, b, limit)
            safe = keep_if_at_most(safe, load(A, at), limit)
            store(B, at + n * WIDTH, b)
    return safe


@njit(**OPTIONS)
def _scale(K, A, B):
    """Turn K into S; the largest row error of every lane."""
    n = K.shape[1]
    last = A.shape[0] - 1
    one = splat(K.dtype.type(1))
    worst = splat(K.dtype.type(0))
    for i in range(n):
        row = splat(K.dtype.type(0))
        a = load(A, (last * n + i) * WIDTH)
        for j in range(n):
            at = (i * n + j) * WIDTH
            s = a * load(K, at) * load(B, ((last + 1) * n + j) * WIDTH)
            store(K, at, s)
            row = row + s
        worst = maximum(worst, absolute(row - one))
    return worst


@njit(**OPTIONS)
def _write_forward(x, tau, first, log, K, top, A, B, safe, out):
    """Transpose the safe lanes back; log S from the scalings, exact where S underflows."""
    n = x.shape[1]
    last = A.shape[0] - 1
    for b in range(first, min(first + WIDTH, x.shape[0])):
        lane = b - first
        if not safe[lane]:
            continue
        for i in range(n):
            u = np.log(A[last, i, lane]) if log else 0
            for j in range(n):
                if log:
                    v = np.log(B[last + 1, j, lane])
                    out[b, i, j] = (x[b, i, j] - top[i, lane]) / tau[b] + (u + v)
                else:
                    out[b, i, j] = K[i, j, lane]


@njit(**OPTIONS)
def _reverse(K, A, B, G, Q):
    """From G = d / d log S to d / d X, in place, with K = S.

    Overwrites the scalings: relative to the last ones, A and B[1:] become the left and right
    factors of the column steps' part of the gradient, Q and B[:-1] those of the row steps'.
    """
    n = K.shape[1]
    last = A.shape[0] - 1
    one = splat(K.dtype.type(1))
    zero = splat(K.dtype.type(0))
    du = np.empty((n, WIDTH), K.dtype)
    dv = np.zeros((1, n, WIDTH), K.dtype)
    P = np.empty_like(A)
    for i in range(n):
        row = zero
        for j in range(n):
            g = load(G, (i * n + j) * WIDTH)
            row = row + g
            store(dv, j * WIDTH, load(dv, j * WIDTH) + g)
        store(du, i * WIDTH, row)
    for i in range(n):
        fa = one / load(A, (last * n + i) * WIDTH)
        fb = one / load(B, ((last + 1) * n + i) * WIDTH)
        for t in range(last + 1):
            at = (t * n + i) * WIDTH
            store(A, at, load(A, at) * fa)
            store(B, at, load(B, at) * fb)
        store(B, ((last + 1) * n + i) * WIDTH, one)
    c0, c1 = np.empty_like(du), np.empty_like(du)
    for t in range(last, -1, -1):
        for j in range(n):
            at = (t * n + j) * WIDTH
            a = load(A, at)
            store(P, at, load(B, at + n * WIDTH) * load(dv, j * WIDTH))
            store(c0, j * WIDTH, a * load(du, j * WIDTH))
            store(c1, j * WIDTH, a * a)
            store(du, j * WIDTH, zero)
        _sweep(K, P, t, c0, c1, False, Q, t, dv, 0)
        for j in range(n):
            b = load(B, (t * n + j) * WIDTH)
            store(dv, j * WIDTH, zero - b * load(dv, j * WIDTH))
    _subtract_products(K, A, P, Q, B, G)


@njit(**OPTIONS)
def _subtract_products(K, A, P, Q, B, G):
    """G_ij -= K_ij sum_t (A_ti P_tj + Q_ti B_tj)."""
    n = K.shape[1]
    zero = splat(K.dtype.type(0))
    step = n * WIDTH
    whole = n - n % 2
    for i in range(n):
        for j in range(0, whole, 2):
            v = w = zero
            ti, tj = i * WIDTH, j * WIDTH
            for _ in range(A.shape[0]):
                a, q = load(A, ti), load(Q, ti)
                v = v + a * load(P, tj)
                w = w + a * load(P, tj + WIDTH)
                v = v + q * load(B, tj)
                w = w + q * load(B, tj + WIDTH)
                ti += step
                tj += step
            at = (i * n + j) * WIDTH
            store(G, at, load(G, at) - load(K, at) * v)
            store(G, at + WIDTH, load(G, at + WIDTH) - load(K, at + WIDTH) * w)
        if whole < n:
            w = zero
            for t in range(A.shape[0]):
                ti, tj = t * step + i * WIDTH, t * step + whole * WIDTH
                w = w + load(A, ti) * load(P, tj)
                w = w + load(Q, ti) * load(B, tj)
            at = (i * n + whole) * WIDTH
            store(G, at, load(G, at) - load(K, at) * w)


@njit(**OPTIONS)
def _prepare(x, tau, first, n_iters):
    """K, row maxima and scalings of a block, and which lanes are safe."""
    n = x.shape[1]
    K = np.empty((n, n, WIDTH), x.dtype)
    top = np.empty((n, WIDTH), x.dtype)
    A = np.empty((n_iters, n, WIDTH), x.dtype)
    B = np.empty((n_iters + 1, n, WIDTH), x.dtype)
    rate = np.empty(WIDTH, x.dtype)
    safe = np.empty(WIDTH, x.dtype)
    for lane in range(WIDTH):
        rate[lane] = 1.0 / tau[min(first + lane, x.shape[0] - 1)]
    _exponentials(x, rate, first, K, top)
    store(safe, 0, _iterate(K, A, B))
    return K, top, A, B, safe


@njit(**OPTIONS)
def _forward_block(x, tau, first, n_iters, log, out, iters, error):
    K, top, A, B, safe = _prepare(x, tau, first, n_iters)
    worst = np.empty(WIDTH, x.dtype)
    store(worst, 0, _scale(K, A, B))
    _write_forward(x, tau, first, log, K, top, A, B, safe, out)
    for b in range(first, min(first + WIDTH, x.shape[0])):
        iters[b] = n_iters
        error[b] = worst[b - first]
    if not safe.all():
        read(x, first, K)
        log_forward(K, x, tau, first, safe, n_iters, log, out, error)


@njit(**OPTIONS)
def _backward_block(grad, x, tau, first, n_iters, log, dx):
    n = x.shape[1]
    K, _, A, B, safe = _prepare(x, tau, first, n_iters)
    G = np.empty_like(K)
    _scale(K, A, B)
    read(grad, first, G)
    if not log:
        for at in range(0, n * n * WIDTH, WIDTH):
            store(G, at, load(G, at) * load(K, at))
    _reverse(K, A, B, G, np.empty_like(A))
    for b in range(first, min(first + WIDTH, x.shape[0])):
        if safe[b - first]:
            rate = x.dtype.type(1.0 / tau[b])
            for i in range(n):
                for j in range(n):
                    dx[b, i, j] = G[i, j, b - first] * rate
    if not safe.all():
        read(x, first, K)
        read(grad, first, G)
        log_backward(K, G, tau, first, safe, n_iters, log, dx)


@njit(nogil=True, **OPTIONS)
def forward(x, tau, out, iters, error, n_iters, log):
    """S (or log S) of every matrix, the iterations done, and the largest row errors."""
    for first in range(0, x.shape[0], WIDTH):
        _forward_block(x, tau, first, n_iters, log, out, iters, error)


@njit(nogil=True, **OPTIONS)
def backward(grad, x, tau, dx, n_iters, log):
    """The exact gradient of `n_iters` iterations with respect to x."""
    for first in range(0, x.shape[0], WIDTH):
        _backward_block(grad, x, tau, first, n_iters, log, dx)
