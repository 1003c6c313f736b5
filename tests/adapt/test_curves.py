"""Records as lines, curves and events."""

from __future__ import annotations

import json
import math
from pathlib import Path
from xml.etree import ElementTree

import pytest

from labelclean.adapt.curves import event_writer, read_rows, row_of, sentence, write_curves, write_rows
from labelclean.adapt.state import EpochRecord

RECORD = EpochRecord(1, 2.5, 1e-3, 0.01, 0.25, 0.5, math.nan, 0.4, 0.6, 0.2, 0.9, 12.0, math.nan)


def test_numbers_that_do_not_exist_are_null_and_lines_of_repeated_epochs_are_dropped(tmp_path: Path) -> None:
    rows = [row_of(RECORD._replace(epoch=epoch), 2.0, 100.0) for epoch in (1, 2, 3)]
    write_rows(tmp_path, rows)
    lines = (tmp_path / "epochs.jsonl").read_text().splitlines()
    assert json.loads(lines[0])["neighbour_accuracy"] is None
    assert [row["epoch"] for row in read_rows(tmp_path, 2)] == [1, 2]
    assert "compared with another 25%" in sentence(rows[0], 3)
    assert "held-out" not in sentence(rows[0], 3)


def test_the_curves_are_a_drawing(tmp_path: Path) -> None:
    write_curves(tmp_path, [row_of(RECORD, 2.0, 100.0)])
    assert ElementTree.parse(tmp_path / "curves.svg").getroot().tag.endswith("svg")


def test_events_are_written_where_tensorboard_is_installed(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    event_writer(tmp_path)(row_of(RECORD, 2.0, 100.0))
    (events,) = (tmp_path / "tensorboard").glob("events.out.tfevents.*")
    assert events.stat().st_size > 100


def test_without_tensorboard_there_are_no_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labelclean.adapt.curves.find_spec", lambda _: None)
    event_writer(tmp_path)(row_of(RECORD, 2.0, 100.0))
    assert not list(tmp_path.iterdir())
