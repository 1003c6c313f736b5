"""Runs image batches through a frozen network (given to it) and returns one feature row per sample."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from labelclean.errors import ConfigError, DeviceError
from labelclean.features.engine import OnnxNetwork

Precision = Literal["fp32", "bf16", "fp16"]
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def extract_features(
    module: torch.nn.Module | OnnxNetwork,
    batches: Iterable[npt.NDArray[Any]],
    *,
    batch_size: int,
    device: torch.device,
    precision: Precision,
    mean: Sequence[float],
    std: Sequence[float],
) -> Iterator[npt.NDArray[np.float32]]:
    """Yield the pooled output of a frozen network for each batch.

    The network always sees batches of ``batch_size``; a smaller one is filled up with copies of
    its last image, for on many kernels a feature depends a little on the batch's size. On a GPU
    the next batch is fetched while the present one is computed, and a batch that does not fit
    is halved, for all batches after it too.

    Args:
        module: Maps float (B, C, H, W) to (B, D). A torch module is put into evaluation mode and moved
            to the device; its parameters and statistics keep their values.
        batches: uint16 (0..65535 for 0..1) or float32 in [0, 1], each of shape (B, C, H, W)
            with C = 1 (grey, given to every input channel) or C = ``len(mean)``.
        batch_size: Images per forward pass.
        device: Where to compute.
        precision: fp32, or the dtype of automatic mixed precision.
        mean: Channel means after scaling to 0..1, one per input channel of the network.
        std: Channel standard deviations, likewise.

    Yields:
        float32, shape (B, D), finite, rows aligned with the batch; one per batch.

    Raises:
        ConfigError: If the images' channels do not fit the network, or a feature is not finite.
        DeviceError: If not even one image fits into the device's memory.
        ValueError: If the network does not return one row per image.
    """
    if isinstance(module, torch.nn.Module):
        module.eval().to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    scale, shift = _normalisation(mean, std, device)
    first_row, waiting = 0, None
    for batch in batches:
        _check_channels(batch, len(mean))
        slices, batch_size = _slices(module, batch, batch_size, scale, shift, precision)
        if waiting is not None:  # the device is busy with this batch while the last one is fetched
            yield _rows(waiting, first_row)
            first_row += len(waiting)
        waiting = slices
    if waiting is not None:
        yield _rows(waiting, first_row)


def _normalisation(
    mean: Sequence[float], std: Sequence[float], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scale and shift, (1, C, 1, 1), that turn 0..1 into the network's input."""
    spread = torch.tensor(std, dtype=torch.float32, device=device).view(1, -1, 1, 1)
    centre = torch.tensor(mean, dtype=torch.float32, device=device).view(1, -1, 1, 1)
    return 1.0 / spread, -centre / spread


def _check_channels(batch: npt.NDArray[Any], wanted: int) -> None:
    if batch.ndim != 4 or batch.shape[1] not in (1, wanted):
        raise ConfigError(
            f"image batches must have shape (B, C, H, W) with C = 1 or the backbone's {wanted} channels, but this one "
            f"has shape {batch.shape}; set options.in_chans of the backbone to 3 for colour images."
        )


def _slices(
    module: torch.nn.Module | OnnxNetwork,
    batch: npt.NDArray[Any],
    size: int,
    scale: torch.Tensor,
    shift: torch.Tensor,
    precision: Precision,
) -> tuple[torch.Tensor, int]:
    """Features of a batch, still on the device, and the batch size that fitted."""
    while True:
        try:
            parts = [
                _forward(module, batch[start : start + size], size, scale, shift, precision)
                for start in range(0, len(batch), size)
            ]
            return torch.cat(parts), size
        except torch.OutOfMemoryError:
            if size == 1:
                raise DeviceError(
                    f"{scale.device} must hold at least one image of shape {batch.shape[1:]} and the backbone, but its "
                    "memory is too small; free it, lower backbone.input_size or set run.device to 'cpu'."
                ) from None
        size = (size + 1) // 2
        if scale.device.type == "cuda":
            torch.cuda.empty_cache()


def _forward(
    module: torch.nn.Module | OnnxNetwork,
    images: npt.NDArray[Any],
    size: int,
    scale: torch.Tensor,
    shift: torch.Tensor,
    precision: Precision,
) -> torch.Tensor:
    """Features of up to `size` images, computed as a batch of exactly `size`."""
    count, device = len(images), scale.device
    if count < size:
        images = np.concatenate([images, np.repeat(images[-1:], size - count, axis=0)])
    host = torch.from_numpy(np.ascontiguousarray(images))
    if device.type == "cuda":
        host = host.pin_memory()
    with torch.inference_mode(), torch.autocast(device.type, _DTYPES[precision], enabled=precision != "fp32"):
        pixels = host.to(device, non_blocking=True).float()
        if host.dtype == torch.uint16:
            scale = scale / 65535.0
        pixels = torch.addcmul(shift, pixels, scale)  # one pass; grey meets all channels here
        if isinstance(module, torch.nn.Module):
            pixels = pixels.contiguous(memory_format=torch.channels_last)
        features: torch.Tensor = module(pixels)
    if features.ndim != 2 or len(features) != size:
        raise ValueError(f"the network must return shape ({size}, D) for {size} images, got {tuple(features.shape)}")
    return features[:count].float()


def _rows(features: torch.Tensor, first_row: int) -> npt.NDArray[np.float32]:
    """Features on the host, checked to be finite."""
    rows: npt.NDArray[np.float32] = features.cpu().numpy()
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(bad):
        shown = ", ".join(str(first_row + row) for row in bad[:5])
        raise ConfigError(
            f"features must be finite, but {len(bad)} of the {len(rows)} images from row {first_row} give NaN or "
            f"infinity: rows {shown}{' ...' if len(bad) > 5 else ''}. Set backbone.precision to 'fp32'; if that does "
            "not help, the backbone's weights are damaged."
        )
    return rows
