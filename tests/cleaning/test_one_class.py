"""Images of one class, ranked by how little they look like the others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import labelclean
from labelclean.arrays import Float32Array
from labelclean.cleaning.one_class import judge_odd, measure_oddity, oddity_of
from labelclean.cleaning.shard_labels import shard_labels
from labelclean.cleaning.shards import HeldShard
from labelclean.config import CleaningConfig
from labelclean.errors import ConfigError, TableError
from labelclean.probes.feature_space import sample_keys
from labelclean.probes.neighbours import Neighbours


def bunch(num: int = 120, odd: int = 6) -> Float32Array:
    """Images of one class along six directions, and some that lie along others, each alone."""
    random = np.random.default_rng(0)
    centres = np.eye(24)[random.integers(0, 6, num)]
    rows = np.concatenate([centres, np.eye(24)[6 + np.arange(odd)]])
    return np.asarray(3 * rows + 0.3 * random.standard_normal(rows.shape), dtype=np.float32)


def test_the_distance_against_that_of_the_neighbours_is_that_of_a_slow_loop() -> None:
    random = np.random.default_rng(3)
    index, similarity = random.integers(0, 30, (30, 5)), random.uniform(0, 1, (30, 5)).astype(np.float32)
    index[4, 2:] = -1
    index[7] = -1
    own = [np.mean([1 - similarity[a, m] for m in range(5) if index[a, m] >= 0] or [np.nan]) for a in range(30)]
    for row, value in enumerate(oddity_of(Neighbours(index, similarity))):
        around = [own[b] for b in index[row] if b >= 0 and not np.isnan(own[b])]
        if row == 7:
            assert np.isnan(value)
        else:
            assert np.exp(value) == pytest.approx(own[row] ** 2 / np.mean(around), rel=1e-6)


def test_the_planted_strangers_come_first_and_as_many_are_flagged_as_stated() -> None:
    config = {"neighbours": {"odd_share": 6 / 126}}
    found = labelclean.clean_labels(["good"] * 126, features=bunch(), seed=0, config=config)
    assert set(found.table.sort_values("label_score").index[:6]) == set(range(120, 126))
    assert found.table.is_label_issue.to_numpy().nonzero()[0].tolist() == list(range(120, 126))
    assert (1 - found.table.label_score).sum() == pytest.approx(6, abs=0.01)
    assert set(found.table.predicted_label) == {"good"}
    assert found.class_names == ["good"]
    assert found.soft_labels.tolist() == [[1.0]] * 126
    with pytest.raises(ValueError, match="with one class nothing is learned"):
        _ = found.refinement


def test_a_defect_that_was_taken_twice_does_not_vouch_for_itself() -> None:
    rows = bunch(odd=3)
    twice = np.concatenate([rows, rows[-3:] + 1e-4])
    found = labelclean.clean_labels(["good"] * len(twice), features=twice, seed=0)
    assert set(found.table.sort_values("label_score").index[:6]) == set(range(120, 126))
    part = ["p"] * 20
    together = np.concatenate([rows[:120], rows[120:121] + 0.3 * np.random.default_rng(1).standard_normal((20, 24))])
    groups = [f"g{row}" for row in range(120)] + part
    grouped = labelclean.clean_labels(["good"] * 140, features=together, groups=groups, seed=0)
    assert set(grouped.table.sort_values("label_score").index[:20]) == set(range(120, 140))


def test_images_that_people_have_decided_stand() -> None:
    found = labelclean.clean_labels(["good"] * 126, features=bunch(), seed=0, verified={"120": "good"})
    assert found.table.label_score[120] == 1
    assert not found.table.is_label_issue[120]


def test_scores_keep_the_order_of_the_oddity_and_have_the_stated_mean() -> None:
    oddity = np.array([0.0, 0.2, -0.1, np.nan, 3.0, 0.1])
    judged = judge_odd(oddity, np.zeros(6, bool), 0.2)
    assert judged.is_label_issue.tolist() == [False, False, False, False, True, False]
    assert judged.label_scores[3] == 1  # nothing to compare it with
    known = [0, 1, 2, 4, 5]
    assert (1 - judged.label_scores[known]).mean() == pytest.approx(0.2, abs=1e-4)
    assert np.argsort(judged.label_scores[known]).tolist() == np.argsort(-oddity[known]).tolist()


@pytest.mark.parametrize("sample_rows", [1_000, 150])
def test_what_passes_over_shards_find_is_what_is_found_in_memory(sample_rows: int, tmp_path: Path) -> None:
    features = bunch(300, 6)
    config = CleaningConfig.model_validate({"neighbours": {"method": "index"}})
    keys = sample_keys([str(row) for row in range(306)], None, num_folds=5, seed=0)
    parts = np.array_split(np.arange(306), 3)
    labels = [shard_labels(np.zeros(len(rows), dtype=np.int64), keys.take(rows)) for rows in parts]
    shards = [HeldShard(features[rows]) for rows in parts]
    found = measure_oddity(shards, labels, config, sample_rows=sample_rows, folder=tmp_path, digest="d")
    assert set(np.argsort(-found.values)[:6].tolist()) == set(range(300, 306))
    assert found.lists(2).index.shape[0] == 102


def test_what_one_class_cannot_have_is_refused() -> None:
    with pytest.raises(TableError, match="its images are ranked by features alone"):
        labelclean.clean_labels(["good"] * 3, pred_probs=np.ones((3, 1)), seed=0)
    with pytest.raises(ConfigError, match=r"neighbours\.method must not be none with one class"):
        labelclean.clean_labels(["good"] * 126, features=bunch(), seed=0, config={"neighbours": {"method": "none"}})
