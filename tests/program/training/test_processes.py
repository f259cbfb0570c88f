"""Trainings in two processes (gloo), started as a user starts them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import torch

from softperm.program.cli import main
from softperm.program.training.run import Run
from tests.program.training.test_loop import rows, weights

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals and process groups")

TRAIN = (
    *("train", "jigsaw", "--data", "digits", "--pieces", "2", "--kernel_size", "3"),
    *("--tau", "1", "--lr", "0.003", "--shift", "1", "--batch_size", "128", "--device", "cpu"),
)
SECONDS = 240
NEEDS_FSDP = pytest.mark.skipif(torch.__version__ < "2.9", reason="needs PyTorch 2.9")


def command(out: Path, *options: str, epochs: int = 2) -> list[str]:
    return [*TRAIN, "--epochs", str(epochs), "--out", str(out), *options]


@contextmanager
def started(arguments: list[str], *before: str) -> Iterator[subprocess.Popen[str]]:
    """The program in a session of its own, all of which is ended at last."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [*(before or (sys.executable, "-m", "softperm")), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            started_by_torchrun = children(process.pid)  # in sessions of their own
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            for pid in started_by_torchrun:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def children(pid: int) -> list[int]:
    """The processes that a process started, and that still run."""
    done = subprocess.run(
        ["ps", "-o", "pid=,stat=", "--ppid", str(pid)], capture_output=True, text=True, check=False
    )
    lines = [line.split() for line in done.stdout.splitlines()]
    return [int(number) for number, state in lines if not state.startswith("Z")]


def in_two(out: Path, *options: str, epochs: int = 2) -> None:
    with started(command(out, "--devices", "2", *options, epochs=epochs)) as process:
        printed, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, errors
    assert "training on cpu, 2 processes: digits" in printed
    assert printed.count("evaluating on cpu") == 1  # one process speaks
    assert errors == ""


def require_same_curve(run: Run, other: Run) -> None:
    """The same but for rounding."""
    for mine, theirs in zip(rows(run), rows(other), strict=True):
        assert mine == pytest.approx(theirs, rel=1e-4)
    for name, value in weights(run).items():
        torch.testing.assert_close(value, weights(other)[name], rtol=1e-3, atol=1e-5)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Four epochs in one process."""
    out = tmp_path_factory.mktemp("alone") / "run"
    assert main(command(out, epochs=4)) == 0
    return Run(out)


def test_two_processes_come_to_the_curve_of_one(tmp_path: Path, alone: Run) -> None:
    in_two(tmp_path / "run", epochs=4)
    require_same_curve(Run(tmp_path / "run"), alone)
    timed = Run(tmp_path / "run").read_metrics("examples_per_second", "sinkhorn_share")[-1]
    assert timed["examples_per_second"] > 0
    shares = [timed[f"{name}_share"] for name in ("data", "forward", "backward")]
    assert min(shares) > 0
    assert sum(shares) < 1
    assert timed["sinkhorn_share"] > 0


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    for _ in range(100 * SECONDS):
        if path.exists():
            return
        assert process.poll() is None
        time.sleep(0.01)
    raise AssertionError(f"{path} never came")


def wait_until_gone(pids: list[int]) -> None:
    for _ in range(3000):
        if not any(Path(f"/proc/{pid}").exists() and is_alive(pid) for pid in pids):
            return
        time.sleep(0.01)
    raise AssertionError(f"some of {pids} are still there")


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc").exists(), reason="needs /proc")
@pytest.mark.parametrize(
    ("victim", "strategy"),
    [
        ("first", "ddp"),
        pytest.param("other", "ddp", marks=pytest.mark.slow),
        pytest.param("first", "fsdp", marks=[pytest.mark.slow, NEEDS_FSDP]),
        pytest.param("other", "fsdp", marks=[pytest.mark.slow, NEEDS_FSDP]),
    ],
)
def test_a_killed_process_ends_all_and_the_run_goes_on_in_one(
    tmp_path: Path, alone: Run, victim: str, strategy: str
) -> None:
    out = tmp_path / "run"
    with started(command(out, "--devices", "2", "--strategy", strategy, epochs=4)) as process:
        wait_for(Run(out).checkpoint_file, process)
        others = children(process.pid)
        assert len(others) == 1
        os.kill(process.pid if victim == "first" else others[0], signal.SIGKILL)
        process.wait(SECONDS)
        wait_until_gone([process.pid, *others])
        assert process.returncode != 0
    assert main(command(out, "--resume", epochs=4)) == 0
    require_same_curve(Run(out), alone)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").exists(), reason="needs /proc")
def test_a_request_to_one_process_stops_all_and_the_run_goes_on_in_two(
    tmp_path: Path, alone: Run
) -> None:
    out = tmp_path / "run"
    with started(command(out, "--devices", "2", epochs=4)) as process:
        wait_for(Run(out).checkpoint_file, process)
        others = children(process.pid)
        os.kill(others[0], signal.SIGTERM)
        printed, errors = process.communicate(timeout=SECONDS)
        wait_until_gone([process.pid, *others])
    assert process.returncode == 128 + signal.SIGTERM
    assert printed.count("stopped; continue with: softperm train jigsaw") == 1
    assert errors == ""
    in_two(out, "--resume", epochs=4)
    require_same_curve(Run(out), alone)


@pytest.mark.skipif(not Path("/proc").exists(), reason="needs /proc")
def test_a_second_request_ends_a_process_that_waits_for_another(tmp_path: Path) -> None:
    """The first one is not met before the other process has gone on."""
    out = tmp_path / "run"
    with started(command(out, "--devices", "2", epochs=1000)) as process:
        wait_for(Run(out).checkpoint_file, process)
        (other,) = children(process.pid)
        os.kill(other, signal.SIGSTOP)
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(2)
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 128 + signal.SIGINT
        os.kill(other, signal.SIGCONT)
        wait_until_gone([other])
        printed, errors = process.communicate(timeout=SECONDS)
    assert errors == "softperm: error: interrupted\n"
    assert "stopped" not in printed
    assert len(rows(Run(out))) > 0
    assert [path.name for path in out.iterdir() if "softperm-part" in path.name] == []


def test_an_error_that_all_meet_is_told_once(tmp_path: Path) -> None:
    arguments = [*command(tmp_path / "run", "--devices", "2"), "--data", str(tmp_path / "nothing")]
    with started(arguments) as process:
        printed, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 1
    assert printed == ""
    assert errors.startswith("softperm: error: data must be digits, mnist or the path of a folder")
    assert errors.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_processes_with_other_data_are_refused(tmp_path: Path) -> None:
    """They would wait for each other for ever else."""
    script = tmp_path / "uneven.py"
    script.write_text(
        "import os, sys\n"
        "from softperm.program.cli import main\n"
        "from softperm.program.tasks import Jigsaw\n"
        "if os.environ.get('LOCAL_RANK') == '1':\n"
        "    Jigsaw.n_train = 1400\n"
        "sys.exit(main())\n"
    )
    with started(
        command(tmp_path / "run", "--devices", "2"), sys.executable, str(script)
    ) as process:
        _, errors = process.communicate(timeout=SECONDS)
    assert process.returncode != 0
    assert "training_examples must be the same in all processes, got 1400 and 1500" in errors


@pytest.mark.slow
def test_torchrun_starts_them_too(tmp_path: Path) -> None:
    out = tmp_path / "run"
    torchrun = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    before = (sys.executable, "-m", *torchrun, "-m", "softperm")
    with started(command(out, "--devices", "2"), *before) as process:
        printed, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, errors
    assert printed.count("evaluating on cpu") == 1
    assert len(rows(Run(out))) == 2
