"""The first gate: labels per class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from labelclean.noise.distribution import distribution_of_counts
from labelclean.runs.extract_parts import SAMPLES
from labelclean.runs.gates import judge_distribution
from labelclean.runs.ingest_parts import part_paths
from labelclean.runs.night_sums import read_run_sums
from labelclean.runs.record import INTERNAL, goes_on, part_of, recorded, stopped, verdict_record
from labelclean.storage.parquet import read_table, write_table
from labelclean.storage.samples import given_labels_of


def check_distribution(work: Path) -> bool:
    """Count the labels per class and judge the counts; leaves `class_distribution.parquet`."""
    with recorded(work, "check_distribution") as (config, record):
        names = tuple(part_of(work, "ingest")["class_names"])
        counts = _class_counts(work, names)
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
        mixed = [finding.sentence for finding in verdict.findings if finding.check == "alike_names"]
        if mixed:  # whatever gates.on_refusal says: labels would move from one spelling to the other
            record |= stopped(f"refused: {mixed[0]}")
            return False
        return goes_on(verdict, config, record)


def _class_counts(work: Path, names: Sequence[str]) -> npt.NDArray[np.float64]:
    """Votes per class of the usable samples, whole or in parts."""
    whole = work / INTERNAL / "samples.parquet"
    counts = np.zeros(len(names))
    for path in [whole] if whole.is_file() else part_paths(work, SAMPLES):
        samples = read_table(path, "samples", ["given_votes"])
        if samples.num_rows:
            counts += given_labels_of(samples, names).votes.sum(axis=0, dtype=np.float64)
    return counts
