"""Which pictures of a run look unusable: measured at extraction, judged part by part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from labelclean.arrays import Float32Array, FloatArray, IntArray
from labelclean.cleaning.shard_labels import ShardLabels, read_shard_labels
from labelclean.cleaning.shards import Shard
from labelclean.review.part_queue import SILENT
from labelclean.review.unusable import BLOCK_ROWS, LANDMARKS, Crowd, Usual, fit_crowd, oddness, usual_looks
from labelclean.runs.part_files import looks_path
from labelclean.runs.parts import RunParts
from labelclean.storage.queries import database, names_of
from labelclean.storage.tables import UNUSABLE

if TYPE_CHECKING:
    from labelclean.cleaning.population import Taught

MAX_EXAMPLES = 24


@dataclass(frozen=True, eq=False)
class UsualPictures:
    """What the pictures of a run are like; goes to any process or machine that sees the run's folder.

    Attributes:
        looks: Array of each part, one row per sample, those that do not count included.
        shards: Features of each part, rows alike.
        labels: Labels of each part, or the file that holds them.
        crowd: What their features are usually made of.
        usual: What pictures are usually like.
    """

    looks: tuple[Path, ...]
    shards: tuple[Shard, ...]
    labels: tuple[Path | ShardLabels, ...]
    crowd: Crowd
    usual: Usual

    def oddness_of(self, number: int) -> Float32Array:
        """Return how odd the pictures of a part are that count, float32, shape (n, R), by `tables.UNUSABLE`."""
        return _oddness(self, number)


@lru_cache(maxsize=1)
def _oddness(pictures: UsualPictures, number: int) -> Float32Array:
    known, shard = read_shard_labels(pictures.labels[number]), pictures.shards[number]
    looks = np.load(pictures.looks[number]).astype(np.float32)
    counting = np.arange(shard.num_rows) if known.kept is None else np.flatnonzero(known.kept)
    halves = np.full(shard.num_rows, -1)
    halves[counting] = known.folds % 2
    distances = [
        pictures.crowd.distances(rows, halves[start : start + len(rows)]) for start, rows in shard.blocks(BLOCK_ROWS)
    ]
    return oddness(pictures.usual, looks[counting], np.concatenate(distances)[counting], known.given.astype(np.int64))


def learn_pictures(parts: RunParts, taught: Taught, num_classes: int) -> UsualPictures:
    """Return what the pictures of a run are usually like, by the samples on which choices are made.

    Args:
        parts: The run's samples.
        taught: The teacher, for these samples.
        num_classes: K.

    Returns:
        What judges any part.
    """
    num_parts, chosen = len(parts.samples), taught.chosen
    paths = tuple(looks_path(path) for path in parts.samples)
    own = np.flatnonzero(chosen.parts < num_parts)  # what the reference kept comes last
    numbers, places, halves = chosen.parts[own], chosen.places[own], chosen.keys.folds[own] % 2

    def blocks(rows: IntArray) -> Iterator[tuple[FloatArray, IntArray]]:
        for number in np.unique(numbers[rows]).tolist():
            of_part = rows[numbers[rows] == number]
            for start in range(0, len(of_part), BLOCK_ROWS):
                at = of_part[start : start + BLOCK_ROWS]
                yield parts.shards[number].take(places[at], BLOCK_ROWS), at

    first = np.sort(np.argsort(chosen.keys.lots[own], kind="stable")[:LANDMARKS])
    crowd = fit_crowd(np.concatenate([features for features, _ in blocks(first)]), halves[first])
    distances = np.concatenate([crowd.distances(features, halves[at]) for features, at in blocks(np.arange(len(own)))])
    looks = [np.load(paths[one])[places[numbers == one]].astype(np.float32) for one in np.unique(numbers).tolist()]
    usual = usual_looks(np.concatenate(looks), distances, chosen.labels.given[own].astype(np.int64), num_classes)
    return UsualPictures(paths, parts.shards[:num_parts], taught.shard_set.labels[:num_parts], crowd, usual)


def unusable_record(parts: RunParts, scores: Sequence[Path], flags: Sequence[Path], spill: Path) -> dict[str, Any]:
    """Return which pictures look unusable, for the summary.

    Args:
        parts: The run's samples.
        scores: Parts of `part_queue.score_rows`.
        flags: Parts of the table `flags`.
        spill: Folder for what does not fit into memory.

    Returns:
        JSON values: `num` samples that nobody has settled, `by_reason`, `num_unmeasured`, and `examples`, the oddest first.
    """
    with database(spill) as connection:
        connection.read_parquet(names_of(scores)).create_view("scores")
        columns = connection.sql("SELECT * FROM scores LIMIT 0").columns
        is_open = f"(NOT is_settled OR {SILENT})" if SILENT in columns else "NOT is_settled"
        open_ones = f"""
            SELECT sample_id, reason, score FROM read_parquet(?)
            SEMI JOIN (SELECT sample_id FROM scores WHERE {is_open}) USING (sample_id)
            WHERE reason IN ({", ".join("?" for _ in UNUSABLE)})
        """  # noqa: S608 - question marks
        connection.execute(f"CREATE TEMP TABLE found AS {open_ones}", [names_of(flags), *UNUSABLE])
        ((num,),) = connection.execute("SELECT count(DISTINCT sample_id) FROM found").fetchall()
        counts = dict(connection.execute("SELECT reason, count(*) FROM found GROUP BY reason").fetchall())
        rows = connection.execute(f"""
            SELECT sample_id, list(reason ORDER BY score DESC, reason) AS reasons FROM found GROUP BY sample_id
            ORDER BY max(score) DESC, sample_id LIMIT {MAX_EXAMPLES}
        """).fetchall()  # noqa: S608 - a number of ours
    return {
        "num": int(num),
        "by_reason": {reason: int(counts[reason]) for reason in UNUSABLE if reason in counts},
        "num_unmeasured": sum(
            _num_unmeasured(path, labels) for path, labels in zip(parts.samples, parts.labels, strict=False)
        ),
        "examples": [{"sample_id": sample, "reasons": list(reasons)} for sample, reasons in rows],
    }


def _num_unmeasured(samples: Path, labels: Path) -> int:
    """Samples that count whose pictures were never measured."""
    is_missing = np.isnan(np.load(looks_path(samples))[:, 0])
    counting = read_shard_labels(labels).kept
    return int(is_missing.sum() if counting is None else is_missing[counting].sum())
