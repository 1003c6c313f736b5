"""Thumbnails of the samples that the report shows, or why there is none."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from labelclean.config import DecodeConfig
from labelclean.errors import TableError
from labelclean.features.boxes import SHOWN_PX, Box, Cut, box_hash
from labelclean.features.decode import place_image, preview_image
from labelclean.features.image_files import ImageReject, ReasonCode, content_hash, read_image_bytes
from labelclean.storage.parquet import image_rows, labels_dataset, read_batches, table_schema
from labelclean.storage.tables import BOX_COLUMNS, REFINED, SET_ASIDE


@dataclass(frozen=True)
class ImagePlace:
    """Where a sample's image lies and what it was when it was judged.

    Attributes:
        given_label: Its label; of several, all of them in one text.
        given_labels: All of them; None where each image has one.
    """

    image_path: str | None
    content_hash: str | None
    given_label: str
    box: Box | None = None
    given_labels: tuple[str, ...] | None = None

    def shows(self, image: bytes) -> bool:
        """Whether a file is the one that was judged."""
        digest = content_hash(image)
        return self.content_hash in (None, digest if self.box is None else box_hash(digest, self.box))


@dataclass(frozen=True)
class Picture:
    """A thumbnail, or why there is none.

    Attributes:
        source: `data:` address of a JPEG, or None.
        missing: Otherwise `gone`, `changed`, `unreadable` or `unknown`.
        place: Of a box, the same of the whole image in which it is framed.
    """

    source: str | None = None
    missing: str = "unknown"
    place: str | None = None


Sizes = Mapping[str, frozenset[int]]
Pictures = dict[tuple[str, int], Picture]


def pictures(wanted: Sizes, places: Mapping[str, ImagePlace], config: Mapping[str, Any]) -> Pictures:
    """Return the thumbnails that can be made; nothing about an image raises.

    Args:
        wanted: Longest sides in pixels by sample id.
        places: Where the images lie.
        config: The run's configuration; sections `data` and `decode` are read.

    Returns:
        A picture for every wanted id and size.
    """
    pictures: Pictures = {(sample, px): Picture() for sample, sizes in wanted.items() for px in sizes}
    data = config.get("data") or {}
    if "labels" not in data:
        return pictures
    labels, policy = Path(data["labels"]), DecodeConfig.model_validate(config.get("decode") or {})
    margin = float(data.get("box_margin") or 0.0)
    root = Path(data.get("image_root") or (labels if labels.is_dir() else labels.parent))
    for sample in sorted(set(wanted) & set(places)):
        image = _file_bytes(root, places[sample], policy)
        pictures |= _previews(sample, wanted[sample], image, places[sample], policy, margin)
    gone = {sample for (sample, _), picture in pictures.items() if picture.missing == "gone" and not picture.source}
    for sample, image in _stored_images(labels, gone):
        pictures |= _previews(sample, wanted[sample], image, places[sample], policy)
    return pictures


def image_places(folder: Path, sample_ids: Sequence[str]) -> dict[str, ImagePlace]:
    """Return where the images of some samples lie.

    Args:
        folder: The run folder.
        sample_ids: The samples.

    Returns:
        The place by sample id, for those that the run judged or people had taken out.
    """
    rows = [row for name in (REFINED, SET_ASIDE) for row in _rows_of(folder / f"{name}.parquet", name, sample_ids)]
    return {row["sample_id"]: _place(row) for row in rows}


def _rows_of(path: Path, name: str, sample_ids: Sequence[str]) -> list[dict[str, Any]]:
    """What a table of the run holds of some samples; nothing where there is no such table."""
    if not sample_ids or not path.is_file():
        return []
    held = table_schema(path, name).names
    columns = ["sample_id", "image_path", "content_hash", "given_label", "given_labels", *BOX_COLUMNS]
    columns = [column for column in columns if column in held]
    wanted = pa.array(sample_ids, pa.string())
    return [
        row
        for table in read_batches(path, name, columns)
        for row in table.filter(pc.is_in(table.column("sample_id"), value_set=wanted)).to_pylist()
    ]


def _place(row: Mapping[str, Any]) -> ImagePlace:
    several = row.get("given_labels")
    given = row["given_label"] if several is None else ", ".join(several)
    labels = None if several is None else tuple(several)
    return ImagePlace(row.get("image_path"), row.get("content_hash"), given, box_of_row(row), labels)


def box_of_row(row: Mapping[str, Any]) -> Box | None:
    """Return the box that a row of a table names; None for a whole image."""
    return Box(*(row[name] for name in BOX_COLUMNS)) if row.get(BOX_COLUMNS[0]) is not None else None


def _file_bytes(root: Path, place: ImagePlace, policy: DecodeConfig) -> bytes | str:
    if not place.image_path:
        return "gone"
    try:
        return read_image_bytes(root, place.image_path, policy)
    except ImageReject as reject:
        return "gone" if reject.reason_code == ReasonCode.MISSING else "unreadable"


def _stored_images(labels: Path, wanted: set[str]) -> Iterator[tuple[str, bytes]]:
    """Images that the labels table itself holds; the file is read no further than the last one wanted."""
    missing = set(wanted)
    try:
        if not missing or "image" not in labels_dataset(labels).schema.names:
            return
        for sample, _, image in image_rows(labels, distinct=False):
            if sample in missing and image:
                yield sample, image
            missing.discard(sample)
            if not missing:
                return
    except (TableError, OSError):
        return  # the labels have moved: every picture left keeps its placeholder


def _previews(
    sample: str, sizes: Iterable[int], image: bytes | str, place: ImagePlace, policy: DecodeConfig, margin: float = 0.0
) -> Pictures:
    if isinstance(image, bytes) and not place.shows(image):
        image = "changed"
    cut = None if place.box is None else Cut(place.box, margin, SHOWN_PX)
    return {(sample, px): _preview(image, px, policy, cut) for px in sizes}


def _preview(image: bytes | str, px: int, policy: DecodeConfig, cut: Cut | None) -> Picture:
    if isinstance(image, str):
        return Picture(missing=image)
    try:
        jpeg = preview_image(image, policy, px, "JPEG", cut)
        place = None if cut is None else _address(place_image(image, policy, px, cut.box))
    except ImageReject:
        return Picture(missing="unreadable")
    return Picture(_address(jpeg), place=place)


def _address(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
