"""Sinkhorn on GPUs for matrices that fit on chip: one program a matrix, in registers throughout.

A program holds K = exp(X + u + v), whose entries are at most 1, for scalings u and v (float64) that
it has absorbed, and further scalings a and b as plain factors, so that a step costs two products
with K. Where a factor grows so large that entries lost to underflow could matter, the step is done
in the log domain instead, on float64 sums X + u + v, and what comes out is absorbed.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

_BYTES = 65_536  # the largest K to hold in registers, in whole blocks
_SMALLEST_BLOCK = 16
# exp(-10): a factor stays below exp(10), so that what underflows in K, below exp(-87), stays below
# exp(-67) in S, and the rounding of the exponents that count, above exp(-20), below 1e-6.
_LEAST_SUM = tl.constexpr(4.5e-5)
_LARGEST_LOG_FACTOR = tl.constexpr(10.0)


def block_size(n: int) -> int:
    """The side of the square of registers that holds an n x n matrix."""
    return max(_SMALLEST_BLOCK, triton.next_power_of_2(n))


def fits(x: Tensor) -> bool:
    """Whether a matrix of x fits on chip."""
    return block_size(x.shape[-1]) ** 2 * x.element_size() <= _BYTES


@triton.jit
def rate_of(tau, b):
    """1 / tau, kept finite: 0 times it must be 0."""
    return 1.0 / tl.maximum(tl.load(tau + b), 1e-300)


@triton.jit
def _exponentials(entries, inside, rate, u, v):
    """K = exp(X + u + v); the bound guards against rounding where X is huge."""
    x = tl.load(entries, mask=inside, other=float("-inf"))
    y = x.to(tl.float64) * rate + u[:, None] + v[None, :]
    return tl.exp(tl.minimum(y, 0.0).to(x.dtype))


@triton.jit
def _log_sums(y, axis: tl.constexpr, dtype: tl.constexpr):
    """logsumexp along an axis, 0 for lines of padding."""
    top = tl.max(y, axis)
    top = tl.where(top == float("-inf"), 0.0, top)
    sums = tl.sum(tl.exp((y - tl.expand_dims(top, axis)).to(dtype)), axis)
    return top + tl.log(tl.where(sums > 0, sums, 1.0)).to(tl.float64)


@triton.jit
def _log_step(entries, inside, rate, v):
    """One step in the log domain: u, v and K."""
    x = tl.load(entries, mask=inside, other=float("-inf"))
    X = x.to(tl.float64) * rate
    u = -_log_sums(X + v[None, :], 1, x.dtype)
    v = -_log_sums(X + u[:, None], 0, x.dtype)
    return u, v, _exponentials(entries, inside, rate, u, v)


@triton.jit
def _step(entries, inside, rate, valid, u, v, K, a, b, rows):
    """One step from the row sums of K b: absorbed scalings, K and factors."""
    rows = tl.where(valid, rows, 1.0)
    next_a = 1.0 / tl.maximum(rows, _LEAST_SUM)
    columns = tl.where(valid, tl.sum(K * next_a[:, None], 0), 1.0)
    next_b = 1.0 / tl.maximum(columns, _LEAST_SUM)
    if tl.minimum(tl.min(rows, 0), tl.min(columns, 0)) > _LEAST_SUM:
        a = next_a
        b = next_b
    else:
        u, v, K = _log_step(entries, inside, rate, v + tl.log(b).to(tl.float64))
        a = tl.full(a.shape, 1.0, K.dtype)
        b = a
    return u, v, K, a, b


@triton.jit
def _row_error(valid, a, rows):
    """The largest |row sum - 1|, from the row sums of K b."""
    return tl.max(tl.where(valid, tl.abs(a * rows - 1.0), 0.0), 0)


@triton.jit
def _keep(us, vs, t, n, i, valid, u, v, a, b):
    """Write down the scalings of step t."""
    tl.store(us + t * n + i, u + tl.log(a).to(tl.float64), mask=valid)
    tl.store(vs + (t + 1) * n + i, v + tl.log(b).to(tl.float64), mask=valid)


@triton.jit
def _iterate(
    entries, inside, rate, us, vs, n, i, n_iters, tol, STOP: tl.constexpr, KEEP: tl.constexpr
):
    """Absorbed scalings, K, factors, steps done and row error; with KEEP, write all scalings."""
    valid = i < n
    u, v, K = _log_step(entries, inside, rate, tl.zeros(i.shape, tl.float64))
    a = tl.full(i.shape, 1.0, K.dtype)
    b = a
    rows = tl.sum(K, 1)
    t = 1
    going = True
    if KEEP:
        tl.store(vs + i, tl.zeros(i.shape, tl.float64), mask=valid)
        _keep(us, vs, 0, n, i, valid, u, v, a, b)
    if STOP:
        going = _row_error(valid, a, rows) >= tol
    while (t < n_iters) & going:
        u, v, K, a, b = _step(entries, inside, rate, valid, u, v, K, a, b, rows)
        rows = tl.sum(K * b[None, :], 1)
        if KEEP:
            _keep(us, vs, t, n, i, valid, u, v, a, b)
        if STOP:
            going = _row_error(valid, a, rows) >= tol
        t += 1
    return u, v, K, a, b, t, _row_error(valid, a, rows)


@triton.jit
def forward_kernel(
    x, tau, out, iters, error, n, n_iters, tol,
    B: tl.constexpr, LOG: tl.constexpr, STOP: tl.constexpr,
):  # fmt: skip
    """S (or log S) of a matrix, the steps done and the row error."""
    m = tl.program_id(0).to(tl.int64)
    i = tl.arange(0, B)
    inside = (i[:, None] < n) & (i[None, :] < n)
    at = i[:, None] * n + i[None, :]
    entries = x + m * n * n + at
    rate = rate_of(tau, m)
    u, v, K, a, b, t, worst = _iterate(
        entries, inside, rate, tau, tau, n, i, n_iters, tol, STOP, False
    )
    tl.store(iters + m, t)
    tl.store(error + m, worst)
    out += m * n * n
    if LOG:
        u += tl.log(a).to(tl.float64)
        v += tl.log(b).to(tl.float64)
        X = tl.load(entries, mask=inside, other=0.0).to(tl.float64) * rate
        tl.store(out + at, X + u[:, None] + v[None, :], mask=inside)
    else:
        tl.store(out + at, a[:, None] * K * b[None, :], mask=inside)


@triton.jit
def scalings_kernel(x, tau, iters, us, vs, n, n_iters, B: tl.constexpr):
    """The scalings of all steps of a matrix, us (l, n) and vs (l + 1, n) with 0 first."""
    m = tl.program_id(0).to(tl.int64)
    i = tl.arange(0, B)
    inside = (i[:, None] < n) & (i[None, :] < n)
    entries = x + m * n * n + (i[:, None] * n + i[None, :])
    us += m * n_iters * n
    vs += m * (n_iters + 1) * n
    done = tl.load(iters + m).to(tl.int32)
    _iterate(entries, inside, rate_of(tau, m), us, vs, n, i, done, 0.0, False, True)


@triton.jit
def _absorb(entries, inside, rate, u, v, K, at_u, at_v):
    """Absorbed u and v, their K, and factors from there to at_u and at_v; absorbs anew when far."""
    if tl.maximum(tl.max(at_u - u, 0), tl.max(at_v - v, 0)) > _LARGEST_LOG_FACTOR:
        u = at_u
        v = at_v
        K = _exponentials(entries, inside, rate, u, v)
    return u, v, K, tl.exp((at_u - u).to(K.dtype)), tl.exp((at_v - v).to(K.dtype))


@triton.jit
def reverse_kernel(grad, x, tau, iters, us, vs, dx, n, n_iters, B: tl.constexpr, LOG: tl.constexpr):
    """The gradient with respect to a matrix, from the scalings of all steps."""
    m = tl.program_id(0).to(tl.int64)
    i = tl.arange(0, B)
    valid = i < n
    inside = valid[:, None] & valid[None, :]
    at = i[:, None] * n + i[None, :]
    entries = x + m * n * n + at
    us += m * n_iters * n
    vs += m * (n_iters + 1) * n
    rate = rate_of(tau, m)
    t = tl.load(iters + m).to(tl.int32)
    u = tl.load(us + (t - 1) * n + i, mask=valid, other=0.0)
    after = tl.load(vs + t * n + i, mask=valid, other=0.0)
    v = after
    K = _exponentials(entries, inside, rate, u, v)
    G = tl.load(grad + m * n * n + at, mask=inside, other=0.0)
    if not LOG:
        G *= K
    du = tl.sum(G, 1)
    dv = tl.sum(G, 0)
    while t > 0:
        t -= 1
        at_u = tl.load(us + t * n + i, mask=valid, other=0.0)
        before = tl.load(vs + t * n + i, mask=valid, other=0.0)
        u, v, K, a, b = _absorb(entries, inside, rate, u, v, K, at_u, after)
        columns = b * dv  # the columns of a K b sum to 1
        G -= a[:, None] * K * columns[None, :]
        du -= a * tl.sum(K * columns[None, :], 1)
        u, v, K, a, b = _absorb(entries, inside, rate, u, v, K, at_u, before)
        rows = a * du  # the rows of a K b sum to 1
        G -= rows[:, None] * K * b[None, :]
        dv = -b * tl.sum(K * rows[:, None], 0)
        du = tl.zeros(du.shape, du.dtype)
        after = before
    tl.store(dx + m * n * n + at, G.to(tl.float64) * rate, mask=inside)


def options(block: int) -> dict[str, Any]:
    """How to launch: 16 entries of K a thread, 32 at most."""
    warps = min(max(block * block // 512, 1), 16)
    return {"B": block, "num_warps": warps, "enable_fp_fusion": True}


def forward(
    x: Tensor, tau: Tensor, n_iters: int, tol: float, log: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """S (or log S) of every matrix, the iterations done, and the largest row error."""
    n, batch = x.shape[-1], x.shape[:-2]
    out = torch.empty_like(x)
    iters = torch.empty(batch, dtype=torch.int64, device=x.device)
    error = torch.empty(batch, dtype=x.dtype, device=x.device)
    launch = forward_kernel[(batch.numel(),)]
    flags = {"LOG": log, "STOP": tol > 0}
    launch(x, tau, out, iters, error, n, n_iters, tol, **flags, **options(block_size(n)))
    return out, iters, error


def backward(
    grad: Tensor, x: Tensor, tau: Tensor, iters: Tensor, n_iters: int, tol: float, log: bool
) -> Tensor:
    """The exact gradient of the iterations done with respect to x."""
    n, count = x.shape[-1], iters.numel()
    how = options(block_size(n))
    us = torch.empty(count, n_iters, n, dtype=torch.float64, device=x.device)
    vs = torch.empty(count, n_iters + 1, n, dtype=torch.float64, device=x.device)
    dx = torch.empty_like(x)
    scalings_kernel[(count,)](x, tau, iters, us, vs, n, n_iters, **how)
    reverse_kernel[(count,)](grad, x, tau, iters, us, vs, dx, n, n_iters, LOG=log, **how)
    return dx
