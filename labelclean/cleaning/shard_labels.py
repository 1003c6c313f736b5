"""The labels of one shard beside its features: given classes, keys, and what reviewers or several inspectors said."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from labelclean.arrays import BoolArray, Float32Array, IntArray
from labelclean.labels import GivenLabels, given_labels, one_hot
from labelclean.probes.feature_space import SampleKeys
from labelclean.storage.parquet import atomic_path


@dataclass(frozen=True)
class ShardLabels:
    """The samples of one shard; all arrays but ``kept`` have one row per sample that counts.

    Attributes:
        given: Given class, int32, shape (n,).
        folds: Fold, uint8, shape (n,).
        lots: Hash by which samples are chosen, int64, shape (n,).
        buckets: Hash bucket for bootstraps, uint8, shape (n,).
        groups: Hash of the group, or of the sample where it has none, int64, shape (n,).
        kept: Which rows of the shard count, bool, shape (m,); None: all.
        old: Samples that are in the sums of a reference already, bool, shape (n,); None: none.
        odd: Rows that are not plainly one label, int64, shape (q,), ascending.
        votes: Their votes, float32, shape (q, K).
        candidates: Their possible classes, bool, shape (q, K).
        observed: Their votes before review, float32, shape (q, K).
        audited: Which of them are verified and were drawn at random over all, bool, shape (q,); None: none.
        num_votes: How many inspectors each row of votes stands for, float32, shape (n,); None: one.
        stands: Samples that are not judged, for nothing can vouch for or against them, bool, shape (n,); None: none.
        duplicate_sets: Number of the near-duplicate set over all samples, int64, shape (n,), -1 for samples in none; None:
            none.
        conflict_sets: The same, -1 also where all labels of the set agree.
        pred_probs: Probabilities of the user's own model, float32, shape (n, K); None where he brings none.
    """

    given: npt.NDArray[np.int32]
    folds: npt.NDArray[np.uint8]
    lots: IntArray
    buckets: npt.NDArray[np.uint8]
    groups: IntArray
    kept: BoolArray | None = None
    old: BoolArray | None = None
    odd: IntArray | None = None
    votes: npt.NDArray[np.float32] | None = None
    candidates: BoolArray | None = None
    observed: npt.NDArray[np.float32] | None = None
    audited: BoolArray | None = None
    num_votes: npt.NDArray[np.float32] | None = None
    stands: BoolArray | None = None
    duplicate_sets: IntArray | None = None
    conflict_sets: IntArray | None = None
    pred_probs: Float32Array | None = None

    def __len__(self) -> int:
        """Samples that count."""
        return len(self.given)

    @property
    def keys(self) -> SampleKeys:
        """Keys of the samples."""
        folds, buckets = self.folds.astype(np.int64), self.buckets.astype(np.int64)
        return SampleKeys(self.lots, self.groups, folds, buckets)

    @property
    def digest(self) -> str:
        """Digest of all that a result hangs on."""
        digest = hashlib.sha256()
        for name, values in vars(self).items():
            digest.update(name.encode() if values is None else np.ascontiguousarray(values).tobytes())
        return digest.hexdigest()

    def with_keys(self, keys: SampleKeys) -> ShardLabels:
        """Return the same with other keys."""
        folds, buckets = keys.folds.astype(np.uint8), keys.buckets.astype(np.uint8)
        return replace(self, folds=folds, buckets=buckets, groups=keys.groups)

    def labels(self, rows: IntArray, num_classes: int) -> GivenLabels:
        """Return the labels of some samples.

        Args:
            rows: Their rows, int64, shape (B,).
            num_classes: K.

        Returns:
            Labels aligned with ``rows``.
        """
        voted = self._voted(rows, num_classes)
        if self.stands is None or not self.stands[rows].any():
            return voted
        fixed = one_hot(voted.given, num_classes).astype(bool)
        return replace(voted, candidates=np.where(self.stands[rows, None], fixed, voted.candidates))

    def _voted(self, rows: IntArray, num_classes: int) -> GivenLabels:
        """What people said of some samples."""
        plain = given_labels(self.given[rows], num_classes)
        if self.num_votes is not None:
            plain = replace(plain, num_votes=self.num_votes[rows])
        if self.odd is None or self.votes is None or self.candidates is None or self.observed is None:
            return plain
        at = np.searchsorted(self.odd, rows)
        hit = np.flatnonzero(self.odd[np.minimum(at, len(self.odd) - 1)] == rows)
        if not len(hit):
            return plain
        observed = plain.votes.copy()
        plain.votes[hit], plain.candidates[hit] = self.votes[at[hit]], self.candidates[at[hit]]
        observed[hit] = self.observed[at[hit]]
        if self.audited is None or not self.audited[at[hit]].any():
            return replace(plain, before_review=observed)
        audited = np.zeros(len(rows), dtype=bool)
        audited[hit] = self.audited[at[hit]]
        return replace(plain, before_review=observed, is_audited=audited)

    def take(self, rows: IntArray, num_classes: int) -> ShardLabels:
        """Return the labels of some samples, in a shard that holds them alone.

        Args:
            rows: Their rows, int64, shape (n,), ascending.
            num_classes: K.

        Returns:
            The labels; without probabilities and near-duplicates.
        """
        old = None if self.old is None else self.old[rows]
        return shard_labels(self._voted(rows, num_classes), self.keys.take(rows), old=old)

    def write(self, path: Path) -> None:
        """Write the labels, whole or not at all."""
        arrays = {name: values for name, values in vars(self).items() if values is not None}
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)


def read_shard_labels(labels: Path | ShardLabels) -> ShardLabels:
    """Return what `ShardLabels.write` wrote, or labels that are in memory as they are."""
    if isinstance(labels, ShardLabels):
        return labels
    with np.load(labels) as kept:
        return ShardLabels(**{name: kept[name] for name in kept.files})


def sample_starts(labels: Sequence[Path | ShardLabels]) -> IntArray:
    """Return the number of the first sample of each shard and, last, N.

    Args:
        labels: Labels of each of the S shards, or the file that holds them.

    Returns:
        int64, shape (S + 1,).
    """
    sizes = []
    for one in labels:
        if isinstance(one, ShardLabels):
            sizes.append(len(one))
        else:
            with np.load(one) as kept:
                sizes.append(len(kept["given"]))
    return np.cumsum([0, *sizes])


def shard_labels(
    labels: GivenLabels | npt.NDArray[np.integer[Any]],
    keys: SampleKeys,
    *,
    kept: BoolArray | None = None,
    old: BoolArray | None = None,
    pred_probs: Float32Array | None = None,
) -> ShardLabels:
    """Return the labels of one shard with the keys of its samples.

    Args:
        labels: Given labels of its n samples that count, or only their classes, shape (n,).
        keys: Their keys.
        kept: Which rows of the shard count; None: all.
        old: Samples that are in the sums of a reference already; None: none.
        pred_probs: Probabilities of the user's own model, float32, shape (n, K); None: he brings none.

    Returns:
        The labels.
    """
    plain = ShardLabels(
        given=(labels.given if isinstance(labels, GivenLabels) else labels).astype(np.int32),
        folds=keys.folds.astype(np.uint8),
        lots=keys.lots,
        buckets=keys.buckets.astype(np.uint8),
        groups=keys.groups,
        kept=None if kept is None or kept.all() else kept,
        old=None if old is None or not old.any() else old,
        pred_probs=pred_probs,
    )
    if not isinstance(labels, GivenLabels):
        return plain
    plain = replace(plain, num_votes=labels.num_votes)
    is_plain = (labels.votes.max(axis=1, initial=0.0) == 1.0) & labels.candidates.all(axis=1)
    odd = np.flatnonzero(~is_plain | (labels.observed != labels.votes).any(axis=1))
    if not len(odd):
        return plain
    return replace(
        plain,
        odd=odd,
        votes=labels.votes[odd],
        candidates=labels.candidates[odd],
        observed=labels.observed[odd],
        audited=labels.is_audited[odd] if labels.is_audited is not None and labels.is_audited[odd].any() else None,
    )
