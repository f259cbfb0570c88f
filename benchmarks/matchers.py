"""The ways to find the best permutation of many matrices that `operators.py` compares."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment
from torch import Tensor

import softperm

try:
    import lap
except ModuleNotFoundError as error:
    raise SystemExit(
        f"The benchmarks need {error.name}: pip install --constraint constraints.txt '.[bench]'"
    ) from error

LAPX_SOLVERS = ("lapjvx_batch", "lapjvs_batch", "lapjvr_batch", "lapjvh_batch")
Indices = np.ndarray[Any, np.dtype[np.int64]]


def bind_ours(x: Tensor, threads: int) -> Callable[[], Indices]:
    return lambda: softperm.matching(x).numpy()


def bind_scipy(x: Tensor, threads: int) -> Callable[[], Indices]:
    """SciPy, one matrix after the other."""
    matrices = x.numpy()
    return lambda: np.stack([linear_sum_assignment(m, maximize=True)[1] for m in matrices])


def lapx_solver(name: str) -> Callable[..., Any]:
    """A function of lapx."""
    solver: Callable[..., Any] = getattr(lap, name)
    return solver


def bind_lapx(solver: str) -> Callable[[Tensor, int], Callable[[], Indices]]:
    """One of lapx's batch calls; they minimise, so they get the negated matrices ready made."""
    solve = lapx_solver(solver)

    def bind(x: Tensor, threads: int) -> Callable[[], Indices]:
        costs = -x.numpy()
        return lambda: np.stack(solve(costs, return_cost=False, n_threads=threads)[1])

    return bind


MATCHERS: dict[str, Callable[[Tensor, int], Callable[[], Indices]]] = {
    "SciPy": bind_scipy,
    "softperm": bind_ours,
    **{f"lapx {solver}": bind_lapx(solver) for solver in LAPX_SOLVERS},
}
