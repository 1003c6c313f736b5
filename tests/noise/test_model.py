"""The noise model against planted noise matrices and slow sums."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from labelclean.labels import GivenLabels, given_labels
from labelclean.noise.model import (
    NoiseModel,
    fit_noise_matrix,
    fit_noise_model,
    fit_plain_model,
    measured_prior,
    posterior,
    true_class_probs,
)

MATRIX = np.array([[0.8, 0.2, 0.0], [0.0, 0.9, 0.1], [0.05, 0.05, 0.9]])


def planted(num_samples: int = 3000, seed: int = 0) -> tuple[np.ndarray, GivenLabels, np.ndarray]:
    """Views from which the true class can nearly be read, and labels spoiled by MATRIX."""
    random = np.random.default_rng(seed)
    true = random.integers(0, 3, num_samples)
    log_odds = (4.0 * np.eye(3)[true] + 1.2 * random.standard_normal((num_samples, 3))).astype(np.float32)
    given = np.array([random.choice(3, p=MATRIX[k]) for k in true])
    return log_odds[None], given_labels(given, 3), true


def test_a_planted_noise_matrix_is_found() -> None:
    log_odds, labels, _ = planted()
    model = fit_noise_model(log_odds, labels)
    assert np.abs(model.matrix - MATRIX).max() < 0.04
    assert np.allclose(model.matrix.sum(axis=1), 1)


def test_the_posterior_finds_the_true_class_more_often_than_the_given_label() -> None:
    log_odds, labels, true = planted()
    model = fit_noise_model(log_odds, labels)
    soft = posterior(true_class_probs(model, log_odds), labels, model.matrix)
    assert (soft.argmax(1) == true).mean() > (labels.given == true).mean() + 0.08


def test_label_scores_are_calibrated_against_the_planted_truth() -> None:
    log_odds, labels, true = planted(8000)
    model = fit_noise_model(log_odds, labels)
    scores = posterior(true_class_probs(model, log_odds), labels, model.matrix)[np.arange(8000), labels.given]
    order = np.array_split(np.argsort(scores), 10)
    assert np.mean([abs(scores[rows].mean() - (labels.given == true)[rows].mean()) for rows in order]) < 0.03


def test_clean_labels_give_nearly_no_noise() -> None:
    log_odds, _, true = planted()
    assert np.diag(fit_noise_model(log_odds, given_labels(true, 3)).matrix).min() > 0.98


def test_the_likelihood_is_that_of_a_slow_loop() -> None:
    log_odds, labels, _ = planted(50)
    model = fit_noise_model(log_odds, labels)
    probs = true_class_probs(model, log_odds).astype(float)
    slow = np.mean([np.log(sum(probs[i, k] * model.matrix[k, labels.given[i]] for k in range(3))) for i in range(50)])
    assert model.log_likelihood == pytest.approx(slow, abs=1e-5)


def test_the_noise_model_is_never_less_likely_than_the_plain_one() -> None:
    log_odds, labels, _ = planted(400)
    assert fit_noise_model(log_odds, labels).log_likelihood >= fit_plain_model(log_odds, labels).log_likelihood - 1e-3


def test_the_plain_model_is_logistic_regression_on_the_log_odds() -> None:
    log_odds, labels, _ = planted(500)
    model = fit_plain_model(log_odds, labels)
    probs = true_class_probs(model, log_odds)
    gradient = ((labels.votes - probs) * log_odds[0]).sum()  # at the maximum the expert's expectation matches
    assert abs(gradient) < 0.02 * 500
    assert np.allclose(probs.mean(axis=0), labels.votes.mean(axis=0), atol=0.01)


def test_a_useless_expert_gets_no_weight() -> None:
    log_odds, labels, _ = planted()
    noise = np.random.default_rng(5).standard_normal(log_odds.shape).astype(np.float32)
    weights = fit_noise_model(np.concatenate([log_odds, noise]), labels).expert_weights
    assert weights[1] < 0.1 * weights[0]


def test_votes_multiply_as_powers_of_the_matrix() -> None:
    probs = np.array([[0.5, 0.5]], np.float32)
    labels = GivenLabels(np.array([[0.75, 0.25]], np.float32), np.ones((1, 2), bool))
    odds = (0.9**0.75 * 0.1**0.25) / (0.2**0.75 * 0.8**0.25)
    soft = posterior(probs, labels, np.array([[0.9, 0.1], [0.2, 0.8]]))
    assert soft[0, 0] / soft[0, 1] == pytest.approx(odds, rel=1e-4)


def test_impossible_classes_get_nothing_even_against_all_evidence() -> None:
    labels = GivenLabels(np.eye(3, dtype=np.float32)[[0, 0]], np.array([[False, True, False], [False, True, True]]))
    soft = posterior(np.array([[1, 0, 0], [1, 0, 0]], np.float32), labels, np.eye(3))
    assert soft[0].tolist() == [0, 1, 0]
    assert soft[1].tolist() == [0, 0.5, 0.5]


def test_permuting_the_classes_permutes_the_model() -> None:
    log_odds, labels, _ = planted(600)
    order = np.array([2, 0, 1])
    moved = GivenLabels(labels.votes[:, order], labels.candidates[:, order])
    first, second = (
        fit_noise_model(log_odds, labels),
        fit_noise_model(np.ascontiguousarray(log_odds[:, :, order]), moved),
    )
    assert np.allclose(first.matrix[np.ix_(order, order)], second.matrix, atol=1e-3)


def test_many_classes_count_the_same_in_both_ways() -> None:
    random = np.random.default_rng(0)
    true = np.concatenate([np.arange(70), random.integers(0, 70, 130)])
    log_odds = (6 * np.eye(70)[true] + random.standard_normal((200, 70))).astype(np.float32)[None]
    hard = given_labels(true, 70)
    votes = hard.votes.copy()
    votes[0] = 0.999 * votes[0] + 0.001 / 70  # one soft row sends all down the other path
    soft = GivenLabels(votes / votes.sum(1, keepdims=True), hard.candidates)
    first, second = (fit_noise_model(log_odds, some, steps=3) for some in (hard, soft))
    assert np.allclose(first.matrix, second.matrix, atol=0.01)


def test_a_class_nobody_gave_stays_finite() -> None:
    log_odds, labels, _ = planted(100)
    wide = np.concatenate([log_odds, np.zeros((1, 100, 1), np.float32)], axis=2)
    model = fit_noise_model(wide, given_labels(labels.given, 4))
    assert np.isfinite(model.matrix).all()
    assert np.isfinite(true_class_probs(model, wide)).all()


def test_useless_experts_return_the_class_shares() -> None:
    labels = given_labels(np.array([0, 0, 0, 1]), 2)
    model = fit_plain_model(np.zeros((1, 4, 2), np.float32), labels)
    assert np.allclose(true_class_probs(model, np.zeros((1, 4, 2), np.float32)), [0.75, 0.25], atol=0.02)
    assert isinstance(model, NoiseModel)


def test_c_alone_is_found_where_the_images_are_clear() -> None:
    random = np.random.default_rng(0)
    true = random.integers(0, 3, 6000)
    planted = np.array([[0.8, 0.2, 0.0], [0.1, 0.9, 0.0], [0.0, 0.3, 0.7]])
    given = (random.random(6000)[:, None] > planted[true].cumsum(axis=1)).sum(axis=1)
    found = fit_noise_matrix(np.eye(3, dtype=np.float32)[true], given_labels(given, 3))
    assert np.allclose(found, planted, atol=0.03)


def measured(counts: np.ndarray, labels: GivenLabels, worth: float) -> GivenLabels:
    return replace(labels, measured=measured_prior(counts, worth))


def test_what_inspectors_were_measured_to_do_tells_the_row_of_a_class_that_images_hardly_tell() -> None:
    # classes 0 and 1 look alike, so labels alone cannot tell an unclear image from a wrong label; 20 of 1 are given as 0
    random = np.random.default_rng(0)
    true = np.repeat([0, 1, 2], [400, 60, 400])
    log_odds = (4.0 * np.eye(3)[true] + 1.2 * random.standard_normal((len(true), 3))).astype(np.float32)
    log_odds[true == 1] = (log_odds[true == 1] + log_odds[:60]) / 2
    given = true.copy()
    given[np.flatnonzero(true == 1)[:20]] = 0
    labels = given_labels(given, 3)
    planted_row = np.array([1 / 3, 2 / 3, 0])
    study = np.array([[50, 0, 0], [34, 66, 0], [0, 0, 50]])
    gaps = [
        np.abs(fit_noise_model(log_odds[None], some).matrix[1] - planted_row).max()
        for some in (labels, *(measured(study, labels, worth) for worth in (10, 50, 100)))
    ]
    assert gaps == sorted(gaps, reverse=True)  # the more it counts for, the closer
    assert gaps[-1] < 0.75 * gaps[0]
    model = fit_noise_model(log_odds[None], measured(study, labels, 100))
    assert np.abs(model.matrix[1] - planted_row).max() < 0.1


def test_a_prior_of_many_samples_is_the_matrix_and_one_of_none_changes_no_bit() -> None:
    log_odds, labels, _ = planted(600)
    plain = fit_noise_model(log_odds, labels)
    same = fit_noise_model(log_odds, replace(labels, measured=None))
    assert np.array_equal(plain.matrix, same.matrix)
    other = np.array([[6, 2, 2], [3, 4, 3], [0, 5, 5]])
    for found in (
        fit_noise_model(log_odds, measured(other * 1_000_000, labels, 1e7)).matrix,
        fit_noise_matrix(true_class_probs(plain, log_odds), measured(other * 1_000_000, labels, 1e7)),
    ):
        assert np.abs(found - other / 10).max() < 1e-3


def test_rows_measured_on_few_samples_count_for_these() -> None:
    assert measured_prior(np.array([[3, 1], [0, 0]]), 50).tolist() == [[3, 1], [0, 0]]
    assert measured_prior(np.array([[90, 10], [0, 400]]), 50).tolist() == [[45, 5], [0, 50]]
