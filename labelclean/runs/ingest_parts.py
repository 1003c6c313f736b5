"""`ingest` in parts: labels are sorted on disk and leave in parts, one row per sample."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from labelclean.arrays import Float64Array
from labelclean.config import Config
from labelclean.errors import TableError
from labelclean.review.opinions import GROUPS, TIME
from labelclean.runs.arrivals import arrivals_from, files_to_read, repeats_record
from labelclean.runs.expectations import checked_expectations
from labelclean.runs.plan import found_classes, plan_of
from labelclean.runs.record import INTERNAL, part_of
from labelclean.storage.parquet import (
    KNOWN_LABEL_COLUMNS,
    holds_images,
    label_files,
    labels_dataset,
    make_folder,
    read_table,
    write_table,
)
from labelclean.storage.queries import count_repeats, database, ordered_labels
from labelclean.storage.samples import given_labels_of, samples_table
from labelclean.storage.spellings import respelled
from labelclean.storage.tables import conform, table_key

PART_ROWS = 100_000
PART_CELLS = 16_000_000
MOST_FAULTY_PARTS = 3
LABELLED = "labelled"
LABELS = "labels"
LOOKS = "looks"


def part_rows(num_classes: int) -> int:
    """Return the samples of one part: their votes stay under 64 MB.

    Args:
        num_classes: K.

    Returns:
        Rows.

    Examples:
        >>> part_rows(20), part_rows(1000)
        (100000, 16000)
    """
    return min(PART_ROWS, max(1_000, PART_CELLS // num_classes))


def part_path(work: Path, table: str, number: int) -> Path:
    """Return the file of one part of a run's internal table."""
    return work / INTERNAL / table / f"part-{number:05d}.parquet"


def part_paths(work: Path, table: str) -> list[Path]:
    """Return the files of all parts of a run's internal table, in order."""
    return sorted((work / INTERNAL / table).glob("part-*.parquet"))


def looks_path(samples: Path) -> Path:
    """Return the array beside the table `samples`, or beside a part of it, that says what its pictures are like."""
    folder = samples.parent if samples.parent.name == INTERNAL else samples.parent.parent
    return folder / LOOKS / f"{samples.stem}.npy"


def class_counts(work: Path, table: str, names: Sequence[str]) -> Float64Array:
    """Return the votes of each class in a run's internal table of samples, whole or in parts.

    Args:
        work: The run's work folder.
        table: Its name.
        names: The K class names.

    Returns:
        Votes, float64, shape (K,).
    """
    whole = work / INTERNAL / f"{table}.parquet"
    counts = np.zeros(len(names))
    for path in [whole] if whole.is_file() else part_paths(work, table):
        samples = read_table(path, "samples", ["given_votes"])
        if samples.num_rows:
            counts += given_labels_of(samples, names).votes.sum(axis=0, dtype=np.float64)
    return counts


def ingest_parts(work: Path, config: Config, record: dict[str, Any]) -> None:
    """Read and check the labels part by part; leaves `labelled/` and what else the next steps read.

    Args:
        work: The run's work folder.
        config: The configuration.
        record: The step's record.

    Raises:
        TableError: If the labels break a promise; the faults of the first parts are listed.
    """
    arrivals = arrivals_from(part_of(work, "arrivals"))
    wanted = files_to_read(config, arrivals)
    files = label_files(config.data.labels) if wanted is None else wanted
    schema = labels_dataset(config.data.labels, wanted).schema
    names = plan_of(work).class_names or config.data.class_names
    names = names or found_classes(config.data.labels, wanted, config.data.spellings)
    if not names:
        raise TableError(f"{config.data.labels}: labels must name at least one class, but name none.")
    columns = [name for name in schema.names if name != "image"]
    has_bytes = holds_images(config.data.labels, schema)
    keys = table_key("labels", columns)
    with database(work / INTERNAL / "spill") as connection:
        rows = ordered_labels(
            connection, files, columns, keys, latest=wanted is not None, num_rows=part_rows(len(names))
        )
        typed = (respelled(_typed(labels, schema), config.data.spellings) for labels in _whole_samples(rows))
        keeps_labels = config.expectations.enabled or "annotator_id" in columns
        num_rows, num_samples = _write_parts(work, typed, names, config.data.labels.name, keeps_labels=keeps_labels)
        if wanted is not None:
            earlier = [config.data.labels / file.path for file in arrivals.unchanged]
            repeats = count_repeats(connection, part_paths(work, LABELLED), earlier, config.data.spellings)
            num_read = sum(pq.read_metadata(file).num_rows for file in files)
            record["arrivals"] = repeats_record(arrivals, num_read - num_rows, repeats)
    record["expectations"] = checked_expectations(part_paths(work, LABELS), work, config, num_classes=len(names))
    record |= {
        "num_rows": num_rows,
        "num_samples": num_samples,
        "class_names": list(names),
        "has_bytes": has_bytes,
    }


def _write_parts(
    work: Path, tables: Iterator[pa.Table], names: Sequence[str], origin: str, *, keeps_labels: bool
) -> tuple[int, int]:
    """Labels and samples in parts; numbers of rows and samples."""
    for table in (LABELLED, LABELS):
        make_folder(work / INTERNAL / table)
    num_rows, num_samples, faults = 0, 0, list[str]()
    for number, table in enumerate(tables):
        try:
            labels = conform(table, "labels", class_names=names, origin=origin)
            samples = samples_table(labels, names)
        except TableError as fault:
            faults.append(str(fault))
            if len(faults) == MOST_FAULTY_PARTS:
                break
            continue
        if keeps_labels:
            known = [name for name in labels.column_names if name in KNOWN_LABEL_COLUMNS or name in (*GROUPS, TIME)]
            write_table(part_path(work, LABELS, number), labels.select(known), "labels", names)
        write_table(part_path(work, LABELLED, number), samples, "samples", names)
        num_rows, num_samples = num_rows + labels.num_rows, num_samples + samples.num_rows
    if faults:
        raise TableError("\n".join(faults))
    if not num_rows:
        raise TableError(f"{origin}: the labels table must have rows, but is empty.")
    return num_rows, num_samples


def _whole_samples(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The same rows, cut where a sample ends."""
    left: list[pa.Table] = []
    coming = next(tables, None)
    while coming is not None:
        joined, coming = pa.concat_tables([*left, coming]).combine_chunks(), next(tables, None)
        cut = joined.num_rows
        if coming is not None:  # its first sample may be this table's last
            ids = joined.column("sample_id")
            cut -= 1
            while cut and ids[cut - 1].equals(ids[cut]):
                cut -= 1
        left = [joined.slice(cut)]
        if cut:
            yield joined.slice(0, cut)


def _typed(labels: pa.Table, schema: pa.Schema) -> pa.Table:
    """Columns in the types of the files where DuckDB told them in its own."""
    columns = {}
    for name in labels.column_names:
        wanted = schema.field(name).type
        plain = wanted.value_type if pa.types.is_dictionary(wanted) else wanted
        column = labels.column(name)
        try:
            columns[name] = column if column.type == plain else column.cast(plain)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            columns[name] = column
    return pa.table(columns)
