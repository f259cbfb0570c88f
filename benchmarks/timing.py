"""Medians of calls that take turns, and that agree."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import torch

from softperm.program.training.memory import keep_freed_memory

_TURN = 0.02  # seconds; a call that takes longer is a turn
_MOST_CALLS = 50


def limit_threads(threads: int) -> None:
    """Let every library use as many threads, also those that have no switch for it.

    Comes before the first computation: libraries count the cores they may use when they start.
    """
    if sys.platform == "linux":
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    torch.set_num_threads(threads)


def prepare(threads: int) -> None:
    """Let every library use as many threads, and the process keep the memory that is freed.

    By default memory of some megabytes goes back to the system, or does not, depending on what
    others have freed before: the same call took twice as long where it did.
    """
    limit_threads(threads)
    keep_freed_memory()


def seconds(function: Callable[[], object], times: int = 1) -> float:
    """Wall-clock time of one call, over a number of calls."""
    start = time.perf_counter()
    for _ in range(times):
        function()
    return (time.perf_counter() - start) / times


def one_turn(function: Callable[[], object]) -> list[float]:
    """Seconds of one slow call, or of several quick ones with caches and threads their own."""
    first = seconds(function)
    if first > _TURN:
        return [first]
    calls = min(max(int(_TURN / first), 5), _MOST_CALLS)
    return [seconds(function) for _ in range(calls)]


def medians(
    functions: dict[str, Callable[[], object]], budget: float, fewest: int, most: int
) -> dict[str, float]:
    """Median seconds of every function, in turns.

    A function has at least `fewest` and at most `most` turns, and none after `budget` seconds.
    """
    times: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(most):
        for name, function in functions.items():
            if turn < fewest or sum(times[name]) < budget:
                times[name] += one_turn(function)
    return {name: median(values) for name, values in times.items()}


def check(results: dict[str, np.ndarray[Any, Any]]) -> None:
    """All results equal the first one but for the rounding of float32 iterations."""
    reference_name, reference = next(iter(results.items()))
    for name, result in results.items():
        error = float(np.abs(result - reference).max() / np.abs(reference).max())
        if not error < 1e-3:
            raise RuntimeError(f"{name} differs from {reference_name} by {error:.1e} (relative)")
