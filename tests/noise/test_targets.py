"""The student's targets by hand."""

from __future__ import annotations

import numpy as np
import pytest

from labelclean.labels import GivenLabels, given_labels
from labelclean.noise.model import posterior
from labelclean.noise.targets import adaptive_targets, given_targets, two_hot_targets

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


def test_a_verified_class_is_the_target_of_every_method() -> None:
    candidates = np.array([[False, False, True], [True, True, True]])
    labels = GivenLabels(np.eye(3, dtype=np.float32)[[0, 0]], candidates)
    for targets in (
        given_targets(labels),
        two_hot_targets(PROBS, labels),
        adaptive_targets(PROBS, labels),
        posterior(PROBS, labels, np.eye(3)),
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
