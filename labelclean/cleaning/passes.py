"""Blocks over shards: unit features with their labels, and sums over all of them; a killed pass goes on where it stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from labelclean.arrays import Float32Array, Float64Array, IntArray
from labelclean.cleaning.memory import block_rows
from labelclean.cleaning.neighbour_lists import read_lists
from labelclean.cleaning.power import powered
from labelclean.cleaning.shard_labels import ShardLabels, read_shard_labels
from labelclean.cleaning.shards import FeatureBlock, Shard, check_finite
from labelclean.cleaning.stage import Block, Stage
from labelclean.cleaning.student import Rule
from labelclean.cleaning.vote_targets import Kept, new_targets, put_targets
from labelclean.noise.targets import given_targets
from labelclean.probes.feature_space import Centring
from labelclean.probes.kernel import raw_kernel_rows
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
        labels: Labels of each shard, or the file that holds them (`ShardLabels`).
        num_classes: K.
        num_folds: F.
        power: Features are taken as sign(x) |x|^power.
        centring: Turns them into rows.
        folder: Where checkpoints lie.
        digest: Of everything that a result hangs on.
        device: Torch device of the sums.
        lists: File with the neighbours of each shard (`neighbour_lists`); empty where none were looked for.
        label_free: Where lies what no label enters, for other questions about the same samples too; None: ``folder``.
    """

    shards: tuple[Shard, ...]
    labels: tuple[Path | ShardLabels, ...]
    num_classes: int
    num_folds: int
    power: float
    centring: Centring
    folder: Path
    digest: str
    device: str = "cpu"
    lists: tuple[Path, ...] = ()
    label_free: Path | None = None

    @property
    def shared(self) -> Path:
        """Where lies what no label enters."""
        return self.label_free or self.folder

    @property
    def means(self) -> tuple[Float64Array, ...]:
        """Mean of the features and, with a kernel, of its rows."""
        kernel_mean = self.centring.kernel_mean
        return (self.centring.mean,) if kernel_mean is None else (self.centring.mean, kernel_mean)

    @property
    def linear(self) -> Task:
        """The same for blocks of unit features alone."""
        return replace(self, centring=Centring(self.centring.mean), lists=())

    def unit_rows(self, number: int, rows: IntArray) -> Float32Array:
        """Return the centred unit features of some samples of a shard.

        Args:
            number: The shard.
            rows: Rows among its samples, int64, shape (n,), ascending.

        Returns:
            float32, shape (n, D).
        """
        known = read_shard_labels(self.labels[number])
        places = rows if known.kept is None else np.flatnonzero(known.kept)[rows]
        taken = self.shards[number].take(places, block_rows(self.num_classes))
        return unit_block(powered(taken, self.power), self.centring.mean)


class Blocks:
    """Turns shards into blocks; holds the memory for one."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._size = block_rows(task.num_classes)
        self._rows = np.empty((self._size, len(task.centring.mean)), dtype=np.float32)
        if task.centring.kernel is not None:
            self._near, self._curved = (
                np.empty((self._size, width), dtype=np.float32) for width in task.centring.kernel.whitening.shape
            )

    def of(self, number: int) -> Iterator[Block]:
        """Yield the samples of one shard that count, block by block."""
        shard, known = self._task.shards[number], read_shard_labels(self._task.labels[number])
        done = 0
        for start, raw in ahead(shard.blocks(self._size)):
            used = np.arange(len(raw)) if known.kept is None else np.flatnonzero(known.kept[start : start + len(raw)])
            if len(used):
                yield self._block(number, start, raw, used, known, done)
                done += len(used)

    def _block(
        self, number: int, start: int, raw: FeatureBlock, used: IntArray, known: ShardLabels, done: int
    ) -> Block:
        task = self._task
        order = np.argsort(known.folds[done : done + len(used)], kind="stable")
        linear = unit_block(powered(raw[used[order]], task.power), task.centring.mean, out=self._rows[: len(order)])
        if not np.isfinite(linear.sum()):
            check_finite(task.shards[number].name, raw[used], start + used)
        return _labelled(task, number, self._designs(linear), done + order, known)

    def _designs(self, linear: Float32Array) -> tuple[Float32Array, ...]:
        kernel = self._task.centring.kernel
        if kernel is None:
            return (linear,)
        curved = raw_kernel_rows(kernel, linear, (self._near[: len(linear)], self._curved[: len(linear)]))
        curved -= self._task.means[1].astype(np.float32)
        return linear, curved


def block_at(task: Task, number: int, rows: IntArray) -> Block:
    """Return a few samples of a shard.

    Args:
        task: The shards.
        number: The shard.
        rows: Rows among its samples, int64, shape (B,), ascending.

    Returns:
        The block, sorted by fold.
    """
    known, linear = read_shard_labels(task.labels[number]), task.unit_rows(number, rows)
    order = np.argsort(known.folds[rows], kind="stable")
    designs: tuple[Float32Array, ...] = (linear[order],)
    if task.centring.kernel is not None:
        designs += (raw_kernel_rows(task.centring.kernel, designs[0]) - task.means[1].astype(np.float32),)
    return _labelled(task, number, designs, rows[order], known)


def _labelled(
    task: Task, number: int, designs: tuple[Float32Array, ...], samples: IntArray, known: ShardLabels
) -> Block:
    """A block of rows with what is known of their samples."""
    return Block(
        rows=designs,
        folds=known.folds[samples].astype(np.int64),
        buckets=known.buckets[samples].astype(np.int64),
        labels=known.labels(samples, task.num_classes),
        samples=samples,
        is_old=None if known.old is None else known.old[samples],
        near=read_lists(task.lists[number], samples) if task.lists else None,
        pred_probs=None if known.pred_probs is None else known.pred_probs[samples],
    )


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
        made: Stage and rule that make the targets; None: the given labels.
        kept: Where the targets are written too, for neighbours to vote with, a file per shard; empty: nowhere.
        with_grams: X'X is wanted too.
    """

    task: Task
    made: tuple[Stage, Rule] | None
    kept: tuple[Path, ...] = ()
    with_grams: bool = False

    def __call__(self, number: int) -> State:
        """Return n, Y'1 and, for each design, X'Y and where needed X'1 and X'X, per fold; and Y'1 of all that vote."""
        state = zero_sums(self.task, with_grams=self.with_grams)
        adder, votes = _adder(state, self.task), np.zeros(self.task.num_classes)
        with self._file(number) as written:
            for block in self._blocks.of(number):
                targets = self._targets(block)
                votes += targets.sum(axis=0, dtype=np.float64)
                is_new = slice(None) if block.is_old is None else ~block.is_old
                adder.add(block.new, targets[is_new])
                if written is not None:
                    put_targets(written, block.samples, targets)
        adder.finish()
        return state | {"votes": votes}

    @contextmanager
    def _file(self, number: int) -> Iterator[Kept | None]:
        """Rows for the targets of one shard, whose file is there when the block ends well."""
        size = len(read_shard_labels(self.task.labels[number])) if self.kept else 0
        if not size:
            yield None
            return
        with new_targets(self.kept[number], size, self.task.num_classes) as written:
            yield written

    @cached_property
    def _blocks(self) -> Blocks:
        return Blocks(self.task)

    def _targets(self, block: Block) -> Float32Array:
        if self.made is None:
            return given_targets(block.labels)
        stage, rule = self.made
        return rule(stage, stage.values(block), block.labels)


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
    task: Task,
    name: str,
    made: tuple[Stage, Rule] | None,
    each: Each = map,
    kept: tuple[Path, ...] = (),
    *,
    with_grams: bool = False,
) -> tuple[list[FeatureSums], tuple[TargetSums, ...], Float64Array]:
    """Return sums over all shards, for each design; every so many rows they are put on disk with the shards they hold.

    The sums of single shards are added in the order of the shards, whoever made them: the same bits everywhere.

    Args:
        task: The shards.
        name: The pass; names its checkpoint.
        made: As in `SumsPass`.
        each: Applies a function to all numbers, in order: `map`, or a cluster.
        kept: As in `SumsPass`.
        with_grams: As in `SumsPass`.

    Returns:
        Feature sums (none without X'X) and target sums, one of each per design, of samples that no reference holds; and
        the sum of the targets of all samples, float64, shape (K,).
    """
    path = task.folder / f"{name}.npz"
    state, done = _restored(path, task.digest)
    if state is None:
        state = zero_sums(task, with_grams=with_grams)
    left, rows = range(done, len(task.shards)), 0
    for number, shard_sums in zip(left, each(SumsPass(task, made, kept, with_grams), left), strict=True):
        for key, value in shard_sums.items():
            state[key] += value
        rows += task.shards[number].num_rows
        if rows >= CHECKPOINT_ROWS or number + 1 == len(task.shards):
            marks: dict[str, Any] = {"done": np.array(number + 1), "digest": np.array(task.digest)}
            with atomic_path(path) as temporary, temporary.open("wb") as file:
                np.savez(file, **marks | state)
            rows = 0
    designs = range(len(task.means))
    grams = [
        FeatureSums(task.means[design], state["count"], state[f"total{design}"], state[f"gram{design}"])
        for design in designs
        if with_grams
    ]
    return grams, tuple(TargetSums(state["targets"], state[f"cross{design}"]) for design in designs), state["votes"]


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
    state = {"count": np.zeros(folds), "targets": np.zeros((folds, classes)), "votes": np.zeros(classes)}
    for design, mean in enumerate(task.means):
        state[f"cross{design}"] = np.zeros((folds, len(mean), classes))
        if with_grams:
            state[f"total{design}"] = np.zeros((folds, len(mean)))
            state[f"gram{design}"] = np.zeros((folds, len(mean), len(mean)))
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
            for design, design_rows in enumerate(block.rows):
                rows = design_rows[start:end]
                state[f"cross{design}"][fold] += rows.T @ targets[start:end]
                if f"gram{design}" in state:
                    state[f"total{design}"][fold] += rows.sum(axis=0, dtype=np.float64)
                    state[f"gram{design}"][fold] += rows.T @ rows  # numpy computes half of it (syrk)

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
        rows = [torch.from_numpy(design_rows).to(self._device) for design_rows in block.rows]
        ends = np.searchsorted(block.folds, np.arange(self._num_folds), side="right").tolist()
        for fold, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
            sums["count"][fold] += end - start
            sums["targets"][fold] += wanted[start:end].sum(dim=0, dtype=torch.float64)
            for design, design_rows in enumerate(rows):
                fold_rows = design_rows[start:end]
                sums[f"cross{design}"][fold] += fold_rows.T @ wanted[start:end]
                if f"gram{design}" in sums:
                    sums[f"total{design}"][fold] += fold_rows.sum(dim=0, dtype=torch.float64)
                    sums[f"gram{design}"][fold] += fold_rows.T @ fold_rows

    def finish(self) -> None:
        """Copy the device's sums into the state."""
        for name, value in self._sums.items():
            self._state[name][...] = value.cpu().numpy()


def _adder(state: State, task: Task) -> _Adder:
    return _Adder(state, task.num_folds) if task.device == "cpu" else _DeviceAdder(state, task.num_folds, task.device)
