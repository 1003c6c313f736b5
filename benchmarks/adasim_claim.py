"""AdaSim's claim on made pictures: when a neighbour as partner hurts, and whether the gate saves it.

    python -m benchmarks.adasim --work DIR --claim

Each training is one file below DIR/claim and is not run again. The networks learn from pictures of `made_parts` by the
product's own loop; kinds and trays are measured with, on other pictures of the same kinds.
"""

from __future__ import annotations

import json
import math
import statistics
import time
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks.made_parts import Parts, Scene, make_parts
from benchmarks.panels import Panel, draw, markdown
from benchmarks.problem import Float32Array, FloatArray, IntArray
from labelclean.adapt.measures import effective_rank, share_of
from labelclean.adapt.neighbours import new_history
from labelclean.adapt.schedule import settled
from labelclean.adapt.state import EpochRecord, State, TrainingSetup, build_state
from labelclean.adapt.train import train
from labelclean.config import BackboneConfig
from labelclean.config.adapt import AdaptConfig
from labelclean.errors import GateError
from labelclean.features.backbone import build_trainable, choose_precision
from labelclean.labels import one_hot
from labelclean.probes.ridge import build_design, fit_cross_entropy, out_of_fold_logits, predict_logits, softmax
from labelclean.probes.sums import centred_unit_rows, feature_mean
from labelclean.storage.parquet import write_json

PICTURE = Path(__file__).parent.parent / "docs" / "images" / "adasim_claim.svg"
SIDE = 48
VOTERS = 5  # fewer than the least pictures of a kind
PENALTIES = (0.001, 0.01, 0.1, 1.0, 10.0)
FOLDS = 5
TEST_PER_KIND = 10
METHODS: dict[str, dict[str, Any]] = {
    "base": {},
    "plain": {"mode": "plain"},
    "naive": {"mode": "naive"},
    "adaptive": {"mode": "adaptive", "temperature": "auto"},
    "adaptive at 0.001": {"mode": "adaptive", "temperature": 0.001},
    "adaptive at 1": {"mode": "adaptive", "temperature": 1.0},
}
MEASURES = {
    "knn": "k-NN accuracy",
    "family": "k-NN accuracy of the family",
    "probe": "linear probe accuracy",
    "rank": "effective rank",
}
LAST = {
    "own_kind": "nearest others of the own kind",
    "self_retrieval_1": "own past nearest",
    "bootstrapped_share": "compared with another",
    "partner_agreement": "partners of the own kind",
}
COURSE = {
    "own_kind": "nearest others of the own kind",
    "gate_share": "gate would open",
    "bootstrapped_share": "compared with another",
    "partner_agreement": "partners of the own kind",
    "effective_rank": "effective rank",
}
TRIALS = (
    "neighbours: share of the ten nearest entries, the own one left out, that are of the own kind; it and self-retrieval "
    "of plain, in the first epoch and in the last."
)
Row = dict[str, Any]
BACKBONE = BackboneConfig.model_validate(
    {
        "name": "resnet14t",
        "options": {"channels": [8, 16, 32, 64], "stem_width": 8, "in_chans": 1},
        "mean": [0.5],
        "std": [0.25],
        "input_size": SIDE,
        "precision": "fp32",
    }
)
SETTINGS: dict[str, Any] = {
    "from_scratch": True,
    "batch_size": 32,
    "warmup_epochs": 2,
    "momentum": 0.99,
    "learning_rate": 4e-3,
    "head_width": 256,
    "bottleneck": 64,
    "prototypes": 512,
}
VIEWS: dict[str, Any] = {"flips": False, "turns": False, "contrast": 0.2, "blur_share": 0.0}


INTRO = (
    "Stamped plates with holes, drawn by `made_parts`; the kinds of a family differ in where one hole is. "
    f"{BACKBONE.name} of 0.13 million weights from random weights, {SIDE} pixels. Accuracies are those of "
    f"{TEST_PER_KIND} other pictures of each kind, seen whole; k-NN has {VOTERS} voters among the "
    "pictures learned from; the probe's penalty is the likeliest one on these. Mean ± standard deviation over seeds, which "
    "draw kinds, pictures, networks and training. base: before training. adaptive: temperature auto; adaptive at 1 and at "
    "0.001: at these temperatures. The last columns before the seeds are of the last epoch's views. Trials came first, but for "
    "the one with mild views."
)


class Condition(NamedTuple):
    """What is learned from, how early neighbours count, and which trainings are run.

    Attributes:
        scene: What the pictures differ in.
        per_kind: Pictures of each kind.
        brightness: Of the views.
        least_crop: Least share of the picture that a view shows.
        methods: Some of ``METHODS``.
        seeds: A trial has one.
        epochs: Of each training.
        window: V; 1 uses neighbours from the second epoch on.
    """

    scene: Scene
    per_kind: int
    brightness: float = 0.2
    methods: tuple[str, ...] = ("base", "plain", "naive")
    seeds: tuple[int, ...] = (0,)
    epochs: int = 16
    window: int = 1
    least_crop: float = 0.7


CONDITIONS = {
    "many alike": Condition(
        Scene(200, 5, 1, 0.0, 1.0), 6, 0.2, ("base", "plain", "naive", "adaptive", "adaptive at 1"), (0, 1, 2)
    ),
    "mild views": Condition(Scene(200, 5, 1, 0.0, 1.0), 6, 0.1, ("plain", "naive", "adaptive at 1"), least_crop=0.95),
    "bare": Condition(Scene(60, 2, 1, 0.0, 1.0), 20),
    "families": Condition(Scene(60, 5, 1, 0.0, 1.0), 20),
    "few": Condition(Scene(200, 2, 1, 0.0, 1.0), 6),
    "faint trays": Condition(Scene(60, 2, 12, 0.2, 1.0), 20),
    "trays": Condition(Scene(60, 2, 12, 0.6, 1.0), 20, 0.2, ("base", "plain", "naive", "adaptive at 0.001"), (0,), 24),
    "light": Condition(Scene(60, 2, 1, 0.0, 0.2), 20, 0.7),
    "some light": Condition(Scene(60, 2, 1, 0.0, 0.4), 20, 0.5),
}


def setup_of(condition: Condition, method: str, seed: int, parts: Parts) -> TrainingSetup:
    """Return the setup of one training; kinds are labels that are measured with."""
    views = VIEWS | {"brightness": condition.brightness, "crop_area": [condition.least_crop, 1.0]}
    own = {"epochs": condition.epochs, "window": condition.window, "views": views}
    config = AdaptConfig.model_validate(SETTINGS | own | METHODS[method])
    count, device = len(parts.kind), torch.device("cpu")
    return TrainingSetup(
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
        Three shares in [0, 1]; NaN where nobody has a neighbour.
    """
    counts = (near >= 0) & (near != np.arange(len(near))[:, None])
    theirs, own = kind[near], kind[:, None]
    return {
        "own_kind": share_of(theirs == own, counts),
        "kin": share_of((theirs // alike == own // alike) & (theirs != own), counts),
        "own_tray": share_of(tray[near] == tray[:, None], counts),
    }


def features_of(state: State, parts: Parts) -> Float32Array:
    """Return what the momentum network says of whole pictures, as a run of labelclean would see them, shape (N, D)."""
    images = torch.from_numpy(parts.pixels).float() / 255
    images = torch.nn.functional.interpolate(images, size=(SIDE, SIDE), mode="bilinear", antialias=True)
    images = (images - 0.5) / 0.25
    state.momentum.eval()
    with torch.inference_mode():
        rows = [state.momentum.backbone(part) for part in torch.split(images, 256)]
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


def run_training(name: str, method: str, seed: int) -> Row:
    """Train and measure once.

    Args:
        name: Of the condition.
        method: One of ``METHODS``.
        seed: Of pictures, networks and training.

    Returns:
        The row: what the features are worth in the end, one record per epoch, and what a collapse said.
    """
    condition = CONDITIONS[name]
    parts, test = (
        make_parts(condition.scene, count, seed=seed, purpose=purpose)
        for purpose, count in enumerate((condition.per_kind, TEST_PER_KIND))
    )
    began, setup = time.monotonic(), setup_of(condition, method, seed, parts)
    state = build_state(setup, backbone(seed).module, backbone(seed).module)
    history = new_history(condition.window, setup.num_images, setup.config.neighbours)
    epochs: list[dict[str, float | None]] = []
    collapse = None
    try:
        for record in train(state, setup, lambda rows: parts.pixels[rows], history) if method != "base" else ():
            if isinstance(record, EpochRecord):
                near = state.near_index.numpy().astype(np.int64)
                told = record._asdict() | shares_of_neighbours(near, parts.kind, condition.scene.alike, parts.tray)
                epochs.append({key: value if math.isfinite(value) else None for key, value in told.items()})
    except GateError as stop:
        collapse = str(stop)
    row = {"condition": name, "method": method, "seed": seed} | measured(state, parts, test, condition.scene.alike)
    return row | {"collapse": collapse, "epochs": epochs, "s": time.monotonic() - began}


def measured(state: State, parts: Parts, test: Parts, alike: int) -> dict[str, float]:
    """Return what the features of a state are worth."""
    rows = features_of(state, parts)
    knn, family, probe = worth(rows, parts.kind, features_of(state, test), test.kind, alike)
    unit = torch.nn.functional.normalize(torch.from_numpy(rows), dim=1)
    return {"knn": float(knn), "family": float(family), "probe": float(probe), "rank": effective_rank(unit)}


def run_missing(work: Path) -> None:
    """Run the trainings that the folder does not hold yet, all conditions of one seed before the next seed."""
    cells = [
        (seed, name, method) for name, one in CONDITIONS.items() for seed, method in product(one.seeds, one.methods)
    ]
    for seed, name, method in sorted(cells, key=lambda cell: cell[0]):
        path = work / "claim" / f"{name} {method} {seed}.json".replace(" ", "-")
        if not path.is_file():
            path.parent.mkdir(exist_ok=True, parents=True)
            row = run_training(name, method, seed)
            write_json(path, row)
            print(json.dumps({key: value for key, value in row.items() if key != "epochs"}), flush=True)


def read_rows(folder: Path) -> list[Row]:
    """Return the rows below a folder."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]


def section(rows: list[Row]) -> str:
    """Return what the rows say: a condition of several seeds in full, all trials in one table."""
    lines, trials = [INTRO, ""], []
    for name, condition in CONDITIONS.items():
        own = [row for row in rows if row["condition"] == name]
        if own and len(condition.seeds) == 1:
            trials.append([f"{name}: {described(condition)}", *_trial(own)])
        elif own:
            lines += [f"### {name}", "", described(condition), "", *_table(own), "", *_verdicts(own), ""]
            lines += ["Over the epochs, mean over seeds; effective rank of the bank's features:", "", *_course(own), ""]
    if trials:
        titles = ["trial", "k-NN / probe accuracy", "naive less plain", "neighbours", "own past nearest"]
        lines += ["### Trials, one seed each", "", *markdown(titles, trials).splitlines(), "", TRIALS, ""]
    return "\n".join(lines)


def _trial(rows: list[Row]) -> list[str]:
    """A trial's accuracies; how many of plain's nearest others were of the own kind; and its self-retrieval."""
    by_method = {row["method"]: row for row in rows}
    worths = [
        f"{name} {row['knn']:.3f} / {row['probe']:.3f}{' (collapsed)' if row['collapse'] else ''}"
        for name in METHODS
        if (row := by_method.get(name))
    ]
    plain, naive = by_method.get("plain"), by_method.get("naive")
    if not plain or not naive or not plain["epochs"]:
        return ["; ".join(worths), "", "", ""]
    gains = " / ".join(f"{naive[key] - plain[key]:+.3f}" for key in ("knn", "probe"))
    shares = [
        f"{plain['epochs'][0][key]:.3f} to {plain['epochs'][-1][key]:.3f}" for key in ("own_kind", "self_retrieval_1")
    ]
    return ["; ".join(worths), gains, *shares]


def described(condition: Condition) -> str:
    """Return what a condition is, in words."""
    scene = condition.scene
    parts = [f"{scene.num_kinds} kinds in families of {scene.alike}, {condition.per_kind} pictures each"]
    parts += [f"{scene.num_trays} trays at strength {scene.strength:g}"] if scene.strength else []
    parts += [f"exposures of {scene.darkest:g} to 1"] if scene.darkest < 1 else []
    parts += [f"views of {condition.least_crop:g} to 1, brightness ± {condition.brightness:g}"]
    return f"{'; '.join(parts)}; {condition.epochs} epochs, V = {condition.window}."


def _table(rows: list[Row]) -> list[str]:
    titles = ["method", *MEASURES.values(), *LAST.values(), "seeds"]
    lines = []
    for method in METHODS:
        own = [row for row in rows if row["method"] == method]
        if own:
            last = [row["epochs"][-1] if row["epochs"] else {} for row in own]
            cells = [spread([row[key] for row in own], 1 if key == "rank" else 3) for key in MEASURES]
            cells += [spread([epoch[key] for epoch in last if epoch.get(key) is not None], 3) for key in LAST]
            collapses = sum(row["collapse"] is not None for row in own)
            lines.append([method, *cells, f"{len(own)}{f', {collapses} collapsed' if collapses else ''}"])
    return markdown(titles, lines).splitlines()


def _verdicts(rows: list[Row]) -> list[str]:
    """One method less another, seed by seed."""
    by_key = {(row["method"], row["seed"]): row for row in rows}
    lines = []
    for method, rival in (("naive", "plain"), ("adaptive", "plain"), ("adaptive", "naive"), ("adaptive at 1", "naive")):
        seeds = [seed for name, seed in by_key if name == method and (rival, seed) in by_key]
        if seeds:
            gains = {
                key: [by_key[method, seed][key] - by_key[rival, seed][key] for seed in seeds]
                for key in ("knn", "probe")
            }
            told = [
                f"{MEASURES[key]} {spread(values, 3)}, better in {sum(value > 0 for value in values)} of {len(values)} seeds"
                for key, values in gains.items()
            ]
            lines.append(f"- {method} less {rival}: {'; '.join(told)}.")
    return lines


def _course(rows: list[Row]) -> list[str]:
    """A condition's epochs, one row per method and figure."""
    course = courses(rows)
    longest = max(len(values["own_kind"]) for values in course.values())
    shown = [0, 1, *range(3, longest, 4)]
    lines = [
        [method, title, *_shown(values[key], shown)]
        for key, title in COURSE.items()
        for method, values in course.items()
    ]
    return markdown(["method", "epoch", *(str(epoch + 1) for epoch in shown)], lines).splitlines()


def _shown(values: FloatArray, places: list[int]) -> list[str]:
    """Some numbers in words; nothing for what does not exist."""
    return [f"{values[place]:.3g}" if place < len(values) and math.isfinite(values[place]) else "" for place in places]


def courses(rows: list[Row]) -> dict[str, dict[str, FloatArray]]:
    """Return by method and figure the mean over seeds of every epoch; NaN where a figure does not exist.

    Args:
        rows: Of one condition; a training that collapsed early counts as long as it lasted.

    Returns:
        Float arrays, one number per epoch.
    """
    found = {}
    for method in METHODS:
        own = [row["epochs"] for row in rows if row["method"] == method and row["epochs"]]
        if own:
            epochs = [[one[place] for one in own if place < len(one)] for place in range(max(map(len, own)))]
            found[method] = {
                key: np.array([_mean([epoch[key] for epoch in same if epoch[key] is not None]) for same in epochs])
                for key in COURSE
            }
    return found


def figure(rows: list[Row]) -> None:
    """Draw the course of the condition with several seeds, for the docs."""
    for name, condition in CONDITIONS.items():
        course = courses([row for row in rows if row["condition"] == name]) if len(condition.seeds) > 1 else {}
        if course:
            panels = []
            for key in ("own_kind", "gate_share", "effective_rank"):
                lines = {method: values[key].tolist() for method, values in course.items()}
                top = max(map(max, lines.values()))
                panels.append(Panel(COURSE[key], "epoch", range(1, condition.epochs + 1), lines, top=top))
            draw(PICTURE, panels)


def _mean(values: list[float]) -> float:
    return statistics.mean(values) if values else math.nan


def spread(values: list[float], digits: int) -> str:
    """Return mean ± standard deviation, or nothing of nothing."""
    if not values:
        return ""
    around = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{around}"
