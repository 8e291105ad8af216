"""Trials whose bits are a result, and trials that take something from another arm's."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.bitsweep_suite import plugin
from tests.bitsweep_suite.toys import (
    FIXED,
    STARTED,
    acting,
    ask_store,
    run_toy,
    toy_plan,
    toy_sweep,
    toy_task,
    toy_trial,
)

from bitsweep.analysis.curves import learning_chart
from bitsweep.analysis.render import render
from bitsweep.analysis.selection import marks
from bitsweep.analysis.table import Table, sweep_table
from bitsweep.checks import Problem, check_sweep
from bitsweep.estimate import estimate
from bitsweep.space import Range
from bitsweep.store.database import open_to_read
from bitsweep.store.reader import Reader
from bitsweep.sweep import Arm, Comparison, Confirm, Constraint, Objective, Search, Source, Sweep
from bitsweep.taking import Form
from bitsweep.trial import parse_trial, trial_document

LEARNER = Arm(name="hetero", method="toy_learned")
RESULTS = "SELECT arm, seed, allocation, allocator FROM results WHERE split = 'test' ORDER BY 1, 2"
SEEDS = Confirm(seeds=(0, 1))


def taking(form: Form = "kept", *, name: str = "again", of: str = "hetero", **given: Any) -> Arm:
    """An arm that takes an allocation."""
    source = Source(arm=of, take="allocation", form=form)
    return Arm(name=name, method="toy", parameters=given, source=source)


def starting(*, of: str = "fixed", **changes: Any) -> Arm:
    """An arm that starts from another's checkpoints."""
    source = Source(arm=of, take="checkpoint")
    return replace(
        Arm(name="later", method="toy", parameters={"x": 0.5}, source=source), **changes
    )


def table_of(folder: Path) -> Table:
    reader = Reader(open_to_read(str(folder / "store.db")))
    try:
        return sweep_table(reader, "toy")
    finally:
        reader.close()


def refused(sweep: Sweep) -> str:
    """What the checks say, with its key."""
    with pytest.raises(Problem) as caught:
        check_sweep(sweep, toy_plan(sweep).declarations)
    return f"{'.'.join(map(str, caught.value.path))}: {caught.value}"


def test_a_method_that_learns_bits_trains_one_network_per_seed(tmp_path: Path) -> None:
    report = run_toy(toy_sweep(LEARNER), tmp_path)

    assert (report.trials_total, report.trials_failed) == (2, 0)
    assert ask_store(tmp_path, RESULTS) == [
        ("hetero", 0, "w3a4", "learned"),
        ("hetero", 1, "w2a4", "learned"),
    ]
    assert ask_store(tmp_path, "SELECT DISTINCT bits FROM trials") == [("learned",)]


def test_bits_of_every_epoch_are_rows(tmp_path: Path) -> None:
    run_toy(toy_sweep(LEARNER, confirm=Confirm(seeds=(0,))), tmp_path)
    rows = ask_store(
        tmp_path,
        "SELECT m.epoch, b.weight_bits FROM measurements m "
        "JOIN layer_bits b ON b.allocation_id = m.allocation_id "
        "WHERE b.layer = 1 AND m.split = 'validation' ORDER BY 1",
    )

    assert rows == [(1, 4.0), (2, 3.0), (3, 3.0), (4, 3.0)]


def test_an_allocation_is_taken_from_the_trial_of_the_same_seed(tmp_path: Path) -> None:
    report = run_toy(toy_sweep(taking(), LEARNER), tmp_path)

    assert report.trials_failed == 0
    assert ask_store(tmp_path, RESULTS) == [
        ("again", 0, "w3a4", "fixed"),
        ("again", 1, "w2a4", "fixed"),
        ("hetero", 0, "w3a4", "learned"),
        ("hetero", 1, "w2a4", "learned"),
    ]


def test_the_allocation_is_part_of_the_identity() -> None:
    one = toy_trial(allocation="w=[2,3] a=[4,4]")
    other = toy_trial(allocation="w=[3,2] a=[4,4]")

    assert len({one.id, other.id, toy_trial().id, toy_trial(learns_bits=True).id}) == 4
    assert parse_trial(trial_document(one)) == one
    assert {"allocation", "learns_bits"} & trial_document(toy_trial()).keys() == set()


def test_a_trial_neither_learns_and_is_given_nor_has_several_widths() -> None:
    with pytest.raises(ValueError, match="not both"):
        toy_trial(allocation="w2a2", learns_bits=True)
    with pytest.raises(ValueError, match="one pair of bits"):
        replace(toy_trial(), bits=toy_task().bits, learns_bits=True)


def test_a_second_run_finds_everything_known(tmp_path: Path) -> None:
    sweep = toy_sweep(LEARNER, taking(), taking("shuffled", name="mixed"))
    first = run_toy(sweep, tmp_path)
    again = run_toy(sweep, tmp_path)

    # One body layer has one order: both arms take the same allocation and share their trials.
    assert (first.trials_run, again.trials_run, again.trials_reused) == (4, 0, 4)


def test_a_chain_of_arms_runs_in_its_order(tmp_path: Path) -> None:
    third = taking("uniform", name="third", of="again", x=0.1)
    report = run_toy(toy_sweep(third, taking(), LEARNER), tmp_path)

    assert (report.trials_run, report.trials_failed) == (6, 0)


def test_a_parent_that_fails_is_told_by_every_trial_that_waits_for_it(tmp_path: Path) -> None:
    bad = replace(LEARNER, parameters={"act": "raise"})
    report = run_toy(toy_sweep(bad, taking(), taking(name="third", of="again", x=0.1)), tmp_path)
    reasons = ask_store(
        tmp_path,
        "SELECT DISTINCT a.name, o.reason FROM outcomes o "
        "JOIN memberships m ON m.trial_id = o.trial_id JOIN arms a ON a.id = m.arm_id "
        "WHERE o.status = 'failed' AND o.reason LIKE 'the trial that it takes%' ORDER BY 1",
    )

    assert report.trials_failed == 6
    assert {name for name, _ in reasons} == {"again", "third"}
    assert all(reason.endswith("failed") for _, reason in reasons)
    assert ask_store(tmp_path, "SELECT COUNT(*) FROM attempts") == [(2,)]


def test_what_failed_with_its_parent_runs_when_the_parent_does(tmp_path: Path) -> None:
    dying = replace(LEARNER, parameters={"act": "raise"})
    run_toy(toy_sweep(dying, taking()), tmp_path)
    report = run_toy(toy_sweep(LEARNER, taking()), tmp_path)

    assert (report.trials_total, report.trials_run, report.trials_failed) == (4, 4, 0)
    assert not any(note.startswith("failed") for note in table_of(tmp_path).footnotes)


def test_a_failed_parent_stays_failed_until_it_is_asked_to_run_again(tmp_path: Path) -> None:
    sweep = toy_sweep(replace(LEARNER, parameters={"act": "raise"}), taking())
    run_toy(sweep, tmp_path)
    again = run_toy(sweep, tmp_path)
    retried = run_toy(sweep, tmp_path, retries_failed=True)

    assert (again.trials_run, again.trials_failed) == (0, 4)
    assert (retried.trials_run, retried.trials_failed) == (4, 4)


def test_a_searched_parent_gives_what_its_best_configuration_learned(tmp_path: Path) -> None:
    plan = toy_plan(toy_sweep(LEARNER))
    methods = dict(plan.declarations.methods)
    assert methods["toy_learned"].bit_prices == ("x",)
    searched = replace(LEARNER, space={"act": _only("well")})
    report = run_toy(toy_sweep(taking(), searched, search=Search(sampler="grid")), tmp_path)

    assert report.trials_failed == 0
    assert len([row for row in ask_store(tmp_path, RESULTS) if row[0] == "again"]) == 2


def _only(value: str) -> Any:
    from bitsweep.space import Choice

    return Choice(values=(value,))


def test_a_parent_whose_search_found_nothing_is_told(tmp_path: Path) -> None:
    searched = replace(LEARNER, space={"act": _only("raise")})
    report = run_toy(toy_sweep(taking(), searched, search=Search(sampler="grid")), tmp_path)

    reasons = ask_store(tmp_path, "SELECT DISTINCT reason FROM outcomes ORDER BY 1")
    assert report.trials_failed > 0
    assert ("arm 'hetero' has no trial to take from",) in reasons


def test_without_a_confirm_stage_the_search_seeds_are_used(tmp_path: Path) -> None:
    report = run_toy(toy_sweep(LEARNER, taking(), confirm=None), tmp_path)

    assert (report.trials_run, report.trials_failed) == (2, 0)


def test_a_checkpoint_is_taken_at_the_same_bits(tmp_path: Path) -> None:
    report = run_toy(toy_sweep(starting(), FIXED), tmp_path)
    rows = ask_store(
        tmp_path,
        "SELECT t.bits, t.seed, p.bits, p.seed FROM trials t JOIN trials p ON p.id = t.start_id "
        "ORDER BY 1, 2",
    )

    assert (report.trials_run, report.trials_failed) == (8, 0)
    assert rows == [(bits, seed, bits, seed) for bits in ("w2a2", "w3a3") for seed in (0, 1)]


def test_a_checkpoint_takes_the_place_of_the_tasks_start(tmp_path: Path) -> None:
    run_toy(toy_sweep(starting(), FIXED, task=STARTED), tmp_path)
    rows = ask_store(
        tmp_path,
        "SELECT t.method, p.method, COUNT(*) FROM trials t JOIN trials p ON p.id = t.start_id "
        "GROUP BY 1, 2 ORDER BY 2",
    )

    assert rows == [("toy", "toy", 4), ("toy", "toy_fp32", 4)]


def test_a_checkpoint_that_is_gone_is_trained_again(tmp_path: Path) -> None:
    first = toy_sweep(FIXED, starting(), confirm=Confirm(seeds=(0,)))
    run_toy(first, tmp_path)
    for kept in (tmp_path / "artifacts" / "checkpoints").iterdir():
        kept.unlink()
    report = run_toy(replace(first, arms=(*first.arms, starting(name="new"))), tmp_path)

    assert report.trials_failed == 0


def test_a_parent_without_a_checkpoint_fails_its_children(tmp_path: Path) -> None:
    report = run_toy(toy_sweep(acting("raise", name="fixed"), starting()), tmp_path)
    reasons = ask_store(tmp_path, "SELECT reason, COUNT(*) FROM outcomes GROUP BY 1 ORDER BY 2")

    assert report.trials_failed == 8
    assert ("the training it starts from failed", 4) in reasons


def test_the_estimate_counts_what_waits(tmp_path: Path) -> None:
    sweep = toy_sweep(LEARNER, taking())
    place = str(tmp_path / "store.db")
    before = estimate(toy_plan(sweep), place)
    run_toy(sweep, tmp_path)
    after = estimate(toy_plan(sweep), place)

    assert (before["trials_total"], before["trials_to_run"]) == (4, 4)
    assert (after["trials_total"], after["trials_to_run"]) == (4, 0)


def test_learned_bits_have_a_column_that_says_what_it_averages(tmp_path: Path) -> None:
    at = Comparison(arm="hetero", against="again", at=None)
    run_toy(toy_sweep(LEARNER, taking(), FIXED, comparisons=(at,)), tmp_path)
    table = table_of(tmp_path)
    cell = table.cells["hetero", "learned"]

    assert table.allocations == ("w2a2", "w3a3", "learned")
    assert (cell.n, cell.labels, cell.mean_weight_bits) == (2, ("w2a4", "w3a4"), 2.5)
    assert table.comparisons[0].result is not None and table.comparisons[0].result.n == 2
    (note,) = [one for one in table.footnotes if one.startswith("hetero")]
    assert "n = 2 over 2 different allocations" in note and "2.50 (2.00 to 3.00)" in note
    assert not any(allocation == "learned" for _, allocation in marks(table))
    assert "learned" in render(table, "text")


def test_learning_curves_of_learned_bits_are_one_panel(tmp_path: Path) -> None:
    run_toy(toy_sweep(LEARNER), tmp_path)
    reader = Reader(open_to_read(str(tmp_path / "store.db")))
    titles = [panel.title for panel in learning_chart(reader, "toy").panels]
    reader.close()

    assert titles == ["learned"]


@pytest.mark.parametrize("seeds", [(1000,), (1001,), (1000, 1001)])
def test_a_search_weighs_accuracy_against_the_cost_of_what_was_learned(
    seeds: tuple[int, ...], tmp_path: Path
) -> None:
    from bitsweep.bits import Allocation, parse_bits
    from bitsweep.execution.lookback import look_back

    searched = replace(LEARNER, space={"x": Range(low=0.0, high=1.0)})
    sweep = replace(
        toy_sweep(
            searched,
            search=Search(sampler="random", configurations_per_arm=2, seeds=seeds),
            confirm=Confirm(seeds=(0,)),
        ),
        objectives=(
            Objective(metric="top1_percent"),
            Objective(metric="size_bits", goal="minimize"),
        ),
    )
    plan = toy_plan(sweep)
    check_sweep(sweep, plan.declarations)
    report = run_toy(sweep, tmp_path)
    reader = Reader(open_to_read(str(tmp_path / "store.db")))
    (study,) = look_back(plan, reader, reader.sweep("toy").id)
    reader.close()
    learned = {1000: "w3a4", 1001: "w2a4"}
    sizes = [
        plan.cost_at(
            searched,
            {},
            Allocation.uniform(parse_bits(learned[seed])),
            sweep.task.convention,
        )[1]
        for seed in seeds
    ]

    assert report.trials_failed == 0
    assert "learned" in render(table_of(tmp_path), "text")
    for one in study.seen:
        assert one.told is not None and one.told.verdict == "complete"
        assert one.told.values[1] == sum(sizes) / len(sizes)


MISTAKES: dict[str, tuple[Sweep, str]] = {
    "no such arm": (
        toy_sweep(LEARNER, taking(of="heteo")),
        "arms.1.from.arm: no arm is named 'heteo' (did you mean 'hetero'?)",
    ),
    "an arm of itself": (
        toy_sweep(taking(name="a", of="b"), taking(name="b", of="a")),
        "arms.0.from.arm: arm 'a' would wait for itself",
    ),
    "a parent of given bits": (
        toy_sweep(FIXED, taking(of="fixed")),
        "arms.1.from.take: arm 'fixed' (toy) learns no bits that could be taken; "
        "methods that can: toy_learned",
    ),
    "a child that learns": (
        toy_sweep(LEARNER, replace(taking(), method="toy_learned")),
        "arms.1.from.take: arm 'again' learns its own bits",
    ),
    "a child that cannot": (
        toy_sweep(LEARNER, replace(taking(), method="toy_all")),
        "arms.1.from.take: toy_all cannot run given bits per layer; methods that can: toy",
    ),
    "a searched child": (
        toy_sweep(LEARNER, replace(taking(), space={"x": Range(low=0.0, high=1.0)})),
        "arms.1.space: is searched here and takes from another arm",
    ),
    "several best": (
        toy_sweep(LEARNER, taking(), confirm=Confirm(seeds=(0,), best_per_arm=2)),
        "confirm.best_per_arm: expected 1",
    ),
    "a form of a checkpoint": (
        toy_sweep(FIXED, starting(source=Source(arm="fixed", take="checkpoint", form="shuffled"))),
        "arms.1.from.as: only an allocation has other forms",
    ),
    "one network from several": (
        toy_sweep(FIXED, starting(method="toy_all")),
        "arms.1.from.arm: arm 'fixed' trains a network per width",
    ),
    "a price that is searched": (
        toy_sweep(replace(LEARNER, space={"x": Range(low=0.0, high=1.0)})),
        "arms.0.space.x: cannot be searched: it sets what bits cost",
    ),
    "learned bits searched under a cost": (
        replace(
            toy_sweep(replace(LEARNER, space={"x": Range(low=0.0, high=1.0)})),
            constraints=(Constraint(metric="size_bits", at_most=1000.0),),
        ),
        "arms.0.space: a constraint refuses proposals untrained, and what learned bits cost",
    ),
    "learned bits compared at given ones": (
        toy_sweep(
            LEARNER, FIXED, comparisons=(Comparison(arm="hetero", against="fixed", at=None),)
        ),
        "comparisons.0.at: arm 'fixed' neither learns its bits nor takes learned ones",
    ),
    "given bits compared at learned ones": (
        toy_sweep(
            FIXED,
            LEARNER,
            comparisons=(Comparison(arm="fixed", against="hetero", at=toy_task().bits[0]),),
        ),
        "comparisons.0.at: the bits of arm 'hetero' are a result: expected at = 'learned'",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_at_its_key(name: str) -> None:
    sweep, message = MISTAKES[name]

    assert message in refused(sweep)


TEXT = (
    plugin.SWEEP.replace(
        '[[arms]]\nname = "searched"',
        '[[arms]]\nname = "hetero"\nmethod = "toy_learned"\n\n'
        '[[arms]]\nname = "kept"\nmethod = "toy"\nparameters = { x = 0.3 }\n'
        'from = { arm = "hetero", take = "allocation" }\n\n'
        '[[arms]]\nname = "later"\nmethod = "toy"\nparameters = { x = 0.4 }\n'
        'from = { arm = "fixed", take = "checkpoint" }\n\n'
        '[[arms]]\nname = "searched"',
    )
    + '\n[[comparisons]]\narm = "kept"\nagainst = "hetero"\nat = "learned"\n'
)
PLACES = [
    ("recorded", 14),
    ("ended", 8),
    ("outbox", 17),
    *(
        pytest.param(*one, marks=pytest.mark.real)
        for one in [("planned", 7), ("claimed", 8), ("ended", 6), ("finished", 22), ("ended", 10)]
    ),
]


@pytest.mark.parametrize(("place", "count"), PLACES)
def test_after_a_kill_dependent_trials_complete_as_if_nothing_was(
    place: str, count: int, tmp_path: Path
) -> None:
    plugin.install(tmp_path, TEXT)
    kill = f"{place}:{count}:{tmp_path / 'killed'}"
    killed = plugin.bitsweep(tmp_path, *plugin.RUN, BITSWEEP_TEST_KILL=kill)
    document = plugin.run_sweep(tmp_path)
    again = plugin.run_sweep(tmp_path)

    def rows(sql: str) -> list[tuple[Any, ...]]:
        return ask_store(tmp_path / "results", sql, name="bitsweep.db")

    assert killed.returncode == -9
    assert (document["trials_failed"], again["trials_run"]) == (0, 0)
    taken = "SELECT seed, allocation FROM results WHERE arm = 'kept' AND split = 'test' ORDER BY 1"
    assert rows(taken) == [(0, "w3a4"), (1, "w2a4")]
    assert rows("SELECT * FROM conflicts") == rows("SELECT * FROM claims") == []
    assert rows("SELECT DISTINCT status FROM outcomes") == [("finished",)]
    twice = "SELECT trial_id, epoch FROM evaluations GROUP BY 1, 2 HAVING COUNT(*) > 1"
    assert rows(twice) == []


def test_the_file_says_what_an_arm_takes(tmp_path: Path) -> None:
    plugin.install(tmp_path, TEXT)
    dry = plugin.bitsweep(tmp_path, "run", "toy.toml", "--dry-run", "--json")
    wrong = TEXT.replace('take = "checkpoint"', 'take = "weights"')
    (tmp_path / "wrong.toml").write_text(wrong, encoding="utf-8")
    refused_file = plugin.bitsweep(tmp_path, "validate", "wrong.toml")

    # 3 starts, 4 fixed, 2 hetero, 2 kept, 4 later; search 3 x 2 and confirm 2 x 2 of `searched`.
    assert json.loads(dry.stdout)["trials_total"] == 3 + 4 + 2 + 2 + 4 + 6 + 4
    assert refused_file.returncode == 2
    assert "arms[3].from.take: expected 'allocation' or 'checkpoint'" in (
        refused_file.stdout + refused_file.stderr
    )
