"""What do two threads cost where other programs keep all cores busy?

Prints the median time of a call in two threads over that in one thread, taking turns in one
process, beside as many busy processes as there are cores. On an idle machine the ratio would be
about a half; to be kept is 1.5. The kernels use threads of their own until PyTorch has some.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median

import torch
from report import Cells
from timing import one_turn

import softperm

Call = Callable[[], object]
THREADS = (1, 2)


def _spin() -> None:
    """What other programs do, as far as we are concerned."""
    while True:
        pass


@contextmanager
def busy_cores(count: int) -> Iterator[None]:
    """As many processes that do nothing but compute."""
    context = multiprocessing.get_context("spawn")
    others = [context.Process(target=_spin, daemon=True) for _ in range(count)]
    for other in others:
        other.start()
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.join()


def _both_passes(batch: int, n: int) -> Call:
    """Without an operation of PyTorch's own that is done in threads."""
    x, grad = torch.randn(2, batch, n, n)
    x.requires_grad_()
    return lambda: torch.autograd.grad(softperm.sinkhorn(x), x, grad)


def calls() -> dict[str, Call]:
    """What is timed."""
    scores = torch.randn(8, 100, 100)
    return {
        "matching, 8 of 100 x 100": lambda: softperm.matching(scores),
        "sinkhorn and its gradient, 64 of 36 x 36": _both_passes(64, 36),
        "sinkhorn and its gradient, 1 of 520 x 520": _both_passes(1, 520),
    }


def in_turns(call: Call, turns: int) -> dict[int, float]:
    """Median seconds of a call for every number of threads."""
    seconds: dict[int, list[float]] = {threads: [] for threads in THREADS}
    for _ in range(turns):
        for threads, times in seconds.items():
            torch.set_num_threads(threads)
            call()
            times += one_turn(call)
    return {threads: median(times) for threads, times in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--turns", type=int, default=10, help="of either number of threads")
    turns = parser.parse_args().turns
    torch.manual_seed(0)
    rows = []
    with busy_cores(os.cpu_count() or 1):
        for whose in ("own", "PyTorch's"):
            for name, call in calls().items():
                one, two = in_turns(call, turns).values()
                times = (f"{1000 * one:.2f}", f"{1000 * two:.2f}", f"{two / one:.2f}")
                rows.append([name, whose, *times])
            torch.ones(1000, 1000).add(1)  # PyTorch starts its threads
    header = ["call", "threads", "1 thread, ms", "2 threads, ms", "ratio"]
    Cells(header, rows).print("Busy cores")


if __name__ == "__main__":
    main()
