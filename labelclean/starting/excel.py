"""Excel workbooks (.xlsx, .xlsm), by openpyxl."""

from __future__ import annotations

import io
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from datetime import date, datetime, time
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError

from labelclean.errors import TableError, listed
from labelclean.starting.cells import Cells, table_rows
from labelclean.starting.rows import Rows

MAX_UNPACKED = 2_000_000_000
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error, KeyError, ValueError, TypeError, AttributeError, OSError, EOFError, ParseError, IndexError,
    NotImplementedError, RuntimeError, OverflowError, SyntaxError,
)  # fmt: skip
"""What openpyxl raises on files that are cut or changed."""


def excel_rows(data: bytes, columns: Mapping[str, str], origin: Path, sheet: str | None = None) -> Rows:
    """Return the labels in a workbook: the values that its cells show.

    Args:
        data: The workbook.
        columns: The sheet's name for a column of labelclean.
        origin: The file, for the error message.
        sheet: The sheet; default: the first.

    Returns:
        One row per row. Numbers that Excel shows with leading zeros keep them.

    Raises:
        TableError: If it is no whole workbook, has no such sheet, formulas were never computed, or a needed column is
            missing.
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
            title, rest, rows = _sheet(data, origin, sheet)
    except _DAMAGE as fault:
        raise TableError(f"{origin}: must be a whole Excel workbook, but: {fault!s:.200}. Save it again.") from None
    faults = [str(number) for number, cells in rows if None in cells]
    if faults:
        raise TableError(
            f"{origin}: cells must hold values, but rows {listed(faults)} of sheet {title!r} hold an error such as #N/A, or a "
            "formula that was never computed. Correct them, or open the file in Excel and save it."
        )
    width = max((len(row) for _, row in rows), default=0)
    cells = [(number, [*(cell or "" for cell in row), *[""] * (width - len(row))]) for number, row in rows]
    cells = _trimmed(cells)
    found = table_rows(Cells(cells, f"{origin.name}, sheet {title!r}: {{n}} rows", "rows"), columns, origin)
    return Rows(
        found.source, found.table, {**found.left_out, "other sheets (--sheet NAME reads one)": rest}, found.seen
    )


def _sheet(data: bytes, origin: Path, sheet: str | None) -> tuple[str, list[str], list[tuple[int, list[str | None]]]]:
    """The sheet's name, those of the others, and its rows with their numbers; None for a cell without a value to show."""
    import openpyxl

    has_formulas = _check_size(data, origin)
    book = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True)
    names = [page.title for page in book.worksheets]
    if not names or (sheet is not None and sheet not in names):
        wanted = f"a sheet {sheet!r}" if sheet is not None else "a sheet of cells"
        raise TableError(f"{origin}: must have {wanted}, but has {listed(names, 8) or 'none'}. Name one: --sheet NAME.")
    title = sheet if sheet is not None else names[0]
    book[title].reset_dimensions()  # what a writer says of the sheet's size is often wrong
    rows = [(number, [_text(cell) for cell in row]) for number, row in enumerate(book[title].iter_rows(), start=1)]
    if has_formulas:
        formulas = openpyxl.load_workbook(io.BytesIO(data), read_only=True)
        formulas[title].reset_dimensions()
        for (_, shown), row in zip(rows, formulas[title].iter_rows(), strict=True):
            for place, cell in enumerate(row):
                if cell.data_type == "f" and shown[place] == "":
                    shown[place] = None
        formulas.close()
    book.close()
    return title, [name for name in names if name != title], rows


def _check_size(data: bytes, origin: Path) -> bool:
    """Whether some sheet holds formulas; a workbook that unpacks to too much is refused."""
    with zipfile.ZipFile(io.BytesIO(data)) as packed:
        members = packed.infolist()
        size = sum(member.file_size for member in members)
        if size > MAX_UNPACKED:
            raise TableError(
                f"{origin}: may unpack to {MAX_UNPACKED:,} bytes, but says {size:,}. Save it as CSV UTF-8."
            )
        sheets = [packed.read(member) for member in members if member.filename.startswith("xl/worksheets/")]
        return any(b"<f>" in sheet or b"<f " in sheet for sheet in sheets)


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
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return str(value)


def _trimmed(rows: list[tuple[int, list[str]]]) -> list[tuple[int, list[str]]]:
    """The rows without columns at the right that are empty everywhere."""
    width = max((place + 1 for _, row in rows for place, cell in enumerate(row) if cell.strip()), default=0)
    return [(number, row[:width]) for number, row in rows]
