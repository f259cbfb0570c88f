"""The folder of a new run, which nobody else gets hold of while it is made."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from softperm._files import appearing, write_text
from softperm._lock import Lock, locked
from softperm.program.schema import shorten

CONFIG = "config.yaml"  # the last file of a new run to be written: with it the run begins


@contextmanager
def new_folder(folder: Path, files: Mapping[str, str]) -> Iterator[Lock]:
    """Make a run folder that holds some text files, whole or not at all, and keep every other
    process from it: there is no moment at which it is there and free.

    Raises:
        Busy: another process was quicker, and writes to it.
        FileExistsError: the folder is there already.
        OSError: it cannot be written.
    """
    with ExitStack() as stack:
        try:
            with appearing(folder) as temporary:
                if os.name != "nt":  # a folder with an open file cannot be renamed there
                    lock = stack.enter_context(locked(temporary))
                for name, text in files.items():
                    write_text(temporary / name, text)
        except OSError as error:
            if not folder.exists():
                raise
            with locked(folder):
                raise FileExistsError(f"{folder} was made by another process meanwhile") from error
        if os.name == "nt":
            lock = stack.enter_context(locked(folder))
        lock.folder = folder
        yield lock


_IsLeft = Callable[[Path], bool]


def _nothing(path: Path) -> bool:
    return False


def require_new(folder: Path, left: _IsLeft = _nothing) -> None:
    """Refuse a folder that holds a run, or anything else.

    Arguments:
        folder: The folder; it may be missing or empty.
        left: Whether a file is one that a process left that was killed before its run began.

    Raises:
        ValueError: it holds something.
        NotADirectoryError: it is a file.
    """
    if (folder / CONFIG).exists():
        raise ValueError(
            f"{folder} holds a run already: add --resume to continue it, or give another --out"
        )
    if not folder.exists():
        return
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is no folder: give another --out")
    paths = [path for path in folder.iterdir() if not path.name.startswith(".")]
    others = sorted(path.name for path in paths if not left(path))
    if others:
        raise ValueError(
            f"{folder} is not empty, it holds {shorten(others[0], 60)}: give another --out"
        )


@contextmanager
def begin_run(folder: Path, files: Mapping[str, str], left: _IsLeft = _nothing) -> Iterator[Lock]:
    """Write the first files of a run, all of them or none, and keep every other process from it.

    An empty folder that is there already is filled; its run begins with `config.yaml`.

    Arguments:
        folder: The folder of the run.
        files: The files by name, `config.yaml` the last.
        left: As in `require_new`.

    Raises:
        ValueError: the folder holds something.
        Busy: another process was quicker.
        OSError: it cannot be written.
    """
    require_new(folder, left)
    make = _fill if folder.exists() else _appear
    with make(folder, files, left) as lock:
        yield lock


@contextmanager
def _appear(folder: Path, files: Mapping[str, str], left: _IsLeft) -> Iterator[Lock]:
    """The folder with these files, where nothing was."""
    with ExitStack() as stack:
        try:
            lock = stack.enter_context(new_folder(folder, files))
        except FileExistsError:  # another process was quicker
            require_new(folder, left)
            raise
        yield lock


@contextmanager
def _fill(folder: Path, files: Mapping[str, str], left: _IsLeft) -> Iterator[Lock]:
    """These files in a folder that is empty."""
    with locked(folder) as lock:
        require_new(folder, left)
        try:
            for name, text in files.items():
                write_text(folder / name, text)
        except BaseException:
            for name in reversed(list(files)):
                (folder / name).unlink(missing_ok=True)
            raise
        yield lock
