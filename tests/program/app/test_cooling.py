"""The soft matrix at falling temperatures, against a plain loop, and what is said of it."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import logsumexp

from softperm.program.app.cooling import MOST_ITERATIONS, STEPS, TOL, cool


def plain(scores: NDArray[np.float64], tau: float, iterations: int) -> NDArray[np.float64]:
    """Rows and columns normalised in turn."""
    x = scores / tau
    for _ in range(iterations):
        x = x - logsumexp(x, 1, keepdims=True)
        x = x - logsumexp(x, 0, keepdims=True)
    return np.exp(x)


def test_the_matrices_are_those_of_the_iterations_told() -> None:
    scores = np.random.default_rng(0).normal(size=(6, 6))
    cooled = cool(torch.from_numpy(scores), 10.0, 0.3)
    assert len(cooled["taus"]) == STEPS
    assert cooled["taus"][0] == 10.0
    assert cooled["taus"][-1] == 0.3
    taus = np.geomspace(10.0, 0.3, STEPS)
    for tau, matrix, n in zip(taus, cooled["matrices"], cooled["iterations"], strict=True):
        assert np.abs(np.array(matrix) - plain(scores, tau, n)).max() <= 0.00011


def test_what_converged_and_what_did_not() -> None:
    squares = torch.arange(32.0) ** 2
    places = torch.arange(32.0)
    scores = -(
        ((squares - squares.mean()) / squares.std()).unsqueeze(1)
        - (places - places.mean()) / places.std()
    ).square()
    cooled = cool(scores, 3.0, 0.001)
    assert set(cooled["converged"]) == {True, False}
    for matrix, n, error, converged in zip(
        *(cooled[name] for name in ("matrices", "iterations", "errors", "converged")), strict=True
    ):
        found = np.abs(np.array(matrix).sum(1) - 1).max()
        assert abs(found - error) <= 32 * 0.5e-4
        assert converged == (error < TOL)
        assert converged == (n < MOST_ITERATIONS)


def test_slack_adds_a_row_and_a_column() -> None:
    matrices = np.array(cool(torch.zeros(2, 3), 1.0, 0.1, slack=-1.0)["matrices"])
    assert matrices.shape == (STEPS, 3, 4)
    assert np.abs(matrices[:, :, :3].sum(1) - 1).max() <= 0.001
    assert np.abs(matrices[:, :2].sum(2) - 1).max() <= 0.002
