"""`init`: looks at the labels, whatever they come as, and writes a config with every key explained."""

from __future__ import annotations

import inspect
import math
import os
import re
import textwrap
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml
from pydantic import BaseModel

from labelclean.config import PATH_KEYS, Config, parse_config
from labelclean.errors import TableError
from labelclean.features.image_files import unusable_images
from labelclean.labels import in_class_order
from labelclean.review.boxes.files import BoxSource
from labelclean.starting.parquet_file import write_with_images
from labelclean.starting.source import Asked, FirstLabels, first_labels
from labelclean.storage.label_sets import GIVEN, holds_lists, label_names, label_sets
from labelclean.storage.parquet import atomic_path, parquet_options, read_labels, unread_files, write_table
from labelclean.storage.spellings import alike, alike_words, joining, label_counts, missing_sentences, respelled
from labelclean.storage.tables import BOX_COLUMNS, conform
from labelclean.texts import printable

DEFAULT_BACKBONE = "mobilenetv2_100"
NUM_OPENED = 200
FIRST_SECTIONS = ("data", "backbone", "run", "storage")
FIRST_DEPTH = "several"  # tells more of defects; not the default of the section, for features of older nights must stay comparable
OK_NAMES = {"ok", "good", "pass", "良品", "ok品"}  # as `casefold` of NFKC writes them


def write_first_config(
    labels: Path,
    out: Path,
    overrides: Sequence[str] = (),
    *,
    weights: Path | None = None,
    asked: Asked | None = None,
    force: bool = False,
) -> list[str]:
    """Look at the labels and write a commented config for them.

    Args:
        labels: A labels table in Parquet, or what `first_labels` reads, which is written as Parquet beside the config.
        out: The config file to write.
        overrides: `section.key=value` items to put into it.
        weights: The backbone's weights file; what a safetensors file says of itself
            (architecture, mean, std, padding) goes into the config.
        asked: What the user says of the labels, and where their images are; default: in the folder of the labels.
        force: Replace existing files.

    Returns:
        What was seen and chosen, one sentence each.

    Raises:
        TableError: If the labels break a promise. Nothing is written then.
        ConfigError: If an override cannot be used.
        FileExistsError: If a file to write is there and ``force`` is not set.
    """
    folder, asked = out.resolve().parent, asked or Asked()
    if any(_says_several(item) for item in overrides):
        asked = replace(asked, several_labels=True)
    seen_labels = _seen_labels(labels, out, asked, force=force)
    settings = _first_settings(seen_labels, folder, weights)
    config = parse_config(yaml.safe_dump(settings), folder=folder, origin=str(out), overrides=overrides, cwd=Path.cwd())
    is_set = GIVEN in seen_labels.table.column_names
    counts = label_counts(label_names(respelled(seen_labels.table, config.data.spellings)))
    names = settings["data"]["class_names"] = in_class_order(counts)
    if not names:
        raise TableError(f"{labels}: labels must name at least one class, but name none.")
    if is_set and asked.several_labels and (seen_labels.first is None or len(names) == 1):
        settings["data"]["several_labels"] = True
    proposed, ok_seen = _ok_proposed(config, [] if is_set else names)
    chosen = _chosen(settings, overrides, folder)
    if config.backbone.weights is not None:
        chosen["backbone"].pop("pretrained", None)
    sentences = (*_sentences(seen_labels, counts, config), *ok_seen, _backbone_seen(config, folder))
    seen = [printable(sentence) for sentence in sentences]
    text = commented_config(chosen, seen, proposed)
    _write_labels(seen_labels)
    with atomic_path(out) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return seen


@dataclass(frozen=True)
class _SeenLabels:
    """The labels that a config is written for.

    Attributes:
        path: The labels table that the config names.
        table: The table `labels`.
        has_bytes: It holds the images themselves.
        image_root: Folder that image paths are relative to.
        seen: What was seen, one sentence each.
        first: What the labels came as; None where they are a labels table already.
        refused: File for those that cannot be used; None where there are none.
    """

    path: Path
    table: pa.Table
    has_bytes: bool
    image_root: Path
    seen: tuple[str, ...]
    first: FirstLabels | None = None
    refused: Path | None = None


def _seen_labels(labels: Path, out: Path, asked: Asked, *, force: bool) -> _SeenLabels:
    """Read the labels; files that would be replaced are refused before."""
    folder, first = out.resolve().parent, first_labels(labels, asked)
    made = None if first is None else folder / f"labels_from_{_stem(labels)}.parquet"
    refused = folder / f"rejects_from_{_stem(labels)}.parquet" if first is not None and first.rejects else None
    taken = [path for path in (out, made, refused) if path is not None and path.exists() and not force]
    if taken:
        other = "another --out" if taken[0] == out else "an --out in another folder"
        raise FileExistsError(f"{taken[0]}: the file is there already. Choose {other}, or --force to replace it.")
    if first is None or made is None:
        table, has_bytes = read_labels(labels, None, several_labels=asked.several_labels)
        root = asked.image_root or (labels if labels.is_dir() else labels.parent)
        return _SeenLabels(labels, table, has_bytes, root, tuple(unread_files(labels)))
    is_set = asked.several_labels or holds_lists(first.table.schema)
    origin = labels.name
    table = label_sets(first.table, (), origin) if is_set else conform(first.table, "labels", origin=origin)
    if first.boxes is not None:
        table = _with_source(table, first.boxes, folder)
    seen = [*first.seen, f"labels written to {made}"]
    seen += [] if refused is None else [_refused_words(first.rejects, refused)]
    return _SeenLabels(made, table, first.images is not None, first.image_root, tuple(seen), first, refused)


def _first_settings(labels: _SeenLabels, folder: Path, weights: Path | None) -> dict[str, Any]:
    """What the config says of labels, images, backbone and run, before anybody overrides it."""
    data = {"labels": _portable(labels.path, folder)}
    if not labels.has_bytes:
        data["image_root"] = _portable(labels.image_root, folder)
    backbone: dict[str, Any] = {"name": DEFAULT_BACKBONE, "pretrained": True}
    if weights is not None:
        backbone = described_weights(weights) | {"weights": _portable(weights, folder)}
    return {
        "data": data,
        "backbone": backbone | {"depth": FIRST_DEPTH},
        "run": {"seed": 0} | _name_of(labels.path),
    }


def _sentences(labels: _SeenLabels, counts: Mapping[str, int], config: Config) -> list[str]:
    """What was seen of the labels, their classes and their images."""
    table, names = labels.table, in_class_order(counts)
    rows = f"{table.num_rows:,} {'images' if GIVEN in table.column_names else 'rows'}"
    seen = [*labels.seen]
    seen.append(f"{rows}, {len(names)} classes: " + ", ".join(f"{name} ({counts[name]:,})" for name in names))
    seen += _sets_seen(table)
    if not labels.has_bytes:
        paths = table.column("image_path").slice(0, NUM_OPENED).to_pylist()
        seen.append(_paths_found(paths, labels.image_root, config))
    seen += _columns_seen(table.column_names)
    seen += [
        f"class names look alike: {alike_words(pair, counts)}; to join them: {joining(pair, counts)}; a run refuses them as "
        "they are"
        for pair in alike(counts, config.data.spellings)
    ]
    return seen + missing_sentences(counts)


def _says_several(item: str) -> bool:
    """Whether an override is `data.several_labels` with a YAML word for yes."""
    key, _, value = item.partition("=")
    return key.strip() == "data.several_labels" and yaml.safe_load(value) is True


def _ok_proposed(config: Config, names: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """The class that looks like parts without a defect, as a setting to propose, and the sentence about it."""
    ok = ok_class(names) if config.classes.ok is None and len(names) > 1 else None
    if ok is None:
        return {}, []
    return {"classes": {"ok": ok}}, [
        f"class {ok!r} looks like parts without a defect: set classes.ok to tell escapes from overkill"
    ]


def ok_class(names: Sequence[str]) -> str | None:
    """Return the class whose name says that a part has no defect; None where no name does, or several do.

    Examples:
        >>> ok_class(["crack", "OK品"]), ok_class(["good", "pass"]), ok_class(["bad", "worse"])
        ('OK品', None, None)
    """
    named = [name for name in names if unicodedata.normalize("NFKC", name).strip().casefold() in OK_NAMES]
    return named[0] if len(named) == 1 else None


def commented_config(
    settings: Mapping[str, Any],
    notes: Sequence[str] = (),
    proposed: Mapping[str, Mapping[str, Any]] | None = None,
) -> str:
    """Return a config as YAML with every key, each explained by the docstring of its section.

    Keys that are not set are written at their default; an optional key without a default is
    written as a comment.

    Args:
        settings: Section -> key -> value.
        notes: Sentences for the head of the file.
        proposed: Section -> key -> value, written as comments where the key is not set.

    Returns:
        YAML text.
    """
    lines = [f"# {printable(note)}" for note in notes]
    lines += ["# Relative paths start at this file's folder. Any key can be set for one run: --set section.key=value"]
    for name in sorted(Config.model_fields, key=lambda name: name not in FIRST_SECTIONS):
        section = Config.model_fields[name].annotation
        if not (inspect.isclass(section) and issubclass(section, BaseModel)):
            continue
        lines += ["", f"# {_first_line(section)}", f"{name}:"]
        lines += _section_lines(section, settings.get(name, {}), "  ", (proposed or {}).get(name, {}))
    return "\n".join(lines) + "\n"


class _OneLine(yaml.SafeDumper):
    """YAML in which every text stands in one line, signs that are not printable as escapes."""


def _text_in_one_line(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if text.isprintable() else '"')


_OneLine.add_representer(str, _text_in_one_line)


def _write_labels(labels: _SeenLabels) -> None:
    """The labels as Parquet beside the config, with the images that another file holds, and what of them cannot be used."""
    first, table, made = labels.first, labels.table, labels.path
    if first is None:
        return
    if first.images is not None:
        write_with_images(made, first.table, first.images)
    elif GIVEN in table.column_names:
        plain = table.rename_columns(["given_label" if name == GIVEN else name for name in table.column_names])
        with atomic_path(made) as temporary:
            pq.write_table(plain.replace_schema_metadata(), temporary, **parquet_options(plain.schema))
    else:
        write_table(made, table, "labels")
    if labels.refused is not None:
        write_table(labels.refused, pa.Table.from_pylist(list(first.rejects)), "rejects")


def _with_source(table: pa.Table, source: BoxSource, folder: Path) -> pa.Table:
    """The labels with a note on where their boxes came from, so that classes find their way back."""
    at = table.column_names.index(BOX_COLUMNS[0])
    return table.set_column(at, table.schema.field(at).with_metadata(source.note(folder)), table.column(at))


def _refused_words(rejects: Sequence[Mapping[str, str]], path: Path) -> str:
    """How many boxes cannot be used, by reason, and where each is told."""
    counts = Counter(one["reason_code"] for one in rejects)
    codes = ", ".join(f"{code} ({num:,})" for code, num in sorted(counts.items()))
    return f"{len(rejects):,} boxes cannot be used: {codes}, such as {rejects[0]['message']} All are told in {path}"


def _stem(labels: Path) -> str:
    """What the labels are called, without the suffixes of a packed file."""
    path = labels.resolve()
    return Path(path.stem).stem if path.suffix.lower() == ".gz" else path.stem


def described_weights(path: Path) -> dict[str, Any]:
    """Return what a safetensors file says of its network, as values of section `backbone`; the default where it says nothing.

    Args:
        path: The weights file.

    Returns:
        `name` and, where it says so, `options`, `mean` and `std`.
    """
    metadata: Mapping[str, str] = {}
    if path.suffix == ".safetensors" and path.is_file():
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(str(path), "numpy") as file:
                metadata = file.metadata() or {}
        except SafetensorError:
            pass  # the run refuses a damaged file with its reason
    settings: dict[str, Any] = {"name": metadata.get("architecture", DEFAULT_BACKBONE)}
    if "pad_type" in metadata:
        settings["options"] = {"pad_type": metadata["pad_type"]}
    for key in ("mean", "std"):
        if key in metadata:
            settings[key] = [float(value) for value in metadata[key].split(",")]
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


def _section_lines(
    section: type[BaseModel], values: Mapping[str, Any], indent: str, proposed: Mapping[str, Any] | None = None
) -> list[str]:
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
        shown = (proposed or {}).get(key, value) if is_unset else value
        lines.append(f"{indent}{'# ' if is_unset else ''}{key}: {_flow(shown)}")
    return lines


def _flow(value: object) -> str:
    """One value as inline YAML."""
    if isinstance(value, tuple):
        value = list(value)
    text: str = yaml.dump(
        value, Dumper=_OneLine, default_flow_style=True, allow_unicode=True, width=math.inf, sort_keys=False
    )
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
    sentence = f"image root {root}: {len(sample) - len(refused):,} of the first {len(sample):,} images are there"
    first = next(iter(refused.items()), None)
    return sentence if first is None else f"{sentence}; {first[0]!r}: {first[1]}"


def _sets_seen(table: pa.Table) -> list[str]:
    """How many images have how many labels, where they may have several."""
    if GIVEN not in table.column_names:
        return []
    counts = sorted(Counter(pc.list_value_length(table.column(GIVEN)).to_pylist()).items())
    return ["labels on an image: " + ", ".join(f"{num} ({count:,} images)" for num, count in counts)]


def _columns_seen(names: Sequence[str]) -> list[str]:
    known = {
        "annotator_id": "several inspectors: their votes become soft labels",
        "group_id": "samples of one part stay together in cross-fitting",
        BOX_COLUMNS[0]: "samples are boxes: judged is what lies in each, with data.box_margin around it",
        "part_id": "images of one part never vouch for each other",
        "candidate_labels": "partial labels are honoured",
    }
    return [f"column {name!r}: {meaning}" for name, meaning in known.items() if name in names]
