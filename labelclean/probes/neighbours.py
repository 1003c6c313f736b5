"""Each sample's nearest neighbours in feature space, their label votes, near-duplicates and twins with conflicting labels.

Features come centred and of unit length (`sums.centred_unit_rows`), so the inner product is
the cosine similarity. Nothing here ever holds an N x N matrix.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np

from labelclean.arrays import Float32Array, FloatArray, IntArray
from labelclean.probes.index import (
    RECALL_AT,
    RECALL_QUERIES,
    add_rows,
    build_index,
    search_index,
    tune_index,
)

BLOCK_SAMPLES = 4096
BLOCK_CELLS = 64 * 2**20
SPARE_NEIGHBOURS = 6
LARGEST_SET = 20
LARGEST_SET_SHARE = 0.01
LEAST_DUPLICATE_SIMILARITY = 0.95
EXACT_COPY = 1.0 - 1e-6


@dataclass(frozen=True)
class Neighbours:
    """Nearest neighbours of each sample, nearest first.

    Attributes:
        index: Row numbers, int64, shape (N, M); -1 where a sample has fewer than M.
        similarity: Cosine similarities, float32, shape (N, M), falling along a row; 0 beside a -1.
        method: How they were found, `exact` or `index`.
        recall: Share of the 10 nearest that were found, measured against exact search on a sample of 200; 1 if exact.
    """

    index: IntArray
    similarity: Float32Array
    method: str = "exact"
    recall: float = 1.0

    def take(self, rows: IntArray) -> Neighbours:
        """Return those of some samples."""
        return replace(self, index=self.index[rows], similarity=self.similarity[rows])


def nearest_neighbours(
    unit_rows: Float32Array,
    num_neighbours: int,
    *,
    method: Literal["auto", "exact", "index"] = "exact",
    exact_limit: int = 20_000,
    device: str = "cpu",
) -> Neighbours:
    """Return the most similar other samples of each sample.

    Args:
        unit_rows: Centred unit features, float32, shape (N, D).
        num_neighbours: M; fewer are found when there are fewer than M + 1 samples.
        method: `exact` compares all pairs in blocks, `index` asks faiss's inverted file, `auto` is `index` above
            ``exact_limit`` samples.
        exact_limit: Read by `auto`.
        device: Torch device.

    Returns:
        Neighbours, rows aligned with ``unit_rows``; a sample is never its own neighbour.
    """
    wanted = min(num_neighbours, max(len(unit_rows) - 1, 0))
    if method == "index" or (method == "auto" and len(unit_rows) > exact_limit):
        return _indexed(unit_rows, wanted, device)
    return _exact(unit_rows, wanted, device)


def outside_group(
    neighbours: Neighbours, groups: IntArray, unit_rows: Float32Array, num_neighbours: int, *, device: str = "cpu"
) -> Neighbours:
    """Return each sample's nearest neighbours that belong to another group.

    Rows whose list holds too few strangers are searched again, exactly.

    Args:
        neighbours: Neighbours of whatever group, rows aligned with ``unit_rows``.
        groups: Group number of each sample, int64, shape (N,).
        unit_rows: Centred unit features, float32, shape (N, D).
        num_neighbours: M.
        device: Torch device for the second search.

    Returns:
        Neighbours, shape (N, M) at most; -1 where all remaining samples are of the own group.
    """
    is_stranger = (groups[neighbours.index] != groups[:, None]) & (neighbours.index >= 0)
    width = min(num_neighbours, max(len(groups) - 1, 0))
    order = np.argsort(~is_stranger, axis=1, kind="stable")[:, :width]
    index = np.where(np.take_along_axis(is_stranger, order, 1), np.take_along_axis(neighbours.index, order, 1), -1)
    similarity = np.where(index >= 0, np.take_along_axis(neighbours.similarity, order, 1), np.float32(0))
    if index.shape[1] < width:
        missing = width - index.shape[1]
        index = np.pad(index, ((0, 0), (0, missing)), constant_values=-1)
        similarity = np.pad(similarity, ((0, 0), (0, missing)))
    short = np.flatnonzero((index < 0).any(axis=1))
    step = max(1, min(BLOCK_SAMPLES // 4, BLOCK_CELLS // max(len(groups), 1)))
    for start in range(0, len(short), step):
        rows = short[start : start + step]
        index[rows], similarity[rows] = _strangers(unit_rows, rows, groups, width, device)
    return replace(neighbours, index=index, similarity=similarity)


def nearest_of(neighbours: Neighbours, count: int) -> Neighbours:
    """Return the nearest few of each sample's neighbours."""
    return Neighbours(neighbours.index[:, :count], neighbours.similarity[:, :count])


def label_votes(neighbours: Neighbours, targets: Float32Array) -> Float32Array:
    """Return the similarity-weighted sum of the neighbours' labels.

    Args:
        neighbours: Neighbours of N samples, or of some of them.
        targets: Label rows (one-hot, votes or probabilities), float16 or float32, shape (N, K).

    Returns:
        float32, shape (N, K), at least 0, rows aligned with ``neighbours``; a row sums to the
        positive similarities of its neighbours.

    Examples:
        >>> twins = Neighbours(np.array([[1], [0]]), np.array([[0.5], [0.5]], dtype=np.float32))
        >>> label_votes(twins, np.array([[1, 0], [0, 1]], dtype=np.float32))
        array([[0. , 0.5],
               [0.5, 0. ]], dtype=float32)
    """
    votes = np.zeros((len(neighbours.index), targets.shape[1]), dtype=np.float32)
    weight = np.where(neighbours.index >= 0, np.maximum(neighbours.similarity, 0), 0).astype(np.float32)
    for place in range(neighbours.index.shape[1]):
        votes += weight[:, place, None] * targets[neighbours.index[:, place]]
    return votes


def mean_similarity(neighbours: Neighbours) -> Float32Array:
    """Return how close each sample lies to its neighbours.

    Args:
        neighbours: Neighbours of N samples.

    Returns:
        Mean cosine similarity of the neighbours found, float32, shape (N,), in [-1, 1]; 0 for a
        sample without neighbours.
    """
    num_found = (neighbours.index >= 0).sum(axis=1)
    return np.asarray(neighbours.similarity.sum(axis=1) / np.maximum(num_found, 1), dtype=np.float32)


def duplicate_threshold(similarity: Float32Array) -> float:
    """Return the similarity from which two samples of this data set count as near-duplicates.

    Distances d = 1 - similarity to the 5th and 10th neighbour tell the local dimension m
    (Levina and Bickel 2005 [9]: log(d10/d5) has mean (2/m) (psi(10) - psi(5))). A pair so much
    nearer than the 10th neighbour that unrelated samples come as near once in 100,000 draws
    is a near-duplicate; it must also reach a cosine of 0.95.

    Args:
        similarity: Cosine similarities of samples to their nearest others, group members included, falling along a row,
            float32, shape (N, M); 0 where there are fewer than M others.

    Returns:
        Cosine similarity in [0.95, 1]. With fewer than 10 neighbours only exact copies count.
    """
    if similarity.shape[1] < 10 or not len(similarity):
        return EXACT_COPY
    distance = np.maximum(1.0 - similarity[:, :10].astype(np.float64), 1e-7)
    growth = float(np.median(np.log(distance[:, 9] / distance[:, 4])))
    tenth = float(np.median(distance[:, 9]))
    shrink = np.exp(np.log(1e-5) * growth / 0.7456)  # psi(10) - psi(5); the exponent is 2/m
    return float(min(max(1.0 - tenth * shrink, LEAST_DUPLICATE_SIMILARITY), EXACT_COPY))


def duplicate_pairs(neighbours: Neighbours, threshold: float) -> tuple[IntArray, IntArray, Float32Array]:
    """Return the pairs of samples that are similar enough.

    Args:
        neighbours: Neighbours of N samples, group members included.
        threshold: Least cosine similarity.

    Returns:
        Both rows, int64, shape (P,), and their similarity, float32, shape (P,).
    """
    num_samples, width = neighbours.index.shape
    left = np.repeat(np.arange(num_samples), width)
    right, similarity = neighbours.index.ravel(), neighbours.similarity.ravel()
    is_pair = (similarity >= threshold) & (right >= 0)
    return left[is_pair], right[is_pair], similarity[is_pair]


def near_duplicate_sets(
    left: IntArray, right: IntArray, similarity: Float32Array, num_samples: int, threshold: float
) -> IntArray:
    """Return the near-duplicate set of each sample.

    Pairs above the threshold are joined. Chains of merely similar samples must not grow into
    giant sets, so a set of more than 20 samples (or 1 % of all) is split by halving the allowed
    distance; what is still larger when only exact copies remain says nothing about a
    common part and is dissolved.

    Args:
        left: One sample of each pair, int64, shape (P,).
        right: The other, int64, shape (P,).
        similarity: Their cosine similarity, at least the threshold, float32, shape (P,).
        num_samples: N.
        threshold: Cosine similarity from which two samples are near-duplicates.

    Returns:
        int64, shape (N,): the lowest row number of the sample's set, -1 for samples in none.
    """
    limit = max(LARGEST_SET, int(LARGEST_SET_SHARE * num_samples))
    while True:
        sets = _components(num_samples, left, right)
        size = np.bincount(sets, minlength=num_samples)[sets]
        is_giant = size > limit
        if not is_giant.any():
            return np.where(size > 1, sets, -1)
        threshold = 1.0 - (1.0 - threshold) / 2.0
        keep = ~is_giant[left] | ((similarity >= threshold) & (threshold <= EXACT_COPY))
        left, right, similarity = left[keep], right[keep], similarity[keep]


def copies_of(features: FloatArray) -> IntArray:
    """Return a hash of each row's bytes: equal for one and the same feature.

    Args:
        features: Raw features, float, shape (N, D).

    Returns:
        int64, shape (N,).
    """
    rows, blake2b = np.ascontiguousarray(features), hashlib.blake2b
    digests = b"".join([blake2b(row, digest_size=8).digest() for row in rows])
    return np.frombuffer(digests, dtype=np.int64)


def with_copies(sets: IntArray, copies: IntArray) -> IntArray:
    """Return near-duplicate sets in which samples of one and the same feature always stand together, however many.

    Args:
        sets: Near-duplicate set of each sample, int64, shape (N,), -1 for samples in none.
        copies: `copies_of` their features, int64, shape (N,).

    Returns:
        int64, shape (N,): the lowest row number of the sample's set, -1 for samples in none.

    Examples:
        >>> with_copies(np.array([-1, -1, 2, 2]), np.array([7, 5, 7, 3]))
        array([ 0, -1,  0,  0])
    """
    joined = joined_groups(copies, sets)
    return np.where(np.bincount(joined, minlength=len(sets))[joined] > 1, joined, -1)


def joined_groups(groups: IntArray, sets: IntArray) -> IntArray:
    """Return groups that hold whole near-duplicate sets and whole groups of the factory.

    Args:
        groups: Group of each sample, any numbers, int64, shape (N,).
        sets: Near-duplicate set of each sample, int64, shape (N,), -1 for samples in none.

    Returns:
        int64, shape (N,): the lowest row number of the sample's joined group; a sample that
        belongs to nothing is a group of its own.

    Examples:
        >>> joined_groups(np.array([4, 9, 4, 6]), np.array([-1, 1, 1, -1]))
        array([0, 0, 0, 3])
    """
    rows = np.arange(len(sets))
    _, first, group = np.unique(groups, return_index=True, return_inverse=True)
    member, twin = first[group], np.where(sets >= 0, sets, rows)
    if len(first) == len(rows):
        return twin
    return _components(len(sets), np.concatenate([rows, rows]), np.concatenate([member, twin]))


def conflict_sets(duplicate_sets: IntArray, given: IntArray) -> IntArray:
    """Return the near-duplicate sets whose given labels differ.

    Args:
        duplicate_sets: Number of the near-duplicate set, shape (N,), -1 for samples in none.
        given: Given class, shape (N,).

    Returns:
        The same numbers, -1 also where all labels of the set agree.

    Examples:
        >>> conflict_sets(np.array([0, 0, 1, 1, -1]), np.array([2, 2, 0, 1, 0]))
        array([-1, -1,  1,  1, -1])
    """
    if duplicate_sets.max(initial=-1) < 0:
        return duplicate_sets.copy()
    size = int(duplicate_sets.max()) + 1
    members = duplicate_sets >= 0
    low = np.full(size, np.iinfo(np.int64).max)
    high = np.full(size, -1)
    np.minimum.at(low, duplicate_sets[members], given[members])
    np.maximum.at(high, duplicate_sets[members], given[members])
    differs = members & (low != high)[np.maximum(duplicate_sets, 0)]
    return np.where(differs, duplicate_sets, -1)


def neighbours_record(neighbours: Neighbours | None) -> dict[str, Any] | None:
    """Return how neighbours were found and what share of the true ones, as JSON values; None where none were."""
    if neighbours is None:
        return None
    return {"method": neighbours.method, "recall_at_10": round(neighbours.recall, 4)}


def _components(num_samples: int, left: IntArray, right: IntArray) -> IntArray:
    """Lowest row number of each connected component."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(left), dtype=bool), (left, right)), shape=(num_samples, num_samples))
    _, component = connected_components(graph, directed=False)
    first = np.full(num_samples, num_samples)
    np.minimum.at(first, component, np.arange(num_samples))
    return np.asarray(first[component], dtype=np.int64)


def _exact(unit_rows: Float32Array, wanted: int, device: str) -> Neighbours:
    """All pairs in square blocks; each block serves its rows and, mirrored, its columns."""
    import torch

    rows = torch.from_numpy(unit_rows).to(device)
    num_samples = len(rows)
    similarity = torch.full((num_samples, wanted), -torch.inf, device=device)
    index = torch.full((num_samples, wanted), -1, dtype=torch.int64, device=device)

    def keep_best(mine: slice, block: Any, first: int) -> None:
        best, place = block.topk(min(wanted, block.shape[1]), dim=1)
        merged, order = torch.cat([similarity[mine], best], 1).topk(wanted, dim=1)
        index[mine] = torch.cat([index[mine], place + first], 1).gather(1, order)
        similarity[mine] = merged

    for first in range(0, num_samples, BLOCK_SAMPLES):
        mine = slice(first, min(first + BLOCK_SAMPLES, num_samples))
        for second in range(first, num_samples, BLOCK_SAMPLES):
            theirs = slice(second, min(second + BLOCK_SAMPLES, num_samples))
            block = rows[mine] @ rows[theirs].T
            if first == second:
                block.fill_diagonal_(-torch.inf)
            else:
                keep_best(theirs, block.T, first)
            keep_best(mine, block, second)
    return _neighbours(index.cpu().numpy(), similarity.cpu().numpy())


def _strangers(
    unit_rows: Float32Array, queries: IntArray, groups: IntArray, wanted: int, device: str
) -> tuple[IntArray, Float32Array]:
    """Neighbours of some rows among the samples of other groups."""
    import torch

    block = torch.from_numpy(unit_rows[queries]).to(device) @ torch.from_numpy(unit_rows).to(device).T
    own = torch.from_numpy(groups[queries][:, None] == groups[None, :]).to(device)
    block.masked_fill_(own, -torch.inf)
    similarity, index = block.topk(wanted, dim=1)
    near = _neighbours(index.cpu().numpy(), similarity.cpu().numpy())
    return near.index, near.similarity


def _indexed(unit_rows: Float32Array, wanted: int, device: str) -> Neighbours:
    """Neighbours from an inverted file, ordered by their exact similarities; its recall is measured on some rows."""
    num_samples = len(unit_rows)
    index = build_index(unit_rows, num_samples)
    for start in range(0, num_samples, 16 * BLOCK_SAMPLES):
        add_rows(index, unit_rows[start : start + 16 * BLOCK_SAMPLES])
    queries = np.unique(np.linspace(0, num_samples - 1, RECALL_QUERIES).astype(np.int64))
    nearest = _nearest_similarities(unit_rows, queries, min(RECALL_AT, wanted) + 1, device)
    similarity_of = partial(_similarities, unit_rows, queries)
    recall = tune_index(index, unit_rows[queries], nearest, similarity_of, wanted=wanted + 1)  # all are ordered anew
    rows, similarity = np.empty((num_samples, wanted), np.int64), np.empty((num_samples, wanted), np.float32)
    for start in range(0, num_samples, BLOCK_SAMPLES):
        mine = np.arange(start, min(start + BLOCK_SAMPLES, num_samples))
        numbers, _ = search_index(index, unit_rows[mine], wanted + 1)
        numbers[numbers == mine[:, None]] = -1
        exact = _similarities(unit_rows, mine, numbers)
        order = np.argsort(-exact, axis=1, kind="stable")[:, :wanted]
        rows[mine], similarity[mine] = np.take_along_axis(numbers, order, 1), np.take_along_axis(exact, order, 1)
    return replace(_neighbours(rows, similarity), method="index", recall=recall)


def _nearest_similarities(unit_rows: Float32Array, queries: IntArray, wanted: int, device: str) -> Float32Array:
    """Similarities of the nearest rows of some queries, themselves included, by exact search."""
    import torch

    query_rows, best = torch.from_numpy(unit_rows[queries]).to(device), torch.empty((len(queries), 0), device=device)
    step = max(1, BLOCK_CELLS // len(queries))
    for start in range(0, len(unit_rows), step):
        block = query_rows @ torch.from_numpy(unit_rows[start : start + step]).to(device).T
        best = torch.cat([best, block.topk(min(wanted, block.shape[1]), dim=1).values], 1)
        best = best.topk(min(wanted, best.shape[1]), dim=1).values
    return np.asarray(best.cpu().numpy(), dtype=np.float32)


def _similarities(unit_rows: Float32Array, queries: IntArray, numbers: IntArray) -> Float32Array:
    """Exact similarities of queries to found rows, shape (Q, M); -inf beside a -1."""
    result = np.empty(numbers.shape, dtype=np.float32)
    step = max(1, 4 * BLOCK_CELLS // (16 * unit_rows.shape[1] * max(numbers.shape[1], 1)))
    for start in range(0, len(queries), step):
        at = slice(start, start + step)
        near = unit_rows[numbers[at]]
        result[at] = np.matmul(near, unit_rows[queries[at], :, None])[:, :, 0]
    result[numbers < 0] = -np.inf
    return result


def _neighbours(index: IntArray, similarity: Float32Array) -> Neighbours:
    """Neighbours with the empty places marked."""
    is_empty = ~np.isfinite(similarity) | (index < 0) | (similarity < -1.5)
    return Neighbours(np.where(is_empty, -1, index), np.where(is_empty, np.float32(0), similarity))
