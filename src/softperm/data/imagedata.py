"""Images in memory, ready for a task."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ImageData:
    """Training and test images held in memory, with the statistics that normalise them.

    Arguments:
        train: Training images, uint8, (N, C, H, W).
        test: Test images, uint8, (M, C, H, W).
        mean: Mean of every channel, of pixel values in [0, 1], over the training images.
        std: Standard deviation of every channel, likewise; 1 for a constant channel.
    """

    train: Tensor
    test: Tensor
    mean: tuple[float, ...]
    std: tuple[float, ...]


def channel_statistics(
    images: Tensor, gamma: float = 1.0
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of every channel of uint8 images (N, C, H, W).

    They are those of pixel values in [0, 1] to the power `gamma`; the deviation of a constant
    channel is given as 1.
    """
    channels = images.unbind(1)
    counts = torch.stack([channel.flatten().bincount(minlength=256) for channel in channels])
    share = counts.double() / counts.sum(1, keepdim=True)
    values = (torch.arange(256, dtype=torch.float64) / 255) ** gamma
    mean = share @ values
    std = (share * (values - mean.unsqueeze(1)).square()).sum(1).sqrt()
    std = torch.where(std == 0, 1.0, std)
    return tuple(mean.tolist()), tuple(std.tolist())


def with_statistics(train: Tensor, test: Tensor) -> ImageData:
    """The images with the mean and standard deviation of the training part."""
    return ImageData(train, test, *channel_statistics(train))
