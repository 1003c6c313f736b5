"""The teacher's top-2 pair: candidates, margin, two-hot partial label, and how stable the pair is over refits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from labelclean.arrays import Float32Array, Float64Array, FloatArray, IntArray
from labelclean.probes.sums import FeatureSums, TargetSums, solved_ridge

LEAST_SCORED = 2
NARROW_MARGIN = 0.1
BLOCK_SAMPLES = 4096


@dataclass(frozen=True)
class Top2Report:
    """What the top-2 stability gate looks at.

    Attributes:
        mean_agreement: Mean of the samples' agreement, in [0, 1]; None without refits.
        unstable_share: Share of samples whose agreement is under the limit; None without refits.
        coverage: Share of samples whose given label is one of the pair.
        narrow_margin_share: Share of samples whose margin is under 0.1.
        worst_classes: The classes of least mean agreement, at most 3, worst first.
    """

    mean_agreement: float | None
    unstable_share: float | None
    coverage: float
    narrow_margin_share: float
    worst_classes: tuple[int, ...]


def top2_candidates(pred_probs: FloatArray) -> IntArray:
    """Return the two most probable classes of each sample, most probable first.

    Equal probabilities are ordered by class index, so the same input gives the
    same pair on every machine.

    Args:
        pred_probs: Predicted class probabilities, float, shape (N, K) with K >= 2.

    Returns:
        Class indices, int64, shape (N, 2), rows aligned with ``pred_probs``.
        Column 0 is the top-1 class, column 1 the runner-up; they always differ.

    Raises:
        ValueError: If ``pred_probs`` is not two-dimensional or has fewer than 2 classes.

    Examples:
        >>> top2_candidates(np.array([[0.2, 0.7, 0.1], [0.4, 0.2, 0.4]]))
        array([[1, 0],
               [0, 2]])
    """
    if pred_probs.ndim != 2 or pred_probs.shape[1] < 2:
        raise ValueError(f"pred_probs must have shape (N, K) with K >= 2, but has shape {pred_probs.shape}.")
    rows = np.arange(len(pred_probs))
    top1 = pred_probs.argmax(axis=1)
    rest = pred_probs.astype(np.float64)
    rest[rows, top1] = -np.inf
    return np.stack([top1, rest.argmax(axis=1)], axis=1).astype(np.int64)


def top2_margin(pred_probs: FloatArray) -> Float32Array:
    """Return p(top1) - p(runner-up).

    Args:
        pred_probs: Predicted class probabilities, float, shape (N, K) with K >= 2.

    Returns:
        float32, shape (N,), in [0, 1], rows aligned with ``pred_probs``.

    Examples:
        >>> top2_margin(np.array([[0.25, 0.75], [0.5, 0.5]]))
        array([0.5, 0. ], dtype=float32)
    """
    pair = np.take_along_axis(pred_probs, top2_candidates(pred_probs), axis=1)
    return np.asarray(pair[:, 0] - pair[:, 1], dtype=np.float32)


def two_hot(candidates: IntArray, num_classes: int) -> Float32Array:
    """Return partial labels: exactly two ones per row.

    Args:
        candidates: The pair of each sample, int64, shape (N, 2), the two always differ.
        num_classes: K.

    Returns:
        float32, shape (N, K), rows aligned with ``candidates``.

    Examples:
        >>> two_hot(np.array([[2, 0]]), 3)
        array([[1., 0., 1.]], dtype=float32)
    """
    rows = np.zeros((len(candidates), num_classes), dtype=np.float32)
    np.put_along_axis(rows, candidates, 1.0, axis=1)
    return rows


@dataclass(frozen=True)
class Refits:
    """Refits of the teacher, each to another weighting of hash buckets of the samples.

    Attributes:
        weights: float32, shape (R, D, K).
        bias: float32, shape (R, K).
        counts: How often each bucket counted, float64, shape (R, P).
    """

    weights: Float32Array
    bias: Float32Array
    counts: Float64Array

    def agreement(self, unit_rows: Float32Array, buckets: IntArray) -> Float32Array:
        """Return the share of refits that agree on a sample's top-2 pair, of those that left its bucket out.

        Args:
            unit_rows: Centred unit features, float32, shape (N, D).
            buckets: Hash bucket of each sample, int64, shape (N,), in [0, P).

        Returns:
            float32, shape (N,), in (0, 1]: the share with its most common unordered pair; 1 where there are no refits.
        """
        num_refits, num_dims, num_classes = self.weights.shape
        if not num_refits:
            return np.ones(len(buckets), dtype=np.float32)
        columns = self.weights.transpose(1, 0, 2).reshape(num_dims, -1)  # all refits in one product: rows are read once
        pairs = np.empty((len(buckets), num_refits), dtype=np.int64)
        for start in range(0, len(buckets), BLOCK_SAMPLES):
            rows = slice(start, start + BLOCK_SAMPLES)
            scores = (unit_rows[rows] @ columns).reshape(-1, num_refits, num_classes) + self.bias
            pair = np.sort(top2_candidates(scores.reshape(-1, num_classes)), axis=1)
            pairs[rows] = (pair[:, 0] * num_classes + pair[:, 1]).reshape(-1, num_refits)
        pairs[self.counts[:, buckets].T != 0] = -1
        return agreement_of_pairs(pairs)


def fit_refits(sums: FeatureSums, targets: TargetSums, penalty: float, *, repeats: int, seed: int) -> Refits:
    """Return refits that weight the hash buckets by Poisson(1) counts: a bootstrap on stored sums.

    Args:
        sums: Feature sums per bucket.
        targets: Target sums per bucket.
        penalty: c of the ridge teacher.
        repeats: R.
        seed: Draws the Poisson counts.

    Returns:
        The refits; every bucket is left out at least twice.
    """
    counts = _bootstrap_counts(sums.num_parts, repeats, seed)
    fitted, bias = zip(*(solved_ridge(sums, targets, weights, penalty) for weights in counts), strict=True)
    return Refits(np.stack(fitted).astype(np.float32), np.stack(bias).astype(np.float32), counts)


def no_refits(num_dims: int) -> Refits:
    """Return what stands for the refits of two classes: both are always the pair, on which all would agree.

    Args:
        num_dims: D.

    Returns:
        No refits.

    Examples:
        >>> no_refits(3).agreement(np.ones((2, 3), np.float32), np.array([0, 1]))
        array([1., 1.], dtype=float32)
    """
    return Refits(np.empty((0, num_dims, 2), np.float32), np.empty((0, 2), np.float32), np.empty((0, 0)))


def agreement_of_pairs(pairs: IntArray) -> Float32Array:
    """Return the share of a sample's refits that have its most common pair.

    Args:
        pairs: A number for the unordered pair of each sample and refit, int64, shape (N, R),
            -1 where the refit did not score the sample.

    Returns:
        float32, shape (N,), in (0, 1]; 1 for a sample that no refit scored.

    Examples:
        >>> agreement_of_pairs(np.array([[7, 7, 5, -1]]))
        array([0.6666667], dtype=float32)
    """
    is_scored = pairs >= 0
    most = np.zeros(len(pairs), dtype=np.int64)
    for repeat in range(pairs.shape[1]):
        same = (pairs == pairs[:, [repeat]]) & is_scored
        most = np.maximum(most, np.where(is_scored[:, repeat], same.sum(axis=1), 0))
    scored = is_scored.sum(axis=1)
    return np.where(scored > 0, most / np.maximum(scored, 1), 1.0).astype(np.float32)


def measure_top2(
    pred_probs: FloatArray, agreement: Float32Array | None, given: IntArray, unstable_below: float
) -> Top2Report:
    """Return the figures of the top-2 stability check.

    Args:
        pred_probs: Out-of-fold teacher probabilities, float, shape (N, K).
        agreement: Share of agreeing refits, float32, shape (N,), or None without refits.
        given: Given classes, int64, shape (N,).
        unstable_below: Agreement under which a sample counts as unstable.

    Returns:
        The report.
    """
    return Top2Report(
        mean_agreement=None if agreement is None else float(agreement.mean()),
        unstable_share=None if agreement is None else float((agreement < unstable_below).mean()),
        coverage=float((top2_candidates(pred_probs) == given[:, None]).any(axis=1).mean()),
        narrow_margin_share=float((top2_margin(pred_probs) < NARROW_MARGIN).mean()),
        worst_classes=() if agreement is None else _worst_classes(agreement, given, pred_probs.shape[1]),
    )


def _worst_classes(agreement: Float32Array, given: IntArray, num_classes: int) -> tuple[int, ...]:
    """Classes of least mean agreement, at most 3, worst first."""
    counts = np.bincount(given, minlength=num_classes)
    mean = np.bincount(given, weights=agreement, minlength=num_classes) / np.maximum(counts, 1)
    order = np.argsort(np.where(counts > 0, mean, np.inf), kind="stable")
    return tuple(int(index) for index in order[:3] if counts[index] > 0)


def _bootstrap_counts(num_parts: int, repeats: int, seed: int) -> Float64Array:
    """Poisson(1) counts, shape (R, P), each part at 0 in at least two repeats."""
    draw = np.random.default_rng([seed, 2])
    counts = draw.poisson(1.0, size=(repeats, num_parts)).astype(np.float64)
    for part in range(num_parts):
        missing = min(LEAST_SCORED, repeats) - int((counts[:, part] == 0).sum())
        if missing > 0:
            used = np.flatnonzero(counts[:, part])
            counts[draw.choice(used, size=missing, replace=False), part] = 0.0
    return counts
