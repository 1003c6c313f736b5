"""The review sheet: one HTML page that needs no server and no network."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from labelclean.config import DecodeConfig, config_record
from labelclean.errors import ExchangeError, StorageError
from labelclean.review.exchange.answers import SEVERAL
from labelclean.review.exchange.manifest import ExportManifest, read_manifest
from labelclean.review.exchange.package import ExportPart, place_path, preview_path
from labelclean.review.exchange.tasks import QueueToExport, SetSuggestion, Suggestion, Task
from labelclean.storage.parquet import atomic_path
from labelclean.texts import LANGUAGES, catalogue

if TYPE_CHECKING:
    from jinja2 import Template

TOOL = "sheet"
PAGE = "sheet.html"
SCRIPTS = ("sheet_state.js", "sheet_words.js", "sheet_draw.js", "sheet.js")
FORMAT = "labelclean sheet decisions 1"
NEXT_STEP = (
    f"open {PAGE} in a browser (a copy of that one file is enough), decide, choose Download decisions, then: "
    "labelclean import decisions-….json --from sheet --export DIR"
)
MAX_TASKS = 2_000
MAX_BYTES = 64_000_000
THUMB_PX, NEIGHBOUR_PX, MAX_NEIGHBOURS, MAX_VIEWS = 96, 200, 4, 12
_SIDES = (2_048, 1_536, 1_024, 768, 512, 384, 256, 192, 128)
_OF_SETS = "set_"  # words of a page on which a picture may have several labels
_SHARE = 0.8  # of the page for the large pictures; neighbours and words take the rest


def check_size(num_tasks: int) -> None:
    """Refuse a queue that one page cannot hold.

    Args:
        num_tasks: Places of the queue.

    Raises:
        ExchangeError: If there are more than `MAX_TASKS`.
    """
    if num_tasks > MAX_TASKS:
        raise ExchangeError(
            f"the review sheet is one page and may hold {MAX_TASKS:,} pictures, but the queue has {num_tasks:,}. "
            "Run with a smaller review budget, or export to another tool; nothing was written."
        )


def export_digest(manifest: ExportManifest) -> str:
    """Return what tells one export from any other: run, data set, classes, tasks and how it was made.

    Args:
        manifest: The export's manifest.

    Returns:
        SHA-256, 64 hexadecimal digits.
    """
    said = [
        *(manifest.tool, manifest.run_id, manifest.dataset, manifest.class_names, manifest.settings),
        [(item.key, item.content_hash) for item in manifest.items],
    ]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def write_sheet(queue: QueueToExport, run_folder: Path, out: Path, *, max_bytes: int = MAX_BYTES) -> Path:
    """Write the page into a finished export; one that is there already stays as it is.

    Args:
        queue: What was exported.
        run_folder: Its run, for the neighbours' pictures.
        out: The export folder, with manifest and previews.
        max_bytes: The page is never larger; pictures get smaller until it fits.

    Returns:
        The page.

    Raises:
        ExchangeError: If the pictures do not fit even when small.
        StorageError: If a preview is gone or the disk refuses.
    """
    target = out / PAGE
    if target.exists():
        return target
    manifest = read_manifest(out)
    task_of = {task.item.key: task for task in queue.tasks}
    tasks = tuple(task_of[item.key] for item in manifest.items if item.key in task_of)
    part = ExportPart(out / "part_001", 1, tasks)
    html = sheet_html(manifest, part, neighbour_pictures(queue, tasks, run_folder), max_bytes)
    if len(html) > max_bytes:
        raise ExchangeError(
            f"{target}: the page may have {max_bytes / 1e6:,.3g} MB, but {len(tasks):,} pictures need "
            f"{len(html) / 1e6:,.3g} MB even when small. Run with a smaller review budget."
        )
    with atomic_path(target) as temporary:
        temporary.write_bytes(html)
    return target


def sheet_html(
    manifest: ExportManifest, part: ExportPart, neighbours: Mapping[str, dict[str, str]], max_bytes: int = MAX_BYTES
) -> bytes:
    """Return the page.

    Args:
        manifest: The export.
        part: All its tasks; their previews are written.
        neighbours: Sample id -> `src` and `label` of a trusted sample.
        max_bytes: Most bytes of the page; decides how large the pictures are.

    Returns:
        One HTML file, UTF-8.
    """
    from markupsafe import Markup

    is_set = bool(manifest.settings.get(SEVERAL))
    budget = int(_SHARE * max_bytes / max(len(part.tasks), 1))
    shown: dict[str, int] = {}
    pictures, tasks = [], []
    for task in part.tasks:
        source, thumb = _pictures(preview_path(part, task), budget)
        pictures.append(source)
        record = _task_record(task, thumb, neighbours, shown)
        tasks.append(record if task.box is None else record | {"at": _place(place_path(part, task))})
    data = {
        "format": FORMAT,
        "tool": TOOL,
        "run_id": manifest.run_id,
        "dataset": manifest.dataset,
        "export": export_digest(manifest),
        "classes": list(manifest.class_names),
        "tasks": tasks,
        "near": [neighbours[sample] for sample in shown],
        "texts": {lang: texts(lang, is_set=is_set) for lang in LANGUAGES},
    } | ({"several": True} if is_set else {})
    style, script = _resource("sheet.css"), "".join(map(_resource, SCRIPTS))
    return (
        _template()
        .render(
            t=texts("en", is_set=is_set),
            several=is_set,
            dataset=manifest.dataset,
            pictures=pictures,
            data=Markup(_inert_json(data)),  # noqa: S704 - no "<" is left in it
            style=Markup(style),  # noqa: S704 - our own files
            script=Markup(script),  # noqa: S704
            policy=_policy(style, script),
        )
        .encode()
    )


@cache
def _template() -> Template:
    """The page, compiled once for all parts."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("labelclean.review.exchange", ".")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    return environment.get_template("sheet.html.j2")


def neighbour_pictures(queue: QueueToExport, tasks: Sequence[Task], run_folder: Path) -> dict[str, dict[str, str]]:
    """Return the nearest trusted samples' thumbnails and labels, never of a sample that is asked about, and other views.

    Args:
        queue: What is exported.
        tasks: The tasks of the page.
        run_folder: The run.

    Returns:
        Sample id -> `src` (a `data:` address) and `label`; of other views of a part no label, for theirs is the one in question.
    """
    from labelclean.review.pictures import image_places, pictures

    asked = {task.item.sample_id for task in queue.tasks}
    told = [task.suggestion or task.sets for task in tasks]
    wanted = {sample for one in told if one is not None for sample in one.neighbour_ids[:MAX_NEIGHBOURS]}
    views = {sample for task in tasks for sample in task.view_ids[:MAX_VIEWS]}
    wanted = wanted - asked - views
    places = image_places(run_folder, sorted(wanted | views))
    made = pictures({sample: frozenset({NEIGHBOUR_PX}) for sample in places}, places, config_record(queue.config))
    return {
        sample: {"src": picture.source, "label": places[sample].given_label if sample in wanted else ""}
        for (sample, _), picture in made.items()
        if picture.source
    }


def texts(lang: str, *, is_set: bool = False) -> dict[str, str]:
    """Return the page's words in a language, the reasons as the report words them.

    Args:
        lang: `en` or `ja`.
        is_set: A picture may have several labels: the words that differ take the place of the others.

    Returns:
        Text by key.
    """
    words = yaml.safe_load(_resource(f"sheet.{lang}.yaml"))
    reasons = {key: text for key, text in catalogue(lang).items() if key.startswith("reasons.")}
    plain = {str(key): str(text) for key, text in words.items() if not key.startswith(_OF_SETS)}
    others = {key.removeprefix(_OF_SETS): str(text) for key, text in words.items() if key.startswith(_OF_SETS)}
    return plain | reasons | (others if is_set else {})


# --- inside ---------------------------------------------------------------------------------------


def _task_record(
    task: Task, thumb: str, neighbours: Mapping[str, dict[str, str]], shown: dict[str, int]
) -> dict[str, Any]:
    """What the page knows of a task: of a blind one its key, its image's hash and a thumbnail only."""
    record: dict[str, Any] = {"key": task.item.key, "hash": task.item.content_hash, "thumb": thumb}
    views = [sample for sample in task.view_ids[:MAX_VIEWS] if sample in neighbours]
    if views:
        record["views"] = [shown.setdefault(sample, len(shown)) for sample in views]
    if task.sets is not None:
        return record | _set_record(task, task.sets, neighbours, shown)
    seen: Suggestion | None = task.suggestion
    if seen is None:
        return record  # neither sample nor file name: a folder may be named after the given label
    near = [sample for sample in seen.neighbour_ids[:MAX_NEIGHBOURS] if sample in neighbours]
    return record | {
        "name": task.image_path or task.item.sample_id,
        "given": seen.given_label,
        "suggested": seen.predicted_label,  # null: it waits for eyes
        "runner_up": seen.runner_up_label,
        "probability": seen.probability,
        "score": seen.label_score,
        "reasons": list(seen.reasons),
        "near": [shown.setdefault(sample, len(shown)) for sample in near],
    }


def _set_record(
    task: Task, sets: SetSuggestion, neighbours: Mapping[str, dict[str, str]], shown: dict[str, int]
) -> dict[str, Any]:
    """What the page knows of a picture that may have several labels."""
    near = [sample for sample in sets.neighbour_ids[:MAX_NEIGHBOURS] if sample in neighbours]
    return {
        "name": task.image_path or task.item.sample_id,
        "given": list(sets.given),
        "suggested": list(sets.predicted),
        "missing": list(sets.missing),
        "spurious": list(sets.spurious),
        "score": sets.label_score,
        "near": [shown.setdefault(sample, len(shown)) for sample in near],
    }


def _pictures(preview: Path, budget: int) -> tuple[str, str]:
    """A preview and its thumbnail as `data:` addresses: the preview itself where it is small enough, else a JPEG."""
    from labelclean.features.decode import preview_image

    try:
        png = preview.read_bytes()
    except OSError as fault:
        raise StorageError(
            f"{preview}: the preview cannot be read: {fault.strerror}. Export into a new folder."
        ) from None
    plain = DecodeConfig()
    source = _address(png, "png")
    for side in _SIDES if len(source) > budget else ():
        source = _address(preview_image(png, plain, side, "JPEG"), "jpeg")
        if len(source) <= budget:
            break
    return source, _address(preview_image(png, plain, THUMB_PX, "JPEG"), "jpeg")


def _place(picture: Path) -> str:
    """Where a box lies in its image, as a `data:` address."""
    try:
        return _address(picture.read_bytes(), "jpeg")
    except OSError as fault:
        raise StorageError(f"{picture}: cannot be read: {fault.strerror}. Export into a new folder.") from None


def _address(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _inert_json(data: Any) -> str:
    """JSON that no HTML parser reads as anything else: ASCII, without angle brackets and ampersands."""
    text = json.dumps(data, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _policy(style: str, script: str) -> str:
    """A content security policy that lets in this style, this script and inline pictures, and nothing else."""
    style, script = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script))
    return (
        f"default-src 'none'; img-src data:; style-src 'sha256-{style}'; script-src 'sha256-{script}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _resource(name: str) -> str:
    return files("labelclean.review.exchange").joinpath(name).read_text(encoding="utf-8").strip() + "\n"
