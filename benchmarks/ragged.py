"""How much faster than SciPy and lapx is matching where every matrix has a size of its own?

The shapes are a detector's: as many rows as it predicts boxes, as many columns as an image has
objects. SciPy and most of lapx take one matrix after the other; lapx's batch calls take matrices of
one size, so there they are filled up with columns of score 0, which changes nothing: rows are left
over for them. Every contender gets the matrices ready made in its own form, and its total scores
are compared with SciPy's before it is timed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import matchers
import numpy as np
import report
import torch
from plain import THREADS
from scipy.optimize import linear_sum_assignment
from timing import check, medians, prepare
from torch import Tensor

import softperm

SIZES = ((16, 300, 50), (64, 100, 20))  # batch, rows, most columns
IN_A_BATCH = ("lapjvr_batch", "lapjvh_batch")
ONE_BY_ONE = ("lapjvr", "lapjvh", "lapjvx")
LIST = "softperm.matching_list"
Pairs = tuple[matchers.Indices, matchers.Indices]  # rows, and their columns
Function = Callable[[], list[Pairs]]


@dataclass(frozen=True)
class Ragged:
    """Matrices as a list, and filled up to one size."""

    scores: list[Tensor]
    padded: Tensor
    n_cols: Tensor

    @staticmethod
    def random(batch: int, rows: int, most: int) -> Ragged:
        """Gumbel noise, and uniformly random numbers of columns from 1 on."""
        generator = torch.Generator().manual_seed(0)
        n_cols = torch.randint(1, most + 1, (batch,), generator=generator)
        padded = softperm.sample_gumbel((batch, rows, most), generator=generator)
        padded.masked_fill_(torch.arange(most) >= n_cols[:, None, None], 0.0)
        pairs = zip(padded, n_cols.tolist(), strict=True)
        return Ragged([x[:, :n].contiguous() for x, n in pairs], padded, n_cols)

    def totals(self, pairs: list[Pairs]) -> np.ndarray[Any, Any]:
        """The score of every matching."""
        found = []
        for scores, (rows, columns) in zip(self.scores, pairs, strict=True):
            real = (columns >= 0) & (columns < scores.shape[1])
            assert real.sum() == scores.shape[1]
            found.append(scores.double().numpy()[rows[real], columns[real]].sum())
        return np.array(found)


def as_pairs(perms: list[Tensor]) -> list[Pairs]:
    """Our indices as the others give them, for comparison."""
    return [(np.arange(len(perm)), perm.numpy()) for perm in perms]


def contenders(ragged: Ragged) -> dict[str, tuple[Callable[[], Any], Callable[[Any], list[Pairs]]]]:
    """What is timed, and how to read its result."""
    matrices, costs = ([sign * x.numpy() for x in ragged.scores] for sign in (1, -1))
    padded = -ragged.padded.numpy()

    def scipy() -> list[Pairs]:
        return [linear_sum_assignment(x, maximize=True) for x in matrices]

    def one_by_one(name: str) -> Function:
        solve = matchers.lapx_solver(name)
        return lambda: [solve(x, extend_cost=True, return_cost=False) for x in costs]

    def in_a_batch(name: str) -> Function:
        solve = matchers.lapx_solver(name)

        def call() -> list[Pairs]:
            found = solve(padded, extend_cost=True, return_cost=False, n_threads=THREADS)
            return list(zip(*found, strict=True))

        return call

    def ours() -> Tensor:
        return softperm.matching(ragged.padded, n_cols=ragged.n_cols)

    lapx = {f"lapx {name}": in_a_batch(name) for name in IN_A_BATCH}
    lapx |= {f"lapx {name}, loop": one_by_one(name) for name in ONE_BY_ONE}
    return {
        "SciPy loop": (scipy, list),
        report.OURS: (ours, lambda perm: as_pairs(list(perm))),
        LIST: (lambda: softperm.matching_list(ragged.scores), as_pairs),
        **{name: (call, list) for name, call in lapx.items()},
    }


def measure(batch: int, rows: int, most: int, quick: bool) -> dict[str, float]:
    """Median seconds of every contender."""
    ragged = Ragged.random(batch, rows, most)
    functions = contenders(ragged)
    check({name: ragged.totals(read(call())) for name, (call, read) in functions.items()})
    calls = {name: call for name, (call, _) in functions.items()}
    return medians(calls, 0.2 if quick else 1.5, fewest=2, most=30)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help=report.QUICK)
    options = parser.parse_args()
    prepare(THREADS)
    report.require_kernels()
    results = {
        f"{batch} x {rows} x 1 to {most}": measure(batch, rows, most, options.quick)
        for batch, rows, most in SIZES
    }
    table = report.ratio_table(results, lambda name: name != LIST, "batch x rows x columns")
    table.print("Matching of ragged batches")
    if not options.quick:
        report.publish({"ragged matching": table}, {"ragged matching": results})


if __name__ == "__main__":
    main()
