"""The report is one file: bounded, escaped, the same for the same run, and never stopped by an image."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from labelclean.errors import ConfigError
from labelclean.report.file import write_report
from labelclean.review.leaks import Leaks, split_codes
from labelclean.storage.parquet import read_json, write_json, write_table
from labelclean.texts import LANGUAGES, Texts
from tests.report.made_runs import SAFE, Made, factory, facts, hostile, picture, write_refused_run, write_run

TWO = Made(["dent", "ok"], [0, 0, 1], [0, 1, 1], [0.99, 0.1, 0.98], queued=[1])


def report(tmp_path: Path, made: Made = TWO, **options: object) -> str:
    folder = write_run(tmp_path / "run", made, images=tmp_path / "images")
    return write_report(folder, **options).read_text(encoding="utf-8")  # type: ignore[arg-type]


def test_the_report_lies_in_the_run_folder_or_where_it_is_told(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", TWO)
    assert write_report(folder) == folder / "report.html"
    assert write_report(folder, out=tmp_path / "other.html") == tmp_path / "other.html"


def first_screen(html: str) -> list[str]:
    """Heading and sentences above the figures."""
    return re.findall(r"<(?:h1|p class=\"next[^>]*)>(.*?)</", html)


@pytest.mark.parametrize("lang", LANGUAGES)
def test_verdict_promise_and_next_step_stand_on_top(tmp_path: Path, lang: str) -> None:
    expected = {
        "en": (
            "1 of 3 labels is worth a look (33%): 1 we would change; about 0.9 are expected to be wrong (0.7 to 1.1).",
            "Applied without a look, labels get better by about 4.0 points (1.5 to 5.0)",
            "Next: look at the 1 sample",
        ),
        "ja": (
            "3 件中 1 件のラベルが要確認です（33%。内訳：変更を提案 1\xa0件）。",
            "提案を確認せずに適用した場合でも、正しいラベルの割合は約 4.0 ポイント（1.5～5.0）上がる",
            "次の作業：確認リストの 1 件",
        ),
    }[lang]
    found = first_screen(report(tmp_path, lang=lang))
    assert [text.startswith(begin) for text, begin in zip(found, expected, strict=True)] == [True] * 3


WAITING = Made(["dent", "ok"], [0, 0, 1, 1], [0, 1, 1, 1], [0.3, 0.1, 0.98, 0.2], queued=[1, 3, 0])


@pytest.mark.parametrize(
    ("lang", "words"),
    [("en", "1 we would change, 2 wait for eyes;"), ("ja", "変更を提案 1\xa0件、目視確認待ち 2\xa0件")],
)
def test_what_we_would_change_is_kept_apart_from_what_waits_for_eyes(tmp_path: Path, lang: str, words: str) -> None:
    html = report(tmp_path, WAITING, lang=lang)
    assert words in first_screen(html)[0]
    t = Texts(lang)
    figures = re.findall(r"<dt>([^<]+)</dt><dd>(\d+)</dd>", html)
    assert {(t("figure.issues"), "3"), (t("figure.changed"), "1"), (t("figure.waiting"), "2")} <= set(figures)
    cards = html.split('<li class="card"')[1:]
    assert [re.findall(r'data-mark="(\w+)"', card) for card in cards] == [["change"], ["waits"], ["waits"]]
    suggested = f'<span class="hidden">{t("gallery.suggested")}: </span>'
    assert [suggested in card for card in cards] == [True, False, False]
    assert t("gallery.possible", name="dent") in cards[1]
    assert t("reasons.readings_differ", given="ok", possible="dent") in cards[1].replace("&#34;", '"')


UNSAFE = SAFE | {"is_safe": False, "points": 1.0, "low": -2.5, "num_looks": 7, "num_changed": 1}


@pytest.mark.parametrize(
    ("lang", "words"),
    [
        ("en", "Do not apply the predicted labels before you have looked at 30 random samples (7 so far; "
               "review.audit_samples draws them). Applied without a look, the share of right labels changes by about +1.0 "
               "points (−2.5 to +5.0), so it may fall."),
        ("ja", "無作為に抽出した 30 件を確認するまで、提案を適用しないでください（確認済み 7 件。"),
    ],
)  # fmt: skip
def test_a_run_whose_gain_may_be_harm_says_so_on_top(tmp_path: Path, lang: str, words: str) -> None:
    html = report(tmp_path, Made(**(vars(TWO) | {"gain": UNSAFE})), lang=lang)
    assert first_screen(html)[1].startswith(words)
    assert 'class="next held"' in html


def test_an_older_run_is_shown_without_what_it_does_not_know(tmp_path: Path) -> None:
    html = report(tmp_path, Made(**(vars(WAITING) | {"is_old": True})))
    assert first_screen(html)[0].startswith("3 of 4 labels are worth a look (75%); about")
    assert len(first_screen(html)) == 2
    assert "Wait for eyes" not in html.split('id="suspects"')[0]


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("cause", ["alike", "one_group", "class_groups", "chance"])
def test_a_run_where_nothing_tells_says_why_and_what_to_do(tmp_path: Path, lang: str, cause: str) -> None:
    folder = write_refused_run(tmp_path, names=["dent", "ok"], num=3)
    changes = {"num_rejects": 0, "rejects": {}, "refinement": {"requested": "auto", "method": "none", "cause": cause}}
    write_json(folder / "summary.json", read_json(folder / "summary.json") | changes)
    html = write_report(folder, lang=lang).read_text(encoding="utf-8")
    t = Texts(lang)
    assert first_screen(html) == [t("verdict.nothing_tells"), t(f"verdict.next_{cause}").replace("'", "&#39;")]
    assert t("gates.cleaned", method="") not in html


def test_nothing_is_asked_of_a_network(tmp_path: Path) -> None:
    html = report(tmp_path, factory(num=80))
    assert not re.findall(r"""(?:src|href|action|url\()\s*=?\s*["'(]?\s*(?:https?:)?//""", html)
    assert "default-src &#39;none&#39;" in html
    assert "unsafe-inline" not in html


def test_the_same_run_gives_the_same_bytes(tmp_path: Path) -> None:
    reports = []
    for name in ("first", "second"):
        folder = write_run(tmp_path / name, factory(num=60), images=tmp_path / "images", manifest=False)
        reports.append(write_report(folder, facts=facts(tmp_path / "images")).read_bytes())
    assert reports[0] == reports[1]


def test_hostile_names_are_text(tmp_path: Path) -> None:
    html = report(tmp_path, hostile())
    outside = re.sub(r"<script>.*?</script>", "", html, count=1, flags=re.S)
    assert "<script" not in outside
    assert "<img src=x" not in html
    assert "<svg onload" not in html
    assert "onmouseover='" not in html
    assert "49" not in re.findall(r"<code>.*?</code>|class=\"file\">(.*?)<", html)
    assert "\u202e" not in html
    assert "&lt;script&gt;alert(&#34;x&#34;)&lt;/script&gt;" in html


def test_the_size_is_bounded_by_showing_fewer_samples(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", factory(), images=tmp_path / "images")
    whole = write_report(folder, out=tmp_path / "whole.html").stat().st_size
    limit = whole - 30_000
    html = write_report(folder, out=tmp_path / "less.html", max_bytes=limit).read_text(encoding="utf-8")
    assert len(html.encode()) <= limit
    assert 0 < html.count('<li class="card"') < 60
    assert "More would make this file larger than" in html


def test_a_limit_without_room_for_the_numbers_is_refused(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", TWO)
    with pytest.raises(ConfigError, match="max_bytes must leave room for the numbers"):
        write_report(folder, max_bytes=1000)
    assert not (folder / "report.html").exists()


def test_top_limits_the_gallery_and_the_page_says_so(tmp_path: Path) -> None:
    html = report(tmp_path, factory(), top=5)
    assert html.count('<li class="card"') == 5
    assert re.search(r"5 of \d+ samples of the review queue are shown", html)


def test_a_missing_changed_or_broken_image_has_a_placeholder(tmp_path: Path) -> None:
    made = Made(["dent", "ok"], [0, 0, 0], [1, 1, 1], [0.1, 0.1, 0.1], queued=[0, 1, 2])
    folder = write_run(tmp_path / "run", made, images=tmp_path / "images")
    (tmp_path / "images" / "part_00000.png").unlink()
    (tmp_path / "images" / "part_00001.png").write_bytes(picture(9))
    html = write_report(folder).read_text(encoding="utf-8")
    assert html.count("Image not found</span>") == 1
    assert html.count("Image changed since the run</span>") == 1
    assert html.count("<img ") == 1


def test_a_path_out_of_the_image_root_shows_nothing(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(picture(1))
    made = Made(["dent", "ok"], [0, 0], [1, 1], [0.1, 0.9], queued=[0], ids=["../secret", "b"])
    html = write_report(write_run(tmp_path / "run", made, images=tmp_path / "images")).read_text(encoding="utf-8")
    assert "data:image" not in html


def test_images_in_the_labels_table_are_shown(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", TWO)
    labels = pa.table(
        {
            "sample_id": [f"part_{row:05}" for row in range(3)],
            "image": [picture(row) for row in range(3)],
            "given_label": ["dent", "dent", "ok"],
        }
    )
    write_table(tmp_path / "labels.parquet", labels, "labels")
    html = write_report(folder, facts=facts(tmp_path)).read_text(encoding="utf-8")
    assert html.count('src="data:image/jpeg') == 3  # the suspect and its two neighbours


@pytest.mark.parametrize("lang", LANGUAGES)
def test_a_run_without_usable_images_says_what_to_do(tmp_path: Path, lang: str) -> None:
    html = write_report(write_refused_run(tmp_path, names=["dent", "ok"], num=48), lang=lang).read_text(
        encoding="utf-8"
    )
    assert {"en": "None of the 48 images could be used", "ja": "48 件の画像がすべて使用できなかった"}[lang] in html
    assert 'id="suspects"' in html  # the skip link leads somewhere


def test_an_empty_queue_leaves_nothing_to_do(tmp_path: Path) -> None:
    html = report(tmp_path, Made(["dent", "ok"], [0, 1], [0, 1], [0.99, 0.99]))
    assert "Next: nothing has to be looked at" in html
    assert "No label differs from the suggested class." in html


def test_a_check_newer_than_the_catalogue_is_shown_as_it_is(tmp_path: Path) -> None:
    gate = {
        "check": "brand_new",
        "outcome": "refuse",
        "value": None,
        "limit": None,
        "sentence": "new.",
        "forbids": ["two_hot"],
    }
    html = report(tmp_path, Made(**(vars(TWO) | {"gates": [gate]})))
    assert "brand_new" in html
    assert "Rules out: two-hot labels." in html


@pytest.mark.parametrize("lang", LANGUAGES)
def test_two_hundred_classes_fit(tmp_path: Path, lang: str) -> None:
    html = report(tmp_path, factory(200, 1500), lang=lang)
    assert html.count('class="pick"') > 0
    assert 'class="matrix"' not in html


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # Great Expectations imports what Python has deprecated
@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_report_of_a_real_run_on_the_sample_data_holds_pictures(
    sample_run: Path, tmp_path: Path, lang: str
) -> None:
    html = write_report(sample_run, out=tmp_path / "report.html", lang=lang).read_text(encoding="utf-8")
    assert html.count("data:image/jpeg") > 0
    assert 'class="gone"' not in html


REFERENCE = {
    "run": "2026-01-13T020000.000Z",
    "runs": ["2026-01-12T020000.000Z", "2026-01-13T020000.000Z"],
    "num_samples": 1200,
    "num_repeated": 3,
    "new_classes": ["burr", "<b>chip</b>"],
    "feature_drift": {"auroc": 0.71, "p_value": 1e-6, "num_reference": 1200, "num_tonight": 400, "differs": True},
    "noise_shifts": [
        {"column": "line", "value": "L1", "before": 0.05, "now": 0.21, "num": 150, "stands_out": 1},
        {"column": "line", "value": "L2", "before": 0.05, "now": 0.06, "num": 250, "stands_out": 0},
        {"column": "line", "value": "L3", "before": None, "now": 0.0, "num": 20, "stands_out": -1},
    ],
}


@pytest.mark.parametrize(("lang", "words"), [("en", "earlier runs, the last"), ("ja", "以前の 2 回")])
def test_a_run_with_a_reference_says_what_has_changed(tmp_path: Path, lang: str, words: str) -> None:
    folder = write_run(tmp_path / "run", TWO, manifest=False)
    summary = read_json(folder / "summary.json") | {"reference": REFERENCE}
    write_json(folder / "summary.json", summary)
    text = write_report(folder, facts=facts(None), lang=lang).read_text(encoding="utf-8")
    section = text.split('id="reference"')[1].split("</section>")[0]
    assert words in section
    assert "AUROC 0.710" in section
    assert "&lt;b&gt;chip&lt;/b&gt;" in section
    assert [place in section for place in ("L1", "L2", "L3")] == [True, False, True]


def test_a_run_without_a_reference_has_no_such_section(tmp_path: Path) -> None:
    assert 'id="reference"' not in report(tmp_path)


@pytest.mark.parametrize(("lang", "words"), [("en", "Leaks between splits"), ("ja", "分割間の漏れ")])
def test_leaks_between_splits_are_counted_and_shown(tmp_path: Path, lang: str, words: str) -> None:
    made = factory(num=40)
    splits, sets = ["<train>", "test"] * 20, [0, 0, *[None] * 36, 1, 1]
    made.extra |= {"split": pa.array(splits), "leak_set": pa.array(sets, pa.int64())}
    run = write_run(tmp_path / "run", made)
    codes, names = split_codes(pa.chunked_array([splits]))
    leaks = Leaks(np.array([-1 if one is None else one for one in sets]), codes, names)
    write_json(run / "summary.json", read_json(run / "summary.json") | {"leaks": leaks.record()})
    html = write_report(run, lang=lang).read_text(encoding="utf-8")
    section = html[html.index('<h2 id="leaks">') : html.index('<h2 id="origin">')]
    assert words in section
    assert "<train>" not in section
    assert section.count("<strong><bdi>test</bdi></strong>") == 2
    assert '<bdi>&lt;train&gt;</bdi></th><td class="num">20</td><td class="num">2</td><td class="num">0</td>' in section


@pytest.mark.parametrize(
    ("lang", "words"),
    [
        ("en", "Brightness = 0.1 – 0.2: 80% are dent, of all 40% (9 samples)"),
        ("ja", "明るさ = 0.1 – 0.2：80% が「dent」（全体では 40%、9 件）"),
    ],
)
def test_what_else_tells_the_label_is_shown_with_its_pictures(tmp_path: Path, lang: str, words: str) -> None:
    run = write_run(tmp_path / "run", TWO, images=tmp_path / "images")
    example = {
        "value": "0.1 – 0.2",
        "class_name": "dent",
        "num": 9,
        "share": 0.8,
        "usual": 0.4,
        "sample_ids": ["part_00000"],
    }
    base = {"gain": 0.31, "chance": 0.02, "share": 0.45, "exceeds_chance": True, "num": 90}
    quiet = base | {"name": "<line>", "is_property": False, "share": -0.1, "gain": -0.1, "exceeds_chance": False}
    rows = [base | {"name": "brightness", "is_property": True, "examples": [example]}, quiet | {"examples": []}]
    write_json(run / "summary.json", read_json(run / "summary.json") | {"shortcuts": rows})
    html = write_report(run, lang=lang).read_text(encoding="utf-8")
    section = html[html.index('<h2 id="shortcuts">') : html.index('<h2 id="origin">')]
    assert words in section
    assert section.count("<img ") == 1
    assert "&lt;line&gt;" in section
    assert '<td class="num">0%</td><td class="num">−0.100</td>' in section


@pytest.mark.parametrize(
    ("lang", "words", "alone"),
    [
        ("en", ["2 pictures lie far outside", "Blurred, Other size or shape", "3 pictures were not measured"], "No picture looks dark"),
        ("ja", ["2 件の画像が", "ぼけている、大きさ・縦横比が異なる", "3 件は"], "ほかと似ていない画像はありません"),
    ],
)  # fmt: skip
def test_pictures_that_show_no_part_are_counted_and_shown(
    tmp_path: Path, lang: str, words: list[str], alone: str
) -> None:
    run = write_run(tmp_path / "run", TWO, images=tmp_path / "images")
    summary = read_json(run / "summary.json")
    examples = [{"sample_id": "part_00000", "reasons": ["blurred", "odd_size"]}]
    found = {"num": 2, "by_reason": {"blurred": 2, "odd_size": 1}, "num_unmeasured": 3, "examples": examples}
    write_json(run / "summary.json", summary | {"unusable": found})
    html = write_report(run, lang=lang).read_text(encoding="utf-8")
    section = html[html.index('<h2 id="unusable">') : html.index('<h2 id="origin">')]
    assert [one for one in words if one not in section] == []
    assert section.count("<img ") == 1
    assert '<a href="#unusable">2</a>' in html
    nothing = {"num": 0, "by_reason": {}, "num_unmeasured": 0, "examples": []}
    write_json(run / "summary.json", summary | {"unusable": nothing})
    html = write_report(run, lang=lang).read_text(encoding="utf-8")
    assert alone in html
    assert '<a href="#unusable">0</a>' not in html


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_the_first_screen_says_how_bad_what_to_do_and_what_it_costs(tmp_path: Path, lang: str) -> None:
    html = write_report(write_run(tmp_path / "run", TWO), lang=lang).read_text(encoding="utf-8")
    head = html[html.index("<header>") : html.index("</header>")]
    assert "labelclean export RUN --to sheet --out queue" in head
    texts = Texts(lang)
    for key in ("queue", "random", "eyes", "range", "point", "score", "backbone", "refit", "nats", "posterior", "bad"):
        assert texts(f"glossary.words.{key}.word") in html[html.index('id="glossary"') :]
