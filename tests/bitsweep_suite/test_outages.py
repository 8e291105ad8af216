"""The store goes away in mid-sweep: nothing acknowledged is lost, doubled or run again."""

import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
from sqlalchemy import event
from tests.bitsweep_suite import plugin
from tests.bitsweep_suite.toys import (
    FIXED,
    LAYERS,
    SEARCHED,
    acting,
    evaluation,
    measurement,
    toy_plan,
    toy_sweep,
    toy_trial,
)
from tests.postgres import NoPostgres, PostgresServer
from tests.real_parts import missing

from bitsweep.bits import tied
from bitsweep.errors import Conflict, InputError, StoreAway, StoreError, StoreLost
from bitsweep.execution.journal import Heading, Journal, Line, read_lines
from bitsweep.execution.progress import Progress
from bitsweep.execution.recorder import Recorder
from bitsweep.measurement import Evaluation
from bitsweep.run import RunOptions, RunReport, catch_up_journals, folders_of, run_sweep
from bitsweep.store.database import open_to_read, open_to_write, store_name
from bitsweep.store.reader import Reader
from bitsweep.store.writer import Writer, utc_now
from bitsweep.sweep import Sweep
from bitsweep.trial import Failed, Finished

SWEEP = toy_sweep(FIXED, SEARCHED)


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """A PostgreSQL server that a test may stop and start."""
    try:
        started = PostgresServer()
    except NoPostgres as reason:
        missing(str(reason))
    yield started
    started.close()


def run(
    store: str,
    folder: Path,
    *,
    observe: Callable[[Progress], None] = lambda progress: None,
    patience: float = 60.0,
    answer_seconds: float = 20.0,
    sweep: Sweep = SWEEP,
) -> RunReport:
    """The sweep in this process, with its workspaces in the folder."""
    options = RunOptions(
        store=store,
        mlflow=None,
        executor="local",
        work=str(folder / "work"),
        patience_seconds=patience,
        answer_seconds=answer_seconds,
    )
    return run_sweep(toy_plan(sweep), options, observe=observe)


def rows(store: str, sql: str) -> list[tuple[Any, ...]]:
    """What the store answers."""
    reader = Reader(open_to_read(store))
    try:
        return reader.query(sql)[1]
    finally:
        reader.close()


def at_measurement(number: int, act: Callable[[], None]) -> Callable[[Progress], None]:
    """An observer that acts once, after so many measurements."""
    done: list[bool] = []

    def observe(progress: Progress) -> None:
        if progress.measurements >= number and not done:
            done.append(True)
            act()

    return observe


def later(seconds: float, act: Callable[[], object]) -> None:
    """Do it in another thread, after a while."""
    threading.Timer(seconds, act).start()


def assert_whole(store: str, folder: Path, *, work: str = "work") -> None:
    """Every trial finished with all its epochs, each once; nothing is left behind."""
    unfinished = (
        "SELECT t.id FROM trials t LEFT JOIN outcomes o ON o.trial_id = t.id "
        "WHERE COALESCE(o.status, '') <> 'finished' OR t.epochs <> "
        "(SELECT COUNT(*) FROM evaluations e WHERE e.trial_id = t.id)"
    )
    assert rows(store, unfinished) == []
    facts = "trial_id, epoch, split, allocation_id"
    twice = f"SELECT {facts} FROM measurements GROUP BY {facts} HAVING COUNT(*) > 1"
    assert rows(store, twice) == []
    assert rows(store, "SELECT * FROM conflicts") == []
    assert rows(store, "SELECT * FROM claims") == []
    assert rows(store, "SELECT trial_id FROM attempts GROUP BY 1 HAVING COUNT(*) > 1") == []
    assert list((folder / work / "journals").glob("*")) == []


@pytest.mark.real
def test_a_sweep_outlives_a_restart_of_postgresql(server: PostgresServer, tmp_path: Path) -> None:
    def restart() -> None:
        server.stop()
        later(2.0, server.start)

    report = run(server.url, tmp_path, observe=at_measurement(7, restart))

    assert report.trials_failed == 0 and not report.is_interrupted
    assert [note for note in report.notes if "the store is back" in note]
    assert_whole(server.url, tmp_path)
    written = rows(server.url, "SELECT COUNT(*) FROM measurements")
    assert written == [(report.measurements_written,)]


@pytest.mark.real
def test_a_sweep_outlives_a_postgresql_that_stands_still(
    server: PostgresServer, tmp_path: Path
) -> None:
    def freeze() -> None:
        server.freeze()
        later(6.0, server.thaw)

    report = run(server.url, tmp_path, observe=at_measurement(7, freeze), answer_seconds=1.5)

    assert report.trials_failed == 0 and not report.is_interrupted
    assert any("the server has been silent for 1.5 s" in note for note in report.notes)
    assert any("the store is back" in note for note in report.notes)
    assert_whole(server.url, tmp_path)
    written = rows(server.url, "SELECT COUNT(*) FROM measurements")
    assert written == [(report.measurements_written,)]


@pytest.mark.real
def test_a_postgresql_that_stands_still_for_good_ends_a_run_in_one_line(
    server: PostgresServer, tmp_path: Path
) -> None:
    observe = at_measurement(7, server.freeze)
    with pytest.raises(StoreLost, match=r"kept in .*journals.*\.jsonl") as raised:
        run(server.url, tmp_path, observe=observe, patience=2.0, answer_seconds=1.0)
    server.thaw()
    report = run(server.url, tmp_path)

    assert "\n" not in str(raised.value)
    assert any("of an earlier run written" in note for note in report.notes)
    assert_whole(server.url, tmp_path)


@pytest.mark.real
def test_a_postgresql_that_stands_still_is_no_store_to_start_with(
    server: PostgresServer, tmp_path: Path
) -> None:
    server.freeze()
    begin = monotonic()
    with pytest.raises(StoreError, match=r"cannot be (opened|used now): .*timeout") as raised:
        run(f"{server.url}?connect_timeout=2", tmp_path)

    assert monotonic() - begin < 10 and "\n" not in str(raised.value)


@pytest.mark.real
def test_a_run_whose_store_never_comes_back_leaves_a_journal_for_the_next(
    server: PostgresServer, tmp_path: Path
) -> None:
    with pytest.raises(StoreLost, match=r"kept in .*journals.*\.jsonl") as raised:
        run(server.url, tmp_path, observe=at_measurement(7, server.stop), patience=2.0)
    (left,) = (tmp_path / "work" / "journals").iterdir()
    kept = read_lines(left)
    server.start()
    before = rows(server.url, "SELECT COUNT(*) FROM evaluations")
    report = run(server.url, tmp_path)

    assert "\n" not in str(raised.value)
    assert before == [(6,)] and [type(line.step) for line in kept] == [*2 * [Evaluation], Finished]
    assert any("of an earlier run written" in note for note in report.notes)
    assert_whole(server.url, tmp_path)


@pytest.mark.real
def test_a_journal_is_written_by_a_command_too(server: PostgresServer, tmp_path: Path) -> None:
    with pytest.raises(StoreLost):
        run(server.url, tmp_path, observe=at_measurement(7, server.stop), patience=1.0)
    where = ("--store", server.url, "--workspaces", str(tmp_path / "work"))
    away = plugin.bitsweep(tmp_path, "store", "catch-up", *where)
    server.start()
    before = rows(server.url, "SELECT COUNT(*) FROM outcomes")
    done = plugin.bitsweep(tmp_path, "store", "catch-up", *where)
    again = plugin.bitsweep(tmp_path, "store", "catch-up", *where)

    assert (away.returncode, away.stdout) == (2, "") and "cannot be used now" in away.stderr
    assert done.returncode == 0 and "written from its journal" in done.stdout
    assert rows(server.url, "SELECT COUNT(*) FROM outcomes") != before
    assert again.stdout == "nothing is left to write\n"
    report = run(server.url, tmp_path)
    assert report.trials_reused > 0
    assert_whole(server.url, tmp_path)


SLOW = """
[[arms]]
name = "slow"
method = "toy"
parameters = { act = "slow" }

[resources]
max_concurrent = 2
"""


@pytest.mark.real
def test_workers_of_a_cluster_go_on_while_postgresql_is_away(
    server: PostgresServer, tmp_path: Path
) -> None:
    fixed = plugin.SWEEP.partition("[[arms]]")[0] + SLOW + "[confirm]\nseeds = [0, 1]\n"
    plugin.install(tmp_path, fixed + "[[objectives]]\n")
    mirror = f"sqlite:///{tmp_path / 'mlflow.db'}"
    process = plugin.start(
        tmp_path,
        *("run", "toy.toml", "--store", server.url, "--mlflow", mirror),
        stderr=subprocess.STDOUT,
        PYTHONWARNINGS="ignore",
    )
    try:
        slow = "SELECT COUNT(*) FROM evaluations e JOIN memberships m USING (trial_id) "
        while process.poll() is None and not slow_has_begun(server.url, slow):
            sleep(0.2)
        server.stop()
        away = utc_now()
        sleep(4.0)
        server.start()
        back = utc_now()
        said, _ = process.communicate(timeout=120)
    finally:
        process.kill()

    assert process.returncode == 0, said
    assert "the store is back" in said and "MLflow lags" not in said
    assert_whole(server.url, tmp_path / "results", work=".")
    meanwhile = f"SELECT COUNT(*) FROM evaluations WHERE recorded_at > '{away}' "
    assert rows(server.url, f"{meanwhile} AND recorded_at < '{back}'")[0][0] >= 2


def slow_has_begun(store: str, sql: str) -> bool:
    """An evaluation of the arm stands; no: the store is being made, or a start trains."""
    try:
        return bool(rows(store, f"{sql} WHERE m.stage = 'confirm'")[0][0])
    except StoreError:
        return False


def locked(path: str, seconds: float) -> None:
    """Hold the file's write lock in another thread, from now on."""
    taken = threading.Event()

    def hold() -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("BEGIN EXCLUSIVE")
            taken.set()
            sleep(seconds)
            connection.execute("ROLLBACK")

    threading.Thread(target=hold).start()
    taken.wait()


def test_a_sweep_outlives_a_lock_on_its_sqlite_file(tmp_path: Path) -> None:
    store = str(tmp_path / "store.db")
    report = run(store, tmp_path, observe=at_measurement(7, lambda: locked(store, 5.0)))

    assert report.trials_failed == 0
    assert any("database is locked" in note for note in report.notes)
    assert any("the store is back" in note for note in report.notes)
    assert_whole(store, tmp_path)


# What follows needs no run: one recorder, a file that is locked or not.


class Bench:
    """A recorder on a SQLite file whose waiting is short."""

    def __init__(self, folder: Path, *, owner: str = "here:1:a") -> None:
        self.store = str(folder / "store.db")
        self.engine = open_to_write(self.store, busy_milliseconds=50)
        self.writer, self.reader = Writer(self.engine), Reader(self.engine)
        sweep = toy_sweep()
        self.sweep_id, (arm_id,) = self.writer.register_sweep(sweep, [(sweep.arms[0], "digest")])
        self.trial = toy_trial()
        self.writer.add_trial(
            self.trial, layers=LAYERS, sweep_id=self.sweep_id, stage="confirm", arm_id=arm_id
        )
        self.folders = folders_of(self.store)
        self.journal = self.folders.journals / f"{owner.replace(':', '_')}.jsonl"
        self.cleared: list[str] = []
        self.recorder = Recorder(
            self.writer,
            self.reader,
            sweep_id=self.sweep_id,
            arm_ids={"a": arm_id},
            owner=owner,
            provenance={},
            clock=lambda: self.now,
            ended_hook=lambda trial_id, outcome: self.cleared.append(trial_id),
            journal=Journal(
                self.journal,
                Heading(store=store_name(self.store), sweep=sweep.name, owner=owner),
            ),
            patience_seconds=0.2,
        )
        self.now = 1000.0

    def lock(self) -> sqlite3.Connection:
        """Take the file away; close what is returned to give it back."""
        connection = sqlite3.connect(self.store, isolation_level=None)
        connection.execute("BEGIN EXCLUSIVE")
        return connection

    def epochs(self) -> list[int]:
        """What stands in the store."""
        sql = "SELECT epoch FROM evaluations ORDER BY epoch"
        return [epoch for (epoch,) in self.reader.query(sql)[1]]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """One, torn down."""
    made = Bench(tmp_path)
    yield made
    made.recorder.close()
    made.engine.dispose()


def test_what_is_acknowledged_in_an_outage_is_on_the_disk(bench: Bench) -> None:
    with closing(bench.lock()):
        assert bench.recorder.record(bench.trial.id, evaluation(1))
        bench.recorder.end(bench.trial.id, Finished(epoch=1))
        kept = read_lines(bench.journal)

    assert [line.step for line in kept] == [evaluation(1), Finished(epoch=1)]
    assert bench.cleared == []  # the workspace is the other copy: it stays


def test_the_store_gets_it_in_order_and_once_when_it_is_back(bench: Bench) -> None:
    bench.recorder.record(bench.trial.id, evaluation(1))
    with closing(bench.lock()):
        bench.recorder.record(bench.trial.id, evaluation(2))
        bench.recorder.record(bench.trial.id, evaluation(3))
        bench.recorder.end(bench.trial.id, Finished(epoch=3))
        assert bench.recorder.is_away(is_idle=False)
    sleep(1.1)  # the next look is due

    assert not bench.recorder.is_away(is_idle=False)
    assert bench.epochs() == [1, 2, 3]
    assert bench.reader.ended([bench.trial.id])[bench.trial.id].outcome == Finished(epoch=3)
    assert bench.cleared == [bench.trial.id] and not bench.journal.exists()


def test_times_are_those_of_the_measuring(bench: Bench) -> None:
    with closing(bench.lock()):
        bench.recorder.record(bench.trial.id, evaluation(1))
        (line,) = read_lines(bench.journal)
    sleep(1.1)
    bench.recorder.finish()

    (score,) = bench.reader.scores(bench.trial.id)
    assert score.recorded_at == line.at


def test_a_claim_waits_for_the_store_and_gives_up_in_one_line(bench: Bench) -> None:
    with closing(bench.lock()), pytest.raises(StoreLost) as raised:
        bench.recorder.claim(bench.trial.id)

    assert "database is locked" in str(raised.value) and "\n" not in str(raised.value)


def test_a_run_that_can_do_something_else_does_not_give_up(bench: Bench) -> None:
    with closing(bench.lock()):
        bench.recorder.record(bench.trial.id, evaluation(1))
        sleep(0.3)

        assert bench.recorder.is_away(is_idle=False)
        assert bench.recorder.is_away(is_idle=True)
        sleep(0.3)
        with pytest.raises(StoreLost, match="1 evaluation or outcome kept in"):
            bench.recorder.is_away(is_idle=True)


def test_a_claim_survives_the_outage(bench: Bench) -> None:
    bench.recorder.claim(bench.trial.id)
    with closing(bench.lock()):
        bench.recorder.record(bench.trial.id, evaluation(1))
        bench.now += 1000.0
    sleep(1.1)
    bench.recorder.finish()

    assert not bench.writer.claim(bench.trial.id, "there:2:b", at=bench.now + 30)


def test_a_driver_that_comes_back_takes_no_silent_claim_at_once(bench: Bench) -> None:
    bench.writer.claim(bench.trial.id, "there:2:b", at=bench.now)
    bench.now += 1000.0  # its sign of life is old: there was an outage
    with closing(bench.lock()):
        bench.recorder.record(bench.trial.id, evaluation(1))
    sleep(1.1)
    bench.recorder.finish()

    assert not bench.recorder.claim(bench.trial.id)


def test_a_conflict_in_a_journal_fails_its_trial(bench: Bench) -> None:
    bench.recorder.record(bench.trial.id, evaluation(1, measurement(700)))
    with closing(bench.lock()):
        bench.recorder.record(bench.trial.id, evaluation(1, measurement(600)))
        bench.recorder.end(bench.trial.id, Finished(epoch=1))
    sleep(1.1)
    bench.recorder.finish()

    outcome = bench.reader.ended([bench.trial.id])[bench.trial.id].outcome
    assert isinstance(outcome, Failed) and "other numbers" in outcome.reason
    assert any("other numbers" in note for note in bench.recorder.notes)


def disagreeing(bench: Bench) -> None:
    """A trial goes on: its second measurement of an epoch differed while the store was away."""
    bench.recorder.record(bench.trial.id, evaluation(1, measurement(700)))
    with closing(bench.lock()):
        bench.recorder.record(bench.trial.id, evaluation(1, measurement(600)))
    sleep(1.1)
    bench.recorder.finish()


def test_a_trial_that_disagreed_is_refused_whatever_it_measures_next(bench: Bench) -> None:
    disagreeing(bench)

    with pytest.raises(Conflict, match="other numbers"):
        bench.recorder.record(bench.trial.id, evaluation(2))
    assert bench.epochs() == [1]


def test_a_trial_that_disagreed_has_failed_however_it_ends(bench: Bench) -> None:
    disagreeing(bench)
    came_to = bench.recorder.end(bench.trial.id, Finished(epoch=2))

    assert isinstance(came_to, Failed) and "other numbers" in came_to.reason
    assert bench.reader.ended([bench.trial.id])[bench.trial.id].outcome == came_to


def test_a_worker_whose_trial_disagreed_while_the_store_was_away_is_stopped(
    tmp_path: Path,
) -> None:
    store, begun = str(tmp_path / "store.db"), []

    def contradict() -> None:
        engine = open_to_write(store)
        begun.extend(rows(store, "SELECT trial_id FROM evaluations"))
        Writer(engine).record(begun[0][0], evaluation(2, measurement(1)))
        engine.dispose()
        locked(store, 6.0)

    slow = toy_sweep(acting("slow"), confirm=None)
    report = run(store, tmp_path, sweep=slow, observe=at_measurement(1, contradict))

    (trial_id,) = begun[0]
    measured = f"SELECT epoch FROM evaluations WHERE trial_id = '{trial_id}' AND epoch > 3"
    assert any("the store is back" in note for note in report.notes)
    assert rows(store, measured) == []  # it has four epochs
    assert report.trials_failed == 1 and "other numbers" in report.failures[0]


def left_behind(bench: Bench, *steps: Any) -> Path:
    """A journal of a driver that is gone."""
    heading = Heading(store=store_name(bench.store), sweep="toy", owner="here:9:z")
    journal = Journal(bench.folders.journals / "here_9_z.jsonl", heading)
    for step in steps:
        journal.append(Line(trial_id=bench.trial.id, step=step, at="2026-01-02T03:04:05.000Z"))
    journal.close()
    return journal.path


def catch_up(bench: Bench) -> tuple[str, ...]:
    return catch_up_journals(bench.store, bench.folders, bench.writer, bench.reader)


@pytest.mark.parametrize("cut", [1, 20, 100])
def test_a_torn_last_line_is_left_out(cut: int, bench: Bench) -> None:
    path = left_behind(bench, evaluation(1), evaluation(2))
    path.write_bytes(path.read_bytes()[:-cut])
    catch_up(bench)

    assert bench.epochs() == [1] and not path.exists()


def test_a_broken_line_in_the_middle_is_told_and_nothing_is_removed(bench: Bench) -> None:
    path = left_behind(bench, evaluation(1), evaluation(2))
    heading, first, second = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text(heading + first[:50] + "\n" + second, encoding="utf-8")

    with pytest.raises(InputError, match=r"jsonl:2: this line"):
        catch_up(bench)
    assert path.exists() and bench.epochs() == []


def test_a_journal_that_was_half_written_already_is_written_to_its_end(bench: Bench) -> None:
    bench.writer.record(bench.trial.id, evaluation(1))
    left_behind(bench, evaluation(1), evaluation(2))

    assert "2 evaluations and outcomes of an earlier run" in catch_up(bench)[0]
    assert bench.epochs() == [1, 2]


def test_a_journal_of_another_store_is_left_alone(bench: Bench, tmp_path: Path) -> None:
    path = left_behind(bench, evaluation(1))
    other = tmp_path / "other" / "store.db"
    engine = open_to_write(str(other))
    told = catch_up_journals(str(other), bench.folders, Writer(engine), Reader(engine))
    engine.dispose()

    assert told == () and path.exists()


def test_the_journal_of_a_driver_that_lives_is_left_alone(bench: Bench) -> None:
    with closing(bench.lock()):
        bench.recorder.record(bench.trial.id, evaluation(1))

    assert catch_up(bench) == () and bench.journal.exists()


def test_an_allocation_that_was_rolled_back_is_not_remembered(bench: Bench) -> None:
    def fail(_connection: Any) -> None:
        raise StoreAway("the power went")

    event.listen(bench.engine, "commit", fail)
    with pytest.raises(StoreAway):
        bench.writer.record(bench.trial.id, evaluation(1, measurement(bits=tied(3))))
    event.remove(bench.engine, "commit", fail)
    bench.writer.record(bench.trial.id, evaluation(1, measurement(bits=tied(2))))
    bench.writer.record(bench.trial.id, evaluation(2, measurement(bits=tied(3))))

    labels = [score.allocation for score in bench.reader.scores(bench.trial.id)]
    assert labels == ["w2a2", "w3a3"]
