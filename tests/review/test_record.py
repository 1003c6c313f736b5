"""What an auditor reads: every label, run, decision and application in order, and a ledger that was changed by hand."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from labelclean.config import Config, recorded_config
from labelclean.errors import ConfigError, StorageError
from labelclean.report.record_page import chain_sentence, event_line, event_record, render_record, write_record
from labelclean.review.apply import written_digest
from labelclean.review.chain import ChainFault, ChainReport
from labelclean.review.decisions import Decision
from labelclean.review.ledger import Application
from labelclean.review.record import Event, LedgerRow, record_events, sample_history
from labelclean.storage.parquet import read_json, read_table, write_json, write_table
from labelclean.texts import LANGUAGES, Texts
from tests.review.exchange.conftest import NAMES, RUN_ID, make_run

DATASET = "line 3 (北)"
LATER = "2026-01-15T020000.000Z"
EVIL = '<script>alert("x")</script>'


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """Two nights of one data set: in the second, s1 has another given label."""
    first = make_run(tmp_path)
    manifest = read_json(first / "manifest.json") | {"exit_code": 0, "started_at": "2026-01-14T02:00:00+00:00"}
    manifest |= {"versions": {"labelclean": "0.1.0"}, "counts": {"num_samples": 12}}
    write_json(first / "manifest.json", manifest)
    second = first.with_name(LATER)
    second.mkdir()
    table = read_table(first / "refined_labels.parquet", "refined_labels")
    given = ["=cmd()" if sample == "s1" else label for sample, label in zip(*pairs(table), strict=True)]
    table = table.set_column(table.column_names.index("given_label"), "given_label", pa.array(given, pa.string()))
    write_table(second / "refined_labels.parquet", table, "refined_labels", NAMES)
    write_json(second / "manifest.json", manifest | {"run_id": LATER, "started_at": "2026-01-15T02:00:00+00:00"})
    return recorded_config(manifest["config"])


def pairs(table: pa.Table) -> tuple[list[str], list[str]]:
    return table.column("sample_id").to_pylist(), table.column("given_label").to_pylist()


def rows(config: Config) -> list[LedgerRow]:
    """One decision on s1 between the nights, and what was applied of the first."""
    at = datetime(2026, 1, 14, 9, tzinfo=UTC)
    decision = Decision("s1", "h", "傷", "corrected", "Aiko", at, RUN_ID, DATASET, "sheet", EVIL)
    applied = Application(
        RUN_ID, DATASET, at + timedelta(hours=1), "ben", "labelclean 0.1.0", "/v2.csv", "f" * 64, 12, True
    )
    return [(1, "d1", decision), (2, "d2", replace(decision, sample_id="s2")), (1, "a1", applied)]


def test_a_sample_tells_its_whole_story_in_order(config: Config) -> None:
    told = sample_history(config, DATASET, rows(config), "s1")
    assert [(event.kind, event.given_label, event.labels, event.who) for event in told] == [
        ("judged", "傷", ("dent & crack",), ""),
        ("decision", "傷", (EVIL,), "Aiko"),
        ("application", None, (), "ben"),
        ("judged", "=cmd()", ("dent & crack",), ""),
    ]
    assert told[0].content_hash == told[3].content_hash != ""
    assert [event.run_id for event in told] == [RUN_ID, RUN_ID, RUN_ID, LATER]
    assert sample_history(config, DATASET, rows(config), "nobody") == []


def test_a_record_holds_each_label_once_and_again_when_it_changed(config: Config) -> None:
    events, labels = record_events(config, DATASET, rows(config))
    assert [event.kind for event in events] == ["run", "decision", "decision", "application", "run"]
    read = list(labels)
    assert [(event.sample_id, event.given_label, event.run_id) for event in read if event.sample_id == "s1"] == [
        ("s1", "傷", RUN_ID), ("s1", "=cmd()", LATER),
    ]  # fmt: skip
    assert len(read) == 13  # 12 samples, one with a new label


def test_labels_of_annotators_are_told_with_who_gave_them(config: Config) -> None:
    table = pa.table(
        {"sample_id": ["s1", "s1", "s2"], "annotator_id": ["a", "b", "a"], "given_label": ["ok", "傷", "ok"]}
    )
    pq.write_table(table, config.data.labels)
    told = sample_history(config, DATASET, [], "s1")[:2]
    assert [(event.kind, event.who, event.given_label, event.at) for event in told] == [
        ("label", "a", "ok", None), ("label", "b", "傷", None),
    ]  # fmt: skip
    _, labels = record_events(config, DATASET, [])
    assert sum(event.kind == "label" for event in labels) == 3


@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_csv_holds_everything_and_no_name_is_a_formula(config: Config, tmp_path: Path, lang: str) -> None:
    texts, out = Texts(lang), tmp_path / "record.csv"
    events, labels = record_events(config, DATASET, rows(config))
    assert write(events, labels, out, texts) == 18
    table = list(csv.reader(out.read_text(encoding="utf-8-sig").splitlines()))
    assert len(table) == 19
    header = dict(zip(table[0], range(99), strict=False))
    assert {row[header[texts("record.column.given_label")]] for row in table[1:]} >= {"'=cmd()", "傷"}
    assert table[-2][header[texts("record.column.file_digest")]] == "f" * 64


def write(events: Sequence[Event], labels: object, out: Path, texts: Texts, chain: ChainReport | None = None) -> int:
    now = datetime(2026, 1, 16, tzinfo=UTC)
    return write_record(events, labels, chain, out, texts, dataset=DATASET, now=now)  # type: ignore[arg-type]


@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_page_shows_names_as_text_and_says_first_whether_the_ledger_is_as_written(
    config: Config, lang: str
) -> None:
    texts, now = Texts(lang), datetime(2026, 1, 16, tzinfo=UTC)
    events, _ = record_events(config, DATASET, rows(config))
    faults = (ChainFault("decisions", 2, "changed", "ben", EVIL), ChainFault("decisions", 5, "missing"),
              ChainFault("applications", 1, "cut_off", "ben", "/v2.csv"))  # fmt: skip
    for chain in (None, ChainReport(2, 1, "d2", ()), ChainReport(2, 1, "d2", faults)):
        page = render_record(events, chain, texts, dataset=EVIL, now=now)
        assert page.count("<script") == 1
        assert "&lt;script&gt;" in page
        heading = page.partition("<h1>")[2].partition("</h1>")[0]
        state = "none" if chain is None else "broken" if chain.faults else "sound"
        assert heading == texts(f"record.heading.{state}", dataset="DATA", n=3).replace("DATA", page_text(EVIL))
        assert (texts("record.faults") in page) == (state == "broken")
        assert chain is None or chain.digest in page or state == "broken"


def page_text(text: str) -> str:
    return text.replace("<", "&lt;").replace(">", "&gt;").replace('"', "&#34;")


@pytest.mark.slow
def test_an_older_event_than_fits_is_left_for_the_csv() -> None:
    events = [
        Event("decision", datetime(2026, 1, 1, tzinfo=UTC), "a", f"s{n}", "x", "confirmed", ("x",))
        for n in range(2_003)
    ]
    page = render_record(events, None, Texts("en"), dataset="d", now=datetime(2026, 1, 2, tzinfo=UTC))
    assert "3 older entries are left out here" in page
    assert ">s2002<" in page
    assert ">s2<" not in page


def test_a_line_and_a_json_of_an_event_say_who_when_what_which_run_and_image(config: Config) -> None:
    told = sample_history(config, DATASET, rows(config), "s1")
    line = event_line(told[1], Texts("en"))
    for part in ("2026-01-14 09:00:00", "Aiko", "corrected to", RUN_ID, "sheet", "Image digest h", "Ledger row 1 d1"):
        assert part in line
    assert event_record(told[1])["at"] == "2026-01-14T09:00:00+00:00"
    assert "before enough random samples were looked at" in event_line(told[2], Texts("en"))


@pytest.mark.parametrize("lang", LANGUAGES)
def test_every_kind_of_decision_has_words(lang: str) -> None:
    for kind in ("confirmed", "corrected", "one_of", "not_class", "none_of_these", "unsure", "bad_image", "skipped"):
        assert event_line(Event("decision", says=kind, given_label="a", labels=("b",)), Texts(lang))


def test_a_record_is_a_new_page_or_csv(config: Config, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"must end in \.html or \.csv"):
        write([], [], tmp_path / "record.pdf", Texts("en"))
    (tmp_path / "record.csv").write_text("kept")
    with pytest.raises(StorageError, match="must be a new file, but exists"):
        write([], [], tmp_path / "record.csv", Texts("en"))
    assert chain_sentence(None, Texts("en")) == "There is no ledger yet."


def test_a_folder_has_one_digest_of_names_and_contents(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    for name, text in (("b/2.png", "two"), ("a/1.png", "one")):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text(text)
    lines = [
        f"{hashlib.sha256(text.encode()).hexdigest()}  {name}\n"
        for name, text in (("a/1.png", "one"), ("b/2.png", "two"))
    ]
    assert written_digest(folder) == hashlib.sha256("".join(lines).encode()).hexdigest()
    assert written_digest(folder / "a/1.png") == hashlib.sha256(b"one").hexdigest()
    (folder / "a/1.png").rename(folder / "a/3.png")
    assert written_digest(folder) != hashlib.sha256("".join(lines).encode()).hexdigest()
