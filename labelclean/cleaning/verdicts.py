"""The last pass: what was learned is applied to every shard, whose tables are files of their own with their digest."""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from labelclean.arrays import Float32Array, IntArray
from labelclean.cleaning.learning import Learned
from labelclean.cleaning.passes import Block, Blocks, Each, Task
from labelclean.cleaning.stage import Stage
from labelclean.labels import GivenLabels
from labelclean.noise.tally import Tally, added, tally_from, tally_of
from labelclean.noise.trust import JudgedLabels, Trust
from labelclean.probes.neighbours import mean_similarity
from labelclean.storage.parquet import atomic_path, make_folder, parquet_options

WORKERS = 2


@dataclass(frozen=True)
class Found:
    """What was found about some samples of a shard, in the order of the shard.

    Attributes:
        rows: Row of each among the shard's samples, int64, shape (B,), ascending.
        labels: Their given labels.
        pred_probs: The teacher's P(given class | image), float32, shape (B, K).
        judged: Soft labels, predicted classes, scores, issues.
        neighbour_votes: Class shares among the neighbours, float32, shape (B, K); None where none were looked for.
        neighbour_similarity: Mean similarity to the neighbours, float32, shape (B,), or None.
    """

    rows: IntArray
    labels: GivenLabels
    pred_probs: Float32Array
    judged: JudgedLabels
    neighbour_votes: Float32Array | None = None
    neighbour_similarity: Float32Array | None = None

    @property
    def tally(self) -> Tally:
        """What is counted."""
        return tally_of(self.labels, self.judged, self.pred_probs)


Outputs = Callable[[int, Found], dict[str, pa.Table]]


@dataclass(frozen=True)
class WritePass:
    """Writes the tables of one shard, and tells what was counted; goes to any process or machine that sees the shards.

    Attributes:
        task: The shards.
        teacher: First stage.
        student: Last stage.
        trust: Turns probabilities into labels.
        outputs: Makes the tables of some samples; called with the shard's number, in the shard's order.
        folder: Where the tables' folders go.
    """

    task: Task
    teacher: Stage
    student: Stage
    trust: Trust
    outputs: Outputs
    folder: Path

    def __call__(self, number: int) -> Tally | None:
        """Write `TABLE/part-NNNNN.parquet` unless it is there with its digest; None for a shard without samples."""
        unit = hashlib.sha256(f"{self.task.digest}/{self.task.shards[number].digest}".encode()).hexdigest()
        tally = _written(self.folder, number, unit)
        if tally is not None:
            return tally
        with ThreadPoolExecutor(WORKERS) as pool:
            return _write_part(self.folder, number, unit, self._found_blocks(number, pool), self.outputs)

    @cached_property
    def _blocks(self) -> Blocks:
        return Blocks(self.task)

    def _found_blocks(self, number: int, pool: ThreadPoolExecutor) -> Iterator[Found]:
        """What was found in each block; probabilities are worked out beside the reading of the next blocks."""
        waiting: deque[Future[Found]] = deque()
        for block in self._blocks.of(number):
            first = self.teacher.values(block.rows, block.folds, block.near)
            last = None if self.student is self.teacher else self.student.values(block.rows, block.folds, block.near)
            waiting.append(pool.submit(self._found, block, first, last))
            if len(waiting) > WORKERS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _found(self, block: Block, first: Float32Array, last: Float32Array | None) -> Found:
        given_probs = self.teacher.given_probs(first)
        pred_probs = self.teacher.true_probs(first) if last is None else self.student.true_probs(last)
        order = np.argsort(block.samples, kind="stable")
        labels = block.labels.take(order)
        judged = self.trust.judge(pred_probs[order], given_probs[order], labels)
        votes = similarity = None
        if self.teacher.voters is not None and block.near is not None:
            votes, similarity = self.teacher.voters.shares(block.near)[order], mean_similarity(block.near)[order]
        return Found(block.samples[order], labels, given_probs[order], judged, votes, similarity)


def write_parts(
    learned: Learned,
    outputs: Outputs,
    folder: Path,
    *,
    each: Each = map,
    advance: Callable[[int], None] = lambda _: None,
) -> Tally:
    """Write the tables of every shard; those that are there with their digest stay.

    Args:
        learned: Teacher, student and trust.
        outputs: Makes the tables of some samples; called with the shard's number, in the shard's order.
        folder: Where the tables' folders go.
        each: Applies a function to all shards: `map`, or a cluster.
        advance: Told of every sample done.

    Returns:
        What is counted over all samples.
    """
    task, tallies = learned.task, []
    write = WritePass(task, learned.teacher, learned.student, learned.trust, outputs, folder)
    for tally in each(write, range(len(task.shards))):
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
    """One file per table, block by block; the mark that says all are whole comes last."""
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
