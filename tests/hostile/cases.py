"""What a hostile test does: a command that must be refused, in a folder made for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

DIGITS = ["--data", "digits", "--kernel_size", "3", "--device", "cpu"]
Prepare = Callable[[Path], None]


@dataclass(frozen=True)
class Case:
    """A command that must be refused.

    Arguments:
        name: What is wrong.
        argv: The command.
        prepare: Puts what is wrong into the folder that the command runs in.
    """

    name: str
    argv: list[str]
    prepare: Prepare = lambda folder: None


def things(folder: Path) -> None:
    """Things that may be named by mistake."""
    (folder / "file.txt").write_text("a text")
    (folder / "empty").mkdir()
    (folder / "full").mkdir()
    (folder / "full" / "mine.txt").write_text("a text")


def writing(name: str, data: bytes) -> Prepare:
    def prepare(folder: Path) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    return prepare
