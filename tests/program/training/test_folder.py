"""A new run folder: whole, locked from its first moment, and made by one process alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from softperm._lock import Busy, locked
from softperm.program.training.folder import new_folder
from tests.program.support import busy_when_renamed


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
