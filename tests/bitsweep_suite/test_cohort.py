"""Jobs trained as one network: each is told once, none is ahead of its outbox, each ends alone."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.bitsweep_suite.test_worker import DEADLOCK, job_in, outbox, steps
from tests.bitsweep_suite.toys import evaluation, toy_trial

from bitsweep import errors
from bitsweep.execution.base import Job, job_document
from bitsweep.execution.cohort import Cohort
from bitsweep.execution.limits import resident_bytes
from bitsweep.execution.worker import JobRun
from bitsweep.measurement import Evaluation
from bitsweep.testing import toy_train, toy_train_group
from bitsweep.trainer import Round, Workspace
from bitsweep.trial import Diverged, Failed, Finished, Outcome, Trial

Told = dict[int, list[Evaluation | Outcome]]


def jobs_in(folder: Path, seeds: int = 3, *, act: str = "well", **changes: Any) -> list[Job]:
    """Jobs of so many seeds, which are trained together."""
    return [
        job_in(
            folder,
            trial=toy_trial(seed=seed, is_grouped=True, parameters={"act": act}),
            **changes,
        )
        for seed in range(seeds)
    ]


def told(cohort: Cohort, jobs: Sequence[Job], *, most: int = 100) -> Told:
    """By seed, what is told in so many steps, or to the end."""
    seeds = {job.trial.id: job.trial.seed for job in jobs}
    found: Told = {job.trial.seed: [] for job in jobs}
    for _ in range(most):
        if cohort.is_over:
            break
        for trial_id, step in cohort.step():
            found[seeds[trial_id]].append(step)
    return found


def epochs(found: Sequence[Evaluation | Outcome]) -> list[int]:
    """Of the evaluations among them."""
    return [one.epoch for one in found if isinstance(one, Evaluation)]


def saved(job: Job) -> int:
    """The epoch of a member's state."""
    state = job.folders.workspace(job.trial.id) / "state.pt"
    return int(json.loads(state.read_text())["epoch"]) if state.exists() else 0


def lines(job: Job) -> list[int]:
    """The epochs in a member's outbox."""
    return [json.loads(line)["epoch"] for line in outbox(job).read_text().splitlines()]


def test_each_member_tells_what_it_would_tell_alone(tmp_path: Path) -> None:
    jobs = jobs_in(tmp_path / "together", keeps_checkpoint=True)
    together = told(Cohort(jobs), jobs)
    alone = jobs_in(tmp_path / "alone", keeps_checkpoint=True)

    assert together == {job.trial.seed: steps(JobRun(job, trainer=toy_train)) for job in alone}
    assert epochs(together[0]) == [1, 2, 3, 4]


def test_no_member_has_saved_what_is_not_told_of_all(tmp_path: Path) -> None:
    jobs = jobs_in(tmp_path)
    cohort = Cohort(jobs)
    cohort.step()
    first = [(saved(job), lines(job)) for job in jobs]
    cohort.step()

    assert first == [(0, [1])] * 3
    assert [(saved(job), lines(job)) for job in jobs] == [(1, [1, 2])] * 3


def test_a_member_that_diverges_ends_and_the_others_go_on(tmp_path: Path) -> None:
    jobs = jobs_in(tmp_path, act="diverge_odd")
    begun = []

    def train(trials: Sequence[Trial], workspaces: Sequence[Workspace]) -> Iterator[Round]:
        begun.append(len(trials))
        yield from toy_train_group(trials, workspaces)

    found = told(Cohort(jobs, trainer=train), jobs)

    assert epochs(found[1]) == [1] and found[1][-1] == Diverged(reason="loss is nan at epoch 2")
    assert [epochs(found[seed]) for seed in (0, 2)] == [[1, 2, 3, 4]] * 2
    assert begun == [3]


def test_what_the_trainer_raises_ends_every_member_with_its_traceback(tmp_path: Path) -> None:
    jobs = jobs_in(tmp_path, act="raise")
    found = told(Cohort(jobs), jobs)

    reason = "RuntimeError: the toy was told to fail"
    assert [(epochs(one), one[-1]) for one in found.values()] == [([1], Failed(reason=reason))] * 3
    logs = [job.folders.log(job.trial.id).read_text() for job in jobs]
    assert [log.count("in _misbehave") for log in logs] == [1, 1, 1]
    assert [log.count("self._end.with_traceback") for log in logs] == [1, 1, 1]


def test_a_trainer_that_gives_too_few_places_fails_with_its_reason(tmp_path: Path) -> None:
    def train(trials: Sequence[Trial], workspaces: Sequence[Workspace]) -> Iterator[Round]:
        yield (evaluation(1),)

    jobs = jobs_in(tmp_path)
    found = told(Cohort(jobs, trainer=train), jobs)

    assert isinstance(found[2][-1], Failed) and found[2][-1].reason.startswith("ValueError: zip()")


def test_a_trainer_that_trains_one_at_a_time_fails_with_its_reason(tmp_path: Path) -> None:
    trial = toy_trial(is_grouped=True, trainer="bitsweep.testing:toy_layers")
    job = job_in(tmp_path, trial=trial)
    found = told(Cohort([job]), [job])

    assert isinstance(found[0][-1], Failed)
    assert "has no attribute 'toy_layers_group'" in found[0][-1].reason


def test_a_grouped_trial_is_never_given_to_the_trainer_of_one(tmp_path: Path) -> None:
    outcome = JobRun(jobs_in(tmp_path)[0]).step()

    assert isinstance(outcome, Failed) and "is trained in a cohort" in outcome.reason


@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize("cut", [(), (0,), (2,), (0, 1), (0, 1, 2)])
def test_a_crash_in_the_middle_of_a_round_loses_and_doubles_nothing(
    count: int, cut: tuple[int, ...], tmp_path: Path
) -> None:
    jobs = jobs_in(tmp_path)
    told(Cohort(jobs), jobs, most=count)
    for member in cut:  # the crash came before the last line of these was whole
        path = outbox(jobs[member])
        path.write_bytes(path.read_bytes()[:-1])
    found = told(Cohort(jobs), jobs)

    assert [epochs(one) for one in found.values()] == [[1, 2, 3, 4]] * 3
    assert [one[-1] for one in found.values()] == [Finished(epoch=4)] * 3
    assert [lines(job) for job in jobs] == [[1, 2, 3, 4]] * 3


def test_members_with_different_epochs_behind_them_end_together(tmp_path: Path) -> None:
    jobs = jobs_in(tmp_path)
    told(Cohort(jobs[:1]), jobs[:1], most=3)
    told(Cohort(jobs[1:2]), jobs[1:2], most=1)
    found = told(Cohort(jobs), jobs)

    assert [epochs(one) for one in found.values()] == [[1, 2, 3, 4]] * 3
    assert [lines(job) for job in jobs] == [[1, 2, 3, 4]] * 3


def test_a_member_that_had_ended_says_so_again(tmp_path: Path) -> None:
    jobs = jobs_in(tmp_path, keeps_checkpoint=True)
    first = told(Cohort(jobs[:1]), jobs[:1])
    found = told(Cohort(jobs), jobs)

    assert found[0] == first[0] and epochs(found[1]) == [1, 2, 3, 4]


def test_a_member_whose_start_is_gone_leaves_before_the_others_begin(tmp_path: Path) -> None:
    jobs = jobs_in(tmp_path)
    jobs[1] = replace(jobs[1], start_checkpoint="f" * 64)
    found = told(Cohort(jobs), jobs)

    assert isinstance(found[1][0], Failed) and "is gone" in found[1][0].reason
    assert [epochs(found[seed]) for seed in (0, 2)] == [[1, 2, 3, 4]] * 2


def test_a_member_that_cannot_be_told_saves_nothing_and_the_others_go_on(tmp_path: Path) -> None:
    jobs = jobs_in(tmp_path)
    cohort = Cohort(jobs)
    cohort.step()
    outbox(jobs[1]).unlink()
    outbox(jobs[1]).mkdir()  # nothing can be appended to it
    found = told(cohort, jobs)

    assert isinstance(found[1][0], Failed) and "IsADirectoryError" in found[1][0].reason
    assert saved(jobs[1]) == 1  # of what stood in its outbox
    assert [epochs(found[seed]) for seed in (0, 2)] == [[2, 3, 4]] * 2
    assert [lines(jobs[seed]) for seed in (0, 2)] == [[1, 2, 3, 4]] * 2


def test_members_out_of_time_end_and_those_with_time_left_go_on(tmp_path: Path) -> None:
    def train(trials: Sequence[Trial], workspaces: Sequence[Workspace]) -> Iterator[Round]:
        rounds = toy_train_group(trials, workspaces)
        yield next(rounds)
        while len(trials) > 1:
            pass
        yield from rounds

    jobs = [
        replace(job, limit_seconds=limit)
        for job, limit in zip(jobs_in(tmp_path), (0.3, None, 0.3), strict=True)
    ]
    found = told(Cohort(jobs, trainer=train), jobs)

    timeout = Failed(reason="timeout: over 0.005 minutes")
    assert [(epochs(found[seed]), found[seed][-1]) for seed in (0, 2)] == [([1], timeout)] * 2
    assert epochs(found[1]) == [1, 2, 3, 4] and found[1][-1] == Finished(epoch=4)


def test_members_that_leak_end_and_give_their_memory_back(tmp_path: Path) -> None:
    def train(trials: Sequence[Trial], workspaces: Sequence[Workspace]) -> Iterator[Round]:
        yield tuple(evaluation(1) for _ in trials)
        kept = []
        while True:
            kept.append(bytearray(b"x" * 4_000_000))

    before = resident_bytes() or 0
    jobs = jobs_in(tmp_path, limit_bytes=before + 200_000_000)
    found = told(Cohort(jobs, trainer=train), jobs)

    reasons = [one[-1].reason for one in found.values() if isinstance(one[-1], Failed)]
    assert [reason[:13] for reason in reasons] == ["memory: over "] * 3
    assert (resident_bytes() or 0) < before + 100_000_000


DEADLOCKED = (
    DEADLOCK[: DEADLOCK.index("def train")]
    + """
from bitsweep.execution.cohort import Cohort
from bitsweep.testing import toy_train_group


def train(trials, workspaces):
    yield next(toy_train_group(trials, workspaces))
    mutex = ctypes.create_string_buffer(64)
    ctypes.CDLL(None).pthread_mutex_lock(mutex)
    ctypes.CDLL(None).pthread_mutex_lock(mutex)


jobs = [parse_job(one) for one in json.loads(Path("jobs.json").read_text())]
cohort = Cohort(jobs, trainer=train, may_exit=True)
cohort.step()
cohort.step()
"""
)


def test_a_trainer_that_no_signal_reaches_ends_every_member_in_the_next_life(
    tmp_path: Path,
) -> None:
    jobs = jobs_in(tmp_path, limit_seconds=0.3)
    (tmp_path / "jobs.json").write_text(json.dumps([job_document(job) for job in jobs]))
    command = [sys.executable, "-c", DEADLOCKED]
    ended = subprocess.run(command, cwd=tmp_path, timeout=60, capture_output=True, text=True)
    found = told(Cohort(jobs, may_exit=True), jobs)

    reason = "timeout: over 0.005 minutes, and no signal got through"
    assert ended.returncode == 1, ended.stderr
    assert [(epochs(one), one[-1]) for one in found.values()] == [([1], Failed(reason=reason))] * 3


def test_closing_a_cohort_closes_its_trainer(tmp_path: Path) -> None:
    closed = []

    def train(trials: Sequence[Trial], workspaces: Sequence[Workspace]) -> Iterator[Round]:
        try:
            yield tuple(evaluation(1) for _ in trials)
        finally:
            closed.append(len(trials))

    jobs = jobs_in(tmp_path)
    cohort = Cohort(jobs, trainer=train)
    cohort.step()
    cohort.close()
    cohort.close()
    logs = [job.folders.log(job.trial.id).read_text() for job in jobs]

    assert closed == [3]
    assert [log.count('"closed"') for log in logs] == [1, 1, 1]


def test_a_round_without_anything_is_passed_over(tmp_path: Path) -> None:
    def train(trials: Sequence[Trial], workspaces: Sequence[Workspace]) -> Iterator[Round]:
        yield (None,) * len(trials)
        yield (evaluation(1), None, errors.Diverged("nan"))
        yield (None, evaluation(1), None)

    jobs = jobs_in(tmp_path)
    cohort = Cohort(jobs, trainer=train)
    found = [[trial_id for trial_id, _ in cohort.step()] for _ in range(2)]
    ids = [job.trial.id for job in jobs]

    assert found == [[ids[0], ids[2]], [ids[1]]]


def test_each_log_names_the_trials_it_was_trained_with(tmp_path: Path) -> None:
    jobs = jobs_in(tmp_path)
    told(Cohort(jobs), jobs)
    log = jobs[0].folders.log(jobs[0].trial.id).read_text()
    grouped = [json.loads(one) for one in log.splitlines() if '"grouped"' in one]

    others = " ".join(job.trial.short_id for job in jobs[1:])
    assert [one["others"] for one in grouped] == [others]
