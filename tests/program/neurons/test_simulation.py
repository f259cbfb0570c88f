"""Worms are as the experiment asks, and a function of the settings alone."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from softperm.data.worm import Wiring, load_wiring, synthetic_wiring
from softperm.program.neurons.config import NeuronsConfig
from softperm.program.neurons.simulation import (
    Recording,
    draw_weights,
    near_pairs,
    simulate,
    spectral_radius,
)

WIRING = synthetic_wiring(30, 120)
WORM = Path(os.environ.get("SOFTPERM_DATA", ""), "celegans")
CONFIG = NeuronsConfig(candidates=5.0, steps=50)


def test_weights_have_the_radius_and_the_entries_of_the_wiring() -> None:
    weights = draw_weights(synthetic_wiring().adjacency, 0)
    assert int((weights != 0).sum()) == 2993
    assert spectral_radius(weights) == pytest.approx(1 / 1.5)
    assert weights[weights != 0].mean().abs() < 0.02  # Gaussian on the wiring


def test_a_wiring_without_a_cycle_is_refused() -> None:
    line = torch.diag(torch.ones(3), -1).bool()
    wiring = Wiring(("A", "B", "C", "D"), torch.linspace(0, 1, 4).double(), line, "a line")
    with pytest.raises(ValueError, match="adjacency must have a cycle"):
        simulate(wiring, NeuronsConfig(candidates=2.0))


@pytest.mark.parametrize("candidates", [10.0, 30.0, 45.0, 60.0])
@pytest.mark.parametrize("source", ["synthetic", "worm"])
def test_mean_candidates(candidates: float, source: str) -> None:
    if source == "worm" and not WORM.is_dir():
        pytest.skip("SOFTPERM_DATA has no celegans")
    wiring = synthetic_wiring() if source == "synthetic" else load_wiring(WORM)
    near = near_pairs(wiring, NeuronsConfig(candidates=candidates))
    assert near.sum(1).double().mean().item() == pytest.approx(candidates, abs=0.01)
    assert torch.equal(near, near.mT)
    assert near.diagonal().all()


def test_eta_decides_where_candidates_are_0() -> None:
    near = near_pairs(WIRING, NeuronsConfig(candidates=0.0, eta=0.2))
    distance = (WIRING.position[:, None] - WIRING.position).abs()
    assert near[distance < 0.19].all()
    assert not near[distance > 0.21].any()


def test_observed_activity_follows_the_weights() -> None:
    config = replace(CONFIG, steps=4000, noise=0.5)
    simulation = simulate(WIRING, config)
    worm = simulation.worms[0]
    order = worm.names.argsort()
    gram, cross = (part[order][:, order] for part in (worm.recording.gram, worm.recording.cross))
    estimate = torch.linalg.solve(gram, cross.mT).mT
    assert (estimate - simulation.weights).abs().max() < 0.08  # 5 / sqrt(4000)
    left = worm.recording.energy[order] - (estimate * cross).sum(1)
    assert left / config.steps == pytest.approx(torch.ones(30), abs=0.15)  # in units of the noise


def test_a_recording_is_the_plain_sums() -> None:
    y = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)).double()
    recording = Recording.of(y)
    gram = sum(torch.outer(y[t], y[t]) for t in range(5))
    cross = sum(torch.outer(y[t + 1], y[t]) for t in range(5))
    assert torch.allclose(recording.gram, torch.as_tensor(gram))
    assert torch.allclose(recording.cross, torch.as_tensor(cross))
    assert torch.allclose(recording.energy, y[1:].square().sum(0))
    assert recording.steps == 5


def test_known_names_have_no_other_candidate() -> None:
    worm = simulate(WIRING, replace(CONFIG, known=0.4)).worms[0]
    assert int(worm.known.sum()) == 12
    assert (worm.allowed[worm.known].sum(1) == 1).all()
    assert (worm.allowed[:, worm.names[worm.known]].sum(0) == 1).all()
    assert worm.allowed[torch.arange(30), worm.names].all()


def test_partial_worms_and_extra_cells() -> None:
    worm = simulate(WIRING, replace(CONFIG, observed=0.6, extra=0.1)).worms[0]
    assert len(worm.names) == 18 + 3
    assert int((worm.names < 0).sum()) == 3
    assert worm.unseen
    assert worm.unnamed
    assert len(worm.names[worm.names >= 0].unique()) == 18
    assert worm.allowed.any(1).all()
    whole = simulate(WIRING, CONFIG).worms[0]
    assert not whole.unseen
    assert not whole.unnamed


def test_more_worms_leave_the_first_as_they_are() -> None:
    few, many = (simulate(WIRING, replace(CONFIG, worms=k)) for k in (2, 3))
    assert torch.equal(few.weights, many.weights)
    for a, b in zip(few.worms, many.worms, strict=False):
        assert torch.equal(a.names, b.names)
        assert torch.equal(a.recording.gram, b.recording.gram)
    assert not torch.equal(many.worms[0].names, many.worms[1].names)
    other = simulate(WIRING, replace(CONFIG, seed=1))
    assert not torch.equal(other.weights, few.weights)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"worms": 0}, "worms must be between 1 and 100"),
        ({"known": 1.5}, "known must be between 0 and 1"),
        ({"observed": 0.0}, "observed must be between"),
        ({"steps": 1}, "steps must be between"),
        ({"noise": 0.0}, "noise must be between"),
        ({"seed": -1}, "seed must be between"),
        ({"method": "luck"}, "method must be vi or start"),
        ({"method": "mcmc", "observed": 0.5}, "observed must be 1 and extra 0 for method mcmc"),
    ],
)
def test_wrong_settings(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NeuronsConfig(**changes)


@pytest.mark.parametrize("candidates", [0.5, 31.0])
def test_impossible_candidates(candidates: float) -> None:
    with pytest.raises(ValueError, match="candidates must be 0 or from 1 to 30"):
        simulate(WIRING, NeuronsConfig(candidates=candidates))
