"""The pages over a real PostgreSQL server: the same answers, read only, through its absences."""

from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest
from tests.dashboards_suite.layouts import exact_rows, text_of
from tests.dashboards_suite.stores import reader_of, run_toy, toy_sweep
from tests.postgres import NoPostgres, running_server
from tests.real_parts import missing

from bitsweep.exchange import import_results
from bitsweep_dashboards.address import parse_place
from bitsweep_dashboards.pages import page
from bitsweep_dashboards.reading import Library
from bitsweep_dashboards.views import Overview, SqlView, StoreGone, SweepView, View

pytestmark = pytest.mark.real
PAGES = (
    "/",
    "/sweep/toy",
    "/sweep/toy?split=validation&trials=failed",
    "/compare?arm=toy/a&arm=toy/b&against=toy/a&published=yes",
    "/space/toy?arm=b&bits=w3a3",
    "/layers/toy?arm=a",
    "/trial/TRIAL",
    "/sweep/tox",
    "/sweep/toy?bits=w9a9",
)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The URL of a PostgreSQL server."""
    try:
        with running_server() as url:
            yield url
    except NoPostgres as reason:
        missing(str(reason))


@pytest.fixture
def store(server: str, toy_store: str) -> Iterator[str]:
    """A database of its own that holds the finished toy sweep."""
    name = f"pages_{uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        address = f"{server.rpartition('/')[0]}/{name}"
        import_results(toy_store, address)
        yield address
        connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        connection.execute(f"DROP DATABASE IF EXISTS {name}_away WITH (FORCE)")


def seen(library: Library, address: str) -> View:
    """What the address shows."""
    path, _, search = address.partition("?")
    return library.view(parse_place(path, search))


def drawn(library: Library, address: str) -> str:
    """The text of the page at an address."""
    path, _, search = address.partition("?")
    place = parse_place(path, search)
    return text_of(page(library.view(place), place))


@pytest.mark.parametrize("address", PAGES)
def test_each_page_is_the_one_over_sqlite(address: str, store: str, toy_store: str) -> None:
    reader = reader_of(toy_store)
    trial = next(row for row in reader.trial_rows(reader.sweep("toy").id) if row.arm == "b")
    address = address.replace("TRIAL", trial.trial_id[:12])
    ours, theirs = Library(store), Library(toy_store)
    here, there = drawn(ours, address), drawn(theirs, address)
    logless = [text.partition("Log")[0] for text in (here, there)]

    assert type(seen(ours, address)) is type(seen(theirs, address))
    assert logless[0].replace(store, toy_store) == logless[1]


def test_the_table_is_the_one_over_sqlite_cell_by_cell(store: str, toy_store: str) -> None:
    place = parse_place("/sweep/toy", "")
    rows = [exact_rows(page(Library(one).view(place), place)) for one in (store, toy_store)]

    assert rows[0] == rows[1] != []


def test_a_sweep_that_runs_is_noticed(store: str) -> None:
    library = Library(store)
    before = library.pulse()
    run_toy(store, toy_sweep("second", "Again?"))
    view = seen(library, "/")

    assert library.pulse() != before != ""
    assert isinstance(view, Overview)
    assert {one.sweep.name for one in view.sweeps} == {"toy", "second"}


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("DELETE FROM trials", "read-only transaction"),
        ("COMMIT; DELETE FROM trials", "multiple commands"),
        ("SELECT pg_sleep(30)", "it took longer than 5 s"),
        ("SELECT nothing FROM trials", "line 1, column 8"),
    ],
)
def test_the_database_refuses_what_a_page_must_not_do(sql: str, said: str, store: str) -> None:
    place = parse_place("/sql", "").having("q", sql)
    view = Library(store).view(place)

    assert isinstance(view, SqlView)
    assert view.problem is not None and said in view.problem
    assert "\n" not in view.problem


def test_a_server_that_goes_away_is_told_and_its_return_noticed(store: str, server: str) -> None:
    library, name = Library(store), store.rpartition("/")[2]
    first = seen(library, "/sweep/toy")
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name]
        )
        connection.execute(f"ALTER DATABASE {name} RENAME TO {name}_away")
        gone = [seen(library, "/sweep/toy"), seen(library, "/")]
        connection.execute(f"ALTER DATABASE {name}_away RENAME TO {name}")
    back = seen(library, "/sweep/toy")

    assert isinstance(first, SweepView) and isinstance(back, SweepView)
    assert all(isinstance(one, StoreGone) for one in gone)
