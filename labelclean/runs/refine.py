"""Teach, judge the teacher, refine, queue: all that needs features and labels together."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from labelclean.arrays import Float64Array
from labelclean.config import Config
from labelclean.errors import ConfigError
from labelclean.noise.model import measured_prior
from labelclean.noise.readings import has_looks
from labelclean.progress import progress
from labelclean.review.kinds import kinds_record
from labelclean.review.leaks import Leaks
from labelclean.review.opinions import inspectors_record, label_opinions, review_opinions
from labelclean.review.overlaps import overlaps_of
from labelclean.review.part_queue import PartQueue, part_queue, predicted_of
from labelclean.review.part_views import OF_PART, PART, part_numbers
from labelclean.runs.audit import earlier_draws, evidence_of, write_draws
from labelclean.runs.costs import cost_rule, costs_record
from labelclean.runs.drift import added_noise
from labelclean.runs.drift_report import drift_record
from labelclean.runs.gates import Verdict, judge_groups, judge_leaks, judge_moves, judge_shortcuts, judge_teacher
from labelclean.runs.label_set_rules import is_of_label_sets
from labelclean.runs.label_sets import refine_label_sets
from labelclean.runs.night_sums import RunSums, kept_samples, read_run_sums, write_run_sums
from labelclean.runs.one_class import rank_one_class
from labelclean.runs.outputs import (
    noise_by_column,
    queue_record,
    refinement_record,
    teacher_measurements,
    teacher_record,
)
from labelclean.runs.part_files import LABELS, part_paths
from labelclean.runs.part_flags import flag_part_conflicts
from labelclean.runs.part_tables import BoxSets, RunTables
from labelclean.runs.parts import (
    STREAM,
    RunParts,
    candidates_path,
    column_of,
    ids_of,
    labelled_parts,
    leaks_of,
    ok_of,
    samples_of_part,
)
from labelclean.runs.pictures import learn_pictures, unusable_record
from labelclean.runs.plan import plan_of
from labelclean.runs.record import INTERNAL, finding_of, finding_record, goes_on, part_of, recorded, stopped
from labelclean.runs.refused import refused_by_chance
from labelclean.runs.run import known_decisions
from labelclean.runs.shortcuts import shortcuts_record
from labelclean.storage.parquet import join_parts, read_json, read_table, write_table
from labelclean.storage.tables import BOX_COLUMNS, NEW_KINDS, SET_ASIDE

if TYPE_CHECKING:
    from labelclean.cleaning.passes import Each
    from labelclean.cleaning.population import Learned, Taught
    from labelclean.noise.tally import Tally

LOG = logging.getLogger("labelclean")
JOINED = ("teacher_predictions", "refined_labels", "flags")


def refine(work: Path) -> bool:
    """Teach, judge the teacher, refine; leaves teacher predictions, refined labels, flags and the review queue.

    Of a large run every part of every pass is a unit that a killed run keeps.
    """
    from labelclean.cleaning.passes import each_shard

    if is_of_label_sets(work):
        return refine_label_sets(work)
    with recorded(work, "refine") as (config, record):
        names, decisions = tuple(part_of(work, "ingest")["class_names"]), known_decisions(config)
        reference = None if config.run.reference is None else read_run_sums(config.run.reference)
        parts = labelled_parts(work, config, names, decisions, reference)
        record["reviewed"] = parts.reviewed
        if not parts.num_samples:
            record |= stopped("reviewers call every image bad; nothing is left to judge.")
            return False
        if len(names) == 1:
            aside = _write_aside(work, config, parts)
            num_taken_out = 0 if aside is None else aside.num_rows
            with each_shard(config.run.cluster if plan_of(work).is_streamed else None) as each:
                rank_one_class(work, config, parts, names[0], each, record, num_taken_out)
            return True
        ids = ids_of(parts)
        draws = earlier_draws(config, names, ids)
        looks = evidence_of(draws, decisions, names)
        parts = parts.of_looks(looks)
        measured = _measured(config, names)
        if measured is not None:
            parts = replace(parts, digest=hashlib.sha256(parts.digest.encode() + measured.tobytes()).hexdigest())
        with each_shard(config.run.cluster if plan_of(work).is_streamed else None) as each:
            taught = _taught(work, config, parts, names, reference, each, measured)
            verdict = _judged(work, config, record, taught, names, is_looked_at=has_looks(taught.labels, looks))
            if verdict is None:
                return False
            learned = _learned(taught, config, verdict, looks)
            leaks = leaks_of(parts, learned.taught)
            if config.data.label_of == "part":
                learned = _judged_parts(work, config, record, parts, learned, verdict, looks, names)
            tally = _write_tables(work, parts, learned, names, config, each, leaks, record)
        refinement = learned.refinement
        readings = refinement.trust.readings
        drained = judge_moves(tally.moves, tally.votes, names, config.gates.class_distribution.max_lost_share)
        record["findings"].append(finding_record(drained))
        record["shortcuts"] = shortcuts_record(config, parts, learned.taught, names, _single_labels(work))
        record["findings"].append(finding_record(judge_shortcuts(record["shortcuts"], config.gates.shortcuts)))
        if leaks is not None:
            record["leaks"] = leaks.record()
            record["findings"].append(finding_record(judge_leaks(leaks)))
        how = (config.refine.method, refinement.method, refinement.why, refinement.noise_matrix)
        record |= refinement_record(*how, tally, readings, names, looks)
        record["unusable"] = unusable_record(parts, _score_paths(work), _flag_paths(work), work / INTERNAL / "spill")
        queue = _write_queue(work, names, config, readings.beliefs.num_audited)
        record["queue"] = queue_record(queue.queue, queue.estimate, config.review.seconds_per_sample)
        if config.classes.ok is not None:
            num_open = tally.num_samples - int(tally.verified)
            issues = record["label_issues"]
            record["costs"] = costs_record(config, _score_paths(work), queue.table, readings, num_open, issues)
        _write_kinds(work, config, parts, learned.taught, record)
        _write_draws(work, parts, learned, queue, draws, names)
        record["inspectors"] = _inspectors(work, parts, ids, names)
        if config.teacher.pred_probs is None and config.data.label_of == "image":
            _leave_sums(work, config, parts, learned, names, reference, record)
    return True


def _taught(
    work: Path,
    config: Config,
    parts: RunParts,
    names: Sequence[str],
    reference: RunSums | None,
    each: Each,
    measured: Float64Array | None,
) -> Taught:
    """The teacher of all samples."""
    from labelclean.cleaning.memory import choice_rows
    from labelclean.cleaning.population import Labelled, Setting, learn_teacher

    setting = Setting(
        config,
        seed=config.run.seed,
        sample_rows=choice_rows(config, len(names)),
        folder=work / INTERNAL / STREAM,
        digest=parts.digest,
        device=part_of(work, "extract")["device"],
        each=each,
    )
    labelled = Labelled(parts.shards, parts.labels, len(names))
    return learn_teacher(labelled, setting, reference=None if reference is None else reference.sums, measured=measured)


def _measured(config: Config, names: Sequence[str]) -> Float64Array | None:
    """What inspectors were measured to do; None where the config names no study."""
    if config.study.measured is None:
        return None
    from labelclean.review.agreement_record import measured_counts

    try:
        counts = measured_counts(read_json(config.study.measured), names)
    except ConfigError as fault:
        raise ConfigError(f"study.measured, {config.study.measured}: {fault}.") from None
    return measured_prior(counts, config.study.worth)


def _judged(
    work: Path, config: Config, record: dict[str, Any], taught: Taught, names: Sequence[str], *, is_looked_at: bool
) -> Verdict | None:
    """What all gates say of the teacher; None where the run stops."""
    teacher = taught.teacher
    earlier = Verdict(tuple(finding_of(row) for row in part_of(work, "check_distribution")["findings"]))
    is_told = teacher.exceeds_chance or is_looked_at
    measurements = replace(teacher_measurements(teacher, taught.labels, names), exceeds_chance=is_told)
    measured = judge_teacher(measurements, names, config.gates.top2)
    if taught.unvouched is not None:
        measured = Verdict(judge_groups(taught.unvouched.classes, taught.unvouched.is_copy, names) + measured.findings)
    verdict = Verdict(earlier.findings + measured.findings)
    record |= {
        "findings": [finding_record(finding) for finding in measured.findings],
        "teacher": teacher_record(teacher, taught.labels, taught.space, names)
        | {"feature_power": taught.shard_set.power},
    }
    if not taught.chosen.is_whole:
        record["chosen_on"] = len(taught.chosen)
    if not is_told:
        record |= refused_by_chance(config, teacher, taught.unvouched, taught.space, names)
        return None
    return verdict if goes_on(verdict, config, record) else None


def _learned(taught: Taught, config: Config, verdict: Verdict, looks: Any) -> Learned:
    """Student and trust; a refinement that the gates rule out is replaced by `auto`."""
    from labelclean.cleaning.population import learn_student

    return learn_student(taught, _permitted(config, verdict), allowed=verdict.allowed, earlier=looks)


def _permitted(config: Config, verdict: Verdict) -> Config:
    """The same, a refinement that the gates rule out replaced."""
    if config.refine.method in ("auto", *verdict.allowed):
        return config
    return config.model_copy(update={"refine": config.refine.model_copy(update={"method": "auto"})})


def _judged_parts(
    work: Path,
    config: Config,
    record: dict[str, Any],
    parts: RunParts,
    learned: Learned,
    verdict: Verdict,
    looks: Any,
    names: Sequence[str],
) -> Learned:
    """The labels of parts, each judged by all its images."""
    from labelclean.cleaning.parts import Parts, judge_parts

    views = Parts(part_numbers(column_of(parts, PART).to_pylist()), ok_of(config, names))
    candidates = np.concatenate([np.load(candidates_path(path)) for path in parts.labels])
    judged = judge_parts(
        learned,
        replace(learned.taught.chosen.labels, candidates=candidates),
        views,
        _permitted(config, verdict),
        seed=config.run.seed,
        folder=work / INTERNAL / STREAM,
        allowed=verdict.allowed,
        earlier=looks,
    )
    record[OF_PART] = {
        "num": len(views),
        "num_images": len(views.number),
        "num_settled": int(judged.taught.labels.is_verified[views.first].sum()),
    }
    if config.classes.ok is None:
        LOG.warning(
            "data.label_of is part and classes.ok names no class: a label of parts without a defect counts as supported where any "
            "view shows none. Name that class, if there is one."
        )
    return judged


def _box_sets(parts: RunParts, taught: Taught, names: Sequence[str]) -> BoxSets | None:
    """Boxes that lie on one another, joined with the near-duplicates; None where samples are whole images."""
    from labelclean.cleaning.shard_labels import read_shard_labels
    from labelclean.probes.neighbours import conflict_sets, joined_groups

    if BOX_COLUMNS[0] not in pq.read_schema(parts.samples[0]).names:
        return None
    held = [read_shard_labels(one) for one in parts.labels[: len(parts.samples)]]
    given = np.concatenate([one.given for one in held]).astype(np.int64)
    images = column_of(parts, "image_path").combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)
    boxes = np.stack([column_of(parts, name).to_numpy() for name in BOX_COLUMNS], axis=1)
    found, alone = overlaps_of(images, boxes, given), np.arange(len(given))
    if taught.chosen.is_whole:
        near = taught.space.duplicate_sets[: len(given)]  # what the reference kept comes last
    else:
        near = np.concatenate(
            [
                np.full(len(one), -1) if one.duplicate_sets is None else one.duplicate_sets
                for one in map(read_shard_labels, taught.shard_set.labels[: len(parts.samples)])
            ]
        )
    joined = joined_groups(np.where(found.sets >= 0, found.sets, len(given) + alone), near)
    sets = np.where(np.bincount(joined, minlength=len(given))[joined] > 1, joined, -1)
    return BoxSets(sets, conflict_sets(sets, given), found.is_conflict, found.is_double)


def _write_tables(
    work: Path,
    parts: RunParts,
    learned: Learned,
    names: Sequence[str],
    config: Config,
    each: Each,
    leaks: Leaks | None,
    record: dict[str, Any],
) -> Tally:
    """Predictions, refined labels, flags and scores, part by part, then joined."""
    from labelclean.cleaning.shard_labels import sample_starts
    from labelclean.cleaning.verdicts import write_parts

    num_parts, pictures = len(parts.samples), learn_pictures(parts, learned.taught, len(names))
    starts = sample_starts(parts.labels[:num_parts])
    labels, leak_sets = parts.labels[:num_parts], None if leaks is None else leaks.sets
    boxes = _box_sets(parts, learned.taught, names)
    rule, readings = cost_rule(config, names), learned.refinement.trust.readings
    tables = RunTables(
        parts.samples,
        labels,
        starts,
        tuple(names),
        config,
        parts.counts,
        pictures,
        leak_sets,
        boxes,
        rule,
        readings,
    )
    stream = work / INTERNAL / STREAM
    with progress("judging labels", parts.num_samples, "samples") as advance:
        tally = write_parts(learned, tables, stream, each=each, num_parts=num_parts, advance=advance)
    if config.data.label_of == "image":  # else all images of a part carry one label
        conflicts = flag_part_conflicts(parts.samples, _score_paths(work), _flag_paths(work), work / INTERNAL / "spill")
        record |= {} if conflicts is None else {"part_conflicts": conflicts}
    for name in JOINED:
        join_parts(sorted((stream / name).glob("part-*.parquet")), work / f"{name}.parquet")
    return tally


def _score_paths(work: Path) -> list[Path]:
    return sorted((work / INTERNAL / STREAM / "scores").glob("part-*.parquet"))


def _flag_paths(work: Path) -> list[Path]:
    return sorted((work / INTERNAL / STREAM / "flags").glob("part-*.parquet"))


def _write_queue(work: Path, names: Sequence[str], config: Config, num_looks: float) -> PartQueue:
    """`review_queue.parquet`."""
    queue = part_queue(_score_paths(work), _flag_paths(work), names, config, work / INTERNAL / "spill", num_looks)
    write_table(work / "review_queue.parquet", queue.table, "review_queue", names)
    return queue


def _write_aside(work: Path, config: Config, parts: RunParts) -> pa.Table | None:
    """`set_aside.parquet` where people took images out; `apply` and the report know these by it."""
    from labelclean.runs.kinds import set_aside

    aside = set_aside(parts, of_part=config.data.label_of == "part")
    if aside is not None:
        write_table(work / f"{SET_ASIDE}.parquet", aside, SET_ASIDE)
    return aside


def _write_kinds(work: Path, config: Config, parts: RunParts, taught: Taught, record: dict[str, Any]) -> None:
    """`set_aside.parquet` and `new_kinds.parquet`, each where it has rows."""
    from labelclean.runs.kinds import new_kinds

    aside = _write_aside(work, config, parts)
    kinds = new_kinds(config, parts, taught, _score_paths(work), aside)
    if kinds is not None:
        write_table(work / f"{NEW_KINDS}.parquet", kinds, NEW_KINDS)
        record["new_kinds"] = kinds_record(kinds)


def _write_draws(
    work: Path, parts: RunParts, learned: Learned, queue: PartQueue, draws: pa.Table | None, names: Sequence[str]
) -> None:
    """What the readings make of tonight's draw, before anybody has looked."""
    from labelclean.cleaning.verdicts import found_at

    drawn = np.sort(queue.numbers[~np.isnan(queue.queue.inclusion_probabilities)])
    labels, pred_probs, at = found_at(learned, drawn)
    columns = ["sample_id", "given_label", "content_hash"]
    some = [
        samples_of_part(parts.samples[number], parts.labels[number])[0].select(columns).take(pa.array(rows))
        for number, rows in at
    ]
    schema = pq.read_schema(parts.samples[0])
    samples = pa.concat_tables(some) if some else pa.schema([schema.field(name) for name in columns]).empty_table()
    write_draws(
        work,
        samples,
        np.arange(len(drawn)),
        learned.refinement.trust.readings,
        pred_probs,
        labels,
        draws,
        names,
    )


def _single_labels(work: Path) -> pa.Table | None:
    """Every single label with who gave it; None where the labels do not name inspectors."""
    single = part_paths(work, LABELS)
    if not single or "annotator_id" not in pq.read_schema(single[0]).names:
        return None
    return pa.concat_tables([read_table(path, "labels") for path in single])


def _inspectors(work: Path, parts: RunParts, ids: pa.Array, names: Sequence[str]) -> dict[str, Any]:
    """Inspectors compared with what the run suggests, and reviewers with each other."""
    labelled, suggested = None, np.empty(0, dtype=np.int64)
    if (single := _single_labels(work)) is not None:
        suggested = predicted_of(_score_paths(work))
        labelled = label_opinions(single, ids, names)
    record = inspectors_record(labelled, None, suggested, names)
    decided, about = parts.decided
    if about is not None:
        reviewed = review_opinions(decided, about, names)
        record["reviews"] = inspectors_record(None, reviewed, np.zeros(len(decided), dtype=np.int64), names)["reviews"]
    return record


def _leave_sums(
    work: Path,
    config: Config,
    parts: RunParts,
    learned: Learned,
    names: Sequence[str],
    reference: RunSums | None,
    record: dict[str, Any],
) -> None:
    """`sums.npz` for the next night, and how this one differs from its reference."""
    from labelclean.cleaning.population import learned_sums

    extracted = part_of(work, "extract")
    rows, folds, kept = kept_samples(parts.shards, parts.labels, len(parts.samples), len(names))
    counts = np.array(part_of(work, "check_distribution")["counts"])
    tonight = RunSums(
        class_names=tuple(names),
        backbone=extracted["backbone"]["digest"],
        decode=extracted["decode_digest"],
        seed=config.run.seed,
        folds=config.teacher.folds,
        counts=parts.new_votes + (0 if reference is None else reference.counts),
        sums=learned_sums(learned),
        rows=rows,
        row_folds=folds,
        noise=_noise(work),
        runs=() if reference is None or config.run.reference is None else (*reference.runs, config.run.reference.name),
        kept=kept,
    )
    write_run_sums(work, tonight)
    if reference is not None and config.run.reference is not None:
        record["reference"] = drift_record(config.run.reference.name, reference, tonight, counts, parts.num_known)


def _noise(work: Path) -> dict[str, dict[str, tuple[float, float]]]:
    """Expected wrong labels by line, shift and camera, read part by part."""
    paths = sorted((work / INTERNAL / STREAM / "refined_labels").glob("part-*.parquet"))
    columns = [name for name in pq.read_schema(paths[0]).names if name in ("line", "shift", "camera", "label_score")]
    return added_noise([noise_by_column(read_table(path, "refined_labels", columns)) for path in paths])
