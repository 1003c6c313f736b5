"""Which images are learned from: the labelled ones and a folder of others, each content once, with groups and labels."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from labelclean.adapt.image_cache import (
    ImageCache,
    RootImages,
    cache_folder,
    fill_cache,
    open_cache,
    thumbnails,
)
from labelclean.arrays import BoolArray, IntArray
from labelclean.config import Config
from labelclean.errors import ConfigError, StorageError, listed
from labelclean.features.decoder_pool import ImageSource, Reject
from labelclean.features.extraction import hash_images, path_sources
from labelclean.probes.neighbours import (
    duplicate_pairs,
    duplicate_threshold,
    joined_groups,
    near_duplicate_sets,
    nearest_neighbours,
)
from labelclean.probes.sums import centred_unit_rows, feature_mean, hashed_parts
from labelclean.progress import progress
from labelclean.runs.ingest import image_root, samples_of
from labelclean.runs.plan import box_margin
from labelclean.storage.parquet import atomic_path, image_rows
from labelclean.storage.samples import given_labels_of

ENDINGS = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
NEAREST = 26
HELD_OUT_PARTS = 1000

Sources = Callable[[set[str]], Iterable[ImageSource]]


class ImageSet(NamedTuple):
    """The images, each content once.

    Attributes:
        groups: Group of each image, near-duplicate sets joined, int64, shape (N,).
        given: Given class, int64, shape (N,), -1 where there is none.
        is_held_out: Whose label measures progress, bool, shape (N,).
        class_names: The K class names.
        cache: Folder of the decoded images.
    """

    groups: IntArray
    given: IntArray
    is_held_out: BoolArray
    class_names: tuple[str, ...]
    cache: Path


def gather_images(config: Config, size: tuple[int, int]) -> tuple[ImageSet, list[Reject]]:
    """Read, hash and decode all images.

    Args:
        config: The configuration.
        size: Height and width of the cached images.

    Returns:
        The images, and those that cannot be used.

    Raises:
        LabelcleanError: If labels, folder, images or disk refuse.
    """
    samples, names, has_bytes = samples_of(config, "labelclean adapt")
    parts, rejects = _parts(config, samples, has_bytes)
    contents = list(dict.fromkeys(content for part in parts for content in part.content_hashes.values()))
    margin = box_margin(config, samples.column_names)
    folder = cache_folder(contents, size, config.adapt.cache_bits, config, margin)
    with progress("decoding images", len(contents), "images") as advance:
        rejects += fill_cache(folder, parts, contents, size, config, advance)
    cache = open_cache(folder)
    usable = [contents[place] for place in cache.kept]
    given, groups = _facts(samples, names, parts[0].content_hashes)
    keys = [groups.get(content, content) for content in usable]
    numbers = np.unique(keys, return_inverse=True)[1]
    joined = joined_groups(numbers, _duplicates(cache, config))
    held_parts = hashed_parts([keys[row] for row in joined], HELD_OUT_PARTS, seed=config.run.seed, purpose="held out")
    labels = np.array([given.get(content, -1) for content in usable], dtype=np.int64)
    is_held_out = held_parts < round(config.adapt.held_out_share * HELD_OUT_PARTS)
    return ImageSet(joined, labels, is_held_out & (labels >= 0), names, folder), rejects


def write_image_set(path: Path, images: ImageSet) -> None:
    """Store what `gather_images` found, for the other processes and for a resumed training.

    Args:
        path: An .npz file.
        images: The images.
    """
    arrays: dict[str, Any] = {name: getattr(images, name) for name in ("groups", "given", "is_held_out")}
    arrays |= {"class_names": json.dumps(images.class_names), "cache": str(images.cache)}
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


def read_image_set(path: Path) -> ImageSet:
    """Return what `write_image_set` stored.

    Args:
        path: The .npz file.

    Returns:
        The images.

    Raises:
        StorageError: If it is missing or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            names = tuple(json.loads(str(stored["class_names"])))
            return ImageSet(stored["groups"], stored["given"], stored["is_held_out"], names, Path(str(stored["cache"])))
    except (OSError, ValueError, KeyError) as fault:
        raise StorageError(f"{path}: the list of images must be whole, but: {fault}. Start a new adaptation.") from None


def labelled_sources(config: Config, samples: pa.Table, has_bytes: bool) -> Sources:
    """Return a function that gives the images of some samples, in the order of the labels.

    Args:
        config: Names the labels.
        samples: Table `samples`.
        has_bytes: The table holds the images themselves.

    Returns:
        The function; an empty set means all.
    """

    def sources(wanted: set[str]) -> Iterator[ImageSource]:
        images: Iterable[ImageSource] = (
            (ImageSource(*row) for row in image_rows(config.data.labels)) if has_bytes else path_sources(samples)
        )
        return (image for image in images if not wanted or image.sample_id in wanted)

    return sources


def _parts(config: Config, samples: pa.Table, has_bytes: bool) -> tuple[list[RootImages], list[Reject]]:
    """The labelled images and the folder of others, hashed."""
    labelled, root = labelled_sources(config, samples, has_bytes), image_root(config)
    with progress("reading images", samples.num_rows, "images") as advance:
        hashed = hash_images(labelled(set()), config, root, advance)
    parts, rejects = [RootImages(root, labelled, hashed.content_hashes)], list(hashed.rejects)
    folder = config.adapt.images
    if folder is not None:
        paths = _image_paths(folder)

        def others(wanted: set[str]) -> Iterator[ImageSource]:
            return (ImageSource(path, path) for path in paths if not wanted or path in wanted)

        with progress("reading further images", len(paths), "images") as advance:
            more = hash_images(others(set()), config, folder, advance)
        known = set(hashed.content_hashes.values())
        new = {path: content for path, content in more.content_hashes.items() if content not in known}
        parts.append(RootImages(folder, others, new))
        rejects += more.rejects
    return parts, rejects


def _image_paths(folder: Path) -> list[str]:
    """Image files below a folder, as paths relative to it."""
    if not folder.is_dir():
        raise ConfigError(f"adapt.images must be a folder of images, but {str(folder)!r} is none; correct the path.")
    paths = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.suffix.lower() in ENDINGS)
    if not paths:
        raise ConfigError(f"adapt.images: {str(folder)!r} must hold images ({listed(ENDINGS, 9)}), but holds none.")
    return paths


def _facts(
    samples: pa.Table, names: tuple[str, ...], content_hashes: dict[str, str]
) -> tuple[dict[str, int], dict[str, str]]:
    """Given class and group of each labelled content; the first sample of a content speaks for it."""
    given: dict[str, int] = {}
    groups: dict[str, str] = {}
    known = samples.column("group_id").to_pylist() if "group_id" in samples.column_names else [None] * samples.num_rows
    rows = zip(samples.column("sample_id").to_pylist(), given_labels_of(samples, names).given, known, strict=True)
    for sample, label, group in rows:
        content = content_hashes.get(sample)
        if content is not None and content not in given:
            given[content] = int(label)
            if group is not None:
                groups[content] = f"group {group}"
    return given, groups


def _duplicates(cache: ImageCache, config: Config) -> IntArray:
    """Near-duplicate sets by thumbnails, for before training no feature knows the images."""
    settings = config.neighbours
    if settings.method == "none":
        return np.full(len(cache.kept), -1)
    small = thumbnails(cache)
    rows = centred_unit_rows(small, feature_mean(small))
    neighbours = nearest_neighbours(rows, NEAREST, method=settings.method, exact_limit=settings.exact_limit)
    threshold = settings.duplicate_similarity or duplicate_threshold(neighbours.similarity)
    return near_duplicate_sets(*duplicate_pairs(neighbours, threshold), len(cache.kept), threshold)
