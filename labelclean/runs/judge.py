"""The first gate: labels per class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from labelclean.noise.distribution import distribution_of_counts
from labelclean.runs.gates import judge_distribution
from labelclean.runs.label_set_gates import closed_finding
from labelclean.runs.label_set_rules import is_of_label_sets
from labelclean.runs.night_sums import read_run_sums
from labelclean.runs.part_files import SAMPLES, class_counts, num_usable
from labelclean.runs.record import finding_record, goes_on, part_of, recorded, stopped, verdict_record
from labelclean.storage.parquet import write_table


def check_distribution(work: Path) -> bool:
    """Count the labels per class and judge the counts; leaves `class_distribution.parquet`."""
    with recorded(work, "check_distribution") as (config, record):
        names = tuple(part_of(work, "ingest")["class_names"])
        counts = class_counts(work, SAMPLES, names)
        is_set = is_of_label_sets(work)
        if not (num_usable(work) if is_set else counts.any()):
            record |= stopped("no image could be used; rejects.parquet says why for each.")
            return False
        folder = config.run.reference
        before = None if folder is None else read_run_sums(folder).counts
        report = distribution_of_counts(counts, before, num_samples=num_usable(work) if is_set else None)
        columns = {
            "class_name": list(names),
            "num_samples": pa.array(np.rint(report.counts).astype(np.int64)),
            "share": pa.array(report.shares, pa.float32()),
        }
        if report.reference_shares is not None:
            columns["reference_share"] = pa.array(report.reference_shares, pa.float32())
            columns["share_change"] = pa.array(report.shares - report.reference_shares, pa.float32())
        table = pa.table(columns)
        write_table(work / "class_distribution.parquet", table, "class_distribution", names)
        least = 1 if is_set else 2
        verdict = judge_distribution(report, names, config.gates.class_distribution, config.data.spellings, least)
        record |= verdict_record(verdict) | {"counts": report.counts.tolist(), "imbalance": report.imbalance}
        if is_set:
            if not any(0 < count < num_usable(work) for count in counts):
                record["findings"].append(finding_record(closed_finding(names)))
                record |= stopped(
                    "every class is on all images or on none of them, and so nothing can be learned of any."
                )
                return False
            return goes_on(verdict, config, record)
        present = [name for name, count in zip(names, counts, strict=True) if count]
        if len(present) < 2 <= len(names) and folder is None:
            record |= stopped(
                f"only {present[0]!r} has images that can be used, and labels of one class say nothing of one another; "
                "rejects.parquet names what cannot be used."
            )
            return False
        return goes_on(verdict, config, record)
