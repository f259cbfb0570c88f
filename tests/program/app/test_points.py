"""Points matched, against SciPy and against all the ways there are."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from softperm.program.app.points import MOST_POINTS, match


def sets(m: int, n: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    generator = np.random.default_rng(seed)
    return generator.random((m, 2)), generator.random((n, 2))


def squares(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    distances: NDArray[np.float64] = ((a[:, None] - b) ** 2).sum(-1)
    return distances


@pytest.mark.parametrize(("m", "n"), [(1, 1), (4, 4), (3, 9), (9, 3), (MOST_POINTS, MOST_POINTS)])
def test_the_sum_of_squares_is_least(m: int, n: int) -> None:
    a, b = sets(m, n, 10 * m + n)
    found = match(a.tolist(), b.tolist())
    costs = squares(a, b)
    rows, columns = linear_sum_assignment(costs)
    pairs = [(i, j) for i, j in enumerate(found["partners"]) if j >= 0]
    assert pairs == list(zip(rows.tolist(), columns.tolist(), strict=True))
    cold = np.array(found["matrices"][-1])
    assert cold.shape == (m, n)
    if found["converged"][-1]:
        assert np.abs(cold.sum(int(m <= n)) - 1).max() <= 0.003


@pytest.mark.parametrize("reach", [0.1, 0.3, 1.0])
def test_with_a_reach_a_pair_is_made_just_where_it_gains(reach: float) -> None:
    a, b = sets(4, 4, 3)
    gains = np.pad(reach**2 - squares(a, b), ((0, 0), (0, 4)))  # column 4 and beyond: no partner
    best = max(permutations(range(8), 4), key=lambda order: gains[range(4), order].sum())
    found = match(a.tolist(), b.tolist(), reach)
    assert found["partners"] == [j if j < 4 else -1 for j in best]
    cold = np.array(found["matrices"][-1])
    assert cold.shape == (5, 5)
    alone = [i for i, j in enumerate(found["partners"]) if j < 0]
    assert (cold[alone, 4] > 0.8).all()
    assert (np.delete(cold[:4, 4], alone) < 0.2).all()


POINT = [[0.5, 0.5]]


@pytest.mark.parametrize(
    ("first", "second", "reach", "words"),
    [
        ([], POINT, None, "first must be a list of 1 to 20 points, got 0"),
        (POINT, 21 * POINT, None, "second must be a list of 1 to 20 points, got 21"),
        (POINT, None, None, "second must be a list"),
        ([[0.5]], POINT, None, "a point of first must be two numbers from 0 to 1"),
        (POINT, [[0.5, "x"]], None, "a point of second"),
        (POINT, [[0.5, 1.5]], None, "a point of second"),
        (POINT, [[0.5, float("nan")]], None, "a point of second"),
        (POINT, [[0.5, True]], None, "a point of second"),
        (POINT, POINT, 0, "reach must be"),
        (POINT, POINT, 2, "reach must be"),
        (POINT, POINT, "x", "reach must be"),
    ],
)
def test_what_is_refused(first: object, second: object, reach: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        match(first, second, reach)
