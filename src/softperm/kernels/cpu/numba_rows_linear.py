"""Sinkhorn for larger matrices on CPUs, by scalings: for all but low temperatures.

The same computation as in `numba_lanes_linear`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange

from softperm.kernels.cpu.numba_cache import named
from softperm.kernels.cpu.numba_lanes import OPTIONS, rate_of
from softperm.kernels.cpu.numba_lanes_linear import largest_scaling
from softperm.kernels.cpu.numba_rows import (
    exponentials,
    log_gradient,
    padded,
    read_rows,
    scaled,
    subtract_products,
    sweep,
)
from softperm.kernels.cpu.numba_simd import WIDTH, aligned

_COPIED_UP_TO = 400  # the largest n for which rows that begin anywhere cost more than a copy does


def _parallel(function: Any) -> Any:
    """The function compiled for threads, under a name of its own.

    Numba's cache goes by the name, and would hand out the serial one for it.
    """
    return njit(parallel=True, cache=True, **OPTIONS)(named(function, "_parallel"))


@njit(**OPTIONS)
def _row_error(a, next_a):
    """The largest |row sum - 1| after a step: the next one would divide by the row sums."""
    worst = 0.0
    for i in range(a.size):
        worst = max(worst, abs(a[i] / next_a[i] - 1.0))
    return worst


@njit(**OPTIONS)
def _column_sums(acc, n, out):
    """The sums over chunks."""
    for j in range(n):
        total = acc[0, j]
        for c in range(1, acc.shape[0]):
            total += acc[c, j]
        out[j] = total


@njit(**OPTIONS)
def _column_step(acc, n, A, B, t):
    """Row t + 1 of B from the column sums; whether all scalings of step t are safe."""
    limit = largest_scaling(A)
    one = A.dtype.type(1)
    safe = True
    _column_sums(acc, n, B[t + 1])
    B[t + 1, n:] = 0
    for j in range(n):
        b = one / B[t + 1, j]
        B[t + 1, j] = b
        safe = safe and b <= limit and A[t, j] <= limit
    return safe


@njit(**OPTIONS)
def _chunk(c, chunks, n):
    """The rows of chunk c: from, to; all chunks but the last ones are of whole groups of rows."""
    groups = (n + WIDTH - 1) // WIDTH
    step = (groups + chunks - 1) // chunks * WIDTH
    return min(c * step, n), min((c + 1) * step, n)


def _iterate(x, rate, tol, chunks, K, top, A, B):
    """Scalings A (l, n) and B (l + 1, width), 0 for padding; the steps done, the row error, and
    whether all is safe.
    """
    n = x.shape[0]
    acc, s = aligned((chunks, B.shape[1]), x.dtype), np.empty((1, n), x.dtype)
    B[0, :n], B[0, n:] = 1, 0
    error = 0.0
    for c in prange(chunks):
        lo, hi = _chunk(c, chunks, n)
        exponentials(x, rate, lo, hi, K, top)
    for t in range(A.shape[0]):
        for c in prange(chunks):
            lo, hi = _chunk(c, chunks, n)
            sweep(K, lo, hi, B, t, top, top, True, A, t, acc, c)
        if tol > 0 and t > 0:
            error = _row_error(A[t - 1], A[t])
            if error < tol:
                return t, error, True
        if not _column_step(acc, n, A, B, t):
            return t + 1, error, False
    last = A.shape[0]
    for c in prange(chunks):
        lo, hi = _chunk(c, chunks, n)
        sweep(K, lo, hi, B, last, top, top, True, s, 0, acc, c)
    return last, _row_error(A[last - 1], s[0]), True


_iterate_serial = njit(**OPTIONS)(_iterate)
_iterate_parallel = _parallel(_iterate)


@njit(**OPTIONS)
def _write_logarithms(x, rate, top, u, v, lo, hi, out):
    """Rows lo to hi of (x_ij - top_i) rate + u_i + v_j."""
    for i in range(lo, hi):
        for j in range(v.size):
            out[i, j] = (x[i, j] - top[i]) * rate + (u[i] + v[j])


def _write(x, rate, log, top, A, B, last, chunks, K, out):
    """S from K; log S from the scalings alone, exact where S underflows."""
    n = x.shape[0]
    u, v = np.log(A[last, : n if log else 0]), np.log(B[last + 1, : n if log else 0])
    for c in prange(chunks):
        lo, hi = _chunk(c, chunks, n)
        if log:
            _write_logarithms(x, rate, top, u, v, lo, hi, out)
        else:
            scaled(K, A[last], B, last + 1, lo, hi, out)


_write_serial = njit(**OPTIONS)(_write)
_write_parallel = _parallel(_write)


@njit(**OPTIONS)
def _relative(A, B, n):
    """The scalings of every step divided by the last ones, 0 for padding of columns."""
    RA, RB = np.empty_like(A), aligned(B.shape, B.dtype)
    last = A.shape[0] - 1
    one = A.dtype.type(1)
    for i in range(n):
        RA[0, i], RB[0, i] = one / A[last, i], one / B[last + 1, i]
    RB[:, n:] = 0
    for t in range(last, -1, -1):
        for i in range(n):
            RA[t, i] = A[t, i] * RA[0, i]
        for j in range(n):
            RB[t, j] = B[t, j] * RB[0, j]
    RB[last + 1, :n] = 1
    return RA, RB


@njit(**OPTIONS)
def _before_sweep(A, B, t, n, du, dv, P, c0, c1):
    """The vectors that the sweep back through step t takes; du counts in the last step only."""
    for j in range(n):
        P[t, j] = B[t + 1, j] * dv[j]
    for i in range(n):
        c0[i] = A[t, i] * du[i]
        c1[i] = A[t, i] * A[t, i]
        du[i] = 0


@njit(**OPTIONS)
def _after_sweep(acc, n, B, t, dv):
    """dv becomes the gradient with respect to the column scalings of the step before."""
    _column_sums(acc, n, dv)
    for j in range(n):
        dv[j] *= -B[t, j]


def _reverse(grad, out, rate, log, copied, S, A, B, chunks, dx):
    """The gradient with respect to x by way of the scalings of every step."""
    n = grad.shape[0]
    P, Q = aligned(B.shape, B.dtype), np.empty_like(A)
    P[:, n:] = 0
    acc = aligned((chunks, B.shape[1]), S.dtype)
    du, dv = np.empty(n, S.dtype), np.empty(n, S.dtype)
    c0, c1 = np.empty(n, S.dtype), np.empty(n, S.dtype)
    for c in prange(chunks):
        lo, hi = _chunk(c, chunks, n)
        if log or copied:
            read_rows(out, log, lo, hi, S)
        log_gradient(S, grad, log, lo, hi, dx, du, acc, c)
    _column_sums(acc, n, dv)
    A, B = _relative(A, B, n)
    for t in range(A.shape[0] - 1, -1, -1):
        _before_sweep(A, B, t, n, du, dv, P, c0, c1)
        for c in prange(chunks):
            lo, hi = _chunk(c, chunks, n)
            sweep(S, lo, hi, P, t, c0, c1, False, Q, t, acc, c)
        _after_sweep(acc, n, B, t, dv)
    for c in prange(chunks):
        lo, hi = _chunk(c, chunks, n)
        subtract_products(S, lo, hi, A, P, Q, B, rate, dx)


_reverse_serial = njit(**OPTIONS)(_reverse)
_reverse_parallel = _parallel(_reverse)


@njit(**OPTIONS)
def _copy_of_rows(x):
    """Room for as many rows, padded with zeros to whole vectors; none where it does not pay."""
    n = x.shape[1]
    width = padded(n) if n % WIDTH and n <= _COPIED_UP_TO else 0
    K = aligned((n, width), x.dtype)
    K[:, n:] = 0
    return K


@njit(**OPTIONS)
def _forward_one(x, tau, tol, log, K, top, out, A, B):
    rate = rate_of(tau)
    done, error, safe = _iterate_serial(x, rate, tol, 1, K, top, A, B)
    if safe:
        _write_serial(x, rate, log, top, A, B, done - 1, 1, K, out)
    return done, error, safe


@njit(**OPTIONS)
def forward(x, tau, out, iters, error, safe, As, Bs, n_iters, tol, log, lo, hi):
    """Results, steps done and largest row errors of those of matrices lo to hi that stay safe.

    Marks them in `safe`; leaves the scalings of every step in As and Bs, unless they are empty.
    """
    n = x.shape[1]
    A, B = np.empty((n_iters, n), x.dtype), np.empty((n_iters + 1, padded(n)), x.dtype)
    top, K = np.empty(n, x.dtype), _copy_of_rows(x)
    copied = K.size > 0
    for b in range(lo, hi):
        if As.size:
            A, B = As[b], Bs[b]
        if not copied:
            K = out[b]
        t = tau[min(b, tau.size - 1)]
        iters[b], error[b], safe[b] = _forward_one(x[b], t, tol, log, K, top, out[b], A, B)


@njit(**OPTIONS)
def backward(grad, out, tau, iters, safe, As, Bs, dx, log, lo, hi):
    """The exact gradient with respect to those of matrices lo to hi that are safe."""
    S = _copy_of_rows(out)
    copied = S.size > 0
    if log and not copied:
        S = np.empty_like(out[0])
    for b in range(lo, hi):
        if safe[b]:
            A, B = As[b, : iters[b]], Bs[b, : iters[b] + 1]
            if not copied and not log:
                S = out[b]
            rate = rate_of(tau[min(b, tau.size - 1)])
            _reverse_serial(grad[b], out[b], rate, log, copied, S, A, B, 1, dx[b])


def forward_shared(
    x: Any, tau: Any, out: Any, iters: Any, error: Any, safe: Any, As: Any, Bs: Any, *options: Any
) -> None:
    """`forward`, matrix after matrix, the rows of each shared out over the threads."""
    n_iters, tol, log, threads = options
    n = x.shape[1]
    A, B = np.empty((n_iters, n), x.dtype), np.empty((n_iters + 1, padded(n)), x.dtype)
    top = np.empty(n, x.dtype)
    for b in range(x.shape[0]):
        if As.size:
            A, B = As[b], Bs[b]
        rate = rate_of(tau[b])
        done, error[b], safe[b] = _iterate_parallel(x[b], rate, tol, threads, out[b], top, A, B)
        iters[b] = done
        if safe[b]:
            _write_parallel(x[b], rate, log, top, A, B, done - 1, threads, out[b], out[b])


def backward_shared(
    grad: Any, out: Any, tau: Any, iters: Any, safe: Any, As: Any, Bs: Any, dx: Any, *options: Any
) -> None:
    """The reverse of `forward_shared`."""
    log, threads = options
    for b in np.flatnonzero(safe):
        S = np.empty_like(out[b]) if log else out[b]
        A, B = As[b, : iters[b]], Bs[b, : iters[b] + 1]
        _reverse_parallel(grad[b], out[b], rate_of(tau[b]), log, False, S, A, B, threads, dx[b])
