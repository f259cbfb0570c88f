"""Sinkhorn for larger matrices on CPUs: one at a time, SIMD along the rows.

The same computation as in `numba_lanes`. Rows are taken four at a time; those of one matrix may be
shared out over threads in chunks, each with a sum of its own for the column step.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange

from softperm.ops.kernels.numba_exp import exp
from softperm.ops.kernels.numba_lanes import OPTIONS, largest_scaling
from softperm.ops.kernels.numba_rows_log import log_backward, log_forward
from softperm.ops.kernels.numba_simd import WIDTH, load, splat, store, total

_PARALLEL = {"parallel": True, **OPTIONS}


@njit(**OPTIONS)
def _exponentials(x, rate, lo, hi, K, top):
    """Rows lo to hi of K = exp((x - row maximum) rate); the padding is 0."""
    n = x.shape[0]
    width = K.shape[1]
    r = splat(K.dtype.type(rate))
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
def _dot4(K, i, y, ty):
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
def _sweep(K, n, lo, hi, y, ty, c0, c1, reciprocal, s, ts, acc, c):
    """One pass over rows lo to hi of K: s_i = f(K_i . y), and row c of acc = sum_i s_i K_i.

    f(r) is 1 / r on the way forwards and c0_i - c1_i r on the way back; 0 for padding.
    """
    acc[c] = 0
    one = K.dtype.type(1)
    for i in range(lo, hi, 4):
        r = _dot4(K, i, y, ty)
        for k in range(4):
            if i + k >= n:
                s[ts, i + k] = 0
            elif reciprocal:
                s[ts, i + k] = one / r[k]
            else:
                s[ts, i + k] = c0[i + k] - c1[i + k] * r[k]
        _add4(K, i, s[ts, i], s[ts, i + 1], s[ts, i + 2], s[ts, i + 3], acc, c)


@njit(**OPTIONS)
def _row_error(K, n, A, B, t):
    """The largest |row sum - 1| after step t."""
    worst = 0.0
    for i in range(0, n, 4):
        r = _dot4(K, i, B, t + 1)
        for k in range(min(4, n - i)):
            worst = max(worst, abs(A[t, i + k] * r[k] - 1.0))
    return worst


@njit(**OPTIONS)
def _scale(K, n, lo, hi, A, B, last):
    """Turn rows lo to hi of K into those of S."""
    width = K.shape[1]
    for i in range(lo, min(hi, n)):
        a = splat(A[last, i])
        for j in range(0, width, WIDTH):
            at = i * width + j
            store(K, at, a * load(K, at) * load(B, (last + 1) * width + j))


@njit(**OPTIONS)
def _subtract_products(K, n, lo, hi, A, P, Q, B, done, rate, dx):
    """dx_ij = (dx_ij - K_ij sum_t (A_ti P_tj + Q_ti B_tj)) rate, for rows lo to hi."""
    width = K.shape[1]
    w = np.empty((4, WIDTH), K.dtype)
    for i in range(lo, min(hi, n), 4):
        for j in range(0, width, WIDTH):
            w0 = w1 = w2 = w3 = splat(K.dtype.type(0))
            for t in range(done):
                p, b = load(P, t * width + j), load(B, t * width + j)
                w0 = w0 + splat(A[t, i]) * p + splat(Q[t, i]) * b
                w1 = w1 + splat(A[t, i + 1]) * p + splat(Q[t, i + 1]) * b
                w2 = w2 + splat(A[t, i + 2]) * p + splat(Q[t, i + 2]) * b
                w3 = w3 + splat(A[t, i + 3]) * p + splat(Q[t, i + 3]) * b
            at = i * width + j
            store(w, 0, w0 * load(K, at))
            store(w, WIDTH, w1 * load(K, at + width))
            store(w, 2 * WIDTH, w2 * load(K, at + 2 * width))
            store(w, 3 * WIDTH, w3 * load(K, at + 3 * width))
            for k in range(min(4, n - i)):
                for m in range(min(WIDTH, n - j)):
                    dx[i + k, j + m] = (dx[i + k, j + m] - w[k, m]) * rate


@njit(**OPTIONS)
def _column_step(acc, n, A, B, t):
    """Row t + 1 of B from the column sums; whether all scalings of step t are safe."""
    limit = largest_scaling(A)
    one = A.dtype.type(1)
    safe = True
    for j in range(n):
        total = acc[0, j]
        for c in range(1, acc.shape[0]):
            total += acc[c, j]
        b = one / total
        B[t + 1, j] = b
        safe = safe and b <= limit and A[t, j] <= limit
    return safe


def _iterate(x, rate, n_iters, tol, chunks):
    """K, row maxima, scalings A (l, rows) and B (l + 1, width), the steps done, and if all is safe.

    Padding: K to whole vectors and fours of rows with 0, where A and B are 0 too.
    """
    n = x.shape[0]
    rows, width = (n + 3) // 4 * 4, (n + WIDTH - 1) // WIDTH * WIDTH
    step = (rows // 4 + chunks - 1) // chunks * 4
    K = np.empty((rows, width), x.dtype)
    top = np.empty(n, x.dtype)
    A = np.zeros((n_iters, rows), x.dtype)
    B = np.zeros((n_iters + 1, width), x.dtype)
    acc = np.empty((chunks, width), x.dtype)
    for j in range(n):
        B[0, j] = 1
    for c in prange(chunks):
        _exponentials(x, rate, c * step, min((c + 1) * step, rows), K, top)
    for t in range(n_iters):
        for c in prange(chunks):
            lo, hi = c * step, min((c + 1) * step, rows)
            _sweep(K, n, lo, hi, B, t, top, top, True, A, t, acc, c)
        if not _column_step(acc, n, A, B, t):
            return K, top, A, B, t + 1, False
        if tol > 0 and _row_error(K, n, A, B, t) < tol:
            return K, top, A, B, t + 1, True
    return K, top, A, B, n_iters, True


_iterate_serial = njit(**OPTIONS)(_iterate)
_iterate_parallel = njit(**_PARALLEL)(_iterate)


def _write(x, rate, log, K, top, A, B, last, out):
    """S from K and the scalings; log S from the scalings alone, exact where S underflows."""
    n = x.shape[0]
    v = np.log(B[last + 1, :n]) if log else B[last + 1, :n]
    for i in prange(n):
        if log:
            u = np.log(A[last, i])
            for j in range(n):
                out[i, j] = (x[i, j] - top[i]) * rate + (u + v[j])
        else:
            for j in range(n):
                out[i, j] = A[last, i] * K[i, j] * v[j]


_write_serial = njit(**OPTIONS)(_write)
_write_parallel = njit(**_PARALLEL)(_write)


@njit(**OPTIONS)
def _log_gradient(K, grad, log, n, lo, hi, dx, du, acc, c):
    """dx = d / d log S, its row sums in du and its column sums in row c of acc, rows lo to hi."""
    acc[c] = 0
    for i in range(lo, min(hi, n)):
        row = K.dtype.type(0)
        for j in range(n):
            g = grad[i, j] if log else grad[i, j] * K[i, j]
            dx[i, j] = g
            row += g
            acc[c, j] += g
        du[i] = row


@njit(**OPTIONS)
def _column_sums(acc, n):
    """The sum over chunks."""
    total = acc[0, :n].copy()
    for c in range(1, acc.shape[0]):
        total += acc[c, :n]
    return total


@njit(**OPTIONS)
def _make_relative(A, B, n, done):
    """Divide the scalings of every step by the last ones."""
    a, b = A[done - 1, :n].copy(), B[done, :n].copy()
    for t in range(done):
        A[t, :n] /= a
    for t in range(done + 1):
        B[t, :n] /= b


@njit(**OPTIONS)
def _before_sweep(A, B, t, n, du, dv, P, c0, c1):
    """The vectors that the sweep back through step t takes; du counts in the last step only."""
    P[t, :n] = B[t + 1, :n] * dv
    c0[:] = A[t] * du
    c1[:] = A[t] * A[t]
    du[:] = 0


@njit(**OPTIONS)
def _after_sweep(acc, n, B, t):
    """The gradient with respect to the column scalings of the step before."""
    return -B[t, :n] * _column_sums(acc, n)


def _reverse(grad, rate, log, K, A, B, done, chunks, dx):
    """The gradient with respect to x; K becomes S, and scalings relative to the last ones."""
    n = grad.shape[0]
    rows, width = K.shape
    step = (rows // 4 + chunks - 1) // chunks * 4
    P, Q = np.zeros_like(B), np.zeros_like(A)
    acc = np.empty((chunks, width), K.dtype)
    du, c0, c1 = np.zeros(rows, K.dtype), np.empty(rows, K.dtype), np.empty(rows, K.dtype)
    for c in prange(chunks):
        lo, hi = c * step, min((c + 1) * step, rows)
        _scale(K, n, lo, hi, A, B, done - 1)
        _log_gradient(K, grad, log, n, lo, hi, dx, du, acc, c)
    dv = _column_sums(acc, n)
    _make_relative(A, B, n, done)
    for t in range(done - 1, -1, -1):
        _before_sweep(A, B, t, n, du, dv, P, c0, c1)
        for c in prange(chunks):
            lo, hi = c * step, min((c + 1) * step, rows)
            _sweep(K, n, lo, hi, P, t, c0, c1, False, Q, t, acc, c)
        dv = _after_sweep(acc, n, B, t)
    scale = K.dtype.type(rate)
    for c in prange(chunks):
        lo, hi = c * step, min((c + 1) * step, rows)
        _subtract_products(K, n, lo, hi, A, P, Q, B, done, scale, dx)


_reverse_serial = njit(**OPTIONS)(_reverse)
_reverse_parallel = njit(**_PARALLEL)(_reverse)


@njit(**OPTIONS)
def _forward_one(x, tau, n_iters, tol, log, out):
    rate = 1.0 / tau
    K, top, A, B, done, safe = _iterate_serial(x, rate, n_iters, tol, 1)
    if not safe:
        return log_forward(x, tau, n_iters, tol, log, out)
    _write_serial(x, rate, log, K, top, A, B, done - 1, out)
    return done, _row_error(K, x.shape[0], A, B, done - 1)


@njit(**OPTIONS)
def _backward_one(grad, x, tau, n_iters, log, dx):
    rate = 1.0 / tau
    K, _, A, B, done, safe = _iterate_serial(x, rate, n_iters, 0.0, 1)
    if safe:
        _reverse_serial(grad, rate, log, K, A, B, done, 1, dx)
    else:
        log_backward(grad, x, tau, n_iters, log, dx)


@njit(nogil=True, **OPTIONS)
def forward(x, tau, out, iters, error, n_iters, tol, log):
    """S (or log S) of every matrix, the iterations done, and the largest row errors."""
    for b in range(x.shape[0]):
        iters[b], error[b] = _forward_one(x[b], tau[b], n_iters, tol, log, out[b])


@njit(nogil=True, **OPTIONS)
def backward(grad, x, tau, iters, dx, log):
    """The exact gradient of the iterations done with respect to x."""
    for b in range(x.shape[0]):
        _backward_one(grad[b], x[b], tau[b], iters[b], log, dx[b])


def forward_shared(x: Any, tau: Any, out: Any, iters: Any, error: Any, *options: Any) -> None:
    """`forward`, matrix after matrix, the rows of each shared out over the threads."""
    n_iters, tol, log, threads = options
    for b in range(x.shape[0]):
        rate = 1.0 / tau[b]
        K, top, A, B, done, safe = _iterate_parallel(x[b], rate, n_iters, tol, threads)
        if safe:
            _write_parallel(x[b], rate, log, K, top, A, B, done - 1, out[b])
            iters[b], error[b] = done, _row_error(K, x.shape[1], A, B, done - 1)
        else:
            iters[b], error[b] = log_forward(x[b], tau[b], n_iters, tol, log, out[b])


def backward_shared(
    grad: Any, x: Any, tau: Any, iters: Any, dx: Any, log: bool, threads: int
) -> None:
    """The reverse of `forward_shared`."""
    for b in range(x.shape[0]):
        rate = 1.0 / tau[b]
        K, _, A, B, done, safe = _iterate_parallel(x[b], rate, iters[b], 0.0, threads)
        if safe:
            _reverse_parallel(grad[b], rate, log, K, A, B, done, threads, dx[b])
        else:
            log_backward(grad[b], x[b], tau[b], iters[b], log, dx[b])
