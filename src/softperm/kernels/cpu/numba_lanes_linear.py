"""Sinkhorn for small matrices on CPUs, by scalings: for all but low temperatures.

With X = log_alpha / tau and K = exp(X - row maximum) the iterate is S_ij = a_i K_ij b_j. Only the
scalings change: one pass over K, which stays in the cache, does a row and a column step. The
reverse pass reads the scalings of every step that the forward pass left. Lanes whose scalings leave
the safe range are marked, for `numba_lanes_log` to do again.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from softperm.kernels.cpu.numba_exp import exp
from softperm.kernels.cpu.numba_exp import log as vector_log
from softperm.kernels.cpu.numba_lanes import (
    OPTIONS,
    in_range,
    multiply,
    rates,
    read,
    subtract_products,
    sweep,
    write,
)
from softperm.kernels.cpu.numba_simd import (
    WIDTH,
    absolute,
    aligned,
    keep_if_at_most,
    keep_nan,
    load,
    maximum,
    minimum,
    splat,
    store,
    to_double,
    to_dtype_of,
    total,
)


@njit(**OPTIONS)
def largest_scaling(K):
    """Entries of K below the normal range are 0; scalings up to this cannot lift them to notice."""
    return K.dtype.type(1e15 if K.itemsize == 4 else 1e140)


@njit(**OPTIONS)
def _exponentials(K, rate, top):
    """Replace X in K by exp((X - row maximum) rate); NaN stays, and makes its lane unsafe."""
    n = K.shape[1]
    speed = to_dtype_of(K, minimum(load(rate, 0), splat(in_range(np.inf))))
    for i in range(n):
        row = i * n * WIDTH
        m = load(K, row)
        for j in range(1, n):
            m = maximum(m, load(K, row + j * WIDTH))
        store(top, i * WIDTH, m)
        for j in range(n):
            at = row + j * WIDTH
            X = (load(K, at) - m) * speed
            store(K, at, keep_nan(exp(X), X))


@njit(**OPTIONS)
def _iterate(K, A, B):
    """The scalings of every step, A (l, n) and B (l + 1, n) in lanes; 1 in lanes that stay safe."""
    n = K.shape[1]
    one = splat(K.dtype.type(1))
    limit = splat(largest_scaling(K))
    safe = one
    B[0] = 1
    for t in range(A.shape[0]):
        sweep(K, B, t, A[0], A[0], True, A, t, B, t + 1)
        for j in range(n):
            at = (t * n + j) * WIDTH
            b = one / load(B, at + n * WIDTH)
            safe = keep_if_at_most(safe, b, limit)
            safe = keep_if_at_most(safe, load(A, at), limit)
            store(B, at + n * WIDTH, b)
        if total(safe) == 0:
            break
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
def _log_scale(X, rate, top, A, B):
    """Turn X into log S by way of the scalings: exact where S underflows."""
    n = X.shape[1]
    last = A.shape[0] - 1
    speed = load(rate, 0)
    v = aligned((n, WIDTH), np.float64)
    for j in range(n):
        store(v, j * WIDTH, vector_log(load(B, ((last + 1) * n + j) * WIDTH)))
    for i in range(n):
        u = vector_log(load(A, (last * n + i) * WIDTH))
        m = to_double(load(top, i * WIDTH))
        for j in range(n):
            at = (i * n + j) * WIDTH
            s = (to_double(load(X, at)) - m) * speed + (u + load(v, j * WIDTH))
            store(X, at, to_dtype_of(X, s))


@njit(**OPTIONS)
def forward(x, tau, out, error, safe, scalings, n_iters, log, keep, lo, hi):
    """S (or log S) and largest row errors of the matrices of blocks lo to hi that stay safe.

    Marks them in `safe`; with `keep` leaves the scalings of every step in `scalings`, a block each.
    """
    n = x.shape[1]
    K = aligned((n, n, WIDTH), x.dtype)
    top = aligned((n, WIDTH), x.dtype)
    worst, fine = np.empty(WIDTH, x.dtype), np.empty(WIDTH, x.dtype)
    steps = aligned((2 * n_iters + 1, n, WIDTH), x.dtype)
    for block in range(lo, hi):
        first = block * WIDTH
        if keep:
            steps = scalings[block]
        A, B = steps[:n_iters], steps[n_iters:]
        rate = rates(tau, first)
        read(x, first, K)
        _exponentials(K, rate, top)
        store(fine, 0, _iterate(K, A, B))
        store(worst, 0, _scale(K, A, B))
        if log:
            read(x, first, K)
            _log_scale(K, rate, top, A, B)
        write(K, first, fine, out)
        for lane in range(min(WIDTH, x.shape[0] - first)):
            safe[first + lane] = fine[lane] != 0
            error[first + lane] = worst[lane]


@njit(**OPTIONS)
def _relative(A, B, RA, RB):
    """The scalings of every step, relative to the last ones."""
    n = A.shape[1]
    last = A.shape[0] - 1
    one = splat(A.dtype.type(1))
    for i in range(n):
        fa = one / load(A, (last * n + i) * WIDTH)
        fb = one / load(B, ((last + 1) * n + i) * WIDTH)
        for t in range(last + 1):
            at = (t * n + i) * WIDTH
            store(RA, at, load(A, at) * fa)
            store(RB, at, load(B, at) * fb)
        store(RB, ((last + 1) * n + i) * WIDTH, one)


@njit(**OPTIONS)
def _log_gradient(S, G, log, du, dv):
    """Turn G = d / d S (with `log`: d / d log S) into d / d log S; its row and column sums."""
    n = S.shape[1]
    dv[:] = 0
    for i in range(n):
        row = splat(S.dtype.type(0))
        for j in range(n):
            at = (i * n + j) * WIDTH
            g = load(G, at)
            if not log:
                g = g * load(S, at)
                store(G, at, g)
            row = row + g
            store(dv, j * WIDTH, load(dv, j * WIDTH) + g)
        store(du, i * WIDTH, row)


@njit(**OPTIONS)
def _reverse(S, A, B, P, Q, du, dv, c0, c1):
    """The gradient by way of the scalings of every step.

    The column steps' part is -S_ij sum_t A_ti P_tj, the row steps' -S_ij sum_t Q_ti B_tj.
    """
    n = S.shape[1]
    zero = splat(S.dtype.type(0))
    for t in range(A.shape[0] - 1, -1, -1):
        for j in range(n):
            at = (t * n + j) * WIDTH
            a = load(A, at)
            store(P, at, load(B, at + n * WIDTH) * load(dv, j * WIDTH))
            store(c0, j * WIDTH, a * load(du, j * WIDTH))
            store(c1, j * WIDTH, a * a)
            store(du, j * WIDTH, zero)
        sweep(S, P, t, c0, c1, False, Q, t, dv, 0)
        for j in range(n):
            b = load(B, (t * n + j) * WIDTH)
            store(dv, j * WIDTH, zero - b * load(dv, j * WIDTH))


@njit(**OPTIONS)
def _exp_all(S):
    """Turn log S into S."""
    for at in range(0, S.size, WIDTH):
        store(S, at, exp(load(S, at)))


@njit(**OPTIONS)
def backward(grad, out, tau, safe, scalings, dx, log, lo, hi):
    """The exact gradient with respect to the safe matrices of blocks lo to hi."""
    n = out.shape[1]
    n_iters = scalings.shape[1] // 2
    S, G = aligned((n, n, WIDTH), out.dtype), aligned((n, n, WIDTH), out.dtype)
    A, P = aligned((n_iters, n, WIDTH), out.dtype), aligned((n_iters, n, WIDTH), out.dtype)
    Q, B = aligned((n_iters, n, WIDTH), out.dtype), aligned((n_iters + 1, n, WIDTH), out.dtype)
    du, dv = aligned((n, WIDTH), out.dtype), aligned((1, n, WIDTH), out.dtype)
    c0, c1 = aligned((n, WIDTH), out.dtype), aligned((n, WIDTH), out.dtype)
    fine = np.zeros(WIDTH, out.dtype)
    for block in range(lo, hi):
        first = block * WIDTH
        fine[:] = 0
        for lane in range(min(WIDTH, out.shape[0] - first)):
            fine[lane] = safe[first + lane]
        if not fine.any():
            continue
        read(out, first, S)
        read(grad, first, G)
        if log:
            _exp_all(S)
        _log_gradient(S, G, log, du, dv)
        _relative(scalings[block, :n_iters], scalings[block, n_iters:], A, B)
        _reverse(S, A, B, P, Q, du, dv, c0, c1)
        subtract_products(S, A, P, Q, B, G)
        multiply(G, rates(tau, first))
        write(G, first, fine, dx)
