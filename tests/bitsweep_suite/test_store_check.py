"""`bitsweep store check`: what is sound is called sound, and each fault is found."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from tests.bitsweep_suite import plugin
from tests.bitsweep_suite.test_store_database import migrate
from tests.bitsweep_suite.toys import FIXED, STARTED, toy_plan, toy_sweep

from bitsweep.run import RunOptions, run_sweep
from bitsweep.store.database import open_to_write
from bitsweep.store.soundness import INVARIANTS
from bitsweep.upkeep import Soundness, check_store


@pytest.fixture
def engine(store: str, tmp_path: Path) -> Iterator[Engine]:
    """A store that a whole sweep was run into, opened by somebody who may break anything."""
    work = str(tmp_path / "work")
    options = RunOptions(store=store, mlflow=None, executor="local", work=work)
    plan = toy_plan(toy_sweep(FIXED, task=STARTED))
    run_sweep(plan, options, observe=lambda progress: None)
    opened = open_to_write(store)
    yield opened
    opened.dispose()


def check(store: str, tmp_path: Path, *, reads_files: bool = False) -> Soundness:
    return check_store(store, str(tmp_path / "work"), reads_files=reads_files)


def test_a_store_that_a_sweep_was_run_into_is_sound(
    engine: Engine, store: str, tmp_path: Path
) -> None:
    assert check(store, tmp_path, reads_files=True) == Soundness(faults=(), notes=())


ONE = "(SELECT MIN(trial_id) FROM outcomes WHERE status = 'finished')"
BREAKS = {
    "values of measurements.trial_id that trials lacks": (
        f"UPDATE measurements SET trial_id = 'nobody' WHERE trial_id = {ONE}",
        f"UPDATE evaluations SET trial_id = 'nobody' WHERE trial_id = {ONE}",
    ),
    "measurements without their evaluation": (f"DELETE FROM evaluations WHERE trial_id = {ONE}",),
    "measurements that stand twice": (
        "DROP INDEX uq_measurements",
        "CREATE TEMPORARY TABLE copied AS SELECT * FROM measurements WHERE id = 1",
        "UPDATE copied SET id = 1000000",
        "INSERT INTO measurements SELECT * FROM copied",
    ),
    "evaluations without a measurement": (
        f"DELETE FROM measurements WHERE trial_id = {ONE} AND epoch = 1",
    ),
    "measurements with more right answers than samples": (
        "UPDATE measurements SET correct = total + 1 WHERE id = 1",
    ),
    "finished trials without a measurement": (f"DELETE FROM measurements WHERE trial_id = {ONE}",),
    "finished trials whose last evaluation is not that of their outcome": (
        f"UPDATE outcomes SET epoch = 99 WHERE trial_id = {ONE}",
    ),
    "trials whose last epoch is not that of their newest evaluation": (
        f"UPDATE trials SET last_epoch = 1 WHERE id = {ONE}",
    ),
    "allocations that do not give every layer of their model bits": (
        "DELETE FROM layer_bits WHERE allocation_id = 1 AND layer = 1",
    ),
    "spreads of costs that do not count every sample once": (
        "INSERT INTO sample_costs VALUES (1, 5.0, 3)",
    ),
    "trials that started from one that is not here": (
        f"UPDATE trials SET start_id = 'nobody' WHERE id = {ONE}",
    ),
    "measurements that came again with other numbers": (
        "INSERT INTO conflicts (trial_id, epoch, recorded, arrived, recorded_at) "
        f"SELECT {ONE}, 1, '[]', '[]', 'today'",
    ),
    "trials whose id is not the digest of their content": (
        "UPDATE trials SET document = (SELECT document FROM trials ORDER BY id LIMIT 1)",
    ),
    "schema: the view results does not answer": ("DROP VIEW results",),
    "schema: the table conflicts is missing": ("DROP TABLE conflicts",),
    "schema: the column requests.made_by is missing": (
        "ALTER TABLE requests DROP COLUMN made_by",
    ),
}


def test_there_is_a_break_for_each_invariant() -> None:
    assert set(INVARIANTS) <= set(BREAKS)


@pytest.mark.parametrize("words", BREAKS)
def test_each_fault_is_found(words: str, engine: Engine, store: str, tmp_path: Path) -> None:
    is_file = engine.dialect.name == "sqlite"
    with engine.connect() as connection:
        # As a restored dump or a careless client would: SQLite checks references on request only.
        lax = "PRAGMA foreign_keys = OFF" if is_file else "SET session_replication_role = replica"
        driver = connection.connection.driver_connection
        assert driver is not None
        driver.execute(lax)
        for statement in BREAKS[words]:
            connection.execute(text(statement))
        connection.commit()
        connection.invalidate()

    faults = check(store, tmp_path).faults
    assert [fault for fault in faults if words in fault], faults
    assert all("\n" not in fault for fault in faults)


def test_a_file_that_is_damaged_is_not_sound(tmp_path: Path) -> None:
    plugin.install(tmp_path)
    plugin.run_sweep(tmp_path)
    path = tmp_path / "results" / "bitsweep.db"
    content = bytearray(path.read_bytes())
    half = len(content) // 2 // 4096 * 4096
    content[half : half + 8192] = b"\xff" * 8192
    path.write_bytes(bytes(content))
    done = plugin.bitsweep(tmp_path, "store", "check")

    assert done.returncode in {1, 2}
    assert "FAULT  file: " in done.stdout or done.stderr.startswith("error: ")


def test_checkpoints_that_are_gone_or_changed_are_found(
    engine: Engine, store: str, tmp_path: Path
) -> None:
    first, second, *_ = sorted((tmp_path / "work" / "artifacts" / "checkpoints").iterdir())
    first.unlink()
    second.write_bytes(b"something else")
    quick = check(store, tmp_path).faults
    thorough = check(store, tmp_path, reads_files=True).faults

    assert len(quick) == 1 and first.stem[:12] in quick[0]
    assert len(thorough) == 2 and second.name in thorough[1]


def test_checkpoints_elsewhere_are_a_note(engine: Engine, store: str, tmp_path: Path) -> None:
    found = check_store(store, str(tmp_path / "nowhere"))

    assert found.faults == () and "were not looked at" in found.notes[0]


def test_the_command_says_it_with_its_exit_code(engine: Engine, tmp_path: Path) -> None:
    url = engine.url.render_as_string(hide_password=False).replace("+psycopg", "")
    where = ("--store", url, "--workspaces", str(tmp_path / "work"))
    plugin.install(tmp_path)
    sound = plugin.bitsweep(tmp_path, "store", "check", *where)
    with engine.begin() as connection:
        connection.execute(text("UPDATE trials SET last_epoch = 1"))
    faulty = plugin.bitsweep(tmp_path, "store", "check", "--json", *where)
    absent = plugin.bitsweep(tmp_path, "store", "check", "--store", str(tmp_path / "absent.db"))

    assert (sound.returncode, faulty.returncode, absent.returncode) == (0, 1, 2)
    assert sound.stdout.endswith(": sound\n")
    assert json.loads(faulty.stdout)["is_sound"] is False
    assert len(absent.stderr.splitlines()) == 1


def test_an_older_store_is_told_and_upgraded_with_its_data(
    engine: Engine, store: str, tmp_path: Path
) -> None:
    migrate(engine, "0003")
    older = check(store, tmp_path)
    plugin.install(tmp_path)
    done: subprocess.CompletedProcess[str] = plugin.bitsweep(
        tmp_path, "store", "upgrade", "--store", store
    )

    assert [fault for fault in older.faults if "store upgrade" in fault] and len(older.faults) == 1
    assert done.returncode == 0
    assert check(store, tmp_path).faults == ()
