"""Makes photos of made-up parts with none to three defects each, and the labels that a line would hand over.

`train.csv` has a row per image and defect, as Severstal's has; an image that it does not name has no defect. About every
tenth defect is overlooked, and a few are written down that are not there. The same seed and the same versions of numpy and
Pillow give the same bytes. `--answer` simulates a reviewer of a sheet, who sees everything::

    python -m sample_data.several --out several
    python -m sample_data.several --out several --answer queue
"""

import argparse
import csv
import json
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from PIL import Image

from labelclean.review.exchange.manifest import read_manifest
from labelclean.review.exchange.sheet import FORMAT, TOOL, export_digest
from sample_data.render import DEFECTS, grid, part, photo

SEED = 20261129
PHOTOS = 360
CLASSES = ("dent", "pore", "scratch", "stain")
NUM_DEFECTS = (0.4, 0.3, 0.2, 0.1)  # shares of photos with 0, 1, 2, 3 defects
MISSED_SHARE = 0.12  # of the defects
INVENTED_SHARE = 0.03  # of the defects that are not there
SIZE_PX = 128


@dataclass(frozen=True)
class Photo:
    """One photo.

    Attributes:
        number: 1 for the first; seeds its drawing.
        true: The defects that are on it.
        given: The defects that were written down.
    """

    number: int
    true: tuple[str, ...]
    given: tuple[str, ...]

    @property
    def name(self) -> str:
        """Its file's name."""
        return f"part_{self.number:04d}.png"


def planned_photos(num: int, seed: int) -> list[Photo]:
    """Return the photos with their defects and labels, before anything is drawn."""
    rng = np.random.default_rng(seed)
    photos = []
    for number in range(1, num + 1):
        true = set(rng.choice(CLASSES, rng.choice(len(NUM_DEFECTS), p=NUM_DEFECTS), replace=False).tolist())
        draws = rng.random(len(CLASSES))
        given = {
            name
            for name, draw in zip(CLASSES, draws.tolist(), strict=True)
            if (draw >= MISSED_SHARE if name in true else draw < INVENTED_SHARE)
        }
        photos.append(Photo(number, tuple(sorted(true)), tuple(sorted(given))))
    return photos


def write_photo(shot: Photo, path: Path, seed: int) -> None:
    """Draw one photo."""
    rng = np.random.default_rng([seed, shot.number])
    light = float(rng.uniform(0, 2 * np.pi))
    surface = str(rng.choice(["brushed", "milled", "cast"]))
    severity = 0.75 + 0.25 * float(rng.random())
    lit = part(rng, grid(SIZE_PX, SIZE_PX), surface, [DEFECTS[name] for name in shot.true], severity, light)
    grey = photo(rng, lit, light, float(rng.uniform(0.95, 1.25)))
    Image.fromarray(np.round(grey * 255).astype(np.uint8)).save(path)


def write_rows(photos: list[Photo], path: Path, column: str) -> None:
    """Write a row per photo and defect."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["ImageId", "ClassId"])
        writer.writerows((shot.name, name) for shot in photos for name in getattr(shot, column))


def generate(out: Path, num: int = PHOTOS, seed: int = SEED) -> list[Photo]:
    """Write images, `train.csv` and `truth.csv` into ``out`` and return the photos."""
    photos = planned_photos(num, seed)
    (out / "images").mkdir(parents=True, exist_ok=True)
    for shot in photos:
        write_photo(shot, out / "images" / shot.name, seed)
    write_rows(photos, out / "train.csv", "given")
    write_rows(photos, out / "truth.csv", "true")
    return photos


def answer(folder: Path, queue: Path) -> Path:
    """Write what a reviewer who sees everything says of the pictures of a sheet.

    Args:
        folder: What `generate` wrote.
        queue: What `labelclean export --to sheet` wrote.

    Returns:
        `decisions.json` in ``folder``, as the sheet's Download decisions saves it.
    """
    manifest = read_manifest(queue)
    true: dict[str, list[str]] = {}
    with (folder / "truth.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            true.setdefault(row["ImageId"], []).append(row["ClassId"])
    began = datetime.now(UTC) - timedelta(seconds=9 * len(manifest.items))
    decisions = []
    for number, item in enumerate(manifest.items):
        at = (began + timedelta(seconds=9 * number)).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        said = {"decision": "label", "labels": sorted(true.get(item.sample_id, [])), "annotator": "Aiko"}
        decisions.append({"key": item.key, "content_hash": item.content_hash, **said, "reviewed_at": at})
    head = {"format": FORMAT, "tool": TOOL, "run_id": manifest.run_id, "dataset": manifest.dataset}
    whole = head | {"export": export_digest(manifest), "num_decisions": len(decisions), "decisions": decisions}
    target = folder / "decisions.json"
    target.write_text(json.dumps(whole, ensure_ascii=False, indent=1), encoding="utf-8")
    return target


def main() -> None:
    """Make the photos and print their counts."""
    parser = argparse.ArgumentParser(description="Make photos with none to three defects each.")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument(
        "--answer", metavar="QUEUE", type=Path, help="answer this exported sheet from the truth instead"
    )
    parser.add_argument("--photos", type=int, default=PHOTOS)
    parser.add_argument("--seed", type=int, default=SEED)
    arguments = parser.parse_args()
    if arguments.answer is not None:
        print(f"wrote {answer(arguments.out, arguments.answer)}")
        return
    photos = generate(arguments.out, arguments.photos, arguments.seed)
    missed = sum(len(set(shot.true) - set(shot.given)) for shot in photos)
    invented = sum(len(set(shot.given) - set(shot.true)) for shot in photos)
    print(f"defects on a photo: {dict(sorted(Counter(len(shot.true) for shot in photos).items()))}")
    print(f"labels: {dict(sorted(Counter(name for shot in photos for name in shot.given).items()))}")
    print(f"wrong: {missed} missing, {invented} too many")


if __name__ == "__main__":
    main()
