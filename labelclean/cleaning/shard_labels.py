"""The labels of one shard beside its features: given classes, folds, and what reviewers or several inspectors said."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from labelclean.arrays import BoolArray, IntArray
from labelclean.labels import GivenLabels, given_labels
from labelclean.probes.sums import bucketed, hashed_parts
from labelclean.storage.parquet import atomic_path

_ODD = ("odd", "votes", "candidates", "observed", "audited")


@dataclass(frozen=True)
class PartLabels:
    """The samples of one shard; all arrays but ``kept`` have one row per sample that counts.

    Attributes:
        given: Given class, int32, shape (n,).
        folds: Fold, uint8, shape (n,).
        lots: Hash by which samples are chosen, int64, shape (n,).
        buckets: Hash bucket for bootstraps, uint8, shape (n,).
        kept: Which rows of the shard count, bool, shape (m,); None: all.
        old: Samples that are in the sums of a reference already, bool, shape (n,); None: none.
        groups: Hash of the group, int64, shape (n,), where neighbours must be of other groups; None: each is its own.
        odd: Rows that are not plainly one label, int64, shape (q,), ascending.
        votes: Their votes, float32, shape (q, K).
        candidates: Their possible classes, bool, shape (q, K).
        observed: Their votes before review, float32, shape (q, K).
        audited: Which of them are verified and were drawn at random over all, bool, shape (q,); None: none.
        num_votes: How many inspectors each row of votes stands for, float32, shape (n,); None: one.
    """

    given: npt.NDArray[np.int32]
    folds: npt.NDArray[np.uint8]
    lots: IntArray
    buckets: npt.NDArray[np.uint8]
    kept: BoolArray | None = None
    old: BoolArray | None = None
    groups: IntArray | None = None
    odd: IntArray | None = None
    votes: npt.NDArray[np.float32] | None = None
    candidates: BoolArray | None = None
    observed: npt.NDArray[np.float32] | None = None
    audited: BoolArray | None = None
    num_votes: npt.NDArray[np.float32] | None = None

    def __len__(self) -> int:
        """Samples that count."""
        return len(self.given)

    @property
    def digest(self) -> str:
        """Digest of all that a result hangs on."""
        said = hashlib.sha256(self.given.tobytes() + self.folds.tobytes() + self.lots.tobytes())
        odd = (self.odd, self.votes, self.candidates, self.observed, self.audited, self.num_votes)
        for kept in (self.kept, self.old, self.groups, *odd):
            said.update(b"" if kept is None else kept.tobytes())
        return said.hexdigest()

    def labels(self, rows: IntArray, num_classes: int) -> GivenLabels:
        """Return the labels of some samples.

        Args:
            rows: Their rows, int64, shape (B,).
            num_classes: K.

        Returns:
            Labels aligned with ``rows``.
        """
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

    def write(self, path: Path) -> None:
        """Write the labels, whole or not at all."""
        found = {name: value for name, value in vars(self).items() if value is not None}
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **found)


def read_part_labels(path: Path) -> PartLabels:
    """Return what `PartLabels.write` wrote."""
    with np.load(path) as kept:
        return PartLabels(**{name: kept[name] for name in kept.files})


def sample_starts(paths: Sequence[Path]) -> IntArray:
    """Return the number of the first sample of each shard and, last, N.

    Args:
        paths: File with the labels of each of the S shards.

    Returns:
        int64, shape (S + 1,).
    """
    sizes = []
    for path in paths:
        with np.load(path) as kept:
            sizes.append(len(kept["given"]))
    return np.cumsum([0, *sizes])


def part_labels(
    labels: GivenLabels | npt.NDArray[np.integer[Any]],
    keys: Sequence[str] | None,
    ids: Sequence[str],
    *,
    num_folds: int,
    num_buckets: int,
    seed: int,
    kept: BoolArray | None = None,
    old: BoolArray | None = None,
    with_groups: bool = False,
) -> PartLabels:
    """Return the labels of one shard with the hashes of its samples.

    Args:
        labels: Given labels of its n samples that count, or only their classes, shape (n,).
        keys: Group of each sample; None: each is its own.
        ids: Ids of the samples.
        num_folds: F.
        num_buckets: Hash buckets per fold.
        seed: Salts the hashes.
        kept: Which rows of the shard count; None: all.
        old: Samples that are in the sums of a reference already; None: none.
        with_groups: Keep the hash of the group too.

    Returns:
        The labels.
    """
    groups = hashed_parts(keys, 2**62, seed=seed, purpose="group") if with_groups and keys is not None else None
    keys = ids if keys is None else keys
    folds = hashed_parts(keys, num_folds, seed=seed, purpose="fold")
    found = PartLabels(
        given=(labels.given if isinstance(labels, GivenLabels) else labels).astype(np.int32),
        folds=folds.astype(np.uint8),
        lots=hashed_parts(ids, 2**62, seed=seed, purpose="selection"),
        buckets=bucketed(keys, folds, num_buckets, seed=seed).astype(np.uint8),
        kept=None if kept is None or kept.all() else kept,
        old=None if old is None or not old.any() else old,
        groups=groups,
    )
    if not isinstance(labels, GivenLabels):
        return found
    found = replace(found, num_votes=labels.num_votes)
    is_plain = (labels.votes.max(axis=1, initial=0.0) == 1.0) & labels.candidates.all(axis=1)
    odd = np.flatnonzero(~is_plain | (labels.observed != labels.votes).any(axis=1))
    if not len(odd):
        return found
    audited = labels.is_audited[odd] if labels.is_audited is not None and labels.is_audited[odd].any() else None
    parts = (odd, labels.votes[odd], labels.candidates[odd], labels.observed[odd], audited)
    return PartLabels(**(vars(found) | dict(zip(_ODD, parts, strict=True))))
