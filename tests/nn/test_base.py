"""What all Sinkhorn networks share."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from softperm import (
    apply_permutation,
    gumbel_sinkhorn,
    matching,
    permutation_matrix,
    sinkhorn,
)
from softperm.distributions import GumbelSinkhorn
from softperm.nn import Ordering, RelativeSortNet, SinkhornNet, SinkhornSortNet
from tests import references


class Linear(SinkhornNet):
    """Scores that are a linear function of each item."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.weights = nn.Parameter(references.matrices((2, 4)))

    def log_alpha(self, items: Tensor) -> Tensor:
        return items @ self.weights


ITEMS = references.matrices((3, 4, 2), seed=1)


@pytest.mark.parametrize("batch", [(), (3,), (2, 3), (0,)])
def test_evaluation_is_the_hard_matching(batch: tuple[int, ...]) -> None:
    net = Linear().eval()
    items = references.matrices((*batch, 4, 2))
    ordered, perm = net(items)
    assert torch.equal(perm, matching(net.log_alpha(items)))
    assert torch.equal(ordered, apply_permutation(perm, items))
    assert perm.shape == (*batch, 4)


@pytest.mark.parametrize("batch", [(), (3,), (2, 3), (0,)])
@pytest.mark.parametrize("sample_shape", [(), 5, (2, 3), (0,)])
def test_training_is_a_gumbel_sinkhorn_sample(batch: tuple[int, ...], sample_shape: Any) -> None:
    net = Linear(tau=0.7, n_iters=6, noise_scale=0.4)
    items = references.matrices((*batch, 4, 2))
    ordered, P = net(items, sample_shape, torch.Generator().manual_seed(3))
    wanted = gumbel_sinkhorn(
        net.log_alpha(items),
        0.7,
        6,
        noise_scale=0.4,
        sample_shape=sample_shape,
        generator=torch.Generator().manual_seed(3),
    )
    torch.testing.assert_close(P, wanted)
    torch.testing.assert_close(ordered, wanted.mT @ items)


def test_the_result_has_names_that_do_not_depend_on_the_mode() -> None:
    net = Linear(noise_scale=0.0)
    soft = net(ITEMS)
    assert isinstance(soft, Ordering)
    assert soft.matrix is soft.permutation
    assert torch.equal(soft.indices, matching(net.log_alpha(ITEMS)))
    hard = net.eval()(ITEMS)
    assert isinstance(hard, Ordering)
    assert hard.indices is hard.permutation
    assert torch.equal(hard.matrix, permutation_matrix(matching(net.log_alpha(ITEMS))))
    ordered, perm = hard
    assert ordered is hard.items
    assert perm is hard.permutation


def test_the_distribution_is_what_training_draws_from() -> None:
    net = Linear(tau=0.7, n_iters=60, noise_scale=0.4, tol=0.1, backend="torch")
    d = net.distribution(ITEMS)
    assert isinstance(d, GumbelSinkhorn)
    seeds = (torch.Generator().manual_seed(3) for _ in range(2))
    found = d.rsample((5,), generator=next(seeds))
    torch.testing.assert_close(found, net(ITEMS, 5, next(seeds)).permutation)
    (grad,) = torch.autograd.grad(found.square().sum(), net.weights)
    assert float(grad.abs().min()) > 0
    torch.testing.assert_close(d.noiseless, sinkhorn(net.log_alpha(ITEMS), 0.7, 60, tol=0.1))


@pytest.mark.parametrize("grad", ["unrolled", "implicit"])
def test_how_it_is_computed_reaches_through(grad: Any) -> None:
    settings: dict[str, Any] = {"tau": 0.05, "n_iters": 2, "tol": 1e-9, "grad": grad}
    nets = [Linear(**settings), SinkhornSortNet(4, **settings), RelativeSortNet(**settings)]
    lists = (ITEMS, ITEMS[..., 0].float(), ITEMS[..., 0].float())
    for net, items in zip(nets, lists, strict=True):
        if grad == "unrolled":
            net(items)
            net.distribution(items).rsample()
            continue
        with pytest.raises(RuntimeError, match="which is not reached"):
            net(items)
        with pytest.raises(RuntimeError, match="which is not reached"):
            net.distribution(items).rsample()


def test_training_draws_anew_every_time() -> None:
    net = Linear()
    assert not torch.equal(net(ITEMS)[1], net(ITEMS)[1])


def test_without_noise() -> None:
    net = Linear(noise_scale=0.0)
    torch.testing.assert_close(net(ITEMS)[1], sinkhorn(net.log_alpha(ITEMS)))


def test_defaults() -> None:
    net = SinkhornNet()
    assert (net.tau, net.n_iters, net.noise_scale) == (1.0, 20, 1.0)


def test_gradients_reach_the_weights() -> None:
    net = Linear()
    net(ITEMS)[0].square().sum().backward()
    assert net.weights.grad is not None
    assert float(net.weights.grad.abs().min()) > 0


def test_shows_its_settings() -> None:
    assert "tau=0.5, n_iters=3, noise_scale=0.0" in repr(
        Linear(tau=0.5, n_iters=3, noise_scale=0.0)
    )


def test_a_subclass_must_give_the_scores() -> None:
    with pytest.raises(NotImplementedError, match=r"SinkhornNet must define log_alpha\(items\)"):
        SinkhornNet()(ITEMS)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"tau": 0.0}, ValueError, "tau must be positive and finite, got 0.0"),
        ({"tau": math.nan}, ValueError, "tau must be positive and finite, got nan"),
        ({"tau": "1"}, TypeError, "tau must be a float, got str"),
        ({"tau": True}, TypeError, "tau must be a float, got bool"),
        ({"n_iters": 0}, ValueError, "n_iters must be at least 1, got 0"),
        ({"n_iters": 1.0}, TypeError, "n_iters must be an int, got float"),
        ({"noise_scale": -1.0}, ValueError, "noise_scale must be finite and at least 0"),
        ({"noise_scale": None}, TypeError, "noise_scale must be a float, got NoneType"),
        ({"tol": 0.0}, ValueError, "tol must be positive and finite, got 0.0"),
        ({"grad": "explicit"}, ValueError, "grad must be one of unrolled, implicit"),
    ],
)
def test_errors(settings: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        SinkhornNet(**settings)
