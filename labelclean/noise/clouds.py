"""Clouds: what an image shows when each class is one cloud of the student's scores, whatever the labels say."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from labelclean.arrays import Float32Array, Float64Array
from labelclean.probes.ridge import softmax
from labelclean.probes.threads import one_thread

LEAST_PROB = 1e-6
RIDGE = 1e-3
STEPS = 5


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
def fit_clouds(pred_probs: Float32Array, *, steps: int = STEPS) -> Clouds:
    """Return the clouds that expectation-maximisation finds, started from the likeliest classes.

    Classes whose clouds stand apart are decided even where labels near them differ; clouds that
    overlap are truly unclear.

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
