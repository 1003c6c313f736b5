"""CSV files and lists of `path label`."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from pathlib import Path

from labelclean.errors import TableError
from labelclean.review.label_files import unguarded
from labelclean.starting.cells import Cells, table_rows
from labelclean.starting.images import looks_like_image
from labelclean.starting.label_sets import all_labels_each
from labelclean.starting.label_studio import flat_rows, is_label_studio_header
from labelclean.starting.rows import Rows, one_label_each
from labelclean.starting.text import text_of

_SEPARATORS = ",;\t|"


def csv_rows(
    data: bytes, columns: Mapping[str, str], origin: Path, encoding: str | None = None, *, several: bool = False
) -> Rows:
    """Return the labels in a CSV file or a list.

    Args:
        data: The file: commas, semicolons, tabs or bars between cells, or a list with a blank between image and label.
        columns: The file's name for a column of labelclean, or the column's number where there is no header.
        origin: The file, for the error message.
        encoding: The code page, where the file does not show it.
        several: An image may have several labels, or none.

    Returns:
        One row per line; a Label Studio export as `label_studio.flat_rows` gives it.

    Raises:
        TableError: If it is no whole CSV file, or a needed column is missing or not clear.
    """
    text, words = text_of(data, origin, encoding)
    skipped, separator, rest = _separator(text)
    cells = _listed(rest, skipped) if separator is None else _split(rest, separator, skipped, origin)
    header = [cell.strip() for cell in cells[0][1]] if cells else []
    if is_label_studio_header(header):
        records = [dict(zip(header, row, strict=False)) for _, row in cells[1:]]
        collect = all_labels_each if several else one_label_each
        return flat_rows(records, columns.get("given_label"), "Label Studio CSV", origin, collect)
    return table_rows(Cells(cells, f"{origin.name}: {{n}} rows of {words}"), columns, origin, several=several)


def _separator(text: str) -> tuple[int, str | None, str]:
    """Lines to skip, what separates cells (None: a blank), and the text that is left."""
    match = re.match(r"sep=(.)\r?\n", text, flags=re.IGNORECASE)  # Excel's own first line
    if match is not None:
        return 1, match[1], text[match.end() :]
    lines = [line for line in text[:100_000].splitlines()[:20] if line.strip()]
    counts = {sign: [line.count(sign) for line in lines] for sign in _SEPARATORS}
    # titles above the header hold few separators: the line with the most of them decides
    best = max(_SEPARATORS, key=lambda sign: (max(counts[sign], default=0), -_SEPARATORS.index(sign)))
    return (0, best, text) if any(counts[best]) else (0, None, text)


def _split(text: str, separator: str, skipped: int, origin: Path) -> list[tuple[int, list[str]]]:
    """The cells of each record, with the line in the file where it begins."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    rows: list[tuple[int, list[str]]] = []
    try:
        begins = 1
        for row in reader:
            rows.append((skipped + begins, [unguarded(cell) for cell in row]))
            begins = reader.line_num + 1
    except csv.Error as fault:
        raise TableError(
            f"{origin}: must be a whole CSV file, but line {skipped + reader.line_num:,}: {fault}. Save it again."
        ) from None
    return rows


def _listed(text: str, skipped: int) -> list[tuple[int, list[str]]]:
    """Image and label of each line, whichever comes first; blanks within a name stay."""
    rows = []
    for number, line in enumerate(text.splitlines(), start=1 + skipped):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        front, _, last = line.rpartition(" ")
        first, _, back = line.partition(" ")
        if front and looks_like_image(front):
            rows.append((number, [front.strip(), last]))
        elif back and looks_like_image(back):
            rows.append((number, [back.strip(), first]))
        else:
            rows.append((number, [cell for cell in (front.strip(), last) if cell]))
    return rows
