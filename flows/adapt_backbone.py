"""The flow that learns a backbone: one long task, resumed where a killed run stood."""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from labelclean.storage.parquet import read_config


@flow(name="adapt-backbone", persist_result=False, result_serializer="json")
def adapt_backbone(config_path: str, overrides: list[str] | None = None, *, resume: bool = False) -> str:
    """Learn a backbone from one data set's images.

    Args:
        config_path: The config file.
        overrides: `section.key=value` items.
        resume: Go on with the unfinished adaptation.

    Returns:
        The published folder with `backbone.safetensors`.

    Raises:
        LabelcleanError: If configuration, images, device or disk refuse, or training collapses.
    """
    from labelclean.adapt.session import adapt

    return str(adapt(read_config(Path(config_path), overrides or []), resume=resume))
