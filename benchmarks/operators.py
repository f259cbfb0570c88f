"""How much faster than the plain loop and other libraries are the operators on a CPU?

Sinkhorn against the plain loop of `logsumexp` under autograd, jitted JAX, OTT, POT and pygmtools;
matching against SciPy and lapx. The contenders take turns in one process on the same inputs, each
is checked against the plain loop (SciPy for matching) before it is timed, and medians are compared.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import matchers
import memory
import numpy as np
import report
import torch
from contenders import OURS, PLAIN, Bound, all_contenders
from levels import LEVELS, older_library
from plain import N_ITERS, SIZES, THREADS
from timing import check, medians, prepare

import softperm
from softperm.kernels.cpu import library
from softperm.plotting import save

MATCHING_UP_TO = 1000  # one matching of Gumbel scores takes minutes beyond
MEMORY_N = 4096
TAU, LOW_TAU = 1.0, 0.01
PACKAGES = ("torch", "numpy", "scipy", "jax", "ott-jax", "POT", "pygmtools", "lapx")
Results = dict[report.Size, dict[str, float]]


class Bench:
    """Timings of all contenders, with the patience that the user has."""

    def __init__(self, quick: bool) -> None:
        self.budget = 0.3 if quick else 1.5
        self.sizes = tuple(size for size in SIZES if not quick or size[1] <= 256)
        self.contenders = all_contenders()

    def medians(self, functions: dict[str, Callable[[], object]]) -> dict[str, float]:
        return medians(functions, self.budget, fewest=2, most=15)

    def bound(self, size: report.Size, tau: float) -> dict[str, Bound]:
        """The contenders that can compute this, with one input."""
        generator = torch.Generator().manual_seed(0)
        batch, n = size
        x, weights = torch.randn(2, batch, n, n, generator=generator)
        return {
            contender.name: contender.bind(x, weights, tau)
            for contender in self.contenders
            if tau == TAU or contender.at_low_temperature
        }

    def forward(self, size: report.Size) -> dict[str, float]:
        """Median seconds of S."""
        bound = self.bound(size, TAU)
        check({name: b.to_numpy(b.forward()) for name, b in bound.items()})
        return self.medians({name: b.forward for name, b in bound.items()})

    def both(self, size: report.Size, tau: float) -> dict[str, float]:
        """Median seconds of S and, for a given gradient of it, that of X."""
        bound = self.bound(size, tau)
        check({name: b.to_numpy(b.both()[1]) for name, b in bound.items()})
        return self.medians({name: b.both for name, b in bound.items()})

    def matching(self, size: report.Size) -> dict[str, float]:
        """Median seconds of the best permutations of Gumbel matrices."""
        noise = softperm.sample_gumbel(
            (size[0], size[1], size[1]), generator=torch.Generator().manual_seed(0)
        )
        bound = {name: bind(noise, THREADS) for name, bind in matchers.MATCHERS.items()}
        scores = noise.double().numpy()
        check(
            {
                name: np.take_along_axis(scores, call()[..., None], -1).sum((-1, -2))
                for name, call in bound.items()
            }
        )
        return self.medians(dict(bound))


def memory_table() -> report.Cells:
    """Peak memory of both passes, in matrices."""
    unit = 4 * MEMORY_N**2
    rows = [
        [name, report.short(memory.measure_apart(name, MEMORY_N, THREADS) / unit)]
        for name in (OURS.name, PLAIN.name)
    ]
    return report.Cells(["", "n x n float32 matrices"], rows)


def run(bench: Bench) -> tuple[dict[str, report.Cells], dict[str, Results]]:
    """All tables and all results by section."""

    def everywhere(what: str, measure: Callable[[report.Size], dict[str, float]]) -> Results:
        results = {}
        for size in bench.sizes:
            if what != "matching" or size[1] <= MATCHING_UP_TO:
                start = time.perf_counter()
                results[size] = measure(size)
                took = time.perf_counter() - start
                print(f"{what}, {size[0]} x {size[1]}: {took:.0f} s", flush=True)
        return results

    results = {
        "forward": everywhere("forward", bench.forward),
        "forward and backward": everywhere(
            "forward + backward", lambda size: bench.both(size, TAU)
        ),
        "low temperature": everywhere("low temperature", lambda size: bench.both(size, LOW_TAU)),
        "matching": everywhere("matching", bench.matching),
    }

    def is_library(name: str) -> bool:
        return name != PLAIN.name

    tables = {name: report.ratio_table(found, is_library) for name, found in results.items()}
    return tables, results


def publish(tables: dict[str, report.Cells], results: dict[str, Results]) -> None:
    """Write tables, chart and machine into the documentation."""
    panels = {
        f"Sinkhorn, {N_ITERS} iterations, forward + backward": results["forward and backward"],
        "matching": results["matching"],
    }
    save(report.draw(panels), report.CHART)
    report.write_sections(
        {
            "chart": f"![Time per matrix against n, both logarithmic]({report.CHART.name})",
            "machine": report.machine(PACKAGES),
        }
    )
    report.publish(tables, results)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"small sizes; {report.QUICK}")
    parser.add_argument(
        "--kernels",
        choices=LEVELS,
        help="measure those for an older processor; nothing but results.csv is written",
    )
    options = parser.parse_args()
    prepare(THREADS)
    report.require_kernels()
    if options.kernels:
        library.function = older_library(LEVELS[options.kernels])  # type: ignore[assignment]
    tables, results = run(Bench(options.quick))
    writes = not options.quick and not options.kernels
    if writes:
        print("memory", flush=True)
        tables["memory"] = memory_table()
    for title, table in tables.items():
        table.print(title)
    if writes:
        publish(tables, results)
    elif not options.quick:
        report.record(results, options.kernels)


if __name__ == "__main__":
    main()
