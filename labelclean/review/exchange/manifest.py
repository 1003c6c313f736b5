"""The manifest of an export: which task of the annotation tool is which sample, image and label."""

from __future__ import annotations

import hashlib
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from labelclean.errors import ExchangeError, StorageError
from labelclean.storage.parquet import read_json, write_json

MANIFEST = "manifest.json"
_FORMAT = "labelclean export 1"
_KEY = re.compile(r"^(?P<run>.+)_(?P<digest>[0-9a-f]{20})$")


@dataclass(frozen=True)
class ExportItem:
    """One exported sample.

    Attributes:
        key: Its name in the tool and the stem of its preview's file name.
        sample_id: The sample.
        content_hash: SHA-256 of the image that the annotator sees.
        given_label: Its given label in the run.
        inclusion_probability: With which probability it was drawn for the audit, in (0, 1]; None where it was not drawn.
    """

    key: str
    sample_id: str
    content_hash: str
    given_label: str
    inclusion_probability: float | None = None


@dataclass(frozen=True)
class Unreadable:
    """A place in the queue without a preview, which is therefore not exported.

    Attributes:
        sample_id: The sample.
        reason_code: Why; a reason of `rejects`, or `content_changed`.
        message: The same in a sentence.
    """

    sample_id: str
    reason_code: str
    message: str


@dataclass(frozen=True)
class ExportManifest:
    """What was exported.

    Attributes:
        tool: The annotation tool.
        run_id: The run whose queue it is.
        dataset: The data set of that run.
        class_names: The K class names in order.
        settings: How it was exported.
        num_parts: Parts of the export.
        items: The tasks, in the order of the queue.
        unreadable: Places of the queue that are not exported.
    """

    tool: str
    run_id: str
    dataset: str
    class_names: tuple[str, ...]
    settings: dict[str, Any]
    num_parts: int
    items: tuple[ExportItem, ...]
    unreadable: tuple[Unreadable, ...]


def task_key(run_id: str, dataset: str, sample_id: str, content_hash: str) -> str:
    """Return a sample's name in annotation tools: ASCII, unique without an extension, and telling its run.

    Args:
        run_id: The run.
        dataset: Its data set.
        sample_id: The sample.
        content_hash: SHA-256 of its image.

    Returns:
        The run id, an underscore and 20 hexadecimal digits.

    Examples:
        >>> task_key("2026-01-14T020000.000Z", "line 3", "a", "e3b0")
        '2026-01-14T020000.000Z_7bd5815b4ed632b98dc9'
    """
    digest = hashlib.sha256("\0".join((dataset, run_id, sample_id, content_hash)).encode()).hexdigest()
    return f"{re.sub(r'[^A-Za-z0-9.-]', '-', run_id)}_{digest[:20]}"


def run_of_key(key: str) -> str | None:
    """Return the run that a task key names, or None for a name that is no task key.

    Args:
        key: Anything found in an annotator's file.

    Returns:
        The run id.

    Examples:
        >>> run_of_key("2026-01-14T020000.000Z_4bc1cf8a1b9d0e4a5f0d")
        '2026-01-14T020000.000Z'
    """
    match = _KEY.match(key)
    return match["run"] if match else None


def key_of_file(name: str) -> str:
    """Return the task key in a file name as tools give it back, with or without folders and extension.

    Args:
        name: Such as `part_001/images/KEY.png`.

    Returns:
        The last part of the path without a picture's extension.

    Examples:
        >>> key_of_file("data/2026-01-14T020000.000Z_4bc1cf8a1b9d0e4a5f0d.png")
        '2026-01-14T020000.000Z_4bc1cf8a1b9d0e4a5f0d'
    """
    last = re.split(r"[/\\]", name)[-1]
    return re.sub(r"\.(png|jpe?g|bmp|tiff?|webp)$", "", last, flags=re.IGNORECASE)


def write_manifest(folder: Path, manifest: ExportManifest) -> None:
    """Write the manifest, which makes the export whole.

    Args:
        folder: The export folder.
        manifest: What was exported.

    Raises:
        StorageError: If the disk refuses.
    """
    write_json(folder / MANIFEST, {"format": _FORMAT} | asdict(manifest))


def read_manifest(place: Path) -> ExportManifest:
    """Return the manifest of an export.

    Args:
        place: The export folder or its `manifest.json`.

    Returns:
        The manifest.

    Raises:
        ExchangeError: If it is missing, damaged or something else.
    """
    path = place / MANIFEST if place.is_dir() else place
    try:
        record = read_json(path)
    except StorageError as fault:
        raise ExchangeError(
            f"{path}: the manifest of the export is needed to tell whose answers these are, but: {fault} "
            "Name the folder that `labelclean export` wrote."
        ) from None
    try:
        if record.pop("format") != _FORMAT:
            raise ValueError("another format")
        record["class_names"] = tuple(record["class_names"])
        record["items"] = tuple(ExportItem(**row) for row in record["items"])
        drawn = [item.inclusion_probability for item in record["items"]]
        if not all(value is None or 0 < value <= 1 for value in drawn):
            raise ValueError("an inclusion_probability outside (0, 1]")
        record["unreadable"] = tuple(Unreadable(**row) for row in record["unreadable"])
        manifest = ExportManifest(**record)
    except (KeyError, TypeError, ValueError, AttributeError) as fault:
        raise ExchangeError(
            f"{path}: must be the manifest of a {_FORMAT!r}, but is not ({type(fault).__name__}: {fault}). "
            "Name the folder that `labelclean export` wrote."
        ) from None
    for item in manifest.items:
        if item.key != task_key(manifest.run_id, manifest.dataset, item.sample_id, item.content_hash):
            raise ExchangeError(
                f"{path}: task {item.key!r} of sample {item.sample_id!r} does not belong to run {manifest.run_id!r} "
                f"of {manifest.dataset!r}; the manifest was changed. Export again."
            )
    return manifest
