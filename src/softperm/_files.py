"""Files and folders that are either the old ones or the new ones, whatever happens meanwhile."""

from __future__ import annotations

import errno
import glob
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_MARK = ".softperm-part"
_NOT_FOR_FOLDERS = (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES)
_TEMPORARY = re.compile(rf"\..*\.(?P<pid>\d+){re.escape(_MARK)}(\..*)?")


def _temporary(path: Path) -> Path:
    """A hidden name beside `path` that tells which process writes there.

    It keeps the suffix, because some writers choose their format by it.
    """
    return path.with_name(f".{path.stem}.{os.getpid()}{_MARK}{path.suffix}")


def _sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk, where system and file system have a way to."""
    if os.name == "nt":
        return
    try:
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno not in _NOT_FOR_FOLDERS:
            raise


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` to write to; it takes the name of `path` when all went well.

    File and name are on the disk when the block ends.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    try:
        yield temporary
        with temporary.open("r+b") as file:  # Windows brings to the disk only what may be written
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file in one step."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def appearing(folder: Path) -> Iterator[Path]:
    """A temporary folder to fill; it takes the name of `folder` when all went well.

    Where that fails nothing is left, not even the folders above that had to be made.

    Raises:
        OSError: `folder` is there already, or something cannot be written.
    """
    folder = folder.resolve()
    temporary = _temporary(folder)
    above = [parent for parent in folder.parents if not parent.exists()]
    try:
        temporary.mkdir(parents=True)
        yield temporary
        _sync_folder(temporary)
        temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        for parent in above:
            with suppress(OSError):
                parent.rmdir()
        raise
    _sync_folder(folder.parent)


def remove_leftovers(folder: Path) -> None:
    """Remove the temporaries that killed processes left in a folder, or beside it for a new one.

    To be called before this process writes there.
    """
    beside = folder.parent.glob(f".{glob.escape(folder.name)}.*{_MARK}*")
    for path in [*beside, *folder.rglob(f".*{_MARK}*")]:
        match = _TEMPORARY.fullmatch(path.name)
        if match is None or _is_running(int(match["pid"])):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(PermissionError):  # open elsewhere, on Windows
                path.unlink(missing_ok=True)


def _is_running(pid: int) -> bool:
    """Whether another process has this number."""
    if pid == os.getpid() or os.name == "nt":  # on Windows a file that is open cannot be removed
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True
