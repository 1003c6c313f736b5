"""What reviewers have decided, and what those decisions say about each sample as it is now.

A decision belongs to a sample *and* its image content. It counts while the
image is the same and, where it settled the sample, while the given label is the
one that was judged or the one that was found right.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import numpy.typing as npt

from labelclean.arrays import BoolArray, IntArray
from labelclean.labels import GivenLabels
from labelclean.storage.label_sets import names_in_text

if TYPE_CHECKING:
    from datetime import datetime

DecisionKind = Literal[
    "confirmed", "corrected", "one_of", "not_class", "none_of_these", "unsure", "bad_image", "skipped"
]
DECISION_KINDS: tuple[DecisionKind, ...] = get_args(DecisionKind)
VERIFYING: tuple[DecisionKind, ...] = ("confirmed", "corrected")
RULING_OUT: tuple[DecisionKind, ...] = ("not_class", "none_of_these")
"""Answers that hold though a class that they rule out is no more."""
SETTLING: tuple[DecisionKind, ...] = (*VERIFYING, "bad_image", "none_of_these")


@dataclass(frozen=True)
class Decision:
    """One annotator's answer about one sample.

    Attributes:
        sample_id: The sample.
        content_hash: SHA-256 of the image that was judged.
        given_label: The label that the sample had then; of several, a JSON list of them in class order.
        decision: What was decided; `confirmed` and `corrected` verify a class, `one_of` and
            `not_class` narrow the classes, `none_of_these` rules out all that there were, `bad_image` takes the sample
            out, `unsure` and `skipped` say nothing about it.
        annotator_id: Who decided.
        reviewed_at: When, with time zone; the time of the import where the tool keeps no time.
        run_id: The run whose queue it answers.
        dataset: The data set of that run.
        tool: Where it was decided.
        verified_label: The class found right, for `confirmed` and `corrected`.
        candidate_labels: The classes one of which is right, for `one_of`.
        ruled_out_labels: The classes that are wrong, for `not_class` and `none_of_these`; for the latter every class that
            the annotator was asked about, so that it keeps its meaning when classes are added.
        file_digest: Digest of all answers of a file that keeps no times, else empty; stands in
            for the time when two imports of the same answer are told from two answers.
        inclusion_probability: With which probability the sample was drawn from all unsettled samples of the run, in
            (0, 1]; None where it was not drawn but chosen. No part of what the answer says.
        verified_labels: All classes found right in class order, for samples that may have several, the empty set for none of
            them; None where a sample has one label.
    """

    sample_id: str
    content_hash: str
    given_label: str
    decision: DecisionKind
    annotator_id: str
    reviewed_at: datetime
    run_id: str
    dataset: str
    tool: str
    verified_label: str | None = None
    candidate_labels: tuple[str, ...] = ()
    ruled_out_labels: tuple[str, ...] = ()
    file_digest: str = ""
    inclusion_probability: float | None = None
    verified_labels: tuple[str, ...] | None = None

    @property
    def named_labels(self) -> tuple[str, ...]:
        """Every class that the answer names."""
        verified = () if self.verified_label is None else (self.verified_label,)
        return (*verified, *(self.verified_labels or ()), *self.candidate_labels, *self.ruled_out_labels)


@dataclass(frozen=True)
class Standing:
    """What the decisions say about N samples as they are now.

    Attributes:
        votes: Share of the annotators who verified each class, float32, shape (N, K); rows sum
            to 1 where anyone verified and are zero elsewhere.
        candidates: Which classes are still possible, bool, shape (N, K), at least one True per
            row: the verified classes; else what all partial answers leave; else all.
        is_settled: Someone confirmed, corrected or excluded it: it does not come back, bool, shape (N,).
        is_excluded: A bad image, or none of the classes, to all who settled it, bool, shape (N,).
        fits_none: Of these, those that are none of the classes to all who settled it, bool, shape (N,).
        is_disputed: Answers contradict each other, bool, shape (N,).
        is_audited: Verified by an answer to a sample that was drawn at random over all, and not disputed, bool, shape (N,).
        num_annotators: Annotators whose answer counts, int64, shape (N,).
        unknown_labels: Classes that decisions name but the class list lacks, sorted; those
            decisions are left out.
    """

    votes: npt.NDArray[np.float32]
    candidates: BoolArray
    is_settled: BoolArray
    is_excluded: BoolArray
    fits_none: BoolArray
    is_disputed: BoolArray
    is_audited: BoolArray
    num_annotators: IntArray
    unknown_labels: tuple[str, ...]

    def take(self, rows: npt.NDArray[np.generic]) -> Standing:
        """Return the same for some samples (indices or a mask)."""
        return Standing(
            votes=self.votes[rows],
            candidates=self.candidates[rows],
            is_settled=self.is_settled[rows],
            is_excluded=self.is_excluded[rows],
            fits_none=self.fits_none[rows],
            is_disputed=self.is_disputed[rows],
            is_audited=self.is_audited[rows],
            num_annotators=self.num_annotators[rows],
            unknown_labels=self.unknown_labels,
        )

    @property
    def verified(self) -> IntArray:
        """The class that all agree on, int64, shape (N,), -1 where there is none."""
        is_verified = (self.votes > 0).any(axis=1) & ~self.is_disputed
        return np.where(is_verified, self.votes.argmax(axis=1), -1).astype(np.int64)

    @property
    def agreement(self) -> npt.NDArray[np.float32]:
        """Largest share of verifying annotators behind one class, shape (N,), 0 where nobody verified."""
        return np.asarray(self.votes.max(axis=1), dtype=np.float32)


def standing_decisions(
    decisions: Iterable[Decision],
    sample_ids: Sequence[str],
    content_hashes: Sequence[str],
    given_labels: Sequence[str],
    reopened: Collection[str] = (),
) -> tuple[tuple[Decision, ...], ...]:
    """Return each sample's decisions that count now: the latest of each annotator.

    Args:
        decisions: Any decisions, in any order; those about other samples or images are passed over.
        sample_ids: The N samples, each once.
        content_hashes: SHA-256 of each sample's image as it is now, length N.
        given_labels: Each sample's given label as it is now, length N.
        reopened: Samples whose decisions shall not count.

    Returns:
        N tuples aligned with ``sample_ids``, each sorted by annotator.
    """
    row_of = {sample: row for row, sample in enumerate(sample_ids) if sample not in reopened}
    latest: list[dict[str, Decision]] = [{} for _ in sample_ids]
    for decision in decisions:
        row = row_of.get(decision.sample_id)
        if row is None or decision.content_hash != content_hashes[row]:
            continue
        before = latest[row].get(decision.annotator_id)
        if before is None or _order(before) < _order(decision):
            latest[row][decision.annotator_id] = decision
    return tuple(
        tuple(decision for _, decision in sorted(of_sample.items()) if _still_counts(decision, given))
        for of_sample, given in zip(latest, given_labels, strict=True)
    )


def measure_standing(standing: Sequence[Sequence[Decision]], class_names: Sequence[str]) -> Standing:
    """Return what standing decisions say, as arrays.

    Annotators who verify different classes become shares, never a silent majority. A bad image
    excludes the sample only if nobody gave it a class, and so does none of these while there is no class that the
    annotators were not asked about; with one, the answer rules out the others and the sample comes back.
    Partial answers are intersected; where they leave nothing, or contradict a verified class, the sample is disputed.

    Args:
        standing: For each of N samples its decisions, one per annotator.
        class_names: The K class names in order.

    Returns:
        Arrays aligned with ``standing``.
    """
    position = {name: k for k, name in enumerate(class_names)}
    shape = (len(standing), len(class_names))
    votes, candidates = np.zeros(shape, dtype=np.float32), np.ones(shape, dtype=bool)
    is_settled, is_excluded, fits_none, is_disputed, is_audited = (
        np.zeros(len(standing), dtype=bool) for _ in range(5)
    )
    num_annotators = np.zeros(len(standing), dtype=np.int64)
    unknown: set[str] = set()
    for row, of_sample in enumerate(standing):
        known = [one for one in of_sample if one.decision in RULING_OUT or set(one.named_labels) <= position.keys()]
        unknown.update(
            name
            for decision in of_sample
            if decision.decision not in RULING_OUT
            for name in decision.named_labels
            if name not in position
        )
        num_annotators[row] = len(known)
        for decision in known:
            if decision.decision in VERIFYING:
                votes[row, position[decision.verified_label or ""]] += 1
        has_bad = any(decision.decision == "bad_image" for decision in known)
        voted: BoolArray = np.asarray(votes[row] > 0)
        possible = _possible(known, position)
        rules_out_all = _rules_out_all(known, possible)
        fits_none[row] = rules_out_all and not (voted.any() or has_bad)
        is_settled[row] = voted.any() or has_bad or fits_none[row]
        is_excluded[row] = (has_bad and not voted.any()) or fits_none[row]
        is_contradicted = (voted.any() and (has_bad or not possible[voted].all())) or not (
            possible.any() or rules_out_all
        )
        is_disputed[row] = voted.sum() > 1 or is_contradicted
        is_audited[row] = any(map(is_audit_answer, known)) and not is_disputed[row]
        if voted.sum() > 1 or (voted.any() and not is_contradicted):
            candidates[row] = voted
        elif not is_contradicted and not rules_out_all:
            candidates[row] = possible
    votes /= np.maximum(votes.sum(axis=1, keepdims=True), 1)
    states = (is_settled, is_excluded, fits_none, is_disputed, is_audited)
    return Standing(votes, candidates, *states, num_annotators, tuple(sorted(unknown)))


def is_audit_answer(decision: Decision) -> bool:
    """Return whether an answer verifies a sample that was drawn at random over all.

    Args:
        decision: The answer.

    Returns:
        True for such answers only.
    """
    return decision.decision in VERIFYING and decision.inclusion_probability is not None


def reviewed_labels(labels: GivenLabels, standing: Standing) -> GivenLabels:
    """Return the given labels with what reviewers know in their place.

    Args:
        labels: Given labels of N samples.
        standing: What the decisions say about the same samples.

    Returns:
        Reviewers' votes where there are any, and candidates that reviewers have narrowed; where
        the labels' own candidates leave nothing of them, the reviewers' stand. What was given
        before a class was verified stays known as `observed`: with a correction in its place, the
        noise matrix would unlearn every error that people find. Which of the verified samples were
        drawn at random over all is kept as `is_audited`, None where none was.
    """
    has_votes: BoolArray = np.asarray(standing.votes.any(axis=1))
    both = labels.candidates & standing.candidates
    agrees: BoolArray = np.asarray(both.any(axis=1) & ~has_votes)
    votes = np.where(has_votes[:, None], standing.votes, labels.votes)
    observed = np.where((standing.verified >= 0)[:, None], labels.observed, votes)
    is_audited = standing.is_audited if standing.is_audited.any() else None
    candidates = np.where(agrees[:, None], both, standing.candidates)
    return GivenLabels(votes, candidates, observed, is_audited, labels.num_votes)


def _order(decision: Decision) -> tuple[datetime, str, tuple[str, ...], float]:
    """Later is greater; equal times fall back to the answer itself, so that row order never matters."""
    drawn = decision.inclusion_probability or 0.0
    return decision.reviewed_at, decision.decision, decision.named_labels, drawn


def _still_counts(decision: Decision, given: str) -> bool:
    """Whether a settled sample's label is still the one judged or the one found right; of sets, in whatever class order."""
    if decision.decision not in SETTLING or given in (decision.given_label, decision.verified_label):
        return True
    now, judged = names_in_text(given), names_in_text(decision.given_label)
    if now is None or judged is None:
        return False
    return set(now) in (set(judged), set(judged if decision.verified_labels is None else decision.verified_labels))


def _possible(decisions: Sequence[Decision], position: dict[str, int]) -> BoolArray:
    """Classes that all partial answers leave open."""
    open_classes = set(position)
    for decision in decisions:
        if decision.decision == "one_of":
            open_classes &= set(decision.candidate_labels)
        elif decision.decision in ("not_class", "none_of_these"):
            open_classes -= set(decision.ruled_out_labels)
    return np.array([name in open_classes for name in position], dtype=bool)


def _rules_out_all(decisions: Sequence[Decision], possible: BoolArray) -> bool:
    """Whether an answer rules out every class and none narrows them to some."""
    kinds = {decision.decision for decision in decisions}
    return "none_of_these" in kinds and "one_of" not in kinds and not possible.any()
