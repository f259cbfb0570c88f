"""Pictures from the page: read, scrambled, and restored by the networks of the package.

Nothing is kept: every request brings its picture.
"""

from __future__ import annotations

from functools import lru_cache
from io import BytesIO
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from softperm.data import read_picture
from softperm.nn import PuzzleSolver, load_pretrained
from softperm.ops import matching
from softperm.permutations import apply_permutation
from softperm.program.app.cooling import cool
from softperm.program.pieces import (
    TOLERANCE,
    all_alike,
    as_image,
    cut,
    interchangeable,
    is_light,
    judge,
    score,
)
from softperm.program.schema import shorten
from softperm.puzzles import scramble as scramble_pieces

SIZES = (2, 3, 4, 5)
MOST_PIXELS = 16_000_000
_TAUS = (100.0, 0.1)
_SAME = 1e-3  # difference of scores that run to about 20


@lru_cache
def _network(k: int) -> PuzzleSolver:
    """The network for k x k pieces."""
    return load_pretrained(f"mnist-{k}x{k}")


def _as_size(pieces: str | None) -> int:
    """Pieces per side, from a query."""
    if pieces is None or pieces not in map(str, SIZES):
        raise ValueError(f"pieces must be 2, 3, 4 or 5 per side, got {shorten(str(pieces), 30)}")
    return int(pieces)


def _as_seed(seed: str | None) -> int:
    """A seed, from a query."""
    if seed is None or not seed.isascii() or not seed.isdecimal() or len(seed) > 15:
        raise ValueError(f"seed must be an int of at most 15 digits, got {shorten(str(seed), 30)}")
    return int(seed)


def _as_order(order: str | None, n: int) -> Tensor:
    """Which piece lies at each place, from a query: a permutation."""
    words = (order or "").split(",")
    if sorted(words) != sorted(map(str, range(n))):
        raise ValueError(f"order must hold each of 0 to {n - 1} once, separated by commas")
    return torch.tensor([int(word) for word in words])


def _has_twins(log_alpha: Tensor) -> bool:
    """Whether two pieces have the same scores, but for a constant and for rounding."""
    rows = log_alpha - log_alpha.mean(1, keepdim=True)
    apart = (rows.unsqueeze(1) - rows).abs().amax(-1)
    return bool((apart < _SAME).triu(1).any())


def _read(data: bytes) -> Tensor:
    """A picture of bounded size, uint8, (C, H, W)."""
    return read_picture(BytesIO(data), most_pixels=MOST_PIXELS)


def open_picture(data: bytes) -> bytes:
    """A picture as the library sees it: upright, without transparency, at its own size.

    Arguments:
        data: PNG, JPEG, BMP or WebP.

    Returns:
        The same picture as PNG.

    Raises:
        ValueError: it is none, or has more than 16 million pixels or a side below 5.
    """
    picture = _read(data)
    cut(picture, max(SIZES))  # refuses what is too small for the most pieces
    out = BytesIO()
    as_image(picture).save(out, "PNG", compress_level=1)
    return out.getvalue()


def scramble(data: bytes, pieces: str | None, seed: str | None) -> dict[str, Any]:
    """Shuffle the pieces of a picture, so that it can be seen.

    Returns:
        `alike`, whether all pieces look the same, and otherwise: `order`, which piece lies at each
        place, pieces numbered by their places in the picture; `fits`, whether piece i looks right
        at place j.

    Raises:
        ValueError: an argument is wrong.
    """
    k, generator = _as_size(pieces), torch.Generator().manual_seed(_as_seed(seed))
    parts = cut(_read(data), k)
    if all_alike(parts):
        return {"alike": True, "tolerance": TOLERANCE}
    fits = interchangeable(parts)
    places = torch.arange(k * k)
    order = places
    while bool(fits[order, places].all()):  # it looks as before
        order = scramble_pieces(places.reshape(-1, 1, 1, 1), generator)[0].flatten()
    return {"alike": False, "order": order.tolist(), "fits": fits.tolist()}


def restore(data: bytes, pieces: str | None, order: str | None) -> dict[str, Any]:
    """Put scrambled pieces in order with the network for so many pieces.

    Arguments:
        data: The picture that the pieces are of.
        pieces: Pieces per side.
        order: Which piece lies at each place.

    Returns:
        `order`, which piece lies at each place afterwards; the `verdict` in words, `wrong` pieces,
        the `seconds` that network and matching took; whether the network saw the negative
        (`inverted`); `positions`, the place for what lay at each place; whether there are `twins`,
        pieces with the same scores, which no temperature can part; and what `cool` gives.

    Raises:
        ValueError: an argument is wrong.
    """
    k = _as_size(pieces)
    before = _as_order(order, k * k)
    solver = _network(k)
    picture = _read(data)
    parts = cut(picture, k)
    inverted = is_light(picture, solver.puzzle)
    begin = perf_counter()
    log_alpha = score(solver.net, solver.puzzle, parts[before], inverted)
    perm = matching(log_alpha)
    seconds = perf_counter() - begin
    after = apply_permutation(perm, before)
    verdict = judge(parts[after], parts)
    return {
        "order": after.tolist(),
        "positions": perm.tolist(),
        "verdict": str(verdict),
        "wrong": verdict.wrong,
        "seconds": seconds,
        "inverted": inverted,
        "twins": _has_twins(log_alpha),
        **cool(log_alpha, *_TAUS),
    }
