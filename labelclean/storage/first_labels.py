"""From what a factory has at hand, a folder per class or a CSV file, to the labels table that everything else reads."""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pyarrow as pa

from labelclean.errors import TableError, listed

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
SPLITS = {"train", "training", "val", "valid", "validation", "test", "testing"}
OTHER_NAMES: dict[str, tuple[str, ...]] = {
    "sample_id": ("id", "sample", "image_id"),
    "image_path": ("path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_file"),
    "given_label": ("label", "class", "class_name", "category", "defect", "defect_type", "target"),
}


@dataclass(frozen=True)
class FirstLabels:
    """Labels as they were found.

    Attributes:
        table: Rows of the table `labels`, not yet conformed.
        image_root: Folder that `image_path` is relative to.
        seen: What was found and decided, one sentence each.
    """

    table: pa.Table
    image_root: Path
    seen: tuple[str, ...]


def is_table_file(path: Path) -> bool:
    """Return whether a path is Parquet already: a file, or a folder that holds one."""
    return (path.is_file() and path.suffix.lower() not in (".csv", ".tsv", ".txt")) or _holds(path, ("*.parquet",))


def labels_from_folders(root: Path, level: int = 1) -> FirstLabels:
    """Return the labels that a tree with one folder per class spells out.

    Args:
        root: The tree.
        level: Which folder below the root names the class, counted from 1; -1 is the folder that
            holds the image.

    Returns:
        One row per image file; the id is its path below the root. Files that are no images,
        hidden ones and images outside any class folder are left out and told. Where links lead
        out of the tree, paths start at the folder that all images share.

    Raises:
        TableError: If no class folder holds an image, a name is not UTF-8, or the folders are
            splits (train, test) rather than classes.
    """
    images, others = _image_files(root)
    parts = {name: PurePosixPath(name).parts[:-1] for name in images}
    need = 1 if level == -1 else level
    unlabelled = [name for name in images if len(parts[name]) < need]
    labelled = [name for name in images if len(parts[name]) >= need]
    if not labelled:
        raise TableError(
            f"{root}: must hold one folder of images per class, but {len(images):,} images and no class folder were "
            f"found (images end in {', '.join(IMAGE_SUFFIXES)}). Name the folder above the class folders, a CSV file "
            "or a Parquet file."
        )
    given = [parts[name][-1 if level == -1 else level - 1] for name in labelled]
    if {name.lower() for name in given} <= SPLITS:
        raise TableError(
            f"{root}: the folders must be classes, but are {listed(sorted(set(given)))}. Name the level of the class "
            f"folders: --class-folder {level + 1}, or -1 for the folder that holds the image."
        )
    paths, image_root, told = _within_one_root(root, labelled)
    seen = [f"folders under {root}: {len(labelled):,} images in {len(set(given)):,} class folders", *told]
    deeper = [name for name in labelled if len(parts[name]) > need] if level != -1 else []
    if deeper:
        seen.append(
            f"{len(deeper):,} images lie deeper than their class folder, such as {deeper[0]!r}; the class is folder "
            f"{level} of the path (--class-folder -1 takes the folder that holds the image)"
        )
    for what, names in (("in no class folder", unlabelled), ("that are no images", others)):
        if names:
            seen.append(f"left out: {len(names):,} files {what}: {listed(names, 3)}")
    table = pa.table({"sample_id": labelled, "image_path": paths, "given_label": given})
    return FirstLabels(table, image_root, tuple(seen))


def labels_from_csv(path: Path, columns: Mapping[str, str] | None = None) -> FirstLabels:
    """Return the labels in a CSV file; every value stays text, so that `007` stays `007`.

    Args:
        path: The file: UTF-8 or Shift-JIS (cp932); commas, semicolons or tabs; a header.
        columns: The file's name for a column of labelclean, such as ``{"given_label": "defect"}``;
            others are found by their usual names.

    Returns:
        One row per line, all other columns carried through; without a column of ids the image
        paths are the ids.

    Raises:
        TableError: If it is no whole CSV file, or a needed column is missing or not clear.
    """
    text, encoding = _text(path)
    rows = _csv_rows(text, path)
    header, body = rows[0], rows[1:]
    ragged = [str(number) for number, row in enumerate(body, start=2) if len(row) != len(header)]
    if ragged:
        raise TableError(
            f"{path}: every line must have the {len(header)} cells of the header, but {len(ragged):,} have not: "
            f"lines {listed(ragged)}. Quote cells that hold the separator, then try again."
        )
    twice = sorted(name for name, count in Counter(header).items() if count > 1)
    if twice:
        raise TableError(f"{path}: column names must be distinct, but {listed(twice)} stand twice. Rename them.")
    chosen = _chosen_columns(header, columns or {}, path)
    cells = {name: [row[place] or None for row in body] for place, name in enumerate(header)}
    back = {theirs: ours for ours, theirs in chosen.items()}
    found = {back.get(name, name): pa.array(values, pa.string()) for name, values in cells.items()}
    seen = [f"{path.name}: {len(body):,} lines of {encoding}"]
    seen += [f"column {theirs!r} is taken as {ours}" for ours, theirs in chosen.items() if ours != theirs]
    if "sample_id" not in found:
        found = {"sample_id": found["image_path"]} | found
        seen.append("no column of ids: the image path is the sample_id")
    image_root, paths = _relative(found["image_path"].to_pylist())
    if image_root is not None:
        found["image_path"] = pa.array(paths, pa.string())
        seen.append(f"image paths are absolute: they are written relative to {image_root}, the folder they share")
    return FirstLabels(pa.table(found), image_root or path.parent, tuple(seen))


# --- inside ---------------------------------------------------------------------------------------


def _holds(folder: Path, patterns: Sequence[str]) -> bool:
    return folder.is_dir() and any(next(folder.rglob(pattern), None) is not None for pattern in patterns)


def _image_files(root: Path) -> tuple[list[str], list[str]]:
    """Paths below the root of all images and of all other files, hidden ones left out, sorted."""
    images: list[str] = []
    others: list[str] = []
    for name in _files(root):
        (images if name.lower().endswith(IMAGE_SUFFIXES) else others).append(name)
    broken = [repr(name) for name in images if not _is_utf8(name)]
    if broken:
        raise TableError(
            f"{root}: file names must be UTF-8, but {len(broken):,} are not: {', '.join(broken[:5])}. Rename them."
        )
    return sorted(images), sorted(name for name in others if _is_utf8(name))


def _files(root: Path) -> Iterator[str]:
    """Every visible file below the root with forward slashes, through links too."""
    for folder, folders, files in os.walk(root, followlinks=True):
        above = {os.path.realpath(parent) for parent in Path(folder).parents if parent.is_relative_to(root)}
        if os.path.realpath(folder) in above:  # a link back to a folder above would go round for ever
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in files:
            if not name.startswith("."):
                yield (Path(folder) / name).relative_to(root).as_posix()


def _within_one_root(root: Path, names: Sequence[str]) -> tuple[list[str], Path, list[str]]:
    """Image paths that no link leads out of their root: the tree, or the folder that all linked images share."""
    real_root = Path(os.path.realpath(root))
    real = [os.path.realpath(root / name) for name in names]
    if all(Path(path).is_relative_to(real_root) for path in real):
        return list(names), root, []
    shared = Path(os.path.commonpath([str(Path(path).parent) for path in real]))
    if shared == Path(shared.anchor):
        raise TableError(
            f"{root}: the images must lie under one folder, but links lead to {listed(sorted({real[0], real[-1]}))}, "
            "which share none. Copy the images, or give a table with their paths."
        )
    paths = [Path(path).relative_to(shared).as_posix() for path in real]
    return paths, shared, [f"links lead out of {root}: image paths start at {shared}, where the images are"]


def _relative(paths: Sequence[str | None]) -> tuple[Path | None, list[str | None]]:
    """The folder that absolute paths share and the paths below it; None if they are not all absolute."""
    given = [path for path in paths if path is not None]
    if not given or not all(path.startswith("/") for path in given):
        return None, list(paths)
    shared = Path(os.path.commonpath([os.path.dirname(path) for path in given]))  # noqa: PTH120 - text, no file
    return shared, [None if path is None else Path(path).relative_to(shared).as_posix() for path in paths]


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _text(path: Path) -> tuple[str, str]:
    """A file's text, and its encoding in words."""
    try:
        data = path.read_bytes()
    except OSError as fault:
        raise TableError(f"{path}: must be a readable file, but: {fault.strerror}.") from None
    for encoding, words in (("utf-8-sig", "UTF-8"), ("cp932", "Shift-JIS (cp932)")):
        try:
            return data.decode(encoding), words
        except UnicodeDecodeError:
            continue
    raise TableError(f"{path}: must be text in UTF-8 or Shift-JIS, but is neither. Save it as CSV UTF-8.")


def _csv_rows(text: str, path: Path) -> list[list[str]]:
    """Header and lines, by the separator that is most frequent in the header; empty lines are left out."""
    first = text.partition("\n")[0]
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count), strict=True))
    except csv.Error as fault:
        raise TableError(f"{path}: must be a whole CSV file, but: {fault}. Save it again.") from None
    rows = [[cell.strip() for cell in row] for row in rows if any(cell.strip() for cell in row)]
    if len(rows) < 2:
        raise TableError(f"{path}: must have a header and at least one line, but has {len(rows)} lines in all.")
    return rows


def _chosen_columns(header: Sequence[str], columns: Mapping[str, str], path: Path) -> dict[str, str]:
    """The file's column for each that is needed: as said, of the same name, or the only one of a usual name."""
    chosen, faults = {}, []
    for ours, usual in OTHER_NAMES.items():
        said = columns.get(ours)
        if said is not None:
            candidates = [said] if said in header else []
        elif ours in header:
            candidates = [ours]
        else:
            candidates = [name for name in header if name.lower() in usual and name not in columns.values()]
        if len(candidates) == 1:
            chosen[ours] = candidates[0]
        elif ours != "sample_id" or said is not None:
            found = (
                f"{said!r} is not there" if said else f"{listed(candidates)} might be it" if candidates else "none is"
            )
            faults.append(f"{ours}: {found}")
    unknown = sorted(set(columns) - set(OTHER_NAMES))
    if unknown:
        faults.append(f"{listed(unknown)}: only {listed(sorted(OTHER_NAMES))} can be named")
    if faults:
        raise TableError(
            f"{path}: a column each of image paths and labels is needed, but {'; '.join(faults)}; the file has "
            f"{listed(list(header), 12)}. Say which: --column given_label=NAME --column image_path=NAME."
        )
    return chosen
