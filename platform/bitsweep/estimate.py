"""What a run would do, told without running or writing: counts of trials and a time."""

import os
from typing import Any

from bitsweep.errors import StoreError
from bitsweep.plan import Plan, studies
from bitsweep.store.database import open_to_read
from bitsweep.store.reader import Reader
from bitsweep.sweep import Arm
from bitsweep.trial import Trial, status_of


def estimate(plan: Plan, store: str) -> dict[str, Any]:
    """Trials in all, known and to run, and the seconds they take by the store's own experience.

    seconds_estimated is None where nothing alike was measured. What a scheduler would prune is
    counted in full.
    """
    try:
        reader = Reader(open_to_read(store))
    except StoreError:
        reader = None
    fixed, searched = _plain_trials(plan), _searched_counts(plan)
    known = _finished(reader, fixed)
    found_search = 0 if reader is None else _finished_search(plan, reader)
    total = len(fixed) + sum(searched.values())
    to_run = max(total - known - found_search, 0)
    return {
        "sweep": plan.sweep.name,
        "trials_total": total,
        "trials_known": total - to_run,
        "trials_to_run": to_run,
        "seconds_estimated": _seconds(plan, reader, fixed, searched, share=to_run / max(total, 1)),
    }


def _plain_trials(plan: Plan) -> dict[str, Trial]:
    """Starts and arms without a space: they are known before anything ran."""
    sweep = plan.sweep
    confirm = sweep.confirm.seeds if sweep.confirm else ()
    has_search = any(arm.space for arm in sweep.arms) or not confirm
    starts = [
        plan.start_trial(seed) for seed in (*confirm, *(sweep.search.seeds if has_search else ()))
    ]
    trials = {trial.id: trial for trial in starts if trial is not None}
    for arm in sweep.arms:
        if arm.space:
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
    sweep = plan.sweep
    counts = {}
    for arm in sweep.arms:
        if not arm.space:
            continue
        measured = plan.measured_bits(arm, arm.parameters)
        labels = studies(sweep.objectives[0], measured)
        is_all = plan.method(arm).serves == "all"
        each = sum(1 if is_all else len(at) for at in labels.values())
        count = sweep.search.configurations_per_arm * each * len(sweep.search.seeds)
        if sweep.confirm:
            widths = len(labels) if is_all else max(each, len(measured))
            count += sweep.confirm.best_per_arm * widths * len(sweep.confirm.seeds)
        counts[arm.name] = count
    return counts


def _finished(reader: Reader | None, trials: dict[str, Trial]) -> int:
    if reader is None:
        return 0
    ended = reader.ended(list(trials))
    return sum(status_of(one.outcome) == "finished" for one in ended.values())


def _finished_search(plan: Plan, reader: Reader) -> int:
    """Ended trials of this sweep's searched arms."""
    name = plan.sweep.name
    if name not in {sweep.name for sweep in reader.sweeps()}:
        return 0
    searched = {arm.name for arm in plan.sweep.arms if arm.space}
    rows = reader.trial_rows(reader.sweep(name).id)
    ended = {"finished", "pruned", "failed", "diverged"}
    return len({row.trial_id for row in rows if row.arm in searched and row.status in ended})


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
