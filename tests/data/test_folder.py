"""Folders of images: conversion against NumPy, the split, and files that cannot be read."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from softperm.data import Images, load_folder, read_image

Pixels = NDArray[np.uint8]


@pytest.fixture
def pixels() -> Pixels:
    return np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)


def channels_last(image: Tensor) -> Pixels:
    found: Pixels = image.permute(1, 2, 0).numpy()
    return found


def write_constant(path: Path, value: int) -> Path:
    """A picture that can be told from others by its grey value alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (5, 4), value).save(path)
    return path


def whole(images: Images) -> Tensor:
    """All images in memory."""
    return images[torch.arange(len(images))]


def values(stored: Images) -> list[int]:
    """The grey values of constant pictures."""
    images = whole(stored)
    assert torch.equal(images, images[:, :1, :1, :1].expand_as(images))
    return [int(value) for value in images[:, 0, 0, 0]]


@pytest.mark.parametrize(
    ("suffix", "options"), [("png", {}), ("bmp", {}), ("webp", {"lossless": True})]
)
def test_lossless_formats_keep_every_pixel(
    suffix: str, options: dict[str, Any], pixels: Pixels, tmp_path: Path
) -> None:
    path = tmp_path / f"x.{suffix}"
    Image.fromarray(pixels).save(path, **options)
    found = read_image(str(path), size=None, channels=3)
    assert found.dtype == torch.uint8
    assert found.is_contiguous()
    assert np.array_equal(channels_last(found), pixels)


def test_jpeg_in_colour_and_grey(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    Image.new("RGB", (16, 8), (250, 100, 20)).save(path, quality=100)
    found = read_image(path, size=None, channels=3)
    assert found.shape == (3, 8, 16)
    assert (found.int() - torch.tensor([250, 100, 20])[:, None, None]).abs().max() <= 3
    Image.new("L", (16, 8), 77).save(path, quality=100)
    grey = read_image(path, size=None, channels=1)
    assert grey.shape == (1, 8, 16)
    assert (grey.int() - 77).abs().max() <= 1


def test_colour_to_grey_by_luminance(pixels: Pixels, tmp_path: Path) -> None:
    Image.fromarray(pixels).save(tmp_path / "x.png")
    found = read_image(tmp_path / "x.png", size=None, channels=1)
    expected = pixels @ np.array([0.299, 0.587, 0.114])
    assert np.abs(found[0].numpy() - expected).max() <= 1


def test_grey_to_colour_repeats_the_channel(pixels: Pixels, tmp_path: Path) -> None:
    Image.fromarray(pixels[..., 0]).save(tmp_path / "x.png")
    found = read_image(tmp_path / "x.png", size=None, channels=3)
    assert np.array_equal(found.numpy(), np.stack(3 * [pixels[..., 0]]))


def test_black_and_white(tmp_path: Path) -> None:
    bits = np.array([[True, False], [False, True]])
    Image.fromarray(bits).save(tmp_path / "x.png")
    found = read_image(tmp_path / "x.png", size=None, channels=1)
    assert np.array_equal(found[0].numpy(), bits * 255)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("channels", [1, 3])
def test_transparency_is_laid_on_black(
    mode: str, channels: int, pixels: Pixels, tmp_path: Path
) -> None:
    alpha = np.linspace(0, 255, 54).reshape(6, 9).round().astype(np.uint8)
    grey = pixels[..., :1]
    colour = pixels if mode == "RGBA" else grey
    Image.fromarray(np.dstack([colour, alpha]), mode).save(tmp_path / "x.png")
    found = channels_last(read_image(tmp_path / "x.png", size=None, channels=channels))
    expected = colour * (alpha[..., None] / 255)
    if channels == 1 and mode == "RGBA":
        expected = expected @ np.array([[0.299], [0.587], [0.114]])
    assert np.abs(found - expected).max() <= 1.5


def test_transparent_colour_of_a_palette_is_black(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([200, 10, 20, 30, 40, 250])
    image.putdata([0, 1])
    image.save(tmp_path / "x.png", transparency=0)
    found = channels_last(read_image(tmp_path / "x.png", size=None, channels=3))
    assert found.tolist() == [[[0, 0, 0], [30, 40, 250]]]


def test_grey_of_16_bits_is_scaled(tmp_path: Path) -> None:
    wide = np.array([[0, 128, 129, 257], [32767, 32768, 65406, 65535]], np.uint16)
    Image.fromarray(wide).save(tmp_path / "x.png")
    found = read_image(tmp_path / "x.png", size=None, channels=1)
    assert np.array_equal(found[0].numpy(), (wide / 257).round())


ORIENTATIONS: dict[int, Callable[[Pixels], Pixels]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_exif_orientation(orientation: int, pixels: Pixels, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / "x.png", exif=exif)
    found = channels_last(read_image(tmp_path / "x.png", size=None, channels=3))
    assert np.array_equal(found, ORIENTATIONS[orientation](pixels))
    wide = np.zeros((4, 4), np.uint16)
    Image.fromarray(wide).save(tmp_path / "wide.png", exif=exif)
    assert not read_image(tmp_path / "wide.png", size=None, channels=1).any()


@pytest.mark.parametrize("size", [(6, 3), (2, 9), (6, 9)])
def test_without_scaling_the_middle_is_cut(
    size: tuple[int, int], pixels: Pixels, tmp_path: Path
) -> None:
    Image.fromarray(pixels).save(tmp_path / "x.png")
    found = channels_last(read_image(tmp_path / "x.png", size=size, channels=3))
    top, left = (6 - size[0]) // 2, (9 - size[1]) // 2
    assert np.array_equal(found, pixels[top : top + size[0], left : left + size[1]])


@pytest.mark.parametrize("turned", [False, True])
def test_resizing_covers_then_cuts_the_middle(turned: bool, tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (40, 80), np.uint8)
    image = Image.fromarray(np.ascontiguousarray(noise.T) if turned else noise)
    image.save(tmp_path / "x.png")
    found = read_image(tmp_path / "x.png", size=10, channels=1)[0].numpy()
    whole = np.array(image.resize((10, 20) if turned else (20, 10), Image.Resampling.LANCZOS))
    expected = whole[5:15] if turned else whole[:, 5:15]
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_resizing_keeps_proportions_and_place(tmp_path: Path) -> None:
    ramp = np.broadcast_to(np.arange(100, dtype=np.uint8) * 2, (50, 100))
    Image.fromarray(ramp.copy()).save(tmp_path / "x.png")
    found = read_image(tmp_path / "x.png", size=10, channels=1)
    # The middle half, in steps of 5 columns: their mean values.
    expected = ramp[0, 25:75].reshape(10, 5).mean(1)
    assert np.abs(found[0].numpy() - expected)[:, 1:-1].max() <= 1
    assert np.abs(found[0].numpy() - expected).max() <= 2


def test_resizing_does_not_alias(tmp_path: Path) -> None:
    board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    Image.fromarray(board).save(tmp_path / "x.png")
    found = read_image(tmp_path / "x.png", size=8, channels=1)
    assert (found.double() - 127.5).abs().max() < 5


def test_enlarging_and_extreme_proportions(tmp_path: Path) -> None:
    Image.new("L", (1, 300), 90).save(tmp_path / "x.png")
    found = read_image(tmp_path / "x.png", size=(7, 20), channels=3)
    assert torch.equal(found, torch.full((3, 7, 20), 90, dtype=torch.uint8))


@pytest.mark.parametrize("content", [b"", b"no picture", None], ids=["empty", "text", "cut"])
@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "webp"])
def test_unreadable_picture_is_named(
    content: bytes | None, suffix: str, pixels: Pixels, tmp_path: Path
) -> None:
    path = tmp_path / f"bad.{suffix}"
    Image.fromarray(pixels).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(ValueError, match=f"bad.{suffix} cannot be read as a picture: ."):
        read_image(path, size=8, channels=3)


def test_missing_picture_and_folder_in_its_place(tmp_path: Path) -> None:
    for path in (tmp_path / "none.png", tmp_path):
        with pytest.raises(FileNotFoundError, match=f"{path} is no file"):
            read_image(path, size=8, channels=3)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"channels": 2}, ValueError, "channels must be 1 or 3, got 2"),
        ({"size": 0}, ValueError, "size must be at least 1, got 0"),
        ({"size": (4, -1)}, ValueError, "size must be at least 1, got -1"),
        ({"size": 4.0}, TypeError, "size must be an int, got float"),
        ({"size": "4"}, TypeError, "size must be an int, got str"),
        ({"size": (4,)}, ValueError, "size must be a side or .*height, width.*, got \\(4,\\)"),
    ],
)
def test_read_image_refusals(
    options: dict[str, Any], error: type[Exception], words: str, tmp_path: Path
) -> None:
    path = write_constant(tmp_path / "x.png", 1)
    with pytest.raises(error, match=words):
        read_image(path, **{"size": 8, "channels": 3} | options)


def test_folders_train_and_test_are_the_split(tmp_path: Path) -> None:
    for index, name in enumerate(["b.png", "a/z.jpg", "c.PNG", "a/b/c.webp", "a.bmp"]):
        write_constant(tmp_path / "train" / name, 10 * index)
        write_constant(tmp_path / "test" / name, 10 * index + 5)
    write_constant(tmp_path / "elsewhere.png", 255)
    (tmp_path / "train" / "readme.txt").write_text("no picture")
    (tmp_path / "train" / "folder.png").mkdir()
    data = load_folder(tmp_path, size=4, channels=1)
    # In the order of the paths: a/b/c.webp, a/z.jpg, a.bmp, b.png, c.PNG.
    assert np.abs(np.array(values(data.train)) - [30, 10, 40, 0, 20]).max() <= 1
    assert np.abs(np.array(values(data.test)) - [35, 15, 45, 5, 25]).max() <= 1
    assert data.mean == pytest.approx([20 / 255], abs=1 / 255)
    assert data.std == pytest.approx([np.std([0, 10, 20, 30, 40]) / 255], abs=1 / 255)


@pytest.mark.parametrize(
    ("n", "fraction", "n_test"), [(20, 0.1, 2), (20, 0.01, 1), (20, 0.99, 19), (2, 0.1, 1)]
)
def test_random_split(n: int, fraction: float, n_test: int, tmp_path: Path) -> None:
    for value in range(n):
        write_constant(tmp_path / f"sub{value % 3}" / f"{value}.png", value)
    data = load_folder(tmp_path, size=4, channels=3, test_fraction=fraction)
    assert data.train.shape == (n - n_test, 3, 4, 4)
    assert data.test.shape == (n_test, 3, 4, 4)
    assert sorted(values(data.train) + values(data.test)) == list(range(n))


def test_split_follows_the_seed(tmp_path: Path) -> None:
    for value in range(30):
        write_constant(tmp_path / f"{value}.png", value)
    splits = [
        sorted(values(load_folder(tmp_path, size=2, test_fraction=0.5, seed=seed).test))
        for seed in (0, 0, 1)
    ]
    assert splits[0] == splits[1] != splits[2]


def test_only_one_of_train_and_test_is_no_split(tmp_path: Path) -> None:
    for value in range(10):
        write_constant(tmp_path / "train" / f"{value}.png", value)
    assert len(load_folder(tmp_path, size=2).test) == 1


@pytest.mark.parametrize(("n_bad", "named"), [(1, 1), (10, 10), (13, 10)])
def test_unreadable_files_are_named_and_skipped(
    n_bad: int, named: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for value in range(4):
        write_constant(tmp_path / f"good{value}.png", value)
    for index in range(n_bad):
        (tmp_path / f"bad{index:02}.png").write_bytes(b"\x89PNG")
    with caplog.at_level(logging.WARNING, logger="softperm"):
        data = load_folder(tmp_path, size=2, channels=1)
    assert sorted(values(data.train) + values(data.test)) == [0, 1, 2, 3]
    assert {(record.name, record.levelname) for record in caplog.records} == {
        ("softperm", "WARNING")
    }
    lines = caplog.messages
    assert [index for index in range(n_bad) if f"bad{index:02}.png" in "".join(lines)] == list(
        range(named)
    )
    assert sum("bad" in line for line in lines) == named
    assert (f"... and {n_bad - named} more" in lines) == (n_bad > named)
    assert lines[-1] == f"skipped {n_bad} of {n_bad + 4} pictures"


def test_broken_link_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for value in range(2):
        write_constant(tmp_path / f"{value}.png", value)
    (tmp_path / "link.png").symlink_to(tmp_path / "nowhere.png")
    load_folder(tmp_path, size=2)
    assert "link.png" in caplog.text


def test_too_few_pictures(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"{tmp_path} must hold pictures .* got 0 such files"):
        load_folder(tmp_path)
    (tmp_path / "bad.png").write_bytes(b"bad")
    with pytest.raises(ValueError, match=f"{tmp_path} .* got 1 such files, none of them readable"):
        load_folder(tmp_path)
    write_constant(tmp_path / "good.png", 1)
    with pytest.raises(ValueError, match=f"{tmp_path} must hold at least 2 readable .* got 1"):
        load_folder(tmp_path)


def test_empty_part_of_a_split_is_named(tmp_path: Path) -> None:
    write_constant(tmp_path / "train" / "x.png", 1)
    (tmp_path / "test").mkdir()
    with pytest.raises(ValueError, match=f"{tmp_path / 'test'} must hold pictures"):
        load_folder(tmp_path)


def test_missing_folder_and_file_in_its_place(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere is no folder"):
        load_folder(tmp_path / "nowhere")
    path = write_constant(tmp_path / "x.png", 1)
    with pytest.raises(NotADirectoryError, match=r"x\.png is no folder"):
        load_folder(path)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"channels": 4}, ValueError, "channels must be 1 or 3, got 4"),
        ({"size": 0}, ValueError, "size must be at least 1, got 0"),
        ({"size": (4, 4)}, TypeError, "size must be an int, got tuple"),
        ({"test_fraction": 0}, ValueError, "test_fraction must be between 0 and 1, got 0"),
        ({"test_fraction": 1}, ValueError, "test_fraction must be between 0 and 1, got 1"),
        ({"test_fraction": float("nan")}, ValueError, "test_fraction .* got nan"),
    ],
)
def test_load_folder_refusals(
    options: dict[str, Any], error: type[Exception], words: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=words):
        load_folder(tmp_path, **options)
