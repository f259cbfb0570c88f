"""Images ready for a task."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from softperm.data.imagelist import Images

_AT_A_TIME = 2**23  # pixels whose statistics are computed


Stored = TypeVar("Stored", Tensor, Images)


@dataclass(frozen=True)
class ImageData(Generic[Stored]):
    """Training and test images, with the statistics that normalise them.

    Arguments:
        train: Training images, uint8, (N, C, H, W): a tensor, or `Images` that are read when they
            are indexed.
        test: Test images, likewise, (M, C, H, W).
        mean: Mean of every channel, of pixel values in [0, 1], over the training images.
        std: Standard deviation of every channel, likewise; 1 for a constant channel.

    Raises:
        ValueError: there are no images in one of the parts, they have no pixels, or the two parts
            have images of different shape.
    """

    train: Stored
    test: Stored
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        require_images(self.train, "train")
        require_images(self.test, "test")
        if self.train.shape[1:] != self.test.shape[1:]:
            raise ValueError(
                f"training and test images must have the same shape, got "
                f"{tuple(self.train.shape[1:])} and {tuple(self.test.shape[1:])}"
            )


def require_images(images: Tensor | Images, name: str) -> None:
    """Refuse what are not at least one image of at least one pixel, (N, C, H, W)."""
    shape = tuple(images.shape)
    if len(shape) != 4 or math.prod(shape) == 0:
        raise ValueError(f"{name} must hold images with pixels, (N, C, H, W), got shape {shape}")


def channel_statistics(
    images: Tensor | Images, gamma: float = 1.0
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Compute mean and standard deviation per channel, of pixel values in [0, 1] to a power.

    The images are read some at a time.

    Arguments:
        images: uint8, (N, C, H, W), at least one.
        gamma: The power.

    Returns:
        The C means and the C standard deviations; the deviation of a constant channel is given
        as 1.

    Raises:
        TypeError: `images` are a tensor of another dtype.
        ValueError: they do not have that shape.

    Example:
        >>> channel_statistics(torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1))
        ((0.5,), (0.5,))
    """
    require_images(images, "images")
    if isinstance(images, Tensor) and images.dtype != torch.uint8:
        raise TypeError(f"images must be uint8, got {images.dtype}")
    length = max(1, _AT_A_TIME // math.prod(images.shape[1:]))
    counts = torch.zeros(images.shape[1], 256, dtype=torch.int64)
    for part in (images.in_order() if isinstance(images, Images) else images).split(length):
        for count, channel in zip(counts, part.unbind(1), strict=True):
            count += channel.flatten().bincount(minlength=256)
    share = counts.double() / counts.sum(1, keepdim=True)
    values = (torch.arange(256, dtype=torch.float64) / 255) ** gamma
    mean = share @ values
    std = (share * (values - mean.unsqueeze(1)).square()).sum(1).sqrt()
    std = torch.where(std == 0, 1.0, std)
    return tuple(mean.tolist()), tuple(std.tolist())


def with_statistics(train: Stored, test: Stored) -> ImageData[Stored]:
    """The images with the mean and standard deviation of the training part."""
    require_images(train, "train")
    return ImageData(train, test, *channel_statistics(train))
