"""The program: the installed command end to end, and every argument given wrongly."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from softperm.program.cli import main
from softperm.program.options import COMMANDS
from softperm.program.presets import preset_file, preset_names
from softperm.program.training.run import Run
from tests.program.support import refused

SOFTPERM = Path(sys.executable).with_name("softperm")
QUICK = ("--data", "digits", "--kernel_size", "3", "--device", "cpu")


def softperm(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [str(SOFTPERM), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


@contextmanager
def ended() -> Iterator[list[object]]:
    """The exit code, returned or raised as that of argparse's help is."""
    codes: list[object] = []
    try:
        yield codes
    except SystemExit as end:
        codes.append(end.code)


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


def test_evaluate_prints_every_metric(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["evaluate", str(run)]) == 0
    printed = capsys.readouterr().out
    last = printed.splitlines()[-1]
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
    assert "up to identical pieces" in printed


def test_metrics_are_printed_where_pictures_cannot_be_drawn(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(run, tmp_path / "damaged")
    damaged = tmp_path / "damaged" / "metrics.csv"
    damaged.write_text("epoch\n1\n")
    row = Run(run).read_metrics()[-1]
    capsys.readouterr()
    assert main(["evaluate", str(damaged.parent)]) == 1
    printed = capsys.readouterr()
    assert f"softperm: error: {damaged} must have a column loss" in printed.err
    assert re.search(rf"kendall_tau \W+ {row['kendall_tau']:.4f} ", printed.out)
    assert main(["evaluate", str(damaged.parent), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["metrics"]["kendall_tau"] == pytest.approx(row["kendall_tau"])
    assert found["pictures"] == []


def test_solve_writes_the_pictures(run: Path, picture: Path, tmp_path: Path) -> None:
    out = tmp_path / "solved"
    assert main(["solve", str(run), str(picture), str(picture), "--out", str(out)]) == 0
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


# Others are sent in tests/hostile, where a command costs no new interpreter.
@pytest.mark.parametrize(
    "sig", [signal.SIGINT, pytest.param(signal.SIGKILL, marks=pytest.mark.slow)]
)
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
    assert main(["train", "jigsaw", "--out", str(out), "--resume"]) == 0
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
        assert main(["train", task, "--preset", name, "--print_config"]) == 0
        assert "batch_size" in capsys.readouterr().out


def test_tutorial_preset_is_the_tutorial(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "jigsaw", "--preset", "tutorial-2x2", "--print_config"]) == 0
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
        ["reproduce"],
        *(name.split() for name in COMMANDS),
    ],
)
def test_help_exits_with_zero_and_fits_the_terminal(
    command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with ended() as end:
        end.append(main([*command, "--help"]))
    assert end == [0]
    text = capsys.readouterr().out
    assert "usage: softperm" in text
    assert max(map(len, text.splitlines())) < 80


def test_alone_it_helps(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in COMMANDS)


BAD = [
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
    (["evaluate"], "RUN"),
    (["evaluate", "nothing-here"], "nothing-here"),
    (["evaluate", "nothing-here", "--device", "abacus"], "device"),
    (["solve", "nothing-here", "x.png"], "nothing-here"),
    (["solve", "nothing-here"], "IMAGE"),
    (["solve", "nothing-here", "x.png", "--seed", "x"], "seed"),
    (["solve", "mnist-2x2", "missing.png"], "missing.png"),
    (["scramble"], "IMAGE"),
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


# What an unset variable of the shell leaves of "$FOLDER".
BAD += [
    ([*command.split(), *rest, f"--{option}", ""], f"--{option}: must be a path, got an empty one")
    for command, rest, options in [
        ("train jigsaw", ["--data", "digits"], ["out", "config"]),
        ("train neurons", [], ["out"]),
        ("solve", ["mnist-2x2", "x.png"], ["out"]),
        ("scramble", ["x.png"], ["out"]),
        ("reproduce jigsaw", [], ["out", "docs", "data"]),
        ("reproduce neurons", [], ["out", "data"]),
    ]
    for option in options
]
BAD += [
    (["evaluate", ""], "RUN: must be a path, got an empty one"),
    (["scramble", ""], "IMAGE: must be a path, got an empty one"),
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
    assert name in refused(arguments, capsys)
    assert not list(tmp_path.iterdir())  # a refused command leaves nothing behind


def test_the_installed_command_shows_no_traceback() -> None:
    done = softperm("evaluate", "nothing-here")
    assert done.returncode == 1
    assert done.stderr.startswith("softperm: error: run must be the folder of a run")
    assert done.stderr.endswith(", got nothing-here\n")
    assert done.stderr.count("\n") == 1


def with_closed(streams: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The installed command, started by a shell that closes some of the standard streams."""
    command = ["sh", "-c", f'exec "$0" "$@" {streams}', str(SOFTPERM), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


@pytest.mark.skipif(os.name == "nt", reason="needs a shell of Unix")
@pytest.mark.parametrize("streams", [">&-", "<&- >&- 2>&-"])
def test_a_run_is_trained_where_the_output_is_closed(streams: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    sizes = ("--n_items", "3", "--train_lists", "40", "--test_lists", "10", "--epochs", "1")
    done = with_closed(streams, "train", "sorting", *sizes, "--device", "cpu", "--out", out)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert len(Run(out).read_metrics()) == 1
    assert (out / "temperatures.png").exists()


@pytest.mark.skipif(os.name == "nt", reason="needs a shell of Unix")
def test_the_line_of_an_error_is_no_output(tmp_path: Path) -> None:
    done = with_closed("2>&-", "evaluate", tmp_path / "nothing-here")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")


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


def test_dashes_are_as_good_as_underscores(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for spelling in ("--n-iters", "--n_iters"):
        assert main(["train", "jigsaw", spelling, "7", "--print-config"]) == 0
        assert "n_iters: 7" in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("number", ["-1e3", "-1E+3", "-1.e3", "-.1e4", "-1000", "-1000.0"])
def test_negative_numbers_are_no_options(number: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "sorting", "--low", number, "--high", "0", "--print_config"]) == 0
    assert "low: -1000.0" in capsys.readouterr().out.splitlines()


def test_two_dashes_end_the_options(picture: Path, tmp_path: Path) -> None:
    picture.rename(tmp_path / "--two.png")
    with contextlib.chdir(tmp_path):
        assert main(["scramble", "--pieces", "2", "--", "--two.png"]) == 0
        assert main(["solve", "mnist-2x2", "--out", "o", "--", "--two.png", "--two.png"]) == 0
    assert (tmp_path / "scrambled" / "--two-scrambled.png").exists()
    assert (tmp_path / "o" / "--two-2-restored.png").exists()


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["tarin"], "unknown command tarin: did you mean train?"),
        (["train"], "error: train needs a task: jigsaw or sorting or neurons\n"),
        (["train", "jigsw"], "unknown task of train jigsw: did you mean jigsaw?"),
        (["train", "jigsaw", "--eposch=2"], "unknown option --eposch: did you mean --epochs?"),
        (["train", "jigsaw", "--epoch", "2"], "unknown option --epoch: did you mean --epochs?"),
        (["train", "jigsaw", "--pre", "x"], "unknown option --pre: did you mean --"),
        (["train", "sorting", "--zzzz", "x"], "unknown option --zzzz: softperm train sorting --h"),
        (["train", "jigsaw", "--preset", "paper2x2"], "paper2x2: did you mean paper-2x2?"),
        (["solve", "mnist-33", "x.png"], "got mnist-33: did you mean mnist-3x3?"),
        (["evaluate", "x", "--jason"], "unknown option --jason: did you mean --json?"),
        (["--verison"], "unknown option --verison: did you mean --version?"),
    ],
)
def test_near_misses_are_named_and_nothing_is_guessed(
    arguments: list[str], meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert meant in refused(arguments, capsys)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["train", "jigsaw", "--help"],
        ["solve", "--help"],
        ["presets"],
        ["--version"],
        ["train", "jigsaw", "--preset", "paper-2x2", "--print_config"],
        ["train", "jigsaw", "--n-iters", "0"],
        ["train", "jigsaw", "--preset", "nope"],
    ],
)
def test_what_needs_no_torch_does_not_wait_for_it(arguments: list[str]) -> None:
    script = (
        "import sys\n"
        "sys.modules['torch'] = None\n"  # importing it would fail
        "from softperm.program.cli import main\n"
        f"sys.exit(main({arguments}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode in (0, 1, 2)
    assert "import of torch halted" not in done.stdout + done.stderr
    assert "torch is not installed" not in done.stdout + done.stderr


def test_presets_tell_what_they_reach(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["presets", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert main(["presets"]) == 0
    printed = capsys.readouterr().out
    for task in ("jigsaw", "sorting"):
        assert list(found[task]) == preset_names(task)
        for name, text in found[task].items():
            first = preset_file(task, name).read_text(encoding="utf-8").splitlines()[0]
            assert first == f"# softperm train {task} --preset {name}"
            assert re.search(
                r"; \d+ (s|min); [01]\.\d{3,4} (restored exactly|of the lists wrong)", text
            )
            assert f"  {name:<15} {text}\n" in printed
    assert max(map(len, printed.splitlines())) <= 80


def test_json_is_one_object_and_nothing_else(
    run: Path, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["evaluate", str(run), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    row = Run(run).read_metrics()[-1]
    assert found["run"] == str(run)
    assert all(found["metrics"][name] == pytest.approx(row[name]) for name in found["metrics"])
    assert all(Path(path).exists() for path in found["pictures"])
    argv = ["solve", str(run), str(picture), "--out", str(tmp_path / "o"), "--json"]
    assert main(argv) == 0
    (solved,) = json.loads(capsys.readouterr().out)["pictures"]
    assert solved["picture"] == str(picture)
    assert 0 <= solved["wrong_pieces"] <= 4
    assert Path(solved["restored"]).exists()
    assert Path(solved["figure"]).exists()
    assert main(["evaluate", "nothing-here", "--json"]) == 1
    assert capsys.readouterr().out == ""


def test_the_environment_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--env"]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert lines["torch"] == metadata.version("torch")
    assert {"softperm", "python", "numpy", "scipy", "triton", "system", "kernels", "cuda"} <= {
        *lines
    }
    assert lines["threads"] == f"{torch.get_num_threads()} of torch"


def test_the_page_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    monkeypatch.setattr("softperm.program.app.launch", lambda *how: started.append(how))
    assert main(["app"]) == 0
    assert main(["app", "--host", "0.0.0.0", "--port", "0", "--no-browser"]) == 0
    assert started == [("127.0.0.1", 7860, True), ("0.0.0.0", 0, False)]


@pytest.mark.skipif("SOFTPERM_DATA" not in os.environ, reason="SOFTPERM_DATA is not set")
def test_a_pretrained_network_is_evaluated_without_training_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    for path in (Path(os.environ["SOFTPERM_DATA"]) / "mnist").glob("t10k-*"):
        (tmp_path / "here" / path.name).symlink_to(path)
    monkeypatch.setenv("SOFTPERM_DATA", str(tmp_path / "here"))
    assert main(["evaluate", "mnist-2x2", "--device", "cpu"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("evaluating on cpu: mnist in 2x2 pieces, transformer net of ")
    assert "exact_reconstruction 0.9996" in lines[-1]
