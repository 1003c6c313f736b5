"""Sums, their additivity, and label averaging in closed form."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from labelclean.errors import TableError
from labelclean.probes.sums import (
    LeftOut,
    all_but,
    bucketed,
    build_feature_sums,
    build_target_sums,
    centred_gram,
    centred_unit_rows,
    feature_mean,
    hashed_parts,
    merged_feature_sums,
    merged_target_sums,
    ridge_rounds,
    solved_ridge,
    span_coordinates,
    spectrum,
)


def draw(num_samples: int = 40, num_dims: int = 6, num_classes: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    rows = random.standard_normal((num_samples, num_dims)).astype(np.float32)
    targets = random.dirichlet(np.ones(num_classes), num_samples).astype(np.float32)
    return rows, targets, random.integers(0, 4, num_samples)


def test_rows_have_length_one_and_a_row_at_the_mean_stays_zero() -> None:
    features = np.array([[3.0, 4.0], [0.0, 0.0], [0.0, -2.0]])
    assert np.allclose(centred_unit_rows(features, np.zeros(2)), np.array([[0.6, 0.8], [0, 0], [0, -1]]))


def test_constant_features_become_zero_rows_in_spite_of_rounding() -> None:
    features = np.full((5, 3), 0.1, dtype=np.float32)
    assert not centred_unit_rows(features, feature_mean(features)).any()


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_unit_rows_do_not_hang_on_the_unit_of_the_features(scale: float, kind: type[np.floating]) -> None:
    features = np.random.default_rng(1).normal(size=(20, 5)) + 3.0
    wanted = features - features.mean(axis=0)
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    scaled = (features * scale).astype(kind)
    assert np.allclose(centred_unit_rows(scaled, feature_mean(scaled)), wanted, atol=1e-5)


def test_sums_are_those_of_a_slow_loop() -> None:
    rows, targets, parts = draw()
    features, labels = build_feature_sums(rows, parts, 4, np.zeros(6)), build_target_sums(rows, targets, parts, 4)
    for part in range(4):
        mine = [i for i in range(40) if parts[i] == part]
        assert features.count[part] == len(mine)
        assert np.allclose(features.gram[part], sum(np.outer(rows[i], rows[i]) for i in mine), atol=1e-5)
        assert np.allclose(features.total[part], sum(rows[i] for i in mine), atol=1e-5)
        assert np.allclose(labels.cross[part], sum(np.outer(rows[i], targets[i]) for i in mine), atol=1e-5)
        assert np.allclose(labels.total[part], sum(targets[i] for i in mine), atol=1e-5)


def test_sums_of_two_nights_add_up_to_the_sums_of_both() -> None:
    rows, targets, parts = draw()
    mean = np.zeros(6)
    halves = [slice(0, 25), slice(25, 40)]
    features = merged_feature_sums(*(build_feature_sums(rows[half], parts[half], 4, mean) for half in halves))
    labels = merged_target_sums(*(build_target_sums(rows[half], targets[half], parts[half], 4) for half in halves))
    whole = build_feature_sums(rows, parts, 4, mean)
    assert np.allclose(features.gram, whole.gram, atol=1e-5)
    assert np.array_equal(features.count, whole.count)
    assert np.allclose(labels.cross, build_target_sums(rows, targets, parts, 4).cross, atol=1e-5)


def test_sums_with_another_mean_are_refused() -> None:
    rows, _, parts = draw()
    sums = build_feature_sums(rows, parts, 4, np.zeros(6))
    with pytest.raises(TableError, match="centred by the same mean"):
        merged_feature_sums(sums, replace(sums, mean=np.full(6, 0.5)))


def test_sums_of_other_shapes_are_refused() -> None:
    rows, targets, parts = draw()
    with pytest.raises(TableError, match="same parts and dimensions"):
        merged_feature_sums(
            build_feature_sums(rows, parts, 4, np.zeros(6)), build_feature_sums(rows, parts, 5, np.zeros(6))
        )
    with pytest.raises(TableError, match="parts, dimensions and classes"):
        merged_target_sums(
            build_target_sums(rows, targets, parts, 4), build_target_sums(rows, targets[:, :2], parts, 4)
        )


def test_the_centred_gram_is_the_scatter_around_the_mean() -> None:
    rows, _, parts = draw()
    mine = rows[parts != 2].astype(np.float64)
    centred = mine - mine.mean(axis=0)
    sums = build_feature_sums(rows, parts, 4, np.zeros(6))
    assert np.allclose(centred_gram(sums, all_but(2, 4)), centred.T @ centred, atol=1e-5)


@pytest.mark.parametrize("rounds", [1, 2, 4])
def test_rounds_are_ridge_regression_of_the_outputs_before(rounds: int) -> None:
    rows, targets, parts = draw()
    weights, penalty = all_but(1, 4), 0.7
    basis = spectrum(build_feature_sums(rows, parts, 4, np.zeros(6)), weights)
    fitted, bias = ridge_rounds(basis, build_target_sums(rows, targets, parts, 4), weights, penalty, rounds)
    mine, outputs = rows[parts != 1].astype(np.float64), targets[parts != 1].astype(np.float64)
    centred = mine - mine.mean(axis=0)
    for _ in range(rounds):
        slow = np.linalg.solve(centred.T @ centred + penalty * np.eye(6), centred.T @ (outputs - outputs.mean(axis=0)))
        outputs = outputs.mean(axis=0) + centred @ slow
    assert np.allclose(mine @ fitted + bias, outputs, atol=1e-5)


def test_a_huge_penalty_leaves_the_class_shares() -> None:
    rows, targets, parts = draw()
    basis = spectrum(build_feature_sums(rows, parts, 4, np.zeros(6)), np.ones(4))
    fitted, bias = ridge_rounds(basis, build_target_sums(rows, targets, parts, 4), np.ones(4), 1e9)
    assert np.allclose(rows @ fitted + bias, targets.mean(axis=0), atol=1e-4)


def test_an_empty_union_of_parts_gives_finite_weights() -> None:
    rows, targets, parts = draw()
    basis = spectrum(build_feature_sums(rows, parts, 4, np.zeros(6)), np.zeros(4))
    fitted, bias = ridge_rounds(basis, build_target_sums(rows, targets, parts, 4), np.zeros(4), 1.0)
    assert np.isfinite(fitted).all()
    assert np.isfinite(bias).all()


def test_span_coordinates_keep_all_inner_products() -> None:
    rows = np.random.default_rng(1).standard_normal((5, 30)).astype(np.float32)
    coordinates = span_coordinates(rows)
    assert coordinates.shape == (5, 5)
    assert np.allclose(coordinates @ coordinates.T, rows @ rows.T, atol=1e-4)


def test_span_coordinates_leave_many_samples_alone() -> None:
    rows, _, _ = draw()
    assert span_coordinates(rows) is rows


def test_a_key_keeps_its_part_whatever_stands_beside_it() -> None:
    alone = hashed_parts(["b"], 5, seed=3, purpose="fold")
    among = hashed_parts(["a", "b", "c", "b"], 5, seed=3, purpose="fold")
    assert alone[0] == among[1] == among[3]


def test_parts_are_about_equal_and_depend_on_seed_and_purpose() -> None:
    keys = [f"s{i}" for i in range(5000)]
    folds = hashed_parts(keys, 5, seed=0, purpose="fold")
    assert np.bincount(folds, minlength=5).min() > 900
    assert (folds != hashed_parts(keys, 5, seed=1, purpose="fold")).mean() > 0.7
    assert (folds != hashed_parts(keys, 5, seed=0, purpose="bucket")).mean() > 0.7


def test_one_ridge_by_factor_is_that_by_decomposition() -> None:
    rows, targets, parts = draw()
    features, labels = build_feature_sums(rows, parts, 4, np.zeros(6)), build_target_sums(rows, targets, parts, 4)
    weights = np.array([0.0, 2.0, 1.0, 1.0])
    wanted = ridge_rounds(spectrum(features, weights), labels, weights, 0.3)
    for found, one in zip(solved_ridge(features, labels, weights, 0.3), wanted, strict=True):
        np.testing.assert_allclose(found, one, atol=1e-8)


def test_decompositions_that_leave_out_a_part_are_made_once_and_when_asked_for() -> None:
    rows, _, parts = draw()
    sums = build_feature_sums(rows, parts, 4, np.zeros(6))
    left_out = LeftOut(sums)
    assert len(left_out) == 4
    assert len(tuple(left_out)) == 4
    np.testing.assert_array_equal(left_out[2].values, spectrum(sums, all_but(2, 4)).values)
    assert left_out[2] is left_out[2]
    with pytest.raises(IndexError, match="within 0 and 3, but is 4"):
        left_out[4]


def test_buckets_lie_within_folds_and_their_sums_add_up_to_those_of_the_folds() -> None:
    rows, _, folds = draw()
    keys = [f"s{row % 30}" for row in range(40)]
    folds = hashed_parts(keys, 4, seed=1, purpose="fold")
    buckets = bucketed(keys, folds, 3, seed=1)
    assert np.array_equal(buckets // 3, folds)
    assert np.array_equal(buckets[:10], buckets[30:])
    single = build_feature_sums(rows, buckets, 12, np.zeros(6))
    wanted = build_feature_sums(rows, folds, 4, np.zeros(6))
    for name in ("count", "total", "gram"):
        of_buckets = getattr(single, name)
        joined = of_buckets.reshape(4, 3, *of_buckets.shape[1:]).sum(axis=1)
        np.testing.assert_allclose(joined, getattr(wanted, name), atol=1e-5)
