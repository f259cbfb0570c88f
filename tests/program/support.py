"""What several tests of the program need."""

from __future__ import annotations

from pathlib import Path

import pytest

from softperm._lock import Busy, locked
from softperm.program.cli import main


def error_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that was written about an error."""
    text = capsys.readouterr().err
    assert text.startswith("softperm: error: ")
    assert text.count("\n") == 1
    return text


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The line in which the program refuses arguments."""
    assert main(arguments) in (1, 2)
    return error_line(capsys)


def busy_when_renamed(monkeypatch: pytest.MonkeyPatch) -> dict[Path, bool]:
    """Every folder that gets its name from now on, and whether it was in use at that moment."""
    busy: dict[Path, bool] = {}
    rename = Path.rename

    def renamed(path: Path, target: Path) -> Path:
        new = rename(path, target)
        if new.is_dir():
            try:
                with locked(new):
                    busy[new] = False
            except Busy:
                busy[new] = True
        return new

    monkeypatch.setattr(Path, "rename", renamed)
    return busy
