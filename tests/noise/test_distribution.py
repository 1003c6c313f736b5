"""Class counts, shift and moves against numbers worked by hand and slow loops."""

from __future__ import annotations

import math

import numpy as np
import pytest

from labelclean.labels import GivenLabels, given_labels
from labelclean.noise.distribution import (
    class_correlation,
    jensen_shannon,
    measure_distribution,
    measure_moves,
    population_stability_index,
)


def test_counts_shares_and_imbalance_by_hand() -> None:
    report = measure_distribution(given_labels(np.array([0, 0, 0, 0, 2]), 3))
    assert report.counts.tolist() == [4, 0, 1]
    assert report.shares.tolist() == [0.8, 0.0, 0.2]
    assert report.imbalance == 4.0
    assert report.psi is None


def test_two_inspectors_who_disagree_count_half_each() -> None:
    votes = np.array([[0.5, 0.5], [1.0, 0.0]], dtype=np.float32)
    assert measure_distribution(GivenLabels(votes, np.ones((2, 2), dtype=bool))).counts.tolist() == [1.5, 0.5]


def test_shift_against_a_reference_by_hand() -> None:
    # counts 1:3 against 3:1, half a sample added: p = (1.5, 3.5)/5, q = (3.5, 1.5)/5
    expected = 2 * 0.4 * math.log(3.5 / 1.5)
    assert population_stability_index(np.array([1.0, 3.0]), np.array([3.0, 1.0])) == pytest.approx(expected)


def test_an_empty_class_keeps_the_index_finite() -> None:
    assert 0.25 < population_stability_index(np.array([0.0, 100.0]), np.array([50.0, 50.0])) < 10


def test_jensen_shannon_by_hand() -> None:
    p, q = np.array([0.5, 0.5]), np.array([1.0, 0.0])
    m = (0.75, 0.25)
    by_hand = 0.5 * (0.5 * math.log2(0.5 / m[0]) + 0.5 * math.log2(0.5 / m[1])) + 0.5 * math.log2(1 / m[0])
    assert jensen_shannon(p, q) == pytest.approx(by_hand)
    assert jensen_shannon(p, q) == pytest.approx(jensen_shannon(q, p))


def test_moves_balance() -> None:
    moves = measure_moves(np.array([0, 1, 2, 2]), np.array([1, 1, 0, 1]), 3)
    assert moves.lost.tolist() == [1, 0, 2]
    assert moves.gained.tolist() == [1, 2, 0]


def test_class_correlation_equals_the_slow_loop_over_pairs() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(12, 5))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    classes = np.array([0] * 5 + [1] * 6 + [2])
    sums = np.stack([features[classes == k].sum(axis=0) for k in range(3)])
    got = class_correlation(sums, np.bincount(classes))
    for a in range(3):
        for b in range(3):
            pairs = [
                features[i] @ features[j]
                for i in range(12)
                for j in range(12)
                if i != j and classes[i] == a and classes[j] == b
            ]
            assert got[a, b] == pytest.approx(np.mean(pairs) if pairs else 0.0)
