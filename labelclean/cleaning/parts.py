"""Labels of parts that several images show: the part is what is judged, and its worst view speaks for it.

What each image shows is learned as ever. A part shows a defect as far as the view does that shows it best, and is OK as far
as its worst view is; a label is supported if any view supports it. With these probabilities in the place of a teacher's the
labels of the parts are judged like any labels, and the student learns them from what any view shows: the largest of each
feature over the views, as Su et al. 2015 pool the views of a shape.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from labelclean.arrays import BoolArray, Float32Array, FloatArray, IntArray
from labelclean.cleaning.population import Labelled, Learned, Setting, learn_student, learn_teacher
from labelclean.cleaning.shard_labels import shard_labels
from labelclean.cleaning.shards import HeldShard
from labelclean.config import CleaningConfig
from labelclean.labels import GivenLabels, one_hot
from labelclean.noise.readings import NO_LOOKS, AuditEvidence


@dataclass(frozen=True)
class Parts:
    """The P parts that N images show.

    Attributes:
        number: Part of each image, int64, shape (N,), 0 to P - 1.
        ok: Index of the class of parts without a defect; None: no class is.
    """

    number: IntArray
    ok: int | None = None

    def __len__(self) -> int:
        """P."""
        return int(self.number.max(initial=-1)) + 1

    @property
    def first(self) -> IntArray:
        """The first image of each part, int64, shape (P,)."""
        return np.unique(self.number, return_index=True)[1]


def labels_of_views(labels: GivenLabels, ok: int | None) -> GivenLabels:
    """Return what is known of each view of parts whose labels are known: a view of a part with a defect may not show it.

    Args:
        labels: Labels of the part of each of N images.
        ok: Index of the class of parts without a defect; None: no class is.

    Returns:
        The same, the OK class possible everywhere.
    """
    candidates = labels.candidates.copy()
    if ok is not None:
        candidates[:, ok] = True
    return replace(labels, candidates=candidates)


def labels_of_parts(labels: GivenLabels, number: IntArray) -> GivenLabels:
    """Return the labels of parts, from what their images carry.

    Args:
        labels: Labels of the part of each of N images.
        number: Part of each image, int64, shape (N,), 0 to P - 1.

    Returns:
        P rows: mean votes, classes that any image leaves open, drawn at random where any image was.
    """
    size = np.bincount(number)[:, None].astype(np.float32)

    def mean(votes: Float32Array) -> Float32Array:
        total = np.zeros((len(size), votes.shape[1]), dtype=np.float32)
        np.add.at(total, number, votes)
        return total / size

    candidates = np.zeros((len(size), labels.num_classes), dtype=bool)
    np.logical_or.at(candidates, number, labels.candidates)
    audited, num_votes = None, None
    if labels.is_audited is not None:
        audited = np.zeros(len(size), dtype=bool)
        np.logical_or.at(audited, number, labels.is_audited)
    if labels.num_votes is not None:
        num_votes = np.zeros(len(size), dtype=np.float32)
        np.maximum.at(num_votes, number, labels.num_votes)
    before = None if labels.before_review is None else mean(labels.before_review)
    return GivenLabels(mean(labels.votes), candidates, before, audited, num_votes, labels.measured)


def probs_of_parts(pred_probs: FloatArray, parts: Parts) -> Float32Array:
    """Return the probabilities of each part: the best view's of a defect, the worst view's of the OK class.

    Args:
        pred_probs: P(class | image), shape (N, K), rows sum to 1.
        parts: Part of each image, and which class is OK.

    Returns:
        float32, shape (P, K), rows sum to 1.

    Examples:
        >>> views = np.array([[0.1, 0.9], [0.8, 0.2]])  # dent and ok, two views
        >>> probs_of_parts(views, Parts(np.array([0, 0]), ok=1)).round(2)
        array([[0.8, 0.2]], dtype=float32)
        >>> probs_of_parts(views, Parts(np.array([0, 0]))).round(2)
        array([[0.47, 0.53]], dtype=float32)
    """
    probs = pred_probs.astype(np.float64)
    best = largest_of_parts(probs, parts)
    if parts.ok is not None:
        best[:, parts.ok] = -largest_of_parts(-probs[:, [parts.ok]], parts)[:, 0]
    return np.asarray(best / best.sum(axis=1, keepdims=True), dtype=np.float32)


def speaking_views(pred_probs: FloatArray, predicted: IntArray, parts: Parts) -> BoolArray:
    """Return the view that speaks for each part: of a defect the one that shows it best, else the one least OK.

    Args:
        pred_probs: P(class | image), shape (N, K).
        predicted: Suggested class of each part, int64, shape (P,).
        parts: Part of each image, and which class is OK.

    Returns:
        bool, shape (N,), one of each part; the first of equals.

    Examples:
        >>> views = np.array([[0.1, 0.9], [0.8, 0.2], [0.1, 0.9], [0.3, 0.7]])
        >>> speaking_views(views, np.array([0, 1]), Parts(np.array([0, 0, 1, 1]), ok=1))
        array([False,  True, False,  True])
    """
    wanted = predicted[parts.number]
    worth = pred_probs[np.arange(len(wanted)), wanted].astype(np.float64)
    if parts.ok is not None:
        worth = np.where(wanted == parts.ok, 1.0 - pred_probs[:, parts.ok], worth)
    order = np.lexsort((np.arange(len(worth)), -worth, parts.number))
    speaks = np.zeros(len(worth), dtype=bool)
    speaks[order[np.searchsorted(parts.number[order], np.arange(len(parts)))]] = True
    return speaks


def judge_parts(
    learned: Learned,
    labels: GivenLabels,
    parts: Parts,
    config: CleaningConfig,
    *,
    seed: int,
    folder: Path,
    allowed: Collection[str] | None = None,
    earlier: AuditEvidence = NO_LOOKS,
) -> Learned:
    """Return the labels of parts as judged, every image with what was found about its part.

    Args:
        learned: What each image shows; its sample holds all images.
        labels: Labels of the part of each of N images, as people know them.
        parts: Part of each image.
        config: As in `learn_teacher` and `learn_student`.
        seed: As in `learn_teacher`.
        folder: As in `learn_teacher`.
        allowed: Refinements that the gates allow.
        earlier: Random looks at samples of earlier runs.

    Returns:
        The same, judged by part; what is counted counts each part once.

    Raises:
        GateError: As `student.refine_labels`.
    """
    images, first, number = learned.taught, parts.first, parts.number
    of_parts = labels_of_parts(_standing(labels, learned), number)
    own = config.model_copy(update={"teacher": config.teacher.model_copy(update={"power": 1.0})})  # they are powered
    views = learned.refinement.pred_probs
    known = shard_labels(of_parts, images.chosen.keys.take(first), pred_probs=probs_of_parts(views, parts))
    held = Labelled([HeldShard(largest_of_parts(images.features, parts))], [known], of_parts.num_classes)
    setting = Setting(own, seed, len(parts), folder, digest="parts", device=images.shard_set.device)
    taught = learn_teacher(held, setting, measured=labels.measured)
    if images.chosen.pred_probs is None:  # learned from these very labels, so nobody vouches for them
        taught = replace(taught, teacher=replace(taught.teacher, is_vouched=False))
    judged = learn_student(taught, config, allowed=allowed, earlier=earlier).refinement
    refinement = replace(
        judged,
        judged=judged.judged.take(number),
        pred_probs=judged.pred_probs[number],
        duplicate_sets=learned.refinement.duplicate_sets,
        neighbour_votes=None if judged.neighbour_votes is None else judged.neighbour_votes[number],
        neighbour_similarity=None if judged.neighbour_similarity is None else judged.neighbour_similarity[number],
    )
    speaks = speaking_views(views, judged.predicted, parts)
    return Learned(replace(images, labels=of_parts.take(number)), refinement, speaks)


def _standing(labels: GivenLabels, learned: Learned) -> GivenLabels:
    """Labels of which those that nothing can vouch for stand as given."""
    unvouched = learned.taught.unvouched
    if unvouched is None or not unvouched.is_alone.any():
        return labels
    rows = unvouched.is_alone & ~labels.is_verified
    fixed = one_hot(labels.given, labels.num_classes).astype(bool)
    return replace(labels, candidates=np.where(rows[:, None], fixed, labels.candidates))


def largest_of_parts(values: FloatArray, parts: Parts) -> FloatArray:
    """Return the largest of each column over the views of each part.

    Args:
        values: Shape (N, C).
        parts: Part of each of the N images.

    Returns:
        Shape (P, C).
    """
    order = np.argsort(parts.number, kind="stable")
    starts = np.searchsorted(parts.number[order], np.arange(len(parts)))
    return np.maximum.reduceat(values[order], starts, axis=0)
