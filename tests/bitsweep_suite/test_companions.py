"""Which trials are trained as one network: equal but for seed and start, of the confirm stage."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from tests.bitsweep_suite.toys import (
    FIXED,
    SEARCHED,
    STARTED,
    acting,
    evaluation,
    toy_plan,
    toy_task,
    toy_trial,
)
from tests.bitsweep_suite.toys import toy_sweep as plain_sweep

from bitsweep.bits import tied
from bitsweep.execution.base import Job
from bitsweep.execution.conductor import Conductor
from bitsweep.execution.precedence import Turn
from bitsweep.execution.provenance import describe
from bitsweep.execution.pruning import make_pruner
from bitsweep.execution.recorder import Recorder
from bitsweep.execution.watch import Stoppable
from bitsweep.plan import Plan
from bitsweep.run import arm_digests, folders_of
from bitsweep.store.database import open_to_write
from bitsweep.store.reader import Reader
from bitsweep.store.writer import Writer
from bitsweep.sweep import Arm, Confirm, Resources, Search, Source, Sweep
from bitsweep.trial import Diverged, Failed, Finished

TWO_BITS = toy_task(bits=(tied(2),))
STARTED_AT_TWO = toy_task(bits=(tied(2),), start=STARTED.start)


def toy_sweep(*arms: Arm, together: int = 3, seeds: int = 4, **changes: Any) -> Sweep:
    """A sweep confirmed on seeds from 0 on, of which some are trained together."""
    fields: dict[str, Any] = {"task": TWO_BITS, "confirm": Confirm(seeds=tuple(range(seeds)))}
    resources = Resources(seeds_together=together)
    return plain_sweep(*arms, **{**fields, "resources": resources, **changes})


def conductor(sweep: Sweep, folder: Path, *, owner: str = "one") -> Conductor:
    """The agenda of a driver of the sweep."""
    plan = toy_plan(sweep)
    engine = open_to_write(str(folder / "store.db"))
    writer = Writer(engine)
    sweep_id, arm_ids = writer.register_sweep(sweep, arm_digests(plan))
    names = [arm.name for arm in sweep.arms]
    recorder = Recorder(
        writer,
        Reader(engine),
        sweep_id=sweep_id,
        arm_ids=dict(zip(names, arm_ids, strict=True)),
        owner=owner,
        provenance=describe(),
        clock=lambda: 1000.0,
    )
    pruner = make_pruner(None, goal="maximize", epochs=4)
    folders = folders_of(str(folder / "store.db"))
    return Conductor(plan, recorder=recorder, pruner=pruner, folders=folders)


def next_together(agenda: Conductor | Stoppable) -> list[Job]:
    """What an executor gives to the next worker."""
    job = agenda.next_job()
    return [] if job is None else [job, *agenda.companions(job)]


def finish(agenda: Conductor, jobs: Sequence[Job]) -> None:
    """End these well."""
    for job in jobs:
        agenda.ended(job.trial.id, Finished(epoch=job.trial.epochs, checkpoint="c" * 64))


def told(jobs: Sequence[Job]) -> list[tuple[str, str, int]]:
    """Method, bits and seed of each."""
    return [(one.trial.method, one.trial.bits_label, one.trial.seed) for one in jobs]


def test_seeds_of_one_configuration_go_together_and_the_last_group_is_smaller(
    tmp_path: Path,
) -> None:
    agenda = conductor(toy_sweep(FIXED), tmp_path)
    groups = [next_together(agenda) for _ in range(3)]

    assert [told(one) for one in groups] == [
        [("toy", "w2a2", 0), ("toy", "w2a2", 1), ("toy", "w2a2", 2)],
        [("toy", "w2a2", 3)],
        [],
    ]
    assert all(job.trial.is_grouped for one in groups for job in one)


def test_each_width_and_each_arm_has_groups_of_its_own(tmp_path: Path) -> None:
    task = toy_task(bits=(tied(2), tied(3)))
    arms = (FIXED, acting("well", name="other"))
    agenda = conductor(toy_sweep(*arms, task=task, seeds=2), tmp_path)
    groups = [next_together(agenda) for _ in range(5)]

    assert [len(one) for one in groups] == [2, 2, 2, 2, 0]
    keys = [{job.trial.companion_key for job in one} for one in groups[:4]]
    assert [len(one) for one in keys] == [1] * 4 and len(set.union(*keys)) == 4


def test_what_starts_from_a_trial_that_runs_is_not_in_the_group(tmp_path: Path) -> None:
    agenda = conductor(toy_sweep(FIXED, task=STARTED_AT_TWO), tmp_path)
    first, second = next_together(agenda), next_together(agenda)
    finish(agenda, second)
    third = next_together(agenda)
    agenda.ended(first[0].trial.id, Finished(epoch=2, checkpoint="c" * 64))
    agenda.ended(first[1].trial.id, Finished(epoch=2, checkpoint="d" * 64))
    agenda.ended(first[2].trial.id, Diverged(reason="nan"))
    fourth = next_together(agenda)

    assert [told(one) for one in (first, second)] == [
        [("toy_fp32", "w32a32", seed) for seed in (0, 1, 2)],
        [("toy_fp32", "w32a32", 3)],
    ]
    assert told(third) == [("toy", "w2a2", 3)]
    assert told(fourth) == [("toy", "w2a2", 0), ("toy", "w2a2", 1)]
    assert [job.start_checkpoint for job in fourth] == ["c" * 64, "d" * 64]


def test_seeds_that_start_from_the_trials_of_another_arm_go_together(tmp_path: Path) -> None:
    later = replace(FIXED, name="later", source=Source(arm="fixed", take="checkpoint"))
    agenda = conductor(toy_sweep(FIXED, later), tmp_path)
    first = next_together(agenda)
    finish(agenda, first)
    second, third = next_together(agenda), next_together(agenda)

    assert told(second) == [("toy", "w2a2", 3)]
    assert told(third) == [("toy", "w2a2", seed) for seed in (0, 1, 2)]
    assert [job.trial.start for job in third] == [job.trial.id for job in first]
    assert all(job.keeps_checkpoint for job in [*first, *third])


def test_the_trials_of_the_search_and_their_start_stay_alone(tmp_path: Path) -> None:
    search = Search(configurations_per_arm=1, seeds=(1000, 1001))
    agenda = conductor(toy_sweep(SEARCHED, task=STARTED_AT_TWO, search=search), tmp_path)
    starts = [next_together(agenda) for _ in range(2)]
    finish(agenda, [job for one in starts for job in one])
    confirming = [next_together(agenda) for _ in range(2)]
    searched = [next_together(agenda) for _ in range(2)]

    assert [told(one) for one in starts] == [
        [("toy_fp32", "w32a32", 1000)],
        [("toy_fp32", "w32a32", 1001)],
    ]
    assert [len(one) for one in confirming] == [3, 1]
    assert [told(one) for one in searched] == [
        [("toy", "w2a2", 1000)],
        [("toy", "w2a2", 1001)],
    ]
    solo = [job.trial for one in (*starts, *searched) for job in one]
    assert not any(trial.is_grouped for trial in solo)


def test_what_another_driver_has_is_left_to_it(tmp_path: Path) -> None:
    sweep = toy_sweep(FIXED, together=4)
    one, other = (conductor(sweep, tmp_path, owner=name) for name in ("one", "other"))
    taken = one.next_job()
    assert taken is not None
    theirs = next_together(other)
    ours = [taken, *one.companions(taken)]

    assert told(theirs) == [("toy", "w2a2", seed) for seed in (1, 2, 3)]
    assert ours == [taken]


def test_what_is_known_is_taken_from_the_store_and_the_rest_goes_together(tmp_path: Path) -> None:
    sweep = toy_sweep(FIXED, together=4)
    first = conductor(sweep, tmp_path)
    jobs = next_together(first)
    first.ended(jobs[1].trial.id, Finished(epoch=4))
    first.ended(jobs[2].trial.id, Failed(reason="no"))
    first.interrupt()

    assert told(next_together(conductor(sweep, tmp_path))) == [
        ("toy", "w2a2", 0),
        ("toy", "w2a2", 3),
    ]


def test_an_arm_of_another_number_of_seeds_is_the_same_trial(tmp_path: Path) -> None:
    plans = [toy_plan(toy_sweep(FIXED, together=number)) for number in (2, 8)]
    alone = toy_plan(toy_sweep(FIXED, together=1))

    assert trials_of(plans[0]) == trials_of(plans[1])
    assert {one.id for one in trials_of(alone)}.isdisjoint(one.id for one in trials_of(plans[0]))


def trials_of(plan: Plan) -> list[Any]:
    """Of the confirm stage."""
    arm = plan.sweep.arms[0]
    return [
        trial
        for seed in range(4)
        for trial in plan.trials(arm, {}, seed=seed, bits=plan.sweep.task.bits, stage="confirm")
    ]


@pytest.mark.parametrize("together", [1, 8])
def test_trials_of_the_search_are_the_same_whatever_is_trained_together(together: int) -> None:
    plan = toy_plan(toy_sweep(SEARCHED, together=together, task=STARTED_AT_TWO))
    arm = plan.sweep.arms[0]
    found = plan.trials(arm, {"x": 0.5}, seed=1000, bits=plan.sweep.task.bits, stage="search")
    start = plan.start_trial(1000)

    # sha256sum of their canonical JSON, taken before seeds could be trained together.
    assert start is not None
    assert start.id == "0222ccb31ba6c5d16347297bc8fabc1d2f47f3213fc9ed47eb274dfbbb418007"
    assert [one.id for one in found] == [
        "1c979a4bdc3b344763f5b2cb7ef3bf2db7eee54812ca8cade6795d6b685e0de0"
    ]


def test_what_trains_nothing_stays_alone() -> None:
    sweep = toy_sweep(FIXED, task=STARTED_AT_TWO)
    plan = toy_plan(sweep)
    still = replace(plan.declarations.methods["toy"], trains=False)
    methods = {**plan.declarations.methods, "toy": still}
    plan = replace(plan, declarations=replace(plan.declarations, methods=methods))
    start = plan.start_trial(0)

    assert start is not None and start.is_grouped
    assert [one.is_grouped for one in trials_of(plan)] == [False] * 4


def test_a_group_counts_as_one_of_the_trials_at_once(tmp_path: Path) -> None:
    turn = Turn(most=2)
    agenda = Stoppable(conductor(toy_sweep(FIXED, together=2), tmp_path), Event(), turn=turn)
    first = next_together(agenda)
    wants_more = turn.wants
    second = next_together(agenda)

    assert (len(first), wants_more, len(second), turn.wants) == (2, True, 2, False)


def test_a_stopped_agenda_is_done_when_every_member_has_ended(tmp_path: Path) -> None:
    stop = Event()
    agenda = Stoppable(conductor(toy_sweep(FIXED, together=2), tmp_path), stop)
    first, second = next_together(agenda)
    stop.set()
    agenda.ended(first.trial.id, Finished(epoch=4))
    before = agenda.is_done()
    agenda.evaluated(second.trial.id, evaluation())
    agenda.ended(second.trial.id, Finished(epoch=4))

    assert (before, agenda.is_done()) == (False, True)


@pytest.mark.parametrize(
    ("changes", "is_equal"),
    [
        ({"seed": 7}, True),
        ({"start": "d" * 64}, True),
        ({"start": None}, False),
        ({"epochs": 5}, False),
        ({"bits": (tied(3),)}, False),
        ({"parameters": {"x": 0.25}}, False),
        ({"allocation": "w=[2,3] a=[4,4]"}, False),
        ({"is_grouped": False}, False),
    ],
)
def test_only_seed_and_start_may_differ(changes: dict[str, Any], is_equal: bool) -> None:
    one = toy_trial(is_grouped=True, start="c" * 64)

    assert (replace(one, **changes).companion_key == one.companion_key) is is_equal
