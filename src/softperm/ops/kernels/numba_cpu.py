"""The operators on CPUs, compiled by Numba: which kernel does what.

`numba_lanes_*` for small matrices, `numba_rows_*` for larger ones and for early stopping. The
`_linear` ones go first; matrices whose scalings leave the safe range are left to the `_log` ones.
`numba_matching` assigns.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any

import numba
import torch
from torch import Tensor

from softperm.ops.kernels import numba_jobs as jobs
from softperm.ops.kernels import numba_rows_linear
from softperm.ops.kernels.numba_rows import padded
from softperm.ops.kernels.numba_simd import WIDTH

_LANES_UP_TO = 112  # the largest n that is quicker in lanes than along rows
_SHARED_FROM = 512  # the smallest n for which sharing out the rows of one matrix pays
_ROWS_LOCK = Lock()
_NOTHING = torch.empty(0, device="cpu")

Size = tuple[torch.dtype, int, int, int]  # what `numba_jobs.run` is told of the matrices,
Given = dict[str, Any]  # and the further fields of a job's work

# What the forward pass leaves for the reverse one, O(l n) numbers a matrix: which matrices are
# safe; the scalings of every step, in the dtype of the matrices; and if any is unsafe, those of the
# unsafe ones in the log domain, in float64. In lanes they are one tensor, along rows one for rows
# and one for columns. Memory for matrices and steps that have none is never touched, and so never
# taken.
Scalings = list[Tensor]


def _rows_are_shared(batch: int, n: int) -> bool:
    """Whether there are fewer matrices than threads, and large ones."""
    return n >= _SHARED_FROM and batch < torch.get_num_threads()


def _share_rows(function: Callable[..., None], tensors: Sequence[Tensor], *options: Any) -> None:
    """Call ``function(*arrays, *options, threads)``, which shares out rows over Numba's threads.

    Their number is the caller's setting, which is put back; and not all of Numba's threading layers
    bear two calls at a time.
    """
    most: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
    threads = min(torch.get_num_threads(), most)
    with _ROWS_LOCK:
        before = numba.get_num_threads()
        numba.set_num_threads(threads)
        try:
            function(*(tensor.numpy() for tensor in tensors), *options, threads)
        finally:
            numba.set_num_threads(before)


def _in_lanes(batch: int, n: int, tol: float) -> bool:
    """Whether lanes are quicker; 16 matrices take no longer there than one does."""
    return tol == 0 and n <= min(_LANES_UP_TO, 6 * batch + 4)


def _empty(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="cpu")


def _temperatures(tau: float | Tensor) -> Given:
    """The fields of a job's work for one temperature, or one a matrix."""
    if isinstance(tau, Tensor):
        return {"tau": tau.data_ptr(), "taus": tau.numel()}
    return {"temperature": tau}


def _array(tau: float | Tensor, batch: int) -> Tensor:
    """One temperature a matrix."""
    if isinstance(tau, Tensor):
        return tau.view(-1)
    return torch.full((batch,), tau, dtype=torch.float64, device="cpu")


def _forward_lanes(
    x: Tensor,
    tau: float | Tensor,
    out: Tensor,
    iters: Tensor,
    error: Tensor,
    n_iters: int,
    log: bool,
    keep: bool,
) -> Scalings:
    n = x.shape[-1]
    batch = x.numel() // (n * n)
    blocks = -(-batch // WIDTH)
    kept = blocks if keep else 0
    safe = _empty((batch,), torch.bool)
    steps = _empty((kept, 2 * n_iters + 1, n, WIDTH), x.dtype)
    given: Given = {
        "n_iters": n_iters,
        "kept": kept,
        "log": log,
        **_temperatures(tau),
        "x": x.data_ptr(),
        "out": out.data_ptr(),
        "iters": iters.data_ptr(),
        "error": error.data_ptr(),
        "safe": safe.data_ptr(),
    }
    size: Size = (x.dtype, blocks, batch, n)
    if not jobs.run(jobs.lanes_forward, *size, A=steps.data_ptr(), **given).unsafe:
        return [safe, steps]
    log_steps = _empty(steps.shape, torch.float64)
    jobs.run(jobs.lanes_log_forward, *size, A=log_steps.data_ptr(), **given)
    return [safe, steps, log_steps]


def _backward_lanes(
    grad: Tensor,
    x: Tensor,
    out: Tensor,
    tau: float | Tensor,
    scalings: Sequence[Tensor],
    n_iters: int,
    log: bool,
    dx: Tensor,
) -> None:
    safe, steps, *log_steps = scalings
    n = x.shape[-1]
    batch = x.numel() // (n * n)
    blocks = -(-batch // WIDTH)
    given: Given = {
        "n_iters": n_iters,
        "kept": blocks,
        "log": log,
        **_temperatures(tau),
        "x": x.data_ptr(),
        "out": out.data_ptr(),
        "safe": safe.data_ptr(),
        "grad": grad.data_ptr(),
        "dx": dx.data_ptr(),
    }
    size: Size = (x.dtype, blocks, batch, n)
    jobs.run(jobs.lanes_backward, *size, A=steps.data_ptr(), **given)
    if log_steps:
        jobs.run(jobs.lanes_log_backward, *size, A=log_steps[0].data_ptr(), **given)


def _forward_rows(
    x: Tensor,
    tau: float | Tensor,
    out: Tensor,
    iters: Tensor,
    error: Tensor,
    n_iters: int,
    tol: float,
    log: bool,
    keep: bool,
) -> Scalings:
    n = x.shape[-1]
    batch = x.numel() // (n * n)
    kept = batch if keep else 0
    rows, width = padded(n)
    safe = _empty((batch,), torch.bool)
    A, B = _empty((kept, n_iters, rows), x.dtype), _empty((kept, n_iters + 1, width), x.dtype)
    given: Given = {
        "n_iters": n_iters,
        "kept": kept,
        "log": log,
        "tol": tol,
        **_temperatures(tau),
        "x": x.data_ptr(),
        "out": out.data_ptr(),
        "iters": iters.data_ptr(),
        "error": error.data_ptr(),
        "safe": safe.data_ptr(),
    }
    size: Size = (x.dtype, batch, batch, n)
    if _rows_are_shared(batch, n):
        arrays = [x.view(-1, n, n), _array(tau, batch), out.view(-1, n, n)]
        arrays += [iters.view(-1), error.view(-1), safe, A, B]
        _share_rows(numba_rows_linear.forward_shared, arrays, n_iters, tol, log)
        unsafe = not safe.all()
    else:
        done = jobs.run(jobs.rows_forward, *size, A=A.data_ptr(), B=B.data_ptr(), **given)
        unsafe = done.unsafe > 0
    if not unsafe:
        return [safe, A, B]
    U = _empty((kept, n_iters, n), torch.float64)
    V = _empty((kept, n_iters + 1, n), torch.float64)
    jobs.run(jobs.rows_log_forward, *size, A=U.data_ptr(), B=V.data_ptr(), **given)
    return [safe, A, B, U, V]


def _backward_rows(
    grad: Tensor,
    x: Tensor,
    out: Tensor,
    tau: float | Tensor,
    iters: Tensor,
    scalings: Sequence[Tensor],
    n_iters: int,
    log: bool,
    dx: Tensor,
) -> None:
    safe, A, B, *log_scalings = scalings
    n = x.shape[-1]
    batch = x.numel() // (n * n)
    given: Given = {
        "n_iters": n_iters,
        "kept": batch,
        "log": log,
        **_temperatures(tau),
        "x": x.data_ptr(),
        "out": out.data_ptr(),
        "iters": iters.data_ptr(),
        "safe": safe.data_ptr(),
        "grad": grad.data_ptr(),
        "dx": dx.data_ptr(),
    }
    size: Size = (x.dtype, batch, batch, n)
    if _rows_are_shared(batch, n):
        arrays = [grad.view(-1, n, n), out.view(-1, n, n), _array(tau, batch), iters.view(-1)]
        arrays += [safe, A, B, dx.view(-1, n, n)]
        _share_rows(numba_rows_linear.backward_shared, arrays, log)
    else:
        jobs.run(jobs.rows_backward, *size, A=A.data_ptr(), B=B.data_ptr(), **given)
    if log_scalings:
        U, V = log_scalings
        jobs.run(jobs.rows_log_backward, *size, A=U.data_ptr(), B=V.data_ptr(), **given)


def forward(
    x: Tensor,
    tau: float | Tensor,
    n_iters: int,
    tol: float,
    log: bool,
    keep: bool = False,
    info: bool = True,
) -> tuple[Tensor, Tensor, Tensor, Scalings]:
    """S (or log S) of every matrix, the iterations done, the largest row error, and for `keep` the
    scalings of every step.

    Without `info` the iterations and the error may be left out: empty tensors.
    """
    x, tau = x.contiguous(), tau.contiguous() if isinstance(tau, Tensor) else tau
    out = torch.empty_like(x)
    *shape, n, _ = x.shape
    in_lanes = x.numel() > 0 and _in_lanes(x.numel() // (n * n), n, tol)
    iters, error = _NOTHING, _NOTHING
    if info or not in_lanes:
        iters, error = _empty(shape, torch.int64), _empty(shape, x.dtype)
    if in_lanes:
        scalings = _forward_lanes(x, tau, out, iters, error, n_iters, log, keep)
    elif x.numel():
        scalings = _forward_rows(x, tau, out, iters, error, n_iters, tol, log, keep)
    else:
        return out, iters.fill_(n_iters), error.zero_(), []
    return out, iters, error, scalings if keep else []


def backward(
    grad: Tensor,
    x: Tensor,
    tau: float | Tensor,
    iters: Tensor,
    n_iters: int,
    tol: float,
    log: bool,
    out: Tensor | None = None,
    scalings: Sequence[Tensor] = (),
) -> Tensor:
    """The exact gradient of the iterations done with respect to `x`.

    Where the result and the scalings were not kept they are computed again.
    """
    x, tau = x.contiguous(), tau.contiguous() if isinstance(tau, Tensor) else tau
    grad = grad.contiguous()
    dx = torch.empty_like(x)
    if not x.numel():
        return dx
    if out is None or not scalings:
        out, _, _, scalings = forward(x, tau, n_iters, tol, log, keep=True)
    n = x.shape[-1]
    if _in_lanes(x.numel() // (n * n), n, tol):
        _backward_lanes(grad, x, out, tau, scalings, n_iters, log, dx)
    else:
        iters = iters.contiguous()
        _backward_rows(grad, x, out, tau, iters, scalings, n_iters, log, dx)
    return dx


def matching(x: Tensor) -> tuple[Tensor, int]:
    """The maximising assignment of every matrix, (*, n) int64, -1 where there is none; and how many
    have none.
    """
    x = x.contiguous()
    perm = _empty(x.shape[:-1], torch.int64)
    if not x.numel():
        return perm, 0
    n = x.shape[-1]
    batch = x.numel() // (n * n)
    size: Size = (x.dtype, batch, batch, n)
    done = jobs.run(jobs.matching, *size, x=x.data_ptr(), perm=perm.data_ptr())
    return perm, done.unsafe


def extremes(x: Tensor) -> tuple[float, float]:
    """The smallest and the largest entry; the latter is inf where there is a NaN."""
    n = x.shape[-1]
    batch = x.numel() // (n * n)
    found = (ctypes.c_double * (2 * torch.get_num_threads()))()
    size: Size = (x.dtype, batch * n, batch, n)
    done = jobs.run(jobs.extremes, *size, x=x.data_ptr(), out=ctypes.addressof(found))
    used = found[: 2 * done.parts]
    return min(used[::2]), max(used[1::2])


def warm_up(n: int | None, dtypes: tuple[torch.dtype, ...]) -> None:
    """Compile, or load from the cache, what matrices of size n need (None: of every size)."""
    batch = 2 * WIDTH  # enough of them for lanes at any n that has them
    everything = ((batch, 2, 0.0), (1, 2, 0.1), (1, _SHARED_FROM, 0.1))
    cases = everything if n is None else ((batch, n, 0.0), (1, n, 0.0))
    for dtype in dtypes:
        for batch, size, tol in cases:
            for spread in (0.0, 1e6):  # the second leaves the safe range
                x = torch.zeros(batch, size, size, dtype=dtype, device="cpu")
                x[..., 0] = spread
                tau = x.new_ones(batch, dtype=torch.float64)
                out, iters, _, scalings = forward(x, tau, 1, tol, False, keep=True)
                backward(x, x, tau, iters, 1, tol, False, out, scalings)
        matching(x[:1, :1, :1])
        extremes(x)
