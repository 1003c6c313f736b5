"""Where evidence ends: shuffled labels, groups that swallow classes, copies of one image."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from labelclean.cleaning import chance
from labelclean.cleaning.chance import exceeds_chance, find_unvouched, likes_have_like_labels, shuffles
from labelclean.cleaning.clean import clean_labels
from labelclean.cleaning.streaming import clean_shards
from labelclean.labels import given_labels
from labelclean.probes.sums import centred_unit_rows


def test_a_gain_must_beat_every_shuffling() -> None:
    assert exceeds_chance(3.0, [1.0, 2.9], 2)
    assert not exceeds_chance(3.0, [1.0, 3.0], 2)
    assert not exceeds_chance(-0.1, [], 2)


def test_a_clear_gain_asks_for_no_shuffling() -> None:
    def never() -> Iterator[float]:
        raise AssertionError
        yield 0.0

    assert exceeds_chance(33.0, never(), 2)


def test_shuffles_keep_the_class_shares_and_repeat() -> None:
    labels = given_labels(np.array([0, 0, 0, 1, 2]), 3)
    first, again = (np.array([some.given for some in shuffles(labels, seed=4)]) for _ in range(2))
    assert first.shape == (39, 5)
    assert (np.sort(first) == [0, 0, 0, 1, 2]).all()
    assert np.array_equal(first, again)


def test_the_similarity_of_pairs_is_that_of_a_slow_loop() -> None:
    random = np.random.default_rng(0)
    rows = random.standard_normal((12, 4)).astype(np.float32)
    votes = random.standard_normal((2, 12, 3)).astype(np.float32)
    groups = np.array([0, 0, 0, 1, 2, 3, 3, 4, 5, 6, 7, 8])
    slow = [
        sum(rows[i] @ rows[j] * (y[i] @ y[j]) for i in range(12) for j in range(12) if groups[i] != groups[j])
        for y in votes
    ]
    alone = (rows**2).sum(axis=1) * ~np.isin(groups, [0, 3])
    several = [np.array([0, 1, 2]), np.array([5, 6])]
    assert chance._pairs(rows, alone, several, votes) == pytest.approx(slow, rel=1e-4)


def test_similar_samples_with_similar_labels_are_no_chance() -> None:
    random = np.random.default_rng(1)
    true = random.integers(0, 2, 200)
    features = (random.standard_normal((200, 30)) + 3 * np.eye(2, 30)[true]).astype(np.float32)
    rows = centred_unit_rows(features, features.mean(axis=0).astype(np.float64))
    mixed = np.where(random.random(200) < 0.3, 1 - true, true)
    assert likes_have_like_labels(rows, np.arange(200), given_labels(mixed, 2), seed=0)
    verdicts = [
        likes_have_like_labels(rows, np.arange(200), given_labels(random.permutation(mixed), 2), seed=s)
        for s in range(100)
    ]
    assert np.mean(verdicts) < 0.08


@pytest.mark.parametrize("groups", [np.zeros(60, np.int64), np.repeat([0, 1], 30)])
def test_a_group_does_not_vouch_for_itself(groups: np.ndarray) -> None:
    """All in one group, or every class in a group of its own: what is alike within a group is no evidence."""
    true = np.repeat([0, 1], 30)
    features = np.random.default_rng(0).standard_normal((60, 12)) + 5 * np.eye(2, 12)[true]
    with pytest.warns(UserWarning, match="all samples of '0', '1' lie in one group"):
        found = clean_labels(true, features=features, groups=groups.tolist(), seed=0)
    assert found.refinement.method == "none"
    assert not found.table.is_label_issue.any()


@pytest.mark.long
def test_features_that_say_nothing_flag_nothing() -> None:
    """Twenty data sets of noise: two tests that err one time in forty may let one through, hardly three."""
    flagged = 0
    for seed in range(20):
        random = np.random.default_rng(seed)
        found = clean_labels(random.integers(0, 3, 90), features=random.standard_normal((90, 20)), seed=seed)
        flagged += bool(found.table.is_label_issue.any())
    assert flagged <= 2


def test_where_nothing_tells_the_refinement_is_none_and_says_so() -> None:
    random = np.random.default_rng(0)
    given = random.integers(0, 3, 120)
    found = clean_labels(given, features=np.ones((120, 8)), seed=0)
    assert found.refinement.method == "none"
    assert "chance" in found.refinement.why
    assert (found.table.predicted_label == given).all()
    assert found.refinement.tally.gain(found.refinement.trust.readings).is_safe


def test_a_class_within_one_group_is_named_and_stands() -> None:
    given = np.array([0, 0, 1, 1, 1, 2])
    groups = np.array([5, 5, 1, 2, 5, 9])
    found = find_unvouched(given, 3, groups, np.full(6, -1))
    assert found.classes.tolist() == [0]
    assert found.is_alone.tolist() == [True, True, False, False, False, False]
    assert found.standing(given_labels(given, 3)).is_verified.tolist() == found.is_alone.tolist()
    assert not found.has_one_group
    assert find_unvouched(given, 3, np.zeros(6, np.int64), np.full(6, -1)).has_one_group


def test_many_copies_with_different_labels_are_one_image_to_decide_once() -> None:
    given = np.array([0] * 20 + [1] * 10)
    sets = np.array([0] * 21 + [-1] * 9)
    found = find_unvouched(given, 2, np.arange(30), sets)
    assert found.is_copy.tolist() == [True] * 21 + [False] * 9
    same = find_unvouched(np.zeros(30, np.int64), 2, np.arange(30), sets)
    assert not same.is_copy.any()


def test_half_black_images_leave_the_other_half_judged() -> None:
    random = np.random.default_rng(2)
    true = np.arange(240) % 3
    features = random.standard_normal((240, 16)) + 4 * np.eye(3, 16)[true]
    given = true.copy()
    features[::2] = 0.25
    wrong = np.arange(1, 60, 6)
    given[wrong] = (given[wrong] + 1) % 3
    found = clean_labels(given, features=features, seed=0)
    flagged = np.flatnonzero(found.table.is_label_issue)
    assert len(set(wrong.tolist()) & set(flagged.tolist())) >= 9
    assert (flagged % 2 == 1).all()


def test_shards_of_noise_flag_nothing(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    np.save(tmp_path / "one.npy", random.standard_normal((300, 12)).astype(np.float32))
    found = clean_shards(features=tmp_path, labels=random.integers(0, 3, 300), out=tmp_path / "out", seed=0)
    assert found.num_issues == 0


def test_a_model_of_the_users_own_vouches_also_where_all_images_are_alike() -> None:
    """24 of 240 labels are wrong, the model is right every time, and the backbone sees one image."""
    true = np.repeat([0, 1, 2], 80)
    wrong = np.arange(0, 240, 10)
    given = true.copy()
    given[wrong] = (true[wrong] + 1) % 3
    probs = np.where(np.eye(3)[true] > 0, 0.9, 0.05)
    found = clean_labels(given, features=np.ones((240, 8)), pred_probs=probs, groups=["lot"] * 240, seed=0)
    assert np.flatnonzero(found.table.is_label_issue).tolist() == wrong.tolist()
    assert (found.table.predicted_label == true).all()


def test_predictions_that_say_nothing_are_named_as_what_says_nothing() -> None:
    given = np.random.default_rng(0).integers(0, 3, 150)
    found = clean_labels(given, pred_probs=np.full((150, 3), 1 / 3), seed=0)
    assert found.refinement.method == "none"
    assert "the predictions say no more" in found.refinement.why


def test_random_looks_speak_where_images_do_not() -> None:
    """Images of noise: without looks no label is doubted; looks that find labels wrong say so."""
    random = np.random.default_rng(3)
    true = (random.random(400) < 0.3).astype(np.int64)
    given = np.where(random.random(400) < 0.4, 1 - true, true)
    features = random.standard_normal((400, 12))
    silent = clean_labels(given, features=features, seed=0)
    assert silent.refinement.method == "none"
    assert not silent.table.is_label_issue.any()
    looked_at = {str(row): int(true[row]) for row in range(30)}
    told = clean_labels(given, features=features, audited=looked_at, seed=0)
    estimate = told.refinement.estimated_errors
    assert estimate.low <= (given != true).sum() <= estimate.high
    assert (told.table.predicted_label == true).mean() > (given == true).mean()
