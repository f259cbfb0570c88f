"""The Sinkhorn iteration in plain PyTorch, on any device: the definition.

With ``L = log_alpha / tau``, wanted row sums r and column sums c (1 where they are not given), a
step normalises the rows, then the columns. Only two scaling vectors change, so these are all that
the reverse pass needs of every step:

    u_t,i = log r_i - logsumexp_j(L_ij + v_{t-1,j})        (rows, v_0 = 0)
    v_t,j = log c_j - logsumexp_i(L_ij + u_t,i)            (columns)

and the iterate is ``S_ij = c_j softmax_i(L_ij + u_i)``. It is never taken as exp(L + u + v): where
L is huge, u and v have no digits left for the logarithm of a sum. A line whose wanted sum is 0
(logarithm -inf) takes no part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor


class Problem(NamedTuple):
    """What to iterate on: x (*, m, n), tau (*), and log sums (*, m) and (*, n) or None for 0."""

    x: Tensor
    tau: Tensor
    log_rows: Tensor | None = None
    log_columns: Tensor | None = None


class Settings(NamedTuple):
    """How: at most so many steps, to a row error below tol (0: all steps), S or log S, by whom."""

    n_iters: int
    tol: float
    log: bool
    backend: str


def matrix_dtype(dtype: torch.dtype) -> torch.dtype:
    """In which the kernels take matrices that are given in a dtype."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def working_dtype(x: Tensor) -> torch.dtype:
    """float64 wherever the device has it: at |L| = 1e8 a float32 scaling is off by 4 in the log."""
    return torch.float32 if x.device.type == "mps" else torch.float64


def per_matrix(tau: float | Tensor, x: Tensor) -> Tensor:
    """One temperature per matrix of x."""
    if isinstance(tau, Tensor):
        return tau
    return torch.full(x.shape[:-2], tau, dtype=working_dtype(x), device=x.device)


def divide(x: Tensor, tau: Tensor) -> Tensor:
    """L = x / tau, with a finite gradient also at -inf entries."""
    L = x.to(working_dtype(x)).contiguous()
    forbidden = L.isneginf()
    ratio = L.masked_fill(forbidden, 0) / tau[..., None, None]
    masked: Tensor = ratio.masked_fill(forbidden, -torch.inf)
    return masked


def _filled(y: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """y with 0 in lines of -inf alone, which take no part, and which lines these are."""
    empty = (y == -torch.inf).all(dim, keepdim=True)
    return y.masked_fill(empty, 0), empty


def _softmax(y: Tensor, dim: int, log: bool = False) -> Tensor:
    """The softmax, or its logarithm."""
    y, _ = _filled(y, dim)
    return y.log_softmax(dim) if log else y.softmax(dim)


def _scaling(y: Tensor, dim: int, log_sums: Tensor | None) -> Tensor:
    """The scalings that bring the lines of exp(y) along a dimension to the wanted sums."""
    y, empty = _filled(y, dim)
    sums = y.logsumexp(dim).masked_fill(empty.squeeze(dim), 0)
    return -sums if log_sums is None else log_sums - sums


def rows(L: Tensor, log_rows: Tensor | None, v: Tensor) -> Tensor:
    """u from v."""
    return _scaling(L + v.unsqueeze(-2), -1, log_rows)


def columns(L: Tensor, log_columns: Tensor | None, u: Tensor) -> Tensor:
    """v from u."""
    return _scaling(L + u.unsqueeze(-1), -2, log_columns)


def row_error(u: Tensor, u_next: Tensor, log_rows: Tensor | None) -> Tensor:
    """The largest distance of a row sum from the wanted one, read off the next row scalings."""
    difference = (u - u_next).expm1().abs()
    if log_rows is not None:
        difference = torch.where(log_rows == -torch.inf, 0, difference * log_rows.exp())
    return difference.amax(-1) if u.shape[-1] else difference.new_zeros(u.shape[:-1])


def iterate(
    rows: Callable[[Tensor], Tensor],
    columns: Callable[[Tensor], Tensor],
    v: Tensor,
    log_rows: Tensor | None,
    n_iters: int,
    tol: float,
) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """The scalings u = rows(v) and v = columns(u) of every step, and the steps of every matrix.

    A matrix that stopped early repeats its last scalings.
    """
    us: list[Tensor] = []
    vs: list[Tensor] = []
    running = torch.ones(v.shape[:-1], dtype=torch.bool, device=v.device)
    iters = torch.zeros(v.shape[:-1], dtype=torch.int64, device=v.device)
    for _ in range(n_iters):
        u = rows(v)
        if tol > 0 and us:
            running = running & ~(row_error(us[-1], u, log_rows) < tol)
            if not bool(running.any()):
                break
            keep = running.unsqueeze(-1)
            u = torch.where(keep, u, us[-1])
            v = torch.where(keep, columns(u), v)
        else:
            v = columns(u)
        iters = iters + running
        us.append(u)
        vs.append(v)
    return us, vs, iters


def _iterate(L: Tensor, given: Problem, how: Settings) -> tuple[list[Tensor], list[Tensor], Tensor]:
    start = L.new_zeros(*L.shape[:-2], L.shape[-1])
    by_rows = partial(rows, L, given.log_rows)
    by_columns = partial(columns, L, given.log_columns)
    return iterate(by_rows, by_columns, start, given.log_rows, how.n_iters, how.tol)


def _result(L: Tensor, u: Tensor, log_columns: Tensor | None, log: bool) -> Tensor:
    """S or log S from the last row scalings."""
    out = _softmax(L + u.unsqueeze(-1), -2, log)
    if log_columns is None:
        return out
    sums = log_columns.unsqueeze(-2)
    return out + sums if log else out * sums.exp()


def final_row_error(S: Tensor, log_rows: Tensor | None) -> Tensor:
    """The largest distance of a row sum of S from the wanted one."""
    wanted = 1.0 if log_rows is None else log_rows.exp()
    distance = (S.sum(-1) - wanted).abs()
    return distance.amax(-1) if S.shape[-2] else distance.new_zeros(S.shape[:-2])


def forward(
    given: Problem, how: Settings, keep: bool = False, info: bool = True
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    """S (or log S), the iterations done, the largest row error of every matrix, and for `keep` the
    scalings of every step. `info` makes no difference here.

    A matrix stops when its row error is below `tol` (0: never).
    """
    L = divide(given.x, given.tau)
    us, vs, iters = _iterate(L, given, how)
    out = _result(L, us[-1], given.log_columns, how.log)
    error = final_row_error(out.exp() if how.log else out, given.log_rows)
    dtype = given.x.dtype
    return out.to(dtype), iters, error.to(dtype), [*us, *vs] if keep else []


def _halves(scalings: Sequence[Tensor]) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    half = len(scalings) // 2
    return scalings[:half], scalings[half:]


def backward(
    grad: Tensor,
    given: Problem,
    iters: Tensor,
    how: Settings,
    out: Tensor | None = None,
    scalings: Sequence[Tensor] = (),
) -> tuple[Tensor, Tensor, Tensor]:
    """The exact gradient with respect to `x` and the logarithms of the wanted sums, by running the
    iteration in reverse.

    Scalings that were not kept are computed again.
    """
    L = divide(given.x, given.tau)
    us, vs = _halves(scalings) if scalings else _iterate(L, given, how)[:2]
    g = grad.to(L.dtype)
    if not how.log:
        g = g * _result(L, us[-1], given.log_columns, False)
    dx = g.clone(memory_format=torch.contiguous_format)
    du, dv = g.sum(-1), g.sum(-2)
    d_rows, d_columns = torch.zeros_like(du), torch.zeros_like(dv)
    for t in reversed(range(len(us))):
        live = (t < iters).unsqueeze(-1)
        by_column = _softmax(L + us[t].unsqueeze(-1), -2)
        dv_t = torch.where(live, dv, 0)
        dx -= by_column * dv_t.unsqueeze(-2)
        du_t = torch.where(live, du, 0) - (by_column @ dv_t.unsqueeze(-1)).squeeze(-1)
        before = L + vs[t - 1].unsqueeze(-2) if t > 0 else L
        by_row = _softmax(before, -1)
        dx -= by_row * du_t.unsqueeze(-1)
        dv = torch.where(live, -(by_row.mT @ du_t.unsqueeze(-1)).squeeze(-1), dv)
        du = torch.where(live, 0, du)
        d_rows += du_t
        d_columns += dv_t
    return (dx / given.tau[..., None, None]).to(given.x.dtype), d_rows, d_columns


def differentiable(given: Problem, iters: Tensor, how: Settings) -> Tensor:
    """The same iterate as a graph that autograd can differentiate any number of times."""
    L = divide(given.x, given.tau)
    v = L.new_zeros(*L.shape[:-2], L.shape[-1])
    u = L.new_zeros(L.shape[:-1])
    for t in range(how.n_iters):
        live = (t < iters).unsqueeze(-1)
        u = torch.where(live, rows(L, given.log_rows, v), u)
        v = torch.where(live, columns(L, given.log_columns, u), v)
    return _result(L, u, given.log_columns, how.log).to(given.x.dtype)
