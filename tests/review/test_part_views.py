"""Labels of one part that contradict each other though its images say the same."""

from __future__ import annotations

import numpy as np

from labelclean.review.part_views import part_conflicts


def test_it_is_what_a_slow_loop_over_pairs_finds() -> None:
    random = np.random.default_rng(4)
    parts, given, seen = random.integers(-1, 12, 80), random.integers(0, 3, 80), random.integers(0, 3, 80)
    best = random.uniform(0.3, 1.0, 80)
    slow = [
        any(
            parts[a] == parts[b] >= 0 and seen[a] == seen[b] and given[a] != given[b] and min(best[a], best[b]) > 0.5
            for b in range(80)
        )
        for a in range(80)
    ]
    assert part_conflicts(parts, given, seen, best).tolist() == slow
    assert 0 < sum(slow) < 80


def test_images_of_no_part_and_no_images_are_in_no_conflict() -> None:
    none = np.full(4, -1)
    assert not part_conflicts(none, np.arange(4), np.zeros(4, int), np.ones(4)).any()
    assert part_conflicts(none[:0], none[:0], none[:0], none[:0].astype(float)).shape == (0,)
