"""Call compiled code in several threads: PyTorch's own, where it has them from OpenMP.

OpenMP's threads stay awake for some milliseconds after every parallel operation of PyTorch, and
would keep the cores from threads of our own.
"""

from __future__ import annotations

import ctypes
import os
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import cache
from typing import Any

Job = ctypes.CFUNCTYPE(None, ctypes.c_void_p)  # a call lets go of the interpreter lock


class _Forked:
    """Whether this is a forked process, in which OpenMP's threads no longer exist."""

    yes = False


def _after_fork() -> None:
    _Forked.yes = True
    _pool.cache_clear()


os.register_at_fork(after_in_child=_after_fork)


@cache
def _pool() -> ThreadPoolExecutor:
    """Threads of our own."""
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="softperm")


@cache
def _openmp() -> Any:
    """The function with which compiled OpenMP code starts a parallel region; None without."""
    try:
        function = ctypes.CDLL(None).GOMP_parallel
    except (AttributeError, OSError, TypeError):
        return None
    function.argtypes = (Job, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
    function.restype = None
    return function


def call_in_threads(job: Any, pointer: int, threads: int) -> None:
    """Call compiled code of one pointer in several threads at the same time, and wait for all.

    Arguments:
        job: Of the type `Job`.
        pointer: Its argument.
        threads: How many threads, the calling one included; OpenMP may have fewer.
    """
    if threads == 1:
        job(pointer)
    elif _openmp() is None or _Forked.yes:
        futures: list[Future[None]] = []
        try:
            for _ in range(threads - 1):
                futures.append(_pool().submit(job, pointer))  # noqa: PERF401 - see below
            job(pointer)
        finally:
            wait(futures)  # whatever happens: what the pointer leads to must live until then
        for future in futures:
            future.result()
    else:
        _openmp()(job, pointer, threads, 0)
