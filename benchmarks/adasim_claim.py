"""AdaSim's claim on made pictures: when a neighbour as partner hurts, and whether the gate saves it.

    python -m benchmarks.adasim --work DIR --claim

Each training is one file below DIR/claim and is not run again. The networks learn from pictures of `made_parts` by the
product's own loop; kinds and trays are measured with, on other pictures of the same kinds.
"""

from __future__ import annotations

import json
import math
import time
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks.made_parts import Parts, Scene, make_parts
from benchmarks.problem import Float32Array, FloatArray, IntArray
from labelclean.adapt.measures import effective_rank
from labelclean.adapt.neighbours import new_history
from labelclean.adapt.schedule import settled
from labelclean.adapt.state import EpochRecord, State, Task, build_state
from labelclean.adapt.train import train
from labelclean.config import BackboneConfig
from labelclean.config.adapt import AdaptConfig
from labelclean.errors import GateError
from labelclean.features.backbone import build_trainable, choose_precision
from labelclean.labels import one_hot
from labelclean.probes.ridge import build_design, fit_cross_entropy, out_of_fold_logits, predict_logits, softmax
from labelclean.probes.sums import centred_unit_rows, feature_mean
from labelclean.storage.parquet import write_json

SIDE = 48
VOTERS = 5  # fewer than the least pictures of a kind
PENALTIES = (0.001, 0.01, 0.1, 1.0, 10.0)
FOLDS = 5
TEST_PER_KIND = 10
SEEDS = (0, 1, 2)
METHODS: dict[str, dict[str, Any]] = {
    "plain": {"mode": "plain"},
    "naive": {"mode": "naive"},
    "adaptive": {"mode": "adaptive", "temperature": "auto"},
    "adaptive, hot": {"mode": "adaptive", "temperature": 1.0},
}
BACKBONE = BackboneConfig.model_validate(
    {
        "name": "resnet14t",
        "options": {"channels": [8, 16, 32, 64], "stem_width": 8, "in_chans": 1},
        "mean": [0.5],
        "std": [0.25],
        "input_size": SIDE,
        "precision": "fp32",
        "pretrained": True,  # not fetched: training starts from random weights
    }
)
SETTINGS: dict[str, Any] = {
    "from_scratch": True,
    "epochs": 16,
    "batch_size": 32,
    "warmup_epochs": 2,
    "momentum": 0.99,
    "learning_rate": 4e-3,
    "head_width": 256,
    "bottleneck": 64,
    "prototypes": 512,
    "views": {
        "crop_area": [0.7, 1.0],
        "flips": False,
        "turns": False,
        "brightness": 0.2,
        "contrast": 0.2,
        "blur_share": 0.0,
    },
}


class Condition(NamedTuple):
    """What is learned from, and how early neighbours count."""

    scene: Scene
    per_kind: int
    window: int
    jitter: float
    least_crop: float = 0.7


CONDITIONS = {
    "bare": Condition(Scene(60, 2, 1, 0.0, 1.0), 20, 1, 0.2),
    "trays": Condition(Scene(60, 2, 12, 0.6, 1.0), 20, 1, 0.2),
    "few": Condition(Scene(200, 2, 1, 0.0, 1.0), 6, 1, 0.2),
    "light": Condition(Scene(60, 2, 1, 0.0, 0.2), 20, 1, 0.7),
    "faint trays": Condition(Scene(60, 2, 12, 0.2, 1.0), 20, 1, 0.2),
    "mild views": Condition(Scene(60, 2, 12, 0.2, 1.0), 20, 1, 0.1, 0.9),
    "families": Condition(Scene(60, 5, 1, 0.0, 1.0), 20, 1, 0.2),
}


def task_of(condition: Condition, method: str, seed: int, parts: Parts) -> Task:
    """Return the task of one training; kinds are labels that are measured with."""
    views = SETTINGS["views"] | {"brightness": condition.jitter, "crop_area": [condition.least_crop, 1.0]}
    config = AdaptConfig.model_validate(SETTINGS | {"window": condition.window, "views": views} | METHODS[method])
    count, device = len(parts.kind), torch.device("cpu")
    return Task(
        config=settled(config, count, on_gpu=False),
        num_images=count,
        num_features=backbone(seed).num_features,
        size=(SIDE, SIDE),
        mean=(0.5,),
        std=(0.25,),
        groups=np.arange(count),
        given=parts.kind,
        is_held_out=np.arange(count) % 5 == 0,
        num_classes=condition.scene.num_kinds,
        seed=seed,
        dtype=torch.bfloat16 if choose_precision("auto", device) == "bf16" else torch.float32,
    )


def backbone(seed: int) -> Any:
    """Return the network before training, the same for all methods of a seed."""
    return build_trainable(BACKBONE, from_scratch=True, drop_path=0.0, seed=seed)


def shares_of_neighbours(near: IntArray, kind: IntArray, alike: int, tray: IntArray) -> dict[str, float]:
    """Return of the nearest entries, one's own left out, the shares of the own kind, of others of its family, and of the own tray.

    Args:
        near: Row numbers, int, shape (N, k), -1 where there is none.
        kind: int64, shape (N,).
        alike: Kinds of one family.
        tray: int64, shape (N,).

    Returns:
        Three shares in [0, 1].
    """
    counts = (near >= 0) & (near != np.arange(len(near))[:, None])
    theirs = kind[near]
    return {
        "own_kind": float((theirs == kind[:, None])[counts].mean()),
        "kin": float(((theirs // alike == kind[:, None] // alike) & (theirs != kind[:, None]))[counts].mean()),
        "own_tray": float((tray[near] == tray[:, None])[counts].mean()),
    }


def features_of(state: State, parts: Parts) -> Float32Array:
    """Return what the momentum network says of whole pictures, as a run of labelclean would see them, shape (N, D)."""
    images = torch.from_numpy(parts.pixels).float() / 255
    images = torch.nn.functional.interpolate(images, size=(SIDE, SIDE), mode="bilinear", antialias=True)
    images = (images - 0.5) / 0.25
    state.momentum.eval()
    with torch.inference_mode():
        rows = [state.momentum.backbone(part) for part in images.split(256)]
    return np.asarray(torch.cat(rows).numpy(), dtype=np.float32)


def worth(
    train_rows: Float32Array, train_kind: IntArray, test_rows: Float32Array, test_kind: IntArray, alike: int
) -> FloatArray:
    """Return k-NN accuracy, k-NN accuracy of the family, and linear probe accuracy on other pictures.

    Args:
        train_rows: Features that vote and teach, float32, shape (N, D).
        train_kind: int64, shape (N,).
        test_rows: float32, shape (M, D).
        test_kind: int64, shape (M,).
        alike: Kinds of one family.

    Returns:
        Shape (3,), in [0, 1].
    """
    mean = feature_mean(train_rows)
    train_unit, test_unit = centred_unit_rows(train_rows, mean), centred_unit_rows(test_rows, mean)
    targets = one_hot(train_kind, int(train_kind.max()) + 1)
    similarity = test_unit @ train_unit.T
    voters = np.argsort(-similarity, axis=1, kind="stable")[:, :VOTERS]
    weights = np.maximum(np.take_along_axis(similarity, voters, axis=1), 0)
    near = np.einsum("mv,mvk->mk", weights, targets[voters]).argmax(axis=1)
    folded = build_design(train_unit, np.arange(len(train_unit)) % FOLDS, FOLDS, mean)
    own = np.arange(len(train_kind)), train_kind

    def likelihood(penalty: float) -> float:
        probes = fit_cross_entropy(folded, targets, penalty)
        return float(np.log(softmax(out_of_fold_logits(folded, probes))[own] + 1e-9).mean())

    everybody = build_design(train_unit, np.ones(len(train_unit), dtype=np.int64), 2, mean)  # probe 0 sees all
    probe = fit_cross_entropy(everybody, targets, max(PENALTIES, key=likelihood))[0]
    linear = predict_logits(probe, test_unit).argmax(axis=1)
    return np.array(
        [(near == test_kind).mean(), (near // alike == test_kind // alike).mean(), (linear == test_kind).mean()]
    )


def run_training(name: str, method: str, seed: int) -> dict[str, Any]:
    """Train and measure once.

    Args:
        name: Of the condition.
        method: One of ``METHODS``.
        seed: Of pictures, networks and training.

    Returns:
        The row: before and after, one record per epoch, and the epoch of a collapse.
    """
    condition = CONDITIONS[name]
    alike = condition.scene.alike
    parts, test = (
        make_parts(condition.scene, count, seed=seed, purpose=purpose)
        for purpose, count in enumerate((condition.per_kind, TEST_PER_KIND))
    )
    began, task = time.monotonic(), task_of(condition, method, seed, parts)
    before = measured(build_state(task, backbone(seed).module, backbone(seed).module), parts, test, alike)
    state = build_state(task, backbone(seed).module, backbone(seed).module)
    history = new_history(condition.window, task.num_images, task.config.neighbours)
    epochs: list[dict[str, float | None]] = []
    collapse = None
    try:
        for record in train(state, task, lambda rows: parts.pixels[rows], history):
            if isinstance(record, EpochRecord):
                near = state.near_index.numpy().astype(np.int64)
                told = {key: value if math.isfinite(value) else None for key, value in record._asdict().items()}
                epochs.append(told | shares_of_neighbours(near, parts.kind, condition.scene.alike, parts.tray))
    except GateError as stop:
        collapse = str(stop)
    after = measured(state, parts, test, alike)
    row = {"condition": name, "method": method, "seed": seed, "before": before, "after": after}
    return row | {"collapse": collapse, "epochs": epochs, "s": time.monotonic() - began}


def measured(state: State, parts: Parts, test: Parts, alike: int) -> dict[str, float]:
    """Return what the features of a state are worth."""
    rows = features_of(state, parts)
    knn, family, probe = worth(rows, parts.kind, features_of(state, test), test.kind, alike)
    unit = torch.nn.functional.normalize(torch.from_numpy(rows), dim=1)
    return {"knn": float(knn), "family": float(family), "probe": float(probe), "rank": effective_rank(unit)}


def run_missing(work: Path, names: list[str], methods: list[str], seeds: list[int]) -> None:
    """Run the trainings that the folder does not hold yet."""
    for seed, name, method in product(seeds, names, methods):
        path = work / "claim" / f"{name}-{method}-{seed}.json".replace(", ", "-").replace(" ", "-")
        if not path.is_file():
            path.parent.mkdir(exist_ok=True, parents=True)
            row = run_training(name, method, seed)
            write_json(path, row)
            print(json.dumps({key: value for key, value in row.items() if key != "epochs"}), flush=True)
