"""One seed, many streams: what is drawn for one purpose tells nothing about what another draws."""

from __future__ import annotations

from typing import Literal

import numpy as np

Purpose = Literal["weights", "order", "noise"]
_KEYS: dict[Purpose, int] = {"weights": 0, "order": 1, "noise": 2}


def stream_seed(seed: int, purpose: Purpose, *which: int) -> int:
    """The seed of the generator for one purpose of a run.

    It is a hash of all arguments (`numpy.random.SeedSequence`): neighbouring seeds, purposes and
    epochs give unrelated streams. The test set is no part of a run and has a stream of its own,
    the same for every run: that of the plain seed 0.

    Arguments:
        seed: The seed of the run, at least 0.
        purpose: weights, the initial ones; order, of the training data; noise: scrambles, shifts,
            training lists and Gumbel noise.
        which: Further numbers that set streams of one purpose apart, such as the epoch.

    Example:
        >>> stream_seed(0, "order", 1) == stream_seed(0, "order", 2)
        False
    """
    sequence = np.random.SeedSequence(seed, spawn_key=(_KEYS[purpose], *which))
    return int(sequence.generate_state(1, np.uint64)[0])
