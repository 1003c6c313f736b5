"""The training loop of AdaSim: one generator of records that stores nothing and reads no clock."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from labelclean.adapt.loss import dino_loss, moved_centre
from labelclean.adapt.measures import check_alive, effective_rank, feature_spread, neighbour_accuracy, share_of
from labelclean.adapt.neighbours import (
    History,
    WindowNeighbours,
    automatic_temperature,
    draw_partners,
    nearest_entries,
    recognises_itself,
    window_neighbours,
)
from labelclean.adapt.schedule import (
    DROPOUT_STREAM,
    PARTNER_STREAM,
    VIEW_STREAM,
    epoch_order,
    rates,
    stream,
)
from labelclean.adapt.state import EpochRecord, State, StoringDue, TrainingSetup
from labelclean.adapt.views import ViewDraws, draw_views, views
from labelclean.adapt.world import averaged, from_first, gathered
from labelclean.arrays import IntArray
from labelclean.config.adapt import AdaptConfig

_Item = TypeVar("_Item")
_Read = TypeVar("_Read")
Pixels = Callable[[IntArray], npt.NDArray[np.unsignedinteger]]


def train(
    state: State,
    setup: TrainingSetup,
    pixels: Pixels,
    history: History | None,
    *,
    is_due: Callable[[], bool] = lambda: False,
    advance: Callable[[int], None] = lambda _: None,
) -> Iterator[StoringDue | EpochRecord]:
    """Train from wherever the state stands, and stop at each moment worth storing.

    Args:
        state: Changed in place; complete whenever something is yielded.
        setup: Of the training.
        pixels: Gives the stored pixels of some images, uint8 or uint16, shape (B, C, H, W).
        history: The last V epochs' neighbours, changed in place at the end of each epoch; process 0 alone has one.
        is_due: Asked after each step whether the state should be stored now.
        advance: Told of every step's images.

    Yields:
        An `StoringDue` when storing is due, an `EpochRecord` at the end of each epoch.

    Raises:
        GateError: If training has collapsed; the state is then not worth storing.
    """
    config, world = setup.config, setup.world
    online: nn.Module = state.online
    if world.size > 1:
        online = nn.parallel.DistributedDataParallel(online)
    while state.epoch < config.epochs:
        order = epoch_order(setup.num_images, int(config.batch_size or 0), seed=setup.seed, epoch=state.epoch)
        partners = state.partners.numpy()
        share = slice(world.rank, None, world.size)
        pairs = ((rows[share], partners[rows[share]]) for rows in order[state.step :])
        for rows, (first, second) in _read_ahead(lambda pair: (pair[0], (pixels(pair[0]), pixels(pair[1]))), pairs):
            _train_step(state, online, setup, rows, _on_device(first, setup), _on_device(second, setup))
            state.step += 1
            advance(len(rows) * world.size)
            if state.step < setup.steps and is_due():
                _check_worth_storing(state, setup)
                yield StoringDue(state.epoch, state.step)
        yield _end_epoch(state, setup, history)


def _train_step(
    state: State, online: nn.Module, setup: TrainingSetup, rows: IntArray, first: torch.Tensor, second: torch.Tensor
) -> None:
    """One step: crop, compare, learn, follow, remember."""
    config, world = setup.config, setup.world
    now = rates(config, state.epoch * setup.steps + state.step, setup.steps)
    share = slice(world.rank, None, world.size)
    crops = torch.cat(
        [
            views(images, _draws(state, setup, crop).take(share), setup.size, setup.mean, setup.std)
            for crop, images in enumerate((first, second))
        ]
    )
    with torch.autocast(setup.device.type, setup.dtype, enabled=setup.dtype != torch.float32):
        with torch.no_grad():
            features, momentum_logits = state.momentum(crops)
        with _own_dropout(state, setup):
            _, online_logits = online(crops)
    momentum_logits = momentum_logits.float()
    loss = dino_loss(
        online_logits,
        momentum_logits,
        state.centre,
        online_temperature=config.online_temperature,
        momentum_temperature=config.momentum_temperature,
    )
    state.optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    learn(state, now.learning_rate, now.weight_decay, config)
    follow(state.online, state.momentum, now.momentum)
    state.centre = moved_centre(state.centre, averaged(momentum_logits.mean(dim=0), world), config.centre_momentum)
    _remember(state, setup, torch.from_numpy(rows).to(setup.device), features[: len(rows)].float())
    state.loss_sum += averaged(loss.detach().double().view(1), world)


def _draws(state: State, setup: TrainingSetup, crop: int) -> ViewDraws:
    """What is drawn for one crop of all images of a step, the same however many processes share it."""
    rng = stream(setup.seed, VIEW_STREAM, state.epoch, state.step, crop)
    return draw_views(setup.config.views, int(setup.config.batch_size or 0), rng)


def learn(state: State, learning_rate: float, weight_decay: float, config: AdaptConfig) -> None:
    """Clip the gradient and move the online network; the prototypes stand still at first.

    Args:
        state: Its online network has a gradient; changed in place.
        learning_rate: Of this step.
        weight_decay: Of this step, for all but biases and norms.
        config: Gives the clip and the epochs of standstill.
    """
    if state.epoch < config.freeze_epochs:
        state.online.head.prototypes.grad = None
    nn.utils.clip_grad_norm_(state.online.parameters(), config.clip)
    for number, group in enumerate(state.optimiser.param_groups):
        group["lr"] = learning_rate
        group["weight_decay"] = weight_decay if number == 0 else 0.0
    state.optimiser.step()


def follow(online: nn.Module, momentum: nn.Module, keep: float) -> None:
    """Move the momentum network: keep x itself + (1 - keep) x online; batch statistics are its own.

    Args:
        online: The network that learns.
        momentum: The network that follows; changed in place.
        keep: In [0, 1].
    """
    average = torch.optim.swa_utils.get_ema_multi_avg_fn(keep)  # type: ignore[no-untyped-call]
    average(list(momentum.parameters()), list(online.parameters()), 0)


def _remember(state: State, setup: TrainingSetup, rows: torch.Tensor, features: torch.Tensor) -> None:
    """Look for the nearest entries, only then replace the own ones: those found are of about one epoch ago."""
    unit = nn.functional.normalize(features, dim=1)
    index, similarity = nearest_entries(unit, state.bank, state.is_filled, setup.config.neighbours)
    rows = gathered(rows, setup.world)
    state.near_index[rows] = gathered(index, setup.world)
    state.near_similarity[rows] = gathered(similarity, setup.world)
    state.bank[rows] = gathered(unit, setup.world)
    state.is_filled[rows] = True


def _end_epoch(state: State, setup: TrainingSetup, history: History | None) -> EpochRecord:
    """Measure the epoch, let its neighbours vote and draw the partners of the next one."""
    config, own = setup.config, np.arange(setup.num_images)
    loss = float(state.loss_sum) / setup.steps
    spread, rank = feature_spread(state.bank), effective_rank(state.bank)
    check_alive(loss, spread, rank, state.epoch, config)
    partners, near = state.partners.numpy(), state.near_index.cpu().numpy()
    is_other = partners != own
    has_labels = is_other & (setup.given >= 0) & (setup.given[partners] >= 0)
    record = EpochRecord(
        epoch=state.epoch + 1,
        loss=loss,
        learning_rate=rates(config, (state.epoch + 1) * setup.steps - 1, setup.steps).learning_rate,
        temperature=state.temperature,
        bootstrapped_share=float(is_other.mean()),
        same_group_share=share_of(setup.groups == setup.groups[partners], is_other),
        partner_agreement=share_of(setup.given == setup.given[partners], has_labels),
        gate_share=math.nan,
        self_retrieval_1=float((near[:, 0] == own).mean()),
        self_retrieval_2=float((near[:, 1] == own).mean()),
        feature_spread=spread,
        effective_rank=rank,
        neighbour_accuracy=neighbour_accuracy(state.bank, setup.given, setup.is_held_out, setup.num_classes),
    )
    state.temperature, gate_share = 0.0, math.nan
    if history is not None:
        slot = state.epoch % len(history.index)
        history.index[slot], history.similarity[slot] = near, state.near_similarity.cpu().numpy()
        if state.epoch + 1 >= len(history.index):
            drawn, state.temperature, gate_share = _partners(state, setup, history, record.self_retrieval_1)
            state.partners = torch.from_numpy(drawn)
    if setup.world.size > 1:
        state.partners = from_first(state.partners.to(setup.device), setup.world).cpu()
    state.loss_sum.zero_()
    state.epoch, state.step = state.epoch + 1, 0
    return record._replace(gate_share=gate_share)


def _partners(
    state: State, setup: TrainingSetup, history: History, self_retrieval: float
) -> tuple[IntArray, float, float]:
    """Partners of the next epoch, the temperature they are drawn at, and the share of images that may choose."""
    config = setup.config
    neighbours: WindowNeighbours = window_neighbours(history, setup.groups if config.exclude_group else None)
    temperature = (
        automatic_temperature(neighbours, self_retrieval, config.bootstrap_share)
        if config.temperature == "auto"
        else config.temperature
    )
    rng = stream(setup.seed, PARTNER_STREAM, state.epoch + 1)
    drawn = draw_partners(neighbours, config.mode, temperature, rng)
    return drawn, temperature if config.mode == "adaptive" else 0.0, float(recognises_itself(neighbours).mean())


def _check_worth_storing(state: State, setup: TrainingSetup) -> None:
    """Refuse to store a collapsed state; in the first epoch too little is known but whether the loss is a number."""
    loss = float(state.loss_sum) / state.step
    if state.epoch or not math.isfinite(loss):
        check_alive(loss, feature_spread(state.bank), effective_rank(state.bank), state.epoch, setup.config)


@contextmanager
def _own_dropout(state: State, setup: TrainingSetup) -> Iterator[None]:
    """Give dropout and stochastic depth random numbers that hang on the seed and the step alone."""
    if not setup.config.drop_path:
        yield
        return
    devices = [setup.device] if setup.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        draw = stream(setup.seed, DROPOUT_STREAM, state.epoch, state.step, setup.world.rank)
        torch.random.manual_seed(int(draw.integers(2**62)))
        yield


def _on_device(images: npt.NDArray[np.unsignedinteger], setup: TrainingSetup) -> torch.Tensor:
    """Pixels on the device, copied while it is busy."""
    host = torch.from_numpy(images)
    return host.pin_memory().to(setup.device, non_blocking=True) if setup.device.type == "cuda" else host


def _read_ahead(call: Callable[[_Item], _Read], items: Iterable[_Item]) -> Iterator[_Read]:
    """Results in order; the next is read while the present one is used."""
    with ThreadPoolExecutor(1, "pixels") as executor:
        waiting = None
        for item in items:
            coming = executor.submit(call, item)
            if waiting is not None:
                yield waiting.result()
            waiting = coming
        if waiting is not None:
            yield waiting.result()
