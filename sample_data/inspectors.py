"""Answers the blind sheets of an agreement study on the sample data: three simulated inspectors, and one whose word stands.

Nobody looked at anything: the answers are the truth with planted habits, so that a reader can see what a study finds.
Aiko is careful. Ben overlooks every sixth defect, another one each time. Chie knows the classes differently, always the
same way: a third of the pores are dents to her, and half of the cracks are scratches::

    python -m sample_data.inspectors study --out answers

writes one file per sitting, as the sheet's Download decisions would, and `standard.json`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from labelclean.review.exchange.manifest import ExportManifest, read_manifest
from labelclean.review.exchange.sheet import FORMAT, export_digest

SEED = 22
FIRST_DAY = datetime(2024, 6, 10, 8, tzinfo=UTC)
SECONDS_PER_SAMPLE = 7
Habit = Callable[[str, np.random.Generator, np.random.Generator], str | None]


def aiko(truth: str, _person: np.random.Generator, look: np.random.Generator) -> str | None:
    """Return what Aiko says: nearly always right, unsure now and then."""
    return truth if look.random() < 0.97 else None


def ben(truth: str, _person: np.random.Generator, look: np.random.Generator) -> str | None:
    """Return what Ben says: every sixth defect is overlooked, each time another one."""
    return "ok" if truth != "ok" and look.random() < 1 / 6 else truth


def chie(truth: str, person: np.random.Generator, look: np.random.Generator) -> str | None:
    """Return what Chie says: she has learned some classes otherwise, and says the same again."""
    otherwise = {"pore": ("dent", 1 / 3), "crack": ("scratch", 1 / 2)}
    label, share = otherwise.get(truth, (truth, 0.0))
    return label if person.random() < share else truth if look.random() < 0.98 else "ok"


def right(truth: str, _person: np.random.Generator, _look: np.random.Generator) -> str | None:
    """Return what the one says whose word stands."""
    return truth


INSPECTORS: dict[str, Habit] = {"Aiko": aiko, "Ben": ben, "Chie": chie}


def answers_of(manifest: ExportManifest, name: str, habit: Habit, truth: dict[str, str], trial: int) -> str:
    """Return what Download decisions would save.

    Args:
        manifest: The sheet's manifest.
        name: The inspector's name.
        habit: What the inspector says of a truth.
        truth: True class by sample id without folder and suffix.
        trial: Which look it is.

    Returns:
        JSON.
    """
    rows = []
    for place, item in enumerate(manifest.items):
        name_of_sample = Path(item.sample_id).stem  # also where a reader has sorted the photos into folders
        person = np.random.default_rng([SEED, *name_of_sample.encode(), *name.encode()])
        look = np.random.default_rng([SEED, trial, *name_of_sample.encode(), *name.encode()])
        said = habit(truth[name_of_sample], person, look)
        at = FIRST_DAY + timedelta(days=7 * trial, seconds=SECONDS_PER_SAMPLE * place)
        rows.append(
            {
                "key": item.key,
                "content_hash": item.content_hash,
                "decision": "label" if said else "unsure",
                "labels": [said] if said else [],
                "annotator": name,
                "reviewed_at": at.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
            }
        )
    head = {"format": FORMAT, "tool": manifest.tool, "run_id": manifest.run_id, "dataset": manifest.dataset}
    export = {"export": export_digest(manifest), "num_decisions": len(rows)}
    return json.dumps(head | export | {"decisions": rows}, indent=1)


def main() -> None:
    """Answer every sheet of a study."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("study", type=Path, help="the folder that `labelclean study plan` wrote")
    parser.add_argument("--out", type=Path, default=Path("answers"), help="where the files go")
    arguments = parser.parse_args()
    table = pq.read_table(Path(__file__).parent / "truth.parquet")
    truth = dict(zip(table.column("sample_id").to_pylist(), table.column("true_label").to_pylist(), strict=True))
    arguments.out.mkdir(parents=True, exist_ok=True)
    for number, (name, habit) in enumerate(INSPECTORS.items(), start=1):
        for folder in sorted((arguments.study / f"appraiser_{number}").glob("trial_*")):
            trial = int(folder.name.removeprefix("trial_"))
            said = answers_of(read_manifest(folder), name, habit, truth, trial)
            (arguments.out / f"{name.lower()}_{trial}.json").write_text(said, encoding="utf-8")
    if (arguments.study / "standard").is_dir():
        said = answers_of(read_manifest(arguments.study / "standard"), "Dan", right, truth, 0)
        (arguments.out / "standard.json").write_text(said, encoding="utf-8")
    print(f"wrote {len(list(arguments.out.glob('*.json')))} files to {arguments.out}")


if __name__ == "__main__":
    main()
