"""Refine, of one class: its images ranked by how little they look like the others, with the tables and the queue of any run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq

from labelclean.review.flags import Flags
from labelclean.review.part_queue import part_queue, score_rows
from labelclean.runs.outputs import flag_table, judged_table, queue_record
from labelclean.runs.parts import STREAM, RunParts, samples_of_part
from labelclean.runs.record import INTERNAL, part_of
from labelclean.storage.parquet import join_parts, make_folder, write_table

if TYPE_CHECKING:
    from labelclean.cleaning.one_class import Oddity
    from labelclean.cleaning.passes import Each
    from labelclean.config import Config
    from labelclean.noise.trust import JudgedLabels

CONFORMED = ("refined_labels", "flags")
WHY = "with one class no label can be suggested: its images are ranked by how little they look like the others."


def rank_one_class(
    work: Path, config: Config, parts: RunParts, name: str, each: Each, num_taken_out: int = 0
) -> dict[str, Any]:
    """Write `refined_labels`, `flags` and `review_queue` of one class.

    Args:
        work: The run's work folder.
        config: The configuration.
        parts: Its parts.
        name: The class.
        each: Applies a function to all shards.
        num_taken_out: Images that people found not to belong, beside those of ``parts``.

    Returns:
        What was found, for the step's record.
    """
    from labelclean.cleaning.memory import choice_rows
    from labelclean.cleaning.one_class import judge_odd, measure_oddity
    from labelclean.cleaning.shard_labels import sample_starts

    oddity = measure_oddity(
        parts.shards,
        parts.labels,
        config,
        sample_rows=choice_rows(config, 1),
        folder=work / INTERNAL / STREAM,
        digest=parts.digest,
        device=part_of(work, "extract")["device"],
        each=each,
    )
    settled = np.concatenate([samples_of_part(*both)[1] for both in zip(parts.samples, parts.labels, strict=True)])
    judged = judge_odd(oddity.values, settled, config.neighbours.odd_share, num_taken_out)
    _write_parts(work, parts, oddity, judged, name, sample_starts(parts.labels))
    stream = work / INTERNAL / STREAM
    for table in CONFORMED:
        join_parts(sorted((stream / table).glob("part-*.parquet")), work / f"{table}.parquet")
    scores, flags = (sorted((stream / folder).glob("part-*.parquet")) for folder in ("scores", "flags"))
    queue = part_queue(scores, flags, (name,), config, work / INTERNAL / "spill")
    write_table(work / "review_queue.parquet", queue.table, "review_queue", (name,))
    found = _found(judged, config, name)
    if num_taken_out:
        found["one_class"]["num_taken_out"] = num_taken_out
    return found | {"queue": queue_record(queue.queue, queue.estimate, config.review.seconds_per_sample)}


def _write_parts(work: Path, parts: RunParts, oddity: Oddity, judged: JudgedLabels, name: str, starts: Any) -> None:
    """The tables of every part."""
    for folder in ("refined_labels", "flags", "scores"):
        make_folder(work / INTERNAL / STREAM / folder)
    for number, (path, labels) in enumerate(zip(parts.samples, parts.labels, strict=True)):
        samples, settled = samples_of_part(path, labels)
        rows = np.arange(starts[number], starts[number + 1])
        own, sets, near = judged.take(rows), oddity.duplicate_sets[rows], oddity.lists(number)
        ids = samples.column("sample_id").combine_chunks()
        given = np.zeros(len(rows), dtype=np.int64)
        none = np.full(len(rows), -1)
        scores = score_rows(samples, rows, given, own, settled, none, near.index)
        place = f"part-{number:05d}.parquet"
        stream = work / INTERNAL / STREAM
        write_table(
            stream / "refined_labels" / place, judged_table(samples, own, sets, (name,)), "refined_labels", (name,)
        )
        write_table(stream / "flags" / place, flag_table(ids.to_pylist(), _flags(own, sets)), "flags")
        pq.write_table(scores, stream / "scores" / place)


def _flags(judged: JudgedLabels, sets: Any) -> Flags:
    """Images that look unlike all others, and near-copies."""
    odd, twins = np.flatnonzero(judged.is_label_issue), np.flatnonzero(sets >= 0)
    urgency = np.concatenate([1.0 - judged.label_scores[odd], np.full(len(twins), 0.1)])
    reasons = np.array(["outlier"] * len(odd) + ["near_duplicate"] * len(twins), dtype=np.str_)
    return Flags(np.concatenate([odd, twins]), reasons, urgency.astype(np.float32))


def _found(judged: JudgedLabels, config: Config, name: str) -> dict[str, Any]:
    """The numbers of the summary, as those of any run: nothing would be changed, so nothing can get worse."""
    num, expected = int(judged.is_label_issue.sum()), float((1.0 - judged.label_scores.astype(np.float64)).sum())
    interval = {"expected": round(expected, 2), "low": round(expected, 2), "high": round(expected, 2)}
    nothing = ("points", "low", "high", "low_after", "high_after")
    return {
        "one_class": {"class_name": name, "odd_share": config.neighbours.odd_share, "num": num},
        "num_label_issues": num,
        "label_issues": {"num": num, "would_change": 0, "waits_for_eyes": num, **interval}
        | {
            "by_class": [
                {
                    "class_name": name,
                    "num_samples": len(judged.label_scores),
                    "num": num,
                    "expected": round(expected, 2),
                    "lost": 0,
                    "gained": 0,
                }
            ]
        },
        "gain": dict.fromkeys(nothing, 0.0) | {"is_safe": True, "num_changed": 0, "num_looks": 0},
        "refinement": {"requested": config.refine.method, "method": "none", "why": WHY},
    }
