"""The dictionary of the house: every table's columns, key and Arrow type, and `conform`, the one door through which tables pass.

A rule about a column is written here once; the Great Expectations suite is
generated from it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from labelclean.arrays import Float32Array, IntArray
from labelclean.errors import TableError, listed
from labelclean.storage.spellings import alike, joining

REFINED = "refined_labels"
SET_ASIDE = "set_aside"
NEW_KINDS = "new_kinds"


UNUSABLE = ("blank", "dark", "bright", "low_contrast", "blurred", "odd_size", "odd_depth", "outlier")
"""Reasons to think that a picture shows no part as it should."""
REASONS = (
    "other_class",
    "readings_differ",
    "neighbours_disagree",
    "conflict_group",
    "box_conflict",
    "part_conflict",
    "near_duplicate",
    "box_double",
    "split_leak",
    "unstable_top2",
    "narrow_margin",
    "rare_class_move",
    "annotators_disagree",
    *UNUSABLE,
)
WAITS_FOR_EYES = "readings_differ"
"""The reason of labels that are worth a look but that nobody should change without one."""
READINGS = ("calm", "clouds", "alone", "as_given")
MANY_CLASSES = 256
TOP_CLASSES = 32
DIRECTIONS = ("missing", "spurious")
QUEUE_SOURCES = ("ranked", "random_audit", "unusable", "conflict_group", "rare_class", "box_double")
BOX_COLUMNS = ("box_x_px", "box_y_px", "box_width_px", "box_height_px")

ColumnKind = Literal[
    "string",
    "class",
    "share",
    "float",
    "pixels",
    "int",
    "bool",
    "time",
    "bytes",
    "probabilities",
    "answers",
    "votes",
    "feature",
    "class_indices",
    "class_probs",
    "names",
    "classes",
    "any",
]


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        name: Column name.
        kind: What the values are; decides the Arrow type. `class` is a class name, `share` a
            float32 in [0, 1], `pixels` a finite float64, `probabilities` a row of K float32 that sums to 1, `answers` a row of
            K float32 in [0, 1] that does not, `votes` a row of K counts, `names` a list of strings,
            `classes` a list of class names, which may be empty.
        meaning: One line for people.
        optional: The table may come without it.
        nullable: Values may be missing.
        allowed: The only values, if closed.
    """

    name: str
    kind: ColumnKind
    meaning: str
    optional: bool = False
    nullable: bool = False
    allowed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """A table of the house.

    Attributes:
        name: Table name, also its file's stem.
        key: Columns that together are unique; rows leave sorted by them.
        columns: Its columns in order.
        open: Other columns are carried through.
    """

    name: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    open: bool = False


_SAMPLE = Column("sample_id", "string", "The sample's own name, unique and stable.")
_PATH = Column(
    "image_path", "string", "POSIX path of the image, relative to the image root.", optional=True, nullable=True
)
_CONTENT = "SHA-256 of the image file's bytes; of a box, of these and where it lies."
_PART = Column(
    "part_id",
    "string",
    "The part that an image shows; its images never vouch for each other.",
    optional=True,
    nullable=True,
)
_GROUP = Column("group_id", "string", "Samples of one physical part share it.", optional=True, nullable=True)
_GIVEN = Column("given_label", "class", "The label as ingested, possibly wrong.")


_BOX = tuple(
    Column(name, "pixels", f"{what} of the box in its image, which stands upright; all four or none.", optional=True)
    for name, what in zip(BOX_COLUMNS, ("Left edge", "Upper edge", "Width", "Height"), strict=True)
)


def _top_pairs(name: str) -> tuple[Column, Column]:
    """What stands in the place of K probabilities above 256 classes."""
    return (
        Column(f"{name}_topk_index", "class_indices", f"Likeliest classes of {name}, best first.", optional=True),
        Column(f"{name}_topk_prob", "class_probs", "Their probabilities.", optional=True),
    )


TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        Table(
            "labels",
            ("sample_id",),
            (
                _SAMPLE,
                _PATH,
                Column("image", "bytes", "The image file's bytes, in place of a path.", optional=True, nullable=True),
                _GIVEN,
                Column(
                    "annotator_id",
                    "string",
                    "Who gave the label; with it the key is (sample_id, annotator_id).",
                    optional=True,
                ),
                _GROUP,
                _PART,
                Column(
                    "candidate_labels",
                    "names",
                    "The classes one of which is right, if known.",
                    optional=True,
                    nullable=True,
                ),
                *_BOX,
            ),
            open=True,
        ),
        Table(
            "samples",
            ("sample_id",),
            (
                _SAMPLE,
                _PATH,
                _GIVEN,
                Column("given_votes", "votes", "Votes per class, in class order."),
                _GROUP,
                _PART,
                Column(
                    "candidate_labels",
                    "names",
                    "The classes one of which is right, if known.",
                    optional=True,
                    nullable=True,
                ),
                *_BOX,
                Column("content_hash", "string", _CONTENT, optional=True),
            ),
            open=True,
        ),
        Table(
            "rejects",
            ("sample_id",),
            (
                _SAMPLE,
                _PATH,
                Column("reason_code", "string", "Why the image could not be used."),
                Column("message", "string", "The same in a sentence."),
            ),
        ),
        Table(
            SET_ASIDE,
            ("sample_id",),
            (
                _SAMPLE,
                _PATH,
                _GIVEN,
                Column("content_hash", "string", "SHA-256 of the image file's bytes."),
                Column(
                    "part_id",
                    "string",
                    "The part that it shows; where labels are those of parts.",
                    optional=True,
                    nullable=True,
                ),
                Column(
                    "decision",
                    "string",
                    "What people said of it; it was not judged.",
                    allowed=("bad_image", "none_of_these"),
                ),
            ),
        ),
        Table(
            NEW_KINDS,
            ("kind", "place"),
            (
                Column("kind", "int", "Number of the proposed kind, the largest first."),
                Column("place", "int", "1 = nearest to the others of its kind."),
                _SAMPLE,
                _PATH,
                _GIVEN,
                Column("is_answer", "bool", "People said that it is none of the classes."),
            ),
        ),
        Table(
            "class_distribution",
            ("class_name",),
            (
                Column("class_name", "class", "The class."),
                Column("num_samples", "int", "Samples with this given label (votes count in parts, rounded)."),
                Column("share", "share", "Their share of all samples."),
                Column("reference_share", "share", "Share in the reference run.", optional=True, nullable=True),
                Column("share_change", "float", "share - reference_share.", optional=True, nullable=True),
            ),
        ),
        Table(
            "features",
            ("content_hash",),
            (
                Column("content_hash", "string", _CONTENT),
                Column("feature", "feature", "Pooled output of the frozen backbone."),
            ),
        ),
        Table(
            "teacher_predictions",
            ("sample_id",),
            (
                _SAMPLE,
                Column(
                    "pred_probs",
                    "probabilities",
                    "Out-of-fold class probabilities, calibrated to the given labels.",
                    optional=True,
                ),
                *_top_pairs("pred_probs"),
                Column("top1_label", "class", "Most probable class."),
                Column("runner_up_label", "class", "Second class."),
                Column("top2_margin", "share", "p(top-1) - p(runner-up)."),
                Column("top2_agreement", "share", "Share of refits that agree on the unordered pair.", nullable=True),
            ),
        ),
        Table(
            "refined_labels",
            ("sample_id",),
            (
                _SAMPLE,
                _PATH,
                _GIVEN,
                Column("given_votes", "votes", "Votes per class, in class order.", optional=True),
                Column(
                    "soft_label",
                    "probabilities",
                    "Probabilities of the true class, the given label counted as evidence.",
                    optional=True,
                ),
                *_top_pairs("soft_label"),
                Column(
                    "predicted_label",
                    "class",
                    "Best class of soft_label; where it is not given_label, we would change it.",
                ),
                Column("label_score", "share", "Probability that the given label is right; low = suspicious."),
                Column(
                    "is_label_issue",
                    "bool",
                    "Worth a look: the score is low, and some reading names another class; we would not change all of them.",
                ),
                *_BOX,
                Column("duplicate_set", "int", "Near-duplicates share a number.", optional=True, nullable=True),
                Column(
                    "leak_set",
                    "int",
                    "Near-duplicates and samples of one part that stand in more than one split share a number.",
                    optional=True,
                    nullable=True,
                ),
                Column("content_hash", "string", _CONTENT, optional=True),
            ),
            open=True,
        ),
        Table(
            "flags",
            ("sample_id", "reason"),
            (
                _SAMPLE,
                Column(
                    "reason",
                    "string",
                    "Why to look; other_class: we would change it; readings_differ: it waits for eyes.",
                    allowed=REASONS,
                ),
                Column("score", "share", "How urgent; high = look sooner."),
            ),
        ),
        Table(
            "label_flags",
            ("sample_id", "class_name", "direction"),
            (
                _SAMPLE,
                Column("class_name", "class", "The class in question."),
                Column(
                    "direction",
                    "string",
                    "missing: it was not given and may be there; spurious: it was given and may not.",
                    allowed=DIRECTIONS,
                ),
                Column("score", "share", "How urgent; high = look sooner."),
                Column("is_changed", "bool", "The predicted labels differ in it; where not, it waits for eyes."),
            ),
        ),
        Table(
            "audit_readings",
            ("sample_id",),
            (
                _SAMPLE,
                _GIVEN,
                Column("content_hash", "string", _CONTENT),
                Column("age_nights", "int", "Runs since it was drawn."),
                *(Column(f"by_{name}", "probabilities", f"What the reading {name} made of it.") for name in READINGS),
            ),
        ),
        Table(
            "review_queue",
            ("rank",),
            (
                Column("rank", "int", "1 = look first."),
                _SAMPLE,
                _PATH,
                _GIVEN,
                Column(
                    "predicted_label",
                    "class",
                    "Suggested class; the given one where nothing is suggested, as where the readings differ.",
                ),
                Column("runner_up_label", "class", "Second class; where the readings differ, the other possibility."),
                Column("label_score", "share", "Probability that the given label is right; low = suspicious."),
                Column(
                    "cost_saved",
                    "float",
                    "Cost of the label as it stands, which a look is expected to save; where costs are given.",
                    optional=True,
                ),
                Column("reasons", "names", "Reasons of the flags."),
                Column("queue_source", "string", "Why it is in the queue.", allowed=QUEUE_SOURCES),
                Column(
                    "inclusion_probability",
                    "share",
                    "With which probability it was drawn at random from all unsettled samples; null if it was not.",
                    optional=True,
                    nullable=True,
                ),
                Column("neighbour_ids", "names", "Nearest trusted samples of the suggested class first."),
                Column(
                    "view_ids", "names", "Other images of the part; where labels are those of parts.", optional=True
                ),
                *_BOX,
                Column("content_hash", "string", _CONTENT, optional=True),
            ),
        ),
    )
}

_GIVEN_SET = Column("given_labels", "classes", "All labels as ingested, possibly wrong; empty: none.")
_WRONG_SETS = (
    Column("predicted_labels", "classes", "The labels that we would give; empty: none."),
    Column("missing_labels", "classes", "Classes worth a look that were not given: they may be missing."),
    Column("spurious_labels", "classes", "Labels worth a look that were given: they may be too many."),
)
_SET_SCORE = Column("label_score", "share", "Least score of all classes: that of its worst label; low = suspicious.")
LABEL_SETS: dict[str, Table] = {
    table.name: table
    for table in (
        Table(
            "labels",
            ("sample_id",),
            (
                _SAMPLE,
                _PATH,
                Column("image", "bytes", "The image file's bytes, in place of a path.", optional=True, nullable=True),
                _GIVEN_SET,
                _GROUP,
            ),
            open=True,
        ),
        Table(
            "samples",
            ("sample_id",),
            (
                _SAMPLE,
                _PATH,
                _GIVEN_SET,
                Column("given_votes", "votes", "1 for each class that was given, else 0, in class order."),
                _GROUP,
                Column("content_hash", "string", "SHA-256 of the image file's bytes.", optional=True),
            ),
            open=True,
        ),
        Table(
            SET_ASIDE,
            ("sample_id",),
            (
                _SAMPLE,
                _PATH,
                _GIVEN_SET,
                Column("content_hash", "string", "SHA-256 of the image file's bytes."),
                Column("decision", "string", "What people said of it; it was not judged.", allowed=("bad_image",)),
            ),
        ),
        Table(
            "refined_labels",
            ("sample_id",),
            (
                _SAMPLE,
                _PATH,
                _GIVEN_SET,
                Column(
                    "given_votes", "votes", "1 for each class that was given, else 0, in class order.", optional=True
                ),
                Column(
                    "soft_label",
                    "answers",
                    "Probability of each class that it is on the image, what was given counted as evidence; they do not "
                    "sum to 1.",
                ),
                *_WRONG_SETS,
                _SET_SCORE,
                Column("is_label_issue", "bool", "Worth a look: a label may be missing or too many."),
                Column("duplicate_set", "int", "Near-duplicates share a number.", optional=True, nullable=True),
                Column(
                    "leak_set",
                    "int",
                    "Near-duplicates and samples of one part that stand in more than one split share a number.",
                    optional=True,
                    nullable=True,
                ),
                Column("content_hash", "string", "SHA-256 of the image file's bytes.", optional=True),
            ),
            open=True,
        ),
        Table(
            "review_queue",
            ("rank",),
            (
                Column("rank", "int", "1 = look first."),
                _SAMPLE,
                _PATH,
                _GIVEN_SET,
                *_WRONG_SETS,
                _SET_SCORE,
                Column("queue_source", "string", "Why it is in the queue.", allowed=QUEUE_SOURCES),
                Column(
                    "inclusion_probability",
                    "share",
                    "With which probability it was drawn at random from all unsettled samples; null if it was not.",
                    optional=True,
                    nullable=True,
                ),
                Column("neighbour_ids", "names", "Nearest trusted samples."),
                Column("content_hash", "string", "SHA-256 of the image file's bytes.", optional=True),
            ),
        ),
    )
}
"""The tables of a run whose images have several labels each, where they differ; `given_labels` tells them."""


def table_spec(name: str, column_names: Sequence[str]) -> Table:
    """Return what a table of the house promises: with a column `given_labels`, that of several labels per image.

    Args:
        name: Table of the house.
        column_names: The columns that the table at hand has.

    Returns:
        The table's dictionary.

    Examples:
        >>> "predicted_labels" in [one.name for one in table_spec("refined_labels", ["given_labels"]).columns]
        True
    """
    return LABEL_SETS[name] if "given_labels" in column_names and name in LABEL_SETS else TABLES[name]


def arrow_type(kind: ColumnKind, width: int) -> pa.DataType | None:
    """Return the Arrow type of a kind of column.

    Args:
        kind: The column's kind.
        width: Length of a fixed-size list (K classes or D features) where the kind has one.

    Returns:
        The type, or None where any type may pass.
    """
    simple = {
        "string": pa.string(),
        "class": pa.string(),
        "share": pa.float32(),
        "float": pa.float32(),
        "pixels": pa.float64(),
        "int": pa.int64(),
        "bool": pa.bool_(),
        "time": pa.timestamp("us", tz="UTC"),
        "bytes": pa.binary(),
        "names": pa.list_(pa.string()),
        "classes": pa.list_(pa.string()),
        "class_indices": pa.list_(pa.int32(), TOP_CLASSES),
        "class_probs": pa.list_(pa.float32(), TOP_CLASSES),
    }
    vector = {
        "probabilities": pa.list_(pa.float32(), width),
        "answers": pa.list_(pa.float32(), width),
        "votes": pa.list_(pa.float32(), width),
        "feature": pa.list_(pa.float16(), width),
    }
    return simple.get(kind) or vector.get(kind)


def conform(table: pa.Table, name: str, *, class_names: Sequence[str] = (), origin: str | None = None) -> pa.Table:
    """Return the table as the house promises it: columns in order, exact types, key sorted and unique.

    Only representations are changed (a dictionary or large string becomes a string, float64
    becomes float32); a value is never repaired.

    Args:
        table: Any Arrow table.
        name: Which table of the house it shall be.
        class_names: The K classes in order; empty leaves class names unchecked.
        origin: File or step for the error message; default: the table's name.

    Returns:
        The conforming table with name, version and class names in its schema metadata.

    Raises:
        TableError: If it breaks any promise; all faults are listed.

    Examples:
        >>> rows = pa.table({"sample_id": ["b", "a"], "reason": ["outlier", "outlier"], "score": [0.5, 1.0]})
        >>> conform(rows, "flags").column("sample_id").to_pylist()
        ['a', 'b']
    """
    spec = table_spec(name, table.column_names)
    where = origin or name
    faults = _damage(table)
    if faults:
        raise TableError(_letter(where, faults))
    columns: dict[str, pa.ChunkedArray] = {}
    for column in spec.columns:
        if column.name not in table.column_names:
            if not column.optional:
                faults.append(f"column {column.name!r} is required, but the table has {listed(table.column_names, 12)}")
            continue
        values = _typed(table.column(column.name), column, len(class_names), faults)
        if values is not None:
            columns[column.name] = values
    key = table_key(name, table.column_names)
    for column in spec.columns:
        if column.name in columns:
            faults.extend(_column_faults(columns[column.name], column, class_names, _ids(columns)))
    if all(part in columns for part in key):
        faults.extend(_key_faults(columns, key))
    faults += _box_faults(table.column_names)
    extras = [extra for extra in table.column_names if spec.open and extra not in columns]
    columns |= {extra: _carried(table.column(extra), extra, faults) for extra in extras}
    if faults:
        raise TableError(_letter(where, faults))
    metadata = {
        "labelclean.table": name,
        "labelclean.version": "1",
        "labelclean.classes": json.dumps(list(class_names)),
    }
    conformed = pa.table(columns).sort_by([(part, "ascending") for part in key])
    fields = [_with_own_metadata(field, table.schema) for field in conformed.schema]
    return pa.Table.from_arrays(conformed.columns, schema=pa.schema(fields, metadata=metadata))


def _with_own_metadata(field: pa.Field, before: pa.Schema) -> pa.Field:
    """A field with what labelclean itself noted of its column."""
    noted = (before.field(field.name).metadata or {}).items()
    return field.with_metadata({key: value for key, value in noted if key.startswith(b"labelclean.")} or None)


def table_key(name: str, column_names: Sequence[str]) -> tuple[str, ...]:
    """Return the columns that identify a row of the table as it stands.

    Args:
        name: Table of the house.
        column_names: The columns that the table at hand has.

    Returns:
        The key; that of `labels` grows by `annotator_id` where the column is there.

    Examples:
        >>> table_key("labels", ["sample_id", "given_label", "annotator_id"])
        ('sample_id', 'annotator_id')
    """
    key = TABLES[name].key
    return (*key, "annotator_id") if name == "labels" and "annotator_id" in column_names else key


def class_names_of(table: pa.Table) -> tuple[str, ...]:
    """Return the class names that a conforming table carries in its metadata.

    Args:
        table: A table that `conform` has returned, possibly read back from a file.

    Returns:
        The K class names in order, empty where none are carried.
    """
    metadata = table.schema.metadata or {}
    return tuple(json.loads(metadata.get(b"labelclean.classes", b"[]")))


def vectors(rows: npt.NDArray[np.generic]) -> pa.FixedSizeListArray:
    """Return array rows as an Arrow column without going through Python objects.

    Args:
        rows: Shape (N, W), float16 or float32.

    Returns:
        N fixed-size lists of length W.
    """
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(rows).ravel()), rows.shape[1])


def top_classes(soft_labels: npt.NDArray[np.floating]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """Return the likeliest classes of each row: soft labels of thousands of classes in 32 pairs.

    Args:
        soft_labels: Probabilities, shape (N, K), K > 32.

    Returns:
        Class index, int32, and probability, float32, each of shape (N, 32), likeliest first.
    """
    index = np.argpartition(-soft_labels, TOP_CLASSES - 1, axis=1)[:, :TOP_CLASSES]
    probs = np.take_along_axis(soft_labels, index, axis=1)
    order = np.argsort(-probs, axis=1, kind="stable")
    return np.take_along_axis(index, order, axis=1).astype(np.int32), np.take_along_axis(probs, order, axis=1).astype(
        np.float32
    )


def probability_names(name: str, column_names: Sequence[str]) -> tuple[str, ...]:
    """Return the columns that hold some probabilities in a table: all K of them, or pairs above 256 classes.

    Args:
        name: `soft_label` or `pred_probs`.
        column_names: The table's columns.

    Returns:
        `NAME`, or `NAME_topk_index` and `NAME_topk_prob`.
    """
    return (name,) if name in column_names else (f"{name}_topk_index", f"{name}_topk_prob")


def matrix(column: pa.ChunkedArray) -> npt.NDArray[np.generic]:
    """Return a column of fixed-size lists as an array.

    Args:
        column: N fixed-size lists of length W, no nulls.

    Returns:
        Shape (N, W), the lists' own dtype.
    """
    rows = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks]
    flat = np.concatenate(rows) if rows else np.empty(0, dtype=column.type.value_type.to_pandas_dtype())
    return flat.reshape(-1, column.type.list_size)


def named(indices: IntArray, names: Sequence[str]) -> pa.Array:
    """Return class names for class indices.

    Args:
        indices: int, shape (N,), in [0, K).
        names: The K names.

    Returns:
        String column of length N.
    """
    return pa.DictionaryArray.from_arrays(pa.array(indices, pa.int32()), pa.array(list(names), pa.string())).cast(
        pa.string()
    )


def probability_columns(name: str, probs: Float32Array) -> dict[str, Any]:
    """Return the columns of probabilities: all K, or above 256 classes the likeliest ones as pairs.

    Args:
        name: `soft_label` or `pred_probs`.
        probs: float32, shape (N, K).

    Returns:
        `NAME`, or `NAME_topk_index` and `NAME_topk_prob`.
    """
    if probs.shape[1] <= MANY_CLASSES:
        return {name: vectors(np.asarray(probs, dtype=np.float32))}
    index, largest = top_classes(probs)
    return {f"{name}_topk_index": vectors(index), f"{name}_topk_prob": vectors(largest)}


def _damage(table: pa.Table) -> list[str]:
    """Columns whose bytes are not what their type says, such as text that is no UTF-8."""
    faults = []
    for name in table.column_names:
        try:
            table.column(name).validate(full=True)
        except pa.ArrowInvalid as fault:
            faults.append(f"column {name!r} must hold what its type says, but: {fault}; write the table again")
    return faults


def _carried(values: pa.ChunkedArray, name: str, faults: list[str]) -> pa.ChunkedArray:
    """A column of the user's own in a type that Arrow can sort along."""
    plain = {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}
    values = values.cast(plain.get(values.type, values.type))
    try:
        values.slice(0, 1).take(pa.array([0] * min(1, len(values)), pa.int64()))
    except pa.ArrowNotImplementedError:
        faults.append(f"column {name!r} is {values.type}, which cannot be carried through; convert it or leave it out")
    return values


def _typed(values: pa.ChunkedArray, column: Column, width: int, faults: list[str]) -> pa.ChunkedArray | None:
    """The column in its promised type, or None and a fault."""
    wanted = arrow_type(column.kind, width if width else _width(values.type))
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if wanted is None or values.type == wanted:
        return values
    if _same_family(values.type, wanted):
        try:
            return values.cast(wanted)
        except pa.ArrowInvalid as fault:
            faults.append(f"column {column.name!r} must be {wanted}, but a value does not fit: {fault}")
            return None
    faults.append(
        f"column {column.name!r} must be {wanted}, but is {values.type}; convert it when the table is written"
    )
    return None


def _width(type_: pa.DataType) -> int:
    return type_.list_size if pa.types.is_fixed_size_list(type_) else 1


def _same_family(found: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether only the representation differs, not what the values mean."""
    types = pa.types
    if types.is_null(found):
        return True
    if types.is_string(wanted):
        return bool(types.is_large_string(found) or types.is_string_view(found))
    if types.is_binary(wanted):
        return bool(types.is_large_binary(found) or types.is_binary_view(found))
    if types.is_floating(wanted):
        return bool(types.is_floating(found) or (types.is_float64(wanted) and types.is_integer(found)))
    if types.is_integer(wanted):
        return bool(types.is_integer(found))
    if types.is_list(wanted) or types.is_fixed_size_list(wanted):
        is_list = types.is_list(found) or types.is_large_list(found) or types.is_fixed_size_list(found)
        return is_list and (found.value_type == wanted.value_type or _same_family(found.value_type, wanted.value_type))
    return bool(types.is_timestamp(wanted) and types.is_timestamp(found) and found.tz is not None)


def _ids(columns: dict[str, pa.ChunkedArray]) -> pa.ChunkedArray | None:
    return columns.get("sample_id")


def _where(mask: pa.ChunkedArray, ids: pa.ChunkedArray | None) -> str:
    """Which samples a mask marks, for an error message."""
    if ids is None:
        rows = pc.indices_nonzero(mask).to_pylist()
        return f"rows {', '.join(str(row) for row in rows[:5])}"
    return f"sample_ids {listed([str(value) for value in ids.filter(mask).to_pylist()])}"


def _column_faults(
    values: pa.ChunkedArray, column: Column, class_names: Sequence[str], ids: pa.ChunkedArray | None
) -> list[str]:
    """What is wrong with one column's values."""
    faults = []
    total = len(values)

    def report(mask: pa.ChunkedArray, sentence: str) -> None:
        mask = pc.fill_null(mask, False)
        bad = pc.sum(mask).as_py() or 0
        if bad:
            faults.append(
                f"column {column.name!r} {sentence}, but {bad:,} of {total:,} rows do not: {_where(mask, ids)}"
            )

    if not column.nullable:
        report(pc.is_null(values), "must hold a value in every row")
    if column.kind in ("string", "class"):
        report(pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(values)), 0), "must not be empty or blank")
    if column.kind in ("share", "float", "pixels"):
        report(pc.invert(pc.is_finite(values)), "must hold finite numbers")
    if column.kind == "share":
        report(pc.or_(pc.less(values, 0.0), pc.greater(values, 1.0)), "must lie in 0..1")
    if column.allowed or (column.kind == "class" and class_names):
        faults.extend(_value_faults(values, column, column.allowed or tuple(class_names), ids))
    if column.kind == "classes":
        faults.extend(_set_faults(values, column, class_names, ids))
    return faults


def _set_faults(
    values: pa.ChunkedArray, column: Column, class_names: Sequence[str], ids: pa.ChunkedArray | None
) -> list[str]:
    """Names inside lists that are missing, blank, or no class; each with the samples where it stands."""
    lists = values.combine_chunks()
    inside, rows = lists.flatten(), pc.list_parent_indices(lists)
    is_bad = pc.or_kleene(pc.is_null(inside), pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(inside)), 0))
    faults = []
    if bad := pc.sum(is_bad).as_py():
        mask = pa.chunked_array([pc.is_in(pa.array(range(len(lists))), value_set=rows.filter(is_bad).cast(pa.int64()))])
        faults.append(
            f"column {column.name!r} must hold lists of class names, but {bad:,} names in them are missing or blank: "
            f"{_where(mask, ids)}; an image without any label has an empty list"
        )
    if class_names:
        named = inside.filter(pc.invert(is_bad))
        of_name = None if ids is None else ids.take(rows.filter(pc.invert(is_bad)))
        as_class = Column(column.name, "class", column.meaning)
        faults.extend(_value_faults(pa.chunked_array([named]), as_class, tuple(class_names), of_name))
    return faults


def _value_faults(
    values: pa.ChunkedArray, column: Column, allowed: Sequence[str], ids: pa.ChunkedArray | None
) -> list[str]:
    """Values outside a closed list, each with its count."""
    unknown = pc.and_(pc.is_valid(values), pc.invert(pc.is_in(values, value_set=pa.array(allowed, pa.string()))))
    count = pc.sum(unknown).as_py() or 0
    if not count:
        return []
    tally = sorted(pc.value_counts(values.filter(unknown)).to_pylist(), key=lambda row: (-row["counts"], row["values"]))
    examples = ", ".join(f"{row['values']!r} ({row['counts']:,})" for row in tally[:5]) + (
        ", ..." if len(tally) > 5 else ""
    )
    what = "class names of data.class_names" if column.kind == "class" else "allowed values"
    remedy = "correct the labels or add the class" if column.kind == "class" else "correct the values"
    counts = {str(row["values"]): int(row["counts"]) for row in tally}
    twins = [
        names
        for names in alike([*allowed, *counts])
        if column.kind == "class" and set(names) & set(allowed) and set(names) - set(allowed)
    ]
    remedy += "".join(
        f", or join spellings: {joining(names, dict.fromkeys(set(names) & set(allowed), 1))}" for names in twins[:5]
    )
    return [
        f"column {column.name!r} must hold one of the {len(allowed)} {what} ({listed(sorted(allowed), 8)}), "
        f"but {count:,} of {len(values):,} rows do not: {examples}; {_where(unknown, ids)}; {remedy}"
    ]


def _box_faults(names: Sequence[str]) -> list[str]:
    """Columns of boxes that stand alone."""
    lost = [name for name in BOX_COLUMNS if name not in names]
    if not 0 < len(lost) < len(BOX_COLUMNS):
        return []
    return [f"a box needs all columns of {listed(list(BOX_COLUMNS))}, but the table has no {listed(lost)}"]


def _key_faults(columns: dict[str, pa.ChunkedArray], key: tuple[str, ...]) -> list[str]:
    """Keys that occur more than once."""
    counted = pa.table({part: columns[part] for part in key}).group_by(list(key)).aggregate([([], "count_all")])
    twice = counted.filter(pc.greater(counted.column("count_all"), 1))
    if not twice.num_rows:
        return []
    rows = pc.sum(twice.column("count_all")).as_py()
    names = [" + ".join(str(row[part]) for part in key) for row in twice.slice(0, 6).to_pylist()]
    extra = twice.num_rows - 5
    shown = listed(names[:5]) + (f" and {extra:,} more" if extra > 0 else "")
    remedy = ""
    if "given_label" in columns and "annotator_id" not in key:
        remedy = (
            ". Keep one row of each; if several people labelled a sample, name them in a column annotator_id; if these are "
            "the labels of one image, set data.several_labels: true (init: --several-labels)"
        )
    elif "given_labels" in columns and key == ("sample_id",):
        remedy = ". Keep one row of each, with all its labels in one list"
    return [
        f"key {' + '.join(key)} must be unique, but {twice.num_rows:,} keys stand in {rows:,} rows: {shown}{remedy}"
    ]


def _letter(where: str, faults: list[str]) -> str:
    if len(faults) == 1:
        return f"{where}: {faults[0]}."
    return f"{where}: {len(faults)} faults:\n" + "\n".join(f"  - {fault}." for fault in faults)
