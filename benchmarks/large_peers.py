"""Seconds of labelclean's default and of its peers' routes, at several sizes, each in a process of its own.

`python -m benchmarks.large_peers` runs every route of the table and prints it; `--route NAME --samples N --classes K` runs
one and prints its record as JSON. Features are as those of a backbone after its last rectifier: classes overlap in 64
latent directions, none of 1,280 is negative; every tenth label is wrong.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from labelclean.arrays import FloatArray, IntArray

NUM_DIMS, LATENT, NOISE = 1280, 64, 0.1
SIZES = ((2_600, 2), (10_000, 10), (50_000, 10))
FOLDS, INVERSE_DECAY, STEPS = 5, 0.001, 100
MOST_SELFCLEAN = 10_000  # it holds all N x N distances

Route = Callable[[FloatArray, IntArray], FloatArray]


def large_problem(num_samples: int, num_classes: int) -> tuple[FloatArray, IntArray, IntArray]:
    """Return features, float32, shape (N, 1280), given and true labels, int64, shape (N,)."""
    random = np.random.default_rng(6)
    centres = random.standard_normal((num_classes, LATENT)).astype(np.float32) * 0.45
    mix = random.standard_normal((LATENT, NUM_DIMS)).astype(np.float32) / 8
    true = random.integers(0, num_classes, num_samples)
    latent = random.standard_normal((num_samples, LATENT), dtype=np.float32) + centres[true]
    features = latent @ mix
    features += 0.25 * random.standard_normal(features.shape, dtype=np.float32)
    wrong = random.random(num_samples) < NOISE
    given = np.where(wrong, (true + random.integers(1, num_classes, num_samples)) % num_classes, true)
    return np.maximum(features, 0), given, true


def by_default(features: FloatArray, given: IntArray) -> FloatArray:
    """Return the label scores of the default configuration."""
    from labelclean import clean_labels

    return clean_labels(given, features=features, seed=0).table["label_score"].to_numpy()


def without_neighbours(features: FloatArray, given: IntArray) -> FloatArray:
    """Return the label scores with `neighbours.method: none`."""
    from labelclean import clean_labels

    config = {"neighbours": {"method": "none"}}
    return clean_labels(given, features=features, seed=0, config=config).table["label_score"].to_numpy()


def by_cleanlab(features: FloatArray, given: IntArray) -> FloatArray:
    """Return cleanlab's label quality on cross-validated scaled logistic regression, with one weight decay for all."""
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    warnings.filterwarnings("ignore", module="sklearn")
    model = make_pipeline(StandardScaler(), LogisticRegression(C=INVERSE_DECAY, max_iter=STEPS))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    probs = cross_val_predict(model, features, given, cv=folds, method="predict_proba")
    find_label_issues(given, probs, n_jobs=1)
    return np.asarray(get_label_quality_scores(given, probs))


def by_selfclean(features: FloatArray, given: IntArray) -> FloatArray:
    """Return SelfClean's label-error ranking from given embeddings; needs `pip install selfclean`."""
    from selfclean.cleaner.issue_manager import IssueTypes
    from selfclean.cleaner.selfclean_cleaner import SelfCleanCleaner

    cleaner = SelfCleanCleaner(memmap=False, chunk_size=100, precision_type_distance=np.float32)
    names = [str(k) for k in range(int(given.max()) + 1)]
    cleaner.fit(emb_space=features, labels=given, class_labels=names)
    ranking = cleaner.predict([IssueTypes.LABEL_ERRORS])
    scores = np.empty(len(given))
    scores[np.asarray(ranking["label_errors"]["indices"])] = np.arange(len(given))
    return scores


ROUTES: dict[str, Route] = {
    "labelclean": by_default,
    "labelclean, no neighbours": without_neighbours,
    "cleanlab": by_cleanlab,
    "selfclean": by_selfclean,
}
IMPORTS = {
    "labelclean": ("torch", "pandas", "labelclean.cleaning.clean", "scipy.optimize", "scipy.sparse.csgraph"),
    "cleanlab": ("sklearn.linear_model", "sklearn.pipeline", "pandas", "cleanlab.filter"),
    "selfclean": ("selfclean.cleaner.selfclean_cleaner",),
}


def average_precision(scores: FloatArray, is_wrong: FloatArray) -> float:
    """Return the average precision of ranking wrong labels by low scores.

    Examples:
        >>> average_precision(np.array([0.1, 0.5, 0.2]), np.array([True, True, False])).__round__(4)
        0.8333
    """
    hits = is_wrong[np.argsort(scores, kind="stable")]
    return float((np.cumsum(hits) / np.arange(1, len(hits) + 1))[hits].mean())


def measured(route: str, num_samples: int, num_classes: int) -> dict[str, Any]:
    """Run one route in this process.

    Args:
        route: One of ``ROUTES``.
        num_samples: N.
        num_classes: K.

    Returns:
        Seconds of its imports and its call, CPU seconds, peak memory of the process and average precision.
    """
    features, given, true = large_problem(num_samples, num_classes)
    start = time.perf_counter()
    for name in IMPORTS[route.partition(",")[0]]:
        importlib.import_module(name)
    imported, cpu = time.perf_counter(), time.process_time()
    scores = ROUTES[route](features, given)
    record: dict[str, Any] = {"import_s": imported - start, "call_s": time.perf_counter() - imported}
    record["cpu_s"] = time.process_time() - cpu
    record["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return record | {"average_precision": average_precision(scores, given != true)}


def table(repeats: int) -> str:
    """Return the best of some runs of every route that is installed, which take turns, as Markdown."""
    lines = [
        "| N x D, K | route | call s | of labelclean | CPU s | with imports s | peak MiB | AP of wrong labels |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for num_samples, num_classes in SIZES:
        runs: dict[str, list[dict[str, Any]]] = {
            route: []
            for route in ROUTES
            if _is_there(route) and (route != "selfclean" or num_samples <= MOST_SELFCLEAN)
        }
        for _ in range(repeats):
            for route, records in runs.items():
                records.append(_in_a_process(route, num_samples, num_classes))
        best = {route: min(records, key=lambda record: record["call_s"]) for route, records in runs.items()}
        for route, record in best.items():
            lines.append(
                f"| {num_samples:,} x {NUM_DIMS:,}, {num_classes} | {route} | {record['call_s']:.1f} "
                f"| {record['call_s'] / best['labelclean']['call_s']:.2f} | {record['cpu_s']:.1f} "
                f"| {record['import_s'] + record['call_s']:.1f} | {record['peak_mib']:,.0f} "
                f"| {record['average_precision']:.3f} |"
            )
    return "\n".join(lines)


def _is_there(route: str) -> bool:
    return importlib.util.find_spec(route.partition(",")[0]) is not None


def _in_a_process(route: str, num_samples: int, num_classes: int) -> dict[str, Any]:
    size = ["--samples", str(num_samples), "--classes", str(num_classes)]
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.large_peers", "--route", route, *size]
    found = subprocess.run(command, check=True, capture_output=True, text=True)
    record: dict[str, Any] = json.loads(found.stdout.splitlines()[-1])
    return record


def main() -> None:
    """Print one route's record, or the table of all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--route", choices=list(ROUTES), help="default: all, as a table")
    parser.add_argument("--samples", type=int, default=SIZES[0][0])
    parser.add_argument("--classes", type=int, default=SIZES[0][1])
    parser.add_argument(
        "--repeats", type=int, default=3, help="runs of each row of the table, of which the fastest counts"
    )
    options = parser.parse_args()
    if options.route:
        print(json.dumps(measured(options.route, options.samples, options.classes)))
    else:
        print(table(options.repeats))


if __name__ == "__main__":
    main()
