"""The pictures that a folder holds, and what tells that they are still the same."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")


class File(NamedTuple):
    """A file that may be a picture.

    Arguments:
        path: The file.
        name: Its name as the folder knows it, with those of subfolders.
        size: Bytes; -1 where a link leads nowhere.
        modified: When it was modified, in nanoseconds; -1 likewise.
    """

    path: Path
    name: str
    size: int
    modified: int


def list_files(folder: Path, above: str = "") -> Iterator[File]:
    """Files named like pictures, in the folder and below, in the order of their paths.

    No list of them all is made. A subfolder that may not be read is left out.
    """
    entries: list[os.DirEntry[str]] = []
    with suppress(PermissionError), os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: os.path.normcase(entry.name))
    for entry in entries:
        name = f"{above}{entry.name}"
        if entry.is_dir():
            if not entry.is_symlink():
                yield from list_files(folder / entry.name, f"{name}/")
        elif os.path.splitext(entry.name)[1].lower() in SUFFIXES:
            yield _look_at(Path(entry.path), name)


def _look_at(path: Path, name: str) -> File:
    try:
        state = path.stat()
    except OSError:
        return File(path, name, -1, -1)
    return File(path, name, state.st_size, state.st_mtime_ns)


class Fingerprint:
    """A checksum of a listing.

    Arguments:
        purpose: What the listing is for; another one gives another checksum.
    """

    def __init__(self, purpose: str) -> None:
        self._sum = hashlib.sha256(f"{purpose}\0".encode())
        self.n_files = 0

    def add(self, file: File) -> None:
        """Count a file in."""
        self.n_files += 1
        self._sum.update(os.fsencode(file.name) + f"\0{file.size}\0{file.modified}\0".encode())

    def value(self) -> str:
        """The checksum of the files so far."""
        return self._sum.hexdigest()
