"""The report in a real browser: opened from a file, quiet, reaching no network, accessible, and its filter works."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from labelclean.report.file import write_report
from labelclean.report.record_page import render_record
from labelclean.report.study_page import render_study
from labelclean.report.trial_page import render_trial
from labelclean.review.chain import ChainFault, ChainReport
from labelclean.review.record import Event
from labelclean.texts import LANGUAGES, Texts
from tests.pages import wait_until, wait_until_drawn
from tests.report.made_runs import around_the_labels, factory, hostile, write_refused_run, write_run
from tests.report.test_study_page import PICTURE, study
from tests.report.test_trial_page import record

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Dialog, Page

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Reports by name."""
    root = tmp_path_factory.mktemp("reports")
    runs = {
        "factory": write_run(root / "factory", around_the_labels(factory()), images=root / "images"),
        "many": write_run(root / "many", factory(200, 1500), images=root / "many_images"),
        "hostile": write_run(root / "hostile", hostile(), images=root / "hostile_images"),
        "refused": write_refused_run(root / "refused", names=["dent", "ok"], num=5),
    }
    trial = {f"trial-{lang}": root / f"trial-{lang}.html" for lang in LANGUAGES}
    for lang in LANGUAGES:
        trial[f"trial-{lang}"].write_text(render_trial(record(), Texts(lang)), encoding="utf-8")
    for lang in LANGUAGES:
        trial[f"study-{lang}"] = root / f"study-{lang}.html"
        trial[f"study-{lang}"].write_text(render_study(study(), {"s1": PICTURE}, Texts(lang)), encoding="utf-8")
        trial[f"record-{lang}"] = root / f"record-{lang}.html"
        trial[f"record-{lang}"].write_text(a_record(Texts(lang)), encoding="utf-8")
    return trial | {
        f"{name}-{lang}": write_report(run, lang=lang, out=root / f"{name}-{lang}.html")
        for name, run in runs.items()
        for lang in LANGUAGES
    }


def a_record(texts: Texts) -> str:
    """A record whose ledger was changed by hand, with long and hostile names."""
    at, name = datetime(2026, 1, 14, tzinfo=UTC), "<b>" + "x" * 90
    events = [
        Event("run", at, run_id="r", tool="labelclean 0.1.0", file="f", file_digest="f" * 64, num=12),
        Event(
            "decision",
            at,
            "Aiko",
            name,
            "ok",
            "corrected",
            (name,),
            run_id="r",
            content_hash="c" * 64,
            place=1,
            digest="d" * 64,
        ),
        Event(
            "application",
            at,
            "ben",
            run_id="r",
            file="/" + "y" * 200,
            file_digest="e" * 64,
            num=12,
            place=1,
            digest="a" * 64,
        ),
    ]
    chain = ChainReport(1, 1, "d" * 64, (ChainFault("decisions", 1, "changed", "Aiko", name),))
    return render_record(events, chain, texts, dataset=name, now=at)


class Visit:
    """One page and what it did while it was open."""

    def __init__(self, browser: Browser, report: Path, *, dark: bool = False, width: int = 1200) -> None:
        self.messages: list[str] = []
        self.requests: list[str] = []
        self.page: Page = browser.new_page(
            color_scheme="dark" if dark else "light", viewport={"width": width, "height": 900}, reduced_motion="reduce"
        )
        self.page.on("console", lambda message: self.messages.append(message.text))
        self.page.on("pageerror", lambda fault: self.messages.append(str(fault)))
        self.page.on("dialog", self._note_dialog)
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(report.as_uri())
        wait_until_drawn(self.page)

    def _note_dialog(self, dialog: Dialog) -> None:
        self.messages.append(dialog.message)
        dialog.dismiss()


NAMES = [
    f"{name}-{lang}"
    for name in ("factory", "many", "hostile", "refused", "trial", "study", "record")
    for lang in LANGUAGES
]


@pytest.mark.parametrize("name", NAMES)
def test_it_opens_from_a_file_without_a_word_or_a_request(
    browser: Browser, reports: dict[str, Path], name: str
) -> None:
    visit = Visit(browser, reports[name])
    visit.page.wait_for_load_state("networkidle")
    assert visit.messages == []
    assert [url for url in visit.requests if not url.startswith(("file://", "data:"))] == []
    assert len([url for url in visit.requests if url.startswith("file://")]) == 1


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("name", [name for name in NAMES if name != "many-ja"])  # axe is slow on many classes
def test_axe_finds_nothing_serious(browser: Browser, reports: dict[str, Path], name: str, dark: bool) -> None:
    axe = pytest.importorskip("axe_playwright_python.base").AXE_SCRIPT
    visit = Visit(browser, reports[name], dark=dark)
    visit.page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    visit.page.evaluate(axe)
    found = visit.page.evaluate("axe.run()")["violations"]
    assert [(fault["id"], fault["impact"], fault["nodes"][0]["html"][:200]) for fault in found] == []


def test_axe_finds_nothing_serious_on_a_telephone(browser: Browser, reports: dict[str, Path]) -> None:
    axe = pytest.importorskip("axe_playwright_python.base").AXE_SCRIPT
    visit = Visit(browser, reports["factory-en"], width=390)
    visit.page.evaluate(axe)
    assert [fault["id"] for fault in visit.page.evaluate("axe.run()")["violations"]] == []
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_number_of_the_confusion_shows_its_examples(browser: Browser, reports: dict[str, Path]) -> None:
    page = Visit(browser, reports["factory-en"]).page
    total = page.locator("li.card:visible").count()
    link = page.locator("a.pick").first
    given, predicted = link.get_attribute("data-given"), link.get_attribute("data-predicted")
    link.click()
    shown = page.locator("li.card:visible")
    assert 0 < shown.count() < total
    for card in shown.all():
        assert (card.get_attribute("data-given"), card.get_attribute("data-predicted")) == (given, predicted)
    assert (
        page.locator("form.filter output").inner_text() == f"{shown.count()} of {link.inner_text()} such labels shown"
    )
    page.locator("select[name=source]").select_option("ranked")
    assert page.locator("form.filter output").inner_text() == f"{shown.count()} of {total} shown"
    page.get_by_role("button", name="Show all").click()
    wait_until(page, f"document.querySelectorAll('li.card:not([hidden])').length === {total}")


@pytest.mark.parametrize("lang", LANGUAGES)
def test_what_waits_for_eyes_can_be_shown_alone(browser: Browser, reports: dict[str, Path], lang: str) -> None:
    page, words = Visit(browser, reports[f"factory-{lang}"]).page, Texts(lang)
    total = page.locator("li.card:visible").count()
    page.locator("select[name=mark]").select_option("waits")
    shown = page.locator("li.card:visible")
    assert 0 < shown.count() < total
    assert set(shown.locator(".mark").all_inner_texts()) == {words("marks.waits")}
    assert shown.locator(".suggested").count() == 0
    page.locator("a.pick").first.click()  # a number of the confusion lifts that choice
    assert set(page.locator("li.card:visible .mark").all_inner_texts()) == {words("marks.change")}


def test_the_confusion_and_the_filter_work_by_keyboard(browser: Browser, reports: dict[str, Path]) -> None:
    page = Visit(browser, reports["many-en"]).page
    total = page.locator("li.card:visible").count()
    page.locator("a.pick").first.focus()
    page.keyboard.press("Enter")
    assert 0 < page.locator("li.card:visible").count() < total
    assert page.evaluate("document.activeElement.id") == "suspects"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.name") == "given"


def test_hostile_names_are_shown_as_text_and_run_nothing(browser: Browser, reports: dict[str, Path]) -> None:
    visit = Visit(browser, reports["hostile-en"])
    assert visit.messages == []
    assert visit.page.locator("#classes ~ .scroll tbody th").all_inner_texts()[1] == '<script>alert("x")</script>'
    assert visit.page.locator("script").count() == 1
    assert visit.page.locator("main img[src^=x]").count() == 0


def test_every_picture_is_drawn(browser: Browser, reports: dict[str, Path]) -> None:
    page = Visit(browser, reports["factory-en"]).page
    broken = page.evaluate("[...document.images].filter((image) => !image.complete || !image.naturalWidth).length")
    assert page.evaluate("document.images.length") > 60
    assert broken == 0


def test_print_shows_every_sample_and_the_folded_tables(browser: Browser, reports: dict[str, Path]) -> None:
    page = Visit(browser, reports["factory-en"]).page
    total = page.locator("li.card").count()
    page.locator("a.pick").first.click()
    page.emulate_media(media="print", color_scheme="dark")
    assert page.locator("li.card:visible").count() == total
    assert not page.locator("form.filter").is_visible()
    assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(255, 255, 255)"
