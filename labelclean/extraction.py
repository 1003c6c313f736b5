"""From the samples' images to features in the store: hash all, decode and extract only what is not stored yet."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from labelclean.backbone import Backbone
from labelclean.config import Config
from labelclean.feature_store import FeatureStore
from labelclean.image_pool import DecodedImage, DecodeSettings, ImageSource, Reject, decoded_images, hashed_images

FLUSH_ROWS = 4096
FLUSH_S = 60.0

Advance = Callable[[int], None]
Sources = Callable[[], Iterable[ImageSource]]


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
    backbone: Backbone,
    config: Config,
    image_root: Path,
    advance: Advance,
) -> dict[str, Reject]:
    """Extract and store the features of images, a part at a time so that a killed run goes on where it stopped.

    Args:
        sources: One image per content that is not stored.
        store: Where the features go.
        backbone: The frozen network.
        config: Sections `backbone`, `decode` and `run`.
        image_root: Folder that image paths are relative to.
        advance: Told of every image.

    Returns:
        The refusals of images that could not be decoded, by sample id.
    """
    from labelclean.backbone import choose_device, choose_precision
    from labelclean.features import extract_features

    device = choose_device(config.run.device)
    batch_size = config.backbone.batch_size or (256 if device.type == "cuda" else 32)
    settings = DecodeSettings(image_root, config.decode, backbone.input_size, config.backbone.resize)
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

    rows = extract_features(
        backbone.module,
        batches(),
        batch_size=batch_size,
        device=device,
        precision=choose_precision(config.backbone.precision, device),
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
    """Write features every few thousand rows or every minute."""
    hashes: list[str] = []
    features: list[npt.NDArray[np.float32]] = []
    last = time.monotonic()
    for batch in rows:
        hashes += batched.popleft()
        features.append(batch)
        if len(hashes) >= FLUSH_ROWS or time.monotonic() - last > FLUSH_S:
            store.append(hashes, np.concatenate(features))
            hashes, features, last = [], [], time.monotonic()
    if hashes:
        store.append(hashes, np.concatenate(features))
