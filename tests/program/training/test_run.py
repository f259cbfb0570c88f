"""The run folder and the files in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from softperm._files import replacing, write_text
from softperm.nn import SinkhornSortNet
from softperm.program.tasks import Sorting, SortingConfig
from softperm.program.training.config import TrainConfig
from softperm.program.training.run import Run
from tests.program.support import busy_when_renamed


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = Run(tmp_path / "run")
    config = SortingConfig(n_items=3, test_lists=10)
    with run.create("sorting", Sorting(config), config, TrainConfig()):
        pass
    return run


def test_the_folder_appears_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    busy = busy_when_renamed(monkeypatch)
    run = Run(tmp_path / "run")
    config = SortingConfig(n_items=3, test_lists=10)
    with run.create("sorting", Sorting(config), config, TrainConfig()):
        assert busy[run.folder]


def test_task_comes_back_from_its_folder(run: Run) -> None:
    task = run.load_task()
    assert isinstance(task, Sorting)
    assert task.config == SortingConfig(n_items=3, test_lists=10)


def test_weights_come_back(run: Run) -> None:
    net = SinkhornSortNet(3)
    run.save_weights(net)
    other = SinkhornSortNet(3)
    run.load_weights(other)
    items = torch.rand(5, 3)
    assert torch.equal(net.log_alpha(items), other.log_alpha(items))


def test_metrics_come_back(run: Run) -> None:
    assert run.read_metrics() == []
    rows = [{"epoch": 1.0, "loss": 0.1}, {"epoch": 2.0, "loss": 1 / 3}]
    run.write_metrics(rows)
    assert run.read_metrics() == rows


def test_other_settings_are_named(run: Run) -> None:
    run.require_settings({"n_items": 3, "epochs": 5})
    with pytest.raises(ValueError, match=r"n_items was 3 in .*run, got 4"):
        run.require_settings({"epochs": 5, "n_items": 4})


def test_missing_and_foreign_files_are_named(tmp_path: Path, run: Run) -> None:
    with pytest.raises(ValueError, match=r"holds no run: cannot read model\.json"):
        Run(tmp_path / "nothing").describe()
    with pytest.raises(ValueError, match=r"has no trained weights: model\.safetensors"):
        run.load_weights(SinkhornSortNet(3))
    run.save_weights(SinkhornSortNet(4))
    with pytest.raises(ValueError, match="does not fit its run"):
        run.load_weights(SinkhornSortNet(3))
    run.weights_file.write_bytes(b"junk")
    with pytest.raises(ValueError, match="does not fit its run"):
        run.load_weights(SinkhornSortNet(3))
    run.config_file.write_text("- a list", encoding="utf-8")
    with pytest.raises(ValueError, match=r"cannot read config\.yaml"):
        run.load_task()
    run.model_file.write_text(json.dumps({"task": "jigsaw"}), encoding="utf-8")
    with pytest.raises(ValueError, match=r"cannot read model\.json"):
        run.describe()


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_text(path, "old")

    def fail() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half of the n", encoding="utf-8")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text(encoding="utf-8") == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file.txt"]
