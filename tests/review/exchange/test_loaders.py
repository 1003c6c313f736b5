"""What is exported opens in the tools' own loaders; each is an extra that only this test uses.

None of them shares an environment with labelclean's own versions for sure, so each test runs where its
package is there: install the checkout and datumaro, fiftyone or datasets into a new environment, and
run this file. All three passed so with datumaro 1.13.12, fiftyone 1.22.1 and datasets 5.2.0.
"""

from __future__ import annotations

import importlib.util
import json
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from labelclean.review.exchange.manifest import read_manifest
from labelclean.review.exchange.tools import Tool, export_run, import_decisions
from tests.review.exchange.conftest import NAMES, NOW, make_run


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_datumaro_reads_the_cvat_file(exported: Callable[[Tool], Path]) -> None:
    dataset_class = pytest.importorskip("datumaro").Dataset
    export = exported("cvat")
    keys = {item.key: item.sample_id for item in read_manifest(export).items}
    part = export / "part_001"
    dataset = dataset_class.import_from(str(part / "annotations.xml"), "cvat")
    items = {item.id: item for item in dataset}
    assert set(items) <= set(keys)
    assert len(items) == 5
    suggested = {
        keys[key]: [annotation.attributes["lc_label"] for annotation in item.annotations] for key, item in items.items()
    }
    assert suggested == {"s0": ["傷"], "s1": ["dent & crack"], "s2": ["<script>"], "s3": [], "s4": ["ok"]}
    assert {item.attributes["frame"] for item in items.values()} == set(range(1_000_000_001, 1_000_000_006))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_hugging_face_loads_a_part_and_its_table_comes_back(
    exported: Callable[[Tool], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    export = exported("huggingface")
    loaded = datasets.load_dataset(
        "imagefolder", data_dir=str(export / "part_001"), cache_dir=str(tmp_path / "cache"), split="train"
    )
    assert len(loaded) == 5
    assert loaded[0]["image"].size == (8, 6)
    answered = loaded.remove_columns("image").map(
        lambda row: {"decision": "corrected", "labels": [NAMES[4]]} if row["lc_sample_id"] == "s1" else {}
    )
    answered.to_json(str(tmp_path / "metadata.jsonl"), force_ascii=False)
    answered.to_parquet(str(tmp_path / "metadata.parquet"))
    for name in ("metadata.jsonl", "metadata.parquet"):
        decisions = import_decisions(tmp_path / name, "huggingface", export, now=NOW)[1]
        assert [(d.sample_id, d.verified_label) for d in decisions] == [("s1", "=cmd()")]


FIFTYONE = """
import sys
from fiftyone.utils.data.importers import FiftyOneImageClassificationDatasetImporter
with FiftyOneImageClassificationDatasetImporter(dataset_dir=sys.argv[1]) as importer:
    for path, _, label in importer:
        print(path.rsplit("/", 1)[1], label.label if label else None, sep="|")
"""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_fiftyones_own_importer_reads_a_part(exported: Callable[[Tool], Path], tmp_path: Path) -> None:
    if importlib.util.find_spec("fiftyone") is None:
        pytest.skip("fiftyone is not installed")
    export = exported("fiftyone")
    (tmp_path / "try.py").write_text(FIFTYONE)
    command = [sys.executable, str(tmp_path / "try.py"), str(export / "part_001")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    sample_of = {item.key: item.sample_id for item in read_manifest(export).items}
    rows = [line.split("|") for line in done.stdout.splitlines() if ".png|" in line]
    found = {sample_of[name.removesuffix(".png")]: label for name, label in rows}
    assert found == {"s0": "ok", "s1": "傷", "s2": "dent & crack", "s3": "None", "s4": "=cmd()"}


class FakeSample(dict[str, Any]):
    """What the loader uses of a FiftyOne sample."""

    def __init__(self, filepath: str, **fields: Any) -> None:
        super().__init__(fields)
        self.filepath, self.tags = filepath, list[str]()

    def has_field(self, name: str) -> bool:
        return name in self

    def get_field(self, name: str) -> Any:
        return self[name]


class FakeDataset(list[FakeSample]):
    def __init__(self, name: str) -> None:
        super().__init__()

    add_sample = list.append


def test_the_fiftyone_loader_predicts_nothing_where_the_readings_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export = export_run(make_run(tmp_path, 3, waiting=[1]), "fiftyone", tmp_path / "out").folder
    fake = SimpleNamespace(Sample=FakeSample, Dataset=FakeDataset, Classification=SimpleNamespace)
    monkeypatch.setitem(sys.modules, "fiftyone", fake)
    loader = runpy.run_path(str(export / "labelclean_fiftyone.py"))
    samples = {sample["lc_sample_id"]: sample for sample in loader["load"](export / "part_001", "review")}
    assert samples["s0"]["predictions"].label == "傷"
    assert "predictions" not in samples["s1"]
    assert samples["s1"]["lc_reason"] == "readings_differ (dent & crack?), narrow_margin"


def test_the_fiftyone_loader_gives_the_answers_back(
    exported: Callable[[Tool], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export = exported("fiftyone")
    fake = SimpleNamespace(Sample=FakeSample, Dataset=FakeDataset, Classification=SimpleNamespace)
    monkeypatch.setitem(sys.modules, "fiftyone", fake)
    loader = runpy.run_path(str(export / "labelclean_fiftyone.py"))
    samples = {sample["lc_sample_id"]: sample for sample in loader["load"](export / "part_001", "review")}
    assert all(Path(sample.filepath).is_file() for sample in samples.values())
    assert "ground_truth" not in samples["s3"]
    assert samples["s0"]["mistakenness"] == pytest.approx(0.99)
    for name, label in (("s1", "<script>"), ("s3", "ok")):
        samples[name]["ground_truth"] = SimpleNamespace(label=label)
        samples[name].tags.append("reviewed")
    samples["s2"].tags.append("bad_image")
    loader["save_answers"](samples.values(), tmp_path / "answers.json", "anna")
    decisions = import_decisions(tmp_path / "answers.json", "fiftyone", export, now=NOW)[1]
    assert [(d.sample_id, d.decision, d.verified_label, d.annotator_id) for d in decisions] == [
        ("s1", "corrected", "<script>", "anna"),
        ("s2", "bad_image", None, "anna"),
        ("s3", "corrected", "ok", "anna"),
    ]


def test_fiftyones_own_label_file_holds_no_blind_sample(exported: Callable[[Tool], Path]) -> None:
    export = exported("fiftyone")
    keys = {item.sample_id: item.key for item in read_manifest(export).items}
    record = json.loads((export / "part_001" / "labels.json").read_text(encoding="utf-8"))
    assert record["classes"] == list(NAMES)
    assert record["labels"] == {keys[f"s{k}"]: k if k != 3 else None for k in range(5)}
