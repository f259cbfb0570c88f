"""How much faster than what one writes or finds is Sinkhorn of other shapes than square ones?

Key points that may stay without a partner, clusters of equal size and rectangles, each at a size of
its use. The contenders take turns in one process on the same inputs; results and gradients of each
are compared with the first one's before it is timed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

import report
import shape_contenders
import torch
from plain import THREADS
from shape_contenders import Function
from timing import check, medians, prepare
from torch import Tensor
from torch.nn import functional as F

SLACK_SIZES = ((8, 512, 512), (8, 512, 400))
SLACK_ITERS = 50
CLUSTERS = (4096, 256)
CLUSTER_ITERS = (3, 20)
DIMENSIONS = 128  # of the embeddings that are to be clustered
RECTANGLE = (64, 30, 50)
Results = dict[str, dict[str, float]]


class Bench:
    """Timings, with the patience that the user has."""

    def __init__(self, quick: bool) -> None:
        self.budget, self.most = (0.3, 4) if quick else (3.0, 25)

    def forward(self, functions: dict[str, Function], inputs: Sequence[Tensor]) -> dict[str, float]:
        """Median seconds of the result, without autograd."""

        def call(function: Function) -> Callable[[], Tensor]:
            def forward() -> Tensor:
                with torch.no_grad():
                    return function(*inputs)

            return forward

        calls = {name: call(function) for name, function in functions.items()}
        check({name: forward().numpy() for name, forward in calls.items()})
        return medians(dict(calls), self.budget, fewest=2, most=self.most)

    def both(self, functions: dict[str, Function], inputs: Sequence[Tensor]) -> dict[str, float]:
        """Median seconds of the result and, for a given one, the gradients of all inputs."""
        leaves = [tensor.clone().requires_grad_() for tensor in inputs]
        shape = next(iter(functions.values()))(*inputs).shape
        weights = torch.randn(shape, generator=torch.Generator().manual_seed(1))

        def call(function: Function) -> Callable[[], tuple[Tensor, ...]]:
            return lambda: torch.autograd.grad(function(*leaves), leaves, weights)

        calls = {name: call(function) for name, function in functions.items()}
        for gradients in zip(*(both() for both in calls.values()), strict=True):
            pairs = zip(calls, gradients, strict=True)
            check({name: gradient.numpy() for name, gradient in pairs})
        return medians(dict(calls), self.budget, fewest=2, most=self.most)


def slack(bench: Bench) -> Results:
    """Both ways, of standard normal scores and a slack that is learnt."""
    generator, results = torch.Generator().manual_seed(0), {}
    for batch, m, n in SLACK_SIZES:
        inputs = torch.randn(batch, m, n, generator=generator), torch.tensor(1.0)
        functions = shape_contenders.slack(SLACK_ITERS)
        results[f"{batch} x {m} x {n}"] = bench.both(functions, inputs)
    return results


def clusters(bench: Bench) -> dict[str, Results]:
    """Of the cosines between random embeddings and random centres."""
    generator = torch.Generator().manual_seed(0)
    items, centres = (
        F.normalize(torch.randn(count, DIMENSIONS, generator=generator)) for count in CLUSTERS
    )
    inputs = [items @ centres.T]
    forward, both = {}, {}
    for n_iters in CLUSTER_ITERS:
        size = f"{report.label(CLUSTERS)}, {n_iters} iterations"
        functions = shape_contenders.clusters(n_iters)
        by_pot = shape_contenders.clusters_by_pot(n_iters)
        forward[size] = bench.forward(functions | by_pot, inputs)
        both[size] = bench.both(functions, inputs)
    return {"balanced, forward": forward, "balanced, forward and backward": both}


def rectangles(bench: Bench) -> Results:
    """Both ways, of standard normal scores."""
    batch, m, n = RECTANGLE
    inputs = [torch.randn(batch, m, n, generator=torch.Generator().manual_seed(0))]
    functions = shape_contenders.RECTANGLE
    return {
        f"{batch} x {m} x {n}, forward": bench.forward(functions, inputs),
        f"{batch} x {m} x {n}, both ways": bench.both(functions, inputs),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help=report.QUICK)
    options = parser.parse_args()
    prepare(THREADS)
    report.require_kernels()
    bench = Bench(options.quick)
    results = {"slack": slack(bench), **clusters(bench), "rectangles": rectangles(bench)}
    tables = {name: report.ratio_table(found, sizes="size") for name, found in results.items()}
    for title, table in tables.items():
        table.print(title)
    if not options.quick:
        report.publish(tables, results)


if __name__ == "__main__":
    main()
