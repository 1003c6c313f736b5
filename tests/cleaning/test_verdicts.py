"""What was fitted to the sample scores any block: its own members as they were, and all others near the truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from labelclean.cleaning.population import Labelled, Learned, Setting, learn_student, learn_teacher
from labelclean.cleaning.shard_labels import sample_starts, shard_labels
from labelclean.cleaning.shards import HeldShard
from labelclean.cleaning.verdicts import Found, _write_part, everyone, finder_of, write_parts
from labelclean.config import CleaningConfig
from labelclean.labels import given_labels
from labelclean.probes.feature_space import sample_keys
from labelclean.probes.neighbours import conflict_sets
from tests.cleaning.test_one_path import Samples, planted

METHODS = ("posterior", "adaptive", "multi_round", "two_hot", "none")


def config_of(method: str = "auto", neighbours: str = "index") -> CleaningConfig:
    teacher = {"landmarks": 60, "lambdas": [0.01, 0.3]}
    return CleaningConfig.model_validate(
        {"refine": {"method": method}, "neighbours": {"method": neighbours}, "teacher": teacher}
    )


def learned_of(
    samples: Samples,
    config: CleaningConfig,
    folder: Path,
    *,
    sample_rows: int = 300,
    pred_probs: np.ndarray | None = None,
) -> Learned:
    """Teacher and student of three parts in memory."""
    given = np.unique(samples.given, return_inverse=True)[1]
    keys = sample_keys(samples.ids, samples.lots, num_folds=5, seed=0)
    parts = np.array_split(np.arange(len(given)), [211, 212])
    labels = [
        shard_labels(
            given_labels(given[at], 3), keys.take(at), pred_probs=None if pred_probs is None else pred_probs[at]
        )
        for at in parts
    ]
    shards = [HeldShard(samples.features[at]) for at in parts]
    taught = learn_teacher(Labelled(shards, labels, 3), Setting(config, 0, sample_rows, folder, "d"))
    return learn_student(taught, config)


def own_model(samples: Samples, wrong: np.ndarray) -> np.ndarray:
    """Probabilities of a model that is right wherever the label is, and mostly where it is not; seldom quite sure."""
    random = np.random.default_rng(5)
    given = np.unique(samples.given, return_inverse=True)[1]
    logits = random.standard_normal((len(given), 3)) + 4 * np.eye(3)[np.where(wrong, (given + 1) % 3, given)]
    probs = np.exp(logits)
    return np.asarray(probs / probs.sum(axis=1, keepdims=True), dtype=np.float32)


def members(learned: Learned) -> np.ndarray:
    """Numbers of the sample's members over all samples."""
    return learned.taught.chosen.numbers(sample_starts(learned.taught.shard_set.labels))


def check_members(learned: Learned) -> None:
    """Blocks say of the sample's members what was found on the sample."""
    rows, (teacher, refinement) = members(learned), everyone(learned)
    own = learned.refinement
    assert teacher.pred_probs[rows] == pytest.approx(learned.taught.teacher.pred_probs, abs=1e-4)
    assert refinement.pred_probs[rows] == pytest.approx(own.pred_probs, abs=1e-4)
    assert refinement.soft_labels[rows] == pytest.approx(own.soft_labels, abs=1e-4)
    assert refinement.label_scores[rows] == pytest.approx(own.label_scores, abs=1e-3)
    assert np.array_equal(refinement.predicted[rows], own.predicted)
    assert np.array_equal(refinement.duplicate_sets[rows], own.duplicate_sets)
    for name in ("neighbour_votes", "neighbour_similarity"):
        if getattr(own, name) is not None:
            assert getattr(refinement, name)[rows] == pytest.approx(getattr(own, name), abs=1e-4), name


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_every_refinement_scores_blocks(method: str, tmp_path: Path) -> None:
    samples, wrong = planted(700, seed=2)
    learned = learned_of(samples, config_of(method), tmp_path)
    assert learned.refinement.method == method
    check_members(learned)
    found = everyone(learned)[1]
    assert found.label_scores[wrong].mean() < 0.4 < 0.8 < found.label_scores[~wrong].mean()
    if method == "none":
        assert np.array_equal(found.predicted, np.unique(samples.given, return_inverse=True)[1])


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_model_of_the_users_own_is_heard_block_by_block(method: str, tmp_path: Path) -> None:
    samples, wrong = planted(700, seed=2)
    probs = own_model(samples, wrong)
    learned = learned_of(samples, config_of(method), tmp_path, pred_probs=probs)
    assert learned.taught.teacher.is_vouched
    assert [expert.name for expert in learned.taught.teacher.fit.experts] == ["pred_probs"]
    check_members(learned)
    found = everyone(learned)[1]
    assert found.label_scores[wrong].mean() < 0.4 < 0.8 < found.label_scores[~wrong].mean()


def test_without_neighbours_blocks_have_none(tmp_path: Path) -> None:
    samples, _ = planted(700, seed=2)
    learned = learned_of(samples, config_of(neighbours="none"), tmp_path)
    check_members(learned)
    teacher, refinement = everyone(learned)
    assert refinement.neighbour_votes is None
    assert [expert.name for expert in teacher.fit.experts] == ["ridge", "kernel"]
    assert (refinement.duplicate_sets[100:140] == 100).all()  # copies need no neighbours


def test_agreement_of_blocks_is_that_of_the_samples_refits(tmp_path: Path) -> None:
    samples, _ = planted(700, seed=2)
    learned = learned_of(samples, config_of("none"), tmp_path)
    teacher, _ = everyone(learned)
    refits, space = learned.taught.teacher.refits, learned.taught.space
    assert refits is not None
    assert teacher.top2_agreement is not None
    assert np.array_equal(
        teacher.top2_agreement[members(learned)], refits.agreement(space.design.unit_rows, space.buckets)
    )
    others = np.setdiff1d(np.arange(700), members(learned))
    assert 0.6 < teacher.top2_agreement[others].mean() < 1
    assert set(np.unique(refits.counts[:, space.buckets])) > {0.0, 1.0}


def test_what_a_part_left_goes_with_its_samples(tmp_path: Path) -> None:
    learned = learned_of(planted(600, seed=1)[0], config_of("none", "none"), tmp_path, sample_rows=600)

    def scores(_: int, found: Found) -> dict[str, pa.Table]:
        return {"scores": pa.table({"row": found.rows})}

    assert write_parts(learned, scores, tmp_path).num_samples == 600
    assert len(list((tmp_path / "scores").iterdir())) == 3
    # a run that goes on after people have called every image of part 1 bad
    assert _write_part(tmp_path, 1, "other labels", iter([]), scores) is None
    assert sorted(path.name for path in (tmp_path / "scores").iterdir()) == ["part-00000.parquet", "part-00002.parquet"]


def shard_by_shard(learned: Learned) -> list[Found]:
    return [found for number in range(3) for found in finder_of(learned)(number)]


@pytest.mark.parametrize("sample_rows", [300, 700])
def test_every_shard_gets_its_own_samples_in_order(sample_rows: int, tmp_path: Path) -> None:
    samples, _ = planted(700, seed=2)
    learned = learned_of(samples, config_of(), tmp_path, sample_rows=sample_rows)
    found = shard_by_shard(learned)
    assert [one.rows.tolist() for one in found] == [list(range(211)), [0], list(range(488))]
    given = np.concatenate([one.labels.given for one in found])
    assert np.array_equal(given, np.unique(samples.given, return_inverse=True)[1])
    sets = np.concatenate([one.duplicate_sets for one in found])
    assert np.array_equal(np.concatenate([one.conflict_sets for one in found]), conflict_sets(sets, given))
    assert (sets[100:140] == 100).all()
    assert np.array_equal(sets[200:220], sets[220:240])
    assert sum(one.tally.num_samples for one in found) == 700
    assert learned.taught.chosen.is_whole == (sample_rows == 700)
    assert bool(list(tmp_path.iterdir())) != learned.taught.chosen.is_whole  # nothing is left where all are held
