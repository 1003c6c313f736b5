"""What the report counts a few rows at a time, against pandas over all rows at once; and that its memory stays."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from labelclean.report import origin, source
from labelclean.report.content import page_content
from labelclean.report.file import write_report
from labelclean.report.page import Page
from labelclean.report.source import read_run
from labelclean.storage.parquet import read_batches, read_json, write_table
from labelclean.storage.tables import class_names_of
from tests.report.made_runs import factory, facts, write_run


def seven_rows(path: Path, name: str, columns: Sequence[str], num_rows: int = 7):  # type: ignore[no-untyped-def]
    return read_batches(path, name, columns, min(num_rows, 7))


@pytest.fixture
def _few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (source, origin):
        monkeypatch.setattr(module, "read_batches", seven_rows)


def inspected(labels: Path, refined: pd.DataFrame) -> pd.DataFrame:
    """Two inspectors label every sample, in no order; one of them says the class before at every fourth."""
    names = sorted(set(refined.given_label))
    other = [names[names.index(label) - 1 if row % 4 == 0 else names.index(label)] for row, label in enumerate(refined.given_label)]  # fmt: skip
    rows = [pd.DataFrame({"sample_id": refined.sample_id, "given_label": labels, "annotator_id": who}) for who, labels in (("kim", refined.given_label), ("lee", other))]  # fmt: skip
    both = pd.concat(rows).sample(frac=1, random_state=0)
    pq.write_table(pa.Table.from_pandas(both, preserve_index=False), labels)
    return both


def check_against_pandas(page: Page, folder: Path, single: pd.DataFrame | None) -> None:
    """Every number that is counted over the labels, from whole tables."""
    refined = pd.read_parquet(folder / "refined_labels.parquet")
    teacher = pd.read_parquet(folder / "teacher_predictions.parquet")
    wrong = 1 - refined.label_score.astype(float)
    confusion = pd.crosstab(refined.given_label, refined.predicted_label)
    wanted = confusion.reindex(index=page.names, columns=page.names, fill_value=0)
    assert page.confusion.matrix is not None
    assert np.array_equal(page.confusion.matrix, wanted.to_numpy())
    moved = refined[refined.given_label != refined.predicted_label]
    pairs = {(page.names[one.given], page.names[one.predicted]): one.num for one in page.confusion.pairs}
    assert pairs == moved.groupby(["given_label", "predicted_label"]).size().nlargest(30, keep="all").to_dict()
    after = refined.predicted_label.value_counts().to_dict()
    assert {row.name: row.after for row in page.classes if row.after} == after
    edges = [k / 10 - 1e-7 for k in range(10)] + [1.1]
    for values, bins in (
        (refined.label_score, page.certainty.histogram),
        (refined.label_score[refined.is_label_issue], None),
    ):
        nums = np.histogram(values.astype(float), edges)[0].tolist()
        assert nums == ([b.num for b in bins] if bins else [b.issues for b in page.certainty.histogram])
    said = teacher.pred_probs.map(max).astype(float)
    frame = pd.DataFrame({"said": said, "agreed": teacher.top1_label == refined.given_label})
    means = frame.groupby(pd.cut(frame.said, edges, right=False), observed=True).mean().to_numpy()
    assert np.array([(b.said, b.agreed) for b in page.certainty.reliability]) == pytest.approx(means)
    for facet in page.facets:
        keys, chances = refined.get(facet.column, refined.sample_id), wrong
        if facet.is_inspectors:
            assert single is not None
            both = single.merge(refined, on="sample_id", suffixes=("_one", ""))
            score = both.label_score.astype(float)
            lost = score.where(both.given_label_one == both.predicted_label, 1.0)
            chances = (1 - score).where(both.given_label_one == both.given_label, lost)
            keys = both.annotator_id
        elif facet.unit is not None:
            assert facet.unit == "D"
            keys = pd.to_datetime(keys).dt.strftime("%Y-%m-%d")
        sums = chances.groupby(keys).agg(["size", "sum"])
        assert {g.value: g.num for g in facet.groups} == sums["size"].to_dict()
        assert {g.value: g.expected for g in facet.groups} == pytest.approx(sums["sum"].to_dict())
        assert facet.overall == pytest.approx(chances.mean())


@pytest.mark.usefixtures("_few_rows")
@pytest.mark.parametrize("num_classes", [4, 12])
def test_batches_give_what_pandas_gives_over_all_rows(tmp_path: Path, num_classes: int) -> None:
    folder = write_run(tmp_path / "run", factory(num_classes, 300))
    single = inspected(tmp_path / "labels.parquet", pd.read_parquet(folder / "refined_labels.parquet"))
    known = facts(None, config={"data": {"labels": str(tmp_path / "labels.parquet")}})
    page = page_content(read_run(folder, known, tmp_path / "spill"), top=60)
    assert [facet.column for facet in page.facets] == ["line", "shift", "annotator_id", "captured_at"]
    check_against_pandas(page, folder, single)
    assert sum(len(one.members) for one in page.twins.sets) == page.twins.num == 6


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.usefixtures("_few_rows")
def test_the_sample_run_is_reported_as_pandas_counts_it(sample_run: Path, tmp_path: Path) -> None:
    page = page_content(read_run(sample_run, read_json(sample_run / "manifest.json"), tmp_path), top=60)
    assert {"line", "shift"} <= {facet.column for facet in page.facets}
    check_against_pandas(page, sample_run, None)


@pytest.mark.usefixtures("_few_rows")
def test_a_teacher_of_other_samples_is_not_compared(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", factory(num=30))
    table = pq.read_table(folder / "teacher_predictions.parquet")
    for rows in (table.slice(0, 21), table.slice(1)):
        write_table(folder / "teacher_predictions.parquet", rows, "teacher_predictions", class_names_of(table))
        judged = read_run(folder, {}, tmp_path / "spill").judged
        assert judged is not None
        assert judged.said is None


def test_nothing_is_left_beside_the_report(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", factory(num=60))
    inspected(tmp_path / "labels.parquet", pd.read_parquet(folder / "refined_labels.parquet"))
    known = facts(None, config={"data": {"labels": str(tmp_path / "labels.parquet")}})
    before = set(folder.iterdir())
    html = write_report(folder, facts=known).read_text(encoding="utf-8")
    assert "kim" in html
    assert set(folder.iterdir()) - before == {folder / "report.html"}


def repeated(folder: Path, times: int) -> None:
    """The same run many times over, every sample under ids of its own."""
    for name in ("refined_labels", "teacher_predictions"):
        table = pq.read_table(folder / f"{name}.parquet")
        ids = pa.array([f"{sample}-{k:04}" for k in range(times) for sample in table.column("sample_id").to_pylist()])
        many = pa.concat_tables([table] * times).set_column(table.column_names.index("sample_id"), "sample_id", ids)
        write_table(folder / f"{name}.parquet", many, name, class_names_of(table))


MEASURE = """
import sys
from pathlib import Path
import pyarrow
from labelclean.review.pictures import image_places; from labelclean.report.source import read_run
folder = Path(sys.argv[1])
read_run(folder, {}, folder / "spill")
image_places(folder, ["part_00001-0001"])
print(pyarrow.default_memory_pool().max_memory())
"""


@pytest.mark.slow
def test_four_times_the_samples_take_no_more_memory(tmp_path: Path) -> None:
    peaks = []
    for times in (100, 400):
        folder = write_run(tmp_path / f"run{times}", factory(num=600))
        repeated(folder, times)
        peaks.append(
            int(subprocess.run([sys.executable, "-c", MEASURE, str(folder)], check=True, capture_output=True).stdout)
        )
    assert 2**20 < peaks[1] < 1.2 * peaks[0]
