"""Settings of the neurons task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from softperm.program.schema import require_ranges
from softperm.program.training.config import LARGEST_SEED

Method = Literal["vi", "start", "fw", "naive", "map", "mcmc"]
METHODS: dict[Method, str] = {
    "vi": "Gumbel-Sinkhorn VI",
    "start": "its start alone",
    "fw": "Frank-Wolfe",
    "naive": "naive VI",
    "map": "MAP",
    "mcmc": "MCMC",
}

_RANGES: dict[str, tuple[float, float]] = {
    "worms": (1, 100),
    "candidates": (0.0, 1e6),
    "eta": (0.0, 1.0),
    "known": (0.0, 1.0),
    "observed": (0.01, 1.0),
    "extra": (0.0, 1.0),
    "steps": (2, 1_000_000),
    "noise": (1e-3, 1e6),  # below, rounding in float64 tells names apart, not the recording
    "seed": (0, LARGEST_SEED),
}


@dataclass(frozen=True)
class NeuronsConfig:
    """Settings of the neurons task; the defaults are a cell of the paper's first table.

    Arguments:
        data: Folder of NeuronType.csv and NeuronConnect.csv; when omitted $SOFTPERM_DATA/celegans,
            else they are downloaded, and where that fails a synthetic wiring takes their place.
        worms: Worms recorded, all with the same weights.
        candidates: Mean number of neurons that an observed one may be; 0: `eta` decides.
        eta: How far along the body, whose length is 1, an observed neuron's candidates may be.
        known: Share of the neurons whose names are known.
        observed: Share of the neurons that are recorded.
        extra: Cells recorded that are no neurons of the wiring, as a share of the neurons.
        steps: Steps T of a recording.
        noise: Standard deviation of the noise in every step, from 0.001; the activity begins at 1.
        method: vi (Gumbel-Sinkhorn), start (the coordinate ascent that vi starts from), or a
            baseline: fw (Frank-Wolfe on the evidence of pairs), naive (variational inference
            without permutations), map, mcmc.
        seed: Seed of data and inference; both have streams of their own.
    """

    data: str | None = None
    worms: int = 1
    candidates: float = 30.0
    eta: float = 0.1
    known: float = 0.0
    observed: float = 1.0
    extra: float = 0.0
    steps: int = 1000
    noise: float = 1.0
    method: Method = "vi"
    seed: int = 0

    def __post_init__(self) -> None:
        require_ranges(self, _RANGES)
        if self.method not in METHODS:
            raise ValueError(f"method must be {' or '.join(METHODS)}, got {self.method!r}")
        if self.method not in ("vi", "start") and (self.observed < 1 or self.extra > 0):
            raise ValueError(
                f"observed must be 1 and extra 0 for method {self.method}, got {self.observed:g} "
                f"and {self.extra:g}"
            )
