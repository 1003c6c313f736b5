"""A published run made by hand: small pictures, hostile names, a queue with a blind audit slice."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from labelclean.config import Config, config_record
from labelclean.features.image_files import content_hash
from labelclean.review.exchange.tools import Tool, export_run
from labelclean.storage.parquet import write_json, write_table
from labelclean.storage.run_folders import publish_run
from labelclean.storage.tables import vectors

NAMES = ("ok", "傷", "dent & crack", "<script>", "=cmd()")
NOW = datetime(2026, 1, 15, 8, 0, tzinfo=UTC)
RUN_ID = "2026-01-14T020000.000Z"
DRAWN = 0.25
"""With which probability the audit's samples were drawn."""
SAFE = {
    "points": 4.0, "low": 1.5, "high": 5.0, "low_after": 2.0, "high_after": 5.0,
    "is_safe": True, "num_changed": 9, "num_looks": 0, "num_wanted": 2,
}  # fmt: skip
"""What applying the run's labels brings."""
Answers = dict[str, tuple[str, tuple[str, ...]]]
"""sample_id -> (decision word, labels)."""


def picture(seed: int, *, deep: bool = False) -> bytes:
    """A PNG whose pixels no other seed has; 12-bit values in 16 bits if deep."""
    values = np.random.default_rng(seed).integers(0, 4096 if deep else 256, (6, 8))
    file = io.BytesIO()
    Image.fromarray(values.astype(np.uint16 if deep else np.uint8)).save(file, "PNG")
    return file.getvalue()


def make_run(
    folder: Path,
    num: int = 12,
    *,
    run_id: str = RUN_ID,
    dataset: str = "line 3 (北)",
    waiting: Collection[int] = (),
    gain: dict[str, Any] | None = None,
) -> Path:
    """A run whose samples s0.. have given label k % 5 and suggestion (k + 1) % 5; every fourth place is audit.

    Of those that wait for eyes, the suggestion is the given label, and (k + 1) % 5 is the other possibility.
    """
    root = folder / "data"
    (root / "images").mkdir(parents=True)
    ids, paths, hashes = [f"s{k}" for k in range(num)], [], []
    for k in range(num):
        data = picture(k, deep=k % 2 == 1)
        paths.append(f"images/{k} 北.png")
        (root / paths[k]).write_bytes(data)
        hashes.append(content_hash(data))
    given = [NAMES[k % len(NAMES)] for k in range(num)]
    other = [NAMES[(k + 1) % len(NAMES)] for k in range(num)]
    predicted = [given[k] if k in waiting else other[k] for k in range(num)]
    pq.write_table(pa.table({"sample_id": ids, "image_path": paths, "given_label": given}), root / "labels.parquet")
    config = Config.model_validate(
        {
            "data": {"labels": root / "labels.parquet", "class_names": NAMES},
            "backbone": {"name": "resnet10t"},
            "run": {"seed": 0},
            "decode": {"bit_depth": 12},
            "storage": {"runs": folder / "runs", "cache": folder / "cache"},
        }
    )
    work = folder / "runs" / f".work-{run_id}"
    work.mkdir(parents=True)
    soft = np.full((num, len(NAMES)), 0.05, dtype=np.float32)
    soft[np.arange(num), [NAMES.index(name) for name in predicted]] = 0.8
    base = {"sample_id": ids, "image_path": paths, "given_label": given, "content_hash": hashes}
    scores = pa.array(np.linspace(0.01, 0.4, num), pa.float32())
    said = {"predicted_label": predicted, "label_score": scores}
    refined = pa.table(base | said | {"soft_label": vectors(soft), "is_label_issue": [True] * num})
    write_table(work / "refined_labels.parquet", refined, "refined_labels", NAMES)
    queue = (
        base
        | said
        | {
            "rank": list(range(1, num + 1)),
            "runner_up_label": [other[k] if k in waiting else given[k] for k in range(num)],
            "reasons": [["readings_differ" if k in waiting else "other_class", "narrow_margin"] for k in range(num)],
            "queue_source": ["random_audit" if k % 4 == 3 else "ranked" for k in range(num)],
            "inclusion_probability": [DRAWN if k % 4 == 3 else None for k in range(num)],
            "neighbour_ids": [[ids[0]]] * num,
        }
    )
    write_table(work / "review_queue.parquet", pa.table(queue), "review_queue", NAMES)
    nothing = pa.schema([(name, pa.string()) for name in ("sample_id", "image_path", "reason_code", "message")])
    write_table(work / "rejects.parquet", nothing.empty_table(), "rejects")
    write_json(work / "summary.json", {"gain": SAFE if gain is None else gain})
    return publish_run(work, run_id, {"run_id": run_id, "dataset": dataset, "config": config_record(config)})


def load_tasks(export: Path) -> list[dict[str, Any]]:
    """All Label Studio tasks of an export."""
    return [task for part in sorted(export.glob("part_*/tasks.json")) for task in json.loads(part.read_text())]


def label_studio_file(export: Path, answers: Answers, path: Path) -> Path:
    """What Label Studio would export: tasks with their annotations, ids its own."""
    rows: list[dict[str, Any]] = []
    for number, task in enumerate(load_tasks(export), start=100):
        word, labels = answers.get(task["data"]["lc_sample_id"], ("", ()))
        control = {"one_of": "lc_one_of", "not_class": "lc_not_class"}.get(word, "label")
        chosen = {control: list(labels)} if labels else {}
        if word in ("unsure", "bad_image", "none_of_these"):
            chosen["lc_flag"] = [word]
        result = [
            {"from_name": name, "to_name": "image", "type": "choices", "value": {"choices": values}}
            for name, values in chosen.items()
        ]
        annotation = {
            "id": number,
            "completed_by": 1,
            "was_cancelled": word == "skipped",
            "updated_at": f"2026-01-14T09:{number % 60:02d}:00.000000Z",
            "result": result,
        }
        rows.append({"id": number, "data": task["data"], "annotations": [annotation] if word else []})
    path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 12 samples."""
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="session")
def exported(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Tool], Path]:
    """The export of that run for a tool, in parts of 5; made once per tool."""
    root, done = tmp_path_factory.mktemp("exports"), {}

    def export(tool: Tool) -> Path:
        if tool not in done:
            done[tool] = export_run(run_folder, tool, root / tool, part_size=5).folder
        return Path(done[tool])

    return export


def rows_of(decisions: Sequence[Any]) -> set[tuple[Any, ...]]:
    """What decisions say, without time and file."""
    return {
        (d.sample_id, d.decision, d.verified_label, d.candidate_labels, d.ruled_out_labels, d.annotator_id)
        for d in decisions
    }
