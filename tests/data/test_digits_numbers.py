"""The embedded digits, and lists of numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn import datasets

from softperm.data import load_digits, load_images, uniform_lists


def test_digits_are_those_of_scikit_learn() -> None:
    data = load_digits()
    images = torch.cat([data.train, data.test]).squeeze(1).numpy()
    source = datasets.load_digits().images
    assert images.dtype == np.uint8
    assert np.array_equal(np.round(images * 16.0 / 255), source)
    assert torch.equal(load_images("digits", size=8, channels=1).train, data.train)
    for wrong in ({"size": 28}, {"channels": 3}):
        with pytest.raises(ValueError, match="of digits is"):
            load_images("digits", **wrong)


def test_numbers_stay_in_their_interval_and_fill_it() -> None:
    generator = torch.Generator().manual_seed(0)
    lists = uniform_lists(2000, 50, low=-3.0, high=5.0, generator=generator)
    assert lists.shape == (2000, 50)
    assert lists.dtype == torch.float32
    assert -3 <= float(lists.min()) < -2.99
    assert 4.99 < float(lists.max()) < 5
    assert float(lists.mean()) == pytest.approx(1, abs=0.05)
    again = uniform_lists(2000, 50, low=-3.0, high=5.0, generator=generator.manual_seed(0))
    assert torch.equal(lists, again)


def test_the_upper_end_is_excluded(monkeypatch: pytest.MonkeyPatch) -> None:
    largest = 1 - 2**-24  # that torch.rand can give in float32
    monkeypatch.setattr(torch, "rand", lambda *shape, **_: torch.full(shape, largest))
    assert float(uniform_lists(1, 1, low=1000.0, high=1001.0)) < 1001


@pytest.mark.parametrize(
    ("arguments", "error", "name"),
    [
        ((0, 3), ValueError, "n_lists"),
        ((3, 0), ValueError, "n must"),
        ((2.0, 3), TypeError, "n_lists"),
    ],
)
def test_wrong_sizes(arguments: tuple[int, int], error: type[Exception], name: str) -> None:
    with pytest.raises(error, match=name):
        uniform_lists(*arguments)


def test_wrong_intervals() -> None:
    with pytest.raises(ValueError, match=r"low must be below high.* got 2 and 2"):
        uniform_lists(1, 1, low=2, high=2)
