"""The arguments that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from labelclean.errors import StorageError

ConfigArgument = Annotated[
    Path, typer.Argument(metavar="CONFIG", help="The config file; `labelclean init` writes one.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Set a config key for this call, such as refine.method=adaptive. Repeatable."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print warnings and errors only.")]


def _run_folder(folder: Path) -> Path:
    if not (folder / "manifest.json").is_file():
        raise StorageError(
            f"{folder}: must be a run folder, as `labelclean run` leaves them under storage.runs, but has no "
            "manifest.json. Name one of those."
        )
    return folder


RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.", callback=_run_folder)]
