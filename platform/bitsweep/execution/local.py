"""An executor in this process: one trial after the other, for debugging and for tests."""

from time import sleep

from bitsweep.execution.base import Agenda, Job
from bitsweep.execution.worker import JobRun
from bitsweep.measurement import Evaluation
from bitsweep.trainer import Trainer

WAIT_SECONDS = 0.5


class LocalExecutor:
    """Runs jobs one by one; `trainer` replaces the one that a trial names (tests)."""

    def __init__(self, *, trainer: Trainer | None = None) -> None:
        self._trainer = trainer

    def run(self, agenda: Agenda, /) -> None:
        """Take jobs until the agenda is done."""
        while not agenda.is_done():
            job = agenda.next_job()
            if job is None:
                sleep(WAIT_SECONDS)  # another driver has what is left
                continue
            self._run(job, agenda)

    def close(self) -> None:
        """Nothing to give back."""

    def _run(self, job: Job, agenda: Agenda) -> None:
        run = JobRun(job, trainer=self._trainer)
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
