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
    "alarms": ("flagged without noise", 3),
    "accuracy": ("predicted right", 3),
    "gain": ("predicted right less given", 3),
    "off": ("expected errors less true, points of N", 1),
    "off_size": ("without sign", 1),
    "held": ("interval holds", 2),
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

FAMILIES = {
    "people": "labels that people gave",
    "own model": "labels that people gave, beside probabilities of the user's own model",
    "strong": "strong features",
    "weak": "weak features (8 and 24 directions; noise from the whole features)",
    "overlapping": "classes that overlap (infrared modules)",
}


class Place(NamedTuple):
    """What the table's rows are grouped by: a cell without its seed."""

    data: str
    kind: str
    rate: float

    def __str__(self) -> str:
        """Name it for people."""
        return f"{self.data}, {self.kind.replace('_', ' ')} {self.rate:g}"

    @property
    def family(self) -> str:
        """One of `FAMILIES`."""
        if self.data.startswith("people_"):
            return "own model" if self.data.endswith(("_probs", "_both")) else "people"
        if self.data.startswith("infrared_modules"):
            return "overlapping"
        return "weak" if "-weak" in self.data else "strong"


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


def pooled_gain(rows: dict[int, Row]) -> tuple[float, float]:
    """Return how much righter predicted labels are than given ones, with the standard error of this paired difference.

    A sample's change (+1, 0, -1) is averaged over the seeds first, for the seeds of a cell share their samples: three
    runs on the same labels are worth no more than one.

    Args:
        rows: Rows of one cell and method by seed, at least one.

    Returns:
        Mean over samples, and its standard error.
    """
    change = np.zeros(next(iter(rows.values())).num_samples)
    for row in rows.values():
        change[row.helped] += 1 / len(rows)
        change[row.harmed] -= 1 / len(rows)
    return float(change.mean()), float(change.std(ddof=1) / len(change) ** 0.5)


def markdown(rows: Sequence[Row], command: str, before: Sequence[Row] = ()) -> str:
    """Return the whole document.

    Args:
        rows: Results.
        command: What produced them.
        before: Results of another commit to compare with.

    Returns:
        Headline, goals, checks, worst cells and the table.
    """
    from benchmarks.checks import check_lines, worst_lines
    from benchmarks.goals import goal_lines

    table = table_of(rows)
    seeds = {row.seed for row in rows}
    lines = [
        "# Cleaning power",
        "",
        f"Made by `{command}`: {len(table)} cells, {len(seeds)} seeds. Numbers are means over seeds ± standard deviation;",
        "beside *predicted right less given* stands its standard error over samples, each averaged over the seeds first.",
        "Methods see features, given labels, folds and a seed; truth is only measured with. CPU seconds and MiB include what",
        "several methods share (logistic regression, eigendecompositions); they are one thread's, above what was in use before.",
        "Where the user hands over probabilities of his own model (`_probs`: in place of features, `_both`: beside them), rules",
        "on probabilities take them in place of a logistic regression's, and peers that need features are left out. Where",
        "labels are people's own or without noise, seeds change folds alone. *30 looked at*: told the true class of 30 random",
        "samples, and measured on the others. Of every set 30 % of each class is kept apart for the tests.",
        "",
        "## Headline: means over cells with noise",
        "",
        *_headline(table),
        "## Goals",
        "",
        *goal_lines(table, table_of(before)),
        "",
        "## What was promised beside the peers",
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
    """Means over the cells of each family; a column only where a method has it everywhere."""
    lines = []
    for family, title in FAMILIES.items():
        cells = {place: methods for place, methods in table.items() if place.family == family}
        if not cells:
            continue
        lines += [f"### {title[0].upper()}{title[1:]}: {sum(place.rate > 0 for place in cells)} cells", ""]
        lines += _header(["method"])
        for method in dict.fromkeys(method for methods in cells.values() for method in methods):
            parts = {place: methods[method] for place, methods in cells.items() if method in methods}
            means = [_family_mean(parts, key, digits) for key, (_, digits) in COLUMNS.items()]
            lines.append(f"| {method} | {' | '.join(means)} |")
        lines.append("")
    return lines


def _family_mean(parts: dict[Place, dict[int, Row]], key: str, digits: int) -> str:
    """One cell of the headline; false alarms are those without noise, all else is over cells with noise."""
    found = [mean(rows, key) for place, rows in parts.items() if (place.rate == 0) == (key == "alarms")]
    return "" if not found or np.isnan(found).any() else f"{np.mean(found):.{digits}f}"


def _cells(table: Table) -> list[str]:
    """The table: one line per cell and method, people's labels first."""
    lines = _header(["cell", "method"])
    families = list(FAMILIES)
    for place in sorted(table, key=lambda place: (families.index(place.family), place)):
        for method, parts in table[place].items():
            cells = []
            for key, (_, digits) in COLUMNS.items():
                found = values(parts, key)
                spread = f" ± {np.std(found, ddof=1):.{digits}f}" if len(found) > 1 else ""
                if key == "gain":
                    spread = f" ± {pooled_gain(parts)[1]:.{digits}f}"
                cells.append(f"{np.mean(found):.{digits}f}{spread}" if found else "")
            lines.append(f"| {place} | {method} | {' | '.join(cells)} |")
    return lines


def _header(first: list[str]) -> list[str]:
    names = [*first, *(title for title, _ in COLUMNS.values())]
    return [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
