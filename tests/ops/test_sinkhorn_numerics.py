"""The Sinkhorn operator where numbers are large, small, forbidden or few in bits."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from softperm import log_sinkhorn, matching, sinkhorn
from tests import references
from tests.conftest import BACKENDS

pytestmark = pytest.mark.usefixtures("backend")
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
OPERATORS = [sinkhorn, log_sinkhorn]


def gradients(operator: Any, x: Tensor, tau: Any, n_iters: int) -> tuple[Tensor, Tensor]:
    """The result and the gradient of a weighted sum of S (for log S: of its finite entries)."""
    leaf = x.clone().requires_grad_()
    out = operator(leaf, tau, n_iters)
    weights = references.matrices(tuple(x.shape), seed=9).to(torch.bfloat16).to(x.dtype)
    loss = (out.masked_fill(out == -torch.inf, 0) * weights).sum()
    (grad,) = torch.autograd.grad(loss, leaf)
    return out.detach(), grad


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1.0, 1e2, 1e4])
@pytest.mark.parametrize("tau", [1e-4, 0.1, 1.0, 1e4, torch.tensor(1e-4, dtype=torch.float64)])
def test_extreme_values_and_gradients(operator: Any, dtype: Any, scale: float, tau: Any) -> None:
    x = references.matrices((4, 5, 5)).clamp(-1, 1).mul(scale).to(dtype)
    out, grad = gradients(operator, x, tau, 20)
    wanted_out, wanted_grad = gradients(operator, x.double(), tau, 20)
    assert out.dtype == grad.dtype == dtype
    assert not bool(out.isnan().any() | grad.isnan().any())
    # Twenty float32 iterations and one rounding to a shorter dtype.
    rounding = max(torch.finfo(dtype).eps, 16 * torch.finfo(torch.float32).eps)
    if dtype == torch.float64:
        rounding = torch.finfo(dtype).eps
    torch.testing.assert_close(out, wanted_out.to(dtype), atol=rounding, rtol=rounding)
    if dtype != torch.float16:  # log S of -1e8, and gradients over 1e-4, are beyond its range
        assert bool(out.isfinite().all() & grad.isfinite().all())
    if bool(out.isfinite().all()):
        # What reaches the matrix is of the order of 1 / tau; at low temperature it nearly cancels.
        largest = max(float(wanted_grad.abs().max()), float((1 / torch.as_tensor(tau)).max()))
        torch.testing.assert_close(
            grad, wanted_grad.to(dtype), atol=2 * rounding * largest, rtol=2 * rounding
        )


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_against_the_loop_at_extremes(operator: Any, dtype: Any) -> None:
    reference = {
        sinkhorn: references.sinkhorn_loop,
        log_sinkhorn: references.log_sinkhorn_loop,
    }[operator]
    rounding = 10 * torch.finfo(dtype).eps
    for scale, tau in itertools.product((1.0, 1e4), (1e-4, 1.0)):
        x = references.matrices((6, 4, 4), seed=3, scale=scale).to(dtype)
        wanted = reference(x, tau, 20).to(dtype)
        torch.testing.assert_close(operator(x, tau), wanted, atol=1e-6, rtol=rounding)


def test_division_by_tau_loses_nothing_to_float32() -> None:
    # One unit in the last place of 1e4 is 2^-10, or 9.77 after division by 1e-4; in float32
    # 1e8 itself is known to 8 only. In the limit S_00 = sigmoid(9.77 / 2).
    x = torch.tensor([[1e4 + 2**-10, 1e4], [1e4, 1e4]])
    assert float(x[0, 0] - x[0, 1]) == 2**-10
    S = sinkhorn(x, 1e-4, 20_000, tol=1e-7)
    logit = torch.tensor(2**-10 / 1e-4 / 2, dtype=torch.float64)
    torch.testing.assert_close(float(S[0, 0]), float(logit.sigmoid()), atol=1e-6, rtol=0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_low_precision_is_only_rounding(dtype: torch.dtype) -> None:
    x = references.matrices((10, 6, 6)).to(dtype)
    wanted = references.sinkhorn_loop(x, 0.5, 20)
    S = sinkhorn(x, 0.5)
    assert S.dtype == dtype
    rounding = torch.finfo(dtype).eps * (20 if dtype == torch.float64 else 0.5)
    torch.testing.assert_close(S.double(), wanted, atol=1e-7, rtol=rounding)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("tau_dtype", DTYPES)
def test_tau_of_another_dtype(dtype: torch.dtype, tau_dtype: torch.dtype) -> None:
    x = references.matrices((2, 3, 3)).to(dtype)
    tau = torch.tensor([0.5, 2.0], dtype=tau_dtype, requires_grad=True)
    S = sinkhorn(x, tau)
    assert S.dtype == dtype
    S.square().sum().backward()
    assert tau.grad is not None
    assert tau.grad.dtype == tau_dtype
    torch.testing.assert_close(S[1], sinkhorn(x[1], 2.0))


def masks(n: int) -> Tensor:
    """Every pattern of allowed pairs of n items that leaves a permutation possible."""
    patterns = torch.tensor(list(itertools.product((False, True), repeat=n * n)))
    patterns = patterns.reshape(-1, n, n)
    allowed = torch.stack([references.matrix(p) for p in references.all_permutations(n)]).bool()
    possible: Tensor = (patterns.unsqueeze(1) | ~allowed).all((-2, -1)).any(1)
    return patterns[possible]


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("tau", [1e-4, 1.0, torch.tensor(1e-4), torch.tensor(1.0)])
def test_every_pattern_of_forbidden_pairs(operator: Any, n: int, tau: Any) -> None:
    allowed = masks(n)
    scores = references.matrices(tuple(allowed.shape), scale=100.0)
    x = scores.masked_fill(~allowed, -torch.inf)
    out, grad = gradients(operator, x, tau, 20)
    assert not bool(out.isnan().any())
    assert bool(grad.isfinite().all())
    assert bool(((out if operator is sinkhorn else out.exp())[~allowed] == 0).all())
    assert bool((grad[~allowed] == 0).all()) or operator is log_sinkhorn
    S = sinkhorn(x, tau)
    torch.testing.assert_close(S.sum(-2), torch.ones_like(S[..., 0]))


@pytest.mark.parametrize("n_iters", [1, 3, 20])
def test_gradients_with_forbidden_pairs(n_iters: int) -> None:
    allowed = masks(3)
    scores = references.matrices(tuple(allowed.shape)).requires_grad_()

    def loss(function: Any) -> Tensor:
        x = scores.masked_fill(~allowed, -torch.inf)
        weights = references.matrices(tuple(allowed.shape), seed=9)
        total: Tensor = (function(x, 0.5, n_iters) * weights).sum()
        return total

    (found,) = torch.autograd.grad(loss(sinkhorn), scores)
    (wanted,) = torch.autograd.grad(loss(references.sinkhorn_loop), scores)
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 2, 5])
def test_only_one_permutation_possible(dtype: torch.dtype, n: int) -> None:
    perm = torch.randperm(n, generator=torch.Generator().manual_seed(n))
    only = references.matrix(perm).to(dtype)
    x = torch.where(only > 0, torch.randn(n, n).to(dtype), -torch.inf).to(dtype)
    out, grad = gradients(sinkhorn, x, 0.1, 20)
    assert torch.equal(out, only)
    torch.testing.assert_close(grad, torch.zeros_like(grad))
    assert torch.equal(matching(x), perm)


def test_a_triangle_converges_to_its_diagonal() -> None:
    x = torch.zeros(4, 4).masked_fill(torch.ones(4, 4).triu(1).bool(), -torch.inf)
    S, info = sinkhorn(x, n_iters=5000, tol=1e-2, return_info=True)
    assert bool(info.converged)
    torch.testing.assert_close(S, torch.eye(4), atol=0.05, rtol=0)


def test_an_impossible_pattern_stays_finite_but_never_converges() -> None:
    # Rows 0 and 1 both allow column 0 alone: every row and column has an entry, yet no permutation
    # exists, which is for `matching` to report.
    x = torch.tensor([[0, -torch.inf, -torch.inf], [0, -torch.inf, -torch.inf], [0, 0, 0]])
    out, grad = gradients(sinkhorn, x, 1.0, 50)
    assert bool(out.isfinite().all() & grad.isfinite().all())
    _, info = sinkhorn(x, n_iters=200, tol=1e-3, return_info=True)
    assert not bool(info.converged)
    assert float(info.row_error) >= 0.5


def test_the_logarithm_does_not_underflow() -> None:
    out = log_sinkhorn(torch.tensor([[0.0, -1e6], [-1e6, 0.0]]))
    assert out.tolist() == [[0.0, -1e6], [-1e6, 0.0]]


@pytest.mark.parametrize("tol", [None, 1e-3])
def test_autocast_changes_nothing(tol: float | None) -> None:
    x = references.matrices((3, 4, 4)).float().requires_grad_()
    (plain,) = torch.autograd.grad(sinkhorn(x, tol=tol).square().sum(), x)
    with torch.autocast("cpu", torch.bfloat16):
        out = sinkhorn(x, tol=tol)
        (grad,) = torch.autograd.grad(out.square().sum(), x)
    assert out.dtype == torch.float32
    assert torch.equal(out, sinkhorn(x, tol=tol))
    assert torch.equal(grad, plain)


@pytest.mark.parametrize("n", [2, 130])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_temperature_whose_reciprocal_overflows(n: int, backend: Any) -> None:
    S = sinkhorn(torch.zeros(n, n), 1e-310, 3, backend=backend)
    torch.testing.assert_close(S, torch.full((n, n), 1 / n))


@pytest.mark.parametrize("n", [2, 70])
@pytest.mark.parametrize("scale", [1e-37, 1e-40, 1e-43])
def test_subnormal_scores_at_a_temperature_like_theirs(n: int, scale: float) -> None:
    x = (references.matrices((n, n)) * scale).float()
    wanted = references.sinkhorn_loop(x.double() / scale, 1.0, 20)
    torch.testing.assert_close(sinkhorn(x, scale).double(), wanted, atol=1e-5, rtol=1e-5)
