"""The one door through which tables pass: representations change, values never, and every fault is told at once."""

from __future__ import annotations

import pyarrow as pa
import pytest

from labelclean.errors import TableError
from labelclean.storage.tables import TABLES, class_names_of, conform


def labels(**columns: object) -> pa.Table:
    return pa.table(
        {"sample_id": ["b", "a"], "image_path": ["b.png", "a.png"], "given_label": ["ok", "dent"]} | columns
    )


def test_rows_leave_sorted_by_the_key_and_carry_their_class_names() -> None:
    table = conform(labels(), "labels", class_names=["ok", "dent"])
    assert table.column("sample_id").to_pylist() == ["a", "b"]
    assert table.column("given_label").to_pylist() == ["dent", "ok"]
    assert class_names_of(table) == ("ok", "dent")


def test_other_columns_are_carried_through_an_open_table_and_dropped_from_a_closed_one() -> None:
    assert "line" in conform(labels(line=["L1", "L2"]), "labels").column_names
    flags = pa.table({"sample_id": ["a"], "reason": ["outlier"], "score": [1.0], "line": ["L1"]})
    assert conform(flags, "flags").column_names == ["sample_id", "reason", "score"]


@pytest.mark.parametrize("type_", [pa.large_string(), pa.dictionary(pa.int32(), pa.string()), pa.string_view()])
def test_other_representations_of_text_become_strings(type_: pa.DataType) -> None:
    table = conform(labels(given_label=pa.array(["ok", "dent"]).cast(type_)), "labels")
    assert table.schema.field("given_label").type == pa.string()


def test_all_faults_of_a_table_stand_in_one_message() -> None:
    bad = pa.table({"sample_id": ["a", "a", None], "given_label": ["ok", "scrach", ""]})
    with pytest.raises(TableError) as told:
        conform(bad, "labels", class_names=["ok", "dent"], origin="labels.parquet")
    message = str(told.value)
    assert message.startswith("labels.parquet: 4 faults")
    assert "column 'sample_id' must hold a value in every row, but 1 of 3 rows do not" in message
    assert "'scrach' (1)" in message
    assert "must not be empty or blank" in message
    assert "key sample_id must be unique, but 1 keys stand in 2 rows: 'a'" in message


def test_numbers_are_not_quietly_taken_for_names() -> None:
    with pytest.raises(TableError, match="column 'sample_id' must be string, but is int64"):
        conform(labels(sample_id=[1, 2]), "labels")


def test_a_missing_column_is_named_with_the_columns_found() -> None:
    with pytest.raises(TableError, match=r"column 'given_label' is required, but the table has 'sample_id', 'label'"):
        conform(pa.table({"sample_id": ["a"], "label": ["ok"]}), "labels")


def test_several_inspectors_widen_the_key() -> None:
    votes = pa.table({"sample_id": ["a", "a"], "given_label": ["ok", "dent"], "annotator_id": ["x", "y"]})
    assert conform(votes, "labels").num_rows == 2
    with pytest.raises(TableError, match="key sample_id \\+ annotator_id must be unique"):
        conform(votes.set_column(2, "annotator_id", pa.array(["x", "x"])), "labels")


@pytest.mark.parametrize("score", [-0.1, 1.1, float("nan")])
def test_a_share_outside_its_range_is_refused(score: float) -> None:
    with pytest.raises(TableError, match="column 'score' must"):
        conform(pa.table({"sample_id": ["a"], "reason": ["outlier"], "score": [score]}), "flags")


def test_a_reason_outside_the_list_is_refused() -> None:
    with pytest.raises(TableError, match="'because' \\(1\\)"):
        conform(pa.table({"sample_id": ["a"], "reason": ["because"], "score": [1.0]}), "flags")


def test_long_lists_of_culprits_are_cut_with_the_full_count() -> None:
    many = [f"s{i:03d}" for i in range(40)]
    with pytest.raises(TableError, match=r"40 of 40 rows do not.*and 35 more"):
        conform(pa.table({"sample_id": many, "given_label": ["x"] * 40}), "labels", class_names=["ok", "dent"])


def test_every_table_describes_every_column() -> None:
    assert all(column.meaning.endswith(".") for table in TABLES.values() for column in table.columns)


def test_a_spelling_of_a_class_is_told_with_the_key_that_joins_it() -> None:
    rows = pa.table({"sample_id": ["a", "b"], "image_path": ["a", "b"], "given_label": ["OK ", "dent"]})
    with pytest.raises(TableError, match=r"'OK ' \(1\).*or join spellings: data.spellings: \{\"OK \": \"ok\"\}"):
        conform(rows, "labels", class_names=["ok", "dent"])
