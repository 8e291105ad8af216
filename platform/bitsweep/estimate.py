"""What a run would do, told without running or writing: counts of trials and a time."""

import os
from typing import Any

from bitsweep.bits import Bits
from bitsweep.errors import NoStore
from bitsweep.plan import Plan
from bitsweep.store.database import open_to_read
from bitsweep.store.reader import Reader
from bitsweep.sweep import Arm
from bitsweep.trial import Trial, status_of


def estimate(plan: Plan, store: str) -> dict[str, Any]:
    """Trials in all, known and to run, and the seconds they take by the store's own experience.

    seconds_estimated is None where nothing alike was measured. What a scheduler would prune is
    counted in full. No store yet means that nothing is known; raises StoreError where there is one
    that cannot be read.
    """
    try:
        reader = Reader(open_to_read(store))
    except NoStore:
        reader = None
    fixed, searched = _plain_trials(plan), _searched_counts(plan)
    taking = _taking_counts(plan)
    total = len(fixed) + sum(searched.values()) + sum(taking.values())
    known = _finished(reader, fixed)
    known += 0 if reader is None else _known_of_search(plan, reader)
    known += 0 if reader is None else _known_of_taking(plan, reader)
    return {
        "sweep": plan.sweep.name,
        "trials_total": total,
        "trials_known": known,
        "trials_to_run": total - known,
        "seconds_estimated": _seconds(
            plan, reader, fixed, searched | taking, share=1 - known / total
        ),
    }


def _plain_trials(plan: Plan) -> dict[str, Trial]:
    """Starts and arms without a space: they are known before anything ran."""
    sweep = plan.sweep
    confirm = sweep.confirm.seeds if sweep.confirm else ()
    has_search = any(arm.space for arm in sweep.arms) or not confirm
    seeds = (*confirm, *(sweep.search.seeds if has_search else ()))
    trials = {trial.id: trial for trial in plan.starts(seeds)}
    for arm in sweep.arms:
        if arm.space or arm.source:
            continue
        for seed in confirm or sweep.search.seeds:
            for trial in plan.trials(
                arm,
                {},
                seed=seed,
                bits=plan.measured_bits(arm, arm.parameters),
                stage="confirm" if confirm else "search",
            ):
                trials[trial.id] = trial
    return trials


def _searched_counts(plan: Plan) -> dict[str, int]:
    """Trials of the searched arms by name: those of the search and those that confirm its best."""
    return {
        arm.name: plan.sweep.search.configurations_per_arm * _each(plan, arm)
        + _confirming(plan, arm)
        for arm in plan.sweep.arms
        if arm.space
    }


def _taking_counts(plan: Plan) -> dict[str, int]:
    """Trials of the arms that take from others, by name: their ids are known when they can run."""
    sweep = plan.sweep
    seeds = len(sweep.confirm.seeds if sweep.confirm else sweep.search.seeds)
    return {arm.name: seeds * _widths(plan, arm) for arm in sweep.arms if arm.source}


def _widths(plan: Plan, arm: Arm) -> int:
    is_one = plan.method(arm).serves == "all" or plan.has_learned_bits(arm)
    return 1 if is_one else len(plan.measured_bits(arm, arm.parameters))


def _known_of_taking(plan: Plan, reader: Reader) -> int:
    """Finished trials of this sweep's arms that take from others."""
    if plan.sweep.name not in {sweep.name for sweep in reader.sweeps()}:
        return 0
    rows = reader.trial_rows(reader.sweep(plan.sweep.name).id)
    finished = [row.arm for row in rows if row.status == "finished"]
    counts = _taking_counts(plan)
    return sum(min(finished.count(name), count) for name, count in counts.items())


def _labels(plan: Plan, arm: Arm) -> dict[str, tuple[Bits, ...]]:
    return plan.studies(arm)


def _each(plan: Plan, arm: Arm) -> int:
    """Trials of one configuration in the search, over all studies of the arm."""
    is_all = plan.method(arm).serves == "all"
    widths = sum(1 if is_all else len(at) for at in _labels(plan, arm).values())
    return widths * len(plan.sweep.search.seeds)


def _confirming(plan: Plan, arm: Arm) -> int:
    """Trials that confirm the best of an arm."""
    confirm, labels = plan.sweep.confirm, _labels(plan, arm)
    if confirm is None:
        return 0
    if plan.method(arm).serves == "all":
        widths = len(labels)
    else:
        widths = max(len(plan.measured_bits(arm, arm.parameters)), len(labels))
    return confirm.best_per_arm * widths * len(confirm.seeds)


def _finished(reader: Reader | None, trials: dict[str, Trial]) -> int:
    if reader is None:
        return 0
    ended = reader.ended(list(trials))
    return sum(status_of(one.outcome) == "finished" for one in ended.values())


def _known_of_search(plan: Plan, reader: Reader) -> int:
    """What this sweep's searched arms need not run again; dropped siblings count as known."""
    name = plan.sweep.name
    if name not in {sweep.name for sweep in reader.sweeps()}:
        return 0
    sweep_id = reader.sweep(name).id
    arms = {row.name: row for row in reader.arms(sweep_id)}
    rows = reader.trial_rows(sweep_id)
    known = 0
    for arm in plan.sweep.arms:
        if not arm.space or arm.name not in arms:
            continue
        mine = [row for row in rows if row.arm == arm.name]
        open_ = sum(row.stage == "search" and row.status in _OPEN for row in mine)
        proposed = min(arms[arm.name].configurations, plan.sweep.search.configurations_per_arm)
        known += max(proposed * _each(plan, arm) // max(len(_labels(plan, arm)), 1) - open_, 0)
        finished = sum(row.stage == "confirm" and row.status == "finished" for row in mine)
        known += min(finished, _confirming(plan, arm))
    return known


_OPEN = ("running", "interrupted")


def _seconds(
    plan: Plan,
    reader: Reader | None,
    fixed: dict[str, Trial],
    searched: dict[str, int],
    *,
    share: float,
) -> float | None:
    if reader is None:
        return None
    task = plan.sweep.task
    kinds: dict[tuple[str, int], int] = {}
    for trial in fixed.values():
        kinds[trial.method, trial.epochs] = kinds.get((trial.method, trial.epochs), 0) + 1
    for name, count in searched.items():
        arm: Arm = plan.sweep.arm(name)
        kinds[arm.method, task.epochs] = kinds.get((arm.method, task.epochs), 0) + count
    seconds = 0.0
    for (method, epochs), count in kinds.items():
        one = reader.trial_seconds(method=method, data=task.data, epochs=epochs)
        if one is None:
            return None
        seconds += one * count
    at_once = plan.sweep.resources.max_concurrent or os.cpu_count() or 1
    return seconds * share / at_once
