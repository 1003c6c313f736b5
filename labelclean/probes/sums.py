"""The sums X'X and X'Y per fold that every probe, round and night needs; they add across shards, machines and nights.

Features are centred by a fixed mean mu and brought to unit length. Only then do sums of
different nights mean the same, so mu travels with the sums and sums of another mu are refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from labelclean.arrays import Float32Array, Float64Array, FloatArray, IntArray
from labelclean.errors import TableError

BLOCK_ROWS = 8192
UNIT_ROWS = 2048  # rows that stay in the processor's cache


@dataclass(frozen=True)
class FeatureSums:
    """What ridge regression needs to know of the features, per part of the samples.

    A part is a fold or a hash bucket. Sums of the same ``mean`` add: `merged_feature_sums`.

    Attributes:
        mean: The fixed centring mu that was taken off before the rows were scaled, float64, shape (D,).
        count: Samples, float64, shape (P,).
        total: X'1, float64, shape (P, D).
        gram: X'X, float64 (float32 where asked for), shape (P, D, D).
    """

    mean: Float64Array
    count: Float64Array
    total: Float64Array
    gram: FloatArray

    @property
    def num_parts(self) -> int:
        """P."""
        return len(self.count)


@dataclass(frozen=True)
class TargetSums:
    """What ridge regression needs to know of one set of targets, per part of the samples.

    Attributes:
        total: Y'1, float64, shape (P, K).
        cross: X'Y, float64, shape (P, D, K).
    """

    total: Float64Array
    cross: Float64Array


@dataclass(frozen=True)
class Spectrum:
    """Eigendecomposition of the centred Gram matrix of some parts; it serves every lambda and round.

    Attributes:
        count: Samples in these parts.
        x_mean: Their mean feature, float64, shape (D,).
        values: Eigenvalues of S = X'X - n x_mean x_mean', float64, shape (D,), ascending, at least 0.
        vectors: Eigenvectors in columns, float64, shape (D, D).
    """

    count: float
    x_mean: Float64Array
    values: Float64Array
    vectors: Float64Array


def feature_mean(features: FloatArray) -> Float64Array:
    """Return the mean feature mu that fixes the centring of a run and of those that build on it.

    Args:
        features: One row per sample, float, shape (N, D).

    Returns:
        float64, shape (D,).
    """
    return np.asarray(features.mean(axis=0, dtype=np.float64), dtype=np.float64)


def centred_unit_rows(features: FloatArray, mean: Float64Array) -> Float32Array:
    """Return the features centred by ``mean`` and scaled to length 1.

    Args:
        features: One row per sample, float, shape (N, D).
        mean: The fixed mu, float64, shape (D,).

    Returns:
        float32, shape (N, D), rows aligned with ``features``; a row equal to ``mean`` stays zero.

    Examples:
        >>> centred_unit_rows(np.array([[4.0, 5.0], [1.0, 1.0]]), np.array([1.0, 1.0]))
        array([[0.6, 0.8],
               [0. , 0. ]], dtype=float32)
    """
    rows = np.empty(features.shape, dtype=np.float32)
    scale = max(float(np.abs(mean).max(initial=0.0)), float(np.abs(features).max(initial=0.0)))
    fits = np.float32 if 1e-12 < scale < 1e12 else np.float64  # whether squares do
    centre = mean.astype(np.result_type(features, fits))  # its rounding shifts all rows alike
    zero = 1e-6 * scale * np.sqrt(features.shape[1])  # below it a row is rounding noise around mu
    for start in range(0, len(features), BLOCK_ROWS):
        block = features[start : start + BLOCK_ROWS] - centre
        length = np.sqrt(np.einsum("nd,nd->n", block, block))
        rows[start : start + BLOCK_ROWS] = block / np.where(length > zero, length, np.inf)[:, None]
    return rows


def unit_block(features: npt.NDArray[np.floating], mean: Float64Array, out: Float32Array | None = None) -> Float32Array:
    """Return what `centred_unit_rows` does for one block of a shard, in single precision throughout.

    Args:
        features: One block of rows, float, shape (B, D); float64 is centred before it is rounded.
        mean: The fixed mu, float64, shape (D,).
        out: Where to write it, float32, shape (B, D): fresh memory costs several times the arithmetic.

    Returns:
        float32, shape (B, D); within about 1e-6 of `centred_unit_rows`. Rows with NaN or infinity become NaN.
    """
    import torch

    rows = np.empty(features.shape, dtype=np.float32) if out is None else out
    if features.dtype == np.float64:
        rows[...] = centred_unit_rows(features, mean)
        return rows
    to, raw = torch.from_numpy(rows), torch.from_numpy(np.ascontiguousarray(features))
    centre, largest = torch.from_numpy(mean.astype(np.float32)), float(np.abs(mean).max(initial=0.0))
    for start in range(0, len(raw), UNIT_ROWS):
        block = to[start : start + UNIT_ROWS]
        block.copy_(raw[start : start + UNIT_ROWS])
        block.sub_(centre)
        length = torch.linalg.vector_norm(block, dim=1, keepdim=True)
        zero = 1e-6 * max(largest, float(length.max())) * block.shape[1] ** 0.5
        length[length <= zero] = torch.inf  # a row of infinities has length inf before this, and inf / inf is NaN
        block.div_(length)
    return rows


def span_coordinates(unit_rows: Float32Array) -> Float32Array:
    """Return the rows in coordinates of their own span when there are fewer samples than dimensions.

    All inner products stay the same, hence also every ridge or L2-penalised probe and every
    neighbour; only the Gram matrix shrinks from D x D to N x N.

    Args:
        unit_rows: Centred features, float32, shape (N, D).

    Returns:
        float32, shape (N, min(N, D)), rows aligned with ``unit_rows``; the input itself if D <= N.
    """
    num_samples, num_dims = unit_rows.shape
    if num_dims <= num_samples:
        return unit_rows
    inner = unit_rows.astype(np.float64) @ unit_rows.T.astype(np.float64)
    values, vectors = np.linalg.eigh(inner)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)), dtype=np.float32)


def hashed_parts(keys: Sequence[Hashable], num_parts: int, *, seed: int, purpose: str) -> IntArray:
    """Return a part for each key that depends on nothing but the key, the seed and the purpose.

    A sample therefore keeps its fold whatever else is in the data set and in whatever order.

    Args:
        keys: Sample or group ids, length N; equal keys get equal parts.
        num_parts: P.
        seed: Any integer.
        purpose: A word that makes hashes for different ends independent of each other.

    Returns:
        int64, shape (N,), in [0, P), aligned with ``keys``.
    """
    salt, blake2b = f"{seed}/{purpose}/".encode(), hashlib.blake2b
    digests = b"".join([blake2b(salt + str(key).encode(), digest_size=8).digest() for key in keys])
    return (np.frombuffer(digests, dtype=">u8") % np.uint64(num_parts)).astype(np.int64)


def bucketed(keys: Sequence[Hashable], folds: IntArray, num_buckets: int, *, seed: int) -> IntArray:
    """Return a hash bucket for each key, so many per fold; a bucket lies in one fold.

    Args:
        keys: Sample or group ids, length N.
        folds: Fold of each, int64, shape (N,), in [0, F), equal for equal keys.
        num_buckets: B, buckets per fold.
        seed: Any integer.

    Returns:
        int64, shape (N,), in [0, F B).
    """
    return folds * num_buckets + hashed_parts(keys, num_buckets, seed=seed, purpose="bucket")


def numbered_parts(start: int, size: int, num_parts: int, *, seed: int, purpose: str) -> IntArray:
    """Return what `hashed_parts` does for samples that have no id but their number, at a hundredth of its time.

    Args:
        start: Number of the first sample.
        size: N.
        num_parts: P.
        seed: Any integer.
        purpose: As there.

    Returns:
        int64, shape (N,), in [0, P): the splitmix64 of number and salt (Steele et al. 2014 [14]).
    """
    salt = int.from_bytes(hashlib.blake2b(f"{seed}/{purpose}/".encode(), digest_size=8).digest(), "big")
    z = np.arange(start + 1, start + size + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(salt)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((z ^ (z >> np.uint64(31))) % np.uint64(num_parts)).astype(np.int64)


def build_feature_sums(
    unit_rows: Float32Array,
    parts: IntArray,
    num_parts: int,
    mean: Float64Array,
    dtype: type[np.floating] = np.float64,
) -> FeatureSums:
    """Return n, X'1 and X'X per part.

    Args:
        unit_rows: Centred unit features, float32, shape (N, D).
        parts: Part of each sample, int64, shape (N,), in [0, P), aligned with ``unit_rows``.
        num_parts: P.
        mean: The mu that centred them, float64, shape (D,) or of another length if the rows
            were turned into span coordinates.
        dtype: Of the Gram matrices; float32 halves the memory of many parts.

    Returns:
        The sums.
    """
    num_dims = unit_rows.shape[1]
    total = np.zeros((num_parts, num_dims))
    gram = np.zeros((num_parts, num_dims, num_dims), dtype=dtype)
    product = np.empty((num_dims, num_dims), dtype=unit_rows.dtype)  # fresh memory costs more than the arithmetic
    for part, rows in _part_blocks(parts, num_parts):
        block = unit_rows[rows]
        total[part] += block.sum(axis=0, dtype=np.float64)
        gram[part] += np.matmul(block.T, block, out=product)
    return FeatureSums(mean, np.bincount(parts, minlength=num_parts).astype(np.float64), total, gram)


def build_target_sums(unit_rows: Float32Array, targets: Float32Array, parts: IntArray, num_parts: int) -> TargetSums:
    """Return Y'1 and X'Y per part.

    Args:
        unit_rows: Centred unit features, float32, shape (N, D).
        targets: One row per sample, float32, shape (N, K), aligned with ``unit_rows``.
        parts: Part of each sample, int64, shape (N,), in [0, P).
        num_parts: P.

    Returns:
        The sums.
    """
    total = np.zeros((num_parts, targets.shape[1]))
    cross = np.zeros((num_parts, unit_rows.shape[1], targets.shape[1]))
    for part, rows in _part_blocks(parts, num_parts):
        total[part] += targets[rows].sum(axis=0, dtype=np.float64)
        cross[part] += unit_rows[rows].T @ targets[rows]
    return TargetSums(total, cross)


def merged_feature_sums(first: FeatureSums, second: FeatureSums) -> FeatureSums:
    """Return the sums of both sets of samples together.

    Args:
        first: Sums of some samples.
        second: Sums of other samples, with the same mu and the same parts.

    Returns:
        The added sums.

    Raises:
        TableError: If the sums were made with different mu, or have different sizes.
    """
    if first.gram.shape != second.gram.shape:
        raise TableError(
            f"Feature sums must have the same parts and dimensions to be added, but have shapes "
            f"{first.gram.shape} and {second.gram.shape}. Use the same backbone and number of folds."
        )
    if not np.array_equal(first.mean, second.mean):
        apart = float(np.abs(first.mean - second.mean).max())
        raise TableError(
            f"Feature sums must have been centred by the same mean to be added, but the means differ by up to "
            f"{apart:.3g}. Centre the new features by the stored mean of the reference run."
        )
    return FeatureSums(first.mean, first.count + second.count, first.total + second.total, first.gram + second.gram)


def merged_target_sums(first: TargetSums, second: TargetSums) -> TargetSums:
    """Return the target sums of both sets of samples together.

    Args:
        first: Sums of some samples.
        second: Sums of other samples with the same parts and classes.

    Returns:
        The added sums.

    Raises:
        TableError: If the shapes differ.
    """
    if first.cross.shape != second.cross.shape:
        raise TableError(
            f"Target sums must have the same parts, dimensions and classes to be added, but have shapes "
            f"{first.cross.shape} and {second.cross.shape}. Use the class list of the reference run."
        )
    return TargetSums(first.total + second.total, first.cross + second.cross)


def spectrum(sums: FeatureSums, weights: Float64Array) -> Spectrum:
    """Return the eigendecomposition of the centred Gram matrix of a weighted union of parts.

    Args:
        sums: Feature sums of P parts.
        weights: How often each part counts, float64, shape (P,), at least 0: 0 for a held-out
            fold and 1 for the others, or Poisson counts for a bootstrap.

    Returns:
        The decomposition; all zero if no samples are left.
    """
    count = float(weights @ sums.count)
    return decomposed(count, (weights @ sums.total) / max(count, 1.0), centred_gram(sums, weights))


def decomposed(count: float, x_mean: Float64Array, centred: Float64Array) -> Spectrum:
    """Return the eigendecomposition of a centred Gram matrix.

    Args:
        count: n, the samples it was summed over.
        x_mean: Their mean feature, float64, shape (D,).
        centred: S = X'X - n x_mean x_mean', float64, shape (D, D).

    Returns:
        The decomposition.
    """
    import torch

    values, vectors = torch.linalg.eigh(torch.from_numpy(centred))  # 4 times as fast as numpy's at D = 1280
    return Spectrum(count, x_mean, np.maximum(values.numpy(), 0.0), vectors.numpy())


class LeftOut(Sequence[Spectrum]):
    """For each part the decomposition of all others, made when it is first asked for: not every fit needs them."""

    def __init__(self, sums: FeatureSums) -> None:
        self._sums = sums
        self._made: dict[int, Spectrum] = {}

    def __len__(self) -> int:
        return self._sums.num_parts

    def __getitem__(self, part: Any) -> Any:
        if not 0 <= part < len(self):
            raise IndexError(f"part must lie within 0 and {len(self) - 1}, but is {part}.")
        if part not in self._made:
            self._made[part] = spectrum(self._sums, all_but(part, len(self)))
        return self._made[part]


def centred_gram(sums: FeatureSums, weights: Float64Array) -> Float64Array:
    """Return S = X'X - n x_mean x_mean' of a weighted union of parts.

    Args:
        sums: Feature sums of P parts.
        weights: How often each part counts, float64, shape (P,), at least 0.

    Returns:
        float64, shape (D, D), symmetric.
    """
    total = weights @ sums.total
    num_dims = sums.gram.shape[1]
    flat = weights.astype(sums.gram.dtype) @ sums.gram.reshape(len(weights), -1)
    gram = flat.reshape(num_dims, num_dims).astype(np.float64)
    centred: Float64Array = gram - np.outer(total, total) / max(float(weights @ sums.count), 1.0)
    return centred


def centred_cross(sums: FeatureSums, targets: TargetSums, weights: Float64Array) -> Float64Array:
    """Return X'(Y - y_mean) of a weighted union of parts.

    Args:
        sums: Feature sums of P parts.
        targets: Target sums of the same parts.
        weights: How often each part counts, float64, shape (P,), at least 0.

    Returns:
        float64, shape (D, K).
    """
    x_mean = (weights @ sums.total) / max(float(weights @ sums.count), 1.0)
    cross: Float64Array = np.tensordot(weights, targets.cross, axes=1) - np.outer(x_mean, weights @ targets.total)
    return cross


def ridge_rounds(
    basis: Spectrum, targets: TargetSums, weights: Float64Array, penalty: float, rounds: int = 1
) -> tuple[Float64Array, Float64Array]:
    """Return weights and bias after some rounds of label averaging (P1 [7]) in closed form.

    Round 1 is ridge regression with an unpenalised intercept, W_1 = (S + c I)^-1 X'(Y - y_mean);
    each further round is fitted to the outputs of the one before, W_t = (S + c I)^-1 S W_{t-1}.
    With S = V diag(s) V' that is W_t = V diag[(s / (s + c))^(t-1) / (s + c)] V' X'(Y - y_mean):
    no further pass over samples, and the chain never leaves its parts.

    Args:
        basis: Eigendecomposition of S of the parts that are fitted.
        targets: Target sums of all parts.
        weights: How often each part counts, float64, shape (P,), the same as for ``basis``.
        penalty: c, above 0.
        rounds: t, at least 1.

    Returns:
        W_t, float64, shape (D, K), and the bias b, float64, shape (K,): scores are x W_t + b.
    """
    y_total = weights @ targets.total
    y_mean = y_total / max(basis.count, 1.0)
    cross = np.tensordot(weights, targets.cross, axes=1) - np.outer(basis.x_mean, y_total)
    shrink = (basis.values / (basis.values + penalty)) ** (rounds - 1) / (basis.values + penalty)
    fitted: Float64Array = basis.vectors @ (shrink[:, None] * (basis.vectors.T @ cross))
    return fitted, y_mean - basis.x_mean @ fitted


def solved_ridge(
    sums: FeatureSums, targets: TargetSums, weights: Float64Array, penalty: float
) -> tuple[Float64Array, Float64Array]:
    """Return round 1 of `ridge_rounds` for one penalty: a Cholesky factor costs a tenth of a decomposition.

    Args:
        sums: Feature sums of P parts.
        targets: Target sums of the same parts.
        weights: How often each part counts, float64, shape (P,), at least 0.
        penalty: c, above 0.

    Returns:
        W_1, float64, shape (D, K), and the bias b, float64, shape (K,).
    """
    import torch

    gram = centred_gram(sums, weights)
    gram[np.diag_indices_from(gram)] += penalty
    factor = torch.linalg.cholesky(torch.from_numpy(gram))
    fitted = torch.cholesky_solve(torch.from_numpy(centred_cross(sums, targets, weights)), factor).numpy()
    count = max(float(weights @ sums.count), 1.0)
    return fitted, (weights @ targets.total) / count - (weights @ sums.total) / count @ fitted


def all_but(part: int, num_parts: int) -> Float64Array:
    """Return the weights that leave one part out.

    Args:
        part: The part to leave out.
        num_parts: P.

    Returns:
        float64, shape (P,): 0 at ``part``, else 1.

    Examples:
        >>> all_but(1, 3)
        array([1., 0., 1.])
    """
    weights = np.ones(num_parts)
    weights[part] = 0.0
    return weights


def _part_blocks(parts: IntArray, num_parts: int) -> list[tuple[int, IntArray]]:
    """Row numbers of each part, in blocks small enough to copy."""
    blocks = []
    for part in range(num_parts):
        rows = np.flatnonzero(parts == part)
        blocks += [(part, rows[start : start + BLOCK_ROWS]) for start in range(0, len(rows), BLOCK_ROWS)]
    return blocks
