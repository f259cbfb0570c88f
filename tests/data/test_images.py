"""One name for every source of images."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from softperm.data import ImageData, load_digits, load_folder, load_images, load_mnist


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for value in range(20):
        Image.new("RGB", (5, 4), (value, 2 * value, 3 * value)).save(tmp_path / f"{value:02}.png")
    return tmp_path


def assert_same(found: ImageData[Any], expected: ImageData[Any]) -> None:
    for mine, theirs in ((found.train, expected.train), (found.test, expected.test)):
        order = torch.arange(len(theirs))
        assert torch.equal(mine[order], theirs[order])
    assert (found.mean, found.std) == (expected.mean, expected.std)


@pytest.mark.parametrize("options", [{}, {"size": 8}, {"channels": 1}, {"size": 8, "channels": 1}])
def test_digits(options: dict[str, Any]) -> None:
    assert_same(load_images("digits", **options), load_digits())


def test_larger_digits() -> None:
    assert_same(load_images("digits", size=28), load_digits(28))


def test_mnist_comes_from_load_mnist(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SOFTPERM_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError) as expected:
        load_mnist()
    with pytest.raises(FileNotFoundError) as found:
        load_images("mnist", size=28, channels=1)
    assert str(found.value) == str(expected.value)


def test_folder_defaults(folder: Path) -> None:
    data = load_images(str(folder))
    assert data.train.shape == (18, 3, 64, 64)
    assert_same(data, load_folder(folder))


@pytest.mark.parametrize(
    "options", [{"size": 3}, {"channels": 1}, {"seed": 9}, {"test_fraction": 0.5}]
)
def test_folder_options_are_passed_on(folder: Path, options: dict[str, Any]) -> None:
    data = load_images(str(folder), **options)
    assert_same(data, load_folder(folder, **options))
    default = load_images(str(folder))
    order = torch.arange(min(len(data.train), len(default.train)))
    different = data.train.shape != default.train.shape
    assert different or not torch.equal(data.train[order], default.train[order])


@pytest.mark.parametrize(
    ("data", "options", "words"),
    [
        ("digits", {"size": 9}, "size of digits is 8 or 28, got 9"),
        ("digits", {"size": 0}, "size of digits is 8 or 28, got 0"),
        ("digits", {"channels": 3}, "channels of digits is 1, got 3"),
        ("mnist", {"size": 32}, "size of mnist is 28, got 32"),
        ("mnist", {"channels": 3}, "channels of mnist is 1, got 3"),
        (".", {"size": 0}, "size must be at least 1, got 0"),
        (".", {"channels": 0}, "channels must be 1 or 3, got 0"),
        (".", {"channels": 2}, "channels must be 1 or 3, got 2"),
        (".", {"test_fraction": 1.0}, "test_fraction must be between 0 and 1, got 1.0"),
    ],
)
def test_refusals(data: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        load_images(data, **options)


def test_unknown_name_lists_the_known() -> None:
    with pytest.raises(FileNotFoundError, match="digits, mnist or the path of a folder, but digit"):
        load_images("digit")


def test_optional_packages_are_imported_at_first_use() -> None:
    program = (
        "import sys, softperm.data; "
        "print([name for name in ('pooch', 'PIL', 'sklearn', 'requests') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
