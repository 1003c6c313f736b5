"""Ctrl-C or SIGTERM, sent to a real process in the middle of the extraction, leaves work that goes on, and says so."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

pytestmark = [pytest.mark.long, pytest.mark.slow]
ROOT = Path(__file__).parent.parent


def as_from_a_terminal() -> None:
    """In the child before the program starts: Ctrl-C counts, though a shell that started the tests behind it ignores it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize(
    ("way", "stop"),
    [(["--plain"], signal.SIGINT), ([], signal.SIGINT), (["--plain"], signal.SIGTERM)],
    ids=["plain", "prefect", "plain-sigterm"],
)
def test_a_run_that_is_stopped_keeps_the_features_and_says_how_to_go_on(
    tmp_path: Path, way: list[str], stop: signal.Signals
) -> None:
    command = [
        sys.executable, "-m", "labelclean.cli", "run", str(ROOT / "config.yaml"), *way,
        "--set", f"storage.runs={tmp_path / 'runs'}", "--set", f"storage.cache={tmp_path / 'cache'}",
        "--set", "backbone.batch_size=1", "--set", "backbone.input_size=336",
    ]  # fmt: skip
    ours, theirs = pty.openpty()
    env = os.environ | {"TERM": "xterm", "COLUMNS": "100", "LINES": "30"}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=theirs, text=True, cwd=tmp_path, env=env, preexec_fn=as_from_a_terminal
    )
    os.close(theirs)
    shown = until(ours, r"extracting features[^\r]*?[1-9]\d+/\d+\D")
    assert re.search(r"\d images/s", shown)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(stop)
    last = until(ours, r"run again to go on\.")
    out, _ = process.communicate(timeout=60)
    os.close(ours)
    assert process.returncode == 130
    assert out == ""
    assert "labelclean: stopped. Features extracted so far are kept; run again to go on." in last
    assert "Traceback" not in last
    assert "Crash" not in last
    kept = sum(pq.read_metadata(part).num_rows for part in (tmp_path / "cache").rglob("part-*.parquet"))
    assert 0 < kept < 699
    assert [path.name for path in (tmp_path / "runs").iterdir()] == []  # no half run, no lock
    psutil.wait_procs(children, timeout=20)
    assert [child for child in children if child.is_running()] == []


def until(terminal: int, pattern: str, limit_s: float = 180.0) -> str:
    """What a terminal shows until it shows the pattern."""
    end, shown = time.monotonic() + limit_s, ""
    while time.monotonic() < end:
        if not select.select([terminal], [], [], 1.0)[0]:
            continue
        try:
            shown += os.read(terminal, 65_536).decode(errors="replace")
        except OSError:  # the process has ended
            break
        if re.search(pattern, shown):
            return shown
    raise AssertionError(f"{pattern!r} was never shown, but: {shown[-2000:]}")
