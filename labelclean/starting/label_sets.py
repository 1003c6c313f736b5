"""First labels of which an image may have several: marks in columns, or rows per image and class as in Severstal's train.csv."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from labelclean.errors import listed
from labelclean.starting.images import image_files, is_utf8, looks_like_image
from labelclean.starting.rows import NO_LABEL, LabelledImage

NOT_SAID = "rows without a label beside others of the same image"
_EARLIER = "earlier annotations of the same image (the one submitted last counts)"
_MASKS = ("encodedpixels", "encoded_pixels", "rle", "rle_mask", "mask_rle")
_BOTH = ("imageid_classid", "image_id_class_id")


def split_names(
    values: Mapping[str, list[str | None]], folded: Mapping[str, str]
) -> tuple[dict[str, list[str | None]], list[str]]:
    """Return a table of cells whose column of `IMAGE_CLASS` is split in two, and what is told of it.

    Args:
        values: Column -> cells.
        folded: Each column's name in lower case with underscores.

    Returns:
        The columns, `image_path` and `given_label` in the place of such a column.

    Examples:
        >>> split_names({"ImageId_ClassId": ["a.jpg_1", None]}, {"ImageId_ClassId": "imageid_classid"})[0]
        {'image_path': ['a.jpg', None], 'given_label': ['1', None]}
    """
    both = next((name for name in values if folded[name] in _BOTH), None)
    if both is None or {"image_path", "given_label"} & set(values):
        return dict(values), []
    pairs = [(None, None) if cell is None else cell.rpartition("_")[::2] for cell in values[both]]
    split: dict[str, list[str | None]] = {
        "image_path": [image for image, _ in pairs],
        "given_label": [name for _, name in pairs],
    }
    note = f"column {both!r} names image and class: it is split at its last underscore"
    return split | {name: column for name, column in values.items() if name != both}, [note]


def without_empty_masks(
    values: Mapping[str, list[str | None]], folded: Mapping[str, str], label: str
) -> tuple[dict[str, list[str | None]], list[str]]:
    """Return a table of cells in which a row with an empty mask gives no label, and what is told of it.

    Args:
        values: Column -> cells.
        folded: Each column's name in lower case with underscores.
        label: The column of labels.

    Returns:
        The columns; those of masks are left out.
    """
    masks = [name for name in values if folded[name] in _MASKS]
    if not masks:
        return dict(values), []
    is_there = [any(cells) for cells in zip(*(values[name] for name in masks), strict=True)]
    labels = [cell if there else None for cell, there in zip(values[label], is_there, strict=True)]
    notes = [f"column {name!r} holds masks of parts of the image: it is left out" for name in masks]
    if num := len(is_there) - sum(is_there):
        notes.append(f"{num:,} rows have an empty mask: the class that they name is not on the image")
    rest = {name: column for name, column in values.items() if name not in masks}
    return rest | {label: labels}, notes


def joined_sets(table: pa.Table, left_out: dict[str, list[str]]) -> tuple[pa.Table, list[str]]:
    """Return labels in which a row without a label stands alone, and no other column differs within an image.

    Args:
        table: Columns `sample_id`, `given_label` (a label per row) and others.
        left_out: What was not taken; rows without a label beside others come into it.

    Returns:
        The table, and what is told.
    """
    ids, is_bare = (
        np.asarray(table.column("sample_id").to_pylist(), dtype=object),
        pc.is_null(table.column("given_label")),
    )
    _, number, counts = np.unique(ids.astype(str), return_inverse=True, return_counts=True)
    bare = np.asarray(is_bare.to_numpy(), dtype=bool)
    num_labelled = np.bincount(number[~bare], minlength=len(counts))
    first = np.zeros(len(ids), dtype=bool)
    first[np.unique(number, return_index=True)[1]] = True
    is_kept = ~bare | ((num_labelled[number] == 0) & first)
    if (~is_kept).any():
        left_out[NOT_SAID] = [str(name) for name in ids[~is_kept].tolist()]
    table, number = table.filter(pa.array(is_kept)), number[is_kept]
    torn = [
        name
        for name in table.column_names
        if name not in ("sample_id", "image_path", "given_label", "group_id")
        and len(set(zip(number.tolist(), map(str, table.column(name).to_pylist()), strict=True)))
        > len(set(number.tolist()))
    ]
    notes = [f"columns {listed(torn)} differ within an image: they are left out"] if torn else []
    return table.drop_columns(torn), notes


def with_unlisted(table: pa.Table, root: Path, *, have_none: bool) -> tuple[pa.Table, list[str]]:
    """Return labels with the images below a folder that no row names, and what is told of them.

    Args:
        table: Columns `sample_id`, `image_path`, `given_label` and others.
        root: Folder that image paths start from.
        have_none: These images have no label; else they are only told.

    Returns:
        The table; such an image is its own sample_id.
    """
    known = set(table.column("image_path").to_pylist())
    unlisted = [name for name in image_files(root)[0] if looks_like_image(name) and is_utf8(name) and name not in known]
    if not unlisted:
        return table, []
    words = f"{len(unlisted):,} images below {root} are named by no row, such as {unlisted[0]!r}"
    if not have_none:
        return table, [f"{words}: they are left out; if they have no defect, give --unlisted-have-none"]
    bare = pa.nulls(len(unlisted), table.schema.field("given_label").type)
    if pa.types.is_list(bare.type):
        bare = pa.array([[] for _ in unlisted], bare.type)
    more = pa.table({"sample_id": unlisted, "image_path": unlisted, "given_label": bare})
    return pa.concat_tables([table, more], promote_options="default"), [f"{words}: they have no label"]


def all_labels_each(images: Iterable[LabelledImage]) -> tuple[pa.Table, dict[str, list[str]]]:
    """Return a row for each image with all of its classes, as `rows.one_label_each` does for one; and the others by name.

    Args:
        images: What a file holds, in its order; of several annotations of one image the one submitted last counts.

    Returns:
        The table, `given_label` holds lists and who annotated is `annotated_by`; and what was left out.
    """
    last: dict[str, LabelledImage] = {}
    earlier: list[str] = []
    for image in images:
        before = last.get(image.path)
        earlier += [image.path] * (before is not None)
        if before is None or _when(before) <= _when(image):
            last[image.path] = image
    bare = [path for path, image in last.items() if not image.labels]
    taken: list[dict[str, Any]] = [
        {"image_path": path, "given_label": list(dict.fromkeys(image.labels)), **image.more}
        for path, image in last.items()
        if image.labels
    ]
    kinds = {"given_label": pa.list_(pa.string())}
    columns = dict.fromkeys(name for row in taken for name in row if name != "coco")
    table = pa.Table.from_pylist(taken, pa.schema([(name, kinds.get(name, pa.string())) for name in columns]))
    table = table.rename_columns(["annotated_by" if name == "annotator_id" else name for name in columns])
    return table, {_EARLIER: earlier, NO_LABEL: bare}


def _when(image: LabelledImage) -> str:
    return image.more.get("annotated_at") or ""


def sets_of_marks(
    values: Mapping[str, list[str | None]], one_hot: Sequence[str], classes: Sequence[list[str]]
) -> pa.Table:
    """Return a table of cells with a column `given_label` of lists in the place of the columns of marks."""
    rest = {name: pa.array(column, pa.string()) for name, column in values.items() if name not in one_hot}
    return pa.table(rest | {"given_label": pa.array(list(classes), pa.list_(pa.string()))})
