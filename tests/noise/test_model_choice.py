"""The choice of the noise matrix's shape: against sums by hand and planted noise of known shape."""

from __future__ import annotations

from dataclasses import replace
from math import lgamma, log

import numpy as np
import pytest

from labelclean.labels import GivenLabels, given_labels
from labelclean.noise import model_choice as evidence
from labelclean.noise.model import (
    NoiseModel,
    even_matrix,
    fit_noise_model,
    fit_plain_model,
    prior_counts,
    true_class_probs,
)
from labelclean.noise.model_choice import choose_noise_model, log_evidence, with_pattern


def turned(rate: float, num_classes: int) -> tuple[np.ndarray, np.ndarray, GivenLabels]:
    """True classes, log-odds that show the shares of given labels around each image, and labels k given as k + 1."""
    random = np.random.default_rng(0)
    true = random.integers(0, num_classes, 1200)
    given = np.where(random.random(1200) < rate, (true + 1) % num_classes, true)
    shares = (1 - rate) * np.eye(num_classes)[true] + rate * np.eye(num_classes)[(true + 1) % num_classes]
    noise = random.gamma(16.0, 1 / 16, shares.shape)
    return true, np.log((shares + 0.02) * noise).astype(np.float32)[None], given_labels(given, num_classes)


def test_the_pattern_shows_the_true_class_where_near_half_of_a_class_went_to_one_other() -> None:
    true, values, labels = turned(0.45, 5)
    plain, noise = fit_plain_model(values, labels), fit_noise_model(values, labels)
    joined, model = with_pattern(values, labels, plain, noise)[-1]
    assert len(joined) == 2
    assert model.log_likelihood > noise.log_likelihood
    assert (true_class_probs(model, joined).argmax(axis=1) == true).mean() > 0.95


def test_with_two_classes_no_pattern_is_added() -> None:
    _, values, labels = turned(0.2, 2)
    assert len(choose_noise_model(values, labels, fit_plain_model(values, labels))[0]) == 1


def clear(given_of: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, GivenLabels]:
    """Views that show the true class plainly, and labels drawn from the rows of a noise matrix."""
    num_classes = len(given_of)
    true = rng.integers(0, num_classes, 1500)
    given = (rng.random(1500)[:, None] > given_of[true].cumsum(axis=1)).sum(axis=1)
    values = 4 * np.eye(num_classes)[true] + rng.normal(size=(1500, num_classes))
    return values.astype(np.float32)[None], given_labels(given, num_classes)


def test_even_noise_gets_an_even_matrix_and_directed_noise_a_free_one() -> None:
    rng = np.random.default_rng(1)
    even = even_matrix(5, 0.8)
    directed = 0.8 * np.eye(5) + 0.2 * np.roll(np.eye(5), 1, axis=1)
    for matrix, is_even in ((even, True), (directed, False)):
        values, labels = clear(matrix, rng)
        _, model = choose_noise_model(values, labels, fit_plain_model(values, labels))
        assert model.is_even == is_even
        assert np.abs(model.matrix - matrix).max() < 0.05


def test_the_evidence_of_a_free_matrix_is_the_dirichlet_integral_of_its_rows() -> None:
    # one expert that is sure: the expected counts are the table of true against given class
    true, given = np.repeat([0, 1], [30, 20]), np.repeat([0, 1, 1, 0], [24, 6, 18, 2])
    values = (60.0 * np.eye(2)[true]).astype(np.float32)[None]
    matrix = np.array([[0.8, 0.2], [0.1, 0.9]])
    model = NoiseModel(np.ones(1), np.zeros(2), matrix, 0.0)
    table = np.array([[24.0, 6.0], [2.0, 18.0]])
    prior = prior_counts(2)
    by_hand = -float((table * np.log(matrix)).sum())
    for row, start in zip(table, prior, strict=True):
        by_hand += lgamma(start.sum()) - lgamma((start + row).sum())
        by_hand += sum(lgamma(a + n) - lgamma(a) for a, n in zip(start, row, strict=True))
    by_hand -= 0.5 * log(50)  # one expert
    assert log_evidence(model, values, given_labels(given, 2)) * 50 == pytest.approx(by_hand, abs=1e-3)


def test_ambiguity_costs_a_tenth_of_its_entropy_but_not_with_two_classes() -> None:
    labels = given_labels(np.arange(90) % 3, 3)
    values = np.zeros((1, 90, 3), np.float32)
    model = NoiseModel(np.ones(1), np.zeros(3), even_matrix(3, 0.8), 0.0, True)
    sharper = NoiseModel(np.ones(1), np.array([50.0, 0.0, 0.0]), even_matrix(3, 0.8), 0.0, True)
    # the same expected rate of 2/3 wrong in both; P is uniform in one and sure in the other
    same_counts = log_evidence(sharper, values, labels) - log_evidence(model, values, labels)
    assert same_counts == pytest.approx(0.1 * log(3) + rate_difference(model, sharper, values, labels), abs=1e-6)


def rate_difference(model: NoiseModel, sharper: NoiseModel, values: np.ndarray, labels: GivenLabels) -> float:
    """What the counts of right and wrong labels add to the difference of two even models."""
    from labelclean.noise.model import expected_counts

    parts = []
    for one in (sharper, model):
        counts, prior = expected_counts(one, values, labels), prior_counts(3)
        right = np.trace(counts)
        start = [np.trace(prior), prior.sum() - np.trace(prior)]
        found = [right, counts.sum() - right]
        share = (right + start[0]) / (counts.sum() + prior.sum())
        integral = lgamma(sum(start)) - lgamma(sum(start) + sum(found))
        integral += sum(lgamma(a + n) - lgamma(a) for a, n in zip(start, found, strict=True))
        parts.append(integral - found[0] * log(share) - found[1] * log(1 - share))
    return float(parts[0] - parts[1]) / 90


def test_of_many_samples_some_decide_and_all_are_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    true, values, labels = turned(0.45, 5)
    order = np.random.default_rng(3).permutation(1200)
    monkeypatch.setattr(evidence, "CHOICE_ROWS", 600)
    plain = fit_plain_model(values, labels)
    log_odds, model = choose_noise_model(values, labels, plain, order)
    some = np.sort(order[:600])
    decided = choose_noise_model(values[:, some], labels.take(some), plain)[1]
    assert model.is_even == decided.is_even
    assert log_odds.shape == (2, 1200, 5)
    assert (true_class_probs(model, log_odds).argmax(axis=1) == true).mean() > 0.95
    table = (labels.votes.T @ np.eye(5)[true]).T / np.bincount(true)[:, None]
    assert np.abs(model.matrix - table).max() < 0.03


def test_directed_confusions_that_were_measured_speak_against_an_even_matrix() -> None:
    rng = np.random.default_rng(0)
    even = even_matrix(3, 0.9)
    values, labels = clear(even, rng)
    plain = fit_plain_model(values, labels)
    assert choose_noise_model(values, labels, plain)[1].is_even
    study = np.array([[60.0, 40.0, 0.0], [0.0, 60.0, 40.0], [40.0, 0.0, 60.0]])
    assert not choose_noise_model(values, replace(labels, measured=study), plain)[1].is_even
    agreeing = np.array([[90.0, 5.0, 5.0], [5.0, 90.0, 5.0], [5.0, 5.0, 90.0]])
    assert choose_noise_model(values, replace(labels, measured=agreeing), plain)[1].is_even
