"""The divergence of Gumbel-Sinkhorn distributions, against integrals, samples and mpmath."""

from __future__ import annotations

import itertools
import math
from typing import Any

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import gumbel_r
from torch import Tensor
from torch.distributions import Gumbel, kl_divergence

from softperm.distributions import GumbelSinkhorn
from tests import references

INF = math.inf
EXTREMES = [1e-4, 1e-2, 1.0, 1e2, 1e4]


def matrix(*rows: list[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def single(x: float, tau: float, s: float = 1.0) -> GumbelSinkhorn:
    return GumbelSinkhorn(matrix([x]), tau, noise_scale=s)


def integral(x: float, tau: float, s: float, x0: float, tau_p: float, s_p: float) -> float:
    """The divergence of one entry by quadrature over the noise."""
    q = gumbel_r(x / tau, s / tau)
    p = gumbel_r(x0 / tau_p, s_p / tau_p)

    def integrand(g: float) -> float:
        z = (x + s * g) / tau
        return float(gumbel_r.pdf(g) * (q.logpdf(z) - p.logpdf(z)))

    pieces = [-7.0, -4.0, -2.0, 0.0, 3.0, 10.0, 60.0]  # noise beyond is rarer than e^-60
    parts = [quad(integrand, *ends, epsabs=1e-12)[0] for ends in itertools.pairwise(pieces)]
    return math.fsum(parts)


@pytest.mark.parametrize(("s", "s_p"), [(1.0, 1.0), (0.5, 1.0), (1.5, 0.8)])
@pytest.mark.parametrize("tau", [0.4, 1.0, 2.5])
@pytest.mark.parametrize("tau_p", [0.5, 1.0, 2.0])
def test_is_the_integral(s: float, s_p: float, tau: float, tau_p: float) -> None:
    for x, x0 in [(-2.0, 0.0), (0.0, 0.0), (0.3, 1.5), (5.0, -1.0), (1.0, 1.0)]:
        wanted = integral(x, tau, s, x0, tau_p, s_p)
        found = kl_divergence(single(x, tau, s), single(x0, tau_p, s_p))
        assert found.item() == pytest.approx(wanted, rel=1e-8, abs=1e-10)


def test_is_the_average_over_samples() -> None:
    x, x0 = references.matrices((2, 3, 4)), references.matrices((2, 3, 4), seed=1)
    tau, tau_p = np.array([0.7, 1.2]), np.array([0.9, 0.8])
    noise = np.random.default_rng(0).gumbel(size=(100_000, 2, 3, 4))
    t, t0 = tau[:, None, None], tau_p[:, None, None]
    z = (x.numpy() + 0.8 * noise) / t
    log_q = gumbel_r.logpdf(z, x.numpy() / t, 0.8 / t).sum((-2, -1))
    log_p = gumbel_r.logpdf(z, x0.numpy() / t0, 1.1 / t0).sum((-2, -1))
    q = GumbelSinkhorn(x, torch.from_numpy(tau), noise_scale=0.8)
    p = GumbelSinkhorn(x0, torch.from_numpy(tau_p), noise_scale=1.1)
    found = kl_divergence(q, p).numpy()
    error = (log_q - log_p).std(0) / math.sqrt(len(noise))
    assert np.all(np.abs((log_q - log_p).mean(0) - found) < 4 * error)
    assert np.all(error < 0.01 * found)


@given(
    x=st.floats(-5, 5),
    x0=st.floats(-5, 5),
    tau=st.floats(0.2, 5),
    tau_p=st.floats(0.2, 5),
    s=st.floats(0.3, 3),
    s_p=st.floats(0.3, 3),
)
@settings(max_examples=60, deadline=None)
def test_is_that_of_the_gumbels_of_torch(
    x: float, x0: float, tau: float, tau_p: float, s: float, s_p: float
) -> None:
    found = kl_divergence(single(x, tau, s), single(x0, tau_p, s_p))
    locations = torch.tensor([x / tau, x0 / tau_p], dtype=torch.float64)
    q, p = (Gumbel(at, scale) for at, scale in zip(locations, (s / tau, s_p / tau_p), strict=True))
    torch.testing.assert_close(found, kl_divergence(q, p), rtol=1e-9, atol=1e-9)
    assert found.item() >= 0
    rescaled = kl_divergence(single(x / s, tau / s), single(x0 / s_p, tau_p / s_p))
    torch.testing.assert_close(found, rescaled, rtol=1e-9, atol=1e-12)


def test_is_the_formula_of_the_paper() -> None:
    x, tau, tau_p = references.matrices((4, 4)), 0.6, 1.3
    ratio = tau_p / tau
    wanted = (
        math.log(tau)
        - np.euler_gamma
        - 1
        - math.log(tau_p)
        + ratio * (x + np.euler_gamma)
        + math.gamma(1 + ratio) * torch.exp(-x * ratio)
    )
    found = kl_divergence(GumbelSinkhorn(x, tau), GumbelSinkhorn(torch.zeros(4, 4), tau_p))
    torch.testing.assert_close(found, wanted.sum())


@pytest.mark.parametrize("tau", EXTREMES)
def test_is_zero_for_the_same_distribution_and_tiny_beside_it(tau: float) -> None:
    x = references.matrices((5, 6, 7), scale=10)
    q = GumbelSinkhorn(x, tau, noise_scale=0.3)
    assert kl_divergence(q, GumbelSinkhorn(x, tau, noise_scale=0.3)).tolist() == [0] * 5
    step = 1e-6  # the divergence of two Gumbels of scale 1 is step^2 / 2 + O(step^3)
    beside = kl_divergence(single(step, tau), single(0.0, tau)).item()
    assert beside == pytest.approx(step**2 / 2, rel=1e-5)


def exact(x: float, tau: float, s: float, x0: float, tau_p: float, s_p: float) -> Any:
    """One entry in the textbook form, to so many digits that nothing is lost."""
    with mpmath.workdps(80):
        at, scale, at0, scale0 = (
            mpmath.mpf(a) / mpmath.mpf(b)
            for a, b in ((x, tau), (s, tau), (x0, tau_p), (s_p, tau_p))
        )
        a, d = scale / scale0, (at - at0) / scale0
        far = mpmath.exp(mpmath.loggamma(1 + a) - d)
        return -mpmath.log(a) + mpmath.euler * (a - 1) - 1 + d + far


@pytest.mark.parametrize("tau", EXTREMES)
@pytest.mark.parametrize("tau_p", EXTREMES)
@pytest.mark.parametrize(("s", "s_p"), [(1.0, 1.0), (1e-4, 1e-4), (1e4, 1e-3)])
@pytest.mark.parametrize(("x", "x0"), [(0.0, 0.0), (2.0, -1.0), (-1e4, 1e4)])
def test_extremes(tau: float, tau_p: float, s: float, s_p: float, x: float, x0: float) -> None:
    given_x, given_x0 = (matrix([v]).requires_grad_() for v in (x, x0))
    taus = [torch.tensor(t, dtype=torch.float64, requires_grad=True) for t in (tau, tau_p)]
    q = GumbelSinkhorn(given_x, taus[0], noise_scale=s)
    p = GumbelSinkhorn(given_x0, taus[1], noise_scale=s_p)
    found = kl_divergence(q, p)
    wanted = exact(x, tau, s, x0, tau_p, s_p)
    if wanted < 1e276:
        # delta is a difference of products, of which each is rounded
        rounding = 1e-15 * (abs(x) * tau_p / tau + abs(x0)) / s_p
        assert found.item() == pytest.approx(float(wanted), rel=1e-11 + 2 * rounding, abs=1e-12)
    else:
        assert 1e276 < found.item() < INF
    for gradient in torch.autograd.grad(found, [given_x, given_x0, *taus]):
        assert bool(gradient.isfinite().all())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("tau", EXTREMES)
@pytest.mark.parametrize("tau_p", EXTREMES)
def test_low_precision_is_finite_at_every_temperature(dtype: Any, tau: float, tau_p: float) -> None:
    x = references.matrices((20, 30)).to(dtype).requires_grad_()
    found = kl_divergence(GumbelSinkhorn(x, tau), GumbelSinkhorn(torch.zeros_like(x), tau_p))
    assert found.dtype == torch.float32
    full = GumbelSinkhorn(x.detach().double(), tau)
    wanted = kl_divergence(full, GumbelSinkhorn(torch.zeros(20, 30).double(), tau_p))
    largest = torch.finfo(torch.float32).max
    torch.testing.assert_close(found, wanted.clamp(max=largest).float())
    (gradient,) = torch.autograd.grad(found, x)
    assert bool(gradient.isfinite().all())


def test_scores_far_apart() -> None:
    assert kl_divergence(single(1e300, 1e-4), single(-1e300, 1.0)).item() > 1e92
    assert 1e276 < kl_divergence(single(-1e300, 1e-4), single(1e300, 1.0)).item() < INF


def test_gradients() -> None:
    x, x0 = (references.matrices((2, 3, 4), seed=seed) for seed in (0, 1))
    x[0, 1, 2] = x0[0, 1, 2] = x[1, 0, 0] = -INF
    tau, tau_p = (torch.tensor(t, dtype=torch.float64) for t in ([0.7, 1.6], [1.2]))
    inputs = [value.requires_grad_() for value in (x, x0, tau, tau_p)]

    def divergence(x: Tensor, x0: Tensor, tau: Tensor, tau_p: Tensor) -> Any:
        q = GumbelSinkhorn(x, tau, noise_scale=0.6)
        return kl_divergence(q, GumbelSinkhorn(x0, tau_p))

    analytic = torch.autograd.grad(divergence(*inputs).sum(), inputs)
    assert all(bool(gradient.isfinite().all()) for gradient in analytic)
    assert analytic[0][0, 1, 2] == analytic[1][0, 1, 2] == analytic[1][1, 0, 0] == 0

    allowed = ~x.isneginf().detach()

    def of_the_allowed(x: Tensor, x0: Tensor, tau: Tensor, tau_p: Tensor) -> Any:
        x, x0 = (torch.where(allowed, y, -INF) for y in (x, x0))
        return divergence(x, x0, tau, tau_p)

    free = [torch.where(allowed, y, 0.0).detach().requires_grad_() for y in (x, x0)]
    assert torch.autograd.gradcheck(of_the_allowed, (*free, tau, tau_p))
    assert torch.autograd.gradgradcheck(of_the_allowed, (*free, tau, tau_p))


def test_transforms_go_through_it() -> None:
    x = references.matrices((5, 3, 3))

    def divergence(x: Tensor) -> Any:
        return kl_divergence(GumbelSinkhorn(x, 0.8), GumbelSinkhorn(torch.zeros(3, 3), 1.0))

    mapped = torch.func.vmap(torch.func.grad(divergence))(x)
    looped = torch.stack([torch.func.grad(divergence)(y) for y in x])
    torch.testing.assert_close(mapped, looped)
