"""Several labels on one image: labels missed and labels too many, found by labelclean and by cleanlab's multilabel filter.

Run from the repository's root, with `LABELCLEAN_REAL_DATA` for its backbone and tiles:
`python -m benchmarks.label_sets --cache FOLDER` writes its section of RESULTS-labels.md. Both get the same features, folds and labels. Three sets: pictures made
here with zero to three defects each, and pairs of real images of two sets side by side, which show what both show.
"""

from __future__ import annotations

import argparse
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from benchmarks.data import extracted, real_config
from benchmarks.labels import RESULTS, write_section
from labelclean.arrays import BoolArray, Float32Array, Float64Array, IntArray
from labelclean.probes.feature_space import sample_keys

MADE = ("crack", "dent", "scratch", "stain")
NUM_MADE, SIZE_PX = 2_000, 96
PAIRED = {"magnetic_tile": "free", "neu_surface": ""}  # the class of an image on which there is nothing
RATES = (0.05, 0.1, 0.2)
SEEDS = 3
FOLDS = 5
INVERSE_DECAYS = (0.001, 0.01, 0.1)
REDRAWS = 200
INTRO = """## Several labels on one image

Made by `python -m benchmarks.label_sets --cache FOLDER`: pictures made there with zero to three of four defects, and pairs of real \
images side by side, which show what both show; features of MobileNetV2, the default configuration. As many labels are missed as \
are given where nothing is. cleanlab gets out-of-fold probabilities of scaled logistic regressions, one a class, on the same \
features and folds, each with the weight decay of three under which the given labels are likeliest. AP and F1 go over all images \
and classes; means over three seeds, beside the difference its standard error over images drawn again."""


@dataclass(frozen=True)
class LabelSetData:
    """One data set.

    Attributes:
        name: Its name in the table.
        features: float32, shape (N, D).
        is_there: What is on the images, bool, shape (N, K).
    """

    name: str
    features: Float32Array
    is_there: BoolArray


@dataclass(frozen=True)
class Found:
    """What a method says of every label that is there or not.

    Attributes:
        scores: Low = suspicious, float64, shape (N, K).
        is_issue: bool, shape (N, K).
    """

    scores: Float64Array
    is_issue: BoolArray


def made_picture(random: np.random.Generator, defects: BoolArray) -> Image.Image:
    """Return a grey picture of a rolled surface with some of four defects.

    Args:
        random: Draws texture, places and sizes.
        defects: Which of crack, dent, scratch and stain are on it, bool, shape (4,).

    Returns:
        96 x 96 pixels, 8 bits.
    """
    lines = random.normal(0, 6, SIZE_PX)[:, None] + random.normal(0, 5, (SIZE_PX, SIZE_PX))
    picture = Image.fromarray(np.clip(lines + random.uniform(110, 150), 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    for kind in np.flatnonzero(defects):
        x, y = random.uniform(12, SIZE_PX - 12, 2)
        if MADE[kind] == "crack":
            points = [(x, y)]
            for _ in range(6):
                points.append((points[-1][0] + random.uniform(-9, 9), points[-1][1] + random.uniform(-3, 9)))
            draw.line(points, fill=int(random.uniform(20, 60)), width=1)
        elif MADE[kind] == "dent":
            r = random.uniform(3, 7)
            draw.ellipse((x - r, y - r, x + r, y + r), fill=int(random.uniform(70, 95)))
            draw.arc((x - r, y - r, x + r, y + r), 200, 330, fill=int(random.uniform(180, 220)), width=2)
        elif MADE[kind] == "scratch":
            turn, half = random.uniform(0, np.pi), random.uniform(10, 30)
            dx, dy = half * np.cos(turn), half * np.sin(turn)
            draw.line((x - dx, y - dy, x + dx, y + dy), fill=int(random.uniform(190, 240)), width=1)
        else:
            mask = Image.new("L", picture.size)
            r = random.uniform(8, 18)
            ImageDraw.Draw(mask).ellipse((x - r, y - 0.7 * r, x + r, y + 0.7 * r), fill=int(random.uniform(60, 120)))
            picture.paste(int(random.uniform(60, 90)), None, mask.filter(ImageFilter.GaussianBlur(4)))
            draw = ImageDraw.Draw(picture)
    return picture


def made_set(cache: Path) -> LabelSetData:
    """Return pictures with zero to three defects each, of which a third has none.

    Args:
        cache: Where pictures and features lie.

    Returns:
        The set.
    """
    random = np.random.default_rng(20)
    is_there = np.zeros((NUM_MADE, len(MADE)), dtype=bool)
    for row, number in enumerate(random.choice(4, NUM_MADE, p=(0.34, 0.36, 0.2, 0.1))):
        is_there[row, random.choice(len(MADE), number, replace=False)] = True
    pictures = (made_picture(random, row) for row in is_there)
    return LabelSetData("made, 4 defects", _features(pictures, cache / "label_sets" / "made", cache), is_there)


def paired_set(name: str, cache: Path) -> LabelSetData:
    """Return pairs of real images side by side; each image is in two pairs.

    Args:
        name: Folder below ``LABELCLEAN_REAL_DATA/datasets``.
        cache: Where pictures and features lie.

    Returns:
        The set; an image of the class without defects adds nothing to what its pair shows.
    """
    import pandas as pd

    folder = Path(os.environ["LABELCLEAN_REAL_DATA"]) / "datasets"
    truth = pd.read_parquet(folder / "truth" / f"{name}.parquet")
    frame = pd.read_parquet(folder / name / "labels.parquet").merge(truth, on="sample_id").sort_values("sample_id")
    names, kind = np.unique(frame["true_label"].to_numpy(dtype=str), return_inverse=True)
    random = np.random.default_rng(21)
    pairs = np.concatenate([random.permutation(len(frame))[: len(frame) // 2 * 2].reshape(-1, 2) for _ in range(2)])
    is_there = np.zeros((len(pairs), len(names)), dtype=bool)
    for side in (0, 1):
        is_there[np.arange(len(pairs)), kind[pairs[:, side]]] = True
    paths = [folder / name / path for path in frame["image_path"]]
    pictures = (_side_by_side(paths[left], paths[right]) for left, right in pairs.tolist())
    features = _features(pictures, cache / "label_sets" / name, cache)
    return LabelSetData(f"pairs of {name}", features, is_there[:, names != PAIRED[name]])


def _side_by_side(left: Path, right: Path) -> Image.Image:
    both = [Image.open(path).convert("L").resize((112, 224)) for path in (left, right)]
    picture = Image.new("L", (224, 224))
    for side, one in enumerate(both):
        picture.paste(one, (112 * side, 0))
    return picture


def _features(pictures: Iterator[Image.Image], folder: Path, cache: Path) -> Float32Array:
    """Features of pictures, which are written to files first, unless they are there."""
    folder.mkdir(parents=True, exist_ok=True)
    images = []
    for number, picture in enumerate(pictures):
        path = folder / f"{number:05d}.png"
        if not path.exists():
            picture.save(path)
        images.append((path.stem, path.name))
    return extracted(images, real_config(cache, folder / "labels.parquet"), folder)


def noisy(is_there: BoolArray, rate: float, seed: int) -> BoolArray:
    """Return labels of which a share is missed, and as many are given where nothing is.

    Args:
        is_there: What is on the images, bool, shape (N, K).
        rate: Share of the labels that are missed.
        seed: Draws them.

    Returns:
        bool, shape (N, K).

    Examples:
        >>> given = noisy(np.eye(10, dtype=bool), 0.2, 0)
        >>> int((given & ~np.eye(10, dtype=bool)).sum()), int((~given & np.eye(10, dtype=bool)).sum())
        (2, 2)
    """
    random, given = np.random.default_rng(seed), is_there.copy()
    there, free = np.flatnonzero(is_there), np.flatnonzero(~is_there)
    number = round(rate * len(there))
    given.ravel()[random.choice(there, number, replace=False)] = False
    given.ravel()[random.choice(free, number, replace=False)] = True
    return given


def by_labelclean(features: Float32Array, given: BoolArray) -> Found:
    """Return what `clean_label_sets` finds with the default config."""
    from labelclean import clean_label_sets

    names = [f"class {k}" for k in range(given.shape[1])]
    cleaned = clean_label_sets(given, features=features, class_names=names, seed=0)
    return Found(cleaned.label_scores.astype(np.float64), cleaned.is_label_issue)


def by_cleanlab(features: Float32Array, given: BoolArray) -> Found:
    """Return what cleanlab finds on out-of-fold probabilities of scaled logistic regressions, one a class.

    Their weight decay is the one of three under which the given labels are likeliest out of fold, class by class.
    """
    from cleanlab.multilabel_classification.filter import find_multilabel_issues_per_class
    from cleanlab.multilabel_classification.rank import get_label_quality_scores_per_class

    folds = sample_keys([str(row) for row in range(len(given))], None, num_folds=FOLDS, seed=0).folds
    probs = np.stack([_out_of_fold(features, column, folds) for column in given.T], axis=1)
    labels = [np.flatnonzero(row).tolist() for row in given]
    per_class = find_multilabel_issues_per_class(labels, probs, n_jobs=1)
    scores = get_label_quality_scores_per_class(labels, probs)
    return Found(np.asarray(scores, dtype=np.float64), np.asarray(per_class, dtype=bool).reshape(len(given), -1))


def _out_of_fold(features: Float32Array, answers: BoolArray, folds: IntArray) -> Float64Array:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    best, probs = -np.inf, np.empty(0)
    for inverse_decay in INVERSE_DECAYS:
        now = np.empty(len(answers))
        for fold in range(FOLDS):
            model = make_pipeline(StandardScaler(), LogisticRegression(C=inverse_decay, max_iter=200))
            model.fit(features[folds != fold], answers[folds != fold])
            now[folds == fold] = model.predict_proba(features[folds == fold])[:, 1]
        likelihood = float(np.log(np.clip(np.where(answers, now, 1 - now), 1e-9, 1)).mean())
        if likelihood > best:
            best, probs = likelihood, now
    return probs


METHODS: dict[str, Callable[[Float32Array, BoolArray], Found]] = {"labelclean": by_labelclean, "cleanlab": by_cleanlab}


def average_precision(scores: Float64Array, is_wrong: BoolArray) -> float:
    """Return the average precision of wrong labels ranked by low scores, over all images and classes.

    Examples:
        >>> average_precision(np.array([[0.1, 0.9], [0.2, 0.8]]), np.array([[True, False], [False, True]]))
        0.8333333333333333
    """
    hits = is_wrong.ravel()[np.argsort(scores.ravel(), kind="stable")]
    return float((np.cumsum(hits) / np.arange(1, len(hits) + 1))[hits].mean())


def f1(is_issue: BoolArray, is_wrong: BoolArray) -> float:
    """Return the harmonic mean of precision and recall over all images and classes."""
    return float(2 * (is_issue & is_wrong).sum() / max(int(is_issue.sum() + is_wrong.sum()), 1))


def table(cache: Path) -> str:
    """Return the table of all cells as Markdown.

    Args:
        cache: Where pictures and features lie.

    Returns:
        Means over seeds; the standard error of the difference is that of redrawn images, of the first seed.
    """
    lines = [
        "| set | images | classes | labels missed, and as many too many | AP labelclean | AP cleanlab | difference, s.e. "
        "| F1 labelclean | F1 cleanlab | difference, s.e. |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for data in (made_set(cache), *(paired_set(name, cache) for name in PAIRED)):
        for rate in RATES:
            cells, errors = [], (0.0, 0.0)
            for seed in range(SEEDS):
                given = noisy(data.is_there, rate, seed)
                is_wrong = given != data.is_there
                ours, theirs = (method(data.features, given) for method in METHODS.values())
                cells.append(
                    [
                        measure
                        for one in (ours, theirs)
                        for measure in (average_precision(one.scores, is_wrong), f1(one.is_issue, is_wrong))
                    ]
                )
                if seed == 0:
                    errors = _standard_errors(ours, theirs, is_wrong)
            ap, ours_f1, their_ap, their_f1 = np.mean(cells, axis=0)
            size, classes = data.is_there.shape
            lines.append(
                f"| {data.name} | {size:,} | {classes} | {rate:.0%} | {ap:.3f} | {their_ap:.3f} | {ap - their_ap:+.3f} "
                f"({errors[0]:.3f}) | {ours_f1:.3f} | {their_f1:.3f} | {ours_f1 - their_f1:+.3f} ({errors[1]:.3f}) |"
            )
            print(lines[-1], flush=True)
    return "\n".join(lines)


def _standard_errors(ours: Found, theirs: Found, is_wrong: BoolArray) -> tuple[float, float]:
    """Of both differences, over images drawn again."""
    random, drawn = np.random.default_rng(0), []
    for _ in range(REDRAWS):
        rows = random.integers(0, len(is_wrong), len(is_wrong))
        wrong = is_wrong[rows]
        drawn.append(
            (
                average_precision(ours.scores[rows], wrong) - average_precision(theirs.scores[rows], wrong),
                f1(ours.is_issue[rows], wrong) - f1(theirs.is_issue[rows], wrong),
            )
        )
    ap, flags = np.std(drawn, axis=0)
    return float(ap), float(flags)


def main() -> None:
    """Measure, and write the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="folder for pictures and features")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    warnings.filterwarnings("ignore", module="sklearn")
    write_section(options.out, f"{INTRO}\n\n{table(options.cache)}")


if __name__ == "__main__":
    main()
