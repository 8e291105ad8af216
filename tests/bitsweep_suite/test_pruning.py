"""Early stopping: halving inside a group, never between groups."""

import pytest

from bitsweep.execution.pruning import NoPruner, Pruner, make_pruner
from bitsweep.measurement import Goal
from bitsweep.sweep import Asha, Median

GROUP = ("a", "w2a2", 1000)


def asha(goal: Goal = "maximize") -> Pruner:
    """Rungs at epochs 1, 2 and 4; half goes on."""
    return make_pruner(Asha(grace_epochs=1, reduction_factor=2), goal=goal, epochs=8)


def kept(pruner: Pruner, values: list[float], *, epoch: int = 1) -> list[bool]:
    """Whether each trial goes on, in the order of arrival."""
    return [
        pruner.goes_on(GROUP, f"trial {index}", epoch=epoch, value=value)
        for index, value in enumerate(values)
    ]


@pytest.mark.parametrize(("goal", "sign"), [("maximize", 1), ("minimize", -1)])
def test_the_worse_half_is_stopped(goal: Goal, sign: int) -> None:
    values = [sign * value for value in (4.0, 3.0, 2.0, 5.0)]

    assert kept(asha(goal), values) == [True, False, False, True]


def test_groups_do_not_compete() -> None:
    pruner = asha()
    kept(pruner, [9.0, 8.0])

    assert pruner.goes_on(("a", "w3a3", 1000), "other", epoch=1, value=1.0)
    assert not pruner.goes_on(GROUP, "mine", epoch=1, value=1.0)


def test_nothing_is_stopped_between_rungs() -> None:
    pruner = asha()
    kept(pruner, [9.0, 9.0])

    assert kept(pruner, [0.0, 0.0], epoch=3)[1]


def test_nothing_is_stopped_at_its_last_epoch() -> None:
    pruner = asha()
    kept(pruner, [9.0, 8.0, 7.0])

    assert kept(pruner, [0.0, 0.0, 0.0], epoch=8) == [True, True, True]


def test_without_a_scheduler_every_trial_goes_on() -> None:
    pruner = make_pruner(None, goal="maximize", epochs=8)

    assert isinstance(pruner, NoPruner) and all(kept(pruner, [3.0, 2.0, 1.0]))


def median(goal: Goal = "maximize", *, min_trials: int = 2) -> Pruner:
    """From epoch 2 on, at least two others."""
    return make_pruner(Median(grace_epochs=2, min_trials=min_trials), goal=goal, epochs=4)


def curve(pruner: Pruner, trial_id: str, *values: float) -> list[bool]:
    """Whether a trial goes on after each epoch, from the first."""
    return [
        pruner.goes_on(GROUP, trial_id, epoch=epoch, value=value)
        for epoch, value in enumerate(values, start=1)
    ]


@pytest.mark.parametrize(("goal", "sign"), [("maximize", 1), ("minimize", -1)])
def test_the_median_stops_what_never_was_as_good_as_the_mean_of_half(
    goal: Goal, sign: int
) -> None:
    pruner = median(goal)
    for name, value in (("a", 4.0), ("b", 5.0)):
        curve(pruner, name, *[sign * value] * 4)

    assert curve(pruner, "worse", sign * 3.0, sign * 3.0) == [True, False]
    assert curve(pruner, "better", sign * 3.0, sign * 6.0) == [True, True]


def test_the_median_waits_for_enough_trials_and_spares_the_last_epoch() -> None:
    alone, last = median(min_trials=3), median(min_trials=2)
    for pruner in (alone, last):
        curve(pruner, "a", 5.0, 5.0, 5.0, 5.0)
        curve(pruner, "b", 5.0, 5.0, 5.0, 5.0)

    assert curve(alone, "worse", 1.0, 1.0, 1.0, 1.0) == [True] * 4
    assert last.goes_on(GROUP, "worse", epoch=4, value=1.0)


def test_a_stopped_trial_may_be_replayed_to_the_epoch_it_reached() -> None:
    pruner = median()
    for name in ("a", "b"):
        curve(pruner, name, 5.0, 5.0, 5.0, 5.0)

    assert curve(pruner, "worse", 1.0, 1.0, 1.0, 1.0) == [True, False, False, True]
