"""Sinkhorn on GPUs for matrices of any size: passes over the matrix in global memory.

Every half step is one pass in the log domain over x itself: float64 sums X + u + v, of which only
the exponential is taken in the dtype of x. Programs share out the lines, which are rows in one half
of a step and columns in the other, and walk along them block by block. Nothing of the size of the
matrix is stored but the result.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from softperm.kernels import reference
from softperm.kernels.gpu.fused import rate_of

_ROW_BLOCKS = {"LINES": 4, "ALONG": 512}
_COLUMN_BLOCKS = {"LINES": 32, "ALONG": 64}
_TILES = {"LINES": 16, "ALONG": 128}
_LAUNCH = {"num_warps": 4, "enable_fp_fusion": True}


@triton.jit
def _scaled(x, rate, n, i, j, line, along):
    """x rate at lines i and places j, float64; -inf outside. x points to a matrix."""
    at = i.to(tl.int64)[:, None] * line + j.to(tl.int64)[None, :] * along
    inside = (i[:, None] < n) & (j[None, :] < n)
    return tl.load(x + at, mask=inside, other=float("-inf")).to(tl.float64) * rate


@triton.jit
def _vector(pointer, m, n, i):
    """Entries i of the m-th vector, 0 outside."""
    return tl.load(pointer + m * n + i, mask=i < n, other=0.0)


@triton.jit
def _probabilities(X, u, v, dtype: tl.constexpr):
    """exp(X + u + v); the bound guards against rounding where X is huge."""
    return tl.exp(tl.minimum(X + u[:, None] + v[None, :], 0.0).to(dtype))


@triton.jit
def normalise_kernel(
    x, tau, v, out, n, line, along, LINES: tl.constexpr, ALONG: tl.constexpr
):  # fmt: skip
    """out = -logsumexp(X + v) along lines, v being the scalings across."""
    m = tl.program_id(0).to(tl.int64)
    i = tl.program_id(1) * LINES + tl.arange(0, LINES)
    rate = rate_of(tau, m)
    dtype: tl.constexpr = x.dtype.element_ty
    top = tl.full((LINES,), float("-inf"), tl.float64)
    total = tl.zeros((LINES,), dtype)
    for start in range(0, n, ALONG):
        j = start + tl.arange(0, ALONG)
        y = _scaled(x + m * n * n, rate, n, i, j, line, along) + _vector(v, m, n, j)[None, :]
        higher = tl.maximum(top, tl.max(y, 1))
        shift = tl.where(higher == float("-inf"), 0.0, higher)
        terms = tl.exp((y - shift[:, None]).to(dtype))
        total = total * tl.exp((top - shift).to(dtype)) + tl.sum(terms, 1)
        top = higher
    total = tl.where(i < n, total, 1.0)
    tl.store(out + m * n + i, -(top + tl.log(total).to(tl.float64)), mask=i < n)


@triton.jit
def reverse_half_kernel(
    x, tau, u, v, w, earlier, iters, out, t, n, line, along,
    COLUMNS: tl.constexpr, LINES: tl.constexpr, ALONG: tl.constexpr,
):  # fmt: skip
    """The gradient of u_t (COLUMNS: back through the column half) or of v_t, from w, the other one.

    out = -sum exp(X + u + v) w along lines; the gradient of the last u starts from `earlier`. In
    steps that a matrix did not do, that of u is 0 and that of v stays what it was.
    """
    m = tl.program_id(0).to(tl.int64)
    i = tl.program_id(1) * LINES + tl.arange(0, LINES)
    rate = rate_of(tau, m)
    done = tl.load(iters + m)
    dtype: tl.constexpr = x.dtype.element_ty
    lines = _vector(u, m, n, i)
    total = tl.zeros((LINES,), dtype)
    for start in range(0, tl.where(t < done, n, 0), ALONG):
        j = start + tl.arange(0, ALONG)
        X = _scaled(x + m * n * n, rate, n, i, j, line, along)
        P = _probabilities(X, lines, _vector(v, m, n, j), dtype)
        total += tl.sum(P * _vector(w, m, n, j)[None, :], 1)
    keeps = t + 1 == done if COLUMNS else t >= done
    first = tl.where(keeps, _vector(earlier, m, n, i), 0.0)
    tl.store(out + m * n + i, first - total, mask=i < n)


@triton.jit
def _tile(n, LINES: tl.constexpr, ALONG: tl.constexpr):
    """Matrix, rows and columns of a program, the place of its entries, and which are inside."""
    m = tl.program_id(0).to(tl.int64)
    i = tl.program_id(1) * LINES + tl.arange(0, LINES)
    j = tl.program_id(2) * ALONG + tl.arange(0, ALONG)
    at = m * n * n + i.to(tl.int64)[:, None] * n + j[None, :]
    return m, i, j, at, (i[:, None] < n) & (j[None, :] < n)


@triton.jit
def entries_kernel(
    x, tau, u, v, grad, out, n,
    LOG: tl.constexpr, TIMES: tl.constexpr, LINES: tl.constexpr, ALONG: tl.constexpr,
):  # fmt: skip
    """S or log S from the scalings; with TIMES, S times grad."""
    m, i, j, at, inside = _tile(n, LINES, ALONG)
    X = _scaled(x + m * n * n, rate_of(tau, m), n, i, j, n, 1)
    if LOG:
        y = X + _vector(u, m, n, i)[:, None] + _vector(v, m, n, j)[None, :]
    else:
        y = _probabilities(X, _vector(u, m, n, i), _vector(v, m, n, j), x.dtype.element_ty)
        if TIMES:
            y *= tl.load(grad + at, mask=inside, other=0.0)
    tl.store(out + at, y, mask=inside)


@triton.jit
def gradient_kernel(
    x, tau, us, vs, dus, dvs, iters, dx, n, size, LINES: tl.constexpr, ALONG: tl.constexpr
):  # fmt: skip
    """Take what the steps contribute from dx, which holds d / d log S; divide by tau."""
    m, i, j, at, inside = _tile(n, LINES, ALONG)
    rate = rate_of(tau, m)
    X = _scaled(x + m * n * n, rate, n, i, j, n, 1)
    dtype: tl.constexpr = x.dtype.element_ty
    G = tl.load(dx + at, mask=inside, other=0.0)
    before = _vector(vs, m, n, j)
    for _ in range(tl.load(iters + m).to(tl.int32)):
        vs += size  # of the vectors of one step, of all matrices
        dvs += size
        u, after = _vector(us, m, n, i), _vector(vs, m, n, j)
        G -= _probabilities(X, u, after, dtype) * _vector(dvs, m, n, j)[None, :]
        G -= _probabilities(X, u, before, dtype) * _vector(dus, m, n, i)[:, None]
        us += size
        dus += size
        before = after
    tl.store(dx + at, G.to(tl.float64) * rate, mask=inside)


def _passes(x: Tensor, kernel: Any, *arguments: Any, columns: bool, **flags: Any) -> None:
    """Launch a kernel along all rows, or along all columns."""
    n = x.shape[-1]
    blocks = _COLUMN_BLOCKS if columns else _ROW_BLOCKS
    strides = (1, n) if columns else (n, 1)
    grid = (x.shape[:-2].numel(), triton.cdiv(n, blocks["LINES"]))
    kernel[grid](x, *arguments, n, *strides, **flags, **blocks, **_LAUNCH)


def _normalise(x: Tensor, tau: Tensor, columns: bool, scalings: Tensor) -> Tensor:
    """The scalings of the rows from those of the columns, or the other way round."""
    out = torch.empty_like(scalings)
    _passes(x, normalise_kernel, tau, scalings, out, columns=columns)
    return out


def _iterate(
    x: Tensor, tau: Tensor, n_iters: int, tol: float
) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """As in `reference`: the scalings of every step, and the steps done."""
    start = torch.zeros(x.shape[:-1], dtype=torch.float64, device=x.device)
    rows, columns = partial(_normalise, x, tau, False), partial(_normalise, x, tau, True)
    return reference.iterate(rows, columns, start, n_iters, tol)


def _tiles(x: Tensor) -> tuple[int, int, int]:
    n = x.shape[-1]
    lines, along = triton.cdiv(n, _TILES["LINES"]), triton.cdiv(n, _TILES["ALONG"])
    return x.shape[:-2].numel(), lines, along


def _entries(
    x: Tensor, tau: Tensor, u: Tensor, v: Tensor, log: bool, grad: Tensor | None = None
) -> Tensor:
    """S or log S from the scalings, or S times grad."""
    out = torch.empty_like(x)
    times = x if grad is None else grad
    flags = {"LOG": log, "TIMES": grad is not None}
    entries_kernel[_tiles(x)](x, tau, u, v, times, out, x.shape[-1], **flags, **_TILES, **_LAUNCH)
    return out


def forward(
    x: Tensor, tau: Tensor, n_iters: int, tol: float, log: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """S (or log S) of every matrix, the iterations done, and the largest row error."""
    us, vs, iters = _iterate(x, tau, n_iters, tol)
    error = reference.row_error(us[-1], _normalise(x, tau, False, vs[-1]))
    return _entries(x, tau, us[-1], vs[-1], log), iters, error.to(x.dtype)


def backward(
    grad: Tensor, x: Tensor, tau: Tensor, iters: Tensor, n_iters: int, tol: float, log: bool
) -> Tensor:
    """The exact gradient of the iterations done with respect to x."""
    u_steps, v_steps, _ = _iterate(x, tau, n_iters, tol)
    us, vs = torch.stack(u_steps), torch.stack([torch.zeros_like(v_steps[0]), *v_steps])
    dx = grad.clone() if log else _entries(x, tau, us[-1], vs[-1], False, grad)
    dus, dvs = torch.empty_like(us, dtype=x.dtype), torch.empty_like(vs, dtype=x.dtype)
    du = dx.sum(-1)
    dvs[-1] = dx.sum(-2)
    for t in reversed(range(len(us))):
        arguments = (tau, us[t], vs[t + 1], dvs[t + 1], du, iters, dus[t], t)
        _passes(x, reverse_half_kernel, *arguments, columns=False, COLUMNS=True)
        arguments = (tau, vs[t], us[t], dus[t], dvs[t + 1], iters, dvs[t], t)
        _passes(x, reverse_half_kernel, *arguments, columns=True, COLUMNS=False)
    size = us[0].numel()
    arguments = (tau, us, vs, dus, dvs, iters, dx, x.shape[-1], size)
    gradient_kernel[_tiles(x)](x, *arguments, **_TILES, **_LAUNCH)
    return dx
