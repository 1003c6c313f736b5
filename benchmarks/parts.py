"""Labels of parts: made parts seen by four cameras, of which one shows the defect, against the same run by image and cleanlab.

`python -m benchmarks.parts` makes the pictures (`sample_data/parts.py`), runs labelclean on them with `data.label_of: part` and
with `image`, hands cleanlab the out-of-fold probabilities of a logistic regression on the same features, and writes the page.
The truth makes the labels and measures; no method sees it.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.measures import flags, ranking
from benchmarks.peers import cleanlab_noise_rate
from benchmarks.problem import Problem
from labelclean.config import Config
from labelclean.features.facts import backbone_facts
from labelclean.features.store import FeatureStore
from labelclean.runs import steps
from labelclean.storage.parquet import read_config, read_table
from sample_data.parts import CAMERAS, CLASSES, OK, Part, planned_parts, write_photos

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "RESULTS-parts.md"
SEEDS, RATES, NUM_FOLDS = (0, 1, 2), (0.05, 0.1, 0.2), 5
NUM_VIEWS = len(CAMERAS)
OURS = "labelclean, label_of: part"
BY_IMAGE = ("any image", "mean of the images", "all images")
INTRO = """# Labels of parts

Made by `python -m benchmarks.parts`. {parts} made parts per seed, half of them OK, {views} pictures each, and only one of the \
{views} shows the defect; each picture carries the label of its part, and 5, 10 and 20 % of the parts are labelled wrong. Three \
seeds, the network of the sample data, every method with its defaults on the same features. AP: average precision of ranking \
the wrongly labelled parts; F1: of the parts that are flagged. Methods that judge images are read in three ways: a part is as \
suspicious as its worst image, as its images in the mean, or as its best image. cleanlab gets out-of-fold probabilities of a \
logistic regression, folds by part, of the pictures or of the mean or the maximum of the features of a part. ± is two standard \
errors of the paired difference over the nine cells.

How views speak for their part was chosen with these figures in view, on the same seeds and shares: pooled probabilities alone, \
with one more round, with a student on pooled features, and pooled features alone were compared. So read the lead over cleanlab \
on pooled features as that of a rule that knew the field.
"""
Row = dict[str, tuple[float, float]]


def write_labels(parts: Sequence[Part], path: Path) -> None:
    """Write the labels of the pictures of some parts."""
    rows = [
        {
            "sample_id": f"{one.name}_{camera}",
            "image_path": f"{one.name}_{camera}.png",
            "given_label": one.given,
            "part_id": one.name,
            "camera": camera,
        }
        for one in parts
        for camera in CAMERAS
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)


def config_of(folder: Path, labels: Path, label_of: str, seed: int) -> Config:
    """Return the sample's configuration for made parts."""
    items = [f"data.labels={labels}", f"data.image_root={folder}", f"data.label_of={label_of}", f"classes.ok={OK}"]
    items += [f"data.class_names=[{', '.join(CLASSES)}]", f"storage.runs={folder / 'runs' / label_of / labels.stem}"]
    items += [f"storage.cache={folder / 'cache'}", "expectations.enabled=false", f"run.seed={seed}"]
    return read_config(ROOT / "config.yaml", items)


def by_part(scores: npt.NDArray[np.float64], issues: npt.NDArray[np.bool_], wrong: npt.NDArray[np.bool_]) -> Row:
    """Return AP and F1 of parts by what is said of their images, shape (P, V), read in three ways."""
    suspicion = (scores.min(axis=1), scores.mean(axis=1), scores.max(axis=1))
    called = (issues.any(axis=1), issues.mean(axis=1) > 0.5, issues.all(axis=1))
    return {
        how: (ranking(score, wrong)["ap"], flags(issue, wrong)["f1"])
        for how, score, issue in zip(BY_IMAGE, suspicion, called, strict=True)
    }


def cell(parts: Sequence[Part], folder: Path, seed: int) -> Row:
    """Return AP and F1 of every method on one seed and rate."""
    wrong = np.array([one.given != one.true for one in parts])
    labels = folder / f"labels-{wrong.sum()}.parquet"
    write_labels(parts, labels)
    found: Row = {}
    for label_of in ("part", "image"):
        run = steps.clean(config_of(folder, labels, label_of, seed), force=True)
        table = read_table(run / "refined_labels.parquet", "refined_labels").sort_by("sample_id")
        scores = table.column("label_score").to_numpy().astype(np.float64).reshape(len(parts), NUM_VIEWS)
        issues = np.asarray(table.column("is_label_issue").to_numpy()).reshape(len(parts), NUM_VIEWS)
        said = by_part(scores, issues, wrong)
        if label_of == "part":
            found[OURS] = said[BY_IMAGE[0]]
        else:
            found |= {f"labelclean, {how}": value for how, value in said.items()}
    (folder_of_store,) = (folder / "cache" / "features").iterdir()
    store = FeatureStore(folder_of_store, backbone_facts(config_of(folder, labels, "image", seed)).num_features)
    features = store.read(table.column("content_hash").to_pylist()).astype(np.float32)
    given = np.array([CLASSES.index(one.given) for one in parts])
    folds = np.random.default_rng(seed).permutation(len(parts)) % NUM_FOLDS
    images = Problem(features, np.repeat(given, NUM_VIEWS), np.repeat(folds, NUM_VIEWS), len(CLASSES), seed)
    output = cleanlab_noise_rate(images)
    shape = (len(parts), NUM_VIEWS)
    said = by_part(output.scores.astype(np.float64).reshape(shape), output.is_issue.reshape(shape), wrong)
    found |= {f"cleanlab, {how}": value for how, value in said.items()}
    views = features.reshape(len(parts), NUM_VIEWS, -1)
    for name, pooled in (("mean", views.mean(axis=1)), ("maximum", views.max(axis=1))):
        output = cleanlab_noise_rate(Problem(pooled, given, folds, len(CLASSES), seed))
        found[f"cleanlab, {name} of the features"] = (
            ranking(output.scores, wrong)["ap"],
            flags(output.is_issue, wrong)["f1"],
        )
    return found


def page(cells: dict[tuple[float, int], Row], num_parts: int) -> str:
    """Return the page: the mean of each method over all cells, then AP and F1 by rate and seed."""
    names = list(next(iter(cells.values())))
    lines = [
        INTRO.format(parts=num_parts, views=NUM_VIEWS),
        "| method | AP | F1 | AP behind | F1 behind |",
        "|---|---:|---:|---:|---:|",
    ]
    for name in names:
        rows = np.array([row[name] for row in cells.values()])
        behind = np.array([row[OURS] for row in cells.values()]) - rows
        error = 2 * behind.std(axis=0, ddof=1) / np.sqrt(len(behind)) if len(behind) > 1 else np.full(2, np.nan)
        told = (
            ["", ""]
            if name == OURS
            else [f"{d:+.3f} ± {e:.3f}" for d, e in zip(behind.mean(axis=0), error, strict=True)]
        )
        lines.append(f"| {name} | {rows[:, 0].mean():.3f} | {rows[:, 1].mean():.3f} | {told[0]} | {told[1]} |")
    for at, what in enumerate(("AP", "F1")):
        lines += ["", f"| {what}, wrong | seed | {' | '.join(names)} |", f"|---:|---:|{'---:|' * len(names)}"]
        for (rate, seed), row in cells.items():
            lines.append(f"| {rate:.0%} | {seed} | {' | '.join(f'{row[name][at]:.3f}' for name in names)} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every cell and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", type=int, default=300, help="Parts per seed.")
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args(arguments)
    cells: dict[tuple[float, int], Row] = {}
    for seed in SEEDS:
        with tempfile.TemporaryDirectory(prefix="parts-") as place:
            folder = Path(place)
            for one in planned_parts(asked.parts, seed):
                write_photos(one, folder, seed)
            for rate in RATES:
                cells[rate, seed] = cell(planned_parts(asked.parts, seed, rate), folder, seed)
                print(f"seed {seed}, {rate:.0%} wrong: {cells[rate, seed]}", flush=True)
    asked.out.write_text(page(dict(sorted(cells.items())), asked.parts), encoding="utf-8")


if __name__ == "__main__":
    main()
