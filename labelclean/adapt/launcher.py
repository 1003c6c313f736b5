"""The processes that torch's own launcher started: `torchrun --nproc-per-node 8 -m labelclean.cli adapt CONFIG`."""

from __future__ import annotations

import atexit
import os
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

# DistributedDataParallel imports it, too late: once a group is there, the defaults of its functions hold that group for
# good, and gloo's threads live on after `leave_world` into the end of Python, where they may abort the process
import torch.distributed.nn

from labelclean.adapt.world import World
from labelclean.features.backbone import choose_device

PATIENCE = timedelta(days=7)


def joined_world(run_device: str) -> World:
    """Return this process's place among those that train together, and meet the others.

    Args:
        run_device: `run.device`; each process takes its own GPU unless it is `cpu`.

    Returns:
        The world; of one process where no launcher started it.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return World()
    on_gpus = _takes_gpus(run_device)
    if on_gpus:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    if not dist.is_initialized():
        # process 0 may hash and decode millions of images while the others wait
        dist.init_process_group("nccl" if on_gpus else "gloo", timeout=PATIENCE)
        if not on_gpus:
            atexit.register(_end_group)  # a process that refuses never comes to `leave_world`
    return World(int(os.environ["RANK"]), size)


def device_of(run_device: str, world: World) -> torch.device:
    """Return where this process computes.

    Args:
        run_device: `run.device`.
        world: The processes.

    Returns:
        The device.

    Raises:
        DeviceError: If a GPU is named that is not there.
    """
    if world.size > 1 and _takes_gpus(run_device):
        return choose_device(f"cuda:{os.environ['LOCAL_RANK']}")
    return choose_device(run_device)


def told_by_first(values: list[Any], world: World) -> list[Any]:
    """Return what process 0 says; the others wait for it.

    Args:
        values: Plain values; in the others, anything of the same length.
        world: The processes.

    Returns:
        Process 0's values.
    """
    if world.size > 1:
        dist.broadcast_object_list(values, 0)
    return values


def leave_world(world: World) -> None:
    """Part from the other processes in good order.

    Args:
        world: The processes.
    """
    if world.size > 1:
        dist.barrier()
        dist.destroy_process_group()


def _end_group() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def _takes_gpus(run_device: str) -> bool:
    return run_device != "cpu" and torch.cuda.is_available()
