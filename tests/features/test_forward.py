"""Features against plain arithmetic; the network stays frozen and no image sees its neighbours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from labelclean.errors import ConfigError, DeviceError
from labelclean.features.forward import extract_features

CPU = torch.device("cpu")


class ChannelMeans(torch.nn.Module):
    """The mean of each channel, so that a feature can be worked by hand."""

    def __init__(self, fits: int = 1_000) -> None:
        super().__init__()
        self.fits = fits
        self.sizes: list[int] = []

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        self.sizes.append(len(pixels))
        if len(pixels) > self.fits:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return pixels.mean(dim=(2, 3))


def small_network() -> torch.nn.Module:
    """A network with batch norm, dropout and pooling, seeded."""
    torch.manual_seed(5)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 3, padding=1),
        torch.nn.BatchNorm2d(16),
        torch.nn.ReLU(),
        torch.nn.Dropout(0.5),
        torch.nn.Conv2d(16, 32, 3, stride=2),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
    )
    return network.train()


def images(count: int, channels: int = 3, size: int = 12) -> Any:
    return np.random.default_rng(3).integers(0, 65536, (count, channels, size, size)).astype(np.uint16)


def features(module: torch.nn.Module, *batches: Any, **changes: Any) -> list[Any]:
    settings: dict[str, Any] = {
        "batch_size": 4,
        "device": CPU,
        "precision": "fp32",
        "mean": (0.5, 0.5, 0.5),
        "std": (0.5, 0.25, 0.125),
    }
    return list(extract_features(module, batches, **(settings | changes)))


def test_white_grey_and_black_by_hand() -> None:
    batch = np.zeros((2, 1, 4, 4), dtype=np.uint16)
    batch[0] = 65535
    (rows,) = features(ChannelMeans(), batch)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, [[1, 2, 4], [-1, -2, -4]], atol=1e-6)


def test_floats_in_0_to_1_mean_the_same_as_integers() -> None:
    batch = images(3)
    (as_integers,), (as_floats,) = (
        features(small_network(), one) for one in (batch, (batch / 65535).astype(np.float32))
    )
    np.testing.assert_allclose(as_floats, as_integers, atol=1e-5)


def test_grey_is_given_to_every_channel() -> None:
    grey = images(4, channels=1)
    (from_grey,), (from_three,) = (features(small_network(), one) for one in (grey, np.repeat(grey, 3, axis=1)))
    np.testing.assert_array_equal(from_grey, from_three)


def test_rows_follow_the_batches() -> None:
    batch = images(11)
    parts = features(small_network(), batch[:4], batch[4:8], batch[8:11])
    assert [len(part) for part in parts] == [4, 4, 3]
    order = np.random.default_rng(1).permutation(11)
    shuffled = features(small_network(), batch[order][:4], batch[order][4:8], batch[order][8:])
    np.testing.assert_array_equal(np.concatenate(shuffled), np.concatenate(parts)[order])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_feature_does_not_depend_on_its_batch_neighbours(precision: str) -> None:
    batch = images(8, size=33)
    (together,) = features(small_network(), batch, batch_size=8, precision=precision)
    (alone,) = features(small_network(), batch[5:6], batch_size=8, precision=precision)
    (among_white,) = features(
        small_network(), np.concatenate([np.full_like(batch[:3], 65535), batch[5:6]]), batch_size=8, precision=precision
    )
    np.testing.assert_array_equal(alone[0], together[5])
    np.testing.assert_array_equal(among_white[3], together[5])


def test_the_network_is_frozen() -> None:
    module = small_network()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    features(module, images(4), images(2))
    after = module.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not module.training
    assert all(parameter.grad is None for parameter in module.parameters())


def test_bf16_is_close_to_fp32_and_comes_back_as_float32() -> None:
    (exact,), (short,) = (features(small_network(), images(4), precision=one) for one in ("fp32", "bf16"))
    assert short.dtype == np.float32
    assert not np.array_equal(short, exact)
    np.testing.assert_allclose(short, exact, atol=0.03)


def test_the_network_sees_one_batch_size_only() -> None:
    module = ChannelMeans()
    rows = features(module, images(4), images(1), images(7), batch_size=4)
    assert [len(part) for part in rows] == [4, 1, 7]
    assert module.sizes == [4, 4, 4, 4]


def test_a_batch_that_does_not_fit_is_halved_for_good() -> None:
    module = ChannelMeans(fits=2)
    rows = features(module, images(7), images(2), batch_size=7)
    assert module.sizes == [7, 4, 2, 2, 2, 2, 2]
    expected = features(ChannelMeans(), images(7), images(2), batch_size=7)
    np.testing.assert_allclose(np.concatenate(rows), np.concatenate(expected), atol=1e-6)


def test_one_image_that_does_not_fit_is_said() -> None:
    with pytest.raises(DeviceError, match=r"cpu must hold at least one image of shape \(3, 12, 12\)"):
        features(ChannelMeans(fits=0), images(4))


def test_features_that_are_not_finite_name_their_rows() -> None:
    class Overflowing(ChannelMeans):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            means = super().forward(pixels)
            return torch.where(means > 0, torch.inf, means)

    batch = np.zeros((4, 3, 2, 2), dtype=np.uint16)
    batch[[1, 3]] = 65535
    with pytest.raises(
        ConfigError, match=r"2 of the 4 images from row 4 give NaN or infinity: rows 5, 7\. Set backbone"
    ):
        features(Overflowing(), np.zeros_like(batch), batch)


def test_colour_does_not_fit_a_grey_network() -> None:
    with pytest.raises(
        ConfigError, match=r"C = 1 or the backbone's 1 channels, but this one has shape \(2, 3, 12, 12\)"
    ):
        features(ChannelMeans(), images(2), mean=(0.5,), std=(0.5,))


def test_a_network_without_pooling_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must return shape \(4, D\) for 4 images, got \(4, 3, 12, 12\)"):
        features(torch.nn.Identity(), images(2))


def test_the_next_batch_is_fetched_before_a_result_is_waited_for() -> None:
    events: list[str] = []

    def batches() -> Iterator[Any]:
        for number in range(3):
            events.append(f"fetch {number}")
            yield images(2)

    rows = extract_features(
        ChannelMeans(), batches(), batch_size=2, device=CPU, precision="fp32", mean=(0.5,) * 3, std=(0.5,) * 3
    )
    for number, _ in enumerate(rows):
        events.append(f"rows {number}")
    assert events == ["fetch 0", "fetch 1", "rows 0", "fetch 2", "rows 1", "rows 2"]


def test_the_caller_s_torch_settings_are_left_alone() -> None:
    rows = extract_features(
        small_network(), [images(2)] * 2, batch_size=2, device=CPU, precision="bf16", mean=(0.5,) * 3, std=(0.5,) * 3
    )
    next(rows)
    assert not torch.is_inference_mode_enabled()
    assert not torch.is_autocast_enabled("cpu")


def test_no_batches_give_no_rows() -> None:
    assert features(ChannelMeans()) == []


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_gpu_gives_about_the_same_features(precision: str) -> None:
    (on_cpu,) = features(small_network(), images(4))
    (on_gpu,) = features(small_network(), images(4), device=torch.device("cuda", 0), precision=precision)
    np.testing.assert_allclose(on_gpu, on_cpu, atol=0.03)
