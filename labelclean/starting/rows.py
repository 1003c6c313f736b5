"""What every reader gives back: rows with one class each, and what was left out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from labelclean.errors import TableError, listed
from labelclean.review.boxes.files import BoxSource

NO_LABEL = "images without a label"
SEVERAL_LABELS = "images with several labels (one class per image is read)"
BOXES = "boxes and other shapes (they name a part of an image, not its class; --boxes reads the boxes)"


@dataclass(frozen=True)
class StoredImages:
    """Images that a Parquet file holds; they are copied when the labels are written, never all in memory.

    Attributes:
        path: Parquet file or folder.
        place: Column of the bytes, and the field in it where it is a struct.
        kept: Which rows have a label, bool; None: all.
    """

    path: Path
    place: tuple[str, ...]
    kept: pa.Array | None = None


@dataclass(frozen=True)
class Rows:
    """What a reader took from a file.

    Attributes:
        source: What was read, in words.
        table: Columns of the table `labels` and any others; `image_path` as the file says it.
        left_out: What was not taken -> names of images, cells or files.
        seen: What was decided or guessed, one sentence each.
        folder: Folder that image paths start from; None where the format does not say.
        images: Where the images themselves are, if the file holds them.
        is_placed: The images were seen at these paths; nothing has to be looked for.
        boxes: Where the boxes came from, if rows are boxes.
        rejects: Boxes that cannot be used, rows of the table `rejects`.
    """

    source: str
    table: pa.Table
    left_out: Mapping[str, Sequence[str]] = field(default_factory=dict)
    seen: tuple[str, ...] = ()
    folder: Path | None = None
    images: StoredImages | None = None
    is_placed: bool = False
    boxes: BoxSource | None = None
    rejects: tuple[dict[str, str], ...] = ()

    def left_out_sentences(self) -> list[str]:
        """Return one sentence for each reason."""
        return [
            f"left out: {len(names):,} {what}: {listed(list(names), 3)}"
            for what, names in self.left_out.items()
            if names
        ]


@dataclass(frozen=True)
class LabelledImage:
    """One image with the classes that somebody gave it.

    Attributes:
        path: The image as the file names it.
        labels: Its classes; where an image has one label, a row needs exactly one.
        more: Other columns, such as `annotator_id`.
    """

    path: str
    labels: tuple[str, ...]
    more: Mapping[str, str | None] = field(default_factory=dict)


Collect = Callable[..., Rows]
"""`rows_of_images`, or `label_sets.set_rows_of_images`, which takes the same."""


def rows_of_images(
    images: Iterable[LabelledImage],
    source: str,
    origin: Path,
    *,
    left_out: Mapping[str, Sequence[str]] | None = None,
    seen: Sequence[str] = (),
    folder: Path | None = None,
) -> Rows:
    """Return a row for each image that has one class; the others are left out by name.

    Args:
        images: What the file holds, in its order.
        source: What was read, in words.
        origin: The file, for the error message.
        left_out: What the reader itself did not take.
        seen: What the reader decided.
        folder: Folder that image paths start from.

    Returns:
        The rows.

    Raises:
        TableError: If no image has one class.
    """
    taken: list[dict[str, Any]] = []
    bare: list[str] = []
    several: list[str] = []
    for image in images:
        labels = tuple(dict.fromkeys(image.labels))
        if len(labels) == 1:
            taken.append({"image_path": image.path, "given_label": labels[0], **image.more})
        else:
            (several if labels else bare).append(image.path)
    out = {**(left_out or {}), NO_LABEL: bare, SEVERAL_LABELS: several}
    if not taken:
        counts = "; ".join(f"{len(names):,} {what}" for what, names in out.items() if names) or "nothing else"
        raise TableError(
            f"{origin}: {source}: at least one image must have one class, but none has. It holds {counts}. "
            "Give each image one class, or name another file."
        )
    names = dict.fromkeys(name for row in taken for name in row)
    schema = pa.schema([(name, pa.string()) for name in names])
    return Rows(source, pa.Table.from_pylist(taken, schema=schema), out, tuple(seen), folder)
