"""More training images out of few."""

from __future__ import annotations

import torch
from torch import Tensor

from softperm._checks import require_non_negative_int, require_tensor, shape_of


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
    require_tensor(images, "images")
    most = require_non_negative_int(most, "most")
    if images.dim() != 4:
        raise ValueError(f"images must have shape (B, C, H, W), got {shape_of(images)}")
    for dim in (2, 3):
        side = torch.arange(images.shape[dim], device=images.device)
        moves = torch.randint(
            -most, most + 1, (len(images), 1), generator=generator, device=images.device
        )
        sources = (side - moves).clamp(0, images.shape[dim] - 1)
        index = sources[:, None, :, None] if dim == 2 else sources[:, None, None, :]
        images = images.gather(dim, index.expand(images.shape))
    return images
