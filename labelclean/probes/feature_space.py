"""Features with their folds, neighbours and near-duplicates: all that is known of the samples before any label is looked at."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from labelclean.arrays import Float32Array, FloatArray, IntArray
from labelclean.config import CleaningConfig
from labelclean.probes.held_out import HeldOut, hold_out_all
from labelclean.probes.kernel import kernel_rows
from labelclean.probes.neighbours import (
    SPARE_NEIGHBOURS,
    Neighbours,
    duplicate_threshold,
    joined_groups,
    near_duplicate_sets,
    nearest_neighbours,
    outside_group,
    with_exact_copies,
)
from labelclean.probes.ridge import Design, build_design, design_of_sums
from labelclean.probes.sums import (
    FeatureSums,
    bucketed,
    build_feature_sums,
    centred_unit_rows,
    feature_mean,
    hashed_parts,
    joined_parts,
    span_coordinates,
)

NUM_BUCKETS = 32
VOTERS = (10, 20)


@dataclass(frozen=True)
class FeatureSpace:
    """All that is known of the samples before any label is looked at.

    Attributes:
        design: Centred unit features, folds and decompositions.
        curved: The same for kernel rows (`kernel.kernel_rows`); None if switched off.
        neighbours: Nearest neighbours from other groups, (N, M); None if switched off.
        duplicate_sets: Number of the near-duplicate set, int64, shape (N,), -1 for samples in none.
        duplicate_similarity: Cosine similarity from which samples were joined.
        groups: Group of each sample (near-duplicate sets joined with the factory's groups), int64, shape (N,).
        buckets: Hash bucket of each sample for bootstraps, int64, shape (N,), in [0, B), each within one fold.
        bucket_sums: Feature sums per bucket; None out of core, where they are summed when they are needed.
        selection: Rows on which choices are made, int64, shape (n,); all rows of a small data set.
    """

    design: Design
    curved: Design | None
    neighbours: Neighbours | None
    duplicate_sets: IntArray
    duplicate_similarity: float
    groups: IntArray
    buckets: IntArray
    bucket_sums: FeatureSums | None
    selection: IntArray

    def __len__(self) -> int:
        """N."""
        return len(self.groups)

    @property
    def designs(self) -> dict[str, Design]:
        """The straight design and, where it is switched on, the curved one, by the names of their views."""
        return {"ridge": self.design} if self.curved is None else {"ridge": self.design, "kernel": self.curved}

    @cached_property
    def held_out(self) -> dict[str, HeldOut]:
        """What scores all samples of each design with their groups left out; made when it is first asked for."""
        return {name: hold_out_all(design, self.groups) for name, design in self.designs.items()}


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
    mean = feature_mean(features)
    unit_rows = span_coordinates(centred_unit_rows(features, mean))
    neighbours, sets, similarity = _neighbourhood(unit_rows, groups, config, device)
    sets = with_exact_copies(sets, features)
    joined = joined_groups(groups, sets)
    keys = _group_keys(sample_ids if groups is None else groups, joined)
    folds = hashed_parts(keys, config.teacher.folds, seed=seed, purpose="fold")
    if neighbours is not None:
        wanted = config.neighbours.k or max(VOTERS)
        neighbours = outside_group(neighbours, joined, unit_rows, wanted, device=device)
    order = hashed_parts(list(sample_ids), 2**62, seed=seed, purpose="selection").argsort(kind="stable")
    num_folds = config.teacher.folds
    buckets = bucketed(keys, folds, fold_buckets(num_folds), seed=seed)
    sums = build_feature_sums(unit_rows, buckets, num_folds * fold_buckets(num_folds), mean, np.float32)
    return FeatureSpace(
        design=design_of_sums(unit_rows, folds, joined_parts(sums, num_folds)),
        curved=_curved(unit_rows, folds, order, config),
        neighbours=neighbours,
        duplicate_sets=sets,
        duplicate_similarity=similarity,
        groups=joined,
        buckets=buckets,
        bucket_sums=sums,
        selection=order,
    )


def fold_buckets(num_folds: int) -> int:
    """Return how many hash buckets a fold holds: all folds together about 32, for each bucket holds a D x D matrix.

    Args:
        num_folds: F, at most 32.

    Returns:
        At least 1.
    """
    return NUM_BUCKETS // num_folds


def _curved(unit_rows: Float32Array, folds: IntArray, order: IntArray, config: CleaningConfig) -> Design | None:
    """Kernel rows with their folds and decompositions."""
    if min(config.teacher.landmarks, len(unit_rows)) < 2:
        return None
    rows = kernel_rows(unit_rows, order[: config.teacher.landmarks])
    return build_design(rows, folds, config.teacher.folds, np.zeros(rows.shape[1]))


def _neighbourhood(
    unit_rows: Float32Array, groups: Sequence[Hashable] | None, config: CleaningConfig, device: str
) -> tuple[Neighbours | None, IntArray, float]:
    """Neighbours of whatever group, near-duplicate sets, and the similarity that joined them."""
    settings = config.neighbours
    if settings.method == "none":
        return None, np.full(len(unit_rows), -1), 1.0
    wanted = (settings.k or max(VOTERS)) + SPARE_NEIGHBOURS
    found = nearest_neighbours(
        unit_rows, wanted, method=settings.method, exact_limit=settings.exact_limit, device=device
    )
    similarity = settings.duplicate_similarity or duplicate_threshold(found)
    return found, near_duplicate_sets(found, similarity), similarity


def _group_keys(ids: Sequence[Hashable], joined: IntArray) -> list[str]:
    """The smallest id within each joined group: a name that does not depend on the order of the samples."""
    names = [str(value) for value in ids]
    smallest: dict[int, str] = {}
    for group, name in zip(joined.tolist(), names, strict=True):
        smallest[group] = min(smallest.get(group, name), name)
    return [smallest[group] for group in joined.tolist()]
