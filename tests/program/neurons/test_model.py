"""The likelihood and the weights, against plain sums over time and dense references."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from softperm.data.worm import synthetic_wiring
from softperm.permutations import permutation_matrix
from softperm.program.neurons.model import (
    Parents,
    Weights,
    log_likelihood,
    named_sums,
    observed_log_likelihood,
    observed_sums,
    prior_std,
    regress_on_parents,
    ridge_loss,
    weight_posterior,
)
from softperm.program.neurons.simulation import Recording, spectral_radius

N, T, STD = 7, 40, 0.3
GENERATOR = torch.Generator().manual_seed(0)
A = synthetic_wiring(N, 20).adjacency
PARENTS = Parents.of(A)
Y = torch.randn(T + 1, N, generator=GENERATOR, dtype=torch.float64)
NAMES = torch.randperm(N, generator=GENERATOR)
RECORDING = Recording.of(Y)
MATRIX = permutation_matrix(NAMES, torch.float64)
GRAM, CROSS = named_sums([RECORDING], [MATRIX])
NAMED = Y @ MATRIX  # the activity in the order of the names


def test_parents() -> None:
    for i in range(N):
        index = PARENTS.neurons[i][PARENTS.counts[i]]
        assert index.sort().values.tolist() == A[i].nonzero().flatten().tolist()
    nobody = Parents.of(torch.zeros(3, 3, dtype=torch.bool))
    assert not nobody.counts.any()


def test_sums_by_name_are_those_of_the_named_activity() -> None:
    plain = Recording.of(NAMED)
    assert torch.allclose(GRAM, plain.gram)
    assert torch.allclose(CROSS, plain.cross)
    both = named_sums([RECORDING, plain], [MATRIX, torch.eye(N)])
    assert torch.allclose(both[0], 2 * GRAM)


def certain(w: Tensor) -> Weights:
    """Weights without doubt."""
    rows = w.gather(1, PARENTS.neurons)
    row, one, other = PARENTS.pairs
    return Weights(w, w.mT @ w, 0.0, 0.0, rows[row, one] * rows[row, other])


def test_what_has_no_cell_predicts_nothing() -> None:
    """Two neurons are missing, and one cell is no neuron: y_t ~ N(P W P^T y_{t-1}, I) again."""
    w = torch.randn(N, N, generator=GENERATOR, dtype=torch.float64) * A
    names = torch.tensor([3, 0, -1, 6, 1, 4])
    matrix = permutation_matrix(names, torch.float64, N)
    y = Y[:, : len(names)]
    observed = matrix @ w @ matrix.mT
    plain = sum(
        Normal(observed @ y[t], 1.0).log_prob(y[t + 1]).sum().item()
        - Normal(torch.zeros(len(names)).double(), 1.0).log_prob(y[t + 1]).sum().item()
        for t in range(T)
    )
    gram, cross = named_sums([Recording.of(y)], [matrix])
    found = observed_log_likelihood(
        gram[None], cross[None], certain(w), matrix.sum(0)[None], PARENTS
    )
    assert found.item() == pytest.approx(plain)


def test_missing_neurons_have_no_equations() -> None:
    """The evidence of two worms is that of the rows of the activity that are there."""
    names = [torch.tensor([3, 0, 6, 1, 4]), torch.tensor([0, 1, 2, 5, -1])]
    cells = [Y[:, :5], Y[:, 2:].flip(1)]
    matrices = [permutation_matrix(name, torch.float64, N) for name in names]
    recordings = [Recording.of(y) for y in cells]
    found = weight_posterior(*observed_sums(recordings, matrices, PARENTS), PARENTS, STD)
    evidence = 0.0
    for i in range(N):
        pairs = [
            ((y @ matrix)[:-1, A[i]], (y @ matrix)[1:, i])
            for y, matrix in zip(cells, matrices, strict=True)
            if matrix[:, i].any()
        ]
        if pairs:
            x, y = torch.cat([x for x, _ in pairs]), torch.cat([y for _, y in pairs])
            given = MultivariateNormal(
                torch.zeros(len(y)).double(), STD**2 * x @ x.mT + torch.eye(len(y)).double()
            )
            evidence += given.log_prob(y).item()
            evidence -= Normal(torch.zeros(len(y)).double(), 1.0).log_prob(y).sum().item()
    assert found.log_evidence == pytest.approx(evidence)


def test_the_likelihood_is_the_plain_sum_over_time() -> None:
    w = torch.randn(N, N, generator=GENERATOR, dtype=torch.float64) * A
    sure = certain(w)
    observed = MATRIX @ w @ MATRIX.mT  # y_t ~ N(P W P^T y_{t-1}, I), in the observed order
    plain = sum(
        Normal(observed @ Y[t], 1.0).log_prob(Y[t + 1]).sum().item()
        - Normal(torch.zeros(N).double(), 1.0).log_prob(Y[t + 1]).sum().item()
        for t in range(T)
    )
    assert log_likelihood(GRAM, CROSS, sure).item() == pytest.approx(plain)


def dense(i: int) -> tuple[Tensor, Tensor, Tensor]:
    """Design, mean and covariance of row i from the activity itself."""
    x, y = NAMED[:-1, A[i]], NAMED[1:, i]
    precision = x.mT @ x + torch.eye(x.shape[1]).double() / STD**2
    return x, torch.linalg.solve(precision, x.mT @ y), torch.linalg.inv(precision)


def test_the_posterior_of_the_weights() -> None:
    posterior = weight_posterior(GRAM, CROSS, PARENTS, STD)
    second, divergence, evidence = torch.zeros(N, N).double(), 0.0, 0.0
    for i in range(N):
        x, mean, covariance = dense(i)
        assert torch.allclose(posterior.mean[i, A[i]], mean)
        assert not posterior.mean[i, ~A[i]].any()
        index = A[i].nonzero().flatten()
        second[index[:, None], index] += torch.outer(mean, mean) + covariance
        d = len(index)
        divergence += kl_divergence(
            MultivariateNormal(mean, covariance),
            MultivariateNormal(torch.zeros(d).double(), STD**2 * torch.eye(d).double()),
        ).item()
        given = STD**2 * x @ x.mT + torch.eye(T).double()
        y = NAMED[1:, i]
        nothing = torch.zeros(T).double()
        evidence += MultivariateNormal(nothing, given).log_prob(y).item()
        evidence -= MultivariateNormal(nothing, torch.eye(T).double()).log_prob(y).item()
    assert torch.allclose(posterior.second, second)
    assert posterior.divergence == pytest.approx(divergence)
    assert posterior.log_evidence == pytest.approx(evidence)


def test_the_bound_of_the_exact_posterior_is_the_evidence() -> None:
    posterior = weight_posterior(GRAM, CROSS, PARENTS, STD)
    bound = log_likelihood(GRAM, CROSS, posterior).item() - posterior.divergence
    assert bound == pytest.approx(posterior.log_evidence)


def test_factors_are_those_of_the_precision() -> None:
    mean, factor, _ = regress_on_parents(GRAM, CROSS, PARENTS, STD)
    covariance = torch.cholesky_inverse(factor)
    for i in range(N):
        keep = PARENTS.counts[i]
        assert torch.allclose(covariance[i][keep][:, keep], dense(i)[2][_order(i)][:, _order(i)])
        assert torch.allclose(mean[i][keep], dense(i)[1][_order(i)])


def _order(i: int) -> Tensor:
    """Where the padded order has the parents that `dense` has in ascending order."""
    return PARENTS.neurons[i][PARENTS.counts[i]].argsort().argsort()


def test_the_loss() -> None:
    loss = 0.0
    for i in range(N):
        x, y = NAMED[:-1, A[i]], NAMED[1:, i]
        w = torch.linalg.solve(x.mT @ x + torch.eye(x.shape[1]).double(), x.mT @ y)
        loss += 0.5 * (y - x @ w).square().sum().item() + 0.5 * w.square().sum().item()
    assert ridge_loss([RECORDING], [NAMES], PARENTS) == pytest.approx(loss)


def test_cells_without_a_name_only_add_their_energy() -> None:
    names = NAMES.clone()
    names[0] = -1
    alone = ridge_loss([RECORDING], [torch.full((N,), -1)], PARENTS)
    assert alone == pytest.approx(0.5 * RECORDING.energy.sum().item())
    assert ridge_loss([RECORDING], [NAMES], PARENTS) < alone
    assert ridge_loss([RECORDING], [names], PARENTS) < alone


def test_the_prior_has_the_wanted_radius_on_average() -> None:
    adjacency = synthetic_wiring().adjacency
    std = prior_std(adjacency)
    generator = torch.Generator().manual_seed(100)
    radii = [
        spectral_radius(torch.randn(279, 279, generator=generator).double() * adjacency * std)
        for _ in range(4)
    ]
    assert sum(radii) / 4 == pytest.approx(1 / 1.5, rel=0.1)
    assert math.isfinite(std)
