"""Gives each doubtful sample its reasons, one row per sample and reason."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from labelclean.arrays import BoolArray, FloatArray, IntArray
from labelclean.config import FlagsConfig
from labelclean.storage.tables import UNUSABLE


@dataclass(frozen=True)
class Evidence:
    """What is known of N samples when their reasons are written; rows are aligned.

    Attributes:
        votes: Given votes, shape (N, K), rows sum to 1.
        given: Given class, shape (N,).
        predicted: Predicted class, shape (N,).
        label_scores: Probability that the given label is right, shape (N,).
        is_label_issue: Shape (N,).
        top2_margin: Shape (N,), 0..1.
        top2_agreement: Shape (N,), 0..1, or None without refits.
        neighbour_votes: Class shares among the neighbours, shape (N, K), or None without neighbours.
        duplicate_sets: Number of the near-duplicate set, shape (N,), -1 for samples in none.
        conflict_sets: The same, -1 also where all labels of the set agree (`neighbours.conflict_sets`).
        is_box_conflict: Boxes that lie on one of another class (`overlaps.Overlaps`), shape (N,); None for whole images.
        is_box_double: Boxes that lie on one of the same class, shape (N,); None for whole images.
        leak_sets: Number of the set that stands in more than one split, shape (N,), -1 for samples in none; None without
            splits (`leaks.split_leaks`).
        class_counts: Samples of each given class in the whole data set, shape (K,); default: among these.
        oddness: How many spreads the picture lies outside, shape (N, R) by `tables.UNUSABLE`; None: not known.
    """

    votes: FloatArray
    given: IntArray
    predicted: IntArray
    label_scores: FloatArray
    is_label_issue: BoolArray
    top2_margin: FloatArray
    top2_agreement: FloatArray | None
    neighbour_votes: FloatArray | None
    duplicate_sets: IntArray
    conflict_sets: IntArray
    is_box_conflict: BoolArray | None = None
    is_box_double: BoolArray | None = None
    leak_sets: IntArray | None = None
    class_counts: IntArray | None = None
    oddness: FloatArray | None = None


@dataclass(frozen=True)
class Flags:
    """Reasons in long form, one row per sample and reason; rows are aligned.

    Attributes:
        rows: Sample row, int64, shape (R,).
        reasons: Reason, str, shape (R,).
        scores: Urgency, float32, shape (R,), 0..1, high = look sooner.
    """

    rows: IntArray
    reasons: npt.NDArray[np.str_]
    scores: npt.NDArray[np.float32]


def build_flags(evidence: Evidence, limits: FlagsConfig, unstable_below: float) -> Flags:
    """Return every sample's reasons.

    Args:
        evidence: What is known of the samples.
        limits: Section `flags`.
        unstable_below: `gates.top2.unstable_below`.

    Returns:
        One row per sample and reason, by reason and then by sample row.
    """
    parts = [
        _other_class(evidence),
        _readings_differ(evidence),
        _neighbours_disagree(evidence, limits.neighbours_share),
        _conflict_group(evidence),
        _marked(evidence, "box_conflict", evidence.is_box_conflict, 1.0),
        _near_duplicate(evidence),
        _marked(evidence, "box_double", evidence.is_box_double, 1.0),
        _split_leak(evidence),
        _unstable_top2(evidence, unstable_below),
        _narrow_margin(evidence, limits.narrow_margin),
        _rare_class_move(evidence, limits.rare_class_count),
        _annotators_disagree(evidence),
        *_unusable(evidence, limits.outlier_z),
    ]
    rows = [np.flatnonzero(mask) for _, mask, _ in parts]
    return Flags(
        np.concatenate(rows),
        np.concatenate([np.full(len(at), reason) for (reason, _, _), at in zip(parts, rows, strict=True)]),
        np.concatenate([np.clip(score[at], 0, 1) for (_, _, score), at in zip(parts, rows, strict=True)]).astype(
            np.float32
        ),
    )


_Part = tuple[str, BoolArray, FloatArray]


def _other_class(evidence: Evidence) -> _Part:
    """What we would change."""
    changed = evidence.is_label_issue & (evidence.predicted != evidence.given)
    return "other_class", changed, 1 - evidence.label_scores


def _readings_differ(evidence: Evidence) -> _Part:
    """What waits for eyes: some reading names another class, and labels alone cannot tell which is right."""
    waits = evidence.is_label_issue & (evidence.predicted == evidence.given)
    return "readings_differ", waits, 1 - evidence.label_scores


def _neighbours_disagree(evidence: Evidence, share: float) -> _Part:
    if evidence.neighbour_votes is None:
        return "neighbours_disagree", *_nothing(evidence)
    votes = evidence.neighbour_votes
    best = votes.max(axis=1)
    disagree = (votes.argmax(axis=1) != evidence.given) & (best >= share)
    return "neighbours_disagree", disagree, best


def _conflict_group(evidence: Evidence) -> _Part:
    return "conflict_group", evidence.conflict_sets >= 0, np.ones(len(evidence.given))


def _near_duplicate(evidence: Evidence) -> _Part:
    return "near_duplicate", evidence.duplicate_sets >= 0, np.full(len(evidence.given), 0.1)


def _marked(evidence: Evidence, reason: str, mask: BoolArray | None, score: float) -> _Part:
    """A reason that is known already."""
    mask = np.zeros(len(evidence.given), dtype=bool) if mask is None else mask
    return reason, mask, np.full(len(evidence.given), score)


def _split_leak(evidence: Evidence) -> _Part:
    """As urgent as a near-copy: the label may be right, but it must not both teach and test."""
    if evidence.leak_sets is None:
        return "split_leak", *_nothing(evidence)
    return "split_leak", evidence.leak_sets >= 0, np.full(len(evidence.given), 0.1)


def _unstable_top2(evidence: Evidence, below: float) -> _Part:
    if evidence.top2_agreement is None:
        return "unstable_top2", *_nothing(evidence)
    agreement = np.nan_to_num(evidence.top2_agreement, nan=1.0)  # a sample that no refit scored is not unstable
    return "unstable_top2", agreement < below, 1 - agreement


def _narrow_margin(evidence: Evidence, below: float) -> _Part:
    return "narrow_margin", evidence.top2_margin < below, 1 - evidence.top2_margin


def _rare_class_move(evidence: Evidence, below: int) -> _Part:
    counts = evidence.class_counts
    if counts is None:
        counts = np.bincount(evidence.given, minlength=evidence.votes.shape[1])
    smaller = np.minimum(counts[evidence.given], counts[evidence.predicted])
    return "rare_class_move", (evidence.predicted != evidence.given) & (smaller < below), 1 - evidence.label_scores


def _annotators_disagree(evidence: Evidence) -> _Part:
    top = evidence.votes.max(axis=1)
    return "annotators_disagree", top < 1 - 1e-6, 1 - top


def _unusable(evidence: Evidence, limit: float) -> list[_Part]:
    """Pictures that lie outside their set and their class; twice the limit is two thirds of what can be."""
    if evidence.oddness is None:
        return []
    parts: list[_Part] = []
    for reason, odd in zip(UNUSABLE, evidence.oddness.T, strict=True):
        parts.append((reason, odd > limit, unusable_scores(odd, limit)))
    return parts


def unusable_scores(odd: FloatArray, limit: float) -> FloatArray:
    """Return how urgent a look at a picture is.

    Args:
        odd: How many spreads it lies outside, any shape.
        limit: `flags.outlier_z`.

    Returns:
        0..1, same shape; a half at the limit.

    Examples:
        >>> unusable_scores(np.array([-np.inf, 3.0, 6.0]), 3.0).round(2)
        array([0.  , 0.5 , 0.67])
    """
    odd = np.clip(odd, 0, 1e6)
    return np.asarray(odd / (odd + limit))


def _nothing(evidence: Evidence) -> tuple[BoolArray, FloatArray]:
    return np.zeros(len(evidence.given), dtype=bool), np.zeros(len(evidence.given))
