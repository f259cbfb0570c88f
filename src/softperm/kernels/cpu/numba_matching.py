"""Linear assignment on CPUs, compiled by Numba: shortest augmenting paths, exact.

Every column has a price, and column j is worth x_ij - p_j to row i. At the end every row has a
column that is worth most to it, which proves the assignment optimal. Jonker and Volgenant (1987):
prices start at the columns' maxima; rows bid for columns, as in an auction; the few rows that are
then left without one get theirs by exchanges along shortest paths.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from softperm.kernels.cpu.numba_simd import (
    WIDTH,
    lane_numbers,
    largest,
    load,
    maximum,
    minimum,
    pick,
    smallest,
    splat,
    store,
    to_double,
)

OPTIONS = {"error_model": "numpy"}
_BIDS = 2  # a row; then it is cheaper to end the fights for the same columns by exchanges


# Arrays, all but `rows` and those of rows padded to whole vectors:
# X         scores, -inf for padding
# price     p
# shut      p, but inf for columns to which the shortest path is settled
# distance  length of the shortest known path to a column, inf where that is settled
# before    the row before a column on that path
# vacant    1 + j for a column j without a row, else 0
# rows      row of every column, -1 for none


@njit(**OPTIONS)
def _best_two(X, price, i):
    """The column worth most to row i, its worth, and that of the next best."""
    width = price.size
    best = second = splat(-np.inf)
    where = splat(0.0)
    for at in range(0, width, WIDTH):
        worth = to_double(load(X, i * width + at)) - load(price, at)
        second = maximum(second, minimum(worth, best))
        where = pick(worth, best, splat(np.float64(at)), where)
        best = maximum(worth, best)
    top = largest(best)
    if top == -np.inf:
        return 0, top, top
    column = where + lane_numbers()
    j = largest(pick(splat(top), best, splat(-1.0), column))
    # The next best: what the lane of j holds besides it, or the best of another lane.
    others = pick(column, splat(j), best, pick(splat(j), column, best, second))
    return int(j), top, largest(others)


@njit(**OPTIONS)
def _vacant_column(X, price, vacant, i, top):
    """A column without a row that is worth `top` to row i, or -1."""
    width = price.size
    found = splat(0.0)
    for at in range(0, width, WIDTH):
        worth = to_double(load(X, i * width + at)) - load(price, at)
        found = maximum(found, pick(splat(top), worth, splat(0.0), load(vacant, at)))
    return int(largest(found)) - 1


@njit(**OPTIONS)
def _likes_differ(x, X, price, rows, perm):
    """Copy the scores; whether the largest entries of all rows are in different columns."""
    n = x.shape[0]
    rows[:] = -1
    price[:] = 0
    differ = True
    for i in range(n):
        for j in range(n):
            X[i, j] = x[i, j]
        perm[i], top, _ = _best_two(X, price, i)
        differ = differ and rows[perm[i]] < 0 and top > -np.inf
        rows[perm[i]] = i
    return differ


@njit(**OPTIONS)
def _start_prices(X, price, before):
    """Prices at the columns' maxima, and in `before` the rows that have them; False for -inf."""
    n, width = X.shape
    for at in range(0, width, WIDTH):
        top, row = to_double(load(X, at)), splat(0.0)
        for i in range(1, n):
            x = to_double(load(X, i * width + at))
            row = pick(x, top, splat(np.float64(i)), row)
            top = maximum(x, top)
        store(price, at, top)
        store(before, at, row)
    price[n:] = 0
    return price[:n].min() > -np.inf


@njit(**OPTIONS)
def _assign(rows, vacant, perm, i, j):
    """Give column j to row i; the row that had it, or -1."""
    loser = rows[j]
    rows[j] = i
    vacant[j] = 0
    perm[i] = j
    if loser >= 0:
        perm[loser] = -1
    return loser


@njit(**OPTIONS)
def _first_assignment(X, price, before, vacant, rows, perm, held, now):
    """Rows take one of the columns whose maximum they hold; the number of rows left free."""
    n = perm.size
    rows[:] = -1
    perm[:] = -1
    held[:] = 0
    for j in range(n):
        vacant[j] = 1 + j
        i = int(before[j])
        held[i] += 1
        if held[i] == 1:
            _assign(rows, vacant, perm, i, j)
    left = 0
    for i in range(n):
        if held[i] == 0:
            now[left] = i
            left += 1
        elif held[i] == 1:
            # Worth nothing at the maximum; its price may rise until the next best is worth as much.
            j, top, next_best = _best_two(X, price, i)
            if j == perm[i] and next_best > -np.inf:
                price[j] += top - next_best
    return left


@njit(**OPTIONS)
def _bid(X, price, vacant, rows, perm, now, later, left):
    """Bids by the `left` rows in list `now`; the number of rows left free, in list `later`."""
    bids = _BIDS * perm.size
    kept = 0
    k = 0
    while k < left:
        i = now[k]
        k += 1
        j, top, next_best = 0, 0.0, -np.inf
        if bids > 0:
            bids -= 1
            j, top, next_best = _best_two(X, price, i)
        if next_best == -np.inf:  # no bids left, or no limit to what a row with one column bids
            later[kept] = i
            kept += 1
        elif top > next_best:
            price[j] += top - next_best
            loser = _assign(rows, vacant, perm, i, j)
            if loser >= 0:
                k -= 1
                now[k] = loser
        else:
            free = _vacant_column(X, price, vacant, i, top)
            if free >= 0:
                _assign(rows, vacant, perm, i, free)
            else:
                later[kept] = i
                kept += 1
    return kept


@njit(**OPTIONS)
def _relax(X, shut, distance, before, i, offset):
    """Shorten paths by way of row i; the nearest column with an open path, and its distance."""
    width = distance.size
    nearest = splat(np.inf)
    where = splat(0.0)
    row = splat(np.float64(i))
    far = splat(offset)
    for at in range(0, width, WIDTH):
        worth = to_double(load(X, i * width + at)) - load(shut, at)
        by_row = far - worth
        known = load(distance, at)
        store(before, at, pick(known, by_row, row, load(before, at)))
        known = minimum(known, by_row)
        store(distance, at, known)
        where = pick(nearest, known, splat(np.float64(at)), where)
        nearest = minimum(known, nearest)
    low = smallest(nearest)
    column = where + lane_numbers()
    return int(largest(pick(nearest, splat(low), splat(-1.0), column))), low


@njit(**OPTIONS)
def _vacant_at(distance, vacant, nearest):
    """A column without a row at distance `nearest`, or -1."""
    found = splat(0.0)
    for at in range(0, distance.size, WIDTH):
        away = load(distance, at)
        found = maximum(found, pick(away, splat(nearest), splat(0.0), load(vacant, at)))
    return int(largest(found)) - 1


@njit(**OPTIONS)
def _augment(X, price, shut, distance, before, vacant, rows, settled, lengths, perm, start):
    """Assign row `start` along a shortest path of exchanges; False if there is none."""
    distance[:] = np.inf
    shut[:] = price
    n_settled = 0
    i, offset = start, 0.0
    while True:
        j, nearest = _relax(X, shut, distance, before, i, offset)
        if nearest == np.inf:
            return False
        if rows[j] >= 0:
            free = _vacant_at(distance, vacant, nearest)
            j = j if free < 0 else free
        if rows[j] < 0:
            break
        settled[n_settled] = j
        lengths[n_settled] = nearest
        n_settled += 1
        i = rows[j]
        offset = nearest + (X[i, j] - price[j])
        shut[j] = np.inf
        distance[j] = np.inf
    for k in range(n_settled):
        price[settled[k]] += nearest - lengths[k]
    while True:
        i = int(before[j])
        rows[j] = i
        vacant[j] = 0
        j, perm[i] = perm[i], j
        if i == start:
            return True


@njit(**OPTIONS)
def matching(x, perm, lo, hi):
    """Write the maximising assignments of matrices lo to hi to `perm`, -1 where there is none; the
    number of matrices without one.
    """
    n = x.shape[1]
    width = (n + WIDTH - 1) // WIDTH * WIDTH
    X = np.full((n, width), -np.inf, x.dtype)
    price, shut = np.zeros(width, np.float64), np.zeros(width, np.float64)
    distance, before = np.empty(width, np.float64), np.empty(width, np.float64)
    vacant, lengths = np.zeros(width, np.float64), np.empty(n, np.float64)
    rows, settled = np.empty(n, np.int64), np.empty(n, np.int64)
    now, later = np.empty(n, np.int64), np.empty(n, np.int64)
    infeasible = 0
    for b in range(lo, hi):
        if _likes_differ(x[b], X, price, rows, perm[b]):
            continue
        solved = _start_prices(X, price, before)
        left = 0
        if solved:
            left = _first_assignment(X, price, before, vacant, rows, perm[b], later, now)
        left = _bid(X, price, vacant, rows, perm[b], now, later, left)
        for k in range(left):
            solved = solved and _augment(
                X,
                price,
                shut,
                distance,
                before,
                vacant,
                rows,
                settled,
                lengths,
                perm[b],
                later[k],
            )
        if not solved:
            perm[b] = -1
            infeasible += 1
    return infeasible
