"""Which reader a path needs; what is not read is named with what to do."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from labelclean.errors import TableError
from labelclean.starting.source import Asked, FirstLabels, first_labels
from tests.starting.test_cells import workbook
from tests.starting.test_folders import tree
from tests.starting.test_parquet_file import written
from tests.starting.test_tools import coco


def read(path: Path, asked: Asked | None = None) -> FirstLabels:
    found = first_labels(path, asked)
    assert found is not None
    return found


def pairs(found: FirstLabels) -> dict[str, str]:
    return dict(zip(*(found.table.column(name).to_pylist() for name in ("image_path", "given_label")), strict=True))


def test_every_source_finds_its_images(tmp_path: Path) -> None:
    tree(tmp_path, "images/a.png", "images/b.png")
    table = "file,label\na.png,ok\nb.png,dent\n"
    content = coco({"image_id": 1, "category_id": 7}, {"image_id": 2, "category_id": 9})
    content["images"] = [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.png"}]
    task = '{{"data": {{"image": "/data/upload/1/0a1b2c3d-{}.png"}}, "annotations": [{{"result": [{{"type": "choices", "value": {{"choices": ["{}"]}}}}]}}]}}'
    tag, page = (
        '<image name="{}.png"><tag label="{}"/></image>',
        "<annotation><filename>a.png</filename><object><name>{}</name></object></annotation>",
    )
    files: dict[str, bytes] = {
        "l.csv": table.encode(),
        "l.csv.gz": gzip.compress(table.encode()),
        "l.txt": b"a.png ok\nb.png dent\n",
        "l.xlsx": workbook(("x", [["file", "label"], ["a.png", "ok"], ["b.png", "dent"]])),
        "l.jsonl": b'{"file_name": "a.png", "label": "ok"}\n{"file_name": "b.png", "label": "dent"}\n',
        "lines.json": b'{"file": "a.png", "label": "ok"}\n{"file": "b.png", "label": "dent"}\n',
        "excel.csv": workbook(("x", [["file", "label"], ["a.png", "ok"], ["b.png", "dent"]])),
        "coco.json": json.dumps(content).encode(),
        "fiftyone.json": json.dumps({"classes": ["ok", "dent"], "labels": {"a": 0, "b": 1}}).encode(),
        "studio.json": f"[{task.format('a', 'ok')}, {task.format('b', 'dent')}]".encode(),
        "utf16.xml": f"\ufeff<annotations>{tag.format('a', 'ok')}{tag.format('b', 'dent')}</annotations>".encode("utf-16-le"),
        "cvat.xml": f"<annotations>{tag.format('a', 'ok')}{tag.format('b', 'dent')}</annotations>".encode(),
    }  # fmt: skip
    written(tmp_path / "l.parquet", {"file": ["a.png", "b.png"], "label": ["ok", "dent"]})
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    for name in (*files, "l.parquet"):
        found = read(tmp_path / name)
        assert (pairs(found), found.image_root) == ({"images/a.png": "ok", "images/b.png": "dent"}, tmp_path), name
    (tmp_path / "voc.xml").write_text(page.format("ok"))
    assert pairs(read(tmp_path / "voc.xml")) == {"images/a.png": "ok"}


def test_a_table_beside_an_image_folder_is_found(tmp_path: Path) -> None:
    tree(tmp_path, "train/1.png", "train/2.png")
    (tmp_path / "train.csv").write_text("id,label\n1,ok\n2,dent\n")
    (tmp_path / "sample_submission.csv").write_text("id,probability\n1,0.5\n")
    for path in (tmp_path, tmp_path / "train"):
        found = read(path)
        assert pairs(found) == {
            f"{'train/' if path == tmp_path else ''}{k}.png": label for k, label in ((1, "ok"), (2, "dent"))
        }
        assert found.seen[1] == f"no class folders: the labels are taken from {tmp_path / 'train.csv'}"
        assert "left out: 1 tables without images and labels: 'sample_submission.csv'" in found.seen
    (tmp_path / "other.csv").write_text("file,label\n1.png,ok\n")
    with pytest.raises(TableError, match=r"'other.csv', 'train.csv' may. Name the file itself"):
        first_labels(tmp_path)


def test_a_table_among_its_images_is_found_from_above(tmp_path: Path) -> None:
    tree(tmp_path, "data/images/1.png", "data/images/2.png")
    (tmp_path / "data/images/labels.csv").write_text("file,label\n1.png,ok\n2.png,dent\n")
    found = read(tmp_path / "data")
    assert (pairs(found), found.image_root) == ({"1.png": "ok", "2.png": "dent"}, tmp_path / "data/images")


def test_an_image_root_above_a_tree_goes_into_the_paths(tmp_path: Path) -> None:
    tree(tmp_path, "plant/line3/ok/1.png", "plant/line3/dent/2.png")
    found = read(tmp_path / "plant/line3", Asked(image_root=tmp_path / "plant"))
    assert (pairs(found), found.image_root) == (
        {"line3/ok/1.png": "ok", "line3/dent/2.png": "dent"},
        tmp_path / "plant",
    )
    with pytest.raises(TableError, match="does not hold"):
        first_labels(tmp_path / "plant/line3", Asked(image_root=tmp_path / "other"))


def test_hugging_face_fiftyone_and_voc_are_known_as_folders(tmp_path: Path) -> None:
    tree(tmp_path, "hf/train/a.png", "hf/test/b.png", "f51/data/a.png", "voc/JPEGImages/a.jpg")
    (tmp_path / "hf/train/metadata.csv").write_text("file_name,label\na.png,ok\n")
    (tmp_path / "hf/test/metadata.csv").write_text("file_name,label\nb.png,dent\n")
    assert pairs(read(tmp_path / "hf")) == {"train/a.png": "ok", "test/b.png": "dent"}
    (tmp_path / "f51/labels.json").write_text('{"classes": ["ok"], "labels": {"a": 0}}')
    found = read(tmp_path / "f51")
    assert (pairs(found), found.image_root) == ({"a.png": "ok"}, tmp_path / "f51/data")
    (tmp_path / "voc/Annotations").mkdir()
    (tmp_path / "voc/Annotations/a.xml").write_text(
        "<annotation><filename>a.jpg</filename><object><name>ok</name></object></annotation>"
    )
    assert pairs(read(tmp_path / "voc")) == {"JPEGImages/a.jpg": "ok"}


def test_voc_wins_over_the_folders_that_its_layout_has(tmp_path: Path) -> None:
    tree(
        tmp_path,
        "JPEGImages/a.jpg",
        "JPEGImages/b.jpg",
        "SegmentationObject/a.png",
        "Annotations/a.xml",
        "ImageSets/Main/t.txt",
    )
    page = "<annotation><filename>a.jpg</filename><object><name>dent</name></object></annotation>"
    (tmp_path / "Annotations" / "a.xml").write_text(page)
    assert pairs(read(tmp_path)) == {"JPEGImages/a.jpg": "dent"}


def test_class_folders_win_over_tables_beside_them(tmp_path: Path) -> None:
    tree(tmp_path, "ok/1.png", "dent/2.png")
    (tmp_path / "notes.csv").write_text("file,label\n1.png,x\n")
    assert set(pairs(read(tmp_path)).values()) == {"ok", "dent"}


def test_one_class_folder_stands_where_the_table_beside_it_is_of_other_images(tmp_path: Path) -> None:
    tree(tmp_path, "parts/ok/1.png", "parts/ok/2.png")
    (tmp_path / "prices.csv").write_text("file,label\n7.png,x\n8.png,y\n")
    found = read(tmp_path / "parts")
    assert pairs(found) == {"ok/1.png": "ok", "ok/2.png": "ok"}
    assert "left out: 1 tables that name none of the images: 'prices.csv'" in found.seen
    (tmp_path / "grades.csv").write_text("file,label\n1.png,crack\n2.png,dent\n")
    assert set(pairs(read(tmp_path / "parts")).values()) == {"crack", "dent"}


def test_a_table_names_images_whatever_the_case_and_the_form_of_their_letters(tmp_path: Path) -> None:
    tree(tmp_path, "parts/line3/IMG_\u30ab\u3099.PNG")  # as a Mac writes it: the letter, then its mark
    (tmp_path / "grades.csv").write_text("file,label\nimg_\u30ac.png,crack\n", encoding="utf-8")
    assert set(pairs(read(tmp_path / "parts")).values()) == {"crack"}


def test_a_labels_table_needs_no_reader(tmp_path: Path) -> None:
    written(tmp_path / "l.PARQUET", {"sample_id": ["a"], "image_path": ["a.png"], "given_label": ["ok"]})
    assert first_labels(tmp_path / "l.PARQUET") is None
    assert first_labels(tmp_path) is None


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("l.xls", "x", "an old or binary Excel workbook, which is not read. Save it as .xlsx"),
        ("data.yaml", "x", "YOLO"),
        ("l.pkl", "x", "never opened"),
        ("l.zip", "x", "Unpack it"),
        ("l.rtf", "x", "what '.rtf' holds is not known"),
        ("a.png", "x", "this is one image"),
        ("l.json", '{"shapes": [], "imagePath": "a.png"}', r"LabelMe \(shapes\), which is not read"),
        ("l.json", '{"samples": []}', "FiftyOneImageClassificationDataset"),
        ("l.json", '[{"data": {"image": "a.png"}}]', "after people have answered"),
        ("l.csv", "version https://git-lfs.github.com/spec/v1", "a Git LFS pointer, not the file itself"),
        ("l.parquet", "version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        ("l.csv", "\n<!DOCTYPE html><html>", "a web page, not the file itself"),
        ("l.xml", "<x/>", "XML of a kind that is not known"),
        ("l.json", "[1]", "JSON of a kind that is not known"),
    ],
)
def test_what_is_not_read_is_named_with_what_to_do(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(TableError, match=said):
        first_labels(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "asked", "said"),
    [
        ("l.csv", Asked(sheet="a"), "'--sheet' means nothing"),
        ("l.csv", Asked(class_folder=2), "'--class-folder' means nothing"),
        ("coco.json", Asked({"given_label": "x"}), "'--column' means nothing"),
        ("none.csv", Asked(), "nothing is there"),
        (
            "l.csv",
            Asked({"given_label": "empty"}),
            "at least one row must have a label, but of 1 none has",
        ),
    ],
)
def test_an_option_that_means_nothing_is_refused(tmp_path: Path, name: str, asked: Asked, said: str) -> None:
    (tmp_path / "l.csv").write_text("file,label,empty\na.png,ok,\n")
    (tmp_path / "coco.json").write_text(json.dumps(coco()))
    with pytest.raises(TableError, match=said):
        first_labels(tmp_path / name, asked)


def test_a_folder_of_boxes_is_named_as_what_it_is(tmp_path: Path) -> None:
    tree(tmp_path, "flow/train/1.png", "flow/train/_annotations.coco.json")
    paths = ("flat/images/1.png", "flat/labels/1.txt")
    for name in paths:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"0 .5 .5 .2 .2")
    with pytest.raises(TableError, match=r"YOLO numbers its classes, and a file must name them"):
        first_labels(tmp_path / "flat")
    with pytest.raises(TableError, match=r"'train/_annotations.coco.json' may hold them: name the file itself"):
        first_labels(tmp_path / "flow")


def test_names_that_no_table_can_hold_are_passed_over_or_refused(tmp_path: Path) -> None:
    (tree(tmp_path / "old", "a.png", "\udcff.png") / "l.csv").write_text("file,label\n/d/a.png,ok\n/d/?.png,dent\n")
    assert pairs(read(tmp_path / "old" / "l.csv")) == {"a.png": "ok", "/d/?.png": "dent"}
    (tree(tmp_path / "faces", "\udcff/a.png") / "\udcff" / "metadata.csv").write_text("file_name,label\na.png,ok\n")
    with pytest.raises(TableError, match="must be UTF-8, but 1 are not"):
        first_labels(tmp_path / "faces")
