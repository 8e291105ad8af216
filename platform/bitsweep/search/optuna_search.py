"""Optuna behind ask and tell: a study in memory, rebuilt from the store at the start."""

from collections.abc import Mapping, Sequence

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState, create_trial

from bitsweep import sweep
from bitsweep.measurement import Goal
from bitsweep.search.base import Told
from bitsweep.search.pareto import winners
from bitsweep.search.samplers import MARKING, make_sampler
from bitsweep.space import Choice, Dimension, Parameters, Space, Value, is_active
from bitsweep.sweep import Sampler
from bitsweep.trial import canonical_json

STATES = {
    "complete": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
    # Optuna learns from the constraints of pruned trials and not from those of failed ones.
    "refused": TrialState.PRUNED,
}

# The time to propose grows with what TPE and GP look at: 21 ms at 100 results of TPE, 85 at 1,000
# (benchmarks/search_scale.py). A study that has become so large is replaced by one that begins
# with its best and its newest results. TPE takes at most 25 results for the good ones, whatever
# their number, and gives old ones among the others little weight: it loses next to nothing.
WINDOWED: tuple[Sampler, ...] = ("tpe", "gp")
LARGEST_STUDY = 300
KEPT_BEST = 50
KEPT_NEWEST = 100


class OptunaSearch:
    """A study over one space; a condition puts a parameter into a proposal or leaves it out."""

    def __init__(
        self,
        space: Space,
        *,
        wanted: sweep.Search,
        goals: Sequence[Goal],
        fixed: Parameters,
        prior: Sequence[Told] = (),
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._space = space
        self._wanted = wanted
        self._fixed = dict(fixed)
        self._distributions = {name: distribution(one) for name, one in space.items()}
        self._goals = list(goals)
        self._study = optuna.create_study(directions=self._goals)
        self._prior = [frozen_trial(one, self._distributions) for one in prior]
        if wanted.sampler != "cmaes":  # which learns from them in a way of its own
            self._study.add_trials(self._prior)
        self._asked = 0
        self._size = len(self._prior)
        self._open: dict[str, list[optuna.Trial]] = {}

    @property
    def size(self) -> int:
        """How many trials the study at hand has."""
        return self._size

    def ask(self) -> dict[str, Value] | None:
        """A proposal; never None, since a sampler may always repeat itself."""
        trial = self._next_trial()
        proposal = self._suggest(trial)
        self._open.setdefault(canonical_json(proposal), []).append(trial)
        return proposal

    def retract(self, parameters: Parameters, /) -> None:
        """Let the trial fail and the next one have its number: samplers pass over failed ones."""
        trial = self._open[canonical_json(dict(parameters))].pop()
        self._study.tell(trial, state=TrialState.FAIL)
        self._asked -= 1

    def recall(self, parameters: Parameters, /, *, is_open: bool = False) -> None:
        """Enter an earlier proposal in its place, with the marks that its sampling left."""
        self._study.enqueue_trial(dict(parameters))
        trial = self._next_trial()
        if is_open or self._wanted.sampler in MARKING:
            _ = trial.relative_params  # samples, although the values are given
        self._suggest(trial)
        self._open.setdefault(canonical_json(dict(parameters)), []).append(trial)

    def tell(self, told: Told, /) -> None:
        """Give the study the result of a proposal; raise KeyError if it has none open."""
        state = STATES[told.verdict]
        trial = self._open[canonical_json(dict(told.parameters))].pop(0)
        if self._wanted.sampler != "cmaes":  # which cannot weigh them, and warns
            for name, excess in told.excess.items():
                trial.set_constraint(name, excess)
        if state is TrialState.PRUNED and len(told.values) == len(self._study.directions) == 1:
            trial.report(told.values[0], step=0)
        values = list(told.values) if state is TrialState.COMPLETE else None
        self._study.tell(trial, values, state=state)

    def _next_trial(self) -> optuna.Trial:
        if self._wanted.sampler in WINDOWED and self._size >= LARGEST_STUDY:
            self._shrink()
        self._study.sampler = make_sampler(
            self._wanted, number=self._asked, space=self._distributions, prior=self._prior
        )
        self._asked += 1
        self._size += 1
        return self._study.ask()

    def _shrink(self) -> None:
        """Go on in a study of the best, the newest and the open trials."""
        trials = self._study.get_trials(deepcopy=False)
        measured = (TrialState.COMPLETE, TrialState.PRUNED)
        known = [one for one in trials if one.state in measured]
        complete = [one for one in known if one.state is TrialState.COMPLETE]
        values = [tuple(one.values) for one in complete]
        best = winners(values, self._goals, at_most=KEPT_BEST)
        kept = {one.number for one in (*(complete[i] for i in best), *known[-KEPT_NEWEST:])}
        self._study = optuna.create_study(directions=self._goals)
        self._study.add_trials([one for one in known if one.number in kept])
        self._size = len(kept)
        waiting = [(one.number, key, one) for key, open_ in self._open.items() for one in open_]
        self._open = {}
        for _, key, one in sorted(waiting, key=lambda item: item[0]):
            self._study.enqueue_trial(one.params)
            trial = self._study.ask()
            self._suggest(trial)
            self._open.setdefault(key, []).append(trial)
            self._size += 1

    def _suggest(self, trial: optuna.Trial) -> dict[str, Value]:
        proposal: dict[str, Value] = {}
        for name, dimension in self._space.items():
            if is_active(dimension.when, {**self._fixed, **proposal}):
                proposal[name] = _suggested(trial, name, dimension)
        return proposal


def frozen_trial(told: Told, distributions: Mapping[str, BaseDistribution]) -> FrozenTrial:
    """A result as a trial of Optuna's."""
    state = STATES[told.verdict]
    is_pruned = state is TrialState.PRUNED and len(told.values) == 1
    return create_trial(
        state=state,
        params=dict(told.parameters),
        distributions={name: distributions[name] for name in told.parameters},
        values=list(told.values) if state is TrialState.COMPLETE else None,
        intermediate_values={0: told.values[0]} if is_pruned else {},
    )


def distribution(dimension: Dimension) -> BaseDistribution:
    """A dimension as Optuna says it."""
    if isinstance(dimension, Choice):
        return CategoricalDistribution(dimension.values)
    if dimension.is_integer:
        return IntDistribution(int(dimension.low), int(dimension.high), log=dimension.is_log)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.is_log)


def _suggested(trial: optuna.Trial, name: str, dimension: Dimension) -> Value:
    if isinstance(dimension, Choice):
        value = trial.suggest_categorical(name, dimension.values)
        assert value is not None  # only among our own values, none of which is None
        return value
    low, high, is_log = dimension.low, dimension.high, dimension.is_log
    if dimension.is_integer:
        return trial.suggest_int(name, int(low), int(high), log=is_log)
    return trial.suggest_float(name, low, high, log=is_log)
