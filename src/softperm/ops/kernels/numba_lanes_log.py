"""Sinkhorn for 16 small matrices in the log domain on CPUs: right at any temperature.

Takes over the lanes that `numba_lanes` finds unsafe. Scalings u, v and the sums X + u + v are
float64; only the exponential of those sums is taken in the dtype of the matrices.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from softperm.ops.kernels.numba_exp import exp
from softperm.ops.kernels.numba_exp import log as vector_log
from softperm.ops.kernels.numba_simd import (
    WIDTH,
    absolute,
    load,
    maximum,
    splat,
    store,
    to_double,
    to_dtype_of,
)

OPTIONS = {"error_model": "numpy", "cache": True, "fastmath": {"contract"}}


@njit(**OPTIONS)
def _sum(X, rate, i, j, y, t, k):
    """X_ij rate + y_tk in float64."""
    n = X.shape[1]
    x = to_double(load(X, (i * n + j) * WIDTH))
    return x * load(rate, 0) + load(y, (t * n + k) * WIDTH)


@njit(**OPTIONS)
def _normalise(X, rate, y, ty, z, tz, rows):
    """z = -logsumexp(X rate + y) along rows, or along columns."""
    n = X.shape[1]
    for k in range(n):
        top = splat(-np.inf)
        for m in range(n):
            i, j = (k, m) if rows else (m, k)
            top = maximum(top, _sum(X, rate, i, j, y, ty, m))
        total = splat(X.dtype.type(0))
        for m in range(n):
            i, j = (k, m) if rows else (m, k)
            total = total + exp(to_dtype_of(X, _sum(X, rate, i, j, y, ty, m) - top))
        store(z, (tz * n + k) * WIDTH, splat(0.0) - top - vector_log(to_double(total)))


@njit(**OPTIONS)
def _probability(X, rate, i, j, u, tu, v, tv):
    """exp(X_ij rate + u_i + v_j)."""
    s = _sum(X, rate, i, j, u, tu, i)
    return exp(to_dtype_of(X, s + load(v, (tv * X.shape[1] + j) * WIDTH)))


@njit(**OPTIONS)
def _prepare(X, tau, first, n_iters):
    """Rates, and the scalings of every step, U (l, n) and V (l + 1, n) with V[0] = 0, in lanes."""
    n = X.shape[1]
    rate = np.empty(WIDTH, np.float64)
    for lane in range(WIDTH):
        rate[lane] = 1.0 / tau[min(first + lane, tau.size - 1)]
    U = np.empty((n_iters, n, WIDTH), np.float64)
    V = np.empty((n_iters + 1, n, WIDTH), np.float64)
    V[0] = 0.0
    for t in range(n_iters):
        _normalise(X, rate, V, t, U, t, True)
        _normalise(X, rate, U, t, V, t + 1, False)
    return rate, U, V


@njit(**OPTIONS)
def log_forward(X, x, tau, first, safe, n_iters, log, out, error):
    """S (or log S) and row errors of the lanes of X that are not safe."""
    n = X.shape[1]
    rate, U, V = _prepare(X, tau, first, n_iters)
    last = n_iters - 1
    worst = splat(X.dtype.type(0))
    row_error = np.empty(WIDTH, X.dtype)
    for i in range(n):
        row = splat(X.dtype.type(0))
        for j in range(n):
            s = _probability(X, rate, i, j, U, last, V, n_iters)
            row = row + s
            store(X, (i * n + j) * WIDTH, s)
        worst = maximum(worst, absolute(row - splat(X.dtype.type(1))))
    store(row_error, 0, worst)
    for b in range(first, min(first + WIDTH, out.shape[0])):
        lane = b - first
        if safe[lane]:
            continue
        error[b] = row_error[lane]
        for i in range(n):
            for j in range(n):
                if log:
                    out[b, i, j] = x[b, i, j] * rate[lane] + U[last, i, lane] + V[n_iters, j, lane]
                else:
                    out[b, i, j] = X[i, j, lane]


@njit(**OPTIONS)
def _add(array, at, value):
    store(array, at, load(array, at) + value)


@njit(**OPTIONS)
def _reverse_step(X, rate, U, V, t, G, du, dv, next_dv):
    """Take the gradient back through step t, column normalisation first."""
    n = X.shape[1]
    zero = splat(X.dtype.type(0))
    for i in range(n):
        d = load(du, i * WIDTH)
        for j in range(n):
            w = _probability(X, rate, i, j, U, t, V, t + 1) * load(dv, j * WIDTH)
            _add(G, (i * n + j) * WIDTH, zero - w)
            d = d - w
        store(du, i * WIDTH, zero)
        for j in range(n):
            w = zero - _probability(X, rate, i, j, U, t, V, t) * d
            _add(G, (i * n + j) * WIDTH, w)
            _add(next_dv, j * WIDTH, w)


@njit(**OPTIONS)
def log_backward(X, G, tau, first, safe, n_iters, log, dx):
    """The exact gradient of the lanes of X that are not safe, from that of S (or log S) in G."""
    n = X.shape[1]
    rate, U, V = _prepare(X, tau, first, n_iters)
    du, dv = np.zeros((n, WIDTH), X.dtype), np.zeros((n, WIDTH), X.dtype)
    for i in range(n):
        for j in range(n):
            at = (i * n + j) * WIDTH
            if not log:
                s = _probability(X, rate, i, j, U, n_iters - 1, V, n_iters)
                store(G, at, load(G, at) * s)
            _add(du, i * WIDTH, load(G, at))
            _add(dv, j * WIDTH, load(G, at))
    next_dv = np.empty_like(dv)
    for t in range(n_iters - 1, -1, -1):
        next_dv[:] = 0
        _reverse_step(X, rate, U, V, t, G, du, dv, next_dv)
        dv, next_dv = next_dv, dv
    for b in range(first, min(first + WIDTH, dx.shape[0])):
        lane = b - first
        if not safe[lane]:
            for i in range(n):
                for j in range(n):
                    dx[b, i, j] = G[i, j, lane] * rate[lane]
