"""Neighbour search, groups, votes and near-duplicate sets."""

from __future__ import annotations

import numpy as np
import pytest

from labelclean.probes import neighbours as module
from labelclean.probes.index import add_rows, build_index, search_index, tune_index
from labelclean.probes.neighbours import (
    Neighbours,
    conflict_sets,
    copies_of,
    duplicate_pairs,
    duplicate_threshold,
    joined_groups,
    label_votes,
    mean_similarity,
    near_duplicate_sets,
    nearest_neighbours,
    outside_group,
    with_copies,
)


def unit(num_samples: int, num_dims: int, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((num_samples, num_dims)).astype(np.float32)
    scaled: np.ndarray = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return scaled


def slow_neighbours(rows: np.ndarray, wanted: int, groups: np.ndarray | None = None) -> np.ndarray:
    similarity = rows @ rows.T
    np.fill_diagonal(similarity, -9)
    if groups is not None:
        similarity[groups[:, None] == groups[None, :]] = -9
    order = np.argsort(-similarity, axis=1)[:, :wanted]
    found: np.ndarray = np.where(np.take_along_axis(similarity, order, 1) > -9, order, -1)
    return found


def sets_of(found: Neighbours, threshold: float) -> np.ndarray:
    return near_duplicate_sets(*duplicate_pairs(found, threshold), len(found.index), threshold)


def test_exact_search_finds_what_a_full_matrix_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK_SAMPLES", 16)  # several blocks, with a short last one
    rows = unit(50, 8)
    found = nearest_neighbours(rows, 7)
    assert np.array_equal(found.index, slow_neighbours(rows, 7))
    assert np.allclose(found.similarity, np.sort(rows @ rows.T, axis=1)[:, -2:-9:-1], atol=1e-6)


def test_the_index_finds_the_same_on_a_small_set() -> None:
    rows = unit(300, 8)
    found = nearest_neighbours(rows, 5, method="index")
    assert (found.index == slow_neighbours(rows, 5)).mean() > 0.99
    assert np.allclose(found.similarity, np.take_along_axis(rows @ rows.T, found.index, 1), atol=1e-6)


@pytest.mark.slow
def test_the_index_says_how_much_of_an_exact_search_it_finds() -> None:
    rows = unit(6000, 12)
    found = nearest_neighbours(rows, 10, method="index")
    exact = slow_neighbours(rows, 10)
    shared = np.mean([len(set(one) & set(other)) / 10 for one, other in zip(found.index, exact, strict=True)])
    assert found.method == "index"
    assert 0.95 <= found.recall <= 1
    assert abs(found.recall - shared) < 0.03


def test_copies_of_a_sample_are_its_neighbours_with_similarity_one() -> None:
    rows = np.repeat(unit(50, 16), 4, axis=0)
    found = nearest_neighbours(rows, 3, method="index")
    assert (found.index // 4 == np.arange(200)[:, None] // 4).all()
    assert (found.index != np.arange(200)[:, None]).all()
    assert np.allclose(found.similarity, 1, atol=1e-6)


def test_auto_takes_the_index_above_its_limit() -> None:
    rows = unit(60, 4)
    assert nearest_neighbours(rows, 3, method="auto", exact_limit=60).method == "exact"
    assert nearest_neighbours(rows, 3, method="auto", exact_limit=59).method == "index"


@pytest.mark.gpu
def test_a_gpu_finds_the_same_neighbours() -> None:
    rows = unit(500, 16)
    assert (nearest_neighbours(rows, 5, device="cuda").index == slow_neighbours(rows, 5)).mean() > 0.99
    assert (nearest_neighbours(rows, 5, method="index", device="cuda").index == slow_neighbours(rows, 5)).mean() > 0.95


def test_fewer_samples_than_neighbours_give_what_there_is() -> None:
    assert nearest_neighbours(unit(3, 4), 10).index.shape == (3, 2)
    assert nearest_neighbours(unit(1, 4), 10).index.shape == (1, 0)


def test_nobody_of_the_own_group_is_a_neighbour() -> None:
    rows, groups = unit(40, 6), np.repeat(np.arange(8), 5)
    found = outside_group(nearest_neighbours(rows, 6), groups, rows, 6)
    assert np.array_equal(found.index, slow_neighbours(rows, 6, groups))


def test_a_sample_whose_group_is_everybody_has_no_neighbours() -> None:
    rows = unit(6, 4)
    found = outside_group(nearest_neighbours(rows, 3), np.zeros(6, dtype=np.int64), rows, 3)
    assert (found.index == -1).all()
    assert not found.similarity.any()


def test_votes_are_the_similarity_weighted_labels_without_negative_ones() -> None:
    found = Neighbours(np.array([[1, 2], [0, -1], [0, 1]]), np.array([[0.5, 0.25], [0.5, 0], [0.2, -0.4]], np.float32))
    votes = label_votes(found, np.eye(3, dtype=np.float32))
    assert np.allclose(votes, [[0, 0.5, 0.25], [0.5, 0, 0], [0.2, 0, 0]])


def test_mean_similarity_counts_only_neighbours_found() -> None:
    found = Neighbours(np.array([[1, -1], [-1, -1]]), np.array([[0.5, 0], [0, 0]], np.float32))
    assert mean_similarity(found).tolist() == [0.5, 0.0]


def test_planted_copies_are_joined_and_strangers_are_not() -> None:
    rows = unit(200, 20)
    copies = rows[:6] + np.float32(0.005) * unit(6, 20, seed=1)
    rows = np.concatenate([rows, copies / np.linalg.norm(copies, axis=1, keepdims=True)])
    found = nearest_neighbours(rows, 12)
    sets = sets_of(found, duplicate_threshold(found.similarity))
    assert sets[:6].tolist() == sets[200:].tolist() == [0, 1, 2, 3, 4, 5]
    assert (sets[6:200] == -1).all()


def test_low_dimensional_features_do_not_count_as_copies() -> None:
    found = nearest_neighbours(unit(400, 3), 12)
    sets = sets_of(found, duplicate_threshold(found.similarity))
    assert (sets >= 0).mean() < 0.02


def test_a_chain_of_similar_samples_does_not_grow_into_one_set() -> None:
    angles = np.linspace(0, 3, 400)
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    sets = sets_of(nearest_neighbours(rows, 12), 0.95)
    assert np.bincount(sets[sets >= 0], minlength=400).max() <= 20


def test_many_exact_copies_of_a_degenerate_feature_are_no_set() -> None:
    rows = np.tile(np.eye(2, dtype=np.float32), (50, 1))
    assert (sets_of(nearest_neighbours(rows, 12), 0.95) == -1).all()


def test_groups_and_copies_join_across_each_other() -> None:
    assert joined_groups(np.array([5, -7, 9, 5]), np.array([-1, 1, 1, -1])).tolist() == [0, 1, 1, 0]
    assert joined_groups(np.array([5, 9, 9, 5]), np.array([0, 0, -1, -1])).tolist() == [0, 0, 0, 0]
    assert joined_groups(np.array([5, -7, 9, 2]), np.array([-1, 1, 1, -1])).tolist() == [0, 1, 1, 3]


def test_the_same_feature_stands_together_however_often_and_only_where_all_bytes_agree() -> None:
    rows = unit(60, 5)
    rows[10:40] = rows[3]  # 31 of one feature: more than a set of near-duplicates may hold
    rows[50] = np.nextafter(rows[49], np.float32(2))
    near = sets_of(nearest_neighbours(rows, 12), 0.999999)
    sets = with_copies(near, copies_of(rows))
    assert np.flatnonzero(sets == 3).tolist() == [3, *range(10, 40)]
    assert sets[49] == sets[50] == 49
    assert np.array_equal(copies_of(rows) == copies_of(rows)[3], (rows == rows[3]).all(axis=1))


def test_sets_are_in_conflict_where_two_labels_of_them_differ() -> None:
    random = np.random.default_rng(0)
    sets, given = random.integers(-1, 40, 120), random.integers(0, 2, 120)
    slow = [number if number >= 0 and len(set(given[sets == number])) > 1 else -1 for number in sets]
    assert conflict_sets(sets, given).tolist() == slow


@pytest.mark.parametrize("farther", [0.0, 0.01])
def test_the_index_is_widened_until_rows_are_near_enough_and_no_further(farther: float) -> None:
    rows = unit(4000, 200)  # without structure
    index = build_index(rows, len(rows))
    add_rows(index, rows)
    similarity = rows[:200] @ rows.T
    exact = -np.sort(-similarity, axis=1)[:, :11]
    recall = tune_index(
        index, rows[:200], exact, lambda numbers: np.take_along_axis(similarity, numbers, 1), farther=farther
    )
    numbers, _ = search_index(index, rows[:200], 11)
    distance = np.sqrt(np.maximum(2 - 2 * np.take_along_axis(similarity, numbers, 1), 0))[:, 1:]
    tenth = np.sqrt(2 - 2 * exact[:, -1:])
    assert (distance <= (1 + farther) * tenth + 1e-4).mean() >= 0.95
    assert recall == pytest.approx((distance <= tenth + 1e-4).mean(), abs=0.01)
    assert (recall >= 0.95) == (farther == 0)
