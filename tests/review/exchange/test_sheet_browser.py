"""The review sheet in a real browser: the whole round trip by keyboard only, quiet, reaching no network, accessible."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from labelclean.errors import ExchangeError
from labelclean.review.exchange.sheet import texts
from labelclean.review.exchange.tools import export_run, import_decisions
from labelclean.review.ledger import append_decisions, decisions_of, open_ledger
from tests.pages import wait_until, wait_until_drawn
from tests.review.exchange import conftest
from tests.review.exchange.conftest import NAMES, make_run, rows_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

pytestmark = [pytest.mark.browser, pytest.mark.slow]
NUM, WHO = 50, "Aiko 愛子"
K = len(NAMES)


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sheet of 50 samples with hostile class names."""
    root = tmp_path_factory.mktemp("sheet")
    return export_run(make_run(root, NUM), "sheet", root / "out").folder


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sheet of 500 samples of 40 classes."""
    root = tmp_path_factory.mktemp("many")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conftest, "NAMES", tuple(f"defect {k:02}" for k in range(40)))
        patch.setattr("labelclean.storage.parquet.sync", lambda _: None)
        return export_run(make_run(root, 500), "sheet", root / "out").folder


class Visit:
    """One page and what it did while it was open; the reviewer's name is given by keyboard."""

    def __init__(self, browser: Browser, export: Path, *, named: bool = True, **settings: Any) -> None:
        self.messages: list[str] = []
        self.requests: list[str] = []
        self.context: BrowserContext = browser.new_context(
            viewport={"width": settings.pop("width", 1300), "height": 850}, reduced_motion="reduce", **settings
        )
        self.page: Page = self.context.new_page()
        self.page.on("console", lambda message: self.messages.append(message.text))
        self.page.on("pageerror", lambda fault: self.messages.append(str(fault)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.open(export)
        if named:
            self.press(WHO, "Enter")
            assert self.text("#reviewer") == WHO

    def open(self, sheet: Path) -> None:
        self.page.goto((sheet / "sheet.html").as_uri())
        wait_until_drawn(self.page)

    def reload(self) -> None:
        self.page.reload()
        wait_until_drawn(self.page)

    def press(self, *keys: str) -> None:
        for key in keys:
            if len(key) > 1 and (key == WHO or " " in key):
                self.page.keyboard.type(key)
            else:
                self.page.keyboard.press(key)

    def text(self, place: str) -> str:
        return self.page.locator(place).inner_text()

    def axe(self, *, script: str) -> list[tuple[str, str]]:
        self.page.evaluate(script)
        found = self.page.evaluate("axe.run()")["violations"]
        return [(fault["id"], fault["nodes"][0]["html"][:200]) for fault in found]


def answer(k: int) -> tuple[list[str], tuple[Any, ...]]:
    """Keys for sample k, and the decision they mean: (kind, verified, candidates, ruled out)."""
    given, suggested, is_blind = k % K, (k + 1) % K, k % 4 == 3
    if is_blind:
        chosen = (k * 3) % K
        return [str(chosen + 1)], ("confirmed" if chosen == given else "corrected", NAMES[chosen], (), ())
    other = (given + 2) % K
    pair = tuple(sorted((NAMES[given], NAMES[suggested])))
    return [
        (["Enter"], ("confirmed", NAMES[given], (), ())),
        ([str(other + 1)], ("corrected", NAMES[other], (), ())),
        (["u"], ("unsure", None, (), ())),
        (["x"], ("bad_image", None, (), ())),
        (["n", str(given + 1)], ("not_class", None, (), (NAMES[given],))),
        (["o", str(given + 1), str(suggested + 1), "Enter"], ("one_of", None, pair, ())),
        ([" "], ("confirmed", NAMES[given], (), ())),
        (["s"], ("corrected", NAMES[suggested], (), ())),
        (["x", "z", "k"], ("none_of_these", None, (), tuple(sorted(NAMES)))),
        (["n", "Escape", "o", "1", "Escape", str(other + 1)], ("corrected", NAMES[other], (), ())),
    ][k // 4 % 5 * 2 + k % 2][:2]


def test_fifty_decisions_by_keyboard_only_come_back_as_they_were_made(
    browser: Browser, export: Path, tmp_path: Path
) -> None:
    visit = Visit(browser, export, locale="en-GB")
    truth = set()
    for k in range(NUM):
        assert visit.text("#place") == f"{k + 1} of {NUM}"
        keys, said = answer(k)
        visit.press(*keys)
        truth.add((f"s{k}", *said, WHO))
        if k == 24:
            visit.reload()
            assert not visit.page.locator("dialog[open]").count()  # the name is asked once
            assert visit.text("#count") == "25 of 50 decided"
    assert {said[1] for said in truth} == {
        "confirmed",
        "corrected",
        "unsure",
        "bad_image",
        "none_of_these",
        "not_class",
        "one_of",
    }
    assert visit.page.locator("#done").is_visible()
    with visit.page.expect_download() as saving:
        visit.press("d")
    assert saving.value.suggested_filename == "decisions-2026-01-14T020000.000Z-Aiko-愛子.json"
    saving.value.save_as(tmp_path / "d.json")
    assert visit.text("#status").startswith("Saved 50 decisions as decisions-")
    report, decisions = import_decisions(tmp_path / "d.json", "sheet", export, now=datetime.now(UTC))
    ledger = open_ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    assert append_decisions(ledger, decisions) == NUM
    assert rows_of(decisions_of(ledger, "line 3 (北)")) == truth
    assert (report.is_clean, report.num_unanswered) == (True, 0)
    assert visit.messages == []
    assert [url for url in visit.requests if not url.startswith(("file://", "data:", "blob:"))] == []
    assert len({url for url in visit.requests if url.startswith("file://")}) == 1


@pytest.mark.parametrize("locale", ["en-GB", "ja-JP"])
def test_a_suspect_that_waits_for_eyes_has_no_suggestion_to_take(browser: Browser, tmp_path: Path, locale: str) -> None:
    words = texts(locale[:2])
    export = export_run(make_run(tmp_path, 3, waiting=[1]), "sheet", tmp_path / "out").folder
    visit = Visit(browser, export, locale=locale)
    take = visit.page.locator("[data-do=accept]")
    assert take.is_visible()
    visit.press("ArrowRight")
    assert not take.is_visible()
    facts = visit.page.locator(".facts div").all_inner_texts()
    assert facts[1].split() == [*words["possible"].split(), "dent", "&", "crack", *words["waits"].split()]
    assert words["reasons.readings_differ"].format(given="傷", possible="dent & crack") in visit.text("#evidence")
    visit.press("s")
    assert visit.text("#status") == words["no_suggestion"]
    assert visit.text("#place").startswith("2 ")
    visit.press("3")
    assert visit.text("#count") == words["progress"].format(done=1, total=3)
    assert visit.messages == []


def test_a_page_that_is_changed_later_gives_a_file_that_still_fits(
    browser: Browser, export: Path, tmp_path: Path
) -> None:
    visit = Visit(browser, export)
    visit.press("Enter", "Enter", "ArrowLeft", "n", "1", "ArrowLeft", "n", "3")
    with visit.page.expect_download() as saving:
        visit.press("d")
    record = json.loads(Path(saving.value.path()).read_text(encoding="utf-8"))
    said = [(row["decision"], row["labels"]) for row in record["decisions"]]
    assert said == [("confirmed", [NAMES[0]]), ("not_class", [NAMES[0], NAMES[2]])]
    record["num_decisions"] = 1
    (tmp_path / "d.json").write_text(json.dumps(record))
    with pytest.raises(ExchangeError, match="cut or changed"):
        import_decisions(tmp_path / "d.json", "sheet", export, now=conftest.NOW)


def test_a_blind_sample_shows_no_label_and_cannot_be_confirmed(browser: Browser, export: Path) -> None:
    visit = Visit(browser, export, locale="en")
    visit.press("ArrowRight", "ArrowRight", "ArrowRight")
    assert visit.text("#told h2") == "Blind check"
    assert visit.text("#name") == ""
    assert not visit.page.locator("[data-do=confirm]").is_visible()
    visit.press("Enter", "s", " ")
    assert visit.text("#count") == "0 of 50 decided"
    assert visit.text("#status") == "Blind check: choose a class."


def test_hostile_names_are_shown_as_text(browser: Browser, export: Path) -> None:
    visit = Visit(browser, export)
    assert visit.page.locator("#classes button").all_inner_texts()[3].split("\n")[-1] == "<script>"
    visit.press("4")
    assert visit.page.locator("script:not([type])").count() == 1
    assert visit.messages == []


def test_a_sheet_remembers_its_own_answers_only(browser: Browser, export: Path, many: Path) -> None:
    visit = Visit(browser, export, locale="en")
    visit.press("Enter", "Enter")
    visit.open(many)
    assert visit.text("#count") == "0 of 500 decided"
    assert visit.page.locator("#who").is_visible()
    visit.open(export)
    assert visit.text("#count") == "2 of 50 decided"


def test_the_picture_is_magnified_and_moved_by_keyboard(browser: Browser, export: Path) -> None:
    visit = Visit(browser, export, locale="en")
    visit.press("m")
    place = "[document.getElementById('frame').scrollLeft, document.getElementById('frame').scrollTop]"
    left, top = visit.page.evaluate(place)
    visit.press("ArrowRight", "ArrowDown")
    assert visit.page.evaluate(f"{place}.every((at, k) => at > [{left}, {top}][k])")
    assert visit.text("#place") == "1 of 50"
    visit.press("Escape", "ArrowRight")
    assert visit.text("#place") == "2 of 50"


def test_two_tabs_of_one_sheet_lose_nothing(browser: Browser, export: Path) -> None:
    visit = Visit(browser, export, locale="en")
    other = visit.context.new_page()
    other.goto((export / "sheet.html").as_uri())
    wait_until_drawn(other)
    other.keyboard.press("u")
    wait_until(visit.page, "document.querySelector('progress').value === 1")
    visit.press("ArrowRight", "x")
    wait_until(other, "document.querySelector('progress').value === 2")


def test_with_many_classes_one_is_found_by_its_name(browser: Browser, many: Path) -> None:
    visit = Visit(browser, many, locale="en")
    visit.press("/", "T", "3", "Backspace", "Backspace", "3", "7")
    assert visit.page.locator("#classes button").count() == 1
    visit.press("Enter")
    assert visit.text("#count") == "1 of 500 decided"
    assert visit.page.evaluate("document.activeElement.id") == "look"
    visit.press("ArrowLeft")
    assert visit.text("#said bdi") == "defect 37 (corrected)"
    visit.press("o", "/", "1", "2", "Enter", "/", "3", "3", "Enter", "Enter", "ArrowLeft")
    assert visit.text("#said bdi") == "One of defect 12 or defect 33"


def test_the_language_is_the_browsers_and_can_be_changed(browser: Browser, export: Path) -> None:
    visit = Visit(browser, export, locale="ja-JP")
    assert visit.text("#count") == "50 件中 0 件判定済み"
    assert visit.page.evaluate("document.documentElement.lang") == "ja"
    visit.page.locator("#lang").select_option("en")
    assert visit.text("#count") == "0 of 50 decided"
    visit.reload()
    assert visit.text("#count") == "0 of 50 decided"


def test_without_storage_it_says_so_and_still_saves(browser: Browser, export: Path) -> None:
    visit = Visit(browser, export, named=False, locale="en")
    visit.page.add_init_script("Object.defineProperty(window, 'localStorage', { get() { throw new Error('no'); } })")
    visit.reload()
    visit.press(WHO, "Enter")
    visit.page.locator("#reviewer", has_text=WHO).wait_for()
    visit.press("Enter")
    visit.page.locator("#count", has_text="1 of 50 decided").wait_for()
    assert "keeps no progress" in visit.text("#warning")
    with visit.page.expect_download() as saving:
        visit.press("d")
    assert json.loads(Path(saving.value.path()).read_text(encoding="utf-8"))["num_decisions"] == 1


WATCH = """() => {
  window.touched = 0;
  new MutationObserver((found) => {
    for (const one of found) window.touched += 1 + one.addedNodes.length + one.removedNodes.length;
  }).observe(document, { subtree: true, childList: true, attributes: true, characterData: true });
}"""


def test_what_a_decision_redraws_does_not_grow_with_the_number_of_pictures(browser: Browser, many: Path) -> None:
    visit = Visit(browser, many)
    visit.page.evaluate(WATCH)
    began = time.monotonic()
    for _ in range(40):
        visit.press("u")
    print(f"{(time.monotonic() - began) / 40:.3f} s per decision")
    assert visit.text("#count") == "40 of 500 decided"
    each = visit.page.evaluate("window.touched") / 40
    assert each < 200  # 40 class buttons and the panel; 500 pictures would be 500
    assert visit.messages == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("state", ["name", "seen", "blind", "one_of", "help", "done", "zoomed", "telephone"])
def test_axe_finds_nothing(browser: Browser, export: Path, state: str, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.base").AXE_SCRIPT
    width = 390 if state == "telephone" else 1300
    visit = Visit(browser, export, named=state != "name", color_scheme=scheme, width=width)
    keys = {
        "blind": ["Enter", "u", "x"],
        "one_of": ["o", "1", "2"],
        "help": ["?"],
        "zoomed": ["m"],
        "seen": ["Enter", "ArrowLeft"],
    }
    visit.press(*keys.get(state, []))
    if state == "done":
        visit.press(*["u"] * NUM)
        assert visit.page.locator("#done").is_visible()
    wait_until_drawn(visit.page)
    assert visit.axe(script=axe) == []
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
