"""Reads and writes the config, tables and JSON files; every write is atomic.

Features and run folders have modules of their own beside it (`feature_store`, `runs`).
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from labelclean.config import Config, parse_config
from labelclean.errors import ConfigError, StorageError, TableError, listed
from labelclean.storage.label_sets import has_label_sets, label_sets
from labelclean.storage.spellings import respelled
from labelclean.storage.tables import BOX_COLUMNS, TABLES, class_names_of, conform

READ_BYTES = 2**16
KNOWN_LABEL_COLUMNS = frozenset(column.name for column in TABLES["labels"].columns) - {"image"}


def read_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Return the configuration in a YAML file.

    Args:
        path: The file.
        overrides: `section.key=value` items; relative paths in them start at the working directory.

    Returns:
        The checked configuration, all paths absolute.

    Raises:
        ConfigError: If the file is missing or cannot be used; all faults are listed.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: the config file does not exist. `labelclean init LABELS` writes one.")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as fault:
        raise ConfigError(f"{path}: the config file must be readable UTF-8 text, but: {fault}.") from None
    return parse_config(text, folder=path.resolve().parent, origin=path.name, overrides=overrides, cwd=Path.cwd())


def label_files(path: Path) -> list[Path]:
    """Return the files of a labels table, sorted by name.

    Args:
        path: Parquet file, folder of Parquet files or hive-partitioned folder.

    Returns:
        At least one file.

    Raises:
        TableError: If nothing is there.
    """
    if not path.exists():
        raise TableError(f"{path}: data.labels must name a Parquet file or folder, but nothing is there.")
    files = [path] if path.is_file() else [file for file in _visible_files(path) if file.suffix.lower() == ".parquet"]
    if not files:
        raise TableError(f"{path}: the folder must hold *.parquet files, but has none.")
    return files


def unread_files(path: Path) -> list[str]:
    """Return what else lies in a folder of labels and is not read.

    Args:
        path: Parquet file or folder of the labels.

    Returns:
        One sentence, or none; hidden files, and those that begin with an underscore, as Spark leaves them, are not told.
    """
    if path.is_file():
        return []
    others = [file for file in _visible_files(path) if file.suffix.lower() != ".parquet"]
    likely = [
        file.relative_to(path).as_posix()
        for file in others
        if file.suffix.lower() in _TABLE_SUFFIXES or ".parquet" in file.name.lower()
    ]
    return [f"not read: {len(likely):,} files that do not end in .parquet: {listed(likely, 3)}"] if likely else []


def labels_dataset(path: Path, files: Sequence[Path] | None = None) -> ds.Dataset:
    """Return the labels as a dataset over their files, which is read by row group.

    Args:
        path: Parquet file, folder of Parquet files or hive-partitioned folder.
        files: Only these of its files, in this order; default: all.

    Returns:
        The dataset with one schema that fits all files.

    Raises:
        TableError: If nothing is there, a file is no whole Parquet file, or the files' schemas clash.
    """
    files = label_files(path) if files is None else files
    faults, schemas = [], []
    for file in files:
        try:
            schemas.append(_schema(file))
        except _NO_PARQUET as fault:
            faults.append(f"{file}: {' '.join(str(fault).split())[:200]}")
    if faults:
        raise TableError(
            f"{path}: every file must be a whole Parquet file, but {len(faults):,} of {len(files):,} cannot be read: "
            f"{listed(faults, 3)}. Write them again or take them out."
        )
    for file, schema in zip(files, schemas, strict=True):
        twice = [name for name, count in Counter(schema.names).items() if count > 1]
        if twice:
            raise TableError(
                f"{file}: every column must have a name of its own, but some stand more than once: {listed(twice)}. Rename them."
            )
    names = [str(file) for file in files]
    keys = [] if path.is_file() else _hive_keys(path, files, schemas)
    partitions = pa.schema([(key, pa.string()) for key in keys])  # as text: a lot 007 is not 7
    layout = (
        {"partitioning": ds.partitioning(partitions, flavor="hive"), "partition_base_dir": str(path)} if keys else {}
    )
    try:
        schema = pa.unify_schemas([*schemas, partitions], promote_options="permissive").remove_metadata()
    except pa.ArrowException as fault:
        clashes = _clashes(path, files, schemas) or [str(fault).rstrip(".")]
        raise TableError(
            f"{path}: all files must have the same column types, but {len(clashes):,} differ: {'; '.join(clashes[:5])}. "
            "Write them alike."
        ) from None
    return ds.dataset(names, schema=schema, format="parquet", **layout)


def _hive_keys(path: Path, files: Sequence[Path], schemas: Sequence[pa.Schema]) -> list[str]:
    """The keys that folders such as lot=007 spell out, without those that stand in the files with the same values."""
    folders = {file: dict(_hive_pairs(file.relative_to(path).parts[:-1])) for file in files}
    keys = list(dict.fromkeys(key for pairs in folders.values() for key in pairs))
    inside, faults = set[str](), list[str]()
    holding = Counter(key for schema in schemas for key in set(schema.names) & set(keys))
    faults += [
        f"{key!r} stands inside {num:,} of {len(files):,} files only"
        for key, num in holding.items()
        if num < len(files)
    ]
    for file, schema in zip(files, schemas, strict=True):
        for key in set(schema.names) & set(keys):
            inside.add(key)
            wanted = folders[file].get(key)
            values = {
                str(value)
                for value in pq.read_table(file, columns=[key], partitioning=None).column(0).unique().to_pylist()
            }
            if wanted is not None and values - {wanted}:
                faults.append(
                    f"{file.relative_to(path)}: {key!r} is {wanted!r} in the folder and {listed(sorted(values), 3)} inside"
                )
    if faults:
        raise TableError(
            f"{path}: a key that a folder's name and the files both hold must be the same in both, but {len(faults):,} times it "
            f"is not: {'; '.join(faults[:3])}. Leave the column out of the files, or rename it."
        )
    return [key for key in keys if key not in inside]


def _hive_pairs(folders: Sequence[str]) -> Iterator[tuple[str, str]]:
    for folder in folders:
        key, equals, value = folder.partition("=")
        if key and equals:
            yield key, unquote(value)


def _clashes(path: Path, files: Sequence[Path], schemas: Sequence[pa.Schema]) -> list[str]:
    """Columns of which two files have types that cannot be joined, each with both files."""
    first: dict[str, tuple[Path, pa.Field]] = {}
    faults: dict[str, str] = {}
    for file, schema in zip(files, schemas, strict=True):
        for field in schema:
            other, known = first.setdefault(field.name, (file, field))
            try:
                pa.unify_schemas([pa.schema([known]), pa.schema([field])], promote_options="permissive")
            except pa.ArrowException:
                faults.setdefault(
                    field.name,
                    f"{field.name!r} is {known.type} in {_below(other, path)}, {field.type} in {_below(file, path)}",
                )
    return list(faults.values())


def _below(file: Path, path: Path) -> str:
    return file.relative_to(path).as_posix() if file.is_relative_to(path) else str(file)


def read_labels(
    path: Path,
    class_names: Sequence[str] | None,
    files: Sequence[Path] | None = None,
    *,
    only_known: bool = False,
    spellings: Mapping[str, str] | None = None,
    several_labels: bool = False,
) -> tuple[pa.Table, bool]:
    """Return the labels without the image bytes, checked, and whether image bytes are there.

    Args:
        path: Parquet file or folder.
        class_names: The classes that labels may name, or None for whatever is found.
        files: Only these of its files; where two hold the same row, the later in this order wins.
            Default: all files, and the same row in two of them is a fault.
        only_known: Leave out the columns that are only carried through.
        spellings: `data.spellings`; default: names stay as they are.
        several_labels: `data.several_labels`.

    Returns:
        A conforming `labels` table (that of `tables.LABEL_SETS` where images have several labels) and True if there is an `image` column.

    Raises:
        TableError: If it breaks a promise; all faults are listed.
    """
    dataset = labels_dataset(path, files)
    columns = [
        name for name in dataset.schema.names if name != "image" and (not only_known or name in KNOWN_LABEL_COLUMNS)
    ]
    try:
        table = dataset.to_table(columns=columns)
        table = table if files is None else table.filter(pa.array(latest_rows(dataset)))
    except _NO_PARQUET as fault:
        raise _unreadable(path, fault) from None
    if not table.num_rows:
        raise TableError(f"{path}: the labels table must have rows, but is empty.")
    has_bytes = holds_images(path, dataset.schema)
    table = respelled(table, spellings or {})
    if has_label_sets(dataset.schema, several_labels=several_labels):
        return label_sets(table, class_names or (), path.name), has_bytes
    return conform(table, "labels", class_names=class_names or (), origin=path.name), has_bytes


_NO_PARQUET = (pa.ArrowException, OSError, UnicodeDecodeError)
"""What Arrow raises on files that are cut, changed or gone."""


def _schema(file: Path) -> pa.Schema:
    """A file's schema, its column names decoded once."""
    schema = pq.read_schema(file)
    _ = schema.names
    return schema


def _unreadable(path: Path, fault: Exception) -> TableError | StorageError:
    """Damage is the table's fault; a file that went away or a disk that fails may pass by itself."""
    reason = " ".join(str(fault).split())[:300]
    if isinstance(fault, OSError) and fault.errno is not None:
        return StorageError(
            f"{path}: the labels can no longer be read: {reason}. Put the file back, or check the disk."
        )
    return TableError(f"{path}: the labels cannot be read: {reason}. Write the file again.")


def holds_images(path: Path, schema: pa.Schema) -> bool:
    """Return whether labels hold the images themselves.

    Args:
        path: The labels, for the error message.
        schema: Their columns.

    Returns:
        True with a column `image`, False with `image_path` alone.

    Raises:
        TableError: If there is neither, `image` is not of bytes, or boxes come with images instead of paths.
    """
    names, has_bytes = schema.names, "image" in schema.names
    if not has_bytes and "image_path" not in names:
        raise TableError(f"{path}: the table must have a column 'image_path' or 'image', but has {listed(names, 12)}.")
    if has_bytes and BOX_COLUMNS[0] in names:
        raise TableError(
            f"{path}: boxes must name their image by 'image_path', for several lie in one, but the table holds images in a "
            "column 'image'. Write them as files and leave the column out."
        )
    if has_bytes:
        _check_image_type(path, schema.field("image").type)
    return has_bytes


def _check_image_type(path: Path, kind: pa.DataType) -> None:
    """Refuse a column `image` that holds no bytes; its values are not looked at here."""
    types = pa.types
    allowed = (types.is_binary, types.is_large_binary, types.is_binary_view, types.is_fixed_size_binary, types.is_null)
    if not any(is_allowed(kind) for is_allowed in allowed):
        raise TableError(f"{path}: column 'image' must hold the bytes of image files (binary), but is {kind}.")


def image_rows(
    path: Path, files: Sequence[Path] | None = None, *, distinct: bool = True
) -> Iterator[tuple[str, str | None, bytes | None]]:
    """Yield each sample's id, image path and image bytes, a row group at a time.

    Args:
        path: Labels with an `image` column.
        files: Only these of its files; a sample that several hold comes from the last.
        distinct: Leave out the rows of a sample after its first; the ids so far are kept in memory for it.

    Yields:
        (sample_id, image_path or None, bytes or None) in file order; a sample that several
        inspectors labelled comes once.
    """
    dataset = labels_dataset(path, None if files is None else list(reversed(files)))
    columns = [name for name in ("sample_id", "image_path", "image") if name in dataset.schema.names]
    seen: set[str] = set()
    for file in dataset.files:
        batches = parquet_batches(Path(file), columns, 64)
        while True:
            try:
                rows = next(batches).to_pylist()
            except StopIteration:
                break
            except _NO_PARQUET as fault:
                raise _unreadable(path, fault) from None
            for row in rows:
                if not distinct or row["sample_id"] not in seen:
                    if distinct:
                        seen.add(row["sample_id"])
                    yield row["sample_id"], row.get("image_path"), row.get("image")


def parquet_batches(path: Path, columns: Sequence[str] | None, num_rows: int) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a Parquet file so that no more of it than a batch is held, however large its row groups are.

    Args:
        path: The file.
        columns: Only these, as far as the file has them; None: all.
        num_rows: Rows of every batch but the last.

    Yields:
        Batches with rows, in the order of the file.
    """
    # by default Arrow keeps what it has read of a file until it is closed, and a dataset decodes whole row groups
    with pq.ParquetFile(path, pre_buffer=False, buffer_size=READ_BYTES) as file:
        yield from file.iter_batches(num_rows, columns=None if columns is None else list(columns))


def read_pred_probs(
    path: Path, sample_ids: Sequence[str], class_names: Sequence[str]
) -> tuple[npt.NDArray[np.float32], bool]:
    """Return the user's own out-of-sample probabilities, one row per sample.

    Args:
        path: Parquet with `sample_id` and either `pred_probs`, lists of K numbers in class order, or a column for every
            class, by its name, other columns not counting; the names may also stand in a struct `pred_probs`, or, as
            this package writes them, in the file's metadata.
        sample_ids: The samples wanted, length N.
        class_names: The K class names in order.

    Returns:
        float32, shape (N, K), rows sum to 1, aligned with ``sample_ids``; and whether names told the columns.

    Raises:
        TableError: If a sample is missing or has several rows, a class has no column, or a row is no distribution.
    """
    rows, is_named = _prob_rows(path, class_names)
    shares = f"pred_probs must hold {len(class_names)} shares in class order that sum to 1"
    return _checked_probs(path, rows, sample_ids, lambda row: _is_distribution(row, len(class_names)), shares), is_named


def read_answer_probs(path: Path, sample_ids: Sequence[str], class_names: Sequence[str]) -> npt.NDArray[np.float32]:
    """Return the user's own out-of-sample probabilities of images that may have several labels, one row per sample.

    Args:
        path: As for `read_pred_probs`; each number says how probable it is that its class is on the image.
        sample_ids: The samples wanted, length N.
        class_names: The K class names in order.

    Returns:
        float32, shape (N, K), in [0, 1], aligned with ``sample_ids``; rows need not sum to 1.

    Raises:
        TableError: If a sample is missing or has several rows, a class has no column, or a number is no probability.
    """
    rows, _ = _prob_rows(path, class_names)
    shares = f"pred_probs must hold {len(class_names)} probabilities in class order, each within 0 and 1"
    return _checked_probs(path, rows, sample_ids, lambda row: _are_shares(row, len(class_names)), shares)


ProbRow = Sequence[float] | None


def _prob_rows(path: Path, class_names: Sequence[str]) -> tuple[list[tuple[str, ProbRow]], bool]:
    """Id and numbers in class order of each row of a file of probabilities; and whether names told the columns."""
    try:
        names = pq.read_schema(path).names
        columns = names if "pred_probs" not in names else ["sample_id", "pred_probs"]
        table = pq.read_table(path, columns=columns, partitioning=None)
        ids = table.column("sample_id").cast(pa.string()).to_pylist()
    except (*_NO_PARQUET, KeyError) as fault:
        raise TableError(f"{path}: must be Parquet with 'sample_id' and 'pred_probs', but: {fault}.") from None
    if "pred_probs" in names and pa.types.is_struct(table.schema.field("pred_probs").type):
        table = pa.Table.from_struct_array(table.column("pred_probs"))
    is_named = "pred_probs" not in table.column_names
    if is_named:
        others = [name for name in table.column_names if name != "sample_id"]
        if not set(class_names) <= set(others):
            raise TableError(
                f"{path}: must have a column 'pred_probs', or one for each of the classes {listed(tuple(class_names), 12)}, but has "
                f"{listed(others, 12)}. Name the columns as the classes; classes that no label has go into data.class_names."
            )
        values: list[Sequence[float] | None] = list(
            zip(*(table.column(name).to_pylist() for name in class_names), strict=True)
        )
    else:
        values = table.column("pred_probs").to_pylist()
        written = class_names_of(table)
        if is_named := len(written) > 0 and sorted(written) == sorted(class_names):
            order = [written.index(name) for name in class_names]
            values = [None if row is None or len(row) != len(order) else [row[k] for k in order] for row in values]
    return list(zip(ids, values, strict=True)), is_named


def _checked_probs(
    path: Path,
    told: Sequence[tuple[str, ProbRow]],
    sample_ids: Sequence[str],
    fits: Callable[[ProbRow], bool],
    what: str,
) -> npt.NDArray[np.float32]:
    """The numbers of the samples wanted; all faults are listed."""
    rows = dict(told)
    missing = [sample for sample in sample_ids if sample not in rows]
    twice = [str(sample) for sample, count in Counter(sample for sample, _ in told).items() if count > 1]
    broken = [sample for sample in sample_ids if sample in rows and not fits(rows[sample])]
    faults = []
    if missing:
        faults.append(f"every sample must have a row, but {len(missing):,} have none: {listed(missing)}")
    if twice:
        faults.append(f"every sample must have one row, but {len(twice):,} have several: {listed(twice)}")
    if broken:
        faults.append(f"{what}, but do not for {listed(broken)}")
    if faults:
        raise TableError(f"{path}: {'; '.join(faults)}.")
    return np.array([rows[sample] for sample in sample_ids], dtype=np.float32)


def _is_distribution(row: ProbRow, num_classes: int) -> bool:
    """Whether a row holds K shares that sum to 1."""
    return _are_shares(row, num_classes) and abs(sum(row or ()) - 1) < 1e-3


def _are_shares(row: ProbRow, num_classes: int) -> bool:
    """Whether a row holds K numbers within 0 and 1."""
    if row is None or len(row) != num_classes or any(share is None for share in row):
        return False
    return all(0 <= share <= 1 for share in row)


def read_table(path: Path, name: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Return a table that `write_table` wrote.

    Args:
        path: The file.
        name: Which table of the house it is.
        columns: Only these columns; default: all.

    Returns:
        The table.

    Raises:
        StorageError: If the file is missing, damaged or another table.
    """
    with _damage_told(path):
        table = pq.read_table(path, columns=list(columns) if columns else None, partitioning=None)
    _check_table(path, table.schema, name)
    return table


def table_schema(path: Path, name: str) -> pa.Schema:
    """Return the columns of a table that `write_table` or `join_parts` wrote.

    Args:
        path: The file.
        name: Which table of the house it is.

    Returns:
        Its schema.

    Raises:
        StorageError: If the file is missing, damaged or another table.
    """
    with _damage_told(path):
        schema = pq.read_schema(path)
    _check_table(path, schema, name)
    return schema


def read_batches(path: Path, name: str, columns: Sequence[str], num_rows: int = 16_384) -> Iterator[pa.Table]:
    """Yield some columns of a table that `write_table` or `join_parts` wrote, a few rows at a time.

    Args:
        path: The file.
        name: Which table of the house it is.
        columns: Columns that it has.
        num_rows: Rows of every table yielded but the last.

    Yields:
        Tables with rows, in the order of the file.

    Raises:
        StorageError: If the file is missing, damaged or another table.
    """
    with _damage_told(path):
        _check_table(path, pq.read_schema(path), name)
        for batch in parquet_batches(path, columns, num_rows):
            yield pa.Table.from_batches([batch])


@contextmanager
def _damage_told(path: Path) -> Iterator[None]:
    """Turn what Arrow raises on a table of a run into words."""
    try:
        yield
    except FileNotFoundError:
        raise StorageError(f"{path}: the file is missing; the run folder is not whole. Take another run.") from None
    except _NO_PARQUET as fault:
        raise StorageError(
            f"{path}: the file is damaged: {' '.join(str(fault).split())[:200]}. Take another run."
        ) from None


def _check_table(path: Path, schema: pa.Schema, name: str) -> None:
    stated = (schema.metadata or {}).get(b"labelclean.table", b"?").decode()
    if stated != name:
        raise StorageError(f"{path}: the file must hold the table {name!r}, but holds {stated!r}.")


def write_table(path: Path, table: pa.Table, name: str, class_names: Sequence[str] = ()) -> None:
    """Write a table of the house, whole or not at all.

    Args:
        path: Where to.
        table: Its rows; they leave through `conform`.
        name: Which table of the house it is.
        class_names: The K classes in order.

    Raises:
        TableError: If the table breaks a promise.
        StorageError: If the disk refuses.
    """
    conformed = conform(table, name, class_names=class_names)
    with atomic_path(path) as temporary:
        pq.write_table(conformed, temporary, row_group_size=65_536, **parquet_options(conformed.schema))


def parquet_options(schema: pa.Schema) -> dict[str, Any]:
    """Return how tables are packed: words that repeat by dictionary, everything by zstd.

    Probabilities and ids hardly repeat: a dictionary of them takes three times the time and half as much space again.

    Args:
        schema: Of the table.

    Returns:
        Arguments of pyarrow's Parquet writers.
    """
    words = [field.name for field in schema if _is_word(field.type) and field.name != "sample_id"]
    return {"compression": "zstd", "use_dictionary": words or False}


def _is_word(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind))


def join_parts(parts: Sequence[Path], target: Path) -> None:
    """Write the rows of some files one after the other, a row group at a time.

    Args:
        parts: Parquet files of one table, in order, at least one.
        target: Where to.

    Raises:
        StorageError: If the disk refuses.
    """
    schema = pq.read_schema(parts[0])
    with atomic_path(target) as temporary, pq.ParquetWriter(temporary, schema, **parquet_options(schema)) as file:
        for part in parts:
            for batch in parquet_batches(part, None, 65_536):
                file.write_table(pa.Table.from_batches([batch]).cast(schema), row_group_size=65_536)


def write_json(path: Path, record: Any) -> None:
    """Write a JSON file, whole or not at all.

    Args:
        path: Where to.
        record: JSON values; dict order is kept.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Return the content of a JSON file.

    Args:
        path: The file.

    Returns:
        Its content.

    Raises:
        StorageError: If it is missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as fault:
        raise StorageError(f"{path}: the file must be whole JSON, but: {fault}.") from None


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary path beside the target that replaces it when the block ends well.

    Args:
        path: The target.

    Yields:
        Where to write.

    Raises:
        StorageError: If the disk refuses; the target is then as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    except OSError as fault:
        raise StorageError(
            f"{path}: cannot be written: {fault.strerror or fault}. Free space or correct the permissions; nothing was replaced."
        ) from fault
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def written_in_place(path: Path) -> Iterator[None]:
    """Tell what a disk refuses while a file is written that no other one is replaced by.

    Args:
        path: The file.

    Raises:
        StorageError: If the disk refuses.
    """
    try:
        yield
    except OSError as fault:
        raise StorageError(
            f"{path}: cannot be written: {fault.strerror or fault}. Free space or correct the permissions."
        ) from fault


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, unless it is there.

    Args:
        folder: The folder.

    Raises:
        StorageError: If the disk refuses.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise StorageError(
            f"{folder}: the folder cannot be made: {fault.strerror}. Free space or correct the permissions."
        ) from None


def sync(path: Path) -> None:
    """Push a file's or folder's bytes to the disk.

    Args:
        path: File or folder.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def latest_rows(dataset: ds.Dataset) -> npt.NDArray[np.bool_]:
    """Return which rows stand when a row gives way to one of the same key in a later file.

    Args:
        dataset: Labels, from `labels_dataset`; its files in order, the last one wins.

    Returns:
        bool, shape (N,), in the dataset's order. A key that a file holds twice keeps both rows, and
        a missing key is kept: both are faults for `conform` to tell.
    """
    key = [name for name in ("sample_id", "annotator_id") if name in dataset.schema.names]
    rows = dataset.to_table(columns=[*key, "__filename"])
    file_of = pc.index_in(rows.column("__filename"), value_set=pa.array(dataset.files)).to_numpy()
    rows = rows.select(key).append_column("row", pa.array(np.arange(rows.num_rows)))
    stands = np.asarray(pc.is_null(rows.column(key[0])).to_numpy()) if key else np.ones(rows.num_rows, dtype=bool)
    for part in key[1:]:
        stands = stands | pc.is_null(rows.column(part)).to_numpy()
    if "sample_id" in key:
        rows = rows.append_column("file", pa.array(file_of, pa.int32()))
        last = rows.group_by(key).aggregate([("file", "max")])
        stands[rows.join(last, key).filter(pc.field("file") == pc.field("file_max")).column("row").to_numpy()] = True
    return np.asarray(stands, dtype=bool)


def check_readable(path: Path, files: Sequence[Path] | None = None) -> None:
    """Decode the columns that are only carried through and the images, a few rows at a time, and keep nothing.

    Args:
        path: Parquet file or folder of the labels.
        files: Only these of its files; default: all.

    Raises:
        TableError: If a file is damaged; all that are damaged are listed.
    """
    faults = []
    for file in label_files(path) if files is None else files:
        try:
            with pq.ParquetFile(file, memory_map=True) as opened:
                columns = [name for name in opened.schema_arrow.names if name not in KNOWN_LABEL_COLUMNS]
                for column in columns:  # one by one, or a file of one row group would be held as a whole
                    size = 64 if column == "image" else 16_384
                    for _ in opened.iter_batches(size, columns=[column], use_threads=False):
                        pass
        except _NO_PARQUET as fault:
            faults.append(f"{file.name}: {' '.join(str(fault).split())[:200]}")
    if faults:
        raise TableError(f"{path}: {len(faults):,} label files are damaged: {listed(faults, 3)}. Write them again.")


_TABLE_SUFFIXES = {
    ".csv",
    ".tsv",
    ".pq",
    ".parq",
    ".json",
    ".jsonl",
    ".xlsx",
    ".arrow",
    ".feather",
    ".orc",
    ".avro",
    ".gz",
    ".zst",
}


def _visible_files(root: Path) -> list[Path]:
    return [file for file in sorted(root.rglob("*")) if _is_visible(file, root) and not file.is_dir()]


def _is_visible(file: Path, root: Path) -> bool:
    return not any(part.startswith((".", "_")) for part in file.relative_to(root).parts)
