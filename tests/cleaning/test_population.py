"""Nights that add to earlier sums: what votes, whatever the sums hold already."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from labelclean.cleaning.population import Labelled, Setting, learn_student, learn_teacher, learned_sums
from labelclean.cleaning.shard_labels import shard_labels
from labelclean.cleaning.shards import HeldShard
from labelclean.config import CleaningConfig, RefineConfig, RefineMethod
from labelclean.labels import given_labels
from labelclean.probes.feature_space import sample_keys

CONFIG = CleaningConfig.model_validate(
    {"neighbours": {"method": "index"}, "teacher": {"landmarks": 0, "lambdas": [0.03]}}
)


@pytest.mark.parametrize("sample_rows", [1_000, 200])
def test_the_class_shares_of_votes_are_those_of_all_that_vote(sample_rows: int, tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    given = np.repeat([0, 1], [360, 40])
    features = (3 * np.eye(2, 8)[given] + random.standard_normal((400, 8))).astype(np.float32)
    keys, reference = sample_keys([str(row) for row in range(400)], None, num_folds=5, seed=0), None
    for num_old in (0, 200, 400):  # a first night, one that comes again in part, and one that comes again as it was
        labels = [shard_labels(given_labels(given, 2), keys, old=np.arange(400) < num_old)]
        setting = Setting(CONFIG, 0, sample_rows, tmp_path, digest=f"{num_old}")
        taught = learn_teacher(Labelled([HeldShard(features)], labels, 2), setting, reference=reference)
        if reference is not None:
            assert taught.others is not None
            assert np.exp(taught.others.given.prior) == pytest.approx([0.9, 0.1], abs=0.002)
            assert taught.space.design.sums.count.sum() == 800 - num_old
        reference = reference or learned_sums(learn_student(taught, CONFIG))


@pytest.mark.parametrize("method", ["multi_round", "none"])
@pytest.mark.parametrize("sample_rows", [1_000, 200])
def test_nights_without_a_student_of_rounds_leave_what_later_nights_learn(
    method: RefineMethod, sample_rows: int, tmp_path: Path
) -> None:
    """The posteriors of a sample sum to 1, so their sums count the samples: 400, and 200 new ones on each later night."""
    random = np.random.default_rng(2)
    given = np.repeat([0, 1], [360, 40])[random.permutation(400)]
    features = (3 * np.eye(2, 8)[given] + random.standard_normal((400, 8))).astype(np.float32)
    config, reference = CONFIG.model_copy(update={"refine": RefineConfig(method=method)}), None
    for night, num_new in enumerate((400, 200, 200)):
        keys = sample_keys([f"{night}-{row}" for row in range(400)], None, num_folds=5, seed=0)
        labels = [shard_labels(given_labels(given, 2), keys, old=np.arange(400) >= num_new)]
        setting = Setting(config, 0, sample_rows, tmp_path, digest=f"{night}")
        taught = learn_teacher(Labelled([HeldShard(features)], labels, 2), setting, reference=reference)
        learned = learn_student(taught, config)
        assert learned.refinement.method == method
        reference = learned_sums(learned)
        assert [sums.total.sum() for sums in reference.rounds[0]] == pytest.approx([400 + 200 * night], abs=0.01)
