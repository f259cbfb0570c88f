"""The Sinkhorn operator on matrices of any shape, against whole squares in a plain loop."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given as given_examples
from hypothesis import strategies as st
from torch import Tensor

from softperm import log_sinkhorn, matching, permutation_matrix, sinkhorn
from tests import references, references_shapes
from tests.ops.shape_cases import GIVEN, case, leaves, weighted

pytestmark = pytest.mark.usefixtures("backend")
OPERATORS = [sinkhorn, log_sinkhorn]
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def reference(operator: Any, *args: Any, **given: Any) -> Tensor:
    out = references_shapes.log_any_shape(*args, **given)
    return out if operator is log_sinkhorn else out.exp()


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("n_iters", [1, 2, 7])
@pytest.mark.parametrize("name", GIVEN)
class TestAgainstTheLoop:
    def test_values(self, name: str, n_iters: int, operator: Any) -> None:
        x, given = case(name)
        for tau in (0.4, 1, torch.linspace(0.5, 2.0, len(x), dtype=torch.float64)):
            found = operator(x, tau, n_iters, **given)
            wanted = reference(operator, x, tau, n_iters, **given)
            torch.testing.assert_close(found, wanted)

    def test_gradients(self, name: str, n_iters: int, operator: Any) -> None:
        x, given, wanting = leaves(*case(name))
        tau = torch.linspace(0.5, 2.0, len(x), dtype=torch.float64, requires_grad=True)
        found = torch.autograd.grad(weighted(operator(x, tau, n_iters, **given)), [tau, *wanting])
        loop = weighted(reference(operator, x, tau, n_iters, **given))
        loop = loop + 0 * sum(leaf.nan_to_num().sum() for leaf in [tau, *wanting])
        torch.testing.assert_close(found, torch.autograd.grad(loop, [tau, *wanting]))


SMALL = st.integers(0, 5)


@given_examples(SMALL, SMALL, st.integers(1, 9), st.integers(0, 99))
def test_rectangles(m: int, n: int, n_iters: int, seed: int) -> None:
    x = references.matrices((2, m, n), seed=seed, scale=3.0)
    found = sinkhorn(x, 0.8, n_iters)
    wanted = references_shapes.log_completed(x, 0.8, n_iters).exp()
    torch.testing.assert_close(found, wanted, atol=1e-12, rtol=1e-7)
    assert found.shape == x.shape


@given_examples(SMALL, SMALL, st.data())
def test_ragged(m: int, n: int, data: st.DataObject) -> None:
    sizes: dict[str, Any] = {
        "n_rows": torch.tensor(data.draw(st.lists(st.integers(0, m), min_size=4, max_size=4))),
        "n_cols": torch.tensor(data.draw(st.lists(st.integers(0, n), min_size=4, max_size=4))),
    }
    slack = data.draw(st.none() | st.floats(-5, 5))
    x = references.matrices((4, m, n), seed=m + 7 * n, scale=3.0)
    found = sinkhorn(x, n_iters=6, slack=slack, **sizes)
    wanted = reference(sinkhorn, x, 1.0, 6, slack=slack, **sizes)
    torch.testing.assert_close(found, wanted, atol=1e-12, rtol=1e-7)


@given_examples(st.integers(1, 5), st.integers(1, 5), st.integers(0, 99))
def test_sums(m: int, n: int, seed: int) -> None:
    r, c = (references.matrices((2, k), seed=seed + k).softmax(-1) for k in (m, n))
    S, info = sinkhorn(
        references.matrices((2, m, n), seed=seed),
        n_iters=5000,
        tol=1e-11,
        row_sums=r,
        col_sums=c,
        return_info=True,
    )
    torch.testing.assert_close(S.sum(-2), c)
    assert bool(info.converged.all())
    torch.testing.assert_close(S.sum(-1), r)


class TestRectangles:
    @pytest.mark.parametrize(("m", "n"), [(2, 5), (5, 2), (4, 4), (1, 3), (3, 1)])
    def test_small_tau_gives_the_matching(self, m: int, n: int) -> None:
        x = references.matrices((40, m, n), seed=m)
        candidates = references_shapes.partial_matchings(m, n)
        whole = [perm for perm in candidates if perm.count(-1) == max(m - n, 0)]
        scores = torch.tensor([[references_shapes.total_score(y, p) for p in whole] for y in x])
        best, second = scores.topk(2).values.unbind(-1)
        x = x[best - second > 0.4]  # a tie would need an even smaller tau
        S, info = sinkhorn(x, 0.05, 5000, tol=1e-2, return_info=True)
        hard = (matching(x).unsqueeze(-1) == torch.arange(n)).double()
        assert int(info.converged.sum()) > 5
        torch.testing.assert_close(S[info.converged], hard[info.converged], atol=0.1, rtol=0)

    def test_sums_of_the_lines(self) -> None:
        wide = sinkhorn(references.matrices((7, 3, 5)), n_iters=500)
        torch.testing.assert_close(wide.sum(-1), torch.ones(7, 3).double())
        assert bool((wide.sum(-2) < 1).all())
        tall = sinkhorn(references.matrices((7, 5, 3)), n_iters=3)
        torch.testing.assert_close(tall.sum(-2), torch.ones(7, 3).double())
        assert bool((sinkhorn(references.matrices((7, 5, 3)), n_iters=500).sum(-1) < 1).all())

    def test_the_longer_side_may_be_forbidden(self) -> None:
        x = references.matrices((2, 4))
        x[:, 1] = -torch.inf
        S = sinkhorn(x, n_iters=200)
        assert S[:, 1].tolist() == [0.0, 0.0]
        torch.testing.assert_close(S.sum(-1), torch.ones(2).double())
        torch.testing.assert_close(sinkhorn(x.mT, n_iters=200)[1], torch.zeros(2).double())

    def test_matmul_with_the_matching_of_a_square_is_as_before(self) -> None:
        x = references.matrices((5, 4, 4))
        S = sinkhorn(x, 0.01, 5000)
        assert bool(((S * permutation_matrix(matching(x), S.dtype)).sum((-2, -1)) > 3).all())


class TestSlack:
    @pytest.mark.parametrize(("m", "n"), [(3, 5), (5, 3), (4, 4)])
    @pytest.mark.parametrize("n_iters", [1, 10, 100])
    def test_is_superglue(self, m: int, n: int, n_iters: int) -> None:
        x, slack = references.matrices((3, m, n)), torch.tensor(0.7, dtype=torch.float64)
        wanted = references_shapes.superglue(x, slack, n_iters)
        torch.testing.assert_close(log_sinkhorn(x, n_iters=n_iters, slack=slack), wanted)

    def test_the_temperature_divides_it(self) -> None:
        x = references.matrices((3, 4))
        found = sinkhorn(x, 0.25, slack=0.3)
        torch.testing.assert_close(found, sinkhorn(4 * x, slack=1.2))

    def test_says_how_much_is_left_over(self) -> None:
        S = sinkhorn(references.matrices((3, 4)), n_iters=300, slack=0.2)
        torch.testing.assert_close(S[:3].sum(-1), torch.ones(3).double())
        torch.testing.assert_close(S[:, :4].sum(-2), torch.ones(4).double())
        torch.testing.assert_close(S[3].sum(), torch.tensor(4.0).double())

    def test_a_line_may_be_forbidden_altogether(self) -> None:
        x = references.matrices((3, 4))
        x[1], x[:, 2] = -torch.inf, -torch.inf
        S = sinkhorn(x, n_iters=300, slack=0.0)
        torch.testing.assert_close(S[1, 4], torch.tensor(1.0).double())
        torch.testing.assert_close(S[3, 2], torch.tensor(1.0).double())

    def test_batch_of_slacks_for_one_matrix(self) -> None:
        x, slack = references.matrices((3, 4)), torch.tensor([[0.1], [2.0]], dtype=torch.float64)
        found = sinkhorn(x, slack=slack)
        assert found.shape == (2, 1, 4, 5)
        torch.testing.assert_close(found[1, 0], sinkhorn(x, slack=2.0))


class TestSums:
    def test_numbers_mean_every_line(self) -> None:
        x = references.matrices((2, 6, 3))
        found = sinkhorn(x, row_sums=1, col_sums=2)
        ones, twos = torch.ones(6), torch.full((3,), 2.0)
        torch.testing.assert_close(found, sinkhorn(x, row_sums=ones, col_sums=twos))
        torch.testing.assert_close(found, sinkhorn(x, row_sums=1.0))
        torch.testing.assert_close(found, sinkhorn(x, col_sums=torch.tensor(2.0)))

    def test_all_ones_are_the_square(self) -> None:
        x = references.matrices((2, 3, 3))
        torch.testing.assert_close(sinkhorn(x, row_sums=1.0), sinkhorn(x))

    def test_the_rounding_of_the_dtype_is_allowed(self) -> None:
        for dtype in DTYPES:
            r = references.matrices((300,)).softmax(-1).to(dtype)
            sinkhorn(torch.zeros(300, 7, dtype=dtype), row_sums=r, col_sums=1 / 7)

    def test_what_does_not_count_is_not_read(self) -> None:
        x = references.matrices((3, 3))
        sums = torch.tensor([1.0, 1.0, torch.nan])
        found = sinkhorn(x, row_sums=sums, n_rows=2)
        torch.testing.assert_close(found[:2], sinkhorn(x[:2], row_sums=1.0))
        assert found[2].tolist() == [0.0, 0.0, 0.0]

    def test_one_matrix_with_many_sums(self) -> None:
        x = references.matrices((2, 3))
        found = sinkhorn(x, row_sums=torch.tensor([[1.0], [3.0]]))
        torch.testing.assert_close(found[1], sinkhorn(x, row_sums=3.0))


class TestRagged:
    def test_what_does_not_count_is_never_read(self) -> None:
        x, sizes = case("ragged")
        leaf = x.clone().requires_grad_()
        assert bool(x.isnan().any())
        for operator, nothing in ((sinkhorn, 0.0), (log_sinkhorn, -torch.inf)):
            out = operator(leaf, **sizes)
            assert bool((out[x.isnan()] == nothing).all())
            (grad,) = torch.autograd.grad(weighted(out), leaf)
            assert bool((grad[x.isnan()] == 0).all())
            assert bool(grad.isfinite().all())

    def test_sizes_of_one_matrix(self) -> None:
        x = references.matrices((4, 4))
        found = sinkhorn(x, n_cols=torch.tensor([1, 3, 4]))
        assert found.shape == (3, 4, 4)
        torch.testing.assert_close(found[1, :, :3], sinkhorn(x[:, :3]))

    def test_all_lines_count(self) -> None:
        x = references.matrices((3, 2, 4))
        found = sinkhorn(x, n_rows=torch.full((3,), 2), n_cols=4)
        torch.testing.assert_close(found, sinkhorn(x))


class TestStopping:
    @pytest.mark.parametrize("operator", OPERATORS)
    @pytest.mark.parametrize("name", GIVEN)
    @pytest.mark.parametrize("tol", [0.1, 1e-5])
    def test_each_matrix_stops_at_its_first_good_step(
        self, name: str, tol: float, operator: Any
    ) -> None:
        x, given = case(name)
        found, info = operator(3 * x, n_iters=40, tol=tol, return_info=True, **given)
        steps = range(1, 41)
        every = torch.stack(
            [sinkhorn(3 * x, n_iters=k, return_info=True, **given)[1].row_error for k in steps]
        )
        for b in range(len(x)):
            good = [k for k in steps if every[k - 1, b] < tol]
            assert int(info.n_iters[b]) == (good[0] if good else 40)
            assert bool(info.converged[b]) == bool(good)
            wanted = operator(3 * x, n_iters=int(info.n_iters[b]), **given)[b]
            torch.testing.assert_close(found[b], wanted)

    def test_the_error_of_a_wide_matrix(self) -> None:
        # The two lines left over count as one, whose wanted sum is 2.
        S, info = sinkhorn(references.matrices((2, 4)), n_iters=1, return_info=True)
        rows = [*S.sum(-1).tolist(), 4 - float(S.sum())]
        wanted = max(abs(rows[0] - 1), abs(rows[1] - 1), abs(rows[2] - 2))
        assert float(info.row_error) == pytest.approx(wanted)

    def test_the_error_of_slack(self) -> None:
        S, info = sinkhorn(references.matrices((2, 4)), n_iters=1, slack=0.3, return_info=True)
        wanted = (S.sum(-1) - torch.tensor([1.0, 1.0, 4.0])).abs().max()
        torch.testing.assert_close(info.row_error, wanted)

    def test_the_error_of_given_sums(self) -> None:
        x, given = case("sums")
        S, info = sinkhorn(x, n_iters=1, return_info=True, **given)
        torch.testing.assert_close(info.row_error, (S.sum(-1) - given["row_sums"]).abs().amax(-1))


@pytest.mark.parametrize("name", GIVEN)
@pytest.mark.parametrize("dtype", DTYPES)
def test_low_precision_is_only_rounding(name: str, dtype: torch.dtype) -> None:
    x, given = case(name)
    x = x.to(dtype)
    S = sinkhorn(x, 0.5, **given)
    assert S.dtype == dtype
    wanted = reference(sinkhorn, x, 0.5, **given)
    rounding = torch.finfo(dtype).eps * (1e2 if dtype == torch.float64 else 0.5)
    torch.testing.assert_close(S.double(), wanted, atol=2e-7, rtol=rounding)


@pytest.mark.parametrize("name", GIVEN)
@pytest.mark.parametrize("scale", [1e2, 1e4])
@pytest.mark.parametrize("tau", [1e-3, 1.0])
def test_large_scores_and_low_temperature(name: str, scale: float, tau: float) -> None:
    x, given, wanting = leaves(*case(name))
    logs = log_sinkhorn(scale * x, tau, **given)
    wanted = reference(log_sinkhorn, scale * x, tau, **given)
    torch.testing.assert_close(logs, wanted, atol=1e-9 * scale / tau, rtol=1e-9)
    grads = torch.autograd.grad(weighted(sinkhorn(scale * x, tau, **given)), wanting)
    assert all(bool(grad.isfinite().all()) for grad in grads)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(3, 8, 8), (40, 5, 7), (2, 30, 70)])
@pytest.mark.parametrize("spread", [8.0, 40.0])
def test_sums_of_very_different_size(
    spread: float, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    x = (30 * references.matrices(shape, seed=3)).to(dtype)
    r, c = (
        (spread / 2 * references.matrices((*shape[:-2], k), seed=k)).softmax(-1) for k in shape[-2:]
    )
    found, wanted = x.clone().requires_grad_(), x.double().requires_grad_()
    weights = references.matrices(shape, seed=9).to(dtype)
    log_S = log_sinkhorn(found, row_sums=r, col_sums=c)
    expected = references_shapes.log_any_shape(wanted, 1.0, 20, row_sums=r, col_sums=c)
    torch.testing.assert_close(log_S, expected.to(dtype))
    S = sinkhorn(x, row_sums=r, col_sums=c)
    torch.testing.assert_close(S.sum(-2).double(), c, rtol=1e-5, atol=1e-37)
    (dx,) = torch.autograd.grad((log_S * weights).sum(), found)
    (d_wanted,) = torch.autograd.grad((expected * weights).sum(), wanted)
    torch.testing.assert_close(dx, d_wanted.to(dtype), atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("size", [1e-12, 1e-30, 1e-42])
def test_tiny_sums(size: float) -> None:
    x = torch.tensor([[0.0, -100.0], [0.0, -60.0]])
    found = log_sinkhorn(x, row_sums=size, col_sums=size)
    wanted = references_shapes.log_any_shape(x, 1.0, 20, row_sums=size, col_sums=size)
    torch.testing.assert_close(found, wanted.float())


def test_tiny_sums_hide_no_wrong_score() -> None:
    x = torch.zeros(2, 2)
    x[0] = -torch.inf
    tiny = torch.tensor([1e-9, 1.0])
    with pytest.raises(ValueError, match="a row of -inf alone"):
        sinkhorn(x, row_sums=tiny, col_sums=tiny.sum() / 2)
    x[0, 0] = torch.nan
    with pytest.raises(ValueError, match="got NaN"):
        sinkhorn(x, row_sums=1e-25)
