"""Jigsaw puzzles: cut images into pieces, scramble the pieces, put them together again."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from softperm._checks import require_positive_int, require_tensor, shape_of
from softperm._typing import Int64, Shaped
from softperm.permutations import random_permutation

__all__ = ["assemble", "identical_pieces", "scramble", "split"]


def split(
    images: Shaped[Tensor, "*batch c height width"], k: int
) -> Shaped[Tensor, "*batch n c h w"]:
    r"""Cut images into k x k pieces, in row-major order.

    A side that k does not divide is first padded with zeros to the next multiple, evenly at both
    ends (the odd pixel at the bottom or the right): no pixel is lost.

    Arguments:
        images: Any dtype, shape (\*, C, H, W).
        k: Pieces per side, at least 1.

    Returns:
        Pieces, shape (\*, k * k, C, ceil(H / k), ceil(W / k)).

    Raises:
        TypeError: `images` is not a tensor or `k` not an int.
        ValueError: `images` has fewer than three dimensions, or `k` is below 1.

    Example:
        >>> pieces = split(torch.arange(16).reshape(1, 4, 4), 2)
        >>> pieces.shape
        torch.Size([4, 1, 2, 2])
        >>> pieces[1, 0]
        tensor([[2, 3],
                [6, 7]])
    """
    require_tensor(images, "images")
    k = require_positive_int(k, "k")
    if images.dim() < 3:
        raise ValueError(f"images must have shape (*, C, H, W), got {shape_of(images)}")
    *batch, channels, height, width = images.shape
    rows, columns = -height % k, -width % k
    if rows or columns:
        margins = (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)
        images = F.pad(images, margins)
    h, w = (height + rows) // k, (width + columns) // k
    grid = images.reshape(*batch, channels, k, h, k, w)
    return grid.movedim((-4, -2), (-5, -4)).reshape(*batch, k * k, channels, h, w)


def assemble(
    pieces: Shaped[Tensor, "*batch n c h w"], k: int, size: tuple[int, int] | None = None
) -> Shaped[Tensor, "*batch c height width"]:
    r"""Put k x k pieces together, in row-major order: the inverse of `split`.

    Arguments:
        pieces: Any dtype, shape (\*, k * k, C, h, w).
        k: Pieces per side, at least 1.
        size: Height and width of the image before `split` padded it: the margins are cut off.
            Omitted, they stay.

    Returns:
        Images, shape (\*, C, k * h, k * w), or (\*, C, \*size).

    Raises:
        TypeError: `pieces` is not a tensor or `k` not an int.
        ValueError: the shape of `pieces` does not fit `k`, or `size` is larger than the image.

    Example:
        >>> image = torch.arange(25).reshape(1, 5, 5)
        >>> bool((assemble(split(image, 2), 2, size=(5, 5)) == image).all())
        True
    """
    require_tensor(pieces, "pieces")
    k = require_positive_int(k, "k")
    if pieces.dim() < 4 or pieces.shape[-4] != k * k:
        raise ValueError(
            f"pieces must have shape (*, {k * k}, C, h, w) for k = {k}, got {shape_of(pieces)}"
        )
    *batch, _, channels, h, w = pieces.shape
    grid = pieces.reshape(*batch, k, k, channels, h, w).movedim((-5, -4), (-4, -2))
    image = grid.reshape(*batch, channels, k * h, k * w)
    if size is None:
        return image
    rows, columns = k * h - size[0], k * w - size[1]
    if rows < 0 or columns < 0:
        raise ValueError(f"size must fit into the image of {k * h} x {k * w} pixels, got {size}")
    top, left = rows // 2, columns // 2
    return image[..., top : top + size[0], left : left + size[1]]


def scramble(
    pieces: Shaped[Tensor, "*batch n c h w"], generator: torch.Generator | None = None
) -> tuple[Shaped[Tensor, "*batch n c h w"], Int64[Tensor, "*batch n"]]:
    r"""Shuffle the pieces of every image by its own uniformly random permutation.

    Arguments:
        pieces: Any dtype, shape (\*, n, C, h, w).
        generator: Source of randomness, on the device of `pieces`; torch's global one when omitted.

    Returns:
        The scrambled pieces, and the permutation that puts them right,
        ``apply_permutation(perm, scrambled) == pieces``: int64 indices, shape (\*, n).

    Raises:
        TypeError: `pieces` is not a tensor.
        ValueError: `pieces` has fewer than four dimensions.

    Example:
        >>> from softperm import apply_permutation
        >>> pieces = split(torch.arange(16).reshape(1, 4, 4), 2)
        >>> scrambled, perm = scramble(pieces, torch.Generator().manual_seed(0))
        >>> bool((apply_permutation(perm, scrambled) == pieces).all())
        True
    """
    require_tensor(pieces, "pieces")
    if pieces.dim() < 4:
        raise ValueError(f"pieces must have shape (*, n, C, h, w), got {shape_of(pieces)}")
    perm = random_permutation(
        pieces.shape[-4], tuple(pieces.shape[:-4]), generator=generator, device=pieces.device
    )
    return scramble_by(pieces, perm), perm


def scramble_by(pieces: Tensor, perm: Tensor) -> Tensor:
    """Shuffle pieces so that these permutations put them right."""
    return pieces.gather(-4, perm[..., None, None, None].expand(pieces.shape))


def identical_pieces(pieces: Shaped[Tensor, "*batch n c h w"]) -> Int64[Tensor, "*batch n"]:
    r"""Label every piece: pieces of an image have the same label if they are the same.

    Arguments:
        pieces: Any dtype, shape (\*, n, C, h, w).

    Returns:
        The index of the first piece that is equal pixel for pixel, int64, shape (\*, n).

    Raises:
        TypeError: `pieces` is not a tensor.
        ValueError: `pieces` has fewer than four dimensions.

    Example:
        >>> identical_pieces(torch.tensor([7, 5, 7, 5]).reshape(4, 1, 1, 1))
        tensor([0, 1, 0, 1])
    """
    require_tensor(pieces, "pieces")
    if pieces.dim() < 4:
        raise ValueError(f"pieces must have shape (*, n, C, h, w), got {shape_of(pieces)}")
    flat = pieces.flatten(-3)
    n = flat.shape[-2]
    labels = torch.arange(n, device=pieces.device).expand(flat.shape[:-1])  # NaN equals nothing
    for first in reversed(range(n)):  # a loop over pieces keeps memory at one copy of them
        same = (flat == flat[..., first : first + 1, :]).all(-1)
        labels = torch.where(same, first, labels)
    return labels
