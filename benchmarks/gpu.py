"""How much faster than the plain loop are the Triton kernels on a GPU?

Sinkhorn against the plain loop of `logsumexp` under autograd, both in one process on the same
inputs, taking turns; medians of times between CUDA events are compared.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from statistics import median

import torch
from plain import N_ITERS, SIZES, plain_loop
from rich.console import Console
from rich.table import Table
from torch import Tensor

import softperm

REPEATS = 25


def forward(function: Callable[[Tensor, float], Tensor], x: Tensor, tau: float) -> None:
    with torch.no_grad():
        function(x, tau)


def both_ways(
    function: Callable[[Tensor, float], Tensor], x: Tensor, tau: float, weights: Tensor
) -> None:
    torch.autograd.grad(function(x, tau), x, weights)


def milliseconds(function: Callable[[], object]) -> float:
    """The time between events on the device; where it waits for Python, that counts too."""
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    start.record()
    function()
    end.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(end))


def compare(slow: Callable[[], object], fast: Callable[[], object]) -> str:
    """Median time of the fast one, and the ratio to it of the slow one's."""
    for function in (slow, fast, fast):
        function()  # warm-up; Triton compiles
    pairs = [(milliseconds(slow), milliseconds(fast)) for _ in range(REPEATS)]
    times = [median(column) for column in zip(*pairs, strict=True)]
    return f"{times[1]:.3g} ms  {times[0] / times[1]:.1f}x"


def row(batch: int, n: int) -> list[str]:
    """The line of the table for one size."""
    x = torch.randn(batch, n, n, device="cuda", requires_grad=True)
    weights = torch.randn(batch, n, n, device="cuda")
    ours = partial(softperm.sinkhorn, n_iters=N_ITERS, backend="triton")
    cells = [f"{batch} x {n}"]
    cells.append(compare(partial(forward, plain_loop, x, 1.0), partial(forward, ours, x, 1.0)))
    for tau in (1.0, 0.01):
        slow = partial(both_ways, plain_loop, x, tau, weights)
        cells.append(compare(slow, partial(both_ways, ours, x, tau, weights)))
    return cells


def main() -> None:
    if not torch.cuda.is_available():
        sys.exit("benchmarks/gpu.py needs a CUDA device; PyTorch finds none here")
    torch.manual_seed(0)
    table = Table("batch x n", "forward", "forward + backward", "the same at tau 0.01")
    for batch, n in SIZES:
        table.add_row(*row(batch, n))
    console = Console(width=100)
    console.print(f"{torch.cuda.get_device_name()}, float32, {N_ITERS} iterations")
    console.print(table)


if __name__ == "__main__":
    main()
