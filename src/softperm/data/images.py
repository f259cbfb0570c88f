"""One name for every source of images."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from softperm.data.digits import load_digits
from softperm.data.folder import load_folder
from softperm.data.imagedata import ImageData
from softperm.data.mnist import load_mnist, load_mnist_test

__all__ = ["ImageData", "load_images", "load_test_images"]


def load_images(
    data: str,
    *,
    size: int | None = None,
    channels: int | None = None,
    seed: int = 0,
    test_fraction: float = 0.1,
) -> ImageData:
    """Load the images called `data`.

    Arguments:
        data: "digits" (embedded), "mnist", or the path of a folder of images.
        size: Side in pixels: that to which the images of a folder are brought, 64 when omitted;
            8 or 28 for digits, 8 when omitted.
        channels: Channels to which they are converted, 1 or 3; 3 when omitted.
        seed: Seed of the split of a folder without `train` and `test`.
        test_fraction: Share of the pictures of such a folder that are for the test.

    Returns:
        The images.

    Raises:
        TypeError: `size` is not an int.
        ValueError: `size` or `channels` is not that of the named data set, an argument is out of
            range, or the data are damaged.
        OSError: the data cannot be found or downloaded.

    Example:
        >>> load_images("digits").train.shape
        torch.Size([1500, 1, 8, 8])
    """
    if data not in ("digits", "mnist"):
        if not Path(data).exists():
            raise FileNotFoundError(
                f"data must be digits, mnist or the path of a folder, but {data} is no folder"
            )
        return load_folder(
            data,
            size=64 if size is None else size,
            channels=3 if channels is None else channels,
            test_fraction=test_fraction,
            seed=seed,
        )
    if channels not in (None, 1):
        raise ValueError(f"channels of {data} is 1, got {channels}")
    if data == "digits":
        return load_digits() if size is None else load_digits(size)
    if size not in (None, 28):
        raise ValueError(f"size of mnist is 28, got {size}")
    return load_mnist()


def load_test_images(data: str, *, size: int | None = None, channels: int | None = None) -> Tensor:
    """The test images of `load_images`, uint8, (M, C, H, W).

    Arguments:
        data: As in `load_images`. Of "mnist" the training images need not be there.
        size: As in `load_images`.
        channels: As in `load_images`.

    Raises:
        TypeError, ValueError, OSError: as `load_images`.

    Example:
        >>> load_test_images("digits").shape
        torch.Size([297, 1, 8, 8])
    """
    if data == "mnist" and size in (None, 28) and channels in (None, 1):
        return load_mnist_test()
    return load_images(data, size=size, channels=channels).test
