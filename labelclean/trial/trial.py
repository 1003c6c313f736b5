"""What a small trial tells of a large data set: learning curve, refinements compared out of fold, bias by class, risks."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from labelclean.arrays import Float32Array, FloatArray, IntArray
from labelclean.cleaning.student import refine_labels
from labelclean.cleaning.teacher import fit_teacher, teacher_from_pred_probs
from labelclean.config import REFINEMENTS, CleaningConfig
from labelclean.labels import GivenLabels, one_hot
from labelclean.probes.feature_space import build_feature_space
from labelclean.probes.sums import centred_unit_rows, feature_mean, hashed_parts

LEAST_SIZE = 60
LEAST_PROB = 1e-4
MOST_REPEATS = 3
NUM_PARTS = 3
RIDGE = 1.0


@dataclass(frozen=True)
class Material:
    """What a trial has; all are aligned.

    Attributes:
        features: float32, shape (N, D).
        labels: Given labels of the N samples.
        sample_ids: Their ids.
        groups: Their groups, or None.
    """

    features: Float32Array
    labels: GivenLabels
    sample_ids: Sequence[Hashable]
    groups: Sequence[Hashable] | None = None

    def take(self, rows: IntArray) -> Material:
        """Return the same for some rows."""
        groups = None if self.groups is None else [self.groups[row] for row in rows.tolist()]
        return Material(
            self.features[rows], self.labels.take(rows), [self.sample_ids[r] for r in rows.tolist()], groups
        )


@dataclass(frozen=True)
class CurvePoint:
    """What the teacher knows from so many samples, out of fold.

    Attributes:
        num_samples: Samples of a subset.
        num_subsets: Subsets of that size measured, disjoint.
        gain: Mean log-likelihood of a given label under the teacher and its noise model, over that of the
            class shares, nats, mean of the subsets.
        spread: Standard deviation of the gain over the subsets; None for one subset.
        agreement: Share of given labels that are the teacher's best class, mean of the subsets.
        error_share: Estimated share of wrong labels, mean of the subsets.
    """

    num_samples: int
    num_subsets: int
    gain: float
    spread: float | None
    agreement: float
    error_share: float


@dataclass(frozen=True)
class Compared:
    """One refinement against leaving the labels as they are.

    Attributes:
        method: Its name.
        gain: How much likelier given labels that were put away become under its student than under the
            teacher alone, nats per label, mean over the parts.
        error: Standard error of the gain over the parts.
        is_allowed: Whether the gates allow it.
    """

    method: str
    gain: float
    error: float
    is_allowed: bool


def curve_sizes(num_samples: int) -> tuple[int, ...]:
    """Return the sizes of a learning curve: halves, quarters, ... down to 60 samples, smallest first.

    Args:
        num_samples: N.

    Returns:
        At most five sizes, the last of them N.

    Examples:
        >>> curve_sizes(1000), curve_sizes(100)
        ((62, 125, 250, 500, 1000), (100,))
    """
    sizes = [num_samples]
    while sizes[-1] // 2 >= LEAST_SIZE and len(sizes) < 5:
        sizes.append(sizes[-1] // 2)
    return tuple(reversed(sizes))


def learning_curve(material: Material, config: CleaningConfig, *, seed: int) -> tuple[CurvePoint, ...]:
    """Return what the teacher knows from parts of the samples and from all of them.

    Args:
        material: N samples.
        config: Sections of the cleaning.
        seed: Draws the subsets and the folds.

    Returns:
        One point per size of `curve_sizes`, smallest first.
    """
    order = np.argsort(hashed_parts(list(material.sample_ids), 2**62, seed=seed, purpose="curve"), kind="stable")
    points = []
    for size in curve_sizes(len(order)):
        num = min(MOST_REPEATS, len(order) // size)
        faults = []
        for k in range(num):
            part = material.take(np.sort(order[k * size : (k + 1) * size]))
            space = build_feature_space(part.features, part.sample_ids, part.groups, config, seed=seed)
            teacher = fit_teacher(space, part.labels, config, seed=seed)
            agreement = float((teacher.top1 == part.labels.given).mean())
            # of the noise model, for it alone stays calibrated where nearly all errors are uniform
            of_shares = teacher.log_likelihood - teacher.likelihood_gain
            faults.append((teacher.noise.log_likelihood - of_shares, agreement, teacher.estimated_noise))
        gains = np.array(faults)
        spread = float(gains[:, 0].std(ddof=1)) if num > 1 else None
        points.append(CurvePoint(size, num, *_means(gains, spread)))
    return tuple(points)


def compare_refinements(
    material: Material, config: CleaningConfig, allowed: Collection[str], *, seed: int
) -> tuple[Compared, ...]:
    """Return how well each refinement's student foretells given labels that nothing in it has seen.

    The given labels of a third of the samples (by group) are put away and replaced by labels drawn
    from a probe that was taught with the other two thirds; all labels are refined; a noise model
    says how likely the labels put away are under the student's predictions. The same for every
    third. No truth is looked at, and the measure is the same for every refinement.

    Args:
        material: N samples.
        config: Sections of the cleaning.
        allowed: Refinements that the gates allow.
        seed: Draws the thirds and the labels.

    Returns:
        One row per refinement, best first; `none`, the teacher alone, has a gain of 0.
    """
    methods = [
        name for name in (*reversed(REFINEMENTS), "none") if material.labels.num_classes > 2 or name != "two_hot"
    ]
    keys = material.sample_ids if material.groups is None else material.groups
    space = build_feature_space(material.features, material.sample_ids, material.groups, config, seed=seed)
    third = hashed_parts(list(keys), NUM_PARTS, seed=seed, purpose="hidden")
    faults = []
    for part in range(NUM_PARTS):
        hidden = np.flatnonzero(third == part)
        if not len(hidden):
            continue
        labels = _without_labels(material, hidden, seed)
        teacher = fit_teacher(space, labels, config, seed=seed)
        likelihoods = []
        for method in methods:
            settings = config.model_copy(update={"refine": config.refine.model_copy(update={"method": method})})
            probs = refine_labels(space, labels, teacher, settings).pred_probs[hidden]
            judge = teacher_from_pred_probs(probs, material.labels.take(hidden), config)
            likelihoods.append(judge.noise.log_likelihood)
        faults.append(likelihoods)
    table = np.array(faults)
    gains = table - table[:, [methods.index("none")]]
    errors = gains.std(axis=0, ddof=1) / np.sqrt(len(gains)) if len(gains) > 1 else np.zeros(len(methods))
    rows = [
        Compared(name, float(gains[:, k].mean()), float(errors[k]), name in (*allowed, "none"))
        for k, name in enumerate(methods)
    ]
    return tuple(sorted(rows, key=lambda row: -row.gain))


def _without_labels(material: Material, hidden: IntArray, seed: int) -> GivenLabels:
    """The labels, those of some samples replaced by draws from what the others' labels say of them."""
    seen = np.setdiff1d(np.arange(len(material.labels)), hidden)
    votes = material.labels.votes
    probs = _ridge_probs(material.features[seen], votes[seen], material.features[hidden], RIDGE)
    draws = np.random.default_rng(seed).random((len(hidden), 1))
    drawn = np.minimum((probs.cumsum(axis=1) < draws).sum(axis=1), votes.shape[1] - 1)
    replaced, candidates = votes.copy(), material.labels.candidates.copy()
    replaced[hidden] = one_hot(drawn, votes.shape[1])
    candidates[hidden] = True
    return GivenLabels(replaced, candidates)


def _ridge_probs(features: Float32Array, targets: FloatArray, others: Float32Array, penalty: float) -> Float32Array:
    """Class probabilities of other samples by a ridge probe; negative scores become next to nothing."""
    mean = feature_mean(features)
    rows, new = centred_unit_rows(features, mean).astype(np.float64), centred_unit_rows(others, mean)
    shares = targets.mean(axis=0, dtype=np.float64)
    kernel = rows @ rows.T  # a trial has fewer samples than a million pairs
    weights = np.linalg.solve(kernel + penalty * np.eye(len(rows)), targets - shares)
    scores = np.maximum(shares + (new @ rows.T) @ weights, LEAST_PROB)
    return np.asarray(scores / scores.sum(axis=1, keepdims=True), dtype=np.float32)


def _means(values: FloatArray, spread: float | None) -> tuple[float, float | None, float, float]:
    gain, agreement, noise = (float(value) for value in values.mean(axis=0))
    return gain, spread, agreement, noise
