"""The divergence of Gumbel-Sinkhorn distributions of every shape, and what it is a bound of."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import logistic
from torch import Tensor
from torch.distributions import kl_divergence

from softperm.distributions import GumbelMatching, GumbelSinkhorn
from tests import references
from tests.ops.shape_cases import GIVEN, case
from tests.test_kl import matrix, single

INF = math.inf


def test_forbidden_pairs() -> None:
    q = matrix([0.5, -INF], [1.0, 2.0])
    both = matrix([0.0, -INF], [0.3, -0.2])
    wanted = sum(
        kl_divergence(single(q[i, j].item(), 0.7), single(both[i, j].item(), 1.3)).item()
        for i, j in ((0, 0), (1, 0), (1, 1))
    )

    def found(p: Tensor) -> float:
        return float(kl_divergence(GumbelSinkhorn(q, 0.7), GumbelSinkhorn(p, 1.3)))

    assert found(both) == pytest.approx(wanted)
    only_q = both.masked_fill(both.isneginf(), 4.0)
    assert found(only_q) == pytest.approx(wanted)
    only_p = matrix([0.0, 0.0], [-INF, -0.2])
    assert found(only_p) == INF


def test_what_is_impossible_spoils_neither_gradients_nor_other_matrices() -> None:
    x = torch.zeros(2, 2, 2, dtype=torch.float64, requires_grad=True)
    forbids = torch.tensor([[[0.0, -INF], [0.0, 0.0]], [[0.0, 1.0], [0.0, 0.0]]])
    found = kl_divergence(GumbelSinkhorn(x, 0.8), GumbelSinkhorn(forbids))
    assert found.isinf().tolist() == [True, False]
    (gradient,) = torch.autograd.grad(found.sum(), x)
    assert bool(gradient.isfinite().all())
    assert bool((gradient[1] != 0).all())


@pytest.mark.parametrize("name", GIVEN)
def test_sums_over_the_entries_that_count(name: str) -> None:
    x, arguments = case(name)
    x0 = torch.where(x.isnan(), x, references.matrices(tuple(x.shape), seed=99))
    tau = torch.tensor([[0.7], [1.4]], dtype=torch.float64)
    q, p = GumbelSinkhorn(x, tau, **arguments), GumbelSinkhorn(x0, 0.9, **arguments)
    found = kl_divergence(q, p)
    assert found.shape == q.batch_shape == (2, len(x))
    for (i, t), (b, one) in itertools.product(enumerate(tau.flatten()), enumerate(x)):
        entries = [
            kl_divergence(single(float(one[r, c]), float(t)), single(float(x0[b, r, c]), 0.9))
            for r, c in itertools.product(*map(range, one.shape))
            if not bool(one[r, c].isnan())
        ]
        assert found[i, b].item() == pytest.approx(sum(float(entry) for entry in entries))


def test_sizes_that_only_one_has() -> None:
    x = references.matrices((4, 4))
    few, all_of_it = GumbelSinkhorn(x, n_rows=3, n_cols=3), GumbelSinkhorn(0 * x)
    wanted = kl_divergence(GumbelSinkhorn(x[:3, :3]), GumbelSinkhorn(0 * x[:3, :3]))
    torch.testing.assert_close(kl_divergence(few, all_of_it), wanted)
    assert kl_divergence(all_of_it, few).item() == INF


@pytest.mark.parametrize(
    ("batch", "batch_p", "wanted"),
    [((), (), ()), ((5,), (), (5,)), ((3, 1), (4,), (3, 4)), ((), (2,), (2,)), ((0,), (), (0,))],
)
def test_batches_broadcast(batch: Any, batch_p: Any, wanted: Any) -> None:
    q = GumbelSinkhorn(references.matrices((*batch, 3, 3)))
    p = GumbelSinkhorn(references.matrices((*batch_p, 3, 3), seed=1))
    found = kl_divergence(q, p)
    assert found.shape == wanted
    torch.testing.assert_close(found, kl_divergence(q.expand(wanted), p.expand(wanted)))


def test_matrices_without_entries() -> None:
    empty = GumbelSinkhorn(torch.zeros(2, 0, 0))
    assert kl_divergence(empty, empty).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("dtype", "dtype_p", "wanted"),
    [
        (torch.float16, torch.bfloat16, torch.float32),
        (torch.float32, torch.float32, torch.float32),
        (torch.float32, torch.float64, torch.float64),
    ],
)
def test_dtypes(dtype: Any, dtype_p: Any, wanted: Any) -> None:
    q = GumbelSinkhorn(torch.eye(3, dtype=dtype))
    found = kl_divergence(q, GumbelSinkhorn(torch.zeros(3, 3, dtype=dtype_p)))
    assert found.dtype == wanted
    full = kl_divergence(GumbelSinkhorn(torch.eye(3).double()), GumbelSinkhorn(torch.zeros(3, 3)))
    torch.testing.assert_close(found.double(), full, rtol=1e-6, atol=0)


def density_of_the_difference(x: Tensor, tau: float, grid: Any) -> Any:
    """Of (x00 - x01 + x11 - x10 + noise) / tau, on which alone a 2 x 2 limit depends.

    Differences of two Gumbels are logistic; the density of their sum is a convolution.
    """
    first, second = (x[0, 0] - x[0, 1]).item() / tau, (x[1, 1] - x[1, 0]).item() / tau
    step = grid[1] - grid[0]
    middle = logistic.pdf(grid, first, 1 / tau)
    return step * np.convolve(middle, logistic.pdf(grid, second, 1 / tau), mode="same")


@pytest.mark.parametrize(("tau", "tau_p"), [(1.0, 1.0), (0.7, 1.0), (1.5, 0.8)])
@pytest.mark.parametrize("seed", range(3))
def test_bounds_the_divergence_after_sinkhorn(tau: float, tau_p: float, seed: int) -> None:
    x, x0 = references.matrices((2, 2), seed), references.matrices((2, 2), seed + 10)
    grid = np.linspace(-80, 80, 16_001)
    q, p = (density_of_the_difference(*of, grid) for of in ((x, tau), (x0, tau_p)))
    step = grid[1] - grid[0]
    assert q.sum() * step == pytest.approx(1, abs=1e-6)
    inside = (q > 1e-16) & (p > 1e-16)
    after = float((q * np.log(np.where(inside, q / np.where(inside, p, 1), 1))).sum() * step)
    bound = float(kl_divergence(GumbelSinkhorn(x, tau), GumbelSinkhorn(x0, tau_p)))
    assert 0 < after < bound


@pytest.mark.parametrize("scales", [(0.0, 1.0), (1.0, 0.0), (0.0, 0.0)])
def test_without_noise_there_is_none(scales: tuple[float, float]) -> None:
    q, p = (GumbelSinkhorn(torch.zeros(2, 2), noise_scale=s) for s in scales)
    name = "first" if scales[0] == 0 else "second"
    with pytest.raises(ValueError, match=rf"noise_scale must be above 0 .* got 0\.0 in the {name}"):
        kl_divergence(q, p)


def test_distributions_that_do_not_fit() -> None:
    square = GumbelSinkhorn(torch.zeros(3, 3))
    with pytest.raises(ValueError, match=r"one shape, .* got \(3, 3\) without slack and \(2, 3\)"):
        kl_divergence(square, GumbelSinkhorn(torch.zeros(2, 3)))
    with pytest.raises(ValueError, match=r"\(3, 3\) without slack and \(3, 3\) with slack"):
        kl_divergence(square, GumbelSinkhorn(torch.zeros(3, 3), slack=0.0))
    with pytest.raises(ValueError, match=r"\(3, 3\) without slack and \(2, 2\) with slack"):
        kl_divergence(square, GumbelSinkhorn(torch.zeros(2, 2), slack=0.0))
    with pytest.raises(ValueError, match=r"must broadcast, got \(2,\), \(3,\)"):
        kl_divergence(square.expand((2,)), square.expand((3,)))
    with pytest.raises(NotImplementedError):
        kl_divergence(square, GumbelMatching(torch.zeros(3, 3)))
