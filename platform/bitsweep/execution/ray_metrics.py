"""Prometheus metrics of a driver, at the metrics port of its node, where Ray exposes them.

Ray names them `ray_bitsweep_...`; they carry the sweep as a tag, and appear within about 15 s.
"""

from ray.util.metrics import Counter, Gauge

from bitsweep.execution.base import Agenda, Job
from bitsweep.measurement import Evaluation
from bitsweep.trial import Outcome, status_of

_TAGS = ("sweep",)


class Metered:
    """An agenda whose trials and measurements are counted."""

    def __init__(self, agenda: Agenda, *, sweep: str) -> None:
        self._agenda = agenda
        self._running: set[str] = set()
        self._sweep = {"sweep": sweep}
        self._trials = Gauge(
            "bitsweep_trials_running",
            description="Trials claimed and given to Tune, which asks for one more than it runs",
            tag_keys=_TAGS,
        )
        self._ended = Counter(
            "bitsweep_trials_ended",
            description="Trials that ended in this run, by how they ended",
            tag_keys=(*_TAGS, "status"),
        )
        self._measured = Counter(
            "bitsweep_measurements", description="Measurements received", tag_keys=_TAGS
        )
        self._trials.set(0, self._sweep)

    def next_job(self) -> Job | None:
        """The agenda's."""
        job = self._agenda.next_job()
        if job is not None:
            self._running.add(job.trial.id)
            self._trials.set(len(self._running), self._sweep)
        return job

    def companions(self, job: Job, /) -> tuple[Job, ...]:
        """The agenda's."""
        found = self._agenda.companions(job)
        self._running |= {one.trial.id for one in found}
        self._trials.set(len(self._running), self._sweep)
        return found

    def is_done(self) -> bool:
        """The agenda's."""
        return self._agenda.is_done()

    def evaluated(self, trial_id: str, evaluation: Evaluation, /) -> bool:
        """The agenda's; a trial that it ends here was pruned or disagreed with the store."""
        goes_on = self._agenda.evaluated(trial_id, evaluation)
        self._measured.inc(len(evaluation.measurements), self._sweep)
        if not goes_on:
            self._end(trial_id, "stopped")
        return goes_on

    def ended(self, trial_id: str, outcome: Outcome, /) -> None:
        """The agenda's."""
        self._agenda.ended(trial_id, outcome)
        self._end(trial_id, status_of(outcome))

    def again(self, trial_id: str, /) -> None:
        """The agenda's."""
        self._agenda.again(trial_id)

    def remark(self, text: str, /) -> None:
        """The agenda's."""
        self._agenda.remark(text)

    def _end(self, trial_id: str, status: str) -> None:
        if trial_id not in self._running:
            return  # a worker's last word on a trial that was stopped
        self._running.discard(trial_id)
        self._trials.set(len(self._running), self._sweep)
        self._ended.inc(1, {**self._sweep, "status": status})
