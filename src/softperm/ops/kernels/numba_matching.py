"""Linear assignment on CPUs, compiled by Numba: shortest augmenting paths, exact.

Costs are the negated scores, with a price for every row and column such that no reduced cost
``c_ij - u_i - v_j`` is negative and those of assigned pairs are 0 (Jonker and Volgenant, 1987).
Where every row likes another column best, that is the answer, after one pass over the matrix.
"""

from __future__ import annotations

import numpy as np
from numba import njit

OPTIONS = {"error_model": "numpy", "cache": True}


@njit(**OPTIONS)
def _best_columns(x, perm):
    """Every row's largest entry; whether all are in different columns and finite."""
    n = x.shape[0]
    taken = np.zeros(n, np.bool_)
    distinct = True
    for i in range(n):
        best = 0
        top = x[i, 0]
        for j in range(1, n):
            if x[i, j] > top:
                top = x[i, j]
                best = j
        perm[i] = best
        distinct = distinct and not taken[best] and top > -np.inf
        taken[best] = True
    return distinct


@njit(**OPTIONS)
def _start(x, perm, rows, v, cost):
    """Costs, column prices, and a first partial assignment of reduced cost 0.

    A column's price is its lowest cost; a row that then has a free column at its lowest reduced
    cost takes it.
    """
    n = x.shape[0]
    v[:] = np.inf
    for i in range(n):
        for j in range(n):
            cost[i, j] = -np.float64(x[i, j])
            v[j] = min(v[j], cost[i, j])
    rows[:] = -1
    perm[:] = -1
    for i in range(n):
        low = np.inf
        for j in range(n):
            low = min(low, cost[i, j] - v[j])
        if low == np.inf:
            continue
        for j in range(n):
            if cost[i, j] - v[j] == low and rows[j] < 0:
                rows[j] = i
                perm[i] = j
                break


@njit(**OPTIONS)
def _relax(cost, v, i, offset, done, distance, before):
    """Lower the distances of open columns by way of row i; the smallest of them."""
    n = v.size
    nearest = np.inf
    for j in range(n):
        d = cost[i, j] - v[j] + offset
        better = d < distance[j] and not done[j]
        distance[j] = d if better else distance[j]
        before[j] = i if better else before[j]
        nearest = min(nearest, np.inf if done[j] else distance[j])
    return nearest


@njit(**OPTIONS)
def _open_column_at(nearest, distance, done, rows):
    """An open column at the smallest distance, a free one if there is."""
    found = -1
    for j in range(rows.size):
        if distance[j] == nearest and not done[j]:
            if rows[j] < 0:
                return j
            if found < 0:
                found = j
    return found


@njit(**OPTIONS)
def _augment(cost, v, start, perm, rows, done, distance, before):
    """Assign row `start` along a cheapest path of exchanges; False if there is none."""
    n = v.size
    done[:] = False
    distance[:] = np.inf
    i, offset = start, 0.0
    while True:
        nearest = _relax(cost, v, i, offset, done, distance, before)
        if nearest == np.inf:
            return False
        j = _open_column_at(nearest, distance, done, rows)
        if rows[j] < 0:
            break
        done[j] = True
        i = rows[j]
        offset = nearest - (cost[i, j] - v[j])
    for k in range(n):
        if done[k]:
            v[k] += distance[k] - nearest
    while True:
        i = before[j]
        rows[j] = i
        j, perm[i] = perm[i], j
        if i == start:
            return True


@njit(**OPTIONS)
def _solve(x, perm, cost, v, rows, done, distance, before):
    n = x.shape[0]
    if _best_columns(x, perm):
        return
    _start(x, perm, rows, v, cost)
    for i in range(n):
        if perm[i] < 0 and not _augment(cost, v, i, perm, rows, done, distance, before):
            perm[:] = -1
            return


@njit(nogil=True, **OPTIONS)
def matching(x, perm, lo, hi):
    """Write the maximising assignments of matrices lo to hi to `perm`; -1 where there is none."""
    n = x.shape[1]
    cost = np.empty((n, n), np.float64)
    v, distance = np.empty(n, np.float64), np.empty(n, np.float64)
    rows, before = np.empty(n, np.int64), np.empty(n, np.int64)
    done = np.empty(n, np.bool_)
    for b in range(lo, hi):
        _solve(x[b], perm[b], cost, v, rows, done, distance, before)
