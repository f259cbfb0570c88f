"""Numbers sorted on the page."""

from __future__ import annotations

import pytest

from tests.app.conftest import Opener
from tests.app.test_puzzle import WAIT

pytestmark = pytest.mark.browser


def test_numbers_are_sorted(open_page: Opener) -> None:
    page = open_page("sort")
    page.wait_for_function(WAIT, arg=["sort-result", "Sorted: -2, 0.5, 1.25, 3.1, 4, 7, 9, 14"])
    page.fill("#numbers", "3, 1e3; -7")
    page.click("#sort-form button")
    page.wait_for_function(WAIT, arg=["sort-result", "Sorted: -7, 3, 1000"])
    page.fill("#numbers", "3, 1; 2")
    page.click("#sort-form button")
    page.wait_for_function(WAIT, arg=["sort-result", "Sorted: 1, 2, 3"])
    assert page.inner_text("#soft-list") == "softly sorted: 1, 2, 3"
    page.locator("#sort-tau").fill("0")
    soft = [float(x) for x in page.inner_text("#soft-list").split(": ")[1].split(",")]
    assert sum(soft) == pytest.approx(6, rel=0.01)
    assert 1.2 < min(soft) < max(soft) < 2.8


def test_what_has_not_converged_is_said(open_page: Opener) -> None:
    page = open_page("sort")
    page.fill("#numbers", " ".join(str(i * i) for i in range(32)))
    page.click("#sort-form button")
    page.wait_for_function(WAIT, arg=["sort-info", "Not converged: after 5000 iterations"])
    assert "This is a permutation" not in page.inner_text("#sort-info")
    page.locator("#sort-tau").fill("5")
    page.wait_for_function(WAIT, arg=["sort-info", "Columns have their sums"])


def test_equal_numbers(open_page: Opener) -> None:
    page = open_page("sort")
    page.fill("#numbers", "2 1 1")
    page.click("#sort-form button")
    page.wait_for_function(WAIT, arg=["sort-result", "Sorted: 1, 1, 2"])
    page.wait_for_function(WAIT, arg=["sort-info", "equal numbers share their places"])


@pytest.mark.parametrize(
    ("text", "words"),
    [("1 two", "'two' is no number"), ("7", "type 2 to 32 numbers, got 1"), ("", "got 0")],
)
def test_wrong_numbers(open_page: Opener, text: str, words: str) -> None:
    page = open_page("sort")
    page.wait_for_function(WAIT, arg=["sort-result", "Sorted"])
    page.fill("#numbers", text)
    page.click("#sort-form button")
    page.wait_for_function(WAIT, arg=["sort-result", words])
    assert page.locator("#sort-soft").is_hidden()
