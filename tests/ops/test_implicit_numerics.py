"""The gradient of the limit where entries are large, small, forbidden or few in bits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from softperm import log_sinkhorn, sinkhorn
from tests import references
from tests.ops.test_implicit import DTYPES, OPERATORS, gradient, limit, many_steps
from tests.ops.test_sinkhorn_numerics import masks


def near_a_permutation(distance: float) -> Tensor:
    """One of five items and a mixture of others, doubly stochastic up to rounding."""
    others = references.doubly_stochastic_matrices(5, 1, seed=1)[0]
    only = references.matrix(torch.tensor([3, 1, 4, 0, 2])).double()
    near: Tensor = (1 - distance) * only + distance * others
    return near


def nearly_in_blocks(coupling: float) -> Tensor:
    """Two blocks of two items, with a little of everything."""
    block = torch.tensor([[0.3, 0.7], [0.7, 0.3]], dtype=torch.float64)
    coupled: Tensor = (1 - coupling) * torch.block_diag(block, block) + coupling / 4
    return coupled


MAKERS: tuple[Callable[[float], Tensor], ...] = (near_a_permutation, nearly_in_blocks)
# Rows and columns of each sum to 1 up to rounding: the iteration is done in one step, however slow
# it would be from elsewhere.
SLOW = {
    f"{make.__name__} {size:g}": (make, size)
    for make in MAKERS
    for size in (1e-2, 1e-4, 1e-8, 1e-12, 1e-16, 1e-30, 1e-80)
}


@pytest.mark.parametrize("case", SLOW)
def test_against_exact_fractions(case: str) -> None:
    make, size = SLOW[case]
    x = make(size).log().requires_grad_()
    S = sinkhorn(x, tol=1e-13, grad="implicit")
    weights = references.matrices(tuple(S.shape), seed=9)
    (found,) = torch.autograd.grad((S * weights).sum(), x)
    wanted = references.gradient_of_the_limit(weights * S.detach(), S.detach())
    # Near a permutation right to many digits of its largest entry, tiny as that is.
    torch.testing.assert_close(found, wanted, atol=1e-13 * float(wanted.abs().max()), rtol=0)


@pytest.mark.parametrize("case", SLOW)
def test_logarithm_against_exact_fractions(case: str) -> None:
    make, size = SLOW[case]
    x = make(size).log().requires_grad_()
    log_S = log_sinkhorn(x, tol=1e-13, grad="implicit")
    weights = references.matrices(tuple(x.shape), seed=9)
    (found,) = torch.autograd.grad((log_S * weights).sum(), x)
    wanted = references.gradient_of_the_limit(weights, log_S.detach().exp())
    if make is near_a_permutation:
        torch.testing.assert_close(found, wanted, atol=1e-12, rtol=0)
    elif size >= 1e-12:
        # How two blocks go together hangs on what couples them, known to 1e-16 of what is inside.
        torch.testing.assert_close(found, wanted, atol=1e-15 / size, rtol=0)
    else:
        assert float(found.abs().max()) < 10 * float(wanted.abs().max())


@pytest.mark.parametrize("tau", [1.0, 0.3, 0.1])
@pytest.mark.parametrize("tol", [1e-2, 1e-4, 1e-6])
def test_the_error_is_that_of_the_rows(tau: float, tol: float) -> None:
    x = references.matrices((50, 6, 6))
    _, info = sinkhorn(x, tau, 50_000, tol=1e-12, return_info=True)
    x = x[info.converged].requires_grad_()
    assert len(x) > 30
    (rough,), (end,) = (
        gradient(limit(sinkhorn, x, tau, tol), x),
        gradient(limit(sinkhorn, x, tau), x),
    )
    error = float((rough - end).abs().max())
    assert tol / 100 < tau * error < 2 * tol


class TestForbiddenPairs:
    @pytest.mark.parametrize("operator", OPERATORS)
    def test_patterns_of_permutations(self, operator: Any) -> None:
        allowed = masks(3)
        perms = torch.stack([references.matrix(p) for p in references.all_permutations(3)]).bool()
        inside = ~(perms & ~allowed.unsqueeze(1)).any((-2, -1))  # of (pattern, permutation)
        covered = (inside[..., None, None] & perms).any(1)
        allowed = allowed[(covered == allowed).all((-2, -1))]
        assert len(allowed) > 20
        scores = references.matrices(tuple(allowed.shape)).requires_grad_()
        found, wanted = (
            gradient(function(operator, scores.masked_fill(~allowed, -torch.inf), 1.0), scores)
            for function in (limit, many_steps)
        )
        torch.testing.assert_close(found, wanted, atol=1e-9, rtol=1e-7)

    @pytest.mark.parametrize("operator", OPERATORS)
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_every_possible_pattern(self, operator: Any, dtype: torch.dtype) -> None:
        for n in (1, 2, 3):
            allowed = masks(n)
            x = references.matrices(tuple(allowed.shape)).masked_fill(~allowed, -torch.inf)
            x = x.to(dtype).requires_grad_()
            (grad,) = gradient(limit(operator, x, tol=1e-3), x)
            assert bool(grad.isfinite().all())
            assert bool((grad[~allowed] == 0).all())

    def test_a_gradient_of_minus_infinity_goes_nowhere(self) -> None:
        x = torch.tensor([[0.0, -torch.inf], [-torch.inf, 0.0]], requires_grad=True)
        log_sinkhorn(x, grad="implicit").backward(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
        assert x.grad is not None
        assert x.grad.tolist() == [[0.0, 0.0], [0.0, 0.0]]


class TestPrecision:
    @pytest.mark.parametrize("operator", OPERATORS)
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("tau", [0.3, 1.0])
    def test_only_rounding(self, operator: Any, dtype: torch.dtype, tau: float) -> None:
        x = references.matrices((10, 6, 6)).to(dtype)
        tol = 1e-12 if dtype == torch.float64 else 1e-6
        leaf, precise = x.clone().requires_grad_(), x.double().requires_grad_()
        out = limit(operator, leaf, tau, tol)
        weights = torch.ones_like(x).triu()
        (found,) = torch.autograd.grad((out * weights).sum(), leaf)
        wanted = torch.autograd.grad(
            (limit(operator, precise, tau) * weights.double()).sum(), precise
        )[0]
        assert out.dtype == found.dtype == dtype
        rounding = max(torch.finfo(dtype).eps, 1e-4 if tol > 1e-12 else 1e-10)
        largest = float(wanted.abs().max())
        torch.testing.assert_close(found.double(), wanted, atol=rounding * largest, rtol=rounding)

    @pytest.mark.parametrize("operator", OPERATORS)
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("scale", [1.0, 1e2, 1e4])
    @pytest.mark.parametrize("tau", [1e-4, 1.0, 1e4])
    def test_extremes_are_finite(
        self, operator: Any, dtype: torch.dtype, scale: float, tau: float
    ) -> None:
        x = references.matrices((20, 4, 4)).mul(scale).to(dtype)
        _, info = operator(x, tau, 1000, tol=1e-3, return_info=True)
        assert int(info.converged.sum()) > 5
        x = x[info.converged].requires_grad_()
        for backend in ("auto", "torch"):
            out = operator(x, tau, 1000, tol=1e-3, grad="implicit", backend=backend)
            (grad,) = gradient(out, x)
            assert bool(grad.isfinite().all())

    def test_the_logarithm_of_what_underflows(self) -> None:
        x = torch.tensor([[0.0, -1e6], [-1e6, 0.0]], requires_grad=True)
        out = log_sinkhorn(x, grad="implicit")
        (grad,) = torch.autograd.grad(out[0, 1] + out[1, 0], x)
        # log S_01 + log S_10 = x_01 + x_10 - x_00 - x_11, up to exp(-1e6).
        assert grad.tolist() == [[-1.0, 1.0], [1.0, -1.0]]
        (grad,) = torch.autograd.grad(log_sinkhorn(x, grad="implicit")[0, 1], x)
        assert bool(grad.isfinite().all())

    @pytest.mark.parametrize("n", [100, 400])
    def test_large_and_badly_connected(self, n: int) -> None:
        # A ring: every row next to two others, none next to all.
        ring = 0.5 * (
            torch.eye(n, dtype=torch.float64) + torch.eye(n, dtype=torch.float64).roll(1, 0)
        )
        x = torch.block_diag(ring, ring).log().requires_grad_()
        S = sinkhorn(x, tol=1e-12, grad="implicit")
        D = references.matrices(tuple(S.shape), seed=9)
        (found,) = torch.autograd.grad((S * D).sum(), x)
        # What moves through a ring is one number: the score of one of its two permutations
        # against the other.
        sign = torch.eye(n, dtype=torch.float64)
        sign = torch.block_diag(*[sign - sign.roll(1, 0)] * 2)
        halves = torch.block_diag(torch.ones(n, n), torch.ones(n, n)).double()
        per_ring = halves @ (D * sign).sum(-1, keepdim=True)
        torch.testing.assert_close(found, sign * per_ring / (4 * n), atol=1e-10, rtol=0)

    def test_autocast_changes_nothing(self) -> None:
        x = references.matrices((3, 4, 4)).float().requires_grad_()
        (plain,) = gradient(sinkhorn(x, grad="implicit"), x)
        with torch.autocast("cpu", torch.bfloat16):
            (grad,) = gradient(sinkhorn(x, grad="implicit"), x)
        assert torch.equal(grad, plain)
