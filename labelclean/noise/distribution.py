"""Counts the given labels per class and measures how far their shares moved from a reference."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from labelclean.arrays import FloatArray, IntArray
from labelclean.labels import GivenLabels


@dataclass(frozen=True)
class DistributionReport:
    """How the given labels are spread over the classes.

    Attributes:
        counts: Votes per class, float64, shape (K,), sum N where each sample has one label.
        shares: Counts over N, float64, shape (K,), sum 1 where each sample has one label.
        reference_shares: Shares in the reference run, or None.
        imbalance: Largest count over the smallest count above zero.
        psi: Population stability index against the reference, or None.
        jensen_shannon: Jensen-Shannon divergence against the reference in bits, 0..1, or None.
    """

    counts: npt.NDArray[np.float64]
    shares: npt.NDArray[np.float64]
    reference_shares: npt.NDArray[np.float64] | None
    imbalance: float
    psi: float | None
    jensen_shannon: float | None


@dataclass(frozen=True)
class ClassMoves:
    """Samples that refining would take from and give to each class.

    Attributes:
        lost: Samples given this class and predicted another, int64, shape (K,).
        gained: Samples predicted this class and given another, int64, shape (K,).
    """

    lost: IntArray
    gained: IntArray


def measure_distribution(labels: GivenLabels, reference_counts: FloatArray | None = None) -> DistributionReport:
    """Return counts, shares and their shift against a reference.

    Args:
        labels: Given labels of N samples.
        reference_counts: Counts per class in the reference run, shape (K,).

    Returns:
        The report; classes in class order.

    Examples:
        >>> from labelclean.labels import given_labels
        >>> measure_distribution(given_labels(np.array([0, 0, 0, 1]), 2)).imbalance
        3.0
    """
    return distribution_of_counts(labels.votes.sum(axis=0, dtype=np.float64), reference_counts)


def distribution_of_counts(
    counts: npt.NDArray[np.float64], reference_counts: FloatArray | None = None, *, num_samples: int | None = None
) -> DistributionReport:
    """Return what `measure_distribution` does from counts alone.

    Args:
        counts: Votes per class, float64, shape (K,).
        reference_counts: Counts per class in the reference run, shape (K,).
        num_samples: N, where a sample may have several labels or none: shares are those of the samples, and do not sum to 1.

    Returns:
        The report.
    """
    shares = counts / max(counts.sum() if num_samples is None else num_samples, 1.0)
    present = counts[counts > 0]
    imbalance = float(present.max() / present.min()) if len(present) else 1.0
    if reference_counts is None:
        return DistributionReport(counts, shares, None, imbalance, None, None)
    reference = np.asarray(reference_counts, dtype=np.float64)
    reference_shares = reference / max(reference.sum(), 1.0)
    return DistributionReport(
        counts,
        shares,
        reference_shares,
        imbalance,
        population_stability_index(counts, reference),
        jensen_shannon(shares, reference_shares),
    )


def population_stability_index(counts: FloatArray, reference_counts: FloatArray) -> float:
    """Return sum (p - q) ln(p / q) over classes, half a sample added to each so that empty classes stay finite.

    Args:
        counts: Samples per class, shape (K,).
        reference_counts: Samples per class in the reference, shape (K,).

    Returns:
        The index, 0 for equal shares; by custom .1 is a small and .25 a large shift.

    Examples:
        >>> population_stability_index(np.array([50.0, 50.0]), np.array([500.0, 500.0]))
        0.0
    """
    p = (counts + 0.5) / (counts + 0.5).sum()
    q = (reference_counts + 0.5) / (reference_counts + 0.5).sum()
    return float(((p - q) * np.log(p / q)).sum())


def jensen_shannon(p: FloatArray, q: FloatArray) -> float:
    """Return the Jensen-Shannon divergence of two distributions in bits.

    Args:
        p: Shares, shape (K,), sum 1.
        q: Shares, shape (K,), sum 1.

    Returns:
        In [0, 1]; 0 for equal, 1 for disjoint distributions.

    Examples:
        >>> jensen_shannon(np.array([1.0, 0.0]), np.array([0.0, 1.0]))
        1.0
    """
    middle = (p + q) / 2
    return float((_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2)


def _relative_entropy(p: FloatArray, q: FloatArray) -> float:
    seen = p > 0
    return float((p[seen] * np.log2(p[seen] / q[seen])).sum())


def measure_moves(given: IntArray, predicted: IntArray, num_classes: int) -> ClassMoves:
    """Return how many samples each class would lose and gain.

    Args:
        given: Given class, shape (N,).
        predicted: Predicted class, shape (N,), rows aligned with ``given``.
        num_classes: K.

    Returns:
        Losses and gains per class; their sums are equal.

    Examples:
        >>> measure_moves(np.array([0, 0, 1]), np.array([0, 1, 1]), 2)
        ClassMoves(lost=array([1, 0]), gained=array([0, 1]))
    """
    moved = given != predicted
    return ClassMoves(
        np.bincount(given[moved], minlength=num_classes), np.bincount(predicted[moved], minlength=num_classes)
    )


def class_correlation(class_sums: FloatArray, counts: FloatArray | IntArray) -> npt.NDArray[np.float64]:
    """Return the mean cosine similarity within and between classes, from the class sums alone.

    Classes that lie close are averaged together (methods section 4).

    Args:
        class_sums: Sum of the unit-length feature rows per class, float, shape (K, D).
        counts: Samples per class, shape (K,).

    Returns:
        float64, shape (K, K), symmetric, in [-1, 1]; a sample is not compared with itself.
        0 where a class has too few samples.
    """
    sums = np.asarray(class_sums, dtype=np.float64)
    n = np.asarray(counts, dtype=np.float64)
    dot = sums @ sums.T
    pairs = np.outer(n, n)
    np.fill_diagonal(dot, np.diag(dot) - n)  # |x| = 1, so a row meets itself with 1
    np.fill_diagonal(pairs, n * (n - 1))
    return np.clip(np.divide(dot, pairs, out=np.zeros_like(dot), where=pairs > 0), -1.0, 1.0)
