"""CSV for spreadsheets: cells that would run as formulas are guarded, and come back as they were."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from labelclean.errors import ExchangeError, listed
from labelclean.review.exchange.answers import MARKS, Answer, set_answer, worded_answer
from labelclean.review.exchange.foreign_file import foreign_text
from labelclean.review.exchange.package import ExportPart
from labelclean.review.exchange.tasks import QueueToExport, Task
from labelclean.storage.label_sets import set_text

TOOL = "csv"
QUEUE = "queue.csv"
NEXT_STEP = (
    "Open each part_*/queue.csv; fill in label (and decision for anything but a class: confirmed, corrected, one_of, "
    "not_class, none_of_these, unsure, bad_image, skipped), several classes as A | B; save as CSV UTF-8"
)
COLUMNS = (
    "lc_key",
    "sample_id",
    "dataset",
    "rank",
    "image",
    "given_label",
    "predicted_label",
    "runner_up_label",
    "label_score",
    "reasons",
    "decision",
    "label",
    "annotator_id",
    "lc_end",
)
NEXT_STEP_OF_SETS = (
    "Open each part_*/queue.csv; fill in label with all that is on the image, as A | B, or decision where it is no class: "
    "no_label, confirmed, unsure, bad_image, skipped; save as CSV UTF-8"
)
NO_LABEL = "no_label"
_DECISIONS_OF_SETS = (NO_LABEL, "confirmed", "corrected", "unsure", "bad_image", "skipped")
_NEEDED = ("lc_key", "sample_id", "dataset", "given_label", "decision", "label", "annotator_id", "lc_end")
_END = "."
_CHANGES = re.compile(
    r"^([=+\-@\t\r\n＝＋－＠']|[\d.,]|(true|false)$|(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*[ -]?\d)",
    re.IGNORECASE,
)  # formulas, and what a spreadsheet would turn into a number, a date or a truth value
_PLAIN = ("lc_key", "rank", "image", "label_score", "lc_end")


def guarded(cell: str) -> str:
    """Return a cell that a spreadsheet shows as text.

    Args:
        cell: Any text.

    Returns:
        The text, after an apostrophe if it would run as a formula, turn into a number or a date,
        or begins with one.

    Examples:
        >>> guarded("=cmd()"), guarded("0012"), guarded("dent"), guarded("'quoted")
        ("'=cmd()", "'0012", 'dent', "''quoted")
    """
    return f"'{cell}" if _CHANGES.match(cell) else cell


def unguarded(cell: str) -> str:
    """Return what was guarded.

    Args:
        cell: A cell of the file.

    Returns:
        The text without the guard.

    Examples:
        >>> unguarded(guarded("=cmd()"))
        '=cmd()'
    """
    return cell[1:] if cell.startswith("'") else cell


def set_cell(names: Sequence[str], class_names: Sequence[str]) -> str:
    """Return the labels of an image in one cell.

    Args:
        names: The labels, none too.
        class_names: The K class names in order.

    Returns:
        `A | B`; a JSON list where that would read otherwise, `[]` for none.

    Examples:
        >>> set_cell(["dent", "crack"], ["crack", "dent"]), set_cell([], ["dent"]), set_cell(["a|b"], ["a|b", "a", "b"])
        ('dent | crack', '[]', '["a|b"]')
    """
    cell = " | ".join(names)
    is_plain = bool(names) and cell_labels(cell, class_names) == (tuple(names), "")
    return cell if is_plain else json.dumps(list(names), ensure_ascii=False)


def part_files(queue: QueueToExport, part: ExportPart) -> dict[str, bytes]:
    """Return the table of a part.

    Args:
        queue: What is exported.
        part: The part.

    Returns:
        `queue.csv`, UTF-8 with a byte order mark.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for task in part.tasks:
        cells = zip(COLUMNS, _cells(queue, task), strict=True)
        writer.writerow([cell if name in _PLAIN else guarded(cell) for name, cell in cells])
    return {QUEUE: text.getvalue().encode("utf-8-sig")}


def read_answers(path: Path, class_names: Sequence[str], annotator: str, *, is_set: bool = False) -> list[Answer]:
    """Return what a table says: one answer per row.

    Args:
        path: The CSV file; commas, semicolons or tabs, rows and columns in any order.
        class_names: The K class names in order.
        annotator: Who answered where the row does not say.
        is_set: An image may have several labels, or none.

    Returns:
        Answers; a row without a decision gives an empty one.

    Raises:
        ExchangeError: If the file is not whole or lacks a column.
    """
    rows = _rows(foreign_text(path), path)
    header, body = rows[0], rows[1:]
    missing = [name for name in _NEEDED if header.count(name) != 1]
    if missing:
        raise ExchangeError(
            f"{path}: the table must have the columns {listed(_NEEDED, 8)} once each, but {listed(missing, 8)} "
            f"not; it has {listed(header, 14)}. Leave the first row as it was exported."
        )
    answers = []
    for number, cells in enumerate(body, start=2):
        if not any(cells):
            continue
        row = dict(zip(header, (unguarded(cell) for cell in cells), strict=False))
        if len(cells) != len(header) or row["lc_end"] != _END:
            raise ExchangeError(
                f"{path}: every row must have {len(header)} cells and {_END!r} in lc_end, but row {number:,} has "
                f"{len(cells)} cells; the file is not whole. Save it again; nothing was imported."
            )
        answers.append((_set_answer if is_set else _answer)(row, class_names, annotator))
    return answers


# --- inside ---------------------------------------------------------------------------------------


def _cells(queue: QueueToExport, task: Task) -> tuple[str, ...]:
    seen, sets = task.suggestion, task.sets
    shown = ("",) * 5
    if sets:
        given, suggested = (set_cell(names, queue.class_names) for names in (sets.given, sets.predicted))
        shown = (given, suggested, "", str(sets.label_score), sets.why)
    if seen:
        suggested = seen.predicted_label or ""
        shown = (seen.given_label, suggested, seen.runner_up_label, str(seen.label_score), ", ".join(seen.reasons))
    item = task.item
    return (item.key, item.sample_id, queue.dataset, str(task.rank), f"images/{item.key}.png", *shown, "", "", "", _END)


def _rows(text: str, path: Path) -> list[list[str]]:
    """All rows, by the delimiter that separates the columns of the header."""
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error as fault:
        raise ExchangeError(f"{path}: must be a whole CSV file, but: {fault}. Save it again.") from None
    if not rows:
        raise ExchangeError(f"{path}: the table must have a header, but the file is empty.")
    return rows


def _answer(row: dict[str, str], class_names: Sequence[str], annotator: str) -> Answer:
    labels, fault = cell_labels(row["label"], class_names)
    given = row["given_label"] or None
    answer = worded_answer(row["lc_key"], row["decision"], labels, row["annotator_id"] or annotator, given)
    return _about(answer, row, fault, row["given_label"])


def _set_answer(row: dict[str, str], class_names: Sequence[str], annotator: str) -> Answer:
    """What a row says of an image that may have several labels: all of them, or `no_label`."""
    (labels, fault), (given, _) = (cell_labels(row[name], class_names) for name in ("label", "given_label"))
    word = row["decision"].strip().lower()
    says_none = word == NO_LABEL or row["label"].strip() == "[]"
    if word == "confirmed" and not row["label"].strip() and row["given_label"]:
        labels, says_none = given, not given
    claim = word if word in ("confirmed", "corrected") else ""
    if claim and not (labels or says_none):
        fault = fault or f"{word!r} without a label"
    marks = frozenset({word} & {*MARKS} - {"none_of_these"})
    if word and not (claim or marks or word == NO_LABEL):
        fault = f"decision {word!r} is none of {listed(_DECISIONS_OF_SETS, 8)} where an image may have several labels"
    answer = Answer(
        row["lc_key"], row["annotator_id"] or annotator, labels=labels, marks=marks, claim=claim, fault=fault
    )
    is_known = set(given) <= set(class_names)
    shown = set_text(given, class_names) if row["given_label"] and is_known else row["given_label"]
    return _about(set_answer(answer, NO_LABEL, says_none=says_none), row, "", shown)


def _about(answer: Answer, row: dict[str, str], fault: str, shown: str) -> Answer:
    """The answer with what the row says beside it."""
    return replace(
        answer,
        sample_id=row["sample_id"],
        dataset=row["dataset"] or None,
        fault=answer.fault or fault,
        shown_label=shown,
    )


def cell_labels(cell: str, class_names: Sequence[str]) -> tuple[tuple[str, ...], str]:
    """Return the classes that a cell names, and what is wrong with it.

    Args:
        cell: One class, several as `A | B`, or a JSON list of them.
        class_names: The K class names in order.

    Returns:
        The names, known or not, and a fault or an empty text.

    Examples:
        >>> cell_labels("dent | crack", ["ok", "dent", "crack"])
        (('dent', 'crack'), '')
        >>> cell_labels("a|b", ["a|b", "a", "b"])
        ((), "label 'a|b' may mean one class or several; write a JSON list")
    """
    if not cell.strip():
        return (), ""
    if cell.startswith("[") and cell not in class_names:
        try:
            names = json.loads(cell)
        except (ValueError, RecursionError):
            names = None
        if isinstance(names, list) and all(isinstance(name, str) for name in names):
            return tuple(names), ""
    parts = tuple(unguarded(part.strip()) for part in cell.split("|"))
    if cell in class_names:
        is_double = len(parts) > 1 and set(parts) <= set(class_names)
        return ((), f"label {cell!r} may mean one class or several; write a JSON list") if is_double else ((cell,), "")
    return parts, ""
