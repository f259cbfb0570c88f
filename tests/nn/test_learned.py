"""A permutation as a parameter."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from softperm import apply_permutation, permutation_matrix, sinkhorn
from softperm.nn import LearnedPermutation
from tests import references


def layer(n: int = 6, **options: Any) -> LearnedPermutation:
    """With scores that are far from uniform."""
    made = LearnedPermutation(n, **options).double()
    with torch.no_grad():
        made.log_alpha.copy_(3 * references.matrices(tuple(made.log_alpha.shape)))
    return made


@pytest.mark.parametrize("dim", [0, 1, 2, -1, -2])
@pytest.mark.parametrize("block_size", [None, 1, 2, 3, 6])
class TestForward:
    def test_soft_in_training(self, dim: int, block_size: int | None) -> None:
        made = layer(block_size=block_size, tau=0.7, n_iters=9)
        P = torch.block_diag(*sinkhorn(made.log_alpha, 0.7, 9))
        x = references.matrices((6, 6, 6))
        wanted = torch.tensordot(x, P, ([dim], [0])).movedim(-1, dim)
        torch.testing.assert_close(made(x, dim), wanted)

    def test_hard_in_evaluation(self, dim: int, block_size: int | None) -> None:
        made = layer(block_size=block_size).eval()
        x = references.matrices((6, 6, 6))
        perm = made.permutation
        assert perm.sort().values.tolist() == list(range(6))
        wanted = torch.empty_like(x)
        for i, j in enumerate(perm.tolist()):
            wanted.select(dim, j).copy_(x.select(dim, i))
            assert block_size is None or i // block_size == j // block_size
        assert torch.equal(made(x, dim), wanted)
        assert torch.equal(made((9 * x).long(), dim), (9 * wanted).long())

    def test_hard_in_training(self, dim: int, block_size: int | None) -> None:
        made = layer(block_size=block_size, hard=True)
        x = references.matrices((6, 6, 6))
        hard = made(x, dim)
        torch.testing.assert_close(hard, made.eval()(x, dim))
        weights = references.matrices((6, 6, 6), seed=1)
        (found,) = torch.autograd.grad((hard * weights).sum(), made.log_alpha)
        soft = layer(block_size=block_size)
        (wanted,) = torch.autograd.grad((soft(x, dim) * weights).sum(), soft.log_alpha)
        torch.testing.assert_close(found, wanted)


def test_noise() -> None:
    made = layer(noise_scale=1.0)
    x = references.matrices((6,))
    first, again, other = (
        made(x, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(made.eval()(x), made(x))


@pytest.mark.parametrize("hard", [False, True])
def test_an_order_is_found(hard: bool) -> None:
    torch.manual_seed(0)
    x = references.matrices((64, 8)).float()
    wanted = torch.tensor([3, 0, 1, 2, 7, 5, 6, 4])
    made = LearnedPermutation(8, block_size=4, tau=0.5, hard=hard)
    optimizer = torch.optim.Adam(made.parameters(), 0.1)
    target = apply_permutation(permutation_matrix(wanted), x.mT).mT
    for _ in range(150):
        optimizer.zero_grad()
        (made(x) - target).square().mean().backward()
        optimizer.step()
    assert torch.equal(made.permutation, wanted)
    assert torch.equal(made.eval()(x), target)


def test_starts_nearly_uniform() -> None:
    made = LearnedPermutation(5)
    torch.testing.assert_close(made.soft()[0], torch.full((5, 5), 0.2), atol=0.03, rtol=0)
    assert float(made.log_alpha.detach().std()) > 0


def test_dtypes_are_promoted_in_training() -> None:
    made = LearnedPermutation(3)
    assert made(torch.ones(3, dtype=torch.float16)).dtype == torch.float32
    assert made(torch.ones(3, dtype=torch.float64)).dtype == torch.float64
    assert made.eval()(torch.ones(3, dtype=torch.float16)).dtype == torch.float16


def test_state() -> None:
    first, second = layer(), LearnedPermutation(6).double()
    second.load_state_dict(first.state_dict())
    assert torch.equal(second.permutation, first.permutation)
    shown = "LearnedPermutation(6, block_size=6, tau=1.0, n_iters=20, noise_scale=0.0, hard=False)"
    assert repr(second) == shown


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"n": 0}, ValueError, "n must be at least 1, got 0"),
        ({"n": 2.0}, TypeError, "n must be an int, got float"),
        ({"block_size": 4}, ValueError, "block_size must divide n, got 4 for 6 items"),
        ({"block_size": 0}, ValueError, "block_size must be at least 1"),
        ({"tau": 0.0}, ValueError, "tau must be positive"),
        ({"n_iters": 0}, ValueError, "n_iters must be at least 1"),
        ({"noise_scale": -1.0}, ValueError, "noise_scale must be finite and at least 0"),
    ],
)
def test_errors(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        LearnedPermutation(**({"n": 6} | arguments))


@pytest.mark.parametrize(("shape", "dim"), [((5,), -1), ((6, 5), 1), ((6,), 1), ((), -1)])
def test_wrong_items(shape: tuple[int, ...], dim: int) -> None:
    with pytest.raises(ValueError, match=rf"x must have 6 items in dimension {dim}, got shape"):
        LearnedPermutation(6)(torch.zeros(shape), dim)


def test_dtypes_are_promoted_under_autocast() -> None:
    with torch.autocast("cpu"):
        assert LearnedPermutation(4)(torch.randn(2, 4)).dtype == torch.float32
