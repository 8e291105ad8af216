"""The configurations of a run: what the samplers propose, its trials, and what came of them.

What runs, and when, is the conductor's affair.
"""

from bitsweep.execution.dependents import Dependents, Waiting
from bitsweep.execution.ledger import Ledger
from bitsweep.execution.recorder import Recorder
from bitsweep.execution.roster import Configuration, Entry, Study, is_lost
from bitsweep.execution.studies import FIXED, make_studies, stage_seeds, stage_trials
from bitsweep.plan import Plan
from bitsweep.space import Parameters
from bitsweep.store.records import Proposal
from bitsweep.store.writer import Overtaken
from bitsweep.sweep import Stage
from bitsweep.trial import SIBLING_FAILED, SIBLING_PRUNED, Pruned


class Proposals:
    """Every study of a sweep, its configurations, and who wants which trial.

    One trial may serve several configurations; it is entered once.
    """

    def __init__(
        self, plan: Plan, *, recorder: Recorder, ledger: Ledger, dependents: Dependents
    ) -> None:
        self.studies = make_studies(plan, recorder)
        self._plan = plan
        self._recorder = recorder
        self._ledger = ledger
        self._dependents = dependents
        self._users: dict[str, list[tuple[Study, Configuration]]] = {}

    def restore(self) -> None:
        """Enter what stands in the store and in the file; rebuild the searches from it."""
        self._enter_known()
        self._enter_fixed()
        self._settle_all()

    def propose_next(self) -> bool:
        """Take another configuration from a search; False if none has any."""
        waiting = [study for study in self.studies if study.asks_left > 0 and not study.stopped]
        for study in sorted(waiting, key=lambda one: -one.asks_left):
            if self._learn(study):
                return True
            parameters = study.next_proposal()
            if parameters is None:
                continue
            self._accept(study, parameters)
            return True
        return False

    def can_confirm(self) -> bool:
        """A search is over whose winners are not entered yet."""
        if self._plan.sweep.confirm is None:
            return False
        return any(study.is_searched and not study.is_confirmed for study in self.studies)

    def confirm_next(self) -> bool:
        """Enter the winners of a search that is over; False if there is none."""
        confirm = self._plan.sweep.confirm
        for study in self.studies:
            if confirm is None or study.is_confirmed or not study.is_searched:
                continue
            study.is_confirmed = True
            for best in study.best(confirm.best_per_arm):
                self._add(study, best.id, best.parameters, stage="confirm")
            return True
        return False

    def settle(self, trial_id: str) -> None:
        """Draw the consequences of a trial's end for the configurations that it serves."""
        for study, configuration in self._users.get(trial_id, []):
            if study.known(configuration.parameters) is configuration:
                self._settle_configuration(study, configuration)

    def studies_of(self, trial_id: str) -> list[Study]:
        """The studies that a trial serves; none for a start and for what waited for others."""
        return [study for study, _ in self._users.get(trial_id, [])]

    def why_unwanted(self, entry: Entry) -> str | None:
        """Why a running trial of the search is given up: all its configurations are lost."""
        if entry.stage != "search" or self._is_wanted_elsewhere(entry):
            return None
        return _why_lost(*(one for _, one in self._users[entry.trial.id]))

    # How configurations come in.

    def _enter_known(self) -> None:
        """What an earlier life of this sweep proposed, repetitions included."""
        for study in self.studies:
            if study.search is None:
                continue
            for proposal in self._recorder.proposals(study.arm_id, study.label):
                study.propose(self._configuration(study, proposal))

    def _enter_fixed(self) -> None:
        """Arms without a space go straight to the last stage."""
        for study in self.studies:
            if study.search is None:
                number = self._recorder.add_configuration(study.arm_id, FIXED, {})
                stage: Stage = "confirm" if self._plan.sweep.confirm else "search"
                study.is_confirmed = True
                if study.arm.source is None:
                    self._add(study, number, {}, stage=stage)
                    continue
                self._dependents.add(
                    Waiting(study=study, configuration=number, stage=stage, seed=seed)
                    for seed in stage_seeds(self._plan, stage)
                )

    def _learn(self, study: Study) -> bool:
        """Take over what another driver of this sweep proposed: the search is one for all."""
        news = self._recorder.proposals(study.arm_id, study.label, after=len(study.asked))
        for proposal in news:
            configuration = self._configuration(study, proposal)
            _recall(study, configuration)
            study.propose(configuration)
            self._settle_configuration(study, configuration)
        return bool(news)

    def _accept(self, study: Study, parameters: Parameters) -> None:
        """Enter a proposal; one that repeats a known configuration is answered from it."""
        known = study.known(parameters)
        try:
            number = self._recorder.add_configuration(
                study.arm_id,
                study.label,
                parameters,
                is_repeat=known is not None,
                after=len(study.asked),
            )
        except Overtaken:
            assert study.search is not None  # only searches propose
            study.search.retract(parameters)
            self._learn(study)
            return
        configuration = known or self._add(study, number, parameters, stage="search")
        configuration.open_asks += 1
        study.propose(configuration)
        self._settle_configuration(study, configuration)

    def _configuration(self, study: Study, proposal: Proposal) -> Configuration:
        """That of a proposal in the store, entered if it was not yet."""
        return study.known(proposal.parameters) or self._add(
            study, proposal.id, proposal.parameters, stage="search"
        )

    def _add(
        self, study: Study, id_: int, parameters: Parameters, *, stage: Stage
    ) -> Configuration:
        fault = self._plan.fault(study.arm, parameters) if study.search else None
        excess = study.criteria.excess(parameters) if study.search and fault is None else {}
        is_refused = fault is not None or any(value > 0 for value in excess.values())
        trials = (
            stage_trials(self._plan, study.arm, study.at, parameters, stage)
            if not is_refused
            else ()
        )
        entries = [
            self._ledger.enter(
                trial, stage=stage, arm=study.arm.name, study=study, configuration=id_
            )
            for trial in trials
        ]
        configuration = Configuration(
            id=id_, parameters=parameters, entries=tuple(entries), excess=excess, fault=fault
        )
        for entry in entries:
            self._users.setdefault(entry.trial.id, []).append((study, configuration))
        if stage == "confirm" or self._plan.sweep.confirm is None:
            self._dependents.note(study.arm.name, entries)
        return configuration

    # What came of them.

    def _settle_all(self) -> None:
        """Rebuild each search from what is known, in the order in which it was proposed."""
        for study in self.studies:
            for configuration in study.asked:
                _recall(study, configuration)
                self._settle_configuration(study, configuration)

    def _settle_configuration(self, study: Study, configuration: Configuration) -> None:
        """Drop the siblings of a trial that did not finish; tell the sampler when all are over."""
        if any(is_lost(entry.outcome) for entry in configuration.entries):
            for entry in configuration.entries:
                if entry.trial.id in self._ledger.queue and not self._is_wanted_elsewhere(entry):
                    self._ledger.queue.remove(entry.trial.id)
                    self._drop(entry, configuration)
        if configuration.is_over:
            study.tell(configuration)

    def _drop(self, entry: Entry, configuration: Configuration) -> None:
        """End a sibling that never started."""
        outcome = Pruned(epoch=0, reason=_why_lost(configuration))
        self._ledger.settle(entry, outcome)
        self._recorder.end(entry.trial.id, outcome)

    def _is_wanted_elsewhere(self, entry: Entry) -> bool:
        users = self._users.get(entry.trial.id, [])
        return not users or any(
            not any(is_lost(one.outcome) for one in configuration.entries)
            for _, configuration in users
        )


def _why_lost(*configurations: Configuration) -> str:
    """What came first to a trial of them: a failure, or the scheduler."""
    outcomes = [entry.outcome for one in configurations for entry in one.entries]
    is_pruned = any(isinstance(one, Pruned) and not one.is_dropped for one in outcomes)
    return SIBLING_PRUNED if is_pruned else SIBLING_FAILED


def _recall(study: Study, configuration: Configuration) -> None:
    """Let the sampler take a proposal for its own that it did not make in this life."""
    assert study.search is not None  # only searches propose
    study.search.recall(configuration.parameters, is_open=not configuration.is_over)
    configuration.open_asks += 1
