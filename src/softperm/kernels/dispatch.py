"""The Sinkhorn iteration as an operator: for torch.compile, torch.func and higher derivatives.

`torch.library.custom_op` keeps the kernels opaque to tracing; the autograd functions around it give
the gradient, also under the transforms of `torch.func`, which operators alone do not support.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from softperm._torch import is_plain
from softperm.kernels import reference
from softperm.kernels.reference import per_matrix

ThreeTensors = tuple[Tensor, Tensor, Tensor]
Options = tuple[int, float, bool, str]  # n_iters, tol, log, backend
HAS_TRITON = find_spec("triton") is not None


@cache
def numba_cpu() -> Any:
    """The module of the CPU kernels."""
    from softperm.kernels.cpu import numba_cpu  # Numba takes half a second to import

    return numba_cpu


@cache
def _gpu() -> Any:
    from softperm.kernels import gpu  # Triton is not everywhere

    return gpu


def _kernel(x: Tensor, backend: str) -> Any:
    """The module that computes: `forward` and `backward`."""
    if backend == "triton" or (backend == "auto" and HAS_TRITON and x.is_cuda):
        return _gpu()
    return reference if backend == "torch" or not x.is_cpu else numba_cpu()


@torch.library.custom_op("softperm::sinkhorn", mutates_args=())
def _forward(
    x: Tensor, tau: Tensor, n_iters: int, tol: float, log: bool, backend: str
) -> tuple[Tensor, Tensor, Tensor]:
    tau = tau.to(reference.working_dtype(x))
    outputs: ThreeTensors = _kernel(x, backend).forward(x, tau, n_iters, tol, log)[:3]
    return outputs


@_forward.register_fake
def _(x: Tensor, tau: Tensor, n_iters: int, tol: float, log: bool, backend: str) -> ThreeTensors:
    batch = x.shape[:-2]
    iters = x.new_empty(batch, dtype=torch.int64)
    return x.new_empty(x.shape), iters, x.new_empty(batch)


@torch.library.custom_op("softperm::sinkhorn_backward", mutates_args=())
def _backward(
    grad: Tensor,
    x: Tensor,
    tau: Tensor,
    iters: Tensor,
    n_iters: int,
    tol: float,
    log: bool,
    backend: str,
) -> Tensor:
    grad, tau = grad.to(x.dtype), tau.to(reference.working_dtype(x))
    dx: Tensor = _kernel(x, backend).backward(grad, x, tau, iters, n_iters, tol, log)
    return dx


@_backward.register_fake
def _(
    grad: Tensor,
    x: Tensor,
    tau: Tensor,
    iters: Tensor,
    n_iters: int,
    tol: float,
    log: bool,
    backend: str,
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
    return _forward(*_batched(args, in_dims, info.batch_size)), (0, 0, 0)


@_backward.register_vmap
def _(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> tuple[Any, Any]:
    return _backward(*_batched(args, in_dims, info.batch_size)), 0


def tau_gradient(dx: Tensor, x: Tensor, tau: Tensor) -> Tensor:
    """From d/dx to d/dtau: f depends on x / tau alone, so tau df/dtau = - sum x df/dx."""
    products: Tensor = dx.to(tau.dtype) * x.masked_fill(x.isneginf(), 0)
    return -products.sum((-2, -1)) / tau


def _all_steps(x: Tensor, n_iters: int) -> Tensor:
    """The iterations done where a kernel has not said how many."""
    return torch.full(x.shape[:-2], n_iters, device=x.device)


class Sinkhorn(torch.autograd.Function):
    """The iterate, with its gradient with respect to x and tau, for whatever traces or maps it."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        x: Tensor, tau: Tensor, n_iters: int, tol: float, log: bool, backend: str
    ) -> ThreeTensors:
        outputs: ThreeTensors = _forward(x, tau, n_iters, tol, log, backend)
        return outputs

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: ThreeTensors) -> None:
        x, tau, *ctx.options = inputs
        _, iters, error = output
        ctx.mark_non_differentiable(iters, error)
        ctx.save_for_backward(x, tau, iters)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, tau, iters = ctx.saved_tensors
        dx = _SinkhornBackward.apply(grads[0], x, tau, iters, *ctx.options)  # type: ignore[no-untyped-call]
        dtau = tau_gradient(dx, x, tau) if ctx.needs_input_grad[1] else None
        return dx, dtau, None, None, None, None


class _Eager(torch.autograd.Function):
    """The same where nothing is traced or mapped: the iterate alone; the iterations done and the
    row errors are put into `info`, unless that is None.

    Dispatching an operator costs more than solving 64 small matrices, and so does every output or
    operation that can be done without; and here the reverse pass may use what the forward pass has
    left instead of computing it again.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        tau: float | Tensor,
        options: Options,
        info: list[Tensor] | None,
    ) -> Tensor:
        *numbers, backend = options
        kernel, wanted = _kernel(x, backend), info is not None
        out: Tensor
        out, iters, error, scalings = kernel.forward(x, tau, *numbers, keep=True, info=wanted)
        if info is not None:
            info += [iters, error]
        ctx.options = options
        ctx.tau = None if isinstance(tau, Tensor) else tau
        given = [tau, *scalings] if isinstance(tau, Tensor) else scalings
        ctx.save_for_backward(x, out, iters, *given)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, out, iters, *scalings = ctx.saved_tensors
        tau = scalings.pop(0) if ctx.tau is None else ctx.tau
        *numbers, backend = ctx.options
        grad, dtau = grads[0], None
        if torch.is_grad_enabled() or not is_plain(grad):
            steps = _all_steps(x, numbers[0]) if iters is None else iters
            given = (per_matrix(tau, x), steps, *ctx.options)
            dx = _SinkhornBackward.apply(grad, x, *given)  # type: ignore[no-untyped-call]
        else:
            dx = _kernel(x, backend).backward(grad, x, tau, iters, *numbers, out, scalings)
        if ctx.needs_input_grad[1]:
            dtau = tau_gradient(dx, x, tau)
        return dx, dtau, None, None


class _SinkhornBackward(torch.autograd.Function):
    """The gradient of the iterate with respect to x, with its own gradient."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        grad: Tensor,
        x: Tensor,
        tau: Tensor,
        iters: Tensor,
        n_iters: int,
        tol: float,
        log: bool,
        backend: str,
    ) -> Tensor:
        dx: Tensor = _backward(grad, x, tau, iters, n_iters, tol, log, backend)
        return dx

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        grad, x, tau, iters, ctx.n_iters, _, ctx.log, _ = inputs
        ctx.save_for_backward(grad, x, tau, iters)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad, x, tau, iters = ctx.saved_tensors

        def iterate(x: Tensor, tau: Tensor) -> Tensor:
            return reference.differentiable(x, tau, ctx.n_iters, iters, ctx.log)

        def gradient(grad: Tensor, x: Tensor, tau: Tensor) -> Tensor:
            dx: Tensor = torch.func.vjp(iterate, x, tau)[1](grad)[0]
            return dx

        dgrad, dx, dtau = torch.func.vjp(gradient, grad, x, tau)[1](grads[0])
        return dgrad, dx, dtau, None, None, None, None, None


def sinkhorn(
    x: Tensor,
    tau: float | Tensor,
    n_iters: int,
    tol: float,
    log: bool,
    backend: str,
    info: bool = True,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """S (or log S) of x / tau, and for `info` the iterations done and the row errors, one a matrix.

    x is float32 or float64, (*, n, n); tau a float, or float64 (float32 where the device has no
    float64), (*). Differentiable any number of times with respect to both.
    """
    outputs: tuple[Tensor, Tensor | None, Tensor | None]
    if isinstance(tau, Tensor):
        plain, differentiable = is_plain(x, tau), x.requires_grad or tau.requires_grad
    else:
        plain, differentiable = is_plain(x), x.requires_grad
    if not (plain and x.is_cpu and backend in ("auto", "numba")):
        tau = per_matrix(tau, x)
    if not plain:
        outputs = Sinkhorn.apply(x, tau, n_iters, tol, log, backend)  # type: ignore[no-untyped-call]
    elif differentiable and torch.is_grad_enabled():
        found: list[Tensor] | None = [] if info else None
        out = _Eager.apply(x, tau, (n_iters, tol, log, backend), found)  # type: ignore[no-untyped-call]
        iters, error = found or (None, None)
        outputs = (out, iters, error)
    else:
        outputs = _kernel(x, backend).forward(x, tau, n_iters, tol, log, info=info)[:3]
    return outputs
