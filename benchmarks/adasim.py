"""What AdaSim is worth: base, plain, naive and adaptive backbones on real images, and the loop's own cost.

    python -m benchmarks.adasim --work DIR            # all cells that DIR does not hold yet, then the table
    python -m benchmarks.adasim --work DIR --sets neu_surface --starts scratch
    python -m benchmarks.adasim --work DIR --throughput
    python -m benchmarks.adasim --work DIR --claim    # on pictures that it makes

The real sets lie below LABELCLEAN_REAL_DATA. Truth is only measured with, after training.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import sys
import time
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from benchmarks import adasim_claim
from benchmarks.data import WEIGHTS, real_names
from labelclean.adapt import session
from labelclean.adapt.compare import base_backbone, labelled_features
from labelclean.adapt.image_cache import open_cache
from labelclean.adapt.image_set import gather_images, labelled_sources
from labelclean.adapt.loss import dino_loss
from labelclean.adapt.neighbours import new_history
from labelclean.adapt.state import TrainingSetup
from labelclean.adapt.train import follow, learn, train
from labelclean.adapt.world import World
from labelclean.cleaning.clean import clean_labels
from labelclean.config import CleaningConfig, Config
from labelclean.features.backbone import choose_device, choose_precision
from labelclean.features.extraction import hash_images
from labelclean.labels import one_hot
from labelclean.probes.feature_space import build_feature_space
from labelclean.probes.ridge import Design, fit_cross_entropy, out_of_fold_logits, softmax
from labelclean.runs.ingest import image_root, samples_of
from labelclean.storage.parquet import write_json

METHODS = ("base", "plain", "naive", "adaptive")
MEASURES = {"knn": "k-NN accuracy", "probe": "linear probe accuracy", "ap": "AP of wrong labels"}
SEEDS = (0, 1, 2)
SIDE = 64
VOTERS = 20
PENALTIES = (0.01, 0.1, 1.0, 10.0)
# Set without labels. 16 epochs: 18 trainings in less than 60 minutes of 2 cores. V = 4: a quarter, and later than the warm-up.
# momentum .99 looks back 100 steps, 2 epochs; the paper's .996 would be half of the training. Views: with those of DINO's
# recipe (crops of .4 to 1, turns, blur) a trial saw 2 % of the images find their own past after 13 epochs, so that the gate
# stayed shut and adaptive was plain; milder crops let an image know itself again.
SETTINGS: dict[str, Any] = {
    "epochs": 16,
    "window": 4,
    "batch_size": 32,
    "warmup_epochs": 2,
    "momentum": 0.99,
    "views": {
        "crop_area": [0.7, 1.0],
        "flips": False,
        "turns": False,
        "brightness": 0.2,
        "contrast": 0.2,
        "blur_share": 0.0,
    },
}
SCRATCH: dict[str, Any] = SETTINGS | {"learning_rate": 4e-3, "from_scratch": True}
# From weights, a tenth of the rate and fewer epochs: six take as long here as sixteen of the small network.
IMAGENET: dict[str, Any] = SETTINGS | {"learning_rate": 4e-4, "epochs": 6, "window": 2, "warmup_epochs": 1}
STARTS = {
    "scratch": f"resnet14t of 0.5 million weights from random weights, {SCRATCH['epochs']} epochs, V = {SCRATCH['window']}",
    "imagenet": f"mobilenetv2_100 from ImageNet weights, {IMAGENET['epochs']} epochs, V = {IMAGENET['window']}",
}
TITLES = {
    "scratch": "From random weights",
    "imagenet": "From ImageNet weights",
    "claim": "The claim, on made pictures",
    "cost": "Cost of the loop",
}
HEAD = "# AdaSim\n\nMade by `python -m benchmarks.adasim`. Truth is only measured with.\n"
SMALL_HEAD: dict[str, Any] = {"head_width": 512, "bottleneck": 128, "prototypes": 512}
RESULTS = Path(__file__).with_name("RESULTS-adasim.md")
REPEATS = 5


def config_of(name: str, start: str, method: str, seed: int, work: Path, temperature: float | str) -> Config:
    """Return the configuration of one cell."""
    root = Path(os.environ["LABELCLEAN_REAL_DATA"]).resolve()
    data = {"labels": root / "datasets" / name / "labels.parquet"}
    if start == "scratch":
        options = {"channels": [16, 32, 64, 128], "stem_width": 16, "in_chans": 1}
        backbone: dict[str, Any] = {"name": "resnet14t", "options": options, "mean": [0.5], "std": [0.25]}
        settings = SCRATCH
    else:
        backbone = {"name": "mobilenetv2_100", "options": {"pad_type": "same"}, "weights": root / WEIGHTS}
        backbone |= {"mean": [0.5] * 3, "std": [0.5] * 3}
        settings = IMAGENET
    device = os.environ.get("LABELCLEAN_DEVICE", "auto")
    # bf16 is half the time where the processor has it, and ten times where it must be imitated.
    is_fast = choose_precision("auto", choose_device(device)) == "bf16"
    mode = "plain" if method == "base" else method
    out = work / "adapted" / f"{name}-{start}-{method}-{seed}"
    return Config.model_validate(
        {
            "data": data,
            "backbone": backbone | {"input_size": SIDE, "precision": "fp32"},
            "run": {"seed": seed, "device": device},
            "storage": {"cache": work / "cache", "runs": work / "runs"},
            "adapt": settings
            | SMALL_HEAD
            | {"mode": mode, "out": out, "temperature": temperature, "precision": "bf16" if is_fast else "fp32"},
        }
    )


def measured(config: Config, weights: Path | None, name: str) -> dict[str, float]:
    """Return what a backbone's features are worth by the truth."""
    samples, _, has_bytes = samples_of(config, "benchmarks.adasim")
    sources, root = labelled_sources(config, samples, has_bytes), image_root(config)
    contents = hash_images(sources(set()), config, root, lambda _: None).content_hashes
    named = config.backbone.model_copy(update={"weights": weights}) if weights is not None else base_backbone(config)
    features, ids = labelled_features(config, named, sources, root, contents)
    truth = pd.read_parquet(Path(os.environ["LABELCLEAN_REAL_DATA"]) / "datasets" / "truth" / f"{name}.parquet")
    given = pd.Series(samples.column("given_label").to_pylist(), samples.column("sample_id").to_pylist())
    names, true = np.unique(truth.set_index("sample_id").true_label.loc[ids].to_numpy(dtype=str), return_inverse=True)
    said = given.loc[ids].to_numpy(dtype=str)
    return worth(features, true.astype(np.int64), said, names[true], ids, config.run.seed)


def worth(
    features: npt.NDArray[np.float32],
    true: npt.NDArray[np.int64],
    given: npt.NDArray[np.str_],
    true_names: npt.NDArray[np.str_],
    ids: list[str],
    seed: int,
) -> dict[str, float]:
    """Return k-NN and probe accuracy on the truth, and the average precision of wrong labels.

    Args:
        features: float32, shape (N, D).
        true: True class, int64, shape (N,).
        given: Given class names, shape (N,).
        true_names: True class names, shape (N,).
        ids: Sample ids, length N.
        seed: For folds.

    Returns:
        The three measures.
    """
    from sklearn.metrics import average_precision_score

    space = build_feature_space(features, ids, None, CleaningConfig(), seed=seed)
    near = space.neighbours
    if near is None:
        raise ValueError("the feature space must have neighbours")
    votes = np.zeros((len(true), int(true.max()) + 1))
    for place in range(min(VOTERS, near.index.shape[1])):
        np.add.at(votes, (np.arange(len(true)), true[near.index[:, place]]), np.maximum(near.similarity[:, place], 0))
    penalty = likeliest_penalty(space.design, np.unique(given, return_inverse=True)[1])
    probes = fit_cross_entropy(space.design, one_hot(true, votes.shape[1]), penalty)
    told = out_of_fold_logits(space.design, probes).argmax(axis=1)
    scores = clean_labels(given, features=features, sample_ids=ids, seed=seed).refinement.label_scores
    return {
        "knn": float((votes.argmax(axis=1) == true).mean()),
        "probe": float((told == true).mean()),
        "ap": float(average_precision_score(given != true_names, -scores)),
    }


def likeliest_penalty(design: Design, given: npt.NDArray[np.int64]) -> float:
    """Return the penalty whose probe tells the given labels best, out of fold: the truth has no say in it.

    Args:
        design: Features and folds.
        given: Given class, int64, shape (N,).

    Returns:
        One of ``PENALTIES``.
    """

    def likelihood(penalty: float) -> float:
        probes = fit_cross_entropy(design, one_hot(given, int(given.max()) + 1), penalty)
        return float(np.log(softmax(out_of_fold_logits(design, probes))[np.arange(len(given)), given] + 1e-9).mean())

    return max(PENALTIES, key=likelihood)


def run_cell(name: str, start: str, method: str, seed: int, work: Path, temperature: float | str) -> dict[str, Any]:
    """Train and measure one cell; a training that a kill interrupted goes on."""
    config = config_of(name, start, method, seed, work, temperature)
    began, last = time.monotonic(), {}
    weights = None
    if method != "base":
        from labelclean.storage.run_folders import run_folders

        done = run_folders(config.adapt.out)
        unfinished = any((one / "checkpoint.pt").is_file() for one in config.adapt.out.glob(".work-*"))
        folder = done[-1] if done else session.adapt(config, resume=unfinished)
        weights = folder / "backbone.safetensors"
        rows = [json.loads(line) for line in (folder / "epochs.jsonl").read_text().splitlines()]
        shares = [row["bootstrapped_share"] for row in rows[config.adapt.window or 0 :]]
        last = {
            "bootstrapped": float(np.mean(shares)) if shares else 0.0,
            **{key: rows[-1][key] for key in ("self_retrieval_1", "effective_rank", "partner_agreement")},
        }
    found = measured(config, weights, name)
    return {"set": name, "start": start, "method": method, "seed": seed, **found, **last, "s": time.monotonic() - began}


def throughput(work: Path) -> dict[str, float]:
    """Return steps per second of the loop and of the bare step, taken in turn within one run."""
    config = config_of(real_names()[-1], "scratch", "adaptive", 0, work, 0.01)
    images, _ = gather_images(config, session.cache_size(config))
    cache = open_cache(images.cache)
    setup = session.build_setup(config, images, session.start_backbone(config), World())
    looped, bare = session.fresh_state(config, setup), session.fresh_state(config, setup)
    loop = train(
        looped, setup, cache.pixels, new_history(setup.config.window or 1, setup.num_images, setup.config.neighbours)
    )
    times: dict[str, list[float]] = {"loop": [], "bare": [], "loop_cpu": [], "bare_cpu": []}
    for repeat in range(REPEATS + 1):  # the first warms up
        for kind in ("loop", "bare") if repeat % 2 else ("bare", "loop"):
            wall, cpu = time.perf_counter(), time.process_time()
            if kind == "loop":
                next(loop)
            else:
                _bare_epoch(bare, setup)
            if setup.device.type == "cuda":
                torch.cuda.synchronize()
            if repeat:
                times[kind].append((time.perf_counter() - wall) / setup.steps)
                times[f"{kind}_cpu"].append((time.process_time() - cpu) / setup.steps)
    found = {kind: statistics.median(values) for kind, values in times.items()}
    return found | {"ratio": found["bare"] / found["loop"], "ratio_cpu": found["bare_cpu"] / found["loop_cpu"]}


def _bare_epoch(state: Any, setup: TrainingSetup) -> None:
    """One epoch of forward, backward and step of the same networks on synthetic crops: no images, crops or neighbours."""
    channels = len(setup.mean)
    crops = torch.randn(2 * int(setup.config.batch_size or 0), channels, *setup.size, device=setup.device)
    crops = crops.contiguous(memory_format=torch.channels_last)
    for _ in range(setup.steps):
        with torch.autocast(setup.device.type, setup.dtype, enabled=setup.dtype != torch.float32):
            with torch.no_grad():
                _, momentum_logits = state.momentum(crops)
            _, online_logits = state.online(crops)
        loss = dino_loss(
            online_logits, momentum_logits, state.centre, online_temperature=0.1, momentum_temperature=0.04
        )
        state.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        learn(state, 1e-5, 0.04, setup.config)
        follow(state.online, state.momentum, 0.996)


def sections(rows: list[dict[str, Any]], speed: dict[str, Any], temperature: float | str) -> dict[str, str]:
    """Return what the rows say, by title; a start without rows has no section."""
    texts = {}
    for start in STARTS:
        own = [row for row in rows if row["start"] == start]
        if own:
            texts[TITLES[start]] = "\n".join(_start_lines(start, own, temperature))
    if speed:
        texts[TITLES["cost"]] = "\n".join(_speed_lines(speed))
    return texts


def _start_lines(start: str, rows: list[dict[str, Any]], temperature: float | str) -> list[str]:
    total = len(real_names()) * len(METHODS) * len(SEEDS)
    lines = [
        f"`{start}`: {STARTS[start]}; images of {SIDE} pixels; temperature {temperature} for adaptive; mean ± "
        f"standard deviation over seeds. base is the network before training. {len(rows)} of {total} cells have been run.",
        "",
    ]
    titles = [*MEASURES.values(), "compared with another", "own past nearest", "effective rank", "seeds"]
    for name in sorted({row["set"] for row in rows}):
        cell = [row for row in rows if row["set"] == name]
        lines += [f"### {name}", "", f"| method | {' | '.join(titles)} |", f"|{'---|' * (len(titles) + 1)}"]
        for method in METHODS:
            own = [row for row in cell if row["method"] == method]
            if own:
                cells = [adasim_claim.spread([row[key] for row in own], 3) for key in MEASURES]
                for key, digits in (("bootstrapped", 2), ("self_retrieval_1", 2), ("effective_rank", 1)):
                    values = [row[key] for row in own if key in row]
                    cells.append(adasim_claim.spread(values, digits) if values else "")
                lines.append(f"| {method} | {' | '.join(cells)} | {len(own)} |")
        lines += ["", *_verdicts(cell), ""]
    return lines[:-1]


def put_sections(path: Path, texts: dict[str, str]) -> None:
    """Write sections into the document; those that it has and that are not among them stay as they are.

    Args:
        path: The document.
        texts: Text by title, each one of ``TITLES``.
    """
    parts = re.split(r"^## ", path.read_text() if path.is_file() else "", flags=re.MULTILINE)[1:]
    texts = {title: text for title, _, text in (part.partition("\n") for part in parts)} | texts
    body = [f"## {title}\n\n{texts[title].strip()}\n" for title in TITLES.values() if title in texts]
    path.write_text("\n".join([HEAD, *body]))


def _verdicts(cell: list[dict[str, Any]]) -> list[str]:
    """Whether adaptive beats naive and is at least plain, seed by seed."""
    by_key = {(row["method"], row["seed"]): row for row in cell}
    lines = []
    for measure, title in MEASURES.items():
        for rival in ("naive", "plain"):
            seeds = [seed for seed in SEEDS if ("adaptive", seed) in by_key and (rival, seed) in by_key]
            if not seeds:
                continue
            gains = [by_key["adaptive", seed][measure] - by_key[rival, seed][measure] for seed in seeds]
            better = sum(gain > 0 for gain in gains)
            lines.append(
                f"- {title}: adaptive less {rival} {adasim_claim.spread(gains, 3)}, better in {better} of {len(gains)} seeds."
            )
    return lines


def _speed_lines(speed: dict[str, Any]) -> list[str]:
    lines = ["| device | loop, s per step | bare step, s | loop's throughput | by CPU time |", "|---|---|---|---|---|"]
    lines += [
        f"| {device} | {found['loop']:.4f} | {found['bare']:.4f} | {found['ratio']:.1%} | {found['ratio_cpu']:.1%} |"
        for device, found in speed.items()
    ]
    missing = [] if any("cuda" in device for device in speed) else ["| GPU | not measured: none at hand | | | |"]
    return [
        *lines,
        *missing,
        "",
        "Both in turn within one run, medians of 5 epochs; the bare step is forward of both networks, backward, optimiser and",
        "momentum step on synthetic crops.",
    ]


def main(arguments: list[str]) -> None:
    """Run the cells that are missing and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="holds everything; cells in it are not run again")
    parser.add_argument("--sets", nargs="*", default=real_names())
    parser.add_argument("--starts", nargs="*", default=["scratch"], choices=list(STARTS))
    parser.add_argument("--methods", nargs="*", default=list(METHODS))
    parser.add_argument("--seeds", nargs="*", type=int, default=list(SEEDS))
    parser.add_argument("--temperature", default="auto", help="of the adaptive cells: a number or auto")
    parser.add_argument("--throughput", action="store_true", help="measure the loop against the bare step")
    parser.add_argument("--claim", action="store_true", help="measure when naive hurts, on made pictures")
    parser.add_argument("--out", type=Path, default=RESULTS)
    chosen = parser.parse_args(arguments)
    temperature = chosen.temperature if chosen.temperature == "auto" else float(chosen.temperature)
    chosen.work.mkdir(parents=True, exist_ok=True)
    speed_file = chosen.work / "speed.json"
    speed = json.loads(speed_file.read_text()) if speed_file.is_file() else {}
    if chosen.claim:
        adasim_claim.run_missing(chosen.work)
    elif chosen.throughput:
        device = "cuda" if torch.cuda.is_available() else f"cpu, {torch.get_num_threads()} threads"
        speed[device] = throughput(chosen.work)
        speed_file.write_text(json.dumps(speed))
    else:
        for start, seed, name, method in product(chosen.starts, chosen.seeds, chosen.sets, chosen.methods):
            path = chosen.work / "cells" / f"{start}-{name}-{method}-{seed}.json"
            if not path.is_file():
                path.parent.mkdir(exist_ok=True)
                row = run_cell(name, start, method, seed, chosen.work, temperature)
                write_json(path, row)
                print(
                    {key: round(value, 3) if isinstance(value, float) else value for key, value in row.items()},
                    flush=True,
                )
    texts = sections(adasim_claim.read_rows(chosen.work / "cells"), speed, temperature)
    told = adasim_claim.read_rows(chosen.work / "claim")
    if told:
        texts[TITLES["claim"]] = adasim_claim.section(told)
        adasim_claim.figure(told)
    put_sections(chosen.out, texts)


if __name__ == "__main__":
    main(sys.argv[1:])
