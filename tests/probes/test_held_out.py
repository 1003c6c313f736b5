"""Ridge probes that leave out one group, against probes really taught without it."""

from __future__ import annotations

import numpy as np
import pytest

from labelclean.arrays import FloatArray, IntArray
from labelclean.config import CleaningConfig
from labelclean.labels import one_hot
from labelclean.probes.held_out import hold_out, is_group_left_out

AUTO = CleaningConfig()


def taught_without(rows: FloatArray, targets: FloatArray, own: IntArray, penalty: float) -> FloatArray:
    """Scores of some rows less class shares: ridge with a free intercept taught with all other rows, as an augmented system."""
    others = np.setdiff1d(np.arange(len(rows)), own)
    design = np.column_stack([rows[others], np.ones(len(others))])
    ridge = penalty * np.eye(design.shape[1])
    ridge[-1, -1] = 0.0
    weights = np.linalg.solve(design.T @ design + ridge, design.T @ targets[others])
    found: FloatArray = np.column_stack([rows[own], np.ones(len(own))]) @ weights - targets[others].mean(axis=0)
    return found


@pytest.mark.parametrize("penalty", [0.003, 0.3, 30.0])
@pytest.mark.parametrize("num_dims", [5, 60])
def test_scores_are_those_of_probes_taught_without_the_group(num_dims: int, penalty: float) -> None:
    random = np.random.default_rng(3)
    rows = random.normal(size=(40, num_dims)).astype(np.float32)
    targets = one_hot(random.integers(0, 3, 40), 3)
    groups = random.permutation(np.repeat([7, 7, 7, 2, 2, 30, 31, 32, 33, 34], 4) + np.tile([0, 0, 0, 100], 10))
    wanted = random.permutation(40)
    found = hold_out(rows, groups).scores(targets, penalty, wanted)
    for group in np.unique(groups):
        own = np.flatnonzero(groups == group)
        slow = taught_without(rows.astype(np.float64), targets.astype(np.float64), own, penalty)
        np.testing.assert_allclose(found[[wanted.tolist().index(row) for row in own]], slow, atol=2e-4)


def test_scores_of_some_are_those_of_all_in_their_order() -> None:
    random = np.random.default_rng(4)
    rows, targets = random.normal(size=(30, 8)).astype(np.float32), one_hot(random.integers(0, 2, 30), 2)
    held = hold_out(rows, np.repeat(np.arange(10), 3))
    some = np.array([17, 3, 4, 29])
    np.testing.assert_allclose(held.scores(targets, 0.1, some), held.scores(targets, 0.1)[some], atol=1e-6)


def test_what_one_question_asked_changes_nothing_for_the_next() -> None:
    random = np.random.default_rng(7)
    rows = random.normal(size=(30, 8)).astype(np.float32)
    groups = np.concatenate([np.repeat(np.arange(5), 3), np.arange(5, 20)])
    questions = [one_hot(random.integers(0, 2, 30), 2) for _ in range(2)]
    held, some = hold_out(rows, groups), [np.array([3, 27]), np.array([4, 28]), None]
    for wanted in some:
        for penalty in (0.1, 3.0):
            for targets in questions:
                fresh = hold_out(rows, groups).scores(targets, penalty, wanted)
                np.testing.assert_array_equal(held.scores(targets, penalty, wanted), fresh)


def test_a_target_does_not_reach_the_scores_of_its_own_group() -> None:
    random = np.random.default_rng(5)
    rows, labels = random.normal(size=(30, 8)).astype(np.float32), random.integers(0, 3, 30)
    groups = np.repeat(np.arange(10), 3)
    other = labels.copy()
    other[groups == 4] = (other[groups == 4] + 1) % 3
    held = hold_out(rows, groups)
    first, second = held.scores(one_hot(labels, 3), 0.1), held.scores(one_hot(other, 3), 0.1)
    np.testing.assert_allclose(first[groups == 4], second[groups == 4], atol=1e-6)
    assert np.abs(first - second)[groups != 4].max() > 1e-3


def test_some_of_many_samples_are_scored_as_among_all() -> None:
    random = np.random.default_rng(6)
    rows, targets = random.normal(size=(60, 8)).astype(np.float32), one_hot(random.integers(0, 3, 60), 3)
    groups, some = np.repeat(np.arange(30), 2), np.array([3, 4, 41])
    found = hold_out(rows, groups).scores(targets, 0.1, some)
    np.testing.assert_allclose(found, hold_out(rows, groups).scores(targets, 0.1)[some], atol=1e-4)


def test_auto_leaves_out_folds_where_samples_are_many_or_groups_large() -> None:
    assert is_group_left_out(np.arange(10_000), AUTO)
    assert not is_group_left_out(np.arange(10_001), AUTO)
    assert not is_group_left_out(np.repeat([0, 1], [501, 4000]), AUTO)
    assert not is_group_left_out(np.repeat([0, 1, 2], [6, 2, 2]), AUTO)
    by_fold, by_group = (CleaningConfig.model_validate({"teacher": {"left_out": what}}) for what in ("fold", "group"))
    assert not is_group_left_out(np.arange(10), by_fold)
    assert is_group_left_out(np.arange(20_000), by_group)
