"""The command end to end on tiny presets: cells are trained once, and resumed."""

from __future__ import annotations

import json
import os
import signal
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from safetensors.torch import load_file

from softperm.program import presets, report
from softperm.program.cli import main
from softperm.program.reproduce import runner
from softperm.program.reproduce.cells import Cell
from softperm.program.reproduce.runner import Result, settings
from softperm.program.tasks import Sorting
from softperm.program.training.run import Run

TINY = {
    "sorting/paper-5": "n_items: 5\ntrain_lists: 60\ntest_lists: 20\nepochs: 3\nbatch_size: 20\n",
    "sorting/relative-5": "n_items: 5\nnet: relative\ntrain_lists: 60\ntest_lists: 20\nepochs: 2\n",
    "jigsaw/paper-2x2": "data: digits\npieces: 2\nkernel_size: 3\nepochs: 1\nbatch_size: 256\n",
}
STEPS = 9  # of paper-5


@pytest.fixture(autouse=True)
def _tiny_presets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in TINY.items():
        path = tmp_path / "presets" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(presets, "_PRESETS", tmp_path / "presets")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _pictures_are_not_painted(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are written as ever, but empty: painting would take most of the time."""
    for name in ("plot_curves", "plot_puzzles", "plot_temperatures"):
        monkeypatch.setattr(report, name, lambda *_: Figure(figsize=(1, 1)))


def reproduce(*arguments: str) -> int:
    return main(["reproduce", *arguments, "--device", "cpu"])


SORT = ("sorting", "--n", "5", "--net", "paper", "--out", "out")


class Steps:
    """Counts the training steps, and breaks off in one of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done = 0
        self.stop_at: int | None = None
        self.crash = False
        original = Sorting.loss

        def loss(task: Sorting, *arguments: Any) -> torch.Tensor:
            self.done += 1
            if self.done == self.stop_at and self.crash:
                raise RuntimeError("killed")
            if self.done == self.stop_at:
                os.kill(os.getpid(), signal.SIGINT)
            return original(task, *arguments)

        monkeypatch.setattr(Sorting, "loss", loss)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    return Steps(monkeypatch)


def test_both_nets(capsys: pytest.CaptureFixture[str]) -> None:
    assert reproduce("sorting", "--n", "5", "--out", "out", "--seeds", "0", "1") == 0
    out = Path("out")
    names = {f"{net}-n5-seed{seed}" for net in ("paper", "ours") for seed in (0, 1)}
    assert {path.name for path in out.iterdir()} == names | {"table.md", "table.png"}
    for name in names:
        files = {path.name for path in (out / name).iterdir()}
        assert files >= {"config.yaml", "metrics.csv", "model.safetensors", "result.json"}
    result = Result.read(out / "ours-n5-seed1")
    assert result.cell == Cell("sorting", "ours", 5, 1)
    assert len(result.metrics) == 7
    assert set(result.metrics["U(100, 101)"]) == {
        "kendall_tau",
        "prop_wrong",
        "prop_any_wrong",
        "l1",
        "l2",
    }
    row = Run(out / "ours-n5-seed1").read_metrics()[-1]
    assert result.metrics["U(0, 1)"]["kendall_tau"] == pytest.approx(row["kendall_tau"])
    printed = capsys.readouterr().out
    assert "our net" in printed
    assert "second-hand and are approximate" in printed
    assert "wrote out/table.png" in printed


def test_jigsaw_with_quick_and_docs() -> None:
    Path("docs.md").write_text("<!-- reproduce jigsaw -->\n<!-- end of reproduce jigsaw -->\n")
    options = ("--pieces", "2", "--net", "paper", "--data", "digits", "--quick")
    assert reproduce("jigsaw", *options, "--docs", "docs.md") == 0
    folder = Path("runs/reproduce-quick/jigsaw")
    result = Result.read(folder / "paper-2x2-seed0")
    assert (result.data, result.epochs) == ("digits", 1)
    for name in ("kendall_tau", "prop_any_wrong_up_to_identical", "exact_reconstruction", "l2"):
        assert f"{result.metrics['test'][name]:.4f}" in (folder / "table.md").read_text()
    assert "| 2x2 | the paper's net |" in Path("docs.md").read_text()


def test_finished_cells_are_kept(steps: Steps, capsys: pytest.CaptureFixture[str]) -> None:
    assert reproduce(*SORT) == 0
    assert steps.done == STEPS
    before = Path("out/paper-n5-seed0/result.json").read_bytes()
    Path("out/table.md").unlink()
    assert reproduce(*SORT) == 0
    assert steps.done == STEPS
    assert Path("out/paper-n5-seed0/result.json").read_bytes() == before
    assert "paper-n5-seed0: kept" in capsys.readouterr().out
    assert Path("out/table.md").exists()


def test_the_table_has_the_cells_of_earlier_calls() -> None:
    assert reproduce(*SORT) == 0
    assert reproduce("sorting", "--n", "5", "--net", "ours", "--out", "out") == 0
    text = Path("out/table.md").read_text()
    assert "the paper's net trained" in text
    assert "our net trained" in text


@pytest.mark.parametrize("crash", [False, True])
def test_an_interrupted_cell_goes_on(
    steps: Steps, crash: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = (*SORT[:-1], "whole")
    assert reproduce(*whole) == 0
    steps.done, steps.stop_at, steps.crash = 0, 5, crash  # in the second epoch of three
    if crash:
        assert reproduce(*SORT) == 70
        assert "unexpected RuntimeError: killed" in capsys.readouterr().err
    else:
        assert reproduce(*SORT) == 130
        assert "stopped; the same command goes on" in capsys.readouterr().out
    assert not Path("out/paper-n5-seed0/result.json").exists()
    steps.done, steps.stop_at = 0, None
    assert reproduce(*SORT) == 0
    assert steps.done == (STEPS - 3 if crash else STEPS - 5)  # a crash loses its epoch
    mine, theirs = (
        load_file(f"{out}/paper-n5-seed0/model.safetensors") for out in ("out", "whole")
    )
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


def test_a_trained_cell_without_result_is_only_measured(steps: Steps) -> None:
    assert reproduce(*SORT) == 0
    result = Path("out/paper-n5-seed0/result.json")
    before = json.loads(result.read_text())
    result.unlink()
    assert reproduce(*SORT) == 0
    assert steps.done == STEPS
    assert json.loads(result.read_text()) == before


def test_other_settings_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert reproduce(*SORT) == 0
    assert reproduce(*SORT, "--quick") == 1
    assert "epochs was 3 in out/paper-n5-seed0, got 1" in capsys.readouterr().err


def test_a_missing_preset_is_told_before_anything_is_trained(
    steps: Steps, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reproduce("sorting", "--n", "5", "10", "--out", "out") == 1
    error = capsys.readouterr().err
    assert "preset must be one of paper-5, relative-5 for sorting, got paper-10" in error
    assert steps.done == 0
    assert not Path("out").exists()


def test_unknown_settings_of_a_preset(tmp_path: Path) -> None:
    (tmp_path / "presets/sorting/paper-5.yaml").write_text("n_items: 5\nfly: 1\n")
    with pytest.raises(ValueError, match=r"paper-5\.yaml must hold settings of sorting, got fly"):
        settings(Cell("sorting", "paper", 5, 0), {})


def test_quick_only_shortens() -> None:
    cell = Cell("sorting", "ours", 5, 3)
    task_config, config = settings(cell, {"train_lists": 5000, "lr": 0.5}, quick=True)
    assert (task_config.train_lists, task_config.test_lists) == (1000, 20)  # type: ignore[union-attr]
    assert (config.epochs, config.lr, config.seed) == (1, 0.5, 3)


def test_a_damaged_result_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert reproduce(*SORT) == 0
    Path("out/paper-n5-seed0/result.json").write_text("{}")
    assert reproduce(*SORT) == 1
    assert "out/paper-n5-seed0/result.json is not the result of a cell" in capsys.readouterr().err


def test_nothing_is_reported_for_a_cell_that_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("no room left")

    monkeypatch.setattr(runner, "train", fail)
    assert reproduce(*SORT) == 1
    captured = capsys.readouterr()
    assert "no room left" in captured.err
    assert "paper-n5-seed0" not in captured.out


def test_a_cell_goes_on_with_as_many_images_as_it_began_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("pictures").mkdir()
    for number in range(12):
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(f"pictures/{number}.png")
    again = ["reproduce", "jigsaw", "--pieces", "2", "--net", "paper", "--device", "cpu"]
    again += ["--data", "pictures", "--out", "out"]
    assert main(again) == 0
    cell = Path("out/paper-2x2-seed0")
    (cell / "result.json").unlink()  # as where the call was killed before it measured
    path = cell / "model.json"
    model = json.loads(path.read_text())
    path.write_text(json.dumps({**model, "n_train": model["n_train"] + 1}))
    capsys.readouterr()
    assert main(again) == 1
    error = capsys.readouterr().err
    assert "paper-2x2-seed0 began with other data: there were" in error
    assert error.count("\n") == 1
    assert not (cell / "result.json").exists()
