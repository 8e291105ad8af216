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
from bitsweep.search.samplers import MARKING, make_sampler
from bitsweep.space import Choice, Dimension, Parameters, Space, Value, is_active
from bitsweep.trial import canonical_json

STATES = {
    "complete": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
    # Optuna learns from the constraints of pruned trials and not from those of failed ones.
    "refused": TrialState.PRUNED,
}


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
        self._study = optuna.create_study(directions=list(goals))
        self._prior = [frozen_trial(one, self._distributions) for one in prior]
        if wanted.sampler != "cmaes":  # which learns from them in a way of its own
            self._study.add_trials(self._prior)
        self._asked = 0
        self._open: dict[str, list[optuna.Trial]] = {}

    @property
    def study(self) -> optuna.Study:
        """The study, to be looked at."""
        return self._study

    def ask(self) -> dict[str, Value] | None:
        """A proposal; never None, since a sampler may always repeat itself."""
        trial = self._next_trial()
        proposal = self._suggest(trial)
        self._open.setdefault(canonical_json(proposal), []).append(trial)
        return proposal

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
        self._study.sampler = make_sampler(
            self._wanted, number=self._asked, space=self._distributions, prior=self._prior
        )
        self._asked += 1
        return self._study.ask()

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
