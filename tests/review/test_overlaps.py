"""Boxes on one another, against a slow loop."""

from __future__ import annotations

import itertools

import numpy as np

from labelclean.review.overlaps import intersection_over_union, overlaps_of


def overlap(a: list[float], b: list[float]) -> float:
    """Common area over joined area, side by side."""
    across = max(0.0, min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0]))
    down = max(0.0, min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1]))
    return across * down / (a[2] * a[3] + b[2] * b[3] - across * down)


def test_sets_conflicts_and_doubles_are_those_of_a_slow_loop() -> None:
    random = np.random.default_rng(5)
    first = random.uniform(1, 40, (60, 4))
    near = first * random.uniform(0.97, 1.03, (60, 4))
    boxes = np.concatenate([first, near, random.uniform(1, 40, (80, 4))])
    images = np.concatenate([np.arange(60) // 6, np.arange(60) // 6, random.integers(0, 10, 80)])
    given = random.integers(0, 3, 200)
    order = random.permutation(200)
    boxes, images, given = boxes[order], images[order], given[order]
    found = overlaps_of(images, boxes, given)
    sets = list(range(200))
    for a, b in itertools.combinations(range(200), 2):
        if images[a] == images[b] and overlap(boxes[a].tolist(), boxes[b].tolist()) >= 0.9:
            old, new = max(sets[a], sets[b]), min(sets[a], sets[b])
            sets = [new if one == old else one for one in sets]
    members = {number: [row for row in range(200) if sets[row] == number] for number in set(sets)}
    assert sum(len(rows) > 1 for rows in members.values()) > 20
    for rows in members.values():
        assert len({found.sets[row] for row in rows}) == 1
        assert (found.sets[rows[0]] >= 0) == (len(rows) > 1)
        for row in rows:
            others = [given[other] for other in rows if other != row]
            assert found.is_conflict[row] == any(other != given[row] for other in others)
            assert found.is_double[row] == any(other == given[row] for other in others)
    assert len(set(found.sets[found.sets >= 0].tolist())) == sum(len(rows) > 1 for rows in members.values())


def test_exactly_nine_tenths_counts_and_other_images_do_not() -> None:
    boxes = np.array([[0.0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 8.9], [0, 0, 10, 10]])
    assert intersection_over_union(boxes)[0].tolist() == [1.0, 0.9, 0.89, 1.0]
    found = overlaps_of(np.array([0, 0, 1, 1]), boxes, np.zeros(4, dtype=np.int64))
    assert found.sets.tolist() == [0, 0, -1, -1]
    none = overlaps_of(np.empty(0, dtype=np.int64), np.empty((0, 4)), np.empty(0, dtype=np.int64))
    assert len(none.sets) == 0
