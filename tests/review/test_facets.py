"""Shares of wrong labels by group and over time, against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from labelclean.review.facets import MAX_GROUPS, MAX_ROWS, group_facet, moments, time_facet, wilson_interval


def test_the_wilson_interval_of_one_in_ten_is_the_textbook_one() -> None:
    assert wilson_interval(1, 10) == pytest.approx((0.0179, 0.4042), abs=1e-4)


@pytest.mark.parametrize("expected", [0.0, 3.0])
def test_the_wilson_interval_stays_within_0_and_1(expected: float) -> None:
    low, high = wilson_interval(expected, 3)
    assert 0 <= low <= expected / 3 <= high <= 1


def test_groups_hold_their_counts_and_expected_wrong_labels() -> None:
    facet = group_facet("line", np.array([0, 0, 1, 1]), ["A", None], np.array([0.1, 0.3, 1.0, 0.0]))
    assert facet is not None
    assert [(g.value, g.num, g.share) for g in facet.groups] == [(None, 2, 0.5), ("A", 2, 0.2)]
    assert facet.overall == pytest.approx(0.35)


def test_only_a_group_that_differs_by_more_than_chance_is_marked() -> None:
    codes = np.repeat([0, 1, 2], [500, 500, 4])
    wrong = np.concatenate([np.full(500, 0.05), np.full(500, 0.25), np.full(4, 0.9)])
    facet = group_facet("line", codes, ["low", "high", "tiny"], wrong)
    assert facet is not None
    assert {g.value: g.stands_out for g in facet.groups} == {"tiny": 1, "high": 1, "low": -1}
    even = group_facet("line", codes, ["low", "high", "tiny"], np.full(1004, 0.2))
    assert even is not None
    assert [g.stands_out for g in even.groups] == [0, 0, 0]


def test_one_group_or_too_many_make_no_facet() -> None:
    assert group_facet("line", np.zeros(5, dtype=int), ["A"], np.zeros(5)) is None
    many = np.arange(MAX_GROUPS + 1)
    assert group_facet("line", many, [str(k) for k in many], np.zeros(len(many))) is None


def test_the_groups_with_the_highest_shares_are_listed_and_the_rest_counted() -> None:
    facet = group_facet("line", np.arange(20), [f"{k}" for k in range(20)], np.linspace(0, 1, 20))
    assert facet is not None
    assert facet.groups[0].value == "19"
    assert (len(facet.groups), facet.num_left_out) == (MAX_ROWS, 20 - MAX_ROWS)


def test_time_is_cut_into_the_finest_periods_that_stay_readable() -> None:
    days = np.datetime64("2026-03-02T08:00") + np.arange(10) * np.timedelta64(1, "D")
    facet = time_facet("captured_at", days.astype("datetime64[us]"), np.full(10, 0.5))
    assert facet is not None
    assert (facet.unit, len(facet.groups), facet.groups[0].value) == ("D", 10, "2026-03-02")


def test_weeks_start_on_monday_and_unknown_times_are_left_out() -> None:
    days = np.datetime64("2026-03-02") + np.arange(70) * np.timedelta64(1, "D")  # a Monday, ten weeks
    times = np.append(days.astype("datetime64[us]"), np.datetime64("NaT", "us"))
    facet = time_facet("captured_at", times, np.full(71, 0.5))
    assert facet is not None
    assert [g.num for g in facet.groups] == [7] * 10
    assert (facet.unit, facet.groups[1].value) == ("W", "2026-03-09")


def test_periods_without_labels_keep_their_place() -> None:
    days = np.array(["2026-03-02", "2026-03-03", "2026-03-09"], dtype="datetime64[us]")
    facet = time_facet("captured_at", days, np.zeros(3))
    assert facet is not None
    assert (facet.unit, facet.places) == ("D", (0, 1, 7))


def test_a_single_moment_makes_no_facet() -> None:
    noon = np.array(["2026-03-02T12:00"] * 3, dtype="datetime64[us]")
    assert time_facet("captured_at", noon, np.zeros(3)) is None
    assert time_facet("captured_at", np.array(["NaT"], dtype="datetime64[us]"), np.zeros(1)) is None


def test_wilson_against_the_textbook() -> None:
    # 5 of 10 at z = 1.645: (0.5 + z^2/20 + z sqrt(0.025 + z^2/400)) / (1 + z^2/10)
    assert wilson_interval(5, 10, 1.645)[1] == pytest.approx(0.7304, abs=1e-3)
    assert wilson_interval(10, 10, 1.645)[1] == 1.0


@pytest.mark.parametrize(
    ("values", "kind", "wanted"),
    [
        ([1_700_000_000_123_456_789, None], pa.timestamp("ns"), ["2023-11-14T22:13:20", "NaT"]),
        ([1_700_000_000, 253_402_300_800_000], pa.timestamp("s"), ["2023-11-14T22:13:20", "NaT"]),
        ([-62_135_596_800_000_000, 1_700_000_000_123_456], pa.timestamp("us", "Asia/Tokyo"), ["NaT", "2023-11-14T22:13:20"]),
        ([19_675, 2_932_896], pa.date32(), ["2023-11-14T00:00:00", "NaT"]),
    ],
)  # fmt: skip
def test_times_of_any_unit_are_read_and_those_of_no_time_left_out(
    values: list[int | None], kind: pa.DataType, wanted: list[str]
) -> None:
    column = pa.chunked_array([pa.array(values, kind)])
    assert [str(time) for time in moments(column)] == wanted
