"""Pushes an export to a running Label Studio and pulls its answers, through Label Studio's own SDK.

Address and key come from the environment only: LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from labelclean.errors import ExchangeError
from labelclean.review.exchange import label_studio
from labelclean.review.exchange.foreign_file import foreign_json, foreign_text
from labelclean.review.exchange.manifest import read_manifest
from labelclean.storage.parquet import read_json, write_json

URL_VARIABLE, KEY_VARIABLE = "LABEL_STUDIO_URL", "LABEL_STUDIO_API_KEY"
PUSHED = "label_studio_project.json"
_MODULES = ("httpx", "label_studio_sdk", "label_studio_sdk.core.api_error")  # heavy, and an extra: imported late


def push_export(folder: Path, environ: Mapping[str, str], title: str | None = None) -> int:
    """Make a project of an export on the server, with its tasks and suggestions.

    Tasks that the project holds already are not sent again, so a push that was cut off is
    finished by the next.

    Args:
        folder: A finished export for Label Studio, at the same place for the server.
        environ: Environment variables.
        title: The project's title; default: data set and run.

    Returns:
        The project's number, which is also left in the folder.

    Raises:
        ExchangeError: If the SDK or the key is missing, or the server refuses.
    """
    manifest = read_manifest(folder)
    if manifest.tool != label_studio.TOOL:
        raise ExchangeError(f"{folder}: the export was made for {manifest.tool!r}; only Label Studio is pushed to.")
    place = folder / PUSHED
    with _session(environ) as client:
        if place.exists():
            project = int(read_json(place)["project"])
        else:
            made = client.projects.create(
                title=(title or f"{manifest.dataset} {manifest.run_id}")[:50],
                label_config=(folder / label_studio.CONFIG).read_text(encoding="utf-8"),
            )
            project = int(made.id)
            write_json(place, {"project": project, "url": environ[URL_VARIABLE], "run_id": manifest.run_id})
            client.import_storage.local.create(
                project=project, path=str(folder.resolve()), use_blob_urls=False, title="labelclean previews"
            )
        held = {_key(task) for task in client.tasks.list(project=project, fields="all")}
        for part in sorted(folder.glob(f"part_*/{label_studio.TASKS}")):
            tasks = [task for task in foreign_json(foreign_text(part), part) if task["data"]["lc_key"] not in held]
            if tasks:
                client.projects.import_tasks(id=project, request=tasks)
    return project


def pull_answers(folder: Path, out: Path, environ: Mapping[str, str]) -> int:
    """Write the answers of the project that `push_export` made as a JSON export.

    Args:
        folder: The export folder.
        out: The file to write; `import_decisions` reads it.
        environ: Environment variables.

    Returns:
        Tasks in the file.

    Raises:
        ExchangeError: If the folder was not pushed, the SDK or the key is missing, or the server refuses.
    """
    place = folder / PUSHED
    if not place.exists():
        raise ExchangeError(f"{folder}: no project is known for this export. Push it first, or import a file.")
    project = int(read_json(place)["project"])
    with _session(environ) as client:
        rows = client.projects.exports.as_json(project)
    tasks = json.loads(json.dumps(rows, default=str))
    write_json(out, tasks)
    return len(tasks)


@contextmanager
def _session(environ: Mapping[str, str]) -> Iterator[Any]:
    """The SDK's client; what it raises when the server refuses or cannot be reached becomes a letter without the key."""
    missing = [name for name in (URL_VARIABLE, KEY_VARIABLE) if not environ.get(name)]
    if missing:
        raise ExchangeError(f"Label Studio needs the environment variables {' and '.join(missing)}, which are not set.")
    url, key = environ[URL_VARIABLE], environ[KEY_VARIABLE]
    try:
        http, sdk, refusals = (importlib.import_module(name) for name in _MODULES)
    except ModuleNotFoundError as fault:
        raise ExchangeError(
            f"--push and --pull need the module {fault.name!r}, which is not installed. "
            "Install labelclean[label-studio], or exchange files."
        ) from None
    try:
        with http.Client(timeout=60, follow_redirects=True) as connection:
            yield sdk.LabelStudio(base_url=url, api_key=key, httpx_client=connection)
    except (refusals.ApiError, http.HTTPError) as fault:
        status, body = getattr(fault, "status_code", None), getattr(fault, "body", None)
        reason = f"{status}: {body}" if status else f"{type(fault).__name__}: {fault}"
        reason = " ".join(reason.split()).replace(key, "***")[:400]
        raise ExchangeError(
            f"Label Studio at {url} refused: {reason}. Correct {URL_VARIABLE} or {KEY_VARIABLE}, or call again; "
            "what the server holds already is not sent twice."
        ) from None


def _key(task: Any) -> Any:
    data = task["data"] if isinstance(task, dict) else task.data
    return (data or {}).get("lc_key")
