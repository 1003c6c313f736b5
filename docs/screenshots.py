"""Makes the screenshots in docs/images with headless Chromium; run it from the repository root.

    python docs/screenshots.py [RUN] [--all] [--study DIR] [--several RUN] [--out DIR] [--chromium PATH]

RUN is a published run whose images are still in place; without it a made-up factory is shown.
Only pictures of the sample data belong into docs/images.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from labelclean.report.file import write_report  # noqa: E402
from labelclean.review.exchange.tools import export_run  # noqa: E402
from tests.report import made_runs  # noqa: E402

WIDTH, HEIGHT = 1200, 1500
SHOWN = ("light", "ja")


def main() -> None:
    """Write every screenshot."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("run", nargs="?", type=Path, help="a published run")
    parser.add_argument("--all", action="store_true", help="also those that no page of the docs shows, to look at")
    parser.add_argument("--study", type=Path, help="a study with its report")
    parser.add_argument("--several", type=Path, help="a run of several labels per image")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images")
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=arguments.chromium, args=["--no-sandbox"])
        for name, page, options in pages(Path(scratch), arguments.run):
            if not (arguments.all or name in SHOWN):
                continue
            shoot(browser, page, arguments.out / f"report-{name}.png", **options)
        if arguments.run:
            export = export_run(arguments.run, "sheet", Path(scratch) / "queue").folder
            shoot_sheet(browser, export, arguments.out, {"sheet": "light"})
        if arguments.study:
            shoot(browser, (arguments.study / "report" / "study.html").absolute(), arguments.out / "study.png")
        if arguments.several:
            page = write_report(arguments.several, out=Path(scratch) / "several.html")
            shoot(browser, page, arguments.out / "report-several.png", at="#classes")
            export = export_run(arguments.several, "sheet", Path(scratch) / "several").folder
            shoot_sheet(browser, export, arguments.out, {"sheet-several": "light"})
        browser.close()


def pages(scratch: Path, run: Path | None) -> list[tuple[str, Path, dict[str, str]]]:
    """Return name, report and options of every screenshot."""
    images = scratch / "images"
    shown = run or made_runs.write_run(scratch / "factory", made_runs.factory(), images=images)
    lines = made_runs.write_run(scratch / "lines", made_runs.factory(), images=images)
    many = made_runs.write_run(scratch / "many", made_runs.factory(200, 4000), images=scratch / "many_images")
    kept = made_runs.Made(["scratch", "dent"], [0] * 30 + [1] * 20, [0] * 30 + [1] * 20, [0.99] * 50)
    kept.gates = made_runs.factory(2, 50).gates
    empty = made_runs.write_run(scratch / "empty", kept)
    refused = made_runs.write_refused_run(scratch / "refused", names=["scratch", "dent"], num=48)
    english, japanese = (
        write_report(shown, out=scratch / "en.html"),
        write_report(shown, out=scratch / "ja.html", lang="ja"),
    )
    return [
        ("light", english, {}),
        ("dark", english, {"scheme": "dark"}),
        ("ja", japanese, {}),
        ("suspects", english, {"at": "#suspects"}),
        ("suspects-dark", english, {"at": "#suspects", "scheme": "dark"}),
        ("suspects-ja", japanese, {"at": "#suspects"}),
        ("origin", write_report(lines, out=scratch / "lines.html"), {"at": "#twins"}),
        ("empty", write_report(empty, out=scratch / "empty.html"), {}),
        ("all-rejected", write_report(refused, out=scratch / "refused.html"), {}),
        ("200-classes", write_report(many, out=scratch / "many.html"), {}),
    ]


def shoot(browser: Browser, page: Path, target: Path, *, scheme: str = "light", at: str = "") -> None:
    """Photograph a page's first screen, or the one at an element."""
    dark = scheme == "dark"
    view = browser.new_page(
        viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="dark" if dark else "light", reduced_motion="reduce"
    )
    view.goto(page.as_uri() + at)
    view.screenshot(path=target)
    view.close()
    lighter(target)


def lighter(picture: Path) -> None:
    """Write a picture again with 256 colours, at about a third of its size."""
    with Image.open(picture) as full:
        few = full.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    few.save(picture, optimize=True)


def shoot_sheet(browser: Browser, export: Path, out: Path, schemes: dict[str, str]) -> None:
    """Photograph the review sheet at its first sample, light or dark."""
    for name, scheme in schemes.items():
        view = browser.new_page(
            viewport={"width": WIDTH, "height": 850},
            color_scheme="dark" if scheme == "dark" else "light",
            reduced_motion="reduce",
            locale="en-GB",
        )
        view.goto((export / "sheet.html").as_uri())
        view.evaluate("new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))")
        view.keyboard.type("Aiko")
        view.keyboard.press("Enter")
        view.screenshot(path=out / f"{name}.png")
        view.close()
        lighter(out / f"{name}.png")


if __name__ == "__main__":
    main()
