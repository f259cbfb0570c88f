"""Moved images, against a loop over images and pixels."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from softperm.data import shift_images


def moved(image: Tensor, down: int, right: int) -> Tensor:
    """One image (C, H, W), pixel by pixel."""
    _, height, width = image.shape
    out = torch.empty_like(image)
    for y in range(height):
        for x in range(width):
            source = min(max(y - down, 0), height - 1), min(max(x - right, 0), width - 1)
            out[:, y, x] = image[:, source[0], source[1]]
    return out


def found_moves(images: Tensor, result: Tensor, most: int) -> list[tuple[int, int]]:
    """For every image the one move that gives the result."""
    reach = range(-most - 1, most + 2)
    moves = []
    for image, out in zip(images, result, strict=True):
        fits = [(i, j) for i in reach for j in reach if torch.equal(moved(image, i, j), out)]
        assert len(fits) == 1
        moves += fits
    return moves


@pytest.mark.parametrize("most", [1, 2])
def test_every_move_in_reach_is_as_likely(most: int, generator: torch.Generator) -> None:
    images = torch.randint(0, 256, (1, 2, 5, 7), generator=generator).to(torch.uint8)
    n = 100 * (2 * most + 1) ** 2
    result = shift_images(images.expand(n, -1, -1, -1), most, generator)
    assert (result.dtype, result.shape) == (torch.uint8, (n, 2, 5, 7))
    kinds, inverse = result.unique(dim=0, return_inverse=True)
    assert len(kinds) == (2 * most + 1) ** 2
    wanted = {(i, j) for i in range(-most, most + 1) for j in range(-most, most + 1)}
    assert set(found_moves(images.expand(len(kinds), -1, -1, -1), kinds, most)) == wanted
    counts = inverse.bincount()
    assert 50 < int(counts.min()) <= int(counts.max()) < 150  # five standard deviations


def test_images_are_not_mixed(generator: torch.Generator) -> None:
    images = torch.arange(4).reshape(4, 1, 1, 1).expand(4, 1, 3, 3)
    assert torch.equal(shift_images(images, 2, generator), images)


def test_no_move_changes_nothing(generator: torch.Generator) -> None:
    images = torch.rand(2, 3, 4, 5, generator=generator)
    assert torch.equal(shift_images(images, 0, generator), images)


@pytest.mark.parametrize(
    ("images", "most", "error", "message"),
    [
        (torch.zeros(1, 1, 2, 2), -1, ValueError, "most must be at least 0, got -1"),
        (torch.zeros(1, 1, 2, 2), 1.0, TypeError, "most must be an int, got float"),
        (torch.zeros(1, 2, 2), 1, ValueError, r"images must have shape \(B, C, H, W\), got \(1, 2"),
        ([0], 1, TypeError, "images must be a torch.Tensor, got list"),
    ],
)
def test_errors(images: Any, most: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        shift_images(images, most, torch.Generator())
