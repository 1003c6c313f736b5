"""Teach, judge the teacher, refine, queue: all that needs features and labels together."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from labelclean.arrays import Float64Array
from labelclean.config import Config
from labelclean.errors import ConfigError
from labelclean.noise.model import measured_prior
from labelclean.noise.readings import AuditEvidence, Readings, has_looks
from labelclean.progress import progress
from labelclean.review.decisions import Decision
from labelclean.review.kinds import kinds_record
from labelclean.review.leaks import Leaks
from labelclean.review.opinions import inspectors_record, label_opinions, review_opinions
from labelclean.review.overlaps import overlaps_of
from labelclean.review.part_queue import PartQueue, part_queue, predicted_of
from labelclean.review.part_views import OF_PART, PART, part_numbers
from labelclean.runs.audit import draws_table, earlier_draws, evidence_of, write_draws
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
from labelclean.runs.sentences import NOTHING_LEFT
from labelclean.runs.shortcuts import shortcuts_record
from labelclean.storage.parquet import join_parts, read_json, read_table, write_table
from labelclean.storage.tables import BOX_COLUMNS, NEW_KINDS, SET_ASIDE

if TYPE_CHECKING:
    from labelclean.cleaning.passes import Each
    from labelclean.cleaning.population import Learned, Taught
    from labelclean.noise.tally import Tally

LOG = logging.getLogger("labelclean")
JOINED = ("teacher_predictions", "refined_labels", "flags")


@dataclass(frozen=True)
class Question:
    """What labels are judged by.

    Attributes:
        work: The run's work folder.
        config: The configuration.
        names: The K class names.
        parts: The run's samples with what people have decided.
        reference: What the reference run left; None without one.
        draws: What earlier runs left of the samples that they drew; None where there is nothing.
        looks: What people found in these.
        measured: What inspectors were measured to do, float64, shape (K, K); None where the config names no study.
    """

    work: Path
    config: Config
    names: tuple[str, ...]
    parts: RunParts
    reference: RunSums | None
    draws: pa.Table | None
    looks: AuditEvidence
    measured: Float64Array | None


@dataclass(frozen=True)
class Answer:
    """What came of judging the labels; the tables are written.

    Attributes:
        learned: Teacher, student and trust.
        tally: What was counted over all samples.
        leaks: What stands in more than one split; None without splits.
    """

    learned: Learned
    tally: Tally
    leaks: Leaks | None

    @property
    def taught(self) -> Taught:
        """The teacher."""
        return self.learned.taught

    @property
    def readings(self) -> Readings:
        """What the labels were read by, and how far each reading is believed."""
        return self.learned.refinement.trust.readings


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
            record |= stopped(NOTHING_LEFT)
            return False
        cluster = config.run.cluster if plan_of(work).is_streamed else None
        if len(names) == 1:
            aside = _write_aside(work, config, parts)
            num_taken_out = 0 if aside is None else aside.num_rows
            with each_shard(cluster) as each:
                record |= rank_one_class(work, config, parts, names[0], each, num_taken_out)
            return True
        question = _question(work, config, names, parts, reference, decisions)
        with each_shard(cluster) as each:
            answer = _answer(question, each, record)
        if answer is None:
            return False
        _record_found(question, answer, record)
        _write_rest(question, answer, record)
    return True


# --- inside ---------------------------------------------------------------------------------------


def _question(
    work: Path,
    config: Config,
    names: tuple[str, ...],
    parts: RunParts,
    reference: RunSums | None,
    decisions: Sequence[Decision],
) -> Question:
    """What is known before anything is learned; the parts' digest tells it, for every score hangs on it."""
    draws = earlier_draws(config, names, ids_of(parts))
    looks, measured = evidence_of(draws, decisions, names), _measured(config, names)
    parts = parts.of_looks(looks)
    if measured is not None:
        parts = replace(parts, digest=hashlib.sha256(parts.digest.encode() + measured.tobytes()).hexdigest())
    return Question(work, config, names, parts, reference, draws, looks, measured)


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


def _answer(question: Question, each: Each, record: dict[str, Any]) -> Answer | None:
    """Learn, judge and write the tables of all samples; None where the run stops."""
    from labelclean.cleaning.population import learn_student

    taught = _taught(question, each)
    verdict = _judged(question, taught, record)
    if verdict is None:
        return None
    permitted = _permitted(question.config, verdict)
    learned = learn_student(taught, permitted, allowed=verdict.allowed, earlier=question.looks)
    leaks = leaks_of(question.parts, learned.taught)
    if question.config.data.label_of == "part":
        learned = _judged_parts(question, learned, verdict, record)
    tally = _write_tables(question, learned, leaks, each)
    if question.config.data.label_of == "image":  # else all images of a part carry one label
        work = question.work
        conflicts = flag_part_conflicts(question.parts.samples, _scores(work), _flags(work), _spill(work))
        record |= {} if conflicts is None else {"part_conflicts": conflicts}
    for name in JOINED:
        join_parts(_stream_paths(question.work, name), question.work / f"{name}.parquet")
    return Answer(learned, tally, leaks)


def _taught(question: Question, each: Each) -> Taught:
    """The teacher of all samples."""
    from labelclean.cleaning.memory import choice_rows
    from labelclean.cleaning.population import Labelled, Setting, learn_teacher

    work, config, parts, num_classes = question.work, question.config, question.parts, len(question.names)
    setting = Setting(
        config,
        seed=config.run.seed,
        sample_rows=choice_rows(config, num_classes),
        folder=work / INTERNAL / STREAM,
        digest=parts.digest,
        device=part_of(work, "extract")["device"],
        each=each,
    )
    labelled = Labelled(parts.shards, parts.labels, num_classes)
    sums = None if question.reference is None else question.reference.sums
    return learn_teacher(labelled, setting, reference=sums, measured=question.measured)


def _judged(question: Question, taught: Taught, record: dict[str, Any]) -> Verdict | None:
    """What all gates say of the teacher; None where the run stops."""
    teacher, names, config = taught.teacher, question.names, question.config
    earlier = Verdict(tuple(finding_of(row) for row in part_of(question.work, "check_distribution")["findings"]))
    is_told = teacher.exceeds_chance or has_looks(taught.labels, question.looks)
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


def _permitted(config: Config, verdict: Verdict) -> Config:
    """The same, a refinement that the gates rule out replaced by `auto`."""
    if config.refine.method in ("auto", *verdict.allowed):
        return config
    return config.model_copy(update={"refine": config.refine.model_copy(update={"method": "auto"})})


def _judged_parts(question: Question, learned: Learned, verdict: Verdict, record: dict[str, Any]) -> Learned:
    """The labels of parts, each judged by all its images."""
    from labelclean.cleaning.parts import Parts, judge_parts

    config, parts = question.config, question.parts
    views = Parts(part_numbers(column_of(parts, PART).to_pylist()), ok_of(config, question.names))
    candidates = np.concatenate([np.load(candidates_path(path)) for path in parts.labels])
    judged = judge_parts(
        learned,
        replace(learned.taught.chosen.labels, candidates=candidates),
        views,
        _permitted(config, verdict),
        seed=config.run.seed,
        folder=question.work / INTERNAL / STREAM,
        allowed=verdict.allowed,
        earlier=question.looks,
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


def _box_sets(parts: RunParts, taught: Taught) -> BoxSets | None:
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


def _write_tables(question: Question, learned: Learned, leaks: Leaks | None, each: Each) -> Tally:
    """Predictions, refined labels, flags and scores, part by part."""
    from labelclean.cleaning.shard_labels import sample_starts
    from labelclean.cleaning.verdicts import write_parts

    parts, names, config = question.parts, question.names, question.config
    num_parts = len(parts.samples)
    labels = parts.labels[:num_parts]
    tables = RunTables(
        samples=parts.samples,
        labels=labels,
        starts=sample_starts(labels),
        names=names,
        config=config,
        counts=parts.counts,
        pictures=learn_pictures(parts, learned.taught, len(names)),
        leak_sets=None if leaks is None else leaks.sets,
        overlaps=_box_sets(parts, learned.taught),
        costs=cost_rule(config, names),
        readings=learned.refinement.trust.readings,
    )
    stream = question.work / INTERNAL / STREAM
    with progress("judging labels", parts.num_samples, "samples") as advance:
        return write_parts(learned, tables, stream, each=each, num_parts=num_parts, advance=advance)


def _stream_paths(work: Path, table: str) -> list[Path]:
    """The parts of a table that the run leaves, or of the scores."""
    return sorted((work / INTERNAL / STREAM / table).glob("part-*.parquet"))


def _scores(work: Path) -> list[Path]:
    return _stream_paths(work, "scores")


def _flags(work: Path) -> list[Path]:
    return _stream_paths(work, "flags")


def _spill(work: Path) -> Path:
    return work / INTERNAL / "spill"


def _record_found(question: Question, answer: Answer, record: dict[str, Any]) -> None:
    """What was found about the labels, and what else tells them."""
    work, config, names, parts = question.work, question.config, question.names, question.parts
    tally, refinement = answer.tally, answer.learned.refinement
    drained = judge_moves(tally.moves, tally.votes, names, config.gates.class_distribution.max_lost_share)
    record["findings"].append(finding_record(drained))
    record["shortcuts"] = shortcuts_record(config, parts, answer.taught, names, _single_labels(work))
    record["findings"].append(finding_record(judge_shortcuts(record["shortcuts"], config.gates.shortcuts)))
    if answer.leaks is not None:
        record["leaks"] = answer.leaks.record()
        record["findings"].append(finding_record(judge_leaks(answer.leaks)))
    how = (config.refine.method, refinement.method, refinement.why, refinement.noise_matrix)
    record |= refinement_record(*how, tally, answer.readings, names, question.looks)
    record["unusable"] = unusable_record(parts, _scores(work), _flags(work), _spill(work))


def _write_rest(question: Question, answer: Answer, record: dict[str, Any]) -> None:
    """The queue, what people took out or may find, the draw, and the sums for the next night."""
    work, config, names, parts = question.work, question.config, question.names, question.parts
    tally, readings = answer.tally, answer.readings
    queue = _write_queue(work, names, config, readings.beliefs.num_audited)
    record["queue"] = queue_record(queue.queue, queue.estimate, config.review.seconds_per_sample)
    if config.classes.ok is not None:
        num_open = tally.num_samples - int(tally.verified)
        issues = record["label_issues"]
        record["costs"] = costs_record(config, _scores(work), queue.table, readings, num_open, issues)
    _write_kinds(work, config, parts, answer.taught, record)
    _write_draws(question, answer, queue)
    record["inspectors"] = _inspectors(work, parts, names)
    if config.teacher.pred_probs is None and config.data.label_of == "image":
        _leave_sums(question, answer, record)


def _write_queue(work: Path, names: Sequence[str], config: Config, num_looks: float) -> PartQueue:
    """`review_queue.parquet`."""
    queue = part_queue(_scores(work), _flags(work), names, config, _spill(work), num_looks)
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
    kinds = new_kinds(config, parts, taught, _scores(work), aside)
    if kinds is not None:
        write_table(work / f"{NEW_KINDS}.parquet", kinds, NEW_KINDS)
        record["new_kinds"] = kinds_record(kinds)


def _write_draws(question: Question, answer: Answer, queue: PartQueue) -> None:
    """What the readings make of tonight's draw, before anybody has looked."""
    from labelclean.cleaning.verdicts import found_at

    parts = question.parts
    drawn = np.sort(queue.numbers[~np.isnan(queue.queue.inclusion_probabilities)])
    labels, pred_probs, at = found_at(answer.learned, drawn)
    columns = ["sample_id", "given_label", "content_hash"]
    looked_at = [
        samples_of_part(parts.samples[number], parts.labels[number])[0].select(columns).take(pa.array(rows))
        for number, rows in at
    ]
    schema = pa.schema([pq.read_schema(parts.samples[0]).field(name) for name in columns])
    samples = pa.concat_tables(looked_at) if looked_at else schema.empty_table()
    tonight = draws_table(samples, answer.readings, pred_probs, labels)
    write_draws(question.work, tonight, question.draws, question.names)


def _single_labels(work: Path) -> pa.Table | None:
    """Every single label with who gave it; None where the labels do not name inspectors."""
    single = part_paths(work, LABELS)
    if not single or "annotator_id" not in pq.read_schema(single[0]).names:
        return None
    return pa.concat_tables([read_table(path, "labels") for path in single])


def _inspectors(work: Path, parts: RunParts, names: Sequence[str]) -> dict[str, Any]:
    """Inspectors compared with what the run suggests, and reviewers with each other."""
    labelled, suggested = None, np.empty(0, dtype=np.int64)
    if (single := _single_labels(work)) is not None:
        suggested = predicted_of(_scores(work))
        labelled = label_opinions(single, ids_of(parts), names)
    record = inspectors_record(labelled, None, suggested, names)
    decided, about = parts.decided
    if about is not None:
        reviewed = review_opinions(decided, about, names)
        record["reviews"] = inspectors_record(None, reviewed, np.zeros(len(decided), dtype=np.int64), names)["reviews"]
    return record


def _leave_sums(question: Question, answer: Answer, record: dict[str, Any]) -> None:
    """`sums.npz` for the next night, and how this one differs from its reference."""
    from labelclean.cleaning.population import learned_sums

    work, config, parts, names = question.work, question.config, question.parts, question.names
    folder, reference = config.run.reference, question.reference
    extracted = part_of(work, "extract")
    rows, folds, kept = kept_samples(parts.shards, parts.labels, len(parts.samples), len(names))
    counts = np.array(part_of(work, "check_distribution")["counts"])
    tonight = RunSums(
        class_names=names,
        backbone=extracted["backbone"]["digest"],
        decode=extracted["decode_digest"],
        seed=config.run.seed,
        folds=config.teacher.folds,
        counts=parts.new_votes + (0 if reference is None else reference.counts),
        sums=learned_sums(answer.learned),
        rows=rows,
        row_folds=folds,
        noise=_noise(work),
        runs=() if reference is None or folder is None else (*reference.runs, folder.name),
        kept=kept,
    )
    write_run_sums(work, tonight)
    if reference is not None and folder is not None:
        record["reference"] = drift_record(folder.name, reference, tonight, counts, parts.num_known)


def _noise(work: Path) -> dict[str, dict[str, tuple[float, float]]]:
    """Expected wrong labels by line, shift and camera, read part by part."""
    paths = _stream_paths(work, "refined_labels")
    columns = [name for name in pq.read_schema(paths[0]).names if name in ("line", "shift", "camera", "label_score")]
    return added_noise([noise_by_column(read_table(path, "refined_labels", columns)) for path in paths])
