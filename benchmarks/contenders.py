"""The ways to compute Sinkhorn that `operators.py` compares, each bound to one input.

All of them do 20 iterations, rows first and columns last, and differentiate through all of them;
the gradient with respect to S is given, so no loss is timed. Arrays are made in a library's own
form before the clock runs, and a call returns when its result is there. Two libraries offer both a
computation in the log domain and one with scalings of exp(X / tau), which is cheaper but gives NaN
at low temperature.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from plain import N_ITERS, plain_loop
from torch import Tensor

import softperm

try:
    import jax
    import jax.numpy as jnp
    import pygmtools
    from ot.batch import bregman_log_projection_batch, bregman_projection_batch
    from ott.geometry.geometry import Geometry
    from ott.problems.linear.linear_problem import LinearProblem
    from ott.solvers.linear.sinkhorn import Sinkhorn
except ModuleNotFoundError as error:
    raise SystemExit(
        f"The benchmarks need {error.name}: pip install --constraint constraints.txt '.[bench]'"
    ) from error


Array = np.ndarray[Any, np.dtype[np.float32]]
TorchFunction = Callable[[Tensor, float], Tensor]


@dataclass(frozen=True)
class Bound:
    """A contender with its input: two calls, and how to read what they return."""

    forward: Callable[[], Any]  # S
    both: Callable[[], Any]  # S and the gradient with respect to X
    to_numpy: Callable[[Any], Array]


@dataclass(frozen=True)
class Contender:
    """A way to compute Sinkhorn; `bind` takes X, weights and tau."""

    name: str
    bind: Callable[[Tensor, Tensor, float], Bound]
    at_low_temperature: bool = True


def bind_torch(function: TorchFunction, x: Tensor, weights: Tensor, tau: float) -> Bound:
    """Forward without, both ways with autograd."""
    x = x.detach().requires_grad_()

    def forward() -> Tensor:
        with torch.no_grad():
            return function(x, tau)

    def both() -> tuple[Tensor, Tensor]:
        result = function(x, tau)
        return result.detach(), torch.autograd.grad(result, x, weights)[0]

    return Bound(forward, both, lambda result: result.numpy())


def jax_contender(
    name: str, function: Callable[[Any, Any], Any], transposed: bool = False, cold: bool = True
) -> Contender:
    """A contender jitted for every shape; `transposed` where `function` does columns first."""

    def both(x: Any, tau: Any, weights: Any) -> tuple[Any, Any]:
        result, pull_back = jax.vjp(lambda x: function(x, tau), x)
        return result, pull_back(weights)[0]

    jit_forward, jit_both = jax.jit(function), jax.jit(both)

    def turned(array: Any) -> Any:
        return array.swapaxes(-1, -2) if transposed else array

    def bind(x: Tensor, weights: Tensor, tau: float) -> Bound:
        xs, ws = (jnp.array(turned(t.numpy())) for t in (x, weights))
        temperature = jnp.float32(tau)
        return Bound(
            lambda: jax.block_until_ready(jit_forward(xs, temperature)),
            lambda: jax.block_until_ready(jit_both(xs, temperature, ws)),
            lambda result: turned(np.asarray(result)),
        )

    return Contender(name, bind, cold)


def jax_loop(x: Any, tau: Any) -> Any:
    """The plain loop in JAX, as a scan: written out, it takes three times as long to run."""

    def step(log_p: Any, _: None) -> tuple[Any, None]:
        log_p = log_p - jax.nn.logsumexp(log_p, axis=-1, keepdims=True)
        return log_p - jax.nn.logsumexp(log_p, axis=-2, keepdims=True), None

    return jnp.exp(jax.lax.scan(step, x / tau, length=N_ITERS)[0])


def ott(x: Any, tau: Any, log: bool) -> Any:
    """OTT without its test of convergence, unrolled; its iteration does the columns first.

    It measures the error once, after the last iteration; that cannot be switched off.
    """
    solver = Sinkhorn(
        lse_mode=log,
        threshold=0.0,
        inner_iterations=N_ITERS,
        min_iterations=N_ITERS,
        max_iterations=N_ITERS,
        implicit_diff=None,
    )

    def solve(matrix: Any) -> Any:
        ones = jnp.ones(len(matrix), matrix.dtype)
        problem = LinearProblem(Geometry(cost_matrix=-matrix, epsilon=tau), a=ones, b=ones)
        return solver(problem).matrix

    return jax.vmap(solve)(x)


def pot(x: Tensor, tau: float, log: bool) -> Tensor:
    """POT's batched projection on tensors; every 10 iterations it measures the error."""
    ones = x.new_ones(x.shape[:-1])
    project = bregman_log_projection_batch if log else bregman_projection_batch
    kernel = x / tau if log else (x / tau).exp()
    result: Tensor = project(kernel, ones, ones, max_iter=N_ITERS, tol=0.0, grad="autodiff")["T"]
    return result


def pygm(x: Tensor, tau: float) -> Tensor:
    """pygmtools on tensors, which counts half iterations; batched, far quicker than its default."""
    result: Tensor = pygmtools.sinkhorn(
        x, max_iter=2 * N_ITERS, tau=tau, batched_operation=True, backend="pytorch"
    )
    return result


def ours(x: Tensor, tau: float) -> Tensor:
    """softperm as its users call it."""
    return softperm.sinkhorn(x, tau, N_ITERS)


OURS = Contender("softperm", partial(bind_torch, ours))
PLAIN = Contender("plain loop", partial(bind_torch, plain_loop))


def all_contenders() -> list[Contender]:
    """Every contender, the reference first."""
    return [
        PLAIN,
        OURS,
        jax_contender("JAX jit", jax_loop),
        jax_contender("OTT, log", partial(ott, log=True), transposed=True),
        jax_contender("OTT, scalings", partial(ott, log=False), transposed=True, cold=False),
        Contender("POT, log", partial(bind_torch, partial(pot, log=True))),
        Contender("POT, scalings", partial(bind_torch, partial(pot, log=False)), False),
        Contender("pygmtools", partial(bind_torch, pygm)),
    ]
