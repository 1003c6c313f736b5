"""What is not read: its format by name, and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_OR_TABLE = "write the labels as Parquet or CSV (image path, label)"
_SAVE_TABLE = "Write the labels as Parquet or CSV (image path, label)"
_BY_SUFFIX = {
    (".xls", ".xlsb"): ("an old or binary Excel workbook", "Save it as .xlsx or CSV UTF-8"),
    (".ods",): ("an OpenDocument sheet", "Save it as .xlsx or CSV UTF-8"),
    (".zip", ".tar", ".tgz", ".7z", ".rar", ".tar.gz"): ("an archive", "Unpack it and name the folder or the file inside"),
    (".yaml", ".yml"): ("a YAML file beside which no YOLO boxes lie (folders images and labels)", "Name the folder that holds them, or " + _OR_TABLE),
    (".npy", ".npz"): ("a NumPy file", _SAVE_TABLE),
    (".pkl", ".pickle", ".pt", ".pth", ".joblib"): ("a pickle, which can run code and is never opened", _SAVE_TABLE),
    (".h5", ".hdf5", ".mat"): ("an HDF5 or MATLAB file", _SAVE_TABLE),
    (".arrow", ".feather", ".ipc"): ("an Arrow or Feather file", "Write it as Parquet (pyarrow.parquet.write_table)"),
    (".avro", ".orc"): ("an Avro or ORC file", "Write it as Parquet"),
    (".db", ".sqlite", ".sqlite3", ".duckdb"): ("a data base", "Export the table as Parquet or CSV"),
    (".tfrecord", ".tfrecords", ".rec", ".lmdb", ".mdb"): ("a record file of a training framework", _SAVE_TABLE),
    (".doc", ".docx", ".pdf"): ("a document", _SAVE_TABLE),
    (".safetensors",): ("weights of a network", "Give it as --weights, and the labels as LABELS"),
}  # fmt: skip


def unread_suffix(path: Path) -> tuple[str, str] | None:
    """Return what a file is by its suffix and what to do, where it is known not to be read.

    Args:
        path: The file.

    Returns:
        Format and remedy, or None.

    Examples:
        >>> unread_suffix(Path("l.ods"))
        ('an OpenDocument sheet', 'Save it as .xlsx or CSV UTF-8')
    """
    name = path.name.lower()
    return next((words for suffixes, words in _BY_SUFFIX.items() if name.endswith(suffixes)), None)


def unread_bytes(head: bytes) -> tuple[str, str] | None:
    """Return what a file is by its first bytes, whatever its name says, where it holds no labels.

    Args:
        head: The first bytes.

    Returns:
        Format and remedy, or None.

    Examples:
        >>> unread_bytes(b"version https://git-lfs.github.com/spec/v1")[0]
        'a Git LFS pointer, not the file itself'
    """
    known = (
        (b"version https://git-lfs", "a Git LFS pointer, not the file itself", "Fetch the file: git lfs pull"),
        (
            b"<!doctype html",
            "a web page, not the file itself",
            "Download the file again, signed in where that is needed",
        ),
        (b"<html", "a web page, not the file itself", "Download the file again, signed in where that is needed"),
        (
            b"\xd0\xcf\x11\xe0",
            "an old Excel workbook or one with a password",
            "Save it as .xlsx without a password, or CSV UTF-8",
        ),
        (b"ARROW1", "an Arrow or Feather file", "Write it as Parquet (pyarrow.parquet.write_table)"),
        (b"SQLite format 3", "a data base", "Export the table as Parquet or CSV"),
        (b"%PDF", "a document", _SAVE_TABLE),
    )
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    return next(((name, remedy) for mark, name, remedy in known if start.lower().startswith(mark.lower())), None)


UNKNOWN_JSON = "JSON of a kind that is not known"


def unread_json(content: Any) -> tuple[str, str]:
    """Return what JSON is and what to do, for JSON that no reader takes.

    Args:
        content: JSON values.

    Returns:
        Format and remedy.

    Examples:
        >>> unread_json({"shapes": [], "imagePath": "1.png"})[0]
        'LabelMe (shapes)'
    """
    first = content[0] if isinstance(content, list) and content else content
    keys = set(first) if isinstance(first, dict) else set()
    coco = "Export it as COCO with image-level categories, or " + _OR_TABLE
    known = (
        ({"shapes", "imagePath"}, "LabelMe (shapes)", coco),
        ({"_via_img_metadata"}, "VGG Image Annotator", coco),
        ({"image", "annotations"}, "CreateML (boxes)", coco),
        ({"objects", "size"}, "Supervisely (shapes)", coco),
        ({"samples"}, "a FiftyOne data set", "Export it as FiftyOneImageClassificationDataset (labels.json and data/)"),
        ({"data_row"}, "Labelbox", "Export it as CSV with image and class, or " + _OR_TABLE),
        ({"images", "annotations"}, "COCO without categories", "Export it with categories"),
        ({"images", "categories"}, "COCO without annotations", "Name the file that holds annotations"),
        ({"data"}, "Label Studio tasks without annotations", "Export the project as JSON after people have answered"),
    )
    for wanted, name, remedy in known:
        if wanted <= keys and (wanted != {"data"} or isinstance(content, list)):
            return name, remedy
    return (
        UNKNOWN_JSON,
        "Export COCO, Label Studio JSON or FiftyOne's labels.json, or " + _OR_TABLE,
    )
