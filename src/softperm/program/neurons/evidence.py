"""What a recording says of every pair of cells, before anybody has a name."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from softperm.program.neurons.simulation import Recording

_LEAST_CHANCE = 0.01  # of a connection, however sure names are that there is none
_ROWS_AT_A_TIME = 32
_NOISE_ROUNDS = 3
_LEAST_PRECISION = 1e-6


class Evidence(NamedTuple):
    """What the recording alone says of the weight from cell b to cell a, float32, (m, m).

    Arguments:
        score: Log evidence of a connection against none.
        mean: Mean of the likelihood of the weight.
        variance: Its variance.
        noise: Variance of the noise of every cell, (m,).
    """

    score: Tensor
    mean: Tensor
    variance: Tensor
    noise: Tensor


def log_bayes(
    mean: Tensor, variance: Tensor, prior_mean: Tensor | float, prior_variance: Tensor | float
) -> Tensor:
    r"""log N(mean; prior_mean, variance + prior_variance) - log N(mean; 0, variance)."""
    total = variance + prior_variance
    gain = mean.square() / variance - (mean - prior_mean).square() / total
    return 0.5 * (gain - torch.log(total / variance))


def memory_evidence(recording: Recording) -> Tensor:
    """Log evidence that a cell acts on itself alone, less that of no memory, float32, (m,).

    This is the likelihood of a cell that is no neuron. Its prior of the memory is N(0, 1), and its
    noise 1, for no neuron that is not observed acts on it.
    """
    squares = recording.gram.diagonal()
    mean = recording.cross.diagonal() / squares
    return log_bayes(mean, 1 / squares, 0.0, 1.0).float()


def _regress(recording: Recording, precision: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of every weight, given the prior precision of each, (m, m)."""
    means, variances = [], []
    for rows in torch.arange(len(precision)).split(_ROWS_AT_A_TIME):
        gram = recording.gram / noise[rows, None, None]
        factor = torch.linalg.cholesky(gram + torch.diag_embed(precision[rows]))
        covariance = torch.cholesky_inverse(factor)
        targets = recording.cross[rows] / noise[rows, None]
        means.append((covariance @ targets[..., None])[..., 0])
        variances.append(covariance.diagonal(dim1=-2, dim2=-1))
    return torch.cat(means), torch.cat(variances)


def _noise(recording: Recording, precision: Tensor) -> Tensor:
    """Variance of the noise of every cell, in which neurons that are not observed have a part.

    MacKay's fixed point: what the regression leaves, over the steps that it does not use up.
    """
    noise = torch.ones(len(precision), dtype=torch.float64)
    for _ in range(_NOISE_ROUNDS):
        mean, variance = _regress(recording, precision, noise)
        left = recording.energy - (mean * (2 * recording.cross - mean @ recording.gram)).sum(1)
        used = (1 - precision * variance).sum(1)
        noise = (left / (recording.steps - used)).clamp_min(1.0)
    return noise


def edge_evidence(
    recording: Recording, chance: Tensor, std: float, *, unseen: bool = False
) -> Evidence:
    r"""Regress every cell on all others, and take the prior out of the posterior again.

    A weight is N(0, s^2) with the chance q_ab of a connection, else 0; for the regression it is
    Gaussian with the variance q_ab s^2. What the recording alone says of the weight is the
    posterior over this prior, N(mean, variance), as in expectation propagation, and the score is

    .. math:: \log N(b; 0, v + s^2) - \log N(b; 0, v), \quad
        \tfrac1v = \tfrac1{v'} - \tfrac1{q s^2}, \quad b = v \frac{b'}{v'}

    with b', v' the posterior. No name is needed for it. The surer the names, the nearer are the
    chances to 0 and 1, and the less a recording must say to tell the other pairs.

    Arguments:
        recording: The recording of m cells.
        chance: Chance q_ab that cell b acts on a, (m, m).
        std: Standard deviation s of the weights.
        unseen: Whether neurons that are not observed may act on these; their part is noise.
    """
    precision = 1 / (std**2 * chance.double().clamp(_LEAST_CHANCE, 1.0))
    noise = torch.ones(len(precision), dtype=torch.float64)
    if unseen:
        noise = _noise(recording, precision)
    posterior_mean, posterior_variance = _regress(recording, precision, noise)
    variance = 1 / (1 / posterior_variance - precision).clamp_min(_LEAST_PRECISION)
    mean = variance * posterior_mean / posterior_variance
    score = log_bayes(mean, variance, 0.0, std**2)
    return Evidence(score.float(), mean.float(), variance.float(), noise.float())
