"""What a run says of escapes and overkill: sums over parts, and settings that name what is no class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from labelclean.config import Config, parse_config
from labelclean.errors import ConfigError
from labelclean.labels import given_labels
from labelclean.noise.readings import fit_readings
from labelclean.runs.costs import cost_sentences, costs_record
from labelclean.runs.ingest import validated
from labelclean.storage.tables import vectors

HEAD = "data: {labels: labels.parquet}\nbackbone: {name: none}\nrun: {seed: 0}\n"


def config(text: str, folder: Path = Path("/plant")) -> Config:
    return parse_config(HEAD + text, folder=folder, origin="config.yaml")


def test_the_record_adds_up_the_parts_by_hand(tmp_path: Path) -> None:
    kinds = np.zeros((4, 3, 4), dtype=np.float32)
    kinds[:, 0, :] = np.array([0.5, 0.25, 0.25, 0.0])[:, None]  # three may be escapes
    kinds[3, 1, :] = 0.5
    costs = np.array([[50, 0, 0], [25, 0, 0], [25, 0, 0], [0, 0.5, 0]], dtype=np.float32)
    for part, rows in enumerate((slice(0, 1), slice(1, 4))):
        table = pa.table({"kinds": vectors(kinds[rows].reshape(-1, 12)), "kind_costs": vectors(costs[rows])})
        pq.write_table(table, tmp_path / f"{part}.parquet")
    readings = fit_readings(np.eye(2, dtype=np.float32)[[0, 1]], given_labels(np.array([0, 1]), 2), np.eye(2))
    settings = config("classes: {ok: ok}\ncosts: {escape: 100}\nreview: {seconds_per_sample: 30}")
    queue = pa.table({"cost_saved": [50.0, 25.0]})
    record = costs_record(settings, [tmp_path / "0.parquet", tmp_path / "1.parquet"], queue, readings, 4, {"high": 3.0})
    assert {kind: (one["expected"], one["cost"]) for kind, one in record["kinds"].items()} == {
        "escape": (1.0, 100.0),
        "overkill": (0.5, 0.5),
        "wrong_kind": (0.0, 0.0),
    }
    assert (record["cost"], record["queue_saves"], record["queue_minutes"]) == (100.5, 75.0, 1.0)
    assert "saves about 75 of it in 1 min" in cost_sentences({"costs": record})[1]
    assert cost_sentences({}) == []


def test_all_faults_of_the_settings_stand_in_one_letter() -> None:
    with pytest.raises(ConfigError) as letter:
        config("costs: {overkill: 3}\nreview: {budget: 0}")
    assert "2 settings" in str(letter.value)
    assert "escape must be set where overkill is" in str(letter.value)
    with pytest.raises(ConfigError, match=r"classes\.ok must name the class of parts without a defect"):
        config("costs: {escape: 3}")


def test_names_that_are_no_classes_are_refused_as_soon_as_the_classes_are_known(tmp_path: Path) -> None:
    rows = {"sample_id": ["a", "b"], "image_path": ["a.png", "b.png"], "given_label": ["ok", "dent"]}
    pq.write_table(pa.table(rows), tmp_path / "labels.parquet")
    text = "classes: {ok: good}\ncosts: {escape: 9, by_class: {crack: {escape: 20}}}"
    with pytest.raises(ConfigError) as letter:
        validated(config(text, tmp_path))
    assert "classes.ok must be one of the classes 'dent', 'ok', but is 'good'" in str(letter.value)
    assert "costs.by_class must name defect classes 'dent', 'ok', but names 'crack'" in str(letter.value)
