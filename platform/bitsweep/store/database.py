"""Opening a result database: its address, its pragmas, its migrations."""

import os
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from bitsweep.errors import NoStore, StoreError
from bitsweep.store.outage import tell_outages
from bitsweep.store.schema import SCHEMA_VERSION

DEFAULT_STORE = "results/bitsweep.db"
_BUSY_MILLISECONDS = 30_000
_UPGRADE_LOCK = 7_203_495  # any number that all processes agree on
_MIGRATIONS = Path(__file__).parent / "migrations"
_CONNECT_SECONDS = 10
# libpq's own defaults: two minutes for a host that is silent, for ever once connected.
_NETWORK = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,  # milliseconds
}
_STATEMENT_SECONDS = 60
# A reader's statement is ended by the server; one that stands still does not even do that.
_READER_ANSWER_SECONDS = _STATEMENT_SECONDS + 15.0


def store_url(address: str) -> URL:
    """Read a path or a database URL; raise StoreError for anything else."""
    if "://" not in address:
        return URL.create("sqlite", database=str(Path(address).resolve()))
    try:
        url = make_url(address)
    except ArgumentError as error:
        raise StoreError(f"store {shown(address)!r}: expected a file or a database URL") from error
    if url.get_backend_name() == "postgresql":
        return url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() == "sqlite":
        return url
    raise StoreError(f"store {shown(address)!r}: expected SQLite (a file) or postgresql://...")


def shown(address: str) -> str:
    """The address without its password, for messages.

    >>> shown("postgresql://ada:secret@db/lab?password=secret")
    'postgresql://ada:***@db/lab?password=***'
    """
    if "://" not in address:
        return address
    try:
        url = make_url(address)
    except ArgumentError:
        return "(an address that cannot be read)"
    hidden = {name: "***" for name in url.query if "password" in name}
    return url.update_query_dict(hidden).render_as_string().replace("%2A%2A%2A", "***")


def store_name(address: str) -> str:
    """What tells one store from another, without user and password: file, or host and database.

    >>> store_name("postgresql://ada:secret@db/lab")
    'postgresql://db:5432/lab'
    """
    url = store_url(address)
    if url.get_backend_name() == "sqlite":
        return str(Path(url.database or "").resolve())
    host = url.host or os.environ.get("PGHOST", "")
    port = url.port or os.environ.get("PGPORT", "5432")
    return f"postgresql://{host}:{port}/{url.database or os.environ.get('PGDATABASE', '')}"


def open_to_write(
    address: str,
    *,
    busy_milliseconds: int = _BUSY_MILLISECONDS,
    answer_seconds: float | None = None,
) -> Engine:
    """Open a store, creating a SQLite file and migrating it; raise StoreError if it fails.

    busy_milliseconds: how long a write waits for another process that writes to the same file.
    answer_seconds: how long PostgreSQL may take for one statement, migrations excepted, before it
    counts as away; None: any time.
    """
    url = store_url(address)
    if url.get_backend_name() == "sqlite" and url.database:
        try:
            Path(url.database).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"store {shown(address)!r}: {error.strerror}: {error.filename}"
            ) from error
    engine = create_engine(url, connect_args=_network(url))
    tell_outages(engine, shown(address), writes=True)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _sqlite_writer_pragmas(busy_milliseconds))
        event.listen(engine, "begin", _begin_to_write)
    try:
        with engine.connect() as connection:
            _refuse_newer(version_of(connection), address)
        upgrade(engine)
    except SQLAlchemyError as error:
        raise StoreError(
            f"store {shown(address)!r} cannot be opened: {first_line(error)}"
        ) from error
    _bound_answers(engine, answer_seconds)
    return engine


def open_to_read(address: str) -> Engine:
    """Open a store that exists, for reading alone: the database itself refuses writes."""
    engine = open_to_look(address)
    with engine.connect() as connection:
        version = version_of(connection)
    if version != SCHEMA_VERSION:
        raise StoreError(
            f"{shown(address)!r} was written by an older version: run `bitsweep store upgrade`"
        )
    return engine


def open_to_look(address: str) -> Engine:
    """The same for a store of any version but a newer one."""
    url = store_url(address)
    if url.get_backend_name() == "sqlite":
        if not url.database or not Path(url.database).is_file():
            raise NoStore(f"no store at {shown(address)!r}: run a sweep first, or give --store")
        uri = f"file:{quote(str(Path(url.database).resolve()))}"
        engine = create_engine(
            URL.create("sqlite", database=uri, query={"mode": "ro", "uri": "true"})
        )
        event.listen(engine, "connect", _sqlite_one_file)
    else:
        options = f"-c default_transaction_read_only=on -c statement_timeout={_STATEMENT_SECONDS}s"
        # A prepared statement is a single one: no "COMMIT; DELETE ..." leaves the transaction.
        arguments = _network(url) | {"options": options, "prepare_threshold": 0}
        engine = create_engine(url, connect_args=arguments)
    _bound_answers(engine, _READER_ANSWER_SECONDS)
    tell_outages(engine, shown(address), writes=False)
    try:
        with engine.connect() as connection:
            if not inspect(connection).has_table("measurements"):
                raise NoStore(
                    f"{shown(address)!r} is no bitsweep store: it has no table 'measurements'"
                )
            _refuse_newer(version_of(connection), address)
    except SQLAlchemyError as error:
        raise StoreError(
            f"store {shown(address)!r} cannot be read: {first_line(error)}"
        ) from error
    return engine


def version_of(connection: Connection) -> str | None:
    """The version of the schema of a database; None where it has none yet."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all()
    return str(found[0]) if found else None


def _refuse_newer(version: str | None, address: str) -> None:
    if version is not None and version > SCHEMA_VERSION:
        raise StoreError(
            f"{shown(address)!r} was written by a newer version of bitsweep (schema {version}; "
            f"this one knows up to {SCHEMA_VERSION}): update bitsweep"
        )


def _network(url: URL) -> dict[str, Any]:
    """How long to wait for a PostgreSQL server; what the address or the environment says wins."""
    if url.get_backend_name() != "postgresql":
        return {}
    wanted: dict[str, Any] = dict(_NETWORK)
    if "PGCONNECT_TIMEOUT" not in os.environ:
        wanted["connect_timeout"] = _CONNECT_SECONDS
    return {name: value for name, value in wanted.items() if name not in url.query}


def _bound_answers(engine: Engine, answer_seconds: float | None) -> None:
    if engine.dialect.name == "postgresql" and answer_seconds is not None:
        from bitsweep.store.silence import end_silence

        end_silence(engine, answer_seconds=answer_seconds)


def upgrade(engine: Engine) -> None:
    """Bring the schema to the newest version, wholly or not at all; one process at a time."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_UPGRADE_LOCK})")
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def first_line(error: Exception) -> str:
    """The first line of a database's complaint, without the statement behind it."""
    cause = getattr(error, "orig", None) or error
    return str(cause).strip().splitlines()[0]


def place_in(error: SQLAlchemyError, sql: str) -> str:
    """Where the statement is wrong, as ` (line 2, column 7)`; empty where nobody can tell.

    PostgreSQL tells; SQLite names a word, which is a place if it stands once in the statement.
    """
    cause = getattr(error, "orig", None)
    told = getattr(getattr(cause, "diag", None), "statement_position", None)
    if told is not None:
        at = int(told) - 1
    else:
        named = re.search(r'near "(.+?)"|no such \w+: ([\w.]+)', str(cause))
        word = re.escape(named.group(1) or named.group(2)) if named else "(?!)"
        found = [one.start() for one in re.finditer(rf"(?<!\w){word}(?!\w)", sql)]
        if len(found) != 1:
            return ""
        at = found[0]
    before = sql[:at]
    return f" (line {before.count(chr(10)) + 1}, column {at - before.rfind(chr(10))})"


def _sqlite_one_file(connection: Any, _record: Any) -> None:  # a DB-API connection
    """A reader attaches nothing, so that it cannot write to other files either (VACUUM INTO)."""

    def permit(action: int, *_: str | None) -> int:
        return sqlite3.SQLITE_DENY if action == sqlite3.SQLITE_ATTACH else sqlite3.SQLITE_OK

    connection.set_authorizer(permit)


def _sqlite_writer_pragmas(busy_milliseconds: int) -> Callable[[Any, Any], None]:
    """Readers never block a writer (WAL), and a commit survives power loss (FULL)."""

    def prepare(connection: Any, _record: Any) -> None:  # a DB-API connection
        connection.isolation_level = None  # else the driver leaves DDL outside of transactions
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={busy_milliseconds}")
        _begin_log(cursor, seconds=busy_milliseconds / 1e3)
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    return prepare


def _begin_log(cursor: sqlite3.Cursor, *, seconds: float) -> None:
    """Turn WAL on. For that alone SQLite does not wait while another process opens a new file."""
    end = monotonic() + seconds
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or monotonic() > end:
                raise
            sleep(0.01)
        else:
            return


def _begin_to_write(connection: Connection) -> None:
    """Wait for the lock at the beginning: a reader that turns writer later may be refused."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")
