"""Simulated recordings of worms that all have the same weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from softperm.data.worm import Wiring
from softperm.program.neurons.config import NeuronsConfig
from softperm.program.training.streams import stream_seed

SPECTRAL_RADIUS = 1 / 1.5
_ROUNDING = 0.01  # positions in the table are known to this
_EXTRA_MEMORY = 0.5  # of an extra cell from one step to the next


@dataclass(frozen=True)
class Recording:
    """What the likelihood needs of an activity y_0, ..., y_T, in units of the noise.

    Arguments:
        gram: Sum of y_{t-1} y_{t-1}^T, float64, (m, m).
        cross: Sum of y_t y_{t-1}^T, float64, (m, m).
        energy: Sum of y_t^2, float64, (m,).
        steps: Number T of steps.
    """

    gram: Tensor
    cross: Tensor
    energy: Tensor
    steps: int

    @staticmethod
    def of(activity: Tensor) -> Recording:
        """The recording of an activity, (T + 1, m)."""
        before, after = activity[:-1].double(), activity[1:].double()
        return Recording(
            before.mT @ before, after.mT @ before, after.square().sum(0), len(activity) - 1
        )


@dataclass(frozen=True)
class Worm:
    """A worm whose neurons are observed in an unknown order.

    Arguments:
        recording: The activity of the m observed cells.
        allowed: Whether observed cell a may be neuron i, bool, (m, n).
        names: The neuron that cell a is, int64, (m,); -1 where it is none of the wiring.
        known: Whether the name of cell a is known, bool, (m,).
        unseen: Whether there are neurons that were not observed.
        unnamed: Whether there are cells that are no neurons of the wiring.
    """

    recording: Recording
    allowed: Tensor
    names: Tensor
    known: Tensor
    unseen: bool
    unnamed: bool


@dataclass(frozen=True)
class Simulation:
    """Worms and the weights that they share, (n, n), in rows the neurons acted on."""

    weights: Tensor
    worms: list[Worm]


def spectral_radius(matrix: Tensor) -> float:
    """Largest absolute eigenvalue of a square matrix."""
    return float(torch.linalg.eigvals(matrix).abs().max())


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw_weights(adjacency: Tensor, seed: int) -> Tensor:
    """Gaussian weights on the wiring, scaled to the spectral radius 1 / 1.5; float64, (n, n).

    Raises:
        ValueError: the spectral radius of the wiring is 0, so that nothing scales it.
    """
    weights = torch.randn(adjacency.shape, generator=_generator(seed), dtype=torch.float64)
    weights = weights * adjacency
    radius = spectral_radius(weights)
    if radius == 0:
        raise ValueError(
            "adjacency must have a cycle: without one activity dies out in a few steps"
        )
    return weights * (SPECTRAL_RADIUS / radius)


def near_pairs(wiring: Wiring, config: NeuronsConfig) -> Tensor:
    """Which neurons lie so near to each other that one may be taken for the other, bool, (n, n).

    The table's positions are rounded, and many are equal. Where in its hundredth a neuron lies is
    drawn with the data; else no eta gave any wanted mean number of candidates.
    """
    n = len(wiring.names)
    generator = _generator(stream_seed(config.seed, "order"))
    within = torch.rand(n, generator=generator, dtype=torch.float64) - 0.5
    position = wiring.position + _ROUNDING * within
    distance = (position[:, None] - position).abs()
    if config.candidates == 0:
        return distance <= config.eta
    if not 1 <= config.candidates <= n:
        raise ValueError(f"candidates must be 0 or from 1 to {n}, got {config.candidates:g}")
    return distance <= distance.flatten().kthvalue(round(config.candidates * n)).values


def _activity(weights: Tensor, config: NeuronsConfig, worm: int) -> Tensor:
    """The activity of all neurons and extra cells, (T + 1, n + extra), in units of the noise.

    Extra cells are connected with nothing but themselves.
    """
    generator = _generator(stream_seed(config.seed, "noise", worm))
    n = len(weights)
    cells = n + round(config.extra * n)
    dynamics = torch.zeros(cells, cells, dtype=torch.float64)
    dynamics[:n, :n] = weights
    dynamics.diagonal()[n:] = _EXTRA_MEMORY
    y = torch.randn(config.steps + 1, cells, generator=generator, dtype=torch.float64)
    y[0] = 1 / config.noise
    for t in range(config.steps):
        y[t + 1] += dynamics @ y[t]
    return y


def _worm(weights: Tensor, near: Tensor, config: NeuronsConfig, worm: int) -> Worm:
    generator = _generator(stream_seed(config.seed, "order", worm))
    n, activity = len(weights), _activity(weights, config, worm)
    seen = torch.randperm(n, generator=generator)[: max(1, round(config.observed * n))]
    extra = torch.arange(n, activity.shape[1])
    cells = torch.cat([seen, extra])
    cells = cells[torch.randperm(len(cells), generator=generator)]
    # An extra cell lies where some neuron does.
    beside = torch.randint(n, (len(cells),), generator=generator)
    allowed = near[torch.where(cells < n, cells, beside)].clone()
    names = torch.where(cells < n, cells, -1)
    neurons = (names >= 0).nonzero().flatten()
    chosen = neurons[torch.randperm(len(neurons), generator=generator)]
    chosen = chosen[: round(config.known * len(neurons))]
    known = torch.zeros(len(cells), dtype=torch.bool)
    known[chosen] = True
    allowed[:, names[chosen]] = False
    allowed[chosen] = False
    allowed[chosen, names[chosen]] = True
    recording = Recording.of(activity[:, cells])
    return Worm(recording, allowed, names, known, len(seen) < n, len(extra) > 0)


def simulate(wiring: Wiring, config: NeuronsConfig) -> Simulation:
    r"""Draw weights and worms: a function of wiring and settings alone.

    .. math:: y_t = (W \circ A)\,y_{t-1} + e_t, \quad e_t \sim N(0, \sigma^2 I), \quad y_0 = 1

    Weights, noise, orders and candidates have streams of their own, and so has every worm: with
    more worms the first ones stay the same. `Recording` divides by sigma.

    Raises:
        ValueError: there cannot be so many candidates.

    Source: Mena et al., "Toward Bayesian permutation inference for identifying neurons in C.
        elegans", 2017.
    """
    weights = draw_weights(wiring.adjacency, stream_seed(config.seed, "weights"))
    near = near_pairs(wiring, config)
    worms = [_worm(weights, near, config, worm) for worm in range(config.worms)]
    return Simulation(weights, worms)
