"""Makes photos of made-up parts that four cameras see, of which one shows the defect, and labels that name the part.

`labels.parquet` has a row per photo; all photos of a part carry the label of the part, and some parts are labelled wrong. The
same seed and the same versions of numpy, Pillow and pyarrow give the same bytes::

    python -m sample_data.parts --out parts
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from sample_data.render import DEFECTS, grid, part, photo

SEED = 20261130
PARTS = 200
OK, OK_SHARE = "ok", 0.5
CLASSES = (OK, "dent", "scratch", "stain")
WRONG_SHARE = 0.1
CAMERAS = ("top", "left", "right", "bottom")
LIGHT = dict(zip(CAMERAS, (0.7, 2.3, 3.9, 5.5), strict=True))
SIZE_PX = 128


@dataclass(frozen=True)
class Part:
    """One part.

    Attributes:
        number: 1 for the first; seeds its drawing.
        true: Its class.
        given: The class that was written down.
        camera: The one camera that sees the defect.
    """

    number: int
    true: str
    given: str
    camera: str

    @property
    def name(self) -> str:
        """Its serial number."""
        return f"P{self.number:04d}"


def planned_parts(num: int, seed: int, wrong_share: float = WRONG_SHARE) -> list[Part]:
    """Return the parts before anything is drawn.

    Args:
        num: How many.
        seed: Feeds every draw.
        wrong_share: Share of the parts that are given another class, any with the same chance.

    Returns:
        Half of them OK, the others of each defect alike.
    """
    rng = np.random.default_rng(seed)
    defects = [name for name in CLASSES if name != OK]
    num_ok = round(OK_SHARE * num)
    true = rng.permutation([OK] * num_ok + [defects[row % len(defects)] for row in range(num - num_ok)]).tolist()
    cameras = rng.choice(CAMERAS, num).tolist()
    wrong = set(np.random.default_rng([seed, 1]).permutation(num)[: round(wrong_share * num)].tolist())
    others = np.random.default_rng([seed, 2]).integers(len(CLASSES) - 1, size=num)
    given = [
        [name for name in CLASSES if name != label][others[row]] if row in wrong else label
        for row, label in enumerate(true)
    ]
    return [Part(row + 1, true[row], given[row], cameras[row]) for row in range(num)]


def write_photos(one: Part, folder: Path, seed: int) -> list[str]:
    """Draw a part as each camera sees it; returns the file names, in the order of `CAMERAS`."""
    surface = str(np.random.default_rng([seed, one.number]).choice(["brushed", "milled", "cast"]))
    names = []
    for number, camera in enumerate(CAMERAS):
        rng = np.random.default_rng([seed, one.number, number + 1])
        draws = [DEFECTS[one.true]] if one.true != OK and camera == one.camera else []
        lit = part(rng, grid(SIZE_PX, SIZE_PX), surface, draws, 0.65 + 0.35 * float(rng.beta(2, 1.1)), LIGHT[camera])
        grey = photo(rng, lit, LIGHT[camera], float(rng.uniform(0.95, 1.25)))
        names.append(f"{one.name}_{camera}.png")
        Image.fromarray(np.round(grey * 255).astype(np.uint8)).save(folder / names[-1], compress_level=1)
    return names


def generate(out: Path, num: int = PARTS, seed: int = SEED) -> list[Part]:
    """Write images, `labels.parquet` and `truth.parquet` into ``out`` and return the parts."""
    parts = planned_parts(num, seed)
    (out / "images").mkdir(parents=True, exist_ok=True)
    rows = [
        {
            "sample_id": name.removesuffix(".png"),
            "image_path": f"images/{name}",
            "given_label": one.given,
            "part_id": one.name,
            "camera": camera,
        }
        for one in parts
        for name, camera in zip(write_photos(one, out / "images", seed), CAMERAS, strict=True)
    ]
    pq.write_table(pa.Table.from_pylist(rows), out / "labels.parquet")
    truth = [{"part_id": one.name, "true_label": one.true, "camera": one.camera} for one in parts]
    pq.write_table(pa.Table.from_pylist(truth), out / "truth.parquet")
    return parts


def main() -> None:
    """Write the parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--parts", type=int, default=PARTS)
    parser.add_argument("--seed", type=int, default=SEED)
    asked = parser.parse_args()
    parts = generate(asked.out, asked.parts, asked.seed)
    print(f"{len(parts):,} parts, {len(parts) * len(CAMERAS):,} photos in {asked.out}")


if __name__ == "__main__":
    main()
