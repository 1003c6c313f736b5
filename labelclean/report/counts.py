"""What the report counts over labels: the counts of some labels, which add to those of all."""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt

from labelclean.arrays import FloatArray, IntegerArray


def score_counts(scores: FloatArray, is_issue: npt.NDArray[np.bool_]) -> IntegerArray:
    """Return the labels by tenths of their score.

    Args:
        scores: Chance that the given label is right, shape (B,), in [0, 1].
        is_issue: Whether it is worth a look, shape (B,).

    Returns:
        Labels of each tenth, and those of them that are worth a look, int64, shape (10, 2); 1.0 falls into the last.

    Examples:
        >>> score_counts(np.array([0.0, 0.1, 1.0]), np.array([True, True, False]))[:, 0]
        array([1, 1, 0, 0, 0, 0, 0, 0, 0, 1])
    """
    tenths = _tenths(scores)
    return np.stack([np.bincount(tenths, minlength=10), np.bincount(tenths[is_issue], minlength=10)], axis=1)


def said_sums(said: FloatArray, agreed: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Return what the teacher says and whether it holds, by tenths of what it says.

    Args:
        said: Probability of its best class, shape (B,).
        agreed: Whether the given label is that class, shape (B,).

    Returns:
        Labels of each tenth, sum of what was said, labels that are that class, float64, shape (10, 3).

    Examples:
        >>> said_sums(np.array([0.5, 0.5]), np.array([True, False]))[5]
        array([2., 1., 1.])
    """
    tenths = _tenths(said)
    weights = (np.ones(len(tenths)), said, agreed)
    return np.stack([np.bincount(tenths, one, minlength=10) for one in weights], axis=1)


def pair_counts(given: IntegerArray, predicted: IntegerArray) -> Counter[tuple[int, int]]:
    """Return the labels by given and predicted class.

    Args:
        given: Given class, shape (B,).
        predicted: Predicted class, shape (B,).

    Returns:
        Labels of each pair that occurs.

    Examples:
        >>> pair_counts(np.array([0, 0, 1]), np.array([0, 0, 0]))
        Counter({(0, 0): 2, (1, 0): 1})
    """
    size = int(predicted.max(initial=0)) + 1
    codes, counts = np.unique(given * size + predicted, return_counts=True)
    return Counter({divmod(code, size): num for code, num in zip(codes.tolist(), counts.tolist(), strict=True)})


def _tenths(values: FloatArray) -> IntegerArray:
    """Tenth that each value lies in; the small allowance keeps 0.3 from falling under 3/10."""
    return np.clip(np.floor(np.asarray(values, dtype=np.float64) * 10 + 1e-6), 0, 9).astype(np.int64)
