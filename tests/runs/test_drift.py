"""The two-sample test and the noise shifts, on planted shifts and on none."""

from __future__ import annotations

import numpy as np
import pytest

from labelclean.runs.drift import added_noise, measure_feature_drift, noise_shifts


def features(shift: float, seed: int, size: int = 600) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((size, 16))
    rows[:, 0] += shift
    return rows


def folds(size: int) -> np.ndarray:
    return np.arange(size) % 5


def test_a_shift_of_the_features_is_seen_and_chance_is_not() -> None:
    mean = np.zeros(16)
    same = measure_feature_drift(features(0, 1), features(0, 2), folds(600), folds(600), mean)
    moved = measure_feature_drift(features(0, 1), features(1.5, 2), folds(600), folds(600), mean)
    assert abs(same.auroc - 0.5) < 0.06
    assert same.p_value > 0.01
    assert moved.auroc > 0.8
    assert moved.p_value < 1e-9
    assert (moved.num_reference, moved.num_tonight) == (600, 600)


def test_the_area_is_the_share_of_pairs_in_order() -> None:
    from labelclean.runs.drift import _auroc

    scores, positive = np.array([0.1, 0.4, 0.4, 0.9]), np.array([False, True, False, True])
    pairs = [(p > n) + 0.5 * (p == n) for p in scores[positive] for n in scores[~positive]]
    assert _auroc(scores, positive)[0] == pytest.approx(np.mean(pairs))


def test_noise_that_rises_at_one_line_stands_out_and_a_new_line_has_no_before() -> None:
    before = {"line": {"A": (1000.0, 50.0), "B": (1000.0, 50.0)}}
    now = {"line": {"A": (1000.0, 52.0), "B": (1000.0, 150.0), "C": (10.0, 1.0)}}
    found = {one.value: one for one in noise_shifts(before, now)}
    assert [found[line].stands_out for line in "ABC"] == [0, 1, 0]
    assert found["C"].before is None
    assert found["B"].now == 0.15


def test_noise_of_parts_adds_up() -> None:
    assert added_noise([{"line": {"A": (2.0, 1.0)}}, {"line": {"A": (3.0, 0.5), "B": (1.0, 0.0)}}]) == {
        "line": {"A": (5.0, 1.5), "B": (1.0, 0.0)}
    }
