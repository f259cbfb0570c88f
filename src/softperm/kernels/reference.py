"""The Sinkhorn iteration in plain PyTorch, on any device.

With ``L = log_alpha / tau`` the l-step iterate is ``log S_ij = L_ij + u_i + v_j``. Only the two
scaling vectors change, so these are all that the reverse pass needs of every step:

    u_t,i = -logsumexp_j(L_ij + v_{t-1,j})        (rows, v_0 = 0)
    v_t,j = -logsumexp_i(L_ij + u_t,i)            (columns)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor


def working_dtype(x: Tensor) -> torch.dtype:
    """float64 wherever the device has it: at |L| = 1e8 a float32 scaling is off by 4 in the log."""
    return torch.float32 if x.device.type == "mps" else torch.float64


def per_matrix(tau: float | Tensor, x: Tensor) -> Tensor:
    """One temperature a matrix of x."""
    if isinstance(tau, Tensor):
        return tau
    return torch.full(x.shape[:-2], tau, dtype=working_dtype(x), device=x.device)


def _divide(x: Tensor, tau: Tensor) -> Tensor:
    """L = x / tau, with a finite gradient also at -inf entries."""
    L = x.to(working_dtype(x)).contiguous()
    forbidden = L.isneginf()
    ratio = L.masked_fill(forbidden, 0) / tau[..., None, None]
    masked: Tensor = ratio.masked_fill(forbidden, -torch.inf)
    return masked


def _rows(L: Tensor, v: Tensor) -> Tensor:
    return -(L + v.unsqueeze(-2)).logsumexp(-1)


def _columns(L: Tensor, u: Tensor) -> Tensor:
    return -(L + u.unsqueeze(-1)).logsumexp(-2)


def row_error(u: Tensor, u_next: Tensor) -> Tensor:
    """The largest |row sum - 1| of a step, read off the row scalings of the next step."""
    difference = (u - u_next).expm1().abs()
    return difference.amax(-1) if u.shape[-1] else difference.new_zeros(u.shape[:-1])


def iterate(
    rows: Callable[[Tensor], Tensor],
    columns: Callable[[Tensor], Tensor],
    start: Tensor,
    n_iters: int,
    tol: float,
) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """The scalings u = rows(v) and v = columns(u) of every step, and the steps of every matrix.

    A matrix that stopped early repeats its last scalings.
    """
    u = v = start
    us: list[Tensor] = []
    vs: list[Tensor] = []
    running = torch.ones(start.shape[:-1], dtype=torch.bool, device=start.device)
    iters = torch.zeros(start.shape[:-1], dtype=torch.int64, device=start.device)
    for _ in range(n_iters):
        u_next = rows(v)
        if tol > 0:
            if us:
                running = running & ~(row_error(u, u_next) < tol)
                if not bool(running.any()):
                    break
            keep = running.unsqueeze(-1)
            u_next = torch.where(keep, u_next, u)
            u, v = u_next, torch.where(keep, columns(u_next), v)
        else:
            u, v = u_next, columns(u_next)
        iters = iters + running
        us.append(u)
        vs.append(v)
    return us, vs, iters


def _iterate(L: Tensor, n_iters: int, tol: float) -> tuple[list[Tensor], list[Tensor], Tensor]:
    start = L.new_zeros(L.shape[:-1])
    return iterate(partial(_rows, L), partial(_columns, L), start, n_iters, tol)


def forward(
    x: Tensor,
    tau: Tensor,
    n_iters: int,
    tol: float,
    log: bool,
    keep: bool = False,
    info: bool = True,
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    """S (or log S), the iterations done, the largest row error of every matrix, and for `keep` the
    scalings of every step. `info` makes no difference here.

    A matrix stops when its row error is below `tol` (0: never).
    """
    L = _divide(x, tau)
    us, vs, iters = _iterate(L, n_iters, tol)
    u, v = us[-1], vs[-1]
    error = row_error(u, _rows(L, v))
    out = L + u.unsqueeze(-1) + v.unsqueeze(-2)
    out = (out if log else out.exp()).to(x.dtype)
    return out, iters, error.to(x.dtype), [*us, *vs] if keep else []


def _halves(scalings: Sequence[Tensor]) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    half = len(scalings) // 2
    return scalings[:half], scalings[half:]


def backward(
    grad: Tensor,
    x: Tensor,
    tau: Tensor,
    iters: Tensor,
    n_iters: int,
    tol: float,
    log: bool,
    out: Tensor | None = None,
    scalings: Sequence[Tensor] = (),
) -> Tensor:
    """The exact gradient with respect to `x`, by running the iteration in reverse.

    Scalings that were not kept are computed again.
    """
    L = _divide(x, tau)
    us, vs, _ = _iterate(L, n_iters, tol) if not scalings else (*_halves(scalings), iters)
    g = grad.to(L.dtype)
    if not log:
        g = g * (L + us[-1].unsqueeze(-1) + vs[-1].unsqueeze(-2)).exp()
    dx = g.clone(memory_format=torch.contiguous_format)
    du, dv = g.sum(-1), g.sum(-2)
    for t in reversed(range(len(us))):
        live = (t < iters).unsqueeze(-1)
        by_column = (L + us[t].unsqueeze(-1) + vs[t].unsqueeze(-2)).exp()  # columns sum to 1
        dv_t = torch.where(live, dv, 0)
        dx -= by_column * dv_t.unsqueeze(-2)
        du_t = torch.where(live, du, 0) - (by_column @ dv_t.unsqueeze(-1)).squeeze(-1)
        before = vs[t - 1].unsqueeze(-2) if t > 0 else 0.0
        by_row = (L + us[t].unsqueeze(-1) + before).exp()  # rows sum to 1
        dx -= by_row * du_t.unsqueeze(-1)
        dv = torch.where(live, -(by_row.mT @ du_t.unsqueeze(-1)).squeeze(-1), dv)
        du = torch.where(live, 0, du)
    return (dx / tau[..., None, None]).to(x.dtype)


def differentiable(x: Tensor, tau: Tensor, n_iters: int, iters: Tensor, log: bool) -> Tensor:
    """The same iterate as a graph that autograd can differentiate any number of times."""
    L = _divide(x, tau)
    v = L.new_zeros(L.shape[:-1])
    u = v
    for t in range(n_iters):
        live = (t < iters).unsqueeze(-1)
        u = torch.where(live, _rows(L, v), u)
        v = torch.where(live, _columns(L, u), v)
    out = L + u.unsqueeze(-1) + v.unsqueeze(-2)
    return (out if log else out.exp()).to(x.dtype)
