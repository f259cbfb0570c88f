"""From worms to names: infer, and measure."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from softperm.data.worm import Wiring
from softperm.distributions import GumbelMatching
from softperm.permutations import permutation_matrix
from softperm.program.neurons import baselines
from softperm.program.neurons.bound import ascend
from softperm.program.neurons.conditional import conditional_scores
from softperm.program.neurons.config import NeuronsConfig
from softperm.program.neurons.model import (
    Parents,
    observed_sums,
    prior_std,
    ridge_loss,
    weight_posterior,
)
from softperm.program.neurons.simulation import Worm
from softperm.program.neurons.start import Start, find_start, hard_names, unnamed_evidence
from softperm.program.training.streams import stream_seed

_BASELINES: dict[str, Callable[..., list[Tensor]]] = {
    "fw": baselines.evidence_names,
    "map": baselines.map_names,
    "mcmc": baselines.mcmc_names,
    "naive": baselines.naive_names,
}
_SAMPLES = 200  # of names, for the confidence
_ROUNDS = 4  # of drawing all names given the others
_INFERENCE = 10**6  # sets the noise of the inference apart from that of the worms


@dataclass
class Found:
    """Names that were inferred.

    Arguments:
        names: Name of every cell, int64, (m,) per worm; -1 for none.
        confidence: Share of Gumbel-Matching samples with that name, (m,) per worm; by whose scores
            they were drawn: "resampled" (see `resampled_confidence`), "start", "vi". None from the
            baselines.
        history: Soft names of the first worm after each step, with what it was.
        extra: Metrics of the inference itself.
    """

    names: list[Tensor]
    confidence: dict[str, list[Tensor]] = field(default_factory=dict)
    history: list[tuple[str, Tensor]] = field(default_factory=list)
    extra: dict[str, float] = field(default_factory=dict)


@dataclass
class Outcome:
    """What a run found and how good it is."""

    worms: list[Worm]
    found: Found
    metrics: dict[str, float]


def confidence(
    scores: Tensor, names: Tensor, generator: torch.Generator, *, unnamed: bool = False
) -> Tensor:
    """Share of the samples of Gumbel-Matching in which cells have these names, (m,).

    Arguments:
        scores: Scores of the names, (m, n).
        names: The names, (m,); -1 for none.
        generator: Of the noise.
        unnamed: Whether cells may have no name.
    """
    distribution = GumbelMatching(scores, unmatched=0.0 if unnamed else None)
    share = distribution.sample((_SAMPLES,), generator=generator).mean(0)
    named = share.gather(1, names.clamp_min(0)[:, None])[:, 0]
    return torch.where(names >= 0, named, 1 - share.sum(1))


def _drawn_names(scores: Tensor, generator: torch.Generator, unnamed: bool) -> Tensor:
    """A sample of Gumbel-Matching as names, (m,)."""
    distribution = GumbelMatching(scores, unmatched=0.0 if unnamed else None)
    place: Tensor = distribution.sample(generator=generator)
    return torch.where(place.sum(1) > 0, place.argmax(1), -1)


def resampled_confidence(
    worms: Sequence[Worm],
    names: Sequence[Tensor],
    adjacency: Tensor,
    std: float,
    *,
    noise: Sequence[float],
    seed: int,
) -> list[Tensor]:
    """Share of the samples with these names, drawn given names that are drawn anew each round.

    As in Gibbs sampling a name is drawn from its posterior given all others, the weights integrated
    out. But all cells are drawn at once, by matchings, which is not exact: what two cells that swap
    say of each other counts twice.

    Arguments:
        worms: The worms.
        names: The names, (m,) per worm; the first round is given these.
        adjacency: The wiring, bool, (n, n).
        std: Standard deviation of the weights.
        noise: Variance of the noise in every worm.
        seed: Of the samples.
    """
    generator = torch.Generator().manual_seed(stream_seed(seed, "noise", _INFERENCE + 2))
    given, rounds = list(names), []
    for _ in range(_ROUNDS):
        scores = [
            conditional_scores(worms, given, adjacency, std, noise=noise, worm=k)
            for k in range(len(worms))
        ]
        rounds.append(
            [
                confidence(score, name, generator, unnamed=worm.unnamed)
                for worm, score, name in zip(worms, scores, names, strict=True)
            ]
        )
        drawn = [
            _drawn_names(score, generator, worm.unnamed)
            for worm, score in zip(worms, scores, strict=True)
        ]
        if all(torch.equal(old, new) for old, new in zip(given, drawn, strict=True)):
            break  # the next round would be the same
        given = drawn
    return [torch.stack(beliefs).mean(0) for beliefs in zip(*rounds, strict=True)]


def _believe(
    found: Found, kind: str, worms: Sequence[Worm], scores: Sequence[Tensor], seed: int
) -> None:
    """Add how sure the names are by these scores."""
    generator = torch.Generator().manual_seed(stream_seed(seed, "noise", _INFERENCE + 1))
    found.confidence[kind] = [
        confidence(score, name, generator, unnamed=worm.unnamed)
        for worm, score, name in zip(worms, scores, found.names, strict=True)
    ]


def infer(worms: Sequence[Worm], adjacency: Tensor, std: float, config: NeuronsConfig) -> Found:
    """Names for the cells of all worms by the method of the settings.

    Arguments:
        worms: The worms; their true names are not looked at.
        adjacency: The wiring, bool, (n, n).
        std: Standard deviation of the weights.
        config: Method and seed.
    """
    parents = Parents.of(adjacency)
    generator = torch.Generator().manual_seed(stream_seed(config.seed, "noise", _INFERENCE))
    if config.method in _BASELINES:
        return Found(_BASELINES[config.method](worms, adjacency, std, generator))
    found = Found([])

    def watch(start: Start) -> None:
        found.history.append(("start", start.soft[0]))

    start = find_start(worms, adjacency, std, watch=watch)
    noise = [evidence.noise.mean().item() for evidence in start.evidence]
    scores = start.scores
    if config.method == "vi":
        posterior = ascend(
            worms,
            parents,
            std,
            start.soft,
            generator,
            noise=noise,
            watch=lambda soft: found.history.append(("vi", soft[0])),
        )
        scores = list(posterior.log_alpha)
        found.extra = {"bound": posterior.bound, "divergence": posterior.divergence}
    found.names = [
        hard_names(score, unnamed=worm.unnamed) for worm, score in zip(worms, scores, strict=True)
    ]
    found.confidence["resampled"] = resampled_confidence(
        worms, found.names, adjacency, std, noise=noise, seed=config.seed
    )
    _believe(found, "start", worms, start.scores, config.seed)
    if config.method == "vi":
        _believe(found, "vi", worms, scores, config.seed)
    return found


def _mean(values: Sequence[float]) -> float:
    """The mean; NaN of nothing."""
    return sum(values) / len(values) if values else math.nan


def _right(worms: Sequence[Worm], names: Sequence[Tensor], of: str) -> float:
    """Share named rightly, mean over worms: of all neurons, unknown ones, or extra cells."""
    shares = []
    for worm, found in zip(worms, names, strict=True):
        cells = worm.names < 0 if of == "extra" else worm.names >= 0
        if of == "unknown":
            cells = cells & ~worm.known
        if cells.any():
            shares.append((found == worm.names)[cells].double().mean().item())
    return _mean(shares)


def measure(
    worms: Sequence[Worm], adjacency: Tensor, std: float, names: Sequence[Tensor]
) -> dict[str, float]:
    """How good names are: shares named rightly, and loss and evidence beside those of the truth.

    Arguments:
        worms: The worms.
        adjacency: The wiring, bool, (n, n).
        std: Standard deviation of the weights.
        names: A name for every cell, (m,) per worm.
    """
    n, parents = len(adjacency), Parents.of(adjacency)
    recordings = [worm.recording for worm in worms]
    metrics = {
        "accuracy": _right(worms, names, "all"),
        "accuracy_unknown": _right(worms, names, "unknown"),
        "extra_unnamed": _right(worms, names, "extra"),
        "candidates": _mean([w.allowed.sum(1).double().mean().item() for w in worms]),
    }
    for kind, given in (("", names), ("_of_the_truth", [worm.names for worm in worms])):
        matrices = [permutation_matrix(name, torch.float64, n) for name in given]
        posterior = weight_posterior(*observed_sums(recordings, matrices, parents), parents, std)
        metrics[f"loss{kind}"] = ridge_loss(recordings, given, parents)
        alone = sum(
            unnamed_evidence(w)[name < 0].sum().item() for w, name in zip(worms, given, strict=True)
        )
        metrics[f"log_evidence{kind}"] = posterior.log_evidence + alone
    return {name: value for name, value in metrics.items() if not math.isnan(value)}


def run(worms: list[Worm], wiring: Wiring, config: NeuronsConfig) -> Outcome:
    """Infer the names of worms, and measure: a function of worms, wiring and settings alone.

    Only "seconds", the processor time of the inference, is another every time.
    """
    std = prior_std(wiring.adjacency)
    began = time.process_time()
    found = infer(worms, wiring.adjacency, std, config)
    seconds = time.process_time() - began
    metrics = {
        **measure(worms, wiring.adjacency, std, found.names),
        **found.extra,
        "seconds": seconds,
    }
    return Outcome(worms, found, metrics)
