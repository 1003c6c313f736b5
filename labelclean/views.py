"""The views: evidence about the class of a sample that its own label did not enter.

A view is the out-of-fold scores of a ridge probe, or the votes of the neighbours. How strongly
the probe is penalised and how many neighbours vote is decided by the likelihood of the
given labels under the noise model, so that no clean label is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from labelclean.config import CleaningConfig
from labelclean.gram import Float32Array, TargetSums
from labelclean.labels import GivenLabels
from labelclean.neighbours import Neighbours, label_votes
from labelclean.noise import NoiseModel, fit_noise_model, fit_plain_model, true_class_probs
from labelclean.probe import (
    Design,
    fit_cross_entropy,
    fit_gce,
    fit_ridge,
    log_shares,
    out_of_fold_logits,
    shares_of_sums,
    solve_ridge,
    training_shares,
)
from labelclean.space import VOTERS, FeatureSpace

PENALTIES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
ROUNDS = (1, 2, 3, 4, 5)
STUDENT_DECAYS = (0.1, 1.0)
PRIOR_VOTE = 0.5
SELECTION_CELLS = 50_000
LEAST_SELECTION_ROWS = 1_000

Judge = Callable[[Float32Array, GivenLabels], NoiseModel]


@dataclass(frozen=True)
class View:
    """One piece of evidence and how it was chosen.

    Attributes:
        name: `ridge`, `kernel` or `votes`.
        values: z, float32, shape (N, K): log-odds against the class shares, own label left out.
        setting: The penalty c, or the number of voters.
        log_likelihood: Mean log-probability of a given label when this view stands alone.
        scale: What the scores were multiplied by, so that the view alone is calibrated.
    """

    name: str
    values: Float32Array
    setting: float
    log_likelihood: float
    scale: float = 1.0


def ridge_view(space: FeatureSpace, targets: Float32Array, labels: GivenLabels, config: CleaningConfig) -> View:
    """Return the out-of-fold ridge scores whose penalty makes the given labels likeliest.

    Args:
        space: Features and folds.
        targets: What the probe learns, float32, shape (N, K).
        labels: Given labels, which judge.
        config: `teacher.lambdas` and `refine.rounds` (rounds 1 here) are read.

    Returns:
        The view: scores minus the class shares of the folds that were learned from (those of all samples would
        let a fold's own labels speak against themselves).
    """
    return _likeliest(ridge_candidates(space.design, targets, config, rounds=(1,)), space, labels)


def kernel_view(space: FeatureSpace, targets: Float32Array, labels: GivenLabels, config: CleaningConfig) -> View | None:
    """Return the out-of-fold scores of a ridge probe on the kernel rows; arguments as in `ridge_view`.

    Returns:
        The view; None where the kernel is switched off.
    """
    if space.curved is None:
        return None
    return _likeliest(ridge_candidates(space.curved, targets, config, rounds=(1,), name="kernel"), space, labels)


def multi_round_view(space: FeatureSpace, targets: Float32Array, labels: GivenLabels, config: CleaningConfig) -> View:
    """Return the scores after some rounds of label averaging; rounds and penalty chosen on the given labels.

    Args:
        space: Features and folds.
        targets: What round 1 learns, float32, shape (N, K).
        labels: Given labels, which judge.
        config: `refine.rounds` fixes the rounds; default: the likeliest of 1 to 5.

    Returns:
        The view; ``setting`` is the penalty.
    """
    rounds = (config.refine.rounds,) if config.refine.rounds else (1, 2, 3, 4, 5)
    return _likeliest(ridge_candidates(space.design, targets, config, rounds), space, labels)


def ridge_candidates(
    design: Design, targets: Float32Array, config: CleaningConfig, rounds: tuple[int, ...], *, name: str = "ridge"
) -> Iterable[tuple[str, float, Float32Array]]:
    """Yield name, penalty and values of each ridge view to choose among."""
    shares = training_shares(design, targets)[design.folds]
    penalties = [targets.shape[1] * value for value in config.teacher.lambdas or PENALTIES]
    for round_number in rounds:
        fits = fit_ridge(design, targets, penalties, round_number)
        for penalty, probes in zip(penalties, fits, strict=True):
            yield name, penalty, out_of_fold_logits(design, probes) - shares


def sums_view(
    name: str,
    design: Design,
    sums: TargetSums,
    space: FeatureSpace,
    labels: GivenLabels,
    config: CleaningConfig,
    *,
    is_student: bool,
) -> View:
    """Return the view of probes that are solved from sums over more samples than those that judge it.

    Args:
        name: `ridge` or `kernel`.
        design: Features of the N samples that judge; its sums and decompositions are those of all samples.
        sums: Target sums of all samples, per fold.
        space: Which of the N samples judge first.
        labels: Given labels of the N samples; for a student its targets in their place.
        config: `teacher.lambdas` is read.
        is_student: Whether a plain model judges, as in `student_probs`, or one with noise.

    Returns:
        The view of the N samples.
    """
    shares = shares_of_sums(sums, design.sums.count)[design.folds]
    penalties = [labels.num_classes * value for value in config.teacher.lambdas or PENALTIES]
    candidates = (
        (name, penalty, out_of_fold_logits(design, probes) - shares)
        for penalty in penalties
        for probes in solve_ridge(design.spectra, sums, [penalty])
    )
    return _likeliest(candidates, space, labels, _plainly if is_student else _with_noise)


def vote_view(space: FeatureSpace, targets: Float32Array, labels: GivenLabels, config: CleaningConfig) -> View | None:
    """Return the log of the neighbours' label shares against the class shares.

    Args:
        space: Neighbours of other groups.
        targets: Labels that vote, float32, shape (N, K).
        labels: Given labels, which judge the number of voters.
        config: `neighbours.k` fixes it; default: the likelier of 10 and 20.

    Returns:
        The view; None without neighbours.
    """
    if space.neighbours is None:
        return None
    return _likeliest(_vote_candidates(space, targets, config), space, labels)


def log_votes(neighbours: Neighbours, targets: Float32Array) -> Float32Array:
    """Return log of (votes + half a vote of the class shares), normalised, minus the log class shares.

    Args:
        neighbours: Neighbours of N samples.
        targets: Labels that vote, float32, shape (N, K).

    Returns:
        float32, shape (N, K); 0 for a sample without neighbours.
    """
    prior = log_shares(targets)
    votes = label_votes(neighbours, targets)
    shares = (votes + PRIOR_VOTE * np.exp(prior)) / (votes.sum(axis=1, keepdims=True) + PRIOR_VOTE)
    return np.asarray(np.log(shares) - prior, dtype=np.float32)


def student_probs(
    space: FeatureSpace, targets: Float32Array, labels: GivenLabels, config: CleaningConfig
) -> Float32Array:
    """Return P(true class | image) of a student that learned the posterior of the true class.

    Its ridge probes and its neighbours' votes are out of fold, but the targets were made with all
    labels: a little memory of a sample's own label remains.

    Args:
        space: Features, folds and neighbours.
        targets: Posterior of the true class, float32, shape (N, K), rows sum to 1.
        labels: Given labels; only their possible classes matter here.
        config: Sections `teacher` and `neighbours` are read.

    Returns:
        float32, shape (N, K), rows sum to 1.
    """
    soft = GivenLabels(targets, labels.candidates)
    designs = [design for design in (space.design, space.curved) if design is not None]
    found = [
        _likeliest(ridge_candidates(design, targets, config, rounds=(1,)), space, soft, _plainly) for design in designs
    ]
    if space.neighbours is not None:
        found.append(_likeliest(_vote_candidates(space, targets, config), space, soft, _plainly))
    values = np.stack([view.values for view in found])
    return true_class_probs(fit_plain_model(values, soft), values)


def two_hot_view(
    space: FeatureSpace, targets: Float32Array, labels: GivenLabels, config: CleaningConfig
) -> Float32Array:
    """Return the logits of P1's partial-label student: cross-entropy on the pair, then for `gce` the robust loss.

    Args:
        space: Features and folds.
        targets: Partial labels, float32, shape (N, K), rows sum to 1.
        labels: Given labels, which judge the weight decay.
        config: `refine.loss` and `teacher.lambdas` are read.

    Returns:
        float32, shape (N, K): logits minus the log class shares.

    Raises:
        ValueError: If `teacher.lambdas` is empty.
    """
    best: tuple[float, Float32Array] | None = None
    for decay in config.teacher.lambdas or STUDENT_DECAYS:
        probes = fit_cross_entropy(space.design, targets, decay)
        if config.refine.loss == "gce":
            probes = fit_gce(space.design, targets, decay, start=probes)
        values = out_of_fold_logits(space.design, probes) - log_shares(targets).astype(np.float32)
        likelihood = fit_plain_model(values[None], labels).log_likelihood
        if best is None or likelihood > best[0]:
            best = (likelihood, values)
    if best is None:
        raise ValueError("teacher.lambdas must hold at least one value, but is empty.")
    return best[1]


def _vote_candidates(
    space: FeatureSpace, targets: Float32Array, config: CleaningConfig
) -> Iterable[tuple[str, float, Float32Array]]:
    """Name, voters and values of each vote view to choose among."""
    if space.neighbours is None:
        return
    nearest = space.neighbours
    for count in (config.neighbours.k,) if config.neighbours.k else VOTERS:
        some = Neighbours(nearest.index[:, :count], nearest.similarity[:, :count])
        yield "votes", float(count), log_votes(some, targets)


def _with_noise(values: Float32Array, labels: GivenLabels) -> NoiseModel:
    return fit_noise_model(values, labels, shrinkage=np.inf, steps=20, is_quick=True)


def _plainly(values: Float32Array, labels: GivenLabels) -> NoiseModel:
    return fit_plain_model(values, labels, steps=8)


def _likeliest(
    candidates: Iterable[tuple[str, float, Float32Array]],
    space: FeatureSpace,
    labels: GivenLabels,
    judge: Judge = _with_noise,
) -> View:
    """The candidate under which the noise model makes the given labels likeliest, scaled by its weight there."""
    rows = np.sort(space.selection[: max(LEAST_SELECTION_ROWS, SELECTION_CELLS // labels.num_classes)])
    judges = labels.take(rows)
    best: View | None = None
    for name, setting, values in candidates:
        model = judge(values[None, rows], judges)
        if best is None or model.log_likelihood > best.log_likelihood:
            scale = float(model.view_weights[0])
            best = View(name, values * np.float32(scale), setting, model.log_likelihood, scale)
    if best is None:
        raise ValueError("There is no candidate view to choose among.")
    return best
