"""Points matched on the page."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.app.conftest import PHONE, Opener
from tests.app.test_puzzle import WAIT

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


def tap(page: Page, kind: str, x: float, y: float) -> None:
    """Add a point at a share of the field."""
    page.get_by_text(kind, exact=True).click()
    box = page.locator("#field").bounding_box()
    assert box is not None
    at = {"x": x * box["width"], "y": y * box["height"]}
    page.locator("#field").click(position=at)  # type: ignore[arg-type]


def says(page: Page, words: str) -> None:
    page.wait_for_function(WAIT, arg=["points-result", words])


@pytest.fixture
def field(open_page: Opener) -> Page:
    page = open_page("points")
    says(page, "5 pairs")
    page.click("#points-clear")
    says(page, "Add at least one circle and one square")
    assert page.locator("#points-soft").is_hidden()
    return page


def test_points_are_added_and_matched(field: Page) -> None:
    tap(field, "circle", 0.2, 0.2)
    tap(field, "square", 0.25, 0.25)
    says(field, r"^1 pair\.$")
    tap(field, "square", 0.8, 0.8)
    says(field, "1 pair; 1 square without a partner")
    tap(field, "circle", 0.3, 0.75)
    says(field, "1 pair; 1 circle and 1 square without a partner")
    field.uncheck("#slack")
    says(field, r"^2 pairs\.$")
    assert field.locator("#reach").is_disabled()
    assert field.locator(".pairing").count() == 2


def test_the_reach(field: Page) -> None:
    tap(field, "circle", 0.2, 0.5)
    tap(field, "square", 0.6, 0.5)
    says(field, "0 pairs; 1 circle and 1 square")
    field.locator("#reach").fill("0.45")
    says(field, r"^1 pair\.$")
    assert field.inner_text("#reach-value") == "0.45"


def test_points_are_dragged_moved_and_taken_away(field: Page) -> None:
    tap(field, "circle", 0.2, 0.5)
    tap(field, "square", 0.6, 0.5)
    says(field, "0 pairs")
    box = field.locator("#field").bounding_box()
    assert box is not None
    field.mouse.move(box["x"] + 0.2 * box["width"], box["y"] + 0.5 * box["height"])
    field.mouse.down()
    field.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.5 * box["height"], steps=5)
    field.mouse.up()
    says(field, r"^1 pair\.$")
    assert field.locator(".point").count() == 2
    field.locator("[data-name='circle 1']").focus()
    for _ in range(9):
        field.keyboard.press("ArrowLeft")
    says(field, "0 pairs")
    field.keyboard.press("Delete")
    says(field, "Add at least one circle")
    field.locator("[data-name='square 1'] .second").dblclick()
    field.wait_for_function("() => document.querySelectorAll('.point').length === 0")


def test_lines_grow_surer_as_the_temperature_falls(field: Page) -> None:
    for x in (0.2, 0.8):
        tap(field, "circle", x, 0.4)
        tap(field, "square", x, 0.6)
    says(field, r"^2 pairs\.$")

    def opacities(step: int) -> list[float]:
        field.locator("#points-tau").fill(str(step))
        return [
            float(line.get_attribute("stroke-opacity") or "")
            for line in field.locator(".weight").all()
        ]

    hot, cold = opacities(0), opacities(40)
    assert len(hot) == 4
    assert len(cold) == 2
    assert min(cold) > 0.8 > max(hot)


def test_points_may_go_while_the_matrix_cools(open_page: Opener) -> None:
    page = open_page("points", reduced_motion="no-preference")
    says(page, "5 pairs")
    button = page.locator("#points-temperature button")
    for change in ("#points-clear", "#points-example", "#points-add"):
        if button.is_visible():
            button.click()
            assert button.inner_text() == "Stop"
        page.click(change)
    says(page, "pairs")


def test_there_is_an_end(field: Page) -> None:
    field.get_by_text("square", exact=True).click()
    for _ in range(21):
        field.click("#points-add")
    says(field, "There can be at most 20 squares")
    assert field.locator(".point").count() == 20


def test_fingers_add_points(open_page: Opener) -> None:
    page = open_page("points", **PHONE)
    says(page, "5 pairs")
    before = page.locator(".point").count()
    page.locator("#field").tap(position={"x": 8, "y": 8})
    page.wait_for_function(f"() => document.querySelectorAll('.point').length === {before + 1}")
