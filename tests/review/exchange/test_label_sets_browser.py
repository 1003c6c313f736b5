"""The review sheet of several labels in a real browser: one key per class, ticked and unticked, by keyboard only."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from labelclean.review.exchange.tools import export_run, import_decisions
from tests.review.exchange.test_label_sets import NAMES
from tests.review.exchange.test_label_sets import run as run  # the fixture
from tests.review.exchange.test_sheet_browser import Visit

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_sets_are_decided_by_keyboard_and_come_back(browser: Browser, run: Path, tmp_path: Path) -> None:
    export = export_run(run, "sheet", tmp_path / "out").folder
    visit = Visit(browser, export, locale="en-GB", accept_downloads=True)
    assert visit.text("#ask") == "What is on it?"
    assert visit.page.locator("#classes button[aria-pressed=true]").all_inner_texts() == ["1\ndent"]
    assert [text.split("\n")[0] for text in visit.page.locator("#told dd").all_inner_texts()] == [
        "dent worst of them 10% likely right", "scratch", "dent, scratch",
    ]  # fmt: skip
    visit.press("3", "1", "1", "Enter")  # dent, stain
    visit.press("s")  # the suggestion: stain
    visit.press("n")  # none, of scratch and stain
    visit.press("1", "Escape", "Enter")  # as given
    assert visit.text("#told").startswith("Blind check")
    assert visit.page.locator("#classes button[aria-pressed=true]").count() == 0
    visit.press("2", "Enter")
    assert visit.text("#done-title") == "All 5 pictures are decided."
    with visit.page.expect_download() as loading:
        visit.press("d")
    loading.value.save_as(tmp_path / "decisions.json")
    now = datetime.now(UTC) + timedelta(minutes=1)
    _, found = import_decisions(tmp_path / "decisions.json", "sheet", export, now=now)
    assert [(one.decision, one.verified_labels) for one in found] == [
        ("corrected", ("dent", "stain")), ("corrected", ("stain",)), ("corrected", ()), ("confirmed", ("stain",)),
        ("corrected", ("scratch",)),
    ]  # fmt: skip
    assert set(NAMES) >= {
        name for row in json.loads((tmp_path / "decisions.json").read_text())["decisions"] for name in row["labels"]
    }
    assert visit.messages == []
    visit.press("ArrowLeft", "ArrowLeft", "ArrowLeft", "ArrowLeft")
    assert visit.page.locator("#classes button[aria-pressed=true]").all_inner_texts() == ["1\ndent", "3\nstain"]
    axe = pytest.importorskip("axe_playwright_python.base").AXE_SCRIPT
    assert visit.axe(script=axe) == []
