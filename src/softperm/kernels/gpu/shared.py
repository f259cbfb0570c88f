"""What the kernels for GPUs share.

X + u is x / tau + u by one explicit fused multiply-add wherever it is needed: where X is huge, a
compiler's choice between that and two roundings would make the difference between two kernels, or
between a sum and its largest term, as large as 16 digits allow.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def rate_of(tau, k):
    """1 / tau of matrix k, kept finite: 0 times it must be 0."""
    return 1.0 / tl.maximum(tl.load(tau + k), 1e-300)


@triton.jit
def log_sums_of(sums, k, size, i, GIVEN: tl.constexpr):
    """The logarithms of the wanted sums of lines i of matrix k; -inf outside, as in lines that take
    no part.
    """
    if GIVEN:
        wanted = tl.load(sums + k * size + i, mask=i < size, other=float("-inf"))
    else:
        wanted = tl.where(i < size, 0.0, float("-inf"))
    return wanted.to(tl.float64)


@triton.jit
def place_of(m, n, M: tl.constexpr, N: tl.constexpr):
    """The matrix of a program, its rows and columns, where its entries are, and which of them."""
    k = tl.program_id(0).to(tl.int64)
    i = tl.arange(0, M)
    j = tl.arange(0, N)
    at = k * m * n + (i[:, None] * n + j[None, :])
    return k, i, j, at, (i[:, None] < m) & (j[None, :] < n)


@triton.jit
def factors_of(log_r, log_c, dtype: tl.constexpr, GIVEN: tl.constexpr):
    """The wanted sums in units of the largest one of a column, and this unit; 1 for rows and 0 for
    columns that take no part.

    In these units a sum of exp(80) or exp(-80), at the ends of float32, stands for all beyond.
    """
    r = tl.full(log_r.shape, 1.0, dtype)
    c = tl.full(log_c.shape, 1.0, dtype)
    unit = 1.0
    if GIVEN:
        top = tl.max(log_c, 0)
        top = tl.where(top == float("-inf"), 0.0, top)
        relative = tl.minimum(tl.maximum(log_r - top, -80.0), 80.0)
        r = tl.where(log_r == float("-inf"), r, tl.exp(relative).to(dtype))
        c = tl.exp(log_c - top).to(dtype)
        unit = tl.exp(top)
    return r, c, unit


@triton.jit
def softmax(entries, inside, rate, w, axis: tl.constexpr):
    """exp(X + w) with the lines along an axis divided by their sums, and the logarithms of these:
    the largest exponent (0 for a line of -inf alone) and the rest.
    """
    x = tl.load(entries, mask=inside, other=float("-inf"))
    y = tl.fma(x.to(tl.float64), rate, w)
    top = tl.max(y, axis)
    top = tl.where(top == float("-inf"), 0.0, top)
    y = tl.exp((y - tl.expand_dims(top, axis)).to(x.dtype))
    sums = tl.sum(y, axis)
    sums = tl.where(sums > 0, sums, 1.0)
    return y * tl.expand_dims(1.0 / sums, axis), top, tl.log(sums).to(tl.float64)


@triton.jit
def entries_of(K, a, b, log_c, GIVEN: tl.constexpr):
    """S from K and the factors; float64 for sums beyond the range of the entries."""
    S = a[:, None] * K * b[None, :]
    if GIVEN:
        S = (S.to(tl.float64) * tl.exp(log_c)[None, :]).to(K.dtype)
    return S
