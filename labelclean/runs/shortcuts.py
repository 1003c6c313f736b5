"""What else tells the label in a run: its carried columns, and what pictures are like before anybody looks at what they show."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from labelclean.arrays import IntArray
from labelclean.config import Config
from labelclean.features.appearance import Appearance, picture_appearance
from labelclean.features.image_files import ImageReject, read_image_bytes
from labelclean.progress import progress
from labelclean.review.facets import holds_names, moments
from labelclean.review.shortcuts import MOST_VALUES, Known, binned, measure_shortcut, shortcut_record
from labelclean.runs.ingest import image_root
from labelclean.runs.parts import RunParts, samples_of_part
from labelclean.storage.tables import TABLES

if TYPE_CHECKING:
    from labelclean.cleaning.population import Taught

LOG = logging.getLogger("labelclean")
PICTURES = 500
"""Pictures that are opened: enough to show what tells a tenth of the label, and about a minute at 5 megapixels each."""
_OWN = {column.name for name in ("labels", "samples") for column in TABLES[name].columns} - {"annotator_id"}

Coded = tuple[IntArray, Sequence[str]]
"""Value of each sample as an index, and what each value is called."""


def shortcuts_record(
    config: Config, parts: RunParts, taught: Taught, names: Sequence[str], single: pa.Table | None = None
) -> list[dict[str, Any]]:
    """Return how much every carried column and property of the pictures tells of the label, the one that tells most first.

    Columns are measured on the samples on which choices are made, properties on up to 500 of them whose files can be
    opened; images inside the labels table are left out.

    Args:
        config: Sections `data`, `decode` and `run` are read.
        parts: The run's samples.
        taught: The teacher, for groups and folds.
        names: The K class names.
        single: Single labels of named inspectors (`sample_id`, `given_label`, `annotator_id`); None where none are named.

    Returns:
        JSON values of each (`shortcut_record`).
    """
    chosen = taught.chosen
    own = np.flatnonzero(chosen.parts < len(parts.samples))  # what the reference kept comes last
    samples = _chosen_samples(parts, chosen.parts[own], chosen.rows[own])
    known = Known(chosen.labels.given, taught.space.groups, taught.space.design.folds, len(names)).take(own)
    known = Known(known.given.astype(np.int64), known.groups, known.folds.astype(np.int64), len(names))
    ids = samples.column("sample_id").to_pylist()
    found = []
    for name in samples.column_names:
        if name not in _OWN and (coded := coded_values(name, samples.column(name))):
            found.append(_record(name, coded, known, ids, names, config, is_property=False))
    if single is not None:
        found.append(_inspectors_record(single, known, ids, names, config))
    if "image_path" in samples.column_names:
        order = taught.space.selection[taught.space.selection < len(own)][:PICTURES] if len(own) > PICTURES else None
        rows = np.arange(len(own)) if order is None else np.sort(order)
        properties = dict(_properties(samples.take(pa.array(rows)), config))
        rows, looked = rows[list(properties)], list(properties.values())
        for name in [field.name for field in fields(Appearance)] if looked else ():
            values = [getattr(one, name) for one in looked]
            coded = binned(np.array(values, float)) if isinstance(values[0], float) else named_values(pa.array(values))
            own_ids = [ids[row] for row in rows.tolist()]
            found.append(_record(name, coded, known.take(rows), own_ids, names, config, is_property=True))
    told = [one for one in found if one is not None]
    return sorted(told, key=lambda one: (not one["exceeds_chance"], -one["gain"]))


def named_values(column: pa.Array | pa.ChunkedArray) -> Coded:
    """Return a column as indices into its most frequent values; the others are one value, as are missing ones.

    Args:
        column: Simple values, length N.

    Returns:
        Index, int64, shape (N,), and what each value is called; "" is missing, "..." all the rest.

    Examples:
        >>> named_values(pa.array(["B", "A", "B", None]))
        (array([0, 2, 0, 1]), ['B', '', 'A'])
    """
    text = pc.fill_null(column.cast(pa.string()), "")
    counts = sorted(pc.value_counts(text).to_pylist(), key=lambda row: (-row["counts"], row["values"]))
    names = [row["values"] for row in counts[:MOST_VALUES]]
    codes = pc.fill_null(pc.index_in(text, value_set=pa.array(names, pa.string())), len(names))
    return codes.to_numpy(zero_copy_only=False).astype(np.int64), names + ["..."] * (len(counts) > MOST_VALUES)


def coded_values(name: str, column: pa.ChunkedArray) -> Coded | None:
    """Return the values of a carried column: names as they are, times by month, many numbers by tenths.

    Args:
        name: The column's name; text in `captured_at` is read as ISO 8601.
        column: Its values, length N.

    Returns:
        The values; None where the column holds no simple values.
    """
    types = pa.types
    column = column.cast(column.type.value_type) if types.is_dictionary(column.type) else column
    try:
        if name == "captured_at" and types.is_string(column.type):
            return named_values(pc.utf8_slice_codeunits(column, 0, len("2026-03")))  # the month of ISO 8601
        if types.is_timestamp(column.type) or types.is_date(column.type):
            months = np.datetime_as_string(moments(column).astype("datetime64[M]"))
            return named_values(pa.array(months))
        if not holds_names(column.type):
            return None
        is_number = types.is_integer(column.type) or types.is_floating(column.type)
        if is_number and pc.count_distinct(column).as_py() > MOST_VALUES:
            return binned(pc.fill_null(column.cast(pa.float64(), safe=False), float("nan")).to_numpy())
        return named_values(column)
    except (pa.ArrowException, ValueError) as fault:  # a carried column may hold anything
        LOG.warning("shortcuts: column %r is left out, for its values cannot be read: %s.", name, fault)
        return None


def _record(
    name: str,
    coded: Coded,
    known: Known,
    ids: Sequence[str],
    names: Sequence[str],
    config: Config,
    *,
    is_property: bool,
) -> dict[str, Any] | None:
    """The measurement; None where all samples share one value."""
    values, called = coded
    if len(called) < 2:
        return None
    measured = measure_shortcut(name, values, known, is_property=is_property, seed=config.run.seed)
    return shortcut_record(measured, called, names, ids)


def _inspectors_record(
    single: pa.Table, known: Known, ids: Sequence[str], names: Sequence[str], config: Config
) -> dict[str, Any] | None:
    """How much the inspector tells of the label that he gave, label by label."""
    row = pc.index_in(single.column("sample_id"), value_set=pa.array(ids, pa.string()))
    given = pc.index_in(single.column("given_label"), value_set=pa.array(names, pa.string()))
    held = pc.and_(pc.is_valid(row), pc.is_valid(given))
    rows = row.filter(held).to_numpy().astype(np.int64)
    labelled = replace(known.take(rows), given=given.filter(held).to_numpy().astype(np.int64))
    inspectors = named_values(single.column("annotator_id").filter(held))
    own = [ids[one] for one in rows.tolist()]
    return _record("annotator_id", inspectors, labelled, own, names, config, is_property=False)


def _chosen_samples(parts: RunParts, numbers: IntArray, rows: IntArray) -> pa.Table:
    """The samples on which choices are made."""
    some = [
        samples_of_part(parts.samples[number], parts.labels[number])[0].take(pa.array(rows[numbers == number]))
        for number in np.unique(numbers).tolist()
    ]
    return pa.concat_tables(some)


def _properties(samples: pa.Table, config: Config) -> Iterator[tuple[int, Appearance]]:
    """What each picture is like, by row; files that cannot be opened are passed over."""
    root, paths = image_root(config), samples.column("image_path").to_pylist()
    with progress("looking at pictures", len(paths), "images") as advance:
        for row, path in enumerate(paths):
            advance(1)
            if path is None:
                continue
            try:
                yield row, picture_appearance(read_image_bytes(root, path, config.decode), config.decode)
            except (ImageReject, OSError):
                continue
