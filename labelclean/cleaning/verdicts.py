"""The last pass: what was learned is applied to every shard, whose tables are files of their own with their digest."""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from labelclean.arrays import BoolArray, Float32Array, IntArray
from labelclean.cleaning.passes import Blocks, Each, ShardSet, block_at
from labelclean.cleaning.population import Learned
from labelclean.cleaning.sample import Chosen, joined_labels
from labelclean.cleaning.shard_labels import read_shard_labels, sample_starts
from labelclean.cleaning.stage import Block, Stage, Voting, vote_shares
from labelclean.cleaning.student import Refinement
from labelclean.cleaning.teacher import Teacher
from labelclean.labels import GivenLabels
from labelclean.noise.tally import Tally, added, tally_from, tally_of
from labelclean.noise.top2 import Refits, top2_candidates, top2_margin
from labelclean.noise.trust import JudgedLabels, Trust, joined_judged
from labelclean.probes.neighbours import Neighbours, conflict_sets, mean_similarity
from labelclean.storage.parquet import atomic_path, make_folder, parquet_options

WORKERS = 2


@dataclass(frozen=True)
class Found:
    """What was found about some samples of a shard, in the order of the shard.

    Attributes:
        rows: Row of each among the shard's samples, int64, shape (B,), ascending.
        labels: Their given labels.
        given_probs: The teacher's P(given class | image), float32, shape (B, K).
        pred_probs: The student's P(true class | image), float32, shape (B, K).
        judged: Soft labels, predicted classes, scores, issues.
        top2_agreement: Share of refits that agree on the pair, float32, shape (B,); None where there are no refits.
        duplicate_sets: Number of the near-duplicate set over all samples, int64, shape (B,), -1 for samples in none.
        conflict_sets: The same, -1 also where all labels of the set agree.
        near: Their neighbours, numbered over all samples; None where none were looked for.
        neighbour_votes: Class shares among the neighbours, float32, shape (B, K), or None.
        neighbour_similarity: Mean similarity to the neighbours, float32, shape (B,), or None.
        speaks: Images that speak for their part, bool, shape (B,); None: every sample speaks for itself.
    """

    rows: IntArray
    labels: GivenLabels
    given_probs: Float32Array
    pred_probs: Float32Array
    judged: JudgedLabels
    top2_agreement: Float32Array | None
    duplicate_sets: IntArray
    conflict_sets: IntArray
    near: Neighbours | None = None
    neighbour_votes: Float32Array | None = None
    neighbour_similarity: Float32Array | None = None
    speaks: BoolArray | None = None

    @property
    def tally(self) -> Tally:
        """What is counted; each part once."""
        if self.speaks is None:
            return tally_of(self.labels, self.judged, self.given_probs)
        rows = np.flatnonzero(self.speaks)
        return tally_of(self.labels.take(rows), self.judged.take(rows), self.given_probs[rows])


Outputs = Callable[[int, Found], dict[str, pa.Table]]
Finder = Callable[[int], Iterator[Found]]
"""What was found about the samples of a shard, block by block."""


@dataclass(frozen=True)
class WholeFinder:
    """What was found on the sample is the answer, for it holds all samples.

    Attributes:
        chosen: Where the samples stand.
        whole: What was found about them.
    """

    chosen: Chosen
    whole: Found

    def __call__(self, number: int) -> Iterator[Found]:
        """Yield the samples of one shard."""
        at, whole = self.chosen.of_shard(number), self.whole
        if at.start == at.stop:
            return
        rows = np.arange(at.start, at.stop)
        yield Found(
            rows=self.chosen.rows[at],
            labels=whole.labels.take(rows),
            given_probs=whole.given_probs[at],
            pred_probs=whole.pred_probs[at],
            judged=whole.judged.take(rows),
            top2_agreement=None if whole.top2_agreement is None else whole.top2_agreement[at],
            duplicate_sets=whole.duplicate_sets[at],
            conflict_sets=whole.conflict_sets[at],
            near=None if whole.near is None else whole.near.take(rows),
            neighbour_votes=None if whole.neighbour_votes is None else whole.neighbour_votes[at],
            neighbour_similarity=None if whole.neighbour_similarity is None else whole.neighbour_similarity[at],
            speaks=None if whole.speaks is None else whole.speaks[at],
        )


@dataclass(frozen=True)
class BlockFinder:
    """Scores the blocks of a shard; goes to any process or machine that sees the shards.

    Attributes:
        shard_set: The shards.
        teacher: First stage.
        student: Last stage; the same object where nothing is refined.
        trust: Turns probabilities into labels.
        refits: Refits of the teacher; None: there are none.
        votes: The given labels' votes of any neighbours; None: there are no neighbours.
    """

    shard_set: ShardSet
    teacher: Stage
    student: Stage
    trust: Trust
    refits: Refits | None
    votes: Voting | None

    def __call__(self, number: int) -> Iterator[Found]:
        """Yield what was found in each block; probabilities are worked out beside the reading of the next blocks."""
        waiting: deque[Future[Found]] = deque()
        known = read_shard_labels(self.shard_set.labels[number])
        sets = [known.duplicate_sets, known.conflict_sets]
        with ThreadPoolExecutor(WORKERS) as pool:
            for block in self._blocks.of(number):
                first = self.teacher.values(block)
                last = first if self.student is self.teacher else self.student.values(block)
                agreement = None if self.refits is None else self.refits.agreement(block.rows[0], block.buckets)
                own = [np.full(len(block.samples), -1) if one is None else one[block.samples] for one in sets]
                waiting.append(pool.submit(self._found, block, first, last, agreement, own))
                if len(waiting) > WORKERS:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    @cached_property
    def _blocks(self) -> Blocks:
        return Blocks(self.shard_set)

    def _found(
        self,
        block: Block,
        first: Float32Array,
        last: Float32Array,
        agreement: Float32Array | None,
        sets: list[IntArray],
    ) -> Found:
        order = np.argsort(block.samples, kind="stable")
        labels, near = block.labels.take(order), None if block.near is None else block.near.take(order)
        given_probs, pred_probs = self.teacher.given_probs(first)[order], self.student.true_probs(last)[order]
        return Found(
            rows=block.samples[order],
            labels=labels,
            given_probs=given_probs,
            pred_probs=pred_probs,
            judged=self.trust.judge(pred_probs, given_probs, labels),
            top2_agreement=None if agreement is None else agreement[order],
            duplicate_sets=sets[0][order],
            conflict_sets=sets[1][order],
            near=near,
            neighbour_votes=None if near is None or self.votes is None else vote_shares(self.votes(near)),
            neighbour_similarity=None if near is None else mean_similarity(near),
        )


def finder_of(learned: Learned) -> Finder:
    """Return what tells what was found about the samples of any shard.

    Args:
        learned: Teacher and student.

    Returns:
        The finder.
    """
    taught, refinement, teacher = learned.taught, learned.refinement, learned.taught.teacher
    if not taught.chosen.is_whole:
        first, votes = teacher.fit.stage, None if taught.others is None else taught.others.given.votes
        last = first if refinement.fit is teacher.fit else refinement.fit.stage
        return BlockFinder(taught.shard_set, first, last, refinement.trust, teacher.refits, votes)
    sets = taught.space.duplicate_sets
    conflicts = conflict_sets(sets, taught.labels.given)
    if learned.speaks is not None:  # near-copies of parts with different labels: other views tell why
        conflicts = np.full_like(sets, -1)
    whole = Found(
        rows=taught.chosen.rows,
        labels=taught.labels,
        given_probs=teacher.pred_probs,
        pred_probs=refinement.pred_probs,
        judged=refinement.judged,
        top2_agreement=teacher.top2_agreement,
        duplicate_sets=sets,
        conflict_sets=conflicts,
        near=taught.space.neighbours,
        neighbour_votes=refinement.neighbour_votes,
        neighbour_similarity=refinement.neighbour_similarity,
        speaks=learned.speaks,
    )
    return WholeFinder(taught.chosen, whole)


def everyone(learned: Learned) -> tuple[Teacher, Refinement]:
    """Return teacher and refinement of all samples, in the order of the shards, in memory.

    Args:
        learned: Teacher and student of the sample on which choices were made.

    Returns:
        Both; their fits and models remain those of the sample.
    """
    finder, shards = finder_of(learned), range(len(learned.taught.shard_set.shards))
    blocks = [found for number in shards for found in finder(number)]
    joined: dict[str, Any] = {}
    for name in (
        "given_probs",
        "pred_probs",
        "top2_agreement",
        "duplicate_sets",
        "neighbour_votes",
        "neighbour_similarity",
    ):
        values = [getattr(found, name) for found in blocks]
        joined[name] = None if values[0] is None else np.concatenate(values)
    pair = top2_candidates(joined["given_probs"])
    teacher = replace(
        learned.taught.teacher,
        pred_probs=joined["given_probs"],
        top1=pair[:, 0],
        runner_up=pair[:, 1],
        top2_margin=top2_margin(joined["given_probs"]),
        top2_agreement=joined["top2_agreement"],
    )
    refinement = replace(
        learned.refinement,
        judged=joined_judged([found.judged for found in blocks]),
        tally=added(found.tally for found in blocks),
        **{name: joined[name] for name in ("pred_probs", "duplicate_sets", "neighbour_votes", "neighbour_similarity")},
    )
    return teacher, refinement


def found_at(learned: Learned, numbers: IntArray) -> tuple[GivenLabels, Float32Array, list[tuple[int, IntArray]]]:
    """Return what the student says of a few samples.

    Args:
        learned: Teacher and student.
        numbers: Their numbers over all samples, int64, shape (n,), ascending.

    Returns:
        Their given labels; P(true class | image), float32, shape (n, K); and for each shard that holds some, its number
        and their rows among its samples.
    """
    taught = learned.taught
    starts = sample_starts(taught.shard_set.labels)
    shards = np.searchsorted(starts, numbers, side="right") - 1
    at = [(one, numbers[shards == one] - starts[one]) for one in np.unique(shards).tolist()]
    if taught.chosen.is_whole:
        return taught.labels.take(numbers), learned.refinement.pred_probs[numbers], at
    stage, num_classes = learned.refinement.fit.stage, taught.shard_set.num_classes
    labels, probs = [taught.labels.take(np.empty(0, np.int64))], [np.empty((0, num_classes), np.float32)]
    for number, rows in at:
        block = block_at(taught.shard_set, number, rows)
        back = np.argsort(block.samples, kind="stable")
        labels.append(block.labels.take(back))
        probs.append(stage.true_probs(stage.values(block))[back])
    return joined_labels(labels, num_classes), np.concatenate(probs), at


@dataclass(frozen=True)
class WritePass:
    """Writes the tables of one shard, and tells what was counted.

    Attributes:
        shard_set: The shards.
        finder: What was found about their samples.
        outputs: Makes the tables of some samples; called with the shard's number, in the shard's order.
        folder: Where the tables' folders go.
    """

    shard_set: ShardSet
    finder: Finder
    outputs: Outputs
    folder: Path

    def __call__(self, number: int) -> Tally | None:
        """Write `TABLE/part-NNNNN.parquet` unless it is there with its digest; None for a shard without samples."""
        unit = hashlib.sha256(f"{self.shard_set.digest}/{self.shard_set.shards[number].digest}".encode()).hexdigest()
        tally = _written(self.folder, number, unit)
        return tally or _write_part(self.folder, number, unit, self.finder(number), self.outputs)


def write_parts(
    learned: Learned,
    outputs: Outputs,
    folder: Path,
    *,
    each: Each = map,
    num_parts: int | None = None,
    advance: Callable[[int], None] = lambda _: None,
) -> Tally:
    """Write the tables of every shard; those that are there with their digest stay.

    Args:
        learned: Teacher and student.
        outputs: Makes the tables of some samples; called with the shard's number, in the shard's order.
        folder: Where the tables' folders go.
        each: Applies a function to all shards: `map`, or a cluster.
        num_parts: Only the first so many shards; default: all.
        advance: Told of every sample done.

    Returns:
        What is counted over all samples.
    """
    shard_set, tallies = learned.taught.shard_set, []
    write = WritePass(shard_set, finder_of(learned), outputs, folder)
    if learned.taught.chosen.is_whole:
        each = map
    for tally in each(write, range(num_parts or len(shard_set.shards))):
        if tally is not None:
            tallies.append(tally)
            advance(tally.num_samples)
    return added(tallies)


def _written(folder: Path, number: int, unit: str) -> Tally | None:
    """What was counted in a part that an earlier, killed run has finished."""
    mark = folder / "work" / "done" / f"part-{number:05d}.json"
    if not mark.exists():
        return None
    record = json.loads(mark.read_text(encoding="utf-8"))
    return tally_from(record["tally"]) if record["unit"] == unit else None


def _write_part(folder: Path, number: int, unit: str, found: Iterator[Found], outputs: Outputs) -> Tally | None:
    """One file per table, block by block; the mark that says all are whole comes last. What was there of other data goes."""
    for stale in folder.glob(f"*/part-{number:05d}.parquet"):
        stale.unlink()
    writers: dict[str, pq.ParquetWriter] = {}
    tallies = []
    with ExitStack() as stack:
        for some in found:
            for name, table in outputs(number, some).items():
                if name not in writers:
                    make_folder(folder / name)
                    temporary = stack.enter_context(atomic_path(folder / name / f"part-{number:05d}.parquet"))
                    options = parquet_options(table.schema)
                    writers[name] = stack.enter_context(pq.ParquetWriter(temporary, table.schema, **options))
                writers[name].write_table(table)
            tallies.append(some.tally)
    if not tallies:
        return None
    tally = added(tallies)
    mark = folder / "work" / "done" / f"part-{number:05d}.json"
    make_folder(mark.parent)
    with atomic_path(mark) as temporary:
        temporary.write_text(json.dumps({"unit": unit, "tally": tally.record()}), encoding="utf-8")
    return tally
