"""Numbers that are typed, sorted softly and exactly."""

from __future__ import annotations

import math
import re
from typing import Any

import torch

from softperm.ops import matching, soft_sort
from softperm.permutations import apply_permutation
from softperm.program.app.cooling import cool
from softperm.program.schema import shorten

MOST_NUMBERS = 32
_LARGEST = 1e100  # in magnitude; squares of differences stay finite
_TAUS = (3.0, 0.001)


def parse_numbers(text: str) -> list[float]:
    """The numbers in a text, separated by blanks, commas or semicolons.

    Raises:
        ValueError: a word is no number, a number is not finite or beyond 1e100 in magnitude, or
            there are fewer than 2 or more than 32.

    Example:
        >>> parse_numbers("3, -1.5; 2e3 7")
        [3.0, -1.5, 2000.0, 7.0]
    """
    words = [word for word in re.split(r"[\s,;]+", text) if word]
    if not 2 <= len(words) <= MOST_NUMBERS:
        raise ValueError(f"type 2 to {MOST_NUMBERS} numbers, got {len(words)}")
    return [_parse(word) for word in words]


def _parse(word: str) -> float:
    """One number."""
    try:
        number = float(word)
    except ValueError:
        raise ValueError(f"{shorten(word, 30)!r} is no number") from None
    if not math.isfinite(number) or abs(number) > _LARGEST:
        raise ValueError(
            f"a number must be at most {_LARGEST:g} in magnitude, got {shorten(word, 30)}"
        )
    return number


def sort(text: str) -> dict[str, Any]:
    """Sort the numbers in a text.

    Returns:
        The `numbers`; `positions`, where each of them goes; the `sorted` list; whether it is in
        order (`in_order`): float64 cannot tell numbers apart that are much closer to each other
        than the others are; `equal`, whether some are the same; and what `cool` gives.

    Raises:
        ValueError: as `parse_numbers`.

    Example:
        >>> sort("3 1 2")["sorted"]
        [1.0, 2.0, 3.0]
    """
    numbers = parse_numbers(text)
    x = torch.tensor(numbers, dtype=torch.float64)
    # The logarithm differs from the scores by constants per row and column: S and M are the same.
    log_alpha = soft_sort(x).log()
    perm = matching(log_alpha)
    result = apply_permutation(perm, x).tolist()
    return {
        "numbers": numbers,
        "positions": perm.tolist(),
        "sorted": result,
        "in_order": result == sorted(numbers),
        "equal": len(set(numbers)) < len(numbers),
        **cool(log_alpha, *_TAUS),
    }
