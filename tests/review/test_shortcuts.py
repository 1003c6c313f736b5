"""What else tells the label: by hand, planted, and where nothing tells it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from labelclean.review.shortcuts import Known, binned, cross_fitted_gain, measure_shortcut, shortcut_record


def known(given: np.ndarray, groups: np.ndarray | None = None, folds: int = 5) -> Known:
    groups = np.arange(len(given)) if groups is None else groups
    return Known(given, groups, groups % folds, int(given.max()) + 1)


def test_the_gain_is_what_a_slow_loop_over_the_other_folds_gives() -> None:
    rng = np.random.default_rng(1)
    some, values = known(rng.integers(0, 3, 60)), rng.integers(0, 4, 60)
    gains = []
    for row in range(60):
        others = some.folds != some.folds[row]
        shares = np.array([(some.given[others] == k).sum() + 1 / 3 for k in range(3)]) / (others.sum() + 1)
        same = others & (values == values[row])
        told = (np.array([(some.given[same] == k).sum() for k in range(3)]) + shares) / (same.sum() + 1)
        gains.append(np.log(told / shares)[some.given[row]])
    assert cross_fitted_gain(values, some) == pytest.approx(np.mean(gains))


def test_a_column_that_is_the_label_tells_almost_all_of_it() -> None:
    given = np.arange(3000) % 3
    found = measure_shortcut("camera", given, known(given))
    assert found.gain == pytest.approx(np.log(3), abs=0.01)
    assert (round(found.share, 2), found.exceeds_chance) == (1.0, True)


def test_a_planted_column_exceeds_chance_and_its_worst_value_comes_first() -> None:
    rng = np.random.default_rng(2)
    given = rng.integers(0, 4, 600)
    shift = np.where((given == 2) & (rng.random(600) < 0.7), 3, rng.integers(0, 3, 600))
    record = shortcut_record(measure_shortcut("shift", shift, known(given)), ["a", "b", "c", "night"], ["p", "q", "r", "s"], [str(row) for row in range(600)])  # fmt: skip
    assert record["exceeds_chance"]
    assert record["share"] > 0.1
    worst = record["examples"][0]
    assert (worst["value"], worst["class_name"], worst["share"]) == ("night", "r", 1.0)
    assert all(given[int(sample)] == 2 and shift[int(sample)] == 3 for sample in worst["sample_ids"])


@pytest.mark.parametrize("size", [1, 5])
def test_values_that_tell_nothing_exceed_chance_once_in_a_hundred_also_where_parts_share_label_and_value(size: int) -> None:  # fmt: skip
    false_alarms = 0
    for seed in range(100):
        rng, parts = np.random.default_rng(seed), np.repeat(np.arange(60), size)
        given, values = rng.integers(0, 3, 60)[parts], rng.integers(0, 3, 60)[parts]
        false_alarms += measure_shortcut("line", values, known(given, parts), seed=seed).exceeds_chance
    assert false_alarms <= 4


def test_names_of_single_samples_tell_nothing() -> None:
    given = np.arange(200) % 2
    assert cross_fitted_gain(np.arange(200), known(given)) == pytest.approx(0.0, abs=1e-9)


def test_nothing_is_told_of_one_class_or_of_no_sample() -> None:
    one = known(np.zeros(20, int))
    assert (measure_shortcut("line", np.arange(20) % 2, one).share, one.entropy) == (0.0, 0.0)
    none = replace(one, given=one.given[:0], groups=one.groups[:0], folds=one.folds[:0])
    assert measure_shortcut("line", np.empty(0, int), none).gain == 0.0


def test_numbers_are_cut_into_tenths_and_missing_ones_stand_apart() -> None:
    values = np.append(np.arange(100.0), np.nan)
    bins, called = binned(values)
    assert np.bincount(bins).tolist() == [10] * 10 + [1] or np.bincount(bins).max() <= 11
    assert (called[0].startswith("0 – "), called[-1], bins[-1]) == (True, "", len(called) - 1)
