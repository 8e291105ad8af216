"""The conductor of a run: which trial is next, what came of it, and what follows from that.

It is rebuilt from the store at every start, so that a run that was killed goes on where it was.
"""

from collections.abc import Callable, Iterable

from bitsweep.errors import Conflict
from bitsweep.execution.base import Folders, Job
from bitsweep.execution.ledger import SIBLING_FAILED, Ledger
from bitsweep.execution.progress import Progress, describe, progress_of
from bitsweep.execution.pruning import Pruner
from bitsweep.execution.recorder import Recorder
from bitsweep.execution.roster import Configuration, Entry, Study, is_lost
from bitsweep.execution.studies import (
    FIXED,
    make_studies,
    stage_trials,
    trials_per_configuration,
)
from bitsweep.measurement import Evaluation
from bitsweep.plan import Plan
from bitsweep.space import Parameters
from bitsweep.sweep import Stage
from bitsweep.trial import Failed, Finished, Interrupted, Outcome, Pruned

SIBLING_PRUNED = "a sibling was pruned"
# So many proposals in a row that a constraint refuses end a study: there may be nothing to find.
REFUSED_IN_A_ROW = 50


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
        self._ledger = Ledger(
            plan,
            recorder=recorder,
            pruner=pruner,
            folders=folders,
            retries_failed=retries_failed,
        )
        self._entries = self._ledger.entries
        self._queue = self._ledger.queue
        self._users: dict[str, list[tuple[Study, Configuration]]] = {}
        self._measurements = 0
        self._studies = make_studies(plan, recorder)
        self._enqueue_starts()
        self._enqueue_known()
        self._enqueue_fixed()
        self._settle_all()
        self._catch_up()

    # What an executor calls.

    def next_job(self) -> Job | None:
        """The next trial that can start, proposing configurations as needed."""
        while True:
            for trial_id in list(self._queue):
                if trial_id not in self._queue:
                    continue  # dropped while walking, with a sibling that failed
                job = self._job(self._entries[trial_id])
                if job is not None:
                    self._queue.remove(trial_id)
                    self._say(f"started {self.describe(self._entries[trial_id])}")
                    return job
            if not self._propose():
                return None

    def is_done(self) -> bool:
        """Nothing is running, queued, or left to propose."""
        if self._queue or any(entry.is_running for entry in self._entries.values()):
            return False
        return all(study.is_searched for study in self._studies) and not self._can_confirm()

    def evaluated(self, trial_id: str, evaluation: Evaluation, /) -> bool:
        """Commit; then let the scheduler judge a trial of the search stage on validation."""
        entry = self._entries[trial_id]
        if entry.is_over:
            return False
        try:
            if self._recorder.record(trial_id, evaluation):
                self._measurements += len(evaluation.measurements)
        except Conflict as error:
            self.ended(trial_id, Failed(reason=str(error)))
            return False
        self._ledger.note(entry, evaluation)
        self._say("")
        if self._is_unwanted(entry):
            self.ended(trial_id, Pruned(epoch=evaluation.epoch, reason=SIBLING_PRUNED))
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
        entry.outcome = outcome
        entry.is_running = False
        self._recorder.end(trial_id, outcome)
        if not isinstance(outcome, Interrupted):
            self._say(f"{_word(outcome)} {self.describe(entry)}")
            self._settle(trial_id)

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

    def planned(self) -> int:
        """Trials of the whole sweep, as far as it can be told: known ones and those to propose."""
        known = len(self._entries)
        to_search = sum(
            max(study.asks_left, 0) * trials_per_configuration(self._plan, study, "search")
            for study in self._studies
        )
        to_confirm = sum(
            self._sweep.confirm.best_per_arm
            * trials_per_configuration(self._plan, study, "confirm")
            for study in self._studies
            if self._sweep.confirm is not None and not study.is_confirmed
        )
        return known + to_search + to_confirm

    # The plan of the run.

    def _enqueue_starts(self) -> None:
        """The starts of the search seeds first, then those of the confirm seeds."""
        confirm = self._sweep.confirm.seeds if self._sweep.confirm else ()
        searching = self._sweep.search.seeds if self._searches() else ()
        for seed in (*searching, *confirm):
            start = self._plan.start_trial(seed)
            if start is not None:
                self._ledger.enter(start, stage="start", arm="start")

    def _searches(self) -> bool:
        return self._sweep.confirm is None or any(arm.space for arm in self._sweep.arms)

    def _enqueue_known(self) -> None:
        """What an earlier life of this sweep proposed, repetitions included."""
        for study in self._studies:
            if study.search is None:
                continue
            for proposal in self._recorder.proposals(study.arm_id, study.label):
                configuration = study.known(proposal.parameters) or self._add(
                    study, proposal.id, proposal.parameters, stage="search"
                )
                study.propose(configuration)

    def _enqueue_fixed(self) -> None:
        """Arms without a space go straight to the last stage."""
        for study in self._studies:
            if study.search is None:
                number = self._recorder.add_configuration(study.arm_id, FIXED, {})
                stage: Stage = "confirm" if self._sweep.confirm else "search"
                self._add(study, number, {}, stage=stage)
                study.is_confirmed = True

    def _add(
        self, study: Study, id_: int, parameters: Parameters, *, stage: Stage
    ) -> Configuration:
        excess = study.criteria.excess(parameters) if study.search else {}
        is_refused = any(value > 0 for value in excess.values())
        entries = [
            self._ledger.enter(
                trial, stage=stage, arm=study.arm.name, study=study, configuration=id_
            )
            for trial in stage_trials(self._plan, study, parameters, stage)
            if not is_refused
        ]
        configuration = Configuration(
            id=id_, parameters=parameters, entries=tuple(entries), excess=excess
        )
        for entry in entries:
            self._users.setdefault(entry.trial.id, []).append((study, configuration))
        return configuration

    # What follows from what.

    def _job(self, entry: Entry) -> Job | None:
        start = self._entries.get(entry.trial.start) if entry.trial.start else None
        checkpoint = None
        if start is not None:
            if not start.is_over:
                return None
            if not isinstance(start.outcome, Finished):
                self._queue.remove(entry.trial.id)
                self.ended(entry.trial.id, Failed(reason="the training it starts from failed"))
                return None
            checkpoint = start.outcome.checkpoint
        if not self._recorder.claim(entry.trial.id):
            self._follow_other_driver(entry)
            return None
        entry.is_running = True
        self._recorder.start_attempt(entry.trial.id)
        minutes = self._sweep.budget.trial_minutes
        return Job(
            trial=entry.trial,
            folders=self._folders,
            start_checkpoint=checkpoint,
            keeps_checkpoint=entry.stage != "search",
            limit_seconds=None if minutes is None else 60.0 * minutes,
        )

    def _follow_other_driver(self, entry: Entry) -> None:
        """Another driver runs it: take over its result once it stands in the store."""
        self._ledger.take_over(entry)
        if entry.is_over:
            self._queue.remove(entry.trial.id)
            self._settle(entry.trial.id)

    def _propose(self) -> bool:
        """Ask a search for a configuration or confirm a finished study; False if neither can."""
        waiting = [study for study in self._studies if study.asks_left > 0 and not study.stopped]
        for study in sorted(waiting, key=lambda one: -one.asks_left):
            assert study.search is not None  # only searches have asks left
            is_hopeless = study.refused_in_a_row >= REFUSED_IN_A_ROW
            parameters = None if is_hopeless else study.search.ask()
            if parameters is None:
                study.asks_left = 0
                continue
            self._accept(study, parameters)
            return True
        return self._confirm_next()

    def _accept(self, study: Study, parameters: Parameters) -> None:
        """Enter a proposal; one that repeats a known configuration is answered from it."""
        known = study.known(parameters)
        number = self._recorder.add_configuration(
            study.arm_id, study.label, parameters, is_repeat=known is not None
        )
        configuration = known or self._add(study, number, parameters, stage="search")
        configuration.open_asks += 1
        study.propose(configuration)
        self._settle_configuration(study, configuration)

    def _can_confirm(self) -> bool:
        if self._sweep.confirm is None:
            return False
        return any(study.is_searched and not study.is_confirmed for study in self._studies)

    def _confirm_next(self) -> bool:
        confirm = self._sweep.confirm
        for study in self._studies:
            if confirm is None or study.is_confirmed or not study.is_searched:
                continue
            study.is_confirmed = True
            for best in study.best(confirm.best_per_arm):
                self._add(study, best.id, best.parameters, stage="confirm")
            return True
        return False

    def _settle_all(self) -> None:
        """Rebuild each search from what is known, in the order in which it was proposed."""
        for study in self._studies:
            for configuration in study.asked:
                if study.search is not None:
                    is_open = not configuration.is_over
                    study.search.recall(configuration.parameters, is_open=is_open)
                    configuration.open_asks += 1
                self._settle_configuration(study, configuration)

    def _catch_up(self) -> None:
        """Go as far as the store's knowledge alone leads, so that a finished sweep is done."""
        while not self._queue and not self.is_done() and self._propose():
            pass

    def _settle(self, trial_id: str) -> None:
        for study, configuration in self._users.get(trial_id, []):
            if study.known(configuration.parameters) is configuration:
                self._settle_configuration(study, configuration)

    def _settle_configuration(self, study: Study, configuration: Configuration) -> None:
        """Drop the siblings of a trial that did not finish; tell the sampler when all are over."""
        if any(is_lost(entry.outcome) for entry in configuration.entries):
            for entry in configuration.entries:
                if entry.trial.id in self._queue and not self._is_wanted_elsewhere(entry):
                    self._queue.remove(entry.trial.id)
                    self._drop(entry, configuration)
        if configuration.is_over:
            study.tell(configuration)

    def _drop(self, entry: Entry, configuration: Configuration) -> None:
        """End a sibling that never started."""
        is_pruned = any(isinstance(one.outcome, Pruned) for one in configuration.entries)
        entry.outcome = Pruned(epoch=0, reason=SIBLING_PRUNED if is_pruned else SIBLING_FAILED)
        self._recorder.end(entry.trial.id, entry.outcome)

    def _is_unwanted(self, entry: Entry) -> bool:
        """A running trial of the search all of whose configurations are lost."""
        return entry.stage == "search" and not self._is_wanted_elsewhere(entry)

    def _is_wanted_elsewhere(self, entry: Entry) -> bool:
        users = self._users.get(entry.trial.id, [])
        return not users or any(
            not any(is_lost(one.outcome) for one in configuration.entries)
            for _, configuration in users
        )

    # Telling the user.

    def _say(self, event: str) -> None:
        self._observe(self.progress(event))

    def progress(self, event: str = "") -> Progress:
        """The counts at this moment."""
        return progress_of(
            list(self._entries.values()),
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
