"""One HTML file with plots and pictures from a run folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labelclean.errors import ConfigError

if TYPE_CHECKING:
    from labelclean.texts import Texts

REPORT = "report.html"


def write_report(
    run_folder: Path,
    *,
    lang: str = "en",
    max_bytes: int = 8_000_000,
    top: int = 60,
    out: Path | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Path:
    """Write the report of a run as one HTML file that opens anywhere, without a network.

    The same run and facts give the same bytes.

    Args:
        run_folder: The run, published or still worked in.
        lang: `en` or `ja`.
        max_bytes: The file is never larger; samples are left out, the last first, until it fits.
        top: Most samples shown with their pictures.
        out: File to write; default: `report.html` in the run folder.
        facts: The manifest, or a part of it; default: `manifest.json` where there is one.

    Returns:
        The file.

    Raises:
        ConfigError: If the language is not known or the limit leaves no room for the numbers.
        StorageError: If the folder is no run folder, a table is damaged or the disk refuses.
    """
    from labelclean.storage.parquet import atomic_path, read_json
    from labelclean.storage.run_folders import MANIFEST

    if facts is None:
        manifest = run_folder / MANIFEST
        facts = read_json(manifest) if manifest.is_file() else {}
    target = out or run_folder / REPORT
    spill = target.with_name(f".{target.name}.{os.getpid()}.spill")
    try:
        html = _html(run_folder, lang, max_bytes, top, facts, spill)
    finally:
        shutil.rmtree(spill, ignore_errors=True)
    with atomic_path(target) as temporary:
        temporary.write_text(html, encoding="utf-8", newline="\n")
    return target


def _html(run_folder: Path, lang: str, max_bytes: int, top: int, facts: Mapping[str, Any], spill: Path) -> str:
    """The page with as many samples as the limit allows."""
    from labelclean.report.content import page_content
    from labelclean.report.gallery import wanted_pictures, with_given_labels
    from labelclean.report.html import fewer, render_page
    from labelclean.report.source import read_run
    from labelclean.review.pictures import image_places, pictures
    from labelclean.storage.parquet import read_json
    from labelclean.texts import Texts

    texts = Texts(lang)
    summary = run_folder / "summary.json"
    if summary.is_file() and (read := read_json(summary)).get("several_labels"):
        return _html_of_sets(run_folder, read, texts, max_bytes, top, facts, spill)
    page = page_content(read_run(run_folder, facts, spill), top=max(top, 0))
    wanted = wanted_pictures(page)
    places = image_places(run_folder, sorted(wanted))
    page = with_given_labels(page, {sample: place.given_label for sample, place in places.items()})
    thumbnails = pictures(wanted, places, facts.get("config") or {})
    limit = f"{max_bytes / 1e6:,.3g} MB"
    html, num = render_page(page, thumbnails, texts), len(page.suspects)
    num = max(
        num,
        len(page.twins.sets),
        len(page.twins.loose),
        len(page.doubles.sets),
        len(page.leak_sets),
        len(page.new_kinds),
        len((page.unusable or {}).get("examples", ())),
    )
    while (size := len(html.encode())) > max_bytes and num:
        num = min(num - 1, int(num * max_bytes / size))
        page = fewer(page, num)
        html = render_page(page, thumbnails, texts, shrunk_to=limit)
    if size > max_bytes:
        raise _no_room(size, max_bytes)
    return html


def _html_of_sets(
    run_folder: Path,
    summary: Mapping[str, Any],
    texts: Texts,
    max_bytes: int,
    top: int,
    facts: Mapping[str, Any],
    spill: Path,
) -> str:
    """The page of several labels per image with as many samples as the limit allows."""
    from labelclean.report.label_sets_page import fewer_suspects, render_set_page, set_page, wanted_set_pictures
    from labelclean.review.pictures import image_places, pictures

    page = set_page(run_folder, summary, facts, max(top, 0), spill)
    wanted = wanted_set_pictures(page)
    places = image_places(run_folder, sorted(wanted))
    thumbnails = pictures(wanted, places, facts.get("config") or {})
    limit = f"{max_bytes / 1e6:,.3g} MB"
    html, num = render_set_page(page, thumbnails, places, texts), len(page.suspects)
    while (size := len(html.encode())) > max_bytes and num:
        num = min(num - 1, int(num * max_bytes / size))
        page = fewer_suspects(page, num)
        html = render_set_page(page, thumbnails, places, texts, shrunk_to=limit)
    if size > max_bytes:
        raise _no_room(size, max_bytes)
    return html


def _no_room(size: int, max_bytes: int) -> ConfigError:
    return ConfigError(
        f"report: max_bytes must leave room for the numbers of this run, {size:,} bytes without any picture, "
        f"but is {max_bytes:,}; raise it."
    )
