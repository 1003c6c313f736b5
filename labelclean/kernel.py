"""A curved view of the features: similarity to some landmark samples, as rows on which a linear probe is a kernel probe."""

from __future__ import annotations

from dataclasses import dataclass

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
    kernel = fit_kernel(unit_rows[np.sort(landmarks)])
    rows = np.empty((len(unit_rows), kernel.num_columns), dtype=np.float32)
    for start in range(0, len(rows), BLOCK_ROWS):
        block = unit_rows[start : start + BLOCK_ROWS].astype(np.float64)
        squared = _squared_distances(block, kernel.seats)
        rows[start : start + BLOCK_ROWS] = np.exp(-squared / (2 * kernel.width)) @ kernel.whitening
    rows -= rows.mean(axis=0, dtype=np.float64).astype(np.float32)
    return rows


@dataclass(frozen=True)
class Kernel:
    """Landmarks and what turns similarities to them into coordinates.

    Attributes:
        seats: Unit features of the M landmarks, float64, shape (M, D).
        width: s of the Gaussian.
        whitening: K(L, L)^(-1/2), float64, shape (M, R).
    """

    seats: Float64Array
    width: float
    whitening: Float64Array

    @property
    def num_columns(self) -> int:
        """R."""
        return int(self.whitening.shape[1])


def fit_kernel(landmarks: Float32Array) -> Kernel:
    """Return the kernel of some landmarks.

    Args:
        landmarks: Their centred unit features, float32, shape (M, D), M >= 2.

    Returns:
        The kernel; directions without weight are left out.
    """
    seats = landmarks.astype(np.float64)
    squared = _squared_distances(seats, seats)
    width = max(WIDTH * float(np.median(squared)), 1e-12)
    values, vectors = np.linalg.eigh(np.exp(-squared / (2 * width)))
    kept = values > LEAST_EIGENVALUE * values[-1]
    return Kernel(seats, width, vectors[:, kept] / np.sqrt(values[kept]))


def raw_kernel_rows(kernel: Kernel, unit_rows: Float32Array) -> Float32Array:
    """Return the coordinates of one block of samples, not centred, in single precision throughout.

    Args:
        kernel: The kernel.
        unit_rows: Centred unit features, float32, shape (N, D).

    Returns:
        float32, shape (N, R); twice as fast as `kernel_rows` and equal to about 1e-4 of a column's largest value.
    """
    rows = unit_rows @ kernel.seats.T.astype(np.float32)
    rows *= np.float32(2)
    rows -= (kernel.seats**2).sum(axis=1).astype(np.float32)
    rows -= np.einsum("nd,nd->n", unit_rows, unit_rows)[:, None]
    np.minimum(rows, np.float32(0), out=rows)
    rows /= np.float32(2 * kernel.width)
    np.exp(rows, out=rows)
    return np.asarray(rows @ kernel.whitening.astype(np.float32), dtype=np.float32)


def _squared_distances(some: Float64Array, seats: Float64Array) -> Float64Array:
    products = some @ seats.T
    squared = (some**2).sum(axis=1)[:, None] + (seats**2).sum(axis=1) - 2 * products
    return np.asarray(np.maximum(squared, 0.0))
