"""What is counted over refined labels: numbers that add up over parts of a data set, and the estimate that follows from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from labelclean.distribution import ClassMoves
from labelclean.gram import Float32Array, Float64Array
from labelclean.labels import BoolArray, GivenLabels, IntArray
from labelclean.scores import ErrorEstimate, estimate_from_sums


@dataclass(frozen=True)
class Tally:
    """Sums over N samples; those of disjoint sets of samples add.

    Attributes:
        given: Samples by given class, float64, shape (K,).
        votes: Votes by class, float64, shape (K,).
        issues: Labels called wrong by given class, shape (K,).
        expected: Expected number of wrong labels by given class, shape (K,).
        lost: Samples given this class and predicted another, shape (K,).
        gained: Samples predicted this class and given another, shape (K,).
        variance: Sum of p (1 - p) over the chances of being wrong.
        readings: Expected number of wrong labels in each reading, shape (R,).
        stands: Samples whose predicted class is the given one.
        before: Sum of their probability by the teacher.
        after: The same in the soft labels.
    """

    given: Float64Array
    votes: Float64Array
    issues: Float64Array
    expected: Float64Array
    lost: Float64Array
    gained: Float64Array
    variance: float
    readings: Float64Array
    stands: float
    before: float
    after: float

    @property
    def num_samples(self) -> int:
        """N."""
        return int(self.given.sum())

    @property
    def num_issues(self) -> int:
        """Labels called wrong."""
        return int(self.issues.sum())

    @property
    def moves(self) -> ClassMoves:
        """Losses and gains per class."""
        return ClassMoves(self.lost.astype(np.int64), self.gained.astype(np.int64))

    @property
    def estimate(self) -> ErrorEstimate:
        """The expected number of wrong labels with its interval."""
        return estimate_from_sums(self.expected, self.variance, self.readings.tolist(), self.num_samples)

    def record(self) -> dict[str, Any]:
        """Return the sums as JSON values; `tally_from` turns them back."""
        return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in vars(self).items()}


def tally_from(record: Mapping[str, Any]) -> Tally:
    """Return what `Tally.record` wrote down."""
    sums: dict[str, Any] = {n: np.array(v) if isinstance(v, list) else v for n, v in record.items()}
    return Tally(**sums)


def tally_of(
    labels: GivenLabels,
    predicted: IntArray,
    label_scores: Float32Array,
    is_label_issue: BoolArray,
    reading_scores: Float32Array,
    confidence: tuple[Float32Array, Float32Array],
) -> Tally:
    """Return the sums over some samples.

    Args:
        labels: Given labels of N samples; those verified count as right.
        predicted: Predicted class, int64, shape (N,).
        label_scores: Probability that the given label is right, float32, shape (N,).
        is_label_issue: Shape (N,).
        reading_scores: The same probability in each reading, float32, shape (R, N).
        confidence: Probability of the given class by the teacher and in the soft labels, each shape (N,).

    Returns:
        The tally.
    """
    given, size = labels.given, labels.num_classes
    stands = predicted == given
    wrong = 1.0 - label_scores.astype(np.float64)
    doubts = np.where(labels.is_verified, 0.0, 1.0 - reading_scores.astype(np.float64))
    return Tally(
        given=np.bincount(given, minlength=size).astype(np.float64),
        votes=labels.votes.sum(axis=0, dtype=np.float64),
        issues=np.bincount(given[is_label_issue], minlength=size).astype(np.float64),
        expected=np.bincount(given, weights=wrong, minlength=size).astype(np.float64),
        lost=np.bincount(given[~stands], minlength=size).astype(np.float64),
        gained=np.bincount(predicted[~stands], minlength=size).astype(np.float64),
        variance=float((wrong * (1 - wrong)).sum()),
        readings=doubts.sum(axis=1),
        stands=float(stands.sum()),
        before=float(confidence[0][stands].sum(dtype=np.float64)),
        after=float(confidence[1][stands].sum(dtype=np.float64)),
    )


def added(tallies: Iterable[Tally]) -> Tally:
    """Return the tally of all samples of some tallies together.

    Args:
        tallies: At least one.

    Returns:
        Their sums.
    """
    first, *others = tallies
    sums = dict(vars(first))
    for other in others:
        for name, value in vars(other).items():
            sums[name] = sums[name] + value
    return Tally(**sums)


def mean_confidence(tally: Tally) -> tuple[float | None, float | None]:
    """Return the mean probability of the given class before and after, of samples whose label stands."""
    if not tally.stands:
        return None, None
    return tally.before / tally.stands, tally.after / tally.stands
