"""Which backbone to freeze: the base and the adapted one before the product's own probe and neighbour vote, out of fold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from labelclean.adapt.checkpoint import WEIGHTS
from labelclean.adapt.image_set import Sources, labelled_sources
from labelclean.arrays import Float32Array, IntArray
from labelclean.cleaning.experts import Targets, teacher_experts
from labelclean.config import BackboneConfig, Config
from labelclean.errors import ConfigError, TableError
from labelclean.features.backbone import build_trainable
from labelclean.features.decode import decode_digest
from labelclean.features.extraction import extract_missing, hash_images
from labelclean.features.facts import backbone_facts
from labelclean.features.store import feature_store
from labelclean.labels import GivenLabels
from labelclean.noise.model import fit_plain_model, true_class_probs
from labelclean.noise.targets import given_targets
from labelclean.probes.feature_space import build_feature_space
from labelclean.progress import progress
from labelclean.runs.ingest import image_root, samples_of
from labelclean.runs.plan import box_margin
from labelclean.runs.tiling import settled
from labelclean.storage.parquet import atomic_path, labels_dataset
from labelclean.storage.run_folders import run_folders
from labelclean.storage.samples import given_labels_of

SURE = 2.0
FEWEST = 20


@dataclass(frozen=True)
class BackboneWorth:
    """What one backbone's features are worth on the given labels, out of fold.

    Attributes:
        name: What it is called.
        is_told_by_probe: Whether the linear probe tells a sample's given label, bool, shape (N,).
        is_told_by_neighbours: Whether the neighbours' vote does, bool, shape (N,).
        log_likelihood: Mean log-probability of a given label by both together, nats.
        groups: Group of each sample, int64, shape (N,).
    """

    name: str
    is_told_by_probe: npt.NDArray[np.bool_]
    is_told_by_neighbours: npt.NDArray[np.bool_]
    log_likelihood: float
    groups: IntArray

    @property
    def right(self) -> npt.NDArray[np.float64]:
        """Share of the two that tell each sample's given label, float64, shape (N,)."""
        return (self.is_told_by_probe.astype(np.float64) + self.is_told_by_neighbours) / 2


@dataclass(frozen=True)
class Comparison:
    """Base against adapted.

    Attributes:
        base: The backbone as configured.
        adapted: The one learned.
        gain: Mean difference of `right`, adapted less base.
        standard_error: Of the gain, over groups.
        weights: The adapted weights.
    """

    base: BackboneWorth
    adapted: BackboneWorth
    gain: float
    standard_error: float
    weights: Path

    @property
    def freeze_adapted(self) -> bool:
        """Whether the adapted backbone is surely better."""
        return self.gain > SURE * self.standard_error

    def sentences(self) -> list[str]:
        """Return the comparison for people, the advice last."""
        lines = [f"{'out of fold, given labels':<28}{'linear probe':>14}{'neighbours':>12}{'log-likelihood':>16}"]
        lines += [
            f"{one.name:<28}{one.is_told_by_probe.mean():>14.1%}{one.is_told_by_neighbours.mean():>12.1%}"
            f"{one.log_likelihood:>16.4f}"
            for one in (self.base, self.adapted)
        ]
        lines.append(f"gain {self.gain:+.2%}, standard error {self.standard_error:.2%}.")
        if self.freeze_adapted:
            lines.append(f"Freeze the adapted backbone: --set backbone.weights={self.weights}")
        elif self.gain < -SURE * self.standard_error:
            lines.append("Keep the base: it is better than the adapted backbone.")
        else:
            lines.append("Keep the base: the adapted backbone is not surely better.")
        return lines


def compare(config: Config, adapted: Path | None = None) -> Comparison:
    """Judge the base and the adapted backbone on the given labels.

    Args:
        config: The configuration; its backbone is the base.
        adapted: Weights file or folder of an adaptation; default: the newest in `adapt.out`.

    Returns:
        The comparison.

    Raises:
        ConfigError: If there is no adaptation.
        LabelcleanError: If labels, images or weights refuse.
    """
    weights = _weights(config, adapted)
    config = settled(config)
    named = config.backbone.model_copy(update={"weights": weights, "pretrained": False, "sha256": None})
    samples, names, has_bytes = samples_of(config, "labelclean adapt compare")
    sources, root = labelled_sources(config, samples, has_bytes), image_root(config)
    with progress("reading images", samples.num_rows, "images") as advance:
        contents = hash_images(sources(set()), config, root, advance).content_hashes
    base, ids = labelled_features(config, base_backbone(config), sources, root, contents)
    other, ids_too = labelled_features(config, named, sources, root, contents)
    both = [sample for sample in ids if sample in set(ids_too)]
    if len(both) < FEWEST:
        raise TableError(
            f"{config.data.labels}: {FEWEST} labelled images are needed to compare, but {len(both)} can be used."
        )
    place = {sample: row for row, sample in enumerate(samples.column("sample_id").to_pylist())}
    rows = np.array([place[sample] for sample in both])
    labels = given_labels_of(samples, names).take(rows)
    groups = None
    if "group_id" in samples.column_names:
        known = samples.column("group_id").to_pylist()
        groups = [f"group {known[row]}" if known[row] is not None else f"sample {row}" for row in rows]
    keep = [ids.index(sample) for sample in both] if ids != both else slice(None)
    keep_too = [ids_too.index(sample) for sample in both] if ids_too != both else slice(None)
    first = worth_of("base", base[keep], both, groups, labels, config)
    second = worth_of("adapted", other[keep_too], both, groups, labels, config)
    return compared(first, second, weights)


def worth_of(
    name: str,
    features: Float32Array,
    sample_ids: Sequence[str],
    groups: Sequence[str] | None,
    labels: GivenLabels,
    config: Config,
) -> BackboneWorth:
    """Return what features are worth: the product's own ridge probe and neighbour vote, out of fold and out of group.

    Args:
        name: What the features are called.
        features: float32, shape (N, D).
        sample_ids: Length N.
        groups: Length N, or None.
        labels: Given labels of the same samples.
        config: Sections `neighbours`, `teacher` and `refine` are read.

    Returns:
        The judgement.
    """
    straight = config.model_copy(update={"teacher": config.teacher.model_copy(update={"landmarks": 0})})
    space = build_feature_space(features, sample_ids, groups, straight, seed=config.run.seed)
    log_odds = [expert.values for expert in teacher_experts(space, Targets(given_targets(labels)), labels, straight)]
    is_given = [
        true_class_probs(fit_plain_model(rows[None], labels), rows[None]).argmax(axis=1) == labels.given
        for rows in log_odds
    ]
    together = fit_plain_model(np.stack(log_odds), labels)
    return BackboneWorth(name, is_given[0], is_given[-1], together.log_likelihood, space.groups)


def compared(base: BackboneWorth, adapted: BackboneWorth, weights: Path) -> Comparison:
    """Return base against adapted, sample by sample.

    Args:
        base: The judgement of the base.
        adapted: That of the adapted backbone on the same samples.
        weights: The adapted weights.

    Returns:
        The comparison; its standard error takes samples of one group as one.
    """
    apart = adapted.right - base.right
    gain = float(apart.mean())
    sums = np.bincount(base.groups, weights=apart - gain)
    return Comparison(base, adapted, gain, float(np.sqrt((sums**2).sum()) / len(apart)), weights)


def _weights(config: Config, adapted: Path | None) -> Path:
    """The adapted weights file."""
    if adapted is None:
        folders = run_folders(config.adapt.out)
        if not folders:
            raise ConfigError(f"{config.adapt.out}: no adaptation is there yet. Start one: labelclean adapt CONFIG.")
        adapted = folders[-1]
    path = adapted / WEIGHTS if adapted.is_dir() else adapted
    if not path.is_file():
        raise ConfigError(f"{path}: --adapted must name a weights file or the folder of an adaptation; correct it.")
    return path.resolve()


def base_backbone(config: Config) -> BackboneConfig:
    """Return the configured backbone; where it has no weights, with the random ones that training starts from.

    Args:
        config: The configuration.

    Returns:
        Section `backbone`, with weights.
    """
    if config.backbone.weights is not None or config.backbone.pretrained:
        return config.backbone
    import safetensors.torch

    backbone = build_trainable(config.backbone, from_scratch=True, drop_path=0.0, seed=config.run.seed)
    path = config.storage.cache / "adapt" / f"untrained-{backbone.digest[:16]}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.contiguous() for name, value in backbone.module.state_dict().items()}
    with atomic_path(path) as temporary:
        temporary.write_bytes(safetensors.torch.save(tensors, {"format": "pt"}))
    return config.backbone.model_copy(update={"weights": path, "sha256": None})


def labelled_features(
    config: Config, backbone: BackboneConfig, sources: Sources, root: Path, contents: dict[str, str]
) -> tuple[Float32Array, list[str]]:
    """Return features of the labelled samples by one backbone, from the store where they are.

    Args:
        config: The configuration.
        backbone: The backbone, in place of the configured one.
        sources: Gives the images of some samples.
        root: Folder that image paths are relative to.
        contents: Content hash by sample id.

    Returns:
        Features, float32, shape (N, D), and the ids of the N samples whose image can be used.
    """
    own = config.model_copy(update={"backbone": backbone})
    facts = backbone_facts(own)
    margin = box_margin(config, labels_dataset(config.data.labels).schema.names)
    decode = decode_digest(config.decode, facts.input_size, backbone.resize, margin)
    store = feature_store(config.storage.cache, facts.digest, decode, facts.num_features)
    known = store.known()
    first = {content: sample for sample, content in reversed(contents.items()) if content not in known}
    with progress(f"extracting features of {backbone.weights or backbone.name}", len(first), "images") as advance:
        refused = extract_missing(sources(set(first.values())), store, facts, own, root, advance) if first else {}
    lost = {contents[sample] for sample in refused}
    ids = [sample for sample, content in contents.items() if content not in lost]
    return store.read([contents[sample] for sample in ids]), ids
