"""SimiFeat's two rules on frozen features, written from its paper (Zhu et al., ICML 2022)."""

from __future__ import annotations

import numpy as np

from benchmarks.problem import Float32Array, FloatArray, IntArray, Output, Problem
from labelclean.labels import one_hot
from labelclean.probes.ridge import softmax

NEIGHBOURS = 10
HOC_STEPS = 100


def simifeat_vote(problem: Problem) -> Output:
    """SimiFeat's voting rule (Zhu et al. 2022): an issue where the neighbours' plurality differs."""
    votes, _ = _neighbour_votes(problem)
    given = problem.given
    predicted = votes.argmax(axis=1).astype(np.int64)
    return Output(votes[np.arange(len(given)), given], predicted != given, predicted, votes, True)


def simifeat_rank(problem: Problem) -> Output:
    """SimiFeat's ranking rule: per given class, as many of the lowest scores as the estimated noise matrix says.

    The score is the cosine between vote shares and one-hot label; P(true = i | given = i) comes from
    the labels of each sample and its two nearest neighbours (HOC's model, here by likelihood).
    """
    votes, nearest = _neighbour_votes(problem)
    given = problem.given
    scores = votes[np.arange(len(given)), given] / np.linalg.norm(votes, axis=1)
    right = clusterability(problem.targets, given[nearest[:, :2]])
    is_issue = np.zeros(len(given), dtype=bool)
    for k in range(problem.num_classes):
        rows = np.flatnonzero(given == k)
        count = round(len(rows) * (1 - right[k]))
        is_issue[rows[np.argsort(scores[rows], kind="stable")[:count]]] = True
    return Output(scores, is_issue, votes.argmax(axis=1).astype(np.int64), votes)


def _neighbour_votes(problem: Problem) -> tuple[FloatArray, IntArray]:
    """Label shares of the 10 nearest by cosine, and who they are, nearest first."""
    unit = problem.features / np.maximum(np.linalg.norm(problem.features, axis=1, keepdims=True), 1e-12)
    similarity = unit @ unit.T
    np.fill_diagonal(similarity, -2)
    nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :NEIGHBOURS]
    return problem.targets[nearest].mean(axis=1), nearest


def clusterability(targets: Float32Array, near: IntArray) -> FloatArray:
    """Return P(true = i | given = i) if a sample and its two nearest share their true class.

    Args:
        targets: One-hot given labels, float32, shape (N, K).
        near: Given labels of the two nearest neighbours, int64, shape (N, 2).

    Returns:
        float, shape (K,).
    """
    num_classes = targets.shape[1]
    given = targets.argmax(axis=1)
    counts = targets + one_hot(near[:, 0], num_classes) + one_hot(near[:, 1], num_classes)
    matrix = 0.8 * np.eye(num_classes) + 0.2 / num_classes
    prior = targets.mean(axis=0) + 1e-6
    for _ in range(HOC_STEPS):
        share = softmax(np.log(prior) + counts @ np.log(matrix.T + 1e-9))
        matrix = share.T @ counts + 1e-6
        matrix /= matrix.sum(axis=1, keepdims=True)
        prior = share.mean(axis=0) + 1e-9
    joint = prior * np.diag(matrix) / np.maximum(prior @ matrix, 1e-12)
    return np.asarray(np.where(np.bincount(given, minlength=num_classes) > 0, np.clip(joint, 0, 1), 1.0))
