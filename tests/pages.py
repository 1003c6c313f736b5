"""What every test of a page in a real browser waits for."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Page


def wait_until_drawn(page: Page) -> None:
    """A browser drops keys that come before the first picture of a page is on the screen; people are not that fast."""
    page.wait_for_function("performance.getEntriesByName('first-contentful-paint').length > 0")
    page.evaluate("new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))")
