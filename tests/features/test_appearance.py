"""What a picture is like, by hand."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from labelclean.config import DecodeConfig
from labelclean.features.appearance import LOOKS, measured_looks, picture_appearance
from labelclean.features.image_files import ImageReject


@pytest.mark.parametrize(
    ("dtype", "high", "file_type"),
    [(np.uint8, 255, "PNG L"), (np.uint16, 65_535, "PNG I;16")],
    ids=["8 bits", "16 bits"],
)
def test_half_black_and_half_white_has_half_the_brightness_at_any_depth(dtype: type, high: int, file_type: str) -> None:
    pixels: np.ndarray = np.zeros((6, 8), dtype=dtype)
    pixels[:, :4] = high
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    found = picture_appearance(file.getvalue(), DecodeConfig())
    assert (found.brightness, found.contrast) == (0.5, 0.5)
    assert (found.image_size, found.file_type) == ("8 x 6", file_type)
    assert found.file_bytes == len(file.getvalue())


def test_what_is_no_picture_is_refused() -> None:
    with pytest.raises(ImageReject):
        picture_appearance(b"no picture", DecodeConfig())


def looks_of(values: np.ndarray, bits: int = 8) -> dict[str, float]:
    values = values[..., None] if values.ndim == 2 else values
    size = (values.shape[1], values.shape[0])
    return dict(zip(LOOKS, measured_looks(values, size, bits).tolist(), strict=True))


def test_looks_by_hand() -> None:
    pixels = np.zeros((4, 8), dtype=np.uint8)
    pixels[:, ::2] = 255  # every other column: one apart all change, four apart none does
    found, step = looks_of(pixels), 1 / 255
    assert found["light"] == pytest.approx(0.0, abs=1e-6)
    assert found["contrast"] == pytest.approx(np.log(0.5 + step))
    assert found["sharpness"] == pytest.approx(np.log((1 + step / 100) / (step / 100)), rel=1e-5)
    assert np.exp([found["area"], found["aspect"], found["depth"]]).tolist() == pytest.approx([32, 2, 8])
    assert found["is_blank"] == 0


def test_a_ramp_changes_four_times_as_much_over_four_pixels() -> None:
    ramp = np.tile(np.arange(0, 256, 4, dtype=np.uint8), (64, 1))
    assert looks_of(ramp)["sharpness"] == pytest.approx(np.log(1 / 4), abs=5e-3)


@pytest.mark.parametrize("value", [0, 128, 255])
def test_a_picture_of_one_grey_is_blank_and_not_blurred(value: int) -> None:
    pixels = np.full((50, 40), value, dtype=np.uint8)
    pixels[3, 4] = max(value - 1, 0)
    found = looks_of(pixels)
    assert found["is_blank"] == 1
    assert abs(found["sharpness"]) < 0.5
    assert np.isfinite(list(found.values())).all()


def test_blur_shows_at_any_size_and_depth() -> None:
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(0)
    for shape, kind, full in (((200, 300), np.uint8, 255), ((1600, 2100), np.uint16, 65_535)):
        scene = gaussian_filter(rng.normal(size=shape), max(shape) / 600)
        scene = (scene - scene.min()) / np.ptp(scene)
        blurred = gaussian_filter(scene, max(shape) / 60)
        sharp, soft = (looks_of((picture * full).astype(kind))["sharpness"] for picture in (scene, blurred))
        assert soft < sharp - 0.4


@pytest.mark.parametrize(
    "values",
    [
        np.zeros((1, 1), np.uint8),
        np.full((2, 3, 3), -1e9, np.float32),
        np.full((1, 9), 2**31, np.int64).astype(np.uint32),
    ],
)
def test_looks_of_anything_are_finite(values: np.ndarray) -> None:
    assert np.isfinite(list(looks_of(values, 32).values())).all()
