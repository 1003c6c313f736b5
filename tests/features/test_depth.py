"""Several depths: every family that the docs name shows its middle stage, and the last output stays what it was."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from labelclean.config import BackboneConfig
from labelclean.errors import ConfigError
from labelclean.features.backbone import build_backbone
from labelclean.features.depth import DeepAndMiddle, fixed_signs

# the families of docs/backbone.md at their smallest member and size, and their middle stage's channels
FAMILIES = [
    ("mobilenetv2_100", 64, {}, 96),
    ("tf_efficientnet_lite2", 64, {}, 120),
    ("resnet26", 64, {}, 1024),
    ("resnet14t", 64, {"channels": [16, 32, 64, 128], "stem_width": 16, "global_pool": "catavgmax"}, 256),
    ("convnext_atto", 64, {}, 160),
    ("vit_small_patch14_dinov2", 28, {"img_size": 28}, 384),
    ("vit_small_patch16_dinov3", 32, {"img_size": 32}, 384),
    ("vit_tiny_patch16_224", 32, {"img_size": 32}, 192),
]


def deep_network(name: str, size: int, options: dict[str, Any]) -> tuple[DeepAndMiddle, torch.Tensor]:
    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=0, **options).eval()
    pixels = torch.rand(2, 3, size, size)
    deep = DeepAndMiddle(network).eval()
    deep.fit_width(pixels)
    return deep, pixels


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size", "options", "channels"), FAMILIES)
@torch.inference_mode()
def test_every_family_shows_its_middle_stage(name: str, size: int, options: dict[str, Any], channels: int) -> None:
    deep, pixels = deep_network(name, size, options)
    last, rows = deep.network(pixels), deep(pixels)
    width = last.shape[1]
    assert rows.shape[1] == width + min(3 * channels, width // 2)
    assert torch.allclose(rows[:, :width], last / last.norm(dim=1, keepdim=True), atol=1e-6)
    assert (rows[0, width:] - rows[1, width:]).abs().max() > 0
    assert torch.isfinite(rows).all()


class TwoStages(torch.nn.Module):
    """A network whose stages can be worked by hand: the image, then twice the image."""

    feature_info = (1, 2)

    def forward_intermediates(self, pixels: torch.Tensor, indices: list[int], output_fmt: str) -> Any:
        return 2 * pixels, [(pixels, 2 * pixels)[index] for index in indices]

    def forward_head(self, last: torch.Tensor, pre_logits: bool) -> torch.Tensor:
        return last.mean(dim=(2, 3)).repeat(1, 6)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.forward_head(2 * pixels, pre_logits=True)


def test_the_parts_are_pooled_output_mean_maximum_and_spread_each_of_unit_length() -> None:
    deep = DeepAndMiddle(TwoStages())
    pixels = torch.tensor([[[[1.0, 3.0]], [[0.0, 8.0]]]])  # two channels with means 2, 4, maxima 3, 8 and spreads 1, 4
    deep.fit_width(pixels)
    parts = deep(pixels)[0].split([12, 2, 2, 2])
    wanted = [[2.0, 4.0] * 6, [2.0, 4.0], [3.0, 8.0], [1.0, 4.0]]
    for part, values in zip(parts, wanted, strict=True):
        assert torch.allclose(part, torch.tensor(values) / torch.tensor(values).norm())


def test_fixed_signs_keep_lengths_and_are_the_same_on_every_machine() -> None:
    signs = fixed_signs(3000, 500)
    assert (signs.abs() == 500**-0.5).all()
    first = f"{hashlib.shake_256(b'labelclean depth').digest(1)[0]:08b}"
    assert "".join("1" if sign > 0 else "0" for sign in signs[0, :8]) == first
    vector = torch.ones(1, 3000) / 3000**0.5
    assert (vector @ signs).norm().item() == pytest.approx(1, abs=0.1)


def test_a_network_that_shows_no_stage_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors.torch import save_file

    save_file(timm.create_model("test_resnet").state_dict(), tmp_path / "tiny.safetensors")
    settings: dict[str, Any] = {"name": "test_resnet", "weights": tmp_path / "tiny.safetensors"}
    last, several = (build_backbone(BackboneConfig(**settings, depth=depth), "fp32") for depth in ("last", "several"))
    assert last.digest != several.digest
    assert (last.num_features, several.num_features) == (96, 144)
    monkeypatch.delattr("timm.models.resnet.ResNet.forward_intermediates")
    with pytest.raises(ConfigError, match=r"'test_resnet' does not: .*Set backbone\.depth to 'last'"):
        build_backbone(BackboneConfig(**settings, depth="several"), "fp32")
