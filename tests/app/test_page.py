"""The page as a whole: on a phone, with the keys, to those who do not see it, light and dark."""

from __future__ import annotations

from typing import Any

import pytest

from tests.app.conftest import PHONE, Opener
from tests.app.test_puzzle import WAIT

pytestmark = pytest.mark.browser

READY = {"puzzle": "Scrambled", "sort": "Sorted", "points": "pairs"}
# Buttons and fields without a name, and controls that are too small for a finger.
NAMELESS = """() => [...document.querySelectorAll("button, input, textarea, canvas, [role=button]")]
  .filter((e) => e.checkVisibility() && !e.parentElement.closest("button"))
  .filter((e) => !(e.ariaLabel || e.textContent.trim() || e.labels?.length))
  .map((e) => e.outerHTML)"""
SMALL = """() => [...document.querySelectorAll("button, .button, .choice label, .check, textarea")]
  .filter((e) => e.checkVisibility() && !e.classList.contains("piece"))
  .filter((e) => e.getBoundingClientRect().height < 43 || e.getBoundingClientRect().width < 43)
  .map((e) => e.outerHTML)"""
# Ratios of contrast below that of WCAG 2 (AA) of texts against what is behind them.
FAINT = """() => {
  const parse = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
  const light = ([r, g, b]) => [r, g, b]
    .map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + [0.2126, 0.7152, 0.0722][i] * v, 0);
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      const colour = parse(getComputedStyle(e).backgroundColor);
      if (colour.length === 3) return colour;
    }
    return [255, 255, 255];
  };
  const seen = [...document.querySelectorAll("body *")].filter((e) => e.checkVisibility() &&
    [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim()) && !e.disabled);
  return seen.map((e) => {
    const [a, b] = [light(parse(getComputedStyle(e).color)), light(behind(e))];
    return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), e.outerHTML.slice(0, 80)];
  }).filter(([ratio]) => ratio < 4.5);
}"""


@pytest.mark.parametrize("part", READY)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone(open_page: Opener, part: str, scheme: str) -> None:
    page = open_page(part, **PHONE, color_scheme=scheme)
    page.wait_for_function(WAIT, arg=[f"{part}-result", READY[part]])
    if part == "puzzle":
        page.tap("#restore")
        page.wait_for_function(WAIT, arg=["puzzle-result", "Restored"])
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.evaluate(NAMELESS) == []
    assert page.evaluate(SMALL) == []
    assert page.evaluate(FAINT) == []


def test_tabs_by_mouse_keys_and_address(open_page: Opener) -> None:
    page = open_page("sort")
    tabs = page.get_by_role("tab")

    def chosen() -> list[Any]:
        return [tab.get_attribute("aria-selected") for tab in tabs.all()]

    assert chosen() == ["false", "true", "false"]
    tabs.nth(1).focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("#points:not([hidden])")
    assert chosen() == ["false", "false", "true"]
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("#puzzle:not([hidden])")
    page.go_back()
    page.wait_for_selector("#points:not([hidden])")
    tabs.nth(0).click()
    page.wait_for_selector("#puzzle:not([hidden])")


def test_what_was_hidden_fits_when_it_is_seen_again(open_page: Opener) -> None:
    page = open_page("sort")
    page.wait_for_function(WAIT, arg=["sort-result", "Sorted"])
    page.get_by_role("tab").nth(2).click()
    page.set_viewport_size({"width": 600, "height": 800})
    page.get_by_role("tab").nth(1).click()
    for part in ("#sort-soft .heat", "#bars"):
        inside, outside = page.evaluate(
            "(part) => [part, part].map((p) => document.querySelector(p)).map((e, i) =>"
            " (i ? e.parentElement : e).getBoundingClientRect().width)",
            part,
        )
        assert inside == outside
        assert page.evaluate("(part) => document.querySelector(part).width", part) == round(inside)


def test_results_are_announced(open_page: Opener) -> None:
    page = open_page()
    for part in READY:
        assert page.get_attribute(f"#{part}-result", "role") == "status"


def test_colours_follow_the_system(open_page: Opener) -> None:
    page = open_page(color_scheme="light")
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.emulate_media(color_scheme="dark", reduced_motion="reduce")
    assert page.evaluate(ground) != light


def test_the_matrix_cools_by_itself_where_motion_is_welcome(open_page: Opener) -> None:
    page = open_page("sort", reduced_motion="no-preference")
    page.wait_for_function("() => Number(document.getElementById('sort-tau').value) === 3")
    page.wait_for_function("() => Number(document.getElementById('sort-tau').value) === 40")
    assert page.inner_text("#sort-soft .temperature button") == "Cool down"
