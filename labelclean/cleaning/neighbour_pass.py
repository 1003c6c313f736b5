"""Nearest neighbours out of core: one pass over the shards fills an index, a second one searches it shard by shard.

Only the index, short codes of all samples, is held in memory. Its similarities, along the directions of the index
and to the precision of its codes, are taken as they are: exact ones would need the features of others, which lie anywhere
on the disk. Near-duplicates are not looked for; only groups are kept apart.
"""

from __future__ import annotations

import hashlib
from collections import deque
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from labelclean.arrays import BoolArray, Float32Array, IntArray
from labelclean.cleaning.neighbour_lists import gathered_lists, write_lists
from labelclean.cleaning.passes import Blocks, Each, Task
from labelclean.cleaning.sample import Chosen
from labelclean.cleaning.shard_labels import read_part_labels, sample_starts
from labelclean.config import CleaningConfig
from labelclean.errors import StorageError
from labelclean.probes.feature_space import VOTERS
from labelclean.probes.index import (
    RECALL_AT,
    RECALL_QUERIES,
    NeighbourIndex,
    add_rows,
    build_index,
    search_index,
    stored_index,
    tune_index,
    write_cells,
)
from labelclean.probes.neighbours import SPARE_NEIGHBOURS, Neighbours
from labelclean.storage.parquet import atomic_path, make_folder

FOLDER = "neighbours"
ROWS_PER_CELL = 8  # cells are learned from the sample alone: with millions of samples few rows are left for each
MOST_PROBES = 128
LEAST_GAIN = 0.02
NEAREST_KEPT = 64
SEEN_ROWS = 4096
WIDER = 4
MOST_WANTED = 2048
SEARCH_CELLS = 2**20


@dataclass(frozen=True)
class StoredIndex:
    """A finished index in files; goes to any process or machine that sees them.

    Attributes:
        cells: What `index.write_cells` wrote.
        facts: Directions, cells, probes and recall; written last, so the index is whole where it is there.
    """

    cells: Path
    facts: Path

    def open(self) -> NeighbourIndex:
        """Return the index."""
        with np.load(self.facts) as kept:
            return stored_index(str(self.cells), kept["directions"], int(kept["num_cells"]), int(kept["num_probes"]))

    def write(self, index: NeighbourIndex, recall: float) -> None:
        """Write an index, whole or not at all."""
        with atomic_path(self.cells) as temporary:
            try:
                write_cells(index, str(temporary))
            except RuntimeError as fault:  # faiss says no more than that it could not write
                raise StorageError(
                    f"{self.cells}: the neighbour index cannot be written: {' '.join(str(fault).split())[:200]}. Free space "
                    "or correct the permissions, and start again."
                ) from fault
        facts: dict[str, Any] = {"num_cells": index.num_cells, "num_probes": index.num_probes, "recall": recall}
        with atomic_path(self.facts) as temporary, temporary.open("wb") as file:
            np.savez(file, directions=index.directions, **facts)

    @property
    def recall(self) -> float:
        """Share of the 10 nearest that the lists hold, measured against an exact search of 200 samples among all."""
        with np.load(self.facts) as kept:
            return float(kept["recall"])


def find_neighbours(
    task: Task,
    chosen: Chosen,
    unit_rows: Float32Array,
    config: CleaningConfig,
    most_directions: int | None = None,
    each: Each = map,
) -> tuple[Task, Neighbours]:
    """Return the neighbours of all samples, in a file per shard, and those of the sample.

    A finished index, and finished lists of a shard, are taken as they are by a run that goes on.

    Args:
        task: The shards.
        chosen: The sample; the cells of the index are learned from it.
        unit_rows: Its centred unit features, float32, shape (n, D).
        config: `neighbours.k` is read.
        most_directions: R of the index, at most; default: D.
        each: Applies a function to all shards: `map`, or a cluster. The index is filled here.

    Returns:
        The task with the lists of each shard, and the neighbours of the sample, numbered over all samples in the order
        of the shards, those that do not count left out.
    """
    wanted = min(config.neighbours.k or max(VOTERS), chosen.num_samples - 1)
    folder = task.folder / FOLDER
    make_folder(folder)
    own = _digest(task.digest, wanted, most_directions)
    starts = sample_starts(task.labels)
    groups = _groups(folder / f"groups-{own}.npy", task.labels, int(starts[-1]))
    index = StoredIndex(folder / f"index-{own}.faiss", folder / f"index-{own}.npz")
    if not index.facts.exists():
        filled, recall = _filled(task, chosen, unit_rows, starts, wanted, most_directions)
        index.write(filled, recall)
        del filled
    lists = tuple(
        folder / f"lists-{number:05d}-{_digest(own, shard.digest)}.npy" for number, shard in enumerate(task.shards)
    )
    deque(each(ListsPass(task, index, groups, starts, lists, wanted), range(len(lists))), maxlen=0)
    return replace(task, lists=lists), gathered_lists(lists, chosen.parts, chosen.rows, index.recall)


@dataclass(frozen=True)
class ListsPass:
    """Searches the samples of one shard; goes to any process or machine that sees shards and folder.

    Attributes:
        task: The shards.
        index: The finished index.
        groups: File with the group of all samples, or None where each is its own.
        starts: Number of the first sample of each shard and, last, N; int64, shape (S + 1,).
        lists: Where the lists of each shard go.
        wanted: Neighbours per sample, M.
    """

    task: Task
    index: StoredIndex
    groups: Path | None
    starts: IntArray
    lists: tuple[Path, ...]
    wanted: int

    def __call__(self, number: int) -> None:
        """Write the lists of one shard, unless they are there."""
        size = int(self.starts[number + 1] - self.starts[number])
        if self.lists[number].exists() or not size:
            return
        index, similarity = np.empty((size, self.wanted), np.int64), np.empty((size, self.wanted), np.float32)
        for block in self._blocks.of(number):
            own = self.starts[number] + block.samples
            index[block.samples], similarity[block.samples] = self._strangers(block.rows[0], own)
        write_lists(self.lists[number], Neighbours(index, similarity))

    @cached_property
    def _blocks(self) -> Blocks:
        return _linear_blocks(self.task)

    @cached_property
    def _index(self) -> NeighbourIndex:
        return self.index.open()

    @cached_property
    def _groups(self) -> IntArray | None:
        found: IntArray | None = None if self.groups is None else np.load(self.groups)
        return found

    def _strangers(self, unit_rows: Float32Array, own: IntArray) -> tuple[IntArray, Float32Array]:
        """The nearest samples of other groups; rows that see too few are searched again, for more."""
        num_samples = int(self.starts[-1])
        index = np.full((len(own), self.wanted), -1, dtype=np.int64)
        similarity = np.zeros(index.shape, dtype=np.float32)
        rows, more = np.arange(len(own)), min(self.wanted + SPARE_NEIGHBOURS + 1, num_samples)
        while len(rows):
            step, short = max(1, SEARCH_CELLS // more), []
            for start in range(0, len(rows), step):
                some = rows[start : start + step]
                found, near = search_index(self._index, unit_rows[some], more)
                is_stranger = self._is_stranger(found, own[some])
                order = np.argsort(~is_stranger, axis=1, kind="stable")[:, : self.wanted]
                is_stranger, found = np.take_along_axis(is_stranger, order, 1), np.take_along_axis(found, order, 1)
                near = np.take_along_axis(near, order, 1)
                index[some], similarity[some] = np.where(is_stranger, found, -1), np.where(is_stranger, near, 0)
                short.append(some[~is_stranger.all(axis=1)])
            if more >= min(MOST_WANTED, num_samples):
                break
            rows, more = np.concatenate(short), min(WIDER * more, MOST_WANTED, num_samples)
        return index, similarity

    def _is_stranger(self, found: IntArray, own: IntArray) -> BoolArray:
        is_other: BoolArray = (found >= 0) & (found != own[:, None])
        if self._groups is not None:
            is_other &= self._groups[found] != self._groups[own][:, None]
        return is_other


class _Truth:
    """The exact nearest rows of some queries, kept while all rows pass by."""

    def __init__(self, queries: Float32Array, num_samples: int) -> None:
        self.queries = queries
        self._width = min(NEAREST_KEPT, num_samples)
        self._numbers = np.empty((len(queries), 0), dtype=np.int64)
        self._similarity = np.empty((len(queries), 0), dtype=np.float32)

    def see(self, unit_rows: Float32Array, numbers: IntArray) -> None:
        """Look at some rows."""
        for start in range(0, len(unit_rows), SEEN_ROWS):
            self._see(unit_rows[start : start + SEEN_ROWS], numbers[start : start + SEEN_ROWS])

    def _see(self, unit_rows: Float32Array, numbers: IntArray) -> None:
        similarity = np.concatenate([self._similarity, self.queries @ unit_rows.T], axis=1)
        known = np.concatenate([self._numbers, np.broadcast_to(numbers, (len(self.queries), len(numbers)))], axis=1)
        if similarity.shape[1] > self._width:
            best = np.argpartition(-similarity, self._width - 1, axis=1)[:, : self._width]
            similarity, known = np.take_along_axis(similarity, best, 1), np.take_along_axis(known, best, 1)
        order = np.argsort(-similarity, axis=1, kind="stable")
        self._similarity, self._numbers = np.take_along_axis(similarity, order, 1), np.take_along_axis(known, order, 1)

    def nearest(self, wanted: int) -> Float32Array:
        """Similarities of the nearest, falling, shape (Q, wanted)."""
        return self._similarity[:, :wanted]

    def similarity(self, found: IntArray) -> Float32Array:
        """Similarities to found rows, shape of ``found``; -inf for rows that are not among the nearest 64."""
        is_same = found[:, :, None] == self._numbers[:, None, :]
        return np.asarray(np.where(is_same, self._similarity[:, None, :], -np.inf).max(axis=2), dtype=np.float32)


def _filled(
    task: Task,
    chosen: Chosen,
    unit_rows: Float32Array,
    starts: IntArray,
    wanted: int,
    most_directions: int | None,
) -> tuple[NeighbourIndex, float]:
    """An index learned from the sample, with all samples in order, tuned; and its recall."""
    num_samples = int(starts[-1])
    index = build_index(unit_rows, num_samples, least_rows_per_cell=ROWS_PER_CELL, most_directions=most_directions)
    truth = _Truth(unit_rows[np.sort(chosen.order[:RECALL_QUERIES])], num_samples)
    blocks = _linear_blocks(task)
    for number in range(len(task.shards)):
        for block in blocks.of(number):
            rows = block.rows[0][np.argsort(block.samples, kind="stable")]
            add_rows(index, rows)
            truth.see(rows, starts[number] + np.sort(block.samples))
    nearest = truth.nearest(min(RECALL_AT, wanted) + 1)
    limits = {"most_probes": MOST_PROBES, "wanted": wanted + 1}
    recall = tune_index(index, truth.queries, nearest, truth.similarity, least_gain=LEAST_GAIN, **limits)
    return index, recall


def _linear_blocks(task: Task) -> Blocks:
    """Blocks of unit rows alone."""
    return Blocks(replace(task, means=task.means[:1], kernel=None, lists=()))


def _groups(path: Path, labels: tuple[Path, ...], num_samples: int) -> Path | None:
    """The group of all samples in a file; None where each is its own, as are those of a shard without groups."""
    groups, start, is_grouped = np.empty(num_samples, dtype=np.int64), 0, False
    for one in labels:
        known = read_part_labels(one)
        own = -1 - np.arange(start, start + len(known))  # hashes are at least 0
        groups[start : start + len(known)] = own if known.groups is None else known.groups
        is_grouped |= known.groups is not None
        start += len(known)
    if not is_grouped:
        return None
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.save(file, groups)
    return path


def _digest(*said: object) -> str:
    """A short digest of everything that a file hangs on."""
    return hashlib.sha256("/".join(map(str, said)).encode()).hexdigest()[:16]
