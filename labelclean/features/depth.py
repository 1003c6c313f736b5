"""A backbone that also tells what a middle stage saw: the last stage knows things, a middle one edges, spots and texture.

Both come out of one pass. A defect of few pixels fills a middle stage's maximum, and is gone from the mean of the last.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch

STAGE_SHARE = 0.75  # how deep the middle stage lies: stage 4 of 5, block 9 of 12
MOST_GROWTH = 0.5


class DeepAndMiddle(torch.nn.Module):
    """The pooled output of a network beside the mean, maximum and spread over one middle stage's map.

    Each of the four parts has unit length, so that none outvotes another by the size of its numbers alone.
    A middle stage of more than `MOST_GROWTH` D / 3 channels is projected: sums of its numbers under fixed random signs,
    which keep distances (Achlioptas 2003).
    """

    def __init__(self, network: torch.nn.Module) -> None:
        """Wrap a network.

        Args:
            network: A timm model without classifier, with `forward_intermediates`.

        Raises:
            ValueError: If it has no such method.
        """
        super().__init__()
        if not hasattr(network, "forward_intermediates"):
            raise ValueError("the network has no forward_intermediates")
        self.network = network
        stages: Any = network.feature_info
        self.stage = middle_stage(len(stages))
        self.signs: torch.Tensor | None
        self.register_buffer("signs", None, persistent=False)

    def fit_width(self, pixels: torch.Tensor) -> None:
        """Look at the widths of a pass, and settle whether the middle stage is projected.

        Args:
            pixels: float32, shape (B, C, H, W).

        Raises:
            ValueError: If the network's pooled output is not what it returns as a whole.
        """
        top, middle = self._both(pixels)
        if not torch.equal(top, self.network(pixels)):
            raise ValueError("forward_intermediates ends in another output than the network itself")
        self.signs = middle_signs(top.shape[1], middle.shape[1])

    def _both(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Pooled output (B, D) and the middle stage's map (B, C, H, W)."""
        network: Any = self.network
        last, (middle,) = network.forward_intermediates(pixels, indices=[self.stage], output_fmt="NCHW")
        return network.forward_head(last, pre_logits=True), middle

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return one row per image.

        Args:
            pixels: float, shape (B, C, H, W).

        Returns:
            float32, shape (B, D + 3 M) for a middle stage of M channels, at most 1.5 D wide.
        """
        top, middle = (values.float() for values in self._both(pixels))
        return side_by_side(top, map_parts(middle), self.signs)


def middle_stage(num_stages: int) -> int:
    """Return the stage that features are taken from beside the last.

    Args:
        num_stages: Stages of a convolutional net, blocks of a transformer.

    Returns:
        Its number, from 0.

    Examples:
        >>> middle_stage(5), middle_stage(4), middle_stage(12)
        (3, 2, 8)
    """
    return round(STAGE_SHARE * (num_stages - 1))


def map_parts(middle: torch.Tensor) -> list[torch.Tensor]:
    """Return what is told of a stage's map: mean, maximum and spread of each channel.

    Args:
        middle: float, shape (B, C, H, W).

    Returns:
        Three of shape (B, C).
    """
    mean = middle.mean(dim=(2, 3))
    spread = (middle - mean[:, :, None, None]).square().mean(dim=(2, 3)).sqrt()
    return [mean, middle.amax(dim=(2, 3)), spread]


def side_by_side(top: torch.Tensor, parts: list[torch.Tensor], signs: torch.Tensor | None) -> torch.Tensor:
    """Return the pooled output and the parts of a middle stage, each of unit length, as one row per image.

    Args:
        top: float, shape (B, D).
        parts: What `map_parts` returned.
        signs: What `middle_signs` returned.

    Returns:
        float, shape (B, at most 1.5 D).
    """
    seen = torch.cat([_unit(part) for part in parts], dim=1)
    return torch.cat([_unit(top), seen if signs is None else seen @ signs], dim=1)


def middle_signs(width: int, channels: int) -> torch.Tensor | None:
    """Return what projects a middle stage's numbers to half of D; None where they are few enough.

    Args:
        width: D of the pooled output.
        channels: C of the middle stage.

    Returns:
        float32, shape (3 C, D / 2), or None.
    """
    most = int(MOST_GROWTH * width)
    return fixed_signs(3 * channels, most) if 3 * channels > most else None


def fixed_signs(rows: int, columns: int) -> torch.Tensor:
    """Return random signs that are the same on every machine, over the root of the number of columns.

    Args:
        rows: Numbers per image before.
        columns: Numbers per image after.

    Returns:
        float32, shape (rows, columns).
    """
    count = rows * columns
    drawn = hashlib.shake_256(b"labelclean depth").digest(-(-count // 8))
    bits = np.unpackbits(np.frombuffer(drawn, np.uint8))[:count].reshape(rows, columns)
    return torch.from_numpy((2.0 * bits - 1.0).astype(np.float32) / np.float32(columns**0.5))


def _unit(rows: torch.Tensor) -> torch.Tensor:
    return rows.divide(torch.linalg.vector_norm(rows, dim=1, keepdim=True).clamp_min(1e-12))
