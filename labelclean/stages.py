"""What cleaning learns from sums and a sample, in a form that can be applied to one block of samples at a time.

Choices are made on the rows of a sample by the functions that also serve data in memory; the
probes behind them are solved from the sums over all samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from labelclean.config import CleaningConfig
from labelclean.evidence import choose_noise_model, pattern_view
from labelclean.gram import Float32Array, Float64Array, TargetSums
from labelclean.labels import BoolArray, GivenLabels, IntArray
from labelclean.noise import NoiseModel, fit_noise_matrix, fit_plain_model, posterior, true_class_probs
from labelclean.probe import Design, LinearProbe, predict_logits, shares_of_sums, solve_ridge
from labelclean.refine import FittedReadings, fit_readings
from labelclean.scores import ScoreCurve, fit_score_curve, score_limit
from labelclean.space import FeatureSpace
from labelclean.views import View, sums_view


@dataclass(frozen=True)
class Stage:
    """A teacher or a student: its probes and the model that joins their scores.

    Attributes:
        probes: For each design (features, kernel rows) F probes whose outputs are views; probe f never saw fold f.
        plain: Model of the given labels on these views.
        noise: Model of the true class, on these views and on its pattern view where it has one.
        matrix: C, float64, shape (K, K).
    """

    probes: tuple[tuple[LinearProbe, ...], ...]
    plain: NoiseModel
    noise: NoiseModel
    matrix: Float64Array

    def probs(self, rows: Sequence[Float32Array], folds: IntArray) -> Float32Array:
        """Return P(true class | image) of some samples, their own label left out.

        Args:
            rows: For each design the rows of the samples, float32, shape (N, D) and (N, R), sorted by fold.
            folds: Fold of each sample, int64, shape (N,), ascending.

        Returns:
            float32, shape (N, K), rows sum to 1.
        """
        ends = np.searchsorted(folds, np.arange(len(self.probes[0])), side="right")
        num_classes = len(self.matrix)
        values = np.empty((len(rows), len(folds), num_classes), dtype=np.float32)
        for view, (design_rows, probes) in enumerate(zip(rows, self.probes, strict=True)):
            start = 0
            for probe, end in zip(probes, ends.tolist(), strict=True):
                values[view, start:end] = predict_logits(probe, design_rows[start:end])
                start = end
        if self.noise.pattern is not None:
            pattern = pattern_view(true_class_probs(self.plain, values), self.noise.pattern)
            values = np.concatenate([values, pattern[None]])
        return true_class_probs(self.noise, values)


@dataclass(frozen=True)
class Verdict:
    """What was found about some samples.

    Attributes:
        soft_labels: float32, shape (N, K), rows sum to 1.
        label_scores: float32, shape (N,), low = suspicious.
        is_label_issue: bool, shape (N,).
        other_scores: Probability of the given label by the noise model and by all readings, float32, shape (2, N).
    """

    soft_labels: Float32Array
    label_scores: Float32Array
    is_label_issue: BoolArray
    other_scores: Float32Array


@dataclass(frozen=True)
class Judge:
    """Turns the probabilities of teacher and student into scores and issues.

    Attributes:
        readings: What a disagreement may mean.
        scores: Rank to label score.
        hedged: Rank to the score that is held against the limit.
        limit: Hedged scores below it are issues.
        teacher_matrix: C of the teacher, float64, shape (K, K).
    """

    readings: FittedReadings
    scores: ScoreCurve
    hedged: ScoreCurve
    limit: float
    teacher_matrix: Float64Array

    def verdict(self, teacher_probs: Float32Array, student_probs: Float32Array, labels: GivenLabels) -> Verdict:
        """Return soft labels, scores and issues of some samples.

        Args:
            teacher_probs: float32, shape (N, K).
            student_probs: float32, shape (N, K).
            labels: Their given labels.

        Returns:
            The verdict, rows aligned with the labels.
        """
        sure = posterior(teacher_probs, labels, self.teacher_matrix)
        found = self.readings.read(sure, student_probs, labels)
        is_issue = self.hedged.scores(found.rank) < self.limit
        given, numbers = labels.given, np.arange(len(labels))
        others = np.stack([found.sure[numbers, given], found.hedged[numbers, given]])
        return Verdict(found.hedged, self.scores.scores(found.rank), is_issue, others)


def designs_of(space: FeatureSpace) -> list[tuple[str, Design]]:
    """Return name and design of the features and, where switched on, of the kernel rows."""
    found = [("ridge", space.design)]
    return found if space.curved is None else [*found, ("kernel", space.curved)]


def teacher_stage(
    space: FeatureSpace, sums: Sequence[TargetSums], labels: GivenLabels, config: CleaningConfig
) -> Stage:
    """Return the teacher (`cleaning.fit_teacher` without neighbours) from sums of given labels.

    Args:
        space: The sample, with sums and decompositions of all samples.
        sums: For each design the sums of all given labels, per fold.
        labels: Given labels of the sample.
        config: Section `teacher` is read.

    Returns:
        The stage.
    """
    views = [
        sums_view(name, design, one, space, labels, config, is_student=False)
        for (name, design), one in zip(designs_of(space), sums, strict=True)
    ]
    values = np.stack([view.values for view in views])
    plain = fit_plain_model(values, labels)
    _, noise, _ = choose_noise_model(values, labels, plain)
    return Stage(_probes(space, sums, views), plain, noise, noise.matrix)


def student_stage(
    space: FeatureSpace,
    sums: Sequence[TargetSums],
    targets: Float32Array,
    labels: GivenLabels,
    config: CleaningConfig,
    shrinkage: float,
) -> Stage:
    """Return the student (`views.student_probs`) from sums of the posterior of the true class.

    Args:
        space: The sample, with sums and decompositions of all samples.
        sums: For each design the sums of all posteriors, per fold.
        targets: Posterior of the sample, float32, shape (N, K).
        labels: Given labels of the sample.
        config: Section `teacher` is read.
        shrinkage: That of the teacher's noise model.

    Returns:
        The stage.
    """
    soft = GivenLabels(targets, labels.candidates)
    views = [
        sums_view(name, design, one, space, soft, config, is_student=True)
        for (name, design), one in zip(designs_of(space), sums, strict=True)
    ]
    values = np.stack([view.values for view in views])
    plain = fit_plain_model(values, soft)
    matrix = fit_noise_matrix(true_class_probs(plain, values), labels, shrinkage=shrinkage)
    return Stage(_probes(space, sums, views), plain, plain, matrix)


def fit_judge(teacher: Stage, student: Stage, space: FeatureSpace, labels: GivenLabels) -> Judge:
    """Return what turns probabilities into scores, fitted to the sample.

    Args:
        teacher: First stage.
        student: Last stage.
        space: The sample, rows sorted by fold.
        labels: Given labels of the sample.

    Returns:
        The judge.
    """
    rows = [design.unit_rows for _, design in designs_of(space)]
    first, last = teacher.probs(rows, space.design.folds), student.probs(rows, space.design.folds)
    sure = posterior(first, labels, teacher.matrix)
    fitted = fit_readings(last, labels, student.matrix, teacher.noise.shrinkage)
    found = fitted.read(sure, last, labels)
    given, numbers = labels.given, np.arange(len(labels))
    soft = found.hedged[numbers, given]
    scores = fit_score_curve(found.rank, (soft + sure[numbers, given]) / np.float32(2))
    hedged = fit_score_curve(found.rank, soft)
    return Judge(fitted, scores, hedged, score_limit(hedged.scores(found.rank)), teacher.matrix)


def _probes(
    space: FeatureSpace, sums: Sequence[TargetSums], views: Sequence[View]
) -> tuple[tuple[LinearProbe, ...], ...]:
    """The probes of chosen views, with class shares and scale inside."""
    found = []
    for (_, design), one, view in zip(designs_of(space), sums, views, strict=True):
        scale = np.float32(view.scale)
        shares = shares_of_sums(one, design.sums.count)
        probes = solve_ridge(design.spectra, one, [view.setting])[0]
        found.append(
            tuple(
                LinearProbe(probe.weights * scale, (probe.bias - share) * scale)
                for probe, share in zip(probes, shares, strict=True)
            )
        )
    return tuple(found)
