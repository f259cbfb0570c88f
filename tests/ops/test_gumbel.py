"""Gumbel noise, and the samples made with it, against SciPy and brute-force Monte Carlo."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import kstest
from torch import Tensor

from softperm import (
    gumbel_matching,
    gumbel_sinkhorn,
    log_sinkhorn,
    matching,
    permutation_matrix,
    sample_gumbel,
    sinkhorn,
    straight_through,
)
from tests import references

pytestmark = pytest.mark.usefixtures("backend")
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
SHAPES: list[Any] = [(), 3, (2,), (2, 3), (0,), [4], torch.Size((1, 2))]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def as_tuple(shape: Any) -> tuple[int, ...]:
    return (shape,) if isinstance(shape, int) else tuple(shape)


class TestNoise:
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("u", [0.0, 2**-24, 0.5, 1 - 2**-24, 1 - 2**-53, 1.0])
    def test_finite_for_every_uniform_number(
        self, dtype: torch.dtype, u: float, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def constant(size: Any, *, dtype: torch.dtype, **_: Any) -> Tensor:
            return torch.full(size, u, dtype=dtype)

        monkeypatch.setattr(torch, "rand", constant)
        noise = sample_gumbel((3,), dtype=dtype)
        assert noise.dtype == dtype
        assert bool(noise.isfinite().all())
        if u in (2**-24, 0.5, 1 - 2**-24):  # exact in float32 and float64 alike
            wanted = -math.log(-math.log(u))
            assert float(noise[0]) == pytest.approx(wanted, rel=2 * torch.finfo(dtype).eps)

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_distribution(self, dtype: torch.dtype) -> None:
        noise = sample_gumbel((20_000,), dtype=dtype, generator=seeded())
        # A rounded sample is tested with its rounding undone by noise of that width.
        width = noise.abs().double() * torch.finfo(dtype).eps
        spread = torch.rand(noise.shape, dtype=torch.float64, generator=seeded(1)) - 0.5
        assert kstest((noise.double() + width * spread).numpy(), "gumbel_r").pvalue > 1e-2

    @pytest.mark.parametrize("shape", SHAPES)
    def test_shape(self, shape: Any) -> None:
        assert sample_gumbel(shape).shape == as_tuple(shape)

    def test_dtype_and_device(self) -> None:
        assert sample_gumbel(2).dtype == torch.get_default_dtype()
        assert sample_gumbel(2, device="cpu").device == torch.device("cpu")
        assert sample_gumbel(2, device="meta").device == torch.device("meta")

    def test_generator(self) -> None:
        first, again, other = (sample_gumbel(9, generator=seeded(s)) for s in (1, 1, 2))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
        torch.manual_seed(1)
        assert torch.equal(sample_gumbel(9), first)

    @pytest.mark.parametrize(
        ("shape", "dtype", "error", "message"),
        [
            ((2,), torch.int64, TypeError, "dtype must be floating, got torch.int64"),
            ((2,), torch.complex64, TypeError, "dtype must be floating, got torch.complex64"),
            ((-1,), None, ValueError, "shape must hold integers of at least 0"),
            ((1.5,), None, TypeError, "shape must be an int or a tuple of ints"),
            (None, None, TypeError, "shape must be an int or a tuple of ints, got None"),
        ],
    )
    def test_errors(self, shape: Any, dtype: Any, error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            sample_gumbel(shape, dtype=dtype)


class TestGumbelSinkhorn:
    @pytest.mark.parametrize("sample_shape", SHAPES)
    @pytest.mark.parametrize("batch", [(), (4,), (0,), (2, 3)])
    @pytest.mark.parametrize("n", [0, 1, 3])
    def test_shapes(self, sample_shape: Any, batch: tuple[int, ...], n: int) -> None:
        P = gumbel_sinkhorn(torch.zeros(*batch, n, n), sample_shape=sample_shape)
        assert P.shape == (*as_tuple(sample_shape), *batch, n, n)
        torch.testing.assert_close(P.sum(-2), torch.ones(P.shape[:-1]))
        perm = gumbel_matching(torch.zeros(*batch, n, n), sample_shape=sample_shape)
        assert perm.shape == P.shape[:-1]
        assert perm.dtype == torch.int64

    def test_is_sinkhorn_of_perturbed_scores(self) -> None:
        x = references.matrices((2, 4, 4))
        noise = sample_gumbel((5, 2, 4, 4), dtype=torch.float64, generator=seeded())
        found = gumbel_sinkhorn(
            x, 0.7, 9, noise_scale=0.3, sample_shape=5, generator=seeded(), tol=1e-2
        )
        wanted = sinkhorn(x + 0.3 * noise, 0.7, 9, tol=1e-2)
        torch.testing.assert_close(found, wanted)

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_without_noise(self, dtype: torch.dtype) -> None:
        x = references.matrices((2, 3, 3)).to(dtype)
        state = seeded()
        P = gumbel_sinkhorn(x, 0.5, noise_scale=0, sample_shape=4, generator=state)
        assert P.dtype == dtype
        assert torch.equal(P, sinkhorn(x, 0.5).expand(4, 2, 3, 3))
        assert torch.equal(gumbel_matching(x, noise_scale=0.0), matching(x))
        assert torch.equal(state.get_state(), seeded().get_state())  # nothing was drawn

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_dtypes(self, dtype: torch.dtype) -> None:
        x = references.matrices((3, 3)).to(dtype)
        P = gumbel_sinkhorn(x, generator=seeded())
        assert P.dtype == dtype
        drawn = torch.float64 if dtype == torch.float64 else torch.float32
        noise = sample_gumbel((3, 3), dtype=drawn, generator=seeded())
        torch.testing.assert_close(P, sinkhorn(x.to(drawn) + noise).to(dtype))

    def test_generator(self) -> None:
        x = references.matrices((4, 4))
        for function in (gumbel_sinkhorn, gumbel_matching):
            first, again, other = (
                function(x, sample_shape=6, generator=seeded(s)) for s in (1, 1, 2)
            )
            assert torch.equal(first, again)
            assert not torch.equal(first, other)

    def test_samples_and_matrices_have_their_own_noise(self) -> None:
        P = gumbel_sinkhorn(torch.zeros(5, 4, 4), sample_shape=(3, 2)).reshape(-1, 16)
        assert len(P.unique(dim=0)) == 30

    def test_large_tau_is_uniform_and_small_tau_is_hard(self) -> None:
        x = references.matrices((3, 3))
        P = gumbel_sinkhorn(x, 1e9, sample_shape=10)
        torch.testing.assert_close(P, torch.full_like(P, 1 / 3), atol=1e-6, rtol=0)
        hard = gumbel_matching(x, sample_shape=300, generator=seeded())
        soft = gumbel_sinkhorn(x, 0.005, 2000, sample_shape=300, generator=seeded())
        near = (soft - permutation_matrix(hard, torch.float64)).abs().amax((-2, -1)) < 0.05
        assert float(near.double().mean()) > 0.9  # the others are close to a tie

    def test_gradient_is_that_of_sinkhorn(self) -> None:
        x = references.matrices((2, 3, 3)).requires_grad_()
        tau = torch.tensor([0.5, 2.0], dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(
            lambda x, t: gumbel_sinkhorn(x, t, 3, sample_shape=2, generator=seeded()), (x, tau)
        )

    def test_tau_belongs_to_the_matrices_not_to_the_samples(self) -> None:
        tau = torch.tensor([0.1, 1.0, 1e9], dtype=torch.float64)
        x = references.matrices((4, 4))
        P = gumbel_sinkhorn(x, tau, sample_shape=3)
        assert P.shape == (3, 3, 4, 4)
        torch.testing.assert_close(P[:, 2], torch.full_like(P[:, 2], 0.25), atol=1e-6, rtol=0)
        assert bool((P[:, 0].amax((-2, -1)) > 0.5).all())

    def test_forbidden_pairs_stay_forbidden(self) -> None:
        x = torch.zeros(3, 3).masked_fill(torch.ones(3, 3).triu(1).bool(), -torch.inf)
        P = gumbel_sinkhorn(x, sample_shape=20)
        assert bool((P[:, x == -torch.inf] == 0).all())
        perm = gumbel_matching(x, sample_shape=20)
        assert torch.equal(perm, torch.arange(3).expand(20, 3))

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("tau", [0.1, 1.0])
    def test_hard_samples(self, tau: float, dtype: torch.dtype) -> None:
        x = references.matrices((3, 5, 5)).to(dtype)
        hard = gumbel_sinkhorn(x, tau, sample_shape=10, generator=seeded(), hard=True)
        perm = gumbel_matching(x, sample_shape=10, generator=seeded())
        assert hard.dtype == dtype
        assert torch.equal(hard, permutation_matrix(perm, dtype))

    def test_hard_samples_have_the_gradient_of_soft_ones(self) -> None:
        x = references.matrices((3, 3)).requires_grad_()
        tau = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
        weights = references.matrices((4, 3, 3), seed=1)
        found, wanted = (
            torch.autograd.grad(
                (
                    gumbel_sinkhorn(x, tau, sample_shape=4, generator=seeded(), hard=hard) * weights
                ).sum(),
                (x, tau),
            )
            for hard in (True, False)
        )
        torch.testing.assert_close(found, wanted)

    def test_hard_is_a_bool(self) -> None:
        wrong: Any = 1
        with pytest.raises(TypeError, match="hard must be a bool, got int"):
            gumbel_sinkhorn(torch.zeros(2, 2), hard=wrong)


class TestGumbelMatching:
    @pytest.mark.parametrize("d", [0.0, 0.5, 2.0, -1.5])
    def test_two_items_in_closed_form(self, d: float) -> None:
        # The identity wins when L1 + L2 > -d, with d = x_00 + x_11 - x_01 - x_10 and the logistic
        # L1 = e_00 - e_01, L2 = e_11 - e_10. With w = exp(d) and p = sigmoid(L2), uniform,
        #   P = integral over p of sigmoid(d + L2) = integral of w p / (1 + (w - 1) p)
        #     = w (w - 1 - log w) / (w - 1)^2, and 1/2 at w = 1.
        w = math.exp(d)
        wanted = 0.5 if d == 0 else w * (w - 1 - d) / (w - 1) ** 2
        x = torch.tensor([[d, 0.3], [0.0, -0.3]], dtype=torch.float64) + 1.0
        x[0, 0] += 0.6  # d is now d + 0.6 - 0.3 - 0.3
        draws = 20_000
        perm = gumbel_matching(x, sample_shape=draws, generator=seeded())
        found = float((perm[:, 0] == 0).double().mean())
        assert found == pytest.approx(wanted, abs=4 * math.sqrt(wanted * (1 - wanted) / draws))

    @pytest.mark.parametrize("noise_scale", [1.0, 0.4])
    def test_three_items_against_brute_force(self, noise_scale: float) -> None:
        x = references.matrices((3, 3), seed=5)
        # M(X + s e) = M(X / s + e).
        wanted = references.gumbel_matching_frequencies(x.numpy() / noise_scale, 200_000)
        draws = 20_000
        perm = gumbel_matching(x, noise_scale=noise_scale, sample_shape=draws, generator=seeded())
        cells = references.all_permutations(3)
        found = (perm.unsqueeze(1) == cells).all(-1).double().mean(0).numpy()
        assert np.abs(found - wanted).max() < 4 * 0.5 / math.sqrt(draws)
        assert wanted.max() < 0.9

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_is_matching_of_perturbed_scores(self, dtype: torch.dtype) -> None:
        x = references.matrices((2, 4, 4)).to(dtype)
        noise = sample_gumbel((5, 2, 4, 4), dtype=dtype, generator=seeded())
        found = gumbel_matching(x, noise_scale=0.3, sample_shape=5, generator=seeded())
        assert torch.equal(found, matching(x + 0.3 * noise))


class TestStraightThrough:
    @pytest.mark.parametrize("tau", [0.1, 1.0, 10.0])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("n", [1, 2, 5, 12])
    def test_forward_is_gumbel_matching(self, n: int, dtype: torch.dtype, tau: float) -> None:
        x = references.matrices((3, n, n)).to(dtype)
        soft = gumbel_sinkhorn(x, tau, sample_shape=10, generator=seeded())
        perm = gumbel_matching(x, sample_shape=10, generator=seeded())
        hard = straight_through(soft)
        assert hard.dtype == dtype
        assert torch.equal(hard, permutation_matrix(perm, dtype))

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_gradient_is_the_identity(self, dtype: torch.dtype) -> None:
        soft = sinkhorn(references.matrices((4, 3, 3)).to(dtype)).requires_grad_()
        upstream = references.matrices((4, 3, 3), seed=1).to(dtype)
        (grad,) = torch.autograd.grad(straight_through(soft), soft, upstream)
        assert torch.equal(grad, upstream)

    def test_gradient_reaches_the_scores(self) -> None:
        x = references.matrices((3, 3)).requires_grad_()
        weights = references.matrices((3, 3), seed=1)
        hard = straight_through(sinkhorn(x, 0.5, 4))
        (found,) = torch.autograd.grad((hard * weights).sum(), x)
        (wanted,) = torch.autograd.grad((references.sinkhorn_loop(x, 0.5, 4) * weights).sum(), x)
        torch.testing.assert_close(found, wanted)

    @pytest.mark.parametrize("shape", [(0, 3, 3), (2, 0, 0), (0, 0), (1, 1)])
    def test_empty_and_single(self, shape: tuple[int, ...]) -> None:
        soft = torch.ones(shape)
        assert torch.equal(straight_through(soft), soft)

    def test_zeros_are_avoided_where_possible(self) -> None:
        soft = torch.tensor([[0.9, 0.1], [0.1, 0.0]])
        assert straight_through(soft).tolist() == [[0, 1], [1, 0]]

    def test_is_the_matching_of_the_logarithm(self) -> None:
        soft = sinkhorn(references.matrices((50, 4, 4)))
        wanted = permutation_matrix(matching(soft.log()), torch.float64)
        assert torch.equal(straight_through(soft), wanted)
        assert torch.equal(
            matching(log_sinkhorn(references.matrices((50, 4, 4)))), matching(soft.log())
        )

    @pytest.mark.parametrize(
        ("soft", "error", "message"),
        [
            ([[1.0]], TypeError, "soft must be a torch.Tensor, got list"),
            (torch.ones(1, 1).long(), TypeError, "soft must have a floating dtype"),
            (torch.ones(3), ValueError, r"soft must have shape \(\*, m, n\), got \(3,\)"),
            (torch.full((2, 2), torch.nan), ValueError, r"soft must hold finite .* \(2, 2\)"),
            (torch.full((2, 2), torch.inf), ValueError, "soft must hold finite"),
            (torch.full((2, 2), -0.5), ValueError, "soft must hold finite entries of at least 0"),
        ],
    )
    def test_errors(self, soft: Any, error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            straight_through(soft)


@pytest.mark.parametrize("function", [gumbel_sinkhorn, gumbel_matching])
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"log_alpha": [[0.0]]}, TypeError, "log_alpha must be a torch.Tensor"),
        ({"log_alpha": torch.zeros(2, 2).long()}, TypeError, "log_alpha must have a floating"),
        ({"log_alpha": torch.zeros(3)}, ValueError, "log_alpha must have shape"),
        ({"log_alpha": torch.full((2, 2), torch.nan)}, ValueError, "log_alpha must be finite"),
        ({"log_alpha": torch.full((2, 2), torch.inf)}, ValueError, "log_alpha must be finite"),
        ({"log_alpha": torch.full((2, 2), -torch.inf)}, ValueError, "log_alpha must leave"),
        ({"noise_scale": -1.0}, ValueError, "noise_scale must be finite and at least 0, got -1.0"),
        ({"noise_scale": math.inf}, ValueError, "noise_scale must be finite"),
        ({"noise_scale": math.nan}, ValueError, "noise_scale must be finite"),
        ({"noise_scale": "1"}, TypeError, "noise_scale must be a float, got str"),
        ({"noise_scale": True}, TypeError, "noise_scale must be a float, got bool"),
        ({"sample_shape": -1}, ValueError, "sample_shape must hold integers of at least 0, got -1"),
        ({"sample_shape": (2, -1)}, ValueError, "sample_shape must hold integers of at least 0"),
        ({"sample_shape": (1.5,)}, TypeError, "sample_shape must be an int or a tuple of ints"),
        ({"sample_shape": 1.5}, TypeError, "sample_shape must be an int or a tuple of ints"),
        ({"sample_shape": None}, TypeError, "sample_shape must be an int or a tuple of ints"),
        ({"sample_shape": True}, TypeError, "sample_shape must be an int or a tuple of ints"),
    ],
)
def test_errors(
    function: Any, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        function(**({"log_alpha": torch.zeros(2, 2)} | arguments))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"tau": 0.0}, ValueError, "tau must be positive and finite, got 0.0"),
        ({"tau": "1"}, TypeError, "tau must be a float"),
        ({"tau": torch.ones(2)}, ValueError, r"tau must broadcast .* \(3,\) of log_alpha"),
        ({"n_iters": 0}, ValueError, "n_iters must be at least 1, got 0"),
        ({"tol": -1.0}, ValueError, "tol must be positive"),
        ({"backend": "fortran"}, ValueError, "backend must be one of"),
    ],
)
def test_gumbel_sinkhorn_errors(arguments: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        gumbel_sinkhorn(torch.zeros(3, 2, 2), sample_shape=2, **arguments)


def test_an_impossible_pattern_is_for_the_matching_to_report() -> None:
    x = torch.tensor([[0, -torch.inf, -torch.inf], [0, -torch.inf, -torch.inf], [0, 0, 0]])
    with pytest.raises(ValueError, match="log_alpha must leave at least one permutation"):
        gumbel_matching(x)
