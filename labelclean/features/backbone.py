"""Builds the frozen backbone from its configuration; the only module that knows timm."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labelclean.config import BackboneConfig
from labelclean.errors import ConfigError, DeviceError, StorageError, listed

if TYPE_CHECKING:  # torch takes seconds to import
    import torch

    from labelclean.features.forward import Precision

_OWN_OPTIONS = frozenset(
    {"cache_dir", "checkpoint_path", "features_only", "num_classes", "pretrained", "pretrained_cfg"}
    | {"pretrained_cfg_overlay", "pretrained_strict", "scriptable"}
)
_COUNTER = "num_batches_tracked"  # counts training steps, does not enter a feature, and some files leave it out


@dataclass(frozen=True)
class Backbone:
    """A frozen network and what it wants to be fed.

    Attributes:
        name: timm's name.
        module: Maps (B, C, H, W) to (B, D), in evaluation mode, on the CPU.
        input_size: Height and width in pixels.
        mean: Channel means after scaling to 0..1, one per input channel.
        std: Channel standard deviations, likewise.
        num_features: D.
        digest: SHA-256 over everything of the backbone that changes a feature: name, options,
            weights, input size, mean, std, resize mode, precision and depth.
    """

    name: str
    module: torch.nn.Module
    input_size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    num_features: int
    digest: str


def choose_device(run_device: str) -> torch.device:
    """Return the device that `run.device` names.

    Args:
        run_device: `auto`, `cpu`, `cuda` or `cuda:N`.

    Returns:
        The device; `auto` is the first GPU if there is one.

    Raises:
        DeviceError: If a GPU is named that is not there.
    """
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if run_device == "cpu" or (run_device == "auto" and count == 0):
        return torch.device("cpu")
    index = int(run_device.partition(":")[2] or 0)
    if index >= count:
        raise DeviceError(
            f"run.device {run_device!r} must name a CUDA GPU that torch sees, but it sees {count}; "
            "check the driver with nvidia-smi, or set run.device to 'auto'."
        )
    return torch.device("cuda", index)


def choose_precision(precision: str, device: torch.device) -> Precision:
    """Return the number format to compute in.

    Args:
        precision: `backbone.precision`.
        device: Where it will be computed.

    Returns:
        What was asked for; `auto` is bf16 on a GPU or CPU with bf16 arithmetic, else fp16 on a
        GPU and fp32 on a CPU.

    Raises:
        ConfigError: If fp16 is asked for on a CPU, where it is slow and overflows.
    """
    import torch

    if precision == "fp16" and device.type == "cpu":
        raise ConfigError("backbone.precision 'fp16' needs a GPU, but the device is the CPU; use 'auto' or 'fp32'.")
    if precision != "auto":
        return precision  # type: ignore[return-value]
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return "bf16" if _cpu_has_bf16() else "fp32"


def build_backbone(config: BackboneConfig, precision: Precision) -> Backbone:
    """Return the backbone with its weights loaded and checked.

    Args:
        config: The section `backbone`.
        precision: What `choose_precision` returned; enters the digest only.

    Returns:
        The backbone on the CPU; `module` is frozen by `extract_features`, not here.

    Raises:
        ConfigError: If the model, its options or its input size cannot be.
        StorageError: If the weights are missing, damaged, not those expected or not this model's.
    """
    _check_config(config)
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    module = _created(config)
    if config.weights is not None:
        _load_weights(module, config)
    return _described(module, config, precision)


def _described(module: torch.nn.Module, config: BackboneConfig, precision: Precision) -> Backbone:
    """A network and what it wants to be fed."""
    input_size, mean, std = _input_settings(module, config)
    num_features = _num_features(module, config, len(mean), input_size)
    settings = [config.name, config.options, list(input_size), list(mean), list(std), config.resize, precision]
    if config.depth != "last":  # left out otherwise, so that features of earlier versions stay valid
        settings.append(config.depth)
    digest = _digest(module, json.dumps(settings, sort_keys=True, default=str))
    if config.depth == "several":
        module = _deepened(module, config, len(mean), input_size)
        num_features = _num_features(module, config, len(mean), input_size)
    return Backbone(config.name, module.eval(), input_size, mean, std, num_features, digest)


def _deepened(module: torch.nn.Module, config: BackboneConfig, channels: int, size: tuple[int, int]) -> torch.nn.Module:
    """The network that also tells what a middle stage saw."""
    import torch

    from labelclean.features.depth import DeepAndMiddle

    try:
        deep = DeepAndMiddle(module).eval()
        with torch.inference_mode():
            deep.fit_width(torch.zeros(1, channels, *size))
    except (AttributeError, NotImplementedError, TypeError, ValueError, AssertionError) as fault:
        raise ConfigError(
            f"backbone.depth 'several' needs a timm model that shows its middle stages, but {config.name!r} does not: {_line(fault)}. "
            "Set backbone.depth to 'last'."
        ) from None
    return deep


def build_trainable(config: BackboneConfig, *, from_scratch: bool, drop_path: float, seed: int) -> Backbone:
    """Return the backbone as training starts from it.

    Args:
        config: The section `backbone`.
        from_scratch: Random weights in place of the configured ones.
        drop_path: Stochastic depth while it trains; 0 is none.
        seed: Draws the random weights; the same seed gives the same weights.

    Returns:
        The backbone on the CPU, in evaluation mode.

    Raises:
        ConfigError: If the model, its options or its input size cannot be, or it knows no stochastic depth.
        StorageError: If weights are missing, damaged, not those expected or not this model's.
    """
    import torch

    config = config.model_copy(update={"depth": "last"})  # the pooled output is what trains
    if drop_path:
        config = config.model_copy(update={"options": config.options | {"drop_path_rate": drop_path}})
    if not from_scratch:
        return build_backbone(config, "fp32")
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(seed)
        module = _created(config.model_copy(update={"pretrained": False}))
    return _described(module, config, "fp32")


def _check_config(config: BackboneConfig) -> None:
    """Refuse settings that contradict each other, all at once."""
    faults = []
    if config.weights is None and not config.pretrained:
        faults.append(
            "weights must come from somewhere, but backbone.weights is not set and backbone.pretrained is false; "
            "name a weights file, or set backbone.pretrained to true to fetch timm's"
        )
    if config.weights is not None and config.pretrained:
        faults.append("weights must have one source, but both backbone.weights and backbone.pretrained are set")
    if config.sha256 is not None and config.weights is None:
        faults.append("backbone.sha256 is the digest of the file backbone.weights, but that is not set")
    taken = sorted(_OWN_OPTIONS & set(config.options))
    if taken:
        faults.append(f"backbone.options must leave the weights and the output to labelclean, but sets {listed(taken)}")
    if faults:
        raise ConfigError(f"backbone {config.name!r}: {'; '.join(faults)}.")


def _created(config: BackboneConfig) -> torch.nn.Module:
    """The timm model, with timm's own weights if asked for."""
    import timm

    if not timm.is_model(config.name):
        near = difflib.get_close_matches(config.name, timm.list_models(), n=5, cutoff=0.4)
        hint = f"the nearest names are {listed(near)}" if near else "timm.list_models() prints all"
        raise ConfigError(f"backbone.name must be a model of timm {timm.__version__}, but is {config.name!r}; {hint}.")
    try:
        module: torch.nn.Module = timm.create_model(config.name, num_classes=0, **config.options)
    except (TypeError, ValueError, RuntimeError, AssertionError) as fault:
        raise ConfigError(
            f"backbone {config.name!r} must be built with backbone.options {config.options!r}, but timm says: "
            f"{_line(fault)}. Correct the options."
        ) from None
    if not config.pretrained:
        return module
    try:
        return timm.create_model(config.name, pretrained=True, num_classes=0, **config.options)
    except Exception as fault:  # hub, HTTP and cache libraries raise types of their own for "no network"
        raise StorageError(
            f"backbone {config.name!r}: timm's own weights must be fetched or cached (backbone.pretrained), but: "
            f"{_line(fault)}. Where there is no network, fetch the file elsewhere and name it in backbone.weights."
        ) from None


def _load_weights(module: torch.nn.Module, config: BackboneConfig) -> None:
    """Load the weights file; every tensor of the model must be in it with its shape, and no other but the classifier."""
    path = Path(str(config.weights))
    state = _without_classifier(_read_state(path, config.sha256), module)
    expected = module.state_dict()
    missing = [name for name in expected if name not in state and not name.endswith(_COUNTER)]
    unexpected = [name for name in state if name not in expected]
    shapes = [
        f"{name}: {tuple(state[name].shape)} in the file, {tuple(tensor.shape)} in the model"
        for name, tensor in expected.items()
        if name in state and state[name].shape != tensor.shape
    ]
    faults = [
        f"{len(names)} {kind}: {listed(names, 3)}"
        for kind, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
        if names
    ]
    if faults:
        raise StorageError(
            f"{path}: the weights must have the {len(expected):,} tensors of {config.name!r} with options "
            f"{config.options!r}, but some are {'; '.join(faults)}. Name the file of this model, or correct "
            "backbone.name or backbone.options."
        )
    module.load_state_dict({name: tensor for name, tensor in expected.items() if name.endswith(_COUNTER)} | state)


def _read_state(path: Path, sha256: str | None) -> dict[str, torch.Tensor]:
    """Tensors by name from a safetensors or state-dict file; nothing in the file is executed."""
    import safetensors.torch
    import torch

    try:
        data = path.read_bytes()
    except OSError as fault:
        raise StorageError(f"{path}: backbone.weights must be a readable file, but: {fault.strerror}.") from None
    digest = hashlib.sha256(data).hexdigest()
    if sha256 is not None and digest != sha256:
        raise StorageError(
            f"{path}: the weights must have the SHA-256 {sha256} (backbone.sha256), but have {digest}; "
            "copy the file again, or correct the digest if this file is meant."
        )
    if strange := _no_weights(data):
        raise StorageError(f"{path}: the weights must be a safetensors file or a state dict of tensors, but {strange}")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load(data)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as fault:  # torch's own words advise to execute whatever the file holds
        if "Unsupported" not in str(fault):
            raise StorageError(
                f"{path}: the weights must be a safetensors file or a state dict of tensors, but the file is neither. Copy the "
                "file again or convert it to safetensors."
            ) from None
        raise StorageError(
            f"{path}: the weights must be a safetensors file or a state dict of tensors alone, but the file holds other objects too, such as the "
            "settings of a training run; loading those could run a program, so it was not read. Where you trust the file, load "
            "it where it was written and save its tensors: safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')."
        ) from None
    except Exception as fault:  # damaged files make both loaders raise many types
        raise StorageError(
            f"{path}: the weights must be a safetensors file or a state dict of tensors, but: {_line(fault)}. "
            "Copy the file again or convert it to safetensors."
        ) from None
    content = content.get("state_dict", content) if isinstance(content, Mapping) else content
    if not isinstance(content, Mapping) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise StorageError(
            f"{path}: the weights must be a mapping of names to tensors, but hold {type(content).__name__} of other "
            "things; save model.state_dict() alone."
        )
    return dict(content)


def _no_weights(data: bytes) -> str:
    """What a file is that was taken for weights by mistake; empty where it may be weights."""
    start = data[:200].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith(b"version https://git-lfs"):
        return "the file is a Git LFS pointer, a note of where the weights lie. Fetch them with `git lfs pull`."
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "the file is a web page, as an address gives that shows a file instead of sending it. Download the file itself."
    if not data:
        return "the file is empty. Copy it again."
    if start.isascii() and start.translate(None, b"\t\r\n").decode("ascii").isprintable():
        return (
            f"the file is text: {' '.join(data[:80].decode('utf-8', 'replace').split())!r}. Download the file itself."
        )
    return ""


def _without_classifier(state: dict[str, torch.Tensor], module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The tensors that make features; timm says what its classifier is called."""
    named = getattr(module, "pretrained_cfg", {}).get("classifier") or ()
    starts = tuple(f"{name}." for name in ((named,) if isinstance(named, str) else named))
    own = module.state_dict()
    return {name: tensor for name, tensor in state.items() if name in own or not name.startswith(starts)}


def _input_settings(
    module: torch.nn.Module, config: BackboneConfig
) -> tuple[tuple[int, int], tuple[float, ...], tuple[float, ...]]:
    """Height and width, and mean and std with one value per input channel of the network."""
    from timm.data.config import resolve_data_config

    settings: dict[str, Any] = resolve_data_config({}, model=module)  # type: ignore[no-untyped-call]
    channels = int(config.options.get("in_chans", settings["input_size"][0]))
    height, width = config.input_size or settings["input_size"][-2:]
    mean, std = (
        _per_channel(own or tuple(settings[key]), channels, key)
        for key, own in (("mean", config.mean), ("std", config.std))
    )
    if min(std) <= 0:
        raise ConfigError(f"backbone.std must be above 0, but is {list(std)}.")
    return (int(height), int(width)), mean, std


def _per_channel(values: tuple[float, ...], channels: int, key: str) -> tuple[float, ...]:
    if len(values) == channels:
        return tuple(float(value) for value in values)
    if len(set(values)) == 1:
        return (float(values[0]),) * channels
    raise ConfigError(
        f"backbone.{key} must have one value per input channel, {channels}, but has {len(values)}: {list(values)}; "
        f"set backbone.{key}."
    )


def _num_features(module: torch.nn.Module, config: BackboneConfig, channels: int, size: tuple[int, int]) -> int:
    """D, by one forward pass, for timm's own number is not the output's width in every model."""
    import torch

    try:
        with torch.inference_mode():
            shape = tuple(module.eval()(torch.zeros(1, channels, *size)).shape)
    except (AssertionError, RuntimeError, ValueError) as fault:
        raise ConfigError(
            f"backbone {config.name!r} must accept {channels} channels of {size[0]} x {size[1]} pixels, but: "
            f"{_line(fault)}. Set backbone.input_size to a size it accepts."
        ) from None
    if len(shape) != 2:
        raise ConfigError(
            f"backbone {config.name!r} must return one feature row per image, but returns shape {shape}; "
            "take away the options that switch pooling off."
        )
    return int(shape[1])


def _digest(module: torch.nn.Module, settings: str) -> str:
    """SHA-256 over settings and all tensors: names, dtypes, shapes and bytes."""
    import torch

    digest = hashlib.sha256(settings.encode())
    for name, tensor in sorted(module.state_dict().items()):
        if name.endswith(_COUNTER):
            continue
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _cpu_has_bf16() -> bool:
    """Whether the CPU multiplies bf16 in hardware (AVX512-BF16 or AMX)."""
    import torch

    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # not in older torch
    if capabilities:
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text(encoding="ascii", errors="replace") if cpuinfo.is_file() else ""
    return "avx512_bf16" in flags or "amx_bf16" in flags


def _line(fault: Exception) -> str:
    """An exception's text on one line, without its last full stop."""
    return (" ".join(str(fault).split())[:400] or type(fault).__name__).rstrip(".")
