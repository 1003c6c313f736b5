"""Leaks between splits: sets of near-copies, or of pictures of one part, that stand in more than one split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from labelclean.arrays import BoolArray, IntArray

SPLIT = "split"
LEAK_SET = "leak_set"


def split_codes(column: pa.ChunkedArray) -> tuple[IntArray, list[str]]:
    """Return the split of every sample as an index into the names of the splits.

    Args:
        column: Column `split`, length N.

    Returns:
        int64, shape (N,), -1 where no split is given; and the names, sorted.

    Examples:
        >>> split_codes(pa.chunked_array([["train", None, "test"]]))
        (array([ 1, -1,  0]), ['test', 'train'])
    """
    plain = column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
    text = plain.cast(pa.string())
    names = sorted(pc.unique(text).drop_null().to_pylist())
    codes = pc.fill_null(pc.index_in(text, value_set=pa.array(names, pa.string())), -1)
    return codes.to_numpy().astype(np.int64), names


def split_leaks(groups: IntArray, splits: IntArray) -> IntArray:
    """Return the sets of samples that belong together but stand in more than one split.

    Args:
        groups: Samples that belong together share a number: near-copies, pictures of one part, and what these join;
            int64, shape (N,).
        splits: Split of each, int64, shape (N,), -1 where none is given.

    Returns:
        Number of the set, int64, shape (N,), numbered by first sample; -1 for samples in none and those without a split.

    Examples:
        >>> split_leaks(np.array([7, 7, 4, 4, 7]), np.array([0, 1, 0, 0, -1]))
        array([ 0,  0, -1, -1, -1])
    """
    leaks = np.full(len(groups), -1)
    known = np.flatnonzero(splits >= 0)
    _, first, sets = np.unique(groups[known], return_index=True, return_inverse=True)
    lowest = splits[known][first]
    is_leak = np.zeros(len(first), dtype=bool)
    is_leak[sets[splits[known] != lowest[sets]]] = True
    order = np.argsort(np.where(is_leak, first, len(groups)), kind="stable")
    numbers = np.full(len(first), -1)
    numbers[order[: is_leak.sum()]] = np.arange(is_leak.sum())
    leaks[known] = numbers[sets]
    return leaks


def leaving(leak_sets: IntArray, splits: IntArray) -> BoolArray:
    """Return which samples to leave out so that every set stands in one split only.

    A set stays in the smallest of its splits, for a sample costs a large split least: what was meant for testing stays
    whole, and training loses some of many.

    Args:
        leak_sets: From `split_leaks`, shape (N,).
        splits: Split of each sample, int64, shape (N,), -1 where none is given.

    Returns:
        bool, shape (N,).

    Examples:
        >>> leaving(np.array([0, 0, -1, -1]), np.array([0, 1, 1, 1]))
        array([False,  True, False, False])
    """
    rows = np.flatnonzero(leak_sets >= 0)
    sizes = np.bincount(splits[splits >= 0], minlength=1)
    place = np.argsort(np.argsort(sizes, kind="stable"))  # of each split, the smallest first
    stays = np.full(int(leak_sets.max(initial=-1)) + 1, len(sizes))
    np.minimum.at(stays, leak_sets[rows], place[splits[rows]])
    is_left = np.zeros(len(splits), dtype=bool)
    is_left[rows] = place[splits[rows]] != stays[leak_sets[rows]]
    return is_left


@dataclass(frozen=True)
class Leaks:
    """What stands on both sides of a split.

    Attributes:
        sets: From `split_leaks`, int64, shape (N,).
        splits: Split of each sample, int64, shape (N,), -1 where none is given.
        names: Names of the splits.
    """

    sets: IntArray
    splits: IntArray
    names: Sequence[str]

    @property
    def num_samples(self) -> int:
        """Samples in such sets."""
        return int((self.sets >= 0).sum())

    @property
    def num_sets(self) -> int:
        """Such sets."""
        return int(self.sets.max(initial=-1)) + 1

    def record(self) -> dict[str, Any]:
        """Return the counts for the summary.

        Returns:
            JSON values: sets and samples that leak, how many of these `apply` would leave out, the same by split, and
            how many sets stand in the same splits.
        """
        left, by_split = leaving(self.sets, self.splits), []
        for code, name in enumerate(self.names):
            own = self.splits == code
            counts = {"leaking": own & (self.sets >= 0), "left_out": own & left}
            by_split.append(
                {"split": name, "num": int(own.sum())} | {key: int(mask.sum()) for key, mask in counts.items()}
            )
        rows = np.flatnonzero(self.sets >= 0)
        held: dict[int, list[int]] = {}
        for number, code in np.unique(np.stack([self.sets[rows], self.splits[rows]], axis=1), axis=0).tolist():
            held.setdefault(number, []).append(code)
        between = sorted(Counter(map(tuple, held.values())).items(), key=lambda pair: (-pair[1], pair[0]))
        return {
            "num_sets": self.num_sets,
            "num_samples": self.num_samples,
            "num_left_out": int(left.sum()),
            "by_split": by_split,
            "between": [{"splits": [self.names[code] for code in codes], "num_sets": num} for codes, num in between],
        }
