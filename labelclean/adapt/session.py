"""One adaptation from configuration to weights file: prepare, tell, train, store, publish."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from labelclean.adapt.checkpoint import (
    CHECKPOINT,
    WEIGHTS,
    open_history,
    read_checkpoint,
    write_checkpoint,
    write_weights,
)
from labelclean.adapt.curves import CurveRow, event_writer, read_rows, row_of, sentence, write_curves, write_rows
from labelclean.adapt.image_cache import ImageCache, open_cache
from labelclean.adapt.image_set import ImageSet, gather_images, read_image_set, write_image_set
from labelclean.adapt.launcher import device_of, joined_world, leave_world, told_by_first
from labelclean.adapt.neighbours import History
from labelclean.adapt.page import readings, write_page
from labelclean.adapt.place import IMAGES, SETUP, WorkPlace, place_of, setup_record
from labelclean.adapt.plan import check_fits, measured_step_seconds, needs_of, plan_sentences
from labelclean.adapt.schedule import settled
from labelclean.adapt.state import EpochRecord, State, TrainingSetup, build_state
from labelclean.adapt.train import train
from labelclean.adapt.world import World
from labelclean.config import Config
from labelclean.errors import ConfigError, listed
from labelclean.features.backbone import Backbone, build_trainable, choose_precision
from labelclean.features.decoder_pool import Reject
from labelclean.progress import progress
from labelclean.storage.lock import run_lock
from labelclean.storage.parquet import write_json
from labelclean.storage.run_folders import publish_run

LOG = logging.getLogger("labelclean")
CURVES_EVERY_S = 30.0


def adapt(config: Config, *, resume: bool = False) -> Path:
    """Learn a backbone and write it as a weights file.

    Args:
        config: The configuration.
        resume: Go on with the unfinished adaptation in `adapt.out`.

    Returns:
        The published folder with `backbone.safetensors`.

    Raises:
        LabelcleanError: If configuration, images, device or disk refuse, or training collapses.
    """
    world = joined_world(config.run.device)
    if world.rank:
        return _follow(config, world)
    with run_lock(config.adapt.out / ".lock") as taken_over:
        if taken_over:
            LOG.warning("%s", taken_over)
        place = place_of(config, resume=resume)
        if not place.resumes:
            images, rejects = gather_images(config, cache_size(config))
            _tell_rejects(rejects, len(images.groups), config)
            write_image_set(place.work / IMAGES, images)
            write_json(place.work / SETUP, setup_record(config))
        told_by_first([str(place.work), place.resumes], world)
        state, setup, rows = _trained(config, place, world)
        leave_world(world)
        return _published(config, place, state, setup, rows)


def build_setup(config: Config, images: ImageSet, backbone: Backbone, world: World) -> TrainingSetup:
    """Return the setup that a configuration and its images make.

    Args:
        config: The configuration.
        images: The images.
        backbone: The backbone to start from.
        world: The processes.

    Returns:
        What stays the same in the training.

    Raises:
        ConfigError: If the batch cannot be shared evenly, or there are too few images.
    """
    device = device_of(config.run.device, world)
    full = settled(config.adapt, len(images.groups), on_gpu=device.type == "cuda")
    if int(full.batch_size or 0) % world.size:
        raise ConfigError(
            f"adapt.batch_size must be a multiple of the {world.size} processes, but is {full.batch_size}; correct it."
        )
    precision = full.precision
    if precision == "auto":
        precision = "bf16" if device.type == "cuda" and choose_precision("auto", device) == "bf16" else "fp32"
    return TrainingSetup(
        config=full,
        num_images=len(images.groups),
        num_features=backbone.num_features,
        size=backbone.input_size,
        mean=backbone.mean,
        std=backbone.std,
        groups=images.groups,
        given=images.given,
        is_held_out=images.is_held_out,
        num_classes=len(images.class_names),
        seed=config.run.seed,
        device=device,
        dtype=torch.bfloat16 if precision == "bf16" else torch.float32,
        world=world,
    )


def fresh_state(config: Config, setup: TrainingSetup) -> State:
    """Return the state before the first step, the same every time.

    Args:
        config: The configuration.
        setup: Of the training.

    Returns:
        The state.
    """
    online, momentum = start_backbone(config, config.adapt.drop_path).module, start_backbone(config).module
    if setup.world.size > 1 and setup.device.type == "cuda":
        convert: Any = torch.nn.SyncBatchNorm.convert_sync_batchnorm
        online, momentum = convert(online), convert(momentum)
    return build_state(setup, online, momentum)


def cache_size(config: Config) -> tuple[int, int]:
    """Return the size of the cached images.

    Args:
        config: The configuration.

    Returns:
        Height and width in pixels.
    """
    height, width = start_backbone(config).input_size
    return round(height * config.adapt.cache_scale), round(width * config.adapt.cache_scale)


def start_backbone(config: Config, drop_path: float = 0.0) -> Backbone:
    """Return the backbone that training starts from.

    Args:
        config: The configuration.
        drop_path: Stochastic depth.

    Returns:
        The backbone, the same every time.
    """
    scratch, seed = config.adapt.from_scratch, config.run.seed
    return build_trainable(config.backbone, from_scratch=scratch, drop_path=drop_path, seed=seed)


def _trained(config: Config, place: WorkPlace, world: World) -> tuple[State, TrainingSetup, list[CurveRow]]:
    """Train in one process, alone or among others; process 0 stores and tells."""
    images = read_image_set(place.work / IMAGES)
    cache = open_cache(images.cache)
    setup = build_setup(config, images, start_backbone(config), world)
    state = fresh_state(config, setup)
    is_first = world.rank == 0
    if is_first:
        check_fits(needs_of(setup, state), setup, place.work)
    if place.resumes:
        read_checkpoint(place.work, state)
        if is_first:
            LOG.info("resuming at epoch %s of %s, step %s", state.epoch + 1, setup.config.epochs, state.step + 1)
    else:
        step_s = measured_step_seconds(state, setup, cache.pixels)
        state = fresh_state(config, setup)
        lines = plan_sentences(needs_of(setup, state), setup, step_s, setup.config.epochs * setup.steps)
        for line in lines if is_first else []:
            LOG.info("%s", line)
    if not is_first:
        for _ in train(state, setup, cache.pixels, None):
            pass
        return state, setup, []
    history = open_history(
        place.work,
        int(setup.config.window or 1),
        setup.num_images,
        setup.config.neighbours,
        resume=place.resumes,
    )
    if not place.resumes:
        write_checkpoint(place.work, state, history)
    return state, setup, _stored_training(state, setup, cache, history, place.work)


def _stored_training(
    state: State, setup: TrainingSetup, cache: ImageCache, history: History, work: Path
) -> list[CurveRow]:
    """Train on and store the state at every interval and epoch."""
    rows, write_events = read_rows(work, state.epoch), event_writer(work)
    stored = drawn = began = time.monotonic()
    done = state.step

    def is_due() -> bool:
        return time.monotonic() - stored >= 60 * setup.config.checkpoint_minutes

    total = setup.config.epochs * setup.steps * int(setup.config.batch_size or 0)
    with progress("training", total, "images") as advance:
        advance((state.epoch * setup.steps + state.step) * int(setup.config.batch_size or 0))
        try:
            for record in train(state, setup, cache.pixels, history, is_due=is_due, advance=advance):
                now = time.monotonic()
                if isinstance(record, EpochRecord):
                    learned = (setup.steps - done) * int(setup.config.batch_size or 0)
                    rows.append(row_of(record, now - began, learned / max(now - began, 1e-9)))
                    write_rows(work, rows)
                    write_weights(work, state)
                    write_events(rows[-1])
                    LOG.info("%s", sentence(rows[-1], setup.config.epochs))
                    began, done = now, 0
                write_checkpoint(work, state, history)
                stored = time.monotonic()
                if stored - drawn > CURVES_EVERY_S:
                    _drawn(work, rows, setup)
                    drawn = time.monotonic()
        finally:
            if rows:
                _drawn(work, rows, setup)
    for line in readings(rows, setup.config):
        LOG.warning("%s", line)
    return rows


def _drawn(work: Path, rows: list[CurveRow], setup: TrainingSetup) -> None:
    """Draw the epochs so far and the page around them."""
    config = setup.config
    write_curves(work, rows)
    facts = [
        f"{setup.num_images:,} images, {int((setup.given >= 0).sum()):,} of them labelled; labels were never learned from.",
        f"{len(rows)} of {config.epochs} epochs of {setup.steps:,} steps of {config.batch_size} images on {setup.device}.",
        f"Mode {config.mode}; neighbours of the last {config.window} epochs vote, from epoch {int(config.window or 0) + 1} on.",
    ]
    write_page(work, rows, config, facts)


def _published(config: Config, place: WorkPlace, state: State, setup: TrainingSetup, rows: list[CurveRow]) -> Path:
    """Leave what is of use after training, with a manifest."""
    write_weights(place.work, state)
    for leftover in (CHECKPOINT, "history_index.npy", "history_similarity.npy", IMAGES):
        (place.work / leftover).unlink(missing_ok=True)
    manifest = {
        "kind": "adaptation",
        "weights": WEIGHTS,
        "settings": setup_record(config.model_copy(update={"adapt": setup.config})),
        "num_images": setup.num_images,
        "num_labelled": int((setup.given >= 0).sum()),
        "last_epoch": rows[-1] if rows else None,
        "device": str(setup.device),
        "num_processes": setup.world.size,
        "versions": {name: version(name) for name in ("labelclean", "torch", "timm", "kornia")},
        "finished_at": datetime.now(UTC).isoformat(),
    }
    folder = publish_run(place.work, place.run_id, manifest)
    LOG.info("published %s", folder)
    return folder


def _follow(config: Config, world: World) -> Path:
    """Train beside process 0, which prepares and stores."""
    work, resumes = told_by_first([None, None], world)
    _trained(config, WorkPlace(Path(work), "", resumes), world)
    leave_world(world)
    return Path(work)


def _tell_rejects(rejects: list[Reject], num_images: int, config: Config) -> None:
    """Say which images are left out; too many stop the adaptation."""
    if not rejects:
        return
    first = listed([reject.message for reject in rejects], 3)
    LOG.warning("%s images cannot be used: %s", f"{len(rejects):,}", first)
    share = len(rejects) / max(num_images + len(rejects), 1)
    if share > config.rejects.max_share:
        raise ConfigError(
            f"adapt: at most {config.rejects.max_share:.1%} of the images may be unusable (rejects.max_share), but "
            f"{share:.1%} are: {first}. Correct them or raise the limit."
        )
