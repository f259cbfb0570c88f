"""The sorting task: metrics against NumPy, and a net that learns to sort."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from softperm.nn import SinkhornNet
from softperm.tasks import Sorting, SortingConfig
from softperm.training.config import TrainConfig
from softperm.training.loop import train
from softperm.training.run import Run

CPU = torch.device("cpu")


class Ranks(SinkhornNet):
    """Sorts numbers of [0, 1) by rounding them to positions, which is wrong now and then."""

    def log_alpha(self, items: Tensor) -> Tensor:
        n = items.shape[-1]
        return -(items.unsqueeze(-1) * n - torch.arange(n) - 0.5).square()


def test_metrics_against_numpy() -> None:
    task = Sorting(SortingConfig(n_items=4, test_lists=50))
    net = Ranks()
    metrics = task.evaluate(net, CPU)
    ordered = net(task.test_lists())[0].double().numpy()
    truth = np.sort(task.test_lists().double().numpy())
    wrong = ordered != truth
    assert metrics["prop_wrong"] == pytest.approx(wrong.mean(), abs=1e-6)
    assert metrics["prop_any_wrong"] == pytest.approx(wrong.any(-1).mean(), abs=1e-6)
    assert metrics["l1"] == pytest.approx(np.abs(ordered - truth).sum(-1).mean(), abs=1e-6)
    assert metrics["l2"] == pytest.approx(np.linalg.norm(ordered - truth, axis=-1).mean(), abs=1e-6)
    assert metrics["kendall_tau"] == 1.0  # sorted by a monotone score: the order is right


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
