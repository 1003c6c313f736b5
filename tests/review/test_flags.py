"""Each reason stands where its condition holds and nowhere else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from labelclean.config import FlagsConfig
from labelclean.probes.neighbours import conflict_sets
from labelclean.review.flags import FlagInputs, build_flags
from labelclean.storage.tables import UNUSABLE

LIMITS = FlagsConfig(narrow_margin=0.1, neighbours_share=0.7, rare_class_count=2, outlier_z=5.0)


def quiet(n: int = 4) -> FlagInputs:
    """Samples that nothing is wrong with: two classes, half each."""
    given = np.arange(n) % 2
    return FlagInputs(
        votes=np.eye(2)[given],
        given=given,
        predicted=given,
        label_scores=np.full(n, 0.9),
        is_label_issue=np.zeros(n, dtype=bool),
        top2_margin=np.full(n, 0.8),
        top2_agreement=np.ones(n),
        neighbour_votes=np.eye(2)[given],
        duplicate_sets=np.full(n, -1),
        conflict_sets=np.full(n, -1),
    )


def reasons(inputs: FlagInputs) -> list[tuple[int, str, float]]:
    got = build_flags(inputs, LIMITS, unstable_below=0.6)
    return [(int(r), str(w), round(float(s), 3)) for r, w, s in zip(got.rows, got.reasons, got.scores, strict=True)]


def test_nothing_is_flagged_where_nothing_is_wrong() -> None:
    assert reasons(quiet()) == []


def test_a_label_that_we_would_change_and_one_that_waits_for_eyes_have_reasons_of_their_own() -> None:
    both = replace(
        quiet(),
        is_label_issue=np.array([1, 1, 0, 0], dtype=bool),
        predicted=np.array([1 - quiet().given[0], *quiet().given[1:]]),
        label_scores=np.array([0.2, 0.4, 0.9, 0.9]),
    )
    assert [reason for reason in reasons(both) if reason[1] != "rare_class_move"] == [
        (0, "other_class", 0.8),
        (1, "readings_differ", 0.6),
    ]


def test_a_label_issue_is_as_urgent_as_its_score_is_low() -> None:
    wrong = replace(
        quiet(), is_label_issue=np.array([0, 1, 0, 0], dtype=bool), label_scores=np.array([0.9, 0.2, 0.9, 0.9])
    )
    assert reasons(wrong) == [(1, "readings_differ", 0.8)]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"neighbour_votes": np.array([[0.2, 0.8], [0, 1], [1, 0], [0.4, 0.6]])}, (0, "neighbours_disagree", 0.8)),
        ({"top2_margin": np.array([0.8, 0.8, 0.04, 0.8])}, (2, "narrow_margin", 0.96)),
        ({"top2_agreement": np.array([1, 1, np.nan, 0.5])}, (3, "unstable_top2", 0.5)),
        ({"votes": np.array([[0.75, 0.25], [0, 1], [1, 0], [0, 1]])}, (0, "annotators_disagree", 0.25)),
    ],
)
def test_each_doubt_has_its_reason(change: dict[str, Any], expected: tuple[int, str, float]) -> None:
    assert reasons(replace(quiet(), **change)) == [expected]


def test_twins_are_named_and_conflicting_twins_twice() -> None:
    got = reasons(
        replace(quiet(5), duplicate_sets=np.array([0, 0, 1, -1, 1]), conflict_sets=np.array([0, 0, -1, -1, -1]))
    )
    assert [row for row, why, _ in got if why == "conflict_group"] == [0, 1]
    assert [row for row, why, _ in got if why == "near_duplicate"] == [0, 1, 2, 4]


def test_what_stands_in_another_split_too_is_named() -> None:
    assert reasons(replace(quiet(), leak_sets=np.array([-1, 0, 0, -1]))) == [(1, "split_leak", 0.1), (2, "split_leak", 0.1)]  # fmt: skip
    assert reasons(replace(quiet(), leak_sets=np.full(4, -1))) == []


def test_a_move_out_of_a_rare_class_is_named() -> None:
    given = np.array([0, 0, 0, 1])
    moved = replace(
        quiet(), given=given, votes=np.eye(2)[given], predicted=np.array([0, 0, 0, 0]), neighbour_votes=None
    )
    assert reasons(moved) == [(3, "rare_class_move", 0.1)]


def test_pictures_outside_their_set_are_named_from_the_limit_on() -> None:
    odd = np.full((4, len(UNUSABLE)), -np.inf)
    odd[1, UNUSABLE.index("dark")], odd[2, UNUSABLE.index("outlier")], odd[3, UNUSABLE.index("dark")] = (
        5.001,
        15.0,
        4.999,
    )
    assert reasons(replace(quiet(), oddness=odd)) == [(1, "dark", 0.5), (2, "outlier", 0.75)]


def test_without_neighbours_and_refits_their_reasons_stay_away() -> None:
    assert reasons(replace(quiet(), neighbour_votes=None, top2_agreement=None)) == []


def test_conflict_sets_without_any_set() -> None:
    assert conflict_sets(np.array([-1, -1]), np.array([0, 1])).tolist() == [-1, -1]
