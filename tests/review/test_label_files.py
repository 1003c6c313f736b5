"""Labels as files: suffixes mean what they say, cells stay text, images lie in the folder of their class."""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from labelclean.errors import ConfigError, StorageError, TableError
from labelclean.review.apply import apply_labels
from labelclean.review.label_files import Form, Labels, form_of, guarded, unguarded, write_labels
from labelclean.starting.csv_file import csv_rows
from labelclean.starting.source import first_labels
from labelclean.storage.tables import conform
from tests.review.exchange.conftest import make_run

ROWS: dict[str, Any] = {
    "sample_id": ["a", "b", "c", "d"],
    "image_path": ["x/1.png", "y/1.png", "x/2.png", "x/3.png"],
    "given_label": ["ok", "ok", "=1+1", "ok"],
    "lot": ["007", "-x", None, "'=q"],
    "seen": [datetime(2026, 1, 2, tzinfo=UTC)] * 4,
    "soft_label": [[0.5, 0.5]] * 4,
    "label_score": [0.25, 0.5, float("nan"), 1.0],
    "predicted_label": ["ok", "ok", "dent", None],
    "verified_label": [None, "dent", None, None],
    "review_status": ["pending", "corrected", "bad_image", "rejected"],
}


def labels(root: Path, **columns: Any) -> Labels:
    table = pa.table(ROWS | columns)
    return Labels(table.schema, iter([table.slice(0, 2), table.slice(2)]), ("dent", "ok"), root)


@pytest.mark.parametrize(
    ("name", "told", "form"),
    [
        ("a.parquet", None, "parquet"),
        ("a.CSV", None, "csv"),
        ("a.xlsx", "excel", "excel"),
        ("a.json", "coco", "coco"),
        ("a", "folder", "folder"),
    ],
)
def test_the_suffix_says_what_is_written(name: str, told: str | None, form: Form) -> None:
    assert form_of(Path(name), told) == form


@pytest.mark.parametrize(
    ("name", "told"),
    [("a.xls", None), ("a", None), ("a.csv", "folder"), ("a.csv", "parquet"), ("a.csv", "x"), ("a", "csv")],
)
def test_other_names_are_refused(name: str, told: str | None, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--to"):
        form_of(Path(name), told)
    with pytest.raises(ConfigError, match="--to"):
        apply_labels(tmp_path, [], tmp_path / name, to=told)


def test_csv_holds_text_numbers_and_lists_and_no_formula(tmp_path: Path) -> None:
    written = write_labels("csv", labels(tmp_path, image=[b"x"] * 4), tmp_path / "l.csv")
    assert (written.num_rows, written.left_out) == (4, {"columns of bytes": 1})
    with (tmp_path / "l.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["given_label"] for row in rows] == ["ok", "ok", "'=1+1", "ok"]
    assert [row["lot"] for row in rows] == ["007", "'-x", "", "''=q"]
    assert (rows[0]["soft_label"], rows[0]["label_score"], rows[0]["seen"]) == (
        "[0.5, 0.5]",
        "0.25",
        "2026-01-02T00:00:00+00:00",
    )
    back = csv_rows((tmp_path / "l.csv").read_bytes(), {}, tmp_path / "l.csv").table
    for name in ("sample_id", "image_path", "given_label", "lot"):
        assert back.column(name).to_pylist() == ROWS[name]


@pytest.mark.parametrize("name", ["a.csv", "a.xlsx", "a.json"])
def test_times_that_python_does_not_know_are_written_as_text(tmp_path: Path, name: str) -> None:
    far = pa.array([0, 9_000_000_000_000_000_000] * 2, pa.timestamp("us"))
    nowhere = pa.array([0] * 4, pa.timestamp("s", "Mars/Olympus"))
    write_labels(form_of(tmp_path / name, None), labels(tmp_path, far=far, nowhere=nowhere), tmp_path / name)
    if name == "a.csv":
        rows = list(csv.DictReader((tmp_path / name).read_text(encoding="utf-8-sig").splitlines()))
        assert rows[1]["far"] == "<value out of range: 9000000000000000000>"
        assert rows[0]["nowhere"] == "1970-01-01 00:00:00"


def test_the_guard_comes_off_again() -> None:
    for text in ("=1", "'=1", "''=1", "-1", "@x", "+1", "\tx", "＝1", "'x", "x", "", "'", "007"):
        assert unguarded(guarded(text)) == text


def test_excel_holds_text_as_text(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    write_labels("excel", labels(tmp_path, big=[2**60] * 4), tmp_path / "l.xlsx")
    page = openpyxl.load_workbook(tmp_path / "l.xlsx").active
    header, *rows = list(page.iter_rows())
    columns = {cell.value: place for place, cell in enumerate(header)}
    assert [row[columns["given_label"]].value for row in rows] == ["ok", "ok", "=1+1", "ok"]
    assert {row[columns["given_label"]].data_type for row in rows} == {"s"}
    assert (rows[0][columns["lot"]].value, rows[0][columns["label_score"]].value) == ("007", 0.25)
    assert rows[0][columns["big"]].value == str(2**60)
    for value, said in (("a\x0bb", "control characters"), ("x" * 40_000, "may hold 32,767 characters")):
        with pytest.raises(TableError, match=said):
            write_labels("excel", labels(tmp_path, lot=[value] * 4), tmp_path / "m.xlsx")


def test_coco_has_one_category_per_image_and_comes_back(tmp_path: Path) -> None:
    written = write_labels("coco", labels(tmp_path), tmp_path / "l.json")
    assert (written.num_rows, written.left_out) == (2, {"images that cannot be used": 2})
    content = json.loads((tmp_path / "l.json").read_text())
    assert content["images"] == [{"id": 1, "file_name": "x/1.png"}, {"id": 2, "file_name": "y/1.png"}]
    assert [(one["image_id"], one["category_id"]) for one in content["annotations"]] == [(1, 2), (2, 1)]
    found = first_labels(tmp_path / "l.json")
    assert found is not None
    assert found.table.column("given_label").to_pylist() == ["ok", "dent"]


def test_what_came_from_coco_goes_back_with_its_ids_sizes_and_categories(tmp_path: Path) -> None:
    images = [{"id": 40 + k, "file_name": f"{k}.png", "width": 64, "license": 1} for k in range(4)]
    annotations = [{"id": 90 + k, "image_id": 40 + k, "category_id": 17, "iscrowd": 0} for k in range(4)]
    categories = [{"id": 17, "name": "ok", "supercategory": "good"}, {"id": 3, "name": "dent"}]
    whole = {"info": {"year": 2026}, "images": images, "annotations": annotations, "categories": categories}
    (tmp_path / "in.json").write_text(json.dumps(whole))
    found = first_labels(tmp_path / "in.json")
    assert found is not None
    read = conform(found.table, "labels")
    table = pa.table(ROWS).append_column(read.schema.field("coco"), read.column("coco"))
    write_labels("coco", Labels(table.schema, iter([table]), ("dent", "hole", "ok"), tmp_path), tmp_path / "out.json")
    content = json.loads((tmp_path / "out.json").read_text())
    assert (content["info"], content["images"]) == ({"year": 2026}, images[:2])
    assert content["categories"] == [*categories, {"id": 18, "name": "hole"}]
    first, second = ({name: one[name] for name in annotations[0]} for one in content["annotations"])
    assert (first, second) == (annotations[0], annotations[1] | {"category_id": 3})


@pytest.mark.parametrize("other", ["no JSON", "[1]", '{"image": 3}', None])
def test_a_column_of_ones_own_that_is_called_coco_is_no_trouble(tmp_path: Path, other: str | None) -> None:
    write_labels("coco", labels(tmp_path, coco=[other] * 4), tmp_path / "l.json")
    assert [one["id"] for one in json.loads((tmp_path / "l.json").read_text())["images"]] == [1, 2]


@pytest.mark.parametrize("links", [False, True])
def test_a_folder_holds_each_image_under_its_class(tmp_path: Path, links: bool) -> None:
    for name in ("x/1.png", "y/1.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(name)
    columns = {
        "verified_label": [None, "ok", None, None],
        "review_status": ["pending", "corrected", "pending", "rejected"],
    }
    written = write_labels("folder", labels(tmp_path, **columns), tmp_path / "out", links=links)
    assert (written.num_rows, written.left_out) == (
        2,
        {"images that are not there": 1, "images that cannot be used": 1},
    )
    assert (tmp_path / "out/ok/1.png").read_text() == "x/1.png"
    assert (tmp_path / "out/ok/y__1.png").read_text() == "y/1.png"
    assert (tmp_path / "out/ok/1.png").is_symlink() == links
    found = first_labels(tmp_path / "out", None)
    assert found is not None


def test_images_that_the_table_holds_are_written_out(tmp_path: Path) -> None:
    columns = {"image": [b"\x89PNG1", b"\xff\xd82", None, None], "image_path": [None, None, None, None]}
    write_labels("folder", labels(tmp_path, **columns), tmp_path / "out")
    files = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*"))
    assert files == ["dent/b.jpg", "ok/a.png"]


@pytest.mark.parametrize("name", ["a/b", "..", ".x", "a\n", "x ", "a:b"])
def test_a_class_that_cannot_be_a_folder_is_refused(tmp_path: Path, name: str) -> None:
    rows = labels(tmp_path)
    with pytest.raises(TableError, match="must be names of folders"):
        write_labels("folder", Labels(rows.schema, rows.tables, ("ok", name), tmp_path), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("name", "to"), [("v2.csv", None), ("v2.xlsx", None), ("v2.json", None)])
def test_apply_writes_every_form_whole_or_not_at_all(tmp_path: Path, name: str, to: str | None) -> None:
    run = make_run(tmp_path, 6)
    report = apply_labels(run, [], tmp_path / name, to=to)
    assert (report.path, report.num_rows) == (tmp_path / name, 6)
    with pytest.raises(pa.ArrowInvalid):
        pq.read_schema(tmp_path / name)
    with pytest.raises(StorageError, match="nothing is overwritten"):
        apply_labels(run, [], tmp_path / name, to=to)
    with pytest.raises(ConfigError, match="--links goes with --to folder"):
        apply_labels(run, [], tmp_path / f"w{name}", links=True)
    with pytest.raises(TableError, match="'<script>'"):
        apply_labels(run, [], tmp_path / "folder", to="folder")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".") or path.name == "folder"]
