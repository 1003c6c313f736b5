"""What follows from the number of images and changes over the epochs: automatic settings, learning rate, decay, momentum."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from labelclean.arrays import IntArray
from labelclean.config.adapt import AdaptConfig
from labelclean.errors import ConfigError

REFERENCE_BATCH = 256
LARGEST_WINDOW = 50
LONGEST_WARMUP = 10
FEWEST_PROTOTYPES, MOST_PROTOTYPES = 64, 65_536
ORDER_STREAM, VIEW_STREAM, PARTNER_STREAM, DROPOUT_STREAM = 1, 2, 3, 4


class Rates(NamedTuple):
    """What one step uses: learning rate, weight decay, and how much of itself the momentum network keeps."""

    learning_rate: float
    weight_decay: float
    momentum: float


def settled(config: AdaptConfig, num_images: int, *, on_gpu: bool) -> AdaptConfig:
    """Return the settings with every automatic value filled in.

    Args:
        config: Section `adapt`.
        num_images: N.
        on_gpu: Larger steps on a GPU.

    Returns:
        Settings without None but for `images`.

    Raises:
        ConfigError: If there are too few images to learn from.

    Examples:
        >>> full = settled(AdaptConfig(), 1000, on_gpu=False)
        >>> full.batch_size, full.window, full.warmup_epochs, full.prototypes
        (64, 25, 10, 256)
    """
    if num_images < 4:
        raise ConfigError(
            f"adapt: a backbone can be learned from 4 images or more, but there are {num_images}; name a folder of "
            "unlabelled images in adapt.images."
        )
    batch_size = min(config.batch_size or (256 if on_gpu else 64), num_images)
    power = 2 ** int(math.log2(max(num_images / 2, 1)))
    automatic = {
        "batch_size": batch_size,
        "window": config.window or min(LARGEST_WINDOW, max(1, config.epochs // 4)),
        "warmup_epochs": min(LONGEST_WARMUP, config.epochs // 10)
        if config.warmup_epochs is None
        else config.warmup_epochs,
        "prototypes": config.prototypes or min(MOST_PROTOTYPES, max(FEWEST_PROTOTYPES, power)),
        "neighbours": min(config.neighbours, num_images),
    }
    return config.model_copy(update=automatic)


def num_steps(config: AdaptConfig, num_images: int) -> int:
    """Return the steps of one epoch; the last one is filled up, so that every image is seen."""
    return -(-num_images // int(config.batch_size or REFERENCE_BATCH))


def rates(config: AdaptConfig, step: int, steps_per_epoch: int) -> Rates:
    """Return the rates of one step, by DINO's schedules.

    Args:
        config: Settled settings.
        step: Steps done since the beginning.
        steps_per_epoch: Steps of one epoch.

    Returns:
        Learning rate (linear warm-up, then cosine), weight decay and momentum (cosine).
    """
    total = config.epochs * steps_per_epoch
    warmup = min(int(config.warmup_epochs or 0) * steps_per_epoch, total)
    highest = config.learning_rate * int(config.batch_size or REFERENCE_BATCH) / REFERENCE_BATCH
    if step < warmup:
        learning_rate = highest * (step + 1) / warmup
    else:
        learning_rate = _cosine(highest, config.final_learning_rate, (step - warmup) / max(total - warmup, 1))
    done = step / max(total, 1)
    return Rates(learning_rate, _cosine(*config.weight_decay, done), _cosine(config.momentum, 1.0, done))


def epoch_order(num_images: int, batch_size: int, *, seed: int, epoch: int) -> IntArray:
    """Return which images each step of an epoch sees; it hangs on nothing but the arguments.

    Args:
        num_images: N.
        batch_size: B, at most N.
        seed: `run.seed`.
        epoch: Counts from 0.

    Returns:
        Row numbers, int64, shape (steps, B); every image once, the last step filled up with the
        epoch's first images.
    """
    order = stream(seed, ORDER_STREAM, epoch).permutation(num_images)
    steps = -(-num_images // batch_size)
    return np.resize(order, (steps, batch_size)).astype(np.int64)


def stream(seed: int, *keys: int) -> np.random.Generator:
    """Return the random numbers of one purpose, epoch and step; no draw of another purpose moves them."""
    return np.random.default_rng([seed, *keys])


def _cosine(first: float, last: float, done: float) -> float:
    """From first to last along half a cosine wave."""
    return last + (first - last) * (1 + math.cos(math.pi * min(done, 1.0))) / 2
