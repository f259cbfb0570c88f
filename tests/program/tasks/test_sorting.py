"""The sorting task: metrics against NumPy, and a net that learns to sort."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from softperm.nn import RelativeSortNet, SinkhornNet, SinkhornSortNet
from softperm.program.tasks import Sorting, SortingConfig
from softperm.program.tasks.base import Part
from softperm.program.training.config import TrainConfig
from softperm.program.training.loop import train
from softperm.program.training.run import Run

CPU = torch.device("cpu")


class Ranks(SinkhornNet):
    """Sorts numbers of [0, 1) by rounding them to positions, which is wrong now and then."""

    def log_alpha(self, items: Tensor) -> Tensor:
        n = items.shape[-1]
        return -(items.unsqueeze(-1) * n - torch.arange(n) - 0.5).square()


def test_metrics_against_numpy() -> None:
    task = Sorting(SortingConfig(n_items=4, test_lists=50))
    net = Ranks().eval()
    metrics = task.evaluate(net, CPU)
    ordered = net(task.test_lists())[0].numpy()
    truth = np.sort(task.test_lists().numpy())
    wrong = ordered != truth
    assert metrics["prop_wrong"] == pytest.approx(wrong.mean(), abs=1e-6)
    assert metrics["prop_any_wrong"] == pytest.approx(wrong.any(-1).mean(), abs=1e-6)
    assert metrics["l1"] == pytest.approx(np.abs(ordered - truth).sum(-1).mean(), abs=1e-6)
    assert metrics["l2"] == pytest.approx(np.linalg.norm(ordered - truth, axis=-1).mean(), abs=1e-6)
    assert metrics["kendall_tau"] == 1.0  # sorted by a monotone score: the order is right


class Exact(SinkhornNet):
    """Gives the largest score to the largest number at the last position."""

    def __init__(self) -> None:
        super().__init__()
        self.places = torch.nn.Parameter(torch.arange(6.0))

    def log_alpha(self, items: Tensor) -> Tensor:
        return (items - items.amin(-1, keepdim=True)).unsqueeze(-1) * self.places


def test_evaluates_in_float64_and_leaves_the_net() -> None:
    """In float32 a list on (10000, 10001) has steps of 1 in 1000, and numbers that are equal."""
    task = Sorting(SortingConfig(n_items=6, test_lists=300))
    net = Exact().train()
    metrics = task.evaluate(net, CPU, (10_000.0, 10_001.0))
    assert metrics["prop_any_wrong"] == 0.0
    lists = task.test_lists((10_000.0, 10_001.0))
    assert lists.dtype == torch.float64
    assert bool((lists.sort().values.diff() > 0).all())
    assert bool((lists.float().sort().values.diff() == 0).any())
    assert net.training
    assert net.places.dtype == torch.float32


def test_equal_numbers_are_interchangeable(monkeypatch: pytest.MonkeyPatch) -> None:
    task = Sorting(SortingConfig(n_items=4, test_lists=2))
    lists = torch.tensor([[1.0, 0.0, 1.0, 0.0], [2.0, 2.0, 2.0, 1.0]], dtype=torch.float64)
    monkeypatch.setattr(Sorting, "test_lists", lambda self, interval: lists)

    class Fixed(SinkhornNet):
        def log_alpha(self, items: Tensor) -> Tensor:
            right = torch.tensor([[3, 1, 2, 0], [1, 3, 0, 2]])[: len(items)]
            return torch.nn.functional.one_hot(right, 4).double()

    metrics = task.evaluate(Fixed(), CPU)
    assert metrics["prop_wrong"] == pytest.approx((0 + 2 / 4) / 2)
    assert metrics["prop_any_wrong"] == 0.5
    assert metrics["kendall_tau"] == pytest.approx((1 + (1 - 4 * 2 / 12)) / 2)
    assert metrics["l1"] == pytest.approx((0 + 2) / 2)


def test_batches_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    task, net = Sorting(SortingConfig(n_items=4, test_lists=50)), Ranks()
    whole = task.evaluate(net, CPU)
    monkeypatch.setattr("softperm.program.tasks.sorting._EVALUATION_ENTRIES", 100)
    assert task.evaluate(net, CPU) == pytest.approx(whole, abs=1e-12)


def test_net_is_chosen_by_name() -> None:
    for name, kind in (("paper", SinkhornSortNet), ("relative", RelativeSortNet)):
        net = Sorting(SortingConfig(net=name, tau=0.5, n_iters=3)).make_net()  # type: ignore[arg-type]
        assert type(net) is kind
        assert (net.tau, net.n_iters) == (0.5, 3)


def test_test_lists_come_from_their_own_interval() -> None:
    lists = Sorting(SortingConfig(test_low=10.0, test_high=11.0)).test_lists()
    assert 10 <= lists.min() < lists.max() < 11


def test_learns_to_sort_three_numbers(tmp_path: Path) -> None:
    task = Sorting(SortingConfig(n_items=3, train_lists=3000, test_lists=500))
    config = TrainConfig(epochs=2, batch_size=10, lr=0.03, schedule="one_cycle", device="cpu")
    metrics = train(task, config, Run(tmp_path))
    assert metrics["prop_any_wrong"] < 0.1  # 5 in 6 before training


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"n_items": 0}, "n_items"),
        ({"low": 1.0, "high": 1.0}, "low"),
        ({"test_low": 2.0}, "test_low"),
        ({"train_lists": 0}, "train_lists"),
        ({"test_lists": 0}, "test_lists"),
        ({"net": "pointer"}, "net"),
        ({"hidden_features": 0}, "hidden_features"),
        ({"tau": -1.0}, "tau"),
        ({"n_iters": 0}, "n_iters"),
        ({"noise_scale": -1.0}, "noise_scale"),
        ({"n_samples": 0}, "n_samples"),
    ],
)
def test_bad_settings_are_named(settings: dict[str, float], name: str) -> None:
    with pytest.raises(ValueError, match=name):
        SortingConfig(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [2, 3, 7])
def test_parts_of_a_step_are_the_step(size: int) -> None:
    task = Sorting(SortingConfig(n_items=4, n_samples=3))
    net, indices = task.make_net(), torch.arange(5)
    whole = task.examples(indices, torch.Generator().manual_seed(0))
    parts = [
        task.examples(part.of(indices), torch.Generator().manual_seed(0), part, len(indices))
        for part in (Part(rank, size) for rank in range(size))
    ]
    assert torch.equal(torch.cat([part.items for part in parts]), whole.items)
    assert torch.equal(torch.cat([part.targets for part in parts]), whole.targets)
    losses = torch.stack([task.loss(net, part) for part in parts])  # some parts are empty
    torch.testing.assert_close(losses.sum(), task.loss(net, whole))


@pytest.mark.parametrize("lists", [1, 50])
def test_parts_of_the_metrics_add_up(lists: int) -> None:
    task, net = Sorting(SortingConfig(n_items=4, test_lists=lists)), Ranks()
    whole = task.evaluate(net, CPU)
    parts = [task.evaluate(net, CPU, part=Part(rank, 3)) for rank in range(3)]
    assert {k: sum(part.get(k, 0.0) for part in parts) for k in whole} == pytest.approx(whole)
