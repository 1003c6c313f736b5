"""`run --dry-run`: what a run will take in time and disk, measured on 64 of its images, without leaving a trace."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from labelclean.config import Config
from labelclean.features.decoder_pool import ImageSource, Reject
from labelclean.features.extraction import extract_missing, hash_images, path_sources
from labelclean.features.facts import BackboneFacts, backbone_facts
from labelclean.features.store import FeatureStore, feature_store
from labelclean.runs.ingest import image_root, samples_of, validated
from labelclean.runs.tiling import measured_tiling, settled, with_tiles
from labelclean.storage.parquet import image_rows

NUM_MEASURED = 64
NUM_WARM_UP = 8
NUM_MADE_UP = 1024
REPORT_BYTES = 8_000_000
SAMPLE_BYTES = 400


@dataclass(frozen=True)
class ImageCost:
    """What reading and extracting images takes here.

    Attributes:
        num_measured: Images measured.
        num_stored: Those whose features are stored already.
        rejects: Refusals among them.
        start_s: Seconds until the first image is done.
        hash_s: Seconds per image to read it.
        extract_s: Seconds per image to decode it and make its feature.
        feature_bytes: Bytes on disk per feature.
        num_features: D.
        device: Where it was computed.
    """

    num_measured: int
    num_stored: int
    rejects: tuple[Reject, ...]
    start_s: float
    hash_s: float
    extract_s: float
    feature_bytes: float
    num_features: int
    device: str


@dataclass(frozen=True)
class Forecast:
    """What a run will take.

    Attributes:
        num_samples: Samples in the labels.
        images: What its images cost.
        extract_s: Seconds for all images whose features are not stored.
        clean_s: Seconds to clean their labels.
        disk_bytes: Bytes that the run adds to the disk.
        free_bytes: Bytes free where the features are stored.
        sentences: The same for people.
    """

    num_samples: int
    images: ImageCost
    extract_s: float
    clean_s: float
    disk_bytes: float
    free_bytes: int
    sentences: tuple[str, ...]

    @property
    def total_s(self) -> float:
        """Seconds in all."""
        return self.images.start_s + self.extract_s + self.clean_s


def forecast_run(config: Config) -> Forecast:
    """Return what a run will take, measured on 64 of its images; nothing is kept.

    Args:
        config: The configuration.

    Returns:
        The forecast.

    Raises:
        LabelcleanError: If the labels, the backbone or the device cannot be used.
    """
    checked = validated(config)
    samples, names, has_bytes = samples_of(config, None)
    config, asked = settled(config), config
    num, sources = samples.num_rows, some_sources(config, samples, has_bytes)
    images = measure_images(config, sources)
    to_extract = 1.0 - images.num_stored / max(images.num_measured, 1)
    extract_s = num * (images.hash_s + to_extract * images.extract_s)
    clean_s = cleaning_seconds(config, num, images.num_features, len(names))
    disk = num * (to_extract * images.feature_bytes + SAMPLE_BYTES + 8 * len(names)) + REPORT_BYTES
    place = next(path for path in (config.storage.cache, *config.storage.cache.parents) if path.is_dir())
    free = shutil.disk_usage(place).free
    forecast = Forecast(num, images, extract_s, clean_s, disk, free, ())
    sentences = (*checked["sentences"], *_tile_sentences(asked, config, images, sources), *_sentences(forecast))
    return Forecast(num, images, extract_s, clean_s, disk, free, sentences)


def forecast_record(forecast: Forecast) -> dict[str, Any]:
    """Return a forecast as JSON values."""
    record = asdict(forecast) | {"total_s": forecast.total_s}
    record["images"]["rejects"] = [reject._asdict() for reject in forecast.images.rejects]
    return record


def some_sources(config: Config, samples: pa.Table, has_bytes: bool) -> list[ImageSource]:
    """Return the images to measure: spread evenly over the samples, or the first where a table holds the bytes.

    Args:
        config: Gives the labels.
        samples: Table `samples`.
        has_bytes: Whether the labels hold the images themselves.

    Returns:
        At most 72 images.
    """
    wanted = NUM_WARM_UP + NUM_MEASURED
    if has_bytes:
        return [ImageSource(*row) for row in islice(image_rows(config.data.labels), wanted)]
    rows = np.unique(np.linspace(0, samples.num_rows - 1, num=min(wanted, samples.num_rows)).astype(np.int64))
    return path_sources(samples.take(pa.array(rows)))


def measure_images(config: Config, sources: Sequence[ImageSource]) -> ImageCost:
    """Return what images cost to read and to extract; the features go to a folder that is removed.

    Args:
        config: Sections `backbone`, `decode`, `run` and `storage` are read.
        sources: Some images; the first few warm the machine up.

    Returns:
        The cost per image.
    """
    from labelclean.features.backbone import choose_device
    from labelclean.features.decode import decode_digest

    root, device = image_root(config), choose_device(config.run.device)
    facts = backbone_facts(config)
    warm_up = min(NUM_WARM_UP, len(sources) // 2)
    first, measured = list(sources[:warm_up]), list(sources[warm_up:])
    started = time.monotonic()
    hashed = hash_images(iter(measured), config, root, _nothing)
    hash_s = (time.monotonic() - started) / max(len(measured), 1)
    margin = config.data.box_margin if sources and sources[0].box else None
    decode = decode_digest(config.decode, facts.input_size, config.backbone.resize, margin)
    known = feature_store(config.storage.cache, facts.digest, decode, facts.num_features).known()
    with tempfile.TemporaryDirectory(prefix="labelclean-dry-run-") as scratch:
        start_s, _ = _extracted(first, facts, config, Path(scratch) / "first")  # imports the frameworks
        again_s, _ = _extracted(first, facts, config, Path(scratch) / "again")
        # every call loads the backbone anew: what this one takes longer is what its further images take
        seconds, refused = _extracted([*first, *measured], facts, config, Path(scratch) / "all")
        stored = sum(file.stat().st_size for file in (Path(scratch) / "all").rglob("*") if file.is_file())
    usable = max(len(sources) - len(refused), 1)
    return ImageCost(
        num_measured=len(measured),
        num_stored=len(set(hashed.content_hashes.values()) & known),
        rejects=(*hashed.rejects, *refused),
        start_s=start_s,
        hash_s=hash_s,
        extract_s=max(seconds - again_s, 0.02 * seconds) / max(len(measured), 1),
        feature_bytes=stored / usable,
        num_features=facts.num_features,
        device=str(device),
    )


def cleaning_seconds(config: Config, num_samples: int, num_features: int, num_classes: int) -> float:
    """Return about how long the cleaning of so many labels will take, measured on made-up features.

    The part that compares all pairs grows with the square of the samples, the rest with their number.

    Args:
        config: Sections of the cleaning are read.
        num_samples: N.
        num_features: D.
        num_classes: K.

    Returns:
        Seconds.
    """
    from labelclean.cleaning.power import choose_power, powered
    from labelclean.cleaning.student import refine_labels
    from labelclean.cleaning.teacher import fit_teacher
    from labelclean.labels import given_labels
    from labelclean.probes.feature_space import sample_keys, space_of_keys

    num = min(num_samples, NUM_MADE_UP)
    random = np.random.default_rng(0)
    given = np.arange(num) % num_classes
    centres = random.normal(size=(num_classes, num_features))
    features = (centres[given] + 2.0 * random.normal(size=(num, num_features))).astype(np.float32)
    labels = given_labels(given, num_classes)
    started = time.monotonic()
    ids = [str(row) for row in range(num)]
    keys = sample_keys(ids, None, num_folds=config.teacher.folds, seed=0)
    power = choose_power(features, keys, [labels], config)
    space = space_of_keys(powered(features, power), keys, config)
    refine_labels(space, labels, fit_teacher(space, labels, config, seed=0), config)
    seconds = time.monotonic() - started
    started = time.monotonic()
    features @ features.T
    pairs = (time.monotonic() - started) / num**2
    exact = config.neighbours.method == "exact" or num_samples <= config.neighbours.exact_limit
    squared = pairs * num_samples**2 if exact and config.neighbours.method != "none" else 0.0
    return seconds * num_samples / num + squared


def _extracted(
    sources: Sequence[ImageSource], facts: BackboneFacts, config: Config, folder: Path
) -> tuple[float, list[Reject]]:
    """Seconds to extract some images into a new store, and the refusals."""
    if not sources:
        return 0.0, []
    store = FeatureStore(folder, facts.num_features)
    started = time.monotonic()
    readable = {source.sample_id: source for source in sources}
    hashed = hash_images(iter(sources), config, image_root(config), _nothing)
    first_with = {
        digest: sample for sample, digest in reversed(hashed.content_hashes.items())
    }  # copies are stored once
    usable = [readable[sample] for sample in first_with.values()]
    config = config.model_copy(update={"run": config.run.model_copy(update={"cluster": None})})
    refused = extract_missing(iter(usable), store, facts, config, image_root(config), _nothing) if usable else {}
    return time.monotonic() - started, list(refused.values())


def _nothing(_: int) -> None:
    """Progress that nobody looks at."""


def _tile_sentences(asked: Config, config: Config, images: ImageCost, sources: Sequence[ImageSource]) -> list[str]:
    """Into how many tiles images are cut and what that costs; where they are not but are large, what `auto` would take."""
    is_auto = asked.backbone.tiles == "auto"
    if is_auto and asked.run.reference is not None:
        choice = "backbone.tiles auto takes what run.reference took, "
    elif is_auto:
        choice = f"{measured_tiling(asked).sentence}: backbone.tiles auto takes "
    else:
        choice = "backbone.tiles: "
    rows, columns = config.backbone.grid
    if rows * columns > 1:
        whole = measure_images(with_tiles(config, 1), sources)
        return [
            f"{choice}{config.backbone.tiles}, {rows * columns} tiles per image: {images.extract_s / whole.extract_s:.1f} times the "
            f"time of one squashed picture ({1000 * images.extract_s:,.0f} ms per image, not {1000 * whole.extract_s:,.0f})"
        ]
    if is_auto:
        return [f"{choice}1, the whole image"]
    advice = measured_tiling(config).advice
    return [advice] if advice else []


def _sentences(forecast: Forecast) -> list[str]:
    images = forecast.images
    rate = 1.0 / max(images.extract_s, 1e-9)
    sentences = [
        f"measured on {images.num_measured} images ({images.device}): {rate:,.0f} images per second, "
        f"{forecast.images.feature_bytes:,.0f} bytes per feature of {images.num_features:,} numbers"
    ]
    if images.rejects:
        codes = Counter(str(reject.reason_code) for reject in images.rejects)
        worst = ", ".join(f"{code} ({count:,})" for code, count in codes.most_common())
        sentences.append(f"{len(images.rejects)} of these images cannot be used: {worst}; {images.rejects[0].message}")
    if images.num_stored:
        sentences.append(f"{images.num_stored} of these images have their features stored already")
    sentences.append(
        f"the run will take about {duration(forecast.total_s)} ({forecast.num_samples:,} images: "
        f"{duration(images.start_s + forecast.extract_s)}, cleaning: {duration(forecast.clean_s)}; Prefect adds half a minute)"
    )
    sentences.append(
        f"it will add about {size(forecast.disk_bytes)} to the disk, which has {size(forecast.free_bytes)} free"
    )
    if forecast.disk_bytes > forecast.free_bytes:
        sentences.append("the disk is too small: free some space, or set storage.cache to another disk")
    return sentences


def duration(seconds: float) -> str:
    """Return a time as people say it.

    Examples:
        >>> duration(8.4), duration(200), duration(9000), duration(200_000)
        ('8 s', '3 min', '2.5 h', '56 h')
    """
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    hours = seconds / 3600
    return f"{seconds / 60:.0f} min" if hours < 1.5 else f"{hours:.1f} h" if hours < 10 else f"{hours:,.0f} h"


def size(num_bytes: float) -> str:
    """Return a number of bytes as people say it.

    Examples:
        >>> size(8_400_000), size(1_250_000_000)
        ('8 MB', '1.2 GB')
    """
    return f"{num_bytes / 1e6:,.0f} MB" if num_bytes < 1e9 else f"{num_bytes / 1e9:,.1f} GB"
