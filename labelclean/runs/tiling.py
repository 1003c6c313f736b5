"""`backbone.tiles: auto`: into how many tiles images are cut, settled by the first thousand of them before anything starts."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from labelclean.config import Config
from labelclean.features.boxes import Box
from labelclean.features.decoder_pool import ImageSource, image_sizes
from labelclean.features.tiles import WHOLE, Grid, auto_grid
from labelclean.runs.ingest import image_root
from labelclean.storage.parquet import image_rows, labels_dataset, read_json
from labelclean.storage.run_folders import MANIFEST
from labelclean.storage.tables import BOX_COLUMNS

LOG = logging.getLogger("labelclean")
NUM_SIZED = 1000


@dataclass(frozen=True)
class Tiling:
    """What `backbone.tiles: auto` takes for some images.

    Attributes:
        num_images: Images whose size is known.
        size: Median height and width, pixels.
        input_size: Height and width of the network's input.
        grid: Rows and columns.
    """

    num_images: int
    size: tuple[int, int]
    input_size: tuple[int, int]
    grid: Grid

    @property
    def words(self) -> str:
        """The grid as `backbone.tiles` takes it."""
        return "1" if self.grid == WHOLE else f"{self.grid[0]}x{self.grid[1]}"

    @property
    def sentence(self) -> str:
        """Why, for people."""
        (height, width), (rows, columns) = self.size, self.input_size
        return (
            f"the first {self.num_images:,} images have {width:,} x {height:,} pixels (width x height, median), the network "
            f"sees {columns:,} x {rows:,}"
        )

    @property
    def advice(self) -> str:
        """What is lost of images that are far larger than the network's input, and what tiles would cost; empty for others."""
        if self.grid == WHOLE:
            return ""
        shrink = max(side / tile for side, tile in zip(self.size, self.input_size, strict=True))
        num_tiles = self.grid[0] * self.grid[1]
        return (
            f"{self.sentence}: what has fewer than {shrink:.0f} pixels is less than one to it. backbone.tiles auto would take "
            f"{self.words}: {num_tiles} tiles per image, about {num_tiles} times the network's time"
        )


def tell_large(config: Config, files: Sequence[Path] | None = None) -> None:
    """Say what is lost of images that are shown to the network whole though they are far larger than its input.

    Args:
        config: The configuration; nothing is said where it cuts images into tiles.
        files: Only these of the labels' files; None: all.
    """
    if config.backbone.grid == WHOLE and (advice := measured_tiling(config, files).advice):
        LOG.warning("%s", advice)


def settled(config: Config, files: Sequence[Path] | None = None) -> Config:
    """Return the configuration with the number of tiles written out, where `backbone.tiles` leaves it to the images.

    A run with a reference takes the tiles of that: its features must be comparable, whatever the night's first images are.

    Args:
        config: The configuration.
        files: Only these of the labels' files; None: all.

    Returns:
        The configuration itself where nothing is left to settle.

    Raises:
        LabelcleanError: If the labels or the backbone cannot be used.
    """
    if config.backbone.tiles != "auto":
        return config
    reference = config.run.reference
    if reference is not None and (reference / MANIFEST).is_file():
        tiles = read_json(reference / MANIFEST).get("config", {}).get("backbone", {}).get("tiles", 1)
        LOG.info("backbone.tiles auto takes %s, as %s did", tiles, reference.name)
    else:
        tiling = measured_tiling(config, files)
        tiles = tiling.words
        LOG.info("%s: backbone.tiles auto takes %s", tiling.sentence, tiles)
    return with_tiles(config, tiles)


def with_tiles(config: Config, tiles: str | int) -> Config:
    """Return the configuration with another number of tiles."""
    section = config.backbone.model_validate(config.backbone.model_dump() | {"tiles": tiles})
    return config.model_copy(update={"backbone": section})


def measured_tiling(config: Config, files: Sequence[Path] | None = None) -> Tiling:
    """Return what `backbone.tiles: auto` takes, by the headers of the first thousand images; one tile where none can be read.

    Args:
        config: The configuration.
        files: Only these of the labels' files; None: all.

    Returns:
        The tiling.

    Raises:
        LabelcleanError: If the labels or the backbone cannot be used.
    """
    from labelclean.features.facts import backbone_facts

    run = config.run.model_copy(update={"engine": "torch"})  # nothing is computed here, so nothing needs to be exported
    whole = with_tiles(config.model_copy(update={"run": run}), 1)
    input_size = config.backbone.input_size or backbone_facts(whole).input_size
    sources = first_sources(config, files)
    sizes = image_sizes(sources, image_root(config), config.decode, config.data.box_margin)
    if not len(sizes):
        return Tiling(0, input_size, input_size, WHOLE)
    height, width = np.median(sizes, axis=0).astype(int).tolist()
    return Tiling(len(sizes), (height, width), input_size, auto_grid((height, width), input_size))


def first_sources(config: Config, files: Sequence[Path] | None = None) -> list[ImageSource]:
    """Return the images of the first thousand samples; rows that a run will refuse are passed over.

    Args:
        config: `data.labels` is read.
        files: Only these of its files; None: all.

    Returns:
        At most 1,000, in the order of the files, each sample once.
    """
    dataset = labels_dataset(config.data.labels, files)
    names = dataset.schema.names
    if "image" in names:
        return [ImageSource(*row) for row in islice(image_rows(config.data.labels, files), NUM_SIZED)]
    columns = [name for name in ("sample_id", "image_path", *BOX_COLUMNS) if name in names]
    sources: dict[object, ImageSource] = {}
    for batch in dataset.to_batches(columns=columns, batch_size=NUM_SIZED):
        for row in batch.to_pylist():
            sides = [row[name] for name in BOX_COLUMNS if name in row]
            if all(isinstance(value, int | float) for value in sides) and isinstance(row.get("image_path"), str):
                sample = row.get("sample_id")
                sources.setdefault(
                    sample, ImageSource(str(sample), row["image_path"], None, Box(*sides) if sides else None)
                )
        if len(sources) >= NUM_SIZED:
            break
    return list(sources.values())[:NUM_SIZED]
