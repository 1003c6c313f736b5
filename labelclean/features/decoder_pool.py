"""Hashes and decodes many images, each decoder in a process that may die without harm.

A decoder that crashes, hangs or is killed for its memory costs one image. The
processes are plain Python children that import numpy and Pillow only, talk over
pipes in a format that cannot carry code, and end with their parent.
"""

from __future__ import annotations

import io
import json
import os
import queue
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby, islice
from pathlib import Path
from types import SimpleNamespace
from typing import IO, TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

import numpy as np

from labelclean.arrays import IntArray
from labelclean.errors import StorageError
from labelclean.features.appearance import measured_looks
from labelclean.features.boxes import Box, Cut, box_hash, check_box, cut_window
from labelclean.features.decode import decoded_pixels, image_size, stored_form
from labelclean.features.image_files import (
    ImageReject,
    ReasonCode,
    content_hash,
    hash_image_file,
    open_image_file,
    read_image_bytes,
)
from labelclean.features.pixels import PixelArray, ResizeMode, Uint16Array, quantised, resized_pixels
from labelclean.features.tiles import WHOLE, Grid, canvas_size, largest_canvas

if TYPE_CHECKING:
    from labelclean.config import DecodeConfig

_Done = TypeVar("_Done")
_Work = TypeVar("_Work")
MOST_BOXES = 16  # of one image that one process cuts out, so that few crops wait in memory
_DEADLY = {ReasonCode.DECODER_CRASHED, ReasonCode.DECODE_TIMEOUT}
_FRAME = struct.Struct(">QQ")
_START_S = 120.0
_DECODER = "from labelclean.features.decoder_pool import _serve; _serve()"


class ImageSource(NamedTuple):
    """Where one sample's image is: a path below the image root, or the file's bytes; and which box of it is meant."""

    sample_id: str
    image_path: str | None = None
    image: bytes | None = None
    box: Box | None = None


class Reject(NamedTuple):
    """One refused image: a row of the table `rejects`."""

    sample_id: str
    image_path: str | None
    reason_code: str
    message: str


class HashedImage(NamedTuple):
    """An image's identity: `row` counts the sources from 0, `content_hash` is SHA-256 (of a box: `box_hash`) or a refusal."""

    row: int
    content_hash: str | Reject


class DecodedImage(NamedTuple):
    """A decoded image.

    Attributes:
        row: Counts the sources from 0.
        content_hash: SHA-256 of the bytes decoded, of a box `box_hash`; None where they could not be read.
        image: uint16, 0..65535 for 0..1, shape (C, H, W) at the input size, or at the size that its tiles are cut from
            (`tiles.canvas_size`), C in {1, 3}; or the refusal.
        looks: What the picture is like (`appearance.LOOKS`); empty for a refusal.
    """

    row: int
    content_hash: str | None
    image: Uint16Array | Reject
    looks: tuple[float, ...] = ()


@dataclass(frozen=True)
class DecodeSettings:
    """What all images of a pass have in common.

    Attributes:
        image_root: Folder that `image_path` is relative to.
        policy: The decode policy.
        input_size: Height and width of the network's input.
        resize: How another shape is met.
        box_margin: What is cut out around a box at each side, as a share of its width or height.
        grid: Rows and columns of tiles.
    """

    image_root: Path
    policy: DecodeConfig
    input_size: tuple[int, int]
    resize: ResizeMode = "squash"
    box_margin: float = 0.0
    grid: Grid = WHOLE


def hashed_images(
    sources: Iterable[ImageSource], image_root: Path, policy: DecodeConfig, threads: int = 4
) -> Iterator[HashedImage]:
    """Yield the content hash of each image in order, without decoding it or keeping its bytes.

    Args:
        sources: The samples' images.
        image_root: Folder that `image_path` is relative to.
        policy: Gives the size limit.
        threads: Files read at the same time.

    Yields:
        One per source, in order.

    Raises:
        StorageError: If the image root is no folder.
    """
    _check_root(image_root)
    files: dict[str, str] = {}  # an image is read once for its boxes

    def of_file(path: str, box: Box | None) -> str:
        if box is None:
            return hash_image_file(image_root, path, policy)
        check_box(box)
        if path not in files:
            files[path] = hash_image_file(image_root, path, policy)
        return box_hash(files[path], box)

    def hashed(row: int, source: ImageSource) -> HashedImage:
        try:
            if source.image_path is not None and source.image is None:
                return HashedImage(row, of_file(source.image_path, source.box))
            return HashedImage(row, content_hash(_image_bytes(source, image_root, policy)))
        except ImageReject as refusal:
            return HashedImage(row, _reject(source, refusal))

    with ThreadPoolExecutor(max(1, threads), "hash") as executor:
        yield from _in_order(executor, hashed, enumerate(sources), in_flight=16 * max(1, threads))


def image_sizes(sources: Iterable[ImageSource], image_root: Path, policy: DecodeConfig, box_margin: float) -> IntArray:
    """Return the sizes of images as they stand upright, or of what is cut out around their boxes; only headers are read.

    Args:
        sources: The samples' images.
        image_root: Folder that `image_path` is relative to.
        policy: Gives the size limits.
        box_margin: What is cut out around a box at each side, as a share of its width or height.

    Returns:
        Height and width in pixels, int64, shape (images that are not refused, 2).

    Raises:
        StorageError: If the image root is no folder.
    """
    _check_root(image_root)

    def size_of(_: int, source: ImageSource) -> tuple[int, int] | None:
        try:
            if source.image is not None or source.image_path is None:
                return image_size(io.BytesIO(_image_bytes(source, image_root, policy)), policy)
            with open_image_file(image_root, source.image_path, policy) as file:
                size = image_size(file, policy)
            if source.box is None:
                return size
            rows, columns = cut_window(Cut(source.box, box_margin), *size)
            return rows.stop - rows.start, columns.stop - columns.start
        except ImageReject:
            return None

    with ThreadPoolExecutor(4, "size") as executor:
        sizes = [size for size in _in_order(executor, size_of, enumerate(sources), in_flight=64) if size is not None]
    return np.array(sizes, dtype=np.int64).reshape(-1, 2)


def decoded_images(
    sources: Iterable[ImageSource], settings: DecodeSettings, workers: int, in_flight: int = 128
) -> Iterator[DecodedImage]:
    """Yield each image decoded and resized, in order, whatever happens to its decoder.

    Args:
        sources: The samples' images; read as far ahead as ``in_flight`` says.
        settings: What they have in common.
        workers: Decoding processes. 0 decodes in this process: all limits hold but the one of
            time, and a decoder's crash is this process's; for a handful of images.
        in_flight: Most images held decoded or being decoded at a time; take two batches or more.

    Yields:
        One per source, in order.

    Raises:
        StorageError: If the image root is no folder or a decoding process cannot start.
    """
    _check_root(settings.image_root)
    if workers == 0:
        last = _LastImage()
        for row, source in enumerate(sources):
            yield _decoded(row, source, settings, last)
        return
    pool = _Pool(settings)
    executor = ThreadPoolExecutor(workers, "decode")
    watchdog = threading.Thread(target=pool.kill_overdue, name="decode-watchdog", daemon=True)
    watchdog.start()
    try:
        for images in _in_order(executor, pool.decoded, _shared(sources), in_flight):
            yield from images
    finally:
        pool.kill()
        executor.shutdown(cancel_futures=True)
        watchdog.join()
        pool.release()


def _check_root(image_root: Path) -> None:
    if not image_root.is_dir():
        raise StorageError(
            f"data.image_root must be a folder that can be opened, but {str(image_root)!r} is not; "
            "mount it or correct the path."
        )


def _shared(sources: Iterable[ImageSource]) -> Iterator[tuple[int, list[ImageSource]]]:
    """Each source with its row; up to 16 boxes in a row that share their image together, for one process decodes it once."""
    rows = 0
    for path, same in groupby(sources, key=lambda source: source.image_path if source.box else None):
        while some := list(islice(same, 1 if path is None else MOST_BOXES)):
            yield rows, some
            rows += len(some)


def _in_order(
    executor: ThreadPoolExecutor,
    call: Callable[[int, _Work], _Done],
    sources: Iterable[tuple[int, _Work]],
    in_flight: int,
) -> Iterator[_Done]:
    """Results in the order of the sources, with a bounded number begun ahead."""
    pending: deque[Future[_Done]] = deque()
    try:
        for row, source in sources:
            pending.append(executor.submit(call, row, source))
            if len(pending) >= max(1, in_flight):
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()


def _image_bytes(source: ImageSource, image_root: Path, policy: DecodeConfig) -> bytes:
    """The file's bytes, from the row itself or from disk."""
    if source.image is None and source.image_path is None:
        raise ImageReject(
            ReasonCode.NO_IMAGE,
            "the row must hold image_path or image, but holds neither; add one in the labels table.",
        )
    if source.image is None:
        return read_image_bytes(image_root, cast(str, source.image_path), policy)
    if not source.image:
        raise ImageReject(ReasonCode.EMPTY, "the image must hold data, but has 0 bytes; write it again.")
    if len(source.image) > policy.max_bytes:
        raise ImageReject(
            ReasonCode.TOO_MANY_BYTES,
            f"the image may have {policy.max_bytes:,} bytes (decode.max_bytes), but has {len(source.image):,}; "
            "raise the limit if such images are meant.",
        )
    return source.image


@dataclass
class _LastImage:
    """The image that boxes were cut out of last: those that follow find it decoded."""

    path: str | None = None
    found: tuple[str, PixelArray, tuple[float, float], int] | None = None

    def of(self, source: ImageSource, settings: DecodeSettings) -> tuple[str, PixelArray, tuple[float, float], int]:
        """Hash, pixel values, limits and stored bits; a box is cut out of the image in full, never of one that was decoded smaller."""
        if self.found is None or source.image_path is None or source.image_path != self.path:
            self.path = self.found = None
            data = _image_bytes(source, settings.image_root, settings.policy)
            self.found = (content_hash(data), *decoded_pixels(data, settings.policy), stored_form(data)[2])
            self.path = source.image_path
        return self.found


def _decoded(row: int, source: ImageSource, settings: DecodeSettings, last: _LastImage) -> DecodedImage:
    """Read, hash, decode and resize one image or box, in whatever process this runs."""
    digest = None
    try:
        if source.box is not None:
            file_digest, values, limits, bits = last.of(source, settings)
            digest = box_hash(file_digest, source.box)
            values = values[cut_window(Cut(source.box, settings.box_margin), *values.shape[:2])]
            height, width = values.shape[:2]
        else:
            data = _image_bytes(source, settings.image_root, settings.policy)
            digest = content_hash(data)
            values, limits = decoded_pixels(data, settings.policy, largest_canvas(settings.input_size, settings.grid))
            width, height, bits = stored_form(data)
        looks = tuple(measured_looks(values, (width, height), bits).tolist())
        size = canvas_size((values.shape[0], values.shape[1]), settings.input_size, settings.grid)
        pixels = quantised(resized_pixels(values, limits, size, settings.resize))
        return DecodedImage(row, digest, pixels, looks)
    except ImageReject as refusal:
        return DecodedImage(row, digest, _reject(source, refusal))


def _reject(source: ImageSource, refusal: ImageReject) -> Reject:
    name = f"image {source.image_path!r}" if source.image_path is not None else f"image of sample {source.sample_id!r}"
    name = name if source.box is None else f"box {source.sample_id!r} of {name}"
    return Reject(source.sample_id, source.image_path, str(refusal.reason_code), f"{name}: {refusal.message}")


# ---- the parent's side ---------------------------------------------------------------------------


@dataclass(eq=False)
class _Decoder:
    """One decoding process; `deadline` is when its present image is overdue."""

    process: subprocess.Popen[bytes]
    errors: IO[bytes]
    deadline: float = float("inf")
    is_overdue: bool = False


@dataclass
class _Pool:
    """The decoding processes of one pass; each is used by one thread at a time."""

    settings: DecodeSettings
    idle: queue.LifoQueue[_Decoder] = field(default_factory=queue.LifoQueue)  # the last one has the image decoded
    running: set[_Decoder] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)
    closing: threading.Event = field(default_factory=threading.Event)

    def decoded(self, row: int, sources: Sequence[ImageSource]) -> list[DecodedImage]:
        """Decode one after the other, mostly in one process; an image that kills or hangs it is not tried for every box."""
        images: list[DecodedImage] = []
        for place, source in enumerate(sources):
            before = images[-1].image if images else None
            if isinstance(before, Reject) and before.reason_code in _DEADLY:
                again = before._replace(sample_id=source.sample_id)
                images.append(DecodedImage(row + place, None, again))
            else:
                images.append(self._decoded(row + place, source))
        return images

    def _decoded(self, row: int, source: ImageSource) -> DecodedImage:
        """Decode in a process; after a crash once more in a fresh one, for the fault may have been another's."""
        for _ in range(2):
            decoder = self._idle_or_new()
            try:
                return _answer(decoder, row, source, self.settings)
            except (OSError, EOFError):
                decoder.process.wait()
                if self.closing.is_set():
                    break
                if decoder.is_overdue:
                    return DecodedImage(row, None, _reject(source, _timeout(self.settings.policy.timeout_s)))
            finally:
                self._put_back(decoder)
        return DecodedImage(row, None, _reject(source, _crash(decoder.process.returncode)))

    def kill_overdue(self) -> None:
        """Kill processes whose image takes too long, until the pass ends."""
        while not self.closing.wait(0.05):
            now = time.monotonic()
            with self.lock:
                for decoder in self.running:
                    if decoder.deadline < now:
                        decoder.is_overdue = True
                        decoder.process.kill()

    def kill(self) -> None:
        """End all processes; their threads see closed pipes."""
        with self.lock:
            self.closing.set()
            for decoder in self.running:
                decoder.process.kill()

    def release(self) -> None:
        """Collect what is left of the processes, once no thread uses them any more."""
        for decoder in self.running:
            _wait_and_close(decoder)
        self.running.clear()

    def _idle_or_new(self) -> _Decoder:
        with suppress(queue.Empty):
            return self.idle.get_nowait()
        with self.lock:
            if self.closing.is_set():
                raise StorageError("The pass over the images has ended.")
            decoder = _started()
            self.running.add(decoder)
        _introduce(decoder, self.settings)
        return decoder

    def _put_back(self, decoder: _Decoder) -> None:
        decoder.deadline = float("inf")
        if decoder.process.poll() is None and not decoder.is_overdue:
            self.idle.put(decoder)
            return
        with self.lock:
            self.running.discard(decoder)
        _wait_and_close(decoder)


def _started() -> _Decoder:
    """A new decoding process."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(str(Path(place).absolute()) for place in sys.path),
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }
    errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
    command = [sys.executable, "-P", "-c", _DECODER]
    pipe = subprocess.PIPE
    try:
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=errors, env=environment)  # noqa: S603
    except OSError as fault:
        errors.close()
        raise StorageError(
            f"A decoding process must start with {sys.executable!r}, but: {fault.strerror}; "
            "free memory, or lower backbone.workers."
        ) from None
    return _Decoder(process, errors)


def _introduce(decoder: _Decoder, settings: DecodeSettings) -> None:
    """Send the settings and wait until the process is ready."""
    decoder.deadline = time.monotonic() + _START_S
    try:
        _send(_pipe(decoder.process.stdin), _settings_record(settings), b"")
        _receive(_pipe(decoder.process.stdout))
    except (OSError, EOFError):
        decoder.process.kill()
        decoder.process.wait()
        decoder.errors.seek(0)
        last_lines = decoder.errors.read()[-2000:].decode(errors="replace").strip().splitlines()
        raise StorageError(
            f"A decoding process must start with {sys.executable!r}, but ended with code "
            f"{decoder.process.returncode}: {last_lines[-1] if last_lines else 'it said nothing'!r}; "
            "check the Python installation, or set backbone.workers to 0."
        ) from None


def _answer(decoder: _Decoder, row: int, source: ImageSource, settings: DecodeSettings) -> DecodedImage:
    """Send one image and wait for its pixels or refusal."""
    decoder.deadline = time.monotonic() + settings.policy.timeout_s
    record: dict[str, Any] = {"sample_id": source.sample_id, "image_path": source.image_path}
    record |= {"has_bytes": source.image is not None} | ({} if source.box is None else {"box": source.box})
    _send(_pipe(decoder.process.stdin), record, source.image or b"")
    answer, blob = _receive(_pipe(decoder.process.stdout))
    if "reason_code" in answer:
        code, message = ReasonCode(answer["reason_code"]), str(answer["message"])
        return DecodedImage(row, answer["hash"], Reject(source.sample_id, source.image_path, str(code), message))
    height, width = answer["size"]
    pixels = np.frombuffer(blob, dtype=np.uint16).reshape(-1, height, width)
    return DecodedImage(row, str(answer["hash"]), pixels, tuple(answer["looks"]))


def _timeout(limit_s: float) -> ImageReject:
    return ImageReject(
        ReasonCode.DECODE_TIMEOUT,
        f"reading and decoding may take {limit_s:g} s (decode.timeout_s), but took longer and was stopped; "
        "raise the limit if the disk is slow, else copy the file again.",
    )


def _crash(code: int) -> ImageReject:
    how = f"exit code {code}"
    if code < 0:
        how = f"signal {signal.Signals(-code).name}" if -code in set(signal.Signals) else f"signal {-code}"
    hint = "; memory may have run out" if how == "signal SIGKILL" else ""
    return ImageReject(
        ReasonCode.DECODER_CRASHED,
        f"the file must decode, but its decoding process died twice ({how}{hint}); copy the file again or convert it.",
    )


def _wait_and_close(decoder: _Decoder) -> None:
    decoder.process.kill()
    decoder.process.wait()
    for pipe in (decoder.process.stdin, decoder.process.stdout, decoder.errors):
        with suppress(OSError):  # bytes left in a pipe that nobody reads any more
            cast(IO[bytes], pipe).close()


# ---- the wire: lengths, a JSON header, raw bytes; never pickle, for a decoder may be compromised -----------


def _send(pipe: IO[bytes], header: dict[str, Any], blob: bytes | memoryview) -> None:
    text = json.dumps(header).encode()
    pipe.write(_FRAME.pack(len(text), len(blob)))
    pipe.write(text)
    pipe.write(blob)
    pipe.flush()


def _receive(pipe: IO[bytes]) -> tuple[dict[str, Any], bytearray]:
    text_size, blob_size = _FRAME.unpack(_exactly(pipe, _FRAME.size))
    header: dict[str, Any] = json.loads(_exactly(pipe, text_size))
    return header, _exactly(pipe, blob_size)


def _exactly(pipe: IO[bytes], size: int) -> bytearray:
    """That many bytes, writable, or EOFError."""
    block = bytearray(size)
    if cast(Any, pipe).readinto(block) != size:
        raise EOFError
    return block


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise ValueError("a decoding process is always started with pipes")
    return pipe


def _settings_record(settings: DecodeSettings) -> dict[str, Any]:
    return {
        "image_root": str(settings.image_root.absolute()),
        "policy": settings.policy.model_dump(mode="json"),
        "input_size": list(settings.input_size),
        "resize": settings.resize,
        "box_margin": settings.box_margin,
        "grid": list(settings.grid),
    }


# ---- the child's side ----------------------------------------------------------------------------


def _serve() -> None:
    """Decode what the parent sends, until it closes the pipe."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a C library prints must not mix with the answers
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    warnings.simplefilter("ignore")
    with suppress(OSError):  # Linux: if memory runs out, this process goes first
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    record, _ = _receive(requests)
    policy = cast("DecodeConfig", SimpleNamespace(**record["policy"]))  # the same names without pydantic
    size, margin, grid = tuple(record["input_size"]), record["box_margin"], tuple(record["grid"])
    settings = DecodeSettings(Path(record["image_root"]), policy, size, record["resize"], margin, grid)
    last = _LastImage()
    _send(answers, {}, b"")
    with suppress(EOFError, BrokenPipeError):
        while True:
            header, blob = _receive(requests)
            _orphan_alarm(int(policy.timeout_s) + 60)
            box = Box(*header["box"]) if "box" in header else None
            data = bytes(blob) if header["has_bytes"] else None
            source = ImageSource(header["sample_id"], header["image_path"], data, box)
            _, digest, image, looks = _decoded(0, source, settings, last)
            if isinstance(image, Reject):
                _send(answers, {"hash": digest, "reason_code": image.reason_code, "message": image.message}, b"")
            else:
                _send(answers, {"hash": digest, "looks": looks, "size": image.shape[1:]}, image.data.cast("B"))
            _orphan_alarm(0)


def _orphan_alarm(seconds: int) -> None:
    """End this process should it hang after its parent is gone (not on Windows)."""
    if sys.platform != "win32":
        signal.alarm(seconds)
