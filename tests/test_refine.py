"""The student's targets by hand."""

from __future__ import annotations

import numpy as np
import pytest

from labelclean.labels import GivenLabels, given_labels
from labelclean.refine import (
    adaptive_targets,
    given_targets,
    overlap_probs,
    overlap_weight,
    posterior_targets,
    read_disagreement,
    two_hot_targets,
)

PROBS = np.array([[0.6, 0.3, 0.1], [0.1, 0.2, 0.7]], np.float32)
ALL = np.ones((2, 3), bool)


def test_two_hot_targets_share_equally_between_the_pair() -> None:
    targets = two_hot_targets(PROBS, given_labels(np.array([2, 2]), 3))
    assert targets.tolist() == [[0.5, 0.5, 0], [0, 0.5, 0.5]]


def test_two_hot_targets_can_take_the_teachers_weights() -> None:
    targets = two_hot_targets(PROBS, given_labels(np.array([2, 2]), 3), "teacher")
    assert np.allclose(targets, np.array([[2 / 3, 1 / 3, 0], [0, 2 / 9, 7 / 9]]))


def test_adaptive_targets_are_one_hot_where_teacher_and_label_agree() -> None:
    targets = adaptive_targets(PROBS, given_labels(np.array([0, 1]), 3))
    assert np.allclose(targets, np.array([[1, 0, 0], [0, 2 / 9, 7 / 9]]))


def test_posterior_targets_by_hand() -> None:
    matrix = np.array([[0.9, 0.1, 0], [0, 1, 0], [0, 0.5, 0.5]])
    targets = posterior_targets(PROBS, given_labels(np.array([1, 1]), 3), matrix)
    assert np.allclose(targets[1], np.array([0.01, 0.2, 0.35]) / 0.56, atol=1e-6)


def test_a_verified_class_is_the_target_of_every_method() -> None:
    candidates = np.array([[False, False, True], [True, True, True]])
    labels = GivenLabels(np.eye(3, dtype=np.float32)[[0, 0]], candidates)
    for targets in (
        given_targets(labels),
        two_hot_targets(PROBS, labels),
        adaptive_targets(PROBS, labels),
        posterior_targets(PROBS, labels, np.eye(3)),
    ):
        assert targets[0].tolist() == [0, 0, 1]
        assert np.allclose(targets.sum(axis=1), 1)


def test_a_class_that_was_ruled_out_gets_no_share() -> None:
    labels = GivenLabels(np.array([[0.5, 0.5, 0], [0, 0, 1]], np.float32), np.array([[True, False, True]] * 2))
    assert given_targets(labels).tolist() == [[1, 0, 0], [0, 0, 1]]


@pytest.mark.parametrize("method", [two_hot_targets, adaptive_targets])
def test_targets_leave_their_inputs_alone(method: object) -> None:
    probs, labels = PROBS.copy(), given_labels(np.array([0, 1]), 3)
    votes = labels.votes.copy()
    method(probs, labels)  # type: ignore[operator]
    assert np.array_equal(probs, PROBS)
    assert np.array_equal(labels.votes, votes)


def test_clouds_that_stand_apart_are_decided_though_their_labels_differ() -> None:
    random = np.random.default_rng(0)
    side = np.repeat([-1.0, 1.0], 200) + 0.1 * random.standard_normal(400)
    probs = (1 / (1 + np.exp(np.stack([side, -side], axis=1)))).astype(np.float32)
    assert probs.max() < 0.8
    assert overlap_probs(probs).max(axis=1).min() > 0.99


def test_clouds_that_overlap_stay_ambiguous() -> None:
    side = np.random.default_rng(0).standard_normal(400)
    probs = (1 / (1 + np.exp(np.stack([side, -side], axis=1)))).astype(np.float32)
    assert overlap_probs(probs)[np.abs(side) < 0.1].max() < 0.75


def test_readings_are_probabilities_and_keep_what_was_ruled_out() -> None:
    labels = GivenLabels(
        np.array([[1, 0, 0], [0, 0, 1]], np.float32), np.array([[True, True, True], [True, False, True]])
    )
    sure = posterior_targets(PROBS, labels, np.full((3, 3), 1 / 3))
    readings = read_disagreement(PROBS, sure, PROBS, labels, np.full((3, 3), 1 / 3))
    assert np.allclose(readings.hedged.sum(axis=1), 1, atol=1e-6)
    assert readings.hedged[1, 1] == 0
    assert np.allclose(readings.rank, [0.6, 0.7 / 0.8], atol=1e-6)  # an even C leaves the student's order


def test_ambiguous_images_speak_for_the_clouds_as_much_as_the_prior_says() -> None:
    """A fifth more ambiguity is one mean of the prior: the odds rise by e."""
    teacher = np.tile(np.array([[0.7, 0.3]], np.float32), (50, 1))
    clouds = np.tile(np.array([[0.9, 0.1]], np.float32), (50, 1))
    weight = overlap_weight(teacher, clouds)
    assert weight / (1 - weight) == pytest.approx(np.e * 0.3 / 0.7, rel=1e-5)
