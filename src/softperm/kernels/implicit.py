"""The gradient of the limit of the Sinkhorn iteration, from the limit alone.

In the limit ``log S_ij = L_ij + u_i + v_j`` with the sums of all rows and columns fixed, whatever L
is. With ``G = df / d log S`` that leaves, by the implicit function theorem,

    df/dL_ij = G_ij - S_ij (a_i + b_j)   where   [diag(r) S; S^T diag(c)] [a; b] = [G 1; G^T 1]

(r and c the sums of the rows and columns). The system is singular: a + t, b - t solve it as well
as a, b, with one t for every block of rows and columns that S connects. Eliminating b leaves the
Laplacian ``diag(W 1) - W`` of the graph on rows with edges ``W = S diag(c)^-1 S^T``, which sees the
differences of a only, and of those only what S is there to use.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from softperm.kernels import reference
from softperm.kernels.dispatch import NO_GRADIENTS, Sinkhorn, ThreeTensors, tau_gradient
from softperm.kernels.reference import Problem, Settings, per_matrix

_LEAK = 64  # of n eps: above what rounding takes off the smallest pivot of the factorisation


def _potentials(W: Tensor, flow: Tensor) -> Tensor:
    """a with (diag(W 1) - W) a = flow; where W is not connected, of any solution one.

    Every row leaks a little of its edges, so that the factorisation exists; the second solve takes
    back what the leak changed.
    """
    n, limits = W.shape[-1], torch.finfo(W.dtype)
    identity = torch.eye(n, dtype=W.dtype, device=W.device)
    W = W * (1 - identity)
    degree = W.sum(-1)
    # A row whose edges are all below is as good as alone; a stays far from overflow.
    alone = degree < limits.tiny ** (1 / 3)
    W = W.masked_fill(alone.unsqueeze(-1) | alone.unsqueeze(-2), 0)
    degree = degree.masked_fill(alone, 1).unsqueeze(-1)
    factor = torch.linalg.cholesky_ex((1 + _LEAK * n * limits.eps) * degree * identity - W).L
    right = flow.masked_fill(alone, 0).unsqueeze(-1)
    a = torch.cholesky_solve(right, factor)
    a = a + torch.cholesky_solve(right - degree * a + W @ a, factor)
    return a.squeeze(-1)


def _gradient(grad: Tensor, out: Tensor, log: bool) -> ThreeTensors:
    """df/dL, and df/d log of the sums of rows and columns, from df/d out at the limit S (or log S).

    Only changes of the sums that keep the two totals equal have a meaning.
    """
    dtype = reference.working_dtype(out)
    grad = grad.to(dtype)
    if out.numel() == 0:
        return grad, out.new_zeros(out.shape[:-1], dtype=dtype), grad.sum(-2)
    S = out.to(dtype).exp() if log else out.to(dtype)
    # The gradient does not feel a multiple of S added to a column of G: make G 0 at the largest
    # entry, so that near a permutation no large numbers cancel.
    largest = S.argmax(-2, keepdim=True)
    most = S.gather(-2, largest)
    if log:
        G = grad.masked_fill(out.isneginf(), 0)
        taken = G.gather(-2, largest) / most.masked_fill(most == 0, 1)
        G = G - S * taken
    else:
        taken = grad.gather(-2, largest)
        G = S * (grad - taken)
    columns = S.sum(-2)
    weights = columns.masked_fill(columns == 0, 1)  # a column that takes no part
    by_column = S / weights.unsqueeze(-2)
    sums = G.sum(-2)
    flow = G.sum(-1) - (by_column @ sums.unsqueeze(-1)).squeeze(-1)
    a = _potentials(by_column @ S.mT, flow).unsqueeze(-1)
    # a_i + b_j, from differences of a: its size means nothing.
    start = a.expand_as(S).gather(-2, largest)
    step = a - start
    rest = ((sums - (S * step).sum(-2)) / weights).unsqueeze(-2)
    b = (taken - start + rest).squeeze(-2)
    return G - S * (step + rest), S.sum(-1) * a.squeeze(-1), columns * b


class _Implicit(Sinkhorn):
    """The iterate, with the gradient of the limit."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: ThreeTensors) -> None:
        x, tau, log_rows, log_columns, *how = inputs
        ctx.log = Settings(*how).log
        out, *statistics = output
        ctx.mark_non_differentiable(*statistics)
        ctx.save_for_backward(x, tau, out)
        ctx.given = log_rows is not None, log_columns is not None

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, tau, out = ctx.saved_tensors
        dL, *d_sums = _gradient(grads[0], out, ctx.log)
        dx = (dL / tau[..., None, None]).to(x.dtype)
        dtau = tau_gradient(dx, x, tau) if ctx.needs_input_grad[1] else None
        wanted = (d if given else None for d, given in zip(d_sums, ctx.given, strict=True))
        return dx, dtau, *wanted, *NO_GRADIENTS


def sinkhorn(given: Problem, how: Settings, info: bool = True) -> ThreeTensors:
    """As `dispatch.sinkhorn`, but differentiated as if the iteration had come to its end.

    `info` makes no difference here.
    """
    x, tau, *sums = given
    outputs: ThreeTensors = _Implicit.apply(x, per_matrix(tau, x), *sums, *how)  # type: ignore[no-untyped-call]
    return outputs
