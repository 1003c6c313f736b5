"""A real Label Studio server on loopback: pushed, annotated through its API, pulled, imported, applied."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from labelclean.errors import ExchangeError
from labelclean.review.apply import apply_labels
from labelclean.review.exchange.label_studio import NEXT_STEP
from labelclean.review.exchange.label_studio_server import pull_answers, push_export
from labelclean.review.exchange.tools import export_run, import_decisions
from labelclean.review.ledger import append_decisions, decisions_of, open_ledger
from tests.review.exchange.conftest import NAMES, NOW, load_tasks, make_run, rows_of
from tests.review.exchange.test_answers import ANSWERS

DATASET = "line 3 (北)"
MARKED = ("unsure", "bad_image", "none_of_these")


class Server:
    """A running server.

    Attributes:
        url: Its address.
        token: The key of its one user.
        root: Its document root for local files.
    """

    def __init__(self, url: str, token: str, root: Path) -> None:
        self.url, self.token, self.root = url, token, root

    @property
    def environ(self) -> dict[str, str]:
        return {"LABEL_STUDIO_URL": self.url, "LABEL_STUDIO_API_KEY": self.token}

    def call(self, path: str, body: Any = None, *, raw: bool = False) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Token {self.token}", "Content-Type": "application/json"}
        with urllib.request.urlopen(urllib.request.Request(self.url + path, data, headers), timeout=60) as answer:
            content = answer.read()
        return content if raw else json.loads(content)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    program = os.environ.get("LABELCLEAN_LABEL_STUDIO")
    if not program:
        pytest.skip("LABELCLEAN_LABEL_STUDIO names no label-studio program")
    folder, root = tmp_path_factory.mktemp("server"), tmp_path_factory.mktemp("annotation")
    token = secrets.token_hex(20)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("LABEL_STUDIO", "DJANGO"))} | {
        "LABEL_STUDIO_BASE_DATA_DIR": str(folder),
        "DJANGO_DB": "sqlite",
        "LABEL_STUDIO_USERNAME": "qa@example.com",
        "LABEL_STUDIO_PASSWORD": secrets.token_hex(12),
        "LABEL_STUDIO_USER_TOKEN": token,
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED": "true",
        "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(root),
        "COLLECT_ANALYTICS": "false",
        "LATEST_VERSION_CHECK": "false",
        "FEATURE_FLAGS_OFFLINE": "true",
        "SENTRY_DSN": "",
        "FRONTEND_SENTRY_DSN": "",
    }
    command = [program, "start", "--no-browser", "--internal-host", "127.0.0.1", "--port", str(port)]
    log = (folder / "log").open("wb")
    process = subprocess.Popen(command, env=environ, stdout=log, stderr=subprocess.STDOUT, cwd=folder)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            if process.poll() is not None:
                break
            try:
                urllib.request.urlopen(f"{url}/health", timeout=5).close()
                yield Server(url, token, root)
                return
            except OSError:
                time.sleep(1)
        pytest.fail(f"the server did not start: {(folder / 'log').read_text()[-2000:]}")
    finally:
        process.terminate()
        process.wait(timeout=60)
        log.close()


def annotate(server: Server, project: int) -> None:
    """Answer every task that ANSWERS names, as a person does on the screen."""
    for row in server.call(f"/api/tasks?project={project}&fields=all&page_size=100")["tasks"]:
        word, labels = ANSWERS.get(row["data"]["lc_sample_id"], ("", ()))
        if not word:
            continue
        control = {"one_of": "lc_one_of", "not_class": "lc_not_class"}.get(word, "label")
        name, values = ("lc_flag", [word]) if word in MARKED else (control, list(labels))
        result = {"from_name": name, "to_name": "image", "type": "choices", "value": {"choices": values}}
        server.call(f"/api/tasks/{row['id']}/annotations", {"result": [result], "lead_time": 2.5})


def truth() -> set[tuple[Any, ...]]:
    rows = set()
    for sample, (word, labels) in ANSWERS.items():
        verified = labels[0] if word in ("confirmed", "corrected") else None
        one_of = tuple(sorted(labels)) if word == "one_of" else ()
        ruled_out = {"not_class": labels, "none_of_these": tuple(sorted(NAMES))}.get(word, ())
        rows.add((sample, word, verified, one_of, ruled_out, "label-studio:1"))
    return rows


@pytest.mark.label_studio
@pytest.mark.filterwarnings("ignore")
def test_the_whole_way_by_files(server: Server, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    report = export_run(run, "label-studio", server.root / "queue_a", document_root=server.root, part_size=5)
    assert report.next_step == NEXT_STEP
    config = (report.folder / "config.xml").read_text(encoding="utf-8")
    project = server.call("/api/projects", {"title": "by files", "label_config": config})["id"]
    storage = {"project": project, "path": str(report.folder), "use_blob_urls": False, "title": "queue"}
    server.call("/api/storages/localfiles", storage)
    for part in sorted(report.folder.glob("part_*/tasks.json")):
        sent = json.loads(part.read_text(encoding="utf-8"))
        assert server.call(f"/api/projects/{project}/import", sent)["task_count"] == len(sent)
    tasks = server.call(f"/api/tasks?project={project}&fields=all&page_size=100")["tasks"]
    assert len(tasks) == 12
    assert sorted(bool(task["predictions"]) for task in tasks) == [False] * 3 + [True] * 9
    assert server.call(tasks[0]["data"]["image"], raw=True).startswith(b"\x89PNG")

    annotate(server, project)
    exported = tmp_path / "export.json"
    exported.write_bytes(
        server.call(f"/api/projects/{project}/export?exportType=JSON&download_all_tasks=true", raw=True)
    )
    found, decisions = import_decisions(exported, "label-studio", report.folder, now=NOW)
    assert rows_of(decisions) == truth()
    assert (found.num_matched, found.num_unanswered) == (len(ANSWERS), 12 - len(ANSWERS))

    ledger = open_ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    assert append_decisions(ledger, decisions) == len(ANSWERS)
    again = import_decisions(exported, "label-studio", report.folder, now=NOW.replace(year=2027))[1]
    assert append_decisions(ledger, again) == 0
    apply_labels(run, decisions_of(ledger, DATASET), tmp_path / "v2.parquet")
    rows = {row["sample_id"]: row for row in pq.read_table(tmp_path / "v2.parquet").to_pylist()}
    for sample, (word, labels) in ANSWERS.items():
        assert rows[sample]["review_status"] == word
        assert rows[sample]["verified_label"] == (labels[0] if word in ("confirmed", "corrected") else None)


@pytest.mark.label_studio
@pytest.mark.filterwarnings("ignore")
def test_push_and_pull_through_the_sdk(server: Server, tmp_path: Path) -> None:
    pytest.importorskip("label_studio_sdk")
    out = server.root / "queue_b"
    report = export_run(make_run(tmp_path), "label-studio", out, document_root=server.root, part_size=5)
    project = push_export(report.folder, server.environ)
    assert push_export(report.folder, server.environ) == project
    tasks = server.call(f"/api/tasks?project={project}&fields=all&page_size=100")["tasks"]
    assert len(tasks) == len(load_tasks(report.folder)) == 12
    assert server.call(tasks[0]["data"]["image"], raw=True).startswith(b"\x89PNG")
    annotate(server, project)
    assert pull_answers(report.folder, tmp_path / "pulled.json", server.environ) == 12
    assert rows_of(import_decisions(tmp_path / "pulled.json", "label-studio", out, now=NOW)[1]) == truth()
    with pytest.raises(ExchangeError, match=r"refused: 40[134]") as caught:
        push_export(report.folder, server.environ | {"LABEL_STUDIO_API_KEY": "f" * 40})
    assert "f" * 40 not in str(caught.value)
    written = [file for file in out.rglob("*") if file.is_file() and server.token.encode() in file.read_bytes()]
    assert written == []


def test_without_address_and_key_nothing_is_tried(tmp_path: Path) -> None:
    report = export_run(make_run(tmp_path, 3), "label-studio", tmp_path / "out")
    with pytest.raises(ExchangeError, match="LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY"):
        push_export(report.folder, {})
    with pytest.raises(ExchangeError, match="no project is known"):
        pull_answers(report.folder, tmp_path / "a.json", {})


@pytest.mark.parametrize("name", ["検査", "a b", "a&b"])
def test_a_folder_that_is_unsafe_in_an_address_is_refused_before_anything_is_written(tmp_path: Path, name: str) -> None:
    run = make_run(tmp_path, 3)
    with pytest.raises(ExchangeError, match=r"ASCII letters, digits.*Choose another --out"):
        export_run(run, "label-studio", tmp_path / name)
    with pytest.raises(ExchangeError, match="must lie below its document root"):
        export_run(run, "label-studio", tmp_path / "out", document_root=tmp_path / "other")
    assert not (tmp_path / name).exists()
