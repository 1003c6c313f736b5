"""Great Expectations over the labels of a run, before anything costly begins."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from labelclean.config import Config, ExpectationsConfig
from labelclean.errors import TableError
from labelclean.storage.label_sets import GIVEN
from labelclean.storage.parquet import read_table
from labelclean.storage.tables import class_names_of


def checked_expectations(
    labels: Sequence[Path], work: Path, config: Config, *, num_classes: int
) -> dict[str, Any] | None:
    """Run the generated suite over the labels.

    Args:
        labels: The files of the parts of the table `labels`, in order; each is held in memory alone.
        work: The run's work folder, for `data_docs/`.
        config: Section `expectations` is read.
        num_classes: K; a single class may hold all labels.

    Returns:
        `num_expectations`; None where the check is switched off.

    Raises:
        TableError: If the labels break a promise; up to 20 faults are listed.
    """
    limits = config.expectations
    if not limits.enabled:
        return None
    if num_classes == 1:
        limits = limits.model_copy(update={"max_class_share": 1.0})
    docs = work / "data_docs" if limits.data_docs else None
    num, faults = _checked(labels[0], limits, docs) if len(labels) == 1 else _checked_parts(labels, limits, docs)
    if faults:
        raise TableError(f"{config.data.labels.name}: " + "; ".join(faults[:20]) + ".")
    return {"num_expectations": num}


def _checked(path: Path, limits: ExpectationsConfig, docs: Path | None) -> tuple[int, list[str]]:
    """How many expectations the suite has, and what it says of one part."""
    from labelclean.storage.expectations import check_expectations

    labels = read_table(path, "labels")
    report = check_expectations(labels, "labels", class_names=class_names_of(labels), limits=limits, data_docs=docs)
    return len(report.expectations), list(report.faults())


def _checked_parts(paths: Sequence[Path], limits: ExpectationsConfig, docs: Path | None) -> tuple[int, list[str]]:
    """The suite on each part; the number of rows and the largest share are those of all parts together."""
    alone = limits.model_copy(update={"min_rows": 1, "max_class_share": 1.0})
    checked = [_checked(path, alone, docs if number == 0 else None) for number, path in enumerate(paths)]
    faults = [fault for _, found in checked for fault in found]
    counts: Counter[str] = Counter()
    if GIVEN in pq.read_schema(paths[0]).names:
        total = sum(pq.read_metadata(path).num_rows for path in paths)
        return checked[0][0], [*faults, *_too_few(total, limits)]
    for path in paths:
        tally = read_table(path, "labels", ["given_label"]).column(0).value_counts().to_pylist()
        counts.update({row["values"]: row["counts"] for row in tally})
    (name, most), total = counts.most_common(1)[0], sum(counts.values())
    faults += _too_few(total, limits)
    if most / total > limits.max_class_share:
        faults.append(
            f"{name!r} holds {most / total:.1%} of the labels, limit expectations.max_class_share = {limits.max_class_share:g}"
        )
    return checked[0][0], faults


def _too_few(total: int, limits: ExpectationsConfig) -> list[str]:
    if total >= limits.min_rows:
        return []
    return [f"the labels must have at least expectations.min_rows = {limits.min_rows} rows, but have {total:,}"]
