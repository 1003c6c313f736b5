"""Boxes of five formats: what is read is what was drawn; what is written is the same file with other classes."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from labelclean.errors import ExchangeError, StorageError, TableError
from labelclean.features.boxes import Box
from labelclean.review.boxes.coco import coco_boxes
from labelclean.review.boxes.cvat import cvat_boxes
from labelclean.review.boxes.files import BoxSource, box_files, source_of, with_classes
from labelclean.review.boxes.found import Files, FoundBoxes, turned
from labelclean.review.boxes.label_studio import label_studio_boxes
from labelclean.review.boxes.voc import voc_boxes
from labelclean.review.boxes.yolo import yolo_boxes
from tests.made_boxes import FORMATS, Page, write_boxes

HERE = Path("made")
PAGES = [
    Page("1.png", 200, 100, [(10, 20, 30, 40), (100.5, 10, 20, 5), (0, 0, 8, 8)], ["dent", "scratch", "dent"]),
    Page("2 b.png", 64, 48, [(1, 2, 3, 4)], ["crack"]),
    Page("3.png", 64, 48, [], []),
]
READ: dict[str, Callable[[Files, Path], FoundBoxes]] = {
    "coco": coco_boxes,
    "cvat": cvat_boxes,
    "label_studio": label_studio_boxes,
    "voc": voc_boxes,
    "yolo": yolo_boxes,
}


def source(form: str, folder: Path) -> BoxSource:
    return BoxSource(form, write_boxes(form, PAGES, folder))


def read(source: BoxSource) -> FoundBoxes:
    return READ[source.form](box_files(source), source.path)


@pytest.mark.parametrize("form", FORMATS)
def test_every_box_is_read_where_it_was_drawn(form: str, tmp_path: Path) -> None:
    found = read(source(form, tmp_path))
    drawn = [(page, *pair) for page in PAGES for pair in zip(page.boxes, page.labels, strict=True)]
    assert [box.label for box in found.boxes] == [label for _, _, label in drawn]
    for box, (page, sides, _) in zip(found.boxes, drawn, strict=True):
        scale = (page.width, page.height) * 2 if form == "yolo" else (1, 1, 1, 1)
        assert [side * by for side, by in zip(box.box, scale, strict=True)] == pytest.approx(sides, abs=1e-4)
        assert page.name.removesuffix(".png") in box.image
    assert len({box.sample_id for box in found.boxes}) == 4
    assert found.num_images == 3


@pytest.mark.parametrize("form", FORMATS)
def test_ids_stay_when_a_box_comes_before_them(form: str, tmp_path: Path) -> None:
    before = {box.sample_id: box.box for box in read(source(form, tmp_path / "a")).boxes}
    first = PAGES[0]
    more = Page(first.name, 200, 100, [*first.boxes, (50, 50, 9, 9)], [*first.labels, "crack"])
    if form in ("cvat", "voc", "yolo"):  # the format has no ids: places in the file do not count
        more = Page(first.name, 200, 100, [(50, 50, 9, 9), *first.boxes], ["crack", *first.labels])
    path = write_boxes(form, [more, PAGES[1], PAGES[2]] if form != "coco" else [*PAGES[1:], more], tmp_path / "b")
    after = {box.sample_id: box.box for box in read(BoxSource(form, path)).boxes}
    if form != "coco":  # its ids are the tool's own
        assert before.items() <= after.items()
    assert len(after) == 5


@pytest.mark.parametrize("form", FORMATS)
def test_only_the_class_changes(form: str, tmp_path: Path) -> None:
    """Held against a plain replacement of the class in the one piece of text that holds it."""
    made = source(form, tmp_path)
    before, boxes = box_files(made), read(made).boxes
    target = boxes[1]  # the scratch
    after = with_classes(made, {target.sample_id: "scratch"}, {target.sample_id: "crack"})
    assert after.keys() == before.keys()
    changed = [name for name in before if before[name] != after[name]]
    assert len(changed) == 1
    old, new = before[changed[0]].decode(), after[changed[0]].decode()
    expected = {
        "coco": ('"id": 501,\n   "iscrowd": 0,\n   "category_id": 12', '"id": 501,\n   "iscrowd": 0,\n   "category_id": 10'),
        "cvat": ('<box xtl="100.50" ytl="10.00" xbr="120.50" ybr="15.00" label="scratch"', '<box xtl="100.50" ytl="10.00" xbr="120.50" ybr="15.00" label="crack"'),
        "voc": ("<name>scratch</name>", "<name>crack</name>"),
        "yolo": ("2 0.55250000", "0 0.55250000"),
    }  # fmt: skip
    if form == "label_studio":  # the last annotation's second result, not the earlier one's nor the predictions'
        start = old.index('"updated_at": "2026-01-01')
        at = old.index('"scratch"', start)
        assert new == old[:at] + '"crack"' + old[at + len('"scratch"') :]
    else:
        assert old.count(expected[form][0]) == 1
        assert new == old.replace(*expected[form])
    written = [box.label for box in READ[form](after, made.path).boxes]
    assert written == ["dent", "crack", "dent", "crack"]


@pytest.mark.parametrize("form", FORMATS)
def test_every_class_can_change_at_once_and_none(form: str, tmp_path: Path) -> None:
    made = source(form, tmp_path)
    boxes = read(made).boxes
    given = {box.sample_id: box.label for box in boxes}
    assert with_classes(made, {}, {}) == box_files(made)
    turn = {"dent": "scratch", "scratch": "crack", "crack": "dent"}
    after = with_classes(made, given, {sample: turn[label] for sample, label in given.items()})
    assert [box.label for box in READ[form](after, made.path).boxes] == [turn[box.label] for box in boxes]
    assert [box.sample_id for box in READ[form](after, made.path).boxes] == [box.sample_id for box in boxes]


@pytest.mark.parametrize("form", ["cvat", "label_studio", "voc"])
def test_a_name_may_hold_any_sign(form: str, tmp_path: Path) -> None:
    made = source(form, tmp_path)
    names = ["<a> & \"b\" 'c'", "傷 \\ \u00e9"]
    boxes = read(made).boxes[:2]
    new = dict(zip([box.sample_id for box in boxes], names, strict=True))
    after = with_classes(made, {box.sample_id: box.label for box in boxes}, new)
    assert [box.label for box in READ[form](after, made.path).boxes][:2] == names


@pytest.mark.parametrize("form", ["coco", "yolo"])
def test_a_class_that_the_file_does_not_number_is_refused(form: str, tmp_path: Path) -> None:
    made = source(form, tmp_path)
    box = read(made).boxes[0]
    with pytest.raises(TableError, match=r"must be one that the file numbers \('crack', 'dent', .*but is 'rust'"):
        with_classes(made, {box.sample_id: box.label}, {box.sample_id: "rust"})


@pytest.mark.parametrize("form", FORMATS)
def test_boxes_that_changed_since_are_refused_together(form: str, tmp_path: Path) -> None:
    made = source(form, tmp_path)
    box = read(made).boxes[0]
    with pytest.raises(TableError, match=r"2 of 2 whose class is new are gone or have another class by now: .*'gone'"):
        with_classes(made, {box.sample_id: "crack", "gone": "dent"}, {box.sample_id: "scratch", "gone": "crack"})
    for file in [made.path] if made.path.is_file() else []:
        file.unlink()
        with pytest.raises(StorageError, match="must be there to be written anew"):
            with_classes(made, {}, {})


@pytest.mark.parametrize("codec", ["utf-8-sig", "utf-16", "iso-8859-1", "shift_jis"])
@pytest.mark.parametrize("form", ["cvat", "voc"])
def test_xml_goes_back_in_its_own_encoding(form: str, codec: str) -> None:
    told = "" if codec.startswith("utf") else f" encoding='{codec}'"
    box = '<box label="ok" xtl="1" ytl="1" xbr="2" ybr="2"/>'
    item = "<object><name> ok </name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></object>"
    text = {
        "cvat": f'<?xml version="1.0"{told}?>\n<annotations><image name="1.png">{box}</image></annotations>',
        "voc": f'<?xml version="1.0"{told}?>\n<annotation><filename>1.png</filename>{item}</annotation>',
    }[form]
    data = text.encode(codec)
    files = {"": data}
    (found,) = READ[form](files, HERE).boxes
    from labelclean.review.boxes.cvat import cvat_with_classes
    from labelclean.review.boxes.voc import voc_with_classes

    write = cvat_with_classes if form == "cvat" else voc_with_classes
    old, new = ('"ok"', '"dent"') if form == "cvat" else ("> ok <", ">dent<")
    assert write(files, {found.place: "dent"}, HERE)[""] == text.replace(old, new).encode(codec)
    wild = write(files, {found.place: "打"}, HERE)[""]  # not every code page holds it: a reference does
    assert READ[form]({"": wild}, HERE).boxes[0].label == "打"


def test_json_with_a_mark_or_in_utf_16_goes_back_as_it_came(tmp_path: Path) -> None:
    text = write_boxes("coco", PAGES, tmp_path).read_text(encoding="utf-8")
    for codec in ("utf-8-sig", "utf-16"):
        (tmp_path / "c.json").write_bytes(text.encode(codec))
        made = BoxSource("coco", tmp_path / "c.json")
        after = with_classes(made, {"501": "scratch"}, {"501": "dent"})
        assert json.loads(after[""].decode(codec))["annotations"][1]["category_id"] == 11
        assert len(after[""]) == len(text.encode(codec))


def test_other_content_of_a_coco_file_is_the_same_json(tmp_path: Path) -> None:
    made = source("coco", tmp_path)
    before = json.loads(made.path.read_text(encoding="utf-8"))
    after = json.loads(with_classes(made, {"500": "dent"}, {"500": "never 傷"})[""])
    before["annotations"][0]["category_id"] = 13
    assert after == before


def test_other_content_of_xml_is_the_same_tree(tmp_path: Path) -> None:
    made = source("cvat", tmp_path)
    target = read(made).boxes[2]
    after = ET.fromstring(with_classes(made, {target.sample_id: "dent"}, {target.sample_id: "crack"})[""])
    before = ET.fromstring(made.path.read_bytes())
    list(before.iter("box"))[2].set("label", "crack")
    assert ET.tostring(after) == ET.tostring(before)


def test_a_turned_box_becomes_the_upright_one_around_it() -> None:
    shape = '<box label="a" xtl="40" ytl="45" xbr="60" ybr="55" rotation="90"/>'
    data = f'<annotations><image name="1.png">{shape}</image></annotations>'.encode()
    assert list(cvat_boxes({"": data}, HERE).boxes[0].box) == pytest.approx([45, 40, 10, 20])  # about its middle
    assert list(turned(Box(10, 10, 20, 10), 90, (10, 10))) == pytest.approx([0, 10, 10, 20])  # about its corner


def studio(results: list[dict[str, Any]], **more: Any) -> Files:
    task = {"id": 1, "data": {"image": "1.png"}, "annotations": [{"id": 1, "result": results}]}
    return {"": json.dumps([task | more]).encode()}


def rectangle(*names: str, **more: Any) -> dict[str, Any]:
    value = {"x": 1, "y": 1, "width": 5, "height": 5, "rectanglelabels": list(names)}
    size = {"original_width": 100, "original_height": 50}
    return {"type": "rectanglelabels", "from_name": "label", "id": "a", "value": value} | size | more


def test_label_studio_names_what_is_left_out_and_asks_which_control() -> None:
    other = rectangle("x", from_name="second", id="b")
    found = label_studio_boxes(
        studio([rectangle("ok"), rectangle("a", "b"), rectangle(), {"type": "choices", "value": {}}]), HERE
    )
    assert [box.sample_id for box in found.boxes] == ["1/a"]
    assert sorted((what.split(" (")[0], len(names)) for what, names in found.left_out.items() if names) == [
        ("boxes with several classes", 1), ("boxes without a class", 1), ("results that are no rectangles", 1),
    ]  # fmt: skip
    with pytest.raises(TableError, match=r"rectangles stand in 'label', 'second'.*--column given_label=NAME"):
        label_studio_boxes(studio([rectangle("ok"), other]), HERE)
    assert [box.label for box in label_studio_boxes(studio([rectangle("ok"), other]), HERE, "second").boxes] == ["x"]


def test_the_same_box_drawn_twice_gets_an_id_of_its_own() -> None:
    line = b"0 .5 .5 .2 .2\n"
    found = yolo_boxes({"classes.txt": b"ok\n", "labels/1.txt": line * 3}, HERE)
    assert [box.sample_id for box in found.boxes] == [
        "labels/1#.5,.5,.2,.2",
        "labels/1#.5,.5,.2,.2 (2)",
        "labels/1#.5,.5,.2,.2 (3)",
    ]


def test_classes_that_the_file_does_not_name_are_told_apart() -> None:
    files = {"classes.txt": b"ok\ndent\n", "labels/a/1.txt": b"1 .5 .5 .2 .2\n2 .5 .5 .1 .1\n0 .1 .1 .2 .2 .3 .3\n"}
    found = yolo_boxes(files, HERE)
    assert [box.label for box in found.boxes] == ["dent"]
    assert found.unknown == (("labels/a/1#.5,.5,.1,.1", "images/a/1", "class 2"),)
    assert list(found.left_out.values()) == [["labels/a/1.txt"]]
    content = {"images": [{"id": 1, "file_name": "1.png"}], "categories": [{"id": 1, "name": "ok"}], "annotations": [
        {"id": 5, "image_id": 1, "category_id": 2, "bbox": [0, 0, 1, 1]}, {"id": 6, "image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1]},
        {"id": 7, "image_id": 1, "category_id": 1, "segmentation": [[0, 0, 1, 1, 0, 1]]},
    ]}  # fmt: skip
    known = coco_boxes({"": json.dumps(content).encode()}, HERE)
    assert ([box.sample_id for box in known.boxes], known.unknown) == (["6"], (("5", "1.png", "category_id 2"),))
    assert [names for names in known.left_out.values() if names] == [["1"]]


def bad_coco() -> Files:
    rows = [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 1]},
        {"id": 2, "image_id": 9, "category_id": 1, "bbox": [0, 0, 1, 1]},
        {"id": 2, "image_id": 1, "category_id": 1, "bbox": [0, 0, "x", 1]},
        {"id": 3, "image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1]},
        {"id": 3, "image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1]},
    ]
    content = {
        "images": [{"id": 1, "file_name": "1.png"}],
        "categories": [{"id": 1, "name": "ok"}],
        "annotations": rows,
    }
    return {"": json.dumps(content).encode()}


BAD: dict[str, tuple[Files, tuple[str, ...]]] = {
    "coco": (bad_coco(), ("4 do not", "annotations[0]: bbox is [0, 0, 1]", "annotations[1]: image_id 9 is no image", "annotations[2]: bbox is [0, 0, 'x', 1]", "annotations[4]: id 3 is missing or stands twice")),
    "cvat": ({"": b'<annotations><image id="4"><box label="a" xtl="1" ytl="1" xbr="2" ybr="2"/></image><image name="2.png"><box label="a" xtl="" ytl="1" xbr="2" ybr="2"/><box label="a" xtl="nan" ytl="1" xbr="2" ybr="2"/></image></annotations>'}, ("3 do not", "image 4: name is missing", "image '2.png', box 2: corners are ['', '1', '2', '2']", "box 3")),
    "label_studio": (studio([rectangle("a", original_width=None), rectangle("a", value={"x": 1, "rectanglelabels": ["a"]}, id="q")]), ("2 do not", "task 1, region 'a'", "region 'q'")),
    "voc": ({"a.xml": b"<annotation><object><name>ok</name><bndbox><xmin>x</xmin></bndbox></object></annotation>", "b.xml": b"<annotation><filename>b.png</filename><object><name>ok</name><bndbox/></object></annotation>"}, ("3 do not", "a.xml: <filename> is missing", "a.xml, object 1: bndbox is ['x', '', '', '']", "b.xml, object 1")),
    "yolo": ({"classes.txt": b"ok\n", "labels/1.txt": b"0 .5 .5 .2 .2\n\nok .5 .5 .2 .2\n0 .5 .5\n", "labels/2.txt": b"-1 .5 .5 .2 .2\n\xff\n"}, ("4 do not", "labels/1.txt, line 3: 'ok .5 .5 .2 .2'", "labels/1.txt, line 4: '0 .5 .5'", "labels/2.txt, line 1", "labels/2.txt, line 2")),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMATS)
def test_a_bad_file_gets_one_letter_with_all_its_faults(form: str) -> None:
    files, said = BAD[form]
    with pytest.raises(TableError) as told:
        READ[form](files, HERE)
    assert [words for words in said if words not in str(told.value)] == []
    assert str(told.value).startswith("made: every box must have ")


@pytest.mark.parametrize("form", FORMATS)
def test_a_file_that_is_cut_anywhere_is_read_or_refused_in_words(form: str, tmp_path: Path) -> None:
    made = source(form, tmp_path)
    files = box_files(made)
    name = max(files, key=lambda one: (not one.endswith(".yaml"), len(files[one])))
    for end in range(0, len(files[name]), max(1, len(files[name]) // 60)):
        with suppress(TableError, ExchangeError):
            READ[form](files | {name: files[name][:end]}, made.path)


def test_video_tracks_and_lost_class_names_are_refused() -> None:
    with pytest.raises(TableError, match="holds tracks of a video"):
        cvat_boxes({"": b"<annotations><track/></annotations>"}, HERE)
    with pytest.raises(TableError, match=r"a file must name them: data.yaml with names, or classes.txt"):
        yolo_boxes({"labels/1.txt": b"0 .5 .5 .2 .2"}, HERE)
    with pytest.raises(
        TableError, match=r"one list of class names must hold, but \['classes.txt', 'data.yaml'\] differ"
    ):
        yolo_boxes({"data.yaml": b"names: {0: a, 1: b}", "classes.txt": b"a\n"}, HERE)


def test_the_labels_say_where_their_boxes_came_from(tmp_path: Path) -> None:
    made = BoxSource("voc", tmp_path / "x" / "Annotations", "label")
    field = pa.field("box_x_px", pa.float64(), metadata=made.note(tmp_path.resolve()))
    assert source_of(pa.schema([field]), tmp_path) == made
    assert b'"x/Annotations"' in (field.metadata or {})[b"labelclean.boxes"]
    assert source_of(pa.schema([("box_x_px", pa.float64())]), tmp_path) is None
    assert source_of(pa.schema([("sample_id", pa.string())]), tmp_path) is None
