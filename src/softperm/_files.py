"""Files and folders that are either the old ones or the new ones, whatever happens meanwhile."""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

_MARK = ".softperm-part"
_NOT_FOR_FOLDERS = (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES)
_TEMPORARY = re.compile(rf"\..*\.(?P<pid>\d+){re.escape(_MARK)}(\..*)?")


def _hidden_name(path: Path, pid: int) -> str:
    """A hidden name for `path` that tells which process writes there.

    It keeps the suffix, because some writers choose their format by it.
    """
    return f".{path.stem}.{pid}{_MARK}{path.suffix}"


def _temporary(path: Path) -> Path:
    """A path beside `path` for this process to write to."""
    return path.with_name(_hidden_name(path, os.getpid()))


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


def _sync_file(path: Path) -> None:
    """Bring what is in a file to the disk."""
    with path.open("r+b") as file:  # Windows brings to the disk only what may be written
        os.fsync(file.fileno())


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` to write to; it takes the name of `path` when all went well.

    File and name are on the disk when the block ends. A link stays one: the file that it leads to
    is replaced. A file that is there keeps its mode.
    """
    if path.is_symlink():
        path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else None
    try:
        if mode is not None and not mode & stat.S_IROTH:
            temporary.touch(0o600)  # nobody is to read meanwhile what others may not read
        yield temporary
        _sync_file(temporary)
        if mode is not None and mode != stat.S_IMODE(temporary.stat().st_mode):
            temporary.chmod(mode)
        temporary.replace(path)
        _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file in one step."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_numbered(
    folder: Path, stem: str, files: Mapping[str, Callable[[Path], object]]
) -> list[Path]:
    """Write files that belong together, under the first number at which all their names are free.

    A name is free until it is taken: of several processes that write at once each has its own.

    Arguments:
        folder: Where to; made where it is missing.
        stem: How the names begin: `stem`, or `stem-2`, `stem-3` and so on.
        files: How the names end, and what writes each file to a path.

    Returns:
        The files, in the same order.
    """
    folder.mkdir(parents=True, exist_ok=True)
    temporaries = {ending: _temporary(folder / f"{stem}{ending}") for ending in files}
    try:
        for ending, write in files.items():
            write(temporaries[ending])
            _sync_file(temporaries[ending])
        name, number = stem, 1
        while (taken := _take(folder / name, temporaries)) is None:
            number += 1
            name = f"{stem}-{number}"
        _sync_folder(folder)
        return taken
    finally:
        for temporary in temporaries.values():
            temporary.unlink(missing_ok=True)


def _take(base: Path, temporaries: Mapping[str, Path]) -> list[Path] | None:
    """Give every file its name, `base` and an ending; None where one of these is not free."""
    taken: list[Path] = []
    try:
        for ending, temporary in temporaries.items():
            path = base.with_name(f"{base.name}{ending}")
            _link(temporary, path)
            taken.append(path)
    except BaseException as error:
        for path in taken:
            path.unlink()
        if isinstance(error, FileExistsError):
            return None
        raise
    return taken


def _link(file: Path, path: Path) -> None:
    """Give a file one more name.

    Raises:
        FileExistsError: there is something of that name.
    """
    try:
        os.link(file, path)
    except FileExistsError:
        raise
    except OSError:  # the file system knows no links
        path.touch(exist_ok=False)
        try:
            shutil.copyfile(file, path)
        except BaseException:
            path.unlink(missing_ok=True)
            raise


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
    folder = folder.resolve()
    for path in [*folder.parent.glob(f".*{_MARK}*"), *folder.rglob(f".*{_MARK}*")]:
        match = _TEMPORARY.fullmatch(path.name)
        if match is None or _is_running(int(match["pid"])):
            continue
        beside = path.parent == folder.parent
        if beside and path.name != _hidden_name(folder, int(match["pid"])):
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
