"""`init`: looks at the labels, whatever they come as, and writes a config with every key explained."""

from __future__ import annotations

import inspect
import os
import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from labelclean.config import PATH_KEYS, Config, parse_config
from labelclean.errors import TableError, listed
from labelclean.features.image_files import unusable_images
from labelclean.storage.first_labels import FirstLabels, is_table_file, labels_from_csv, labels_from_folders
from labelclean.storage.parquet import atomic_path, read_labels, write_table

DEFAULT_BACKBONE = "mobilenetv2_100"
NUM_OPENED = 200
FIRST_SECTIONS = ("data", "backbone", "run", "storage")


def write_first_config(
    labels: Path,
    image_root: Path | None,
    out: Path,
    overrides: Sequence[str] = (),
    *,
    weights: Path | None = None,
    columns: Mapping[str, str] | None = None,
    class_folder: int = 1,
    force: bool = False,
) -> list[str]:
    """Look at the labels and write a commented config for them.

    Args:
        labels: Parquet file or folder, a tree with one folder of images per class, or a CSV file.
            The last two are written as Parquet beside the config.
        image_root: Folder that `image_path` is relative to; default: the folder of the labels.
        out: The config file to write.
        overrides: `section.key=value` items to put into it.
        weights: The backbone's weights file; what a safetensors file says of itself
            (architecture, mean, std, padding) goes into the config.
        columns: The CSV file's names for columns of labelclean.
        class_folder: Which folder of a tree names the class, from 1; -1 is the one that holds the image.
        force: Replace existing files.

    Returns:
        What was seen and chosen, one sentence each.

    Raises:
        TableError: If the labels break a promise.
        ConfigError: If an override cannot be used.
        FileExistsError: If a file to write is there and ``force`` is not set.
    """
    made = out.resolve().parent / f"labels_from_{labels.resolve().stem}.parquet"
    first = None if is_table_file(labels) else _first_labels(labels, columns, class_folder)
    taken = [path for path in (out, made if first else out) if path.exists() and not force]
    if taken:
        raise FileExistsError(f"{taken[0]}: the file is there already. Choose another --out, or --force to replace it.")
    seen = []
    if first is not None:
        write_table(made, first.table, "labels")
        seen += [*first.seen, f"labels written to {made}"]
        labels, image_root = made, image_root or first.image_root
    table, has_bytes = read_labels(labels, None)
    counts = {row["values"]: row["counts"] for row in table.column("given_label").value_counts().to_pylist()}
    names = sorted(counts)
    if len(names) < 2:
        raise TableError(f"{labels}: labels must name at least 2 classes, but name {listed(names)}.")
    root = image_root or (labels if labels.is_dir() else labels.parent)
    folder = out.resolve().parent
    settings: dict[str, Any] = {
        "data": {"labels": _portable(labels, folder), "class_names": names},
        "backbone": {"name": DEFAULT_BACKBONE, "pretrained": True},
        "run": {"seed": 0} | _name_of(labels),
    }
    seen.append(
        f"{table.num_rows:,} rows, {len(names)} classes: " + ", ".join(f"{name} ({counts[name]:,})" for name in names)
    )
    if not has_bytes:
        settings["data"]["image_root"] = _portable(root, folder)
    if weights is not None:
        settings["backbone"] = _described_weights(weights) | {"weights": _portable(weights, folder)}
    config = parse_config(yaml.safe_dump(settings), folder=folder, origin=str(out), overrides=overrides, cwd=Path.cwd())
    if not has_bytes:
        seen.append(_paths_found(table.column("image_path").slice(0, NUM_OPENED).to_pylist(), root, config))
    seen += _columns_seen(table.column_names)
    chosen = _chosen(settings, overrides, folder)
    if config.backbone.weights is not None:
        chosen["backbone"].pop("pretrained", None)
    seen.append(_backbone_seen(config, folder))
    with atomic_path(out) as temporary:
        temporary.write_text(commented_config(chosen, seen), encoding="utf-8")
    return seen


def commented_config(settings: Mapping[str, Any], notes: Sequence[str] = ()) -> str:
    """Return a config as YAML with every key, each explained by the docstring of its section.

    Keys that are not set are written at their default; an optional key without a default is
    written as a comment.

    Args:
        settings: Section -> key -> value.
        notes: Sentences for the head of the file.

    Returns:
        YAML text.
    """
    lines = [f"# {note}" for note in notes]
    lines += ["# Relative paths start at this file's folder. Any key can be set for one run: --set section.key=value"]
    for name in sorted(Config.model_fields, key=lambda name: name not in FIRST_SECTIONS):
        section = Config.model_fields[name].annotation
        if not (inspect.isclass(section) and issubclass(section, BaseModel)):
            continue
        lines += ["", f"# {_first_line(section)}", f"{name}:"]
        lines += _section_lines(section, settings.get(name, {}), "  ")
    return "\n".join(lines) + "\n"


def _first_labels(path: Path, columns: Mapping[str, str] | None, class_folder: int) -> FirstLabels:
    """The labels in a CSV file or in a tree of class folders."""
    if path.is_dir():
        return labels_from_folders(path, class_folder)
    if not path.is_file():
        raise TableError(
            f"{path}: must be a Parquet file, a CSV file or a folder of images per class, but nothing is there."
        )
    return labels_from_csv(path, columns)


def _described_weights(path: Path) -> dict[str, Any]:
    """What a safetensors file says of its network; the default backbone where it says nothing."""
    said: Mapping[str, str] = {}
    if path.suffix == ".safetensors" and path.is_file():
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(str(path), "numpy") as file:
                said = file.metadata() or {}
        except SafetensorError:
            pass  # the run refuses a damaged file with its reason
    settings: dict[str, Any] = {"name": said.get("architecture", DEFAULT_BACKBONE)}
    if "pad_type" in said:
        settings["options"] = {"pad_type": said["pad_type"]}
    for key in ("mean", "std"):
        if key in said:
            settings[key] = [float(value) for value in said[key].split(",")]
    return settings


def _backbone_seen(config: Config, folder: Path) -> str:
    """Where the backbone's weights come from."""
    backbone = config.backbone
    if backbone.weights is not None:
        return f"backbone {backbone.name}, weights from {_portable(backbone.weights, folder)}"
    return (
        f"backbone {backbone.name}, weights fetched by timm at the first run (needs the network once; without it, "
        "name a file with --weights)"
    )


def _section_lines(section: type[BaseModel], values: Mapping[str, Any], indent: str) -> list[str]:
    explained = _attributes(section)
    lines: list[str] = []
    for key, field in section.model_fields.items():
        inner = field.annotation
        if inspect.isclass(inner) and issubclass(inner, BaseModel):
            lines += [f"{indent}# {_first_line(inner)}", f"{indent}{key}:"]
            lines += _section_lines(inner, values.get(key, {}), indent + "  ")
            continue
        lines += [f"{indent}# {line}" for line in textwrap.wrap(explained.get(key, ""), 100 - len(indent))]
        default = field.get_default(call_default_factory=True)
        value = values.get(key, str(default) if isinstance(default, Path) else default)
        is_unset = key not in values and default is None
        lines.append(f"{indent}{'# ' if is_unset else ''}{key}: {_flow(value)}")
    return lines


def _flow(value: object) -> str:
    """One value as inline YAML."""
    if isinstance(value, tuple):
        value = list(value)
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000, sort_keys=False)
    return text.removesuffix("\n").removesuffix("\n...").strip()


def _first_line(section: type[BaseModel]) -> str:
    return (inspect.getdoc(section) or "").partition("\n")[0]


def _attributes(section: type[BaseModel]) -> dict[str, str]:
    """The explanation of each key, from the section's docstring."""
    _, _, block = (inspect.getdoc(section) or "").partition("Attributes:\n")
    entries = re.findall(r"^    (\w+): ((?:.*\n?)(?:        .*\n?)*)", block, flags=re.MULTILINE)
    return {key: " ".join(text.split()) for key, text in entries}


def _chosen(settings: dict[str, Any], overrides: Sequence[str], folder: Path) -> dict[str, Any]:
    """The settings with the overrides written in, paths portable."""
    for item in overrides:
        key, _, raw = item.partition("=")
        *sections, name = key.strip().split(".")
        place = settings
        for section in sections:
            place = place.setdefault(section, {})
        value = yaml.safe_load(raw)
        is_path = key in PATH_KEYS
        place[name] = _portable(Path.cwd() / value, folder) if is_path and value is not None else value
    return settings


def _portable(path: Path, folder: Path) -> str:
    """A path relative to the config's folder where it lies below it, else absolute."""
    absolute = Path(os.path.abspath(path))  # noqa: PTH100 - links stay as the user wrote them
    return absolute.relative_to(folder).as_posix() if absolute.is_relative_to(folder) else absolute.as_posix()


def _name_of(labels: Path) -> dict[str, str]:
    """A data set's name where the file's says little: that of its folder for `labels.parquet`, of the source for ours."""
    stem = labels.resolve().stem
    name = labels.resolve().parent.name if stem == "labels" else stem.removeprefix("labels_from_")
    return {"dataset": name} if name else {}


def _paths_found(paths: Sequence[str | None], root: Path, config: Config) -> str:
    """How many of the first images can be opened where the table says."""
    sample = [path for path in paths if path]
    refused = unusable_images(root, sample, config.decode)
    said = f"image root {root}: {len(sample) - len(refused):,} of the first {len(sample):,} images are there"
    first = next(iter(refused.items()), None)
    return said if first is None else f"{said}; {first[0]!r}: {first[1]}"


def _columns_seen(names: Sequence[str]) -> list[str]:
    known = {
        "annotator_id": "several inspectors: their votes become soft labels",
        "group_id": "samples of one part stay together in cross-fitting",
        "candidate_labels": "partial labels are honoured",
    }
    return [f"column {name!r}: {meaning}" for name, meaning in known.items() if name in names]
