"""Asked to stop at any moment, the program saves or refuses, in a line and with its exit code."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.hostile.harness import RESUME, TRAIN, Outcome, Program, require_same

STOPPING = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


def slow(*values: object) -> Any:
    return pytest.param(*values, marks=pytest.mark.slow)


def require_stopped(outcome: Outcome, sig: int) -> None:
    outcome.require_polite()
    assert outcome.code in (0, 128 + sig)
    if outcome.code:
        assert ("stopped; continue with" in outcome.out) != ("interrupted" in outcome.err)


@pytest.mark.parametrize("sig", [signal.SIGINT, *(slow(sig) for sig in STOPPING[1:])])
def test_stopped_at_a_write(
    program: Program, cwd: Path, whole: Path, changes: int, sig: signal.Signals
) -> None:
    """Before, in and after training."""
    at = {signal.SIGINT: changes // 2, signal.SIGTERM: 3, signal.SIGHUP: changes - 3}[sig]
    require_stopped(program.run(cwd, TRAIN, action=int(sig), at=at), sig)
    program.finish(cwd)
    require_same(cwd / "run", whole)


def stopped_randomly(program: Program, cwd: Path, whole: Path, seed: int, times: int) -> None:
    draw = random.Random(seed)
    sig = draw.choice(STOPPING)
    pid = program.start(cwd, TRAIN)
    time.sleep(draw.uniform(0.3, 1.5))
    for _ in range(times):
        os.kill(pid, sig)
        time.sleep(draw.uniform(0, 0.05))
    require_stopped(program.wait(pid, cwd), sig)
    program.finish(cwd)
    require_same(cwd / "run", whole)


@pytest.mark.slow
@pytest.mark.parametrize("times", [1, 2, 3])
def test_stopped_at_random_moments(
    program: Program, tmp_path: Path, whole: Path, times: int
) -> None:
    for seed in range(20):
        (tmp_path / str(seed)).mkdir()
        stopped_randomly(program, tmp_path / str(seed), whole, seed, times)


@pytest.mark.slow
def test_interrupted_at_every_write(
    program: Program, tmp_path: Path, whole: Path, changes: int
) -> None:
    for at in range(1, changes + 1):
        cwd = tmp_path / str(at)
        cwd.mkdir()
        require_stopped(program.run(cwd, TRAIN, action=signal.SIGINT, at=at), signal.SIGINT)
        program.finish(cwd)
        require_same(cwd / "run", whole)


@pytest.mark.slow
def test_nobody_reads_the_output(program: Program, cwd: Path, whole: Path) -> None:
    """As in `softperm train ... | head -1`."""
    os.mkfifo(cwd.parent / "pipe")
    reader = os.open(cwd.parent / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    pid = program.start(cwd, TRAIN, stdout=cwd.parent / "pipe")
    while not (cwd / "run").exists():
        time.sleep(0.005)
    os.close(reader)
    outcome = program.wait(pid, cwd)
    outcome.require_polite()
    assert outcome.code == 128 + signal.SIGPIPE
    assert outcome.err.splitlines()[-1] == "softperm: error: nobody reads the output"
    program.finish(cwd)
    require_same(cwd / "run", whole)


@pytest.mark.slow
def test_the_terminal_goes_away(program: Program, cwd: Path, whole: Path) -> None:
    """A progress bar is drawn on it; no signal tells that it is gone."""
    terminal, other_end = os.openpty()
    pid = program.start(cwd, TRAIN, stdout=Path(os.ttyname(other_end)))
    while not (cwd / "run").exists():
        time.sleep(0.005)
    os.close(other_end)
    os.close(terminal)
    outcome = program.wait(pid, cwd)
    outcome.require_polite()
    assert outcome.code == 128 + signal.SIGPIPE
    program.finish(cwd)
    require_same(cwd / "run", whole)


@pytest.mark.parametrize("replaced", [False, slow(True)])
def test_the_folder_is_removed_while_training(program: Program, cwd: Path, replaced: bool) -> None:
    long = [*TRAIN, "--epochs", "100000"]
    pid = program.start(cwd, long)
    while not (cwd / "run" / "last.ckpt" / "state.safetensors").exists():
        time.sleep(0.005)
    (cwd / "run").rename(cwd / "elsewhere")
    if replaced:
        (cwd / "run").mkdir()
    outcome = program.wait(pid, cwd)
    outcome.require_polite()
    assert outcome.code == 1
    assert "run was removed or replaced while it was in use" in outcome.err
    assert [path.name for path in (cwd / "run").glob("*")] == []


def require_told(outcome: Outcome) -> None:
    """Told in a line that there is another."""
    outcome.require_polite()
    assert outcome.code in (1, 4)
    assert "holds a run already" in outcome.err or "run is in use by process " in outcome.err


def second_while_halted(program: Program, cwd: Path, at: int, argv: list[str]) -> None:
    """One command is halted at a change, another runs meanwhile: who has the lock goes on, the
    other is told.
    """
    halted = program.start(cwd, argv, action=int(signal.SIGSTOP), at=at, name="halted")
    program.wait_until_halted(halted)
    was_first = (cwd / "run" / ".lock").exists()
    other = program.start(cwd, argv, name="other")
    ended = program.ends_before(other, cwd / "run" / ".lock", f"process {other} ")
    assert ended == was_first
    (told, name), (runs, its_name) = (other, "other"), (halted, "halted")
    if not was_first:
        (told, name), (runs, its_name) = (halted, "halted"), (other, "other")
        os.kill(halted, signal.SIGCONT)
    require_told(program.wait(told, cwd, name))
    os.kill(runs, signal.SIGTERM)
    os.kill(runs, signal.SIGCONT)
    outcome = program.wait(runs, cwd, its_name)
    require_stopped(outcome, signal.SIGTERM)
    assert outcome.code


LONG = [*TRAIN, "--epochs", "100000"]


@pytest.mark.parametrize("at", [1, 7, 13, 14, 18])
def test_two_at_once(program: Program, cwd: Path, at: int) -> None:
    """New ones: the folder of the first appears at change 13."""
    second_while_halted(program, cwd, at, LONG)


@pytest.mark.parametrize("at", [1, 2])
def test_two_at_once_in_an_empty_folder(program: Program, cwd: Path, at: int) -> None:
    (cwd / "run").mkdir()
    second_while_halted(program, cwd, at, LONG)


@pytest.mark.slow
def test_two_at_once_whatever_the_moment(program: Program, tmp_path: Path) -> None:
    for at in range(1, 40):
        (tmp_path / str(at)).mkdir()
        second_while_halted(program, tmp_path / str(at), at, LONG)


def test_two_that_resume(program: Program, cwd: Path) -> None:
    pid = program.start(cwd, LONG, action=int(signal.SIGTERM), at=30)
    require_stopped(program.wait(pid, cwd), signal.SIGTERM)
    second_while_halted(program, cwd, 4, RESUME)


@pytest.mark.slow
def test_a_lock_that_a_killed_process_left_is_taken_over(program: Program, cwd: Path) -> None:
    pid = program.start(cwd, TRAIN)
    while not (cwd / "run" / ".lock").exists():
        time.sleep(0.001)
    os.kill(pid, signal.SIGKILL)
    assert program.wait(pid, cwd).code == -signal.SIGKILL
    assert (cwd / "run" / ".lock").exists()
    program.finish(cwd)
    assert not (cwd / "run" / ".lock").exists()
