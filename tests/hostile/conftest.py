"""One server of children for all hostile tests, and the undisturbed run to compare with."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hostile.harness import TRAIN, Program

collect_ignore_glob = ["*.py"] if os.name == "nt" else []  # there is no fork


@pytest.fixture(scope="session")
def program() -> Iterator[Program]:
    program = Program()
    yield program
    program.close()


@pytest.fixture(scope="session")
def whole(program: Program, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody disturbed."""
    cwd = tmp_path_factory.mktemp("whole") / "cwd"
    cwd.mkdir()
    outcome = program.run(cwd, TRAIN)
    assert outcome.code == 0, outcome.err
    return cwd / "run"


@pytest.fixture(scope="session")
def seconds(program: Program, whole: Path, tmp_path_factory: pytest.TempPathFactory) -> float:
    """How long a run takes here and now."""
    started = time.monotonic()
    assert program.run(tmp_path_factory.mktemp("timed"), TRAIN).code == 0
    return time.monotonic() - started


@pytest.fixture(scope="session")
def changes(whole: Path) -> int:
    """How many changes to its folder the undisturbed command made."""
    return int((whole.parents[1] / "cwd.log.count").read_text())


@pytest.fixture
def cwd(tmp_path: Path) -> Path:
    """An empty folder to work in."""
    folder = tmp_path / "cwd"
    folder.mkdir()
    return folder
