"""From the samples' images to features in the store: hash all, decode and extract only what is not stored yet."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from labelclean.backbone import Backbone, build_backbone, choose_device, choose_precision
from labelclean.config import BackboneConfig, Config
from labelclean.feature_store import FeatureStore
from labelclean.image_pool import DecodedImage, DecodeSettings, ImageSource, Reject, decoded_images, hashed_images
from labelclean.runs import file_digest
from labelclean.storage import make_folder, read_json, write_json

if TYPE_CHECKING:
    from labelclean.features import Precision

FLUSH_ROWS = 4096
FLUSH_S = 60.0

Advance = Callable[[int], None]


@dataclass(frozen=True)
class BackboneFacts:
    """What must be known of a backbone to find its features in the store.

    Attributes:
        name: timm's name.
        digest: Digest of everything in it that changes a feature.
        num_features: D.
        input_size: Height and width in pixels.
    """

    name: str
    digest: str
    num_features: int
    input_size: tuple[int, int]


def backbone_facts(config: BackboneConfig, precision: Precision, cache: Path) -> BackboneFacts:
    """Return a backbone's facts, from a note in the cache where that is safe.

    Building a backbone only to learn its digest costs seconds of imports on a night when all
    features are stored. The note is keyed by everything that decides the digest: the section of
    the config, the bytes of the weights file, the precision and the versions of torch and timm.

    Args:
        config: Section `backbone`.
        precision: What `choose_precision` returned.
        cache: `storage.cache`.

    Returns:
        The facts.
    """
    if config.weights is None or not config.weights.is_file():
        return _facts(build_backbone(config, precision))  # weights from a hub may change under their name
    found = file_digest(config.weights)
    if config.sha256 not in (None, found):
        return _facts(build_backbone(config, precision))  # which refuses them
    settings = config.model_dump(mode="json", exclude={"weights", "batch_size", "workers"})
    deciding = [settings, found, precision, *(version(name) for name in ("labelclean", "torch", "timm"))]
    key = hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()
    note = cache / "backbones" / f"{key[:32]}.json"
    if note.is_file():
        row = read_json(note)
        return BackboneFacts(row["name"], row["digest"], row["num_features"], tuple(row["input_size"]))
    facts = _facts(build_backbone(config, precision))
    make_folder(note.parent)
    write_json(note, asdict(facts))
    return facts


def _facts(backbone: Backbone) -> BackboneFacts:
    return BackboneFacts(backbone.name, backbone.digest, backbone.num_features, backbone.input_size)


@dataclass(frozen=True)
class Hashed:
    """What the images are.

    Attributes:
        content_hashes: Content hash by sample id.
        rejects: Images that could not be read.
    """

    content_hashes: dict[str, str]
    rejects: tuple[Reject, ...]


def hash_images(sources: Iterable[ImageSource], config: Config, image_root: Path, advance: Advance) -> Hashed:
    """Return every image's content hash, reading each file once.

    Args:
        sources: The samples' images.
        config: Gives the decode policy.
        image_root: Folder that image paths are relative to.
        advance: Told of every image.

    Returns:
        Hashes and rejects.
    """
    hashes: dict[str, str] = {}
    rejects: list[Reject] = []
    ids: deque[str] = deque()

    def remembered() -> Iterator[ImageSource]:
        for source in sources:
            ids.append(source.sample_id)
            yield source

    for image in hashed_images(remembered(), image_root, config.decode):
        sample_id = ids.popleft()
        if isinstance(image.content_hash, Reject):
            rejects.append(image.content_hash)
        else:
            hashes[sample_id] = image.content_hash
        advance(1)
    return Hashed(hashes, tuple(rejects))


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
        config: Sections `backbone`, `decode` and `run`.
        image_root: Folder that image paths are relative to.
        advance: Told of every image.

    Returns:
        The refusals of images that could not be decoded, by sample id.
    """
    device = choose_device(config.run.device)
    precision = choose_precision(config.backbone.precision, device)
    batch_size = config.backbone.batch_size or (256 if device.type == "cuda" else 32)
    settings = DecodeSettings(image_root, config.decode, facts.input_size, config.backbone.resize)
    workers = config.backbone.workers
    if workers is None:
        workers = max(1, (os.cpu_count() or 2) - 1) if device.type == "cuda" else 1
    rejects: dict[str, Reject] = {}
    batched: deque[list[str]] = deque()

    def batches() -> Iterator[npt.NDArray[np.uint16]]:
        images: list[DecodedImage] = []
        for image in decoded_images(sources, settings, workers, in_flight=4 * batch_size):
            advance(1)
            if isinstance(image.image, Reject):
                rejects[image.image.sample_id] = image.image
                continue
            images.append(image)
            if len(images) == batch_size:
                batched.append([str(one.content_hash) for one in images])
                yield _stacked(images)
                images = []
        if images:
            batched.append([str(one.content_hash) for one in images])
            yield _stacked(images)

    decoded = batches()
    first = next(decoded, None)
    if first is None:
        return rejects  # only broken images were left: no need for a backbone
    from labelclean.features import extract_features

    backbone = build_backbone(config.backbone, precision)
    rows = extract_features(
        backbone.module,
        chain([first], decoded),
        batch_size=batch_size,
        device=device,
        precision=precision,
        mean=backbone.mean,
        std=backbone.std,
    )
    _store_in_parts(store, rows, batched)
    return rejects


def _stacked(images: Sequence[DecodedImage]) -> npt.NDArray[np.uint16]:
    """One batch; grey images get as many channels as the widest of the batch."""
    pixels = [np.asarray(image.image) for image in images]
    channels = max(one.shape[0] for one in pixels)
    return np.stack([one if one.shape[0] == channels else np.repeat(one, channels, axis=0) for one in pixels])


def _store_in_parts(store: FeatureStore, rows: Iterable[npt.NDArray[np.float32]], batched: deque[list[str]]) -> None:
    """Write features every few thousand rows or every minute, and what is there when somebody stops the run."""
    hashes: list[str] = []
    features: list[npt.NDArray[np.float32]] = []
    last = time.monotonic()
    try:
        for batch in rows:
            features.append(batch)
            hashes += batched.popleft()
            if len(hashes) >= FLUSH_ROWS or time.monotonic() - last > FLUSH_S:
                store.append(hashes, np.concatenate(features))
                hashes, features, last = [], [], time.monotonic()
    except KeyboardInterrupt:
        if hashes:
            store.append(hashes, np.concatenate(features)[: len(hashes)])
        raise
    if hashes:
        store.append(hashes, np.concatenate(features))
