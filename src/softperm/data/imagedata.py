"""Images in memory, ready for a task."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from softperm._checks import shape_of


@dataclass(frozen=True)
class ImageData:
    """Training and test images held in memory, with the statistics that normalise them.

    Arguments:
        train: Training images, uint8, (N, C, H, W).
        test: Test images, uint8, (M, C, H, W).
        mean: Mean of every channel, of pixel values in [0, 1], over the training images.
        std: Standard deviation of every channel, likewise; 1 for a constant channel.

    Raises:
        ValueError: there are no images in one of the parts, they have no pixels, or the two parts
            have images of different shape.
    """

    train: Tensor
    test: Tensor
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        require_images(self.train, "train")
        require_images(self.test, "test")
        if self.train.shape[1:] != self.test.shape[1:]:
            raise ValueError(
                f"training and test images must have the same shape, got "
                f"{shape_of(self.train)[1:]} and {shape_of(self.test)[1:]}"
            )


def require_images(images: Tensor, name: str) -> None:
    """Refuse what are not at least one image of at least one pixel, (N, C, H, W)."""
    if images.dim() != 4 or images.numel() == 0:
        raise ValueError(
            f"{name} must hold images with pixels, (N, C, H, W), got shape {shape_of(images)}"
        )


def channel_statistics(
    images: Tensor, gamma: float = 1.0
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Compute mean and standard deviation per channel of uint8 images (N, C, H, W).

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
    require_images(train, "train")
    return ImageData(train, test, *channel_statistics(train))
