"""Hugging Face ImageFolder: one folder per part with `metadata.jsonl`, and strictly back from it."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from labelclean.errors import ExchangeError, listed
from labelclean.review.exchange.answers import Answer, worded_answer
from labelclean.review.exchange.foreign_file import foreign_bytes, foreign_json, foreign_text
from labelclean.review.exchange.manifest import key_of_file
from labelclean.review.exchange.package import ExportPart
from labelclean.review.exchange.tasks import QueueToExport, Task

TOOL = "huggingface"
METADATA = "metadata.jsonl"
NEXT_STEP = (
    'load_dataset("imagefolder", data_dir="part_001"); fill in decision and labels and write the table back as JSON '
    "lines or Parquet (without the pictures)"
)
_NEEDED = ("lc_key", "lc_sample_id", "lc_run_id", "lc_dataset", "decision", "labels")


def part_files(queue: QueueToExport, part: ExportPart) -> dict[str, bytes]:
    """Return the metadata of a part.

    Args:
        queue: What is exported.
        part: The part.

    Returns:
        `metadata.jsonl`, one object per picture.
    """
    lines = [json.dumps(_row(queue, task), ensure_ascii=False) for task in part.tasks]
    return {METADATA: "".join(f"{line}\n" for line in lines).encode()}


def read_answers(path: Path, annotator: str) -> list[Answer]:
    """Return what a metadata table says: one answer per row.

    Args:
        path: JSON lines or Parquet with the exported columns, `decision` and `labels` filled in.
        annotator: Who answered where the row does not say.

    Returns:
        Answers; a row without a decision gives an empty one.

    Raises:
        ExchangeError: If the file is damaged or lacks a column.
    """
    return [_answer(row, number, annotator, path) for number, row in enumerate(_rows(path), start=1)]


# --- inside ---------------------------------------------------------------------------------------


def _row(queue: QueueToExport, task: Task) -> dict[str, Any]:
    item, seen = task.item, task.suggestion
    return {
        "file_name": f"images/{item.key}.png",
        "lc_key": item.key,
        "lc_sample_id": item.sample_id,
        "lc_run_id": queue.run_id,
        "lc_dataset": queue.dataset,
        "rank": task.rank,
        "given_label": seen.given_label if seen else "",
        "predicted_label": (seen.predicted_label or "") if seen else "",
        "runner_up_label": seen.runner_up_label if seen else "",
        "label_score": seen.label_score if seen else None,
        "reasons": list(seen.reasons) if seen else [],
        "decision": "",
        "labels": [],
        "annotator_id": "",
    }


def _rows(path: Path) -> list[Any]:
    if path.suffix.lower() != ".parquet":
        return [foreign_json(line, path) for line in foreign_text(path).split("\n") if line.strip()]
    try:
        table = pq.read_table(io.BytesIO(foreign_bytes(path)))
    except (pa.ArrowException, OSError) as fault:
        raise ExchangeError(f"{path}: must be whole Parquet, but: {' '.join(str(fault).split())[:200]}.") from None
    return list(table.select([name for name in table.column_names if name != "image"]).to_pylist())


def _answer(row: Any, number: int, annotator: str, path: Path) -> Answer:
    missing = [name for name in _NEEDED if not isinstance(row, dict) or name not in row]
    if missing:
        raise ExchangeError(
            f"{path}: every row must have {listed(_NEEDED, 6)}, but row {number:,} lacks {listed(missing, 6)}. "
            "Keep the exported columns."
        )
    labels = row["labels"] if isinstance(row["labels"], list) else [row["labels"]] if row["labels"] else []
    texts = [row[name] for name in _NEEDED[:4]] + [row["decision"] or "", row.get("annotator_id") or "", *labels]
    if not all(isinstance(text, str) for text in texts):
        raise ExchangeError(
            f"{path}: ids, decisions and labels must be texts, but row {number:,} holds something else."
        )
    if row.get("file_name") and key_of_file(row["file_name"]) != row["lc_key"]:
        fault = f"file_name {row['file_name']!r} and lc_key {row['lc_key']!r} differ"
        return Answer(row["lc_key"], annotator, fault=fault, run_id=row["lc_run_id"], dataset=row["lc_dataset"])
    answer = worded_answer(
        row["lc_key"], row["decision"] or "", labels, row.get("annotator_id") or annotator, row.get("given_label")
    )
    values = {name.removeprefix("lc_"): row[name] for name in _NEEDED[1:4]} | {"shown_label": row.get("given_label")}
    return Answer(**{name: getattr(answer, name) for name in answer.__dataclass_fields__} | values)
