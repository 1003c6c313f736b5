"""From label scores to issues: how many labels are probably wrong, and below which score a label is called an issue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from labelclean.gram import Float32Array, Float64Array
from labelclean.labels import BoolArray, IntArray

LEAST_ERROR_CHANCE = 0.2
MOST_ERROR_CHANCE = 0.5
TIE_BREAK = 1e-4


@dataclass(frozen=True)
class ErrorEstimate:
    """How many given labels are probably wrong.

    Attributes:
        value: Expected number.
        low: Lower end of a 95 % interval.
        high: Upper end.
        per_class: Expected number by given class, float64, shape (K,).
    """

    value: float
    low: float
    high: float
    per_class: Float64Array


def score_limit(label_scores: Float32Array) -> float:
    """Return the score under which calling labels wrong has the best expected F1.

    With e = 1 - score the calibrated chance that a label is wrong, calling the m most doubtful
    labels wrong finds sum_m e errors of sum e in all; the expected F1 is about
    2 sum_m e / (m + sum e) and is largest where e falls below half of it (Lipton et al. 2014). The
    number of issues thus follows the estimated number of errors. No label with an error
    chance under 0.2 is called wrong, and every label above 0.5 is.

    Args:
        label_scores: Calibrated probability that the given label is right, float32, shape (N,).

    Returns:
        The limit, in [0.5, 0.8]: scores below it are issues.

    Examples:
        >>> round(score_limit(np.array([0.1, 0.6, 1.0, 1.0], dtype=np.float32)), 3)
        0.606
    """
    chance = np.sort(1.0 - label_scores.astype(np.float64))[::-1]
    found = np.cumsum(chance)
    if len(chance) == 0 or found[-1] <= 0:
        return 1.0 - MOST_ERROR_CHANCE
    best = float((2 * found / (np.arange(1, len(chance) + 1) + found[-1])).max())
    return 1.0 - float(np.clip(best / 2, LEAST_ERROR_CHANCE, MOST_ERROR_CHANCE))


def scores_by_rank(rank: Float32Array, chance: Float32Array) -> Float32Array:
    """Return the chances made to rise with the rank: isotonic regression, ties broken by the rank.

    Args:
        rank: What orders the samples, float32, shape (N,), in [0, 1].
        chance: Calibrated probability that the given label is right, float32, shape (N,).

    Returns:
        float32, shape (N,), in [0, 1]: the means of ``chance`` over neighbours in rank.

    Examples:
        >>> rank = np.array([0.1, 0.2, 0.9], dtype=np.float32)
        >>> scores_by_rank(rank, np.array([0.4, 0.2, 0.8], dtype=np.float32)).round(2)
        array([0.3, 0.3, 0.8], dtype=float32)
    """
    order = np.lexsort((chance, rank))
    level = np.empty(len(chance))
    level[order] = _isotonic(chance[order])
    return np.asarray((1.0 - TIE_BREAK) * level + TIE_BREAK * rank, dtype=np.float32)


@dataclass(frozen=True)
class ScoreCurve:
    """The scores of `scores_by_rank` as a curve over the rank, for samples that it was not fitted to.

    Attributes:
        rank: float64, shape (n,), ascending.
        level: Score before the tie-break, float64, shape (n,), ascending.
    """

    rank: Float64Array
    level: Float64Array

    def scores(self, rank: Float32Array) -> Float32Array:
        """Return the scores at some ranks, float32, shape (N,), straight lines between the fitted ones."""
        level = np.interp(rank.astype(np.float64), self.rank, self.level)
        return np.asarray((1.0 - TIE_BREAK) * level + TIE_BREAK * rank, dtype=np.float32)


def fit_score_curve(rank: Float32Array, chance: Float32Array) -> ScoreCurve:
    """Return the curve of `scores_by_rank`; arguments as there.

    Returns:
        A curve that gives the samples it was fitted to the scores of `scores_by_rank`, ties apart.
    """
    order = np.lexsort((chance, rank))
    return ScoreCurve(rank[order].astype(np.float64), _isotonic(chance[order]))


def _isotonic(chance: Float32Array) -> Float64Array:
    """Isotonic regression of values in order: pooled neighbours."""
    means: list[float] = []
    sizes: list[int] = []
    for value in chance.astype(np.float64).tolist():
        means.append(value)
        sizes.append(1)
        while len(means) > 1 and means[-2] >= means[-1]:
            last, size = means.pop(), sizes.pop()
            means[-1] = (means[-1] * sizes[-1] + last * size) / (sizes[-1] + size)
            sizes[-1] += size
    return np.repeat(np.array(means, dtype=np.float64), sizes)


def error_estimate(
    label_scores: Float32Array, given: IntArray, num_classes: int, readings: Sequence[Float32Array] = ()
) -> ErrorEstimate:
    """Return the expected number of wrong labels with an interval.

    Args:
        label_scores: Calibrated probability that the given label is right, float32, shape (N,).
        given: Given classes, int64, shape (N,).
        num_classes: K.
        readings: The same under other readings of the disagreement, each float32, shape (N,).

    Returns:
        Sum of error chances; the interval covers the chance in the labels, a Poisson-sized
        doubt about the noise rate, and the span of the readings.
    """
    chance = 1.0 - label_scores.astype(np.float64)
    others = [float((1.0 - reading.astype(np.float64)).sum()) for reading in readings]
    per_class = np.bincount(given, weights=chance, minlength=num_classes).astype(np.float64)
    return estimate_from_sums(per_class, float((chance * (1 - chance)).sum()), others, len(given))


def estimate_from_sums(
    per_class: Float64Array, variance: float, readings: Sequence[float], num_samples: int
) -> ErrorEstimate:
    """Return the estimate of `error_estimate` from sums over the samples.

    Args:
        per_class: Expected number of wrong labels by given class, float64, shape (K,).
        variance: Sum of p (1 - p) over the chances p of being wrong.
        readings: Expected number in each other reading.
        num_samples: N.

    Returns:
        The estimate.
    """
    value = float(per_class.sum())
    spread = 1.96 * float(np.sqrt(variance + value))
    return ErrorEstimate(
        value=value,
        low=max(min([value, *readings]) - spread, 0.0),
        high=min(max([value, *readings]) + spread, float(num_samples)),
        per_class=per_class,
    )


def calibration_error(confidence: Float32Array, is_right: BoolArray, num_bins: int = 15) -> float:
    """Return the expected calibration error over bins of equal size.

    Args:
        confidence: Claimed probability of being right, float32, shape (N,).
        is_right: Whether it was, bool, shape (N,).
        num_bins: At most so many bins, and at least 50 samples in each.

    Returns:
        Mean gap between claimed and actual share, in [0, 1].

    Examples:
        >>> calibration_error(np.array([0.5, 0.5]), np.array([True, False]))
        0.0
    """
    order = np.argsort(confidence, kind="stable")
    bins = np.array_split(order, max(1, min(num_bins, len(order) // 50)))
    gaps = [
        len(rows) * abs(float(confidence[rows].mean()) - float(is_right[rows].mean())) for rows in bins if len(rows)
    ]
    return float(sum(gaps) / max(len(order), 1))
