"""Slow, obvious references: what the operators should give, computed without them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import kendalltau
from torch import Tensor


def all_permutations(n: int) -> Tensor:
    """Every permutation of n items as indices, (n!, n)."""
    listed = list(itertools.permutations(range(n)))
    return torch.tensor(listed, dtype=torch.int64).reshape(len(listed), n)


def matrices(shape: tuple[int, ...], seed: int = 0, scale: float = 1.0) -> Tensor:
    """Reproducible normal float64 scores."""
    return scale * torch.randn(
        shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )


def log_sinkhorn_loop(log_alpha: Tensor, tau: float | Tensor, n_iters: int) -> Tensor:
    """log S^l, one normalisation after the other, in float64; autograd goes through the loop."""
    scale = tau.double()[..., None, None] if isinstance(tau, Tensor) else tau
    x = log_alpha.double() / scale
    for _ in range(n_iters):
        x = x - x.logsumexp(-1, keepdim=True)
        x = x - x.logsumexp(-2, keepdim=True)
    return x


def sinkhorn_loop(log_alpha: Tensor, tau: float | Tensor, n_iters: int) -> Tensor:
    """S^l by `log_sinkhorn_loop`."""
    return log_sinkhorn_loop(log_alpha, tau, n_iters).exp()


def sinkhorn_by_division(log_alpha: Tensor, tau: float, n_iters: int) -> Tensor:
    """S^l as the paper writes it, by dividing by sums: for moderate entries only."""
    S = (log_alpha.double() / tau).exp()
    for _ in range(n_iters):
        S = S / S.sum(-1, keepdim=True)
        S = S / S.sum(-2, keepdim=True)
    return S


def _solve_exactly(equations: list[list[Fraction]]) -> list[Fraction]:
    """A solution of the equations, whose last entries are the right sides, by elimination."""
    rows, solved = list(equations), dict[int, int]()
    for unknown in range(len(rows)):
        usable = [k for k, row in enumerate(rows) if row[unknown] and k not in solved.values()]
        if not usable:
            continue
        p = solved[unknown] = usable[0]
        rows[p] = [x / rows[p][unknown] for x in rows[p]]
        for k, row in enumerate(rows):
            if k != p:
                rows[k] = [x - row[unknown] * y for x, y in zip(row, rows[p], strict=True)]
    assert not any(row[-1] for k, row in enumerate(rows) if k not in solved.values())
    return [rows[solved[k]][-1] if k in solved else Fraction(0) for k in range(len(rows))]


def gradient_of_the_limit(G: Tensor, S: Tensor) -> Tensor:
    """df / dX at S, a single limit, from G = df / d log S, without any rounding before the end.

    log S = X + u_i + v_j moves with u and v so that the sums of rows and columns stay. a and b are
    the multipliers of that: [[diag(r), S], [S^T, diag(c)]] [a; b] = [G 1; G^T 1].
    """
    n, zero = len(S), Fraction(0)
    s, g = ([[Fraction(float(x)) for x in row] for row in matrix] for matrix in (S, G))
    rows = [
        [sum(s[i], zero) if k == i else zero for k in range(n)] + s[i] + [sum(g[i], zero)]
        for i in range(n)
    ]
    for j in range(n):
        column = [s[i][j] for i in range(n)]
        diagonal = [sum(column, zero) if k == j else zero for k in range(n)]
        rows.append([*column, *diagonal, sum((g[i][j] for i in range(n)), zero)])
    a = _solve_exactly(rows)
    exact = [[g[i][j] - s[i][j] * (a[i] + a[n + j]) for j in range(n)] for i in range(n)]
    return torch.tensor([[float(x) for x in row] for row in exact], dtype=torch.float64)


def score(log_alpha: Tensor, perm: Tensor) -> float:
    """<P, X> of a single permutation."""
    return math.fsum(float(log_alpha[i, int(j)]) for i, j in enumerate(perm))


def best_score(log_alpha: Tensor) -> float:
    """The largest <P, X> over all permutations."""
    return max(score(log_alpha, perm) for perm in all_permutations(log_alpha.shape[-1]))


def matching_by_enumeration(log_alpha: Tensor) -> Tensor:
    """The permutation of the largest <P, X>, by trying them all."""
    candidates = all_permutations(log_alpha.shape[-1])
    return candidates[int(np.argmax([score(log_alpha, perm) for perm in candidates]))]


def entropy(P: Tensor) -> Tensor:
    """-sum P log P, with 0 log 0 = 0."""
    return -torch.xlogy(P, P).sum((-2, -1))


def matrix(perm: Tensor) -> Tensor:
    """P of a single permutation, entry by entry."""
    n = len(perm)
    return torch.tensor([[float(int(perm[i]) == j) for j in range(n)] for i in range(n)])


def inverse(perm: Tensor) -> Tensor:
    """The inverse of a single permutation, by searching for every position."""
    listed = perm.tolist()
    return torch.tensor([listed.index(j) for j in range(len(listed))], dtype=torch.int64)


def place(perm: Tensor, x: Tensor) -> Tensor:
    """Item i of x put in position perm[i], one after the other."""
    y = torch.empty_like(x)
    for i, j in enumerate(perm.tolist()):
        y[j] = x[i]
    return y


def mix(P: Tensor, x: Tensor) -> Tensor:
    """y_j = sum_i P_ij x_i for a single matrix, one term after the other."""
    y = torch.zeros_like(x)
    for i, j in itertools.product(range(len(x)), repeat=2):
        y[j] += P[i, j] * x[i]
    return y


def tau_by_scipy(perm: Tensor, target: Tensor) -> float:
    """Kendall's tau of a single pair of permutations."""
    return float(kendalltau(perm.numpy(), target.numpy()).statistic)


def share_wrong(perm: Tensor, target: Tensor) -> float:
    """The share of items at a wrong position, for a single pair."""
    pairs = list(zip(perm.tolist(), target.tolist(), strict=True))
    return [a != b for a, b in pairs].count(True) / len(pairs)


def equivalents(perm: Tensor, labels: Tensor) -> Iterator[Tensor]:
    """All permutations that put the same labels in the same positions as `perm`."""
    wanted = place(perm, labels)
    for candidate in all_permutations(len(perm)):
        if torch.equal(place(candidate, labels), wanted):
            yield candidate


def nearest(
    distance: Callable[[Tensor, Tensor], float], perm: Tensor, target: Tensor, labels: Tensor
) -> float:
    """The smallest distance to the target of all permutations equivalent to `perm`."""
    return min(distance(candidate, target) for candidate in equivalents(perm, labels))


def cut(image: Tensor, k: int) -> list[Tensor]:
    """The k x k pieces of a single image (C, H, W), by slicing a zero-padded copy."""
    channels, height, width = image.shape
    h, w = math.ceil(height / k), math.ceil(width / k)
    padded = torch.zeros(channels, k * h, k * w, dtype=image.dtype)
    top, left = (k * h - height) // 2, (k * w - width) // 2
    padded[:, top : top + height, left : left + width] = image
    return [padded[:, r * h : (r + 1) * h, c * w : (c + 1) * w] for r in range(k) for c in range(k)]


def gumbel_matching_frequencies(log_alpha: NDArray[np.float64], draws: int) -> NDArray[np.float64]:
    """The share of each permutation, in the order of `all_permutations`, under M(X + noise)."""
    n = len(log_alpha)
    scores = log_alpha + np.random.default_rng(0).gumbel(size=(draws, n, n))
    rows = np.arange(n)
    totals = np.stack([scores[:, rows, p].sum(-1) for p in all_permutations(n).numpy()], -1)
    return np.bincount(totals.argmax(-1), minlength=totals.shape[-1]) / draws


def doubly_stochastic_matrices(n: int, count: int, seed: int) -> Tensor:
    """Random mixtures of permutation matrices, (count, n, n): points of the Birkhoff polytope."""
    corners = torch.stack([matrix(perm) for perm in all_permutations(n)]).double()
    uniform = torch.rand(
        count, len(corners), dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )
    weights = uniform.log() / uniform.log().sum(-1, keepdim=True)
    return torch.einsum("bp,pij->bij", weights, corners)
