"""The pictures of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from softperm.nn import SinkhornNet
from softperm.plotting import plot_puzzles
from softperm.program import report
from softperm.program.tasks import Jigsaw, JigsawConfig
from softperm.program.training.run import Run

CPU = torch.device("cpu")


class Oracle(SinkhornNet):
    """Solves the puzzles of the task, but for every `failing`-th."""

    def __init__(self, task: Jigsaw, failing: int) -> None:
        super().__init__()
        self.pieces = task.puzzle.normalise(task.puzzle.cut(task.images.test))
        self.failing, self.done = failing, 0

    def log_alpha(self, items: Tensor) -> Tensor:
        truth = self.pieces[self.done : self.done + len(items)]
        distances = torch.cdist(items.flatten(2), truth.flatten(2))
        for i in range(len(items)):
            if (self.done + i + 1) % self.failing == 0:
                distances[i] = distances[i].roll(1, -1)  # every piece one position too far
        self.done += len(items)
        return -distances


@pytest.fixture
def task() -> Jigsaw:
    return Jigsaw(JigsawConfig(data="digits", pieces=2))


@pytest.mark.parametrize(("failing", "shown"), [(100, 2), (10, 6), (1000, 0)])
def test_failures_are_the_first_ones(
    task: Jigsaw, failing: int, shown: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[dict[str, Tensor]] = []

    def keep(columns: dict[str, Tensor], k: int, wrong: list[int]) -> Any:
        assert k == 2
        assert wrong == [4] * shown
        drawn.append(columns)
        return plot_puzzles(columns, k, wrong)

    monkeypatch.setattr(report, "plot_puzzles", keep)
    (tmp_path / "failures.png").write_bytes(b"of a worse network")
    files = report.draw_failures(task, Oracle(task, failing).eval(), CPU, Run(tmp_path))
    assert files == ([tmp_path / "failures.png"] if shown else [])
    assert (tmp_path / "failures.png").exists() == bool(shown)
    assert all(path.stat().st_size > 1000 for path in files)
    for columns in drawn:
        originals = task.images.test[failing - 1 :: failing][:shown]
        assert torch.equal(columns["original"], originals)
        unlike = (columns["restored"].int() - originals.int()).abs()
        assert columns["difference"].flatten(1).amax(1).tolist() == [255] * shown
        assert torch.equal(
            columns["difference"] > 0, (unlike * 255 // unlike.amax((1, 2, 3), True)) > 0
        )
