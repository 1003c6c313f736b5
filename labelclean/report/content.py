"""From a run's summary, manifest and tables to what the report shows: numbers and names, no files, words or markup."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import PurePath
from typing import Any

import numpy as np

from labelclean.arrays import FloatArray, IntegerArray
from labelclean.noise.promise import promise_of
from labelclean.report.gallery import audit_samples, leak_sets_of, suspects_of, twins_of
from labelclean.report.page import (
    AgreementLine,
    Bin,
    Certainty,
    ClassRow,
    Confusion,
    Count,
    JudgedCounts,
    Page,
    Pair,
    ReliabilityBin,
    RunData,
    Suspect,
    TwinSets,
)
from labelclean.review.part_views import OF_PART, num_judged
from labelclean.review.queue import estimate_queue

MAX_MATRIX = 15
FEW_CLASSES = 15
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
    issues = summary.get("label_issues")
    suspects = suspects_of(run.queue, names, top)
    return Page(
        dataset=str(run.facts.get("dataset") or ""),
        verdict=summary["verdict"],
        sentence=summary["verdict_sentence"],
        num_samples=summary["num_samples"],
        num_rejects=summary["num_rejects"],
        num_judged=num_judged(summary),
        of_part=summary.get(OF_PART),
        num_issues=issues["num"] if issues else None,
        num_changed=issues.get("would_change") if issues else None,
        num_waiting=issues.get("waits_for_eyes") if issues else None,
        promise=promise_of(summary),
        errors=Count(issues["expected"], issues["low"], issues["high"]) if issues else None,
        one_class=summary.get("one_class"),
        costs=summary.get("costs"),
        num_queue=0 if run.queue is None else run.queue.num_rows,
        queue_errors=_queue_errors(run),
        queue_minutes=(summary.get("queue") or {}).get("minutes"),
        num_settled=(summary.get("reviewed") or {}).get("settled", 0),
        cause=refinement.get("cause"),
        gates=tuple(sorted(summary["gates"], key=lambda gate: ("refuse", "warn", "pass").index(gate["outcome"]))),
        requested=refinement.get("requested"),
        method=refinement.get("method"),
        names=names,
        classes=_classes(run, names),
        confusion=_confusion(judged, suspects, len(names)),
        suspects=suspects,
        twins=TwinSets() if judged is None else twins_of(judged.twins, names, audit_samples(run.queue)),
        doubles=TwinSets() if judged is None else twins_of(judged.doubles, names),
        new_kinds=summary.get("new_kinds") or (),
        leaks=summary.get("leaks"),
        leak_sets=() if judged is None else leak_sets_of(judged.leaks),
        unusable=summary.get("unusable"),
        shortcuts=summary.get("shortcuts") or (),
        agreements=_agreements(summary.get("inspectors") or {}),
        facets=() if judged is None else judged.facets,
        certainty=_certainty(run),
        reject_codes=dict(sorted(summary["rejects"].items(), key=lambda item: (-item[1], item[0]))),
        rejects=tuple(run.rejects),
        reference=summary.get("reference"),
        how=how_it_was_done(run.facts, refinement.get("method")),
    )


def score_histogram(counts: IntegerArray) -> tuple[Bin, ...]:
    """Return the labels by tenths of their score.

    Args:
        counts: From `counts.score_counts`, shape (10, 2).

    Returns:
        Ten bins.
    """
    return tuple(Bin(k / 10, (k + 1) / 10, num, issues) for k, (num, issues) in enumerate(counts.tolist()))


def reliability_bins(sums: FloatArray) -> tuple[ReliabilityBin, ...]:
    """Return how often what the teacher says holds, by tenths of what it says.

    Args:
        sums: From `counts.said_sums`, shape (10, 3).

    Returns:
        One bin per tenth that has labels.

    Examples:
        >>> reliability_bins(np.array([[0, 0.0, 0], [2, 0.25, 1]]))
        (ReliabilityBin(said=0.125, agreed=0.5, num=2),)
    """
    return tuple(ReliabilityBin(said / num, held / num, int(num)) for num, said, held in sums.tolist() if num)


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
        ("window", "text", facts.get("window")),
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
        pairs = run.judged.pairs
        counts = np.bincount(pairs[:, 1], weights=pairs[:, 2], minlength=len(names)).astype(np.int64)
        after = dict(zip(names, counts.tolist(), strict=True))
    label_issues = run.summary.get("label_issues") or {}
    issues = {row["class_name"]: row["num"] for row in label_issues.get("by_class", [])}
    changed = {
        row["class_name"]: row.get("lost") for row in label_issues.get("by_class", []) if "would_change" in label_issues
    }
    rows = [
        ClassRow(
            row["class_name"],
            row["num_samples"],
            row["share"],
            after.get(row["class_name"]),
            issues.get(row["class_name"]),
            changed.get(row["class_name"]),
            row.get("reference_share"),
        )
        for row in run.distribution
    ]
    if len(rows) > FEW_CLASSES:  # of many classes those come first that have something to look at
        return tuple(sorted(rows, key=lambda row: (-(row.issues or 0), -row.now, row.name)))
    return tuple(sorted(rows, key=lambda row: (-row.now, row.name)))


def _agreements(inspectors: Mapping[str, Any]) -> tuple[AgreementLine, ...]:
    """What the summary knows of several people who judged the same samples."""
    measured = [(kind, inspectors.get(kind)) for kind in ("labels", "reviews")]
    return tuple(
        AgreementLine(kind, len(one["inspectors"]), one["agreement"], one["num_shared"], one["num_disputed"])
        for kind, one in measured
        if one and one["agreement"] is not None
    )


def _certainty(run: RunData) -> Certainty:
    """How labels lie by score, and whether what the teacher says holds."""
    judged, teacher = run.judged, run.summary.get("teacher") or {}
    return Certainty(
        histogram=() if judged is None else score_histogram(judged.scores),
        reliability=() if judged is None or judged.said is None else reliability_bins(judged.said),
        calibration_error=teacher.get("calibration_error"),
    )


def _confusion(judged: JudgedCounts | None, suspects: tuple[Suspect, ...], num_classes: int) -> Confusion:
    """Differences between given and suggested class, as a matrix where there are few classes."""
    if judged is None:
        return Confusion()
    pairs = _pairs(judged, suspects)
    matrix = _matrix(judged, num_classes) if num_classes <= MAX_MATRIX else None
    return Confusion(pairs[:MAX_PAIRS], len(pairs), matrix)


def _matrix(judged: JudgedCounts, num_classes: int) -> IntegerArray:
    counts = np.zeros((num_classes, num_classes), dtype=np.int64)
    counts[judged.pairs[:, 0], judged.pairs[:, 1]] = judged.pairs[:, 2]
    return counts


def _pairs(judged: JudgedCounts, suspects: tuple[Suspect, ...]) -> tuple[Pair, ...]:
    """Every difference between given and suggested class, most frequent first."""
    moved = judged.pairs[judged.pairs[:, 0] != judged.pairs[:, 1]]
    shown: dict[tuple[int, int | None], int] = {}
    for suspect in suspects:
        shown[suspect.given, suspect.predicted] = shown.get((suspect.given, suspect.predicted), 0) + 1
    order = np.argsort(-moved[:, 2], kind="stable")
    return tuple(
        Pair(given, predicted, num, shown.get((given, predicted), 0)) for given, predicted, num in moved[order].tolist()
    )
