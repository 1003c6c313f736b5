"""`refine` where images have several labels: every class is a question of yes or no to the same features.

One class after the other is taught, judged and written, part by part, so that a run holds what one question needs; then
the answers of all classes are put side by side.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from labelclean.arrays import BoolArray, Float32Array, IntArray
from labelclean.cleaning.shard_labels import shard_labels
from labelclean.config import Config
from labelclean.labels import GivenLabels, given_labels
from labelclean.noise.distribution import distribution_of_counts
from labelclean.noise.readings import has_looks
from labelclean.probes.feature_space import sample_keys
from labelclean.probes.neighbours import conflict_sets
from labelclean.progress import progress
from labelclean.review.decisions import Decision, reviewed_labels, standing_decisions
from labelclean.review.label_set_decisions import SetStanding, measure_set_standing
from labelclean.review.leaks import Leaks
from labelclean.review.part_queue import part_queue
from labelclean.runs.gates import Verdict, judge_distribution, judge_leaks, judge_teacher
from labelclean.runs.label_set_gates import ClassVerdict, set_findings
from labelclean.runs.label_set_outputs import (
    ANSWERS,
    PRESENT,
    AnswerTables,
    ClassResult,
    part_answers,
    refined_sets,
    set_flags,
    set_refinement_record,
    set_score_rows,
)
from labelclean.runs.outputs import queue_record, teacher_measurements
from labelclean.runs.parts import STREAM, RunParts, leaks_of, sample_paths, shards_of
from labelclean.runs.plan import plan_of
from labelclean.runs.record import INTERNAL, finding_record, part_of, recorded, stopped
from labelclean.runs.refused import refused_by_chance
from labelclean.runs.run import known_decisions
from labelclean.runs.sentences import NOTHING_LEFT
from labelclean.storage.label_sets import GIVEN, given_answers, texts_of_sets
from labelclean.storage.parquet import (
    atomic_path,
    join_parts,
    make_folder,
    parquet_options,
    read_answer_probs,
    read_table,
    write_table,
)
from labelclean.storage.samples import groups_of
from labelclean.storage.tables import SET_ASIDE, conform

if TYPE_CHECKING:
    from labelclean.cleaning.passes import Each
    from labelclean.cleaning.population import Taught
    from labelclean.cleaning.shards import Shard

JOINED = ("refined_labels", "label_flags")


@dataclass(frozen=True)
class SetPart:
    """One part of a run: its samples that count, and what people said of them.

    Attributes:
        samples: Table `samples`.
        kept: Which rows of it count, bool, shape (m,).
        given: Classes as ingested, bool, shape (n, K).
        standing: What people have decided about the n samples that count.
        pred_probs: Probabilities of the user's own model, float32, shape (n, K), in [0, 1]; None where he brings none.
    """

    samples: Path
    kept: BoolArray
    given: BoolArray
    standing: SetStanding
    pred_probs: Float32Array | None = None

    def question(self, number: int) -> GivenLabels:
        """Return yes or no of one class, with what people found in the place of what was given."""
        labels = given_labels(self.given[:, number].astype(np.int64), 2)
        return reviewed_labels(labels, self.standing.of_class(number))

    def own_answers(self, number: int) -> Float32Array | None:
        """Return the user's own P(absent), P(present) of one class, float32, shape (n, 2)."""
        if self.pred_probs is None:
            return None
        present = self.pred_probs[:, number]
        return np.stack([1 - present, present], axis=1)

    def table(self) -> pa.Table:
        """Return the rows of its samples that count."""
        return read_table(self.samples, "samples").filter(pa.array(self.kept))


@dataclass(frozen=True)
class Answered:
    """What came of the question about one class.

    Attributes:
        verdict: What the gates say of it.
        result: What it came to; None where nothing could be learned, and what was given stands.
        folder: Holds the answers, part by part.
    """

    verdict: ClassVerdict
    result: ClassResult | None
    folder: Path

    def path(self, number: int) -> Path | None:
        """Return the file of its answers about a part; None where there are none."""
        return None if self.result is None else self.folder / ANSWERS / f"part-{number:05d}.parquet"


def refine_label_sets(work: Path) -> bool:
    """Teach, judge and refine every class for itself; leaves refined labels, label flags and the review queue.

    Args:
        work: The run's work folder.

    Returns:
        False where the run stops here.
    """
    from labelclean.cleaning.passes import each_shard

    with recorded(work, "refine") as (config, record):
        names = tuple(part_of(work, "ingest")["class_names"])
        parts = _set_parts(work, config, names, known_decisions(config))
        record["reviewed"] = _reviewed(parts)
        _write_aside(work, parts, names)
        num_samples = sum(len(part.given) for part in parts)
        if not num_samples:
            record |= stopped(NOTHING_LEFT)
            return False
        with each_shard(config.run.cluster if plan_of(work).is_streamed else None) as each:
            answered, leaks = _answer_all(work, config, parts, names, each)
        record["findings"] = [finding_record(finding) for finding in _findings(answered, names, config)]
        if refusal := _refusal(answered, names, config):
            record |= refusal
            return False
        if leaks is not None:
            record["leaks"] = leaks.record()
            record["findings"].append(finding_record(judge_leaks(leaks)))
        images = _write_tables(work, parts, answered, names, leaks)
        results = {name: one.result for name, one in zip(names, answered, strict=True) if one.result is not None}
        given = dict(zip(names, np.sum([part.given.sum(axis=0) for part in parts], axis=0).tolist(), strict=True))
        record |= set_refinement_record(config.refine.method, results, given, images, num_samples)
        num_looks = max(one.readings.beliefs.num_audited for one in results.values())
        scores = sorted((work / INTERNAL / STREAM / "scores").glob("part-*.parquet"))
        queue = part_queue(scores, [], names, config, work / INTERNAL / "spill", num_looks)
        write_table(work / "review_queue.parquet", queue.table, "review_queue", names)
        record["queue"] = queue_record(queue.queue, queue.estimate, config.review.seconds_per_sample)
    return True


# --- inside ---------------------------------------------------------------------------------------


def _write_aside(work: Path, parts: Sequence[SetPart], names: Sequence[str]) -> None:
    """`set_aside.parquet` where people took images out; `apply` and the report know these by it."""
    columns = ("sample_id", "image_path", GIVEN, "content_hash")
    aside = []
    for part in parts:
        if not part.kept.all():
            samples = read_table(part.samples, "samples").filter(pa.array(~part.kept))
            aside.append(samples.select([name for name in columns if name in samples.column_names]))
    if aside:
        table = pa.concat_tables(aside)
        decisions = pa.array(["bad_image"] * table.num_rows, pa.string())
        write_table(work / f"{SET_ASIDE}.parquet", table.append_column("decision", decisions), SET_ASIDE, names)


def _set_parts(work: Path, config: Config, names: Sequence[str], decisions: Sequence[Decision]) -> list[SetPart]:
    """The parts that hold samples, with what people have decided about them."""
    paths = sample_paths(work)
    own, start, parts = _own_probs(config, paths, names), 0, []
    for path in paths:
        samples = read_table(path, "samples")
        ids, hashes = (samples.column(name).to_pylist() for name in ("sample_id", "content_hash"))
        texts = texts_of_sets(samples.column(GIVEN), names)
        decided = standing_decisions(decisions, ids, hashes, texts, config.review.reopen)
        standing = measure_set_standing(decided, names)
        kept = ~standing.is_excluded
        of_kept = SetStanding(**{name: values[kept] for name, values in vars(standing).items()})
        probs = None if own is None else own[start : start + len(ids)][kept]
        parts.append(SetPart(path, kept, given_answers(samples)[kept], of_kept, probs))
        start += len(ids)
    return parts


def _own_probs(config: Config, paths: Sequence[Path], names: Sequence[str]) -> Float32Array | None:
    """Probabilities of the user's own model for the samples of all parts; None where he brings none."""
    if config.teacher.pred_probs is None:
        return None
    ids = [sample for path in paths for sample in read_table(path, "samples", ["sample_id"]).column(0).to_pylist()]
    return read_answer_probs(config.teacher.pred_probs, ids, names)


def _reviewed(parts: Sequence[SetPart]) -> dict[str, int]:
    """How many samples people have decided, for the summary."""
    num_bad = sum(int((~part.kept).sum()) for part in parts)
    return {
        "settled": sum(int(part.standing.is_settled.sum()) for part in parts) + num_bad,
        "partial": 0,
        "disputed": sum(int(part.standing.is_disputed.sum()) for part in parts),
        "bad_image": num_bad,
    }


def _answer_all(
    work: Path, config: Config, parts: Sequence[SetPart], names: Sequence[str], each: Each
) -> tuple[list[Answered], Leaks | None]:
    """The answers to all questions, and what stands in more than one split, which hangs on no label."""
    from labelclean.cleaning.several import learn_answers

    stream = work / INTERNAL / STREAM
    folders = [stream / f"class-{number:04d}" for number in range(len(names))]
    shards = shards_of([part.samples for part in parts])  # the same files for all questions
    asked = [_run_parts(work, folder, config, parts, number, shards) for number, folder in enumerate(folders)]
    is_open = [bool(one.counts.all()) for one in asked]
    answered = [Answered(ClassVerdict("closed"), None, folder) for folder in folders]
    digest = hashlib.sha256("/".join(one.digest for one in asked).encode()).hexdigest()
    if not any(is_open):
        return answered, None
    taught_in_turn = learn_answers(
        shards,
        [one.labels for one, open_ in zip(asked, is_open, strict=True) if open_],
        config,
        seed=config.run.seed,
        folder=stream / "questions",
        digest=digest,
        device=part_of(work, "extract")["device"],
        each=each,
    )
    leaks: Leaks | None = None
    with progress("judging labels", sum(is_open), "classes") as advance:
        for number, taught in zip(np.flatnonzero(is_open).tolist(), taught_in_turn, strict=True):
            is_first = all(one.result is None for one in answered)
            one = _answered(taught, folders[number], config, asked[number], names[number], each, is_first=is_first)
            leaks = leaks_of(asked[number], taught) if is_first and one.result is not None else leaks
            answered[number] = one
            advance(1)
    return answered, leaks


def _run_parts(
    work: Path, folder: Path, config: Config, parts: Sequence[SetPart], number: int, shards: tuple[Shard, ...]
) -> RunParts:
    """The samples with the labels of one question, which are written anew by every start: decisions may have come."""
    make_folder(folder / "labels")
    labels, digest = [], hashlib.sha256(plan_of(work).digest.encode())
    counts = np.zeros(2, dtype=np.int64)
    for part in parts:
        some, question = part.table(), part.question(number)
        ids = some.column("sample_id").to_pylist()
        keys = sample_keys(ids, groups_of(some), num_folds=config.teacher.folds, seed=config.run.seed)
        one = shard_labels(question, keys, kept=part.kept, pred_probs=part.own_answers(number))
        labels.append(folder / "labels" / f"{part.samples.stem}.npz")
        one.write(labels[-1])
        digest.update(one.digest.encode())
        counts += np.bincount(question.given, minlength=2)
    return RunParts(
        samples=tuple(part.samples for part in parts),
        shards=shards,
        labels=tuple(labels),
        reviewed={},
        decided=((), None),
        digest=digest.hexdigest(),
        num_known=0,
        counts=counts,
        new_votes=counts.astype(np.float64),
    )


def _answered(
    taught: Taught, folder: Path, config: Config, parts: RunParts, name: str, each: Each, *, is_first: bool
) -> Answered:
    """Judge and write one class; a refinement that the gates rule out for it is replaced by `auto`."""
    from labelclean.cleaning.population import learn_student
    from labelclean.cleaning.verdicts import write_parts

    verdict = _class_verdict(taught, parts, name, config)
    is_refused = config.refine.method not in ("auto", *verdict.allowed)
    is_stopped = is_refused or (verdict.allowed == ("none",) and config.refine.method != "none")
    if verdict.state != "judged" or (is_stopped and config.gates.on_refusal == "stop"):
        return Answered(verdict, None, folder)
    if is_refused:
        config = config.model_copy(update={"refine": config.refine.model_copy(update={"method": "auto"})})
    refinement = (learned := learn_student(taught, config, allowed=verdict.allowed)).refinement
    tally = write_parts(learned, AnswerTables(is_first), folder, each=each, num_parts=len(parts.samples))
    result = ClassResult(tally, refinement.trust.readings, refinement.method, refinement.why, refinement.noise_matrix)
    return Answered(verdict, result, folder)


def _class_verdict(taught: Taught, parts: RunParts, name: str, config: Config) -> ClassVerdict:
    """What the gates that hold for one label per image say of the two answers to the question about a class."""
    two = (f"no {name}", name)
    is_told = taught.teacher.exceeds_chance or has_looks(taught.labels)
    measured = replace(teacher_measurements(taught.teacher, taught.labels, two), exceeds_chance=is_told)
    counted, limits = distribution_of_counts(parts.counts.astype(np.float64)), config.gates.class_distribution
    findings = judge_distribution(counted, two, limits, dict(zip(two, two, strict=True))).findings
    findings += judge_teacher(measured, two, config.gates.top2).findings
    is_alone = taught.unvouched is not None and PRESENT in taught.unvouched.classes
    refusal = {} if is_told else refused_by_chance(config, taught.teacher, taught.unvouched, taught.space, two)
    return ClassVerdict(
        "judged" if is_told else "chance", Verdict(findings), measured.estimated_noise, is_alone, refusal
    )


def _findings(answered: Sequence[Answered], names: Sequence[str], config: Config) -> list[Any]:
    """What the gates say of all classes together."""
    verdicts = {name: one.verdict for name, one in zip(names, answered, strict=True)}
    moves = {name: _moves(one.result) for name, one in zip(names, answered, strict=True) if one.result is not None}
    return set_findings(verdicts, moves, config.gates.top2.max_noise, config.gates.class_distribution.max_lost_share)


def _moves(result: ClassResult) -> tuple[int, int, int]:
    """Labels that a class would lose and gain, and those that it has."""
    tally = result.tally
    return int(tally.lost[PRESENT]), int(tally.gained[PRESENT]), int(tally.given[PRESENT])


def _refusal(answered: Sequence[Answered], names: Sequence[str], config: Config) -> dict[str, Any] | None:
    """The record of a run that stops: a class for which the refinement asked for is not safe, or no class that is told."""
    method = config.refine.method
    for name, one in zip(names, answered, strict=True):
        if one.verdict.state == "judged" and one.result is None:
            blocking = one.verdict.gates.why_not("posterior" if method == "auto" else method)
            why = " ".join(finding.sentence for finding in blocking)
            return stopped(f"refused: refine.method = {method} for {name!r}: {why} (gates.on_refusal = stop)")
    if any(one.result is not None for one in answered):
        return None
    causes = [one.verdict.refusal for one in answered if one.verdict.refusal]
    if causes and causes[0]["refinement"]["cause"] in ("alike", "one_group"):
        return dict(causes[0])  # what holds for one class holds for all
    sentence = (
        "these images say no more of any class than chance would; nothing is flagged. Look at some images, or try another "
        "backbone."
    )
    refinement = {"requested": method, "method": "none", "why": sentence, "cause": "chance"}
    return stopped(sentence) | {"refinement": refinement}


def _write_tables(
    work: Path, parts: Sequence[SetPart], answered: Sequence[Answered], names: Sequence[str], leaks: Leaks | None
) -> dict[str, int]:
    """The answers of all classes side by side, part by part, then joined; what is counted over images."""
    stream = work / INTERNAL / STREAM
    starts = np.cumsum([0, *(len(part.given) for part in parts)])
    first = next(one for one in answered if one.result is not None)
    sets = np.concatenate([_of_first(first, at).column("duplicate_set").to_numpy() for at in range(len(parts))])
    conflicts = conflict_sets(_copies(parts), _codes(parts))
    images = dict.fromkeys(("num", "missing", "spurious", "would_change"), 0)
    for at, part in enumerate(parts):
        numbers, some = np.arange(starts[at], starts[at + 1]), part.table()
        votes = [part.question(number).votes[:, PRESENT] for number in range(len(names))]
        answers = part_answers(part.given, votes, [one.path(at) for one in answered])
        refined = refined_sets(some, answers, sets[numbers], None if leaks is None else leaks.sets[numbers], names)
        refined = conform(refined, "refined_labels", class_names=names)
        flags = set_flags(some.column("sample_id").combine_chunks(), answers, names)
        scores = set_score_rows(refined, numbers, answers, part.standing.is_settled, conflicts[numbers])
        beside = _of_first(first, at)
        if "near" in beside.column_names:
            scores = scores.append_column("near", beside.column("near"))
        tables = {"refined_labels": refined, "label_flags": conform(flags, "label_flags", class_names=names)}
        for name, table in (tables | {"scores": scores}).items():
            make_folder(stream / name)
            with atomic_path(stream / name / f"part-{at:05d}.parquet") as temporary:
                pq.write_table(table, temporary, **parquet_options(table.schema))
        images = {name: num + answers.counts()[name] for name, num in images.items()}
    for name in JOINED:
        join_parts(sorted((stream / name).glob("part-*.parquet")), work / f"{name}.parquet")
    return images


def _of_first(first: Answered, number: int) -> pa.Table:
    """What the first question found about a part and every other finds alike: near-duplicates and neighbours."""
    path = first.folder / ANSWERS / f"part-{number:05d}.parquet"
    return pq.read_table(path, partitioning=None).sort_by("row")


def _copies(parts: Sequence[SetPart]) -> IntArray:
    """A number for the copies of each image file, int64, shape (N,), -1 for images without one.

    Copies with different labels come first in the queue, and people see one of them. Near-copies do not: images without
    any defect are often alike, and each stands in the queue by its own worst label.
    """
    hashes = [
        int(text[:15], 16)
        for part in parts
        for text in read_table(part.samples, "samples", ["content_hash"])
        .filter(pa.array(part.kept))
        .column(0)
        .to_pylist()
    ]
    _, number, counts = np.unique(np.array(hashes, dtype=np.int64), return_inverse=True, return_counts=True)
    return np.where(counts[number] > 1, number, -1)


def _codes(parts: Sequence[SetPart]) -> IntArray:
    """A number for every set of labels that was given, the same for the same set, int64, shape (N,)."""
    known: dict[bytes, int] = {}
    codes = []
    for part in parts:
        rows, inverse = np.unique(np.packbits(part.given, axis=1), axis=0, return_inverse=True)
        numbers = np.array([known.setdefault(row.tobytes(), len(known)) for row in rows], dtype=np.int64)
        codes.append(numbers[inverse.ravel()])
    return np.concatenate(codes)
