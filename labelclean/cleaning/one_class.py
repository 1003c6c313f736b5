"""Images of one class, ranked by how little they look like the others: no other class can be suggested.

Two things count alike: how far an image lies from its 10 nearest neighbours, and how far that is against how far these lie
from theirs (as in the local outlier factor, Breunig et al. 2000), for the images of a loose bunch are no more odd than those
of a dense one. Features are not centred: around the middle of a single class all directions are alike, and what tells is how
far off an image lies. Near-duplicates and images of one group are no neighbours, so a defect that was taken twice does not
vouch for itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from labelclean.arrays import BoolArray, Float64Array, FloatArray, IntArray
from labelclean.cleaning.neighbour_lists import read_lists
from labelclean.cleaning.neighbour_pass import find_neighbours, joined
from labelclean.cleaning.passes import Each, ShardSet
from labelclean.cleaning.sample import choose_sample, read_sample
from labelclean.cleaning.shard_labels import ShardLabels, read_shard_labels, sample_starts
from labelclean.cleaning.shards import Shard
from labelclean.config import CleaningConfig
from labelclean.errors import ConfigError
from labelclean.noise.trust import JudgedLabels
from labelclean.probes.feature_space import VOTERS, Centring, SampleKeys, num_voters
from labelclean.probes.neighbours import (
    SPARE_NEIGHBOURS,
    Neighbours,
    copies_of,
    duplicate_pairs,
    duplicate_threshold,
    joined_groups,
    near_duplicate_sets,
    nearest_neighbours,
    outside_group,
    with_copies,
)
from labelclean.probes.sums import centred_unit_rows, span_coordinates

LEAST_DISTANCE = 1e-6


@dataclass(frozen=True)
class Oddity:
    """How little each of N images looks like the others.

    Attributes:
        values: From `oddity_of`, float64, shape (N,), high = odd; NaN for images without neighbours.
        duplicate_sets: Number of the near-duplicate set, int64, shape (N,), -1 for images in none.
        lists: The neighbours of the images of a shard, by its number.
    """

    values: Float64Array
    duplicate_sets: IntArray
    lists: Callable[[int], Neighbours]


def measure_oddity(
    shards: Sequence[Shard],
    labels: Sequence[Path | ShardLabels],
    config: CleaningConfig,
    *,
    sample_rows: int,
    folder: Path,
    digest: str,
    device: str = "cpu",
    each: Each = map,
) -> Oddity:
    """Return how little each image of some shards looks like the others; by the same lists of neighbours as a cleaning.

    Args:
        shards: The feature shards.
        labels: Labels of each, or the file that holds them.
        config: Section `neighbours` is read.
        sample_rows: Samples whose neighbours are sought in memory; of more, by passes over the shards.
        folder: Where the lists of these lie.
        digest: Of everything that a result hangs on.
        device: Torch device.
        each: Applies a function to all shards.

    Returns:
        The oddity, in the order of the shards.

    Raises:
        ConfigError: If neighbours are left out.
    """
    if config.neighbours.method == "none":
        raise ConfigError(
            "neighbours.method must not be none with one class: images are ranked by their neighbours. Take auto."
        )
    chosen = choose_sample(labels, 1, sample_rows)
    features = read_sample(shards, chosen)
    starts = sample_starts(labels)
    if chosen.is_whole:
        near, sets = _neighbours(features, chosen.keys, config, device)

        def held(number: int) -> Neighbours:
            return near.take(np.arange(starts[number], starts[number + 1]))

        return Oddity(_joined_oddity([held(number) for number in range(len(labels))]), sets, held)
    mean = np.zeros(features.shape[1])
    shard_set = ShardSet(
        tuple(shards), tuple(labels), 1, config.teacher.folds, 1.0, Centring(mean), folder, digest, device
    )
    shard_set, _ = find_neighbours(shard_set, chosen, centred_unit_rows(features, mean), config, each)
    shard_set, _ = joined(shard_set, config, is_vouched=True, each=each)

    def stored(number: int) -> Neighbours:
        size = int(starts[number + 1] - starts[number])
        return read_lists(shard_set.lists[number], np.arange(size))

    known = [read_shard_labels(labels) for labels in shard_set.labels]
    joined_sets = [
        np.full(len(labels), -1) if labels.duplicate_sets is None else labels.duplicate_sets for labels in known
    ]
    oddity = _joined_oddity([stored(number) for number in range(len(labels))])
    return Oddity(oddity, np.concatenate(joined_sets), stored)


def _neighbours(
    features: FloatArray, keys: SampleKeys, config: CleaningConfig, device: str
) -> tuple[Neighbours, IntArray]:
    """Neighbours of other groups, near-duplicates joined, and the near-duplicate sets; as `space_of_keys` finds them."""
    rows = centred_unit_rows(features, np.zeros(features.shape[1]))
    unit_rows, settings = span_coordinates(rows), config.neighbours
    nearest = nearest_neighbours(
        unit_rows,
        num_voters(config) + SPARE_NEIGHBOURS,
        method="auto" if settings.method == "none" else settings.method,
        exact_limit=settings.exact_limit,
        device=device,
    )
    threshold = settings.duplicate_similarity or duplicate_threshold(nearest.similarity)
    sets = near_duplicate_sets(*duplicate_pairs(nearest, threshold), len(unit_rows), threshold)
    sets = with_copies(sets, copies_of(features))
    groups = joined_groups(keys.groups, sets)
    return outside_group(nearest, groups, unit_rows, num_voters(config), device=device), sets


def _joined_oddity(lists: Sequence[Neighbours]) -> Float64Array:
    """The oddity of the images of all shards."""
    index = np.concatenate([near.index[:, : VOTERS[0]] for near in lists])
    similarity = np.concatenate([near.similarity[:, : VOTERS[0]] for near in lists])
    return oddity_of(Neighbours(index, similarity))


def oddity_of(near: Neighbours) -> Float64Array:
    """Return log d + log(d / d'), d the mean distance to the neighbours and d' the mean of theirs.

    Args:
        near: Neighbours of all N samples, (N, M).

    Returns:
        float64, shape (N,); NaN for samples without neighbours.

    Examples:
        >>> near = Neighbours(np.array([[1], [0], [1]]), np.array([[0.9], [0.9], [0.6]], dtype=np.float32))
        >>> np.exp(oddity_of(near)).round(2)  # 0.1 x 1, 0.1 x 1, 0.4 x 4
        array([0.1, 0.1, 1.6])
    """
    is_there = near.index >= 0
    distance = np.where(is_there, 1.0 - near.similarity.astype(np.float64), np.nan)
    num = is_there.sum(axis=1)
    total = np.where(is_there, distance, 0.0).sum(axis=1)
    own = np.maximum(np.divide(total, num, out=np.full(len(num), np.nan), where=num > 0), LEAST_DISTANCE)
    theirs = np.where(is_there & ~np.isnan(own[near.index]), own[near.index], 0.0)
    count = (is_there & ~np.isnan(own[near.index])).sum(axis=1)
    around = np.divide(theirs.sum(axis=1), count, out=np.full(len(num), np.nan), where=count > 0)
    return np.asarray(2 * np.log(own) - np.log(around), dtype=np.float64)


def judge_odd(oddity: FloatArray, is_settled: BoolArray, share: float, num_taken_out: int = 0) -> JudgedLabels:
    """Return the images of one class as judged labels: so many are worth a look as are expected not to belong to it.

    The chance that an image does not belong is logistic in the robust z-score of its oddity, and set so that its mean is the
    stated share.

    Args:
        oddity: From `measure_oddity`, shape (N,).
        is_settled: Images that people have decided, shape (N,).
        share: Share of the open images, those taken out among them, that are expected not to belong to the class, 0..1.
        num_taken_out: Images that people found not to belong, and that are not among these N.

    Returns:
        The judged labels; every predicted class is the given one.
    """
    is_open = ~is_settled & ~np.isnan(oddity)
    wrong, is_issue = np.zeros(len(oddity)), np.zeros(len(oddity), dtype=bool)
    rows = np.flatnonzero(is_open)
    if len(rows):
        values = np.asarray(oddity, dtype=np.float64)[rows]
        middle = np.median(values)
        spread = max(1.4826 * float(np.median(np.abs(values - middle))), 1e-9)
        expected = max(share * (len(rows) + num_taken_out) - num_taken_out, 0.0)
        if expected > 0:
            wrong[rows] = _with_mean((values - middle) / spread, expected / len(rows))
        is_issue[rows[np.argsort(-values, kind="stable")[: round(expected)]]] = True
    scores = (1.0 - wrong).astype(np.float32)
    size = len(scores)
    return JudgedLabels(
        soft_labels=np.ones((size, 1), dtype=np.float32),
        predicted=np.zeros(size, dtype=np.int64),
        label_scores=scores,
        is_label_issue=is_issue,
        reading_scores=np.tile(scores, (3, 1)),
        reading_gains=np.zeros((4, size), dtype=np.float32),
    )


def _with_mean(z: Float64Array, share: float) -> Float64Array:
    """1 / (1 + exp(c - z)) with c such that the mean is the share, by halving."""
    from scipy.special import expit

    low, high = float(z.min()) - 40.0, float(z.max()) + 40.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if float(expit(z - middle).mean()) > share else (low, middle)
    return np.asarray(expit(z - high), dtype=np.float64)
