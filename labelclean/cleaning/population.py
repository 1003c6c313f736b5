"""All samples, wherever they lie: what is learned from sums over them, and chosen on some of them.

Choices are made on the samples whose hashes are smallest, up to `teacher.choice_rows`. Where these are all, what is found
on them is the answer; where there are more, passes over the shards sum up what probes learn and neighbours vote, and what
was chosen scores any block (`Fit.stage`). Earlier nights add their sums.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from labelclean.arrays import BoolArray, Float32Array, Float64Array, FloatArray, IntArray
from labelclean.cleaning.chance import Unvouched, find_unvouched
from labelclean.cleaning.experts import Fit, Targets
from labelclean.cleaning.memory import choice_rows
from labelclean.cleaning.neighbour_pass import find_neighbours, joined, neighbours_of
from labelclean.cleaning.neighbour_votes import given_votes, kept_votes, kept_votes_parts
from labelclean.cleaning.passes import Each, ShardSet, sums_over
from labelclean.cleaning.power import choose_power, powered
from labelclean.cleaning.sample import Chosen, choose_sample, read_sample, sample_at
from labelclean.cleaning.shard_labels import ShardLabels
from labelclean.cleaning.shards import Shard
from labelclean.cleaning.student import Others, Refinement, Rule, posterior_targets, refine_labels
from labelclean.cleaning.teacher import Teacher, fit_teacher, teacher_from_pred_probs
from labelclean.config import CleaningConfig
from labelclean.labels import GivenLabels
from labelclean.noise.model import posterior
from labelclean.noise.readings import NO_LOOKS, AuditEvidence
from labelclean.noise.targets import given_targets
from labelclean.probes.feature_space import Centring, FeatureSpace, landmark_kernel, space_of_keys
from labelclean.probes.kernel import Kernel, raw_kernel_rows
from labelclean.probes.ridge import Design, build_design, design_of_sums
from labelclean.probes.sums import (
    FeatureSums,
    TargetSums,
    build_target_sums,
    centred_unit_rows,
    feature_mean,
    merged_feature_sums,
    merged_target_sums,
    unit_block,
)


@dataclass(frozen=True)
class LearnedSums:
    """All that a later night needs of the samples so far; sums of nights with the same centring add.

    Attributes:
        features: For each design (features, kernel rows) n, X'1 and X'X per fold.
        given: For each design X'Y of the given labels.
        rounds: For each student round and design X'Y of its targets.
        kernel: Turns unit rows into kernel rows; None if switched off.
        power: Features were taken as sign(x) |x|^power.
    """

    features: tuple[FeatureSums, ...]
    given: tuple[TargetSums, ...]
    rounds: tuple[tuple[TargetSums, ...], ...]
    kernel: Kernel | None
    power: float = 1.0

    @property
    def centring(self) -> Centring:
        """What tonight's features are turned into rows by."""
        kernel_mean = None if self.kernel is None else self.features[1].mean
        return Centring(self.features[0].mean, self.kernel, kernel_mean)


@dataclass(frozen=True)
class Earlier:
    """The samples of earlier nights, known by their sums alone, beside all samples of tonight (`student.Others`).

    Attributes:
        reference: Sums of earlier nights.
        space: Tonight's samples and those that the reference kept.
        is_new: Which of these are not in its sums, bool, shape (N,).
        given: As in `student.Others`.
    """

    reference: LearnedSums
    space: FeatureSpace
    is_new: IntArray
    given: Targets

    @property
    def num_rounds(self) -> int:
        """As in `student.Others`."""
        return len(self.reference.rounds)

    def targets(self, name: str, rows: Float32Array, fit: Fit, rule: Rule) -> Targets:
        """Return what the targets of tonight and of earlier nights teach; only posteriors were kept of these."""
        before = self.reference.rounds[_round(name)]
        return Targets(rows, _merged(before, new_sums(self.space, self.is_new, rows)))


@dataclass(frozen=True)
class Population:
    """The samples of all shards (`student.Others`).

    Attributes:
        shard_set: The shards.
        each: Applies a function to all of them: `map`, or a cluster.
        reference: Sums of earlier nights; None: there are none.
        given: As in `student.Others`.
    """

    shard_set: ShardSet
    each: Each
    reference: LearnedSums | None
    given: Targets

    @property
    def num_rounds(self) -> int:
        """As in `student.Others`."""
        return 1 if self.reference is None else len(self.reference.rounds)

    def targets(self, name: str, rows: Float32Array, fit: Fit, rule: Rule) -> Targets:
        """Return what the targets of all samples teach: one pass over the shards."""
        kept = kept_votes_parts(self.shard_set, name) if self.shard_set.lists else ()
        _, sums, total = sums_over(self.shard_set, name, (fit.stage, rule), self.each, kept)
        votes = kept_votes(self.shard_set, name, kept) if kept else None
        if self.reference is not None:
            sums = _merged(self.reference.rounds[_round(name)], sums)
        return Targets(rows, sums, votes, total)


@dataclass(frozen=True)
class Taught:
    """The teacher and all that the student needs.

    Attributes:
        shard_set: The shards; its lists and joined labels are there only where the sample does not hold all samples.
        chosen: The sample on which choices are made.
        features: Its features, to the power that was chosen, shape (n, D).
        space: Its rows, neighbours and near-duplicates; sums are those of all samples.
        labels: Its given labels; those that nothing can vouch for stand.
        unvouched: Samples that nothing outside their group can vouch for; None where a model of the user's own does.
        teacher: The teacher.
        others: All samples, where there are more than the sample, or earlier nights.
    """

    shard_set: ShardSet
    chosen: Chosen
    features: FloatArray = field(repr=False)
    space: FeatureSpace
    labels: GivenLabels
    unvouched: Unvouched | None
    teacher: Teacher
    others: Others | None


@dataclass(frozen=True)
class Learned:
    """Teacher and student.

    Attributes:
        taught: The teacher.
        refinement: What the student makes of the sample.
        speaks: Images that speak for their part where parts are judged (`parts.judge_parts`), bool, shape (N,), one of each;
            None: every sample speaks for itself.
    """

    taught: Taught
    refinement: Refinement
    speaks: BoolArray | None = None


@dataclass(frozen=True)
class Labelled:
    """Feature shards, and the labels that their samples have.

    Attributes:
        shards: The shards.
        labels: Labels of each, or the file that holds them (`shard_labels`).
        num_classes: K.
    """

    shards: Sequence[Shard]
    labels: Sequence[Path | ShardLabels]
    num_classes: int


@dataclass(frozen=True)
class Setting:
    """What holds for all that is learned in one run.

    Attributes:
        config: Sections `neighbours`, `teacher` and `gates` are read.
        seed: Draws the bootstrap of the stability check.
        sample_rows: Samples on which choices are made, at most.
        folder: Where checkpoints lie; nothing is left there where the sample holds all samples.
        digest: Of everything that a result hangs on.
        device: Torch device of sums and neighbour search.
        each: Applies a function to all shards: `map`, or a cluster.
        num_questions: How many questions the samples are asked in all (`FeatureSpace.num_questions`).
    """

    config: CleaningConfig
    seed: int
    sample_rows: int
    folder: Path
    digest: str
    device: str = "cpu"
    each: Each = map
    num_questions: int = 1


def learn_teacher(
    labelled: Labelled,
    setting: Setting,
    *,
    reference: LearnedSums | None = None,
    like: Taught | None = None,
    measured: Float64Array | None = None,
) -> Taught:
    """Return the teacher of some samples.

    Args:
        labelled: The samples.
        setting: What holds for the run.
        reference: Sums of earlier nights, to which these samples are added.
        like: The teacher of another question about the same samples, with as many answers: features, neighbours and X'X
            are taken from it. It goes with no reference.
        measured: What inspectors were measured to do (`model.measured_prior`), shape (K, K); None: nobody measured.

    Returns:
        The teacher.
    """
    config, labels = setting.config, tuple(labelled.labels)
    chosen = _with_measured(choose_sample(labels, labelled.num_classes, setting.sample_rows), measured)
    if like is not None:
        shard_set = replace(
            like.shard_set, labels=labels, folder=setting.folder, lists=(), label_free=like.shard_set.shared
        )
        if chosen.is_whole:
            return _taught_on(shard_set, chosen, like.features, like.space, setting, None)
        return _taught_in_passes(shard_set, chosen, like.features, like.space, setting, None, with_grams=False)
    features = read_sample(labelled.shards, chosen)
    power = choose_power(features, chosen.keys, [chosen.labels], config) if reference is None else reference.power
    features = powered(features, power)
    centring = None if reference is None else reference.centring
    shard_set = ShardSet(
        tuple(labelled.shards),
        labels,
        labelled.num_classes,
        config.teacher.folds,
        power,
        Centring(np.empty(0)),
        setting.folder,
        setting.digest,
        setting.device,
    )
    if chosen.is_whole:
        space = space_of_keys(features, chosen.keys, config, device=setting.device, centring=centring)
        space = replace(space, num_questions=setting.num_questions)
        return _taught_on(shard_set, chosen, features, space, setting, reference)
    space, centring = _sample_space(features, chosen, config, centring)
    space = replace(space, num_questions=setting.num_questions)
    shard_set = replace(shard_set, centring=centring)
    return _taught_in_passes(shard_set, chosen, features, space, setting, reference, with_grams=True)


def _with_measured(chosen: Chosen, measured: Float64Array | None) -> Chosen:
    """The same; the noise model of its labels knows what inspectors were measured to do."""
    return replace(chosen, labels=replace(chosen.labels, measured=measured))


def _taught_on(
    shard_set: ShardSet,
    chosen: Chosen,
    features: FloatArray,
    space: FeatureSpace,
    setting: Setting,
    reference: LearnedSums | None,
) -> Taught:
    """The teacher of samples whose space is there."""
    labels, others, unvouched = chosen.labels, None, None
    if chosen.pred_probs is None:
        unvouched = find_unvouched(labels.given, labels.num_classes, space.groups, space.duplicate_sets)
        labels = unvouched.standing(labels)
    if reference is not None:
        is_new = np.flatnonzero(~chosen.is_old)
        grams = [
            merged_feature_sums(
                before, build_design(one.unit_rows[is_new], one.folds[is_new], one.num_folds, one.sums.mean).sums
            )
            for before, one in zip(reference.features, space.designs.values(), strict=True)
        ]
        space = _with_sums(space, grams)
        rows = given_targets(labels)
        given = Targets(rows, _merged(reference.given, new_sums(space, is_new, rows)))
        others = Earlier(reference, space, is_new, given)
    teacher = _teacher(space, labels, chosen, setting, others)
    return Taught(shard_set, chosen, features, space, labels, unvouched, teacher, others)


def _taught_in_passes(
    shard_set: ShardSet,
    chosen: Chosen,
    features: FloatArray,
    space: FeatureSpace,
    setting: Setting,
    reference: LearnedSums | None,
    *,
    with_grams: bool,
) -> Taught:
    """The teacher where there are more samples than those on which choices are made; the space has its sums, or needs them."""
    config, each, recall = setting.config, setting.each, 1.0
    if config.neighbours.method != "none":
        shard_set, recall = find_neighbours(shard_set, chosen, space.design.unit_rows, config, each)
    shard_set, unvouched = joined(shard_set, config, is_vouched=chosen.pred_probs is not None, each=each)
    measured = chosen.labels.measured
    chosen = sample_at(shard_set.labels, shard_set.num_classes, chosen.parts, chosen.rows, chosen.num_samples)
    chosen = _with_measured(chosen, measured)
    grams, sums, total = sums_over(shard_set, "given", None, each, with_grams=with_grams)
    if reference is not None:
        grams = [merged_feature_sums(*both) for both in zip(reference.features, grams, strict=True)]
        sums = _merged(reference.given, sums)
    if with_grams:
        space = _with_sums(
            replace(
                space,
                design=replace(space.design, folds=chosen.keys.folds),
                curved=None if space.curved is None else replace(space.curved, folds=chosen.keys.folds),
                neighbours=neighbours_of(shard_set, chosen, recall) if shard_set.lists else None,
                duplicate_sets=chosen.duplicate_sets,
                groups=chosen.keys.groups,
                buckets=chosen.keys.buckets,
            ),
            grams,
        )
    labels = chosen.labels
    given = Targets(given_targets(labels), sums, given_votes(shard_set) if shard_set.lists else None, total)
    population = Population(shard_set, each, reference, given)
    teacher = _teacher(space, labels, chosen, setting, population)
    return Taught(shard_set, chosen, features, space, labels, unvouched, teacher, population)


def _teacher(
    space: FeatureSpace, labels: GivenLabels, chosen: Chosen, setting: Setting, others: Others | None
) -> Teacher:
    if chosen.pred_probs is not None:
        return teacher_from_pred_probs(chosen.pred_probs, labels, setting.config)
    given = None if others is None else others.given
    return fit_teacher(space, labels, setting.config, seed=setting.seed, given=given)


def _sample_space(
    features: FloatArray, chosen: Chosen, config: CleaningConfig, centring: Centring | None
) -> tuple[FeatureSpace, Centring]:
    """The sample's rows with no sums yet, and what makes rows of any samples."""
    mean = feature_mean(features) if centring is None else centring.mean
    rows, folds, order = unit_block(features, mean), chosen.keys.folds, chosen.keys.order
    kernel = None if centring is None else centring.kernel
    if centring is None and min(config.teacher.landmarks, len(rows)) >= 2:
        kernel = landmark_kernel(rows, order, config)
    curved, kernel_mean = None, None
    if kernel is not None:
        near = raw_kernel_rows(kernel, rows)
        kernel_mean = feature_mean(near) if centring is None or centring.kernel_mean is None else centring.kernel_mean
        near -= kernel_mean.astype(np.float32)
        curved = Design(near, folds, _no_sums(len(kernel_mean)), ())
    space = FeatureSpace(
        design=Design(rows, folds, _no_sums(len(mean)), ()),
        curved=curved,
        kernel=kernel,
        neighbours=None,
        duplicate_sets=chosen.duplicate_sets,
        groups=chosen.keys.groups,
        buckets=chosen.keys.buckets,
        selection=order,
    )
    return space, Centring(mean, kernel, kernel_mean)


def learn_student(
    taught: Taught,
    config: CleaningConfig,
    *,
    allowed: Collection[str] | None = None,
    earlier: AuditEvidence = NO_LOOKS,
) -> Learned:
    """Return student and trust.

    Args:
        taught: The teacher.
        config: Sections `teacher`, `neighbours`, `refine` and `gates` are read.
        allowed: Refinements that the gates allow; default: all that the data permit.
        earlier: Random looks at samples of earlier runs.

    Returns:
        All that `verdicts.write_parts` needs.

    Raises:
        GateError: As `student.refine_labels`.
    """
    refinement = refine_labels(
        taught.space, taught.labels, taught.teacher, config, allowed=allowed, earlier=earlier, others=taught.others
    )
    return Learned(taught, refinement)


def setting_faults(config: CleaningConfig, num_samples: int, num_classes: int) -> list[str]:
    """Return what is asked for and needs all samples in memory, where there are more than that.

    Args:
        config: Sections `neighbours` and `teacher` are read.
        num_samples: N.
        num_classes: K.

    Returns:
        Half sentences; none where all can be done.
    """
    rows, faults = choice_rows(config, num_classes), []
    if num_samples > rows:
        most = f"with more than {rows:,} samples (teacher.choice_rows), and there are {num_samples:,}"
        if config.teacher.left_out == "group":
            faults.append(f"teacher.left_out must be auto or fold {most}: sums are kept by fold")
        if config.neighbours.method == "exact":
            faults.append(f"neighbours.method must be auto, index or none {most}: exact compares all pairs")
    return faults


def learned_sums(learned: Learned) -> LearnedSums:
    """Return what a run leaves for the nights after it.

    Args:
        learned: Teacher and student.

    Returns:
        The sums, the reference's included.
    """
    taught = learned.taught
    power, space = taught.shard_set.power, taught.space
    targets = learned.refinement.rounds or _teachers_rounds(taught)
    if taught.others is not None:
        given, rounds = taught.others.given.sums, tuple(one.sums for one in targets if one.sums is not None)
        if given is None or len(rounds) < len(targets):
            raise ValueError("the sums of all samples are needed, but there are none.")
        return LearnedSums(tuple(one.sums for one in space.designs.values()), given, rounds, space.kernel, power)
    mean = space.design.sums.mean
    if space.design.unit_rows.shape[1] < len(mean):  # in coordinates of their own span, that mean nothing to others
        unit_rows = centred_unit_rows(taught.features, mean)
        kernel = None if space.kernel is None else replace(space.kernel, seats=_seats(space.kernel, unit_rows, space))
        design = build_design(unit_rows, space.design.folds, space.design.num_folds, mean)
        space = replace(space, design=design, kernel=kernel)
    everyone = np.arange(len(space))
    given = new_sums(space, everyone, given_targets(taught.labels))
    student = tuple(new_sums(space, everyone, one.rows) for one in targets)
    return LearnedSums(tuple(one.sums for one in space.designs.values()), given, student, space.kernel, power)


def _teachers_rounds(taught: Taught) -> tuple[Targets, ...]:
    """What a student would learn from the teacher, where none did: later nights may have one."""
    fit, others = taught.teacher.fit, taught.others
    rows = posterior(fit.probs, taught.labels, fit.matrix)
    if others is None:
        return (Targets(rows),)
    names = (f"student-{number + 1}" for number in range(others.num_rounds))
    return tuple(others.targets(name, rows, fit, posterior_targets) for name in names)


def _seats(kernel: Kernel, unit_rows: Float32Array, space: FeatureSpace) -> Float64Array:
    """The kernel's landmarks among the samples: distances, and so the kernel's coordinates, are the same in both."""
    return unit_rows[np.sort(space.selection[: len(kernel.seats)])].astype(np.float64)


def new_sums(space: FeatureSpace, rows: IntArray, targets: Float32Array) -> tuple[TargetSums, ...]:
    """Return for each design the sums of the targets of some samples."""
    return tuple(
        build_target_sums(design.unit_rows[rows], targets[rows], design.folds[rows], design.num_folds)
        for design in space.designs.values()
    )


def _with_sums(space: FeatureSpace, sums: Sequence[FeatureSums]) -> FeatureSpace:
    """The sample's rows with the sums and decompositions of all samples."""
    design = design_of_sums(space.design.unit_rows, space.design.folds, sums[0])
    if space.curved is None:
        return replace(space, design=design)
    return replace(space, design=design, curved=design_of_sums(space.curved.unit_rows, space.curved.folds, sums[1]))


def _merged(before: Sequence[TargetSums], tonight: Sequence[TargetSums]) -> tuple[TargetSums, ...]:
    return tuple(merged_target_sums(*both) for both in zip(before, tonight, strict=True))


def _round(name: str) -> int:
    """Which student round a pass is, from 0."""
    return int(name.removeprefix("student-")) - 1


def _no_sums(num_dims: int) -> FeatureSums:
    return FeatureSums(np.empty(num_dims), np.empty(0), np.empty((0, num_dims)), np.empty((0, num_dims, num_dims)))
