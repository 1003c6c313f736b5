"""Hugging Face's image folder: `metadata.jsonl` (or .csv) beside the images, also one per split."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from labelclean.errors import TableError, listed
from labelclean.review.exchange.json_values import record
from labelclean.starting.cells import Cells, chosen_columns, table_rows
from labelclean.starting.rows import Rows
from labelclean.starting.text import text_of


def jsonl_rows(data: bytes, columns: Mapping[str, str], origin: Path) -> Rows:
    """Return the labels in a file of one JSON object per line.

    Args:
        data: The file.
        columns: The file's name for a column of labelclean.
        origin: The file, for the error message.

    Returns:
        One row per line; lists and objects are carried as JSON text.

    Raises:
        TableError: If a line is no JSON object, or a needed column is missing or not clear.
    """
    text, _ = text_of(data, origin)
    lines: list[tuple[int, dict[str, Any]]] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                values = record(json.loads(line), f"line {number}", origin)
            except (ValueError, RecursionError) as fault:
                raise TableError(f"{origin}: line {number} must be one JSON object, but: {fault}.") from None
            lines.append((number, values))
    return record_rows(lines, f"{origin.name}: {len(lines):,} lines of JSON", columns, origin)


def record_rows(
    records: Sequence[tuple[int, Mapping[str, Any]]], source: str, columns: Mapping[str, str], origin: Path
) -> Rows:
    """Return the labels in JSON objects of one image each.

    Args:
        records: Number and object.
        source: What was read, in words.
        columns: The file's name for a column of labelclean.
        origin: The file, for the error message.

    Returns:
        One row per object; lists and objects are carried as JSON text.

    Raises:
        TableError: If a needed column is missing or not clear.
    """
    header = list(dict.fromkeys(name for _, values in records for name in values))
    label = chosen_columns(header, columns)[0].get("given_label")
    odd = [str(number) for number, values in records if isinstance(values.get(label or ""), list | dict)]
    if odd:
        raise TableError(
            f"{origin}: {label!r} must hold a text or a number, one class per image, but {len(odd):,} hold a list or an object: "
            f"lines {listed(odd)}. Write the class itself."
        )
    cells = [(0, list(map(_cell, header)))]
    cells += [(number, [_cell(values.get(name)) for name in header]) for number, values in records]
    return table_rows(Cells(cells, source), columns, origin)


def joined(parts: Mapping[str, Rows], origin: Path) -> Rows:
    """Return the rows of several metadata files, each with the folder it lies in.

    Args:
        parts: Folder below ``origin`` ('' for itself) -> its rows, image paths relative to that folder.
        origin: The data set's folder.

    Returns:
        All rows, image paths relative to ``origin``, and the folder of each part as `split`.
    """
    tables = []
    for folder, rows in parts.items():
        table = rows.table
        if folder:
            paths = [None if path is None else f"{folder}/{path}" for path in table.column("image_path").to_pylist()]
            place = table.column_names.index("image_path")
            table = table.set_column(place, "image_path", pa.array(paths, pa.string()))
            if "split" not in table.column_names:
                table = table.append_column("split", pa.array([folder] * len(paths), pa.string()))
        tables.append(table)
    left_out: dict[str, list[str]] = {}
    for rows in parts.values():
        for what, names in rows.left_out.items():
            left_out.setdefault(what, []).extend(names)
    seen = tuple(dict.fromkeys(sentence for rows in parts.values() for sentence in rows.seen))
    source = f"Hugging Face image folder: {'; '.join(rows.source for rows in parts.values())}"
    return Rows(source, pa.concat_tables(tables, promote_options="default"), left_out, seen, origin)


def _cell(value: object) -> str:
    """A JSON value as a cell; a text that cannot be written to a file becomes its escapes."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    return json.dumps(value, ensure_ascii=True)
