"""Where does the time go: how much of it to the kernels, how much to Python and autograd?"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import report
import torch
from plain import N_ITERS, THREADS
from timing import medians, prepare
from torch import Tensor

import softperm
from softperm.kernels import cpu
from softperm.kernels.reference import Problem, Settings

SIZES = ((64, 4), (64, 16), (64, 36), (64, 100), (16, 256), (2, 1000))


class _Identity(torch.autograd.Function):
    """As little as a differentiable function written in Python can do."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0]


def steps(size: report.Size) -> dict[str, Callable[[], object]]:
    """What is timed at one size."""
    batch, n = size
    x = torch.randn(batch, n, n, requires_grad=True)
    weights = torch.randn(batch, n, n)
    noise = softperm.sample_gumbel((batch, n, n))
    given = Problem(x.detach(), 1.0)  # type: ignore[arg-type] # one temperature as a number
    how = Settings(N_ITERS, tol=0.0, log=False, backend="cpu")

    def both(function: Callable[[Tensor], Tensor]) -> Callable[[], object]:
        return lambda: torch.autograd.grad(function(x), x, weights)

    def kernels() -> None:
        out, iters, _, scalings = cpu.forward(given, how, keep=True, info=False)
        cpu.backward(weights, given, iters, how, out, scalings)

    return {
        "the kernels alone, both ways": kernels,
        "an identity written in Python, both ways": both(_Identity.apply),
        "softperm.sinkhorn, both ways": both(lambda x: softperm.sinkhorn(x, n_iters=N_ITERS)),
        "the matching kernel alone": lambda: cpu.match_batch(noise),
        "softperm.matching": lambda: softperm.matching(noise),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help=report.QUICK)
    options = parser.parse_args()
    prepare(THREADS)
    report.require_kernels()
    torch.manual_seed(0)
    budget = 0.1 if options.quick else 0.5
    columns = {size: medians(steps(size), budget, fewest=5, most=100) for size in SIZES}
    header = ["microseconds", *(report.label(size) for size in SIZES)]
    names = list(columns[SIZES[0]])
    rows = [[name, *(f"{columns[size][name] * 1e6:.0f}" for size in SIZES)] for name in names]
    table = report.Cells(header, rows)
    table.print("Where the time goes")
    if not options.quick:
        report.publish({"overhead": table}, {"overhead": columns})


if __name__ == "__main__":
    main()
