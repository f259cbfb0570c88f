"""The reverse pass of `fused`: through the steps backwards, on the K that each of them had."""

from __future__ import annotations

import triton
import triton.language as tl

from softperm.kernels.gpu.shared import (
    entries_of,
    factors_of,
    log_sums_of,
    place_of,
    rate_of,
    softmax,
)


@triton.jit
def _column_softmax(entries, inside, rate, us, t, m, i):
    """K as it was absorbed in step t."""
    u = tl.load(us + t * m + i, mask=i < m, other=0.0)
    K, _, _ = softmax(entries, inside, rate, u[:, None], 0)
    return K


@triton.jit
def _row_softmax(entries, inside, rate, vs, t, n, j):
    """What the rows were in step t, from the scalings of the columns before."""
    v = tl.load(vs + t * n + j, mask=j < n, other=0.0)
    K, _, _ = softmax(entries, inside, rate, v[None, :], 1)
    return K


@triton.jit
def reverse_kernel(
    grad, x, tau, log_rows, log_columns, iters, us, vs, alphas, betas, absorbed,
    dx, d_rows, d_columns, m, n, steps,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, M: tl.constexpr, N: tl.constexpr,
    LOG: tl.constexpr,
):  # fmt: skip
    """The gradient with respect to a matrix and its log sums, from what all its steps have kept."""
    k, i, j, at, inside = place_of(m, n, M, N)
    entries = x + at
    rate = rate_of(tau, k)
    log_r = log_sums_of(log_rows, k, m, i, ROWS)
    log_c = log_sums_of(log_columns, k, n, j, COLUMNS)
    r, c, _ = factors_of(log_r, log_c, x.dtype.element_ty, ROWS or COLUMNS)
    first = k * steps
    us += first * m
    vs += first * n
    alphas += first * m
    betas += first * n
    absorbed += first
    t = tl.load(iters + k).to(tl.int32) - 1
    last = tl.load(absorbed + t)
    K = _column_softmax(entries, inside, rate, us, last, m, i)
    a = tl.load(alphas + t * m + i, mask=i < m, other=1.0)
    b = tl.load(betas + t * n + j, mask=j < n, other=1.0)
    G = tl.load(grad + at, mask=inside, other=0.0)
    if not LOG:
        G *= entries_of(K, a, b, log_c, COLUMNS)
    du = tl.sum(G, 1)
    dv = tl.sum(G, 0)
    sum_du = tl.zeros(du.shape, du.dtype)
    sum_dv = tl.zeros(dv.shape, dv.dtype)
    while t >= 0:
        weights = b * dv  # the columns of a K b sum to 1
        G -= a[:, None] * K * weights[None, :]
        du -= a * tl.sum(K * weights[None, :], 1)
        sum_du += du
        sum_dv += dv
        before = tl.load(betas + (t - 1) * n + j, mask=(j < n) & (t > 0), other=1.0)
        in_logs = last == t
        if in_logs:
            K = _row_softmax(entries, inside, rate, vs, t, n, j)
            by_row = du
            by_column = tl.full(b.shape, 1.0, b.dtype)
        else:
            by_row = a / r * du  # the rows of a / r K c b sum to 1, b being that before
            by_column = c * before
        G -= by_row[:, None] * K * by_column[None, :]
        dv = -by_column * tl.sum(K * by_row[:, None], 0)
        du = tl.zeros(du.shape, du.dtype)
        b = before
        t -= 1
        if t >= 0:
            a = tl.load(alphas + t * m + i, mask=i < m, other=1.0)
            if in_logs:
                last = tl.load(absorbed + t)
                K = _column_softmax(entries, inside, rate, us, last, m, i)
    tl.store(dx + at, G.to(tl.float64) * rate, mask=inside)
    tl.store(d_rows + k * m + i, sum_du, mask=i < m)
    tl.store(d_columns + k * n + j, sum_dv, mask=j < n)
