"""How tonight's samples differ from a reference: classes, shares, features, and the noise rate by line, shift and camera."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np

from labelclean.arrays import BoolArray, Float64Array, FloatArray, IntArray
from labelclean.probes.sums import (
    all_but,
    build_feature_sums,
    build_target_sums,
    centred_unit_rows,
    ridge_rounds,
    spectrum,
)

RIDGE_SHARE = 0.01
Noise = Mapping[str, Mapping[str, tuple[float, float]]]


@dataclass(frozen=True)
class FeatureDrift:
    """Result of a classifier two-sample test (Lopez-Paz and Oquab 2017).

    Attributes:
        auroc: How well a linear probe tells tonight's samples from the reference's, out of fold; 0.5: not at all.
        p_value: Chance of such an AUROC or more where both come from one source (Mann-Whitney).
        num_reference: Samples of the reference.
        num_tonight: Samples of tonight.
    """

    auroc: float
    p_value: float
    num_reference: int
    num_tonight: int


@dataclass(frozen=True)
class NoiseShift:
    """Expected share of wrong labels of one line, shift or camera, then and tonight.

    Attributes:
        column: Which column.
        value: Which value.
        before: Share in the reference; None where it had none.
        now: Share tonight.
        num: Labels tonight.
        stands_out: 1 if it rose by more than chance, -1 if it fell, else 0.
    """

    column: str
    value: str
    before: float | None
    now: float
    num: int
    stands_out: int


def measure_feature_drift(
    reference: FloatArray, tonight: FloatArray, reference_folds: IntArray, tonight_folds: IntArray, mean: Float64Array
) -> FeatureDrift:
    """Return how well a linear probe tells the two sets of features apart.

    Args:
        reference: Raw features, shape (n, D).
        tonight: Raw features, shape (m, D).
        reference_folds: Fold of each, int64, shape (n,); a group lies in one fold.
        tonight_folds: The same, shape (m,).
        mean: Centring, float64, shape (D,).

    Returns:
        The test's result.
    """
    rows = centred_unit_rows(np.concatenate([reference, tonight]).astype(np.float32), mean)
    folds = np.concatenate([reference_folds, tonight_folds])
    is_tonight = np.repeat([False, True], [len(reference), len(tonight)])
    num_folds = int(folds.max()) + 1
    sums = build_feature_sums(rows, folds, num_folds, mean)
    targets = build_target_sums(rows, is_tonight[:, None].astype(np.float32), folds, num_folds)
    scores = np.empty(len(rows))
    for fold in range(num_folds):
        weights = all_but(fold, num_folds)
        basis = spectrum(sums, weights)
        penalty = max(RIDGE_SHARE * float(basis.values.sum()), 1e-9)
        probe, bias = ridge_rounds(basis, targets, weights, penalty)
        scores[folds == fold] = (rows[folds == fold] @ probe + bias)[:, 0]
    return FeatureDrift(*_auroc(scores, is_tonight), len(reference), len(tonight))


def _auroc(scores: Float64Array, is_positive: BoolArray) -> tuple[float, float]:
    """Area under the curve and the chance of it or more without a difference, by the normal approximation."""
    from scipy.stats import mannwhitneyu

    some, others = scores[is_positive], scores[~is_positive]
    if not len(some) or not len(others):
        return 0.5, 1.0
    test = mannwhitneyu(some, others, alternative="greater", use_continuity=False, method="asymptotic")
    return float(test.statistic) / (len(some) * len(others)), float(test.pvalue)


def noise_shifts(before: Noise, now: Noise) -> list[NoiseShift]:
    """Return how the expected share of wrong labels moved, by column and value.

    A value stands out where both shares differ by more than three standard errors.

    Args:
        before: Column -> value -> number of labels and expected number of wrong ones, in the reference.
        now: The same tonight.

    Returns:
        One row per value of tonight, those that stand out first.

    Examples:
        >>> noise_shifts({"line": {"A": (100.0, 5.0)}}, {"line": {"A": (100.0, 40.0), "B": (10.0, 1.0)}})[0].stands_out
        1
    """
    shifts = []
    for column, values in now.items():
        for value, (num, wrong) in values.items():
            share = wrong / num
            num_then, wrong_then = before.get(column, {}).get(value, (0.0, 0.0))
            if not num_then:
                shifts.append(NoiseShift(column, value, None, share, int(num), 0))
                continue
            then, both = wrong_then / num_then, (wrong + wrong_then) / (num + num_then)
            error = sqrt(max(both * (1 - both), 1e-12) * (1 / num + 1 / num_then))
            moved = (share - then) / error
            shifts.append(
                NoiseShift(column, value, then, share, int(num), int(np.sign(moved)) if abs(moved) > 3 else 0)
            )
    return sorted(shifts, key=lambda one: (-abs(one.stands_out), one.column, one.value))


def added_noise(parts: Sequence[Noise]) -> dict[str, dict[str, tuple[float, float]]]:
    """Return the numbers of several parts of a data set together.

    Args:
        parts: Column -> value -> number of labels and expected number of wrong ones.

    Returns:
        Their sums.
    """
    total: dict[str, dict[str, tuple[float, float]]] = {}
    for part in parts:
        for column, values in part.items():
            for value, (num, wrong) in values.items():
                old = total.setdefault(column, {}).get(value, (0.0, 0.0))
                total[column][value] = (old[0] + num, old[1] + wrong)
    return total
