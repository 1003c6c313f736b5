"""Several labels on one picture to the sheet, Label Studio and CVAT, and strictly back."""

from __future__ import annotations

import csv
import io
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from labelclean.config import Config, config_record
from labelclean.errors import ExchangeError
from labelclean.features.image_files import content_hash
from labelclean.review.exchange.label_studio import labelling_config
from labelclean.review.exchange.manifest import read_manifest
from labelclean.review.exchange.tools import export_run, import_decisions
from labelclean.storage.parquet import write_json, write_table
from labelclean.storage.run_folders import publish_run
from labelclean.storage.tables import vectors
from tests.review.exchange.conftest import picture
from tests.review.exchange.test_sheet import data_of

NAMES = ("dent", "scratch", "stain")
GIVEN = [["dent"], [], ["scratch", "stain"], ["stain"], []]
PREDICTED = [["dent", "scratch"], ["stain"], ["scratch"], ["stain"], []]
NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of five pictures; the last was drawn at random."""
    root, num = tmp_path / "data", len(GIVEN)
    root.mkdir()
    ids, paths = [f"s{k}" for k in range(num)], [f"{k}.png" for k in range(num)]
    for k, path in enumerate(paths):
        (root / path).write_bytes(picture(k))
    hashes = [content_hash(picture(k)) for k in range(num)]
    lists = pa.list_(pa.string())
    given, predicted = pa.array(GIVEN, lists), pa.array(PREDICTED, lists)
    pq.write_table(pa.table({"sample_id": ids, "image_path": paths, "given_label": given}), root / "labels.parquet")
    config = Config.model_validate(
        {
            "data": {"labels": root / "labels.parquet", "class_names": NAMES},
            "backbone": {"name": "resnet10t"},
            "run": {"seed": 0},
            "storage": {"runs": tmp_path / "runs", "cache": tmp_path / "cache"},
        }
    )
    pairs = list(zip(GIVEN, PREDICTED, strict=True))
    base = {
        "sample_id": ids, "image_path": paths, "given_labels": given, "predicted_labels": predicted, "content_hash": hashes,
        "missing_labels": pa.array([sorted(set(new) - set(old)) for old, new in pairs], lists),
        "spurious_labels": pa.array([sorted(set(old) - set(new)) for old, new in pairs], lists),
        "label_score": pa.array(np.linspace(0.1, 0.9, num), pa.float32()),
    }  # fmt: skip
    work = tmp_path / "runs" / ".work-r1"
    work.mkdir(parents=True)
    soft = vectors(np.full((num, 3), 0.7, dtype=np.float32))
    refined = pa.table(base | {"soft_label": soft, "is_label_issue": [True] * num})
    write_table(work / "refined_labels.parquet", refined, "refined_labels", NAMES)
    sources = ["ranked"] * (num - 1) + ["random_audit"]
    drawn = [None] * (num - 1) + [0.2]
    queue = base | {
        "rank": list(range(1, num + 1)), "queue_source": sources, "inclusion_probability": pa.array(drawn, pa.float32()),
        "neighbour_ids": [["s3"]] * num,
    }  # fmt: skip
    write_table(work / "review_queue.parquet", pa.table(queue), "review_queue", NAMES)
    write_json(work / "summary.json", {"several_labels": True})
    return publish_run(work, "r1", {"run_id": "r1", "dataset": "data", "config": config_record(config)})


def decided(export: Path, rows: list[tuple[str, list[str]]]) -> Path:
    """The file that the sheet's Download decisions saves."""
    data, items = data_of(export), read_manifest(export).items
    decisions = [
        {"key": item.key, "content_hash": item.content_hash, "decision": word, "labels": labels, "annotator": "Aiko",
         "reviewed_at": "2026-11-29T10:00:00.000Z"}
        for item, (word, labels) in zip(items, rows, strict=False)
    ]  # fmt: skip
    head = {name: data[name] for name in ("format", "tool", "run_id", "dataset", "export")}
    path = export.parent / "decisions.json"
    path.write_text(json.dumps(head | {"num_decisions": len(decisions), "decisions": decisions}), encoding="utf-8")
    return path


def test_the_sheet_asks_for_sets_and_its_decisions_come_back_as_sets(run: Path, tmp_path: Path) -> None:
    export = export_run(run, "sheet", tmp_path / "out").folder
    data = data_of(export)
    assert data["several"] is True
    assert data["tasks"][0] | {"thumb": ""} == {
        "key": data["tasks"][0]["key"], "hash": data["tasks"][0]["hash"], "thumb": "", "name": "0.png", "given": ["dent"],
        "suggested": ["dent", "scratch"], "missing": ["scratch"], "spurious": [], "score": 0.1, "near": [],
    }  # fmt: skip
    assert set(data["tasks"][4]) == {"key", "hash", "thumb"}  # blind
    assert data["texts"]["en"]["choose"] == "What is on it?"
    assert data["texts"]["ja"]["none"] == "ラベルなし"
    answers = [
        ("corrected", ["scratch", "dent"]), ("confirmed", []), ("corrected", []), ("unsure", []), ("label", ["dent"]),
    ]  # fmt: skip
    _, found = import_decisions(decided(export, answers), "sheet", export, now=NOW)
    said = [
        (one.sample_id, one.given_label, one.decision, one.verified_labels, one.inclusion_probability) for one in found
    ]
    assert said == [
        ("s0", '["dent"]', "corrected", ("dent", "scratch"), None),
        ("s1", "[]", "confirmed", (), None),
        ("s2", '["scratch", "stain"]', "corrected", (), None),
        ("s3", '["stain"]', "unsure", None, None),
        ("s4", "[]", "corrected", ("dent",), pytest.approx(0.2)),
    ]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (("confirmed", ["stain"]), "is 'confirmed' with labels 'stain', but the given labels are"),
        (("corrected", ["dent"]), "is 'corrected' with labels 'dent', but the given labels are"),
        (("one_of", ["dent", "stain"]), "'one_of' means nothing where an image may have several labels"),
        (("corrected", ["crack"]), "1 classes are unknown: 'crack'"),
        (("unsure", ["dent"]), "'unsure' with a label"),
    ],
)
def test_decisions_that_contradict_themselves_are_refused(
    run: Path, tmp_path: Path, answer: tuple[str, list[str]], said: str
) -> None:
    export = export_run(run, "sheet", tmp_path / "out").folder
    with pytest.raises(ExchangeError, match=said):
        import_decisions(decided(export, [answer]), "sheet", export, now=NOW)


def test_label_studio_ticks_several_choices_and_tells_no_label_from_no_answer(run: Path, tmp_path: Path) -> None:
    export = export_run(run, "label-studio", tmp_path / "out").folder
    assert '<Choices name="label" toName="image" choice="multiple"' in (export / "config.xml").read_text()
    assert "lc_one_of" not in (export / "config.xml").read_text()
    assert 'choice="single"' in labelling_config(NAMES)
    assert "no_label" not in labelling_config(NAMES)
    tasks = json.loads((export / "part_001" / "tasks.json").read_text())
    assert tasks[0]["predictions"][0]["result"][0]["value"] == {"choices": ["dent", "scratch"]}
    assert tasks[1]["data"]["lc_given_label"] == "no_label"
    assert tasks[1]["data"]["lc_reason"] == "+ stain?"
    assert "predictions" not in tasks[4]

    def choices(**controls: list[str]) -> list[dict[str, Any]]:
        return [{"type": "choices", "from_name": name, "value": {"choices": v}} for name, v in controls.items()]

    answers = [
        choices(label=["scratch", "dent"]), choices(lc_flag=["no_label"]), choices(label=["dent"], lc_flag=["no_label"]),
        choices(lc_flag=["bad_image"]), choices(label=["dent"]),
    ]  # fmt: skip
    for task, result in zip(tasks, answers, strict=True):
        task["annotations"] = [{"completed_by": 1, "updated_at": "2026-11-29T10:00:00Z", "result": result}]
    file = tmp_path / "back.json"
    file.write_text(json.dumps(tasks))
    report, found = import_decisions(file, "label-studio", export, now=NOW, partial=True)
    assert [(one.sample_id, one.decision, one.verified_labels) for one in found] == [
        ("s0", "corrected", ("dent", "scratch")), ("s1", "confirmed", ()), ("s3", "bad_image", None), ("s4", "corrected", ("dent",)),
    ]  # fmt: skip
    assert "says no_label and 'dent' at once" in report.conflicting[0]


def test_cvat_tags_are_a_set_and_an_untagged_image_is_no_answer(run: Path, tmp_path: Path) -> None:
    export = export_run(run, "cvat", tmp_path / "out").folder
    names = [label["name"] for label in json.loads((export / "labels.json").read_text())]
    assert names == [*NAMES, "lc_no_label", "lc_unsure", "lc_bad_image", "lc_suggestion"]
    path = export / "part_001" / "annotations.xml"
    root = ElementTree.parse(path).getroot()
    images = root.findall("image")
    told = {one.get("name"): one.text for one in images[0].iter("attribute")}
    assert told["lc_label"] == "dent, scratch"
    assert told["lc_reason"] == "+ scratch?"
    assert not list(images[4])
    for image, tags in zip(
        images, [["dent", "stain"], ["lc_no_label"], [], ["dent", "lc_no_label"], ["lc_unsure"]], strict=True
    ):
        for tag in tags:
            ElementTree.SubElement(image, "tag", label=tag)
    file = tmp_path / "annotations.xml"
    file.write_bytes(ElementTree.tostring(root))
    report, found = import_decisions(file, "cvat", export, now=NOW, partial=True)
    assert [(one.sample_id, one.decision, one.verified_labels) for one in found] == [
        ("s0", "corrected", ("dent", "stain")), ("s1", "confirmed", ()), ("s4", "unsure", None),
    ]  # fmt: skip
    assert "says lc_no_label and 'dent' at once" in report.conflicting[0]


def csv_rows_of(export: Path) -> list[dict[str, str]]:
    text = (export / "part_001" / "queue.csv").read_text(encoding="utf-8-sig")
    return list(csv.DictReader(io.StringIO(text)))


def csv_answers(export: Path, rows: list[dict[str, str]]) -> Path:
    """The table as a spreadsheet saves it."""
    path = export.parent / "back.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_a_spreadsheet_takes_all_labels_of_an_image_in_one_cell(run: Path, tmp_path: Path) -> None:
    report = export_run(run, "csv", tmp_path / "out")
    assert "no_label" in report.next_step
    rows = csv_rows_of(report.folder)
    shown = [(row["given_label"], row["predicted_label"], row["reasons"]) for row in rows]
    assert shown == [
        ("dent", "dent | scratch", "'+ scratch?"), ("[]", "stain", "'+ stain?"), ("scratch | stain", "scratch", "'- stain?"),
        ("stain", "stain", ""), ("", "", ""),
    ]  # fmt: skip
    cells = [("scratch|dent", ""), ("", "no_label"), ("", "confirmed"), ("", "unsure"), ("[]", "")]
    for row, (label, decision) in zip(rows, cells, strict=True):
        row |= {"label": label, "decision": decision, "annotator_id": "Aiko"}
    _, decisions = import_decisions(csv_answers(report.folder, rows), "csv", report.folder, now=NOW)
    assert [(one.sample_id, one.decision, one.verified_labels) for one in decisions] == [
        ("s0", "corrected", ("dent", "scratch")), ("s1", "confirmed", ()), ("s2", "confirmed", ("scratch", "stain")),
        ("s3", "unsure", None), ("s4", "confirmed", ()),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ({"label": "dent", "decision": "no_label"}, "says no_label and 'dent' at once"),
        ({"label": "dent", "decision": "one_of"}, "decision 'one_of' is none of"),
        ({"label": "crack"}, "1 classes are unknown: 'crack'"),
        ({"label": "stain", "decision": "confirmed"}, "is 'confirmed' with labels 'stain', but the given labels are"),
        ({"decision": "corrected"}, "'corrected' without a label"),
        ({"given_label": "stain"}, "nothing says that this is an answer"),
    ],
)
def test_rows_of_a_spreadsheet_that_contradict_themselves_are_refused(
    run: Path, tmp_path: Path, cells: dict[str, str], said: str
) -> None:
    export = export_run(run, "csv", tmp_path / "out").folder
    rows = csv_rows_of(export)
    rows[0] |= cells
    with pytest.raises(ExchangeError, match=said):
        import_decisions(csv_answers(export, rows), "csv", export, now=NOW)


def test_an_untouched_spreadsheet_answers_nothing(run: Path, tmp_path: Path) -> None:
    export = export_run(run, "csv", tmp_path / "out").folder
    report, decisions = import_decisions(csv_answers(export, csv_rows_of(export)), "csv", export, now=NOW)
    assert (report.num_unanswered, decisions) == (5, ())


@pytest.mark.parametrize("tool", ["fiftyone", "huggingface"])
def test_other_tools_are_refused_by_name(run: Path, tmp_path: Path, tool: Any) -> None:
    with pytest.raises(ExchangeError, match=re.escape("Name 'csv', 'cvat', 'label-studio', 'sheet'")):
        export_run(run, tool, tmp_path / "out")
    assert not (tmp_path / "out").exists()
