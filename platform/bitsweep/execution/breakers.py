"""When an arm or a whole sweep is stopped: failures in a row, failures in all, device time.

A divergence is a result, not a failure: a search meets it on its way.
"""

from collections import Counter

from bitsweep.sweep import Budget, Resources
from bitsweep.trial import Failed, Outcome

START_FAILED = "the training it starts from failed"
SECONDS_PER_HOUR = 3600.0


class Breakers:
    """Counts what trials came to; each verb returns why to stop, or nothing."""

    def __init__(self, budget: Budget, resources: Resources, *, spent_seconds: float) -> None:
        self._budget = budget
        self._devices = resources.workers_per_trial * (
            resources.gpus_per_worker or resources.cpus_per_worker
        )
        self._kind = "GPU" if resources.gpus_per_worker else "CPU"
        self._seconds = spent_seconds
        self._in_a_row: Counter[str] = Counter()
        self._failures = 0

    def trial_ended(self, outcome: Outcome) -> str:
        """Count a trial of the sweep; say why the sweep stops, if it does."""
        if not _is_own_failure(outcome):
            return ""
        self._failures += 1
        limit = self._budget.max_failures
        if limit is None or self._failures < limit:
            return ""
        return f"stopped: {self._failures} trials failed (budget.max_failures = {limit})"

    def arm_trial_ended(self, arm: str, outcome: Outcome) -> str:
        """Count a trial of an arm; say why the arm stops, if it does."""
        if not _is_own_failure(outcome):
            if not isinstance(outcome, Failed):
                self._in_a_row[arm] = 0
            return ""
        assert isinstance(outcome, Failed)  # only failures are counted
        self._in_a_row[arm] += 1
        limit = self._budget.arm_failures
        if self._in_a_row[arm] < limit:
            return ""
        return (
            f"arm {arm} stopped: {self._in_a_row[arm]} trials in a row failed "
            f"(budget.arm_failures = {limit}), the last one: {outcome.reason}"
        )

    def trained(self, seconds: float) -> None:
        """Add the training time of a trial."""
        self._seconds += seconds

    def out_of_time(self) -> str:
        """Why no further trial may start, if none may."""
        limit = self._budget.device_hours
        hours = self._seconds * self._devices / SECONDS_PER_HOUR
        if limit is None or hours < limit:
            return ""
        return f"stopped: {hours:.4g} {self._kind}-hours spent (budget.device_hours = {limit:g})"


def _is_own_failure(outcome: Outcome) -> bool:
    """Not one that another trial's failure brought about."""
    return isinstance(outcome, Failed) and outcome.reason != START_FAILED
