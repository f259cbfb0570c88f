"""Numbers as NumPy gives them count as numbers; truth values do not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from softperm import (
    gumbel_matching,
    gumbel_sinkhorn,
    matching,
    puzzles,
    random_permutation,
    sample_gumbel,
    sinkhorn,
)
from softperm._checks import (
    as_float,
    as_int,
    as_sample_shape,
    require_noise_scale,
    require_non_negative_int,
    require_positive_float,
    require_positive_int,
)
from softperm.data import uniform_lists
from softperm.distributions import GumbelMatching, GumbelSinkhorn
from softperm.nn import PieceTransformer, RelativeSortNet, SinkhornConvNet, SinkhornSortNet

INTS = [3, np.int64(3), np.int32(3), np.uint8(3)]
FLOATS = [0.5, np.float64(0.5), np.float32(0.5), np.float16(0.5)]
TRUTHS = [True, np.bool_(True)]


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("value", INTS)
@pytest.mark.parametrize("check", [as_int, require_positive_int, require_non_negative_int])
def test_integers(check: Callable[[object, str], int], value: Any) -> None:
    found = check(value, "x")
    assert type(found) is int
    assert found == 3


@pytest.mark.parametrize("value", [*FLOATS, *INTS])
@pytest.mark.parametrize(
    "check", [as_float, require_positive_float, lambda value, _: require_noise_scale(value)]
)
def test_floats(check: Callable[[object, str], float], value: Any) -> None:
    found = check(value, "x")
    assert type(found) is float
    assert found == value


@pytest.mark.parametrize("value", [*TRUTHS, "3", None, 3j, np.array([3]), torch.tensor(3)])
def test_what_is_no_number(value: Any) -> None:
    got = type(value).__name__
    with pytest.raises(TypeError, match=f"x must be an int, got {got}"):
        as_int(value, "x")
    with pytest.raises(TypeError, match=f"x must be a float, got {got}"):
        as_float(value, "x")
    with pytest.raises(TypeError, match="x must be an int or a tuple of ints"):
        as_sample_shape(value, "x")
    with pytest.raises(TypeError, match="x must be an int or a tuple of ints"):
        as_sample_shape((2, value), "x")


@pytest.mark.parametrize("value", [np.int64(-1), np.float32("nan"), np.float64("inf")])
def test_numbers_out_of_range(value: Any) -> None:
    with pytest.raises(ValueError, match=f"x must be positive and finite, got {value}"):
        require_positive_float(value, "x")


@pytest.mark.parametrize("value", [*INTS, (np.int64(3),), [np.int32(3)]])
def test_sample_shapes(value: Any) -> None:
    found = as_sample_shape(value)
    assert found == (3,)
    assert type(found[0]) is int


def test_operators_take_them() -> None:
    x = torch.randn(4, 4)
    n: Any = np.int64(3)
    half: Any = np.float32(0.5)
    soft = gumbel_sinkhorn(x, 1.0, 20, noise_scale=half, sample_shape=n, generator=seeded())
    wanted = gumbel_sinkhorn(x, 1.0, 20, noise_scale=0.5, sample_shape=3, generator=seeded())
    assert torch.equal(soft, wanted)
    assert gumbel_matching(x, noise_scale=half, sample_shape=(n,)).shape == (3, 4)
    assert sample_gumbel(n).shape == (3,)
    assert random_permutation(n, n).shape == (3, 3)
    assert GumbelSinkhorn(x, 1.0, n, half).sample((n,)).shape == (3, 4, 4)
    assert GumbelMatching(x, half).sample((n,)).shape == (3, 4, 4)
    assert puzzles.split(torch.zeros(1, 9, 9), n).shape == (9, 1, 3, 3)
    assert uniform_lists(n, n).shape == (3, 3)


def test_networks_take_them() -> None:
    one: Any = np.int64(1)
    three: Any = np.int64(3)
    four: Any = np.int64(4)
    half: Any = np.float32(0.5)
    pieces = torch.rand(4, 1, 3, 3)
    settings: Any = {"tau": half, "n_iters": three, "noise_scale": half}
    conv = SinkhornConvNet(one, four, three, four, three, **settings)
    transformer = PieceTransformer(one, four, (three, three), four, three, four, **settings)
    assert conv(pieces)[1].shape == (4, 4)
    assert transformer(pieces)[1].shape == (4, 4)
    assert SinkhornSortNet(three, four)(torch.rand(3))[1].shape == (3, 3)
    assert RelativeSortNet(four)(torch.rand(3))[1].shape == (3, 3)
    assert (type(conv.tau), type(conv.n_iters), type(conv.noise_scale)) == (float, int, float)
    assert conv.item_shape == (4, 1, 3, 3)
    assert {type(size) for size in conv.item_shape} == {int}


def test_shapes_take_them() -> None:
    x = torch.randn(4, 3)
    one: Any = np.float32(1.0)
    two: Any = np.int64(2)
    sums = sinkhorn(x, row_sums=one, col_sums=np.float64(4 / 3))
    torch.testing.assert_close(sums, sinkhorn(x, row_sums=1.0, col_sums=4 / 3))
    assert torch.equal(sinkhorn(x, slack=one), sinkhorn(x, slack=1.0))
    assert torch.equal(sinkhorn(x, n_rows=two, n_cols=two), sinkhorn(x, n_rows=2, n_cols=2))
    assert torch.equal(matching(x, unmatched=one), matching(x, unmatched=1.0))
    assert torch.equal(matching(x, n_rows=two), matching(x, n_rows=2))


@pytest.mark.parametrize("name", ["tau", "tol", "slack", "row_sums", "n_iters"])
def test_integers_beyond_every_range(name: str) -> None:
    given: Any = {name: 10**400}
    with pytest.raises(ValueError, match=f"{name} must be"):
        sinkhorn(torch.zeros(2, 2), **given)
