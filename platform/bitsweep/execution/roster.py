"""What a run knows of its trials, configurations and studies while it lasts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from bitsweep.bits import Bits
from bitsweep.measurement import Evaluation
from bitsweep.search.base import Search, Told
from bitsweep.space import Value
from bitsweep.store.reader import Score
from bitsweep.sweep import Arm, Objective, Stage
from bitsweep.trial import Diverged, Failed, Finished, Outcome, Pruned, Trial


@dataclass(slots=True, kw_only=True)
class Entry:
    """A trial of this run: where it stands and what its newest validation says."""

    trial: Trial
    stage: Stage
    group: tuple[str, str, int]
    outcome: Outcome | None = None
    is_running: bool = False
    is_reused: bool = False
    epoch: int = 0
    validation: dict[str, float] = field(default_factory=dict)

    @property
    def is_over(self) -> bool:
        """Nothing more will come of it."""
        return self.outcome is not None

    def note(self, evaluation: Evaluation, metric: str) -> None:
        """Keep the newest validation value of each allocation."""
        values = {
            one.allocation.label: one.metric(metric)
            for one in evaluation.measurements
            if one.split == "validation"
        }
        self.note_values(evaluation.epoch, values)

    def note_scores(self, scores: Sequence[Score], metric: str) -> None:
        """The same, from the store."""
        newest = max((score.epoch for score in scores), default=0)
        values = {
            score.allocation: score.metric(metric) for score in scores if score.epoch == newest
        }
        self.note_values(newest, values)

    def note_values(self, epoch: int, values: Mapping[str, float]) -> None:
        """Values of an epoch, unless a later one stands."""
        if values and epoch >= self.epoch:
            self.epoch = epoch
            self.validation = dict(values)


@dataclass(slots=True, kw_only=True)
class Configuration:
    """A proposal with its trials in one stage; over when all of them are."""

    id: int
    parameters: Mapping[str, Value]
    entries: tuple[Entry, ...]
    is_told: bool = False

    @property
    def is_over(self) -> bool:
        """All trials have ended."""
        return all(entry.is_over for entry in self.entries)

    def verdict(self, objective: Objective, at: Sequence[Bits]) -> Told:
        """What the sampler is told: complete only if every trial finished."""
        value = self.value(objective, at)
        outcomes = [entry.outcome for entry in self.entries]
        if all(isinstance(one, Finished) for one in outcomes) and value is not None:
            return Told(parameters=self.parameters, verdict="complete", value=value)
        if any(isinstance(one, Pruned) for one in outcomes):
            return Told(parameters=self.parameters, verdict="pruned", value=value)
        return Told(parameters=self.parameters, verdict="failed", value=None)

    def value(self, objective: Objective, at: Sequence[Bits]) -> float | None:
        """The objective on validation: combined over bits per seed, then the mean over seeds."""
        by_seed: dict[int, list[float]] = {}
        labels = {one.label for one in at}
        for entry in self.entries:
            values = [v for label, v in entry.validation.items() if label in labels]
            by_seed.setdefault(entry.trial.seed, []).extend(values)
        combine = min if objective.combine == "min" else fmean
        combined = [combine(values) for values in by_seed.values() if values]
        return fmean(combined) if combined else None


@dataclass(slots=True, kw_only=True)
class Study:
    """The search of one arm for one set of bits."""

    arm: Arm
    arm_id: int
    label: str
    at: tuple[Bits, ...]
    search: Search | None
    asks_left: int
    configurations: list[Configuration] = field(default_factory=list)
    is_confirmed: bool = False

    @property
    def is_searched(self) -> bool:
        """Nothing is left to propose and every proposal has ended."""
        return self.asks_left <= 0 and all(one.is_told for one in self.configurations)

    def best(self, objective: Objective, count: int) -> list[Configuration]:
        """The best completed configurations on validation, the earliest first among equals."""
        ranked = [
            (told.value, -index, one)
            for index, one in enumerate(self.configurations)
            if (told := one.verdict(objective, self.at)).verdict == "complete"
            and told.value is not None
        ]
        sign = 1 if objective.goal == "maximize" else -1
        ranked.sort(key=lambda item: (sign * item[0], item[1]), reverse=True)
        return [one for _, _, one in ranked[:count]]


def is_lost(outcome: Outcome | None) -> bool:
    """The configuration of such a trial can no longer win."""
    return isinstance(outcome, Pruned | Failed | Diverged)
