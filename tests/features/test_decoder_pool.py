"""Decoding processes may crash, hang or die: one image is refused and all others arrive in order."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from labelclean.config import DecodeConfig
from labelclean.errors import StorageError
from labelclean.features import decoder_pool as image_pool
from labelclean.features.decoder_pool import (
    DecodedImage,
    DecodeSettings,
    ImageSource,
    Reject,
    decoded_images,
    hashed_images,
)
from tests.hostile import chunk, png, png_header

# What a decoder with a fault does, by the sample's name; everything else is the real one.
FAULTY = """
import os, signal, time
from pathlib import Path
import labelclean.features.decoder_pool as pool
real = pool._decoded
def decoded(row, source, settings, last):
    if source.sample_id == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if source.sample_id == "memory":
        os.kill(os.getpid(), signal.SIGKILL)
    if source.sample_id == "hang":
        time.sleep(600)
    if source.sample_id == "print":
        os.write(1, b"libtiff: warning")
    if source.sample_id.startswith("slow"):
        time.sleep(0.05)
    if source.sample_id == "once":
        flag = settings.image_root / "crashed"
        if not flag.exists():
            flag.touch()
            os._exit(1)
    return real(row, source, settings, last)
pool._decoded = decoded
pool._serve()
"""


def grey(value: int) -> bytes:
    return png(np.full((4, 4), value, dtype=np.uint8), 0)


@pytest.fixture
def settings(tmp_path: Path) -> DecodeSettings:
    """An image root whose pictures 0.png to 39.png are grey of that value."""
    for value in range(40):
        (tmp_path / f"{value}.png").write_bytes(grey(value))
    return DecodeSettings(tmp_path, DecodeConfig(timeout_s=30.0), (4, 4))


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_pool, "_DECODER", FAULTY)


def pictures(count: int) -> list[ImageSource]:
    return [ImageSource(f"s{value}", f"{value}.png") for value in range(count)]


def shown(images: list[DecodedImage]) -> list[Any]:
    """The grey value of each image, or the reason of its refusal."""
    return [
        one.image.reason_code if isinstance(one.image, Reject) else int(one.image[0, 0, 0]) // 257 for one in images
    ]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1, 2])
def test_images_come_in_order_with_their_hash_whatever_the_number_of_workers(
    settings: DecodeSettings, workers: int
) -> None:
    images = list(decoded_images(pictures(40), settings, workers, in_flight=8))
    assert [one.row for one in images] == list(range(40))
    assert shown(images) == list(range(40))
    assert [one.content_hash for one in images] == [hashlib.sha256(grey(value)).hexdigest() for value in range(40)]


@pytest.mark.slow
def test_the_pixels_are_16_bit_channels_first_and_may_be_written_to(settings: DecodeSettings) -> None:
    for workers in (0, 1):
        (one,) = decoded_images([ImageSource("a", None, grey(255))], settings, workers)
        assert isinstance(one.image, np.ndarray)
        assert one.image.dtype == np.uint16
        assert one.image.shape == (1, 4, 4)
        assert one.image.flags.writeable
        assert (one.image == 65535).all()


@pytest.mark.slow
@pytest.mark.usefixtures("faulty")
@pytest.mark.parametrize(("sample", "found"), [("segfault", "SIGSEGV"), ("memory", "memory may have run out")])
def test_a_crash_costs_one_image(settings: DecodeSettings, sample: str, found: str) -> None:
    sources = [*pictures(3), ImageSource(sample, "3.png"), *pictures(3)]
    images = list(decoded_images(sources, settings, workers=1))
    assert shown(images) == [0, 1, 2, "decoder_crashed", 0, 1, 2]
    reject = images[3].image
    assert isinstance(reject, Reject)
    assert reject[:2] == (sample, "3.png")
    assert found in reject.message
    assert reject.message.startswith("image '3.png': the file must decode, but its decoding process died twice")


SHORT_OF_MEMORY = """
import resource
import labelclean.features.decoder_pool as pool
resource.setrlimit(resource.RLIMIT_AS, (700_000_000, 700_000_000))
pool._serve()
"""


@pytest.mark.slow
def test_a_decoder_that_runs_out_of_memory_costs_one_image(
    settings: DecodeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_pool, "_DECODER", SHORT_OF_MEMORY)
    wide = png_header(9_900, 9_900, 8, 2) + chunk(b"IDAT", zlib.compress(bytes(9_900 * (3 * 9_900 + 1)), 1))
    sources = [*pictures(2), ImageSource("wide", None, wide + chunk(b"IEND", b"")), *pictures(2)]
    images = list(decoded_images(sources, settings, workers=1))
    assert shown(images) == [0, 1, "out_of_memory", 0, 1]


@pytest.mark.slow
@pytest.mark.usefixtures("faulty")
def test_an_image_whose_decoder_died_of_another_s_fault_gets_a_second_try(settings: DecodeSettings) -> None:
    images = decoded_images([ImageSource("once", "7.png"), ImageSource("s", "8.png")], settings, workers=1)
    assert shown(list(images)) == [7, 8]


@pytest.mark.slow
@pytest.mark.usefixtures("faulty")
def test_a_decoder_that_hangs_is_stopped_and_the_others_go_on(settings: DecodeSettings) -> None:
    quick = DecodeSettings(settings.image_root, DecodeConfig(timeout_s=1.0), (4, 4))
    images = list(decoded_images([ImageSource("hang", "1.png"), *pictures(5)], quick, workers=2))
    assert shown(images) == ["decode_timeout", 0, 1, 2, 3, 4]
    reject = images[0].image
    assert isinstance(reject, Reject)
    assert "may take 1 s (decode.timeout_s)" in reject.message


@pytest.mark.slow
@pytest.mark.usefixtures("faulty")
def test_what_a_library_prints_does_not_mix_with_the_pixels(settings: DecodeSettings) -> None:
    images = decoded_images([ImageSource("print", "5.png"), ImageSource("s", "6.png")], settings, workers=1)
    assert shown(list(images)) == [5, 6]


@pytest.mark.slow
@pytest.mark.usefixtures("faulty")
def test_a_slow_image_does_not_change_the_order(settings: DecodeSettings) -> None:
    sources = [ImageSource(f"slow{value}" if value % 5 == 0 else "s", f"{value}.png") for value in range(20)]
    assert shown(list(decoded_images(sources, settings, workers=2))) == list(range(20))


@pytest.mark.slow
def test_no_more_images_are_read_ahead_than_asked(settings: DecodeSettings) -> None:
    begun = 0

    def counted() -> Iterator[ImageSource]:
        nonlocal begun
        for source in pictures(40):
            begun += 1
            yield source

    images = decoded_images(counted(), settings, workers=2, in_flight=6)
    for taken in range(1, 20):
        next(images)
        assert begun <= taken + 6
    images.close()  # type: ignore[attr-defined]


@pytest.mark.slow
@pytest.mark.usefixtures("faulty")
def test_no_process_outlives_the_pass(settings: DecodeSettings) -> None:
    before = {child.pid for child in psutil.Process().children()}
    images = decoded_images([*pictures(5), ImageSource("hang", "1.png")], settings, workers=2)
    next(images)
    assert {child.pid for child in psutil.Process().children()} - before
    images.close()  # type: ignore[attr-defined]
    assert {child.pid for child in psutil.Process().children()} == before


@pytest.mark.slow
def test_a_fault_of_the_consumer_ends_the_processes_too(settings: DecodeSettings) -> None:
    def consume() -> None:
        for _ in decoded_images(pictures(5), settings, workers=1):
            raise KeyError("consumer")

    before = {child.pid for child in psutil.Process().children()}
    with pytest.raises(KeyError):
        consume()
    assert {child.pid for child in psutil.Process().children()} == before


@pytest.mark.slow
def test_a_decoder_that_cannot_start_stops_the_pass_with_its_last_words(
    settings: DecodeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_pool, "_DECODER", "raise SystemExit('no numpy here')")
    with pytest.raises(StorageError, match="'no numpy here'; check the Python installation"):
        list(decoded_images(pictures(3), settings, workers=2))
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(StorageError, match="'/nowhere/python', but: No such file"):
        list(decoded_images(pictures(3), settings, workers=1))


@pytest.mark.slow
def test_a_decoder_imports_neither_torch_nor_pydantic() -> None:
    code = "import sys, labelclean.features.decoder_pool; print(*{'torch', 'timm', 'pydantic', 'pandas', 'pyarrow'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout == "\n"


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_each_refused_image_keeps_its_place_and_says_why(settings: DecodeSettings, workers: int) -> None:
    root = settings.image_root
    (root / "page.png").write_bytes(b"<html>")
    (root / "傷.png").write_bytes(grey(9))
    sources = [
        ImageSource("a", "0.png"),
        ImageSource("b", "page.png"),
        ImageSource("c", "../0.png"),
        ImageSource("d", "none.png"),
        ImageSource("e"),
        ImageSource("f", None, b""),
        ImageSource("g", "named.png", grey(7)),
        ImageSource("h", "傷.png"),
        ImageSource("i", "\udcff.png"),
    ]
    images = list(decoded_images(sources, settings, workers))
    reasons = ["not_an_image", "parent_path", "missing", "no_image", "empty"]
    assert shown(images) == [0, *reasons, 7, 9, "missing"]
    page, nowhere = images[1], images[4].image
    assert page.content_hash == hashlib.sha256(b"<html>").hexdigest()
    assert isinstance(nowhere, Reject)
    assert nowhere.message.startswith("image of sample 'e': the row must hold image_path or image")


def test_bytes_in_the_table_obey_the_size_limit(tmp_path: Path) -> None:
    small = DecodeSettings(tmp_path, DecodeConfig(max_bytes=10), (4, 4))
    (one,) = decoded_images([ImageSource("a", None, grey(1))], small, workers=0)
    assert isinstance(one.image, Reject)
    assert "10 bytes (decode.max_bytes)" in one.image.message


def test_hashes_come_in_order_without_decoding(settings: DecodeSettings) -> None:
    (settings.image_root / "page.png").write_bytes(b"<html>")
    sources = [
        *pictures(30),
        ImageSource("p", "page.png"),
        ImageSource("b", None, b"abc"),
        ImageSource("m", "none.png"),
    ]
    hashed = list(hashed_images(sources, settings.image_root, settings.policy))
    expected = [hashlib.sha256(data).hexdigest() for data in [*map(grey, range(30)), b"<html>", b"abc"]]
    assert [one.content_hash for one in hashed[:-1]] == expected
    assert [one.row for one in hashed] == list(range(33))
    missing = hashed[-1].content_hash
    assert isinstance(missing, Reject)
    assert missing == ("m", "none.png", "missing", missing.message)


def test_an_image_root_that_is_not_there_is_one_error_not_many(tmp_path: Path) -> None:
    nowhere = DecodeSettings(tmp_path / "unmounted", DecodeConfig(), (4, 4))
    for images in (
        hashed_images(pictures(1), nowhere.image_root, nowhere.policy),
        decoded_images(pictures(1), nowhere, workers=0),
    ):
        with pytest.raises(StorageError, match=r"data\.image_root must be a folder"):
            list(images)
