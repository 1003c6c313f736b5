"""The sums of a run in a file of its folder: all that the next night needs of the samples so far."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from labelclean.arrays import IntArray
from labelclean.cleaning.population import LearnedSums
from labelclean.cleaning.sample import choose_sample, read_sample
from labelclean.cleaning.shard_labels import ShardLabels, shard_labels
from labelclean.cleaning.shards import Shard
from labelclean.config import BackboneConfig, Config, DecodeConfig, config_record
from labelclean.errors import ConfigError, StorageError, listed
from labelclean.probes.kernel import Kernel
from labelclean.probes.sums import FeatureSums, TargetSums
from labelclean.storage.parquet import atomic_path, read_json

SUMS = "sums.npz"
KEPT_ROWS = 2_000
FEATURE_SETTINGS = (
    *(f"backbone.{key}" for key in BackboneConfig.model_fields if key not in ("batch_size", "workers")),
    "run.device",
    "run.engine",
)
DECODE_SETTINGS = (
    *(f"decode.{key}" for key in DecodeConfig.model_fields if key not in ("max_pixels", "max_bytes", "timeout_s")),
    "backbone.input_size",
    "backbone.resize",
    "data.box_margin",
)


@dataclass(frozen=True)
class KeptSamples:
    """Some samples of all nights so far, those whose hashes are smallest: neighbours and choices of later nights.

    Attributes:
        features: Raw features, float16, shape (n, D).
        labels: Their labels; all are in the sums.
    """

    features: npt.NDArray[np.float16]
    labels: ShardLabels


@dataclass(frozen=True)
class RunSums:
    """What a run leaves for later nights.

    Attributes:
        class_names: The K class names in order.
        backbone: Digest of everything in the backbone that changes a feature.
        decode: Digest of everything in the decode policy that changes a pixel.
        seed: What the folds were hashed with.
        folds: F.
        counts: Given labels per class over all nights so far, float64, shape (K,).
        sums: Sums of features and targets over all nights so far.
        rows: Raw features of some samples of this night alone, float16, shape (n, D): the drift test compares with them.
        row_folds: Fold of each, int64, shape (n,).
        noise: Column -> value -> number of labels and expected number of wrong ones, this night.
        runs: Ids of the earlier runs whose samples are in the sums too, oldest first.
        kept: Samples that later nights see; None in a folder of an older version, which gives its sums alone.
    """

    class_names: tuple[str, ...]
    backbone: str
    decode: str
    seed: int
    folds: int
    counts: npt.NDArray[np.float64]
    sums: LearnedSums
    rows: npt.NDArray[np.float16]
    row_folds: IntArray
    noise: Mapping[str, Mapping[str, tuple[float, float]]]
    runs: tuple[str, ...]
    kept: KeptSamples | None = None


def write_run_sums(folder: Path, run: RunSums) -> None:
    """Write the sums of a run; of X'X the lower half.

    Args:
        folder: The run's folder.
        run: What it leaves.

    Raises:
        StorageError: If the disk refuses.
    """
    names = ("class_names", "backbone", "decode", "seed", "folds", "noise", "runs")
    facts = json.dumps({name: getattr(run, name) for name in names})
    arrays: dict[str, Any] = {
        "said": np.array(facts),
        "counts": run.counts,
        "rows": run.rows,
        "row_folds": run.row_folds,
    }
    for one, sums in enumerate(run.sums.features):
        lower = np.tril_indices(len(sums.mean))
        arrays |= {f"mean{one}": sums.mean, f"count{one}": sums.count, f"total{one}": sums.total}
        arrays[f"gram{one}"] = np.stack([gram[lower] for gram in sums.gram])
    for number, targets in enumerate((run.sums.given, *run.sums.rounds)):
        for one, target in enumerate(targets):
            arrays |= {f"y{number}_{one}": target.total, f"xy{number}_{one}": target.cross}
    arrays["power"] = np.array(run.sums.power)
    if run.kept is not None:
        labels = {name: values for name, values in vars(run.kept.labels).items() if values is not None}
        arrays |= {"kept_features": run.kept.features} | {f"kept_{name}": values for name, values in labels.items()}
    if run.sums.kernel is not None:
        arrays |= {f"kernel_{name}": value for name, value in vars(run.sums.kernel).items()}
    with atomic_path(folder / SUMS) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


def read_run_sums(folder: Path) -> RunSums:
    """Return what a run left for later nights.

    Args:
        folder: The run's folder.

    Returns:
        Its sums.

    Raises:
        StorageError: If the folder holds none, or the file is damaged.
    """
    path = folder / SUMS
    try:
        with np.load(path) as kept:
            arrays = {name: kept[name] for name in kept.files}
        said = json.loads(str(arrays["said"]))
        features = tuple(_features(arrays, one) for one in range(2) if f"mean{one}" in arrays)
        targets: list[tuple[TargetSums, ...]] = []
        while f"y{len(targets)}_0" in arrays:
            at = len(targets)
            targets.append(
                tuple(TargetSums(arrays[f"y{at}_{one}"], arrays[f"xy{at}_{one}"]) for one in range(len(features)))
            )
        kernel = None
        if "kernel_seats" in arrays:
            kernel = Kernel(arrays["kernel_seats"], float(arrays["kernel_width"]), arrays["kernel_whitening"])
        power = float(arrays.get("power", np.array(1.0)))
        sums = LearnedSums(features, targets[0], tuple(targets[1:]), kernel, power)
        kept = None
        if "kept_features" in arrays:
            labels = {name[5:]: values for name, values in arrays.items() if name.startswith("kept_")}
            kept = KeptSamples(labels.pop("features"), ShardLabels(**labels))
    except FileNotFoundError:
        raise StorageError(
            f"{path}: run.reference must name a run folder with {SUMS}, but there is none: the run is older than this version, "
            "was stopped by a gate, or used a method without sums. Name another run."
        ) from None
    except (OSError, KeyError, ValueError, IndexError) as fault:
        raise StorageError(f"{path}: the sums must be whole, but: {fault}. Name another run.") from None
    said |= {"class_names": tuple(said["class_names"]), "runs": tuple(said["runs"])}
    return RunSums(
        **said, counts=arrays["counts"], sums=sums, rows=arrays["rows"], row_folds=arrays["row_folds"], kept=kept
    )


def kept_samples(
    shards: Sequence[Shard], labels: Sequence[Path], num_tonight: int, num_classes: int
) -> tuple[npt.NDArray[np.float16], IntArray, KeptSamples]:
    """Return what a run leaves of single samples: up to 2,000 of tonight, and up to 2,000 of all nights.

    Args:
        shards: Feature shards, those of earlier nights last.
        labels: File with the labels of each.
        num_tonight: How many of them are tonight's.
        num_classes: K.

    Returns:
        Raw features and folds of tonight's, and the samples of all nights.
    """
    tonight = choose_sample(labels[:num_tonight], num_classes, KEPT_ROWS)
    everybody = choose_sample(labels, num_classes, KEPT_ROWS)
    known = shard_labels(replace(everybody.labels, is_audited=None), everybody.keys, old=np.ones(len(everybody), bool))
    kept = KeptSamples(read_sample(shards, everybody).astype(np.float16), known)
    return read_sample(shards, tonight).astype(np.float16), tonight.keys.folds, kept


def check_reference(
    reference: RunSums, folder: Path, config: Config, class_names: tuple[str, ...], backbone: str, decode: str
) -> None:
    """Refuse a reference whose sums mean something else than tonight's.

    Args:
        reference: What it left.
        folder: Its folder, for the message.
        config: `run.seed`, `teacher` and `refine.rounds` are read.
        class_names: Tonight's classes.
        backbone: Digest of tonight's backbone.
        decode: Digest of tonight's decode policy.

    Raises:
        ConfigError: If they differ; all differences are named.
    """
    faults = []
    if reference.backbone != backbone:
        why = _other_settings(folder, config, FEATURE_SETTINGS) or (
            "no setting: its weights, the versions of what computes them, or the device, precision or engine that auto took"
        )
        faults.append(f"the backbone's features are others (what differs: {why})")
    if reference.decode != decode:
        why = _other_settings(folder, config, DECODE_SETTINGS) or "the version"
        faults.append(f"images are decoded in another way (what differs: {why})")
    if reference.class_names != class_names:
        new = [name for name in class_names if name not in reference.class_names]
        gone = [name for name in reference.class_names if name not in class_names]
        order = "" if new or gone else "; the order differs"
        faults.append(
            f"the class list differs: {listed(new) if new else 'nothing'} is new, {listed(gone) if gone else 'nothing'} is gone{order}"
        )
    landmarks = 0 if reference.sums.kernel is None else 1
    for key, now, then in (
        ("run.seed", config.run.seed, reference.seed),
        ("teacher.folds", config.teacher.folds, reference.folds),
        ("teacher.landmarks above 0", int(config.teacher.landmarks >= 2), landmarks),
        (
            "refine.rounds",
            (config.refine.rounds or 1) if config.refine.method in ("auto", "posterior") else 0,
            len(reference.sums.rounds),
        ),
    ):
        if now != then and not (key == "refine.rounds" and now < then):
            faults.append(f"{key} is {now}, there {then}")
    if config.teacher.power not in ("auto", reference.sums.power):
        faults.append(f"teacher.power is {config.teacher.power}, there {reference.sums.power:g}")
    if faults:
        raise ConfigError(
            f"run.reference = {folder}: its sums cannot be added to, because {'; '.join(faults)}. Give tonight's run the "
            "settings of the reference, or run without run.reference over all data once."
        )


def _other_settings(folder: Path, config: Config, keys: Sequence[str]) -> str:
    """Settings that the reference run had otherwise, as its manifest tells; empty where it tells of none."""
    manifest = folder / "manifest.json"
    if not manifest.is_file():
        return ""
    now, then = config_record(config), read_json(manifest).get("config", {})
    faults = []
    for section, key in (name.split(".") for name in keys):
        value, before = now[section][key], then.get(section, {}).get(key, now[section][key])
        if value != before:
            faults.append(f"{section}.{key} is {value!r}, there {before!r}")
    return ", ".join(faults)


def _features(arrays: Mapping[str, Any], one: int) -> FeatureSums:
    size = len(arrays[f"mean{one}"])
    lower = np.tril_indices(size)
    grams = np.zeros((len(arrays[f"gram{one}"]), size, size))
    for gram, half in zip(grams, arrays[f"gram{one}"], strict=True):
        gram[lower] = half
        gram += np.tril(gram, -1).T
    return FeatureSums(arrays[f"mean{one}"], arrays[f"count{one}"], arrays[f"total{one}"], grams)
