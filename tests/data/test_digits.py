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


def test_enlarged_digits_look_like_those_of_mnist() -> None:
    data, small = load_digits(28), load_digits()
    assert data.train.shape == (1500, 1, 28, 28)
    assert data.test.shape == (297, 1, 28, 28)
    assert data.mean == pytest.approx([0.1307], abs=0.05)  # MNIST's
    assert data.std == pytest.approx([0.3081], abs=0.05)
    margin = torch.ones(28, 28, dtype=torch.bool)
    margin[4:-4, 4:-4] = False
    assert data.train[..., margin].max() == 0
    box = data.test[..., 4:-4, 4:-4].float()
    means = box.reshape(-1, 4, 5, 4, 5).mean((2, 4)).flatten()  # 2 x 2 pixels of the source each
    coarse = small.test.float().reshape(-1, 4, 2, 4, 2).mean((2, 4)).flatten()
    assert np.corrcoef(means, coarse)[0, 1] > 0.97


@pytest.mark.parametrize("size", [0, 9, 64])
def test_other_sizes_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"size of digits is 8 or 28, got {size}"):
        load_digits(size)


def test_every_call_gives_the_same() -> None:
    first, again = load_digits(), load_digits()
    assert torch.equal(first.train, again.train)
    assert torch.equal(first.test, again.test)
