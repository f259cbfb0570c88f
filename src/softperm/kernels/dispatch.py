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
from softperm.kernels import assignment, cpu, reference
from softperm.kernels.reference import Problem, Settings, per_matrix

ThreeTensors = tuple[Tensor, Tensor, Tensor]
HAS_TRITON = find_spec("triton") is not None
NO_GRADIENTS = (None,) * len(Settings._fields)


@cache
def gpu_kernels() -> Any:
    """The module of the Triton kernels, which are not everywhere."""
    from softperm.kernels import gpu

    return gpu


def _kernel(x: Tensor, backend: str) -> Any:
    """The module that computes: `forward` and `backward`."""
    if backend == "auto":
        backend = best(x)
    return {"torch": reference, "cpu": cpu, "triton": None}[backend] or gpu_kernels()


def best(x: Tensor) -> str:
    """The quickest backend for the device of x."""
    if x.is_cpu:
        return "cpu" if cpu.is_available() else "torch"
    if x.is_cuda and HAS_TRITON and gpu_kernels().supports(x.device):
        return "triton"
    return "torch"


def assignment_kernel() -> Any:
    """The module that computes assignments, on the CPU: `match_batch` and `match_list`."""
    return cpu if cpu.is_available() else assignment


def _problem(x: Tensor, tau: Tensor, log_rows: Any, log_columns: Any) -> Problem:
    """The arguments in the dtype that the kernels take; autocast and tracing may change it."""
    dtype = reference.working_dtype(x)
    sums = (None if s is None else s.to(dtype) for s in (log_rows, log_columns))
    return Problem(x, tau.to(dtype), *sums)


@torch.library.custom_op("softperm::sinkhorn", mutates_args=())
def _forward(
    x: Tensor,
    tau: Tensor,
    log_rows: Tensor | None,
    log_columns: Tensor | None,
    n_iters: int,
    tol: float,
    log: bool,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor]:
    how = Settings(n_iters, tol, log, backend)
    given = _problem(x, tau, log_rows, log_columns)
    outputs: ThreeTensors = _kernel(x, backend).forward(given, how)[:3]
    return outputs


@_forward.register_fake
def _(x: Tensor, *_: Any) -> ThreeTensors:
    batch = x.shape[:-2]
    iters = x.new_empty(batch, dtype=torch.int64)
    return x.new_empty(x.shape), iters, x.new_empty(batch)


@torch.library.custom_op("softperm::sinkhorn_backward", mutates_args=())
def _backward(
    grad: Tensor,
    x: Tensor,
    tau: Tensor,
    log_rows: Tensor | None,
    log_columns: Tensor | None,
    iters: Tensor,
    n_iters: int,
    tol: float,
    log: bool,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor]:
    how = Settings(n_iters, tol, log, backend)
    given = _problem(x, tau, log_rows, log_columns)
    dx, *d_sums = _kernel(x, backend).backward(grad.to(x.dtype), given, iters, how)
    lines = (x.shape[:-1], x.shape[:-2] + x.shape[-1:])
    zeros = (x.new_zeros(line, dtype=tau.dtype) for line in lines)
    d_rows, d_columns = (z if d is None else d for d, z in zip(d_sums, zeros, strict=True))
    return dx, d_rows, d_columns


@_backward.register_fake
def _(grad: Tensor, x: Tensor, *_: Any) -> ThreeTensors:
    dtype = reference.working_dtype(x)
    d_rows = x.new_empty(x.shape[:-1], dtype=dtype)
    d_columns = x.new_empty(x.shape[:-2] + x.shape[-1:], dtype=dtype)
    return x.new_empty(x.shape), d_rows, d_columns


def batched(values: tuple[Any, ...], dims: tuple[int | None, ...], size: int) -> list[Any]:
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
    return _forward(*batched(args, in_dims, info.batch_size)), (0, 0, 0)


@_backward.register_vmap
def _(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> tuple[Any, Any]:
    return _backward(*batched(args, in_dims, info.batch_size)), (0, 0, 0)


def tau_gradient(dx: Tensor, x: Tensor, tau: Tensor) -> Tensor:
    """From d/dx to d/dtau: f depends on x / tau alone, so tau df/dtau = - sum x df/dx.

    The first step takes any offset from a row, so df/dx sums to 0 along it but for rounding, which
    an offset would multiply.
    """
    if x.numel():
        offset = x.amax(-1, keepdim=True)
        x = x - offset.masked_fill(offset.isneginf(), 0)
    products: Tensor = dx.to(tau.dtype) * x.masked_fill(x.isneginf(), 0)
    return -products.sum((-2, -1)) / tau


def _all_steps(x: Tensor, n_iters: int) -> Tensor:
    """The iterations done where a kernel has not said how many."""
    return torch.full(x.shape[:-2], n_iters, device=x.device)


def _push(function: Any, values: tuple[Any, ...], tangents: tuple[Any, ...]) -> Any:
    """The forward derivative of a function, None for a tangent of 0.

    By pulling back twice, since forward mode cannot be nested: the pullback is linear in what it
    pulls back, and its own pullback is the forward derivative.
    """
    along = tuple(
        torch.zeros_like(value) if tangent is None else tangent.to(value.dtype)
        for value, tangent in zip(values, tangents, strict=True)
    )
    out, pull = torch.func.vjp(function, *values)  # type: ignore[misc]
    zeros = tuple(map(torch.zeros_like, out)) if isinstance(out, tuple) else torch.zeros_like(out)
    return torch.func.vjp(pull, zeros)[1](along)[0]


def _there(values: tuple[Any, ...], tensors: tuple[Any, ...]) -> tuple[Any, ...]:
    """Those of the values whose tensors are there."""
    return tuple(v for v, tensor in zip(values, tensors, strict=True) if tensor is not None)


def _iterate(given: Problem, iters: Tensor, how: Settings) -> Any:
    """The iterate as a differentiable function of those tensors of a problem that are there."""
    there = [k for k, tensor in enumerate(given) if tensor is not None]

    def iterate(*values: Tensor) -> Tensor:
        tensors: list[Any] = [None] * len(given)
        for k, value in zip(there, values, strict=True):
            tensors[k] = value
        return reference.differentiable(Problem(*tensors), iters, how)

    return iterate


class Sinkhorn(torch.autograd.Function):
    """The iterate, with its gradient with respect to x, tau and the logarithms of the sums, for
    whatever traces or maps it.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        x: Tensor,
        tau: Tensor,
        log_rows: Tensor | None,
        log_columns: Tensor | None,
        n_iters: int,
        tol: float,
        log: bool,
        backend: str,
    ) -> ThreeTensors:
        how = (n_iters, tol, log, backend)
        outputs: ThreeTensors = _forward(x, tau, log_rows, log_columns, *how)
        return outputs

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: ThreeTensors) -> None:
        given, ctx.how = inputs[:4], Settings(*inputs[4:])
        _, iters, error = output
        ctx.mark_non_differentiable(iters, error)
        ctx.save_for_backward(*given, iters)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, tau, log_rows, log_columns, iters = ctx.saved_tensors
        given = (x, tau, log_rows, log_columns)
        dx, d_rows, d_columns = _pull(grads[0], *given, iters, *ctx.how)
        dtau = tau_gradient(dx, x, tau) if ctx.needs_input_grad[1] else None
        d_sums = _or_none(d_rows, log_rows), _or_none(d_columns, log_columns)
        return dx, dtau, *d_sums, *NO_GRADIENTS


class _SinkhornForwards(Sinkhorn):
    """The same with a forward derivative, which `torch.compile` cannot trace."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: ThreeTensors) -> None:
        Sinkhorn.setup_context(ctx, inputs, output)
        ctx.save_for_forward(*inputs[:4], output[1])

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> tuple[Tensor | None, ...]:
        *given, iters = ctx.saved_tensors
        iterate = _iterate(Problem(*given), iters, ctx.how)
        along = _there(tangents[: len(given)], tuple(given))
        return _push(iterate, _there(tuple(given), tuple(given)), along), None, None


def _or_none(gradient: Tensor, argument: Tensor | None) -> Tensor | None:
    """The gradient of an argument that was given."""
    return None if argument is None else gradient


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
        log_rows: Tensor | None,
        log_columns: Tensor | None,
        how: Settings,
        info: list[Tensor] | None,
    ) -> Tensor:
        given = Problem(x, tau, log_rows, log_columns)  # type: ignore[arg-type]
        kernel, wanted = _kernel(x, how.backend), info is not None
        out: Tensor
        out, iters, error, scalings = kernel.forward(given, how, keep=True, info=wanted)
        if info is not None:
            info += [iters, error]
        ctx.how = how
        ctx.tau = None if isinstance(tau, Tensor) else tau
        ctx.save_for_backward(
            x, None if ctx.tau else tau, log_rows, log_columns, out, iters, *scalings
        )
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, tau, log_rows, log_columns, out, iters, *scalings = ctx.saved_tensors
        tau = ctx.tau if tau is None else tau
        grad, dtau, how = grads[0], None, ctx.how
        if torch.is_grad_enabled() or not is_plain(grad):
            steps = _all_steps(x, how.n_iters) if iters is None else iters
            given = (per_matrix(tau, x), log_rows, log_columns, steps, *how)
            dx, d_rows, d_columns = _pull(grad, x, *given)
        else:
            problem = Problem(x, tau, log_rows, log_columns)
            kernel = _kernel(x, how.backend)
            dx, d_rows, d_columns = kernel.backward(grad, problem, iters, how, out, scalings)
        if ctx.needs_input_grad[1]:
            dtau = tau_gradient(dx, x, tau)
        return dx, dtau, _or_none(d_rows, log_rows), _or_none(d_columns, log_columns), None, None


class _SinkhornBackward(torch.autograd.Function):
    """The gradient of the iterate with respect to x and the sums, with its own derivatives."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        grad: Tensor,
        x: Tensor,
        tau: Tensor,
        log_rows: Tensor | None,
        log_columns: Tensor | None,
        iters: Tensor,
        n_iters: int,
        tol: float,
        log: bool,
        backend: str,
    ) -> ThreeTensors:
        how = (n_iters, tol, log, backend)
        gradients: ThreeTensors = _backward(grad, x, tau, log_rows, log_columns, iters, *how)
        return gradients

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: ThreeTensors) -> None:
        given, ctx.how = inputs[:6], Settings(*inputs[6:])
        ctx.save_for_backward(*given)

    @staticmethod
    def _as_a_function(ctx: Any) -> Any:
        """The gradients as a differentiable function of the arguments that are there."""
        _, *given, iters = ctx.saved_tensors
        iterate = _iterate(Problem(*given), iters, ctx.how)

        def gradients(grad: Tensor, x: Tensor, tau: Tensor, *sums: Tensor) -> tuple[Tensor, ...]:
            dx, _, *d_sums = torch.func.vjp(iterate, x, tau, *sums)[1](grad)
            return dx, *d_sums

        return gradients

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        *tensors, _ = ctx.saved_tensors
        given = _there(tuple(tensors), tuple(tensors))
        wanted = grads[:1] + _there(grads[1:], tuple(tensors[3:]))
        found = iter(torch.func.vjp(_SinkhornBackward._as_a_function(ctx), *given)[1](wanted))
        gradients = (None if tensor is None else next(found) for tensor in tensors)
        return *gradients, None, *NO_GRADIENTS


class _BackwardForwards(_SinkhornBackward):
    """The same with a forward derivative, which `torch.compile` cannot trace."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: ThreeTensors) -> None:
        _SinkhornBackward.setup_context(ctx, inputs, output)
        ctx.save_for_forward(*inputs[:6])

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> tuple[Tensor, ...]:
        *tensors, _ = ctx.saved_tensors
        given = _there(tuple(tensors), tuple(tensors))
        along = _there(tangents[: len(tensors)], tuple(tensors))
        dx, *d_sums = _push(_SinkhornBackward._as_a_function(ctx), given, along)
        x, dtype = tensors[1], reference.working_dtype(tensors[1])
        shapes = (x.shape[:-1], x.shape[:-2] + x.shape[-1:])
        zeros = (x.new_zeros(shape, dtype=dtype) for shape in shapes)
        found = iter(d_sums)
        sums = zip(tensors[3:], zeros, strict=True)
        return dx, *(zero if tensor is None else next(found) for tensor, zero in sums)


def _pull(*arguments: Any) -> ThreeTensors:
    """`_SinkhornBackward`, with as many derivatives as can be had here."""
    compiling = torch.compiler.is_compiling()
    function = _SinkhornBackward if compiling else _BackwardForwards
    gradients: ThreeTensors = function.apply(*arguments)  # type: ignore[no-untyped-call]
    return gradients


def sinkhorn(
    given: Problem, how: Settings, info: bool = True
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """S (or log S) of x / tau, and for `info` the iterations done and the row errors, one per
    matrix.

    x is float32 or float64, (*, m, n); tau a float, or float64 (float32 where the device has no
    float64), (*). Differentiable any number of times with respect to all tensors.
    """
    x, tau, *sums = given
    tensors = [tensor for tensor in given if isinstance(tensor, Tensor)]
    plain = is_plain(*tensors)
    kernel: Any = _kernel(x, how.backend) if plain else None  # tracing does not follow the choice
    if not (plain and kernel is cpu):  # which takes one temperature for all as a number
        tau = per_matrix(tau, x)
    outputs: tuple[Tensor, Tensor | None, Tensor | None]
    if not plain:
        function = Sinkhorn if torch.compiler.is_compiling() else _SinkhornForwards
        outputs = function.apply(x, tau, *sums, *how)  # type: ignore[no-untyped-call]
    elif torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        found: list[Tensor] | None = [] if info else None
        out = _Eager.apply(x, tau, *sums, how, found)  # type: ignore[no-untyped-call]
        iters, error = found or (None, None)
        outputs = (out, iters, error)
    else:
        outputs = kernel.forward(Problem(x, tau, *sums), how, info=info)[:3]
    return outputs
