"""What holds training images out starts from a network that has never seen them."""

from dataclasses import replace
from pathlib import Path

import pytest
from tests.bitsweep_suite.toys import FIXED, STARTED, ask_store, toy_plan, toy_sweep

from bitsweep.checks import Problem, check_sweep
from bitsweep.checks.start import check_start
from bitsweep.estimate import estimate
from bitsweep.plan import Plan
from bitsweep.run import RunOptions, run_sweep
from bitsweep.space import Choice
from bitsweep.sweep import Arm, Confirm, Resources, Search, Source, Start
from bitsweep.trial import Trial, parse_trial, trial_document

HOLDS = Arm(name="holds", method="toy", parameters={"x": 0.75})
SHARE = 0.25


def plan_of(*arms: Arm, task: object = STARTED, **changes: object) -> Plan:
    """A plan in which `toy` holds a quarter of the images out where its x is above a half."""
    plan = toy_plan(toy_sweep(*arms, task=task, **changes))
    toy = replace(
        plan.declarations.methods["toy"],
        held_share=lambda given: SHARE if float(given["x"]) > 0.5 else 0.0,
    )
    methods = {**plan.declarations.methods, "toy": toy}
    return replace(plan, declarations=replace(plan.declarations, methods=methods))


def trials_of(plan: Plan, arm: Arm) -> tuple[Trial, ...]:
    return plan.trials(arm, {}, seed=0, bits=plan.sweep.task.bits, stage="confirm")


def ran(plan: Plan, folder: Path) -> None:
    options = RunOptions(store=str(folder / "store.db"), mlflow=None, executor="local")
    run_sweep(plan, options, observe=lambda progress: None)


def test_an_arm_starts_from_a_training_that_leaves_out_the_same_share() -> None:
    plan = plan_of(HOLDS, FIXED)
    own, plain = plan.start_trial(0, held_share=SHARE), plan.start_trial(0)

    assert own is not None and plain is not None
    assert (own.held_share, plain.held_share) == (SHARE, 0.0)
    assert {one.start for one in trials_of(plan, HOLDS)} == {own.id}
    assert {one.start for one in trials_of(plan, FIXED)} == {plain.id}
    assert [plan.start_of(one) for one in trials_of(plan, HOLDS)] == [own, own]


def test_a_start_that_leaves_nothing_out_keeps_its_identity() -> None:
    plain, own = (plan_of(FIXED).start_trial(0, held_share=share) for share in (0.0, SHARE))

    assert plain is not None and own is not None
    assert "held_share" not in trial_document(plain)
    assert parse_trial(trial_document(own)) == own


def test_a_sweep_trains_each_start_that_it_needs_and_no_other(tmp_path: Path) -> None:
    plan = plan_of(
        HOLDS, replace(HOLDS, name="also", parameters={"x": 0.8}), confirm=Confirm(seeds=(0, 1))
    )
    assert estimate(plan, str(tmp_path / "none.db"))["trials_total"] == 2 + 2 * 2 * 2
    ran(plan, tmp_path)

    starts = ask_store(
        tmp_path,
        "SELECT t.seed, s.id = t.start_id FROM trials t JOIN trials s ON s.id = t.start_id "
        "JOIN outcomes o ON o.trial_id = t.id WHERE o.status = 'finished' ORDER BY 1",
    )
    assert starts == [(0, 1)] * 4 + [(1, 1)] * 4
    assert ask_store(tmp_path, "SELECT count(*) FROM trials WHERE start_id IS NULL") == [(2,)]


def test_a_search_over_what_is_held_out_trains_the_starts_it_comes_upon(tmp_path: Path) -> None:
    arm = Arm(name="a", method="toy", space={"x": Choice(values=(0.25, 0.75))})
    ran(
        plan_of(arm, search=Search(sampler="grid", configurations_per_arm=2)),
        tmp_path,
    )

    starts = ask_store(
        tmp_path, "SELECT seed, count(DISTINCT start_id) FROM trials GROUP BY seed ORDER BY 1"
    )
    ended = ask_store(
        tmp_path,
        "SELECT DISTINCT o.status FROM trials t JOIN outcomes o ON o.trial_id = t.id "
        "WHERE t.start_id IS NULL",
    )
    assert starts == [(0, 1), (1, 1), (1000, 2)]
    assert ended == [("finished",)]


def test_starts_that_leave_images_out_are_not_grouped() -> None:
    plan = plan_of(HOLDS, resources=Resources(seeds_together=2))
    own, plain = plan.start_trial(0, held_share=SHARE), plan.start_trial(0)

    assert own is not None and plain is not None
    assert (own.is_grouped, plain.is_grouped) == (False, True)


def test_checkpoints_of_networks_that_saw_the_images_are_refused() -> None:
    source = Source(arm="fixed", take="checkpoint")
    plan = plan_of(FIXED, replace(HOLDS, source=source))
    with pytest.raises(
        Problem, match=r"holds 0\.25 of the training images out, which the network"
    ):
        check_sweep(plan.sweep, plan.declarations)

    fine = plan_of(replace(HOLDS, name="fixed"), replace(HOLDS, source=source))
    check_sweep(fine.sweep, fine.declarations)


def test_a_start_that_holds_out_images_itself_is_refused() -> None:
    start = Start(method="toy", epochs=2, parameters={"x": 0.75})
    plan = plan_of(FIXED, task=replace(STARTED, start=start))
    with pytest.raises(Problem, match="a start trains on all it may see"):
        check_start(plan.sweep, plan.declarations)


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_share_is_a_share(share: float) -> None:
    start = plan_of(FIXED).start_trial(0)
    assert start is not None
    with pytest.raises(ValueError, match="held_share"):
        replace(start, held_share=share)
