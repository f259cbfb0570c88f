"""Sinkhorn on GPUs for matrices that fit on chip: one program per matrix, in registers.

Above 64 x 64 the compiler moves part of the matrix to local memory.

With r and c the wanted sums, a program holds K = softmax_i(X + u), whose columns sum to 1, for
scalings u (float64) that it has absorbed, and further scalings a and b as plain factors:
S = a K c b. So a step costs two products with K. Where a factor grows so large that entries lost to
underflow could matter, the step is done in the log domain instead, on float64 sums X + u + v, and
what comes out is absorbed. Columns are divided by their own sums in either case, so these are right
also where X is so large that u has no digits left for the logarithm of a sum.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from softperm.kernels.gpu.reverse import reverse_kernel
from softperm.kernels.gpu.shared import (
    entries_of,
    factors_of,
    log_sums_of,
    place_of,
    rate_of,
    softmax,
)
from softperm.kernels.reference import Problem, Settings

_BYTES = 65_536  # the largest K to hold in registers, in whole blocks
_SMALLEST_BLOCK = 16
_LEAST_TOL = 1e-37  # Triton passes numbers in float32, where less may be 0: no error is below that
# exp(-10): a factor stays below exp(10), so that what underflows in K, below exp(-87), stays below
# exp(-67) of its column, and the rounding of the exponents that count, above exp(-20), below 1e-6.
_LEAST_SUM = tl.constexpr(4.5e-5)
# Of its row that is below exp(-27) where no row is to have less than exp(-40) of a column.
_FARTHEST_LOG_SUM = tl.constexpr(40.0)


def block_sizes(x: Tensor) -> tuple[int, int]:
    """The sides of the rectangle of registers that holds a matrix of x."""
    m, n = (max(_SMALLEST_BLOCK, triton.next_power_of_2(size)) for size in x.shape[-2:])
    return m, n


def fits(x: Tensor) -> bool:
    """Whether a matrix of x fits on chip."""
    m, n = block_sizes(x)
    return m * n * x.element_size() <= _BYTES


@triton.jit
def _log_step(entries, inside, rate, log_r, log_c, v):
    """One step in the log domain: u, v and K."""
    _, top, rest = softmax(entries, inside, rate, v[None, :], 1)
    u = log_r - (top + rest)
    K, top, rest = softmax(entries, inside, rate, u[:, None], 0)
    return u, log_c - (top + rest), K


@triton.jit
def _are_near(log_r, log_c):
    """Whether the sums of rows are close enough to those of columns for plain factors."""
    top = tl.max(log_c, 0)
    apart = tl.where(log_r == float("-inf"), 0.0, tl.abs(log_r - top))
    return tl.max(apart, 0) < _FARTHEST_LOG_SUM


@triton.jit
def _row_error(log_r, r, a, rows):
    """The largest |row sum - r|, from the row sums of K c b."""
    return tl.max(tl.where(log_r == float("-inf"), 0.0, tl.abs(a * rows - r)), 0)


@triton.jit
def _iterate(
    entries, inside, rate, log_r, log_c, r, c, us, vs, alphas, betas, absorbed, m, n, i, j,
    n_iters, tol, STOP: tl.constexpr, KEEP: tl.constexpr, GIVEN: tl.constexpr,
):  # fmt: skip
    """What is absorbed, K, the factors, the steps done and the row error.

    With KEEP, write what `reverse_kernel` needs: the factors of every step and the step that it has
    K from; of a step in the log domain, its u and the v before.
    """
    near = True
    if GIVEN:
        near = _are_near(log_r, log_c)
    before = tl.zeros(j.shape, tl.float64)
    u, v, K = _log_step(entries, inside, rate, log_r, log_c, before)
    a = tl.full(i.shape, 1.0, K.dtype)
    b = tl.full(j.shape, 1.0, K.dtype)
    rows = tl.sum(K * c[None, :], 1)
    t = 1
    last = 0
    going = True
    if KEEP:
        tl.store(us + i, u, mask=i < m)
        tl.store(vs + j, before, mask=j < n)
        tl.store(alphas + i, a, mask=i < m)
        tl.store(betas + j, b, mask=j < n)
        tl.store(absorbed, 0)
    if STOP:
        going = _row_error(log_r, r, a, rows) >= tol
    while (t < n_iters) & going:
        # A line that takes no part has r = 1, an empty row of K, and factors of 1.
        sums = tl.where(log_r == float("-inf"), 1.0, rows)
        next_a = r / tl.maximum(sums, r * _LEAST_SUM)
        columns = tl.where(log_c == float("-inf"), 1.0, tl.sum(K * next_a[:, None], 0))
        next_b = 1.0 / tl.maximum(columns, _LEAST_SUM)
        if (tl.min(sums - r * _LEAST_SUM, 0) > 0) & (tl.min(columns, 0) > _LEAST_SUM) & near:
            a = next_a
            b = next_b
        else:
            before = v + tl.log(b).to(tl.float64)
            u, v, K = _log_step(entries, inside, rate, log_r, log_c, before)
            a = tl.full(a.shape, 1.0, K.dtype)
            b = tl.full(b.shape, 1.0, K.dtype)
            last = t
            if KEEP:
                tl.store(us + t * m + i, u, mask=i < m)
                tl.store(vs + t * n + j, before, mask=j < n)
        rows = tl.sum(K * (c * b)[None, :], 1)
        if KEEP:
            tl.store(alphas + t * m + i, a, mask=i < m)
            tl.store(betas + t * n + j, b, mask=j < n)
            tl.store(absorbed + t, last)
        if STOP:
            going = _row_error(log_r, r, a, rows) >= tol
        t += 1
    return u, K, a, b, t, _row_error(log_r, r, a, rows)


@triton.jit
def forward_kernel(
    x, tau, log_rows, log_columns, out, iters, error, m, n, n_iters, tol,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, M: tl.constexpr, N: tl.constexpr,
    LOG: tl.constexpr, STOP: tl.constexpr,
):  # fmt: skip
    """S (or log S) of a matrix, the steps done and the row error."""
    k, i, j, at, inside = place_of(m, n, M, N)
    entries = x + at
    rate = rate_of(tau, k)
    log_r = log_sums_of(log_rows, k, m, i, ROWS)
    log_c = log_sums_of(log_columns, k, n, j, COLUMNS)
    r, c, unit = factors_of(log_r, log_c, x.dtype.element_ty, ROWS or COLUMNS)
    u, K, a, b, t, worst = _iterate(
        entries, inside, rate, log_r, log_c, r, c, tau, tau, tau, tau, tau, m, n, i, j,
        n_iters, tol / unit, STOP, False, ROWS or COLUMNS,
    )  # fmt: skip
    tl.store(iters + k, t)
    tl.store(error + k, worst * unit)
    if LOG:
        _, top, rest = softmax(entries, inside, rate, u[:, None], 0)
        X = tl.load(entries, mask=inside, other=0.0).to(tl.float64)
        y = tl.fma(X, rate, u[:, None]) - top[None, :]  # huge numbers first
        by_row = tl.log(a).to(tl.float64)
        by_column = log_c - rest + tl.log(b).to(tl.float64)
        tl.store(out + at, y + by_row[:, None] + by_column[None, :], mask=inside)
    else:
        tl.store(out + at, entries_of(K, a, b, log_c, COLUMNS), mask=inside)


@triton.jit
def scalings_kernel(
    x, tau, log_rows, log_columns, iters, us, vs, alphas, betas, absorbed, m, n, steps,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, M: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    """What the reverse pass needs of every step of a matrix, `steps` vectors each."""
    k, i, j, at, inside = place_of(m, n, M, N)
    log_r = log_sums_of(log_rows, k, m, i, ROWS)
    log_c = log_sums_of(log_columns, k, n, j, COLUMNS)
    r, c, _ = factors_of(log_r, log_c, x.dtype.element_ty, ROWS or COLUMNS)
    first = k * steps
    _iterate(
        x + at, inside, rate_of(tau, k), log_r, log_c, r, c, us + first * m, vs + first * n,
        alphas + first * m, betas + first * n, absorbed + first, m, n, i, j,
        tl.load(iters + k).to(tl.int32), 0.0, False, True, ROWS or COLUMNS,
    )  # fmt: skip


def options(M: int, N: int) -> dict[str, Any]:
    """How to launch: 16 entries of K per thread, 32 at most."""
    warps = min(max(M * N // 512, 1), 16)
    return {"M": M, "N": N, "num_warps": warps, "enable_fp_fusion": True}


def _arguments(given: Problem) -> tuple[tuple[Tensor, ...], dict[str, Any]]:
    """The tensors that all kernels start with, those that are not there replaced by another one,
    and how to launch.
    """
    x, tau, *sums = given
    present = {"ROWS": sums[0] is not None, "COLUMNS": sums[1] is not None}
    tensors = (x, tau, *(tau if s is None else s for s in sums))
    return tensors, present | options(*block_sizes(x))


def forward(given: Problem, how: Settings) -> tuple[Tensor, Tensor, Tensor]:
    """S (or log S) of every matrix, the iterations done, and the largest row error."""
    x, batch = given.x, given.x.shape[:-2]
    out = torch.empty_like(x)
    iters = torch.empty(batch, dtype=torch.int64, device=x.device)
    error = torch.empty(batch, dtype=x.dtype, device=x.device)
    tensors, launch = _arguments(given)
    sizes, flags = x.shape[-2:], {"LOG": how.log, "STOP": how.tol > 0}
    kernel = forward_kernel[(batch.numel(),)]
    tol = max(how.tol, _LEAST_TOL)
    kernel(*tensors, out, iters, error, *sizes, how.n_iters, tol, **flags, **launch)
    return out, iters, error


def backward(
    grad: Tensor, given: Problem, iters: Tensor, steps: int, how: Settings
) -> tuple[Tensor, Tensor, Tensor]:
    """The exact gradient of the iterations done, `steps` at most."""
    x, count, (m, n) = given.x, iters.numel(), given.x.shape[-2:]
    double = {"dtype": torch.float64, "device": x.device}
    us, vs = (torch.empty(count, steps, size, **double) for size in (m, n))
    alphas, betas = (x.new_empty(count, steps, size) for size in (m, n))
    absorbed = torch.empty(count, steps, dtype=torch.int32, device=x.device)
    kept = (iters, us, vs, alphas, betas, absorbed)
    tensors, launch = _arguments(given)
    scalings_kernel[(count,)](*tensors, *kept, m, n, steps, **launch)
    dx = torch.empty_like(x)
    d_rows = torch.empty(x.shape[:-1], **double)
    d_columns = torch.empty(*x.shape[:-2], n, **double)
    gradients, kernel = (dx, d_rows, d_columns), reverse_kernel[(count,)]
    kernel(grad, *tensors, *kept, *gradients, m, n, steps, LOG=how.log, **launch)
    return gradients
