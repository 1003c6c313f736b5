"""Learns teacher and student from feature shards: one pass for the sums, one per student round, choices on the sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from labelclean.arrays import Float32Array, Float64Array, FloatArray
from labelclean.cleaning.chance import is_clear, likes_have_like_labels
from labelclean.cleaning.clean import Teacher, total_gain
from labelclean.cleaning.neighbour_pass import find_neighbours
from labelclean.cleaning.neighbour_votes import given_votes, posterior_parts, posterior_votes
from labelclean.cleaning.passes import Each, Task, sums_over
from labelclean.cleaning.sample import Chosen, read_sample, sample_space, with_sums
from labelclean.cleaning.shards import Shard
from labelclean.cleaning.stage import Stage, fit_stage_trust, student_stage, teacher_stage
from labelclean.config import CleaningConfig
from labelclean.labels import GivenLabels
from labelclean.noise.model import posterior, true_class_probs
from labelclean.noise.model_choice import pattern_view
from labelclean.noise.readings import NO_LOOKS, AuditEvidence
from labelclean.noise.targets import given_targets
from labelclean.noise.trust import Trust
from labelclean.probes.feature_space import FeatureSpace
from labelclean.probes.kernel import Kernel, fit_kernel, raw_kernel_rows
from labelclean.probes.sums import (
    FeatureSums,
    TargetSums,
    build_feature_sums,
    build_target_sums,
    centred_unit_rows,
    feature_mean,
    merged_feature_sums,
    merged_target_sums,
)


@dataclass(frozen=True)
class LearnedSums:
    """All that a later night needs of the samples so far; sums of nights with the same centring add.

    Attributes:
        features: For each design (features, kernel rows) n, X'1 and X'X per fold.
        given: For each design X'Y of the given labels.
        rounds: For each student round and design X'Y of its targets.
        kernel: Turns unit rows into kernel rows; None if switched off.
    """

    features: tuple[FeatureSums, ...]
    given: tuple[TargetSums, ...]
    rounds: tuple[tuple[TargetSums, ...], ...]
    kernel: Kernel | None

    @property
    def curve(self) -> tuple[Kernel, Float64Array] | None:
        """Kernel and the centring of its rows."""
        return None if self.kernel is None else (self.kernel, self.features[1].mean)


@dataclass(frozen=True)
class Learned:
    """Teacher, student and what turns them into labels.

    Attributes:
        task: The shards that they serve.
        chosen: The sample on which choices were made.
        space: Its features, with the sums of all samples.
        sums: The sums of all samples, those of a reference included.
        teacher: First stage.
        student: Last stage; the teacher where nothing is refined.
        trust: Turns probabilities into labels.
    """

    task: Task
    chosen: Chosen
    space: FeatureSpace
    sums: LearnedSums
    teacher: Stage
    student: Stage
    trust: Trust


@dataclass(frozen=True)
class Taught:
    """The teacher and all that the student needs.

    Attributes:
        task: The shards.
        chosen: The sample on which choices are made.
        space: Its features, with the sums of all samples, and its neighbours among them.
        features: For each design the sums of all samples, those of a reference included.
        given: For each design the sums of their given labels.
        teacher: First stage.
    """

    task: Task
    chosen: Chosen
    space: FeatureSpace
    features: tuple[FeatureSums, ...]
    given: tuple[TargetSums, ...]
    teacher: Stage


def learn_teacher(
    shards: Sequence[Shard],
    labels: Sequence[Path],
    chosen: Chosen,
    config: CleaningConfig,
    *,
    folder: Path,
    digest: str,
    device: str = "cpu",
    reference: LearnedSums | None = None,
    most_directions: int | None = None,
    each: Each = map,
) -> Taught:
    """Return the teacher: one pass over the shards, and two more for neighbours by index.

    Args:
        shards: The feature shards.
        labels: File with the labels of each.
        chosen: The sample.
        config: Sections `teacher` and `neighbours` are read; out of core only the method `index` finds neighbours.
        folder: Where checkpoints lie.
        digest: Of everything that a result hangs on.
        device: Torch device of the sums.
        reference: Sums of earlier nights, to which these samples are added; not with neighbours.
        most_directions: R of the neighbour index, at most; default: D.
        each: Applies a function to all shards: `map`, or a cluster.

    Returns:
        The teacher.
    """
    mean = None if reference is None else reference.features[0].mean
    features = read_sample(shards, chosen)
    space, curve = sample_space(features, chosen, config, mean, None if reference is None else reference.curve)
    means = tuple(design.sums.mean for design in space.designs.values())
    kernel = None if curve is None else curve[0]
    size = (chosen.labels.num_classes, config.teacher.folds)
    task = Task(tuple(shards), tuple(labels), *size, means, kernel, folder, digest, device)
    grams, given = sums_over(task, "given", None, each)
    if reference is not None:
        grams = [merged_feature_sums(old, new) for old, new in zip(reference.features, grams, strict=True)]
        given = [merged_target_sums(old, new) for old, new in zip(reference.given, given, strict=True)]
    space = replace(space, design=with_sums(space.design, grams[0]))
    if space.curved is not None:
        space = replace(space, curved=with_sums(space.curved, grams[1]))
    votes = None
    if config.neighbours.method == "index":
        task, near = find_neighbours(task, chosen, space.design.unit_rows, config, most_directions, each)
        space, votes = replace(space, neighbours=near), given_votes(task)
    teacher = teacher_stage(space, given, chosen.labels, config, votes)
    return Taught(task, chosen, space, tuple(grams), tuple(given), teacher)


def learn_student(
    taught: Taught,
    config: CleaningConfig,
    num_rounds: int,
    reference: LearnedSums | None = None,
    each: Each = map,
    earlier: AuditEvidence = NO_LOOKS,
) -> Learned:
    """Return student and trust: one pass over the shards for each round.

    Args:
        taught: The teacher.
        config: Sections `teacher` and `neighbours` are read.
        num_rounds: Student rounds; 0: the teacher judges alone.
        reference: Sums of earlier nights, to which these samples are added.
        each: Applies a function to all shards: `map`, or a cluster.
        earlier: Random looks at samples of earlier runs.

    Returns:
        All that `verdicts.write_parts` needs.
    """
    space, labels, teacher = taught.space, taught.chosen.labels, taught.teacher
    rows = [design.unit_rows for design in space.designs.values()]
    last, rounds = teacher, []
    for number in range(num_rounds):
        name = f"student-{number + 1}"
        kept = () if teacher.voters is None else posterior_parts(taught.task, name)
        crosses = sums_over(taught.task, name, last, each, kept)[1]
        votes = posterior_votes(taught.task, name, kept) if kept else None
        if reference is not None:
            crosses = [merged_target_sums(old, new) for old, new in zip(reference.rounds[number], crosses, strict=True)]
        rounds.append(tuple(crosses))
        known = posterior(last.probs(rows, space.design.folds, space.neighbours), labels, last.matrix)
        last = student_stage(space, crosses, known, labels, config, teacher.noise.is_even, votes)
    trust = fit_stage_trust(
        teacher,
        last,
        space,
        labels,
        changes_labels=num_rounds > 0,
        exceeds_chance=tells_more_than_chance(taught, seed=0),
        earlier=earlier,
    )
    sums = LearnedSums(taught.features, taught.given, tuple(rounds), taught.task.kernel)
    return Learned(taught.task, taught.chosen, space, sums, teacher, last, trust)


def tells_more_than_chance(taught: Taught, *, seed: int) -> bool:
    """Return whether the sample's labels hang together with its images by more than chance.

    Args:
        taught: The teacher and its sample.
        seed: Draws the shufflings.

    Returns:
        The verdict.
    """
    labels, values = taught.chosen.labels, sample_values(taught)[: len(taught.teacher.names)]
    is_sure = is_clear(total_gain(values, labels), labels.num_classes)
    return is_sure or likes_have_like_labels(taught.space.design.unit_rows, taught.space.groups, labels, seed=seed)


def teacher_faults(config: CleaningConfig) -> list[str]:
    """Return what is asked of the teacher and cannot be done with sums over folds of the features as they are."""
    faults = []
    if config.teacher.left_out == "group":
        faults.append("teacher.left_out must be auto or fold, but is 'group', for sums are kept by fold")
    if config.teacher.power not in ("auto", 1.0):
        faults.append(f"teacher.power must be auto or 1, but is {config.teacher.power}")
    return faults


def num_rounds(config: CleaningConfig, method: str) -> int:
    """Return the student rounds of a refinement."""
    return 0 if method == "none" else config.refine.rounds or 1


def sums_in_memory(
    features: FloatArray,
    space: FeatureSpace,
    labels: GivenLabels,
    teacher: Teacher,
    config: CleaningConfig,
    *,
    is_plain: bool = True,
) -> LearnedSums:
    """Return the sums of a run in memory, for the nights after it.

    Args:
        features: Raw features, shape (N, D).
        space: Their folds and landmarks; its own sums serve where they are not in span coordinates.
        labels: Given labels.
        teacher: Its posterior is what the first student learned.
        config: `teacher.landmarks` and `teacher.folds` are read.
        is_plain: Whether the space was made of the features as they are, not of their powers.

    Returns:
        The sums, of the features as they are.
    """
    folds, num_folds = space.design.folds, config.teacher.folds
    mean = space.design.sums.mean if is_plain else feature_mean(features)
    is_plain = is_plain and space.design.unit_rows.shape[1] == len(mean)
    rows = [space.design.unit_rows if is_plain else centred_unit_rows(features, mean)]
    sums = [space.design.sums if is_plain else build_feature_sums(rows[0], folds, num_folds, mean)]
    kernel = None
    if space.curved is not None:
        kernel = fit_kernel(rows[0][np.sort(space.selection[: config.teacher.landmarks])])
        curved = raw_kernel_rows(kernel, rows[0])
        centre = feature_mean(curved)
        curved -= centre.astype(np.float32)
        rows.append(curved)
        sums.append(build_feature_sums(curved, folds, num_folds, centre))
    known = posterior(true_class_probs(teacher.noise, teacher.views), labels, teacher.noise.matrix)
    given, student = (
        tuple(build_target_sums(one, targets, folds, num_folds) for one in rows)
        for targets in (given_targets(labels), known)
    )
    return LearnedSums(tuple(sums), given, (student,), kernel)


def sample_values(taught: Taught) -> Float32Array:
    """Return the teacher's views of the sample, float32, shape (V, n, K), rows aligned with ``taught.chosen``."""
    rows = [design.unit_rows for design in taught.space.designs.values()]
    values = taught.teacher.values(rows, taught.space.design.folds, taught.space.neighbours)
    if taught.teacher.noise.pattern is not None:
        pattern = pattern_view(taught.teacher.given_probs(values), taught.teacher.noise.pattern)
        values = np.concatenate([values, pattern[None]])
    return values
