"""Two sets of points in the unit square, matched softly and exactly."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from softperm.ops import matching
from softperm.program.app.cooling import cool

MOST_POINTS = 20
_TAUS = (1.0, 0.0005)


def _as_points(points: object, name: str) -> Tensor:
    """Points from JSON, float64, (n, 2)."""
    if not isinstance(points, list) or not 1 <= len(points) <= MOST_POINTS:
        count = len(points) if isinstance(points, list) else "something else"
        raise ValueError(f"{name} must be a list of 1 to {MOST_POINTS} points, got {count}")
    for point in points:
        if not isinstance(point, list) or len(point) != 2 or not all(map(_is_within, point)):
            raise ValueError(f"a point of {name} must be two numbers from 0 to 1")
    return torch.tensor(points, dtype=torch.float64)


def _is_within(number: object) -> bool:
    """Whether it is a number from 0 to 1."""
    return isinstance(number, int | float) and not isinstance(number, bool) and 0 <= number <= 1


def _as_reach(reach: object) -> float | None:
    """The largest distance of a pair from JSON."""
    if reach is None:
        return None
    if (
        isinstance(reach, bool)
        or not isinstance(reach, int | float)
        or not 0 < reach <= math.sqrt(2)
    ):
        raise ValueError("reach must be nothing or a number above 0, at most the square root of 2")
    return float(reach)


def match(first: object, second: object, reach: object = None) -> dict[str, Any]:
    r"""Match two sets of points by their squared distances.

    .. math:: \log\alpha_{ij} = -|a_i - b_j|^2

    Arguments:
        first: Points a: a list of 1 to 20 pairs of numbers from 0 to 1.
        second: Points b, likewise; of another number, some of the larger set stay alone.
        reach: The largest distance of a pair, or None. With it every point may stay alone: the
            score of `slack` is -reach^2, so that a pair gains just where it is closer.

    Returns:
        `partners`, for every point a the index of its point b, -1 for none; and what `cool` gives,
        with a row and a column of slack where there is a reach.

    Raises:
        ValueError: an argument is something else.

    Example:
        >>> match([[0.1, 0.1], [0.9, 0.9]], [[0.8, 0.9]])["partners"]
        [-1, 0]
        >>> match([[0.1, 0.1]], [[0.8, 0.9]], reach=0.2)["partners"]
        [-1]
    """
    a, b = _as_points(first, "first"), _as_points(second, "second")
    distance = _as_reach(reach)
    slack = None if distance is None else -(distance**2)
    log_alpha = -(a.unsqueeze(1) - b).square().sum(-1)
    return {
        "partners": matching(log_alpha, unmatched=slack).tolist(),
        **cool(log_alpha, *_TAUS, slack=slack),
    }
