"""Nearest neighbours and near-duplicates among more samples than fit into memory: an index is filled, then searched.

One pass fills an index, a second one searches it shard by shard; only the index, short codes of all samples, is held in
memory. Its similarities, along its directions and to the precision of its codes, are taken as they are, but where they
say that two samples may be near-duplicates: of these the features are read and compared.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from labelclean.arrays import Float32Array, IntArray
from labelclean.cleaning.chance import Unvouched, find_unvouched
from labelclean.cleaning.memory import index_directions
from labelclean.cleaning.neighbour_lists import gathered_lists, read_lists, write_lists
from labelclean.cleaning.passes import Blocks, Each, ShardSet
from labelclean.cleaning.sample import Chosen
from labelclean.cleaning.shard_labels import ShardLabels, read_shard_labels, sample_starts
from labelclean.config import CleaningConfig
from labelclean.errors import StorageError
from labelclean.probes.feature_space import SampleKeys, num_voters
from labelclean.probes.index import (
    RECALL_AT,
    RECALL_QUERIES,
    NeighbourIndex,
    add_rows,
    build_index,
    read_cells,
    search_index,
    tune_index,
    write_cells,
)
from labelclean.probes.neighbours import (
    SPARE_NEIGHBOURS,
    Neighbours,
    conflict_sets,
    copies_of,
    duplicate_threshold,
    joined_groups,
    near_duplicate_sets,
    with_copies,
)
from labelclean.storage.parquet import atomic_path, make_folder

FOLDER = "neighbours"
NUMBERS = ("num_cells", "num_probes", "ranked_anew")
ROWS_PER_CELL = 8  # cells are learned from the sample alone: with millions of samples few rows are left for each
MOST_PROBES = 256
FARTHER = 0.01
NEAREST_KEPT = 256
SEEN_ROWS = 4096
WIDER = 4
MOST_WANTED = 2048
SEARCH_CELLS = 2**20
CODE_ERROR = 0.02  # of a squared distance along the directions: codes of one or two bytes, similarities of two
COMPARED_ROWS = 65_536


@dataclass(frozen=True)
class StoredIndex:
    """A finished index in files; goes to any process or machine that sees them.

    Attributes:
        cells: What `index.write_cells` wrote.
        facts: Directions, numbers of the search and recall; written last, so the index is whole where it is there.
    """

    cells: Path
    facts: Path

    def open(self) -> NeighbourIndex:
        """Return the index."""
        with np.load(self.facts) as kept:
            numbers = {name: int(kept[name]) for name in NUMBERS}
            return NeighbourIndex(read_cells(str(self.cells)), kept["directions"], **numbers)

    def write(self, index: NeighbourIndex, recall: float, threshold: float) -> None:
        """Write an index, whole or not at all."""
        with atomic_path(self.cells) as temporary:
            try:
                write_cells(index, str(temporary))
            except RuntimeError as fault:  # faiss says no more than that it could not write
                raise StorageError(
                    f"{self.cells}: the neighbour index cannot be written: {' '.join(str(fault).split())[:200]}. Free space "
                    "or correct the permissions, and start again."
                ) from fault
        facts: dict[str, Any] = {name: getattr(index, name) for name in NUMBERS}
        facts |= {"recall": recall, "threshold": threshold}
        with atomic_path(self.facts) as temporary, temporary.open("wb") as file:
            np.savez(file, directions=index.directions, **facts)

    @property
    def recall(self) -> float:
        """Share of the 10 nearest that the lists hold, measured against an exact search of 200 samples among all."""
        return self._fact("recall")

    @property
    def threshold(self) -> float:
        """Similarity from which samples are near-duplicates, by the exact nearest of these 200 samples."""
        return self._fact("threshold")

    def _fact(self, name: str) -> float:
        with np.load(self.facts) as kept:
            return float(kept[name])


def find_neighbours(
    shard_set: ShardSet, chosen: Chosen, unit_rows: Float32Array, config: CleaningConfig, each: Each = map
) -> tuple[ShardSet, float]:
    """Return the nearest samples of all samples, of whatever group, in a file per shard.

    A finished index, and finished lists of a shard, are taken as they are by a run that goes on.

    Args:
        shard_set: The shards.
        chosen: The sample; the cells of the index are learned from it.
        unit_rows: Its centred unit features, float32, shape (n, D).
        config: Section `neighbours` is read.
        each: Applies a function to all shards: `map`, or a cluster. The index is filled here.

    Returns:
        The shards with the lists of each, numbered over all samples in the order of the shards, those that do not
        count left out; and the recall of the index.
    """
    wanted = min(num_voters(config), chosen.num_samples - 1)
    make_folder(shard_set.shared / FOLDER)
    index = _stored(shard_set, wanted)
    if not index.facts.exists():
        index.write(*_filled(shard_set, chosen, unit_rows, wanted))
    lists = _paths(shard_set, "lists", wanted)
    deque(each(ListsPass(shard_set.linear, index, lists, wanted), range(len(lists))), maxlen=0)
    return replace(shard_set, lists=lists), index.recall


def joined(
    shard_set: ShardSet, config: CleaningConfig, *, is_vouched: bool, each: Each = map
) -> tuple[ShardSet, Unvouched | None]:
    """Return the shards with near-duplicates joined: new keys of the labels, and neighbours of other groups alone.

    Args:
        shard_set: The shards, with the lists of `find_neighbours` unless neighbours are left out.
        config: Section `neighbours` is read.
        is_vouched: A model of the user's own vouches for all samples.
        each: Applies a function to all shards.

    Returns:
        The shards; and the samples that nothing outside their group can vouch for, None where a model does.
    """
    starts, labels = sample_starts(shard_set.labels), [read_shard_labels(one) for one in shard_set.labels]
    keys = [one.keys for one in labels]
    whole = SampleKeys(*(np.concatenate([vars(one)[name] for one in keys]) for name in vars(keys[0])))
    sets = np.full(len(whole.lots), -1)
    if shard_set.lists:
        index = _stored(shard_set, min(num_voters(config), len(sets) - 1))
        threshold = config.neighbours.duplicate_similarity or index.threshold
        sets = near_duplicate_sets(*_near_pairs(shard_set, starts, threshold), len(sets), threshold)
    sets = with_copies(sets, np.concatenate([_copies(shard_set, number) for number in range(len(labels))]))
    groups = joined_groups(whole.groups, sets)
    whole = whole.joined(groups)
    given = np.concatenate([one.given for one in labels]).astype(np.int64)
    unvouched = None if is_vouched else find_unvouched(given, shard_set.num_classes, groups, sets)
    conflicts = conflict_sets(sets, given)
    make_folder(shard_set.folder / FOLDER)
    paths = tuple(shard_set.folder / f"joined-{number:05d}.npz" for number in range(len(labels)))
    for number, (one, path) in enumerate(zip(labels, paths, strict=True)):
        at = slice(int(starts[number]), int(starts[number + 1]))
        one = one.with_keys(SampleKeys(*(values[at] for values in vars(whole).values())))
        stands = None if unvouched is None else _standing(one, (unvouched.is_alone | unvouched.is_copy)[at], shard_set)
        one = replace(one, stands=stands)
        if (sets[at] >= 0).any():
            one = replace(one, duplicate_sets=sets[at], conflict_sets=conflicts[at])
        one.write(path)
    shard_set = replace(shard_set, labels=paths)
    if not shard_set.lists:
        return shard_set, unvouched
    wanted = min(num_voters(config), len(sets) - 1)
    grouped = shard_set.shared / FOLDER / f"groups-{_own(shard_set, wanted)}.npy"
    _write(grouped, groups)
    lists = _paths(shard_set, "near", wanted)
    deque(
        each(StrangersPass(shard_set, _stored(shard_set, wanted), grouped, starts, lists, wanted), range(len(lists))),
        maxlen=0,
    )
    return replace(shard_set, lists=lists), unvouched


def neighbours_of(shard_set: ShardSet, chosen: Chosen, recall: float) -> Neighbours:
    """Return the neighbours of the sample, numbered over all samples."""
    return gathered_lists(shard_set.lists, chosen.parts, chosen.rows, recall)


@dataclass(frozen=True)
class ListsPass:
    """Searches the samples of one shard; goes to any process or machine that sees shards and folder.

    Attributes:
        shard_set: The shards.
        index: The finished index.
        lists: Where the lists of each shard go.
        wanted: Neighbours per sample, M; some more are kept, for some may be of the sample's own group.
    """

    shard_set: ShardSet
    index: StoredIndex
    lists: tuple[Path, ...]
    wanted: int

    def __call__(self, number: int) -> None:
        """Write the lists of one shard, and the length of its features along the directions, unless they are there."""
        size = len(read_shard_labels(self.shard_set.labels[number]))
        if self.lists[number].exists() or not size:
            return
        num_samples = int(self._starts[-1])
        width = min(self.wanted + SPARE_NEIGHBOURS, num_samples - 1)
        index, similarity = np.empty((size, width), np.int64), np.empty((size, width), np.float32)
        lengths = np.empty(size, dtype=np.float32)
        for block in self._blocks.of(number):
            own, rows = self._starts[number] + block.samples, block.rows[0]
            for at in _steps(len(rows), width + 1):
                found, near = search_index(self._index, rows[at], width + 1)
                order = np.argsort((found == own[at, None]) | (found < 0), axis=1, kind="stable")[:, :width]
                index[block.samples[at]] = np.take_along_axis(found, order, 1)
                similarity[block.samples[at]] = np.take_along_axis(near, order, 1)
            lengths[block.samples] = ((rows @ self._index.directions) ** 2).sum(axis=1)
        _write(_lengths(self.lists[number]), lengths)
        write_lists(self.lists[number], Neighbours(index, np.where(index >= 0, similarity, 0)))

    @cached_property
    def _blocks(self) -> Blocks:
        return Blocks(self.shard_set)

    @cached_property
    def _index(self) -> NeighbourIndex:
        return self.index.open()

    @cached_property
    def _starts(self) -> IntArray:
        return sample_starts(self.shard_set.labels)


@dataclass(frozen=True)
class StrangersPass:
    """Leaves the nearest samples of other groups in the lists of one shard, searching again where too few are left.

    Attributes:
        shard_set: The shards, with lists of whatever group.
        index: The finished index.
        groups: File with the group of all samples.
        starts: Number of the first sample of each shard and, last, N; int64, shape (S + 1,).
        lists: Where the lists of each shard go.
        wanted: Neighbours per sample, M.
    """

    shard_set: ShardSet
    index: StoredIndex
    groups: Path
    starts: IntArray
    lists: tuple[Path, ...]
    wanted: int

    def __call__(self, number: int) -> None:
        """Write the lists of one shard, unless they are there."""
        own = np.arange(self.starts[number], self.starts[number + 1])
        if self.lists[number].exists() or not len(own):
            return
        raw = read_lists(self.shard_set.lists[number], np.arange(len(own)))
        found, short = self._nearest(raw.index, raw.similarity, own)
        more, num_samples = WIDER * raw.index.shape[1], int(self.starts[-1])
        while len(short) and raw.index.shape[1] < num_samples - 1:
            more = min(more, MOST_WANTED, num_samples)
            rows = self.shard_set.unit_rows(number, short)
            left = []
            for at in _steps(len(short), more):
                again, still = self._nearest(*search_index(self._index, rows[at], more), own[short[at]])
                found.index[short[at]], found.similarity[short[at]] = again.index, again.similarity
                left.append(short[at][still])
            if more >= min(MOST_WANTED, num_samples):
                break
            short, more = np.concatenate(left), WIDER * more
        write_lists(self.lists[number], found)

    def _nearest(self, index: IntArray, similarity: Float32Array, own: IntArray) -> tuple[Neighbours, IntArray]:
        """The nearest strangers among those found; and the rows that have too few."""
        groups = self._groups
        is_stranger = (index >= 0) & (groups[index] != groups[own][:, None])
        order = np.argsort(~is_stranger, axis=1, kind="stable")[:, : self.wanted]
        is_stranger, index = np.take_along_axis(is_stranger, order, 1), np.take_along_axis(index, order, 1)
        similarity = np.take_along_axis(similarity, order, 1)
        near = Neighbours(np.where(is_stranger, index, -1), np.where(is_stranger, similarity, np.float32(0)))
        return near, np.flatnonzero(~is_stranger.all(axis=1))

    @cached_property
    def _index(self) -> NeighbourIndex:
        return self.index.open()

    @cached_property
    def _groups(self) -> IntArray:
        groups: IntArray = np.load(self.groups)
        return groups


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
        """Similarities of the nearest, the query itself first, falling, shape (Q, wanted)."""
        return self._similarity[:, :wanted]

    def similarity(self, found: IntArray) -> Float32Array:
        """Similarities to found rows, shape of ``found``; -inf for rows that are not among the nearest 256."""
        is_same = found[:, :, None] == self._numbers[:, None, :]
        return np.asarray(np.where(is_same, self._similarity[:, None, :], -np.inf).max(axis=2), dtype=np.float32)


def _filled(
    shard_set: ShardSet, chosen: Chosen, unit_rows: Float32Array, wanted: int
) -> tuple[NeighbourIndex, float, float]:
    """An index learned from the sample, with all samples in order, tuned; its recall, and the near-duplicates' threshold."""
    starts = sample_starts(shard_set.labels)
    num_samples, num_dims = int(starts[-1]), unit_rows.shape[1]
    directions = index_directions(num_samples, num_dims)
    index = build_index(unit_rows, num_samples, least_rows_per_cell=ROWS_PER_CELL, most_directions=directions)
    truth = _Truth(unit_rows[np.sort(chosen.keys.order[:RECALL_QUERIES])], num_samples)
    blocks = Blocks(shard_set.linear)
    for number in range(len(shard_set.shards)):
        for block in blocks.of(number):
            rows = block.rows[0][np.argsort(block.samples, kind="stable")]
            add_rows(index, rows)
            truth.see(rows, starts[number] + np.sort(block.samples))
    nearest = truth.nearest(min(RECALL_AT, wanted) + 1)
    limits = {"most_probes": MOST_PROBES, "wanted": wanted + 1}
    recall = tune_index(index, truth.queries, nearest, truth.similarity, farther=FARTHER, **limits)
    return index, recall, duplicate_threshold(nearest[:, 1:])


def _near_pairs(shard_set: ShardSet, starts: IntArray, threshold: float) -> tuple[IntArray, IntArray, Float32Array]:
    """Pairs of samples whose features are similar enough, and how similar they are.

    Along any directions two samples lie no farther apart than in all, so that only pairs that are near along the
    directions of the index need be compared.
    """
    lengths = np.concatenate(
        [_read(_lengths(path), start) for path, start in zip(shard_set.lists, np.diff(starts), strict=True)]
    )
    pairs = []
    for path, start, end in zip(shard_set.lists, starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        if end == start:
            continue
        near = read_lists(path, np.arange(end - start))
        apart = lengths[start:end, None] + lengths[near.index] - 2 * near.similarity
        row, place = np.nonzero((near.index >= 0) & (apart <= 2 * (1 - threshold) + CODE_ERROR))
        pairs.append(np.sort(np.stack([start + row, near.index[row, place]], axis=1), axis=1))
    both = np.unique(np.concatenate(pairs), axis=0)
    similarity = np.empty(len(both), dtype=np.float32)
    for at in _compared(both):
        numbers, place = np.unique(both[at], return_inverse=True)
        rows = _rows_at(shard_set, starts, numbers)
        left, right = place.reshape(-1, 2).T
        similarity[at] = (rows[left] * rows[right]).sum(axis=1)
    is_near = similarity >= threshold
    return both[is_near, 0], both[is_near, 1], similarity[is_near]


def _compared(pairs: IntArray) -> Iterator[slice]:
    """Runs of pairs whose features are held together."""
    for start in range(0, len(pairs), COMPARED_ROWS // 2):
        yield slice(start, start + COMPARED_ROWS // 2)


def _rows_at(shard_set: ShardSet, starts: IntArray, numbers: IntArray) -> Float32Array:
    """Centred unit features of samples by their number over all, ascending, float32, shape (n, D)."""
    shards = np.searchsorted(starts, numbers, side="right") - 1
    return np.concatenate(
        [shard_set.unit_rows(one, numbers[shards == one] - starts[one]) for one in np.unique(shards).tolist()]
    )


def _copies(shard_set: ShardSet, number: int) -> IntArray:
    """A hash of the features of each sample of a shard, int64, shape (n,)."""
    known, copies = read_shard_labels(shard_set.labels[number]), []
    dtype = np.result_type(*(shard.dtype for shard in shard_set.shards))
    for start, raw in shard_set.shards[number].blocks(COMPARED_ROWS):
        counting = slice(None) if known.kept is None else known.kept[start : start + len(raw)]
        copies.append(copies_of(raw[counting].astype(dtype, copy=False)))
    return np.concatenate([np.empty(0, np.int64), *copies])


def _standing(labels: ShardLabels, is_open: Any, shard_set: ShardSet) -> Any:
    """Which of some samples people have not verified; None where none is."""
    rows = np.flatnonzero(is_open)
    stands = np.zeros(len(labels), dtype=bool)
    stands[rows] = ~labels.labels(rows, shard_set.num_classes).is_verified
    return stands if stands.any() else None


def _steps(num_rows: int, wanted: int) -> Iterator[slice]:
    """Rows that are searched together, so that their results stay small."""
    step = max(1, SEARCH_CELLS // wanted)
    for start in range(0, num_rows, step):
        yield slice(start, start + step)


def _stored(shard_set: ShardSet, wanted: int) -> StoredIndex:
    own = _own(shard_set, wanted)
    return StoredIndex(shard_set.shared / FOLDER / f"index-{own}.faiss", shard_set.shared / FOLDER / f"index-{own}.npz")


def _paths(shard_set: ShardSet, name: str, wanted: int) -> tuple[Path, ...]:
    own = _own(shard_set, wanted)
    return tuple(
        shard_set.shared / FOLDER / f"{name}-{number:05d}-{_digest(own, shard.digest)}.npy"
        for number, shard in enumerate(shard_set.shards)
    )


def _lengths(lists: Path) -> Path:
    return lists.with_name(f"lengths-{lists.name}")


def _write(path: Path, values: Any) -> None:
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.save(file, values)


def _read(path: Path, size: int) -> Float32Array:
    values: Float32Array = np.load(path) if size else np.empty(0, np.float32)
    return values


def _own(shard_set: ShardSet, wanted: int) -> str:
    return _digest(shard_set.digest, wanted)


def _digest(*said: object) -> str:
    """A short digest of everything that a file hangs on."""
    return hashlib.sha256("/".join(map(str, said)).encode()).hexdigest()[:16]
