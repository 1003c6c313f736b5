"""The hashed sample of all shards, on which choices are made, and its features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from labelclean.arrays import BoolArray, Float32Array, FloatArray, IntArray
from labelclean.cleaning.memory import MOST_BLOCK_ROWS
from labelclean.cleaning.shard_labels import ShardLabels, read_shard_labels
from labelclean.cleaning.shards import Shard, check_finite
from labelclean.labels import GivenLabels
from labelclean.probes.feature_space import SampleKeys


@dataclass(frozen=True)
class Chosen:
    """The n samples whose hashes are smallest, in the order of the shards.

    Attributes:
        parts: Shard of each, int64, shape (n,), ascending.
        rows: Row of each among the samples of its shard, int64, shape (n,).
        places: Row of each in its shard, int64, shape (n,).
        keys: Their keys.
        labels: Their given labels.
        num_samples: Samples of all shards.
        is_old: Samples that are in the sums of a reference already, bool, shape (n,).
        duplicate_sets: Number of the near-duplicate set over all samples, int64, shape (n,), -1 for samples in none.
        pred_probs: Probabilities of the user's own model, float32, shape (n, K), or None.
    """

    parts: IntArray
    rows: IntArray
    places: IntArray
    keys: SampleKeys
    labels: GivenLabels
    num_samples: int
    is_old: BoolArray
    duplicate_sets: IntArray
    pred_probs: Float32Array | None

    def __len__(self) -> int:
        """Samples that were chosen."""
        return len(self.rows)

    @property
    def is_whole(self) -> bool:
        """Whether these are all samples."""
        return len(self) == self.num_samples

    def of_shard(self, number: int) -> slice:
        """Return where those of one shard stand."""
        first, last = np.searchsorted(self.parts, [number, number + 1]).tolist()
        return slice(first, last)

    def numbers(self, starts: IntArray) -> IntArray:
        """Return the number of each over all samples, int64, shape (n,), from `shard_labels.sample_starts`."""
        return np.asarray(starts[self.parts] + self.rows, dtype=np.int64)


def choose_sample(labels: Sequence[Path | ShardLabels], num_classes: int, sample_rows: int) -> Chosen:
    """Return the hashed sample of all shards, reading their labels one after the other.

    Args:
        labels: Labels of each shard, or the file that holds them.
        num_classes: K.
        sample_rows: n, at most.

    Returns:
        The sample.
    """
    lots = parts = rows = np.empty(0, dtype=np.int64)
    total = 0
    for number, path in enumerate(labels):
        known = read_shard_labels(path)
        total += len(known)
        lots = np.concatenate([lots, known.lots])
        parts = np.concatenate([parts, np.full(len(known), number)])
        rows = np.concatenate([rows, np.arange(len(known))])
        if len(lots) > sample_rows:
            least = np.argpartition(lots, sample_rows - 1)[:sample_rows]
            lots, parts, rows = lots[least], parts[least], rows[least]
    by_place = np.lexsort((rows, parts))
    return sample_at(labels, num_classes, parts[by_place], rows[by_place], total)


def sample_at(
    labels: Sequence[Path | ShardLabels], num_classes: int, parts: IntArray, rows: IntArray, num_samples: int
) -> Chosen:
    """Return the samples at some places.

    Args:
        labels: Labels of each shard, or the file that holds them.
        num_classes: K.
        parts: Shard of each, int64, shape (n,), ascending.
        rows: Row of each among the samples of its shard, int64, shape (n,), ascending within a shard.
        num_samples: Samples of all shards.

    Returns:
        The sample.
    """
    places, is_old, sets = np.empty(len(rows), np.int64), np.zeros(len(rows), bool), np.full(len(rows), -1)
    keys: list[SampleKeys] = []
    of_shards: list[GivenLabels] = []
    probs: list[Float32Array] = []
    for number in np.unique(parts).tolist():
        known, at = read_shard_labels(labels[number]), np.flatnonzero(parts == number)
        keys.append(known.keys.take(rows[at]))
        places[at] = rows[at] if known.kept is None else np.flatnonzero(known.kept)[rows[at]]
        is_old[at] = False if known.old is None else known.old[rows[at]]
        sets[at] = -1 if known.duplicate_sets is None else known.duplicate_sets[rows[at]]
        of_shards.append(known.labels(rows[at], num_classes))
        probs += [] if known.pred_probs is None else [known.pred_probs[rows[at]]]
    columns = (np.concatenate([vars(part)[name] for part in keys]) for name in vars(keys[0])) if keys else ()
    return Chosen(
        parts=parts,
        rows=rows,
        places=places,
        keys=SampleKeys(*columns) if keys else SampleKeys(*[np.empty(0, np.int64)] * 4),
        labels=joined_labels(of_shards, num_classes),
        num_samples=num_samples,
        is_old=is_old,
        duplicate_sets=sets,
        pred_probs=np.concatenate(probs) if probs else None,
    )


def read_sample(shards: Sequence[Shard], chosen: Chosen) -> FloatArray:
    """Return the raw features of the sample.

    Args:
        shards: The shards.
        chosen: Which of their rows.

    Returns:
        float16 or float32, shape (n, D).

    Raises:
        TableError: If some are not finite.
    """
    dtype = np.result_type(*(shards[number].dtype for number in np.unique(chosen.parts).tolist()))
    features = np.empty((len(chosen), shards[0].num_features), dtype=dtype)
    for number in np.unique(chosen.parts).tolist():
        at = chosen.of_shard(number)
        features[at] = shards[number].take(chosen.places[at], MOST_BLOCK_ROWS)
        check_finite(shards[number].name, features[at], chosen.places[at])
    return features


def joined_labels(of_shards: Sequence[GivenLabels], num_classes: int) -> GivenLabels:
    """Return the labels of several shards, one after the other."""
    if not of_shards:
        return GivenLabels(np.empty((0, num_classes), np.float32), np.empty((0, num_classes), bool))
    before: Any = None
    audited: Any = None
    if any(labels.before_review is not None for labels in of_shards):
        before = np.concatenate([labels.observed for labels in of_shards])
    if any(labels.is_audited is not None for labels in of_shards):
        nobody = (np.zeros(len(labels), dtype=bool) for labels in of_shards)
        audited = np.concatenate(
            [
                none if labels.is_audited is None else labels.is_audited
                for labels, none in zip(of_shards, nobody, strict=True)
            ]
        )
    num_votes: Any = None
    if any(labels.num_votes is not None for labels in of_shards):
        ones = (np.ones(len(labels), dtype=np.float32) for labels in of_shards)
        num_votes = np.concatenate(
            [
                single if labels.num_votes is None else labels.num_votes
                for labels, single in zip(of_shards, ones, strict=True)
            ]
        )
    votes, candidates = (
        np.concatenate([labels.votes for labels in of_shards]),
        np.concatenate([labels.candidates for labels in of_shards]),
    )
    return GivenLabels(votes, candidates, before, audited, num_votes)
