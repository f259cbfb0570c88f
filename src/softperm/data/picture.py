"""One picture from a file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import torch
from torch import Tensor

from softperm._checks import require_positive_int

if TYPE_CHECKING:
    from PIL.Image import Image

# Others are refused whatever their name: some are read by starting another program.
_FORMATS = ("PNG", "JPEG", "BMP", "WEBP")
_GREY_MODES = ("1", "L", "LA", "La", "F")


def read_image(path: str | Path, *, size: int | tuple[int, int] | None, channels: int) -> Tensor:
    """Read one picture as bytes.

    It is turned as its EXIF data say, transparency is laid on black, grey values of 16 bits are
    scaled to 8, and it is resized to cover `size` and cut to it in the middle.

    Arguments:
        path: The picture: PNG, JPEG, BMP or WebP, whatever its name.
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

    require_channels(channels)
    if size is not None and not isinstance(size, tuple):
        size = (size, size)
    if size is not None and len(size) != 2:
        raise ValueError(f"size must be a side or a pair (height, width), got {size}")
    if size is not None:
        size = (require_positive_int(size[0], "size"), require_positive_int(size[1], "size"))
    with _opened(path) as image:
        if image.has_transparency_data:
            image = _lay_on(image, 0)
        image = image.convert("L" if channels == 1 else "RGB")
    if size is not None and image.size != (size[1], size[0]):
        image = ImageOps.fit(image, (size[1], size[0]), Image.Resampling.LANCZOS)
    return _as_tensor(image)


def read_picture(path: str | Path | BinaryIO, *, most_pixels: int | None = None) -> Tensor:
    """Read one picture as bytes, of its own size and in its own colours.

    It is turned as its EXIF data say. Transparency is laid on black or on white, whichever makes
    the grey values differ more.

    Arguments:
        path: The picture: PNG, JPEG, BMP or WebP, whatever its name; or a file that is open for
            reading bytes.
        most_pixels: The most pixels that are decoded; None for as many as Pillow does.

    Returns:
        The picture, uint8, (1, H, W) when it is grey, else (3, H, W).

    Raises:
        ValueError: it cannot be read as a picture, or has more than `most_pixels`.
        OSError: there is no such file.

    Example:
        >>> read_picture("missing.png")
        Traceback (most recent call last):
        ...
        FileNotFoundError: missing.png is no file
    """
    with _opened(path, most_pixels) as image:
        grey = image.mode in _GREY_MODES
        if image.has_transparency_data:
            image = max((_lay_on(image, level) for level in (0, 255)), key=_contrast)
        image = image.convert("L" if grey else "RGB")
    return _as_tensor(image)


def require_channels(channels: int) -> None:
    """Refuse all but grey and colour."""
    if channels not in (1, 3):
        raise ValueError(f"channels must be 1 or 3, got {channels}")


@contextmanager
def _opened(path: str | Path | BinaryIO, most_pixels: int | None = None) -> Iterator[Image]:
    """The picture, upright and with at most 8 bits per channel; what goes wrong is a ValueError."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    name = path if isinstance(path, str | Path) else "the file"
    if isinstance(path, str | Path) and not Path(path).is_file():
        raise FileNotFoundError(f"{path} is no file")
    try:
        with Image.open(path, formats=_FORMATS) as file:
            if most_pixels is not None and file.width * file.height > most_pixels:
                raise ValueError(
                    f"it must have at most {most_pixels:,} pixels, got {file.width} x {file.height}"
                )
            yield _as_bytes(ImageOps.exif_transpose(file))
    except MemoryError:
        raise
    except UnidentifiedImageError as error:
        raise ValueError(
            f"{name} cannot be read as a picture: it is no PNG, JPEG, BMP or WebP"
        ) from error
    except Exception as error:  # Pillow's readers raise anything at what is damaged
        raise ValueError(f"{name} cannot be read as a picture: {error}") from error


def _as_bytes(image: Image) -> Image:
    """Grey values of 16 bits in 8."""
    from PIL import Image

    if not image.mode.startswith("I"):
        return image
    wide = np.array(image, dtype=np.float64) * (255 / 65535)
    return Image.fromarray(wide.clip(0, 255).round().astype(np.uint8))


def _lay_on(image: Image, level: int) -> Image:
    """The picture on a background of one grey level."""
    from PIL import Image

    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, (level, level, level, 255)), image)


def _contrast(image: Image) -> float:
    """The standard deviation of the grey values."""
    return float(np.asarray(image.convert("L"), dtype=np.float64).std())


def _as_tensor(image: Image) -> Tensor:
    """Pixels of a grey or coloured picture, (C, H, W)."""
    pixels = torch.from_numpy(np.array(image))
    return pixels.unsqueeze(0) if pixels.dim() == 2 else pixels.permute(2, 0, 1).contiguous()
