"""Ridge probes that each leave out one group of samples, in closed form: as many as there are groups, at the price of one.

Five folds teach with four fifths of the samples; where samples are few and labels wrong, the fifth is missed. Leaving
out a sample's own group (itself, its near-duplicates, its lot) teaches with nearly all.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from labelclean.arrays import Float32Array, Float64Array, FloatArray, IntArray
from labelclean.config import CleaningConfig
from labelclean.probes.ridge import Design
from labelclean.probes.sums import decomposed
from labelclean.probes.threads import one_thread

MOST_SAMPLES = 10_000
MOST_IN_GROUP = 500


@dataclass(frozen=True)
class _LeftOut:
    """Samples that are left out with their groups; no target enters, so that all questions share it.

    Attributes:
        samples: Their numbers, int64, shape (n,), ascending.
        rows: Theirs of Z, shape (n, R).
        groups: Group of each, numbered as ``sizes``, int64, shape (n,).
        sizes: Samples of each group, int64.
        together: Positions of each group of more than one.
        leverages: Of each sample, shape (n,), by penalty; filled as penalties are asked for.
    """

    samples: IntArray
    rows: FloatArray
    groups: IntArray
    sizes: IntArray
    together: list[IntArray]
    leverages: dict[float, FloatArray] = field(default_factory=dict)

    @cached_property
    def squares(self) -> FloatArray:
        """The rows' squares, whose sum weighed by 1 / (s + c) is the leverage of one sample, shape (n, R)."""
        return self.rows**2


@dataclass(frozen=True)
class HeldOut:
    """Features turned onto the axes of their scatter, and who is left out together.

    Attributes:
        rows: Z = (X - x_mean) V, shape (N, R): float64, or float32 where samples are many.
        values: Eigenvalues s of (X - x_mean)'(X - x_mean) = V diag(s) V', float64, shape (R,), at least 0.
        groups: Number of each sample's group, int64, shape (N,), in [0, G).
        sizes: Samples of each group, int64, shape (G,).
    """

    rows: FloatArray
    values: Float64Array
    groups: IntArray
    sizes: IntArray
    _asked: dict[bytes | None, _LeftOut] = field(default_factory=dict, repr=False, compare=False)

    @one_thread()
    def scores(
        self,
        targets: Float32Array,
        penalty: float,
        wanted: IntArray | None = None,
        *,
        cross: Float64Array | None = None,
    ) -> Float32Array:
        """Return what a ridge probe taught without a sample's group says of it, less the class shares without the group.

        Ridge with a free intercept is linear in its targets, fitted = H Y with H = 1/N + Z diag(1 / (s + c)) Z'. A group G
        that is left out is predicted as Y_G - (I - H_GG)^-1 (Y_G - fitted_G) (Allen 1974 for one sample; Cook and
        Weisberg 1982 for several): the same as teaching again without it.

        Args:
            targets: What the probe learns, float32, shape (N, K).
            penalty: c, above 0.
            wanted: Samples, int64, shape (m,), each once; default: all.
            cross: What `cross` returns of these targets; default: it is asked.

        Returns:
            float32, shape (m, K), rows aligned with ``wanted``.
        """
        num_samples, shrink = len(targets), 1.0 / (self.values + penalty)
        total = targets.sum(axis=0, dtype=np.float64)
        left_out = self._left_out(wanted)
        some, rows, groups, sizes = left_out.samples, left_out.rows, left_out.groups, left_out.sizes
        given = targets[some].astype(np.float64)
        weights = shrink[:, None] * (self.cross(targets) if cross is None else cross)
        miss = given - total / num_samples - rows @ weights.astype(rows.dtype)
        if penalty not in left_out.leverages:
            left_out.leverages[penalty] = 1.0 / num_samples + left_out.squares @ shrink.astype(rows.dtype)
        left = given - miss / (1.0 - left_out.leverages[penalty])[:, None]
        for members in left_out.together:
            own = 1.0 / num_samples + (rows[members] * shrink) @ rows[members].T
            left[members] = given[members] - np.linalg.solve(np.eye(len(members)) - own, miss[members])
        held = np.zeros((len(sizes), len(total)))
        np.add.at(held, groups, given)
        shares = (total - held[groups]) / (num_samples - sizes[groups])[:, None]
        logits: Float32Array = (left - shares).astype(np.float32)
        return logits if wanted is None else logits[np.searchsorted(some, wanted)]

    def _left_out(self, wanted: IntArray | None) -> _LeftOut:
        """Who is left out with some samples, or with all; asked for by every penalty and every question."""
        key = None if wanted is None else wanted.tobytes()
        if key not in self._asked:
            some = np.arange(len(self.groups)) if wanted is None else whole_groups(wanted, self.groups)
            numbers, groups = np.unique(self.groups[some], return_inverse=True)
            sizes = self.sizes[numbers]
            rows = self.rows if len(some) == len(self.groups) else self.rows[some]
            self._asked[key] = _LeftOut(some, rows, groups, sizes, _together(groups, sizes))
        return self._asked[key]

    def cross(self, targets: Float32Array) -> Float64Array:
        """Return Z'Y, float64, shape (R, K), of targets of all N samples; it serves every penalty."""
        return np.asarray(self.rows.T @ targets.astype(self.rows.dtype), dtype=np.float64)


def hold_out(unit_rows: Float32Array, groups: IntArray, precision: type[np.floating] = np.float64) -> HeldOut:
    """Return what serves every penalty and target.

    Args:
        unit_rows: Centred unit features or kernel rows, float32, shape (N, D).
        groups: Group of each sample, int64, shape (N,), any numbers; at least two groups.
        precision: Of the arithmetic. Single takes a third of the time; of some thousand unit rows the largest eigenvalue
            is some hundred, so that rounding stays a hundredth of the least c, .002.

    Returns:
        The features, turned.
    """
    rows = unit_rows.astype(precision)
    x_mean = rows.mean(axis=0)
    rows -= x_mean
    _, numbers, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if len(rows) < rows.shape[1]:  # X X' has the same eigenvalues other than 0, and eigenvectors Z / sqrt(s)
        basis = decomposed(len(rows), x_mean, rows @ rows.T)
        turned = basis.vectors * np.sqrt(basis.values)
    else:
        basis = decomposed(len(rows), x_mean, rows.T @ rows)
        turned = rows @ basis.vectors
    return HeldOut(turned, basis.values.astype(np.float64), numbers, sizes)


def hold_out_all(design: Design, groups: IntArray) -> HeldOut:
    """Return what serves every penalty and target of a design.

    Args:
        design: Features or kernel rows of N samples, with the sums of the same samples.
        groups: Group of each sample, int64, shape (N,), any numbers; at least two groups.

    Returns:
        The features, turned; in single precision by the design's own decomposition where there are at least twice as many
        samples as dimensions. Rows of length 1 have a leverage of at most 1 / (1 + c) beside 1 / N, so that even at the
        least c, .002, what is divided by is thousands of times the rounding.
    """
    num_samples, num_dims = design.unit_rows.shape
    if num_samples < 2 * num_dims:
        return hold_out(design.unit_rows, groups)
    basis = design.whole
    _, numbers, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    turned = (design.unit_rows - basis.x_mean.astype(np.float32)) @ basis.vectors.astype(np.float32)
    return HeldOut(turned, basis.values, numbers, sizes)


def whole_groups(wanted: IntArray, groups: IntArray) -> IntArray:
    """Return some samples with all others of their groups.

    Args:
        wanted: The samples, int64, shape (m,).
        groups: Group of each sample, int64, shape (N,).

    Returns:
        int64, shape (n,), ascending.

    Examples:
        >>> whole_groups(np.array([0]), np.array([1, 0, 1]))
        array([0, 2])
    """
    return np.flatnonzero(np.isin(groups, groups[wanted]))


def is_group_left_out(groups: IntArray, config: CleaningConfig) -> bool:
    """Return whether a probe leaves out a sample's group, or its fold.

    Args:
        groups: Group of each sample, int64, shape (N,).
        config: `teacher.left_out`: `auto` leaves out groups where none has more than 500 samples or half of all, up to
            10,000 samples: beyond, a fold is a small part of what there is.

    Returns:
        The verdict.
    """
    if config.teacher.left_out != "auto":
        return config.teacher.left_out == "group"
    largest = int(np.unique(groups, return_counts=True)[1].max(initial=0))
    return largest <= min(MOST_IN_GROUP, len(groups) // 2) and len(groups) <= MOST_SAMPLES


def _together(groups: IntArray, sizes: IntArray) -> list[IntArray]:
    """Positions of each group of more than one sample."""
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    return [order[start : start + sizes[groups[order[start]]]] for start in starts if sizes[groups[order[start]]] > 1]
