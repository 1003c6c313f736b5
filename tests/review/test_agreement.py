"""A study of the size that the usual handbook shows (50 parts, 3 appraisers, 3 trials), every number worked out here."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from statsmodels.stats.inter_rater import cohens_kappa

from labelclean.config import StudyConfig
from labelclean.errors import ConfigError
from labelclean.review.agreement import AgreementReport, Ratings, measure_agreement, measure_confusions
from labelclean.review.agreement_record import agreement_record, check_ok_class, measured_counts, outcome_of
from labelclean.review.kappas import cohen_kappa, fleiss_kappa

OK, DEFECT = 0, 1
# part -> (appraiser, how many of the three trials are wrong); parts 0..33 are OK, 34..49 defects
WRONG = {
    **dict.fromkeys(range(5), (0, 1)), **dict.fromkeys((5, 6), (1, 1)), **dict.fromkeys((7, 8, 9), (2, 2)),
    **dict.fromkeys((10, 11, 12), (2, 1)), **dict.fromkeys((34, 35, 36), (0, 1)), **dict.fromkeys((37, 38, 39), (1, 1)),
    **dict.fromkeys((40, 41), (2, 2)), **dict.fromkeys((42, 43), (2, 1)),
}  # fmt: skip


@pytest.fixture(scope="module")
def ratings() -> Ratings:
    """Three appraisers who err on different parts."""
    standard = np.array([OK] * 34 + [DEFECT] * 16)
    answers = np.tile(standard, (3, 3, 1))
    for part, (who, times) in WRONG.items():
        answers[who, :times, part] = 1 - standard[part]
    return Ratings(answers, standard, ("A", "B", "C"), tuple(f"p{n}" for n in range(50)), ("ok", "defect"))


@pytest.fixture(scope="module")
def report(ratings: Ratings) -> AgreementReport:
    return measure_agreement(ratings, "ok")


def test_within_an_appraiser_by_hand(report: AgreementReport) -> None:
    own = report.within[0]
    assert own is not None
    assert own.fleiss is not None
    # A answers 8 of 50 parts two to one; 100 of 150 answers are "ok"
    assert (own.matched.count, own.matched.num) == (42, 50)
    middle, half = (0.84 + 3.8415 / 100) / (1 + 3.8415 / 50), 1.95996 / (1 + 3.8415 / 50)
    half *= (0.84 * 0.16 / 50 + 3.8415 / 10_000) ** 0.5
    assert (own.matched.low, own.matched.high) == pytest.approx((middle - half, middle + half), abs=1e-4)
    same, chance = (42 + 8 * (1 / 3)) / 50, (2 / 3) ** 2 + (1 / 3) ** 2
    assert own.fleiss.value == pytest.approx((same - chance) / (1 - chance)) == pytest.approx(0.76)
    assert own.cohen is None  # three trials are no pair


def test_between_all_appraisers_by_hand(report: AgreementReport) -> None:
    everyone = report.between
    assert everyone is not None
    assert everyone.fleiss is not None
    # of nine answers one is wrong on 18 parts and two on 5
    assert (everyone.matched.count, everyone.matched.num) == (27, 50)
    same = (27 + 18 * (8 * 7) / 72 + 5 * (7 * 6 + 2) / 72) / 50
    chance = (302**2 + 148**2) / 450**2  # 306 - 16 + 12 answers are "ok"
    assert everyone.fleiss.value == pytest.approx((same - chance) / (1 - chance)) == pytest.approx(0.73068, abs=1e-5)
    assert 0.5 < everyone.fleiss.low < 0.73 < everyone.fleiss.high < 0.9


def test_against_the_standard_by_hand(report: AgreementReport) -> None:
    a, everyone = report.against[0], report.all_against
    assert a is not None
    assert a.cohen is not None
    assert everyone is not None
    # A: 97 of 102 answers to OK parts and 45 of 48 to defects are right; 100 answers are "ok"
    same, chance = 142 / 150, (102 * 100 + 48 * 50) / 150**2
    assert a.cohen.value == pytest.approx((same - chance) / (1 - chance)) == pytest.approx(0.878788, abs=1e-6)
    assert (a.matched.count, everyone.matched.count) == (42, 27)
    by_class = [one.matched for one in a.by_class if one is not None]
    assert [(one.count, one.num) for one in by_class] == [(29, 34), (13, 16)]


def test_effectiveness_misses_and_false_alarms_by_hand(report: AgreementReport) -> None:
    shares = [
        (one.effectiveness.share, one.missed.share, one.false_alarms.share)
        for one in report.calls
        if one is not None and one.missed is not None and one.false_alarms is not None
    ]
    assert shares == [
        pytest.approx((42 / 50, 3 / 48, 5 / 102)),
        pytest.approx((45 / 50, 3 / 48, 2 / 102)),
        pytest.approx((40 / 50, 6 / 48, 9 / 102)),
    ]
    assert report.all_calls is not None
    assert report.all_calls.effectiveness.count == 27


def test_confusions_count_true_class_by_class_given(ratings: Ratings) -> None:
    counts = measure_confusions(ratings)
    assert counts[0].tolist() == [[97, 5], [3, 45]]
    assert counts[2].tolist() == [[93, 9], [6, 42]]
    assert (counts.sum(axis=(1, 2)) == 150).all()


def test_the_record_gives_back_what_all_took_for_what_in_the_order_of_other_classes(
    ratings: Ratings, report: AgreementReport
) -> None:
    record = json.loads(json.dumps(agreement_record(ratings, report, StudyConfig(), {"source": "study"})))
    wanted = measure_confusions(ratings).sum(axis=0)
    assert measured_counts(record, ("ok", "defect")).tolist() == wanted.tolist()
    turned = measured_counts(record, ("defect", "burr", "ok"))
    assert turned.tolist() == [[wanted[1, 1], 0, wanted[1, 0]], [0, 0, 0], [wanted[0, 1], 0, wanted[0, 0]]]
    with pytest.raises(ConfigError, match="must be about the classes 'burr'"):
        measured_counts(record, ("burr",))
    broken: dict[str, Any]
    for broken in ({}, record | {"counts": {"A": [[1]]}}, record | {"counts": {"A": "x"}}, record | {"counts": []}):
        with pytest.raises(ConfigError, match="must hold"):
            measured_counts(broken, ("ok", "defect"))


def test_limits_and_what_they_come_to(ratings: Ratings, report: AgreementReport) -> None:
    record = agreement_record(ratings, report, StudyConfig(ok="ok"), {"source": "study"})
    calls = {(row["who"], row["measure"]): (row["outcome"], row["is_sure"]) for row in record["calls"]}
    assert calls["A", "effectiveness"] == ("warn", False)  # 84 %, up to 92 %
    assert calls["B", "effectiveness"] == ("pass", False)
    assert calls["C", "missed"] == ("refuse", True)  # 12.5 % of 16 defects: from 3 % up
    assert calls["B", "false_alarms"] == ("pass", False)
    assert record["disputed"][0]["sample_id"] in {"p7", "p8", "p9", "p40", "p41"}
    assert {row["class"] for row in record["rows"]} == {None, "ok", "defect"}


def test_an_outcome_needs_its_whole_interval_beyond_the_limit_to_refuse() -> None:
    assert outcome_of(0.7, 0.6, 0.74, 0.75, is_least=True) == "refuse"
    assert outcome_of(0.7, 0.6, 0.8, 0.75, is_least=True) == "warn"
    assert outcome_of(0.03, 0.021, 0.05, 0.02, is_least=False) == "refuse"


def test_other_orders_of_samples_and_classes_change_nothing(ratings: Ratings, report: AgreementReport) -> None:
    order = np.random.default_rng(0).permutation(50)
    shuffled = Ratings(
        ratings.answers[:, :, order], ratings.standard[order], ratings.appraisers,
        tuple(ratings.sample_ids[n] for n in order), ratings.class_names,
    )  # fmt: skip
    again = measure_agreement(shuffled, "ok")
    assert again.calls == report.calls
    assert again.between is not None
    assert report.between is not None
    before = report.between.fleiss
    turned = Ratings(
        1 - ratings.answers, 1 - ratings.standard, ratings.appraisers, ratings.sample_ids, ("defect", "ok")
    )
    renamed = measure_agreement(turned).between
    assert before is not None
    assert renamed is not None
    for after in (again.between.fleiss, renamed.fleiss):
        assert after is not None
        assert (after.value, after.low, after.high) == pytest.approx((before.value, before.low, before.high))


def test_an_answer_without_a_class_agrees_with_itself_and_with_no_standard() -> None:
    answers = np.array([[[2, 0, 1, 0], [2, 0, 1, 0]]])
    own = Ratings(answers, np.array([0, 0, 1, 1]), ("A",), ("a", "b", "c", "d"), ("ok", "defect"))
    report = measure_agreement(own, "ok")
    within, against, calls = report.within[0], report.against[0], report.calls[0]
    assert within is not None
    assert against is not None
    assert calls is not None
    assert (within.matched.count, against.matched.count, calls.effectiveness.count) == (4, 2, 2)
    assert calls.missed is not None
    assert calls.false_alarms is not None
    assert (calls.missed.count, calls.missed.num, calls.false_alarms.count) == (2, 4, 0)
    assert report.between is None


def test_missing_answers_leave_their_samples_out_and_are_counted() -> None:
    answers = np.array([[[0, 1, 0, 1], [0, 1, -1, -1]], [[0, 0, 0, 1], [-1, -1, -1, -1]]])
    report = measure_agreement(Ratings(answers, np.full(4, -1), ("A", "B"), tuple("abcd"), ("x", "y")))
    assert report.num_missing == 6
    assert report.within[1] is None  # B has looked once
    within, between, pair = report.within[0], report.between, report.pairs[0, 1]
    assert within is not None
    assert between is not None
    assert pair is not None
    assert (within.matched.num, between.matched.num, pair.matched.num) == (2, 2, 4)
    assert (report.all_against, report.against) == (None, (None, None))


def test_cohens_kappa_and_its_interval_are_those_of_the_formula_where_each_sample_is_seen_once() -> None:
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 3, 400)
    first, second = (np.where(rng.random(400) < 0.8, truth, rng.integers(0, 3, 400)) for _ in range(2))
    table = np.zeros((3, 3))
    np.add.at(table, (first, second), 1)
    formula, ours = cohens_kappa(table), cohen_kappa(first[None], second[None], 3)
    assert ours is not None
    assert ours.value == pytest.approx(formula.kappa)
    assert (ours.low, ours.high) == pytest.approx((formula.kappa_low, formula.kappa_upp), abs=0.004)


def test_a_second_look_at_the_same_samples_narrows_no_interval() -> None:
    rng = np.random.default_rng(5)
    first = rng.integers(0, 2, (1, 60))
    second = np.where(rng.random((1, 60)) < 0.8, first, 1 - first)
    once, twice = cohen_kappa(first, second, 2), cohen_kappa(first.repeat(2, axis=0), second.repeat(2, axis=0), 2)
    assert once is not None
    assert twice is not None
    assert (twice.value, twice.low, twice.high) == pytest.approx((once.value, once.low, once.high))


@pytest.mark.slow
def test_the_interval_of_fleiss_kappa_holds_the_truth_nineteen_times_in_twenty() -> None:
    rng = np.random.default_rng(7)
    held = 0
    for _ in range(300):
        truth = rng.integers(0, 2, 60)
        answers = np.stack([np.where(rng.random(60) < 0.9, truth, 1 - truth) for _ in range(3)])
        found = fleiss_kappa(answers, 2)
        assert found is not None
        held += found.low <= 0.64 <= found.high  # two answers agree with 0.82, by chance with 0.5
    assert held / 300 == pytest.approx(0.95, abs=0.04)


def test_where_nobody_disagrees_the_interval_is_not_empty_and_where_all_say_one_thing_there_is_no_kappa() -> None:
    answers = np.array([[0] * 5 + [1] * 5] * 2)
    # Wilson's lower end of 10 of 10 is 10 / (10 + 3.8415); by chance half would agree
    low = (10 / 13.8415 - 0.5) / 0.5
    for found in (fleiss_kappa(answers, 2), cohen_kappa(answers[:1], answers[1:], 2)):
        assert found is not None
        assert (found.value, found.low, found.high) == pytest.approx((1, low, 1), abs=1e-4)
    assert fleiss_kappa(np.zeros((2, 5), dtype=np.int64), 2) is None
    assert fleiss_kappa(answers[:1], 2) is None


def test_kappa_is_minus_one_where_two_always_contradict_each_other() -> None:
    first = np.array([[0] * 5 + [1] * 5])
    found = fleiss_kappa(np.concatenate([first, 1 - first]), 2)
    assert found is not None
    assert (found.value, found.low) == pytest.approx((-1, -1))


def test_an_ok_class_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"study\.ok must be one of the classes 'dent', 'ok', but is 'good'"):
        check_ok_class("good", ("ok", "dent"))
