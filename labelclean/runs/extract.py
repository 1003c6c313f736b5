"""Turn images into features, each content once."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from labelclean.progress import progress
from labelclean.runs.arrivals import arrivals_from, files_to_read
from labelclean.runs.ingest import image_root
from labelclean.runs.ingest_parts import LOOKS, looks_path
from labelclean.runs.plan import box_margin, plan_of
from labelclean.runs.record import INTERNAL, part_done, part_of, recorded
from labelclean.runs.tiling import tell_large
from labelclean.storage.parquet import image_rows, make_folder, read_table, write_table


def extract(work: Path) -> bool:
    """Turn images into features, reusing all that are stored; leaves the usable samples and the rejects."""
    from labelclean.features.backbone import choose_device
    from labelclean.features.decode import decode_digest
    from labelclean.features.decoder_pool import ImageSource
    from labelclean.features.extraction import extract_missing, hash_images, measure_looks, path_sources
    from labelclean.features.facts import backbone_facts
    from labelclean.features.store import feature_store

    if part_done(work, "extract"):
        return True
    with recorded(work, "extract") as (config, record):
        if plan_of(work).is_streamed:
            from labelclean.runs.extract_parts import extract_parts

            extract_parts(work, config, record)
            return True
        names = tuple(part_of(work, "ingest")["class_names"])
        samples = read_table(work / INTERNAL / "labelled.parquet", "samples")
        root = image_root(config)

        def sources(wanted: set[str] | None = None) -> Iterable[ImageSource]:
            files = files_to_read(config, arrivals_from(part_of(work, "arrivals")))
            images = (
                (ImageSource(*row) for row in image_rows(config.data.labels, files))
                if part_of(work, "ingest")["has_bytes"]
                else path_sources(samples)
            )
            return (image for image in images if wanted is None or image.sample_id in wanted)

        with progress("reading images", samples.num_rows, "images") as advance:
            hashed = hash_images(sources(), config, root, advance)
        device = choose_device(config.run.device)
        backbone = backbone_facts(config)
        margin = box_margin(config, samples.column_names)
        decode = decode_digest(config.decode, backbone.input_size, config.backbone.resize, margin)
        store = feature_store(config.storage.cache, backbone.digest, decode, backbone.num_features)
        known = store.known()
        if hashed.content_hashes and not known.intersection(hashed.content_hashes.values()):
            tell_large(config, files_to_read(config, arrivals_from(part_of(work, "arrivals"))))
        first_with = {key: sample for sample, key in reversed(hashed.content_hashes.items()) if key not in known}
        with progress("extracting features", len(first_with), "images") as advance:
            wanted = set(first_with.values())
            refused = extract_missing(sources(wanted), store, backbone, config, root, advance) if wanted else {}
        unmeasured = {}
        if config.review.unusable_share:
            unmeasured = looks_missing(hashed.content_hashes, known, store.looks.known())
        if unmeasured:
            with progress("measuring stored pictures", len(unmeasured), "images") as advance:
                measure_looks(sources(set(unmeasured.values())), store, backbone, config, root, advance)
        refused_hashes = {hashed.content_hashes[sample]: reject for sample, reject in refused.items()}
        record |= {
            "num_extracted": len(first_with) - len(refused),
            "num_from_cache": len(set(hashed.content_hashes.values()) & known),
            "backbone": {
                "name": backbone.name,
                "digest": backbone.digest,
                "num_features": backbone.num_features,
                "engine": backbone.engine,
            },
            "decode_digest": decode,
            "store": str(store.folder),
            "device": str(device),
        }
        usable = _save_usable(work, samples, names, hashed, refused_hashes)
        make_folder(work / INTERNAL / LOOKS)
        np.save(looks_path(work / INTERNAL / "samples.parquet"), store.looks_of(usable))
        record |= _reject_counts(work)
    return True


def looks_missing(hashes: dict[str, str], known: set[str], measured: set[str]) -> dict[str, str]:
    """Return one sample of each content whose features were stored before it was measured what the picture is like.

    Args:
        hashes: Content hash by sample id.
        known: Contents whose features were stored.
        measured: Contents that are measured.

    Returns:
        Sample id by content hash.

    Examples:
        >>> looks_missing({"a": "1", "b": "2", "c": "2", "d": "3"}, {"1", "2"}, {"1"})
        {'2': 'b'}
    """
    return {key: sample for sample, key in reversed(hashes.items()) if key in known and key not in measured}


def _save_usable(
    work: Path, samples: pa.Table, names: tuple[str, ...], hashed: Any, refused: dict[str, Any]
) -> list[str]:
    """Leave `samples.parquet` with content hashes, and `rejects.parquet` with everything else; the usable contents."""
    hashes = [hashed.content_hashes.get(sample) for sample in samples.column("sample_id").to_pylist()]
    usable = np.array([key is not None and key not in refused for key in hashes], dtype=bool)
    table = samples.filter(pa.array(usable)).append_column(
        "content_hash", pa.array([key for key, ok in zip(hashes, usable, strict=True) if ok], pa.string())
    )
    write_table(work / INTERNAL / "samples.parquet", table, "samples", names)
    rejects = {reject.sample_id: reject for reject in hashed.rejects}
    ids, paths = (
        _ids_and_paths(samples)
        if "image_path" in samples.column_names
        else (samples.column("sample_id").to_pylist(), None)
    )
    rows = []
    for row, (sample, key) in enumerate(zip(ids, hashes, strict=True)):
        reject = rejects.get(sample) or refused.get(key or "")
        if reject is not None:
            path = paths[row] if paths else None
            rows.append(
                {"sample_id": sample, "image_path": path, "reason_code": reject.reason_code, "message": reject.message}
            )
    schema = pa.schema([(name, pa.string()) for name in ("sample_id", "image_path", "reason_code", "message")])
    write_table(work / "rejects.parquet", pa.Table.from_pylist(rows, schema=schema), "rejects")
    return [str(key) for key in table.column("content_hash").to_pylist()]


def _reject_counts(work: Path) -> dict[str, Any]:
    codes = read_table(work / "rejects.parquet", "rejects").column("reason_code").value_counts().to_pylist()
    return {"rejects": {row["values"]: row["counts"] for row in sorted(codes, key=lambda row: row["values"])}}


def _ids_and_paths(samples: pa.Table) -> tuple[list[str], list[str | None]]:
    return samples.column("sample_id").to_pylist(), samples.column("image_path").to_pylist()
