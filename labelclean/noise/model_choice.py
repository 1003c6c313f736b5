"""How free the noise matrix may be: the evidence of the given labels for models that differ in shape.

A free C explains any labels best, also those of images that are merely hard. What it explains
is held against what its freedom is worth (the marginal likelihood), so that directed confusions get their
entries of C and nothing else does.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from labelclean.arrays import Float32Array, Float64Array, IntArray
from labelclean.labels import GivenLabels
from labelclean.noise.model import (
    NoiseModel,
    expected_counts,
    fit_noise_model,
    noise_matrix_of,
    prior_counts,
    refit_noise_model,
    true_class_probs,
)
from labelclean.probes.ridge import log_shares

AMBIGUITY_COST = 0.1
PATTERN_ROUNDS = 4
PATTERN_START = (0.05, 5.0)
SAME_MATRIX = 0.01
CHOICE_ROWS = 10_000
CHOICE_ROWS_PER_CLASS = 100
REFIT_STEPS = 10


def choose_noise_model(
    values: Float32Array, labels: GivenLabels, plain: NoiseModel, order: IntArray | None = None
) -> tuple[Float32Array, NoiseModel]:
    """Return the log-odds and the noise model with the most evidence: C free or even, with or without pattern.

    Above 10,000 samples (100 per class) that many of them decide, and what they chose is refitted to all.

    Args:
        values: Log-odds, float32, shape (E, N, K).
        labels: Given labels of the N samples.
        plain: `fit_plain_model` of the experts.
        order: The samples in the order in which they are taken to decide, int64, shape (N,); default: all decide.

    Returns:
        Log-odds, with the pattern expert last if it was taken, and their model.
    """
    size = max(CHOICE_ROWS, CHOICE_ROWS_PER_CLASS * labels.num_classes)
    if order is None or len(labels) <= size:
        return _most_evident(values, labels, plain)
    rows = np.sort(order[:size])
    _, chosen = _most_evident(values[:, rows], labels.take(rows), plain)
    if chosen.pattern is not None:
        values = np.concatenate([values, pattern_log_odds(true_class_probs(plain, values), chosen.pattern)[None]])
    return values, replace(refit_noise_model(values, labels, chosen, steps=REFIT_STEPS), pattern=chosen.pattern)


def _most_evident(values: Float32Array, labels: GivenLabels, plain: NoiseModel) -> tuple[Float32Array, NoiseModel]:
    """The same, with all samples deciding."""
    best: tuple[Float32Array, NoiseModel, float] | None = None
    for is_even in (False, True):
        model = fit_noise_model(values, labels, plain=plain, is_even=is_even)
        models = [(values, model)]
        if labels.num_classes > 2 and not is_even:  # with two classes a pattern says nothing new
            models += with_pattern(values, labels, plain, model)
        for log_odds, candidate in models:
            evidence = log_evidence(candidate, log_odds, labels)
            if best is None or evidence > best[2]:
                best = (log_odds, candidate, evidence)
    if best is None:
        raise ValueError("There is no noise model to choose among.")
    return best[:2]


def log_evidence(model: NoiseModel, log_odds: Float32Array, labels: GivenLabels) -> float:
    """Return the log marginal likelihood of the given labels per sample, less a tenth of the ambiguity it needs.

    Cheeseman and Stutz 1996 [4]: log p(labels) is near N log-likelihood + log p(n) - log p(n | C) with
    the expected counts n of `expected_counts`; rows of C are Dirichlet, an expert beyond the first costs half log N
    (Schwarz 1978 [13]). Where confusions are directed, labels cannot tell "all images of k are unclear, k or l"
    from "they are k, and many are given as l"; the mean entropy of P(true class | image), times 0.1,
    decides for classes that are clear (Grandvalet and Bengio 2005 [5]). Two classes have no directed confusions.

    Args:
        model: Fitted to the experts.
        log_odds: Of each expert, float32, shape (E, N, K).
        labels: Given labels of the N samples.

    Returns:
        Nats per sample.
    """
    counts, num_samples = expected_counts(model, log_odds, labels), len(labels)
    probs = true_class_probs(model, log_odds)
    ambiguity = -float((probs * np.log(np.maximum(probs, 1e-12))).sum(dtype=np.float64)) / num_samples
    freedom = _count_evidence(counts, model, labels.measured) - 0.5 * len(log_odds) * np.log(num_samples)
    cost = AMBIGUITY_COST if labels.num_classes > 2 else 0.0
    return float(model.log_likelihood + freedom / num_samples - cost * ambiguity)


def _count_evidence(counts: Float64Array, model: NoiseModel, measured: Float64Array | None) -> float:
    """Log p(n, m) - log p(n | C) of the expected counts n and the measured ones m, under the prior of a free or an even C."""
    prior, known = prior_counts(len(counts)), counts if measured is None else counts + measured
    if not model.is_even:
        return _dirichlet(known, prior) - float((counts * np.log(model.matrix)).sum())
    right = np.trace(known + prior) / (known + prior).sum()
    rate = np.array([[right, 1 - right]])
    evidence = _dirichlet(_right_or_wrong(known), _right_or_wrong(prior))
    if measured is not None:  # which wrong class: of the expected counts it is in both terms
        evidence -= float(_right_or_wrong(measured)[0, 1]) * float(np.log(len(counts) - 1))
    return evidence - float((_right_or_wrong(counts) * np.log(rate)).sum())


def _right_or_wrong(counts: Float64Array) -> Float64Array:
    return np.array([[np.trace(counts), counts.sum() - np.trace(counts)]])


def _dirichlet(counts: Float64Array, prior: Float64Array) -> float:
    """Log probability of sequences with these counts when each row's shares are Dirichlet(prior)."""
    from scipy.special import gammaln

    rows = gammaln(prior.sum(axis=1)) - gammaln((prior + counts).sum(axis=1))
    return float(rows.sum() + (gammaln(prior + counts) - gammaln(prior)).sum())


def pattern_log_odds(pred_probs: Float32Array, matrix: Float64Array) -> Float32Array:
    """Return how well the labels expected of an image fit the row of C of each class.

    Where the errors of a class go to few others, images of class k are *expected* to be given
    as k or l in fixed shares. sum_j P(given = j | x) log C[k, j] says which row
    an image resembles, also where k itself is not the most frequent label in its neighbourhood.

    Args:
        pred_probs: P(given class | image), own label left out, float32, shape (N, K).
        matrix: C, float64, shape (K, K).

    Returns:
        float32, shape (N, K).

    Examples:
        >>> half = np.array([[0.5, 0.5, 0.0]], dtype=np.float32)
        >>> matrix = np.array([[0.5, 0.4, 0.1], [0.1, 0.5, 0.4], [0.4, 0.1, 0.5]])
        >>> int(pattern_log_odds(half, matrix).argmax())
        0
    """
    logs = np.log(matrix)
    return np.asarray(pred_probs @ (logs - logs.mean(axis=0)).T, dtype=np.float32)


def with_pattern(
    values: Float32Array, labels: GivenLabels, plain: NoiseModel, noise: NoiseModel
) -> list[tuple[Float32Array, NoiseModel]]:
    """Return log-odds and noise model with the pattern expert added, if it makes the given labels likelier.

    C starts as the table of the likeliest class against the given one; pattern and model are then
    refitted in turn.

    Args:
        values: Log-odds, float32, shape (E, N, K).
        labels: Given labels of the N samples.
        plain: `fit_plain_model` of the experts.
        noise: `fit_noise_model` of the experts; the shape of its C is kept.

    Returns:
        Log-odds, shape (E + 1, N, K), and their model; nothing where no pattern is likelier.
    """
    expected = true_class_probs(plain, values)
    matrix = noise_matrix_of(expected, labels)
    best: list[tuple[Float32Array, NoiseModel]] = []
    least = noise.log_likelihood
    for _ in range(PATTERN_ROUNDS):
        joined = np.concatenate([values, pattern_log_odds(expected, matrix)[None]])
        weights = np.append(np.full(len(values), PATTERN_START[0]), PATTERN_START[1])
        start = NoiseModel(weights, log_shares(labels.votes), matrix, -np.inf, noise.is_even)
        model = refit_noise_model(joined, labels, start)
        if model.log_likelihood > least:
            best, least = [(joined, replace(model, pattern=matrix))], model.log_likelihood
        moved, matrix = float(np.abs(matrix - model.matrix).max()), model.matrix
        if moved < SAME_MATRIX:
            break
    return best
