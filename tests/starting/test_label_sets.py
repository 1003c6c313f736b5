"""Marks in columns, rows per image and class, and masks become sets; every shape says the same."""

from __future__ import annotations

import json
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
    (tmp_path / "x.jsonl").write_text('{"file_name": "a.png", "label": "dent"}')
    with pytest.raises(TableError, match="'--several-labels' means nothing for labels of this kind"):
        first_labels(tmp_path / "x.jsonl", Asked(several_labels=True))


FILES = {
    "tags.xml": '<annotations><version>1.1</version><image id="0" name="a.png" width="9" height="9"><tag label="3"/>'
    '<tag label="1"/><tag label="3"/></image><image id="1" name="b.png" width="9" height="9"/>'
    '<image id="2" name="c.png" width="9" height="9"><tag label="3"/><box label="7" xtl="1" ytl="1" xbr="2" ybr="2"/></image>'
    "</annotations>",
    "coco.json": json.dumps(
        {
            "images": [{"id": number, "file_name": name} for number, name in enumerate(("a.png", "b.png", "c.png"))],
            "categories": [{"id": number, "name": str(number)} for number in (1, 3, 7)],
            "annotations": [
                {"id": 1, "image_id": 0, "category_id": 3},
                {"id": 2, "image_id": 0, "category_id": 1},
                {"id": 3, "image_id": 2, "category_id": 3},
                {"id": 4, "image_id": 2, "category_id": 7, "bbox": [1, 1, 2, 2]},
            ],
        }
    ),
    "studio.json": json.dumps(
        [
            {
                "id": number,
                "data": {"image": name},
                "annotations": [
                    {
                        "completed_by": 5,
                        "updated_at": "2026-11-29T08:00:00Z",
                        "result": [{"type": "choices", "from_name": "what", "value": {"choices": names}}],
                    },
                    {"completed_by": 6, "updated_at": "2026-11-28T08:00:00Z", "result": []},
                ],
            }
            for number, (name, names) in enumerate({"a.png": ["3", "1"], "b.png": [], "c.png": ["3"]}.items())
        ]
    ),
    "studio_min.json": json.dumps(
        [
            {"id": 1, "image": "a.png", "what": {"choices": ["3", "1"]}, "annotation_id": 1, "annotator": 5},
            {"id": 2, "image": "b.png", "annotation_id": 2, "annotator": 5},
            {"id": 3, "image": "c.png", "what": "3", "annotation_id": 3, "annotator": 5},
        ]
    ),
    "studio.csv": "annotation_id,annotator,id,image,what\n"
    '1,5,1,a.png,"{""choices"": [""3"", ""1""]}"\n2,5,2,b.png,\n3,5,3,c.png,3\n',
}


@pytest.mark.parametrize("name", FILES)
def test_classes_of_whole_images_in_a_tools_file_become_sets(name: str, tmp_path: Path) -> None:
    for image in WANTED:
        (tmp_path / image).write_bytes(b"x")
    (tmp_path / name).write_text(FILES[name], encoding="utf-8")
    some = first_labels(tmp_path / name, Asked(several_labels=True))
    whole = first_labels(tmp_path / name, Asked(several_labels=True, unlisted_have_none=True))
    assert some is not None
    assert whole is not None
    read = [{row["image_path"]: sorted(row["given_label"]) for row in one.table.to_pylist()} for one in (some, whole)]
    assert read == [{image: names for image, names in WANTED.items() if names}, WANTED]
    assert any("left out: 1 images without a label: 'b.png'" in sentence for sentence in some.seen)
    assert "annotator_id" not in some.table.column_names


def test_of_several_annotations_the_one_submitted_last_counts_and_the_others_are_told(tmp_path: Path) -> None:
    (tmp_path / "studio.json").write_text(FILES["studio.json"], encoding="utf-8")
    first = first_labels(tmp_path / "studio.json", Asked(several_labels=True))
    assert first is not None
    assert first.table.column("annotated_by").to_pylist() == ["5", "5"]
    assert any("left out: 3 earlier annotations of the same image" in sentence for sentence in first.seen)


def test_the_boxes_of_pascal_voc_give_an_image_all_their_classes(tmp_path: Path) -> None:
    objects = "".join(
        f"<object><name>{name}</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>3</xmax><ymax>3</ymax></bndbox></object>"
        for name in ("3", "1", "3")
    )
    page = f"<annotation><filename>a.png</filename>{objects}</annotation>"
    (tmp_path / "a.xml").write_text(page, encoding="utf-8")
    first = first_labels(tmp_path / "a.xml", Asked(several_labels=True))
    assert first is not None
    assert first.table.column("given_label").to_pylist() == [["3", "1"]]
    assert any("3 boxes: the classes that its boxes name are taken" in sentence for sentence in first.seen)


def test_boxes_and_several_labels_exclude_each_other(tmp_path: Path) -> None:
    (tmp_path / "coco.json").write_text(FILES["coco.json"], encoding="utf-8")
    with pytest.raises(TableError, match="--boxes and --several-labels exclude each other"):
        first_labels(tmp_path / "coco.json", Asked(several_labels=True, boxes=True))
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "1.txt").write_text("0 .5 .5 .2 .2\n", encoding="utf-8")
    with pytest.raises(TableError, match="'--several-labels' means nothing for labels of this kind"):
        first_labels(tmp_path, Asked(several_labels=True))


@pytest.mark.parametrize("several", [True, False])
def test_columns_of_marks_that_tell_nothing_are_told(several: bool) -> None:
    text = "image,dent,scratch,checked,pore\na.png,1,0,1,0\nb.png,0,1,1,0\n"
    rows = csv_rows(text.encode(), {}, ORIGIN, several=several)
    told = " ".join(rows.seen)
    assert "columns 'checked' hold a mark in every row, which tells no image from another" in told
    assert "columns 'pore' hold no mark: no image has these classes" in told
    assert "checked" in rows.table.column_names


def test_all_faults_of_a_cvat_file_stand_in_one_letter(tmp_path: Path) -> None:
    images = '<image id="0"><tag label="x"/></image><image id="1" name="b.png"><tag/></image>'
    (tmp_path / "tags.xml").write_text(f"<annotations>{images}</annotations>", encoding="utf-8")
    with pytest.raises(
        TableError, match=r"2 have not: 'image 1: the name is missing', 'image b.png: a label is missing'"
    ):
        first_labels(tmp_path / "tags.xml", Asked(several_labels=True))
