"""Windows and resizing against numbers worked by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from labelclean.config import DecodeConfig
from labelclean.features.pixels import quantised, resized_pixels, unit_pixels, window_limits


def test_full_range_takes_the_depth_or_the_camera_s_true_depth() -> None:
    values = np.array([[[0], [4095]]], dtype=np.uint16)
    assert window_limits(values, 16, DecodeConfig(window="full_range")) == (0.0, 65535.0)
    assert window_limits(values, 16, DecodeConfig(window="full_range", bit_depth=12)) == (0.0, 4095.0)
    assert window_limits(values.astype(np.uint8), 8, DecodeConfig(bit_depth=12)) == (0.0, 255.0)


def test_full_range_refuses_what_it_would_clip() -> None:
    values = np.array([[[0], [4096]]], dtype=np.uint16)
    with pytest.raises(ValueError, match=r"must lie in 0\.\.4095 \(12 bits\), but they lie in 0\.\.4096"):
        window_limits(values, 16, DecodeConfig(window="full_range", bit_depth=12))
    with pytest.raises(ValueError, match=r"0\.\.1 \(floating point\), but they lie in -1\.\.0"):
        window_limits(np.array([[[-1.0], [0.0]]], dtype=np.float32), 0, DecodeConfig(window="full_range"))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32])
def test_a_percentile_is_a_value_of_the_image_by_hand(dtype: Any) -> None:
    values = np.array([5, 3, 1, 4, 2, 10, 9, 8, 7, 6], dtype=dtype).reshape(2, 5, 1)
    limits = DecodeConfig(window="percentile", percentiles=(20.0, 90.0))
    assert window_limits(values, 16, limits) == (2.0, 9.0)


def test_percentiles_0_and_100_are_the_extremes() -> None:
    values = np.array([[[7], [300], [9]]], dtype=np.uint16)
    assert window_limits(values, 16, DecodeConfig(window="percentile", percentiles=(0.0, 100.0))) == (7.0, 300.0)


def test_a_flat_image_becomes_black_and_a_speck_on_it_white() -> None:
    values = np.full((100, 100, 1), 1000, dtype=np.uint16)
    values[3, 4] = 1001
    low, high = window_limits(values, 16, DecodeConfig())
    unit = unit_pixels(values, low, high)
    assert unit[0, 0, 0] == 0.0
    assert unit[3, 4, 0] == 1.0
    assert unit.sum() == 1.0


def test_a_fixed_window_maps_its_ends_and_clips() -> None:
    values = np.array([[[90], [100], [150], [200], [210]]], dtype=np.int32)
    limits = window_limits(values, 31, DecodeConfig(window="fixed", low=100, high=200))
    np.testing.assert_array_equal(unit_pixels(values, *limits).ravel(), [0.0, 0.0, 0.5, 1.0, 1.0])


def test_large_32_bit_values_keep_their_small_differences() -> None:
    values = np.array([4_000_000_000, 4_000_000_001, 4_000_000_002], dtype=np.uint32)
    np.testing.assert_array_equal(unit_pixels(values, 4e9, 4e9 + 2), [0.0, 0.5, 1.0])


@pytest.mark.parametrize(("dtype", "top"), [(np.uint8, 255), (np.uint16, 65535)])
def test_scaling_then_quantising_is_exact_at_the_native_size(dtype: Any, top: int) -> None:
    values = np.arange(0, top + 1, dtype=dtype).reshape(1, -1, 1)
    image = quantised(resized_pixels(values, (0.0, float(top)), (1, top + 1)))
    np.testing.assert_array_equal(image.ravel(), np.arange(top + 1) * (65535 // top))


def test_squash_averages_whole_blocks_without_aliasing() -> None:
    stripes = np.tile(np.array([0, 255], dtype=np.uint8), (8, 32))[..., None]
    inner = resized_pixels(stripes, (0.0, 255.0), (2, 4))[0, :, 1:-1]
    np.testing.assert_allclose(inner, 0.5, atol=0.02)


def test_eight_bits_are_resized_before_they_are_windowed_where_nothing_is_clipped() -> None:
    values = np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8)
    for mode in ("squash", "pad", "crop"):
        fast = resized_pixels(values, (0.0, 255.0), (24, 16), mode)
        slow = resized_pixels(values.astype(np.float32), (0.0, 255.0), (24, 16), mode)
        np.testing.assert_allclose(fast, slow, atol=1e-6)
    clipped = resized_pixels(values, (50.0, 200.0), (24, 16))
    np.testing.assert_allclose(clipped, resized_pixels(values.astype(np.float32), (50.0, 200.0), (24, 16)), atol=1e-6)


def test_pad_keeps_the_shape_in_the_middle_of_black() -> None:
    white = np.full((2, 8, 3), 255, dtype=np.uint8)
    image = resized_pixels(white, (0.0, 255.0), (8, 8), "pad")
    assert image.shape == (3, 8, 8)
    np.testing.assert_array_equal(image[0].any(axis=1), [False] * 3 + [True] * 2 + [False] * 3)
    assert (image[:, 3:5] == 1.0).all()


@pytest.mark.parametrize("shape", [(4, 12), (12, 4)])
def test_crop_keeps_the_middle(shape: tuple[int, int]) -> None:
    values = np.zeros((*shape, 1), dtype=np.uint8)
    values[(slice(None), slice(4, 8)) if shape[1] == 12 else (slice(4, 8), slice(None))] = 255
    assert (resized_pixels(values, (0.0, 255.0), (4, 4), "crop") == 1.0).all()


@pytest.mark.parametrize("mode", ["squash", "pad", "crop"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 999), (700, 1), (3, 5)])
def test_any_shape_fits_any_size(mode: Any, shape: tuple[int, int]) -> None:
    values = np.full((*shape, 1), 9, dtype=np.uint8)
    image = resized_pixels(values, (0.0, 9.0), (16, 24), mode)
    assert image.shape == (1, 16, 24)
    assert image.max() == 1.0


def test_inputs_are_unchanged() -> None:
    values = np.arange(12, dtype=np.uint16).reshape(3, 4, 1)
    before = values.copy()
    resized_pixels(values, (2.0, 9.0), (5, 5), "pad")
    np.testing.assert_array_equal(values, before)
