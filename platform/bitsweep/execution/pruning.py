"""Early stopping: one ASHA of Ray Tune's per (arm, bits, seed), so that 2-bit trials never
compete with 4-bit ones, nor one arm with another.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Protocol

from bitsweep.measurement import Goal
from bitsweep.sweep import Asha


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
    """All that ASHA looks at in a trial."""

    trial_id: str


class AshaPruner:
    """Tune's asynchronous successive halving, one instance per group."""

    def __init__(self, asha: Asha, *, goal: Goal, epochs: int) -> None:
        self._asha = asha
        self._goal = goal
        self._epochs = epochs
        self._groups: dict[Hashable, Any] = {}  # Tune's scheduler is untyped
        self._added: set[tuple[Hashable, str]] = set()

    def goes_on(self, group: Hashable, trial_id: str, *, epoch: int, value: float) -> bool:
        """ASHA's decision at this rung; the last epoch of a trial is never a stop."""
        from ray.tune.schedulers import TrialScheduler

        scheduler = self._scheduler(group)
        trial = _TuneTrial(trial_id)
        if (group, trial_id) not in self._added:
            self._added.add((group, trial_id))
            scheduler.on_trial_add(None, trial)
        if epoch >= self._epochs:
            return True
        result = {"training_iteration": epoch, "value": value}
        decision = scheduler.on_trial_result(None, trial, result)
        return bool(decision != TrialScheduler.STOP)

    def _scheduler(self, group: Hashable) -> Any:
        from ray.tune.schedulers import AsyncHyperBandScheduler

        if group not in self._groups:
            self._groups[group] = AsyncHyperBandScheduler(
                time_attr="training_iteration",
                metric="value",
                mode="max" if self._goal == "maximize" else "min",
                grace_period=self._asha.grace_epochs,
                reduction_factor=self._asha.reduction_factor,
                max_t=self._epochs,
            )
        return self._groups[group]


def make_pruner(asha: Asha | None, *, goal: Goal, epochs: int) -> Pruner:
    """The pruner of a sweep's scheduler."""
    return NoPruner() if asha is None else AshaPruner(asha, goal=goal, epochs=epochs)
