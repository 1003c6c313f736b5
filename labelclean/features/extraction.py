"""From the samples' images to features in the store: hash all, decode and extract only what is not stored yet."""

from __future__ import annotations

import logging
import os
import platform
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from labelclean.config import Config
from labelclean.errors import DeviceError, StorageError
from labelclean.features.backbone import Backbone, build_backbone, choose_device, choose_precision
from labelclean.features.boxes import Box
from labelclean.features.decoder_pool import (
    DecodedImage,
    DecodeSettings,
    ImageSource,
    Reject,
    decoded_images,
    hashed_images,
)
from labelclean.features.engine import BATCH_SIZE, Engine, EngineError, OnnxNetwork
from labelclean.features.facts import BackboneFacts, agreeing_network, features_digest
from labelclean.features.store import FeatureStore
from labelclean.features.tiles import pooled_images, tiles_of
from labelclean.storage.samples import boxes_of

if TYPE_CHECKING:
    import torch

    from labelclean.features.forward import Precision

LOG = logging.getLogger("labelclean")
FLUSH_ROWS = 4096
FLUSH_S = 60.0
SHARD_IMAGES = 1024

Advance = Callable[[int], None]
Described = tuple[str, tuple[float, ...]]
"""An image's content hash, and what it is like."""


@dataclass(frozen=True)
class Hashed:
    """What the images are.

    Attributes:
        content_hashes: Content hash by sample id.
        rejects: Images that could not be read.
    """

    content_hashes: dict[str, str]
    rejects: tuple[Reject, ...]


def path_sources(samples: pa.Table) -> list[ImageSource]:
    """Return where the images of some samples are; boxes of one image come one after the other, so that it is decoded once.

    Args:
        samples: Table `samples`, whose images are files.

    Returns:
        One source per sample; without boxes in the order of the table.
    """
    ids, paths = (samples.column(name).to_pylist() for name in ("sample_id", "image_path"))
    boxes = boxes_of(samples)
    if boxes is None:
        return [ImageSource(*pair) for pair in zip(ids, paths, strict=True)]
    sources = [
        ImageSource(sample, path, None, Box(*box)) for sample, path, box in zip(ids, paths, boxes.tolist(), strict=True)
    ]
    return sorted(sources, key=lambda source: source.image_path or "")


def hash_images(sources: Iterable[ImageSource], config: Config, image_root: Path, advance: Advance) -> Hashed:
    """Return every image's content hash, reading each file once.

    Args:
        sources: The samples' images; of a sample that comes twice the first counts.
        config: Gives the decode policy.
        image_root: Folder that image paths are relative to.
        advance: Told of every image.

    Returns:
        Hashes and rejects.
    """
    answers: dict[str, str | Reject] = {}
    ids: deque[str] = deque()

    def remembered() -> Iterator[ImageSource]:
        for source in sources:
            ids.append(source.sample_id)
            yield source

    for image in hashed_images(remembered(), image_root, config.decode):
        answers.setdefault(ids.popleft(), image.content_hash)
        advance(1)
    hashes = {sample: answer for sample, answer in answers.items() if isinstance(answer, str)}
    return Hashed(hashes, tuple(answer for answer in answers.values() if isinstance(answer, Reject)))


def extract_missing(
    sources: Iterable[ImageSource],
    store: FeatureStore,
    facts: BackboneFacts,
    config: Config,
    image_root: Path,
    advance: Advance,
) -> dict[str, Reject]:
    """Extract and store the features of images, a part at a time so that a killed run goes on where it stopped.

    Args:
        sources: One image per content that is not stored.
        store: Where the features go.
        facts: The backbone's facts.
        config: Sections `backbone`, `data`, `decode` and `run`; `run.cluster` names who does it.
        image_root: Folder that image paths are relative to.
        advance: Told of every image.

    Returns:
        The refusals of images that could not be decoded, by sample id.

    Raises:
        DeviceError: If device or cluster fails.
        StorageError: If the backbone is not the one that the store is for, or the disk refuses.
    """
    if config.run.cluster is None:
        return Extractor(store, facts, config, image_root).extract(sources, advance)
    from labelclean.cluster import open_cluster

    rejects: dict[str, Reject] = {}
    with open_cluster(config.run.cluster) as nodes:
        own = _for_nodes(config, facts.engine)
        extractor = Extractor(replace(store, folder=store.folder.absolute()), facts, own, image_root.absolute(), inf)
        for num_images, refused in nodes.each(extractor, _shards(sources)):
            rejects |= refused
            advance(num_images)
    return rejects


def _shards(sources: Iterable[ImageSource]) -> Iterator[list[ImageSource]]:
    """Lists of some images each, what one machine of a cluster works on at a time."""
    left = iter(sources)
    while shard := list(islice(left, SHARD_IMAGES)):
        yield shard


def _for_nodes(config: Config, engine: Engine) -> Config:
    """The configuration with what this machine decides written out, so that the others decide alike."""
    precision = choose_precision(config.backbone.precision, choose_device(config.run.device))
    decided: dict[str, object] = {"precision": precision}
    if config.backbone.weights is not None:
        decided["weights"] = config.backbone.weights.absolute()
    device = "cpu" if engine == "onnx" else "auto"
    run = config.run.model_copy(update={"device": device, "engine": engine, "cluster": None})
    storage = config.storage.model_copy(update={"cache": config.storage.cache.absolute()})
    backbone = config.backbone.model_copy(update=decided)
    return config.model_copy(update={"backbone": backbone, "run": run, "storage": storage})


@dataclass
class Extractor:
    """Turns images into stored features; keeps its backbone between shards of images.

    Attributes:
        store: Where the features go.
        facts: The backbone's facts.
        config: Sections `backbone`, `data`, `decode` and `run`.
        image_root: Folder that image paths are relative to.
        flush_s: Seconds after which a part is written although more may come.
        backbone: The backbone, once it was needed.
        network: What computes, once it was needed.
    """

    store: FeatureStore
    facts: BackboneFacts
    config: Config
    image_root: Path
    flush_s: float = FLUSH_S
    backbone: Backbone | None = None
    network: torch.nn.Module | OnnxNetwork | None = None

    def __call__(self, sources: Sequence[ImageSource]) -> tuple[int, dict[str, Reject]]:
        """Extract one shard into one part, named after its content: done twice it is the same file.

        Args:
            sources: Its images.

        Returns:
            Their number, and the refusals by sample id.
        """
        return len(sources), self.extract(sources, lambda _: None)

    def extract(self, sources: Iterable[ImageSource], advance: Advance) -> dict[str, Reject]:
        """Extract images of any number; arguments and result as for `extract_missing`."""
        section = self.config.backbone
        device = choose_device(self.config.run.device)
        precision = choose_precision(section.precision, device)
        usual = BATCH_SIZE if self.facts.engine == "onnx" else 256 if device.type == "cuda" else 32
        batch_size = section.batch_size or usual
        size, margin, grid = self.facts.input_size, self.config.data.box_margin, section.grid
        settings = DecodeSettings(self.image_root, self.config.decode, size, section.resize, margin, grid)
        num_tiles = grid[0] * grid[1]
        workers = section.workers
        if workers is None:
            workers = max(1, (os.cpu_count() or 2) - 1) if device.type == "cuda" else 1
        rejects: dict[str, Reject] = {}
        described: deque[Described] = deque()

        def batches() -> Iterator[npt.NDArray[np.uint16]]:
            tiles: list[npt.NDArray[np.uint16]] = []
            ahead = max(-(-4 * batch_size // num_tiles), workers + 1)  # four batches, and no decoder idle
            for image in decoded_images(sources, settings, workers, in_flight=ahead):
                advance(1)
                if isinstance(image.image, Reject):
                    rejects[image.image.sample_id] = image.image
                    continue
                described.append(_described(image))
                for tile in tiles_of(image.image, size, grid):
                    tiles.append(tile)
                    if len(tiles) == batch_size:
                        yield _stacked(tiles)
                        tiles = []
            if tiles:
                yield _stacked(tiles)

        decoded = batches()
        first = next(decoded, None)
        if first is None:
            return rejects  # only broken images were left: no need for a backbone
        from labelclean.features.forward import extract_features

        backbone, network = self._built(precision, first)
        rows = extract_features(
            network,
            chain([first], decoded),
            batch_size=batch_size,
            device=device,
            precision=precision,
            mean=backbone.mean,
            std=backbone.std,
        )
        _store_in_parts(self.store, pooled_images(rows, num_tiles), described, self.flush_s)
        return rejects

    def _built(
        self, precision: Precision, first: npt.NDArray[np.uint16]
    ) -> tuple[Backbone, torch.nn.Module | OnnxNetwork]:
        """The backbone, and what computes it, held against torch on the first batch."""
        if self.backbone is None:
            self.backbone = build_backbone(self.config.backbone, precision)
        backbone, facts = self.backbone, self.facts
        if self.network is not None:
            return backbone, self.network
        if (found := features_digest(backbone.digest, facts.engine, self.config.backbone.grid)) != facts.digest:
            raise StorageError(
                f"backbone {backbone.name!r}: it must be the one that the feature store is for, digest "
                f"{facts.digest[:16]}, but on {platform.node()} it has {found[:16]}. Use the same weights "
                "file and the same versions of torch and timm on all machines."
            )
        self.network = backbone.module
        if facts.engine_reason:
            LOG.warning("backbone %r runs on torch, for ONNX Runtime: %s", facts.name, facts.engine_reason)
        if facts.engine == "onnx":
            try:
                self.network = agreeing_network(backbone, self.config, first)
            except EngineError as fault:
                raise DeviceError(
                    f"backbone {backbone.name!r}: ONNX Runtime must compute on {platform.node()} what torch does, as it did for "
                    f"made images, but {fault}. Set run.engine to 'torch'."
                ) from None
        return backbone, self.network


def measure_looks(
    sources: Iterable[ImageSource],
    store: FeatureStore,
    facts: BackboneFacts,
    config: Config,
    image_root: Path,
    advance: Advance,
) -> None:
    """Measure and store what images are like whose features were stored before that was measured; arguments as for `extract_missing`."""
    section, margin = config.backbone, config.data.box_margin
    settings = DecodeSettings(image_root, config.decode, facts.input_size, section.resize, margin, section.grid)
    workers = max(1, (os.cpu_count() or 2) - 1) if section.workers is None else section.workers
    described: list[Described] = []
    for image in decoded_images(sources, settings, workers):
        advance(1)
        if not isinstance(image.image, Reject):
            described.append(_described(image))
        if len(described) == FLUSH_ROWS:
            store.append_looks(described)
            described = []
    store.append_looks(described)


def _described(image: DecodedImage) -> Described:
    """Content hash and looks."""
    return str(image.content_hash), image.looks


def _stacked(tiles: Sequence[npt.NDArray[np.uint16]]) -> npt.NDArray[np.uint16]:
    """One batch; grey tiles get as many channels as the widest of the batch."""
    channels = max(tile.shape[0] for tile in tiles)
    return np.stack([tile if tile.shape[0] == channels else np.repeat(tile, channels, axis=0) for tile in tiles])


def _store_in_parts(
    store: FeatureStore,
    rows: Iterable[npt.NDArray[np.float32]],
    described: deque[Described],
    flush_s: float,
) -> None:
    """Write features every few thousand rows or every minute, and what is there when somebody stops the run."""
    images: list[Described] = []
    features: list[npt.NDArray[np.float32]] = []
    last = time.monotonic()

    def flush() -> None:
        held = np.concatenate(features)
        known = images[: len(held)]
        store.append_looks(known)
        store.append([key for key, _ in known], held[: len(known)])

    try:
        for batch in rows:
            features.append(batch)
            images += [described.popleft() for _ in batch]
            if len(images) >= FLUSH_ROWS or time.monotonic() - last > flush_s:
                flush()
                images, features, last = [], [], time.monotonic()
    except KeyboardInterrupt:
        if images:
            flush()
        raise
    if images:
        flush()
