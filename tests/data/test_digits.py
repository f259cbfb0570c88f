"""The embedded digits, against scikit-learn's own arrays."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn import datasets

from softperm.data import load_digits


def test_pixels_and_split_against_the_source() -> None:
    data = load_digits()
    source = datasets.load_digits().images
    assert data.train.shape == (1500, 1, 8, 8)
    assert data.test.shape == (297, 1, 8, 8)
    assert data.train.dtype == data.test.dtype == torch.uint8
    scale = {value: round(value * 255 / 16) for value in range(17)}
    images = torch.cat([data.train, data.test]).squeeze(1)
    for value, byte in scale.items():
        assert np.array_equal(images.numpy() == byte, source == value)


def test_statistics_are_those_of_the_training_images() -> None:
    data = load_digits()
    pixels = data.train.numpy() / 255.0
    assert data.mean == pytest.approx([pixels.mean()], rel=1e-12)
    assert data.std == pytest.approx([pixels.std()], rel=1e-12)


def test_every_call_gives_the_same() -> None:
    first, again = load_digits(), load_digits()
    assert torch.equal(first.train, again.train)
    assert torch.equal(first.test, again.test)
