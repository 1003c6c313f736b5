"""What all sections of the configuration have in common: frozen, closed, paths from the config file's folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo


def _from_config_folder(path: Path, info: ValidationInfo) -> Path:
    """Make a path absolute, starting at the config file's folder."""
    folder = info.context.get("folder") if info.context else None
    return (Path(folder) / path) if folder is not None else path


ConfigPath = Annotated[Path, AfterValidator(_from_config_folder)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]


class Section(BaseModel):
    """A frozen section that knows its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)
