"""The nearest neighbours of the samples of one shard, in a file of their own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from labelclean.arrays import IntArray
from labelclean.probes.neighbours import Neighbours
from labelclean.storage.parquet import atomic_path

ENTRY = np.dtype([("number", "<i4"), ("similarity", "<f2")])


def write_lists(path: Path, neighbours: Neighbours) -> None:
    """Write the lists of a shard, whole or not at all.

    Args:
        path: Where to.
        neighbours: Numbers over all samples, shape (n, M), -1 where there are fewer; and similarities.
    """
    entries = np.empty(neighbours.index.shape, dtype=ENTRY)
    entries["number"], entries["similarity"] = neighbours.index, neighbours.similarity
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.save(file, entries)


def read_lists(path: Path, rows: IntArray) -> Neighbours:
    """Return the neighbours of some samples of a shard; only theirs are read.

    Args:
        path: What `write_lists` wrote.
        rows: Their rows among its samples, int64, shape (B,).

    Returns:
        Neighbours, shape (B, M), numbered over all samples; similarities to the precision of float16.
    """
    entries = np.asarray(np.load(path, mmap_mode="r"))[rows]  # mapped for this one look: no page stays in memory
    return Neighbours(entries["number"].astype(np.int64), entries["similarity"].astype(np.float32), "index")


def gathered_lists(paths: Sequence[Path], parts: IntArray, rows: IntArray, recall: float) -> Neighbours:
    """Return the neighbours of samples from many shards.

    Args:
        paths: File of each shard.
        parts: Shard of each sample, int64, shape (n,).
        rows: Row of each among the samples of its shard, int64, shape (n,).
        recall: That of the index.

    Returns:
        Neighbours, rows aligned with ``parts``.
    """
    by_part = np.argsort(parts, kind="stable")
    lists = [read_lists(paths[number], rows[parts == number]) for number in np.unique(parts).tolist()]
    index, similarity = (
        np.concatenate(entries) for entries in zip(*((near.index, near.similarity) for near in lists), strict=True)
    )
    place = np.argsort(by_part)
    return Neighbours(index[place], similarity[place], "index", recall)
