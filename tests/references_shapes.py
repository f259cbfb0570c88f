"""Slow references for matrices of any shape: whole squares, one matrix after the other, float64."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F

from tests.references import log_sinkhorn_loop


def log_completed(x: Tensor, tau: float | Tensor, n_iters: int) -> Tensor:
    """log S of the shorter side completed to a square by lines of zeros, cut to (*, m, n) again."""
    m, n = x.shape[-2:]
    square = F.pad(x.double(), (0, max(m - n, 0), 0, max(n - m, 0)))
    return log_sinkhorn_loop(square, tau, n_iters)[..., :m, :n]


def log_with_sums(x: Tensor, tau: float, n_iters: int, rows: Tensor, columns: Tensor) -> Tensor:
    """log S with rows and columns brought to the given sums, one after the other."""
    y = x.double() / tau
    for _ in range(n_iters):
        y = y - y.logsumexp(-1, keepdim=True) + rows.log().unsqueeze(-1)
        y = y - y.logsumexp(-2, keepdim=True) + columns.log().unsqueeze(-2)
    return y


def log_with_slack(x: Tensor, tau: float, n_iters: int, slack: float | Tensor) -> Tensor:
    """log S of a single matrix with a row and a column of slack."""
    m, n = x.shape
    full = torch.zeros(m + 1, n + 1, dtype=torch.float64) + slack
    full = torch.cat([torch.cat([x.double(), full[:m, n:]], 1), full[m:]], 0)
    rows, columns = torch.ones(m + 1).double(), torch.ones(n + 1).double()
    rows[m], columns[n] = n, m
    return log_with_sums(full, tau, n_iters, rows, columns)


def superglue(x: Tensor, slack: Tensor, n_iters: int) -> Tensor:
    """Optimal transport with dustbins as in SuperGlue's paper, whose marginals have total 1.

    (Sarlin et al., CVPR 2020, section 3.2), times m + n, as there; x is (batch, m, n).
    """
    batch, m, n = x.shape
    scores = slack.expand(batch, m + 1, n + 1).clone()
    scores[:, :m, :n] = x
    total = -math.log(m + n)
    log_a = torch.tensor([total] * m + [math.log(n) + total], dtype=x.dtype)
    log_b = torch.tensor([total] * n + [math.log(m) + total], dtype=x.dtype)
    u, v = torch.zeros_like(scores[:, :, 0]), torch.zeros_like(scores[:, 0])
    for _ in range(n_iters):
        u = log_a - torch.logsumexp(scores + v[:, None, :], 2)
        v = log_b - torch.logsumexp(scores + u[:, :, None], 1)
    return scores + u[:, :, None] + v[:, None, :] - total


def partial_matchings(m: int, n: int) -> list[list[int]]:
    """Every way to give some of m items a position of n, no two the same; -1 for none."""
    choices = itertools.product(range(-1, n), repeat=m)
    return [
        list(choice)
        for choice in choices
        if all(choice.count(position) < 2 for position in range(n))
    ]


def total_score(x: Tensor, perm: list[int] | Tensor, unmatched: Tensor | None = None) -> float:
    """The scores of all pairs, and those of the items without a position."""
    pairs = [float(x[i, int(j)]) for i, j in enumerate(perm) if int(j) >= 0]
    alone = (
        [] if unmatched is None else [float(unmatched[i]) for i, j in enumerate(perm) if int(j) < 0]
    )
    return math.fsum(pairs + alone)


def best_total(x: Tensor, unmatched: Tensor | None = None) -> float:
    """The largest total over all partial matchings; of as many pairs as can be, if none may stay
    alone.
    """
    m, n = x.shape
    candidates = partial_matchings(m, n)
    if unmatched is None:
        candidates = [perm for perm in candidates if perm.count(-1) == max(m - n, 0)]
    return max(total_score(x, perm, unmatched) for perm in candidates)


def best_by_scipy(x: Tensor, unmatched: Tensor | None = None) -> float | None:
    """The largest total, of a square in which every item and every position may stay alone.

    None where -inf forbids all matchings.
    """
    scores = x.double().numpy()
    m = len(scores)
    if unmatched is not None:
        alone = np.full((m, m), -np.inf)
        alone[range(m), range(m)] = unmatched.double().numpy()
        scores = np.concatenate([scores, alone], 1)
    try:
        rows, columns = linear_sum_assignment(scores, maximize=True)
    except ValueError:
        return None
    return math.fsum(scores[rows, columns])


def _slices(value: Any, batch: tuple[int, ...], trailing: tuple[int, ...] = ()) -> list[Any]:
    """A number or tensor for every matrix of the batch."""
    if value is None:
        return [None] * math.prod(batch)
    full = value if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)
    full = full.expand((*batch, *trailing))
    return list(full.reshape(math.prod(batch), *trailing))


def _sums(rows: Any, columns: Any, r: int, c: int) -> tuple[Tensor, Tensor]:
    """The sums of what counts, uniform where they are not given."""
    rows = None if rows is None else rows[:r].double()
    columns = None if columns is None else columns[:c].double()
    if rows is None:
        rows = (columns.sum() / r).expand(r)
    if columns is None:
        columns = (rows.sum() / c).expand(c)
    return rows, columns


def _one(x: Tensor, tau: Any, n_iters: int, a: Any, b: Any, slack: Any, r: int, c: int) -> Tensor:
    """log S of a single matrix of which r rows and c columns count."""
    (m, n), extra = x.shape, int(slack is not None)
    out = torch.full((m + extra, n + extra), -torch.inf, dtype=torch.float64)
    if r == 0 or c == 0:
        if extra:  # all that is there is alone
            out[:r, n] = 0
            out[m, :c] = 0
        return out
    part = x[:r, :c]
    if extra:
        found = log_with_slack(part, tau, n_iters, slack)
    elif a is None and b is None:
        found = log_completed(part, tau, n_iters)
    else:
        found = log_with_sums(part, tau, n_iters, *_sums(a, b, r, c))
    rows, columns = [*range(r), *[m] * extra], [*range(c), *[n] * extra]
    out[torch.tensor(rows).unsqueeze(-1), torch.tensor(columns)] = found
    return out


def log_any_shape(
    x: Tensor,
    tau: float | Tensor = 1.0,
    n_iters: int = 20,
    *,
    row_sums: Any = None,
    col_sums: Any = None,
    slack: Any = None,
    n_rows: Any = None,
    n_cols: Any = None,
) -> Tensor:
    """log S as `softperm.log_sinkhorn` has it: what counts of one matrix after the other."""
    *dims, m, n = x.shape
    batch, extra = tuple(dims), int(slack is not None)
    sizes = (m if n_rows is None else n_rows, n if n_cols is None else n_cols)
    parts = zip(
        x.double().reshape(math.prod(batch), m, n),
        _slices(tau, batch),
        _slices(row_sums, batch, (m,)),
        _slices(col_sums, batch, (n,)),
        _slices(slack, batch),
        *(_slices(size, batch) for size in sizes),
        strict=True,
    )
    found = [_one(y, t, n_iters, a, b, s, int(r), int(c)) for y, t, a, b, s, r, c in parts]
    shape = (*batch, m + extra, n + extra)
    return torch.stack(found).reshape(shape) if found else x.new_empty(shape)
