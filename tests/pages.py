"""What every test of a page in a real browser waits for."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Page

IS_SHOWN = "performance.getEntriesByName('first-contentful-paint').length > 0"


def wait_until_drawn(page: Page) -> None:
    """A browser drops keys that come before the first picture of a page is on the screen; people are not that fast."""
    wait_until(page, IS_SHOWN)
    page.evaluate("new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))")


def wait_until(page: Page, condition: str) -> None:
    """Playwright's own way evaluates text inside the page again and again, which our pages forbid."""
    page.evaluate(f"""new Promise((holds, fails) => {{
      const end = performance.now() + 30000;
      const look = () => {{
        if ({condition}) holds();
        else if (performance.now() > end) fails(new Error("never true"));
        else setTimeout(look, 20);
      }};
      look();
    }})""")
