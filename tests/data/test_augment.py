"""Moved images, against a loop over images and pixels."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from softperm.data import draw_shifts, enlarge_images, shift_images


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
    result = shift_images(images.expand(n, -1, -1, -1), draw_shifts(n, most, generator))
    assert (result.dtype, result.shape) == (torch.uint8, (n, 2, 5, 7))
    kinds, inverse = result.unique(dim=0, return_inverse=True)
    assert len(kinds) == (2 * most + 1) ** 2
    wanted = {(i, j) for i in range(-most, most + 1) for j in range(-most, most + 1)}
    assert set(found_moves(images.expand(len(kinds), -1, -1, -1), kinds, most)) == wanted
    counts = inverse.bincount()
    assert 50 < int(counts.min()) <= int(counts.max()) < 150  # five standard deviations


def test_images_are_not_mixed(generator: torch.Generator) -> None:
    images = torch.arange(4).reshape(4, 1, 1, 1).expand(4, 1, 3, 3)
    assert torch.equal(shift_images(images, draw_shifts(4, 2, generator)), images)


def test_no_move_changes_nothing(generator: torch.Generator) -> None:
    images = torch.rand(2, 3, 4, 5, generator=generator)
    assert torch.equal(shift_images(images, draw_shifts(2, 0, generator)), images)


MOVES = torch.zeros(1, 2, dtype=torch.int64)


@pytest.mark.parametrize(
    ("images", "shifts", "error", "message"),
    [
        (torch.zeros(1, 1, 2, 2), torch.zeros(2, 2), ValueError, r"shifts must have shape \(1, 2"),
        (torch.zeros(1, 1, 2, 2), 1, TypeError, r"shifts must be a torch\.Tensor, got int"),
        (torch.zeros(1, 2, 2), MOVES, ValueError, r"images must have shape \(B, C, H, W\), got"),
        ([0], MOVES, TypeError, r"images must be a torch\.Tensor, got list"),
    ],
)
def test_shift_errors(images: Any, shifts: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        shift_images(images, shifts)


@pytest.mark.parametrize(
    ("most", "error", "message"),
    [
        (-1, ValueError, "most must be at least 0, got -1"),
        (1.0, TypeError, r"most must be an int, got float"),
    ],
)
def test_draw_errors(most: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        draw_shifts(1, most, torch.Generator())


def test_factors_are_as_likely_and_the_picture_stays(generator: torch.Generator) -> None:
    images = torch.full((2, 1, 3, 4), 9, dtype=torch.uint8)
    results = [enlarge_images(images, 3, generator) for _ in range(90)]
    sides = [tuple(result.shape[-2:]) for result in results]
    assert set(sides) == {(3, 4), (6, 8), (9, 12)}
    assert min(sides.count(side) for side in set(sides)) > 10  # five standard deviations
    assert all(result.eq(9).all() for result in results)


@pytest.mark.parametrize("most", [0, 1.5])
def test_enlarge_errors(most: Any) -> None:
    images = torch.zeros(1, 1, 2, 2, dtype=torch.uint8)
    with pytest.raises((TypeError, ValueError), match="most must be"):
        enlarge_images(images, most, torch.Generator())
