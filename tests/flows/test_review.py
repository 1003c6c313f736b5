"""The export and import flows, their tasks called without a server."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.review.exchange.conftest import make_run


@pytest.mark.slow
def test_a_queue_goes_out_and_its_answers_come_into_the_ledger_once(tmp_path: Path) -> None:
    from labelclean.flows.export_review import write_export
    from labelclean.flows.import_review import remember

    run = make_run(tmp_path, 4)
    out = write_export.fn(str(run), "csv", str(tmp_path / "out"), True)
    assert (out["num_tasks"], out["num_unreadable"]) == (4, 0)
    table = tmp_path / "out" / "part_001" / "queue.csv"
    answers = tmp_path / "answers.csv"
    text = table.read_text(encoding="utf-8-sig").replace(",,,,.\n", ",,ok,,.\n")
    answers.write_text(text, encoding="utf-8-sig")
    config = tmp_path / "config.yaml"
    config.write_text("data: {labels: data/labels.parquet}\nbackbone: {name: resnet10t}\nrun: {seed: 0}\n")
    call = (str(config), str(answers), "csv", str(tmp_path / "out"), False)
    assert remember.fn(*call)["num_new"] == 4
    assert remember.fn(*call)["num_new"] == 0
    assert (tmp_path / "ledger.db").exists()
