"""The teacher: what probes and neighbours say about every sample, its own label left out, and how stable that is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from labelclean.arrays import Float32Array, FloatArray, IntArray
from labelclean.cleaning.chance import exceeds_chance, is_clear, likes_have_like_labels, shuffles
from labelclean.cleaning.experts import Fit, Targets, fit_experts, own_expert, teacher_experts
from labelclean.cleaning.stage import log_odds_of
from labelclean.config import CleaningConfig
from labelclean.labels import GivenLabels
from labelclean.noise.model import NoiseModel, fit_plain_model, posterior, true_class_probs
from labelclean.noise.scores import calibration_error
from labelclean.noise.targets import given_targets
from labelclean.noise.top2 import Refits, Top2Report, fit_refits, measure_top2, no_refits, top2_candidates, top2_margin
from labelclean.probes.feature_space import FeatureSpace, fold_buckets
from labelclean.probes.ridge import log_shares
from labelclean.probes.sums import build_feature_sums, build_target_sums


@dataclass(frozen=True)
class Teacher:
    """What a probe and the neighbours say about every sample, its own label left out.

    Attributes:
        pred_probs: Probabilities of the *given* label (calibrated to given labels), float32, shape (N, K).
        fit: The experts behind them and the models that join these.
        top1: Most probable class, int64, shape (N,).
        runner_up: Second class, int64, shape (N,).
        top2_margin: p(top1) - p(runner-up), float32, shape (N,).
        top2_agreement: Share of refits that agree on the pair, float32, shape (N,); None without features.
        top2: The figures of the stability check.
        log_likelihood: Mean log-probability of a given label under ``pred_probs``, nats.
        likelihood_gain: The same minus that of the bare class shares, nats.
        estimated_noise: Estimated share of wrong labels, in [0, 1].
        calibration_error: Expected calibration error of ``pred_probs`` against the given labels.
        refits: The refits behind ``top2_agreement``, which score any samples; None without features.
        is_vouched: The probabilities are the user's own, not learned from the given labels by us.
        exceeds_chance: The gain is more than random labels reach; else nothing tells, and nothing is flagged.
    """

    pred_probs: Float32Array
    fit: Fit
    top1: IntArray
    runner_up: IntArray
    top2_margin: Float32Array
    top2_agreement: Float32Array | None
    top2: Top2Report
    log_likelihood: float
    likelihood_gain: float
    estimated_noise: float
    calibration_error: float
    refits: Refits | None = None
    is_vouched: bool = False
    exceeds_chance: bool = True

    @property
    def noise(self) -> NoiseModel:
        """Noise model fitted to the experts: C, expert weights, likelihood."""
        return self.fit.noise


def fit_teacher(
    space: FeatureSpace, labels: GivenLabels, config: CleaningConfig, *, seed: int, given: Targets | None = None
) -> Teacher:
    """Return the out-of-fold teacher: ridge probes, straight and curved, and the neighbours' votes, joined by likelihood.

    Args:
        space: Features, folds and neighbours of the N samples on which choices are made.
        labels: Their given labels.
        config: Sections `neighbours`, `teacher` and `gates` are read.
        seed: Draws the bootstrap of the stability check.
        given: What is learned of all samples; default: the given labels of these N.

    Returns:
        The teacher.
    """
    targets = given or Targets(given_targets(labels))
    fit = fit_experts(teacher_experts(space, targets, labels, config), labels, space.selection)
    refits = fit_bootstrap(space, targets.rows, fit.experts[0].setting, config, seed=seed)
    teacher = _teacher(fit, labels, refits.agreement(space.design.unit_rows, space.buckets), config)
    teacher = replace(teacher, refits=refits)
    if is_clear(len(labels) * teacher.likelihood_gain, labels.num_classes):
        return teacher
    if likes_have_like_labels(space.design.unit_rows, space.groups, labels, seed=seed):
        return teacher
    if given is not None and given.sums is not None:  # shuffled labels would need sums of their own
        return replace(teacher, exceeds_chance=False)
    gains = (total_gain(_stacked(space, shuffled, config), shuffled) for shuffled in shuffles(labels, seed=seed))
    return replace(teacher, exceeds_chance=_exceeds_chance(teacher, labels, gains))


def teacher_from_pred_probs(pred_probs: FloatArray, labels: GivenLabels, config: CleaningConfig) -> Teacher:
    """Return a teacher made of somebody else's out-of-sample probabilities.

    Args:
        pred_probs: Out-of-sample probabilities, float, shape (N, K), rows sum to 1.
        labels: Given labels of the same samples.
        config: Section `gates` is read.

    Returns:
        The teacher; its only expert is the log-probability against the class shares.
    """
    prior = log_shares(given_targets(labels))
    values = log_odds_of(np.asarray(pred_probs), prior)
    teacher = _teacher(fit_experts([own_expert(values, prior)], labels, None), labels, None, config)
    gains = (total_gain(values[None], shuffled) for shuffled in shuffles(labels, seed=0))
    return replace(teacher, is_vouched=True, exceeds_chance=_exceeds_chance(teacher, labels, gains))


def _stacked(space: FeatureSpace, labels: GivenLabels, config: CleaningConfig) -> Float32Array:
    """The log-odds of a teacher of labels that are learned from nothing but themselves."""
    return np.stack([expert.values for expert in teacher_experts(space, Targets(labels.votes), labels, config)])


def _exceeds_chance(teacher: Teacher, labels: GivenLabels, random_gains: Iterable[float]) -> bool:
    return exceeds_chance(len(labels) * teacher.likelihood_gain, random_gains, labels.num_classes)


def _teacher(fit: Fit, labels: GivenLabels, agreement: Float32Array | None, config: CleaningConfig) -> Teacher:
    """The teacher that experts make."""
    probs, given = true_class_probs(fit.plain, fit.values[: len(fit.experts)]), labels.given
    pair = top2_candidates(probs)
    soft = posterior(fit.probs, labels, fit.matrix)
    shares = log_shares(labels.votes)
    return Teacher(
        pred_probs=probs,
        fit=fit,
        top1=pair[:, 0],
        runner_up=pair[:, 1],
        top2_margin=top2_margin(probs),
        top2_agreement=agreement,
        top2=measure_top2(probs, agreement, given, config.gates.top2.unstable_below),
        log_likelihood=fit.plain.log_likelihood,
        likelihood_gain=fit.plain.log_likelihood - float((labels.votes @ shares).mean()),
        estimated_noise=float(1.0 - soft[np.arange(len(labels)), given].mean()),
        calibration_error=calibration_error(probs.max(axis=1), pair[:, 0] == given),
    )


def total_gain(values: Float32Array, labels: GivenLabels) -> float:
    """Return the log-likelihood of all labels under log-odds over that of the class shares.

    Args:
        values: Log-odds, float32, shape (E, N, K).
        labels: Given labels of the N samples.

    Returns:
        Nats.
    """
    likelihood = fit_plain_model(values, labels).log_likelihood
    return len(labels) * (likelihood - float((labels.votes @ log_shares(labels.votes)).mean()))


def fit_bootstrap(
    space: FeatureSpace, targets: Float32Array, penalty: float, config: CleaningConfig, *, seed: int
) -> Refits:
    """Return bootstrap refits of the teacher on the sums of the hash buckets.

    Args:
        space: Features and buckets of N samples.
        targets: What the teacher learned, float32, shape (N, K).
        penalty: c of the ridge teacher.
        config: `teacher.repeats` is read.
        seed: Draws the bootstrap.

    Returns:
        The refits; none where there are two classes, for both are always the pair.
    """
    rows = space.design.unit_rows
    if targets.shape[1] == 2:
        return no_refits(rows.shape[1])
    num_buckets = config.teacher.folds * fold_buckets(config.teacher.folds)
    sums = build_feature_sums(rows, space.buckets, num_buckets, space.design.sums.mean, np.float32)
    cross = build_target_sums(rows, targets, space.buckets, sums.num_parts)
    return fit_refits(sums, cross, penalty, repeats=config.teacher.repeats, seed=seed)


def nothing_tells(teacher: Teacher) -> str:
    """Return the sentence that says that no image, or no prediction of the user's model, tells anything about its label."""
    what = "predictions" if teacher.is_vouched else "images"
    return (
        f"nothing tells which labels are wrong: the {what} say no more of their labels than chance would (gain over the "
        f"class shares {teacher.likelihood_gain:.4f} nats per label, no more than shuffled labels reach)."
    )
