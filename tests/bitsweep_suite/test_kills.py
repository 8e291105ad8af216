"""kill -9 in mid-sweep, then the same command: nothing is lost, doubled or run again."""

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from tests.bitsweep_suite import plugin
from tests.bitsweep_suite.toys import FIXED, ask_store, run_toy, toy_sweep, toy_task

from bitsweep.bits import tied
from bitsweep.sweep import Confirm, Resources

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
    assert document["trials_reused"] == len(finished_before)
    assert_complete(tmp_path, document)


def assert_complete(folder: Path, document: dict[str, Any]) -> None:
    """Every trial has finished, with each epoch once, and nobody claims any."""
    assert document["trials_failed"] == 0
    twice = "SELECT trial_id, epoch FROM evaluations GROUP BY 1, 2 HAVING COUNT(*) > 1"
    assert rows(folder, twice) == []
    unfinished = (
        "SELECT t.id FROM trials t LEFT JOIN outcomes o ON o.trial_id = t.id "
        "WHERE COALESCE(o.status, '') <> 'finished' OR t.epochs <> "
        "(SELECT COUNT(*) FROM evaluations e WHERE e.trial_id = t.id)"
    )
    assert rows(folder, unfinished) == []
    assert rows(folder, "SELECT * FROM conflicts") == []
    assert rows(folder, "SELECT * FROM claims") == []


# Inside a round of two starts, between the two of a round, and inside one of two trials.
TOGETHER = [
    ("outbox", 3),
    pytest.param("measured", 2, marks=pytest.mark.real),
    pytest.param("measured", 5, marks=pytest.mark.real),
    pytest.param("outbox", 6, marks=pytest.mark.real),
    pytest.param("finished", 8, marks=pytest.mark.real),
    pytest.param("claimed", 2, marks=pytest.mark.real),
    pytest.param("recorded", 3, marks=pytest.mark.real),
    pytest.param("recorded", 10, marks=pytest.mark.real),
    pytest.param("ended", 2, marks=pytest.mark.real),
    pytest.param("ended", 4, marks=pytest.mark.real),
]


@pytest.mark.parametrize(("place", "count"), TOGETHER)
def test_after_a_kill_seeds_that_were_trained_together_complete_too(
    place: str, count: int, tmp_path: Path
) -> None:
    plugin.install(tmp_path, plugin.TOGETHER)
    kill = f"{place}:{count}:{tmp_path / 'killed'}"
    killed = plugin.bitsweep(tmp_path, *plugin.RUN, BITSWEEP_TEST_KILL=kill)
    document = plugin.run_sweep(tmp_path)

    assert killed.returncode == -signal.SIGKILL
    assert_complete(tmp_path, document)


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


def slowly_together() -> str:
    """Two seeds of one arm that are trained together, a second an epoch; nothing is searched."""
    text = plugin.fixed_that("slow")
    alone = text[: text.index('[[arms]]\nname = "searched"')] + text[text.index("[[obj") :]
    alone = alone[: alone.index("[[comparisons]]")].replace("bits = [2, 3]", "bits = [2]")
    return f"{alone}\n[resources]\nseeds_together = 2\n"


@pytest.mark.parametrize("executor", ["local", pytest.param("ray", marks=pytest.mark.real)])
def test_seeds_trained_together_go_on_after_an_interrupt(executor: str, tmp_path: Path) -> None:
    plugin.install(tmp_path, slowly_together())
    run = ("run", "toy.toml", "--mlflow", "none", "--executor", executor)
    process = plugin.start(tmp_path, *run)
    try:
        _wait_for_evaluations(tmp_path, 5)  # of the starts four, and of the first round one or two
        process.send_signal(signal.SIGINT)
        out, complaints = process.communicate(timeout=60)
    finally:
        process.kill()
    statuses = rows(tmp_path, "SELECT status, COUNT(*) FROM outcomes GROUP BY 1 ORDER BY 1")
    done = plugin.bitsweep(tmp_path, *run, "--json")

    assert (process.returncode, "Traceback" in complaints) == (130, False), complaints + out
    assert statuses == [("finished", 2), ("interrupted", 2)]
    assert done.returncode == 0, done.stderr
    assert_complete(tmp_path, json.loads(done.stdout))


@pytest.mark.parametrize("after", [1, 2, 3, 6])
def test_an_interrupt_inside_a_round_loses_and_doubles_nothing(after: int, tmp_path: Path) -> None:
    sweep = toy_sweep(
        FIXED,
        task=toy_task(bits=(tied(2),)),
        confirm=Confirm(seeds=(0, 1, 2)),
        resources=Resources(seeds_together=3),
    )
    seen = []

    def interrupt(progress: Any) -> None:
        if not progress.event:  # an evaluation
            seen.append(progress)
        if len(seen) == after:
            raise KeyboardInterrupt

    first = run_toy(sweep, tmp_path, observe=interrupt)
    before = ask_store(tmp_path, "SELECT status, COUNT(*) FROM outcomes GROUP BY 1")
    again = run_toy(sweep, tmp_path)

    assert first.is_interrupted and before == [("interrupted", 3)]
    assert (again.trials_run, again.trials_failed, again.measurements_written) == (
        3,
        0,
        3 * 5 - after,
    )
    assert ask_store(tmp_path, "SELECT COUNT(*) FROM evaluations") == [(3 * 4,)]
    assert ask_store(tmp_path, "SELECT DISTINCT status FROM outcomes") == [("finished",)]
