"""What several labels on one image cost beside one label: `python -m benchmarks.labels --speed`.

The call in this process, on the same made features; and a whole run in a process of its own, on the same made photos, from
an empty cache. Both kinds take turns, so that a machine that slows down slows both; read the ratios.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from labelclean.arrays import BoolArray, Float32Array
from sample_data.several import SEED, planned_photos, write_photo

ROOT = Path(__file__).parent.parent
CELLS = ((2_600, 6), (2_600, 12), (10_000, 6), (10_000, 12))
NUM_DIMS, LATENT = 1_280, 64
PER_IMAGE = 1.2  # labels on an image, in the mean
WRONG = 0.1
NONE = "none"
CLI = [sys.executable, "-c", "from labelclean.cli import main; main()", "run"]


def made_problem(num_samples: int, num_classes: int) -> tuple[Float32Array, BoolArray]:
    """Return features as of a backbone after its last rectifier, and labels of which a tenth is missed, and as many too many.

    Args:
        num_samples: N.
        num_classes: K.

    Returns:
        float32, shape (N, 1280); bool, shape (N, K).
    """
    random = np.random.default_rng(6)
    centres = random.standard_normal((num_classes, LATENT)).astype(np.float32) * 0.7
    mix = random.standard_normal((LATENT, NUM_DIMS)).astype(np.float32) / 8
    is_there = random.random((num_samples, num_classes)) < PER_IMAGE / num_classes
    latent = random.standard_normal((num_samples, LATENT), dtype=np.float32) + is_there @ centres
    features = latent @ mix + 0.25 * random.standard_normal((num_samples, NUM_DIMS), dtype=np.float32)
    given, there, free = is_there.copy(), np.flatnonzero(is_there), np.flatnonzero(~is_there)
    size = round(WRONG * len(there))
    given.ravel()[random.choice(there, size, replace=False)] = False
    given.ravel()[random.choice(free, size, replace=False)] = True
    return np.maximum(features, 0), given


def speed_section(repeats: int, num_photos: int) -> str:
    """Return the section as Markdown.

    Args:
        repeats: Turns that count, of which the medians stand in the table.
        num_photos: Photos of a whole run.
    """
    lines = [
        "| what | images | classes | one label, CPU s | several, CPU s | several / one |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for num_samples, num_classes in CELLS:
        lines.append(_line("cleaning", num_samples, num_classes, *_calls(num_samples, num_classes), repeats))
        print(lines[-1], flush=True)
    with tempfile.TemporaryDirectory() as folder:
        lines.append(_line("a whole run", num_photos, 4, *_runs(Path(folder), num_photos), repeats))
        print(lines[-1], flush=True)
    intro = (
        "Made by `python -m benchmarks.labels --speed`, the default configuration on one thread: `clean_label_sets` beside "
        f"`clean_labels` on the same made features of {NUM_DIMS:,} numbers, where the one label of an image is its first, or that "
        f"it has none; and `labelclean run` on the same made photos from an empty cache. Medians of {repeats} turns, processor "
        "time."
    )
    return "\n\n".join(["## What several labels cost", intro, "\n".join(lines)])


# --- inside ---------------------------------------------------------------------------------------

Timed = Callable[[], float]


def _line(what: str, num: int, num_classes: int, by_one: Timed, by_several: Timed, repeats: int) -> str:
    by_one()  # imports, and what the machine keeps of files
    turns = np.array([(by_one(), by_several()) for _ in range(repeats)])
    one, several = np.median(turns, axis=0)
    ratio = np.median(turns[:, 1] / turns[:, 0])
    return f"| {what} | {num:,} | {num_classes} | {one:.1f} | {several:.1f} | {ratio:.2f} |"


def _calls(num_samples: int, num_classes: int) -> tuple[Timed, Timed]:
    from labelclean import clean_label_sets, clean_labels

    features, given = made_problem(num_samples, num_classes)
    names = [f"defect {k}" for k in range(num_classes)]
    first = np.where(given.any(axis=1), given.argmax(axis=1), num_classes)

    def by_one() -> float:
        start = time.process_time()
        clean_labels(first, features=features, seed=0)
        return time.process_time() - start

    def by_several() -> float:
        start = time.process_time()
        clean_label_sets(given, features=features, class_names=names, seed=0)
        return time.process_time() - start

    return by_one, by_several


def _runs(folder: Path, num_photos: int) -> tuple[Timed, Timed]:
    photos = planned_photos(num_photos, SEED)
    (folder / "images").mkdir()
    for shot in photos:
        write_photo(shot, folder / "images" / shot.name, SEED)
    paths = [f"images/{shot.name}" for shot in photos]
    sets = [list(shot.given) for shot in photos]
    first = [given[0] if given else NONE for given in sets]
    return _run(folder, "one", paths, pa.array(first)), _run(folder, "several", paths, pa.array(sets))


def _run(folder: Path, name: str, paths: list[str], labels: pa.Array) -> Timed:
    """Processor seconds of a run of these labels, each from a cache of its own."""
    pq.write_table(
        pa.table({"sample_id": paths, "image_path": paths, "given_label": labels}), folder / f"{name}.parquet"
    )
    settings = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    settings["data"] = {"labels": str(folder / f"{name}.parquet"), "image_root": str(folder)}
    settings["backbone"]["weights"] = str(ROOT / settings["backbone"]["weights"])

    def timed() -> float:
        with tempfile.TemporaryDirectory(dir=folder) as place:
            settings["storage"] = {"runs": f"{place}/runs", "cache": f"{place}/cache"}
            config = Path(place) / "config.yaml"
            config.write_text(yaml.safe_dump(settings), encoding="utf-8")
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run([*CLI, str(config)], check=True, capture_output=True, cwd=place)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    return timed
