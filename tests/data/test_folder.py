"""Folders of images: every kind of picture, and what is no picture."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from softperm.data import load_folder, load_images, read_image


def paint(path: Path, value: int = 100, size: tuple[int, int] = (20, 10), mode: str = "L") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value if mode == "L" else (value, 0, 0)).save(path)
    return path


def test_pictures_are_resized_and_cut_in_the_middle(tmp_path: Path) -> None:
    # Twice as wide as high: a bright middle between dark sides.
    pixels = np.zeros((10, 20), np.uint8)
    pixels[:, 5:15] = 255
    path = tmp_path / "wide.png"
    Image.fromarray(pixels).save(path)
    image = read_image(path, size=10, channels=1)
    assert image.shape == (1, 10, 10)
    assert image.eq(255).all()
    assert read_image(path, size=(5, 10), channels=3).shape == (3, 5, 10)
    assert torch.equal(read_image(path, size=None, channels=1)[0], torch.from_numpy(pixels))


def test_kinds_of_pictures(tmp_path: Path) -> None:
    grey = read_image(paint(tmp_path / "grey.png"), size=8, channels=3)
    assert grey.eq(100).all()
    colour = read_image(paint(tmp_path / "red.png", 200, mode="RGB"), size=8, channels=3)
    assert colour[0].eq(200).all()
    assert colour[1:].eq(0).all()
    deep = tmp_path / "deep.png"
    Image.fromarray(np.full((8, 8), 65535 // 2, np.uint16)).save(deep)
    assert read_image(deep, size=8, channels=1).sub(127).abs().le(1).all()
    clear = tmp_path / "clear.png"
    Image.new("RGBA", (8, 8), (255, 255, 255, 0)).save(clear)
    assert read_image(clear, size=8, channels=3).eq(0).all()
    turned = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by a quarter
    Image.new("L", (30, 10)).save(turned, exif=exif)
    assert read_image(turned, size=None, channels=1).shape == (1, 30, 10)


def test_split_by_subfolders(tmp_path: Path) -> None:
    for i in range(3):
        paint(tmp_path / "train" / "a" / f"{i}.png", 10)
    paint(tmp_path / "test" / "b.jpeg", 30)
    data = load_folder(tmp_path, size=8, channels=1)
    assert data.train.shape == (3, 1, 8, 8)
    assert data.test.shape == (1, 1, 8, 8)
    assert data.mean == pytest.approx((10 / 255,))
    assert data.std == (1.0,)  # a constant channel


def test_random_split_is_a_partition_and_seeded(tmp_path: Path) -> None:
    for i in range(20):
        paint(tmp_path / f"{i:02}.png", i)
    data = load_folder(tmp_path, size=8, channels=1, test_fraction=0.25, seed=3)
    values = torch.cat([data.train, data.test])[:, 0, 0, 0]
    assert len(data.test) == 5
    assert sorted(values.tolist()) == list(range(20))
    again = load_folder(tmp_path, size=8, channels=1, test_fraction=0.25, seed=3)
    other = load_folder(tmp_path, size=8, channels=1, test_fraction=0.25, seed=4)
    assert torch.equal(data.test, again.test)
    assert not torch.equal(data.test, other.test)
    assert torch.equal(load_images(str(tmp_path)).train, load_folder(tmp_path).train)


def test_statistics_are_those_of_the_training_images(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for i in range(6):
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(tmp_path / f"{i}.png")
    data = load_folder(tmp_path, size=8)
    pixels = data.train.double() / 255
    assert data.mean == pytest.approx(tuple(pixels.mean((0, 2, 3)).tolist()))
    assert data.std == pytest.approx(tuple(pixels.std((0, 2, 3), correction=0).tolist()))


def test_unreadable_files_are_named_and_skipped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for i in range(3):
        paint(tmp_path / f"good{i}.png")
    whole = paint(tmp_path / "whole.png", size=(200, 200)).read_bytes()
    (tmp_path / "whole.png").unlink()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    for i in range(11):
        (tmp_path / f"text{i}.jpg").write_text("no picture")
    (tmp_path / "notes.txt").write_text("ignored")
    with caplog.at_level(logging.WARNING, "softperm"):
        data = load_folder(tmp_path, size=8)
    assert len(data.train) + len(data.test) == 3
    messages = [record.getMessage() for record in caplog.records]
    assert "cut.png" in messages[0]
    assert messages[-2:] == ["... and 2 more", "skipped 12 of 15 pictures"]
    assert len(messages) == 12


def test_wrong_folders_and_arguments_are_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is no folder"):
        load_folder(tmp_path / "missing")
    with pytest.raises(NotADirectoryError, match="is no folder"):
        load_folder(paint(tmp_path / "one" / "file.png"))
    with pytest.raises(ValueError, match="at least 2 readable pictures, got 1"):
        load_folder(tmp_path / "one")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty must hold pictures .* got 0 such files"):
        load_folder(tmp_path / "empty")
    with pytest.raises(ValueError, match="channels must be 1 or 3, got 2"):
        load_folder(tmp_path / "one", channels=2)
    with pytest.raises(ValueError, match="size must be at least 1, got 0"):
        load_folder(tmp_path / "one", size=0)
    with pytest.raises(ValueError, match="test_fraction must be between 0 and 1, got 1"):
        load_folder(tmp_path / "one", test_fraction=1)
    with pytest.raises(FileNotFoundError, match="is no file"):
        read_image(tmp_path / "missing.png", size=8, channels=1)
    with pytest.raises(ValueError, match="channels must be 1 or 3, got 4"):
        read_image(tmp_path / "one" / "file.png", size=8, channels=4)
