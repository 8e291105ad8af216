"""An executor in this process: one trial, or cohort, after the other, to debug and to test."""

import socket
from collections.abc import Sequence
from time import sleep

from bitsweep.execution.base import Agenda, Job
from bitsweep.execution.cohort import Cohort
from bitsweep.execution.team import ProcessTeam, WorkerLost
from bitsweep.execution.worker import JobRun
from bitsweep.measurement import Evaluation
from bitsweep.trainer import Trainer
from bitsweep.trial import Failed

WAIT_SECONDS = 0.5


class LocalExecutor:
    """Runs jobs one by one; `trainer` replaces the one that a trial names (tests)."""

    def __init__(self, *, trainer: Trainer | None = None, retries: int = 2) -> None:
        self._trainer = trainer
        self._retries = retries

    @property
    def place(self) -> str:
        """This machine."""
        return socket.gethostname()

    def run(self, agenda: Agenda, /) -> None:
        """Take jobs until the agenda is done."""
        while not agenda.is_done():
            job = agenda.next_job()
            if job is None:
                sleep(WAIT_SECONDS)  # another driver has what is left
                continue
            if job.trial.is_grouped:
                self._run_together((job, *agenda.companions(job)), agenda)
            else:
                self._run(job, agenda)

    def close(self) -> None:
        """Nothing to give back."""

    def _run(self, job: Job, agenda: Agenda) -> None:
        """A trial over several workers begins again when one of them dies."""
        for life in range(self._retries + 1):
            try:
                if life > 0:
                    agenda.again(job.trial.id)
                self._live(job, agenda)
                return
            except WorkerLost:
                continue
        reason = f"a worker process of it died {self._retries + 1} times"
        agenda.ended(job.trial.id, Failed(reason=reason))

    def _run_together(self, jobs: Sequence[Job], agenda: Agenda) -> None:
        """One round after the other; what the agenda has ended is told to it no more."""
        cohort = Cohort(jobs)
        going = {job.trial.id for job in jobs}
        try:
            while going:
                for trial_id, step in cohort.step():
                    if trial_id not in going:
                        continue
                    if not isinstance(step, Evaluation):
                        going.remove(trial_id)
                        agenda.ended(trial_id, step)
                    elif not agenda.evaluated(trial_id, step):
                        going.remove(trial_id)
        finally:
            cohort.close()

    def _live(self, job: Job, agenda: Agenda) -> None:
        followers = ProcessTeam(trainer=self._trainer) if job.trial.world_size > 1 else None
        run = JobRun(job, trainer=self._trainer, followers=followers)
        try:
            while True:
                step = run.step()
                if not isinstance(step, Evaluation):
                    agenda.ended(job.trial.id, step)
                    return
                if not agenda.evaluated(job.trial.id, step):
                    return
        finally:
            run.close()
