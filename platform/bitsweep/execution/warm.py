"""What earlier sweeps teach the sampler of an arm: results of trials that this arm could have run.

A result counts only if the arm, given the same parameters, bits and seed, plans the very same
trial: then method, data, model, epochs, start and code agree. Nothing of it is a configuration of
this sweep.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from bitsweep.bits import Bits
from bitsweep.execution.criteria import Criteria, Validation
from bitsweep.execution.recorder import Recorder
from bitsweep.execution.roster import values_at
from bitsweep.plan import Plan
from bitsweep.search.base import Told
from bitsweep.space import Value, check_point
from bitsweep.sweep import Arm
from bitsweep.trial import Trial

OUTSIDE = "outside the space"
OTHER = "of another task, parameters or code"
ELSEWHERE = "not measured at all bits of the objective"
OVER = "over a constraint"


@dataclass(frozen=True, slots=True, kw_only=True)
class Warm:
    """Results to learn from, and one line per earlier sweep that says what came of it."""

    told: tuple[Told, ...]
    notes: tuple[str, ...]


def warm_start(
    plan: Plan,
    recorder: Recorder,
    arm: Arm,
    at: Sequence[Bits],
    *,
    criteria: Criteria,
    metrics: Sequence[str],
) -> Warm:
    """What the sweeps of `search.warm_start` have for one study of an arm."""
    told: list[Told] = []
    notes = []
    for name in plan.sweep.search.warm_start:
        left_out: Counter[str] = Counter()
        taken = 0
        for trials in recorder.finished_in(name).values():
            mine = [trial for trial in trials if trial.method == arm.method]
            if not mine:
                continue
            one = _learned(plan, recorder, arm, mine, at, criteria=criteria, metrics=metrics)
            if isinstance(one, str):
                left_out[one] += 1
                continue
            taken += 1
            told.append(one)
        rest = ", ".join(f"{count} {reason}" for reason, count in left_out.items())
        notes.append(
            f"warm start of {arm.name}: {taken} configurations of {name!r} told to the sampler"
            + (f" (left out: {rest})" if rest else "")
        )
    return Warm(told=tuple(told), notes=tuple(notes))


def _learned(
    plan: Plan,
    recorder: Recorder,
    arm: Arm,
    trials: Sequence[Trial],
    at: Sequence[Bits],
    *,
    criteria: Criteria,
    metrics: Sequence[str],
) -> Told | str:
    """The result of one configuration, or why it teaches nothing."""
    point = _point(arm, trials[0])
    if point is None:
        return OUTSIDE
    by_seed: dict[int, list[Validation]] = {}
    seen: dict[int, set[Bits]] = {}
    for trial in trials:
        ours = plan.trials(arm, point, seed=trial.seed, bits=trial.bits, stage="search")
        if trial.id not in {one.id for one in ours}:
            return OTHER
        scores = recorder.scores(trial.id)
        newest = max((score.epoch for score in scores), default=0)
        by_seed.setdefault(trial.seed, []).append(values_at(trial, scores, newest, metrics))
        seen.setdefault(trial.seed, set()).update(trial.bits)
    whole = {seed: values for seed, values in by_seed.items() if set(at) <= seen[seed]}
    values = criteria.values(point, whole) if whole else ()
    if not values:
        return ELSEWHERE
    if any(value > 0 for value in criteria.excess(point).values()):
        return OVER
    return Told(parameters=point, verdict="complete", values=values)


def _point(arm: Arm, trial: Trial) -> dict[str, Value] | None:
    """The trial's place in the arm's space; None if it has none."""
    point = {name: trial.parameters[name] for name in arm.space if name in trial.parameters}
    try:
        check_point(arm.space, arm.parameters, point)
    except ValueError:
        return None
    return point
