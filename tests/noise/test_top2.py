"""Pairs, margins, partial labels and the stability of the pair."""

from __future__ import annotations

import numpy as np
import pytest

from labelclean.labels import one_hot
from labelclean.noise.top2 import (
    Refits,
    _bootstrap_counts,
    agreement_of_pairs,
    fit_refits,
    measure_top2,
    no_refits,
    top2_candidates,
    top2_margin,
    two_hot,
)
from labelclean.probes.sums import build_feature_sums, build_target_sums

PROBS = np.array([[0.2, 0.7, 0.1], [0.4, 0.2, 0.4], [0.3, 0.3, 0.4]])


def test_equal_probabilities_are_ordered_by_class() -> None:
    assert top2_candidates(PROBS).tolist() == [[1, 0], [0, 2], [2, 0]]


@pytest.mark.parametrize("shape", [(3,), (2, 1)])
def test_fewer_than_two_classes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="K >= 2"):
        top2_candidates(np.zeros(shape))


def test_the_pair_does_not_change_with_temperature() -> None:
    probs = np.random.default_rng(0).dirichlet(np.ones(5), 50)
    assert np.array_equal(top2_candidates(probs), top2_candidates(probs**3 / (probs**3).sum(1, keepdims=True)))


def test_margins_and_partial_labels_by_hand() -> None:
    assert np.allclose(top2_margin(PROBS), [0.5, 0, 0.1])
    assert two_hot(top2_candidates(PROBS), 3).tolist() == [[1, 1, 0], [1, 0, 1], [1, 0, 1]]


def test_agreement_counts_the_most_common_pair_among_scored_refits() -> None:
    pairs = np.array([[4, 4, 4, 4], [4, 5, -1, 4], [-1, -1, -1, -1], [1, 2, 3, -1]])
    assert np.allclose(agreement_of_pairs(pairs), [1, 2 / 3, 1, 1 / 3])


def test_every_bucket_is_left_out_at_least_twice() -> None:
    counts = _bootstrap_counts(32, 10, seed=0)
    assert ((counts == 0).sum(axis=0) >= 2).all()
    assert 0.6 < counts.mean() < 1.2


def agreement(rows: np.ndarray, targets: np.ndarray) -> np.ndarray:
    buckets = np.arange(len(rows)) % 32
    sums, cross = (
        build_feature_sums(rows, buckets, 32, np.zeros(rows.shape[1])),
        build_target_sums(rows, targets, buckets, 32),
    )
    return fit_refits(sums, cross, 1.0, repeats=10, seed=0).agreement(rows, buckets)


def test_only_refits_that_left_a_samples_bucket_out_are_asked() -> None:
    """Three refits of three classes: the constant scores name the pairs 01, 01 and 12."""
    bias = np.array([[2, 1, 0], [1, 2, 0], [0, 1, 2]], np.float32)
    counts = np.array([[0.0, 1.0], [0.0, 2.0], [0.0, 0.0]])
    refits = Refits(np.zeros((3, 1, 3), np.float32), bias, counts)
    assert refits.agreement(np.ones((3, 1), np.float32), np.array([0, 1, 0])) == pytest.approx([2 / 3, 1, 2 / 3])


def test_of_two_classes_every_refit_names_both_so_that_none_is_needed() -> None:
    random = np.random.default_rng(2)
    rows, targets = random.standard_normal((90, 4)).astype(np.float32), one_hot(random.integers(0, 2, 90), 2)
    assert np.array_equal(agreement(rows, targets), no_refits(4).agreement(rows, np.arange(90) % 32))
    assert agreement(rows, one_hot(random.integers(0, 3, 90), 3)).min() < 1


def test_a_refit_is_ridge_with_its_samples_repeated() -> None:
    random = np.random.default_rng(1)
    rows, targets = random.standard_normal((60, 3)).astype(np.float32), one_hot(random.integers(0, 3, 60), 3)
    buckets = np.arange(60) % 32
    sums, cross = build_feature_sums(rows, buckets, 32, np.zeros(3)), build_target_sums(rows, targets, buckets, 32)
    refits = fit_refits(sums, cross, 0.7, repeats=4, seed=2)
    for weights, bias, counts in zip(refits.weights, refits.bias, refits.counts, strict=True):
        again = np.repeat(np.arange(60), counts[buckets].astype(int))
        design = np.column_stack([rows[again], np.ones(len(again))]).astype(np.float64)
        slow = np.linalg.solve(design.T @ design + np.diag([0.7, 0.7, 0.7, 0]), design.T @ targets[again])
        np.testing.assert_allclose(np.vstack([weights, bias]), slow, atol=1e-5)


def test_clear_pairs_are_stable_and_pairs_from_noise_are_not() -> None:
    random = np.random.default_rng(0)
    true = random.integers(0, 4, 320)
    pair = (one_hot(true, 4) + 0.5 * one_hot(true ^ 1, 4)).astype(np.float32)
    clear = (pair + 0.05 * random.standard_normal((320, 4))).astype(np.float32)
    assert agreement(clear, 0.7 * one_hot(true, 4) + 0.3 * one_hot(true ^ 1, 4)).mean() > 0.95
    assert agreement(random.standard_normal((320, 4)).astype(np.float32), one_hot(true, 4)).mean() < 0.8


def test_the_report_by_hand() -> None:
    report = measure_top2(PROBS, np.array([1.0, 0.5, 0.4], np.float32), np.array([1, 1, 0]), unstable_below=0.6)
    assert report.mean_agreement == pytest.approx(1.9 / 3)
    assert report.unstable_share == pytest.approx(2 / 3)
    assert report.coverage == pytest.approx(2 / 3)
    assert report.narrow_margin_share == pytest.approx(1 / 3, abs=0.34)
    assert report.worst_classes == (0, 1)


def test_without_refits_there_is_no_agreement_to_report() -> None:
    report = measure_top2(PROBS, None, np.array([1, 0, 2]), unstable_below=0.6)
    assert report.mean_agreement is None
    assert report.unstable_share is None
    assert report.worst_classes == ()
