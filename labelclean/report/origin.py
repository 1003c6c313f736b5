"""Where wrong labels come from: sums over every carried column of a run, read one at a time and a few rows at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from labelclean.arrays import IntegerArray
from labelclean.errors import TableError
from labelclean.review.facets import (
    MAX_GROUPS,
    Facet,
    holds_names,
    moments,
    summed_group_facet,
    summed_time_facet,
)
from labelclean.storage.parquet import labels_dataset, read_batches, table_schema
from labelclean.storage.queries import inspector_sums
from labelclean.storage.tables import REFINED, TABLES

LOG = logging.getLogger("labelclean")
DUPLICATE_SET = "duplicate_set"
SCORE = "label_score"
PLACES = ("line", "shift", "camera")  # a missing chart of these is told
_HOUSE_COLUMNS = {column.name for name in ("labels", REFINED) for column in TABLES[name].columns} | {DUPLICATE_SET}
_UNKNOWN_TIME = int(np.datetime64("NaT").astype(np.int64))
_TEXT_TIMES = (pa.timestamp("us", tz="UTC"), pa.timestamp("us"))

SumsByValue = dict[Any, tuple[int, float]]
"""Value of a column -> labels, and expected number of wrong ones."""


def facets_of(path: Path, facts: Mapping[str, Any], names: Sequence[str], spill: Path) -> tuple[Facet, ...]:
    """Return the shares of wrong labels by the columns that a run carries, by inspector and over time.

    Args:
        path: The run's `refined_labels.parquet`.
        facts: Manifest of the run, or what of it is known; names the labels.
        names: The K class names.
        spill: Folder for what does not fit into memory.

    Returns:
        Groups of every column with few distinct values, then inspectors, then time.
    """
    groups: list[Facet | None] = []
    times: list[Facet | None] = []
    for field in table_schema(path, REFINED):
        if field.name in _HOUSE_COLUMNS:
            continue
        try:
            if facet := _facet(path, field):
                (groups if facet.unit is None else times).append(facet)
            elif field.name in PLACES and not (holds_names(field.type) or _is_time(field.type)):
                LOG.warning(
                    "report: no chart of column %r, which holds %s; one value per sample is drawn.",
                    field.name,
                    field.type,
                )
        except (pa.ArrowException, ValueError, ArithmeticError) as fault:  # a carried column may hold anything
            LOG.warning("report: no chart of column %r, whose values cannot be read: %s.", field.name, fault)
    groups.append(_inspectors(path, facts, names, spill))
    return tuple(facet for facet in groups + times if facet is not None)


def _facet(path: Path, field: pa.Field) -> Facet | None:
    """The shares by a carried column: over time, or by its groups."""
    is_name = _is_name(field.type)
    kind = _text_times(path, field.name) if is_name and field.name == "captured_at" else None
    if _is_time(field.type) or kind is not None:
        return _time_facet(path, field.name, kind)
    if is_name or (field.name in PLACES and holds_names(field.type)):
        sums = _sums(path, field.name, coded, most=MAX_GROUPS)
        return None if sums is None else summed_group_facet(field.name, *_arrays(sums))
    return None


def coded(column: pa.ChunkedArray) -> tuple[IntegerArray, list[Any]]:
    """Return a column as indices into its distinct values.

    Args:
        column: Any simple values, length B.

    Returns:
        Indices, shape (B,), and the values as text, None for missing.

    Examples:
        >>> coded(pa.chunked_array([["B", None, "B"]]))
        (array([0, 1, 0], dtype=int32), ['B', None])
    """
    plain = column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
    encoded = pc.dictionary_encode(plain, null_encoding="encode").combine_chunks()
    values = [None if value is None else str(value) for value in encoded.dictionary.to_pylist()]
    return encoded.indices.to_numpy(zero_copy_only=False), values


def _sums(
    path: Path,
    name: str,
    codes_of: Callable[[pa.ChunkedArray], tuple[IntegerArray, list[Any]]],
    most: int | None = None,
) -> SumsByValue | None:
    """Sums by value; None, read no further, where there are more values than ``most``."""
    sums_by_value: SumsByValue = {}
    for table in read_batches(path, REFINED, [name, SCORE]):
        codes, values = codes_of(table.column(name))
        wrong = 1.0 - table.column(SCORE).to_numpy().astype(np.float64)
        nums, sums = np.bincount(codes, minlength=len(values)), np.bincount(codes, wrong, minlength=len(values))
        for value, num, expected in zip(values, nums.tolist(), sums.tolist(), strict=True):
            before = sums_by_value.get(value, (0, 0.0))
            sums_by_value[value] = (before[0] + num, before[1] + expected)
        if most is not None and len(sums_by_value) > most:
            return None
    return sums_by_value


def _arrays(sums: SumsByValue) -> tuple[list[Any], IntegerArray, Any]:
    """Values, labels of each, expected wrong ones."""
    both = list(sums.values())
    return list(sums), np.array([num for num, _ in both], dtype=np.int64), np.array([wrong for _, wrong in both])


def _time_facet(path: Path, name: str, kind: pa.DataType | None) -> Facet | None:
    """A column of times, or of text that is read as times of a kind; summed by hour, of which even ten years have few."""
    num_strange = 0

    def hours(column: pa.ChunkedArray) -> tuple[IntegerArray, list[Any]]:
        nonlocal num_strange
        known = column if kind is None else column.cast(pa.string()).cast(kind)
        times = moments(known)
        num_strange += int(np.isnat(times).sum()) - known.null_count
        found, codes = np.unique(times.astype("datetime64[h]").astype(np.int64), return_inverse=True)
        return codes, found.tolist()

    sums = _sums(path, name, hours) or {}
    sums.pop(_UNKNOWN_TIME, None)
    if num_strange:
        LOG.warning(
            "report: %s times of column %r are not drawn: they lie outside the years 1900 to 2199.",
            f"{num_strange:,}",
            name,
        )
    found, nums, wrong = _arrays(dict(sorted(sums.items())))
    return summed_time_facet(name, np.array(found, dtype=np.int64).astype("datetime64[h]"), nums, wrong)


def _text_times(path: Path, name: str) -> pa.DataType | None:
    """How a whole column of ISO 8601 text is read as times, or None if it is something else."""
    for kind in _TEXT_TIMES:
        try:
            for table in read_batches(path, REFINED, [name]):
                table.column(name).cast(pa.string()).cast(kind)
        except pa.ArrowInvalid:
            continue
        return kind
    return None


def _is_time(type_: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(type_) or pa.types.is_date(type_))


def _is_name(type_: pa.DataType) -> bool:
    types = pa.types
    inner = type_.value_type if types.is_dictionary(type_) else type_
    return bool(
        types.is_string(inner) or types.is_large_string(inner) or types.is_integer(inner) or types.is_boolean(inner)
    )


def _inspectors(path: Path, facts: Mapping[str, Any], names: Sequence[str], spill: Path) -> Facet | None:
    """Every single label with who gave it, from the labels that the run read, if they are still there."""
    data = (facts.get("config") or {}).get("data") or {}
    labels = data.get("labels")
    try:
        dataset = labels_dataset(Path(labels)) if labels else None
        if dataset is None or "annotator_id" not in dataset.schema.names:
            return None
        rows = inspector_sums(path, [Path(file) for file in dataset.files], names, spill, data.get("spellings"))
    except (TableError, OSError):
        return None
    sums = {inspector: (num, wrong) for inspector, num, wrong in rows}
    return summed_group_facet("annotator_id", *_arrays(sums), is_inspectors=True)
