"""What a run knows of its trials, configurations and studies while it lasts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bitsweep.bits import LEARNED, Bits
from bitsweep.execution.criteria import ALLOCATIONS, Criteria, Validation
from bitsweep.measurement import Evaluation
from bitsweep.plan import configuration_digest
from bitsweep.search.base import Search, Told, Verdict
from bitsweep.search.pareto import winners
from bitsweep.space import Parameters, Value
from bitsweep.store.records import Score, is_listed
from bitsweep.sweep import Arm, Stage
from bitsweep.trial import Diverged, Failed, Finished, Outcome, Pruned, Trial

# So many proposals in a row that are refused end a study: there may be nothing to find.
REFUSED_IN_A_ROW = 50


@dataclass(slots=True, kw_only=True)
class Entry:
    """A trial of this run: where it stands and what its newest validation says."""

    trial: Trial
    stage: Stage
    group: tuple[str, str, int]
    outcome: Outcome | None = None
    is_running: bool = False
    is_reused: bool = False
    is_taken_from: bool = False
    epoch: int = 0
    seconds: float = 0.0
    validation: dict[str, dict[str, float]] = field(default_factory=dict)
    judged_labels: frozenset[str] = frozenset()

    @property
    def is_over(self) -> bool:
        """Nothing more will come of it."""
        return self.outcome is not None

    def note(self, evaluation: Evaluation, metrics: Sequence[str]) -> None:
        """Keep the newest validation values: by metric, then by allocation."""
        on_validation = [
            one
            for one in evaluation.measurements
            if one.split == "validation" and not is_listed(one.allocator, one.allocation.label)
        ]
        self.note_values(
            evaluation.epoch,
            {
                name: {
                    label_of(self.trial, one.allocation.label): one.metric(name)
                    for one in on_validation
                }
                for name in metrics
            }
            | allocations(self.trial, [one.allocation.label for one in on_validation]),
        )

    def note_scores(self, scores: Sequence[Score], metrics: Sequence[str]) -> None:
        """The same, from the store."""
        newest = max((score.epoch for score in scores), default=0)
        self.note_values(newest, values_at(self.trial, scores, newest, metrics))

    def note_values(self, epoch: int, values: Validation) -> None:
        """Values of an epoch, unless a later one stands."""
        if any(values.values()) and epoch >= self.epoch:
            self.epoch = epoch
            self.validation = {name: dict(by_label) for name, by_label in values.items()}


def label_of(trial: Trial, allocation: str) -> str:
    """What a value is compared under: learned bits are others in every trial."""
    return LEARNED if trial.has_learned_bits else allocation


def values_at(
    trial: Trial, scores: Sequence[Score], epoch: int, metrics: Sequence[str]
) -> dict[str, dict[str, float]]:
    """The validation values of one epoch of a trial."""
    seen = [score for score in scores if score.epoch == epoch and not score.is_listed]
    return {
        name: {label_of(trial, one.allocation): one.metric(name) for one in seen}
        for name in metrics
    } | allocations(trial, [one.allocation for one in seen])


def allocations(trial: Trial, labels: Sequence[str]) -> dict[str, dict[str, float]]:
    """The allocations that a trial of learned bits measured, for what they cost; else nothing."""
    if not trial.learns_bits or not labels:
        return {}
    return {ALLOCATIONS: dict.fromkeys(labels, 1.0)}


@dataclass(slots=True, kw_only=True)
class Configuration:
    """A proposal with its trials in one stage; over when all of them are.

    excess: by how much it breaks each constraint; fault: why it cannot be trained at all. One that
    breaks a constraint or has a fault is refused and has no trials. open_asks: how often it was
    proposed without the sampler having been told; told: what came of it.
    """

    id: int
    parameters: Mapping[str, Value]
    entries: tuple[Entry, ...]
    excess: Mapping[str, float] = field(default_factory=dict)
    fault: str | None = None
    open_asks: int = 0
    told: Told | None = None

    @property
    def is_over(self) -> bool:
        """All trials have ended."""
        return all(entry.is_over for entry in self.entries)

    @property
    def is_refused(self) -> bool:
        """It breaks a constraint, or cannot be trained."""
        return self.fault is not None or any(value > 0 for value in self.excess.values())

    def verdict(self, criteria: Criteria) -> Told:
        """What the sampler is told: complete only if every trial finished."""
        values = self.values(criteria)
        outcomes = [entry.outcome for entry in self.entries]
        verdict: Verdict = "failed"
        if self.is_refused:
            verdict, values = "refused", ()
        elif values and all(isinstance(one, Finished) for one in outcomes):
            verdict = "complete"
        elif any(isinstance(one, Pruned) for one in outcomes):
            verdict = "pruned"
        else:
            values = ()
        return Told(parameters=self.parameters, verdict=verdict, values=values, excess=self.excess)

    def values(self, criteria: Criteria) -> tuple[float, ...]:
        """The objectives so far; () where one has nothing to go by."""
        by_seed: dict[int, list[Validation]] = {}
        for entry in self.entries:
            by_seed.setdefault(entry.trial.seed, []).append(entry.validation)
        return criteria.values(self.parameters, by_seed)


@dataclass(slots=True, kw_only=True)
class Study:
    """The search of one arm for one set of bits.

    asked: every proposal in its order; one that was repeated stands there again. refused_in_a_row:
    proposals that were refused since the last that was not. best_judged: the best value
    so far of the objective that the scheduler judges.
    """

    arm: Arm
    arm_id: int
    label: str
    at: tuple[Bits, ...]
    criteria: Criteria
    search: Search | None
    asks_left: int
    asked: list[Configuration] = field(default_factory=list)
    refused_in_a_row: int = 0
    is_confirmed: bool = False
    stopped: str = ""
    notes: list[str] = field(default_factory=list)
    best_judged: float | None = None
    _by_digest: dict[str, Configuration] = field(default_factory=dict)
    _untold: set[int] = field(default_factory=set)
    _has_told_fault: bool = False

    @property
    def configurations(self) -> list[Configuration]:
        """The proposals, each once."""
        return list(self._by_digest.values())

    @property
    def is_searched(self) -> bool:
        """Nothing is left to propose and every proposal has ended."""
        if self.stopped:
            return True
        return self.asks_left <= 0 and not self._untold

    @property
    def found_nothing(self) -> bool:
        """The search is over, and a constraint refused all that it proposed."""
        asked = self.asked
        return self.is_searched and bool(asked) and all(one.is_refused for one in asked)

    def known(self, parameters: Parameters) -> Configuration | None:
        """The configuration of these parameters, if it was proposed before."""
        return self._by_digest.get(configuration_digest(parameters))

    def next_proposal(self) -> dict[str, Value] | None:
        """What the sampler proposes; None, and nothing is left to ask, where the space is done."""
        assert self.search is not None  # only searches have asks left
        if self.refused_in_a_row < REFUSED_IN_A_ROW:
            proposal = self.search.ask()
        else:
            proposal = None
            limits = ", ".join(one.label for one, _ in self.criteria.constraints)
            refused = f"{limits or 'the method'} refused {REFUSED_IN_A_ROW} proposals in a row"
            self.notes.append(f"arm {self.arm.name}: {refused}; its search ended")
        if proposal is None:
            self.asks_left = 0
        return proposal

    def propose(self, configuration: Configuration) -> None:
        """Enter a proposal, new or repeated."""
        name = configuration_digest(configuration.parameters)
        if name not in self._by_digest and configuration.told is None:
            self._untold.add(configuration.id)
        self._by_digest.setdefault(name, configuration)
        self.asked.append(configuration)
        if configuration.fault is not None and not self._has_told_fault:
            self._has_told_fault = True
            drawn = ", ".join(f"{k} = {v}" for k, v in configuration.parameters.items())
            cannot = f"{drawn} cannot be trained: {configuration.fault}"
            self.notes.append(f"arm {self.arm.name}: {cannot}; such proposals are passed over")
        if configuration.is_refused:
            self.refused_in_a_row += 1
        else:
            self.refused_in_a_row = 0
            self.asks_left -= 1

    def tell(self, configuration: Configuration) -> None:
        """Give the sampler the result, as often as it proposed the configuration."""
        told = configuration.told = configuration.verdict(self.criteria)
        self._untold.discard(configuration.id)
        if told.verdict == "complete":
            value = self.criteria.judged_value(told.values)
            choose = max if self.criteria.judged.goal == "maximize" else min
            known = self.best_judged
            self.best_judged = value if known is None else choose(value, known)
        while self.search is not None and configuration.open_asks:
            configuration.open_asks -= 1
            self.search.tell(told)

    def completed(self) -> list[tuple[tuple[float, ...], Configuration]]:
        """The values of every configuration that may win, in the order of proposal."""
        return [
            (one.told.values, one)
            for one in self._by_digest.values()
            if one.told is not None and one.told.verdict == "complete"
        ]

    def best(self, count: int) -> list[Configuration]:
        """The winners on validation: the best, or with several objectives the Pareto front."""
        found = self.completed()
        values = [value for value, _ in found]
        return [found[index][1] for index in winners(values, self.criteria.goals, at_most=count)]


def is_lost(outcome: Outcome | None) -> bool:
    """The configuration of such a trial can no longer win."""
    return isinstance(outcome, Pruned | Failed | Diverged)
