"""Sweeps of one store on the same machines: one of more priority goes first."""

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Engine
from tests.bitsweep_suite import plugin
from tests.bitsweep_suite.toys import FIXED, ask_store, toy_sweep

from bitsweep.execution.precedence import Standing, Turn
from bitsweep.store.database import open_to_write
from bitsweep.store.drivers import show, waiting_above
from bitsweep.store.writer import CLAIM_SECONDS, Writer

LOCALLY = ("--executor", "local", "--mlflow", "none")
STORE = "results/bitsweep.db"
SLOW = """schema = 1
name = "{name}"
question = "Who goes first?"
reproduces = "nothing"
expects = "the urgent one"
cost = "seconds"

[task]
data = "toy-data"
model = "toy-net"
trainer = "toy_plugin:train"
epochs = 1
bits = [2, 3]

[[arms]]
name = "fixed"
method = "toy"
parameters = {{ act = "slow" }}

[[objectives]]
at = "all"

[confirm]
seeds = {seeds}
"""
MAIN = "from bitsweep.cli import main; main()"


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    """A store with two sweeps, `first` (1) and `second` (2)."""
    engine = open_to_write(str(tmp_path / "store.db"))
    for name in ("first", "second"):
        Writer(engine).register_sweep(replace(toy_sweep(FIXED), name=name), [(FIXED, name)])
    return engine


class Seat:
    """A driver's standing with a stopwatch of its own."""

    def __init__(
        self, engine: Engine, owner: str, *, sweep_id: int, priority: int, place: str = "here"
    ) -> None:
        self.now = 0.0
        self.turn = Turn(priority=priority, place=lambda: place)
        self.dead: set[str] = set()
        self.standing = Standing(
            engine,
            engine,
            self.turn,
            sweep_id=sweep_id,
            owner=owner,
            is_dead=lambda other: other in self.dead,
            stopwatch=lambda: self.now,
        )

    def above(self) -> str | None:
        """The sweep that goes first, after a look."""
        self.standing.look()
        return self.turn.above.sweep if self.turn.above else None


def two(engine: Engine, *, place: str = "here", priority: int = 5) -> tuple[Seat, Seat]:
    """A driver of no priority, and one of `priority` that would start more."""
    low = Seat(engine, "a:1:x", sweep_id=1, priority=0)
    high = Seat(engine, "b:2:y", sweep_id=2, priority=priority, place=place)
    high.turn.asked(got_one=True, running=1)
    high.standing.look()
    return low, high


def test_a_driver_of_more_priority_that_would_start_more_goes_first(engine: Engine) -> None:
    low, high = two(engine)

    assert (low.above(), high.above()) == ("second", None)


@pytest.mark.parametrize(("place", "priority"), [("elsewhere", 5), ("here", 0), ("here", -1)])
def test_others_do_not(engine: Engine, place: str, priority: int) -> None:
    low, _ = two(engine, place=place, priority=priority)

    assert low.above() is None


def test_one_that_has_all_it_may_run_holds_nobody_back(engine: Engine) -> None:
    low, high = two(engine)
    high.turn.most = 2
    high.turn.asked(got_one=True, running=2)
    high.standing.look()
    full = low.above()
    high.turn.asked(got_one=True, running=1)
    high.standing.look()

    assert (full, low.above()) == (None, "second")


def test_one_that_has_left_holds_nobody_back(engine: Engine) -> None:
    low, high = two(engine)
    high.standing.leave()

    assert low.above() is None


def test_one_that_is_dead_is_taken_away(engine: Engine) -> None:
    low, _ = two(engine)
    low.dead.add("b:2:y")

    assert low.above() is None
    assert waiting_above(engine, "here", priority=0) == []


def test_one_that_is_silent_for_a_minute_holds_nobody_back(engine: Engine) -> None:
    low, high = two(engine)
    first = low.above()
    low.now = CLAIM_SECONDS
    still = low.above()
    low.now = CLAIM_SECONDS + 1
    late = low.above()
    high.now = CLAIM_SECONDS  # it beats again
    time.sleep(0.01)
    high.standing.look()

    assert (first, still, late, low.above()) == ("second", "second", None, "second")


def test_what_a_driver_says_replaces_what_it_said(engine: Engine) -> None:
    for priority in (1, 2):
        show(engine, "o", sweep_id=1, place="p", priority=priority, is_waiting=True, at=priority)

    assert [one.priority for one in waiting_above(engine, "p", priority=0)] == [2]


def test_a_sweep_of_more_priority_goes_first_and_the_other_goes_on_after_it(
    tmp_path: Path,
) -> None:
    """Two real drivers: between the first and the last start of one the other starts nothing."""
    plugin.install(tmp_path)
    for name, seeds in (("patient", range(5)), ("urgent", range(10, 14))):
        text = SLOW.format(name=name, seeds=list(seeds))
        (tmp_path / f"{name}.toml").write_text(text, encoding="utf-8")

    def drive(name: str, *words: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-c", MAIN, "run", name, *LOCALLY, *words],
            cwd=tmp_path,
            env=plugin.environment(tmp_path),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    first = drive("patient.toml")
    try:
        starts = "SELECT a.started_at FROM attempts a JOIN sweeps s ON s.id = a.sweep_id "
        wait_until(tmp_path, starts + "WHERE s.name = 'patient'")
        second = drive("urgent.toml", "--set", "resources.priority=5")
        told_second, _ = second.communicate(timeout=120)
        told_first, _ = first.communicate(timeout=120)
    finally:
        first.kill()

    urgent = [row[0] for row in rows(tmp_path, starts + "WHERE s.name = 'urgent' ORDER BY 1")]
    patient = [row[0] for row in rows(tmp_path, starts + "WHERE s.name = 'patient' ORDER BY 1")]
    between = [one for one in patient if urgent[4] < one < urgent[-1]]
    assert (first.returncode, second.returncode) == (0, 0), told_first + told_second
    assert len(urgent) == 8 and between == [], (urgent, patient)
    assert any(one > urgent[-1] for one in patient)
    assert "gave way to urgent, priority 5" in told_first
    assert rows(tmp_path, "SELECT * FROM drivers") == []


def rows(folder: Path, sql: str) -> list[tuple[str, ...]]:
    """What the store answers."""
    return ask_store(folder, sql, name=STORE)


def wait_until(folder: Path, sql: str) -> None:
    """Until the query answers with a row."""
    for _ in range(600):
        time.sleep(0.1)
        try:
            if rows(folder, sql):
                return
        except Exception:
            continue  # the store is being made
    raise AssertionError(f"never true: {sql}")
