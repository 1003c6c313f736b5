"""Telling: a real webhook on loopback, what it is told and when, and numbers in Prometheus' own format."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from labelclean.config import Config
from labelclean.errors import ConfigError, GateError, LockError, NothingToDo
from labelclean.nights.night import Night, run_night
from labelclean.nights.notify import Attempt, RunNumbers, post_message, prometheus_text

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
SECRET = "T0/B0/secret-token"


class Hook(BaseHTTPRequestHandler):
    """Keeps what it was sent; answers as its server was told to."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append(json.loads(body)["text"])  # type: ignore[attr-defined]
        time.sleep(self.server.slow_s)  # type: ignore[attr-defined]
        self.send_response(self.server.status)  # type: ignore[attr-defined]
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def hook() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    server.got, server.slow_s, server.status = [], 0.0, 200  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def environ(server: ThreadingHTTPServer) -> dict[str, str]:
    return {"LABELCLEAN_WEBHOOK_URL": f"http://127.0.0.1:{server.server_port}/{SECRET}"}


def test_a_message_arrives_as_slack_wants_it_and_cannot_call_a_channel(hook: ThreadingHTTPServer) -> None:
    assert post_message("傷 & <!channel>", environ(hook))
    assert hook.got == ["傷 &amp; &lt;!channel&gt;"]  # type: ignore[attr-defined]
    assert not post_message("nobody is to be told", {})


@pytest.mark.parametrize("trouble", ["status", "slow", "closed", "scheme"])
def test_a_webhook_that_fails_is_a_log_line_without_its_url(
    hook: ThreadingHTTPServer, trouble: str, caplog: pytest.LogCaptureFixture
) -> None:
    where = environ(hook)
    if trouble == "status":
        hook.status = 500  # type: ignore[attr-defined]
    elif trouble == "slow":
        hook.slow_s = 2.0  # type: ignore[attr-defined]
    elif trouble == "closed":
        where = {"LABELCLEAN_WEBHOOK_URL": f"http://127.0.0.1:1/{SECRET}"}
    else:
        where = {"LABELCLEAN_WEBHOOK_URL": f"file:///{SECRET}"}
    with caplog.at_level(logging.WARNING, "labelclean"):
        logging.getLogger("labelclean").propagate = True
        assert not post_message("x", where, timeout_s=0.5)
    assert "LABELCLEAN_WEBHOOK_URL" in caplog.text
    assert SECRET not in caplog.text


def write_config(folder: Path, extra: str = "") -> Path:
    path = folder / "config.yaml"
    path.write_text(
        f"data: {{labels: labels}}\nbackbone: {{name: x}}\nrun: {{seed: 0, dataset: plates}}\n"
        f"notify: {{prometheus_file: metrics/labelclean.prom}}\n{extra}"
    )
    return path


def published(folder: Path, run_id: str, expected: float, exit_code: int = 0) -> Path:
    """A run folder of 1,000 samples as far as telling looks at it."""
    run = folder / "runs" / run_id
    run.mkdir(parents=True)
    summary = {
        "verdict": "refused" if exit_code else "done", "num_samples": 1_010, "num_rejects": 10, "num_label_issues": 90,
        "label_issues": {"expected": expected}, "queue": {"num": 95}, "arrivals": {"waiting": {"a": "why"}},
    }  # fmt: skip
    manifest = {
        "run_id": run_id, "dataset": "plates", "exit_code": exit_code, "peak_memory_bytes": 7,
        "started_at": "2026-11-24T11:00:00+00:00", "finished_at": "2026-11-24T11:00:30+00:00",
    }  # fmt: skip
    (run / "summary.json").write_text(json.dumps(summary))
    (run / "manifest.json").write_text(json.dumps(manifest))
    return run


def metrics(folder: Path) -> dict[str, float]:
    """The file's numbers."""
    lines = (folder / "metrics" / "labelclean.prom").read_text(encoding="utf-8").splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line[0] != "#"}


def test_a_quiet_good_run_tells_prometheus_only(hook: ThreadingHTTPServer, tmp_path: Path) -> None:
    config = write_config(tmp_path)
    published(tmp_path, "1", 100.0)
    night = run_night(config, [], lambda _: published(tmp_path, "2", 149.0), environ(hook), lambda: NOON)
    assert night == Night(tmp_path / "runs" / "2")
    assert hook.got == []  # type: ignore[attr-defined]
    found = metrics(tmp_path)
    of_us = '{dataset="plates"}'
    assert found[f"labelclean_samples{of_us}"] == 1_010
    assert found[f"labelclean_expected_wrong_share{of_us}"] == 0.149
    assert found[f"labelclean_run_duration_seconds{of_us}"] == 30
    assert found[f"labelclean_label_files_waiting{of_us}"] == 1
    assert found[f"labelclean_last_attempt_timestamp_seconds{of_us}"] == NOON.timestamp()
    assert found['labelclean_verdict{dataset="plates",verdict="done"}'] == 1
    assert found['labelclean_verdict{dataset="plates",verdict="refused"}'] == 0


def test_a_jump_of_the_noise_is_told(hook: ThreadingHTTPServer, tmp_path: Path) -> None:
    config = write_config(tmp_path)
    published(tmp_path, "1", 100.0)
    published(tmp_path, "2", 700.0, exit_code=3)  # a refused run is nothing to compare with
    run_night(config, ["run.window='7'"], lambda _: published(tmp_path, "3", 151.0), environ(hook), lambda: NOON)
    (said,) = hook.got  # type: ignore[attr-defined]
    assert said.startswith(
        "labelclean, plates, window 7: about 15.1% of the labels are expected to be wrong, but 10.0% in run 1"
    )
    assert "notify.max_noise_change = 0.05" in said


def test_refusals_and_failures_are_told_and_raised(hook: ThreadingHTTPServer, tmp_path: Path) -> None:
    config = write_config(tmp_path)
    good = published(tmp_path, "1", 100.0)
    refused = GateError("shares moved", run_folder=str(published(tmp_path, "2", 100.0, exit_code=3)))
    for fault in (refused, LockError("held"), RuntimeError("token=" + SECRET)):

        def fail(_: Config, fault: Exception = fault) -> Path:
            raise fault

        with pytest.raises(type(fault)):
            run_night(config, [], fail, environ(hook), lambda: NOON)
    told = hook.got  # type: ignore[attr-defined]
    assert told[0] == f"labelclean, plates: refused: shares moved ({tmp_path / 'runs' / '2'})"
    assert told[1] == "labelclean, plates: failed: held"
    assert "RuntimeError" in told[2]
    assert SECRET not in told[2]
    found = metrics(tmp_path)
    assert found['labelclean_last_attempt_exit_code{dataset="plates"}'] == 1
    finished = datetime.fromisoformat(json.loads((good / "manifest.json").read_text())["finished_at"]).timestamp()
    assert found['labelclean_last_success_timestamp_seconds{dataset="plates"}'] == finished
    assert found['labelclean_verdict{dataset="plates",verdict="refused"}'] == 1
    with pytest.raises(ConfigError):
        run_night(config, ["refine.method=magic"], lambda _: good, environ(hook), lambda: NOON)
    assert "labelclean, config.yaml: failed: config.yaml: 1 setting cannot be used" in told[3]


def test_a_night_without_work_is_an_attempt_that_went_well(hook: ThreadingHTTPServer, tmp_path: Path) -> None:
    def nothing(_: Config) -> Path:
        raise NothingToDo("no file is new", run_folder=None)

    night = run_night(write_config(tmp_path), [], nothing, environ(hook), lambda: NOON)
    assert night == Night(None, "no file is new")
    assert hook.got == []  # type: ignore[attr-defined]
    assert metrics(tmp_path)['labelclean_last_attempt_exit_code{dataset="plates"}'] == 0


def test_a_metrics_file_that_cannot_be_written_fails_nothing(tmp_path: Path) -> None:
    (tmp_path / "metrics").write_text("a file")
    assert run_night(write_config(tmp_path), [], lambda _: published(tmp_path, "1", 1.0), {}, lambda: NOON).folder


def test_names_are_escaped_as_the_format_wants() -> None:
    numbers = RunNumbers("1", "done", NOON, 1.5, 0, 0, None, None, None, 0, 0)
    text = prometheus_text('a"b\\c\nd', Attempt(NOON, 0), numbers, None)
    assert 'labelclean_samples{dataset="a\\"b\\\\c\\nd"} 0.0' in text.splitlines()
    assert "expected_wrong" not in text
    assert "last_success" not in text
