"""Optuna behind ask and tell: a study in memory, told the history of the store at the start."""

import warnings
from collections.abc import Mapping
from typing import Literal

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import TrialState, create_trial

from bitsweep.measurement import Goal
from bitsweep.search.base import Told
from bitsweep.space import Choice, Dimension, Space, Value, is_active
from bitsweep.trial import canonical_json

_STATES = {
    "complete": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}
# TPE needs a few points before its densities say anything; Optuna's own default of 10 would leave
# a search of a dozen configurations random.
STARTUP_CONFIGURATIONS = 4


class OptunaSearch:
    """A study over one space; a condition makes a parameter part of a proposal or leaves it out.

    The sampler is seeded from (seed, known): a constant seed would propose the first points of an
    interrupted search again after each restart.
    """

    def __init__(
        self,
        space: Space,
        *,
        sampler: Literal["random", "tpe"],
        goal: Goal,
        seed: int,
        known: int,
        fixed: Mapping[str, Value],
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._space = space
        self._fixed = dict(fixed)
        self._study = optuna.create_study(
            direction=goal, sampler=_sampler(sampler, seed=seed * 100_003 + known)
        )
        self._open: dict[str, list[optuna.Trial]] = {}

    def ask(self) -> dict[str, Value] | None:
        """A proposal; never None, since a sampler may always repeat itself."""
        trial = self._study.ask()
        proposal: dict[str, Value] = {}
        for name, dimension in self._space.items():
            if is_active(dimension.when, {**self._fixed, **proposal}):
                proposal[name] = _suggest(trial, name, dimension)
        self._open.setdefault(canonical_json(proposal), []).append(trial)
        return proposal

    def tell(self, told: Told, /) -> None:
        """Give the study a result: to the open trial of that proposal, or as history."""
        state = _STATES[told.verdict]
        waiting = self._open.get(canonical_json(dict(told.parameters)))
        if not waiting:
            self._add_history(told, state)
            return
        trial = waiting.pop(0)
        if state is TrialState.PRUNED and told.value is not None:
            trial.report(told.value, step=0)
        value = told.value if state is TrialState.COMPLETE else None
        self._study.tell(trial, value, state=state)

    def _add_history(self, told: Told, state: TrialState) -> None:
        distributions = {name: _distribution(self._space[name]) for name in told.parameters}
        pruned = state is TrialState.PRUNED and told.value is not None
        self._study.add_trial(
            create_trial(
                state=state,
                params=dict(told.parameters),
                distributions=distributions,
                value=told.value if state is TrialState.COMPLETE else None,
                intermediate_values={0: told.value} if pruned and told.value is not None else {},
            )
        )


def _sampler(name: Literal["random", "tpe"], *, seed: int) -> BaseSampler:
    if name == "random":
        return RandomSampler(seed=seed)
    with warnings.catch_warnings():
        # Optuna calls these options experimental; conditional spaces need the grouped one.
        warnings.simplefilter("ignore", ExperimentalWarning)
        return TPESampler(
            seed=seed,
            multivariate=True,
            group=True,
            constant_liar=True,
            n_startup_trials=STARTUP_CONFIGURATIONS,
        )


def _distribution(dimension: Dimension) -> BaseDistribution:
    if isinstance(dimension, Choice):
        return CategoricalDistribution(dimension.values)
    if dimension.is_integer:
        return IntDistribution(int(dimension.low), int(dimension.high), log=dimension.is_log)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.is_log)


def _suggest(trial: optuna.Trial, name: str, dimension: Dimension) -> Value:
    if isinstance(dimension, Choice):
        value = trial.suggest_categorical(name, dimension.values)
        assert value is not None  # only among our own values, none of which is None
        return value
    low, high, is_log = dimension.low, dimension.high, dimension.is_log
    if dimension.is_integer:
        return trial.suggest_int(name, int(low), int(high), log=is_log)
    return trial.suggest_float(name, low, high, log=is_log)
