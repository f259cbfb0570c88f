"""Cutting, scrambling and assembling images, against slicing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from scipy.stats import chisquare

from softperm import apply_permutation
from softperm.puzzles import assemble, identical_pieces, scramble, split
from tests import references


@pytest.mark.parametrize("k", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("size", [(1, 1), (4, 4), (5, 5), (6, 9), (28, 28), (7, 4), (10, 3)])
def test_split_against_slicing(size: tuple[int, int], k: int, generator: torch.Generator) -> None:
    images = torch.rand(2, 3, *size, generator=generator)
    pieces = split(images, k)
    for image, found in zip(images, pieces, strict=True):
        assert torch.equal(found, torch.stack(references.cut(image, k)))
    assert torch.equal(assemble(pieces, k, size=size), images)


@pytest.mark.parametrize("batch", [(), (4,), (2, 3), (0,)])
def test_any_batch_dimensions(batch: tuple[int, ...]) -> None:
    images = torch.rand(*batch, 1, 6, 6)
    pieces = split(images, 3)
    assert pieces.shape == (*batch, 9, 1, 2, 2)
    assert torch.equal(assemble(pieces, 3), images)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool, torch.bfloat16])
def test_any_dtype(dtype: torch.dtype) -> None:
    images = torch.arange(25).reshape(1, 5, 5).remainder(2).to(dtype)
    pieces = split(images, 2)
    assert pieces.dtype == dtype
    assert torch.equal(assemble(pieces, 2, (5, 5)), images)


def test_no_pixel_is_lost_and_the_margin_is_even() -> None:
    # Five pixels in four pieces of two: three more, one before and two behind. A single row in
    # four: one before and two behind.
    row = split(torch.arange(1, 6).reshape(1, 1, 5), 4)[4:8, 0, 0]
    assert row.tolist() == [[0, 1], [2, 3], [4, 5], [0, 0]]


def test_assemble_keeps_the_margins_without_a_size() -> None:
    assert assemble(split(torch.ones(1, 5, 5), 2), 2).shape == (1, 6, 6)


def test_split_is_differentiable() -> None:
    images = torch.rand(1, 3, 3, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(lambda x: split(x, 2), (images,))


@pytest.mark.parametrize("batch", [(), (6,), (2, 3), (0,)])
def test_scramble_can_be_undone(batch: tuple[int, ...], generator: torch.Generator) -> None:
    pieces = torch.rand(*batch, 9, 2, 3, 4, generator=generator)
    scrambled, perm = scramble(pieces, generator)
    assert perm.shape == (*batch, 9)
    assert torch.equal(apply_permutation(perm, scrambled), pieces)


def test_scramble_moves_pieces_each_image_on_its_own(generator: torch.Generator) -> None:
    pieces = torch.arange(16).reshape(16, 1, 1, 1).expand(50, 16, 1, 1, 1)
    scrambled, perm = scramble(pieces, generator)
    assert torch.equal(scrambled.flatten(1), perm)  # the piece at place i belongs at perm[i]
    assert len(perm.unique(dim=0)) == 50


def test_scramble_is_uniform(generator: torch.Generator) -> None:
    _, perm = scramble(torch.zeros(2400, 3, 1, 1, 1), generator)
    counts = (perm.unsqueeze(1) == references.all_permutations(3)).all(-1).sum(0)
    assert chisquare(counts.numpy()).pvalue > 1e-3


def test_scramble_follows_the_generator() -> None:
    pieces = torch.rand(5, 9, 1, 2, 2)
    first, second = (scramble(pieces, torch.Generator().manual_seed(3))[1] for _ in range(2))
    assert torch.equal(first, second)


def test_identical_pieces_against_comparison(generator: torch.Generator) -> None:
    pieces = torch.randint(2, (20, 6, 1, 1, 2), generator=generator)
    for image, labels in zip(pieces, identical_pieces(pieces), strict=True):
        for i, piece in enumerate(image):
            equal = [j for j, other in enumerate(image) if torch.equal(piece, other)]
            assert int(labels[i]) == equal[0]


def test_identical_pieces_need_every_pixel_the_same() -> None:
    pieces = torch.zeros(3, 1, 2, 2)
    pieces[1, 0, 1, 1] = 1e-30
    assert identical_pieces(pieces).tolist() == [0, 1, 0]


def test_pieces_with_nan_equal_none() -> None:
    assert identical_pieces(torch.full((3, 1, 1, 1), torch.nan)).tolist() == [0, 1, 2]


@pytest.mark.parametrize("shape", [(0, 4, 1, 2, 2), (2, 0, 1, 2, 2)])
def test_identical_pieces_of_nothing(shape: tuple[int, ...]) -> None:
    assert identical_pieces(torch.zeros(shape)).shape == shape[:2]


@pytest.mark.parametrize(
    ("images", "k", "error", "message"),
    [
        ([1], 2, TypeError, "images must be a torch.Tensor, got list"),
        (torch.zeros(4, 4), 2, ValueError, r"images must have shape .* got \(4, 4\)"),
        (torch.zeros(1, 4, 4), 0, ValueError, "k must be at least 1, got 0"),
        (torch.zeros(1, 4, 4), 2.0, TypeError, "k must be an int, got float"),
        (torch.zeros(1, 4, 4), True, TypeError, "k must be an int, got bool"),
    ],
)
def test_split_errors(images: Any, k: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        split(images, k)


@pytest.mark.parametrize(
    ("pieces", "k", "size", "error", "message"),
    [
        ([1], 2, None, TypeError, "pieces must be a torch.Tensor, got list"),
        (torch.zeros(4, 1, 2), 2, None, ValueError, r"pieces must have shape .* got \(4, 1, 2\)"),
        (torch.zeros(5, 1, 2, 2), 2, None, ValueError, r"pieces must have shape \(\*, 4, C, h, w"),
        (torch.zeros(4, 1, 2, 2), 0, None, ValueError, "k must be at least 1, got 0"),
        (torch.zeros(4, 1, 2, 2), "2", None, TypeError, "k must be an int, got str"),
        (torch.zeros(4, 1, 2, 2), 2, (5, 4), ValueError, r"size must fit .* 4 x 4 .* \(5, 4\)"),
    ],
)
def test_assemble_errors(
    pieces: Any, k: Any, size: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        assemble(pieces, k, size)


@pytest.mark.parametrize("function", [scramble, identical_pieces])
def test_piece_errors(function: Any) -> None:
    with pytest.raises(TypeError, match=r"pieces must be a torch.Tensor, got list"):
        function([1])
    with pytest.raises(ValueError, match=r"pieces must have shape .* got \(4, 2, 2\)"):
        function(torch.zeros(4, 2, 2))
