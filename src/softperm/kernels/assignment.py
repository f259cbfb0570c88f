"""Linear assignment by SciPy, one matrix after the other: the definition, and the fallback.

Of m items and n positions as many pairs are made as there can be, of the largest total score. With
`unmatched` an item may also stay without a position, for a score of its own.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def _scaled(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores whose sums do not overflow."""
    largest = np.abs(scores, where=np.isfinite(scores), out=np.zeros_like(scores)).max(initial=0.0)
    return scores * 0.5**20 if largest > 1e290 else scores


def _with_private_columns(
    scores: NDArray[np.float64], unmatched: NDArray[np.float64]
) -> NDArray[np.float64]:
    """One more position per item, which nobody else can take, for the score of having none."""
    private = np.full((len(scores), len(scores)), -np.inf)
    np.fill_diagonal(private, unmatched)
    return np.concatenate([scores, private], 1)


def match(
    scores: NDArray[np.float64], unmatched: NDArray[np.float64] | None = None
) -> NDArray[np.int64] | None:
    """The position of every item of one matrix, -1 for none; None where -inf forbids all, and where
    a score is NaN or +inf.
    """
    from scipy.optimize import (
        linear_sum_assignment,  # it takes longer to import than all of softperm
    )

    if not (scores < np.inf).all():
        return None
    m, n = scores.shape
    perm = np.full(m, -1)
    full = scores if unmatched is None else _with_private_columns(scores, unmatched)
    try:
        rows, columns = linear_sum_assignment(_scaled(full), maximize=True)
    except ValueError as error:
        if "infeasible" not in str(error):
            raise
        return None
    perm[rows] = np.where(columns < n, columns, -1)
    return perm


def match_list(
    scores: list[Tensor], unmatched: list[Tensor] | None = None
) -> tuple[list[Tensor], int]:
    """The assignment of every matrix of a list, and the first that has none, or -1.

    The scores are on the CPU, each (m, n), and those of staying without a position (m,).
    """
    found: list[Tensor] = []
    for b, matrix in enumerate(scores):
        alone = None if unmatched is None else unmatched[b].double().numpy()
        perm = match(matrix.double().numpy(), alone)
        if perm is None:
            return found, b
        found.append(torch.from_numpy(perm))
    return found, -1


def match_batch(
    scores: Tensor,
    unmatched: Tensor | None = None,
    n_rows: Tensor | None = None,
    n_cols: Tensor | None = None,
) -> tuple[Tensor, int]:
    """The assignments of (batch, m, n) scores, and the first matrix that has none, or -1.

    Scores of NaN or +inf allow none. Only so many leading rows and columns of a matrix count as
    `n_rows` and `n_cols`, (batch,), say; items beyond get -1.
    """
    batch, m, n = scores.shape
    perm = torch.full((batch, m), -1, device="cpu")
    for b in range(batch):
        r = m if n_rows is None else int(n_rows[b])
        c = n if n_cols is None else int(n_cols[b])
        alone = None if unmatched is None else [unmatched[b, :r]]
        found, failed = match_list([scores[b, :r, :c]], alone)
        if failed >= 0:
            return perm, b
        perm[b, :r] = found[0]
    return perm, -1
