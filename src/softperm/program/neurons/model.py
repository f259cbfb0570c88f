"""The likelihood of names and weights, from the sums of products of a recording alone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from softperm.permutations import permutation_matrix
from softperm.program.neurons.simulation import SPECTRAL_RADIUS, Recording, spectral_radius

_PRIOR_DRAWS = 8


class Parents(NamedTuple):
    """The neurons that act on each neuron, padded to the largest number d of them.

    Arguments:
        neurons: int64, (n, d).
        counts: Whether the entry counts, bool, (n, d).
        pairs: All pairs of parents of one neuron: that neuron, and where in its row of the padded
            order each of both is, int64, three of (pairs,).
    """

    neurons: Tensor
    counts: Tensor
    pairs: tuple[Tensor, Tensor, Tensor]

    def places(self) -> Tensor:
        """Where the pairs are in a flattened (n, n) matrix, (pairs,)."""
        row, one, other = self.pairs
        return self.neurons[row, one] * len(self.neurons) + self.neurons[row, other]

    @staticmethod
    def of(adjacency: Tensor) -> Parents:
        """The parents of every row of the adjacency matrix."""
        most = max(1, int(adjacency.sum(1).max()))
        ranked = adjacency.byte().sort(dim=1, descending=True, stable=True)
        counts = ranked.values[:, :most].bool()
        row, one, other = (counts[:, :, None] & counts[:, None, :]).nonzero().T
        return Parents(ranked.indices[:, :most], counts, (row, one, other))


class Weights(NamedTuple):
    """The Gaussian posterior of the weights; the rows of W are independent.

    Arguments:
        mean: (n, n), 0 where nothing is connected.
        second: Sum over rows of E[w w^T], (n, n).
        divergence: From the prior, in nats.
        log_evidence: log p(Y | names) less that of W = 0.
        moments: E[w_a w_b] for all pairs of parents of one neuron, (pairs,).
    """

    mean: Tensor
    second: Tensor
    divergence: float
    log_evidence: float
    moments: Tensor


def prior_std(adjacency: Tensor) -> float:
    """Standard deviation of a weight: that with which matrices have the spectral radius wanted."""
    return _prior_std(adjacency.bool().numpy().tobytes(), len(adjacency))


@lru_cache(maxsize=4)  # a second of work, the same for all cells of a table
def _prior_std(entries: bytes, n: int) -> float:
    adjacency = torch.frombuffer(bytearray(entries), dtype=torch.bool).view(n, n)
    radii = []
    for seed in range(_PRIOR_DRAWS):
        generator = torch.Generator().manual_seed(seed)
        draw = torch.randn(adjacency.shape, generator=generator, dtype=torch.float64)
        radii.append(spectral_radius(draw * adjacency))
    return SPECTRAL_RADIUS * len(radii) / sum(radii)


def named_sums(
    recordings: Sequence[Recording], matrices: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """Gram and cross sums of all worms in the order of the names, float64, (n, n) each.

    Arguments:
        recordings: The worms.
        matrices: Which cell has which name, hard or soft, (m, n) each.
    """
    pairs = [
        (p.mT @ r.gram @ p, p.mT @ r.cross @ p)
        for r, p in zip(recordings, (matrix.double() for matrix in matrices), strict=True)
    ]
    return torch.stack([g for g, _ in pairs]).sum(0), torch.stack([c for _, c in pairs]).sum(0)


def parent_gram(gram: Tensor, observed: Tensor, parents: Parents) -> Tensor:
    """Gram sums of all pairs of parents of a neuron, over the worms that observe it, (pairs,).

    A neuron that a worm does not observe is missing there. Its regression has no such equations.

    Arguments:
        gram: By name, (worms, n, n).
        observed: How much of a cell has each name, 1 or 0 if names are hard, (worms, n).
        parents: The wiring.
    """
    shares = observed[:, parents.pairs[0]]
    return (shares * gram.flatten(1)[:, parents.places()]).sum(0)


def observed_sums(
    recordings: Sequence[Recording], matrices: Sequence[Tensor], parents: Parents
) -> tuple[Tensor, Tensor]:
    """What the weights are inferred from where neurons may be missing, (pairs,) and (n, n).

    Arguments:
        recordings: The worms.
        matrices: Which cell has which name, (m, n) each.
        parents: The wiring.
    """
    sums = [named_sums([r], [p]) for r, p in zip(recordings, matrices, strict=True)]
    observed = torch.stack([matrix.double().sum(0) for matrix in matrices])
    gram = parent_gram(torch.stack([g for g, _ in sums]), observed, parents)
    return gram, torch.stack([c for _, c in sums]).sum(0)


class Regressions(NamedTuple):
    """The regression of every neuron on its parents, in the padded order of `Parents`.

    Arguments:
        mean: (n, d), 0 where nothing counts.
        factor: Cholesky factor of the posterior precision, (n, d, d).
        targets: Right-hand sides, (n, d).
    """

    mean: Tensor
    factor: Tensor
    targets: Tensor


def regress_on_parents(gram: Tensor, cross: Tensor, parents: Parents, std: float) -> Regressions:
    r"""The posterior of the weights given the names, row by row.

    .. math:: w_i \sim N(\Lambda_i^{-1} c_i, \Lambda_i^{-1}), \quad
        \Lambda_i = G_{SS} + I / s^2, \quad c_i = C_{iS}

    with S the parents of neuron i, and all in units of the noise.

    Arguments:
        gram: Sum of y_{t-1} y_{t-1}^T by name, float64, (n, n); or for pairs of
            parents only, as `parent_gram` gives them.
        cross: Sum of y_t y_{t-1}^T by name, float64, (n, n).
        parents: The wiring.
        std: Standard deviation s of the prior.
    """
    n, d = parents.neurons.shape
    if gram.ndim == 2:
        gram = gram.flatten()[parents.places()]
    local = gram.new_zeros(n, d, d).index_put(parents.pairs, gram)
    factor = torch.linalg.cholesky(local + torch.eye(d, dtype=gram.dtype) / std**2)
    targets = cross.gather(1, parents.neurons) * parents.counts
    return Regressions(torch.cholesky_solve(targets[..., None], factor)[..., 0], factor, targets)


def by_name(rows: Tensor, parents: Parents) -> Tensor:
    """The (n, n) matrix of numbers in the padded order of `Parents`, (n, d)."""
    n = len(parents.neurons)
    return rows.new_zeros(n, n).scatter_add_(1, parents.neurons, rows * parents.counts)


def weight_posterior(gram: Tensor, cross: Tensor, parents: Parents, std: float) -> Weights:
    """The posterior of the weights given the names, with its moments and the evidence.

    Arguments:
        gram: As in `regress_on_parents`.
        cross: As in `regress_on_parents`.
        parents: The wiring.
        std: Standard deviation of the prior.
    """
    n, counts = len(parents.neurons), parents.counts
    mean, factor, targets = regress_on_parents(gram, cross, parents, std)
    row, one, other = parents.pairs
    covariance = torch.cholesky_inverse(factor)[row, one, other]
    moments = mean[row, one] * mean[row, other] + covariance
    second = gram.new_zeros(n * n).index_add_(0, parents.places(), moments).view(n, n)
    log_det = 2 * (factor.diagonal(dim1=-2, dim2=-1) * std).log().sum()
    divergence = 0.5 * (moments[one == other].sum() / std**2 - counts.sum() + log_det)
    evidence = 0.5 * (targets * mean).sum() - 0.5 * log_det
    expected = (by_name(mean, parents), second, divergence.item(), evidence.item())
    return Weights(*expected, moments)


def log_likelihood(gram: Tensor, cross: Tensor, weights: Weights) -> Tensor:
    r"""Expected log likelihood of a worm, less that of W = 0, differentiable in the sums.

    .. math:: \langle C, E[W] \rangle - \tfrac12 \langle G, E[W^\top W] \rangle

    Arguments:
        gram: G, by name, (..., n, n).
        cross: C, by name, (..., n, n).
        weights: The posterior of the weights.
    """
    linear = (cross * weights.mean.to(cross)).sum((-2, -1))
    result: Tensor = linear - 0.5 * (gram * weights.second.to(gram)).sum((-2, -1))
    return result


def observed_log_likelihood(
    gram: Tensor, cross: Tensor, weights: Weights, observed: Tensor, parents: Parents
) -> Tensor:
    r"""The same where neurons may be missing: what has no cell predicts nothing.

    .. math:: \langle C, E[W] \rangle - \tfrac12 \sum_i r_i \langle G, E[w_i w_i^\top] \rangle

    Arguments:
        gram: G, by name, (worms, n, n).
        cross: C, by name, (worms, n, n).
        weights: The posterior of the weights.
        observed: r, how much of a cell has each name, (worms, n).
        parents: The wiring.
    """
    linear = (cross * weights.mean.to(cross)).sum((-2, -1))
    moments = observed[:, parents.pairs[0]] * weights.moments.to(observed)
    second = torch.zeros_like(gram).flatten(1).index_add(1, parents.places(), moments)
    result: Tensor = linear - 0.5 * (gram.flatten(1) * second).sum(1)
    return result


def ridge_loss(recordings: Sequence[Recording], names: Sequence[Tensor], parents: Parents) -> float:
    """Half the squared error of the best weights for these names, with half their squared norm.

    Arguments:
        recordings: The worms.
        names: The name of every cell, int64, (m,) each; -1 for none.
        parents: The wiring.
    """
    n = len(parents.neurons)
    matrices = [permutation_matrix(name, n_positions=n) for name in names]
    gram, cross = observed_sums(recordings, matrices, parents)
    posterior = weight_posterior(gram, cross, parents, 1.0)
    energy = sum(recording.energy.sum().item() for recording in recordings)
    return 0.5 * energy - 0.5 * (cross * posterior.mean).sum().item()
