"""Folders of pictures, read once into a file that is mapped into memory afterwards.

The file holds the pixels of all images, then their description in JSON, then `_END`: the length
and the checksum of the description, and a mark. When it is opened the mark, the checksum of the
description, the length of the file and the listing of the folder are compared. The pixels are
compared with their checksum once, after they were written.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import math
import os
import re
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np

from softperm._files import remove_leftovers, replacing
from softperm._lock import Busy, locked
from softperm.data.imagelist import Images, Pixels
from softperm.data.listing import Fingerprint, list_files
from softperm.data.reading import Account, Progress, Source, read_all

_VERSION = 1  # of the file, and of how pictures become images
_MARK = b"softperm-images\n"
_END = struct.Struct("<QI16s")
_PART = 2**20  # bytes that are read at a time
_READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)
_SECONDS_A_TRY = 0.1
_log = logging.getLogger("softperm")

Show = Callable[[], AbstractContextManager[Callable[[int], object]]]


@dataclass(frozen=True)
class _Description:
    """What a file of the cache holds besides the pixels."""

    account: Account
    shape: tuple[int, int, int, int]
    checksum: int  # CRC-32 of the pixels


def user_cache() -> Path:
    """Where the user's programs keep what they can make again."""
    import pooch

    return Path(pooch.os_cache("softperm"))


def load_source(source: Source, progress: Progress | None = None) -> Images:
    """All readable pictures of a folder, from the cache, which is made where it is needed.

    Where the cache cannot be written to they are held in memory, with a warning.

    Arguments:
        source: The pictures.
        progress: Shows how many were read, where they have to be.

    Raises:
        ValueError: there is no readable picture.
        OSError: there is no room on the disk.
    """
    listing = _fingerprint(source)
    for file in list_files(source.folder):
        listing.add(file)
    reading = progress or (lambda label, total: nullcontext(lambda number: None))
    show = partial(reading, "reading pictures", listing.n_files)
    try:
        return _cached(source, listing.value(), show)
    except OSError as error:
        if error.errno not in _READ_ONLY:
            raise
        _log.warning("the images of %s are held in memory: %s", source.folder, error)
    with show() as advance:
        return _in_memory(source, advance)


def _cached(source: Source, key: str, show: Show) -> Images:
    """The images in the file of the cache, which is made where it does not fit the key."""
    path = _path(source)
    images = _open(path, key, quiet=True)
    if images is not None:
        return images
    with _naming(path), _alone(path.parent):
        # Another process may have made it meanwhile; without locks it may also have removed it.
        while (images := _open(path, key)) is None:
            with show() as advance:
                key = _make(path, source, advance)
    return images


def _fingerprint(source: Source) -> Fingerprint:
    return Fingerprint(f"{_VERSION} {source.channels} {source.size}")


def _path(source: Source) -> Path:
    """The file of the cache, in a folder that tells which pictures it is for."""
    folder = source.folder.resolve()
    name = re.sub(r"[^\w.-]", "_", folder.name)[:40]
    which = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    size, channels = source.size, source.channels
    return user_cache() / "folders" / f"{name}-{which}" / f"{size}x{size}x{channels}.images"


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Make a folder of the cache, and wait until no other process writes to it.

    It is removed again where nothing was put into it.
    """
    with ExitStack() as stack:
        stack.callback(_remove_empty, folder)
        waited = False
        while True:
            folder.mkdir(parents=True, exist_ok=True)
            try:
                stack.enter_context(locked(folder))
                break
            except FileNotFoundError:  # removed by another process, which failed
                continue
            except Busy:
                if not waited:
                    _log.warning("waiting for another process that reads pictures to %s", folder)
                waited = True
                time.sleep(_SECONDS_A_TRY)
        remove_leftovers(folder)
        yield


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


def _make(path: Path, source: Source, advance: Callable[[int], object]) -> str:
    """Read all pictures into a file of the cache; return the key of those that were read."""
    path.unlink(missing_ok=True)  # of another listing: the disk need not hold both
    with replacing(path) as temporary:
        with temporary.open("wb") as file:
            pixels = _Checked(file)
            account = read_all(source, pixels.write, _fingerprint(source), advance)
            shape = (account.n_files - account.n_skipped, *source.shape)
            description = _Description(account, shape, pixels.checksum)
            text = json.dumps(asdict(description)).encode()
            file.write(text + _END.pack(len(text), zlib.crc32(text), _MARK))
        _require_kept(temporary, description)
    return account.key


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Let errors of the system name the file, which those of writing do not."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


class _Checked:
    """A file that images are written to, and the checksum of what should be in it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.checksum = file, 0

    def write(self, image: Pixels) -> None:
        """Write an image."""
        self._file.write(image.data)
        self.checksum = zlib.crc32(image.data, self.checksum)


def _require_kept(path: Path, description: _Description) -> None:
    """Compare the pixels in a file with their checksum.

    Raises:
        OSError: they are not those that were written.
    """
    checksum, left = 0, math.prod(description.shape)
    with path.open("rb") as file:
        while left > 0 and (part := file.read(min(_PART, left))):
            checksum, left = zlib.crc32(part, checksum), left - len(part)
    if left > 0 or checksum != description.checksum:
        raise OSError(f"{path} is not what was written to it: the disk may be damaged")


def _open(path: Path, key: str, *, quiet: bool = False) -> Images | None:
    """The images in a file of the cache; None where it is not there, damaged, or of other files.

    Damage is warned of, unless it is to be quiet.
    """
    try:
        with path.open("rb") as file:
            description = _describe(file)
            if description.account.key != key:
                return None
            pixels = np.memmap(file, np.uint8, "r", shape=description.shape)
    except FileNotFoundError:
        return None
    except ValueError as error:
        if not quiet:
            _log.warning("%s is damaged, and made again: %s", path, error)
        return None
    description.account.warn()
    return Images(pixels, reopen=partial(_map, path, key))


def _map(path: Path, key: str) -> Pixels:
    """The pixels in a file of the cache."""
    with path.open("rb") as file:
        description = _describe(file)
        if description.account.key != key:
            raise ValueError(f"{path} was replaced while it was in use")
        return np.memmap(file, np.uint8, "r", shape=description.shape)


def _describe(file: BinaryIO) -> _Description:
    """What a file of the cache says of itself.

    Raises:
        ValueError: it is damaged.
    """
    length = file.seek(0, os.SEEK_END)
    if length < _END.size:
        raise ValueError(f"it has {length} bytes")
    file.seek(length - _END.size)
    n_text, checksum, mark = _END.unpack(file.read(_END.size))
    if mark != _MARK or n_text > length - _END.size:
        raise ValueError("it does not end as such a file does")
    file.seek(length - _END.size - n_text)
    text = file.read(n_text)
    if zlib.crc32(text) != checksum:
        raise ValueError("its description does not have the checksum it had")
    values = json.loads(text)
    try:
        description = _Description(**values | {"account": Account(**values["account"])})
    except (KeyError, TypeError) as error:
        raise ValueError("it was written by another version") from error
    if math.prod(description.shape) + n_text + _END.size != length:
        raise ValueError(f"it has {length} bytes, not those that its images take")
    return description


def _in_memory(source: Source, advance: Callable[[int], object]) -> Images:
    """All readable pictures, without the cache."""
    data = bytearray()
    account = read_all(source, lambda image: data.extend(image.data), _fingerprint(source), advance)
    account.warn()
    return Images(np.frombuffer(data, np.uint8).reshape(-1, *source.shape))
