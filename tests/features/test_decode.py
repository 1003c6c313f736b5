"""Every depth and colour model against bytes laid out by hand; hostile files are refused with their reason."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from labelclean.config import DecodeConfig
from labelclean.features.decode import decode_digest, decode_image, decoded_pixels, preview_image
from labelclean.features.image_files import ImageReject, ReasonCode
from labelclean.features.pixels import resized_pixels
from tests.hostile import (
    NO_IMAGES,
    WHOLE,
    bomb,
    chunk,
    packed_png,
    pages,
    photo,
    png,
    png_header,
    saved,
    tiff,
)

FULL = DecodeConfig(window="full_range")
GREY16 = np.array([[0, 255, 256], [4095, 40000, 65535]], dtype=np.uint16)
COLOUR16 = np.random.default_rng(0).integers(0, 65536, (5, 7, 3)).astype(np.uint16)


def refusal(data: bytes, policy: DecodeConfig = FULL) -> ImageReject:
    with pytest.raises(ImageReject) as caught:
        decode_image(data, policy)
    assert caught.value.message.endswith(".")
    return caught.value


def stored(data: bytes, policy: DecodeConfig = FULL) -> Any:
    return decoded_pixels(data, policy)[0]


# ---- depths --------------------------------------------------------------------------------------


def test_8_bit_grey_is_value_over_255() -> None:
    image = decode_image(png(np.array([[0, 51], [102, 255]], dtype=np.uint8), 0), DecodeConfig())
    assert image.dtype == np.float32
    np.testing.assert_allclose(image, [[[0.0], [0.2]], [[0.4], [1.0]]], atol=1e-7)


@pytest.mark.parametrize(
    "data",
    [
        png(GREY16, 0),
        tiff(GREY16),
        tiff(GREY16, order=">"),
        tiff(65535 - GREY16, photometric=0),
    ],
    ids=["png", "tiff little-endian", "tiff big-endian", "tiff white is zero"],
)
def test_16_bit_grey_is_never_clipped(data: bytes) -> None:
    np.testing.assert_array_equal(stored(data)[..., 0], GREY16)
    np.testing.assert_allclose(decode_image(data, FULL)[..., 0], GREY16 / 65535, atol=1e-7)


def test_compressed_16_bit_tiff_is_never_clipped() -> None:
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits"):
        data = saved(Image.fromarray(GREY16), "TIFF", compression=compression)
        np.testing.assert_array_equal(stored(data)[..., 0], GREY16)


@pytest.mark.parametrize(("bits", "top"), [(10, 1023), (12, 4095), (14, 16383)])
def test_a_camera_s_depth_in_a_16_bit_file_fills_0_to_1(bits: Any, top: int) -> None:
    data = png(np.array([[0, top]], dtype=np.uint16), 0)
    image = decode_image(data, DecodeConfig(window="full_range", bit_depth=bits))
    np.testing.assert_array_equal(image.ravel(), [0.0, 1.0])
    over = refusal(data, DecodeConfig(window="full_range", bit_depth=8))
    assert over.reason_code == ReasonCode.OUT_OF_RANGE
    assert f"they lie in 0..{top}" in over.message


def test_a_12_bit_packed_tiff_fills_0_to_1() -> None:
    packed = bytes([0x00, 0x0F, 0xFF, 0x80, 0x0F, 0xFF])  # 0, 4095, then 2048, 4095
    data = tiff(np.zeros((2, 2), dtype=np.uint16), bits=12, packed=packed)
    np.testing.assert_allclose(decode_image(data, FULL).ravel(), [0, 1, 2048 / 4095, 1], atol=1e-7)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_shallow_grey_fills_0_to_1(depth: int) -> None:
    image = decode_image(packed_png([b"\xff", b"\x00"], 8 // depth, depth), DecodeConfig())
    np.testing.assert_array_equal(image[0], 1.0)
    np.testing.assert_array_equal(image[1], 0.0)


@pytest.mark.parametrize(
    "data",
    [png(COLOUR16, 2), tiff(COLOUR16), tiff(COLOUR16, order=">")],
    ids=["png", "tiff little-endian", "tiff big-endian"],
)
def test_16_bit_colour_keeps_both_bytes(data: bytes) -> None:
    np.testing.assert_array_equal(stored(data), COLOUR16)


@pytest.mark.parametrize("compression", [1, 5, 8])
def test_16_bit_colour_written_by_another_library_keeps_both_bytes(compression: int) -> None:
    cv2 = pytest.importorskip("cv2")
    rng = np.random.default_rng(1)
    values = np.cumsum(rng.integers(0, 50, (33, 47, 3)), axis=1).astype(np.uint16)
    done, tiff_file = cv2.imencode(".tiff", values[..., ::-1], [cv2.IMWRITE_TIFF_COMPRESSION, compression])
    done_too, png_file = cv2.imencode(".png", values[..., ::-1])  # all PNG row filters
    assert done
    assert done_too
    np.testing.assert_array_equal(stored(tiff_file.tobytes()), values)
    np.testing.assert_array_equal(stored(png_file.tobytes()), values)


def test_interlaced_16_bit_colour_keeps_both_bytes() -> None:
    value = np.array([[[258, 3, 65279]]], dtype=">u2")
    header = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 1))
    data = header + chunk(b"IDAT", zlib.compress(b"\0" + value.tobytes())) + chunk(b"IEND", b"")
    np.testing.assert_array_equal(stored(data), value)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0, 32767]], dtype=np.int16), [0.0, 1.0]),
        (np.array([[0, 2**31 - 1]], dtype=np.int32), [0.0, 1.0]),
        (np.array([[0, 2**32 - 1]], dtype=np.uint32), [0.0, 1.0]),
        (np.array([[0.25, 1.0]], dtype=np.float32), [0.25, 1.0]),
    ],
    ids=["int16", "int32", "uint32", "float32"],
)
def test_signed_long_and_float_tiff_fill_their_range(values: Any, expected: list[float]) -> None:
    np.testing.assert_allclose(decode_image(tiff(values), FULL).ravel(), expected, atol=1e-7)


def test_negative_values_need_a_window() -> None:
    data = tiff(np.array([[-100, 0, 100]], dtype=np.int16))
    assert refusal(data).reason_code == ReasonCode.OUT_OF_RANGE
    image = decode_image(data, DecodeConfig(window="fixed", low=-100, high=100))
    np.testing.assert_array_equal(image.ravel(), [0.0, 0.5, 1.0])


def test_auto_scales_8_bit_files_by_range_and_deeper_ones_by_percentile() -> None:
    shallow = decode_image(png(np.array([[100, 110]], dtype=np.uint8), 0), DecodeConfig())
    deep = decode_image(png(np.array([[100, 110]], dtype=np.uint16), 0), DecodeConfig())
    np.testing.assert_allclose(shallow.ravel(), [100 / 255, 110 / 255], atol=1e-7)
    np.testing.assert_array_equal(deep.ravel(), [0.0, 1.0])


def test_not_a_number_is_refused() -> None:
    for bad in (np.nan, np.inf):
        found = refusal(tiff(np.array([[0.5, bad]], dtype=np.float32)))
        assert found.reason_code == ReasonCode.NOT_FINITE
        assert "1 of 2 are NaN or infinite" in found.message


@pytest.mark.parametrize(
    "data",
    [
        tiff(np.zeros((2, 2), dtype=np.float64)),
        tiff(np.zeros((2, 2), dtype=np.float16)),
        tiff(np.zeros((2, 2, 4), dtype=np.uint16), photometric=5),
        tiff(np.zeros((2, 2), dtype=np.uint16), bits=10, packed=bytes(6)),
        tiff(np.zeros((2, 2), dtype=np.int8)),
        png(GREY16, 0, extra=chunk(b"tRNS", b"\0\0")),
        saved(Image.new("LAB", (2, 2)), "TIFF"),
    ],
    ids=["float64", "float16", "16-bit cmyk", "10 bits", "int8", "16-bit colour key", "lab"],
)
def test_what_cannot_be_read_without_loss_is_refused(data: bytes) -> None:
    found = refusal(data)
    assert found.reason_code == ReasonCode.UNSUPPORTED_MODE
    assert "convert it" in found.message


# ---- colour, alpha, orientation, pages ------------------------------------------------------------


@pytest.mark.parametrize("file_format", ["PNG", "BMP", "TIFF", "WEBP", "JPEG"])
def test_colour_comes_red_green_blue(file_format: str) -> None:
    orange = Image.new("RGB", (16, 16), (250, 130, 20))
    image = decode_image(saved(orange, file_format), DecodeConfig())
    assert image.shape == (16, 16, 3)
    np.testing.assert_allclose(image[8, 8] * 255, [250, 130, 20], atol=4)


@pytest.mark.parametrize("file_format", ["PNG", "BMP", "TIFF", "WEBP", "JPEG"])
def test_grey_stays_one_channel_however_it_is_stored(file_format: str) -> None:
    for mode in ("L", "RGB"):
        grey = Image.new("L", (16, 16), 90).convert(mode)
        image = decode_image(saved(grey, file_format), DecodeConfig())
        assert image.shape == (16, 16, 1)
        np.testing.assert_allclose(image * 255, 90, atol=2)


def test_palette_cmyk_and_1_bit_become_what_they_show() -> None:
    palette = Image.new("P", (1, 1), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    np.testing.assert_array_equal(stored(saved(palette, "PNG")).ravel(), [10, 20, 30])
    cmyk = saved(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), "TIFF")
    np.testing.assert_array_equal(stored(cmyk)[0, 0], [0, 255, 255])
    one_bit = saved(Image.fromarray(np.array([[True, False]])), "TIFF")
    np.testing.assert_array_equal(decode_image(one_bit, DecodeConfig()).ravel(), [1.0, 0.0])


def test_alpha_is_composited_over_black() -> None:
    grey = np.array([[[200, 255], [200, 0], [200, 128], [201, 128]]], dtype=np.uint8)
    np.testing.assert_array_equal(stored(png(grey, 4)).ravel(), [200, 0, 100, 101])  # 100.4 and 100.9
    colour = np.array([[[200, 100, 0, 255], [200, 100, 0, 51]]], dtype=np.uint8)
    np.testing.assert_array_equal(stored(png(colour, 6)), [[[200, 100, 0], [40, 20, 0]]])


def test_deep_alpha_is_composited_over_black() -> None:
    grey = np.array([[[50000, 65535], [50000, 0], [50001, 13107]]], dtype=np.uint16)
    np.testing.assert_array_equal(stored(png(grey, 4)).ravel(), [50000, 0, 10000])  # a fifth
    colour = np.array([[[50000, 300, 7, 65535], [50000, 300, 7, 13107]]], dtype=np.uint16)
    for data in (png(colour, 6), tiff(colour)):
        np.testing.assert_array_equal(stored(data), [[[50000, 300, 7], [10000, 60, 1]]])


def test_a_transparent_colour_becomes_black() -> None:
    values = np.array([[7, 9]], dtype=np.uint8)
    np.testing.assert_array_equal(stored(png(values, 0, extra=chunk(b"tRNS", b"\0\7"))).ravel(), [0, 9])
    palette = Image.fromarray(values)
    data = saved(palette.convert("P"), "PNG", transparency=9)
    np.testing.assert_array_equal(stored(data).ravel(), [7, 0])


# Where the corners of the upright picture [[1, 2], [3, 4]] lie in the file, by the EXIF standard's
# words: "the 0th row is at the visual ... of the image, the 0th column at the visual ...".
ORIENTED = {
    1: [[1, 2], [3, 4]],  # row 0 top, column 0 left
    2: [[2, 1], [4, 3]],  # top, right
    3: [[4, 3], [2, 1]],  # bottom, right
    4: [[3, 4], [1, 2]],  # bottom, left
    5: [[1, 3], [2, 4]],  # left, top
    6: [[2, 4], [1, 3]],  # right, top
    7: [[4, 2], [3, 1]],  # right, bottom
    8: [[3, 1], [4, 2]],  # left, bottom
}


@pytest.mark.parametrize("orientation", ORIENTED)
@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "WEBP", "JPEG"])
def test_exif_orientation_is_applied_once(file_format: str, orientation: int) -> None:
    corners = np.array(ORIENTED[orientation], dtype=np.uint8) * 50
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if file_format == "WEBP" else {}
    wide = np.kron(corners, np.ones((16, 32), dtype=np.uint8))
    image = stored(saved(Image.fromarray(wide), file_format, exif=exif, **options))
    upright = [image[at, across, 0] for at in (4, -5) for across in (4, -5)]
    np.testing.assert_allclose(upright, [50, 100, 150, 200], atol=3)
    assert image.shape[:2] == ((32, 64) if orientation < 5 else (64, 32))


def test_a_nonsense_orientation_means_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 77
    values = np.array([[1, 2]], dtype=np.uint8)
    np.testing.assert_array_equal(stored(saved(Image.fromarray(values), "PNG", exif=exif))[..., 0], values)


def test_broken_metadata_does_not_cost_the_pixels() -> None:
    exif = b"Exif\0\0II*\0\x08\0\0\0\xff\xff"  # claims 65,535 entries and holds none
    data = photo()
    with_exif = data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]
    with pytest.warns(UserWarning, match="Corrupt EXIF"):
        Image.open(io.BytesIO(with_exif)).getexif()
    np.testing.assert_array_equal(stored(with_exif), stored(data))


@pytest.mark.parametrize("file_format", ["TIFF", "PNG", "WEBP"])
def test_several_pages_are_refused_unless_the_first_is_meant(file_format: str) -> None:
    found = refusal(pages(file_format))
    assert found.reason_code == ReasonCode.SEVERAL_PAGES
    assert "2 pages or frames" in found.message
    first = decode_image(pages(file_format), DecodeConfig(page="first"))
    np.testing.assert_allclose(first, 1.0, atol=0.01)


def test_pictures_that_cameras_append_to_a_jpeg_are_not_read() -> None:
    first, second = Image.new("L", (8, 8), 255), Image.new("L", (8, 8), 0)
    np.testing.assert_array_equal(decode_image(saved(first, "MPO", save_all=True, append_images=[second]), FULL), 1.0)


# ---- hostile files -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NO_IMAGES)
def test_other_files_are_no_images_whatever_their_name(name: str) -> None:
    found = refusal(NO_IMAGES[name])
    assert found.reason_code == ReasonCode.NOT_AN_IMAGE
    assert "must be BMP, JPEG, PNG, TIFF or WebP, but begins with" in found.message


def test_no_bytes_are_refused() -> None:
    assert refusal(b"").reason_code == ReasonCode.EMPTY


def test_a_bomb_is_refused_by_its_header() -> None:
    found = refusal(bomb())
    assert found.reason_code == ReasonCode.TOO_MANY_PIXELS
    assert "100,000,000 pixels (decode.max_pixels), but its header says 60,000 x 60,000" in found.message


def test_the_policy_alone_limits_pixels_and_pillow_s_global_limit_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert decode_image(photo("PNG"), DecodeConfig(max_pixels=1200)).shape == (30, 40, 3)
    assert refusal(photo("PNG"), DecodeConfig(max_pixels=1199)).reason_code == ReasonCode.TOO_MANY_PIXELS
    assert Image.MAX_IMAGE_PIXELS == 10


@pytest.mark.parametrize("kind", WHOLE)
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9])
def test_a_file_cut_short_is_refused(kind: str, share: float) -> None:
    data = WHOLE[kind]()
    found = refusal(data[: max(16, int(len(data) * share))], DecodeConfig())
    assert found.reason_code in {ReasonCode.TRUNCATED, ReasonCode.DAMAGED}
    assert "copy it again" in found.message


def test_a_half_written_jpeg_is_called_truncated() -> None:
    data = photo("JPEG", size=(400, 300))
    assert refusal(data[: len(data) // 2]).reason_code == ReasonCode.TRUNCATED


def test_a_changed_byte_in_a_png_s_pixels_is_noticed() -> None:
    data = bytearray(photo("PNG"))
    data[len(data) // 2] ^= 1
    assert refusal(bytes(data)).reason_code in {ReasonCode.TRUNCATED, ReasonCode.DAMAGED}


def test_a_picture_with_a_web_page_behind_it_is_only_a_picture() -> None:
    data = photo("PNG") + b"<html><script>alert(1)</script>PK\x03\x04"
    np.testing.assert_array_equal(decode_image(data, FULL), decode_image(photo("PNG"), FULL))


def test_a_zero_by_zero_image_is_refused() -> None:
    assert refusal(png_header(0, 5, 8, 0) + chunk(b"IEND", b"")).reason_code == ReasonCode.DAMAGED


def test_a_text_chunk_that_inflates_is_refused() -> None:
    text = chunk(b"zTXt", b"key\0\0" + zlib.compress(b"x" * 100_000_000))
    values = np.zeros((2, 2), dtype=np.uint8)
    assert refusal(png(values, 0, extra=text)).reason_code == ReasonCode.DAMAGED


def test_pillow_s_switch_for_half_files_is_not_tolerated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(ValueError, match="LOAD_TRUNCATED_IMAGES must be False"):
        decode_image(photo(), FULL)


def test_too_little_memory_is_a_reason_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def grasp(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("labelclean.features.decode._stored_pixels", grasp)
    assert refusal(photo()).reason_code == ReasonCode.OUT_OF_MEMORY


def check_any_bytes(data: bytes) -> None:
    """Any bytes are an image in 0..1 or a refusal, never another exception."""
    policy = DecodeConfig(max_pixels=1_000_000, page="first")
    try:
        image = decode_image(data, policy)
    except ImageReject:
        return
    assert image.dtype == np.float32
    assert image.shape[2] in (1, 3)
    assert image.min() >= 0.0
    assert image.max() <= 1.0


@pytest.mark.slow
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(kind=st.sampled_from(sorted(WHOLE)), seed=st.integers(0, 2**32 - 1), near_start=st.booleans())
def test_mutated_files_give_an_image_or_a_refusal(kind: str, seed: int, near_start: bool) -> None:
    chance = random.Random(seed)
    data = bytearray(WHOLE[kind]())
    for _ in range(chance.randint(1, 20)):
        place = chance.randrange(min(len(data), 300) if near_start else len(data))
        data[place] = chance.choice([0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)])
    if chance.random() < 0.3:
        del data[chance.randrange(len(data)) :]
    check_any_bytes(bytes(data))


STARTS = [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM", b"II*\0", b"MM\0*", b"II+\0", b"RIFF\0\0\0\0WEBPVP8 "]


@settings(max_examples=300, deadline=None)
@given(start=st.sampled_from(STARTS), rest=st.binary(max_size=200))
def test_arbitrary_bytes_are_refused_or_an_image(start: bytes, rest: bytes) -> None:
    check_any_bytes(start + rest)


# ---- previews and digests ------------------------------------------------------------------------


def opened(data: bytes) -> Any:
    return np.asarray(Image.open(io.BytesIO(data)))


def test_a_preview_shows_what_the_network_sees() -> None:
    data = png(np.array([[100, 105, 110]], dtype=np.uint16), 0)
    np.testing.assert_array_equal(opened(preview_image(data, DecodeConfig(), 10)), [[0, 128, 255]])


@pytest.mark.parametrize("file_format", ["PNG", "JPEG"])
def test_a_preview_is_no_larger_than_asked_and_keeps_its_shape(file_format: Literal["PNG", "JPEG"]) -> None:
    preview = preview_image(photo("PNG", size=(400, 100)), DecodeConfig(), 80, file_format)
    assert opened(preview).shape == (20, 80, 3)
    assert preview.startswith(b"\x89PNG" if file_format == "PNG" else b"\xff\xd8")


def test_a_preview_of_a_bad_file_is_refused() -> None:
    with pytest.raises(ImageReject, match="begins with"):
        preview_image(b"<html>", DecodeConfig(), 80)


# ---- reduced size --------------------------------------------------------------------------------


@pytest.mark.parametrize(("wanted", "factor"), [((24, 24), 8), ((41, 10), 4), ((10, 81), 2), ((161, 161), 1)])
def test_a_jpeg_is_decoded_at_the_least_size_that_holds_what_is_wanted(wanted: tuple[int, int], factor: int) -> None:
    data = photo("JPEG", size=(320, 480))
    found = decoded_pixels(data, DecodeConfig(), wanted)[0]
    assert found.shape == (480 // factor, 320 // factor, 3)
    assert decoded_pixels(data, DecodeConfig(jpeg="full"), wanted)[0].shape == (480, 320, 3)
    assert decoded_pixels(data, DecodeConfig())[0].shape == (480, 320, 3)


def test_reduced_and_full_decoding_show_the_same_picture() -> None:
    data = photo("JPEG", size=(640, 480))
    (small, limits), (whole, _) = (decoded_pixels(data, DecodeConfig(), wanted) for wanted in ((64, 64), None))
    gap = np.abs(resized_pixels(small, limits, (64, 64)) - resized_pixels(whole, limits, (64, 64)))
    assert gap.mean() < 0.01


@pytest.mark.parametrize("file_format", ["PNG", "BMP", "WEBP", "TIFF"])
def test_other_formats_are_always_decoded_in_full(file_format: str) -> None:
    assert decoded_pixels(photo(file_format, size=(320, 320)), DecodeConfig(), (16, 16))[0].shape == (320, 320, 3)


@pytest.mark.parametrize(
    ("change", "is_same"),
    [
        ({"max_bytes": 5}, True),
        ({"timeout_s": 5}, True),
        ({"page": "first"}, False),
        ({"bit_depth": 12}, False),
        ({"percentiles": (1, 99)}, False),
        ({"jpeg": "full"}, False),
    ],
)
def test_the_digest_knows_what_changes_a_pixel(change: dict[str, Any], is_same: bool) -> None:
    digests = {decode_digest(policy, (224, 224), "squash") for policy in (DecodeConfig(), DecodeConfig(**change))}
    assert (len(digests) == 1) == is_same


def test_the_digest_knows_size_and_resize_mode() -> None:
    sizes: list[Callable[[], str]] = [
        lambda: decode_digest(DecodeConfig(), (224, 224), "squash"),
        lambda: decode_digest(DecodeConfig(), (224, 192), "squash"),
        lambda: decode_digest(DecodeConfig(), (224, 224), "pad"),
    ]
    assert len({size() for size in sizes}) == 3


def test_an_image_that_is_transparent_everywhere_is_refused_as_such() -> None:
    for mode, pixel in (("RGBA", (200, 100, 50, 0)), ("LA", (200, 0))):
        file = io.BytesIO()
        Image.new(mode, (4, 4), pixel).save(file, "PNG")
        assert refusal(file.getvalue()).reason_code == "transparent"
    seen = Image.new("RGBA", (4, 4), (200, 100, 50, 0))
    seen.putpixel((1, 1), (200, 100, 50, 255))
    file = io.BytesIO()
    seen.save(file, "PNG")
    assert decode_image(file.getvalue(), FULL)[1, 1] == pytest.approx(np.array([200, 100, 50]) / 255)


@pytest.mark.parametrize("number", [6, 34712, 34887, 33003])
def test_a_compression_that_cannot_be_decoded_is_no_damage(number: int) -> None:
    file = io.BytesIO()
    Image.new("L", (8, 8), 7).save(file, "TIFF")
    data = bytearray(file.getvalue())
    entry = data.index(struct.pack("<HHI", 259, 3, 1))
    data[entry + 8 : entry + 10] = struct.pack("<H", number)
    found = refusal(bytes(data))
    assert found.reason_code == "unsupported_mode"
    assert f"has number {number}" in found.message
