"""What several tests of the program need."""

from __future__ import annotations

from pathlib import Path

import pytest

from softperm.program.training.lock import Busy, locked


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
