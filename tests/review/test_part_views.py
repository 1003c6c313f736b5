"""What people say of one view of a part, and how many labels were judged."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from labelclean.review.decisions import Decision, DecisionKind
from labelclean.review.part_views import decisions_of_parts, num_judged


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
