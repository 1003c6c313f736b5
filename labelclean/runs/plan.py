"""Before anything starts: whether a run fits into memory or goes out of core, and whether its memory suffices."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labelclean.cleaning.learning import teacher_faults
from labelclean.cleaning.memory import (
    EXPECTATIONS_BYTES,
    EXTRACTION_BYTES,
    Size,
    available_memory,
    fitting_directions,
    fitting_sample,
    in_memory_need,
    memory_limit,
    streamed_need,
)
from labelclean.config import Config
from labelclean.errors import ConfigError, TableError
from labelclean.labels import in_class_order
from labelclean.runs.arrivals import Arrivals, files_to_read
from labelclean.runs.record import INTERNAL
from labelclean.storage.parquet import labels_dataset, read_json

if TYPE_CHECKING:
    from labelclean.features.facts import BackboneFacts

SAMPLE_ROWS = 50_000
SAMPLE_ROWS_PER_CLASS = 100
MOST_SAMPLE_ROWS = 200_000
SHARE_OF_FREE = 0.7
STREAMED_METHODS = ("auto", "posterior", "none")


@dataclass(frozen=True)
class Plan:
    """How a run goes about its data.

    Attributes:
        is_streamed: Out of core, from shards on disk.
        why: One sentence; empty for an ordinary run in memory.
        limit: Bytes that it may take, or None.
        need: Bytes that it is expected to take at most, or None where nobody asked.
        sample_rows: Samples on which choices are made out of core.
        class_names: The classes, where a reference settles them.
        digest: Of everything that a killed run's units hang on; empty in memory.
        directions: How many a neighbour index out of core may have; 0 where no neighbours are looked for.
    """

    is_streamed: bool = False
    why: str = ""
    limit: int | None = None
    need: int | None = None
    sample_rows: int = SAMPLE_ROWS
    class_names: tuple[str, ...] | None = None
    digest: str = ""
    directions: int = 0

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
        ConfigError: If the memory does not suffice, or the data must go out of core and the settings ask for
            what is not done there.
    """
    files = files_to_read(config, arrivals)
    num_rows = labels_dataset(config.data.labels, files).count_rows()
    wanted, reference = config.run.max_memory, config.run.reference
    is_small = num_rows <= config.run.in_memory_samples
    limit = None if wanted is None else memory_limit(wanted)
    if is_small and limit is None and reference is None and num_rows < config.run.in_memory_samples // 20:
        return Plan()
    names = config.data.class_names or found_classes(config.data.labels, files, config.data.spellings)
    size = measured_size(config, num_rows, names)
    checks = EXPECTATIONS_BYTES if config.expectations.enabled else 0
    in_memory = max(in_memory_need(size, config), EXTRACTION_BYTES) + checks
    available = limit if limit is not None else int(SHARE_OF_FREE * available_memory())
    if reference is None and is_small and in_memory <= available:
        return Plan(limit=limit, need=in_memory)
    names = names if reference is None else _reference_classes(config, names)
    why = _why(config, size, in_memory, available)
    _check_streamed(config, why)
    rows = min(max(SAMPLE_ROWS, SAMPLE_ROWS_PER_CLASS * size.num_classes), MOST_SAMPLE_ROWS, num_rows)
    spare = None if limit is None else limit - checks
    directions = fitting_directions(size, config, spare)
    rows = fitting_sample(size, config, rows, spare, directions)
    need = max(streamed_need(size, config, rows, directions), EXTRACTION_BYTES) + checks
    if limit is not None and need > limit:
        raise ConfigError(
            f"run.max_memory must be at least {need / 2**20:,.0f} MiB for {size}: so much do decoding and the backbone take, "
            f"but it is {limit / 2**20:,.0f} MiB. Allow more. Nothing was started."
        )
    settled = None if reference is None else tuple(names)
    return Plan(True, why, limit, need, rows, settled, _digest(config, arrivals), directions)


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


def _reference_classes(config: Config, names: Sequence[str]) -> tuple[str, ...]:
    """Check that sums can be added to those of the reference; its classes, for a night need not show all of them."""
    from labelclean.features.decode import decode_digest
    from labelclean.runs.night_sums import check_reference, read_run_sums

    folder = config.run.reference
    if folder is None:
        return tuple(names)
    reference, facts = read_run_sums(folder), _facts(config)
    decode = decode_digest(config.decode, facts.input_size, config.backbone.resize)
    found = tuple(names)
    if config.data.class_names is None and set(found) <= set(reference.class_names):
        found = reference.class_names
    check_reference(reference, folder, config, found, facts.digest, decode)
    return found


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
        names |= {str(name) for name in batch.column(0).unique().to_pylist() if name is not None}
    return tuple(in_class_order(spellings.get(name, name) for name in names))


def _why(config: Config, size: Size, in_memory: int, available: int) -> str:
    if config.run.reference is not None:
        return f"out of core: the samples are added to the sums of {config.run.reference.name}"
    if size.num_samples > config.run.in_memory_samples:
        return f"out of core: {size.num_samples:,} rows are more than run.in_memory_samples = {config.run.in_memory_samples:,}"
    return f"out of core: {size} would take about {in_memory / 2**20:,.0f} MiB in memory, and {available / 2**20:,.0f} MiB are there"


def _check_streamed(config: Config, why: str) -> None:
    """Refuse what is not done out of core; all faults at once."""
    faults = teacher_faults(config)
    if config.refine.method not in STREAMED_METHODS:
        faults.append(f"refine.method must be one of {', '.join(STREAMED_METHODS)}, but is {config.refine.method!r}")
    if config.neighbours.method == "exact":
        faults.append("neighbours.method must be auto, index or none, but is 'exact', which compares all pairs")
    if config.neighbours.method == "index" and config.run.reference is not None:
        faults.append(
            "neighbours.method must be auto or none with run.reference, but is 'index': of earlier samples only sums are "
            "kept, so neighbours cannot be sought among them"
        )
    if config.teacher.pred_probs is not None:
        faults.append("teacher.pred_probs must be left out, but names a file")
    if faults:
        raise ConfigError(
            f"the run goes {why}; there {'; '.join(faults)}. Change these, or raise run.max_memory and run.in_memory_samples "
            "so that it fits into memory. Nothing was started."
        )


def _digest(config: Config, arrivals: Arrivals) -> str:
    """Digest of what decides the units of a run: settings, label files and the version."""
    said = [config.model_dump(mode="json", exclude={"notify"}), arrivals.record(), version("labelclean")]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
