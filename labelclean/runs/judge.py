"""The first gate: labels per class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from labelclean.noise.distribution import distribution_of_counts
from labelclean.runs.extract_parts import SAMPLES
from labelclean.runs.gates import judge_distribution
from labelclean.runs.ingest_parts import class_counts
from labelclean.runs.night_sums import read_run_sums
from labelclean.runs.record import goes_on, part_of, recorded, stopped, verdict_record
from labelclean.storage.parquet import write_table


def check_distribution(work: Path) -> bool:
    """Count the labels per class and judge the counts; leaves `class_distribution.parquet`."""
    with recorded(work, "check_distribution") as (config, record):
        names = tuple(part_of(work, "ingest")["class_names"])
        counts = class_counts(work, SAMPLES, names)
        if not counts.any():
            record |= stopped("no image could be used; rejects.parquet says why for each.")
            return False
        folder = config.run.reference
        report = distribution_of_counts(counts, None if folder is None else read_run_sums(folder).counts)
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
        verdict = judge_distribution(report, names, config.gates.class_distribution, config.data.spellings)
        record |= verdict_record(verdict) | {"counts": report.counts.tolist(), "imbalance": report.imbalance}
        present = [name for name, count in zip(names, counts, strict=True) if count]
        if len(present) < 2 <= len(names) and folder is None:
            record |= stopped(
                f"only {present[0]!r} has images that can be used, and labels of one class say nothing of one another; "
                "rejects.parquet names what cannot be used."
            )
            return False
        return goes_on(verdict, config, record)
