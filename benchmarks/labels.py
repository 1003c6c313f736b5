"""What factories label beyond one class per image, measured on pictures that the project makes: `python -m benchmarks.labels`.

Each kind of label is a section: a function from the seeds to Markdown; `SECTIONS` lists those of this command. Several labels
on one image are measured by `benchmarks.label_sets`, which needs real images, into the same page.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from benchmarks.label_set_speed import speed_section
from benchmarks.measures import flags, ranking
from benchmarks.peers import cleanlab_confident_learning, cleanlab_noise_rate
from benchmarks.problem import BoolArray, Float32Array, IntArray, Output, Problem
from labelclean.cleaning.clean import clean_labels
from labelclean.config import Config, parse_config
from labelclean.features.boxes import Box
from labelclean.features.decode import decode_digest
from labelclean.features.decoder_pool import ImageSource
from labelclean.features.extraction import extract_missing, hash_images
from labelclean.features.facts import backbone_facts
from labelclean.features.store import feature_store
from sample_data.sheets import CLASSES, Sheet, sheet, with_wrong_labels

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "RESULTS-labels.md"
RATES = (0.05, 0.1, 0.2)
MARGINS = (0.0, 0.05, 0.1, 0.2, 0.4)
NUM_FOLDS = 5
INTRO = """# More than one class per image

Made by `python -m benchmarks.labels`. Pictures, boxes and faults are the project's own (`sample_data/sheets.py`); the network is \
that of the sample data. Truth measures, and decides nothing. AP: average precision of ranking wrong labels; F1: of what is \
flagged. ± is two standard errors of the paired difference over the seeds, in the last columns: labelclean less the better one \
of cleanlab's.
"""

Row = dict[str, float]


@dataclass(frozen=True)
class Boxes:
    """The boxes of one seed.

    Attributes:
        sheets: The photos.
        images: Number of each box's photo, int64, shape (N,).
        true: True class of each, int64, shape (N,).
    """

    sheets: list[Sheet]
    images: IntArray
    true: IntArray


def made_boxes(seed: int, num_sheets: int) -> Boxes:
    """Return photos with two to six defects each."""
    rng = np.random.default_rng(seed)
    sheets = [sheet(rng) for _ in range(num_sheets)]
    images = np.repeat(np.arange(num_sheets), [len(one.boxes) for one in sheets])
    true = np.array([CLASSES.index(label) for one in sheets for label in one.labels])
    return Boxes(sheets, images, true)


def crop_features(boxes: Boxes, margin: float, folder: Path) -> Float32Array:
    """Return the features of all boxes by the way that a run takes, float32, shape (N, D)."""
    for number, one in enumerate(boxes.sheets):
        path = folder / f"{number:04}.png"
        if not path.exists():
            Image.fromarray(one.grey).save(path, compress_level=1)
    config = _config(margin, folder)
    places = [(f"{image:04}.png", Box(*map(float, box))) for image, one in enumerate(boxes.sheets) for box in one.boxes]
    sources = [ImageSource(str(row), path, None, box) for row, (path, box) in enumerate(places)]
    hashes = hash_images(sources, config, folder, lambda _: None).content_hashes
    facts = backbone_facts(config)
    decode = decode_digest(config.decode, facts.input_size, config.backbone.resize, margin)
    store = feature_store(config.storage.cache, facts.digest, decode, facts.num_features)
    extract_missing(sources, store, facts, config, folder, lambda _: None)
    return store.read([hashes[source.sample_id] for source in sources])


def box_problem(boxes: Boxes, features: Float32Array, rate: float, seed: int) -> tuple[Problem, BoolArray]:
    """Return the boxes with some classes wrong, folds by image, and which are wrong."""
    rng = np.random.default_rng([seed, round(1000 * rate)])
    labels, wrong = with_wrong_labels(rng, boxes.sheets, rate)
    given = np.array([CLASSES.index(label) for some in labels for label in some])
    folds = rng.permutation(len(boxes.sheets))[boxes.images] % NUM_FOLDS
    return Problem(features, given, folds, len(CLASSES), seed), np.array([one for some in wrong for one in some])


def ours(problem: Problem, groups: IntArray, *, own_probs: bool) -> Output:
    """Return what labelclean says: of the features, or of the probabilities that cleanlab gets."""
    probs = problem.outside_probs if own_probs else None
    features = None if own_probs else problem.features
    found = clean_labels(
        problem.given, features=features, pred_probs=probs, groups=groups.tolist(), seed=problem.seed
    ).table
    predicted = found["predicted_label"].to_numpy(dtype=np.int64)
    scores = found["label_score"].to_numpy(dtype=np.float64)
    return Output(scores, found["is_label_issue"].to_numpy(dtype=bool), predicted, np.empty((0, 0)), False)


def measured(problem: Problem, groups: IntArray, wrong: BoolArray) -> Row:
    """Return AP and F1 of every method."""
    outputs = {
        "labelclean": ours(problem, groups, own_probs=False),
        "labelclean, same probabilities": ours(problem, groups, own_probs=True),
        "cleanlab noise rate": cleanlab_noise_rate(problem),
        "cleanlab confident learning": cleanlab_confident_learning(problem),
    }
    row: Row = {}
    for name, output in outputs.items():
        row[f"{name} AP"] = ranking(output.scores, wrong)["ap"]
        row[f"{name} F1"] = flags(output.is_issue, wrong)["f1"]
    return row


def boxes_section(seeds: Sequence[int], num_sheets: int) -> str:
    """Return the section on boxes: a row per rate, and the margin on its own."""
    rows: dict[float, list[Row]] = {rate: [] for rate in RATES}
    by_margin: dict[float, list[Row]] = {margin: [] for margin in MARGINS}
    num_boxes = 0
    for seed in seeds:
        boxes = made_boxes(seed, num_sheets)
        num_boxes += len(boxes.true)
        with tempfile.TemporaryDirectory() as place:
            features = {margin: crop_features(boxes, margin, Path(place)) for margin in MARGINS}
        for rate in RATES:
            problem, wrong = box_problem(boxes, features[_margin()], rate, seed)
            rows[rate].append(measured(problem, boxes.images, wrong))
            print(f"seed {seed}, {rate:.0%} wrong: {rows[rate][-1]}", flush=True)
        for margin in MARGINS:
            problem, wrong = box_problem(boxes, features[margin], 0.1, seed)
            output = ours(problem, boxes.images, own_probs=False)
            found = {"AP": ranking(output.scores, wrong)["ap"], "F1": flags(output.is_issue, wrong)["f1"]}
            by_margin[margin].append(found)
    intro = (
        f"{len(seeds)} seeds of {num_sheets} pictures with two to six boxes each, {num_boxes:,} boxes and {len(CLASSES)} classes; "
        "crops with the margin of the default. cleanlab gets the out-of-fold probabilities of scikit-learn's logistic "
        "regression on the same features, folds by image; labelclean is shown on the features, and on those very probabilities "
        "without features."
    )
    margins = [[f"{margin:g}", *(_mean(by_margin[margin], name) for name in ("AP", "F1"))] for margin in MARGINS]
    return "\n\n".join(
        [
            "## Boxes",
            intro,
            _table(("AP", "cleanlab noise rate"), rows),
            _table(("F1", "cleanlab noise rate", "cleanlab confident learning"), rows),
            "`data.box_margin`, 10 % wrong (the default, 0.1, was taken for its reason, before this was measured):",
            _markdown(["margin", "AP", "F1"], margins),
        ]
    )


SECTIONS: tuple[Callable[[Sequence[int], int], str], ...] = (boxes_section,)


def main() -> None:
    """Measure all sections and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--pictures", type=int, default=150, help="Pictures per seed.")
    parser.add_argument("--speed", action="store_true", help="Only what several labels cost beside one.")
    parser.add_argument("--turns", type=int, default=3, help="Turns of --speed.")
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args()
    if asked.speed:
        write_section(asked.out, speed_section(asked.turns, num_photos=1_000))
        return
    for section in SECTIONS:
        write_section(asked.out, section(range(asked.seeds), asked.pictures))


def write_section(path: Path, section: str) -> None:
    """Write a section into the page, in the place of the one with its heading.

    Args:
        path: The page; begun where it is missing.
        section: Markdown that starts with `## HEADING`.
    """
    page = path.read_text(encoding="utf-8") if path.exists() else INTRO
    intro, *others = page.strip().split("\n\n## ")
    sections = {one.partition("\n")[0]: one.strip() for one in others}
    sections[section.removeprefix("## ").partition("\n")[0]] = section.strip().removeprefix("## ")
    path.write_text("\n\n## ".join([intro, *sections.values()]) + "\n", encoding="utf-8")


# --- inside ---------------------------------------------------------------------------------------


def _config(margin: float, folder: Path) -> Config:
    settings = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    settings["data"] |= {"labels": str(folder), "image_root": str(folder), "box_margin": margin}
    settings["storage"]["cache"] = str(folder / "cache")
    return parse_config(yaml.safe_dump(settings), folder=ROOT, origin="benchmarks.labels", overrides=(), cwd=ROOT)


def _margin() -> float:
    """The default of `data.box_margin`."""
    from labelclean.config import DataConfig

    return float(DataConfig.model_fields["box_margin"].default)


def _table(wanted: tuple[str, ...], rows: dict[float, list[Row]]) -> str:
    """One measure by rate: ours, ours on the same probabilities, cleanlab's, and the paired difference."""
    what, *peers = wanted
    methods = ["labelclean", "labelclean, same probabilities", *peers]
    lines = []
    for rate, found in rows.items():
        best = max(peers, key=lambda name: float(np.mean([row[f"{name} {what}"] for row in found])))
        ahead = [row[f"labelclean {what}"] - row[f"{best} {what}"] for row in found]
        error = 2 * float(np.std(ahead, ddof=1)) / np.sqrt(len(ahead)) if len(ahead) > 1 else float("nan")
        cells = [_mean(found, f"{name} {what}") for name in methods]
        lines.append([f"{rate:.0%}", *cells, f"{np.mean(ahead):+.3f} ± {error:.3f}"])
    return _markdown(["wrong", *(f"{name}, {what}" for name in methods), "ahead by"], lines)


def _mean(found: list[Row], name: str) -> str:
    return f"{np.mean([row[name] for row in found]):.3f}"


def _markdown(header: list[str], lines: list[list[str]]) -> str:
    rule = ["---"] * len(header)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *lines))


if __name__ == "__main__":
    main()
