r"""Coordinate ascent on the names, worm by worm: where the variational inference starts.

The evidence of the pairs makes the names a quadratic assignment problem,

.. math:: F(P) = \sum_{ij} A_{ij}\,(P^\top L P)_{ij}

with L the scores of `Evidence`. The scores of the names are the gradient of F, in nats: what it
gains to name cell a neuron i while the others have the names they have. Divided by a temperature
that falls to 1, they go through the Sinkhorn operator to the next soft names.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from softperm.ops import matching, sinkhorn
from softperm.program.neurons.evidence import Evidence, edge_evidence, log_bayes, memory_evidence
from softperm.program.neurons.simulation import Worm

_HOTTEST, _ANNEALING = 100.0, 100  # temperature at the beginning, and sweeps down to 1
_REFITS, _REFIT_HOTTEST, _REFIT_SWEEPS = 2, 3.0, 15
_SHARING_SWEEPS = 15
_KEPT = 0.5  # of the old soft names in every sweep
_N_ITERS = 20
_CERTAIN = 8.0  # log odds that a cell whose name is known has it


@dataclass(frozen=True)
class Pairs:
    """Sum over k of <P^T scores_k P, weights_k>: a quadratic function of the names.

    Arguments:
        scores: Of pairs of cells, (k, m, m).
        weights: Of pairs of neurons, (k, n, n).
    """

    scores: Tensor
    weights: Tensor

    def gradient(self, soft: Tensor) -> Tensor:
        """What it gains to give a cell a name while the others keep theirs, (m, n)."""
        forth = self.scores @ soft @ self.weights.mT
        return (forth + self.scores.mT @ soft @ self.weights).sum(0)

    def value(self, soft: Tensor) -> Tensor:
        """The function."""
        return (soft.mT @ self.scores @ soft * self.weights).sum()


@dataclass
class Start:
    """Names as far as the coordinate ascent finds them.

    Arguments:
        worms: The worms.
        adjacency: The wiring, float32, (n, n).
        std: Standard deviation of the weights.
        soft: Soft names of every worm, (m, n) each.
        scores: Scores of the names of every worm, in nats, -inf where forbidden.
        evidence: That of every worm.
    """

    worms: Sequence[Worm]
    adjacency: Tensor
    std: float
    soft: list[Tensor]
    scores: list[Tensor]
    evidence: list[Evidence]

    def sweep(self, worm: int, pairs: Pairs, temperature: float) -> None:
        """New scores and soft names of one worm."""
        gain = pairs.gradient(self.soft[worm]) - unnamed_evidence(self.worms[worm])[:, None]
        self.scores[worm] = gain + prior_scores(self.worms[worm])
        new = soft_names(self.scores[worm], temperature, unnamed=self.worms[worm].unnamed)
        self.soft[worm] = _KEPT * self.soft[worm] + (1 - _KEPT) * new

    def refit(self, worm: int) -> None:
        """The evidence of one worm, given its names: with whom a cell is likely connected."""
        chance = self.soft[worm] @ self.adjacency @ self.soft[worm].mT
        self.evidence[worm] = _evidence(self.worms[worm], chance, self.std)

    def alone(self, worm: int) -> Pairs:
        """The function of the names of one worm, its weights integrated out."""
        return Pairs(self.evidence[worm].score[None], self.adjacency[None])


def prior_scores(worm: Worm) -> Tensor:
    """Prior log odds of every name against no name, -inf where forbidden, (m, n).

    Where cells may be no neurons, a cell is none with probability 1/2, else each of its k
    candidates with the same probability: the odds are 1 / k. Elsewhere all are 1.
    """
    scores = torch.zeros(worm.allowed.shape)
    if worm.unnamed:
        scores -= worm.allowed.sum(1, keepdim=True).clamp_min(1).log()
        scores[worm.known] = _CERTAIN
    return scores.masked_fill(~worm.allowed, -math.inf)


def unnamed_evidence(worm: Worm) -> Tensor:
    """Log evidence that a cell is no neuron, less that of no connections, (m,)."""
    if not worm.unnamed:
        return torch.zeros(len(worm.allowed))
    return memory_evidence(worm.recording)


def soft_names(scores: Tensor, temperature: float = 1.0, *, unnamed: bool = False) -> Tensor:
    """The Sinkhorn operator, with slack of score 0 where cells may have no name."""
    if not unnamed:
        return sinkhorn(scores, temperature, _N_ITERS)
    return sinkhorn(scores, temperature, _N_ITERS, slack=0.0)[:-1, :-1]


def hard_names(scores: Tensor, *, unnamed: bool = False) -> Tensor:
    """The names with the largest total score, int64, (m,); -1 for none."""
    return matching(scores, unmatched=0.0 if unnamed else None)


def temperatures(hottest: float, sweeps: int) -> list[float]:
    """Temperatures that fall from `hottest` to 1 by the same factor in every sweep."""
    return [hottest ** (1 - k / (sweeps - 1)) for k in range(sweeps)]


def others_weights(start: Start, worm: int) -> tuple[Tensor, Tensor]:
    """Mean and variance of every weight from the other worms, by name.

    A pair of names counts as much as both are believed. Averages over soft names would make all
    weights small and sure of it.
    """
    n = len(start.adjacency)
    precision = torch.full((n, n), 1 / start.std**2)
    weighted = torch.zeros(n, n)
    for k, (soft, evidence) in enumerate(zip(start.soft, start.evidence, strict=True)):
        if k == worm:
            continue
        scores = soft.masked_fill(~start.worms[k].allowed, -math.inf)
        names = hard_names(scores, unnamed=start.worms[k].unnamed)
        cells = (names >= 0).nonzero().flatten()
        place = names[cells]
        belief = soft[cells, place]
        share = belief[:, None] * belief / evidence.variance[cells][:, cells]
        precision[place[:, None], place] += share
        weighted[place[:, None], place] += share * evidence.mean[cells][:, cells]
    return weighted / precision, 1 / precision


def together(start: Start, worm: int) -> Pairs:
    """The function of the names of one worm, given the weights as the others have them.

    The variance of the evidence is taken to be the same for all pairs of cells; then the log
    evidence is a sum of three products of something of cells and something of neurons.
    """
    prior_mean, prior_variance = others_weights(start, worm)
    variance = start.evidence[worm].variance.mean()
    mean = start.evidence[worm].mean
    total = variance + prior_variance
    constant = log_bayes(torch.zeros(()), variance, prior_mean, prior_variance)
    quadratic = 0.5 * (1 / variance - 1 / total)
    weights = torch.stack([constant, prior_mean / total, quadratic]) * start.adjacency
    return Pairs(torch.stack([torch.ones_like(mean), mean, mean.square()]), weights)


def _evidence(worm: Worm, chance: Tensor, std: float) -> Evidence:
    return edge_evidence(worm.recording, chance, std, unseen=worm.unseen)


def _begin(worms: Sequence[Worm], adjacency: Tensor, std: float) -> Start:
    """All allowed names are equally likely, and so are all connections."""
    start = Start(worms, adjacency.float(), std, [], [], [])
    for worm in worms:
        m = len(worm.allowed)
        chance = torch.full((m, m), start.adjacency.mean().item())
        start.scores.append(prior_scores(worm))
        start.soft.append(soft_names(start.scores[-1], unnamed=worm.unnamed))
        start.evidence.append(_evidence(worm, chance, std))
    return start


def find_start(
    worms: Sequence[Worm],
    adjacency: Tensor,
    std: float,
    *,
    sweeps: int = _ANNEALING,
    watch: Callable[[Start], None] = lambda start: None,
) -> Start:
    """Anneal every worm alone, refit its evidence to the names found, then let worms help others.

    Arguments:
        worms: The worms.
        adjacency: The wiring, bool, (n, n).
        std: Standard deviation of the weights.
        sweeps: Sweeps of the annealing, at least 2.
        watch: Called before the first sweep of a worm and after every one.
    """
    start = _begin(worms, adjacency, std)
    watch(start)
    for k in range(len(worms)):
        for temperature in temperatures(_HOTTEST, sweeps):
            start.sweep(k, start.alone(k), temperature)
            watch(start)
        for _ in range(_REFITS):
            start.refit(k)
            for temperature in temperatures(_REFIT_HOTTEST, _REFIT_SWEEPS):
                start.sweep(k, start.alone(k), temperature)
                watch(start)
    for _ in range(_SHARING_SWEEPS if len(worms) > 1 else 0):
        for k in range(len(worms)):
            start.sweep(k, together(start, k), 1.0)
            watch(start)
    return start
