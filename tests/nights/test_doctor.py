"""The doctor: a healthy machine is found healthy, and every planted trouble is named with its remedy."""

from __future__ import annotations

import py_compile
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from labelclean.nights.doctor import Check, bytecode_kept, examine, versions_fit
from labelclean.review.decisions import Decision
from labelclean.review.ledger import append_decisions, open_ledger
from labelclean.storage.lock import run_lock

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]


def looked_at(folder: Path, *overrides: str, now: datetime | None = None, **environ: str) -> dict[str, Check]:
    where = [f"storage.runs={folder / 'runs'}", f"storage.cache={folder / 'cache'}"]
    items = [*where, f"backbone.weights={ROOT / 'sample_data' / 'backbone.safetensors'}", *overrides]
    checks = examine(ROOT / "config.yaml", items, environ, now or datetime.now(UTC))
    return {check.name: check for check in checks}


def test_a_healthy_machine_is_found_healthy(tmp_path: Path) -> None:
    checks = looked_at(tmp_path)
    assert {check.outcome for check in checks.values()} <= {"ok", "warn"}, checks
    assert "prefect 3." in checks["versions"].sentence
    assert "200 of the first 200 images" in checks["images"].sentence
    assert list(tmp_path.iterdir()) == []


def other_version(monkeypatch: pytest.MonkeyPatch, package: str, found: str) -> None:
    monkeypatch.setattr(
        "labelclean.nights.doctor.version", lambda name: found if name.lower() == package else version(name)
    )


@pytest.mark.parametrize(("package", "found"), [("sqlalchemy", "2.0.58"), ("pillow", "11.3.0"), ("prefect", "3.10.0")])
def test_a_package_outside_the_bounds_of_labelclean_is_told(
    monkeypatch: pytest.MonkeyPatch, package: str, found: str
) -> None:
    other_version(monkeypatch, package, found)
    outcome, sentence = versions_fit()
    assert outcome == "fail"
    assert f"but is {found}" in sentence


def test_packages_that_every_process_compiles_anew_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tmp_path / "seldom_found.py"
    module.write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    outcome, sentence = bytecode_kept("seldom_found", writes=False)
    assert (outcome, "Unset it, or compile them once" in sentence) == ("warn", True)
    assert "first run compiles" in bytecode_kept("seldom_found", writes=True)[1]
    py_compile.compile(str(module))
    assert bytecode_kept("seldom_found", writes=False) == ("ok", "the packages are compiled")


def no_images(folder: Path) -> dict[str, Check]:
    return looked_at(folder, f"data.image_root={folder}")


def a_misspelt_key(folder: Path) -> dict[str, Check]:
    return looked_at(folder, "run.sed=1")


def cut_weights(folder: Path) -> dict[str, Check]:
    whole = (ROOT / "sample_data" / "backbone.safetensors").read_bytes()
    (folder / "w.safetensors").write_bytes(whole[:1000])
    return looked_at(folder, f"backbone.weights={folder / 'w.safetensors'}")


def other_weights(folder: Path) -> dict[str, Check]:
    return looked_at(folder, f"backbone.sha256={'a' * 64}")


def a_run_from_the_future(folder: Path) -> dict[str, Check]:
    made = folder / "runs" / f"{datetime.now(UTC) + timedelta(days=2):%Y-%m-%dT%H%M%S}.000Z"
    made.mkdir(parents=True)
    (made / "manifest.json").write_text("{}")
    return looked_at(folder)


def a_newer_ledger(folder: Path) -> dict[str, Check]:
    url = f"sqlite:///{folder / 'ledger.db'}"
    with open_ledger(url).begin() as connection:
        connection.execute(sa.text("INSERT INTO labelclean_schema VALUES (99, '2026-01-01')"))
    return looked_at(folder)


def a_damaged_ledger(folder: Path) -> dict[str, Check]:
    (folder / "ledger.db").write_bytes(b"no database at all, " * 100)
    return looked_at(folder)


def a_ledger_edited_by_hand(folder: Path) -> dict[str, Check]:
    url = f"sqlite:///{folder / 'ledger.db'}"
    ledger = open_ledger(url)
    at = datetime(2026, 1, 14, tzinfo=UTC)
    append_decisions(ledger, [Decision("a17", "h", "ok", "corrected", "anna", at, "r", "d", "sheet", "dent")])
    assert looked_at(folder)["ledger"].sentence.startswith("1 decisions, schema 4, every row as it was written (")
    with ledger.begin() as connection:
        connection.execute(sa.text("UPDATE decisions SET verified_label = 'ok'"))
    return looked_at(folder)


def no_space(folder: Path) -> dict[str, Check]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10**8}))
        return looked_at(folder)


def a_living_run(folder: Path) -> dict[str, Check]:
    with run_lock(folder / "runs" / ".lock"):
        return looked_at(folder)


def a_dead_run(folder: Path) -> dict[str, Check]:
    program = f"import os, sys; from pathlib import Path; from labelclean.storage.lock import run_lock\nwith run_lock(Path({str(folder / 'runs' / '.lock')!r})): os._exit(9)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 9
    return looked_at(folder)


@pytest.mark.parametrize(
    ("trouble", "name", "outcome", "words"),
    [
        (no_images, "images", "fail", "Correct data.image_root, or mount the share"),
        (a_misspelt_key, "config", "fail", "run.sed: this key is not known"),
        (cut_weights, "backbone", "fail", "the file is damaged"),
        (other_weights, "backbone", "fail", "backbone.sha256 says aaa"),
        (a_run_from_the_future, "clock", "fail", "Correct the clock (NTP)"),
        (a_newer_ledger, "ledger", "fail", "the ledger has schema 99"),
        (a_damaged_ledger, "ledger", "fail", "the ledger cannot be used"),
        (
            a_ledger_edited_by_hand,
            "ledger",
            "fail",
            "row 1 (of 'anna' on 'a17') must be what was written, but is not. Put it",
        ),
        (no_space, "storage.runs", "fail", "labelclean prune removes old runs"),
        (a_living_run, "lock", "warn", "exit code 4"),
        (a_dead_run, "lock", "warn", "the next run takes it over"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_every_trouble_is_named_with_what_to_do(
    tmp_path: Path, trouble: Callable[[Path], dict[str, Check]], name: str, outcome: str, words: str
) -> None:
    check = trouble(tmp_path)[name]
    assert (check.outcome, words in check.sentence) == (outcome, True), check


def test_weights_from_a_hub_are_told_to_need_the_network_unless_they_are_there(tmp_path: Path) -> None:
    fetched = ["backbone.weights=null", "backbone.pretrained=true"]
    assert "needs the network once" in looked_at(tmp_path, *fetched, HF_HOME=str(tmp_path))["backbone"].sentence
    (tmp_path / "hub" / "models--timm--resnet14t.c3_in1k").mkdir(parents=True)
    assert looked_at(tmp_path, *fetched, HF_HOME=str(tmp_path))["backbone"].outcome == "ok"


def test_whom_a_night_calls_is_said_by_host_and_without_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    assert "nobody beyond this machine, and needs no internet" in looked_at(tmp_path)["offline"].sentence
    ledger, webhook = "postgresql://me:geheim@db.plant:1/x", "https://hooks.plant/geheim"
    offline = looked_at(tmp_path, LABELCLEAN_LEDGER_URL=ledger, LABELCLEAN_WEBHOOK_URL=webhook)["offline"]
    assert "the ledger at db.plant and the webhook, whose failure fails no run, at hooks.plant" in offline.sentence
    fetched = looked_at(tmp_path, "backbone.weights=null", "backbone.pretrained=true", HF_HOME=str(tmp_path))
    assert fetched["offline"].outcome == "warn"
    assert "geheim" not in str((offline, fetched))


def test_labels_that_hold_their_images_need_no_folder(tmp_path: Path) -> None:
    labels = pq.read_table(ROOT / "sample_data" / "labels.parquet").drop_columns("image_path")
    pq.write_table(labels.append_column("image", pa.array([b""] * labels.num_rows)), tmp_path / "l.parquet")
    checks = looked_at(tmp_path, f"data.labels={tmp_path / 'l.parquet'}")
    assert checks["images"].sentence == "the labels hold the images"
