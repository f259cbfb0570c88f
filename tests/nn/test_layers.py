"""The operators as modules, against the operators."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from torch.nn.utils import parametrize

from softperm import gumbel_sinkhorn, matching, permutation_matrix, sinkhorn
from softperm.nn import DoublyStochastic, GumbelSinkhorn, Sinkhorn
from tests import references
from tests.ops.shape_cases import GIVEN, case


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def split(given: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a module is told once, and what it is told with every batch."""
    sizes = {key: value for key, value in given.items() if key in ("n_rows", "n_cols")}
    return {key: value for key, value in given.items() if key not in sizes}, sizes


@pytest.mark.parametrize("name", GIVEN)
class TestEveryShape:
    def test_sinkhorn(self, name: str) -> None:
        x, given = case(name)
        once, sizes = split(given)
        module = Sinkhorn(0.7, 9, **once)
        torch.testing.assert_close(module(x, **sizes), sinkhorn(x, 0.7, 9, **given))
        module.tau = 0.3
        torch.testing.assert_close(module(x, **sizes), sinkhorn(x, 0.3, 9, **given))

    def test_gumbel_sinkhorn(self, name: str) -> None:
        x, given = case(name)
        once, sizes = split(given)
        module = GumbelSinkhorn(0.7, 9, noise_scale=0.4, **once)
        found = module(x, sample_shape=3, generator=seeded(), **sizes)
        wanted = gumbel_sinkhorn(
            x, 0.7, 9, noise_scale=0.4, sample_shape=3, generator=seeded(), **given
        )
        torch.testing.assert_close(found, wanted)
        torch.testing.assert_close(module.eval()(x, **sizes), sinkhorn(x, 0.7, 9, **given))


class TestModes:
    X = references.matrices((2, 3, 4))

    def test_hard_in_evaluation(self) -> None:
        wanted = permutation_matrix(matching(self.X), torch.float64, 4)
        for module in (Sinkhorn(hard=True), GumbelSinkhorn(hard_in_eval=True)):
            assert not torch.equal(module(self.X), wanted)
            assert torch.equal(module.eval()(self.X), wanted)
        always = GumbelSinkhorn(hard=True)
        samples = gumbel_sinkhorn(self.X, hard=True, generator=seeded())
        assert torch.equal(always(self.X, generator=seeded()), samples)
        assert torch.equal(always.eval()(self.X), wanted)

    def test_options_reach_the_operator(self) -> None:
        slow = {"tau": 0.1, "n_iters": 2, "tol": 1e-9, "grad": "implicit"}
        for module in (Sinkhorn(**slow), GumbelSinkhorn(**slow)):  # type: ignore[arg-type]
            with pytest.raises(RuntimeError, match="which is not reached"):
                module(self.X.clone().requires_grad_())
        with pytest.raises(ValueError, match="backend must be one of"):
            Sinkhorn(backend="fortran")(self.X)  # type: ignore[arg-type]


class TestState:
    def test_slack_is_learnt(self) -> None:
        slack = torch.nn.Parameter(torch.tensor(0.0))
        module = Sinkhorn(slack=slack)
        optimizer = torch.optim.SGD(module.parameters(), 1.0)
        assert len(list(module.parameters())) == 1
        module(torch.zeros(3, 4))[:3, 4].sum().backward()
        optimizer.step()
        assert float(slack.detach()) < 0  # less is left unmatched

    def test_tensors_move_with_the_module(self) -> None:
        module = Sinkhorn(tau=torch.tensor(0.5), col_sums=torch.tensor([1.0, 2.0]), row_sums=1.0)
        assert set(module.state_dict()) == {"tau", "col_sums"}
        assert module.to(torch.float64).col_sums.dtype == torch.float64
        file = io.BytesIO()
        torch.save(module.state_dict(), file)
        file.seek(0)
        other = Sinkhorn(tau=torch.tensor(9.0), col_sums=torch.ones(2), row_sums=1.0)
        other.load_state_dict(torch.load(file))
        x = references.matrices((3, 2))
        torch.testing.assert_close(other(x), module(x), atol=1e-6, rtol=0)
        torch.testing.assert_close(copy.deepcopy(module)(x), module(x))

    def test_what_is_printed(self) -> None:
        assert repr(Sinkhorn()) == "Sinkhorn(tau=1.0, n_iters=20)"
        shown = repr(GumbelSinkhorn(0.5, tol=1e-3, slack=0.0))
        assert shown == "GumbelSinkhorn(tau=0.5, n_iters=20, slack=0.0, tol=0.001)"


@pytest.mark.parametrize("module", [Sinkhorn, GumbelSinkhorn])
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"tau": 0.0}, ValueError, "tau must be positive"),
        ({"n_iters": 0}, ValueError, "n_iters must be at least 1"),
        ({"tol": -1.0}, ValueError, "tol must be positive"),
        ({"grad": "explicit"}, ValueError, "grad must be one of"),
    ],
)
def test_errors(
    module: Any, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        module(**arguments)


class TestDoublyStochastic:
    def test_a_weight_stays_doubly_stochastic(self) -> None:
        layer = torch.nn.Linear(4, 4, bias=False, dtype=torch.float64)
        parametrize.register_parametrization(layer, "weight", DoublyStochastic(n_iters=200))
        optimizer = torch.optim.SGD(layer.parameters(), 0.5)
        x, target = references.matrices((8, 4)), references.matrices((8, 4), seed=1)
        losses = []
        for _ in range(20):
            optimizer.zero_grad()
            loss = (layer(x) - target).square().mean()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
            ones = torch.ones(4, dtype=torch.float64)
            torch.testing.assert_close(layer.weight.sum(0), ones)
            torch.testing.assert_close(layer.weight.sum(1), ones, atol=1e-6, rtol=0)
        assert losses[-1] < losses[0]

    @pytest.mark.parametrize("tau", [0.5, 1.0])
    def test_assigned_weights_come_back(self, tau: float) -> None:
        layer = torch.nn.Linear(3, 3, bias=False, dtype=torch.float64)
        parametrize.register_parametrization(layer, "weight", DoublyStochastic(tau))
        wanted = sinkhorn(references.matrices((3, 3)), n_iters=500)
        layer.weight = wanted
        torch.testing.assert_close(layer.weight, wanted)
        layer.weight = torch.eye(3, dtype=torch.float64)
        torch.testing.assert_close(layer.weight, torch.eye(3, dtype=torch.float64))

    def test_scores_are_taken_as_such(self) -> None:
        X = references.matrices((3, 3))
        assert torch.equal(DoublyStochastic().right_inverse(X), X)
        torch.testing.assert_close(DoublyStochastic(0.5, 7)(X), sinkhorn(X, 0.5, 7))

    def test_errors(self) -> None:
        with pytest.raises(ValueError, match="tau must be positive"):
            DoublyStochastic(0.0)
        with pytest.raises(ValueError, match="n_iters must be at least 1"):
            DoublyStochastic(1.0, 0)
