"""Rates and orders."""

from __future__ import annotations

import math

import numpy as np
import pytest

from labelclean.adapt.schedule import epoch_order, rates, settled
from labelclean.config.adapt import AdaptConfig
from labelclean.errors import ConfigError


def test_every_image_comes_once_and_the_last_step_is_filled_up() -> None:
    order = epoch_order(10, 4, seed=0, epoch=3)
    assert order.shape == (3, 4)
    assert sorted(order.ravel()[:10]) == list(range(10))
    assert order.ravel()[10:].tolist() == order.ravel()[:2].tolist()


def test_epochs_differ_and_the_same_epoch_does_not() -> None:
    assert not np.array_equal(epoch_order(50, 10, seed=0, epoch=0), epoch_order(50, 10, seed=0, epoch=1))
    assert np.array_equal(epoch_order(50, 10, seed=0, epoch=1), epoch_order(50, 10, seed=0, epoch=1))


def test_rates_warm_up_and_follow_half_a_cosine() -> None:
    config = settled(AdaptConfig(epochs=12, warmup_epochs=2, batch_size=128), 1000, on_gpu=False)
    highest = 5e-4 * 128 / 256
    assert math.isclose(rates(config, 0, 10).learning_rate, highest / 20)
    assert math.isclose(rates(config, 20, 10).learning_rate, highest)
    middle = rates(config, 70, 10)  # halfway between step 20 and step 120
    assert math.isclose(middle.learning_rate, (highest + 1e-6) / 2)
    assert math.isclose(rates(config, 60, 10).weight_decay, 0.22)
    assert math.isclose(rates(config, 60, 10).momentum, 0.998)


def test_too_few_images_are_refused() -> None:
    with pytest.raises(ConfigError, match="4 images or more, but there are 3"):
        settled(AdaptConfig(), 3, on_gpu=False)
