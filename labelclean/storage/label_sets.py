"""Several labels on one image: from lists, or rows of one sample, to one row per sample with the set of its labels."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from labelclean.arrays import BoolArray, IntArray
from labelclean.errors import ConfigError, TableError, listed
from labelclean.labels import in_class_order
from labelclean.storage.samples import one_per_sample, samples_table
from labelclean.storage.tables import BOX_COLUMNS, LABEL_SETS, conform, matrix, vectors

GIVEN = "given_labels"
_ONE_PER_SAMPLE = ("image_path", "group_id", "part_id")
_NOT_YET = {
    "annotator_id": "the labels of several inspectors",
    "candidate_labels": "partial labels",
} | dict.fromkeys(BOX_COLUMNS, "boxes, each of which has one class,")
OF_A_RUN = {column.name for name in ("samples", "refined_labels") for column in LABEL_SETS[name].columns} - {
    column.name for column in LABEL_SETS["labels"].columns
}
"""Columns that a run writes itself, where images have several labels."""


def holds_lists(schema: pa.Schema) -> bool:
    """Return whether the column `given_label` holds lists, so that an image may have several labels."""
    if "given_label" not in schema.names:
        return False
    kind, types = schema.field("given_label").type, pa.types
    return bool(
        types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind) or types.is_list_view(kind)
    )


def has_label_sets(schema: pa.Schema, *, several_labels: bool) -> bool:
    """Return whether labels give each image a set of labels: lists do, and rows where the config says so.

    Args:
        schema: Of the labels as they lie on disk.
        several_labels: `data.several_labels`.

    Returns:
        True for sets.
    """
    return several_labels or holds_lists(schema)


def label_sets(labels: pa.Table, class_names: Sequence[str], origin: str) -> pa.Table:
    """Return labels with one row per sample and the set of its labels; none of them twice, in class order.

    Args:
        labels: Labels as they lie on disk: `given_label` holds lists, or a label per row, where a row without one says that
            its sample has none. Sorted by `sample_id` or not.
        class_names: The K classes in order; empty leaves class names unchecked.
        origin: The file, for the error message.

    Returns:
        The table `labels` of several labels (`tables.LABEL_SETS`).

    Raises:
        TableError: If it breaks a promise; all faults are listed.

    Examples:
        >>> rows = {"sample_id": ["b", "a", "a"], "image_path": ["b.png", "a.png", "a.png"], "given_label": [None, "x", "y"]}
        >>> label_sets(pa.table(rows), [], "labels").column("given_labels").to_pylist()
        [['x', 'y'], []]
    """
    faults = [
        f"column {name!r} must be left out where images have several labels: {what} are not read together with them yet"
        for name, what in _NOT_YET.items()
        if name in labels.column_names
    ]
    labels = labels.drop_columns([name for name in _NOT_YET if name in labels.column_names])
    if "given_label" in labels.column_names and not holds_lists(labels.schema) and _are_texts(labels, "sample_id"):
        labels = _joined_rows(labels, faults)
    if "given_label" in labels.column_names:
        place = labels.column_names.index("given_label")
        labels = labels.set_column(place, GIVEN, _in_order(labels.column("given_label"), class_names))
    try:
        conformed = conform(labels, "labels", class_names=class_names, origin=origin)
    except TableError as fault:
        letter = str(fault).replace(f"column {GIVEN!r}", "column 'given_label'")
        raise TableError("\n".join([letter, *(f"  - {one}." for one in faults)])) from None
    if faults:
        raise TableError(f"{origin}: {'; '.join(faults)}.")
    return conformed


def label_names(labels: pa.Table) -> pa.ChunkedArray:
    """Return the class names of all labels of the table `labels`, of one label per image or several."""
    return pc.list_flatten(labels.column(GIVEN)) if GIVEN in labels.column_names else labels.column("given_label")


def samples_of_labels(labels: pa.Table, class_names: Sequence[str]) -> pa.Table:
    """Return the table `samples`, of one label per image or several (`samples_table`, `set_samples`)."""
    return set_samples(labels, class_names) if GIVEN in labels.column_names else samples_table(labels, class_names)


def set_samples(labels: pa.Table, class_names: Sequence[str]) -> pa.Table:
    """Return the table `samples` of several labels.

    Args:
        labels: The table `labels` of several labels.
        class_names: The K classes in order; every label is among them.

    Returns:
        One row per sample; columns that a run writes itself are left out.
    """
    table = labels.select([name for name in labels.column_names if name not in OF_A_RUN])
    answers = is_given(labels.column(GIVEN), class_names)
    place = table.column_names.index(GIVEN)
    table = table.set_column(place, GIVEN, names_of_sets(answers, class_names))
    votes = vectors(answers.astype(np.float32))
    return conform(table.append_column("given_votes", votes), "samples", class_names=class_names)


def is_given(sets: pa.ChunkedArray, class_names: Sequence[str]) -> BoolArray:
    """Return which classes each set holds.

    Args:
        sets: N lists of class names, no nulls.
        class_names: The K classes in order.

    Returns:
        bool, shape (N, K).
    """
    lists = sets.combine_chunks()
    answers = np.zeros((len(lists), len(class_names)), dtype=bool)
    rows = np.asarray(pc.list_parent_indices(lists).to_numpy(zero_copy_only=False), dtype=np.int64)
    names = pa.array(list(class_names), pa.string())
    classes = pc.index_in(lists.flatten(), value_set=names).to_numpy(zero_copy_only=False)
    answers[rows, classes.astype(np.int64)] = True
    return answers


def given_answers(samples: pa.Table) -> BoolArray:
    """Return which classes each row of the table `samples` was given, bool, shape (N, K)."""
    return np.asarray(matrix(samples.column("given_votes")), dtype=np.float32) > 0


def names_of_sets(answers: BoolArray, class_names: Sequence[str]) -> pa.ListArray:
    """Return sets of classes as lists of names, in class order.

    Args:
        answers: Which classes each set holds, bool, shape (N, K).
        class_names: The K classes in order.

    Returns:
        N lists of strings.
    """
    _, classes = np.nonzero(answers)
    names = pa.array(list(class_names), pa.string()).take(pa.array(classes, pa.int64()))
    return _lists(np.asarray(answers.sum(axis=1), dtype=np.int64), names)


def set_text(names: Iterable[str], class_names: Sequence[str]) -> str:
    """Return a set of labels as one text, as the ledger and annotators' files hold it: a JSON list in class order.

    Args:
        names: Class names, each once.
        class_names: The K classes in order; names that are none of them come last, by their text.

    Returns:
        JSON.

    Examples:
        >>> set_text(["scratch", "dent"], ["dent", "ok", "scratch"]), set_text([], ["dent"])
        ('["dent", "scratch"]', '[]')
    """
    place = {name: k for k, name in enumerate(class_names)}
    ordered = sorted(set(names), key=lambda name: (place.get(name, len(place)), name))
    return json.dumps(ordered, ensure_ascii=False)


def texts_of_sets(sets: pa.ChunkedArray, class_names: Sequence[str]) -> list[str]:
    """Return each set of a column as one text (`set_text`)."""
    return [set_text(names, class_names) for names in sets.to_pylist()]


def given_texts(labels: pa.Table, class_names: Sequence[str], origin: str) -> dict[str, str]:
    """Return each sample's set of labels as one text.

    Args:
        labels: Labels as they lie on disk, with `sample_id` and `given_label`.
        class_names: The K classes in order; labels may name others.
        origin: The file, for the error message.

    Returns:
        Text by sample id.
    """
    sets = label_sets(labels, (), origin)
    pairs = zip(sets.column("sample_id").to_pylist(), sets.column(GIVEN).to_pylist(), strict=True)
    return {sample: set_text(names, class_names) for sample, names in pairs}


def names_in_text(text: str) -> tuple[str, ...] | None:
    """Return the names in the text of a set; None where it is none.

    Examples:
        >>> names_in_text('["dent", "scratch"]'), names_in_text("dent")
        (('dent', 'scratch'), None)
    """
    try:
        names = json.loads(text)
    except ValueError:
        return None
    return tuple(names) if isinstance(names, list) and all(isinstance(name, str) for name in names) else None


def one_label_needed(what: str, labels: object) -> ConfigError:
    """Return the refusal of something that is not made for several labels per image.

    Args:
        what: What was asked for.
        labels: The labels, or the run.

    Returns:
        The error.
    """
    return ConfigError(
        f"{what}: images must have one label each, but {labels} gives them several (lists in given_label, or "
        "data.several_labels). Clean such labels with `labelclean run`; the rest is not made for them yet."
    )


# --- inside ---------------------------------------------------------------------------------------


def _are_texts(labels: pa.Table, name: str) -> bool:
    """Whether a column holds a text in every row; where it does not, `conform` says so."""
    if name not in labels.column_names:
        return False
    kind = labels.column(name).type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    return bool(is_text and not labels.column(name).null_count)


def _joined_rows(labels: pa.Table, faults: list[str]) -> pa.Table:
    """One row per sample, with the list of the labels in its rows."""
    labels = labels.set_column(
        labels.column_names.index("sample_id"), "sample_id", labels.column("sample_id").cast(pa.string())
    ).sort_by("sample_id")
    ids = labels.column("sample_id").to_numpy()
    starts = np.flatnonzero(np.concatenate([[True], ids[1:] != ids[:-1]])) if len(ids) else np.empty(0, dtype=np.int64)
    sizes = np.diff(np.append(starts, len(ids)))
    sample_of_row = np.repeat(np.arange(len(starts)), sizes)
    given = labels.column("given_label")
    kind = given.type.value_type if pa.types.is_dictionary(given.type) else given.type
    given = given.cast(kind).combine_chunks()
    is_missing = np.asarray(pc.is_null(given).to_numpy(zero_copy_only=False))
    mixed = np.flatnonzero(np.bincount(sample_of_row[is_missing], minlength=len(starts)).astype(bool) & (sizes > 1))
    if len(mixed):
        named = listed(ids[starts[mixed]].tolist())
        faults.append(
            "column 'given_label' must hold a label in every row of a sample, or be missing in its only row, which says that "
            f"it has none, but {len(mixed):,} samples have a row without a label beside others: {named}"
        )
    columns: dict[str, pa.ChunkedArray | pa.Array] = {}
    for name in labels.column_names:
        columns[name], torn = one_per_sample(labels.column(name), starts, sample_of_row)
        if name in _ONE_PER_SAMPLE and len(torn):
            named = listed(ids[starts[torn]].tolist())
            faults.append(f"column {name!r} must be the same in all rows of a sample, but differs for {named}")
    counts = np.bincount(sample_of_row[~is_missing], minlength=len(starts))
    columns["given_label"] = _lists(counts, given.filter(pa.array(~is_missing)))
    return pa.table(columns)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _in_order(sets: pa.ChunkedArray, class_names: Sequence[str]) -> pa.ChunkedArray:
    """The same lists with every name once, in class order; what is no list of texts stays for `conform` to tell."""
    if not pa.types.is_nested(sets.type) or not _is_text(sets.type.value_type):
        return sets
    place = {name: k for k, name in enumerate(class_names or _names_in(sets))}
    rows = [
        None
        if names is None
        else sorted(dict.fromkeys(names), key=lambda name: (place.get(name, len(place)), str(name)))
        for names in sets.to_pylist()
    ]
    return pa.chunked_array([pa.array(rows, pa.list_(pa.string()))])


def _names_in(sets: pa.ChunkedArray) -> list[str]:
    return in_class_order(name for name in pc.list_flatten(sets).unique().to_pylist() if name is not None)


def _lists(counts: IntArray, values: pa.Array) -> pa.ListArray:
    """Lists of so many values each."""
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32))
    return pa.ListArray.from_arrays(offsets, values)
