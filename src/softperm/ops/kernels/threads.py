"""Share a batch out over threads: PyTorch's own, where it has them from OpenMP.

OpenMP's threads stay awake for some milliseconds after every parallel operation of PyTorch, and
would keep the cores from threads of our own.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import torch

_SERIAL_BELOW = 30_000  # entries in a batch below which waking a thread costs more than it saves

_Body = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class _Forked:
    """Whether this is a forked process, in which OpenMP's threads no longer exist."""

    yes = False


def _after_fork() -> None:
    _Forked.yes = True
    _pool.cache_clear()


os.register_at_fork(after_in_child=_after_fork)


@cache
def _pool() -> ThreadPoolExecutor:
    """Threads of our own; compiled code lets go of the interpreter lock."""
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="softperm")


@cache
def _openmp() -> Any:
    """The function with which compiled OpenMP code starts a parallel region; None without."""
    try:
        function = ctypes.CDLL(None).GOMP_parallel
    except (AttributeError, OSError, TypeError):
        return None
    function.argtypes = (_Body, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
    function.restype = None
    return function


def _run_in_openmp(parts: list[Callable[[], None]]) -> None:
    waiting, errors = list(parts), []

    def body(_: Any) -> None:
        try:
            while True:
                try:
                    part = waiting.pop()
                except IndexError:  # asking first whether there is one would be a race
                    return
                part()
        except BaseException as error:  # cannot cross foreign code: raised below
            errors.append(error)

    _openmp()(_Body(body), None, len(parts), 0)
    if errors:
        raise errors[0]
    while waiting:  # an interrupt may have ended a thread before it took one
        waiting.pop()()


def _run_in_pool(parts: list[Callable[[], None]]) -> None:
    futures = [_pool().submit(part) for part in parts[1:]]
    parts[0]()
    for future in futures:
        future.result()


def share(kernel: Callable[..., None], units: int, entries: int, *arguments: Any) -> None:
    """Call ``kernel(*arguments, lo, hi)`` for ranges that make up range(units), one a thread.

    Arguments:
        kernel: Compiled code that lets go of the interpreter lock.
        units: What can be done independently: matrices, or blocks of them.
        entries: Numbers in the whole batch, which tells whether threads pay.
        arguments: Passed on.
    """
    threads = 1 if entries < _SERIAL_BELOW else min(torch.get_num_threads(), units)
    if threads == 1:
        kernel(*arguments, 0, units)
        return
    bounds = [units * k // threads for k in range(threads + 1)]

    def part(k: int) -> Callable[[], None]:
        return lambda: kernel(*arguments, bounds[k], bounds[k + 1])

    parts = [part(k) for k in range(threads)]
    if _openmp() is None or _Forked.yes:
        _run_in_pool(parts)
    else:
        _run_in_openmp(parts)
