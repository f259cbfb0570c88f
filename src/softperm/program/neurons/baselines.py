"""What the names are without Gumbel-Sinkhorn: the paper's baselines, and Frank-Wolfe.

All see the recordings, the candidates and the prior that the variational inference sees. MAP, MCMC
and naive VI start from random names, and use the likelihood of names and weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Gamma

from softperm.ops import matching
from softperm.permutations import permutation_matrix
from softperm.program.neurons.evidence import edge_evidence
from softperm.program.neurons.model import (
    Parents,
    by_name,
    log_likelihood,
    named_sums,
    regress_on_parents,
    weight_posterior,
)
from softperm.program.neurons.simulation import Worm
from softperm.program.neurons.start import Pairs

Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]

_MAP_STARTS, _MAP_ROUNDS, _MAP_STEPS = 3, 20, 10  # steps of Frank-Wolfe a round
_WOLFE_STEPS = 200
_MCMC_SWEEPS, _PROPOSALS = 200, 3  # proposals per neuron and sweep
_NAIVE_STEPS, _NAIVE_LR, _NAIVE_WEIGHTS_EVERY = 500, 0.05, 10
_LEAST = 1e-30  # sum of the parts of a row


def random_names(allowed: Tensor, generator: torch.Generator) -> Tensor:
    """Random allowed names for all cells, int64, (m,)."""
    scores = torch.rand(allowed.shape, generator=generator)
    return matching(scores.masked_fill(~allowed, -math.inf))


def frank_wolfe(pairs: Pairs, allowed: Tensor, soft: Tensor, steps: int = _WOLFE_STEPS) -> Tensor:
    """Soft names at a local maximum of a quadratic function, by matchings of its gradient.

    Arguments:
        pairs: The function.
        allowed: Allowed names, (m, n).
        soft: Soft names to start from, (m, n).
        steps: Steps at most.

    Source: Vogelstein et al., "Fast approximate quadratic programming for graph matching", 2015.
    """
    for _ in range(steps):
        gradient = pairs.gradient(soft)
        best = matching(gradient.masked_fill(~allowed, -math.inf))
        way = permutation_matrix(best, soft.dtype, allowed.shape[1]) - soft
        slope, curvature = (gradient * way).sum().item(), pairs.value(way).item()
        if slope <= 1e-6 * (gradient * soft).sum().abs().item():
            break
        soft = soft + way * (1.0 if curvature >= 0 else min(1.0, -slope / (2 * curvature)))
    return soft


def evidence_names(
    worms: Sequence[Worm], adjacency: Tensor, std: float, generator: torch.Generator
) -> list[Tensor]:
    """Frank-Wolfe on the evidence of the pairs that the variational inference starts from too.

    Every worm is alone, and the evidence is not refitted; `generator` is not used.
    """
    found = []
    for worm in worms:
        m = len(worm.names)
        chance = torch.full((m, m), adjacency.double().mean().item())
        score = edge_evidence(worm.recording, chance, std).score
        middle = worm.allowed / worm.allowed.sum(1, keepdim=True)
        soft = frank_wolfe(Pairs(score[None], adjacency.float()[None]), worm.allowed, middle)
        found.append(matching(soft.masked_fill(~worm.allowed, -math.inf)))
    return found


def map_names(
    worms: Sequence[Worm], adjacency: Tensor, std: float, generator: torch.Generator
) -> list[Tensor]:
    """Alternate the most probable weights for the names and names for the weights.

    Names are a quadratic assignment problem, for which Frank-Wolfe goes on from the present ones.
    The best of some random starts, by log evidence.
    """
    parents = Parents.of(adjacency)
    n = len(adjacency)
    recordings = [worm.recording for worm in worms]
    best, best_evidence = [], -math.inf
    for _ in range(_MAP_STARTS):
        names = [random_names(worm.allowed, generator) for worm in worms]
        for _ in range(_MAP_ROUNDS):
            matrices = [permutation_matrix(name, torch.float64, n) for name in names]
            posterior = weight_posterior(*named_sums(recordings, matrices), parents, std)
            w = posterior.mean.float()
            new = []
            for worm, matrix in zip(worms, matrices, strict=True):
                scores = torch.stack([worm.recording.cross, worm.recording.gram]).float()
                pairs = Pairs(scores, torch.stack([w, -0.5 * w.mT @ w]))
                soft = frank_wolfe(pairs, worm.allowed, matrix.float(), _MAP_STEPS)
                new.append(matching(soft.masked_fill(~worm.allowed, -math.inf)))
            if all(torch.equal(a, b) for a, b in zip(new, names, strict=True)):
                break
            names = new
        matrices = [permutation_matrix(name, torch.float64, n) for name in names]
        evidence = weight_posterior(*named_sums(recordings, matrices), parents, std).log_evidence
        if evidence > best_evidence:
            best, best_evidence = names, evidence
    return best


def swap_gain(gram: Array, cross: Array, square: Array, weights: Array, i: int, j: int) -> float:
    """What the log likelihood gains where two cells, now called i and j, swap their names.

    Arguments:
        gram: By name, (n, n).
        cross: By name, (n, n).
        square: W^T W.
        weights: W.
        i: A name.
        j: Another.
    """
    rows = (cross[j] - cross[i]) * (weights[i] - weights[j])
    columns = (cross[:, j] - cross[:, i]) * (weights[:, i] - weights[:, j])
    both = (gram[j] - gram[i]) * (square[i] - square[j])
    outside = (rows + columns - both).sum() - (rows + columns - both)[[i, j]].sum()
    inside = (cross[j, j] - cross[i, i]) * (weights[i, i] - weights[j, j])
    inside += (cross[j, i] - cross[i, j]) * (weights[i, j] - weights[j, i])
    inside -= 0.5 * (gram[j, j] - gram[i, i]) * (square[i, i] - square[j, j])
    return float(outside + inside)


class _Chain:
    """The names of one worm as a Markov chain of swaps, and how often each was seen."""

    def __init__(self, worm: Worm, n: int, generator: torch.Generator) -> None:
        self.allowed = worm.allowed.numpy()
        self.cells = random_names(worm.allowed, generator).argsort().numpy()  # by name
        cells = torch.from_numpy(self.cells)
        self.gram = worm.recording.gram[cells][:, cells].numpy().copy()
        self.cross = worm.recording.cross[cells][:, cells].numpy().copy()
        self.seen = torch.zeros(n, n)

    def sweep(self, weights: Array, random: np.random.Generator) -> None:
        """Propose swaps of cells that may have each other's names."""
        n, square = len(weights), weights.T @ weights
        pairs = random.integers(n, size=(_PROPOSALS * n, 2))
        limits = np.log(random.random(len(pairs)))
        for (i, j), limit in zip(pairs.tolist(), limits.tolist(), strict=True):
            a, b = self.cells[i], self.cells[j]
            if i == j or not (self.allowed[a, j] and self.allowed[b, i]):
                continue
            if limit < swap_gain(self.gram, self.cross, square, weights, i, j):
                self.cells[[i, j]] = self.cells[[j, i]]
                for matrix in (self.gram, self.cross):
                    matrix[[i, j]] = matrix[[j, i]]
                    matrix[:, [i, j]] = matrix[:, [j, i]]

    def count(self) -> None:
        """Count the names of now."""
        n = len(self.cells)
        self.seen[torch.from_numpy(self.cells), torch.arange(n)] += 1


def mcmc_names(
    worms: Sequence[Worm], adjacency: Tensor, std: float, generator: torch.Generator
) -> list[Tensor]:
    """Metropolis swaps of two names, and weights drawn from their posterior after every sweep.

    The names are the matching of how often each was seen in the second half.
    """
    parents = Parents.of(adjacency)
    seed = int(torch.randint(2**62, (), generator=generator))
    random = np.random.default_rng(seed)
    chains = [_Chain(worm, len(adjacency), generator) for worm in worms]
    for sweep in range(_MCMC_SWEEPS):
        gram = torch.from_numpy(np.sum([chain.gram for chain in chains], axis=0))
        cross = torch.from_numpy(np.sum([chain.cross for chain in chains], axis=0))
        mean, factor, _ = regress_on_parents(gram, cross, parents, std)
        noise = torch.randn(mean.shape, generator=generator, dtype=torch.float64)
        apart = torch.linalg.solve_triangular(factor.mT, noise[..., None], upper=True)
        weights = by_name(mean + apart[..., 0], parents).numpy()
        for chain in chains:
            chain.sweep(weights, random)
            if 2 * sweep >= _MCMC_SWEEPS:
                chain.count()
    return [
        matching(chain.seen.masked_fill(~worm.allowed, -math.inf))
        for chain, worm in zip(chains, worms, strict=True)
    ]


class _Dirichlets:
    """A Dirichlet distribution over the allowed names of every cell; only those are drawn."""

    def __init__(self, allowed: Tensor) -> None:
        self.allowed = allowed
        self.cells = allowed.flatten(0, -2).nonzero()[:, 0]
        self.n_cells = allowed[..., 0].numel()

    def totals(self, values: Tensor) -> Tensor:
        """Sums over the allowed names of every cell."""
        return values.new_zeros(self.n_cells).index_add(0, self.cells, values)

    def sample(self, concentration: Tensor) -> Tensor:
        """Soft names, each row a sample; the concentrations are those of the allowed names."""
        parts = Gamma(concentration, torch.ones(()), validate_args=False).rsample()
        soft = parts / self.totals(parts).clamp_min(_LEAST)[self.cells]
        return self.matrix(soft)

    def matrix(self, values: Tensor, rest: float = 0.0) -> Tensor:
        """Values of the allowed names in their places."""
        empty = values.new_full(self.allowed.shape, rest)
        return empty.masked_scatter(self.allowed, values)

    def divergence(self, concentration: Tensor) -> Tensor:
        """From the uniform distribution, summed over cells."""
        total, names = self.totals(concentration), self.totals(torch.ones_like(concentration))
        gain = (concentration - 1) * (concentration.digamma() - total.digamma()[self.cells])
        normal = total.lgamma().sum() - concentration.lgamma().sum() - names.lgamma().sum()
        result: Tensor = normal + gain.sum()
        return result


def naive_names(
    worms: Sequence[Worm], adjacency: Tensor, std: float, generator: torch.Generator
) -> list[Tensor]:
    """Variational inference with a Dirichlet distribution per cell, which knows no permutations.

    The bound is that of Gumbel-Sinkhorn with other soft names: two cells may share a name. The
    names are the matching of the concentrations.
    """
    parents = Parents.of(adjacency)
    allowed = torch.stack([worm.allowed for worm in worms])
    gram = torch.stack([worm.recording.gram for worm in worms]).float()
    cross = torch.stack([worm.recording.cross for worm in worms]).float()
    rows = _Dirichlets(allowed)
    scores = 0.1 * torch.randn(len(rows.cells), generator=generator)
    optimizer = torch.optim.Adam([scores.requires_grad_()], _NAIVE_LR)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        for step in range(_NAIVE_STEPS):
            soft = rows.sample(scores.exp())
            sums = [soft.mT @ gram @ soft, soft.mT @ cross @ soft]
            if step % _NAIVE_WEIGHTS_EVERY == 0:
                now = [total.detach().sum(0).double() for total in sums]
                weights = weight_posterior(now[0], now[1], parents, std)
            bound = log_likelihood(sums[0], sums[1], weights).sum()
            bound = bound - rows.divergence(scores.exp())
            optimizer.zero_grad()
            (-bound).backward()
            optimizer.step()
    return list(matching(rows.matrix(scores.detach(), -math.inf)))
