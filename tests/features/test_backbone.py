"""The backbone is exactly the one asked for, or a letter says what is wrong with it."""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from labelclean.config import BackboneConfig
from labelclean.errors import ConfigError, DeviceError, StorageError
from labelclean.features import backbone as backbone_module
from labelclean.features.backbone import Backbone, build_backbone, choose_device, choose_precision

TINY = "test_resnet"  # timm's own test network, 160 x 160
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    """Random weights of the tiny network with its classifier, as a training run would save them."""
    import timm

    torch.manual_seed(0)
    tensors: dict[str, torch.Tensor] = timm.create_model(TINY).state_dict()
    return tensors


@pytest.fixture(scope="module")
def weights(state: dict[str, torch.Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_file(state, path)
    return path


def built(path: Path, **changes: Any) -> Backbone:
    settings: dict[str, Any] = {"name": TINY, "weights": path}
    return build_backbone(BackboneConfig(**(settings | changes)), "fp32")


def test_the_weights_in_the_file_are_the_weights_in_the_network(weights: Path, state: dict[str, torch.Tensor]) -> None:
    backbone = built(weights)
    own = backbone.module.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in own.items())
    assert set(state) - set(own) == {"fc.weight", "fc.bias"}
    assert not backbone.module.training


def test_num_features_is_the_width_of_the_output(weights: Path) -> None:
    backbone = built(weights)
    with torch.inference_mode():
        rows = backbone.module(torch.zeros(2, 3, *backbone.input_size))
    assert tuple(rows.shape) == (2, backbone.num_features)


def test_what_is_not_set_comes_from_timm_and_what_is_set_wins(weights: Path) -> None:
    import timm

    cfg: Any = timm.get_pretrained_cfg(TINY)
    given, own = built(weights), built(weights, mean=(0.5,), std=(0.1, 0.2, 0.3), input_size=96)
    assert (given.mean, given.std, given.input_size) == (cfg.mean, cfg.std, cfg.input_size[1:])
    assert (own.mean, own.std, own.input_size) == ((0.5, 0.5, 0.5), (0.1, 0.2, 0.3), (96, 96))


def test_a_state_dict_file_gives_the_same_backbone_as_safetensors(
    weights: Path, state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    plain, nested = tmp_path / "plain.pth", tmp_path / "nested.pth"
    torch.save(state, plain)
    torch.save({"state_dict": state, "epoch": 3}, nested)
    assert built(weights).digest == built(plain).digest == built(nested).digest


def test_files_without_training_counters_are_whole(
    state: dict[str, torch.Tensor], weights: Path, tmp_path: Path
) -> None:
    path = tmp_path / "quantised.safetensors"
    save_file({name: tensor for name, tensor in state.items() if "num_batches_tracked" not in name}, path)
    assert built(path).digest == built(weights).digest


@pytest.mark.parametrize(
    "changes",
    [
        {"options": {"in_chans": 3, "drop_rate": 0.1}},
        {"mean": (0.1, 0.2, 0.3)},
        {"std": (0.1, 0.2, 0.3)},
        {"input_size": 96},
        {"resize": "pad"},
    ],
)
def test_the_digest_changes_with_what_changes_a_feature(weights: Path, changes: dict[str, Any]) -> None:
    assert built(weights).digest == built(weights).digest
    assert built(weights, **changes).digest != built(weights).digest


def test_the_digest_knows_one_changed_weight_and_the_precision(
    weights: Path, state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    name = next(iter(state))
    changed = state[name].clone()
    changed.view(-1)[0] += 1e-3
    path = tmp_path / "changed.safetensors"
    save_file(state | {name: changed}, path)
    config = BackboneConfig(name=TINY, weights=weights)
    digests = {build_backbone(config, "fp32").digest, build_backbone(config, "bf16").digest, built(path).digest}
    assert len(digests) == 3


def test_the_digest_ignores_what_does_not_change_a_feature(weights: Path) -> None:
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert built(weights, batch_size=7, workers=1, sha256=sha256).digest == built(weights).digest


# ---- refusals ------------------------------------------------------------------------------------


def test_tensors_that_are_missing_or_too_many_are_named(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({f"module.{name}" if name == "conv1.0.weight" else name: tensor for name, tensor in state.items()}, path)
    with pytest.raises(StorageError, match=r"1 missing: 'conv1.0.weight'; 1 unexpected: 'module.conv1.0.weight'"):
        built(path)


def test_tensors_of_another_shape_are_named(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    narrow = state["conv1.0.weight"][:, :1].contiguous()
    save_file(state | {"conv1.0.weight": narrow}, path)
    with pytest.raises(StorageError, match=r"1 of another shape: 'conv1.0.weight: \(\d+, 1, 3, 3\) in the file"):
        built(path)


def test_another_digest_is_refused(weights: Path) -> None:
    with pytest.raises(StorageError, match=f"must have the SHA-256 {'0' * 64} .* but have"):
        built(weights, sha256="0" * 64)


@pytest.mark.parametrize("name", ["cut.safetensors", "cut.pth"])
def test_damaged_files_are_refused(weights: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(StorageError, match="must be a safetensors file or a state dict of tensors"):
        built(tmp_path / name)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="must be a readable file, but: No such file"):
        built(tmp_path / "none.safetensors")


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "sprung",))

    torch.save({"conv1.weight": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(StorageError, match="must be a safetensors file or a state dict"):
        built(tmp_path / "trap.pth")
    assert not (tmp_path / "sprung").exists()


def test_a_whole_pickled_training_state_is_refused(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "loss": 0.1}, tmp_path / "state.pth")
    with pytest.raises(StorageError, match=r"save model\.state_dict\(\) alone"):
        built(tmp_path / "state.pth")


def test_a_name_that_timm_does_not_know_comes_back_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"but is 'resnet_18'; the nearest names are .*'resnet18'"):
        build_backbone(BackboneConfig(name="resnet_18", pretrained=True), "fp32")
    with pytest.raises(ConfigError, match=r"timm\.list_models\(\) prints all"):
        build_backbone(BackboneConfig(name="hf-hub:@@@@/####", pretrained=True), "fp32")


@pytest.mark.parametrize(
    ("changes", "fragment"),
    [
        ({"weights": None}, "backbone.weights is not set and backbone.pretrained is false"),
        ({"pretrained": True}, "both backbone.weights and backbone.pretrained are set"),
        ({"weights": None, "pretrained": True, "sha256": "0" * 64}, "sha256 is the digest of the file"),
        ({"options": {"num_classes": 3, "checkpoint_path": "x"}}, "but sets 'checkpoint_path', 'num_classes'"),
        ({"options": {"no_such_option": 3}}, "unexpected keyword argument 'no_such_option'"),
        ({"name": f"{TINY}.no_such_tag"}, "Invalid pretrained tag"),
        ({"options": {"global_pool": ""}}, r"must return one feature row per image, but returns shape \(1, "),
        ({"mean": (0.1, 0.2)}, r"backbone.mean must have one value per input channel, 3, but has 2"),
        ({"std": (0.0, 0.1, 0.1)}, "backbone.std must be above 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(weights: Path, changes: dict[str, Any], fragment: str) -> None:
    with pytest.raises(ConfigError, match=fragment):
        built(weights, **changes)


def test_a_size_that_the_network_does_not_accept_is_refused(tmp_path: Path) -> None:
    import timm

    path = tmp_path / "vit.safetensors"
    save_file(timm.create_model("test_vit").state_dict(), path)
    with pytest.raises(ConfigError, match=r"must accept 3 channels of 100 x 96 pixels, but: .*Set backbone.input_size"):
        built(path, name="test_vit", input_size=(100, 96))


def test_without_the_network_timm_s_own_weights_are_a_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    import timm

    real = timm.create_model

    def offline(name: str, pretrained: bool = False, **options: Any) -> Any:
        if pretrained:
            raise ConnectionError("cannot reach the hub")
        return real(name, **options)

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(StorageError, match=r"cannot reach the hub\. Where there is no network, .* backbone\.weights"):
        build_backbone(BackboneConfig(name=TINY, pretrained=True), "fp32")


# ---- device and precision ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "gpus", "device"),
    [
        ("auto", 0, "cpu"),
        ("auto", 2, "cuda:0"),
        ("cpu", 2, "cpu"),
        ("cuda", 1, "cuda:0"),
        ("cuda:1", 2, "cuda:1"),
    ],
)
def test_the_device_is_the_one_asked_for(monkeypatch: pytest.MonkeyPatch, asked: str, gpus: int, device: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert str(choose_device(asked)) == device


@pytest.mark.parametrize(("asked", "gpus"), [("cuda", 0), ("cuda:2", 2)])
def test_a_gpu_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch, asked: str, gpus: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    with pytest.raises(
        DeviceError, match=rf"run\.device '{asked}' must name a CUDA GPU that torch sees, but it sees {gpus}"
    ):
        choose_device(asked)


@pytest.mark.parametrize(("has_bf16", "precision"), [(True, "bf16"), (False, "fp32")])
def test_auto_precision_on_a_cpu_follows_its_arithmetic(
    monkeypatch: pytest.MonkeyPatch, has_bf16: bool, precision: str
) -> None:
    monkeypatch.setattr(backbone_module, "_cpu_has_bf16", lambda: has_bf16)
    assert choose_precision("auto", CPU) == precision
    assert choose_precision("fp32", CPU) == "fp32"


@pytest.mark.parametrize(("has_bf16", "precision"), [(True, "bf16"), (False, "fp16")])
def test_auto_precision_on_a_gpu_is_always_short(
    monkeypatch: pytest.MonkeyPatch, has_bf16: bool, precision: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: has_bf16)
    assert choose_precision("auto", torch.device("cuda", 0)) == precision


def test_fp16_on_a_cpu_is_refused() -> None:
    with pytest.raises(ConfigError, match="'fp16' needs a GPU"):
        choose_precision("fp16", CPU)


def test_the_cpu_s_flags_agree_with_torch() -> None:
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text(encoding="ascii", errors="replace") if cpuinfo.is_file() else ""
    assert backbone_module._cpu_has_bf16() == ("avx512_bf16" in flags or "amx_bf16" in flags)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "a Git LFS pointer"),
        (b"\n<!DOCTYPE html><html></html>", "a web page"),
        (b'{"error": "Repository not found"}', 'text: \'{"error": "Repository not found"}\''),
        (b"", "empty"),
    ],
)
@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
def test_what_was_taken_for_weights_by_mistake_is_called_by_its_name(
    tmp_path: Path, content: bytes, said: str, name: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(StorageError, match=f"the file is {said}"):
        built(tmp_path / name)


def test_a_checkpoint_with_other_objects_is_refused_without_advice_to_run_it(
    tmp_path: Path, state: dict[str, torch.Tensor]
) -> None:
    torch.save({"state_dict": state, "args": argparse.Namespace(model=TINY)}, tmp_path / "best.pth.tar")
    with pytest.raises(StorageError, match="save its tensors") as caught:
        built(tmp_path / "best.pth.tar")
    assert "weights_only" not in str(caught.value)
