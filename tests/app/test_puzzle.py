"""The puzzle, as a user plays it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from tests.app.conftest import PHONE, Opener
from tests.program.app.pictures import digit

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

WAIT = """([name, words]) => document.getElementById(name).textContent.match(new RegExp(words))"""
PLACES = """() => [...document.querySelectorAll(".piece")].map((piece) =>
    (piece.ariaLabel.match(/\\d+/g) ?? []).map(Number))"""


def result(page: Page, words: str) -> str:
    """What the page says, once it says this."""
    page.wait_for_function(WAIT, arg=["puzzle-result", words])
    return page.inner_text("#puzzle-result")


def places(page: Page) -> list[tuple[int, int]]:
    """Row and column of every piece, from 1."""
    return [(row, column) for row, column in page.evaluate(PLACES)]


def at_home(k: int) -> list[tuple[int, int]]:
    return [(row + 1, column + 1) for row in range(k) for column in range(k)]


def take_example(page: Page, name: str) -> None:
    """Choose a picture, and wait until it is there: then it is scrambled whatever else is asked."""
    page.get_by_label(f"Example: {name}").click()
    page.wait_for_selector(f"[aria-label^='Example: {name}'][aria-pressed=true]")


def choose(page: Page, k: int) -> None:
    page.locator(f"#sizes label:has([value='{k}'])").click()
    page.wait_for_function(f"() => document.querySelectorAll('.piece').length === {k * k}")
    result(page, "Scrambled")
    page.evaluate("() => scrollTo(0, 0)")


@pytest.mark.parametrize("k", [2, 3, 4])
def test_an_example_is_scrambled_and_restored(open_page: Opener, k: int) -> None:
    page = open_page()
    result(page, "Scrambled")
    take_example(page, "a five")
    choose(page, k)
    page.click("#restore")
    assert result(page, "Restored") == "Restored: exact."
    assert page.locator(".piece.wrong").count() == 0
    assert re.fullmatch(r"\d+ ms|\d+\.\d s", page.inner_text("#race-net"))
    if k < 4:  # pieces that look alike may have changed places
        assert places(page) == at_home(k)
    page.click("#scramble")
    result(page, "Scrambled")
    assert places(page) != at_home(k)
    assert page.locator("#puzzle-soft").is_hidden()


def middle(page: Page, piece: int) -> tuple[float, float]:
    box = page.locator(".piece").nth(piece).bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def home(page: Page, piece: int, k: int) -> tuple[float, float]:
    box = page.locator("#board").bounding_box()
    assert box is not None
    row, column = divmod(piece, k)
    return (
        box["x"] + box["width"] * (column + 0.5) / k,
        box["y"] + box["height"] * (row + 0.5) / k,
    )


def drag(page: Page, start: tuple[float, float], end: tuple[float, float]) -> None:
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move(*end, steps=4)
    page.mouse.up()


def test_the_race_by_dragging(open_page: Opener) -> None:
    page = open_page()
    choose(page, 2)
    for piece in range(4):
        if places(page)[piece] != at_home(2)[piece]:
            drag(page, middle(page, piece), home(page, piece, 2))
            assert places(page)[piece] == at_home(2)[piece]
    said = result(page, "Solved")
    assert re.fullmatch(r"Solved in .* with [123] swaps?\. The network solved it too\.", said)
    assert re.fullmatch(r"\d+ ms|\d+\.\d s", page.inner_text("#race-you"))
    result(page, "Solved")
    assert page.locator("#puzzle-soft").is_visible()


def test_a_drag_off_the_board_changes_nothing(open_page: Opener) -> None:
    page = open_page()
    result(page, "Scrambled")
    before = places(page)
    drag(page, middle(page, 0), (3.0, 3.0))
    assert places(page) == before


def test_pieces_are_swapped_with_the_keys(open_page: Opener) -> None:
    page = open_page()
    choose(page, 2)
    first, last = (places(page).index(place) for place in ((1, 1), (2, 2)))
    page.locator(".piece").nth(first).focus()
    page.keyboard.press("Enter")
    assert page.locator(".piece").nth(first).get_attribute("aria-pressed") == "true"
    for key in ("ArrowRight", "ArrowDown", "ArrowDown", "Enter"):
        page.keyboard.press(key)
    assert places(page)[first] == (2, 2)
    assert places(page)[last] == (1, 1)


def test_fingers_drag_and_tap_on_a_phone(open_page: Opener) -> None:
    page = open_page(**PHONE)
    choose(page, 2)
    touch = page.context.new_cdp_session(page)
    at = places(page)
    first, last = at.index((1, 1)), at.index((2, 2))
    (x, y), (to_x, to_y) = middle(page, first), middle(page, last)
    for kind, points in (
        ("touchStart", [{"x": x, "y": y}]),
        *(
            ("touchMove", [{"x": x + (to_x - x) * step / 4, "y": y + (to_y - y) * step / 4}])
            for step in (1, 2, 3, 4)
        ),
        ("touchEnd", []),
    ):
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    assert places(page)[first] == (2, 2)
    assert places(page)[last] == (1, 1)
    before = places(page)
    for place in ((1, 2), (2, 1)):
        page.touchscreen.tap(*middle(page, before.index(place)))
    assert places(page)[before.index((1, 2))] == (2, 1)


def test_a_drawing(open_page: Opener) -> None:
    page = open_page()
    result(page, "Scrambled")
    page.click("#draw")
    assert page.locator("#restore").is_disabled()
    page.click("#draw-done")
    assert result(page, "Nothing is drawn") == "Nothing is drawn yet."
    box = page.locator("#slate").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.25 * box["height"])
    page.mouse.down()
    for x, y in ((0.68, 0.25), (0.45, 0.8)):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=10)
    page.mouse.up()
    page.click("#draw-done")
    result(page, "Scrambled")
    page.click("#restore")
    assert result(page, "Restored") == "Restored: exact."


def test_a_blank_drawing_is_nothing_to_solve(open_page: Opener, tmp_path: Path) -> None:
    page = open_page()
    result(page, "Scrambled")
    Image.new("RGB", (50, 50), "teal").save(tmp_path / "x.png")
    page.set_input_files("#upload", tmp_path / "x.png")
    assert "within 16 of 255 grey levels" in result(page, "Nothing to solve")
    assert page.locator("#restore").is_disabled()
    choose_example = page.get_by_label("Example: a two")
    choose_example.click()
    result(page, "Scrambled")
    assert page.locator("#restore").is_enabled()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP"])
def test_an_upload_in_ink_on_paper(open_page: Opener, tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"x.{kind.lower()}"
    digit(301, "black", "white").save(path, kind)
    page = open_page()
    result(page, "Scrambled")
    page.set_input_files("#upload", path)
    page.wait_for_function("() => !document.querySelector('#examples [aria-pressed=true]')")
    result(page, "Scrambled")
    page.click("#restore")
    said = result(page, "Restored")
    assert "all pieces right" in said.lower() or "exact" in said
    assert said.endswith("The background is light: the network was shown the negative.")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"no picture", "it is no PNG, JPEG, BMP or WebP"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "cannot be read as a picture"),
        (bytes(32_000_001), "must have at most 32 MB"),
    ],
)
def test_wrong_uploads(open_page: Opener, tmp_path: Path, data: bytes, words: str) -> None:
    page = open_page()
    result(page, "Scrambled")
    (tmp_path / "x.png").write_bytes(data)
    page.set_input_files("#upload", tmp_path / "x.png")
    result(page, words)
    assert "bad" in (page.get_attribute("#puzzle-result", "class") or "")
    page.click("#restore")  # the picture before is still there
    result(page, "Restored")


def test_the_matrix_sharpens_as_the_temperature_falls(open_page: Opener) -> None:
    page = open_page()
    take_example(page, "a five")
    choose(page, 3)
    page.click("#restore")
    result(page, "Restored")
    slider = page.locator("#puzzle-tau")

    def spread() -> float:
        found = re.search(r"spread over ([\d.]+) places", page.inner_text("#puzzle-info"))
        assert found is not None
        return float(found[1])

    assert slider.get_attribute("aria-valuetext") == "temperature 0.1"
    assert "This is a permutation, to within 0.01." in page.inner_text("#puzzle-info")
    cold = spread()
    slider.fill("10")
    middle = spread()
    slider.fill("0")
    assert 1 == cold < middle < spread() <= 9
    assert "permutation" not in page.inner_text("#puzzle-info")
    page.click("#puzzle-soft .temperature button")  # without motion: to the end at once
    assert spread() == cold


def test_a_cell_can_be_read(open_page: Opener) -> None:
    page = open_page()
    choose(page, 2)
    page.click("#restore")
    result(page, "Restored")
    page.hover("#puzzle-soft .heat", position={"x": 60, "y": 60})
    assert re.fullmatch(
        r"piece 1 at place 1: [01]\.\d{3}", page.inner_text("#puzzle-soft .readout")
    )


def test_twins_are_named(open_page: Opener) -> None:
    page = open_page()
    choose(page, 5)
    page.click("#restore")
    result(page, "Restored")
    assert "Not a permutation: pieces that look alike" in page.inner_text("#puzzle-info")


def test_wrong_pieces_are_marked(open_page: Opener) -> None:
    page = open_page()
    result(page, "Scrambled")
    take_example(page, "a landscape")
    choose(page, 4)
    page.click("#restore")
    found = re.match(r"Restored: (\d+) of 16 pieces wrong", result(page, "Restored"))
    assert found is not None
    assert page.locator(".piece.wrong").count() == int(found[1])


def test_a_server_that_is_gone_is_told(open_page: Opener) -> None:
    page = open_page()
    result(page, "Scrambled")
    page.route("**/api/**", lambda route: route.abort())
    page.click("#restore")
    assert "Is softperm app still running?" in result(page, "does not answer")
