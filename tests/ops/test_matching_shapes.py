"""Matching of matrices of any shape, against SciPy and all partial matchings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from softperm import matching, matching_list
from tests import references
from tests.references_shapes import best_by_scipy, best_total, total_score

pytestmark = pytest.mark.usefixtures("matcher")
INF = torch.inf
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
SMALL = st.integers(0, 4)
MATRICES = st.tuples(SMALL, SMALL).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.floats(-100, 100))
)
SCORES = st.floats(-100, 100)


def assert_partial(perm: Tensor, n: int, pairs: int | None = None) -> None:
    """Whether no position is taken twice, and as many as wanted are."""
    taken = perm[perm >= 0].tolist()
    assert perm.dtype == torch.int64
    assert len(set(taken)) == len(taken)
    assert all(-1 <= j < n for j in perm.tolist())
    assert pairs is None or len(taken) == pairs


@given(MATRICES)
def test_rectangles_against_all_matchings(x: Any) -> None:
    scores = torch.from_numpy(x)
    perm = matching(scores)
    assert_partial(perm, x.shape[1], min(x.shape))
    assert total_score(scores, perm) == pytest.approx(best_total(scores), abs=1e-9)


@given(MATRICES, st.data())
def test_unmatched_against_all_matchings(x: Any, data: st.DataObject) -> None:
    scores = torch.from_numpy(x)
    alone = torch.from_numpy(data.draw(arrays(np.float64, len(x), elements=SCORES)))
    perm = matching(scores, unmatched=alone)
    assert_partial(perm, x.shape[1])
    found = total_score(scores, perm, alone)
    assert found == pytest.approx(best_total(scores, alone), abs=1e-9)


@pytest.mark.parametrize(("m", "n"), [(5, 9), (9, 5), (40, 17), (17, 40), (1, 30), (30, 1)])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("unmatched", [None, 0.5])
def test_against_scipy(m: int, n: int, dtype: torch.dtype, unmatched: float | None) -> None:
    x = references.matrices((6, m, n), seed=m).to(dtype)
    alone = None if unmatched is None else torch.full((m,), unmatched)
    for scores, perm in zip(x, matching(x, unmatched=unmatched), strict=True):
        assert_partial(perm, n, min(m, n) if unmatched is None else None)
        wanted = best_by_scipy(scores, alone)
        assert total_score(scores, perm, alone) == pytest.approx(wanted, abs=1e-5)


def test_a_pair_is_made_only_where_it_gains() -> None:
    x = torch.tensor([[-1.0, 2.0], [-3.0, -4.0]])
    assert matching(x, unmatched=0.0).tolist() == [1, -1]
    assert matching(x, unmatched=-9.0).tolist() == [1, 0]
    assert matching(x, unmatched=torch.tensor([3.0, -9.0])).tolist() == [-1, 0]


def test_unmatched_in_float64_keeps_its_digits() -> None:
    x = torch.tensor([[0.1]], dtype=torch.float64)
    assert matching(x + 1e-12, unmatched=0.1).tolist() == [0]
    assert matching(x - 1e-12, unmatched=0.1).tolist() == [-1]


@given(st.integers(0, 4), st.integers(0, 4), st.data())
def test_ragged(m: int, n: int, data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.integers(0, m), min_size=3, max_size=3))
    columns = data.draw(st.lists(st.integers(0, n), min_size=3, max_size=3))
    unmatched = data.draw(st.none() | SCORES)
    x = references.matrices((3, m, n), seed=m + 5 * n, scale=9.0)
    y = torch.full_like(x, torch.nan)
    for b, (r, c) in enumerate(zip(rows, columns, strict=True)):
        y[b, :r, :c] = x[b, :r, :c]
    sizes = {"n_rows": torch.tensor(rows), "n_cols": torch.tensor(columns)}
    perm = matching(y, unmatched=unmatched, **sizes)
    for b, (r, c) in enumerate(zip(rows, columns, strict=True)):
        assert torch.equal(perm[b, :r], matching(x[b, :r, :c], unmatched=unmatched))
        assert perm[b, r:].tolist() == [-1] * (m - r)


@pytest.mark.parametrize("n", [16, 32, 480])
@pytest.mark.parametrize("fewer_rows", [0, 10])
def test_high_scores_beyond_what_counts_are_no_matches(n: int, fewer_rows: int) -> None:
    x = torch.full((2, n, n), 100.0)
    m, columns = n - fewer_rows, n - 6  # in whole vectors as many as there are
    x[:, :m, :columns] = references.matrices((2, m, columns), seed=n).float()
    found = matching(x, n_rows=m, n_cols=columns)
    for b in range(2):
        rows, cols = linear_sum_assignment(x[b, :m, :columns].numpy(), maximize=True)
        expected = torch.full((n,), -1)
        expected[rows] = torch.from_numpy(cols)
        assert torch.equal(found[b], expected)


def test_ragged_sizes_broadcast() -> None:
    x = references.matrices((2, 3, 4, 5))
    found = matching(x, n_rows=3, n_cols=torch.tensor([2, 5, 4]))
    assert found.shape == (2, 3, 4)
    assert torch.equal(found[1, 0, :3], matching(x[1, 0, :3, :2]))
    many = matching(x[0, 0], n_cols=torch.tensor([[1], [3]]))
    assert many.shape == (2, 1, 4)
    assert torch.equal(many[1, 0], matching(x[0, 0, :, :3]))


def test_unmatched_beyond_what_counts_is_not_read() -> None:
    alone = torch.tensor([0.0, torch.nan])
    assert matching(torch.tensor([[1.0], [2.0]]), unmatched=alone, n_rows=1).tolist() == [0, -1]


@pytest.mark.parametrize("value", [torch.nan, INF])
def test_what_counts_is_read(value: float) -> None:
    x = torch.zeros(2, 3, 4)
    x[1, 1, 2] = value
    with pytest.raises(ValueError, match=r"log_alpha must be finite or -inf .* \(2, 3, 4\)"):
        matching(x, n_rows=torch.tensor([3, 2]))
    assert matching(x, n_rows=torch.tensor([3, 1])).shape == (2, 3)


class TestForbidden:
    def test_without_unmatched(self) -> None:
        x = torch.zeros(2, 2, 3, 4)
        x[1, 0, :2, 1:] = -INF
        message = (
            r"one matching of min\(m, n\) pairs possible, got a matrix at batch index \(1, 0\)"
        )
        with pytest.raises(ValueError, match=message):
            matching(x)
        assert matching(x, n_rows=torch.tensor([[3, 3], [1, 3]])).shape == (2, 2, 3)

    def test_the_longer_side_may_be_left_over(self) -> None:
        x = torch.zeros(2, 3)
        x[:, 1] = -INF
        assert sorted(matching(x).tolist()) == [0, 2]
        assert sorted(matching(x.mT).tolist()) == [-1, 0, 1]

    @given(MATRICES, st.data())
    def test_with_unmatched_nothing_is_infeasible(self, x: Any, data: st.DataObject) -> None:
        mask = data.draw(arrays(np.bool_, x.shape))
        scores = torch.from_numpy(np.where(mask, -np.inf, x))
        alone = torch.full((len(x),), data.draw(SCORES)).double()
        perm = matching(scores, unmatched=alone)
        assert_partial(perm, x.shape[1])
        wanted = best_by_scipy(scores, alone)
        assert total_score(scores, perm, alone) == pytest.approx(wanted, abs=1e-9)


class TestTransforms:
    SIZES = torch.tensor([2, 3, 1])

    def test_vmap(self) -> None:
        x = references.matrices((3, 4, 5))
        found = torch.func.vmap(lambda x, k: matching(x, n_rows=k, unmatched=0.3))(x, self.SIZES)
        assert torch.equal(found, matching(x, n_rows=self.SIZES, unmatched=0.3))
        over_sizes = torch.func.vmap(lambda k: matching(x[0], n_cols=k))(self.SIZES)
        assert torch.equal(over_sizes, matching(x[0], n_cols=self.SIZES))

    @pytest.mark.parametrize("dynamic", [False, True])
    def test_compiled(self, dynamic: bool) -> None:
        torch._dynamo.reset()
        function = torch.compile(matching, fullgraph=True, backend="aot_eager", dynamic=dynamic)
        for m, n in ((4, 5), (6, 3)):
            x = references.matrices((3, m, n))
            given: dict[str, Any] = {"n_rows": self.SIZES, "unmatched": 0.3}
            assert torch.equal(function(x), matching(x))
            assert torch.equal(function(x, **given), matching(x, **given))
        torch._dynamo.reset()

    def test_opcheck(self) -> None:
        x, alone = references.matrices((3, 4, 5)), references.matrices((3, 4))
        arguments = (x, alone, self.SIZES, self.SIZES)
        torch.library.opcheck(torch.ops.softperm.matching.default, arguments)
        parts = [x[0], x[1, :2]]
        torch.library.opcheck(torch.ops.softperm.matching_list.default, (parts, []))

    def test_a_compiled_list(self) -> None:
        torch._dynamo.reset()
        parts = [references.matrices(shape) for shape in ((3, 4), (2, 5))]
        function = torch.compile(matching_list, fullgraph=True, backend="aot_eager")
        for found, wanted in zip(function(parts), matching_list(parts), strict=True):
            assert torch.equal(found, wanted)
        torch._dynamo.reset()


class TestLists:
    SHAPES = [(3, 5), (5, 3), (0, 4), (4, 0), (2, 2)]

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_is_the_matching_of_each(self, dtype: torch.dtype) -> None:
        parts = [
            references.matrices(shape, seed=k).to(dtype) for k, shape in enumerate(self.SHAPES)
        ]
        for unmatched in (None, 0.2):
            found = matching_list(parts, unmatched=unmatched)
            assert len(found) == len(parts)
            for perm, part in zip(found, parts, strict=True):
                assert torch.equal(perm, matching(part, unmatched=unmatched))

    def test_unmatched_of_each(self) -> None:
        parts = [references.matrices((3, 4)), references.matrices((2, 2))]
        alone: list[Any] = [torch.tensor([1.0, -9.0, 2.0]).double(), 0.7]
        found = matching_list(parts, unmatched=alone)
        for perm, part, own in zip(found, parts, alone, strict=True):
            assert torch.equal(perm, matching(part, unmatched=own))

    def test_views_and_mixed_dtypes(self) -> None:
        parts = [references.matrices((4, 6)).mT, references.matrices((3, 3)).float()]
        for perm, part in zip(matching_list(parts), parts, strict=True):
            assert torch.equal(perm, matching(part))

    def test_nothing(self) -> None:
        assert matching_list([]) == []

    @pytest.mark.parametrize(
        ("log_alphas", "unmatched", "error", "message"),
        [
            (
                torch.zeros(2, 2),
                None,
                TypeError,
                "log_alphas must be a list of tensors, got Tensor",
            ),
            ([[0.0]], None, TypeError, r"log_alphas\[0\] must be a torch.Tensor, got list"),
            ([torch.zeros(2, 2, 2)], None, ValueError, r"log_alphas\[0\] must have shape \(m, n\)"),
            ([torch.zeros(2), None], None, ValueError, r"log_alphas\[0\] must have shape"),
            ([torch.zeros(1, 1), torch.full((1, 1), torch.nan)], None, ValueError, r"\[1\] .* NaN"),
            ([torch.full((1, 2), -INF)], None, ValueError, r"index 0 of the list .* \(1, 2\)"),
            (
                [torch.zeros(1, 1)],
                [1.0, 2.0],
                ValueError,
                "unmatched must be a float or a list of 1",
            ),
            ([torch.zeros(2, 1)], [torch.zeros(3)], ValueError, r"unmatched\[0\] must broadcast"),
        ],
    )
    def test_errors(
        self, log_alphas: Any, unmatched: Any, error: type[Exception], message: str
    ) -> None:
        with pytest.raises(error, match=message):
            matching_list(log_alphas, unmatched=unmatched)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"unmatched": "1"}, TypeError, "unmatched must be a float or a floating tensor, got str"),
        ({"unmatched": torch.tensor(1)}, TypeError, "unmatched must be a float .* torch.int64"),
        ({"unmatched": torch.nan}, ValueError, "unmatched must be finite, got nan"),
        ({"unmatched": torch.tensor([[INF], [0.0]])}, ValueError, "unmatched must be finite"),
        ({"unmatched": torch.zeros(4)}, ValueError, r"unmatched must broadcast .*\(2, 3\)"),
        ({"n_rows": 4}, ValueError, r"n_rows must lie in 0..3, .* got 4"),
        ({"n_rows": -1}, ValueError, r"n_rows must lie in 0..3, .* got -1"),
        ({"n_cols": torch.tensor([0, 6])}, ValueError, r"n_cols must lie in 0..5, .* got 6"),
        ({"n_cols": torch.tensor([0, 1, 1])}, ValueError, r"n_cols must broadcast .*\(2,\)"),
        ({"n_cols": 2.0}, TypeError, "n_cols must be an int or an integer tensor, got float"),
        ({"n_rows": True}, TypeError, "n_rows must be an int or an integer tensor, got bool"),
        ({"n_rows": torch.ones(2)}, TypeError, "n_rows must be an int .* dtype torch.float32"),
    ],
)
def test_errors(given: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        matching(torch.zeros(2, 3, 5), **given)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(4, 4), (5, 7), (17, 33), (40, 3)])
def test_no_wrong_score_is_missed(dtype: torch.dtype, shape: tuple[int, int]) -> None:
    m, n = shape
    x = torch.randn(2, m, n, dtype=dtype, generator=torch.Generator().manual_seed(0))
    n_cols = torch.tensor([n, n - 1])
    for place in range(m * n):
        for wrong in (torch.nan, INF):
            y = x.clone()
            y[1].view(-1)[place] = wrong
            with pytest.raises(ValueError, match=r"log_alpha must be finite or -inf"):
                matching(y)
            if place % n < n - 1:
                with pytest.raises(ValueError, match=r"log_alpha must be finite or -inf"):
                    matching(y, n_cols=n_cols)
            else:
                matching(y, n_cols=n_cols)


@pytest.mark.parametrize("low", [-1e39, torch.finfo(torch.float64).min])
def test_unmatched_beyond_the_range_of_the_scores(low: float) -> None:
    x = 1e37 * torch.tensor([[-30.0, -1.0], [-2.0, -30.0], [-5.0, -5.0]])
    wanted = [1, 0, -1]
    for alone in (low, torch.tensor(low, dtype=torch.float64)):
        assert matching(x, unmatched=alone).tolist() == wanted
        assert matching(x, unmatched=alone, n_rows=3).tolist() == wanted
        assert matching_list([x], unmatched=[alone])[0].tolist() == wanted
        assert matching(x, unmatched=-alone).tolist() == [-1, -1, -1]
    with pytest.raises(ValueError, match="unmatched must be finite"):
        matching(x, unmatched=torch.inf, n_rows=2)
