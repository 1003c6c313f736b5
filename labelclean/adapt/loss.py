"""DINO's cross-entropy between two crops, its centre, and the projection head whose outputs it compares."""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import torch
from torch import nn


def dino_loss(
    online_logits: torch.Tensor,
    momentum_logits: torch.Tensor,
    centre: torch.Tensor,
    *,
    online_temperature: float,
    momentum_temperature: float,
) -> torch.Tensor:
    """Return the cross-entropy of each crop's online output against the other crop's momentum output (P2 [8], DINO [3] eq. 1).

    H = - sum_p P_momentum(other crop)[p] log P_online(crop)[p], both softmax of logits over their
    temperature, the momentum logits less the centre; averaged over both crops and the batch.

    Args:
        online_logits: float, shape (2 B, P): crop 1 of all images, then crop 2.
        momentum_logits: float, shape (2 B, P), likewise; no gradient flows into it.
        centre: float32, shape (P,).
        online_temperature: Above 0.
        momentum_temperature: Above 0.

    Returns:
        Scalar, float32, in nats.
    """
    log_probs = nn.functional.log_softmax(online_logits.float() / online_temperature, dim=1)
    targets = nn.functional.softmax((momentum_logits.detach().float() - centre) / momentum_temperature, dim=1)
    other = targets.roll(len(targets) // 2, dims=0)
    return -(other * log_probs).sum(dim=1).mean()


def moved_centre(centre: torch.Tensor, batch_mean: torch.Tensor, keep: float) -> torch.Tensor:
    """Return the centre after one step: keep x centre + (1 - keep) x mean of the momentum logits.

    Args:
        centre: float32, shape (P,).
        batch_mean: Mean of the momentum logits over both crops and all devices, float32, shape (P,).
        keep: In [0, 1].

    Returns:
        float32, shape (P,).
    """
    return centre * keep + batch_mean * (1 - keep)


class ProjectionHead(nn.Module):
    """Three layers to a bottleneck of unit length, then its cosines to P prototypes of unit length.

    Args:
        num_features: D.
        width: Of the hidden layers.
        bottleneck: Of the unit vector.
        prototypes: P.
        generator: Draws the first weights.
    """

    def __init__(
        self, num_features: int, width: int, bottleneck: int, prototypes: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        sizes = (num_features, width, width, bottleneck)
        self.layers = nn.ModuleList(nn.Linear(one, other) for one, other in pairwise(sizes))
        self.prototypes = nn.Parameter(torch.empty(prototypes, bottleneck))
        for layer in self.layers:
            linear = cast(nn.Linear, layer)
            nn.init.trunc_normal_(linear.weight, std=0.02, generator=generator)
            nn.init.zeros_(linear.bias)
        nn.init.trunc_normal_(self.prototypes, std=1.0, generator=generator)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return float logits in [-1, 1], shape (B, P), of features, shape (B, D)."""
        hidden = features
        for number, layer in enumerate(self.layers):
            hidden = layer(nn.functional.gelu(hidden) if number else hidden)
        return nn.functional.linear(
            nn.functional.normalize(hidden, dim=1), nn.functional.normalize(self.prototypes, dim=1)
        )


class Network(nn.Module):
    """A backbone with a projection head: what both the online and the momentum network are.

    Args:
        backbone: Maps (B, C, H, W) to (B, D).
        head: Maps (B, D) to (B, P).
    """

    def __init__(self, backbone: nn.Module, head: ProjectionHead) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return features, shape (B, D), and logits, shape (B, P)."""
        features = self.backbone(images)
        return features, self.head(features)
