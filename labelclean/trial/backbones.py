"""`poc --backbones`: which backbone tells most of the given labels, and what each costs; on one sample, without any truth."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from labelclean.arrays import Float64Array
from labelclean.cleaning.chance import find_unvouched
from labelclean.cleaning.power import choose_power, powered
from labelclean.cleaning.teacher import fit_teacher
from labelclean.config import Config
from labelclean.config.images import BackboneConfig
from labelclean.errors import ConfigError, LabelcleanError, TableError
from labelclean.features.facts import backbone_facts
from labelclean.labels import GivenLabels
from labelclean.noise.model import true_class_probs
from labelclean.probes.feature_space import sample_keys, space_of_keys
from labelclean.runs.ingest import samples_of
from labelclean.runs.tiling import settled
from labelclean.storage.samples import given_labels_of, groups_of
from labelclean.trial.draw import draw_features
from labelclean.trial.first_config import described_weights
from labelclean.trial.forecast import measure_images, some_sources
from labelclean.trial.trial import Material

SPEC = re.compile(
    r"(?P<what>[^@+]+)(@(?P<size>[0-9]+)(x(?P<width>[0-9]+))?)?(?P<several>\+several)?(\+(?P<tiles>auto|[0-9]+(x[0-9]+)?))?"
)
WEIGHTS_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
ALIKE = 1.5  # so much may two timings of the same on a busy machine differ
MOST_ERRORS = 1.0  # a cheaper backbone is taken where it tells less by no more than so many standard errors


@dataclass(frozen=True)
class BackboneTrial:
    """What one backbone tells of the given labels of a sample.

    Attributes:
        spec: As it was asked for.
        name: timm's name.
        depth: `last` or `several`.
        tiles: `1`, or rows x columns.
        input_size: Height and width in pixels.
        num_features: D.
        gain: Mean log-likelihood of a given label under the teacher and its noise model over that of the class shares,
            nats.
        behind: How much less than the best backbone's, on the same samples, nats; 0 for the best.
        behind_error: Standard error of ``behind`` over the samples.
        images_per_s: Images per second, decoding included.
        compute_h: Hours that the images of the whole data set take.
        is_recommended: Whether this one is recommended.
    """

    spec: str
    name: str
    depth: str
    tiles: str
    input_size: tuple[int, int]
    num_features: int
    gain: float
    behind: float
    behind_error: float
    images_per_s: float
    compute_h: float
    is_recommended: bool = False


def backbones_of(specs: str, config: Config) -> dict[str, Config]:
    """Return a configuration for each backbone asked for, the configured one first.

    Args:
        specs: Separated by commas: `NAME` or weights `FILE`, then as wanted `@PIXELS` or `@HEIGHTxWIDTH`, then `+several`,
            then `+2x3` or `+auto` (`backbone.tiles`). A name is fetched by timm unless it is the configured one; a safetensors
            file says itself what it is.
        config: The configuration.

    Returns:
        Configuration by specification.

    Raises:
        ConfigError: If some cannot be understood; all are listed.
    """
    wanted: dict[str, Config] = {config.backbone.name: config}
    faults = []
    for spec in filter(None, (text.strip() for text in specs.split(","))):
        try:
            wanted[spec] = _configured(spec, config)
        except (ValueError, LabelcleanError) as fault:
            faults.append(f"{spec!r}: {fault}")
    if faults:
        raise ConfigError(
            "--backbones: each must be a timm name or a weights file, then if wanted @PIXELS, +several and tiles, such as "
            f"convnext_tiny.in12k@288+several+2x3, but: {'; '.join(faults)}."
        )
    return wanted


def _configured(spec: str, config: Config) -> Config:
    parts = SPEC.fullmatch(spec)
    if parts is None:
        raise ValueError("cannot be read")
    own, path = config.backbone, Path(parts["what"])
    if parts["what"] == own.name:
        backbone = own.model_dump()
    elif path.is_file():
        backbone = described_weights(path) | {"weights": path.resolve()}
    elif path.suffix in WEIGHTS_SUFFIXES:
        raise ValueError("there is no such file")
    else:
        backbone = {"name": parts["what"], "pretrained": True}
    if parts["size"]:
        backbone["input_size"] = (int(parts["size"]), int(parts["width"] or parts["size"]))
    if parts["several"]:
        backbone["depth"] = "several"
    if parts["tiles"]:
        backbone["tiles"] = parts["tiles"]
    return config.model_copy(update={"backbone": BackboneConfig.model_validate(backbone)})


def label_likelihoods(material: Material, config: Config) -> Float64Array:
    """Return how likely each given label is under a teacher that did not see it, and its noise model.

    Args:
        material: Raw features with their labels.
        config: Sections of the cleaning.

    Returns:
        log sum_k P(k | image) C[k, given], nats, float64, shape (N,); of several inspectors the mean of their labels'.
    """
    labels, seed = material.labels, config.run.seed
    keys = sample_keys(material.sample_ids, material.groups, num_folds=config.teacher.folds, seed=seed)
    power = choose_power(material.features, keys, [labels], config)
    space = space_of_keys(powered(material.features, power), keys, config)
    standing = find_unvouched(labels.given, labels.num_classes, space.groups, space.duplicate_sets).standing(labels)
    fit = fit_teacher(space, standing, config, seed=seed).fit
    probs = true_class_probs(fit.noise, fit.values).astype(np.float64) @ fit.noise.matrix
    return np.asarray((labels.votes * np.log(np.maximum(probs, 1e-12))).sum(axis=1), dtype=np.float64)


def class_share_likelihoods(labels: GivenLabels) -> Float64Array:
    """Return the same under nothing but the class shares, nats, float64, shape (N,)."""
    shares = labels.votes.sum(axis=0, dtype=np.float64) / len(labels)
    return np.asarray(labels.votes @ np.log(np.maximum(shares, 1e-12)), dtype=np.float64)


def compared(
    likelihoods: Mapping[str, Float64Array], shares: Float64Array, facts: Mapping[str, Mapping[str, Any]]
) -> list[BackboneTrial]:
    """Return the backbones by what they tell, the best first, with one recommended.

    Of those that tell less than the best by no more than one standard error, sample by sample, and are as fast as the fastest
    of them, or nearly, the recommended one tells most.

    Args:
        likelihoods: Of each backbone, `label_likelihoods` of the same N samples.
        shares: `class_share_likelihoods` of these.
        facts: Of each backbone all other fields of `BackboneTrial`.

    Returns:
        The trials.
    """
    best = max(likelihoods, key=lambda spec: float(likelihoods[spec].mean()))
    trials = []
    for spec, own in likelihoods.items():
        behind = likelihoods[best] - own
        error = float(behind.std(ddof=1) / np.sqrt(len(behind)))
        gain = float((own - shares).mean())
        trials.append(
            BackboneTrial(spec=spec, gain=gain, behind=float(behind.mean()), behind_error=error, **facts[spec])
        )
    able = [trial for trial in trials if trial.behind <= MOST_ERRORS * trial.behind_error]
    fastest = max(trial.images_per_s for trial in able)
    chosen = max((trial for trial in able if trial.images_per_s * ALIKE >= fastest), key=lambda trial: trial.gain)
    trials.sort(key=lambda trial: -trial.gain)
    return [BackboneTrial(**asdict(trial) | {"is_recommended": trial is chosen}) for trial in trials]


def try_backbones(config: Config, specs: str, *, num_samples: int) -> list[dict[str, Any]]:
    """Return what the configured backbone and others tell of one random sample, and what each costs.

    Args:
        config: The configuration of the whole data set.
        specs: As `backbones_of` takes them.
        num_samples: Size of the sample, drawn at random.

    Returns:
        `BackboneTrial` as JSON values, the best first.

    Raises:
        LabelcleanError: If the labels, images, a backbone or the device cannot be used.
    """
    wanted = backbones_of(specs, config)
    samples, names, has_bytes = samples_of(config, "labelclean poc --backbones")
    if len(names) == 1:
        raise TableError(
            f"poc --backbones: backbones are compared by what they tell of labels, but {config.data.labels} names {names[0]!r} "
            "alone, of which there is nothing to tell. Leave --backbones out."
        )
    likelihoods, facts, shares = {}, {}, np.empty(0)
    for spec, asked in wanted.items():
        own = settled(asked)
        cost = measure_images(own, some_sources(own, samples, has_bytes))
        drawn = draw_features(own, samples, names, num_samples)
        labels = given_labels_of(drawn.samples, names)
        ids, groups = drawn.samples.column("sample_id").to_pylist(), groups_of(drawn.samples)
        likelihoods[spec] = label_likelihoods(Material(drawn.features, labels, ids, groups), own)
        shares = class_share_likelihoods(labels)
        facts[spec] = {
            "name": own.backbone.name,
            "depth": own.backbone.depth,
            "tiles": str(own.backbone.tiles),
            "input_size": backbone_facts(own).input_size,
            "num_features": drawn.features.shape[1],
            "images_per_s": 1.0 / cost.extract_s,
            "compute_h": (samples.num_rows * (cost.hash_s + cost.extract_s) + cost.start_s) / 3600,
        }
    return [asdict(trial) for trial in compared(likelihoods, shares, facts)]
