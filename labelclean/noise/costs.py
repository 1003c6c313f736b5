"""What wrong labels cost where one class is OK: escapes, overkill and wrong kinds of defect, each with its expectation.

An escape is a defect labelled OK, overkill an OK part labelled as a defect, a wrong kind a defect labelled as another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from labelclean.arrays import Float32Array, Float64Array, FloatArray, IntArray
from labelclean.config import CostsConfig
from labelclean.noise.readings import AS_GIVEN, Ambiguity, Readings, mixture
from labelclean.noise.scores import RandomLooks, estimate_errors

ERROR_KINDS = ("escape", "overkill", "wrong_kind")


@dataclass(frozen=True)
class KindEstimate:
    """How many labels are wrong in one way, expected, with an interval."""

    expected: float
    low: float
    high: float


@dataclass(frozen=True)
class CostRule:
    """Which class is OK and what each error costs.

    Attributes:
        ok: Index of the OK class.
        matrix: Cost of each given class (row) where each class is true (column), float64, shape (K, K), diagonal 0;
            None where no costs are given.
    """

    ok: int
    matrix: Float64Array | None


def cost_matrix(names: Sequence[str], ok: str, costs: CostsConfig) -> Float64Array:
    """Return what each given class costs where each class is true.

    Args:
        names: The K class names.
        ok: The one of parts without a defect.
        costs: Section `costs` with `escape` set.

    Returns:
        float64, shape (K, K), rows by given class, columns by true class, diagonal 0.

    Examples:
        >>> cost_matrix(["dent", "ok"], "ok", CostsConfig(escape=100))
        array([[  0.,   1.],
               [100.,   0.]])
    """

    def cost(name: str, kind: str) -> float:
        own = costs.by_class.get(name)
        special = None if own is None else getattr(own, kind)
        general = getattr(costs, kind)
        return float(special if special is not None else general if general is not None else costs.overkill)

    at, matrix = names.index(ok), np.zeros((len(names), len(names)))
    for k, name in enumerate(names):
        matrix[:, k] = cost(name, "wrong_kind")
    for k, name in enumerate(names):
        matrix[at, k], matrix[k, at] = cost(name, "escape"), cost(name, "overkill")
    np.fill_diagonal(matrix, 0.0)
    return matrix


def error_chances(true_probs: FloatArray, given: IntArray, ok: int) -> Float64Array:
    """Return the chance of each kind of error.

    Args:
        true_probs: Probability of each true class, float, shape (N, K), rows sum to 1.
        given: Given class, shape (N,).
        ok: Index of the OK class.

    Returns:
        float64, shape (3, N), in the order of `ERROR_KINDS`; a label can be wrong as an escape, or in the two other ways.

    Examples:
        >>> error_chances(np.array([[0.7, 0.1, 0.2], [0.7, 0.1, 0.2]]), np.array([0, 1]), ok=0).round(2)
        array([[0.3, 0. ],
               [0. , 0.7],
               [0. , 0.2]])
    """
    probs = np.asarray(true_probs, dtype=np.float64)
    wrong = 1.0 - probs[np.arange(len(given)), given]
    overkill, is_ok = probs[:, ok], given == ok
    kinds = np.where(is_ok, wrong, 0.0), np.where(is_ok, 0.0, overkill), np.where(is_ok, 0.0, wrong - overkill)
    return np.stack(kinds).clip(0.0, 1.0)


def expected_costs(true_probs: FloatArray, given: IntArray, matrix: Float64Array) -> Float64Array:
    """Return what each label is expected to cost as it stands, so what a look at it is expected to save.

    Args:
        true_probs: Probability of each true class, float, shape (N, K).
        given: Given class, shape (N,).
        matrix: From `cost_matrix`.

    Returns:
        float64, shape (N,).

    Examples:
        >>> matrix = cost_matrix(["dent", "ok"], "ok", CostsConfig(escape=100))
        >>> expected_costs(np.array([[0.25, 0.75], [0.25, 0.75]]), np.array([0, 1]), matrix)
        array([ 0.75, 25.  ])
    """
    return np.asarray((np.asarray(true_probs, dtype=np.float64) * matrix[given]).sum(axis=1), dtype=np.float64)


def error_costs(true_probs: FloatArray, given: IntArray, rule: CostRule) -> Float64Array:
    """Return what each kind of error is expected to cost.

    Args:
        true_probs: Probability of each true class, float, shape (N, K).
        given: Given class, shape (N,).
        rule: Which class is OK, and costs.

    Returns:
        float64, shape (3, N), in the order of `ERROR_KINDS`; a column sums to `expected_costs`.

    Raises:
        ValueError: If the rule has no costs.
    """
    if rule.matrix is None:
        raise ValueError("costs are needed, but the rule has none.")
    costs = np.asarray(true_probs, dtype=np.float64) * rule.matrix[given]
    is_ok, total, overkill = given == rule.ok, costs.sum(axis=1), costs[:, rule.ok]
    zero = np.zeros(len(given))
    return np.stack(
        [np.where(is_ok, total, zero), np.where(is_ok, zero, overkill), np.where(is_ok, zero, total - overkill)]
    )


def scored_probs(true_probs: FloatArray, given: IntArray, label_scores: FloatArray) -> Float64Array:
    """Return the probabilities of the true class whose given class has the label score: the others keep their proportions.

    Args:
        true_probs: Probability of each true class, float, shape (N, K).
        given: Given class, shape (N,).
        label_scores: Probability that the given label is right, shape (N,).

    Returns:
        float64, shape (N, K), rows sum to 1; where nothing speaks for any other class, all others alike.

    Examples:
        >>> scored_probs(np.array([[0.6, 0.1, 0.3], [1.0, 0.0, 0.0]]), np.array([0, 0]), np.array([0.2, 0.8])).round(2)
        array([[0.2, 0.2, 0.6],
               [0.8, 0.1, 0.1]])
    """
    rows = np.arange(len(given))
    others = np.asarray(true_probs, dtype=np.float64) + 1e-12
    others[rows, given] = 0.0
    probs = others * ((1.0 - np.asarray(label_scores, np.float64)) / others.sum(axis=1))[:, None]
    probs[rows, given] = label_scores
    return np.asarray(probs, dtype=np.float64)


def score_chances(readings: Readings, each: Float32Array, given: IntArray, label_scores: FloatArray) -> Float64Array:
    """Return the true class's probabilities behind label scores: the mixture that looks, brought to each score.

    Args:
        readings: How far each reading is believed.
        each: Their probabilities (`Readings.read`), float32, shape (4, N, K).
        given: Given class, shape (N,).
        label_scores: Probability that the given label is right, shape (N,).

    Returns:
        float64, shape (N, K).
    """
    return scored_probs(mixture(readings.beliefs.score, each), given, label_scores)


def kind_chances(true_probs: FloatArray, each: Float32Array, given: IntArray, ok: int) -> Float64Array:
    """Return the chance of each kind of error, and what `calm`, `clouds` and `alone` make of it.

    Args:
        true_probs: From `score_chances`, shape (N, K).
        each: The readings' probabilities, float32, shape (4, N, K).
        given: Given class, shape (N,).
        ok: Index of the OK class.

    Returns:
        float64, shape (N, 3, 4): kinds in the order of `ERROR_KINDS`, each believed, then as read.
    """
    read: Float64Array = np.stack([error_chances(estimate, given, ok) for estimate in (true_probs, *each[:AS_GIVEN])])
    chances: Float64Array = read.transpose(2, 1, 0)
    return chances


def kind_sums(chances: FloatArray) -> Float64Array:
    """Return what `estimate_kinds` needs of some samples; sums over disjoint sets of samples add.

    Args:
        chances: From `kind_chances`, shape (N, 3, 4).

    Returns:
        For each kind the expected number, the sum of p (1 - p) over its chances p, and the expected number as each
        reading has it; float64, shape (3, 5).
    """
    chances = np.asarray(chances, dtype=np.float64)
    believed, sums = chances[:, :, 0], chances.sum(axis=0)
    return np.column_stack([sums[:, 0], (believed * (1.0 - believed)).sum(axis=0), sums[:, 1:]])


def estimate_kinds(sums: Float64Array, ambiguity: Ambiguity, num_open: int, most: float) -> tuple[KindEstimate, ...]:
    """Return how many labels are wrong in each way, with the interval that all wrong labels have (`estimate_errors`).

    Images that show another class than their likeliest are counted to each kind as the calm reading's errors are, and
    no kind can be more than all wrong labels.

    Args:
        sums: From `kind_sums`, over all samples.
        ambiguity: How unclear the images are.
        num_open: Samples without a verified class.
        most: Upper end of all wrong labels together, random looks counted in.

    Returns:
        One estimate per kind, in the order of `ERROR_KINDS`.

    Examples:
        >>> sums = np.array([[5.0, 0, 4.0, 6.0, 9.0], [3.0, 0, 4.0, 2.0, 3.0], [0, 0, 0, 0, 0]])
        >>> unclear = Ambiguity(calm=0.02, clouds=0.0, moved=0.0, wrong=0.0)
        >>> [(one.expected, one.low, one.high) for one in estimate_kinds(sums, unclear, 100, most=8.0)]
        [(5.0, 3.0, 8.0), (3.0, 2.0, 4.0), (0.0, 0.0, 0.0)]
    """
    unclear = ambiguity.calm * num_open * sums[:, 2] / max(float(sums[:, 2].sum()), 1e-12)
    estimates = []
    for row, doubt in zip(sums, unclear.tolist(), strict=True):
        estimate = estimate_errors(row[:1], float(row[1]), row[2:], doubt, RandomLooks(), num_open)
        high = min(estimate.high, most) if row.any() else 0.0  # where no reading has any, there is nothing to be off
        estimates.append(KindEstimate(estimate.value, estimate.low, max(high, estimate.value)))
    return tuple(estimates)
