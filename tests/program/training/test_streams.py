"""One seed, separate streams: no purpose draws what another has drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from softperm.nn import SinkhornNet
from softperm.program.tasks.base import WHOLE, Examples, Part
from softperm.program.training.config import TrainConfig
from softperm.program.training.loop import train
from softperm.program.training.run import Run
from softperm.program.training.streams import stream_seed
from tests.program.training.test_loop import CONFIG, ToyTask

TESTS = 0  # the seed of the test puzzles of every run


class Spy(ToyTask):
    """Keeps the seeds of the generators it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.weights: list[int] = []
        self.noise: set[int] = set()

    def make_net(self) -> SinkhornNet:
        self.weights.append(torch.initial_seed())
        return super().make_net()

    def examples(
        self,
        stored: Tensor,
        generator: torch.Generator,
        part: Part = WHOLE,
        total: int | None = None,
    ) -> Examples:
        self.noise.add(generator.initial_seed())
        return super().examples(stored, generator, part, total)


def seeds_in_use(seed: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The seeds with which a run draws weights, the order of each epoch, and noise."""
    orders: list[int] = []
    original = torch.randperm

    def randperm(n: int, *, generator: torch.Generator) -> Tensor:
        orders.append(generator.initial_seed())
        return original(n, generator=generator)

    monkeypatch.setattr(torch, "randperm", randperm)
    task = Spy()
    train(task, TrainConfig(**{**vars(CONFIG), "seed": seed}), Run(folder))
    assert len(orders) == CONFIG.epochs
    assert len(task.noise) == 1
    return [task.weights[-1], *orders, *task.noise]


def test_no_two_purposes_share_a_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [seeds_in_use(seed, tmp_path / str(seed), monkeypatch) for seed in (0, 1, 2, 1_000_003)]
    used = [TESTS, *(number for numbers in runs for number in numbers)]
    assert len(set(used)) == len(used) == 1 + 4 * (2 + CONFIG.epochs)
    assert runs[0] == seeds_in_use(0, tmp_path / "again", monkeypatch)


def test_streams_are_those_of_a_seed_sequence() -> None:
    """Spawned children of the run's sequence, and children of the second of them."""
    weights, order, noise = np.random.SeedSequence(5).spawn(3)
    assert stream_seed(5, "weights") == weights.generate_state(1, np.uint64)[0]
    assert stream_seed(5, "noise") == noise.generate_state(1, np.uint64)[0]
    for epoch, child in enumerate(order.spawn(4)):
        assert stream_seed(5, "order", epoch) == child.generate_state(1, np.uint64)[0]


def test_the_largest_seed_trains(tmp_path: Path) -> None:
    config = TrainConfig(**{**vars(CONFIG), "seed": 2**64 - 1, "epochs": 1})
    assert train(ToyTask(), config, Run(tmp_path))
