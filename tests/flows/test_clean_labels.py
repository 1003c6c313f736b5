"""The flow: the same files as the plain run, a summary artifact, and a refusal that Prefect sees as a failure."""

from __future__ import annotations

from pathlib import Path

import pytest

from labelclean.errors import GateError
from labelclean.storage.parquet import read_json

ROOT = Path(__file__).parent.parent.parent

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default"), pytest.mark.xdist_group("prefect")]


@pytest.mark.long
def test_the_flow_leaves_the_same_bytes_as_the_plain_run_and_a_summary(
    prefect_harness: None, sample_run: Path, sample_cache: Path, tmp_path: Path
) -> None:
    from labelclean.flows.clean_labels import clean_labels
    from prefect.client.orchestration import get_client

    overrides = [f"storage.runs={tmp_path / 'runs'}", f"storage.cache={sample_cache}"]
    folder = Path(str(clean_labels(str(ROOT / "config.yaml"), overrides)["run_folder"]))
    plain, flow = (read_json(run / "manifest.json")["files"] for run in (sample_run, folder))
    assert flow.keys() == plain.keys()
    assert flow == plain

    with get_client(sync_client=True) as client:
        tasks = {run.name.rsplit("-", 1)[0] for run in client.read_task_runs()}
        artifacts = client.request("POST", "/artifacts/filter", json={}).json()
    assert {"ingest", "extract", "check-distribution", "refine"} <= tasks
    (summary,) = [row["data"] for row in artifacts if row["key"] == "labelclean-summary"]
    assert "labels are worth a look" in summary


@pytest.mark.long
def test_a_refused_gate_fails_the_flow_after_its_measurements_are_published(
    prefect_harness: None, sample_cache: Path, tmp_path: Path
) -> None:
    from labelclean.flows.clean_labels import clean_labels

    overrides = [
        f"storage.runs={tmp_path / 'runs'}",
        f"storage.cache={sample_cache}",
        "gates.on_refusal=stop",
        "refine.method=two_hot",
        "gates.class_distribution.min_class_count=30",
    ]
    with pytest.raises(GateError, match=r"gates\.class_distribution\.min_class_count = 30") as refusal:
        clean_labels(str(ROOT / "config.yaml"), overrides)
    folder = Path(str(refusal.value.run_folder))
    assert read_json(folder / "manifest.json")["verdict"] == "refused"
    assert (folder / "class_distribution.parquet").is_file()
    assert not (folder / "refined_labels.parquet").exists()
