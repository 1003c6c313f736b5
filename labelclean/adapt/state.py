"""What a training is made of: the setup that stays, the state that changes, the records that are told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import nn

from labelclean.adapt.loss import Network, ProjectionHead
from labelclean.adapt.schedule import num_steps
from labelclean.adapt.world import World
from labelclean.arrays import BoolArray, IntArray
from labelclean.config.adapt import AdaptConfig


@dataclass(frozen=True)
class TrainingSetup:
    """What stays the same from the first step to the last.

    Attributes:
        config: Settled settings.
        num_images: N.
        num_features: D.
        size: Height and width of the crops.
        mean: Channel means after scaling to 0..1.
        std: Channel standard deviations.
        groups: Group of each image, near-duplicate sets joined, int64, shape (N,).
        given: Given class, int64, shape (N,), -1 where there is none; measured with, never learned from.
        is_held_out: Whose label is told by neighbours to measure progress, bool, shape (N,).
        num_classes: K.
        seed: Feeds every draw.
        device: Where to compute.
        dtype: Of the networks' arithmetic: float32 or bfloat16.
        world: The processes.
    """

    config: AdaptConfig
    num_images: int
    num_features: int
    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    groups: IntArray
    given: IntArray
    is_held_out: BoolArray
    num_classes: int
    seed: int
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float32
    world: World = field(default_factory=World)

    @property
    def steps(self) -> int:
        """Steps of one epoch."""
        return num_steps(self.config, self.num_images)


@dataclass
class State:
    """All that changes; a checkpoint of it goes on as if nothing had happened.

    Attributes:
        online: The network that learns.
        momentum: The network that follows it and makes the features.
        optimiser: AdamW of the online network.
        centre: Mean of the momentum logits, float32, shape (P,).
        bank: Last unit feature of each image, float32, shape (N, D).
        is_filled: Entries of the bank that hold one, bool, shape (N,).
        near_index: This epoch's nearest entries so far, int32, shape (N, k).
        near_similarity: Their similarities, float32, shape (N, k).
        partners: Partner of each image in this epoch, int64, shape (N,).
        temperature: At which they were drawn.
        loss_sum: Sum of this epoch's losses so far, float64, shape (1,).
        epoch: Epochs done.
        step: Steps of this epoch done.
    """

    online: Network
    momentum: Network
    optimiser: torch.optim.Optimizer
    centre: torch.Tensor
    bank: torch.Tensor
    is_filled: torch.Tensor
    near_index: torch.Tensor
    near_similarity: torch.Tensor
    partners: torch.Tensor
    temperature: float
    loss_sum: torch.Tensor
    epoch: int = 0
    step: int = 0


class StoringDue(NamedTuple):
    """A good moment to store the state within an epoch."""

    epoch: int
    step: int


class EpochRecord(NamedTuple):
    """What one epoch was like; NaN where a number does not exist.

    Attributes:
        epoch: Counts from 1.
        loss: Mean DINO cross-entropy, nats.
        learning_rate: Of the last step.
        temperature: At which this epoch's partners were drawn.
        bootstrapped_share: Images whose partner was another image.
        same_group_share: Of those, partners of the same group or near-duplicate set.
        partner_agreement: Of those with two given labels, pairs that agree.
        gate_share: Images that will recognise their own past over the window, hence may choose in the next epoch.
        self_retrieval_1: Images whose nearest entry was their own.
        self_retrieval_2: Images whose second nearest entry was their own.
        feature_spread: 0 when all features are the same.
        effective_rank: Directions in which features really differ.
        neighbour_accuracy: Held-out given labels told by the neighbours' given labels.
    """

    epoch: int
    loss: float
    learning_rate: float
    temperature: float
    bootstrapped_share: float
    same_group_share: float
    partner_agreement: float
    gate_share: float
    self_retrieval_1: float
    self_retrieval_2: float
    feature_spread: float
    effective_rank: float
    neighbour_accuracy: float


def keep_statistics(backbone: nn.Module) -> None:
    """Let batch norms go on with the means and variances that came with the weights.

    A small batch of one factory's images has others, and where a weights file holds norms that were folded for inference,
    its own are no statistics of anything: the features of such a MobileNetV2 fell to chance before the first step.

    Args:
        backbone: Its norms are put in evaluation mode; their weights and biases still learn.
    """
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.SyncBatchNorm):
            module.eval()


def build_state(setup: TrainingSetup, online_backbone: nn.Module, momentum_backbone: nn.Module) -> State:
    """Return the state before the first step.

    Args:
        setup: Of the training.
        online_backbone: Maps (B, C, H, W) to (B, D), on the CPU.
        momentum_backbone: The same network with the same weights.

    Returns:
        The state, on the setup's device; the heads' weights hang on the seed alone.
    """
    config, device, count = setup.config, setup.device, setup.num_images

    def network(backbone: nn.Module) -> Network:
        draws = torch.Generator().manual_seed(setup.seed)
        prototypes = int(config.prototypes or 0)
        head = ProjectionHead(setup.num_features, config.head_width, config.bottleneck, prototypes, draws)
        whole = Network(backbone, head).train()
        if not config.from_scratch:
            keep_statistics(backbone)
        return whole.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]

    online, momentum = network(online_backbone), network(momentum_backbone)
    momentum.requires_grad_(False)
    decayed: dict[str, Any] = {"params": [value for value in online.parameters() if value.ndim > 1]}
    others: dict[str, Any] = {"params": [value for value in online.parameters() if value.ndim <= 1]}
    optimiser = torch.optim.AdamW([decayed, others], lr=0.0)
    shape = (count, config.neighbours)
    return State(
        online=online,
        momentum=momentum,
        optimiser=optimiser,
        centre=torch.zeros(len(online.head.prototypes), device=device),
        bank=torch.zeros(count, setup.num_features, device=device),
        is_filled=torch.zeros(count, dtype=torch.bool, device=device),
        near_index=torch.full(shape, -1, dtype=torch.int32, device=device),
        near_similarity=torch.zeros(shape, device=device),
        partners=torch.arange(count),
        temperature=0.0,
        loss_sum=torch.zeros(1, dtype=torch.float64, device=device),
    )
