"""What every reader gives back: rows with one class each, and what was left out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

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


Collect = Callable[[Iterable[LabelledImage]], tuple[pa.Table, dict[str, list[str]]]]
"""`one_label_each`, or `label_sets.all_labels_each`: a row for each image with a label, and the paths of the others by reason."""


def one_label_each(images: Iterable[LabelledImage]) -> tuple[pa.Table, dict[str, list[str]]]:
    """Return a row for each image that has one class, and the others by name.

    Args:
        images: What a file holds, in its order.

    Returns:
        The table and what was left out.
    """
    taken: list[dict[str, str | None]] = []
    bare: list[str] = []
    several: list[str] = []
    for image in images:
        labels = tuple(dict.fromkeys(image.labels))
        if len(labels) == 1:
            taken.append({"image_path": image.path, "given_label": labels[0], **image.more})
        else:
            (several if labels else bare).append(image.path)
    names = dict.fromkeys(name for row in taken for name in row)
    table = pa.Table.from_pylist(taken, schema=pa.schema([(name, pa.string()) for name in names]))
    return table, {NO_LABEL: bare, SEVERAL_LABELS: several}


def rows_of_images(
    images: Iterable[LabelledImage],
    source: str,
    origin: Path,
    collect: Collect = one_label_each,
    left_out: Mapping[str, Sequence[str]] | None = None,
) -> Rows:
    """Return a row for each image that has a label; the others are left out by name.

    Args:
        images: What the file holds, in its order.
        source: What was read, in words.
        origin: The file, for the error message.
        collect: Whether an image has one label, or several.
        left_out: What the reader itself did not take.

    Returns:
        The rows.

    Raises:
        TableError: If no image has a label.
    """
    table, others = collect(images)
    out = {**(left_out or {}), **others}
    if not table.num_rows:
        counts = "; ".join(f"{len(names):,} {what}" for what, names in out.items() if names) or "nothing else"
        wanted = "one class" if collect is one_label_each else "a class"
        raise TableError(
            f"{origin}: {source}: at least one image must have {wanted}, but none has. It holds {counts}. "
            f"Give each image {wanted}, or name another file."
        )
    return Rows(source, table, out)
