"""From label scores to issues: how many labels are probably wrong, and below which score a label is called an issue."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from labelclean.arrays import BoolArray, Float32Array, Float64Array

LEAST_ERROR_CHANCE = 0.2
MOST_ERROR_CHANCE = 0.5
CURVE_STEP = 0.05
CURVE_ENDS = (1e-6, 0.999)
TIE_BREAK = 1e-4
GAIN_DRAWS = 2_000


@dataclass(frozen=True)
class RandomLooks:
    """Samples that were drawn at random and looked at.

    Attributes:
        num_samples: How many.
        num_wrong: Of these, how many were given wrong.
    """

    num_samples: float = 0.0
    num_wrong: float = 0.0

    def interval(self) -> tuple[float, float]:
        """Return Jeffreys' 95 % interval of the share of wrong labels, 0 to 1 without samples.

        Examples:
            >>> RandomLooks().interval()
            (0.0, 1.0)
            >>> tuple(round(share, 3) for share in RandomLooks(30, 3).interval())
            (0.029, 0.243)
        """
        from scipy.special import betaincinv

        wrong, right = self.num_wrong, self.num_samples - self.num_wrong
        low = float(betaincinv(wrong + 0.5, right + 0.5, 0.025)) if wrong > 0 else 0.0
        high = float(betaincinv(wrong + 0.5, right + 0.5, 0.975)) if right > 0 else 1.0
        return low, high


@dataclass(frozen=True)
class ErrorEstimate:
    """How many given labels are probably wrong.

    Attributes:
        value: Expected number.
        low: Lower end of what labels and looks allow.
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
    2 sum_m e / (m + sum e) and is largest where e falls below half of it (Lipton et al. 2014 [10]). The
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
    hits = np.cumsum(chance)
    if len(chance) == 0 or hits[-1] <= 0:
        return 1.0 - MOST_ERROR_CHANCE
    best = float((2 * hits / (np.arange(1, len(chance) + 1) + hits[-1])).max())
    return 1.0 - float(np.clip(best / 2, LEAST_ERROR_CHANCE, MOST_ERROR_CHANCE))


@dataclass(frozen=True)
class ScoreCurve:
    """Chances made to rise with the rank, as a curve over the rank's log odds.

    Attributes:
        log_odds: float64, shape (n,), ascending, at least 0.05 apart.
        level: Score before the tie-break, float64, shape (n,), ascending.
    """

    log_odds: Float64Array
    level: Float64Array

    def scores(self, rank: Float32Array) -> Float32Array:
        """Return the scores at some ranks, float32, shape (N,), straight lines between the fitted ones."""
        level = np.interp(_log_odds(rank), self.log_odds, self.level)
        return np.asarray((1.0 - TIE_BREAK) * level + TIE_BREAK * rank, dtype=np.float32)


def fit_score_curve(rank: Float32Array, chance: Float32Array) -> ScoreCurve:
    """Return chances made to rise with the rank: isotonic regression, ties broken by the rank.

    The curve has its knots 0.05 apart in log odds, up to a rank of .999; a sample counts at the two beside it. A curve
    through every single rank is so steep that rounding in the seventh digit, as of sums in another order, moves scores in
    the second.

    Args:
        rank: What orders the samples, float32, shape (N,), in [0, 1].
        chance: Calibrated probability that the given label is right, float32, shape (N,).

    Returns:
        The curve: means of ``chance`` over neighbours in rank.

    Examples:
        >>> rank = np.array([0.1, 0.2, 0.9], dtype=np.float32)
        >>> fit_score_curve(rank, np.array([0.4, 0.2, 0.8], dtype=np.float32)).scores(rank).round(2)
        array([0.3, 0.3, 0.8], dtype=float32)
    """
    from scipy.optimize import isotonic_regression

    place = _log_odds(rank) / CURVE_STEP
    first = np.floor(place.min())
    below = np.floor(place - first).astype(np.int64)
    above = place - first - below
    weight, total = (
        np.bincount(below, (1 - above) * of, below.max() + 2) + np.bincount(below + 1, above * of, below.max() + 2)
        for of in (np.ones(len(rank)), chance.astype(np.float64))
    )
    at = np.flatnonzero(weight > 0)
    level = isotonic_regression(total[at] / weight[at], weights=weight[at]).x
    return ScoreCurve((first + at) * CURVE_STEP, level)


def _log_odds(rank: Float32Array) -> Float64Array:
    """Log odds of ranks, within what single precision can tell."""
    clipped = np.clip(rank.astype(np.float64), *CURVE_ENDS)
    return np.asarray(np.log(clipped) - np.log1p(-clipped), dtype=np.float64)


def estimate_errors(
    per_class: Float64Array,
    variance: float,
    readings: Float64Array,
    unclear: float,
    audit: RandomLooks,
    num_samples: int,
) -> ErrorEstimate:
    """Return the expected number of wrong labels with an interval.

    Labels alone allow every reading of a disagreement, and that as many of the labels that the calm reading calls
    wrong are right as there are unclear images: the interval reaches from the least of these numbers to the largest,
    and a standard error of chance beyond.
    Where samples drawn at random were looked at, it is cut down to what their own share allows (Jeffreys' interval;
    Brown, Cai and DasGupta 2001 [2]); where the two have nothing in common, the looks are right. It always holds the
    expected number.

    Args:
        per_class: Sum of the chances of being wrong by given class, float64, shape (K,).
        variance: Sum of p (1 - p) over these chances p.
        readings: Expected number as `calm`, `clouds` and `alone` read it, float64, shape (3,).
        unclear: Expected number of images that show another class than their likeliest.
        audit: What was found in samples drawn at random.
        num_samples: N, without verified samples.

    Returns:
        The estimate.

    Examples:
        >>> calm_clouds_alone = np.array([10.0, 12.0, 15.0])
        >>> found = estimate_errors(np.array([5.0, 6.0]), 1.0, calm_clouds_alone, 4.0, RandomLooks(), 100)
        >>> found.value, found.low, found.high
        (11.0, 5.0, 16.0)
    """
    value = float(per_class.sum())
    chance = float(np.sqrt(variance))
    low = max(min(float(readings.min()), float(readings[0]) - unclear) - chance, 0.0)
    high = min(float(readings.max()) + chance, float(num_samples))
    least, most = (num_samples * share for share in audit.interval())
    if least <= high and low <= most:
        low, high = max(low, least), min(high, most)
    else:
        low, high = least, most
    return ErrorEstimate(value, min(low, value), max(high, value), per_class)


@dataclass(frozen=True)
class GainEstimate:
    """What taking over every predicted label brings: right labels more, as a number of samples.

    Attributes:
        value: Expected number of right labels more.
        low: Lower end of a 95 % interval; below 0 it may do harm.
        high: Upper end.
        num_changed: Labels that would be changed.
    """

    value: float
    low: float
    high: float
    num_changed: int

    @property
    def is_safe(self) -> bool:
        """Whether nothing speaks for harm: nothing would be changed, or the whole interval lies above 0."""
        return self.num_changed == 0 or self.low > 0


def estimate_gain(
    gains: Float64Array, variance: float, weights: Float64Array, num_samples: float, num_changed: int
) -> GainEstimate:
    """Return what taking over every predicted label brings, without a look at any.

    The weights of the readings are uncertain: a Dirichlet distribution worth ``num_samples`` samples around them,
    whose quantiles are taken from 2,000 draws with a fixed seed. The chance in single labels comes on top.

    Args:
        gains: Right labels more if a reading is right, float64, shape (4,).
        variance: Sum over the changed labels of p (1 - p), p their soft probability.
        weights: How far each reading is believed, float64, shape (4,), sum 1.
        num_samples: How many samples that belief is worth.
        num_changed: Labels that would be changed.

    Returns:
        The estimate.
    """
    if num_changed == 0:
        return GainEstimate(0.0, 0.0, 0.0, 0)
    drawn = np.random.default_rng(0).dirichlet(np.maximum(weights, 1e-9) * num_samples, GAIN_DRAWS) @ gains
    low, high = np.quantile(drawn, [0.025, 0.975])
    chance, value = 1.96 * float(np.sqrt(variance)), float(weights @ gains)
    return GainEstimate(value, min(float(low) - chance, value), max(float(high) + chance, value), num_changed)


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
