"""Curved features: similarity to some landmark samples, as rows on which a linear probe is a kernel probe."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from labelclean.arrays import Float32Array, Float64Array
from labelclean.probes.sums import UNIT_ROWS
from labelclean.probes.threads import one_thread

WIDTH = 0.5
LEAST_EIGENVALUE = 1e-6


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


@one_thread()
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
    is_large = values > LEAST_EIGENVALUE * values[-1]
    return Kernel(seats, width, vectors[:, is_large] / np.sqrt(values[is_large]))


def raw_kernel_rows(
    kernel: Kernel, unit_rows: Float32Array, out: tuple[Float32Array, Float32Array] | None = None
) -> Float32Array:
    """Return coordinates in which products are Gaussian similarities, seen from the landmarks; not centred.

    Nyström's approximation (Williams and Seeger 2001 [16]): with K(a, b) = exp(-|a - b|^2 / (2 s)), s half the
    median squared distance of the landmarks, rows are K(x, L) K(L, L)^(-1/2). A ridge probe on
    them may bend where one on the features is straight; low-dimensional features gain most.

    Args:
        kernel: The kernel.
        unit_rows: Centred unit features, float32, shape (N, D).
        out: Memory to use, float32, shapes (N, M) and (N, R); the second comes back.

    Returns:
        float32, shape (N, R), in single precision throughout: within about 1e-4 of a column's largest value.
    """
    import torch

    if out is None:
        out = tuple(np.empty((len(unit_rows), size), dtype=np.float32) for size in kernel.whitening.shape)  # type: ignore[assignment]
    near, rows = out  # type: ignore[misc]
    seats, whitening = (kernel.seats / kernel.width).T.astype(np.float32), kernel.whitening.astype(np.float32)
    squares = torch.from_numpy((kernel.seats**2).sum(axis=1).astype(np.float32) / np.float32(2 * kernel.width))
    for start in range(0, len(unit_rows), UNIT_ROWS):
        at = slice(start, start + UNIT_ROWS)
        block = np.matmul(unit_rows[at], seats, out=near[at])
        length = torch.linalg.vector_norm(torch.from_numpy(unit_rows[at]), dim=1, keepdim=True)
        similar = torch.from_numpy(block)  # -|a - b|^2 / (2 s), where it was a.b / s
        similar.sub_(squares).sub_(length.square_().div_(2 * kernel.width)).clamp_(max=0).exp_()
        np.matmul(block, whitening, out=rows[at])
    return rows


def _squared_distances(some: Float64Array, seats: Float64Array) -> Float64Array:
    products = some @ seats.T
    squared = (some**2).sum(axis=1)[:, None] + (seats**2).sum(axis=1) - 2 * products
    return np.asarray(np.maximum(squared, 0.0))
