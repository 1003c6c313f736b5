"""What reviewers decided about images that may have several labels: which classes they found, all of them or none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from labelclean.arrays import BoolArray, Float32Array, IntArray
from labelclean.review.decisions import VERIFYING, Decision, Standing, is_audit_answer


@dataclass(frozen=True)
class SetStanding:
    """What the decisions say about N samples as they are now.

    Attributes:
        answers: Share of the annotators who found each class, of those who verified, float32, shape (N, K); 0 where nobody
            verified.
        is_verified: Somebody said which classes are there, bool, shape (N,).
        is_settled: Verified, or called a bad image: it does not come back, bool, shape (N,).
        is_excluded: A bad image to all who settled it, bool, shape (N,).
        is_disputed: Answers contradict each other, in any class, bool, shape (N,).
        is_contradicted: Verified by some and a bad image to others: disputed in all classes, bool, shape (N,).
        is_audited: Verified by an answer to a sample that was drawn at random over all, and not disputed, bool, shape (N,).
        num_annotators: Annotators whose answer counts, int64, shape (N,).
    """

    answers: Float32Array
    is_verified: BoolArray
    is_settled: BoolArray
    is_excluded: BoolArray
    is_disputed: BoolArray
    is_contradicted: BoolArray
    is_audited: BoolArray
    num_annotators: IntArray

    @property
    def is_agreed(self) -> BoolArray:
        """All who verified found the same classes, and nobody called it a bad image, bool, shape (N,)."""
        return self.is_verified & ~self.is_disputed

    def of_class(self, number: int) -> Standing:
        """Return the same of one class, as a question of two answers: absent, present.

        Args:
            number: Its index.

        Returns:
            Votes and candidates of shape (N, 2); a class on which all agree is verified though another is disputed.
        """
        present = np.where(self.is_verified, self.answers[:, number], 0).astype(np.float32)
        votes = np.stack([np.where(self.is_verified, 1 - present, 0), present], axis=1).astype(np.float32)
        is_torn = ~self.is_settled | (votes > 0).all(axis=1) | self.is_contradicted
        return Standing(
            votes=votes,
            candidates=np.where((self.is_verified & ~is_torn)[:, None], votes > 0, True),
            is_settled=self.is_settled,
            is_excluded=self.is_excluded,
            fits_none=np.zeros(len(votes), dtype=bool),
            is_disputed=self.is_verified & is_torn,
            is_audited=self.is_audited,
            num_annotators=self.num_annotators,
            unknown_labels=(),
        )


def measure_set_standing(standing: Sequence[Sequence[Decision]], class_names: Sequence[str]) -> SetStanding:
    """Return what standing decisions say, as arrays.

    Decisions that name no set, as about images of one label, or a class that is not among the names, are left out.

    Args:
        standing: For each of N samples its decisions, one per annotator.
        class_names: The K class names in order.

    Returns:
        Arrays aligned with ``standing``.
    """
    position = {name: k for k, name in enumerate(class_names)}
    num = len(standing)
    answers = np.zeros((num, len(class_names)), dtype=np.float32)
    is_verified, is_settled, is_excluded, is_disputed, is_contradicted, is_audited = (
        np.zeros(num, dtype=bool) for _ in range(6)
    )
    num_annotators = np.zeros(num, dtype=np.int64)
    for row, of_sample in enumerate(standing):
        known = [decision for decision in of_sample if set(decision.named_labels) <= position.keys()]
        sets = [one.verified_labels for one in known if one.decision in VERIFYING and one.verified_labels is not None]
        has_bad = any(decision.decision == "bad_image" for decision in known)
        num_annotators[row] = len(known)
        for names in sets:
            answers[row, [position[name] for name in names]] += 1.0 / len(sets)
        is_verified[row] = bool(sets)
        is_settled[row] = bool(sets) or has_bad
        is_excluded[row] = has_bad and not sets
        is_contradicted[row] = has_bad and bool(sets)
        is_disputed[row] = len(set(map(frozenset, sets))) > 1 or is_contradicted[row]
        is_audited[row] = bool(sets) and any(map(is_audit_answer, known)) and not is_disputed[row]
    answers = np.where(np.isclose(answers, 1.0), 1.0, answers).astype(np.float32)  # thirds add up to one
    states = (is_verified, is_settled, is_excluded, is_disputed, is_contradicted, is_audited)
    return SetStanding(answers, *states, num_annotators)
