"""Who reviewed what, in SQL: SQLite by default, PostgreSQL for a team; append-only."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from labelclean.errors import ConfigError, StorageError
from labelclean.review.chain import LINK, ChainFault, ChainReport, chain_faults, linked
from labelclean.review.decisions import Decision
from labelclean.review.ledger_schema import APPLICATIONS, CHAINED, DECISIONS, MIGRATIONS, VERSIONS

URL_VARIABLE = "LABELCLEAN_LEDGER_URL"
Ledger = sa.Engine

_POSTGRES_LOCK = 0x6C_61_62_65_6C  # "label"
_BUSY_TIMEOUT_MS = 60_000
SWITCH_PAUSE_S = 0.05
_ROWS_AT_ONCE = 1_000
_OWN = (*LINK, "decision_key")


@dataclass(frozen=True)
class Application:
    """Labels of a run that were written to a file.

    Attributes:
        run_id: The run.
        dataset: Its data set.
        applied_at: When, with time zone.
        applied_by: The user of the machine who did it.
        tool: What wrote it: labelclean and its version, and `--without-leaks` where that left samples out.
        path: The file or folder.
        file_digest: SHA-256 of the file; of a folder, of the names in it and their files' digests.
        num_rows: Rows, or images.
        unreviewed: Written although nobody had looked at enough random samples.
    """

    run_id: str
    dataset: str
    applied_at: datetime
    applied_by: str
    tool: str
    path: str
    file_digest: str
    num_rows: int
    unreviewed: bool


def ledger_url(configured: str | None, runs: Path, environ: Mapping[str, str]) -> str:
    """Return where the ledger is: the environment, then the configuration, then a file beside the runs.

    Args:
        configured: `ledger.url`.
        runs: `storage.runs`.
        environ: Environment variables; `LABELCLEAN_LEDGER_URL` goes first and may hold a password.

    Returns:
        A SQLAlchemy URL.

    Examples:
        >>> ledger_url(None, Path("/data/runs"), {})
        'sqlite:////data/ledger.db'
    """
    beside = sa.URL.create("sqlite", database=str(runs.absolute().parent / "ledger.db"))
    return environ.get(URL_VARIABLE) or configured or beside.render_as_string()


def ledger_exists(url: str) -> bool:
    """Return whether there is a ledger to read; a SQLite file that nobody has written yet is none.

    Args:
        url: SQLAlchemy URL.

    Returns:
        True for any server.
    """
    parsed = sa.make_url(url)
    return not parsed.drivername.startswith("sqlite") or (
        parsed.database is not None and Path(parsed.database).exists()
    )


def open_ledger(url: str, now: datetime | None = None) -> Ledger:
    """Return the ledger, created or brought to this version's schema if need be.

    Args:
        url: SQLAlchemy URL of a SQLite file (on a local disk) or a PostgreSQL database.
        now: Time written beside a schema change, with time zone; default: the clock.

    Returns:
        The ledger; it holds no connection open between calls.

    Raises:
        ConfigError: If the URL cannot be used.
        StorageError: If the database refuses or has a newer schema.
    """
    ledger = _engine(url)
    with _transaction(ledger, writing=False) as connection:
        is_new = _version(connection) == len(MIGRATIONS)
    if not is_new:  # who only reads need not wait for a writer
        with _transaction(ledger, writing=True) as connection:
            _migrate(connection, now or datetime.now(UTC))
    return ledger


def append_decisions(ledger: Ledger, decisions: Sequence[Decision]) -> int:
    """Add the decisions that the ledger does not hold yet, all or none.

    An answer is held already if the same answer of the same time is there. Answers without a
    time of their own are also held if they repeat what that annotator said last about the
    sample in that run, so a file may be imported again, whole or in part.

    Args:
        ledger: From `open_ledger`.
        decisions: The decisions; doubles among them are added once.

    Returns:
        How many were added.

    Raises:
        StorageError: If the database refuses; nothing is added then.
    """
    rows = {decision_key(decision): decision for decision in decisions}
    if not rows:
        return 0
    with _transaction(ledger, writing=True) as connection:
        held = _repeated(connection, [row for row in rows.values() if row.file_digest]) | _held(connection, list(rows))
        fresh = [_record(key, row) for key, row in rows.items() if key not in held]
        _append(connection, DECISIONS, fresh)
    return len(fresh)


def append_application(ledger: Ledger, application: Application) -> None:
    """Remember that a run's labels were written to a file, and after which decisions.

    Args:
        ledger: From `open_ledger`.
        application: What was written where.

    Raises:
        StorageError: If the database refuses.
    """
    with _transaction(ledger, writing=True) as connection:
        num_decisions, digest = _newest(connection, DECISIONS)
        row = asdict(application) | {"num_decisions": num_decisions, "decisions_digest": digest}
        _append(connection, APPLICATIONS, [row | {"applied_at": application.applied_at.astimezone(UTC)}])


def chained_rows(ledger: Ledger, dataset: str) -> list[tuple[int, str, Decision | Application]]:
    """Return everything that the ledger holds on a data set, with its links.

    Args:
        ledger: From `open_ledger`.
        dataset: The data set's name.

    Returns:
        Place, digest and decision or application: all decisions in the order in which they were written, then all
        applications.

    Raises:
        StorageError: If the database refuses.
    """
    names = list(Application.__dataclass_fields__)
    with _transaction(ledger, writing=False) as connection:
        decided, applied = (
            list(_rows(connection, sa.select(table).where(table.c.dataset == dataset).order_by(table.c.place)))
            for table in (DECISIONS, APPLICATIONS)
        )
    rows: list[tuple[int, str, Decision | Application]] = [
        (row["place"], row["digest"], _decision(row)) for row in decided
    ]
    for row in applied:
        values = {name: row[name] for name in names} | {"applied_at": _in_utc(row["applied_at"])}
        rows.append((row["place"], row["digest"], Application(**values)))
    return rows


def check_chain(url: str) -> ChainReport | None:
    """Return whether every row of a ledger is what was written; nothing is changed.

    Args:
        url: SQLAlchemy URL of a ledger that exists.

    Returns:
        The report; None for a ledger of an older schema, whose rows are chained when it is next used.

    Raises:
        ConfigError: If the URL cannot be used.
        StorageError: If the database refuses.
    """
    with _transaction(_engine(url), writing=False) as connection:
        if _version(connection) < CHAINED:
            return None
        faults = [
            fault
            for table in (DECISIONS, APPLICATIONS)
            for fault in chain_faults(_in_order(connection, table), table.name)
        ]
        faults += _cut_off(connection)
        num, digest = _newest(connection, DECISIONS)
        return ChainReport(
            _count(connection), _newest(connection, APPLICATIONS)[0], digest if num else "", tuple(faults)
        )


def decisions_of(ledger: Ledger, dataset: str) -> tuple[Decision, ...]:
    """Return all decisions about a data set, oldest first.

    Args:
        ledger: From `open_ledger`.
        dataset: The data set's name.

    Returns:
        Decisions, ordered by time and then by key.

    Raises:
        StorageError: If the database refuses.
    """
    wanted = sa.select(DECISIONS).where(DECISIONS.c.dataset == dataset)
    with _transaction(ledger, writing=False) as connection:
        rows = _rows(connection, wanted.order_by(DECISIONS.c.reviewed_at, DECISIONS.c.decision_key))
        return tuple(map(_decision, rows))


def referred_runs(ledger: Ledger) -> set[str]:
    """Return the ids of all runs that a decision or an application refers to, of whatever data set.

    Args:
        ledger: From `open_ledger`.

    Returns:
        Run ids.

    Raises:
        StorageError: If the database refuses.
    """
    with _transaction(ledger, writing=False) as connection:
        named = sa.union(sa.select(DECISIONS.c.run_id), sa.select(APPLICATIONS.c.run_id))
        return set(connection.execute(named).scalars())


def ledger_schema(url: str) -> tuple[int, int, int]:
    """Return what a ledger is, without changing it.

    Args:
        url: SQLAlchemy URL.

    Returns:
        The schema it has, the newest that this version knows, and its number of decisions.

    Raises:
        ConfigError: If the URL cannot be used.
        StorageError: If the database refuses.
    """
    with _transaction(_engine(url), writing=False) as connection:
        version = _version(connection)
        return version, len(MIGRATIONS), _count(connection) if version else 0


def decision_key(decision: Decision) -> str:
    """Return the digest that makes two imports of one answer the same row.

    Args:
        decision: The decision.

    Returns:
        64 hexadecimal digits over everything the answer says and its time, or the digest of its
        file where the tool keeps no time.
    """
    occasion = decision.file_digest or decision.reviewed_at.astimezone(UTC).isoformat(timespec="microseconds")
    return hashlib.sha256(json.dumps([*_said(decision), occasion]).encode()).hexdigest()


# --- inside ---------------------------------------------------------------------------------------


def _engine(url: str) -> Ledger:
    try:
        parsed = sa.make_url(url)
    except (ArgumentError, ValueError):
        raise ConfigError(
            f"ledger.url or {URL_VARIABLE}: must be a SQLAlchemy URL such as sqlite:////data/ledger.db or "
            "postgresql+psycopg://user@host/database, but cannot be read as one (not shown, it may hold a password)."
        ) from None
    backend = parsed.get_backend_name()
    if backend not in ("sqlite", "postgresql") or (backend == "sqlite" and parsed.database in (None, "", ":memory:")):
        raise ConfigError(
            f"ledger.url or {URL_VARIABLE}: must name a SQLite file or a PostgreSQL database, but names "
            f"{parsed.drivername!r} with database {parsed.database!r}."
        )
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    try:
        engine = sa.create_engine(parsed, poolclass=NullPool, hide_parameters=True)
    except (ModuleNotFoundError, NoSuchModuleError) as fault:
        name = getattr(fault, "name", None) or parsed.drivername
        raise ConfigError(
            f"ledger.url or {URL_VARIABLE}: {parsed.drivername!r} needs the module {name!r}, which is not installed. "
            "Install labelclean[postgres]."
        ) from None
    if backend == "sqlite":
        sa.event.listen(engine, "connect", _set_up_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _set_up_sqlite(connection: Any, _record: object) -> None:
    """Leave transactions to us, wait for other processes, and let readers go on while one writes."""
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
    _write_ahead(connection)
    connection.execute("PRAGMA synchronous = FULL")


def _write_ahead(connection: Any) -> None:
    """Switch a new file to write-ahead logging: SQLite does not wait where two processes switch at once, so we do."""
    patience = _BUSY_TIMEOUT_MS / 1_000 / SWITCH_PAUSE_S
    while connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            patience -= 1
            if patience < 0:
                raise
            time.sleep(SWITCH_PAUSE_S)


def _begin_sqlite(connection: sa.Connection) -> None:
    """Take the write lock at once: a reader that turns writer could not wait for its turn."""
    writing = connection.get_execution_options().get("labelclean_writing", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")


@contextmanager
def _transaction(ledger: Ledger, *, writing: bool) -> Iterator[sa.Connection]:
    """One transaction; writers stand in line. What the database says comes back without the password."""
    try:
        with ledger.connect().execution_options(labelclean_writing=writing) as connection, connection.begin():
            if writing and ledger.dialect.name == "postgresql":
                connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({_POSTGRES_LOCK})"))
            yield connection
    except SQLAlchemyError as fault:
        if "database is locked" in str(getattr(fault, "orig", "")):
            raise StorageError(
                f"{_shown(ledger.url)}: the ledger must be free, but is locked by another process, which has held it for more than "
                f"{_BUSY_TIMEOUT_MS / 1000:.0f} s. Nothing was {'written' if writing else 'read'}; end that process, or try again."
            ) from None
        reason = " ".join(str(getattr(fault, "orig", None) or type(fault).__name__).split())[:300]
        raise StorageError(
            f"{_shown(ledger.url)}: the ledger cannot be used: {_without_password(reason, ledger.url)}. "
            "Nothing was written; correct the place or the permissions."
        ) from None


def _shown(url: sa.URL) -> str:
    """The URL without user, password and query."""
    host = f"{url.host}:{url.port}" if url.port else url.host or ""
    return f"{url.drivername}://{host}/{url.database}"


def _without_password(text: str, url: sa.URL) -> str:
    secrets = [url.password, *(value for key, value in url.query.items() if "pass" in key)]
    for secret in secrets:
        if isinstance(secret, str) and secret:
            text = text.replace(secret, "***")
    return text


def _version(connection: sa.Connection) -> int:
    """The schema that the database has, 0 for none."""
    if not sa.inspect(connection).has_table(VERSIONS.name):
        return 0
    return int(connection.execute(sa.select(sa.func.max(VERSIONS.c.version))).scalar() or 0)


def _migrate(connection: sa.Connection, now: datetime) -> None:
    """Apply the migrations that the database has not seen, in order."""
    connection.execute(sa.schema.CreateTable(VERSIONS, if_not_exists=True))
    version = _version(connection)
    if version > len(MIGRATIONS):
        raise StorageError(
            f"{_shown(connection.engine.url)}: the ledger must have schema {len(MIGRATIONS)} or older, but has "
            f"{version}; a newer labelclean wrote it. Update labelclean on this machine; nothing was changed."
        )
    for number, statements in enumerate(MIGRATIONS[version:], start=version + 1):
        for statement in statements:
            connection.exec_driver_sql(statement)
        if number == CHAINED:
            _chain_all(connection)
        connection.execute(VERSIONS.insert(), {"version": number, "applied_at": now.astimezone(UTC)})


def _chain_all(connection: sa.Connection) -> None:
    """Chain the rows of an older ledger, which have places but no digests yet."""
    rows = list(linked(_in_order(connection, DECISIONS), DECISIONS.name, 0))
    change = DECISIONS.update().where(DECISIONS.c.place == sa.bindparam("at")).values(digest=sa.bindparam("link"))
    links = [{"at": row["place"], "link": row["digest"]} for row in rows]
    for start in range(0, len(links), _ROWS_AT_ONCE):
        connection.execute(change, links[start : start + _ROWS_AT_ONCE])


def _append(connection: sa.Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add rows at the end of a table's chain; only the holder of the write lock may."""
    place, digest = _newest(connection, table)
    chained = list(linked(rows, digest if place else table.name, place))
    for start in range(0, len(chained), _ROWS_AT_ONCE):
        connection.execute(table.insert(), chained[start : start + _ROWS_AT_ONCE])


def _newest(connection: sa.Connection, table: sa.Table) -> tuple[int, str]:
    """Place and digest of the newest row, 0 and nothing without one."""
    newest = connection.execute(
        sa.select(table.c.place, table.c.digest).order_by(table.c.place.desc()).limit(1)
    ).first()
    return (int(newest[0]), str(newest[1])) if newest else (0, "")


def _in_order(connection: sa.Connection, table: sa.Table) -> Iterator[dict[str, Any]]:
    return _rows(connection, sa.select(table).order_by(table.c.place))


def _rows(connection: sa.Connection, wanted: sa.Select[Any]) -> Iterator[dict[str, Any]]:
    """Rows by column; what somebody wrote who knows no times is told."""
    try:
        for row in connection.execute(wanted).mappings():
            yield {str(name): value for name, value in row.items()}
    except ValueError as fault:
        raise StorageError(
            f"{_shown(connection.engine.url)}: every row of the ledger must be readable, but: {fault}. Somebody changed it by "
            "hand; put it back from the backup."
        ) from None


def _held(connection: sa.Connection, keys: Sequence[str]) -> set[str]:
    """Which decisions are there already."""
    known: set[str] = set()
    for start in range(0, len(keys), _ROWS_AT_ONCE):
        some = keys[start : start + _ROWS_AT_ONCE]
        known |= set(
            connection.execute(sa.select(DECISIONS.c.decision_key).where(DECISIONS.c.decision_key.in_(some))).scalars()
        )
    return known


def _cut_off(connection: sa.Connection) -> list[ChainFault]:
    """Applications that came after a decision that is gone."""
    digests = sa.select(DECISIONS.c.place, DECISIONS.c.digest)
    digest_at = {0: ""} | {row.place: row.digest for row in connection.execute(digests)}
    return [
        ChainFault(APPLICATIONS.name, row["place"], "cut_off", row["applied_by"], row["path"])
        for row in _in_order(connection, APPLICATIONS)
        if digest_at.get(row["num_decisions"]) != row["decisions_digest"]
    ]


def _count(connection: sa.Connection) -> int:
    return int(connection.execute(sa.select(sa.func.count()).select_from(DECISIONS)).scalar_one())


def _repeated(connection: sa.Connection, decisions: Sequence[Decision]) -> set[str]:
    """Keys of undated decisions that say what their annotator said last about the sample in that run."""
    last: dict[tuple[str, ...], tuple[str | None, ...]] = {}
    for dataset, run_id in sorted({(row.dataset, row.run_id) for row in decisions}):
        held = sa.select(DECISIONS).where(DECISIONS.c.dataset == dataset, DECISIONS.c.run_id == run_id)
        for row in connection.execute(held.order_by(DECISIONS.c.reviewed_at)).mappings():
            known = _decision(row)
            last[_about(known)] = _said(known)
    return {decision_key(row) for row in decisions if last.get(_about(row)) == _said(row)}


def _about(decision: Decision) -> tuple[str, ...]:
    return decision.dataset, decision.run_id, decision.sample_id, decision.annotator_id, decision.tool


def _said(decision: Decision) -> tuple[str | None, ...]:
    """Everything but the time, and how the sample came to be asked about."""
    return (
        *_about(decision),
        decision.content_hash,
        decision.given_label,
        decision.decision,
        decision.verified_label,
        json.dumps(sorted(decision.candidate_labels)),
        json.dumps(sorted(decision.ruled_out_labels)),
        *(() if decision.verified_labels is None else (json.dumps(sorted(decision.verified_labels)),)),
    )


def _record(key: str, decision: Decision) -> dict[str, Any]:
    names = [column.name for column in DECISIONS.columns if column.name not in _OWN]
    record = {"decision_key": key} | {name: getattr(decision, name) for name in names}
    for name in ("candidate_labels", "ruled_out_labels"):
        record[name] = json.dumps(record[name], ensure_ascii=False) if record[name] else None
    if decision.verified_labels is not None:  # the empty set is an answer too
        record["verified_labels"] = json.dumps(decision.verified_labels, ensure_ascii=False)
    return record | {"reviewed_at": decision.reviewed_at.astimezone(UTC)}


def _decision(row: Mapping[Any, Any]) -> Decision:
    values = {str(name): value for name, value in row.items() if name not in _OWN}
    for name in ("candidate_labels", "ruled_out_labels"):
        values[name] = tuple(json.loads(values[name])) if values[name] else ()
    if values["verified_labels"] is not None:
        values["verified_labels"] = tuple(json.loads(values["verified_labels"]))
    return Decision(**values | {"reviewed_at": _in_utc(values["reviewed_at"])})


def _in_utc(at: datetime) -> datetime:
    """SQLite keeps no zone; everything in it is UTC."""
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
