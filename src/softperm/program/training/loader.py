"""Stored examples, read ahead."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence

from torch import Tensor


def stored_examples(
    read: Callable[[Tensor], Tensor], steps: Sequence[Tensor], workers: int
) -> Generator[Tensor]:
    """Placeholder until the reader with workers is merged."""
    yield from map(read, steps)
