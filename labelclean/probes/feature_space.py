"""Features with their folds, neighbours and near-duplicates: all that is known of the samples before any label is looked at."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from labelclean.arrays import Float32Array, Float64Array, FloatArray, IntArray
from labelclean.config import CleaningConfig
from labelclean.probes.held_out import HeldOut, hold_out_all
from labelclean.probes.kernel import Kernel, fit_kernel, raw_kernel_rows
from labelclean.probes.neighbours import (
    SPARE_NEIGHBOURS,
    Neighbours,
    copies_of,
    duplicate_pairs,
    duplicate_threshold,
    joined_groups,
    near_duplicate_sets,
    nearest_neighbours,
    outside_group,
    with_copies,
)
from labelclean.probes.ridge import Design, build_design
from labelclean.probes.sums import (
    bucketed,
    centred_unit_rows,
    feature_mean,
    hashed_parts,
    numbered_parts,
    span_coordinates,
)

NUM_BUCKETS = 32
VOTERS = (10, 20)
MOST_HASH = 2**62


@dataclass(frozen=True)
class SampleKeys:
    """What choices, folds and buckets of N samples hang on: hashes of their ids and groups, whatever else there is.

    Attributes:
        lots: The samples with the smallest are those on which choices are made, int64, shape (N,).
        groups: Hash of the group, or of the sample where it has none, int64, shape (N,), at least 0.
        folds: int64, shape (N,), in [0, F).
        buckets: Hash bucket for bootstraps, int64, shape (N,), each within one fold.
    """

    lots: IntArray
    groups: IntArray
    folds: IntArray
    buckets: IntArray

    @property
    def order(self) -> IntArray:
        """The samples in the order in which they are taken for choices, int64, shape (N,)."""
        return np.argsort(self.lots, kind="stable")

    def take(self, rows: IntArray) -> SampleKeys:
        """Return those of some samples."""
        return SampleKeys(self.lots[rows], self.groups[rows], self.folds[rows], self.buckets[rows])

    def joined(self, groups: IntArray) -> SampleKeys:
        """Return the keys of samples whose groups were joined: all have the fold and bucket of the least hash among them.

        Args:
            groups: Number of each sample's joined group, int64, shape (N,).
        """
        numbers, group = np.unique(groups, return_inverse=True)
        by_hash = np.lexsort((self.groups, group))
        first = by_hash[np.searchsorted(group[by_hash], np.arange(len(numbers)))][group]
        return replace(self, groups=self.groups[first], folds=self.folds[first], buckets=self.buckets[first])


def sample_keys(
    sample_ids: Sequence[Hashable], groups: Sequence[Hashable] | None, *, num_folds: int, seed: int
) -> SampleKeys:
    """Return the keys of samples.

    Args:
        sample_ids: Id of each sample, length N, distinct.
        groups: Group of each sample (part, lot, plate), length N; None: each is its own.
        num_folds: F.
        seed: Salts the hashes.

    Returns:
        The keys.
    """
    names = sample_ids if groups is None else groups
    folds = hashed_parts(names, num_folds, seed=seed, purpose="fold")
    return SampleKeys(
        lots=hashed_parts(sample_ids, MOST_HASH, seed=seed, purpose="selection"),
        groups=hashed_parts(names, MOST_HASH, seed=seed, purpose="group"),
        folds=folds,
        buckets=bucketed(names, folds, fold_buckets(num_folds), seed=seed),
    )


def numbered_keys(start: int, size: int, *, num_folds: int, seed: int) -> SampleKeys:
    """Return the keys of many samples that have no id but their number, at a hundredth of the time.

    Args:
        start: Number of the first sample.
        size: N.
        num_folds: F.
        seed: Salts the hashes.

    Returns:
        The keys.
    """
    lots, groups, folds, buckets = (
        numbered_parts(start, size, parts, seed=seed, purpose=purpose)
        for parts, purpose in (
            (MOST_HASH, "selection"),
            (MOST_HASH, "group"),
            (num_folds, "fold"),
            (fold_buckets(num_folds), "bucket"),
        )
    )
    return SampleKeys(lots, groups, folds, folds * fold_buckets(num_folds) + buckets)


@dataclass(frozen=True)
class FeatureSpace:
    """All that is known of the samples before any label is looked at.

    Attributes:
        design: Centred unit features, folds and decompositions.
        curved: The same for kernel rows; None if switched off.
        kernel: Turns unit features into kernel rows; None if switched off.
        neighbours: Nearest neighbours from other groups, (N, M); None if switched off.
        duplicate_sets: Number of the near-duplicate set, int64, shape (N,), -1 for samples in none.
        groups: Group of each sample (near-duplicate sets joined with the factory's groups), int64, shape (N,).
        buckets: Hash bucket of each sample for bootstraps, int64, shape (N,), in [0, B), each within one fold.
        selection: Rows in the order in which they are taken for choices, int64, shape (N,).
        num_questions: How many questions these samples are asked; together they are judged by as many numbers as one.
    """

    design: Design
    curved: Design | None
    kernel: Kernel | None
    neighbours: Neighbours | None
    duplicate_sets: IntArray
    groups: IntArray
    buckets: IntArray
    selection: IntArray
    num_questions: int = 1

    def __len__(self) -> int:
        """N."""
        return len(self.groups)

    @property
    def designs(self) -> dict[str, Design]:
        """The straight design and, where it is switched on, the curved one, by the names of their experts."""
        return {"ridge": self.design} if self.curved is None else {"ridge": self.design, "kernel": self.curved}

    @cached_property
    def held_out(self) -> dict[str, HeldOut]:
        """What scores all samples of each design with their groups left out; made when it is first asked for."""
        return {name: hold_out_all(design, self.groups) for name, design in self.designs.items()}


@dataclass(frozen=True)
class Centring:
    """How features become rows: sums of different nights mean the same only where it is the same.

    Attributes:
        mean: mu of the features, float64, shape (D,).
        kernel: Turns unit features into kernel rows; None if switched off.
        kernel_mean: mu of the kernel rows, float64, shape (R,); None if switched off.
    """

    mean: Float64Array
    kernel: Kernel | None = None
    kernel_mean: Float64Array | None = None


def build_feature_space(
    features: FloatArray,
    sample_ids: Sequence[Hashable],
    groups: Sequence[Hashable] | None,
    config: CleaningConfig,
    *,
    seed: int,
    device: str = "cpu",
) -> FeatureSpace:
    """Return neighbours, near-duplicates, groups, folds and decompositions of the features.

    Args:
        features: One row per sample, float, shape (N, D), finite, raw.
        sample_ids: Id of each sample, length N, distinct; folds and buckets hang on them.
        groups: Group of each sample (part, lot, plate), length N, or None.
        config: Sections `neighbours` and `teacher` are read.
        seed: Salts the hashes.
        device: Torch device for the neighbour search.

    Returns:
        The feature space; it depends on no label.
    """
    keys = sample_keys(sample_ids, groups, num_folds=config.teacher.folds, seed=seed)
    return space_of_keys(features, keys, config, device=device)


def space_of_keys(
    features: FloatArray,
    keys: SampleKeys,
    config: CleaningConfig,
    *,
    device: str = "cpu",
    centring: Centring | None = None,
) -> FeatureSpace:
    """Return what `build_feature_space` does, from the hashes of ids and groups.

    Args:
        features: One row per sample, float, shape (N, D), finite.
        keys: Keys of the N samples.
        config: Sections `neighbours` and `teacher` are read.
        device: Torch device for the neighbour search.
        centring: That of a reference; default: made of these samples.

    Returns:
        The feature space.
    """
    mean = feature_mean(features) if centring is None else centring.mean
    unit_rows = centred_unit_rows(features, mean)
    if centring is None:
        unit_rows = span_coordinates(unit_rows)
    neighbours, sets = _neighbourhood(unit_rows, config, device)
    sets = with_copies(sets, copies_of(features))
    groups = joined_groups(keys.groups, sets)
    keys = keys.joined(groups)
    if neighbours is not None:
        neighbours = outside_group(neighbours, groups, unit_rows, num_voters(config), device=device)
    curved, kernel = _curved(unit_rows, keys, config, centring)
    return FeatureSpace(
        design=build_design(unit_rows, keys.folds, config.teacher.folds, mean),
        curved=curved,
        kernel=kernel,
        neighbours=neighbours,
        duplicate_sets=sets,
        groups=groups,
        buckets=keys.buckets,
        selection=keys.order,
    )


def num_voters(config: CleaningConfig) -> int:
    """Return how many neighbours a sample has at most."""
    return config.neighbours.k or max(VOTERS)


def fold_buckets(num_folds: int) -> int:
    """Return how many hash buckets a fold holds: all folds together about 32, for each bucket holds a D x D matrix.

    Args:
        num_folds: F, at most 32.

    Returns:
        At least 1.
    """
    return NUM_BUCKETS // num_folds


def _curved(
    unit_rows: Float32Array, keys: SampleKeys, config: CleaningConfig, centring: Centring | None
) -> tuple[Design | None, Kernel | None]:
    """Kernel rows with their folds and decompositions, and the kernel."""
    kernel = None if centring is None else centring.kernel
    if centring is None and min(config.teacher.landmarks, len(unit_rows)) >= 2:
        kernel = landmark_kernel(unit_rows, keys.order, config)
    if kernel is None:
        return None, None
    rows = raw_kernel_rows(kernel, unit_rows)
    mean = feature_mean(rows) if centring is None or centring.kernel_mean is None else centring.kernel_mean
    rows -= mean.astype(np.float32)
    return build_design(rows, keys.folds, config.teacher.folds, mean), kernel


def landmark_kernel(unit_rows: Float32Array, order: IntArray, config: CleaningConfig) -> Kernel:
    """Return the kernel of the first samples of an order.

    Args:
        unit_rows: Centred unit features, float32, shape (N, D).
        order: Samples in the order in which they are taken, int64, shape (N,).
        config: `teacher.landmarks` is read.

    Returns:
        The kernel.
    """
    return fit_kernel(unit_rows[np.sort(order[: config.teacher.landmarks])])


def _neighbourhood(unit_rows: Float32Array, config: CleaningConfig, device: str) -> tuple[Neighbours | None, IntArray]:
    """Neighbours of whatever group, and near-duplicate sets."""
    settings = config.neighbours
    if settings.method == "none":
        return None, np.full(len(unit_rows), -1)
    nearest = nearest_neighbours(
        unit_rows,
        num_voters(config) + SPARE_NEIGHBOURS,
        method=settings.method,
        exact_limit=settings.exact_limit,
        device=device,
    )
    threshold = settings.duplicate_similarity or duplicate_threshold(nearest.similarity)
    return nearest, near_duplicate_sets(*duplicate_pairs(nearest, threshold), len(unit_rows), threshold)
