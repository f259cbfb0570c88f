"""The evidence of pairs and the coordinate ascent, against quadrature and brute force."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch
from torch.distributions import MultivariateNormal, Normal

from softperm.data.worm import Wiring, synthetic_wiring
from softperm.permutations import permutation_matrix
from softperm.program.neurons.baselines import random_names
from softperm.program.neurons.bound import ascend
from softperm.program.neurons.config import NeuronsConfig
from softperm.program.neurons.evidence import edge_evidence, log_bayes, memory_evidence
from softperm.program.neurons.infer import infer, measure
from softperm.program.neurons.model import Parents, named_sums, prior_std, weight_posterior
from softperm.program.neurons.simulation import Recording, Worm, simulate
from softperm.program.neurons.start import (
    Pairs,
    find_start,
    hard_names,
    others_weights,
    prior_scores,
    soft_names,
    temperatures,
    together,
)

WIRING = synthetic_wiring(40, 220)
STD = prior_std(WIRING.adjacency)
CONFIG = NeuronsConfig(candidates=12.0, steps=1500)


def test_log_bayes_is_the_ratio_of_integrals() -> None:
    w = torch.linspace(-8, 8, 20_001, dtype=torch.float64)
    for b, v, m, s in ((0.5, 0.1, 0.0, 0.2), (-0.3, 0.5, 0.4, 0.05)):
        likelihood = Normal(w, v**0.5).log_prob(torch.tensor(b).double()).exp()
        prior = Normal(m, s**0.5).log_prob(w).exp()
        with_edge = torch.trapezoid(likelihood * prior, w)
        without = Normal(0.0, v**0.5).log_prob(torch.tensor(b).double()).exp()
        expected = (with_edge / without).log().item()
        mean, variance = torch.tensor(b), torch.tensor(v)
        assert log_bayes(mean, variance, m, s).item() == pytest.approx(expected, abs=1e-5)


def test_evidence_with_two_cells_is_exact() -> None:
    """One regressor at a time: the other weight is Gaussian with the variance of its chance."""
    generator = torch.Generator().manual_seed(1)
    y = torch.randn(21, 2, generator=generator, dtype=torch.float64)
    chance = torch.tensor([[0.5, 0.2], [1.0, 0.3]])
    found = edge_evidence(Recording.of(y), chance, 0.4)
    x, t = y[:-1].numpy(), y[1:].numpy()
    for a in range(2):
        for b in range(2):
            other = 1 - b
            noise = np.eye(20) + 0.4**2 * float(chance[a, other]) * np.outer(
                x[:, other], x[:, other]
            )
            inverse = np.linalg.inv(noise)
            precision = x[:, b] @ inverse @ x[:, b]
            assert found.variance[a, b].item() == pytest.approx(1 / precision, rel=1e-4)
            mean = x[:, b] @ inverse @ t[:, a] / precision
            assert found.mean[a, b].item() == pytest.approx(mean, rel=1e-3, abs=1e-6)
            wide = noise + 0.4**2 * np.outer(x[:, b], x[:, b])
            ratio = 0.5 * t[:, a] @ (inverse - np.linalg.inv(wide)) @ t[:, a]
            ratio -= 0.5 * (np.linalg.slogdet(wide)[1] - np.linalg.slogdet(noise)[1])
            assert found.score[a, b].item() == pytest.approx(ratio, abs=1e-4)


def test_the_evidence_of_memory_is_that_of_a_regression_on_oneself() -> None:
    y = torch.randn(31, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    found = memory_evidence(Recording.of(y))
    for cell in range(3):
        before, after = y[:-1, cell], y[1:, cell]
        given = MultivariateNormal(
            torch.zeros(30).double(), torch.eye(30) + before[:, None] * before
        )
        nothing = Normal(torch.zeros(30).double(), 1.0)
        expected = given.log_prob(after) - nothing.log_prob(after).sum()
        assert found[cell].item() == pytest.approx(expected.item(), abs=1e-4)


def test_unseen_neurons_make_noise() -> None:
    worm = simulate(WIRING, replace(CONFIG, observed=0.5, steps=5000)).worms[0]
    m = len(worm.names)
    chance = torch.full((m, m), WIRING.density)
    noise = edge_evidence(worm.recording, chance, STD, unseen=True).noise
    assert (noise >= 1).all()
    assert noise.mean() > 1.03
    assert edge_evidence(worm.recording, chance, STD).noise.eq(1).all()


def test_gradient_of_pairs() -> None:
    generator = torch.Generator().manual_seed(2)
    pairs = Pairs(
        torch.randn(2, 4, 4, generator=generator), torch.randn(2, 5, 5, generator=generator)
    )
    soft = torch.rand(4, 5, generator=generator).requires_grad_()
    (gradient,) = torch.autograd.grad(pairs.value(soft), soft)
    assert torch.allclose(pairs.gradient(soft.detach()), gradient, atol=1e-5)
    plain = sum(
        (soft.mT @ s @ soft * w).sum() for s, w in zip(pairs.scores, pairs.weights, strict=True)
    )
    assert torch.allclose(pairs.value(soft), torch.as_tensor(plain), atol=1e-4)


def test_temperatures() -> None:
    assert temperatures(100.0, 3) == pytest.approx([100.0, 10.0, 1.0])


def best_by_brute_force(worm: Worm, wiring: Wiring, std: float) -> float:
    """The highest evidence of all allowed names."""
    parents, n = Parents.of(wiring.adjacency), len(wiring.names)
    best = -np.inf
    for names in permutations(range(n)):
        if worm.allowed[torch.arange(n), torch.tensor(names)].all():
            matrix = permutation_matrix(torch.tensor(names), torch.float64)
            sums = named_sums([worm.recording], [matrix])
            evidence = weight_posterior(*sums, parents, std).log_evidence
            best = max(best, evidence)
    return best


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_best_of_all_names_is_found(seed: int) -> None:
    wiring = synthetic_wiring(6, 12, seed=seed)
    std = prior_std(wiring.adjacency)
    worm = simulate(wiring, NeuronsConfig(candidates=3.0, steps=800, seed=seed)).worms[0]
    evidence = best_by_brute_force(worm, wiring, std)
    for method in ("start", "vi"):
        config = NeuronsConfig(method=method)
        found = infer([worm], wiring.adjacency, std, config).names
        parts = named_sums([worm.recording], [permutation_matrix(found[0], torch.float64)])
        reached = weight_posterior(*parts, Parents.of(wiring.adjacency), std).log_evidence
        assert reached == pytest.approx(evidence)


def test_all_names_are_found() -> None:
    worm = simulate(WIRING, CONFIG).worms[0]
    start = find_start([worm], WIRING.adjacency, STD)
    assert torch.equal(hard_names(start.scores[0]), worm.names)


def test_a_wrong_wiring_names_nobody() -> None:
    """What finds the names is the wiring: with another one they are as good as drawn."""
    worm = simulate(WIRING, CONFIG).worms[0]
    other = synthetic_wiring(40, 220, seed=5).adjacency
    names = hard_names(find_start([worm], other, STD).scores[0])
    assert (names == worm.names).float().mean() < 0.3


def test_other_worms_tell_the_weights() -> None:
    simulation = simulate(WIRING, replace(CONFIG, worms=3))
    start = find_start(simulation.worms, WIRING.adjacency, STD)
    mean, variance = others_weights(start, 0)
    on = WIRING.adjacency
    off_by = (mean - simulation.weights)[on] / variance[on].sqrt()
    assert off_by.square().mean().item() == pytest.approx(1.0, abs=0.5)
    # The right names have a higher value than random ones, by what the others know.
    pairs = together(start, 0)
    true = permutation_matrix(simulation.worms[0].names)
    allowed, generator = simulation.worms[0].allowed, torch.Generator().manual_seed(0)
    wrong = permutation_matrix(random_names(allowed, generator))
    assert pairs.value(true) > pairs.value(wrong)


@pytest.mark.parametrize(
    "changes",
    [
        {"worms": 3, "steps": 300},
        {"observed": 0.8, "candidates": 5.0},
        {"extra": 0.2, "candidates": 6.0},
    ],
    ids=str,
)
def test_names_of_several_partial_and_strange_worms(changes: dict[str, Any]) -> None:
    simulation = simulate(WIRING, replace(CONFIG, **changes))
    found = infer(simulation.worms, WIRING.adjacency, STD, CONFIG)
    metrics = measure(simulation.worms, WIRING.adjacency, STD, found.names)
    assert metrics["accuracy"] > 0.8
    if "extra" in changes:
        assert metrics["extra_unnamed"] > 0.5
    for worm, names in zip(simulation.worms, found.names, strict=True):
        given = names[names >= 0]
        assert len(given.unique()) == len(given)
        assert worm.allowed[names >= 0][torch.arange(len(given)), given].all()
    assert list(found.confidence) == ["resampled", "start", "vi"]
    for beliefs in found.confidence.values():
        for belief in beliefs:
            assert ((belief >= 0) & (belief <= 1)).all()


def test_the_bound_rises_and_stays_below_the_evidence() -> None:
    worm = simulate(WIRING, CONFIG).worms[0]
    parents = Parents.of(WIRING.adjacency)
    true = permutation_matrix(worm.names)
    evidence = weight_posterior(
        *named_sums([worm.recording], [true.double()]), parents, STD
    ).log_evidence
    seen: list[torch.Tensor] = []
    posterior = ascend(
        [worm], parents, STD, [true], torch.Generator().manual_seed(0), watch=seen.append
    )
    assert posterior.trace[0] < posterior.bound < evidence
    assert posterior.divergence > 0
    assert len(seen) == len(posterior.trace) == 100
    assert torch.equal(hard_names(posterior.log_alpha[0]), worm.names)
    assert torch.allclose(seen[-1][0].sum(0), torch.ones(40), atol=1e-4)


def test_no_name_is_as_probable_as_all_candidates_together() -> None:
    worm = simulate(WIRING, replace(CONFIG, extra=0.2, known=0.2)).worms[0]
    scores = prior_scores(worm)
    assert torch.equal(scores.isneginf(), ~worm.allowed)
    odds = scores.exp().sum(1)
    assert torch.allclose(odds[~worm.known], torch.ones(()))
    assert (odds[worm.known] > 1000).all()
    alone = soft_names(scores[~worm.known][:1], unnamed=True)
    assert alone.sum().item() == pytest.approx(0.5, abs=0.15)
    complete = replace(worm, unnamed=False)
    assert prior_scores(complete)[worm.allowed].eq(0).all()


def test_extra_cells_stay_unnamed_where_neurons_are_missing() -> None:
    config = replace(CONFIG, observed=0.7, extra=0.25, candidates=8.0, steps=4000)
    worms = simulate(WIRING, config).worms
    found = infer(worms, WIRING.adjacency, STD, config)
    metrics = measure(worms, WIRING.adjacency, STD, found.names)
    assert metrics["extra_unnamed"] > 0.8
    assert metrics["accuracy"] > 0.9
