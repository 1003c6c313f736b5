"""From readings to labels: soft labels, label scores, which labels are worth a look, and what waits for eyes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from labelclean.arrays import BoolArray, Float32Array, Float64Array, IntArray
from labelclean.labels import GivenLabels, possible
from labelclean.noise.model import posterior
from labelclean.noise.readings import (
    AS_GIVEN,
    NO_LOOKS,
    AuditEvidence,
    Readings,
    differing,
    fit_readings,
    has_looks,
    mixture,
)
from labelclean.noise.scores import ScoreCurve, fit_score_curve, score_limit

RANK_POWER = 0.25
EVEN_SHARE = 0.5
LEAST_PROB = 1e-6


@dataclass(frozen=True)
class JudgedLabels:
    """What was found about N samples; rows are aligned.

    Attributes:
        soft_labels: Probability of the true class, float32, shape (N, K), rows sum to 1.
        predicted: Their best class, int64, shape (N,): where it is not the given one, we would change the label.
        label_scores: Probability that the given label is right, float32, shape (N,), low = suspicious; 1 for verified
            samples.
        is_label_issue: Worth a look, bool, shape (N,); never a verified sample. Some reading names another class.
        reading_scores: Probability of the given label as `calm`, `clouds` and `alone` read it, float32, shape (3, N).
        reading_gains: Probability of the predicted class less that of the given one in each of the four readings, float32,
            shape (4, N): what a change brings if that reading is right. 0 where nothing is changed.
    """

    soft_labels: Float32Array
    predicted: IntArray
    label_scores: Float32Array
    is_label_issue: BoolArray
    reading_scores: Float32Array
    reading_gains: Float32Array

    def take(self, rows: IntArray) -> JudgedLabels:
        """Return the same for some samples."""
        return JudgedLabels(
            self.soft_labels[rows],
            self.predicted[rows],
            self.label_scores[rows],
            self.is_label_issue[rows],
            self.reading_scores[:, rows],
            self.reading_gains[:, rows],
        )


def joined_judged(parts: Sequence[JudgedLabels]) -> JudgedLabels:
    """Return what was found about the samples of all parts, one after the other."""
    names = ("soft_labels", "predicted", "label_scores", "is_label_issue")
    rows = (np.concatenate([getattr(part, name) for part in parts]) for name in names)
    readings = (
        np.concatenate([getattr(part, name) for part in parts], axis=1) for name in ("reading_scores", "reading_gains")
    )
    return JudgedLabels(*rows, *readings)


@dataclass(frozen=True)
class Trust:
    """Turns the probabilities of student and teacher into labels; fitted to some samples, applied to any.

    Attributes:
        readings: What a disagreement may mean, and how far each meaning is believed.
        curve: Rank to label score.
        limit: Labels with a score below it are worth a look.
        teacher_share: How much of what the rank knows of the image is the teacher's, 0..1.
        changes_labels: False where `refine.method` is `none`: soft labels are the given ones.
        exceeds_chance: False where neither images nor random looks tell anything of labels: all stand, none is worth a
            look.
    """

    readings: Readings
    curve: ScoreCurve
    limit: float
    teacher_share: float
    changes_labels: bool = True
    exceeds_chance: bool = True

    def judge(self, pred_probs: Float32Array, given_probs: Float32Array, labels: GivenLabels) -> JudgedLabels:
        """Return what is found about some samples.

        Args:
            pred_probs: The student's P(true class | image), float32, shape (N, K).
            given_probs: The teacher's P(given class | image), float32, shape (N, K).
            labels: Their given labels.

        Returns:
            The judged labels.
        """
        if not self.exceeds_chance:
            return unjudged(labels)
        readings, rows, given = self.readings.read(pred_probs, labels), np.arange(len(labels)), labels.given
        soft = mixture(self.readings.beliefs.soft, readings) if self.changes_labels else readings[AS_GIVEN]
        predicted = soft.argmax(axis=1).astype(np.int64)
        rank = rank_of(pred_probs, given_probs, labels, self.readings.matrix, self.teacher_share)
        scores = np.where(labels.is_verified, np.float32(1), self.curve.scores(rank))
        worth_a_look = (scores < self.limit) & differing(readings, given) | (predicted != given)
        return JudgedLabels(
            soft_labels=soft,
            predicted=predicted,
            label_scores=scores,
            is_label_issue=worth_a_look & ~labels.is_verified,
            reading_scores=readings[:3, rows, given],
            reading_gains=readings[:, rows, predicted] - readings[:, rows, given],
        )


def unjudged(labels: GivenLabels) -> JudgedLabels:
    """Return labels that nothing speaks against: all stand as given, none is worth a look.

    Args:
        labels: Given labels of N samples.

    Returns:
        The judged labels, every score 1.
    """
    soft, size = possible(labels.votes, labels), len(labels)
    return JudgedLabels(
        soft_labels=soft,
        predicted=soft.argmax(axis=1).astype(np.int64),
        label_scores=np.ones(size, dtype=np.float32),
        is_label_issue=np.zeros(size, dtype=bool),
        reading_scores=np.ones((3, size), dtype=np.float32),
        reading_gains=np.zeros((4, size), dtype=np.float32),
    )


def fit_trust(
    pred_probs: Float32Array,
    given_probs: Float32Array,
    labels: GivenLabels,
    matrix: Float64Array,
    *,
    is_even: bool = False,
    is_vouched: bool = False,
    changes_labels: bool = True,
    exceeds_chance: bool = True,
    earlier: AuditEvidence = NO_LOOKS,
) -> Trust:
    """Return what turns probabilities into labels.

    The score is the mixture that looks, moved by what random looks leave over, made to rise with the rank by isotonic
    regression; its limit is where calling labels wrong has the best expected F1.

    Args:
        pred_probs: The student's P(true class | image), float32, shape (N, K).
        given_probs: The teacher's P(given class | image), float32, shape (N, K).
        labels: Given labels of the N samples.
        matrix: C of the student, float64, shape (K, K).
        is_even: Shape of C, as in `model.fit_noise_model`.
        is_vouched: The probabilities are the user's own, of a model that he knows to be good.
        changes_labels: As in `Trust`.
        exceeds_chance: Whether images tell more of labels than chance; where they do not, labels stand as far as random
            looks do not say otherwise.
        earlier: Random looks at samples of earlier runs.

    Returns:
        The fitted trust.
    """
    fitted = fit_readings(
        pred_probs,
        labels,
        matrix,
        is_even=is_even,
        is_vouched=is_vouched,
        exceeds_chance=exceeds_chance,
        earlier=earlier,
    )
    readings, rows = fitted.read(pred_probs, labels), np.arange(len(labels))
    chance = np.where(labels.is_verified, np.float32(1), fitted.beliefs.chance(readings[:, rows, labels.given]))
    share = EVEN_SHARE if is_even else fitted.ambiguity.calm
    rank = rank_of(pred_probs, given_probs, labels, matrix, share)
    curve = fit_score_curve(rank, chance)
    limit = score_limit(curve.scores(rank)[~labels.is_verified])
    return Trust(fitted, curve, limit, share, changes_labels, exceeds_chance or has_looks(labels, earlier))


def rank_of(
    pred_probs: Float32Array,
    given_probs: Float32Array,
    labels: GivenLabels,
    matrix: Float64Array,
    teacher_share: float,
) -> Float32Array:
    """Return what orders the labels, low = suspicious: the student's posterior, with a share of the teacher in it.

        log odds = student's under C^(1/4) + share (teacher's of the image - student's of the image)

    Under C the student knows which errors are made. But it was taught guesses, and of unclear images they were as
    often wrong: where errors are directed, the share of unclear images (`Ambiguity.calm`) is the teacher's, who was taught
    none. Where errors are even, C says nothing of single labels: both count alike.

    Args:
        pred_probs: The student's P(true class | image), float32, shape (N, K).
        given_probs: The teacher's P(given class | image), float32, shape (N, K).
        labels: Given labels of the N samples.
        matrix: C of the student, float64, shape (K, K).
        teacher_share: As in `Trust`.

    Returns:
        float32, shape (N,), in [0, 1].
    """
    rows, given = np.arange(len(labels)), labels.given
    student = _log_odds(posterior(pred_probs, labels, matrix**RANK_POWER)[rows, given])
    of_image = _log_odds(given_probs[rows, given]) - _log_odds(pred_probs[rows, given])
    log_odds = student + teacher_share * of_image
    return np.asarray(1.0 / (1.0 + np.exp(-log_odds)), dtype=np.float32)


def _log_odds(probs: Float32Array) -> Float64Array:
    clipped = np.clip(probs.astype(np.float64), LEAST_PROB, 1.0 - LEAST_PROB)
    return np.asarray(np.log(clipped) - np.log1p(-clipped), dtype=np.float64)
