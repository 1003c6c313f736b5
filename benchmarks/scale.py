"""Time and memory of the cleaning stage on feature shards against the bare X'X products and one read of the files."""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

NUM_DIMS, NUM_CLASSES, NUM_FOLDS, SHARD_ROWS, NOISE = 768, 20, 5, 125_000, 0.1
SIZES = (10_000, 100_000, 1_000_000)


def write_shards(folder: Path, num_samples: int) -> None:
    """Write float16 shards and labels of which a tenth is wrong, each shard from a seed of its own."""
    centres = np.random.default_rng(0).standard_normal((NUM_CLASSES, NUM_DIMS)).astype(np.float32) * 0.15
    given = []
    for number, start in enumerate(range(0, num_samples, SHARD_ROWS)):
        random = np.random.default_rng([1, number])
        size = min(SHARD_ROWS, num_samples - start)
        true = random.integers(0, NUM_CLASSES, size)
        rows = random.standard_normal((size, NUM_DIMS), dtype=np.float32) + centres[true]
        np.save(folder / f"shard-{number:05d}.npy", rows.astype(np.float16))
        wrong = random.random(size) < NOISE
        given.append(np.where(wrong, (true + random.integers(1, NUM_CLASSES, size)) % NUM_CLASSES, true))
    np.save(folder / "given.labels", np.concatenate(given))


def measure_floor(folder: Path) -> tuple[float, float]:
    """Return the seconds of the bare X'X products in float32, and of one sequential read of all shards."""
    products = reading = 0.0
    for path in sorted(folder.glob("shard-*.npy")):
        start = time.perf_counter()
        rows = np.load(path)
        reading += time.perf_counter() - start
        for first in range(0, len(rows), 16_384):
            block = rows[first : first + 16_384].astype(np.float32)
            start = time.perf_counter()
            for part in np.array_split(block, NUM_FOLDS):
                part.T @ part
            products += time.perf_counter() - start
    return products, reading


def measure_once(folder: Path, landmarks: int) -> None:
    """Clean the shards in this process and print seconds, CPU seconds and peak memory as JSON."""
    from labelclean import clean_shards

    config = {"teacher": {"landmarks": landmarks}}
    start, cpu = time.perf_counter(), time.process_time()
    labels = np.load(folder / "given.labels.npy")
    with tempfile.TemporaryDirectory() as out:
        files = sorted(folder.glob("shard-*.npy"))
        found = clean_shards(features=files, labels=labels, out=out, seed=0, config=config)
    record = {
        "wall_s": time.perf_counter() - start,
        "cpu_s": time.process_time() - cpu,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "issues": found.num_issues,
    }
    sys.stdout.write(json.dumps(record) + "\n")


def main() -> None:
    """Print the table, and the slope of time against N above 10^5."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="also 10^7 samples (15 GB of shards)")
    parser.add_argument("--most", type=int, default=1_000_000, help="largest N")
    parser.add_argument("--landmarks", type=int, default=0, help="teacher.landmarks; 0 leaves the kernel view out")
    parser.add_argument("--folder", type=Path, help="where shards are written; default: a temporary folder")
    parser.add_argument("--once", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once:
        measure_once(options.once, options.landmarks)
        return
    sizes = [size for size in (*SIZES, 10_000_000) if size <= (10_000_000 if options.full else options.most)]
    print(f"D = {NUM_DIMS}, K = {NUM_CLASSES}, neighbours off, teacher.landmarks = {options.landmarks}")
    print(
        f"{'N':>10} {'wall s':>8} {'CPU s':>8} {'peak MiB':>9} {'products s':>11} {'read s':>7} {'ratio':>6} {'issues':>8}"
    )
    times = []
    for size in sizes:
        with tempfile.TemporaryDirectory(dir=options.folder) as name:
            write_shards(Path(name), size)
            products, reading = measure_floor(Path(name))
            command = [sys.executable, "-m", "benchmarks.scale", "--once", name, "--landmarks", str(options.landmarks)]
            said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found = json.loads(said.splitlines()[-1])
        ratio = found["wall_s"] / (products + reading)
        times.append((size, found["wall_s"]))
        print(
            f"{size:>10,} {found['wall_s']:>8.1f} {found['cpu_s']:>8.1f} {found['peak_mib']:>9.0f} {products:>11.1f} "
            f"{reading:>7.1f} {ratio:>6.2f} {found['issues']:>8,}",
            flush=True,
        )
    above = [(size, wall) for size, wall in times if size >= 100_000]
    if len(above) > 1:
        slope = np.polyfit(np.log([size for size, _ in above]), np.log([wall for _, wall in above]), 1)[0]
        print(f"slope of time above 10^5 (log-log): {slope:.2f}")
    print("GPU rows: none, this script measures no GPU.")


if __name__ == "__main__":
    main()
