"""A run's review queue as tasks: what an annotator may see of each sample, and what not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from labelclean.config import Config, recorded_config
from labelclean.errors import StorageError
from labelclean.features.boxes import Box
from labelclean.review.exchange.manifest import ExportItem, task_key
from labelclean.review.pictures import box_of_row
from labelclean.storage.label_sets import GIVEN, set_text
from labelclean.storage.parquet import read_json, read_table
from labelclean.storage.run_folders import MANIFEST, file_digest
from labelclean.storage.tables import WAITS_FOR_EYES, class_names_of, matrix, probability_names


@dataclass(frozen=True)
class Suggestion:
    """What the run thinks of a sample; annotators of the blind audit slice never see it.

    Attributes:
        given_label: The given label.
        predicted_label: The suggested class; None where the readings differ, so that nothing is suggested.
        runner_up_label: The second class; where nothing is suggested, the other class that it may be.
        probability: Probability of the suggested class, 0..1; None where nothing is suggested.
        label_score: Probability that the given label is right, low = suspicious.
        reasons: Reasons of the flags.
        neighbour_ids: Nearest trusted samples.
    """

    given_label: str
    predicted_label: str | None
    runner_up_label: str
    probability: float | None
    label_score: float
    reasons: tuple[str, ...]
    neighbour_ids: tuple[str, ...]

    @property
    def why(self) -> str:
        """The reasons in one line; that the readings differ goes with the class that it may be instead."""
        return ", ".join(f"{one} ({self.runner_up_label}?)" if one == WAITS_FOR_EYES else one for one in self.reasons)


@dataclass(frozen=True)
class SetSuggestion:
    """What the run thinks of an image that may have several labels.

    Attributes:
        given: Labels as given, in class order.
        predicted: The labels that we would give, in class order.
        missing: Classes that may be missing.
        spurious: Labels that may be too many.
        label_score: Least probability that what was given of a class is right, low = suspicious.
        neighbour_ids: Nearest trusted samples.
    """

    given: tuple[str, ...]
    predicted: tuple[str, ...]
    missing: tuple[str, ...]
    spurious: tuple[str, ...]
    label_score: float
    neighbour_ids: tuple[str, ...]

    @property
    def why(self) -> str:
        """What may be wrong, in one line."""
        changes = [f"+ {name}?" for name in self.missing] + [f"- {name}?" for name in self.spurious]
        return ", ".join(changes)


@dataclass(frozen=True)
class Task:
    """One task of an export.

    Attributes:
        item: Its line in the manifest.
        rank: Its place in the queue.
        image_path: Path of the original below the image root, if it has one.
        suggestion: What the annotator may see, None for a blind task or where images have several labels.
        box: The box that is asked about; None: the whole image.
        sets: The same where they have; None for a blind task.
        view_ids: Other images of the part that is asked about, where labels are those of parts.
    """

    item: ExportItem
    rank: int
    image_path: str | None
    suggestion: Suggestion | None
    box: Box | None = None
    sets: SetSuggestion | None = None
    view_ids: tuple[str, ...] = ()

    @property
    def is_blind(self) -> bool:
        """The annotator sees neither label nor suggestion."""
        return self.suggestion is None and self.sets is None


@dataclass(frozen=True)
class QueueToExport:
    """A run's queue as tasks.

    Attributes:
        run_id: The run.
        dataset: Its data set.
        class_names: The K class names in order.
        config: The run's configuration.
        tasks: In the order of the queue.
        several_labels: An image may have several labels, or none.
    """

    run_id: str
    dataset: str
    class_names: tuple[str, ...]
    config: Config
    tasks: tuple[Task, ...]
    several_labels: bool = False


def read_queue(run_folder: Path, *, suggestions: bool = True) -> QueueToExport:
    """Return a run's review queue as tasks.

    Args:
        run_folder: A published run.
        suggestions: Show what the run thinks; samples of the audit slice are blind in any case.

    Returns:
        The queue.

    Raises:
        StorageError: If the folder is no whole run or was changed.
    """
    manifest = read_json(run_folder / MANIFEST)
    for name in ("review_queue.parquet", "refined_labels.parquet"):
        promised = manifest.get("files", {}).get(name)
        if promised is None or not (run_folder / name).is_file():
            raise StorageError(f"{run_folder}: the run has no {name}; a gate stopped it. Export another run.")
        if file_digest(run_folder / name) != promised["sha256"]:
            raise StorageError(f"{run_folder / name}: the file is not the one the run published. Export another run.")
    queue = read_table(run_folder / "review_queue.parquet", "review_queue")
    run_id, dataset = str(manifest["run_id"]), str(manifest["dataset"])
    config, names = recorded_config(manifest["config"]), class_names_of(queue)
    if GIVEN in queue.column_names:
        tasks = [_set_task(row, run_id, dataset, names, suggestions=suggestions) for row in queue.to_pylist()]
        tasks.sort(key=lambda task: task.rank)
        return QueueToExport(run_id, dataset, names, config, tuple(tasks), several_labels=True)
    probability = _probabilities(run_folder, set(queue.column("sample_id").to_pylist()))
    tasks = []
    for row in sorted(queue.to_pylist(), key=lambda row: int(row["rank"])):
        sample, image = row["sample_id"], row["content_hash"]
        key, drawn = task_key(run_id, dataset, sample, image), row.get("inclusion_probability")
        item = ExportItem(key, sample, image, row["given_label"], drawn)
        is_blind = not suggestions or row["queue_source"] == "random_audit"
        suggestion = None if is_blind else _suggestion(row, probability[sample])
        views = tuple(row.get("view_ids") or ())
        tasks.append(Task(item, int(row["rank"]), row.get("image_path"), suggestion, box_of_row(row), view_ids=views))
    return QueueToExport(run_id, dataset, names, config, tuple(tasks))


# --- inside ---------------------------------------------------------------------------------------


def _suggestion(row: dict[str, Any], probability: float) -> Suggestion:
    waits = WAITS_FOR_EYES in (row["reasons"] or ()) and row["predicted_label"] == row["given_label"]
    return Suggestion(
        given_label=row["given_label"],
        predicted_label=None if waits else row["predicted_label"],
        runner_up_label=row["runner_up_label"],
        probability=None if waits else probability,
        label_score=round(float(row["label_score"]), 6),
        reasons=tuple(row["reasons"] or ()),
        neighbour_ids=tuple(row["neighbour_ids"] or ()),
    )


def _set_task(row: dict[str, Any], run_id: str, dataset: str, names: tuple[str, ...], *, suggestions: bool) -> Task:
    """A place of the queue of a run of several labels."""
    sample, image = row["sample_id"], row["content_hash"]
    key, drawn = task_key(run_id, dataset, sample, image), row.get("inclusion_probability")
    item = ExportItem(key, sample, image, set_text(row["given_labels"], names), drawn)
    is_blind = not suggestions or row["queue_source"] == "random_audit"
    sets = SetSuggestion(
        given=tuple(row["given_labels"]),
        predicted=tuple(row["predicted_labels"]),
        missing=tuple(row["missing_labels"]),
        spurious=tuple(row["spurious_labels"]),
        label_score=round(float(row["label_score"]), 6),
        neighbour_ids=tuple(row["neighbour_ids"] or ()),
    )
    return Task(item, int(row["rank"]), row.get("image_path"), None, sets=None if is_blind else sets)


def _probabilities(run_folder: Path, samples: set[str]) -> dict[str, float]:
    """Probability of the suggested class of each sample."""
    path = run_folder / "refined_labels.parquet"
    probs = probability_names("soft_label", pq.read_schema(path).names)[-1]
    table = read_table(path, "refined_labels", ["sample_id", probs])
    table = table.filter(pc.is_in(table.column("sample_id"), value_set=pa.array(sorted(samples), pa.string())))
    best = matrix(table.column(probs)).max(axis=1) if table.num_rows else ()
    return {
        sample: round(float(value), 6)
        for sample, value in zip(table.column("sample_id").to_pylist(), best, strict=True)
    }
