"""Which reader a path needs, where its images lie, and what comes of both."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any
from unicodedata import normalize

import pyarrow as pa

from labelclean.errors import ExchangeError, TableError, listed
from labelclean.review.boxes.coco import coco_boxes, has_coco_boxes
from labelclean.review.boxes.cvat import cvat_boxes
from labelclean.review.boxes.files import BoxSource, box_files
from labelclean.review.boxes.label_studio import has_results, label_studio_boxes
from labelclean.review.boxes.voc import has_voc_boxes, voc_boxes
from labelclean.review.boxes.yolo import looks_like_boxes, yolo_files
from labelclean.review.exchange.foreign_file import foreign_json
from labelclean.review.exchange.json_values import record_list
from labelclean.starting.boxes import box_rows, yolo_rows
from labelclean.starting.coco import coco_rows, has_whole_images, is_coco
from labelclean.starting.csv_file import csv_rows
from labelclean.starting.cvat import cvat_rows
from labelclean.starting.excel import excel_rows
from labelclean.starting.fiftyone import fiftyone_rows, is_fiftyone
from labelclean.starting.folders import check_names, folder_rows
from labelclean.starting.huggingface import joined, jsonl_rows, record_rows
from labelclean.starting.images import READ_SUFFIXES, located, plain_path
from labelclean.starting.label_sets import all_labels_each, with_unlisted
from labelclean.starting.label_studio import (
    flat_rows,
    is_label_studio,
    is_label_studio_min,
    label_studio_rows,
)
from labelclean.starting.parquet_file import is_labels_table, parquet_rows
from labelclean.starting.rows import Collect, Rows, StoredImages, one_label_each
from labelclean.starting.text import file_bytes, text_of
from labelclean.starting.unread import UNKNOWN_JSON, unread_bytes, unread_json, unread_suffix
from labelclean.starting.voc import voc_rows

PARQUET = (".parquet", ".pq", ".parq")
_SHEETS = (".csv", ".tsv", ".xlsx", ".xlsm", ".csv.gz", ".tsv.gz")
_TABLES = (*_SHEETS, ".json", ".jsonl", ".xml", ".lst", ".txt")
_VOC = re.compile(rb"<annotation[\s>]")
_HEAD = 50_000  # bytes in which XML shows what it is
_METADATA = ("metadata.jsonl", "metadata.csv")


@dataclass(frozen=True)
class Asked:
    """What the user says of the labels.

    Attributes:
        columns: The file's name for a column of labelclean.
        class_folder: Which folder of a tree names the class; None: the first that may.
        encoding: Code page of a text file; None: as it shows itself.
        sheet: Sheet of a workbook; None: the first that shows.
        image_root: Folder that image paths start from; None: beside the labels.
        boxes: Whether every box is a sample; None: where a file holds boxes and no class of a whole image.
        several_labels: Rows of one image, or marks in one row, are its several labels.
        unlisted_have_none: Images that no row names have no label.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    class_folder: int | None = None
    encoding: str | None = None
    sheet: str | None = None
    image_root: Path | None = None
    boxes: bool | None = None
    several_labels: bool = False
    unlisted_have_none: bool = False

    def takes_boxes(self, has_boxes: bool, has_whole: bool) -> bool:
        """Whether the boxes of a file are the samples."""
        if self.boxes is None:
            return has_boxes and not has_whole and not self.several_labels
        return self.boxes

    @property
    def collect(self) -> Collect:
        """Whether an image has one label, or several."""
        return all_labels_each if self.several_labels else one_label_each


@dataclass(frozen=True)
class FirstLabels:
    """Labels as they were found.

    Attributes:
        table: Rows of the table `labels`, not yet conformed.
        image_root: Folder that `image_path` is relative to.
        seen: What was found, decided and left out, one sentence each.
        images: Where the images themselves are, if Parquet holds them; rows of ``table`` are in its order.
        boxes: Where the boxes came from, if rows are boxes.
        rejects: Boxes that cannot be used, rows of the table `rejects`.
    """

    table: pa.Table
    image_root: Path
    seen: tuple[str, ...]
    images: StoredImages | None = None
    boxes: BoxSource | None = None
    rejects: tuple[dict[str, str], ...] = ()


def first_labels(path: Path, asked: Asked | None = None) -> FirstLabels | None:
    """Return the labels at a path, whatever they come as.

    Args:
        path: A folder of images per class, of YOLO, or with a table or metadata beside its images; a CSV, list, Excel or
            Parquet file; a file of COCO, CVAT for images, FiftyOne, Label Studio or Pascal VOC.
        asked: What the user says of them.

    Returns:
        The labels; None where the path is a labels table already, in Parquet.

    Raises:
        TableError: If nothing is there, the format is not read, or the file breaks a promise.
        ExchangeError: If XML or JSON is not whole.
    """
    asked = asked or Asked()
    if asked.unlisted_have_none and not asked.several_labels:
        raise TableError(f"{path}: --unlisted-have-none goes with --several-labels. Give both, or leave it out.")
    if asked.boxes and asked.several_labels:
        raise TableError(
            f"{path}: a box has one class, so --boxes and --several-labels exclude each other. Give one of them."
        )
    if not path.exists():
        raise TableError(
            f"{path}: must be a folder of images per class, a table (CSV, Excel, Parquet) or a file of an annotation "
            "tool, but nothing is there."
        )
    if path.name.lower().endswith((".yaml", ".yml")) and path.is_file() and (files := _yolo_files(path.parent)):
        _check_asked(path, asked, "boxes")
        return _with_images(yolo_rows(files, path.parent), path.parent, asked)
    _check_read(path)
    if _is_parquet(path):
        _check_asked(path, asked, "columns", "several_labels")
        if is_labels_table(path, asked.columns) and not asked.unlisted_have_none:
            return None
        rows = parquet_rows(path, asked.columns, several=asked.several_labels)
    else:
        rows = _folder(path, asked) if path.is_dir() else _file(path, asked)
    return _with_images(rows, path, asked)


# --- inside ---------------------------------------------------------------------------------------


def _check_read(path: Path) -> None:
    """Refuse a file whose name or first bytes say that it is not read."""
    if path.is_dir():
        return
    unread = unread_suffix(path)
    if path.name.lower().endswith(READ_SUFFIXES):
        unread = ("one image", "Name the folder that holds the class folders, or a table of labels")
    if unread is None:
        try:
            with path.open("rb") as file:
                unread = unread_bytes(file.read(200))
        except OSError as fault:
            raise TableError(f"{path}: must be a readable file, but: {fault.strerror}.") from None
    if unread is not None:
        raise TableError(f"{path}: this is {unread[0]}, which is not read. {unread[1]}.")


def _is_parquet(path: Path) -> bool:
    if path.is_file():
        if path.name.lower().endswith(PARQUET):
            return True
        with path.open("rb") as file:
            return file.read(4) == b"PAR1"
    return next((True for file in path.rglob("*") if file.suffix.lower() == ".parquet" and file.is_file()), False)


def _check_asked(path: Path, asked: Asked, *known: str) -> None:
    """Refuse what the user says that means nothing for these labels."""
    options = {
        "boxes": "--boxes",
        "columns": "--column",
        "class_folder": "--class-folder",
        "encoding": "--encoding",
        "sheet": "--sheet",
        "several_labels": "--several-labels",
    }
    unset: tuple[object, ...] = (None, {})
    idle = [
        option
        for name, option in options.items()
        if name not in known
        and getattr(asked, name) not in unset
        and (name != "several_labels" or asked.several_labels)
    ]
    if idle:
        raise TableError(f"{path}: {listed(idle)} means nothing for labels of this kind. Leave it out.")


def _folder(path: Path, asked: Asked) -> Rows:
    """The labels in a folder that holds no Parquet."""
    says_nothing = not asked.columns and asked.class_folder is None and asked.boxes is not False
    if says_nothing and (files := _yolo_files(path)):
        _check_asked(path, asked, "boxes", "encoding", "sheet")
        return yolo_rows(files, path)
    metadata = [
        found for name in _METADATA for found in (path / name, *sorted(path.glob(f"*/{name}"))) if found.is_file()
    ]
    if metadata and asked.class_folder is None:
        _check_asked(path, asked, "columns", "encoding")
        check_names(path, [file.parent.name for file in metadata])
        parts = {"" if file.parent == path else file.parent.name: _file(file, asked) for file in metadata}
        return joined(parts, path)
    if (path / "labels.json").is_file() and (path / "data").is_dir() and asked.class_folder is None:
        return _file(path / "labels.json", asked)
    if asked.columns or asked.sheet or asked.encoding or asked.several_labels:  # they speak of a table
        return _table_beside(path, asked, None)
    if asked.class_folder is None:
        for folder in sorted(place for place in path.rglob("*") if place.name.lower() == "annotations"):
            if pages := _voc_pages(folder):
                return _voc(pages, folder, asked)
    try:
        rows = folder_rows(path, asked.class_folder)
    except TableError as fault:
        return _table_beside(path, asked, fault)
    if rows.table.column("given_label").combine_chunks().unique().to_pylist()[1:] or asked.class_folder is not None:
        return rows
    return _table_beside(path, asked, None, rows)


def _table_beside(path: Path, asked: Asked, fault: TableError | None, rows: Rows | None = None) -> Rows:
    """The labels in the one table in a folder of images or beside it; else what the folder itself gave."""
    if asked.class_folder is not None and fault is not None:
        raise fault
    pages = _voc_pages(path)
    if pages:
        return _voc(pages, path, asked)
    refused: dict[str, str] = {}
    foreign: list[str] = []
    below = [folder for folder in sorted(path.iterdir()) if folder.is_dir() and not folder.name.startswith(".")]
    for folders, suffixes in (([path], _TABLES), (below, _SHEETS), ([path.parent], _SHEETS)):
        tables: dict[Path, Rows] = {}
        for folder in folders:
            tables |= _tables_in(folder, suffixes, asked, refused)
        if rows is not None:  # the one folder may be a class: a table of something else takes nothing from it
            own = {file: table for file, table in tables.items() if _shares_images(table, rows)}
            foreign += [file.name for file in tables if file not in own]
            tables = own
        if len(tables) > 1:
            raise TableError(
                f"{path}: one table must hold the labels of the images, but {listed([file.name for file in tables])} may. Name "
                f"the file itself, and the images with --image-root {path}."
            )
        for file, table in tables.items():
            seen = (f"no class folders: the labels are taken from {file}", *table.seen)
            left_out = {**table.left_out, "tables without images and labels": sorted(refused)}
            return replace(
                table, seen=seen, left_out=left_out, folder=file.parent if file.parent in below else table.folder
            )
    others = _other_labels(path)
    if rows is not None and not others:
        return replace(rows, left_out={**rows.left_out, "tables that name none of the images": sorted(foreign)})
    passed_over = refused | dict.fromkeys(foreign, "it names none of the images.")
    looked_at = others + "".join(f" {name} was looked at: {why}" for name, why in sorted(passed_over.items())[:3])
    raise TableError(
        f"{fault or f'{path}: must hold a folder per class or a table of labels, but has neither. Name the file itself.'}"
        f"{looked_at}"
    )


def _shares_images(table: Rows, rows: Rows) -> bool:
    """Whether a table names an image of a folder, with its suffix or without."""
    names, images = (
        {
            normalize("NFC", PurePosixPath(plain_path(path)).stem).casefold()
            for path in one.table.column("image_path").to_pylist()
            if path
        }
        for one in (table, rows)
    )
    return not names.isdisjoint(images)


def _other_labels(path: Path) -> str:
    """What else below a folder looks like labels, for the error message."""
    files = [file.relative_to(path).as_posix() for file in sorted(path.glob("*/*.json"))[:3]]
    return f" {listed(files)} may hold them: name the file itself, and the images with --image-root." if files else ""


def _yolo_files(path: Path) -> dict[str, bytes]:
    """The files of a YOLO folder; none where no text file of it holds boxes."""
    is_yolo = path.is_dir() and any(map(looks_like_boxes, yolo_files(path)))
    return box_files(BoxSource("yolo", path)) if is_yolo else {}


def _voc(pages: dict[str, bytes], origin: Path, asked: Asked) -> Rows:
    """Pascal VOC: boxes where every object has one, else the class of the whole image."""
    if asked.takes_boxes(has_voc_boxes(pages, origin), has_whole=False):
        return box_rows(voc_boxes(pages, origin), BoxSource("voc", origin), "Pascal VOC")
    return voc_rows(pages, origin, asked.collect)


def _voc_pages(path: Path) -> dict[str, bytes]:
    """Pascal VOC files below a folder."""
    files = [file for file in sorted(path.rglob("*.xml")) if file.is_file() and not file.name.startswith(".")]
    pages = {file.relative_to(path).as_posix(): file_bytes(file) for file in files}
    return {name: data for name, data in pages.items() if _is_voc(data)}


def _is_voc(data: bytes) -> bool:
    return _VOC.search(data[:_HEAD].replace(b"\0", b"")) is not None  # UTF-16 has zeros between


def _tables_in(folder: Path, suffixes: tuple[str, ...], asked: Asked, refused: dict[str, str]) -> dict[Path, Rows]:
    """The files in a folder that are tables of labels; the others come into ``refused``."""
    tables: dict[Path, Rows] = {}
    for file in sorted(folder.iterdir()):
        if file.name.lower().endswith(suffixes) and not file.name.startswith((".", "~$")) and file.is_file():
            try:
                tables[file] = _file(file, asked)
            except (TableError, ExchangeError) as why:
                refused[file.name] = str(why)
    return tables


def _file(path: Path, asked: Asked) -> Rows:
    """The labels in one file that is no Parquet."""
    _check_read(path)
    name, data = path.name.lower(), file_bytes(path)
    if name.endswith((".xlsx", ".xlsm")) or data.startswith(b"PK\x03\x04"):
        _check_asked(path, asked, "columns", "sheet", "several_labels")
        return excel_rows(data, asked.columns, path, asked.sheet, several=asked.several_labels)
    if name.endswith((".jsonl", ".ndjson", ".jsonl.gz")):
        _check_asked(path, asked, "columns")
        return jsonl_rows(data, asked.columns, path)
    if name.endswith((".xml", ".xml.gz")):
        _check_asked(path, asked, "boxes", "several_labels")
        if not re.search(rb"<annotations?[\s>]", data[:_HEAD].replace(b"\0", b"")):
            raise TableError(
                f"{path}: this is XML of a kind that is not known, which is not read. Export CVAT for images 1.1 or Pascal VOC."
            )
        if _is_voc(data):
            return _voc({"": data}, path, asked)
        has_boxes, has_tags = (re.search(rb"<%s[\s>]" % tag, data) is not None for tag in (b"box", b"tag"))
        if asked.takes_boxes(has_boxes, has_tags):
            return box_rows(cvat_boxes({"": data}, path), BoxSource("cvat", path), "CVAT for images")
        return cvat_rows(data, path, asked.collect)
    if name.endswith((".json", ".json.gz")):
        text, _ = text_of(data, path)
        if _is_json_lines(text):
            _check_asked(path, asked, "columns")
            return jsonl_rows(data, asked.columns, path)
        content = foreign_json(text, path)
        return _json_boxes(content, data, path, asked) or _json_rows(content, path, replace(asked, boxes=None))
    if not name.endswith((".csv", ".tsv", ".txt", ".lst", ".list", ".csv.gz", ".tsv.gz", ".txt.gz")):
        raise TableError(
            f"{path}: labels are read from CSV, TSV, TXT, Excel, Parquet, JSON and XML files, and what {path.suffix!r} "
            "holds is not known. Write the labels as Parquet or CSV (image path, label)."
        )
    _check_asked(path, asked, "columns", "encoding", "several_labels")
    return csv_rows(data, asked.columns, path, asked.encoding, several=asked.several_labels)


def _is_json_lines(text: str) -> bool:
    """Whether the first of several lines is a whole object, so that it is not one of JSON but one per line."""
    first, _, rest = text.strip().partition("\n")
    try:
        return bool(rest) and isinstance(json.loads(first), dict)
    except (ValueError, RecursionError):
        return False


def _json_boxes(content: Any, data: bytes, path: Path, asked: Asked) -> Rows | None:
    """The boxes in JSON, where they are the samples."""
    if is_coco(content):
        has_boxes = has_coco_boxes({"annotations": record_list(content["annotations"], "annotations", path)})
        if asked.takes_boxes(has_boxes, has_whole_images(content)):
            _check_asked(path, asked, "boxes")
            return box_rows(coco_boxes({"": data}, path), BoxSource("coco", path), "COCO")
    elif is_label_studio(content):
        if asked.takes_boxes(has_results(content, "rectanglelabels"), has_results(content, "choices")):
            _check_asked(path, asked, "boxes", "columns")
            source = BoxSource("label_studio", path, asked.columns.get("given_label"))
            return box_rows(label_studio_boxes({"": data}, path, source.control), source, "Label Studio JSON")
    elif asked.boxes is not None:
        _check_asked(path, asked, "columns")
    return None


def _json_rows(content: Any, path: Path, asked: Asked) -> Rows:
    """The labels in JSON, by what it holds."""
    if is_label_studio(content):
        _check_asked(path, asked, "columns", "several_labels")
        return label_studio_rows(content, asked.columns.get("given_label"), path, asked.collect)
    if is_label_studio_min(content):
        _check_asked(path, asked, "columns", "several_labels")
        return flat_rows(
            [one for one in content if isinstance(one, dict)],
            asked.columns.get("given_label"),
            "Label Studio JSON-MIN",
            path,
            asked.collect,
        )
    if is_coco(content):
        _check_asked(path, asked, "several_labels")
        return coco_rows(content, path, asked.collect)
    if is_fiftyone(content):
        _check_asked(path, asked)
        return fiftyone_rows(content, path)
    name, remedy = unread_json(content)
    if name == UNKNOWN_JSON and isinstance(content, list) and all(isinstance(one, dict) for one in content):
        _check_asked(path, asked, "columns")
        return record_rows(
            list(enumerate(content, 1)), f"{path.name}: {len(content):,} JSON objects", asked.columns, path
        )
    raise TableError(f"{path}: this is {name}, which is not read. {remedy}.")


def _with_images(rows: Rows, path: Path, asked: Asked) -> FirstLabels:
    """The labels with the paths of images that are there."""
    table, seen = rows.table, [rows.source, *rows.seen]
    if not table.num_rows:
        raise TableError(
            f"{path}: at least one row must have a label, but of {sum(map(len, rows.left_out.values())):,} none has. Name the column "
            "of labels with --column given_label=NAME, or another file."
        )
    beside = path if path.is_dir() else path.parent
    root = asked.image_root or rows.folder or beside
    names = table.column_names
    if "sample_id" not in names:
        table = table.add_column(0, "sample_id", table.column("image_path"))
    if not rows.is_placed and rows.images is None:
        folders = [asked.image_root] if asked.image_root else list(dict.fromkeys([root, beside]))
        root, paths, told = located(table.column("image_path").to_pylist(), folders)
        place = table.column_names.index("image_path")
        table = table.set_column(place, "image_path", pa.array(paths, pa.string()))
        seen += told
    if asked.several_labels and rows.images is None:
        table, told = with_unlisted(table, root, have_none=asked.unlisted_have_none)
        seen += told
    if rows.is_placed and rows.folder is not None:
        root, table = _from_root(asked.image_root or rows.folder, rows.folder, table)
    seen += rows.left_out_sentences()
    return FirstLabels(table, root, tuple(seen), rows.images, rows.boxes, rows.rejects)


def _from_root(root: Path, folder: Path, table: pa.Table) -> tuple[Path, pa.Table]:
    """The image root and the labels with paths that start there; they start at ``folder`` now."""
    real_root, real_folder = root.resolve(), folder.resolve()
    if real_root == real_folder:
        return root, table
    if not real_folder.is_relative_to(real_root):
        raise TableError(
            f"--image-root must be the folder of the images or lie above it, but {root} does not hold {folder}. Leave it out."
        )
    between = real_folder.relative_to(real_root).as_posix()
    paths = [f"{between}/{path}" for path in table.column("image_path").to_pylist()]
    place = table.column_names.index("image_path")
    return root, table.set_column(place, "image_path", pa.array(paths, pa.string()))
