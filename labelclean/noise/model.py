"""The noise matrix C by expectation-maximisation, and the posterior of the true class given image and given label.

The model has two layers. What the image says: P(true = k | x) = softmax_k(bias + sum over v of
a_v z_v(x)), where each expert's log-odds z_v (N, K) are evidence that the sample's own label did not enter.
What inspectors do: P(given = j | true = k) = C[k, j]. Bias, expert weights a and C are fitted
together to the given labels. The labels alone cannot tell an ambiguous image from a wrong
label, but where the experts are sure they show C, and the likelihood decides the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from labelclean.arrays import BoolArray, Float32Array, Float64Array, FloatArray, IntArray
from labelclean.labels import GivenLabels
from labelclean.probes.ridge import log_shares, softmax
from labelclean.probes.threads import one_thread

CELLS_PER_BLOCK = 128_000  # what a pass makes of them stays in the cache
PRIOR_COUNT = 3.2
PRIOR_DIAGONAL = 0.7
START_SHARPNESS = 3.0  # with a diagonal of 0.8 within 2 nats of the best of eight starts in 205 of 206 fits
START_DIAGONAL = 0.8
MATRIX_START = 0.9
TINY = np.float32(1e-30)
LEAST_WEIGHT = 0.02
LEAST_GAIN = 2e-6
LEAST_MOVE = 1e-5
DAMPING = (0.0, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)


@dataclass(frozen=True)
class NoiseModel:
    """How images and inspectors make labels.

    Attributes:
        expert_weights: a, float64, shape (E,), at least 0.
        bias: float64, shape (K,).
        matrix: C, float64, shape (K, K), rows sum to 1: row true class, column given class.
        log_likelihood: Mean log-probability of a given label under the model.
        is_even: C has one rate, spread evenly over the other classes; else every entry is free.
        pattern: The C behind the last expert where that is a pattern expert, float64, shape (K, K); else None.
    """

    expert_weights: Float64Array
    bias: Float64Array
    matrix: Float64Array
    log_likelihood: float
    is_even: bool = False
    pattern: Float64Array | None = None


@dataclass(frozen=True)
class _Observed:
    """Given labels with what every pass would else work out again; None where it says nothing."""

    votes: Float32Array
    given: IntArray | None
    candidates: BoolArray | None
    measured: Float64Array | None

    def rows(self, rows: slice) -> _Observed:
        """The same for some rows."""
        given = None if self.given is None else self.given[rows]
        candidates = None if self.candidates is None else self.candidates[rows]
        return _Observed(self.votes[rows], given, candidates, self.measured)


@dataclass
class _Sums:
    """What one pass over the samples collects."""

    log_likelihood: float
    counts: Float64Array
    expected: Float64Array
    predicted: Float64Array
    gradient: Float64Array
    hessian: Float64Array


def fit_plain_model(log_odds: Float32Array, labels: GivenLabels, *, steps: int = 25) -> NoiseModel:
    """Return expert weights that fit the given labels as they are, with no noise between: C is the identity.

    Args:
        log_odds: Of each expert, float32, shape (E, N, K).
        labels: Given labels of the N samples.
        steps: Newton steps.

    Returns:
        The model; its probabilities are calibrated for the *given* labels.
    """
    model = _start(log_odds, labels, 1.0 / len(log_odds), 1.0)
    return _ascend(
        model, log_odds, _observed(replace(labels, before_review=None, num_votes=None)), steps, fit_matrix=False
    )


def fit_noise_model(
    log_odds: Float32Array,
    labels: GivenLabels,
    *,
    plain: NoiseModel | None = None,
    is_even: bool = False,
    steps: int = 80,
) -> NoiseModel:
    """Return expert weights, bias and noise matrix fitted together.

    Expectation-maximisation: q_i(k) ~ P(k | x_i) prod_j C[k, j]^v_ij; C from the expected counts
    plus a prior of 3.2 samples per class, 70 % of them given right; one Newton step for a;
    one scaling step for the bias. It starts from images three times as clear as the plain fit makes
    them and a fifth of the labels wrong: what is left unexplained then flows back from C to the images.

    Args:
        log_odds: Of each expert, float32, shape (E, N, K), rows aligned with ``labels``.
        labels: Given labels; impossible classes get posterior 0.
        plain: `fit_plain_model` of the same experts, if it is there already.
        is_even: C has one rate, spread evenly.
        steps: Most steps of the ascent.

    Returns:
        The model.
    """
    weights = np.maximum((plain or fit_plain_model(log_odds, labels)).expert_weights, LEAST_WEIGHT)
    start = _start(log_odds, labels, weights * START_SHARPNESS, START_DIAGONAL, is_even)
    return _ascend(start, log_odds, _observed(labels), steps)


def refit_noise_model(log_odds: Float32Array, labels: GivenLabels, start: NoiseModel, *, steps: int = 40) -> NoiseModel:
    """Return the noise model that expectation-maximisation reaches from one start.

    Args:
        log_odds: Of each expert, float32, shape (E, N, K), rows aligned with ``labels``.
        labels: Given labels.
        start: Expert weights (E), bias and C to start from.
        steps: Most steps of the ascent.

    Returns:
        The model.
    """
    return _ascend(start, log_odds, _observed(labels), steps)


@one_thread()
def fit_noise_matrix(
    pred_probs: Float32Array, labels: GivenLabels, *, is_even: bool = False, steps: int = 60
) -> Float64Array:
    """Return C by expectation-maximisation while P(true class | image) stays as it is.

    Args:
        pred_probs: P(true class | image), float32, shape (N, K), rows aligned with ``labels``.
        labels: Given labels.
        is_even: As in `fit_noise_model`.
        steps: Most steps; fewer when C stands still.

    Returns:
        C, float64, shape (K, K), rows sum to 1; the same prior as in `fit_noise_model`.
    """
    observed = _observed(labels)
    num_classes = labels.num_classes
    matrix = even_matrix(num_classes, MATRIX_START)
    for _ in range(steps):
        counts = np.zeros((num_classes, num_classes))
        for rows in _blocks(len(labels), num_classes):
            batch = observed.rows(rows)
            joint = _joint(pred_probs[rows], batch, matrix)
            counts += _counts(joint / joint.sum(axis=1, keepdims=True), batch)
        before, matrix = matrix, _matrix_of(counts, prior_of(labels), is_even)
        if float(np.abs(matrix - before).max()) < LEAST_MOVE:
            break
    return matrix


def noise_matrix_of(pred_probs: Float32Array, labels: GivenLabels) -> Float64Array:
    """Return C as a table counts it: likeliest class against given label, with the prior counts added.

    Args:
        pred_probs: Class probabilities, float32, shape (N, K).
        labels: Given labels of the same samples.

    Returns:
        C, float64, shape (K, K), rows sum to 1.

    Examples:
        >>> from labelclean.labels import given_labels
        >>> probs = np.eye(2, dtype=np.float32)[np.repeat([0, 1], 500)]
        >>> noise_matrix_of(probs, given_labels(np.repeat([0, 0, 1, 1], 250), 2)).round(2)
        array([[1., 0.],
               [0., 1.]])
    """
    num_classes = labels.num_classes
    counts = np.zeros((num_classes, num_classes))
    likeliest = np.where(labels.is_verified, labels.given, pred_probs.argmax(axis=1))
    for given in range(num_classes):
        counts[:, given] += np.bincount(likeliest, weights=labels.observed[:, given], minlength=num_classes)
    return _matrix_of(counts, prior_of(labels), is_even=False)


def true_class_probs(model: NoiseModel, log_odds: Float32Array) -> Float32Array:
    """Return P(true class | image), the given label left out.

    Args:
        model: The fitted model.
        log_odds: Of each expert, float32, shape (E, N, K).

    Returns:
        float32, shape (N, K), rows sum to 1.
    """
    return softmax(_logits(model, log_odds))


def expected_counts(model: NoiseModel, log_odds: Float32Array, labels: GivenLabels) -> Float64Array:
    """Return how many samples of true class k are thought to be given as j.

    Args:
        model: The fitted model.
        log_odds: Of each expert, float32, shape (E, N, K).
        labels: Given labels of the N samples.

    Returns:
        float64, shape (K, K), sums to N.
    """
    counts: Float64Array = _pass(model, log_odds, _observed(labels), True).counts
    return counts


def posterior(pred_probs: Float32Array, labels: GivenLabels, matrix: Float64Array) -> Float32Array:
    """Return P(true class | image, given label): q_i(k) ~ P(k | x_i) prod_j C[k, j]^v_ij.

    Args:
        pred_probs: P(true class | image), float32, shape (N, K).
        labels: Given labels of the same samples.
        matrix: C, float64, shape (K, K).

    Returns:
        float32, shape (N, K), rows sum to 1; 0 where a class is impossible.

    Examples:
        >>> from labelclean.labels import given_labels
        >>> sure = np.array([[0.5, 0.5]], dtype=np.float32)
        >>> posterior(sure, given_labels(np.array([0]), 2), np.array([[0.9, 0.1], [0.1, 0.9]]))
        array([[0.9, 0.1]], dtype=float32)
    """
    result = np.empty(pred_probs.shape, dtype=np.float32)
    observed = _observed(labels)
    for rows in _blocks(len(labels), labels.num_classes):
        joint = _joint(pred_probs[rows], observed.rows(rows), matrix)
        result[rows] = joint / joint.sum(axis=1, keepdims=True)
    return result


def _observed(labels: GivenLabels) -> _Observed:
    votes = labels.observed if labels.num_votes is None else labels.observed * labels.num_votes[:, None]
    is_one_hot = bool((votes.max(axis=1, initial=0.0) == 1.0).all())
    given = votes.argmax(axis=1) if is_one_hot else None
    return _Observed(votes, given, None if labels.candidates.all() else labels.candidates, labels.measured)


def _start(
    log_odds: Float32Array, labels: GivenLabels, weights: float | Float64Array, diagonal: float, is_even: bool = False
) -> NoiseModel:
    """A model with given expert weights, the given labels' shares as prior and equal noise in all classes."""
    matrix = even_matrix(labels.num_classes, diagonal)
    return NoiseModel(np.ones(len(log_odds)) * weights, log_shares(labels.votes), matrix, -np.inf, is_even)


@one_thread()
def _ascend(
    model: NoiseModel, log_odds: Float32Array, observed: _Observed, steps: int, *, fit_matrix: bool = True
) -> NoiseModel:
    """Steps of expectation-maximisation; a step that lost likelihood is damped more and more, up to where it cannot lose.

    No softmax curves more than half the square of its inputs (Böhning 1992 [1]), so a Newton step with that added rises.
    """
    sums = _pass(model, log_odds, observed, fit_matrix)
    model = replace(model, log_likelihood=sums.log_likelihood)
    steepest = 0.5 * float(np.vdot(log_odds, log_odds))
    for step in range(steps):
        for damping in DAMPING:
            proposal = _improved(model, sums, observed, fit_matrix, damping * steepest)
            new_sums = _pass(proposal, log_odds, observed, fit_matrix)
            gain = (
                new_sums.log_likelihood
                + _log_prior(proposal, observed)
                - sums.log_likelihood
                - _log_prior(model, observed)
            )
            if gain >= -LEAST_GAIN:
                break
        if gain < -LEAST_GAIN:
            break
        model, sums = replace(proposal, log_likelihood=new_sums.log_likelihood), new_sums
        if step >= 5 and gain < LEAST_GAIN:
            break
    return model


def _log_prior(model: NoiseModel, observed: _Observed) -> float:
    """What was measured of the inspectors under C, per sample; 0 where nobody measured."""
    if observed.measured is None:
        return 0.0
    return float((observed.measured * np.log(np.maximum(model.matrix, 1e-12))).sum() / len(observed.votes))


def _improved(
    model: NoiseModel, sums: _Sums, observed: _Observed, fit_matrix: bool, damping: float = 0.0
) -> NoiseModel:
    """The M-step: Newton for the expert weights (never quite 0, so that an order remains), scaling for the bias, C."""
    stiffness = 1e-4 * len(observed.votes)
    gradient = sums.gradient - stiffness * model.expert_weights
    free = (model.expert_weights > LEAST_WEIGHT) | (gradient > 0)
    curvature = sums.hessian if free.all() else sums.hessian[np.ix_(free, free)]
    hessian = curvature + (stiffness + damping) * np.eye(int(free.sum()))
    weights = model.expert_weights.copy()
    weights[free] = weights[free] + np.linalg.solve(hessian, gradient[free])
    weights = np.maximum(weights, LEAST_WEIGHT)
    bias = model.bias + np.log((sums.expected + 0.5) / (sums.predicted + 0.5))
    if not fit_matrix:
        return replace(model, expert_weights=weights, bias=bias)
    prior = _prior(len(bias), observed.measured)
    return NoiseModel(weights, bias, _matrix_of(sums.counts, prior, model.is_even), -np.inf, model.is_even)


def _matrix_of(counts: Float64Array, prior: Float64Array, is_even: bool) -> Float64Array:
    """C from expected counts with the prior's samples added: row by row, or one rate for all."""
    with_prior = counts + prior
    if is_even:
        return even_matrix(len(counts), float(np.trace(with_prior) / with_prior.sum()))
    return np.asarray(with_prior / with_prior.sum(axis=1, keepdims=True), dtype=np.float64)


def prior_counts(num_classes: int) -> Float64Array:
    """Return what is thought of C before a label is seen: per class 3.2 samples, 70 % of them given right.

    Args:
        num_classes: K.

    Returns:
        float64, shape (K, K).
    """
    counts: Float64Array = PRIOR_COUNT * even_matrix(num_classes, PRIOR_DIAGONAL)
    return counts


def prior_of(labels: GivenLabels) -> Float64Array:
    """Return `prior_counts`, and what inspectors were measured to do where somebody measured it, float64, shape (K, K)."""
    return _prior(labels.num_classes, labels.measured)


def _prior(num_classes: int, measured: Float64Array | None) -> Float64Array:
    prior = prior_counts(num_classes)
    return prior if measured is None else prior + measured


def measured_prior(counts: IntArray, worth: float) -> Float64Array:
    """Return what inspectors were measured to do as samples that a prior adds.

    Args:
        counts: How often samples of true class k were given as j, shape (K, K), over all inspectors
            (`agreement.measure_confusions`).
        worth: Most samples that the row of a class counts for: a study is small, and its samples are not drawn as labels come.

    Returns:
        float64, shape (K, K); a row measured on fewer samples counts for these.

    Examples:
        >>> measured_prior(np.array([[30, 10], [1, 3]]), 20.0)
        array([[15.,  5.],
               [ 1.,  3.]])
    """
    totals = counts.sum(axis=1, keepdims=True)
    return np.asarray(counts * np.minimum(1.0, worth / np.maximum(totals, 1)), dtype=np.float64)


def even_matrix(num_classes: int, diagonal: float) -> Float64Array:
    """Return the C of one noise rate that spreads evenly over the other classes.

    Args:
        num_classes: K, at least 2.
        diagonal: One minus the rate, in [0, 1].

    Returns:
        float64, shape (K, K), rows sum to 1.

    Examples:
        >>> even_matrix(3, 0.8)
        array([[0.8, 0.1, 0.1],
               [0.1, 0.8, 0.1],
               [0.1, 0.1, 0.8]])
    """
    matrix = np.full((num_classes, num_classes), (1.0 - diagonal) / (num_classes - 1))
    np.fill_diagonal(matrix, diagonal)
    return matrix


def _pass(model: NoiseModel, log_odds: Float32Array, observed: _Observed, fit_matrix: bool) -> _Sums:
    """One pass over the samples: likelihood, expected counts, and the derivatives of the expert weights.

    Sums over classes are products with ones: numpy adds up short rows several times more slowly than BLAS. A block is worked
    on in single precision, what the blocks give is added up in double precision.
    """
    num_experts, num_samples, num_classes = log_odds.shape
    square, row = np.zeros((num_classes, num_classes)), np.zeros(num_classes)
    ones = np.ones(num_classes, dtype=np.float32)
    sums = _Sums(0.0, square, row, row.copy(), np.zeros(num_experts), np.zeros((num_experts, num_experts)))
    for rows in _blocks(num_samples, num_classes * num_experts):
        some, block = observed.rows(rows), log_odds[:, rows]
        ones_down = np.ones(block.shape[1], dtype=np.float32)
        probs = softmax(_logits(model, block))
        if fit_matrix:
            joint = _joint(probs, some, model.matrix)
            total = joint @ ones
            expected: FloatArray = joint / total[:, None]
            sums.log_likelihood += float(np.log(total, dtype=np.float64).sum()) / num_samples
            sums.counts += _counts(expected, some)
        else:
            expected = some.votes
            sums.log_likelihood += float((expected * np.log(probs + TINY)).sum(dtype=np.float64)) / num_samples
        sums.expected += ones_down @ expected
        sums.predicted += ones_down @ probs
        # log-odds less their mean: sums of them as they are nearly cancel, and what is left is rounding
        flat = (block - ((block * probs) @ ones)[:, :, None]).reshape(num_experts, -1)
        sums.gradient += flat @ (expected - probs).ravel()
        sums.hessian += (flat * probs.ravel()) @ flat.T
    return sums


def _logits(model: NoiseModel, log_odds: Float32Array) -> Float32Array:
    logits = np.empty(log_odds.shape[1:], dtype=np.float32)
    logits[:] = model.bias
    for weight, expert in zip(model.expert_weights.astype(np.float32), log_odds, strict=True):
        logits += weight * expert
    return logits


def _joint(probs: Float32Array, observed: _Observed, matrix: Float64Array) -> FloatArray:
    """P(k | x) prod_j C[k, j]^v_j where class k is possible, shape (n, K); rows never sum to 0.

    float32 for one vote each; the product of many votes needs float64.
    """
    if observed.given is not None:
        likelihood = matrix.T.astype(np.float32)[observed.given]
    else:
        likelihood = np.exp(observed.votes.astype(np.float64) @ np.log(matrix + TINY).T)
    joint: FloatArray = probs * likelihood + TINY
    return joint if observed.candidates is None else joint * observed.candidates


def _counts(expected: FloatArray, observed: _Observed) -> Float64Array:
    """Expected number of samples of true class k given as j, shape (K, K)."""
    num_classes = expected.shape[1]
    if observed.given is None or num_classes <= 64:
        return np.asarray(expected.T @ observed.votes, dtype=np.float64)
    order = np.argsort(observed.given, kind="stable")
    classes, first = np.unique(observed.given[order], return_index=True)
    counts = np.zeros((num_classes, num_classes))
    counts[:, classes] = np.add.reduceat(expected[order], first, axis=0).T
    return counts


def _blocks(num_samples: int, cells_per_sample: int) -> Iterator[slice]:
    """Slices of rows small enough to work on."""
    size = max(1, CELLS_PER_BLOCK // max(cells_per_sample, 1))
    for start in range(0, num_samples, size):
        yield slice(start, min(start + size, num_samples))
