"""Lists of random numbers to sort."""

from __future__ import annotations

import numpy as np
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
) -> Tensor:
    """Lists of numbers, independent and uniform on [low, high).

    Arguments:
        n_lists: Number of lists.
        n: Numbers in a list.
        low: Lower end of the interval.
        high: Upper end of the interval.
        generator: Source of randomness, which also gives the device; torch's global one when
            omitted.

    Returns:
        The lists, float32, (n_lists, n).

    Raises:
        TypeError: `n_lists` or `n` is not an int.
        ValueError: `n_lists` or `n` is below 1, or `low` is not below `high`.

    Example:
        >>> lists = uniform_lists(2, 3, low=10, high=11)
        >>> bool((lists >= 10).all() and (lists < 11).all())
        True
    """
    require_positive_int(n_lists, "n_lists")
    require_positive_int(n, "n")
    if not low < high:
        raise ValueError(f"low must be below high, got {low} and {high}")
    device = generator.device if generator is not None else None
    numbers = torch.rand(n_lists, n, generator=generator, device=device) * (high - low) + low
    # Rounding may reach the upper end: low + 0.99999997 * (high - low) is high in float32.
    below = float(np.nextafter(np.float32(high), np.float32(low)))
    return numbers.clamp_(low, below)
