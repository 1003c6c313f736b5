"""Parquet of any make becomes a labels table; nothing is guessed of numbers that are no names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from labelclean.errors import TableError
from labelclean.starting.parquet_file import is_labels_table, parquet_rows, write_with_images


def written(path: Path, columns: dict[str, Any], metadata: dict[str, str] | None = None) -> Path:
    table = pa.table(columns)
    pq.write_table(table.replace_schema_metadata(metadata) if metadata else table, path)
    return path


def test_a_labels_table_is_taken_as_it_is(tmp_path: Path) -> None:
    path = written(
        tmp_path / "l.parquet", {"sample_id": ["a"], "image_path": ["a.png"], "given_label": ["ok"], "x": [1]}
    )
    assert is_labels_table(path, {})
    assert is_labels_table(path, {"given_label": "given_label"})
    assert not is_labels_table(path, {"given_label": "x"})
    assert not is_labels_table(written(tmp_path / "m.parquet", {"file": ["a.png"], "label": ["ok"]}), {})


def test_other_column_names_and_numbers_become_a_labels_table(tmp_path: Path) -> None:
    path = written(
        tmp_path / "l.parquet",
        {"file": ["a.png", "b.png", "c.png"], "grade": [1.0, None, 2.0], "part": [7, 7, 8], "w": [0.5] * 3},
    )
    found = parquet_rows(path, {"given_label": "grade", "group_id": "part"})
    assert found.table.to_pylist() == [
        {"sample_id": "a.png", "image_path": "a.png", "given_label": "1", "group_id": "7", "w": 0.5},
        {"sample_id": "c.png", "image_path": "c.png", "given_label": "2", "group_id": "8", "w": 0.5},
    ]
    assert found.left_out == {"images without a label (rows)": ["2"]}
    assert "column 'grade': int64 values are written as text" in found.seen


def test_hugging_face_parquet_gives_images_and_class_names(tmp_path: Path) -> None:
    names = {
        "info": {"features": {"label": {"names": ["ok", "dent"], "_type": "ClassLabel"}, "image": {"_type": "Image"}}}
    }
    images = [{"bytes": b"1", "path": "a.png"}, {"bytes": b"2", "path": "b.png"}, {"bytes": b"3", "path": "c.png"}]
    path = written(
        tmp_path / "train.parquet", {"image": images, "label": [1, 0, -1]}, {"huggingface": json.dumps(names)}
    )
    found = parquet_rows(path, {})
    assert found.table.to_pylist() == [
        {"sample_id": "a.png", "given_label": "dent", "image_path": "a.png"},
        {"sample_id": "b.png", "given_label": "ok", "image_path": "b.png"},
    ]
    assert found.images is not None
    write_with_images(tmp_path / "made.parquet", found.table, found.images)
    assert pq.read_table(tmp_path / "made.parquet").to_pylist()[1] == {**found.table.to_pylist()[1], "image": b"2"}
    assert found.left_out == {"images without a label (rows)": ["3"]}
    path = written(
        tmp_path / "train.parquet", {"image": images, "label": [1, 0, 2]}, {"huggingface": json.dumps(names)}
    )
    with pytest.raises(TableError, match=r"its 2 classes, but holds \[2\]"):
        parquet_rows(path, {})


def test_images_keep_their_rows_whatever_is_left_out_and_however_they_lie(tmp_path: Path) -> None:
    names = {"info": {"features": {"label": {"names": ["ok", "dent"], "_type": "ClassLabel"}}}}
    images = [{"bytes": str(row).encode(), "path": f"{row}.png"} for row in range(1_000)]
    table = pa.table({"image": images, "label": [row % 3 - 1 for row in range(1_000)]})
    (tmp_path / "data").mkdir()
    for part in range(2):
        rows = table.slice(part * 500, 500).replace_schema_metadata({"huggingface": json.dumps(names)})
        pq.write_table(rows, tmp_path / "data" / f"train-{part}.parquet", row_group_size=70)
    found = parquet_rows(tmp_path / "data", {})
    assert found.images is not None
    write_with_images(tmp_path / "made.parquet", found.table, found.images)
    made = pq.read_table(tmp_path / "made.parquet").to_pylist()
    assert [(row["sample_id"], row["image"], row["given_label"]) for row in made] == [
        (f"{row}.png", str(row).encode(), ["ok", "dent"][row % 3 - 1]) for row in range(1_000) if row % 3
    ]


def test_images_without_names_are_numbered(tmp_path: Path) -> None:
    images = [{"bytes": b"1", "path": None}, {"bytes": b"2", "path": None}]
    found = parquet_rows(written(tmp_path / "t.parquet", {"image": images, "label": ["a", "b"]}), {})
    assert found.table.column("sample_id").to_pylist() == ["t-0000001", "t-0000002"]
    assert any("number of the row" in line for line in found.seen)


@pytest.mark.parametrize(
    "marks", [([1, 0, 0, 1], [0, 1, None, 1]), ([True, False, False, True], [False, True, None, True])]
)
def test_one_hot_columns_become_the_class(tmp_path: Path, marks: tuple[list[Any], list[Any]]) -> None:
    columns = {
        "file": ["a.png", "b.png", "c.png", "d.png"],
        "ok": marks[0],
        "dent": marks[1],
        "w": [0.5, 1.0, 0.0, 1.0],
    }
    found = parquet_rows(written(tmp_path / "l.parquet", columns), {})
    assert found.table.column("given_label").to_pylist() == ["ok", "dent"]
    assert [names for names in found.left_out.values() if names] == [["4"], ["3"]]
    assert "columns 'ok', 'dent' hold one 1 in each row: the column's name is the class" in found.seen


def test_inspectors_of_one_image_stay_together(tmp_path: Path) -> None:
    columns = {"file": ["a.png", "a.png", "b.png"], "label": ["ok", "dent", "ok"], "who": ["x", "y", "x"]}
    found = parquet_rows(written(tmp_path / "l.parquet", columns), {"annotator_id": "who"})
    assert found.table.column("sample_id").to_pylist() == ["a.png", "a.png", "b.png"]


def test_class_names_are_found_as_a_list_or_by_number(tmp_path: Path) -> None:
    told = {"info": {"features": {"label": {"names": {"0": "ok", "1": "dent"}, "_type": "ClassLabel"}}}}
    path = written(
        tmp_path / "l.parquet",
        {"file": ["a", "b"], "Label": [1, 1], "label": [1, 0]},
        {"huggingface": json.dumps(told)},
    )
    assert parquet_rows(path, {"given_label": "label"}).table.column("given_label").to_pylist() == ["dent", "ok"]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"file": ["a", "b"], "label": [1.0, float("inf")]}, "with numbers above 9,007,199,254,740,992"),
        ({"file": ["a", "b"], "label": [1.0, 1e300]}, "with numbers above"),
        ({"file": ["a"], "label": [0.5]}, "must hold names or whole numbers, but is double"),
        ({"file": ["a"], "label": [[0.5]]}, "must hold text or whole numbers, but is list"),
        ({"file": ["a"], "label": ["x"], "class": ["y"]}, "'label', 'class' might be it"),
        ({"label": ["x"]}, "image_path: none is"),
    ],
)
def test_unclear_parquet_is_refused(tmp_path: Path, columns: dict[str, Any], said: str) -> None:
    with pytest.raises(TableError, match=said):
        parquet_rows(written(tmp_path / "l.parquet", columns), {})
