"""The labels of a shard come back from their file as they were."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from labelclean.cleaning.sample import choose_sample
from labelclean.cleaning.shard_labels import read_shard_labels, shard_labels
from labelclean.labels import GivenLabels, given_labels
from labelclean.probes.feature_space import sample_keys


def reviewed(*audited: int) -> GivenLabels:
    """Six labels of class 0; samples 1, 2 and 4 are verified as class 2, some of them drawn at random."""
    plain = given_labels(np.zeros(6, dtype=np.int64), 3)
    observed = plain.votes.copy()
    plain.votes[[1, 2, 4]] = np.eye(3)[2]
    plain.candidates[[1, 2, 4]] = np.arange(3) == 2
    is_audited = np.isin(np.arange(6), audited) if audited else None
    return GivenLabels(plain.votes, plain.candidates, observed, is_audited)


def written(path: Path, labels: GivenLabels, prefix: str = "s") -> Path:
    ids = [f"{prefix}{row}" for row in range(len(labels))]
    shard_labels(labels, sample_keys(ids, None, num_folds=2, seed=0)).write(path)
    return path


def test_who_was_drawn_at_random_comes_back_aligned_with_the_rows_asked_for(tmp_path: Path) -> None:
    part = read_shard_labels(written(tmp_path / "a.npz", reviewed(1, 4)))
    found = part.labels(np.array([4, 0, 2, 1]), 3)
    assert found.is_audited is not None
    assert found.is_audited.tolist() == [True, False, False, True]
    assert found.is_verified.tolist() == [True, False, True, True]
    assert part.labels(np.array([0, 2]), 3).is_audited is None


def test_without_a_draw_nobody_is_audited_and_the_file_says_nothing_of_it(tmp_path: Path) -> None:
    path = written(tmp_path / "a.npz", reviewed())
    assert read_shard_labels(path).labels(np.arange(6), 3).is_audited is None
    with np.load(path) as kept:
        assert "audited" not in kept.files


def test_the_draw_changes_the_digest_because_results_hang_on_it() -> None:
    keys = sample_keys("abcdef", None, num_folds=2, seed=0)
    parts = [shard_labels(reviewed(*rows), keys) for rows in ((), (1,), (1, 4))]
    assert len({part.digest for part in parts}) == 3


def test_the_sample_of_several_shards_keeps_who_was_drawn(tmp_path: Path) -> None:
    paths = [written(tmp_path / "a.npz", reviewed(), "a"), written(tmp_path / "b.npz", reviewed(2), "b")]
    chosen = choose_sample(paths, 3, 100)
    assert chosen.labels.is_audited is not None
    hits = np.flatnonzero(chosen.labels.is_audited)
    assert (chosen.parts[hits].tolist(), chosen.rows[hits].tolist()) == ([1], [2])
    assert choose_sample(paths[:1], 3, 100).labels.is_audited is None


def test_how_many_inspectors_spoke_comes_back_also_beside_a_shard_where_one_did(tmp_path: Path) -> None:
    votes = np.array([[1, 0, 0], [2 / 3, 1 / 3, 0], [0, 0, 1]], np.float32)
    several = GivenLabels(votes, np.ones((3, 3), bool), num_votes=np.array([3, 3, 1], np.float32))
    first, second = written(tmp_path / "a.npz", several), written(tmp_path / "b.npz", reviewed(), "t")
    found = read_shard_labels(first).labels(np.array([2, 1]), 3)
    assert found.num_votes is not None
    assert found.num_votes.tolist() == [1, 3]
    assert np.allclose(found.votes[1], votes[1])
    joined = choose_sample([first, second], 3, 9).labels
    assert joined.num_votes is not None
    assert sorted(joined.num_votes.tolist()) == [1] * 7 + [3, 3]
