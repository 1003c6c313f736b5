"""Views: evidence that the sample's own label did not enter."""

from __future__ import annotations

import numpy as np
import pytest

from labelclean.cleaning.views import log_votes, multi_round_view, ridge_view, student_probs, vote_view
from labelclean.config import CleaningConfig
from labelclean.labels import GivenLabels, given_labels
from labelclean.noise.targets import given_targets
from labelclean.probes.feature_space import FeatureSpace, build_feature_space
from labelclean.probes.held_out import HeldOut, hold_out_some
from labelclean.probes.neighbours import Neighbours
from labelclean.probes.sums import Spectrum

DEFAULTS = CleaningConfig()


def problem(num_samples: int = 150) -> tuple[FeatureSpace, GivenLabels, np.ndarray]:
    random = np.random.default_rng(0)
    true = random.integers(0, 3, num_samples)
    features = 3 * np.eye(6)[true] + random.standard_normal((num_samples, 6))
    space = build_feature_space(features, [f"s{i}" for i in range(num_samples)], None, DEFAULTS, seed=0)
    return space, given_labels(true, 3), true


def test_log_votes_by_hand() -> None:
    pair = Neighbours(np.array([[1], [0]]), np.array([[0.5], [0.5]], np.float32))
    values = log_votes(pair, np.eye(2, dtype=np.float32))
    # (0.5 [0, 1] + 0.5 [1/2, 1/2]) / 1 = [1/4, 3/4] against shares of 1/2
    assert np.allclose(values[0], np.log([0.5, 1.5]), atol=1e-6)


def test_a_sample_without_neighbours_says_nothing() -> None:
    alone = Neighbours(np.full((2, 1), -1), np.zeros((2, 1), np.float32))
    assert np.allclose(log_votes(alone, np.eye(2, dtype=np.float32)), 0, atol=1e-6)


@pytest.mark.parametrize("view", [ridge_view, vote_view, multi_round_view])
def test_a_samples_own_label_does_not_enter_its_view(view: object) -> None:
    space, labels, true = problem()
    config = CleaningConfig.model_validate(
        {"neighbours": {"k": 5}, "teacher": {"lambdas": [0.1]}, "refine": {"rounds": 2}}
    )
    moved = true.copy()
    moved[0] = (moved[0] + 1) % 3
    values = []
    for given in (labels, given_labels(moved, 3)):
        found = view(space, given_targets(given), given, config)  # type: ignore[operator]
        values.append(found.values[0] - found.values[0].mean())
    direction = [value / np.linalg.norm(value) for value in values]
    assert np.allclose(direction[0], direction[1], atol=0.03)  # only the class shares and the scale notice


def test_many_samples_are_scored_by_folds_whoever_judges_and_large_groups_are_never_gathered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    random, size = np.random.default_rng(1), 13_000
    true = random.integers(0, 3, size)
    features = 3 * np.eye(6)[true] + random.standard_normal((size, 6))
    labels, ids = given_labels(true, 3), [str(row) for row in range(size)]
    auto, fold = (
        CleaningConfig.model_validate(
            {"neighbours": {"method": "none"}, "teacher": {"landmarks": 0, "lambdas": [0.1], "left_out": left_out}}
        )
        for left_out in ("auto", "fold")
    )
    gathered: list[int] = []

    def counted(rows: np.ndarray, groups: np.ndarray, some: np.ndarray, basis: Spectrum) -> HeldOut:
        gathered.append(len(some))
        return hold_out_some(rows, groups, some, basis)

    monkeypatch.setattr("labelclean.cleaning.views.hold_out_some", counted)
    for groups, most in ((None, [10_000]), ([row // 100 for row in range(size)], [])):
        space = build_feature_space(features, ids, groups, auto, seed=0)
        found, wanted = (ridge_view(space, labels.votes, labels, config) for config in (auto, fold))
        np.testing.assert_allclose(found.values / found.scale, wanted.values / wanted.scale, atol=1e-5)
        assert gathered == most
        gathered.clear()


@pytest.mark.parametrize("view", [ridge_view, vote_view, multi_round_view])
def test_views_point_to_the_true_class(view: object) -> None:
    space, labels, true = problem()
    found = view(space, labels.votes, labels, DEFAULTS)  # type: ignore[operator]
    assert (found.values.argmax(axis=1) == true).mean() > 0.85
    assert np.isfinite(found.log_likelihood)


def test_the_penalty_is_among_those_of_the_config() -> None:
    space, labels, _ = problem()
    config = CleaningConfig.model_validate({"teacher": {"lambdas": [0.5, 5.0]}})
    assert ridge_view(space, labels.votes, labels, config).setting in (1.5, 15.0)


def test_without_neighbours_there_is_no_vote() -> None:
    space, labels, _ = problem()
    features = space.design.unit_rows
    config = CleaningConfig.model_validate({"neighbours": {"method": "none"}})
    bare = build_feature_space(features, list(range(150)), None, config, seed=0)
    assert vote_view(bare, labels.votes, labels, config) is None


def test_a_student_of_soft_targets_points_to_the_true_class() -> None:
    space, labels, true = problem()
    probs = student_probs(space, (0.8 * labels.votes + 0.2 / 3).astype(np.float32), labels, DEFAULTS)
    assert (probs.argmax(axis=1) == true).mean() > 0.85
    assert np.allclose(probs.sum(axis=1), 1, atol=1e-5)
