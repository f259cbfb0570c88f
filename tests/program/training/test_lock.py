"""One writer a run folder; a lock ends with its process."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from softperm.program.training import lock
from softperm.program.training.lock import Busy, locked, new_folder
from tests.program.support import busy_when_renamed


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

    monkeypatch.setattr(lock, "_lock", refuse)
    with locked(tmp_path):
        pass
    assert "cannot be locked: start nothing else on it" in caplog.text


def test_a_new_folder_appears_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    busy = busy_when_renamed(monkeypatch)
    folder = tmp_path / "a" / "run"
    with new_folder(folder, {"one.txt": "1", "two.txt": "2"}) as held:
        assert held.folder == folder
        assert held.is_current()
        assert sorted(path.name for path in folder.iterdir()) == [".lock", "one.txt", "two.txt"]
    assert busy[folder]
    assert sorted(path.name for path in folder.iterdir()) == ["one.txt", "two.txt"]
    with locked(folder):  # which is free again
        pass


def test_of_two_that_make_a_folder_one_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with (
        new_folder(folder, {"mine.txt": ""}),
        pytest.raises(Busy, match="is in use by process"),
        new_folder(folder, {"other.txt": ""}),
    ):
        pass
    with (
        pytest.raises(FileExistsError, match="run was made by another process"),
        new_folder(folder, {"other.txt": ""}),
    ):
        pass
    assert [path.name for path in tmp_path.rglob("*")] == ["run", "mine.txt"]


def test_what_cannot_be_made_leaves_nothing(tmp_path: Path) -> None:
    with (
        pytest.raises(OSError, match="too long"),
        new_folder(tmp_path / "run", {"x" * 1000: ""}),
    ):
        pass
    assert list(tmp_path.iterdir()) == []
