"""Which files a source of boxes is made of, and the same files with other classes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from labelclean.errors import StorageError, TableError, listed
from labelclean.review.boxes.coco import coco_boxes, coco_with_classes
from labelclean.review.boxes.cvat import cvat_boxes, cvat_with_classes
from labelclean.review.boxes.found import Files, FoundBoxes, Place
from labelclean.review.boxes.label_studio import label_studio_boxes, label_studio_with_classes
from labelclean.review.boxes.voc import voc_boxes, voc_with_classes
from labelclean.review.boxes.yolo import is_names_file, yolo_boxes, yolo_files, yolo_with_classes
from labelclean.storage.tables import BOX_COLUMNS

NOTE = b"labelclean.boxes"
_READ: dict[str, Callable[[Files, Path], FoundBoxes]] = {
    "coco": coco_boxes,
    "cvat": cvat_boxes,
    "voc": voc_boxes,
    "yolo": yolo_boxes,
}
_WRITE: dict[str, Callable[[Files, Mapping[Place, str], Path], dict[str, bytes]]] = {
    "coco": coco_with_classes,
    "cvat": cvat_with_classes,
    "label_studio": label_studio_with_classes,
    "voc": voc_with_classes,
    "yolo": yolo_with_classes,
}


@dataclass(frozen=True)
class BoxSource:
    """Where boxes came from.

    Attributes:
        form: Which format: `coco`, `cvat`, `label_studio`, `voc` or `yolo`.
        path: The file or folder.
        control: In Label Studio, the control that asks for the class, where several do.
    """

    form: str
    path: Path
    control: str | None = None

    def note(self, folder: Path) -> dict[bytes, bytes]:
        """Return what a column of the labels says of it; the path starts at the labels' folder where it lies below."""
        path = self.path.resolve()
        path = path.relative_to(folder) if path.is_relative_to(folder) else path
        return {NOTE: json.dumps({"format": self.form, "path": path.as_posix(), "control": self.control}).encode()}


def source_of(schema: pa.Schema, folder: Path) -> BoxSource | None:
    """Return where the boxes of labels came from.

    Args:
        schema: Columns of the labels.
        folder: Their folder.

    Returns:
        The source; None where labels are whole images, or boxes of a table of the user's own.
    """
    field = schema.field(BOX_COLUMNS[0]) if BOX_COLUMNS[0] in schema.names else None
    note = (field.metadata or {}).get(NOTE) if field is not None else None
    if note is None:
        return None
    record = json.loads(note)
    return BoxSource(record["format"], folder / record["path"], record["control"])


def box_files(source: BoxSource) -> dict[str, bytes]:
    """Return the files that hold boxes and name classes.

    Args:
        source: Where they are.

    Returns:
        Name below the folder -> bytes, by name; the name of a single file is empty.

    Raises:
        StorageError: If the file or folder is gone or cannot be read.
    """
    path = source.path
    try:
        if not path.is_dir():
            return {"": path.read_bytes()}
        if source.form == "voc":
            found = [file for file in path.rglob("*.xml") if not file.name.startswith(".")]
        else:
            labels = yolo_files(path)
            names = [file for file in path.rglob("*") if is_names_file(file.relative_to(path).as_posix())]
            found = [file for file in {*labels, *names} if file.is_file()]
        return {file.relative_to(path).as_posix(): file.read_bytes() for file in sorted(found)}
    except OSError as fault:
        raise StorageError(
            f"{path}: the file that the boxes came from must be there to be written anew, but: {fault.strerror}. Put it back, or "
            "write a table."
        ) from None


def _found(source: BoxSource, files: Files) -> FoundBoxes:
    if source.form == "label_studio":
        return label_studio_boxes(files, source.path, source.control)
    return _READ[source.form](files, source.path)


def with_classes(source: BoxSource, given: Mapping[str, str], new: Mapping[str, str]) -> dict[str, bytes]:
    """Return the files that boxes came from with other classes; nothing else in them changes.

    Args:
        source: Where they are.
        given: Class of each of these boxes as it was read, by sample id.
        new: Its new class, by sample id.

    Returns:
        Name below the folder -> bytes.

    Raises:
        TableError: If a box is no longer there or has another class, or the files cannot name the new one.
        StorageError: If the files are gone.
    """
    files = box_files(source)
    boxes = {box.sample_id: box for box in _found(source, files).boxes}
    changed = [sample for sample in new if sample not in boxes or boxes[sample].label != given[sample]]
    if changed:
        raise TableError(
            f"{source.path}: boxes must be those that init read, but {len(changed):,} of {len(new):,} whose class is new are gone "
            f"or have another class by now: {listed(sorted(changed))}. Run init and run again; nothing was written."
        )
    return _WRITE[source.form](files, {boxes[sample].place: label for sample, label in new.items()}, source.path)
