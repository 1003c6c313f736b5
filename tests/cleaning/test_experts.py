"""Views: evidence that the sample's own label did not enter."""

from __future__ import annotations

import numpy as np
import pytest

from labelclean.cleaning.experts import (
    Expert,
    Targets,
    judging_rows,
    multi_round_expert,
    student_experts,
    teacher_experts,
)
from labelclean.config import CleaningConfig
from labelclean.labels import GivenLabels, given_labels
from labelclean.noise.targets import given_targets
from labelclean.probes.feature_space import FeatureSpace, build_feature_space
from tests.probes.test_held_out import taught_without

DEFAULTS = CleaningConfig()
NAMES = ("ridge", "kernel", "votes", "rounds")


def problem(num_samples: int = 150, config: CleaningConfig = DEFAULTS) -> tuple[FeatureSpace, GivenLabels, np.ndarray]:
    random = np.random.default_rng(0)
    true = random.integers(0, 3, num_samples)
    features = 3 * np.eye(6)[true] + random.standard_normal((num_samples, 6))
    space = build_feature_space(features, [f"s{i}" for i in range(num_samples)], None, config, seed=0)
    return space, given_labels(true, 3), true


def expert_of(name: str, space: FeatureSpace, labels: GivenLabels, config: CleaningConfig) -> Expert:
    targets = Targets(given_targets(labels))
    if name == "rounds":
        return multi_round_expert(space, targets, labels, config)
    return {expert.name: expert for expert in teacher_experts(space, targets, labels, config)}[name]


@pytest.mark.parametrize("name", NAMES)
def test_a_samples_own_label_does_not_enter_its_expert(name: str) -> None:
    space, labels, true = problem()
    config = CleaningConfig.model_validate(
        {"neighbours": {"k": 5}, "teacher": {"lambdas": [0.1]}, "refine": {"rounds": 2}}
    )
    moved = true.copy()
    moved[0] = (moved[0] + 1) % 3
    values = []
    for given in (labels, given_labels(moved, 3)):
        found = expert_of(name, space, given, config)
        values.append(found.values[0] - found.values[0].mean())
    direction = [value / np.linalg.norm(value) for value in values]
    assert np.allclose(direction[0], direction[1], atol=0.03)  # only the class shares and the scale notice


@pytest.mark.parametrize("left_out", ["group", "fold"])
def test_the_ridge_expert_is_that_of_probes_taught_without_the_group_or_the_fold(left_out: str) -> None:
    config = CleaningConfig.model_validate({"teacher": {"left_out": left_out, "lambdas": [0.2], "landmarks": 0}})
    space, labels, _ = problem(90, config)
    expert = expert_of("ridge", space, labels, config)
    rows, parts = space.design.unit_rows.astype(np.float64), space.groups if left_out == "group" else space.design.folds
    for part in np.unique(parts):
        own = np.flatnonzero(parts == part)
        slow = taught_without(rows, labels.votes.astype(np.float64), own, 0.6)
        np.testing.assert_allclose(expert.values[own] / expert.scale, slow, atol=2e-3)


def test_many_samples_are_scored_by_folds() -> None:
    random, size = np.random.default_rng(1), 10_001
    true = random.integers(0, 3, size)
    features = 3 * np.eye(6)[true] + random.standard_normal((size, 6))
    labels, ids = given_labels(true, 3), [str(row) for row in range(size)]
    auto, fold = (
        CleaningConfig.model_validate(
            {"neighbours": {"method": "none"}, "teacher": {"landmarks": 0, "lambdas": [0.1], "left_out": left_out}}
        )
        for left_out in ("auto", "fold")
    )
    space = build_feature_space(features, ids, None, auto, seed=0)
    found, wanted = (expert_of("ridge", space, labels, config) for config in (auto, fold))
    assert np.array_equal(found.values, wanted.values)


@pytest.mark.parametrize("name", NAMES)
def test_experts_point_to_the_true_class(name: str) -> None:
    space, labels, true = problem()
    found = expert_of(name, space, labels, DEFAULTS)
    assert (found.values.argmax(axis=1) == true).mean() > 0.85
    assert np.isfinite(found.log_likelihood)


def test_the_penalty_is_among_those_of_the_config() -> None:
    space, labels, _ = problem()
    config = CleaningConfig.model_validate({"teacher": {"lambdas": [0.5, 5.0]}})
    assert expert_of("ridge", space, labels, config).setting in (1.5, 15.0)


def test_without_neighbours_there_is_no_vote_and_without_landmarks_no_kernel() -> None:
    config = CleaningConfig.model_validate({"neighbours": {"method": "none"}, "teacher": {"landmarks": 0}})
    space, labels, _ = problem(config=config)
    assert [expert.name for expert in teacher_experts(space, Targets(labels.votes), labels, config)] == ["ridge"]


def test_a_student_of_soft_targets_points_to_the_true_class() -> None:
    space, labels, true = problem()
    soft = Targets((0.8 * labels.votes + 0.2 / 3).astype(np.float32))
    for expert in student_experts(space, soft, labels, DEFAULTS):
        assert (expert.values.argmax(axis=1) == true).mean() > 0.85


@pytest.mark.parametrize(("num_classes", "size"), [(2, 10_000), (20, 2_500), (500, 1_000)])
def test_as_many_samples_judge_as_give_fifty_thousand_numbers(num_classes: int, size: int) -> None:
    order = np.random.default_rng(0).permutation(12_000)
    assert judging_rows(order, num_classes).tolist() == sorted(order[:size].tolist())
