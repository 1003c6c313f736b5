"""From readings to labels: what is changed, what is looked at, what waits."""

from __future__ import annotations

import numpy as np
import pytest

from labelclean.labels import GivenLabels, given_labels, one_hot
from labelclean.noise.readings import AS_GIVEN
from labelclean.noise.trust import JudgedLabels, Trust, fit_trust, rank_of, unjudged


def planted(noise: float, clear: float, *, size: int = 600, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """P(true | image) of three classes, true and given classes: images as clear as said, a share of labels wrong."""
    random = np.random.default_rng(seed)
    true = random.integers(0, 3, size)
    scores = clear * one_hot(true, 3) + random.gumbel(size=(size, 3))
    probs = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    given = np.where(random.random(size) < noise, (true + random.integers(1, 3, size)) % 3, true)
    return probs.astype(np.float32), true, given


def trusted(
    probs: np.ndarray, given: np.ndarray, noise: float, *, changes_labels: bool = True
) -> tuple[Trust, JudgedLabels]:
    matrix = np.full((3, 3), noise / 2) + (1 - 1.5 * noise) * np.eye(3)
    labels = given_labels(given, 3)
    trust = fit_trust(probs, probs, labels, matrix, changes_labels=changes_labels)
    return trust, trust.judge(probs, probs, labels)


def test_wrong_labels_of_clear_images_are_changed_and_right_ones_are_not() -> None:
    probs, true, given = planted(0.1, 12.0)
    _, judged = trusted(probs, given, 0.1)
    assert (judged.predicted == true).mean() > 0.995
    assert (judged.predicted != given)[judged.is_label_issue].mean() > 0.95


def test_labels_of_unclear_images_are_looked_at_not_changed() -> None:
    """No label is wrong, the images are unclear: what looks wrong waits for eyes."""
    probs, true, _ = planted(0.0, 2.0)
    _, judged = trusted(probs, true, 0.05)
    assert (judged.predicted != true).sum() == 0
    assert judged.is_label_issue.any()


def test_what_is_changed_is_worth_a_look_and_what_is_verified_is_not() -> None:
    probs, _, given = planted(0.2, 8.0)
    candidates = np.ones((600, 3), bool)
    candidates[:50] = one_hot(given[:50], 3) > 0
    labels = GivenLabels(one_hot(given, 3), candidates)
    trust = fit_trust(probs, probs, labels, np.full((3, 3), 0.1) + 0.7 * np.eye(3))
    judged = trust.judge(probs, probs, labels)
    assert judged.is_label_issue[judged.predicted != given].all()
    assert not judged.is_label_issue[:50].any()
    assert (judged.label_scores[:50] == 1).all()
    assert (judged.predicted[:50] == given[:50]).all()


def test_soft_labels_follow_the_given_ones_where_nothing_is_refined() -> None:
    probs, _, given = planted(0.2, 8.0)
    _, judged = trusted(probs, given, 0.2, changes_labels=False)
    assert np.array_equal(judged.soft_labels, one_hot(given, 3))
    assert (judged.reading_gains == 0).all()
    assert judged.is_label_issue.any()


def test_gains_by_reading_are_what_a_change_brings_if_it_is_right() -> None:
    probs, _, given = planted(0.2, 10.0)
    trust, judged = trusted(probs, given, 0.2)
    rows = np.flatnonzero(judged.predicted != given)
    assert (judged.reading_gains[AS_GIVEN, rows] == -1).all()
    readings = trust.readings.read(probs, given_labels(given, 3))
    for row in rows[:5].tolist():
        for reading in range(4):
            gain = readings[reading, row, judged.predicted[row]] - readings[reading, row, given[row]]
            assert judged.reading_gains[reading, row] == pytest.approx(gain)


def test_labels_are_ranked_by_the_student_with_a_share_of_the_teacher() -> None:
    student = np.array([[0.8, 0.2], [0.6, 0.4]], np.float32)
    teacher = np.array([[0.5, 0.5], [0.9, 0.1]], np.float32)
    labels, matrix = given_labels(np.array([0, 0]), 2), np.array([[0.9, 0.1], [0.1, 0.9]])
    for share in (0.0, 0.2, 0.5):
        both = 9**0.25 * np.array([4.0, 1.5]) ** (1 - share) * np.array([1.0, 9.0]) ** share
        assert rank_of(student, teacher, labels, matrix, share) == pytest.approx(both / (1 + both), rel=1e-5)


def test_even_errors_are_ranked_by_both_alike_directed_ones_by_the_teacher_as_far_as_images_are_unclear() -> None:
    probs, _, given = planted(0.2, 2.0)
    labels, matrix = given_labels(given, 3), np.full((3, 3), 0.1) + 0.7 * np.eye(3)
    unclear = 1 - probs.max(axis=1).mean(dtype=np.float64)
    assert 0.1 < unclear < 0.5
    assert fit_trust(probs, probs, labels, matrix).teacher_share == pytest.approx(unclear)
    assert fit_trust(probs, probs, labels, matrix, is_even=True).teacher_share == 0.5


def test_where_nothing_tells_all_labels_stand() -> None:
    judged = unjudged(given_labels(np.array([1, 0, 1]), 2))
    assert judged.predicted.tolist() == [1, 0, 1]
    assert not judged.is_label_issue.any()
    assert judged.label_scores.tolist() == [1, 1, 1]


def test_where_nothing_tells_every_label_stands_until_looks_say_otherwise() -> None:
    """The student would call every label wrong. Looks that found all of them right leave all as they are."""
    size = 60
    probs = np.tile(np.array([[0.1, 0.9]], np.float32), (size, 1))
    given = given_labels(np.zeros(size, np.int64), 2)
    matrix = np.array([[0.6, 0.4], [0.4, 0.6]])
    for found, changed in ((0, 0), (1, size - 30)):
        after, candidates = given.votes.copy(), given.candidates.copy()
        after[:30] = candidates[:30] = np.eye(2)[found]
        labels = GivenLabels(after, candidates, given.votes, np.arange(size) < 30)
        trust = fit_trust(probs, probs, labels, matrix, exceeds_chance=False)
        judged = trust.judge(probs, probs, labels)
        assert (judged.predicted[30:] == 1).sum() == changed
    silent = fit_trust(probs, probs, given, matrix, exceeds_chance=False).judge(probs, probs, given)
    assert (silent.predicted == 0).all()
    assert (silent.label_scores == 1).all()


def looked_at(probs: np.ndarray, given: np.ndarray, true: np.ndarray, size: int) -> GivenLabels:
    """Labels of which the first so many were drawn and looked at."""
    before = given_labels(given, 3)
    votes, candidates = before.votes.copy(), before.candidates.copy()
    votes[:size] = one_hot(true[:size], 3)
    candidates[:size] = votes[:size] > 0
    return GivenLabels(votes, candidates, before.votes, np.arange(len(given)) < size)


def test_errors_that_no_image_shows_move_every_score_and_nothing_verified() -> None:
    """Every third label is wrong, and the images say that none is: looks find it, and scores follow."""
    probs, true, _ = planted(0.0, 9.0)
    given, matrix = true, np.full((3, 3), 0.05) + 0.85 * np.eye(3)
    shown = np.where(np.arange(len(true)) % 3 == 0, (true + 1) % 3, true)
    labels = looked_at(probs, given, shown, 30)
    trust = fit_trust(probs, probs, labels, matrix)
    judged, before = (
        one.judge(probs, probs, labels) for one in (trust, fit_trust(probs, probs, given_labels(given, 3), matrix))
    )
    assert trust.readings.beliefs.shift < -1
    assert (judged.label_scores[30:] < before.label_scores[30:]).mean() > 0.99
    assert (judged.label_scores[:30] == 1).all()
    assert (1 - judged.label_scores[30:]).sum() > 3 * (1 - before.label_scores[30:]).sum()


def test_no_score_is_above_one_where_nearly_all_is_verified() -> None:
    probs, true, given = planted(0.1, 4.0, size=1_500, seed=4)
    matrix = np.full((3, 3), 0.05) + 0.85 * np.eye(3)
    labels = looked_at(probs, given, true, 1_350)
    judged = fit_trust(probs, probs, labels, matrix).judge(probs, probs, labels)
    assert judged.label_scores.max() <= 1
