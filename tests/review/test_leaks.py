"""What stands on both sides of a split: planted by hand, against a slow loop, and where nothing leaks."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from labelclean.review.leaks import Leaks, leaving, split_codes, split_leaks


def test_every_group_in_two_splits_leaks_and_no_other_as_a_slow_loop_says() -> None:
    rng = np.random.default_rng(0)
    groups, splits = rng.integers(-(2**40), 2**40, 60)[rng.integers(0, 60, 300)], rng.integers(-1, 3, 300)
    sets = split_leaks(groups, splits)
    for row in range(300):
        mates = {int(splits[other]) for other in range(300) if groups[other] == groups[row]} - {-1}
        assert (sets[row] >= 0) == (splits[row] >= 0 and len(mates) > 1)
        assert (sets[groups == groups[row]][splits[groups == groups[row]] >= 0] == sets[row]).all() or splits[row] < 0
    first = [int(np.flatnonzero(sets == number)[0]) for number in range(sets.max() + 1)]
    assert first == sorted(first)


def test_a_set_stays_in_the_smallest_of_its_splits_and_nothing_leaks_any_more() -> None:
    groups = np.array([0, 0, 0, 1, 1, 2, 2, 3, 4, 5])
    splits = np.array([0, 0, 1, 0, 2, 1, 1, 0, 1, 0])  # 5 of split 0, 4 of 1, 1 of 2
    left = leaving(split_leaks(groups, splits), splits)
    assert np.flatnonzero(left).tolist() == [0, 1, 3]
    assert (split_leaks(groups[~left], splits[~left]) == -1).all()


def test_splits_of_equal_size_are_ordered_by_name() -> None:
    splits, names = split_codes(pa.chunked_array([pa.array(["b", "a", None]).dictionary_encode()]))
    left = leaving(split_leaks(np.zeros(3, int), splits), splits)
    assert (names, left.tolist()) == (["a", "b"], [True, False, False])


def test_nothing_leaks_within_one_split_without_a_split_or_without_samples() -> None:
    none = np.empty(0, dtype=np.int64)
    for groups, splits in ((np.zeros(4, int), np.ones(4, int)), (np.zeros(4, int), np.full(4, -1)), (none, none)):
        sets = split_leaks(groups, splits)
        assert (sets == -1).all()
        assert not leaving(sets, splits).any()
    assert Leaks(none, none, ()).record() == {"num_sets": 0, "num_samples": 0, "num_left_out": 0, "by_split": [], "between": []}  # fmt: skip


def test_the_record_counts_sets_samples_and_what_is_left_out_by_split() -> None:
    groups, splits = np.array([0, 0, 0, 1, 1, 2]), np.array([1, 1, 0, 1, 0, 1])
    record = Leaks(split_leaks(groups, splits), splits, ["test", "train"]).record()
    assert (record["num_sets"], record["num_samples"], record["num_left_out"]) == (2, 5, 3)
    assert record["by_split"] == [
        {"split": "test", "num": 2, "leaking": 2, "left_out": 0},
        {"split": "train", "num": 4, "leaking": 3, "left_out": 3},
    ]
    assert record["between"] == [{"splits": ["test", "train"], "num_sets": 2}]
