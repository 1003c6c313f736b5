"""What a page shows, from runs small enough to count by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from labelclean.errors import StorageError
from labelclean.report.content import how_it_was_done, page_content, reliability_bins, score_histogram
from labelclean.report.counts import said_sums, score_counts
from labelclean.report.gallery import gallery_rows, twins_of
from labelclean.report.html import fewer
from labelclean.report.page import Page, Twins
from labelclean.report.source import read_run
from labelclean.storage.parquet import write_table
from tests.report.made_runs import Made, factory, facts, write_refused_run, write_run

FOUR = Made(
    ["dent", "ok"],
    given=[0, 0, 1, 1],
    predicted=[0, 1, 1, 0],
    scores=[0.9, 0.2, 1.0, 0.4],
    queued=[1, 3],
    audited=[0],
    twins=[1, 2],
)


def page_of(folder: Path, made: Made = FOUR, *, top: int = 60, **more: Any) -> Page:
    write_run(folder, made)
    return page_content(read_run(folder, facts(None, **more), folder / "spill"), top=top)


def test_the_classes_are_counted_now_and_after_cleaning(tmp_path: Path) -> None:
    made = Made(["dent", "ok"], given=[0, 0, 1, 1, 1], predicted=[0, 1, 1, 1, 1], scores=[1, 0.1, 1, 1, 1])
    rows = [(row.name, row.now, row.after, row.issues) for row in page_of(tmp_path, made).classes]
    assert rows == [("ok", 3, 4, 0), ("dent", 2, 1, 1)]


def test_a_class_says_what_we_would_change_and_what_waits_for_eyes(tmp_path: Path) -> None:
    made = Made(["dent", "ok"], given=[0, 0, 0, 1], predicted=[0, 1, 0, 1], scores=[0.3, 0.1, 0.2, 0.4])
    rows = {row.name: (row.issues, row.changed, row.waiting) for row in page_of(tmp_path, made).classes}
    assert rows == {"dent": (3, 1, 2), "ok": (1, 0, 1)}
    old = page_of(tmp_path / "old", replace(made, is_old=True)).classes
    assert {(row.changed, row.waiting) for row in old} == {(None, None)}


def test_a_card_says_whether_we_would_change_the_label_or_wait_for_eyes(tmp_path: Path) -> None:
    made = Made(["dent", "ok"], [0, 0, 0, 1], [1, 0, 0, 1], [0.1, 0.2, 0.6, 0.9], queued=[0, 1, 2], audited=[3])
    assert [suspect.mark for suspect in page_of(tmp_path, made).suspects] == ["change", "waits", "keep", "blind"]


def test_the_confusion_counts_given_against_predicted(tmp_path: Path) -> None:
    page = page_of(tmp_path)
    assert page.confusion.matrix is not None
    assert page.confusion.matrix.tolist() == [[1, 1], [1, 1]]
    assert [(pair.given, pair.predicted, pair.num, pair.num_shown) for pair in page.confusion.pairs] == [
        (0, 1, 1, 1),
        (1, 0, 1, 1),
    ]


def test_many_classes_have_pairs_and_no_matrix(tmp_path: Path) -> None:
    page = page_of(tmp_path, factory(200, 2000))
    assert page.confusion.matrix is None
    assert len(page.confusion.pairs) == 30 < page.confusion.num_pairs
    assert page.confusion.pairs[0].num >= page.confusion.pairs[-1].num


def test_an_audit_sample_shows_nothing_that_hints_at_an_answer(tmp_path: Path) -> None:
    audit = page_of(tmp_path).suspects[-1]
    assert audit.source == "random_audit"
    assert (audit.predicted, audit.runner_up, audit.score, audit.reasons, audit.neighbours) == (
        None,
        None,
        None,
        (),
        (),
    )


def test_what_the_queue_should_bring_is_the_sum_of_its_chances(tmp_path: Path) -> None:
    errors = page_of(tmp_path).queue_errors
    assert errors is not None
    assert errors.expected == pytest.approx(0.8 + 0.6 + 0.1)


def test_the_gallery_keeps_an_example_of_every_frequent_difference() -> None:
    given = np.array([0] * 9 + [1, 2])
    predicted = np.array([1] * 9 + [0, 0])
    rows = gallery_rows(given, predicted, np.zeros(11, dtype=bool), 6)
    assert rows.tolist() == [0, 1, 2, 3, 9, 10]
    assert gallery_rows(given, predicted, np.zeros(11, dtype=bool), 1).tolist() == [0]
    assert gallery_rows(given, predicted, np.zeros(11, dtype=bool), 0).tolist() == []


def test_the_gallery_keeps_an_example_of_every_class_that_waits_for_eyes() -> None:
    given, is_waiting = np.array([0] * 9 + [1, 2]), np.arange(11) == 10
    predicted = np.array([1] * 9 + [0, 2])
    blind = np.zeros(11, dtype=bool)
    assert gallery_rows(given, predicted, blind, 6, is_waiting).tolist() == [0, 1, 2, 3, 9, 10]
    assert gallery_rows(given, predicted, blind, 6).tolist() == [0, 1, 2, 3, 4, 9]


def test_twins_come_set_by_set_with_every_label_first() -> None:
    twins = Twins(
        ["a", "b", "c", "d", "e"],
        given=np.array([0, 0, 1, 0, 1]),
        predicted=np.array([0, 0, 0, 0, 0]),
        scores=np.array([0.9, 0.9, 0.3, 0.9, 0.1]),
        duplicate_set=np.array([7, 7, 7, 3, 3]),
    )
    shown = twins_of(twins, ["dent", "ok"])
    assert [[twin.sample_id for twin in one.members] for one in shown.sets] == [["d", "e"], ["a", "c", "b"]]
    second = shown.sets[1]
    assert (shown.num_sets, second.num, second.members[1].predicted, shown.loose) == (2, 3, "dent", ())


def test_a_twin_that_is_an_audit_sample_carries_no_suggestion(tmp_path: Path) -> None:
    made = replace(FOUR, twins=[1, 3], audited=[])
    seen = page_of(tmp_path / "seen", made)
    assert [(twin.sample_id, twin.predicted) for twin in seen.twins.loose] == [
        ("part_00001", "ok"),
        ("part_00003", "dent"),
    ]
    blind = page_of(tmp_path / "blind", replace(made, queued=[1], audited=[3]))
    assert [twin.predicted for twin in blind.twins.loose] == ["ok", None]


def test_twins_stand_alone_where_the_sets_were_not_kept(tmp_path: Path) -> None:
    page = page_of(tmp_path)
    assert page.twins.sets == ()
    assert [twin.sample_id for twin in page.twins.loose] == ["part_00001", "part_00002"]


def test_the_histogram_splits_tenths_and_counts_issues() -> None:
    bins = score_histogram(score_counts(np.array([0.05, 0.3, 0.35, 1.0]), np.array([True, True, False, False])))
    assert [(round(b.low, 1), b.num, b.issues) for b in bins if b.num] == [(0.0, 1, 1), (0.3, 2, 1), (0.9, 1, 0)]


def test_reliability_compares_what_was_said_with_what_held() -> None:
    bins = reliability_bins(said_sums(np.array([0.82, 0.88, 0.31]), np.array([True, False, True])))
    assert [(round(b.said, 2), b.agreed, b.num) for b in bins] == [(0.31, 1.0, 1), (0.85, 0.5, 2)]


def test_line_and_time_are_found_among_the_carried_columns(tmp_path: Path) -> None:
    page = page_of(tmp_path, factory())
    assert [(facet.column, facet.unit) for facet in page.facets] == [
        ("line", None),
        ("shift", None),
        ("captured_at", "D"),
    ]
    worst = page.facets[0].groups[0]
    assert (worst.value, worst.stands_out) == ("C", 1)


def test_times_written_as_text_are_understood(tmp_path: Path) -> None:
    four_days = [f"2026-03-0{day}T10:00:00" for day in (1, 2, 3, 4)]
    made = Made(**(vars(FOUR) | {"extra": {"captured_at": pa.array(four_days)}}))
    assert [(f.column, f.unit, len(f.groups)) for f in page_of(tmp_path, made).facets] == [("captured_at", "D", 4)]


def test_columns_that_explain_nothing_are_left_out(tmp_path: Path) -> None:
    extra = {
        "constant": pa.array(["x"] * 4),
        "width_mm": pa.array([1.5, 2.5, 3.5, 4.5]),
        "votes": pa.array([["a"], ["b"], ["a"], ["b"]]),
    }
    made = Made(**(vars(FOUR) | {"extra": extra}))
    assert page_of(tmp_path, made).facets == ()


def test_inspectors_are_read_from_the_labels_and_judged_label_by_label(tmp_path: Path) -> None:
    rows = [
        ("part_00001", "kim", "dent"),
        ("part_00001", "lee", "ok"),
        ("part_00002", "kim", "ok"),
        ("part_00002", "lee", "dent"),
    ]
    columns = [pa.array(column) for column in zip(*rows, strict=True)]
    labels = pa.table(columns, names=["sample_id", "annotator_id", "given_label"]).append_column(
        "image_path", columns[0]
    )
    write_table(tmp_path / "labels.parquet", labels, "labels", ["dent", "ok"])
    config = {"data": {"labels": str(tmp_path / "labels.parquet")}}
    (facet,) = page_of(tmp_path / "run", config=config).facets
    assert facet.is_inspectors
    # part_00001: given dent has 0.2, suggested ok 0.8. part_00002: given and suggested ok has 1, dent 0.
    assert {g.value: round(g.expected, 3) for g in facet.groups} == {"kim": 0.8, "lee": 1.2}


def test_a_run_without_judged_labels_has_rejects_and_no_gallery(tmp_path: Path) -> None:
    folder = write_refused_run(tmp_path, names=["dent", "ok"], num=3)
    page = page_content(read_run(folder, {}, tmp_path / "spill"), top=60)
    assert (page.num_issues, page.errors, page.suspects, page.confusion.matrix, page.facets) == (
        None,
        None,
        (),
        None,
        (),
    )
    assert page.reject_codes == {"missing": 3}


def test_how_it_was_done_shows_only_what_is_known() -> None:
    known = {name for name, _, _ in how_it_was_done(facts(None), "posterior")}
    assert {"backbone", "seed", "method", "versions"} <= known
    assert not known & {"run_id", "started_at", "seconds", "host", "peak_memory_bytes"}
    assert how_it_was_done({}, None) == ()


def test_how_it_was_done_adds_what_a_manifest_knows() -> None:
    manifest = {"started_at": "2026-03-01T06:00:00+00:00", "finished_at": "2026-03-01T06:01:30+00:00"}
    steps = {"ingest": 1.0, "extract": 60.0, "refine": 20.0, "check_distribution": 0.5}
    rows = {name: value for name, _, value in how_it_was_done(manifest | {"step_seconds": steps}, None)}
    assert rows["seconds"] == 90.0
    assert rows["step_seconds"] == (("extract", 60.0), ("refine", 20.0), ("ingest", 1.0))


def test_fewer_samples_have_fewer_examples(tmp_path: Path) -> None:
    page = fewer(page_of(tmp_path), 1)
    assert [pair.num_shown for pair in page.confusion.pairs] == [1, 0]


def test_a_folder_without_a_summary_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"must be a run folder with summary\.json"):
        read_run(tmp_path, {}, tmp_path / "spill")
