"""Conditional scores of names against the evidence of every changed name, by brute force."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest
import torch
from torch import Tensor

from softperm.data.worm import synthetic_wiring
from softperm.permutations import permutation_matrix
from softperm.program.neurons.conditional import conditional_scores
from softperm.program.neurons.config import NeuronsConfig
from softperm.program.neurons.infer import resampled_confidence
from softperm.program.neurons.model import prior_std
from softperm.program.neurons.simulation import Worm, simulate
from softperm.program.neurons.start import prior_scores, unnamed_evidence

WIRING = synthetic_wiring(9, 30, seed=1)
STD = prior_std(WIRING.adjacency)


def log_evidence(worms: list[Worm], names: list[Tensor], noise: list[float]) -> float:
    """Every neuron is regressed on its parents in the worms in which it has a cell."""
    total = 0.0
    for i, row in enumerate(WIRING.adjacency):
        parents = row.nonzero().flatten()
        precision = torch.eye(len(parents), dtype=torch.float64) / STD**2
        target = torch.zeros(len(parents), dtype=torch.float64)
        for worm, name, variance in zip(worms, names, noise, strict=True):
            for cell in (name == i).nonzero().flatten():
                matrix = permutation_matrix(name, torch.float64, 9)[:, parents]
                precision += matrix.mT @ worm.recording.gram @ matrix / variance
                target += worm.recording.cross[cell] @ matrix / variance
        total += 0.5 * (target @ precision.inverse() @ target).item()
        total -= 0.5 * (precision * STD**2).logdet().item()
    for worm, name in zip(worms, names, strict=True):
        total += unnamed_evidence(worm)[name < 0].sum().item()
    return total


@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"worms": 2},
        {"noise": 1e-3, "worms": 2},
        {"observed": 0.7},
        {"observed": 0.7, "extra": 0.3, "worms": 2},
    ],
    ids=str,
)
def test_scores_are_differences_of_evidence(changes: dict[str, Any], shuffled: bool) -> None:
    config = replace(NeuronsConfig(candidates=5.0, steps=60), **changes)
    worms = simulate(WIRING, config).worms
    names = [worm.names.clone() for worm in worms]
    if shuffled:
        names[-1][:3] = names[-1][[1, 2, 0]]
    noise = [1.0, 1.3][: len(worms)]
    last = len(worms) - 1
    scores = conditional_scores(worms, names, WIRING.adjacency, STD, noise=noise, worm=last)
    assert torch.equal(scores.isneginf(), ~worms[last].allowed)
    prior = prior_scores(worms[last])
    for cell, name in worms[last].allowed.nonzero().tolist():
        given = names[last].clone()
        given[given == name] = -1
        given[cell] = -1
        without = log_evidence(worms, [*names[:-1], given], noise)
        given[cell] = name
        gain = log_evidence(worms, [*names[:-1], given], noise) - without
        assert (scores - prior)[cell, name].item() == pytest.approx(gain, abs=1e-3, rel=1e-6)


def test_resampling_is_as_sure_as_the_evidence() -> None:
    """Two cells may have each other's names, the others are known; the swap decides."""
    worm = simulate(WIRING, NeuronsConfig(candidates=9.0, steps=30)).worms[0]
    known = torch.eye(9, dtype=torch.bool)[worm.names]
    truth = log_evidence([worm], [worm.names], [1.0])
    doubted = []
    for a, b in combinations(range(9), 2):
        swapped = worm.names.clone()
        swapped[[a, b]] = worm.names[[b, a]]
        odds = truth - log_evidence([worm], [swapped], [1.0])
        allowed = known.clone()
        allowed[[a, b], swapped[[a, b]]] = True
        pair = replace(worm, allowed=allowed)
        found = resampled_confidence(
            [pair], [worm.names], WIRING.adjacency, STD, noise=[1.0], seed=0
        )[0]
        assert found[a] == found[b]
        others = torch.ones(9, dtype=torch.bool)
        others[[a, b]] = False
        assert (found[others] == 1).all()
        if odds > 8:
            assert found[a] > 0.97
        else:
            doubted.append(found[a].item())
    assert len(doubted) > 10
    assert min(doubted) < 0.5
