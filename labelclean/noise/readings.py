"""How far to trust the image against the label: four readings of a disagreement, and how far each is believed.

Where a student disagrees with a given label, the label may be wrong or the image unclear, and labels
alone cannot tell the two apart. So four readings stand side by side:

- `calm`: images are as unclear as the labels near them differ;
- `clouds`: images are as unclear as their classes' clouds overlap (`clouds`);
- `alone`: the student's word, whatever the given label;
- `as_given`: every given label is right, and what contradicts it is an unclear image.

How far each is believed follows from how unclear the images are, and from samples that were drawn at random and
looked at, where there are any; what no belief explains of these moves all scores. `docs/concepts.md` draws it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from labelclean.arrays import BoolArray, Float32Array, Float64Array, IntArray
from labelclean.labels import GivenLabels, one_hot, possible
from labelclean.noise.clouds import Clouds, fit_clouds
from labelclean.noise.model import fit_noise_matrix, posterior
from labelclean.storage.tables import READINGS

CALM, CLOUDS, ALONE, AS_GIVEN = range(len(READINGS))
CLOUD_DOUBT = 2.0
RULE_OF_THREE = 3.0
LEAST_CLOUDS = 0.5
PRIOR_SAMPLES = 4.0
SPREAD = 0.1
LEAST_LIKELIHOOD = 1e-3
SHIFT_DEVIATION = 1.5
MOST_SHIFT = 30.0  # odds of e^30: no number of looks goes farther
EM_STEPS = 200
SAME_BELIEF = 1e-7


@dataclass(frozen=True)
class Ambiguity:
    """How unclear the images are, as a share of the samples.

    Attributes:
        calm: a0 = 1 - mean max P of the student: images that show another class than their likeliest.
        clouds: a1, the same under the clouds.
        moved: d, samples whose likeliest class the clouds change; the upper end of what was seen.
        wrong: n0, wrong labels by the calm reading.
    """

    calm: float
    clouds: float
    moved: float
    wrong: float


@dataclass(frozen=True)
class Beliefs:
    """How far each of the four readings is believed.

    Attributes:
        soft: Weights that make the soft label, so what is changed, float64, shape (4,), sum 1.
        score: Weights that make the label score, so what is worth a look, float64, shape (4,), sum 1.
        num_samples: How many samples the weights are worth: 4 by thought alone, and every sample drawn at random and
            looked at.
        num_audited: Those that were drawn and looked at.
        num_wrong: Of these, how many were given wrong.
        shift: Log odds by which the looks found labels righter than the readings had it.
    """

    soft: Float64Array
    score: Float64Array
    num_samples: float = PRIOR_SAMPLES
    num_audited: float = 0.0
    num_wrong: float = 0.0
    shift: float = 0.0

    def chance(self, given_probs: Float32Array) -> Float32Array:
        """Return the chance that given labels are right: the readings' mean by ``score``, moved by ``shift`` in log odds.

        Args:
            given_probs: Probability of the given class in each reading, float32, shape (4, N).

        Returns:
            float32, shape (N,), in [0, 1]; where looks move it, it is first taken to be from .001 to .999.
        """
        mean = np.clip(mixture(self.score, given_probs), 0.0, 1.0)
        return _moved(_likely(mean), self.shift).astype(np.float32) if self.shift else mean


ALL_STAND = Beliefs(soft=np.eye(4)[AS_GIVEN], score=np.eye(4)[AS_GIVEN])


@dataclass(frozen=True)
class AuditEvidence:
    """What random looks say of the readings.

    Attributes:
        likelihood: Probability of the class that was found in each reading, float32, shape (4, n).
        given_probs: The same of the class that was given, float32, shape (4, n).
        is_wrong: Whether the given label was another, bool, shape (n,).
        weights: What each look counts for, 1 for one at the samples of this run, less for older ones, float64, shape (n,).
    """

    likelihood: Float32Array
    given_probs: Float32Array
    is_wrong: BoolArray
    weights: Float64Array

    def joined(self, other: AuditEvidence) -> AuditEvidence:
        """Return both together."""
        return AuditEvidence(
            np.concatenate([self.likelihood, other.likelihood], axis=1),
            np.concatenate([self.given_probs, other.given_probs], axis=1),
            np.concatenate([self.is_wrong, other.is_wrong]),
            np.concatenate([self.weights, other.weights]),
        )


NO_READINGS = np.empty((4, 0), np.float32)
NO_LOOKS = AuditEvidence(NO_READINGS, NO_READINGS, np.empty(0, bool), np.empty(0))


def evidence_of_looks(
    readings: Float32Array, given: IntArray, verified: IntArray, weights: Float64Array
) -> AuditEvidence:
    """Return what looks say of the readings of the samples looked at.

    Args:
        readings: Made as if nobody had looked, float32, shape (4, n, K).
        given: Class that was given, int64, shape (n,).
        verified: Class that was found, int64, shape (n,).
        weights: What each look counts for, float64, shape (n,).

    Returns:
        The evidence.
    """
    rows = np.arange(len(given))
    return AuditEvidence(readings[:, rows, verified], readings[:, rows, given], given != verified, weights)


def has_looks(labels: GivenLabels, earlier: AuditEvidence = NO_LOOKS) -> bool:
    """Return whether anybody has looked at samples that were drawn at random, in this run's labels or earlier."""
    return bool(earlier.weights.sum() > 0 or (labels.is_audited is not None and labels.is_audited.any()))


@dataclass(frozen=True)
class Readings:
    """The four readings, fitted to some samples, to be applied to any.

    Attributes:
        matrix: C of the student, float64, shape (K, K).
        clouds: Clouds of the classes in the student's scores.
        clouds_matrix: C under them, float64, shape (K, K).
        ambiguity: How unclear the images are.
        beliefs: How far each reading is believed.
    """

    matrix: Float64Array
    clouds: Clouds
    clouds_matrix: Float64Array
    ambiguity: Ambiguity
    beliefs: Beliefs

    def read(self, pred_probs: Float32Array, labels: GivenLabels) -> Float32Array:
        """Return the four readings of some samples.

        Args:
            pred_probs: The student's P(true class | image), float32, shape (N, K).
            labels: Their given labels.

        Returns:
            float32, shape (4, N, K), in the order of `READINGS`; rows sum to 1, impossible classes get 0.
        """
        return _read(pred_probs, labels, self.matrix, self.clouds, self.clouds_matrix)


def fit_readings(
    pred_probs: Float32Array,
    labels: GivenLabels,
    matrix: Float64Array,
    *,
    is_even: bool = False,
    is_vouched: bool = False,
    exceeds_chance: bool = True,
    earlier: AuditEvidence = NO_LOOKS,
) -> Readings:
    """Return the readings of a student and how far each is believed.

    Args:
        pred_probs: The student's P(true class | image), float32, shape (N, K).
        labels: Given labels of the N samples; those drawn at random and verified weigh the readings.
        matrix: C of the student, float64, shape (K, K).
        is_even: Shape of C, as in `model.fit_noise_model`.
        is_vouched: The probabilities are the user's own, of a model that he knows to be good.
        exceeds_chance: Whether images tell more of labels than chance; else every label stands until looks say otherwise.
        earlier: Random looks at samples of earlier runs.

    Returns:
        The readings.
    """
    clouds = fit_clouds(pred_probs)
    clouds_matrix = fit_noise_matrix(clouds.probs(pred_probs), labels, is_even=is_even)
    ambiguity = measure_ambiguity(pred_probs, clouds.probs(pred_probs), labels, matrix)
    beliefs = beliefs_without_eyes(ambiguity, is_vouched=is_vouched) if exceeds_chance else ALL_STAND
    looks = earlier
    if labels.is_audited is not None and labels.is_audited.any():
        rows = np.flatnonzero(labels.is_audited)
        verified, unseen = labels.take(rows).given, as_ingested(labels.take(rows))
        read = _read(pred_probs[rows], unseen, matrix, clouds, clouds_matrix)
        looks = looks.joined(evidence_of_looks(read, unseen.given, verified, np.ones(len(rows))))
    if looks.weights.sum() > 0:
        beliefs = beliefs_of_audit(beliefs, looks)
    return Readings(matrix, clouds, clouds_matrix, ambiguity, beliefs)


def measure_ambiguity(
    pred_probs: Float32Array, cloud_probs: Float32Array, labels: GivenLabels, matrix: Float64Array
) -> Ambiguity:
    """Return how unclear the images are.

    Args:
        pred_probs: The student's P(true class | image), float32, shape (N, K).
        cloud_probs: The same of the clouds, float32, shape (N, K).
        labels: Given labels of the N samples.
        matrix: C of the student, float64, shape (K, K).

    Returns:
        The shares, of labels as they were ingested: an error that people have found shows that there are some. Of few
        samples a share is uncertain: 3 more may move than were seen to (of none seen in N, up to
        3 / N may, with 95 % confidence).
    """
    unseen, rows = as_ingested(labels), np.arange(len(labels))
    calm = posterior(pred_probs, unseen, matrix)[rows, unseen.given]
    moved = int((pred_probs.argmax(axis=1) != cloud_probs.argmax(axis=1)).sum())
    return Ambiguity(
        calm=float(1.0 - pred_probs.max(axis=1).mean(dtype=np.float64)),
        clouds=float(1.0 - cloud_probs.max(axis=1).mean(dtype=np.float64)),
        moved=(moved + RULE_OF_THREE) / len(labels),
        wrong=float(1.0 - calm.mean(dtype=np.float64)),
    )


def beliefs_without_eyes(ambiguity: Ambiguity, *, is_vouched: bool = False) -> Beliefs:
    """Return how far each reading is believed before anybody has looked.

        w = max(0, 1 - 2 d / (a0 - a1)),  0 if a0 <= a1
        u = a0 / (a0 + n0)
        soft  = ((1 - w) (1 - u), w, 0, (1 - w) u)
        score = (1 - w', w', 0, 0),  w' = max(w, 1/2)

    In words. Images are as unclear as the labels near them differ, unless classes form clouds; then as unsure as
    the clouds' own overlap plus twice the share that the clouds move (w). Of the labels that the calm reading calls
    wrong as many may be right labels of unclear images as it calls images unclear (u): a label is changed where that
    pays all the same. Nothing is changed for looking at it, so the score leaves u out, and gives the clouds at least
    half. A model that the user vouches for has no u.

    Args:
        ambiguity: How unclear the images are.
        is_vouched: The probabilities are the user's own.

    Returns:
        The beliefs.

    Examples:
        >>> beliefs_without_eyes(Ambiguity(calm=0.1, clouds=0.02, moved=0.02, wrong=0.1)).soft.tolist()
        [0.25, 0.5, 0.0, 0.25]
        >>> beliefs_without_eyes(Ambiguity(calm=0.3, clouds=0.1, moved=0.2, wrong=0.1)).score.tolist()
        [0.5, 0.5, 0.0, 0.0]
    """
    gap = ambiguity.calm - ambiguity.clouds
    clouds = max(0.0, 1.0 - CLOUD_DOUBT * ambiguity.moved / gap) if gap > 0 else 0.0
    unclear = 0.0 if is_vouched else ambiguity.calm / max(ambiguity.calm + ambiguity.wrong, 1e-12)
    worth_a_look = max(clouds, LEAST_CLOUDS)
    return Beliefs(
        soft=np.array([(1 - clouds) * (1 - unclear), clouds, 0.0, (1 - clouds) * unclear]),
        score=np.array([1 - worth_a_look, worth_a_look, 0.0, 0.0]),
    )


def beliefs_of_audit(before: Beliefs, looks: AuditEvidence) -> Beliefs:
    """Return how far each reading is believed after samples drawn at random were looked at.

    Expectation-maximisation of a mixture of the readings: what a reading made of the class that was found, at least
    .001, is its likelihood; the belief before, nine tenths of it, with a tenth spread over all readings, is a Dirichlet
    prior worth 4 samples. Calm, clouds and alone may all be off to one side. So what is left over, right labels among the
    looks less their chances in the mixture that scores, moves the log odds of every score (`likeliest_shift`).

    Args:
        before: The beliefs by thought alone.
        looks: What was found.

    Returns:
        The beliefs.
    """
    soft, score = (_weighed(prior_of(weights), looks) for weights in (before.soft, before.score))
    num_audited, num_wrong = float(looks.weights.sum()), float(looks.weights[looks.is_wrong].sum())
    shift = likeliest_shift(mixture(score, looks.given_probs), ~looks.is_wrong, looks.weights)
    return Beliefs(soft, score, PRIOR_SAMPLES + num_audited, num_audited, num_wrong, shift)


def likeliest_shift(chance: Float32Array, is_right: BoolArray, weights: Float64Array) -> float:
    """Return the likeliest shift s of all log odds, under a normal prior with standard deviation 1.5 (odds of 4.5).

    The root of sum_i w_i (y_i - p_i(s)) - s / 1.5^2, with p_i(s) the chance moved by s and y_i whether the label was right.

    Args:
        chance: Chance that a given label is right, float32, shape (n,); taken to be from .001 to .999.
        is_right: Whether it was, bool, shape (n,).
        weights: What each look counts for, float64, shape (n,).

    Returns:
        Log odds; above 0 labels are righter than was thought.

    Examples:
        >>> half = np.full(8, 0.5, dtype=np.float32)
        >>> round(likeliest_shift(half, np.ones(8, dtype=bool), np.ones(8)), 3)
        2.051
    """
    from scipy.optimize import brentq

    likely = _likely(chance)

    def slope(shift: float) -> float:
        return float(weights @ (is_right - _moved(likely, shift))) - shift / SHIFT_DEVIATION**2

    return float(brentq(slope, -MOST_SHIFT, MOST_SHIFT))


def prior_of(weights: Float64Array) -> Float64Array:
    """Return weights of which a tenth is spread over all readings, so that none starts at nothing."""
    return np.asarray((1.0 - SPREAD) * weights + SPREAD / len(weights), dtype=np.float64)


def as_ingested(labels: GivenLabels) -> GivenLabels:
    """Return labels as they came, before anybody reviewed them."""
    return GivenLabels(
        labels.observed, np.ones_like(labels.candidates), num_votes=labels.num_votes, measured=labels.measured
    )


def mixture(weights: Float64Array, readings: Float32Array) -> Float32Array:
    """Return the readings' weighted mean.

    Args:
        weights: float64, shape (4,), sum 1.
        readings: float32, shape (4, N, K) or (4, N).

    Returns:
        float32, shape (N, K) or (N,).
    """
    mean = np.zeros(readings.shape[1:], dtype=np.float32)
    for weight, reading in zip(weights.astype(np.float32), readings, strict=True):
        if weight > 0:
            mean += weight * reading
    return mean


def _read(
    pred_probs: Float32Array, labels: GivenLabels, matrix: Float64Array, clouds: Clouds, clouds_matrix: Float64Array
) -> Float32Array:
    """The four readings: q0 ~ P C[., given]; q1 ~ P' C'[., given] where P and P' name the same class, else q0; P; given."""
    as_given = one_hot(labels.given, labels.num_classes)
    calm, cloud_probs = posterior(pred_probs, labels, matrix), clouds.probs(pred_probs)
    same = pred_probs.argmax(axis=1) == cloud_probs.argmax(axis=1)
    decided = np.where(same[:, None], posterior(cloud_probs, labels, clouds_matrix), calm)
    return np.stack([calm, decided, possible(pred_probs, labels), possible(as_given, labels)])


def _likely(chance: Float32Array) -> Float64Array:
    """Chances as far as anybody may be sure."""
    return np.clip(chance.astype(np.float64), LEAST_LIKELIHOOD, 1.0 - LEAST_LIKELIHOOD)


def _moved(chance: Float64Array, shift: float) -> Float64Array:
    """Chances p with ``shift`` s added to their log odds: p / (p + (1 - p) e^-s)."""
    return np.asarray(chance / (chance + (1.0 - chance) * np.exp(-shift)))


def _weighed(prior: Float64Array, looks: AuditEvidence) -> Float64Array:
    """Weights of a mixture, float64, shape (4,), by expectation-maximisation under a Dirichlet prior."""
    floor = np.maximum(looks.likelihood.astype(np.float64), LEAST_LIKELIHOOD)
    weights, total = prior, PRIOR_SAMPLES + looks.weights.sum()
    for _ in range(EM_STEPS):
        shares = weights[:, None] * floor
        shares *= looks.weights / shares.sum(axis=0)
        before, weights = weights, (PRIOR_SAMPLES * prior + shares.sum(axis=1)) / total
        if float(np.abs(weights - before).max()) < SAME_BELIEF:
            break
    return weights


def differing(readings: Float32Array, given: IntArray) -> BoolArray:
    """Return where calm, clouds or the student alone name another class than the given one, bool, shape (N,)."""
    return np.asarray((readings[:AS_GIVEN].argmax(axis=2) != given).any(axis=0))
