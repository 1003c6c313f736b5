"""One large set, 50,000 x 1280: seconds of labelclean and of its peers' routes, each in a process of its own.

Every row is `python -m benchmarks.large_peers ROUTE`; the last line it prints is its record as JSON. `--table FILE`
takes such lines and prints the table. cleanlab's folds can be run one by one, for each takes minutes.
"""

from __future__ import annotations

import argparse
import importlib
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from labelclean.arrays import IntArray

NUM_SAMPLES, NUM_DIMS, NUM_CLASSES, LATENT, NOISE = 50_000, 1280, 20, 64, 0.1
NUM_FOLDS = 5


def large_problem(num_samples: int = NUM_SAMPLES) -> tuple[np.ndarray, IntArray, IntArray]:
    """Return features, given and true labels: classes overlap in 64 latent directions, as a backbone's do."""
    random = np.random.default_rng(6)
    centres = random.standard_normal((NUM_CLASSES, LATENT)).astype(np.float32) * 0.45
    mix = random.standard_normal((LATENT, NUM_DIMS)).astype(np.float32) / 8
    true = random.integers(0, NUM_CLASSES, num_samples)
    latent = random.standard_normal((num_samples, LATENT), dtype=np.float32) + centres[true]
    features = latent @ mix
    features += 0.25 * random.standard_normal(features.shape, dtype=np.float32)
    wrong = random.random(num_samples) < NOISE
    given = np.where(wrong, (true + random.integers(1, NUM_CLASSES, num_samples)) % NUM_CLASSES, true)
    return features, given, true


def labelclean_route(method: str) -> Callable[[np.ndarray, IntArray], tuple[np.ndarray, dict[str, Any]]]:
    """Return ours with one way to find neighbours."""

    def run(features: np.ndarray, given: IntArray) -> tuple[np.ndarray, dict[str, Any]]:
        from labelclean import clean_labels

        config = {"neighbours": {"method": method}}
        cleaned = clean_labels(given, features=features, seed=0, config=config)
        found = cleaned.table["label_score"].to_numpy()
        return found, {}

    return run


def cleanlab_fold(fold: int) -> Callable[[np.ndarray, IntArray], tuple[np.ndarray, dict[str, Any]]]:
    """Return one of five folds of scaled logistic regression, what cleanlab's tutorials cross-validate."""

    def run(features: np.ndarray, given: IntArray) -> tuple[np.ndarray, dict[str, Any]]:
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import StratifiedKFold
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        splits = list(StratifiedKFold(NUM_FOLDS, shuffle=True, random_state=0).split(features, given))
        train, test = splits[fold]
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        model.fit(features[train], given[train])
        probs = model.predict_proba(features[test])
        scores = np.full(len(given), np.nan)
        scores[test] = probs[np.arange(len(test)), given[test]]
        return scores, {"iterations": int(model[-1].n_iter_[0]), "samples": len(test)}

    return run


def cleanlab_find(features: np.ndarray, given: IntArray) -> tuple[np.ndarray, dict[str, Any]]:
    """Return cleanlab's own part once the probabilities are there (uniform ones cost the same)."""
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    probs = np.random.default_rng(0).dirichlet(np.ones(NUM_CLASSES), len(given))
    probs[np.arange(len(given)), given] += 1
    probs /= probs.sum(axis=1, keepdims=True)
    find_label_issues(given, probs, n_jobs=1)
    return np.asarray(get_label_quality_scores(given, probs)), {}


def selfclean_route(features: np.ndarray, given: IntArray) -> tuple[np.ndarray, dict[str, Any]]:
    """Return SelfClean's label-error ranking from given embeddings; needs `pip install selfclean`."""
    from selfclean.cleaner.issue_manager import IssueTypes
    from selfclean.cleaner.selfclean_cleaner import SelfCleanCleaner

    cleaner = SelfCleanCleaner(memmap=False, chunk_size=100, precision_type_distance=np.float32)
    cleaner.fit(emb_space=features, labels=given, class_labels=[str(k) for k in range(NUM_CLASSES)])
    ranking = cleaner.predict([IssueTypes.LABEL_ERRORS])
    scores = np.empty(len(given))
    scores[np.asarray(ranking["label_errors"]["indices"])] = np.arange(len(given))
    return scores, {}


ROUTES: dict[str, Callable[[np.ndarray, IntArray], tuple[np.ndarray, dict[str, Any]]]] = {
    "labelclean-index": labelclean_route("index"),
    "labelclean-none": labelclean_route("none"),
    **{f"cleanlab-fold-{fold}": cleanlab_fold(fold) for fold in range(NUM_FOLDS)},
    "cleanlab-find": cleanlab_find,
    "selfclean": selfclean_route,
}


IMPORTS = {
    "labelclean": ("torch", "pandas", "labelclean.cleaning.clean"),
    "cleanlab": ("sklearn.linear_model", "pandas", "cleanlab"),
    "selfclean": ("selfclean.cleaner.selfclean_cleaner",),
}


def average_precision(scores: np.ndarray, is_wrong: np.ndarray) -> float:
    """Return the average precision of ranking wrong labels by low scores.

    Examples:
        >>> average_precision(np.array([0.1, 0.5, 0.2]), np.array([True, True, False])).__round__(4)
        0.8333
    """
    hits = is_wrong[np.argsort(scores, kind="stable")]
    return float((np.cumsum(hits) / np.arange(1, len(hits) + 1))[hits].mean())


def measure(route: str, num_samples: int) -> dict[str, Any]:
    """Run one route and return seconds of its imports and its call, CPU seconds, peak memory and average precision."""
    features, given, true = large_problem(num_samples)
    start = time.perf_counter()
    for name in IMPORTS[route.partition("-")[0]]:
        importlib.import_module(name)
    imported, cpu = time.perf_counter(), time.process_time()
    scores, more = ROUTES[route](features, given)
    record: dict[str, Any] = {"route": route, "import_s": imported - start, **more}
    record |= {"call_s": time.perf_counter() - imported, "cpu_s": time.process_time() - cpu}
    record["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    seen = np.isfinite(scores)
    if route != "cleanlab-find":
        record["average_precision"] = average_precision(scores[seen], (given != true)[seen])
    return record


def table(records: list[dict[str, Any]]) -> str:
    """Return the rows as Markdown; cleanlab's folds and its own part are added up, but imported once."""
    rows = {record["route"]: record for record in records}
    parts = [row for name, row in rows.items() if name.startswith("cleanlab")]
    folds = [row for row in parts if "iterations" in row]
    merged = {name: row for name, row in rows.items() if not name.startswith("cleanlab")}
    if parts:
        merged[f"cleanlab, scaled logistic regression, {len(folds)} folds"] = {
            "import_s": min(row["import_s"] for row in parts),
            "call_s": sum(row["call_s"] for row in parts),
            "cpu_s": sum(row["cpu_s"] for row in parts),
            "peak_mib": max(row["peak_mib"] for row in parts),
            "average_precision": float(np.mean([row["average_precision"] for row in folds])) if folds else np.nan,
        }
    for row in merged.values():
        row["wall_s"] = row["import_s"] + row["call_s"]
    ours = merged.get("labelclean-none", {"wall_s": np.nan, "call_s": np.nan})
    lines = [
        "| route | imports s | call s | call, of labelclean-none | with imports | CPU s of the call | peak MiB | AP of wrong labels |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {name} | {row['import_s']:.1f} | {row['call_s']:.1f} | {row['call_s'] / ours['call_s']:.1f} "
        f"| {row['wall_s'] / ours['wall_s']:.1f} | {row['cpu_s']:.1f} | {row['peak_mib']:,.0f} "
        f"| {row['average_precision']:.3f} |"
        for name, row in merged.items()
    ]
    return "\n".join(lines)


def main() -> None:
    """Print one route's record, or the table of all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("route", nargs="?", choices=list(ROUTES))
    parser.add_argument("--samples", type=int, default=NUM_SAMPLES)
    parser.add_argument("--table", type=Path, help="file of records, one a line")
    options = parser.parse_args()
    if options.table:
        print(table([json.loads(line) for line in options.table.read_text().splitlines() if line.startswith("{")]))
        return
    sys.stdout.write(json.dumps(measure(options.route, options.samples)) + "\n")


if __name__ == "__main__":
    main()
