"""Several inspectors: agreement by hand, whom they contradict, and a planted tired shift of one of them."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from labelclean.review.decisions import Decision
from labelclean.review.inspectors import Opinions, measure_inspectors
from labelclean.review.opinions import inspector_sentences, inspectors_record, label_opinions, review_opinions
from labelclean.storage.samples import samples_table
from labelclean.storage.tables import conform

NAMES = ("dent", "ok")


def opinions(rows: list[int], who: list[int], labels: list[int]) -> Opinions:
    return Opinions(np.array(rows), np.array(who), np.array(labels), ("anna", "ben", "cora"), {}, None)


def test_labels_are_compared_with_those_of_the_others_by_hand() -> None:
    # sample 0: anna 0, ben 1, cora 1; sample 1: anna 1, ben 1; sample 2: cora alone
    got = measure_inspectors(opinions([0, 0, 0, 1, 1, 2], [0, 1, 2, 0, 1, 2], [0, 1, 1, 1, 1, 0]), 3, 2)
    assert (got.num_shared, got.num_disputed) == (2, 1)
    assert got.agreement == pytest.approx((1 / 3 + 1) / 2)
    by_name = {one.name: one for one in got.inspectors}
    assert by_name["anna"].confusion.tolist() == [[0, 0], [1, 1]]
    assert by_name["ben"].confusion.tolist() == [[0, 0.5], [0, 1.5]]
    assert (by_name["cora"].num, by_name["cora"].differing) == (1, 0.5)


def test_labels_are_compared_with_the_suggestion_by_hand() -> None:
    got = measure_inspectors(opinions([0, 0, 1, 2], [0, 1, 0, 1], [0, 1, 1, 1]), 3, 2, np.array([1, 1, 0]))
    anna, ben = got.inspectors
    assert (anna.name, anna.num, anna.differing, anna.confusion.tolist()) == ("anna", 2, 1, [[0, 0], [1, 1]])
    assert (ben.name, ben.num, ben.differing, ben.confusion.tolist()) == ("ben", 2, 1, [[0, 1], [0, 1]])


@pytest.fixture
def tired() -> tuple[pa.Table, np.ndarray]:
    """Two inspectors on 400 samples; ben gives 40 % of the dents of line 2 as ok since February."""
    rng = np.random.default_rng(0)
    true = np.arange(400) % 2
    second = rng.integers(0, 2, 400) == 1
    late = np.arange(400) >= 200
    ben = np.where(second & late & (true == 0) & (rng.random(400) < 0.8), 1, true)
    day = [datetime(2026, 2 if is_late else 1, 1 + k % 28, tzinfo=UTC) for k, is_late in enumerate(late)]
    given = np.concatenate([true, ben])
    table = {
        "sample_id": [f"s{k:03d}" for k in range(400)] * 2,
        "image_path": ["a.png"] * 800,
        "given_label": [NAMES[k] for k in given],
        "annotator_id": ["anna"] * 400 + ["ben"] * 400,
        "line": [f"L{1 + k}" for k in second] * 2,
        "captured_at": pa.array(day * 2, pa.timestamp("us", tz="UTC")),
    }
    return conform(pa.table(table), "labels", class_names=NAMES), true


def test_a_planted_drift_is_found_where_it_is(tired: tuple[pa.Table, np.ndarray]) -> None:
    labels, true = tired
    found = label_opinions(labels, pa.array([f"s{k:03d}" for k in range(400)]), NAMES)
    record = inspectors_record(found, None, true, NAMES)["labels"]
    ben, anna = sorted(record["inspectors"], key=lambda one: -one["share"])
    assert (anna["name"], anna["share"], anna["confusions"]) == ("anna", 0.0, [])
    assert (ben["name"], ben["stands_out"]) == ("ben", 1)
    assert ben["confusions"] == [{"compared_with": "dent", "said": "ok", "num": ben["share"] * 400}]
    line, time = ben["drift"]
    assert [(group["value"], group["stands_out"]) for group in line["groups"]] == [("L2", 1), ("L1", -1)]
    assert time["unit"] == "W"
    assert all((group["share"] > 0) == (group["value"] >= "2026-02") for group in time["groups"][:4])
    (said,) = inspector_sentences({"labels": record, "reviews": None})
    assert said.startswith(f"inspectors: 2, who agree on {record['agreement']:.0%} of pairs over 400 shared samples")
    assert "ben (" in said
    assert "line L2" in said


def test_the_agreement_of_each_sample_stands_beside_its_votes(tired: tuple[pa.Table, np.ndarray]) -> None:
    samples = samples_table(tired[0], NAMES)
    agreement = samples.column("annotator_agreement").to_pylist()
    votes = samples.column("given_votes").to_pylist()
    assert set(agreement) == {0.0, 1.0}
    assert all((value == 0.0) == (row == [1, 1]) for value, row in zip(agreement, votes, strict=True))


def test_reviewers_are_compared_only_where_two_looked() -> None:
    def said(sample: str, who: str, label: str) -> Decision:
        now = datetime(2026, 1, 1, tzinfo=UTC)
        return Decision(sample, "h", "ok", "corrected", who, now, "r", "d", "csv", verified_label=label)

    samples = pa.table({"sample_id": ["a", "b"], "line": ["L1", None]})
    one = [(said("a", "anna", "dent"),), (said("b", "ben", "dent"),)]
    assert review_opinions(one, samples, NAMES) is None
    two = [(said("a", "anna", "dent"), said("a", "ben", "ok")), (said("b", "ben", "dent"),)]
    record = inspectors_record(None, review_opinions(two, samples, NAMES), np.array([0, 0]), NAMES)
    assert record["labels"] is None
    assert (record["reviews"]["num_shared"], record["reviews"]["agreement"]) == (1, 0.0)
    assert [(one["name"], one["num"]) for one in record["reviews"]["inspectors"]] == [("anna", 1), ("ben", 1)]


def test_one_inspector_alone_makes_no_report(tired: tuple[pa.Table, np.ndarray]) -> None:
    alone = tired[0].filter(pa.compute.equal(tired[0].column("annotator_id"), "anna"))
    assert label_opinions(alone, pa.array(["s000"]), NAMES) is None
    assert inspector_sentences({"labels": None, "reviews": None}) == []
    assert inspector_sentences(None) == []
