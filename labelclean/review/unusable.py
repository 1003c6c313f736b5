"""What is no picture of a part: how far each picture lies outside its set and its class.

A picture is compared with two crowds, all pictures and those of its given class, and must lie outside of both: a kind of
product that is darker than the others has classes of its own, and a class whose pictures differ has a wide spread. Grey
values are compared with files of the same depth only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from labelclean.arrays import BoolArray, Float32Array, Float64Array, FloatArray, IntArray
from labelclean.features.appearance import LOOKS
from labelclean.storage.tables import UNUSABLE

LEAST_CROWD = 40
"""Pictures of which a tenth is enough to tell a spread: the most extreme one does not hide itself."""
LEAST_SPREAD = 0.05
"""Spreads are at least 5 %: who would see a smaller difference?"""
LANDMARKS = 2000
EXPLAINED = 0.9
"""Share of the variance that the main directions of a crowd hold; from 0.9 to 0.95 the same pictures are found.

Neighbours tell nothing here: bad pictures of one kind lie closer to each other than good ones do.
"""
BLOCK_ROWS = 4096
_TAILS = ((0.75, 0.67449), (0.90, 1.28155))  # quartile and decile, and where they lie on a normal distribution
_KIND, _KIND_NORMAL, _FAR = 0.95, 1.64485, 3.0  # where more than a twentieth of all lie so far outside, it is a kind
_DISTANCE = "distance"
_SIDES = (
    ("dark", "light", -1),
    ("bright", "light", 1),
    ("low_contrast", "contrast", -1),
    ("blurred", "sharpness", -1),
    ("odd_size", "area", -1),
    ("odd_size", "area", 1),
    ("odd_size", "aspect", -1),
    ("odd_size", "aspect", 1),
    ("odd_depth", "depth", -1),
    ("odd_depth", "depth", 1),
    ("outlier", _DISTANCE, 1),
)
_OF_DEPTH = ("light", "contrast")


@dataclass(frozen=True)
class Usual:
    """Middle and spread of each measurement to one side, where a crowd is large enough; NaN elsewhere.

    Attributes:
        depths: Logarithms of bits per pixel that occur, float32, shape (U,), ascending.
        by_depth: Of all pictures; for grey values of those of one depth; float64, shape (U, S, 2).
        by_class: Of the pictures of a class, float64, shape (K, S, 2).
    """

    depths: Float32Array
    by_depth: Float64Array
    by_class: Float64Array


def usual_looks(looks: Float32Array, distances: FloatArray, given: IntArray, num_classes: int) -> Usual:
    """Return what pictures of a set are usually like.

    The spread to one side is the larger of what quartile and decile tell on a normal distribution, so that a heavy tail
    makes it wide. Where more than a twentieth of all would lie three spreads outside, it is what these tell: they are a kind
    of picture, not a fault.

    Args:
        looks: From `appearance.measured_looks`, shape (n, 7); NaN where not measured.
        distances: From `Crowd.distances`, shape (n,).
        given: Given class, shape (n,).
        num_classes: K.

    Returns:
        The usual.
    """
    columns = _columns(looks, distances)
    depth = looks[:, LOOKS.index("depth")]
    depths = np.unique(depth[np.isfinite(depth)])
    of_all = _crowd(columns, np.ones(len(given), dtype=bool), has_kinds=True)
    by_depth = np.stack([_crowd(columns, depth == one, has_kinds=True) for one in depths] or [of_all])
    for side, (_, name, _) in enumerate(_SIDES):
        if name not in _OF_DEPTH:
            by_depth[:, side] = of_all[side]
    by_class = np.stack([_crowd(columns, given == k) for k in range(num_classes)])
    return Usual(depths, by_depth, by_class)


def oddness(usual: Usual, looks: Float32Array, distances: FloatArray, given: IntArray) -> Float32Array:
    """Return how many spreads each picture lies outside, for each reason of `tables.UNUSABLE`.

    Args:
        usual: What pictures of the set are usually like.
        looks: From `appearance.measured_looks`, shape (B, 7); NaN where not measured.
        distances: From `Crowd.distances`, shape (B,).
        given: Given class, shape (B,).

    Returns:
        float32, shape (B, R); -inf where nothing is known.
    """
    scores = np.full((len(given), len(UNUSABLE)), -np.inf, dtype=np.float32)
    depth = looks[:, LOOKS.index("depth")]
    at = np.minimum(np.searchsorted(usual.depths, depth), len(usual.by_depth) - 1)
    is_known = np.isin(depth, usual.depths)[:, None] | ~np.isin([name for _, name, _ in _SIDES], _OF_DEPTH)
    columns = _columns(looks, distances)
    of_all = _outside(columns, np.where(is_known[..., None], usual.by_depth[at], np.nan), -np.inf)
    worst = np.minimum(of_all, _outside(columns, usual.by_class[given], np.inf))
    for side, (reason, _, _) in enumerate(_SIDES):
        place = UNUSABLE.index(reason)
        scores[:, place] = np.maximum(scores[:, place], worst[:, side])
    is_blank = looks[:, LOOKS.index("is_blank")] == 1
    faint, blank = scores[:, UNUSABLE.index("low_contrast")].copy(), UNUSABLE.index("blank")
    scores[:, blank] = np.where(is_blank, faint, -np.inf)
    scores[:, UNUSABLE.index("low_contrast")] = np.where(is_blank, -np.inf, faint)
    return scores


@dataclass(frozen=True)
class Crowd:
    """The main directions of two halves of some pictures' features: each picture is held against the half without it.

    Attributes:
        means: Mean features of the half that is not 0, and not 1, float32, shape (2, D); NaN where it is too small.
        bases: Its main directions, float32, shape (D, q) each.
    """

    means: Float32Array
    bases: tuple[Float32Array, Float32Array]

    def distances(self, features: FloatArray, halves: IntArray) -> Float32Array:
        """Return how far each picture lies from all that pictures of the other half are made of.

        Args:
            features: Features as extracted, float, shape (B, D).
            halves: Half of each, 0 or 1, int64, shape (B,).

        Returns:
            Logarithm of the Euclidean distance to the subspace of the other half, float32, shape (B,); NaN where unknown.
        """
        distances = np.full(len(features), np.nan, dtype=np.float32)
        for half, (mean, basis) in enumerate(zip(self.means, self.bases, strict=True)):
            rows = np.flatnonzero(halves == half)
            if not np.isfinite(mean).all():
                continue
            for start in range(0, len(rows), BLOCK_ROWS):
                at = rows[start : start + BLOCK_ROWS]
                centred = features[at].astype(np.float32) - mean
                inside = np.einsum("ij,ij->i", centred @ basis, centred @ basis, dtype=np.float64)
                left = np.einsum("ij,ij->i", centred, centred, dtype=np.float64) - inside
                distances[at] = np.log(np.maximum(left, 1e-6)) / 2
        return distances


def fit_crowd(features: FloatArray, halves: IntArray) -> Crowd:
    """Return the main directions of both halves of some pictures.

    Args:
        features: Features as extracted, float, shape (L, D).
        halves: Half of each, 0 or 1; pictures of one group in one; int64, shape (L,).

    Returns:
        The crowd.

    Examples:
        >>> flat = np.array([[1.0, 0.0], [-1.0, 0.0], [2.0, 0.0], [-2.0, 0.0]])
        >>> crowd = fit_crowd(flat, np.array([0, 0, 1, 1]))
        >>> np.exp(crowd.distances(np.array([[5.0, 0.0], [0.0, 3.0]]), np.array([0, 1]))).round(1)  # on the line, and off it
        array([0., 3.], dtype=float32)
    """
    fitted = [_main_directions(features[halves != half].astype(np.float64)) for half in (0, 1)]
    return Crowd(np.stack([mean for mean, _ in fitted]).astype(np.float32), (fitted[0][1], fitted[1][1]))


def _main_directions(features: Float64Array) -> tuple[Float64Array, Float32Array]:
    """Mean, and as many directions as hold nine tenths of the variance, shape (D, q)."""
    if len(features) < 2:
        return np.full(features.shape[1], np.nan), np.zeros((features.shape[1], 0), dtype=np.float32)
    mean = features.mean(axis=0)
    centred = features - mean
    values, vectors = np.linalg.eigh(centred @ centred.T)
    values, vectors = np.maximum(values[::-1], 0), vectors[:, ::-1]
    if not values[0] > 0:
        return mean, np.zeros((features.shape[1], 0), dtype=np.float32)
    num = int(np.searchsorted(np.cumsum(values) / values.sum(), EXPLAINED)) + 1
    return mean, np.asarray((centred.T @ vectors[:, :num]) / np.sqrt(values[:num]), dtype=np.float32)


def _columns(looks: Float32Array, distances: FloatArray) -> Float64Array:
    """Each measurement with the sign of its side, shape (B, S)."""
    held = dict(zip(LOOKS, looks.T, strict=True)) | {_DISTANCE: distances}
    return np.stack([sign * np.asarray(held[name], dtype=np.float64) for _, name, sign in _SIDES], axis=1)


def _crowd(columns: Float64Array, rows: BoolArray, *, has_kinds: bool = False) -> Float64Array:
    """Middle and spread of each side among some pictures, shape (S, 2)."""
    limits = np.full((columns.shape[1], 2), np.nan)
    for side in range(columns.shape[1]):
        values = columns[rows, side]
        values = values[np.isfinite(values)]
        if len(values) >= LEAST_CROWD:
            middle = np.median(values)
            spreads = [(np.quantile(values, share) - middle) / normal for share, normal in _TAILS]
            spread, kind = max(*spreads, LEAST_SPREAD), np.quantile(values, _KIND) - middle
            limits[side] = middle, kind / _KIND_NORMAL if has_kinds and kind > _FAR * spread else spread
    return limits


def _outside(columns: Float64Array, usual: Float64Array, unknown: float) -> Float64Array:
    """Spreads above the middle; `unknown` without a crowd, and -inf where the picture was not measured."""
    excess = (columns - usual[..., 0]) / usual[..., 1]
    excess = np.where(np.isnan(usual[..., 0]), unknown, excess)
    return np.where(np.isfinite(columns), excess, -np.inf)
