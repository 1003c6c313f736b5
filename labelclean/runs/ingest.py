"""Read and check the labels: once for people (`validated`), once for a run (`ingest`)."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from labelclean.config import Config
from labelclean.errors import StorageError, listed
from labelclean.features.image_files import unusable_images
from labelclean.noise.distribution import DistributionReport, distribution_of_counts, measure_distribution
from labelclean.review.part_views import PART
from labelclean.runs.arrivals import arrivals_from, files_to_read, measure_repeats, whole_files
from labelclean.runs.class_rules import check_class_settings, check_part_labels
from labelclean.runs.expectations import checked_expectations
from labelclean.runs.gates import alike_names, judge_distribution
from labelclean.runs.label_parts import class_names_of_run, held_labels, sorted_labels, write_label_parts
from labelclean.runs.label_set_rules import SEVERAL, check_label_set_settings, own_columns
from labelclean.runs.part_files import LABELLED, LABELS, class_counts, part_paths, read_samples
from labelclean.runs.plan import plan_of
from labelclean.runs.record import INTERNAL, finding_record, part_done, part_of, recorded, stopped
from labelclean.storage.label_sets import (
    GIVEN,
    given_answers,
    has_label_sets,
    label_names,
    one_label_needed,
    samples_of_labels,
)
from labelclean.storage.parquet import check_readable, holds_images, labels_dataset, read_labels, unread_files
from labelclean.storage.samples import given_labels_of, replaced_columns
from labelclean.storage.spellings import label_counts, missing_sentences

LOG = logging.getLogger("labelclean")
NUM_OPENED = 200


def validated(config: Config) -> dict[str, Any]:
    """Check everything that can be checked without a model: the table, the paths, the files the config names.

    Args:
        config: The configuration.

    Returns:
        `num_rows`, `num_samples`, `classes` (name -> samples), `missing_images`, `sentences`.

    Raises:
        TableError: If the labels break a promise; all faults are listed.
        StorageError: If a file that the config names is missing.
    """
    files = whole_files(config)
    labels, has_bytes = read_labels(
        config.data.labels,
        config.data.class_names,
        files,
        only_known=True,
        spellings=config.data.spellings,
        several_labels=config.data.several_labels,
    )
    if GIVEN in labels.column_names:
        check_label_set_settings(config)
    check_readable(config.data.labels, files)
    names = class_names_of_run(labels, config)
    if GIVEN not in labels.column_names:
        check_class_settings(config, names, labels.column_names, labels.num_rows)
    samples = samples_of_labels(labels, names)
    if config.data.label_of == "part":
        check_part_labels(config, samples.column(PART), samples.column("given_label"))
    _check_named_files(config)
    report = _distribution(samples, names)
    least = 1 if GIVEN in labels.column_names else 2
    verdict = judge_distribution(report, names, config.gates.class_distribution, config.data.spellings, least)
    counts = {name: round(float(count), 1) for name, count in zip(names, report.counts, strict=True)}
    missing = [] if has_bytes else _missing_images(samples, image_root(config))
    sentences = [
        f"{labels.num_rows:,} rows, {samples.num_rows:,} samples, {len(names)} classes: "
        + ", ".join(f"{name} ({count:,.0f})" for name, count in counts.items())
    ]
    sentences += [] if has_bytes else _image_sentences(samples, missing, config)
    sentences += missing_sentences(label_counts(label_names(labels)))
    columns = labels_dataset(config.data.labels, files).schema.names
    sentences += replaced_columns(columns, own_columns(labels.column_names))
    sentences += unread_files(config.data.labels)
    sentences += [f"{finding.outcome}: {finding.sentence}" for finding in verdict.findings if finding.outcome != "pass"]
    return {
        "num_rows": labels.num_rows,
        "num_samples": samples.num_rows,
        "classes": counts,
        "missing_images": missing,
        "sentences": sentences,
    }


def samples_of(config: Config, what: str | None) -> tuple[pa.Table, tuple[str, ...], bool]:
    """Return the labels with one row per sample, the class names, and whether the table holds the images themselves.

    Args:
        config: The configuration.
        what: What needs one label per image, for the refusal of several; None: nothing does.

    Returns:
        Table `samples` without content hashes, names, flag.

    Raises:
        ConfigError: If images have several labels where they need one.
        TableError: If the labels break a promise.
    """
    labels, has_bytes = read_labels(
        config.data.labels,
        config.data.class_names,
        spellings=config.data.spellings,
        several_labels=config.data.several_labels,
    )
    if what is not None and GIVEN in labels.column_names:
        raise one_label_needed(what, config.data.labels)
    names = class_names_of_run(labels, config)
    return samples_of_labels(labels, names), names, has_bytes


def ingest(work: Path) -> bool:
    """Read and check the labels; leaves one row per sample. Names that look alike end the run here."""
    if part_done(work, "ingest"):
        return True
    with recorded(work, "ingest") as (config, record):
        arrivals = arrivals_from(part_of(work, "arrivals"))
        files = files_to_read(config, arrivals)
        schema = labels_dataset(config.data.labels, files).schema
        is_set = has_label_sets(schema, several_labels=config.data.several_labels)
        for sentence in replaced_columns(schema.names, own_columns([GIVEN] if is_set else [])):
            LOG.warning("%s.", sentence)
        settled = plan_of(work).class_names or config.data.class_names
        if plan_of(work).is_streamed:
            names, parts = sorted_labels(work, config, files, settled)
        else:
            names, parts = held_labels(config, files, settled)
        has_bytes = holds_images(config.data.labels, schema)
        keeps_labels = config.expectations.enabled or "annotator_id" in schema.names
        num_rows, num_samples = write_label_parts(work, names, parts, keeps_labels=keeps_labels)
        record["expectations"] = checked_expectations(part_paths(work, LABELS), work, config, num_classes=len(names))
        record |= {"num_rows": num_rows, "num_samples": num_samples, "class_names": list(names), "has_bytes": has_bytes}
        if files is not None:
            samples, spill = part_paths(work, LABELLED), work / INTERNAL / "spill"
            record["arrivals"] = measure_repeats(config, arrivals, samples, num_rows, names, spill)
        if is_set:
            record[SEVERAL] = True
        else:
            check_class_settings(config, names, schema.names, num_samples)
            if config.data.label_of == "part":
                check_part_labels(config, *read_samples(work, LABELLED, [PART, "given_label"]).columns)
        alike = alike_names(class_counts(work, LABELLED, names), names, config.data.spellings)
        if alike:  # whatever gates.on_refusal says, and before images are looked at
            record |= {"findings": [finding_record(alike[0])]} | stopped(f"refused: {alike[0].sentence}")
        return not alike


def _distribution(samples: pa.Table, names: Sequence[str]) -> DistributionReport:
    """Labels per class; of several per image, shares are those of all images."""
    if GIVEN not in samples.column_names:
        return measure_distribution(given_labels_of(samples, names))
    counts = given_answers(samples).sum(axis=0).astype(np.float64)
    return distribution_of_counts(counts, num_samples=samples.num_rows)


def image_root(config: Config) -> Path:
    """Return the folder that image paths are relative to.

    Args:
        config: The configuration.

    Returns:
        `data.image_root`, or the folder of the labels.
    """
    labels = config.data.labels
    return config.data.image_root or (labels if labels.is_dir() else labels.parent)


def _check_named_files(config: Config) -> None:
    """Refuse files that the config names and that are not there."""
    for key, path in (("backbone.weights", config.backbone.weights), ("teacher.pred_probs", config.teacher.pred_probs)):
        if path is not None and not path.is_file():
            raise StorageError(f"{path}: {key} must name a file, but nothing is there.")


def _image_sentences(samples: pa.Table, missing: list[str], config: Config) -> list[str]:
    """How many of the first images cannot be used, and how many of all are not there."""
    root, sentences = image_root(config), list[str]()
    refused = unusable_images(root, _first_found(samples, missing), config.decode)
    if refused:
        first, why = next(iter(refused.items()))
        sentences.append(
            f"{len(refused):,} of the first {NUM_OPENED} images that are there cannot be used; {first!r}: {why}"
        )
    if missing:
        sentences.append(
            f"{len(missing):,} of {samples.num_rows:,} images are not under {root}: {listed(missing, 3)}; "
            "they will be rejected"
        )
    return sentences


def _first_found(samples: pa.Table, missing: Sequence[str]) -> list[str]:
    """The first image paths that name a file."""
    absent = set(missing)
    return [path for path in samples.column("image_path").slice(0, NUM_OPENED).to_pylist() if path not in absent]


def _missing_images(samples: pa.Table, root: Path) -> list[str]:
    """Image paths that name no file; whether they may be read is checked when they are."""
    paths = samples.column("image_path").to_pylist()
    return [path for path in paths if not path or not os.path.isfile(root / path)]  # noqa: PTH113 - names too long
