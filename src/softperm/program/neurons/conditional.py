r"""The evidence of every name of a cell while the others keep theirs, exactly.

The bound takes names and weights for independent. So it keeps the weights that fit the names found
when it judges other names, and is too sure. Here the weights are integrated out for every name:

.. math:: X_{ai} = \log p(Y \mid P_{-a},\, a = i) - \log p(Y \mid P_{-a},\, a \text{ unnamed})

plus the prior log odds. What cell a changes as neuron i are the regression of i on its parents, and
those of the children of i. For the children one row and column of a posterior precision is another,
so Schur complements give the change without a new factorisation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from softperm.permutations import permutation_matrix
from softperm.program.neurons.model import named_sums
from softperm.program.neurons.simulation import Worm
from softperm.program.neurons.start import prior_scores, unnamed_evidence

_NOBODY = -1


class _Sums(NamedTuple):
    """What the regressions of one worm need, float64.

    Arguments:
        gram: Of its cells, (m, m).
        cross: Of its cells, (m, m).
        others_gram: Of every other worm, by name, (worms, n, n).
        observed: Whether another worm has a cell with the name, (worms, n).
        others_cross: Of all other worms, by name, (n, n).
        cells: The cell with each name, -1 where there is none, (n,).
        precision: Of the prior of a weight.
    """

    gram: Tensor
    cross: Tensor
    others_gram: Tensor
    observed: Tensor
    others_cross: Tensor
    cells: Tensor
    precision: float

    def others(self, name: int, names: Tensor) -> Tensor:
        """Gram sums (d, d) of these names in all other worms that observe the target."""
        return self.others_gram[self.observed[:, name]][:, names[:, None], names].sum(0)

    def precisions(self, name: int, names: Tensor, cells: Tensor) -> Tensor:
        """Posterior precisions of weights from these names, (b, d, d), given their cells (b, d)."""
        there, index = cells != _NOBODY, cells.clamp_min(0)
        own = self.gram[index[:, :, None], index[:, None, :]]
        own = own * (there[:, :, None] & there[:, None, :])
        prior = self.precision * torch.eye(len(names), dtype=own.dtype)
        return own + self.others(name, names) + prior

    def targets(self, name: int, target: Tensor, names: Tensor, cells: Tensor) -> Tensor:
        """Right-hand sides of the regressions of a name, whose cell is given (b,), (b, d)."""
        there = (cells != _NOBODY) & (target != _NOBODY)[:, None]
        own = self.cross[target.clamp_min(0)[:, None], cells.clamp_min(0)] * there
        return own + self.others_cross[name, names]


def _sums(
    worms: Sequence[Worm], names: Sequence[Tensor], noise: Sequence[float], std: float, k: int
) -> _Sums:
    n = worms[k].allowed.shape[1]
    grams = torch.zeros(len(worms), n, n, dtype=torch.float64)
    cross = torch.zeros(n, n, dtype=torch.float64)
    observed = torch.zeros(len(worms), n, dtype=torch.bool)
    for j, (worm, name) in enumerate(zip(worms, names, strict=True)):
        if j != k:
            parts = named_sums([worm.recording], [permutation_matrix(name, n_positions=n)])
            grams[j], cross = parts[0] / noise[j], cross + parts[1] / noise[j]
            observed[j, name[name >= 0]] = True
    cells = torch.full((n,), _NOBODY)
    named = (names[k] >= 0).nonzero().flatten()
    cells[names[k][named]] = named
    own = worms[k].recording
    gram = own.gram / noise[k]
    return _Sums(gram, own.cross / noise[k], grams, observed, cross, cells, 1 / std**2)


def _log_evidence(precisions: Tensor, targets: Tensor, prior: float) -> Tensor:
    """Log evidence of regressions less that of no weights, (b,)."""
    factor = torch.linalg.cholesky(precisions)
    white = torch.linalg.solve_triangular(factor, targets[..., None], upper=False)[..., 0]
    log_det = (factor.diagonal(dim1=-2, dim2=-1).square() / prior).log().sum(-1)
    evidence: Tensor = 0.5 * (white.square().sum(-1) - log_det)
    return evidence


def _as_target(sums: _Sums, name: int, parents: Tensor, candidates: Tensor) -> Tensor:
    """What the regression of a name on its parents gains from each candidate's recording."""
    if len(parents) == 0:
        return torch.zeros(len(candidates), dtype=torch.float64)
    cells = sums.cells[parents].repeat(len(candidates), 1)
    cells[cells == candidates[:, None]] = _NOBODY
    cells[:, parents == name] = candidates[:, None]
    targets = sums.targets(name, candidates, parents, cells)
    with_it = _log_evidence(sums.precisions(name, parents, cells), targets, sums.precision)
    empty = torch.full_like(cells[:1], _NOBODY)
    targets = sums.others_cross[name, parents][None]
    without = _log_evidence(sums.precisions(name, parents, empty), targets, sums.precision)
    return with_it - without


class _Child:
    """The regression of a named cell on its parents, with any one of those left out."""

    def __init__(self, sums: _Sums, name: int, parents: Tensor) -> None:
        self.sums, self.name, self.parents = sums, name, parents
        self.cell = sums.cells[name]
        d = len(parents)
        self.cells = sums.cells[parents].repeat(d + 1, 1)  # the last leaves out nobody
        self.cells[:d].fill_diagonal_(_NOBODY)
        self.inverse = torch.linalg.inv(sums.precisions(name, parents, self.cells))
        self.others = sums.others(name, parents)
        targets = self.cell.expand(d + 1)
        self.targets = sums.targets(name, targets, parents, self.cells)

    def gains(self) -> Tensor:
        """What it gains if each parent is each cell, not an unseen neuron, (m, d)."""
        m = len(self.sums.gram)
        cells = torch.arange(m)
        gains = self._gains(cells, self.cells[-1], self.inverse[-1], self.targets[-1])
        place = (self.cells[-1] != _NOBODY).nonzero().flatten()
        cells = self.cells[-1, place]  # those that leave the place that they have
        left_out = (self.cells[place], self.inverse[place], self.targets[place])
        gains[cells] = self._gains(cells, *left_out)
        gains[self.cell] = 0
        gains[:, self.parents == self.name] = 0
        return gains

    def _gains(self, cells: Tensor, parents: Tensor, inverse: Tensor, targets: Tensor) -> Tensor:
        """The same for some cells, given what the regression leaves out, (b, d)."""
        sums = self.sums
        own = sums.gram[cells[:, None], parents.clamp_min(0)] * (parents != _NOBODY)
        squares, products = sums.gram.diagonal()[cells], sums.cross[self.cell, cells]
        none = torch.zeros_like(squares)
        without = self._added(torch.zeros_like(own), none, none, inverse, targets)
        return self._added(own, squares, products, inverse, targets) - without

    def _added(
        self, own: Tensor, squares: Tensor, products: Tensor, inverse: Tensor, targets: Tensor
    ) -> Tensor:
        """Log evidence that regressors add in the place of each parent, (b, d).

        An inverse without the row and the column p is M - M_p M_p^T / M_pp.
        """
        others, prior = self.others, self.sums.precision
        weights = (inverse @ targets[..., None])[..., 0]
        apart = inverse.diagonal(dim1=-2, dim2=-1)
        forth, back = (own[:, None] @ inverse)[:, 0], others @ inverse
        at_place = forth + back.diagonal(dim1=-2, dim2=-1)
        explained = (forth * own).sum(1, keepdim=True) + 2 * forth @ others.mT
        explained = explained + (back * others).sum(-1) - at_place.square() / apart
        fitted = (own * weights).sum(1, keepdim=True) + weights @ others.mT
        fitted = fitted - at_place * weights / apart
        precision = squares[:, None] + others.diagonal() + prior - explained
        target = products[:, None] + self.sums.others_cross[self.name, self.parents] - fitted
        return 0.5 * (target.square() / precision - (precision / prior).log())


def conditional_scores(
    worms: Sequence[Worm],
    names: Sequence[Tensor],
    adjacency: Tensor,
    std: float,
    *,
    noise: Sequence[float],
    worm: int,
) -> Tensor:
    """Posterior log odds of every name against no name, all other names given, float32, (m, n).

    A cell that has the name now loses it to the candidate.

    Arguments:
        worms: The worms.
        names: The names of the cells of all worms, (m,) each; -1 for none.
        adjacency: The wiring, bool, (n, n).
        std: Standard deviation of the weights.
        noise: Variance of the noise in every worm.
        worm: Whose cells are meant.
    """
    sums = _sums(worms, names, noise, std, worm)
    parents = [row.nonzero().flatten() for row in adjacency]
    candidates = [column.nonzero().flatten() for column in worms[worm].allowed.T]
    gains = torch.zeros(worms[worm].allowed.shape, dtype=torch.float64)
    for name in range(len(adjacency)):
        gains[candidates[name], name] += _as_target(sums, name, parents[name], candidates[name])
        if sums.cells[name] != _NOBODY:
            gains[:, parents[name]] += _Child(sums, name, parents[name]).gains()
    gains -= unnamed_evidence(worms[worm])[:, None]
    return gains.float() + prior_scores(worms[worm])
