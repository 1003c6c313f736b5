"""Teach, judge the teacher, refine, queue: all that needs features and labels together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from labelclean.cleaning.alignment import order_fault
from labelclean.cleaning.chance import Unvouched, find_unvouched
from labelclean.config import Config
from labelclean.errors import TableError, listed
from labelclean.noise.readings import has_looks
from labelclean.review.decisions import reviewed_labels
from labelclean.review.flags import build_flags
from labelclean.review.opinions import inspectors_record, label_opinions, review_opinions
from labelclean.runs.audit import earlier_draws, evidence_of, write_draws
from labelclean.runs.gates import Verdict, judge_groups, judge_moves, judge_teacher
from labelclean.runs.night_sums import KEPT_ROWS, RunSums, write_run_sums
from labelclean.runs.outputs import (
    flag_evidence,
    flag_table,
    noise_by_column,
    queue_record,
    queue_table,
    refined_table,
    refinement_record,
    review_queue,
    standing_record,
    teacher_measurements,
    teacher_record,
    teacher_table,
)
from labelclean.runs.plan import plan_of
from labelclean.runs.record import INTERNAL, OPINIONS, finding_of, finding_record, goes_on, part_of, recorded, stopped
from labelclean.runs.run import known_decisions, standing_of
from labelclean.storage.parquet import read_pred_probs, read_table, write_table
from labelclean.storage.samples import given_labels_of, groups_of

if TYPE_CHECKING:
    from labelclean.cleaning.clean import Teacher
    from labelclean.probes.feature_space import FeatureSpace


def refine(work: Path) -> bool:
    """Teach, judge the teacher, refine; leaves teacher predictions, refined labels and flags."""
    from labelclean.cleaning.clean import fit_teacher, refine_labels, teacher_from_pred_probs
    from labelclean.cleaning.learning import sums_in_memory
    from labelclean.cleaning.power import choose_power, powered
    from labelclean.features.store import FeatureStore
    from labelclean.probes.feature_space import build_feature_space

    with recorded(work, "refine") as (config, record):
        if plan_of(work).is_streamed:
            from labelclean.runs.refine_parts import refine_parts

            return refine_parts(work, config, record)
        samples = read_table(work / INTERNAL / "samples.parquet", "samples")
        names = tuple(part_of(work, "ingest")["class_names"])
        decisions = known_decisions(config)
        standing, decided = standing_of(samples, names, config, decisions)
        record["reviewed"] = standing_record(standing)
        samples = samples.filter(pa.array(~standing.is_excluded))
        decided = [one for one, is_out in zip(decided, standing.is_excluded.tolist(), strict=True) if not is_out]
        standing = standing.take(~standing.is_excluded)
        labels = reviewed_labels(given_labels_of(samples, names), standing)
        ids = samples.column("sample_id").to_pylist()
        extracted = part_of(work, "extract")
        store = FeatureStore(Path(extracted["store"]), extracted["backbone"]["num_features"])
        features = store.read(samples.column("content_hash").to_pylist())
        seed = config.run.seed
        groups = groups_of(samples)
        power = choose_power(features, ids, groups, labels, config, seed=seed)
        space = build_feature_space(
            powered(features, power), ids, groups, config, seed=seed, device=extracted["device"]
        )
        unvouched = None
        if config.teacher.pred_probs is not None:  # a model of the user's own vouches from outside every group
            probs, is_named = read_pred_probs(config.teacher.pred_probs, ids, names)
            if not is_named and (fault := order_fault(probs, labels.observed.argmax(axis=1), names)):
                raise TableError(f"{config.teacher.pred_probs}: {fault}")
            teacher = teacher_from_pred_probs(probs, labels, config)
        else:
            unvouched = find_unvouched(labels, space.groups, space.duplicate_sets)
            labels = unvouched.standing(labels)
            teacher = fit_teacher(space, labels, config, seed=seed)
        write_table(
            work / "teacher_predictions.parquet", teacher_table(ids, teacher, names), "teacher_predictions", names
        )
        earlier = Verdict(tuple(finding_of(row) for row in part_of(work, "check_distribution")["findings"]))
        draws = earlier_draws(config, names, ids)
        looks = evidence_of(draws, decisions, names)
        is_told = teacher.exceeds_chance or has_looks(labels, looks)
        measurements = replace(teacher_measurements(teacher, labels, names), exceeds_chance=is_told)
        measured = judge_teacher(measurements, names, config.gates.top2)
        if unvouched is not None:
            measured = Verdict(judge_groups(unvouched.classes, unvouched.is_copy, names) + measured.findings)
        verdict = Verdict(earlier.findings + measured.findings)
        record |= {
            "findings": [finding_record(finding) for finding in measured.findings],
            "teacher": teacher_record(teacher, labels, space, names) | {"feature_power": power},
        }
        if not is_told:
            record |= refused_by_chance(config, teacher, unvouched, space, names)
            return False
        if not goes_on(verdict, config, record):
            return False
        refinement = refine_labels(
            space,
            labels,
            teacher,
            _permitted(config, verdict),
            allowed=verdict.allowed,
            earlier=looks,
        )
        evidence = flag_evidence(labels, teacher, refinement, space)
        flags = build_flags(evidence, config.flags, config.gates.top2.unstable_below)
        refined = refined_table(samples, refinement, space, names)
        write_table(work / "refined_labels.parquet", refined, "refined_labels", names)
        write_table(work / "flags.parquet", flag_table(ids, flags), "flags")
        queue, estimate = review_queue(samples, labels, refinement, evidence, standing.is_settled, config)
        write_table(
            work / "review_queue.parquet",
            queue_table(samples, queue, refinement, flags, space, names, config.review.neighbours),
            "review_queue",
            names,
        )
        drawn = np.sort(queue.rows[~np.isnan(queue.inclusion_probabilities)])
        readings = refinement.trust.readings
        write_draws(work, samples, drawn, readings, refinement.pred_probs, labels, draws, names)
        tally = refinement.tally
        drained = judge_moves(tally.moves, tally.votes, names, config.gates.class_distribution.max_lost_share)
        record["findings"].append(finding_record(drained))
        record |= refinement_record(
            config.refine.method,
            refinement.method,
            refinement.why,
            refinement.noise_matrix,
            tally,
            readings,
            names,
            looks,
        )
        single = work / INTERNAL / OPINIONS
        labelled = label_opinions(read_table(single, "labels"), ids, names) if single.is_file() else None
        reviewed = review_opinions(decided, samples, names)
        record["inspectors"] = inspectors_record(labelled, reviewed, refinement.predicted, names)
        record |= {"queue": queue_record(queue, estimate, config.review.seconds_per_sample)}
        if config.teacher.pred_probs is None:
            sums = sums_in_memory(features, space, labels, teacher, config, is_plain=power == 1.0)
            kept = np.sort(space.selection[:KEPT_ROWS])
            left = RunSums(
                class_names=names,
                backbone=extracted["backbone"]["digest"],
                decode=extracted["decode_digest"],
                seed=seed,
                folds=config.teacher.folds,
                counts=tally.votes,
                sums=sums,
                rows=features[kept].astype(np.float16),
                row_folds=space.design.folds[kept],
                noise=noise_by_column(refined),
                runs=(),
            )
            write_run_sums(work, left)
    return True


def refused_by_chance(
    config: Config, teacher: Teacher, unvouched: Unvouched | None, space: FeatureSpace, names: Sequence[str]
) -> dict[str, Any]:
    """Return the record of a run whose images say no more of their labels than chance would.

    Args:
        config: `refine.method` is read.
        teacher: The teacher.
        unvouched: Classes and samples that nothing outside their group can vouch for; None where the user's own model
            vouches for all.
        space: Near-duplicate sets of the samples.
        names: The K class names.

    Returns:
        JSON values: the sentence, and the cause where it shows (`alike`, `one_group`, `class_groups`, else `chance`).
    """
    from labelclean.cleaning.clean import nothing_tells

    num_samples = len(space)
    copies = int(np.unique(space.duplicate_sets[space.duplicate_sets >= 0], return_counts=True)[1].max(initial=0))
    cause = "chance"
    if unvouched is None:
        sentence = nothing_tells(teacher).replace(").", ");") + (
            " nothing is flagged. Check that the columns of teacher.pred_probs are the classes in this order: "
            f"{listed(list(names))}."
        )
    elif copies > num_samples / 2:
        cause, sentence = (
            "alike",
            f"these images are all alike to the backbone ({copies:,} of {num_samples:,} are near-duplicates of one "
            "another), so they say nothing of their labels; nothing is flagged. Open some of them: are they the right "
            "files, decoded as they should be (decode.*)?",
        )
    elif unvouched.has_one_group:
        cause, sentence = (
            "one_group",
            f"one group_id holds all {num_samples:,} samples, so nothing outside it can vouch for a label; nothing is "
            "flagged. Give each part its own group_id, or leave the column out.",
        )
    elif len(unvouched.classes):
        cause, sentence = (
            "class_groups",
            f"every sample of {listed([names[k] for k in unvouched.classes.tolist()])} lies in one group_id, so nothing "
            "outside it can vouch for these labels, and the other images say no more of theirs than chance would; nothing "
            "is flagged. Give each part its own group_id, or leave the column out.",
        )
    else:
        sentence = nothing_tells(teacher).replace(").", ");") + (
            " nothing is flagged. Look at some images, try another backbone, or bring a model's predictions "
            "(teacher.pred_probs)."
        )
    refinement = {"requested": config.refine.method, "method": "none", "why": sentence, "cause": cause}
    return stopped(sentence) | {"refinement": refinement}


def _permitted(config: Config, verdict: Verdict) -> Config:
    """The configuration with a refinement that the gates rule out replaced by `auto`."""
    if config.refine.method in ("auto", *verdict.allowed):
        return config
    return config.model_copy(update={"refine": config.refine.model_copy(update={"method": "auto"})})
