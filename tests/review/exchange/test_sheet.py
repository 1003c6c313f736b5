"""The review sheet: one page that says nothing of blind samples, and its file of decisions strictly back."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from labelclean.errors import ExchangeError
from labelclean.review.exchange import sheet
from labelclean.review.exchange.manifest import ExportManifest, read_manifest
from labelclean.review.exchange.package import ExportPart
from labelclean.review.exchange.tasks import read_queue
from labelclean.review.exchange.tools import Tool, export_run, import_decisions
from labelclean.review.ledger import append_decisions, decisions_of, open_ledger
from labelclean.storage.parquet import write_table
from labelclean.texts import LANGUAGES
from tests.review.exchange import conftest
from tests.review.exchange.conftest import DRAWN, NAMES, NOW, make_run, rows_of
from tests.review.exchange.test_properties import MUTATIONS, SETTINGS, Mutation, mutated

AUDIT = ("s3", "s7", "s11")
AT = "2026-01-14T09:00:00.000Z"
SAID: dict[str, tuple[str, list[str]]] = {
    "s0": ("confirmed", ["ok"]),
    "s1": ("corrected", ["dent & crack"]),
    "s2": ("one_of", ["dent & crack", "傷"]),
    "s4": ("not_class", ["=cmd()", "ok"]),
    "s5": ("unsure", []),
    "s6": ("bad_image", []),
    "s7": ("label", ["<script>"]),
    "s11": ("label", ["傷"]),
}


class Scripts(HTMLParser):
    """Every script element as the HTML parser of a browser sees it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[dict[str, str | None], str]] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "script":
            self.found.append((dict(attrs), ""))

    def handle_data(self, data: str) -> None:
        if self.lasttag == "script" and self.found and not self.found[-1][1]:
            self.found[-1] = (self.found[-1][0], data)


def page_of(export: Path) -> str:
    return (export / "sheet.html").read_text(encoding="utf-8")


def data_of(export: Path) -> dict[str, Any]:
    """What the page knows."""
    found = [text for attributes, text in Scripts(page_of(export)).found if attributes.get("id") == "data"]
    data: dict[str, Any] = json.loads(found[0])
    return data


def decisions_file(export: Path, path: Path, said: dict[str, tuple[str, list[str]]] | None = None) -> Path:
    """What the page would save."""
    said = SAID if said is None else said
    data, item_of = data_of(export), {item.sample_id: item for item in read_manifest(export).items}
    rows = [
        {
            "key": item_of[sample].key,
            "content_hash": item_of[sample].content_hash,
            "decision": word,
            "labels": labels,
            "annotator": "Aiko 愛子",
            "reviewed_at": AT,
        }
        for sample, (word, labels) in said.items()
    ]
    head = {name: data[name] for name in ("format", "tool", "run_id", "dataset", "export")}
    path.write_text(json.dumps(head | {"num_decisions": len(rows), "decisions": rows}), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def export(exported: Callable[[Tool], Path]) -> Path:
    return exported("sheet")


def test_the_export_is_a_manifest_previews_and_one_page(export: Path) -> None:
    assert sorted(entry.name for entry in export.iterdir()) == ["manifest.json", "part_001", "sheet.html"]
    manifest = read_manifest(export)
    assert (manifest.tool, manifest.num_parts, len(manifest.items)) == ("sheet", 1, 12)
    assert [task["key"] for task in data_of(export)["tasks"]] == [item.key for item in manifest.items]


def test_the_page_says_of_a_seen_sample_what_the_run_thinks(export: Path) -> None:
    task = data_of(export)["tasks"][1]
    assert (task["given"], task["suggested"], task["probability"]) == ("傷", "dent & crack", 0.8)
    assert (task["name"], task["reasons"]) == ("images/1 北.png", ["other_class", "narrow_margin"])


def test_the_page_suggests_nothing_for_a_sample_that_waits_for_eyes(tmp_path: Path) -> None:
    export_run(make_run(tmp_path, 3, waiting=[1]), "sheet", tmp_path / "out")
    changed, waits, _ = data_of(tmp_path / "out")["tasks"]
    assert (changed["suggested"], changed["probability"]) == ("傷", 0.8)
    assert (waits["suggested"], waits["probability"], waits["runner_up"]) == (None, None, "dent & crack")
    assert waits["reasons"] == ["readings_differ", "narrow_margin"]


def test_the_page_knows_of_a_blind_sample_its_key_and_its_picture_only(export: Path) -> None:
    tasks = dict(zip((item.sample_id for item in read_manifest(export).items), data_of(export)["tasks"], strict=True))
    for sample in AUDIT:
        assert set(tasks[sample]) == {"key", "hash", "thumb"}
    text = page_of(export)
    assert not any(word in text for word in ("random_audit", "inclusion_probability"))
    assert "images/3 " not in text
    assert '"s3"' not in text


def test_a_wholly_blind_sheet_says_nothing_of_any_sample(run_folder: Path, tmp_path: Path) -> None:
    report = export_run(run_folder, "sheet", tmp_path / "out", suggestions=False)
    data = data_of(tmp_path / "out")
    assert report.num_blind == 12
    assert {name for task in data["tasks"] for name in task} == {"key", "hash", "thumb"}
    assert data["near"] == []


def test_neighbours_are_shown_but_never_a_sample_that_is_asked_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, export: Path
) -> None:
    assert data_of(export)["near"] == []  # s0 is everyone's neighbour, and in the queue
    write = write_table

    def without_first(path: Path, table: Any, name: str, *rest: Any) -> None:
        write(path, table.slice(1) if name == "review_queue" else table, name, *rest)

    monkeypatch.setattr(conftest, "write_table", without_first)
    export_run(make_run(tmp_path, 5), "sheet", tmp_path / "out")
    data = data_of(tmp_path / "out")
    assert [near["label"] for near in data["near"]] == ["ok"]
    assert [task.get("near") for task in data["tasks"]] == [[0], [0], None, [0]]


def test_pictures_are_the_previews_in_the_order_of_the_queue(export: Path) -> None:
    pictures = [text for attributes, text in Scripts(page_of(export)).found if attributes.get("class") == "picture"]
    for text, item in zip(pictures, read_manifest(export).items, strict=True):
        kind, _, data = text.strip().partition(";base64,")
        assert kind == "data:image/png"
        assert base64.b64decode(data) == (export / "part_001/images" / f"{item.key}.png").read_bytes()


def test_hostile_names_end_no_script_and_open_no_element(export: Path) -> None:
    scripts = Scripts(page_of(export))
    assert len(scripts.found) == 12 + 2
    assert set(scripts.tags) & {"b", "img", "script", "body"} == {"b", "img", "script", "body"}
    assert data_of(export)["classes"] == list(NAMES)
    inert = sheet._inert_json({"</script><!--": "a & b\u2028\u202e"})
    assert not set("<>&\u2028\u202e") & set(inert)
    assert json.loads(inert) == {"</script><!--": "a & b\u2028\u202e"}


def test_the_policy_lets_nothing_in_and_nothing_is_fetched(export: Path) -> None:
    text = page_of(export)
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)
    assert policy is not None
    assert policy[1].startswith("default-src &#39;none&#39;; img-src data:;")
    assert "unsafe" not in policy[1]
    head = re.sub(r"data:image/[^<\"]+", "", text)
    assert re.findall(r"(?:https?:)?//[a-z]", re.sub(r"// [^\n]*", "", head)) == []


def test_the_catalogues_have_the_same_keys_and_placeholders() -> None:
    english, japanese = (sheet.texts(lang) for lang in LANGUAGES)
    assert set(english) == set(japanese)
    for key, text in english.items():
        assert sorted(re.findall(r"\{\w+\}", text)) == sorted(re.findall(r"\{\w+\}", japanese[key])), key
    for lang in LANGUAGES:  # YAML must not read a key as a truth value
        assert all(isinstance(key, str) for key in yaml.safe_load(sheet._resource(f"sheet.{lang}.yaml")))


def test_every_word_that_the_page_asks_for_is_in_the_catalogue() -> None:
    page = sheet._resource("sheet.html.j2") + "".join(map(sheet._resource, sheet.SCRIPTS))
    asked = {
        *re.findall(r'\bt\("(\w+)"', page),
        *re.findall(r'data-t="(\w+)"', page),
        *re.findall(r"t\.(\w+) \}", page),
    }
    assert asked <= {*sheet.texts("en"), *sheet.texts("en", is_set=True)}


def test_large_pictures_shrink_until_the_page_fits(run_folder: Path, tmp_path: Path) -> None:
    queue = read_queue(run_folder)
    export_run(run_folder, "sheet", tmp_path / "out")
    manifest = read_manifest(tmp_path / "out")
    part = ExportPart(tmp_path / "out" / "part_001", 1, queue.tasks)
    for item in manifest.items:
        noise = Image.effect_noise((450, 300), 90)
        noise.save(tmp_path / "out/part_001/images" / f"{item.key}.png")
    html = sheet.sheet_html(manifest, part, {}, 400_000).decode()
    assert len(html) < 400_000
    pictures = [text.strip() for attributes, text in Scripts(html).found if attributes.get("class") == "picture"]
    assert {Image.open(io.BytesIO(base64.b64decode(text.partition(",")[2]))).format for text in pictures} == {"JPEG"}
    (tmp_path / "out" / "sheet.html").unlink()
    with pytest.raises(ExchangeError, match=r"may have 0.05 MB, but 12 pictures need"):
        sheet.write_sheet(queue, run_folder, tmp_path / "out", max_bytes=50_000)


def test_a_queue_that_one_page_cannot_hold_is_refused_before_anything_is_written(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sheet, "MAX_TASKS", 11)
    with pytest.raises(ExchangeError, match=r"may hold 11 pictures, but the queue has 12"):
        export_run(run_folder, "sheet", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_killed_export_is_finished_and_a_page_is_not_written_again(run_folder: Path, tmp_path: Path) -> None:
    export_run(run_folder, "sheet", tmp_path / "out")
    page = tmp_path / "out" / "sheet.html"
    first = page.read_bytes()
    page.unlink()  # killed between manifest and page
    export_run(run_folder, "sheet", tmp_path / "out")
    assert page.read_bytes() == first
    written = page.stat().st_mtime_ns
    export_run(run_folder, "sheet", tmp_path / "out")
    assert page.stat().st_mtime_ns == written


# --- back -----------------------------------------------------------------------------------------


def test_the_file_gives_back_exactly_what_was_decided(export: Path, tmp_path: Path) -> None:
    report, decisions = import_decisions(decisions_file(export, tmp_path / "d.json"), "sheet", export, now=NOW)
    who = "Aiko 愛子"
    assert rows_of(decisions) == {
        ("s0", "confirmed", "ok", (), (), who),
        ("s1", "corrected", "dent & crack", (), (), who),
        ("s2", "one_of", None, ("dent & crack", "傷"), (), who),
        ("s4", "not_class", None, (), ("=cmd()", "ok"), who),
        ("s5", "unsure", None, (), (), who),
        ("s6", "bad_image", None, (), (), who),
        ("s7", "corrected", "<script>", (), (), who),
        ("s11", "confirmed", "傷", (), (), who),  # a blind answer that agrees with the given label
    }
    assert report.is_clean
    assert report.num_unanswered == 4
    assert {d.reviewed_at for d in decisions} == {datetime(2026, 1, 14, 9, tzinfo=UTC)}


def test_none_of_these_rules_out_every_class_of_the_sheet(export: Path, tmp_path: Path) -> None:
    file = decisions_file(export, tmp_path / "d.json")
    record = json.loads(file.read_text())
    record["decisions"][0] |= {"decision": "none_of_these", "labels": []}
    file.write_text(json.dumps(record))
    _, decisions = import_decisions(file, "sheet", export, now=NOW)
    assert ("s0", "none_of_these", None, (), tuple(sorted(NAMES)), "Aiko 愛子") in rows_of(decisions)
    record["decisions"][0]["labels"] = ["ok"]
    file.write_text(json.dumps(record))
    with pytest.raises(ExchangeError, match="'none_of_these' with a label"):
        import_decisions(file, "sheet", export, now=NOW)
    drawn = {d.sample_id: d.inclusion_probability for d in decisions if d.inclusion_probability is not None}
    assert drawn == {"s7": DRAWN, "s11": DRAWN}
    ledger = open_ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    assert append_decisions(ledger, decisions) == 8
    assert append_decisions(ledger, decisions) == 0
    assert set(decisions_of(ledger, "line 3 (北)")) == set(decisions)


def test_an_empty_file_of_decisions_brings_nothing(export: Path, tmp_path: Path) -> None:
    assert import_decisions(decisions_file(export, tmp_path / "d.json", {}), "sheet", export, now=NOW)[1] == ()


HEAD_FAULTS: list[tuple[str, Any, str]] = [
    ("format", "labelclean sheet decisions 2", "must be a 'labelclean sheet decisions 1'"),
    ("tool", "csv", "must answer the sheet of run"),
    ("run_id", "2026-01-15T020000.000Z", r"2026-01-14T020000.000Z.*2026-01-15T020000.000Z"),
    ("dataset", "line 4", r"line 3 \(北\).*line 4"),
    ("export", "0" * 64, "must answer the sheet"),
    ("num_decisions", 7, "must hold 7 decisions, as it says itself, but holds 8"),
    ("decisions", {}, "but holds no list"),
    ("extra", 1, "must be a 'labelclean sheet"),
]


@pytest.mark.parametrize(("name", "value", "message"), HEAD_FAULTS, ids=[fault[0] for fault in HEAD_FAULTS])
def test_a_file_of_something_else_is_refused(export: Path, tmp_path: Path, name: str, value: Any, message: str) -> None:
    file = decisions_file(export, tmp_path / "d.json")
    file.write_text(json.dumps(json.loads(file.read_text()) | {name: value}))
    for partial in (False, True):
        with pytest.raises(ExchangeError, match=message):
            import_decisions(file, "sheet", export, now=NOW, partial=partial)


ROW_FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"labels": ["rust"]}, "1 classes are unknown: 'rust'"),
    ({"labels": ["傷"]}, "is 'confirmed' with label '傷', but the given label is 'ok'"),
    ({"labels": []}, "'confirmed' without a label"),
    ({"decision": "unsure"}, "'unsure' with a label"),
    ({"decision": "perhaps"}, "decision 'perhaps' is none of"),
    ({"decision": ""}, "decision '' is none of"),
    ({"decision": "one_of"}, "one_of must name 2 to 4 classes"),
    ({"content_hash": "0" * 64}, "the task is named with another image"),
    ({"key": "2026-01-14T020000.000Z_" + "0" * 20}, "1 names are no task of the export"),
    ({"annotator": ""}, "must be 1 to 200 printable characters"),
    ({"annotator": "a\nb"}, "must be 1 to 200 printable characters"),
    ({"reviewed_at": "yesterday"}, "'yesterday' is no time"),
    ({"reviewed_at": "2026-01-14T09:00:00"}, "is not UTC"),
    ({"reviewed_at": "2026-01-14T09:00:00+09:00"}, "is not UTC"),
    ({"reviewed_at": "2031-01-14T09:00:00Z"}, "lies ahead"),
    ({"labels": "ok"}, "every decision must have"),
    ({"labels": [1]}, "every value must be a text"),
    ({"key": None}, "every value must be a text"),
    ({"extra": "x"}, "every decision must have"),
]


@pytest.mark.parametrize(("change", "message"), ROW_FAULTS, ids=[str(fault[0])[:40] for fault in ROW_FAULTS])
def test_an_edited_decision_is_refused(export: Path, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    file = decisions_file(export, tmp_path / "d.json")
    record = json.loads(file.read_text())
    record["decisions"][0] |= change
    file.write_text(json.dumps(record))
    with pytest.raises(ExchangeError, match=message):
        import_decisions(file, "sheet", export, now=NOW)


def test_an_answer_given_twice_in_two_ways_is_refused_or_left_out(export: Path, tmp_path: Path) -> None:
    file = decisions_file(export, tmp_path / "d.json")
    record = json.loads(file.read_text())
    record["decisions"].append(record["decisions"][0] | {"decision": "corrected", "labels": ["傷"]})
    record["num_decisions"] += 1
    file.write_text(json.dumps(record))
    with pytest.raises(ExchangeError, match="2 different answers"):
        import_decisions(file, "sheet", export, now=NOW)
    report, decisions = import_decisions(file, "sheet", export, now=NOW, partial=True)
    assert "s0" not in {decision.sample_id for decision in decisions}
    assert (len(decisions), len(report.conflicting)) == (7, 1)


def test_a_row_written_twice_does_not_make_up_for_one_that_was_cut(export: Path, tmp_path: Path) -> None:
    file = decisions_file(export, tmp_path / "d.json")
    record = json.loads(file.read_text())
    record["decisions"][-1] = record["decisions"][0]
    file.write_text(json.dumps(record))
    with pytest.raises(ExchangeError, match=r"must hold \d+ decisions, as it says itself, but holds \d+; it was cut"):
        import_decisions(file, "sheet", export, now=NOW)


def test_another_export_of_the_same_run_is_told_apart(export: Path) -> None:
    manifest: ExportManifest = read_manifest(export)
    others = [
        replace(manifest, items=manifest.items[:-1]),
        replace(manifest, items=manifest.items[::-1]),
        replace(manifest, class_names=manifest.class_names[::-1]),
        replace(manifest, settings=manifest.settings | {"suggestions": False}),
    ]
    assert len({sheet.export_digest(other) for other in [manifest, *others]}) == 5


@pytest.mark.slow
def test_permuted_repeated_cut_and_renamed_decisions_are_imported_exactly_or_refused(
    export: Path, tmp_path: Path
) -> None:
    file = decisions_file(export, tmp_path / "d.json")
    record = json.loads(file.read_text())
    truth = rows_of(import_decisions(file, "sheet", export, now=NOW)[1])
    rows = [json.dumps(row) for row in record.pop("decisions")]
    keys = [item.key for item in read_manifest(export).items]

    @SETTINGS
    @given(MUTATIONS, st.booleans())
    def holds(mutations: list[Mutation], partial: bool) -> None:
        kept = [json.loads(row) for row in mutated(rows, mutations, keys, with_swaps=True)]
        file.write_text(json.dumps(record | {"decisions": kept}))
        try:
            _, decisions = import_decisions(file, "sheet", export, now=NOW, partial=partial)
        except ExchangeError:
            assert {what for what, _ in mutations} & {"rename", "swap", "keep", "repeat"}
            return
        assert rows_of(decisions) == truth if not partial else rows_of(decisions) <= truth

    holds()


@pytest.mark.slow
def test_a_file_cut_at_any_byte_is_refused(export: Path, tmp_path: Path) -> None:
    file = decisions_file(export, tmp_path / "d.json")
    whole = file.read_bytes()

    @SETTINGS
    @given(st.integers(0, len(whole) - 1))
    def holds(length: int) -> None:
        file.write_bytes(whole[:length])
        with pytest.raises(ExchangeError, match="must be"):
            import_decisions(file, "sheet", export, now=NOW)

    holds()
