"""The student's targets: two-hot, multi-round, adaptive, posterior; and three readings of a student that disagrees.

Each function turns what the teacher believes into one row of target probabilities per
sample. Verified samples and partial labels keep their word in all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from labelclean.gram import Float32Array, Float64Array
from labelclean.labels import GivenLabels
from labelclean.noise import fit_noise_matrix, posterior
from labelclean.probe import softmax
from labelclean.threads import one_thread
from labelclean.top2 import top2_candidates, two_hot

OVERLAP_SHARE = 0.3
EXPECTED_AMBIGUITY = 0.2
ALONE_SHARE = 0.5
RANK_POWER = 0.25
LEAST_PROB = 1e-6
RIDGE = 1e-3


@dataclass(frozen=True)
class Readings:
    """What a student that disagrees with a given label may mean.

    Labels alone cannot tell an ambiguous image from a wrong label, so three readings stand side by side.

    Attributes:
        sure: Posterior under the noise model: images are as ambiguous as the labels near them
            differ, float32, shape (N, K).
        hedged: Mean of three readings, weighted by `FittedReadings`: `sure`; the posterior when images are as
            ambiguous as their classes overlap in the student's scores; and the student alone, float32, shape (N, K).
        rank: What orders the labels: P(k | x) C[k, given]^(1/4) at the given class, float32, shape (N,).
        scores: Probability of the given label in each reading by itself, float32, shape (3, N).
    """

    sure: Float32Array
    hedged: Float32Array
    rank: Float32Array
    scores: Float32Array


def read_disagreement(
    teacher_probs: Float32Array,
    sure: Float32Array,
    pred_probs: Float32Array,
    labels: GivenLabels,
    matrix: Float64Array,
    shrinkage: float = 0.0,
) -> Readings:
    """Return three readings of where a student disagrees with the given labels.

    Args:
        teacher_probs: P(true class | image) of the noise model, float32, shape (N, K).
        sure: Posterior of the true class under it, the given label counted, float32, shape (N, K).
        pred_probs: The student's P(true class | image), float32, shape (N, K).
        labels: Given labels.
        matrix: C of the student, float64, shape (K, K).
        shrinkage: That of its noise model.

    Returns:
        The readings; rows sum to 1 and impossible classes get 0.
    """
    return fit_readings(teacher_probs, pred_probs, labels, matrix, shrinkage).read(sure, pred_probs, labels)


@dataclass(frozen=True)
class FittedReadings:
    """What the readings need to know of a student; fitted to some samples, applied to any.

    Attributes:
        alone: Weight of the student alone: half the share of labels that it contradicts. The more it contradicts,
            the less can all of them be ambiguous images.
        overlap: Weight of the overlap reading against `sure`.
        clouds: Overlap of the classes in the student's scores.
        overlap_matrix: C under that overlap, float64, shape (K, K).
        matrix: C of the student, float64, shape (K, K).
    """

    alone: float
    overlap: float
    clouds: Clouds
    overlap_matrix: Float64Array
    matrix: Float64Array

    def read(self, sure: Float32Array, pred_probs: Float32Array, labels: GivenLabels) -> Readings:
        """Return the three readings of some samples; arguments as in `read_disagreement`."""
        given, rows = labels.given, np.arange(len(labels))
        alone = _possible(pred_probs, labels)
        decided = posterior(self.clouds.probs(pred_probs), labels, self.overlap_matrix)
        hedged = (1.0 - self.alone) * ((1.0 - self.overlap) * sure + self.overlap * decided) + self.alone * alone
        rank = posterior(pred_probs, labels, self.matrix**RANK_POWER)[rows, given]
        scores = np.stack([reading[rows, given] for reading in (sure, decided, alone)])
        return Readings(sure, hedged.astype(np.float32), rank, scores)


def fit_readings(
    teacher_probs: Float32Array,
    pred_probs: Float32Array,
    labels: GivenLabels,
    matrix: Float64Array,
    shrinkage: float = 0.0,
) -> FittedReadings:
    """Return what the readings need; arguments as in `read_disagreement`."""
    clouds = fit_clouds(pred_probs)
    apart = clouds.probs(pred_probs)
    overlap_matrix = fit_noise_matrix(apart, labels, shrinkage=shrinkage)
    contradicted = float((pred_probs.argmax(axis=1) != labels.observed.argmax(axis=1)).mean())
    return FittedReadings(
        ALONE_SHARE * contradicted, overlap_weight(teacher_probs, apart), clouds, overlap_matrix, matrix
    )


def overlap_weight(teacher_probs: Float32Array, apart: Float32Array) -> float:
    """Return how far to believe that classes overlap no more than their clouds do.

    Given labels are as likely when images are ambiguous as when labels are wrong, so only what is thought of images
    beforehand can weigh the two: the share of images that show another class than their likeliest is thought to be
    exponential with mean 0.2, and clouds to be right about it 3 times in 10.

    Args:
        teacher_probs: P(true class | image) of the noise model, float32, shape (N, K).
        apart: The same of the clouds, float32, shape (N, K).

    Returns:
        The weight, in [0, 1].

    Examples:
        >>> even, sure = np.full((9, 2), 0.5, np.float32), np.eye(2, dtype=np.float32)[[0] * 9]
        >>> overlap_weight(sure, sure), round(overlap_weight(even, sure), 3)
        (0.3, 0.839)
    """
    odds = np.exp((_ambiguity(teacher_probs) - _ambiguity(apart)) / EXPECTED_AMBIGUITY)
    return float(OVERLAP_SHARE * odds / (OVERLAP_SHARE * odds + 1.0 - OVERLAP_SHARE))


def _ambiguity(probs: Float32Array) -> float:
    """Expected share of images that show another class than their likeliest."""
    return float(1.0 - probs.max(axis=1).mean(dtype=np.float64))


def overlap_probs(pred_probs: Float32Array, *, steps: int = 15) -> Float32Array:
    """Return P(class | student's scores) when each class is one cloud of scores, whatever the labels say.

    Args:
        pred_probs: Class probabilities, float32, shape (N, K).
        steps: Steps of expectation-maximisation.

    Returns:
        float32, shape (N, K), rows sum to 1.
    """
    return fit_clouds(pred_probs, steps=steps).probs(pred_probs)


@dataclass(frozen=True)
class Clouds:
    """One normal cloud per class, with one covariance, in log-probability space.

    Attributes:
        slope: Covariance^-1 centres, float64, shape (K, K), a column per class.
        offset: float64, shape (K,).
    """

    slope: Float64Array
    offset: Float64Array

    def probs(self, pred_probs: Float32Array) -> Float32Array:
        """Return P(class | student's scores), float32, shape (N, K), rows sum to 1."""
        return softmax(_points(pred_probs) @ self.slope + self.offset)


@one_thread()
def fit_clouds(pred_probs: Float32Array, *, steps: int = 15) -> Clouds:
    """Return the clouds that expectation-maximisation finds, started from the likeliest classes.

    Classes whose clouds stand apart are decided even where labels near them differ; clouds that
    overlap are truly ambiguous.

    Args:
        pred_probs: Class probabilities, float32, shape (N, K).
        steps: Steps of expectation-maximisation, at least 1.

    Returns:
        The clouds.
    """
    num_samples, num_classes = pred_probs.shape
    points = _points(pred_probs)
    square = points.T @ points
    shares = np.eye(num_classes)[pred_probs.argmax(axis=1)]
    slope, offset = np.zeros((num_classes, num_classes)), np.zeros(num_classes)
    for _ in range(steps):
        count = shares.sum(axis=0) + RIDGE
        centres = (shares.T @ points) / count[:, None]
        spread = (square - (centres * count[:, None]).T @ centres) / num_samples + RIDGE * np.eye(num_classes)
        slope = np.linalg.solve(spread, centres.T)
        offset = np.log(count / num_samples) - 0.5 * (centres.T * slope).sum(axis=0)
        shares = softmax(points @ slope + offset)
    return Clouds(slope, offset)


def _points(pred_probs: Float32Array) -> Float64Array:
    points = np.log(np.maximum(pred_probs, LEAST_PROB)).astype(np.float64)
    points -= points.mean(axis=1, keepdims=True)
    return np.asarray(points, dtype=np.float64)


def given_targets(labels: GivenLabels) -> Float32Array:
    """Return the votes with impossible classes struck out.

    Args:
        labels: Given labels.

    Returns:
        float32, shape (N, K), rows sum to 1; a sample whose votes all fell on impossible
        classes gets equal shares of the possible ones, a verified one its class.
    """
    return _possible(labels.votes, labels)


def two_hot_targets(
    pred_probs: Float32Array, labels: GivenLabels, weights: Literal["equal", "teacher"] = "equal"
) -> Float32Array:
    """Return P1's partial labels: the teacher's two most probable classes share the target.

    Args:
        pred_probs: Out-of-fold teacher probabilities, float32, shape (N, K).
        labels: Given labels; only their verified and partial entries matter here.
        weights: `equal` gives each of the two 1/2 (P1), `teacher` their renormalised probabilities.

    Returns:
        float32, shape (N, K), rows sum to 1, two non-zero entries where nothing is verified.
    """
    pair = two_hot(top2_candidates(pred_probs), pred_probs.shape[1])
    return _possible(pair if weights == "equal" else pair * pred_probs, labels)


def adaptive_targets(pred_probs: Float32Array, labels: GivenLabels) -> Float32Array:
    """Return targets on {given label, teacher's top-1}, weighted by the teacher; one-hot where they agree.

    Args:
        pred_probs: Out-of-fold teacher probabilities, float32, shape (N, K).
        labels: Given labels.

    Returns:
        float32, shape (N, K), rows sum to 1.
    """
    candidates = labels.votes > 0
    candidates[np.arange(len(labels)), pred_probs.argmax(axis=1)] = True
    return _possible(np.where(candidates, pred_probs, 0).astype(np.float32), labels)


def posterior_targets(pred_probs: Float32Array, labels: GivenLabels, matrix: Float64Array) -> Float32Array:
    """Return the posterior of the true class as target.

    Args:
        pred_probs: P(true class | image), float32, shape (N, K).
        labels: Given labels.
        matrix: Noise matrix C, float64, shape (K, K).

    Returns:
        float32, shape (N, K), rows sum to 1.
    """
    return posterior(pred_probs, labels, matrix)


def _possible(weights: Float32Array, labels: GivenLabels) -> Float32Array:
    """Rows restricted to the possible classes and normalised; equal shares where nothing is left."""
    kept = np.where(labels.candidates, weights, 0).astype(np.float64)
    total = kept.sum(axis=1, keepdims=True)
    shares = labels.candidates / labels.candidates.sum(axis=1, keepdims=True)
    return np.where(total > 0, kept / np.where(total > 0, total, 1.0), shares).astype(np.float32)
