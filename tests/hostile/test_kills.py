"""Killed at any moment, a run ends with the weights of one that nobody disturbed."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.hostile.harness import TRAIN, Program, require_same


def killed_at(program: Program, cwd: Path, whole: Path, at: int) -> None:
    outcome = program.run(cwd, TRAIN, action="kill", at=at)
    assert outcome.code == -signal.SIGKILL, at
    program.finish(cwd)
    require_same(cwd / "run", whole)


def test_killed_at_a_write(program: Program, cwd: Path, whole: Path, changes: int) -> None:
    killed_at(program, cwd, whole, changes // 2)


@pytest.mark.slow
def test_killed_at_the_first_writes(program: Program, tmp_path: Path) -> None:
    """Before the folder has its name there is no run, and nothing that the next start keeps."""
    for at in range(1, 20):
        cwd = tmp_path / str(at)
        cwd.mkdir()
        assert program.run(cwd, TRAIN, action="kill", at=at).code == -signal.SIGKILL
        names = {path.name for path in (cwd / "run").glob("*")}
        assert names == set() or names >= {"config.yaml", "model.json"}
        if names:
            return
    raise AssertionError("no folder appeared")


@pytest.mark.slow
def test_killed_at_a_random_moment(
    program: Program, cwd: Path, whole: Path, seconds: float
) -> None:
    killed_randomly(program, cwd, whole, seconds, 0)


def killed_randomly(program: Program, cwd: Path, whole: Path, seconds: float, seed: int) -> None:
    draw = random.Random(seed)
    pid = program.start(cwd, TRAIN)
    time.sleep(draw.uniform(0, seconds))
    os.kill(pid, signal.SIGKILL)
    program.wait(pid, cwd)
    program.finish(cwd)
    require_same(cwd / "run", whole)


@pytest.mark.slow
def test_killed_at_every_write(program: Program, tmp_path: Path, whole: Path, changes: int) -> None:
    for at in range(1, changes + 1):
        (tmp_path / str(at)).mkdir()
        killed_at(program, tmp_path / str(at), whole, at)


@pytest.mark.slow
def test_killed_twice_at_writes(
    program: Program, tmp_path: Path, whole: Path, changes: int
) -> None:
    """The second time while the first is made good."""
    draw = random.Random(1)
    for number in range(40):
        cwd = tmp_path / str(number)
        cwd.mkdir()
        program.run(cwd, TRAIN, action="kill", at=draw.randint(1, changes))
        again = [*TRAIN, "--resume"] if (cwd / "run").exists() else TRAIN
        program.run(cwd, again, action="kill", at=draw.randint(1, changes))
        program.finish(cwd)
        require_same(cwd / "run", whole)


@pytest.mark.slow
def test_killed_at_a_hundred_random_moments(
    program: Program, tmp_path: Path, whole: Path, seconds: float
) -> None:
    for seed in range(100):
        (tmp_path / str(seed)).mkdir()
        killed_randomly(program, tmp_path / str(seed), whole, seconds, seed)
