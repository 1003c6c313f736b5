"""Features on disk, keyed by image content, so that no image is extracted twice."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from labelclean.errors import ConfigError, StorageError, listed
from labelclean.features.appearance import LOOKS
from labelclean.storage.parquet import make_folder, write_table
from labelclean.storage.tables import matrix, vectors

LOG = logging.getLogger("labelclean")
HALF_PRECISION_MAX = 65_504.0
_DEAD_AFTER_S = 86_400.0


@dataclass(frozen=True)
class FeatureStore:
    """Features on disk, keyed by image content, for one backbone and decode policy.

    Attributes:
        folder: Holds the parts.
        num_features: D.
    """

    folder: Path
    num_features: int

    @property
    def looks(self) -> FeatureStore:
        """What the same images are like (`appearance.LOOKS`), stored the same way; older stores have none."""
        return FeatureStore(self.folder / "looks", len(LOOKS))

    def part_index(self) -> dict[str, tuple[Path, int]]:
        """Return part and row of every stored feature, by content hash."""
        index: dict[str, tuple[Path, int]] = {}
        for part in self.parts():
            table = self._read(part, ["content_hash"])
            if table is not None:
                index |= {key: (part, row) for row, key in enumerate(table.column("content_hash").to_pylist())}
        return index

    def known(self) -> set[str]:
        """Return the content hashes whose features are stored."""
        return set(self.part_index())

    def append(self, hashes: Sequence[str], features: npt.NDArray[np.floating]) -> None:
        """Store features as one new part.

        Args:
            hashes: Content hash of each row, shape (B,).
            features: Shape (B, D), finite; stored as float16.

        Raises:
            StorageError: If the disk refuses.
            ConfigError: If a value does not fit float16.
        """
        largest = float(np.abs(features).max(initial=0.0))
        if not largest <= HALF_PRECISION_MAX:
            raise ConfigError(
                f"the backbone's features must lie within +-{HALF_PRECISION_MAX:,.0f} to be stored, but reach {largest:,.0f}. "
                "Choose another backbone, or one with a final normalisation."
            )
        half = features.astype(np.float16)
        make_folder(self.folder)
        self._sweep()
        name = hashlib.sha256("".join(hashes).encode()).hexdigest()[:24]
        table = pa.table({"content_hash": pa.array(hashes, pa.string()), "feature": vectors(half)})
        write_table(self.folder / f"part-{name}.parquet", table, "features")

    def append_looks(self, described: Sequence[tuple[str, Sequence[float]]]) -> None:
        """Store what images are like.

        Args:
            described: Content hash and looks of each.

        Raises:
            StorageError: If the disk refuses.
        """
        if described:
            keys, looks = zip(*described, strict=True)
            self.looks.append(keys, np.array(looks, dtype=np.float32))

    def read(self, hashes: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return the features of some images.

        Args:
            hashes: Content hashes, shape (N,); repeats allowed.

        Returns:
            float32, shape (N, D), rows aligned with ``hashes``.

        Raises:
            StorageError: If one of them is not stored.
        """
        index = self.part_index()
        missing = [key for key in hashes if key not in index]
        if missing:
            raise StorageError(
                f"{self.folder}: the feature cache must hold all {len(hashes):,} images, but {len(missing):,} are missing: "
                f"{listed(missing, 3)}. Run again; they will be extracted."
            )
        rows_of: dict[Path, list[tuple[int, int]]] = {}
        for row, key in enumerate(hashes):
            part, stored = index[key]
            rows_of.setdefault(part, []).append((row, stored))
        features = np.empty((len(hashes), self.num_features), dtype=np.float32)
        for part, places in rows_of.items():
            to, stored_rows = np.array(places).T
            table = self._read(part, ["feature"])
            if table is None:
                raise StorageError(
                    f"{part}: the part of the feature cache is damaged. Run again; it will be extracted."
                )
            features[to] = matrix(table.column("feature"))[stored_rows]
        return features

    def _sweep(self) -> None:
        """Remove half-written parts of runs that were killed; a living one is done with its own in seconds."""
        for half in self.folder.glob(".part-*.tmp"):
            with suppress(OSError):
                if time.time() - half.stat().st_mtime > _DEAD_AFTER_S:
                    half.unlink()

    def read_part(self, part: Path) -> npt.NDArray[np.float16]:
        """Return all features of one part.

        Args:
            part: One of `parts`.

        Returns:
            float16, shape (B, D).

        Raises:
            StorageError: If the part is damaged; it is put aside.
        """
        table = self._read(part, ["feature"])
        if table is None:
            raise StorageError(f"{part}: the part of the feature cache is damaged. Run again; it will be extracted.")
        return np.asarray(matrix(table.column("feature")), dtype=np.float16)

    def parts(self) -> list[Path]:
        """Return the files of the store."""
        return sorted(self.folder.glob("part-*.parquet")) if self.folder.is_dir() else []

    def readable_parts(self) -> list[Path]:
        """Return the files of the store, those that are damaged put aside."""
        return [part for part in self.parts() if self._read(part, ["content_hash"]) is not None]

    def _read(self, part: Path, columns: list[str]) -> pa.Table | None:
        """A part's columns; a damaged part is put aside, said, and its images extracted again."""
        try:
            return pq.read_table(part, columns=columns, partitioning=None)
        except (pa.ArrowException, OSError) as fault:
            LOG.warning("%s is damaged (%s) and put aside; its images are extracted again", part, fault)
            with suppress(OSError):
                part.replace(part.with_suffix(".damaged"))
            return None


def feature_store(cache: Path, backbone_digest: str, decode_digest: str, num_features: int) -> FeatureStore:
    """Return the store for one backbone and decode policy.

    Args:
        cache: `storage.cache`.
        backbone_digest: Digest of everything in the backbone that changes a feature.
        decode_digest: Digest of everything in the decode policy that changes a pixel.
        num_features: D.

    Returns:
        The store; its folder need not exist yet.
    """
    return FeatureStore(cache / "features" / f"{backbone_digest[:16]}-{decode_digest[:16]}", num_features)
