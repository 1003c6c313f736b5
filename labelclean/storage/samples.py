"""From one row per label, or per inspector, to one row per sample with votes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from labelclean.arrays import BoolArray, Float64Array, FloatArray, IntArray
from labelclean.errors import TableError, listed
from labelclean.labels import GivenLabels
from labelclean.storage.tables import BOX_COLUMNS, TABLES, conform, matrix, vectors

_ONE_PER_SAMPLE = ("image_path", "group_id", "part_id", "candidate_labels", *BOX_COLUMNS)
_OF_A_RUN = {column.name for name in ("samples", "refined_labels") for column in TABLES[name].columns} - {
    column.name for column in TABLES["labels"].columns
}


def replaced_columns(names: Iterable[str]) -> list[str]:
    """Return what is said of columns that are not carried, because a run writes its own under their names.

    Args:
        names: Columns of the labels.

    Returns:
        One sentence, or none.

    Examples:
        >>> replaced_columns(["sample_id", "line", "label_score"])
        ["not carried: columns 'label_score', for a run writes its own under these names; rename them to keep them"]
    """
    taken = [name for name in names if name in _OF_A_RUN]
    words = "not carried: columns {}, for a run writes its own under these names; rename them to keep them"
    return [words.format(listed(taken, 8))] if taken else []


def samples_table(labels: pa.Table, class_names: Sequence[str]) -> pa.Table:
    """Return one row per sample: votes counted, the given label their plurality.

    Ties go to the class that stands first. Other columns keep their value where all rows of a
    sample agree and are null where they do not; a path, group or candidate set that differs
    within a sample is a fault. Columns that a run writes itself are left out. Boxes that name no group have their image as
    group: crops of one image overlap.

    Args:
        labels: Conforming `labels` table, sorted by its key.
        class_names: The K classes in order; every given label is among them.

    Returns:
        Conforming `samples` table; with `annotator_agreement`, the share of pairs of labels that
        agree (null for a single label), where the labels name their annotators.

    Raises:
        TableError: If a sample has two paths, groups, parts, boxes or candidate sets, a part lies in two groups, or candidates
            name no class.
    """
    given = index_in(labels.column("given_label"), class_names)
    starts = _group_starts(labels.column("sample_id"))
    sample_of_row = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(given))))
    votes = np.zeros((len(starts), len(class_names)), dtype=np.float32)
    np.add.at(votes, (sample_of_row, given), 1.0)
    columns: dict[str, pa.ChunkedArray | pa.Array] = {}
    faults: list[str] = []
    for name in labels.column_names:
        if name == "annotator_id" or name in _OF_A_RUN:
            continue
        columns[name], torn = _one_per_sample(labels.column(name), starts, sample_of_row)
        if name in _ONE_PER_SAMPLE and len(torn):
            ids = labels.column("sample_id").take(starts[torn]).to_pylist()
            faults.append(f"column {name!r} must be the same in all rows of a sample, but differs for {listed(ids)}")
    faults += _candidate_faults(columns, class_names) + _part_faults(columns)
    if faults:
        raise TableError("labels: " + "; ".join(faults) + ".")
    columns["given_label"] = pa.array(np.asarray(class_names, dtype=object)[votes.argmax(axis=1)], pa.string())
    columns["given_votes"] = vectors(votes)
    if BOX_COLUMNS[0] in columns and "group_id" not in columns:
        columns["group_id"] = columns["image_path"]
    if "annotator_id" in labels.column_names:
        agreement = pair_agreement(votes).astype(np.float32)
        columns["annotator_agreement"] = pa.array(agreement, mask=np.isnan(agreement))
    return conform(pa.table(columns), "samples", class_names=class_names)


def given_labels_of(samples: pa.Table, class_names: Sequence[str]) -> GivenLabels:
    """Return votes and candidates of a `samples` table as arrays.

    Args:
        samples: Conforming `samples` table of N rows.
        class_names: The K classes in order.

    Returns:
        Given labels, rows aligned with the table.
    """
    counts = matrix(samples.column("given_votes")).astype(np.float32)
    candidates = np.ones(counts.shape, dtype=bool)
    if "candidate_labels" in samples.column_names:
        position = {name: k for k, name in enumerate(class_names)}
        for row, names in enumerate(samples.column("candidate_labels").to_pylist()):
            if names:
                candidates[row] = False
                candidates[row, [position[name] for name in names]] = True
    num_votes = counts.sum(axis=1)
    several = num_votes if bool((num_votes != 1).any()) else None
    return GivenLabels(counts / num_votes[:, None], candidates, num_votes=several)


def boxes_of(samples: pa.Table) -> Float64Array | None:
    """Return where in its image each sample lies.

    Args:
        samples: Table `labels`, `samples` or `refined_labels`, N rows.

    Returns:
        Left, top, width and height in pixels, float64, shape (N, 4); None where samples are whole images.
    """
    if BOX_COLUMNS[0] not in samples.column_names:
        return None
    return np.stack([samples.column(name).to_numpy() for name in BOX_COLUMNS], axis=1)


def groups_of(samples: pa.Table) -> list[str] | None:
    """Return the group of each sample: its `group_id`, else its part; a sample without either is its own.

    Args:
        samples: Table `samples`, N rows.

    Returns:
        Length N; None where no sample has one.
    """
    words = {"group_id": "group", "part_id": "part", "sample_id": "sample"}
    known = [name for name in words if name in samples.column_names]
    if known == ["sample_id"]:
        return None
    rows = zip(*(samples.column(name).to_pylist() for name in known), strict=True)
    return [
        next(f"{words[name]} {value}" for name, value in zip(known, row, strict=True) if value is not None)
        for row in rows
    ]


def pair_agreement(votes: FloatArray) -> npt.NDArray[np.float64]:
    """Return the share of pairs of labels of each sample that agree.

    Args:
        votes: Labels per class, shape (N, K), whole numbers.

    Returns:
        float64, shape (N,), in [0, 1]; NaN with fewer than two labels.

    Examples:
        >>> pair_agreement(np.array([[2.0, 1.0], [3.0, 0.0], [1.0, 0.0]]))
        array([0.33333333, 1.        ,        nan])
    """
    votes = np.asarray(votes, dtype=np.float64)
    num = votes.sum(axis=1)
    agreeing = (votes * (votes - 1)).sum(axis=1)
    shares: npt.NDArray[np.float64] = np.full(len(num), np.nan)
    np.divide(agreeing, num * (num - 1), out=shares, where=num > 1)
    return shares


def index_in(names: pa.ChunkedArray, class_names: Sequence[str]) -> IntArray:
    """Return the class index of each name of an Arrow column.

    Args:
        names: Class names, length N, all among ``class_names``.
        class_names: The K classes in order.

    Returns:
        int64, shape (N,).
    """
    class_index = pc.index_in(names, value_set=pa.array(class_names, pa.string()))
    return np.asarray(class_index.to_numpy(), dtype=np.int64)


def _group_starts(ids: pa.ChunkedArray) -> IntArray:
    """First row of each run of equal ids in a sorted column."""
    values = ids.to_numpy()
    return np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))


def _one_per_sample(
    values: pa.ChunkedArray, starts: IntArray, sample_of_row: npt.NDArray[np.int64]
) -> tuple[pa.ChunkedArray | pa.Array, IntArray]:
    """Each sample's value, null where its rows differ, and the samples where they do."""
    first = values.take(starts)
    if len(starts) == len(values):
        return first, np.empty(0, dtype=np.int64)
    differs = _differs(values, first.take(sample_of_row))
    torn = np.unique(sample_of_row[differs])
    if not len(torn):
        return first, torn
    is_torn = np.zeros(len(starts), dtype=bool)
    is_torn[torn] = True
    return first.take(pa.array(np.arange(len(starts)), mask=is_torn)), torn


def _differs(values: pa.ChunkedArray, others: pa.ChunkedArray) -> BoolArray:
    """Rows where two columns differ; two nulls are equal."""
    if isinstance(values.type, pa.BaseExtensionType):
        values, others = (pa.chunked_array([array.storage for array in column.chunks]) for column in (values, others))
    if pa.types.is_float16(values.type):
        values, others = values.cast(pa.float32()), others.cast(pa.float32())
    if pa.types.is_nested(values.type) or pa.types.is_null(values.type):
        pairs = zip(values.to_pylist(), others.to_pylist(), strict=True)
        return np.fromiter((a != b for a, b in pairs), dtype=bool, count=len(values))
    unequal = pc.fill_null(pc.not_equal(values, others), False)
    one_null = pc.xor(pc.is_null(values), pc.is_null(others))
    return np.asarray(pc.or_(unequal, one_null).to_numpy())


def _candidate_faults(columns: dict[str, pa.ChunkedArray | pa.Array], class_names: Sequence[str]) -> list[str]:
    """Candidate sets that are empty or name no class."""
    if "candidate_labels" not in columns:
        return []
    known = set(class_names)
    ids = columns["sample_id"].to_pylist()
    sets = columns["candidate_labels"].to_pylist()
    empty = [ids[row] for row, names in enumerate(sets) if names is not None and not names]
    unknown = [ids[row] for row, names in enumerate(sets) if names and not set(names) <= known]
    faults = []
    if empty:
        faults.append(
            f"column 'candidate_labels' must name at least one class or be null, but is empty for {listed(empty)}"
        )
    if unknown:
        faults.append(
            f"column 'candidate_labels' must hold names of data.class_names ({listed(sorted(known), 8)}), "
            f"but does not for {listed(unknown)}"
        )
    return faults


def _part_faults(columns: dict[str, pa.ChunkedArray | pa.Array]) -> list[str]:
    """Parts that lie in more than one group, or partly in none."""
    if "part_id" not in columns or "group_id" not in columns:
        return []
    group_of: dict[str, str | None] = {}
    torn = {
        part
        for part, group in zip(columns["part_id"].to_pylist(), columns["group_id"].to_pylist(), strict=True)
        if part is not None and group_of.setdefault(part, group) != group
    }
    return (
        [f"all images of a part must have one group_id or none, but parts {listed(sorted(torn))} have several"]
        if torn
        else []
    )
