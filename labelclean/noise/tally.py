"""What is counted over refined labels: numbers that add up over parts of a data set, and the estimate that follows from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from labelclean.arrays import Float32Array, Float64Array
from labelclean.labels import GivenLabels
from labelclean.noise.distribution import ClassMoves
from labelclean.noise.readings import Readings, prior_of
from labelclean.noise.scores import ErrorEstimate, GainEstimate, RandomLooks, estimate_errors, estimate_gain
from labelclean.noise.trust import JudgedLabels


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
        variance: Sum of p (1 - p) over the chances p of being wrong.
        readings: Expected number of wrong labels as `calm`, `clouds` and `alone` read it, shape (3,).
        gains: Right labels more if every predicted label is taken over, in each of the four readings, shape (4,).
        gain_variance: Sum over the changed labels of p (1 - p), p their soft probability.
        verified: Samples whose class people have verified.
        waiting: Labels worth a look that we would not change without one.
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
    gains: Float64Array
    gain_variance: float
    verified: float
    waiting: float
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
    def num_changed(self) -> int:
        """Labels that we would change."""
        return int(self.lost.sum())

    def errors(self, readings: Readings) -> ErrorEstimate:
        """Return the expected number of wrong labels; readings of all samples, whose audit is of the same data set."""
        beliefs, num_open = readings.beliefs, self.num_samples - int(self.verified)
        audit = RandomLooks(beliefs.num_audited, beliefs.num_wrong)
        unclear = readings.ambiguity.calm * num_open
        return estimate_errors(self.expected, self.variance, self.readings, unclear, audit, num_open)

    def gain(self, readings: Readings) -> GainEstimate:
        """Return what taking over every predicted label brings."""
        beliefs = readings.beliefs
        weights = beliefs.soft if beliefs.num_audited else prior_of(beliefs.soft)
        return estimate_gain(self.gains, self.gain_variance, weights, beliefs.num_samples, self.num_changed)

    def record(self) -> dict[str, Any]:
        """Return the sums as JSON values; `tally_from` turns them back."""
        return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in vars(self).items()}


def tally_from(record: Mapping[str, Any]) -> Tally:
    """Return what `Tally.record` wrote down."""
    sums: dict[str, Any] = {n: np.array(v) if isinstance(v, list) else v for n, v in record.items()}
    return Tally(**sums)


def tally_of(labels: GivenLabels, judged: JudgedLabels, pred_probs: Float32Array) -> Tally:
    """Return the sums over some samples.

    Args:
        labels: Given labels of N samples; those verified count as right.
        judged: What was found about them.
        pred_probs: The teacher's P(given class | image), float32, shape (N, K).

    Returns:
        The tally.
    """
    given, size, rows = labels.given, labels.num_classes, np.arange(len(labels))
    predicted = judged.predicted
    stands, is_open = predicted == given, ~labels.is_verified
    wrong = 1.0 - judged.label_scores.astype(np.float64)
    doubts = np.where(is_open, 1.0 - judged.reading_scores.astype(np.float64), 0.0)
    changed = judged.soft_labels[rows, predicted].astype(np.float64)[~stands]
    return Tally(
        given=np.bincount(given, minlength=size).astype(np.float64),
        votes=labels.votes.sum(axis=0, dtype=np.float64),
        issues=np.bincount(given[judged.is_label_issue], minlength=size).astype(np.float64),
        expected=np.bincount(given, weights=wrong, minlength=size).astype(np.float64),
        lost=np.bincount(given[~stands], minlength=size).astype(np.float64),
        gained=np.bincount(predicted[~stands], minlength=size).astype(np.float64),
        variance=float((wrong * (1 - wrong)).sum()),
        readings=doubts.sum(axis=1),
        gains=judged.reading_gains.sum(axis=1, dtype=np.float64),
        gain_variance=float((changed * (1 - changed)).sum()),
        verified=float((~is_open).sum()),
        waiting=float((judged.is_label_issue & stands).sum()),
        stands=float(stands.sum()),
        before=float(pred_probs[rows, given][stands].sum(dtype=np.float64)),
        after=float(judged.soft_labels[rows, given][stands].sum(dtype=np.float64)),
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
