"""The metrics, against SciPy, loops and exhaustive search over equivalent permutations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from softperm import random_permutation
from softperm.metrics import kendall_tau, prop_any_wrong, prop_wrong
from tests import references

Metric = Callable[..., Tensor]
METRICS: list[Metric] = [kendall_tau, prop_wrong, prop_any_wrong]


def test_values_by_hand() -> None:
    perm, target = torch.tensor([0, 2, 1, 3]), torch.arange(4)
    # One of six pairs is discordant: 1 - 2 / 6; two of four items are misplaced.
    assert float(kendall_tau(perm, target)) == pytest.approx(2 / 3)
    assert float(prop_wrong(perm, target)) == 0.5
    assert float(prop_any_wrong(perm, target)) == 1.0
    assert float(kendall_tau(target.flip(0), target)) == -1.0
    for metric, best in zip(METRICS, (1.0, 0.0, 0.0), strict=True):
        assert float(metric(perm, perm)) == best


@pytest.mark.parametrize("n", [2, 3, 4])
def test_every_pair(n: int) -> None:
    perms = references.all_permutations(n)
    found = {metric: metric(perms.unsqueeze(1), perms) for metric in METRICS}
    for a, perm in enumerate(perms):
        for b, target in enumerate(perms):
            wrong = references.share_wrong(perm, target)
            assert float(found[kendall_tau][a, b]) == pytest.approx(
                references.tau_by_scipy(perm, target), abs=1e-6
            )
            assert float(found[prop_wrong][a, b]) == pytest.approx(wrong)
            assert float(found[prop_any_wrong][a, b]) == float(wrong > 0)


@pytest.mark.parametrize("n", [10, 60])
def test_kendall_tau_of_long_permutations(n: int, generator: torch.Generator) -> None:
    perm, target = random_permutation(n, (2, 20), generator=generator)
    wanted = [references.tau_by_scipy(p, t) for p, t in zip(perm, target, strict=True)]
    torch.testing.assert_close(kendall_tau(perm, target), torch.tensor(wanted))


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_labels_against_exhaustive_search(n: int, generator: torch.Generator) -> None:
    perm, target = random_permutation(n, (2, 25), generator=generator)
    labels = torch.randint(-1, 2, (25, n), generator=generator)
    found = [metric(perm, target, labels) for metric in METRICS]
    for b in range(25):
        case = perm[b], target[b], labels[b]
        distance = references.nearest(lambda p, t: -references.tau_by_scipy(p, t), *case)
        wrong = references.nearest(references.share_wrong, *case)
        assert float(found[0][b]) == pytest.approx(-distance, abs=1e-6)
        assert float(found[1][b]) == pytest.approx(wrong)
        assert float(found[2][b]) == float(wrong > 0)


@pytest.mark.parametrize("metric", METRICS)
def test_labels_at_their_extremes(metric: Metric, generator: torch.Generator) -> None:
    perm, target = random_permutation(6, (2, 30), generator=generator)
    distinct = random_permutation(6, (30,), generator=generator) * 7
    assert torch.equal(metric(perm, target, distinct), metric(perm, target))
    same = torch.full((6,), 3)
    assert torch.equal(metric(perm, target, same), metric(target, target))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("batch", [(), (3,), (2, 3), (0,)])
@pytest.mark.parametrize("n", [0, 1, 4])
def test_shapes(metric: Metric, batch: tuple[int, ...], n: int) -> None:
    perm = random_permutation(n, batch)
    best = metric(perm, perm)
    assert best.shape == batch
    assert best.dtype == torch.get_default_dtype()
    assert bool((best == (1.0 if metric is kendall_tau else 0.0)).all())
    assert torch.equal(metric(perm, perm, perm), best)


@pytest.mark.parametrize("metric", METRICS)
def test_batch_dimensions_broadcast(metric: Metric, generator: torch.Generator) -> None:
    perm = random_permutation(4, (5, 1), generator=generator)
    target = random_permutation(4, (3,), generator=generator)
    labels = torch.tensor([0, 1, 1, 2])
    found = metric(perm, target, labels)
    assert found.shape == (5, 3)
    for i in range(5):
        for j in range(3):
            assert torch.equal(found[i, j], metric(perm[i, 0], target[j], labels))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.uint8])
def test_index_dtypes(metric: Metric, dtype: torch.dtype) -> None:
    perm, target = torch.tensor([2, 0, 1, 3]), torch.tensor([0, 1, 3, 2])
    labels = torch.tensor([0, 0, 1, 2])
    found = metric(perm.to(dtype), target.to(dtype), labels.to(dtype))
    assert torch.equal(found, metric(perm, target, labels))


def test_partial_permutations() -> None:
    perm = torch.tensor([[1, -1, 0, -1], [1, -1, 0, -1], [-1, -1, -1, -1], [5, 9, -1, 0]])
    target = torch.tensor([[1, -1, 0, -1], [1, -1, -1, 0], [3, 0, 2, -1], [5, 8, -1, -1]])
    assert prop_wrong(perm, target).tolist() == [0, 0.5, 0.75, 0.5]
    assert prop_any_wrong(perm, target).tolist() == [0, 1, 1, 1]


@pytest.mark.parametrize("metric", [prop_wrong, prop_any_wrong])
def test_partial_permutations_are_checked(metric: Metric) -> None:
    good = torch.tensor([0, -1, 4])
    for bad in ([0, 0, -1], [0, -2, 1]):
        with pytest.raises(ValueError, match=r"perm must hold every index once at most .* and -1"):
            metric(torch.tensor(bad), good)
        with pytest.raises(ValueError, match="target must hold every index once at most"):
            metric(good, torch.tensor(bad))
    with pytest.raises(ValueError, match=r"perm must hold every index 0..2 once"):
        metric(good, torch.arange(3), torch.arange(3))  # labels need every position


def test_kendall_tau_refuses_partial_permutations() -> None:
    with pytest.raises(ValueError, match=r"perm must hold every index 0..2 once"):
        kendall_tau(torch.tensor([0, -1, 1]), torch.arange(3))
    with pytest.raises(ValueError, match=r"target must hold every index 0..2 once"):
        kendall_tau(torch.arange(3), torch.tensor([0, -1, 1]))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([0, 1], torch.tensor([0, 1])), TypeError, "perm must be a torch.Tensor"),
        ((torch.tensor([0, 1]), [0, 1]), TypeError, "target must be a torch.Tensor"),
        ((torch.tensor([0.0, 1.0]), torch.tensor([0, 1])), TypeError, "perm must hold integer"),
        ((torch.tensor([0, 1]), torch.tensor([0.0, 1.0])), TypeError, "target must hold integer"),
        ((torch.tensor([0, 0]), torch.tensor([0, 1])), ValueError, "perm must hold every index"),
        ((torch.tensor([0, 1]), torch.tensor([1, 1])), ValueError, "target must hold every index"),
        ((torch.tensor(0), torch.tensor([0, 1])), ValueError, "perm must have shape"),
        (
            (torch.tensor([0, 1]), torch.tensor([0, 1, 2])),
            ValueError,
            r"same number of items n, got perm \(2,\), target \(3,\)",
        ),
        (
            (torch.arange(2).expand(3, 2), torch.arange(2).expand(4, 2)),
            ValueError,
            r"must broadcast, got perm \(3, 2\), target \(4, 2\)",
        ),
        ((torch.tensor([0, 1]), torch.tensor([0, 1]), [0, 0]), TypeError, "labels must be a torch"),
        (
            (torch.tensor([0, 1]), torch.tensor([0, 1]), torch.zeros(2)),
            TypeError,
            "labels must hold integers, got torch.float32",
        ),
        (
            (torch.tensor([0, 1]), torch.tensor([0, 1]), torch.tensor([0, 0, 0])),
            ValueError,
            r"labels \(3,\)",
        ),
    ],
)
def test_errors(
    metric: Any, arguments: tuple[Any, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        metric(*arguments)


def test_short_index_dtypes() -> None:
    perm, target = (torch.tensor(p, dtype=torch.uint8) for p in ([1, 0], [0, 1]))
    assert prop_wrong(perm, target) == 1
    assert prop_any_wrong(perm, target) == 1


def test_kendall_tau_under_vmap(generator: torch.Generator) -> None:
    perms = random_permutation(5, (2, 3), generator=generator)
    found = torch.vmap(kendall_tau)(*perms)
    torch.testing.assert_close(found, kendall_tau(*perms))
