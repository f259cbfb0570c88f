"""The baselines find the names of tiny worms, and do what they say."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from torch.distributions import Dirichlet, kl_divergence

from softperm.data.worm import synthetic_wiring
from softperm.permutations import permutation_matrix
from softperm.program.neurons.baselines import (
    _Dirichlets,
    evidence_names,
    frank_wolfe,
    map_names,
    mcmc_names,
    naive_names,
    random_names,
    swap_gain,
)
from softperm.program.neurons.config import NeuronsConfig
from softperm.program.neurons.infer import infer
from softperm.program.neurons.model import prior_std
from softperm.program.neurons.simulation import simulate
from softperm.program.neurons.start import Pairs

WIRING = synthetic_wiring(10, 30)
STD = prior_std(WIRING.adjacency)
WORM = simulate(WIRING, NeuronsConfig(candidates=2.0, steps=3000, known=0.3)).worms[0]


@pytest.mark.parametrize("names", [evidence_names, map_names, mcmc_names, naive_names])
def test_easy_names_are_found(names) -> None:  # type: ignore[no-untyped-def]
    found = names([WORM], WIRING.adjacency, STD, torch.Generator().manual_seed(0))
    assert (found[0] == WORM.names).double().mean() >= 0.8
    assert WORM.allowed[torch.arange(10), found[0]].all()


@pytest.mark.parametrize("method", ["fw", "naive", "map", "mcmc"])
def test_a_method_is_a_function_of_its_seed(method: str) -> None:
    config = NeuronsConfig(method=method, seed=3)  # type: ignore[arg-type]
    first, second = (infer([WORM], WIRING.adjacency, STD, config) for _ in range(2))
    assert torch.equal(first.names[0], second.names[0])
    assert not first.confidence


def test_the_gain_of_a_swap_is_the_difference_of_likelihoods() -> None:
    random = np.random.default_rng(0)
    n = 6
    root, cross, weights = random.standard_normal((3, n, n))
    gram, square = root @ root.T, weights.T @ weights

    def value(order: list[int]) -> float:
        g, c = gram[np.ix_(order, order)], cross[np.ix_(order, order)]
        return float((c * weights).sum() - 0.5 * (g * square).sum())

    for i, j in ((0, 1), (2, 5), (4, 3)):
        order = list(range(n))
        order[i], order[j] = j, i
        gain = swap_gain(gram, cross, square, weights, i, j)
        assert gain == pytest.approx(value(order) - value(list(range(n))))


def test_frank_wolfe_rises_to_names_that_no_step_improves() -> None:
    generator = torch.Generator().manual_seed(0)
    pairs = Pairs(
        torch.randn(1, 5, 5, generator=generator), torch.randn(1, 5, 5, generator=generator)
    )
    allowed, middle = torch.ones(5, 5, dtype=torch.bool), torch.full((5, 5), 0.2)
    soft = frank_wolfe(pairs, allowed, middle)
    assert pairs.value(soft) > pairs.value(middle)
    gradient = pairs.gradient(soft)
    slopes = [
        (gradient * (permutation_matrix(torch.tensor(p)) - soft)).sum().item()
        for p in permutations(range(5))
    ]
    assert max(slopes) <= 0.01 * (gradient * soft).sum().abs().item()


def test_random_names_are_allowed() -> None:
    for seed in range(5):
        names = random_names(WORM.allowed, torch.Generator().manual_seed(seed))
        assert WORM.allowed[torch.arange(10), names].all()


def test_dirichlets_of_the_allowed_names() -> None:
    allowed = torch.tensor([[[True, True, False], [True, True, True], [False, False, True]]])
    rows = _Dirichlets(allowed)
    concentration = torch.tensor([0.5, 2.0, 1.0, 3.0, 0.7, 1.3])
    expected = sum(
        kl_divergence(Dirichlet(c), Dirichlet(torch.ones(len(c))))
        for c in concentration.split([2, 3, 1])
    )
    assert rows.divergence(concentration).item() == pytest.approx(float(expected), abs=1e-5)
    torch.manual_seed(0)
    samples = torch.stack([rows.sample(concentration) for _ in range(4000)])
    assert torch.allclose(samples.sum(-1), torch.ones(4000, 1, 3), atol=1e-5)
    assert not samples[:, ~allowed].any()
    assert torch.allclose(samples.mean(0)[0, 0, :2], torch.tensor([0.2, 0.8]), atol=0.02)
