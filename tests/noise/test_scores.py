"""Limits, estimates and calibration of label scores."""

from __future__ import annotations

import numpy as np
import pytest

from labelclean.noise.scores import (
    ErrorEstimate,
    RandomLooks,
    calibration_error,
    estimate_errors,
    estimate_gain,
    fit_score_curve,
    score_limit,
)


def expected_f1(chance: np.ndarray, num_flagged: int) -> float:
    return float(2 * np.sort(chance)[::-1][:num_flagged].sum() / (num_flagged + chance.sum()))


def test_the_limit_has_the_best_expected_f1() -> None:
    chance = np.random.default_rng(0).beta(0.3, 1.5, 500)
    flagged = int((1 - chance < score_limit((1 - chance).astype(np.float32))).sum())
    best = max(range(1, 501), key=lambda count: expected_f1(chance, count))
    assert abs(flagged - best) <= 1


def test_sure_errors_are_cut_at_one_half() -> None:
    assert score_limit(np.array([0.0, 0.0, 1.0, 1.0], np.float32)) == 0.5


def test_a_hint_of_doubt_is_no_issue() -> None:
    assert score_limit(np.full(1000, 0.95, np.float32)) == pytest.approx(0.8)


@pytest.mark.parametrize("scores", [[], [1.0, 1.0]])
def test_no_doubt_at_all_leaves_the_limit_at_one_half(scores: list[float]) -> None:
    assert score_limit(np.array(scores, np.float32)) == 0.5


NO_AUDIT = RandomLooks()


def estimate(
    per_class: list[float], readings: list[float], unclear: float = 0.0, audit: RandomLooks = NO_AUDIT
) -> ErrorEstimate:
    return estimate_errors(np.array(per_class), 0.0, np.array(readings), unclear, audit, 100)


def test_the_interval_reaches_from_the_least_reading_to_the_largest() -> None:
    found = estimate([5.0, 6.0], [10.0, 12.0, 30.0], unclear=4.0)
    assert (found.value, found.low, found.high) == (11.0, 6.0, 30.0)
    assert found.per_class.tolist() == [5.0, 6.0]


def test_more_unclear_images_than_wrong_labels_leave_room_for_none_at_all() -> None:
    assert estimate([8.0], [8.0, 9.0, 9.0], unclear=20.0).low == 0


def test_looks_cut_the_interval_down() -> None:
    """None wrong of 30 drawn: Jeffreys' upper end is 8.0 %; 10 wrong of 30: 18.6 to 51.3 %."""
    none = estimate([8.0], [8.0, 9.0, 40.0], unclear=20.0, audit=RandomLooks(30, 0))
    assert none.high == pytest.approx(8.0, abs=0.05)
    many = estimate([20.0], [15.0, 25.0, 60.0], unclear=20.0, audit=RandomLooks(30, 10))
    assert many.low == pytest.approx(18.6, abs=0.3)
    assert many.high == pytest.approx(51.3, abs=0.3)


def test_a_number_moved_by_the_looks_does_not_stand_for_a_reading() -> None:
    """10 of 30 wrong, no reading has more than 3: the interval is that of the looks, not what reaches to the value."""
    found = estimate([25.0], [1.0, 2.0, 3.0], audit=RandomLooks(30, 10))
    assert found.low == pytest.approx(18.6, abs=0.3)
    assert found.high == pytest.approx(51.3, abs=0.3)
    assert estimate([12.0], [1.0, 2.0, 3.0], audit=RandomLooks(30, 10)).low == 12


def test_looks_that_contradict_every_reading_are_believed() -> None:
    found = estimate([2.0], [1.0, 2.0, 3.0], audit=RandomLooks(30, 25))
    assert found.high > 90


def test_where_no_reading_doubts_a_label_the_interval_is_none() -> None:
    """A model of the user's own that is sure of every given label."""
    found = estimate([0.0, 0.0], [0.0, 0.0, 0.0])
    assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0)


def test_a_gain_that_is_sure_in_every_reading_is_safe() -> None:
    found = estimate_gain(np.array([9.0, 9.5, 8.0, 9.0]), 0.0, np.array([0.5, 0.3, 0.1, 0.1]), 4.0, 10)
    assert found.value == pytest.approx(0.5 * 9 + 0.3 * 9.5 + 0.8 + 0.9)
    assert 8.0 <= found.low <= found.value <= found.high <= 9.5
    assert found.is_safe


def test_a_reading_that_harms_and_is_believed_a_little_makes_it_unsafe_until_many_have_looked() -> None:
    gains, weights = np.array([9.0, 9.0, 9.0, -10.0]), np.array([0.7, 0.1, 0.0, 0.2])
    assert not estimate_gain(gains, 0.0, weights, 4.0, 10).is_safe
    assert estimate_gain(gains, 0.0, weights, 104.0, 10).is_safe


def test_a_gains_interval_is_that_of_a_beta_distribution_with_two_readings() -> None:
    """Two readings that bring 0 and 1: the mixture is Beta(a, b), whose quantiles are known."""
    from scipy.stats import beta

    found = estimate_gain(np.array([1.0, 0.0, 0.0, 0.0]), 0.0, np.array([0.7, 0.1, 0.1, 0.1]), 30.0, 5)
    assert found.low == pytest.approx(beta.ppf(0.025, 21, 9), abs=0.01)
    assert found.high == pytest.approx(beta.ppf(0.975, 21, 9), abs=0.01)


def test_nothing_changed_brings_nothing_and_harms_nothing() -> None:
    found = estimate_gain(np.zeros(4), 0.0, np.array([0.25] * 4), 4.0, 0)
    assert (found.value, found.low, found.high, found.is_safe) == (0, 0, 0, True)


def test_calibration_error_by_hand() -> None:
    assert calibration_error(np.array([0.9, 0.9], np.float32), np.array([True, False])) == pytest.approx(0.4)


def test_honest_confidence_has_a_small_calibration_error() -> None:
    random = np.random.default_rng(0)
    confidence = random.random(20_000).astype(np.float32)
    assert calibration_error(confidence, random.random(20_000) < confidence) < 0.02


def test_scores_rise_with_the_rank_and_keep_their_mean() -> None:
    random = np.random.default_rng(0)
    rank, chance = random.random((2, 300)).astype(np.float32)
    scores = fit_score_curve(rank, chance).scores(rank)
    assert (np.diff(scores[rank.argsort()]) >= 0).all()
    assert scores.mean() == pytest.approx(chance.mean(), abs=1e-3)
