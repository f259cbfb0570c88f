"""A user's picture and its pieces: as they are, and as a network reads them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from softperm._resize import resize, stretch
from softperm.nn import Puzzle, SinkhornNet
from softperm.puzzles import split

TOLERANCE = 16  # grey levels of 255; ringing and the noise of JPEG stay below
_DARK = 0.35  # mean of the pictures that a network for bright strokes on black was trained on
_BACKGROUND = 0.9  # share of the pixels near the median that are no faint ink
_LUMINANCE = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Verdict:
    """How far a restored picture is from the original.

    Arguments:
        n_pieces: Pieces of the picture.
        wrong: Pieces with a pixel that differs by more than `TOLERANCE`.
        difference: The largest difference of a pixel, in grey levels of 255.
    """

    n_pieces: int
    wrong: int
    difference: int

    def __str__(self) -> str:
        if self.difference == 0:
            return "exact"
        if self.wrong == 0:
            return f"all pieces right: no pixel differs by more than {self.difference} of 255"
        return (
            f"{self.wrong} of {self.n_pieces} pieces wrong: their pixels differ by more than "
            f"{TOLERANCE} of 255"
        )

    @property
    def caption(self) -> str:
        """The same in a word or two."""
        if self.wrong:
            return f"{self.wrong} wrong"
        return "exact" if self.difference == 0 else "all right"


def judge(restored: Tensor, pieces: Tensor) -> Verdict:
    """Compare the pieces of a restored picture with those of the original, uint8, (n, C, h, w)."""
    difference = (restored.short() - pieces.short()).abs().flatten(1).amax(1)
    wrong = int((difference > TOLERANCE).sum())
    return Verdict(len(pieces), wrong, int(difference.max()))


def interchangeable(pieces: Tensor) -> Tensor:
    """Whether piece i looks right at place j, where piece j belongs: bool, (n, n)."""
    rows = []
    for piece in pieces:  # in uint8 and one by one, because pictures may be large
        difference = torch.maximum(pieces, piece) - torch.minimum(pieces, piece)
        rows.append(difference.flatten(1).amax(1) <= TOLERANCE)
    return torch.stack(rows)


def all_alike(pieces: Tensor) -> bool:
    """Whether any order of the pieces gives the same picture, but for the tolerance."""
    return int((pieces.amax(0).short() - pieces.amin(0).short()).max()) <= TOLERANCE


def cut(picture: Tensor, k: int) -> Tensor:
    """The k x k pieces of a picture (C, H, W), in row-major order, without any margin.

    A side that k does not divide is first stretched by the less than k pixels that are missing.

    Raises:
        ValueError: the picture has fewer than k pixels a side.
    """
    return split(stretch(picture[None], k)[0], k)


def as_image(picture: Tensor) -> Image.Image:
    """A uint8 picture (C, H, W) for Pillow."""
    return Image.fromarray(picture.permute(1, 2, 0).squeeze(-1).numpy())


@torch.no_grad()
def score(net: SinkhornNet, puzzle: Puzzle, pieces: Tensor, invert: bool) -> Tensor:
    """The scores log_alpha that a network gives to the pieces of a picture, (n, n), on the CPU."""
    device = next(net.parameters()).device
    items = puzzle.normalise(for_network(pieces, puzzle, invert).to(device))
    return net.log_alpha(items).cpu()


def for_network(pieces: Tensor, puzzle: Puzzle, invert: bool) -> Tensor:
    """Pieces of a picture as the network was trained on them: its piece size, its channels.

    Every piece is resized for itself, so that none tells of its neighbours. For a network that
    knows bright strokes on black the background of the picture is made black.
    """
    if puzzle.channels == 1:
        pieces = _grey(pieces)
    elif pieces.shape[1] == 1:
        pieces = pieces.expand(-1, puzzle.channels, -1, -1)
    if invert:
        pieces = 255 - pieces
    return resize(_on_black(pieces) if _knows_dark(puzzle) else pieces, puzzle.piece_size)


def is_light(picture: Tensor, puzzle: Puzzle) -> bool:
    """Whether a picture has a light background and the network knows dark ones."""
    return _knows_dark(puzzle) and int(_grey(picture[None]).median()) > 127


def _knows_dark(puzzle: Puzzle) -> bool:
    """Whether a network was trained on bright strokes on black."""
    return puzzle.channels == 1 and puzzle.mean[0] ** (1 / puzzle.gamma) < _DARK


def _on_black(pieces: Tensor) -> Tensor:
    """Stretch grey values so that the background, with its noise, is black and the ink white.

    To a network that was trained with `gamma` below 1 a background of 2 of 255 is far from black.
    """
    level = pieces.median()
    distance = (pieces.short() - level).abs().flatten()
    near = distance[distance <= TOLERANCE]
    low = int(level) + int(near.kthvalue(math.ceil(_BACKGROUND * len(near))).values)
    high = int(pieces.max())
    if high <= low:
        return pieces
    return ((pieces.float() - low) * (255 / (high - low))).clamp(0, 255).round().to(torch.uint8)


def _grey(images: Tensor) -> Tensor:
    """Luminance of uint8 images (B, C, H, W), uint8, (B, 1, H, W)."""
    if images.shape[1] == 1:
        return images
    weights = torch.tensor(_LUMINANCE).reshape(3, 1, 1)
    return (images * weights).sum(1, keepdim=True).round().to(torch.uint8)
