"""The operators under torch.compile, torch.export, torch.func and torch.library's own checks."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from softperm import (
    apply_permutation,
    gumbel_matching,
    gumbel_sinkhorn,
    log_sinkhorn,
    matching,
    permutation_matrix,
    sinkhorn,
    straight_through,
)
from softperm.kernels import reference
from softperm.metrics import kendall_tau
from tests import references
from tests.conftest import BACKENDS

pytestmark = [  # PyTorch's own tracing does what PyTorch warns of
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated:DeprecationWarning"),
]

TAU = torch.tensor([0.5, 2.0])
FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "sinkhorn": lambda x: sinkhorn(x, 0.5),
    "tol": lambda x: sinkhorn(x, 0.5, 50, tol=1e-3),
    "tensor tau": lambda x: log_sinkhorn(x, TAU, 5),
    "matching": matching,
    "straight through": lambda x: straight_through(sinkhorn(x, 0.5)),
    "no noise": lambda x: gumbel_sinkhorn(x, noise_scale=0.0, sample_shape=3),
    "apply": lambda x: apply_permutation(sinkhorn(x), x) + apply_permutation(matching(x), x),
    "metric": lambda x: kendall_tau(matching(x), matching(-x)),
    "matrix": lambda x: permutation_matrix(matching(x)) * x,
}


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


class Wrapper(Tensor):
    """A tensor without memory of its own."""

    wrapped: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> Wrapper:
        made: Wrapper = Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)
        made.wrapped = inner
        return made

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Iterable[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        def unwrap(x: Any) -> Any:
            return x.wrapped if isinstance(x, Wrapper) else x

        return func(*tree_map(unwrap, args), **tree_map(unwrap, kwargs or {}))


def scores(*shape: int) -> Tensor:
    return references.matrices(shape).float()


def compiled(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    return torch.compile(function, fullgraph=True, backend="aot_eager", **options)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_compiled_equals_eager(name: str) -> None:
    function = FUNCTIONS[name]
    x = scores(2, 4, 4).requires_grad_()
    found, wanted = compiled(function)(x), function(x)
    torch.testing.assert_close(found, wanted)
    assert found.requires_grad == wanted.requires_grad
    if found.requires_grad:
        grads = [torch.autograd.grad(y.square().sum(), x)[0] for y in (found, wanted)]
        torch.testing.assert_close(grads[0], grads[1])


def test_compiled_with_changing_shapes() -> None:
    function = compiled(lambda x: sinkhorn(x, 0.5), dynamic=True)
    for n in (3, 4, 6):
        x = scores(n, n, n)
        torch.testing.assert_close(function(x), sinkhorn(x, 0.5))


def test_compiled_samples() -> None:
    x = scores(2, 4, 4)
    P = compiled(lambda x: gumbel_sinkhorn(x, sample_shape=5))(x)
    assert P.shape == (5, 2, 4, 4)
    torch.testing.assert_close(P.sum(-2), torch.ones(5, 2, 4))
    perm = compiled(lambda x: gumbel_matching(x, sample_shape=5))(x)
    assert torch.equal(perm.sort(-1).values, torch.arange(4).expand(5, 2, 4))


def test_compiled_transposed_input() -> None:
    x = scores(2, 4, 4).mT
    torch.testing.assert_close(compiled(lambda x: sinkhorn(x, 0.5) @ x)(x), sinkhorn(x, 0.5) @ x)


def test_compiled_code_still_checks_shapes() -> None:
    with pytest.raises(Exception, match="log_alpha must have shape"):
        compiled(sinkhorn)(torch.zeros(3))


def test_exported() -> None:
    class Net(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return sinkhorn(x, 0.5)

    x = scores(2, 4, 4)
    program = torch.export.export(Net(), (x,))
    torch.testing.assert_close(program.module()(x), sinkhorn(x, 0.5))


LAYOUTS: dict[str, Callable[[], Tensor]] = {
    "contiguous": lambda: scores(3, 4, 4),
    "transposed": lambda: scores(3, 4, 4).mT,
    "expanded": lambda: scores(4, 4).expand(3, 4, 4),
    "float64": lambda: scores(4, 4).double(),
    "empty batch": lambda: scores(0, 3, 3),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("backend", BACKENDS)
def test_opcheck_sinkhorn(layout: str, log: bool, backend: str) -> None:
    x = LAYOUTS[layout]()
    tau = torch.full(x.shape[:-2], 0.5, dtype=torch.float64)
    for tol in (0.0, 1e-2):
        how = reference.Settings(4, tol, log, backend)
        arguments = (x, tau, None, None, *how)
        torch.library.opcheck(torch.ops.softperm.sinkhorn.default, arguments)
        iters = reference.forward(reference.Problem(x, tau), how)[1]
        reverse = (torch.ones_like(x), x, tau, None, None, iters, *how)
        torch.library.opcheck(torch.ops.softperm.sinkhorn_backward.default, reverse)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_opcheck_matching(layout: str) -> None:
    arguments = (LAYOUTS[layout](), None, None, None)
    torch.library.opcheck(torch.ops.softperm.matching.default, arguments)


class TestFunc:
    @pytest.mark.parametrize("operator", [sinkhorn, log_sinkhorn])
    @pytest.mark.parametrize("in_dim", [0, 1, 2, -1])
    @pytest.mark.parametrize("tol", [None, 1e-2])
    def test_vmap(self, operator: Any, in_dim: int, tol: float | None) -> None:
        x = references.matrices((5, 3, 3)).movedim(0, in_dim)
        found = torch.func.vmap(lambda m: operator(m, 0.5, tol=tol), in_dims=in_dim)(x)
        wanted = torch.stack([operator(m, 0.5, tol=tol) for m in x.movedim(in_dim, 0)])
        torch.testing.assert_close(found, wanted)

    def test_vmap_over_batches_and_tau(self) -> None:
        x, tau = references.matrices((2, 4, 3, 3)), torch.tensor([0.5, 2.0], dtype=torch.float64)
        found = torch.func.vmap(sinkhorn)(x, tau)
        torch.testing.assert_close(found, sinkhorn(x, tau[:, None]))
        inner = torch.func.vmap(torch.func.vmap(sinkhorn, in_dims=(0, None)))(x, tau)
        torch.testing.assert_close(inner, found)

    @pytest.mark.parametrize("function", [matching, gumbel_matching, straight_through])
    def test_vmap_of_hard_functions(self, function: Any) -> None:
        x = references.matrices((3, 3, 5)).abs() * 100
        found = torch.func.vmap(function, in_dims=2, randomness="different")(x)
        plain = [function(m) for m in x.movedim(2, 0)]
        assert found.shape == torch.stack(plain).shape
        if function is not gumbel_matching:
            assert torch.equal(found, torch.stack(plain))

    @pytest.mark.parametrize("operator", [sinkhorn, log_sinkhorn])
    def test_grad(self, operator: Any) -> None:
        def loss(x: Tensor, tau: Tensor, function: Any = operator) -> Tensor:
            out: Tensor = function(x, tau, 4)
            return out.square().sum()

        reference = {
            sinkhorn: references.sinkhorn_loop,
            log_sinkhorn: references.log_sinkhorn_loop,
        }[operator]
        x, tau = references.matrices((3, 3)), torch.tensor(0.7, dtype=torch.float64)
        found = torch.func.grad(loss, argnums=(0, 1))(x, tau)
        leaves = x.clone().requires_grad_(), tau.clone().requires_grad_()
        wanted = torch.autograd.grad(loss(*leaves, reference), leaves)
        torch.testing.assert_close(found, wanted)

    def test_per_sample_gradients(self) -> None:
        def loss(x: Tensor) -> Tensor:
            return sinkhorn(x, 0.5).square().sum()

        x = references.matrices((5, 3, 3))
        found = torch.func.vmap(torch.func.grad(loss))(x)
        torch.testing.assert_close(found, torch.stack([torch.func.grad(loss)(m) for m in x]))

    @pytest.mark.parametrize("order", [1, 2])
    @pytest.mark.parametrize("tol", [None, 1e-1])
    def test_jacobians(self, order: int, tol: float | None) -> None:
        x = references.matrices((3, 3))
        steps = int(sinkhorn(x, n_iters=6, tol=tol, return_info=True)[1].n_iters)
        found: Any = lambda x: sinkhorn(x, n_iters=6, tol=tol)  # noqa: E731
        wanted: Any = lambda x: references.sinkhorn_loop(x, 1.0, steps)  # noqa: E731
        for _ in range(order):
            found, wanted = torch.func.jacrev(found), torch.func.jacrev(wanted)
        torch.testing.assert_close(found(x), wanted(x))

    @pytest.mark.parametrize("operator", [sinkhorn, log_sinkhorn])
    @pytest.mark.parametrize("tol", [None, 1e-2])
    def test_forward_mode(self, operator: Any, tol: float | None) -> None:
        def function(x: Tensor, tau: Tensor) -> Tensor:
            out: Tensor = operator(x, tau, 6, tol=tol)
            return out

        x, tau = references.matrices((3, 4, 4)), torch.tensor([0.5, 1.0, 2.0]).double()
        along = references.matrices((3, 4, 4), seed=1), torch.tensor([1.0, 0.3, -2.0]).double()
        step = 1e-6
        ahead = function(x + step * along[0], tau + step * along[1])
        behind = function(x - step * along[0], tau - step * along[1])
        found, tangent = torch.func.jvp(function, (x, tau), along)  # type: ignore[misc]
        torch.testing.assert_close(found, function(x, tau))
        torch.testing.assert_close(tangent, (ahead - behind) / (2 * step), atol=1e-7, rtol=1e-6)

    @pytest.mark.filterwarnings(
        "ignore:Attempted to insert a get_attr Node:UserWarning"
    )  # PyTorch's
    def test_second_derivatives_any_way(self) -> None:
        weights = references.matrices((3, 3), seed=1)

        def loss(x: Tensor) -> Tensor:
            return (sinkhorn(x, 0.5, 5).square() * weights).sum()

        x = references.matrices((3, 3))
        wanted = torch.autograd.functional.hessian(loss, x)
        torch.testing.assert_close(torch.func.hessian(loss)(x), wanted)
        torch.testing.assert_close(torch.func.jacrev(torch.func.jacrev(loss))(x), wanted)
        value, linear = torch.func.linearize(loss, x)
        torch.testing.assert_close(value, loss(x))
        torch.testing.assert_close(linear(x), (torch.func.grad(loss)(x) * x).sum())

    def test_straight_through_gradient(self) -> None:
        weights = references.matrices((3, 3))
        soft = sinkhorn(references.matrices((5, 3, 3)))
        grad = torch.func.grad(lambda s: (straight_through(s) * weights).sum())
        assert torch.equal(torch.func.vmap(grad)(soft), weights.expand(5, 3, 3))

    def test_straight_through_forward_mode(self) -> None:
        """It is rounded after the Sinkhorn operator, and moves as that does."""
        x, along = references.matrices((4, 3, 3)), references.matrices((4, 3, 3), seed=1)

        def rounded(x: Tensor) -> Tensor:
            return straight_through(sinkhorn(x))

        def drawn(x: Tensor, hard: bool) -> Tensor:
            generator = torch.Generator().manual_seed(0)
            return gumbel_sinkhorn(x, hard=hard, generator=generator)

        def moves(function: Any, x: Tensor) -> Any:
            return torch.func.jvp(function, (x,), (along,))

        for hard, soft in (
            (rounded, sinkhorn),
            (partial(drawn, hard=True), partial(drawn, hard=False)),
        ):
            value, tangent = moves(hard, x)
            assert torch.equal(value, hard(x))
            assert set(value.unique().tolist()) == {0.0, 1.0}
            assert torch.equal(tangent, moves(soft, x)[1])


class TestWaysAroundTheEagerPath:
    """What looks like an ordinary tensor and is not one must not reach a kernel as if it were."""

    X = references.matrices((2, 3, 3))

    @pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
    @pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
    def test_jit_trace(self) -> None:
        traced = torch.jit.trace(lambda x: sinkhorn(x) * 1.0, self.X)
        torch.testing.assert_close(traced(-self.X), sinkhorn(-self.X))

    def test_make_fx(self) -> None:
        graph = torch.fx.experimental.proxy_tensor.make_fx(lambda x: sinkhorn(x))(self.X)
        torch.testing.assert_close(graph(-self.X), sinkhorn(-self.X))

    def test_dual_numbers(self) -> None:
        forward_ad, along = torch.autograd.forward_ad, torch.ones_like(self.X)
        along[..., 0] = 2
        with forward_ad.dual_level():
            tangent = forward_ad.unpack_dual(sinkhorn(forward_ad.make_dual(self.X, along))).tangent
        torch.testing.assert_close(tangent, torch.func.jvp(sinkhorn, (self.X,), (along,))[1])

    def test_batched_gradients(self) -> None:
        x = self.X.clone().requires_grad_()
        grads = references.matrices((4, 2, 3, 3), seed=1)
        (found,) = torch.autograd.grad(
            sinkhorn(x), x, grads, is_grads_batched=True, retain_graph=True
        )
        wanted = [torch.autograd.grad(sinkhorn(x), x, g)[0] for g in grads]
        torch.testing.assert_close(found, torch.stack(wanted))

    def test_vectorised_jacobian(self) -> None:
        found = torch.autograd.functional.jacobian(sinkhorn, self.X[0], vectorize=True)
        torch.testing.assert_close(found, torch.func.jacrev(sinkhorn)(self.X[0]))

    def test_a_parameter_from_outside_a_map(self) -> None:
        x = self.X[0].clone().requires_grad_()
        weights = references.matrices((4, 3, 3), seed=1)
        found = torch.func.vmap(lambda w: (sinkhorn(x) * w).sum())(weights)
        torch.testing.assert_close(found, (sinkhorn(x) * weights).sum((-2, -1)))

    def test_a_map_over_temperatures(self) -> None:
        taus = torch.tensor([0.3, 1.0, 3.0], dtype=torch.float64)
        found = torch.func.vmap(lambda tau: sinkhorn(self.X, tau))(taus)
        torch.testing.assert_close(found, torch.stack([sinkhorn(self.X, float(t)) for t in taus]))

    def test_lazily_negated(self) -> None:
        x = torch.complex(self.X, self.X).conj().imag
        assert x.is_neg()
        torch.testing.assert_close(sinkhorn(x), sinkhorn(-self.X))
        assert torch.equal(matching(x), matching(-self.X))

    def test_a_class_that_wraps_tensors(self) -> None:
        wrapped = Wrapper(self.X)
        torch.testing.assert_close(sinkhorn(wrapped), sinkhorn(self.X))
        assert torch.equal(matching(wrapped), matching(self.X))

    def test_first_used_in_inference_mode(self) -> None:
        script = (
            "import torch, softperm\n"
            "x = torch.randn(3, 4, 4)\n"
            "with torch.inference_mode():\n"
            "    softperm.matching(softperm.sinkhorn(x))\n"
            "softperm.sinkhorn(x.requires_grad_()).sum().backward()\n"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    def test_another_default_device(self) -> None:
        with torch.device("meta"):
            S, perm = sinkhorn(self.X), matching(self.X)
        torch.testing.assert_close(S, sinkhorn(self.X))
        assert torch.equal(perm, matching(self.X))
