"""Append-only, migrated, safe with several processes; the same tests on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
import socket
import sqlite3
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from labelclean.errors import ConfigError, StorageError
from labelclean.review import ledger as ledger_module
from labelclean.review.chain import ChainFault, chain_faults, linked, row_digest
from labelclean.review.decisions import Decision
from labelclean.review.ledger import (
    Application,
    append_application,
    append_decisions,
    chained_rows,
    check_chain,
    decision_key,
    decisions_of,
    ledger_url,
    open_ledger,
    referred_runs,
)
from labelclean.review.ledger_schema import APPLICATIONS, DECISIONS, MIGRATIONS

T0 = datetime(2026, 1, 14, 2, 0, 0, 123456, tzinfo=UTC)
HOSTILE = ("傷", "dent & crack", "<script>", "=cmd()", "Robert'); DROP TABLE decisions;--")


def decision(sample: str = "a", label: str = "scratch", *, minutes: int = 0, **changes: Any) -> Decision:
    at = T0 + timedelta(minutes=minutes)
    return replace(
        Decision(sample, "h1", "ok", "corrected", "anna", at, "run-1", "line 3", "label-studio", label), **changes
    )


def postgres_bin() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return found[-1] if found else None


@dataclass(frozen=True)
class Postgres:
    """A PostgreSQL of our own; `restart` takes all connections down with it, as a crash does."""

    url: str
    restart: Callable[[], None]


@pytest.fixture(scope="session")
def postgres_server(postgres: Postgres) -> str:
    """The URL of a PostgreSQL of our own, without database."""
    return postgres.url


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL of our own on loopback, as a user that may run one.

    Its folder is not pytest's: every session that starts closes that of all to other users.
    """
    programs = postgres_bin()
    if programs is None:
        pytest.skip("no PostgreSQL in /usr/lib/postgresql")
    pytest.importorskip("psycopg")
    folder = Path(tempfile.mkdtemp(prefix="labelclean-postgres-"))
    as_user: list[str] = []
    if os.geteuid() == 0:
        as_user = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--"]
        shutil.chown(folder, "nobody", "nogroup")
    (folder / "password").write_text("s3cret pass\n")
    (folder / "password").chmod(0o644)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def call(*command: str) -> None:
        subprocess.run([*as_user, *command], check=True, capture_output=True, cwd=folder)

    call(f"{programs}/initdb", "-D", "data", "-U", "lc", "-A", "scram-sha-256", "--pwfile=password", "-E", "UTF8", "-N")

    def restart() -> None:
        call(f"{programs}/pg_ctl", "-D", "data", "-m", "immediate", "-w", "stop")
        for tries_left in range(20, -1, -1):  # what is left of the old one may hold the memory for a moment
            try:
                call(f"{programs}/pg_ctl", "-D", "data", "-l", "log", "-o", options, "-w", "start")
                return
            except subprocess.CalledProcessError:
                if not tries_left:
                    raise
                time.sleep(0.5)

    options = f"-p {port} -h 127.0.0.1 -k {folder} -c fsync=off"
    call(f"{programs}/pg_ctl", "-D", "data", "-l", "log", "-o", options, "-w", "start")
    try:
        yield Postgres(f"postgresql://lc:s3cret%20pass@127.0.0.1:{port}", restart)
    finally:
        call(f"{programs}/pg_ctl", "-D", "data", "-m", "immediate", "-w", "stop")
        shutil.rmtree(folder)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A fresh, empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.db'}"
    server = request.getfixturevalue("postgres_server")
    name = f"t{time.monotonic_ns()}"
    engine = sa.create_engine(server.replace("://", "+psycopg://") + "/postgres", isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    engine.dispose()
    return f"{server}/{name}"


def test_what_is_appended_comes_back_exactly(url: str) -> None:
    rows = [
        decision(),
        decision(
            "b",
            decision="one_of",
            verified_label=None,
            candidate_labels=HOSTILE[:2],
            annotator_id="検査員",
            reviewed_at=T0 + timedelta(seconds=1),
        ),
        decision("c", decision="not_class", verified_label=None, ruled_out_labels=HOSTILE, minutes=1),
        decision("d", minutes=2, inclusion_probability=float(np.float32(30 / 970))),
    ]
    ledger = open_ledger(url)
    assert append_decisions(ledger, rows) == 4
    assert decisions_of(ledger, "line 3") == tuple(rows)
    assert decisions_of(ledger, "line 4") == ()


def test_the_same_decisions_again_change_nothing(url: str) -> None:
    ledger = open_ledger(url)
    assert append_decisions(ledger, [decision(), decision("b"), decision()]) == 2
    assert append_decisions(open_ledger(url), [decision("b"), decision()]) == 0
    assert append_decisions(ledger, [decision(minutes=1)]) == 1
    assert len(decisions_of(ledger, "line 3")) == 3


def test_an_answer_is_the_same_answer_whether_or_not_its_file_says_that_it_was_drawn(url: str) -> None:
    ledger = open_ledger(url)
    dated, undated = decision(inclusion_probability=0.25), decision("b", file_digest="f1", inclusion_probability=0.25)
    assert append_decisions(ledger, [dated, undated]) == 2
    again = [replace(dated, inclusion_probability=None), replace(undated, inclusion_probability=None, file_digest="f2")]
    assert append_decisions(ledger, again) == 0
    assert [row.inclusion_probability for row in decisions_of(ledger, "line 3")] == [0.25, 0.25]
    assert decision_key(dated) == decision_key(again[0])


def test_a_probability_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(StorageError, match="Nothing was written"):
        append_decisions(open_ledger(url), [decision(inclusion_probability=1.5)])


def test_undated_answers_are_held_however_the_file_was_cut(url: str) -> None:
    ledger = open_ledger(url)
    whole = [decision(name, file_digest="f1") for name in "abc"]
    part = [decision("a", file_digest="f2", minutes=10)]
    assert append_decisions(ledger, whole) == 3
    assert append_decisions(ledger, part) == 0
    assert append_decisions(ledger, [replace(row, reviewed_at=T0 + timedelta(days=1)) for row in whole]) == 0


def test_an_undated_change_of_mind_and_back_is_remembered_in_order(url: str) -> None:
    ledger = open_ledger(url)
    answers = [decision(label=label, file_digest=f"f{n}", minutes=n) for n, label in enumerate(["dent", "ok", "dent"])]
    assert [append_decisions(ledger, [answer]) for answer in answers] == [1, 1, 1]
    assert [row.verified_label for row in decisions_of(ledger, "line 3")] == ["dent", "ok", "dent"]


def _import(url: str, start: Any, rows: list[Decision], counts: Any) -> None:
    start.wait()
    counts.put(append_decisions(open_ledger(url), rows))


@pytest.mark.slow
def test_importers_at_once_lose_nothing_and_double_nothing(url: str) -> None:
    rows = [decision(f"s{n}", minutes=n, file_digest="file" if n % 2 else "") for n in range(2_000)]
    shares = [rows, rows[:1_500], rows[500:]]
    context = multiprocessing.get_context("spawn")
    start, counts = context.Barrier(len(shares)), context.Queue()
    workers = [context.Process(target=_import, args=(url, start, share, counts)) for share in shares]
    for worker in workers:
        worker.start()
    added = [counts.get(timeout=120) for _ in workers]
    for worker in workers:
        worker.join(timeout=60)
    assert sum(added) == 2_000
    assert len({row.sample_id for row in decisions_of(open_ledger(url), "line 3")}) == 2_000
    assert faults(url) == ()


def test_a_failed_append_writes_nothing(url: str) -> None:
    ledger = open_ledger(url)
    with pytest.raises(StorageError, match="Nothing was written"):
        append_decisions(ledger, [decision("a"), decision("b", decision="guessed")])
    assert decisions_of(ledger, "line 3") == ()


def test_the_migrated_schema_is_the_one_the_code_expects(url: str) -> None:
    inspector = sa.inspect(open_ledger(url))
    found = {column["name"]: column["nullable"] for column in inspector.get_columns("decisions")}
    assert found == {column.name: column.nullable for column in DECISIONS.columns}
    found = {column["name"]: column["nullable"] for column in inspector.get_columns("applications")}
    assert found == {column.name: column.nullable for column in APPLICATIONS.columns}
    assert sorted(str(index["name"]) for index in inspector.get_indexes("decisions")) == [
        "decisions_by_dataset_and_sample", "decisions_by_place",
    ]  # fmt: skip


def test_a_ledger_of_a_newer_labelclean_is_refused(url: str) -> None:
    with open_ledger(url).begin() as connection:
        connection.exec_driver_sql("INSERT INTO labelclean_schema VALUES (99, '2030-01-01 00:00:00')")
    with pytest.raises(StorageError, match=r"schema 4 or older, but has 99.*Update labelclean"):
        open_ledger(url)


FIRST_SCHEMA = """
CREATE TABLE labelclean_schema (version INTEGER NOT NULL, applied_at DATETIME NOT NULL, PRIMARY KEY (version));
INSERT INTO labelclean_schema VALUES (1, '2026-01-01 00:00:00.000000');
CREATE TABLE decisions (
    decision_key VARCHAR(64) NOT NULL PRIMARY KEY, sample_id TEXT NOT NULL, content_hash TEXT NOT NULL,
    given_label TEXT NOT NULL, decision TEXT NOT NULL CHECK (decision IN
    ('confirmed', 'corrected', 'one_of', 'not_class', 'unsure', 'bad_image', 'skipped')),
    verified_label TEXT, candidate_labels TEXT, ruled_out_labels TEXT, annotator_id TEXT NOT NULL,
    reviewed_at TIMESTAMPTZ NOT NULL, run_id TEXT NOT NULL, dataset TEXT NOT NULL, tool TEXT NOT NULL,
    file_digest TEXT NOT NULL);
INSERT INTO decisions VALUES ('k', 'a', 'h1', 'ok', 'one_of', NULL, '["傷", "dent"]', NULL, 'anna',
    '2026-01-14 02:00:00.000000', 'run-1', 'line 3', 'csv', '');
"""


def test_a_file_of_the_first_schema_is_upgraded_and_keeps_its_decisions(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "old.db")
    connection.executescript(FIRST_SCHEMA)
    connection.close()
    ledger = open_ledger(f"sqlite:///{tmp_path / 'old.db'}")
    kept = decisions_of(ledger, "line 3")
    assert [(row.candidate_labels, row.reviewed_at.isoformat()) for row in kept] == [
        (("傷", "dent"), "2026-01-14T02:00:00+00:00")
    ]
    assert [row.inclusion_probability for row in kept] == [
        None
    ]  # what was drawn from the rest of a ranking is no audit
    assert append_decisions(ledger, [decision(inclusion_probability=0.25)]) == 1
    assert sorted(row.inclusion_probability or 0 for row in decisions_of(ledger, "line 3")) == [0, 0.25]
    assert faults(f"sqlite:///{tmp_path / 'old.db'}") == ()  # its rows were chained when it was opened
    assert sa.inspect(ledger).get_indexes("decisions")
    with ledger.connect() as open_connection:
        versions = open_connection.exec_driver_sql("SELECT version FROM labelclean_schema ORDER BY version")
        assert versions.scalars().all() == [1, 2, 3, 4]


def test_a_migration_that_fails_leaves_the_old_schema(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    append_decisions(open_ledger(url), [decision()])
    broken = (*MIGRATIONS, ("ALTER TABLE decisions ADD COLUMN line TEXT", "CREATE NONSENSE"))
    monkeypatch.setattr(ledger_module, "MIGRATIONS", broken)
    with pytest.raises(StorageError):
        open_ledger(url)
    monkeypatch.undo()
    assert len(decisions_of(open_ledger(url), "line 3")) == 1
    assert "line" not in {column["name"] for column in sa.inspect(open_ledger(url)).get_columns("decisions")}


def test_sqlite_writes_ahead_so_that_readers_never_wait(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    ledger = open_ledger(url)
    append_decisions(ledger, [decision()])
    writer = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    assert writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert len(decisions_of(ledger, "line 3")) == 1
    writer.close()


def test_the_environment_goes_before_the_configuration_and_the_file_beside_the_runs() -> None:
    runs = Path("/data/runs")
    assert ledger_url("sqlite:///b.db", runs, {"LABELCLEAN_LEDGER_URL": "sqlite:///c.db"}) == "sqlite:///c.db"
    assert ledger_url("sqlite:///b.db", runs, {}) == "sqlite:///b.db"
    assert ledger_url(None, runs, {}) == "sqlite:////data/ledger.db"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://lc:hunter2@127.0.0.1:1/ledger",
        "postgresql://lc@127.0.0.1:1/ledger?password=hunter2",
        "hunter2 is no URL",
        "mysql://lc:hunter2@127.0.0.1/ledger",
        "postgresql+nodriver://lc:hunter2@127.0.0.1/ledger",
        "sqlite://",
    ],
)
def test_no_error_shows_a_password(url: str) -> None:
    with pytest.raises((ConfigError, StorageError)) as caught:
        open_ledger(url)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.postgres
def test_a_server_restarted_in_the_middle_loses_and_doubles_nothing(postgres: Postgres) -> None:
    url = f"{postgres.url}/postgres"
    ledger = open_ledger(url)
    rows = [decision(f"s{n}", minutes=n, dataset="restarted") for n in range(6_000)]
    letters: list[str] = []
    stop = threading.Event()

    def write_again_and_again() -> None:
        for start in range(0, len(rows), 20):
            while not stop.is_set():
                try:
                    append_decisions(ledger, rows[start : start + 20])
                    break
                except StorageError as fault:
                    letters.append(str(fault))

    writer = threading.Thread(target=write_again_and_again)
    writer.start()
    try:
        for wanted in (200, 1_000, 2_000):
            while writer.is_alive() and _held(ledger) < wanted:
                time.sleep(0.01)
            postgres.restart()
        writer.join(timeout=120)
    finally:
        stop.set()
        writer.join(timeout=120)
    held = decisions_of(ledger, "restarted")
    assert sorted(row.sample_id for row in held) == sorted(row.sample_id for row in rows)
    assert letters
    assert all("s3cret" not in letter for letter in letters)


def _held(ledger: sa.Engine) -> int:
    try:
        return len(decisions_of(ledger, "restarted"))
    except StorageError:
        return 0


@pytest.mark.postgres
def test_a_refused_login_shows_no_password(postgres_server: str) -> None:
    with pytest.raises(StorageError, match="password authentication failed") as caught:
        open_ledger(postgres_server.replace("s3cret%20pass", "wr0ng") + "/postgres")
    assert "wr0ng" not in str(caught.value)


def test_a_folder_in_place_of_the_file_is_a_letter(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="unable to open database file"):
        open_ledger(f"sqlite:///{tmp_path}")


def test_the_key_ignores_the_order_of_candidates_but_nothing_else() -> None:
    row = decision(decision="one_of", verified_label=None, candidate_labels=("x", "y"))
    assert decision_key(row) == decision_key(replace(row, candidate_labels=("y", "x")))
    values: dict[str, Any] = {
        "sample_id": "z",
        "content_hash": "z",
        "given_label": "z",
        "decision": "not_class",
        "annotator_id": "z",
        "reviewed_at": T0 + timedelta(microseconds=1),
        "run_id": "z",
        "dataset": "z",
        "tool": "z",
        "verified_label": "z",
        "candidate_labels": ("x",),
        "ruled_out_labels": ("x",),
        "file_digest": "z",
    }
    changed = [replace(row, **{name: value}) for name, value in values.items()]
    assert len({decision_key(one) for one in [row, *changed]}) == len(changed) + 1


def test_a_writer_keeps_no_reader_waiting_and_is_named_to_the_next_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    append_decisions(open_ledger(url), [decision()])
    monkeypatch.setattr(ledger_module, "_BUSY_TIMEOUT_MS", 100)
    holder = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
    try:
        holder.execute("BEGIN IMMEDIATE")
        assert decisions_of(open_ledger(url), "line 3") == (decision(),)
        with pytest.raises(StorageError, match=r"locked by another process, .* Nothing was written; end that"):
            append_decisions(open_ledger(url), [decision("b")])
    finally:
        holder.close()


def faults(url: str) -> tuple[str, ...]:
    report = check_chain(url)
    assert report is not None
    return tuple(map(str, report.faults))


def by_hand(url: str, *statements: str) -> None:
    """What somebody does who opens the database."""
    with open_ledger(url).begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


APPLIED = Application(
    "run-1", "line 3", T0 + timedelta(days=1), "aiko", "labelclean 0.1.0", "/data/v2.parquet", "f" * 64, 700, False
)


def test_a_digest_is_that_of_the_row_before_and_what_stands_in_this_one() -> None:
    first = hashlib.sha256(json.dumps(["decisions", 1, {"sample_id": "a"}], sort_keys=True).encode()).hexdigest()
    rows = list(linked([{"sample_id": "a", "verified_label": None}, {"sample_id": "b"}], "decisions", 0))
    assert [row["digest"] for row in rows] == [first, row_digest(first, 2, {"sample_id": "b"})]
    assert list(chain_faults(rows, "decisions")) == []
    assert list(chain_faults(rows[1:], "decisions")) == [ChainFault("decisions", 1, "missing")]
    changed = [rows[0] | {"sample_id": "z", "annotator_id": "ben"}, rows[1]]
    assert list(chain_faults(changed, "decisions")) == [ChainFault("decisions", 1, "changed", "ben", "z")]


def test_a_ledger_as_it_was_written_holds(url: str) -> None:
    ledger = open_ledger(url)
    append_decisions(ledger, [decision(), decision("b", HOSTILE[0], minutes=1, inclusion_probability=1 / 3)])
    append_application(ledger, APPLIED)
    append_decisions(ledger, [decision("c", minutes=2), decision()])
    report = check_chain(url)
    assert report is not None
    assert (report.num_decisions, report.num_applications, report.faults) == (3, 1, ())
    assert len(report.digest) == 64
    rows = chained_rows(ledger, "line 3")
    assert [place for place, _, _ in rows] == [1, 2, 3, 1]
    assert [row for _, _, row in rows] == [decision(), decision("b", HOSTILE[0], minutes=1, inclusion_probability=1 / 3),
                                           decision("c", minutes=2), APPLIED]  # fmt: skip
    assert rows[2][1] == report.digest
    assert chained_rows(ledger, "line 4") == []
    assert referred_runs(ledger) == {"run-1"}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            "UPDATE decisions SET verified_label = 'ok' WHERE sample_id = 'b'",
            "row 2 (of 'anna' on 'b') must be what",
        ),
        (
            "UPDATE decisions SET reviewed_at = '2020-01-01 00:00:00' WHERE sample_id = 'c'",
            "row 3 (of 'anna' on 'c')",
        ),
        ("UPDATE decisions SET annotator_id = 'ben' WHERE sample_id = 'a'", "row 1 (of 'ben' on 'a')"),
        ("DELETE FROM decisions WHERE sample_id = 'b'", "decisions: row 2 must be there, but is gone"),
        (
            "DELETE FROM decisions WHERE sample_id = 'c'",
            "came after decisions of which the newest are gone",
        ),
        (
            "UPDATE applications SET num_rows = 5",
            "applications: row 1 (of 'aiko' on '/data/v2.parquet') must be what",
        ),
    ],
)
def test_a_ledger_edited_by_hand_is_found_out(url: str, change: str, told: str) -> None:
    ledger = open_ledger(url)
    append_decisions(ledger, [decision(name, minutes=n) for n, name in enumerate("abc")])
    append_application(ledger, APPLIED)
    by_hand(url, change)
    found = faults(url)
    assert len(found) == 1
    assert told in found[0]


def test_a_time_that_is_none_is_a_letter(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    append_decisions(open_ledger(url), [decision()])
    by_hand(url, "UPDATE decisions SET reviewed_at = 'yesterday'")
    for ask in (lambda: check_chain(url), lambda: decisions_of(open_ledger(url), "line 3")):
        with pytest.raises(StorageError, match="Somebody changed it by hand"):
            ask()


def test_a_row_put_in_by_hand_is_found_out_and_later_rows_are_still_chained(url: str) -> None:
    ledger = open_ledger(url)
    append_decisions(ledger, [decision()])
    columns = ", ".join(
        column.name for column in DECISIONS.columns if column.name not in ("place", "decision_key", "digest")
    )
    by_hand(
        url,
        f"INSERT INTO decisions (place, decision_key, digest, {columns}) SELECT 2, 'k', 'd', {columns} FROM decisions",
    )
    append_decisions(ledger, [decision("b", minutes=1)])
    assert [told.split(" (")[0] for told in faults(url)] == ["decisions: row 2"]


def test_a_set_of_labels_comes_back_as_a_set_and_the_empty_one_too(url: str) -> None:
    rows = [
        decision("a", verified_label=None, verified_labels=("dent", "傷")),
        decision("b", verified_label=None, verified_labels=(), minutes=1),
    ]
    ledger = open_ledger(url)
    append_decisions(ledger, rows)
    assert decisions_of(ledger, "line 3") == tuple(rows)
    assert len({decision_key(replace(rows[0], verified_labels=labels)) for labels in (None, (), ("dent",))}) == 3


def test_a_ledger_of_before_the_chain_is_not_yet_checked_and_keeps_its_keys(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "old.db")
    connection.executescript(FIRST_SCHEMA)
    connection.close()
    url = f"sqlite:///{tmp_path / 'old.db'}"
    assert check_chain(url) is None
    with open_ledger(url).connect() as open_connection:
        assert open_connection.execute(sa.select(DECISIONS.c.place, DECISIONS.c.decision_key)).all() == [(1, "k")]
