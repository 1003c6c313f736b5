"""Planted truth, laws and hard cases of the whole computation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from labelclean.cleaning.clean import CleanedLabels, clean_labels
from labelclean.cleaning.student import refine_labels
from labelclean.cleaning.teacher import fit_teacher, teacher_from_pred_probs
from labelclean.config import CleaningConfig
from labelclean.errors import GateError, TableError
from labelclean.labels import GivenLabels, given_labels
from labelclean.probes.feature_space import build_feature_space

DEFAULTS = CleaningConfig()
IDS = [f"s{i:04d}" for i in range(2000)]


def planted(
    num_samples: int = 400, num_classes: int = 4, rate: float = 0.1, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features of separable clusters, true classes, and given labels of which some were flipped."""
    random = np.random.default_rng(seed)
    true = random.integers(0, num_classes, num_samples)
    features = 4.0 * np.eye(num_classes, 12)[true] + random.standard_normal((num_samples, 12))
    wrong = random.random(num_samples) < rate
    given = np.where(wrong, (true + random.integers(1, num_classes, num_samples)) % num_classes, true)
    return features.astype(np.float32), true, given


@pytest.fixture(scope="module")
def cleaned() -> tuple[CleanedLabels, np.ndarray, np.ndarray]:
    features, true, given = planted()
    return clean_labels(given, features=features, seed=0), true, given


def test_planted_flips_are_found(cleaned: tuple[CleanedLabels, np.ndarray, np.ndarray]) -> None:
    result, true, given = cleaned
    issues = result.table["is_label_issue"].to_numpy()
    assert (issues & (given != true)).sum() > 0.9 * (given != true).sum()
    assert (issues & (given == true)).sum() < 0.02 * len(true)


def test_refined_labels_are_closer_to_the_truth(cleaned: tuple[CleanedLabels, np.ndarray, np.ndarray]) -> None:
    result, true, given = cleaned
    assert (result.table["predicted_label"] == true).mean() > 0.98
    assert result.soft_labels[np.arange(len(true)), true].mean() > (given == true).mean()


def test_the_estimated_number_of_errors_covers_the_planted_one(
    cleaned: tuple[CleanedLabels, np.ndarray, np.ndarray],
) -> None:
    result, true, given = cleaned
    estimate = result.refinement.estimated_errors
    assert estimate.low <= (given != true).sum() <= estimate.high


def test_the_result_has_its_promised_shape(cleaned: tuple[CleanedLabels, np.ndarray, np.ndarray]) -> None:
    result, _, given = cleaned
    columns = ["sample_id", "given_label", "predicted_label", "label_score", "is_label_issue"]
    assert list(result.table.columns) == columns
    assert result.table["given_label"].tolist() == given.tolist()
    assert result.soft_labels.dtype == np.float32
    assert result.soft_labels.shape == (400, 4)
    assert np.allclose(result.soft_labels.sum(axis=1), 1, atol=1e-5)
    assert result.class_names == [0, 1, 2, 3]


def test_clean_labels_are_left_alone() -> None:
    features, true, _ = planted(rate=0.0)
    assert clean_labels(true, features=features, seed=0).table["is_label_issue"].mean() < 0.01


def test_two_classes_work() -> None:
    features, true, given = planted(num_classes=2, rate=0.15)
    table = clean_labels(given, features=features, seed=0).table
    assert (table["predicted_label"] == true).mean() > (given == true).mean() + 0.05


def test_the_same_inputs_and_seed_give_the_same_bytes() -> None:
    features, _, given = planted(150)
    first, second = (clean_labels(given, features=features, seed=3) for _ in range(2))
    assert first.soft_labels.tobytes() == second.soft_labels.tobytes()
    assert first.table.equals(second.table)


def test_shuffling_samples_with_their_ids_shuffles_the_results() -> None:
    features, _, given = planted(200)
    order = np.random.default_rng(1).permutation(200)
    ids = IDS[:200]
    first = clean_labels(given, features=features, sample_ids=ids, seed=0)
    second = clean_labels(given[order], features=features[order], sample_ids=[ids[i] for i in order], seed=0)
    assert np.allclose(first.soft_labels[order], second.soft_labels, atol=2e-3)


def test_renaming_classes_permutes_the_soft_labels() -> None:
    features, _, given = planted(200)
    names = np.array(["z", "c", "m", "a"])
    first = clean_labels(given, features=features, seed=0)
    second = clean_labels(names[given], features=features, seed=0)
    assert second.class_names == ["a", "c", "m", "z"]
    assert np.allclose(first.soft_labels[:, [3, 1, 2, 0]], second.soft_labels, atol=2e-3)


def test_inputs_are_left_unchanged() -> None:
    features, _, given = planted(100)
    kept = features.copy(), given.copy()
    clean_labels(given, features=features, seed=0)
    assert np.array_equal(features, kept[0])
    assert np.array_equal(given, kept[1])


def test_probabilities_alone_are_enough() -> None:
    _, true, given = planted()
    random = np.random.default_rng(2)
    logits = 4.0 * np.eye(4)[true] + random.standard_normal((400, 4))
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    result = clean_labels(given, pred_probs=probs, seed=0)
    assert (result.table["predicted_label"] == true).mean() > 0.95
    assert result.refinement.neighbour_votes is None


@pytest.mark.parametrize("method", ["posterior", "adaptive", "multi_round", "two_hot", "none"])
def test_every_refinement_ranks_planted_flips_first(method: str) -> None:
    features, true, given = planted(250)
    result = clean_labels(given, features=features, seed=0, config={"refine": {"method": method}})
    assert result.refinement.method == method
    scores = result.table["label_score"].to_numpy()
    assert scores[given != true].mean() < 0.5 < scores[given == true].mean()
    if method == "none":
        assert result.table["predicted_label"].tolist() == given.tolist()


def test_two_hot_falls_back_with_two_classes_and_says_why() -> None:
    features, _, given = planted(100, num_classes=2)
    result = clean_labels(given, features=features, seed=0, config={"refine": {"method": "two_hot"}})
    assert result.refinement.method == "posterior"
    assert "with two classes both always stand in the pair" in result.refinement.why


def test_a_refinement_that_is_not_allowed_can_stop_the_run() -> None:
    features, _, given = planted(100, num_classes=2)
    config = {"refine": {"method": "two_hot"}, "gates": {"on_refusal": "stop"}}
    with pytest.raises(GateError, match=r"refine.method: 'two_hot' cannot be used.*gates.on_refusal = stop"):
        clean_labels(given, features=features, seed=0, config=config)


def test_the_gates_verdict_is_obeyed() -> None:
    features, _, given = planted(100)
    space = build_feature_space(features, IDS[:100], None, DEFAULTS, seed=0)
    labels = given_labels(given, 4)
    teacher = fit_teacher(space, labels, DEFAULTS, seed=0)
    assert refine_labels(space, labels, teacher, DEFAULTS, allowed=["multi_round"]).method == "multi_round"
    assert refine_labels(space, labels, teacher, DEFAULTS, allowed=[]).method == "none"


def test_verified_and_partial_labels_keep_their_word() -> None:
    features, true, given = planted(200, rate=0.3)
    candidates = np.ones((200, 4), bool)
    candidates[:100] = np.eye(4, dtype=bool)[true[:100]]
    candidates[100:120, 0] = False
    labels = GivenLabels(given_labels(given, 4).votes, candidates)
    space = build_feature_space(features, IDS[:200], None, DEFAULTS, seed=0)
    result = refine_labels(space, labels, fit_teacher(space, labels, DEFAULTS, seed=0), DEFAULTS)
    assert np.array_equal(result.predicted[:100], true[:100])
    assert (result.label_scores[:100] == 1).all()
    assert not result.is_label_issue[:100].any()
    assert not result.soft_labels[100:120, 0].any()


def test_finding_errors_does_not_make_the_others_look_right() -> None:
    features, true, given = planted(num_samples=600, rate=0.2)
    flips = np.flatnonzero(given != true)
    found, left = flips[: 2 * len(flips) // 3], flips[2 * len(flips) // 3 :]
    before = given_labels(given, 4)
    votes, candidates = before.votes.copy(), before.candidates.copy()
    votes[found] = np.eye(4)[true[found]]
    candidates[found] = votes[found] > 0
    labels = GivenLabels(votes, candidates, before.votes)
    space = build_feature_space(features, IDS[:600], None, DEFAULTS, seed=0)
    result = refine_labels(space, labels, fit_teacher(space, labels, DEFAULTS, seed=0), DEFAULTS)
    assert (result.predicted[found] == true[found]).all()
    assert (result.predicted[left] == true[left]).mean() > 0.95
    assert np.diag(result.noise_matrix).mean() == pytest.approx(0.8, abs=0.05)  # of all 600, not of the rest


def test_votes_of_several_inspectors_are_heard() -> None:
    features, true, given = planted(200, rate=0.2)
    votes = (given_labels(given, 4).votes + given_labels(true, 4).votes) / 2
    labels = GivenLabels(votes.astype(np.float32), np.ones((200, 4), bool))
    space = build_feature_space(features, IDS[:200], None, DEFAULTS, seed=0)
    result = refine_labels(space, labels, fit_teacher(space, labels, DEFAULTS, seed=0), DEFAULTS)
    assert (result.predicted == true).mean() > 0.97


def hard_cases() -> dict[str, tuple[Any, Any]]:
    random = np.random.default_rng(0)
    normal = random.standard_normal
    return {
        "constant features": (np.arange(40) % 3, np.ones((40, 5))),
        "few distinct features": (np.arange(60) % 2, np.repeat(np.eye(3), 20, axis=0)),
        "twenty samples": (np.arange(20) % 4, normal((20, 6))),
        "two samples": (np.array([0, 1]), normal((2, 3))),
        "more dimensions than samples": (np.arange(30) % 3, normal((30, 400))),
        "one dimension": (np.arange(60) % 2, normal((60, 1))),
        "single-sample classes": (np.concatenate([np.zeros(60, int), np.arange(1, 6)]), normal((65, 5))),
        "as many classes as samples": (np.arange(30), normal((30, 4))),
        "huge and tiny scales": (np.arange(60) % 3, normal((60, 4)) * np.array([1e15, 1e-15, 1, 1e5])),
        "integer features": (np.arange(60) % 3, random.integers(0, 255, (60, 4)).astype(np.uint8)),
        "all copies": (np.arange(60) % 2, np.tile(normal((1, 4)), (60, 1)) + np.repeat(np.eye(2, 4), 30, axis=0)),
    }


@pytest.mark.parametrize("case", list(hard_cases()))
def test_hard_inputs_give_finite_sensible_output(case: str) -> None:
    given, features = hard_cases()[case]
    result = clean_labels(given, features=features, seed=0)
    assert np.isfinite(result.soft_labels).all()
    assert np.allclose(result.soft_labels.sum(axis=1), 1, atol=1e-4)
    assert result.table["label_score"].between(0, 1).all()


def test_a_group_that_holds_everybody_gives_finite_output() -> None:
    features, _, given = planted(50)
    with pytest.warns(UserWarning, match="lie in one group"):
        result = clean_labels(given, features=features, groups=["one"] * 50, seed=0)
    assert np.isfinite(result.soft_labels).all()


def test_a_teacher_from_probabilities_has_no_refits_to_report() -> None:
    probs = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    teacher = teacher_from_pred_probs(probs, given_labels(np.array([0, 1, 0]), 2), DEFAULTS)
    assert teacher.top2_agreement is None
    assert teacher.top1.tolist() == [0, 1, 0]


def test_faulty_inputs_are_refused_before_anything_is_computed() -> None:
    with pytest.raises(TableError, match="must be finite"):
        clean_labels([0, 1], features=[[np.nan], [1.0]], seed=0)


def test_three_inspectors_votes_are_read_and_the_plurality_is_the_given_label() -> None:
    features, true, given = planted()
    random = np.random.default_rng(1)
    others = [np.where(random.random(400) < 0.2, random.integers(0, 4, 400), true) for _ in range(2)]
    votes = np.stack([given, *others], axis=1)
    result = clean_labels(votes, features=features, seed=0)
    counts = np.stack([(votes == k).sum(axis=1) for k in range(4)], axis=1)
    assert (result.table.given_label == counts.argmax(axis=1)).all()
    assert (result.table.predicted_label == true).mean() > 0.98


def test_a_class_that_people_found_stands_and_its_label_counts_as_it_was_given() -> None:
    features, true, given = planted()
    wrong = np.flatnonzero(given != true)[:5]
    found = {str(row): int(true[row]) for row in wrong.tolist()}
    result = clean_labels(given, features=features, verified=found, seed=0)
    assert (result.table.predicted_label[wrong] == true[wrong]).all()
    assert (result.table.given_label[wrong] == given[wrong]).all()
    assert not result.table.is_label_issue[wrong].any()
    assert result.refinement.trust.readings.beliefs.num_audited == 0


def test_random_looks_weigh_the_readings() -> None:
    features, true, given = planted()
    rows = np.random.default_rng(3).permutation(400)[:30]
    result = clean_labels(given, features=features, audited={str(r): int(true[r]) for r in rows.tolist()}, seed=0)
    beliefs = result.refinement.trust.readings.beliefs
    assert (beliefs.num_audited, beliefs.num_wrong) == (30, (given[rows] != true[rows]).sum())
    assert result.refinement.tally.gain(result.refinement.trust.readings).is_safe


def test_looks_at_strangers_and_unknown_classes_are_refused_together() -> None:
    features, _, given = planted(100)
    with pytest.raises(TableError, match=r"1 are not among them: 'x'.*hold classes of given_labels, but hold '9'"):
        clean_labels(given, features=features, audited={"x": 1, "0": 9}, seed=0)
