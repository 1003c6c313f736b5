"""Storage, hours and cost of a very large run, from measured rates and a reader's own; `docs/scale.md` shows the defaults.

`python -m benchmarks.plan --images 3e7 --gpus 2 --read-gb 0.5` prints the same tables for another plant.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

PASSES = 4
LANDMARKS, FOLDS, KEPT_ROWS = 500, 5, 2_000


@dataclass(frozen=True)
class Plant:
    """What a reader puts in; the defaults are assumptions."""

    images: float = 1e8
    gpus: float = 8
    cores: float = 64
    dims: float = 768
    classes: float = 20
    image_kb: float = 100
    gpu_rate: float = 2_500
    read_gb: float = 2.0
    write_gb: float = 1.0
    gpu_hour: float = 2.5
    core_hour: float = 0.04


@dataclass(frozen=True)
class Measured:
    """What was measured on 2 cores without a GPU.

    Attributes:
        pass_us: Microseconds on 2 cores that one more sample costs in all passes, of the two largest sizes measured.
        sample_bytes: Bytes of peak memory that one more sample costs there.
        base_mib: Peak memory at the largest size.
        base_size: That size.
        landmarks: `teacher.landmarks` of these rows.
        hash_ms: CPU milliseconds of one content hash, which Python gives about one core (`hash_images`, 83 kB files).
        decode_ms: CPU milliseconds to decode and hand over one JPEG file of 640 x 480 (`benchmarks.extraction`).
        validate_us: CPU microseconds of `labelclean validate` per row of 50 columns (`benchmarks.validate_load`, 10^6 rows).
        report_mib: Peak memory of the report page of 2.4 million samples without inspectors.
        report_bytes: Bytes that one more sample costs there (200,000 and 2.4 million samples).
        report_size: Those 2.4 million.
    """

    pass_us: float
    sample_bytes: float
    base_mib: float
    base_size: float
    landmarks: int
    hash_ms: float = 0.26
    decode_ms: float = 4.7
    validate_us: float = 17.8
    report_mib: float = 265
    report_bytes: float = 8
    report_size: float = 2.4e6


def measured(rows: list[dict[str, Any]]) -> Measured:
    """Return the rates between the two largest sizes in `benchmarks/scale.json`.

    Args:
        rows: Its rows without neighbours; of several landmarks those that were measured at the largest size, or else the
            more.

    Returns:
        The rates.
    """
    rows = [row for row in rows if row.get("neighbours", "none") == "none"]
    landmarks = max((row["size"], row["landmarks"]) for row in rows)[1]
    small, large = sorted((row for row in rows if row["landmarks"] == landmarks), key=lambda row: row["size"])[-2:]
    more = large["size"] - small["size"]
    return Measured(
        pass_us=1e6 * (large["wall_s"] - small["wall_s"]) / more,
        sample_bytes=max(0.0, 2**20 * (large["peak_mib"] - small["peak_mib"]) / more),
        base_mib=large["peak_mib"],
        base_size=large["size"],
        landmarks=landmarks,
    )


def storage(plant: Plant) -> dict[str, tuple[str, float]]:
    """Return formula and bytes of everything that lies on a disk.

    Args:
        plant: The plant.

    Returns:
        By name.

    Examples:
        >>> round(storage(Plant(images=1e8, dims=768))["features, float16"][1] / 1e9, 1)
        153.6
    """
    n, d, k = plant.images, plant.dims, plant.classes
    grams = FOLDS * 8 * (d * (d + 1) / 2 + LANDMARKS * (LANDMARKS + 1) / 2)
    rest = 2 * FOLDS * 8 * k * (d + LANDMARKS) + 8 * LANDMARKS * (LANDMARKS + d) + 2 * KEPT_ROWS * d
    return {
        "images (not copied)": ("N b", n * 1e3 * plant.image_kb),
        "features, float16": ("2 D N", 2 * d * n),
        "the same in the order of the samples, while the run works": ("2 D N", 2 * d * n),
        "content hashes and labels in parts, while the run works": ("about 100 N", 100 * n),
        "outputs: soft labels, predictions, ids, hashes": ("(8 K + 90) N", (8 * k + 90) * n),
        "sums for the next night (`sums.npz`)": ("does not grow with N", grams + rest),
    }


def hours(plant: Plant, rates: Measured) -> dict[str, tuple[str, float]]:
    """Return formula and hours of each step; they follow each other.

    Args:
        plant: The plant.
        rates: What was measured.

    Returns:
        By step.
    """
    n, size = plant.images, 1e3 * plant.image_kb
    read, write = 1e9 * plant.read_gb, 1e9 * plant.write_gb
    features, outputs = 2 * plant.dims, 8 * plant.classes + 90
    backbone, decode = 1 / (plant.gpus * plant.gpu_rate), 1e-3 * rates.decode_ms / plant.cores
    seconds = {
        "labels read and checked": (f"N x {rates.validate_us:g} us", n * 1e-6 * rates.validate_us),
        "content hashes, by the driver alone": (
            f"N x the larger of {rates.hash_ms:g} ms and b / R",
            n * max(1e-3 * rates.hash_ms, size / read),
        ),
        "features": (
            f"N x the largest of 1 / (G g), {rates.decode_ms:g} ms / C and b / R",
            n * max(backbone, decode, size / read),
        ),
        "features in the order of the samples": ("2 D N (1 / R + 1 / W)", n * features * (1 / read + 1 / write)),
        "sums, teacher, student, outputs: four passes": (
            f"N x {rates.pass_us:.1f} us + {PASSES} x 2 D N / R",
            n * (1e-6 * rates.pass_us + PASSES * features / read),
        ),
        "outputs joined": ("(8 K + 90) N (2 / W + 1 / R)", n * outputs * (2 / write + 1 / read)),
    }
    return {name: (formula, value / 3600) for name, (formula, value) in seconds.items()}


def plan_lines(plant: Plant, rates: Measured) -> Iterator[str]:
    """Yield the plan as Markdown.

    Args:
        plant: The plant.
        rates: What was measured.

    Yields:
        Lines.
    """
    n = plant.images
    each_hour = plant.gpus * plant.gpu_hour + plant.cores * plant.core_hour
    yield from ("| on the disks | bytes | here |", "|---|---|---:|")
    for name, (formula, count) in storage(plant).items():
        yield f"| {name} | {formula} | {_bytes(count)} |"
    yield from ("", "| step | seconds | hours | cost |", "|---|---|---:|---:|")
    steps = hours(plant, rates)
    for name, (formula, value) in steps.items():
        yield f"| {name} | {formula} | {value:.2f} | {value * each_hour:,.0f} |"
    total = sum(value for _, value in steps.values())
    yield f"| all | | {total:.1f} | {total * each_hour:,.0f} |"
    peak = 2**20 * rates.base_mib + rates.sample_bytes * max(0.0, n - rates.base_size)
    report = 2**20 * rates.report_mib + rates.report_bytes * max(0.0, n - rates.report_size)
    decoded, wanted = plant.cores / (1e-3 * rates.decode_ms), plant.gpus * plant.gpu_rate
    yield from (
        "",
        f"Memory of the driver: {_bytes(peak)} for the passes (at {rates.sample_bytes:.0f} bytes per sample above "
        f"{rates.base_size:,.0f}, `teacher.landmarks` {rates.landmarks}), {_bytes(report)} for the report page. "
        f"{plant.cores:g} cores decode {decoded:,.0f} images per second; the GPUs together take {wanted:,.0f}: "
        f"{wanted * 1e-3 * rates.decode_ms:.0f} cores would keep them busy.",
    )


def _bytes(count: float) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count:,.0f} bytes"


def main() -> None:
    """Print the plan."""
    import json

    from benchmarks.scale import ROWS

    parser = argparse.ArgumentParser(description=__doc__)
    for one in fields(Plant):
        parser.add_argument(f"--{one.name.replace('_', '-')}", type=float, default=one.default)
    plant = Plant(**vars(parser.parse_args()))
    print("\n".join(plan_lines(plant, measured(json.loads(ROWS.read_text(encoding="utf-8"))))))


if __name__ == "__main__":
    main()
