"""A user's picture: which formats are read, and what is laid under transparency."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import EpsImagePlugin, Image

from softperm.data import read_image, read_picture

EPS = b"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 10 10
%%EndComments
showpage
%%EOF
"""


def test_postscript_named_png_starts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Any] = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *args, **_: started.append(args))
    path = tmp_path / "x.png"
    path.write_bytes(EPS)
    for read in (read_picture, lambda path: read_image(path, size=8, channels=1)):
        with pytest.raises(ValueError, match=r"x\.png cannot .*: it is no PNG, JPEG, BMP or WebP"):
            read(path)
    assert started == []


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "PPM", "PCX", "ICO"])
def test_other_formats_are_refused_by_content(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    Image.new("L", (16, 16), 9).save(path, format=kind)
    with pytest.raises(ValueError, match="it is no PNG"):
        read_picture(path)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "JPEG", "WEBP"])
def test_the_name_does_not_matter(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "x.gif"
    Image.new("RGB", (5, 4), (200, 10, 10)).save(path, format=kind)
    assert read_picture(path).shape == (3, 4, 5)


@pytest.mark.parametrize(("mode", "channels"), [("1", 1), ("L", 1), ("LA", 1), ("RGB", 3)])
def test_a_picture_keeps_its_size_and_colours(mode: str, channels: int, tmp_path: Path) -> None:
    Image.linear_gradient("L").resize((7, 5)).convert(mode).save(tmp_path / "x.png")
    assert read_picture(tmp_path / "x.png").shape == (channels, 5, 7)


def test_grey_values_are_those_of_the_file(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 9), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    assert torch.equal(read_picture(tmp_path / "x.png")[0], torch.from_numpy(pixels))


@pytest.mark.parametrize(("ink", "ground"), [(0, 255), (255, 0), (40, 255), (200, 0)])
def test_transparency_shows_something(ink: int, ground: int, tmp_path: Path) -> None:
    pixels = np.zeros((6, 6, 4), np.uint8)
    pixels[2:4, 1:5] = (ink, ink, ink, 255)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    found = read_picture(tmp_path / "x.png")
    assert found[:, 3, 3].tolist() == [ink] * 3
    assert found[:, 0, 0].tolist() == [ground] * 3


def test_open_files_are_read_as_well(tmp_path: Path) -> None:
    path = tmp_path / "x.webp"
    Image.linear_gradient("L").resize((7, 5)).convert("RGB").save(path, lossless=True)
    with path.open("rb") as file:
        assert torch.equal(read_picture(file), read_picture(path))
    with pytest.raises(ValueError, match="the file cannot be read as a picture: it is no PNG"):
        read_picture(BytesIO(EPS))


def test_the_number_of_pixels_can_be_bounded(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    Image.new("L", (300, 20)).save(path)
    assert read_picture(path, most_pixels=6000).shape == (1, 20, 300)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])  # it is refused before its pixels are read
    with pytest.raises(ValueError, match="it must have at most 5,999 pixels, got 300 x 20"):
        read_picture(path, most_pixels=5999)
