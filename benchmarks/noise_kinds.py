"""Five ways in which given labels go wrong, each at an exact expected rate."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.floating]

NUM_LINES = 5
TIRED_FACTOR = 3.4
MOST_TIRED = 0.8
MOST_PER_SAMPLE = 0.95
MOST_PER_CLASS = 0.6


def uniform(true: IntArray, probs: FloatArray, rate: float, rng: np.random.Generator) -> IntArray:
    """Return labels of which a share goes to another class at random.

    Args:
        true: True class of each sample, int64, shape (N,).
        probs: P(class | image) of a probe trained on the truth, shape (N, K); gives K here.
        rate: Expected share of wrong labels, in [0, 1].
        rng: Draws.

    Returns:
        Given labels, int64, shape (N,), aligned with ``true``.
    """
    return _to_others(true, rng.random(len(true)) < rate, probs.shape[1], rng)


def asymmetric(true: IntArray, probs: FloatArray, rate: float, rng: np.random.Generator) -> IntArray:
    """Return labels of which a share goes from class k to class k + 1; arguments as in `uniform`."""
    return np.where(rng.random(len(true)) < rate, (true + 1) % probs.shape[1], true)


def class_dependent(true: IntArray, probs: FloatArray, rate: float, rng: np.random.Generator) -> IntArray:
    """Return labels confused as the features confuse the classes; arguments as in `uniform`."""
    matrix = confusion_matrix(true, probs, rate)
    drawn = rng.random(len(true))[:, None] > matrix[true].cumsum(axis=1)
    return np.asarray(np.minimum(drawn.sum(axis=1), probs.shape[1] - 1), dtype=np.int64)


def confusion_matrix(true: IntArray, probs: FloatArray, rate: float) -> npt.NDArray[np.float64]:
    """Return the noise matrix that class-dependent noise draws from.

    Args:
        true: True class of each sample, int64, shape (N,).
        probs: P(class | image) of a probe trained on the truth, shape (N, K).
        rate: Expected share of wrong labels; no class gets more than 0.6 wrong.

    Returns:
        float64, shape (K, K), row true class, column given class, rows sum to 1.
    """
    num_classes = probs.shape[1]
    confused = np.array([probs[true == k].sum(axis=0) for k in range(num_classes)], dtype=np.float64)
    counts = np.bincount(true, minlength=num_classes)
    confused = confused / np.maximum(counts, 1)[:, None] + 0.02 / num_classes
    np.fill_diagonal(confused, 0)
    weights = confused.sum(axis=1)
    per_class = _scaled(weights, counts / len(true), rate, MOST_PER_CLASS)
    return np.asarray(np.diag(1 - per_class) + per_class[:, None] * confused / weights[:, None])


def instance_dependent(true: IntArray, probs: FloatArray, rate: float, rng: np.random.Generator) -> IntArray:
    """Return labels that go to the runner-up, likelier where classes touch; arguments as in `uniform`."""
    rows = np.arange(len(true))
    others = np.array(probs, dtype=np.float64)
    others[rows, true] = -1
    margin = probs[rows, true] - others.max(axis=1)
    chance = _scaled(np.exp(-3.0 * margin), np.full(len(true), 1 / len(true)), rate, MOST_PER_SAMPLE)
    return np.where(rng.random(len(true)) < chance, others.argmax(axis=1), true)


def tired_inspector(true: IntArray, probs: FloatArray, rate: float, rng: np.random.Generator) -> IntArray:
    """Return labels of five lines, one of which errs 3.4 times as often; arguments as in `uniform`."""
    is_tired = rng.integers(0, NUM_LINES, len(true)) == 0
    tired = min(MOST_TIRED, rate * TIRED_FACTOR)
    awake = (rate - tired / NUM_LINES) * NUM_LINES / (NUM_LINES - 1)
    return _to_others(true, rng.random(len(true)) < np.where(is_tired, tired, awake), probs.shape[1], rng)


KINDS: dict[str, Callable[[IntArray, FloatArray, float, np.random.Generator], IntArray]] = {
    "uniform": uniform,
    "asymmetric": asymmetric,
    "class_dependent": class_dependent,
    "instance_dependent": instance_dependent,
    "tired_inspector": tired_inspector,
}


def _to_others(true: IntArray, is_wrong: npt.NDArray[np.bool_], num_classes: int, rng: np.random.Generator) -> IntArray:
    """Another class at random where wrong."""
    return np.where(is_wrong, (true + rng.integers(1, num_classes, len(true))) % num_classes, true)


def _scaled(weights: FloatArray, shares: FloatArray, rate: float, most: float) -> npt.NDArray[np.float64]:
    """Weights times the factor that brings min(weight, most) to a mean of ``rate`` (bisection)."""
    low, high = 0.0, 1e9
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (low, middle) if np.minimum(weights * middle, most) @ shares > rate else (middle, high)
    return np.asarray(np.minimum(weights * low, most), dtype=np.float64)
