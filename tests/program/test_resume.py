"""A run begins whole or not at all, and goes on only as it began."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from softperm._lock import locked
from softperm.program.cli import main
from softperm.program.settings import JigsawConfig
from softperm.program.training import trainer
from softperm.program.training.run import Run
from tests.program.support import error_line

SORT = ["train", "sorting", "--n_items", "3", "--train_lists", "40", "--test_lists", "10"]
SHORT = [*SORT, "--epochs", "1", "--device", "cpu"]

PICTURES = ["train", "jigsaw", "--data", "pictures", "--image_size", "8", "--kernel_size", "3"]


@pytest.fixture(autouse=True)
def _working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_folder_whose_name_is_a_pattern(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SHORT, "--out", "runs/lr[1]"]) == 0
    assert main(["train", "sorting", "--out", "runs/lr[1]", "--resume"]) == 0


@pytest.mark.parametrize("seed", ["99999999999999", str(2**64 - 1)])
def test_large_seeds_train(seed: str) -> None:
    assert main([*SHORT, "--seed", seed, "--out", "run"]) == 0
    assert Run(Path("run")).settings()[1].seed == int(seed)


@pytest.mark.parametrize("seed", [str(2**64), "9" * 30, "-1"])
def test_other_seeds_are_refused_before_anything_is_made(
    seed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SHORT, "--seed", seed, "--out", "run"]) == 1
    assert "seed must be between 0 and" in error_line(capsys)
    assert not list(Path().iterdir())


def test_a_preset_that_contradicts_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--preset", "sorting-5", *SHORT[2:]]
    assert main(["train", "sorting", *options, "--seed", "3", "--out", "run"]) == 0
    resume = ["train", "sorting", "--out", "run", "--resume"]
    assert main(resume) == 0
    assert main([*resume, *options]) == 0  # the same again; what no preset says stays: the seed
    capsys.readouterr()
    assert main([*resume, "--preset", "sorting-5"]) == 1
    assert "a resumed run keeps its settings: n_items was 3 in run, got 5" in error_line(capsys)
    assert main([*resume, *options, "--preset", "relative-5"]) == 1
    assert "a resumed run keeps its settings" in error_line(capsys)


def test_a_run_that_fails_before_its_first_step_leaves_room_for_the_right_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(trainer.Trainer, "_step", fail)
        assert main([*SHORT, "--out", "runs/mine"]) == 1
    assert "no step" in error_line(capsys)
    assert not list(Path().iterdir())
    assert main([*SHORT, "--out", "runs/mine"]) == 0


def fail(*_: object, **__: object) -> None:
    raise ValueError("no step")


def test_an_empty_folder_is_filled_and_another_is_left(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("empty").mkdir()
    assert main([*SHORT, "--out", "empty"]) == 0
    Path("begun").mkdir()
    Path("empty/model.json").rename("begun/model.json")  # as a process leaves it that was killed
    assert main([*SHORT, "--out", "begun"]) == 0
    Path("mine").mkdir()
    Path("mine/metrics.csv").write_text("mine")
    capsys.readouterr()
    assert main([*SHORT, "--out", "mine"]) == 1
    assert "mine is not empty, it holds metrics.csv: give another --out" in error_line(capsys)
    assert Path("mine/metrics.csv").read_text() == "mine"


@pytest.mark.parametrize("text", ['{"mine": 1}', '{"task": "sorting", "model": {"a": 1}}', ""])
def test_a_model_that_no_run_wrote_is_left(capsys: pytest.CaptureFixture[str], text: str) -> None:
    Path("mine").mkdir()
    Path("mine/model.json").write_text(text)
    assert main([*SHORT, "--out", "mine"]) == 1
    assert "mine is not empty, it holds model.json: give another --out" in error_line(capsys)
    assert Path("mine/model.json").read_text() == text
    assert [path.name for path in Path("mine").iterdir()] == ["model.json"]


def test_a_folder_in_use_is_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SHORT, "--out", "run"]) == 0
    capsys.readouterr()
    with locked(Path("run")):
        assert main(["train", "sorting", "--out", "run", "--resume"]) == 4
    assert "run is in use by process" in error_line(capsys)
    assert main(["train", "sorting", "--out", "run", "--resume"]) == 0


def test_names_are_not_completed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SHORT, "--epoch", "1", "--out", "run"]) == 2
    assert "--epoch" in error_line(capsys)


def test_a_config_file_may_hold_numbers_as_people_write_them() -> None:
    Path("config.yaml").write_text("lr: 1e-3\ntau: 1\nepochs: 1\n")
    assert main([*SORT, "--config", "config.yaml", "--device", "cpu", "--out", "run"]) == 0
    task, config = Run(Path("run")).settings()
    assert (config.lr, task.tau) == (1e-3, 1.0)


def test_what_was_deleted_of_a_finished_run_is_written_again() -> None:
    assert main([*SHORT, "--out", "run"]) == 0
    weights, metrics = Path("run/model.safetensors"), Path("run/metrics.csv")
    tensors, table = load_file(weights), metrics.read_bytes()
    weights.unlink()
    metrics.unlink()
    assert main(["train", "sorting", "--out", "run", "--resume"]) == 0
    written = load_file(weights)
    assert written.keys() == tensors.keys()
    assert all(torch.equal(written[name], tensors[name]) for name in tensors)
    assert metrics.read_bytes() == table


def test_weights_that_are_missing_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SHORT, "--out", "run"]) == 0
    Path("run/model.safetensors").unlink()
    capsys.readouterr()
    assert main(["evaluate", "run"]) == 1
    assert "run has no trained weights: model.safetensors is not there" in error_line(capsys)


def paint(number: int) -> None:
    """One picture of noise, always the same for a number."""
    Path("pictures").mkdir(exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), np.uint8)
    Image.fromarray(pixels).save(f"pictures/{number}.png")


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command that goes on with a run on 12 pictures, of which 11 are for training."""
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    for number in range(12):
        paint(number)
    loop = ["--epochs", "2", "--schedule", "one_cycle", "--batch_size", "4", "--device", "cpu"]
    assert main([*PICTURES, *loop, "--out", "run"]) == 0
    return ["train", "jigsaw", "--out", "run", "--resume"]


def test_a_run_goes_on_with_as_many_pictures_as_it_began_with(
    begun: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    paint(12)
    capsys.readouterr()
    assert main(begun) == 1
    assert "run began with other data: there were 11 training examples, there are 12\n" in (
        error_line(capsys)
    )
    Path("pictures/12.png").unlink()
    assert main(begun) == 0


def test_a_run_goes_on_with_the_pictures_that_it_began_with(
    begun: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(12):
        Path(f"pictures/{number}.png").unlink()
        paint(number + 100)
    capsys.readouterr()
    assert main(begun) == 1
    assert "run began with other data: mean of the training images was (0." in error_line(capsys)


def test_a_run_that_does_not_tell_how_many_pictures_there_were_goes_on(begun: list[str]) -> None:
    path = Path("run/model.json")
    model = json.loads(path.read_text())
    assert model.pop("n_train") == 11
    path.write_text(json.dumps(model))
    assert main(begun) == 0


def test_a_number_of_pictures_that_is_none_is_refused(
    begun: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path("run/model.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "n_train": "many"}))
    capsys.readouterr()
    assert main(begun) == 1
    assert "cannot read model.json: n_train must be an int, got 'many'" in error_line(capsys)


def test_a_run_finds_its_pictures_from_another_folder(
    begun: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("config.yaml").write_text("data: pictures\n")
    assert main([*begun, "--config", "config.yaml"]) == 0  # the same folder, as it was typed
    assert main([*begun, "--data", "./pictures/../pictures"]) == 0
    Path("elsewhere/pictures").mkdir(parents=True)  # not those of the run
    monkeypatch.chdir("elsewhere")
    assert main(["evaluate", "../run", "--device", "cpu"]) == 0
    capsys.readouterr()
    assert main(["train", "jigsaw", "--out", "../run", "--resume", "--data", "pictures"]) == 1
    assert "a resumed run keeps its settings: data was" in error_line(capsys)


@pytest.mark.parametrize("name", ["digits", "mnist"])
def test_names_of_data_are_no_folders(name: str) -> None:
    Path(name).mkdir()
    assert JigsawConfig(data=name).data == name
