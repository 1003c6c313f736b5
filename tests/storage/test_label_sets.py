"""Several labels on one image as tables: lists and rows say the same, and bad input gets one letter with all faults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from labelclean.errors import TableError
from labelclean.storage.label_sets import (
    GIVEN,
    given_answers,
    holds_lists,
    label_sets,
    names_in_text,
    names_of_sets,
    set_samples,
    set_text,
)
from labelclean.storage.parquet import read_labels
from labelclean.storage.tables import conform

NAMES = ("dent", "scratch", "stain")


def table(ids: list[Any], given: list[Any], **more: list[Any]) -> pa.Table:
    return pa.table({"sample_id": ids, "image_path": [f"{name}.png" for name in ids], "given_label": given} | more)


def written(tmp_path: Path, rows: pa.Table, name: str = "labels.parquet") -> Path:
    tmp_path.mkdir(exist_ok=True)
    pq.write_table(rows, tmp_path / name)
    return tmp_path / name


LISTS = table(["b", "a", "c"], [["scratch", "dent", "scratch"], [], ["stain"]])
ROWS = table(["c", "b", "a", "b", "b"], ["stain", "scratch", None, "dent", "scratch"], lot=["1", "2", "3", "2", "9"])


def test_lists_and_rows_give_one_row_per_sample_with_a_set_in_class_order() -> None:
    of_lists, of_rows = (label_sets(one, NAMES, "labels") for one in (LISTS, ROWS))
    assert of_lists.select(["sample_id", "image_path", GIVEN]).to_pylist() == [
        {"sample_id": "a", "image_path": "a.png", GIVEN: []},
        {"sample_id": "b", "image_path": "b.png", GIVEN: ["dent", "scratch"]},
        {"sample_id": "c", "image_path": "c.png", GIVEN: ["stain"]},
    ]
    assert of_rows.drop_columns("lot").equals(of_lists)
    assert of_rows.column("lot").to_pylist() == ["3", None, "1"]  # differs within b


def test_samples_hold_a_vote_for_every_label_and_columns_of_a_run_are_left_out() -> None:
    labels = label_sets(LISTS.append_column("label_score", pa.array([0.1, 0.2, 0.3])), NAMES, "labels")
    samples = set_samples(labels, NAMES)
    assert given_answers(samples).tolist() == [[False, False, False], [True, True, False], [False, False, True]]
    assert "label_score" not in samples.column_names
    assert names_of_sets(given_answers(samples), NAMES).to_pylist() == samples.column(GIVEN).to_pylist()


@pytest.mark.parametrize("names", [[], ["stain"], ["stain", "dent"], ['a "b"', "ü, 傷"]])
def test_the_text_of_a_set_tells_it(names: list[str]) -> None:
    known = [*NAMES, *(name for name in names if name not in NAMES)]
    assert names_in_text(set_text(names, known)) == tuple(name for name in known if name in names)
    assert set_text(reversed(names), known) == set_text(names, known)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (table(["a", "b"], [["dent"], None]), "column 'given_label' must hold a value in every row, but 1 of 2 rows do not"),
        (table(["a", "b"], [["dent"], [" "]]), "must hold lists of class names, but 1 names in them are missing or blank"),
        (table(["a", "b"], [["dent"], [None]]), "names in them are missing or blank: sample_ids 'b'"),
        (table(["a", "b"], [["dent"], ["dint", "dent"]]), "'dint' \\(1\\); sample_ids 'b'"),
        (table(["a", "b"], [[1], [2]]), "column 'given_label' must be list<.*string>, but is list<.*int64>"),
        (table(["a", "a"], [["dent"], ["stain"]]), "key sample_id must be unique.*with all its labels in one list"),
        (table(["a", "a"], ["dent", None]), "1 samples have a row without a label beside others: 'a'"),
        (table(["a"], [["dent"]], annotator_id=["who"]), "'annotator_id' must be left out where images have several labels"),
        (table(["a"], [["dent"]], candidate_labels=[["dent"]]), "'candidate_labels' must be left out"),
        (
            pa.table({"sample_id": ["a", "a"], "image_path": ["1", "2"], "given_label": ["dent", "stain"]}),
            "column 'image_path' must be the same in all rows of a sample, but differs for 'a'",
        ),
        (table([None, "b"], ["dent", "stain"]), "column 'sample_id' must hold a value in every row"),
    ],
)  # fmt: skip
def test_bad_sets_are_told_by_column_and_sample(rows: pa.Table, said: str) -> None:
    with pytest.raises(TableError, match=said):
        label_sets(rows, NAMES, "labels.parquet")


def test_one_letter_tells_all_faults() -> None:
    rows = table(["a", "b", "c"], [["dint"], None, [""]], annotator_id=["x", "y", "z"])
    with pytest.raises(TableError) as told:
        label_sets(rows, NAMES, "labels.parquet")
    letter = str(told.value)
    assert all(
        part in letter for part in ("'dint'", "rows do not: sample_ids 'b'", "blank: sample_ids 'c'", "annotator_id")
    )


def test_a_sample_listed_twice_without_the_switch_is_told_of_it(tmp_path: Path) -> None:
    path = written(tmp_path, table(["a", "a", "b"], ["dent", "stain", "dent"]))
    with pytest.raises(TableError, match=r"set data\.several_labels: true"):
        read_labels(path, None)
    labels, _ = read_labels(path, None, several_labels=True)
    assert labels.column(GIVEN).to_pylist() == [["dent", "stain"], ["dent"]]


def test_lists_in_one_file_and_strings_in_another_are_refused(tmp_path: Path) -> None:
    written(tmp_path, LISTS, "1.parquet")
    written(tmp_path, table(["x"], ["dent"]), "2.parquet")
    with pytest.raises(TableError, match=r"'given_label' is list<.*string in 2\.parquet"):
        read_labels(tmp_path, None)


@pytest.mark.parametrize(
    "kind", [pa.list_(pa.string()), pa.large_list(pa.large_string()), pa.list_(pa.string(), 1)], ids=str
)
def test_every_kind_of_list_is_read(tmp_path: Path, kind: pa.DataType) -> None:
    rows = LISTS.set_column(2, "given_label", pa.array([["dent"], ["stain"], ["dent"]], kind))
    assert holds_lists(rows.schema)
    labels, _ = read_labels(written(tmp_path, rows), NAMES)
    assert labels.column(GIVEN).to_pylist() == [["stain"], ["dent"], ["dent"]]


def test_spellings_join_names_inside_sets(tmp_path: Path) -> None:
    rows = table(["a", "b"], [["Dent", "dent"], ["stain"]])
    labels, _ = read_labels(written(tmp_path, rows), None, spellings={"Dent": "dent"})
    assert labels.column(GIVEN).to_pylist() == [["dent"], ["stain"]]


def test_flags_have_a_key_of_sample_class_and_direction() -> None:
    rows = {"sample_id": ["a", "a"], "class_name": ["dent", "dent"], "score": [0.5, 0.5], "is_changed": [True, False]}
    conform(pa.table(rows | {"direction": ["missing", "spurious"]}), "label_flags", class_names=NAMES)
    with pytest.raises(TableError, match="key sample_id \\+ class_name \\+ direction must be unique"):
        conform(pa.table(rows | {"direction": ["missing", "missing"]}), "label_flags")
    with pytest.raises(TableError, match="allowed values"):
        conform(pa.table(rows | {"direction": ["missing", "wrong"]}), "label_flags")


def test_a_soft_label_of_a_set_need_not_sum_to_one() -> None:
    rows = {
        "sample_id": ["a"], "given_labels": [["dent"]], "soft_label": pa.FixedSizeListArray.from_arrays(pa.array([0.9, 0.8, 0.1], pa.float32()), 3),
        "predicted_labels": [["dent", "scratch"]], "missing_labels": [["scratch"]], "spurious_labels": pa.array([[]], pa.list_(pa.string())),
        "label_score": [0.2], "is_label_issue": [True],
    }  # fmt: skip
    conformed = conform(pa.table(rows), "refined_labels", class_names=NAMES)
    assert "given_label" not in conformed.column_names
    with pytest.raises(TableError, match="column 'predicted_labels' is required"):
        conform(pa.table(rows).drop_columns("predicted_labels"), "refined_labels", class_names=NAMES)
