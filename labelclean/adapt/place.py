"""Where an adaptation works: a hidden folder until it is whole, found again after a kill."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from labelclean.adapt.checkpoint import CHECKPOINT, WEIGHTS
from labelclean.config import Config
from labelclean.errors import ConfigError, listed
from labelclean.storage.parquet import read_json
from labelclean.storage.run_folders import WORK_PREFIX, new_work_folder

IMAGES, SETUP = "images.npz", "task.json"  # the name that work folders of before have
FREE_KEYS = {"adapt.out", "adapt.checkpoint_minutes", "adapt.min_effective_rank", "adapt.min_feature_spread"}
FREE_KEYS |= {"backbone.workers", "backbone.batch_size"}


class WorkPlace(NamedTuple):
    """Where an adaptation works.

    Attributes:
        work: Its hidden folder.
        run_id: Its name once published.
        resumes: It was begun before.
    """

    work: Path
    run_id: str
    resumes: bool


def setup_record(config: Config) -> dict[str, Any]:
    """Return what must be the same for a training to be resumed.

    Args:
        config: The configuration.

    Returns:
        JSON values by key.
    """
    record: dict[str, Any] = {"run.seed": config.run.seed}
    for section in ("adapt", "backbone", "decode"):
        values = getattr(config, section).model_dump(mode="json")
        record |= {f"{section}.{key}": value for key, value in values.items()}
    return {key: value for key, value in record.items() if key not in FREE_KEYS}


def place_of(config: Config, *, resume: bool) -> WorkPlace:
    """Return a new work folder, or the unfinished one.

    Args:
        config: The configuration.
        resume: Go on with the unfinished adaptation.

    Returns:
        The place.

    Raises:
        ConfigError: If there is nothing to resume, something unfinished would be lost, or settings have changed.
        StorageError: If the folder cannot be made.
    """
    out = config.adapt.out
    unfinished = sorted(out.glob(f"{WORK_PREFIX}*")) if out.is_dir() else []
    begun = [folder for folder in unfinished if (folder / CHECKPOINT).is_file()]
    for folder in unfinished:
        if folder not in begun:  # killed before the first step: nothing to lose
            shutil.rmtree(folder)
    if not begun:
        if resume:
            raise ConfigError(
                f"{out}: --resume needs an unfinished adaptation, but there is none. Start one without it."
            )
        run_id, work = new_work_folder(out, datetime.now(UTC))
        return WorkPlace(work, run_id, False)
    if not resume:
        raise ConfigError(
            f"{out}: an adaptation is unfinished in {begun[-1].name}. Go on with it by --resume, or delete that folder; "
            f"{WEIGHTS} in it holds the weights of its last whole epoch."
        )
    stored, wanted = read_json(begun[-1] / SETUP), setup_record(config)
    changed = sorted(key for key in stored.keys() | wanted.keys() if stored.get(key) != wanted.get(key))
    if changed:
        raise ConfigError(
            f"{begun[-1]}: an adaptation can only be resumed with the settings it began with, but {listed(changed)} "
            "changed. Take them back, or delete the folder and start again."
        )
    return WorkPlace(begun[-1], begun[-1].name.removeprefix(WORK_PREFIX), True)
