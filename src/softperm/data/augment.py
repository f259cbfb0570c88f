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


def draw_shifts(n: int, most: int, generator: torch.Generator) -> Tensor:
    """Draw how far each of n images moves: whole pixels, uniform on [-most, most].

    Arguments:
        n: Number of images.
        most: Largest move, at least 0.
        generator: Source of randomness.

    Returns:
        Moves down and to the right, int64, (n, 2), on the device of the generator.

    Raises:
        TypeError: `n` or `most` is not an int.
        ValueError: `n` or `most` is negative.

    Example:
        >>> draw_shifts(2, 1, torch.Generator().manual_seed(1)).abs().amax()
        tensor(1)
    """
    n, most = require_non_negative_int(n, "n"), require_non_negative_int(most, "most")
    device = generator.device
    each = [torch.randint(-most, most + 1, (n,), generator=generator, device=device) for _ in "yx"]
    return torch.stack(each, -1)


def shift_images(images: Tensor, shifts: Tensor) -> Tensor:
    """Move every image by its own whole number of pixels down and to the right.

    What comes in at a side repeats the pixels at that side.

    Arguments:
        images: Any dtype, (B, C, H, W).
        shifts: Pixels down and to the right, int32 or int64, (B, 2), on the device of `images`.

    Returns:
        The moved images, of the same dtype and shape.

    Raises:
        TypeError: an argument is not a tensor, or `shifts` has another dtype.
        ValueError: an argument has another shape.

    Example:
        >>> row = torch.arange(4).reshape(1, 1, 1, 4)
        >>> shift_images(row, torch.tensor([[0, 1]]))
        tensor([[[[0, 0, 1, 2]]]])
    """
    _require_images(images)
    require_tensor(shifts, "shifts")
    if shifts.shape != (len(images), 2):
        raise ValueError(f"shifts must have shape ({len(images)}, 2), got {shape_of(shifts)}")
    if shifts.dtype not in (torch.int32, torch.int64):
        raise TypeError(f"shifts must be int32 or int64, got {shifts.dtype}")
    for dim, moves in zip((2, 3), shifts.unbind(1), strict=True):
        side = torch.arange(images.shape[dim], device=images.device)
        sources = (side - moves.unsqueeze(1)).clamp(0, images.shape[dim] - 1)
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
        TypeError: `images` is not a tensor of uint8 or `most` not an int.
        ValueError: `images` has another shape, or `most` is below 1.

    Example:
        >>> images = torch.zeros(2, 1, 6, 6, dtype=torch.uint8)
        >>> enlarge_images(images, 3, torch.Generator().manual_seed(1)).shape
        torch.Size([2, 1, 12, 12])
    """
    _require_images(images)
    if images.dtype != torch.uint8:
        raise TypeError(f"images must be uint8, values from 0 to 255, got {images.dtype}")
    most = require_positive_int(most, "most")
    device = generator.device
    factor = int(torch.randint(1, most + 1, (), generator=generator, device=device))
    return resize(images, (factor * images.shape[-2], factor * images.shape[-1]))


def _require_images(images: Tensor) -> None:
    """Refuse what are no images (B, C, H, W)."""
    require_tensor(images, "images")
    if images.dim() != 4:
        raise ValueError(f"images must have shape (B, C, H, W), got {shape_of(images)}")
