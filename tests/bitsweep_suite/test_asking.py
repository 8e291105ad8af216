"""A visitor's SQL can neither write, nor last, nor swell; the pulse tells of every change."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.dashboards_suite.stores import reader_of, run_toy, toy_sweep, with_another_seed

from bitsweep.errors import StoreError
from bitsweep.store.asking import ask
from bitsweep.store.pulse import pulse

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT COUNT(*) FROM n"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A finished toy sweep."""
    return run_toy(tmp_path_factory.mktemp("asking") / "store.db", toy_sweep())


def test_rows_are_cut_and_that_is_told(store: str) -> None:
    answer = ask(store, "SELECT id FROM measurements ORDER BY id", limit=5, timeout_seconds=5)

    assert [row[0] for row in answer.rows] == [1, 2, 3, 4, 5]
    assert answer.is_cut
    assert not ask(store, "SELECT 1", limit=1, timeout_seconds=5).is_cut


def test_bytes_are_shown_as_digits(store: str) -> None:
    assert ask(store, "SELECT x'ff00'", limit=1, timeout_seconds=5).rows == (("ff00",),)


def test_a_word_that_is_not_known_is_told_with_its_place(store: str) -> None:
    with pytest.raises(StoreError, match=r"no such column: secret \(line 1, column 8\)"):
        ask(store, "SELECT secret FROM trials", limit=1, timeout_seconds=5)


def test_a_question_without_end_is_stopped(store: str) -> None:
    with pytest.raises(StoreError, match=r"longer than 0\.2 s"):
        ask(store, ENDLESS, limit=5, timeout_seconds=0.2)


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM trials",
        "DROP TABLE trials",
        "INSERT INTO claims VALUES ('a', 'b', 0)",
        "PRAGMA user_version = 7",
        "ATTACH 'other.db' AS other",
        "VACUUM INTO 'copy.db'",
        "CREATE TABLE mine (x)",
        "SELECT 1; DELETE FROM trials",
        "",
    ],
)
def test_nothing_is_written(store: str, sql: str) -> None:
    before = Path(store).read_bytes()
    with pytest.raises(StoreError):
        ask(store, sql, limit=5, timeout_seconds=5)

    assert Path(store).read_bytes() == before


def test_a_huge_value_is_refused(store: str) -> None:
    with pytest.raises(StoreError, match="too big"):
        ask(store, "SELECT zeroblob(500000000)", limit=5, timeout_seconds=5)


def test_a_huge_answer_is_cut(store: str) -> None:
    sql = "SELECT hex(zeroblob(400000)) FROM measurements"
    answer = ask(store, sql, limit=1000, timeout_seconds=30)

    assert answer.is_cut
    assert len(answer.rows) < 12


def test_the_pulse_changes_with_the_store_alone(tmp_path: Path) -> None:
    store = run_toy(tmp_path / "store.db", toy_sweep())
    reader = reader_of(store)
    first = pulse(reader)
    assert pulse(reader) == first

    run_toy(Path(store), with_another_seed(toy_sweep()))

    assert pulse(reader) != first


@pytest.mark.parametrize(
    "change",
    [
        "INSERT INTO claims VALUES ('x', 'me', 0)",
        "UPDATE sweeps SET updated_at = '2999'",
        "INSERT INTO evaluations (trial_id, epoch, seconds, examples, recorded_at) "
        "SELECT id, 99, 1, 1, 'now' FROM trials LIMIT 1",
    ],
)
def test_each_sign_of_life_moves_the_pulse(
    tmp_path: Path, store: str, change: str, copied: Callable[[str, Path], str]
) -> None:
    import sqlite3

    own = copied(store, tmp_path)
    reader = reader_of(own)
    before = pulse(reader)
    with sqlite3.connect(own) as connection:
        connection.execute(change)

    assert pulse(reader) != before


@pytest.fixture
def copied() -> Callable[[str, Path], str]:
    """Copies a store into a folder."""
    import shutil

    return lambda store, folder: str(shutil.copy(store, folder / "own.db"))
