"""How long `labelclean validate` takes and what memory it needs on a large labels table.

Writes 1,000,000 rows of 50 columns, most of them long Japanese strings, and validates them in a
process of its own: python -m benchmarks.validate_load. The promise is 60 s and 1 GiB.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

CLASSES = ("良品", "傷", "打痕", "気孔", "汚れ", "割れ")
WORDS = (
    "第二工場の検査ラインで撮影した鋼板の表面に", "細い線状の傷があり再検査が必要と思われる", "照明の反射が強く判定が難しい",
    "前工程の圧延条件を変更した直後の製品", "作業者の所見では問題なし", "納入先の基準を満たさない可能性がある", "経過観察とする",
)  # fmt: skip
ROW_GROUP = 50_000
NUM_COLUMNS = 50
NUM_IMAGES = 1_000  # the rest is looked for and missing, which costs the same


def main() -> None:
    """Write, validate, print."""
    wanted = argparse.ArgumentParser(description=__doc__)
    wanted.add_argument("--rows", type=int, default=1_000_000)
    rows = wanted.parse_args().rows
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        # in a process of its own: Linux counts the peak of the process that starts another towards that one
        writer = multiprocessing.get_context("spawn").Process(target=write_data, args=(folder, rows))
        writer.start()
        writer.join()
        size = (folder / "labels.parquet").stat().st_size
        print(f"{rows:,} rows, {NUM_COLUMNS} columns, {size / 1e6:,.0f} MB on disk")
        started = time.monotonic()
        command = [sys.executable, "-m", "labelclean.cli", "validate", str(folder / "config.yaml")]
        with subprocess.Popen(command) as process:
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - started
        print(
            f"exit code {process.returncode}; {seconds:.1f} s ({used.ru_utime + used.ru_stime:.1f} CPU-s on "
            f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}); peak memory {used.ru_maxrss / 2**20:.2f} GiB"
        )


def write_data(folder: Path, rows: int) -> None:
    """Write images, labels and a config."""
    (folder / "images").mkdir()
    for number in range(NUM_IMAGES):
        (folder / "images" / f"{number:07}.png").touch()
    rng = np.random.default_rng(0)
    phrases = np.array([f"{a}、{b}。{c}。" for a in WORDS for b in WORDS for c in WORDS], dtype=object)
    writer = None
    for start in range(0, rows, ROW_GROUP):
        table = pa.table(_columns(np.arange(start, min(start + ROW_GROUP, rows)), phrases, rng))
        writer = writer or pq.ParquetWriter(folder / "labels.parquet", table.schema, compression="zstd")
        writer.write_table(table)
    if writer is not None:
        writer.close()
    (folder / "config.yaml").write_text("data: {labels: labels.parquet}\nbackbone: {name: resnet10t}\nrun: {seed: 0}\n")


def _columns(numbers: np.ndarray, phrases: np.ndarray, rng: np.random.Generator) -> dict[str, pa.Array]:
    """One row group: the house's columns, 34 of phrases that repeat, 6 of texts that never do, 5 of numbers."""
    count = len(numbers)
    columns = {
        "sample_id": pa.array([f"製品-{number:09}" for number in numbers]),
        "image_path": pa.array([f"images/{number:07}.png" for number in numbers]),
        "given_label": pa.array(
            np.array(CLASSES, dtype=object)[rng.choice(6, count, p=(0.7, 0.1, 0.1, 0.05, 0.04, 0.01))]
        ),
        "group_id": pa.array([f"ロット-{number // 8:08}" for number in numbers]),
        "captured_at": pa.array(numbers * 1_000_000, pa.timestamp("us", tz="Asia/Tokyo")),
    }
    for place in range(34):
        columns[f"所見_{place}"] = pa.array(phrases[rng.integers(len(phrases), size=count)])
    for place in range(6):
        chosen = phrases[rng.integers(len(phrases), size=count)]
        columns[f"備考_{place}"] = pa.array(
            [f"{text}受付番号{number}" for text, number in zip(chosen, numbers, strict=True)]
        )
    while len(columns) < NUM_COLUMNS:
        columns[f"計測_{len(columns)}"] = pa.array(rng.normal(size=count))
    return columns


if __name__ == "__main__":
    main()
