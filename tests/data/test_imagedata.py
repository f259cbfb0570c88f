"""Statistics of images, against NumPy in float64."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import torch

from softperm.data.imagedata import channel_statistics, with_statistics


@pytest.mark.parametrize("channels", [1, 3])
def test_statistics_against_numpy(channels: int, generator: torch.Generator) -> None:
    train = torch.randint(0, 256, (7, channels, 5, 4), generator=generator).to(torch.uint8)
    train[:, 0] //= 3
    test = train[:2] // 2
    data = with_statistics(train, test)
    pixels = train.numpy() / 255.0
    assert data.train is train
    assert data.test is test
    assert data.mean == pytest.approx(pixels.mean((0, 2, 3)).tolist(), rel=1e-12)
    assert data.std == pytest.approx(pixels.std((0, 2, 3)).tolist(), rel=1e-12)


@pytest.mark.parametrize("value", [0, 1, 77, 255])
def test_constant_channel_has_standard_deviation_one(value: int) -> None:
    train = torch.full((3, 3, 2, 2), value, dtype=torch.uint8)
    train[0, 2, 0, 0] = 128
    data = with_statistics(train, train)
    assert data.std[:2] == (1.0, 1.0)
    assert data.std[2] == pytest.approx(np.std(train[:, 2].numpy() / 255.0), rel=1e-12)
    assert data.mean[0] == pytest.approx(value / 255, abs=1e-15)


def test_one_deviating_pixel_among_many_counts() -> None:
    train = torch.full((100, 1, 100, 100), 255, dtype=torch.uint8)
    train[0, 0, 0, 0] = 254
    pixels = train.numpy() / 255.0
    assert with_statistics(train, train).std == pytest.approx([pixels.std()], rel=1e-6)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_statistics_of_a_power(gamma: float, generator: torch.Generator) -> None:
    images = torch.randint(0, 256, (7, 3, 5, 4), generator=generator).to(torch.uint8)
    pixels = (images.numpy() / 255.0) ** gamma
    mean, std = channel_statistics(images, gamma)
    assert mean == pytest.approx(pixels.mean((0, 2, 3)).tolist(), rel=1e-12)
    assert std == pytest.approx(pixels.std((0, 2, 3)).tolist(), rel=1e-12)


def test_fields_cannot_be_replaced() -> None:
    data = with_statistics(*2 * (torch.zeros(1, 1, 2, 2, dtype=torch.uint8),))
    with pytest.raises(FrozenInstanceError):
        data.mean = (0.0,)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("train", "test", "words"),
    [
        ((0, 1, 8, 8), (1, 1, 8, 8), r"train must hold images .* got shape \(0, 1, 8, 8\)"),
        ((2, 1, 8, 8), (0, 1, 8, 8), r"test must hold images .* got shape \(0, 1, 8, 8\)"),
        ((2, 1, 0, 8), (1, 1, 0, 8), r"train must hold images with pixels"),
        ((2, 8, 8), (1, 8, 8), r"train must hold images"),
        ((2, 1, 8, 8), (1, 1, 8, 9), r"the same shape, got \(1, 8, 8\) and \(1, 8, 9\)"),
        ((2, 1, 8, 8), (1, 3, 8, 8), r"the same shape, got \(1, 8, 8\) and \(3, 8, 8\)"),
    ],
)
def test_parts_that_do_not_fit(train: tuple[int, ...], test: tuple[int, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        with_statistics(torch.zeros(train, dtype=torch.uint8), torch.zeros(test, dtype=torch.uint8))


def test_statistics_of_something_else() -> None:
    with pytest.raises(TypeError, match=r"images must be uint8, got torch\.float32"):
        channel_statistics(torch.zeros(2, 1, 3, 3))
    with pytest.raises(ValueError, match=r"images must hold images .*got shape \(2, 3\)"):
        channel_statistics(torch.zeros(2, 3, dtype=torch.uint8))
