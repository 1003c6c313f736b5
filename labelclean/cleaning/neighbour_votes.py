"""What neighbours vote with that may be any of many samples: the given labels of all samples, or the targets that a pass left."""

from __future__ import annotations

from pathlib import Path

from labelclean.cleaning.neighbour_pass import FOLDER
from labelclean.cleaning.passes import ShardSet
from labelclean.cleaning.shard_labels import sample_starts
from labelclean.cleaning.vote_targets import VoteTargets, join_targets, write_given_targets
from labelclean.storage.parquet import make_folder


def given_votes(shard_set: ShardSet) -> VoteTargets:
    """Return votes with the given labels of all samples, written unless they are there.

    Args:
        shard_set: The shards.

    Returns:
        The votes.
    """
    path = _path(shard_set, "given")
    if not path.exists():
        write_given_targets(path, shard_set.labels, sample_starts(shard_set.labels), shard_set.num_classes)
    return VoteTargets(path, shard_set.num_classes)


def kept_votes_parts(shard_set: ShardSet, name: str) -> tuple[Path, ...]:
    """Return where a pass (`passes.sums_over`) writes the targets of each shard.

    Args:
        shard_set: The shards.
        name: The pass.

    Returns:
        A file per shard.
    """
    folder = _path(shard_set, name).with_suffix("")
    make_folder(folder)
    return tuple(folder / f"part-{number:05d}.npy" for number in range(len(shard_set.shards)))


def kept_votes(shard_set: ShardSet, name: str, parts: tuple[Path, ...]) -> VoteTargets:
    """Return votes with the targets that a finished pass wrote.

    Args:
        shard_set: The shards.
        name: The pass.
        parts: What `kept_votes_parts` gave.

    Returns:
        The votes.
    """
    path = _path(shard_set, name)
    if not path.exists():
        join_targets(path, parts, int(sample_starts(shard_set.labels)[-1]), shard_set.num_classes)
    return VoteTargets(path, shard_set.num_classes)


def _path(shard_set: ShardSet, name: str) -> Path:
    return shard_set.folder / FOLDER / f"votes-{name}-{shard_set.digest[:16]}.npy"
