"""The student: from the teacher's evidence to soft labels, predicted labels, label scores and issues."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from labelclean.arrays import BoolArray, Float32Array, Float64Array, IntArray
from labelclean.cleaning.experts import (
    Fit,
    Targets,
    fit_experts,
    multi_round_expert,
    student_experts,
    teacher_experts,
    two_hot_expert,
)
from labelclean.cleaning.stage import Stage, vote_shares, votes_of
from labelclean.cleaning.teacher import Teacher, nothing_tells
from labelclean.config import METHODS, REFINEMENTS, CleaningConfig
from labelclean.errors import GateError
from labelclean.labels import GivenLabels
from labelclean.noise.model import fit_noise_matrix, fit_plain_model, posterior, true_class_probs
from labelclean.noise.readings import NO_LOOKS, AuditEvidence, has_looks
from labelclean.noise.scores import ErrorEstimate
from labelclean.noise.tally import Tally, tally_of
from labelclean.noise.targets import adaptive_targets, given_targets, two_hot_targets
from labelclean.noise.trust import JudgedLabels, Trust, fit_trust
from labelclean.probes.feature_space import FeatureSpace
from labelclean.probes.neighbours import mean_similarity

WITHOUT_FEATURES = ("posterior", "none")

Rule = Callable[[Stage, Float32Array, GivenLabels], Float32Array]
"""Targets of some samples, (B, K), from a stage, its log-odds of them, (E, B, K), and their labels."""


class Others(Protocol):
    """All samples, where there are more than those on which choices are made."""

    @property
    def given(self) -> Targets:
        """What the given labels of all samples teach."""

    @property
    def num_rounds(self) -> int:
        """How many rounds of student targets earlier nights have left; 1 where there are no earlier nights."""

    def targets(self, name: str, rows: Float32Array, fit: Fit, rule: Rule) -> Targets:
        """Return what the targets of all samples teach.

        Args:
            name: Names the pass.
            rows: Targets of the samples on which choices are made, float32, shape (n, K).
            fit: What the targets are made of.
            rule: Makes them for any samples.
        """


@dataclass(frozen=True)
class Refinement:
    """Refined labels; all arrays have one row per sample, in the order of the input.

    Attributes:
        method: The refinement that was used.
        why: One sentence that says why.
        judged: Soft labels, predicted classes, scores and issues.
        pred_probs: The student's P(true class | image), given label left out, float32, shape (N, K).
        fit: The experts behind them and the models that join these.
        trust: What made the labels: readings, how far each is believed, and the score's limit.
        tally: What is counted over all samples.
        neighbour_votes: Share of the neighbours' given labels by class, float32, shape (N, K); None without neighbours.
        neighbour_similarity: Mean cosine similarity to the neighbours, float32, shape (N,); None without neighbours.
        duplicate_sets: Number of the near-duplicate set, int64, shape (N,), -1 for samples in none.
        rounds: What the student of each round learned from all samples.
    """

    method: str
    why: str
    judged: JudgedLabels
    pred_probs: Float32Array
    fit: Fit
    trust: Trust
    tally: Tally
    neighbour_votes: Float32Array | None
    neighbour_similarity: Float32Array | None
    duplicate_sets: IntArray
    rounds: tuple[Targets, ...] = ()

    @property
    def noise_matrix(self) -> Float64Array:
        """C, float64, shape (K, K), row true class, column given class."""
        return self.fit.matrix

    @property
    def soft_labels(self) -> Float32Array:
        """Probability of the true class, the given label counted as evidence, float32, shape (N, K)."""
        return self.judged.soft_labels

    @property
    def predicted(self) -> IntArray:
        """Best class of the soft label, int64, shape (N,)."""
        return self.judged.predicted

    @property
    def label_scores(self) -> Float32Array:
        """Probability that the given label is right, float32, shape (N,), low = suspicious."""
        return self.judged.label_scores

    @property
    def is_label_issue(self) -> BoolArray:
        """Worth a look, bool, shape (N,)."""
        return self.judged.is_label_issue

    @property
    def estimated_errors(self) -> ErrorEstimate:
        """How many labels are probably wrong."""
        return self.tally.errors(self.trust.readings)


def refine_labels(
    space: FeatureSpace | None,
    labels: GivenLabels,
    teacher: Teacher,
    config: CleaningConfig,
    *,
    allowed: Collection[str] | None = None,
    earlier: AuditEvidence = NO_LOOKS,
    others: Others | None = None,
) -> Refinement:
    """Return soft labels, predicted labels, label scores and issues.

    Args:
        space: Features, folds and neighbours; None when only probabilities are known.
        labels: Given labels of the N samples on which choices are made.
        teacher: The teacher of the same samples.
        config: `refine` and `gates.on_refusal` are read.
        allowed: Refinements that the gates allow; default: all that the data permit.
        earlier: Random looks at samples of earlier runs.
        others: All samples; default: these N are all.

    Returns:
        The refinement of the N samples.

    Raises:
        GateError: If `refine.method` names a method that is not allowed and `gates.on_refusal`
            is `stop`.
    """
    methods = METHODS if space is not None else WITHOUT_FEATURES
    method, why = chosen_method(methods, labels, teacher, config, allowed, is_told=has_looks(labels, earlier))
    fit, rounds = _student(method, space, labels, teacher, config, others)
    probs = fit.probs
    trust = fit_trust(
        probs,
        teacher.pred_probs,
        labels,
        fit.matrix,
        is_even=(teacher if method == "posterior" else fit).noise.is_even,
        is_vouched=teacher.is_vouched,
        changes_labels=method != "none",
        exceeds_chance=teacher.exceeds_chance,
        earlier=earlier,
    )
    judged = trust.judge(probs, teacher.pred_probs, labels)
    near = None if space is None else space.neighbours
    votes = (None if others is None else others.given.votes) or votes_of(given_targets(labels))
    return Refinement(
        method=method,
        why=why,
        judged=judged,
        pred_probs=probs,
        fit=fit,
        trust=trust,
        tally=tally_of(labels, judged, teacher.pred_probs),
        neighbour_votes=None if near is None else vote_shares(votes(near)),
        neighbour_similarity=None if near is None else mean_similarity(near),
        duplicate_sets=np.full(len(labels), -1) if space is None else space.duplicate_sets,
        rounds=rounds,
    )


def _student(
    method: str,
    space: FeatureSpace | None,
    labels: GivenLabels,
    teacher: Teacher,
    config: CleaningConfig,
    others: Others | None,
) -> tuple[Fit, tuple[Targets, ...]]:
    """The student of a refinement, and what it learned in each of its rounds."""
    if space is None or method == "none":
        return teacher.fit, ()
    if method == "posterior":  # no student of our features may overrule a model that the user brings
        return _posterior_student(space, labels, teacher, config, others)
    if method == "multi_round":
        given = Targets(given_targets(labels)) if others is None else others.given
        experts = [multi_round_expert(space, given, labels, config)]
    elif method == "adaptive":
        rows = adaptive_targets(teacher.pred_probs, labels)
        experts = teacher_experts(space, _targets(others, method, rows, teacher.fit, _adaptive), labels, config)
    else:
        experts = [
            two_hot_expert(space, two_hot_targets(teacher.pred_probs, labels, config.refine.weights), labels, config)
        ]
    return fit_experts(experts, labels, space.selection), ()


def _posterior_student(
    space: FeatureSpace, labels: GivenLabels, teacher: Teacher, config: CleaningConfig, others: Others | None
) -> tuple[Fit, tuple[Targets, ...]]:
    """A student who learns the posterior of the true class, as often as `refine.rounds` says."""
    fit, rounds, is_even = teacher.fit, [], teacher.noise.is_even
    for number in range(0 if teacher.is_vouched else config.refine.rounds or 1):
        known = posterior(fit.probs, labels, fit.matrix)
        targets = _targets(others, f"student-{number + 1}", known, fit, posterior_targets)
        experts = tuple(student_experts(space, targets, labels, config))
        values = np.stack([expert.values for expert in experts])
        plain = fit_plain_model(values, GivenLabels(known, labels.candidates))
        matrix = fit_noise_matrix(true_class_probs(plain, values), labels, is_even=is_even)
        fit = Fit(experts, values, plain, plain, matrix)
        rounds.append(targets)
    return fit, tuple(rounds)


def _targets(others: Others | None, name: str, rows: Float32Array, fit: Fit, rule: Rule) -> Targets:
    return Targets(rows) if others is None else others.targets(name, rows, fit, rule)


def posterior_targets(stage: Stage, values: Float32Array, labels: GivenLabels) -> Float32Array:
    """Return what a stage believes of some samples, their labels counted as evidence (`Rule`)."""
    return posterior(stage.true_probs(values), labels, stage.matrix)


def _adaptive(stage: Stage, values: Float32Array, labels: GivenLabels) -> Float32Array:
    return adaptive_targets(stage.given_probs(values), labels)


def chosen_method(
    methods: Collection[str],
    labels: GivenLabels,
    teacher: Teacher,
    config: CleaningConfig,
    allowed: Collection[str] | None,
    *,
    is_told: bool = False,
) -> tuple[str, str]:
    """Return the refinement to use and the sentence that says why.

    Args:
        methods: Those that can be computed here.
        labels: Given labels.
        teacher: Their teacher.
        config: `refine` and `gates.on_refusal` are read.
        allowed: Refinements that the gates allow; None: all.
        is_told: Whether random looks tell of labels where images do not.

    Returns:
        Method and sentence.

    Raises:
        GateError: If `refine.method` names a method that is not allowed and `gates.on_refusal` is `stop`.
    """
    if not (teacher.exceeds_chance or is_told):
        return "none", nothing_tells(teacher)
    possible = set(methods)
    if labels.num_classes == 2:
        possible.discard("two_hot")
    if allowed is not None:
        possible &= {*allowed, "none"}
    wanted = config.refine.method
    if wanted in possible:
        return wanted, f"refine.method asks for {wanted!r}."
    best = next((name for name in reversed(REFINEMENTS) if name in possible), "none")
    if wanted == "auto":
        return best, (
            f"auto takes {best!r}, the strongest of the refinements that this data allows; with a noise matrix "
            f"a given label has a log-likelihood of {teacher.noise.log_likelihood:.4f} nats, without one "
            f"{teacher.log_likelihood:.4f}."
        )
    reason = "the gates or the inputs rule it out"
    if wanted == "two_hot" and labels.num_classes == 2:
        reason = "with two classes both always stand in the pair"
    found = f"refine.method: {wanted!r} cannot be used, because {reason}"
    if config.gates.on_refusal == "stop":
        raise GateError(
            f"{found}; this data allows {', '.join(repr(name) for name in sorted(possible))} "
            f"(gates.on_refusal = stop). Set refine.method to one of these or to 'auto'."
        )
    return best, f"{found}; fell back to {best!r} (gates.on_refusal = fall_back)."
