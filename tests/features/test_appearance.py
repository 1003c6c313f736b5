"""What a picture is like, by hand."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from labelclean.config import DecodeConfig
from labelclean.features.appearance import picture_appearance
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
