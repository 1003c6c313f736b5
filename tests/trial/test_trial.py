"""A trial measures out of fold: what it puts away cannot be seen, more samples help on planted clusters."""

from __future__ import annotations

import numpy as np
import pytest

from labelclean.config import CleaningConfig
from labelclean.labels import GivenLabels, given_labels
from labelclean.runs.gates import Finding
from labelclean.trial.advice import ClassTrial, Reason, recommend, risks
from labelclean.trial.trial import (
    Compared,
    CurvePoint,
    Material,
    _without_labels,
    compare_refinements,
    curve_sizes,
    learning_curve,
)

CONFIG = CleaningConfig.model_validate({"teacher": {"repeats": 2, "lambdas": [0.1]}})


def clusters(num: int, flips: float, classes: int = 3) -> Material:
    """Three clouds with some labels turned to the next class."""
    random = np.random.default_rng(0)
    true = np.arange(num) % classes
    features = (random.normal(size=(classes, 20))[true] * 1.5 + random.normal(size=(num, 20))).astype(np.float32)
    given = np.where(random.random(num) < flips, (true + 1) % classes, true)
    return Material(features, given_labels(given, classes), [f"s{row:04}" for row in range(num)])


def test_labels_that_are_put_away_cannot_be_seen() -> None:
    material, hidden = clusters(90, 0.1), np.arange(0, 90, 4)
    votes = material.labels.votes.copy()
    votes[hidden] = np.roll(votes[hidden], 1, axis=1)
    other = Material(material.features, GivenLabels(votes, material.labels.candidates), material.sample_ids)
    first, second = (_without_labels(one, hidden, seed=0) for one in (material, other))
    assert np.array_equal(first.votes, second.votes)
    kept = np.setdiff1d(np.arange(90), hidden)
    assert np.array_equal(first.votes[kept], material.labels.votes[kept])
    assert (first.given[hidden] == material.labels.given[hidden]).mean() > 0.6  # drawn from what the others say


@pytest.mark.slow
@pytest.mark.long
def test_refinements_are_ranked_and_two_hot_under_pair_flips_loses_against_none() -> None:
    rows = compare_refinements(clusters(180, 0.3), CONFIG, ("posterior",), seed=0)
    assert [row.gain for row in rows] == sorted((row.gain for row in rows), reverse=True)
    by_name = {row.method: row for row in rows}
    assert by_name["none"].gain == 0.0
    assert {name for name, row in by_name.items() if row.is_allowed} == {"posterior", "none"}
    assert by_name["two_hot"].gain < 0  # all errors go to one class: methods section 2


@pytest.mark.slow
def test_the_curve_rises_and_counts_disjoint_subsets() -> None:
    curve = learning_curve(clusters(300, 0.1), CONFIG, seed=0)
    assert [(point.num_samples, point.num_subsets) for point in curve] == [(75, 3), (150, 2), (300, 1)]
    assert curve[-1].gain > curve[0].gain > 0
    assert curve[-1].agreement == pytest.approx(0.9, abs=0.06)
    assert curve[-1].error_share == pytest.approx(0.1, abs=0.06)


def test_sizes_halve_down_to_sixty() -> None:
    assert curve_sizes(60) == (60,)
    assert curve_sizes(8000) == (500, 1000, 2000, 4000, 8000)


EASY = ClassTrial("ok", 1000, 100, 5, 4, 5.0, "dent", 0.4)
CURVE = [CurvePoint(100, 2, 1.0, 0.1, 0.9, 0.1), CurvePoint(200, 1, 1.01, None, 0.9, 0.1)]


def told(*classes: ClassTrial, findings: tuple[Finding, ...] = (), **shares: float) -> list[str]:
    shown = risks(classes or (EASY,), CURVE, (), findings, **({"reject_share": 0.0, "found_share": 0.9} | shares))
    return [reason.code for reason in shown]


def test_an_easy_data_set_has_no_risk_and_is_a_go() -> None:
    assert told() == []
    better = [Compared("posterior", 0.1, 0.01, is_allowed=True), Compared("none", 0.0, 0.0, is_allowed=True)]
    advice, reasons = recommend([], better, expected_errors=90.0, found_errors=80.0)
    assert advice == "go"
    assert [reason.code for reason in reasons] == ["finds", "refinement"]


@pytest.mark.parametrize(
    ("risk", "code"),
    [
        (ClassTrial("a", 90, 100, 40, 5, 5.0, "b", 0.4), "drained"),
        (ClassTrial("a", 90, 100, 5, 5, 5.0, "b", 0.9), "concentrated"),
        (ClassTrial("a", 90, 9, 5, 5, 5.0, "b", 0.9), "rare"),
    ],
)
def test_a_class_that_loses_confuses_or_is_rare_limits(risk: ClassTrial, code: str) -> None:
    assert told(EASY, risk) == [code]
    assert recommend([Reason(code, "limit")], [], expected_errors=9.0, found_errors=8.0)[0] == "limits"


def test_a_model_without_skill_or_a_queue_without_errors_is_a_no() -> None:
    refused = Finding(
        "teacher_skill", "refuse", -0.1, 0.0, None, "x", ("two_hot", "multi_round", "adaptive", "posterior")
    )
    assert told(findings=(refused,)) == ["gate_teacher_skill"]
    assert told(found_share=0.05) == ["few_finds"]
    stop = Reason("few_finds", "no", {"share": 0.05})
    assert recommend([stop], [], expected_errors=9.0, found_errors=1.0) == ("no", (stop,))
