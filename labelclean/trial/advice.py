"""From a trial's measurements to its risks and to one recommendation: go, go with limits, or no, with reasons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import sqrt
from typing import Any, Literal

from labelclean.config import REFINEMENTS
from labelclean.runs.gates import Finding
from labelclean.trial.trial import Compared, CurvePoint

STEEP_GAIN = 0.05
MOST_LOST_SHARE = 0.25
LEAST_FOUND_SHARE = 0.1
FEW_SAMPLES = 30
MOST_REJECTS = 0.05
LARGE_IMBALANCE = 20.0
CONCENTRATED_SHARE = 0.5
LEAST_ERRORS = 5.0
ONE_SIDED = 1.645


@dataclass(frozen=True)
class Reason:
    """Something that speaks for or against.

    Attributes:
        code: Which text says it.
        weight: `no` stops, `limit` limits, `good` speaks for it.
        facts: Names and numbers of the text.
    """

    code: str
    weight: Literal["no", "limit", "good"]
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ClassTrial:
    """One class in a trial.

    Attributes:
        name: Class name.
        num_full: Labels of the class in the whole data set.
        num_trial: Of them in the trial.
        lost: Trial samples that would leave it.
        gained: Trial samples that would join it.
        expected_errors: Expected wrong labels among those in the trial.
        confuser: Class that most of its errors go to.
        confuser_share: Share of its errors that go there, in [0, 1].
    """

    name: str
    num_full: int
    num_trial: int
    lost: int
    gained: int
    expected_errors: float
    confuser: str
    confuser_share: float

    @property
    def least_confuser_share(self) -> float:
        """Lower end of a one-sided 95 % interval of the confuser's share; a few errors prove nothing."""
        share = self.confuser_share
        return share - ONE_SIDED * sqrt(share * (1.0 - share) / max(self.expected_errors, 1.0))

    @property
    def net_lost_share(self) -> float:
        """Share of its trial samples that it would lose on balance; below 0 it would grow."""
        return (self.lost - self.gained) / max(self.num_trial, 1)


def risks(
    classes: Sequence[ClassTrial],
    curve: Sequence[CurvePoint],
    compared: Sequence[Compared],
    findings: Sequence[Finding],
    *,
    reject_share: float,
    found_share: float,
) -> tuple[Reason, ...]:
    """Return what may go wrong with the whole data set, worst first.

    Args:
        classes: The classes.
        curve: The learning curve.
        compared: The refinements.
        findings: What the gates found.
        reject_share: Share of images that could not be used.
        found_share: Share of the suspects that are expected to be wrong.

    Returns:
        The risks; none for an easy data set.
    """
    sentences = [
        Reason(f"gate_{finding.check}", "no", {"value": finding.value, "limit": finding.limit})
        for finding in findings
        if finding.outcome == "refuse" and set(REFINEMENTS) <= set(finding.forbids)
    ]
    if found_share < LEAST_FOUND_SHARE:
        sentences.append(Reason("few_finds", "no", {"share": found_share}))
    if reject_share > MOST_REJECTS:
        sentences.append(Reason("rejects", "limit", {"share": reject_share}))
    rare = [one for one in classes if one.num_trial < FEW_SAMPLES]
    if rare:
        sentences.append(
            Reason("rare", "limit", {"names": [one.name for one in rare], "counts": [one.num_trial for one in rare]})
        )
    sizes = [one.num_full for one in classes if one.num_full]
    if sizes and max(sizes) > LARGE_IMBALANCE * min(sizes):
        sentences.append(Reason("imbalance", "limit", {"times": max(sizes) / min(sizes)}))
    judged = [one for one in classes if one.num_trial >= FEW_SAMPLES]
    sentences += [
        Reason(
            "drained", "limit", {"name": one.name, "share": one.net_lost_share, "lost": one.lost, "gained": one.gained}
        )
        for one in sorted(judged, key=lambda one: -one.net_lost_share)
        if one.net_lost_share > MOST_LOST_SHARE
    ]
    sentences += [
        Reason("concentrated", "limit", {"name": one.name, "other": one.confuser, "share": one.confuser_share})
        for one in sorted(judged, key=lambda one: -one.confuser_share)
        if one.least_confuser_share > CONCENTRATED_SHARE and one.expected_errors >= LEAST_ERRORS
    ][:3]
    if len(curve) > 1 and curve[-1].gain - curve[-2].gain > STEEP_GAIN:
        sentences.append(
            Reason("still_rising", "limit", {"gain": curve[-1].gain - curve[-2].gain, "num": curve[-1].num_samples})
        )
    return tuple(sentences)


def recommend(
    told: Sequence[Reason], compared: Sequence[Compared], *, expected_errors: float, found_errors: float
) -> tuple[Literal["go", "limits", "no"], tuple[Reason, ...]]:
    """Return one recommendation and its reasons.

    Args:
        told: The risks.
        compared: The refinements, best first.
        expected_errors: Label errors expected in the whole data set.
        found_errors: Those that the review would find.

    Returns:
        `no` where a risk stops it, `limits` where a risk limits it, else `go`; reasons, the deciding first.

    Examples:
        >>> recommend([Reason("rare", "limit")], [], expected_errors=100.0, found_errors=90.0)[0]
        'limits'
    """
    good = [Reason("finds", "good", {"found": found_errors, "expected": expected_errors})]
    better = [row for row in compared if row.is_allowed and row.gain > 2 * row.error and row.method != "none"]
    if better:
        good.append(Reason("refinement", "good", {"method": better[0].method, "gain": better[0].gain}))
    stops = [reason for reason in told if reason.weight == "no"]
    limits = [reason for reason in told if reason.weight == "limit"]
    if stops:
        return "no", (*stops, *limits)
    return ("limits" if limits else "go"), (*good, *limits)
