"""Passes over feature shards, a block at a time in memory that is used again; a killed pass goes on where it stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from labelclean.arrays import BoolArray, Float32Array, Float64Array, IntArray
from labelclean.cleaning.memory import block_rows
from labelclean.cleaning.neighbour_lists import read_lists
from labelclean.cleaning.shard_labels import PartLabels, read_part_labels
from labelclean.cleaning.shards import FeatureBlock, Shard
from labelclean.cleaning.stage import Stage
from labelclean.cleaning.vote_targets import Kept, new_targets, put_targets
from labelclean.errors import TableError
from labelclean.labels import GivenLabels
from labelclean.noise.model import posterior
from labelclean.noise.targets import given_targets
from labelclean.probes.kernel import Kernel, raw_kernel_rows
from labelclean.probes.neighbours import Neighbours
from labelclean.probes.sums import FeatureSums, TargetSums, unit_block
from labelclean.storage.parquet import atomic_path

CHECKPOINT_ROWS = 1_000_000
Item = TypeVar("Item")
State = dict[str, Float64Array]
Each = Callable[[Callable[[int], Any], Iterable[int]], Iterable[Any]]


@dataclass(frozen=True)
class Task:
    """All that every pass needs.

    Attributes:
        shards: The S feature shards.
        labels: File with the labels of each shard (`PartLabels`).
        num_classes: K.
        num_folds: F.
        means: Mean of the features and, with a kernel, of its rows.
        kernel: Turns unit rows into kernel rows; None if switched off.
        folder: Where checkpoints lie.
        digest: Of everything that a result hangs on.
        device: Torch device of the sums.
        lists: File with the neighbours of each shard (`neighbour_lists`); empty where none were looked for.
    """

    shards: tuple[Shard, ...]
    labels: tuple[Path, ...]
    num_classes: int
    num_folds: int
    means: tuple[Float64Array, ...]
    kernel: Kernel | None
    folder: Path
    digest: str
    device: str = "cpu"
    lists: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Block:
    """Some samples of a shard, sorted by fold; its rows are valid until the next block is asked for.

    Attributes:
        rows: For each design float32, shape (B, D) and (B, R).
        folds: int64, shape (B,), ascending.
        labels: Their given labels.
        samples: Row of each among the shard's samples, int64, shape (B,).
        is_old: Which are in the sums of a reference already, bool, shape (B,); None: none.
        near: Their neighbours, numbered over all samples; None where none were looked for.
    """

    rows: tuple[Float32Array, ...]
    folds: IntArray
    labels: GivenLabels
    samples: IntArray
    is_old: BoolArray | None = None
    near: Neighbours | None = None

    @property
    def new(self) -> Block:
        """The same without samples that a reference holds."""
        if self.is_old is None or not self.is_old.any():
            return self
        kept = np.flatnonzero(~self.is_old)
        rows = tuple(one[kept] for one in self.rows)
        near = None if self.near is None else Neighbours(self.near.index[kept], self.near.similarity[kept])
        return Block(rows, self.folds[kept], self.labels.take(kept), self.samples[kept], near=near)


class Blocks:
    """Turns shards into blocks; holds the memory for one."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._size = block_rows(task.num_classes)
        self._rows = np.empty((self._size, len(task.means[0])), dtype=np.float32)
        if task.kernel is not None:
            self._near, self._curved = (
                np.empty((self._size, width), dtype=np.float32) for width in task.kernel.whitening.shape
            )

    def of(self, number: int) -> Iterator[Block]:
        """Yield the samples of one shard that count, block by block."""
        shard, known = self._task.shards[number], read_part_labels(self._task.labels[number])
        lists = self._task.lists[number] if self._task.lists else None
        done = 0
        for start, raw in ahead(shard.blocks(self._size)):
            kept = np.arange(len(raw)) if known.kept is None else np.flatnonzero(known.kept[start : start + len(raw)])
            if len(kept):
                yield self._block(shard, start, raw, kept, known, lists, done)
                done += len(kept)

    def _block(
        self,
        shard: Shard,
        start: int,
        raw: FeatureBlock,
        kept: IntArray,
        known: PartLabels,
        lists: Path | None,
        done: int,
    ) -> Block:
        order = np.argsort(known.folds[done : done + len(kept)], kind="stable")
        linear = unit_block(raw[kept[order]], self._task.means[0], out=self._rows[: len(order)])
        if not np.isfinite(linear[:, 0]).all():
            bad = np.flatnonzero(~np.isfinite(raw).all(axis=1))
            raise TableError(
                f"{shard.path}: features must be finite, but {len(bad):,} rows from row {start:,} on hold "
                f"NaN or infinity: rows {(bad[:5] + start).tolist()}. Extract them again."
            )
        samples = done + order
        folds = known.folds[samples].astype(np.int64)
        is_old = None if known.old is None else known.old[samples]
        near = None if lists is None else read_lists(lists, samples)
        labels = known.labels(samples, self._task.num_classes)
        return Block(self._designs(linear), folds, labels, samples, is_old, near)

    def _designs(self, linear: Float32Array) -> tuple[Float32Array, ...]:
        task = self._task
        if task.kernel is None:
            return (linear,)
        curved = raw_kernel_rows(task.kernel, linear, (self._near[: len(linear)], self._curved[: len(linear)]))
        curved -= task.means[1].astype(np.float32)
        return linear, curved


def ahead(items: Iterator[Item]) -> Iterator[Item]:
    """Yield items while another thread fetches the next one.

    Args:
        items: Anything that waits for a disk; never asked by two threads at once.

    Yields:
        The items in order; a fault of theirs comes in its place.
    """
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = reader.submit(next, items, None)
            yield item


@dataclass(frozen=True)
class SumsPass:
    """The sums of one shard; goes to any process or machine that sees the shards.

    Attributes:
        task: The shards.
        stage: Whose posterior is summed up; None: the given labels, with X'X beside them.
        kept: Where the posterior is written too, for neighbours to vote with, a file per shard; empty: nowhere.
    """

    task: Task
    stage: Stage | None
    kept: tuple[Path, ...] = ()

    def __call__(self, number: int) -> State:
        """Return n, Y'1 and, for each design, X'Y and where needed X'1 and X'X, per fold."""
        state = zero_sums(self.task, with_grams=self.stage is None)
        adder = _adder(state, self.task)
        with self._file(number) as kept:
            for block in self._blocks.of(number):
                targets = self._targets(block.new)
                adder.add(block.new, targets)
                if kept is not None:
                    put_targets(kept, block.new.samples, targets)
        adder.finish()
        return state

    @contextmanager
    def _file(self, number: int) -> Iterator[Kept | None]:
        """Rows for the posterior of one shard, whose file is there when the block ends well."""
        size = len(read_part_labels(self.task.labels[number])) if self.kept else 0
        if not size:
            yield None
            return
        with new_targets(self.kept[number], size, self.task.num_classes) as kept:
            yield kept

    @cached_property
    def _blocks(self) -> Blocks:
        return Blocks(self.task)

    def _targets(self, block: Block) -> Float32Array:
        if self.stage is None:
            return given_targets(block.labels)
        return posterior(self.stage.probs(block.rows, block.folds, block.near), block.labels, self.stage.matrix)


@contextmanager
def each_shard(cluster: str | None) -> Iterator[Each]:
    """Give what applies a function to all shards, in order.

    Args:
        cluster: Ray cluster, `auto` or an address; None: this process.

    Yields:
        `map`, or the same on the cluster.

    Raises:
        ConfigError: If Ray is not installed.
        DeviceError: If the cluster cannot be reached.
    """
    if cluster is None:
        yield map
        return
    from labelclean.cluster import open_cluster

    with open_cluster(cluster) as nodes:
        yield nodes.each


def sums_over(
    task: Task, name: str, stage: Stage | None, each: Each = map, posteriors: tuple[Path, ...] = ()
) -> tuple[list[FeatureSums], list[TargetSums]]:
    """Return sums over all shards, for each design; every so many rows they are put on disk with the shards they hold.

    The sums of single shards are added in the order of the shards, whoever made them: the same bits everywhere.

    Args:
        task: The shards.
        name: The pass; names its checkpoint.
        stage: Whose posterior is summed up; None: the given labels, with X'X beside them.
        each: Applies a function to all numbers, in order: `map`, or a cluster.
        posteriors: Where the posterior of each shard is written too; empty: nowhere.

    Returns:
        Feature sums (none of a stage) and target sums, one of each per design.
    """
    path = task.folder / f"{name}.npz"
    state, done = _restored(path, task.digest)
    if state is None:
        state = zero_sums(task, with_grams=stage is None)
    left, rows = range(done, len(task.shards)), 0
    for number, found in zip(left, each(SumsPass(task, stage, posteriors), left), strict=True):
        for key, value in found.items():
            state[key] += value
        rows += task.shards[number].num_rows
        if rows >= CHECKPOINT_ROWS or number + 1 == len(task.shards):
            kept: dict[str, Any] = {"done": np.array(number + 1), "digest": np.array(task.digest), **state}
            with atomic_path(path) as temporary, temporary.open("wb") as file:
                np.savez(file, **kept)
            rows = 0
    designs = range(len(task.means))
    grams = [
        FeatureSums(task.means[one], state["count"], state[f"total{one}"], state[f"gram{one}"])
        for one in designs
        if stage is None
    ]
    return grams, [TargetSums(state["targets"], state[f"cross{one}"]) for one in designs]


def _restored(path: Path, digest: str) -> tuple[State | None, int]:
    """Sums of a killed run and how many shards they hold."""
    if not path.exists():
        return None, 0
    with np.load(path) as kept:
        if str(kept["digest"]) != digest:
            return None, 0
        return {name: kept[name] for name in kept.files if name not in ("done", "digest")}, int(kept["done"])


def zero_sums(task: Task, *, with_grams: bool) -> State:
    """Return empty sums."""
    folds, classes = task.num_folds, task.num_classes
    state = {"count": np.zeros(folds), "targets": np.zeros((folds, classes))}
    for one, mean in enumerate(task.means):
        state[f"cross{one}"] = np.zeros((folds, len(mean), classes))
        if with_grams:
            state[f"total{one}"] = np.zeros((folds, len(mean)))
            state[f"gram{one}"] = np.zeros((folds, len(mean), len(mean)))
    return state


class _Adder:
    """Adds blocks to sums, fold by fold: products in single precision, sums in double."""

    def __init__(self, state: State, num_folds: int) -> None:
        self._state, self._num_folds = state, num_folds

    def add(self, block: Block, targets: Float32Array) -> None:
        """Add one block."""
        state = self._state
        ends = np.searchsorted(block.folds, np.arange(self._num_folds), side="right").tolist()
        for fold, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
            state["count"][fold] += end - start
            state["targets"][fold] += targets[start:end].sum(axis=0, dtype=np.float64)
            for one, design_rows in enumerate(block.rows):
                rows = design_rows[start:end]
                state[f"cross{one}"][fold] += rows.T @ targets[start:end]
                if f"gram{one}" in state:
                    state[f"total{one}"][fold] += rows.sum(axis=0, dtype=np.float64)
                    state[f"gram{one}"][fold] += rows.T @ rows  # numpy computes half of it (syrk)

    def finish(self) -> None:
        """Bring all sums into the state."""


class _DeviceAdder(_Adder):
    """The same on a GPU: float32 products without tf32, sums in double precision on the device."""

    def __init__(self, state: State, num_folds: int, device: str) -> None:
        import torch

        super().__init__(state, num_folds)
        self._device = torch.device(device)
        self._sums = {name: torch.from_numpy(value).to(self._device) for name, value in state.items()}

    def add(self, block: Block, targets: Float32Array) -> None:
        """Add one block."""
        import torch

        allowed = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = False
        try:
            self._add(block, targets)
        finally:
            torch.backends.cuda.matmul.allow_tf32 = allowed

    def _add(self, block: Block, targets: Float32Array) -> None:
        import torch

        sums = self._sums
        wanted = torch.from_numpy(targets).to(self._device)
        rows = [torch.from_numpy(one).to(self._device) for one in block.rows]
        ends = np.searchsorted(block.folds, np.arange(self._num_folds), side="right").tolist()
        for fold, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
            sums["count"][fold] += end - start
            sums["targets"][fold] += wanted[start:end].sum(dim=0, dtype=torch.float64)
            for one, design_rows in enumerate(rows):
                some = design_rows[start:end]
                sums[f"cross{one}"][fold] += some.T @ wanted[start:end]
                if f"gram{one}" in sums:
                    sums[f"total{one}"][fold] += some.sum(dim=0, dtype=torch.float64)
                    sums[f"gram{one}"][fold] += some.T @ some

    def finish(self) -> None:
        """Copy the device's sums into the state."""
        for name, value in self._sums.items():
            self._state[name][...] = value.cpu().numpy()


def _adder(state: State, task: Task) -> _Adder:
    return _Adder(state, task.num_folds) if task.device == "cpu" else _DeviceAdder(state, task.num_folds, task.device)
