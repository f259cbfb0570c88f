r"""Variational inference: names by Gumbel-Sinkhorn, weights by a Gaussian in closed form.

.. math:: \log p(Y) \ge E_{q(P) q(W)}[\log p(Y \mid P, W)]
    - \mathrm{KL}(q(W) \,\|\, p(W)) - \sum_j \mathrm{KL}(q(P_j) \,\|\, p(P_j))

The likelihood of soft names is that of the recording in the order of the names, P^T Y, so that a
step costs a few products of matrices of the size of the wiring, however long the recording is. A
neuron that has no cell predicts nothing, and a cell that has no name predicts itself.
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
    observed_log_likelihood,
    parent_gram,
    weight_posterior,
)
from softperm.program.neurons.simulation import Worm
from softperm.program.neurons.start import prior_scores, unnamed_evidence

_STEPS, _LR, _BETAS = 100, 0.1, (0.9, 0.99)
_REMEMBERED = 0.8  # of the sums that the weights are inferred from
_WEIGHTS_EVERY = 5  # steps
# Scores at the start: the divergence of those far below the prior's is huge.
_LOWEST, _HIGHEST = -1.0, 8.0
_LEAST, _LEFT = 1e-9, 0.02  # of an entry, and of what a row or a column leaves to slack


@dataclass(frozen=True)
class Posterior:
    """What the variational inference ends with.

    Arguments:
        log_alpha: Scores of the names, -inf where forbidden, (worms, m, n); that of no name is 0.
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


def starting_scores(soft: Tensor, prior: Tensor, *, unnamed: bool = False) -> Tensor:
    """Scores whose Sinkhorn matrix is near `soft`, and not far below those of the prior.

    With slack they are relative to its lines, whose score is 0: what is left in the corner, over
    what is left of the row and of the column.

    Arguments:
        soft: Soft names, (..., m, n).
        prior: Scores of the prior, (..., m, n).
        unnamed: Whether cells may have no name.
    """
    scores, lowest = soft.clamp_min(_LEAST).log(), prior + _LOWEST
    if not unnamed:
        return (scores + _HIGHEST).maximum(lowest)
    rows, columns = (1 - soft.sum(dim, keepdim=True).clamp_max(1 - _LEFT) for dim in (-1, -2))
    corner = soft.sum((-2, -1), keepdim=True).clamp_min(1.0)
    return (scores + (corner / (rows * columns)).log()).maximum(lowest)


class _Problem:
    """The worms as the bound needs them: sums in units of the noise, candidates, prior."""

    def __init__(self, worms: Sequence[Worm], noise: Sequence[float] | None) -> None:
        scale = 1 / torch.tensor(noise or [1.0] * len(worms))[:, None, None]
        self.gram = scale * torch.stack([worm.recording.gram for worm in worms]).float()
        self.cross = scale * torch.stack([worm.recording.cross for worm in worms]).float()
        self.allowed = torch.stack([worm.allowed for worm in worms])
        self.unnamed = worms[0].unnamed
        self.partial = any(worm.unseen or worm.unnamed for worm in worms)
        self.alone = torch.stack([unnamed_evidence(worm) for worm in worms])
        self.prior = self.names(torch.stack([prior_scores(worm) for worm in worms]))

    def names(self, scores: Tensor) -> GumbelSinkhorn:
        """Gumbel-Sinkhorn at temperature 1 over the allowed names."""
        log_alpha = scores.masked_fill(~self.allowed, -math.inf)
        return GumbelSinkhorn(log_alpha, slack=0.0 if self.unnamed else None)

    def sample(self, names: GumbelSinkhorn, generator: torch.Generator) -> Tensor:
        """Soft names of all worms, without the lines of slack."""
        soft = names.rsample(generator=generator)
        return soft[:, :-1, :-1] if self.unnamed else soft

    def named(self, soft: Tensor) -> tuple[Tensor, Tensor]:
        """Gram and cross sums by name, (worms, n, n) each."""
        return soft.mT @ self.gram @ soft, soft.mT @ self.cross @ soft

    def unnamed_evidence(self, soft: Tensor) -> Tensor:
        """Log likelihood of the cells without a name, summed over worms."""
        return ((1 - soft.sum(-1)) * self.alone).sum()

    def observed(self, soft: Tensor) -> Tensor | None:
        """How much of a cell has each name, (worms, n); None where all are observed."""
        return soft.sum(-2) if self.partial else None


class _Weights:
    """The posterior of the weights, from sums that remember the last samples of the names."""

    def __init__(self, parents: Parents, std: float) -> None:
        self.parents, self.std = parents, std
        self.sums: list[Tensor] = []

    def update(self, named: tuple[Tensor, Tensor], observed: Tensor | None, step: int) -> Weights:
        """Take a sample into account, and infer the weights every few steps."""
        gram, cross = (total.detach() for total in named)
        if observed is None:
            gram = gram.sum(0)
        else:
            gram = parent_gram(gram, observed.detach(), self.parents)
        new = [gram.double(), cross.sum(0).double()]
        pairs = zip(self.sums or new, new, strict=True)
        self.sums = [_REMEMBERED * old + (1 - _REMEMBERED) * now for old, now in pairs]
        if step % _WEIGHTS_EVERY == 0:
            gram, cross = self.sums
            self.posterior = weight_posterior(gram, cross, self.parents, self.std)
        return self.posterior


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
    """Maximise the bound over the scores of the names by Adam; the weights follow.

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
    problem, weights = _Problem(worms, noise), _Weights(parents, std)
    prior = problem.prior.log_alpha
    scores = starting_scores(torch.stack(list(start)), prior, unnamed=problem.unnamed)
    scores.requires_grad_()
    optimizer = torch.optim.Adam([scores], _LR, betas=_BETAS)
    trace: list[float] = []
    for step in range(steps):
        names = problem.names(scores)
        soft = problem.sample(names, generator)
        named = problem.named(soft)
        observed = problem.observed(soft)
        posterior = weights.update(named, observed, step)
        divergence = kl_divergence(names, problem.prior).sum()
        if observed is None:
            likelihood = log_likelihood(*named, posterior)
        else:
            likelihood = observed_log_likelihood(*named, posterior, observed, parents)
        bound = likelihood.sum() + problem.unnamed_evidence(soft) - divergence
        optimizer.zero_grad()
        (-bound).backward()
        optimizer.step()
        trace.append(bound.item() - posterior.divergence)
        watch(soft.detach())
    last = trace[-max(1, steps // 10) :]
    log_alpha = problem.names(scores.detach()).log_alpha
    return Posterior(log_alpha, posterior, sum(last) / len(last), divergence.item(), trace)
