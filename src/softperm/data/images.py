"""One name for every source of images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from softperm._checks import require_positive_int
from softperm._resize import stretch, stretched_size
from softperm.data.digits import load_digits
from softperm.data.folder import load_folder, load_folder_test
from softperm.data.imagedata import ImageData, with_statistics
from softperm.data.imagelist import Images
from softperm.data.mnist import load_mnist, load_mnist_test
from softperm.data.reading import Progress

__all__ = ["ImageData", "load_images", "load_test_images"]

_NAMED = ("digits", "mnist")


def load_images(
    data: str,
    *,
    size: int | None = None,
    channels: int | None = None,
    multiple: int = 1,
    seed: int = 0,
    test_fraction: float = 0.1,
    progress: Progress | None = None,
) -> ImageData[Any]:
    """Load the images called `data`.

    Arguments:
        data: "digits" (embedded), "mnist", or the path of a folder of images.
        size: Side in pixels: that to which the images of a folder are brought, 64 when omitted;
            8 or 28 for digits, 8 when omitted.
        channels: Channels to which they are converted, 1 or 3; 3 when omitted.
        multiple: Sides that are no multiple of this are stretched to the next one.
        seed: Seed of the split of a folder without `train` and `test`.
        test_fraction: Share of the pictures of such a folder that are for the test.
        progress: As in `load_folder`.

    Returns:
        The images: tensors, or `Images` of a folder.

    Raises:
        TypeError: `size` is not an int.
        ValueError: `size` or `channels` is not that of the named data set, an argument is out of
            range, or the data are damaged.
        OSError: the data cannot be found or downloaded, or there is no room for the cache.

    Example:
        >>> load_images("digits").train.shape
        torch.Size([1500, 1, 8, 8])
    """
    if data not in _NAMED:
        options = _folder_options(data, size, channels, multiple)
        return load_folder(
            data, **options, test_fraction=test_fraction, seed=seed, progress=progress
        )
    images = _load_named(data, size, channels)
    if all(side % multiple == 0 for side in images.train.shape[-2:]):
        return images
    return with_statistics(stretch(images.train, multiple), stretch(images.test, multiple))


def load_test_images(
    data: str,
    *,
    size: int | None = None,
    channels: int | None = None,
    multiple: int = 1,
    progress: Progress | None = None,
) -> Tensor | Images:
    """The test images of `load_images`, uint8, (M, C, H, W).

    Arguments:
        data: As in `load_images`. Of "mnist", and of a folder with `train` and `test`, the training
            images need not be there.
        size: As in `load_images`.
        channels: As in `load_images`.
        multiple: As in `load_images`.
        progress: As in `load_folder`.

    Raises:
        TypeError, ValueError, OSError: as `load_images`.

    Example:
        >>> load_test_images("digits").shape
        torch.Size([297, 1, 8, 8])
    """
    if data == "mnist" and size in (None, 28) and channels in (None, 1):
        return stretch(load_mnist_test(), multiple)
    if data in _NAMED:
        named = _load_named(data, size, channels)
        return stretch(named.test, multiple)
    return load_folder_test(
        data, **_folder_options(data, size, channels, multiple), progress=progress
    )


def _folder_options(
    data: str, size: int | None, channels: int | None, multiple: int
) -> dict[str, Any]:
    """Size and channels of the images of a folder, which must be there."""
    if not Path(data).exists():
        raise FileNotFoundError(
            f"data must be digits, mnist or the path of a folder, but {data} is no folder"
        )
    side = 64 if size is None else require_positive_int(size, "size")
    return {
        "size": stretched_size(side, side, multiple)[0],
        "channels": 3 if channels is None else channels,
    }


def _load_named(data: str, size: int | None, channels: int | None) -> ImageData[Tensor]:
    """The digits or MNIST."""
    if channels not in (None, 1):
        raise ValueError(f"channels of {data} is 1, got {channels}")
    if data == "digits":
        return load_digits() if size is None else load_digits(size)
    if size not in (None, 28):
        raise ValueError(f"size of mnist is 28, got {size}")
    return load_mnist()
