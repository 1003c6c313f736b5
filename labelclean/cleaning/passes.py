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
SumsByName = dict[str, Float64Array]
Each = Callable[[Callable[[int], Any], Iterable[int]], Iterable[Any]]


@dataclass(frozen=True)
class ShardSet:
    """The shards that every pass reads, what is known of their samples, and how features become rows.

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
    def linear(self) -> ShardSet:
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

    def __init__(self, shard_set: ShardSet) -> None:
        self._shard_set = shard_set
        self._size = block_rows(shard_set.num_classes)
        self._rows = np.empty((self._size, len(shard_set.centring.mean)), dtype=np.float32)
        if shard_set.centring.kernel is not None:
            self._near, self._curved = (
                np.empty((self._size, width), dtype=np.float32) for width in shard_set.centring.kernel.whitening.shape
            )

    def of(self, number: int) -> Iterator[Block]:
        """Yield the samples of one shard that count, block by block."""
        shard, known = self._shard_set.shards[number], read_shard_labels(self._shard_set.labels[number])
        done = 0
        for start, raw in ahead(shard.blocks(self._size)):
            used = np.arange(len(raw)) if known.kept is None else np.flatnonzero(known.kept[start : start + len(raw)])
            if len(used):
                yield self._block(number, start, raw, used, known, done)
                done += len(used)

    def _block(
        self, number: int, start: int, raw: FeatureBlock, used: IntArray, known: ShardLabels, done: int
    ) -> Block:
        shard_set = self._shard_set
        order = np.argsort(known.folds[done : done + len(used)], kind="stable")
        linear = unit_block(
            powered(raw[used[order]], shard_set.power), shard_set.centring.mean, out=self._rows[: len(order)]
        )
        if not np.isfinite(linear.sum()):
            check_finite(shard_set.shards[number].name, raw[used], start + used)
        return _labelled(shard_set, number, self._designs(linear), done + order, known)

    def _designs(self, linear: Float32Array) -> tuple[Float32Array, ...]:
        kernel = self._shard_set.centring.kernel
        if kernel is None:
            return (linear,)
        curved = raw_kernel_rows(kernel, linear, (self._near[: len(linear)], self._curved[: len(linear)]))
        curved -= self._shard_set.means[1].astype(np.float32)
        return linear, curved


def block_at(shard_set: ShardSet, number: int, rows: IntArray) -> Block:
    """Return a few samples of a shard.

    Args:
        shard_set: The shards.
        number: The shard.
        rows: Rows among its samples, int64, shape (B,), ascending.

    Returns:
        The block, sorted by fold.
    """
    known, linear = read_shard_labels(shard_set.labels[number]), shard_set.unit_rows(number, rows)
    order = np.argsort(known.folds[rows], kind="stable")
    designs: tuple[Float32Array, ...] = (linear[order],)
    if shard_set.centring.kernel is not None:
        designs += (raw_kernel_rows(shard_set.centring.kernel, designs[0]) - shard_set.means[1].astype(np.float32),)
    return _labelled(shard_set, number, designs, rows[order], known)


def _labelled(
    shard_set: ShardSet, number: int, designs: tuple[Float32Array, ...], samples: IntArray, known: ShardLabels
) -> Block:
    """A block of rows with what is known of their samples."""
    return Block(
        rows=designs,
        folds=known.folds[samples].astype(np.int64),
        buckets=known.buckets[samples].astype(np.int64),
        labels=known.labels(samples, shard_set.num_classes),
        samples=samples,
        is_old=None if known.old is None else known.old[samples],
        near=read_lists(shard_set.lists[number], samples) if shard_set.lists else None,
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
        shard_set: The shards.
        made: Stage and rule that make the targets; None: the given labels.
        kept: Where the targets are written too, for neighbours to vote with, a file per shard; empty: nowhere.
        with_grams: X'X is wanted too.
    """

    shard_set: ShardSet
    made: tuple[Stage, Rule] | None
    kept: tuple[Path, ...] = ()
    with_grams: bool = False

    def __call__(self, number: int) -> SumsByName:
        """Return n, Y'1 and, for each design, X'Y and where needed X'1 and X'X, per fold; and Y'1 of all that vote."""
        sums = zero_sums(self.shard_set, with_grams=self.with_grams)
        adder, votes = _adder(sums, self.shard_set), np.zeros(self.shard_set.num_classes)
        with self._file(number) as written:
            for block in self._blocks.of(number):
                targets = self._targets(block)
                votes += targets.sum(axis=0, dtype=np.float64)
                is_new = slice(None) if block.is_old is None else ~block.is_old
                adder.add(block.new, targets[is_new])
                if written is not None:
                    put_targets(written, block.samples, targets)
        adder.finish()
        return sums | {"votes": votes}

    @contextmanager
    def _file(self, number: int) -> Iterator[Kept | None]:
        """Rows for the targets of one shard, whose file is there when the block ends well."""
        size = len(read_shard_labels(self.shard_set.labels[number])) if self.kept else 0
        if not size:
            yield None
            return
        with new_targets(self.kept[number], size, self.shard_set.num_classes) as written:
            yield written

    @cached_property
    def _blocks(self) -> Blocks:
        return Blocks(self.shard_set)

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
    shard_set: ShardSet,
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
        shard_set: The shards.
        name: The pass; names its checkpoint.
        made: As in `SumsPass`.
        each: Applies a function to all numbers, in order: `map`, or a cluster.
        kept: As in `SumsPass`.
        with_grams: As in `SumsPass`.

    Returns:
        Feature sums (none without X'X) and target sums, one of each per design, of samples that no reference holds; and
        the sum of the targets of all samples, float64, shape (K,).
    """
    path = shard_set.folder / f"{name}.npz"
    sums, done = _restored(path, shard_set.digest)
    if sums is None:
        sums = zero_sums(shard_set, with_grams=with_grams)
    left, rows = range(done, len(shard_set.shards)), 0
    for number, shard_sums in zip(left, each(SumsPass(shard_set, made, kept, with_grams), left), strict=True):
        for key, value in shard_sums.items():
            sums[key] += value
        rows += shard_set.shards[number].num_rows
        if rows >= CHECKPOINT_ROWS or number + 1 == len(shard_set.shards):
            marks: dict[str, Any] = {"done": np.array(number + 1), "digest": np.array(shard_set.digest)}
            with atomic_path(path) as temporary, temporary.open("wb") as file:
                np.savez(file, **marks | sums)
            rows = 0
    designs = range(len(shard_set.means))
    grams = [
        FeatureSums(shard_set.means[design], sums["count"], sums[f"total{design}"], sums[f"gram{design}"])
        for design in designs
        if with_grams
    ]
    return grams, tuple(TargetSums(sums["targets"], sums[f"cross{design}"]) for design in designs), sums["votes"]


def _restored(path: Path, digest: str) -> tuple[SumsByName | None, int]:
    """Sums of a killed run and how many shards they hold."""
    if not path.exists():
        return None, 0
    with np.load(path) as kept:
        if str(kept["digest"]) != digest:
            return None, 0
        return {name: kept[name] for name in kept.files if name not in ("done", "digest")}, int(kept["done"])


def zero_sums(shard_set: ShardSet, *, with_grams: bool) -> SumsByName:
    """Return empty sums."""
    folds, classes = shard_set.num_folds, shard_set.num_classes
    sums = {"count": np.zeros(folds), "targets": np.zeros((folds, classes)), "votes": np.zeros(classes)}
    for design, mean in enumerate(shard_set.means):
        sums[f"cross{design}"] = np.zeros((folds, len(mean), classes))
        if with_grams:
            sums[f"total{design}"] = np.zeros((folds, len(mean)))
            sums[f"gram{design}"] = np.zeros((folds, len(mean), len(mean)))
    return sums


class _Adder:
    """Adds blocks to sums, fold by fold: products in single precision, sums in double."""

    def __init__(self, sums: SumsByName, num_folds: int) -> None:
        self._sums, self._num_folds = sums, num_folds

    def add(self, block: Block, targets: Float32Array) -> None:
        """Add one block."""
        sums = self._sums
        ends = np.searchsorted(block.folds, np.arange(self._num_folds), side="right").tolist()
        for fold, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
            sums["count"][fold] += end - start
            sums["targets"][fold] += targets[start:end].sum(axis=0, dtype=np.float64)
            for design, design_rows in enumerate(block.rows):
                rows = design_rows[start:end]
                sums[f"cross{design}"][fold] += rows.T @ targets[start:end]
                if f"gram{design}" in sums:
                    sums[f"total{design}"][fold] += rows.sum(axis=0, dtype=np.float64)
                    sums[f"gram{design}"][fold] += rows.T @ rows  # numpy computes half of it (syrk)

    def finish(self) -> None:
        """Bring all of them home."""


class _DeviceAdder(_Adder):
    """The same on a GPU: float32 products without tf32, sums in double precision on the device."""

    def __init__(self, sums: SumsByName, num_folds: int, device: str) -> None:
        import torch

        super().__init__(sums, num_folds)
        self._device = torch.device(device)
        self._on_device = {name: torch.from_numpy(value).to(self._device) for name, value in sums.items()}

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

        on_device = self._on_device
        wanted = torch.from_numpy(targets).to(self._device)
        rows = [torch.from_numpy(design_rows).to(self._device) for design_rows in block.rows]
        ends = np.searchsorted(block.folds, np.arange(self._num_folds), side="right").tolist()
        for fold, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
            on_device["count"][fold] += end - start
            on_device["targets"][fold] += wanted[start:end].sum(dim=0, dtype=torch.float64)
            for design, design_rows in enumerate(rows):
                fold_rows = design_rows[start:end]
                on_device[f"cross{design}"][fold] += fold_rows.T @ wanted[start:end]
                if f"gram{design}" in on_device:
                    on_device[f"total{design}"][fold] += fold_rows.sum(dim=0, dtype=torch.float64)
                    on_device[f"gram{design}"][fold] += fold_rows.T @ fold_rows

    def finish(self) -> None:
        """Copy them from the device."""
        for name, value in self._on_device.items():
            self._sums[name][...] = value.cpu().numpy()


def _adder(sums: SumsByName, shard_set: ShardSet) -> _Adder:
    return (
        _Adder(sums, shard_set.num_folds)
        if shard_set.device == "cpu"
        else _DeviceAdder(sums, shard_set.num_folds, shard_set.device)
    )
