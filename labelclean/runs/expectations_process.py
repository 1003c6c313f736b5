"""The process beside a run that checks its labels with Great Expectations: `python -m` with work folder and parent."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from labelclean.config import Config, ExpectationsConfig
from labelclean.runs.expectations import EXPECTATIONS
from labelclean.runs.record import INTERNAL
from labelclean.storage.parquet import read_json, read_table, write_json
from labelclean.storage.tables import class_names_of


def _end_with_parent(parent: int) -> None:
    """End this process when the run that started it was killed."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def report_expectations(work: Path) -> None:
    """Run the generated suite over a run's labels and leave what it says; what the other process does.

    Args:
        work: The run's work folder.
    """
    config = Config.model_validate(read_json(work / INTERNAL / "config.json"))
    docs = work / "data_docs" if config.expectations.data_docs else None
    whole = work / INTERNAL / "labels.parquet"
    if whole.is_file():
        record = _checked(whole, config.expectations, docs)
    else:
        record = _checked_parts(sorted((work / INTERNAL / "labels").glob("part-*.parquet")), config.expectations, docs)
    write_json(work / INTERNAL / EXPECTATIONS, record)


def _checked(path: Path, limits: ExpectationsConfig, docs: Path | None) -> dict[str, Any]:
    """What the suite says of one table."""
    from labelclean.storage.expectations import check_expectations

    labels = read_table(path, "labels")
    names = class_names_of(labels)
    report = check_expectations(labels, "labels", class_names=names, limits=limits, data_docs=docs)
    return {"num_expectations": len(report.expectations), "faults": list(report.faults())}


def _checked_parts(paths: list[Path], limits: ExpectationsConfig, docs: Path | None) -> dict[str, Any]:
    """The suite on each part; the number of rows and the largest share are those of all parts together."""
    alone = limits.model_copy(update={"min_rows": 1, "max_class_share": 1.0})
    records = [_checked(path, alone, docs if number == 0 else None) for number, path in enumerate(paths)]
    faults = [fault for record in records for fault in record["faults"]]
    counts: Counter[str] = Counter()
    for path in paths:
        tally = read_table(path, "labels", ["given_label"]).column(0).value_counts().to_pylist()
        counts.update({row["values"]: row["counts"] for row in tally})
    (name, most), total = counts.most_common(1)[0], sum(counts.values())
    if total < limits.min_rows:
        faults.append(
            f"the labels must have at least expectations.min_rows = {limits.min_rows} rows, but have {total:,}"
        )
    if most / total > limits.max_class_share:
        faults.append(
            f"{name!r} holds {most / total:.1%} of the labels, limit expectations.max_class_share = {limits.max_class_share:g}"
        )
    return {"num_expectations": records[0]["num_expectations"], "faults": faults[:20]}


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, args=(int(sys.argv[2]),), daemon=True).start()
    report_expectations(Path(sys.argv[1]))
