"""Four readings of a disagreement, and how far each is believed: by hand, by a slow loop, at the limits."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from labelclean.labels import GivenLabels, given_labels, one_hot
from labelclean.noise.model import posterior
from labelclean.noise.readings import (
    ALONE,
    AS_GIVEN,
    CALM,
    CLOUDS,
    Ambiguity,
    AuditEvidence,
    Beliefs,
    beliefs_of_audit,
    beliefs_without_eyes,
    differing,
    fit_readings,
    measure_ambiguity,
    mixture,
    prior_of,
)

PROBS = np.array([[0.6, 0.3, 0.1], [0.1, 0.2, 0.7]], np.float32)
EVEN = np.full((2, 2), 0.5)


def test_the_beliefs_read_like_the_formula() -> None:
    """a0 = .3, a1 = .1, d = .02: w = 1 - .04 / .2 = .8; n0 = .1: u = .3 / .4 = .75."""
    beliefs = beliefs_without_eyes(Ambiguity(calm=0.3, clouds=0.1, moved=0.02, wrong=0.1))
    assert beliefs.soft == pytest.approx([0.05, 0.8, 0.0, 0.15])
    assert beliefs.score == pytest.approx([0.2, 0.8, 0.0, 0.0])


def test_clouds_less_sure_than_the_labels_near_them_are_not_believed() -> None:
    beliefs = beliefs_without_eyes(Ambiguity(calm=0.1, clouds=0.2, moved=0.0, wrong=0.1))
    assert beliefs.soft == pytest.approx([0.5, 0.0, 0.0, 0.5])
    assert beliefs.score == pytest.approx([0.5, 0.5, 0.0, 0.0])


def test_a_vouched_model_is_not_doubted() -> None:
    unclear = Ambiguity(calm=0.4, clouds=0.1, moved=0.2, wrong=0.01)
    assert beliefs_without_eyes(unclear, is_vouched=True).soft == pytest.approx([1, 0, 0, 0])
    assert beliefs_without_eyes(unclear).soft[AS_GIVEN] > 0.9


def test_where_images_are_clear_nothing_speaks_for_the_labels_as_given() -> None:
    assert beliefs_without_eyes(Ambiguity(calm=0.0, clouds=0.0, moved=0.001, wrong=0.1)).soft[AS_GIVEN] == 0


def test_ambiguity_by_hand() -> None:
    matrix = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]])
    clouds = np.array([[0.2, 0.8, 0.0], [0.0, 0.0, 1.0]], np.float32)
    found = measure_ambiguity(PROBS, clouds, given_labels(np.array([1, 2]), 3), matrix)
    first = 0.3 * 0.8 / (0.6 * 0.1 + 0.3 * 0.8 + 0.1 * 0.1)
    second = 0.7 * 0.8 / (0.1 * 0.1 + 0.2 * 0.1 + 0.7 * 0.8)
    assert found.calm == pytest.approx(0.35)
    assert found.clouds == pytest.approx(0.1)
    assert found.moved == pytest.approx((1 + 3) / 2)
    assert found.wrong == pytest.approx(1 - (first + second) / 2)


def test_readings_are_probabilities_and_keep_what_was_ruled_out() -> None:
    labels = GivenLabels(
        np.array([[1, 0, 0], [0, 0, 1]], np.float32), np.array([[True, True, True], [True, False, True]])
    )
    found = fit_readings(PROBS, labels, np.full((3, 3), 1 / 3)).read(PROBS, labels)
    assert np.allclose(found.sum(axis=2), 1, atol=1e-6)
    assert (found[:, 1, 1] == 0).all()
    assert np.allclose(found[CALM], found[ALONE], atol=1e-6)  # an even C of no information leaves the student's word
    assert found[AS_GIVEN].tolist() == labels.votes.tolist()


def test_where_the_clouds_move_a_sample_they_read_it_calmly() -> None:
    random = np.random.default_rng(3)
    side = np.concatenate([random.normal(-2, 0.5, 150), random.normal(1, 0.5, 150), [-0.4]])
    probs = (1 / (1 + np.exp(np.stack([side, -side], axis=1)))).astype(np.float32)
    labels = given_labels((side > 0).astype(np.int64), 2)
    fitted = fit_readings(probs, labels, np.array([[0.9, 0.1], [0.1, 0.9]]))
    moved = fitted.clouds.probs(probs).argmax(axis=1) != probs.argmax(axis=1)
    found = fitted.read(probs, labels)
    assert moved.any()
    assert np.array_equal(found[CLOUDS, moved], found[CALM, moved])


def looks(likelihood: np.ndarray, is_wrong: np.ndarray, weight: float = 1.0) -> AuditEvidence:
    """Looks at samples of two classes."""
    given_probs = np.where(is_wrong, 1 - likelihood, likelihood)
    return AuditEvidence(likelihood, given_probs, is_wrong, np.full(len(is_wrong), weight))


def test_an_old_look_counts_for_less() -> None:
    """Two looks at half weight move belief as one at full weight does."""
    likelihood = np.array([[0.2], [0.9], [0.5], [0.0]], np.float32)
    before = Beliefs(np.array([0.5, 0.3, 0.0, 0.2]), np.array([0.5, 0.5, 0.0, 0.0]))
    once = beliefs_of_audit(before, looks(likelihood, np.array([True])))
    halves = beliefs_of_audit(before, looks(np.tile(likelihood, (1, 2)), np.array([True, True]), weight=0.5))
    assert halves.soft == pytest.approx(once.soft, abs=1e-6)
    assert halves.shift == pytest.approx(once.shift, abs=1e-6)
    assert halves.num_wrong == 1


def test_looks_move_all_scores_to_the_likeliest_log_odds_of_a_fine_grid() -> None:
    random = np.random.default_rng(1)
    likelihood, is_wrong = random.random((4, 20)).astype(np.float32), np.arange(20) < 12
    before = Beliefs(np.array([0.5, 0.3, 0.0, 0.2]), np.array([0.5, 0.5, 0.0, 0.0]))
    found = beliefs_of_audit(before, looks(likelihood, is_wrong))
    right = sum(found.score[r] * np.where(is_wrong, 1 - likelihood[r], likelihood[r]) for r in range(4))
    log_odds = [math.log(max(p, 0.001) / (1 - max(p, 0.001))) for p in right]
    best, at = -math.inf, 0.0
    for shift in np.arange(-4, 4, 0.001):
        wrongness = [1 / (1 + math.exp(one + shift)) for one in log_odds]
        chances = [p if wrong else 1 - p for p, wrong in zip(wrongness, is_wrong, strict=True)]
        evidence = sum(math.log(chance) for chance in chances) - shift**2 / (2 * 1.5**2)
        if evidence > best:
            best, at = evidence, float(shift)
    assert found.shift == pytest.approx(at, abs=0.001)
    assert found.shift < 0


def test_a_shift_moves_odds_of_what_is_surer_than_anybody_may_be_too() -> None:
    third = np.full(4, 1 / 3)
    beliefs = Beliefs(third, third * [1, 1, 1, 0], shift=-math.log(3))
    given_probs = np.tile(np.array([0.0, 0.5, 0.75, 1.0], np.float32), (4, 1))
    a_third_as_likely = [0.001 / 3 / (0.001 / 3 + 0.999), 0.25, 0.5, 333 / 334]
    assert beliefs.chance(given_probs) == pytest.approx(a_third_as_likely, abs=1e-6)


def test_weights_that_add_up_to_more_than_one_in_single_precision_make_no_chance_above_one() -> None:
    weights = np.array([0.27, 0.66, 0.07, 0.0])
    assert weights[:3].astype(np.float32).cumsum()[-1] > 1
    assert Beliefs(weights, weights).chance(np.ones((4, 1), np.float32)).max() == 1


def test_looks_of_two_runs_are_joined_in_order() -> None:
    first = looks(np.full((4, 2), 0.25, np.float32), np.array([False, False]))
    second = looks(np.full((4, 1), 0.75, np.float32), np.array([True]), weight=0.5)
    joined = first.joined(second)
    assert joined.likelihood[0].tolist() == [0.25, 0.25, 0.75]
    assert joined.given_probs[0].tolist() == [0.25, 0.25, 0.25]
    assert first.joined(looks(np.ones((4, 1), np.float32), np.array([True]))).given_probs[0].tolist() == [0.25, 0.25, 0]
    assert (joined.is_wrong.tolist(), joined.weights.tolist()) == ([False, False, True], [1, 1, 0.5])


def test_an_audit_moves_belief_as_a_slow_loop_of_bayes_says() -> None:
    likelihood = np.random.default_rng(0).random((4, 12)).astype(np.float32)
    before = Beliefs(np.array([0.5, 0.3, 0.0, 0.2]), np.array([0.5, 0.5, 0.0, 0.0]))
    found = beliefs_of_audit(before, looks(likelihood, np.arange(12) < 5))
    prior = [0.9 * weight + 0.025 for weight in before.soft]
    weights = list(prior)
    for _ in range(2_000):
        counts = [4 * weight for weight in prior]
        for sample in range(12):
            joint = [weights[r] * max(float(likelihood[r, sample]), 0.001) for r in range(4)]
            for r in range(4):
                counts[r] += joint[r] / sum(joint)
        weights = [count / 16 for count in counts]
    assert found.soft == pytest.approx(weights, abs=1e-4)
    assert (found.num_samples, found.num_audited, found.num_wrong) == (16, 12, 5)


def test_thirty_right_labels_leave_labels_as_given() -> None:
    """The calm reading called a tenth of each wrong; nobody found a wrong one."""
    likelihood = np.tile(np.array([[0.9], [0.9], [0.7], [1.0]], np.float32), (1, 30))
    before = beliefs_without_eyes(Ambiguity(calm=0.3, clouds=0.2, moved=0.3, wrong=0.1))
    after = beliefs_of_audit(before, looks(likelihood, np.zeros(30, bool)))
    assert after.soft[AS_GIVEN] > before.soft[AS_GIVEN]
    assert after.soft[ALONE] < 0.05


def test_a_bold_reading_that_was_right_thirty_times_is_believed() -> None:
    likelihood = np.tile(np.array([[0.1], [0.1], [0.95], [0.0]], np.float32), (1, 30))
    before = beliefs_without_eyes(Ambiguity(calm=0.3, clouds=0.2, moved=0.3, wrong=0.1))
    assert beliefs_of_audit(before, looks(likelihood, np.ones(30, bool))).soft[ALONE] > 0.8


def test_an_audit_is_read_without_what_it_found() -> None:
    """The verified class must not vouch for the reading that is weighed by it: labels count as they were given."""
    random = np.random.default_rng(1)
    true = random.integers(0, 2, 400)
    probs = np.where(one_hot(true, 2) > 0, 0.9, 0.1).astype(np.float32)
    given = np.where(random.random(400) < 0.3, 1 - true, true)
    rows = np.arange(40)
    votes, candidates = one_hot(given, 2), np.ones((400, 2), bool)
    votes[rows], candidates[rows] = one_hot(true[rows], 2), one_hot(true[rows], 2) > 0
    audited = np.isin(np.arange(400), rows)
    labels = GivenLabels(votes, candidates, one_hot(given, 2), audited)
    beliefs = fit_readings(probs, labels, np.array([[0.7, 0.3], [0.3, 0.7]])).beliefs
    assert beliefs.num_audited == 40
    assert beliefs.num_wrong == (given[rows] != true[rows]).sum()
    assert beliefs.soft[AS_GIVEN] < 0.2
    without = fit_readings(probs, replace(labels, is_audited=None), np.array([[0.7, 0.3], [0.3, 0.7]])).beliefs
    assert without.num_audited == 0


def test_the_prior_leaves_no_reading_at_nothing() -> None:
    assert prior_of(np.array([1.0, 0.0, 0.0, 0.0])) == pytest.approx([0.925, 0.025, 0.025, 0.025])


def test_the_mixture_is_a_weighted_mean() -> None:
    readings = np.random.default_rng(0).random((4, 5, 3)).astype(np.float32)
    weights = np.array([0.1, 0.2, 0.3, 0.4])
    assert np.allclose(mixture(weights, readings), np.einsum("r,rnk->nk", weights, readings), atol=1e-6)


def test_readings_differ_where_one_that_looks_names_another_class() -> None:
    readings = np.zeros((4, 2, 2), np.float32)
    readings[:, :, 0] = 1
    readings[ALONE, 1] = [0, 1]
    readings[AS_GIVEN] = [0, 1]
    assert differing(readings, np.array([0, 0])).tolist() == [False, True]


@pytest.mark.parametrize("order", [[1, 0], [0, 1]])
def test_permuting_classes_permutes_readings(order: list[int]) -> None:
    random = np.random.default_rng(5)
    side = random.normal(0, 2, 200)
    probs = (1 / (1 + np.exp(np.stack([side, -side], axis=1)))).astype(np.float32)
    given, matrix = (side + random.normal(0, 1, 200) > 0).astype(np.int64), np.array([[0.8, 0.2], [0.1, 0.9]])
    one = fit_readings(probs, given_labels(given, 2), matrix)
    labels = given_labels(np.array(order)[given], 2)
    other = fit_readings(probs[:, order], labels, matrix[np.ix_(order, order)])
    assert np.allclose(one.beliefs.soft, other.beliefs.soft, atol=1e-6)
    first, second = one.read(probs, given_labels(given, 2)), other.read(probs[:, order], labels)
    assert np.allclose(first[:, :, order], second, atol=1e-5)


def test_three_who_agree_are_as_many_witnesses_as_three_single_labels() -> None:
    """q ~ P C^3 by hand."""
    probs, matrix = np.array([[0.2, 0.8]], np.float32), np.array([[0.9, 0.1], [0.3, 0.7]])
    votes = GivenLabels(np.array([[1, 0]], np.float32), np.ones((1, 2), bool), num_votes=np.array([3], np.float32))
    by_hand = 0.2 * 0.9**3 / (0.2 * 0.9**3 + 0.8 * 0.3**3)
    assert posterior(probs, votes, matrix)[0, 0] == pytest.approx(by_hand, rel=1e-5)
