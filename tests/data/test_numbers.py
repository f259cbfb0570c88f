"""Lists of uniform numbers: distribution, interval, reproducibility, refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from softperm.data import uniform_lists


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-3, 5), (1e3, 1e3 + 1), (-1e-6, 1e-6)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_uniform_on_the_interval(
    low: float, high: float, dtype: torch.dtype, generator: torch.Generator
) -> None:
    lists = uniform_lists(400, 50, low=low, high=high, generator=generator, dtype=dtype)
    assert lists.shape == (400, 50)
    assert lists.dtype == dtype
    scaled = (lists.double().numpy() - low) / (high - low)
    assert stats.kstest(scaled.ravel(), "uniform").pvalue > 1e-3
    neighbours = stats.pearsonr(scaled[:, :-1].ravel(), scaled[:, 1:].ravel())
    assert neighbours.pvalue > 1e-3
    columns = [stats.kstest(column, "uniform").pvalue for column in scaled.T]
    assert min(columns) > 1e-3 / len(columns)


@pytest.mark.parametrize(
    ("low", "high"), [(1000.0, 1000.001), (-1000.001, -1000.0), (1e8, 1e8 + 16)]
)
def test_upper_end_is_excluded_where_rounding_would_reach_it(
    low: float, high: float, generator: torch.Generator
) -> None:
    lists = uniform_lists(1000, 100, low=low, high=high, generator=generator)
    unclamped = torch.rand(1000, 100, generator=torch.Generator().manual_seed(0))
    assert ((unclamped * (high - low) + low) >= np.float32(high)).any()
    assert lists.min() >= np.float32(low)
    assert lists.max() < np.float32(high)
    assert len(lists.unique()) > 1


def test_generator_decides() -> None:
    first, again, other = (
        uniform_lists(3, 4, generator=torch.Generator().manual_seed(seed)) for seed in (5, 5, 6)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    torch.manual_seed(5)
    assert torch.equal(uniform_lists(3, 4), first)


def test_default_is_the_unit_interval_in_float32(generator: torch.Generator) -> None:
    lists = uniform_lists(1, 1000, generator=generator)
    assert lists.dtype == torch.float32
    assert 0 <= float(lists.min()) < 0.01
    assert 0.99 < float(lists.max()) < 1


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"n_lists": 0}, ValueError, "n_lists must be at least 1, got 0"),
        ({"n": 0}, ValueError, "n must be at least 1, got 0"),
        ({"n": -1}, ValueError, "n must be at least 1, got -1"),
        ({"n": 2.0}, TypeError, "n must be an int, got float"),
        ({"n_lists": True}, TypeError, "n_lists must be an int, got bool"),
        ({"low": 1.0}, ValueError, "low must be below high, .* got 1.0 and 1.0"),
        ({"low": 2.0}, ValueError, "low must be below high, .* got 2.0 and 1.0"),
        ({"low": float("nan")}, ValueError, "low must be below high, .* got nan and 1.0"),
        ({"high": float("inf")}, ValueError, "low must be below high, .* got 0.0 and inf"),
        ({"low": 1e8, "high": 1e8 + 1}, ValueError, "torch.float32, got 100000000.0 and"),
        ({"low": -3e38, "high": 3e38}, ValueError, "finite distance apart"),
        ({"dtype": torch.float16}, TypeError, "dtype must be .* got torch.float16"),
        ({"dtype": torch.int64}, TypeError, "dtype must be .* got torch.int64"),
    ],
)
def test_refusals(change: dict[str, Any], error: type[Exception], words: str) -> None:
    arguments: dict[str, Any] = {"n_lists": 2, "n": 3, "low": 0.0, "high": 1.0} | change
    with pytest.raises(error, match=words):
        uniform_lists(**arguments)


def test_float64_tells_apart_what_float32_cannot(generator: torch.Generator) -> None:
    lists = uniform_lists(10, 10, low=1e8, high=1e8 + 1, generator=generator, dtype=torch.float64)
    assert len(lists.unique()) == 100
