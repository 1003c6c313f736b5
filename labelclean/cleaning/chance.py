"""Where evidence ends: gains that random labels reach too, and samples for which nothing outside their group can vouch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from labelclean.arrays import BoolArray, Float32Array, IntArray
from labelclean.errors import listed
from labelclean.labels import GivenLabels, one_hot

# two tests, each wrong one time in 40: the largest of 40 gains, and one of the 5 largest of 200 similarities
REFITS = 39
SHUFFLES, MOST_ABOVE = 199, 4
SHUFFLES_AT_ONCE = 20
CLEAR_GAIN = 30.0
ROUNDING = 1e-6  # of a sum that is nothing but single precision
MOST_COPIES = 20


@dataclass(frozen=True)
class Unvouched:
    """Samples that nothing outside their own group can speak for or against.

    Attributes:
        classes: Classes of which every sample lies in one group, int64, ascending.
        is_alone: Their samples, bool, shape (N,).
        is_copy: Samples with more than 20 near-duplicates that were labelled differently, bool, shape (N,): one image,
            to be decided once.
        has_one_group: All samples lie in one group.
    """

    classes: IntArray
    is_alone: BoolArray
    is_copy: BoolArray
    has_one_group: bool

    def standing(self, labels: GivenLabels) -> GivenLabels:
        """Return labels in which these samples stand as given: they are not judged."""
        rows = (self.is_alone | self.is_copy) & ~labels.is_verified
        if not rows.any():
            return labels
        fixed = one_hot(labels.given, labels.num_classes).astype(bool)
        return replace(labels, candidates=np.where(rows[:, None], fixed, labels.candidates))


def find_unvouched(given: IntArray, num_classes: int, groups: IntArray, duplicate_sets: IntArray) -> Unvouched:
    """Return the samples that nothing outside their own group can speak for or against.

    Args:
        given: Given class of each of N samples, int64, shape (N,).
        num_classes: K.
        groups: Group of each sample (near-duplicates joined with the factory's groups), int64, shape (N,).
        duplicate_sets: Number of the near-duplicate set, int64, shape (N,), -1 for samples in none.

    Returns:
        The samples. A class of one sample is judged as ever: it may be a slip of the pen.

    Examples:
        >>> find_unvouched(np.array([0, 0, 1, 1, 1]), 2, np.array([7, 7, 1, 2, 7]), np.full(5, -1)).classes
        array([0])
    """
    first, last = np.full(num_classes, np.iinfo(np.int64).max), np.full(num_classes, -1)
    np.minimum.at(first, given, groups)
    np.maximum.at(last, given, groups)
    classes = np.flatnonzero((first == last) & (np.bincount(given, minlength=num_classes) > 1))
    return Unvouched(classes, np.isin(given, classes), _copies(given, duplicate_sets), bool(np.ptp(groups) == 0))


def alone_sentence(class_names: Sequence[Any]) -> str:
    """Return what is told of classes that lie in one group each."""
    return (
        f"all samples of {listed([str(name) for name in class_names])} lie in one group: nothing outside it can vouch for "
        "them, so their labels stand as given."
    )


def copies_sentence(num_copies: int) -> str:
    """Return what is told of the copies of one image with different labels."""
    return (
        f"{num_copies:,} samples are copies of one image with different labels: it stands in the queue once, and the copies "
        "are not judged one by one."
    )


def exceeds_chance(gain: float, random_gains: Iterable[float], num_classes: int) -> bool:
    """Return whether labels gain more over the class shares than shuffled labels do.

    The gain must be above that of each of 39 shufflings of the labels. They are asked for one by one, and only where the
    gain is not clear by itself: odds of e^30, with a nat for every class share that was fitted.

    Args:
        gain: Log-likelihood of all given labels over that of the class shares, nats.
        random_gains: The same of shuffled labels.
        num_classes: K.

    Returns:
        The verdict.

    Examples:
        >>> exceeds_chance(2.0, [0.5, 1.9], 2), exceeds_chance(2.0, [0.5, 2.1], 2), exceeds_chance(40.0, [], 2)
        (True, False, True)
    """
    return is_clear(gain, num_classes) or (gain > 0 and all(gain > other for other in random_gains))


def is_clear(gain: float, num_classes: int) -> bool:
    """Return whether a gain needs no test."""
    return gain > CLEAR_GAIN + num_classes


def likes_have_like_labels(unit_rows: Float32Array, groups: IntArray, labels: GivenLabels, *, seed: int) -> bool:
    """Return whether similar samples have similar labels more often than shuffled labels would.

    A permutation test of dependence (Gretton et al. 2005) with the cosine: the sum over pairs of x_i'x_j y_i'y_j, y the
    votes less their mean, against 199 shufflings. It needs no probe, only X'Y. Pairs of one group do not count: a group
    cannot vouch for itself. Nor do samples of which only one class is possible: they are not judged.

    Args:
        unit_rows: Centred unit features, float32, shape (N, D).
        groups: Group of each sample, int64, shape (N,).
        labels: Given labels of the N samples.
        seed: Draws the shufflings.

    Returns:
        The verdict.
    """
    is_open = ~labels.is_verified
    if not is_open.any():
        return False
    unit_rows, groups, votes = unit_rows[is_open], groups[is_open], labels.votes[is_open]
    votes = votes - votes.mean(axis=0)
    _, group, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    several = [np.flatnonzero(group == number) for number in np.flatnonzero(sizes > 1)]
    alone = (unit_rows**2).sum(axis=1) * (sizes[group] == 1)
    random, above, left = np.random.default_rng(seed), 0, SHUFFLES
    wanted = _pairs(unit_rows, alone, several, votes[None])[0]
    while left and above <= MOST_ABOVE:
        size = min(left, SHUFFLES_AT_ONCE)
        shuffled = np.stack([votes[random.permutation(len(votes))] for _ in range(size)])
        above, left = above + int((_pairs(unit_rows, alone, several, shuffled) >= wanted).sum()), left - size
    return bool(wanted > ROUNDING * np.abs(unit_rows).sum() and above <= MOST_ABOVE)


def shuffles(labels: GivenLabels, *, seed: int) -> Iterable[GivenLabels]:
    """Yield the labels handed to other samples at random, 39 times; nothing else of them changes."""
    random = np.random.default_rng(seed)
    for _ in range(REFITS):
        yield GivenLabels(labels.votes[random.permutation(len(labels))], np.ones_like(labels.candidates))


def _pairs(unit_rows: Float32Array, alone: Float32Array, several: list[IntArray], votes: Float32Array) -> Float32Array:
    """Sum over pairs of different groups of x_i'x_j y_i'y_j, for R labelings, float32, shape (R,)."""
    within = (votes**2).sum(axis=2) @ alone
    for rows in several:
        within += _squares(unit_rows[rows], votes[:, rows])
    return np.asarray(_squares(unit_rows, votes) - within, dtype=np.float32)


def _squares(unit_rows: Float32Array, votes: Float32Array) -> Float32Array:
    """Sum over all pairs, each sample with itself among them: the squares of X'Y, float32, shape (R,)."""
    num, size, num_classes = votes.shape
    cross = unit_rows.T @ votes.transpose(1, 0, 2).reshape(size, num * num_classes)
    return np.asarray((cross**2).sum(axis=0).reshape(num, num_classes).sum(axis=1), dtype=np.float32)


def _copies(given: IntArray, duplicate_sets: IntArray) -> BoolArray:
    """Members of sets of more than 20 near-duplicates whose labels differ."""
    is_copy, rows = np.zeros(len(given), dtype=bool), np.flatnonzero(duplicate_sets >= 0)
    _, number, counts = np.unique(duplicate_sets[rows], return_inverse=True, return_counts=True)
    least, most = np.full(len(counts), np.iinfo(np.int64).max), np.full(len(counts), -1)
    np.minimum.at(least, number, given[rows])
    np.maximum.at(most, number, given[rows])
    is_copy[rows] = ((counts > MOST_COPIES) & (least < most))[number]
    return is_copy
