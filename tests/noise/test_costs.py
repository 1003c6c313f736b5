"""Escapes, overkill and wrong kinds, with costs worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from labelclean.config import ClassCosts, CostsConfig
from labelclean.labels import given_labels
from labelclean.noise.costs import (
    CostRule,
    cost_matrix,
    error_chances,
    error_costs,
    estimate_kinds,
    expected_costs,
    kind_chances,
    kind_sums,
    score_chances,
)
from labelclean.noise.readings import Ambiguity
from labelclean.noise.trust import fit_trust

NAMES = ["crack", "dent", "ok"]
COSTS = CostsConfig(escape=100, overkill=2, wrong_kind=3, by_class={"crack": ClassCosts(escape=500, overkill=5)})
PROBS = np.array([[0.1, 0.2, 0.7], [0.5, 0.2, 0.3], [0.1, 0.8, 0.1]])
GIVEN = np.array([2, 0, 1])  # ok, crack, dent


def test_the_cost_of_every_mistake_by_hand() -> None:
    assert cost_matrix(NAMES, "ok", COSTS).tolist() == [
        [0, 3, 5],  # given crack: really a dent, really OK
        [3, 0, 2],
        [500, 100, 0],  # given ok: a crack escapes, a dent escapes
    ]


def test_a_wrong_kind_costs_as_much_as_overkill_unless_said_otherwise() -> None:
    assert cost_matrix(NAMES, "ok", CostsConfig(escape=10, overkill=4))[0].tolist() == [0, 4, 4]


def test_what_each_label_costs_by_hand() -> None:
    matrix = cost_matrix(NAMES, "ok", COSTS)
    # ok: .1 x 500 + .2 x 100; crack: .2 x 3 + .3 x 5; dent: .1 x 3 + .1 x 2
    assert expected_costs(PROBS, GIVEN, matrix) == pytest.approx([70.0, 2.1, 0.5])
    by_kind = error_costs(PROBS, GIVEN, CostRule(2, matrix))
    assert by_kind == pytest.approx(np.array([[70, 0, 0], [0, 1.5, 0.2], [0, 0.6, 0.3]]))


def test_kinds_by_hand() -> None:
    assert error_chances(PROBS, GIVEN, ok=2) == pytest.approx(np.array([[0.3, 0, 0], [0, 0.3, 0.1], [0, 0.2, 0.1]]))


def test_the_kinds_of_all_labels_add_up_to_the_wrong_labels_that_scores_expect() -> None:
    rng = np.random.default_rng(3)
    given = rng.integers(0, 3, 300)
    probs = rng.dirichlet([0.3] * 3, 300).astype(np.float32)
    labels = given_labels(given, 3)
    trust = fit_trust(probs, probs, labels, np.full((3, 3), 0.1) + 0.7 * np.eye(3))
    scores, each = trust.judge(probs, probs, labels).label_scores, trust.readings.read(probs, labels)
    chances = kind_chances(score_chances(trust.readings, each, given, scores), each, given, ok=2)
    sums = kind_sums(chances)
    assert sums[:, 0].sum() == pytest.approx((1 - scores.astype(float)).sum(), rel=1e-6)
    slow = np.zeros((3, 3))  # of each reading, label by label
    for reading in range(3):
        for row, label in enumerate(given):
            one = each[reading, row].astype(float)
            slow[0, reading] += 1 - one[2] if label == 2 else 0
            slow[1, reading] += one[2] if label != 2 else 0
            slow[2, reading] += 1 - one[2] - one[label] if label != 2 else 0
    assert sums[:, 2:] == pytest.approx(slow, rel=1e-4)
    halves = kind_sums(chances[:150]) + kind_sums(chances[150:])
    assert halves == pytest.approx(sums)


def test_a_label_that_people_have_verified_is_no_error_and_costs_nothing() -> None:
    certain = np.eye(3)[GIVEN]
    assert error_chances(certain, GIVEN, ok=2).sum() == 0
    assert expected_costs(certain, GIVEN, cost_matrix(NAMES, "ok", COSTS)).sum() == 0


def test_the_interval_reaches_over_the_readings_and_no_kind_is_more_than_all_errors() -> None:
    sums = np.array([[10.0, 4.0, 8.0, 12.0, 20.0], [6.0, 1.0, 8.0, 5.0, 7.0], [0.0] * 5])
    escape, overkill, wrong = estimate_kinds(sums, Ambiguity(0.04, 0, 0, 0), 200, most=19.0)
    # unclear: .04 x 200 = 8, half to each of both kinds; a standard error of 2 and of 1
    assert (escape.expected, escape.low, escape.high) == (10.0, 8.0 - 4.0 - 2.0, 19.0)
    assert (overkill.expected, overkill.low, overkill.high) == (6.0, 8.0 - 4.0 - 1.0, 9.0)
    assert (wrong.expected, wrong.low, wrong.high) == (0.0, 0.0, 0.0)
