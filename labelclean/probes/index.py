"""The only module that knows faiss: an inverted file over shortened feature rows that says how much of the truth it finds.

Features of a backbone spread over few directions: on MobileNetV2's 1,280 the 64 principal ones tell the 10 nearest among
26 (measured: 100 % on two real sets), and a search costs a twentieth. The rows so shortened lie in about 2 sqrt(N) cells
around k-means centres; a search looks into the nearest few cells. One pass then costs N sqrt(N) short products in place
of N^2 long ones. Within the cells rows are compared by four bits for each two directions, which a processor looks up 32
at a time, and the several times as many that seem nearest are ranked anew by their codes of one or two bytes: a third of
the time of comparing the codes alone, at the same recall. A graph (HNSW) finds as much, but building it takes three
times the CPU time of building and searching the cells, its links need 128 bytes a row, and it does not build in blocks
that are thrown away.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from labelclean.arrays import Float32Array, IntArray

CELLS_PER_ROOT = 2.0
ROWS_PER_CELL = 32
LEAST_ROWS_PER_CELL = 32
KMEANS_STEPS = 6
LEAST_PROBES = 8
LEAST_NEAR = 0.95
SAME_SIMILARITY = np.float32(1e-5)
RECALL_AT = 10
RECALL_QUERIES = 200
WIDTHS = (64, 128, 256, 512)
WIDTH_RECALL = 0.98
WIDTH_ROWS = 8192
CANDIDATES = 26
MOST_WIDE_BYTES = 2**30
NUMBER_BYTES = 8
SKETCH_BITS = 4
DIRECTIONS_PER_SKETCH = 2
LEAST_RANKED_ANEW = 8
MOST_RANKED_ANEW = 32

Similarity = Callable[[IntArray], Float32Array]


@dataclass
class NeighbourIndex:
    """An inverted file over shortened rows.

    Attributes:
        cells: faiss's index: sketches in cells, and codes that rank anew.
        directions: What rows are multiplied with before they meet it, float32, shape (D, R), R <= D.
        num_cells: How many cells there are.
        num_probes: How many of them a search looks into.
        ranked_anew: How many rows it ranks by their codes for each row that is wanted.
    """

    cells: Any
    directions: Float32Array
    num_cells: int
    num_probes: int
    ranked_anew: int


def code_bytes(num_samples: int, num_directions: int) -> int:
    """Return the bytes of one row in an index: two per direction, above 1 GiB of them one, its sketch and its number.

    Args:
        num_samples: N.
        num_directions: R.

    Returns:
        Bytes.

    Examples:
        >>> code_bytes(10**6, 64), code_bytes(10**8, 64)
        (152, 88)
    """
    code = (2 if _is_wide(num_samples, num_directions) else 1) * num_directions
    return code + -(-_num_sketches(num_directions) * SKETCH_BITS // 8) + NUMBER_BYTES


def build_index(
    training: Float32Array,
    num_samples: int,
    *,
    least_rows_per_cell: int = LEAST_ROWS_PER_CELL,
    most_directions: int | None = None,
) -> NeighbourIndex:
    """Return an empty index whose directions and cells are learned.

    Codes take two bytes per direction, above 1 GiB of them one byte.

    Args:
        training: Unit rows to learn the cells from, float32, shape (n, D): the samples or an even part of them.
        num_samples: N, how many rows will be added.
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
    metric, width = faiss.METRIC_INNER_PRODUCT, faiss.ScalarQuantizer
    sketches = faiss.IndexIVFPQFastScan(
        faiss.IndexFlatIP(num_dims), num_dims, num_cells, _num_sketches(num_dims), SKETCH_BITS, metric
    )
    sketches.by_residual = False  # sketches of the rows themselves: one table of products per search, not one per cell
    sketches.pq.cp.min_points_per_centroid = 1
    sketches.cp.niter = KMEANS_STEPS
    sketches.cp.max_points_per_centroid = ROWS_PER_CELL
    sketches.cp.min_points_per_centroid = 1
    codes = faiss.IndexScalarQuantizer(
        num_dims, width.QT_fp16 if _is_wide(num_samples, num_dims) else width.QT_8bit, metric
    )
    cells = faiss.IndexRefine(sketches, codes)
    cells.train(np.ascontiguousarray(_evenly(training, num_cells * ROWS_PER_CELL)))
    return NeighbourIndex(cells, directions, num_cells, min(LEAST_PROBES, num_cells), LEAST_RANKED_ANEW)


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
    import faiss

    probes, anew = faiss.SearchParametersIVF(), faiss.IndexRefineSearchParameters()
    probes.nprobe, anew.k_factor, anew.base_index_params = index.num_probes, index.ranked_anew, probes
    similarity, numbers = index.cells.search(unit_rows @ index.directions, wanted, params=anew)
    return numbers, similarity


def write_cells(index: NeighbourIndex, file_name: str) -> None:
    """Write the cells with all that is in them; the other fields are the caller's to keep.

    Args:
        index: The index.
        file_name: Where to.
    """
    import faiss

    faiss.write_index(index.cells, file_name)


def read_cells(file_name: str) -> Any:
    """Return what `write_cells` wrote.

    Args:
        file_name: Its file.

    Returns:
        faiss's index.
    """
    import faiss

    return faiss.read_index(file_name)


def tune_index(
    index: NeighbourIndex,
    queries: Float32Array,
    exact: Float32Array,
    similarity: Similarity,
    *,
    wanted: int | None = None,
    most_probes: int | None = None,
    farther: float = 0.0,
) -> float:
    """Look into more cells, or rank more rows anew, whatever adds more, until a search of the queries finds enough near rows.

    Args:
        index: A filled index; ``num_probes`` and ``ranked_anew`` are raised.
        queries: Some of its rows, float32, shape (Q, D).
        exact: Similarities of each query's nearest rows, itself first, by exact search, float32, shape (Q, M + 1).
        similarity: Gives exact similarities of the queries to rows of the index, (Q, M + 1) row numbers.
        wanted: How many to search, itself included, where more than M + 1 are kept of a search; default: M + 1.
        most_probes: Cells to look into, at most; default: all.
        farther: By what share of its distance a row may lie farther than the farthest of the M and still be as good
            (approximate nearest neighbours, Arya et al. 1998 [22]). Rows without structure have hundreds such; a
            near-duplicate has none but itself.

    Returns:
        Recall: share of the exact M neighbours that a search finds; an equally near row counts as found.
    """
    if exact.shape[1] < 2:
        return 1.0
    nearest = exact[:, -1:] - SAME_SIMILARITY
    near_enough = 1 - (1 + farther) ** 2 * (1 - exact[:, -1:]) - SAME_SIMILARITY  # d^2 = 2 (1 - similarity)
    most = min(index.num_cells, most_probes or index.num_cells)

    def shares_of(num_probes: int, ranked_anew: int) -> tuple[float, float, int, int]:
        tried = replace(index, num_probes=num_probes, ranked_anew=ranked_anew)
        numbers, _ = search_index(tried, queries, wanted or exact.shape[1])
        seen = np.where(numbers >= 0, similarity(numbers), -np.inf)
        near, recall = (
            float(((seen >= limit).sum(axis=1) - 1).clip(0, exact.shape[1] - 1).mean() / (exact.shape[1] - 1))
            for limit in (near_enough, nearest)
        )
        return near, recall, num_probes, ranked_anew

    best = shares_of(index.num_probes, index.ranked_anew)
    while best[0] < LEAST_NEAR:
        _, _, probes, anew = best
        wider = {(min(2 * probes, most), anew), (probes, min(2 * anew, MOST_RANKED_ANEW))} - {(probes, anew)}
        if not wider:
            break
        best = max(shares_of(*more) for more in sorted(wider))
    _, recall, index.num_probes, index.ranked_anew = best
    return recall


def _is_wide(num_samples: int, num_directions: int) -> bool:
    """Whether codes may take two bytes per direction."""
    return 2 * num_samples * num_directions <= MOST_WIDE_BYTES


def _num_sketches(num_directions: int) -> int:
    """Of how many parts a row is sketched, each by four bits."""
    return num_directions // DIRECTIONS_PER_SKETCH if num_directions % DIRECTIONS_PER_SKETCH == 0 else num_directions


def _directions(training: Float32Array, most: int) -> Float32Array:
    """The fewest principal directions that find nearly all of the 10 nearest rows among twice as many and some, (D, R).

    Judged on 200 of the rows against some thousands; where the features are that short or that even all directions, or
    as many as there may be.
    """
    rows = _evenly(training, WIDTH_ROWS)
    num_dims = rows.shape[1]
    axes = np.linalg.eigh((rows.T @ rows).astype(np.float64))[1][:, ::-1].astype(np.float32)
    queries = _evenly(rows, RECALL_QUERIES)
    exact = queries @ rows.T
    least = np.partition(exact, -min(RECALL_AT + 1, len(rows)), axis=1)[:, [-min(RECALL_AT + 1, len(rows))]]
    for width in WIDTHS:
        if width >= min(most, num_dims):
            break
        near = queries @ axes[:, :width] @ (rows @ axes[:, :width]).T
        seen = np.argpartition(near, -min(CANDIDATES, len(rows)), axis=1)[:, -min(CANDIDATES, len(rows)) :]
        hits = (np.take_along_axis(exact, seen, axis=1) >= least - np.float32(1e-5)).sum(axis=1) - 1
        if float(hits.mean()) >= WIDTH_RECALL * RECALL_AT:
            return np.ascontiguousarray(axes[:, :width])
    return np.eye(num_dims, dtype=np.float32) if most >= num_dims else np.ascontiguousarray(axes[:, :most])


def _evenly(rows: Float32Array, wanted: int) -> Float32Array:
    """About so many of the rows, evenly spread."""
    return rows[:: max(1, len(rows) // wanted)]
