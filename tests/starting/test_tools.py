"""Files of annotation tools: one class per image, everything else left out by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from labelclean.errors import ExchangeError, TableError
from labelclean.starting.coco import coco_rows
from labelclean.starting.csv_file import csv_rows
from labelclean.starting.cvat import cvat_rows
from labelclean.starting.fiftyone import fiftyone_rows
from labelclean.starting.huggingface import joined, jsonl_rows, record_rows
from labelclean.starting.label_studio import flat_rows, is_label_studio, label_studio_rows
from labelclean.starting.rows import BOXES, NO_LABEL, SEVERAL_LABELS, Rows
from labelclean.starting.voc import voc_rows

ORIGIN = Path("plant/file")


def pairs(rows: Rows) -> dict[str, str]:
    return dict(zip(*(rows.table.column(name).to_pylist() for name in ("image_path", "given_label")), strict=True))


def coco(*annotations: dict[str, Any]) -> dict[str, Any]:
    images = [{"id": k, "file_name": f"{k}.png", "width": 4, "height": 4} for k in (1, 2, 3)]
    return {
        "images": images,
        "categories": [{"id": 7, "name": "ok"}, {"id": 9, "name": "dent"}],
        "annotations": [{"id": k, **one} for k, one in enumerate(annotations)],
    }


def test_coco_gives_categories_of_whole_images() -> None:
    content = coco(
        {"image_id": 1, "category_id": 7},
        {"image_id": 1, "category_id": 7, "bbox": []},
        {"image_id": 1, "category_id": 7, "bbox": [0, 0, 0, 0]},
        {"image_id": 2, "category_id": 7},
        {"image_id": 2, "category_id": 9},
        {"image_id": 3, "category_id": 9, "bbox": [0, 0, 1, 1]},
    )
    found = coco_rows(content, ORIGIN)
    (row,) = found.table.to_pylist()
    assert (row["image_path"], row["given_label"]) == ("1.png", "ok")
    assert json.loads(row["coco"])["image"] == content["images"][0]
    assert (found.left_out[SEVERAL_LABELS], found.left_out[BOXES], found.left_out[NO_LABEL]) == (
        ["2.png"],
        ["3.png"],
        ["3.png"],
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (coco({"image_id": 4, "category_id": 7}), "'image 4'"),
        (coco({"image_id": 1, "category_id": 8}), "'category 8'"),
        (coco({"image_id": 1, "category_id": 7, "bbox": [0, 0, 1, 1]}), "none has. It holds 1 boxes"),
        (coco({"image_id": [1]}), r"annotations\[\].image_id must be a text or a whole number"),
        (coco() | {"images": {}}, "images must be a list of objects"),
        (coco() | {"images": [{"id": 1, "file_name": "a"}, {"id": 1, "file_name": "b"}]}, "some stand twice"),
        (coco() | {"categories": [{"id": 7, "name": "ok"}, {"id": 7, "name": "dent"}]}, "some stand twice: ids"),
        (coco() | {"categories": [{"id": 7, "name": "hole"}, {"id": 9, "name": "hole"}]}, "some stand twice: 'hole'"),
    ],
)
def test_a_coco_file_that_is_not_whole_is_refused(content: dict[str, Any], said: str) -> None:
    with pytest.raises(TableError, match=said):
        coco_rows(content, ORIGIN)


def test_cvat_gives_tags_and_leaves_shapes_out() -> None:
    data = b"""<annotations><image id="0" name="a.png"><tag label="ok"/></image>
        <image id="1" name="b.png"><box label="dent" xtl="1"/></image>
        <image id="2" name="c.png"><tag label="ok"/><tag label="dent"/></image></annotations>"""
    found = cvat_rows(data, ORIGIN)
    assert pairs(found) == {"a.png": "ok"}
    assert (found.left_out[BOXES], found.left_out[NO_LABEL], found.left_out[SEVERAL_LABELS]) == (
        ["b.png"],
        ["b.png"],
        ["c.png"],
    )
    with pytest.raises(TableError, match="tracks of a video"):
        cvat_rows(b"<annotations><track id='0' label='x'/></annotations>", ORIGIN)
    with pytest.raises(ExchangeError, match="whole XML"):
        cvat_rows(b"<annotations><image", ORIGIN)


def test_voc_gives_the_class_that_all_objects_name() -> None:
    page = "<annotation><filename>{}.jpg</filename>{}</annotation>"
    one = "<object><name>{}</name><bndbox><xmin>1</xmin></bndbox></object>"
    pages = {
        "a.xml": page.format("a", one.format("dent") * 2),
        "b.xml": page.format("b", one.format("dent") + one.format("ok")),
    }
    found = voc_rows({name: text.encode() for name, text in (pages | {"c.xml": page.format("c", "")}).items()}, ORIGIN)
    assert pairs(found) == {"a.jpg": "dent"}
    assert (found.left_out[SEVERAL_LABELS], found.left_out[NO_LABEL]) == (["b.jpg"], ["c.jpg"])
    assert "4 boxes: the class that all boxes of an image name is taken for the image" in found.seen[0]
    with pytest.raises(TableError, match="a <name> in every <object>"):
        voc_rows({"a.xml": page.format("a", "<object/>").encode()}, ORIGIN)


@pytest.mark.parametrize("encoding", ["Shift_JIS", "EUC-JP", "GB18030"])
def test_xml_in_a_code_page_that_it_names_is_read(encoding: str) -> None:
    page = f'<?xml version="1.0" encoding="{encoding}"?><annotation><filename>1.png</filename><object><name>打痕</name></object></annotation>'
    assert pairs(voc_rows({"": page.encode(encoding)}, ORIGIN)) == {"1.png": "打痕"}
    with pytest.raises(ExchangeError, match="must be whole XML"):
        voc_rows({"": page.encode(encoding)[:-30] + b"\xff\xff"}, ORIGIN)


def test_fiftyone_gives_numbers_and_names() -> None:
    content = {"classes": ["ok", "dent"], "labels": {"a": 1, "b": "ok", "c": None, "d": {"label": "dent"}}}
    found = fiftyone_rows(content, ORIGIN)
    assert pairs(found) == {"a": "dent", "b": "ok", "d": "dent"}
    assert found.left_out[NO_LABEL] == ["c"]
    with pytest.raises(TableError, match=r"4 are not: 'a: 2', 'b: -1', 'c: \[0\]', 'd: True'"):
        fiftyone_rows({"classes": ["ok", "dent"], "labels": {"a": 2, "b": -1, "c": [0], "d": True}}, ORIGIN)


def choice(*names: str, **more: Any) -> dict[str, Any]:
    return {"result": [{"type": "choices", "from_name": "choice", "value": {"choices": list(names)}}], **more}


def test_label_studio_gives_submitted_choices_and_who_made_them() -> None:
    box = {"type": "rectanglelabels", "value": {"x": 1, "rectanglelabels": ["dent"]}}
    tasks = [
        {"data": {"image": "/data/upload/1/0a1b2c3d-a.png"}, "annotations": [choice("ok", completed_by=1), choice("dent", completed_by={"email": "b@x"})]},
        {"data": {"image": "b.png"}, "annotations": [choice("ok", was_cancelled=True, completed_by=1)], "predictions": [choice("ok")]},
        {"data": {"image": "c.png"}, "annotations": [], "drafts": [choice("ok")]},
        {"data": {"image": "d.png"}, "annotations": [choice("ok", "dent", completed_by=1)]},
        {"data": {"image": "e.png"}, "annotations": [{"completed_by": 1, "result": [box]}]},
        {"data": {"image": "f.png"}, "annotations": [choice("ok", completed_by=1, updated_at="2026-01-02"), choice("dent", completed_by=1, updated_at="2026-01-01")]},
    ]  # fmt: skip
    found = label_studio_rows(tasks, None, ORIGIN)
    rows = [(row["image_path"], row["given_label"], row["annotator_id"]) for row in found.table.to_pylist()]
    a = "/data/upload/1/0a1b2c3d-a.png"
    assert rows == [(a, "ok", "1"), (a, "dent", "b@x"), ("f.png", "ok", "1")]
    counts = {what.split(" (")[0]: names for what, names in found.left_out.items()}
    assert counts == {
        "annotations that were skipped": ["b.png"],
        "drafts": ["c.png"],
        "predictions": ["b.png"],
        "results that are no choices for a whole image": ["e.png"],
        "earlier annotations by the same person": ["f.png"],
        "images without a label": ["c.png", "e.png"],
        "images with several labels": ["d.png"],
    }


def test_label_studio_asks_which_control_names_the_class_and_takes_addresses_without_a_suffix() -> None:
    sharp = {"type": "choices", "from_name": "focus", "value": {"choices": ["sharp"]}}
    tasks: list[dict[str, Any]] = [
        {"data": {"image": "https://store/1.png?signed=yes"}},  # not answered yet
        {"data": {"image": "https://store/2?id=7"}, "annotations": [{"result": [sharp, *choice("ok")["result"]]}]},
    ]
    with pytest.raises(TableError, match=r"choices stand in 'choice', 'focus'.*--column given_label=NAME"):
        label_studio_rows(tasks, None, ORIGIN)
    assert pairs(label_studio_rows(tasks, "choice", ORIGIN)) == {"https://store/2?id=7": "ok"}
    assert pairs(label_studio_rows(tasks, "focus", ORIGIN)) == {"https://store/2?id=7": "sharp"}
    assert is_label_studio(tasks)


def test_label_studio_min_and_csv_say_the_same() -> None:
    flat = [
        {"image": "a.png", "id": 1, "choice": "ok", "annotator": 1, "annotation_id": 5, "lead_time": 2.5},
        {"image": "b.png", "id": 2, "choice": {"choices": ["ok", "dent"]}, "annotator": 1, "annotation_id": 6},
    ]
    found = flat_rows(flat, None, "Label Studio JSON-MIN", ORIGIN)
    assert pairs(found) == {"a.png": "ok"}
    text = 'image,id,choice,annotator,annotation_id\na.png,1,ok,1,5\nb.png,2,"{""choices"": [""ok"", ""dent""]}",1,6\n'
    from_csv = csv_rows(text.encode(), {}, ORIGIN)
    assert from_csv.table.drop_columns(["annotated_at"]).equals(found.table.drop_columns(["annotated_at"]))
    assert from_csv.left_out == found.left_out
    with pytest.raises(TableError, match=r"choices in 'choice', 'quality'.*--column given_label=NAME"):
        flat_rows([flat[0] | {"quality": "good"}], None, "Label Studio JSON-MIN", ORIGIN)
    assert pairs(flat_rows([flat[0] | {"quality": "good"}], "quality", "Label Studio JSON-MIN", ORIGIN)) == {
        "a.png": "good"
    }


def test_hugging_face_metadata_stands_beside_the_images_of_each_split() -> None:
    lines = [{"file_name": "a.png", "label": "ok", "boxes": [1]}, {"file_name": "b.png", "label": 3}]
    rows = jsonl_rows("\n".join(map(json.dumps, lines)).encode(), {}, ORIGIN)
    assert rows.table.to_pylist()[0] == {
        "sample_id": "a.png",
        "image_path": "a.png",
        "given_label": "ok",
        "boxes": "[1]",
    }
    both = joined({"train": rows, "test": rows}, ORIGIN)
    assert both.table.column("image_path").to_pylist() == ["train/a.png", "train/b.png", "test/a.png", "test/b.png"]
    assert both.table.column("split").to_pylist() == ["train", "train", "test", "test"]
    with pytest.raises(TableError, match="line 2 must be one JSON object"):
        jsonl_rows(b'{"file_name": "a.png", "label": "ok"}\n{', {}, ORIGIN)


def test_json_objects_of_one_image_each_are_a_table() -> None:
    records: list[dict[str, Any]] = [{"file": "a.png", "label": "ok"}, {"file": "b.png", "label": None, "lot": 7}]
    found = record_rows(list(enumerate(records)), "x", {}, ORIGIN)
    assert found.table.to_pylist() == [{"sample_id": "a.png", "image_path": "a.png", "given_label": "ok", "lot": None}]
    assert found.left_out[NO_LABEL] == ["b.png"]
    with pytest.raises(TableError, match=r"'label' must hold a text or a number.*1 hold a list.*lines '2'"):
        record_rows([(1, {"file": "a.png", "label": "ok"}), (2, {"file": "b.png", "label": ["ok"]})], "x", {}, ORIGIN)
