"""The log of a trial: what happened in each life, kept when its workspace is cleared."""

import json
import logging
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.bitsweep_suite import plugin
from tests.bitsweep_suite.test_worker import job_in, steps
from tests.bitsweep_suite.toys import FIXED, acting, ask_store, run_toy, toy_sweep, toy_trial

from bitsweep.execution.team import FollowerRun
from bitsweep.execution.worker import JobRun
from bitsweep.measurement import Evaluation
from bitsweep.store.logs import log_path, log_tail, read_lines, work_root
from bitsweep.sweep import Resources
from bitsweep.testing import toy_train
from bitsweep.trainer import Workspace
from bitsweep.trial import Trial


def talking(trial: Trial, workspace: Workspace) -> Iterator[Evaluation]:
    """The toy, with a word to the log."""
    logging.getLogger("science").info("begin with %s", trial.parameters["x"])
    yield from toy_train(trial, workspace)


def events(path: Path) -> list[dict[str, Any]]:
    """What stands in a log."""
    return [dict(one) for one in read_lines(path.read_text(encoding="utf-8"))]


def test_the_tail_of_a_long_log_is_whole_lines_from_its_end(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    lines = [json.dumps({"at": "12:00", "event": "noted", "number": n}) for n in range(5000)]
    path.write_text("\n".join(lines) + '\n{"cut', encoding="utf-8")

    assert log_tail(path, lines=2) == ("12:00 noted: number 4998", "12:00 noted: number 4999")
    assert log_tail(tmp_path / "none.jsonl", lines=2) is None


def test_a_log_that_another_program_wrote_breaks_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'[1]\n"x"\n{"event": "logged"}\n\xff\xfe\n{"at": "1", "event": "e"}\n')

    assert log_tail(path, lines=9) == ("  : ", "1 e: ")


def test_a_run_leaves_its_logs_where_readers_look(tmp_path: Path) -> None:
    run_toy(toy_sweep(FIXED), tmp_path)
    ((trial_id,), *_) = ask_store(tmp_path, "SELECT id FROM trials")
    told = log_tail(log_path(work_root(str(tmp_path / "store.db")), trial_id), lines=99)

    assert told is not None
    assert "started" in told[0] and "ended: status finished" in told[-1]


@pytest.mark.parametrize(("gpus", "device"), [(0.0, "cpu"), (0.5, "cuda 0")])
def test_a_trial_has_a_gpu_where_the_sweep_asks_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpus: float, device: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    run_toy(toy_sweep(FIXED, resources=Resources(gpus_per_worker=gpus)), tmp_path)
    (first, *_) = events(next((tmp_path / "logs").iterdir()))

    assert first["device"] == device


@pytest.mark.parametrize("gpus", [0.0, 0.5])
def test_a_trainer_is_told_whether_it_has_a_gpu(tmp_path: Path, gpus: float) -> None:
    found = []

    def looking(trial: Trial, workspace: Workspace) -> Iterator[Evaluation]:
        found.append(workspace.uses_gpu)
        return toy_train(trial, workspace)

    steps(JobRun(job_in(tmp_path, gpus=gpus), trainer=looking))
    FollowerRun(job_in(tmp_path, gpus=gpus), rank=1, meeting="here:1", trainer=looking).close()

    assert found == [gpus > 0] * 2


def test_a_log_tells_a_life_from_its_start_to_its_end(tmp_path: Path) -> None:
    job = job_in(tmp_path)
    steps(JobRun(job, trainer=talking))
    told = events(job.folders.log(job.trial.id))

    assert [one["event"] for one in told] == ["started", "logged", *["evaluated"] * 4, "ended"]
    assert {"host", "process", "device"} <= told[0].keys()
    assert (told[1]["logger"], told[1]["message"]) == ("science", "begin with 0.5")
    assert told[2]["top1_percent"].keys() == {"validation w2a2"}
    assert told[-1]["status"] == "finished"


def test_nothing_is_heard_between_steps(tmp_path: Path) -> None:
    job = job_in(tmp_path)
    run = JobRun(job)
    run.step()
    logging.getLogger("driver").warning("not of this trial")

    assert "not of this trial" not in job.folders.log(job.trial.id).read_text(encoding="utf-8")


def test_a_second_life_goes_on_in_the_same_log(tmp_path: Path) -> None:
    job = job_in(tmp_path)
    JobRun(job).step()
    steps(JobRun(job))
    told = events(job.folders.log(job.trial.id))
    lives = [one["epochs_known"] for one in told if one["event"] == "started"]

    assert lives == [0, 1]
    assert [one["epoch"] for one in told if one["event"] == "evaluated"] == [1, 2, 3, 4]


def test_what_a_trainer_raises_is_told_with_its_traceback(tmp_path: Path) -> None:
    job = job_in(tmp_path, trial=toy_trial(parameters={"act": "raise"}))
    steps(JobRun(job))
    raised = [one for one in events(job.folders.log(job.trial.id)) if one["event"] == "raised"]

    assert len(raised) == 1 and "RuntimeError: the toy was told to fail" in raised[0]["traceback"]


def test_a_log_that_cannot_be_written_ends_nothing(tmp_path: Path) -> None:
    job = job_in(tmp_path)
    (tmp_path / "logs").write_text("in the way", encoding="utf-8")

    assert len(steps(JobRun(job))) == 5


def test_logs_stay_when_workspaces_are_cleared_and_a_command_reads_them(tmp_path: Path) -> None:
    run_toy(toy_sweep(FIXED, acting("raise")), tmp_path)
    failed = "SELECT trial_id FROM outcomes WHERE status = 'failed' LIMIT 1"
    trial = ask_store(tmp_path, failed)[0][0]
    finished = ask_store(tmp_path, failed.replace("failed", "finished"))[0][0]
    store = ("--store", str(tmp_path / "store.db"))
    (tmp_path / "site").mkdir()
    done = _logs(tmp_path, trial[:12], *store)
    lines = _logs(tmp_path, finished[:12], *store, "--json").splitlines()

    assert "RuntimeError: the toy was told to fail" in done
    assert [json.loads(line)["event"] for line in lines][-1] == "ended"


def _logs(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [*plugin.BITSWEEP, "logs", *arguments],
        cwd=folder,
        env=plugin.environment(folder),
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_a_trial_without_a_log_is_said_in_one_line(tmp_path: Path) -> None:
    report = run_toy(toy_sweep(FIXED), tmp_path)
    trial = ask_store(tmp_path, "SELECT id FROM trials LIMIT 1")[0][0]
    (tmp_path / "logs" / f"{trial}.jsonl").unlink()
    done = plugin.bitsweep(tmp_path, "logs", trial[:12], "--store", str(tmp_path / "store.db"))

    assert report.trials_failed == 0
    assert done.returncode == 2 and "has no log in" in done.stderr


def test_a_line_that_a_crash_cut_is_left_out() -> None:
    assert [one["event"] for one in read_lines('{"event": "a"}\n{"event": ')] == ["a"]


def test_a_job_keeps_its_log_folder_on_the_wire(tmp_path: Path) -> None:
    from bitsweep.execution.base import job_document, parse_job

    job = job_in(tmp_path)
    far = replace(job, folders=replace(job.folders, remote="memory://there"))

    assert parse_job(job_document(far)) == far
