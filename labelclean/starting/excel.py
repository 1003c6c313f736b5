"""Excel workbooks (.xlsx, .xlsm), by openpyxl."""

from __future__ import annotations

import io
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from datetime import date, datetime, time
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError

import pyarrow as pa
import pyarrow.compute as pc

from labelclean.errors import TableError, listed
from labelclean.starting.cells import MAPPED, Cells, table_rows
from labelclean.starting.rows import Rows

MAX_UNPACKED = 2_000_000_000
MOST_EXACT = 10**15
_ERROR = "\0"  # what no cell of a workbook can hold
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error, KeyError, ValueError, TypeError, AttributeError, OSError, EOFError, ParseError, IndexError,
    NotImplementedError, RuntimeError, OverflowError, SyntaxError,
)  # fmt: skip
"""What openpyxl raises on files that are cut or changed."""


def excel_rows(
    data: bytes, columns: Mapping[str, str], origin: Path, sheet: str | None = None, *, several: bool = False
) -> Rows:
    """Return the labels in a workbook: the values that its cells show.

    Args:
        data: The workbook.
        columns: The sheet's name for a column of labelclean.
        origin: The file, for the error message.
        sheet: The sheet; default: the first that is not hidden.
        several: An image may have several labels, or none.

    Returns:
        One row per row. Numbers that Excel shows with leading zeros keep them; a value in cells that are merged downwards
        stands in each of their rows.

    Raises:
        TableError: If it is no whole workbook, has no such sheet, or a needed column is missing or holds errors or formulas
            that were never computed.
    """
    try:
        import openpyxl  # noqa: F401 - asked for before the file is opened
    except ImportError:
        raise TableError(
            f"{origin}: Excel workbooks need openpyxl: pip install 'labelclean[excel]'. Or save the sheet as CSV UTF-8."
        ) from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # what openpyxl does not keep of a workbook (styles, validation) is no label
            title, rest, rows, told = _sheet(data, origin, sheet)
    except _DAMAGE as fault:
        raise TableError(f"{origin}: must be a whole Excel workbook, but: {fault!s:.200}. Save it again.") from None
    width = max((len(row) for _, row in rows), default=0)
    faults = [str(number) for number, cells in rows if None in cells]
    cells = [
        (number, [*(_ERROR if cell is None else cell for cell in row), *[""] * (width - len(row))])
        for number, row in rows
    ]
    try:
        sheet_rows = table_rows(
            Cells(_trimmed(cells), f"{origin.name}, sheet {title!r}: {{n}} rows", "rows"),
            columns,
            origin,
            several=several,
        )
    except TableError as fault:
        if faults:
            raise _error_letter(origin, title, faults) from None
        others = (
            f" This is sheet {title!r}; there are {listed(rest, 8)} too: --sheet NAME."
            if sheet is None and rest
            else ""
        )
        raise TableError(f"{fault}{others}") from None
    table, empty = _without_errors(sheet_rows.table)
    if table is None:
        raise _error_letter(origin, title, faults)
    seen = [*sheet_rows.seen, *told]
    if empty:
        seen.append(
            f"columns {listed(empty)} hold errors such as #N/A, or formulas never computed: these cells are left empty"
        )
    return Rows(
        sheet_rows.source, table, {**sheet_rows.left_out, "other sheets (--sheet NAME reads one)": rest}, tuple(seen)
    )


def _error_letter(origin: Path, title: str, rows: list[str]) -> TableError:
    return TableError(
        f"{origin}: cells must hold values, but rows {listed(rows)} of sheet {title!r} hold an error such as #N/A, or a "
        "formula that was never computed. Correct them, or open the file in Excel and save it."
    )


def _without_errors(table: pa.Table) -> tuple[pa.Table | None, list[str]]:
    """The table with empty cells for errors, and the columns that had some; None where a column that counts has one."""
    empty = [name for name in table.column_names if pc.any(pc.equal(table.column(name), _ERROR)).as_py()]
    if {*MAPPED} & {*empty}:
        return None, empty
    for name in empty:
        values, place = table.column(name), table.column_names.index(name)
        table = table.set_column(place, name, pc.if_else(pc.equal(values, _ERROR), None, values))
    return table, empty


def _sheet(
    data: bytes, origin: Path, sheet: str | None
) -> tuple[str, list[str], list[tuple[int, list[str | None]]], list[str]]:
    """The sheet's name, those of the others, its rows with their numbers, None for an error, and what is told of them."""
    import openpyxl

    has_formulas, has_merged = _check_size(data, origin)
    book = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True)
    names = [page.title for page in book.worksheets]
    if not names or (sheet is not None and sheet not in names):
        wanted = f"a sheet {sheet!r}" if sheet is not None else "a sheet of cells"
        raise TableError(f"{origin}: must have {wanted}, but has {listed(names, 8) or 'none'}. Name one: --sheet NAME.")
    shown = [page.title for page in book.worksheets if page.sheet_state == "visible"]
    title = sheet if sheet is not None else (shown or names)[0]
    book[title].reset_dimensions()  # what a writer says of the sheet's size is often wrong
    rows: list[tuple[int, list[str | None]]] = []
    long: list[str] = []
    for number, row in enumerate(book[title].iter_rows(), start=1):
        rows.append((number, [_text(cell) for cell in row]))
        long += [str(number)] * any(
            isinstance(cell.value, int | float) and abs(cell.value) >= MOST_EXACT for cell in row
        )
    if has_formulas:
        formulas = openpyxl.load_workbook(io.BytesIO(data), read_only=True)
        formulas[title].reset_dimensions()
        for (_, cells), row in zip(rows, formulas[title].iter_rows(), strict=True):
            for place, cell in enumerate(row):
                if cell.data_type == "f" and cells[place] == "":
                    cells[place] = None
        formulas.close()
    book.close()
    if has_merged:
        _fill_merged(rows, openpyxl.load_workbook(io.BytesIO(data), data_only=True)[title].merged_cells.ranges)
    notes = (
        [f"rows {listed(long)} hold numbers of more than 15 digits, of which Excel keeps 15: write such ids as text"]
        if long
        else []
    )
    return title, [name for name in names if name != title], rows, notes


def _fill_merged(rows: list[tuple[int, list[str | None]]], ranges: Iterable[Any]) -> None:
    """Say the value of cells merged downwards in each of their rows, as it shows beside each."""
    for merged in ranges:
        first, column = rows[merged.min_row - 1 : merged.min_row], merged.min_col - 1
        if first and column < len(first[0][1]):
            for _, cells in rows[merged.min_row : merged.max_row]:
                cells += [""] * (column + 1 - len(cells))
                cells[column] = first[0][1][column]


def _check_size(data: bytes, origin: Path) -> tuple[bool, bool]:
    """Whether some sheet holds formulas, and merged cells; a workbook that unpacks to too much is refused."""
    with zipfile.ZipFile(io.BytesIO(data)) as packed:
        members = packed.infolist()
        size = sum(member.file_size for member in members)
        if size > MAX_UNPACKED:
            raise TableError(
                f"{origin}: may unpack to {MAX_UNPACKED:,} bytes, but says {size:,}. Save it as CSV UTF-8."
            )
        sheets = [packed.read(member) for member in members if member.filename.startswith("xl/worksheets/")]
        return any(b"<f>" in sheet or b"<f " in sheet for sheet in sheets), any(
            b"mergeCell " in sheet for sheet in sheets
        )


def _text(cell: Any) -> str | None:
    """What a cell shows; None for an error value."""
    value = cell.value
    if value is None:
        return ""
    if getattr(cell, "data_type", "") == "e":
        return None
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int):
        form = str(getattr(cell, "number_format", ""))
        return str(value).zfill(len(form)) if form and set(form) == {"0"} else str(value)
    if isinstance(value, datetime) and value.time() == time() and "h" not in cell.number_format.lower():
        value = value.date()
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return str(value)


def _trimmed(rows: list[tuple[int, list[str]]]) -> list[tuple[int, list[str]]]:
    """The rows without columns at the right that are empty everywhere."""
    width = max((place + 1 for _, row in rows for place, cell in enumerate(row) if cell.strip()), default=0)
    return [(number, row[:width]) for number, row in rows]
