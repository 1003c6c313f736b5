"""Boxes cut out of images: which pixels, clipped where, told apart by what, and decoded how often."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from labelclean.config import DecodeConfig
from labelclean.features import decoder_pool
from labelclean.features.boxes import Box, Cut, box_hash, check_box, cut_window
from labelclean.features.decode import (
    decode_digest,
    decode_image,
    decoded_pixels,
    image_size,
    place_image,
    preview_image,
)
from labelclean.features.decoder_pool import DecodeSettings, ImageSource, Reject, decoded_images, hashed_images
from labelclean.features.extraction import measure_looks
from labelclean.features.facts import BackboneFacts
from labelclean.features.image_files import ImageReject, content_hash
from labelclean.features.store import FeatureStore
from labelclean.storage.parquet import read_config
from tests.hostile import png

ROOT = Path(__file__).parents[2]
GREY: NDArray[np.uint8] = (np.arange(40 * 60).reshape(40, 60) % 251).astype(np.uint8)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "a.png").write_bytes(png(GREY, 0))
    (tmp_path / "b.png").write_bytes(png(GREY[::-1], 0))
    return tmp_path


@pytest.mark.parametrize(
    ("box", "margin", "rows", "columns"),
    [
        (Box(10, 20, 10, 8), 0.0, (20, 28), (10, 20)),
        (Box(10, 20, 10, 10), 0.1, (19, 31), (9, 21)),
        (Box(10.4, 20.6, 10, 5), 0.0, (20, 26), (10, 21)),  # whole pixels that it touches
        (Box(0, 0, 10, 10), 0.5, (0, 15), (0, 15)),  # clipped at the left and above
        (Box(50, 30, 12, 11), 0.5, (24, 40), (44, 60)),  # at the right and below; it reaches over the edge itself
        (Box(59.9, 39.9, 0.05, 0.05), 0.0, (39, 40), (59, 60)),  # never less than a pixel
    ],
)
def test_a_box_covers_these_pixels(box: Box, margin: float, rows: tuple[int, int], columns: tuple[int, int]) -> None:
    assert cut_window(Cut(box, margin), 40, 60) == (slice(*rows), slice(*columns))


def test_people_see_at_least_some_pixels_around() -> None:
    assert cut_window(Cut(Box(30, 20, 2, 30), 0.1, 20), 80, 60) == (slice(17, 53), slice(21, 41))


@pytest.mark.parametrize(
    ("box", "code"),
    [
        (Box(1, 1, 0, 5), "box_empty"),
        (Box(1, 1, 5, -3), "box_empty"),
        (Box(70, 1, 5, 5), "box_outside"),
        (Box(-9, 1, 5, 5), "box_outside"),
        (Box(1, 38, 5, 5), "box_outside"),  # its middle at 40.5 of 40
        (Box(1e300, 1, 1e300, 5), "box_outside"),
    ],
)
def test_a_box_without_area_or_outside_is_refused(box: Box, code: str) -> None:
    with pytest.raises(ImageReject) as refusal:
        cut_window(Cut(box, 0.1), 40, 60)
    assert refusal.value.reason_code == code
    if code == "box_empty":
        with pytest.raises(ImageReject, match="must have an area"):
            check_box(box)


def test_a_box_is_another_thing_than_its_image_and_every_other_box() -> None:
    image = content_hash(b"x")
    hashes = {box_hash(image, box) for box in (Box(1, 2, 3, 4), Box(1, 2, 3, 4.5), Box(2, 1, 3, 4))}
    assert len(hashes | {image, box_hash(content_hash(b"y"), Box(1, 2, 3, 4))}) == 5
    assert box_hash(image, Box(1, 2, 3, 4)) == box_hash(image, Box(1.0, 2.0, 3.0, 4.0))


def test_what_a_box_is_like_is_measured_with_its_margin_from_an_old_cache_too(root: Path) -> None:
    """20 x 10 pixels with a fifth of that around are rows 13 to 27 and columns 6 to 34; those as an image of their own."""
    (root / "cut.png").write_bytes(png(GREY[13:27, 6:34], 0))
    config = read_config(ROOT / "config.yaml", ["data.box_margin=0.2", "backbone.workers=0"])
    facts, store = BackboneFacts("any", "b", 3, (8, 8)), FeatureStore(root / "store", 3)
    sources = [ImageSource("box", "a.png", None, Box(10, 15, 20, 10)), ImageSource("cut", "cut.png")]
    measure_looks(sources, store, facts, config, root, lambda _: None)
    hashes = [one.content_hash for one in hashed_images(sources, root, config.decode)]
    box, cut = store.looks.read([str(one) for one in hashes])
    assert box.tolist() == cut.tolist()


def test_the_margin_enters_the_digest_of_boxes_and_of_nothing_else() -> None:
    digests = [decode_digest(DecodeConfig(), (8, 8), "squash", margin) for margin in (None, 0.0, 0.1)]
    assert len(set(digests)) == 3
    assert digests[0] == decode_digest(DecodeConfig(), (8, 8), "squash")


@pytest.mark.parametrize("workers", [0, 2])
def test_the_network_sees_the_piece_and_each_image_is_decoded_once(
    root: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def counted(*args: Any) -> Any:
        calls.append(1)
        return decoded_pixels(*args)

    monkeypatch.setattr(decoder_pool, "decoded_pixels", counted)
    boxes = [Box(4 + k, 8, 16, 12) for k in range(20)]
    sources = [ImageSource(f"a{k}", "a.png", None, box) for k, box in enumerate(boxes)]
    sources += [ImageSource("out", "a.png", None, Box(99, 0, 2, 2)), ImageSource("whole", "a.png")]
    sources += [ImageSource(f"b{k}", "b.png", None, box) for k, box in enumerate(boxes)]
    settings = DecodeSettings(root, DecodeConfig(), (12, 16), "squash", 0.0)
    images = list(decoded_images(sources, settings, workers))
    assert [image.row for image in images] == list(range(42))
    for k, box in enumerate(boxes):
        x = int(box.x_px)
        piece = GREY[8:20, x : x + 16]
        np.testing.assert_array_equal(np.asarray(images[k].image)[0], piece.astype(np.uint16) * 257)
        assert images[k].content_hash == box_hash(content_hash(png(GREY, 0)), box)
    outside = images[20].image
    assert isinstance(outside, Reject)
    assert (outside.reason_code, outside.sample_id) == ("box_outside", "out")
    assert outside.message.startswith(
        "box 'out' of image 'a.png': the middle of a box must lie in its image of 60 x 40"
    )
    assert len(calls) == (3 if workers == 0 else 0)  # a.png for boxes, a.png whole, b.png; else in the children


def test_a_margin_shows_what_lies_around(root: Path) -> None:
    source = ImageSource("a", "a.png", None, Box(20, 10, 20, 10))
    (image,) = decoded_images([source], DecodeSettings(root, DecodeConfig(), (12, 24), "squash", 0.1), 0)
    np.testing.assert_array_equal(np.asarray(image.image)[0], GREY[9:21, 18:42].astype(np.uint16) * 257)


def test_hashes_name_the_box_and_refuse_one_without_area(root: Path) -> None:
    sources = [ImageSource("a", "a.png", None, Box(1, 1, 2, 2)), ImageSource("w", "a.png")]
    sources += [ImageSource("e", "a.png", None, Box(1, 1, 0, 2)), ImageSource("m", "none.png", None, Box(1, 1, 2, 2))]
    found = [one.content_hash for one in hashed_images(sources, root, DecodeConfig())]
    image = content_hash((root / "a.png").read_bytes())
    assert found[:2] == [box_hash(image, Box(1, 1, 2, 2)), image]
    assert [one.reason_code for one in found[2:] if isinstance(one, Reject)] == ["box_empty", "missing"]


def test_people_see_the_piece_and_where_it_lies() -> None:
    data, policy = png(GREY, 0), DecodeConfig()
    piece = decode_image(preview_image(data, policy, 500, cut=Cut(Box(20, 10, 20, 10), 0.0)), policy)
    np.testing.assert_array_equal(np.rint(piece[..., 0] * 255), GREY[10:20, 20:40])
    flat = png(np.full((40, 60), 128, dtype=np.uint8), 0)
    place = decode_image(place_image(flat, policy, 60, Box(20, 10, 20, 10)), policy)
    assert place.shape == (40, 60, 3)
    marked = np.argwhere(np.abs(place - 128 / 255).max(axis=2) > 0.25)
    assert marked.min(axis=0).tolist() == pytest.approx([6, 16], abs=1)  # the frame lies around the box
    assert marked.max(axis=0).tolist() == pytest.approx([24, 44], abs=1)
    inside = place[12:19, 24:37]
    assert float(np.abs(inside - 128 / 255).max()) < 0.15  # JPEG


def test_the_size_is_that_of_the_upright_image(root: Path) -> None:
    import io

    from PIL import Image

    assert image_size(io.BytesIO(png(GREY, 0)), DecodeConfig()) == (40, 60)
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    Image.fromarray(GREY).save(file, "JPEG", exif=exif)
    assert (
        image_size(io.BytesIO(file.getvalue()), DecodeConfig())
        == (60, 40)
        == decode_image(file.getvalue(), DecodeConfig()).shape[:2]
    )
    with pytest.raises(ImageReject):
        image_size(io.BytesIO(b"\x89PNG\r\n\x1a\n"), DecodeConfig())
