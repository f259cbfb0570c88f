"""One writer per folder."""

from __future__ import annotations

import errno
import logging
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_NAME = ".lock"
_UNSUPPORTED = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)
_log = logging.getLogger("softperm")


class Busy(OSError):  # noqa: N818 - it says what the folder is
    """Another process is writing to the folder."""


if sys.platform == "win32":
    import msvcrt

    def _lock(handle: int) -> None:
        os.lseek(handle, 1 << 30, os.SEEK_SET)  # far behind the text, which others may read
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        os.lseek(handle, 0, os.SEEK_SET)
else:
    import fcntl

    def _lock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


_held: set[int] = set()  # handles; a lock lives as long as any process has its handle open


def _let_go() -> None:
    """Close in a forked process what its parent locked."""
    for handle in _held:
        os.close(handle)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)


@dataclass
class Lock:
    """The right to write to a folder, which stays when the folder gets another name."""

    folder: Path
    handle: int

    @property
    def file(self) -> Path:
        """The file that is locked."""
        return self.folder / _NAME

    def is_current(self) -> bool:
        """Whether the locked file is the one in the folder."""
        try:
            there, mine = self.file.stat(), os.fstat(self.handle)
        except FileNotFoundError:
            return False
        return (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino)

    def require_current(self) -> None:
        """Refuse to write to a folder that is no longer the one that was locked.

        Raises:
            FileNotFoundError: it was removed, or replaced by another.
        """
        if not self.is_current():
            raise FileNotFoundError(f"{self.folder} was removed or replaced while it was in use")


def _open(folder: Path) -> Lock:
    """The lock of a folder, once no other process has it.

    The system lets go of a lock when its process ends, however it ends: a file that a killed
    process left is simply locked again.
    """
    while True:
        lock = Lock(folder, os.open(folder / _NAME, os.O_RDWR | os.O_CREAT, 0o644))
        try:
            _lock(lock.handle)
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                holder = ""
                with suppress(OSError):
                    holder = os.read(lock.handle, 200).decode("utf-8", "replace").strip()
                os.close(lock.handle)
                raise Busy(f"{folder} is in use by {holder or 'another process'}") from error
            _log.warning("%s cannot be locked: start nothing else on it", folder)
        if lock.is_current():
            return lock
        os.close(lock.handle)  # of a process that has just finished and removed the file


@contextmanager
def locked(folder: Path) -> Iterator[Lock]:
    """Keep every other process from writing to a folder.

    Raises:
        Busy: another process does.
        OSError: the folder cannot be written to.
    """
    lock = _open(folder)
    _held.add(lock.handle)
    try:
        os.ftruncate(lock.handle, 0)
        os.write(lock.handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        yield lock
    finally:
        _remove(lock)


def _remove(lock: Lock) -> None:
    """Let go of the folder, leaving no file behind."""
    if lock.handle not in _held:  # in a forked process
        return
    _held.discard(lock.handle)
    mine = lock.is_current()
    if os.name == "nt":  # an open file cannot be removed there
        os.close(lock.handle)
    if mine:
        with suppress(OSError):
            lock.file.unlink()
    if os.name != "nt":
        os.close(lock.handle)
