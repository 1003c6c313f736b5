"""A run on boxes, from the tool's file through review and back into it; wrong classes, conflicts and doubles are planted."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from labelclean.config import Config
from labelclean.errors import ConfigError
from labelclean.features.boxes import SHOWN_PX, Box, Cut
from labelclean.features.decode import place_image, preview_image
from labelclean.review.apply import apply_labels
from labelclean.review.boxes.files import BoxSource, box_files
from labelclean.review.decisions import Decision
from labelclean.review.exchange.tools import export_run
from labelclean.runs import extract, label_parts, steps
from labelclean.starting.source import Asked
from labelclean.storage.parquet import read_config, read_json, read_table
from labelclean.trial.first_config import write_first_config
from sample_data.sheets import CLASSES, Sheet, sheet, with_wrong_labels
from tests.made_boxes import FORMATS, Page, write_boxes
from tests.review.boxes.test_formats import READ
from tests.review.exchange.test_sheet import data_of

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]
NUM_SHEETS = 26
CONFLICT, DOUBLE = 0, 1
"""Sheets whose first box is drawn twice: with another class, and with the same."""


@dataclass(frozen=True)
class Made:
    """Sheets with planted faults, in a folder with the network's settings."""

    folder: Path
    pages: list[Page]
    truth: dict[tuple[str, Box], str]

    def config(self, path: Path, name: str, *overrides: str, boxes: bool | None = None) -> Config:
        """What `init` writes for a file, with the sample's network and a common cache."""
        out = self.folder / f"{name}.yaml"
        root = None if path.is_dir() and path.name != "Annotations" else self.folder / "images"
        write_first_config(path, out, force=True, asked=Asked(boxes=boxes, image_root=root))
        text = out.read_text(encoding="utf-8")
        own = re.search(
            r"^backbone:\n.*?(?=^# |\Z)", (ROOT / "config.yaml").read_text(), flags=re.DOTALL | re.MULTILINE
        )
        assert own is not None
        network = own.group().replace("sample_data/backbone", str(ROOT / "sample_data" / "backbone"))
        out.write_text(re.sub(r"^backbone:\n.*?(?=^# |\Z)", lambda _: network, text, flags=re.DOTALL | re.MULTILINE))
        places = [f"storage.runs={self.folder / name}", f"storage.cache={self.folder / 'cache'}"]
        return read_config(out, [*places, "expectations.enabled=false", *overrides])

    def run(self, config: Config) -> Path:
        return steps.clean(config, clock=lambda: datetime(2026, 1, 14, 2, tzinfo=UTC))


def planted(sheets: list[Sheet], labels: list[tuple[str, ...]]) -> list[Page]:
    """Pages of the sheets; two have a box twice, one a box outside and one without area."""
    pages = []
    for number, (one, given) in enumerate(zip(sheets, labels, strict=True)):
        height, width = one.grey.shape
        boxes: list[tuple[float, float, float, float]] = [tuple(map(float, box)) for box in one.boxes]  # type: ignore[misc]
        names = list(given)
        if number in (CONFLICT, DOUBLE):
            x, y, across, down = boxes[0]
            boxes.append((x, y, across, round(down * 0.95, 3)))
            names.append(names[0] if number == DOUBLE else next(name for name in CLASSES if name != names[0]))
        if number == 2:
            boxes += [(width + 50.0, 5.0, 10.0, 10.0), (5.0, 5.0, 0.0, 10.0)]
            names += [CLASSES[0], CLASSES[1]]
        pages.append(Page(f"{number:02}.png", width, height, boxes, names))
    return pages


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("sheets")
    rng = np.random.default_rng(20)
    sheets = [sheet(rng) for _ in range(NUM_SHEETS)]
    (folder / "images").mkdir()
    for number, one in enumerate(sheets):
        Image.fromarray(one.grey).save(folder / "images" / f"{number:02}.png", compress_level=1)
    labels, _ = with_wrong_labels(rng, sheets, 0.1)
    truth = {
        (f"{number:02}.png", Box(*map(float, box))): label
        for number, one in enumerate(sheets)
        for box, label in zip(one.boxes, one.labels, strict=True)
    }
    return Made(folder, planted(sheets, labels), truth)


@pytest.fixture(scope="module")
def coco_run(made: Made) -> Path:
    """A published run on the COCO file."""
    return made.run(made.config(write_boxes("coco", made.pages, made.folder), "coco"))


def boxes_of(run: Path) -> list[dict[str, Any]]:
    """Rows of the run with the box, most doubtful first."""
    rows = read_table(run / "refined_labels.parquet", "refined_labels").to_pylist()
    sides = ("box_x_px", "box_y_px", "box_width_px", "box_height_px")
    rows = [
        row | {"box": Box(*(round(row[side], 3) for side in sides)), "name": Path(row["image_path"]).name}
        for row in rows
    ]
    return sorted(rows, key=lambda row: row["label_score"])


def reasons_of(run: Path) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for row in read_table(run / "flags.parquet", "flags").to_pylist():
        found.setdefault(row["sample_id"], set()).add(row["reason"])
    return found


def test_wrong_classes_are_found_far_ahead_of_chance(made: Made, coco_run: Path) -> None:
    rows = [row for row in boxes_of(coco_run) if (row["name"], row["box"]) in made.truth]
    wrong = np.array([made.truth[row["name"], row["box"]] != row["given_label"] for row in rows])
    assert len(wrong) > 90
    assert wrong.sum() >= 9
    precision = (np.cumsum(wrong) / np.arange(1, len(wrong) + 1))[wrong].mean()
    assert precision > 4 * wrong.mean()  # a tenth by chance


def test_boxes_outside_or_without_area_are_rejects(coco_run: Path) -> None:
    rows = read_table(coco_run / "rejects.parquet", "rejects").to_pylist()
    assert sorted(row["reason_code"] for row in rows) == ["box_empty", "box_outside"]
    assert {row["image_path"] for row in rows} == {"02.png"}
    assert all("box '5" in row["message"] for row in rows)


def test_one_place_and_two_classes_are_a_conflict_and_one_class_a_double(made: Made, coco_run: Path) -> None:
    reasons, rows = reasons_of(coco_run), boxes_of(coco_run)
    sources = {
        row["sample_id"]: row["queue_source"]
        for row in read_table(coco_run / "review_queue.parquet", "review_queue").to_pylist()
    }
    for number, flag in ((CONFLICT, "box_conflict"), (DOUBLE, "box_double")):
        page = made.pages[number]
        first, second = page.boxes[0], page.boxes[-1]
        pair = [row for row in rows if row["image_path"] == page.name and row["box"] in (first, second)]
        assert len(pair) == 2
        assert all(flag in reasons[row["sample_id"]] for row in pair)
        assert len({row["duplicate_set"] for row in pair} - {None}) == 1
        assert {sources[row["sample_id"]] for row in pair} <= {"conflict_group", "box_double", "random_audit"}
    marked = [sample for sample, found in reasons.items() if found & {"box_conflict", "box_double"}]
    assert len(marked) == 4
    assert all("conflict_group" in reasons[sample] for sample in marked if "box_conflict" in reasons[sample])


def test_report_and_sheet_show_the_piece_and_where_it_lies(made: Made, coco_run: Path, tmp_path: Path) -> None:
    html = (coco_run / "report.html").read_text(encoding="utf-8")
    assert html.count('class="where"') >= 20
    assert 'id="doubles"' in html
    assert "Another box at the same place carries another label." in html
    done = export_run(coco_run, "sheet", tmp_path / "sheet")
    assert not done.unreadable
    data = data_of(tmp_path / "sheet")
    assert all(task["at"].startswith("data:image/jpeg;base64,") for task in data["tasks"])
    row = read_table(coco_run / "review_queue.parquet", "review_queue").to_pylist()[0]
    key = next(
        item["key"]
        for item in read_json(tmp_path / "sheet" / "manifest.json")["items"]
        if item["sample_id"] == row["sample_id"]
    )
    image = (made.folder / "images" / row["image_path"]).read_bytes()
    box = Box(*(row[side] for side in ("box_x_px", "box_y_px", "box_width_px", "box_height_px")))
    policy = made.config(made.folder / "instances.json", "again").decode
    shown = tmp_path / "sheet" / "part_001"
    assert (shown / "images" / f"{key}.png").read_bytes() == preview_image(
        image, policy, 2048, cut=Cut(box, 0.1, SHOWN_PX)
    )
    assert (shown / "places" / f"{key}.jpg").read_bytes() == place_image(image, policy, 360, box)


def correct(run: Path, truth: dict[tuple[str, Box], str]) -> list[Decision]:
    """People say of every flagged box what it is."""
    manifest = read_json(run / "manifest.json")
    said = []
    for row in boxes_of(run):
        true = truth.get((row["name"], row["box"]))
        if row["is_label_issue"] and true is not None:
            kind = "confirmed" if true == row["given_label"] else "corrected"
            said.append(
                Decision(
                    sample_id=row["sample_id"],
                    content_hash=row["content_hash"],
                    given_label=row["given_label"],
                    decision=kind,  # type: ignore[arg-type]
                    verified_label=true,
                    annotator_id="anna",
                    reviewed_at=datetime(2026, 1, 15, tzinfo=UTC),
                    run_id=manifest["run_id"],
                    dataset=manifest["dataset"],
                    tool="csv",
                )
            )
    return said


def round_trip(made: Made, run: Path, source: BoxSource, out: Path) -> None:
    """Apply what people said; in the file only the classes that this changes are others."""
    decisions = correct(run, made.truth)
    assert sum(decision.decision == "corrected" for decision in decisions) >= 4
    apply_labels(run, decisions, out, unreviewed=True, to="original")
    before = {box.sample_id: box for box in READ[source.form](box_files(source), source.path).boxes}
    after = {box.sample_id: box for box in READ[source.form](box_files(replace(source, path=out)), out).boxes}
    assert after.keys() == before.keys()
    expected = {row["sample_id"]: row["predicted_label"] for row in boxes_of(run)}
    expected |= {decision.sample_id: str(decision.verified_label) for decision in decisions}
    for sample, box in after.items():
        assert box.label == expected.get(sample, before[sample].label)  # a reject stays as it was
        assert replace(box, label=before[sample].label) == before[sample]


def test_coco_goes_through_review_and_back(made: Made, coco_run: Path, tmp_path: Path) -> None:
    source = BoxSource("coco", made.folder / "instances.json")
    round_trip(made, coco_run, source, tmp_path / "new.json")
    old, new = (path.read_text(encoding="utf-8").splitlines() for path in (source.path, tmp_path / "new.json"))
    assert len(old) == len(new)
    changed = [(a, b) for a, b in zip(old, new, strict=True) if a != b]
    assert changed
    assert all(
        re.fullmatch(r'   "category_id": \d+,', a) and re.fullmatch(r'   "category_id": \d+,', b) for a, b in changed
    )
    report = apply_labels(coco_run, [], tmp_path / "same.json", unreviewed=True)
    assert report.left_out == {"boxes that cannot be used (they stand in the file as they were)": 2}


def test_boxes_are_no_folder_of_images_and_no_file_that_they_did_not_come_from(
    made: Made, coco_run: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"boxes are written as a table .* or into the format that they came in"):
        apply_labels(coco_run, [], tmp_path / "x", unreviewed=True, to="folder")
    apply_labels(coco_run, [], tmp_path / "x.parquet", unreviewed=True)


@pytest.mark.long
@pytest.mark.parametrize("form", sorted(set(FORMATS) - {"coco"}))
def test_every_other_format_goes_through_review_and_back(form: str, made: Made, coco_run: Path, tmp_path: Path) -> None:
    assert coco_run.is_dir()  # its features are in the cache
    place = made.folder / form if form == "yolo" else made.folder  # a folder of its own: elsewhere Parquet lies beside
    place.mkdir(exist_ok=True)
    if form == "yolo":
        shutil.copytree(made.folder / "images", place / "images", dirs_exist_ok=True)
    path = write_boxes(form, made.pages, place)
    run = made.run(made.config(path, form))
    folders = form in ("voc", "yolo")
    round_trip(made, run, BoxSource(form, path), tmp_path / ("new" if folders else f"new{path.suffix}"))


@pytest.mark.long
def test_a_run_in_parts_says_the_same(
    made: Made, coco_run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(label_parts, "PART_ROWS", 40)
    monkeypatch.setattr(extract, "PART_ROWS", 30)
    file = made.folder / "instances.json"
    config = made.config(
        file, "parts", "run.in_memory_samples=0", f"storage.cache={tmp_path / 'cache'}", "neighbours.method=none"
    )
    whole = made.run(made.config(file, "whole", "neighbours.method=none"))
    parts = made.run(config)
    for name in ("rejects", "refined_labels", "flags", "review_queue"):
        one, other = (read_table(run / f"{name}.parquet", name) for run in (whole, parts))
        columns = [name for name in one.column_names if not pa.types.is_floating(one.schema.field(name).type)]
        columns = [name for name in columns if name not in ("soft_label", "given_votes")]
        assert one.select(columns).equals(other.select(columns)), name


@pytest.mark.long
def test_the_margin_is_part_of_the_cache_key(made: Made, coco_run: Path) -> None:
    assert coco_run.is_dir()
    wide = made.run(made.config(made.folder / "instances.json", "wide", "data.box_margin=0.3"))
    stores = list((made.folder / "cache" / "features").iterdir())
    assert len(stores) == 2
    hashes = [{row["sample_id"]: row["content_hash"] for row in boxes_of(run)} for run in (coco_run, wide)]
    assert hashes[0] == hashes[1]  # what people said of a box holds whatever its margin is
