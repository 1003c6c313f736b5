"""Time and memory of the cleaning stage on feature shards against the bare X'X products and one read of the files.

`python -m benchmarks.scale --size N [--landmarks L] [--neighbours index]` measures one size and adds its row to
`benchmarks/scale.json`;
`python -m benchmarks.scale --write` makes `benchmarks/RESULTS-scale.md`, the plot, and the tables of `docs/scale.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

NUM_DIMS, NUM_CLASSES, NUM_FOLDS, SHARD_ROWS, NOISE = 768, 20, 5, 125_000, 0.1
HERE = Path(__file__).parent
ROWS, TABLE = HERE / "scale.json", HERE / "RESULTS-scale.md"
PAGE, PLOT = HERE.parent / "docs" / "scale.md", HERE.parent / "docs" / "images" / "scale.svg"


def write_shards(folder: Path, num_samples: int, neighbours: str = "none") -> None:
    """Write float16 shards and labels of which a tenth is wrong, each shard from a seed of its own.

    With neighbours the variance of direction j falls as 1 / j, as that of a backbone's features does: where all
    directions are alike, all samples are about equally near.
    """
    spread = (1.0 + np.arange(NUM_DIMS, dtype=np.float32)) ** (-0.5 if neighbours == "index" else 0)
    centres = np.random.default_rng(0).standard_normal((NUM_CLASSES, NUM_DIMS)).astype(np.float32) * 0.15
    given = []
    for number, start in enumerate(range(0, num_samples, SHARD_ROWS)):
        random = np.random.default_rng([1, number])
        size = min(SHARD_ROWS, num_samples - start)
        true = random.integers(0, NUM_CLASSES, size)
        rows = random.standard_normal((size, NUM_DIMS), dtype=np.float32) + centres[true]
        np.save(folder / f"shard-{number:05d}.npy", (rows * spread).astype(np.float16))
        wrong = random.random(size) < NOISE
        given.append(np.where(wrong, (true + random.integers(1, NUM_CLASSES, size)) % NUM_CLASSES, true))
    np.save(folder / "given.labels", np.concatenate(given))


def measure_floor(folder: Path) -> tuple[float, float]:
    """Return the seconds of the bare X'X products in float32, and of one sequential read of all shards.

    Above 10^6 samples the products of the first 8 shards are timed and scaled: they are the same for every shard.
    """
    products = reading = 0.0
    paths = sorted(folder.glob("shard-*.npy"))
    timed = paths[:8]
    buffer = np.empty((16_384, NUM_DIMS), dtype=np.float32)
    for path in paths:
        start = time.perf_counter()
        rows = np.load(path)
        reading += time.perf_counter() - start
        for first in range(0, len(rows), len(buffer)) if path in timed else ():
            block = buffer[: len(rows) - first]
            block[...] = rows[first : first + len(buffer)]
            start = time.perf_counter()
            for part in np.array_split(block, NUM_FOLDS):
                part.T @ part
            products += time.perf_counter() - start
    return products * len(paths) / len(timed), reading


def measure_once(folder: Path, landmarks: int, neighbours: str, device: str = "cpu") -> None:
    """Clean the shards in this process and print seconds, CPU seconds and peak memory as JSON."""
    from labelclean import clean_shards

    config = {"teacher": {"landmarks": landmarks}, "neighbours": {"method": neighbours}}
    start, cpu = time.perf_counter(), time.process_time()
    labels = np.load(folder / "given.labels.npy")
    with tempfile.TemporaryDirectory(dir=folder.parent) as out:
        files = sorted(folder.glob("shard-*.npy"))
        found = clean_shards(features=files, labels=labels, out=out, seed=0, config=config, device=device)
        near = json.loads((found.folder / "summary.json").read_text(encoding="utf-8"))["neighbours"]
    record = {
        "wall_s": time.perf_counter() - start,
        "cpu_s": time.process_time() - cpu,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "issues": found.num_issues,
        "recall": None if near is None else near["recall_at_10"],
    }
    sys.stdout.write(json.dumps(record) + "\n")


def measure(size: int, landmarks: int, neighbours: str, folder: Path, device: str = "cpu") -> dict[str, Any]:
    """Return one row of the table."""
    command = [sys.executable, "-m", "benchmarks.scale", "--once", str(folder), "--landmarks", str(landmarks)]
    command += ["--neighbours", neighbours, "--device", device]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    products, reading = measure_floor(folder)
    found: dict[str, Any] = json.loads(said.splitlines()[-1])
    floor = {"products_s": products, "read_s": reading, "ratio": found["wall_s"] / (products + reading)}
    row: dict[str, Any] = {"size": size, "landmarks": landmarks, "neighbours": neighbours, "cores": os.cpu_count()}
    return row | found | floor


def slope(rows: list[dict[str, Any]], key: str) -> float | None:
    """Slope of log(key) against log(N) from 10^5 on."""
    above = [row for row in rows if row["size"] >= 100_000]
    if len(above) < 2:
        return None
    sizes, values = (np.log([row[name] for row in above]) for name in ("size", key))
    return float(np.polyfit(sizes, values, 1)[0])


def table_lines(rows: list[dict[str, Any]]) -> list[str]:
    """Return the table, the slopes and what one more sample costs, as Markdown."""
    lines = [
        "| landmarks | neighbours | recall at 10 | N | wall s | CPU s | peak MiB | products s | read s "
        "| wall / (products + read) | called wrong |",
        "|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        recall = "" if row.get("recall") is None else f"{row['recall']:.3f}"
        lines.append(
            f"| {row['landmarks']} | {_neighbours(row)} | {recall} | {row['size']:,} | {row['wall_s']:.1f} | {row['cpu_s']:.1f} | {row['peak_mib']:,.0f} "
            f"| {row['products_s']:.1f} | {row['read_s']:.1f} | {row['ratio']:.2f} | {row['issues']:,} |"
        )
    for name, some in kinds(rows).items():
        time_slope = slope(some, "wall_s")
        if time_slope is not None:
            lines += ["", f"{name}: slope of time from 10^5 on (log-log) {time_slope:.2f}."]
        by_size = {row["size"]: row["peak_mib"] for row in some}
        if {10**6, 10**7} <= by_size.keys():
            lines[-1] += f" Peak at 10^7 over peak at 10^6: {by_size[10**7] / by_size[10**6]:.2f}."
        if time_slope is not None:
            lines[-1] += f" {_marginal(some)}"
            lines += ["", f"Goals: {'; '.join(_goals(some, time_slope))}."]
    return lines


def kinds(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return the rows that were measured with the same settings, by their name."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in sorted(rows, key=_order):
        near = "" if _neighbours(row) == "none" else f", neighbours by {_neighbours(row)}"
        found.setdefault(f"landmarks {row['landmarks']}{near}", []).append(row)
    return found


def _neighbours(row: dict[str, Any]) -> str:
    """How neighbours were looked for."""
    return str(row.get("neighbours", "none"))


def _goals(rows: list[dict[str, Any]], time_slope: float) -> list[str]:
    """The goals of this project, what was measured, and whether it is enough."""
    at = {row["size"]: row for row in rows}
    million, ten = at.get(10**6), at.get(10**7)
    growth = ten["peak_mib"] / million["peak_mib"] if ten and million else None
    ratio, peak = million["ratio"] if million else None, ten["peak_mib"] if ten else None
    goals: tuple[tuple[str, float | None, float], ...] = (
        ("time at 10^6 at most 1.5 times the floor", ratio, 1.5),
        ("slope of time above 10^5 at most 1.05", time_slope, 1.05),
        ("peak at 10^7 at most 1.25 times that at 10^6", growth, 1.25),
        ("peak at 10^7 under 2,048 MiB", peak, 2048.0),
    )
    return [
        f"{name}: " + ("not measured" if found is None else f"{found:,.2f}, {'met' if found <= limit else 'missed'}")
        for name, found, limit in goals
    ]


def _marginal(rows: list[dict[str, Any]]) -> str:
    """What one more sample costs between the two largest sizes."""
    small, large = rows[-2:]
    more = large["size"] - small["size"]
    wall, cpu = (1e6 * (large[key] - small[key]) / more for key in ("wall_s", "cpu_s"))
    peak = 2**20 * (large["peak_mib"] - small["peak_mib"]) / more
    return (
        f"Between {small['size']:,} and {large['size']:,} samples one more costs {wall:.1f} us ({cpu:.1f} us of CPU) "
        f"and {peak:.0f} bytes of peak memory."
    )


def write_results(rows: list[dict[str, Any]]) -> None:
    """Write the results, the plot, and both tables into the page of the documentation."""
    lines = [
        "# Scale",
        "",
        "Made by `python -m benchmarks.scale --size N [--landmarks L] [--neighbours index]` and `--write`: cleaning stage",
        "(`labelclean.clean_shards`) on synthetic float16 features in shards,",
        f"D = {NUM_DIMS}, K = {NUM_CLASSES}, 10 % of the labels wrong, {rows[0]['cores']} cores, no GPU. Floor: the bare X'X products in float32 per fold, timed in the same run, plus one",
        "sequential read of the files. `landmarks` 500 is the default (kernel expert on), 0 leaves it out. With neighbours by",
        "`index` the variance of direction j of the features falls as 1 / j, as a backbone's does; recall is the share of the",
        "10 truly nearest that the list of a sample holds, for 200 samples against an exact search of all.",
        "[docs/scale.md](../docs/scale.md) says what follows from it.",
        "",
        *table_lines(rows),
        "",
        "![Time and peak memory against N](../docs/images/scale.svg)",
        "",
        "GPU rows: none, no GPU was at hand.",
    ]
    TABLE.write_text("\n".join(lines) + "\n", encoding="utf-8")
    PAGE.write_text(page_with(PAGE.read_text(encoding="utf-8"), rows), encoding="utf-8")
    _plot(rows)


def page_with(page: str, rows: list[dict[str, Any]]) -> str:
    """Return the page of the documentation with the tables of these rows between its marks."""
    from benchmarks.plan import Plant, measured, plan_lines

    for name, lines in (("table", table_lines(rows)), ("plan", [*plan_lines(Plant(), measured(rows))])):
        mark = f"<!-- {name}: made by python -m benchmarks.scale --write -->\n"
        before, rest = page.split(mark)
        page = before + mark + "\n" + "\n".join(lines) + "\n\n<!-- end -->\n" + rest.partition("<!-- end -->\n")[2]
    return page


def _plot(rows: list[dict[str, Any]]) -> None:
    """Time and peak memory against N, log-log."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "labelclean"
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6))
    for kind, some in kinds(rows).items():
        sizes, found = [row["size"] for row in some], slope(some, "wall_s")
        name = kind + ("" if found is None else f", slope {found:.2f}")
        left.loglog(sizes, [row["wall_s"] for row in some], marker="o", label=name)
        right.loglog(sizes, [row["peak_mib"] for row in some], marker="o", label=kind)
    left.set(xlabel="samples", ylabel="seconds", title="time")
    right.set(xlabel="samples", ylabel="MiB", title="peak memory", ylim=(100, 10_000))
    for axes in (left, right):
        axes.grid(visible=True, which="both", alpha=0.2)
        axes.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(PLOT, metadata={"Date": None})


def main() -> None:
    """Measure one size, or write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, help="N, such as 1000000; 10^7 needs 15 GB of shards and time for them")
    parser.add_argument("--landmarks", type=int, default=0, help="teacher.landmarks; 0 leaves the kernel expert out")
    parser.add_argument("--neighbours", choices=("none", "index"), default="none", help="neighbours.method")
    parser.add_argument("--folder", type=Path, help="shards that `--shards` wrote; default: made and removed")
    parser.add_argument("--shards", type=Path, help="only write the shards of --size there")
    parser.add_argument("--write", action="store_true", help="make the table and the plot")
    parser.add_argument("--once", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--device", default="cpu", help=argparse.SUPPRESS)  # rows of a GPU stand in RESULTS-gpu.md
    options = parser.parse_args()
    if options.once:
        measure_once(options.once, options.landmarks, options.neighbours, options.device)
        return
    if options.shards:
        options.shards.mkdir(parents=True, exist_ok=True)
        write_shards(options.shards, options.size, options.neighbours)
        return
    rows = json.loads(ROWS.read_text(encoding="utf-8")) if ROWS.exists() else []
    if options.size:
        with tempfile.TemporaryDirectory() as name:
            folder = options.folder or Path(name)
            if not options.folder:
                write_shards(folder, options.size, options.neighbours)
            row = measure(options.size, options.landmarks, options.neighbours, folder)
        rows = sorted([*(old for old in rows if _order(old) != _order(row)), row], key=_order)
        ROWS.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
        print(json.dumps(row))
    if options.write:
        write_results(rows)


def _order(row: dict[str, Any]) -> tuple[int, str, int]:
    return row["landmarks"], "" if _neighbours(row) == "none" else _neighbours(row), row["size"]


if __name__ == "__main__":
    main()
