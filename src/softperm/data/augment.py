"""More training images out of few."""

from __future__ import annotations

import torch
from torch import Tensor

from softperm._checks import (
    require_non_negative_int,
    require_positive_int,
    require_tensor,
    shape_of,
)
from softperm._resize import resize


def shift_images(images: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Move every image by its own whole number of pixels each way, uniform on [-most, most].

    What comes in at a side repeats the pixels at that side.

    Arguments:
        images: Any dtype, (B, C, H, W).
        most: Largest move, at least 0.
        generator: Source of randomness, on the device of `images`.

    Returns:
        The moved images, of the same dtype and shape.

    Raises:
        TypeError: `images` is not a tensor or `most` not an int.
        ValueError: `images` has another shape, or `most` is negative.

    Example:
        >>> row = torch.arange(4).reshape(1, 1, 1, 4)
        >>> shift_images(row, 1, torch.Generator().manual_seed(1))
        tensor([[[[0, 0, 1, 2]]]])
    """
    _require_images(images)
    most = require_non_negative_int(most, "most")
    for dim in (2, 3):
        side = torch.arange(images.shape[dim], device=images.device)
        moves = torch.randint(
            -most, most + 1, (len(images), 1), generator=generator, device=images.device
        )
        sources = (side - moves).clamp(0, images.shape[dim] - 1)
        index = sources[:, None, :, None] if dim == 2 else sources[:, None, None, :]
        images = images.gather(dim, index.expand(images.shape))
    return images


def enlarge_images(images: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Enlarge all images by the same whole factor, uniform on 1 to `most`.

    `Puzzle.cut` brings every piece of them back to its size by itself, as it does with the pieces
    of a large picture. So a network learns to solve those, too.

    Arguments:
        images: uint8, (B, C, H, W).
        most: Largest factor, at least 1.
        generator: Source of randomness.

    Returns:
        The enlarged images, uint8, (B, C, factor * H, factor * W).

    Raises:
        TypeError: `images` is not a tensor or `most` not an int.
        ValueError: `images` has another shape, or `most` is below 1.

    Example:
        >>> images = torch.zeros(2, 1, 6, 6, dtype=torch.uint8)
        >>> enlarge_images(images, 3, torch.Generator().manual_seed(1)).shape
        torch.Size([2, 1, 18, 18])
    """
    _require_images(images)
    most = require_positive_int(most, "most")
    device = generator.device
    factor = int(torch.randint(1, most + 1, (), generator=generator, device=device))
    return resize(images, (factor * images.shape[-2], factor * images.shape[-1]))


def _require_images(images: Tensor) -> None:
    """Refuse what are no images (B, C, H, W)."""
    require_tensor(images, "images")
    if images.dim() != 4:
        raise ValueError(f"images must have shape (B, C, H, W), got {shape_of(images)}")
