"""What ends a run early: requests in the store, SIGTERM; from outside, on a real process."""

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import pytest
from tests.bitsweep_suite import plugin
from tests.bitsweep_suite.toys import FIXED, ask_store, run_toy, toy_sweep

from bitsweep.execution.base import Job
from bitsweep.execution.watch import Stoppable
from bitsweep.measurement import Evaluation
from bitsweep.run import folders_of
from bitsweep.store.database import open_to_write
from bitsweep.store.requests import ask, last_request, requested
from bitsweep.trial import Finished, Outcome


@contextmanager
def slow_run(folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """A driver in the folder whose first arm's trials take their time; one is running."""
    plugin.install(folder, plugin.fixed_that("slow"))
    process = plugin.start(folder, *plugin.RUN)
    try:
        wait_until(
            folder,
            "SELECT 1 FROM claims c JOIN evaluations e USING (trial_id) "
            "JOIN trials t ON t.id = c.trial_id WHERE t.method = 'toy'",
        )
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_until(folder: Path, sql: str) -> None:
    """Until the query answers with a row."""
    for _ in range(600):
        time.sleep(0.1)
        try:
            if ask_store(folder, sql, name="results/bitsweep.db"):
                return
        except Exception:
            continue  # the store is being made
    raise AssertionError(f"never true: {sql}")


def outcomes(folder: Path) -> dict[str, int]:
    """How many trials ended how."""
    sql = "SELECT status, COUNT(*) FROM outcomes GROUP BY 1"
    return dict(ask_store(folder, sql, name="results/bitsweep.db"))


def test_a_stop_lets_the_running_trial_end_and_starts_no_other(tmp_path: Path) -> None:
    with slow_run(tmp_path) as process:
        said = plugin.bitsweep(tmp_path, "stop", "toy")
        out, complaints = process.communicate(timeout=60)

    assert said.returncode == 0 and "asked 1 driver" in said.stdout
    assert process.returncode == 130, complaints
    assert "Go on: bitsweep run toy.toml" in out
    assert set(outcomes(tmp_path)) == {"finished"}
    assert ask_store(tmp_path, "SELECT * FROM claims", name="results/bitsweep.db") == []


def test_a_cancel_interrupts_the_running_trial(tmp_path: Path) -> None:
    with slow_run(tmp_path) as process:
        said = plugin.bitsweep(tmp_path, "cancel", "toy")
        out, _ = process.communicate(timeout=60)

    assert (said.returncode, process.returncode) == (0, 130)
    assert "Go on: bitsweep run toy.toml" in out
    assert outcomes(tmp_path)["interrupted"] == 1


def test_sigterm_is_a_clean_end(tmp_path: Path) -> None:
    with slow_run(tmp_path) as process:
        process.send_signal(signal.SIGTERM)
        out, complaints = process.communicate(timeout=60)

    assert (process.returncode, "Traceback" in complaints) == (130, False)
    assert "what was measured is kept" in out
    assert outcomes(tmp_path)["interrupted"] == 1


@pytest.mark.parametrize("seconds", [0.0, 1.5, 3.0])
def test_sigterm_while_ray_starts_is_a_clean_end(tmp_path: Path, seconds: float) -> None:
    plugin.install(tmp_path, plugin.fixed_that("hang"))
    told = ("--on-completion", "cat > told.json")
    process = plugin.start(tmp_path, "run", "toy.toml", "--mlflow", "none", *told)
    deadline = time.monotonic() + 60
    while not (tmp_path / "results" / "bitsweep.db").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(seconds)
    process.send_signal(signal.SIGTERM)
    out, complaints = process.communicate(timeout=60)

    assert process.returncode == 130, complaints
    assert "what was measured is kept. Go on: bitsweep run toy.toml" in out
    assert '"status": "interrupted"' in (tmp_path / "told.json").read_text(encoding="utf-8")


def test_a_request_of_yesterday_does_not_end_the_run_of_today(tmp_path: Path) -> None:
    run_toy(toy_sweep(FIXED), tmp_path)
    engine = open_to_write(str(tmp_path / "store.db"))
    ask(engine, 1, "cancel")
    report = run_toy(toy_sweep(FIXED, name="b"), tmp_path)
    again = run_toy(toy_sweep(FIXED), tmp_path, retries_failed=True)
    engine.dispose()

    assert not report.is_interrupted and not again.is_interrupted


def test_a_cancel_outweighs_a_stop(tmp_path: Path) -> None:
    run_toy(toy_sweep(FIXED), tmp_path)
    engine = open_to_write(str(tmp_path / "store.db"))
    before = last_request(engine, 1)
    nothing = requested(engine, 1, after=before)
    ask(engine, 1, "cancel")
    ask(engine, 1, "stop")
    both = requested(engine, 1, after=before)
    engine.dispose()

    assert (nothing, both) == (None, "cancel")


def test_asking_where_nothing_runs_says_so(tmp_path: Path) -> None:
    plugin.install(tmp_path)
    plugin.run_sweep(tmp_path)
    done = plugin.bitsweep(tmp_path, "stop", "toy")
    unknown = plugin.bitsweep(tmp_path, "stop", "toi")

    assert (done.returncode, unknown.returncode) == (2, 2)
    assert "no driver of toy gives a sign of life" in done.stderr
    assert "did you mean 'toy'" in unknown.stderr


class _Endless:
    """An agenda that would go on for ever."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.ends: list[str] = []

    def next_job(self) -> Job | None:
        return self.job

    def companions(self, job: Job, /) -> tuple[Job, ...]:
        return ()

    def is_done(self) -> bool:
        return False

    def evaluated(self, trial_id: str, evaluation: Evaluation, /) -> bool:
        return False

    def ended(self, trial_id: str, outcome: Outcome, /) -> None:
        self.ends.append(trial_id)

    def again(self, trial_id: str, /) -> None:
        """Nothing is counted here."""

    def remark(self, text: str, /) -> None:
        """Nobody reads it."""


@pytest.mark.parametrize("ends", ["by itself", "by the agenda"])
def test_a_stopped_agenda_is_done_when_its_last_trial_is(ends: str, tmp_path: Path) -> None:
    from tests.bitsweep_suite.toys import evaluation, toy_trial

    inner = _Endless(Job(trial=toy_trial(), folders=folders_of(str(tmp_path / "s.db"))))
    stop = Event()
    agenda = Stoppable(inner, stop)
    job = agenda.next_job()
    assert job is not None
    stop.set()
    before = (agenda.next_job(), agenda.is_done())
    if ends == "by itself":
        agenda.ended(job.trial.id, Finished(epoch=1))
    else:
        agenda.evaluated(job.trial.id, evaluation())

    assert before == (None, False)
    assert agenda.is_done()
