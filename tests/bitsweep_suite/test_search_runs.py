"""Searches in real runs: objectives, limits, first points, warm starts, breakers, schedulers."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.bitsweep_suite.toys import (
    FIXED,
    SEARCHED,
    STARTED,
    acting,
    ask_store,
    run_toy,
    toy_plan,
    toy_sweep,
    toy_task,
)

from bitsweep.bits import tied
from bitsweep.checks import Problem, check_sweep
from bitsweep.checks.combinations import MOST_COMBINATIONS, drawable
from bitsweep.errors import UnknownName
from bitsweep.execution.progress import Progress
from bitsweep.run import RunReport, arm_digests
from bitsweep.space import Choice, Range
from bitsweep.sweep import (
    Arm,
    Asha,
    Budget,
    Confirm,
    Constraint,
    Median,
    Objective,
    Sampler,
    Search,
    Source,
    Sweep,
)
from bitsweep.taking import Take
from bitsweep.testing import toy_declarations

BRANCHES = Arm(
    name="a",
    method="toy_branches",
    space={
        "branches": Range(low=1, high=4, is_integer=True),
        "x": Range(low=0.0, high=1.0),
    },
)
TWO = (Objective(), Objective(metric="size_bits", goal="minimize"))
# Sizes of the toy at 2 bits with 1 to 4 branches: 90 body weights at 2 bits a branch, and ends.
SIZE_OF_TWO_BRANCHES = 90 * 4 + 19 * 8 + 32 * 10


def configurations(folder: Path) -> list[str]:
    """The proposals in their order."""
    rows = ask_store(folder, "SELECT parameters FROM configurations ORDER BY id")
    return [str(row[0]) for row in rows]


# Resuming.


@pytest.mark.parametrize(("sampler", "after"), [("tpe", 17), ("nsga2", 5)])
def test_an_interrupted_search_proposes_what_the_whole_one_does(
    sampler: Sampler, after: int, tmp_path: Path
) -> None:
    search = Search(
        sampler=sampler,
        configurations_per_arm=10,
        scheduler=Asha(grace_epochs=1, reduction_factor=2),
    )
    sweep = toy_sweep(BRANCHES, search=search, confirm=None)
    events = 0

    def interrupt(progress: Progress) -> None:
        nonlocal events
        events += 1
        if events == after:
            raise KeyboardInterrupt

    (tmp_path / "whole").mkdir()
    run_toy(sweep, tmp_path / "whole")
    (tmp_path / "cut").mkdir()
    cut = run_toy(sweep, tmp_path / "cut", observe=interrupt)
    run_toy(sweep, tmp_path / "cut")

    assert cut.is_interrupted
    assert configurations(tmp_path / "cut") == configurations(tmp_path / "whole")


# Several objectives and constraints.


def front_of(folder: Path) -> set[int]:
    """The configurations whose mean validation and size no other's dominate, by plain SQL."""
    rows = ask_store(
        folder,
        "SELECT configuration_id, AVG(top1_percent), AVG(size_bits) FROM member_results "
        "WHERE stage = 'search' AND split = 'validation' GROUP BY configuration_id",
    )
    return {
        one[0]
        for one in rows
        if not any(
            other[1] >= one[1] and other[2] <= one[2] and other[1:] != one[1:] for other in rows
        )
    }


def confirmed(folder: Path) -> set[int]:
    """The configurations of the confirm stage."""
    rows = ask_store(
        folder, "SELECT DISTINCT configuration_id FROM memberships WHERE stage = 'confirm'"
    )
    return {row[0] for row in rows}


@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_the_pareto_winners_of_validation_are_confirmed(sampler: Sampler, tmp_path: Path) -> None:
    search = Search(sampler=sampler, configurations_per_arm=9)
    sweep = toy_sweep(
        BRANCHES,
        objectives=TWO,
        search=search,
        confirm=Confirm(best_per_arm=9, seeds=(0,)),
        task=toy_task(bits=(tied(2),)),
    )
    run_toy(sweep, tmp_path)

    assert len(front_of(tmp_path)) > 1
    assert confirmed(tmp_path) == front_of(tmp_path)


def test_best_per_arm_caps_the_winners(tmp_path: Path) -> None:
    search = Search(sampler="random", configurations_per_arm=9)
    sweep = toy_sweep(
        BRANCHES,
        objectives=TWO,
        search=search,
        confirm=Confirm(best_per_arm=1, seeds=(0,)),
        task=toy_task(bits=(tied(2),)),
    )
    run_toy(sweep, tmp_path)

    assert len(confirmed(tmp_path)) == 1 and confirmed(tmp_path) < front_of(tmp_path)


def test_a_configuration_over_a_limit_is_refused_untrained(tmp_path: Path) -> None:
    limit = Constraint(metric="size_bits", at_most=SIZE_OF_TWO_BRANCHES)
    sweep = toy_sweep(
        BRANCHES,
        constraints=(limit,),
        search=Search(configurations_per_arm=8),
        confirm=Confirm(best_per_arm=3, seeds=(0,)),
        task=toy_task(bits=(tied(2),)),
    )
    first = run_toy(sweep, tmp_path)
    again = run_toy(sweep, tmp_path)
    sizes = ask_store(tmp_path, "SELECT MAX(size_bits) FROM results")
    proposed = ask_store(tmp_path, "SELECT COUNT(*) FROM configurations")
    trained = ask_store(
        tmp_path, "SELECT COUNT(DISTINCT configuration_id) FROM memberships WHERE stage = 'search'"
    )

    assert sizes == [(SIZE_OF_TWO_BRANCHES,)] and trained == [(8,)]
    assert proposed[0][0] > 8 and (first.trials_failed, again.trials_run) == (0, 0)


def test_a_limit_that_nothing_keeps_ends_the_search_and_says_so(tmp_path: Path) -> None:
    limit = Constraint(metric="bitops", at_most=1.0)
    report = run_toy(toy_sweep(BRANCHES, FIXED, constraints=(limit,)), tmp_path)

    assert report.notes == ("arm a: bitops <= 1 refused 50 proposals in a row; its search ended",)
    assert report.trials_run == 4 and report.is_stopped


GAP = Arm(
    name="a",
    method="toy_gap",
    parameters={"sharing": "bitwise"},
    space={"x": Range(low=0.0, high=1.0)},
)


@pytest.mark.parametrize("sampler", ["random", "tpe", "cmaes", "nsga2"])
def test_a_drawn_configuration_that_cannot_be_is_passed_over_and_said_once(
    sampler: Sampler, tmp_path: Path
) -> None:
    search = Search(sampler=sampler, configurations_per_arm=8)
    sweep = toy_sweep(GAP, search=search, task=toy_task(bits=(tied(2),)))
    check_sweep(sweep, toy_declarations())
    first = run_toy(sweep, tmp_path)
    again = run_toy(sweep, tmp_path)
    points = [json.loads(one)["x"] for one in configurations(tmp_path)]
    passed_over = [x for x in points if 0.2 < x < 0.6]

    assert passed_over and len(points) - len(passed_over) == 8
    assert len(first.notes) == 1 and f"x = {passed_over[0]} cannot be trained" in first.notes[0]
    assert (first.trials_failed, again.trials_run) == (0, 0)


def test_a_grid_passes_over_what_cannot_be(tmp_path: Path) -> None:
    arm = replace(GAP, space={"x": Choice(values=(0.1, 0.3, 0.5, 0.9))})
    sweep = toy_sweep(arm, search=Search(sampler="grid", configurations_per_arm=4))
    report = run_toy(sweep, tmp_path)
    trained = ask_store(
        tmp_path, "SELECT COUNT(DISTINCT configuration_id) FROM memberships WHERE stage = 'search'"
    )

    assert trained == [(2,)] and not report.trials_failed


def test_combinations_of_choices_are_checked_before_anything_runs() -> None:
    space = {"sharing": Choice(values=("off", "bitwise")), "x": Choice(values=(0.1, 0.5))}
    arm = Arm(name="a", method="toy_gap", space=space)
    with pytest.raises(Problem, match="sharing = bitwise has no x") as raised:
        check_sweep(toy_sweep(arm), toy_declarations())

    assert raised.value.path == ("arms", 0, "space", "sharing")
    apart = {"x": Choice(values=(0.1, 0.9)), "sharing": space["sharing"]}
    check_sweep(toy_sweep(replace(arm, space=apart)), toy_declarations())


def test_first_points_fit_together() -> None:
    arm = replace(GAP, first=({"x": 0.5},))
    with pytest.raises(Problem, match="sharing = bitwise has no x") as raised:
        check_sweep(toy_sweep(arm), toy_declarations())

    assert raised.value.path == ("arms", 0, "first", 0)


def test_more_combinations_than_are_tried_leave_each_value_checked() -> None:
    many = {f"p{index}": Choice(values=(0, 1, 2)) for index in range(9)}
    arm = Arm(name="a", method="toy", space=many)
    points = list(drawable(arm))

    assert len(points) <= 2 * MOST_COMBINATIONS
    assert {(name, value) for one in points for name, value in one.items()} == {
        (name, value) for name in many for value in (0, 1, 2)
    }


def test_an_arm_with_bits_of_its_own_trains_for_these_alone(tmp_path: Path) -> None:
    whole = Arm(name="whole", method="toy_all")
    part = Arm(name="part", method="toy_all", bits=(tied(2), tied(8)))
    run_toy(toy_sweep(whole, part, task=toy_task(bits=(tied(2), tied(3)))), tmp_path)
    rows = ask_store(tmp_path, "SELECT DISTINCT arm, allocation FROM member_results ORDER BY 1, 2")

    assert rows == [("part", "w2a2"), ("part", "w8a8"), ("whole", "w2a2"), ("whole", "w3a3")]


def test_arms_of_before_are_known_and_other_bits_are_another_arm() -> None:
    plain, other = SEARCHED, replace(SEARCHED, bits=(tied(8),))
    digests = [arm_digests(toy_plan(toy_sweep(one)))[0][1] for one in (plain, other)]

    assert "bits" not in repr(plain) and digests[0] != digests[1]


def test_early_stopping_and_several_objectives_go_together(tmp_path: Path) -> None:
    search = Search(
        sampler="nsga2",
        configurations_per_arm=12,
        scheduler=Asha(grace_epochs=1, reduction_factor=2),
    )
    report = run_toy(toy_sweep(BRANCHES, objectives=TWO, search=search), tmp_path)
    pruned = ask_store(
        tmp_path,
        "SELECT DISTINCT s.configuration_id FROM memberships s JOIN outcomes o "
        "ON o.trial_id = s.trial_id WHERE s.stage = 'search' AND o.status = 'pruned'",
    )

    assert report.trials_pruned > 0
    assert confirmed(tmp_path) and confirmed(tmp_path).isdisjoint({row[0] for row in pruned})


# First points, warm starts, replicates.


def test_first_points_are_tried_first(tmp_path: Path) -> None:
    arm = replace(SEARCHED, first=({"x": 0.125}, {"x": 0.5}))
    run_toy(toy_sweep(arm, confirm=None), tmp_path)

    assert configurations(tmp_path)[:2] == ['{"x": 0.125}', '{"x": 0.5}']
    assert len(configurations(tmp_path)) == 3


def warm(sweep: Sweep, *names: str, **changes: Any) -> Sweep:
    """The sweep under another name, warm from others."""
    search = replace(sweep.search, warm_start=names)
    return replace(sweep, name="warm", search=search, **changes)


def test_a_warm_start_is_told_and_counted_for_nothing(tmp_path: Path) -> None:
    old = toy_sweep(SEARCHED, search=Search(configurations_per_arm=8), confirm=None)
    run_toy(old, tmp_path)
    new = warm(toy_sweep(SEARCHED, confirm=None), "toy")
    report = run_toy(new, tmp_path)
    mine = ask_store(
        tmp_path,
        "SELECT COUNT(DISTINCT configuration_id) FROM member_results WHERE sweep = 'warm'",
    )

    assert report.notes == ("warm start of a: 8 configurations of 'toy' told to the sampler",)
    assert mine == [(3,)] and report.trials_run == report.trials_total == 6
    # Cold, the first four proposals are random and the first of both would be equal.
    assert configurations(tmp_path)[8] != configurations(tmp_path)[0]


def test_a_warm_start_takes_only_what_this_arm_could_have_run(tmp_path: Path) -> None:
    arms = (SEARCHED, replace(SEARCHED, name="other", parameters={"sharing": "bitwise"}))
    run_toy(toy_sweep(*arms, confirm=None), tmp_path)
    narrow = replace(SEARCHED, space={"x": Range(low=0.0, high=0.4)})
    taken = run_toy(warm(toy_sweep(narrow, confirm=None), "toy"), tmp_path).notes
    longer = warm(toy_sweep(SEARCHED, confirm=None), "toy", task=toy_task(epochs=5))
    run = run_toy(replace(longer, name="longer"), tmp_path)

    assert "outside the space" in taken[0] and "of another task" in taken[0]
    assert run.notes == (
        "warm start of a: 0 configurations of 'toy' told to the sampler "
        "(left out: 6 of another task, parameters or code)",
    )


def test_a_warm_start_from_nothing_names_the_nearest_sweep(tmp_path: Path) -> None:
    run_toy(toy_sweep(FIXED), tmp_path)

    with pytest.raises(UnknownName, match=r"no sweep is named 'toi' \(did you mean 'toy'"):
        run_toy(warm(toy_sweep(SEARCHED), "toi"), tmp_path)


def test_the_mean_over_the_seeds_of_the_search_decides(tmp_path: Path) -> None:
    search = Search(configurations_per_arm=5, seeds=(7, 8, 9))
    run_toy(toy_sweep(SEARCHED, search=search), tmp_path)
    per_seed = "SELECT COUNT(*) FROM memberships WHERE stage = 'search' GROUP BY configuration_id"
    means = ask_store(
        tmp_path,
        "SELECT configuration_id FROM member_results WHERE stage = 'search' "
        "GROUP BY configuration_id ORDER BY AVG(top1_percent) DESC",
    )

    assert set(ask_store(tmp_path, per_seed)) == {(6,)}
    assert confirmed(tmp_path) == {means[0][0]}


# Breakers and budgets.

FAILING = replace(acting("raise"), space=SEARCHED.space)
ONE_WIDTH = toy_task(bits=(tied(2),))


def failed(folder: Path) -> int:
    """How many trials failed."""
    return int(ask_store(folder, "SELECT COUNT(*) FROM outcomes WHERE status = 'failed'")[0][0])


def test_an_arm_that_fails_again_and_again_is_stopped_and_the_others_go_on(
    tmp_path: Path,
) -> None:
    sweep = toy_sweep(
        FAILING,
        replace(SEARCHED, name="good"),
        task=ONE_WIDTH,
        search=Search(configurations_per_arm=6),
        budget=Budget(arm_failures=3),
    )
    report = run_toy(sweep, tmp_path)
    good = ask_store(
        tmp_path,
        "SELECT COUNT(*) FROM member_results WHERE arm = 'good' AND split = 'test'",
    )

    assert failed(tmp_path) == 3 and good == [(2,)]
    assert report.is_stopped and report.notes == (
        "arm bad stopped: 3 trials in a row failed (budget.arm_failures = 3), "
        "the last one: RuntimeError: the toy was told to fail",
    )


def test_a_stopped_arm_stays_stopped_until_its_failures_are_retried(tmp_path: Path) -> None:
    sweep = toy_sweep(
        FAILING,
        task=ONE_WIDTH,
        search=Search(configurations_per_arm=6),
        budget=Budget(arm_failures=3),
    )
    run_toy(sweep, tmp_path)
    again = run_toy(sweep, tmp_path)
    retried = run_toy(sweep, tmp_path, retries_failed=True)

    assert (again.trials_run, again.is_stopped) == (0, True)
    assert retried.trials_run == 3 and failed(tmp_path) == 3


def test_divergence_is_a_result_and_stops_no_arm(tmp_path: Path) -> None:
    arm = replace(acting("diverge"), space=SEARCHED.space)
    report = run_toy(
        toy_sweep(
            arm,
            task=ONE_WIDTH,
            search=Search(configurations_per_arm=4),
            budget=Budget(arm_failures=2, max_failures=2),
        ),
        tmp_path,
    )

    assert (report.trials_run, report.is_stopped) == (4, False)


def test_failures_that_follow_from_a_failed_start_do_not_count(tmp_path: Path) -> None:
    start = replace(STARTED.start, parameters={"act": "raise"})  # type: ignore[type-var]
    sweep = toy_sweep(
        FIXED, task=replace(STARTED, start=start), budget=Budget(arm_failures=1, max_failures=3)
    )

    assert not run_toy(sweep, tmp_path).is_stopped


def test_so_many_failures_stop_the_sweep(tmp_path: Path) -> None:
    sweep = toy_sweep(
        acting("raise"), acting("raise", name="worse"), FIXED, budget=Budget(max_failures=2)
    )
    report = run_toy(sweep, tmp_path)

    assert failed(tmp_path) == 2 and report.trials_run == 2
    assert report.notes == ("stopped: 2 trials failed (budget.max_failures = 2)",)


def test_grid_points_that_failed_are_offered_again_only_when_asked(tmp_path: Path) -> None:
    arm = Arm(name="a", method="toy", space={"act": Choice(values=("well", "raise"))})
    search = Search(sampler="grid", configurations_per_arm=2)
    sweep = toy_sweep(arm, task=ONE_WIDTH, search=search, confirm=None)
    runs = [run_toy(sweep, tmp_path), run_toy(sweep, tmp_path)]
    runs.append(run_toy(sweep, tmp_path, retries_failed=True))

    assert [run.trials_run for run in runs] == [2, 0, 1]
    assert len(configurations(tmp_path)) == 2


def test_no_trial_starts_once_the_device_hours_are_spent(tmp_path: Path) -> None:
    # A toy trial says that it took 0.004 s: three of them spend 0.01 s.
    budget = Budget(device_hours=0.01 / 3600)
    sweep = toy_sweep(FIXED, confirm=Confirm(seeds=tuple(range(6))), budget=budget)
    first, again = run_toy(sweep, tmp_path), run_toy(sweep, tmp_path)
    more = run_toy(replace(sweep, budget=Budget()), tmp_path)

    assert (first.trials_run, again.trials_run, more.trials_run) == (3, 0, 9)
    assert first.is_stopped and "CPU-hours spent (budget.device_hours" in first.notes[0]
    assert not more.is_stopped


def test_a_sweep_that_ends_within_its_device_hours_is_not_stopped(tmp_path: Path) -> None:
    sweep = toy_sweep(FIXED, task=ONE_WIDTH, budget=Budget(device_hours=0.008 / 3600))
    first, again = run_toy(sweep, tmp_path), run_toy(sweep, tmp_path)

    assert (first.is_stopped, again.is_stopped) == (False, False)


# Schedulers.

HALVING = Asha(grace_epochs=1, reduction_factor=2)
MEDIAN = Median(grace_epochs=1, min_trials=2)


def two_arms(scheduler: Asha | Median, folder: Path) -> RunReport:
    """An arm that can never be good beside one that always is, at 2 and 4 bits."""
    worse = Arm(name="worse", method="toy", space={"x": Range(low=0.0, high=0.1)})
    better = Arm(name="better", method="toy", space={"x": Range(low=0.4, high=0.6)})
    search = Search(sampler="random", configurations_per_arm=8, scheduler=scheduler)
    return run_toy(
        toy_sweep(better, worse, task=toy_task(bits=(tied(2), tied(4))), search=search), folder
    )


@pytest.mark.parametrize("scheduler", [HALVING, MEDIAN], ids=["asha", "median"])
def test_the_worse_arm_is_not_pruned_by_the_better_one(
    scheduler: Asha | Median, tmp_path: Path
) -> None:
    report = two_arms(scheduler, tmp_path)
    finished = ask_store(
        tmp_path,
        "SELECT DISTINCT arm, allocation FROM results WHERE stage = 'search' "
        "AND status = 'finished' ORDER BY arm, allocation",
    )
    best = ask_store(
        tmp_path,
        "SELECT r.status FROM results r JOIN measurements m ON m.trial_id = r.trial_id "
        "AND m.epoch = 1 WHERE r.arm = 'worse' AND r.stage = 'search' "
        "AND r.allocation = 'w2a2' ORDER BY m.correct DESC LIMIT 1",
    )

    assert report.trials_pruned > 0 and best == [("finished",)]
    assert finished == [
        ("better", "w2a2"),
        ("better", "w4a4"),
        ("worse", "w2a2"),
        ("worse", "w4a4"),
    ]


@pytest.mark.parametrize("scheduler", [HALVING, MEDIAN], ids=["asha", "median"])
def test_a_pruned_trial_keeps_its_measurements_and_is_marked(
    scheduler: Asha | Median, tmp_path: Path
) -> None:
    two_arms(scheduler, tmp_path)
    rows = ask_store(
        tmp_path,
        "SELECT o.epoch, COUNT(m.id), MIN(m.split), MAX(m.split) FROM outcomes o "
        "JOIN measurements m ON m.trial_id = o.trial_id "
        "WHERE o.status = 'pruned' AND o.epoch > 0 GROUP BY o.trial_id",
    )

    assert rows and all(row[0] == row[1] < 4 for row in rows)
    assert {row[2:] for row in rows} == {("validation", "validation")}


@pytest.mark.parametrize("budget", [Budget(arm_failures=2), Budget(max_failures=2)])
@pytest.mark.parametrize("take", ["allocation", "checkpoint"])
def test_an_arm_that_is_stopped_keeps_nobody_waiting(
    budget: Budget, take: Take, tmp_path: Path
) -> None:
    giving = Arm(name="giving", method="toy_learned", parameters={"act": "raise"})
    taking = replace(FIXED, name="taking", source=Source(arm="giving", take=take))
    last = replace(FIXED, name="last", source=Source(arm="taking", take="checkpoint"))
    sweep = toy_sweep(last, taking, giving, confirm=Confirm(seeds=(0, 1, 2, 3)), budget=budget)
    report = run_toy(sweep, tmp_path)

    assert report.is_stopped and not report.is_interrupted
    assert ask_store(tmp_path, "SELECT * FROM claims") == []
