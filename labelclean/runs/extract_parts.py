"""`extract` in parts: hashes, samples and features in parts; only what is refused is held in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from io import RawIOBase
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from labelclean.arrays import IntArray
from labelclean.config import Config
from labelclean.features.decoder_pool import ImageSource, Reject
from labelclean.features.store import FeatureStore
from labelclean.probes.sums import hashed_parts
from labelclean.progress import progress
from labelclean.runs.arrivals import arrivals_from, files_to_read
from labelclean.runs.ingest import image_root
from labelclean.runs.ingest_parts import LABELLED, LOOKS, PART_ROWS, looks_path, part_path, part_paths
from labelclean.runs.plan import box_margin
from labelclean.runs.record import INTERNAL, part_of
from labelclean.runs.tiling import tell_large
from labelclean.storage.parquet import atomic_path, image_rows, make_folder, parquet_batches, read_table, write_table
from labelclean.storage.queries import (
    database,
    images_to_extract,
    images_to_measure,
    rejected_images,
    stored_places,
    usable_hashes,
)
from labelclean.storage.tables import BOX_COLUMNS

HASHES = "hashes"
SAMPLES = "samples"
FEATURES = "features"
WANTED = "wanted.parquet"
_HASH_SCHEMA = pa.schema(
    [(n, pa.string()) for n in ("sample_id", "image_path", "content_hash", "reason_code", "message")]
)


def extract_parts(work: Path, config: Config, record: dict[str, Any]) -> None:
    """Hash all images, extract what is not stored; leaves `samples/`, `features/` and `rejects.parquet`.

    Args:
        work: The run's work folder.
        config: The configuration.
        record: The step's record.
    """
    from labelclean.features.backbone import choose_device
    from labelclean.features.decode import decode_digest
    from labelclean.features.extraction import extract_missing, measure_looks
    from labelclean.features.facts import backbone_facts
    from labelclean.features.store import feature_store

    ingest = part_of(work, "ingest")
    _hash_parts(work, config, ingest["num_samples"], has_bytes=ingest["has_bytes"])
    device = choose_device(config.run.device)
    backbone = backbone_facts(config)
    boxed = _box_columns(work)
    margin = box_margin(config, boxed)
    decode = decode_digest(config.decode, backbone.input_size, config.backbone.resize, margin)
    store = feature_store(config.storage.cache, backbone.digest, decode, backbone.num_features)
    hashes, wanted = part_paths(work, HASHES), work / INTERNAL / WANTED
    with database(work / INTERNAL / "spill") as connection:
        num_wanted, num_known = images_to_extract(connection, hashes, store.parts(), wanted, boxed)
        unmeasured, num_unmeasured = work / INTERNAL / "unmeasured.parquet", 0
        if config.review.unusable_share and num_known:
            num_unmeasured = images_to_measure(connection, store.looks.parts(), unmeasured)
    refused: dict[str, Reject] = {}
    if num_wanted and not num_known:
        tell_large(config, files_to_read(config, arrivals_from(part_of(work, "arrivals"))))
    if num_wanted:
        with progress("extracting features", num_wanted, "images") as advance:
            sources = _wanted_sources(work, config, wanted, has_bytes=ingest["has_bytes"])
            refused = extract_missing(sources, store, backbone, config, image_root(config), advance)
    if num_unmeasured:
        with progress("measuring stored pictures", num_unmeasured, "images") as advance:
            sources = _wanted_sources(work, config, unmeasured, has_bytes=ingest["has_bytes"])
            measure_looks(sources, store, backbone, config, image_root(config), advance)
    with database(work / INTERNAL / "spill") as connection:
        rejected_images(connection, hashes, wanted, refused)
        counts = _write_samples(work, connection, tuple(ingest["class_names"]))
        _gather(work, connection, store, _features_path)
        _gather(work, connection, store.looks, looks_path)
    record |= {
        "num_extracted": num_wanted - len(refused),
        "num_from_cache": num_known,
        "backbone": {
            "name": backbone.name,
            "digest": backbone.digest,
            "num_features": backbone.num_features,
            "engine": backbone.engine,
        },
        "decode_digest": decode,
        "store": str(store.folder),
        "device": str(device),
        "rejects": counts,
    }


def _hash_parts(work: Path, config: Config, num_samples: int, *, has_bytes: bool) -> None:
    """Content hash or refusal of every image, in parts; those that a killed run has left stay."""
    from labelclean.features.extraction import hash_images

    make_folder(work / INTERNAL / HASHES)
    schema = pa.schema([*_HASH_SCHEMA, *((name, pa.float64()) for name in _box_columns(work))])
    sources = _sources(work, config, has_bytes=has_bytes)
    with progress("reading images", num_samples, "images") as advance:
        number = 0
        while True:
            path = part_path(work, HASHES, number)
            batch = islice(sources, PART_ROWS)
            if path.exists():
                num_done = sum(1 for _ in batch)
                advance(num_done)
            else:
                kept: list[ImageSource] = []
                hashed = hash_images(_remembered(batch, kept), config, image_root(config), advance)
                rejects = {reject.sample_id: reject for reject in hashed.rejects}
                rows = [_hash_row(source, hashed.content_hashes.get(source.sample_id), rejects) for source in kept]
                with atomic_path(path) as temporary:
                    pq.write_table(pa.Table.from_pylist(rows, schema=schema), temporary)
                num_done = len(kept)
            number += 1
            if num_done < PART_ROWS:
                return


def _box_columns(work: Path) -> tuple[str, ...]:
    """The columns of boxes, where samples are boxes."""
    return BOX_COLUMNS if BOX_COLUMNS[0] in pq.read_schema(part_paths(work, LABELLED)[0]).names else ()


def _remembered(sources: Iterable[ImageSource], kept: list[ImageSource]) -> Iterator[ImageSource]:
    """The same sources; ids and paths are noted."""
    for source in sources:
        kept.append(source._replace(image=None))
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


def _sources(work: Path, config: Config, *, has_bytes: bool) -> Iterator[ImageSource]:
    """All images: paths in the order of the samples, bytes in the order of the files, where one may come several times."""
    from labelclean.features.extraction import path_sources

    if has_bytes:
        files = files_to_read(config, arrivals_from(part_of(work, "arrivals")))
        for row in image_rows(config.data.labels, files, distinct=False):
            yield ImageSource(*row)
        return
    for part in part_paths(work, LABELLED):
        yield from path_sources(read_table(part, "samples", ["sample_id", "image_path", *_box_columns(work)]))


def _wanted_sources(work: Path, config: Config, wanted: Path, *, has_bytes: bool) -> Iterator[ImageSource]:
    """The images to extract, each content once."""
    from labelclean.features.extraction import path_sources

    if not has_bytes:
        for batch in parquet_batches(wanted, ["sample_id", "image_path", *_box_columns(work)], PART_ROWS):
            yield from path_sources(pa.Table.from_batches([batch]))
        return
    lots = [
        hashed_parts(batch.column(0).to_pylist(), 2**62, seed=0, purpose="wanted")
        for batch in parquet_batches(wanted, ["sample_id"], PART_ROWS)
    ]
    known, taken = np.sort(np.concatenate(lots)), np.zeros(sum(map(len, lots)), dtype=bool)
    for source in _sources(work, config, has_bytes=True):
        lot = hashed_parts([source.sample_id], 2**62, seed=0, purpose="wanted")
        at = min(int(np.searchsorted(known, lot)[0]), len(known) - 1)
        if known[at] == lot[0] and not taken[at]:
            taken[at] = True
            yield source


def _write_samples(work: Path, connection: Any, names: tuple[str, ...]) -> dict[str, int]:
    """`samples/` with content hashes, part by part as they were labelled, and `rejects.parquet`; rejects by reason."""
    make_folder(work / INTERNAL / SAMPLES)
    for number, part in enumerate(part_paths(work, LABELLED)):
        samples = read_table(part, "samples")
        ids = samples.column("sample_id")
        table = usable_hashes(connection, ids[0].as_py(), ids[-1].as_py())
        rows = pa.compute.index_in(ids, value_set=table.column("sample_id").combine_chunks())
        samples_kept = samples.filter(pa.compute.is_valid(rows))
        samples_kept = samples_kept.append_column("content_hash", table.column("content_hash").take(rows.drop_null()))
        write_table(part_path(work, SAMPLES, number), samples_kept, "samples", names)
    rejects = connection.sql("SELECT * FROM rejected ORDER BY sample_id").to_arrow_table()
    write_table(work / "rejects.parquet", rejects, "rejects")
    codes = rejects.column("reason_code").value_counts().to_pylist()
    return {row["values"]: row["counts"] for row in sorted(codes, key=lambda row: row["values"])}


def _gather(work: Path, connection: Any, store: FeatureStore, path_of: Callable[[Path], Path]) -> None:
    """One array per part of the samples, float16, NaN for what is not stored; every part of the store is read once."""
    parts = part_paths(work, SAMPLES)
    for folder in {path_of(part).parent for part in parts}:
        make_folder(folder)
    offsets = [_empty_array(path_of(part), pq.read_metadata(part).num_rows, store) for part in parts]
    for stored, rows, samples, places in stored_places(connection, parts, store.parts()) if store.parts() else ():
        features = store.read_part(Path(stored))
        for number in np.unique(samples).tolist():
            at = np.flatnonzero(samples == number)
            at = at[np.argsort(places[at], kind="stable")]
            with path_of(parts[number]).open("r+b", buffering=0) as file:
                _write_runs(file, offsets[number], features[rows[at]], places[at])


def _features_path(part: Path) -> Path:
    return part.parent.parent / FEATURES / f"{part.stem}.npy"


def _empty_array(path: Path, num_rows: int, store: FeatureStore) -> int:
    """Make an array file of the right size; where its numbers begin, bytes."""
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=(num_rows, store.num_features))
    if path.parent.name == LOOKS:
        array[:] = np.nan  # features are all there
    return int(array.offset)


def _write_runs(file: RawIOBase, offset: int, features: npt.NDArray[np.float16], places: IntArray) -> None:
    """Rows at their places; those that follow each other in one go."""
    width = features.shape[1] * features.itemsize
    for run in np.split(np.arange(len(places)), np.flatnonzero(np.diff(places) != 1) + 1):
        file.seek(offset + int(places[run[0]]) * width)
        file.write(np.ascontiguousarray(features[run[0] : run[-1] + 1]).tobytes())
