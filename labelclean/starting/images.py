"""Which image files the paths of a table mean: as they stand, below another root, or by name."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from labelclean.errors import listed

READ_SUFFIXES = (".bmp", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
OTHER_PICTURES = (
    ".avif",
    ".dcm",
    ".dng",
    ".gif",
    ".heic",
    ".heif",
    ".j2k",
    ".jp2",
    ".pgm",
    ".ppm",
    ".raw",
    ".svg",
    ".tga",
)
_SYSTEM_FOLDER = re.compile(
    r"[@#~$._]+(ea ?dir|recycled?|recycle[._]bin|trash\w*|(recently[_\-])?snapshots?|thumb|sharebin|transcode)"
    r"|recycler|lost\+found|system volume information|network trash folder|temporary items|__macosx|__pycache__|found\.\d{3}|thumbs\.db",
    re.IGNORECASE,
)
NUM_TRIED = 200


def looks_like_image(cell: str) -> bool:
    """Return whether a cell names an image file, whatever else it holds.

    Examples:
        >>> looks_like_image("line 3/0001.PNG"), looks_like_image("/data/local-files/?d=a%2Fb.jpg"), looks_like_image("ok")
        (True, True, False)
        >>> looks_like_image("https://store/1.png?signed=yes")
        True
    """
    name = cell.strip().lower()
    names = (name.partition("#")[0], name.partition("?")[0] if "://" in name else "")
    return any(part.endswith((*READ_SUFFIXES, *OTHER_PICTURES)) for part in names)


def is_utf8(name: str) -> bool:
    """Return whether a file's name is UTF-8, so that a table can hold it."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def image_files(root: Path) -> tuple[list[str], list[str], list[str]]:
    """Return what lies below a folder, through links too, hidden things left out.

    Args:
        root: The folder.

    Returns:
        Relative paths of files with forward slashes, sorted; relative paths of system folders (left out, with what is
        in them), sorted; relative paths of folders, sorted.
    """
    files: list[str] = []
    system: list[str] = []
    places: list[str] = []
    for folder, folders, names in os.walk(root, followlinks=True):
        above = {os.path.realpath(parent) for parent in Path(folder).parents if parent.is_relative_to(root)}
        if os.path.realpath(folder) in above:  # a link back to a folder above would go round for ever
            folders.clear()
            continue
        here = Path(folder).relative_to(root)
        system += [(here / name).as_posix() for name in folders if _SYSTEM_FOLDER.fullmatch(name)]
        folders[:] = sorted(name for name in folders if not name.startswith(".") and not _SYSTEM_FOLDER.fullmatch(name))
        places += [(here / name).as_posix() for name in folders]
        files += [(here / name).as_posix() for name in names if not name.startswith(".")]
    return sorted(files), sorted(system), sorted(places)


def located(paths: Sequence[str | None], folders: Sequence[Path]) -> tuple[Path, list[str | None], list[str]]:
    """Return where the images of a table lie.

    Args:
        paths: As the table says them, length N.
        folders: Where to look, in order, at least one.

    Returns:
        Image root, paths below it (length N; one that nothing is found for stays as it is), and what was done, in
        sentences.
    """
    plain = [None if path is None else plain_path(path) for path in paths]
    given = [path for path in plain if path]
    if not given:
        return folders[0], list(plain), []
    tried = given[:NUM_TRIED]
    for root in folders:
        if not any(path.startswith("/") for path in tried) and all(_is_file(root / path) for path in tried):
            return root, list(plain), _unlike(paths, plain)
    if all(path.startswith("/") for path in given):
        shared = Path(os.path.commonpath([os.path.dirname(path) for path in given]))  # noqa: PTH120 - text, no file
        if any(_is_file(Path(path)) for path in tried):
            note = f"image paths are absolute: they are written relative to {shared}, the folder they share"
            return shared, _below(plain, shared), [note]
    if not any(_is_file(root / path) for root in folders for path in tried):
        for root in folders:
            matches = _matches(given, root)
            if matches:
                return root, [matches.get(path or "", path) for path in plain], _found_by_end(given, matches, root)
    if all(path.startswith("/") for path in given):
        shared = Path(os.path.commonpath([os.path.dirname(path) for path in given]))  # noqa: PTH120 - text, no file
        note = f"image paths are absolute: they are written relative to {shared}, the folder they share"
        return shared, _below(plain, shared), [note]
    return folders[0], list(plain), _unlike(paths, plain)


def plain_path(path: str) -> str:
    r"""Return a path with forward slashes, without what a tool or a spreadsheet put around it.

    Examples:
        >>> plain_path("/data/local-files/?d=line3%2F1.png"), plain_path(".\\line3\\1.png"), plain_path("file:///d/1.png")
        ('line3/1.png', 'line3/1.png', '/d/1.png')
        >>> plain_path("/data/upload/4/0a1b2c3d-1.png"), plain_path("s3://bucket/line3/1.png")
        ('1.png', 'line3/1.png')
    """
    path = path.strip()
    if (local := re.fullmatch(r"(?:https?://[^/]+)?/data/local-files/\?d=(.+)", path)) is not None:
        return unquote(local[1])
    if (upload := re.fullmatch(r"(?:https?://[^/]+)?/data/upload/(?:\d+/)?(?:[0-9a-f]{8}-)?([^/]+)", path)) is not None:
        return unquote(upload[1])
    if re.match(r"(file|s3|gs|https?)://", path):
        try:
            return _below_address(path)
        except ValueError:
            return path
    if "\\" in path and not path.startswith("/"):
        path = path.replace("\\", "/")
    return re.sub(r"^/+", "/", re.sub(r"^(\./)+", "", path))


# --- inside ---------------------------------------------------------------------------------------


def _below_address(path: str) -> str:
    parts = urlsplit(path)
    below = unquote(parts.path)
    return below if parts.scheme == "file" else below.lstrip("/")


def _is_file(path: Path) -> bool:
    try:
        return os.path.isfile(path)  # noqa: PTH113 - names too long or with NUL
    except ValueError:
        return False


def _below(paths: Sequence[str | None], root: Path) -> list[str | None]:
    return [PurePosixPath(path).relative_to(root).as_posix() if path else None for path in paths]


def _unlike(before: Sequence[str | None], after: Sequence[str | None]) -> list[str]:
    changed = [(old, new) for old, new in zip(before, after, strict=True) if old is not None and old.strip() != new]
    if not changed:
        return []
    return [f"{len(changed):,} image paths are written anew, such as {changed[0][0]!r} as {changed[0][1]!r}"]


def _found_by_end(given: Sequence[str], matches: Mapping[str, str], root: Path) -> list[str]:
    first = next(path for path in given if path in matches)
    notes = [
        f"{len(matches):,} of {len(set(given)):,} image paths were found by their end below {root}, such as {first!r} at "
        f"{matches[first]!r}"
    ]
    missing = [path for path in dict.fromkeys(given) if path not in matches]
    if missing:
        notes.append(f"no image, or more than one, below {root} fits {len(missing):,} paths: {listed(missing, 3)}")
    return notes


def _ends(path: str) -> Iterator[str]:
    """The path, and what is left of it without its first folders, longest first."""
    parts = path.split("/")
    for start in range(len(parts)):
        yield "/".join(parts[start:])


def _matches(paths: Sequence[str], root: Path) -> dict[str, str]:
    """Paths -> the only image below the root that ends alike, after as many first folders as fit most are cut off.

    A path without a suffix may mean an image of any suffix. An image that two paths fit is given to neither.
    """
    if not root.is_dir() or root == Path(root.anchor):
        return {}
    by_end: dict[str, list[str]] = defaultdict(list)
    for name in image_files(root)[0]:
        if looks_like_image(name) and is_utf8(name):
            for end in _ends(name):
                by_end[end].append(name)
                by_end[os.path.splitext(end)[0]].append(name)  # noqa: PTH122 - text, no file
    wanted = {path: path.strip("/").split("/") for path in dict.fromkeys(paths)}
    best: dict[str, str] = {}
    for cut in range(min(12, max(map(len, wanted.values())))):
        fitting = {path: by_end.get("/".join(parts[cut:]), []) for path, parts in wanted.items() if len(parts) > cut}
        only = {path: names[0] for path, names in fitting.items() if len(names) == 1}
        shared = Counter(only.values())
        only = {path: name for path, name in only.items() if shared[name] == 1}
        best = max(best, only, key=len)
    return best
