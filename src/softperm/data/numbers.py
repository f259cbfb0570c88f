"""Lists of random numbers to sort."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from softperm._checks import require_positive_int


def uniform_lists(
    n_lists: int,
    n: int,
    *,
    low: float = 0.0,
    high: float = 1.0,
    generator: torch.Generator | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Draw lists of numbers, independent and uniform on [low, high).

    Arguments:
        n_lists: Number of lists.
        n: Numbers in a list.
        low: Lower end of the interval.
        high: Upper end of the interval.
        generator: Source of randomness, which also gives the device; torch's global one when
            omitted.
        dtype: torch.float32 or torch.float64.

    Returns:
        The lists, (n_lists, n).

    Raises:
        TypeError: `n_lists` or `n` is not an int, or `dtype` is another one.
        ValueError: `n_lists` or `n` is below 1, or `low` is not below `high` in
            `dtype`, or the interval is not finite.

    Example:
        >>> lists = uniform_lists(2, 3, low=10, high=11)
        >>> bool((lists >= 10).all() and (lists < 11).all())
        True
    """
    n_lists = require_positive_int(n_lists, "n_lists")
    n = require_positive_int(n, "n")
    if dtype not in (torch.float32, torch.float64):
        raise TypeError(f"dtype must be torch.float32 or torch.float64, got {dtype}")
    ends = torch.tensor([low, high], dtype=dtype)
    if not ends[0] < ends[1] or not math.isfinite(ends[1] - ends[0]):
        raise ValueError(
            f"low must be below high, a finite distance apart in {dtype}, got {low} and {high}"
        )
    device = generator.device if generator is not None else None
    numbers = torch.rand(n_lists, n, generator=generator, device=device, dtype=dtype)
    # Rounding may reach the upper end: low + 0.99999997 * (high - low) is high in float32.
    below = torch.nextafter(ends[1], ends[0]).item()
    return numbers.mul_(high - low).add_(low).clamp_(ends[0].item(), below)
