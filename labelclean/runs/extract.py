"""Turn images into features, each content once: part by part, so that only what is refused is held in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from io import BufferedRandom
from itertools import islice
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from labelclean.arrays import IntArray
from labelclean.config import Config
from labelclean.errors import StorageError
from labelclean.features.decoder_pool import ImageSource, Reject
from labelclean.features.store import FeatureStore
from labelclean.probes.sums import hashed_parts
from labelclean.progress import progress
from labelclean.runs.arrivals import arrivals_from, files_to_read
from labelclean.runs.ingest import image_root
from labelclean.runs.label_parts import PART_ROWS
from labelclean.runs.part_files import (
    HASHES,
    LABELLED,
    LOOKS,
    SAMPLES,
    features_path,
    looks_path,
    part_path,
    part_paths,
)
from labelclean.runs.plan import box_margin
from labelclean.runs.record import INTERNAL, part_done, part_of, recorded
from labelclean.runs.tiling import tell_large
from labelclean.storage.parquet import (
    atomic_path,
    image_rows,
    make_folder,
    parquet_batches,
    read_table,
    write_table,
    written_in_place,
)
from labelclean.storage.queries import (
    database,
    images_to_extract,
    images_to_measure,
    rejected_images,
    stored_places,
    usable_hashes,
)
from labelclean.storage.tables import BOX_COLUMNS

if TYPE_CHECKING:
    from labelclean.features.facts import BackboneFacts

_HASH_SCHEMA = pa.schema(
    [(n, pa.string()) for n in ("sample_id", "image_path", "content_hash", "reason_code", "message")]
)


@dataclass(frozen=True)
class RunImages:
    """The images of a run.

    Attributes:
        work: The run's work folder.
        config: The configuration.
        has_bytes: They lie in the labels table.
        boxed: Columns of the boxes, where samples are boxes.
    """

    work: Path
    config: Config
    has_bytes: bool
    boxed: tuple[str, ...]

    @property
    def files(self) -> list[Path] | None:
        """The labels' files that the run reads; None: all."""
        return files_to_read(self.config, arrivals_from(part_of(self.work, "arrivals")))

    def all(self) -> Iterator[ImageSource]:
        """Yield paths in the order of the samples; bytes in the order of the files, where one may come several times."""
        from labelclean.features.extraction import path_sources

        if self.has_bytes:
            for row in image_rows(self.config.data.labels, self.files, distinct=False):
                yield ImageSource(*row)
            return
        for part in part_paths(self.work, LABELLED):
            yield from path_sources(read_table(part, "samples", ["sample_id", "image_path", *self.boxed]))

    def named_in(self, wanted: Path) -> Iterator[ImageSource]:
        """Yield the images of the samples in a Parquet file, each once."""
        from labelclean.features.extraction import path_sources

        if not self.has_bytes:
            for batch in parquet_batches(wanted, ["sample_id", "image_path", *self.boxed], PART_ROWS):
                yield from path_sources(pa.Table.from_batches([batch]))
            return
        lots = [
            hashed_parts(batch.column(0).to_pylist(), 2**62, seed=0, purpose="wanted")
            for batch in parquet_batches(wanted, ["sample_id"], PART_ROWS)
        ]
        known, taken = np.sort(np.concatenate(lots)), np.zeros(sum(map(len, lots)), dtype=bool)
        for source in self.all():
            lot = hashed_parts([source.sample_id], 2**62, seed=0, purpose="wanted")
            at = min(int(np.searchsorted(known, lot)[0]), len(known) - 1)
            if known[at] == lot[0] and not taken[at]:
                taken[at] = True
                yield source


@dataclass(frozen=True)
class Missing:
    """What the feature store lacks of the images of a run, one sample of each content.

    Attributes:
        wanted: Parquet file of the images to extract.
        num_wanted: Their number.
        num_known: Contents whose features are stored.
        unmeasured: Parquet file of those of them whose pictures were never measured; it need not be there.
        num_unmeasured: Their number.
    """

    wanted: Path
    num_wanted: int
    num_known: int
    unmeasured: Path
    num_unmeasured: int


def extract(work: Path) -> bool:
    """Turn images into features, reusing all that are stored; leaves the usable samples and the rejects."""
    from labelclean.features.backbone import choose_device
    from labelclean.features.decode import decode_digest
    from labelclean.features.facts import backbone_facts
    from labelclean.features.store import feature_store

    if part_done(work, "extract"):
        return True
    with recorded(work, "extract") as (config, record):
        ingest = part_of(work, "ingest")
        images = RunImages(work, config, ingest["has_bytes"], _box_columns(work))
        _hash_parts(images, ingest["num_samples"])
        device, backbone = choose_device(config.run.device), backbone_facts(config)
        margin = box_margin(config, images.boxed)
        decode = decode_digest(config.decode, backbone.input_size, config.backbone.resize, margin)
        store = feature_store(config.storage.cache, backbone.digest, decode, backbone.num_features)
        missing = _missing(images, store)
        refused = _extracted(images, missing, store, backbone)
        record |= {
            "num_extracted": missing.num_wanted - len(refused),
            "num_from_cache": missing.num_known,
            "backbone": {
                "name": backbone.name,
                "digest": backbone.digest,
                "num_features": backbone.num_features,
                "engine": backbone.engine,
            },
            "decode_digest": decode,
            "store": str(store.folder),
            "device": str(device),
            "rejects": _write_usable(work, store, missing.wanted, refused, tuple(ingest["class_names"])),
        }
    return True


# --- inside ---------------------------------------------------------------------------------------


def _box_columns(work: Path) -> tuple[str, ...]:
    """The columns of boxes, where samples are boxes."""
    return BOX_COLUMNS if BOX_COLUMNS[0] in pq.read_schema(part_paths(work, LABELLED)[0]).names else ()


def _hash_parts(images: RunImages, num_samples: int) -> None:
    """Content hash or refusal of every image, in parts; those that a killed run has left stay."""
    from labelclean.features.extraction import hash_images

    make_folder(images.work / INTERNAL / HASHES)
    schema = pa.schema([*_HASH_SCHEMA, *((name, pa.float64()) for name in images.boxed)])
    sources = images.all()
    with progress("reading images", num_samples, "images") as advance:
        number = 0
        while True:
            path = part_path(images.work, HASHES, number)
            batch = islice(sources, PART_ROWS)
            if path.exists():
                num_done = sum(1 for _ in batch)
                advance(num_done)
            else:
                read: list[ImageSource] = []
                hashed = hash_images(_remembered(batch, read), images.config, image_root(images.config), advance)
                rejects = {reject.sample_id: reject for reject in hashed.rejects}
                rows = [_hash_row(source, hashed.content_hashes.get(source.sample_id), rejects) for source in read]
                with atomic_path(path) as temporary:
                    pq.write_table(pa.Table.from_pylist(rows, schema=schema), temporary)
                num_done = len(read)
            number += 1
            if num_done < PART_ROWS:
                return


def _remembered(sources: Iterable[ImageSource], read: list[ImageSource]) -> Iterator[ImageSource]:
    """The same sources; ids and paths are noted."""
    for source in sources:
        read.append(source._replace(image=None))
        yield source


def _hash_row(source: ImageSource, content_hash: str | None, rejects: dict[str, Reject]) -> dict[str, Any]:
    reject = None if content_hash is not None else rejects[source.sample_id]
    return {
        "sample_id": source.sample_id,
        "image_path": source.image_path,
        "content_hash": content_hash,
        "reason_code": reject and reject.reason_code,
        "message": reject and reject.message,
    } | dict(zip(BOX_COLUMNS, source.box or (), strict=False))


def _missing(images: RunImages, store: FeatureStore) -> Missing:
    """Ask which contents are not stored, and which of those that are were never measured."""
    steps = images.work / INTERNAL
    wanted, unmeasured, num_unmeasured = steps / "wanted.parquet", steps / "unmeasured.parquet", 0
    with database(steps / "spill") as connection:
        hashes, stored = part_paths(images.work, HASHES), store.readable_parts()
        num_wanted, num_known = images_to_extract(connection, hashes, stored, wanted, images.boxed)
        if images.config.review.unusable_share and num_known:
            measured = store.looks.readable_parts()
            num_unmeasured = images_to_measure(connection, measured, unmeasured, images.boxed)
    return Missing(wanted, num_wanted, num_known, unmeasured, num_unmeasured)


def _extracted(images: RunImages, missing: Missing, store: FeatureStore, backbone: BackboneFacts) -> dict[str, Reject]:
    """Extract and measure what is missing; the refusals by sample id."""
    from labelclean.features.extraction import extract_missing, measure_looks

    config, root, refused = images.config, image_root(images.config), dict[str, Reject]()
    if missing.num_wanted and not missing.num_known:
        tell_large(config, images.files)
    if missing.num_wanted:
        with progress("extracting features", missing.num_wanted, "images") as advance:
            refused = extract_missing(images.named_in(missing.wanted), store, backbone, config, root, advance)
    if missing.num_unmeasured:
        with progress("measuring stored pictures", missing.num_unmeasured, "images") as advance:
            measure_looks(images.named_in(missing.unmeasured), store, backbone, config, root, advance)
    return refused


def _write_usable(
    work: Path, store: FeatureStore, wanted: Path, refused: dict[str, Reject], names: tuple[str, ...]
) -> dict[str, int]:
    """`samples/`, `features/`, `looks/` and `rejects.parquet`; rejects by reason."""
    with database(work / INTERNAL / "spill") as connection:
        rejected_images(connection, part_paths(work, HASHES), wanted, refused)
        _write_samples(work, connection, names)
        _check_all_there(work, store, _gather(work, connection, store, features_path))
        _gather(work, connection, store.looks, looks_path)
        rejects = connection.sql("SELECT * FROM rejected ORDER BY sample_id").to_arrow_table()
    write_table(work / "rejects.parquet", rejects, "rejects")
    codes = rejects.column("reason_code").value_counts().to_pylist()
    return {row["values"]: row["counts"] for row in sorted(codes, key=lambda row: row["values"])}


def _write_samples(work: Path, connection: Any, names: tuple[str, ...]) -> None:
    """`samples/` with content hashes, part by part as they were labelled."""
    make_folder(work / INTERNAL / SAMPLES)
    for number, part in enumerate(part_paths(work, LABELLED)):
        samples = read_table(part, "samples")
        ids = samples.column("sample_id")
        table = usable_hashes(connection, ids[0].as_py(), ids[-1].as_py())
        rows = pa.compute.index_in(ids, value_set=table.column("sample_id").combine_chunks())
        usable = samples.filter(pa.compute.is_valid(rows))
        usable = usable.append_column("content_hash", table.column("content_hash").take(rows.drop_null()))
        write_table(part_path(work, SAMPLES, number), usable, "samples", names)


def _gather(work: Path, connection: Any, store: FeatureStore, path_of: Callable[[Path], Path]) -> int:
    """One array per part of the samples, float16; every part of the store is read once. Returns the rows that are there."""
    parts = part_paths(work, SAMPLES)
    for folder in {path_of(part).parent for part in parts}:
        make_folder(folder)
    num_stored, offsets = 0, [_empty_array(path_of(part), pq.read_metadata(part).num_rows, store) for part in parts]
    for stored, rows, samples, places in stored_places(connection, parts, store.parts()) if store.parts() else ():
        features, num_stored = store.read_part(Path(stored)), num_stored + len(places)
        for number in np.unique(samples).tolist():
            at = np.flatnonzero(samples == number)
            at = at[np.argsort(places[at], kind="stable")]
            path = path_of(parts[number])
            with written_in_place(path), path.open("r+b") as file:
                _write_runs(file, offsets[number], features[rows[at]], places[at])
    return num_stored


def _check_all_there(work: Path, store: FeatureStore, num_stored: int) -> None:
    """Refuse to go on without the features of a sample; images are read anew then, for one may have changed."""
    num_usable = sum(pq.read_metadata(part).num_rows for part in part_paths(work, SAMPLES))
    if num_stored == num_usable:
        return
    rmtree(work / INTERNAL / HASHES)
    raise StorageError(
        f"{store.folder}: the feature cache must hold all {num_usable:,} usable images, but {num_usable - num_stored:,} are "
        "missing: images or the cache were changed while the run read them. Run again; they will be extracted."
    )


def _empty_array(path: Path, num_rows: int, store: FeatureStore) -> int:
    """Make an array file of the right size; where its numbers begin, bytes."""
    shape = (num_rows, store.num_features)
    with written_in_place(path), path.open("wb") as file:  # never mapped: a full disk would kill the process
        np.lib.format.write_array_header_1_0(file, {"descr": "<f2", "fortran_order": False, "shape": shape})
        offset = file.tell()
        if path.parent.name == LOOKS:  # what is not measured; features are all there, or the run stops
            file.write(np.full(shape, np.nan, dtype="<f2").tobytes())
        file.truncate(offset + 2 * num_rows * store.num_features)
    return offset


def _write_runs(file: BufferedRandom, offset: int, features: npt.NDArray[np.float16], places: IntArray) -> None:
    """Rows at their places; those that follow each other in one go."""
    width = features.shape[1] * features.itemsize
    for run in np.split(np.arange(len(places)), np.flatnonzero(np.diff(places) != 1) + 1):
        file.seek(offset + int(places[run[0]]) * width)
        file.write(np.ascontiguousarray(features[run[0] : run[-1] + 1]).tobytes())
