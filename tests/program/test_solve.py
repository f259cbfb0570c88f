"""The commands solve and scramble, with the networks that come with the package."""

from __future__ import annotations

import os
import weakref
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from softperm.program import pieces
from softperm.program.cli import main
from tests.program.support import refused

Pixels = NDArray[np.uint8]
NET = "mnist-3x3"


def seven(side: int = 280, ink: str = "white", ground: str = "black") -> Image.Image:
    """A digit drawn with a pen, softly."""
    image = Image.new("RGB", (4 * side, 4 * side), ground)
    points = [(0.3, 0.28), (0.68, 0.28), (0.45, 0.8)]
    corners = [(4 * side * x, 4 * side * y) for x, y in points]
    ImageDraw.Draw(image).line(corners, fill=ink, width=4 * side // 11, joint="curve")
    return image.resize((side, side), Image.Resampling.BILINEAR)


def pixels(path: Path) -> Pixels:
    with Image.open(path) as image:
        return np.asarray(image)


def as_pieces(image: Pixels, k: int) -> set[bytes]:
    """The pieces of a picture, in no order."""
    rows = [part for band in np.split(image, k) for part in np.split(band, k, 1)]
    return {np.ascontiguousarray(part).tobytes() for part in rows}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_picture_itself_is_restored_in_its_size_and_colours(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seven(300, ink="yellow", ground="navy").save("x.png")
    assert main(["solve", NET, "x.png", "--out", "out"]) == 0
    assert capsys.readouterr().out == f"wrote {Path('out', 'x.png')} (exact)\n"
    assert np.array_equal(pixels(folder / "out" / "x-restored.png"), pixels(folder / "x.png"))


def test_scramble_and_solve_go_together(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seven(300).save("x.png")
    assert main(["scramble", "x.png", "--pieces", "3", "--out", "mixed"]) == 0
    mixed = folder / "mixed" / "x-scrambled.png"
    assert capsys.readouterr().out == f"wrote {mixed.relative_to(folder)}\n"
    original = pixels(folder / "x.png")
    assert not np.array_equal(pixels(mixed), original)
    assert as_pieces(pixels(mixed), 3) == as_pieces(original, 3)
    assert main(["solve", NET, str(mixed), "--scrambled", "--out", "out"]) == 0
    assert "exact" not in capsys.readouterr().out  # nobody knows the original
    assert np.array_equal(pixels(folder / "out" / "x-scrambled-restored.png"), original)


def test_scramble_has_seeds_and_never_overwrites(folder: Path) -> None:
    seven(90).save("x.png")
    for seed in ("1", "1", "2"):
        assert main(["scramble", "x.png", "--out", ".", "--seed", seed]) == 0
    first, again, other = (pixels(folder / f"x-scrambled{end}.png") for end in ("", "-2", "-3"))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_picture_without_a_margin_gets_none(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A gradient has no border: a margin in black would tell a network where its pieces go."""
    Image.linear_gradient("L").resize((28, 28)).save("x.png")
    assert main(["solve", NET, "x.png", "--no-invert", "--out", "out"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "x.png: stretched to 30 x 30 pixels, a multiple of 3"
    assert "pieces wrong" in lines[1]
    restored = pixels(folder / "out" / "x-restored.png")
    assert restored.shape == (30, 30)
    assert (restored == 0).sum() <= 30  # the first row of the gradient, and no margin


def test_dark_ink_on_white_is_inverted_for_the_network(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seven(300, ink="black", ground="white").save("x.png")
    assert main(["solve", NET, "x.png", "--out", "out"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("x.png: light background, inverted for the network")
    assert lines[1].endswith("(exact)")
    assert np.array_equal(pixels(folder / "out" / "x-restored.png"), pixels(folder / "x.png"))
    assert main(["solve", NET, "x.png", "--invert", "--out", "out"]) == 0
    assert capsys.readouterr().out.endswith("(exact)\n")
    assert main(["solve", NET, "x.png", "--no-invert", "--out", "out"]) == 0
    assert "pieces wrong" in capsys.readouterr().out


def test_a_drawing_on_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ink = seven(300).convert("L")
    Image.merge("LA", (Image.new("L", ink.size, 0), ink)).save("x.png")
    assert main(["solve", NET, "x.png", "--out", "out"]) == 0
    assert capsys.readouterr().out.endswith("(exact)\n")
    restored = pixels(folder / "out" / "x-restored.png")
    assert np.abs(restored.astype(int) - (255 - np.asarray(ink, int))).max() <= 1


@pytest.mark.parametrize("command", [["solve", NET], ["scramble"]])
def test_pictures_are_not_held_all_at_once(
    command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """When one is cut, at most the one before it is still there."""
    cut, made, held = pieces.cut, list[weakref.ref[Tensor]](), list[int]()

    def watched(picture: Tensor, k: int) -> Tensor:
        held.append(sum(each() is not None for each in made))
        found = cut(picture, k)
        made.append(weakref.ref(found))
        return found

    monkeypatch.setattr(pieces, "cut", watched)
    names = [f"{number}.png" for number in range(4)]
    for name in names:
        seven(60).save(name)
    assert main([*command, *names, "--out", "out"]) == 0
    assert len(held) >= len(names)
    assert max(held) <= 1


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_blank_picture(level: int, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("L", (60, 60), level).save("x.png")
    assert main(["solve", NET, "x.png", "--out", "out"]) == 0
    assert capsys.readouterr().out == "x.png: nothing to solve, all pieces look the same\n"
    assert not (folder / "out").exists()


def test_noise_that_nobody_sees_is_no_error(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clean = np.asarray(seven(300).convert("L"))
    noise = np.random.default_rng(0).integers(0, 5, clean.shape, np.uint8)
    Image.fromarray(np.maximum(clean, noise)).save("x.png")
    assert main(["solve", NET, "x.png", "--out", "out"]) == 0
    out = capsys.readouterr().out
    assert "all pieces right: no pixel differs by more than 4 of 255" in out


def test_nothing_of_the_user_is_overwritten(folder: Path) -> None:
    seven(90).save("x.png")
    seven(90).save("x-2-restored.png")
    os.symlink("nowhere", "x-3.png")
    before = {name: Path(name).read_bytes() for name in ("x.png", "x-2-restored.png")}
    for _ in range(2):
        assert main(["solve", NET, "x.png", "--out", "."]) == 0
    assert all(Path(name).read_bytes() == data for name, data in before.items())
    assert Path("x-3.png").is_symlink()
    made = {path.name for path in folder.iterdir()} - {*before, "x-3.png"}
    assert made == {"x-4.png", "x-4-restored.png", "x-5.png", "x-5-restored.png"}


@pytest.mark.parametrize("command", [["solve", NET], ["scramble"]], ids=["solve", "scramble"])
def test_what_another_process_writes_meanwhile_is_kept(
    command: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pictures are made before they get their names: another may be quicker."""
    seven(90).save("seven.png")
    names = {"seven.png", "seven-restored.png", "seven-scrambled.png"}

    def as_image(picture: Tensor) -> Image.Image:
        (folder / "out").mkdir(exist_ok=True)
        for name in names:
            (folder / "out" / name).write_text("of another process")
        return pieces.as_image(picture)

    monkeypatch.setattr("softperm.program.solve.as_image", as_image)
    assert main([*command, "seven.png", "--out", "out"]) == 0
    made = {path.name for path in (folder / "out").iterdir()} - names
    mine = {"seven-2.png", "seven-2-restored.png"}
    assert made == (mine if command[0] == "solve" else {"seven-scrambled-2.png"})
    assert all((folder / "out" / name).read_text() == "of another process" for name in names)


def test_one_wrong_picture_and_nothing_is_written(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seven(90).save("x.png")
    Image.new("L", (2, 90)).save("thin.png")
    for command in (["solve", NET], ["scramble"]):
        assert main([*command, "x.png", "thin.png", "--out", "out"]) == 1
        assert "thin.png: a picture must have at least 3 pixels" in capsys.readouterr().err
    assert not (folder / "out").exists()


@pytest.mark.parametrize("pieces", ["1", "0", "101", "x"])
def test_wrong_numbers_of_pieces(pieces: str, capsys: pytest.CaptureFixture[str]) -> None:
    seven(90).save("x.png")
    assert "pieces" in refused(["scramble", "x.png", "--pieces", pieces], capsys)
