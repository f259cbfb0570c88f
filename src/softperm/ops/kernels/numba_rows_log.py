"""Sinkhorn of one matrix in the log domain on CPUs: right at any temperature.

Scalings u, v and the sums X + u + v are float64; only the exponential of those sums is taken in the
dtype of the matrix.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from softperm.ops.kernels.numba_exp import exp
from softperm.ops.kernels.numba_simd import WIDTH, load, splat, store, total

OPTIONS = {"error_model": "numpy", "cache": True, "fastmath": {"contract", "reassoc", "nsz"}}


@njit(**OPTIONS)
def _exp_sum(y):
    """Replace y, padded to whole vectors with -inf, by exp(y); its sum."""
    s = splat(y.dtype.type(0))
    for at in range(0, y.size, WIDTH):
        e = exp(load(y, at))
        store(y, at, e)
        s = s + e
    return total(s)


@njit(**OPTIONS)
def _rows(x, rate, v, u, y):
    """u_i = -logsumexp_j(x_ij rate + v_j)."""
    n = x.shape[0]
    for i in range(n):
        top = x[i, 0] * rate + v[0]
        for j in range(1, n):
            top = max(top, x[i, j] * rate + v[j])
        for j in range(n):
            y[j] = x[i, j] * rate + v[j] - top
        y[n:] = -np.inf
        u[i] = -(top + np.log(np.float64(_exp_sum(y))))


@njit(**OPTIONS)
def _columns(x, rate, u, v, top, sums, y):
    """v_j = -logsumexp_i(x_ij rate + u_i)."""
    n = x.shape[0]
    top[:] = -np.inf
    sums[:] = 0
    for i in range(n):
        for j in range(n):
            top[j] = max(top[j], x[i, j] * rate + u[i])
    for i in range(n):
        for j in range(n):
            y[j] = x[i, j] * rate + u[i] - top[j]
        y[n:] = -np.inf
        for at in range(0, y.size, WIDTH):
            store(sums, at, load(sums, at) + exp(load(y, at)))
    for j in range(n):
        v[j] = -(top[j] + np.log(np.float64(sums[j])))


@njit(**OPTIONS)
def _probabilities(x, rate, i, u, v, y):
    """Replace y by row i of exp(x rate + u + v); its sum."""
    n = x.shape[0]
    for j in range(n):
        y[j] = x[i, j] * rate + u[i] + v[j]
    y[n:] = -np.inf
    return _exp_sum(y)


@njit(**OPTIONS)
def _row_error(x, rate, u, v, y):
    """The largest |row sum - 1|."""
    worst = 0.0
    for i in range(x.shape[0]):
        worst = max(worst, abs(_probabilities(x, rate, i, u, v, y) - 1.0))
    return worst


@njit(**OPTIONS)
def _iterate(x, rate, n_iters, tol, U, V, y):
    """Scalings of every step, U (l, n) and V (l + 1, n) with V[0] = 0; the steps done."""
    top = np.empty(x.shape[0], np.float64)
    sums = np.empty_like(y)
    V[0] = 0.0
    for t in range(n_iters):
        _rows(x, rate, V[t], U[t], y)
        _columns(x, rate, U[t], V[t + 1], top, sums, y)
        if tol > 0.0 and _row_error(x, rate, U[t], V[t + 1], y) < tol:
            return t + 1
    return n_iters


@njit(**OPTIONS)
def _prepare(x, tau, n_iters, tol):
    """Rate, scalings, a padded row to work in, and the steps done."""
    n = x.shape[0]
    y = np.empty((n + WIDTH - 1) // WIDTH * WIDTH, x.dtype)
    U = np.empty((n_iters, n), np.float64)
    V = np.empty((n_iters + 1, n), np.float64)
    rate = 1.0 / tau
    return rate, U, V, y, _iterate(x, rate, n_iters, tol, U, V, y)


@njit(**OPTIONS)
def log_forward(x, tau, n_iters, tol, log, out):
    """Write S (or log S) of one matrix to `out`; the steps done and the row error."""
    n = x.shape[0]
    rate, U, V, y, done = _prepare(x, tau, n_iters, tol)
    u, v = U[done - 1], V[done]
    for i in range(n):
        if log:
            for j in range(n):
                out[i, j] = x[i, j] * rate + u[i] + v[j]
        else:
            _probabilities(x, rate, i, u, v, y)
            out[i] = y[:n]
    return done, _row_error(x, rate, u, v, y)


@njit(**OPTIONS)
def _log_gradient(grad, x, rate, u, v, log, dx, du, dv, y):
    """Write d / d log S to dx, and its row and column sums to du and dv."""
    n = x.shape[0]
    dv[:] = 0
    for i in range(n):
        row = x.dtype.type(0)
        _probabilities(x, rate, i, u, v, y)
        for j in range(n):
            g = grad[i, j] if log else grad[i, j] * y[j]
            dx[i, j] = g
            row += g
            dv[j] += g
        du[i] = row


@njit(**OPTIONS)
def log_backward(grad, x, tau, n_iters, log, dx):
    """The exact gradient of `n_iters` steps with respect to x."""
    n = x.shape[0]
    rate, U, V, y, _ = _prepare(x, tau, n_iters, 0.0)
    du, dv, next_dv = np.empty(n, x.dtype), np.empty(n, x.dtype), np.empty(n, x.dtype)
    _log_gradient(grad, x, rate, U[n_iters - 1], V[n_iters], log, dx, du, dv, y)
    for t in range(n_iters - 1, -1, -1):
        next_dv[:] = 0
        for i in range(n):
            _probabilities(x, rate, i, U[t], V[t + 1], y)
            row = x.dtype.type(0)
            for j in range(n):
                w = y[j] * dv[j]
                dx[i, j] -= w
                row += w
            d = du[i] - row
            _probabilities(x, rate, i, U[t], V[t], y)
            for j in range(n):
                w = y[j] * d
                dx[i, j] -= w
                next_dv[j] -= w
        du[:] = 0
        dv, next_dv = next_dv, dv
    dx *= x.dtype.type(rate)
