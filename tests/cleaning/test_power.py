"""The power of the features is chosen by the given labels."""

from __future__ import annotations

import numpy as np
import pytest

from labelclean import clean_labels
from labelclean.arrays import FloatArray, IntArray
from labelclean.cleaning.power import choose_power, powered
from labelclean.config import CleaningConfig
from labelclean.labels import given_labels
from labelclean.probes.feature_space import sample_keys

DEFAULTS = CleaningConfig()


def blobs(seed: int = 0) -> tuple[FloatArray, IntArray]:
    """Even features of three overlapping classes, and their labels, a fifth wrong."""
    random = np.random.default_rng(seed)
    true = random.integers(0, 3, 400)
    features = random.normal(size=(400, 30)) + 1.3 * np.eye(3, 30)[true]
    given = np.where(random.random(400) < 0.2, (true + 1) % 3, true)
    return features, given


def chosen(features: FloatArray, given: IntArray, groups: list[int] | None = None) -> float:
    ids = [f"s{row}" for row in range(len(given))]
    return choose_power(features, sample_keys(ids, groups, num_folds=5, seed=0), [given_labels(given, 3)], DEFAULTS)


def test_roots_undo_squares() -> None:
    features = np.random.default_rng(0).normal(size=(50, 4))
    np.testing.assert_allclose(powered(np.sign(features) * features**2, 0.5), features, atol=1e-12)
    assert powered(features, 1.0) is features


@pytest.mark.parametrize("seed", range(5))
def test_skewed_features_are_taken_as_roots_and_even_ones_as_they_are(seed: int) -> None:
    features, given = blobs(seed)
    assert chosen(np.sign(features) * features**4, given) == 0.5
    assert chosen(features, given) == 1.0


def test_the_choice_hangs_on_ids_not_on_the_order_of_the_samples() -> None:
    features, given = blobs()
    ids = [f"s{row}" for row in range(len(given))]
    order = np.random.default_rng(1).permutation(len(given))
    keys = sample_keys(ids, None, num_folds=5, seed=0).take(order)
    shuffled = choose_power(features[order], keys, [given_labels(given[order], 3)], DEFAULTS)
    assert shuffled == chosen(features, given)


def test_one_group_alone_leaves_the_features_as_they_are() -> None:
    features, given = blobs()
    assert chosen(np.sign(features) * features**4, given, [0] * len(given)) == 1.0


def test_a_fixed_power_is_taken() -> None:
    features, given = blobs()
    by_hand = clean_labels(given, features=powered(features, 0.5), seed=0, config={"teacher": {"power": 1.0}})
    found = clean_labels(given, features=features, seed=0, config={"teacher": {"power": 0.5}})
    np.testing.assert_array_equal(found.soft_labels, by_hand.soft_labels)
