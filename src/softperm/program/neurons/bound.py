r"""Variational inference: names by Gumbel-Sinkhorn, weights by a Gaussian in closed form.

.. math:: \log p(Y) \ge E_{q(P) q(W)}[\log p(Y \mid P, W)]
    - \mathrm{KL}(q(W) \,\|\, p(W)) - \sum_j \mathrm{KL}(q(P_j) \,\|\, p(P_j))

The likelihood of soft names is that of the recording in the order of the names, P^T Y, so that a
step costs a few products of matrices of the size of the wiring, however long the recording is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import kl_divergence

from softperm.distributions import GumbelSinkhorn
from softperm.program.neurons.model import (
    Parents,
    Weights,
    log_likelihood,
    weight_posterior,
)
from softperm.program.neurons.simulation import Worm

_STEPS, _LR, _BETAS = 100, 0.1, (0.9, 0.99)
_REMEMBERED = 0.8  # of the sums that the weights are inferred from
_WEIGHTS_EVERY = 5  # steps
_LOWEST, _HIGHEST = -1.0, 8.0  # scores at the start: the divergence of lower ones is huge


@dataclass(frozen=True)
class Posterior:
    """What the variational inference ends with.

    Arguments:
        log_alpha: Scores of the names, -inf where forbidden, (worms, m, n).
        weights: Posterior of the weights.
        bound: The evidence bound, in nats, less the log likelihood of W = 0; mean over the last
            tenth of the steps.
        divergence: Divergence of the names from the prior, in nats.
        trace: The bound in every step.
    """

    log_alpha: Tensor
    weights: Weights
    bound: float
    divergence: float
    trace: list[float]


def names_distribution(scores: Tensor, allowed: Tensor, *, unnamed: bool) -> GumbelSinkhorn:
    """Gumbel-Sinkhorn at temperature 1 over the allowed names."""
    log_alpha = scores.masked_fill(~allowed, -math.inf)
    return GumbelSinkhorn(log_alpha, slack=0.0 if unnamed else None)


def starting_scores(soft: Tensor) -> Tensor:
    """Scores whose Sinkhorn matrix is near `soft`, within the range of cheap ones."""
    return (soft.clamp_min(1e-9).log() + _HIGHEST).clamp_min(_LOWEST)


def ascend(
    worms: Sequence[Worm],
    parents: Parents,
    std: float,
    start: Sequence[Tensor],
    generator: torch.Generator,
    *,
    noise: Sequence[float] | None = None,
    steps: int = _STEPS,
    watch: Callable[[Tensor], None] = lambda soft: None,
) -> Posterior:
    """Maximise the bound over the scores of the names by Adam; the weights follow every few steps.

    Arguments:
        worms: The worms, all with the same number m of cells.
        parents: The wiring.
        std: Standard deviation of the weights.
        start: Soft names to start from, (m, n) each.
        generator: Of the Gumbel noise.
        noise: Variance of the noise in every worm; 1 when omitted. Neurons that are not observed
            add to it.
        steps: Steps, a sample of all names each.
        watch: Called with the sample of every step.
    """
    allowed = torch.stack([worm.allowed for worm in worms])
    unnamed = worms[0].unnamed
    scale = 1 / torch.tensor(noise or [1.0] * len(worms))[:, None, None]
    gram = scale * torch.stack([worm.recording.gram for worm in worms]).float()
    cross = scale * torch.stack([worm.recording.cross for worm in worms]).float()
    scores = starting_scores(torch.stack(list(start))).requires_grad_()
    prior = names_distribution(torch.zeros(allowed.shape), allowed, unnamed=unnamed)
    optimizer = torch.optim.Adam([scores], _LR, betas=_BETAS)
    sums: list[Tensor] = []
    trace: list[float] = []
    for step in range(steps):
        posterior = names_distribution(scores, allowed, unnamed=unnamed)
        soft = posterior.rsample(generator=generator)
        soft = soft[:, :-1, :-1] if unnamed else soft
        named = [soft.mT @ gram @ soft, soft.mT @ cross @ soft]
        new = [total.detach().sum(0).double() for total in named]
        sums = [
            _REMEMBERED * a + (1 - _REMEMBERED) * b for a, b in zip(sums or new, new, strict=True)
        ]
        if step % _WEIGHTS_EVERY == 0:
            weights = weight_posterior(sums[0], sums[1], parents, std)
        divergence = kl_divergence(posterior, prior).sum()
        bound = log_likelihood(named[0], named[1], weights).sum() - divergence
        optimizer.zero_grad()
        (-bound).backward()
        optimizer.step()
        trace.append(bound.item() - weights.divergence)
        watch(soft.detach())
    last = trace[-max(1, steps // 10) :]
    log_alpha = scores.detach().masked_fill(~allowed, -math.inf)
    return Posterior(log_alpha, weights, sum(last) / len(last), divergence.item(), trace)
