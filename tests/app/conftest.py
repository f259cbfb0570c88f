"""Chromium, and the page in it."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}

Opener = Callable[..., "Page"]


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        pytest.skip("playwright is not installed")
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip(f"there is no browser: none of {', '.join(NAMES)}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    from softperm.program.app.server import Page as Server

    with Server("127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.05])
        thread.start()
        yield server.url
        server.shutdown()
        thread.join()


@pytest.fixture
def open_page(chromium: Browser, address: str) -> Iterator[Opener]:
    """A function that opens a part of the page; what goes wrong in its scripts fails the test."""
    wrong: list[str] = []
    asked: list[str] = []
    with ExitStack() as stack:

        def open_part(part: str = "puzzle", **options: Any) -> Page:
            defaults = {"viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce"}
            options = {**defaults, **options}
            context = chromium.new_context(**options)
            stack.callback(context.close)
            page = context.new_page()
            page.set_default_timeout(60_000)
            page.on("pageerror", lambda error: wrong.append(str(error)))
            page.on("request", lambda request: asked.append(request.url))
            page.goto(f"{address}/#{part}")
            return page

        yield open_part
    assert wrong == []
    assert [url for url in asked if not url.startswith((address, "blob:", "data:"))] == []
