"""What earlier nights kept, after people have looked at it: the labels that they found, and without what they took out."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from labelclean.cleaning.shard_labels import ShardLabels, shard_labels
from labelclean.labels import GivenLabels, given_labels, one_hot
from labelclean.probes.feature_space import sample_keys
from labelclean.review.decisions import Decision
from labelclean.runs.parts import kept_now
from labelclean.storage.parquet import read_config
from labelclean.storage.queries import samples_judged

NAMES = ("crack", "dent", "ok")
JUDGED = {name: (f"hash-{name}", "crack") for name in "abcd"}
CONFIG = read_config(Path(__file__).parents[2] / "config.yaml", ["run.seed=3"])


def kept(labels: GivenLabels) -> ShardLabels:
    """The samples a, b, c, d as a night left them, all given as crack."""
    keys = sample_keys(list("abcd"), None, num_folds=CONFIG.teacher.folds, seed=CONFIG.run.seed)
    return shard_labels(labels, keys, old=np.ones(4, dtype=bool))


ALL_CRACK = given_labels(np.zeros(4, dtype=np.int64), 3)


def said(sample: str, decision: Any, label: str | None = None, **others: Any) -> Decision:
    facts = {"content_hash": f"hash-{sample}", "given_label": "crack", "annotator_id": "yamada"} | others
    when, run = datetime(2026, 11, 3, tzinfo=UTC), "20261102-170000"
    return Decision(
        sample_id=sample, decision=decision, verified_label=label, reviewed_at=when, run_id=run, dataset="plates",
        tool="sheet", **facts
    )  # fmt: skip


def test_a_label_that_people_corrected_since_is_the_corrected_one() -> None:
    rows, now = kept_now(kept(ALL_CRACK), JUDGED, NAMES, CONFIG, [said("b", "corrected", "dent")])
    labels = now.labels(np.arange(4), 3)
    assert rows.tolist() == [0, 1, 2, 3]
    assert [NAMES[k] for k in labels.given] == ["crack", "dent", "crack", "crack"]
    assert labels.is_verified.tolist() == [False, True, False, False]
    assert [NAMES[k] for k in labels.observed.argmax(axis=1)] == ["crack"] * 4  # how labels go wrong stays known


def test_what_people_took_out_since_is_gone() -> None:
    rows, now = kept_now(kept(ALL_CRACK), JUDGED, NAMES, CONFIG, [said("c", "bad_image"), said("a", "not_class", ruled_out_labels=("ok",))])  # fmt: skip
    labels = now.labels(np.arange(3), 3)
    assert rows.tolist() == [0, 1, 3]
    assert labels.candidates.tolist() == [[True, True, False], [True] * 3, [True] * 3]
    assert now.old is not None
    assert now.old.tolist() == [True] * 3


@pytest.mark.parametrize(
    "decision",
    [
        said("e", "corrected", "dent"),
        said("b", "corrected", "dent", content_hash="of an older image"),
        said("b", "corrected", "dent", given_label="ok"),
    ],
)
def test_what_was_said_of_others_or_of_an_older_image_or_label_does_not_count(decision: Decision) -> None:
    rows, now = kept_now(kept(ALL_CRACK), JUDGED, NAMES, CONFIG, [decision])
    assert rows.tolist() == [0, 1, 2, 3]
    assert now.digest == kept(ALL_CRACK).digest


def test_a_correction_that_the_night_knew_stays_where_its_run_is_gone() -> None:
    """The night had b corrected to dent already; its run was pruned, so nobody can tell what the ledger says of b."""
    known = GivenLabels(one_hot(np.array([0, 1, 0, 0]), 3), one_hot(np.array([0, 1, 0, 0]), 3) > 0, ALL_CRACK.votes)
    known.candidates[[0, 2, 3]] = True
    rows, now = kept_now(kept(known), {}, NAMES, CONFIG, [said("b", "corrected", "ok")])
    assert rows.tolist() == [0, 1, 2, 3]
    assert now.digest == kept(known).digest


def test_of_two_answers_the_later_counts_and_looks_at_random_are_not_counted_here() -> None:
    known = GivenLabels(one_hot(np.array([0, 1, 0, 0]), 3), one_hot(np.array([0, 1, 0, 0]), 3) > 0, ALL_CRACK.votes)
    later = said("b", "confirmed", "crack", inclusion_probability=0.1)
    _, now = kept_now(kept(known), JUDGED, NAMES, CONFIG, [later])
    labels = now.labels(np.arange(4), 3)
    assert labels.given[1] == 0
    assert labels.is_audited is None


def test_a_sample_is_as_the_newest_run_that_is_left_judged_it(tmp_path: Path) -> None:
    """Three nights, the second pruned: b came again on the third with another image, d on the pruned one alone."""
    nights = {"20261101": [("a", "1", "ok"), ("b", "2", "ok")], "20261103": [("b", "3", "dent"), ("c", "4", "crack")]}
    for name, rows in nights.items():
        (tmp_path / name).mkdir()
        columns = dict(
            zip(("sample_id", "content_hash", "given_label"), map(list, zip(*rows, strict=True)), strict=True)
        )
        pq.write_table(pa.table(columns), tmp_path / name / "refined_labels.parquet")
    held = samples_judged(tmp_path / "20261103", ("20261101", "20261102"), ["a", "b", "d"], tmp_path)
    assert held == {"a": ("1", "ok"), "b": ("3", "dent")}
