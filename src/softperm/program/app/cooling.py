"""The soft matrix at falling temperatures, and how the iteration ended at each."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from softperm.ops import sinkhorn

STEPS = 41
TOL = 1e-3
MOST_ITERATIONS = 5000
_DECIMALS = 4


def cool(
    log_alpha: Tensor, hottest: float, coldest: float, *, slack: float | None = None
) -> dict[str, Any]:
    """S(log_alpha / tau) at temperatures that fall by the same factor, as lists for the page.

    Arguments:
        log_alpha: Scores, floating, shape (m, n).
        hottest: The first temperature.
        coldest: The last one.
        slack: As in `sinkhorn`: the matrices have a row and a column more.

    Returns:
        `taus`, `matrices`, and of each iteration: `iterations` done, the largest `errors` of a row
        sum, and whether it `converged`, that is, came below `tol` within `most_iterations`.

    Example:
        >>> cooled = cool(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), 10.0, 0.1)
        >>> cooled["matrices"][0][0], cooled["matrices"][-1][0]
        ([0.525, 0.475], [1.0, 0.0])
    """
    taus = torch.logspace(math.log10(hottest), math.log10(coldest), STEPS, dtype=torch.float64)
    scores = log_alpha.double().expand(STEPS, *log_alpha.shape)
    soft, info = sinkhorn(scores, taus, MOST_ITERATIONS, slack=slack, tol=TOL, return_info=True)
    return {
        "taus": [float(f"{tau:.3g}") for tau in taus.tolist()],
        "matrices": soft.round(decimals=_DECIMALS).tolist(),
        "iterations": info.n_iters.tolist(),
        "errors": info.row_error.tolist(),
        "converged": info.converged.tolist(),
        "tol": TOL,
        "most_iterations": MOST_ITERATIONS,
    }
