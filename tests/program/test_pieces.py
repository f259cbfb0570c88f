"""Pieces of a user's picture: cut without a margin, resized one by one, judged by their pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from softperm.nn import Puzzle
from softperm.program.pieces import (
    TOLERANCE,
    all_alike,
    cut,
    for_network,
    interchangeable,
    is_light,
    judge,
)
from softperm.puzzles import assemble

DIGITS = Puzzle(3, 1, 28, 28, (0.13,), (0.31,))
PHOTOS = Puzzle(3, 1, 28, 28, (0.5,), (0.3,))
COLOUR = Puzzle(2, 3, 8, 8, (0.1,) * 3, (0.3,) * 3)


def test_cut_keeps_every_pixel_where_the_sides_divide(generator: torch.Generator) -> None:
    picture = torch.randint(256, (3, 12, 21), generator=generator).to(torch.uint8)
    pieces = cut(picture, 3)
    assert pieces.shape == (9, 3, 4, 7)
    assert torch.equal(assemble(pieces, 3), picture)


@pytest.mark.parametrize(("side", "k"), [(28, 3), (28, 5), (7, 6), (100, 7)])
def test_no_piece_has_a_margin(side: int, k: int) -> None:
    white = cut(torch.full((1, side, side), 255, dtype=torch.uint8), k)
    assert white.shape[-1] == -(-side // k)
    assert int(white.min()) == 255


def test_too_few_pixels() -> None:
    with pytest.raises(ValueError, match="at least 5 pixels per side for 5 x 5 pieces, got 4 x 9"):
        cut(torch.zeros(1, 4, 9, dtype=torch.uint8), 5)


def test_pieces_come_in_the_size_and_channels_of_the_network(generator: torch.Generator) -> None:
    pieces = torch.randint(256, (9, 3, 40, 31), generator=generator).to(torch.uint8)
    assert for_network(pieces, DIGITS, False).shape == (9, 1, 10, 10)
    assert for_network(pieces[:, :1], COLOUR, False).shape == (9, 3, 4, 4)
    same = pieces[:, :, :4, :4]
    assert torch.equal(for_network(same, COLOUR, False), same)
    assert torch.equal(for_network(same, COLOUR, True), 255 - same)


def test_grey_is_luminance(generator: torch.Generator) -> None:
    pieces = torch.randint(256, (9, 3, 10, 10), generator=generator).to(torch.uint8)
    found = for_network(pieces, PHOTOS, False)[:, 0].numpy()
    expected = pieces.movedim(1, -1).numpy() @ np.array([0.299, 0.587, 0.114])
    assert np.abs(found - expected).max() <= 0.51


def test_a_piece_is_resized_for_itself(generator: torch.Generator) -> None:
    pieces = torch.randint(256, (4, 1, 33, 33), generator=generator).to(torch.uint8)
    whole = for_network(pieces, PHOTOS, False)
    for i in range(4):
        assert torch.equal(for_network(pieces[i : i + 1], PHOTOS, False)[0], whole[i])
        shrunk = Image.fromarray(pieces[i, 0].numpy()).resize((10, 10), Image.Resampling.BICUBIC)
        assert np.abs(whole[i, 0].int().numpy() - np.asarray(shrunk, int)).max() <= 2


def test_the_background_is_black_to_a_network_that_knows_no_other(
    generator: torch.Generator,
) -> None:
    noise = torch.randint(60, 65, (9, 1, 10, 10), generator=generator)
    noise[:, :, 3:6, 3:6] = 190
    found = for_network(noise.to(torch.uint8), DIGITS, False)
    assert torch.equal(found, torch.where(noise == 190, 255, 0).to(torch.uint8))
    found = for_network(255 - noise.to(torch.uint8), DIGITS, True)
    assert torch.equal(found, torch.where(noise == 190, 255, 0).to(torch.uint8))


def test_what_is_black_and_white_already_stays(generator: torch.Generator) -> None:
    clean = torch.zeros(9, 1, 10, 10, dtype=torch.uint8)
    clean[:4, :, :5] = torch.randint(256, (4, 1, 5, 10), generator=generator).to(torch.uint8)
    clean[0, 0, 0, 0] = 255
    assert torch.equal(for_network(clean, DIGITS, False), clean)


def pieces_that_differ_by(*levels: int) -> tuple[torch.Tensor, torch.Tensor]:
    pieces = torch.full((len(levels), 1, 4, 4), 100, dtype=torch.uint8)
    others = pieces.clone()
    others[:, 0, 1, 2] += torch.tensor(levels, dtype=torch.uint8)
    return pieces, others


@pytest.mark.parametrize(
    ("levels", "words"),
    [
        ((0, 0, 0), "exact"),
        ((4, 0, 1), "all pieces right: no pixel differs by more than 4 of 255"),
        ((TOLERANCE, 0, 0), "all pieces right: no pixel differs by more than 16 of 255"),
        ((TOLERANCE + 1, 0, 99), "2 of 3 pieces wrong: their pixels differ by more than 16 of 255"),
    ],
)
def test_verdicts(levels: tuple[int, ...], words: str) -> None:
    first, second = pieces_that_differ_by(*levels)
    assert str(judge(first, second)) == str(judge(second, first)) == words


def test_alike_up_to_the_tolerance() -> None:
    for level, alike in ((0, True), (TOLERANCE, True), (TOLERANCE + 1, False)):
        assert all_alike(pieces_that_differ_by(0, level)[1]) == alike


def test_interchangeable_is_what_judge_calls_right(generator: torch.Generator) -> None:
    pieces = torch.randint(0, 3, (6, 1, 1, 2), generator=generator).mul(TOLERANCE).to(torch.uint8)
    fits = interchangeable(pieces)
    assert 0 < fits.sum() < 36
    for i in range(6):
        for j in range(6):
            assert fits[i, j] == (judge(pieces[i : i + 1], pieces[j : j + 1]).wrong == 0)


def test_light_backgrounds_are_noticed_where_the_network_knows_dark_ones() -> None:
    ink = torch.full((3, 20, 20), 230, dtype=torch.uint8)
    ink[:, 5:15, 8:12] = 20
    assert is_light(ink, DIGITS)
    assert not is_light(255 - ink, DIGITS)
    assert not is_light(ink, COLOUR)
    assert not is_light(ink, PHOTOS)
    assert is_light(ink, Puzzle(3, 1, 28, 28, (0.16**0.3,), (0.3,), gamma=0.3))
