"""Runs in folders: what they leave, how they are resumed, and what is refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
from matplotlib import image

from softperm._lock import Busy, locked
from softperm.data import worm as worm_module
from softperm.data.worm import Wiring, synthetic_wiring
from softperm.program.cli import main
from softperm.program.neurons import folder as folder_module
from softperm.program.neurons.config import NeuronsConfig
from softperm.program.neurons.folder import read_config, read_result, run_in
from softperm.program.neurons.infer import confidence
from tests.program.support import busy_when_renamed, refused

SMALL = ["--candidates", "4", "--steps", "300"]


@pytest.fixture(autouse=True)
def small_wiring(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wiring that takes a second, where no folder is given."""
    small = synthetic_wiring(20, 80)

    def load(data: str | None) -> Wiring:
        return small if data is None else worm_module.load_wiring(data)

    monkeypatch.setattr(folder_module, "load_wiring", load)


def test_what_a_run_leaves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    given = [*SMALL, "--extra", "0.1", "--known", "0.2", "--worms", "2"]
    assert main(["train", "neurons", "--out", str(out), *given]) == 0
    printed = capsys.readouterr().out
    assert "wiring: a synthetic wiring, not C. elegans" in printed
    source, metrics = read_result(out) or ("", {})
    assert f"accuracy {metrics['accuracy']:.4f}" in printed
    assert "synthetic" in source
    with (out / "names.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 22
    assert sum(row["name"] == "" for row in rows) == 2 * 2
    shares = [
        [row["right"] == "1" for row in rows if row["worm"] == worm and row["name"]]
        for worm in "01"
    ]
    assert metrics["accuracy"] == pytest.approx(sum(sum(s) / len(s) for s in shares) / 2)
    assert all(row["confidence_vi"] == "1.000" for row in rows if row["known"] == "1")
    for name in ("posterior.png", "body.png"):
        assert image.imread(out / name).ndim == 3


def test_an_interrupted_run_is_finished_and_a_finished_one_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for out in (whole, broken):
        assert main(["train", "neurons", "--out", str(out), *SMALL]) == 0
    (broken / "result.json").unlink()
    (broken / "names.csv").unlink()
    assert main(["train", "neurons", "--out", str(broken), "--resume"]) == 0
    assert (broken / "names.csv").read_text() == (whole / "names.csv").read_text()
    first, second = (read_result(out) for out in (whole, broken))
    assert first is not None
    assert second is not None
    for name, value in first[1].items():
        assert name == "seconds" or second[1][name] == value
    before = (broken / "result.json").stat().st_mtime_ns
    assert not run_in(broken, read_config(broken), resume=True)
    assert (broken / "result.json").stat().st_mtime_ns == before
    capsys.readouterr()


def test_settings_from_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings, out = tmp_path / "settings.yaml", tmp_path / "run"
    settings.write_text("candidates: 4\nsteps: 300\nmethod: fw\n")
    given = ["train", "neurons", "--config", str(settings), "--out", str(out), "--seed", "3"]
    assert main(given) == 0
    expected = NeuronsConfig(candidates=4.0, steps=300, method="fw", seed=3)
    assert read_config(out) == expected
    settings.write_text("worm: 4\n")
    capsys.readouterr()
    assert main(["train", "neurons", "--config", str(settings)]) == 1
    assert "must hold settings of neurons, got worm" in capsys.readouterr().err


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, other = str(tmp_path / "run"), tmp_path / "other"
    assert main(["train", "neurons", "--out", out, *SMALL]) == 0
    assert main(["train", "neurons", "--out", out, *SMALL]) == 1
    assert "holds a run already" in capsys.readouterr().err
    assert main(["train", "neurons", "--out", out, "--resume", "--seed", "1"]) == 1
    assert "seed was 0" in capsys.readouterr().err
    other.mkdir()
    (other / "mine.txt").write_text("mine")
    assert main(["train", "neurons", "--out", str(other), *SMALL]) == 1
    assert "is not empty, it holds mine.txt" in capsys.readouterr().err
    assert [path.name for path in other.iterdir()] == ["mine.txt"]


def test_names_that_are_missing_are_found_again(tmp_path: Path) -> None:
    config = NeuronsConfig(candidates=4.0, steps=300, method="fw")
    run_in(tmp_path / "run", config, resume=False, draw=False)
    names = (tmp_path / "run" / "names.csv").read_text()
    (tmp_path / "run" / "names.csv").unlink()
    assert run_in(tmp_path / "run", config, resume=True, draw=False)
    assert (tmp_path / "run" / "names.csv").read_text() == names


@pytest.mark.parametrize("finished", [True, False])
def test_a_resumed_run_keeps_its_wiring(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], finished: bool
) -> None:
    out = tmp_path / "run"
    run_in(out, NeuronsConfig(candidates=4.0, steps=300, method="fw"), resume=False, draw=False)
    if not finished:
        (out / "result.json").unlink()
    line = refused(["train", "neurons", "--out", str(out), "--resume", "--data", "other"], capsys)
    assert "data was None" in line
    assert (out / "result.json").exists() == finished


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / ".hidden").touch()
    given = NeuronsConfig(candidates=4.0, steps=300, method="fw")
    assert run_in(out, given, resume=False, draw=False)
    names = [".hidden", "config.yaml", "names.csv", "result.json"]
    assert sorted(path.name for path in out.iterdir()) == names


def test_one_writer_a_folder(tmp_path: Path) -> None:
    config = NeuronsConfig(candidates=4.0, steps=300, method="fw")
    run_in(tmp_path / "run", config, resume=False)
    (tmp_path / "run" / "result.json").unlink()
    with locked(tmp_path / "run"), pytest.raises(Busy):
        run_in(tmp_path / "run", config, resume=True)


def test_the_folder_appears_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    busy = busy_when_renamed(monkeypatch)
    folder = tmp_path / "run"
    run_in(folder, NeuronsConfig(candidates=4.0, steps=300, method="fw"), resume=False, draw=False)
    assert busy[folder]
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.yaml",
        "names.csv",
        "result.json",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--resume"], "--resume needs --out"),
        (["--resume", "--out", "nothing-here"], "holds no run"),
        (["--worms", "0"], "worms must be between"),
        (["--method", "luck"], "luck"),
        (["--noise", "1e-6"], "noise must be between 0.001 and"),
        (["--data", "/no/such/folder"], "/no/such/folder"),
        (["--candidates", "900"], "candidates must be"),
        (["--candidates", "0.5"], "candidates must be"),
        (["--fly", "1"], "--fly"),
    ],
    ids=str,
)
def test_wrong_arguments(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in refused(["train", "neurons", *arguments], capsys)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"wiring": "x"}',
        *(
            f'{{"wiring": "x", "metrics": {{"accuracy": {value}}}}}'
            for value in ('"good"', "9" * 400, "NaN", "null")
        ),
    ],
    ids=lambda text: text[:60],
)
def test_damaged_results(tmp_path: Path, text: str) -> None:
    (tmp_path / "result.json").write_text(text)
    with pytest.raises(ValueError, match=r"result\.json") as error:
        read_result(tmp_path)
    assert len(str(error.value)) < len(str(tmp_path)) + 200


def test_damaged_settings(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("worms: many\n")
    with pytest.raises(ValueError, match="worms must be an int"):
        read_config(tmp_path)


def test_confidence_is_the_share_of_samples() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.tensor([[50.0, 0.0], [0.0, 50.0]])
    assert confidence(scores, torch.tensor([0, 1]), generator).tolist() == [1.0, 1.0]
    assert confidence(scores, torch.tensor([1, 0]), generator).tolist() == [0.0, 0.0]
    even = confidence(torch.zeros(2, 2), torch.tensor([0, 1]), generator)
    assert torch.allclose(even, torch.tensor(0.5), atol=0.15)
    poor = torch.full((2, 2), -50.0)
    nobody = confidence(poor, torch.tensor([-1, -1]), generator, unnamed=True)
    assert nobody.tolist() == [1.0, 1.0]


def test_settings_are_kept(tmp_path: Path) -> None:
    config = NeuronsConfig(candidates=4.0, steps=300, seed=5, method="start")
    run_in(tmp_path / "run", config, resume=False)
    assert read_config(tmp_path / "run") == config
    assert set(json.loads((tmp_path / "run" / "result.json").read_text())) == {"wiring", "metrics"}
