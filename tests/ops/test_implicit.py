"""The gradient of the limit of the Sinkhorn iteration."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from softperm import gumbel_sinkhorn, log_sinkhorn, sinkhorn
from softperm.kernels import cpu
from tests import references
from tests.ops.test_sinkhorn import saved_elements

pytestmark = [  # PyTorch's own tracing does what PyTorch warns of
    pytest.mark.usefixtures("backend"),
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated:DeprecationWarning"),
]

OPERATORS = [sinkhorn, log_sinkhorn]
LOOPS = {sinkhorn: references.sinkhorn_loop, log_sinkhorn: references.log_sinkhorn_loop}
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def limit(operator: Any, x: Tensor, tau: Any = 1.0, tol: float = 1e-12) -> Tensor:
    """The limit, differentiated as such."""
    out: Tensor = operator(x, tau, 100_000, tol=tol, grad="implicit")
    return out


def gradient(out: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    """The gradient of a weighted sum of what is finite."""
    weights = references.matrices(tuple(out.shape), seed=9).to(out.dtype)
    return torch.autograd.grad((out.masked_fill(out.isneginf(), 0) * weights).sum(), inputs)


def many_steps(operator: Any, x: Tensor, tau: Any, n_iters: int = 1000) -> Tensor:
    """So many steps of the plain loop that more change nothing."""
    out: Tensor = LOOPS[operator](x, tau, n_iters)
    S = out if operator is sinkhorn else out.exp()
    assert float((S.detach().sum(-1) - 1).abs().max()) < 1e-12
    return out


class TestAgainstTheLoop:
    @pytest.mark.parametrize("operator", OPERATORS)
    @pytest.mark.parametrize("n", [1, 2, 3, 6, 9])
    @pytest.mark.parametrize("tau", [0.4, 1, 3.0])
    @pytest.mark.parametrize("batch", [(), (3,), (2, 2)])
    def test_many_steps(self, operator: Any, n: int, tau: float, batch: tuple[int, ...]) -> None:
        x = references.matrices((*batch, n, n), seed=n).requires_grad_()
        found = gradient(limit(operator, x, tau), x)
        wanted = gradient(many_steps(operator, x, tau), x)
        torch.testing.assert_close(found, wanted, atol=1e-9, rtol=1e-7)

    @pytest.mark.parametrize("operator", OPERATORS)
    def test_few_steps_have_another_gradient(self, operator: Any) -> None:
        x = references.matrices((4, 4)).requires_grad_()
        (few,) = gradient(operator(x, n_iters=2), x)
        (implicit,) = gradient(operator(x, n_iters=2, tol=1.0, grad="implicit"), x)
        (end,) = gradient(many_steps(operator, x, 1.0), x)
        assert float((few - end).abs().max()) > 1e-2
        # It belongs to the matrix at hand, which is not the limit yet, but keeps its symmetry:
        # constants of columns do not matter.
        assert float(implicit.sum(-2).abs().max()) < 1e-12 < 1e-3 < float(few.sum(-2).abs().max())

    @pytest.mark.parametrize("operator", OPERATORS)
    def test_temperatures(self, operator: Any) -> None:
        x = references.matrices((2, 3, 4, 4)).requires_grad_()
        tau = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64, requires_grad=True)
        found = gradient(limit(operator, x, tau), x, tau)
        wanted = gradient(many_steps(operator, x, tau), x, tau)
        assert found[1].shape == (3,)
        torch.testing.assert_close(found, wanted, atol=1e-9, rtol=1e-7)

    @pytest.mark.parametrize("operator", OPERATORS)
    @pytest.mark.parametrize("tau_dtype", DTYPES)
    def test_one_temperature_for_all(self, operator: Any, tau_dtype: torch.dtype) -> None:
        x, tau = references.matrices((3, 4, 4)), torch.tensor(0.75, dtype=tau_dtype)
        (found,) = gradient(limit(operator, x, tau.requires_grad_()), tau)
        (wanted,) = gradient(many_steps(operator, x, tau), tau)
        assert found.dtype == tau_dtype
        torch.testing.assert_close(found, wanted)

    @pytest.mark.parametrize("tau", [0.07, 0.05])
    def test_low_temperature(self, tau: float, backend: str) -> None:
        if backend == "torch" and cpu.is_available():
            pytest.skip("the plain loop takes a minute for these steps, and is the same")
        # The reverse iteration takes as long to converge as the iteration itself; what is left of
        # either after 100,000 steps is far below 1e-9.
        x = references.matrices((60, 4, 4))
        _, info = sinkhorn(x, tau, 50_000, tol=1e-12, return_info=True)
        x = x[info.converged].requires_grad_()
        assert len(x) >= 10
        S = limit(sinkhorn, x, tau)
        assert float(S.detach().amax(-1).median()) > 0.95
        (found,) = gradient(S, x)
        (wanted,) = gradient(sinkhorn(x, tau, 100_000), x)
        torch.testing.assert_close(found, wanted, atol=1e-9 / tau, rtol=1e-7)


class TestFormulas:
    @given(arrays(np.float64, (2, 2), elements=st.floats(-20, 20)), st.floats(0.2, 5))
    def test_two_items(self, x: Any, tau: float) -> None:
        # The limit is [[s, 1-s], [1-s, s]] with logit s = (x_00 + x_11 - x_01 - x_10) / (2 tau).
        # Columns as equal as rows: the iteration is done in one step, whatever the temperature.
        x = torch.from_numpy(x)
        x = ((x + x.flip(0, 1)) / 2).requires_grad_()
        t = torch.tensor(tau, dtype=torch.float64, requires_grad=True)
        sign = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=torch.float64)
        closed: dict[Any, Callable[[Tensor], Tensor]] = {
            sinkhorn: torch.sigmoid,
            log_sinkhorn: torch.nn.functional.logsigmoid,
        }
        for operator in OPERATORS:
            found = gradient(limit(operator, x, t), x, t)
            wanted = gradient(closed[operator](sign * (x * sign).sum() / (2 * t)), x, t)
            torch.testing.assert_close(found, wanted, atol=1e-13 * (1 + 1 / tau**2), rtol=1e-9)

    @pytest.mark.parametrize("operator", OPERATORS)
    @pytest.mark.parametrize("n", [2, 3, 5])
    def test_finite_differences(self, operator: Any, n: int) -> None:
        x = references.matrices((2, n, n), seed=n).requires_grad_()
        tau = torch.tensor([0.6, 1.5], dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda x, t: limit(operator, x, t, 1e-13), (x, tau))

    @pytest.mark.parametrize("operator", OPERATORS)
    def test_second_derivatives(self, operator: Any) -> None:
        x = references.matrices((2, 3, 3)).requires_grad_()
        tau = torch.tensor(0.8, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradgradcheck(lambda x, t: limit(operator, x, t, 1e-13), (x, tau))

    @pytest.mark.parametrize("operator", OPERATORS)
    def test_constants_of_rows_and_columns_do_not_matter(self, operator: Any) -> None:
        x = references.matrices((5, 7, 7)).requires_grad_()
        (grad,) = gradient(limit(operator, x, 0.5), x)
        assert float(grad.abs().max()) > 0.1
        zero = torch.zeros(5, 7, dtype=torch.float64)
        torch.testing.assert_close(grad.sum(-1), zero, atol=1e-13, rtol=0)
        torch.testing.assert_close(grad.sum(-2), zero, atol=1e-13, rtol=0)


class TestSurroundings:
    @pytest.mark.parametrize("operator", OPERATORS)
    def test_the_value_is_the_same(self, operator: Any) -> None:
        x = references.matrices((3, 4, 4))
        found = operator(x, 0.7, 60, tol=1e-5, grad="implicit", return_info=True)
        wanted = operator(x, 0.7, 60, tol=1e-5, return_info=True)
        assert torch.equal(found[0], wanted[0])
        assert all(torch.equal(a, b) for a, b in zip(found[1], wanted[1], strict=True))

    def test_memory_is_the_matrix_and_the_result(self) -> None:
        n = 30
        x = references.matrices((n, n)).requires_grad_()
        for n_iters in (100, 1000):
            function = partial(sinkhorn, n_iters=n_iters, grad="implicit")
            assert saved_elements(function, x) <= 2 * n * n + 1

    @pytest.mark.parametrize("batch", [(), (0,), (2, 0), (2, 3)])
    @pytest.mark.parametrize("n", [0, 1, 3])
    def test_any_batch(self, batch: tuple[int, ...], n: int) -> None:
        x = references.matrices((*batch, n, n)).requires_grad_()
        (grad,) = gradient(sinkhorn(x, n_iters=200, grad="implicit"), x)
        assert grad.shape == x.shape

    def test_gumbel_sinkhorn(self) -> None:
        x = references.matrices((3, 4, 4)).requires_grad_()
        draws = [
            partial(
                gumbel_sinkhorn, x, 2.0, 1000, sample_shape=2, generator=generator.manual_seed(3)
            )
            for generator in (torch.Generator(), torch.Generator())
        ]
        found, wanted = gradient(draws[0](grad="implicit"), x), gradient(draws[1](), x)
        torch.testing.assert_close(found, wanted, atol=1e-9, rtol=1e-7)

    @pytest.mark.parametrize("operator", OPERATORS)
    @pytest.mark.parametrize("tol", [None, 1e-9])
    def test_compiled(self, operator: Any, tol: float | None) -> None:
        def function(x: Tensor, tau: Tensor) -> Tensor:
            out: Tensor = operator(x, tau, 300, tol=tol, grad="implicit")
            return out

        torch._dynamo.reset()
        x = references.matrices((2, 4, 4)).requires_grad_()
        tau = torch.tensor([0.9, 2.0], dtype=torch.float64, requires_grad=True)
        compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
        found, wanted = compiled(x, tau), function(x, tau)
        torch.testing.assert_close(found, wanted)
        torch.testing.assert_close(gradient(found, x, tau), gradient(wanted, x, tau))
        torch._dynamo.reset()

    @pytest.mark.parametrize("operator", OPERATORS)
    def test_transforms(self, operator: Any) -> None:
        def loss(x: Tensor, tau: Tensor) -> Tensor:
            return limit(operator, x, tau).square().sum()

        x = references.matrices((5, 3, 3)).requires_grad_()
        tau = torch.full((5,), 0.8, dtype=torch.float64, requires_grad=True)
        wanted = torch.autograd.grad(loss(x, tau), (x, tau))
        found = torch.func.vmap(torch.func.grad(loss, argnums=(0, 1)))(x.detach(), tau.detach())
        torch.testing.assert_close(found, wanted)
        inputs = x[0].detach(), tau[0].detach()
        found = torch.func.grad(loss, argnums=(0, 1))(*inputs)
        torch.testing.assert_close(found, (wanted[0][0], wanted[1][0]))
        hessian = torch.func.jacrev(torch.func.jacrev(loss))(*inputs)
        by_loop = torch.autograd.functional.hessian(
            lambda x: many_steps(operator, x, inputs[1]).square().sum(), inputs[0]
        )
        torch.testing.assert_close(hessian, by_loop, atol=1e-8, rtol=1e-6)

    def test_forward_mode_is_refused_rather_than_wrong(self) -> None:
        x = references.matrices((3, 3))
        with pytest.raises(NotImplementedError):
            torch.func.jvp(lambda x: sinkhorn(x, grad="implicit"), (x,), (x,))


class TestErrors:
    X = references.matrices((3, 4, 4), scale=5.0).requires_grad_()

    @pytest.mark.parametrize("operator", [*OPERATORS, gumbel_sinkhorn])
    @pytest.mark.parametrize("grad", ["explicit", None, True])
    def test_unknown(self, operator: Any, grad: Any) -> None:
        with pytest.raises(
            ValueError, match=f"grad must be one of unrolled, implicit, got {grad!r}"
        ):
            operator(torch.zeros(2, 2), grad=grad)

    @pytest.mark.parametrize("operator", OPERATORS)
    def test_not_converged(self, operator: Any) -> None:
        _, info = operator(self.X, 0.5, 7, tol=1e-4, return_info=True)
        worst = float(info.row_error.max())
        assert worst > 1e-3
        with pytest.raises(RuntimeError) as caught:
            operator(self.X, 0.5, 7, tol=1e-4, grad="implicit")
        assert str(caught.value) == (
            f"grad='implicit' is the gradient of the limit, which is not reached: the largest row "
            f"error is {worst:.3g} after 7 iterations, wanted below 0.0001. Raise n_iters or tau, "
            f"or use grad='unrolled'"
        )

    def test_one_of_many_is_enough(self) -> None:
        x = torch.stack([torch.zeros(4, 4), *self.X.detach().float()]).requires_grad_()
        with pytest.raises(RuntimeError, match="after 7 iterations"):
            sinkhorn(x, 0.5, 7, tol=1e-3, grad="implicit")

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_wanted_without_tol(self, dtype: torch.dtype) -> None:
        wanted = 1.49e-8 if dtype == torch.float64 else 3.45e-4
        x = references.matrices((4, 4), scale=2.0).to(dtype).requires_grad_()
        steps = range(1, 100)
        errors = [float(sinkhorn(x, n_iters=k, return_info=True)[1].row_error) for k in steps]
        enough = next(k for k, error in zip(steps, errors, strict=True) if error < wanted)
        assert enough > 1
        sinkhorn(x, n_iters=enough, grad="implicit")
        with pytest.raises(
            RuntimeError, match=f"{enough - 1} iterations, wanted below {wanted:.3g}"
        ):
            sinkhorn(x, n_iters=enough - 1, grad="implicit")

    def test_nothing_is_asked_of_values_without_a_gradient(self) -> None:
        assert torch.equal(
            sinkhorn(self.X.detach(), 0.5, 2, grad="implicit"), sinkhorn(self.X.detach(), 0.5, 2)
        )
        with torch.no_grad():
            sinkhorn(self.X, 0.5, 2, grad="implicit")

    def test_a_temperature_that_requires_a_gradient_asks(self) -> None:
        tau = torch.tensor(0.5, requires_grad=True)
        with pytest.raises(RuntimeError, match="Raise n_iters or tau"):
            sinkhorn(self.X.detach(), tau, 2, grad="implicit")

    def test_an_impossible_pattern(self) -> None:
        x = torch.tensor([[0, -torch.inf, -torch.inf], [0, -torch.inf, -torch.inf], [0, 0, 0]])
        with pytest.raises(RuntimeError, match="which is not reached"):
            sinkhorn(x.requires_grad_(), n_iters=500, tol=1e-3, grad="implicit")

    def test_unreadable_values_are_not_checked(self) -> None:
        grad = torch.func.grad(lambda x: sinkhorn(x, 0.5, 2, grad="implicit").square().sum())
        assert bool(grad(self.X.detach()).isfinite().all())
