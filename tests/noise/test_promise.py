"""What applying labels promises, and what more random looks would tell; the quantiles are SciPy's."""

from __future__ import annotations

from typing import Any

import pytest
from scipy.stats import beta

from labelclean.noise.promise import RANDOM_LOOKS, Promise, looks_wanted, promise_of, wrong_share
from labelclean.noise.scores import RandomLooks

GAIN = {
    "points": 3.7, "low": -5.4, "high": 9.5, "low_after": -0.3, "high_after": 7.1,
    "is_safe": False, "num_changed": 66, "num_looks": 0, "num_wanted": 30,
}  # fmt: skip


def promise(**changes: Any) -> Promise:
    found = promise_of({"gain": GAIN | changes, "queue": {"by_source": {"ranked": 76, "random_audit": 30}}})
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({}, "unseen"),
        ({"num_looks": 29}, "unseen"),
        ({"num_looks": 30}, "seen"),
        ({"is_safe": True}, "safe"),
        ({"is_safe": True, "num_changed": 0}, "nothing"),
    ],
)
def test_a_gain_that_may_be_harm_waits_for_looks_and_is_told_as_such_after_them(
    changes: dict[str, Any], kind: str
) -> None:
    assert promise(**changes).kind == kind


def test_what_is_missing_and_what_the_queue_holds_is_read_from_the_summary() -> None:
    assert (promise(num_looks=12).num_missing, promise(num_looks=40).num_missing) == (18, 0)
    assert promise().num_queued == 30


def test_a_run_that_judged_nothing_or_is_older_promises_nothing() -> None:
    assert promise_of({"gain": None}) is None
    assert promise_of({"label_issues": {"num": 3}}) is None


def test_without_an_audit_thirty_looks_are_wanted_all_the_same() -> None:
    assert (looks_wanted(0), looks_wanted(12)) == (RANDOM_LOOKS, 12)


def test_where_the_readings_say_nothing_the_interval_is_that_of_the_looks() -> None:
    found = wrong_share(0.1, (0.0, 1.0), RandomLooks(), 30)
    jeffreys = beta(3.5, 27.5)  # 3 of 30 are to be expected
    assert (found.low, found.high) == (0.0, 1.0)
    assert (found.low_after, found.high_after) == pytest.approx((jeffreys.ppf(0.025), jeffreys.ppf(0.975)))
    assert found.narrows


def test_looks_that_are_there_cut_the_interval_of_the_readings() -> None:
    found = wrong_share(0.1, (0.05, 0.9), RandomLooks(30, 3), 0)
    assert (found.low, found.high) == pytest.approx((0.05, beta(3.5, 27.5).ppf(0.975)))


def test_looks_that_contradict_the_readings_are_believed() -> None:
    found = wrong_share(0.01, (0.0, 0.02), RandomLooks(30, 15), 30)
    assert (found.low, found.high) == pytest.approx(tuple(beta(15.5, 15.5).ppf([0.025, 0.975])))
    assert found.low < found.low_after < 0.5


def test_more_looks_never_make_the_interval_wider_and_a_narrow_one_stays() -> None:
    for share in (0.0, 0.03, 0.2, 0.97):
        for low, high in ((0.0, 1.0), (0.02, 0.3), (0.9, 1.0)):
            found = wrong_share(share, (low, high), RandomLooks(), 30)
            assert found.low <= found.low_after <= found.high_after <= found.high
    assert not wrong_share(0.1, (0.09, 0.11), RandomLooks(), 30).narrows
