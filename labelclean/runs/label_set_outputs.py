"""From the answers to all questions about a part to the tables and numbers of a run of several labels per image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from labelclean.arrays import BoolArray, Float32Array, IntArray
from labelclean.review.leaks import LEAK_SET
from labelclean.runs.outputs import beliefs_record
from labelclean.storage.label_sets import names_of_sets
from labelclean.storage.tables import DIRECTIONS, LABEL_SETS, named, vectors

if TYPE_CHECKING:
    from labelclean.arrays import FloatArray
    from labelclean.cleaning.verdicts import Found
    from labelclean.noise.readings import Readings
    from labelclean.noise.tally import Tally

ABSENT, PRESENT = 0, 1
ANSWERS = "answers"
NUM_READINGS = 3


@dataclass(frozen=True)
class AnswerTables:
    """Makes the rows of one question's answers; goes to any process or machine that sees the run's folder.

    Attributes:
        with_near: Write also what every question finds alike: near-duplicates and neighbours.
    """

    with_near: bool

    def __call__(self, number: int, found: Found) -> dict[str, pa.Table]:
        """Return the table `answers` of some samples of a part."""
        judged = found.judged
        columns: dict[str, Any] = {
            "row": found.rows,
            "soft": judged.soft_labels[:, PRESENT],
            "label_score": judged.label_scores,
            "is_label_issue": judged.is_label_issue,
            "is_predicted": judged.predicted == PRESENT,
        }
        columns |= {f"reading_{place}": scores for place, scores in enumerate(judged.reading_scores)}
        if self.with_near:
            columns["duplicate_set"] = found.duplicate_sets
            if found.near is not None:
                near = pa.array(found.near.index.astype(np.int32).ravel())
                columns["near"] = pa.FixedSizeListArray.from_arrays(near, found.near.index.shape[1])
        return {ANSWERS: pa.table(columns)}


@dataclass(frozen=True)
class ClassResult:
    """What is kept of the question about one class once its answers are written.

    Attributes:
        tally: What was counted; the given and the predicted class are 0 (absent) or 1 (present).
        readings: The readings behind it.
        method: The refinement that was used.
        why: The sentence that says why.
        noise_matrix: C, shape (2, 2): how often the class is given where it is not, and missed where it is.
    """

    tally: Tally
    readings: Readings
    method: str
    why: str
    noise_matrix: FloatArray


@dataclass(frozen=True)
class PartAnswers:
    """The answers of all K questions about the n samples of a part; rows and columns are aligned.

    Attributes:
        is_given: The class was given, bool, shape (n, K).
        soft: Probability that it is on the image, float32, shape (n, K), in [0, 1].
        scores: Probability that what was given of it is right, float32, shape (n, K), low = suspicious.
        is_issue: What was given of it is worth a look, bool, shape (n, K).
        is_predicted: We would give it, bool, shape (n, K).
        readings: The same as ``scores`` in each reading, float32, shape (3, n, K).
    """

    is_given: BoolArray
    soft: Float32Array
    scores: Float32Array
    is_issue: BoolArray
    is_predicted: BoolArray
    readings: Float32Array

    @property
    def worst(self) -> IntArray:
        """The class with the least score, int64, shape (n,); ties go to the first."""
        return np.asarray(self.scores.argmin(axis=1), dtype=np.int64)

    def counts(self) -> dict[str, int]:
        """Return images worth a look, labels that may be missing and too many, and images whose labels we would change."""
        return {
            "num": int(self.is_issue.any(axis=1).sum()),
            "missing": int((self.is_issue & ~self.is_given).sum()),
            "spurious": int((self.is_issue & self.is_given).sum()),
            "would_change": int(((self.is_predicted != self.is_given) & self.is_issue).any(axis=1).sum()),
        }


def part_answers(is_given: BoolArray, votes: Sequence[Float32Array], paths: Sequence[Path | None]) -> PartAnswers:
    """Return the answers of all questions about a part.

    Args:
        is_given: Classes as ingested, bool, shape (n, K).
        votes: For each class the share of people who say that it is there, float32, shape (n,): what stands where nothing
            could be learned.
        paths: For each class the file of its answers; None: nothing could be learned of it.

    Returns:
        The answers.
    """
    soft = np.stack(list(votes), axis=1).astype(np.float32)
    scores, is_issue = np.ones(soft.shape, dtype=np.float32), np.zeros(soft.shape, dtype=bool)
    is_predicted = soft > 0.5
    readings = np.ones((NUM_READINGS, *soft.shape), dtype=np.float32)
    for k, path in enumerate(paths):
        if path is None:
            continue
        table = pq.read_table(path, partitioning=None).sort_by("row")
        soft[:, k], scores[:, k] = table.column("soft").to_numpy(), table.column("label_score").to_numpy()
        is_issue[:, k] = table.column("is_label_issue").to_numpy()
        is_predicted[:, k] = table.column("is_predicted").to_numpy()
        for number in range(NUM_READINGS):
            readings[number, :, k] = table.column(f"reading_{number}").to_numpy()
    return PartAnswers(is_given, soft, scores, is_issue, is_predicted, readings)


def refined_sets(
    samples: pa.Table, answers: PartAnswers, sets: IntArray, leak_sets: IntArray | None, names: Sequence[str]
) -> pa.Table:
    """Return the table `refined_labels` of several labels per image.

    Args:
        samples: Table `samples`, n rows.
        answers: The answers about them.
        sets: Number of the near-duplicate set, int64, shape (n,), -1 for samples in none.
        leak_sets: Number of the set that stands in more than one split, int64, shape (n,), -1 for samples in none; None
            without splits.
        names: The K class names.

    Returns:
        n rows.
    """
    columns = {
        "soft_label": vectors(answers.soft),
        "predicted_labels": names_of_sets(answers.is_predicted, names),
        "missing_labels": names_of_sets(answers.is_issue & ~answers.is_given, names),
        "spurious_labels": names_of_sets(answers.is_issue & answers.is_given, names),
        "label_score": answers.scores.min(axis=1),
        "is_label_issue": answers.is_issue.any(axis=1),
        "duplicate_set": pa.array(sets, pa.int64(), mask=sets < 0),
    }
    if leak_sets is not None:
        columns[LEAK_SET] = pa.array(leak_sets, pa.int64(), mask=leak_sets < 0)
    taken = {column.name for column in LABEL_SETS["refined_labels"].columns} & set(columns)
    carried = {name: samples.column(name) for name in samples.column_names if name not in taken}
    return pa.table(carried | columns)


def set_flags(ids: pa.Array, answers: PartAnswers, names: Sequence[str]) -> pa.Table:
    """Return the table `label_flags`: a row for each label of an image that may be missing or too many.

    Args:
        ids: Sample ids, length n.
        answers: The answers about them.
        names: The K class names.

    Returns:
        One row per sample, class and direction.
    """
    rows, classes = np.nonzero(answers.is_issue)
    missing, spurious = DIRECTIONS
    return pa.table(
        {
            "sample_id": ids.take(pa.array(rows, pa.int64())),
            "class_name": named(classes, names),
            "direction": pa.array(np.where(answers.is_given[rows, classes], spurious, missing), pa.string()),
            "score": 1 - answers.scores[rows, classes],
            "is_changed": (answers.is_predicted != answers.is_given)[rows, classes],
        }
    )


def set_score_rows(
    refined: pa.Table, numbers: IntArray, answers: PartAnswers, is_settled: BoolArray, conflicts: IntArray
) -> pa.Table:
    """Return what `part_queue` needs of some images: each stands with its worst label.

    Args:
        refined: Table `refined_labels` of several labels, n rows.
        numbers: Number of each over all samples, int64, shape (n,).
        answers: The answers about them.
        is_settled: Samples that must not come back, bool, shape (n,).
        conflicts: Number of the near-duplicate set whose labels differ, int64, shape (n,), -1 for samples in none.

    Returns:
        As `part_queue.score_rows`; `given` is the class of the worst label, so that every class has its places.
    """
    worst, rows = answers.worst, np.arange(len(numbers))
    columns: dict[str, Any] = {
        "number": numbers,
        "sample_id": refined.column("sample_id"),
        "given": worst,
        "predicted": np.full(len(numbers), -1),
        "label_score": refined.column("label_score"),
        "is_label_issue": refined.column("is_label_issue"),
        "is_settled": is_settled,
        "conflict_set": conflicts,
        "unusable": np.zeros(len(numbers), dtype=np.float32),  # not looked for yet
    }
    columns |= {f"reading_{number}": scores[rows, worst] for number, scores in enumerate(answers.readings)}
    lists = ("given_labels", "predicted_labels", "missing_labels", "spurious_labels", "content_hash", "image_path")
    return pa.table(columns | {name: refined.column(name) for name in lists if name in refined.column_names})


def set_refinement_record(
    requested: str, results: Mapping[str, ClassResult], given: Mapping[str, int], images: Mapping[str, int], num: int
) -> dict[str, Any]:
    """Return the refinement's numbers for the summary.

    Expectations of all classes add, and so do the ends of their intervals: what makes one class's labels worse than they
    look, such as hurried inspectors, may be the same for all.

    Args:
        requested: `refine.method`.
        results: What came of each class that could be judged, by name.
        given: Images that were given each class, by name, in class order.
        images: What was counted over images (`PartAnswers.counts`).
        num: Samples.

    Returns:
        JSON values.
    """
    errors = {name: one.tally.errors(one.readings) for name, one in results.items()}
    gains = {name: one.tally.gain(one.readings) for name, one in results.items()}
    rows = []
    for name, count in given.items():
        result, error = results.get(name), errors.get(name)
        rows.append(
            {
                "class_name": name,
                "num_samples": count,
                "is_judged": result is not None,
                "missing": 0 if result is None else int(result.tally.issues[ABSENT]),
                "spurious": 0 if result is None else int(result.tally.issues[PRESENT]),
                "expected_missing": 0.0 if error is None else round(float(error.per_class[ABSENT]), 2),
                "expected_spurious": 0.0 if error is None else round(float(error.per_class[PRESENT]), 2),
                "gained": 0 if result is None else int(result.tally.gained[PRESENT]),
                "lost": 0 if result is None else int(result.tally.lost[PRESENT]),
                "missed_rate": None if result is None else round(float(result.noise_matrix[PRESENT, ABSENT]), 4),
                "false_rate": None if result is None else round(float(result.noise_matrix[ABSENT, PRESENT]), 4),
                "method": None if result is None else result.method,
                "beliefs": None if result is None else beliefs_record(result.readings.beliefs),
            }
        )
    methods = sorted({one.method for one in results.values()})
    changed = sum(one.num_changed for one in gains.values())
    low, high = sum(one.low for one in gains.values()), sum(one.high for one in gains.values())
    looks = max(one.readings.beliefs.num_audited for one in results.values())
    points = {"points": sum(one.value for one in gains.values()), "low": low, "high": high}
    return {
        "num_label_issues": images["num"],
        "label_issues": {
            "num": images["num"],
            "missing": images["missing"],
            "spurious": images["spurious"],
            "expected": round(sum(one.value for one in errors.values()), 2),
            "low": round(sum(one.low for one in errors.values()), 2),
            "high": round(sum(one.high for one in errors.values()), 2),
            "would_change": images["would_change"],
            "waits_for_eyes": images["num"] - images["would_change"],
            "by_class": rows,
        },
        "gain": {key: round(100 * value / max(num, 1), 2) for key, value in points.items()}
        | {
            "low_after": round(100 * low / max(num, 1), 2),
            "high_after": round(100 * high / max(num, 1), 2),
            "is_safe": changed == 0 or low > 0,
            "num_changed": changed,
            "num_looks": round(looks),
        },
        "refinement": {
            "requested": requested,
            "method": methods[0] if len(methods) == 1 else "per_class",
            "why": _why(results),
        },
    }


def _why(results: Mapping[str, ClassResult]) -> str:
    """Which refinement each class took, in one sentence."""
    by_method: dict[str, list[str]] = {}
    for name, one in results.items():
        by_method.setdefault(one.method, []).append(name)
    return "; ".join(f"{method} for {', '.join(names)}" for method, names in by_method.items()) + "."
