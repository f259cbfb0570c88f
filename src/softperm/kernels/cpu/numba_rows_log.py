"""Sinkhorn of one matrix after the other in the log domain on CPUs: right at any temperature.

Does again what `numba_rows_linear` found unsafe; the same computation as in `numba_lanes_log`.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from softperm.kernels.cpu.numba_exp import exp_as
from softperm.kernels.cpu.numba_lanes import in_range, rate_of
from softperm.kernels.cpu.numba_lanes_log import smallest_sum
from softperm.kernels.cpu.numba_simd import WIDTH, load, splat, store, total

OPTIONS = {"error_model": "numpy", "fastmath": {"contract", "reassoc", "nsz"}}


@njit(**OPTIONS)
def _exp_sum(y, e):
    """e = exp(y), padded to whole vectors with -inf; its sum."""
    s = splat(e.dtype.type(0))
    for at in range(0, y.size, WIDTH):
        p = exp_as(e, load(y, at))
        store(e, at, p)
        s = s + p
    return total(s)


@njit(**OPTIONS)
def _row_step(row, rate, v, y, e):
    """e = exp(row rate + v - maximum); the maximum, and the sum of e."""
    top = -np.inf
    for j in range(row.size):
        y[j] = row[j] * rate + v[j]
        top = max(top, y[j])
    for j in range(row.size):
        y[j] -= top
    return top, _exp_sum(y, e)


@njit(**OPTIONS)
def _column_from_scratch(x, j, rate, u):
    """-logsumexp of column j of x rate + u."""
    top, s = -np.inf, 0.0
    for i in range(x.shape[0]):
        top = max(top, x[i, j] * rate + u[i])
    for i in range(x.shape[0]):
        s += np.exp(x[i, j] * rate + u[i] - top)
    return -(top + np.log(s))


@njit(**OPTIONS)
def _step(x, rate, v, u, next_v, y, e, sums):
    """One row and one column step, from v to u and next_v."""
    n = x.shape[0]
    one = e.dtype.type(1)
    sums[:] = 0
    for i in range(n):
        top, s = _row_step(x[i], rate, v, y, e)
        u[i] = -(top + np.log(np.float64(s)))
        r = splat(one / s)
        for at in range(0, e.size, WIDTH):
            store(sums, at, load(sums, at) + load(e, at) * r)
    for j in range(n):
        if sums[j] > smallest_sum(e):
            next_v[j] = v[j] - np.log(np.float64(sums[j]))
        else:
            next_v[j] = _column_from_scratch(x, j, rate, u)


@njit(**OPTIONS)
def _probabilities(row, rate, u, v, y, e):
    """e = exp(row rate + u + v); its sum."""
    for j in range(row.size):
        y[j] = row[j] * rate + u + v[j]
    return _exp_sum(y, e)


@njit(**OPTIONS)
def _row_error(x, rate, u, v, y, e):
    """The largest |row sum - 1|."""
    worst = 0.0
    for i in range(x.shape[0]):
        worst = max(worst, abs(_probabilities(x[i], rate, u[i], v, y, e) - 1.0))
    return worst


@njit(**OPTIONS)
def _padded(n, dtype):
    """A row to take exponentials of, with -inf for padding, and one for the result."""
    width = (n + WIDTH - 1) // WIDTH * WIDTH
    y = np.full(width, -np.inf)
    return y, np.empty(width, dtype)


@njit(**OPTIONS)
def _forward_one(x, rate, tol, log, out, U, V):
    """Write S (or log S) of one matrix; the steps done and the row error."""
    n = x.shape[0]
    y, e = _padded(n, x.dtype)
    sums = np.empty_like(e)
    V[0] = 0
    done = 0
    while done < U.shape[0]:
        _step(x, rate, V[done], U[done], V[done + 1], y, e, sums)
        done += 1
        if tol > 0.0 and _row_error(x, rate, U[done - 1], V[done], y, e) < tol:
            break
    u, v = U[done - 1], V[done]
    worst = 0.0
    for i in range(n):
        row = _probabilities(x[i], rate, u[i], v, y, e)
        worst = max(worst, abs(row - 1.0))
        for j in range(n):
            out[i, j] = y[j] if log else e[j]
    return done, worst


@njit(**OPTIONS)
def forward(x, tau, safe, out, iters, error, Us, Vs, n_iters, tol, log, lo, hi):
    """Results, steps done and largest row errors of those of matrices lo to hi that are not safe.

    Leaves the scalings of every step in Us and Vs, unless they are empty.
    """
    n = x.shape[1]
    U, V = np.empty((n_iters, n), np.float64), np.empty((n_iters + 1, n), np.float64)
    for b in range(lo, hi):
        if not safe[b]:
            if Us.size:
                U, V = Us[b], Vs[b]
            rate = rate_of(tau[min(b, tau.size - 1)])
            iters[b], error[b] = _forward_one(x[b], rate, tol, log, out[b], U, V)


@njit(**OPTIONS)
def _log_gradient(grad, x, rate, u, v, log, dx, du, dv, y, e):
    """Write d / d log S to dx, and its row and column sums to du and dv."""
    n = x.shape[0]
    dv[:] = 0
    for i in range(n):
        row = x.dtype.type(0)
        if not log:
            _probabilities(x[i], rate, u[i], v, y, e)
        for j in range(n):
            g = grad[i, j] if log else grad[i, j] * e[j]
            dx[i, j] = g
            row += g
            dv[j] += g
        du[i] = row


@njit(**OPTIONS)
def _step_back(x, rate, u, v, next_v, dx, du, dv, next_dv, ratio, y, e):
    """A step in reverse; with p = exp(x rate + u + next_v) the columns of p sum to 1, and
    p ratio, ratio = exp(v - next_v), is the matrix whose rows sum to 1.
    """
    n = x.shape[0]
    for j in range(n):
        ratio[j] = np.exp(v[j] - next_v[j])
    next_dv[:] = 0
    for i in range(n):
        _probabilities(x[i], rate, u[i], next_v, y, e)
        row = x.dtype.type(0)
        for j in range(n):
            row += e[j] * dv[j]
        d = du[i] - row
        for j in range(n):
            w = e[j] * ratio[j] * d
            next_dv[j] -= w
            dx[i, j] -= e[j] * dv[j] + w


@njit(**OPTIONS)
def backward(grad, x, tau, iters, safe, Us, Vs, dx, log, lo, hi):
    """The exact gradient with respect to those of matrices lo to hi that are not safe."""
    n = x.shape[1]
    y, e = _padded(n, x.dtype)
    du, ratio = np.empty(n, x.dtype), np.empty(n, x.dtype)
    dv, next_dv = np.empty(n, x.dtype), np.empty(n, x.dtype)
    for b in range(lo, hi):
        if safe[b]:
            continue
        rate, done = rate_of(tau[min(b, tau.size - 1)]), iters[b]
        U, V = Us[b], Vs[b]
        _log_gradient(grad[b], x[b], rate, U[done - 1], V[done], log, dx[b], du, dv, y, e)
        for t in range(done - 1, -1, -1):
            _step_back(x[b], rate, U[t], V[t], V[t + 1], dx[b], du, dv, next_dv, ratio, y, e)
            du[:] = 0
            dv, next_dv = next_dv, dv
        scale = x.dtype.type(in_range(rate))
        for i in range(n):
            for j in range(n):
                dx[b, i, j] *= scale
