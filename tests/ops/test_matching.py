"""Matching, against enumeration of all permutations and SciPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import linear_sum_assignment

from softperm import matching
from tests import references

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


@pytest.mark.parametrize("n", [30, 100])
def test_large_against_scipy(n: int) -> None:
    x = references.matrices((3, n, n))
    for scores, perm in zip(x, matching(x), strict=True):
        rows, columns = linear_sum_assignment(-scores.numpy())
        best = float(scores.numpy()[rows, columns].sum())
        assert references.score(scores, perm) == pytest.approx(best)


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
        (torch.zeros(3), ValueError, r"log_alpha must have shape \(\*, n, n\), got \(3,\)"),
        (torch.zeros(4, 2, 3), ValueError, r"log_alpha must have shape .* got \(4, 2, 3\)"),
        (torch.full((2, 2), torch.nan), ValueError, "log_alpha must be finite .* got NaN"),
        (torch.full((2, 2), INF), ValueError, r"log_alpha must be finite .* got \+inf"),
        (torch.full((1, 1), -INF), ValueError, "log_alpha must leave at least one permutation"),
    ],
)
def test_errors(x: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        matching(x)
