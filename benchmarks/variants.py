"""What does every variant of the compiled kernels buy?

Each is compared, in turns, with what would be done without it: the layout and the precision are
forced by replacing what chooses them; where the choice is compiled in, sizes just below and above
are compared. Borrowed and own threads need processes of their own, which take turns.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from statistics import median
from typing import Any

import report
import torch
from levels import older_library
from plain import N_ITERS, THREADS
from timing import medians, prepare

import softperm
from softperm.kernels import cpu
from softperm.kernels.cpu import assignment, library
from softperm.kernels.reference import Problem, Settings

WITH, WITHOUT = "with", "without"
LANES_SIZES = ((64, 4), (1024, 10), (64, 16), (64, 36), (64, 64))
PRECISION_SIZES = ((64, 4), (64, 16), (64, 100), (16, 256), (2, 1000))
LEVEL_SIZES = ((64, 16), (64, 100), (2, 1000))
SHARED_SIZES = ((1, 1000), (1, 4096))
THREAD_SIZES = ((64, 36), (64, 100), (2, 1000))
FOUR_BATCH = 64
LISTS_SIZES = ((4, 500), (2, 1000), (2, 2000))
LOW_TAU = 0.01
Function = Callable[[], object]
Results = dict[str, dict[str, float]]


def using(replacements: dict[str, Any], function: Function, module: Any = cpu) -> Function:
    """A call with some of the names in a module replaced."""
    originals = {name: getattr(module, name) for name in replacements}

    def call() -> None:
        for name, replacement in replacements.items():
            setattr(module, name, replacement)
        try:
            function()
        finally:
            for name, original in originals.items():
                setattr(module, name, original)

    return call


def kernels(size: report.Size, tau: float = 1.0) -> Function:
    """Forward and backward passes of one input, by the kernels alone."""
    batch, n = size
    generator = torch.Generator().manual_seed(0)
    x, grad = torch.randn(2, batch, n, n, generator=generator)
    given = Problem(x, tau)  # type: ignore[arg-type] # one temperature as a number
    how = Settings(N_ITERS, tol=0.0, log=False, backend="cpu")

    def call() -> None:
        out, iters, _, scalings = cpu.forward(given, how, keep=True, info=False)
        cpu.backward(grad, given, iters, how, out, scalings)

    return call


def all_by(tier: int) -> dict[str, Any]:
    """What makes every matrix be done in float64 (2) or in the log domain (3)."""
    return {"_FIRST_TIER": tier, "require_solvable": lambda *_: None}


class Bench:
    """Pairs of timings, with the patience that the user has."""

    def __init__(self, quick: bool) -> None:
        self.budget, self.rounds = (0.1, 1) if quick else (1.0, 5)
        self.results: Results = {}

    def medians(self, functions: dict[str, Function]) -> dict[str, float]:
        return medians(functions, self.budget, fewest=2, most=30)

    def pair(self, what: str, with_it: Function, without: Function) -> None:
        print(what, flush=True)
        self.results[what] = self.medians({WITH: with_it, WITHOUT: without})

    def layouts(self) -> None:
        for size in LANES_SIZES:
            call = kernels(size)
            lanes = using({"_in_lanes": lambda *_: True}, call)
            rows = using({"_in_lanes": lambda *_: False}, call)
            self.pair(f"lanes, not rows: {report.label(size)}", lanes, rows)

    def precisions(self) -> None:
        for size in PRECISION_SIZES:
            label, call = report.label(size), kernels(size)
            self.pair(f"scalings in float32, not float64: {label}", call, using(all_by(2), call))
        for size in PRECISION_SIZES:
            label, call = report.label(size), kernels(size, LOW_TAU)
            what = f"scalings in float64, not the log domain, at tau {LOW_TAU}: {label}"
            self.pair(what, using(all_by(2), call), using(all_by(3), call))

    def shared_rows(self) -> None:
        for size in SHARED_SIZES:
            call = kernels(size)
            alone = using({"get_num_threads": lambda: 1}, call, torch)
            self.pair(f"rows shared out, not one thread: {report.label(size)}", call, alone)

    def instruction_sets(self) -> None:
        best = library._load(0).softperm_level()
        for level in reversed(range(best)):
            older = older_library(level)
            for size in LEVEL_SIZES:
                call = kernels(size)
                what = f"x86-64-v{best + 2}, not v{level + 2}: {report.label(size)}"
                self.pair(what, call, using({"function": older}, call, library))

    def assignments(self) -> None:
        def match(batch: int, n: int) -> Function:
            generator = torch.Generator().manual_seed(0)
            noise = softperm.sample_gumbel((batch, n, n), generator=generator)
            return lambda: cpu.match_batch(noise)

        found = self.medians({str(n): match(FOUR_BATCH, n) for n in (3, 4, 5)})
        what = f"six ways for 4 x 4, not the mean of 3 x 3 and 5 x 5: {FOUR_BATCH} x 4"
        self.results[what] = {WITH: found["4"], WITHOUT: (found["3"] + found["5"]) / 2}
        for size in LISTS_SIZES:
            call = match(*size)
            without = using({"_LISTS_ABOVE": size[1]}, call, assignment)
            self.pair(f"lists of columns, not rows: {report.label(size)}", call, without)

    def threads(self) -> None:
        what = "threads borrowed from PyTorch, not our own"
        print(what, flush=True)
        rounds = [
            {WITH: in_process("borrowed", self.budget), WITHOUT: in_process("own", self.budget)}
            for _ in range(self.rounds)
        ]
        for size in rounds[0][WITH]:
            self.results[f"{what}: {size}"] = {
                whose: median(times[whose][size] for times in rounds) for whose in (WITH, WITHOUT)
            }


def in_process(threads: str, budget: float) -> dict[str, float]:
    """Median seconds of every size in a process of its own."""
    command = [sys.executable, __file__, "--threads", threads, "--budget", str(budget)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def steps_with(threads: str, budget: float) -> dict[str, float]:
    """The loss and its gradient, in which PyTorch's threads and the kernels' take turns."""
    if threads == "own":
        library._lend_threads = lambda library: None
    found: dict[str, float] = {}
    for size in THREAD_SIZES:
        batch, n = size
        x, weights = torch.randn(2, batch, n, n)
        x.requires_grad_()

        def step(x: torch.Tensor = x, weights: torch.Tensor = weights) -> None:
            loss = (softperm.sinkhorn(x, n_iters=N_ITERS) * weights).sum()
            torch.autograd.grad(loss, x)

        found |= medians({report.label(size): step}, budget, fewest=2, most=30)
    return found


def table_of(results: Results) -> report.Cells:
    """One line per variant and size."""
    rows = []
    for what, times in results.items():
        variant, _, size = what.rpartition(": ")
        cells = (f"{report.short(times[which] * 1e3)} ms" for which in (WITH, WITHOUT))
        rows.append([variant, size, *cells, f"{times[WITHOUT] / times[WITH]:.2f}x"])
    return report.Cells(["variant", "batch x n", WITH, WITHOUT, "buys"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help=report.QUICK)
    parser.add_argument("--threads", choices=("borrowed", "own"), help=argparse.SUPPRESS)
    parser.add_argument("--budget", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    prepare(THREADS)
    if options.threads:
        print(json.dumps(steps_with(options.threads, options.budget)))
        return
    report.require_kernels()
    bench = Bench(options.quick)
    bench.layouts()
    bench.precisions()
    bench.instruction_sets()
    bench.shared_rows()
    bench.assignments()
    bench.threads()
    table = table_of(bench.results)
    table.print("What every variant of the kernels buys")
    if not options.quick:
        report.publish({"variants": table}, {"variants": bench.results})


if __name__ == "__main__":
    main()
