"""What must be known of a backbone to find its features in the store: its digest, and which engine computes it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from labelclean.config import Config
from labelclean.errors import ConfigError
from labelclean.features.backbone import Backbone, build_backbone, choose_device, choose_precision
from labelclean.features.engine import (
    BATCH_SIZE,
    LEAST_COSINE,
    Engine,
    EngineError,
    OnnxNetwork,
    choose_engine,
    engine_digest,
    least_cosine,
    made_batch,
    onnx_network,
)
from labelclean.features.tiles import WHOLE, Grid, num_pooled
from labelclean.storage.parquet import make_folder, read_json, write_json
from labelclean.storage.run_folders import file_digest

if TYPE_CHECKING:
    from labelclean.features.forward import Precision


@dataclass(frozen=True)
class BackboneFacts:
    """What must be known of a backbone to find its features in the store.

    Attributes:
        name: timm's name.
        digest: Digest of everything that changes a feature, engine and tiles too.
        num_features: Numbers per image: D, of several tiles 2 D.
        input_size: Height and width in pixels.
        engine: What computes it.
        engine_reason: Why not ONNX Runtime, where `run.engine` would have taken it; else empty.
    """

    name: str
    digest: str
    num_features: int
    input_size: tuple[int, int]
    engine: Engine = "torch"
    engine_reason: str = ""


def backbone_facts(config: Config) -> BackboneFacts:
    """Return a backbone's facts, from a note in the cache where that is safe.

    Building a backbone only to learn its digest costs seconds of imports on a night when all
    features are stored. The note is keyed by everything that decides the digest: the section of
    the config, the bytes of the weights file, the precision, the engine and the versions of what computes.

    Args:
        config: Sections `backbone`, `run` and `storage` are read.

    Returns:
        The facts.

    Raises:
        ConfigError: If the backbone cannot be, or `run.engine` asks for an engine that cannot take it.
        DeviceError: If the device or the engine that is asked for is not there.
        StorageError: If the weights are missing, damaged, not those expected or not this model's.
    """
    device = choose_device(config.run.device)
    precision = choose_precision(config.backbone.precision, device)
    engine = choose_engine(config.run.engine, device, precision)
    note = _note(config, precision, engine)
    if note is not None and note.is_file():
        row = read_json(note)
        return BackboneFacts(**row | {"input_size": tuple(row["input_size"])})
    backbone = build_backbone(config.backbone, precision)
    facts = BackboneFacts(backbone.name, backbone.digest, backbone.num_features, backbone.input_size)
    if engine == "onnx":
        facts = _with_engine(facts, backbone, config)
    grid = config.backbone.grid
    digest = features_digest(backbone.digest, facts.engine, grid)
    facts = replace(facts, digest=digest, num_features=num_pooled(facts.num_features, grid))
    if note is not None:
        make_folder(note.parent)
        write_json(note, asdict(facts))
    return facts


def _note(config: Config, precision: Precision, engine: Engine) -> Path | None:
    """The file that holds a backbone's facts; None where the weights may change under their name or will be refused."""
    section = config.backbone
    if section.weights is None or not section.weights.is_file():
        return None
    digest = file_digest(section.weights)
    if section.sha256 not in (None, digest):
        return None
    settings = section.model_dump(mode="json", exclude={"weights", "batch_size", "workers"})
    packages = ["labelclean", "torch", "timm"]
    deciding: list[object] = [settings, digest, precision]
    if engine == "onnx":
        deciding += [engine, config.run.engine, section.batch_size]
        packages += ["onnxruntime", "onnxscript"]
    deciding += [version(name) for name in packages]
    key = hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()
    return config.storage.cache / "backbones" / f"{key[:32]}.json"


def _with_engine(facts: BackboneFacts, backbone: Backbone, config: Config) -> BackboneFacts:
    """The facts under ONNX Runtime; under torch, with the reason, where the network will not go or answers otherwise."""
    size = config.backbone.batch_size or BATCH_SIZE
    images = made_batch(size, len(backbone.mean), backbone.input_size)
    try:
        agreeing_network(backbone, config, images)
    except EngineError as fault:
        if config.run.engine == "onnx":
            raise ConfigError(
                f"run.engine 'onnx' must compute backbone {backbone.name!r} as torch does, but {fault}. Set run.engine to 'auto'."
            ) from None
        return replace(facts, engine_reason=str(fault))
    return replace(facts, engine="onnx")


def features_digest(digest: str, engine: Engine, grid: Grid) -> str:
    """Return the digest of a backbone's features as an engine computes them from tiles.

    Args:
        digest: The backbone's.
        engine: What computes.
        grid: Rows and columns of tiles.

    Returns:
        The backbone's digest itself under torch and for one tile, so that features of earlier versions stay valid.
    """
    digest = engine_digest(digest, engine)
    return digest if grid == WHOLE else hashlib.sha256(f"{digest} {grid[0]}x{grid[1]} tiles".encode()).hexdigest()


def agreeing_network(
    backbone: Backbone, config: Config, images: npt.NDArray[np.float32] | npt.NDArray[np.uint16]
) -> OnnxNetwork:
    """Return the backbone as ONNX Runtime computes it, its features of some images held against torch's.

    Args:
        backbone: The backbone; on the CPU.
        config: Sections `backbone` and `storage` are read; the exported network is kept in the cache.
        images: uint16 (0..65535 for 0..1) or float32 in [0, 1], shape (B, C, H, W).

    Returns:
        The network.

    Raises:
        EngineError: If it cannot be exported or loaded, or its features are others than torch's.
    """
    from labelclean.features.forward import extract_features

    size = config.backbone.batch_size or BATCH_SIZE
    path = config.storage.cache / "backbones" / f"{backbone.digest[:32]}-{size}.onnx"
    network = onnx_network(backbone.module, len(backbone.mean), backbone.input_size, size, path)
    (ours,), (torchs,) = (
        extract_features(
            module,
            [images],
            batch_size=size,
            device=choose_device("cpu"),
            precision="fp32",
            mean=backbone.mean,
            std=backbone.std,
        )
        for module in (network, backbone.module)
    )
    least = least_cosine(ours, torchs)
    if least <= LEAST_COSINE:
        raise EngineError(
            f"the features of the same {len(ours)} images must have a cosine similarity above {LEAST_COSINE}, but have {least:.6f}"
        )
    return network
