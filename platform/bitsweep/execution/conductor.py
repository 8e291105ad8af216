"""The conductor of a run: which trial is next, what came of it, and what follows from that.

It is rebuilt from the store at every start, so that a run that was killed goes on where it was.
"""

from collections.abc import Callable, Iterable, Sequence

from bitsweep.errors import Conflict
from bitsweep.execution.base import Folders, Job
from bitsweep.execution.breakers import START_FAILED, Breakers
from bitsweep.execution.dependents import Dependents, unknown_trial
from bitsweep.execution.ledger import Ledger
from bitsweep.execution.placement import memory_bytes
from bitsweep.execution.progress import Progress, describe, progress_of
from bitsweep.execution.proposals import Proposals
from bitsweep.execution.pruning import Pruner
from bitsweep.execution.recorder import Recorder
from bitsweep.execution.roster import Entry
from bitsweep.execution.studies import trials_per_seed, trials_to_come
from bitsweep.measurement import Evaluation
from bitsweep.plan import Plan
from bitsweep.trial import Failed, Finished, Interrupted, Outcome, Pruned


class Conductor:
    """The agenda of one sweep. `observe` is called after every change with the progress."""

    def __init__(
        self,
        plan: Plan,
        *,
        recorder: Recorder,
        pruner: Pruner,
        folders: Folders,
        retries_failed: bool = False,
        observe: Callable[[Progress], None] = lambda progress: None,
    ) -> None:
        self._plan = plan
        self._sweep = plan.sweep
        self._recorder = recorder
        self._folders = folders
        self._observe = observe
        self._dependents = Dependents(plan, scores=recorder.scores)
        self._ledger = Ledger(
            plan,
            recorder=recorder,
            pruner=pruner,
            folders=folders,
            retries_failed=retries_failed,
            is_giving=self._dependents.is_giving,
        )
        self._entries = self._ledger.entries
        self._queue = self._ledger.queue
        self._measurements = 0
        self._has_to_release = False
        self._notes: list[str] = []
        self._proposals = Proposals(
            plan, recorder=recorder, ledger=self._ledger, dependents=self._dependents
        )
        self._studies = self._proposals.studies
        self._breakers = Breakers(
            self._sweep.budget, self._sweep.resources, spent_seconds=recorder.spent_seconds()
        )
        self._enqueue_starts()
        self._proposals.restore()
        self._release()
        for entry in list(self._entries.values()):
            self._break(entry)
        self._catch_up()
        for note in self.notes:
            self._say(note)
        recorder.tell(self._say)

    # What an executor calls.

    def next_job(self) -> Job | None:
        """The next trial that can start, proposing configurations as needed.

        None while the store is out of reach: no trial starts without a claim on it.
        """
        if self._recorder.is_away(is_idle=not self._ledger.counts.running):
            return None
        if self._has_to_release:
            self._has_to_release = False
            self._release()
        if (reason := self._breakers.out_of_time()) and self._has_more():
            self._stop(reason)
        while True:
            for trial_id in list(self._queue):
                if (job := self._started(trial_id)) is not None:
                    return job
            if not self._propose():
                return None

    def companions(self, job: Job, /) -> tuple[Job, ...]:
        """Further trials that differ from the job's in seed and start alone and can start now."""
        if not job.trial.is_grouped:
            return ()
        found: list[Job] = []
        for trial_id in list(self._queue):
            if len(found) == self._sweep.resources.seeds_together - 1:
                break
            entry = self._entries[trial_id]
            if entry.trial.companion_key != job.trial.companion_key:
                continue
            if (other := self._started(trial_id)) is not None:
                found.append(other)
        return tuple(found)

    def is_done(self) -> bool:
        """Nothing is running, queued, or left to propose."""
        if self._queue or self._dependents.waiting or self._ledger.counts.running:
            return False
        return (
            all(study.is_searched for study in self._studies) and not self._proposals.can_confirm()
        )

    def _has_more(self) -> bool:
        asks = any(study.asks_left > 0 and not study.stopped for study in self._studies)
        return bool(self._queue) or asks or self._proposals.can_confirm()

    def evaluated(self, trial_id: str, evaluation: Evaluation, /) -> bool:
        """Commit; then let the scheduler judge a trial of the search stage on validation."""
        entry = self._entries[trial_id]
        if entry.is_over:
            return False
        try:
            if self._recorder.record(trial_id, evaluation):
                self._measurements += len(evaluation.measurements)
                self._breakers.trained(max(evaluation.seconds - entry.seconds, 0.0))
            entry.seconds = evaluation.seconds
        except Conflict as error:
            self.ended(trial_id, Failed(reason=str(error)))
            return False
        self._ledger.note(entry, evaluation)
        self._say("")
        if (reason := self._proposals.why_unwanted(entry)) is not None:
            self.ended(trial_id, Pruned(epoch=evaluation.epoch, reason=reason))
            return False
        if entry.stage == "search" and not self._ledger.goes_on(entry):
            self.ended(trial_id, Pruned(epoch=evaluation.epoch))
            return False
        return True

    def ended(self, trial_id: str, outcome: Outcome, /) -> None:
        """Write the outcome and draw the consequences."""
        entry = self._entries[trial_id]
        if entry.is_over:
            return
        outcome = self._recorder.end(trial_id, outcome)
        self._ledger.settle(entry, outcome)
        if not isinstance(outcome, Interrupted):
            self._say(f"{_word(outcome)} {self.describe(entry)}")
            self._settle(trial_id)
            self._break(entry)
        elif outcome != Interrupted():
            self._stop(f"stopped: {outcome.reason}; put that right, then start the sweep again")

    def again(self, trial_id: str, /) -> None:
        """Count another attempt of a trial whose worker died, or whose node is in doubt."""
        self._recorder.start_attempt(trial_id)

    def remark(self, text: str, /) -> None:
        """Keep what an executor has to say for the end of the run."""
        self._notes.append(text)
        self._say(text)

    def interrupt(self) -> int:
        """Mark what runs as interrupted; return how many trials that were."""
        running = [one for one in self._entries.values() if one.is_running]
        for entry in running:
            self.ended(entry.trial.id, Interrupted())
        return len(running)

    # What a run asks at its end.

    @property
    def entries(self) -> Iterable[Entry]:
        """Every trial of the run."""
        return self._entries.values()

    @property
    def measurements(self) -> int:
        """Measurements written by this run."""
        return self._measurements

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know: what was learned from, what was stopped, and why."""
        learned = (note for study in self._studies for note in study.notes)
        return (*learned, *self._ledger.notes, *self._notes, *self._recorder.notes)

    def planned(self) -> int:
        """Trials of the whole sweep, as far as it can be told: known ones and those to propose."""
        waiting = sum(trials_per_seed(self._plan, one.study) for one in self._dependents.waiting)
        return len(self._entries) + waiting + trials_to_come(self._plan, self._studies)

    @property
    def is_stopped(self) -> bool:
        """A breaker, a budget or a limit on costs left something without a result."""
        return any(study.stopped or study.found_nothing for study in self._studies)

    # The plan of the run.

    def _enqueue_starts(self) -> None:
        """The starts of the search seeds first, then those of the confirm seeds."""
        confirm = self._sweep.confirm.seeds if self._sweep.confirm else ()
        searching = self._sweep.search.seeds if self._searches() else ()
        for start in self._plan.starts((*searching, *confirm)):
            self._ledger.enter(start, stage="start", arm="start")

    def _searches(self) -> bool:
        return self._sweep.confirm is None or any(arm.space for arm in self._sweep.arms)

    # What follows from what.

    def _started(self, trial_id: str) -> Job | None:
        """The job of a queued trial, if it can start now."""
        if trial_id not in self._queue:
            return None  # dropped while the queue was walked, with a sibling that failed
        job = self._job(self._entries[trial_id])
        if job is not None:
            self._queue.remove(trial_id)
            self._say(f"started {self.describe(self._entries[trial_id])}")
        return job

    def _job(self, entry: Entry) -> Job | None:
        start = self._entries.get(entry.trial.start) if entry.trial.start else None
        checkpoint = None
        if start is not None:
            if not start.is_over:
                return None
            if not isinstance(start.outcome, Finished):
                self._queue.remove(entry.trial.id)
                self.ended(entry.trial.id, Failed(reason=START_FAILED))
                return None
            checkpoint = start.outcome.checkpoint
        if not self._recorder.claim(entry.trial.id):
            self._follow_other_driver(entry)
            return None
        self._follow_other_driver(entry)  # it may have ended since this driver entered it
        if entry.is_over:
            self._recorder.give_back(entry.trial.id)
            return None
        self._ledger.start(entry)
        self._recorder.start_attempt(entry.trial.id)
        minutes = self._sweep.budget.trial_minutes
        return Job(
            trial=entry.trial,
            folders=self._folders,
            start_checkpoint=checkpoint,
            keeps_checkpoint=entry.stage != "search" or entry.is_taken_from,
            limit_seconds=None if minutes is None else 60.0 * minutes,
            limit_bytes=memory_bytes(self._sweep.resources),
            gpus=self._sweep.resources.gpus_per_worker,
        )

    def _follow_other_driver(self, entry: Entry) -> None:
        """Another driver runs or ran it: take over its result once it stands in the store."""
        self._ledger.take_over(entry)
        if entry.is_over:
            self._queue.remove(entry.trial.id)
            self._settle(entry.trial.id)

    def _propose(self) -> bool:
        """Ask a search for a configuration or confirm a finished study; False if neither can."""
        if self._proposals.propose_next():
            return True
        if not self._proposals.confirm_next():
            return False
        self._release()
        return True

    def _catch_up(self) -> None:
        """Go as far as the store's knowledge alone leads, so that a finished sweep is done."""
        while not self._queue and not self.is_done() and self._propose():
            pass

    def _settle(self, trial_id: str) -> None:
        self._proposals.settle(trial_id)
        if self._recorder.is_down:
            self._has_to_release = True
        else:
            self._release()

    def _release(self) -> None:
        """Make the trials whose bits or start are known by now; these may release others."""
        while (found := self._dependents.next_released(self._studies)) is not None:
            waiting, released = found
            study = waiting.study
            if released.failure is None:
                self._recorder.forget(unknown_trial(waiting, self._plan).id, arm_id=study.arm_id)
            entries = [
                self._ledger.enter(
                    trial,
                    stage=waiting.stage,
                    arm=study.arm.name,
                    study=study,
                    configuration=waiting.configuration,
                )
                for trial in released.trials
            ]
            self._dependents.note(study.arm.name, entries)
            if released.failure is not None:
                self._fail(entries, released.failure)

    def _fail(self, entries: Sequence[Entry], reason: str) -> None:
        """End trials that cannot start."""
        for entry in entries:
            if entry.trial.id in self._queue:
                self._queue.remove(entry.trial.id)
            self.ended(entry.trial.id, Failed(reason=reason))

    def _break(self, entry: Entry) -> None:
        """Stop an arm, or the sweep, when too much has failed."""
        if entry.outcome is None:
            return
        for name in dict.fromkeys(
            study.arm.name for study in self._proposals.studies_of(entry.trial.id)
        ):
            if reason := self._breakers.arm_trial_ended(name, entry.outcome):
                self._stop(reason, arm=name)
        if reason := self._breakers.trial_ended(entry.outcome):
            self._stop(reason)

    def _stop(self, reason: str, *, arm: str | None = None) -> None:
        """Start nothing more of an arm, or of any; what runs may end."""
        stopping = [
            study
            for study in self._studies
            if not study.stopped and (arm is None or study.arm.name == arm)
        ]
        for study in stopping:
            study.stopped, study.is_confirmed = reason, True
        if stopping:
            self._notes.append(reason)
            self._say(reason)
        for trial_id in list(self._queue):
            serves = self._proposals.studies_of(trial_id)
            if arm is None or (serves and all(study.stopped for study in serves)):
                self._queue.remove(trial_id)
        self._dependents.give_up(
            {study.arm.name for study in self._studies if study.stopped}, is_coming=self._is_coming
        )
        for trial_id in list(self._queue):
            start = self._entries.get(self._entries[trial_id].trial.start or "")
            if start is not None and not self._is_coming(start):
                self._queue.remove(trial_id)

    def _is_coming(self, entry: Entry) -> bool:
        """It has ended, or still will."""
        return entry.is_over or entry.is_running or entry.trial.id in self._queue

    # Telling the user.

    def _say(self, event: str) -> None:
        self._observe(self.progress(event))

    def progress(self, event: str = "") -> Progress:
        """The counts at this moment."""
        return progress_of(
            self._ledger.counts,
            self._studies,
            judged=self._sweep.judged,
            planned=self.planned(),
            measurements=self._measurements,
            event=event,
        )

    def describe(self, entry: Entry) -> str:
        """One line for people: arm, bits, seed, stage, id, and what came of it."""
        return describe(entry, self._sweep.judged.metric)


def _word(outcome: Outcome) -> str:
    return type(outcome).__name__.lower()
