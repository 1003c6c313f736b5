"""Trains ``backbone.safetensors``, the small network that turns the sample's images into features.

How the file was made: this script draws its own parts with ``render.py``, from another seed than the
sample (other parts, other photos), with no defect or one of ten kinds on each: the five of the
sample and five more (inclusion, rub, ridge, chatter, streak). A narrowed timm ``resnet14t`` learns to
name the kind at each place and on the whole photo, and the surface. Neither an image nor a label
of the sample is read. What ships is the trunk without these heads, in fp32.

Rebuild (about 15 minutes on one idle core; the same seed gives nearly, not exactly, the same weights on
another processor; the shipped file was made in two runs, one per cycle, on images kept as float16 between)::

    python -m sample_data.make_backbone --out sample_data/backbone.safetensors
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from sample_data.render import (
    DEFECTS,
    MARGIN_PX,
    SURFACES,
    Draw,
    Grid,
    Map,
    Maps,
    blob,
    grid,
    line_distance,
    noise,
    part,
    photo,
    walk,
)

NAME = "resnet14t"
OPTIONS: dict[str, Any] = {
    "channels": [16, 32, 64, 128],
    "stem_width": 16,
    "output_stride": 16,
    "global_pool": "catavgmax",
}
INPUT_SIZE_PX = 112
MEAN = 0.5
STD = 0.25
SEED = 910_000_001
# Two rises and falls of the learning rate, each with new heads.
PEAK_LRS = (4e-3, 2e-3)


def draw_inclusion(rng: np.random.Generator, area: Grid, severity: float) -> Maps:
    """Return an inclusion: a few foreign bright grains."""
    albedo = np.zeros_like(area.x_px)
    for _ in range(rng.integers(2, 7)):
        grain = blob(rng, area, rng.uniform(1.5, 4), 0.4) < 1
        albedo += (0.3 + 0.7 * severity) * rng.uniform(0.1, 0.3) * grain
    return np.zeros_like(albedo), albedo


def draw_rub(rng: np.random.Generator, area: Grid, severity: float) -> Maps:
    """Return a rub: a patch worn by many fine parallel strokes."""
    patch = np.exp(-(blob(rng, area, rng.uniform(12, 28), 0.2) ** 4))
    strokes = noise(rng, area.x_px.shape, 14, 0.6, rng.uniform(0, np.pi))
    return np.zeros_like(patch), ((0.3 + 0.7 * severity) * patch * (0.04 + 0.07 * strokes)).astype(np.float32)


def draw_ridge(rng: np.random.Generator, area: Grid, severity: float) -> Maps:
    """Return a ridge: a raised wavy seam of flash."""
    heading, length_px = rng.uniform(0, 6.28), rng.uniform(40, 110)
    x0, y0 = area.point(rng)
    start = (x0 - length_px / 2 * np.cos(heading), y0 - length_px / 2 * np.sin(heading))
    distance, _ = line_distance(area, *walk(rng, start, heading, length_px, 0.25, 10))
    ridge = np.exp(-((distance / rng.uniform(2, 4.5)) ** 2))
    return (0.4 + 0.6 * severity) * rng.uniform(0.5, 1.5) * ridge, 0.03 * ridge


def draw_chatter(rng: np.random.Generator, area: Grid, severity: float) -> Maps:
    """Return chatter: a band of regular ripples left by a swinging tool."""
    angle, place = rng.uniform(0, np.pi), area.point(rng)
    dx, dy = area.x_px - place[0], area.y_px - place[1]
    along, across = dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)
    band = np.exp(-((across / rng.uniform(10, 25)) ** 4))
    ripples = band * np.sin(2 * np.pi * along / rng.uniform(5, 12))
    return (0.3 + 0.7 * severity) * 0.35 * ripples, (0.3 + 0.7 * severity) * 0.05 * ripples


def draw_streak(rng: np.random.Generator, area: Grid, severity: float) -> Maps:
    """Return a streak: a long soft trace of coolant."""
    x_px, y_px = walk(rng, area.point(rng), rng.uniform(0, 6.28), rng.uniform(60, 140), 0.08, 14)
    distance, place = line_distance(area, x_px, y_px)
    trace = np.exp(-((distance / rng.uniform(3, 7)) ** 2)) * (1 - 0.7 * place)
    return np.zeros_like(trace), (0.3 + 0.7 * severity) * rng.choice([-0.13, 0.11]) * trace


KINDS: dict[str, Draw] = {
    **DEFECTS,
    "inclusion": draw_inclusion,
    "rub": draw_rub,
    "ridge": draw_ridge,
    "chatter": draw_chatter,
    "streak": draw_streak,
}


def training_photo(seed: int, index: int) -> tuple[Map, Map, tuple[int, int]]:
    """Return one drawn photo, where its defect lies, and what is on it.

    Returns:
        Grey values, float32, shape (INPUT_SIZE_PX, INPUT_SIZE_PX), in [0, 1].
        The defect's mask, float32, 0 or 1, same shape.
        The kind (0 = none, else its place in ``KINDS`` plus 1) and the surface's place in ``SURFACES``.
    """
    rng = np.random.default_rng([seed, index])
    kind, surface = max(0, int(rng.integers(-1, len(KINDS) + 1))), int(rng.integers(len(SURFACES)))
    area, light = grid(128, int(rng.choice([128, 144]))), float(rng.choice([0.7, 2.4])) + np.pi
    mask = np.zeros(area.x_px.shape, dtype=np.float32)

    def traced(rng: np.random.Generator, area: Grid, severity: float) -> Maps:
        relief, albedo = list(KINDS.values())[kind - 1](rng, area, severity)
        trace = np.abs(relief) + 4 * np.abs(albedo)
        mask[trace > 0.3 * trace.max()] = 1
        return relief, albedo

    lit = part(rng, area, list(SURFACES)[surface], [traced] if kind else [], rng.beta(2, 1.1), light)
    grey = photo(rng, lit, light, exposure=rng.uniform(0.8, 1.3))
    small, small_mask = (
        np.asarray(Image.fromarray(pixels).resize((INPUT_SIZE_PX, INPUT_SIZE_PX), Image.Resampling.BILINEAR))
        for pixels in (grey, mask[MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX])
    )
    return small, (small_mask > 0.3).astype(np.float32), (kind, surface)


def augmented(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return images and masks turned, mirrored and slightly warped, and the images re-exposed.

    Args:
        images: Grey values and mask, float32, shape (B, 2, H, W), in [0, 1].
        generator: Source of randomness.

    Returns:
        The same, changed at random; float32, shape (B, 2, H, W).
    """
    size = len(images)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(size, generator=generator)

    images = torch.rot90(images, int(torch.randint(4, (1,), generator=generator)), (2, 3))
    mirror = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    angle, scale, aspect = uniform(-0.12, 0.12), uniform(0.88, 1.08), uniform(0.93, 1.07)
    theta = torch.zeros(size, 2, 3)
    theta[:, 0, 0], theta[:, 0, 1], theta[:, 0, 2] = mirror * scale * angle.cos(), -angle.sin(), uniform(-0.08, 0.08)
    theta[:, 1, 0], theta[:, 1, 1], theta[:, 1, 2] = angle.sin(), scale * aspect * angle.cos(), uniform(-0.08, 0.08)
    places = functional.affine_grid(theta, list(images.shape), align_corners=False)
    images = functional.grid_sample(images, places, padding_mode="reflection", align_corners=False)
    grey, mask = images[:, :1], images[:, 1:]
    # A third of the images is stretched to the full range, as windowed 12-bit images are.
    low, high = grey.amin((1, 2, 3)), grey.amax((1, 2, 3))
    is_windowed = uniform(0, 1) < 0.33
    bias = torch.where(is_windowed, low, torch.zeros_like(low))
    gain = torch.where(is_windowed, 1 / (high - low).clamp_min(0.05), uniform(0.8, 1.25))
    grey = (grey - bias[:, None, None, None]) * gain[:, None, None, None]
    grey = grey + uniform(0, 0.01)[:, None, None, None] * torch.randn(grey.shape, generator=generator)
    return torch.cat([grey.clamp(0, 1), mask], 1)


class Learner(nn.Module):
    """The trunk with the heads it is trained with: the kind at each place, and kind and surface of the photo."""

    def __init__(self, trunk: Any) -> None:
        super().__init__()
        width = int(trunk.num_features)
        self.trunk = trunk
        self.places = nn.Conv2d(width, len(KINDS) + 1, 1)
        self.whole = nn.Linear(2 * width, len(KINDS) + 1 + len(SURFACES))

    def loss(self, images: Tensor, mask: Tensor, targets: Tensor) -> Tensor:
        """Return the sum of the cross-entropies: kind per place, kind of the photo, surface.

        Args:
            images: Normalised, float32, shape (B, 3, H, W).
            mask: The defect's mask, float32, shape (B, 1, H, W), rows aligned with ``images``.
            targets: Kind and surface, int64, shape (B, 2), rows aligned with ``images``.
        """
        maps = self.trunk.forward_features(images)
        is_defect = functional.adaptive_max_pool2d(mask, maps.shape[-1])[:, 0] > 0.5
        kind_at = torch.where(is_defect, targets[:, :1, None], 0)
        weights = torch.tensor([0.3] + [1.0] * len(KINDS))
        whole = self.whole(self.trunk.forward_head(maps))
        return (
            functional.cross_entropy(self.places(maps), kind_at, weight=weights)
            + functional.cross_entropy(whole[:, : len(KINDS) + 1], targets[:, 0])
            + 0.2 * functional.cross_entropy(whole[:, len(KINDS) + 1 :], targets[:, 1])
        )


def train(trunk: nn.Module, images: Tensor, targets: Tensor, peak_lr: float, epochs: int, seed: int) -> None:
    """Train the trunk in place, with new heads, over one rise and fall of the learning rate.

    Args:
        trunk: The network that ships.
        images: Grey values and mask, float32, shape (N, 2, INPUT_SIZE_PX, INPUT_SIZE_PX), in [0, 1].
        targets: Kind and surface, int64, shape (N, 2), rows aligned with ``images``.
        peak_lr: Highest learning rate.
        epochs: Passes over the images.
        seed: Seed of the heads, the order and the augmentation.
    """
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    learner = Learner(trunk.train()).to(memory_format=torch.channels_last)
    batch, total, start = 48, 0.0, time.monotonic()
    steps = epochs * (len(images) // batch)
    optimizer = torch.optim.AdamW(learner.parameters(), lr=peak_lr, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=peak_lr, total_steps=steps, pct_start=0.2)
    for step in range(steps):
        if step % (steps // epochs) == 0:
            order = torch.randperm(len(images), generator=generator)
        rows = order[step % (steps // epochs) * batch :][:batch]
        views = augmented(images[rows], generator)
        value = learner.loss(((views[:, :1] - MEAN) / STD).expand(-1, 3, -1, -1), views[:, 1:], targets[rows])
        optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        total += float(value.detach())
        if (step + 1) % 50 == 0:
            print(f"step {step + 1}/{steps}: loss {total / 50:.3f}, {time.monotonic() - start:.0f} s", flush=True)
            total = 0.0


def main() -> None:
    """Draw the training images, train and write the trunk's weights."""
    parser = argparse.ArgumentParser(description="Train the backbone of the sample data.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "backbone.safetensors")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--images", type=int, default=12_000)
    parser.add_argument("--epochs", type=int, default=4, help="passes per cycle")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    drawn = [training_photo(arguments.seed, index) for index in range(arguments.images)]
    images = torch.from_numpy(np.stack([np.stack([grey, mask]) for grey, mask, _ in drawn]))
    targets = torch.tensor([target for _, _, target in drawn])
    torch.manual_seed(arguments.seed)
    trunk = timm.create_model(NAME, num_classes=0, **OPTIONS)
    for cycle, peak_lr in enumerate(PEAK_LRS):
        train(trunk, images, targets, peak_lr, arguments.epochs, arguments.seed + cycle)
    save_file({name: value.contiguous() for name, value in trunk.state_dict().items()}, arguments.out)


if __name__ == "__main__":
    main()
