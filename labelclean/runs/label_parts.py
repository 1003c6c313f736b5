"""The labels of a run in parts: one that is held in memory, or many that are sorted on disk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from labelclean.config import Config
from labelclean.errors import TableError
from labelclean.labels import in_class_order
from labelclean.review.opinions import GROUPS, TIME
from labelclean.runs.label_set_rules import check_class_names
from labelclean.runs.part_files import LABELLED, LABELS, part_path
from labelclean.runs.plan import found_classes
from labelclean.runs.record import INTERNAL
from labelclean.storage.label_sets import GIVEN, has_label_sets, label_names, label_sets, samples_of_labels
from labelclean.storage.parquet import (
    KNOWN_LABEL_COLUMNS,
    label_files,
    labels_dataset,
    make_folder,
    read_labels,
    write_table,
)
from labelclean.storage.queries import database, ordered_labels
from labelclean.storage.spellings import respelled
from labelclean.storage.tables import conform, table_key

PART_ROWS = 100_000
PART_CELLS = 16_000_000
MOST_FAULTY_PARTS = 3

LabelPart = tuple[pa.Table, pa.Table]
"""The table `labels` of some samples, and their table `samples`."""
LabelParts = tuple[tuple[str, ...], Iterable[LabelPart]]
"""The K class names, and the labels in order of their key, no sample in two parts."""


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


def held_labels(config: Config, files: Sequence[Path] | None, names: Sequence[str] | None) -> LabelParts:
    """Return the labels as one part that is held in memory.

    Args:
        config: Section `data` is read.
        files: Only these of the labels' files, in the order in which a later one wins; None: all.
        names: The classes, where they are settled.

    Returns:
        The parts.

    Raises:
        TableError: If the labels break a promise; all faults are listed.
    """
    data = config.data
    labels, _ = read_labels(data.labels, names, files, spellings=data.spellings, several_labels=data.several_labels)
    names = class_names_of_run(labels, config) if names is None else tuple(names)
    return names, [(labels, samples_of_labels(labels, names))]


def class_names_of_run(labels: pa.Table, config: Config) -> tuple[str, ...]:
    """Return the classes of the config, or those found in the table `labels`, in order."""
    names = config.data.class_names or tuple(in_class_order(label_names(labels).unique().to_pylist()))
    check_class_names(config, names)
    return names


def sorted_labels(work: Path, config: Config, files: Sequence[Path] | None, names: Sequence[str] | None) -> LabelParts:
    """Return the labels in parts that are sorted on disk.

    Args:
        work: The run's work folder.
        config: Section `data` is read.
        files: Only these of the labels' files, in the order in which a later one wins; None: all.
        names: The classes, where they are settled.

    Returns:
        The parts; taking them raises TableError if the labels break a promise, with the faults of the first parts.
    """
    names = tuple(names or found_classes(config.data.labels, files, config.data.spellings))
    check_class_names(config, names)
    return names, _sorted_parts(work, config, files, names)


def write_label_parts(
    work: Path, names: Sequence[str], parts: Iterable[LabelPart], *, keeps_labels: bool
) -> tuple[int, int]:
    """Leave the samples of a run, part by part, and their single labels where they are needed again.

    Args:
        work: The run's work folder.
        names: The K class names.
        parts: The labels.
        keeps_labels: Whether the single labels are written too, as far as their columns are known.

    Returns:
        Rows and samples.
    """
    for table in (LABELLED, LABELS):
        make_folder(work / INTERNAL / table)
    num_rows, num_samples = 0, 0
    for number, (labels, samples) in enumerate(parts):
        if keeps_labels:
            wanted = {*KNOWN_LABEL_COLUMNS, GIVEN, *GROUPS, TIME}
            known = [name for name in labels.column_names if name in wanted]
            write_table(part_path(work, LABELS, number), labels.select(known), "labels", names)
        write_table(part_path(work, LABELLED, number), samples, "samples", names)
        num_rows, num_samples = num_rows + labels.num_rows, num_samples + samples.num_rows
    return num_rows, num_samples


# --- inside ---------------------------------------------------------------------------------------


def _sorted_parts(
    work: Path, config: Config, files: Sequence[Path] | None, names: tuple[str, ...]
) -> Iterator[LabelPart]:
    """Sorted labels, checked part by part."""
    origin, faults, is_empty = config.data.labels.name, list[str](), True
    for labels in _sorted_rows(work, config, files, len(names)):
        is_empty = False
        try:
            conformed = _conformed(respelled(labels, config.data.spellings), config, names)
            part = conformed, samples_of_labels(conformed, names)
        except TableError as fault:
            faults.append(str(fault))
            if len(faults) == MOST_FAULTY_PARTS:
                break
        else:
            yield part
    if faults:
        raise TableError("\n".join(faults))
    if is_empty:
        raise TableError(f"{origin}: the labels table must have rows, but is empty.")


def _conformed(labels: pa.Table, config: Config, names: tuple[str, ...]) -> pa.Table:
    """The table `labels`, of one label per image or several."""
    if has_label_sets(labels.schema, several_labels=config.data.several_labels):
        return label_sets(labels, names, config.data.labels.name)
    return conform(labels, "labels", class_names=names, origin=config.data.labels.name)


def _sorted_rows(work: Path, config: Config, files: Sequence[Path] | None, num_classes: int) -> Iterator[pa.Table]:
    """All rows, sorted by their key and cut where a sample ends, in the types of the files."""
    schema = labels_dataset(config.data.labels, files).schema
    columns = [name for name in schema.names if name != "image"]
    paths = label_files(config.data.labels) if files is None else files
    with database(work / INTERNAL / "spill") as connection:
        rows = ordered_labels(
            connection,
            paths,
            columns,
            table_key("labels", columns),
            latest=files is not None,
            num_rows=part_rows(num_classes),
        )
        for labels in _whole_samples(rows):
            yield _typed(labels, schema)


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
