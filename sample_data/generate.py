"""Makes the sample data: photos of made-up parts, the labels a factory would hand over, and the truth.

Two lines photograph brushed, milled and cast parts; about every tenth given label is wrong on purpose.
The same seed and the same versions of numpy, Pillow and pyarrow give the same bytes::

    python -m sample_data.generate --out sample_data --seed 20240607
"""

import argparse
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from sample_data.render import DEFECTS, grid, part, photo

SEED = 20240607
# Parts per true class. Fourteen of them are photographed again (one twice), which makes 700 photos.
PARTS = {"ok": 347, "scratch": 116, "pore": 78, "dent": 64, "stain": 59, "crack": 22}
RESHOTS = 14
# Reshots whose serial number was entered without its last digit, and reshots whose label is planted wrong.
RENAMED_RESHOTS = 4
CONFLICTING_RESHOTS = 4

UNIFORM_ERRORS = 20
# True class, the look-alike written instead, number of photos.
CONFUSIONS = (("pore", "dent", 14), ("crack", "scratch", 6), ("scratch", "crack", 3))
# The tired shift: this share of its labels is wrong, mostly because the defect is overlooked.
TIRED_LINE, TIRED_SHIFT, TIRED_SHARE, OVERLOOKED_SHARE = "L2", "night", 0.4, 0.7

# Photos per file format; "png12" is a 12-bit camera's 0..4095 in a 16-bit PNG.
FORMATS = {"jpg": 300, "png": 290, "bmp": 35, "png12": 30, "png16": 24, "tiff16": 21}
SUFFIXES = {"png12": "png", "png16": "png", "tiff16": "tif"}
LINES = {"L1": 0.6, "L2": 0.4}
WIDTH_PX = {"L1": 128, "L2": 144}
HEIGHT_PX = 128
LIGHT = {"L1": np.pi + 0.7, "L2": np.pi + 2.4}
SURFACE_SHARES = {"L1": (0.5, 0.35, 0.15), "L2": (0.15, 0.25, 0.6)}
SHIFTS = {"early": 0.45, "late": 0.35, "night": 0.2}
SHIFT_STARTS = {"early": 6, "late": 14, "night": 22}
FIRST_DAY = datetime(2024, 5, 27, tzinfo=UTC)
DAYS = 10


@dataclass(frozen=True)
class Shot:
    """One photo: which part it shows, where and when it was taken, and what was written down.

    Attributes:
        part_index: The part, 0 .. number of parts - 1; seeds its drawing.
        shot_index: 0 for the part's first photo, 1 and 2 for reshots.
        true_label: The defect that was drawn, or ok.
        line: The production line.
        shift: The inspector's shift.
        captured_at: Time of the photo.
        group_id: Serial number of the part, as entered.
        file_format: A name in ``FORMATS``.
        given_label: The label as handed over.
        error_kind: Why the given label is wrong, or None.
        is_broken: True for the one file that is cut off.
        sample_id: Serial name of the photo, set last.
    """

    part_index: int
    shot_index: int
    true_label: str
    line: str
    shift: str
    captured_at: datetime
    group_id: str
    file_format: str
    given_label: str
    error_kind: str | None = None
    is_broken: bool = False
    sample_id: str = ""

    @property
    def image_path(self) -> str:
        """The image file's path relative to the sample's folder."""
        return f"images/{self.sample_id}.{SUFFIXES.get(self.file_format, self.file_format)}"


def planned_shots(seed: int) -> list[Shot]:
    """Return all photos in the table's order, with their labels, before anything is drawn."""
    rng = np.random.default_rng(seed)
    shots = with_reshots(rng, first_shots(rng))
    shots = with_errors(rng, with_formats(rng, shots))
    shots = [
        replace(shot, sample_id=f"img_{number:06d}")
        for number, shot in enumerate(sorted(shots, key=lambda shot: shot.captured_at), start=1)
    ]
    return [shots[row] for row in rng.permutation(len(shots))]


def first_shots(rng: np.random.Generator) -> list[Shot]:
    """Return one photo of each part, the classes mixed over lines, shifts and time."""
    labels = rng.permutation(np.repeat(list(PARTS), list(PARTS.values())))
    serials = rng.permutation(9000)[: len(labels)] + 1000
    shots = []
    for index, label in enumerate(labels.tolist()):
        line = str(rng.choice(list(LINES), p=list(LINES.values())))
        shift = str(rng.choice(list(SHIFTS), p=list(SHIFTS.values())))
        seconds = int(rng.integers(DAYS)) * 86_400 + SHIFT_STARTS[shift] * 3600 + int(rng.integers(300, 28_200))
        serial = f"{line}-{serials[index]}"
        captured_at = FIRST_DAY + timedelta(seconds=seconds, microseconds=int(rng.integers(1_000_000)))
        shots.append(Shot(index, 0, label, line, shift, captured_at, serial, "jpg", label))
    return shots


def with_reshots(rng: np.random.Generator, shots: list[Shot]) -> list[Shot]:
    """Return the photos and the reshots of some parts, a few entered under another serial number."""
    again = [int(row) for row in rng.choice(len(shots), RESHOTS - 1, replace=False)]
    reshots = []
    for number, row in enumerate([*again, again[-1]]):
        first = shots[row]
        serial = first.group_id[:-1] if number < RENAMED_RESHOTS else first.group_id
        later = timedelta(seconds=int(rng.integers(15, 90)))
        shot_index = 2 if number == RESHOTS - 1 else 1
        reshots.append(
            replace(first, shot_index=shot_index, group_id=serial, captured_at=first.captured_at + later * shot_index)
        )
    return shots + reshots


def with_formats(rng: np.random.Generator, shots: list[Shot]) -> list[Shot]:
    """Return the photos with their file formats; one PNG of an ok part is marked as broken."""
    formats = rng.permutation(np.repeat(list(FORMATS), list(FORMATS.values()))).tolist()
    shots = [replace(shot, file_format=name) for shot, name in zip(shots, formats, strict=True)]
    shot_twice = {shot.part_index for shot in shots if shot.shot_index}
    whole_parts = [
        row
        for row, shot in enumerate(shots)
        if shot.file_format == "png" and shot.true_label == "ok" and shot.part_index not in shot_twice
    ]
    broken = int(rng.choice(whole_parts))
    shots[broken] = replace(shots[broken], is_broken=True)
    return shots


def with_errors(rng: np.random.Generator, shots: list[Shot]) -> list[Shot]:
    """Return the photos with the planted errors: the tired shift, look-alikes, and any class at random."""
    shots = list(shots)

    def plant(row: int, label: str, kind: str) -> None:
        shots[row] = replace(shots[row], given_label=label, error_kind=kind)

    def right(rows: list[int]) -> list[int]:
        return [row for row in rows if shots[row].error_kind is None and not shots[row].is_broken]

    def drawn(rows: list[int], count: int) -> list[int]:
        return [int(row) for row in rng.choice(right(rows), count, replace=False)]

    def other_class(true_label: str) -> str:
        return str(rng.choice([name for name in PARTS if name != true_label]))

    everything = list(range(len(shots)))
    for row in drawn([row for row in everything if shots[row].shot_index == 1], CONFLICTING_RESHOTS):
        plant(row, other_class(shots[row].true_label), "uniform")
    tired = [row for row in everything if (shots[row].line, shots[row].shift) == (TIRED_LINE, TIRED_SHIFT)]
    for row in drawn(tired, round(TIRED_SHARE * len(tired))):
        is_overlooked = shots[row].true_label != "ok" and rng.random() < OVERLOOKED_SHARE
        plant(row, "ok" if is_overlooked else other_class(shots[row].true_label), "tired")
    for true_label, given_label, count in CONFUSIONS:
        for row in drawn([row for row in everything if shots[row].true_label == true_label], count):
            plant(row, given_label, "confusion")
    for row in drawn([row for row in everything if shots[row].shot_index == 0], UNIFORM_ERRORS - CONFLICTING_RESHOTS):
        plant(row, other_class(shots[row].true_label), "uniform")
    return shots


def grey_image(shot: Shot, seed: int) -> NDArray[np.float32]:
    """Return the photo's grey values, float32, shape (H, W), in [0, 1]."""
    rng, light = np.random.default_rng([seed, shot.part_index]), LIGHT[shot.line]
    surface = str(rng.choice(["brushed", "milled", "cast"], p=SURFACE_SHARES[shot.line]))
    draws = [DEFECTS[shot.true_label]] if shot.true_label in DEFECTS else []
    severity = 0.65 + 0.35 * float(rng.beta(2, 1.1))
    lit = part(rng, grid(HEIGHT_PX, WIDTH_PX[shot.line]), surface, draws, severity, light)
    camera = np.random.default_rng([seed, shot.part_index, 1 + shot.shot_index])
    exposure = camera.uniform(0.95, 1.25)
    shift_px = camera.integers(-3, 4, 2) if shot.shot_index else (0, 0)
    return photo(camera, lit, light, exposure, (int(shift_px[0]), int(shift_px[1])))


def write_image(shot: Shot, grey: NDArray[np.float32], path: Path) -> None:
    """Write grey values in [0, 1] in the photo's format, or half the file where it is to be broken."""
    depth = {"png12": 4095, "png16": 65_535, "tiff16": 65_535}.get(shot.file_format, 255)
    image = Image.fromarray(np.round(grey * depth).astype(np.uint8 if depth == 255 else np.uint16))
    if shot.file_format == "jpg":
        image.save(path, quality=90)
    else:
        image.save(path)
    if shot.is_broken:
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])


def write_tables(shots: list[Shot], out: Path) -> None:
    """Write ``labels.parquet`` and ``truth.parquet``, their rows in the order of ``shots``."""
    labels = {
        name: pa.array([getattr(shot, name) for shot in shots], pa.string())
        for name in ("sample_id", "image_path", "given_label", "group_id")
    }
    labels["captured_at"] = pa.array([shot.captured_at for shot in shots], pa.timestamp("us", tz="UTC"))
    labels["line"] = pa.array([shot.line for shot in shots], pa.string())
    labels["shift"] = pa.array([shot.shift for shot in shots], pa.string())
    truth = {
        name: pa.array([getattr(shot, name) for shot in shots], pa.string())
        for name in ("sample_id", "true_label", "error_kind")
    }
    pq.write_table(pa.table(labels), out / "labels.parquet")
    pq.write_table(pa.table(truth), out / "truth.parquet")


def generate(out: Path, seed: int) -> list[Shot]:
    """Write images and tables into ``out`` and return the photos; an earlier sample there is replaced."""
    shots = planned_shots(seed)
    (out / "images").mkdir(parents=True, exist_ok=True)
    for earlier in (out / "images").glob("img_*"):
        earlier.unlink()
    for shot in shots:
        write_image(shot, grey_image(shot, seed), out / shot.image_path)
    write_tables(shots, out)
    return shots


def main() -> None:
    """Make the sample and print its counts."""
    parser = argparse.ArgumentParser(description="Make labelclean's sample data.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder to write to")
    parser.add_argument("--seed", type=int, default=SEED)
    arguments = parser.parse_args()
    shots = generate(arguments.out, arguments.seed)
    for title, names in (
        ("true classes", [shot.true_label for shot in shots]),
        ("given classes", [shot.given_label for shot in shots]),
        ("errors", [shot.error_kind for shot in shots if shot.error_kind]),
        ("formats", [shot.file_format for shot in shots]),
    ):
        print(f"{title}: {dict(Counter(names).most_common())}")


if __name__ == "__main__":
    main()
