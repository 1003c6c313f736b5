"""Stores a training so that a killed one goes on as if nothing had happened: whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from labelclean.adapt.neighbours import History, new_history
from labelclean.adapt.state import State
from labelclean.errors import StorageError
from labelclean.storage.parquet import atomic_path

CHECKPOINT = "checkpoint.pt"
WEIGHTS = "backbone.safetensors"
_MODULES = ("online", "momentum")
_TENSORS = ("centre", "bank", "is_filled", "near_index", "near_similarity", "partners", "loss_sum")
_NUMBERS = ("temperature", "epoch", "step")


def write_checkpoint(folder: Path, state: State, history: History | None) -> None:
    """Store the state; a kill at any moment leaves this checkpoint or the one before.

    Random numbers hang on seed, epoch and step alone, so epoch and step are all of their state.
    The history's files are pushed to the disk first; they only change at the end of an epoch, to
    what a repetition would write again.

    Args:
        folder: The training's folder.
        state: The state.
        history: The history, as `open_history` gave it.

    Raises:
        StorageError: If the disk refuses; the last checkpoint is then as it was.
    """
    for array in (history.index, history.similarity) if history is not None else ():
        if isinstance(array, np.memmap):
            array.flush()
    record: dict[str, Any] = {name: getattr(state, name).state_dict() for name in (*_MODULES, "optimiser")}
    record |= {name: getattr(state, name) for name in (*_TENSORS, *_NUMBERS)}
    with atomic_path(folder / CHECKPOINT) as temporary:
        torch.save(record, temporary)


def read_checkpoint(folder: Path, state: State) -> None:
    """Put a stored state into a fresh one; nothing in the file is executed.

    Args:
        folder: The training's folder.
        state: The state before the first step of the same training; changed in place.

    Raises:
        StorageError: If the file is missing, damaged or of another training.
    """
    path = folder / CHECKPOINT
    try:
        record = torch.load(path, map_location=state.bank.device, weights_only=True)
        for name in (*_MODULES, "optimiser"):
            getattr(state, name).load_state_dict(record[name])
    except Exception as fault:  # damaged files make torch raise many types
        raise StorageError(
            f"{path}: the checkpoint must be whole and of this configuration, but: "
            f"{' '.join(str(fault).split())[:300]}. Start a new adaptation without --resume."
        ) from None
    for name in _TENSORS:
        setattr(state, name, record[name])
    state.partners = state.partners.cpu()
    for name in _NUMBERS:
        setattr(state, name, record[name])


def write_weights(folder: Path, state: State) -> Path:
    """Write the momentum network's backbone, which makes better features than the online one, as safetensors.

    Args:
        folder: Where to.
        state: The state.

    Returns:
        The file; `backbone.weights` of a config may name it.
    """
    import safetensors.torch

    path = folder / WEIGHTS
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.momentum.backbone.state_dict().items()}
    with atomic_path(path) as temporary:
        temporary.write_bytes(safetensors.torch.save(tensors, {"format": "pt"}))
    return path


def open_history(folder: Path, window: int, num_images: int, num_neighbours: int, *, resume: bool) -> History:
    """Return the history of a training, kept in files so that it needs no memory of its own.

    Args:
        folder: The training's folder.
        window: V.
        num_images: N.
        num_neighbours: k.
        resume: Take the files that are there.

    Returns:
        The history; its arrays are the files.

    Raises:
        StorageError: If the files are missing, of another shape, or the disk is too small.
    """
    paths = [folder / f"history_{name}.npy" for name in ("index", "similarity")]
    shape = (window, num_images, num_neighbours)
    try:
        if not resume:
            fresh = new_history(1, 1, 1)
            for path, empty in zip(paths, (fresh.index, fresh.similarity), strict=True):
                array = np.lib.format.open_memmap(path, mode="w+", dtype=empty.dtype, shape=shape)
                for slot in array:
                    slot[:] = empty[0, 0, 0]
                array.flush()
        index, similarity = (np.lib.format.open_memmap(path, mode="r+") for path in paths)
    except (OSError, ValueError) as fault:
        raise StorageError(
            f"{folder}: the history of the last {window} epochs must be kept in two files of "
            f"{4 * window * num_images * num_neighbours / 1e9:.2f} GB each, but: {fault}. Free space, or lower "
            "adapt.window or adapt.neighbours; a damaged history needs a new adaptation without --resume."
        ) from None
    if index.shape != shape or similarity.shape != shape:
        raise StorageError(
            f"{folder}: the history must have the shape {shape} of this configuration, but has {index.shape}. "
            "Start a new adaptation without --resume."
        )
    return History(index, similarity)
