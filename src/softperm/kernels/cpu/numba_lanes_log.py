"""Sinkhorn for small matrices on CPUs in the log domain: right at any temperature.

Does again what `numba_lanes_linear` found unsafe. Scalings u, v and the sums X + u + v are float64;
only exponentials of what is left are taken in the dtype of the matrices. One exponential an entry
and step is enough: with e = exp(X + v - row maximum) and the row sums s, the column step is
v <- v - log sum_i e_ij / s_i. Columns in which that sum underflows are done from scratch.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from softperm.kernels.cpu.numba_exp import exp_as
from softperm.kernels.cpu.numba_exp import log as vector_log
from softperm.kernels.cpu.numba_lanes import OPTIONS, multiply, rates, read, write
from softperm.kernels.cpu.numba_simd import (
    WIDTH,
    absolute,
    aligned,
    keep_if_above,
    load,
    maximum,
    splat,
    store,
    to_double,
    to_dtype_of,
    total,
)


@njit(**OPTIONS)
def smallest_sum(X):
    """What underflows in a column's sum cannot be noticed from here on."""
    return X.dtype.type(1e-25 if X.itemsize == 4 else 1e-280)


@njit(**OPTIONS)
def _row_step(X, i, speed, v, tv, y, e):
    """e = exp(X_i + v - maximum) for row i; the maximum, and the sum of e."""
    n = X.shape[1]
    top = splat(-np.inf)
    for j in range(n):
        x = to_double(load(X, (i * n + j) * WIDTH))
        x = x * speed + load(v, (tv * n + j) * WIDTH)
        store(y, j * WIDTH, x)
        top = maximum(top, x)
    s = splat(X.dtype.type(0))
    for j in range(n):
        p = exp_as(X, load(y, j * WIDTH) - top)
        store(e, j * WIDTH, p)
        s = s + p
    return top, s


@njit(**OPTIONS)
def _column_from_scratch(X, j, speed, u, tu):
    """-logsumexp of column j of X + u."""
    n = X.shape[1]
    top = splat(-np.inf)
    for i in range(n):
        x = to_double(load(X, (i * n + j) * WIDTH)) * speed
        top = maximum(top, x + load(u, (tu * n + i) * WIDTH))
    s = splat(X.dtype.type(0))
    for i in range(n):
        x = to_double(load(X, (i * n + j) * WIDTH)) * speed
        s = s + exp_as(X, x + load(u, (tu * n + i) * WIDTH) - top)
    return splat(0.0) - top - vector_log(s)


@njit(**OPTIONS)
def _iterate(X, speed, U, V, y, e, sums):
    """The scalings of every step, U (l, n) and V (l + 1, n) with V[0] = 0, in lanes."""
    n = X.shape[1]
    one = splat(X.dtype.type(1))
    least = splat(smallest_sum(X))
    V[0] = 0
    for t in range(U.shape[0]):
        sums[:] = 0
        for i in range(n):
            top, s = _row_step(X, i, speed, V, t, y, e)
            store(U, (t * n + i) * WIDTH, splat(0.0) - top - vector_log(s))
            r = one / s
            for j in range(0, n * WIDTH, WIDTH):
                store(sums, j, load(sums, j) + load(e, j) * r)
        for j in range(n):
            s = load(sums, j * WIDTH)
            at = ((t + 1) * n + j) * WIDTH
            if total(keep_if_above(one, s, least)) == WIDTH:
                store(V, at, load(V, (t * n + j) * WIDTH) - vector_log(s))
            else:
                store(V, at, _column_from_scratch(X, j, speed, U, t))


@njit(**OPTIONS)
def _result(X, speed, U, V, log):
    """Turn X into S (or log S); the largest row error of every lane."""
    n = X.shape[1]
    last = U.shape[0] - 1
    one = splat(X.dtype.type(1))
    worst = splat(X.dtype.type(0))
    for i in range(n):
        u = load(U, (last * n + i) * WIDTH)
        row = splat(X.dtype.type(0))
        for j in range(n):
            at = (i * n + j) * WIDTH
            s = to_double(load(X, at)) * speed + u + load(V, ((last + 1) * n + j) * WIDTH)
            p = exp_as(X, s)
            row = row + p
            if log:
                p = to_dtype_of(X, s)
            store(X, at, p)
        worst = maximum(worst, absolute(row - one))
    return worst


@njit(**OPTIONS)
def _unsafe(safe, first, wanted):
    """1 in `wanted` for the lanes to do; whether there are any."""
    wanted[:] = 0
    for lane in range(min(WIDTH, safe.size - first)):
        wanted[lane] = not safe[first + lane]
    return wanted.any()


@njit(**OPTIONS)
def forward(x, tau, safe, out, error, scalings, n_iters, log, keep, lo, hi):
    """S (or log S) and largest row errors of the matrices of blocks lo to hi that are not safe."""
    n = x.shape[1]
    X = aligned((n, n, WIDTH), x.dtype)
    y = aligned((n, WIDTH), np.float64)
    e, sums = aligned((n, WIDTH), x.dtype), aligned((n, WIDTH), x.dtype)
    worst, wanted = np.empty(WIDTH, x.dtype), np.empty(WIDTH, x.dtype)
    steps = aligned((2 * n_iters + 1, n, WIDTH), np.float64)
    for block in range(lo, hi):
        first = block * WIDTH
        if not _unsafe(safe, first, wanted):
            continue
        if keep:
            steps = scalings[block]
        U, V = steps[:n_iters], steps[n_iters:]
        rate = rates(tau, first)
        read(x, first, X)
        _iterate(X, load(rate, 0), U, V, y, e, sums)
        store(worst, 0, _result(X, load(rate, 0), U, V, log))
        write(X, first, wanted, out)
        for lane in range(min(WIDTH, x.shape[0] - first)):
            if wanted[lane]:
                error[first + lane] = worst[lane]


@njit(**OPTIONS)
def _log_gradient(X, G, speed, U, V, log, du, dv):
    """Turn G = d / d S (with `log`: d / d log S) into d / d log S; its row and column sums."""
    n = X.shape[1]
    last = U.shape[0] - 1
    dv[:] = 0
    for i in range(n):
        u = load(U, (last * n + i) * WIDTH)
        row = splat(X.dtype.type(0))
        for j in range(n):
            at = (i * n + j) * WIDTH
            g = load(G, at)
            if not log:
                s = to_double(load(X, at)) * speed + u
                g = g * exp_as(X, s + load(V, ((last + 1) * n + j) * WIDTH))
                store(G, at, g)
            row = row + g
            store(dv, j * WIDTH, load(dv, j * WIDTH) + g)
        store(du, i * WIDTH, row)


@njit(**OPTIONS)
def _step_back(X, G, speed, U, V, t, du, dv, ratio, e, next_dv):
    """Step t in reverse. With p = exp(X + u_t + v_{t+1}) its columns sum to 1, and those of
    p ratio, ratio = exp(v_t - v_{t+1}), are the matrix whose rows sum to 1.
    """
    n = X.shape[1]
    for j in range(n):
        at = (t * n + j) * WIDTH
        change = load(V, at) - load(V, at + n * WIDTH)
        store(ratio, j * WIDTH, exp_as(X, change))
    next_dv[:] = 0
    for i in range(n):
        u = load(U, (t * n + i) * WIDTH)
        row = splat(X.dtype.type(0))
        for j in range(n):
            s = to_double(load(X, (i * n + j) * WIDTH)) * speed + u
            p = exp_as(X, s + load(V, ((t + 1) * n + j) * WIDTH))
            store(e, j * WIDTH, p)
            row = row + p * load(dv, j * WIDTH)
        d = load(du, i * WIDTH) - row
        for j in range(n):
            at = (i * n + j) * WIDTH
            p = load(e, j * WIDTH)
            w = p * load(ratio, j * WIDTH) * d
            store(next_dv, j * WIDTH, load(next_dv, j * WIDTH) - w)
            store(G, at, load(G, at) - (p * load(dv, j * WIDTH) + w))


@njit(**OPTIONS)
def backward(grad, x, tau, safe, scalings, dx, log, lo, hi):
    """The exact gradient with respect to the matrices of blocks lo to hi that are not safe."""
    n = x.shape[1]
    n_iters = scalings.shape[1] // 2
    X, G = aligned((n, n, WIDTH), x.dtype), aligned((n, n, WIDTH), x.dtype)
    du, e = aligned((n, WIDTH), x.dtype), aligned((n, WIDTH), x.dtype)
    dv, next_dv = aligned((n, WIDTH), x.dtype), aligned((n, WIDTH), x.dtype)
    ratio, wanted = aligned((n, WIDTH), x.dtype), np.empty(WIDTH, x.dtype)
    for block in range(lo, hi):
        first = block * WIDTH
        if not _unsafe(safe, first, wanted):
            continue
        U, V = scalings[block, :n_iters], scalings[block, n_iters:]
        rate = rates(tau, first)
        speed = load(rate, 0)
        read(x, first, X)
        read(grad, first, G)
        _log_gradient(X, G, speed, U, V, log, du, dv)
        for t in range(n_iters - 1, -1, -1):
            _step_back(X, G, speed, U, V, t, du, dv, ratio, e, next_dv)
            du[:] = 0
            dv, next_dv = next_dv, dv
        multiply(G, rate)
        write(G, first, wanted, dx)
