"""The queue: who comes first, who never comes, and what it should bring."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from labelclean.review.queue import (
    Audit,
    Candidates,
    Doubt,
    Queue,
    audit_order,
    audit_salt,
    audit_size,
    build_queue,
    estimate_queue,
    measure_doubt,
    repeated_images,
)


def queue(scores: list[float], *, issue_below: float = 0.5, **changes: object) -> Queue:
    n = len(scores)
    label_scores = np.array(scores)
    known: dict[str, object] = {
        "given": np.zeros(n, dtype=np.int64),
        "conflict_sets": np.full(n, -1),
        "is_settled": np.zeros(n, dtype=bool),
        "order": np.arange(n),
    }
    settings: dict[str, object] = {
        "budget": None,
        "audit": Audit(np.empty(0, dtype=np.int64), 0.0),
        "class_floor": 0,
    }
    known |= {name: changes.pop(name) for name in known if name in changes}
    candidates = Candidates(label_scores, label_scores < issue_below, **known)  # type: ignore[arg-type]
    return build_queue(candidates, **(settings | changes))  # type: ignore[arg-type]


def test_flagged_samples_come_most_doubtful_first() -> None:
    assert queue([0.4, 0.9, 0.1, 0.2]).rows.tolist() == [2, 3, 0]


def test_ties_are_ordered_by_id_not_by_row() -> None:
    assert queue([0.1, 0.1, 0.1], order=np.array([2, 0, 1])).rows.tolist() == [1, 2, 0]


def test_conflicting_twins_come_before_everything_and_stay_together() -> None:
    got = queue([0.05, 0.9, 0.8, 0.1, 0.7, 0.6], conflict_sets=np.array([-1, 0, -1, -1, 0, -1]))
    assert got.rows.tolist() == [1, 4, 0, 3]
    assert got.sources == ("conflict_group", "conflict_group", "ranked", "ranked")


def test_pictures_that_look_unusable_come_first_and_keep_to_their_places() -> None:
    conflicts = np.array([-1, 0, -1, -1, 0, -1])
    got = queue([0.05, 0.9, 0.8, 0.1, 0.7, 0.95], conflict_sets=conflicts, unusable=np.array([5, 4, 0]))
    assert got.rows.tolist() == [5, 4, 0, 1, 3]
    assert got.sources == ("unusable", "unusable", "unusable", "conflict_group", "ranked")
    assert queue([0.1, 0.2, 0.9], unusable=np.array([2]), budget=1).sources == ("unusable",)
    settled = np.array([False, False, True])
    assert queue([0.1, 0.2, 0.9], unusable=np.array([2]), is_settled=settled).rows.tolist() == [0, 1]
    drawn = queue([0.1, 0.2, 0.9], unusable=np.array([2]), audit=Audit(np.array([2]), 0.3))
    assert dict(zip(drawn.rows.tolist(), drawn.sources, strict=True))[2] == "random_audit"


def test_a_picture_that_stands_for_many_is_shown_once() -> None:
    # rows 0..23: a placeholder in two classes, saved twice with other bytes; 24..26: two copies of a file and a near-duplicate
    sets = np.array([0] * 24 + [1, 1, 1] + [-1] * 13)
    images = np.array([0, 1] * 12 + [2, 2, 3, *range(4, 17)])
    scores = np.linspace(0.1, 0.9, 40)
    repeated = repeated_images(sets, images, scores, np.arange(40))
    assert np.flatnonzero(~repeated[:27]).tolist() == [0, 24, 26]
    assert not repeated[27:].any()
    got = queue(scores.tolist(), issue_below=0.95, conflict_sets=sets, is_settled=repeated, given=np.arange(40) % 2)
    assert got.rows.tolist() == [0, 24, *range(26, 40)]
    assert got.sources[:3] == ("conflict_group",) * 3


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


def draw_audit(
    ids: Sequence[str], is_settled: npt.NDArray[np.bool_], wanted: int, places: int | None, *, seed: int
) -> Audit:
    """The audit by sorting all that is unsettled."""
    rows = np.flatnonzero(~is_settled)
    size = audit_size(wanted, len(rows), places)
    order = audit_order([ids[row] for row in rows.tolist()], audit_salt(seed, len(ids), len(rows)))
    return Audit(rows[order[:size]], size / max(len(rows), 1))


def drawn(size: int, unsettled: npt.NDArray[np.bool_], places: int | None = None, *, seed: int = 0) -> list[int]:
    audit = draw_audit([f"s{row}" for row in range(len(unsettled))], ~unsettled, size, places, seed=seed)
    return [int(row) for row in audit.rows]


def test_a_drawn_sample_stands_once_as_audit_also_where_it_is_the_most_doubtful_or_a_twin() -> None:
    got = queue(
        [0.05, 0.1, 0.2, 0.9, 0.8, 0.7],
        conflict_sets=np.array([-1, -1, -1, 0, 0, -1]),
        audit=Audit(np.array([0, 3]), 2 / 6),
    )
    assert sorted(got.rows.tolist()) == [0, 1, 2, 3, 4]
    source = dict(zip(got.rows.tolist(), got.sources, strict=True))
    assert source == {0: "random_audit", 3: "random_audit", 4: "conflict_group", 1: "ranked", 2: "ranked"}
    assert [row for row in got.rows.tolist() if row not in (0, 3)] == [4, 1, 2]
    probabilities = dict(zip(got.rows.tolist(), got.inclusion_probabilities.tolist(), strict=True))
    assert (probabilities[0], probabilities[3]) == pytest.approx((1 / 3, 1 / 3))
    assert np.isnan([probabilities[row] for row in (1, 2, 4)]).all()


def test_audit_samples_are_spread_over_the_queue_in_the_order_of_their_draw() -> None:
    got = queue([0.1, 0.2, 0.3, 0.4, 0.45, 0.46, 0.9, 0.01], audit=Audit(np.array([7, 6]), 0.25))
    assert got.rows.tolist() == [0, 1, 7, 2, 3, 6, 4, 5]  # thirds of the six others, whatever their scores


def test_with_a_budget_the_audit_takes_half_of_the_places_and_the_doubtful_the_rest() -> None:
    assert [audit_size(30, 1_000, places) for places in (0, 1, 2, 3, 50, 51, 60, 99)] == [0, 0, 1, 1, 25, 25, 30, 30]
    assert [audit_size(0, 1_000, 2), audit_size(30, 7, None), audit_size(30, 7, 40)] == [0, 7, 7]
    scores = list(np.linspace(0.01, 0.99, 100))
    rows = drawn(30, np.ones(100, dtype=bool), 20)
    got = queue(scores, budget=20, audit=Audit(np.array(rows), 0.1))
    assert len(rows) == 10
    assert sorted(row for row in got.rows.tolist() if row not in rows) == [k for k in range(20) if k not in rows][:10]


def test_every_unsettled_sample_is_drawn_equally_often_also_the_first_of_the_ranking() -> None:
    unsettled = np.arange(50) % 5 != 4  # 40 of 50
    counts = np.zeros(50)
    for seed in range(3_000):
        rows = drawn(8, unsettled, seed=seed)
        assert len(set(rows)) == 8
        counts[rows] += 1
    assert counts[~unsettled].sum() == 0
    # drawing 8 of 40: each count is binomial with 3,000 trials and 1/5; the squares are chi-square with 39 degrees
    gaps = (counts[unsettled] - 600) / (3_000 * 0.2 * 0.8) ** 0.5
    assert np.abs(gaps).max() < 4
    assert 16 < (gaps**2).sum() < 75  # 1 in 1,000 on each side, by the table


def test_two_samples_are_drawn_together_as_often_as_any_two() -> None:
    together = sum({0, 1} <= set(drawn(5, np.ones(10, dtype=bool), seed=seed)) for seed in range(3_000))
    share = 5 / 10 * 4 / 9
    assert abs(together - 3_000 * share) < 4 * (3_000 * share * (1 - share)) ** 0.5


def test_the_next_night_draws_old_and_new_samples_alike() -> None:
    old = total = 0
    for seed in range(300):
        tonight = np.ones(100, dtype=bool)
        first = drawn(10, tonight, seed=seed)
        later = np.ones(200, dtype=bool)  # 100 more have come
        later[first] = False
        second = drawn(10, later, seed=seed)
        old, total = old + sum(row < 100 for row in second), total + len(second)
    share = 90 / 190
    assert abs(old - total * share) < 4 * (total * share * (1 - share)) ** 0.5


def test_the_draw_does_not_depend_on_the_order_of_rows_and_repeats_itself() -> None:
    ids, settled = np.array([f"s{row}" for row in range(100)]), np.arange(100) % 3 == 0
    first = draw_audit(ids.tolist(), settled, 10, None, seed=3)
    shuffle = np.random.default_rng(1).permutation(100)
    second = draw_audit(ids[shuffle].tolist(), settled[shuffle], 10, None, seed=3)
    assert ids[first.rows].tolist() == ids[shuffle][second.rows].tolist()
    assert first.inclusion_probability == 10 / 66


def test_no_sample_stands_twice() -> None:
    rng = np.random.default_rng(0)
    audit = Audit(rng.permutation(200)[:12], 0.06)
    got = queue(list(rng.random(200)), budget=60, audit=audit, class_floor=4, given=rng.integers(0, 9, 200))
    assert len(set(got.rows.tolist())) == len(got.rows) == 60
    assert got.sources.count("random_audit") == 12


def test_an_empty_queue_is_empty() -> None:
    assert queue([0.9, 0.8]).rows.tolist() == []
    assert drawn(30, np.zeros(4, dtype=bool)) == []


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
