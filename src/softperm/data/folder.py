"""Any folder of images."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from softperm._checks import require_positive_int
from softperm.data.imagedata import ImageData, with_statistics
from softperm.data.picture import read_image, require_channels

_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp"}
_NAMED = 10
_log = logging.getLogger("softperm")


def load_folder(
    folder: str | Path,
    *,
    size: int = 64,
    channels: int = 3,
    test_fraction: float = 0.1,
    seed: int = 0,
) -> ImageData:
    """Load all pictures in a folder and its subfolders.

    Subfolders `train` and `test`, if there are both, are the split. Otherwise a share of the
    pictures is drawn for the test. Pictures that cannot be read are skipped, and the logger
    "softperm" names them in a warning.

    Arguments:
        folder: Where the pictures are (PNG, JPEG, BMP, WebP), found at any depth.
        size: Side of the square in pixels to which they are resized and cut.
        channels: 1 for grey, 3 for colour.
        test_fraction: Share of the pictures for the test.
        seed: Seed of the split.

    Returns:
        The images.

    Raises:
        TypeError: `size` is not an int.
        ValueError: an argument is out of range, or there are too few readable pictures.
        OSError: the folder is missing, or is no folder.

    Example:
        >>> load_folder("no/such/folder")
        Traceback (most recent call last):
        ...
        FileNotFoundError: no/such/folder is no folder
    """
    folder = Path(folder)
    size = require_positive_int(size, "size")
    require_channels(channels)
    if not 0 < test_fraction < 1:
        raise ValueError(f"test_fraction must be between 0 and 1, got {test_fraction}")
    if not folder.is_dir():
        kind = NotADirectoryError if folder.exists() else FileNotFoundError
        raise kind(f"{folder} is no folder")
    parts = (folder / "train", folder / "test")
    if all(part.is_dir() for part in parts):
        train, test = (_read_all(part, size, channels) for part in parts)
        return with_statistics(train, test)
    images = _read_all(folder, size, channels)
    if len(images) < 2:
        raise ValueError(f"{folder} must hold at least 2 readable pictures, got {len(images)}")
    n_test = min(max(1, round(test_fraction * len(images))), len(images) - 1)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    return with_statistics(images[order[n_test:]], images[order[:n_test]])


def _read_all(folder: Path, size: int, channels: int) -> Tensor:
    """Every readable picture below `folder`, in the order of their names."""
    paths = sorted(
        path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES and not path.is_dir()
    )
    # Filled in place: a list of tensors would need the memory twice when stacked.
    images = torch.empty(len(paths), channels, size, size, dtype=torch.uint8)

    def read(index: int) -> str | None:
        """The reason why the picture had to be skipped."""
        try:
            images[index] = read_image(paths[index], size=size, channels=channels)
        except (ValueError, OSError) as error:
            return str(error)
        return None

    with ThreadPoolExecutor() as pool:
        reasons = list(pool.map(read, range(len(paths))))
    readable = [index for index, reason in enumerate(reasons) if reason is None]
    _warn_of_skipped([reason for reason in reasons if reason is not None], len(paths))
    if not readable:
        raise ValueError(
            f"{folder} must hold pictures ({', '.join(sorted(_SUFFIXES))}), got "
            f"{len(paths)} such files, none of them readable"
        )
    return images if len(readable) == len(paths) else images[readable]


def _warn_of_skipped(reasons: Sequence[str], n_files: int) -> None:
    for reason in reasons[:_NAMED]:
        _log.warning("skipped: %s", reason)
    if len(reasons) > _NAMED:
        _log.warning("... and %d more", len(reasons) - _NAMED)
    if reasons:
        _log.warning("skipped %d of %d pictures", len(reasons), n_files)
