"""One writer a run folder; a lock ends with its process."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from softperm import _lock
from softperm._lock import Busy, locked


def test_the_second_is_told_who_is_first(tmp_path: Path) -> None:
    with locked(tmp_path) as held:
        assert held.is_current()
        with pytest.raises(Busy, match=f"is in use by process {os.getpid()} on "), locked(tmp_path):
            pass
        assert (tmp_path / ".lock").exists()
    assert list(tmp_path.iterdir()) == []


def test_a_stale_file_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("process 1 on a machine that was switched off, long ago\n")
    with locked(tmp_path):
        assert (tmp_path / ".lock").read_text().startswith(f"process {os.getpid()} on ")


@pytest.mark.parametrize("replaced", [False, True])
def test_a_folder_that_is_no_longer_the_same(tmp_path: Path, replaced: bool) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with locked(folder) as held:
        shutil.rmtree(folder)
        if replaced:
            folder.mkdir()
            (folder / ".lock").write_text("of another process")
        with pytest.raises(FileNotFoundError, match="run was removed or replaced"):
            held.require_current()
    assert folder.exists() == (folder / ".lock").exists() == replaced


def test_where_locks_are_not_known_there_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(handle: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(_lock, "_lock", refuse)
    with locked(tmp_path):
        pass
    assert "cannot be locked: start nothing else on it" in caplog.text
