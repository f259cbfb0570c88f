"""Images in another size."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_AT_A_TIME = 4096  # in float32 a whole data set takes four times its memory and more


def resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize uint8 images (B, C, H, W), bicubic and without aliasing."""
    if tuple(images.shape[-2:]) == size:
        return images
    return torch.cat([_resize(part, size) for part in images.split(_AT_A_TIME)])


def _resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    # Of area, bilinear and bicubic, this one leaves the most digits solvable.
    resized = F.interpolate(images.float(), size, mode="bicubic", antialias=True)
    return resized.round().clamp(0, 255).to(torch.uint8)


def stretched_size(height: int, width: int, k: int) -> tuple[int, int]:
    """The next multiples of k of the sides of a picture.

    Raises:
        ValueError: it has fewer than k pixels per side.
    """
    if k > min(height, width):
        raise ValueError(
            f"a picture must have at least {k} pixels per side for {k} x {k} pieces, got "
            f"{height} x {width}"
        )
    return height + -height % k, width + -width % k


def stretch(images: Tensor, k: int) -> Tensor:
    """Stretch the sides of uint8 images (B, C, H, W) to the next multiples of k.

    A margin would tell which pieces belong at the border.

    Raises:
        ValueError: the images have fewer than k pixels per side.
    """
    return resize(images, stretched_size(images.shape[-2], images.shape[-1], k))
