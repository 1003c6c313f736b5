"""Ridge probes that each leave out one group of samples, in closed form: as many as there are groups, at the price of one.

Five folds teach with four fifths of the samples; where samples are few and labels wrong, the fifth is missed. Leaving
out a sample's own group (itself, its near-duplicates, its lot) teaches with nearly all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from labelclean.config import CleaningConfig
from labelclean.gram import Float32Array, Float64Array
from labelclean.labels import IntArray

MOST_SAMPLES = 10_000
MOST_IN_GROUP = 500


@dataclass(frozen=True)
class HeldOut:
    """Features turned onto the axes of their own scatter, and who is left out together.

    Attributes:
        rows: Z = (X - x_mean) V, float64, shape (N, R).
        values: Eigenvalues s of (X - x_mean)'(X - x_mean) = V diag(s) V', float64, shape (R,), at least 0.
        groups: Number of each sample's group, int64, shape (N,), in [0, G).
        sizes: Samples of each group, int64, shape (G,).
    """

    rows: Float64Array
    values: Float64Array
    groups: IntArray
    sizes: IntArray

    def scores(self, targets: Float32Array, penalty: float, wanted: IntArray | None = None) -> Float32Array:
        """Return what a ridge probe taught without a sample's group says of it, less the class shares without the group.

        Ridge with a free intercept is linear in its targets, fitted = H Y with H = 1/N + Z diag(1 / (s + c)) Z'. A group G
        that is left out is predicted as Y_G - (I - H_GG)^-1 (Y_G - fitted_G) (Allen 1974 for one sample; Cook and
        Weisberg 1982 for several): the same as teaching again without it.

        Args:
            targets: What the probe learns, float32, shape (N, K).
            penalty: c, above 0.
            wanted: Samples, int64, shape (n,), each once; default: all.

        Returns:
            float32, shape (n, K), rows aligned with ``wanted``.
        """
        num_samples, shrink = len(self.rows), 1.0 / (self.values + penalty)
        learned = targets.astype(np.float64)
        weights = shrink[:, None] * (self.rows.T @ learned)
        some = self._with_group(np.arange(num_samples) if wanted is None else wanted)
        rows, given, groups = self.rows[some], learned[some], self.groups[some]
        miss = given - learned.mean(axis=0) - rows @ weights
        left = given - miss / (1.0 - 1.0 / num_samples - rows**2 @ shrink)[:, None]
        for at in _together(groups, self.sizes):
            own = 1.0 / num_samples + (rows[at] * shrink) @ rows[at].T
            left[at] = given[at] - np.linalg.solve(np.eye(len(at)) - own, miss[at])
        held = np.zeros((len(self.sizes), learned.shape[1]))
        np.add.at(held, self.groups, learned)
        shares = (learned.sum(axis=0) - held[groups]) / (num_samples - self.sizes[groups])[:, None]
        found: Float32Array = (left - shares).astype(np.float32)
        return found if wanted is None else found[np.searchsorted(some, wanted)]

    def _with_group(self, wanted: IntArray) -> IntArray:
        """These samples and all of their groups, ascending."""
        is_touched = np.zeros(len(self.sizes), dtype=bool)
        is_touched[self.groups[wanted]] = True
        return np.flatnonzero(is_touched[self.groups])


def hold_out(unit_rows: Float32Array, groups: IntArray) -> HeldOut:
    """Return what serves every penalty and target.

    Args:
        unit_rows: Centred unit features or kernel rows, float32, shape (N, D).
        groups: Group of each sample, int64, shape (N,), any numbers; at least two groups.

    Returns:
        The features, turned.
    """
    import torch

    rows = unit_rows.astype(np.float64)
    rows -= rows.mean(axis=0)
    values, vectors = torch.linalg.eigh(torch.from_numpy(rows.T @ rows))
    _, numbers, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    return HeldOut(rows @ vectors.numpy(), np.maximum(values.numpy(), 0.0), numbers, sizes)


def leaves_out_groups(groups: IntArray, config: CleaningConfig) -> bool:
    """Return whether a probe leaves out one group or one fold.

    Args:
        groups: Group of each sample, int64, shape (N,).
        config: `teacher.left_out`: `auto` leaves out groups up to 10,000 samples, none of whose groups has more than
            500 samples or half of all; beyond that a fold is a small part of what there is.

    Returns:
        True for one group.
    """
    if config.teacher.left_out != "auto":
        return config.teacher.left_out == "group"
    largest = int(np.unique(groups, return_counts=True)[1].max(initial=0))
    return len(groups) <= MOST_SAMPLES and largest <= min(MOST_IN_GROUP, len(groups) // 2)


def _together(groups: IntArray, sizes: IntArray) -> list[IntArray]:
    """Positions of each group of more than one sample."""
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    return [order[start : start + sizes[groups[order[start]]]] for start in starts if sizes[groups[order[start]]] > 1]
