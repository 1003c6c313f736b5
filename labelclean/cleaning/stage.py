"""What cleaning learns from sums and a sample, in a form that can be applied to one block of samples at a time.

Choices are made on the rows of a sample by the functions that also serve data in memory; the
probes behind them are solved from the sums over all samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from labelclean.arrays import Float32Array, Float64Array, IntArray
from labelclean.cleaning.views import View, Votes, sums_view, sums_vote_view, votes_against_shares
from labelclean.config import CleaningConfig
from labelclean.labels import GivenLabels
from labelclean.noise.model import NoiseModel, fit_noise_matrix, fit_plain_model, true_class_probs
from labelclean.noise.model_choice import choose_noise_model, pattern_view
from labelclean.noise.readings import NO_LOOKS, AuditEvidence
from labelclean.noise.trust import Trust, fit_trust
from labelclean.probes.feature_space import FeatureSpace
from labelclean.probes.neighbours import Neighbours, nearest_of
from labelclean.probes.ridge import LinearProbe, fit_one_ridge, log_shares_of_total, shares_of_sums
from labelclean.probes.sums import TargetSums


@dataclass(frozen=True)
class Voters:
    """The neighbours' votes as a view of any samples.

    Attributes:
        votes: Votes of any neighbours.
        count: How many of the nearest vote.
        prior: Log class shares of all that vote, float64, shape (K,).
        scale: What the log of the vote shares is multiplied by.
    """

    votes: Votes
    count: int
    prior: Float64Array
    scale: float

    def values(self, near: Neighbours) -> Float32Array:
        """Return the view of some samples, float32, shape (N, K), from their neighbours, numbered over all samples."""
        values = votes_against_shares(self.votes(nearest_of(near, self.count)), self.prior)
        return values * np.float32(self.scale)

    def shares(self, near: Neighbours) -> Float32Array:
        """Return the class shares of all neighbours' votes, float32, shape (N, K); a row without neighbours is 0."""
        votes = self.votes(near)
        total = votes.sum(axis=1, keepdims=True)
        return np.asarray(votes / np.where(total > 0, total, 1.0), dtype=np.float32)


@dataclass(frozen=True)
class Stage:
    """A teacher or a student: its probes, its neighbours' votes and the model that joins their scores.

    Attributes:
        probes: For each design (features, kernel rows) F probes whose outputs are views; probe f never saw fold f.
        plain: Model of the given labels on these views.
        noise: Model of the true class, on these views and on its pattern view where it has one.
        matrix: C, float64, shape (K, K).
        penalty: c of the probes on the features.
        voters: The last view; None without neighbours.
    """

    probes: tuple[tuple[LinearProbe, ...], ...]
    plain: NoiseModel
    noise: NoiseModel
    matrix: Float64Array
    penalty: float
    voters: Voters | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """What each view is."""
        return (*("ridge", "kernel")[: len(self.probes)], *(() if self.voters is None else ("votes",)))

    def values(self, rows: Sequence[Float32Array], folds: IntArray, near: Neighbours | None = None) -> Float32Array:
        """Return the views of some samples, their own label left out.

        Args:
            rows: For each design the rows of the samples, float32, shape (N, D) and (N, R), sorted by fold.
            folds: Fold of each sample, int64, shape (N,), ascending.
            near: Their neighbours, numbered over all samples; needed where neighbours vote.

        Returns:
            float32, shape (V, N, K).
        """
        ends = np.searchsorted(folds, np.arange(len(self.probes[0])), side="right")
        values = np.empty((len(self.names), len(folds), len(self.matrix)), dtype=np.float32)
        if self.voters is not None:
            if near is None:
                raise ValueError("a stage whose neighbours vote must be given the samples' neighbours, but got None.")
            values[-1] = self.voters.values(near)
        for view, (design_rows, probes) in enumerate(zip(rows, self.probes, strict=True)):
            start = 0
            for probe, end in zip(probes, ends.tolist(), strict=True):
                np.matmul(design_rows[start:end], probe.weights, out=values[view, start:end])
                values[view, start:end] += probe.bias
                start = end
        return values

    def given_probs(self, values: Float32Array) -> Float32Array:
        """Return P(given class | image) from views, float32, shape (N, K), rows sum to 1."""
        return true_class_probs(self.plain, values)

    def true_probs(self, values: Float32Array) -> Float32Array:
        """Return P(true class | image) from views, float32, shape (N, K), rows sum to 1."""
        if self.noise.pattern is not None:
            pattern = pattern_view(self.given_probs(values), self.noise.pattern)
            values = np.concatenate([values, pattern[None]])
        return true_class_probs(self.noise, values)

    def probs(self, rows: Sequence[Float32Array], folds: IntArray, near: Neighbours | None = None) -> Float32Array:
        """Return P(true class | image) of some samples; arguments as for `values`."""
        return self.true_probs(self.values(rows, folds, near))


def teacher_stage(
    space: FeatureSpace,
    sums: Sequence[TargetSums],
    labels: GivenLabels,
    config: CleaningConfig,
    votes: Votes | None = None,
) -> Stage:
    """Return the teacher (`clean.fit_teacher`) from sums of given labels.

    Args:
        space: The sample, with sums and decompositions of all samples.
        sums: For each design the sums of all given labels, per fold.
        labels: Given labels of the sample.
        config: Sections `teacher` and `neighbours` are read.
        votes: Votes of any neighbours, with the given labels of all samples; None: neighbours do not vote.

    Returns:
        The stage.
    """
    views = _views(space, sums, labels, config, votes, is_student=False)
    values = np.stack([view.values for view in views])
    plain = fit_plain_model(values, labels)
    noise = choose_noise_model(values, labels, plain, space.selection)[1]
    voters = _voters(votes, sums, views)
    return Stage(_probes(space, sums, views), plain, noise, noise.matrix, views[0].setting, voters)


def _views(
    space: FeatureSpace,
    sums: Sequence[TargetSums],
    labels: GivenLabels,
    config: CleaningConfig,
    votes: Votes | None,
    *,
    is_student: bool,
) -> list[View]:
    """The views of the sample: probes solved from the sums and, where there are neighbours, their votes."""
    views = [
        sums_view(name, design, one, space, labels, config, is_student=is_student)
        for (name, design), one in zip(space.designs.items(), sums, strict=True)
    ]
    if votes is not None:
        views.append(sums_vote_view(votes, _total(sums), space, labels, config, is_student=is_student))
    return views


def _voters(votes: Votes | None, sums: Sequence[TargetSums], views: Sequence[View]) -> Voters | None:
    """The last of the chosen views, to be applied to any samples."""
    if votes is None:
        return None
    return Voters(votes, int(views[-1].setting), log_shares_of_total(_total(sums)), views[-1].scale)


def _total(sums: Sequence[TargetSums]) -> Float64Array:
    """Sum of all targets, float64, shape (K,)."""
    return np.asarray(sums[0].total.sum(axis=0), dtype=np.float64)


def student_stage(
    space: FeatureSpace,
    sums: Sequence[TargetSums],
    targets: Float32Array,
    labels: GivenLabels,
    config: CleaningConfig,
    is_even: bool,
    votes: Votes | None = None,
) -> Stage:
    """Return the student (`views.student_probs`) from sums of the posterior of the true class.

    Args:
        space: The sample, with sums and decompositions of all samples.
        sums: For each design the sums of all posteriors, per fold.
        targets: Posterior of the sample, float32, shape (N, K).
        labels: Given labels of the sample.
        config: Sections `teacher` and `neighbours` are read.
        is_even: That of the teacher's noise model.
        votes: Votes of any neighbours, with the posteriors of all samples; None: neighbours do not vote.

    Returns:
        The stage.
    """
    soft = GivenLabels(targets, labels.candidates)
    views = _views(space, sums, soft, config, votes, is_student=True)
    values = np.stack([view.values for view in views])
    plain = fit_plain_model(values, soft)
    matrix = fit_noise_matrix(true_class_probs(plain, values), labels, is_even=is_even)
    return Stage(_probes(space, sums, views), plain, plain, matrix, views[0].setting, _voters(votes, sums, views))


def fit_stage_trust(
    teacher: Stage,
    student: Stage,
    space: FeatureSpace,
    labels: GivenLabels,
    *,
    changes_labels: bool,
    exceeds_chance: bool,
    earlier: AuditEvidence = NO_LOOKS,
) -> Trust:
    """Return what turns probabilities into labels, fitted to the sample.

    Args:
        teacher: First stage.
        student: Last stage.
        space: The sample, rows sorted by fold.
        labels: Given labels of the sample.
        changes_labels: False where `refine.method` is `none`.
        exceeds_chance: Whether images tell more of labels than chance.
        earlier: Random looks at samples of earlier runs.

    Returns:
        The fitted trust.
    """
    rows = [design.unit_rows for design in space.designs.values()]
    values = teacher.values(rows, space.design.folds, space.neighbours)
    probs = (
        teacher.true_probs(values) if student is teacher else student.probs(rows, space.design.folds, space.neighbours)
    )
    given_probs, is_even = teacher.given_probs(values), teacher.noise.is_even
    return fit_trust(
        probs,
        given_probs,
        labels,
        student.matrix,
        is_even=is_even,
        changes_labels=changes_labels,
        exceeds_chance=exceeds_chance,
        earlier=earlier,
    )


def _probes(
    space: FeatureSpace, sums: Sequence[TargetSums], views: Sequence[View]
) -> tuple[tuple[LinearProbe, ...], ...]:
    """The probes of chosen views, with class shares and scale inside."""
    found = []
    for design, one, view in zip(space.designs.values(), sums, views[: len(sums)], strict=True):
        scale = np.float32(view.scale)
        shares = shares_of_sums(one, design.sums.count)
        probes = fit_one_ridge(design, one, view.setting)
        found.append(
            tuple(
                LinearProbe(probe.weights * scale, (probe.bias - share) * scale)
                for probe, share in zip(probes, shares, strict=True)
            )
        )
    return tuple(found)
