"""The queue: who comes first, who never comes, and what it should bring."""

from __future__ import annotations

import numpy as np
import pytest

from labelclean.review import Doubt, Queue, build_queue, estimate_queue, measure_doubt


def queue(scores: list[float], *, issue_below: float = 0.5, **changes: object) -> Queue:
    n = len(scores)
    label_scores = np.array(scores)
    settings: dict[str, object] = {
        "given": np.zeros(n, dtype=np.int64),
        "conflict_sets": np.full(n, -1),
        "is_settled": np.zeros(n, dtype=bool),
        "order": np.arange(n),
        "budget": None,
        "audit_share": 0.0,
        "class_floor": 0,
        "seed": 0,
    }
    return build_queue(label_scores, label_scores < issue_below, **(settings | changes))  # type: ignore[arg-type]


def test_flagged_samples_come_most_doubtful_first() -> None:
    assert queue([0.4, 0.9, 0.1, 0.2]).rows.tolist() == [2, 3, 0]


def test_ties_are_ordered_by_id_not_by_row() -> None:
    assert queue([0.1, 0.1, 0.1], order=np.array([2, 0, 1])).rows.tolist() == [1, 2, 0]


def test_conflicting_twins_come_before_everything_and_stay_together() -> None:
    got = queue([0.05, 0.9, 0.8, 0.1, 0.7, 0.6], conflict_sets=np.array([-1, 0, -1, -1, 0, -1]))
    assert got.rows.tolist() == [1, 4, 0, 3]
    assert got.sources == ("conflict_group", "conflict_group", "ranked", "ranked")


def test_settled_samples_never_come_back() -> None:
    settled = np.array([True, False, True, False])
    got = queue([0.1, 0.2, 0.3, 0.4], is_settled=settled, conflict_sets=np.array([0, 0, -1, -1]), budget=4)
    assert sorted(got.rows.tolist()) == [1, 3]


def test_a_budget_is_filled_with_the_next_most_doubtful_and_never_exceeded() -> None:
    assert queue([0.9, 0.6, 0.1, 0.8], budget=3).rows.tolist() == [2, 1, 3]
    assert len(queue([0.9, 0.6, 0.1, 0.8], budget=99).rows) == 4


def test_the_floor_gives_a_rare_class_its_places() -> None:
    given = np.array([0, 0, 0, 0, 1])
    got = queue([0.1, 0.11, 0.12, 0.13, 0.4], given=given, budget=3, class_floor=1)
    assert got.rows.tolist() == [0, 1, 4]
    assert got.sources == ("ranked", "ranked", "rare_class")


def test_the_audit_slice_comes_from_the_rest_and_does_not_depend_on_row_order() -> None:
    scores = np.linspace(0.01, 0.99, 100)
    first = queue(list(scores), audit_share=0.1)
    audit = {int(r) for r, s in zip(first.rows, first.sources, strict=True) if s == "random_audit"}
    assert len(audit) == 5
    assert all(scores[row] >= 0.5 for row in audit)
    shuffle = np.random.default_rng(1).permutation(100)
    second = queue(list(scores[shuffle]), audit_share=0.1, order=shuffle)
    assert {int(shuffle[r]) for r, s in zip(second.rows, second.sources, strict=True) if s == "random_audit"} == audit


def test_no_sample_stands_twice() -> None:
    rng = np.random.default_rng(0)
    got = queue(list(rng.random(200)), budget=60, audit_share=0.2, class_floor=4, given=rng.integers(0, 9, 200))
    assert len(set(got.rows.tolist())) == len(got.rows) == 60
    assert got.sources.count("random_audit") == 12


def test_an_empty_queue_is_empty() -> None:
    assert queue([0.9, 0.8], audit_share=0.05).rows.tolist() == []


def test_the_estimate_by_hand() -> None:
    got = estimate_queue(np.array([0.5, 0.1, 0.9, 0.2]), np.array([0, 1]), np.array([False, False, False, True]))
    assert got.expected_errors == pytest.approx(1.4)
    assert got.expected_left == pytest.approx(0.1)
    assert got.high == 2.0
    assert got.low == pytest.approx(1.4 - 1.645 * (0.25 + 0.09) ** 0.5)


def test_the_doubt_moves_all_scores_together() -> None:
    scores, rows, nobody = np.full(100, 0.5), np.arange(50), np.zeros(100, dtype=bool)
    doubt = measure_doubt(scores, rows, nobody, np.stack([np.full(100, 0.7), np.full(100, 0.4)]))
    assert (doubt.least, doubt.most) == pytest.approx((0.6, 1.2))
    assert doubt.rate_error == pytest.approx(1 / 50**0.5)  # as many errors as are expected in all 100
    got = estimate_queue(scores, rows, nobody, doubt)
    spread = 1.645 * (50 * 0.25 + (25 / 50**0.5) ** 2) ** 0.5
    assert (got.expected_errors, got.low, got.high) == pytest.approx((25, 15 - spread, 30 + spread))


def test_settled_samples_raise_no_doubt() -> None:
    settled = np.array([True, False])
    doubt = measure_doubt(np.array([0.0, 0.5]), np.array([0, 1]), settled, np.array([[1.0, 0.5]]))
    assert doubt == Doubt(1.0, 1.0, 1.0)


def test_the_interval_holds_where_the_scores_are_off_by_what_the_doubt_allows() -> None:
    rng, held = np.random.default_rng(0), 0
    for _ in range(200):
        shown = np.full(300, 0.3)
        rate = 0.7 * (1 + rng.standard_normal() / 210**0.5)  # the estimated rate misses as a count of 210 does
        wrong = int((rng.random(300) < rate).sum())
        doubt = measure_doubt(shown, np.arange(300), np.zeros(300, dtype=bool), None)
        got = estimate_queue(shown, np.arange(300), np.zeros(300, dtype=bool), doubt)
        held += got.low <= wrong <= got.high
    assert 170 <= held <= 190  # 90 %, give or take two standard errors
