"""Where wrong labels come from: expected shares of wrong labels by line, shift, inspector and over time, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from labelclean.arrays import FloatArray, IntegerArray

TimeArray = npt.NDArray[np.datetime64]

MAX_GROUPS = 40
MAX_ROWS = 15
MAX_PERIODS = 36
FIRST, LAST = np.datetime64("1900", "s"), np.datetime64("2200", "s")  # beyond these a time stands for none
_UNITS = ("h", "D", "W", "M", "Y")


@dataclass(frozen=True)
class Group:
    """The labels that share one value of a column.

    Attributes:
        value: The value, None where it is missing.
        num: Labels.
        expected: Expected number of wrong labels.
        low: Lower end of the 95 % interval of their share.
        high: Upper end.
        stands_out: 1 if the share is above the overall share by more than chance, -1 if below, else 0.
    """

    value: str | None
    num: int
    expected: float
    low: float
    high: float
    stands_out: int

    @property
    def share(self) -> float:
        """Expected share of wrong labels."""
        return self.expected / self.num


@dataclass(frozen=True)
class Facet:
    """Shares of wrong labels by the values of one column.

    Attributes:
        column: Its name.
        groups: Highest share first; for time, in order.
        num_left_out: Groups not listed.
        overall: Share over all labels.
        unit: `h`, `D`, `W`, `M` or `Y` for time, else None.
        is_inspectors: Whether the groups are people, whose labels are judged one by one.
        places: For time, how many periods each group stands after the first.
    """

    column: str
    groups: tuple[Group, ...]
    num_left_out: int
    overall: float
    unit: str | None = None
    is_inspectors: bool = False
    places: tuple[int, ...] = ()


def wilson_interval(expected: float, num: int, z: float = 1.959964) -> tuple[float, float]:
    """Return the score interval of a share (Wilson 1927 [17]).

    Args:
        expected: Number of wrong labels, may be fractional, in [0, num].
        num: Labels, at least 1.
        z: Quantile of the standard normal distribution.

    Returns:
        Lower and upper end, in [0, 1].

    Examples:
        >>> low, high = wilson_interval(5, 10)
        >>> round(low, 4), round(high, 4)
        (0.2366, 0.7634)
    """
    share = expected / num
    middle = (share + z * z / (2 * num)) / (1 + z * z / num)
    half = z / (1 + z * z / num) * sqrt(share * (1 - share) / num + z * z / (4 * num * num))
    # rounding may carry an end past the share itself
    return min(max(middle - half, 0.0), share), max(min(middle + half, 1.0), share)


def group_facet(
    column: str, codes: IntegerArray, values: Sequence[str | None], wrong: FloatArray, *, is_inspectors: bool = False
) -> Facet | None:
    """Return the shares of wrong labels by group.

    A group is marked where its interval, widened for the number of groups (Bonferroni), leaves
    the overall share out.

    Args:
        column: Name of the column.
        codes: Index into ``values`` of each label, shape (N,).
        values: The G values, None for missing.
        wrong: Chance that the label is wrong, shape (N,), in [0, 1].
        is_inspectors: Whether the groups are people.

    Returns:
        The facet, or None unless there are 2 to 40 groups with labels.

    Examples:
        >>> facet = group_facet("line", np.array([0, 1, 1]), ["A", "B"], np.array([0.0, 1.0, 0.5]))
        >>> [(group.value, group.num, group.expected) for group in facet.groups]
        [('B', 2, 1.5), ('A', 1, 0.0)]
    """
    nums = np.bincount(codes, minlength=len(values))
    sums = _sums(codes, wrong, len(values))
    return summed_group_facet(column, values, nums, sums, is_inspectors=is_inspectors)


def summed_group_facet(
    column: str, values: Sequence[str | None], nums: IntegerArray, sums: FloatArray, *, is_inspectors: bool = False
) -> Facet | None:
    """Return what `group_facet` returns, from sums over the labels of each group.

    Args:
        column: Name of the column.
        values: The G values, None for missing.
        nums: Labels of each, shape (G,).
        sums: Expected number of wrong ones among them, shape (G,).
        is_inspectors: Whether the groups are people.

    Returns:
        The facet, or None unless there are 2 to 40 groups with labels.
    """
    groups = _groups(values, nums, sums)
    if not 2 <= len(groups) <= MAX_GROUPS:
        return None
    groups.sort(key=lambda group: (-group.share, str(group.value)))
    left_out = max(len(groups) - MAX_ROWS, 0)
    return Facet(column, tuple(groups[:MAX_ROWS]), left_out, _overall(nums, sums), None, is_inspectors)


def holds_names(type_: pa.DataType) -> bool:
    """Return whether a column of this type names groups by one readable value per sample.

    Args:
        type_: Type of an Arrow column.

    Returns:
        True for text, numbers, truth values, dates and times of day, also in a dictionary.

    Examples:
        >>> holds_names(pa.dictionary(pa.int8(), pa.string())), holds_names(pa.list_(pa.string())), holds_names(pa.binary())
        (True, False, False)
    """
    types = pa.types
    inner = type_.value_type if types.is_dictionary(type_) else type_
    return any(
        holds(inner)
        for holds in (
            types.is_string,
            types.is_large_string,
            types.is_integer,
            types.is_floating,
            types.is_decimal,
            types.is_boolean,
            types.is_date,
            types.is_time,
        )
    )


def moments(times: pa.ChunkedArray) -> TimeArray:
    """Return an Arrow column of times as an array, whatever their unit.

    Args:
        times: Timestamps or dates, length N.

    Returns:
        datetime64[s], UTC, shape (N,); NaT where a time is missing or outside the years 1900 to 2199.
    """
    # parts of a second are cut off; a time zone is left off, not applied: Arrow keeps UTC inside
    seconds = times.cast(pa.timestamp("s", tz=getattr(times.type, "tz", None)), safe=False).cast(pa.timestamp("s"))
    known = seconds.to_numpy().astype("datetime64[s]")
    return np.where((known >= FIRST) & (known < LAST), known, np.datetime64("NaT", "s"))


def time_facet(column: str, times: TimeArray, wrong: FloatArray) -> Facet | None:
    """Return the shares of wrong labels per hour, day, week, month or year, whichever gives at most 36 periods.

    Args:
        column: Name of the column.
        times: When each label's image was taken, shape (N,), NaT where not known; left out then.
        wrong: Chance that the label is wrong, shape (N,), in [0, 1].

    Returns:
        The facet with periods in order, or None unless there are at least 2 periods.
    """
    known = ~np.isnat(times)
    hours, codes = np.unique(times[known].astype("datetime64[h]"), return_inverse=True)
    return summed_time_facet(column, hours, np.bincount(codes), _sums(codes, wrong[known], len(hours)))


def summed_time_facet(column: str, hours: TimeArray, nums: IntegerArray, sums: FloatArray) -> Facet | None:
    """Return what `time_facet` returns, from sums over the labels of each hour.

    Args:
        column: Name of the column.
        hours: Hours that have labels, rising, datetime64[h], shape (T,).
        nums: Labels of each, shape (T,).
        sums: Expected number of wrong ones among them, shape (T,).

    Returns:
        The facet with periods in order, or None unless there are at least 2 periods.
    """
    if not len(hours):
        return None
    for unit in _UNITS:
        starts, codes = np.unique(_periods(hours, unit), return_inverse=True)
        places = (starts - starts[0]).astype(np.int64) // (7 if unit == "W" else 1)
        if places[-1] < MAX_PERIODS:
            break
    if not 1 <= places[-1] < MAX_PERIODS:
        return None
    names = [_period_name(start, unit) for start in starts]
    period_nums = _sums(codes, nums, len(names)).astype(np.int64)
    groups = _groups(names, period_nums, _sums(codes, sums, len(names)))
    return Facet(column, tuple(groups), 0, _overall(nums, sums), unit, places=tuple(places.tolist()))


def _sums(codes: IntegerArray, weights: IntegerArray | FloatArray, size: int) -> npt.NDArray[np.float64]:
    """Sum of the weights of each code."""
    return np.asarray(np.bincount(codes, weights=weights, minlength=size), dtype=np.float64)


def _groups(values: Sequence[str | None], nums: IntegerArray, sums: FloatArray) -> list[Group]:
    """Every group that has labels, in the order of the values."""
    overall = _overall(nums, sums)
    num_groups = int((nums > 0).sum())
    z_mark = NormalDist().inv_cdf(1 - 0.025 / max(num_groups, 1))
    groups = []
    for value, num, expected in zip(values, nums.tolist(), sums.tolist(), strict=True):
        if num:
            low, high = wilson_interval(expected, num, z_mark)
            stands_out = 1 if low > overall else -1 if high < overall else 0
            groups.append(Group(value, num, expected, *wilson_interval(expected, num), stands_out))
    return groups


def _overall(nums: IntegerArray, sums: FloatArray) -> float:
    """Expected share of wrong labels over all groups."""
    return float(sums.sum() / max(int(nums.sum()), 1))


def _periods(times: TimeArray, unit: str) -> TimeArray:
    """Start of each time's period; weeks start on Monday."""
    if unit != "W":
        return times.astype(f"datetime64[{unit}]")
    days = times.astype("datetime64[D]")
    return np.asarray(days - (days.astype(np.int64) + 3) % 7)


def _period_name(start: np.datetime64, unit: str) -> str:
    return f"{str(start).replace('T', ' ')}:00" if unit == "h" else str(start)
