"""The Sinkhorn iteration on matrices whose rows are spread over the processes of a group.

Every process has some of the rows and all of the columns. A row step concerns a process alone; a
column step needs two reductions of n numbers per matrix, and so does its reverse pass one. The
formulas are those of `softperm.kernels.reference`, and every process has the same column scalings.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from softperm.kernels import reference
from softperm.kernels.reference import Problem, Settings


class Group:
    """The processes that share out the rows."""

    def __init__(self, group: dist.ProcessGroup) -> None:
        self.group = group

    def _reduced(self, x: Tensor, how: Any) -> Tensor:
        x = x.contiguous().clone()
        dist.all_reduce(x, how, self.group)
        return x

    def total(self, x: Tensor) -> Tensor:
        """The sum over all processes."""
        return self._reduced(x, dist.ReduceOp.SUM)

    def largest(self, x: Tensor) -> Tensor:
        """The maximum over all processes."""
        return self._reduced(x, dist.ReduceOp.MAX)


class Total(torch.autograd.Function):
    """The sum over all processes, for what already has the gradient of all their losses on each of
    them, as column sums have: nothing is left to add up.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Group) -> Tensor:
        return group.total(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None


class _ColumnSums(NamedTuple):
    """The sums of exp(y) over all rows: exp(high) total, (*, 1, n) each."""

    high: Tensor
    total: Tensor

    def shares(self, y: Tensor) -> Tensor:
        """exp(y) over its column sums."""
        return (y - self.high).exp() / self.total

    def log_shares(self, y: Tensor) -> Tensor:
        """The logarithm of that, which keeps its digits where y is huge."""
        return (y - self.high) - self.total.log()

    def log(self) -> Tensor:
        """The logarithm of the sums, (*, n)."""
        return (self.high + self.total.log()).squeeze(-2)


def _column_sums(y: Tensor, group: Group) -> _ColumnSums:
    empty = y.new_full((*y.shape[:-2], 1, y.shape[-1]), -torch.inf)
    high = group.largest(torch.cat([y, empty], -2).amax(-2, keepdim=True))
    high = high.masked_fill(high == -torch.inf, 0)
    return _ColumnSums(high, group.total((y - high).exp().sum(-2, keepdim=True)))


def _largest_error(u: Tensor, u_next: Tensor, log_rows: Tensor, group: Group) -> Tensor:
    return group.largest(reference.row_error(u, u_next, log_rows))


class _Steps(NamedTuple):
    """The scalings of every step, v_0 first, and the steps of every matrix."""

    us: list[Tensor]
    vs: list[Tensor]
    sums: list[_ColumnSums]
    iters: Tensor


def _iterate(L: Tensor, given: Problem, how: Settings, group: Group) -> _Steps:
    """All steps, or until the row error of all matrices is below `tol`."""
    assert given.log_rows is not None
    assert given.log_columns is not None
    steps = _Steps([], [L.new_zeros(*L.shape[:-2], L.shape[-1])], [], L.new_empty(0))
    running = torch.ones(L.shape[:-2], dtype=torch.bool, device=L.device)
    iters = torch.zeros(L.shape[:-2], dtype=torch.int64, device=L.device)
    for _ in range(how.n_iters):
        v = steps.vs[-1]
        u = reference.rows(L, given.log_rows, v)
        if how.tol > 0 and steps.us:
            error = _largest_error(steps.us[-1], u, given.log_rows, group)
            running = running & ~(error < how.tol)
            if not bool(running.any()):
                break
            u = torch.where(running.unsqueeze(-1), u, steps.us[-1])
        sums = _column_sums(L + u.unsqueeze(-1), group)
        v = torch.where(running.unsqueeze(-1), given.log_columns - sums.log(), v)
        iters = iters + running
        for kept, new in ((steps.us, u), (steps.vs, v), (steps.sums, sums)):
            kept.append(new)  # type: ignore[arg-type]
    return steps._replace(iters=iters)


class Sinkhorn(torch.autograd.Function):
    """The local rows of the iterate, with the gradient of the sum of all processes' losses."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        log_rows: Tensor,
        log_columns: Tensor,
        tau: float,
        how: Settings,
        group: Group,
    ) -> tuple[Tensor, Tensor, Tensor]:
        given = Problem(x, reference.per_matrix(tau, x), log_rows, log_columns)
        L = reference.divide(x, given.tau)
        steps = _iterate(L, given, how, group)
        y, sums = L + steps.us[-1].unsqueeze(-1), steps.sums[-1]
        wanted = log_columns.unsqueeze(-2)
        S = sums.shares(y) * wanted.exp()
        error = group.largest(reference.final_row_error(S, log_rows)).to(x.dtype)
        out = sums.log_shares(y) + wanted if how.log else S
        ctx.save_for_backward(x, log_rows, log_columns)
        ctx.tau, ctx.how, ctx.group, ctx.steps = given.tau, how, group, steps
        ctx.mark_non_differentiable(steps.iters, error)
        return out.to(x.dtype), steps.iters, error

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (x, _, log_columns), steps, group = ctx.saved_tensors, ctx.steps, ctx.group
        L = reference.divide(x, ctx.tau)
        g = grads[0].to(L.dtype)
        if not ctx.how.log:
            S = steps.sums[-1].shares(L + steps.us[-1].unsqueeze(-1))
            g = g * S * log_columns.exp().unsqueeze(-2)
        dx, du, dv = g.clone(), g.sum(-1), group.total(g.sum(-2))
        d_rows, d_columns = torch.zeros_like(du), torch.zeros_like(dv)
        for t in reversed(range(len(steps.us))):
            live = (t < steps.iters).unsqueeze(-1)
            dv_t = torch.where(live, dv, 0)
            by_column = steps.sums[t].shares(L + steps.us[t].unsqueeze(-1)) * dv_t.unsqueeze(-2)
            du_t = torch.where(live, du, 0) - by_column.sum(-1)
            by_row = (L + steps.vs[t].unsqueeze(-2)).softmax(-1) * du_t.unsqueeze(-1)
            dx -= by_column + by_row
            dv = torch.where(live, -group.total(by_row.sum(-2)), dv)
            du = torch.where(live, 0, du)
            d_rows += du_t
            d_columns += dv_t
        return (dx / ctx.tau[..., None, None]).to(x.dtype), d_rows, d_columns, None, None, None
