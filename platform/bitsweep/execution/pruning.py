"""Early stopping: one scheduler of Ray Tune's per (arm, bits, seed), so that 2-bit trials never
compete with 4-bit ones, nor one arm with another. It sees validation of the search alone.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from math import inf
from typing import Any, Protocol

from bitsweep.measurement import Goal
from bitsweep.sweep import Asha, Scheduler


class Pruner(Protocol):
    """Says whether a trial goes on after an epoch; told of epochs in ascending order per trial."""

    def goes_on(self, group: Hashable, trial_id: str, *, epoch: int, value: float) -> bool: ...


class NoPruner:
    """Every trial goes on."""

    def goes_on(self, group: Hashable, trial_id: str, *, epoch: int, value: float) -> bool:
        """Always."""
        return True


@dataclass(frozen=True, slots=True)
class _TuneTrial:
    """All that Tune's schedulers look at in a trial."""

    trial_id: str


class TunePruner:
    """A scheduler of Ray Tune's, one instance per group."""

    def __init__(self, wanted: Scheduler, *, goal: Goal, epochs: int) -> None:
        self._wanted = wanted
        self._mode = "max" if goal == "maximize" else "min"
        self._epochs = epochs
        self._groups: dict[Hashable, Any] = {}  # Tune's schedulers are untyped
        self._added: set[tuple[Hashable, str]] = set()
        self._stopped: set[tuple[Hashable, str]] = set()

    def goes_on(self, group: Hashable, trial_id: str, *, epoch: int, value: float) -> bool:
        """The scheduler's decision; the last epoch of a trial is never a stop."""
        from ray.tune.schedulers import TrialScheduler

        scheduler = self._scheduler(group)
        trial, key = _TuneTrial(trial_id), (group, trial_id)
        if key not in self._added:
            self._added.add(key)
            scheduler.on_trial_add(None, trial)
        is_last = epoch >= self._epochs
        if key in self._stopped or (is_last and isinstance(self._wanted, Asha)):
            # A known trial may be replayed past the epoch at which it would be stopped this time;
            # ASHA has no rung at the last epoch, while the median needs its values.
            return is_last
        result = {"training_iteration": epoch, "value": value}
        if scheduler.on_trial_result(None, trial, result) != TrialScheduler.STOP:
            return True
        self._stopped.add(key)
        return is_last

    def _scheduler(self, group: Hashable) -> Any:
        if group not in self._groups:
            self._groups[group] = _make(self._wanted, mode=self._mode, epochs=self._epochs)
        return self._groups[group]


def _make(wanted: Scheduler, *, mode: str, epochs: int) -> Any:  # Tune's schedulers are untyped
    from ray.tune.schedulers import AsyncHyperBandScheduler, MedianStoppingRule

    common = {"time_attr": "training_iteration", "metric": "value", "mode": mode}
    if isinstance(wanted, Asha):
        return AsyncHyperBandScheduler(
            **common,
            grace_period=wanted.grace_epochs,
            reduction_factor=wanted.reduction_factor,
            max_t=epochs,
        )
    return MedianStoppingRule(
        **common,
        grace_period=wanted.grace_epochs,
        min_samples_required=wanted.min_trials,
        min_time_slice=inf,  # it would pause a trial to wait for others, and ask Tune for them
    )


def make_pruner(scheduler: Scheduler | None, *, goal: Goal, epochs: int) -> Pruner:
    """The pruner of a sweep's scheduler."""
    if scheduler is None:
        return NoPruner()
    return TunePruner(scheduler, goal=goal, epochs=epochs)
