"""Stored rows of the benchmark, and the Markdown that they make."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

COLUMNS: dict[str, tuple[str, int]] = {
    "ap": ("AP", 3),
    "auroc": ("AUROC", 3),
    "f1": ("F1", 3),
    "precision": ("precision", 3),
    "recall": ("recall", 3),
    "top": ("first 5 %", 3),
    "flagged": ("flagged", 3),
    "accuracy": ("predicted right", 3),
    "brier": ("Brier", 3),
    "ece": ("ECE", 3),
    "down_given": ("test: given", 3),
    "down_kept": ("test: unflagged", 3),
    "down_predicted": ("test: predicted", 3),
    "down_soft": ("test: soft", 3),
    "down_own": ("test: own probe", 3),
    "seconds": ("CPU s", 1),
    "mib": ("MiB", 0),
}


class Place(NamedTuple):
    """What the table's rows are grouped by: a cell without its seed."""

    data: str
    kind: str
    rate: float

    def __str__(self) -> str:
        """Name it for people."""
        return f"{self.data}, {self.kind.replace('_', ' ')} {self.rate:g}"


class Row(NamedTuple):
    """One cell and method.

    Attributes:
        data: Data set.
        kind: Noise kind.
        rate: Its rate.
        seed: Its seed.
        method: Name of the method.
        digest: Digest of the sources behind the row.
        num_samples: N.
        measures: Values by name.
        helped: Rows that were wrong and are predicted right.
        harmed: Rows that were right and are predicted wrong.
        scores: Label scores of labelclean, for calibration pooled over seeds; samples that a person settled are left out.
        wrong: Which of these scores belong to wrong labels.
    """

    data: str
    kind: str
    rate: float
    seed: int
    method: str
    digest: str
    num_samples: int
    measures: dict[str, float]
    helped: list[int] = []  # noqa: RUF012 - never changed
    harmed: list[int] = []  # noqa: RUF012
    scores: list[float] = []  # noqa: RUF012
    wrong: list[int] = []  # noqa: RUF012

    @property
    def key(self) -> tuple[str, str, float, int, str, str]:
        """What must be equal for a stored row to count."""
        return (self.data, self.kind, self.rate, self.seed, self.method, self.digest)

    @property
    def place(self) -> Place:
        """The cell without its seed."""
        return Place(self.data, self.kind, self.rate)


Table = dict[Place, dict[str, dict[int, Row]]]


def read_rows(path: Path) -> list[Row]:
    """Return all stored rows; a last line that a kill cut short is left out.

    Args:
        path: File of JSON lines; need not exist.

    Returns:
        The rows.
    """
    rows = []
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            rows.append(Row(**json.loads(line)))
        except json.JSONDecodeError:
            continue
    return rows


def append_rows(path: Path, rows: Iterable[Row]) -> None:
    """Store rows; a line cut short by a kill is ended first.

    Args:
        path: File of JSON lines.
        rows: What to add.
    """
    text = "".join(json.dumps(row._asdict()) + "\n" for row in rows)
    with path.open("a+b") as file:
        size = file.seek(0, os.SEEK_END)
        if size and file.seek(size - 1) is not None and file.read(1) != b"\n":
            text = "\n" + text
        file.write(text.encode())


def table_of(rows: Iterable[Row]) -> Table:
    """Return rows by place, method and seed."""
    table: Table = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        table[row.place][row.method][row.seed] = row
    return table


def values(rows: dict[int, Row], measure: str) -> list[float]:
    """Return a measure over the seeds, in their order; empty where it is not measured."""
    return [rows[seed].measures[measure] for seed in sorted(rows) if measure in rows[seed].measures]


def mean(rows: dict[int, Row], measure: str) -> float:
    """Return a measure's mean over the seeds; NaN where it is not measured."""
    found = values(rows, measure)
    return float(np.mean(found)) if found else float("nan")


def markdown(rows: Sequence[Row], command: str) -> str:
    """Return the whole document.

    Args:
        rows: Results.
        command: What produced them.

    Returns:
        Headline, checks, worst cells and the table.
    """
    from benchmarks.checks import check_lines, worst_lines

    table = table_of(rows)
    seeds = {row.seed for row in rows}
    lines = [
        "# Cleaning power",
        "",
        f"Made by `{command}`: {len(table)} cells, {len(seeds)} seeds. Numbers are means over seeds ± standard deviation.",
        "Methods see features, given labels, folds and a seed; truth is only measured with. CPU seconds and MiB include what",
        "several methods share (logistic regression, eigendecompositions); they are one thread's, above what was in use before.",
        "",
        "## Headline: mean over all cells with noise",
        "",
        *_headline(table),
        "",
        "## What was promised",
        "",
        *check_lines(table),
        "",
        "## Worst cells",
        "",
        *worst_lines(table),
        "",
        "## All cells",
        "",
        *_cells(table),
    ]
    return "\n".join(lines) + "\n"


def _headline(table: Table) -> list[str]:
    """Means over cells; a column only where a method has it everywhere."""
    noisy = [methods for place, methods in table.items() if place.rate > 0]
    names = list(dict.fromkeys(method for methods in noisy for method in methods))
    lines = _header(["method"])
    for method in names:
        parts = [methods[method] for methods in noisy if method in methods]
        cells = []
        for key, (_, digits) in COLUMNS.items():
            found = [mean(part, key) for part in parts]
            cells.append("" if np.isnan(found).any() else f"{np.mean(found):.{digits}f}")
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return lines


def _cells(table: Table) -> list[str]:
    """The table: one line per cell and method."""
    lines = _header(["cell", "method"])
    for place in sorted(table):
        for method, parts in table[place].items():
            cells = []
            for key, (_, digits) in COLUMNS.items():
                found = values(parts, key)
                spread = f" ± {np.std(found, ddof=1):.{digits}f}" if len(found) > 1 else ""
                cells.append(f"{np.mean(found):.{digits}f}{spread}" if found else "")
            lines.append(f"| {place} | {method} | {' | '.join(cells)} |")
    return lines


def _header(first: list[str]) -> list[str]:
    names = [*first, *(title for title, _ in COLUMNS.values())]
    return [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
