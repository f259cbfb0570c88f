"""One name for every source of images."""

from __future__ import annotations

from softperm.data.digits import load_digits
from softperm.data.folder import load_folder
from softperm.data.imagedata import ImageData
from softperm.data.mnist import load_mnist

__all__ = ["ImageData", "load_images"]


def load_images(
    data: str, *, size: int | None = None, channels: int | None = None, seed: int = 0
) -> ImageData:
    """The images called `data`.

    Arguments:
        data: "digits" (embedded), "mnist", or the path of a folder of images.
        size: Side in pixels to which the images of a folder are brought; 64 when omitted.
        channels: Channels to which they are converted, 1 or 3; 3 when omitted.
        seed: Seed of the split of a folder without `train` and `test`.

    Returns:
        The images.

    Raises:
        ValueError: `size` or `channels` is not that of the named data set, or the data are damaged.
        OSError: the data cannot be found or downloaded.

    Example:
        >>> load_images("digits").train.shape
        torch.Size([1500, 1, 8, 8])
    """
    named = {"digits": (load_digits, 8), "mnist": (load_mnist, 28)}
    if data not in named:
        return load_folder(data, size=size or 64, channels=channels or 3, seed=seed)
    load, side = named[data]
    for given, actual, name in ((size, side, "size"), (channels, 1, "channels")):
        if given not in (None, actual):
            raise ValueError(f"{name} of {data} is {actual}, got {given}")
    return load()
