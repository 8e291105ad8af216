"""Opening a store: migrations, reading alone, addresses, several processes at once."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Engine, inspect
from tests.bitsweep_suite.toys import LAYERS, evaluation, measurement, toy_sweep, toy_trial

from bitsweep.errors import StoreError
from bitsweep.store import database, schema
from bitsweep.store.database import open_to_read, open_to_write
from bitsweep.store.reader import Reader
from bitsweep.store.views import VIEW_COLUMNS, VIEWS
from bitsweep.store.writer import Writer
from bitsweep.trial import Finished

RESULTS_COLUMNS = """sweep arm method trial_id seed stage status split allocation allocator
    protocol epoch correct total top1_percent loss bitops size_bits mean_weight_bits convention"""
TABLES = """sweeps arms configurations trials memberships parameters claims attempts evaluations
    measurements models layers allocations layer_bits sample_costs answers outcomes provenance
    comparisons published_results"""


@pytest.fixture
def engine(store: str) -> Iterator[Engine]:
    """A store that holds one measured trial."""
    opened = open_to_write(store)
    writer = Writer(opened)
    sweep = toy_sweep()
    sweep_id, (arm_id,) = writer.register_sweep(sweep, [(sweep.arms[0], "digest")])
    trial = toy_trial()
    writer.add_trial(trial, layers=LAYERS, sweep_id=sweep_id, stage="confirm", arm_id=arm_id)
    writer.record(trial.id, evaluation(1, measurement(split="test")))
    writer.end(trial.id, Finished(epoch=1), sweep_id=sweep_id)
    yield opened
    opened.dispose()


@pytest.fixture
def reader(engine: Engine, store: str) -> Iterator[Reader]:
    """The same store, opened for reading alone."""
    opened = Reader(open_to_read(store))
    yield opened
    opened.close()


def migrate(engine: Engine, revision: str) -> None:
    """Up or down to a revision."""
    config = Config()
    folder = Path(database.__file__).parent / "migrations"
    config.set_main_option("script_location", str(folder))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        go = command.upgrade if revision == "head" else command.downgrade
        go(config, revision)


# The two unique indexes over COALESCE: SQLite does not tell what they are made of.
@pytest.mark.filterwarnings("ignore:.*expression-based index")
def test_the_migrated_schema_is_that_of_the_code(engine: Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "include_object": _is_no_view}
        )
        differences = compare_metadata(context, schema.metadata)

    assert differences == []


def _is_no_view(_object: object, name: str, _kind: str, _reflected: bool, _other: object) -> bool:
    return name not in VIEWS


def test_the_views_of_the_migration_are_those_of_the_code() -> None:
    versions = Path(database.__file__).parent / "migrations" / "versions"
    texts = [path.read_text(encoding="utf-8") for path in sorted(versions.glob("*.py"))]
    newest = [text for text in texts if "VIEWS = {" in text][-1]

    assert all(view in newest for view in VIEWS.values())


def test_a_store_with_data_goes_down_and_up_again(engine: Engine) -> None:
    migrate(engine, "base")
    empty = set(inspect(engine).get_table_names())
    migrate(engine, "head")

    assert empty == {"alembic_version"}
    assert set(TABLES.split()) <= set(inspect(engine).get_table_names())


def test_a_store_of_the_first_version_keeps_its_data_on_the_way_up_and_down(
    engine: Engine,
) -> None:
    counted = "SELECT COUNT(*), MAX(top1_percent) FROM results"
    before = Reader(engine).query(counted)[1]
    migrate(engine, "0001")
    old = (set(inspect(engine).get_view_names()), Reader(engine).query(counted)[1])
    migrate(engine, "head")

    assert old == ({"member_results", "results", "best_per_bit"}, before)
    assert set(inspect(engine).get_view_names()) == set(VIEWS)
    assert Reader(engine).query(counted)[1] == before


def test_the_version_that_readers_expect_is_the_newest_migration() -> None:
    versions = Path(database.__file__).parent / "migrations" / "versions"

    assert max(path.name[:4] for path in versions.glob("0*.py")) == schema.SCHEMA_VERSION


@pytest.mark.parametrize(
    ("version", "advice"),
    [("0004", "run `bitsweep store upgrade`"), ("0999", "written by a newer version of bitsweep")],
)
def test_a_store_of_another_version_is_told_what_to_do(
    version: str, advice: str, engine: Engine, store: str
) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{version}'")

    with pytest.raises(StoreError, match=advice):
        open_to_read(store)


def test_an_upgrade_keeps_the_data(engine: Engine, store: str) -> None:
    open_to_write(store).dispose()

    assert Reader(engine).query("SELECT COUNT(*) FROM results")[1] == [(1,)]


def test_every_table_of_the_design_is_there(engine: Engine) -> None:
    assert set(TABLES.split()) <= set(inspect(engine).get_table_names())


def test_the_view_of_results_has_the_columns_that_scripts_rely_on(reader: Reader) -> None:
    names, _ = reader.query("SELECT * FROM results")

    assert names == RESULTS_COLUMNS.split()


@pytest.mark.parametrize("view", VIEWS)
def test_each_view_answers_with_the_columns_that_the_dictionary_explains(
    view: str, reader: Reader
) -> None:
    names, rows = reader.query(f"SELECT * FROM {view}")

    assert len(rows) == 1
    assert names == list(VIEW_COLUMNS[view])


def test_the_wide_view_reads_any_parameter_by_its_name(reader: Reader) -> None:
    sql = "SELECT parameters ->> 'x', learning_rate FROM trial_parameters_wide"
    ((x, rate),) = reader.query(sql)[1]

    assert (float(x), rate) == (0.5, None)


WRITES = (
    "DELETE FROM measurements",
    "DELETE FROM measurements RETURNING id",
    "UPDATE trials SET seed = 9",
    "INSERT INTO claims VALUES ('x', 'y', 0)",
    "DROP TABLE conflicts",
    "CREATE TABLE mine (x INTEGER)",
    "DROP VIEW results",
    "ALTER TABLE trials ADD COLUMN mine INTEGER",
    "SELECT 1; DELETE FROM measurements",
    "COMMIT; DELETE FROM measurements; COMMIT; SELECT 1",
    "BEGIN; DELETE FROM measurements; COMMIT",
)
SQLITE_WRITES = (
    "PRAGMA user_version = 7",
    "PRAGMA journal_mode = DELETE",
    "PRAGMA writable_schema = 1",
    "PRAGMA query_only = 0",
    "VACUUM",
    "REINDEX",
)
POSTGRES_WRITES = (
    "SET TRANSACTION READ WRITE",
    "SET default_transaction_read_only = off; DELETE FROM measurements; COMMIT",
    "SELECT set_config('transaction_read_only', 'off', false)",
    "ROLLBACK; BEGIN READ WRITE; DELETE FROM measurements; COMMIT; SELECT 1",
    "DO $$ BEGIN DELETE FROM measurements; END $$",
    "WITH gone AS (DELETE FROM measurements RETURNING id) SELECT * FROM gone",
)


@pytest.mark.parametrize("sql", [*WRITES, *SQLITE_WRITES, *POSTGRES_WRITES])
def test_no_statement_of_a_user_changes_the_store(
    sql: str, reader: Reader, engine: Engine
) -> None:
    before = everything(engine)
    try:
        reader.query(sql)
    except StoreError as error:
        assert "\n" not in str(error)
    reader.query("SELECT 1")

    assert everything(engine) == before


def everything(engine: Engine) -> dict[str, Any]:
    """All rows of all tables."""
    reader = Reader(engine)
    names = sorted(inspect(engine).get_table_names())
    found: dict[str, Any] = {name: reader.query(f"SELECT * FROM {name}") for name in names}
    if engine.dialect.name == "sqlite":
        found["version"] = reader.query("PRAGMA user_version")
    return found


@pytest.mark.parametrize("sql", WRITES)
def test_a_write_is_refused_in_the_words_of_the_database(sql: str, reader: Reader) -> None:
    with pytest.raises(StoreError):
        reader.query(sql)


@pytest.mark.parametrize(
    "sql", ["ATTACH 'other.db' AS other", "VACUUM INTO 'copy.db'", "ATTACH '{store}' AS twice"]
)
def test_a_reader_of_sqlite_touches_no_other_file(
    sql: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = str(tmp_path / "store.db")
    open_to_write(store).dispose()
    monkeypatch.chdir(tmp_path)
    reader = Reader(open_to_read(store))

    with pytest.raises(StoreError):
        reader.query(sql.format(store=store))
    reader.close()
    assert {path.name for path in tmp_path.glob("*.db")} == {"store.db"}


@pytest.mark.parametrize("sql", ["SELEC 1", "SELECT * FROM nowhere", "", "SELECT ("])
def test_a_mistaken_query_is_a_store_error_of_one_line(sql: str, reader: Reader) -> None:
    with pytest.raises(StoreError) as raised:
        reader.query(sql)

    assert "\n" not in str(raised.value)


def test_common_sql_is_understood(reader: Reader) -> None:
    sql = "WITH one AS (SELECT 1 AS x) SELECT x, COUNT(*) AS n FROM one GROUP BY x"

    assert reader.query(sql) == (["x", "n"], [(1, 1)])


def test_a_store_that_is_not_there_is_not_made_by_reading(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="run a sweep first"):
        open_to_read(str(tmp_path / "absent.db"))
    assert list(tmp_path.iterdir()) == []


def test_another_database_is_no_store(tmp_path: Path) -> None:
    import sqlite3

    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE mine (x)")
    connection.close()

    with pytest.raises(StoreError, match="is no bitsweep store"):
        open_to_read(str(path))


@pytest.mark.parametrize("open_it", [open_to_read, open_to_write])
def test_a_file_that_is_no_database_is_a_store_error(open_it: Any, tmp_path: Path) -> None:
    path = tmp_path / "text.db"
    path.write_text("this is no database, " * 100, encoding="utf-8")

    with pytest.raises(StoreError) as raised:
        open_it(str(path))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "address",
    ["mysql://host/db", "://", "postgresql://127.0.0.1:1/none", "sqlite:////nowhere/at/all.db"],
)
def test_an_address_that_leads_nowhere_is_a_store_error(address: str) -> None:
    with pytest.raises(StoreError) as raised:
        open_to_read(address)
    assert "\n" not in str(raised.value)


def test_a_folder_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        open_to_write(str(tmp_path))


def test_a_store_under_a_file_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(StoreError, match="file"):
        open_to_write(str(tmp_path / "file" / "store.db"))


@pytest.mark.parametrize("name", ["with space.db", "per%cent.db", "question?.db", "hash#.db"])
def test_a_path_with_odd_letters_is_written_and_read(name: str, tmp_path: Path) -> None:
    path = str(tmp_path / name)
    open_to_write(path).dispose()
    reader = Reader(open_to_read(path))

    assert reader.sweeps() == []
    reader.close()
    assert (tmp_path / name).is_file()


def test_processes_that_open_a_new_store_at_once_all_succeed(store: str) -> None:
    code = f"from bitsweep.store.database import open_to_write; open_to_write({store!r})"
    processes = [
        subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE) for _ in range(3)
    ]
    complaints = [process.communicate()[1].decode() for process in processes]

    assert complaints == [""] * len(processes)


def test_a_migration_that_is_cut_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = str(tmp_path / "store.db")
    with pytest.raises(StoreError), monkeypatch.context() as patch:
        patch.setattr("alembic.op.execute", _cut)
        open_to_write(store)

    engine = open_to_write(store)
    assert set(TABLES.split()) <= set(inspect(engine).get_table_names())
    engine.dispose()


def _cut(_statement: str) -> None:
    from sqlalchemy.exc import OperationalError

    raise OperationalError("CREATE VIEW", {}, Exception("the power went"))


def test_readers_see_commits_while_a_writer_is_open(engine: Engine, reader: Reader) -> None:
    before = reader.query("SELECT COUNT(*) FROM sweeps")[1]
    Writer(engine).register_sweep(toy_sweep(name="other"), [])

    assert (before, reader.query("SELECT COUNT(*) FROM sweeps")[1]) == ([(1,)], [(2,)])
