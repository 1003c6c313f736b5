"""Where the samples of a run lie between its steps: in parts, of which a small run has one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from labelclean.arrays import Float64Array
from labelclean.runs.record import INTERNAL
from labelclean.storage.label_sets import GIVEN, given_answers
from labelclean.storage.parquet import read_table
from labelclean.storage.samples import given_labels_of

LABELLED = "labelled"
LABELS = "labels"
HASHES = "hashes"
SAMPLES = "samples"
FEATURES = "features"
LOOKS = "looks"


def part_path(work: Path, table: str, number: int) -> Path:
    """Return the file of one part of a run's internal table."""
    return work / INTERNAL / table / f"part-{number:05d}.parquet"


def part_paths(work: Path, table: str) -> list[Path]:
    """Return the files of all parts of a run's internal table, in order."""
    return sorted((work / INTERNAL / table).glob("part-*.parquet"))


def features_path(samples: Path) -> Path:
    """Return the array beside a part of the table `samples` that holds its features."""
    return samples.parent.parent / FEATURES / f"{samples.stem}.npy"


def looks_path(samples: Path) -> Path:
    """Return the array beside a part of the table `samples` that says what its pictures are like."""
    return samples.parent.parent / LOOKS / f"{samples.stem}.npy"


def read_samples(work: Path, table: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Return all samples of a run.

    Args:
        work: The run's work folder.
        table: `LABELLED`, or `SAMPLES` for those whose image can be used.
        columns: Only these columns; default: all.

    Returns:
        The table `samples`.
    """
    return pa.concat_tables([read_table(path, "samples", columns) for path in part_paths(work, table)])


def num_usable(work: Path) -> int:
    """Return the samples of a run whose image can be used."""
    return sum(pq.read_metadata(path).num_rows for path in part_paths(work, SAMPLES))


def class_counts(work: Path, table: str, names: Sequence[str]) -> Float64Array:
    """Return the votes of each class.

    Args:
        work: The run's work folder.
        table: `LABELLED`, or `SAMPLES` for those whose image can be used.
        names: The K class names.

    Returns:
        Votes, float64, shape (K,).
    """
    counts = np.zeros(len(names))
    for path in part_paths(work, table):
        samples = read_table(path, "samples", ["given_votes"])
        if GIVEN in pq.read_schema(path).names:
            counts += given_answers(samples).sum(axis=0)
        elif samples.num_rows:
            counts += given_labels_of(samples, names).votes.sum(axis=0, dtype=np.float64)
    return counts
