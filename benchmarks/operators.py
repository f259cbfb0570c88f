"""How much faster than plain PyTorch and SciPy are the operators on a CPU?

Sinkhorn against the plain loop of `logsumexp` under autograd, matching against SciPy called for one
matrix after the other; the contenders take turns in one process, and medians are compared.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from statistics import median

import torch
from rich.console import Console
from rich.table import Table
from scipy.optimize import linear_sum_assignment
from torch import Tensor

import softperm

SIZES = ((64, 4), (64, 16), (64, 36), (64, 100), (1024, 10), (16, 256), (2, 1000), (1, 4096))
N_ITERS = 20


def plain_sinkhorn(log_alpha: Tensor, tau: float) -> Tensor:
    """The loop that everybody writes first."""
    log_p = log_alpha / tau
    for _ in range(N_ITERS):
        log_p = log_p - torch.logsumexp(log_p, dim=-1, keepdim=True)
        log_p = log_p - torch.logsumexp(log_p, dim=-2, keepdim=True)
    return log_p.exp()


def forward(function: Callable[[Tensor, float], Tensor], x: Tensor, tau: float) -> None:
    with torch.no_grad():
        function(x, tau)


def both_ways(
    function: Callable[[Tensor, float], Tensor], x: Tensor, tau: float, weights: Tensor
) -> None:
    torch.autograd.grad((function(x, tau) * weights).sum(), x)


def scipy_matching(x: Tensor) -> None:
    for matrix in x.numpy():
        linear_sum_assignment(matrix, maximize=True)


def milliseconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return (time.perf_counter() - start) * 1e3


def compare(slow: Callable[[], object], fast: Callable[[], object], repeats: int) -> str:
    """Median time of the fast one, and the ratio to it of the slow one's."""
    for function in (slow, fast, fast):
        function()  # warm-up
    pairs = [(milliseconds(slow), milliseconds(fast)) for _ in range(repeats)]
    times = [median(column) for column in zip(*pairs, strict=True)]
    return f"{times[1]:.3g} ms  {times[0] / times[1]:.1f}x"


def main() -> None:
    softperm.warm_up()
    torch.manual_seed(0)
    table = Table(
        "batch x n", "forward", "forward + backward", "the same at tau 0.01", "matching (SciPy)"
    )
    for batch, n in SIZES:
        repeats = 3 if n > 1000 else 5 if n > 200 else 25
        x = torch.randn(batch, n, n, requires_grad=True)
        weights = torch.randn(batch, n, n)
        ours = partial(softperm.sinkhorn, n_iters=N_ITERS)
        row = [
            compare(
                partial(forward, plain_sinkhorn, x, 1.0), partial(forward, ours, x, 1.0), repeats
            )
        ]
        for tau in (1.0, 0.01):
            slow = partial(both_ways, plain_sinkhorn, x, tau, weights)
            row.append(compare(slow, partial(both_ways, ours, x, tau, weights), repeats))
        if n <= 1000:
            noise = softperm.sample_gumbel((batch, n, n))
            slow_matching = partial(scipy_matching, noise)
            row.append(compare(slow_matching, partial(softperm.matching, noise), repeats))
        table.add_row(f"{batch} x {n}", *row)
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
