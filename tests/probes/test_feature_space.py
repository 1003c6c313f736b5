"""What is known of the samples before any label is looked at."""

from __future__ import annotations

import numpy as np
import pytest

from labelclean.config import CleaningConfig
from labelclean.probes.feature_space import build_feature_space, fold_buckets

DEFAULTS = CleaningConfig()


def features(num_samples: int = 60) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((num_samples, 8))


def test_near_duplicates_share_a_group_and_a_fold() -> None:
    rows = features()
    rows[50:] = rows[:10] * 1.00001
    space = build_feature_space(rows, [f"s{i}" for i in range(60)], None, DEFAULTS, seed=0)
    assert np.array_equal(space.groups[50:], space.groups[:10])
    assert np.array_equal(space.design.folds[50:], space.design.folds[:10])
    assert np.array_equal(space.duplicate_sets[50:], np.arange(10))


def test_the_factorys_groups_are_never_split_and_never_neighbours() -> None:
    groups = [f"part{i // 6}" for i in range(60)]
    space = build_feature_space(features(), [f"s{i}" for i in range(60)], groups, DEFAULTS, seed=0)
    assert space.neighbours is not None
    for row in range(60):
        same = [i for i in range(60) if groups[i] == groups[row]]
        assert len(set(space.design.folds[same])) == 1
        assert not set(space.neighbours.index[row]) & set(same)


def test_shuffling_samples_moves_folds_and_buckets_along() -> None:
    ids = [f"s{i}" for i in range(60)]
    order = np.random.default_rng(1).permutation(60)
    first = build_feature_space(features(), ids, None, DEFAULTS, seed=0)
    second = build_feature_space(features()[order], [ids[i] for i in order], None, DEFAULTS, seed=0)
    assert np.array_equal(first.design.folds[order], second.design.folds)
    assert np.array_equal(first.buckets[order], second.buckets)
    assert [ids[i] for i in first.selection] == [ids[order[i]] for i in second.selection]


def test_without_neighbours_there_are_no_sets() -> None:
    config = CleaningConfig.model_validate({"neighbours": {"method": "none"}})
    space = build_feature_space(features(), list(range(60)), None, config, seed=0)
    assert space.neighbours is None
    assert (space.duplicate_sets == -1).all()
    assert len(space) == 60


@pytest.mark.parametrize("num_folds", [2, 5, 20])
def test_buckets_number_about_32_however_many_folds_there_are(num_folds: int) -> None:
    assert 20 <= num_folds * fold_buckets(num_folds) <= 32
