"""What neighbours vote with that may be any of many samples: the given labels of all samples, or the targets that a pass left."""

from __future__ import annotations

from pathlib import Path

from labelclean.cleaning.neighbour_pass import FOLDER
from labelclean.cleaning.passes import Task
from labelclean.cleaning.shard_labels import sample_starts
from labelclean.cleaning.vote_targets import VoteTargets, join_targets, write_given_targets
from labelclean.storage.parquet import make_folder


def given_votes(task: Task) -> VoteTargets:
    """Return votes with the given labels of all samples, written unless they are there.

    Args:
        task: The shards.

    Returns:
        The votes.
    """
    path = _path(task, "given")
    if not path.exists():
        write_given_targets(path, task.labels, sample_starts(task.labels), task.num_classes)
    return VoteTargets(path, task.num_classes)


def kept_votes_parts(task: Task, name: str) -> tuple[Path, ...]:
    """Return where a pass (`passes.sums_over`) writes the targets of each shard.

    Args:
        task: The shards.
        name: The pass.

    Returns:
        A file per shard.
    """
    folder = _path(task, name).with_suffix("")
    make_folder(folder)
    return tuple(folder / f"part-{number:05d}.npy" for number in range(len(task.shards)))


def kept_votes(task: Task, name: str, parts: tuple[Path, ...]) -> VoteTargets:
    """Return votes with the targets that a finished pass wrote.

    Args:
        task: The shards.
        name: The pass.
        parts: What `kept_votes_parts` gave.

    Returns:
        The votes.
    """
    path = _path(task, name)
    if not path.exists():
        join_targets(path, parts, int(sample_starts(task.labels)[-1]), task.num_classes)
    return VoteTargets(path, task.num_classes)


def _path(task: Task, name: str) -> Path:
    return task.folder / FOLDER / f"votes-{name}-{task.digest[:16]}.npy"
