"""Features in shards: arrays in memory; or on disk, Parquet files or .npy arrays, read a block at a time and never mapped."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from labelclean.arrays import IntArray
from labelclean.errors import StorageError, TableError, listed
from labelclean.storage.parquet import parquet_batches
from labelclean.storage.tables import matrix

KINDS = (".npy", ".parquet")
FeatureBlock = npt.NDArray[np.floating]


class Shard(Protocol):
    """Features of some samples."""

    @property
    def name(self) -> str:
        """What messages call it."""

    @property
    def num_rows(self) -> int:
        """Its samples."""

    @property
    def num_features(self) -> int:
        """D."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """That of the features."""

    @property
    def digest(self) -> str:
        """Changes when the features do."""

    def blocks(self, num_rows: int) -> Iterator[tuple[int, FeatureBlock]]:
        """Yield first row and features, shape (B, D), of one block after the other."""

    def take(self, rows: IntArray, num_rows: int) -> FeatureBlock:
        """Return some rows, ascending, shape (n, D)."""


@dataclass(frozen=True)
class HeldShard:
    """Features that are in memory, or mapped into it.

    Attributes:
        features: Real numbers, shape (m, D).
        name: What messages call them.
    """

    features: npt.NDArray[Any]
    name: str = "features"

    @property
    def num_rows(self) -> int:
        """Its samples."""
        return len(self.features)

    @property
    def num_features(self) -> int:
        """D."""
        return int(self.features.shape[1])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Their own; whole numbers are taken as float64."""
        return self.features.dtype if self.features.dtype.kind == "f" else np.dtype(np.float64)

    @property
    def digest(self) -> str:
        """Nothing of it is kept beyond this process, so its shape tells it."""
        return f"{self.name}/{self.features.shape}"

    def blocks(self, num_rows: int) -> Iterator[tuple[int, FeatureBlock]]:
        """Yield first row and features, shape (B, D), of one block after the other."""
        for start in range(0, len(self.features), num_rows):
            yield start, np.asarray(self.features[start : start + num_rows], dtype=self.dtype)

    def take(self, rows: IntArray, num_rows: int) -> FeatureBlock:
        """Return some rows, shape (n, D)."""
        return np.asarray(self.features[rows], dtype=self.dtype)


@dataclass(frozen=True)
class FileShard:
    """One file of features.

    Attributes:
        path: The file.
        num_rows: Its samples.
        num_features: D.
        columns: Its columns; empty for an array.
        dtype: float16 or float32.
        data_start: Where the numbers of an array begin, bytes.
    """

    path: Path
    num_rows: int
    num_features: int
    columns: tuple[str, ...]
    dtype: np.dtype[Any]
    data_start: int = 0

    @property
    def name(self) -> str:
        """What messages call it."""
        return str(self.path)

    @property
    def digest(self) -> str:
        """Digest of name, size and time of change: the content itself is not read for it."""
        status = self.path.stat()
        identity = f"{self.path.name}/{status.st_size}/{status.st_mtime_ns}/{self.num_rows}x{self.num_features}"
        return hashlib.sha256(identity.encode()).hexdigest()

    def blocks(self, num_rows: int) -> Iterator[tuple[int, FeatureBlock]]:
        """Yield first row and features, float16 or float32, shape (B, D), of one block after the other."""
        start = 0
        if self.columns:
            for batch in parquet_batches(self.path, ["feature"], num_rows):
                block = matrix(pa.chunked_array([batch.column(0)]))
                yield start, np.asarray(block)
                start += len(block)
            return
        with self.path.open("rb") as raw:
            raw.seek(self.data_start)
            while start < self.num_rows:
                size = min(num_rows, self.num_rows - start)
                yield start, self._rows(raw, size)
                start += size

    def take(self, rows: IntArray, num_rows: int) -> FeatureBlock:
        """Return some rows, ascending, shape (n, D); an array is read at these places only."""
        taken = np.empty((len(rows), self.num_features), dtype=self.dtype)
        if self.columns:
            for start, block in self.blocks(num_rows):
                first, last = np.searchsorted(rows, [start, start + len(block)])
                taken[first:last] = block[rows[first:last] - start]
            return taken
        width = self.num_features * self.dtype.itemsize
        with self.path.open("rb", buffering=0) as raw:
            for place, row in enumerate(rows.tolist()):
                raw.seek(self.data_start + row * width)
                self._check_size(raw.readinto(taken[place].view(np.uint8)), width)
        return taken

    def column(self, name: str) -> pa.ChunkedArray | None:
        """Return a column other than the features; None where the shard has none of that name."""
        if name not in self.columns:
            return None
        return pq.read_table(self.path, columns=[name], partitioning=None).column(0)

    def _rows(self, raw: Any, size: int) -> FeatureBlock:
        numbers = np.fromfile(raw, dtype=self.dtype, count=size * self.num_features)
        self._check_size(numbers.size, size * self.num_features)
        return numbers.reshape(size, self.num_features)

    def _check_size(self, found: int | None, wanted: int) -> None:
        if found != wanted:
            raise StorageError(
                f"{self.path}: the shard must hold {self.num_rows:,} rows, but ends early. Write it again."
            )


def check_finite(name: str, features: FeatureBlock, places: IntArray) -> None:
    """Refuse features that hold NaN or infinity.

    Args:
        name: What messages call their shard.
        features: float, shape (n, D).
        places: Row of each in the shard, int64, shape (n,).

    Raises:
        TableError: If there are any; the rows are named.
    """
    bad = places[~np.isfinite(features).all(axis=1)]
    if len(bad):
        raise TableError(
            f"{name}: features must be finite, but {len(bad):,} of the {len(features):,} rows looked at hold NaN or infinity: "
            f"rows {bad[:5].tolist()}. Extract them again."
        )


def find_shards(features: str | Path | Sequence[str | Path]) -> tuple[FileShard, ...]:
    """Return the shards in a folder or a list of files.

    Args:
        features: A folder, whose *.parquet and *.npy files are taken by name, or files in order.

    Returns:
        At least one shard; all have the same D.

    Raises:
        TableError: If there is none, or some are no feature shards; all faults are listed.
    """
    if isinstance(features, (str, Path)):
        place = Path(features)
        paths = sorted(one for one in place.iterdir() if one.suffix in KINDS) if place.is_dir() else [place]
    else:
        paths = [Path(one) for one in features]
    if not paths:
        raise TableError(f"{features}: the folder must hold feature shards, *.parquet or *.npy, but has none.")
    shards, faults = [], []
    for path in paths:
        try:
            shards.append(_shard(path))
        except (TableError, OSError, ValueError, pa.ArrowException) as fault:
            faults.append(f"{path.name}: {fault}")
    if len({shard.num_features for shard in shards}) > 1:
        sizes = sorted({f"{shard.num_features} in {shard.path.name}" for shard in shards})
        faults.append(f"all shards must have features of one size, but have {listed(sizes)}")
    if faults:
        raise TableError(
            f"feature shards: {len(faults):,} of {len(paths):,} cannot be used: {listed(faults, 3)}. Write them again."
        )
    return tuple(shards)


def _shard(path: Path) -> FileShard:
    if path.suffix == ".npy":
        with path.open("rb") as raw:
            version = np.lib.format.read_magic(raw)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, is_fortran, dtype = read(raw)
            if len(shape) != 2 or is_fortran or dtype.str not in ("<f2", "<f4"):
                raise TableError(f"must be float16 or float32 of shape (N, D) in row order, but is {dtype} of {shape}")
            return FileShard(path, shape[0], shape[1], (), dtype, raw.tell())
    if path.suffix != ".parquet":
        raise TableError("must be a .parquet or .npy file")
    with pq.ParquetFile(path) as file:
        schema = file.schema_arrow
        kind = schema.field("feature").type if "feature" in schema.names else None
        if kind is None or not pa.types.is_fixed_size_list(kind) or kind.value_type not in (pa.float16(), pa.float32()):
            raise TableError(f"column 'feature' must be a fixed-size list of float16 or float32, but is {kind}")
        dtype = np.dtype(np.float16 if kind.value_type == pa.float16() else np.float32)
        return FileShard(path, file.metadata.num_rows, kind.list_size, tuple(schema.names), dtype)
