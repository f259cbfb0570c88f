"""The Sinkhorn operator: values, gradients, properties, shapes and errors."""

from __future__ import annotations

import math
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

from softperm import log_sinkhorn, matching, permutation_matrix, sinkhorn
from tests import references
from tests.conftest import compiled

pytestmark = pytest.mark.usefixtures("backend")
SQUARES = st.integers(1, 5).flatmap(
    lambda n: arrays(np.float64, (n, n), elements=st.floats(-20, 20))
)
OPERATORS = [sinkhorn, log_sinkhorn]
REFERENCES = {sinkhorn: references.sinkhorn_loop, log_sinkhorn: references.log_sinkhorn_loop}


def saved_elements(function: Callable[[Tensor], Tensor], x: Tensor) -> int:
    """How many numbers autograd keeps for the backward pass of `function`, each tensor once."""
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        function(x)
    return sum(tensor.numel() for tensor in kept.values())


class TestValues:
    def test_one_iteration_by_hand(self) -> None:
        # exp(X) = [[1, 3], [1, 1]]; rows: [[1/4, 3/4], [1/2, 1/2]]; columns: by 3/4 and 5/4.
        S = sinkhorn(torch.tensor([[0.0, math.log(3)], [0.0, 0.0]], dtype=torch.float64), n_iters=1)
        wanted = torch.tensor([[1 / 3, 3 / 5], [2 / 3, 2 / 5]], dtype=torch.float64)
        torch.testing.assert_close(S, wanted)

    def test_two_iterations_by_hand(self) -> None:
        # On from [[1/3, 3/5], [2/3, 2/5]]: rows by 14/15 and 16/15 give [[5/14, 9/14], [5/8, 3/8]],
        # columns by 55/56 and 57/56 give the result.
        S = sinkhorn(torch.tensor([[0.0, math.log(3)], [0.0, 0.0]], dtype=torch.float64), n_iters=2)
        wanted = torch.tensor([[20 / 55, 36 / 57], [35 / 55, 21 / 57]], dtype=torch.float64)
        torch.testing.assert_close(S, wanted)

    @given(arrays(np.float64, (2, 2), elements=st.floats(-3, 3)), st.floats(1, 5))
    def test_limit_of_two_items(self, x: Any, tau: float) -> None:
        # The limit is [[s, 1-s], [1-s, s]] with log S = X/tau + u_i + v_j. In
        # log S_00 + log S_11 - log S_01 - log S_10 the scalings cancel, so
        # 2 log(s / (1 - s)) = (x_00 + x_11 - x_01 - x_10) / tau. A step multiplies the distance by
        # at most tanh(3)^2 = 0.99.
        logit = (x[0, 0] + x[1, 1] - x[0, 1] - x[1, 0]) / (2 * tau)
        s = 1 / (1 + math.exp(-logit))
        found = sinkhorn(torch.from_numpy(x), tau, 3000, tol=1e-12)
        wanted = torch.tensor([[s, 1 - s], [1 - s, s]], dtype=torch.float64)
        torch.testing.assert_close(found, wanted, atol=1e-9, rtol=0)

    @pytest.mark.parametrize("n_iters", [1, 2, 3, 10, 50])
    def test_triangular_pattern_by_hand(self, n_iters: int) -> None:
        # From [[1, 0], [1, 1]] each step keeps the zero, and by induction
        # S^l = [[2l / (2l + 1), 0], [1 / (2l + 1), 1]]: slow, towards the one permutation left.
        x = torch.tensor([[0.0, -torch.inf], [0.0, 0.0]], dtype=torch.float64)
        last = 2 * n_iters + 1
        wanted = torch.tensor([[(last - 1) / last, 0.0], [1 / last, 1.0]], dtype=torch.float64)
        torch.testing.assert_close(sinkhorn(x, n_iters=n_iters), wanted)

    @pytest.mark.parametrize("n", [1, 2, 3, 6])
    @pytest.mark.parametrize("n_iters", [1, 2, 5, 20])
    @pytest.mark.parametrize("tau", [0.3, 1, 2.5])
    def test_against_division_by_sums(self, n: int, n_iters: int, tau: float) -> None:
        x = references.matrices((4, n, n), seed=n)
        wanted = references.sinkhorn_by_division(x, tau, n_iters)
        torch.testing.assert_close(sinkhorn(x, tau, n_iters), wanted)
        torch.testing.assert_close(log_sinkhorn(x, tau, n_iters), wanted.log())

    def test_defaults(self) -> None:
        x = references.matrices((3, 5, 5))
        wanted = references.sinkhorn_by_division(x, 1.0, 20)
        torch.testing.assert_close(sinkhorn(x), wanted)
        torch.testing.assert_close(sinkhorn(x, backend="torch"), wanted)

    def test_tau_of_a_tensor_is_one_a_matrix(self) -> None:
        x, tau = references.matrices((2, 3, 4, 4)), torch.tensor([0.2, 1.0, 3.0])
        found = sinkhorn(x, tau, 7)
        for i in range(2):
            for j in range(3):
                torch.testing.assert_close(found[i, j], sinkhorn(x[i, j], float(tau[j]), 7))
        scalar = torch.tensor(0.7, dtype=torch.float64)
        torch.testing.assert_close(sinkhorn(x, scalar), sinkhorn(x, 0.7))

    def test_several_temperatures_of_one_matrix(self) -> None:
        x, tau = references.matrices((4, 4)), torch.tensor([[0.5], [2.0]], dtype=torch.float64)
        found = sinkhorn(x, tau)
        assert found.shape == (2, 1, 4, 4)
        torch.testing.assert_close(found[1, 0], sinkhorn(x, 2.0))


class TestProperties:
    @given(SQUARES, st.integers(1, 30))
    def test_columns_sum_to_one(self, x: Any, n_iters: int) -> None:
        S = sinkhorn(torch.from_numpy(x), n_iters=n_iters)
        assert bool((S >= 0).all())
        torch.testing.assert_close(S.sum(-2), torch.ones(len(x), dtype=torch.float64))

    @given(SQUARES, st.integers(1, 10), st.data())
    def test_row_constants_do_not_matter(self, x: Any, n_iters: int, data: st.DataObject) -> None:
        shift = data.draw(arrays(np.float64, (len(x), 1), elements=st.floats(-100, 100)))
        found = sinkhorn(torch.from_numpy(x + shift), n_iters=n_iters)
        wanted = sinkhorn(torch.from_numpy(x), n_iters=n_iters)
        torch.testing.assert_close(found, wanted, atol=1e-9, rtol=1e-9)

    def test_column_constants_do_not_matter_in_the_limit(self) -> None:
        x, shift = references.matrices((10, 4, 4)), references.matrices((10, 1, 4), seed=1)
        limit = sinkhorn(x, n_iters=2000, tol=1e-12)
        shifted = sinkhorn(x + 3 * shift, n_iters=2000, tol=1e-12)
        torch.testing.assert_close(shifted, limit, atol=1e-10, rtol=0)
        one_step = sinkhorn(x + 3 * shift, n_iters=1) - sinkhorn(x, n_iters=1)
        assert float(one_step.abs().max()) > 0.01

    @given(SQUARES, st.data())
    def test_commutes_with_permutations(self, x: Any, data: st.DataObject) -> None:
        rows = data.draw(st.permutations(range(len(x))))
        columns = data.draw(st.permutations(range(len(x))))
        found = sinkhorn(torch.from_numpy(x[rows][:, columns]))
        torch.testing.assert_close(found, sinkhorn(torch.from_numpy(x))[rows][:, columns])

    @given(SQUARES)
    def test_logarithm(self, x: Any) -> None:
        X = torch.from_numpy(x)
        torch.testing.assert_close(log_sinkhorn(X).exp(), sinkhorn(X))

    @pytest.mark.parametrize("n", [2, 3, 5])
    def test_small_tau_gives_the_matching(self, n: int) -> None:
        x = references.matrices((30, n, n), seed=n)
        perms = references.all_permutations(n)
        scores = torch.stack([x[:, range(n), perm].sum(-1) for perm in perms], -1)
        best, second = scores.topk(2).values.unbind(-1)
        clear = best - second > 0.3  # a tie would need an even smaller tau
        assert int(clear.sum()) > 10
        S = sinkhorn(x[clear], 0.015, 10_000, tol=1e-6)
        wanted = [references.matrix(perms[int(i)]).double() for i in scores.argmax(-1)[clear]]
        torch.testing.assert_close(S, torch.stack(wanted), atol=0.02, rtol=0)

    @pytest.mark.parametrize("n", [1, 2, 5])
    def test_large_tau_gives_the_uniform_matrix(self, n: int) -> None:
        S = sinkhorn(references.matrices((3, n, n)), 1e9)
        torch.testing.assert_close(S, torch.full_like(S, 1 / n), atol=1e-8, rtol=0)

    @pytest.mark.parametrize("tau", [0.3, 1.0, 4.0])
    @pytest.mark.parametrize("n", [2, 3, 4])
    def test_maximises_score_plus_entropy(self, n: int, tau: float) -> None:
        x = references.matrices((n, n), seed=n)
        P = sinkhorn(x, tau, 5000, tol=1e-13)

        def value(Q: Tensor) -> Tensor:
            return (Q * x).sum((-2, -1)) + tau * references.entropy(Q)

        others = references.doubly_stochastic_matrices(n, 300, seed=n)
        nearby = P + 1e-3 * (others - P)
        assert float((value(others) - value(P)).max()) < 1e-9
        assert float((value(nearby) - value(P)).max()) < 1e-9


class TestGradients:
    @pytest.mark.parametrize("operator", OPERATORS)
    @pytest.mark.parametrize("n_iters", [1, 2, 3, 20])
    def test_finite_differences(self, operator: Any, n_iters: int) -> None:
        x = references.matrices((2, 3, 3), seed=n_iters).requires_grad_()
        tau = torch.tensor([0.5, 1.5], dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda x: operator(x, 0.7, n_iters), (x,))
        assert torch.autograd.gradcheck(lambda x, t: operator(x, t, n_iters), (x, tau))

    @pytest.mark.parametrize("operator", OPERATORS)
    @pytest.mark.parametrize("n_iters", range(1, 21))
    def test_autograd_through_the_loop(self, operator: Any, n_iters: int) -> None:
        x = references.matrices((3, 4, 4), seed=n_iters).requires_grad_()
        tau = torch.tensor([0.3, 1.0, 2.0], dtype=torch.float64, requires_grad=True)
        weights = references.matrices((3, 4, 4), seed=100)
        found = torch.autograd.grad((operator(x, tau, n_iters) * weights).sum(), (x, tau))
        loop = REFERENCES[operator](x, tau, n_iters)
        wanted = torch.autograd.grad((loop * weights).sum(), (x, tau))
        torch.testing.assert_close(found, wanted)

    @pytest.mark.parametrize("operator", OPERATORS)
    def test_with_tol(self, operator: Any) -> None:
        x = torch.stack([references.matrices((3, 3), seed=s, scale=s + 1.0) for s in range(4)])
        _, info = operator(x, n_iters=200, tol=1e-3, return_info=True)
        assert len(info.n_iters.unique()) > 1
        weights = references.matrices((4, 3, 3), seed=100)
        leaf = x.clone().requires_grad_()
        (found,) = torch.autograd.grad(
            (operator(leaf, n_iters=200, tol=1e-3) * weights).sum(), leaf
        )
        for b, steps in enumerate(info.n_iters.tolist()):
            leaf = x[b].clone().requires_grad_()
            loop = REFERENCES[operator](leaf, 1.0, steps)
            (wanted,) = torch.autograd.grad((loop * weights[b]).sum(), leaf)
            torch.testing.assert_close(found[b], wanted)

    @pytest.mark.parametrize("operator", OPERATORS)
    @pytest.mark.parametrize("n_iters", [1, 2, 5])
    @pytest.mark.parametrize("tol", [None, 0.05])
    def test_second_derivatives(self, operator: Any, n_iters: int, tol: float | None) -> None:
        x = references.matrices((2, 3, 3)).requires_grad_()
        tau = torch.tensor(0.8, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradgradcheck(
            lambda x, t: operator(x, t, n_iters, tol=tol), (x, tau), atol=1e-4
        )

    def test_third_derivative(self) -> None:
        def third(function: Callable[..., Tensor]) -> Tensor:
            x = references.matrices((3, 3)).requires_grad_()
            value = function(x, 1.0, 4).square().sum()
            for _ in range(3):
                (grad,) = torch.autograd.grad(value, x, create_graph=True)
                value = grad.pow(2).sum()
            return grad

        torch.testing.assert_close(third(sinkhorn), third(references.sinkhorn_loop))

    def test_gradient_of_a_broadcast_tau(self) -> None:
        x = references.matrices((2, 3, 3))
        tau = torch.tensor(0.9, dtype=torch.float64, requires_grad=True)
        (found,) = torch.autograd.grad(sinkhorn(x, tau, 3).square().sum(), tau)
        loop = references.sinkhorn_loop(x, tau, 3)
        (wanted,) = torch.autograd.grad(loop.square().sum(), tau)
        assert found.shape == ()
        torch.testing.assert_close(found, wanted)

    @pytest.mark.parametrize("tau", [1.0, 0.5, torch.tensor(0.5)])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_a_step_keeps_no_more_than_its_scalings(self, dtype: Any, tau: Any) -> None:
        n, short, long = 30, 5, 100
        x = references.matrices((n, n)).to(dtype).requires_grad_()
        kept = [saved_elements(partial(sinkhorn, tau=tau, n_iters=k), x) for k in (short, long)]
        # The matrix and its image, its temperature and its number of steps.
        assert 0 < kept[1] - kept[0] <= 2 * (n + 15) * (long - short)  # rows are padded to 16
        assert kept[0] - 2 * n * n <= 3 * (n + 15) * short
        loop = saved_elements(lambda x: references.sinkhorn_loop(x, 1.0, long), x)
        assert kept[1] < loop / 10

    @compiled
    @pytest.mark.parametrize("n", [8, 130])
    @pytest.mark.parametrize("scale", [1.0, 1e4])
    def test_bytes_a_step_at_any_temperature(self, n: int, scale: float) -> None:
        x = references.matrices((16, n, n), scale=scale).float().requires_grad_()
        kept = []
        for n_iters in (10, 20):
            node: Any = sinkhorn(x, n_iters=n_iters, backend="cpu").grad_fn
            kept.append(sum(a.nbytes for a in node.saved_tensors[5:] if a is not None))
        # Twice n numbers of 4 bytes and, at low temperature, twice n of 8; rows padded to 16.
        assert 0 < kept[1] - kept[0] <= 10 * 16 * 2 * (n + 15) * (4 + 8)


class TestStopping:
    X = torch.stack([references.matrices((4, 4), seed=s, scale=2.0 * s) for s in range(5)])

    @pytest.mark.parametrize("operator", OPERATORS)
    @pytest.mark.parametrize("tol", [0.1, 1e-3, 1e-6])
    def test_each_matrix_stops_at_its_first_good_step(self, operator: Any, tol: float) -> None:
        found, info = operator(self.X, n_iters=60, tol=tol, return_info=True)
        for b, x in enumerate(self.X):
            errors = [
                float((references.sinkhorn_loop(x, 1.0, step).sum(-1) - 1).abs().max())
                for step in range(1, 61)
            ]
            good = [step for step, error in enumerate(errors, 1) if error < tol]
            steps = good[0] if good else 60
            assert int(info.n_iters[b]) == steps
            assert bool(info.converged[b]) == bool(good)
            assert float(info.row_error[b]) == pytest.approx(errors[steps - 1], abs=1e-12)
            torch.testing.assert_close(found[b], REFERENCES[operator](x, 1.0, steps))
        assert len(info.n_iters.unique()) > 1

    def test_the_information_without_tol(self) -> None:
        S, info = sinkhorn(self.X, n_iters=6, return_info=True)
        assert info.n_iters.tolist() == [6] * 5
        assert not bool(info.converged.any())
        torch.testing.assert_close(info.row_error, (S.sum(-1) - 1).abs().amax(-1))

    def test_the_information_carries_no_gradient(self) -> None:
        _, info = sinkhorn(self.X.clone().requires_grad_(), tol=1e-3, return_info=True)
        assert not info.row_error.requires_grad

    def test_a_single_matrix(self) -> None:
        S, info = sinkhorn(torch.zeros(3, 3), tol=1e-3, return_info=True)
        assert (int(info.n_iters), bool(info.converged)) == (1, True)
        assert info.n_iters.shape == info.row_error.shape == info.converged.shape == ()
        torch.testing.assert_close(S, torch.full((3, 3), 1 / 3))


class TestShapes:
    @pytest.mark.parametrize("operator", OPERATORS)
    @pytest.mark.parametrize("batch", [(), (4,), (2, 3), (0,), (2, 0)])
    @pytest.mark.parametrize("n", [0, 1, 3])
    @pytest.mark.parametrize("tol", [None, 1e-2])
    def test_any_batch(
        self, operator: Any, batch: tuple[int, ...], n: int, tol: float | None
    ) -> None:
        x = references.matrices((*batch, n, n)).requires_grad_()
        out, info = operator(x, tol=tol, return_info=True)
        assert out.shape == x.shape
        assert info.n_iters.shape == info.row_error.shape == info.converged.shape == batch
        (grad,) = torch.autograd.grad(out.sum(), x)
        assert grad.shape == x.shape
        count = torch.Size(batch).numel()
        parts = zip(x.reshape(count, n, n), out.reshape(count, n, n), strict=True)
        for matrix, found in parts:
            torch.testing.assert_close(found, operator(matrix, tol=tol))

    def test_one_item(self) -> None:
        assert sinkhorn(torch.tensor([[-7.0]])).tolist() == [[1.0]]
        assert log_sinkhorn(torch.tensor([[-7.0]])).tolist() == [[0.0]]

    @pytest.mark.parametrize("layout", ["transposed", "expanded", "strided"])
    def test_any_memory_layout(self, layout: str) -> None:
        base = references.matrices((3, 8, 8))
        x = {
            "transposed": base.mT,
            "expanded": base[0].expand(3, 8, 8),
            "strided": base[:, ::2, ::2],
        }[layout].requires_grad_()
        plain = x.detach().clone(memory_format=torch.contiguous_format).requires_grad_()
        results = [
            torch.autograd.grad(sinkhorn(leaf).square().sum(), leaf)[0] for leaf in (x, plain)
        ]
        torch.testing.assert_close(results[0], results[1])
        assert torch.equal(sinkhorn(x), sinkhorn(plain))

    def test_the_input_is_left_alone(self) -> None:
        x = references.matrices((3, 3))
        before = x.clone()
        sinkhorn(x, tol=1e-3)
        log_sinkhorn(x)
        assert torch.equal(x, before)

    def test_agrees_with_the_matching(self) -> None:
        x = references.matrices((20, 4, 4))
        best = permutation_matrix(matching(x), torch.float64)
        assert torch.equal(matching(log_sinkhorn(x, 0.1)), matching(x))
        assert bool(((sinkhorn(x, 0.1) * best).sum((-2, -1)) > 2).all())


ZEROS = torch.zeros(2, 2)
BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"log_alpha": [[0.0]]}, TypeError, "log_alpha must be a torch.Tensor, got list"),
    ({"log_alpha": ZEROS.long()}, TypeError, "log_alpha must have a floating .* torch.int64"),
    ({"log_alpha": ZEROS.bool()}, TypeError, "log_alpha must have a floating .* torch.bool"),
    ({"log_alpha": ZEROS.to(torch.complex64)}, TypeError, "log_alpha .* torch.complex64"),
    ({"log_alpha": torch.zeros(2)}, ValueError, r"log_alpha must have shape .* got \(2,\)"),
    ({"log_alpha": torch.full((2, 2), torch.nan)}, ValueError, "log_alpha must .* got NaN"),
    ({"log_alpha": torch.tensor([[0, torch.inf], [0, 0]])}, ValueError, r"log_alpha .* got \+inf"),
    (
        {"log_alpha": torch.tensor([[0, torch.inf], [torch.nan, 0]])},
        ValueError,
        "log_alpha must .* got NaN",
    ),
    (
        {"log_alpha": torch.tensor([[0.0, 0.0], [-torch.inf, -torch.inf]])},
        ValueError,
        "log_alpha must leave at least one permutation possible, got a row",
    ),
    (
        {"log_alpha": torch.tensor([[0.0, -torch.inf], [0.0, -torch.inf]]).expand(3, 2, 2)},
        ValueError,
        r"log_alpha must leave at least one .* got a column .* \(3, 2, 2\)",
    ),
    (
        {"log_alpha": 1e300 * torch.tensor([[1.0, 0.0], [1.0, 0.0]]).double(), "tau": 1e-300},
        ValueError,
        "log_alpha / tau must be below 1e.100",
    ),
    ({"tau": 0.0}, ValueError, "tau must be positive and finite, got 0.0"),
    ({"tau": -1}, ValueError, "tau must be positive and finite, got -1"),
    ({"tau": math.inf}, ValueError, "tau must be positive and finite, got inf"),
    ({"tau": math.nan}, ValueError, "tau must be positive and finite, got nan"),
    ({"tau": "1"}, TypeError, "tau must be a float or a floating tensor, got str"),
    ({"tau": True}, TypeError, "tau must be a float or a floating tensor, got bool"),
    ({"tau": None}, TypeError, "tau must be a float or a floating tensor, got NoneType"),
    ({"tau": torch.tensor(1)}, TypeError, "tau must be a float .* got dtype torch.int64"),
    ({"tau": torch.tensor([1.0, 0.0])}, ValueError, r"tau must be positive .* \[1.0, 0.0\]"),
    ({"tau": torch.tensor(math.nan)}, ValueError, "tau must be positive and finite, got nan"),
    (
        {"log_alpha": torch.zeros(3, 2, 2), "tau": torch.ones(2)},
        ValueError,
        r"tau must broadcast against the batch dimensions \(3,\) of log_alpha, got shape \(2,\)",
    ),
    ({"n_iters": 0}, ValueError, "n_iters must be at least 1, got 0"),
    ({"n_iters": 2.0}, TypeError, "n_iters must be an int, got float"),
    ({"n_iters": True}, TypeError, "n_iters must be an int, got bool"),
    ({"tol": 0.0}, ValueError, "tol must be positive and finite, got 0.0"),
    ({"tol": -1e-3}, ValueError, "tol must be positive and finite, got -0.001"),
    ({"tol": math.nan}, ValueError, "tol must be positive and finite, got nan"),
    ({"tol": "1"}, TypeError, "tol must be None or a float, got str"),
    ({"tol": True}, TypeError, "tol must be None or a float, got bool"),
    ({"backend": "fortran"}, ValueError, "backend must be one of auto, .* got 'fortran'"),
]


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize(("arguments", "error", "message"), BAD)
def test_errors(
    operator: Any, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        operator(**({"log_alpha": ZEROS} | arguments))


@pytest.mark.parametrize(
    "options",
    [
        {"backend": "torch"},
        {"grad": "implicit"},
        {"tol": 1e-3},
        {"tau": torch.tensor([1.0, 0.5])},
        {"return_info": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("requires_grad", [False, True])
def test_values_without_an_answer_are_refused_on_every_path(
    options: dict[str, Any], dtype: Any, requires_grad: bool
) -> None:
    for value, message in ((torch.nan, "got NaN"), (torch.inf, r"got \+inf")):
        x = torch.zeros(2, 3, 3, dtype=dtype)
        x[1, 0, 1] = value
        with pytest.raises(ValueError, match=message):
            sinkhorn(x.requires_grad_(requires_grad), **options)
    x = torch.zeros(2, 3, 3, dtype=dtype)
    x[0, 2] = -torch.inf
    with pytest.raises(ValueError, match="got a row of -inf"):
        sinkhorn(x.requires_grad_(requires_grad), **options)


@pytest.mark.parametrize("offset", [1e4, 1e6])
def test_the_gradient_of_tau_does_not_feel_an_offset(offset: float) -> None:
    x, weights = references.matrices((2, 5, 5)).float()
    x = (x * 64).round() / 64 + offset  # exact in float32

    def slope(x: Tensor) -> Tensor:
        tau = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
        (grad,) = torch.autograd.grad((sinkhorn(x, tau) * weights.to(x)).sum(), tau)
        return grad

    torch.testing.assert_close(slope(x), slope((x - offset).double()), rtol=1e-4, atol=1e-5)


def test_a_forbidden_pair_where_the_default_device_is_another() -> None:
    x = torch.zeros(3, 3)
    x[0, 0] = -torch.inf
    wanted = sinkhorn(1e5 * x, 1e-3)
    torch.set_default_device("meta")
    try:
        found = sinkhorn(1e5 * x, 1e-3)
    finally:
        torch.set_default_device(None)
    assert torch.equal(found, wanted)


def test_the_gradient_of_empty_matrices_has_a_gradient() -> None:
    x = torch.zeros(2, 0, 0, requires_grad=True)
    (grad,) = torch.autograd.grad(sinkhorn(x).sum(), x, create_graph=True)
    assert grad.shape == x.shape
