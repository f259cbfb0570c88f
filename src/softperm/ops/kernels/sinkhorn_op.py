"""The Sinkhorn iteration as an operator: for torch.compile, torch.func and higher derivatives.

`torch.library.custom_op` keeps the loop opaque to tracing; the autograd functions around it give
the gradient, also under the transforms of `torch.func`, which operators alone do not support.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from softperm.ops.kernels import torch_loop

FiveTensors = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


@torch.library.custom_op("softperm::sinkhorn", mutates_args=())
def _forward(
    x: Tensor, n_iters: int, tol: float, log: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    return torch_loop.forward(x, n_iters, tol, log)


@_forward.register_fake
def _(x: Tensor, n_iters: int, tol: float, log: bool) -> FiveTensors:
    batch, n = x.shape[:-2], x.shape[-1]
    history = x.new_empty((*batch, n_iters, n), dtype=torch_loop.working_dtype(x))
    return (
        x.new_empty(x.shape),
        history,
        torch.empty_like(history),
        x.new_empty(batch, dtype=torch.int64),
        x.new_empty(batch),
    )


@torch.library.custom_op("softperm::sinkhorn_backward", mutates_args=())
def _backward(
    grad: Tensor, x: Tensor, out: Tensor, u: Tensor, v: Tensor, iters: Tensor, log: bool
) -> Tensor:
    return torch_loop.backward(grad, x, out, u, v, iters, log)


@_backward.register_fake
def _(
    grad: Tensor, x: Tensor, out: Tensor, u: Tensor, v: Tensor, iters: Tensor, log: bool
) -> Tensor:
    return x.new_empty(x.shape)


def _batched(values: tuple[Any, ...], dims: tuple[int | None, ...], size: int) -> list[Any]:
    """The arguments of a vmapped call, each tensor with the mapped dimension first."""
    return [
        value.movedim(dim, 0)
        if dim is not None
        else value.expand(size, *value.shape)
        if isinstance(value, Tensor)
        else value
        for value, dim in zip(values, dims, strict=True)
    ]


@_forward.register_vmap
def _(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> tuple[Any, Any]:
    return _forward(*_batched(args, in_dims, info.batch_size)), (0,) * 5


@_backward.register_vmap
def _(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> tuple[Any, Any]:
    return _backward(*_batched(args, in_dims, info.batch_size)), 0


class _Sinkhorn(torch.autograd.Function):
    """The iterate, with its gradient."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, n_iters: int, tol: float, log: bool) -> FiveTensors:
        outputs: FiveTensors = _forward(x, n_iters, tol, log)
        return outputs

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: FiveTensors) -> None:
        x, _, _, ctx.log = inputs
        out, u, v, iters, error = output
        ctx.mark_non_differentiable(u, v, iters, error)
        ctx.save_for_backward(x, out, u, v, iters)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        dx = _SinkhornBackward.apply(grads[0], *ctx.saved_tensors, ctx.log)  # type: ignore[no-untyped-call]
        return dx, None, None, None


class _SinkhornBackward(torch.autograd.Function):
    """The gradient of the iterate, with its own gradient."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        grad: Tensor, x: Tensor, out: Tensor, u: Tensor, v: Tensor, iters: Tensor, log: bool
    ) -> Tensor:
        dx: Tensor = _backward(grad, x, out, u, v, iters, log)
        return dx

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        grad, x, _, u, _, iters, ctx.log = inputs
        ctx.n_iters = u.shape[-2]
        ctx.save_for_backward(grad, x, iters)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad, x, iters = ctx.saved_tensors

        def iterate(x: Tensor) -> Tensor:
            return torch_loop.differentiable(x, ctx.n_iters, iters, ctx.log)

        def gradient(grad: Tensor, x: Tensor) -> Tensor:
            dx: Tensor = torch.func.vjp(iterate, x)[1](grad)[0]
            return dx

        dgrad, dx = torch.func.vjp(gradient, grad, x)[1](grads[0])
        return dgrad, dx, None, None, None, None, None


def sinkhorn(x: Tensor, n_iters: int, tol: float, log: bool) -> torch_loop.Iterate:
    """`torch_loop.forward`, differentiable any number of times with respect to `x`."""
    return torch_loop.Iterate(*_Sinkhorn.apply(x, n_iters, tol, log))  # type: ignore[no-untyped-call]
