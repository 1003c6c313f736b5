"""The way between class names, class indices and one-hot rows.

Class names are strings in tables and integers only inside arrays; this module
is the one bridge.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from labelclean.arrays import BoolArray, IntArray


@dataclass(frozen=True)
class GivenLabels:
    """What is known of each sample's class before the image is looked at.

    Attributes:
        votes: What the inspectors said, float32, shape (N, K), rows sum to 1. One inspector
            gives a one-hot row, several who disagree a soft one.
        candidates: Which classes are still possible, bool, shape (N, K), at least one True
            per row. All True where nobody has reviewed; exactly one True where a reviewer has
            verified the class; some False after a "not this class" or "A or B".
        before_review: The votes as they were before reviewers replaced some, float32, shape (N, K);
            None where nobody has.
        is_audited: Verified samples that were drawn at random over all, bool, shape (N,): they may weigh the readings
            (`readings.fit_readings`). None where nobody was drawn.
        num_votes: How many inspectors a row of votes stands for, float32, shape (N,): three who agree are three
            witnesses. None where each stands for one.
        measured: How often inspectors were measured to give class j to samples of true class k, as samples that the noise
            model adds to its prior, float64, shape (K, K) (`model.measured_prior`); None where nobody measured.
    """

    votes: npt.NDArray[np.float32]
    candidates: BoolArray
    before_review: npt.NDArray[np.float32] | None = None
    is_audited: BoolArray | None = None
    num_votes: npt.NDArray[np.float32] | None = None
    measured: npt.NDArray[np.float64] | None = None

    @property
    def observed(self) -> npt.NDArray[np.float32]:
        """The votes that show how labels go wrong, float32, shape (N, K): a corrected label is still one that was given."""
        return self.votes if self.before_review is None else self.before_review

    @property
    def given(self) -> IntArray:
        """Class most voted for, int64, shape (N,); ties go to the lower class index."""
        return np.asarray(self.votes.argmax(axis=1), dtype=np.int64)

    @property
    def is_verified(self) -> BoolArray:
        """True where only one class is possible, bool, shape (N,)."""
        return np.asarray(self.candidates.sum(axis=1) == 1)

    @property
    def num_classes(self) -> int:
        """K."""
        return int(self.votes.shape[1])

    def __len__(self) -> int:
        """N."""
        return len(self.votes)

    def take(self, rows: npt.NDArray[np.generic]) -> GivenLabels:
        """Return the same for some rows (indices or a mask)."""
        before = None if self.before_review is None else self.before_review[rows]
        audited = None if self.is_audited is None else self.is_audited[rows]
        num_votes = None if self.num_votes is None else self.num_votes[rows]
        return GivenLabels(self.votes[rows], self.candidates[rows], before, audited, num_votes, self.measured)


def given_labels(indices: npt.NDArray[np.integer], num_classes: int) -> GivenLabels:
    """Return unreviewed given labels, one inspector each.

    Args:
        indices: Given class of each sample, int, shape (N,), in [0, K).
        num_classes: K.

    Returns:
        One-hot votes and all classes possible, rows aligned with ``indices``.

    Examples:
        >>> given_labels(np.array([1, 0]), 2).votes
        array([[0., 1.],
               [1., 0.]], dtype=float32)
    """
    return GivenLabels(one_hot(indices, num_classes), np.ones((len(indices), num_classes), dtype=bool))


def one_hot(indices: npt.NDArray[np.integer], num_classes: int) -> npt.NDArray[np.float32]:
    """Return one-hot rows.

    Args:
        indices: Class of each sample, int, shape (N,), in [0, K).
        num_classes: K.

    Returns:
        float32, shape (N, K), exactly one 1 per row, rows aligned with ``indices``.

    Examples:
        >>> one_hot(np.array([2, 0]), 3)
        array([[0., 0., 1.],
               [1., 0., 0.]], dtype=float32)
    """
    rows = np.zeros((len(indices), num_classes), dtype=np.float32)
    rows[np.arange(len(indices)), indices] = 1.0
    return rows


def in_class_order(names: Iterable[Any]) -> list[Any]:
    """Return the distinct class names in the order of a class list: numbers by their value, then names by their text.

    Args:
        names: Class names, strings or integers; not both.

    Returns:
        The K names.

    Examples:
        >>> in_class_order(["10", "ok", "2", "1", "2"])
        ['1', '2', '10', 'ok']
    """
    return sorted(set(names), key=_place)


def _place(name: Any) -> tuple[bool, float, Any]:
    is_number = not isinstance(name, str) or _NUMBER.fullmatch(name) is not None
    return not is_number, float(name) if is_number else 0.0, name


_NUMBER = re.compile(r"-?[0-9]{1,18}(\.[0-9]{1,18})?")


def class_indices(names: npt.ArrayLike, class_names: Sequence[object]) -> IntArray:
    """Return the position of each name in the class list, -1 for a name that is not in it.

    Args:
        names: Class names, shape (N,).
        class_names: The K class names in order.

    Returns:
        int64, shape (N,), in [-1, K), rows aligned with ``names``.

    Examples:
        >>> class_indices(["ok", "dent", "??"], ["ok", "scratch", "dent"])
        array([ 0,  2, -1])
    """
    position = {name: index for index, name in enumerate(class_names)}
    values = np.asarray(names, dtype=object)
    return np.fromiter((position.get(name, -1) for name in values), dtype=np.int64, count=len(values))


def possible(weights: npt.NDArray[np.float32], labels: GivenLabels) -> npt.NDArray[np.float32]:
    """Return rows restricted to the possible classes and normalised; equal shares where nothing is left.

    Args:
        weights: At least 0, float32, shape (N, K).
        labels: Given labels of the N samples.

    Returns:
        float32, shape (N, K), rows sum to 1.
    """
    weighted = np.where(labels.candidates, weights, 0).astype(np.float64)
    total = weighted.sum(axis=1, keepdims=True)
    shares = labels.candidates / labels.candidates.sum(axis=1, keepdims=True)
    return np.where(total > 0, weighted / np.where(total > 0, total, 1.0), shares).astype(np.float32)
