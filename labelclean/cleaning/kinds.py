"""Images that fit no class, put into kinds by the lists of nearest neighbours: proposals for a person to name.

An image may fit no class for two reasons. Even the last of its listed neighbours (the 20th) lies far away: there are few
like it, however near these few are. Or its label is worth a look and no class has the majority in what the image says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from labelclean.arrays import BoolArray, Float32Array, FloatArray, IntArray
from labelclean.cleaning.passes import Blocks, ShardSet
from labelclean.cleaning.population import Taught
from labelclean.cleaning.power import powered
from labelclean.cleaning.shard_labels import sample_starts
from labelclean.probes.feature_space import Centring
from labelclean.probes.neighbours import Neighbours, nearest_neighbours
from labelclean.probes.sums import unit_block

CLOSE, USUAL = 5, 10
MAJORITY = 0.5
LEAST_MEMBERS = 3


@dataclass(frozen=True)
class Kinds:
    """Images by proposed kind; rows are aligned.

    Attributes:
        kind: Number of the kind, from 1 on, the largest first, int64, shape (P,); 0 for images in none.
        place: Place of the image in its kind, 1 = nearest to the others, int64, shape (P,).
    """

    kind: IntArray
    place: IntArray


def reach(near: Neighbours) -> FloatArray:
    """Return how near the 5th, the 10th and the last of each sample's listed neighbours are.

    Args:
        near: Neighbours of N samples, (N, M).

    Returns:
        Cosine similarities, float32, shape (N, 3); NaN where there are fewer.
    """
    width = near.index.shape[1]
    at = [min(CLOSE, width) - 1, min(USUAL, width) - 1, width - 1]
    return np.where(near.index[:, at] >= 0, near.similarity[:, at], np.float32(np.nan))


def lies_far(last: FloatArray, limit: float) -> BoolArray:
    """Return the images whose last listed neighbour lies far, by the robust z-score of its similarity.

    Args:
        last: Similarity to the last listed neighbour, shape (N,), NaN where there are fewer.
        limit: z-score from which it lies far.

    Returns:
        bool, shape (N,).

    Examples:
        >>> lies_far(np.array([0.6, 0.61, 0.59, 0.62, 0.1, np.nan]), 5.0)
        array([False, False, False, False,  True, False])
    """
    known = last[~np.isnan(last)]
    middle = np.median(known) if len(known) else 0.0
    spread = 1.4826 * np.median(np.abs(known - middle)) if len(known) else 0.0
    return np.asarray(np.nan_to_num(middle - last, nan=0.0) > limit * max(float(spread), 1e-6), dtype=bool)


def fits_no_class(is_far: BoolArray, is_small: BoolArray, is_label_issue: BoolArray, best: FloatArray) -> BoolArray:
    """Return the images that fit no class.

    The members of a class with fewer samples than neighbours are listed are few by nature: of these, lying far alone does
    not count.

    Args:
        is_far: From `lies_far`, shape (N,).
        is_small: Whether the given class has no more samples than neighbours are listed, shape (N,).
        is_label_issue: Labels worth a look, shape (N,).
        best: Probability of the likeliest class by the image alone, shape (N,).

    Returns:
        bool, shape (N,).
    """
    return np.asarray((is_far & ~is_small) | (is_label_issue & (is_far | (best < MAJORITY))), dtype=bool)


def proposed_kinds(unit_rows: Float32Array, is_answer: BoolArray, least: float) -> Kinds:
    """Return images by kind: those that are among each other's 5 nearest, and as near as usual neighbours are, are joined.

    A kind holds at least 3 images, or one of which a person said that it fits no class.

    Args:
        unit_rows: Centred unit features of the P images, float32, shape (P, D).
        is_answer: Of which a person said so, shape (P,).
        least: Similarity of usual neighbours.

    Returns:
        The kinds.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    size = len(unit_rows)
    near = nearest_neighbours(unit_rows, CLOSE, method="auto")
    left = np.repeat(np.arange(size), near.index.shape[1])
    joins = (near.index.ravel() >= 0) & (near.similarity.ravel() >= least)
    graph = coo_array((np.ones(joins.sum(), bool), (left[joins], near.index.ravel()[joins])), (size, size)).tocsr()
    _, part = connected_components(graph.multiply(graph.T), directed=False)
    members = np.bincount(part)
    answers = np.bincount(part, weights=is_answer)
    wanted = np.flatnonzero((members >= LEAST_MEMBERS) | (answers > 0))
    first = np.array([np.flatnonzero(part == component)[0] for component in wanted.tolist()], dtype=np.int64)
    order = wanted[np.lexsort((first, -members[wanted]))]
    kind, place = np.zeros(size, dtype=np.int64), np.zeros(size, dtype=np.int64)
    for number, component in enumerate(order.tolist(), start=1):
        rows = np.flatnonzero(part == component)
        typical = unit_rows[rows] @ unit_rows[rows].sum(axis=0)
        kind[rows], place[rows[np.argsort(-typical, kind="stable")]] = number, np.arange(1, len(rows) + 1)
    return Kinds(kind, place)


@dataclass(frozen=True)
class RowsOf:
    """Centred unit features of any images of a run.

    Attributes:
        taught: The teacher, for shards, power and centring.
    """

    taught: Taught

    @property
    def shard_set(self) -> ShardSet:
        """The shards, for unit features alone."""
        return replace(self.taught.shard_set, centring=Centring(self.taught.space.design.sums.mean), lists=())

    def judged(self, numbers: IntArray) -> Float32Array:
        """Return those of some samples, by their numbers over all, ascending; float32, shape (n, D)."""
        shard_set, starts = self.shard_set, sample_starts(self.taught.shard_set.labels)
        shards = np.searchsorted(starts, numbers, side="right") - 1
        rows = [
            shard_set.unit_rows(shard, numbers[shards == shard] - starts[shard]) for shard in np.unique(shards).tolist()
        ]
        return np.concatenate(rows) if rows else self._none()

    def aside(self, places: Sequence[IntArray]) -> Float32Array:
        """Return those of images that are not judged, by their rows in each shard; float32, shape (n, D)."""
        shard_set = self.shard_set
        rows = [
            unit_block(powered(shard_set.shards[number].take(at, len(at)), shard_set.power), shard_set.centring.mean)
            for number, at in enumerate(places)
            if len(at)
        ]
        return np.concatenate(rows) if rows else self._none()

    def nearest(self, rows: Float32Array, num_parts: int) -> Float32Array:
        """Return how near the nearest of some rows is to each sample of the first shards, float32, shape (N,)."""
        shard_set, nearest = self.shard_set, []
        blocks = Blocks(shard_set)
        for number in range(num_parts):
            for block in blocks.of(number):
                best = (block.rows[0] @ rows.T).max(axis=1)
                nearest.append(best[np.argsort(block.samples, kind="stable")])
        return np.concatenate(nearest)

    def _none(self) -> Float32Array:
        return np.empty((0, len(self.shard_set.centring.mean)), dtype=np.float32)
