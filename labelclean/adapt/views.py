"""Two global crops per image as batched operations whose parameters are drawn per image (DINO's recipe, by kornia)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from labelclean.arrays import Float32Array
from labelclean.config.adapt import ViewsConfig
from labelclean.errors import ConfigError

ASPECT = (3 / 4, 4 / 3)
BLUR_SIGMA = (0.1, 2.0)
BLUR_SIDE_PX = 224


@dataclass(frozen=True)
class ViewDraws:
    """What was drawn for each crop of a batch.

    Attributes:
        centre: Centre of the crop as shares of width and height, float32, shape (B, 2).
        half: Half its width and height, likewise, float32, shape (B, 2).
        is_flipped: Mirrored left to right, bool, shape (B,).
        quarter_turns: Right angles turned, int64, shape (B,), in [0, 4).
        brightness: Factor, float32, shape (B,).
        contrast: Factor, float32, shape (B,).
        sigma: Blur in pixels at a side of 224, float32, shape (B,); 0 is none.
    """

    centre: Float32Array
    half: Float32Array
    is_flipped: npt.NDArray[np.bool_]
    quarter_turns: npt.NDArray[np.int64]
    brightness: Float32Array
    contrast: Float32Array
    sigma: Float32Array

    def take(self, rows: slice) -> ViewDraws:
        """Return the draws of some rows."""
        return ViewDraws(**{name: values[rows] for name, values in vars(self).items()})


def draw_views(config: ViewsConfig, count: int, rng: np.random.Generator) -> ViewDraws:
    """Return the parameters of one crop per image, each drawn by itself.

    Args:
        config: Section `adapt.views`.
        count: B.
        rng: Random numbers.

    Returns:
        The draws; the crop always lies within the image.
    """
    area = rng.uniform(*config.crop_area, count)
    ratio = np.exp(rng.uniform(np.log(ASPECT[0]), np.log(ASPECT[1]), count))
    half = np.minimum(np.stack([np.sqrt(area * ratio), np.sqrt(area / ratio)], axis=1), 1.0) / 2
    centre = half + rng.uniform(size=(count, 2)) * (1 - 2 * half)
    is_flipped = rng.uniform(size=count) < (0.5 if config.flips else 0.0)
    turns = rng.integers(0, 4, count) * int(config.turns)
    brightness, contrast = (
        1 + rng.uniform(-limit, limit, count).astype(np.float32) for limit in (config.brightness, config.contrast)
    )
    sigma = np.where(rng.uniform(size=count) < config.blur_share, rng.uniform(*BLUR_SIGMA, count), 0.0)
    return ViewDraws(
        centre.astype(np.float32),
        half.astype(np.float32),
        is_flipped,
        turns.astype(np.int64),
        brightness,
        contrast,
        sigma.astype(np.float32),
    )


def views(
    pixels: torch.Tensor, draws: ViewDraws, size: tuple[int, int], mean: Sequence[float], std: Sequence[float]
) -> torch.Tensor:
    """Return one crop of each image as the network wants it.

    Args:
        pixels: uint8 or uint16, 0 to the type's largest value for 0..1, shape (B, C, H, W), with
            C = 1 or ``len(mean)``.
        draws: What was drawn for each image.
        size: Height and width of the crops.
        mean: Channel means after scaling to 0..1.
        std: Channel standard deviations.

    Returns:
        float32, shape (B, len(mean), size[0], size[1]), normalised, channels last, rows aligned with ``pixels``.

    Raises:
        ConfigError: If the package kornia is not installed, or the channels do not fit.
    """
    geometry, enhance, filters = _kornia()
    if pixels.shape[1] not in (1, len(mean)):
        raise ConfigError(
            f"image batches must have shape (B, C, H, W) with C = 1 or the backbone's {len(mean)} channels, but this one "
            f"has shape {tuple(pixels.shape)}; set options.in_chans of the backbone to 3 for colour images."
        )
    device = pixels.device
    unit = pixels.float() / torch.iinfo(pixels.dtype).max
    matrix = torch.from_numpy(_crop_matrices(draws, (pixels.shape[2], pixels.shape[3]), size)).to(device)
    crops = geometry.warp_affine(unit, matrix, size, mode="bilinear", padding_mode="border", align_corners=True)
    crops = enhance.adjust_brightness_accumulative(crops, torch.from_numpy(draws.brightness).to(device))
    crops = enhance.adjust_contrast_with_mean_subtraction(crops, torch.from_numpy(draws.contrast).to(device))
    blurred = np.flatnonzero(draws.sigma > 0)
    if len(blurred):
        scale = max(size) / BLUR_SIDE_PX
        side = 2 * max(1, round(2 * BLUR_SIGMA[1] * scale)) + 1
        sigma = torch.from_numpy(draws.sigma[blurred] * np.float32(scale)).clamp(min=0.05).to(device)
        rows = torch.from_numpy(blurred).to(device)
        crops[rows] = filters.gaussian_blur2d(crops[rows], (side, side), sigma[:, None].expand(-1, 2))
    centre = torch.tensor(mean, device=device).view(1, -1, 1, 1)
    spread = torch.tensor(std, device=device).view(1, -1, 1, 1)
    normalised: torch.Tensor = (crops - centre) / spread  # grey meets all channels here
    return normalised.contiguous(memory_format=torch.channels_last)


def _crop_matrices(draws: ViewDraws, source: tuple[int, int], size: tuple[int, int]) -> Float32Array:
    """Map pixel indices of the source to those of the crop, (B, 2, 3): the inverse of turn, mirror, scale and shift."""
    cosine = np.array([1.0, 0.0, -1.0, 0.0])[draws.quarter_turns]
    sine = np.array([0.0, 1.0, 0.0, -1.0])[draws.quarter_turns]
    mirror = np.where(draws.is_flipped, -1.0, 1.0)
    turned = np.stack([np.stack([cosine * mirror, -sine], 1), np.stack([sine * mirror, cosine], 1)], 1)
    extent = np.array([source[1], source[0]], dtype=np.float64)
    crop = np.array([size[1], size[0]], dtype=np.float64)
    # a crop's pixel p lies at (2 p + 1) / crop - 1 in [-1, 1]; turned and scaled it is a place of the source
    linear = (extent * draws.half)[:, :, None] * turned * (2 / crop)
    shift = extent * (draws.centre + draws.half * (turned @ (1 / crop - 1))) - 0.5
    inverse = np.linalg.inv(linear)
    offset = -np.einsum("bij,bj->bi", inverse, shift)
    return np.concatenate([inverse, offset[:, :, None]], axis=2).astype(np.float32)


def _kornia() -> tuple[Any, Any, Any]:
    try:
        from kornia import enhance, filters
        from kornia.geometry import transform
    except ImportError:
        raise ConfigError(
            "adapt: the crops need the package kornia, which is not installed. Install labelclean[adapt]."
        ) from None
    return transform, enhance, filters
