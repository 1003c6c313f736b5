"""The hashed sample of all shards, on which choices are made, and its features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from labelclean.arrays import Float32Array, Float64Array, IntArray
from labelclean.cleaning.memory import MOST_BLOCK_ROWS
from labelclean.cleaning.shard_labels import read_part_labels
from labelclean.cleaning.shards import Shard
from labelclean.config import CleaningConfig
from labelclean.labels import GivenLabels
from labelclean.probes.feature_space import FeatureSpace
from labelclean.probes.kernel import Kernel, fit_kernel, raw_kernel_rows
from labelclean.probes.ridge import Design, design_of_sums
from labelclean.probes.sums import FeatureSums, feature_mean, unit_block


@dataclass(frozen=True)
class Chosen:
    """The n samples whose hashes are smallest.

    Attributes:
        parts: Shard of each, int64, shape (n,).
        rows: Row of each among the samples of its shard, int64, shape (n,); sorted by fold.
        places: Row of each in its shard, int64, shape (n,).
        folds: int64, shape (n,), ascending.
        buckets: int64, shape (n,).
        labels: Their given labels.
        order: Positions by hash, int64, shape (n,).
        num_samples: Samples of all shards.
    """

    parts: IntArray
    rows: IntArray
    places: IntArray
    folds: IntArray
    buckets: IntArray
    labels: GivenLabels
    order: IntArray
    num_samples: int

    def take(self, at: IntArray) -> Chosen:
        """Return some of them, at ascending positions."""
        rows = (self.parts[at], self.rows[at], self.places[at], self.folds[at], self.buckets[at])
        return Chosen(*rows, self.labels.take(at), np.arange(len(at)), self.num_samples)


def choose_sample(labels: Sequence[Path], num_classes: int, sample_rows: int) -> Chosen:
    """Return the hashed sample of all shards, reading their labels one after the other.

    Args:
        labels: File with the labels of each shard.
        num_classes: K.
        sample_rows: n, at most.

    Returns:
        The sample.
    """
    lots = parts = rows = np.empty(0, dtype=np.int64)
    total = 0
    for number, path in enumerate(labels):
        known = read_part_labels(path)
        total += len(known)
        lots = np.concatenate([lots, known.lots])
        parts = np.concatenate([parts, np.full(len(known), number)])
        rows = np.concatenate([rows, np.arange(len(known))])
        if len(lots) > sample_rows:
            least = np.argpartition(lots, sample_rows - 1)[:sample_rows]
            lots, parts, rows = lots[least], parts[least], rows[least]
    by_place = np.lexsort((rows, parts))
    lots, parts, rows = lots[by_place], parts[by_place], rows[by_place]
    folds, buckets, places = (np.empty(len(rows), dtype=np.int64) for _ in range(3))
    found: list[GivenLabels] = []
    for number in np.unique(parts).tolist():
        known, at = read_part_labels(labels[number]), np.flatnonzero(parts == number)
        folds[at], buckets[at] = known.folds[rows[at]], known.buckets[rows[at]]
        places[at] = rows[at] if known.kept is None else np.flatnonzero(known.kept)[rows[at]]
        found.append(known.labels(rows[at], num_classes))
    by_fold = np.argsort(folds, kind="stable")
    joined = _joined(found).take(by_fold)
    return Chosen(
        parts=parts[by_fold],
        rows=rows[by_fold],
        places=places[by_fold],
        folds=folds[by_fold],
        buckets=buckets[by_fold],
        labels=joined,
        order=np.argsort(lots[by_fold], kind="stable"),
        num_samples=total,
    )


def read_sample(shards: Sequence[Shard], chosen: Chosen) -> Float32Array:
    """Return the raw features of the sample.

    Args:
        shards: The shards.
        chosen: Which of their rows.

    Returns:
        float32, shape (n, D).
    """
    features = np.empty((len(chosen.rows), shards[0].num_features), dtype=np.float32)
    for number in np.unique(chosen.parts).tolist():
        at = np.flatnonzero(chosen.parts == number)
        at = at[np.argsort(chosen.places[at], kind="stable")]
        features[at] = shards[number].take(chosen.places[at], MOST_BLOCK_ROWS)
    return features


def sample_space(
    features: Float32Array,
    chosen: Chosen,
    config: CleaningConfig,
    mean: Float64Array | None = None,
    curve: tuple[Kernel, Float64Array] | None = None,
) -> tuple[FeatureSpace, tuple[Kernel, Float64Array] | None]:
    """Return the sample's features, with no sums yet, and the kernel of its landmarks.

    Args:
        features: The raw features of the n samples, float32, shape (n, D); overwritten.
        chosen: The sample.
        config: `teacher.landmarks` is read.
        mean: Centring of a reference; default: the sample's mean.
        curve: Kernel of a reference and the centring of its rows; default: made of the sample.

    Returns:
        The space, and kernel and centring; None if switched off.
    """
    mean = feature_mean(features) if mean is None else mean
    for start in range(0, len(features), MOST_BLOCK_ROWS):
        some = features[start : start + MOST_BLOCK_ROWS]
        unit_block(some, mean, out=some)
    landmarks = np.sort(chosen.order[: config.teacher.landmarks])
    kernel, centre = curve if curve is not None else (None, None)
    if curve is None and len(landmarks) >= 2:
        kernel = fit_kernel(features[landmarks])
    curved = None
    if kernel is not None:
        rows = np.empty((len(features), kernel.num_columns), dtype=np.float32)
        for start in range(0, len(features), MOST_BLOCK_ROWS):
            some = features[start : start + MOST_BLOCK_ROWS]
            rows[start : start + MOST_BLOCK_ROWS] = raw_kernel_rows(kernel, some)
        centre = feature_mean(rows) if centre is None else centre
        rows -= centre.astype(np.float32)
        curved = Design(rows, chosen.folds, _no_sums(centre), ())
        curve = (kernel, centre)
    numbers = np.arange(len(features))
    space = FeatureSpace(
        design=Design(features, chosen.folds, _no_sums(mean), ()),
        curved=curved,
        neighbours=None,
        duplicate_sets=np.full(len(features), -1),
        duplicate_similarity=1.0,
        groups=numbers,
        buckets=chosen.buckets,
        bucket_sums=None,
        selection=chosen.order,
    )
    return space, curve


def with_sums(design: Design, sums: FeatureSums) -> Design:
    """Return the sample's rows with the sums and decompositions of all samples."""
    return design_of_sums(design.unit_rows, design.folds, sums)


def _no_sums(mean: Float64Array) -> FeatureSums:
    return FeatureSums(mean, np.empty(0), np.empty((0, len(mean))), np.empty((0, len(mean), len(mean))))


def _joined(found: Sequence[GivenLabels]) -> GivenLabels:
    """Labels of several shards, one after the other."""
    before: Any = None
    audited: Any = None
    if any(one.before_review is not None for one in found):
        before = np.concatenate([one.observed for one in found])
    if any(one.is_audited is not None for one in found):
        nobody = (np.zeros(len(one), dtype=bool) for one in found)
        audited = np.concatenate(
            [none if one.is_audited is None else one.is_audited for one, none in zip(found, nobody, strict=True)]
        )
    num_votes: Any = None
    if any(one.num_votes is not None for one in found):
        ones = (np.ones(len(one), dtype=np.float32) for one in found)
        num_votes = np.concatenate(
            [single if one.num_votes is None else one.num_votes for one, single in zip(found, ones, strict=True)]
        )
    votes, candidates = np.concatenate([one.votes for one in found]), np.concatenate([one.candidates for one in found])
    return GivenLabels(votes, candidates, before, audited, num_votes)
