"""Fits and applies a linear probe: in closed form from the sums, or by cross-entropy and generalised cross-entropy.

Teacher and student are both a `LinearProbe`; they differ in targets and loss. All fits here
are cross-fitted: one probe per fold, trained on the other folds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from labelclean.arrays import Float32Array, Float64Array, FloatArray, IntArray
from labelclean.probes.sums import (
    BLOCK_ROWS,
    FeatureSums,
    LeftOut,
    Spectrum,
    TargetSums,
    all_but,
    build_feature_sums,
    build_target_sums,
    ridge_rounds,
    spectrum,
)

GCE_EXPONENT = 0.7
TINY = 1e-12


@dataclass(frozen=True)
class LinearProbe:
    """One linear softmax layer on frozen features.

    Attributes:
        weights: float32, shape (D, K).
        bias: float32, shape (K,).
    """

    weights: Float32Array
    bias: Float32Array


@dataclass(frozen=True)
class Design:
    """Features, folds and sums: all of a fit that no label enters.

    Attributes:
        unit_rows: Centred unit features, float32, shape (N, D).
        folds: Fold of each sample, int64, shape (N,), in [0, F).
        sums: Feature sums per fold.
        spectra: For each fold, the decomposition of all other folds (`sums.LeftOut` makes it when it is asked for).
    """

    unit_rows: Float32Array
    folds: IntArray
    sums: FeatureSums
    spectra: Sequence[Spectrum]

    @property
    def num_folds(self) -> int:
        """F."""
        return len(self.spectra)

    @cached_property
    def whole(self) -> Spectrum:
        """The decomposition of all folds together, made when it is first asked for."""
        return spectrum(self.sums, np.ones(self.num_folds))


Residual = Callable[[Float32Array, Float32Array], Float32Array]


def build_design(unit_rows: Float32Array, folds: IntArray, num_folds: int, mean: Float64Array) -> Design:
    """Return the features with their per-fold sums.

    Args:
        unit_rows: Centred unit features, float32, shape (N, D).
        folds: Fold of each sample, int64, shape (N,), in [0, F); a group lies in one fold.
        num_folds: F.
        mean: The mu that centred the features, float64, shape (D,).

    Returns:
        The design.
    """
    return design_of_sums(unit_rows, folds, build_feature_sums(unit_rows, folds, num_folds, mean))


def design_of_sums(unit_rows: Float32Array, folds: IntArray, sums: FeatureSums) -> Design:
    """Return features with sums that may be of more samples than theirs.

    Args:
        unit_rows: Centred unit features, float32, shape (N, D).
        folds: Fold of each sample, int64, shape (N,), in [0, F).
        sums: Feature sums per fold.

    Returns:
        The design.
    """
    return Design(unit_rows, folds, sums, LeftOut(sums))


def fit_ridge(
    design: Design, targets: Float32Array, penalties: Sequence[float], rounds: int = 1
) -> list[tuple[LinearProbe, ...]]:
    """Return ridge probes in closed form, for each penalty one per fold (methods: P1 [7] in closed form).

    Args:
        design: Features and folds.
        targets: One row per sample, float32, shape (N, K), aligned with ``design.unit_rows``.
        penalties: Values of c, each above 0.
        rounds: Rounds of label averaging, chained inside the folds.

    Returns:
        For each penalty a tuple of F probes; probe f never saw fold f.
    """
    sums = build_target_sums(design.unit_rows, targets, design.folds, design.num_folds)
    return solve_ridge(design.spectra, sums, penalties, rounds)


def solve_ridge(
    spectra: Sequence[Spectrum], sums: TargetSums, penalties: Sequence[float], rounds: int = 1
) -> list[tuple[LinearProbe, ...]]:
    """Return the ridge probes of `fit_ridge` from sums alone.

    Args:
        spectra: For each fold, the decomposition of all other folds.
        sums: Target sums per fold of the same samples.
        penalties: Values of c, each above 0.
        rounds: Rounds of label averaging, chained inside the folds.

    Returns:
        For each penalty a tuple of F probes; probe f never saw fold f.
    """
    fits = []
    for penalty in penalties:
        probes = []
        for fold, basis in enumerate(spectra):
            weights, bias = ridge_rounds(basis, sums, all_but(fold, len(spectra)), penalty, rounds)
            probes.append(LinearProbe(weights.astype(np.float32), bias.astype(np.float32)))
        fits.append(tuple(probes))
    return fits


def fit_cross_entropy(
    design: Design,
    targets: Float32Array,
    penalty: float,
    *,
    steps: int = 40,
    start: tuple[LinearProbe, ...] | None = None,
) -> tuple[LinearProbe, ...]:
    """Return softmax probes that minimise cross-entropy + (penalty / 2) |W|^2, one per fold.

    Every step uses Böhning's bound on the softmax Hessian, (1/2)(I - 11'/K) x S (Böhning 1992 [1]),
    so the one eigendecomposition serves all steps; steps are accelerated (Nesterov).

    Args:
        design: Features and folds.
        targets: Probability rows, float32, shape (N, K), aligned with ``design.unit_rows``.
        penalty: N lambda, above 0.
        steps: Passes over the features.
        start: Probes to start from; default: zero weights and the log class shares.

    Returns:
        F probes; probe f never saw fold f.
    """
    return _descend(design, targets, penalty, steps, start, _cross_entropy_residual)


def fit_gce(
    design: Design,
    targets: Float32Array,
    penalty: float,
    *,
    steps: int = 40,
    start: tuple[LinearProbe, ...] | None = None,
) -> tuple[LinearProbe, ...]:
    """Return softmax probes that minimise generalised cross-entropy, averaged over the candidates, one per fold.

    The loss of a sample is sum over a of t_a (1 - p_a^q) / q with q = 0.7 (Zhang and Sabuncu
    2018 [18]; P1 averages it over the two candidates). It is concave in the cross-entropy, so
    Böhning's bound holds for it too.

    Args:
        design: Features and folds.
        targets: Weights t of the candidates, float32, shape (N, K), rows sum to 1.
        penalty: N lambda, above 0.
        steps: Passes over the features.
        start: Probes to start from (P1: the teacher's); default: zero weights.

    Returns:
        F probes; probe f never saw fold f.
    """
    return _descend(design, targets, penalty, steps, start, _gce_residual)


def predict_logits(probe: LinearProbe, unit_rows: Float32Array) -> Float32Array:
    """Return the probe's outputs before the softmax.

    Args:
        probe: The probe.
        unit_rows: Centred unit features, float32, shape (N, D).

    Returns:
        float32, shape (N, K), rows aligned with ``unit_rows``.
    """
    return np.asarray(unit_rows @ probe.weights + probe.bias, dtype=np.float32)


def out_of_fold_logits(design: Design, probes: tuple[LinearProbe, ...], rows: IntArray | None = None) -> Float32Array:
    """Return for each sample the output of the probe that did not see it.

    Args:
        design: Features and folds.
        probes: One probe per fold.
        rows: The samples wanted, int64, shape (n,); default: all.

    Returns:
        float32, shape (N, K) or (n, K), rows aligned with ``design.unit_rows`` or ``rows``.
    """
    wanted = np.arange(len(design.folds)) if rows is None else rows
    folds = design.folds[wanted]
    logits = np.empty((len(wanted), len(probes[0].bias)), dtype=np.float32)
    for fold, probe in enumerate(probes):
        places = np.flatnonzero(folds == fold)
        for start in range(0, len(places), BLOCK_ROWS):
            block = places[start : start + BLOCK_ROWS]
            logits[block] = predict_logits(probe, design.unit_rows[wanted[block]])
    return logits


def shares_of_sums(sums: TargetSums, count: Float64Array) -> Float32Array:
    """Return the class shares of what each fold's probe learned from.

    Args:
        sums: Target sums per fold.
        count: Samples per fold, float64, shape (F,).

    Returns:
        float32, shape (F, K); row f is the mean target outside fold f.
    """
    left = sums.total.sum(axis=0) - sums.total
    return np.asarray(left / np.maximum(count.sum() - count, 1)[:, None], dtype=np.float32)


def softmax(logits: FloatArray) -> Float32Array:
    """Return probabilities.

    Args:
        logits: float, shape (..., K).

    Returns:
        float32, same shape, positive, sums to 1 over the last axis.

    Examples:
        >>> softmax(np.array([0.0, np.log(3.0)]))
        array([0.25, 0.75], dtype=float32)
    """
    axes = range(logits.ndim)
    probs = np.array(logits.transpose(*axes[-1:], *axes[:-1]), order="C")  # short rows take numpy ten times as long
    probs -= probs.max(axis=0)
    np.exp(probs, out=probs)
    probs /= probs.sum(axis=0)
    return np.ascontiguousarray(probs.transpose(*axes[1:], 0), dtype=np.float32)


def log_shares(targets: Float32Array) -> Float64Array:
    """Return the log of each class's share, kept finite for a class nobody gave.

    Args:
        targets: Probability rows, float32, shape (N, K).

    Returns:
        float64, shape (K,).
    """
    return log_shares_of_total(targets.sum(axis=0, dtype=np.float64))


def log_shares_of_total(total: Float64Array) -> Float64Array:
    """Return `log_shares` from the sum of the targets, float64, shape (K,)."""
    counts = total + 0.5
    return np.asarray(np.log(counts / counts.sum()), dtype=np.float64)


def _cross_entropy_residual(probs: Float32Array, targets: Float32Array) -> Float32Array:
    return probs - targets


def _gce_residual(probs: Float32Array, targets: Float32Array) -> Float32Array:
    pull = targets * np.maximum(probs, np.float32(TINY)) ** np.float32(GCE_EXPONENT)
    return np.asarray(probs * pull.sum(axis=-1, keepdims=True) - pull, dtype=np.float32)


def _descend(
    design: Design,
    targets: Float32Array,
    penalty: float,
    steps: int,
    start: tuple[LinearProbe, ...] | None,
    residual: Residual,
) -> tuple[LinearProbe, ...]:
    """Accelerated steps (S/2 + c I)^-1 gradient for all folds at once, one pass over the features per step."""
    num_folds, num_dims, num_classes = design.num_folds, design.unit_rows.shape[1], targets.shape[1]
    if start is None:
        weights = np.zeros((num_folds, num_dims, num_classes))
        bias = np.tile(log_shares(targets), (num_folds, 1))
    else:
        weights = np.stack([probe.weights for probe in start]).astype(np.float64)
        bias = np.stack([probe.bias for probe in start]).astype(np.float64)
        bias += np.stack([basis.x_mean @ weights[fold] for fold, basis in enumerate(design.spectra)])
    ahead_weights, ahead_bias, momentum = weights, bias, 1.0
    for _ in range(steps):
        slope, slope_bias = _gradient(design, targets, ahead_weights, ahead_bias, residual)
        new_weights, new_bias = np.empty_like(weights), np.empty_like(bias)
        for fold, basis in enumerate(design.spectra):
            full = slope[fold] + penalty * ahead_weights[fold]
            step = basis.vectors @ ((basis.vectors.T @ full) / (basis.values / 2 + penalty)[:, None])
            new_weights[fold] = ahead_weights[fold] - step
            new_bias[fold] = ahead_bias[fold] - slope_bias[fold] / max(basis.count / 2, 1.0)
        next_momentum = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        push = (momentum - 1) / next_momentum
        ahead_weights = new_weights + push * (new_weights - weights)
        ahead_bias = new_bias + push * (new_bias - bias)
        weights, bias, momentum = new_weights, new_bias, next_momentum
    return tuple(
        LinearProbe(weights[fold].astype(np.float32), (bias[fold] - basis.x_mean @ weights[fold]).astype(np.float32))
        for fold, basis in enumerate(design.spectra)
    )


def _gradient(
    design: Design, targets: Float32Array, weights: Float64Array, bias: Float64Array, residual: Residual
) -> tuple[Float64Array, Float64Array]:
    """Gradient for the centred features, shapes (F, D, K) and (F, K); a fold's own rows count 0 for its probe."""
    num_folds, num_dims, num_classes = weights.shape
    means = np.stack([basis.x_mean for basis in design.spectra])
    stacked = np.ascontiguousarray(weights.transpose(1, 0, 2).reshape(num_dims, -1), dtype=np.float32)
    offset = (bias - np.einsum("fd,fdk->fk", means, weights)).astype(np.float32)
    slope = np.zeros((num_dims, num_folds * num_classes))
    slope_bias = np.zeros((num_folds, num_classes))
    size = max(256, min(BLOCK_ROWS, 8_000_000 // (num_folds * num_classes)))
    for start in range(0, len(design.folds), size):
        rows = slice(start, start + size)
        block = design.unit_rows[rows]
        logits = (block @ stacked).reshape(len(block), num_folds, num_classes) + offset
        pull = residual(softmax(logits), targets[rows, None, :])
        pull[np.arange(len(block)), design.folds[rows]] = 0
        slope += block.T @ pull.reshape(len(block), -1)
        slope_bias += pull.sum(axis=0, dtype=np.float64)
    slope_of_fold = slope.reshape(num_dims, num_folds, num_classes).transpose(1, 0, 2)
    return slope_of_fold - means[:, :, None] * slope_bias[:, None, :], slope_bias
