"""Labels of one part that contradict each other though its images say the same."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from labelclean.review.decisions import Decision, DecisionKind
from labelclean.review.part_views import decisions_of_parts, num_judged, part_conflicts


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


def said(sample: str, decision: DecisionKind, **more: Any) -> Decision:
    now = datetime(2026, 11, 30, tzinfo=UTC)
    return Decision(sample, f"hash {sample}", "ok", decision, "anna", now, "run", "data", "csv", **more)


def test_what_is_said_of_one_view_counts_for_its_part_but_a_bad_image_for_itself() -> None:
    ids, parts = ["a1", "a2", "b1", "c"], ["a", "a", "b", None]
    hashes = [f"hash {sample}" for sample in ids]
    decisions = [said("a2", "corrected", verified_label="dent"), said("b1", "bad_image"), said("c", "confirmed")]
    spread = decisions_of_parts(decisions, ids, hashes, parts)
    assert [(one.sample_id, one.content_hash, one.decision) for one in spread] == [
        ("a2", "hash a2", "corrected"),
        ("a1", "hash a1", "corrected"),
        ("b1", "hash b1", "bad_image"),
        ("c", "hash c", "confirmed"),
    ]
    assert decisions_of_parts([said("a1", "bad_image")], ids, hashes, parts) == (said("a1", "bad_image"),)


def test_what_was_said_of_another_picture_does_not_spread() -> None:
    old = replace(said("a1", "corrected", verified_label="dent"), content_hash="of another picture")
    assert decisions_of_parts([old], ["a1", "a2"], ["hash a1", "hash a2"], ["a", "a"]) == (old,)


def test_labels_judged_are_those_of_parts_where_labels_are_theirs() -> None:
    assert num_judged({"num_samples": 40, "num_rejects": 3}) == 37
    assert num_judged({"num_samples": 40, "num_rejects": 3, "label_of_part": {"num": 10}}) == 10
