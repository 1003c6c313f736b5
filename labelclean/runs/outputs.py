"""From arrays to the tables and numbers that a run leaves: names instead of indices, ids instead of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from labelclean.noise.distribution import class_correlation
from labelclean.noise.model import posterior
from labelclean.noise.promise import RANDOM_LOOKS
from labelclean.noise.readings import NO_LOOKS, AuditEvidence
from labelclean.noise.tally import Tally, mean_confidence
from labelclean.noise.top2 import top2_candidates, top2_margin
from labelclean.probes.neighbours import neighbours_record
from labelclean.review.facets import holds_names
from labelclean.review.leaks import LEAK_SET
from labelclean.runs.gates import TeacherMeasurements
from labelclean.storage.tables import READINGS, TABLES, named, probability_columns

if TYPE_CHECKING:
    from labelclean.arrays import Float32Array, FloatArray, IntArray
    from labelclean.cleaning.teacher import Teacher
    from labelclean.labels import GivenLabels
    from labelclean.noise.readings import Beliefs, Readings
    from labelclean.noise.trust import JudgedLabels
    from labelclean.probes.feature_space import FeatureSpace
    from labelclean.review.decisions import Standing
    from labelclean.review.flags import Flags
    from labelclean.review.queue import Queue, QueueEstimate


def predictions_table(
    ids: pa.Array, pred_probs: Float32Array, agreement: Float32Array | None, names: Sequence[str]
) -> pa.Table:
    """Return the table `teacher_predictions` from arrays.

    Args:
        ids: Sample ids, length N.
        pred_probs: float32, shape (N, K).
        agreement: Top-2 agreement, float32, shape (N,), NaN where not known; None: nowhere.
        names: The K class names.

    Returns:
        N rows.
    """
    pair = top2_candidates(pred_probs)
    known = pa.nulls(len(ids), pa.float32()) if agreement is None else pa.array(agreement, mask=np.isnan(agreement))
    return pa.table(
        {"sample_id": ids}
        | probability_columns("pred_probs", pred_probs)
        | {
            "top1_label": named(pair[:, 0], names),
            "runner_up_label": named(pair[:, 1], names),
            "top2_margin": np.clip(top2_margin(pred_probs), 0, 1),
            "top2_agreement": known,
        }
    )


def teacher_measurements(teacher: Teacher, labels: GivenLabels, names: Sequence[str]) -> TeacherMeasurements:
    """Return what the second gate looks at.

    Args:
        teacher: The out-of-fold teacher.
        labels: Given labels of the same samples.
        names: The K class names.

    Returns:
        The measurements.
    """
    shares = labels.votes.mean(axis=0, dtype=np.float64)
    chance = float((shares[shares > 0] * np.log(shares[shares > 0])).sum())
    soft = posterior(teacher.fit.probs, labels, teacher.fit.matrix)
    return TeacherMeasurements(
        num_classes=len(names),
        mean_agreement=teacher.top2.mean_agreement,
        unstable_share=teacher.top2.unstable_share,
        worst_classes=tuple(names[k] for k in teacher.top2.worst_classes),
        coverage=teacher.top2.coverage,
        likelihood_gain=teacher.log_likelihood - chance,
        noise_matrix=teacher.noise.matrix,
        estimated_noise=float(1 - soft[np.arange(len(labels)), labels.given].mean()),
        exceeds_chance=teacher.exceeds_chance,
    )


def judged_table(
    samples: pa.Table, judged: JudgedLabels, sets: IntArray, names: Sequence[str], leak_sets: IntArray | None = None
) -> pa.Table:
    """Return the table `refined_labels` from what was found about the samples.

    Args:
        samples: Table `samples`, N rows.
        judged: What was found about them.
        sets: Number of the near-duplicate set, int64, shape (N,), -1 for samples in none.
        names: The K class names.
        leak_sets: Number of the set that stands in more than one split, int64, shape (N,), -1 for samples in none; None
            without splits.

    Returns:
        N rows.
    """
    columns = probability_columns("soft_label", judged.soft_labels) | {
        "predicted_label": named(judged.predicted, names),
        "label_score": judged.label_scores,
        "is_label_issue": judged.is_label_issue,
        "duplicate_set": pa.array(sets, pa.int64(), mask=sets < 0),
    }
    if leak_sets is not None:
        columns[LEAK_SET] = pa.array(leak_sets, pa.int64(), mask=leak_sets < 0)
    taken = {column.name for column in TABLES["refined_labels"].columns} & set(columns)
    carried = {name: samples.column(name) for name in samples.column_names if name not in taken}
    return pa.table(carried | columns)


def noise_by_column(refined: pa.Table) -> dict[str, dict[str, tuple[float, float]]]:
    """Return labels and expected number of wrong ones by line, shift and camera, where the columns are there.

    Args:
        refined: Table `refined_labels`.

    Returns:
        Column -> value -> both numbers; values beyond the 200 most frequent are left out.
    """
    ranges: dict[str, dict[str, tuple[float, float]]] = {}
    wrong = pa.compute.subtract(1.0, refined.column("label_score").cast(pa.float64()))
    for name in ("line", "shift", "camera"):
        if name in refined.column_names and holds_names(refined.column(name).type):
            both = pa.table({"value": refined.column(name).cast(pa.string()), "wrong": wrong})
            sums = both.group_by("value").aggregate([("wrong", "count"), ("wrong", "sum")]).to_pylist()
            sums.sort(key=lambda row: (-row["wrong_count"], str(row["value"])))
            rows = sorted(sums[:200], key=lambda row: str(row["value"]))
            ranges[name] = {str(row["value"]): (float(row["wrong_count"]), row["wrong_sum"]) for row in rows}
    return ranges


def flag_table(ids: Sequence[str], flags: Flags) -> pa.Table:
    """Return the table `flags`.

    Args:
        ids: Sample ids, length N.
        flags: The reasons.

    Returns:
        One row per sample and reason.
    """
    return pa.table(
        {
            "sample_id": pa.array(ids, pa.string()).take(pa.array(flags.rows)),
            "reason": pa.array(flags.reasons.tolist(), pa.string()),
            "score": flags.scores,
        }
    )


def standing_record(standing: Standing) -> dict[str, int]:
    """Return how many samples people have decided, for the summary.

    Args:
        standing: What the ledger says of the samples.

    Returns:
        Counts.
    """
    partial = ~standing.candidates.all(axis=1) & ~standing.is_settled
    none = int(standing.fits_none.sum())
    return {
        "settled": int(standing.is_settled.sum()),
        "partial": int(partial.sum()),
        "disputed": int(standing.is_disputed.sum()),
        "bad_image": int(standing.is_excluded.sum()) - none,
    } | ({"none_of_these": none} if none else {})


def queue_record(queue: Queue, estimate: QueueEstimate, seconds_per_sample: float) -> dict[str, Any]:
    """Return the queue's numbers for the summary.

    Args:
        queue: The queue.
        estimate: What it should bring.
        seconds_per_sample: How long one sample takes a person.

    Returns:
        JSON values.
    """
    return {
        "num": len(queue.rows),
        "minutes": round(len(queue.rows) * seconds_per_sample / 60, 1),
        "expected": round(estimate.expected_errors, 2),
        "low": round(estimate.low, 2),
        "high": round(estimate.high, 2),
        "expected_left": round(estimate.expected_left, 2),
        "doubt": {key: round(value, 4) for key, value in asdict(estimate.doubt).items()},
        "by_source": {source: queue.sources.count(source) for source in sorted(set(queue.sources))},
    }


def teacher_record(teacher: Teacher, labels: GivenLabels, space: FeatureSpace, names: Sequence[str]) -> dict[str, Any]:
    """Return what was measured on the teacher and on how close the classes lie, for the summary.

    Args:
        teacher: The teacher.
        labels: Given labels of N samples.
        space: Their features.
        names: The K class names.

    Returns:
        JSON values.
    """
    correlation = class_correlation(labels.votes.T @ space.design.unit_rows, labels.votes.sum(axis=0))
    closest = np.argwhere(np.triu(np.ones_like(correlation, dtype=bool), 1))
    closest = closest[np.argsort(-correlation[tuple(closest.T)], kind="stable")][:5]
    top2 = teacher.top2
    return {
        "log_likelihood": round(teacher.log_likelihood, 5),
        "calibration_error": round(teacher.calibration_error, 4),
        "top2_agreement": _rounded(top2.mean_agreement),
        "unstable_share": _rounded(top2.unstable_share),
        "top2_coverage": _rounded(top2.coverage),
        "narrow_margin_share": _rounded(top2.narrow_margin_share),
        "neighbours": neighbours_record(space.neighbours),
        "similarity_within_class": {name: round(float(correlation[k, k]), 4) for k, name in enumerate(names)},
        "closest_classes": [[names[a], names[b], round(float(correlation[a, b]), 4)] for a, b in closest.tolist()],
    }


def refinement_record(
    requested: str,
    method: str,
    why: str,
    noise_matrix: FloatArray,
    tally: Tally,
    readings: Readings,
    names: Sequence[str],
    earlier: AuditEvidence = NO_LOOKS,
) -> dict[str, Any]:
    """Return the refinement's numbers for the summary.

    Args:
        requested: `refine.method`.
        method: The refinement that was used.
        why: The sentence that says why.
        noise_matrix: C, shape (K, K).
        tally: What was counted over all samples.
        readings: The readings behind it, and how far each is believed.
        names: The K class names.
        earlier: Random looks at samples of earlier runs that the readings know.

    Returns:
        JSON values.
    """
    estimate = tally.errors(readings)
    by_class = [
        {
            "class_name": name,
            "num_samples": int(tally.given[k]),
            "num": int(tally.issues[k]),
            "expected": round(float(estimate.per_class[k]), 2),
            "lost": int(tally.lost[k]),
            "gained": int(tally.gained[k]),
        }
        for k, name in enumerate(names)
    ]
    before, after = mean_confidence(tally)
    return {
        "num_label_issues": tally.num_issues,
        "label_issues": {
            "num": tally.num_issues,
            "expected": round(estimate.value, 2),
            "low": round(estimate.low, 2),
            "high": round(estimate.high, 2),
            "would_change": tally.num_changed,
            "waits_for_eyes": int(tally.waiting),
            "by_class": by_class,
        },
        "gain": gain_record(tally, readings, earlier),
        "refinement": {
            "requested": requested,
            "method": method,
            "why": why,
            "noise_matrix": noise_matrix.round(4).tolist(),
            "confidence_where_label_stands": {"before": _rounded(before), "after": _rounded(after)},
            "beliefs": beliefs_record(readings.beliefs),
        },
    }


def gain_record(tally: Tally, readings: Readings, earlier: AuditEvidence = NO_LOOKS) -> dict[str, Any]:
    """Return what taking over every predicted label without a look brings, in points of all samples.

    Args:
        tally: What was counted over all samples.
        readings: The readings behind it, and how far each is believed.
        earlier: Random looks at samples of earlier runs that the readings know.

    Returns:
        JSON values; `low_after` and `high_after` are the interval once `promise.RANDOM_LOOKS` more samples drawn at random have
        borne out what is believed now. `num_looks` counts looks, an earlier one while it weighs at least half.
    """
    beliefs = readings.beliefs
    sure = replace(readings, beliefs=replace(beliefs, num_samples=beliefs.num_samples + RANDOM_LOOKS))
    now, later = tally.gain(readings), tally.gain(sure)
    points = {"points": now.value, "low": now.low, "high": now.high, "low_after": later.low, "high_after": later.high}
    return {name: round(100 * value / max(tally.num_samples, 1), 2) for name, value in points.items()} | {
        "is_safe": now.is_safe,
        "num_changed": now.num_changed,
        "num_looks": round(beliefs.num_audited - earlier.weights.sum()) + int((earlier.weights >= 0.5).sum()),
    }


def beliefs_record(beliefs: Beliefs) -> dict[str, Any]:
    """Return how far each reading is believed and what that rests on, as JSON values."""
    return {
        "num_audited": round(beliefs.num_audited, 2),
        "num_audited_wrong": round(beliefs.num_wrong, 2),
        "change": dict(zip(READINGS, beliefs.soft.round(4).tolist(), strict=True)),
        "look": dict(zip(READINGS, beliefs.score.round(4).tolist(), strict=True)),
        "look_shift": round(beliefs.shift, 4),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), 4)
