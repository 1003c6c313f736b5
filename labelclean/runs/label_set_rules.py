"""What a run of several labels per image can be asked for, and what not yet: refused by name, never half done."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from labelclean.config import Config
from labelclean.errors import ConfigError, TableError
from labelclean.runs.record import part_of
from labelclean.storage.label_sets import GIVEN
from labelclean.storage.label_sets import OF_A_RUN as OF_A_RUN_OF_SETS
from labelclean.storage.samples import OF_A_RUN

SEVERAL = "several_labels"


def is_of_label_sets(work: Path) -> bool:
    """Return whether the run that works in a folder found several labels per image."""
    return bool(part_of(work, "ingest").get(SEVERAL, False))


def own_columns(column_names: Collection[str]) -> Collection[str]:
    """Return the columns that a run of these labels writes itself, which labels do not carry through."""
    return OF_A_RUN_OF_SETS if GIVEN in column_names else OF_A_RUN


def check_class_names(config: Config, names: Sequence[str]) -> None:
    """Refuse labels that name no class.

    Args:
        config: Section `data` is read.
        names: The classes.

    Raises:
        TableError: If they name none.
    """
    if not names:
        raise TableError(f"{config.data.labels}: labels must name at least one class, but name none.")


def check_label_set_settings(config: Config) -> None:
    """Refuse settings that do not go together with several labels per image yet; all of them at once.

    Args:
        config: The configuration.

    Raises:
        ConfigError: If there are such settings.
    """
    faults = []
    if config.run.reference is not None:
        faults.append("run.reference must be left out: earlier nights are not added to several labels per image yet")
    if config.classes.ok is not None:
        faults.append("classes.ok and costs must be left out: escapes and overkill are told of one label per image")
    if config.data.label_of == "part":
        faults.append("data.label_of must be image: which of its labels a view shows is not known")
    if config.study.measured is not None:
        faults.append("study.measured must be left out: it holds how often one class is taken for another")
    if config.refine.method == "two_hot":
        faults.append("refine.method must not be two_hot: each class has two answers, and both are always in the pair")
    if faults:
        raise ConfigError(
            f"{config.data.labels}: images have several labels each: {'; '.join(faults)}. Nothing was started."
        )
