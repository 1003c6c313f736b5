"""From a run's summary, manifest and tables to what the report shows: numbers and names, no files, words or markup."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import PurePath
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from labelclean.facets import Facet, group_facet, time_facet
from labelclean.report.gallery import suspects_of, twins_of
from labelclean.report.page import (
    Bin,
    ClassRow,
    Count,
    FloatArray,
    IntArray,
    Judged,
    Page,
    Pair,
    ReliabilityBin,
    RunData,
    Suspect,
)
from labelclean.review import estimate_queue

MAX_MATRIX = 15
MAX_PAIRS = 30


def page_content(run: RunData, *, top: int) -> Page:
    """Return what the report of a run shows.

    Args:
        run: What the run folder holds.
        top: Most samples in the gallery.

    Returns:
        The page.
    """
    summary, judged = run.summary, run.judged
    names = tuple(summary["class_names"])
    refinement = summary.get("refinement") or {}
    found = summary.get("label_issues")
    suspects = suspects_of(run.queue, names, top)
    pairs = () if judged is None else _pairs(judged, len(names), suspects)
    sets, num_sets, loose = ((), 0, ()) if judged is None else twins_of(judged, run.conflict_ids, names)
    return Page(
        dataset=str(run.facts.get("dataset") or ""),
        verdict=summary["verdict"],
        sentence=summary["verdict_sentence"],
        num_samples=summary["num_samples"],
        num_rejects=summary["num_rejects"],
        num_issues=found["num"] if found else None,
        errors=Count(found["expected"], found["low"], found["high"]) if found else None,
        num_queue=0 if run.queue is None else run.queue.num_rows,
        queue_errors=_queue_errors(run),
        gates=tuple(sorted(summary["gates"], key=lambda gate: ("refuse", "warn", "pass").index(gate["outcome"]))),
        requested=refinement.get("requested"),
        method=refinement.get("method"),
        names=names,
        classes=_classes(run, names),
        pairs=pairs[:MAX_PAIRS],
        num_pairs=len(pairs),
        matrix=_matrix(judged, len(names)) if judged is not None and len(names) <= MAX_MATRIX else None,
        suspects=suspects,
        twin_sets=sets,
        num_twin_sets=num_sets,
        loose_twins=loose,
        num_twins=len(run.conflict_ids),
        facets=() if judged is None else _facets(judged),
        histogram=() if judged is None else score_histogram(judged.scores, judged.is_issue),
        reliability=_reliability(judged),
        calibration_error=refinement.get("teacher_calibration_error"),
        reject_codes=dict(sorted(summary["rejects"].items(), key=lambda item: (-item[1], item[0]))),
        rejects=tuple(run.rejects),
        how=how_it_was_done(run.facts, refinement.get("method")),
    )


def score_histogram(scores: FloatArray, is_issue: npt.NDArray[np.bool_]) -> tuple[Bin, ...]:
    """Return the labels by tenths of their score.

    Args:
        scores: Chance that the given label is right, shape (N,), in [0, 1].
        is_issue: Whether it looks wrong, shape (N,).

    Returns:
        Ten bins; 1.0 falls into the last.

    Examples:
        >>> [b.num for b in score_histogram(np.array([0.0, 0.1, 1.0]), np.array([True, True, False]))]
        [1, 1, 0, 0, 0, 0, 0, 0, 0, 1]
    """
    tenths = _tenths(scores)
    nums, issues = np.bincount(tenths, minlength=10), np.bincount(tenths[is_issue], minlength=10)
    return tuple(Bin(k / 10, (k + 1) / 10, int(nums[k]), int(issues[k])) for k in range(10))


def reliability_bins(said: FloatArray, agreed: npt.NDArray[np.bool_]) -> tuple[ReliabilityBin, ...]:
    """Return how often what the teacher says holds, by tenths of what it says.

    Args:
        said: Probability of its best class, shape (N,).
        agreed: Whether the given label is that class, shape (N,).

    Returns:
        One bin per tenth that has labels.

    Examples:
        >>> reliability_bins(np.array([0.5, 0.5]), np.array([True, False]))
        (ReliabilityBin(said=0.5, agreed=0.5, num=2),)
    """
    tenths = _tenths(said)
    nums = np.bincount(tenths, minlength=10)
    sums, hits = np.bincount(tenths, said, 10), np.bincount(tenths, agreed, 10)
    return tuple(
        ReliabilityBin(float(sums[k] / nums[k]), float(hits[k] / nums[k]), int(nums[k])) for k in range(10) if nums[k]
    )


def how_it_was_done(facts: Mapping[str, Any], method: str | None) -> tuple[tuple[str, str, Any], ...]:
    """Return what is needed to repeat a run, as far as it is known.

    Args:
        facts: Manifest of the run, or what of it is known before the run is published.
        method: Refinement used.

    Returns:
        (name, kind, value) with kind `text`, `number`, `seconds`, `bytes`, `time`, `method`,
        `steps` or `versions`.
    """
    config, backbone = facts.get("config") or {}, facts.get("backbone") or {}
    teacher = config.get("teacher") or {}
    weights = (config.get("backbone") or {}).get("weights")
    steps = sorted((facts.get("step_seconds") or {}).items(), key=lambda item: (-item[1], item[0]))
    rows = (
        ("dataset", "text", facts.get("dataset")),
        ("run_id", "text", facts.get("run_id")),
        ("started_at", "time", facts.get("started_at")),
        ("seconds", "seconds", _seconds(facts)),
        ("step_seconds", "steps", tuple(steps[:3]) or None),
        ("peak_memory_bytes", "bytes", facts.get("peak_memory_bytes")),
        ("host", "text", facts.get("host")),
        ("device", "text", facts.get("device")),
        ("backbone", "text", backbone.get("name")),
        ("weights", "text", PurePath(weights).name if weights else None),
        ("digest", "text", backbone["digest"][:16] if backbone.get("digest") else None),
        ("seed", "text", facts.get("seed")),
        ("method", "method", method),
        ("neighbours", "text", (config.get("neighbours") or {}).get("method")),
        ("folds", "number", teacher.get("folds")),
        ("repeats", "number", teacher.get("repeats")),
        ("image_window", "text", (config.get("decode") or {}).get("window")),
        ("versions", "versions", tuple((facts.get("versions") or {}).items()) or None),
    )
    return tuple(row for row in rows if row[2] is not None)


def _seconds(facts: Mapping[str, Any]) -> float | None:
    if "started_at" not in facts or "finished_at" not in facts:
        return None
    start, end = (datetime.fromisoformat(facts[key]) for key in ("started_at", "finished_at"))
    return (end - start).total_seconds()


def _queue_errors(run: RunData) -> Count | None:
    """What the queue should bring: the run's own estimate, or the same estimate from its scores."""
    if run.queue is None or run.judged is None:
        return None
    record = run.summary.get("queue")
    if record:
        return Count(record["expected"], record["low"], record["high"])
    scores = run.queue.column("label_score").to_numpy().astype(np.float64)
    estimate = estimate_queue(scores, np.arange(len(scores)), np.zeros(len(scores), dtype=bool))
    return Count(estimate.expected_errors, estimate.low, estimate.high)


def _classes(run: RunData, names: tuple[str, ...]) -> tuple[ClassRow, ...]:
    after: dict[str, int] = {}
    if run.judged is not None:
        counts = np.bincount(run.judged.predicted, minlength=len(names)).tolist()
        after = dict(zip(names, counts, strict=True))
    found = run.summary.get("label_issues") or {}
    issues = {row["class_name"]: row["num"] for row in found.get("by_class", [])}
    rows = [
        ClassRow(
            row["class_name"],
            row["num_samples"],
            row["share"],
            after.get(row["class_name"]),
            issues.get(row["class_name"]),
            row.get("reference_share"),
        )
        for row in run.distribution
    ]
    return tuple(sorted(rows, key=lambda row: (-row.now, row.name)))


def _matrix(judged: Judged, num_classes: int) -> IntArray:
    codes = judged.given.astype(np.int64) * num_classes + judged.predicted
    return np.bincount(codes, minlength=num_classes**2).reshape(num_classes, num_classes)


def _pairs(judged: Judged, num_classes: int, suspects: tuple[Suspect, ...]) -> tuple[Pair, ...]:
    """Every difference between given and suggested class, most frequent first."""
    moved = judged.given != judged.predicted
    codes = judged.given[moved].astype(np.int64) * num_classes + judged.predicted[moved]
    values, counts = np.unique(codes, return_counts=True)
    shown: dict[tuple[int, int | None], int] = {}
    for suspect in suspects:
        shown[suspect.given, suspect.predicted] = shown.get((suspect.given, suspect.predicted), 0) + 1
    order = np.lexsort((values, -counts))
    pairs = ((*divmod(int(values[k]), num_classes), int(counts[k])) for k in order)
    return tuple(Pair(given, predicted, num, shown.get((given, predicted), 0)) for given, predicted, num in pairs)


def _facets(judged: Judged) -> tuple[Facet, ...]:
    """Groups of every carried column, then inspectors, then time."""
    wrong = 1.0 - judged.scores.astype(np.float64)
    groups: list[Facet | None] = []
    times: list[Facet | None] = []
    for name, column in (judged.columns or {}).items():
        if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
            moments = column.cast(pa.timestamp("us")).to_numpy().astype("datetime64[us]")
            times.append(time_facet(name, moments, wrong))
        else:
            codes, values = coded(column)
            groups.append(group_facet(name, codes, values, wrong))
    if judged.inspectors is not None:
        people, rows, given = judged.inspectors
        # a label that lost the vote is right only where it is the suggested one
        lost = np.where(judged.predicted[rows] == given, judged.scores[rows], 1.0)
        chance = np.where(given == judged.given[rows], wrong[rows], lost)
        codes, values = coded(people)
        groups.append(group_facet("annotator_id", codes, values, chance, is_inspectors=True))
    return tuple(facet for facet in groups + times if facet is not None)


def coded(column: pa.ChunkedArray) -> tuple[IntArray, list[str | None]]:
    """Return a column as indices into its distinct values.

    Args:
        column: Any simple values, length N.

    Returns:
        Indices, shape (N,), and the values as text, None for missing.

    Examples:
        >>> coded(pa.chunked_array([["B", None, "B"]]))
        (array([0, 1, 0], dtype=int32), ['B', None])
    """
    encoded = pc.dictionary_encode(column, null_encoding="encode").combine_chunks()
    values = [None if value is None else str(value) for value in encoded.dictionary.to_pylist()]
    return encoded.indices.to_numpy(zero_copy_only=False), values


def _reliability(judged: Judged | None) -> tuple[ReliabilityBin, ...]:
    if judged is None or judged.said is None or judged.agreed is None:
        return ()
    return reliability_bins(judged.said, judged.agreed)


def _tenths(values: FloatArray) -> IntArray:
    """Tenth that each value lies in; the small allowance keeps 0.3 from falling under 3/10."""
    return np.clip(np.floor(np.asarray(values, dtype=np.float64) * 10 + 1e-6), 0, 9).astype(np.int64)
