"""One job: the outbox comes before the wire, what was sent is sent again, and closing stops."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.bitsweep_suite.toys import evaluation, toy_trial

from bitsweep import errors
from bitsweep.execution.base import (
    Folders,
    Job,
    job_document,
    outcome_document,
    parse_job,
    parse_outcome,
)
from bitsweep.execution.limits import resident_bytes
from bitsweep.execution.worker import JobRun
from bitsweep.measurement import Evaluation, evaluation_document
from bitsweep.testing import toy_train
from bitsweep.trainer import Workspace
from bitsweep.trial import Diverged, Failed, Finished, Interrupted, Outcome, Pruned, Trial


def job_in(folder: Path, **changes: object) -> Job:
    """A job of four epochs with its workspace in the folder."""
    folders = Folders(
        workspaces=folder / "workspaces", artifacts=folder / "artifacts", logs=folder / "logs"
    )
    fields: dict[str, object] = {"trial": toy_trial(), "folders": folders, **changes}
    return Job(**fields)  # type: ignore[arg-type]  # fields of Job


def outbox(job: Job) -> Path:
    """Where its evaluations are kept."""
    return job.folders.workspace(job.trial.id) / "outbox.jsonl"


def steps(run: JobRun) -> list[Evaluation | Outcome]:
    """All steps to the outcome."""
    found: list[Evaluation | Outcome] = []
    while not found or isinstance(found[-1], Evaluation):
        found.append(run.step())
    return found


def epochs(found: list[Evaluation | Outcome]) -> list[int]:
    """The epochs of the evaluations among the steps."""
    return [one.epoch for one in found if isinstance(one, Evaluation)]


def test_a_job_yields_its_evaluations_and_then_its_outcome(tmp_path: Path) -> None:
    found = steps(JobRun(job_in(tmp_path)))

    assert epochs(found) == [1, 2, 3, 4] and found[-1] == Finished(epoch=4)


def test_an_evaluation_stands_in_the_outbox_before_it_is_sent(tmp_path: Path) -> None:
    job = job_in(tmp_path)
    first = JobRun(job).step()

    assert isinstance(first, Evaluation)
    assert json.loads(outbox(job).read_text()) == evaluation_document(first)


def test_a_restarted_job_sends_its_outbox_again_and_goes_on(tmp_path: Path) -> None:
    job = job_in(tmp_path)
    dead = JobRun(job)
    sent = [dead.step(), dead.step()]
    found = steps(JobRun(job))

    assert found[:2] == sent and epochs(found) == [1, 2, 3, 4]


def test_an_evaluation_that_was_sent_but_not_saved_is_not_measured_twice(tmp_path: Path) -> None:
    job = job_in(tmp_path)
    dead = JobRun(job)
    dead.step()
    restarted = JobRun(job)
    steps(restarted)

    assert len(outbox(job).read_text().splitlines()) == 4


@pytest.mark.parametrize("cut", [1, 10, 100])
def test_a_line_cut_in_the_outbox_is_measured_again(cut: int, tmp_path: Path) -> None:
    job = job_in(tmp_path)
    dead = JobRun(job)
    dead.step()
    dead.step()
    path = outbox(job)
    path.write_bytes(path.read_bytes()[:-cut])
    found = steps(JobRun(job))

    assert epochs(found) == [1, 2, 3, 4]
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4]


def test_an_outbox_of_zeroes_after_power_loss_is_measured_again(tmp_path: Path) -> None:
    job = job_in(tmp_path)
    JobRun(job)
    outbox(job).parent.mkdir(parents=True, exist_ok=True)
    outbox(job).write_bytes(b"\0" * 512)

    assert epochs(steps(JobRun(job))) == [1, 2, 3, 4]


def test_a_job_that_had_ended_says_so_again(tmp_path: Path) -> None:
    job = job_in(tmp_path, keeps_checkpoint=True)
    first = steps(JobRun(job))

    assert steps(JobRun(job)) == first


def test_a_kept_checkpoint_lies_under_its_digest(tmp_path: Path) -> None:
    from hashlib import sha256

    job = job_in(tmp_path, keeps_checkpoint=True)
    outcome = steps(JobRun(job))[-1]

    assert isinstance(outcome, Finished) and outcome.checkpoint is not None
    content = job.folders.checkpoint(outcome.checkpoint).read_bytes()
    assert sha256(content).hexdigest() == outcome.checkpoint


def test_a_checkpoint_that_nobody_asked_for_is_not_kept(tmp_path: Path) -> None:
    job = job_in(tmp_path)

    assert steps(JobRun(job))[-1] == Finished(epoch=4, checkpoint=None)
    assert not job.folders.artifacts.exists()


def test_a_start_that_is_gone_is_a_failure_with_its_reason(tmp_path: Path) -> None:
    outcome = JobRun(job_in(tmp_path, start_checkpoint="f" * 64)).step()

    assert isinstance(outcome, Failed) and "checkpoint it starts from is gone" in outcome.reason


def test_a_start_of_another_content_is_never_trained_on(tmp_path: Path) -> None:
    job = job_in(tmp_path, start_checkpoint="f" * 64)
    path = job.folders.checkpoint("f" * 64)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"the network of another trial")
    outcome = JobRun(job).step()

    assert isinstance(outcome, Failed)
    assert str(path) in outcome.reason and "--retry failed" in outcome.reason


def test_an_unknown_trainer_is_a_failure_with_its_reason(tmp_path: Path) -> None:
    outcome = JobRun(job_in(tmp_path, trial=toy_trial(trainer="imgae"))).step()

    assert isinstance(outcome, Failed) and "unknown trainer 'imgae'" in outcome.reason


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError("first\nsecond"), Failed(reason="RuntimeError: first")),
        (RuntimeError(), Failed(reason="RuntimeError: no message")),
        (MemoryError("out"), Failed(reason="MemoryError: out")),
        (errors.Diverged("nan"), Diverged(reason="nan")),
    ],
)
def test_what_a_trainer_raises_becomes_an_outcome(
    error: Exception, expected: Outcome, tmp_path: Path
) -> None:
    def train(trial: Trial, workspace: Workspace) -> Iterator[Evaluation]:
        yield evaluation(1)
        raise error

    found = steps(JobRun(job_in(tmp_path), trainer=train))

    assert epochs(found) == [1] and found[-1] == expected


def test_the_traceback_of_a_failure_is_kept_in_the_workspace(tmp_path: Path) -> None:
    job = job_in(tmp_path, trial=toy_trial(parameters={"act": "raise"}))
    steps(JobRun(job))

    kept = job.folders.log(job.trial.id)
    assert "RuntimeError: the toy was told to fail" in kept.read_text()


def test_a_trainer_that_hangs_runs_out_of_time(tmp_path: Path) -> None:
    job = job_in(tmp_path, trial=toy_trial(parameters={"act": "hang"}), limit_seconds=0.2)
    found = steps(JobRun(job))

    assert epochs(found) == [1]
    assert found[-1] == Failed(reason="timeout: over 0.00333333 minutes")


def test_a_trainer_that_leaks_runs_out_of_memory_and_gives_it_back(tmp_path: Path) -> None:
    def train(trial: Trial, workspace: Workspace) -> Iterator[Evaluation]:
        yield evaluation(1)
        kept = []
        while True:
            try:
                kept.append(bytearray(b"x" * 4_000_000))
            except Exception:
                continue

    before = resident_bytes() or 0
    job = job_in(tmp_path, limit_bytes=before + 200_000_000)
    found = steps(JobRun(job, trainer=train))

    assert epochs(found) == [1]
    assert isinstance(found[-1], Failed) and found[-1].reason.startswith("memory: over ")
    assert (resident_bytes() or 0) < before + 100_000_000


DEADLOCK = """
import ctypes, json, sys
from pathlib import Path
from bitsweep.execution import limits
from bitsweep.execution.base import parse_job
from bitsweep.execution.worker import JobRun
from bitsweep.testing import toy_train

limits.GRACE_SECONDS = 0.2


def train(trial, workspace):
    yield next(toy_train(trial, workspace))
    kept = []
    while sys.argv[1] == "leaks":
        kept.append(bytearray(b"x" * 4_000_000))
        limits.signal.pthread_sigmask(limits.signal.SIG_BLOCK, {limits.signal.SIGALRM})
    mutex = ctypes.create_string_buffer(64)
    ctypes.CDLL(None).pthread_mutex_lock(mutex)
    ctypes.CDLL(None).pthread_mutex_lock(mutex)


run = JobRun(parse_job(json.loads(Path("job.json").read_text())), trainer=train, may_exit=True)
run.step()
run.step()
"""


@pytest.mark.parametrize(
    ("way", "reason"),
    [
        ("hangs", "timeout: over 0.005 minutes, and no signal got through"),
        ("leaks", "memory: over 0.5 GiB (resources.memory_gib_per_worker)"),
    ],
)
def test_a_trainer_that_no_signal_reaches_ends_with_its_process_and_its_reason(
    way: str, reason: str, tmp_path: Path
) -> None:
    limits: dict[str, Any] = {"limit_seconds": 0.3}
    if way == "leaks":
        limits = {"limit_bytes": 2**29}
    job = job_in(tmp_path, **limits)
    (tmp_path / "job.json").write_text(json.dumps(job_document(job)), encoding="utf-8")
    command = [sys.executable, "-c", DEADLOCK, way]
    ended = subprocess.run(command, cwd=tmp_path, timeout=60, capture_output=True, text=True)
    found = steps(JobRun(job, may_exit=True))
    retried = steps(JobRun(replace(job, limit_seconds=None)))

    assert ended.returncode == 1, ended.stderr
    assert epochs(found) == [1] and found[-1] == Failed(reason=reason)
    assert retried[-1] == Finished(epoch=4)


def test_closing_a_job_closes_its_trainer(tmp_path: Path) -> None:
    closed = []

    def train(trial: Trial, workspace: Workspace) -> Iterator[Evaluation]:
        try:
            yield evaluation(1)
        finally:
            closed.append(trial.id)

    run = JobRun(job_in(tmp_path), trainer=train)
    run.step()
    run.close()
    run.close()

    assert closed == [toy_trial().id]


def test_a_trainer_resumes_after_its_evaluation_was_taken(tmp_path: Path) -> None:
    job = job_in(tmp_path)
    run = JobRun(job)
    run.step()
    state = job.folders.workspace(job.trial.id) / "state.pt"
    before = state.exists()
    run.step()

    assert (before, json.loads(state.read_text())) == (False, {"epoch": 1})


def test_a_job_survives_the_wire(tmp_path: Path) -> None:
    job = job_in(tmp_path, start_checkpoint="f" * 64, keeps_checkpoint=True, limit_seconds=1.5)
    job = replace(job, limit_bytes=2**30, gpus=0.5)

    assert parse_job(json.loads(json.dumps(job_document(job)))) == job


@pytest.mark.parametrize(
    "outcome",
    [
        Finished(epoch=1, checkpoint="c"),
        Pruned(epoch=1),
        Diverged(reason="x"),
        Failed(reason="x"),
        Interrupted(),
    ],
    ids=lambda one: type(one).__name__,
)
def test_an_outcome_survives_the_wire(outcome: Outcome) -> None:
    assert parse_outcome(json.loads(json.dumps(outcome_document(outcome)))) == outcome


def test_the_toy_is_deterministic(tmp_path: Path) -> None:
    folders = (tmp_path / "a", tmp_path / "b")
    for folder in folders:
        folder.mkdir()
    first, second = (list(toy_train(toy_trial(), Workspace(folder=one))) for one in folders)

    assert first == second
