"""All pictures of a folder, read by several threads."""

from __future__ import annotations

import logging
import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from softperm.data.imagelist import Pixels
from softperm.data.listing import SUFFIXES, File, Fingerprint, list_files
from softperm.data.picture import read_image

# Is told what is done and how often, and gives what is told how often it was done since.
Progress = Callable[[str, int], AbstractContextManager[Callable[[int], object]]]

_NAMED = 10
_AHEAD = 2**26  # bytes of pictures that wait to be written
_log = logging.getLogger("softperm")


@dataclass(frozen=True)
class Source:
    """The pictures of a folder, as they are wanted.

    Arguments:
        folder: Where they are, at any depth.
        size: Side of the square in pixels to which they are resized and cut.
        channels: 1 for grey, 3 for colour.
    """

    folder: Path
    size: int
    channels: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of an image."""
        return self.channels, self.size, self.size

    def read(self, file: File) -> Pixels | str:
        """An image, or the reason why there is none."""
        try:
            return read_image(file.path, size=self.size, channels=self.channels).numpy()
        except (ValueError, OSError) as error:
            return str(error)


@dataclass
class Account:
    """What was read.

    Arguments:
        key: Checksum of the listing.
        n_files: Files that were tried.
        n_skipped: Files that are no readable pictures.
        reasons: Why the first of these were skipped.
    """

    key: str
    n_files: int
    n_skipped: int
    reasons: list[str]

    def warn(self) -> None:
        """Name the files that were skipped."""
        for reason in self.reasons:
            _log.warning("skipped: %s", reason)
        if self.n_skipped > len(self.reasons):
            _log.warning("... and %d more", self.n_skipped - len(self.reasons))
        if self.n_skipped:
            _log.warning("skipped %d of %d pictures", self.n_skipped, self.n_files)


def read_all(
    source: Source,
    write: Callable[[Pixels], object],
    fingerprint: Fingerprint,
    advance: Callable[[int], object],
) -> Account:
    """Write every readable picture, in the order of their paths.

    Arguments:
        source: The pictures.
        write: Is given one image after the other, (C, H, W).
        fingerprint: A new one; every file is counted in before it is read.
        advance: Is told how many more were read.

    Raises:
        ValueError: there is no readable picture.
    """
    n_skipped, reasons = 0, list[str]()
    for found in _in_order(source, _counted(source.folder, fingerprint)):
        advance(1)
        if not isinstance(found, str):
            write(found)
            continue
        n_skipped += 1
        reasons += [found][: _NAMED - len(reasons)]
    account = Account(fingerprint.value(), fingerprint.n_files, n_skipped, reasons)
    if n_skipped == account.n_files:
        account.warn()
        raise ValueError(
            f"{source.folder} must hold pictures ({', '.join(SUFFIXES)}), got "
            f"{account.n_files} such files, none of them readable"
        )
    return account


def _counted(folder: Path, fingerprint: Fingerprint) -> Iterator[File]:
    for file in list_files(folder):
        fingerprint.add(file)
        yield file


def _in_order(source: Source, files: Iterable[File]) -> Iterator[Pixels | str]:
    """What becomes of the files; only some of them are held at a time.

    Threads do as well as processes: Pillow decodes and resizes without Python's lock.
    """
    ahead = max(2 * (os.cpu_count() or 1), min(1024, _AHEAD // math.prod(source.shape)))
    waiting: deque[Future[Pixels | str]] = deque()
    with ThreadPoolExecutor() as pool:
        try:
            for file in files:
                waiting.append(pool.submit(source.read, file))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
