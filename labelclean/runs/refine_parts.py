"""`refine` out of core: labels by part, teacher, gate, student, outputs by part, queue; ended by files joined in order."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from labelclean.arrays import BoolArray, FloatArray, IntArray
from labelclean.cleaning.clean import bootstrap_agreement, chosen_method, joined_teacher, nothing_tells
from labelclean.cleaning.learning import (
    Learned,
    Taught,
    learn_student,
    learn_teacher,
    num_rounds,
    sample_values,
    tells_more_than_chance,
)
from labelclean.cleaning.passes import Each, each_shard
from labelclean.cleaning.sample import Chosen, choose_sample, read_sample
from labelclean.cleaning.shard_labels import part_labels
from labelclean.cleaning.shards import Shard, find_shards
from labelclean.cleaning.verdicts import Found, write_parts
from labelclean.config import Config
from labelclean.noise.readings import has_looks
from labelclean.noise.tally import Tally
from labelclean.noise.targets import given_targets
from labelclean.noise.top2 import top2_margin
from labelclean.probes.feature_space import fold_buckets
from labelclean.probes.neighbours import mean_similarity
from labelclean.progress import progress
from labelclean.review.decisions import Decision, reviewed_labels
from labelclean.review.flags import Evidence, build_flags, usual_similarity
from labelclean.review.opinions import inspectors_record, label_opinions, review_opinions
from labelclean.review.part_queue import part_queue, predicted_of, score_rows
from labelclean.runs.audit import earlier_draws, evidence_of, write_draws
from labelclean.runs.drift import added_noise
from labelclean.runs.drift_report import drift_record
from labelclean.runs.extract_parts import FEATURES, SAMPLES
from labelclean.runs.gates import Verdict, judge_moves, judge_teacher
from labelclean.runs.ingest_parts import LABELS, part_paths
from labelclean.runs.night_sums import KEPT_ROWS, RunSums, read_run_sums, write_run_sums
from labelclean.runs.outputs import (
    flag_table,
    judged_table,
    noise_by_column,
    predictions_table,
    queue_record,
    refinement_record,
    standing_record,
    teacher_measurements,
    teacher_record,
)
from labelclean.runs.plan import STREAMED_METHODS, plan_of
from labelclean.runs.record import INTERNAL, finding_of, finding_record, goes_on, part_of, stopped
from labelclean.runs.run import known_decisions, standing_of
from labelclean.storage.parquet import join_parts, make_folder, read_table, write_table
from labelclean.storage.queries import samples_known
from labelclean.storage.samples import given_labels_of, groups_of
from labelclean.storage.tables import conform

STREAM = "stream"
JOINED = ("teacher_predictions", "refined_labels", "flags")


@dataclass(frozen=True)
class _Parts:
    """The parts of a run that hold samples.

    Attributes:
        samples: Table `samples` of each.
        shards: Its features.
        labels: File with its labels.
        standing: What people have decided, summed up for the summary.
        decided: Single decisions, and the samples that they are about.
        digest: Of all labels.
    """

    samples: tuple[Path, ...]
    shards: tuple[Shard, ...]
    labels: tuple[Path, ...]
    standing: dict[str, int]
    decided: tuple[tuple[tuple[Decision, ...], ...], pa.Table | None]
    digest: str
    num_known: int


def refine_parts(work: Path, config: Config, record: dict[str, Any]) -> bool:
    """Teach, judge the teacher, refine, queue; every shard of every pass is a unit that a killed run keeps.

    Args:
        work: The run's work folder.
        config: The configuration.
        record: The step's record.

    Returns:
        False where a gate stops the run.
    """
    plan, names = plan_of(work), tuple(part_of(work, "ingest")["class_names"])
    reference = None if config.run.reference is None else read_run_sums(config.run.reference)
    parts = _labelled_parts(work, config, names, reference)
    record["reviewed"] = parts.standing
    chosen = choose_sample(parts.labels, len(names), plan.sample_rows)
    if not len(chosen.rows):
        record |= stopped("reviewers call every image bad; nothing is left to judge.")
        return False
    with each_shard(config.run.cluster) as each:
        return _refined(work, config, record, parts, chosen, reference, each)


def _refined(
    work: Path,
    config: Config,
    record: dict[str, Any],
    parts: _Parts,
    chosen: Chosen,
    reference: RunSums | None,
    each: Each,
) -> bool:
    """The passes over the shards, here or on a cluster, and what follows from them."""
    plan, names = plan_of(work), tuple(part_of(work, "ingest")["class_names"])
    extracted, stream = part_of(work, "extract"), work / INTERNAL / STREAM
    taught = learn_teacher(
        parts.shards,
        parts.labels,
        chosen,
        config,
        folder=stream,
        digest=parts.digest,
        device=extracted["device"],
        reference=None if reference is None else reference.sums,
        most_directions=plan.directions,
        each=each,
    )
    teacher, agreement = _judged_teacher(taught, config)
    earlier = Verdict(tuple(finding_of(row) for row in part_of(work, "check_distribution")["findings"]))
    draws = earlier_draws(config, names, _sample_ids(parts, chosen).to_pylist())
    looks = evidence_of(draws, known_decisions(config), names)
    is_told = teacher.exceeds_chance or has_looks(chosen.labels, looks)
    measurements = replace(teacher_measurements(teacher, chosen.labels, names), exceeds_chance=is_told)
    measured = judge_teacher(measurements, names, config.gates.top2)
    verdict = Verdict(earlier.findings + measured.findings)
    record |= {
        "findings": [finding_record(finding) for finding in measured.findings],
        "teacher": teacher_record(teacher, chosen.labels, taught.space, names),
        "out_of_core": {"why": plan.why, "samples_for_choices": len(chosen.rows)},
    }
    if not is_told:
        sentence = nothing_tells(teacher)
        refinement = {"requested": config.refine.method, "method": "none", "why": sentence, "cause": "chance"}
        record |= stopped(sentence) | {"refinement": refinement}
        return False
    if not goes_on(verdict, config, record):
        return False
    allowed = set(verdict.allowed) & set(STREAMED_METHODS)
    method, why = chosen_method(("posterior", "none"), chosen.labels, teacher, config, allowed, is_told=is_told)
    rounds = num_rounds(config, method)
    learned = learn_student(taught, config, rounds, None if reference is None else reference.sums, each, looks)
    counts = np.array(part_of(work, "check_distribution")["counts"])
    tally = _write_tables(work, parts, learned, agreement, names, config, counts, each)
    for name in JOINED:
        join_parts(sorted((stream / name).glob("part-*.parquet")), work / f"{name}.parquet")
    drained = judge_moves(tally.moves, tally.votes, names, config.gates.class_distribution.max_lost_share)
    record["findings"].append(finding_record(drained))
    record |= refinement_record(
        config.refine.method, method, why, learned.student.matrix, tally, learned.trust.readings, names, looks
    )
    queue = _write_queue(work, names, config, record, learned.trust.readings.beliefs.num_audited)
    _write_draws(work, parts, learned, queue, draws, names)
    record["inspectors"] = _inspectors(work, parts, learned, names)
    _leave_sums(work, config, parts, learned, names, reference, record)
    return True


def _labelled_parts(work: Path, config: Config, names: Sequence[str], reference: RunSums | None) -> _Parts:
    """Labels of each part with what people have decided; written anew by every start, for decisions may have come."""
    decisions = known_decisions(config)
    folder = work / INTERNAL / STREAM / "labels"
    make_folder(folder)
    known: set[str] = set()
    if reference is not None and config.run.reference is not None:
        spill = work / INTERNAL / "spill"
        known = samples_known(config.run.reference, reference.runs, part_paths(work, SAMPLES), spill)
    kept_samples, features, labels, said, standings = [], [], [], hashlib.sha256(), []
    decided: list[tuple[Decision, ...]] = []
    about: list[pa.Table] = []
    for path in part_paths(work, SAMPLES):
        samples = read_table(path, "samples")
        if not samples.num_rows:
            continue
        standing, single = standing_of(samples, names, config, decisions)
        found = reviewed_labels(given_labels_of(samples, names), standing)
        keep = ~standing.is_excluded
        rows = np.flatnonzero(keep)
        some = samples.take(pa.array(rows))
        ids = some.column("sample_id").to_pylist()
        one = part_labels(
            found.take(rows),
            groups_of(some),
            ids,
            num_folds=config.teacher.folds,
            num_buckets=fold_buckets(config.teacher.folds),
            seed=config.run.seed,
            kept=keep,
            old=np.array([sample in known for sample in ids], dtype=bool) if known else None,
            with_groups=config.neighbours.method == "index",
        )
        target = folder / f"{path.stem}.npz"
        one.write(target)
        np.save(folder / f"{path.stem}.settled.npy", standing.is_settled[rows])
        said.update(one.digest.encode())
        kept_samples.append(path)
        features.append(work / INTERNAL / FEATURES / f"{path.stem}.npy")
        labels.append(target)
        standings.append(standing_record(standing))
        hit = [row for row in rows.tolist() if single[row]]
        decided += [single[row] for row in hit]
        about += [samples.take(pa.array(hit, pa.int64()))] if hit else []
    digest = hashlib.sha256((plan_of(work).digest + said.hexdigest()).encode()).hexdigest()
    totals = {key: sum(one[key] for one in standings) for key in standings[0]}
    joined = pa.concat_tables(about, promote_options="permissive") if about else None
    return _Parts(
        tuple(kept_samples),
        find_shards(features),
        tuple(labels),
        totals,
        (tuple(decided), joined),
        digest,
        len(known),
    )


def _judged_teacher(taught: Taught, config: Config) -> tuple[Any, FloatArray]:
    """The teacher on the sample, with the agreement of its refits."""
    labels, stage = taught.chosen.labels, taught.teacher
    agreement = bootstrap_agreement(taught.space, given_targets(labels), stage.penalty, config, seed=config.run.seed)
    values = sample_values(taught)
    teacher = joined_teacher(stage.names, values, stage.plain, stage.noise, labels, agreement, stage.penalty, config)
    return replace(teacher, exceeds_chance=tells_more_than_chance(taught, seed=config.run.seed)), agreement


def _write_tables(
    work: Path,
    parts: _Parts,
    learned: Learned,
    agreement: FloatArray,
    names: Sequence[str],
    config: Config,
    counts: FloatArray,
    each: Each,
) -> Tally:
    """Predictions, refined labels, flags and scores of every part."""
    chosen = learned.chosen
    agreed = (chosen.parts, chosen.rows, agreement)
    near = learned.space.neighbours
    usual = None if near is None else usual_similarity(mean_similarity(near))
    whole = (np.rint(counts).astype(np.int64), usual)
    outputs = _RunOutputs(parts.samples, parts.labels, agreed, tuple(names), config, *whole)
    folder = work / INTERNAL / STREAM
    with progress("judging labels", chosen.num_samples, "samples") as advance:
        return write_parts(learned, outputs, folder, each=each, advance=advance)


@lru_cache(maxsize=1)
def _part(samples: Path, labels: Path) -> tuple[pa.Table, BoolArray]:
    """The samples of a part that count, and which of them people have settled."""
    table = read_table(samples, "samples")
    with np.load(labels) as kept:
        rows = np.flatnonzero(kept["kept"]) if "kept" in kept.files else np.arange(table.num_rows)
    return table.take(pa.array(rows)), np.load(labels.with_suffix(".settled.npy"))


@dataclass(frozen=True)
class _RunOutputs:
    """Makes the tables of some samples of a part."""

    samples: tuple[Path, ...]
    labels: tuple[Path, ...]
    agreed: tuple[IntArray, IntArray, FloatArray]
    names: tuple[str, ...]
    config: Config
    counts: IntArray
    usual_similarity: tuple[np.floating, np.floating] | None

    def __call__(self, number: int, found: Found) -> dict[str, pa.Table]:
        whole, settled = _part(self.samples[number], self.labels[number])
        some, names, config = whole.take(pa.array(found.rows)), self.names, self.config
        ids = some.column("sample_id").combine_chunks()
        judged, agreement = found.judged, self._agreement(number, len(settled))[found.rows]
        evidence = Evidence(
            votes=found.labels.votes,
            given=found.labels.given,
            predicted=judged.predicted,
            label_scores=judged.label_scores,
            is_label_issue=judged.is_label_issue,
            top2_margin=np.clip(top2_margin(found.pred_probs), 0, 1),
            top2_agreement=agreement,
            neighbour_votes=found.neighbour_votes,
            neighbour_similarity=found.neighbour_similarity,
            duplicate_sets=np.full(len(found.rows), -1),
            class_counts=self.counts,
            usual_similarity=self.usual_similarity,
        )
        flags = build_flags(evidence, config.flags, config.gates.top2.unstable_below)
        refined = judged_table(some, judged, evidence.duplicate_sets, names)
        predictions = predictions_table(ids, found.pred_probs, agreement, names)
        given = pc.index_in(some.column("given_label"), value_set=pa.array(names, pa.string()))
        scores = (judged.label_scores, judged.is_label_issue, settled[found.rows], judged.reading_scores)
        return {
            "teacher_predictions": conform(predictions, "teacher_predictions", class_names=names),
            "refined_labels": conform(refined, "refined_labels", class_names=names),
            "flags": conform(flag_table(ids.to_pylist(), flags), "flags"),
            "scores": score_rows(some, given, judged.soft_labels, *scores),
        }

    def _agreement(self, number: int, size: int) -> FloatArray:
        """Agreement of the samples that choices were made on, NaN elsewhere."""
        parts, rows, agreement = self.agreed
        values = np.full(size, np.nan, dtype=np.float32)
        values[rows[parts == number]] = agreement[parts == number]
        return values


def _write_draws(
    work: Path, parts: _Parts, learned: Learned, queue: pa.Table, draws: pa.Table | None, names: Sequence[str]
) -> None:
    """What the readings make of tonight's draw, as far as it lies in the sample on which choices were made."""
    chosen, space = learned.chosen, learned.space
    rows = [design.unit_rows for design in space.designs.values()]
    probs = learned.student.probs(rows, space.design.folds, space.neighbours)
    order = np.lexsort((chosen.places, chosen.parts))
    columns = ["sample_id", "given_label", "content_hash"]
    tables = []
    for number in np.unique(chosen.parts).tolist():
        at = np.sort(chosen.places[chosen.parts == number])
        tables.append(read_table(parts.samples[number], "samples", columns).take(pa.array(at)))
    drawn = queue.filter(pc.is_valid(queue.column("inclusion_probability"))).column("sample_id")
    samples = pa.concat_tables(tables)
    at = np.flatnonzero(pc.is_in(samples.column("sample_id"), value_set=drawn.combine_chunks()).to_numpy())
    write_draws(work, samples, at, learned.trust.readings, probs[order], chosen.labels.take(order), draws, names)


def _write_queue(
    work: Path, names: Sequence[str], config: Config, record: dict[str, Any], num_looks: float
) -> pa.Table:
    """`review_queue.parquet` and its numbers; returns the queue."""
    stream = work / INTERNAL / STREAM
    scores, flags = (sorted((stream / name).glob("part-*.parquet")) for name in ("scores", "flags"))
    found = part_queue(scores, flags, names, config, work / INTERNAL / "spill", num_looks)
    write_table(work / "review_queue.parquet", found.table, "review_queue", names)
    record["queue"] = queue_record(found.queue, found.estimate, config.review.seconds_per_sample)
    if found.cut_from is not None:
        record["queue"]["cut_from"] = found.cut_from
    return found.table


def _inspectors(work: Path, parts: _Parts, learned: Learned, names: Sequence[str]) -> dict[str, Any]:
    """Inspectors compared on the sample, reviewers on all that they have reviewed."""
    labelled, suggested = None, np.empty(0, dtype=np.int64)
    paths = part_paths(work, LABELS)
    if paths and "annotator_id" in pq.read_schema(paths[0]).names:
        ids = _sample_ids(parts, learned.chosen)
        tables = []
        for path in paths:
            table = read_table(path, "labels")
            tables.append(table.filter(pc.is_in(table.column("sample_id"), value_set=ids)))
        scores = sorted((work / INTERNAL / STREAM / "scores").glob("part-*.parquet"))
        by_id = predicted_of(scores, ids)
        suggested = np.array([by_id[sample] for sample in ids.to_pylist()], dtype=np.int64)
        labelled = label_opinions(pa.concat_tables(tables), ids.to_pylist(), names)
    found = inspectors_record(labelled, None, suggested, names)
    decided, about = parts.decided
    if about is not None:
        reviewed = review_opinions(decided, about, names)
        found["reviews"] = inspectors_record(None, reviewed, np.zeros(len(decided), dtype=np.int64), names)["reviews"]
    return found


def _sample_ids(parts: _Parts, chosen: Chosen) -> pa.Array:
    """Ids of the sample on which choices were made, sorted."""
    found = []
    for number in np.unique(chosen.parts).tolist():
        at = np.sort(chosen.places[chosen.parts == number])
        found.append(read_table(parts.samples[number], "samples", ["sample_id"]).column(0).take(pa.array(at)))
    return pa.concat_arrays([chunk for column in found for chunk in column.chunks])


def _leave_sums(
    work: Path,
    config: Config,
    parts: _Parts,
    learned: Learned,
    names: Sequence[str],
    reference: RunSums | None,
    record: dict[str, Any],
) -> None:
    """`sums.npz` for the next night, and how this one differs from its reference."""
    extracted, chosen = part_of(work, "extract"), learned.chosen
    kept = np.sort(chosen.order[:KEPT_ROWS])
    some = chosen.take(kept)
    tonight = RunSums(
        class_names=tuple(names),
        backbone=extracted["backbone"]["digest"],
        decode=extracted["decode_digest"],
        seed=config.run.seed,
        folds=config.teacher.folds,
        counts=np.array(part_of(work, "check_distribution")["counts"]) + (0 if reference is None else reference.counts),
        sums=learned.sums,
        rows=read_sample(parts.shards, some).astype(np.float16),
        row_folds=some.folds,
        noise=_noise(work),
        runs=() if reference is None or config.run.reference is None else (*reference.runs, config.run.reference.name),
    )
    write_run_sums(work, tonight)
    if reference is not None and config.run.reference is not None:
        counts = np.array(part_of(work, "check_distribution")["counts"])
        record["reference"] = drift_record(config.run.reference.name, reference, tonight, counts, parts.num_known)


def _noise(work: Path) -> dict[str, dict[str, tuple[float, float]]]:
    """Expected wrong labels by line, shift and camera, read part by part."""
    paths = sorted((work / INTERNAL / STREAM / "refined_labels").glob("part-*.parquet"))
    columns = [name for name in pq.read_schema(paths[0]).names if name in ("line", "shift", "camera", "label_score")]
    return added_noise([noise_by_column(read_table(path, "refined_labels", columns)) for path in paths])
