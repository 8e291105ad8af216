"""Which trial the scheduler of the Ray executor lets Tune begin."""

from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.experiment import Trial

from bitsweep.execution.ray_tune import _Recording


class Controller:
    """Tune's controller as a scheduler sees it; who asks for every trial there was, fails."""

    def __init__(self) -> None:
        self.live: set[Trial] = set()

    def get_live_trials(self) -> set[Trial]:
        return self.live


@pytest.fixture
def scheduler() -> Any:
    nobody: Any = SimpleNamespace(place=lambda trial: None)
    return _Recording(nobody, [], nobody)


def trials(scheduler: Any, controller: Controller, statuses: list[str]) -> list[Trial]:
    made = [Trial("toy", stub=True) for _ in statuses]
    for trial, status in zip(made, statuses, strict=True):
        scheduler.on_trial_add(controller, trial)
        trial.set_status(status)
        controller.live.add(trial)
    return made


def test_the_first_that_waits_begins(scheduler: Any) -> None:
    controller = Controller()
    made = trials(scheduler, controller, [Trial.RUNNING, *[Trial.PENDING] * 20])

    assert scheduler.choose_trial_to_run(controller) is made[1]
    made[1].set_status(Trial.RUNNING)
    assert scheduler.choose_trial_to_run(controller) is made[2]


def test_a_paused_one_begins_when_none_waits(scheduler: Any) -> None:
    controller = Controller()
    paused, waiting = trials(scheduler, controller, [Trial.PAUSED, Trial.PENDING])

    assert scheduler.choose_trial_to_run(controller) is waiting
    waiting.set_status(Trial.TERMINATED)
    assert scheduler.choose_trial_to_run(controller) is paused
    paused.set_status(Trial.RUNNING)
    assert scheduler.choose_trial_to_run(controller) is None
