"""What settings ask for that labels cannot have, known before an image is opened: refused by name, all at once."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pyarrow as pa

from labelclean.cleaning.memory import choice_rows
from labelclean.config import Config, class_faults
from labelclean.errors import ConfigError, TableError, listed
from labelclean.review.part_views import PART
from labelclean.storage.tables import BOX_COLUMNS


def check_class_settings(config: Config, names: Sequence[str], columns: Collection[str], num_rows: int) -> None:
    """Refuse settings that do not go with the classes and columns of labels of one class per image.

    Args:
        config: The configuration.
        names: The K class names.
        columns: Columns of the labels.
        num_rows: Their rows.

    Raises:
        ConfigError: If there are such settings; all are listed.
    """
    faults = class_faults(config, names)
    if len(names) == 1:
        faults += _one_class_faults(config, names[0])
    if config.data.label_of == "part":
        faults += _part_faults(config, names, columns, num_rows)
    if faults:
        raise ConfigError(f"{config.data.labels}: {'; '.join(faults)}. Correct these settings. Nothing was started.")


def check_part_labels(config: Config, parts: pa.ChunkedArray, given: pa.ChunkedArray) -> None:
    """Refuse parts whose images carry different labels, where labels are those of parts.

    Args:
        config: The configuration.
        parts: `part_id` of each sample.
        given: Given label of each.

    Raises:
        TableError: If there are such parts.
    """
    counted = pa.table({"part": parts, "given": given}).filter(parts.is_valid()).group_by("part")
    rows = counted.aggregate([("given", "distinct")]).to_pylist()
    torn = sorted(
        f"{row['part']} ({', '.join(sorted(row['given_distinct']))})" for row in rows if row["given_distinct"][1:]
    )
    if torn:
        raise TableError(
            f"{config.data.labels}: with data.label_of: part all images of a part must carry one label, but {len(torn):,} "
            f"parts carry several: {listed(torn)}. Correct these labels, or take data.label_of: image."
        )


def _one_class_faults(config: Config, name: str) -> list[str]:
    """What labels of one class cannot have."""
    faults, only = [], f"for all labels are {name!r}"
    if config.run.reference is not None:
        faults.append(f"run.reference must not be set, {only}: no teacher is kept")
    if config.teacher.pred_probs is not None:
        faults.append(f"teacher.pred_probs must not be set, {only}: nothing can be more likely")
    if config.costs.is_given:
        faults.append(f"costs must not be given, {only}: no other class is known to cost anything")
    if config.neighbours.method == "none":
        faults.append(f"neighbours.method must not be none, {only}: images are ranked by their neighbours")
    return faults


def _part_faults(config: Config, names: Sequence[str], columns: Collection[str], num_rows: int) -> list[str]:
    """What keeps labels from being those of parts."""
    faults, most = [], choice_rows(config, max(len(names), 2))
    if PART not in columns:
        faults.append(f"data.label_of: part needs a column {PART!r}, but the labels have none")
    if BOX_COLUMNS[0] in columns:
        faults.append("data.label_of must be image where labels are boxes: each box has a label of its own")
    if len(names) == 1:
        faults.append(f"data.label_of must be image, for all labels are {names[0]!r}: each image is ranked by itself")
    if config.run.reference is not None:
        faults.append("data.label_of must be image with run.reference: earlier nights are known by images")
    if num_rows > most:
        faults.append(
            f"data.label_of must be image with more than {most:,} samples (teacher.choice_rows), and there are {num_rows:,}: "
            "parts are judged in memory"
        )
    return faults
