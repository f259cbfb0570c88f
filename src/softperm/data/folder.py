"""Any folder of images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from softperm._checks import require_positive_int
from softperm.data.cache import load_source
from softperm.data.imagedata import ImageData, with_statistics
from softperm.data.imagelist import Images
from softperm.data.picture import require_channels
from softperm.data.reading import Progress, Source


def load_folder(
    folder: str | Path,
    *,
    size: int = 64,
    channels: int = 3,
    test_fraction: float = 0.1,
    seed: int = 0,
    progress: Progress | None = None,
) -> ImageData[Images]:
    """Load all pictures in a folder and its subfolders.

    Subfolders `train` and `test`, if there are both, are the split. Otherwise a share of the
    pictures is drawn for the test. Pictures that cannot be read are skipped, and the logger
    "softperm" names them in a warning.

    The pictures are read once, into a file in the user's cache. It is mapped into memory, so that
    the images need not fit there. When a picture was added, changed or removed, the file is made
    again. Where it cannot be written, the images are held in memory.

    Arguments:
        folder: Where the pictures are (PNG, JPEG, BMP, WebP), found at any depth.
        size: Side of the square in pixels to which they are resized and cut.
        channels: 1 for grey, 3 for colour.
        test_fraction: Share of the pictures for the test.
        seed: Seed of the split.
        progress: Shows how many pictures were read: gets a label and their number, and gives a
            context manager of a function that is told how many more were read.

    Returns:
        The images, as `Images`.

    Raises:
        TypeError: `size` is not an int.
        ValueError: an argument is out of range, or there are too few readable pictures.
        OSError: the folder is missing, or is no folder, or there is no room for the cache.

    Example:
        >>> load_folder("no/such/folder")
        Traceback (most recent call last):
        ...
        FileNotFoundError: no/such/folder is no folder
    """
    source = _source(folder, size, channels, test_fraction)
    if (parts := _parts(source)) is not None:
        train, test = (load_source(part, progress) for part in parts)
    else:
        train, test = _split(source, test_fraction, seed, progress)
    return with_statistics(train, test)


def load_folder_test(
    folder: str | Path,
    *,
    size: int = 64,
    channels: int = 3,
    test_fraction: float = 0.1,
    seed: int = 0,
    progress: Progress | None = None,
) -> Images:
    """The test images of `load_folder` alone; a subfolder `train` is not read."""
    source = _source(folder, size, channels, test_fraction)
    if (parts := _parts(source)) is not None:
        return load_source(parts[1], progress)
    return _split(source, test_fraction, seed, progress)[1]


def _source(folder: str | Path, size: int, channels: int, test_fraction: float) -> Source:
    """What is to be read, where that is possible."""
    folder = Path(folder)
    size = require_positive_int(size, "size")
    require_channels(channels)
    if not 0 < test_fraction < 1:
        raise ValueError(f"test_fraction must be between 0 and 1, got {test_fraction}")
    if not folder.is_dir():
        kind = NotADirectoryError if folder.exists() else FileNotFoundError
        raise kind(f"{folder} is no folder")
    return Source(folder, size, channels)


def _parts(source: Source) -> tuple[Source, Source] | None:
    """Subfolders for training and test, where there are both."""
    train, test = (replace(source, folder=source.folder / name) for name in ("train", "test"))
    return (train, test) if train.folder.is_dir() and test.folder.is_dir() else None


def _split(
    source: Source, test_fraction: float, seed: int, progress: Progress | None
) -> tuple[Images, Images]:
    """Training and test images, drawn from one folder."""
    images = load_source(source, progress)
    if len(images) < 2:
        raise ValueError(
            f"{source.folder} must hold at least 2 readable pictures, got {len(images)}"
        )
    n_test = min(max(1, round(test_fraction * len(images))), len(images) - 1)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    return images.take(order[n_test:]), images.take(order[:n_test])
