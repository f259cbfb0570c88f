"""Derivatives, transforms and tracing of the Sinkhorn operator on matrices of any shape."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from softperm import log_sinkhorn, sinkhorn
from softperm.kernels import reference
from tests import references, references_shapes
from tests.conftest import BACKENDS
from tests.ops.shape_cases import GIVEN, case, leaves, weighted
from tests.ops.test_sinkhorn import saved_elements

pytestmark = [  # PyTorch's own tracing does what PyTorch warns of
    pytest.mark.usefixtures("backend"),
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated:DeprecationWarning"),
]
OPERATORS = [sinkhorn, log_sinkhorn]
FREE = ["wide", "tall", "slack", "ragged", "ragged slack"]


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def finite(operator: Any, *args: Any, **given: Any) -> Tensor:
    out: Tensor = operator(*args, **given)
    return out.masked_fill(out.isneginf(), 0)


def counted(name: str) -> tuple[Tensor, dict[str, Any]]:
    """A case whose scores are all finite, for finite differences."""
    x, given = case(name)
    return x.nan_to_num(nan=0.3), given


@pytest.mark.parametrize("name", FREE)
@pytest.mark.parametrize("operator", OPERATORS)
class TestFiniteDifferences:
    def test_first(self, name: str, operator: Any) -> None:
        x, given, wanting = leaves(*counted(name))
        tau = torch.linspace(0.7, 1.5, len(x), dtype=torch.float64, requires_grad=True)
        slack = [leaf for leaf in wanting if leaf is not x]

        def function(x: Tensor, tau: Tensor, *slack: Tensor) -> Tensor:
            return finite(operator, x, tau, 3, **(given | ({"slack": slack[0]} if slack else {})))

        assert torch.autograd.gradcheck(function, (x, tau, *slack), fast_mode=True)
        assert torch.autograd.gradgradcheck(function, (x, tau, *slack), atol=1e-4, fast_mode=True)

    def test_of_the_limit(self, name: str, operator: Any) -> None:
        x, given, wanting = leaves(*counted(name))
        slack = [leaf for leaf in wanting if leaf is not x]

        def function(x: Tensor, *slack: Tensor) -> Tensor:
            more = given | ({"slack": slack[0]} if slack else {})
            return finite(operator, x, 1.2, 2000, tol=1e-12, grad="implicit", **more)

        assert torch.autograd.gradcheck(function, (x, *slack), fast_mode=True)


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("grad", ["unrolled", "implicit"])
def test_sums_by_finite_differences(operator: Any, grad: str) -> None:
    x = references.matrices((2, 3, 4)).requires_grad_()
    r, c = (references.matrices((2, k), seed=k).requires_grad_() for k in (3, 4))

    def function(x: Tensor, r: Tensor, c: Tensor) -> Tensor:
        sums = {"row_sums": 2 * r.softmax(-1), "col_sums": 2 * c.softmax(-1)}
        how: dict[str, Any] = {"tol": 1e-12, "grad": grad} if grad == "implicit" else {}
        out: Tensor = operator(x, 1.1, 2000 if how else 4, **sums, **how)
        return out

    assert torch.autograd.gradcheck(function, (x, r, c), fast_mode=True)
    if grad == "unrolled":
        assert torch.autograd.gradgradcheck(function, (x, r, c), atol=1e-4, fast_mode=True)


@pytest.mark.parametrize("name", GIVEN)
@pytest.mark.parametrize("operator", OPERATORS)
def test_the_gradient_of_the_limit_is_that_of_many_steps(name: str, operator: Any) -> None:
    x, given, wanting = leaves(*case(name))
    # Alone, a sum of rows has no gradient in the limit: it would change the total.
    found = weighted(operator(x, 1.3, 2000, tol=1e-12, grad="implicit", **given))
    many = weighted(operator(x, 1.3, 120, **given))
    for leaf in wanting:
        if leaf is x or leaf.dim() == 1:
            grads = [torch.autograd.grad(y, leaf, retain_graph=True)[0] for y in (found, many)]
            torch.testing.assert_close(grads[0], grads[1], atol=1e-9, rtol=1e-7)


@pytest.mark.parametrize("name", GIVEN)
def test_forward_mode(name: str) -> None:
    x, given = counted(name)
    along, step = references.matrices(tuple(x.shape), seed=1), 1e-6
    function = partial(sinkhorn, tau=0.8, n_iters=4, **given)
    value, tangent = torch.func.jvp(function, (x,), (along,))  # type: ignore[misc]
    torch.testing.assert_close(value, function(x))
    slope = (function(x + step * along) - function(x - step * along)) / (2 * step)
    torch.testing.assert_close(tangent, slope, atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize("name", GIVEN)
@pytest.mark.parametrize("tol", [None, 1e-2])
def test_vmap(name: str, tol: float | None) -> None:
    x, given = case(name)
    mapped = {k: v for k, v in given.items() if isinstance(v, Tensor)}
    fixed = {k: v for k, v in given.items() if k not in mapped}

    def function(x: Tensor, mapped: dict[str, Any]) -> Tensor:
        out: Tensor = sinkhorn(x, 0.7, 8, tol=tol, **mapped, **fixed)
        return out

    found = torch.func.vmap(function)(x, mapped)
    torch.testing.assert_close(found, sinkhorn(x, 0.7, 8, tol=tol, **given))


@pytest.mark.parametrize("name", GIVEN)
@pytest.mark.usefixtures("fresh_compiler")
def test_compiled(name: str) -> None:
    x, given, wanting = leaves(*case(name))
    function = partial(log_sinkhorn, tau=0.7, n_iters=6)
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    found, wanted = (f(x, **given) for f in (compiled, function))
    torch.testing.assert_close(found, wanted)
    grads = [torch.autograd.grad(weighted(out), wanting) for out in (found, wanted)]
    torch.testing.assert_close(grads[0], grads[1])


@pytest.mark.usefixtures("fresh_compiler")
def test_compiled_with_changing_shapes() -> None:
    function = torch.compile(sinkhorn, fullgraph=True, backend="aot_eager", dynamic=True)
    for m, n in ((3, 4), (2, 6), (5, 3), (7, 2), (3, 3)):
        x = references.matrices((2, m, n))
        torch.testing.assert_close(function(x), sinkhorn(x))
        torch.testing.assert_close(function(x, slack=0.3), sinkhorn(x, slack=0.3))


@pytest.mark.parametrize("name", ["wide", "tall", "sums", "slack", "ragged"])
def test_exported(name: str) -> None:
    class Net(torch.nn.Module):
        def forward(self, x: Tensor, given: dict[str, Any]) -> Tensor:
            out: Tensor = sinkhorn(x, 0.5, **given)
            return out

    inputs = case(name)
    program = torch.export.export(Net(), inputs)
    torch.testing.assert_close(program.module()(*inputs), sinkhorn(inputs[0], 0.5, **inputs[1]))


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("backend", BACKENDS)
def test_opcheck(log: bool, backend: str) -> None:
    x = references.matrices((2, 3, 4))
    tau = torch.full((2,), 0.5, dtype=torch.float64)
    sums = torch.zeros(2, 3).double(), torch.full((4,), 0.75).double().log().expand(2, 4)
    how = reference.Settings(4, 0.0, log, backend)
    torch.library.opcheck(torch.ops.softperm.sinkhorn.default, (x, tau, *sums, *how))
    iters = torch.full((2,), 4)
    reverse = (torch.ones_like(x), x, tau, *sums, iters, *how)
    torch.library.opcheck(torch.ops.softperm.sinkhorn_backward.default, reverse)


@pytest.mark.parametrize("given", [{}, {"slack": 0.5}, {"row_sums": 1.0}, {"n_rows": 11}])
def test_memory(given: dict[str, Any]) -> None:
    m, n, short, long = 12, 30, 5, 60
    x = references.matrices((16, m, n)).requires_grad_()  # a whole block of matrices
    kept = [saved_elements(partial(sinkhorn, n_iters=k, **given), x) for k in (short, long)]
    padded = 16 * (m + n + 2 * 16)
    assert 0 < kept[1] - kept[0] <= padded * (long - short)
    loop = saved_elements(lambda x: references_shapes.log_any_shape(x, 1.0, long, **given), x)
    assert kept[1] < loop / 5
