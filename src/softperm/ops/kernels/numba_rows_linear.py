"""Sinkhorn for larger matrices on CPUs, by scalings: for all but low temperatures.

The same computation as in `numba_lanes_linear`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange

from softperm.ops.kernels.numba_cache import named
from softperm.ops.kernels.numba_lanes import OPTIONS, rate_of
from softperm.ops.kernels.numba_lanes_linear import largest_scaling
from softperm.ops.kernels.numba_rows import (
    dot4,
    exp_all,
    exponentials,
    log_gradient,
    padded,
    subtract_products,
    sweep,
)
from softperm.ops.kernels.numba_simd import (
    WIDTH,
    load,
    load_first,
    splat,
    store,
    store_first,
)


def _parallel(function: Any) -> Any:
    """The function compiled for threads, under a name of its own.

    Numba's cache goes by the name, and would hand out the serial one for it.
    """
    return njit(parallel=True, cache=True, **OPTIONS)(named(function, "_parallel"))


@njit(**OPTIONS)
def _row_error(K, n, A, B, t):
    """The largest |row sum - 1| after step t."""
    worst = 0.0
    for i in range(0, n, 4):
        r = dot4(K, i, B, t + 1)
        for k in range(min(4, n - i)):
            worst = max(worst, abs(A[t, i + k] * r[k] - 1.0))
    return worst


@njit(**OPTIONS)
def _column_step(acc, n, A, B, t):
    """Row t + 1 of B from the column sums; whether all scalings of step t are safe."""
    limit = largest_scaling(A)
    one = A.dtype.type(1)
    safe = True
    B[t + 1, n:] = 0
    for j in range(n):
        total = acc[0, j]
        for c in range(1, acc.shape[0]):
            total += acc[c, j]
        b = one / total
        B[t + 1, j] = b
        safe = safe and b <= limit and A[t, j] <= limit
    return safe


@njit(**OPTIONS)
def _chunk_rows(rows, chunks):
    """Rows a chunk, a multiple of four."""
    return (rows // 4 + chunks - 1) // chunks * 4


def _iterate(x, rate, tol, chunks, K, top, A, B):
    """Scalings A (l, rows) and B (l + 1, width), 0 for padding; the steps done, the row error, and
    whether all is safe.
    """
    n = x.shape[0]
    rows, step = A.shape[1], _chunk_rows(A.shape[1], chunks)
    acc = np.empty((chunks, B.shape[1]), x.dtype)
    B[0, :n], B[0, n:] = 1, 0
    error = 0.0
    for c in prange(chunks):
        exponentials(x, rate, c * step, min((c + 1) * step, rows), K, top)
    for t in range(A.shape[0]):
        for c in prange(chunks):
            lo, hi = c * step, min((c + 1) * step, rows)
            sweep(K, lo, hi, B, t, top, top, True, A, t, acc, c)
        if not _column_step(acc, n, A, B, t):
            return t + 1, error, False
        if tol > 0 or t + 1 == A.shape[0]:
            error = _row_error(K, n, A, B, t)
            if error < tol:
                return t + 1, error, True
    return A.shape[0], error, True


_iterate_serial = njit(**OPTIONS)(_iterate)
_iterate_parallel = _parallel(_iterate)


@njit(**OPTIONS)
def _write_row(x, rate, log, top, A, B, last, v, i, out):
    """Row i of the result, in place of K's."""
    n = x.shape[0]
    first = (last + 1) * B.shape[1]
    if log:
        u = np.log(A[last, i])
        for j in range(n):
            out[i, j] = (x[i, j] - top[i]) * rate + (u + v[j])
        return
    a = splat(A[last, i])
    rest = n % WIDTH
    for j in range(0, n - rest, WIDTH):
        store(out, i * n + j, a * load(out, i * n + j) * load(B, first + j))
    if rest:
        at = (i + 1) * n - rest
        s = a * load_first(out, at, rest) * load(B, first + n - rest)
        store_first(out, at, s, rest)


def _write(x, rate, log, top, A, B, last, chunks, out):
    """S in place of K; log S from the scalings alone, exact where S underflows."""
    n = x.shape[0]
    step = _chunk_rows(A.shape[1], chunks)
    v = np.log(B[last + 1, : n if log else 0])
    for c in prange(chunks):
        for i in range(c * step, min((c + 1) * step, n)):
            _write_row(x, rate, log, top, A, B, last, v, i, out)


_write_serial = njit(**OPTIONS)(_write)
_write_parallel = _parallel(_write)


@njit(**OPTIONS)
def _column_sums(acc, n):
    """The sum over chunks."""
    total = acc[0, :n].copy()
    for c in range(1, acc.shape[0]):
        total += acc[c, :n]
    return total


@njit(**OPTIONS)
def _relative(A, B, n):
    """The scalings of every step divided by the last ones, 0 for padding."""
    RA, RB = np.zeros_like(A), np.zeros_like(B)
    last = A.shape[0] - 1
    for t in range(last + 1):
        RA[t, :n] = A[t, :n] / A[last, :n]
        RB[t, :n] = B[t, :n] / B[last + 1, :n]
    RB[last + 1, :n] = 1
    return RA, RB


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


def _reverse(grad, out, rate, log, S, A, B, chunks, dx):
    """The gradient with respect to x by way of the scalings of every step."""
    n = grad.shape[0]
    rows, step = A.shape[1], _chunk_rows(A.shape[1], chunks)
    P, Q = np.zeros_like(B), np.zeros_like(A)
    acc = np.empty((chunks, B.shape[1]), S.dtype)
    du, c0, c1 = np.zeros(rows, S.dtype), np.empty(rows, S.dtype), np.empty(rows, S.dtype)
    for c in prange(chunks):
        lo, hi = c * step, min((c + 1) * step, rows)
        if log:
            exp_all(out, lo, hi, S)
        log_gradient(S, grad, log, lo, hi, dx, du, acc, c)
    dv = _column_sums(acc, n)
    A, B = _relative(A, B, n)
    for t in range(A.shape[0] - 1, -1, -1):
        _before_sweep(A, B, t, n, du, dv, P, c0, c1)
        for c in prange(chunks):
            lo, hi = c * step, min((c + 1) * step, rows)
            sweep(S, lo, hi, P, t, c0, c1, False, Q, t, acc, c)
        dv = _after_sweep(acc, n, B, t)
    for c in prange(chunks):
        lo, hi = c * step, min((c + 1) * step, rows)
        subtract_products(S, lo, hi, A, P, Q, B, rate, dx)


_reverse_serial = njit(**OPTIONS)(_reverse)
_reverse_parallel = _parallel(_reverse)


@njit(**OPTIONS)
def _forward_one(x, tau, tol, log, out, A, B):
    n = x.shape[0]
    top, rate = np.empty(n, x.dtype), rate_of(tau)
    done, error, safe = _iterate_serial(x, rate, tol, 1, out, top, A, B)
    if safe:
        _write_serial(x, rate, log, top, A, B, done - 1, 1, out)
    return done, error, safe


@njit(**OPTIONS)
def _backward_one(grad, out, tau, log, A, B, dx):
    S = np.empty_like(out) if log else out
    _reverse_serial(grad, out, rate_of(tau), log, S, A, B, 1, dx)


@njit(**OPTIONS)
def forward(x, tau, out, iters, error, safe, As, Bs, n_iters, tol, log, lo, hi):
    """Results, steps done and largest row errors of those of matrices lo to hi that stay safe.

    Marks them in `safe`; leaves the scalings of every step in As and Bs, unless they are empty.
    """
    rows, width = padded(x.shape[1])
    A, B = np.empty((n_iters, rows), x.dtype), np.empty((n_iters + 1, width), x.dtype)
    for b in range(lo, hi):
        if As.size:
            A, B = As[b], Bs[b]
        iters[b], error[b], safe[b] = _forward_one(
            x[b], tau[min(b, tau.size - 1)], tol, log, out[b], A, B
        )


@njit(**OPTIONS)
def backward(grad, out, tau, iters, safe, As, Bs, dx, log, lo, hi):
    """The exact gradient with respect to those of matrices lo to hi that are safe."""
    for b in range(lo, hi):
        if safe[b]:
            A, B = As[b, : iters[b]], Bs[b, : iters[b] + 1]
            _backward_one(grad[b], out[b], tau[min(b, tau.size - 1)], log, A, B, dx[b])


def forward_shared(
    x: Any, tau: Any, out: Any, iters: Any, error: Any, safe: Any, As: Any, Bs: Any, *options: Any
) -> None:
    """`forward`, matrix after matrix, the rows of each shared out over the threads."""
    n_iters, tol, log, threads = options
    n = x.shape[1]
    rows, width = padded(n)
    A, B = np.empty((n_iters, rows), x.dtype), np.empty((n_iters + 1, width), x.dtype)
    top = np.empty(n, x.dtype)
    for b in range(x.shape[0]):
        if As.size:
            A, B = As[b], Bs[b]
        rate = rate_of(tau[b])
        done, error[b], safe[b] = _iterate_parallel(x[b], rate, tol, threads, out[b], top, A, B)
        iters[b] = done
        if safe[b]:
            _write_parallel(x[b], rate, log, top, A, B, done - 1, threads, out[b])


def backward_shared(
    grad: Any, out: Any, tau: Any, iters: Any, safe: Any, As: Any, Bs: Any, dx: Any, *options: Any
) -> None:
    """The reverse of `forward_shared`."""
    log, threads = options
    for b in np.flatnonzero(safe):
        S = np.empty_like(out[b]) if log else out[b]
        A, B = As[b, : iters[b]], Bs[b, : iters[b] + 1]
        _reverse_parallel(grad[b], out[b], rate_of(tau[b]), log, S, A, B, threads, dx[b])
