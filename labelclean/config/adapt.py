"""The section `adapt` of the configuration: how a backbone is learned from unlabelled images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from labelclean.sections import ConfigPath, Section, Share

Mode = Literal["adaptive", "naive", "plain"]


class ViewsConfig(Section):
    """How two crops of an image may differ; every number is drawn per image.

    Attributes:
        crop_area: Least and largest share of the image that a crop shows.
        flips: Mirror half of the crops; false where left and right tell classes apart.
        turns: Turn crops by right angles; false where the direction tells classes apart.
        brightness: Largest relative change of brightness.
        contrast: Largest relative change of contrast.
        blur_share: Share of the crops that are blurred; 0 where sharpness tells classes apart.
    """

    crop_area: tuple[float, float] = (0.4, 1.0)
    flips: bool = True
    turns: bool = True
    brightness: Annotated[float, Field(ge=0, lt=1)] = 0.4
    contrast: Annotated[float, Field(ge=0, lt=1)] = 0.4
    blur_share: Share = 0.5

    @field_validator("crop_area")
    @classmethod
    def _rises_in_0_to_1(cls, area: tuple[float, float]) -> tuple[float, float]:
        if not 0 < area[0] <= area[1] <= 1:
            raise ValueError("must be two shares of the image, the smaller first, above 0 and at most 1")
        return area


class AdaptConfig(Section):
    """How `labelclean adapt` learns a backbone from unlabelled images (AdaSim).

    Attributes:
        mode: `plain` compares an image with itself (DINO), `naive` always with a neighbour,
            `adaptive` with a neighbour where the image recognises its own past (AdaSim).
        images: Folder with further images without labels; default: the labelled images alone.
        out: Holds one folder per adaptation and nothing else.
        from_scratch: Start from random weights in place of those of section `backbone`.
        epochs: Passes over all images.
        batch_size: Images per step, on all devices together; default: 64 on CPU, 256 on GPU.
        window: Epochs whose neighbours vote, V, and first epoch that uses them; default: a
            quarter of the epochs, at most 50.
        neighbours: Nearest images remembered per image and epoch, k.
        temperature: How freely a partner is drawn: 0 is plain, large is naive; `auto` follows
            the self-retrieval rate.
        bootstrap_share: Under temperature `auto`: share of images that shall get a neighbour if
            every image recognised its own past.
        exclude_group: Never draw a partner of the same `group_id` or near-duplicate set.
        prototypes: Outputs of the projection head; default: about half the number of images,
            64 to 65,536.
        head_width: Width of the projection head's hidden layers.
        bottleneck: Width of its last hidden layer.
        learning_rate: Highest, for 256 images per step; it grows with batch_size.
        final_learning_rate: At the end.
        warmup_epochs: Epochs until the highest learning rate; default: a tenth, at most 10.
        weight_decay: At the start and at the end.
        clip: Largest norm of the gradient.
        freeze_epochs: Epochs during which the prototypes stand still.
        drop_path: Stochastic depth of the online network; 0.1 is usual for ViT.
        online_temperature: Of the online network's softmax.
        momentum_temperature: Of the momentum network's softmax.
        centre_momentum: How slowly the centre of the momentum network's outputs moves.
        momentum: How slowly the momentum network follows at the start; 1 at the end.
        precision: `auto` is bf16 on a GPU that computes it, else fp32.
        cache_scale: Side of the cached images over the backbone's input size; more keeps crops
            sharper and takes more disk.
        cache_bits: 16 keeps all of a camera's depth, 8 halves the disk.
        checkpoint_minutes: A killed run loses at most this much.
        held_out_share: Share of the labelled images whose label is told by neighbours to
            measure progress; all images are trained on, none by its label.
        min_effective_rank: Fewer independent directions in the features than this is a collapse.
        min_feature_spread: Features closer to each other than this are a collapse.
    """

    mode: Mode = "adaptive"
    images: ConfigPath | None = None
    out: ConfigPath = Field(default=Path("adapted"), validate_default=True)
    from_scratch: bool = False
    epochs: int = Field(default=100, ge=1)
    batch_size: int | None = Field(default=None, ge=2)
    window: int | None = Field(default=None, ge=1, le=200)
    neighbours: int = Field(default=10, ge=2, le=100)
    temperature: Annotated[float, Field(ge=0)] | Literal["auto"] = 0.001
    bootstrap_share: Share = 0.5
    exclude_group: bool = True
    prototypes: int | None = Field(default=None, ge=2)
    head_width: int = Field(default=2048, ge=1)
    bottleneck: int = Field(default=256, ge=1)
    learning_rate: float = Field(default=5e-4, gt=0)
    final_learning_rate: float = Field(default=1e-6, ge=0)
    warmup_epochs: int | None = Field(default=None, ge=0)
    weight_decay: tuple[float, float] = (0.04, 0.4)
    clip: float = Field(default=3.0, gt=0)
    freeze_epochs: int = Field(default=1, ge=0)
    drop_path: float = Field(default=0.0, ge=0, lt=1)
    online_temperature: float = Field(default=0.1, gt=0)
    momentum_temperature: float = Field(default=0.04, gt=0)
    centre_momentum: float = Field(default=0.9, ge=0, lt=1)
    momentum: float = Field(default=0.996, ge=0, lt=1)
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    cache_scale: float = Field(default=1.25, ge=1, le=4)
    cache_bits: Literal[8, 16] = 16
    checkpoint_minutes: float = Field(default=10.0, ge=0)
    held_out_share: Share = 0.2
    min_effective_rank: float = Field(default=1.5, ge=1)
    min_feature_spread: float = Field(default=0.01, ge=0)
    views: ViewsConfig = ViewsConfig()
