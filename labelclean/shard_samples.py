"""The samples of feature shards: given labels, folds, and the hashed sample on which choices are made."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from labelclean.config import CleaningConfig
from labelclean.errors import TableError, listed
from labelclean.gram import FeatureSums, Float64Array, all_but, feature_mean, hashed_parts, spectrum, unit_block
from labelclean.inputs import class_names_of
from labelclean.kernel import Kernel, fit_kernel, raw_kernel_rows
from labelclean.labels import IntArray, class_indices
from labelclean.probe import Design
from labelclean.shards import Shard
from labelclean.space import FeatureSpace

BLOCK_ROWS = 16_384


@dataclass(frozen=True)
class Samples:
    """What is kept in memory of every sample: some bytes each.

    Attributes:
        class_names: The K class names, sorted.
        given: Given class, int32, shape (N,).
        folds: Fold, uint8, shape (N,).
        chosen: Rows of the hashed sample, sorted by fold, int64, shape (n,).
        order: Positions in ``chosen`` by selection hash, int64, shape (n,).
        starts: First row of each shard and N, int64, shape (S + 1,).
    """

    class_names: list[Any]
    given: npt.NDArray[np.int32]
    folds: npt.NDArray[np.uint8]
    chosen: IntArray
    order: IntArray
    starts: IntArray


def read_samples(
    shards: Sequence[Shard],
    labels: Sequence[Any] | npt.NDArray[Any] | None,
    groups: Sequence[Hashable] | None,
    config: CleaningConfig,
    *,
    seed: int,
    sample_rows: int,
) -> Samples:
    """Return labels, folds and the hashed sample of all shards.

    Args:
        shards: The S shards.
        labels: Given label of each of the N rows in order; None: column `given_label` of the shards.
        groups: Group of each row; None: column `group_id` of the shards, if they have it.
        config: `teacher.folds` is read.
        seed: Salts the hashes.
        sample_rows: n, at most; all samples if there are no more.

    Returns:
        The samples.

    Raises:
        TableError: If labels are missing, do not fit or name fewer than two classes, or ids are repeated.
    """
    starts = np.cumsum([0, *(shard.num_rows for shard in shards)])
    total = int(starts[-1])
    for what, values in (("labels", labels), ("groups", groups)):
        if values is not None and len(values) != total:
            raise TableError(
                f"{what} must have one entry per row of the shards, {total:,}, but have {len(values):,}. "
                "Hand them over in the order of the shards."
            )
    names: dict[Any, int] = {}
    given = np.empty(total, dtype=np.int32)
    folds = np.empty(total, dtype=np.uint8)
    hashes = np.empty(total, dtype=np.int64)
    for shard, start in zip(shards, starts[:-1].tolist(), strict=True):
        rows = slice(start, start + shard.num_rows)
        given[rows] = _codes(shard, None if labels is None else labels[rows], names)
        ids = sample_ids(shard, start)
        lots = _values(shard, "group_id") if groups is None else list(groups[rows])
        hashes[rows] = hashed_parts(ids, 2**62, seed=seed, purpose="selection")
        folds[rows] = hashed_parts(
            [str(key) for key in (ids if lots is None else lots)], config.teacher.folds, seed=seed, purpose="fold"
        )
    class_names = class_names_of(np.array(list(names), dtype=object)) if names else []
    if len(class_names) < 2:
        raise TableError(
            f"given labels must hold at least 2 classes, but hold {listed([str(n) for n in class_names])}."
        )
    given = class_indices(list(names), class_names).astype(np.int32)[given]
    _check_distinct(hashes, shards)
    chosen = np.arange(total)
    if total > sample_rows:
        chosen = np.sort(np.argpartition(hashes, sample_rows - 1)[:sample_rows])
    chosen = chosen[np.argsort(folds[chosen], kind="stable")]
    order = np.argsort(hashes[chosen], kind="stable")
    return Samples(class_names, given, folds, chosen, order, starts)


def sample_ids(shard: Shard, start: int) -> list[str]:
    """Return the ids of a shard's rows: its column `sample_id`, or their numbers over all shards."""
    found = _values(shard, "sample_id")
    return [str(row) for row in range(start, start + shard.num_rows)] if found is None else found


def read_sample(
    shards: Sequence[Shard], samples: Samples, config: CleaningConfig
) -> tuple[FeatureSpace, Kernel | None]:
    """Return the features of the hashed sample, with no sums yet, and the kernel of its landmarks.

    Args:
        shards: The shards.
        samples: Which of their rows are the sample.
        config: `teacher.landmarks` is read.

    Returns:
        The space (its kernel rows are centred by their mean over the sample) and the kernel; None if switched off.
    """
    size, num_features = len(samples.chosen), shards[0].num_features
    rows = np.empty((size, num_features), dtype=np.float32)
    by_row = np.argsort(samples.chosen)
    places = samples.chosen[by_row]
    for shard, start in zip(shards, samples.starts[:-1].tolist(), strict=True):
        first, last = np.searchsorted(places, [start, start + shard.num_rows])
        if last > first:
            rows[by_row[first:last]] = shard.take(places[first:last] - start, BLOCK_ROWS)
    mean = feature_mean(rows)
    for start in range(0, size, BLOCK_ROWS):
        rows[start : start + BLOCK_ROWS] = unit_block(rows[start : start + BLOCK_ROWS], mean)
    folds = samples.folds[samples.chosen].astype(np.int64)
    landmarks = np.sort(samples.order[: config.teacher.landmarks])
    curved, kernel = None, None
    if len(landmarks) >= 2:
        kernel = fit_kernel(rows[landmarks])
        curved_rows = np.empty((size, kernel.num_columns), dtype=np.float32)
        for start in range(0, size, BLOCK_ROWS):
            curved_rows[start : start + BLOCK_ROWS] = raw_kernel_rows(kernel, rows[start : start + BLOCK_ROWS])
        centre = feature_mean(curved_rows)
        curved_rows -= centre.astype(np.float32)
        curved = Design(curved_rows, folds, _no_sums(centre), ())
    numbers = np.arange(size)
    space = FeatureSpace(
        design=Design(rows, folds, _no_sums(mean), ()),
        curved=curved,
        neighbours=None,
        duplicate_sets=np.full(size, -1),
        duplicate_similarity=1.0,
        groups=numbers,
        buckets=numbers,
        selection=samples.order,
    )
    return space, kernel


def with_sums(design: Design, sums: FeatureSums) -> Design:
    """Return the sample's rows with the sums and decompositions of all samples."""
    spectra = tuple(spectrum(sums, all_but(fold, sums.num_parts)) for fold in range(sums.num_parts))
    return Design(design.unit_rows, design.folds, sums, spectra)


def _no_sums(mean: Float64Array) -> FeatureSums:
    return FeatureSums(mean, np.empty(0), np.empty((0, len(mean))), np.empty((0, len(mean), len(mean))))


def _values(shard: Shard, name: str) -> list[Any] | None:
    found = shard.column(name)
    return None if found is None else found.to_pylist()


def _codes(
    shard: Shard, labels: Sequence[Any] | npt.NDArray[Any] | None, names: dict[Any, int]
) -> npt.NDArray[np.int32]:
    """Number of each label among those seen so far."""
    values = _values(shard, "given_label") if labels is None else np.asarray(labels).tolist()
    if values is None:
        raise TableError(
            f"{shard.path}: labels are needed, but none were handed over and the shard has no column 'given_label'."
        )
    missing = [row for row, value in enumerate(values) if value is None]
    if missing:
        raise TableError(f"{shard.path}: every row needs a label, but {len(missing):,} have none: rows {missing[:5]}.")
    return np.fromiter((names.setdefault(value, len(names)) for value in values), np.int32, count=len(values))


def _check_distinct(hashes: IntArray, shards: Sequence[Shard]) -> None:
    """Refuse repeated ids; two of 10^8 different ids share a 62-bit hash with a chance of one in a thousand."""
    ordered = np.sort(hashes)
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    if not len(twice):
        return
    where = np.flatnonzero(np.isin(hashes, twice[:5]))[:5]
    starts = np.cumsum([0, *(shard.num_rows for shard in shards)])
    found = []
    for row in where.tolist():
        number = int(np.searchsorted(starts, row, side="right")) - 1
        found.append(
            f"{sample_ids(shards[number], int(starts[number]))[row - starts[number]]} in {shards[number].path.name}"
        )
    raise TableError(
        f"sample_ids must be distinct over all shards, but {len(twice):,} are repeated: {listed(found)}. "
        "Take the repeated rows out."
    )
