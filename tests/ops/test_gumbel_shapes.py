"""Samples of any shape, against the operators on scores perturbed by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from softperm import (
    gumbel_matching,
    gumbel_sinkhorn,
    matching,
    permutation_indices,
    permutation_matrix,
    sample_gumbel,
    sinkhorn,
    straight_through,
)
from tests import references, references_shapes
from tests.ops.shape_cases import GIVEN, case

pytestmark = [  # PyTorch's own tracing does what PyTorch warns of
    pytest.mark.usefixtures("backend"),
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
]
PERMUTED = [name for name in GIVEN if "sums" not in name and name != "balanced"]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", GIVEN)
@pytest.mark.parametrize("grad", ["unrolled", "implicit"])
def test_is_sinkhorn_of_perturbed_scores(name: str, grad: Any) -> None:
    x, given = case(name)
    noise = sample_gumbel((5, *x.shape), dtype=torch.float64, generator=seeded())
    options = {"noise_scale": 0.3, "sample_shape": 5, "generator": seeded(), "grad": grad}
    found = gumbel_sinkhorn(x, 0.8, 9, **options, **given)
    torch.testing.assert_close(found, sinkhorn(x + 0.3 * noise, 0.8, 9, **given))


def test_batches_that_other_arguments_bring_have_their_own_noise() -> None:
    x = torch.zeros(3, 3)
    for given in ({"slack": torch.zeros(4)}, {"n_rows": torch.full((4,), 3)}):
        arguments: dict[str, Any] = given
        P = gumbel_sinkhorn(x, sample_shape=2, **arguments)
        assert P.shape[:2] == (2, 4)
        assert len(P.reshape(8, -1).unique(dim=0)) == 8
    perm = gumbel_matching(torch.zeros(9, 9), n_cols=torch.full((4,), 9), sample_shape=2)
    assert perm.shape == (2, 4, 9)
    assert len(perm.reshape(8, 9).unique(dim=0)) == 8


@pytest.mark.parametrize("given", [{}, {"unmatched": 0.3}, {"n_rows": torch.tensor([3, 1])}])
def test_is_matching_of_perturbed_scores(given: dict[str, Any]) -> None:
    x = references.matrices((2, 3, 5))
    noise = sample_gumbel((4, 2, 3, 5), dtype=torch.float64, generator=seeded())
    found = gumbel_matching(x, noise_scale=0.7, sample_shape=4, generator=seeded(), **given)
    assert torch.equal(found, matching(x + 0.7 * noise, **given))


class TestHard:
    @pytest.mark.parametrize("name", PERMUTED)
    @pytest.mark.parametrize("tau", [1e-4, 1.0, 100.0])
    def test_are_those_of_the_matching_at_any_temperature(self, name: str, tau: float) -> None:
        x, given = case(name)
        slack = given.get("slack")
        sizes = {key: given[key] for key in ("n_rows", "n_cols") if key in given}
        hard = gumbel_sinkhorn(x, tau, sample_shape=3, generator=seeded(), hard=True, **given)
        if isinstance(slack, Tensor):
            slack = slack.unsqueeze(-1)
        perm = gumbel_matching(x, sample_shape=3, generator=seeded(), unmatched=slack, **sizes)
        m, n = x.shape[-2:]
        wanted = permutation_matrix(perm, torch.float64, n)
        assert torch.equal(hard[..., :m, :n], wanted)

    @pytest.mark.parametrize("name", PERMUTED)
    def test_their_sums_are_those_of_soft_ones_and_so_are_gradients(self, name: str) -> None:
        x, given = case(name)
        leaf = x.nan_to_num().requires_grad_()
        draws = [
            gumbel_sinkhorn(leaf, 0.5, 3000, generator=seeded(), hard=hard, **given)
            for hard in (True, False)
        ]
        if "slack" in given:
            torch.testing.assert_close(draws[0].sum(-1), draws[1].sum(-1), atol=1e-4, rtol=0)
        if "slack" in given or (name == "tall" or name.startswith("square")):
            torch.testing.assert_close(draws[0].sum(-2), draws[1].sum(-2), atol=1e-4, rtol=0)
        weights = references.matrices(tuple(draws[0].shape), seed=4)
        grads = [torch.autograd.grad((P * weights).sum(), leaf)[0] for P in draws]
        torch.testing.assert_close(grads[0], grads[1])

    def test_slack_is_the_limit_of_low_temperature(self) -> None:
        x = references.matrices((30, 3, 4))
        hard = gumbel_sinkhorn(x, noise_scale=0.0, slack=0.4, hard=True)
        soft = sinkhorn(x, 0.02, 20_000, slack=0.4, tol=1e-2)
        near = (soft - hard).abs().amax((-2, -1)) < 0.3
        assert float(near.double().mean()) > 0.8  # the others are near a tie

    @pytest.mark.parametrize("given", [{"row_sums": 1.0}, {"col_sums": 1.0}])
    def test_no_permutation_has_other_sums(self, given: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match=r"hard needs .* not together with row_sums"):
            gumbel_sinkhorn(torch.zeros(2, 2), hard=True, **given)

    def test_vmap_and_compile(self) -> None:
        x = references.matrices((4, 3, 5))

        def function(x: Tensor) -> Tensor:
            return gumbel_sinkhorn(x, noise_scale=0.0, slack=0.1, hard=True)

        torch._dynamo.reset()
        assert torch.equal(torch.func.vmap(function)(x), function(x))
        compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
        assert torch.equal(compiled(x), function(x))
        torch._dynamo.reset()


class TestStraightThrough:
    @pytest.mark.parametrize(("m", "n"), [(2, 4), (4, 2), (1, 3), (0, 2)])
    def test_is_the_most_likely_partial_permutation(self, m: int, n: int) -> None:
        soft = sinkhorn(references.matrices((6, m, n)))
        for P, hard in zip(soft, straight_through(soft), strict=True):
            perm = permutation_indices(hard)
            found = references_shapes.total_score(P.log(), perm)
            assert found == pytest.approx(references_shapes.best_total(P.log()))

    def test_gradient_is_the_identity(self) -> None:
        soft = sinkhorn(references.matrices((2, 3))).requires_grad_()
        upstream = references.matrices((2, 3), seed=1)
        (grad,) = torch.autograd.grad(straight_through(soft), soft, upstream)
        assert torch.equal(grad, upstream)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"slack": "1"}, TypeError, "slack must be a float"),
        ({"slack": 0.0, "row_sums": 1.0}, ValueError, "give slack or row_sums, not both"),
        ({"n_rows": 3}, ValueError, r"n_rows must lie in 0..2"),
        ({"row_sums": 1.0, "col_sums": 2.0}, ValueError, "must have the same total"),
    ],
)
def test_errors(given: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        gumbel_sinkhorn(torch.zeros(2, 3), **given)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"unmatched": torch.nan}, ValueError, "unmatched must be finite"),
        ({"n_cols": -1}, ValueError, r"n_cols must lie in 0..3"),
    ],
)
def test_errors_of_matchings(given: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        gumbel_matching(torch.zeros(2, 3), **given)
