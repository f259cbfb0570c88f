"""Any folder of images."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from softperm._checks import require_positive_int
from softperm.data.imagedata import ImageData, with_statistics

if TYPE_CHECKING:
    from PIL.Image import Image

_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp"}
_NAMED = 10
_log = logging.getLogger("softperm")


def read_image(path: str | Path, *, size: int | tuple[int, int] | None, channels: int) -> Tensor:
    """One picture as bytes.

    It is turned as its EXIF data say, transparency is laid on black, grey values of 16 bits are
    scaled to 8, and it is resized to cover `size` and cut to it in the middle.

    Arguments:
        path: The picture, in any format that Pillow reads.
        size: Side, or height and width, in pixels; None leaves the picture's own.
        channels: 1 for grey, 3 for colour.

    Returns:
        The picture, uint8, (channels, H, W).

    Raises:
        TypeError: `size` is neither an int nor a pair of ints.
        ValueError: it cannot be read as a picture, or `size` or `channels` is out of range.
        OSError: there is no such file.

    Example:
        >>> read_image("missing.png", size=8, channels=1)
        Traceback (most recent call last):
        ...
        FileNotFoundError: missing.png is no file
    """
    from PIL import Image, ImageOps

    _require_channels(channels)
    if size is not None and not isinstance(size, tuple):
        size = (size, size)
    if size is not None and len(size) != 2:
        raise ValueError(f"size must be a side or a pair (height, width), got {size}")
    if size is not None:
        size = (require_positive_int(size[0], "size"), require_positive_int(size[1], "size"))
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} is no file")
    try:
        with Image.open(path) as file:
            image = _convert(ImageOps.exif_transpose(file), channels)
    except MemoryError:
        raise
    except Exception as error:  # Pillow's readers raise anything at what is damaged
        raise ValueError(f"{path} cannot be read as a picture: {error}") from error
    if size is not None and image.size != (size[1], size[0]):
        image = ImageOps.fit(image, (size[1], size[0]), Image.Resampling.LANCZOS)
    pixels = torch.from_numpy(np.array(image))
    return pixels.unsqueeze(0) if channels == 1 else pixels.permute(2, 0, 1).contiguous()


def _require_channels(channels: int) -> None:
    if channels not in (1, 3):
        raise ValueError(f"channels must be 1 or 3, got {channels}")


def _convert(image: Image, channels: int) -> Image:
    """Grey or colour in 8 bits, without transparency."""
    from PIL import Image

    if image.mode.startswith("I"):
        wide = np.array(image, dtype=np.float64) * (255 / 65535)
        image = Image.fromarray(wide.clip(0, 255).round().astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
    return image.convert("L" if channels == 1 else "RGB")


def load_folder(
    folder: str | Path,
    *,
    size: int = 64,
    channels: int = 3,
    test_fraction: float = 0.1,
    seed: int = 0,
) -> ImageData:
    """All pictures in a folder and its subfolders.

    Subfolders `train` and `test`, when both are there, are the split; otherwise a share of the
    pictures is drawn for the test. Pictures that cannot be read are named in a warning of the
    logger "softperm" and skipped.

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
    _require_channels(channels)
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
