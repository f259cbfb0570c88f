"""Where there is no room, a command says so in a line, and goes on once there is."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.hostile.harness import TRAIN, Outcome, Program, require_same, tree


def require_refused(outcome: Outcome) -> None:
    outcome.require_polite()
    assert outcome.code == 3, outcome.err
    assert "softperm: error: there is no room on the disk" in outcome.err


def full(program: Program, cwd: Path, whole: Path, **options: Any) -> None:
    """Refused, with no half-written file; and then done as if nothing had been."""
    require_refused(program.run(cwd, TRAIN, **options))
    run = cwd / "run"
    if run.exists():
        assert tree(run) <= tree(whole), "there is a temporary file"
        assert tree(run) >= {"config.yaml", "model.json"}
    else:
        assert list(cwd.iterdir()) == []
    program.finish(cwd)
    require_same(run, whole)


def test_full_in_the_middle(program: Program, cwd: Path, whole: Path, changes: int) -> None:
    full(program, cwd, whole, action="full", at=changes // 2)


@pytest.mark.slow
def test_full_at_every_write(program: Program, tmp_path: Path, whole: Path, changes: int) -> None:
    refused = 0
    for at in range(1, changes + 1):
        cwd = tmp_path / str(at)
        cwd.mkdir()
        outcome = program.run(cwd, TRAIN, action="full", at=at)
        if outcome.code:  # else nothing was left but to remove
            require_refused(outcome)
            refused += 1
        program.finish(cwd)
        require_same(cwd / "run", whole)
    assert refused > 0.8 * changes


@pytest.mark.slow
@pytest.mark.parametrize("size", [60, 100, 399, 1000, 3000, 10_000, 20_000])
def test_files_can_be_no_longer(program: Program, cwd: Path, whole: Path, size: int) -> None:
    """The system refuses what is written beyond: in the middle of a file, that is."""
    assert max(path.stat().st_size for path in whole.rglob("*") if path.is_file()) > 20_000
    full(program, cwd, whole, file_size=size)


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[None]:
    """A file system of so many bytes in memory."""
    options = ["-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
    done = subprocess.run(["mount", *options], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("file systems cannot be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("mount"), reason="there is no mount")
@pytest.mark.parametrize("kilobytes", [4, 8, 12, 16, 20, 24, 32, 40, 48, 56, 64])
def test_a_small_disk(program: Program, cwd: Path, whole: Path, kilobytes: int) -> None:
    with small_disk(cwd, kilobytes * 1024):
        require_refused(program.run(cwd, TRAIN))
        options = ["-o", "remount,size=8m", str(cwd)]
        subprocess.run(["mount", *options], check=True)
        program.finish(cwd)
        require_same(cwd / "run", whole)


@pytest.mark.slow
def test_a_folder_that_is_a_mounted_disk(program: Program, cwd: Path, whole: Path) -> None:
    """It is there already, and cannot be renamed to."""
    (cwd / "run").mkdir()
    with small_disk(cwd / "run", 8 << 20):
        assert program.run(cwd, TRAIN).code == 0
        require_same(cwd / "run", whole)


@pytest.mark.slow
def test_an_empty_folder_that_fills_up_stays_empty(program: Program, cwd: Path) -> None:
    for at in range(1, 20):
        (cwd / "run").mkdir(exist_ok=True)
        require_refused(program.run(cwd, TRAIN, action="full", at=at))
        if os.listdir(cwd / "run"):
            assert at > 3
            return
    raise AssertionError("the folder was never filled")
