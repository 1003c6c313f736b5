"""Parts that several images show: where labels of one part contradict each other though its images say the same."""

from __future__ import annotations

import numpy as np

from labelclean.arrays import BoolArray, FloatArray, IntArray

PART = "part_id"
MAJORITY = 0.5


def part_conflicts(parts: IntArray, given: IntArray, seen: IntArray, best: FloatArray) -> BoolArray:
    """Return the images of a part that carry different labels though the images show the same class.

    A part may well be labelled differently in two views: one shows the defect and the other does not. Where two views show
    the same class, each with more than half of all probability, and yet have different labels, the images do not explain
    it.

    Args:
        parts: Number of each image's part, int64, shape (N,), -1 for images of none.
        given: Given class, shape (N,).
        seen: Likeliest class by the image alone, shape (N,).
        best: Its probability, shape (N,).

    Returns:
        bool, shape (N,).

    Examples:
        >>> parts, given = np.array([0, 0, 1, 1, -1, -1]), np.array([0, 1, 0, 1, 0, 1])
        >>> part_conflicts(parts, given, np.array([1, 1, 0, 1, 1, 1]), np.full(6, 0.9))
        array([ True,  True, False, False, False, False])
    """
    rows = np.flatnonzero((parts >= 0) & (best > MAJORITY))
    _, view = np.unique(np.stack([parts[rows], seen[rows]]), axis=1, return_inverse=True)
    view = view.ravel()
    low, high = np.full(view.max(initial=-1) + 1, np.iinfo(np.int64).max), np.full(view.max(initial=-1) + 1, -1)
    np.minimum.at(low, view, given[rows])
    np.maximum.at(high, view, given[rows])
    found = np.zeros(len(parts), dtype=bool)
    found[rows] = (low < high)[view]
    return found
