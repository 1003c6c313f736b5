"""What an adaptation will take in memory, disk and time, told and checked before it starts."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import NamedTuple

import psutil
import torch

from labelclean.adapt.state import State, TrainingSetup
from labelclean.adapt.train import Pixels, train
from labelclean.errors import DeviceError, GateError, StorageError

MEASURE_S = 60.0
MEASURE_SHARE = 0.01
LEAST_STEPS = 3
TOGETHER_STEPS = 20
SPARE_SHARE = 0.05


class Needs(NamedTuple):
    """Bytes that the state takes, by what decides them.

    Attributes:
        networks: Both networks, gradient and optimiser, on the device.
        bank: Features and this epoch's neighbours, on the device.
        search: Similarities of one step's images to a part of the bank, on the device.
        history: Neighbours of the last V epochs, on disk.
        checkpoint: One checkpoint; two lie on the disk while one replaces the other.
    """

    networks: int
    bank: int
    search: int
    history: int
    checkpoint: int

    @property
    def device(self) -> int:
        """Bytes on the device, without the networks' activations."""
        return self.networks + self.bank + self.search

    @property
    def disk(self) -> int:
        """Bytes on the disk, without the decoded images."""
        return self.history + 2 * self.checkpoint


def measure_needs(num_images: int, num_features: int, num_weights: int, config_sizes: tuple[int, int, int]) -> Needs:
    """Return what the state of a training takes.

    Args:
        num_images: N.
        num_features: D.
        num_weights: Parameters of one network, head included.
        config_sizes: Batch size B, window V and neighbours k.

    Returns:
        Bytes.

    Examples:
        >>> needs = measure_needs(1_000_000, 384, 22_000_000, (256, 50, 10))
        >>> needs.history, needs.bank
        (4000000000, 1616000000)
    """
    batch, window, near = config_sizes
    networks = num_weights * 4 * 5  # online, momentum, gradient, two moments
    bank = num_images * (num_features * 4 + near * 8)
    history = window * num_images * near * 8
    return Needs(networks, bank, batch * min(num_images, 65_536) * 8, history, num_weights * 4 * 4 + bank)


def needs_of(setup: TrainingSetup, state: State) -> Needs:
    """Return what a training's state takes.

    Args:
        setup: Of the training.
        state: Any state of it.

    Returns:
        Bytes.
    """
    config = setup.config
    weights = sum(value.numel() for value in state.online.parameters())
    sizes = (int(config.batch_size or 0) // setup.world.size, int(config.window or 0), config.neighbours)
    return measure_needs(setup.num_images, setup.num_features, weights, sizes)


def check_fits(needs: Needs, setup: TrainingSetup, folder: Path) -> None:
    """Refuse an adaptation that cannot fit.

    Args:
        needs: Bytes needed.
        setup: Names the device and the settings.
        folder: Where checkpoints and history go.

    Raises:
        DeviceError: If the device's memory is too small.
        StorageError: If the disk is too small.
    """
    if setup.device.type == "cuda":
        free, place = torch.cuda.mem_get_info(setup.device)[0], str(setup.device)
    else:
        free, place = psutil.virtual_memory().available, "main memory"
    config = setup.config
    if needs.device > free:
        raise DeviceError(
            f"adapt: {place} must hold the training's state, {_size(needs.device)} and its activations, but has "
            f"{_size(free)} free: networks and optimiser {_size(needs.networks)}, feature bank of {setup.num_images:,} x "
            f"{setup.num_features:,} {_size(needs.bank)}, search {_size(needs.search)}. Use a smaller backbone, fewer "
            f"adapt.prototypes (now {config.prototypes:,}), a smaller adapt.batch_size, or fewer images."
        )
    room = shutil.disk_usage(folder).free
    if needs.disk > room * (1 - SPARE_SHARE):
        raise StorageError(
            f"{folder}: the disk must hold {_size(needs.disk)}, but has {_size(room)} free: history of "
            f"{config.window} epochs x {setup.num_images:,} images x {config.neighbours} neighbours "
            f"{_size(needs.history)}, two checkpoints of {_size(needs.checkpoint)}. Free space, lower adapt.window or "
            "adapt.neighbours, or set adapt.out to another disk."
        )


def measured_step_seconds(state: State, setup: TrainingSetup, pixels: Pixels) -> float:
    """Return the seconds one step takes, measured on real steps of a state that is thrown away.

    At most a minute and at most one step in a hundred of the training to come, but three.

    Args:
        state: The state before the first step; useless afterwards.
        setup: Of the training.
        pixels: Gives the stored pixels of some images.

    Returns:
        Seconds per step, the first left out.

    Raises:
        DeviceError: If the device's memory is too small for a step.
    """
    most = max(LEAST_STEPS, int(MEASURE_SHARE * setup.config.epochs * setup.steps))
    together = setup.world.size > 1  # then all must stop at the same step, whatever their clocks say
    most = min(most, TOGETHER_STEPS) if together else most
    done, began = 0, 0.0

    def is_enough() -> bool:
        return done > most or (not together and time.monotonic() - began > MEASURE_S)

    def is_due() -> bool:
        nonlocal done, began
        done += 1
        began = time.monotonic() if done == 1 else began
        return is_enough()

    try:
        for _ in train(state, setup, pixels, None, is_due=is_due):
            if is_enough():
                break
        if setup.device.type == "cuda":
            torch.cuda.synchronize(setup.device)
    except GateError:
        pass  # the training itself will say so, and at which epoch
    except torch.OutOfMemoryError:
        raise DeviceError(
            f"adapt: {setup.device} must hold a step of {setup.config.batch_size} images, but its memory is too small; "
            "lower adapt.batch_size or backbone.input_size."
        ) from None
    return (time.monotonic() - began) / max(done - 1, 1)


def plan_sentences(needs: Needs, setup: TrainingSetup, step_s: float, steps_left: int) -> list[str]:
    """Return what is told before training starts.

    Args:
        needs: Bytes needed.
        setup: Of the training.
        step_s: Seconds per step.
        steps_left: Steps to go.

    Returns:
        Sentences.
    """
    config = setup.config
    hours = step_s * steps_left / 3600
    total = f"{hours:.1f} hours" if hours >= 1 else f"{hours * 60:.0f} minutes"
    return [
        f"{setup.num_images:,} images, {int((setup.given >= 0).sum()):,} of them labelled; {config.epochs} epochs of "
        f"{setup.steps:,} steps of {config.batch_size} images; mode {config.mode}, neighbours from epoch "
        f"{int(config.window or 0) + 1}.",
        f"memory: {_size(needs.device)} on {setup.device} and the activations (networks and optimiser "
        f"{_size(needs.networks)}, bank N x D = {setup.num_images:,} x {setup.num_features:,} {_size(needs.bank)}); disk: "
        f"history V x N x k = {config.window} x {setup.num_images:,} x {config.neighbours} {_size(needs.history)}, "
        f"checkpoint {_size(needs.checkpoint)}.",
        f"time: {step_s:.3g} s per step here, about {total} for {steps_left:,} steps.",
    ]


def _size(count: float) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"
