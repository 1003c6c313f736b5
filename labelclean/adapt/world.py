"""The processes that train together, started by torch's own launcher; one process is a world too."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.distributed as dist


class World(NamedTuple):
    """Who trains.

    Attributes:
        rank: This process, from 0; process 0 stores and tells.
        size: All processes.
    """

    rank: int = 0
    size: int = 1


def gathered(values: torch.Tensor, world: World) -> torch.Tensor:
    """Return the rows of all processes, those of process 0 first; every process gets the same.

    Args:
        values: Shape (B, ...), the same in every process.
        world: The processes.

    Returns:
        Shape (size x B, ...).
    """
    if world.size == 1:
        return values
    parts = [torch.empty_like(values) for _ in range(world.size)]
    dist.all_gather(parts, values.contiguous())
    return torch.cat(parts)


def averaged(values: torch.Tensor, world: World) -> torch.Tensor:
    """Return the mean over all processes.

    Args:
        values: The same shape in every process.
        world: The processes.

    Returns:
        The same shape.
    """
    if world.size > 1:
        dist.all_reduce(values)
        values = values / world.size
    return values


def from_first(values: torch.Tensor, world: World) -> torch.Tensor:
    """Return the values of process 0, written into ``values`` in the others.

    Args:
        values: The same shape in every process.
        world: The processes.

    Returns:
        ``values``.
    """
    if world.size > 1:
        dist.broadcast(values, 0)
    return values
