"""The sections about what goes in: `data`, `ingest`, `rejects` and `expectations`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from labelclean.sections import ConfigPath, Section, Share


class DataConfig(Section):
    """What goes in.

    Attributes:
        labels: Parquet file, folder or hive-partitioned folder.
        image_root: Folder that `image_path` is relative to; default: the folder of the labels.
        spellings: Spelling in the labels -> class name, such as {OK: ok}: joins names that look alike. A name given as
            itself is meant as it is, whatever it looks like.
        several_labels: Several rows of one sample_id are its several labels; a row without a label says that there is none.
            A column of lists needs no word: it holds several labels as it is.
        class_names: The classes in order; default: the names found, sorted.
        box_margin: Where labels are boxes: what is cut out around a box at each side, as a share of its width or height.
            A tenth is about what R-CNN gave its boxes (16 of 227 pixels): the edge of a defect shows against its ground,
            and little of what lies beside it.
        label_of: What a label says something about. With `part` all images of a `part_id` carry the label of the part, and the
            part is judged: its worst view speaks for it. A defect is supported if any view supports it, the OK class
            (`classes.ok`) if all do. `image` takes each image for itself.
    """

    labels: ConfigPath
    image_root: ConfigPath | None = None
    spellings: dict[str, str] = Field(default_factory=dict)
    several_labels: bool = False
    class_names: tuple[str, ...] | None = None
    box_margin: float = Field(default=0.1, ge=0, le=2)
    label_of: Literal["image", "part"] = "image"

    @field_validator("spellings")
    @classmethod
    def _one_step(cls, spellings: dict[str, str]) -> dict[str, str]:
        if any(spellings.get(name, name) != name or not name.strip() for name in spellings.values()):
            raise ValueError("must lead to class names that are not blank and not respelled themselves")
        return spellings

    @field_validator("class_names")
    @classmethod
    def _at_least_one_and_distinct(cls, names: tuple[str, ...] | None, info: ValidationInfo) -> tuple[str, ...] | None:
        if names is None:
            return None
        spellings = info.data.get("spellings", {})
        classes = tuple(name for name in names if spellings.get(name, name) == name)
        if not classes or len(set(classes)) != len(classes):
            raise ValueError("must be at least one name, none twice (those that data.spellings respells do not count)")
        return classes


class RejectsConfig(Section):
    """Images that cannot be used.

    Attributes:
        max_share: Above it the run keeps everything but ends with exit code 3.
    """

    max_share: Share = 0.05


class ExpectationsConfig(Section):
    """The Great Expectations report on the labels table.

    Attributes:
        enabled: Run the suite beside labelclean's own check (adds its import time).
        data_docs: Write its HTML pages into the run folder.
        min_rows: Least rows of the labels table.
        max_class_share: Largest share that one class may have.
    """

    enabled: bool = True
    data_docs: bool = False
    min_rows: int = Field(default=20, ge=1)
    max_class_share: Share = 0.999


class IngestConfig(Section):
    """Which label files a run reads.

    Attributes:
        since: `last_success` reads only files that are new or changed since the last good run,
            leaves those that still grow for the next run, and lets a later file win where two hold
            the same row; default: all files.
        settle_s: Seconds in which the size and time of a new file must not move.
    """

    since: Literal["last_success"] | None = None
    settle_s: float = Field(default=2.0, ge=0, le=3600)
