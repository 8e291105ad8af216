"""Trials over two real processes: the numbers of one worker, and what if one of them dies."""

import multiprocessing
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Timer

import pytest
import torch
from tests.trainers_suite.plain import plain
from tests.trainers_suite.trials import trial_of
from torch import Tensor, nn

from bitsweep.execution.base import Folders, Job
from bitsweep.execution.local import LocalExecutor
from bitsweep.execution.team import ProcessTeam, WorkerLost, meeting_at
from bitsweep.execution.worker import JobRun
from bitsweep.measurement import Evaluation
from bitsweep.trainer import Team, Trainer, Workspace
from bitsweep.trial import Failed, Finished, Outcome, Trial, parse_trial, trial_document
from bitsweep_trainers import image
from bitsweep_trainers.parallel import joined
from bitsweep_trainers.sync_norm import synchronise

# Measured at the default rate without batch norms: the curves of one and two workers differ by
# 4.0e-4, and one process that adds two half-batches moves the loss by 7.8e-5 in ten steps.
LENET = trial_of(
    "fp32", model="lenet5", batch_size=512, epochs=2, parameters={"learning_rate": 0.01}
)


ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the workers' processes find the trainers of this module."""
    monkeypatch.syspath_prepend(str(ROOT))


TOGETHER = replace(LENET, world_size=2)
SYNCHRONISED = replace(TOGETHER, sync_batch_norm=True)


def job_of(trial: Trial, folder: Path) -> Job:
    """A job with its files in the folder."""
    return Job(
        trial=trial,
        folders=Folders(
            workspaces=folder / "workspaces", artifacts=folder / "kept", logs=folder / "logs"
        ),
    )


def run(
    trial: Trial, folder: Path, *, trainer: Trainer = image.train
) -> tuple[list[float], Outcome]:
    """The validation losses of a trial and how it ended."""
    team = ProcessTeam(trainer=trainer) if trial.world_size > 1 else None
    life = JobRun(job_of(trial, folder), trainer=trainer, followers=team)
    losses = []
    try:
        while isinstance(step := life.step(), Evaluation):
            one = step.measurements[0]
            losses.append(one.sums["loss"] / one.total)
    finally:
        life.close()
    return losses, step


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """The loss curve of one worker."""
    losses, outcome = run(LENET, tmp_path_factory.mktemp("alone"), trainer=plain)
    assert isinstance(outcome, Finished), outcome
    return losses


def test_two_workers_give_the_loss_curve_of_one_without_batch_norms(
    alone: list[float], tmp_path: Path
) -> None:
    together, outcome = run(TOGETHER, tmp_path, trainer=plain)

    assert isinstance(outcome, Finished)
    assert together == pytest.approx(alone, abs=1e-4)
    assert abs(alone[0] - alone[1]) > 0.01


NORM_INPUT = (8, 3, 5, 5)


def norm_step(norm: nn.Module, share: slice) -> list[Tensor]:
    """Output, gradient of the input and of the weight, running statistics; on a share."""
    generator = torch.Generator().manual_seed(0)
    x, wanted = torch.randn((2, *NORM_INPUT), generator=generator, dtype=torch.float64)
    x = x[share].clone().requires_grad_()
    y = norm(x)
    (y * wanted[share]).sum().backward()
    found = [y, x.grad, norm.weight.grad, norm.running_mean, norm.running_var]
    return [one.detach() for one in found if isinstance(one, Tensor)]


def norm_worker(rank: int, meeting: str, connection: Connection) -> None:
    """One of two workers with a synchronised batch norm."""
    team = Team(rank=rank, size=2, meeting=meeting)
    with joined(Workspace(folder=Path(), team=team), torch.device("cpu")):
        norm = nn.BatchNorm2d(3).double()
        synchronise(nn.Sequential(norm), 2)
        found = norm_step(norm, slice(4 * rank, 4 * rank + 4))
        connection.send([one.tolist() for one in found])
        connection.recv()  # leave together


def test_synchronised_batch_norms_are_one_batch_norm_over_all_shares() -> None:
    context = multiprocessing.get_context("spawn")
    meeting, pipes = meeting_at("127.0.0.1"), [context.Pipe() for _ in range(2)]
    workers = [
        context.Process(target=norm_worker, args=(rank, meeting, theirs), daemon=True)
        for rank, (_, theirs) in enumerate(pipes)
    ]
    for worker in workers:
        worker.start()
    told = [[torch.tensor(one, dtype=torch.float64) for one in ours.recv()] for ours, _ in pipes]
    for ours, _ in pipes:
        ours.send(None)
    for worker in workers:
        worker.join()
    whole = norm_step(nn.BatchNorm2d(3).double(), slice(None))
    first, second = told
    together = [torch.cat([first[0], second[0]]), torch.cat([first[1], second[1]])]
    together += [first[2] + second[2], first[3], second[4]]

    for one, wanted in zip(together, whole, strict=True):
        torch.testing.assert_close(one, wanted, rtol=1e-10, atol=1e-10)


def test_a_choice_that_was_not_there_before_changes_no_identity() -> None:
    assert "sync_batch_norm" not in trial_document(LENET)
    assert parse_trial(trial_document(SYNCHRONISED)) == SYNCHRONISED


def test_the_number_of_workers_is_part_of_a_trial() -> None:
    assert replace(LENET, world_size=2).id != LENET.id


@pytest.mark.real
def test_a_killed_worker_costs_no_epoch_that_was_measured(
    alone: list[float], tmp_path: Path
) -> None:
    job = job_of(TOGETHER, tmp_path)
    team = ProcessTeam(trainer=plain)
    first = JobRun(job, trainer=plain, followers=team)
    known = first.step()
    kill = Timer(0.3, lambda: os.kill(team.processes[0], signal.SIGKILL))
    kill.start()
    with pytest.raises(WorkerLost):
        while True:
            first.step()
    first.close()
    losses, outcome = run(job.trial, tmp_path, trainer=plain)

    assert isinstance(known, Evaluation) and isinstance(outcome, Finished)
    assert losses == pytest.approx(alone, abs=1e-4)


class _Notes:
    """An agenda of one job that writes down what it is told."""

    def __init__(self, job: Job) -> None:
        self.jobs = [job]
        self.epochs: list[int] = []
        self.outcomes: list[Outcome] = []

    def next_job(self) -> Job | None:
        return self.jobs.pop() if self.jobs else None

    def companions(self, job: Job, /) -> tuple[Job, ...]:
        return ()

    def is_done(self) -> bool:
        return bool(self.outcomes)

    def evaluated(self, trial_id: str, evaluation: Evaluation, /) -> bool:
        self.epochs.append(evaluation.epoch)
        return True

    def ended(self, trial_id: str, outcome: Outcome, /) -> None:
        self.outcomes.append(outcome)

    def again(self, trial_id: str, /) -> None:
        """Nothing is counted here."""

    def remark(self, text: str, /) -> None:
        """Nobody reads it."""


def dying_once(trial: Trial, workspace: Workspace) -> Iterator[Evaluation]:
    """The real trainer; rank 1 of the first life dies in its second epoch."""
    for evaluation in plain(trial, workspace):
        yield evaluation
        if workspace.team is not None and workspace.team.rank == 1:
            marker = Path(os.environ["BITSWEEP_TEST_MARKER"])
            if not marker.exists():
                marker.touch()
                os._exit(1)


def failing(trial: Trial, workspace: Workspace) -> Iterator[Evaluation]:
    """Rank 1 raises at once."""
    if workspace.team is not None and workspace.team.rank == 1:
        raise RuntimeError("rank 1 has no data")
    yield Evaluation(epoch=1, seconds=0.0, examples=0)


@pytest.mark.real
def test_the_local_executor_starts_a_trial_again_whose_worker_died(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BITSWEEP_TEST_MARKER", str(tmp_path / "died"))
    notes = _Notes(job_of(TOGETHER, tmp_path))
    LocalExecutor(trainer=dying_once).run(notes)

    assert notes.epochs == [1, 1, 2]  # the first is sent again, and recorded once
    assert notes.outcomes == [Finished(epoch=2)]


def test_what_a_follower_raises_is_the_reason_of_the_failure(tmp_path: Path) -> None:
    notes = _Notes(job_of(TOGETHER, tmp_path))
    LocalExecutor(trainer=failing).run(notes)

    assert notes.outcomes == [
        Failed(reason="RuntimeError: worker 1: RuntimeError: rank 1 has no data")
    ]
