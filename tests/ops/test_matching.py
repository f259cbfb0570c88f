"""Matching, against enumeration of all permutations and SciPy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from softperm import matching, permutation_matrix
from tests import references

pytestmark = pytest.mark.usefixtures("matcher")
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
SQUARES = st.integers(1, 4).flatmap(
    lambda n: arrays(np.float64, (n, n), elements=st.floats(-100, 100))
)
INF = torch.inf


def test_by_hand() -> None:
    # 1 + 5 = 6 beats 3 + 2 = 5, though 3 is the larger entry of its row.
    assert matching(torch.tensor([[1.0, 3.0], [2.0, 5.0]])).tolist() == [0, 1]
    # Not its own inverse: item 0 goes to position 1, item 1 to 2, item 2 to 0.
    x = torch.tensor([[0.0, 9.0, 0.0], [0.0, 0.0, 9.0], [9.0, 0.0, 0.0]])
    assert matching(x).tolist() == [1, 2, 0]


@pytest.mark.parametrize("n", range(1, 7))
@pytest.mark.parametrize("dtype", DTYPES)
def test_against_enumeration(n: int, dtype: torch.dtype) -> None:
    x = references.matrices((8, n, n), seed=n, scale=10.0).to(dtype)
    for scores, perm in zip(x, matching(x), strict=True):
        assert references.score(scores, perm) == pytest.approx(references.best_score(scores))
        if dtype == torch.float64:  # ties cannot happen
            assert torch.equal(perm, references.matching_by_enumeration(scores))


@given(SQUARES)
def test_best_score(x: Any) -> None:
    X = torch.from_numpy(x)
    assert references.score(X, matching(X)) == pytest.approx(references.best_score(X), abs=1e-9)


@given(SQUARES, st.data())
def test_constants_of_rows_and_columns_do_not_matter(x: Any, data: st.DataObject) -> None:
    shift = data.draw(arrays(np.float64, (2, len(x)), elements=st.floats(-1000, 1000)))
    X = torch.from_numpy(x)
    found = matching(torch.from_numpy(x + shift[0][:, None] + shift[1]))
    assert references.score(X, found) == pytest.approx(references.best_score(X), abs=1e-8)


@pytest.mark.parametrize("n", [2, 5])
def test_commutes_with_permutations(n: int, generator: torch.Generator) -> None:
    x = references.matrices((n, n))
    rows, columns = torch.randperm(n, generator=generator), torch.randperm(n, generator=generator)
    # Row i of the shuffled matrix is row rows[i]; its column j is column columns[j].
    shuffled = x[rows][:, columns]
    assert torch.equal(columns[matching(shuffled)], matching(x)[rows])


def by_scipy(scores: Tensor) -> float | None:
    """The largest <P, X> in float64; None if no permutation is possible."""
    x = scores.double().numpy()
    try:
        rows, columns = linear_sum_assignment(x, maximize=True)
    except ValueError as error:
        if "infeasible" not in str(error):
            raise
        return None
    return math.fsum(x[rows, columns])


def assert_best(x: Tensor) -> None:
    """As good as SciPy's; prices are float64 and each of the n entries is within 45 units in the
    last place of the largest.
    """
    largest = float(x.masked_fill(x == -INF, 0).abs().max())
    for scores, perm in zip(x, matching(x), strict=True):
        best = by_scipy(scores)
        assert best is not None
        assert perm.sort().values.tolist() == list(range(len(perm)))
        found = references.score(scores, perm)
        assert found == pytest.approx(best, rel=0, abs=1e-14 * len(perm) * largest)


@pytest.mark.parametrize("n", [15, 16, 17, 33, 40, 100])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
class TestAgainstSciPy:
    """At sizes around whole vectors; every kind of matrix takes other turns in the search."""

    def test_normal(self, n: int, dtype: torch.dtype) -> None:
        assert_best(references.matrices((8, n, n), seed=n).to(dtype))

    def test_many_ties(self, n: int, dtype: torch.dtype, generator: torch.Generator) -> None:
        for largest in (1, 2, 5, n):
            assert_best(torch.randint(largest + 1, (6, n, n), generator=generator).to(dtype))

    def test_all_equal(self, n: int, dtype: torch.dtype) -> None:
        for value in (0.0, -3.5, 1e6):
            assert_best(torch.full((1, n, n), value, dtype=dtype))

    def test_rank_one(self, n: int, dtype: torch.dtype) -> None:
        x, y = references.matrices((2, 6, n), seed=n)
        assert_best((x[:, :, None] * y[:, None, :]).to(dtype))

    def test_nearly_a_permutation(
        self, n: int, dtype: torch.dtype, generator: torch.Generator
    ) -> None:
        perms = torch.stack([torch.randperm(n, generator=generator) for _ in range(6)])
        P, noise = permutation_matrix(perms), references.matrices((6, n, n), seed=n)
        for scale in (0.01, 0.3, 1.0):  # rows like all columns of P best, or most, or few
            assert_best((P + scale * noise).to(dtype))
        assert torch.equal(matching((P + 0.01 * noise).to(dtype)), perms)

    def test_all_rows_want_the_same(self, n: int, dtype: torch.dtype) -> None:
        x = references.matrices((6, n, n), seed=n)
        assert_best((0.1 * x + 10 * references.matrices((1, 1, n), seed=1)).to(dtype))

    def test_huge_constants_of_rows_and_columns(self, n: int, dtype: torch.dtype) -> None:
        rows, columns = 1e6 * references.matrices((2, 6, n), seed=1)
        x = references.matrices((6, n, n), seed=n)
        assert_best((x + rows[:, :, None] + columns[:, None, :]).to(dtype))

    def test_few_pairs_allowed(
        self, n: int, dtype: torch.dtype, generator: torch.Generator
    ) -> None:
        share = torch.linspace(0.5, 2.5, 24)[:, None, None] * math.log(n) / n
        allowed = torch.rand(24, n, n, generator=generator) < share
        x = references.matrices((24, n, n), seed=n).masked_fill(~allowed, -INF).to(dtype)
        possible = torch.tensor([by_scipy(scores) is not None for scores in x])
        assert 2 < int(possible.sum()) < 22
        assert_best(x[possible])
        for scores in x[~possible]:
            with pytest.raises(ValueError, match="must leave at least one permutation possible"):
                matching(scores)


DIGITS = arrays(np.int64, (17, 17), elements=st.integers(0, 9), fill=st.nothing())


@given(DIGITS, DIGITS, st.integers(1, 9), st.integers(0, 9))
def test_ties_and_forbidden_pairs(x: Any, y: Any, values: int, forbidden: int) -> None:
    scores = torch.from_numpy(np.where(y < forbidden, -np.inf, x % values))
    best = by_scipy(scores)
    if best is None:
        with pytest.raises(ValueError, match="must leave at least one permutation possible"):
            matching(scores)
    else:
        assert references.score(scores, matching(scores)) == best


@pytest.mark.parametrize("batch", [(), (3,), (2, 3), (0,), (2, 0)])
@pytest.mark.parametrize("n", [0, 1, 4])
def test_any_batch(batch: tuple[int, ...], n: int) -> None:
    x = references.matrices((*batch, n, n))
    perm = matching(x)
    assert perm.shape == (*batch, n)
    assert perm.dtype == torch.int64
    count = torch.Size(batch).numel()
    for scores, found in zip(x.reshape(count, n, n), perm.reshape(count, n), strict=True):
        assert torch.equal(found, matching(scores))


def test_any_memory_layout() -> None:
    x = references.matrices((4, 4, 4))
    for view in (x.mT, x.movedim(0, 2), x[0].expand(2, 4, 4), x[:, ::2, ::2]):
        assert torch.equal(matching(view), matching(view.clone().contiguous()))


def test_extreme_scores() -> None:
    x = references.matrices((10, 5, 5))
    assert torch.equal(matching(x * 1e4), matching(x))
    assert torch.equal(matching(x * 1e-30), matching(x))
    assert torch.equal(matching(x.float() * 1e30), matching(x))


def test_ties_are_broken_the_same_way_every_time() -> None:
    x = torch.zeros(5, 5)
    assert torch.equal(matching(x), matching(x))
    assert matching(x).sort().values.tolist() == [0, 1, 2, 3, 4]


def test_no_gradient() -> None:
    assert not matching(torch.zeros(2, 2, requires_grad=True)).requires_grad


def test_forbidden_pairs_are_avoided_at_any_price() -> None:
    x = torch.tensor([[1e4, -1e4], [-1e4, -INF]])
    assert matching(x).tolist() == [1, 0]


@pytest.mark.parametrize("n", [3, 4])
def test_forbidden_pairs_against_enumeration(n: int, generator: torch.Generator) -> None:
    feasible = 0
    for seed in range(60):
        x = references.matrices((n, n), seed=seed)
        forbidden = torch.rand(n, n, generator=generator) < 0.6
        scores = x.masked_fill(forbidden, -INF)
        possible = [
            perm
            for perm in references.all_permutations(n)
            if not any(bool(forbidden[i, int(j)]) for i, j in enumerate(perm))
        ]
        if possible:
            feasible += 1
            best = max(references.score(x, perm) for perm in possible)
            assert references.score(scores, matching(scores)) == pytest.approx(best)
        else:
            with pytest.raises(ValueError, match="log_alpha must leave at least one permutation"):
                matching(scores)
    assert 5 < feasible < 55


def test_the_impossible_matrix_is_named() -> None:
    x = torch.zeros(2, 3, 2, 2)
    x[1, 2] = torch.tensor([[0.0, -INF], [0.0, -INF]])
    with pytest.raises(ValueError, match=r"batch index \(1, 2\) .* in shape \(2, 3, 2, 2\)"):
        matching(x)


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        ([[0.0]], TypeError, "log_alpha must be a torch.Tensor, got list"),
        (torch.zeros(2, 2, dtype=torch.int64), TypeError, "log_alpha .* got torch.int64"),
        (torch.zeros(2, 2, dtype=torch.bool), TypeError, "log_alpha .* got torch.bool"),
        (torch.zeros(2, 2, dtype=torch.complex64), TypeError, "log_alpha .* got torch.complex64"),
        (torch.zeros(3), ValueError, r"log_alpha must have shape \(\*, m, n\), got \(3,\)"),
        (torch.full((2, 2), torch.nan), ValueError, "log_alpha must be finite .* got NaN"),
        (torch.full((2, 2), INF), ValueError, r"log_alpha must be finite .* got \+inf"),
        (torch.full((1, 1), -INF), ValueError, "log_alpha must leave at least one permutation"),
    ],
)
def test_errors(x: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        matching(x)
