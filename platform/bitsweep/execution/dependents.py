"""Trials that take something from the trial of another arm with the same seed: who waits for whom.

An allocation is part of a trial's identity, so such a trial is made when the one that it takes
from has finished; one that takes a checkpoint is named by that trial's id and is made before.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from bitsweep.bits import Allocation, parse_allocation
from bitsweep.execution.roster import Entry, Study
from bitsweep.plan import Plan
from bitsweep.store.records import Score
from bitsweep.sweep import Source, Stage
from bitsweep.taking import taken
from bitsweep.trial import Finished, Trial, status_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """The trials of an arm at one seed that are not made yet."""

    study: Study
    configuration: int
    stage: Stage
    seed: int

    @property
    def source(self) -> Source:
        """What it waits for."""
        assert self.study.arm.source is not None  # only such arms wait
        return self.study.arm.source


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """Trials to run; or one trial that stands for what cannot be run, and why."""

    trials: tuple[Trial, ...]
    failure: str | None = None


class Dependents:
    """The trials of a run that wait for others, and the trials that these may take from.

    scores: what a trial measured on validation, as it stands in the store.
    """

    def __init__(self, plan: Plan, *, scores: Callable[[str], Sequence[Score]]) -> None:
        self._plan = plan
        self._scores = scores
        self._waiting: list[Waiting] = []
        self._final: dict[tuple[str, int], list[Entry]] = {}

    @property
    def waiting(self) -> Sequence[Waiting]:
        """What is not made yet, in the order of the sweep."""
        return tuple(self._waiting)

    def is_giving(self, arm: str) -> bool:
        """Whether other arms start from this one's checkpoints."""
        sources = [one.source for one in self._plan.sweep.arms if one.source is not None]
        return any(one.arm == arm and one.take == "checkpoint" for one in sources)

    def add(self, waiting: Iterable[Waiting]) -> None:
        """Let these wait."""
        self._waiting += waiting

    def note(self, arm: str, entries: Iterable[Entry]) -> None:
        """These are the trials of an arm's last stage, which others may take from."""
        for entry in entries:
            self._final.setdefault((arm, entry.trial.seed), []).append(entry)

    def next_released(self, studies: Sequence[Study]) -> tuple[Waiting, Released] | None:
        """The first of them whose trials can be told by now; it waits no more."""
        for waiting in self._waiting:
            parents = self._parents(waiting, studies)
            found = released(waiting, self._plan, parents=parents, scores=self._scores)
            if found is not None:
                self._waiting.remove(waiting)
                return waiting, found
        return None

    def give_up(self, stopped: Collection[str], *, is_coming: Callable[[Entry], bool]) -> None:
        """Let those wait no more that belong to stopped arms, or wait for what never comes."""

        lost: set[tuple[str, int]] = set()

        def is_stranded(one: Waiting) -> bool:
            given = (one.source.arm, one.seed)
            if one.study.arm.name in stopped or given in lost:
                return True
            theirs = self._final.get(given, [])
            return one.source.arm in stopped and not (theirs and all(map(is_coming, theirs)))

        while stranded := [one for one in self._waiting if is_stranded(one)]:
            lost |= {(one.study.arm.name, one.seed) for one in stranded}
            self._waiting = [one for one in self._waiting if one not in stranded]

    def _parents(self, waiting: Waiting, studies: Sequence[Study]) -> Sequence[Entry] | None:
        """The trials it takes from; None while that arm's last stage is not reached."""
        arm, seed = waiting.source.arm, waiting.seed
        are_waiting = any(one.study.arm.name == arm and one.seed == seed for one in self._waiting)
        theirs = [study for study in studies if study.arm.name == arm]
        if are_waiting or not all(study.is_confirmed for study in theirs):
            return None
        return self._final.get((arm, seed), [])


def released(
    waiting: Waiting,
    plan: Plan,
    *,
    parents: Sequence[Entry] | None,
    scores: Callable[[str], Sequence[Score]],
) -> Released | None:
    """The trials of what waits, or None while it cannot be told.

    parents: the trials of the arm that it takes from, with its seed; None before they are known,
    empty where that arm has none.
    """
    if parents is None:
        return None
    if not parents:
        return _failed(waiting, plan, f"arm {waiting.source.arm!r} has no trial to take from")
    if waiting.source.take == "checkpoint":
        return Released(trials=_from_checkpoints(waiting, plan, parents))
    (parent,) = parents  # one network learns its bits, or has taken them: see checks.sources
    if parent.outcome is None:
        return None
    if not isinstance(parent.outcome, Finished):
        what = f"the trial that it takes its bits from ({parent.trial.short_id})"
        return _failed(waiting, plan, f"{what} {status_of(parent.outcome)}")
    learned = _allocation(scores(parent.trial.id))
    form, layers = waiting.source.form, plan.layers()
    try:
        allocation = taken(learned, form, layers=layers, seed=waiting.seed)
        trial = plan.allocated_trial(
            waiting.study.arm, allocation, seed=waiting.seed, stage=waiting.stage
        )
    except ValueError as error:
        return _failed(waiting, plan, str(error))
    return Released(trials=(trial,))


def unknown_trial(waiting: Waiting, plan: Plan) -> Trial:
    """The trial that stands for one whose bits never became known."""
    return plan.allocated_trial(waiting.study.arm, None, seed=waiting.seed, stage=waiting.stage)


def _failed(waiting: Waiting, plan: Plan, reason: str) -> Released:
    return Released(trials=(unknown_trial(waiting, plan),), failure=reason)


def _allocation(scores: Sequence[Score]) -> Allocation:
    """The allocation measured at the last epoch."""
    last = max(score.epoch for score in scores)
    (label,) = {score.allocation for score in scores if score.epoch == last}
    return parse_allocation(label)


def _from_checkpoints(waiting: Waiting, plan: Plan, parents: Sequence[Entry]) -> tuple[Trial, ...]:
    """A trial per width, each from the parent of its width, or from the only parent there is."""
    arm = waiting.study.arm
    bits = plan.measured_bits(arm, arm.parameters)
    groups = [bits] if plan.method(arm).serves == "all" else [(one,) for one in bits]
    made: list[Trial] = []
    for group in groups:
        alike = [one for one in parents if one.trial.bits == group]
        parent = (alike or list(parents))[0]
        made += plan.trials(
            arm,
            {},
            seed=waiting.seed,
            bits=group,
            stage=waiting.stage,
            start=parent.trial.id,
        )
    return tuple(made)
