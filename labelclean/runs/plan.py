"""Before anything starts: whether a run's labels are held in memory or sorted on disk, and whether its memory suffices."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from labelclean.cleaning.memory import (
    EXPECTATIONS_BYTES,
    Size,
    available_memory,
    check_memory,
    choice_rows,
    earlier_need,
    memory_limit,
)
from labelclean.cleaning.population import setting_faults
from labelclean.config import Config
from labelclean.errors import ConfigError, TableError
from labelclean.labels import in_class_order
from labelclean.runs.arrivals import Arrivals, files_to_read
from labelclean.runs.class_rules import check_class_settings
from labelclean.runs.label_set_rules import check_label_set_settings
from labelclean.runs.record import INTERNAL
from labelclean.storage.label_sets import has_label_sets
from labelclean.storage.parquet import labels_dataset, read_json
from labelclean.storage.tables import BOX_COLUMNS

if TYPE_CHECKING:
    from labelclean.features.facts import BackboneFacts

LOG = logging.getLogger("labelclean")
SURELY_FITTING = 20_000  # rows that any machine that decodes images has the memory for


@dataclass(frozen=True)
class Plan:
    """How a run goes about its data; nothing of it changes a result.

    Attributes:
        is_streamed: Labels are sorted on disk and worked on in many parts, and a killed run goes on where it stopped.
        limit: Bytes that it may take, or None.
        need: Bytes that it is expected to take at most, or None where nobody asked.
        class_names: The classes, where a reference settles them.
        digest: Of everything that a killed run's units hang on; empty where nothing is kept of one.
    """

    is_streamed: bool = False
    limit: int | None = None
    need: int | None = None
    class_names: tuple[str, ...] | None = None
    digest: str = ""

    def record(self) -> dict[str, Any]:
        """Return the same as JSON values; `plan_from` turns them back."""
        return asdict(self)


def plan_from(record: dict[str, Any]) -> Plan:
    """Return what `Plan.record` wrote down."""
    names = record["class_names"]
    return Plan(**(record | {"class_names": None if names is None else tuple(names)}))


def plan_of(work: Path) -> Plan:
    """Return the plan of the run that works in a folder."""
    return plan_from(read_json(work / INTERNAL / "plan.json"))


def plan_run(config: Config, arrivals: Arrivals) -> Plan:
    """Return how a run goes about its data.

    Args:
        config: The configuration.
        arrivals: The files that it reads.

    Returns:
        The plan.

    Raises:
        ConfigError: If the memory does not suffice, or settings ask for what is not done with so many samples or with a
            reference.
    """
    if config.study.measured is not None:
        read_json(config.study.measured)  # refuses before hours have passed
    files = files_to_read(config, arrivals)
    dataset = labels_dataset(config.data.labels, files)
    is_set = has_label_sets(dataset.schema, several_labels=config.data.several_labels)
    if is_set:
        check_label_set_settings(config)
    num_rows = dataset.count_rows()
    limit = None if config.run.max_memory is None else memory_limit(config.run.max_memory)
    is_streamed = num_rows > config.run.in_memory_samples
    digest = _digest(config, arrivals) if is_streamed else ""
    is_small = num_rows <= min(SURELY_FITTING, config.teacher.choice_rows)
    if limit is None and config.run.reference is None and is_small:
        return Plan(is_streamed, digest=digest)
    names = config.data.class_names or found_classes(config.data.labels, files, config.data.spellings)
    is_one = config.data.class_names is not None and len(names) == 1
    if not is_set and (is_one or config.run.reference is None):
        check_class_settings(config, names, dataset.schema.names, num_rows)
    settled, num_kept = (None, 0) if config.run.reference is None else _of_reference(config, names)
    if not is_set and settled is not None:
        check_class_settings(config, settled, dataset.schema.names, num_rows)
    size = measured_size(config, num_rows + num_kept, settled or names)
    _check_settings(config, size, num_kept)
    checks = EXPECTATIONS_BYTES if config.expectations.enabled else 0
    before = earlier_need(size, config, has_reference=config.run.reference is not None)
    need = check_memory(size, config, limit, "run.max_memory", before=before, beside=checks)
    free = available_memory()
    if need > free:
        LOG.warning(
            "cleaning %s takes about %s MiB, and %s MiB are free: the machine may become slow, or stop the run. Free some, "
            "or lower teacher.choice_rows (%s).",
            size,
            f"{need / 2**20:,.0f}",
            f"{free / 2**20:,.0f}",
            f"{choice_rows(config, size.num_classes):,}",
        )
    return Plan(is_streamed, limit, need, settled, digest)


def measured_size(config: Config, num_rows: int, names: Sequence[str]) -> Size:
    """Return N, D and K of a data set.

    Args:
        config: The configuration.
        num_rows: Rows of its labels.
        names: Its classes.

    Returns:
        The size; rows of several inspectors count one by one.
    """
    return Size(num_rows, _facts(config).num_features, max(len(names), 2))


def _facts(config: Config) -> BackboneFacts:
    from labelclean.features.facts import backbone_facts

    return backbone_facts(config)


def _of_reference(config: Config, names: Sequence[str]) -> tuple[tuple[str, ...], int]:
    """Check that sums can be added to those of the reference; its classes, for a night need not show all, and samples that it kept."""
    from labelclean.features.decode import decode_digest
    from labelclean.runs.night_sums import check_reference, read_run_sums

    folder = config.run.reference
    if folder is None:
        return tuple(names), 0
    reference, facts = read_run_sums(folder), _facts(config)
    margin = box_margin(config, labels_dataset(config.data.labels).schema.names)
    decode = decode_digest(config.decode, facts.input_size, config.backbone.resize, margin)
    classes = tuple(names)
    if config.data.class_names is None and set(classes) <= set(reference.class_names):
        classes = reference.class_names
    check_reference(reference, folder, config, classes, facts.digest, decode)
    return classes, 0 if reference.kept is None else len(reference.kept.labels)


def box_margin(config: Config, names: Sequence[str]) -> float | None:
    """Return the margin of boxes, for the decode digest.

    Args:
        config: `data.box_margin` is read.
        names: Columns of the labels or samples.

    Returns:
        The margin; None where samples are whole images.
    """
    return config.data.box_margin if BOX_COLUMNS[0] in names else None


def found_classes(labels: Path, files: Sequence[Path] | None, spellings: Mapping[str, str]) -> tuple[str, ...]:
    """Return the class names that a table holds, in order; read a batch at a time.

    Args:
        labels: Parquet file or folder.
        files: Only these of its files; None: all.
        spellings: `data.spellings`.

    Returns:
        The names.

    Raises:
        TableError: If the table has no column `given_label`.
    """
    dataset = labels_dataset(labels, files)
    if "given_label" not in dataset.schema.names:
        raise TableError(f"{labels}: column 'given_label' is required, but the table has {dataset.schema.names}.")
    names: set[str] = set()
    for batch in dataset.to_batches(columns=["given_label"]):
        column = batch.column(0)
        flat = column.flatten() if pa.types.is_nested(column.type) else column
        names |= {str(name) for name in flat.unique().to_pylist() if name is not None}
    return tuple(in_class_order(spellings.get(name, name) for name in names))


def _check_settings(config: Config, size: Size, num_kept: int) -> None:
    """Refuse what is not done with so many samples, or with a reference; all faults at once."""
    faults = setting_faults(config, size.num_samples, size.num_classes)
    if faults and num_kept:
        faults.append(f"{num_kept:,} of these samples are those that run.reference kept")
    if config.run.reference is not None:
        if config.teacher.left_out == "group":
            faults.append(
                "teacher.left_out must be auto or fold with run.reference: earlier samples are known by sums per fold"
            )
        if config.refine.method == "adaptive":
            faults.append("refine.method must not be adaptive with run.reference: no sums of its targets are kept")
        if config.teacher.pred_probs is not None:
            faults.append(
                "teacher.pred_probs must be left out with run.reference: it learns nothing from earlier nights"
            )
    if faults:
        raise ConfigError(f"{'; '.join(faults)}. Change these. Nothing was started.")


def _digest(config: Config, arrivals: Arrivals) -> str:
    """Digest of what decides the units of a run: settings, label files and the version."""
    parts = [config.model_dump(mode="json", exclude={"notify"}), arrivals.record(), version("labelclean")]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
