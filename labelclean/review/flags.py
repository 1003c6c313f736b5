"""Gives each doubtful sample its reasons, one row per sample and reason."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from labelclean.arrays import BoolArray, FloatArray, IntArray
from labelclean.config import FlagsConfig
from labelclean.storage.tables import UNUSABLE


@dataclass(frozen=True)
class FlagInputs:
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


def build_flags(inputs: FlagInputs, limits: FlagsConfig, unstable_below: float) -> Flags:
    """Return every sample's reasons.

    Args:
        inputs: What is known of the samples.
        limits: Section `flags`.
        unstable_below: `gates.top2.unstable_below`.

    Returns:
        One row per sample and reason, by reason and then by sample row.
    """
    marks = [
        _other_class(inputs),
        _readings_differ(inputs),
        _neighbours_disagree(inputs, limits.neighbours_share),
        _conflict_group(inputs),
        _marked(inputs, "box_conflict", inputs.is_box_conflict, 1.0),
        _near_duplicate(inputs),
        _marked(inputs, "box_double", inputs.is_box_double, 1.0),
        _split_leak(inputs),
        _unstable_top2(inputs, unstable_below),
        _narrow_margin(inputs, limits.narrow_margin),
        _rare_class_move(inputs, limits.rare_class_count),
        _annotators_disagree(inputs),
        *_unusable(inputs, limits.outlier_z),
    ]
    rows = [np.flatnonzero(mask) for _, mask, _ in marks]
    return Flags(
        np.concatenate(rows),
        np.concatenate([np.full(len(at), reason) for (reason, _, _), at in zip(marks, rows, strict=True)]),
        np.concatenate([np.clip(score[at], 0, 1) for (_, _, score), at in zip(marks, rows, strict=True)]).astype(
            np.float32
        ),
    )


_Mark = tuple[str, BoolArray, FloatArray]
"""Reason, who has it, and how urgent it is."""


def _other_class(inputs: FlagInputs) -> _Mark:
    """What we would change."""
    changed = inputs.is_label_issue & (inputs.predicted != inputs.given)
    return "other_class", changed, 1 - inputs.label_scores


def _readings_differ(inputs: FlagInputs) -> _Mark:
    """What waits for eyes: some reading names another class, and labels alone cannot tell which is right."""
    waits = inputs.is_label_issue & (inputs.predicted == inputs.given)
    return "readings_differ", waits, 1 - inputs.label_scores


def _neighbours_disagree(inputs: FlagInputs, share: float) -> _Mark:
    if inputs.neighbour_votes is None:
        return "neighbours_disagree", *_nothing(inputs)
    votes = inputs.neighbour_votes
    best = votes.max(axis=1)
    disagree = (votes.argmax(axis=1) != inputs.given) & (best >= share)
    return "neighbours_disagree", disagree, best


def _conflict_group(inputs: FlagInputs) -> _Mark:
    return "conflict_group", inputs.conflict_sets >= 0, np.ones(len(inputs.given))


def _near_duplicate(inputs: FlagInputs) -> _Mark:
    return "near_duplicate", inputs.duplicate_sets >= 0, np.full(len(inputs.given), 0.1)


def _marked(inputs: FlagInputs, reason: str, mask: BoolArray | None, score: float) -> _Mark:
    """A reason that is known already."""
    mask = np.zeros(len(inputs.given), dtype=bool) if mask is None else mask
    return reason, mask, np.full(len(inputs.given), score)


def _split_leak(inputs: FlagInputs) -> _Mark:
    """As urgent as a near-copy: the label may be right, but it must not both teach and test."""
    if inputs.leak_sets is None:
        return "split_leak", *_nothing(inputs)
    return "split_leak", inputs.leak_sets >= 0, np.full(len(inputs.given), 0.1)


def _unstable_top2(inputs: FlagInputs, below: float) -> _Mark:
    if inputs.top2_agreement is None:
        return "unstable_top2", *_nothing(inputs)
    agreement = np.nan_to_num(inputs.top2_agreement, nan=1.0)  # a sample that no refit scored is not unstable
    return "unstable_top2", agreement < below, 1 - agreement


def _narrow_margin(inputs: FlagInputs, below: float) -> _Mark:
    return "narrow_margin", inputs.top2_margin < below, 1 - inputs.top2_margin


def _rare_class_move(inputs: FlagInputs, below: int) -> _Mark:
    counts = inputs.class_counts
    if counts is None:
        counts = np.bincount(inputs.given, minlength=inputs.votes.shape[1])
    smaller = np.minimum(counts[inputs.given], counts[inputs.predicted])
    return "rare_class_move", (inputs.predicted != inputs.given) & (smaller < below), 1 - inputs.label_scores


def _annotators_disagree(inputs: FlagInputs) -> _Mark:
    top = inputs.votes.max(axis=1)
    return "annotators_disagree", top < 1 - 1e-6, 1 - top


def _unusable(inputs: FlagInputs, limit: float) -> list[_Mark]:
    """Pictures that lie outside their set and their class; twice the limit is two thirds of what can be."""
    if inputs.oddness is None:
        return []
    marks: list[_Mark] = []
    for reason, odd in zip(UNUSABLE, inputs.oddness.T, strict=True):
        marks.append((reason, odd > limit, unusable_scores(odd, limit)))
    return marks


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


def _nothing(inputs: FlagInputs) -> tuple[BoolArray, FloatArray]:
    return np.zeros(len(inputs.given), dtype=bool), np.zeros(len(inputs.given))
