"""Reads what the report needs from a run folder, and no column more; tables of all labels a few rows at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from labelclean.errors import StorageError
from labelclean.report.counts import pair_counts, said_sums, score_counts
from labelclean.report.origin import DUPLICATE_SET, SCORE, facets_of
from labelclean.report.page import JudgedCounts, Leak, RunData, Twins
from labelclean.review.leaks import LEAK_SET, SPLIT
from labelclean.review.part_views import OF_PART, PART
from labelclean.storage.parquet import read_batches, read_json, read_table, table_schema
from labelclean.storage.samples import index_in
from labelclean.storage.tables import BOX_COLUMNS, REFINED, matrix, probability_names

MAX_REJECTS = 50
MAX_LEAK_SETS = 12
_LEAK_COLUMNS = ("sample_id", "given_label", SPLIT, LEAK_SET)


def read_run(folder: Path, facts: Mapping[str, Any], spill: Path) -> RunData:
    """Return what the report shows of a run.

    Args:
        folder: The run folder, published or still worked in.
        facts: Manifest of the run, or what of it is known.
        spill: Folder for what does not fit into memory.

    Returns:
        The data; what a stopped run has not written is None or empty.

    Raises:
        StorageError: If the folder holds no run, or a file is damaged.
    """
    if not (folder / "summary.json").is_file():
        raise StorageError(f"{folder}: must be a run folder with summary.json, but there is none. Name another folder.")
    summary = read_json(folder / "summary.json")
    judged = _judged(folder, facts, summary["class_names"], spill, of_part=OF_PART in summary)
    distribution = _table(folder, "class_distribution")
    return RunData(
        summary=summary,
        facts=facts,
        distribution=[] if distribution is None else distribution.to_pylist(),
        judged=judged,
        queue=_table(folder, "review_queue") if judged is not None else None,
        rejects=first_rejects(folder / "rejects.parquet"),
    )


def _table(folder: Path, name: str) -> pa.Table | None:
    path = folder / f"{name}.parquet"
    return read_table(path, name) if path.is_file() else None


def first_rejects(path: Path) -> list[dict[str, Any]]:
    """Return the first rejected images; none where there is no such file."""
    if not path.is_file():
        return []
    names = table_schema(path, "rejects").names
    first = next(read_batches(path, "rejects", names, MAX_REJECTS), None)
    return [] if first is None else first.to_pylist()


def _judged(
    folder: Path, facts: Mapping[str, Any], names: Sequence[str], spill: Path, *, of_part: bool
) -> JudgedCounts | None:
    """Counts over all labels in one pass, each part once; only samples that have a twin are kept one by one."""
    path = folder / f"{REFINED}.parquet"
    if not path.is_file():
        return None
    conflicts = _flagged(folder / "flags.parquet", "conflict_group")
    doubles = (
        _flagged(folder / "flags.parquet", "box_double") if BOX_COLUMNS[0] in table_schema(path, REFINED).names else []
    )
    columns = ["sample_id", "given_label", "predicted_label", SCORE, "is_label_issue"]
    columns += [DUPLICATE_SET] if DUPLICATE_SET in table_schema(path, REFINED).names else []
    has_leaks = LEAK_SET in table_schema(path, REFINED).names
    columns += [LEAK_SET, SPLIT] if has_leaks else []
    columns += [PART] if of_part else []
    counted: set[str] = set()
    leaks: list[Leak] = []
    pairs: Counter[tuple[int, int]] = Counter()
    scores = np.zeros((10, 2), dtype=np.int64)
    twins: list[pa.Table] = []
    twice: list[pa.Table] = []
    for table in read_batches(path, REFINED, columns):
        once = table.filter(_first_of_parts(table.column(PART), counted)) if of_part else table
        given, predicted = (index_in(once.column(name), names) for name in ("given_label", "predicted_label"))
        pairs.update(pair_counts(given, predicted))
        scores += score_counts(once.column(SCORE).to_numpy(), once.column("is_label_issue").to_numpy())
        if len(conflicts):
            twins.append(table.filter(pc.is_in(table.column("sample_id"), value_set=conflicts)))
        if len(doubles):
            twice.append(table.filter(pc.is_in(table.column("sample_id"), value_set=doubles)))
        if has_leaks:
            shown = table.filter(pc.less(table.column(LEAK_SET), MAX_LEAK_SETS))
            rows = zip(*(shown.column(name).to_pylist() for name in _LEAK_COLUMNS), strict=True)
            leaks += [Leak(sample, given, str(split), number) for sample, given, split, number in rows]
    return JudgedCounts(
        pairs=np.array([(*pair, num) for pair, num in sorted(pairs.items())], dtype=np.int64).reshape(-1, 3),
        scores=scores,
        said=_said(path, folder / "teacher_predictions.parquet"),
        twins=_twins(twins, names),
        doubles=_twins(twice, names),
        facets=facets_of(path, facts, names, spill),
        leaks=tuple(leaks),
    )


def _first_of_parts(parts: pa.ChunkedArray, counted: set[str]) -> pa.Array:
    """Which images are the first of their part, or of none; notes the parts."""
    is_first = []
    for part in parts.to_pylist():
        is_first.append(part is None or part not in counted)
        counted |= {part} if part is not None else set()
    return pa.array(is_first)


def _flagged(path: Path, reason: str) -> pa.Array:
    """Samples flagged with a reason."""
    sources = []
    for table in read_batches(path, "flags", ["sample_id", "reason"]) if path.is_file() else ():
        sources += table.filter(pc.equal(table.column("reason"), reason)).column("sample_id").chunks
    return pa.concat_arrays(sources) if sources else pa.array([], pa.string())


def _twins(tables: Sequence[pa.Table], names: Sequence[str]) -> Twins:
    if not tables:
        none = np.empty(0, dtype=np.int64)
        return Twins((), none, none, none.astype(np.float32))
    table = pa.concat_tables(tables)
    sets = table.column(DUPLICATE_SET) if DUPLICATE_SET in table.column_names else None
    return Twins(
        table.column("sample_id").to_pylist(),
        index_in(table.column("given_label"), names),
        index_in(table.column("predicted_label"), names),
        table.column(SCORE).to_numpy(),
        None if sets is None else np.asarray(pc.fill_null(sets, -1).to_numpy(), dtype=np.int64),
    )


def _said(path: Path, predictions: Path) -> npt.NDArray[np.float64] | None:
    """What the teacher says and how often it holds; None where it has not judged the same samples."""
    if not predictions.is_file():
        return None
    name = probability_names("pred_probs", table_schema(predictions, "teacher_predictions").names)[-1]
    judged = read_batches(path, REFINED, ["sample_id", "given_label"])
    taught = read_batches(predictions, "teacher_predictions", ["sample_id", "top1_label", name])
    sums = np.zeros((10, 3))
    for one, said in zip_longest(judged, taught):
        if one is None or said is None or not one.column("sample_id").equals(said.column("sample_id")):
            return None
        agreed = pc.equal(said.column("top1_label"), one.column("given_label")).to_numpy()
        sums += said_sums(matrix(said.column(name)).max(axis=1), agreed)
    return sums
