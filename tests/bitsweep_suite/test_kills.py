"""kill -9 in mid-sweep, then the same command: nothing is lost, doubled or run again."""

import signal
import time
from pathlib import Path
from typing import Any

import pytest
from tests.bitsweep_suite import plugin
from tests.bitsweep_suite.toys import FIXED, ask_store, run_toy, toy_sweep

# Where the process dies, and at which time: worker and driver are one in the local executor.
QUICK = [("outbox", 9), ("ended", 7)]
FURTHER = [
    ("measured", 1),
    ("measured", 8),
    ("outbox", 1),
    ("finished", 3),
    ("proposed", 3),
    ("planned", 5),
    ("claimed", 4),
    ("recorded", 1),
    ("recorded", 10),
    ("ended", 1),
]
PLACES = [*QUICK, *(pytest.param(*one, marks=pytest.mark.real) for one in FURTHER)]


def rows(folder: Path, sql: str) -> list[tuple[Any, ...]]:
    """Of the store that the command line made."""
    return ask_store(folder / "results", sql, name="bitsweep.db")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same sweep, run in one go."""
    folder = tmp_path_factory.mktemp("undisturbed")
    plugin.install(folder)
    assert plugin.run_sweep(folder)["trials_failed"] == 0
    return folder


@pytest.mark.parametrize(("place", "count"), PLACES)
def test_after_a_kill_the_same_command_completes_the_sweep(
    place: str, count: int, tmp_path: Path
) -> None:
    plugin.install(tmp_path)
    kill = f"{place}:{count}:{tmp_path / 'killed'}"
    killed = plugin.bitsweep(tmp_path, *plugin.RUN, BITSWEEP_TEST_KILL=kill)
    finished_before = set(rows(tmp_path, "SELECT trial_id FROM outcomes"))
    document = plugin.run_sweep(tmp_path)

    assert killed.returncode == -signal.SIGKILL
    assert document["trials_failed"] == 0
    assert document["trials_reused"] == len(finished_before)
    twice = "SELECT trial_id, epoch FROM evaluations GROUP BY 1, 2 HAVING COUNT(*) > 1"
    assert rows(tmp_path, twice) == []
    unfinished = (
        "SELECT t.id FROM trials t LEFT JOIN outcomes o ON o.trial_id = t.id "
        "WHERE COALESCE(o.status, '') <> 'finished' OR t.epochs <> "
        "(SELECT COUNT(*) FROM evaluations e WHERE e.trial_id = t.id)"
    )
    assert rows(tmp_path, unfinished) == []
    assert rows(tmp_path, "SELECT * FROM conflicts") == []
    assert rows(tmp_path, "SELECT * FROM claims") == []


@pytest.mark.real
@pytest.mark.parametrize(("place", "count"), [("outbox", 9), ("recorded", 10), ("ended", 7)])
def test_no_finished_trial_is_given_to_a_worker_again(
    place: str, count: int, tmp_path: Path
) -> None:
    plugin.install(tmp_path)
    kill = f"{place}:{count}:{tmp_path / 'killed'}"
    plugin.bitsweep(tmp_path, *plugin.RUN, BITSWEEP_TEST_KILL=kill)
    attempts = "SELECT trial_id, COUNT(*) FROM attempts GROUP BY trial_id"
    finished = {trial for (trial,) in rows(tmp_path, "SELECT trial_id FROM outcomes")}
    before = {trial: number for trial, number in rows(tmp_path, attempts) if trial in finished}
    plugin.run_sweep(tmp_path)
    after = {trial: number for trial, number in rows(tmp_path, attempts) if trial in finished}

    assert before == after


@pytest.mark.real
def test_a_kill_before_the_search_changes_no_number(undisturbed: Path, tmp_path: Path) -> None:
    plugin.install(tmp_path)
    kill = f"recorded:2:{tmp_path / 'killed'}"
    plugin.bitsweep(tmp_path, *plugin.RUN, BITSWEEP_TEST_KILL=kill)
    plugin.run_sweep(tmp_path)
    fixed = (
        "SELECT r.trial_id, r.split, r.allocation, r.correct FROM results r "
        "WHERE r.arm = 'fixed' ORDER BY 1, 2, 3"
    )

    assert rows(tmp_path, fixed) == rows(undisturbed, fixed) != []


@pytest.mark.real
def test_a_sweep_killed_again_and_again_still_ends(tmp_path: Path) -> None:
    plugin.install(tmp_path)
    for attempt in range(4):
        kill = f"recorded:7:{tmp_path / f'killed{attempt}'}"
        plugin.bitsweep(tmp_path, *plugin.RUN, BITSWEEP_TEST_KILL=kill)
    document = plugin.run_sweep(tmp_path)

    assert document["trials_failed"] == 0
    assert len(rows(tmp_path, "SELECT * FROM outcomes")) == document["trials_total"]


def test_an_interrupt_keeps_what_was_measured_and_says_how_to_go_on(tmp_path: Path) -> None:
    plugin.install(tmp_path, plugin.fixed_that("hang"))
    process = plugin.start(tmp_path, *plugin.RUN)
    try:
        _wait_for_evaluations(tmp_path, 7)
        process.send_signal(signal.SIGINT)
        out, complaints = process.communicate(timeout=60)
    finally:
        process.kill()

    assert (process.returncode, "Traceback" in complaints) == (130, False)
    assert "Go on: bitsweep run toy.toml" in out
    statuses = rows(tmp_path, "SELECT status, COUNT(*) FROM outcomes GROUP BY 1 ORDER BY 1")
    assert statuses == [("finished", 3), ("interrupted", 1)]
    assert rows(tmp_path, "SELECT * FROM claims") == []


def _wait_for_evaluations(folder: Path, count: int) -> None:
    """Until the three starts are recorded and the first epoch of the trial that hangs."""
    for _ in range(300):
        time.sleep(0.1)
        try:
            if rows(folder, "SELECT COUNT(*) FROM evaluations")[0][0] >= count:
                time.sleep(0.2)
                return
        except Exception:
            continue  # the store is being made
    raise AssertionError("the sweep did not come so far")


def test_an_interrupted_sweep_goes_on_where_it_was(tmp_path: Path) -> None:
    seen = []

    def interrupt(progress: Any) -> None:
        seen.append(progress)
        if len(seen) == 9:
            raise KeyboardInterrupt

    first = run_toy(toy_sweep(FIXED), tmp_path, observe=interrupt)
    again = run_toy(toy_sweep(FIXED), tmp_path)

    assert first.is_interrupted and not again.is_interrupted
    assert again.trials_run == 4 - again.trials_reused and again.trials_reused > 0
    assert ask_store(tmp_path, "SELECT COUNT(*) FROM evaluations") == [(16,)]
    assert ask_store(tmp_path, "SELECT DISTINCT status FROM outcomes") == [("finished",)]
