"""The views: evidence about the class of a sample that its own label did not enter.

A view is the out-of-fold scores of a ridge probe, or the votes of the neighbours. How strongly
the probe is penalised and how many neighbours vote is decided by the likelihood of the
given labels under the noise model, so that no clean label is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from labelclean.arrays import Float32Array, Float64Array, IntArray
from labelclean.config import CleaningConfig
from labelclean.labels import GivenLabels
from labelclean.noise.model import NoiseModel, fit_noise_model, fit_plain_model, true_class_probs
from labelclean.probes.feature_space import VOTERS, FeatureSpace
from labelclean.probes.held_out import HeldOut, hold_out_some, left_out, whole_groups
from labelclean.probes.neighbours import Neighbours, label_votes, nearest_of
from labelclean.probes.ridge import (
    Design,
    LinearProbe,
    fit_cross_entropy,
    fit_gce,
    fit_one_ridge,
    fit_ridge,
    log_shares,
    log_shares_of_total,
    out_of_fold_logits,
    shares_of_sums,
    solve_ridge,
    training_shares,
)
from labelclean.probes.sums import TargetSums, build_target_sums, centred_cross

PENALTIES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
STUDENT_DECAYS = (0.1, 1.0)
PRIOR_VOTE = 0.5
SELECTION_CELLS = 50_000
LEAST_SELECTION_ROWS = 1_000
MOST_SELECTION_ROWS = 10_000
MOST_HELD_ROWS = 12_000  # they are held beside the features: with large groups they would be nearly all samples

Votes = Callable[[Neighbours], Float32Array]
"""Similarity-weighted votes, (N, K), of neighbours that may be any samples of the data set."""
Judge = Callable[[Float32Array, GivenLabels], NoiseModel]
Values = Callable[[IntArray | None], Float32Array]
"""z of some samples, or of all; most candidates are only ever asked for the samples that judge."""


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
        The view: scores minus the class shares of the samples that were learned from (those of all samples would
        let a fold's own labels speak against themselves). `teacher.left_out` says who is left out.
    """
    return most_likely(_ridge_candidates(space, "ridge", targets, config), space.selection, labels)


def kernel_view(space: FeatureSpace, targets: Float32Array, labels: GivenLabels, config: CleaningConfig) -> View | None:
    """Return the out-of-fold scores of a ridge probe on the kernel rows; arguments as in `ridge_view`.

    Returns:
        The view; None where the kernel is switched off.
    """
    if space.curved is None:
        return None
    return most_likely(_ridge_candidates(space, "kernel", targets, config), space.selection, labels)


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
    return most_likely(ridge_candidates(space.design, targets, config, rounds), space.selection, labels)


def ridge_candidates(
    design: Design, targets: Float32Array, config: CleaningConfig, rounds: tuple[int, ...], *, name: str = "ridge"
) -> Iterable[tuple[str, float, Values]]:
    """Yield name, penalty and values of each ridge view to choose among."""
    shares = training_shares(design, targets)[design.folds]
    penalties = [targets.shape[1] * value for value in config.teacher.lambdas or PENALTIES]
    for round_number in rounds:
        fits = fit_ridge(design, targets, penalties, round_number)
        for penalty, probes in zip(penalties, fits, strict=True):
            yield name, penalty, partial(_ridge_values, design, probes, shares)


def _ridge_candidates(
    space: FeatureSpace, name: str, targets: Float32Array, config: CleaningConfig
) -> Iterable[tuple[str, float, Values]]:
    """Name, penalty and values of each ridge view of one round, a group or a fold left out (`held_out.left_out`)."""
    design, num_classes = space.designs[name], targets.shape[1]
    penalties = [num_classes * value for value in config.teacher.lambdas or PENALTIES]
    judged_by, scored_by = left_out(space.groups, config)
    if scored_by == "group":
        held = space.held_out[name]
        cross = held.cross(targets)
        return [(name, penalty, partial(held.scores, targets, penalty, cross=cross)) for penalty in penalties]
    judges = whole_groups(judging_rows(space.selection, num_classes), space.groups)
    if judged_by == "fold" or len(judges) > MOST_HELD_ROWS:
        return ridge_candidates(design, targets, config, (1,), name=name)
    taught = _Taught(
        hold_out_some(design.unit_rows, space.groups, judges, design.whole),
        design,
        targets,
        build_target_sums(design.unit_rows, targets, design.folds, design.num_folds),
    )
    return [(name, penalty, partial(taught.values, penalty)) for penalty in penalties]


@dataclass(frozen=True)
class _Taught:
    """Ridge probes of many samples, judged by other means than they score by, for each is the cheaper in its place.

    Those that judge are scored with their group left out: one decomposition serves all penalties. Then all are scored
    by folds: the chosen penalty needs one factor per fold.
    """

    held: HeldOut
    design: Design
    targets: Float32Array
    sums: TargetSums

    def values(self, penalty: float, rows: IntArray | None) -> Float32Array:
        if rows is not None:
            return self.held.scores(self.targets, penalty, rows, cross=self._cross)
        shares = training_shares(self.design, self.targets)[self.design.folds]
        return _ridge_values(self.design, fit_one_ridge(self.design, self.sums, penalty), shares, None)

    @cached_property
    def _cross(self) -> Float64Array:
        cross = centred_cross(self.design.sums, self.sums, np.ones(self.design.num_folds))
        return np.asarray(self.design.whole.vectors.T @ cross)


def _ridge_values(
    design: Design, probes: tuple[LinearProbe, ...], shares: Float32Array, rows: IntArray | None
) -> Float32Array:
    """Out-of-fold scores minus class shares of some samples or all."""
    return out_of_fold_logits(design, probes, rows) - (shares if rows is None else shares[rows])


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
        (name, penalty, partial(_ridge_values, design, probes, shares))
        for penalty in penalties
        for probes in solve_ridge(design.spectra, sums, [penalty])
    )
    return most_likely(candidates, space.selection, labels, _plainly if is_student else _with_noise)


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
    return most_likely(_vote_candidates(space, targets, config), space.selection, labels)


def sums_vote_view(
    votes: Votes,
    total: Float64Array,
    space: FeatureSpace,
    labels: GivenLabels,
    config: CleaningConfig,
    *,
    is_student: bool,
) -> View:
    """Return the view of neighbours that are sought among more samples than those that judge it.

    Args:
        votes: Votes of any neighbours.
        total: Sum of what votes over all samples, float64, shape (K,).
        space: Neighbours of the N samples that judge, numbered over all samples.
        labels: Given labels of the N samples; for a student its targets in their place.
        config: `neighbours.k` is read.
        is_student: As in `sums_view`.

    Returns:
        The view of the N samples.
    """
    prior = log_shares_of_total(total)
    candidates = (
        ("votes", float(count), partial(_rows_of, votes_against_shares(votes(some), prior)))
        for count, some in _voters(space, config)
    )
    return most_likely(candidates, space.selection, labels, _plainly if is_student else _with_noise)


def log_votes(neighbours: Neighbours, targets: Float32Array) -> Float32Array:
    """Return log of (votes + half a vote of the class shares), normalised, minus the log class shares.

    Args:
        neighbours: Neighbours of N samples.
        targets: Labels that vote, float32, shape (N, K).

    Returns:
        float32, shape (N, K); 0 for a sample without neighbours.
    """
    return votes_against_shares(label_votes(neighbours, targets), log_shares(targets))


def votes_against_shares(votes: Float32Array, prior: Float64Array) -> Float32Array:
    """Return `log_votes` from the votes and the log class shares.

    Args:
        votes: Similarity-weighted votes, float32, shape (N, K).
        prior: Log class shares of all that vote, float64, shape (K,).

    Returns:
        float32, shape (N, K); 0 for a sample without votes.
    """
    shares = (votes + PRIOR_VOTE * np.exp(prior)) / (votes.sum(axis=1, keepdims=True) + PRIOR_VOTE)
    return np.asarray(np.log(shares) - prior, dtype=np.float32)


def student_probs(
    space: FeatureSpace, targets: Float32Array, labels: GivenLabels, config: CleaningConfig
) -> Float32Array:
    """Return P(true class | image) of a student that learned the posterior of the true class.

    Its ridge probes and its neighbours' votes never saw a sample's own target, but the targets were made with all
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
    candidates = [_ridge_candidates(space, name, targets, config) for name in space.designs]
    if space.neighbours is not None:
        candidates.append(_vote_candidates(space, targets, config))
    found = [most_likely(one, space.selection, soft, _plainly) for one in candidates]
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
) -> Iterable[tuple[str, float, Values]]:
    """Name, voters and values of each vote view to choose among."""
    for count, some in _voters(space, config):
        values = log_votes(some, targets)
        yield "votes", float(count), partial(_rows_of, values)


def _voters(space: FeatureSpace, config: CleaningConfig) -> Iterable[tuple[int, Neighbours]]:
    """How many may vote, and who."""
    if space.neighbours is None:
        return
    nearest = space.neighbours
    for count in (config.neighbours.k,) if config.neighbours.k else VOTERS:
        yield count, nearest_of(nearest, count)


def _rows_of(values: Float32Array, rows: IntArray | None) -> Float32Array:
    return values if rows is None else values[rows]


def _with_noise(values: Float32Array, labels: GivenLabels) -> NoiseModel:
    return fit_noise_model(values, labels, is_even=True, steps=20)


def _plainly(values: Float32Array, labels: GivenLabels) -> NoiseModel:
    return fit_plain_model(values, labels, steps=8)


def judging_rows(order: IntArray, num_classes: int) -> IntArray:
    """Return the samples that judge candidates: as many as give 50,000 numbers, but from 1,000 to 10,000.

    Args:
        order: The N samples in the order in which they are taken to judge, int64, shape (N,).
        num_classes: K.

    Returns:
        int64, shape (n,), ascending.
    """
    size = min(max(LEAST_SELECTION_ROWS, SELECTION_CELLS // num_classes), MOST_SELECTION_ROWS)
    return np.sort(order[:size])


def most_likely(
    candidates: Iterable[tuple[str, float, Values]], order: IntArray, labels: GivenLabels, judge: Judge = _with_noise
) -> View:
    """Return the candidate under which the noise model makes the given labels likeliest, scaled by its weight there.

    Args:
        candidates: Name, setting and values of each.
        order: The N samples in the order in which they are taken to judge, int64, shape (N,).
        labels: Given labels of the N samples.
        judge: Fits a noise model to one view.

    Returns:
        The view.

    Raises:
        ValueError: If there is no candidate.
    """
    rows = judging_rows(order, labels.num_classes)
    judges = labels.take(rows)
    best: tuple[float, float, str, float, Values] | None = None
    for name, setting, values in candidates:
        model = judge(values(rows)[None], judges)
        if best is None or model.log_likelihood > best[0]:
            best = (model.log_likelihood, float(model.view_weights[0]), name, setting, values)
    if best is None:
        raise ValueError("There is no candidate view to choose among.")
    likelihood, scale, name, setting, values = best
    return View(name, values(None) * np.float32(scale), setting, likelihood, scale)
