"""A curved view of the features: similarity to some landmark samples, as rows on which a linear probe is a kernel probe."""

from __future__ import annotations

import numpy as np

from labelclean.gram import Float32Array, Float64Array
from labelclean.labels import IntArray

WIDTH = 0.5
LEAST_EIGENVALUE = 1e-6
BLOCK_ROWS = 8192


def kernel_rows(unit_rows: Float32Array, landmarks: IntArray) -> Float32Array:
    """Return coordinates in which products are Gaussian similarities, seen from the landmarks.

    Nyström's approximation (Williams and Seeger 2001): with K(a, b) = exp(-|a - b|^2 / (2 s)), s half the
    median squared distance of the landmarks, rows are K(x, L) K(L, L)^(-1/2), centred. A ridge probe on
    them may bend where one on the features is straight; low-dimensional features gain most.

    Args:
        unit_rows: Centred unit features, float32, shape (N, D).
        landmarks: Rows that serve as landmarks, int64, shape (M,), M >= 2; chosen without a look at labels.

    Returns:
        float32, shape (N, R), R <= M, columns have mean 0.
    """
    seats = unit_rows[np.sort(landmarks)].astype(np.float64)
    squared = _squared_distances(seats, seats)
    width = max(WIDTH * float(np.median(squared)), 1e-12)
    values, vectors = np.linalg.eigh(np.exp(-squared / (2 * width)))
    kept = values > LEAST_EIGENVALUE * values[-1]
    whitening = vectors[:, kept] / np.sqrt(values[kept])
    rows = np.empty((len(unit_rows), int(kept.sum())), dtype=np.float32)
    for start in range(0, len(rows), BLOCK_ROWS):
        block = unit_rows[start : start + BLOCK_ROWS].astype(np.float64)
        rows[start : start + BLOCK_ROWS] = np.exp(-_squared_distances(block, seats) / (2 * width)) @ whitening
    rows -= rows.mean(axis=0, dtype=np.float64).astype(np.float32)
    return rows


def _squared_distances(some: Float64Array, seats: Float64Array) -> Float64Array:
    products = some @ seats.T
    squared = (some**2).sum(axis=1)[:, None] + (seats**2).sum(axis=1) - 2 * products
    return np.asarray(np.maximum(squared, 0.0))
