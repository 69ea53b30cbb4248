"""A real Chromium without a screen, and a page in it that keeps what went wrong."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from services.waiting import eventually

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

# As root in a container, without a network but for loopback: it neither sandboxes nor updates itself.
_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_PATIENCE = 30_000
"""Milliseconds for whatever is awaited of a page."""


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run a Chromium with a fresh profile."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(_FLAGS))
        try:
            yield browser
        finally:
            browser.close()


class Shown:
    """A page as a person sees it; all that its console says and all that it asks for is kept."""

    def __init__(self, browser: Browser, url: str, *, width: int = 1280, height: int = 800, **context: Any) -> None:
        self.url = url
        self.said: list[str] = []
        self.asked: list[str] = []
        self._context = browser.new_context(viewport={"width": width, "height": height}, **context)
        self.page: Page = self._context.new_page()
        self.page.set_default_timeout(_PATIENCE)
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(url)

    def close(self) -> None:
        """Close it."""
        self._context.close()

    def wait_until(self, condition: str) -> None:
        """Wait until an expression of JavaScript is true in the page."""
        # Not with wait_for_function, which evaluates texts inside the page: its policy forbids that.
        eventually(lambda: self.page.evaluate(condition), _PATIENCE / 1000, what=condition)

    def wait_for_text(self, selector: str, text: str) -> None:
        """Wait until an element shows a text."""
        self.page.locator(selector).filter(has_text=text).first.wait_for()

    def text(self, selector: str) -> str:
        """What an element shows."""
        return self.page.locator(selector).inner_text()

    def wait_for_answers(self, count: int = 2) -> None:
        """Wait until the page has been brought up to date so often."""
        for _ in range(count):
            with self.page.expect_response("**/overview"):
                pass

    @property
    def is_too_wide(self) -> bool:
        """Whether one has to scroll sideways."""
        return bool(self.page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"))
