"""Limits, estimates and calibration of label scores."""

from __future__ import annotations

import numpy as np
import pytest

from labelclean.scores import calibration_error, error_estimate, score_limit, scores_by_rank


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


def test_the_estimate_adds_the_chances_per_class() -> None:
    estimate = error_estimate(np.array([0.5, 1.0, 0.25], np.float32), np.array([0, 0, 2]), 3)
    assert estimate.value == pytest.approx(1.25)
    assert estimate.per_class.tolist() == [0.5, 0.0, 0.75]
    assert 0 <= estimate.low < 1.25 < estimate.high <= 3


def test_the_interval_covers_the_number_of_errors() -> None:
    random = np.random.default_rng(0)
    chance = random.beta(0.5, 3, 2000)
    estimate = error_estimate((1 - chance).astype(np.float32), np.zeros(2000, np.int64), 1)
    covered = [estimate.low <= (random.random(2000) < chance).sum() <= estimate.high for _ in range(200)]
    assert np.mean(covered) > 0.93


def test_calibration_error_by_hand() -> None:
    assert calibration_error(np.array([0.9, 0.9], np.float32), np.array([True, False])) == pytest.approx(0.4)


def test_honest_confidence_has_a_small_calibration_error() -> None:
    random = np.random.default_rng(0)
    confidence = random.random(20_000).astype(np.float32)
    assert calibration_error(confidence, random.random(20_000) < confidence) < 0.02


def test_scores_rise_with_the_rank_and_keep_their_mean() -> None:
    random = np.random.default_rng(0)
    rank, chance = random.random((2, 300)).astype(np.float32)
    scores = scores_by_rank(rank, chance)
    assert (np.diff(scores[rank.argsort()]) >= 0).all()
    assert scores.mean() == pytest.approx(chance.mean(), abs=1e-3)


def test_other_readings_widen_the_interval_and_leave_the_value() -> None:
    scores, given = np.full(100, 0.9, np.float32), np.zeros(100, np.int64)
    alone, spanned = (error_estimate(scores, given, 1, others) for others in ([], [scores * 0, scores * 0 + 1]))
    assert spanned.value == alone.value
    assert (spanned.low, spanned.high) == (0.0, 100.0)
    assert 0 < alone.low < alone.high < 100
