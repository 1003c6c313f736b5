"""From what annotators' files say to decisions: matched by the manifest only, never by order."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from labelclean.errors import ExchangeError, listed
from labelclean.review.decisions import DECISION_KINDS, Decision, DecisionKind
from labelclean.review.exchange.manifest import ExportItem, ExportManifest, run_of_key
from labelclean.storage.label_sets import names_in_text, set_text

MARKS: tuple[DecisionKind, ...] = ("unsure", "bad_image", "none_of_these", "skipped")
"""Answers without a class; where an annotator gave several, the first of these counts."""
_UNDATED = "undated"
SEVERAL = "several_labels"
"""What the settings of an export hold where an image may have several labels."""


@dataclass(frozen=True)
class Answer:
    """What one annotator said about one task, in the file's own words.

    Attributes:
        key: The task.
        annotator_id: Who said it.
        reviewed_at: When; None where the tool keeps no time.
        labels: Classes chosen as right; one is meant, or all of them where ``is_set``.
        one_of: Classes one of which is right.
        not_class: Classes that are wrong.
        marks: `unsure`, `bad_image`, `none_of_these` or `skipped`.
        claim: `confirmed` or `corrected` where the annotator wrote so, else empty.
        sample_id: The sample that the file names beside the key, if it does.
        run_id: The run that the file names, if it does.
        dataset: The data set that the file names, if it does.
        shown_label: The given label that the file shows beside, empty for none, if it says.
        fault: Why the answer cannot be read, else empty.
        is_set: ``labels`` are all classes of an image that may have several; an empty set says that there is none.
    """

    key: str
    annotator_id: str
    reviewed_at: datetime | None = None
    labels: tuple[str, ...] = ()
    one_of: tuple[str, ...] = ()
    not_class: tuple[str, ...] = ()
    marks: frozenset[str] = frozenset()
    claim: str = ""
    sample_id: str | None = None
    run_id: str | None = None
    dataset: str | None = None
    shown_label: str | None = None
    fault: str = ""
    is_set: bool = False

    @property
    def is_empty(self) -> bool:
        """Nothing was answered."""
        answer = self.labels or self.one_of or self.not_class or self.marks or self.claim or self.fault
        return not (answer or self.is_set)


@dataclass(frozen=True)
class ImportReport:
    """What a file of answers brought.

    Attributes:
        tool: Where it came from.
        run_id: The run it answers.
        dataset: The data set of that run.
        num_tasks: Tasks of the export.
        num_matched: Tasks with at least one decision.
        num_decisions: Decisions read.
        num_unanswered: Tasks of the export without a decision.
        by_decision: Decisions of each kind.
        unmatched: Names in the file that are no task of the export, sorted.
        conflicting: Answers that contradict themselves or each other, as sentences.
        unknown_labels: Classes that the export does not have, sorted.
    """

    tool: str
    run_id: str
    dataset: str
    num_tasks: int
    num_matched: int
    num_decisions: int
    num_unanswered: int
    by_decision: dict[str, int]
    unmatched: tuple[str, ...]
    conflicting: tuple[str, ...]
    unknown_labels: tuple[str, ...]

    @property
    def is_clean(self) -> bool:
        """Everything in the file could be used."""
        return not (self.unmatched or self.conflicting or self.unknown_labels)


def worded_answer(key: str, word: str, labels: Sequence[str], annotator_id: str, given: str | None) -> Answer:
    """Return the answer in a row that names the decision in a word.

    Args:
        key: The task.
        word: A decision, or empty: the label speaks for itself.
        labels: The classes in the row.
        annotator_id: Who answered.
        given: The given label that the row showed, if it did.

    Returns:
        The answer.
    """
    word, chosen = word.strip().lower(), tuple(labels)
    if word in ("one_of", "not_class"):
        return Answer(key, annotator_id, **{word: chosen}, fault="" if chosen else f"{word!r} without a label")  # type: ignore[arg-type]
    if word in MARKS:
        return Answer(key, annotator_id, marks=frozenset({word}))
    if word == "confirmed" and not chosen and given:
        chosen = (given,)
    if word in ("confirmed", "corrected"):
        return Answer(key, annotator_id, labels=chosen, claim=word, fault="" if chosen else f"{word!r} without a label")
    fault = f"decision {word!r} is none of {listed(DECISION_KINDS, 8)}" if word else ""
    return Answer(key, annotator_id, labels=chosen, fault=fault)


def set_answer(answer: Answer, word: str, *, says_none: bool) -> Answer:
    """Return an answer whose labels are all that an image has.

    Args:
        answer: The labels and marks that the file holds.
        word: What says in the tool that an image has no label.
        says_none: It says so.

    Returns:
        The answer; one that says both has a fault, and one with a mark names no set.
    """
    if answer.fault:
        return answer
    if says_none and answer.labels:
        return replace(answer, fault=f"says {word} and {listed(answer.labels)} at once")
    return replace(answer, is_set=(says_none or bool(answer.labels)) and not answer.marks)


def decisions_from(
    answers: Iterable[Answer], manifest: ExportManifest, origin: Path, *, now: datetime, partial: bool
) -> tuple[ImportReport, tuple[Decision, ...]]:
    """Return the decisions that a file's answers mean.

    Args:
        answers: Everything that the file says.
        manifest: The export that it answers.
        origin: The file, for the error message.
        now: Time of the import, with time zone; the time of answers that have none.
        partial: Leave out what cannot be used instead of refusing the file.

    Returns:
        The report, and decisions in the order of the export, then by annotator and time.

    Raises:
        ExchangeError: If the file answers another run or data set; or, unless ``partial``, if
            anything in it cannot be used.
    """
    collected = list(answers)
    _check_origin(collected, manifest, origin)
    item_of = {item.key: item for item in manifest.items}
    unmatched = sorted({answer.key for answer in collected if answer.key not in item_of})
    known = set(manifest.class_names)
    unknown: set[str] = set()
    conflicting: dict[str, list[str]] = {}
    read: dict[str, set[Decision]] = {}
    for answer in collected:
        item = item_of.get(answer.key)
        if item is None:
            continue
        if answer.is_empty:
            if fault := _changed_beside(answer, item, manifest):
                conflicting.setdefault(item.key, []).append(f"{item.sample_id} by {answer.annotator_id}: {fault}")
            continue
        named = {*answer.labels, *answer.one_of, *answer.not_class}
        unknown |= named - known
        fault = "" if named - known else answer.fault or _contradiction(answer, item, manifest)
        if fault:
            conflicting.setdefault(item.key, []).append(f"{item.sample_id} by {answer.annotator_id}: {fault}")
        elif not named - known:
            decided = _set_decision if manifest.settings.get(SEVERAL) else _decision
            read.setdefault(item.key, set()).add(decided(answer, item, manifest, now))
    for key, decisions in read.items():
        conflicting.setdefault(key, []).extend(_double_answers(decisions))
    new_decisions = [
        decision
        for item in manifest.items
        if not conflicting.get(item.key)
        for decision in sorted(read.get(item.key, ()), key=lambda one: (one.annotator_id, one.reviewed_at))
    ]
    report = ImportReport(
        tool=manifest.tool,
        run_id=manifest.run_id,
        dataset=manifest.dataset,
        num_tasks=len(manifest.items),
        num_matched=len({decision.sample_id for decision in new_decisions}),
        num_decisions=len(new_decisions),
        num_unanswered=len(manifest.items) - len({decision.sample_id for decision in new_decisions}),
        by_decision=dict(sorted(Counter(decision.decision for decision in new_decisions).items())),
        unmatched=tuple(unmatched),
        conflicting=tuple(sorted({fault for faults in conflicting.values() for fault in faults})),
        unknown_labels=tuple(sorted(unknown)),
    )
    if not partial and not report.is_clean:
        raise ExchangeError(_letter(report, origin))
    return report, _with_file_digest(new_decisions)


def _check_origin(answers: Sequence[Answer], manifest: ExportManifest, origin: Path) -> None:
    """Refuse the answers to another run's or data set's questions."""
    runs = {answer.run_id or run_of_key(answer.key) for answer in answers} - {None, manifest.run_id}
    own = {run_of_key(item.key) for item in manifest.items}
    datasets = {answer.dataset for answer in answers} - {None, manifest.dataset}
    if runs - own or datasets:
        others = [f"run {run!r}" for run in sorted(filter(None, runs - own))]
        others += [f"data set {name!r}" for name in sorted(filter(None, datasets))]
        raise ExchangeError(
            f"{origin}: must answer run {manifest.run_id!r} of data set {manifest.dataset!r}, as the manifest says, "
            f"but answers {', '.join(others[:5])}. Import it with the manifest of that export; nothing was imported."
        )


def _changed_beside(answer: Answer, item: ExportItem, manifest: ExportManifest) -> str:
    """What an annotator wrote over the given label in place of an answer."""
    is_blind = item.inclusion_probability is not None or not manifest.settings.get("suggestions", True)
    exported = "" if is_blind else item.given_label
    if answer.shown_label in (None, "", exported):
        return ""
    return (
        f"the given label was exported as {exported!r} and is {answer.shown_label!r} now, but nothing says that this is an "
        "answer"
    )


def _contradiction(answer: Answer, item: ExportItem, manifest: ExportManifest) -> str:
    """What is wrong with an answer all of whose classes are known."""
    num_classes = len(manifest.class_names)
    if answer.sample_id not in (None, item.sample_id):
        return f"the task is named as that of sample {answer.sample_id!r}"
    if not answer.annotator_id.isprintable() or not 0 < len(answer.annotator_id) <= 200:
        return f"annotator {answer.annotator_id[:50]!r} must be 1 to 200 printable characters"
    if answer.marks:
        return ""  # a suggestion may still be ticked beside "unsure"
    if manifest.settings.get(SEVERAL):
        return _set_contradiction(answer, item, manifest)
    said = [name for name in ("labels", "one_of", "not_class") if getattr(answer, name)]
    if len(said) > 1:
        return f"gives {' and '.join(said)} at once"
    if len(set(answer.labels)) > 1:
        return f"chooses {len(set(answer.labels))} classes: {listed(sorted(set(answer.labels)))}"
    if answer.one_of and not 1 < len(set(answer.one_of)) < num_classes:
        return f"one_of must name 2 to {num_classes - 1} classes, but names {listed(sorted(set(answer.one_of)))}"
    if len(set(answer.not_class)) >= num_classes:
        return "rules out every class"
    if answer.claim and (answer.claim == "confirmed") != (answer.labels[0] == item.given_label):
        return f"is {answer.claim!r} with label {answer.labels[0]!r}, but the given label is {item.given_label!r}"
    return ""


def _set_contradiction(answer: Answer, item: ExportItem, manifest: ExportManifest) -> str:
    """What is wrong with the set of labels that an answer names."""
    if answer.one_of or answer.not_class:
        return "says one_of or not_class, which means nothing where an image may have several labels"
    is_same = set_text(answer.labels, manifest.class_names) == item.given_label
    if answer.claim and (answer.claim == "confirmed") != is_same:
        chosen, given = (listed(names or ()) or "none" for names in (answer.labels, names_in_text(item.given_label)))
        return f"is {answer.claim!r} with labels {chosen}, but the given labels are {given}"
    return ""


def _set_decision(answer: Answer, item: ExportItem, manifest: ExportManifest, now: datetime) -> Decision:
    """The decision about an image that may have several labels: all of them, in class order."""
    kind: DecisionKind = "corrected"
    chosen = tuple(name for name in manifest.class_names if name in answer.labels)
    if answer.marks:
        kind = next(mark for mark in MARKS if mark in answer.marks)
    elif set_text(chosen, manifest.class_names) == item.given_label:
        kind = "confirmed"
    labels = chosen if kind in ("confirmed", "corrected") else None
    return _of_kind(kind, answer, item, manifest, now, verified_labels=labels)


def _decision(answer: Answer, item: ExportItem, manifest: ExportManifest, now: datetime) -> Decision:
    kind: DecisionKind = "corrected"
    if answer.marks:
        kind = next(mark for mark in MARKS if mark in answer.marks)
    elif answer.one_of:
        kind = "one_of"
    elif answer.not_class:
        kind = "not_class"
    elif answer.labels[0] == item.given_label:
        kind = "confirmed"
    return _of_kind(
        kind,
        answer,
        item,
        manifest,
        now,
        verified_label=answer.labels[0] if kind in ("confirmed", "corrected") else None,
        candidate_labels=tuple(sorted(set(answer.one_of))) if kind == "one_of" else (),
        ruled_out_labels=_ruled_out(kind, answer, manifest),
    )


def _of_kind(
    kind: DecisionKind, answer: Answer, item: ExportItem, manifest: ExportManifest, now: datetime, **labels: Any
) -> Decision:
    """The decision with who made it, when, and about what."""
    return Decision(
        sample_id=item.sample_id,
        content_hash=item.content_hash,
        given_label=item.given_label,
        decision=kind,
        annotator_id=answer.annotator_id,
        reviewed_at=answer.reviewed_at or now,
        run_id=manifest.run_id,
        dataset=manifest.dataset,
        tool=manifest.tool,
        file_digest="" if answer.reviewed_at else _UNDATED,
        inclusion_probability=item.inclusion_probability,
        **labels,
    )


def _ruled_out(kind: DecisionKind, answer: Answer, manifest: ExportManifest) -> tuple[str, ...]:
    """The classes that are wrong: those named, or all that the annotator was asked about."""
    wrong = {"not_class": answer.not_class, "none_of_these": manifest.class_names}.get(kind, ())
    return tuple(sorted(set(wrong)))


def _double_answers(decisions: Iterable[Decision]) -> list[str]:
    """Annotators who said different things about one task at one time."""
    times = Counter((decision.annotator_id, decision.reviewed_at) for decision in decisions)
    sample = next((decision.sample_id for decision in decisions), "")
    return [f"{sample} by {who}: {count} different answers" for (who, _), count in sorted(times.items()) if count > 1]


def _with_file_digest(decisions: Sequence[Decision]) -> tuple[Decision, ...]:
    """Mark undated answers with a digest of all of them, whatever their order in the file was."""
    undated = [one for one in decisions if one.file_digest]
    said = sorted([one.sample_id, one.annotator_id, one.decision, *one.named_labels] for one in undated)
    digest = hashlib.sha256(json.dumps(said).encode()).hexdigest()
    return tuple(replace(one, file_digest=digest) if one.file_digest else one for one in decisions)


def _letter(report: ImportReport, origin: Path) -> str:
    """All faults of a file in one message."""
    faults = []
    if report.unmatched:
        faults.append(f"{len(report.unmatched):,} names are no task of the export: {listed(report.unmatched)}")
    if report.unknown_labels:
        faults.append(f"{len(report.unknown_labels):,} classes are unknown: {listed(report.unknown_labels)}")
    if report.conflicting:
        faults.append(f"{len(report.conflicting):,} answers cannot be used: {listed(report.conflicting)}")
    return (
        f"{origin}: every answer must fit the export of run {report.run_id!r} ({report.num_tasks:,} tasks), but\n  - "
        + "\n  - ".join(faults)
        + "\nNothing was imported. Correct the answers in the tool, or import the rest with --partial."
    )
