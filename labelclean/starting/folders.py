"""A tree of images with one folder per class: known layouts are recognised, masks and what is no image are left out."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

import pyarrow as pa

from labelclean.config import DecodeConfig
from labelclean.errors import TableError, listed
from labelclean.features.decode import decode_image
from labelclean.features.image_files import ImageReject, read_image_bytes
from labelclean.starting.cells import is_split
from labelclean.starting.images import OTHER_PICTURES, READ_SUFFIXES, image_files, is_utf8
from labelclean.starting.rows import Rows

_MASK = r"(masks?|labels?|gts?|ground[ _]?truth|segm?s?|segmentations?|annot\w*)"
_MASK_FOLDER = re.compile(rf"(.*[_\-. ])?{_MASK}([_\-. ].*)?|segmentation(class|object)", re.IGNORECASE)
_MASK_NAME = re.compile(rf"^{_MASK}[_\-. ]|[_\-. ]?{_MASK}[_\-. ]?\d*$", re.IGNORECASE)
_UNLABELLED = re.compile(
    r"(^|[\W_])((un|not[_\- ])(labell?ed|annotated|sorted|classified|tagged)|no[_\- ]?label|to[_\- ](be[_\- ])?label(l?ed)?)($|[\W_])"
    "|未(分類|ラベル|判定|検査|選別|仕分)",
    re.IGNORECASE,
)
VERDICT_WORDS = {
    "ok", "ng", "good", "bad", "normal", "anomaly", "abnormal", "anomalous", "pass", "fail", "defect", "defective", "ko",
    "良品", "不良", "不良品", "正常", "異常",
}  # fmt: skip
"""What folders are called only if they are classes."""
_NUM_LOOKED_AT = 5
_MOST_WORDS = 50


def folder_rows(root: Path, level: int | None = None) -> Rows:
    """Return the labels that a tree with one folder per class spells out.

    Args:
        root: The tree.
        level: Which folder below the root names the class, counted from 1; -1 is the folder that holds the image.
            Default: the first whose names are not one folder for all or splits such as train and test.

    Returns:
        One row per image file; the id is its path below the root, `split` the split folder where there is one. Masks,
        system folders, files that are no images and images without a class are left out.

    Raises:
        TableError: If no class folder holds an image, a name is not UTF-8, or it is not clear which folders are classes.
    """
    files, system, places = image_files(root)
    check_names(root, [name for name in files if name.lower().endswith(READ_SUFFIXES)])
    readable = [name for name in files if is_utf8(name) and name.lower().endswith(READ_SUFFIXES)]
    pictures = [name for name in files if is_utf8(name) and name.lower().endswith(OTHER_PICTURES)]
    others = [name for name in files if is_utf8(name) and not name.lower().endswith((*READ_SUFFIXES, *OTHER_PICTURES))]
    masks = _masks(root, readable)
    images = [name for name in readable if name not in masks]
    parts = {name: PurePosixPath(name).parts[:-1] for name in images}
    chosen, seen = (level, []) if level is not None else _class_level(root, parts)
    need = 1 if chosen == -1 else chosen
    deep = [name for name in images if len(parts[name]) >= need]
    unlabelled = [name for name in deep if _UNLABELLED.search(_class(parts[name], chosen))]
    labelled = [name for name in deep if name not in set(unlabelled)]
    if not labelled and level is not None and images:
        depth = max(map(len, parts.values()))
        raise TableError(
            f"{root}: --class-folder {level} must be a folder above images, but no image with a class lies so deep: paths have "
            f"{depth} folders at most. Name one from 1 to {depth}, or -1."
        )
    if not labelled:
        raise TableError(
            f"{root}: must hold one folder of images per class, but {len(images):,} images and no class folder were "
            f"found (images end in {', '.join(READ_SUFFIXES)}). Name the folder above the class folders, a table (CSV, "
            "Excel, Parquet) or a file of an annotation tool."
        )
    given = [_class(parts[name], chosen) for name in labelled]
    _check_classes(root, given, parts, level, chosen)
    paths, folder, told = _within_one_root(root, labelled)
    columns = {"sample_id": labelled, "image_path": paths, "given_label": given}
    splits = [next((part for part in parts[name] if is_split(part)), None) for name in labelled]
    if any(splits) and not {split for split in splits if split} & set(given):
        columns["split"] = splits  # type: ignore[assignment]
    deeper = [name for name in labelled if len(parts[name]) > need] if chosen != -1 else []
    if deeper:
        told.append(
            f"{len(deeper):,} images lie deeper than their class folder, such as {deeper[0]!r}; the class is folder "
            f"{chosen} of the path (--class-folder -1 takes the folder that holds the image)"
        )
    lost = _lost_classes(places, given, chosen, masks)
    if lost:
        told.append(f"class folders of which no image is left: {listed(lost, 8)}")
    left_out = {
        "masks": sorted(masks),
        "system folders": system,
        "files in no class folder": [name for name in images if len(parts[name]) < need],
        "images in folders of unlabelled ones (rename the folder if it is a class)": unlabelled,
        f"pictures of a kind that is not read ({', '.join(OTHER_PICTURES[:5])}, ...; save them as PNG)": pictures,
        "files that are no images": others,
    }
    source = f"folders under {root}: {len(labelled):,} images in {len(set(given)):,} class folders"
    schema = pa.schema([(name, pa.string()) for name in columns])
    return Rows(source, pa.table(columns, schema=schema), left_out, (*seen, *told), folder, is_placed=True)


def check_names(root: Path, names: Sequence[str]) -> None:
    """Refuse names below a folder that no table can hold.

    Args:
        root: The folder.
        names: Relative paths.

    Raises:
        TableError: If one is not UTF-8.
    """
    broken = [repr(name) for name in names if not is_utf8(name)]
    if broken:
        raise TableError(
            f"{root}: file names must be UTF-8, but {len(broken):,} are not: {', '.join(broken[:5])}. Rename them."
        )


# --- inside ---------------------------------------------------------------------------------------


def _class(folders: Sequence[str], level: int) -> str:
    return folders[-1 if level == -1 else level - 1]


def _class_level(root: Path, parts: dict[str, tuple[str, ...]]) -> tuple[int, list[str]]:
    """The first level whose folders may be classes, and what stands above it."""
    level, seen = 1, list[str]()
    while True:
        inside = [folders for folders in parts.values() if len(folders) >= level]
        names = sorted({folders[level - 1] for folders in inside})
        are_splits = all(map(is_split, names))
        is_deeper = sum(len(folders) > level for folders in inside) * 2 > len(inside)
        if not is_deeper or not (are_splits or len(names) == 1):
            break
        what = "splits, no classes" if are_splits else "one folder around all images"
        seen.append(
            f"{listed(names)}: {what}; the class is folder {level + 1} of the path (--class-folder {level + 1})"
        )
        level += 1
    if inside and all(len(folders) >= level + 2 and is_split(folders[level]) for folders in inside):
        raise TableError(
            f"{root}: must hold the images of one product, but {listed(names)} each have folders such as train and test "
            f"with classes inside. Name one of them, or take all together: --class-folder {level + 2}."
        )
    _check_no_verdicts_below(root, inside, level)
    return level, seen


def _check_no_verdicts_below(root: Path, inside: Sequence[tuple[str, ...]], level: int) -> None:
    """Refuse a level when folders below it, and none of it, are called as only classes are."""
    depth = max((len(folders) for folders in inside), default=0)
    names = {
        number: sorted({folders[number - 1] for folders in inside if len(folders) >= number})
        for number in range(level, depth + 1)
    }
    verdicts = [number for number, found in names.items() if {name.lower() for name in found} & VERDICT_WORDS]
    if verdicts and verdicts[0] != level:
        raise TableError(
            f"{root}: it must be clear which folders are the classes, but folder {level} of the path is called "
            f"{listed(names[level], 4)} and folder {verdicts[0]} {listed(names[verdicts[0]], 4)}. Say which: --class-folder "
            f"{verdicts[0]}, or --class-folder {level}."
        )


def _check_classes(
    root: Path, given: Sequence[str], parts: dict[str, tuple[str, ...]], level: int | None, chosen: int
) -> None:
    """Refuse splits as classes, unless all of them were asked for together with others."""
    names = set(given)
    splits = sorted(name for name in names if is_split(name))
    if not splits or (level is not None and len(splits) < len(names)):
        return
    depth = max(len(folders) for folders in parts.values())
    levels = {
        number: sorted({folders[number - 1] for folders in parts.values() if len(folders) >= number})
        for number in range(1, depth + 1)
    }
    usable = [n for n, found in levels.items() if n != chosen and sum(not is_split(name) for name in found) > 1]
    remedies = [f"The classes seem to be {listed(levels[usable[0]])}: --class-folder {usable[0]}"] if usable else []
    if len(splits) < len(names):
        remedies.append(f"If they are classes all the same, say so: --class-folder {chosen}")
    remedy = (
        ". ".join(remedies)
        or "No folder names a class: bring a table (CSV, Excel, Parquet) with the class of each image"
    )
    raise TableError(
        f"{root}: the folders must be classes, but {listed(splits)} of {listed(sorted(names), 8)} are splits. {remedy}."
    )


def _masks(root: Path, images: Sequence[str]) -> set[str]:
    """Images that mark where something is in another image of the tree: by name, or by look where the name is unusual."""
    beside = dict[str, list[str]]()
    for name in images:
        beside.setdefault(_stem(name), []).append(name)
    stems = Counter(PurePosixPath(name).stem.lower() for name in images)
    named, inside, others = set[str](), dict[str, list[str]](), list[str]()
    for name in images:
        path = PurePosixPath(name)
        bare = _MASK_NAME.sub("", path.stem, count=1).lower()
        folder = next((part for part in path.parts[:-1] if _MASK_FOLDER.fullmatch(part)), None)
        if folder is not None:
            if folder.lower().startswith("ground") or bare != path.stem.lower() or stems[path.stem.lower()] > 1:
                inside.setdefault(folder, []).append(name)
        elif bare and bare != path.stem.lower() and (path.parent / bare).as_posix().lower() in beside:
            named.add(name)
        else:
            others.append(name)
    for folder, names in inside.items():
        if folder.lower().startswith("ground") or _look_like_masks(root, names, unopened=True):
            named |= set(names)
    return named | _masks_by_look(root, others, beside)


def _masks_by_look(root: Path, images: Sequence[str], beside: Mapping[str, Sequence[str]]) -> set[str]:
    """Masks that have the name of an image beside them with a word more, or another suffix."""
    files = dict[str, list[tuple[str, str]]]()
    for name in images:
        for word, base in _words_beside(PurePosixPath(name), beside):
            files.setdefault(word, []).append((name, base))
    masks = set[str]()
    for pairs in sorted(files.values(), key=len, reverse=True)[:_MOST_WORDS]:
        names, bases = map(list, zip(*pairs, strict=True))
        if _look_like_masks(root, names) and not _look_like_masks(root, bases):
            masks |= set(names)
    return masks


def _words_beside(path: PurePosixPath, beside: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str]]:
    """What a name has more than that of an image beside it: a word before or behind, or another suffix."""
    yield from ((path.suffix.lower(), twin) for twin in beside[_stem(path.as_posix())] if twin != path.as_posix())
    for mark in re.finditer(r"[_\-. ]", path.stem):
        front, back = path.stem[: mark.start()], path.stem[mark.end() :]
        for word, rest in ((back, front), (front, back)):
            bases = beside.get((path.parent / rest).as_posix().lower(), []) if rest else []
            if bases and re.search(r"[^\W\d_]", word):
                yield re.sub(r"\d+", "", word).lower(), bases[0]


def _stem(name: str) -> str:
    """A path without its suffix, so that names can be compared."""
    return os.path.splitext(name)[0].lower()  # noqa: PTH122 - text, no file


def _look_like_masks(root: Path, names: Sequence[str], *, unopened: bool = False) -> bool:
    """Whether most of some pictures have hardly more than two brightnesses; ``unopened`` where none can be opened."""
    policy = DecodeConfig()
    verdicts = []
    for name in names[:: max(1, len(names) // _NUM_LOOKED_AT)][:_NUM_LOOKED_AT]:
        try:
            pixels = decode_image(read_image_bytes(root, name, policy), policy)
        except ImageReject:
            continue
        low, high = float(pixels.min()), float(pixels.max())
        margin = (high - low) / 10
        verdicts.append(float(((pixels <= low + margin) | (pixels >= high - margin)).mean()) > 0.95)
    return sum(verdicts) * 2 >= len(verdicts) if verdicts else unopened


def _lost_classes(places: Sequence[str], given: Sequence[str], level: int, masks: set[str]) -> list[str]:
    """Class folders of the tree that give no row."""
    known = set(given)
    leaves = {place for place in places if not any(other.startswith(f"{place}/") for other in places)}
    names = set()
    for place in places:
        parts = PurePosixPath(place).parts
        if any(map(_MASK_FOLDER.fullmatch, parts)) and any(name.startswith(f"{place}/") for name in masks):
            continue
        if (level == -1 and place in leaves) or len(parts) == level:
            names.add(parts[-1])
    mask_folders = {part for name in masks for part in PurePosixPath(name).parts[:-1] if _MASK_FOLDER.fullmatch(part)}
    unlabelled = {name for name in names if _UNLABELLED.search(name)}
    return sorted(names - known - mask_folders - unlabelled)


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
