"""The distributions, against the functions they are made of."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.distributions import Independent

from softperm import (
    gumbel_matching,
    gumbel_sinkhorn,
    matching,
    permutation_matrix,
    sample_gumbel,
    sinkhorn,
)
from softperm.distributions import (
    DoublyStochastic,
    GumbelMatching,
    GumbelSinkhorn,
    doubly_stochastic,
    permutation,
)
from tests import references

BOTH = [GumbelSinkhorn, GumbelMatching]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("distribution", BOTH)
@pytest.mark.parametrize("batch", [(), (3,), (2, 3), (0,)])
@pytest.mark.parametrize("sample_shape", [(), (5,), (4, 2), torch.Size([1]), 3])
def test_shapes(distribution: Any, batch: tuple[int, ...], sample_shape: Any) -> None:
    d = distribution(references.matrices((*batch, 4, 4)))
    assert d.batch_shape == batch
    assert d.event_shape == (4, 4)
    sizes = (sample_shape,) if isinstance(sample_shape, int) else tuple(sample_shape)
    draw = d.sample(sample_shape)
    assert draw.shape == (*sizes, *batch, 4, 4)
    assert draw.dtype == torch.float64
    assert d.noiseless.shape == (*batch, 4, 4)
    assert bool(permutation.check(draw).all()) == (
        distribution is GumbelMatching or not draw.numel()
    )


def test_samples_are_those_of_the_functions() -> None:
    x = references.matrices((2, 4, 4))
    soft = GumbelSinkhorn(x, 0.5, 30, 0.7).rsample((3,), generator=seeded())
    wanted = gumbel_sinkhorn(x, 0.5, 30, noise_scale=0.7, sample_shape=3, generator=seeded())
    torch.testing.assert_close(soft, wanted)
    hard = GumbelMatching(x, 0.7).sample((3,), generator=seeded())
    perm = gumbel_matching(x, noise_scale=0.7, sample_shape=3, generator=seeded())
    assert torch.equal(hard, permutation_matrix(perm, torch.float64))


def test_noiseless_matrices() -> None:
    x = references.matrices((2, 4, 4))
    torch.testing.assert_close(GumbelSinkhorn(x, 0.5, 30).noiseless, sinkhorn(x, 0.5, 30))
    assert torch.equal(GumbelMatching(x).noiseless, permutation_matrix(matching(x), torch.float64))


@pytest.mark.parametrize("distribution", BOTH)
def test_without_noise_every_sample_is_the_noiseless_matrix(distribution: Any) -> None:
    d = distribution(references.matrices((2, 3, 3)), noise_scale=0.0)
    assert torch.equal(d.sample((5,)), d.noiseless.expand(5, 2, 3, 3))


def test_a_tau_for_every_matrix() -> None:
    x, tau = references.matrices((3, 3)), torch.tensor([0.1, 1.0, 1e9])
    d = GumbelSinkhorn(x, tau)
    assert d.batch_shape == (3,)
    draw = d.sample((3,))
    assert draw.shape == (3, 3, 3, 3)
    torch.testing.assert_close(draw[:, 2], torch.full((3, 3, 3), 1 / 3).double())
    wanted = torch.stack([sinkhorn(x, float(t)) for t in tau])
    torch.testing.assert_close(d.noiseless, wanted)


def test_rsample_is_differentiable_and_sample_is_not() -> None:
    x = references.matrices((2, 3, 3)).requires_grad_()
    tau = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    assert GumbelSinkhorn.has_rsample
    assert torch.autograd.gradcheck(
        lambda x, t: GumbelSinkhorn(x, t, 4).rsample((2,), generator=seeded()), (x, tau)
    )
    assert not GumbelSinkhorn(x, tau).sample().requires_grad
    assert not GumbelMatching.has_rsample
    assert not GumbelMatching(x).sample().requires_grad
    with pytest.raises(NotImplementedError):
        GumbelMatching(x).rsample()


@pytest.mark.parametrize("distribution", BOTH)
def test_generator(distribution: Any) -> None:
    d = distribution(references.matrices((4, 4)))
    first, again, other = (d.sample((6,), generator=seeded(s)) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    torch.manual_seed(1)
    assert torch.equal(d.sample((6,)), first)


@pytest.mark.parametrize("distribution", BOTH)
def test_expand(distribution: Any) -> None:
    d = distribution(references.matrices((3, 1, 4, 4)), noise_scale=0.5)
    wide = d.expand((2, 3, 5))
    assert isinstance(wide, distribution)
    assert (wide.batch_shape, wide.event_shape) == ((2, 3, 5), (4, 4))
    assert wide.noise_scale == 0.5
    torch.testing.assert_close(wide.noiseless, d.noiseless.expand(2, 3, 5, 4, 4))
    draws = wide.sample((7,))
    assert draws.shape == (7, 2, 3, 5, 4, 4)
    assert len(draws[:, 0, 0].reshape(-1, 16).unique(dim=0)) > 5


def test_expand_keeps_the_settings() -> None:
    wide = GumbelSinkhorn(torch.zeros(2, 2), 0.3, 7).expand((4,))
    assert (wide.n_iters, wide.tau.shape) == (7, (4,))
    assert bool((wide.tau == 0.3).all())


@pytest.mark.parametrize("distribution", BOTH)
def test_support(distribution: Any) -> None:
    d = distribution(
        references.matrices((2, 4, 4)),
        **({} if distribution is GumbelMatching else {"n_iters": 500}),
    )
    assert bool(d.support.check(d.sample((20,))).all())
    Independent(d, 1).support.check(d.sample())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("tau", [1e-4, 0.1, 1.0])
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
@pytest.mark.parametrize("n", [1, 2, 5, 40])
def test_every_sample_is_in_the_support(
    n: int, scale: float, tau: float, dtype: torch.dtype
) -> None:
    d = GumbelSinkhorn((scale * references.matrices((3, n, n))).to(dtype), tau, 20)
    draws = d.sample((50,), generator=seeded())
    found = d.support.check(draws)
    assert found.shape == (50, 3)
    assert bool(found.all())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_support_is_as_narrow_as_rounding(dtype: torch.dtype) -> None:
    d = GumbelSinkhorn(torch.zeros(4, 4, dtype=dtype), 0.1)
    P = d.sample(generator=seeded())
    off = P.clone()
    row = int(P[:, 0].argmax())
    off[row, 0] *= 1 - max(40 * torch.finfo(dtype).eps, 4e-12)
    assert bool(d.support.check(P))
    assert not bool(d.support.check(off))
    negative = torch.eye(4, dtype=dtype)
    negative[0, :2] = torch.tensor([1.25, -0.25])
    assert not bool(d.support.check(negative))
    assert not bool(d.support.check(torch.full((4, 4), torch.nan, dtype=dtype)))
    assert not bool(d.support.check(torch.full((4, 3), 0.25, dtype=dtype)))


@pytest.mark.parametrize("n_iters", [20, 500])
def test_no_number_of_iterations_bounds_the_rows(n_iters: int) -> None:
    """Two rows want the same column; the others are worse by far more than a step can mend."""
    x = torch.tensor([[0.0, -1.0, -1.0], [0.0, -5.0, -5.0], [0.0, -5.0, -5.0]]) * 1000
    d = GumbelSinkhorn(x, n_iters=n_iters, noise_scale=0.0)
    P = d.sample()
    assert float((P.sum(-1) - 1).abs().max()) > 0.3
    assert bool(d.support.check(P))
    assert not bool(doubly_stochastic.check(P))


def test_the_support_has_the_shape_of_the_batch() -> None:
    d = GumbelSinkhorn(references.matrices((3, 1, 4, 4)), torch.tensor([1e-3, 1.0]))
    assert bool(d.support.check(d.sample((5,))).all())
    assert d.support.check(d.sample((5,))).shape == (5, 3, 2)
    empty = GumbelSinkhorn(torch.zeros(2, 0, 0))
    assert bool(empty.support.check(empty.sample((5,))).all())


def test_doubly_stochastic_within_a_distance() -> None:
    P = torch.tensor([[0.6, 0.5], [0.4, 0.5]])
    found = [bool(DoublyStochastic(atol).check(P)) for atol in (0.05, 0.11, 0.2)]
    assert found == [False, True, True]
    ones = torch.full((1000, 1000), 1e-3).bfloat16()  # each entry is off by 4e-4 of itself
    assert bool(DoublyStochastic(1e-3).check(ones))
    with pytest.raises(ValueError, match=r"atol must be positive and finite, got -1\.0"):
        DoublyStochastic(-1.0)


def test_constraints() -> None:
    eye, half = torch.eye(2), torch.full((2, 2), 0.5)
    stack = torch.stack(
        [eye, half, eye * 2, torch.ones(2, 2), half * torch.tensor([[3, -1], [-1, 3]])]
    )
    assert doubly_stochastic.check(stack).tolist() == [True, True, False, False, False]
    assert permutation.check(stack).tolist() == [True, False, False, False, False]
    for constraint in (doubly_stochastic, permutation):
        assert constraint.event_dim == 2
        assert not bool(constraint.check(torch.ones(2, 3)).any())
        assert not bool(constraint.check(torch.full((2, 2), math.nan)).any())
    assert permutation.is_discrete
    assert not doubly_stochastic.is_discrete


@pytest.mark.parametrize("distribution", BOTH)
@pytest.mark.parametrize(
    ("ask", "what", "instead"),
    [
        (
            lambda d: d.log_prob(torch.eye(2)),
            "probability",
            r"torch\.distributions\.Gumbel",
        ),
        (lambda d: d.entropy(), "entropy", r"torch\.special\.entr\(d\.noiseless\)"),
        (lambda d: d.mean, "mean", "the average of samples"),
        (lambda d: d.mode, "mode", r"Use d\.noiseless"),
    ],
)
def test_what_has_no_closed_form_says_so(
    distribution: Any, ask: Any, what: str, instead: str
) -> None:
    with pytest.raises(
        NotImplementedError,
        match=f"{distribution.__name__} has no closed form of its {what}: .* {instead}",
    ):
        ask(distribution(torch.zeros(2, 2)))


@pytest.mark.parametrize("distribution", BOTH)
@pytest.mark.parametrize("ask", [lambda d: d.log_prob(torch.eye(2)), lambda d: d.entropy()])
def test_what_has_no_closed_form_leads_to_the_divergence(distribution: Any, ask: Any) -> None:
    with pytest.raises(NotImplementedError, match=r"torch\.distributions\.kl_divergence"):
        ask(distribution(torch.zeros(2, 2)))


@pytest.mark.parametrize("distribution", BOTH)
def test_names_itself(distribution: Any) -> None:
    assert repr(distribution(torch.zeros(2, 2))).startswith(distribution.__name__)


def test_forbidden_pairs() -> None:
    x = torch.tensor([[0.0, -math.inf], [0.0, 0.0]])
    assert torch.equal(GumbelMatching(x).sample((9,)), torch.eye(2).expand(9, 2, 2))
    assert bool((GumbelSinkhorn(x).sample((9,))[:, 0, 1] == 0).all())


def test_noise_of_the_documented_scale() -> None:
    x = torch.zeros(2, 2, dtype=torch.float64)
    noise = sample_gumbel((2, 2), dtype=torch.float64, generator=seeded())
    found = GumbelSinkhorn(x, noise_scale=2.0).sample(generator=seeded())
    torch.testing.assert_close(found, sinkhorn(2.0 * noise))


@pytest.mark.parametrize("distribution", BOTH)
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"log_alpha": [[0.0]]}, TypeError, "log_alpha must be a torch.Tensor"),
        ({"log_alpha": torch.zeros(2, 2).long()}, TypeError, "log_alpha must have a floating"),
        ({"log_alpha": torch.zeros(3)}, ValueError, "log_alpha must have shape"),
        ({"log_alpha": torch.full((2, 2), math.nan)}, ValueError, "log_alpha must be finite"),
        ({"noise_scale": -1.0}, ValueError, "noise_scale must be finite and at least 0"),
        ({"noise_scale": "1"}, TypeError, "noise_scale must be a float"),
    ],
)
def test_errors(
    distribution: Any, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        distribution(**({"log_alpha": torch.zeros(2, 2)} | arguments))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"tau": 0.0}, ValueError, "tau must be positive"),
        ({"tau": torch.tensor([1.0, -1.0])}, ValueError, "tau must be positive"),
        ({"tau": "1"}, TypeError, "tau must be a float"),
        ({"tau": torch.ones(2)}, ValueError, "tau must broadcast"),
        ({"n_iters": 0}, ValueError, "n_iters must be at least 1"),
    ],
)
def test_gumbel_sinkhorn_errors(arguments: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        GumbelSinkhorn(torch.zeros(3, 2, 2), **arguments)


@pytest.mark.parametrize("distribution", BOTH)
def test_sampling_errors(distribution: Any) -> None:
    d = distribution(torch.zeros(2, 2))
    with pytest.raises(ValueError, match="sample_shape must hold integers of at least 0"):
        d.sample((-1,))
    with pytest.raises(TypeError, match="sample_shape must be an int or a tuple of ints"):
        d.sample(None)
    impossible = torch.tensor([[0.0, -math.inf], [0.0, -math.inf]])
    with pytest.raises(ValueError, match="log_alpha must leave at least one permutation"):
        distribution(impossible).sample()
