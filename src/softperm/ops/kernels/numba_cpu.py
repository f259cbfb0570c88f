"""The operators on CPUs, compiled by Numba: which kernel does what.

`numba_lanes_*` for small matrices, `numba_rows_*` for larger ones and for early stopping. The
`_linear` ones go first; matrices whose scalings leave the safe range are left to the `_log` ones.
`numba_matching` assigns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from softperm.ops.kernels import (
    numba_lanes_linear,
    numba_lanes_log,
    numba_matching,
    numba_rows_linear,
    numba_rows_log,
)
from softperm.ops.kernels.numba_rows import padded
from softperm.ops.kernels.numba_simd import WIDTH
from softperm.ops.kernels.threads import share

_LANES_UP_TO = 112  # the largest n that is quicker in lanes than along rows
_SHARED_FROM = 512  # the smallest n for which sharing out the rows of one matrix pays
_ROWS_LOCK = Lock()

Array = Any  # numpy arrays, of whatever dtype the matrices have


# What the forward pass leaves for the reverse one, O(l n) numbers a matrix: which matrices are
# safe; the scalings of every step, in the dtype of the matrices; those of the unsafe ones in the
# log domain, in float64. In lanes both are one array, along rows one for rows and one for columns.
# Memory for matrices and steps that have no such scalings is never touched, and so never taken.
Scalings = tuple[Array, ...]


def _rows_are_shared(batch: int, n: int) -> bool:
    """Whether there are fewer matrices than threads, and large ones."""
    return n >= _SHARED_FROM and batch < torch.get_num_threads()


def _share_rows(function: Callable[..., None], *arguments: Any) -> None:
    """Call ``function(*arguments, threads)``, which shares out rows over Numba's threads.

    Their number is the caller's setting, which is put back; and not all of Numba's threading layers
    bear two calls at a time.
    """
    most: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
    threads = min(torch.get_num_threads(), most)
    with _ROWS_LOCK:
        before = numba.get_num_threads()
        numba.set_num_threads(threads)
        try:
            function(*arguments, threads)
        finally:
            numba.set_num_threads(before)


def _matrices(x: Tensor) -> Array:
    """A contiguous tensor (*, n, n) as an array (batch, n, n), without a copy."""
    if x.dim() != 3:
        x = x.view(-1, *x.shape[-2:])
    return x.numpy()


def _per_matrix(tau: Tensor) -> Array:
    """One temperature a matrix, in a layout of memory that the kernels are compiled for."""
    return np.ascontiguousarray(tau.numpy().reshape(-1))


def _in_lanes(batch: int, n: int, tol: float) -> bool:
    """Whether lanes are quicker; 16 matrices take no longer there than one does."""
    return tol == 0 and n <= min(_LANES_UP_TO, 6 * batch + 4)


def _forward_lanes(
    x: Array, tau: Array, out: Array, error: Array, n_iters: int, log: bool, keep: bool
) -> Scalings:
    batch, n, _ = x.shape
    blocks = -(-batch // WIDTH)
    safe = np.empty(batch, np.bool_)
    shape = (blocks if keep else 0, 2 * n_iters + 1, n, WIDTH)
    steps, log_steps = np.empty(shape, x.dtype), np.empty((0, *shape[1:]))
    options = (n_iters, log, keep)
    forward = numba_lanes_linear.forward
    share(forward, blocks, x.size, x, tau, out, error, safe, steps, *options)
    if np.count_nonzero(safe) < batch:  # a tenth of the time of safe.all()
        log_steps = np.empty(shape)
        forward = numba_lanes_log.forward
        share(forward, blocks, x.size, x, tau, safe, out, error, log_steps, *options)
    return safe, steps, log_steps


def _forward_rows(
    x: Array,
    tau: Array,
    out: Array,
    iters: Array,
    error: Array,
    n_iters: int,
    tol: float,
    log: bool,
    keep: bool,
) -> Scalings:
    batch, n, _ = x.shape
    kept = batch if keep else 0
    safe = np.empty(batch, np.bool_)
    rows, width = padded(n)
    A, B = (np.empty((kept, n_iters, rows), x.dtype), np.empty((kept, n_iters + 1, width), x.dtype))
    U, V = np.empty((0, n_iters, n)), np.empty((0, n_iters + 1, n))
    arrays = (x, tau, out, iters, error, safe, A, B)
    if _rows_are_shared(batch, n):
        _share_rows(numba_rows_linear.forward_shared, *arrays, n_iters, tol, log)
    else:
        share(numba_rows_linear.forward, batch, x.size, *arrays, n_iters, tol, log)
    if np.count_nonzero(safe) < batch:
        U, V = np.empty((kept, n_iters, n)), np.empty((kept, n_iters + 1, n))
        arrays = (x, tau, safe, out, iters, error, U, V)
        share(numba_rows_log.forward, batch, x.size, *arrays, n_iters, tol, log)
    return safe, A, B, U, V


def forward(
    x: Tensor, tau: Tensor, n_iters: int, tol: float, log: bool, keep: bool = False
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    """S (or log S) of every matrix, the iterations done, the largest row error, and for `keep` the
    scalings of every step.
    """
    n = x.shape[-1]
    x = x.contiguous()
    out = torch.empty_like(x)
    iters = torch.full(x.shape[:-2], n_iters, device="cpu")
    error = x.new_zeros(x.shape[:-2])
    if not x.numel():
        return out, iters, error, []
    xs, outs = _matrices(x), _matrices(out)
    taus, errors = _per_matrix(tau), error.numpy().reshape(-1)
    if _in_lanes(len(xs), n, tol):
        scalings = _forward_lanes(xs, taus, outs, errors, n_iters, log, keep)
    else:
        done = iters.numpy().reshape(-1)
        scalings = _forward_rows(xs, taus, outs, done, errors, n_iters, tol, log, keep)
    return out, iters, error, [torch.from_numpy(a) for a in scalings] if keep else []


def backward(
    grad: Tensor,
    x: Tensor,
    tau: Tensor,
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
    n = x.shape[-1]
    x, grad = x.contiguous(), grad.contiguous()
    dx = torch.empty_like(x)
    if not x.numel():
        return dx
    if out is None or not scalings:
        out, _, _, scalings = forward(x, tau, n_iters, tol, log, keep=True)
    kept = tuple(tensor.numpy() for tensor in scalings)
    xs, grads, outs, dxs = _matrices(x), _matrices(grad), _matrices(out), _matrices(dx)
    taus, done = _per_matrix(tau), iters.numpy().reshape(-1)
    if _in_lanes(len(xs), n, tol):
        _backward_lanes(grads, xs, outs, taus, kept, dxs, log)
    else:
        _backward_rows(grads, xs, outs, taus, done, kept, dxs, log)
    return dx


def _backward_lanes(
    grad: Array, x: Array, out: Array, tau: Array, scalings: Scalings, dx: Array, log: bool
) -> None:
    blocks = -(-len(x) // WIDTH)
    safe, steps, log_steps = scalings
    share(numba_lanes_linear.backward, blocks, x.size, grad, out, tau, safe, steps, dx, log)
    if log_steps.size:
        share(numba_lanes_log.backward, blocks, x.size, grad, x, tau, safe, log_steps, dx, log)


def _backward_rows(
    grad: Array,
    x: Array,
    out: Array,
    tau: Array,
    iters: Array,
    scalings: Scalings,
    dx: Array,
    log: bool,
) -> None:
    safe, A, B, U, V = scalings
    arrays = (grad, out, tau, iters, safe, A, B, dx, log)
    if _rows_are_shared(*x.shape[:2]):
        _share_rows(numba_rows_linear.backward_shared, *arrays)
    else:
        share(numba_rows_linear.backward, len(x), x.size, *arrays)
    if U.size:
        arrays = (grad, x, tau, iters, safe, U, V, dx, log)
        share(numba_rows_log.backward, len(x), x.size, *arrays)


def matching(x: Tensor) -> Tensor:
    """The maximising assignment of every matrix, (*, n) int64; a row of -1 where there is none."""
    n = x.shape[-1]
    x = x.contiguous()
    perm = x.new_empty(x.shape[:-1], dtype=torch.int64)
    if x.numel():
        xs, perms = _matrices(x), perm.view(-1, n).numpy()
        share(numba_matching.matching, len(xs), x.numel(), xs, perms)
    return perm


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
