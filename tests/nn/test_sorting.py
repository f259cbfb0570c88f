"""The sorting network, against a plain evaluation number by number."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from softperm import matching
from softperm.nn import SinkhornSortNet


def test_parameters() -> None:
    net = SinkhornSortNet(5)
    # One number to 32 units, and those to 5 logits, both with a bias.
    assert sum(p.numel() for p in net.parameters()) == 32 * 2 + 5 * 33
    assert (net.tau, net.n_iters, net.noise_scale) == (1.0, 10, 1.0)


def test_equals_number_by_number() -> None:
    net = SinkhornSortNet(6, 7)
    first, second = (m for m in net.modules() if isinstance(m, nn.Linear))
    numbers = torch.randn(3, 6)
    for row, log_alpha in zip(numbers, net.log_alpha(numbers), strict=True):
        for x, found in zip(row, log_alpha, strict=True):
            hidden = (first.weight[:, 0] * x + first.bias).clamp_min(0)
            torch.testing.assert_close(found, second.weight @ hidden + second.bias)


@pytest.mark.parametrize("batch", [(), (3,), (2, 3), (0,)])
def test_shapes_in_training_and_evaluation(batch: tuple[int, ...]) -> None:
    net = SinkhornSortNet(5)
    numbers = torch.rand(*batch, 5)
    ordered, P = net(numbers)
    assert (ordered.shape, P.shape) == (numbers.shape, (*batch, 5, 5))
    ordered, P = net(numbers, sample_shape=(2,))
    assert (ordered.shape, P.shape) == ((2, *batch, 5), (2, *batch, 5, 5))
    ordered, perm = net.eval()(numbers)
    assert torch.equal(perm, matching(net.log_alpha(numbers)))
    assert torch.equal(ordered.sort().values, numbers.sort().values)


def test_permuting_the_numbers_permutes_the_rows() -> None:
    net, order = SinkhornSortNet(7), torch.randperm(7)
    numbers = torch.rand(3, 7)
    torch.testing.assert_close(net.log_alpha(numbers[:, order]), net.log_alpha(numbers)[:, order])


def test_learns_to_sort() -> None:
    torch.manual_seed(0)
    net = SinkhornSortNet(3)
    optimiser = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(200):
        numbers = torch.rand(32, 3)
        loss = (net(numbers, sample_shape=2)[0] - numbers.sort().values).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    numbers = torch.rand(200, 3)
    right = net.eval()(numbers)[0] == numbers.sort().values
    assert float(right.all(-1).float().mean()) > 0.85


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"n_items": 0}, ValueError, "n_items must be at least 1, got 0"),
        ({"n_items": 2.0}, TypeError, "n_items must be an int, got float"),
        ({"hidden_features": 0}, ValueError, "hidden_features must be at least 1, got 0"),
        ({"tau": 0.0}, ValueError, "tau must be positive"),
        ({"n_iters": 0}, ValueError, "n_iters must be at least 1"),
    ],
)
def test_errors(changes: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        SinkhornSortNet(**({"n_items": 3} | changes))


@pytest.mark.parametrize("shape", [(), (4,), (3, 4)])
def test_lists_of_another_length(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"items must have shape \(\*, 3\), got \("):
        SinkhornSortNet(3)(torch.rand(shape))
