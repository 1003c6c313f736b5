"""Labels as files that people use: Parquet, CSV, Excel, COCO, a folder of images per class, or the file that boxes came from."""

from __future__ import annotations

import csv
import itertools
import json
import math
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from labelclean.errors import ConfigError, StorageError, TableError, listed
from labelclean.review.boxes.files import BoxSource, with_classes
from labelclean.storage.parquet import parquet_options

Form = Literal["parquet", "csv", "excel", "coco", "folder", "original"]
SUFFIXES: dict[str, Form] = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".xlsx": "excel",
    ".json": "coco",
    ".xml": "original",
}
EXCEL_ROWS = 1_048_576
EXCEL_CELL = 32_767
EXACT_INT = 2**53
_FORMULA = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")
_IMAGE_MARKS = (
    (b"\x89PNG", ".png"),
    (b"\xff\xd8", ".jpg"),
    (b"BM", ".bmp"),
    (b"II", ".tif"),
    (b"MM", ".tif"),
    (b"RIFF", ".webp"),
)


@dataclass(frozen=True)
class Labels:
    """Labels to write.

    Attributes:
        schema: Of the tables.
        tables: The rows, some at a time.
        class_names: The K classes in order.
        image_root: Folder that `image_path` is relative to.
        prefix: Before the names of the columns that a run added.
        page: Name of the sheet in a workbook.
        boxes: Where boxes came from; None where samples are whole images, or boxes of a table.
        spellings: `data.spellings`.
    """

    schema: pa.Schema
    tables: Iterator[pa.Table]
    class_names: Sequence[str]
    image_root: Path
    prefix: str = ""
    page: str = "labels"
    boxes: BoxSource | None = None
    spellings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Written:
    """What a file holds.

    Attributes:
        num_rows: Its rows, or images.
        left_out: What was not written -> how much of it.
    """

    num_rows: int
    left_out: dict[str, int]


def form_of(out: Path, told: str | None = None) -> Form:
    """Return what a file shall be: as told, or as its suffix says.

    Args:
        out: The file or folder to write.
        told: A form's name.

    Returns:
        The form.

    Raises:
        ConfigError: If neither says it, or they contradict each other.

    Examples:
        >>> form_of(Path("labels_v2.xlsx"))
        'excel'
    """
    by_suffix = SUFFIXES.get(out.suffix.lower())
    if told is not None and told not in get_args(Form):
        raise ConfigError(f"--to must be one of {', '.join(sorted(get_args(Form)))}, but is {told!r}.")
    if told == "original":
        return "original"
    if told == "folder" and by_suffix is None:
        return "folder"
    if by_suffix is None or told not in (None, by_suffix):
        asked = f" and --to {told}" if told else ""
        raise ConfigError(
            f"{out}: the name must say what is written: {', '.join(SUFFIXES)}, or a folder with --to folder, but it ends in "
            f"{out.suffix!r}{asked}. Name another --out."
        )
    return by_suffix


def write_labels(form: Form, labels: Labels, target: Path, *, links: bool = False) -> Written:
    """Write labels, a batch at a time.

    Args:
        form: What to write.
        labels: The rows.
        target: A new file or folder.
        links: In a folder, links to the images instead of copies.

    Returns:
        What was written and what was not.

    Raises:
        TableError: If the form cannot hold the labels.
        StorageError: If an image cannot be copied.
    """
    writers: dict[Form, Callable[[Labels, Path], Written]] = {
        "parquet": _write_parquet,
        "csv": _write_csv,
        "excel": _write_excel,
        "coco": _write_coco,
        "folder": lambda rows, place: _write_folder(rows, place, links=links),
        "original": _write_original,
    }
    return writers[form](labels, target)


def form_of_boxes(form: Form, source: BoxSource | None, out: Path) -> Form:
    """Return what is written where samples are boxes: a table, or the files that they came from.

    Args:
        form: From `form_of`.
        source: Where the boxes came from; None for a table.
        out: The file or folder to write.

    Returns:
        The form; `coco` becomes `original` where the boxes came from a file of JSON.

    Raises:
        ConfigError: If boxes cannot be written so.
    """
    if form in ("parquet", "csv", "excel"):
        return form
    is_json = source is not None and source.form in ("coco", "label_studio")
    if source is not None and (form == "original" or (form == "coco" and is_json)):
        return "original"
    came = "a table" if source is None else f"{source.path} ({source.form})"
    raise ConfigError(
        f"{out}: boxes are written as a table (.parquet, .csv, .xlsx) or into the format that they came in (--to original), but "
        f"they came from {came}. Name another --out."
    )


def guarded(cell: str) -> str:
    """Return a cell that no spreadsheet takes for a formula.

    Args:
        cell: Any text.

    Returns:
        The text, after an apostrophe if it begins with a sign of a formula, or with apostrophes before one.

    Examples:
        >>> guarded("=cmd()"), guarded("-x"), guarded("007"), guarded("'=x")
        ("'=cmd()", "'-x", '007', "''=x")
    """
    return f"'{cell}" if _FORMULA.match(cell) else cell


def unguarded(cell: str) -> str:
    """Return what was guarded.

    Args:
        cell: A cell of a CSV file.

    Returns:
        The text without the guard.

    Examples:
        >>> unguarded("'=cmd()"), unguarded("'quoted'")
        ('=cmd()', "'quoted'")
    """
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


# --- inside ---------------------------------------------------------------------------------------


def _write_parquet(labels: Labels, target: Path) -> Written:
    num_rows = 0
    with pq.ParquetWriter(target, labels.schema, **parquet_options(labels.schema)) as writer:
        for table in labels.tables:
            writer.write_table(table)
            num_rows += table.num_rows
    return Written(num_rows, {})


def _write_csv(labels: Labels, target: Path) -> Written:
    names = _cell_columns(labels.schema)
    num_rows = 0
    with target.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file, lineterminator="\r\n")
        writer.writerow([guarded(name) for name in names])
        for table in labels.tables:
            for row in _rows(table.select(names)):
                values = (row[name] for name in names)
                writer.writerow([guarded(value) if isinstance(value, str) else _cell(value) for value in values])
            num_rows += table.num_rows
    return Written(num_rows, _bytes_left_out(labels.schema))


def _write_excel(labels: Labels, target: Path) -> Written:
    try:
        import openpyxl
        from openpyxl.cell import WriteOnlyCell
        from openpyxl.utils.exceptions import IllegalCharacterError
    except ImportError:
        raise TableError(
            f"{target.name}: Excel workbooks need openpyxl: pip install 'labelclean[excel]'. Or write a .csv."
        ) from None
    names = _cell_columns(labels.schema)
    book = openpyxl.Workbook(write_only=True)
    page = book.create_sheet(labels.page)

    def cell(value: Any, column: str) -> Any:
        value = _cell(value)
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) > EXACT_INT:
            value = str(value)
        if isinstance(value, str) and len(value) > EXCEL_CELL:
            raise TableError(
                f"column {column!r}: an Excel cell may hold {EXCEL_CELL:,} characters, but one has {len(value):,}. Write a .csv."
            )
        made = WriteOnlyCell(page, value)
        if isinstance(value, str):
            made.data_type = "s"  # what begins with = is text too
        return made

    num_rows = 0
    try:
        page.append([cell(name, name) for name in names])
        for table in labels.tables:
            num_rows += table.num_rows
            if num_rows >= EXCEL_ROWS:
                raise TableError(
                    f"an Excel sheet may hold {EXCEL_ROWS:,} rows, but there are more. Write a .csv or .parquet."
                )
            for row in _rows(table.select(names)):
                page.append([cell(row[name], name) for name in names])
    except IllegalCharacterError as fault:
        raise TableError(
            f"Excel cells cannot hold control characters, but one does: {str(fault)[:60]!r}. Write a .csv or .parquet."
        ) from None
    finally:
        page.close()
    book.save(target)
    return Written(num_rows, _bytes_left_out(labels.schema))


def _write_coco(labels: Labels, target: Path) -> Written:
    """One annotation per image; what came from a COCO file keeps its ids, sizes and whatever else that said of it."""
    left_out: Counter[str] = Counter()
    names = _cell_columns(labels.schema)
    rows = list(_labelled(replace(labels, tables=(table.select(names) for table in labels.tables)), left_out))
    records = [_coco_record(row) for row in rows]
    image_ids = _own_or_counted([record["image"].get("id") for record in records])
    annotation_ids = _own_or_counted([record["annotation"].get("id") for record in records])
    others = _coco_file(labels.schema)
    categories = _coco_categories(others.get("categories"), labels.class_names)
    images, annotations = [], []
    for row, record, image_id, annotation_id in zip(rows, records, image_ids, annotation_ids, strict=True):
        images.append({"file_name": row.get("image_path") or row["sample_id"]} | record["image"] | {"id": image_id})
        cells = {name: _cell(row.get(labels.prefix + name)) for name in ("label_score", "review_status")}
        category_id = categories[row["label"]]["id"]
        own = {"id": annotation_id, "image_id": image_id, "category_id": category_id, "given_label": row["given_label"]}
        annotations.append(record["annotation"] | own | cells)
    content = others | {"images": images, "categories": list(categories.values()), "annotations": annotations}
    target.write_text(json.dumps(content, ensure_ascii=False, allow_nan=False), encoding="utf-8")
    return Written(len(rows), dict(left_out))


def _write_original(labels: Labels, target: Path) -> Written:
    """The files that boxes came from, with other classes where people settled on one or the run predicts one."""
    if labels.boxes is None:
        raise ConfigError("--to original goes with labels that init read as boxes. Leave it out.")
    left_out: Counter[str] = Counter()
    given: dict[str, str] = {}
    new: dict[str, str] = {}
    num_rows = 0
    for row in _labelled(labels, left_out):
        sample, read = row["sample_id"], row["given_label"]
        num_rows += 1
        if row["label"] != labels.spellings.get(read, read):
            given[sample], new[sample] = read, row["label"]
    files = with_classes(labels.boxes, given, new)
    if "" in files:
        target.write_bytes(files[""])
    else:
        for name, data in files.items():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_bytes(data)
    unchanged = left_out.pop("images that cannot be used", 0)
    notes = {"boxes that cannot be used (they stand in the file as they were)": unchanged} if unchanged else {}
    return Written(num_rows, notes)


def _coco_record(row: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What a COCO file said of an image and its annotation; nothing where the row comes from elsewhere."""
    annotation = _object(row.get("coco"))
    return {name: value if isinstance(value := annotation.get(name), dict) else {} for name in ("image", "annotation")}


def _coco_file(schema: pa.Schema) -> dict[str, Any]:
    """What a COCO file held besides images and annotations."""
    field = schema.field("coco") if "coco" in schema.names else None
    return _object((field.metadata or {}).get(b"labelclean.coco") if field is not None else None)


def _object(text: Any) -> dict[str, Any]:
    """The object that JSON holds; an empty one for anything else, as in a column of somebody else's."""
    try:
        value = json.loads(text or "{}")
    except (TypeError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _own_or_counted(ids: Sequence[Any]) -> list[Any]:
    """The ids where all are distinct numbers or texts, else 1, 2, ..."""
    is_whole = all(isinstance(one, int | str) for one in ids) and len(set(ids)) == len(ids)
    return list(ids) if is_whole else list(range(1, len(ids) + 1))


def _coco_categories(records: Any, class_names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The categories of a file by their names, and after them the classes that it does not have, with free ids."""
    records = records if isinstance(records, list) else []
    known = {str(one["name"]): one for one in records if isinstance(one, dict) and {"id", "name"} <= one.keys()}
    free = itertools.count(max((one["id"] for one in known.values() if isinstance(one["id"], int)), default=0) + 1)
    return known | {name: {"id": next(free), "name": name} for name in class_names if name not in known}


def _write_folder(labels: Labels, target: Path, *, links: bool) -> Written:
    """Each image in the folder of its class, under its own name; a second one of that name gets its whole path as name."""
    left_out: Counter[str] = Counter()
    unfit = [name for name in labels.class_names if not _is_folder_name(name)]
    if unfit:
        raise TableError(
            f"{target.name}: class names must be names of folders, but {listed(unfit)} cannot be (/ and \\, control characters, "
            "dots or blanks at the end). Rename them with data.spellings, or write a table."
        )
    used: set[tuple[str, str]] = set()
    num_rows = 0
    target.mkdir()
    for row in _labelled(labels, left_out):
        path = str(row.get("image_path") or row["sample_id"]).strip("/")
        name = PurePosixPath(path).name
        if (row["label"], name.lower()) in used:
            name = path.replace("/", "__")
        used.add((row["label"], name.lower()))
        folder = target / row["label"]
        folder.mkdir(exist_ok=True)
        if _put_image(row, labels.image_root, folder / name, links=links):
            num_rows += 1
        else:
            left_out["images that are not there"] += 1
    return Written(num_rows, dict(left_out))


def _put_image(row: dict[str, Any], root: Path, place: Path, *, links: bool) -> bool:
    """Copy or link one image; False if it is not there."""
    if place.exists():
        raise StorageError(f"{place}: two images would get this name. Write a table instead.")
    if row.get("image") is not None:
        data = bytes(row["image"])
        suffix = next((suffix for mark, suffix in _IMAGE_MARKS if data.startswith(mark)), "")
        place.with_name(place.name if place.suffix else place.name + suffix).write_bytes(data)
        return True
    source = root / str(row.get("image_path"))
    if not source.is_file():
        return False
    try:
        if links:
            place.symlink_to(os.path.realpath(source))
        else:
            shutil.copyfile(source, place)
    except OSError as fault:
        raise StorageError(f"{place}: the image cannot be written: {fault.strerror or fault}.") from None
    return True


def _labelled(labels: Labels, left_out: Counter[str]) -> Iterator[dict[str, Any]]:
    """One row per sample with its `label`: what people settled on, else the predicted one."""
    seen: set[str] = set()
    known = set(labels.class_names)
    for table in labels.tables:
        for row in _rows(table):
            if row["sample_id"] in seen:
                continue
            seen.add(row["sample_id"])
            status = row[f"{labels.prefix}review_status"]
            label = row[f"{labels.prefix}verified_label"] or row[f"{labels.prefix}predicted_label"]
            if status == "none_of_these" and label not in known:
                left_out["images that are none of the classes"] += 1
                continue
            if status in ("rejected", "bad_image") or label not in known:
                left_out["images that cannot be used"] += 1
                continue
            yield row | {"label": label}


def _is_folder_name(name: str) -> bool:
    is_safe = not any(sign in '/\\:*?"<>|' or ord(sign) < 32 for sign in name)
    return (
        is_safe
        and name.strip() == name
        and not name.startswith(".")
        and not name.endswith(".")
        and len(name.encode()) < 256
    )


def _cell_columns(schema: pa.Schema) -> list[str]:
    return [field.name for field in schema if not _is_bytes(field.type)]


def _bytes_left_out(schema: pa.Schema) -> dict[str, int]:
    number = sum(_is_bytes(field.type) for field in schema)
    return {"columns of bytes": number} if number else {}


def _is_bytes(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(
        types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_binary_view(kind)
        or types.is_fixed_size_binary(kind)
    )


def _rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    """Rows as Python values."""
    columns = [_values(column) for column in table.columns]
    for values in zip(*columns, strict=True):
        yield dict(zip(table.column_names, values, strict=True))


def _values(column: pa.ChunkedArray) -> list[Any]:
    """Python values; of times that it does not know (year 300000, a zone of nowhere), Arrow's text in UTC."""
    try:
        return list(column.to_pylist())
    except (OverflowError, ValueError, LookupError):
        if pa.types.is_timestamp(column.type):
            column = column.cast(pa.timestamp(column.type.unit))
        return list(column.cast(pa.string()).to_pylist())


def _cell(value: Any) -> Any:
    """A value as a spreadsheet takes it: lists as JSON, times as ISO 8601."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    if isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return str(value)
