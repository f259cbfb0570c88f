"""From a finished run to a network that the program finds by name."""

from __future__ import annotations

import re
import runpy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from softperm.nn import load_pretrained
from softperm.program.cli import main
from softperm.program.reproduce.cells import Cell
from softperm.program.reproduce.runner import Result
from softperm.program.tasks import Jigsaw, JigsawConfig, Sorting, SortingConfig
from softperm.program.training.config import TrainConfig
from softperm.program.training.run import Run

CPU = torch.device("cpu")
SCRIPT = Path(__file__).parents[1] / "scripts" / "export_pretrained.py"
export: Callable[[Run, Path], Path] = runpy.run_path(str(SCRIPT))["export"]


def finished(folder: Path, seed: int = 0) -> tuple[Run, Jigsaw, dict[str, float]]:
    """A run that somebody might have trained, with what it measured."""
    config = JigsawConfig("digits", 2, net="transformer", features=16, layers=1, gamma=0.5)
    run, task = Run(folder), Jigsaw(config)
    with run.create("jigsaw", task, config, TrainConfig(seed=7)):
        pass
    torch.manual_seed(seed)
    net = task.make_net()
    run.save_weights(net)
    metrics = task.evaluate(net, CPU)
    cell = Cell("jigsaw", "ours", 2, 7)
    Result(cell, "digits", 3, 12.4, {"test": metrics}).write(folder)
    return run, task, metrics


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Jigsaw, dict[str, float]]:
    return finished(tmp_path_factory.mktemp("runs") / "ours-2x2-seed7")


@pytest.fixture
def shelf(
    source: tuple[Run, Jigsaw, dict[str, float]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A folder of pretrained networks that holds the run, in place of the package's."""
    assert export(source[0], tmp_path / "shelf") == tmp_path / "shelf" / "digits-2x2"
    monkeypatch.setattr("softperm._pretrained._FOLDER", tmp_path / "shelf")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "shelf"


def test_shipped_weights_are_half_as_large_and_give_the_same_permutations(
    source: tuple[Run, Jigsaw, dict[str, float]], shelf: Path
) -> None:
    run, task, _ = source
    halves = load_file(shelf / "digits-2x2" / "model.safetensors")
    for name, weights in load_file(run.weights_file).items():
        assert halves[name].dtype == torch.float16
        torch.testing.assert_close(halves[name].float(), weights, atol=1e-4, rtol=1e-3)
    trained = task.make_net()
    run.load_weights(trained)
    net = load_pretrained("digits-2x2")
    assert net.puzzle == task.puzzle
    different = 0
    for _, scrambled, _, perm in task.solved(trained, CPU):
        different += int((net(scrambled)[1] != perm).any(1).sum())
    assert different <= 1
    card = (shelf / "digits-2x2" / "README.md").read_text()
    assert f"another permutation for {different} of the images" in card


def test_the_card_tells_where_the_weights_come_from(
    source: tuple[Run, Jigsaw, dict[str, float]], shelf: Path
) -> None:
    card = (shelf / "digits-2x2" / "README.md").read_text()
    rows = dict(re.findall(r"^\| (\w+) \| (.*) \|$", card, re.M))
    assert rows["seed"] == "7"
    assert rows["epochs"] == "3"
    assert rows["training"] == "12 seconds"
    assert "1,500 training images" in rows["data"]
    for name, value in source[2].items():
        halves, floats = map(float, rows[name].split(" | "))
        assert floats == pytest.approx(value, abs=6e-5)
        assert halves == pytest.approx(value, abs=0.02 if name == "l1" else 0.004)
    kept = Run(shelf / "digits-2x2")
    assert kept.config_file.read_text() == source[0].config_file.read_text()


def test_solve_and_evaluate_by_name(shelf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.linear_gradient("L").resize((8, 8)).save("seven.png")
    before = sorted(shelf.rglob("*"))
    assert main(["solve", "digits-2x2", "seven.png", "--device", "cpu"]) == 0
    assert Path("runs/pretrained/digits-2x2/solved/seven-restored.png").is_file()
    assert main(["solve", "digits-2x2", "seven.png", "--out", "here", "--device", "cpu"]) == 0
    assert Path("here/seven.png").is_file()
    assert main(["evaluate", "digits-2x2", "--device", "cpu"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert re.search(r"exact_reconstruction 0\.\d{4}", last)
    assert Path("runs/pretrained/digits-2x2/puzzles.png").is_file()
    assert sorted(shelf.rglob("*")) == before  # nothing is written into the package


def test_a_run_folder_comes_before_a_name(
    shelf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder that holds no run does not hide the name; one that holds a run does."""
    (tmp_path / "digits-2x2").mkdir()
    assert main(["evaluate", "digits-2x2", "--device", "cpu"]) == 0
    shipped = capsys.readouterr().out.splitlines()[-1]
    finished(tmp_path / "digits-2x2", seed=1)
    assert main(["evaluate", "digits-2x2", "--device", "cpu"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] != shipped
    assert (tmp_path / "digits-2x2" / "puzzles.png").is_file()


@pytest.mark.parametrize("command", [["evaluate", "digits-9x9"], ["solve", "digits-9x9", "x.png"]])
def test_neither_folder_nor_name(
    shelf: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command) == 1
    wanted = (
        "run must be the folder of a run or digits-2x2, got digits-9x9: did you mean digits-2x2?"
    )
    assert capsys.readouterr().err == f"softperm: error: {wanted}\n"


def test_help_lists_the_names(shelf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["solve", "--help"])
    assert "digits-2x2" in capsys.readouterr().out


def test_what_cannot_be_exported(tmp_path: Path) -> None:
    run, _, metrics = finished(tmp_path / "run")
    worse = {**metrics, "exact_reconstruction": metrics["exact_reconstruction"] + 0.002}
    Result(Cell("jigsaw", "ours", 2, 7), "digits", 3, 12.4, {"test": worse}).write(run.folder)
    with pytest.raises(ValueError, match=r"exact_reconstruction of digits-2x2 must stay within"):
        export(run, tmp_path / "shelf")
    (run.folder / "result.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"result\.json"):
        export(run, tmp_path / "shelf")
    config = SortingConfig(n_items=3, test_lists=10)
    sorting = Run(tmp_path / "sorting")
    with sorting.create("sorting", Sorting(config), config, TrainConfig()):
        pass
    Result(Cell("sorting", "ours", 5, 0), "", 1, 1.0, {}).write(sorting.folder)
    with pytest.raises(ValueError, match="must hold a jigsaw run of mnist or digits"):
        export(sorting, tmp_path / "shelf")
    assert not (tmp_path / "shelf").exists()
