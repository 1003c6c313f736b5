"""The student's targets: given labels, two-hot, adaptive; those of `posterior` are `model.posterior`.

Each function turns what the teacher believes into one row of target probabilities per
sample. Verified samples and partial labels keep their word in all of them.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from labelclean.arrays import Float32Array
from labelclean.labels import GivenLabels, possible
from labelclean.noise.top2 import top2_candidates, two_hot


def given_targets(labels: GivenLabels) -> Float32Array:
    """Return the votes with impossible classes struck out.

    Args:
        labels: Given labels.

    Returns:
        float32, shape (N, K), rows sum to 1; a sample whose votes all fell on impossible
        classes gets equal shares of the possible ones, a verified one its class.
    """
    return possible(labels.votes, labels)


def two_hot_targets(
    pred_probs: Float32Array, labels: GivenLabels, weights: Literal["equal", "teacher"] = "equal"
) -> Float32Array:
    """Return P1's [7] partial labels: the teacher's two most probable classes share the target.

    Args:
        pred_probs: Out-of-fold teacher probabilities, float32, shape (N, K).
        labels: Given labels; only their verified and partial entries matter here.
        weights: `equal` gives each of the two 1/2 (P1), `teacher` their renormalised probabilities.

    Returns:
        float32, shape (N, K), rows sum to 1, two non-zero entries where nothing is verified.
    """
    pair = two_hot(top2_candidates(pred_probs), pred_probs.shape[1])
    return possible(pair if weights == "equal" else pair * pred_probs, labels)


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
    return possible(np.where(candidates, pred_probs, 0).astype(np.float32), labels)
