"""Turns what was measured into verdicts: which refinements are safe on this data, and why, in one sentence each.

Gates measure nothing themselves and stop nothing themselves: the steps act on
the verdict.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from labelclean.cleaning.chance import alone_sentence, copies_sentence
from labelclean.config import (
    METHODS,
    REFINEMENTS,
    DistributionGateConfig,
    Outcome,
    ShortcutsGateConfig,
    Top2GateConfig,
)
from labelclean.errors import listed
from labelclean.noise.distribution import ClassMoves, DistributionReport
from labelclean.review.leaks import Leaks, leaving
from labelclean.storage.spellings import alike, alike_words, joining

AVERAGING = ("two_hot", "multi_round")


@dataclass(frozen=True)
class Finding:
    """One measured value against its limit.

    Attributes:
        check: What was measured, a short name.
        outcome: `pass`, `warn`, or `refuse` (some refinement is not safe).
        value: The measured value, or None where there is nothing to measure.
        limit: The limit it was held against.
        config_key: Where the limit stands in the config.
        sentence: The finding for people.
        forbids: Refinements that it rules out.
        facts: What the sentence names beside value and limit, for those who write it in another
            language; `case` tells its forms apart.
    """

    check: str
    outcome: Outcome
    value: float | None
    limit: float | None
    config_key: str | None
    sentence: str
    forbids: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """What a gate, or all gates together, say.

    Attributes:
        findings: All findings.
    """

    findings: tuple[Finding, ...]

    @property
    def outcome(self) -> Outcome:
        """The worst outcome among the findings."""
        outcomes = {finding.outcome for finding in self.findings}
        return "refuse" if "refuse" in outcomes else "warn" if "warn" in outcomes else "pass"

    @property
    def allowed(self) -> tuple[str, ...]:
        """Refinements that no finding rules out; `none` is always among them."""
        forbidden = {method for finding in self.findings for method in finding.forbids}
        return tuple(method for method in METHODS if method not in forbidden)

    def why_not(self, method: str) -> tuple[Finding, ...]:
        """Return the findings that rule a refinement out."""
        return tuple(finding for finding in self.findings if method in finding.forbids)


def alike_names(
    votes: npt.NDArray[np.floating], class_names: Sequence[str], spellings: Mapping[str, str]
) -> list[Finding]:
    """Return a refusal where two names that occur look alike: labels would move from one spelling to the other.

    Args:
        votes: Labels of each class, shape (K,).
        class_names: The K names.
        spellings: `data.spellings`; names that it holds may look alike.

    Returns:
        One finding, or none.
    """
    counts = {name: round(float(num)) for name, num in zip(class_names, votes, strict=True) if num > 0}
    sets = alike(counts, spellings)
    if not sets:
        return []
    pairs = "; ".join(alike_words(names, counts) for names in sets[:5]) + ("; ..." if len(sets) > 5 else "")
    facts = {"pairs": pairs, "key": joining(sets[0], counts)}
    sentence = (
        f"class names look alike and would count as different classes: {pairs}. Join them in the config, such as "
        f"{facts['key']}, or name each as itself there if both are meant."
    )
    return [Finding("alike_names", "refuse", float(len(sets)), 0.0, "data.spellings", sentence, REFINEMENTS, facts)]


def judge_distribution(
    report: DistributionReport,
    class_names: Sequence[str],
    limits: DistributionGateConfig,
    spellings: Mapping[str, str] | None = None,
    least_classes: int = 2,
) -> Verdict:
    """Return the verdict of the class distribution check (methods section 4).

    Args:
        report: Measured counts and shares of K classes.
        class_names: The K names.
        limits: Section `gates.class_distribution`.
        spellings: `data.spellings`; names that it holds may look alike.
        least_classes: How many must have samples: one is enough where an image may have several labels, or none.

    Returns:
        Findings on names that look alike, missing, tiny and rare classes, imbalance and shift.
    """
    present = report.counts > 0
    findings = [] if least_classes < 2 else [_classes_present(present)]
    findings += alike_names(report.counts, class_names, spellings or {})
    findings += _missing_classes(present, class_names) + _small_classes(report.counts, class_names, limits)
    key, what = "gates.class_distribution.", "the largest class over the smallest"
    findings.append(
        _at_most("imbalance", report.imbalance, limits.max_imbalance, f"{key}max_imbalance", what, AVERAGING)
    )
    if report.psi is not None:
        what = "the shift of the class shares against the reference (PSI)"
        findings.append(_at_most("share_shift", report.psi, limits.max_psi, f"{key}max_psi", what, REFINEMENTS))
    return Verdict(tuple(findings))


def _classes_present(present: npt.NDArray[np.bool_]) -> Finding:
    """How many classes have samples; of a single class images are ranked."""
    number, total = int(present.sum()), len(present)
    what = f"{number} of {total} classes have samples"
    return _at_least("classes_present", float(number), float(min(2, total)), None, what, REFINEMENTS, {"total": total})


def _missing_classes(present: npt.NDArray[np.bool_], class_names: Sequence[str]) -> list[Finding]:
    missing = [class_names[int(k)] for k in np.flatnonzero(~present)]
    if not missing:
        return []
    sentence = f"no sample is labelled {listed(missing)}."
    return [Finding("missing_classes", "warn", float(len(missing)), 0.0, None, sentence, facts={"names": missing})]


def _small_classes(
    counts: npt.NDArray[np.floating], class_names: Sequence[str], limits: DistributionGateConfig
) -> list[Finding]:
    """Classes that averaging would lose, and others with few samples."""
    key, findings = "gates.class_distribution.", []
    present = counts > 0
    tiny = present & (counts < limits.min_class_count)
    rare = present & ~tiny & (counts < limits.warn_class_count)
    smallest = float(counts[present].min()) if present.any() else 0.0
    if tiny.any():
        sentence = (
            f"{_counted(tiny, counts, class_names)} under {key}min_class_count = {limits.min_class_count}: "
            "averaging would pull them into larger classes."
        )
        facts, limit = _count_facts(tiny, counts, class_names), f"{key}min_class_count"
        findings.append(
            Finding("tiny_classes", "refuse", smallest, limits.min_class_count, limit, sentence, AVERAGING, facts)
        )
    if rare.any():
        sentence = f"{_counted(rare, counts, class_names)} under {key}warn_class_count = {limits.warn_class_count}."
        facts, limit = _count_facts(rare, counts, class_names), f"{key}warn_class_count"
        findings.append(
            Finding("rare_classes", "warn", smallest, limits.warn_class_count, limit, sentence, facts=facts)
        )
    return findings


@dataclass(frozen=True)
class TeacherMeasurements:
    """What the second gate looks at.

    Attributes:
        num_classes: K.
        mean_agreement: Mean top-2 agreement over refits, 0..1, or None without refits.
        unstable_share: Share of samples under `unstable_below`, or None.
        worst_classes: Classes with the lowest agreement, worst first.
        coverage: Share of given labels inside the teacher's pair, 0..1.
        likelihood_gain: Mean log-likelihood of the given labels over that of the class shares, nats.
        noise_matrix: C[k, j] = P(given j | true k), shape (K, K).
        estimated_noise: Estimated share of wrong labels, 0..1.
        exceeds_chance: The gain is more than shuffled labels reach.
    """

    num_classes: int
    mean_agreement: float | None
    unstable_share: float | None
    worst_classes: tuple[str, ...]
    coverage: float
    likelihood_gain: float
    noise_matrix: npt.NDArray[np.floating]
    estimated_noise: float
    exceeds_chance: bool = True


def judge_teacher(measured: TeacherMeasurements, class_names: Sequence[str], limits: Top2GateConfig) -> Verdict:
    """Return the verdict of the teacher top-2 stability check (methods sections 2 and 4).

    Args:
        measured: What was measured on the out-of-fold teacher.
        class_names: The K names.
        limits: Section `gates.top2`.

    Returns:
        Findings on the teacher's skill, two classes, stability, coverage, concentrated confusion and noise.
    """
    key = "gates.top2."
    findings = [_judge_skill(measured)]
    if measured.num_classes == 2:
        sentence = "with two classes both always stand in the top-2 pair, so a two-hot label says nothing."
        findings.append(Finding("two_classes", "refuse", 2.0, 3.0, None, sentence, ("two_hot",)))
    if measured.mean_agreement is not None and measured.unstable_share is not None:
        worst = f"the teacher's top-2 agreement over refits (worst: {listed(measured.worst_classes, 3)})"
        findings += [
            _at_least(
                "top2_agreement",
                measured.mean_agreement,
                limits.min_agreement,
                f"{key}min_agreement",
                worst,
                ("two_hot",),
                {"names": list(measured.worst_classes[:3])},
            ),
            _at_most(
                "unstable_share",
                measured.unstable_share,
                limits.max_unstable_share,
                f"{key}max_unstable_share",
                f"the share of samples with an agreement under {limits.unstable_below:g}",
                ("two_hot",),
                {"below": limits.unstable_below},
            ),
        ]
    what = "the share of given labels inside the teacher's pair"
    findings.append(
        _at_least("top2_coverage", measured.coverage, limits.min_coverage, f"{key}min_coverage", what, ("two_hot",))
    )
    findings.append(_judge_confusion(measured.noise_matrix, class_names, limits))
    findings.append(
        _at_most(
            "estimated_noise",
            measured.estimated_noise,
            limits.max_noise,
            f"{key}max_noise",
            "the estimated share of wrong labels",
            REFINEMENTS,
        )
    )
    return Verdict(tuple(findings))


def _judge_skill(measured: TeacherMeasurements) -> Finding:
    """Whether the teacher tells more of labels than their shares do."""
    what = "the teacher's gain over the class shares, in nats per given label"
    if measured.exceeds_chance or measured.likelihood_gain <= 0:
        return _at_least("teacher_skill", measured.likelihood_gain, 0.0, None, what, REFINEMENTS)
    sentence = f"{what}: {measured.likelihood_gain:.3g}, no more than shuffled labels reach."
    return Finding(
        "teacher_skill", "refuse", measured.likelihood_gain, 0.0, None, sentence, REFINEMENTS, {"case": "chance"}
    )


def judge_groups(
    classes: npt.NDArray[np.int64], is_copy: npt.NDArray[np.bool_], class_names: Sequence[str]
) -> tuple[Finding, ...]:
    """Return the findings on samples that nothing outside their own group can speak for or against.

    Args:
        classes: Classes of which every sample lies in one group, int64.
        is_copy: Copies of one image with different labels, more than can be compared, bool, shape (N,).
        class_names: The K names.

    Returns:
        A finding for each kind that there is.
    """
    findings = []
    if len(classes):
        names = [class_names[k] for k in classes.tolist()]
        sentence = alone_sentence(names)
        findings.append(Finding("one_group", "warn", float(len(names)), 0.0, None, sentence, facts={"names": names}))
    if is_copy.any():
        sentence = copies_sentence(int(is_copy.sum()))
        findings.append(Finding("copies", "warn", float(is_copy.sum()), 0.0, None, sentence))
    return tuple(findings)


def judge_leaks(leaks: Leaks) -> Finding:
    """Return the finding on near-copies and pictures of one part that stand in more than one split.

    Args:
        leaks: What leaks.

    Returns:
        The finding; it rules nothing out, for labels can be cleaned across splits.
    """
    num, sets = leaks.num_samples, leaks.num_sets
    if not num:
        sentence = "no near-copy and no part stands in more than one split."
        return Finding("split_leaks", "pass", 0.0, 0.0, None, sentence, facts={"case": "none"})
    num_left = int(leaving(leaks.sets, leaks.splits).sum())
    sentence = (
        f"{num:,} samples in {sets:,} {'set' if sets == 1 else 'sets'} of near-copies or pictures of one part stand in more "
        f"than one split, so tests on them say too much; labelclean apply --without-leaks leaves out {num_left:,} of them."
    )
    return Finding("split_leaks", "warn", float(num), 0.0, None, sentence, facts={"total": sets, "lost": num_left})


def judge_shortcuts(measured: Sequence[Mapping[str, Any]], limits: ShortcutsGateConfig) -> Finding:
    """Return the finding on columns and properties of pictures that tell the label.

    Args:
        measured: What each tells (`shortcut_record`).
        limits: Section `gates.shortcuts`.

    Returns:
        The finding; it rules nothing out, for what tells the label may do so rightly.
    """
    telling = [one for one in measured if one["exceeds_chance"]]
    most = max((one["share"] for one in telling), default=0.0)
    names = [one["name"] for one in telling if one["share"] > limits.max_share]
    facts: dict[str, Any] = {"names": names} if names else {"case": "none"}
    key = "gates.shortcuts.max_share"
    outcome: Outcome = "warn" if names else "pass"
    tells = (
        f"the label can be foretold from {listed(names)}, whatever the picture shows"
        if names
        else "no column and no property of the pictures tells much of the label"
    )
    sentence = f"{tells}: up to {most:.1%} of what there is to tell ({key} = {limits.max_share:g})."
    return Finding("shortcuts", outcome, most, limits.max_share, key, sentence, facts=facts)


def judge_moves(
    moves: ClassMoves, counts: npt.NDArray[np.floating], class_names: Sequence[str], max_lost_share: float
) -> Finding:
    """Return the finding on classes that refining would drain.

    Args:
        moves: Samples that each class would lose and gain.
        counts: Given labels per class, shape (K,).
        class_names: The K names.
        max_lost_share: `gates.class_distribution.max_lost_share`.

    Returns:
        `warn` when a class would lose more than that share on balance.
    """
    net_lost = (moves.lost - moves.gained) / np.maximum(counts, 1)
    worst = int(np.argmax(net_lost))
    sentence = f"{class_names[worst]!r} would lose {moves.lost[worst]:,} and gain {moves.gained[worst]:,} of its {counts[worst]:,.0f} samples"
    drained = net_lost > max_lost_share
    key = "gates.class_distribution.max_lost_share"
    facts = {
        "names": [class_names[worst]],
        "lost": int(moves.lost[worst]),
        "gained": int(moves.gained[worst]),
        "total": round(float(counts[worst])),
    }
    if not drained.any():
        return Finding(
            "drained_classes",
            "pass",
            float(net_lost[worst]),
            max_lost_share,
            key,
            f"{sentence}, the most of all classes.",
            facts=facts,
        )
    return Finding(
        "drained_classes",
        "warn",
        float(net_lost[worst]),
        max_lost_share,
        key,
        f"{sentence}, more than {key} = {max_lost_share:g}; look at its suspects before you use the predicted labels.",
        facts=facts,
    )


def _judge_confusion(
    noise_matrix: npt.NDArray[np.floating], class_names: Sequence[str], limits: Top2GateConfig
) -> Finding:
    """Whether the errors of a class go to one other class: then that class and its confuser tie under two-hot."""
    diagonal = np.diag(noise_matrix)
    others = noise_matrix - np.diag(diagonal)
    confuser = others.argmax(axis=1)
    worst_confusion = others.max(axis=1)
    concentration = diagonal + worst_confusion
    confuser_share = np.divide(worst_confusion, 1 - diagonal, out=np.zeros_like(diagonal), where=diagonal < 1)
    key = "gates.top2.max_concentration"
    if (1 - diagonal).max() < 0.02:
        sentence = f"at most {(1 - diagonal).max():.1%} of any class are labelled wrong: two-hot labels are not needed."
        return Finding(
            "confusion",
            "warn",
            float(concentration.max()),
            limits.max_concentration,
            key,
            sentence,
            ("two_hot",),
            {"case": "not_needed", "share": float((1 - diagonal).max())},
        )
    unsafe = (concentration > limits.max_concentration) & (confuser_share > limits.max_confuser_share)
    if not unsafe.any():
        sentence = "the errors of each class are spread over several other classes."
        return Finding(
            "confusion",
            "pass",
            float(concentration.max()),
            limits.max_concentration,
            key,
            sentence,
            facts={"case": "spread"},
        )
    k = int(np.argmax(np.where(unsafe, 1 - diagonal, -1)))
    sentence = (
        f"{confuser_share[k]:.0%} of the errors of {class_names[k]!r} go to {class_names[int(confuser[k])]!r}, "
        f"more than gates.top2.max_confuser_share = {limits.max_confuser_share:g}: under two-hot labels the two would tie."
    )
    return Finding(
        "confusion",
        "refuse",
        float(concentration[k]),
        limits.max_concentration,
        key,
        sentence,
        ("two_hot",),
        {
            "case": "concentrated",
            "share": float(confuser_share[k]),
            "names": [class_names[k], class_names[int(confuser[k])]],
        },
    )


def _at_least(
    check: str,
    value: float,
    limit: float,
    key: str | None,
    what: str,
    forbids: tuple[str, ...],
    facts: Mapping[str, Any] | None = None,
) -> Finding:
    return _compared(check, value, limit, key, what, forbids, facts, held=value >= limit, words=("at least", "below"))


def _at_most(
    check: str,
    value: float,
    limit: float,
    key: str | None,
    what: str,
    forbids: tuple[str, ...],
    facts: Mapping[str, Any] | None = None,
) -> Finding:
    return _compared(check, value, limit, key, what, forbids, facts, held=value <= limit, words=("at most", "above"))


def _compared(
    check: str,
    value: float,
    limit: float,
    key: str | None,
    what: str,
    forbids: tuple[str, ...],
    facts: Mapping[str, Any] | None,
    *,
    held: bool,
    words: tuple[str, str],
) -> Finding:
    """A finding on one number and its limit."""
    bound = f"{key} = {limit:g}" if key else f"{limit:g}"
    if held:
        return Finding(
            check, "pass", value, limit, key, f"{what}: {value:.3g} ({words[0]} {bound}).", facts=facts or {}
        )
    return Finding(
        check, "refuse", value, limit, key, f"{what}: {value:.3g}, {words[1]} {bound}.", forbids, facts or {}
    )


def _count_facts(
    mask: npt.NDArray[np.bool_], counts: npt.NDArray[np.floating], class_names: Sequence[str]
) -> dict[str, Any]:
    """Names and counts of the classes in a mask, fewest first."""
    rows = sorted(np.flatnonzero(mask).tolist(), key=lambda k: counts[k])
    return {
        "names": [class_names[k] for k in rows[:5]],
        "counts": [round(float(counts[k])) for k in rows[:5]],
        "total": len(rows),
    }


def _counted(mask: npt.NDArray[np.bool_], counts: npt.NDArray[np.floating], class_names: Sequence[str]) -> str:
    """Names and counts of the classes in a mask, fewest first."""
    rows = sorted(np.flatnonzero(mask), key=lambda k: counts[k])
    shown = ", ".join(f"{class_names[int(k)]!r} ({counts[k]:.0f})" for k in rows[:5])
    more = f" and {len(rows) - 5} more" if len(rows) > 5 else ""
    return f"{shown}{more} {'has' if len(rows) == 1 else 'have'} few samples,"
