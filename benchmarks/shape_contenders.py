"""The ways to compute Sinkhorn of other shapes than square ones that `shapes.py` compares.

Each takes tensors and gives the result for them; `slack`, `clusters` and `rectangle` are lists of
them by name, the reference first.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from plain import N_ITERS, plain_loop
from torch import Tensor
from torch.nn import functional as F

import softperm

try:
    import ot
    import ot.batch
    import pygmtools
except ModuleNotFoundError as error:
    raise SystemExit(
        f"The benchmarks need {error.name}: pip install --constraint constraints.txt '.[bench]'"
    ) from error

Function = Callable[..., Tensor]
BALANCED_TAU = 0.05  # usual for scores that are cosines


# ---- key points: one more row and column, which take what has no partner; the logarithm ----


def superglue_formula(x: Tensor, slack: Tensor, n_iters: int) -> Tensor:
    """Optimal transport with dustbins (Sarlin et al., CVPR 2020, section 3.2), in the log domain.

    Marginals are divided by m + n, and the result is multiplied by it.
    """
    batch, m, n = x.shape
    column, row = slack.expand(batch, m, 1), slack.expand(batch, 1, n + 1)
    scores = torch.cat([torch.cat([x, column], 2), row], 1)
    log_total = math.log(m + n)
    log_rows = x.new_tensor([0.0] * m + [math.log(n)]) - log_total
    log_columns = x.new_tensor([0.0] * n + [math.log(m)]) - log_total
    v = x.new_zeros(batch, 1, n + 1)
    for _ in range(n_iters):
        u = log_rows[:, None] - torch.logsumexp(scores + v, 2, keepdim=True)
        v = log_columns - torch.logsumexp(scores + u, 1, keepdim=True)
    return scores + u + v + log_total


def slack(n_iters: int) -> dict[str, Function]:
    """Of scores and the score of slack."""

    def ours(x: Tensor, slack: Tensor) -> Tensor:
        return softperm.log_sinkhorn(x, slack=slack, n_iters=n_iters)

    return {"SuperGlue's formula": partial(superglue_formula, n_iters=n_iters), "softperm": ours}


# ---- balanced clusters: every row sums to 1, every column to rows / columns ----


def divide(x: Tensor, n_iters: int) -> Tensor:
    """The three lines that self-supervised trainers write; they overflow at lower temperatures."""
    Q = (x / BALANCED_TAU).exp()
    for _ in range(n_iters):
        Q = Q / Q.sum(1, keepdim=True)
        Q = Q / Q.sum(0, keepdim=True) * (x.shape[0] / x.shape[1])
    return Q


def subtract(x: Tensor, n_iters: int) -> Tensor:
    """The same, stabilised."""
    log_Q = x / BALANCED_TAU
    for _ in range(n_iters):
        log_Q = log_Q - log_Q.logsumexp(1, keepdim=True)
        log_Q = log_Q - log_Q.logsumexp(0, keepdim=True) + math.log(x.shape[0] / x.shape[1])
    return log_Q.exp()


def clusters(n_iters: int) -> dict[str, Function]:
    """Of scores."""

    def ours(x: Tensor) -> Tensor:
        per_column = x.shape[0] / x.shape[1]
        return softperm.sinkhorn(x, BALANCED_TAU, n_iters, row_sums=1.0, col_sums=per_column)

    return {
        "plain loop": partial(divide, n_iters=n_iters),
        "softperm": ours,
        "stabilised loop": partial(subtract, n_iters=n_iters),
    }


def clusters_by_pot(n_iters: int) -> dict[str, Function]:
    """Forward only; what POT calls rows it does last, so it gets costs of clusters by items."""

    def pot(x: Tensor, method: str) -> Tensor:
        items, columns = x.shape
        by_cluster = x.new_full((columns,), items / columns)
        plan: Tensor = ot.sinkhorn(
            *(by_cluster, x.new_ones(items), -x.T, BALANCED_TAU, method),
            numItermax=n_iters,
            stopThr=0.0,
            warn=False,
        )
        return plan.T

    def batched(x: Tensor) -> Tensor:
        items, columns = x.shape
        sums = x.new_ones(1, items), x.new_full((1, columns), items / columns)
        kernel = (x / BALANCED_TAU).exp()[None]
        project = ot.batch.bregman_projection_batch
        plan: Tensor = project(kernel, *sums, max_iter=n_iters, tol=0.0)["T"]
        return plan[0]

    return {
        "POT": partial(pot, method="sinkhorn"),
        "POT, log": partial(pot, method="sinkhorn_log"),
        "POT, batch": batched,
    }


# ---- rectangles: every line of the shorter side sums to 1, of the longer to at most 1 ----


def completed(x: Tensor) -> Tensor:
    """The plain loop on the square that rows of 0 make of it."""
    m, n = x.shape[-2:]
    return plain_loop(F.pad(x, (0, 0, 0, n - m)), 1.0)[..., :m, :]


def pygm(x: Tensor) -> Tensor:
    """pygmtools with its dummy rows; batched, far quicker than its default."""
    result: Tensor = pygmtools.sinkhorn(
        x, dummy_row=True, max_iter=2 * N_ITERS, batched_operation=True, backend="pytorch"
    )
    return result


def ours(x: Tensor) -> Tensor:
    """softperm as its users call it."""
    return softperm.sinkhorn(x, n_iters=N_ITERS)


RECTANGLE: dict[str, Function] = {"plain loop": completed, "softperm": ours, "pygmtools": pygm}
