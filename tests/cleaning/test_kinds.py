"""Images that fit no class: which they are, and which of them belong together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from labelclean.arrays import Float32Array
from labelclean.cleaning.kinds import RowsOf, fits_no_class, lies_far, proposed_kinds, reach
from labelclean.cleaning.population import Labelled, Setting, learn_teacher
from labelclean.cleaning.shard_labels import shard_labels
from labelclean.cleaning.shards import HeldShard
from labelclean.config import CleaningConfig
from labelclean.labels import given_labels
from labelclean.probes.feature_space import sample_keys
from labelclean.probes.neighbours import Neighbours
from labelclean.probes.sums import centred_unit_rows


def around(centre: int, num: int, *, spread: float = 0.1, seed: int = 0) -> Float32Array:
    """Unit rows near one direction of twelve."""
    random = np.random.default_rng(seed + centre)
    rows = np.eye(12)[centre] + spread * random.standard_normal((num, 12))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def test_the_fifth_the_tenth_and_the_last_of_the_list() -> None:
    similarity = np.linspace(0.9, 0.1, 20, dtype=np.float32)[None].repeat(2, axis=0)
    index = np.arange(20)[None].repeat(2, axis=0)
    index[1, 12:] = -1
    found = reach(Neighbours(index, similarity))
    assert found[0] == pytest.approx(similarity[0, [4, 9, 19]])
    assert np.isnan(found[1]).tolist() == [False, False, True]


def test_few_like_it_or_no_class_with_a_majority() -> None:
    is_far = np.array([True, True, True, False, False, False])
    is_small = np.array([False, True, True, False, False, False])
    is_issue = np.array([False, False, True, True, True, False])
    best = np.array([0.9, 0.9, 0.9, 0.4, 0.6, 0.4])
    # far; a small class; its label is in doubt; no majority; a majority; not in doubt
    assert fits_no_class(is_far, is_small, is_issue, best).tolist() == [True, False, True, True, False, False]
    assert not lies_far(np.full(4, np.nan), 5.0).any()


def test_planted_kinds_come_back_and_strangers_stay_alone() -> None:
    rows = np.concatenate([around(0, 7), around(3, 4), around(6, 2), around(8, 1), around(9, 1)])
    planted = np.repeat([1, 2, 0, 3, 0], [7, 4, 2, 1, 1])  # two are too few, one of the last two is an answer
    is_answer = np.arange(15) == 13
    found = proposed_kinds(rows, is_answer, least=0.7)
    assert found.kind.tolist() == planted.tolist()
    assert sorted(found.place[planted == 1].tolist()) == [1, 2, 3, 4, 5, 6, 7]
    centre = rows[planted == 1].sum(axis=0)
    nearest = int(np.argmax(rows[planted == 1] @ centre))
    assert found.place[planted == 1][nearest] == 1


def test_images_less_near_than_usual_neighbours_are_no_kind() -> None:
    assert not proposed_kinds(around(0, 8, spread=0.1), np.zeros(8, bool), least=0.999).kind.any()


@pytest.mark.parametrize("sample_rows", [1_000, 60])
def test_rows_are_those_of_the_teacher_wherever_samples_lie(sample_rows: int, tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    features = (random.standard_normal((90, 6)) + 2).astype(np.float32)
    kept = np.arange(90) % 9 != 4  # ten were taken out
    labels, shards = [], []
    for rows in np.array_split(np.arange(90), 3):
        some = rows[kept[rows]]
        keys = sample_keys([str(row) for row in some], None, num_folds=5, seed=0)
        labels.append(shard_labels(given_labels(some % 2, 2), keys, kept=kept[rows]))
        shards.append(HeldShard(features[rows]))
    config = CleaningConfig.model_validate(
        {"neighbours": {"method": "index"}, "teacher": {"landmarks": 0, "power": 1.0, "lambdas": [0.1]}}
    )
    taught = learn_teacher(Labelled(shards, labels, 2), Setting(config, 0, sample_rows, tmp_path, "d"))
    mean, whole = taught.space.design.sums.mean, features[kept]
    wanted, rows_of = centred_unit_rows(whole, mean), RowsOf(taught)
    numbers = np.array([0, 3, 29, 30, 79])
    np.testing.assert_allclose(rows_of.judged(numbers), wanted[numbers], atol=1e-5)
    places = [np.flatnonzero(~kept[rows]) for rows in np.array_split(np.arange(90), 3)]
    aside = rows_of.aside(places)
    np.testing.assert_allclose(aside, centred_unit_rows(features[~kept], mean), atol=1e-5)
    slow = [max(float(one @ other) for other in aside) for one in wanted]
    np.testing.assert_allclose(rows_of.nearest(aside, 3), slow, atol=1e-5)
