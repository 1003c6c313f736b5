"""Reads what the report needs from a run folder, and no column more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from labelclean.errors import StorageError, TableError
from labelclean.facets import MAX_GROUPS
from labelclean.report.page import FloatArray, IntArray, Judged, RunData
from labelclean.storage import labels_dataset, read_json, read_table
from labelclean.tables import TABLES
from labelclean.votes import index_in

MAX_REJECTS = 50
DUPLICATE_SET = "duplicate_set"
_HOUSE_COLUMNS = {column.name for name in ("labels", "refined_labels") for column in TABLES[name].columns}


@dataclass(frozen=True)
class ImagePlace:
    """Where a sample's image lies and what it was when it was judged."""

    image_path: str | None
    content_hash: str | None
    given_label: str


def read_run(folder: Path, facts: Mapping[str, Any]) -> RunData:
    """Return what the report shows of a run.

    Args:
        folder: The run folder, published or still worked in.
        facts: Manifest of the run, or what of it is known.

    Returns:
        The data; what a stopped run has not written is None or empty.

    Raises:
        StorageError: If the folder holds no run, or a file is damaged.
    """
    if not (folder / "summary.json").is_file():
        raise StorageError(f"{folder}: must be a run folder with summary.json, but there is none. Name another folder.")
    summary = read_json(folder / "summary.json")
    judged = _judged(folder, summary, facts)
    flags = _table(folder, "flags", ["sample_id", "reason"]) if judged is not None else None
    conflicts = [] if flags is None else _flagged(flags, "conflict_group")
    distribution, rejects = _table(folder, "class_distribution"), _table(folder, "rejects")
    return RunData(
        summary=summary,
        facts=facts,
        distribution=[] if distribution is None else distribution.to_pylist(),
        judged=judged,
        queue=_table(folder, "review_queue") if judged is not None else None,
        conflict_ids=conflicts,
        rejects=[] if rejects is None else rejects.slice(0, MAX_REJECTS).to_pylist(),
    )


def image_places(folder: Path, sample_ids: Sequence[str]) -> dict[str, ImagePlace]:
    """Return where the images of some samples lie.

    Args:
        folder: The run folder.
        sample_ids: The samples.

    Returns:
        The place by sample id, for those that the run judged.
    """
    path = folder / "refined_labels.parquet"
    if not sample_ids or not path.is_file():
        return {}
    held = pq.read_schema(path).names
    columns = [name for name in ("sample_id", "image_path", "content_hash", "given_label") if name in held]
    table = read_table(path, "refined_labels", columns)
    rows = table.filter(pc.is_in(table.column("sample_id"), value_set=pa.array(sample_ids, pa.string()))).to_pylist()
    return {
        row["sample_id"]: ImagePlace(row.get("image_path"), row.get("content_hash"), row["given_label"]) for row in rows
    }


def _flagged(flags: pa.Table, reason: str) -> list[str]:
    ids: list[str] = flags.filter(pc.equal(flags.column("reason"), reason)).column("sample_id").to_pylist()
    return ids


def _table(folder: Path, name: str, columns: Sequence[str] | None = None) -> pa.Table | None:
    path = folder / f"{name}.parquet"
    return read_table(path, name, columns) if path.is_file() else None


def _judged(folder: Path, summary: Mapping[str, Any], facts: Mapping[str, Any]) -> Judged | None:
    path = folder / "refined_labels.parquet"
    if not path.is_file():
        return None
    names = summary["class_names"]
    table = read_table(
        path, "refined_labels", ["sample_id", "given_label", "predicted_label", "label_score", "is_label_issue"]
    )
    ids, given = table.column("sample_id"), index_in(table.column("given_label"), names)
    said, agreed = _teacher(folder, ids, table.column("given_label"))
    return Judged(
        sample_ids=ids,
        given=given,
        predicted=index_in(table.column("predicted_label"), names),
        scores=table.column("label_score").to_numpy(),
        is_issue=table.column("is_label_issue").to_numpy(),
        duplicate_set=_duplicate_set(path),
        columns=_carried(path),
        inspectors=_inspectors(facts, ids, names),
        said=said,
        agreed=agreed,
    )


def _duplicate_set(path: Path) -> IntArray | None:
    if DUPLICATE_SET not in pq.read_schema(path).names:
        return None
    column = read_table(path, "refined_labels", [DUPLICATE_SET]).column(DUPLICATE_SET)
    return np.asarray(pc.fill_null(column, -1).to_numpy(), dtype=np.int64)


def _carried(path: Path) -> dict[str, pa.ChunkedArray]:
    """Columns of the factory with few distinct values, and times; read one at a time."""
    kept: dict[str, pa.ChunkedArray] = {}
    for field in pq.read_schema(path):
        if field.name in _HOUSE_COLUMNS or field.name == DUPLICATE_SET:
            continue
        if _is_time(field.type):
            kept[field.name] = read_table(path, "refined_labels", [field.name]).column(field.name)
        elif _is_name(field.type):
            column = read_table(path, "refined_labels", [field.name]).column(field.name)
            moments = _as_times(column) if field.name == "captured_at" else None
            if moments is not None:
                kept[field.name] = moments
            elif 2 <= pc.count_distinct(column, mode="all").as_py() <= MAX_GROUPS:
                kept[field.name] = column
    return kept


def _is_time(type_: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(type_) or pa.types.is_date(type_))


def _is_name(type_: pa.DataType) -> bool:
    types = pa.types
    inner = type_.value_type if types.is_dictionary(type_) else type_
    return bool(
        types.is_string(inner) or types.is_large_string(inner) or types.is_integer(inner) or types.is_boolean(inner)
    )


def _as_times(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """A column of ISO 8601 strings as times, or None if it is something else."""
    try:
        return column.cast(pa.string()).cast(pa.timestamp("us", tz="UTC"))
    except pa.ArrowInvalid:
        pass
    try:
        return column.cast(pa.string()).cast(pa.timestamp("us"))
    except pa.ArrowInvalid:
        return None


def _inspectors(
    facts: Mapping[str, Any], ids: pa.ChunkedArray, names: Sequence[str]
) -> tuple[pa.ChunkedArray, IntArray, IntArray] | None:
    """Every single label with who gave it, from the labels that the run read, if they are still there."""
    labels = ((facts.get("config") or {}).get("data") or {}).get("labels")
    try:
        dataset = labels_dataset(Path(labels)) if labels else None
        if dataset is None or "annotator_id" not in dataset.schema.names:
            return None
        table = dataset.to_table(columns=["sample_id", "annotator_id", "given_label"])
    except (TableError, OSError, pa.ArrowInvalid):
        return None
    table = table.cast(pa.schema([(name, pa.string()) for name in table.column_names]))
    rows = pc.index_in(table.column("sample_id"), value_set=ids.combine_chunks())
    given = pc.index_in(table.column("given_label"), value_set=pa.array(names, pa.string()))
    is_known = pc.and_(pc.is_valid(rows), pc.is_valid(given))
    if not pc.any(is_known).as_py():
        return None
    people = table.column("annotator_id").filter(is_known)
    return people, rows.filter(is_known).to_numpy(), given.filter(is_known).to_numpy()


def _teacher(
    folder: Path, ids: pa.ChunkedArray, given: pa.ChunkedArray
) -> tuple[FloatArray | None, npt.NDArray[np.bool_] | None]:
    """Probability of the teacher's best class and whether it is the given one; the vectors are read in parts."""
    path = folder / "teacher_predictions.parquet"
    if not path.is_file():
        return None, None
    table = read_table(path, "teacher_predictions", ["sample_id", "top1_label"])
    if not table.column("sample_id").equals(ids):
        return None, None
    said = []
    # a million samples of 200 classes are 0.8 GB: row by row of the file, and only the largest is kept
    for batch in pq.ParquetFile(path).iter_batches(batch_size=16_384, columns=["pred_probs"]):
        vectors = batch.column("pred_probs")
        said.append(vectors.flatten().to_numpy().reshape(-1, vectors.type.list_size).max(axis=1))
    return np.concatenate(said) if said else None, np.asarray(pc.equal(table.column("top1_label"), given).to_numpy())
