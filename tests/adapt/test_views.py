"""Crops against numpy slices, flips and right-angle turns."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from labelclean.adapt.views import ViewDraws, draw_views, views
from labelclean.config.adapt import ViewsConfig
from labelclean.errors import ConfigError


def still(count: int = 1, **changes: Any) -> ViewDraws:
    """The whole image, unchanged."""
    half = np.full((count, 2), 0.5, dtype=np.float32)
    ones = np.ones(count, dtype=np.float32)
    draws = ViewDraws(half, half, np.zeros(count, bool), np.zeros(count, np.int64), ones, ones, 0 * ones)
    return replace(draws, **changes)


def gradient_image() -> tuple[torch.Tensor, np.ndarray]:
    pixels = np.random.default_rng(0).integers(0, 65536, (1, 1, 6, 8)).astype(np.uint16)
    return torch.from_numpy(pixels), pixels[0, 0] / 65535.0


def crop(pixels: torch.Tensor, draws: ViewDraws, size: tuple[int, int]) -> np.ndarray:
    return views(pixels, draws, size, (0.0,), (1.0,))[0, 0].numpy()


def test_the_whole_image_at_its_own_size_comes_back() -> None:
    pixels, unit = gradient_image()
    np.testing.assert_allclose(crop(pixels, still(), (6, 8)), unit, atol=1e-5)


def test_a_crop_is_the_slice_it_names() -> None:
    pixels, unit = gradient_image()
    draws = still(centre=np.array([[5 / 8, 3 / 6]], np.float32), half=np.array([[2 / 8, 1 / 6]], np.float32))
    np.testing.assert_allclose(crop(pixels, draws, (2, 4)), unit[2:4, 3:7], atol=1e-5)


def test_mirroring_mirrors_left_and_right() -> None:
    pixels, unit = gradient_image()
    np.testing.assert_allclose(crop(pixels, still(is_flipped=np.array([True])), (6, 8)), unit[:, ::-1], atol=1e-5)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_turns_are_right_angles(turns: int) -> None:
    pixels, unit = gradient_image()
    size = (8, 6) if turns % 2 else (6, 8)
    found = crop(pixels, still(quarter_turns=np.array([turns])), size)
    assert any(np.allclose(found, np.rot90(unit, sign * turns), atol=1e-5) for sign in (1, -1))


def test_brightness_multiplies_and_contrast_pulls_to_the_mean() -> None:
    pixels, unit = gradient_image()
    dark = crop(pixels, still(brightness=np.array([0.5], np.float32)), (6, 8))
    np.testing.assert_allclose(dark, unit / 2, atol=1e-5)
    flat = crop(pixels, still(contrast=np.array([0.0], np.float32)), (6, 8))
    np.testing.assert_allclose(flat, unit.mean(), atol=1e-5)


def test_blur_touches_only_the_images_it_was_drawn_for() -> None:
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 1, 112, 112)).astype(np.uint8))
    out = views(pixels, still(2, sigma=np.array([0.0, 2.0], np.float32)), (112, 112), (0.0,), (1.0,))
    np.testing.assert_allclose(out[0, 0], pixels[0, 0] / 255.0, atol=1e-5)
    assert float(out[1].std()) < 0.9 * float(pixels[1].float().std()) / 255


def test_parameters_differ_per_image_and_stay_within_their_limits() -> None:
    draws = draw_views(ViewsConfig(), 500, np.random.default_rng(0))
    area = 4 * draws.half.prod(axis=1)
    assert len(set(area.tolist())) > 400
    assert area.min() > 0.4 * 0.7  # very wide crops are cut at the rim
    assert area.max() <= 1
    assert (draws.centre - draws.half >= -1e-6).all()
    assert (draws.centre + draws.half <= 1 + 1e-6).all()
    assert set(draws.quarter_turns.tolist()) == {0, 1, 2, 3}
    assert 0.4 < (draws.sigma > 0).mean() < 0.6


def test_what_is_switched_off_does_not_happen() -> None:
    config = ViewsConfig(flips=False, turns=False, brightness=0, contrast=0, blur_share=0)
    draws = draw_views(config, 100, np.random.default_rng(0))
    assert not draws.is_flipped.any()
    assert not draws.quarter_turns.any()
    assert (draws.brightness == 1).all()
    assert (draws.sigma == 0).all()


def test_colour_images_do_not_fit_a_grey_network() -> None:
    with pytest.raises(ConfigError, match="in_chans"):
        views(torch.zeros(1, 3, 4, 4, dtype=torch.uint8), still(), (4, 4), (0.5,), (0.5,))


def test_grey_images_meet_all_channels() -> None:
    out = views(torch.full((1, 1, 4, 4), 255, dtype=torch.uint8), still(), (4, 4), (0.5, 0.0, 1.0), (0.5, 1.0, 1.0))
    assert out[0, :, 0, 0].tolist() == [1.0, 1.0, 0.0]
