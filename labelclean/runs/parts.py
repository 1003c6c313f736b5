"""The samples of a run with their features and labels, in one part or in many; what earlier nights kept is one more."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from labelclean.arrays import BoolArray, Float32Array, Float64Array, IntArray
from labelclean.cleaning.alignment import order_fault
from labelclean.cleaning.parts import labels_of_views
from labelclean.cleaning.shard_labels import ShardLabels, read_shard_labels, shard_labels
from labelclean.cleaning.shards import HeldShard, Shard, find_shards
from labelclean.config import Config
from labelclean.errors import TableError
from labelclean.noise.readings import AuditEvidence, as_ingested
from labelclean.probes.feature_space import sample_keys
from labelclean.review.decisions import Decision, Standing, reviewed_labels
from labelclean.review.facets import holds_names
from labelclean.review.leaks import SPLIT, Leaks, split_codes, split_leaks
from labelclean.review.part_views import PART, decisions_of_parts
from labelclean.runs.night_sums import RunSums
from labelclean.runs.outputs import standing_record
from labelclean.runs.part_files import SAMPLES, features_path, part_paths
from labelclean.runs.plan import plan_of
from labelclean.runs.record import INTERNAL
from labelclean.runs.run import standing_of
from labelclean.storage.parquet import make_folder, read_pred_probs, read_table
from labelclean.storage.queries import samples_judged, samples_known
from labelclean.storage.samples import given_labels_of, groups_of

if TYPE_CHECKING:
    from labelclean.cleaning.population import Taught

STREAM = "stream"


@dataclass(frozen=True)
class RunParts:
    """The P parts of a run that hold samples.

    Attributes:
        samples: Table `samples` of each.
        shards: Features of each; with a reference that kept some, those come last.
        labels: File with the labels of each; those of what the reference kept come last.
        reviewed: What people have decided, summed up for the summary.
        decided: Single decisions, and the samples that they are about.
        digest: Of all that units of a killed run hang on: plan, labels, and looks at samples of earlier runs.
        num_known: Samples that the reference holds already.
        counts: Samples of each given class, int64, shape (K,).
        new_votes: Labels of each class, as they came, of samples that the reference does not hold, float64, shape (K,).
    """

    samples: tuple[Path, ...]
    shards: tuple[Shard, ...]
    labels: tuple[Path, ...]
    reviewed: dict[str, int]
    decided: tuple[tuple[tuple[Decision, ...], ...], pa.Table | None]
    digest: str
    num_known: int
    counts: IntArray
    new_votes: Float64Array

    @property
    def num_samples(self) -> int:
        """Samples of this run that count."""
        return int(self.counts.sum())

    def of_looks(self, looks: AuditEvidence) -> RunParts:
        """Return the same with a digest that tells what people found in earlier draws: every score hangs on it."""
        content = b"".join(np.ascontiguousarray(values).tobytes() for values in vars(looks).values())
        return replace(self, digest=hashlib.sha256(self.digest.encode() + content).hexdigest())


@dataclass(frozen=True)
class LabelledPart:
    """What came of labelling one part.

    Attributes:
        labels: File with its labels.
        digest: Of all that was written.
        reviewed: What people have decided, counted for the summary.
        decided: Single decisions.
        about: The samples that they are about, where there are any.
        counts: Samples of each given class, int64, shape (K,).
        new_votes: As `RunParts.new_votes`.
    """

    labels: Path
    digest: bytes
    reviewed: dict[str, int]
    decided: tuple[tuple[Decision, ...], ...]
    about: pa.Table | None
    counts: IntArray
    new_votes: Float64Array


@dataclass(frozen=True)
class Labelling:
    """What the labels of every part are made of.

    Attributes:
        folder: Where they are written.
        config: Sections `classes`, `data`, `review`, `run` and `teacher` are read.
        names: The K class names.
        decisions: All decisions of the data set.
        counting: The same as they count for images, where they are about parts.
        known: Ids of samples that the reference holds already.
    """

    folder: Path
    config: Config
    names: tuple[str, ...]
    decisions: Sequence[Decision]
    counting: Sequence[Decision]
    known: Set[str]

    def part(self, path: Path, probs: Float32Array | None) -> LabelledPart:
        """Write the labels of a part.

        Args:
            path: Its table `samples`, n rows.
            probs: The user's own probabilities of its samples, float32, shape (n, K); None where he brings none.

        Returns:
            What came of it.
        """
        samples, num_classes = read_table(path, "samples"), len(self.names)
        standing, single = self._standing(samples)
        rows = np.flatnonzero(~standing.is_excluded)
        table = samples.take(pa.array(rows))
        ids = table.column("sample_id").to_pylist()
        is_known = np.array([sample in self.known for sample in ids], dtype=bool)
        given = reviewed_labels(given_labels_of(samples, self.names), standing).take(rows)
        target = self.folder / f"{path.stem}.npz"
        if self.config.data.label_of == "part":
            np.save(candidates_path(target), given.candidates)
            given = labels_of_views(given, ok_of(self.config, self.names))
        teacher, seed = self.config.teacher, self.config.run.seed
        labels = shard_labels(
            given,
            sample_keys(ids, groups_of(table), num_folds=teacher.folds, seed=seed),
            kept=~standing.is_excluded,
            old=is_known,
            pred_probs=None if probs is None else probs[rows],
        )
        labels.write(target)
        _write_standing(target, standing)
        hit = [row for row in rows.tolist() if single[row]]
        return LabelledPart(
            labels=target,
            digest=labels.digest.encode() + standing.is_settled[rows].tobytes(),
            reviewed=standing_record(standing),
            decided=tuple(single[row] for row in hit),
            about=samples.take(pa.array(hit, pa.int64())) if hit else None,
            counts=np.bincount(given.given, minlength=num_classes),
            new_votes=given.observed[~is_known].sum(axis=0, dtype=np.float64),
        )

    def _standing(self, samples: pa.Table) -> tuple[Standing, Sequence[tuple[Decision, ...]]]:
        """What people have decided about some samples, and their single decisions: each answer was given once."""
        standing, single = standing_of(samples, self.names, self.config, self.counting)
        if self.counting is not self.decisions:
            _, single = standing_of(samples, self.names, self.config, self.decisions)
        return standing, single


def labelled_parts(
    work: Path, config: Config, names: Sequence[str], decisions: Sequence[Decision], reference: RunSums | None
) -> RunParts:
    """Return the parts with what people have decided; labels are written anew by every start, for decisions may have come.

    Args:
        work: The run's work folder.
        config: The configuration.
        names: The K class names.
        decisions: All decisions of the data set.
        reference: What the reference run left; None without one.

    Returns:
        The parts.

    Raises:
        TableError: If the user's own probabilities do not fit.
    """
    folder = work / INTERNAL / STREAM / "labels"
    make_folder(folder)
    paths = sample_paths(work)
    known = _known(work, config, reference, paths)
    counting = _decisions_of_parts(paths, decisions) if config.data.label_of == "part" else decisions
    labelling = Labelling(folder, config, tuple(names), decisions, counting, known)
    probs, is_named = _own_probs(config, paths, names)
    ends = np.cumsum([pq.read_metadata(path).num_rows for path in paths])
    of_parts = [None] * len(paths) if probs is None else np.split(probs, ends[:-1])
    parts = [labelling.part(path, own) for path, own in zip(paths, of_parts, strict=True)]
    labels, shards = [part.labels for part in parts], shards_of(paths)
    if probs is not None and not is_named:
        _check_order(config, labels, names)
    digests = [part.digest for part in parts]
    if reference is not None and (earlier := _earlier_samples(work, config, reference, names, decisions, labels)):
        shards += (earlier[0],)
        labels.append(folder / "kept.npz")
        earlier[1].write(labels[-1])
        digests.append(earlier[1].digest.encode())
    digest = hashlib.sha256(b"".join(digests)).hexdigest()
    about = [part.about for part in parts if part.about is not None]
    reviewed = [part.reviewed for part in parts]
    return RunParts(
        samples=tuple(paths),
        shards=shards,
        labels=tuple(labels),
        reviewed={key: sum(one.get(key, 0) for one in reviewed) for key in dict.fromkeys(chain(*reviewed))},
        decided=(
            tuple(chain.from_iterable(part.decided for part in parts)),
            pa.concat_tables(about, promote_options="permissive") if about else None,
        ),
        digest=hashlib.sha256((plan_of(work).digest + digest).encode()).hexdigest(),
        num_known=len(known),
        counts=np.sum([part.counts for part in parts], axis=0, dtype=np.int64),
        new_votes=np.sum([part.new_votes for part in parts], axis=0),
    )


def settled_path(labels: Path) -> Path:
    """Return the file that says which samples of a part people have settled."""
    return labels.with_suffix(".settled.npy")


def _write_standing(labels: Path, standing: Standing) -> None:
    """Which samples of a part people have settled, and which they took out."""
    np.save(settled_path(labels), standing.is_settled[~standing.is_excluded])
    aside = np.flatnonzero(standing.is_excluded)
    np.savez(aside_path(labels), rows=aside, fits_none=standing.fits_none[aside])


def candidates_path(labels: Path) -> Path:
    """Return the file of the classes that people leave open for the parts of a part's samples, where labels are those of parts."""
    return labels.with_suffix(".candidates.npy")


def ok_of(config: Config, names: Sequence[str]) -> int | None:
    """Return the index of the class of parts without a defect; None where no class is."""
    return None if config.classes.ok is None else list(names).index(config.classes.ok)


def _decisions_of_parts(paths: Sequence[Path], decisions: Sequence[Decision]) -> Sequence[Decision]:
    """Decisions that count for all images of a part."""
    columns = ["sample_id", "content_hash", PART]
    samples = pa.concat_tables([read_table(path, "samples", columns) for path in paths])
    return decisions_of_parts(decisions, *(samples.column(name).to_pylist() for name in columns))


def aside_path(labels: Path) -> Path:
    """Return the file that says which samples of a part people took out, and which of these fit none of the classes."""
    return labels.with_suffix(".aside.npz")


@lru_cache(maxsize=1)
def samples_of_part(samples: Path, labels: Path) -> tuple[pa.Table, BoolArray]:
    """Return the samples of a part that count, and which of them people have settled."""
    table = read_table(samples, "samples")
    counting = read_shard_labels(labels).kept
    counted = table if counting is None else table.filter(pa.array(counting))
    return counted, np.load(settled_path(labels))


def ids_of(parts: RunParts) -> pa.Array:
    """Return the ids of all samples that count, in order."""
    return pa.concat_arrays(column_of(parts, "sample_id").chunks)


def column_of(parts: RunParts, name: str) -> pa.ChunkedArray:
    """Return one column of all samples that count, in order; nothing else of them is read."""
    chunks = []
    for samples, labels in zip(parts.samples, parts.labels, strict=False):
        table, kept = read_table(samples, "samples", [name]), read_shard_labels(labels).kept
        chunks += (table if kept is None else table.filter(pa.array(kept))).column(0).chunks
    return pa.chunked_array(chunks, pq.read_schema(parts.samples[0]).field(name).type)


def leaks_of(parts: RunParts, taught: Taught) -> Leaks | None:
    """Return what stands in more than one split; None where the labels have no column `split` of simple values."""
    schema = pq.read_schema(parts.samples[0])
    if SPLIT not in schema.names or not holds_names(schema.field(SPLIT).type):
        return None
    splits, found = split_codes(column_of(parts, SPLIT))
    if taught.chosen.is_whole:
        groups = taught.space.groups[: len(splits)]  # what the reference kept comes last
    else:
        groups = np.concatenate(
            [read_shard_labels(one).groups for one in taught.shard_set.labels[: len(parts.samples)]]
        )
    return Leaks(split_leaks(groups, splits), splits, found)


def sample_paths(work: Path) -> list[Path]:
    """Return the files of the table `samples` that have rows, in order."""
    return [path for path in part_paths(work, SAMPLES) if pq.read_metadata(path).num_rows]


def shards_of(samples: Sequence[Path]) -> tuple[Shard, ...]:
    """Return the features of the samples in some parts."""
    return find_shards([features_path(path) for path in samples])


def _known(work: Path, config: Config, reference: RunSums | None, paths: Sequence[Path]) -> set[str]:
    """Ids of samples that the reference's sums hold already."""
    if reference is None or config.run.reference is None:
        return set()
    return samples_known(config.run.reference, reference.runs, paths, work / INTERNAL / "spill")


def _own_probs(config: Config, paths: Sequence[Path], names: Sequence[str]) -> tuple[Float32Array | None, bool]:
    """Probabilities of the user's own model for the samples of all parts, and whether names told their columns."""
    if config.teacher.pred_probs is None:
        return None, False
    ids = [sample for path in paths for sample in read_table(path, "samples", ["sample_id"]).column(0).to_pylist()]
    return read_pred_probs(config.teacher.pred_probs, ids, names)


def _check_order(config: Config, labels: Sequence[Path], names: Sequence[str]) -> None:
    """Refuse probabilities whose columns fit the labels far better in another order."""
    known = [read_shard_labels(path) for path in labels]
    given = [one.labels(np.arange(len(one)), len(names)).observed.argmax(axis=1) for one in known]
    own = np.concatenate([one.pred_probs for one in known if one.pred_probs is not None])
    if fault := order_fault(own, np.concatenate(given), names):
        raise TableError(f"{config.teacher.pred_probs}: {fault}")


def kept_now(
    kept: ShardLabels,
    judged: Mapping[str, tuple[str, str]],
    names: Sequence[str],
    config: Config,
    decisions: Sequence[Decision],
) -> tuple[IntArray, ShardLabels]:
    """Return what earlier nights kept, with what people have decided about it since.

    Args:
        kept: Labels of the n samples that were kept, as they were known then.
        judged: Content hash and given label of samples by their id (`queries.samples_judged`); decisions about others
            are passed over.
        names: The K class names.
        config: `run.seed`, `teacher.folds` and `review.reopen` are read.
        decisions: All decisions of the data set.

    Returns:
        Rows of those that nobody has taken out, int64, ascending, and their labels. What was drawn at random and looked at
        is told by the draws, not here.
    """
    lots = sample_keys(list(judged), None, num_folds=config.teacher.folds, seed=config.run.seed).lots
    id_of = dict(zip(lots.tolist(), judged, strict=True))
    rows = np.flatnonzero(np.isin(kept.lots, lots))
    ids = [id_of[lot] for lot in kept.lots[rows].tolist()]
    facts = {"content_hash": [judged[one][0] for one in ids], "given_label": [judged[one][1] for one in ids]}
    standing, decided = standing_of(pa.table({"sample_id": ids} | facts), names, config, decisions)
    is_decided = np.array([len(of_sample) > 0 for of_sample in decided], dtype=bool)
    rows, standing = rows[is_decided], standing.take(is_decided)
    labels = kept.labels(np.arange(len(kept)), len(names))
    reviewed = reviewed_labels(as_ingested(labels.take(rows)), standing)
    votes, candidates, observed = labels.votes.copy(), labels.candidates.copy(), labels.observed.copy()
    votes[rows], candidates[rows], observed[rows] = reviewed.votes, reviewed.candidates, reviewed.observed
    labels = replace(labels, votes=votes, candidates=candidates, before_review=observed)
    stays = np.setdiff1d(np.arange(len(kept)), rows[standing.is_excluded])
    return stays, shard_labels(labels.take(stays), kept.keys.take(stays), old=np.ones(len(stays), dtype=bool))


def _earlier_samples(
    work: Path,
    config: Config,
    reference: RunSums,
    names: Sequence[str],
    decisions: Sequence[Decision],
    tonight: Sequence[Path],
) -> tuple[HeldShard, ShardLabels] | None:
    """Features and labels of what the reference kept, without what is there tonight or was taken out; None where nothing is left."""
    if reference.kept is None or config.run.reference is None:
        return None
    decided = sorted({decision.sample_id for decision in decisions})
    judged = samples_judged(config.run.reference, reference.runs, decided, work / INTERNAL / "spill")
    stays, known = kept_now(reference.kept.labels, judged, names, config, decisions)
    rows = _not_tonight(known, tonight)
    if not len(rows):
        return None
    return HeldShard(reference.kept.features[stays[rows]], "what the reference kept"), known.take(rows, len(names))


def _not_tonight(kept: ShardLabels, tonight: Sequence[Path]) -> IntArray:
    """Rows that were kept of samples that are not there again."""
    lots = np.concatenate([read_shard_labels(path).lots for path in tonight])
    return np.flatnonzero(~np.isin(kept.lots, lots))
