"""The suite is generated from `tables.py`, finds the same faults as `conform`, and reports in plain values."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from labelclean.config import ExpectationsConfig
from labelclean.storage.expectations import check_expectations, suite_rules
from labelclean.storage.tables import TABLES

LIMITS = ExpectationsConfig(min_rows=2)


def test_every_promise_of_a_column_becomes_a_rule() -> None:
    columns = [column.name for column in TABLES["labels"].columns]
    rules = suite_rules("labels", columns, ["ok", "dent"], LIMITS)
    assert ("ExpectCompoundColumnsToBeUnique", {"column_list": ["sample_id", "annotator_id"]}) in rules
    assert ("ExpectColumnValuesToBeInSet", {"column": "given_label", "value_set": ["ok", "dent"]}) in rules
    assert ("ExpectColumnValuesToNotBeNull", {"column": "given_label"}) in rules
    assert ("ExpectTableRowCountToBeBetween", {"min_value": 2}) in rules


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_clean_table_passes_and_a_broken_one_names_its_samples(tmp_path: Path) -> None:
    clean = pa.table({"sample_id": ["a", "b", "c"], "image_path": ["1", "2", "3"], "given_label": ["ok", "dent", "ok"]})
    report = check_expectations(clean, "labels", class_names=["ok", "dent"], limits=LIMITS, data_docs=tmp_path / "docs")
    assert report.success
    assert report.faults() == ()
    assert (tmp_path / "docs" / "index.html").is_file()

    broken = pa.table(
        {"sample_id": ["a", "a", "c"], "image_path": ["1", "2", "3"], "given_label": ["ok", "scrach", None]}
    )
    limits = ExpectationsConfig(min_rows=5, max_class_share=0.3)
    said = "\n".join(check_expectations(broken, "labels", class_names=["ok", "dent"], limits=limits).faults())
    assert "column 'sample_id' must hold each value once, but: 2 rows" in said
    assert "such as 'scrach'; sample_ids a" in said
    assert "column 'given_label' must hold a value in every row" in said
    assert "the table must have enough rows, but: it has 3, and expectations.min_rows is 5" in said
    assert "holds 33.3% of the labels" in said
