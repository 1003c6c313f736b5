"""What a run promises to those who take its predicted labels over without a look, and what looking at more would tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from labelclean.noise.scores import RandomLooks

RANDOM_LOOKS = 30

Interval = tuple[float, float]


@dataclass(frozen=True)
class Promise:
    """What taking over every predicted label of a run without a look brings.

    Attributes:
        points: Expected gain: of 100 labels, so many more are right.
        low: Lower end of its 95 % interval; below 0 labels may get worse.
        high: Upper end.
        is_safe: Nothing would be changed, or the whole interval lies above 0.
        num_changed: Labels that would be changed.
        num_looks: Samples drawn at random and looked at that the run knows, those of earlier nights while they count for
            half at least.
        num_wanted: Samples to look at before labels are taken over where that is not safe.
        low_after: Lower end once 30 more samples drawn at random have borne out what the run believes now.
        high_after: Upper end then.
        num_queued: Samples drawn at random that stand in the run's queue, or would in that of a trial.
    """

    points: float
    low: float
    high: float
    is_safe: bool
    num_changed: int
    num_looks: int
    num_wanted: int
    low_after: float
    high_after: float
    num_queued: int = 0

    @property
    def kind(self) -> Literal["nothing", "safe", "unseen", "seen"]:
        """What to say: nothing would be changed; safe; not before people have looked; not sure though they have."""
        if not self.num_changed:
            return "nothing"
        if self.is_safe:
            return "safe"
        return "unseen" if self.num_missing else "seen"

    @property
    def num_missing(self) -> int:
        """Looks that are still wanted."""
        return max(self.num_wanted - self.num_looks, 0)


def promise_of(summary: Mapping[str, Any]) -> Promise | None:
    """Return what a run promises.

    Args:
        summary: `summary.json`, or `poc.json` of a trial.

    Returns:
        The promise; None where the run judged no labels, or an older labelclean made it.
    """
    gain = summary.get("gain")
    if not gain:
        return None
    known = {field.name: gain[field.name] for field in fields(Promise) if field.name in gain}
    queued = ((summary.get("queue") or {}).get("by_source") or {}).get("random_audit", 0)
    return Promise(**({"num_queued": queued} | known))


def in_points(value: float, *, is_signed: bool = False) -> str:
    """Return points as people read them: one decimal, two below a tenth.

    Examples:
        >>> in_points(7.46), in_points(0.042), in_points(1.5, is_signed=True), in_points(-0.7, is_signed=True)
        ('7.5', '0.04', '+1.5', '-0.7')
        >>> in_points(0.001, is_signed=True)
        '0'
    """
    if round(value, 2) == 0:
        return "0"
    sign = "+" if is_signed else ""
    return f"{value:{sign}.1f}" if abs(value) >= 0.095 else f"{value:{sign}.2f}"


def looks_wanted(audit_samples: int) -> int:
    """Return how many random looks decide whether labels are taken over: the audit's size, 30 where there is none.

    Examples:
        >>> looks_wanted(50), looks_wanted(0)
        (50, 30)
    """
    return audit_samples or RANDOM_LOOKS


@dataclass(frozen=True)
class WrongShare:
    """Between which shares the wrong labels lie, and how that would change with more looks.

    Attributes:
        low: Lower end now.
        high: Upper end now.
        num_more: How many more samples, drawn at random, would be looked at.
        low_after: Lower end that is to be expected then.
        high_after: Upper end.
    """

    low: float
    high: float
    num_more: int
    low_after: float
    high_after: float

    @property
    def narrows(self) -> bool:
        """Whether more looks would make the interval narrower by more than a tenth of a percent."""
        return self.high_after - self.low_after < self.high - self.low - 1e-3


def wrong_share(expected: float, interval: Interval, audit: RandomLooks, num_more: int) -> WrongShare:
    """Return what is known of the share of wrong labels, and what more random looks would tell.

    The interval of the readings is cut down to what the looks allow (Jeffreys' interval); if both have nothing in
    common, the looks are right. More looks are reckoned to find the share that is expected now, or that of the looks where
    these exclude it.

    Args:
        expected: Expected share of wrong labels, 0..1.
        interval: What the readings allow, 0..1.
        audit: Samples that were drawn at random and looked at.
        num_more: How many more would be.

    Returns:
        Both intervals; the second is never wider than the first.

    Examples:
        >>> wrong_share(0.1, (0.0, 0.6), RandomLooks(), 30).high_after < 0.25
        True
        >>> wrong_share(0.1, (0.08, 0.12), RandomLooks(), 30).high_after
        0.12
    """
    low, high = _cut(interval, audit.interval())
    is_excluded = audit.num_samples > 0 and not low <= expected <= high
    share = audit.num_wrong / audit.num_samples if is_excluded else min(max(expected, low), high)
    later = RandomLooks(audit.num_samples + num_more, audit.num_wrong + num_more * share)
    return WrongShare(low, high, num_more, *_cut((low, high), later.interval()))


def _cut(first: Interval, second: Interval) -> Interval:
    """What both allow, or the second where they have nothing in common."""
    low, high = max(first[0], second[0]), min(first[1], second[1])
    return (low, high) if low <= high else second


def looks_sentence(wrong: WrongShare, promise: Promise | None) -> str:
    """Return what more random looks would bring.

    Args:
        wrong: The share of wrong labels now and then.
        promise: What applying brings now and then; None where that is not known.

    Returns:
        One sentence.
    """
    text = f"between {wrong.low:.1%} and {wrong.high:.1%} of what is unsettled is wrong; {wrong.num_more:,} more random looks would "
    text += (
        f"narrow that to about {wrong.low_after:.1%} to {wrong.high_after:.1%}"
        if wrong.narrows
        else "leave that as it is"
    )
    if promise is None or promise.kind == "nothing":
        return f"{text}."
    ends = (promise.low, promise.high, promise.low_after, promise.high_after)
    low, high, low_after, high_after = (in_points(end, is_signed=True) for end in ends)
    joint = ", and" if wrong.narrows else ", but narrow"
    return (
        f"{text}{joint} what applying brings from {low} to {high} points to about {low_after} to {high_after}, if they bear "
        "out what the run believes."
    )
