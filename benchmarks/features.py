"""What the depth of the features is worth: labels cleaned on the last layer, and with a middle stage beside it.

Each network goes over each set once and keeps what every stage says; then labels with made noise are cleaned by
`clean_labels` with its defaults. Truth makes the noise and measures, nothing else. Rows are kept: a run that was ended
goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from benchmarks.data import _oracle
from benchmarks.extraction import NETWORKS
from benchmarks.measures import flags, ranking
from benchmarks.noise_kinds import KINDS
from labelclean.cleaning.clean import clean_labels
from labelclean.config import Config, parse_config
from labelclean.features.backbone import Backbone, build_backbone
from labelclean.features.decoder_pool import DecodeSettings, ImageSource, Reject, decoded_images
from labelclean.features.depth import map_parts, middle_signs, middle_stage, side_by_side
from labelclean.features.forward import extract_features
from labelclean.storage.parquet import read_config

HERE = Path(__file__).parent
SAMPLE = HERE.parent / "sample_data"
SETS = ("magnetic_tile", "neu_surface", "sample_data")
OWN = "sample_data's own"
NOISES = (
    *(("uniform", rate) for rate in (0.1, 0.4)),
    *(("asymmetric", rate) for rate in (0.1, 0.3)),
    *(("instance_dependent", rate) for rate in (0.1, 0.2)),
)
MEASURES = ("ap", "f1", "accuracy")
FloatArray = npt.NDArray[np.float32]


class Cell(NamedTuple):
    """One cleaning; stage -1 is the last layer alone."""

    network: str
    data: str
    stage: int
    kind: str
    rate: float
    seed: int


class Seen(NamedTuple):
    """What a network says of a set.

    Attributes:
        ids: Of the samples, length N.
        true: Their classes by name, length N.
        top: Pooled output, float32, shape (N, D).
        stages: By stage the mean, maximum and spread of its map, float32, shape (N, C) each.
    """

    ids: list[str]
    true: npt.NDArray[np.str_]
    top: FloatArray
    stages: list[list[FloatArray]]


class AllStages(torch.nn.Module):
    """A network's pooled output and the parts of all its stages in one row."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the row."""
        last, maps = self.network.forward_intermediates(pixels, output_fmt="NCHW")
        top = self.network.forward_head(last, pre_logits=True)
        return torch.cat([top, *(part for one in maps for part in map_parts(one))], dim=1)


def pairs() -> list[tuple[str, str]]:
    """Return networks and sets: the shared networks on the real sets, and the sample data's own."""
    return [*((network, data) for network in NETWORKS for data in SETS[:2]), (OWN, SETS[2])]


def config_of(network: str, shared: Path) -> Config:
    """Return the configuration that a network is built from."""
    if network == OWN:
        return read_config(HERE.parent / "config.yaml", [])
    text = (
        "data: {labels: labels.parquet}\nstorage: {}\nrun: {seed: 0}\n"
        f"backbone: {{name: {network}, {NETWORKS[network].format(shared=shared)}, mean: [0.5], std: [0.5]}}\n"
    )
    return parse_config(text, folder=HERE, origin="benchmark", overrides=[], cwd=HERE)


def samples_of(data: str, shared: Path) -> tuple[Path, pd.DataFrame]:
    """Return a set's folder and its samples with their true labels, in the order of their ids."""
    folder = SAMPLE if data == SETS[2] else shared / "datasets" / data
    truth = SAMPLE / "truth.parquet" if data == SETS[2] else shared / "datasets" / "truth" / f"{data}.parquet"
    frame = pd.read_parquet(folder / "labels.parquet").merge(pd.read_parquet(truth), on="sample_id")
    return folder, frame.sort_values("sample_id")


@lru_cache(maxsize=1)
def seen(network: str, data: str, shared: Path, cache: Path) -> Seen:
    """Return what a network says of a set, from the cache where it is there."""
    folder, frame = samples_of(data, shared)
    path = cache / "stages" / f"{network}-{data}.npz".replace(" ", "-").replace("'", "")
    if not path.is_file():
        config = config_of(network, shared)
        backbone = build_backbone(config.backbone, "fp32")
        sources = [ImageSource(*row) for row in zip(frame.sample_id, frame.image_path, strict=True)]
        kept, rows = _extracted(backbone, sources, folder, config)
        with torch.inference_mode():
            maps = backbone.module.forward_intermediates(  # type: ignore[operator]
                torch.zeros(1, len(backbone.mean), *backbone.input_size), intermediates_only=True
            )
        widths = [backbone.num_features, *(one.shape[1] for one in maps for _ in range(3))]
        parts = np.split(rows, np.cumsum(widths)[:-1], axis=1)
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, Any] = {f"part{number}": part for number, part in enumerate(parts)}
        np.savez(path, ids=np.array(kept), **arrays)
    with np.load(path) as stored:
        ids = stored["ids"].tolist()
        parts = [stored[f"part{number}"] for number in range(len(stored.files) - 1)]
    true = frame.set_index("sample_id").true_label.loc[ids].to_numpy(dtype=str)
    return Seen(ids, true, parts[0], [parts[start : start + 3] for start in range(1, len(parts), 3)])


def _extracted(
    backbone: Backbone, sources: Sequence[ImageSource], folder: Path, config: Config
) -> tuple[list[str], FloatArray]:
    settings = DecodeSettings(folder, config.decode, backbone.input_size, config.backbone.resize)
    kept: list[str] = []

    def batches() -> Iterator[npt.NDArray[np.uint16]]:
        for source, found in zip(sources, decoded_images(iter(sources), settings, 1, in_flight=64), strict=True):
            if not isinstance(found.image, Reject):
                kept.append(source.sample_id)
                yield np.asarray(found.image)[None]

    common: dict[str, Any] = {"batch_size": 1, "device": torch.device("cpu"), "precision": "fp32"}
    rows = extract_features(AllStages(backbone.module), batches(), mean=backbone.mean, std=backbone.std, **common)
    found = np.concatenate(list(rows))
    return kept, found


def features_of(told: Seen, stage: int) -> FloatArray:
    """Return the features of a depth as the product stores them."""
    if stage < 0:
        return told.top.astype(np.float16).astype(np.float32)
    parts = [torch.from_numpy(part) for part in told.stages[stage]]
    signs = middle_signs(told.top.shape[1], parts[0].shape[1])
    rows = side_by_side(torch.from_numpy(told.top), parts, signs)
    return rows.numpy().astype(np.float16).astype(np.float32)


def measured(cell: Cell, shared: Path, cache: Path) -> dict[str, float]:
    """Clean the labels of a cell; all networks and depths of a set share its noise, as people see the pictures alone."""
    noise_network = OWN if cell.data == SETS[2] else next(iter(NETWORKS))
    told, base = seen(cell.network, cell.data, shared, cache), _base(noise_network, cell.data, shared, cache)
    names, true = np.unique(told.true, return_inverse=True)
    draw = np.random.default_rng([cell.seed, round(100 * cell.rate), list(KINDS).index(cell.kind)])
    given = KINDS[cell.kind](true, base, cell.rate, draw)
    features = features_of(told, cell.stage)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = clean_labels(names[given], features=features, sample_ids=told.ids, seed=0).table
    is_wrong = given != true
    flagged = table.is_label_issue.to_numpy(dtype=bool)
    right = table.predicted_label.to_numpy(dtype=str) == told.true
    measures = ranking(table.label_score.to_numpy(dtype=np.float64), is_wrong) | flags(flagged, is_wrong)
    return measures | {"accuracy": float(right.mean()), "num_features": float(features.shape[1])}


@lru_cache(maxsize=4)
def _base(network: str, data: str, shared: Path, cache: Path) -> FloatArray:
    """P(class | image) that instance noise is drawn from."""
    told = seen(network, data, shared, cache)
    true = np.unique(told.true, return_inverse=True)[1].astype(np.int64)
    return _oracle(f"features-{data}", told.top, true, cache)


def table_lines(rows: dict[Cell, dict[str, float]]) -> Iterator[str]:
    """Yield the page's tables: means over noises and seeds, then every noise."""
    yield "| network | images | depth | numbers | AP | F1 | predicted right | cells |\n|---|---|---|---:|---:|---:|---:|---:|"
    for network, data in pairs():
        for stage in sorted({cell.stage for cell in rows if cell[:2] == (network, data)}):
            chosen = [cell for cell in rows if cell[:3] == (network, data, stage)]
            partners = [cell for cell in chosen if cell._replace(stage=-1) in rows]
            means = " | ".join(f"{np.mean([rows[cell][name] for cell in partners]):.4f}" for name in MEASURES)
            numbers = rows[chosen[0]]["num_features"]
            yield f"| {network} | {data} | {_depth(stage)} | {numbers:,.0f} | {means} | {len(partners)} |"
    yield "\nBy noise, mean over the seeds: the last layer alone, and what the middle stage adds to it.\n"
    yield "| network | images | depth | noise | AP, last | AP | F1, last | F1 | predicted right, last | predicted right |"
    yield "|---|---|---|---|---:|---:|---:|---:|---:|---:|"
    for network, data in pairs():
        for stage in sorted({cell.stage for cell in rows if cell[:2] == (network, data) and cell.stage >= 0}):
            for kind, rate in NOISES:
                own = [cell for cell in rows if cell[:5] == (network, data, stage, kind, rate)]
                own = [cell for cell in own if cell._replace(stage=-1) in rows]
                if not own:
                    continue
                values = []
                for name in MEASURES:
                    before = float(np.mean([rows[cell._replace(stage=-1)][name] for cell in own]))
                    after = float(np.mean([rows[cell][name] for cell in own]))
                    values.append(f"{before:.3f} | {after - before:+.3f}")
                yield f"| {network} | {data} | {_depth(stage)} | {kind.replace('_', ' ')} {rate:g} | {' | '.join(values)} |"


def _depth(stage: int) -> str:
    return "last" if stage < 0 else f"last and stage {stage + 1}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is not stored yet, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", nargs="+", choices=[*NETWORKS, OWN], default=[*NETWORKS, OWN])
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument(
        "--stages", nargs="+", type=int, help="stages from 0, -1 for the last layer alone; default: the product's"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=HERE / "RESULTS-features.md")
    parser.add_argument("--cache", type=Path, default=HERE.parent / "cache" / "benchmark")
    options = parser.parse_args(arguments)
    shared, cache = Path(os.environ["LABELCLEAN_REAL_DATA"]).resolve(), options.cache.resolve()
    cache.mkdir(parents=True, exist_ok=True)
    store = cache / "features.jsonl"
    stored = [json.loads(line) for line in store.read_text().splitlines()] if store.is_file() else []
    rows = {Cell(*row["cell"]): row["measures"] for row in stored}
    for seed in options.seeds:
        for network, data in pairs():
            if network not in options.networks or data not in options.sets:
                continue
            stages = options.stages or [-1, middle_stage(len(seen(network, data, shared, cache).stages))]
            for cell in (Cell(network, data, stage, *noise, seed) for noise in NOISES for stage in stages):
                if cell not in rows:
                    rows[cell] = measured(cell, shared, cache)
                    with store.open("a") as file:
                        file.write(json.dumps({"cell": cell, "measures": rows[cell]}) + "\n")
                    print(cell, {name: round(rows[cell][name], 4) for name in MEASURES}, file=sys.stderr, flush=True)
            old = options.out.read_text() if options.out.is_file() else ""
            options.out.write_text(page(rows) + "".join(old.partition("\n## ")[1:]))


def replaced_section(text: str, title: str, content: str) -> str:
    """Return a page with one of its sections, or a new one at its end, holding other content."""
    head, _, rest = text.partition(f"\n## {title}\n")
    others = rest.partition("\n## ")
    return f"{head.rstrip()}\n\n## {title}\n\n{content.strip()}\n{''.join(others[1:])}"


def page(rows: dict[Cell, dict[str, float]]) -> str:
    """Return the page."""
    lines = "\n".join(table_lines(rows))
    seeds = sorted({cell.seed for cell in rows})
    return (
        f"# Depth of the features\n\n`python -m benchmarks.features`. {(__doc__ or '').strip()}\n\n"
        f"Features in fp32, stored as float16. Seeds of the noise: {', '.join(map(str, seeds))}; a row counts the cells that "
        f"both depths have, six noises a seed.\n\n{lines}\n"
    )


if __name__ == "__main__":
    main()
