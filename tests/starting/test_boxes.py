"""`init` on boxes: a row each, rejects told, and which reading of a file is taken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from labelclean.errors import TableError
from labelclean.review.boxes.files import source_of, with_classes
from labelclean.starting.source import Asked, first_labels
from labelclean.storage.parquet import read_labels, read_table
from labelclean.storage.tables import BOX_COLUMNS, conform
from labelclean.trial.first_config import write_first_config
from tests.hostile import png
from tests.made_boxes import FORMATS, Page, write_boxes

PAGES = [
    Page("1.png", 200, 100, [(10, 20, 30, 40), (100, 10, 20, 5)], ["dent", "scratch"]),
    Page("2.png", 64, 48, [(1, 2, 3, 4)], ["dent"]),
]


def made(form: str, folder: Path, pages: list[Page] = PAGES) -> Path:
    """The file or folder, and the images beside it."""
    images = folder / ("voc/JPEGImages" if form == "voc" else "images")
    images.mkdir(parents=True)
    for page in pages:
        (images / page.name).write_bytes(png(np.zeros((page.height, page.width), dtype=np.uint8), 0))
    path = write_boxes(form, pages, folder)
    return path.parent if form == "voc" else path


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_gives_the_same_labels(form: str, tmp_path: Path) -> None:
    path = made(form, tmp_path)
    seen = write_first_config(
        path, tmp_path / "my.yaml", asked=Asked(image_root=None if form in ("voc", "yolo") else tmp_path / "images")
    )
    (file,) = tmp_path.glob("labels_from_*.parquet")
    labels, _ = read_labels(file, None)
    rows = sorted(labels.to_pylist(), key=lambda row: (row["group_id"], row["box_x_px"]))
    assert [row["given_label"] for row in rows] == ["dent", "scratch", "dent"]
    sides = [[row[name] for name in BOX_COLUMNS] for row in rows]
    drawn = [box for page in PAGES for box in page.boxes]
    np.testing.assert_allclose(sides, drawn, atol=1e-4)
    assert [Path(row["image_path"]).name for row in rows] == ["1.png", "1.png", "2.png"]
    assert len({row["group_id"] for row in rows}) == 2
    assert any("2 of the first 2 images are there" in said or "3 of the first 3" in said for said in seen), seen
    assert "boxes that are missing in an image are not looked for" in " ".join(seen)
    known = source_of(pq.read_schema(file), tmp_path)
    assert known is not None
    assert known.form == form
    assert known.path.exists()


def test_boxes_of_no_class_go_to_a_table_of_rejects(tmp_path: Path) -> None:
    path = made("yolo", tmp_path)
    lines = (tmp_path / "labels" / "1.txt").read_text()
    (tmp_path / "labels" / "1.txt").write_text(f"{lines}\n7 .5 .5 .1 .1\n")
    (tmp_path / "labels" / "gone.txt").write_text("0 .5 .5 .1 .1\n0 .2 .2 .1 .1\n")
    seen = write_first_config(path, tmp_path / "my.yaml")
    (file,) = tmp_path.glob("rejects_from_*.parquet")
    rows = read_table(file, "rejects").to_pylist()
    assert [(row["reason_code"], row["sample_id"]) for row in rows] == [
        ("box_unknown_class", "labels/1#.5,.5,.1,.1"),
        ("missing", "labels/gone#.2,.2,.1,.1"),
        ("missing", "labels/gone#.5,.5,.1,.1"),
    ]
    assert "the class of a box must be one that the file names, but is class 7" in rows[0]["message"]
    assert any(said.startswith("3 boxes cannot be used: box_unknown_class (1), missing (2), such as ") for said in seen)


def coco(*annotations: dict[str, Any]) -> dict[str, Any]:
    rows = [{"id": k, "image_id": 1, "category_id": 1} | one for k, one in enumerate(annotations)]
    return {"images": [{"id": 1, "file_name": "1.png"}], "categories": [{"id": 1, "name": "ok"}], "annotations": rows}


def test_whole_images_are_taken_where_a_file_names_their_class_unless_boxes_are_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "c.json"
    file.write_text(json.dumps(coco({}, {"bbox": [0, 0, 2, 2]})))
    whole, boxes = first_labels(file), first_labels(file, Asked(boxes=True))
    assert whole is not None
    assert boxes is not None
    assert BOX_COLUMNS[0] not in whole.table.column_names
    assert any("--boxes reads the boxes" in said for said in whole.seen)
    assert boxes.table.column("sample_id").to_pylist() == ["1"]
    file.write_text(json.dumps(coco({"bbox": [0, 0, 2, 2]})))
    with pytest.raises(TableError, match="at least one image must have one class"):
        first_labels(file, Asked(boxes=False))


def test_voc_may_be_read_by_image_and_tables_have_no_boxes(tmp_path: Path) -> None:
    whole = first_labels(made("voc", tmp_path), Asked(boxes=False))
    assert whole is not None
    assert whole.table.column("given_label").to_pylist() == ["dent"]
    (tmp_path / "l.csv").write_text("file,label\n1.png,ok\n")
    with pytest.raises(TableError, match="'--boxes' means nothing for labels of this kind"):
        first_labels(tmp_path / "l.csv", Asked(boxes=True))


def test_a_file_of_no_usable_box_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(json.dumps(coco({"bbox": [0, 0, 2, 2], "category_id": 3})))
    with pytest.raises(TableError, match="at least one box must have a class that the file names, but none has"):
        first_labels(tmp_path / "c.json")


def test_yolo_is_found_by_its_yaml_too(tmp_path: Path) -> None:
    made("yolo", tmp_path)
    found = first_labels(tmp_path / "data.yaml")
    assert found is not None
    assert found.table.num_rows == 3
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "data.yaml").write_text("names: [a]")
    with pytest.raises(TableError, match="a YAML file beside which no YOLO boxes lie"):
        first_labels(alone / "data.yaml")


def test_yolo_files_beside_their_images_are_read_and_written_back(tmp_path: Path) -> None:
    """Darknet's layout; a page of boxes whose image is gone is a reject, and lists of images are none."""
    labels = [[0.5, 0.5, 0.2, 0.2], [0.25, 0.25, 0.1, 0.1]]
    pages = tmp_path / "obj_train_data"
    pages.mkdir()
    for name in ("1", "2"):
        (pages / f"{name}.png").write_bytes(png(np.zeros((100, 200), dtype=np.uint8), 0))
    for name, number in (("1", 0), ("2", 1), ("gone", 1)):
        (pages / f"{name}.txt").write_text(f"{number} {' '.join(map(str, labels[number]))}\n")
    (tmp_path / "obj.names").write_text("dent\nscratch\n")
    (tmp_path / "train.txt").write_text("data/obj_train_data/1.png\n")
    found = first_labels(tmp_path)
    assert found is not None
    assert found.table.column("given_label").to_pylist() == ["dent", "scratch"]
    assert found.table.column("box_x_px").to_pylist() == pytest.approx([80, 40])
    assert [one["reason_code"] for one in found.rejects] == ["missing"]
    assert found.boxes is not None
    ids = found.table.column("sample_id").to_pylist()
    files = with_classes(found.boxes, {ids[0]: "dent"}, {ids[0]: "scratch"})
    assert files["obj_train_data/1.txt"] == b"1 0.5 0.5 0.2 0.2\n"
    assert files["obj_train_data/2.txt"] == (pages / "2.txt").read_bytes()


def test_a_label_file_of_two_images_is_told(tmp_path: Path) -> None:
    path = made("yolo", tmp_path)
    (image,) = tmp_path.rglob("1.png")
    image.with_suffix(".bmp").write_bytes(image.read_bytes())
    with pytest.raises(TableError, match=r"1 have several: '.*1\.bmp, .*1\.png'|1 have several: '.*1\.png, .*1\.bmp'"):
        first_labels(path, Asked())


def test_a_table_of_ones_own_may_have_boxes_as_whole_numbers_and_all_its_faults_are_told(tmp_path: Path) -> None:
    rows: dict[str, Any] = {"sample_id": ["a", "b"], "image_path": ["1.png"] * 2, "given_label": ["x", "y"]}
    sides: dict[str, Any] = {name: [1, 2] for name in BOX_COLUMNS}
    assert conform(pa.table(rows | sides), "labels").schema.field("box_x_px").type == pa.float64()
    broken = sides | {"box_x_px": [1.0, float("nan")], "box_y_px": ["1", "2"]}
    del broken["box_height_px"]
    with pytest.raises(TableError) as told:
        conform(pa.table(rows | broken), "labels")
    for words in (
        "'box_x_px' must hold finite numbers, but 1 of 2",
        "'box_y_px' must be double, but is string",
        "a box needs all columns of 'box_x_px', 'box_y_px', 'box_width_px', 'box_height_px', but the table has no 'box_height_px'",
    ):
        assert words in str(told.value)
    pq.write_table(pa.table(rows | sides | {"image": [b"x", b"y"]}), tmp_path / "l.parquet")
    with pytest.raises(TableError, match="boxes must name their image by 'image_path'"):
        read_labels(tmp_path / "l.parquet", None)
