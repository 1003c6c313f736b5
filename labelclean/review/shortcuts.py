"""What else tells the label: how well a column or a property of the picture foretells it, against chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from labelclean.arrays import FloatArray, IntArray

BINS = 10
MOST_VALUES = 40
SHUFFLES = 99  # so that one of a hundred columns that tell nothing exceeds all of them
MAX_EXAMPLES = 3
MAX_PICTURES = 3


@dataclass(frozen=True)
class Known:
    """The samples whose labels are foretold; rows are aligned.

    Attributes:
        given: Given class, int64, shape (N,).
        groups: Samples that belong together share a number, int64, shape (N,).
        folds: Fold of each; a group lies in one; int64, shape (N,).
        num_classes: K.
    """

    given: IntArray
    groups: IntArray
    folds: IntArray
    num_classes: int

    def take(self, rows: IntArray) -> Known:
        """Return some of the samples."""
        return Known(self.given[rows], self.groups[rows], self.folds[rows], self.num_classes)

    @property
    def entropy(self) -> float:
        """What there is to tell of a label, in nats."""
        shares = np.bincount(self.given, minlength=self.num_classes) / max(len(self.given), 1)
        return float(-(shares[shares > 0] * np.log(shares[shares > 0])).sum())


@dataclass(frozen=True)
class Shortcut:
    """How much a column or a property tells of the label.

    Attributes:
        name: The column or property.
        is_property: A property of the picture, not a column.
        gain: Mean gain in log-likelihood over the class shares, cross-fitted, nats per label.
        chance: The most that shuffled values gain, at least 0.
        share: Gain as a share of all that there is to tell, the entropy of the classes.
        num: Samples that it was measured on.
        examples: Values that tell most, with the class that they tell.
    """

    name: str
    is_property: bool
    gain: float
    chance: float
    share: float
    num: int
    examples: tuple[Example, ...] = ()

    @property
    def exceeds_chance(self) -> bool:
        """Whether it tells more than shuffled values do."""
        return self.gain > self.chance


@dataclass(frozen=True)
class Example:
    """A value and the class that it tells.

    Attributes:
        value: Index of the value.
        given: The class.
        num: Samples with the value.
        share: Share of the class among them.
        usual: Its share among all.
        rows: Some of these samples.
    """

    value: int
    given: int
    num: int
    share: float
    usual: float
    rows: tuple[int, ...]


def binned(values: FloatArray) -> tuple[IntArray, list[str]]:
    """Return numbers as tenths of their distribution.

    Args:
        values: Numbers, shape (N,); NaN where missing.

    Returns:
        Bin, int64, shape (N,), and what each holds; equal numbers share a bin.

    Examples:
        >>> binned(np.array([1.0, 1.0, 2.0, np.nan]))
        (array([0, 0, 1, 2]), ['1', '2', ''])
    """
    known = np.isfinite(values)
    tenths = np.arange(1, BINS) / BINS
    edges = np.unique(np.quantile(values[known], tenths, method="lower")) if known.any() else np.empty(0)
    bins = np.searchsorted(edges, values, side="left")
    bins = np.unique(np.where(known, bins, BINS + 1), return_inverse=True)[1].astype(np.int64)
    return bins, [_range(values[bins == one]) for one in range(int(bins.max(initial=-1)) + 1)]


def measure_shortcut(
    name: str, values: IntArray, known: Known, *, is_property: bool = False, seed: int = 0
) -> Shortcut:
    """Return how much values tell of the label, and how much they would tell by chance.

    Classes of each value are counted in the other folds, the class shares there weighing as much as one sample, so that
    a value that hardly occurs tells nothing. For the chance level, values are handed out anew: groups keep their size and
    their order inside, but lie elsewhere, so that pictures of one part do not count as many.

    Args:
        name: The column or property.
        values: Value of each sample, int64, shape (N,), from 0.
        known: The samples.
        is_property: A property of the picture.
        seed: Draws the shuffles.

    Returns:
        The measurement.
    """
    gain = cross_fitted_gain(values, known)
    rng, chance = np.random.default_rng(seed), 0.0
    _, groups = np.unique(known.groups, return_inverse=True)
    in_order = _in_order(groups, rng)
    for _ in range(SHUFFLES):
        shuffled = np.empty_like(values)
        shuffled[in_order] = values[_in_order(groups, rng)]
        chance = max(chance, cross_fitted_gain(shuffled, known))
    entropy = known.entropy
    share = gain / entropy if entropy else 0.0
    return Shortcut(name, is_property, gain, chance, share, len(values), _examples(values, known))


def cross_fitted_gain(values: IntArray, known: Known) -> float:
    """Return the mean gain in log-likelihood over the class shares, in nats per label.

    Args:
        values: Value of each sample, int64, shape (N,), from 0.
        known: The samples.

    Returns:
        The gain; below 0 where values tell nothing.

    Examples:
        >>> two = Known(np.array([0, 1, 0, 1]), np.arange(4), np.array([0, 0, 1, 1]), 2)
        >>> round(cross_fitted_gain(np.array([0, 1, 0, 1]), two), 3)  # log (1 + 1/2) / 2 - log 1/2
        0.405
    """
    if not len(values):
        return 0.0
    shape = (int(known.folds.max()) + 1, int(values.max()) + 1, known.num_classes)
    counts = np.bincount(np.ravel_multi_index((known.folds, values, known.given), shape), minlength=np.prod(shape))
    counts = counts.reshape(shape)
    others = counts.sum(axis=0) - counts
    shares = others.sum(axis=1, keepdims=True) + 1 / known.num_classes
    shares /= shares.sum(axis=2, keepdims=True)
    probs = (others + shares) / (others.sum(axis=2, keepdims=True) + 1)
    return float((counts * np.log(probs / shares)).sum() / len(values))


def shortcut_record(
    shortcut: Shortcut, values: Sequence[str], names: Sequence[str], ids: Sequence[str]
) -> dict[str, Any]:
    """Return a measurement for the summary.

    Args:
        shortcut: The measurement.
        values: What each value is called.
        names: The K class names.
        ids: Ids of the samples that it was measured on.

    Returns:
        JSON values.
    """
    return {
        "name": shortcut.name,
        "is_property": shortcut.is_property,
        "gain": round(shortcut.gain, 4),
        "chance": round(shortcut.chance, 4),
        "share": round(shortcut.share, 4),
        "exceeds_chance": shortcut.exceeds_chance,
        "num": shortcut.num,
        "examples": [
            {
                "value": values[one.value],
                "class_name": names[one.given],
                "num": one.num,
                "share": round(one.share, 4),
                "usual": round(one.usual, 4),
                "sample_ids": [ids[row] for row in one.rows],
            }
            for one in (shortcut.examples if shortcut.exceeds_chance else ())
        ],
    }


def _in_order(groups: IntArray, rng: np.random.Generator) -> IntArray:
    """Rows, group after group in random order."""
    return np.argsort(rng.permutation(int(groups.max(initial=-1)) + 1)[groups], kind="stable")


def _examples(values: IntArray, known: Known) -> tuple[Example, ...]:
    """The values that tell most of a class, each with some of its samples."""
    shape = (int(values.max(initial=0)) + 1, known.num_classes)
    counts = np.bincount(np.ravel_multi_index((values, known.given), shape), minlength=np.prod(shape)).reshape(shape)
    usual, totals = counts.sum(axis=0) / max(len(values), 1), counts.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        gains = np.where(counts > 0, counts * np.log(counts / totals[:, None] / usual), 0.0)
    found = []
    for at in np.argsort(-gains, axis=None, kind="stable")[:MAX_EXAMPLES].tolist():
        value, given = divmod(at, known.num_classes)
        if gains[value, given] > 0:
            rows = np.flatnonzero((values == value) & (known.given == given))[:MAX_PICTURES]
            share, num = float(counts[value, given] / totals[value]), int(totals[value])
            found.append(Example(value, given, num, share, float(usual[given]), tuple(rows.tolist())))
    return tuple(found)


def _range(values: FloatArray) -> str:
    """Smallest and largest number, or nothing where they are missing."""
    low, high = (f"{end:.4g}" for end in (values.min(), values.max()))
    return "" if not np.isfinite(values).all() else low if low == high else f"{low} – {high}"
