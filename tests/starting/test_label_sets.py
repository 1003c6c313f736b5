"""Marks in columns, rows per image and class, and masks become sets; every shape says the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from labelclean.errors import TableError
from labelclean.starting.csv_file import csv_rows
from labelclean.starting.rows import Rows
from labelclean.starting.source import Asked, first_labels
from labelclean.storage.label_sets import label_sets

ORIGIN = Path("plant/train.csv")
WANTED = {"a.png": ["1", "3"], "b.png": [], "c.png": ["3"]}


def read(text: str, **columns: str) -> Rows:
    return csv_rows(text.encode(), columns, ORIGIN, several=True)


def sets_of(rows: Rows) -> dict[str, list[str]]:
    labels = label_sets(rows.table, (), "labels")
    return dict(zip(*(labels.column(name).to_pylist() for name in ("image_path", "given_labels")), strict=True))


@pytest.mark.parametrize(
    "text",
    [
        "ImageId,ClassId,EncodedPixels\na.png,1,9 3\na.png,3,2 2\nb.png,3,\nc.png,3,4 4\n",
        "ImageId_ClassId,EncodedPixels\na.png_1,1 1\na.png_3,2 2\nb.png_1,\nb.png_3,\nc.png_1,\nc.png_3,7 7\n",
        "image,label\na.png,3\na.png,1\nb.png,\nc.png,3\n",
        "image,label\na.png,3\na.png,1\na.png,1\nb.png,\nc.png,3\nc.png,3\n",
        "image,1,3\na.png,1,1\nb.png,0,0\nc.png,0,1\n",
        "画像,1,3\na.png,○,○\nb.png,,\nc.png,,○\n",
    ],
)
def test_every_shape_of_several_labels_says_the_same(text: str) -> None:
    assert sets_of(read(text)) == WANTED


def test_columns_that_differ_within_an_image_and_rows_without_a_label_are_told() -> None:
    rows = read("file,label,line,box\na.png,x,L1,1 2\na.png,y,L1,3 4\na.png,,L1,5 6\n")
    assert rows.table.column_names == ["sample_id", "image_path", "given_label", "line"]
    assert "columns 'box' differ within an image: they are left out" in rows.seen
    assert rows.left_out["rows without a label beside others of the same image"] == ["a.png"]


def test_without_the_option_rows_are_read_as_ever() -> None:
    text = "file,label\na.png,x\na.png,y\nb.png,\n"
    rows = csv_rows(text.encode(), {}, ORIGIN)
    assert rows.table.column("given_label").to_pylist() == ["x", "y"]
    assert rows.left_out["images without a label"] == ["b.png"]


def test_images_that_no_row_names_are_told_or_have_no_label(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for name in ("a.png", "b.png", "d.png"):
        (tmp_path / "images" / name).write_bytes(b"x")
    (tmp_path / "train.csv").write_text("image,label\na.png,x\na.png,y\nb.png,x\n")
    asked = Asked(image_root=tmp_path / "images", several_labels=True)
    told = first_labels(tmp_path / "train.csv", asked)
    assert told is not None
    assert told.table.num_rows == 3
    assert any(
        "'d.png': they are left out; if they have no defect, give --unlisted-have-none" in line for line in told.seen
    )
    asked = Asked(image_root=tmp_path / "images", several_labels=True, unlisted_have_none=True)
    taken = first_labels(tmp_path / "train.csv", asked)
    assert taken is not None
    sets = label_sets(taken.table, (), "labels")
    assert sets.column("given_labels").to_pylist() == [["x", "y"], ["x"], []]
    with pytest.raises(TableError, match="--unlisted-have-none goes with --several-labels"):
        first_labels(tmp_path / "train.csv", Asked(unlisted_have_none=True))


def test_the_option_means_nothing_for_folders_of_classes(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"images": [], "annotations": [], "categories": []}')
    with pytest.raises(TableError, match="'--several-labels' means nothing for labels of this kind"):
        first_labels(tmp_path / "x.json", Asked(several_labels=True))
