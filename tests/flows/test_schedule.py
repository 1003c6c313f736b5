"""A real Prefect server, a real worker and `labelclean serve`: scheduled runs that really run, fail and give way."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from labelclean.errors import ConfigError, StorageError

ROOT = Path(__file__).parent.parent.parent
EVERY_S = 4  # shorter than a run on any machine, so that runs meet
OVERRIDES = ["expectations.enabled=false", "notify.prometheus_file=plates.prom"]


@contextmanager
def running(command: list[str], folder: Path, name: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process with all its children, ended with the block; what it said stays in NAME.log."""
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, start_new_session=True)
        try:
            yield process
        finally:
            leader = psutil.Process(process.pid)  # not waited for before the group is killed: its number stays its own
            os.killpg(process.pid, signal.SIGTERM)
            deadline = time.monotonic() + 20
            while leader.status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
                time.sleep(0.1)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(20)


def ask(path: str, **body: Any) -> Any:
    """What the server's API answers; None while nobody answers."""
    url = f"{os.environ['PREFECT_API_URL']}/{path}"
    data = json.dumps(body).encode() if body or path.endswith("filter") else None
    try:
        with urlopen(Request(url, data=data, headers={"Content-Type": "application/json"}), timeout=60) as answer:
            return json.load(answer)
    except OSError:  # not there yet, or busy
        return None


def until(found: Callable[[], Any], within_s: float, folder: Path) -> Any:
    """The first truth that is found; the logs' ends in the message otherwise."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if result := found():
            return result
        time.sleep(0.5)
    logs = "\n".join(f"--- {log.name}\n{log.read_text(errors='replace')[-2000:]}" for log in folder.glob("*.log"))
    raise AssertionError(f"not seen within {within_s} s; runs: {flow_runs('')}\n{logs}")


ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


def flow_runs(deployment: str, *types: str) -> list[dict[str, Any]]:
    """Flow runs of some types of state, by default all that ended, of one deployment or of all."""
    narrowed = {"deployments": {"name": {"any_": [deployment]}}} if deployment else {}
    wanted = {"state": {"type": {"any_": types or ENDED}}}
    return ask("flow_runs/filter", flow_runs=wanted, limit=100, **narrowed) or []


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a labels table and its config, and a Prefect server that the environment names."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    settings = {
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "PREFECT_WORKER_PREFETCH_SECONDS": "1",
        "PREFECT_RUNNER_POLL_FREQUENCY": "1",
        "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "true",  # even then nothing of ours is pickled
    }
    for key, value in settings.items():
        monkeypatch.setenv(key, value)
    labels = pq.read_table(ROOT / "sample_data" / "labels.parquet").slice(0, 200)
    pq.write_table(labels, tmp_path / "labels.parquet")
    misspelt = ["scrach" if name == "scratch" else name for name in labels.column("given_label").to_pylist()]
    at = labels.column_names.index("given_label")
    pq.write_table(labels.set_column(at, "given_label", pa.array(misspelt)), tmp_path / "broken.parquet")
    config = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    config["data"]["image_root"] = str(ROOT / "sample_data")
    config["backbone"]["weights"] = str(ROOT / "sample_data" / "backbone.safetensors")
    for name in ("labels", "broken"):
        config["data"]["labels"] = f"{name}.parquet"
        config["storage"] = {"runs": f"{name}-runs", "cache": "cache"}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", port]
    with running(command, tmp_path, "server"):
        until(lambda: ask("health"), 240, tmp_path)
        yield tmp_path


def deploy(folder: Path) -> None:
    """Deploy the project's own prefect.yaml, every few seconds in place of every night."""
    settings = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))
    (nightly,) = settings["deployments"]
    nightly["schedules"] = [{"interval": EVERY_S}]
    nightly["parameters"] |= {"config_path": "labels.yaml", "window": None, "overrides": OVERRIDES}
    (folder / "prefect.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    pool = nightly["work_pool"]["name"]
    for command in (["work-pool", "create", pool, "--type", "process"], ["deploy", "--all"]):
        told = subprocess.run(
            [sys.executable, "-m", "prefect", "--no-prompt", *command],
            cwd=folder, capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip
        assert told.returncode == 0, told.stdout + told.stderr


def handed_out(run: dict[str, Any]) -> str:
    """When a worker took a run, which may be seconds before it was due: from then on it holds the place of its deployment."""
    states = ask(f"flow_run_states/?flow_run_id={run['id']}")
    return min(str(state["timestamp"]) for state in states if state["type"] == "PENDING")


@pytest.mark.prefect_server
def test_nights_run_by_schedule_give_way_to_each_other_and_fail_with_our_sentence(server: Path) -> None:
    serve = [sys.executable, "-m", "labelclean.cli", "serve", "broken.yaml", "--cron", "* * * * *"]
    worker = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "labelclean", "--type", "process"]
    with running([*serve, "--timezone", "Asia/Tokyo"], server, "serve"):
        deploy(server)
        with running(worker, server, "worker"):
            completed = until(lambda: (done := flow_runs("nightly", "COMPLETED"))[2:] and done, 400, server)
            gave_way = until(lambda: flow_runs("nightly", "CANCELLED"), 100, server)
            ran = flow_runs("nightly", "COMPLETED", "RUNNING", "PENDING")
        failed = until(lambda: flow_runs("broken.parquet", "FAILED"), 200, server)

    assert all(run["auto_scheduled"] for run in completed)
    spans = sorted((run["start_time"], run["end_time"]) for run in completed)
    assert all(ended <= started for (_, ended), (started, _) in itertools.pairwise(spans)), spans
    turns = [(handed_out(run), run["end_time"] or "9") for run in ran]
    for run in gave_way:  # another had its turn at that moment
        assert any(begun <= run["state"]["timestamp"] <= ended for begun, ended in turns), (run, turns)
    published = sorted(folder for folder in (server / "labels-runs").iterdir() if not folder.name.startswith("."))
    assert len(published) >= 3
    windows = [json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["window"] for folder in published]
    assert set(windows) == {None}
    assert 'labelclean_last_attempt_exit_code{dataset="labels.parquet"} 0.0' in (server / "plates.prom").read_text()

    assert failed[0]["auto_scheduled"]
    assert "column 'given_label' must hold one of the 6 class names" in failed[0]["state"]["message"]
    assert "'scrach'" in failed[0]["state"]["message"]
    assert failed[0]["parameters"]["timezone"] == "Asia/Tokyo"
    for kept in (server / "prefect" / "storage").glob("*"):
        json.loads(kept.read_text(encoding="utf-8"))


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_the_units_of_the_documentation_are_what_systemd_takes(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    units = re.findall(r"```ini\n# /etc/systemd/system/([\w-]+\.service)(.*?)```", text, re.DOTALL)
    assert len(units) == 3
    for name, unit in units:
        program = re.sub(r"/srv/labelclean/\.venv/bin/\S+", "/bin/true", unit.partition("\n")[2])
        (tmp_path / name).write_text(program, encoding="utf-8")
    checked = ["systemd-analyze", "verify", *(str(tmp_path / name) for name, _ in units)]
    assert subprocess.run(checked, capture_output=True, text=True, check=False).stderr == ""


def test_a_window_is_named_after_the_scheduled_time_in_its_own_zone() -> None:
    from labelclean.flows.clean_labels import window_name

    scheduled = datetime(2026, 11, 23, 17, 0, tzinfo=UTC)
    named = [window_name(scheduled, part, "Asia/Tokyo") for part in ("day", "hour", "minute")]
    assert named == ["2026-11-24", "2026-11-24T02", "2026-11-24T02:00"]


def test_a_schedule_without_a_server_or_with_a_wrong_cron_line_says_what_to_do() -> None:
    from labelclean.flows.schedule import check_server, serve_nightly
    from prefect.settings import PREFECT_API_URL, temporary_settings

    nobody = temporary_settings({PREFECT_API_URL: "http://127.0.0.1:1/api"})
    with nobody, pytest.raises(StorageError, match="no Prefect server answers there"):
        check_server()
    with temporary_settings(restore_defaults={PREFECT_API_URL}), pytest.raises(StorageError, match="is not set"):
        check_server()
    for cron, zone in (("every night", "Asia/Tokyo"), ("0 2 * * *", "Tokio")):
        with pytest.raises(ConfigError, match="--cron must be a cron line of five fields"):
            serve_nightly(ROOT / "config.yaml", [], cron=cron, timezone=zone, window="day", name=None)
