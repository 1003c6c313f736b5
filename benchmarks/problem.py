"""What a method sees of a cell, and what it must answer. Nothing here knows a true class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from labelclean.labels import one_hot
from labelclean.probes.ridge import (
    Design,
    LinearProbe,
    build_design,
    fit_cross_entropy,
    out_of_fold_logits,
    predict_logits,
    softmax,
)
from labelclean.probes.sums import centred_unit_rows, feature_mean

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.floating]
Float32Array = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

LOGISTIC_PENALTIES = (0.001, 0.01, 0.1, 1.0, 10.0)
DECAYS = (0.03, 0.1, 0.3, 1.0, 3.0)


class Estimate(NamedTuple):
    """How many given labels a method says are wrong, with the ends of its 95 % interval."""

    value: float
    low: float
    high: float


class Audit(NamedTuple):
    """Samples drawn at random and looked at by a person.

    Attributes:
        rows: Which, int64, shape (A,).
        classes: The class that the person found, int64, shape (A,), aligned with ``rows``.
    """

    rows: IntArray
    classes: IntArray


@dataclass(frozen=True)
class Output:
    """What a method says.

    Attributes:
        scores: How well each given label fits, float, shape (N,), low = suspicious.
        is_issue: Whether it is called wrong, bool, shape (N,).
        predicted: The class it should be, int64, shape (N,).
        soft: Its class probabilities, float, shape (N, K), rows sum to 1.
        has_probabilities: Whether ``scores`` are meant as probabilities that the label is right.
        classify: Where the method is itself a classifier: raw features to probabilities.
        estimate: Where the method says how many labels are wrong; samples that it was told of do not count.
    """

    scores: FloatArray
    is_issue: BoolArray
    predicted: IntArray
    soft: FloatArray
    has_probabilities: bool = False
    classify: Callable[[Float32Array], FloatArray] | None = None
    estimate: Estimate | None = None


@dataclass(frozen=True)
class Space:
    """Centred unit features in the coordinates of their own span, with the way there for other features.

    Attributes:
        mean: mu, float64, shape (D,).
        basis: Orthonormal columns, float32, shape (D, min(N, D)).
        design: Coordinates, folds and decompositions.
    """

    mean: npt.NDArray[np.float64]
    basis: Float32Array
    design: Design

    def coordinates(self, features: Float32Array) -> Float32Array:
        """Return other raw features in the same coordinates, float32."""
        return centred_unit_rows(features, self.mean) @ self.basis

    def classifier(self, probes: tuple[LinearProbe, ...]) -> Callable[[Float32Array], FloatArray]:
        """Return the mean of the folds' probes as a classifier of raw features."""
        return lambda features: np.mean(
            [softmax(predict_logits(p, self.coordinates(features))) for p in probes], axis=0
        )


def build_space(features: Float32Array, folds: IntArray) -> Space:
    """Return the linear-probe view of some features; all probes in them are the same as in the raw ones.

    Args:
        features: Raw features, float32, shape (N, D).
        folds: Fold of each sample, int64, shape (N,).

    Returns:
        The space.
    """
    mean = feature_mean(features)
    rows = centred_unit_rows(features, mean)
    num_samples, num_dims = rows.shape
    basis = np.eye(num_dims, dtype=np.float32) if num_dims <= num_samples else np.linalg.qr(rows.T)[0]
    return Space(mean, basis, build_design(rows @ basis, folds, int(folds.max()) + 1, mean))


@dataclass(frozen=True)
class Problem:
    """One cell as a method sees it.

    Attributes:
        features: Raw features, float32, shape (N, D); D = 0 where only probabilities are handed over.
        given: Given labels, int64, shape (N,), in [0, K).
        folds: Fold of each sample, int64, shape (N,), in [0, F).
        num_classes: K.
        seed: Feeds every draw.
        pred_probs: Out-of-sample probabilities of a model of the user's own, float32, shape (N, K), rows sum to 1;
            None where he has none.
        votes: One label per sample from each of several people, int64, shape (N, V), of which ``given`` is the plurality;
            None where there is one label each.
        audit: Samples that a person looked at; only the audited method gets any.
    """

    features: Float32Array
    given: IntArray
    folds: IntArray
    num_classes: int
    seed: int
    pred_probs: Float32Array | None = None
    votes: IntArray | None = None
    audit: Audit | None = None

    @property
    def targets(self) -> Float32Array:
        """Given labels as one-hot rows, float32, shape (N, K)."""
        return one_hot(self.given, self.num_classes)

    @cached_property
    def space(self) -> Space:
        """The linear-probe view of the features, with its decompositions: they are a cost that methods share."""
        space = build_space(self.features, self.folds)
        tuple(space.design.spectra)  # made when first asked for
        return space

    @cached_property
    def teachers(self) -> tuple[tuple[LinearProbe, ...], ...]:
        """Cross-entropy probes on the given labels, for each of `DECAYS`."""
        return tuple(fit_cross_entropy(self.space.design, self.targets, decay) for decay in DECAYS)

    @cached_property
    def likeliest_decay(self) -> float:
        """The one of `DECAYS` whose teacher makes the given labels likeliest out of fold."""
        found = [softmax(out_of_fold_logits(self.space.design, probes)) for probes in self.teachers]
        return DECAYS[int(np.argmax([log_likelihood(probs, self.given) for probs in found]))]

    @cached_property
    def outside_probs(self) -> FloatArray:
        """What a rule on probabilities gets: those handed over, or else a logistic regression's, float, shape (N, K)."""
        return self.logistic_probs if self.pred_probs is None else self.pred_probs

    @cached_property
    def logistic_probs(self) -> FloatArray:
        """Out-of-fold probabilities of scikit-learn's logistic regression, C by the given labels' log-likelihood.

        C rises until the likelihood falls.
        """
        from sklearn.linear_model import LogisticRegression
        from sklearn.preprocessing import StandardScaler

        scaled = StandardScaler().fit_transform(self.features)
        best = -np.inf
        found: FloatArray = np.zeros((0, 0))
        for penalty in LOGISTIC_PENALTIES:
            probs = np.full((len(self.given), self.num_classes), 1e-6)
            for fold in range(int(self.folds.max()) + 1):
                held = self.folds == fold
                model = LogisticRegression(C=penalty, max_iter=150).fit(scaled[~held], self.given[~held])
                probs[np.ix_(held, model.classes_)] = model.predict_proba(scaled[held])
            probs /= probs.sum(axis=1, keepdims=True)
            likelihood = log_likelihood(probs, self.given)
            if likelihood <= best:
                break
            best, found = likelihood, probs
        return found


def log_likelihood(probs: FloatArray, given: IntArray) -> float:
    """Return the mean log-probability of the given labels, nats.

    Args:
        probs: float, shape (N, K).
        given: int64, shape (N,).

    Returns:
        The mean.
    """
    return float(np.log(probs[np.arange(len(given)), given] + 1e-9).mean())


def disagreement(probs: FloatArray, given: IntArray, classify: Callable[[Float32Array], FloatArray]) -> Output:
    """Return the plain reading of probabilities: score P(given), issue where another class is likelier.

    Args:
        probs: Out-of-fold probabilities, float, shape (N, K).
        given: Given labels, int64, shape (N,).
        classify: The classifier behind them.

    Returns:
        The output.
    """
    predicted = probs.argmax(axis=1).astype(np.int64)
    return Output(probs[np.arange(len(given)), given], predicted != given, predicted, probs, True, classify)
