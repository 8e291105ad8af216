"""What a run keeps whoever runs its trials; each executor a parameter."""

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import pytest
from tests.bitsweep_suite.test_worker import job_in
from tests.bitsweep_suite.toys import (
    CONDITIONAL,
    FIXED,
    SEARCHED,
    STARTED,
    acting,
    ask_store,
    counts,
    toy_plan,
    toy_sweep,
    toy_task,
    toy_trial,
)

from bitsweep.bits import tied
from bitsweep.execution.ray_config import config_of
from bitsweep.run import ExecutorName, RunOptions, RunReport, run_sweep
from bitsweep.space import Choice, Range
from bitsweep.sweep import Arm, Asha, Budget, Confirm, Resources, Search, Source, Sweep
from bitsweep.trial import Failed

ROOT = Path(__file__).parents[2]
EVALUATION_KEYS = "SELECT trial_id, epoch, COUNT(*) FROM evaluations GROUP BY trial_id, epoch"


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """Runs sweeps with one executor in one folder."""

    executor: ExecutorName
    folder: Path

    def run(self, sweep: Sweep, **changes: Any) -> RunReport:
        """Run without a mirror."""
        options = RunOptions(
            store=str(self.folder / "store.db"), mlflow=None, executor=self.executor
        )
        limited = replace(sweep, resources=replace(sweep.resources, max_concurrent=2))
        return run_sweep(
            toy_plan(limited), replace(options, **changes), observe=lambda progress: None
        )

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        """Rows of the store."""
        return ask_store(self.folder, sql)


@pytest.fixture(scope="module")
def local_cluster() -> Iterator[None]:
    """One Ray for the module, in a folder of its own."""
    paths = f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    with TemporaryDirectory(prefix="bs-ray-") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", folder)
        patch.setenv("PYTHONPATH", paths)
        import ray

        from bitsweep.execution import ray_connection

        ray_connection.connect("local")
        yield
        ray.shutdown()


@pytest.fixture(params=["local", pytest.param("ray", marks=pytest.mark.real)])
def runner(request: pytest.FixtureRequest, tmp_path: Path) -> Runner:
    """Each executor in an empty folder."""
    if request.param == "ray":
        request.getfixturevalue("local_cluster")
    return Runner(executor=request.param, folder=tmp_path)


def statuses(runner: Runner) -> dict[str, int]:
    """How many trials ended how."""
    rows = runner.ask("SELECT status, COUNT(*) FROM outcomes GROUP BY status")
    return dict(counts(rows))


def assert_recorded_once(runner: Runner) -> None:
    """No evaluation twice, no conflict, no epoch of a finished trial missing, no claim left."""
    assert all(row[2] == 1 for row in runner.ask(EVALUATION_KEYS))
    assert runner.ask("SELECT * FROM conflicts") == []
    assert runner.ask("SELECT * FROM claims") == []
    missing = """SELECT t.id FROM trials t JOIN outcomes o ON o.trial_id = t.id
        WHERE o.status = 'finished'
        AND t.epochs <> (SELECT COUNT(*) FROM evaluations e WHERE e.trial_id = t.id)"""
    assert runner.ask(missing) == []


def test_a_sweep_runs_to_its_end_and_is_recorded_once(runner: Runner) -> None:
    report = runner.run(toy_sweep(CONDITIONAL, FIXED, task=STARTED))

    assert (report.trials_failed, report.is_interrupted) == (0, False)
    assert report.trials_run == report.trials_total == sum(statuses(runner).values())
    assert set(statuses(runner)) == {"finished"}
    assert_recorded_once(runner)


def test_the_same_command_again_runs_nothing(runner: Runner) -> None:
    sweep = toy_sweep(CONDITIONAL, FIXED, task=STARTED)
    first = runner.run(sweep)
    again = runner.run(sweep)

    assert (again.trials_run, again.measurements_written) == (0, 0)
    assert again.trials_reused == again.trials_total == first.trials_total


def test_a_failing_trial_becomes_an_outcome_and_the_sweep_goes_on(runner: Runner) -> None:
    report = runner.run(toy_sweep(acting("raise"), FIXED))

    assert statuses(runner) == {"failed": 4, "finished": 4}
    assert report.trials_failed == 4
    reasons = runner.ask("SELECT DISTINCT reason FROM outcomes WHERE status = 'failed'")
    assert reasons == [("RuntimeError: the toy was told to fail",)]


def test_a_diverging_trial_becomes_an_outcome_with_its_reason(runner: Runner) -> None:
    report = runner.run(toy_sweep(acting("diverge"), FIXED))

    assert statuses(runner) == {"diverged": 4, "finished": 4}
    assert report.trials_failed == 4
    reasons = runner.ask("SELECT DISTINCT reason FROM outcomes WHERE status = 'diverged'")
    assert reasons == [("loss is nan at epoch 2",)]


def test_a_trial_out_of_time_becomes_an_outcome_with_its_reason(runner: Runner) -> None:
    sweep = toy_sweep(
        acting("hang"),
        FIXED,
        task=toy_task(bits=(tied(2),)),
        confirm=Confirm(seeds=(0,)),
        budget=Budget(trial_minutes=0.02),
    )
    runner.run(sweep)

    assert statuses(runner) == {"failed": 1, "finished": 1}
    reasons = runner.ask("SELECT reason FROM outcomes WHERE status = 'failed'")
    assert reasons == [("timeout: over 0.02 minutes",)]


def test_what_a_failed_trial_measured_is_kept(runner: Runner) -> None:
    runner.run(toy_sweep(acting("raise")))
    epochs = runner.ask("SELECT epoch, COUNT(*) FROM evaluations GROUP BY epoch")

    assert epochs == [(1, 4)]


def test_failed_trials_run_again_only_when_asked(runner: Runner) -> None:
    sweep = toy_sweep(acting("raise"), FIXED)
    runner.run(sweep)
    again = runner.run(sweep)
    retried = runner.run(sweep, retries_failed=True)

    assert (again.trials_run, again.trials_failed) == (0, 4)
    assert (retried.trials_run, retried.trials_reused) == (4, 4)
    assert_recorded_once(runner)


def test_a_failed_start_fails_what_starts_from_it(runner: Runner) -> None:
    bad_start = replace(STARTED.start, parameters={"act": "raise"})  # type: ignore[type-var]
    task = replace(STARTED, start=bad_start)
    report = runner.run(toy_sweep(SEARCHED, FIXED, task=task))
    finished = runner.ask("SELECT * FROM outcomes WHERE status = 'finished'")
    reasons = runner.ask(
        "SELECT DISTINCT reason FROM outcomes o JOIN trials t ON t.id = o.trial_id "
        "WHERE t.method = 'toy' ORDER BY reason"
    )

    assert finished == [] and report.trials_failed > 0
    assert reasons == [("a sibling failed",), ("the training it starts from failed",)]


def test_an_arm_whose_trials_all_fail_in_the_search_is_not_confirmed(runner: Runner) -> None:
    arm = replace(acting("raise"), space=SEARCHED.space)
    runner.run(toy_sweep(arm, FIXED))
    stages = runner.ask(
        "SELECT DISTINCT m.stage FROM memberships m JOIN arms a ON a.id = m.arm_id "
        "WHERE a.name = 'bad'"
    )

    assert stages == [("search",)]


def test_only_the_confirm_stage_measures_test(runner: Runner) -> None:
    runner.run(toy_sweep(SEARCHED, FIXED, task=STARTED))
    stages = runner.ask(
        "SELECT DISTINCT b.stage FROM memberships b JOIN measurements m "
        "ON m.trial_id = b.trial_id WHERE m.split = 'test'"
    )

    assert stages == [("confirm",)]


def test_test_is_measured_once_at_the_last_epoch(runner: Runner) -> None:
    runner.run(toy_sweep(FIXED))
    epochs = runner.ask("SELECT DISTINCT epoch FROM measurements WHERE split = 'test'")

    assert epochs == [(4,)]


def test_search_and_confirm_run_on_seeds_of_their_own(runner: Runner) -> None:
    runner.run(toy_sweep(search=Search(configurations_per_arm=2, seeds=(7, 8))))
    rows = runner.ask(
        "SELECT DISTINCT b.stage, t.seed FROM memberships b JOIN trials t "
        "ON t.id = b.trial_id ORDER BY 1, 2"
    )

    assert rows == [("confirm", 0), ("confirm", 1), ("search", 7), ("search", 8)]


def test_the_confirmed_configuration_is_the_best_on_validation(runner: Runner) -> None:
    runner.run(toy_sweep(SEARCHED, search=Search(configurations_per_arm=5)))
    ranked = runner.ask(
        "SELECT configuration_id FROM results JOIN memberships USING (trial_id) "
        "WHERE results.stage = 'search' GROUP BY configuration_id "
        "ORDER BY AVG(top1_percent) DESC"
    )
    confirmed = runner.ask(
        "SELECT DISTINCT configuration_id FROM memberships WHERE stage = 'confirm'"
    )

    assert confirmed == ranked[:1]


def test_a_method_for_all_widths_is_trained_once_per_seed(runner: Runner) -> None:
    runner.run(toy_sweep(Arm(name="all", method="toy_all")))

    assert runner.ask("SELECT bits, COUNT(*) FROM trials GROUP BY bits") == [("w2a2+w3a3", 2)]


SEARCHING = Search(
    configurations_per_arm=8,
    seeds=(1000, 1001),
    sampler="random",
    scheduler=Asha(grace_epochs=1, reduction_factor=2),
)


def test_asha_prunes_in_the_search_and_never_what_is_confirmed(runner: Runner) -> None:
    report = runner.run(toy_sweep(SEARCHED, FIXED, search=SEARCHING))
    stages = runner.ask(
        "SELECT DISTINCT b.stage FROM memberships b JOIN outcomes o "
        "ON o.trial_id = b.trial_id WHERE o.status = 'pruned'"
    )

    assert report.trials_pruned > 0 and stages == [("search",)]


def test_two_bit_trials_do_not_compete_with_three_bit_ones(runner: Runner) -> None:
    runner.run(toy_sweep(SEARCHED, search=SEARCHING))
    rows = runner.ask(
        "SELECT DISTINCT t.bits FROM trials t JOIN outcomes o ON o.trial_id = t.id "
        "JOIN memberships b ON b.trial_id = t.id "
        "WHERE o.status = 'finished' AND b.stage = 'search' ORDER BY 1"
    )

    assert rows == [("w2a2",), ("w3a3",)]


def test_a_pruned_configuration_drops_its_siblings(runner: Runner) -> None:
    runner.run(toy_sweep(SEARCHED, search=SEARCHING))
    dropped = runner.ask("SELECT epoch FROM outcomes WHERE reason = 'a sibling was pruned'")
    started_late = runner.ask(
        "SELECT o.trial_id FROM outcomes o JOIN attempts a ON a.trial_id = o.trial_id "
        "WHERE o.reason = 'a sibling was pruned' AND o.epoch = 0"
    )

    assert dropped and started_late == []


def test_no_configuration_with_a_pruned_trial_is_confirmed(runner: Runner) -> None:
    runner.run(toy_sweep(SEARCHED, search=SEARCHING))
    confirmed = runner.ask(
        "SELECT DISTINCT b.configuration_id FROM memberships b JOIN memberships s "
        "ON s.configuration_id = b.configuration_id AND s.stage = 'search' "
        "JOIN outcomes o ON o.trial_id = s.trial_id "
        "WHERE b.stage = 'confirm' AND o.status = 'pruned'"
    )

    assert confirmed == []


def test_pruned_trials_are_not_run_again(runner: Runner) -> None:
    sweep = toy_sweep(SEARCHED, search=SEARCHING)
    runner.run(sweep)

    assert runner.run(sweep).trials_run == 0


def test_another_sweep_reuses_the_trials_they_share(runner: Runner) -> None:
    first = runner.run(toy_sweep(FIXED, task=STARTED))
    second = runner.run(toy_sweep(FIXED, acting("well", name="more"), name="b", task=STARTED))

    assert second.trials_reused == first.trials_total
    assert second.trials_run == second.trials_total - first.trials_total
    assert_recorded_once(runner)


def test_a_sweep_that_grew_runs_only_what_is_new(runner: Runner) -> None:
    runner.run(toy_sweep(FIXED))
    grown = runner.run(toy_sweep(FIXED, confirm=Confirm(seeds=(0, 1, 2))))

    assert (grown.trials_run, grown.trials_reused) == (2, 4)


def test_a_worker_that_dies_once_loses_and_doubles_nothing(runner: Runner) -> None:
    if runner.executor == "local":
        pytest.skip("a trial of the local executor dies with its driver: see test_kills.py")
    runner.run(toy_sweep(acting("die"), FIXED))

    assert statuses(runner) == {"finished": 8}
    assert runner.ask("SELECT COUNT(*) FROM attempts") == [(8 + 4,)]
    assert_recorded_once(runner)


def test_a_start_is_trained_once_for_all_that_start_from_it(runner: Runner) -> None:
    runner.run(toy_sweep(FIXED, SEARCHED, task=STARTED))
    rows = runner.ask(
        "SELECT t.seed, COUNT(*) FROM trials t JOIN attempts a ON a.trial_id = t.id "
        "WHERE t.method = 'toy_fp32' GROUP BY t.seed ORDER BY 1"
    )

    assert rows == [(0, 1), (1, 1), (1000, 1)]


def test_a_start_whose_checkpoint_is_gone_is_trained_again(runner: Runner) -> None:
    runner.run(toy_sweep(FIXED, task=STARTED, confirm=Confirm(seeds=(0,))))
    digests = runner.ask(
        "SELECT checkpoint FROM outcomes JOIN trials ON trials.id = trial_id "
        "WHERE method = 'toy_fp32'"
    )
    checkpoint = runner.folder / "artifacts" / "checkpoints" / f"{digests[0][0]}.pt"
    checkpoint.unlink()
    grown = toy_sweep(FIXED, acting("well", name="b"), task=STARTED, confirm=Confirm(seeds=(0,)))
    report = runner.run(grown)

    assert report.trials_failed == 0
    assert checkpoint.is_file()


def test_a_start_whose_checkpoint_holds_another_network_is_trained_again(runner: Runner) -> None:
    runner.run(toy_sweep(FIXED, task=STARTED, confirm=Confirm(seeds=(0, 1))))
    digests = runner.ask(
        "SELECT checkpoint FROM outcomes JOIN trials ON trials.id = trial_id "
        "WHERE method = 'toy_fp32' ORDER BY 1"
    )
    kept = runner.folder / "artifacts" / "checkpoints"
    first, second = (kept / f"{digest}.pt" for (digest,) in digests)
    right = first.read_bytes()
    first.write_bytes(second.read_bytes())
    grown = toy_sweep(FIXED, acting("well", name="b"), task=STARTED, confirm=Confirm(seeds=(0, 1)))
    report = runner.run(grown)

    assert report.trials_failed == 0
    assert first.read_bytes() == right
    (note,) = report.notes
    assert f"{first}: its content has another digest than its name" in note


def test_the_workspaces_of_finished_trials_are_cleared(runner: Runner) -> None:
    runner.run(toy_sweep(FIXED, task=STARTED))
    workspaces = runner.folder / "workspaces"

    assert not workspaces.exists() or list(workspaces.iterdir()) == []


def test_every_trial_tells_where_it_ran(runner: Runner) -> None:
    runner.run(toy_sweep(FIXED))
    rows = runner.ask(
        "SELECT COUNT(*), MIN(ended_at IS NOT NULL), MIN(p.hostname <> '') FROM attempts a "
        "JOIN provenance p ON p.id = a.provenance_id"
    )

    assert rows == [(4, 1, 1)]


def test_arms_that_plan_the_same_trials_share_them(runner: Runner) -> None:
    report = runner.run(toy_sweep(FIXED, replace(FIXED, name="twin")))
    rows = runner.ask("SELECT arm, COUNT(*) FROM results WHERE split = 'test' GROUP BY arm")

    assert report.trials_total == 4
    assert rows == [("fixed", 4), ("twin", 4)]


def test_a_grid_smaller_than_the_budget_ends(runner: Runner) -> None:
    arm = Arm(name="a", method="toy", space={"sharing": Choice(values=("off", "bitwise"))})
    sweep = toy_sweep(arm, search=Search(sampler="grid", configurations_per_arm=9))
    runner.run(sweep)

    assert runner.ask("SELECT COUNT(*) FROM configurations") == [(2,)]
    assert runner.run(sweep).trials_run == 0


def test_a_sampler_that_repeats_itself_runs_nothing_twice(runner: Runner) -> None:
    arm = Arm(name="a", method="toy", space={"sharing": Choice(values=("off", "bitwise"))})
    sweep = toy_sweep(arm, search=Search(configurations_per_arm=6))
    first, again = runner.run(sweep), runner.run(sweep)
    searched = "SELECT COUNT(DISTINCT trial_id) FROM memberships WHERE stage = 'search'"

    assert first.trials_run == first.trials_total and again.trials_run == 0
    assert runner.ask("SELECT COUNT(*) FROM configurations") == [(6,)]
    assert runner.ask(searched) == [(4,)]
    assert_recorded_once(runner)


def test_a_constant_proposal_ends_an_arm(runner: Runner) -> None:
    arm = replace(SEARCHED, space={"x": Range(low=0.5, high=0.5000001)})

    assert runner.run(toy_sweep(arm)).trials_failed == 0


def test_what_takes_from_another_trial_runs_after_it_and_only_once(runner: Runner) -> None:
    hetero = Arm(name="hetero", method="toy_learned")
    kept = replace(FIXED, name="kept", source=Source(arm="hetero", take="allocation"))
    later = replace(FIXED, name="later", source=Source(arm="hetero", take="checkpoint"))
    sweep = toy_sweep(kept, later, hetero, task=STARTED)
    report = runner.run(sweep)
    rows = runner.ask(
        "SELECT arm, seed, allocation FROM results "
        "WHERE split = 'test' AND arm IN ('hetero', 'kept') ORDER BY 1, 2"
    )

    assert (report.trials_failed, runner.run(sweep).trials_run) == (0, 0)
    assert rows == [
        ("hetero", 0, "w3a4"),
        ("hetero", 1, "w2a4"),
        ("kept", 0, "w3a4"),
        ("kept", 1, "w2a4"),
    ]
    assert_recorded_once(runner)


def test_a_worker_that_dies_takes_nothing_from_those_that_wait_for_it(runner: Runner) -> None:
    if runner.executor == "local":
        pytest.skip("a trial of the local executor dies with its driver: see test_dependents.py")
    hetero = Arm(name="hetero", method="toy_learned", parameters={"act": "die"})
    kept = replace(FIXED, name="kept", source=Source(arm="hetero", take="allocation"))
    runner.run(toy_sweep(kept, hetero))

    assert statuses(runner) == {"finished": 4}


def test_a_trial_over_two_workers_is_one_trial(runner: Runner) -> None:
    sweep = toy_sweep(FIXED, task=toy_task(bits=(tied(2),)), confirm=Confirm(seeds=(0, 1)))
    options = RunOptions(
        store=str(runner.folder / "store.db"), mlflow=None, executor=runner.executor
    )
    shared = replace(sweep, resources=Resources(workers_per_trial=2, max_concurrent=1))
    report = run_sweep(toy_plan(shared), options, observe=lambda progress: None)

    assert (report.trials_run, report.trials_failed) == (2, 0)
    assert_recorded_once(runner)


TOGETHER = Resources(seeds_together=3)


def groups(runner: Runner) -> list[int]:
    """How many trials were begun as one network, each group once."""
    found = set()
    for path in (runner.folder / "logs").iterdir():
        for line in path.read_text(encoding="utf-8").splitlines():
            event = json.loads(line)
            if event["event"] == "grouped":
                others = [] if event["others"] == "none" else event["others"].split()
                found.add(frozenset([path.stem[:12], *others]))
    return sorted(len(one) for one in found)


def test_seeds_trained_together_are_recorded_once_each(runner: Runner) -> None:
    task = toy_task(bits=(tied(2),), start=STARTED.start)
    confirm = Confirm(seeds=(0, 1, 2, 3, 4))
    sweep = toy_sweep(SEARCHED, FIXED, task=task, confirm=confirm, resources=TOGETHER)
    report = runner.run(sweep)
    again = runner.run(sweep)
    seeds = runner.ask(
        "SELECT arm, COUNT(DISTINCT seed), COUNT(*) FROM results WHERE split = 'test' GROUP BY arm"
    )

    assert set(statuses(runner)) == {"finished"} and report.trials_run == report.trials_total
    assert again.trials_run == 0
    assert groups(runner) == [2, 2, 2, 3, 3, 3]  # the starts, and the trials of both arms
    assert seeds == [("a", 5, 5), ("fixed", 5, 5)]
    assert runner.ask("SELECT COUNT(*) FROM attempts") == [(report.trials_total,)]
    assert list((runner.folder / "workspaces").iterdir()) == []
    assert_recorded_once(runner)


def three_seeds(act: str, **changes: Any) -> Sweep:
    """One arm that misbehaves at one width, whose three seeds are trained together."""
    return toy_sweep(
        acting(act),
        task=toy_task(bits=(tied(2),)),
        confirm=Confirm(seeds=(0, 1, 2)),
        resources=TOGETHER,
        **changes,
    )


def test_one_seed_that_diverges_leaves_the_others_training(runner: Runner) -> None:
    report = runner.run(three_seeds("diverge_odd"))

    assert statuses(runner) == {"diverged": 1, "finished": 2}
    assert report.trials_failed == 1 and groups(runner) == [3]
    assert list((runner.folder / "workspaces").iterdir()) == []
    assert_recorded_once(runner)


def test_what_the_trainer_of_several_raises_ends_each_with_its_reason(runner: Runner) -> None:
    runner.run(three_seeds("raise"))
    reasons = runner.ask("SELECT reason, COUNT(*) FROM outcomes GROUP BY reason")
    again = runner.run(three_seeds("raise"), retries_failed=True)

    assert reasons == [("RuntimeError: the toy was told to fail", 3)]
    assert again.trials_run == 3
    assert_recorded_once(runner)


def test_seeds_trained_together_run_out_of_time_together(runner: Runner) -> None:
    runner.run(three_seeds("hang", budget=Budget(trial_minutes=0.02)))
    reasons = runner.ask("SELECT reason, COUNT(*) FROM outcomes GROUP BY reason")

    assert reasons == [("timeout: over 0.02 minutes", 3)]


def test_a_worker_of_several_seeds_that_dies_loses_and_doubles_nothing(runner: Runner) -> None:
    if runner.executor == "local":
        pytest.skip("a trial of the local executor dies with its driver: see test_kills.py")
    runner.run(three_seeds("die", budget=Budget(retries=3)))

    assert statuses(runner) == {"finished": 3}
    assert runner.ask("SELECT COUNT(*) FROM attempts") == [(3 + 3 * 3,)]  # each died once
    assert_recorded_once(runner)


def test_a_seed_that_has_ended_is_not_begun_again_with_its_worker(runner: Runner) -> None:
    if runner.executor == "local":
        pytest.skip("a trial of the local executor dies with its driver: see test_kills.py")
    runner.run(three_seeds("diverge_odd_then_die", budget=Budget(retries=3)))
    attempts = runner.ask(
        "SELECT seed, COUNT(*) FROM attempts JOIN trials ON trials.id = trial_id GROUP BY seed"
    )

    assert statuses(runner) == {"diverged": 1, "finished": 2}
    assert attempts == [(0, 3), (1, 1), (2, 3)]
    assert list((runner.folder / "workspaces").iterdir()) == []


def test_seeds_whose_worker_dies_too_often_are_tried_alone(runner: Runner) -> None:
    if runner.executor == "local":
        pytest.skip("a trial of the local executor dies with its driver: see test_kills.py")
    runner.run(three_seeds("die_together", budget=Budget(retries=1)))

    assert statuses(runner) == {"finished": 3}
    assert groups(runner) == [1, 1, 1, 3]
    assert_recorded_once(runner)


def test_a_seed_that_disagrees_with_the_store_fails_and_the_others_finish(runner: Runner) -> None:
    runner.run(three_seeds("well"))
    with closing(sqlite3.connect(runner.folder / "store.db")) as connection:
        connection.execute("DELETE FROM outcomes")
        connection.execute(
            "UPDATE measurements SET correct = correct + 1 WHERE trial_id = "
            "(SELECT id FROM trials WHERE seed = 1) AND epoch = 2"
        )
        connection.commit()
    report = runner.run(three_seeds("well"))
    failed = runner.ask(
        "SELECT seed FROM outcomes JOIN trials ON trials.id = trial_id WHERE status = 'failed'"
    )

    assert statuses(runner) == {"failed": 1, "finished": 2} and failed == [(1,)]
    assert report.trials_failed == 1
    assert runner.ask("SELECT COUNT(*) FROM evaluations") == [(3 * 4,)]
    assert runner.ask("SELECT * FROM claims") == []


@pytest.mark.real
def test_one_of_several_that_fails_on_a_node_is_tried_alone_on_another(
    local_cluster: None, tmp_path: Path
) -> None:
    from bitsweep.execution.ray_tune import _SecondChances

    job = job_in(tmp_path, trial=toy_trial(is_grouped=True))
    config = config_of((job,), bundle={"CPU": 1.0})
    attempts: list[str] = []
    agenda: Any = SimpleNamespace(again=attempts.append)
    source: Any = SimpleNamespace(again=[])
    second = _SecondChances(agenda, source, bundles=[{"CPU": 1.0}], strategy="PACK")
    second.ended(config, Failed(reason="no"), node="a node that is not this one")

    assert (source.again, attempts) == ([config], [job.trial.id])
