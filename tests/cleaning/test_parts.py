"""Labels of parts: what their views say together, which view speaks, and what is found where one of four shows the defect."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from labelclean.arrays import Float32Array, IntArray
from labelclean.cleaning.parts import (
    Parts,
    judge_parts,
    labels_of_parts,
    labels_of_views,
    probs_of_parts,
    speaking_views,
)
from labelclean.cleaning.population import Labelled, Learned, Setting, learn_student, learn_teacher
from labelclean.cleaning.shard_labels import shard_labels
from labelclean.cleaning.shards import HeldShard
from labelclean.config import CleaningConfig
from labelclean.labels import GivenLabels, given_labels
from labelclean.probes.feature_space import sample_keys

OK, DENT, STAIN = range(3)
NUM_PARTS, NUM_VIEWS = 120, 4


def made(seed: int = 0) -> tuple[Float32Array, IntArray]:
    """Features of parts seen from four sides, of which one shows the defect, and the class of each part."""
    random = np.random.default_rng(seed)
    true = random.permutation(np.repeat([OK, OK, DENT, STAIN], NUM_PARTS // 4))
    shown = np.full((NUM_PARTS, NUM_VIEWS), OK)
    shown[np.arange(NUM_PARTS), random.integers(0, NUM_VIEWS, NUM_PARTS)] = true
    rows = 4 * np.eye(12)[shown.ravel()] + 0.6 * random.standard_normal((NUM_PARTS * NUM_VIEWS, 12))
    return rows.astype(np.float32), true


def judged(features: Float32Array, given: IntArray, ok: int | None = OK) -> Learned:
    """What is found of the labels of parts."""
    parts = Parts(np.repeat(np.arange(NUM_PARTS), NUM_VIEWS), ok)
    config, labels = CleaningConfig(), given_labels(given[parts.number], 3)
    ids = [str(row) for row in range(len(features))]
    keys = sample_keys(ids, parts.number.tolist(), num_folds=5, seed=0)
    held = [shard_labels(labels_of_views(labels, ok), keys)]
    setting = Setting(config, 0, len(ids), Path("unused"), digest="")
    teacher = learn_teacher(Labelled([HeldShard(features)], held, 3), setting)
    views = learn_student(teacher, config)
    return judge_parts(views, labels, parts, config, seed=0, folder=Path("unused"))


def test_a_part_is_what_a_slow_loop_over_its_views_says() -> None:
    random = np.random.default_rng(1)
    probs, number = random.dirichlet(np.ones(3), 40), random.permutation(np.repeat(np.arange(10), 4))
    for ok in (None, 0, 2):
        for part, row in enumerate(probs_of_parts(probs, Parts(number, ok))):
            views = probs[number == part]
            slow = [min(views[:, k]) if k == ok else max(views[:, k]) for k in range(3)]
            assert row == pytest.approx(np.array(slow) / sum(slow), abs=1e-6)


def test_the_view_that_speaks_is_the_one_that_shows_the_defect_best_or_is_least_ok() -> None:
    random = np.random.default_rng(2)
    probs, number = random.dirichlet(np.ones(3), 40), random.permutation(np.repeat(np.arange(10), 4))
    predicted = random.integers(0, 3, 10)
    speaks = speaking_views(probs, predicted, Parts(number, OK))
    for part in range(10):
        rows = np.flatnonzero(number == part)
        worth = -probs[rows, OK] if predicted[part] == OK else probs[rows, predicted[part]]
        assert np.flatnonzero(speaks & (number == part)).tolist() == [rows[worth.argmax()]]


def test_a_part_has_the_votes_of_its_images_and_whatever_any_of_them_leaves_open() -> None:
    votes = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=np.float32)
    candidates = np.array([[True, False, False], [False, True, False], [True, True, True]])
    labels = GivenLabels(votes, candidates, is_audited=np.array([False, True, False]))
    found = labels_of_parts(labels, np.array([0, 0, 1]))
    assert found.votes.tolist() == [[0.5, 0.5, 0], [0, 0, 1]]
    assert found.candidates.tolist() == [[True, True, False], [True, True, True]]
    assert found.is_audited is not None
    assert found.is_audited.tolist() == [True, False]


def test_a_view_of_a_part_that_people_found_dented_may_show_no_dent() -> None:
    labels = GivenLabels(np.eye(3, dtype=np.float32), np.eye(3, dtype=bool))
    assert labels_of_views(labels, OK).candidates[:, OK].all()
    assert labels_of_views(labels, OK).is_verified.tolist() == [True, False, False]
    assert labels_of_views(labels, None).candidates.tolist() == np.eye(3).astype(bool).tolist()


def test_wrong_labels_of_parts_are_found_though_three_of_four_views_show_no_defect() -> None:
    features, true = made()
    given, wrong = true.copy(), np.random.default_rng(5).permutation(NUM_PARTS)[:12]
    given[wrong] = (true[wrong] + 1) % 3
    found = judged(features, given)
    issues = found.refinement.judged.is_label_issue.reshape(NUM_PARTS, NUM_VIEWS)
    assert (issues.all(axis=1) == issues.any(axis=1)).all()  # a part is judged, not its pictures
    flagged = set(np.flatnonzero(issues[:, 0]))
    assert len(flagged & set(wrong.tolist())) >= 11
    assert len(flagged - set(wrong.tolist())) <= 2
    assert (found.refinement.predicted.reshape(NUM_PARTS, NUM_VIEWS)[:, 0] == true).mean() > 0.97
    assert found.speaks is not None
    assert found.speaks.reshape(NUM_PARTS, NUM_VIEWS).sum(axis=1).tolist() == [1] * NUM_PARTS
    assert found.refinement.tally.num_samples == NUM_PARTS
