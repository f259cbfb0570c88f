"""Pictures opened, scrambled and restored, without a server."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from softperm.program.app.puzzle import SIZES, open_picture, restore, scramble
from tests.program.app.pictures import digit, encoded


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "WEBP"])
def test_a_picture_keeps_its_size_and_pixels(kind: str) -> None:
    data = encoded(digit(90, "yellow", "navy").resize((90, 60)), kind)
    with Image.open(BytesIO(open_picture(data))) as opened, Image.open(BytesIO(data)) as given:
        assert opened.format == "PNG"
        assert np.array_equal(np.asarray(opened), np.asarray(given.convert("RGB")))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "the file cannot be read as a picture: it is no PNG, JPEG, BMP or WebP"),
        (b"GIF89a", "it is no PNG"),
        (encoded(Image.new("L", (16, 16)), "TIFF"), "it is no PNG"),
        (encoded(digit())[:200], "the file cannot be read as a picture"),
        (encoded(Image.new("1", (4001, 4000))), "at most 16,000,000 pixels, got 4001 x 4000"),
        (encoded(Image.new("L", (4, 90))), "at least 5 pixels per side"),
    ],
)
def test_what_is_no_picture_to_play_with(data: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        open_picture(data)


@pytest.mark.parametrize("k", SIZES)
def test_a_scramble_can_be_seen_and_restored(k: int) -> None:
    data = encoded(digit())
    state = scramble(data, str(k), "5")
    order, fits = state["order"], np.array(state["fits"])
    assert sorted(order) == list(range(k * k))
    assert not fits[order, range(k * k)].all()
    found = restore(data, str(k), ",".join(map(str, order)))
    if k < 5:  # of 25 pieces the network may get some wrong
        assert found["wrong"] == 0
        assert found["verdict"] == "exact"
    assert found["wrong"] == int((~fits[found["order"], range(k * k)]).sum())
    assert [found["order"][place] for place in found["positions"]] == order
    assert np.array(found["matrices"]).shape[1:] == (k * k, k * k)


def test_which_pieces_fit_where() -> None:
    image = np.zeros((4, 4), np.uint8)
    image[:2, :2], image[:2, 2:], image[2:, :2] = 16, 17, 200
    state = scramble(encoded(Image.fromarray(image)), "2", "0")
    levels = np.array([16, 17, 200, 0])
    assert np.array_equal(state["fits"], np.abs(levels[:, None] - levels) <= 16)


def test_two_scrambles_of_one_seed_are_the_same() -> None:
    data = encoded(digit())
    first, again, other = (scramble(data, "4", seed)["order"] for seed in ("1", "1", "2"))
    assert first == again
    assert first != other


def test_pieces_that_look_alike_are_no_puzzle() -> None:
    for level in (0, 255):
        state = scramble(encoded(Image.new("L", (40, 40), level)), "3", "0")
        assert state == {"alike": True, "tolerance": 16}


def test_twins_share_their_places() -> None:
    """Blank pieces have the same scores: no temperature parts them, and that is told."""
    found = restore(encoded(digit()), "4", ",".join(map(str, range(16))))
    assert found["twins"]
    assert found["wrong"] == 0
    assert np.array(found["matrices"][-1]).max(1).min() < 0.6
    bars = Image.linear_gradient("L").resize((60, 60))
    assert not restore(encoded(bars.rotate(30)), "2", "0,1,2,3")["twins"]


def test_a_light_background_is_told() -> None:
    order = "8,7,6,5,4,3,2,1,0"
    found = restore(encoded(digit(ink="black", ground="white")), "3", order)
    assert (found["inverted"], found["verdict"]) == (True, "exact")
    assert not restore(encoded(digit()), "3", order)["inverted"]


@pytest.mark.parametrize(
    ("pieces", "order", "words"),
    [
        (None, "", "pieces must be 2, 3, 4 or 5 per side, got None"),
        ("6", "", "got 6"),
        ("\u0663", "", "pieces must be"),
        ("2", None, "order must hold each of 0 to 3 once"),
        ("2", "0,1,2", "order must"),
        ("2", "0,1,2,2", "order must"),
        ("2", "0,1,2,x", "order must"),
    ],
)
def test_wrong_queries(pieces: str | None, order: str | None, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        restore(encoded(digit(40)), pieces, order)


@pytest.mark.parametrize("seed", [None, "", "-1", "1.5", "1" * 16, "\u00b2"])
def test_wrong_seeds(seed: str | None) -> None:
    with pytest.raises(ValueError, match="seed must be an int of at most 15 digits"):
        scramble(encoded(digit(40)), "2", seed)
