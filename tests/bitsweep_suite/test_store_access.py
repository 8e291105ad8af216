"""Getting into a store: credentials, servers that are not there, schemas of other versions."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text
from tests.bitsweep_suite import plugin
from tests.postgres import NoPostgres, PostgresServer
from tests.real_parts import missing

from bitsweep.errors import StoreError
from bitsweep.store.database import open_to_read, open_to_write, shown

SECRET = "s3cret-w0rd"


@pytest.fixture(scope="module")
def guarded() -> Iterator[PostgresServer]:
    """A server that asks for a password."""
    try:
        server = PostgresServer(password=SECRET)
    except NoPostgres as reason:
        missing(str(reason))
    yield server
    server.close()


def one_line(done: object) -> str:
    """What a command said on its way out: one line and exit code 2."""
    complaint = str(getattr(done, "stderr", ""))
    assert getattr(done, "returncode", None) == 2, complaint
    assert complaint.startswith("error: ") and complaint.count("\n") == 1, complaint
    return complaint


@pytest.mark.real
@pytest.mark.parametrize("verb", [("list",), plugin.RUN])
def test_wrong_credentials_are_one_line_without_the_password(
    verb: tuple[str, ...], guarded: PostgresServer, tmp_path: Path
) -> None:
    plugin.install(tmp_path)
    wrong = guarded.url.replace("postgres@", "postgres:wr0ng-w0rd@")
    complaint = one_line(plugin.bitsweep(tmp_path, *verb, "--store", wrong))

    assert "password authentication failed" in complaint and "wr0ng-w0rd" not in complaint


@pytest.mark.real
def test_no_credentials_are_one_line(
    guarded: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "none"))
    plugin.install(tmp_path)
    complaint = one_line(plugin.bitsweep(tmp_path, "list", "--store", guarded.url))

    assert "no password supplied" in complaint


@pytest.mark.real
@pytest.mark.parametrize("way", ["home", "file", "environment", "address"])
def test_a_password_comes_from_home_a_file_the_environment_or_the_address(
    way: str, guarded: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin.install(tmp_path)
    store = guarded.url
    monkeypatch.delenv("PGPASSFILE", raising=False)
    if way in {"home", "file"}:
        passwords = tmp_path / ".pgpass"
        passwords.write_text(f"127.0.0.1:{guarded.port}:*:postgres:{SECRET}\n", encoding="utf-8")
        passwords.chmod(0o600)
        there = {"home": ("HOME", tmp_path), "file": ("PGPASSFILE", passwords)}[way]
        monkeypatch.setenv(there[0], str(there[1]))
    elif way == "environment":
        monkeypatch.setenv("PGPASSWORD", SECRET)
    else:
        store = guarded.url.replace("postgres@", f"postgres:{SECRET}@")
    done = plugin.bitsweep(tmp_path, *plugin.RUN, "--store", store)
    told = plugin.bitsweep(tmp_path, "show", "toy", "--store", store, "--command")

    assert (done.returncode, told.returncode) == (0, 0), done.stderr
    assert SECRET not in done.stdout + done.stderr + told.stdout


@pytest.mark.parametrize(
    "address",
    ["postgresql://u:hidden@127.0.0.1:1/none", "postgresql://u:hidden@nowhere.invalid/none"],
)
def test_a_server_that_is_not_there_is_one_line_and_soon(address: str, tmp_path: Path) -> None:
    plugin.install(tmp_path)
    begin = time.monotonic()
    complaint = one_line(plugin.bitsweep(tmp_path, *plugin.RUN, "--store", address))

    assert "hidden" not in complaint
    assert time.monotonic() - begin < 30


def test_a_server_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    monkeypatch.setenv("PGCONNECT_TIMEOUT", "2")
    begin = time.monotonic()
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        with pytest.raises(StoreError, match="cannot be used now: connection timeout expired"):
            open_to_write(f"postgresql://u@127.0.0.1:{port}/none")

    assert time.monotonic() - begin < 10


@pytest.mark.parametrize("open_it", [open_to_read, open_to_write])
def test_a_store_of_a_newer_schema_says_to_update(open_it: object, store: str) -> None:
    engine = open_to_write(store)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()

    with pytest.raises(StoreError, match=r"newer version of bitsweep \(schema 9999; .*update"):
        open_it(store)  # type: ignore[operator]  # one of two functions


def test_a_store_of_an_older_schema_is_upgraded_by_a_run_and_refused_by_a_reader(
    store: str,
) -> None:
    from tests.bitsweep_suite.test_store_database import migrate

    engine = open_to_write(store)
    migrate(engine, "0003")
    with pytest.raises(StoreError, match="bitsweep store upgrade"):
        open_to_read(store)
    open_to_write(store).dispose()

    open_to_read(store).dispose()
    engine.dispose()


@pytest.mark.real
def test_a_database_that_one_may_not_write_is_one_line(postgres_server: str) -> None:
    role = f"nobody_{os.getpid()}"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN")
        with pytest.raises(StoreError, match="permission denied") as raised:
            open_to_write(postgres_server.replace("postgres@", f"{role}@"))
        connection.execute(f"DROP ROLE {role}")

    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("results/x.db", "results/x.db"),
        ("postgresql://ada:s3@db/lab", "postgresql://ada:***@db/lab"),
        ("postgresql://db/lab?user=a&password=s3", "postgresql://db/lab?password=***&user=a"),
        ("://s3", "(an address that cannot be read)"),
    ],
)
def test_an_address_is_shown_without_its_password(address: str, expected: str) -> None:
    assert shown(address) == expected
