"""All images decoded once, by the same policy as the features, in one file that every epoch reads."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from labelclean.arrays import IntArray
from labelclean.config import Config
from labelclean.errors import StorageError
from labelclean.features.decode import decode_digest
from labelclean.features.decoder_pool import DecodeSettings, ImageSource, Reject, decoded_images
from labelclean.storage.parquet import read_json, sync, write_json

FLUSH_S = 60.0
THUMBNAIL_PX = 16
BLOCK_IMAGES = 1024

StoredPixels = npt.NDArray[np.unsignedinteger]


class RootImages(NamedTuple):
    """Images below one root, with the content hash of each."""

    root: Path
    sources: Callable[[set[str]], Iterable[ImageSource]]
    content_hashes: dict[str, str]


@dataclass
class Note:
    """How far the cache is.

    Attributes:
        num_read: Images taken from the list so far, in its order.
        rejects: Positions in the list of images that could not be decoded.
        channels: 1 as long as all images are grey, else 3.
        is_whole: All images are in.
    """

    num_read: int
    rejects: list[int]
    channels: int
    is_whole: bool


@dataclass(frozen=True)
class ImageCache:
    """The decoded images.

    Attributes:
        folder: Where they lie.
        array: The file, uint8 or uint16, shape (at least N, C, H, W).
        kept: Position in the list of contents of each of the N images, int64, shape (N,).
    """

    folder: Path
    array: StoredPixels
    kept: IntArray

    def pixels(self, rows: IntArray) -> StoredPixels:
        """Return the stored pixels of some images, shape (B, C, H, W)."""
        return np.asarray(self.array[rows])


def cache_folder(
    contents: Sequence[str],
    size: tuple[int, int],
    bits: Literal[8, 16],
    config: Config,
    box_margin: float | None = None,
) -> Path:
    """Return where the pixels of some contents lie: a name made of all that decides them.

    Args:
        contents: Content hashes in order.
        size: Height and width.
        bits: Depth.
        config: Sections `decode`, `backbone` and `storage`.
        box_margin: `data.box_margin` where the contents are boxes.

    Returns:
        The folder; it need not exist.
    """
    decode = decode_digest(config.decode, size, config.backbone.resize, box_margin)
    digest = hashlib.sha256(f"{decode} {bits}".encode())
    for content in contents:
        digest.update(content.encode())
    return config.storage.cache / "adapt" / digest.hexdigest()[:32]


def fill_cache(
    folder: Path,
    parts: Sequence[RootImages],
    contents: Sequence[str],
    size: tuple[int, int],
    config: Config,
    advance: Callable[[int], None],
) -> list[Reject]:
    """Decode what is not in the cache yet; a killed call goes on where it was a minute before.

    Args:
        folder: As `cache_folder` names it.
        parts: Where the images are.
        contents: Content hash of each image to decode, in the parts' order, each once.
        size: Height and width.
        config: Sections `adapt`, `backbone` and `decode`.
        advance: Told of every image.

    Returns:
        Images that could not be decoded in this call.

    Raises:
        StorageError: If the disk refuses.
    """
    note = _read_note(folder)
    advance(note.num_read)
    if note.is_whole:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    dtype = np.uint8 if config.adapt.cache_bits == 8 else np.uint16
    try:
        return _fill(
            folder, note, _decoded(parts, contents, note.num_read, size, config), len(contents), dtype, advance
        )
    except OSError as fault:
        raise StorageError(
            f"{folder}: the decoded images must be stored, but: {fault.strerror or fault}. Free space, lower "
            "adapt.cache_scale or set adapt.cache_bits to 8; what is stored is kept."
        ) from None


def open_cache(folder: Path) -> ImageCache:
    """Return a whole cache.

    Args:
        folder: As `cache_folder` names it.

    Returns:
        The images, read when they are asked for.

    Raises:
        StorageError: If it is not there or not whole.
    """
    note = _read_note(folder)
    if not note.is_whole:
        raise StorageError(
            f"{folder}: the decoded images of this adaptation must be there, but are not; was storage.cache emptied? "
            "Start a new adaptation without --resume."
        )
    readable = np.setdiff1d(np.arange(note.num_read), np.array(note.rejects, dtype=np.int64))
    array = np.load(_array_path(folder, note.channels), mmap_mode="r")
    return ImageCache(folder, array, readable.astype(np.int64))


def thumbnails(cache: ImageCache) -> npt.NDArray[np.float32]:
    """Return small grey pictures of all images as rows, to find near-duplicates by.

    Args:
        cache: The images.

    Returns:
        float32, in [0, 1], shape (N, 256).
    """
    height, width = cache.array.shape[2:]
    rows = np.linspace(0, height, THUMBNAIL_PX + 1).astype(int)[:-1]
    columns = np.linspace(0, width, THUMBNAIL_PX + 1).astype(int)[:-1]
    thumbnails = np.empty((len(cache.kept), THUMBNAIL_PX * THUMBNAIL_PX), dtype=np.float32)
    for start in range(0, len(thumbnails), BLOCK_IMAGES):
        block = cache.array[start : min(start + BLOCK_IMAGES, len(thumbnails))].mean(axis=1, dtype=np.float32)
        small = np.add.reduceat(np.add.reduceat(block, rows, axis=1), columns, axis=2)
        thumbnails[start : start + BLOCK_IMAGES] = small.reshape(len(block), -1)
    return thumbnails / np.float32(np.iinfo(cache.array.dtype).max * height * width / THUMBNAIL_PX**2)


def _read_note(folder: Path) -> Note:
    path = folder / "note.json"
    return Note(**read_json(path)) if path.is_file() else Note(0, [], 1, False)


def _array_path(folder: Path, channels: int) -> Path:
    return folder / f"pixels_{channels}.npy"


def _decoded(
    parts: Sequence[RootImages], contents: Sequence[str], start: int, size: tuple[int, int], config: Config
) -> Iterator[npt.NDArray[np.uint16] | Reject]:
    """Pixels or refusal of each content, in order, from the first that is not stored."""
    workers = config.backbone.workers
    workers = max(1, (os.cpu_count() or 2) - 1) if workers is None else workers
    left = contents[start:]
    for part in parts:
        by_content: dict[str, str] = {}
        for sample, content in part.content_hashes.items():
            by_content.setdefault(content, sample)
        wanted = [by_content[content] for content in left if content in by_content]
        left = [content for content in left if content not in by_content]
        settings = DecodeSettings(part.root, config.decode, size, config.backbone.resize, config.data.box_margin)
        for image in decoded_images(part.sources(set(wanted)), settings, workers):
            yield image.image


def _fill(
    folder: Path,
    note: Note,
    images: Iterator[npt.NDArray[np.uint16] | Reject],
    count: int,
    dtype: type[np.unsignedinteger[Any]],
    advance: Callable[[int], None],
) -> list[Reject]:
    """Write image after image, and a note of how far it is every minute."""
    rejects: list[Reject] = []
    array: StoredPixels | None = None
    last = time.monotonic()
    for image in images:
        if isinstance(image, Reject):
            rejects.append(image)
            note.rejects.append(note.num_read)
        else:
            if array is None or len(image) > note.channels:
                array = _opened(folder, note, array, (count, *image.shape), dtype)
            row = note.num_read - len(note.rejects)
            array[row] = image if dtype is np.uint16 else np.rint(image / 257.0).astype(np.uint8)
        note.num_read += 1
        advance(1)
        if time.monotonic() - last > FLUSH_S:
            _store(folder, array, note)
            last = time.monotonic()
    note.is_whole = True
    _store(folder, array, note)
    return rejects


def _opened(
    folder: Path, note: Note, array: StoredPixels | None, shape: tuple[int, ...], dtype: type[np.unsignedinteger[Any]]
) -> StoredPixels:
    """The file to write to; the first colour image turns all grey ones into three equal channels."""
    channels = max(shape[1], note.channels)
    path = _array_path(folder, channels)
    if note.num_read and channels == note.channels:
        return np.load(path, mmap_mode="r+")  # type: ignore[no-any-return]
    if array is None and note.num_read > len(note.rejects):
        array = np.load(_array_path(folder, note.channels), mmap_mode="r")
    wide: StoredPixels = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=(shape[0], channels, *shape[2:]))
    if array is not None:
        for start in range(0, note.num_read - len(note.rejects), BLOCK_IMAGES):
            stop = min(start + BLOCK_IMAGES, note.num_read - len(note.rejects))
            wide[start:stop] = array[start:stop]
    old, note.channels = note.channels, channels
    _store(folder, wide, note)
    if old != channels:
        _array_path(folder, old).unlink(missing_ok=True)
    return wide


def _store(folder: Path, array: StoredPixels | None, note: Note) -> None:
    """Push pixels to the disk, then the note that counts them."""
    if isinstance(array, np.memmap):
        array.flush()
        sync(_array_path(folder, note.channels))
    write_json(folder / "note.json", asdict(note))
