"""Run folders made by hand: small, without a network or a model, for the report's tests and screenshots."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from labelclean.features.image_files import content_hash
from labelclean.review.leaks import Leaks, split_codes
from labelclean.storage.parquet import write_json, write_table
from labelclean.storage.tables import vectors

QUEUE_TYPES = pa.schema(
    [
        ("rank", pa.int64()),
        ("sample_id", pa.string()),
        ("image_path", pa.string()),
        ("given_label", pa.string()),
        ("predicted_label", pa.string()),
        ("runner_up_label", pa.string()),
        ("label_score", pa.float32()),
        ("reasons", pa.list_(pa.string())),
        ("queue_source", pa.string()),
        ("neighbour_ids", pa.list_(pa.string())),
    ]
)


SAFE = {
    "points": 4.0, "low": 1.5, "high": 5.0, "low_after": 2.0, "high_after": 5.0,
    "is_safe": True, "num_changed": 9, "num_looks": 0, "num_wanted": 30,
}  # fmt: skip


@dataclass
class Made:
    """A run to be written: given and predicted class and score of every sample."""

    names: Sequence[str]
    given: Sequence[int]
    predicted: Sequence[int]
    scores: Sequence[float]
    queued: Sequence[int] = ()
    audited: Sequence[int] = ()
    twins: Sequence[int] = ()
    extra: dict[str, pa.Array] = field(default_factory=dict)
    rejects: Sequence[tuple[str, str]] = ()
    gates: Sequence[dict[str, Any]] = ()
    ids: Sequence[str] = ()
    gain: dict[str, Any] | None = None
    summary: dict[str, Any] = field(default_factory=dict)
    is_old: bool = False
    """Written by a labelclean that did not keep apart what it would change and what waits for eyes."""

    def sample_ids(self) -> list[str]:
        return list(self.ids) or [f"part_{row:05}" for row in range(len(self.given))]


def picture(tone: int, size: tuple[int, int] = (40, 30)) -> bytes:
    """A PNG with a mark whose place and tone differ by number."""
    pixels = np.full((size[1], size[0]), 90 + tone * 37 % 120, dtype=np.uint8)
    at = 3 + tone * 7 % (size[0] - 12)
    pixels[6 : size[1] - 6, at : at + 5] = 30 if tone % 2 else 230
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def write_run(folder: Path, made: Made, *, images: Path | None = None, manifest: bool = True) -> Path:
    """Write a run folder and, where a folder is given, its images; returns the run folder."""
    folder.mkdir(parents=True, exist_ok=True)
    names, ids = list(made.names), made.sample_ids()
    given, predicted = np.array(made.given, dtype=int), np.array(made.predicted, dtype=int)
    scores = np.array(made.scores, dtype=np.float32)
    hashes = [content_hash(picture(row)) for row in range(len(ids))]
    paths = [f"{sample}.png" for sample in ids]
    if images is not None:
        images.mkdir(parents=True, exist_ok=True)
        for row, path in enumerate(paths):
            (images / path).write_bytes(picture(row))
    label = np.array(names, dtype=object)
    soft = np.full((len(ids), len(names)), 1e-3, dtype=np.float32)
    soft[np.arange(len(ids)), predicted] = 1.0
    soft /= soft.sum(axis=1, keepdims=True)
    refined = {
        "sample_id": ids,
        "image_path": paths,
        "given_label": label[given].tolist(),
        "soft_label": vectors(soft),
        "predicted_label": label[predicted].tolist(),
        "label_score": scores,
        "is_label_issue": scores < 0.5,
        "content_hash": hashes,
    }
    write_table(folder / "refined_labels.parquet", pa.table(refined | made.extra), "refined_labels", names)
    teacher = {
        "sample_id": ids,
        "pred_probs": vectors(soft),
        "top1_label": label[predicted].tolist(),
        "runner_up_label": label[(predicted + 1) % len(names)].tolist(),
        "top2_margin": soft.max(axis=1) - 1e-3,
        "top2_agreement": pa.array([1.0] * len(ids), pa.float32()),
    }
    write_table(folder / "teacher_predictions.parquet", pa.table(teacher), "teacher_predictions", names)
    _write_queue(folder, made, ids, paths, label)
    twins = [{"sample_id": ids[row], "reason": "conflict_group", "score": 1.0} for row in made.twins]
    schema = pa.schema([("sample_id", pa.string()), ("reason", pa.string()), ("score", pa.float32())])
    write_table(folder / "flags.parquet", pa.Table.from_pylist(twins, schema=schema), "flags")
    _write_rest(folder, made, images, manifest, _summary(made, given, predicted, scores))
    return folder


def write_refused_run(folder: Path, *, names: Sequence[str], num: int, manifest: bool = True) -> Path:
    """A run whose images were all rejected: it stopped before any label was judged."""
    folder.mkdir(parents=True, exist_ok=True)
    made = Made(names, [], [], [], rejects=[(f"part_{row:05}", "missing") for row in range(num)])
    summary = {
        "verdict": "refused",
        "verdict_sentence": "no image could be used; rejects.parquet says why for each.",
        "num_samples": num,
        "num_rejects": num,
        "num_label_issues": None,
        "class_names": list(names),
        "rejects": {"missing": num},
        "label_issues": None,
        "refinement": None,
        "gates": [],
        "queue": None,
    }
    _write_rest(folder, made, None, manifest, summary)
    return folder


def _write_queue(folder: Path, made: Made, ids: list[str], paths: list[str], label: Any) -> None:
    rows = []
    trusted = [ids[row] for row in range(len(ids)) if made.scores[row] > 0.9][:5]
    for rank, row in enumerate([*made.queued, *made.audited], start=1):
        moved = made.given[row] != made.predicted[row]
        rows.append(
            {
                "rank": rank,
                "sample_id": ids[row],
                "image_path": paths[row],
                "given_label": label[made.given[row]],
                "predicted_label": label[made.predicted[row]],
                "runner_up_label": label[made.given[row] if moved else (made.given[row] + 1) % len(label)],
                "label_score": made.scores[row],
                "reasons": _reasons(made, row),
                "queue_source": "random_audit" if row in made.audited else "ranked",
                "neighbour_ids": trusted,
            }
        )
    table = pa.Table.from_pylist(rows, schema=QUEUE_TYPES)
    write_table(folder / "review_queue.parquet", table, "review_queue", list(made.names))


def _reasons(made: Made, row: int) -> list[str]:
    if made.given[row] != made.predicted[row]:
        return ["other_class", "neighbours_disagree"]
    return ["readings_differ"] if made.scores[row] < 0.5 and not made.is_old else ["narrow_margin"]


def _summary(made: Made, given: Any, predicted: Any, scores: Any) -> dict[str, Any]:
    num, wrong = int((scores < 0.5).sum()), float((1 - scores).sum())
    issues = np.bincount(given[scores < 0.5], minlength=len(made.names))
    lost = np.bincount(given[given != predicted], minlength=len(made.names))
    words = {"would_change": int(lost.sum()), "waits_for_eyes": max(num - int(lost.sum()), 0)}
    return {
        "verdict": "done",
        "verdict_sentence": f"{num} labels are worth a look.",
        "num_samples": len(given) + len(made.rejects),
        "num_rejects": len(made.rejects),
        "num_label_issues": num,
        "class_names": list(made.names),
        "rejects": {"missing": len(made.rejects)} if made.rejects else {},
        "label_issues": {
            "num": num,
            "expected": round(wrong, 2),
            "low": round(wrong * 0.8, 2),
            "high": round(wrong * 1.2, 2),
            "by_class": [
                {"class_name": name, "num": int(issues[k]), "lost": int(lost[k])} for k, name in enumerate(made.names)
            ],
        }
        | ({} if made.is_old else words),
        "gain": None if made.is_old else made.gain or SAFE | {"num_changed": int(lost.sum())},
        "refinement": {"requested": "auto", "method": "posterior"},
        "teacher": {"calibration_error": 0.031},
        "gates": list(made.gates),
        "queue": None,
    } | made.summary


def _write_rest(folder: Path, made: Made, images: Path | None, manifest: bool, summary: dict[str, Any]) -> None:
    write_json(folder / "summary.json", summary)
    schema = pa.schema([(name, pa.string()) for name in ("sample_id", "image_path", "reason_code", "message")])
    message = "the file must exist in data.image_root, but there is none; copy it there or correct image_path."
    rejects = [
        {"sample_id": sample, "image_path": f"{sample}.png", "reason_code": code, "message": message}
        for sample, code in made.rejects
    ]
    write_table(folder / "rejects.parquet", pa.Table.from_pylist(rejects, schema=schema), "rejects")
    counts = np.bincount(np.array(made.given, dtype=int), minlength=len(made.names))
    if counts.sum():
        distribution = pa.table(
            {"class_name": list(made.names), "num_samples": counts, "share": (counts / counts.sum()).astype(np.float32)}
        )
        write_table(folder / "class_distribution.parquet", distribution, "class_distribution", list(made.names))
    if manifest:
        write_json(folder / "manifest.json", facts(images) | {"run_id": "2026-03-01T060000.000Z", "host": "line-pc-3"})


def facts(images: Path | None, **more: Any) -> dict[str, Any]:
    """What is known before a run is published."""
    root = str(images) if images is not None else "/nowhere"
    return {
        "dataset": "line 3, March",
        "seed": 0,
        "backbone": {"name": "mobilenetv2_100", "digest": "d0040d059ce1b9c23f046e0e2fbef15b"},
        "device": "cpu",
        "versions": {"labelclean": "0.1.0", "python": "3.11.7"},
        "config": {
            "data": {"labels": f"{root}/labels.parquet", "image_root": root},
            "decode": {"window": "auto"},
            "teacher": {"folds": 5, "repeats": 10},
        },
    } | more


def factory(num_classes: int = 6, num: int = 600, seed: int = 0) -> Made:
    """A plausible factory: three lines, one of them worse; four weeks; a queue with twins and audit samples."""
    rng = np.random.default_rng(seed)
    names = [f"class {k:03}" for k in range(num_classes)]
    given = (
        rng.integers(0, num_classes, num) if num_classes > 20 else rng.choice(num_classes, num, p=_shares(num_classes))
    )
    line = rng.choice(["A", "B", "C"], num, p=[0.4, 0.4, 0.2])
    is_wrong = rng.random(num) < np.where(line == "C", 0.22, 0.06)
    other = (given + rng.integers(1, min(num_classes, 4), num)) % num_classes
    predicted = np.where(is_wrong & (np.arange(num) % 5 > 0), other, given)  # the others wait for eyes
    scores = np.where(is_wrong, rng.beta(1, 12, num), rng.beta(25, 1, num))
    start = datetime(2026, 2, 2, 6, tzinfo=UTC)
    times = [start + timedelta(hours=float(hour)) for hour in np.sort(rng.uniform(0, 24 * 25, num))]
    queued = np.argsort(scores, kind="stable")[: int((scores < 0.5).sum())]
    audited = rng.permutation(np.flatnonzero(scores > 0.9))[:4]
    return Made(
        names,
        given.tolist(),
        predicted.tolist(),
        scores.tolist(),
        queued=queued.tolist(),
        audited=audited.tolist(),
        twins=queued[:6].tolist(),
        extra={
            "line": pa.array(line.tolist()),
            "shift": pa.array(rng.choice(["early", "late", "night"], num).tolist()),
            "captured_at": pa.array(times, pa.timestamp("us", tz="UTC")),
            "duplicate_set": pa.array([_twin_set(row, queued[:6].tolist()) for row in range(num)], pa.int64()),
        },
        rejects=[("part_90001", "missing")],
        gates=[
            {
                "check": "imbalance",
                "outcome": "pass",
                "value": 7.5,
                "limit": 1000.0,
                "config_key": "gates.class_distribution.max_imbalance",
                "sentence": "the largest class over the smallest: 7.5 (at most 1000).",
                "forbids": [],
            }
        ],
    )


def around_the_labels(made: Made) -> Made:
    """The same run with splits that leak, a camera and a brightness that tell the label, and pictures that show no part."""
    ids, splits = made.sample_ids(), ["test" if row % 4 == 0 else "train" for row in range(len(made.given))]
    sets = [row // 4 if row < 60 and row % 4 < 2 else None for row in range(len(ids))]
    codes, names = split_codes(pa.chunked_array([splits]))
    leaks = Leaks(np.array([-1 if one is None else one for one in sets]), codes, names)
    shortcuts = []
    for name, is_property, gain in (("camera", False, 0.41), ("brightness", True, 0.12), ("shift", False, -0.01)):
        value = {"value": "0.11 – 0.23" if is_property else "C7", "num": 40, "share": 0.9, "usual": 0.31}
        example = value | {"class_name": made.names[0], "sample_ids": ids[60:64]}
        measured = {"name": name, "is_property": is_property, "gain": gain, "chance": 0.013, "share": gain / 1.5}
        is_telling = {"exceeds_chance": gain > 0.013, "num": 600, "examples": [example] if gain > 0.013 else []}
        shortcuts.append(measured | is_telling)
    extra = made.extra | {"split": pa.array(splits), "leak_set": pa.array(sets, pa.int64())}
    odd = [{"sample_id": sample, "reasons": ["dark", "odd_size"]} for sample in ids[70:75]]
    unusable = {"num": 30, "by_reason": {"dark": 30, "odd_size": 5}, "num_unmeasured": 3, "examples": odd}
    return replace(made, extra=extra, summary={"leaks": leaks.record(), "shortcuts": shortcuts, "unusable": unusable})


def _shares(num_classes: int) -> list[float]:
    weights = np.array([2.0 ** -min(k, 5) for k in range(num_classes)])
    return list(weights / weights.sum())


def _twin_set(row: int, twins: list[int]) -> int | None:
    return twins.index(row) // 3 if row in twins else None


def hostile() -> Made:
    """Names that try to break out of the page."""
    names = [
        '<script>alert("x")</script>',
        '"><img src=x onerror=alert(1)>',
        "ok' onmouseover='alert(2)",
        "\u202egnp.exe",
    ]
    ids = [f"{k}<b>&amp;{{{{7*7}}}}" for k in range(8)]
    return Made(
        names,
        [0, 0, 1, 1, 2, 2, 3, 3],
        [0, 1, 1, 2, 2, 3, 3, 0],
        [0.99, 0.02, 0.98, 0.05, 0.97, 0.1, 0.96, 0.2],
        queued=[1, 3, 5, 7],
        audited=[2],
        twins=[0, 1],
        extra={"li<ne": pa.array(["</td><svg onload=alert(3)>", "b"] * 4)},
        rejects=[("</script><script>alert(4)</script>", "missing")],
        ids=ids,
    )
