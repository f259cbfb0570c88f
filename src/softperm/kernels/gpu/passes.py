"""The kernels of `tiled`: each is one pass over matrices in global memory.

Programs share out the lines, which are rows in one half of a step and columns in the other, and
walk along them block by block; or they share out tiles. All are numbered in one dimension, the only
one of a launch without a limit that a long matrix would reach.
"""

from __future__ import annotations

import triton
import triton.language as tl

from softperm.kernels.gpu.shared import rate_of


@triton.jit
def _sums(x, rate, w, n_lines, n_along, i, j, line, along):
    """X + w at lines i and places j, w float64 and of their shape; -inf outside."""
    at = i.to(tl.int64)[:, None] * line + j.to(tl.int64)[None, :] * along
    inside = (i[:, None] < n_lines) & (j[None, :] < n_along)
    entries = tl.load(x + at, mask=inside, other=float("-inf"))
    return tl.fma(entries.to(tl.float64), rate, w)


@triton.jit
def _vector(pointer, k, n, i):
    """Entries i of the k-th vector, 0 outside."""
    return tl.load(pointer + k * n + i, mask=i < n, other=0.0)


@triton.jit
def _lines(n_lines, LINES: tl.constexpr):
    """The matrix of a program, and its lines."""
    blocks = tl.cdiv(n_lines, LINES)
    k = tl.program_id(0) // blocks
    return k.to(tl.int64), (tl.program_id(0) % blocks) * LINES + tl.arange(0, LINES)


@triton.jit
def normalise_kernel(
    x, tau, across, log_sums, scalings, tops, totals, n_lines, n_along, line, along,
    GIVEN: tl.constexpr, LINES: tl.constexpr, ALONG: tl.constexpr,
):  # fmt: skip
    """The scalings log_sums - logsumexp(X + across) of lines, and the two parts of the second."""
    k, i = _lines(n_lines, LINES)
    rate = rate_of(tau, k)
    dtype: tl.constexpr = x.dtype.element_ty
    x += k * n_lines * n_along
    top = tl.full((LINES,), float("-inf"), tl.float64)
    shift = tl.zeros((LINES,), tl.float64)  # top, but 0 where there is none
    total = tl.zeros((LINES,), dtype)
    for start in range(0, n_along, ALONG):
        j = start + tl.arange(0, ALONG)
        w = _vector(across, k, n_along, j)[None, :]
        y = _sums(x, rate, w, n_lines, n_along, i, j, line, along)
        higher = tl.maximum(top, tl.max(y, 1))
        shift = tl.where(higher == float("-inf"), 0.0, higher)
        terms = tl.exp((y - shift[:, None]).to(dtype))
        total = total * tl.exp((top - shift).to(dtype)) + tl.sum(terms, 1)
        top = higher
    total = tl.where(total > 0, total, 1.0)
    scaling = -(shift + tl.log(total).to(tl.float64))
    if GIVEN:
        scaling += _vector(log_sums, k, n_lines, i)
    at = k * n_lines + i
    tl.store(scalings + at, scaling, mask=i < n_lines)
    tl.store(tops + at, shift, mask=i < n_lines)
    tl.store(totals + at, total, mask=i < n_lines)


@triton.jit(do_not_specialize=["t", "first"])
def reverse_half_kernel(
    x, tau, own, tops, w, initial, totals, iters, out, t, first, n_lines, n_along, line, along,
    LINES: tl.constexpr, ALONG: tl.constexpr,
):  # fmt: skip
    """The gradient of the scalings `own` of lines, as weights: divided by the totals of the lines.

    Those across have weights w and tops. The gradient is -sum exp(X + own - top) w, in steps t that
    a matrix did not do 0, and starts from `initial` where it did `first` steps.
    """
    k, i = _lines(n_lines, LINES)
    rate = rate_of(tau, k)
    done = tl.load(iters + k)
    dtype: tl.constexpr = x.dtype.element_ty
    scaling = _vector(own, k, n_lines, i)[:, None]
    x += k * n_lines * n_along
    total = tl.zeros((LINES,), dtype)
    for start in range(0, tl.where(t < done, n_along, 0), ALONG):
        j = start + tl.arange(0, ALONG)
        y = _sums(x, rate, scaling, n_lines, n_along, i, j, line, along)
        P = tl.exp((y - _vector(tops, k, n_along, j)[None, :]).to(dtype))
        total += tl.sum(P * _vector(w, k, n_along, j)[None, :], 1)
    total = tl.where(first == done, _vector(initial, k, n_lines, i), 0.0) - total
    at = k * n_lines + i
    total /= tl.load(totals + at, mask=i < n_lines, other=1.0)
    tl.store(out + at, total, mask=i < n_lines)


@triton.jit
def _tile(m, n, LINES: tl.constexpr, ALONG: tl.constexpr):
    """The matrix of a program, its rows and columns, where its entries are, and which of them."""
    wide = tl.cdiv(n, ALONG)
    tiles = tl.cdiv(m, LINES) * wide
    k = (tl.program_id(0) // tiles).to(tl.int64)
    tile = tl.program_id(0) % tiles
    i = (tile // wide) * LINES + tl.arange(0, LINES)
    j = (tile % wide) * ALONG + tl.arange(0, ALONG)
    at = k * m * n + i.to(tl.int64)[:, None] * n + j[None, :]
    return k, i, j, at, (i[:, None] < m) & (j[None, :] < n)


@triton.jit
def entries_kernel(
    x, tau, u, tops, totals, log_sums, grad, out, m, n,
    GIVEN: tl.constexpr, LOG: tl.constexpr, TIMES: tl.constexpr,
    LINES: tl.constexpr, ALONG: tl.constexpr,
):  # fmt: skip
    """S or log S from u and what its columns sum to; with TIMES, S times grad."""
    k, i, j, at, inside = _tile(m, n, LINES, ALONG)
    dtype: tl.constexpr = x.dtype.element_ty
    by_row = _vector(u, k, m, i)[:, None]
    y = _sums(x + k * m * n, rate_of(tau, k), by_row, m, n, i, j, n, 1)
    y -= _vector(tops, k, n, j)[None, :]
    total = tl.load(totals + k * n + j, mask=j < n, other=1.0)
    if LOG:
        y -= tl.log(total).to(tl.float64)[None, :]
        if GIVEN:
            y += _vector(log_sums, k, n, j)[None, :]
    else:
        y = tl.exp(y.to(dtype)) / total[None, :]
        if GIVEN:  # float64 for sums beyond the range of the entries
            y = y.to(tl.float64) * tl.exp(_vector(log_sums, k, n, j))[None, :]
        if TIMES:
            y *= tl.load(grad + at, mask=inside, other=0.0)
    tl.store(out + at, y, mask=inside)


@triton.jit
def gradient_kernel(
    x, tau, us, vs, tops_u, tops_v, dus, dvs, iters, dx, m, n, size_u, size_v,
    LINES: tl.constexpr, ALONG: tl.constexpr,
):  # fmt: skip
    """Take what the steps contribute from dx, which holds d / d log S; divide by tau."""
    k, i, j, at, inside = _tile(m, n, LINES, ALONG)
    rate = rate_of(tau, k)
    dtype: tl.constexpr = x.dtype.element_ty
    X = tl.load(x + at, mask=inside, other=float("-inf")).to(tl.float64)
    G = tl.load(dx + at, mask=inside, other=0.0)
    for _ in range(tl.load(iters + k).to(tl.int32)):
        y = tl.fma(X, rate, _vector(vs, k, n, j)[None, :]) - _vector(tops_u, k, m, i)[:, None]
        G -= tl.exp(y.to(dtype)) * _vector(dus, k, m, i)[:, None]
        y = tl.fma(X, rate, _vector(us, k, m, i)[:, None]) - _vector(tops_v, k, n, j)[None, :]
        G -= tl.exp(y.to(dtype)) * _vector(dvs, k, n, j)[None, :]
        us += size_u  # of the vectors of one step, of all matrices
        tops_u += size_u
        dus += size_u
        vs += size_v
        tops_v += size_v
        dvs += size_v
    tl.store(dx + at, G.to(tl.float64) * rate, mask=inside)
