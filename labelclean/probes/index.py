"""The only module that knows faiss: an inverted file over shortened feature rows that says how much of the truth it finds.

Features of a backbone spread over few directions: on MobileNetV2's 1,280 the 64 principal ones tell the 10 nearest among
26 (measured: 100 % on two real sets), and a search costs a twentieth. The rows so shortened lie in about 2 sqrt(N) cells
around k-means centres; a search looks into the nearest few cells. One pass then costs N sqrt(N) short products in place
of N^2 long ones. A graph (HNSW) finds as much, but building it takes three times the CPU time of building and
searching the cells, its links need 128 bytes a row, and it does not build in blocks that are thrown away.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from labelclean.arrays import Float32Array, IntArray

CELLS_PER_ROOT = 2.0
ROWS_PER_CELL = 32
LEAST_ROWS_PER_CELL = 32
KMEANS_STEPS = 6
LEAST_PROBES = 8
LEAST_RECALL = 0.95
RECALL_AT = 10
RECALL_QUERIES = 200
WIDTHS = (64, 128, 256, 512)
WIDTH_RECALL = 0.98
WIDTH_ROWS = 8192
CANDIDATES = 26
MOST_WIDE_BYTES = 2**30
NUMBER_BYTES = 8

Similarity = Callable[[IntArray], Float32Array]


@dataclass
class NeighbourIndex:
    """An inverted file over shortened rows.

    Attributes:
        cells: faiss's index.
        directions: What rows are multiplied with before they meet it, float32, shape (D, R), R <= D.
        num_cells: How many cells there are.
        num_probes: How many of them a search looks into.
    """

    cells: Any
    directions: Float32Array
    num_cells: int
    num_probes: int


def code_bytes(num_samples: int, num_directions: int) -> int:
    """Return the bytes of one row in an index: two per direction, above 1 GiB of them one, and its number.

    Args:
        num_samples: N.
        num_directions: R.

    Returns:
        Bytes.

    Examples:
        >>> code_bytes(10**6, 64), code_bytes(10**8, 64)
        (136, 72)
    """
    is_wide = 2 * num_samples * num_directions <= MOST_WIDE_BYTES
    return (2 if is_wide else 1) * num_directions + NUMBER_BYTES


def build_index(
    training: Float32Array,
    num_samples: int,
    device: str = "cpu",
    *,
    least_rows_per_cell: int = LEAST_ROWS_PER_CELL,
    most_directions: int | None = None,
) -> NeighbourIndex:
    """Return an empty index whose directions and cells are learned.

    Codes take two bytes per direction, above 1 GiB of them one byte.

    Args:
        training: Unit rows to learn the cells from, float32, shape (n, D): the samples or an even part of them.
        num_samples: N, how many rows will be added.
        device: Torch device; on CUDA a faiss built for GPUs takes the index there.
        least_rows_per_cell: Rows of ``training`` that a cell is learned from, at least.
        most_directions: R, at most; default: D.

    Returns:
        The index.
    """
    import faiss

    directions = _directions(training, most_directions or training.shape[1])
    training = training @ directions
    num_dims = training.shape[1]
    num_cells = max(1, min(int(CELLS_PER_ROOT * num_samples**0.5), len(training) // least_rows_per_cell))
    width = faiss.ScalarQuantizer
    kind = width.QT_fp16 if code_bytes(num_samples, num_dims) > num_dims + NUMBER_BYTES else width.QT_8bit
    is_residual = kind == width.QT_8bit  # the distance from the centre needs fewer bits
    centres = faiss.IndexFlatIP(num_dims)
    cells: Any = faiss.IndexIVFScalarQuantizer(
        centres, num_dims, num_cells, kind, faiss.METRIC_INNER_PRODUCT, is_residual
    )
    cells.cp.niter = KMEANS_STEPS
    cells.cp.max_points_per_centroid = ROWS_PER_CELL
    cells.cp.min_points_per_centroid = 1
    cells.train(np.ascontiguousarray(_evenly(training, num_cells * ROWS_PER_CELL)))
    if device.startswith("cuda") and hasattr(faiss, "StandardGpuResources"):
        cells = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), int(device.partition(":")[2] or 0), cells)
    return NeighbourIndex(cells, directions, num_cells, min(LEAST_PROBES, num_cells))


def add_rows(index: NeighbourIndex, unit_rows: Float32Array) -> None:
    """Add rows; they are numbered in the order in which they come.

    Args:
        index: The index.
        unit_rows: Centred unit features, float32, shape (B, D).
    """
    index.cells.add(unit_rows @ index.directions)


def search_index(index: NeighbourIndex, unit_rows: Float32Array, wanted: int) -> tuple[IntArray, Float32Array]:
    """Return the rows of the index that seem nearest.

    Args:
        index: The index.
        unit_rows: Centred unit features to look for, float32, shape (B, D).
        wanted: How many.

    Returns:
        Row numbers, int64, shape (B, wanted), nearest first, -1 where fewer were found; and their similarities along
        the directions, to the precision of the codes, float32.
    """
    index.cells.nprobe = index.num_probes
    similarity, found = index.cells.search(unit_rows @ index.directions, wanted)
    return found, similarity


def write_cells(index: NeighbourIndex, file_name: str) -> None:
    """Write the cells with all that is in them; the other fields are the caller's to keep.

    Args:
        index: The index.
        file_name: Where to.
    """
    import faiss

    faiss.write_index(index.cells, file_name)


def stored_index(file_name: str, directions: Float32Array, num_cells: int, num_probes: int) -> NeighbourIndex:
    """Return an index whose cells `write_cells` wrote.

    Args:
        file_name: Its file.
        directions: As in `NeighbourIndex`, like what follows.
        num_cells: Its cells.
        num_probes: How many of them a search looks into.

    Returns:
        The index.
    """
    import faiss

    return NeighbourIndex(faiss.read_index(file_name), directions, num_cells, num_probes)


def tune_index(
    index: NeighbourIndex,
    queries: Float32Array,
    exact: Float32Array,
    similarity: Similarity,
    *,
    wanted: int | None = None,
    most_probes: int | None = None,
    least_gain: float = 0.0,
) -> float:
    """Look into more cells until a search of the queries finds enough of what an exact search finds.

    Args:
        index: A filled index; ``num_probes`` is raised.
        queries: Some of its rows, float32, shape (Q, D).
        exact: Similarities of each query's nearest rows, itself first, by exact search, float32, shape (Q, M + 1).
        similarity: Gives exact similarities of the queries to found rows, (Q, M + 1) row numbers.
        wanted: How many to search, itself included, where more than M + 1 are kept of a search; default: M + 1.
        most_probes: Cells to look into, at most; default: all.
        least_gain: Recall that twice the cells must add to be worth their time.

    Returns:
        Recall: share of the exact M neighbours that are found; an equally near row counts as found.
    """
    if exact.shape[1] < 2:
        return 1.0
    limit = exact[:, -1:] - np.float32(1e-5)
    most, before = min(index.num_cells, most_probes or index.num_cells), (0, -np.inf)
    while True:
        found, _ = search_index(index, queries, wanted or exact.shape[1])
        hits = ((similarity(found) >= limit) & (found >= 0)).sum(axis=1) - 1
        recall = float(hits.clip(0, exact.shape[1] - 1).mean() / (exact.shape[1] - 1))
        if least_gain > 0 and recall < before[1] + least_gain:
            index.num_probes = before[0]
            return before[1]
        if recall >= LEAST_RECALL or index.num_probes >= most:
            return recall
        before = (index.num_probes, recall)
        index.num_probes = min(2 * index.num_probes, most)


def _directions(training: Float32Array, most: int) -> Float32Array:
    """The fewest principal directions that find nearly all of the 10 nearest rows among twice as many and some, (D, R).

    Judged on 200 of the rows against some thousands; where the features are that short or that even all directions, or
    as many as there may be.
    """
    some = _evenly(training, WIDTH_ROWS)
    num_dims = some.shape[1]
    axes = np.linalg.eigh((some.T @ some).astype(np.float64))[1][:, ::-1].astype(np.float32)
    queries = _evenly(some, RECALL_QUERIES)
    exact = queries @ some.T
    least = np.partition(exact, -min(RECALL_AT + 1, len(some)), axis=1)[:, [-min(RECALL_AT + 1, len(some))]]
    for width in WIDTHS:
        if width >= min(most, num_dims):
            break
        near = queries @ axes[:, :width] @ (some @ axes[:, :width]).T
        seen = np.argpartition(near, -min(CANDIDATES, len(some)), axis=1)[:, -min(CANDIDATES, len(some)) :]
        hits = (np.take_along_axis(exact, seen, axis=1) >= least - np.float32(1e-5)).sum(axis=1) - 1
        if float(hits.mean()) >= WIDTH_RECALL * RECALL_AT:
            return np.ascontiguousarray(axes[:, :width])
    return np.eye(num_dims, dtype=np.float32) if most >= num_dims else np.ascontiguousarray(axes[:, :most])


def _evenly(rows: Float32Array, wanted: int) -> Float32Array:
    """About so many of the rows, evenly spread."""
    return rows[:: max(1, len(rows) // wanted)]
