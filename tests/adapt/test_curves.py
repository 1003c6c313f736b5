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


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # TensorBoard's own
def test_events_are_read_back_by_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    write = event_writer(tmp_path)
    for epoch, loss in ((1, 2.5), (2, 1.5)):
        write(row_of(RECORD._replace(epoch=epoch, loss=loss), 2.0, 100.0))
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(one.step, one.value) for one in events.Scalars("loss")] == [(1, 2.5), (2, 1.5)]
    assert "neighbour_accuracy" not in events.Tags()["scalars"]  # it does not exist in this record


def test_without_tensorboard_there_are_no_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labelclean.adapt.curves.find_spec", lambda _: None)
    event_writer(tmp_path)(row_of(RECORD, 2.0, 100.0))
    assert not list(tmp_path.iterdir())
