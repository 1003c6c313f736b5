"""The experts: evidence about the class of a sample that its own label did not enter.

An expert gives each class log-odds: the out-of-fold scores of a ridge probe, or the votes of the
neighbours. The noise model weighs the experts and adds them up, as in a product of experts. How strongly
the probe is penalised and how many neighbours vote is decided by the likelihood of the
given labels under the noise model, so that no clean label is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np

from labelclean.arrays import Float32Array, Float64Array, IntArray
from labelclean.cleaning.stage import (
    FoldProbes,
    OwnModel,
    Scorer,
    Stage,
    Voters,
    Voting,
    votes_against_shares,
    votes_of,
)
from labelclean.config import CleaningConfig
from labelclean.labels import GivenLabels
from labelclean.noise.model import NoiseModel, fit_noise_model, fit_plain_model, true_class_probs
from labelclean.noise.model_choice import choose_noise_model
from labelclean.probes.feature_space import VOTERS, FeatureSpace
from labelclean.probes.held_out import is_group_left_out
from labelclean.probes.neighbours import nearest_of
from labelclean.probes.ridge import (
    Design,
    LinearProbe,
    build_design,
    fit_cross_entropy,
    fit_gce,
    log_shares_of_total,
    out_of_fold_logits,
    shares_of_sums,
    solve_ridge,
)
from labelclean.probes.sums import TargetSums, build_target_sums

PENALTIES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
STUDENT_DECAYS = (0.1, 1.0)
ROUNDS = (1, 2, 3, 4, 5)
SELECTION_CELLS = 50_000
LEAST_SELECTION_ROWS = 1_000
MOST_SELECTION_ROWS = 10_000

NoiseFit = Callable[[Float32Array, GivenLabels], NoiseModel]
Values = Callable[[IntArray | None], Float32Array]
"""z of some samples, or of all; most candidates are only ever asked for the samples that judge."""
Scoring = Callable[[float], Scorer]
"""What scores any samples, with the scale of its expert inside."""


@dataclass(frozen=True)
class Targets:
    """What probes learn and neighbours vote with.

    Attributes:
        rows: Targets of the N samples on which choices are made, float32, shape (N, K).
        sums: For each design the sums of all samples, per fold, where there are more than these N; else None.
        votes: Votes of any neighbours; None: neighbours are numbered as the N samples, and ``rows`` votes.
        total: Sum of the targets of all that vote, float64, shape (K,); None: that of ``rows``.
    """

    rows: Float32Array
    sums: tuple[TargetSums, ...] | None = None
    votes: Voting | None = None
    total: Float64Array | None = None

    @property
    def prior(self) -> Float64Array:
        """Log class shares of all that vote, float64, shape (K,)."""
        return log_shares_of_total(self.rows.sum(axis=0, dtype=np.float64) if self.total is None else self.total)

    def sums_of(self, number: int, design: Design) -> TargetSums:
        """Return the sums of one design."""
        if self.sums is not None:
            return self.sums[number]
        return build_target_sums(design.unit_rows, self.rows, design.folds, design.num_folds)


@dataclass(frozen=True)
class Candidate:
    """An expert to choose among.

    Attributes:
        name: `ridge`, `kernel` or `votes`.
        setting: The penalty c, or the number of voters.
        values: z of samples on which choices are made.
        scoring: z of any samples; None where each sample is scored by a probe of its own.
    """

    name: str
    setting: float
    values: Values
    scoring: Scoring | None


@dataclass(frozen=True)
class Expert:
    """One source of evidence and how it was chosen.

    Attributes:
        name: `ridge`, `kernel` or `votes`.
        values: z, float32, shape (N, K): log-odds against the class shares, own label left out.
        setting: The penalty c, or the number of voters.
        log_likelihood: Mean log-probability of a given label when this expert stands alone.
        scale: What the scores were multiplied by, so that the expert alone is calibrated.
        scoring: As in `Candidate`.
    """

    name: str
    values: Float32Array
    setting: float
    log_likelihood: float
    scale: float = 1.0
    scoring: Scoring | None = None


@dataclass(frozen=True)
class Fit:
    """Experts of the N samples on which choices are made, and the models that join them.

    Attributes:
        experts: The experts.
        values: Theirs, float32, shape (E, N, K), the pattern expert last where ``noise`` has one.
        plain: Model of the given labels on the experts without pattern.
        noise: Model of the true class.
        matrix: C, float64, shape (K, K).
    """

    experts: tuple[Expert, ...]
    values: Float32Array
    plain: NoiseModel
    noise: NoiseModel
    matrix: Float64Array

    @property
    def probs(self) -> Float32Array:
        """P(true class | image), float32, shape (N, K), rows sum to 1."""
        return true_class_probs(self.noise, self.values)

    @property
    def stage(self) -> Stage:
        """The same for any samples.

        Raises:
            ValueError: If an expert scores each sample by a probe of its own.
        """
        scorers = tuple(expert.scoring(expert.scale) for expert in self.experts if expert.scoring is not None)
        if len(scorers) < len(self.experts):
            raise ValueError("experts that leave out single groups score no samples but their own.")
        return Stage(scorers, self.plain, self.noise, self.matrix)


def fit_experts(experts: Iterable[Expert], labels: GivenLabels, order: IntArray | None) -> Fit:
    """Return experts joined under the noise model with the most evidence.

    Args:
        experts: Experts of N samples, at least one.
        labels: Their given labels.
        order: The samples in the order in which they are taken to decide, int64, shape (N,); None: all decide.

    Returns:
        The fit.
    """
    experts = tuple(experts)
    values = np.stack([expert.values for expert in experts])
    plain = fit_plain_model(values, labels)
    values, noise = choose_noise_model(values, labels, plain, order)
    return Fit(experts, values, plain, noise, noise.matrix)


def teacher_experts(space: FeatureSpace, targets: Targets, labels: GivenLabels, config: CleaningConfig) -> list[Expert]:
    """Return the expert of each design and, where there are neighbours, that of their votes, judged by the given labels.

    Args:
        space: Features, folds and neighbours of N samples.
        targets: What is learned.
        labels: Given labels of the N samples, which judge.
        config: Sections `teacher` and `neighbours` are read.

    Returns:
        The experts.
    """
    return _experts(space, targets, labels, config, _with_noise)


def student_experts(space: FeatureSpace, targets: Targets, labels: GivenLabels, config: CleaningConfig) -> list[Expert]:
    """Return the same, judged by the targets themselves, without noise.

    Args:
        space: Features, folds and neighbours of N samples.
        targets: What is learned: posteriors of the true class.
        labels: Given labels of the N samples; only their possible classes matter here.
        config: Sections `teacher` and `neighbours` are read.

    Returns:
        The experts. They never saw a sample's own target, but the targets were made with all labels: a little memory of a
        sample's own label remains.
    """
    return _experts(space, targets, GivenLabels(targets.rows, labels.candidates), config, _plainly)


def _experts(
    space: FeatureSpace, targets: Targets, labels: GivenLabels, config: CleaningConfig, noise_fit: NoiseFit
) -> list[Expert]:
    candidates = [_ridge_candidates(space, number, targets, config) for number in range(len(space.designs))]
    if space.neighbours is not None:
        candidates.append(_vote_candidates(space, targets, config))
    rows = judging_rows(space.selection, space.num_questions * labels.num_classes)
    return [most_likely(some, rows, labels, noise_fit) for some in candidates]


def multi_round_expert(space: FeatureSpace, targets: Targets, labels: GivenLabels, config: CleaningConfig) -> Expert:
    """Return the scores after some rounds of label averaging; rounds and penalty chosen on the given labels.

    Args:
        space: Features and folds.
        targets: What round 1 learns.
        labels: Given labels, which judge.
        config: `refine.rounds` fixes the rounds; default: the likeliest of 1 to 5.

    Returns:
        The expert; ``setting`` is the penalty.
    """
    rounds = (config.refine.rounds,) if config.refine.rounds else ROUNDS
    candidates = _fold_candidates(space, 0, targets, config, rounds)
    return most_likely(candidates, judging_rows(space.selection, space.num_questions * labels.num_classes), labels)


def two_hot_expert(space: FeatureSpace, targets: Float32Array, labels: GivenLabels, config: CleaningConfig) -> Expert:
    """Return the logits of P1's partial-label student: cross-entropy on the pair, then for `gce` the robust loss.

    Args:
        space: Features and folds.
        targets: Partial labels, float32, shape (N, K), rows sum to 1; the student learns from these samples alone.
        labels: Given labels, which judge the weight decay.
        config: `refine.loss` and `teacher.lambdas` are read.

    Returns:
        The expert: logits minus the log class shares.

    Raises:
        ValueError: If `teacher.lambdas` is empty.
    """
    whole = space.design
    design = build_design(whole.unit_rows, whole.folds, whole.num_folds, whole.sums.mean)
    prior, best = Targets(targets).prior.astype(np.float32), None
    for decay in config.teacher.lambdas or STUDENT_DECAYS:
        probes = fit_cross_entropy(design, targets, decay)
        if config.refine.loss == "gce":
            probes = fit_gce(design, targets, decay, start=probes)
        shares = np.tile(prior, (design.num_folds, 1))
        values = _fold_values(design, probes, shares, None)
        likelihood = fit_plain_model(values[None], labels).log_likelihood
        if best is None or likelihood > best.log_likelihood:
            best = Expert("ridge", values, decay, likelihood, scoring=partial(_fold_probes, 0, probes, shares))
    if best is None:
        raise ValueError("teacher.lambdas must hold at least one value, but is empty.")
    return best


def own_expert(values: Float32Array, prior: Float64Array) -> Expert:
    """Return the expert of the user's own model.

    Args:
        values: `stage.log_odds_of` its probabilities, float32, shape (N, K).
        prior: Log class shares of the given labels, float64, shape (K,).

    Returns:
        The expert.
    """
    return Expert("pred_probs", values, 0.0, 0.0, scoring=lambda _: OwnModel(prior))


def _ridge_candidates(
    space: FeatureSpace, number: int, targets: Targets, config: CleaningConfig
) -> Iterable[Candidate]:
    """Each ridge expert of a design to choose among: a sample's group is left out where that can be, else its fold."""
    if targets.sums is not None or not is_group_left_out(space.groups, config):
        return _fold_candidates(space, number, targets, config, (1,))
    name = list(space.designs)[number]
    held, rows = space.held_out[name], targets.rows
    cross = held.cross(rows)
    return [
        Candidate(name, penalty, partial(held.scores, rows, penalty, cross=cross), None)
        for penalty in penalties_of(config, rows.shape[1])
    ]


def _fold_candidates(
    space: FeatureSpace, number: int, targets: Targets, config: CleaningConfig, rounds: tuple[int, ...]
) -> Iterable[Candidate]:
    name, design = list(space.designs.items())[number]
    sums = targets.sums_of(number, design)
    shares = shares_of_sums(sums, design.sums.count)
    for round_number in rounds:
        for penalty in penalties_of(config, targets.rows.shape[1]):
            probes = solve_ridge(design.spectra, sums, [penalty], round_number)[0]
            values = partial(_fold_values, design, probes, shares)
            yield Candidate(name, penalty, values, partial(_fold_probes, number, probes, shares))


def penalties_of(config: CleaningConfig, num_classes: int) -> list[float]:
    """Return the values of c to choose among."""
    return [num_classes * value for value in config.teacher.lambdas or PENALTIES]


def _fold_values(
    design: Design, probes: tuple[LinearProbe, ...], shares: Float32Array, rows: IntArray | None
) -> Float32Array:
    """Out-of-fold scores less the class shares of what was learned from; those of all would hold a fold's own labels."""
    folds = design.folds if rows is None else design.folds[rows]
    return out_of_fold_logits(design, probes, rows) - shares[folds]


def _fold_probes(number: int, probes: tuple[LinearProbe, ...], shares: Float32Array, scale: float) -> FoldProbes:
    """The same for any samples, class shares and scale inside."""
    by = np.float32(scale)
    scaled = (LinearProbe(one.weights * by, (one.bias - share) * by) for one, share in zip(probes, shares, strict=True))
    return FoldProbes(number, tuple(scaled))


def _vote_candidates(space: FeatureSpace, targets: Targets, config: CleaningConfig) -> Iterable[Candidate]:
    """Each number of voters to choose among."""
    if space.neighbours is None:
        return
    votes, prior = targets.votes or votes_of(targets.rows), targets.prior
    for count in (config.neighbours.k,) if config.neighbours.k else VOTERS:
        values = votes_against_shares(votes(nearest_of(space.neighbours, count)), prior)
        yield Candidate("votes", float(count), partial(_rows_of, values), partial(Voters, votes, count, prior))


def _rows_of(values: Float32Array, rows: IntArray | None) -> Float32Array:
    return values if rows is None else values[rows]


def _with_noise(values: Float32Array, labels: GivenLabels) -> NoiseModel:
    return fit_noise_model(values, labels, is_even=True, steps=20)


def _plainly(values: Float32Array, labels: GivenLabels) -> NoiseModel:
    return fit_plain_model(values, labels, steps=8)


def judging_rows(order: IntArray, num_answers: int) -> IntArray:
    """Return the samples that judge candidates: as many as give 50,000 numbers, but from 1,000 to 10,000.

    Args:
        order: The N samples in the order in which they are taken to judge, int64, shape (N,).
        num_answers: K, or of several questions about the same samples all their answers.

    Returns:
        int64, shape (n,), ascending.
    """
    size = min(max(LEAST_SELECTION_ROWS, SELECTION_CELLS // num_answers), MOST_SELECTION_ROWS)
    return np.sort(order[:size])


def most_likely(
    candidates: Iterable[Candidate], rows: IntArray, labels: GivenLabels, noise_fit: NoiseFit = _with_noise
) -> Expert:
    """Return the candidate under which the noise model makes the given labels likeliest, scaled by its weight there.

    Args:
        candidates: At least one.
        rows: Samples that judge, int64, shape (n,), ascending.
        labels: Given labels of the N samples.
        noise_fit: Fits a noise model to one expert.

    Returns:
        The expert.

    Raises:
        ValueError: If there is no candidate.
    """
    judges = labels.take(rows)
    best: tuple[NoiseModel, Candidate] | None = None
    for candidate in candidates:
        model = noise_fit(candidate.values(rows)[None], judges)
        if best is None or model.log_likelihood > best[0].log_likelihood:
            best = model, candidate
    if best is None:
        raise ValueError("There is no candidate expert to choose among.")
    model, chosen = best
    scale = float(model.expert_weights[0])
    values = chosen.values(None) * np.float32(scale)
    return Expert(chosen.name, values, chosen.setting, model.log_likelihood, scale, chosen.scoring)
