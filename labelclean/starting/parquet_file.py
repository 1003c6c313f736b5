"""Parquet with other column names, numbers as labels, or as Hugging Face writes it (image struct, ClassLabel)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from labelclean.errors import TableError, listed
from labelclean.starting.cells import (
    MAPPED,
    chosen_columns,
    column_letter,
    hints,
    marks_told,
    one_hot_classes,
    renamed,
)
from labelclean.starting.label_sets import joined_sets
from labelclean.starting.rows import NO_LABEL, SEVERAL_LABELS, Rows, StoredImages
from labelclean.storage.label_sets import holds_lists
from labelclean.storage.parquet import atomic_path, label_files, labels_dataset, parquet_options, unread_files

EXACT_INT = 2**53
_SEVERAL = f"{SEVERAL_LABELS} (rows)"
_UNREADABLE = (pa.ArrowException, OSError, UnicodeDecodeError)


def is_labels_table(path: Path, columns: Mapping[str, str]) -> bool:
    """Return whether Parquet is a labels table as it stands, so that nothing has to be written anew.

    Args:
        path: Parquet file or folder.
        columns: What the user says of its columns.

    Returns:
        True if it has our columns in our types, and nothing else was said.

    Raises:
        TableError: If a file is no whole Parquet file, or the files' schemas clash.
    """
    if any(ours != theirs for ours, theirs in columns.items()):
        return False
    schema = labels_dataset(path).schema
    image = schema.field("image").type if "image" in schema.names else None
    if not {"sample_id", "given_label"} <= set(schema.names) or not (image or "image_path" in schema.names):
        return False
    if image is not None and pa.types.is_struct(image):
        return False
    if holds_lists(schema):
        return all(
            _is_text(schema.field(name).type) for name in MAPPED if name in schema.names and name != "given_label"
        )
    return all(_is_text(schema.field(name).type) for name in MAPPED if name in schema.names)


def parquet_rows(path: Path, columns: Mapping[str, str], *, several: bool = False) -> Rows:
    """Return the labels in Parquet of any make.

    Args:
        path: Parquet file or folder.
        columns: The table's name for a column of labelclean.
        several: An image may have several labels, or none: lists, several rows, or several marks in one-hot columns.

    Returns:
        One row per row with a label. Numbers and truth values become text; an image struct becomes `image` (bytes) or
        `image_path`; a ClassLabel becomes its names; other columns are carried through.

    Raises:
        TableError: If a needed column is missing or not clear, or a value cannot be text.
    """
    dataset = labels_dataset(path)
    seen: list[str] = []
    left_out: dict[str, list[str]] = {}
    try:
        images, wanted = _image_column(dataset, path)
        table = _without_views(dataset.to_table(columns=wanted))
        table.validate(full=True)  # text that is no UTF-8
        classes = _class_names(label_files(path)[0])
    except _UNREADABLE as fault:
        raise TableError(f"{path}: the labels cannot be read: {fault!s:.200}. Write the file again.") from None
    if images is not None:
        table = table.rename_columns([f"{name}_in_file" if name == "image" else name for name in table.column_names])
        seen.append(f"column {images.place[0]!r} holds the images themselves")
    chosen, faults = chosen_columns(table.column_names, columns)
    if faults and "given_label" not in chosen and "given_label" not in columns:
        table = _without_one_hot(table, chosen, left_out, seen, several=several)
        chosen, faults = chosen_columns(table.column_names, columns)
    if images is not None:
        faults = [fault for fault in faults if fault != "image_path: none is"]
    if faults:
        raise TableError(column_letter(path, faults, dataset.schema.names))
    table = _with_texts(table, chosen, classes, seen, path)
    values = table.column(chosen["given_label"])
    if values.null_count and not several:
        missing = pc.indices_nonzero(pc.is_null(values)).to_pylist()
        marked = left_out.get(_SEVERAL, [])
        left_out[f"{NO_LABEL} (rows)"] = [str(row + 1) for row in missing if str(row + 1) not in marked]
        table = table.filter(pc.is_valid(values))
        images = None if images is None else replace(images, kept=pc.is_valid(values).combine_chunks())
    names_images = "image_path" in chosen and (
        _all_distinct(table.column(chosen["image_path"]))
        or (("annotator_id" in chosen or several) and table.column(chosen["image_path"]).null_count == 0)
    )
    if "sample_id" not in chosen and not names_images:
        table = table.append_column("sample_id", _row_names(path, table.num_rows))
        chosen = {**chosen, "sample_id": "sample_id"}
        seen.append("image paths are missing or not distinct: the number of the row is the sample_id")
    table, told = renamed(table, chosen, has_images=images is not None)
    if several and not holds_lists(table.schema):
        table, joined = _one_set_each(table, left_out, path, has_images=images is not None)
        told += joined
    source = f"{path.name}: {table.num_rows:,} rows of Parquet"
    return Rows(
        source, table, left_out, (*seen, *told, *hints(table.column_names, columns), *unread_files(path)), images=images
    )


def write_with_images(target: Path, table: pa.Table, images: StoredImages) -> None:
    """Write labels with the images that another Parquet file holds, a few rows at a time.

    Args:
        target: Where to.
        table: Labels, in the order of the images that are kept.
        images: Where the images are.

    Raises:
        TableError: If the images cannot be read.
        StorageError: If the disk refuses.
    """
    schema = table.schema.append(pa.field("image", pa.binary())).remove_metadata()
    batches = labels_dataset(images.path).to_batches(
        columns={"image": ds.field(*images.place)}, batch_size=256, batch_readahead=1, fragment_readahead=1
    )
    start = row = 0
    with atomic_path(target) as temporary, pq.ParquetWriter(temporary, schema, **parquet_options(schema)) as writer:
        try:
            for batch in batches:
                values = batch.column(0).cast(pa.binary())
                if images.kept is not None:
                    start, values = start + len(values), values.filter(images.kept.slice(start, len(values)))
                if len(values):
                    rows = table.slice(row, len(values))
                    writer.write_table(pa.table([*rows.columns, values], schema=schema))
                    row += len(values)
        except (pa.ArrowException, OSError) as fault:
            raise TableError(
                f"{images.path}: the images cannot be read: {fault!s:.200}. Write the file again."
            ) from None


# --- inside ---------------------------------------------------------------------------------------


def _with_texts(
    table: pa.Table, chosen: Mapping[str, str], classes: Mapping[str, list[str]], seen: list[str], path: Path
) -> pa.Table:
    """The table with the columns chosen as text; labels that are lists stay."""
    for ours, theirs in chosen.items():
        kind = table.column(theirs).type
        if ours == "given_label" and pa.types.is_list(kind) and _is_text(kind.value_type):
            continue
        values = _as_text(table.column(theirs), theirs, classes.get(theirs), seen, path)
        table = table.set_column(table.column_names.index(theirs), theirs, values)
    return table


def _one_set_each(
    table: pa.Table, left_out: dict[str, list[str]], path: Path, *, has_images: bool
) -> tuple[pa.Table, list[str]]:
    """Rows of one image as they give it several labels; the images themselves must stand in one row each."""
    if has_images and not _all_distinct(table.column("sample_id")):
        raise TableError(
            f"{path}: a file that holds the images themselves must have one row for each, with its labels in a list, but has "
            "several rows of some. Write the labels as lists, or the images as files."
        )
    return joined_sets(table, left_out)


def _is_text(kind: pa.DataType) -> bool:
    types = pa.types
    plain = kind.value_type if types.is_dictionary(kind) else kind
    return bool(
        types.is_string(plain) or types.is_large_string(plain) or types.is_string_view(plain) or types.is_null(plain)
    )


def _without_views(table: pa.Table) -> pa.Table:
    """The table with views as plain columns: Arrow cannot filter views yet."""
    plain = {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}
    fields = [field.with_type(plain.get(field.type, field.type)) for field in table.schema]
    return table.cast(pa.schema(fields))


def _class_names(file: Path) -> dict[str, list[str]]:
    """Column -> class names, as Hugging Face's metadata says them."""
    try:
        metadata = json.loads((pq.read_schema(file).metadata or {}).get(b"huggingface", b"{}"))
        features = metadata.get("info", {}).get("features", {})
        return {
            name: [str(label) for label in (names.values() if isinstance(names, dict) else names)]
            for name, feature in features.items()
            if isinstance(feature, dict)
            and feature.get("_type") == "ClassLabel"
            and isinstance(names := feature.get("names"), list | dict)
        }
    except (ValueError, AttributeError, RecursionError):
        return {}


def _image_column(dataset: Any, path: Path) -> tuple[StoredImages | None, dict[str, Any]]:
    """Where the bytes of images are, if anywhere, and what to read besides: they are not held in memory."""
    types = pa.types
    structs = [
        field.name
        for field in dataset.schema
        if types.is_struct(field.type) and {"bytes", "path"} <= {inner.name for inner in field.type}
    ]
    bytes_in = [field.name for field in dataset.schema if field.name == "image" and _is_binary(field.type)]
    if len(structs) + len(bytes_in) > 1:
        raise TableError(
            f"{path}: one column must hold the image, but {listed([*structs, *bytes_in])} do. Write the file without the others."
        )
    wanted = {name: ds.field(name) for name in dataset.schema.names if name not in (*structs, *bytes_in)}
    if bytes_in:
        return StoredImages(path, ("image",)), wanted
    if not structs:
        return None, wanted
    (name,) = structs
    places = dataset.to_table(columns={"path": ds.field(name, "path")}).column("path")
    if "image_path" not in wanted and places.null_count == 0:
        wanted["image_path"] = ds.field(name, "path")
    images = dataset.to_batches(columns={"image": ds.field(name, "bytes")}, batch_size=64, batch_readahead=1)
    has_bytes = any(batch.column(0).null_count < batch.num_rows for batch in images)
    return StoredImages(path, (name, "bytes")) if has_bytes else None, wanted


def _is_binary(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind))


def _as_text(
    values: pa.ChunkedArray, name: str, classes: list[str] | None, seen: list[str], path: Path
) -> pa.ChunkedArray:
    """A column as text; numbers are told."""
    kind, types = values.type, pa.types
    if _is_text(kind):
        return values.cast(pa.string())
    if classes is not None and types.is_integer(kind):
        seen.append(f"column {name!r}: numbers 0 to {len(classes) - 1} are the names of its ClassLabel")
        return _named_classes(values, classes, name, path)
    if types.is_floating(kind):
        values = values.cast(pa.float64())
        values = pc.if_else(pc.is_nan(values), pa.scalar(None, pa.float64()), values)
        whole = pc.all(pc.and_(pc.equal(pc.floor(values), values), pc.less_equal(pc.abs(values), EXACT_INT))).as_py()
        if whole is False:
            raise TableError(
                f"{path}: column {name!r} must hold names or whole numbers, but is {kind} with parts of a whole, or with "
                f"numbers above {EXACT_INT:,}, which it does not hold exactly. Name another with --column, or write it as text."
            )
        values = values.cast(pa.int64(), safe=False)
        kind = values.type
    if types.is_integer(kind) or types.is_boolean(kind):
        seen.append(f"column {name!r}: {kind} values are written as text")
        return values.cast(pa.string())
    raise TableError(
        f"{path}: column {name!r} must hold text or whole numbers, but is {kind}. Name another with --column, or "
        "write it as text."
    )


def _without_one_hot(
    table: pa.Table, chosen: Mapping[str, str], left_out: dict[str, list[str]], seen: list[str], *, several: bool
) -> pa.Table:
    """The table with `given_label` in place of one-hot columns, where it has some; missing where none or several are 1."""
    types = pa.types
    bits = {
        field.name: [None if value is None else str(value) for value in table.column(field.name).to_pylist()]
        for field in table.schema
        if types.is_boolean(field.type) or types.is_integer(field.type) or types.is_floating(field.type)
    }
    names, classes = one_hot_classes(bits, chosen, several=several)
    if not names:
        return table
    seen += marks_told(bits, chosen, names, several=several)
    if several:
        return table.drop_columns(names).append_column("given_label", pa.array(classes, pa.list_(pa.string())))
    left_out[_SEVERAL] = [str(row) for row, found in enumerate(classes, 1) if len(found) > 1]
    labels = pa.array([found[0] if len(found) == 1 else None for found in classes], pa.string())
    return table.drop_columns(names).append_column("given_label", labels)


def _named_classes(values: pa.ChunkedArray, classes: list[str], name: str, path: Path) -> pa.ChunkedArray:
    """Names for the numbers of a ClassLabel; -1 is none."""
    numbers: list[Any] = values.to_pylist()
    outside = sorted({number for number in numbers if number is not None and not -1 <= number < len(classes)})
    if outside:
        raise TableError(
            f"{path}: column {name!r} must hold -1 or the number of one of its {len(classes)} classes, but holds "
            f"{outside[:5]}. Write the file again."
        )
    return pa.chunked_array(
        [pa.array([None if number is None or number < 0 else classes[number] for number in numbers], pa.string())]
    )


def _row_names(path: Path, num_rows: int) -> pa.Array:
    return pa.array([f"{path.stem}-{row:07d}" for row in range(1, num_rows + 1)], pa.string())


def _all_distinct(values: pa.ChunkedArray) -> bool:
    return bool(values.null_count == 0 and pc.count_distinct(values).as_py() == len(values))
