"""The targets of all samples on disk, so that the neighbours of one can vote wherever they lie."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from labelclean.arrays import Float32Array, IntArray
from labelclean.cleaning.memory import block_rows
from labelclean.cleaning.shard_labels import ShardLabels, read_shard_labels
from labelclean.noise.targets import given_targets
from labelclean.probes.neighbours import Neighbours, label_votes
from labelclean.storage.parquet import atomic_path
from labelclean.storage.tables import MANY_CLASSES, TOP_CLASSES, top_classes

PAIR = np.dtype([("label", "<u2"), ("prob", "<f4")])
Kept = npt.NDArray[Any]


@dataclass(frozen=True)
class VoteTargets:
    """Targets of all samples in a file; goes to any process or machine that sees it.

    Attributes:
        path: The file: float32, shape (N, K), or above 256 classes the 32 likeliest of each sample.
        num_classes: K.
    """

    path: Path
    num_classes: int

    def __call__(self, neighbours: Neighbours) -> Float32Array:
        """Return the similarity-weighted sum of the neighbours' targets (`neighbours.label_votes`).

        Args:
            neighbours: Neighbours of B samples, numbered over all samples.

        Returns:
            float32, shape (B, K).
        """
        stored = np.asarray(np.load(self.path, mmap_mode="r"))
        if stored.dtype != PAIR:
            return label_votes(neighbours, stored)
        return _pair_votes(neighbours, stored, self.num_classes)


def _pair_votes(neighbours: Neighbours, stored: Kept, num_classes: int) -> Float32Array:
    """The same where the likeliest classes stand in pairs."""
    weight = np.where(neighbours.index >= 0, np.maximum(neighbours.similarity, 0), 0)
    pairs = stored[neighbours.index]
    cells = np.arange(len(weight))[:, None, None] * num_classes + pairs["label"]
    counts = np.bincount(
        cells.ravel(), (weight[:, :, None] * pairs["prob"]).ravel(), minlength=len(weight) * num_classes
    )
    return counts.reshape(len(weight), num_classes).astype(np.float32)


@contextmanager
def new_targets(path: Path, num_samples: int, num_classes: int) -> Iterator[Kept]:
    """Give the rows of a new file of targets, which is there when the block ends well.

    Args:
        path: The file.
        num_samples: N.
        num_classes: K.

    Yields:
        Rows for `put_targets`, written through to the disk.
    """
    is_paired = num_classes > MANY_CLASSES
    shape = (num_samples, TOP_CLASSES if is_paired else num_classes)
    with atomic_path(path) as temporary:
        stored = np.lib.format.open_memmap(temporary, "w+", PAIR if is_paired else np.dtype(np.float32), shape)
        yield stored
        stored.flush()


def put_targets(stored: Kept, rows: IntArray, targets: Float32Array) -> None:
    """Write the targets of some samples.

    Args:
        stored: What `new_targets` gave.
        rows: Their rows, int64, shape (B,).
        targets: Probabilities, float32, shape (B, K).
    """
    if stored.dtype != PAIR:
        stored[rows] = targets
        return
    pairs = np.empty((len(rows), TOP_CLASSES), dtype=PAIR)
    pairs["label"], pairs["prob"] = top_classes(targets)
    stored[rows] = pairs


def write_given_targets(path: Path, labels: Sequence[Path | ShardLabels], starts: IntArray, num_classes: int) -> None:
    """Write the targets that the given labels of all shards make (`targets.given_targets`).

    Args:
        path: The file.
        labels: Labels of each shard, or the file that holds them.
        starts: Number of the first sample of each shard and, last, N; int64, shape (S + 1,).
        num_classes: K.
    """
    step = block_rows(num_classes)
    with new_targets(path, int(starts[-1]), num_classes) as stored:
        for part, start in zip(labels, starts.tolist(), strict=False):
            known = read_shard_labels(part)
            for first in range(0, len(known), step):
                rows = np.arange(first, min(first + step, len(known)))
                put_targets(stored, start + rows, given_targets(known.labels(rows, num_classes)))


def join_targets(path: Path, parts: Sequence[Path], num_samples: int, num_classes: int) -> None:
    """Join the targets of single shards in order, and remove them.

    Args:
        path: The file of all.
        parts: Files that `new_targets` made; those of shards without samples are missing.
        num_samples: N.
        num_classes: K.
    """
    existing, start = [part for part in parts if part.exists()], 0
    with new_targets(path, num_samples, num_classes) as stored:
        for part in existing:
            targets = np.load(part, mmap_mode="r")
            stored[start : start + len(targets)] = targets
            start += len(targets)
    for part in existing:
        part.unlink()
