"""Decisions that are sets: worked out by hand for a handful of people and pictures."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from labelclean.labels import given_labels
from labelclean.review.decisions import Decision, reviewed_labels, standing_decisions
from labelclean.review.label_set_decisions import measure_set_standing
from labelclean.review.ledger import append_decisions, decisions_of, open_ledger

NAMES = ("dent", "scratch", "stain")


def said(who: str, names: tuple[str, ...] | None, kind: str = "corrected", **more: Any) -> Decision:
    values: dict[str, Any] = {
        "sample_id": "a", "content_hash": "h", "given_label": '["dent"]', "decision": kind, "annotator_id": who,
        "reviewed_at": datetime(2026, 11, 29, tzinfo=UTC), "run_id": "r", "dataset": "d", "tool": "sheet",
        "verified_labels": names,
    }  # fmt: skip
    return Decision(**values | more)


def test_shares_verified_and_disputed_by_hand() -> None:
    standing = measure_set_standing(
        [
            [said("a", ("dent", "stain")), said("b", ("dent", "stain"))],  # agreed
            [said("a", ()), said("b", ())],  # agreed: nothing is on it
            [said("a", ("dent",)), said("b", ("dent", "scratch"))],  # disputed in scratch only
            [said("a", None, "bad_image")],
            [said("a", ("dent",)), said("b", None, "bad_image")],
            [said("a", None, "unsure")],
            [],
            [said("a", ("crack",))],  # no class of this run
            [said(who, ("dent",)) for who in "abc"],  # three thirds are one
            [
                said("a", ("dent",)),
                said("b", ("dent", "stain")),
                said("c", None, "bad_image"),
            ],  # disputed in every class
        ],
        NAMES,
    )
    assert standing.answers[:3].tolist() == [[1, 0, 1], [0, 0, 0], [1, 0.5, 0]]
    assert standing.is_verified.tolist() == [True, True, True, False, True, False, False, False, True, True]
    assert standing.is_agreed.tolist() == [True, True, False, False, False, False, False, False, True, False]
    assert standing.is_settled.tolist() == [True, True, True, True, True, False, False, False, True, True]
    assert standing.is_excluded.tolist() == [False, False, False, True, False, False, False, False, False, False]
    assert standing.answers[8].tolist() == [1, 0, 0]
    dent, scratch = standing.of_class(0), standing.of_class(1)
    assert dent.verified.tolist() == [1, 0, 1, -1, -1, -1, -1, -1, 1, -1]  # all agree on the dent of the third
    assert scratch.verified.tolist() == [0, 0, -1, -1, -1, -1, -1, -1, 0, -1]
    assert scratch.is_disputed.tolist() == [False, False, True, False, True, False, False, False, False, True]


def test_a_question_learns_from_what_people_found_and_keeps_what_was_given() -> None:
    standing = measure_set_standing([[said("a", ("dent",), inclusion_probability=0.1)], []], NAMES).of_class(0)
    labels = reviewed_labels(given_labels(np.array([0, 0]), 2), standing)
    assert labels.votes.tolist() == [[0, 1], [1, 0]]
    assert labels.observed.tolist() == [[1, 0], [1, 0]]
    assert labels.is_verified.tolist() == [True, False]
    assert labels.is_audited is not None
    assert labels.is_audited.tolist() == [True, False]


def test_a_decision_stands_while_the_labels_are_those_judged_or_those_found() -> None:
    decision = said("a", ("dent", "stain"))
    for given, stands in (
        ('["dent"]', True), ('["dent", "stain"]', True), ('["stain", "dent"]', True), ("[]", False), ("dent", False),
    ):  # fmt: skip
        assert bool(standing_decisions([decision], ["a"], ["h"], [given])[0]) is stands


def test_an_empty_set_found_right_is_not_any_set() -> None:
    found = said("a", ())
    for given, stands in (('["dent"]', True), ("[]", True), ('["stain"]', False)):
        assert bool(standing_decisions([found], ["a"], ["h"], [given])[0]) is stands
    bad = said("a", None, "bad_image")
    assert standing_decisions([bad], ["a"], ["h"], ['["dent"]'])[0]
    assert not standing_decisions([bad], ["a"], ["h"], ['["stain"]'])[0]


def test_the_ledger_keeps_sets_and_tells_the_empty_one_from_none(tmp_path: Path) -> None:
    ledger = open_ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    sent = [said("a", ("dent", "stain")), said("b", ()), said("c", None, "unsure")]
    assert append_decisions(ledger, sent) == 3
    assert append_decisions(ledger, sent) == 0
    assert sorted(decisions_of(ledger, "d"), key=lambda one: one.annotator_id) == sent
