"""Values of carried columns, whatever they hold."""

from __future__ import annotations

from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from labelclean.runs.shortcuts import coded_values, named_values

MANY = list(range(2**60, 2**60 + 100_000, 1000))


@pytest.mark.parametrize(
    ("name", "column", "called"),
    [
        ("line", pa.array(["B", None, "A", "B"]).dictionary_encode(), ["B", "", "A"]),
        ("is_new", pa.array([True, False, True]), ["true", "false"]),
        ("taken", pa.array([datetime(2026, 3, 1), datetime(2026, 3, 31), None]), ["2026-03", "NaT"]),
        ("day", pa.array([date(2026, 4, 1), date(2026, 3, 1)]), ["2026-03", "2026-04"]),
        ("captured_at", pa.array(["2026-03-01T10:00:00", "2026-03-02"]), ["2026-03"]),
        ("clock", pa.array([time(6), time(14)]), ["06:00:00.000000", "14:00:00.000000"]),
        ("price", pa.array([Decimal("1.50"), None]), ["", "1.50"]),
    ],
)
def test_names_stay_and_times_become_months(name: str, column: pa.Array, called: list[str]) -> None:
    assert coded_values(name, pa.chunked_array([column]))[1] == called  # type: ignore[index]


@pytest.mark.parametrize("values", [MANY, [float(one) for one in range(99)] + [float("nan")]])
def test_many_numbers_become_tenths(values: list[Any]) -> None:
    bins, called = coded_values("width", pa.chunked_array([values]))  # type: ignore[misc]
    assert 5 <= len(called) <= 11
    assert len(bins) == 100


@pytest.mark.parametrize("column", [pa.array([b"x"]), pa.array([["a"]]), pa.array([{"a": 1}])])
def test_what_is_no_simple_value_is_left_out(column: pa.Array) -> None:
    assert coded_values("odd", pa.chunked_array([column])) is None


def test_values_beyond_the_forty_most_frequent_are_one() -> None:
    codes, called = named_values(pa.array([f"lot {row % 50:02}" for row in range(99)]))
    assert (len(called), called[-1]) == (41, "...")
    assert np.bincount(codes)[-1] == 99 - 80
