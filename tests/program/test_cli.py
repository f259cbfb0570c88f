"""The program: the installed command end to end, and every argument given wrongly."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from softperm.program.cli import main
from softperm.program.presets import preset_names
from softperm.program.training.run import Run

SOFTPERM = Path(sys.executable).with_name("softperm")
QUICK = ("--data", "digits", "--kernel_size", "3", "--device", "cpu")


def softperm(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [str(SOFTPERM), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run of the installed command."""
    out = tmp_path_factory.mktemp("runs") / "digits"
    done = softperm("train", "jigsaw", *QUICK, "--epochs", "2", "--lr", "0.01", "--out", out)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("kendall_tau 0.")
    return out


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "seven.png"
    Image.linear_gradient("L").resize((40, 40)).save(path)
    return path


def test_run_folder_is_complete(run: Path) -> None:
    assert {path.name for path in run.iterdir()} == {
        "config.yaml",
        "metrics.csv",
        "tensorboard",
        "last.ckpt",
        "model.safetensors",
        "model.json",
        "curves.png",
        "puzzles.png",
        "failures.png",
        "temperatures.png",
    }
    assert len((run / "metrics.csv").read_text().splitlines()) == 3
    assert list((run / "tensorboard").iterdir())


def test_evaluate_prints_every_metric(run: Path) -> None:
    done = softperm("evaluate", run)
    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1]
    values = {name: float(value) for name, value in re.findall(r"(\w+) ([\d.]+)", last)}
    assert set(values) == {
        "kendall_tau",
        "prop_wrong",
        "prop_any_wrong",
        "kendall_tau_up_to_identical",
        "prop_wrong_up_to_identical",
        "prop_any_wrong_up_to_identical",
        "exact_reconstruction",
        "l1",
        "l2",
    }
    row = Run(run).read_metrics()[-1]
    assert all(values[name] == pytest.approx(row[name], abs=6e-5) for name in values)
    assert "up to identical pieces" in done.stdout


def test_solve_writes_the_pictures(run: Path, picture: Path, tmp_path: Path) -> None:
    out = tmp_path / "solved"
    done = softperm("solve", run, picture, picture, "--out", out)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in out.iterdir()} == {
        "seven.png",
        "seven-restored.png",
        "seven-2.png",
        "seven-2-restored.png",
    }
    with Image.open(out / "seven-restored.png") as restored:
        assert restored.size == (40, 40)


def test_solve_takes_scrambled_pictures(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Restoring keeps every pixel, in another place."""
    pixels = torch.arange(64, dtype=torch.uint8).reshape(8, 8)
    path = tmp_path / "scrambled.png"
    Image.fromarray(pixels.numpy()).save(path)
    assert main(["solve", str(run), str(path), "--scrambled", "--out", str(tmp_path / "o")]) == 0
    assert "wrong" not in capsys.readouterr().out  # nobody knows the original
    with Image.open(tmp_path / "o" / "scrambled-restored.png") as restored:
        assert sorted(restored.get_flattened_data()) == list(range(64))


def test_resume_with_the_same_settings_or_none(run: Path) -> None:
    before = (run / "model.safetensors").read_bytes()
    assert main(["train", "jigsaw", "--out", str(run), "--resume"]) == 0
    given = ["--epochs", "2", "--lr", "0.01", "--out", str(run), "--resume"]
    assert main(["train", "jigsaw", *QUICK, *given]) == 0
    assert (run / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGINT])
def test_interrupted_and_resumed_run_has_the_same_weights(
    run: Path, tmp_path: Path, sig: signal.Signals
) -> None:
    out = tmp_path / "interrupted"
    settings = (*QUICK, "--epochs", "2", "--lr", "0.01", "--out", str(out))
    with subprocess.Popen(
        [str(SOFTPERM), "train", "jigsaw", *settings],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())},
    ) as process:
        deadline = time.monotonic() + 120
        while not (out / "metrics.csv").exists() and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(sig)
        process.communicate()
    assert process.returncode != 0, "the run ended before it could be interrupted"
    done = softperm("train", "jigsaw", "--out", out, "--resume")
    assert done.returncode == 0, done.stderr
    mine, whole = load_file(out / "model.safetensors"), load_file(run / "model.safetensors")
    assert all(torch.equal(mine[name], whole[name]) for name in whole)


def test_train_sorting(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("n_items: 3\ntrain_lists: 200\ntest_lists: 50\n")
    out = str(tmp_path / "run")
    arguments = ["--preset", "sorting-5", "--config", str(config), "--epochs", "1", "--out", out]
    assert main(["train", "sorting", *arguments]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("kendall_tau ")
    settings = (tmp_path / "run" / "config.yaml").read_text()
    assert "n_items: 3" in settings  # the file wins over the preset,
    assert "epochs: 1" in settings  # the command line over the file,
    assert "batch_size: 10" in settings  # and the preset over the default
    assert main(["evaluate", out]) == 0
    assert main(["solve", out, "x.png"]) == 1
    assert "solve needs a jigsaw run" in capsys.readouterr().err


@pytest.mark.parametrize("task", ["jigsaw", "sorting"])
def test_presets_parse(task: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert preset_names(task)
    for name in preset_names(task):
        with pytest.raises(SystemExit) as end:
            main(["train", task, "--preset", name, "--print_config"])
        assert end.value.code == 0
        assert "batch_size" in capsys.readouterr().out


def test_tutorial_preset_is_the_tutorial(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "jigsaw", "--preset", "tutorial-2x2", "--print_config"])
    printed = capsys.readouterr().out.splitlines()
    for line in (
        "data: mnist",
        "pieces: 2",
        "tau: 0.1",
        "n_iters: 20",
        "hidden_channels: 32",
        "kernel_size: 5",
        "batch_size: 64",
        "lr: 0.0001",
        "epochs: 5",
        "schedule: constant",
    ):
        assert line in printed


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["train"],
        ["train", "jigsaw"],
        ["evaluate"],
        ["solve"],
        ["reproduce"],
        ["reproduce", "jigsaw"],
        ["reproduce", "sorting"],
    ],
)
def test_help_exits_with_zero(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([*command, "--help"])
    assert end.value.code == 0
    assert "usage: softperm" in capsys.readouterr().out


BAD = [
    ([], "command"),
    (["fly"], "fly"),
    (["train"], "task"),
    (["train", "chess"], "chess"),
    (["train", "jigsaw", "--fly", "1"], "--fly"),
    (["train", "jigsaw", "--preset", "nope"], "nope"),
    (["train", "jigsaw", "--config", "missing.yaml"], "missing.yaml"),
    (["train", "jigsaw", "--data", "/no/such/folder"], "/no/such/folder"),
    (["train", "jigsaw", "--data", "digits", "--image_size", "9"], "size"),
    (["train", "jigsaw", "--data", "digits", "--channels", "3"], "channels"),
    (["train", "jigsaw", "--resume"], "--out"),
    (["train", "jigsaw", "--resume", "--out", "nothing-here"], "holds no run"),
    (["train", "jigsaw", "--device", "abacus"], "device"),
    (["train", "jigsaw", "--precision", "8"], "precision"),
    (["train", "jigsaw", "--schedule", "random"], "schedule"),
    (["train", "jigsaw", "--deterministic", "perhaps"], "deterministic"),
    (["evaluate"], "run"),
    (["evaluate", "nothing-here"], "nothing-here"),
    (["evaluate", "nothing-here", "--device", "abacus"], "device"),
    (["solve", "nothing-here", "x.png"], "nothing-here"),
    (["solve", "nothing-here"], "images"),
    (["solve", "nothing-here", "x.png", "--seed", "x"], "seed"),
    (["solve", "mnist-2x2", "missing.png"], "missing.png"),
    (["scramble"], "images"),
    (["scramble", "missing.png"], "missing.png"),
    (["scramble", "missing.png", "--seed", "-1"], "seed"),
    (["scramble", "missing.png", "--pieces", "1"], "pieces"),
    (["reproduce"], "table"),
    (["reproduce", "chess"], "chess"),
    (["reproduce", "jigsaw", "--pieces", "7"], "pieces"),
    (["reproduce", "jigsaw", "--net", "paper", "--data", "/no/such/folder"], "/no/such/folder"),
    (["reproduce", "sorting", "--n", "7"], "n must be among"),
    (["reproduce", "sorting", "--n", "500", "--net", "paper"], "n must be at most"),
    (["reproduce", "sorting", "--net", "theirs"], "net"),
    (["reproduce", "sorting", "--seeds", "-1"], "seed"),
    (["reproduce", "sorting", "--data", "digits"], "--data"),
    (["reproduce", "sorting", "--docs", "missing.md"], "missing.md"),
    (["reproduce", "sorting", "--device", "abacus"], "device"),
    (["train", "sorting", "--net", "pointer"], "net"),
    *(
        (["train", "jigsaw", f"--{name}", bad], name)
        for name in (
            [
                "pieces",
                "hidden_channels",
                "kernel_size",
                "tau",
                "n_iters",
                "n_samples",
                "epochs",
                "batch_size",
                "lr",
            ]
        )
        for bad in ("0", "x")
    ),
    (["train", "jigsaw", "--kernel_size", "4"], "kernel_size"),
    (["train", "jigsaw", "--noise_scale", "-1"], "noise_scale"),
    (["train", "jigsaw", "--warmup", "2"], "warmup"),
    (["train", "jigsaw", "--seed", "-1"], "seed"),
    *(
        (["train", "sorting", f"--{name}", "0"], name)
        for name in [
            "n_items",
            "train_lists",
            "test_lists",
            "hidden_features",
            "tau",
            "n_iters",
            "n_samples",
        ]
    ),
    (["train", "sorting", "--low", "2"], "low"),
    (["train", "sorting", "--high", "-1"], "high"),
    (["train", "sorting", "--test_low", "2"], "test_low"),
    (["train", "sorting", "--test_high", "-1"], "test_high"),
    (["train", "sorting", "--noise_scale", "-1"], "noise_scale"),
]


@pytest.mark.parametrize(("arguments", "name"), BAD, ids=[" ".join(a) or "none" for a, _ in BAD])
def test_wrong_arguments_get_one_line(
    arguments: list[str],
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) in (1, 2)
    error = capsys.readouterr().err
    assert error.startswith("softperm: error: ")
    assert error.count("\n") == 1
    assert name in error
    assert not list(tmp_path.iterdir())  # a refused command leaves nothing behind


def test_the_installed_command_shows_no_traceback() -> None:
    done = softperm("evaluate", "nothing-here")
    assert done.returncode == 1
    assert done.stderr.startswith("softperm: error: run must be the folder of a run")
    assert done.stderr.endswith(", got nothing-here\n")
    assert done.stderr.count("\n") == 1


def test_wrong_pictures_and_folders(
    run: Path, tmp_path: Path, picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    junk = tmp_path / "junk.png"
    junk.write_bytes(b"no picture")
    for arguments, name in (
        (["solve", str(run), str(junk)], "junk.png"),
        (["solve", str(run), str(tmp_path / "missing.png")], "missing.png"),
        (["train", "jigsaw", *QUICK, "--out", str(run)], "holds a run already"),
        (["train", "jigsaw", "--lr", "1", "--out", str(run), "--resume"], "lr was 0.01"),
        (["train", "sorting", "--out", str(run), "--resume"], "holds a jigsaw run"),
    ):
        assert main(arguments) == 1
        assert name in capsys.readouterr().err
