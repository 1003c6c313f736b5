"""Answers that are there already as ratings: labels with `annotator_id`, and what reviewers said more than once."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from labelclean.config import Config
from labelclean.probes.sums import hashed_parts
from labelclean.review.agreement import Ratings
from labelclean.review.decisions import Decision, measure_standing, standing_decisions
from labelclean.review.study import class_said
from labelclean.storage.label_sets import has_label_sets, one_label_needed
from labelclean.storage.parquet import labels_dataset, read_table
from labelclean.storage.spellings import respelled
from labelclean.storage.tables import class_names_of

MOST_SAMPLES = 5_000
"""More tell nothing that these do not; which ones, a hash of their ids decides."""
MOST_PEOPLE = 12
TRIALS = 2


def label_ratings(
    labels: pa.Table, class_names: Sequence[str], standard: Mapping[str, str], *, seed: int
) -> Ratings | None:
    """Return the labels of several annotators as ratings.

    Args:
        labels: Columns `sample_id`, `annotator_id`, `given_label`; a sample that an annotator labelled twice is two trials.
        class_names: The K class names in order.
        standard: Verified class by sample id.
        seed: Which samples are taken where there are more than 5,000.

    Returns:
        The ratings of samples that are labelled at least twice; None without any.
    """
    columns = (
        labels.column(name).cast(pa.string()).to_pylist() for name in ("sample_id", "annotator_id", "given_label")
    )
    place = {name: k for k, name in enumerate(class_names)}
    ratings: dict[tuple[str, str], list[int]] = defaultdict(list)
    for sample, who, label in zip(*columns, strict=True):
        if sample is not None and who is not None and label in place:
            ratings[sample, who].append(place[label])
    return _ratings(ratings, class_names, standard, seed)


def review_ratings(decisions: Sequence[Decision], class_names: Sequence[str], *, seed: int) -> Ratings | None:
    """Return what reviewers said of the same images as ratings; their word is the standard, so there is none to hold it to.

    Args:
        decisions: The data set's decisions; an image that a reviewer decided twice is two trials, by their times.
        class_names: The K class names in order.
        seed: Which samples are taken where there are more than 5,000.

    Returns:
        The ratings of images that were decided at least twice; None without any.
    """
    newest = {one.sample_id: one.content_hash for one in sorted(decisions, key=lambda one: one.reviewed_at)}
    said: dict[tuple[str, str], list[int]] = defaultdict(list)
    for one in sorted(decisions, key=lambda one: one.reviewed_at):
        if one.decision != "skipped" and one.content_hash == newest[one.sample_id]:
            said[one.sample_id, one.annotator_id].append(class_said(one, class_names))
    return _ratings(said, class_names, {}, seed)


def named_classes(config: Config, decisions: Sequence[Decision]) -> tuple[tuple[str, ...], pa.Table]:
    """Return the classes of a data set and its labels, as they stand in the files.

    Args:
        config: `data` is read.
        decisions: The data set's decisions; what they verify is a class too.

    Returns:
        The K class names in order, and the labels with their given spellings joined; no rows without `annotator_id`.

    Raises:
        ConfigError: If images have several labels each.
        TableError: If the labels cannot be read.
    """
    dataset = labels_dataset(config.data.labels)
    if has_label_sets(dataset.schema, several_labels=config.data.several_labels):
        raise one_label_needed("study report", config.data.labels)
    columns = ["sample_id", "annotator_id", "given_label"]
    held = [name for name in columns if name in dataset.schema.names]
    labels = respelled(dataset.to_table(columns=held), config.data.spellings)
    given = {name for name in pc.unique(labels.column("given_label")).cast(pa.string()).to_pylist() if name is not None}
    verified = {one.verified_label for one in decisions if one.verified_label is not None}
    names = config.data.class_names or tuple(sorted(given | verified))
    return tuple(names), labels if "annotator_id" in held else pa.table(
        {name: pa.array([], pa.string()) for name in columns}
    )


def verified_labels(run_folder: Path | None, decisions: Sequence[Decision]) -> dict[str, str]:
    """Return the verified label of each sample of a run that has one.

    Args:
        run_folder: A published run, or None for none.
        decisions: The data set's decisions.

    Returns:
        Class by sample id.
    """
    if run_folder is None:
        return {}
    table = read_table(run_folder / "refined_labels.parquet", "refined_labels")
    columns = (table.column(name).to_pylist() for name in ("sample_id", "content_hash", "given_label"))
    ids, hashes, given = columns
    names = class_names_of(table)
    verified = measure_standing(standing_decisions(decisions, ids, hashes, given), names).verified
    return {ids[row]: names[verified[row]] for row in np.flatnonzero(verified >= 0).tolist()}


def _ratings(
    said: Mapping[tuple[str, str], list[int]], class_names: Sequence[str], standard: Mapping[str, str], seed: int
) -> Ratings | None:
    """The first two answers of the busiest people to each sample that has at least two answers."""
    counts: dict[str, int] = defaultdict(int)
    for (sample, _), own in said.items():
        counts[sample] += len(own)
    samples = sorted(sample for sample, count in counts.items() if count > 1)
    if not samples:
        return None
    order = np.argsort(hashed_parts(samples, 2**62, seed=seed, purpose="study"), kind="stable")[:MOST_SAMPLES]
    samples = sorted(samples[row] for row in order.tolist())
    row_of = {sample: row for row, sample in enumerate(samples)}
    kept = {key: own[:TRIALS] for key, own in said.items() if key[0] in row_of}
    busiest = Counter(who for _, who in kept).most_common(MOST_PEOPLE)
    people = sorted(who for who, _ in busiest)
    answers = np.full((len(people), TRIALS, len(samples)), -1, dtype=np.int64)
    for (sample, who), own in kept.items():
        if who in people:
            answers[people.index(who), : len(own), row_of[sample]] = own
    known = {name: k for k, name in enumerate(class_names)}
    truth = np.array([known.get(standard.get(sample, ""), -1) for sample in samples], dtype=np.int64)
    return Ratings(answers, truth, tuple(people), tuple(samples), tuple(class_names), is_planned=False)
