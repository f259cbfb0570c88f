"""The operators on CPUs, compiled by Numba: which kernel does what.

`numba_lanes` for small matrices, `numba_rows` for larger ones and for early stopping; both hand
matrices whose scalings leave the safe range to their `_log` companion. Nothing is stored between
the two passes: the reverse one computes the scalings again. `numba_matching` assigns.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numba
import torch
from torch import Tensor

from softperm.ops.kernels import numba_lanes, numba_matching, numba_rows
from softperm.ops.kernels.numba_simd import WIDTH

_LANES_UP_TO = 112  # the largest n that is quicker in lanes than along rows
_SHARED_FROM = 512  # the smallest n for which sharing out the rows of one matrix pays
_SERIAL_BELOW = 10_000  # entries in a batch below which waking a thread costs more than it saves


@cache
def _pool() -> ThreadPoolExecutor:
    """Threads for the batch; compiled code lets go of the interpreter lock."""
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="softperm")


os.register_at_fork(after_in_child=_pool.cache_clear)  # a forked process has no such threads


def _share(kernel: Callable[..., None], arrays: list[Any], *constants: Any, unit: int) -> None:
    """Call `kernel` on slices of the arrays, a slice a thread, in multiples of `unit` matrices."""
    units = -(-len(arrays[0]) // unit)
    threads = 1 if arrays[0].size < _SERIAL_BELOW else min(torch.get_num_threads(), units)
    step = -(-units // threads) * unit
    parts = [[a[i : i + step] for a in arrays] for i in range(0, len(arrays[0]), step)]
    futures = [_pool().submit(kernel, *part, *constants) for part in parts[1:]]
    kernel(*parts[0], *constants)
    for future in futures:
        future.result()


def _rows_are_shared(x: Tensor) -> bool:
    """Whether there are fewer matrices than threads, and large ones."""
    matrices = x[..., 0, 0].numel()
    return x.shape[-1] >= _SHARED_FROM and matrices < torch.get_num_threads()


def _rows_threads() -> int:
    most: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
    threads = min(torch.get_num_threads(), most)
    numba.set_num_threads(threads)
    return threads


def forward(
    x: Tensor, tau: Tensor, n_iters: int, tol: float, log: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """S (or log S) of every matrix, the iterations done, and the largest row error."""
    n = x.shape[-1]
    x = x.contiguous()
    out = torch.empty_like(x)
    iters = torch.zeros(x.shape[:-2], dtype=torch.int64)
    error = torch.zeros(x.shape[:-2], dtype=x.dtype)
    if not x.numel():
        return out, iters, error
    xs, outs = x.view(-1, n, n).numpy(), out.view(-1, n, n).numpy()
    taus, done, errors = tau.reshape(-1).numpy(), iters.view(-1).numpy(), error.view(-1).numpy()
    arrays: list[Any] = [xs, taus, outs, done, errors]
    if tol == 0 and n <= _LANES_UP_TO:
        _share(numba_lanes.forward, arrays, n_iters, log, unit=WIDTH)
    elif _rows_are_shared(x):
        numba_rows.forward_shared(*arrays, n_iters, tol, log, _rows_threads())
    else:
        _share(numba_rows.forward, arrays, n_iters, tol, log, unit=1)
    return out, iters, error


def backward(
    grad: Tensor, x: Tensor, tau: Tensor, iters: Tensor, n_iters: int, tol: float, log: bool
) -> Tensor:
    """The exact gradient of the iterations done with respect to `x`."""
    n = x.shape[-1]
    x, grad = x.contiguous(), grad.contiguous()
    dx = torch.empty_like(x)
    if not x.numel():
        return dx
    xs, grads, dxs = (t.view(-1, n, n).numpy() for t in (x, grad, dx))
    taus, done = tau.reshape(-1).numpy(), iters.reshape(-1).numpy()
    if tol == 0 and n <= _LANES_UP_TO:
        _share(numba_lanes.backward, [grads, xs, taus, dxs], n_iters, log, unit=WIDTH)
    elif _rows_are_shared(x):
        numba_rows.backward_shared(grads, xs, taus, done, dxs, log, _rows_threads())
    else:
        _share(numba_rows.backward, [grads, xs, taus, done, dxs], log, unit=1)
    return dx


def matching(x: Tensor) -> Tensor:
    """The maximising assignment of every matrix, (*, n) int64; a row of -1 where there is none."""
    n = x.shape[-1]
    x = x.contiguous()
    perm = torch.empty(x.shape[:-1], dtype=torch.int64)
    if x.numel():
        arrays = [x.view(-1, n, n).numpy(), perm.view(-1, n).numpy()]
        _share(numba_matching.matching, arrays, unit=1)
    return perm


def warm_up(n: int | None, dtypes: tuple[torch.dtype, ...]) -> None:
    """Compile, or load from the cache, what matrices of size n need (None: of every size)."""
    everything = ((2, 0.0), (2, 0.1), (_SHARED_FROM, 0.1))
    cases = everything if n is None else ((n, 0.0),)
    for dtype in dtypes:
        for size, tol in cases:
            x = torch.zeros(1, size, size, dtype=dtype)
            tau = torch.ones(1, dtype=torch.float64)
            _, iters, _ = forward(x, tau, 1, tol, False)
            backward(x, x, tau, iters, 1, tol, False)
        matching(torch.zeros(1, 1, 1, dtype=dtype))
