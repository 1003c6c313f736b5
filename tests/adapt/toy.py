"""A network and images small enough to train in a blink, and a training of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from labelclean.adapt.neighbours import History, new_history
from labelclean.adapt.schedule import settled
from labelclean.adapt.state import EpochRecord, State, StoringDue, TrainingSetup, build_state
from labelclean.adapt.train import train
from labelclean.adapt.world import World
from labelclean.config.adapt import AdaptConfig

NUM_IMAGES, SIDE = 24, 20
SMALL: dict[str, Any] = {
    "epochs": 4,
    "window": 2,
    "batch_size": 8,
    "neighbours": 3,
    "prototypes": 16,
    "head_width": 16,
    "bottleneck": 8,
    "learning_rate": 0.01,
    "views": {
        "crop_area": (0.9, 1.0),
        "flips": False,
        "turns": False,
        "brightness": 0.1,
        "contrast": 0.1,
        "blur_share": 0.5,
    },
    "min_effective_rank": 1.0,
    "min_feature_spread": 0.0,
}


class Tiny(nn.Module):
    """Four features of an image; without batch statistics, so that processes can share a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 5, stride=3)
        self.out = nn.Linear(8, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return (B, 4)."""
        return self.out(nn.functional.gelu(self.conv(images)).mean(dim=(2, 3)))  # type: ignore[no-any-return]


def images(count: int = NUM_IMAGES) -> npt.NDArray[np.uint16]:
    """Stripes, two images of each kind, uint16, (count, 1, 20, 20)."""
    rng = np.random.default_rng(7)
    period, light = (
        np.repeat(rng.uniform(*ends, -(-count // 2)), 2)[:count, None] for ends in ((0.5, 3.0), (0.2, 0.7))
    )
    waves = (light + 0.25 * np.sin(np.arange(SIDE) / period))[:, None, None, :]
    noise = rng.uniform(0, 0.1, (count, 1, SIDE, SIDE))
    return np.asarray(np.rint((waves + noise).clip(0, 1) * 65535), dtype=np.uint16)


def setup(world: World | None = None, count: int = NUM_IMAGES, **settings: Any) -> TrainingSetup:
    """A setup on `images`."""
    config = settled(AdaptConfig(**(SMALL | settings)), count, on_gpu=False)
    return TrainingSetup(
        config=config,
        num_images=count,
        num_features=4,
        size=(16, 16),
        mean=(0.5,),
        std=(0.25,),
        groups=np.arange(count) // 2,
        given=np.arange(count) % 3,
        is_held_out=np.arange(count) % 4 == 0,
        num_classes=3,
        seed=3,
        world=world or World(),
    )


def state(of: TrainingSetup) -> State:
    """The state before the first step, from the same weights every time."""
    networks = []
    for _ in range(2):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            networks.append(Tiny())
    return build_state(of, networks[0], networks[1])


def trained(of: TrainingSetup, **options: Any) -> tuple[State, list[StoringDue | EpochRecord], History]:
    """A whole training."""
    begun, history, pixels = (
        state(of),
        new_history(of.config.window or 1, of.num_images, of.config.neighbours),
        images(),
    )
    return begun, list(train(begun, of, lambda rows: pixels[rows], history, **options)), history


def every_step() -> Callable[[], bool]:
    """Storing is always due."""
    return lambda: True
