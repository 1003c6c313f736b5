"""Export folders: previews, blind tasks, parts, resume; for every tool."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from labelclean.config import config_record
from labelclean.errors import ExchangeError, StorageError
from labelclean.review.exchange import package
from labelclean.review.exchange import tools as exchange
from labelclean.review.exchange.manifest import read_manifest
from labelclean.review.exchange.tools import TOOLS, Tool, export_run
from labelclean.storage.parquet import write_table
from tests.review.exchange import conftest
from tests.review.exchange.conftest import DRAWN, NAMES, RUN_ID, make_run

AUDIT = ("s3", "s7", "s11")


def text_of_task(export: Path, tool: Tool, sample: str) -> str:
    """Everything that a tool's files say about one sample."""
    key = next(item.key for item in read_manifest(export).items if item.sample_id == sample)
    found = []
    for file in export.glob("part_*/*"):
        if file.suffix == ".json":
            content = json.loads(file.read_text(encoding="utf-8"))
            rows = content if isinstance(content, list) else [[k, v] for k, v in content["labels"].items()]
            found += [json.dumps(row, ensure_ascii=False) for row in rows if key in json.dumps(row)]
        elif file.is_file():
            blocks = file.read_text(encoding="utf-8").split("<image" if file.suffix == ".xml" else "\n")
            found += [block for block in blocks if key in block]
    return "\n".join(found)


@pytest.mark.parametrize("tool", TOOLS)
def test_the_audit_slice_carries_no_suggestion_score_or_label_anywhere(
    exported: Callable[[Tool], Path], tool: Tool
) -> None:
    for sample in AUDIT:
        text = text_of_task(exported(tool), tool, sample)
        assert 'lc_reason": ""' in text or tool != "label-studio"
        assert "0.8" not in text
        assert str(DRAWN) not in text
        hints = ("predictions", "lc_suggestion", "other_class", "random_audit", "inclusion_probability")
        assert not any(word in text for word in hints)
        assert not any(name.replace("&", "&amp;") in text or name in text for name in NAMES[1:])
    shown = text_of_task(exported(tool), tool, "s0")
    assert "傷" in shown or tool == "fiftyone"


@pytest.mark.parametrize(
    ("tool", "suggested", "waiting"),
    [
        ("label-studio", '"predictions"', '"lc_reason": "readings_differ (dent & crack?), narrow_margin"'),
        ("cvat", 'name="lc_label">傷<', 'name="lc_reason">readings_differ (dent &amp; crack?), narrow_margin<'),
        ("csv", ",ok,傷,ok,0.01,", ',傷,,dent & crack,0.205,"readings_differ, narrow_margin"'),
        ("huggingface", '"predicted_label": "傷"', '"predicted_label": "", "runner_up_label": "dent & crack"'),
        ("fiftyone", '"predicted_label": "傷"', '"predicted_label": null'),
    ],
)
def test_a_suspect_that_waits_for_eyes_shows_the_other_possibility_and_no_suggestion(
    tmp_path: Path, tool: Tool, suggested: str, waiting: str
) -> None:
    export = export_run(make_run(tmp_path, 3, waiting=[1]), tool, tmp_path / "out").folder  # s1: 傷 or dent & crack
    changed, waits = (text_of_task(export, tool, sample) for sample in ("s0", "s1"))
    assert suggested in changed
    assert waiting in waits
    assert suggested not in waits
    assert "readings_differ" in waits


@pytest.mark.parametrize("tool", TOOLS)
def test_previews_are_8_bit_pictures_of_the_decode_policy_with_plain_names(
    exported: Callable[[Tool], Path], run_folder: Path, tool: Tool
) -> None:
    export = exported(tool)
    previews = {file.stem: file for file in export.rglob("*.png")}
    manifest = read_manifest(export)
    assert set(previews) == {item.key for item in manifest.items}
    assert all(name.isascii() and " " not in name for name in previews)
    deep = next(item for item in manifest.items if item.sample_id == "s1")
    shown = np.asarray(Image.open(previews[deep.key]))
    stored = np.asarray(Image.open(run_folder.parent.parent / "data/images/1 北.png")).astype(float)
    low, high = np.percentile(stored, [0.1, 99.9])  # window `auto`: percentiles for deep files
    assert shown.dtype == np.uint8
    np.testing.assert_allclose(shown, np.clip((stored - low) / (high - low), 0, 1) * 255, atol=1)


def test_the_queues_order_is_kept_and_the_manifest_names_run_data_set_and_classes(
    exported: Callable[[Tool], Path],
) -> None:
    manifest = read_manifest(exported("csv"))
    assert [item.sample_id for item in manifest.items] == [f"s{k}" for k in range(12)]
    assert (manifest.run_id, manifest.dataset, manifest.class_names) == (RUN_ID, "line 3 (北)", NAMES)
    assert manifest.num_parts == 3


def test_images_that_give_no_preview_are_listed_and_not_exported(tmp_path: Path) -> None:
    run = make_run(tmp_path, 4)
    images = tmp_path / "data" / "images"
    (images / "1 北.png").write_bytes(b"not a picture")
    (images / "2 北.png").unlink()
    before = {file.name: file.read_bytes() for file in images.iterdir()}
    report = export_run(run, "csv", tmp_path / "out")
    assert {row.sample_id: row.reason_code for row in report.unreadable} == {"s1": "content_changed", "s2": "missing"}
    assert (report.num_tasks, report.num_blind) == (2, 1)
    assert [item.sample_id for item in read_manifest(tmp_path / "out").items] == ["s0", "s3"]
    assert {file.name: file.read_bytes() for file in images.iterdir()} == before


def test_image_bytes_in_the_labels_table_are_shown_too(tmp_path: Path) -> None:
    run = make_run(tmp_path, 3)
    labels = tmp_path / "data" / "labels.parquet"
    table = pq.read_table(labels)
    images = [(tmp_path / "data" / path).read_bytes() for path in table.column("image_path").to_pylist()]
    pq.write_table(table.append_column("image", pa.array(images)), labels)
    for file in (tmp_path / "data" / "images").iterdir():
        file.unlink()
    report = export_run(run, "huggingface", tmp_path / "out")
    assert (report.num_tasks, report.unreadable) == (3, ())


@pytest.mark.slow
def test_a_killed_export_goes_on_without_writing_finished_parts_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path, 250)
    monkeypatch.setattr("labelclean.storage.parquet.sync", lambda _: None)  # 500 fsyncs are not what is tested
    real, calls = package._write_once, []

    def killed(path: Path, data: bytes) -> bool:
        calls.append(path)
        if len(calls) == 150:
            raise KeyboardInterrupt
        return real(path, data)

    monkeypatch.setattr(package, "_write_once", killed)
    with pytest.raises(KeyboardInterrupt):
        export_run(run, "label-studio", tmp_path / "out", part_size=100)
    assert not (tmp_path / "out" / "manifest.json").exists()
    first = tmp_path / "out" / "part_001" / "tasks.json"
    written = first.stat().st_mtime_ns
    monkeypatch.setattr(package, "_write_once", real)
    report = export_run(run, "label-studio", tmp_path / "out", part_size=100)
    assert (report.num_tasks, report.num_parts, report.num_written) == (250, 3, 2)
    assert first.stat().st_mtime_ns == written
    sizes = [len(json.loads(part.read_text())) for part in sorted((tmp_path / "out").glob("part_*/tasks.json"))]
    assert sizes == [100, 100, 50]
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "config.xml",
        "manifest.json",
        "part_001",
        "part_002",
        "part_003",
    ]
    assert export_run(run, "label-studio", tmp_path / "out", part_size=100).num_written == 0


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path, run_folder: Path) -> None:
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(ExchangeError, match=r"new or empty folder, but holds 'letter.txt'"):
        export_run(run_folder, "csv", tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["letter.txt"]


def test_another_export_in_the_folder_is_refused_with_both_names(
    exported: Callable[[Tool], Path], tmp_path: Path
) -> None:
    other = make_run(tmp_path, 3, run_id="2026-01-15T020000.000Z")
    with pytest.raises(ExchangeError, match=r"2026-01-14T020000.000Z.*2026-01-15T020000.000Z"):
        export_run(other, "csv", exported("csv"))


def test_a_changed_run_is_not_exported(tmp_path: Path) -> None:
    run = make_run(tmp_path, 3)
    queue = run / "review_queue.parquet"
    pq.write_table(pq.read_table(queue).slice(1), queue)
    with pytest.raises(StorageError, match="not the one the run published"):
        export_run(run, "csv", tmp_path / "out")


def test_an_unknown_tool_is_refused(run_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ExchangeError, match=r"'csv', 'cvat'.*but is 'labelbox'"):
        exchange.export_run(run_folder, "labelbox", tmp_path / "out")  # type: ignore[arg-type]


def test_a_wholly_blind_export_shows_no_suggestion(tmp_path: Path, run_folder: Path) -> None:
    report = export_run(run_folder, "label-studio", tmp_path / "out", suggestions=False)
    assert report.num_blind == report.num_tasks == 12
    tasks: list[dict[str, Any]] = json.loads((tmp_path / "out/part_001/tasks.json").read_text())
    assert not any("predictions" in task or "lc_given_label" in task["data"] for task in tasks)


def test_large_pictures_are_made_smaller(tmp_path: Path, run_folder: Path) -> None:
    export_run(run_folder, "csv", tmp_path / "out", max_side=4)
    first = next((tmp_path / "out").rglob("*.png"))
    assert Image.open(io.BytesIO(first.read_bytes())).size == (4, 3)


def test_a_run_that_an_older_version_left_is_exported_and_drew_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def old_table(path: Path, table: Any, name: str, *rest: Any) -> None:
        write_table(
            path, table.drop_columns(["inclusion_probability"]) if name == "review_queue" else table, name, *rest
        )

    def old_config(config: Any) -> dict[str, Any]:
        return config_record(config) | {"review": {"audit_share": 0.05}}

    monkeypatch.setattr(conftest, "write_table", old_table)
    monkeypatch.setattr(conftest, "config_record", old_config)
    report = export_run(make_run(tmp_path, 4), "csv", tmp_path / "out")
    assert (report.num_tasks, report.num_blind) == (4, 1)
    assert {item.inclusion_probability for item in read_manifest(tmp_path / "out").items} == {None}
