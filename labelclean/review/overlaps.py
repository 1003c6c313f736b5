"""Boxes that lie on one another in one image: of two classes they contradict each other, of one class they are drawn twice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from labelclean.arrays import BoolArray, Float64Array, IntArray

SAME_PLACE = 0.9
"""Overlap (intersection over union) from which two boxes mean one thing: people who draw a box twice miss by some pixels."""


@dataclass(frozen=True)
class Overlaps:
    """Boxes that lie on one another; rows are aligned with the boxes.

    Attributes:
        sets: Number of the set of boxes at one place, int64, shape (N,), -1 for boxes that lie alone.
        is_conflict: Another box of the set has another class, shape (N,).
        is_double: Another box of the set has the same class, shape (N,).
    """

    sets: IntArray
    is_conflict: BoolArray
    is_double: BoolArray


def overlaps_of(images: IntArray, boxes: Float64Array, given: IntArray) -> Overlaps:
    """Return which boxes lie on one another.

    Args:
        images: Number of each box's image, int64, shape (N,).
        boxes: Left, top, width and height, shape (N, 4), each with an area.
        given: Given class, shape (N,).

    Returns:
        The overlaps; boxes of a chain, each on the next, are one set.

    Examples:
        >>> boxes = np.array([[0.0, 0, 10, 10], [0, 0, 10, 9.5], [0, 0, 10, 10], [5, 0, 10, 10]])
        >>> found = overlaps_of(np.array([0, 0, 1, 0]), boxes, np.array([0, 1, 0, 0]))
        >>> found.sets, found.is_conflict, found.is_double.any()
        (array([ 0,  0, -1, -1]), array([ True,  True, False, False]), np.False_)
    """
    pairs = _pairs(images, boxes)
    num_boxes = len(boxes)
    graph = coo_array((np.ones(pairs.shape[1]), tuple(pairs)), shape=(num_boxes, num_boxes))
    numbers = connected_components(graph, directed=False)[1].astype(np.int64)
    sizes = np.bincount(numbers, minlength=1)[numbers]
    _, same, counts = np.unique(np.stack([numbers, given]), axis=1, return_inverse=True, return_counts=True)
    of_class = counts[same]
    return Overlaps(np.where(sizes > 1, numbers, -1), of_class < sizes, of_class > 1)


def _pairs(images: IntArray, boxes: Float64Array) -> IntArray:
    """Both rows of each pair of boxes of one image that overlap enough, int64, shape (2, P)."""
    order = np.argsort(images, kind="stable")
    starts = np.flatnonzero(np.diff(images[order], prepend=-1))
    pairs = [np.empty((2, 0), dtype=np.int64)]
    for rows in np.split(order, starts[1:]):
        if len(rows) > 1:
            left, right = np.nonzero(np.triu(intersection_over_union(boxes[rows]) >= SAME_PLACE, 1))
            pairs.append(np.stack([rows[left], rows[right]]))
    return np.concatenate(pairs, axis=1)


def intersection_over_union(boxes: Float64Array) -> Float64Array:
    """Return how far boxes overlap: their common area as a share of the area that either covers.

    Args:
        boxes: Left, top, width and height, shape (B, 4), each with an area.

    Returns:
        float64, shape (B, B), in [0, 1].

    Examples:
        >>> intersection_over_union(np.array([[0.0, 0, 2, 1], [1, 0, 2, 1]])).round(3).tolist()
        [[1.0, 0.333], [0.333, 1.0]]
    """
    low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    sides = np.minimum(high[:, None], high[None]) - np.maximum(low[:, None], low[None])
    common = np.clip(sides, 0, None).prod(axis=2)
    area = boxes[:, 2:].prod(axis=1)
    return np.asarray(common / (area[:, None] + area[None] - common))
