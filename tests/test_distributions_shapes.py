"""The distributions over matrices of any shape."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from softperm import gumbel_matching, gumbel_sinkhorn, matching, permutation_matrix, sinkhorn
from softperm.distributions import GumbelMatching, GumbelSinkhorn, partial_permutation, permutation
from tests import references
from tests.ops.shape_cases import GIVEN, case


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", GIVEN)
class TestGumbelSinkhorn:
    def test_samples_are_those_of_the_function(self, name: str) -> None:
        x, given = case(name)
        d = GumbelSinkhorn(x, 0.6, 30, 0.7, **given)
        draws = d.rsample((3,), generator=seeded())
        wanted = gumbel_sinkhorn(
            x, 0.6, 30, noise_scale=0.7, sample_shape=3, generator=seeded(), **given
        )
        assert draws.shape == (3, *d.batch_shape, *d.event_shape)
        torch.testing.assert_close(draws, wanted)
        torch.testing.assert_close(d.noiseless, sinkhorn(x, 0.6, 30, **given))

    @pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
    @pytest.mark.parametrize("tau", [0.1, 1.0])
    def test_samples_are_in_the_support(self, name: str, dtype: Any, tau: float) -> None:
        x, given = case(name)
        d = GumbelSinkhorn(x.to(dtype), tau, **given)
        draws = d.sample((20,))
        assert bool(d.support.check(draws).all())
        assert not bool(d.support.check(draws + 1.1).any())
        assert not bool(d.support.check(draws[..., :-1]).all()) or "ragged" in name

    def test_expand(self, name: str) -> None:
        x, given = case(name)
        d = GumbelSinkhorn(x, **given)
        wide = d.expand((5, *d.batch_shape))
        assert wide.sample((2,)).shape == (2, 5, *d.batch_shape, *d.event_shape)
        torch.testing.assert_close(wide.noiseless[3], d.noiseless)
        assert bool(wide.support.check(wide.sample((2,))).all())


def test_how_it_is_computed_reaches_through() -> None:
    x = references.matrices((3, 4)).requires_grad_()
    slow = GumbelSinkhorn(3 * x, 0.3, 2, tol=1e-9, grad="implicit")
    with pytest.raises(RuntimeError, match="which is not reached"):
        slow.rsample()
    with pytest.raises(ValueError, match="backend must be one of"):
        GumbelSinkhorn(x, backend="fortran")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="grad must be one of"):
        GumbelSinkhorn(x, grad="explicit")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="tol must be positive"):
        GumbelSinkhorn(x, tol=0.0)
    early = GumbelSinkhorn(x, 1.0, 500, noise_scale=0.0, tol=0.3).sample()
    assert torch.equal(early, sinkhorn(x, 1.0, 500, tol=0.3))


def test_hard_samples() -> None:
    x = references.matrices((2, 3, 4)).requires_grad_()
    hard = GumbelSinkhorn(x).rsample((5,), generator=seeded(), hard=True)
    assert bool(partial_permutation.check(hard).all())
    assert hard.requires_grad
    assert torch.equal(hard.detach(), GumbelMatching(x).sample((5,), generator=seeded()))


@pytest.mark.parametrize(
    ("shape", "given"),
    [
        ((2, 3, 5), {}),
        ((2, 5, 3), {}),
        ((2, 3, 3), {"unmatched": torch.tensor([[0.5], [2.0]])}),
        ((2, 3, 4), {"n_rows": torch.tensor([2, 0]), "n_cols": torch.tensor([4, 1])}),
    ],
)
def test_gumbel_matching(shape: Any, given: dict[str, Any]) -> None:
    x = references.matrices(shape)
    d = GumbelMatching(x, 0.7, **given)
    draws = d.sample((6,), generator=seeded())
    perm = gumbel_matching(x, noise_scale=0.7, sample_shape=6, generator=seeded(), **given)
    assert torch.equal(draws, permutation_matrix(perm, torch.float64, shape[-1]))
    assert torch.equal(
        d.noiseless, permutation_matrix(matching(x, **given), torch.float64, shape[-1])
    )
    assert d.support is partial_permutation
    assert bool(d.support.check(draws).all())
    assert d.expand((4, 2)).sample().shape == (4, *shape)


def test_partial_permutations() -> None:
    P = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    assert bool(partial_permutation.check(P))
    assert not bool(permutation.check(P))
    assert not bool(permutation.check(torch.zeros(2, 2)))
    bad: list[Tensor] = [P + 0.5, P[:1].expand(2, 3), torch.ones(1, 2)]
    assert not any(bool(partial_permutation.check(other)) for other in bad)


def test_what_does_not_count_is_not_looked_at() -> None:
    x = torch.zeros(2, 2, 3)
    x[0, :, 2] = torch.nan
    sizes: dict[str, Any] = {"n_cols": torch.tensor([2, 3])}
    assert GumbelSinkhorn(x, **sizes).sample().shape == (2, 2, 3)
    assert GumbelMatching(x, **sizes).sample().shape == (2, 2, 3)
    for distribution in (GumbelSinkhorn, GumbelMatching):
        with pytest.raises(ValueError, match="log_alpha must be finite"):
            distribution(x)
